"""GPT-OSS: a decoder of experts; heads may attend to nothing (sinks), and every second layer sees a window.

Paper: OpenAI, 2025, https://arxiv.org/abs/2508.10925
Reference code: https://github.com/openai/gpt-oss
Shapes: B batch, T tokens, C hidden_size, H heads, G key/value heads, D head_dim, V vocab_size, N labels, L layers,
E experts, I intermediate_size.

Different from Transformers: positions count from the first real token; a sequence's label is made from its last real
token by the mask (without one, by pad_token_id); weights in MXFP4, as published, are read into plain ones.
"""

from dataclasses import dataclass
from typing import Any, NamedTuple, cast

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from ..arguments import check_inputs
from ..attention import Attend, bind_attention
from ..cache import Cache, as_cache
from ..config import Config
from ..generation import generate, generation_config
from ..linear import project
from ..losses import sequence_loss, token_loss, vocabulary_loss
from ..model import Model
from ..outputs import (
    MoeCausalLMOutputWithPast,
    MoeModelOutputWithPast,
    SequenceClassifierOutputWithPast,
    TokenClassifierOutput,
)
from ..rope import apply_rotary, make_rotary, read_rope
from ..sequences import Packed, blocks_of, last_token, make_position_ids, real_tokens

# ---- Configuration


# kinds of layers
FULL = "full_attention"
SLIDING = "sliding_attention"
YARN = {
    "rope_type": "yarn",
    "factor": 32.0,
    "beta_fast": 32.0,
    "beta_slow": 1.0,
    "truncate": False,
    "original_max_position_embeddings": 4096,
}


@dataclass(init=False)
class GptOssConfig(Config):
    model_type = "gpt_oss"
    attribute_map = {"rope_scaling": "rope_parameters", "num_experts": "num_local_experts"}

    num_hidden_layers: int = 36
    num_local_experts: int = 128
    vocab_size: int = 201_088
    hidden_size: int = 2880
    intermediate_size: int = 2880
    head_dim: int | None = 64  # None: hidden_size / num_attention_heads
    num_attention_heads: int = 64
    num_key_value_heads: int | None = 8  # None: as many as heads
    sliding_window: int | None = 128  # tokens that a local layer sees, the token itself included
    rope_theta: float = 150_000.0
    tie_word_embeddings: bool = False
    hidden_act: str = "silu"  # not looked at
    initializer_range: float = 0.02
    max_position_embeddings: int = 131_072
    rms_norm_eps: float = 1e-5
    rope_parameters: dict[str, Any] | None = None  # see rope.py; None: YARN
    attention_dropout: float = 0.0
    num_experts_per_tok: int = 4
    swiglu_alpha: float = 1.702
    swiglu_limit: float = 7.0
    router_aux_loss_coef: float = 0.001  # weight of aux_loss in the loss
    output_router_logits: bool = False
    use_cache: bool = True
    layer_types: list[str] | None = None  # None: local and global in turn
    pad_token_id: int | None = None
    bos_token_id: int | None = None
    eos_token_id: int | list[int] | None = None
    attention_bias: bool = True
    classifier_dropout: float | None = None  # of token classification; None: 0.1

    def validate(self) -> None:
        super().validate()
        C, H, L, E = self.hidden_size, self.num_attention_heads, self.num_hidden_layers, self.num_local_experts
        if self.head_dim is None and (H < 1 or C % H):
            raise ValueError(f"hidden_size ({C}) must be a multiple of num_attention_heads ({H}).")
        self.fill("head_dim", C // max(H, 1))
        self.fill("num_key_value_heads", H)
        if not self.num_key_value_heads or H % self.num_key_value_heads:
            raise ValueError(
                f"num_attention_heads ({H}) must be a multiple of num_key_value_heads ({self.num_key_value_heads})."
            )
        if not self.head_dim or self.head_dim % 2:
            raise ValueError(f"head_dim must be even, to be turned in pairs, got {self.head_dim}.")
        self.fill("layer_types", [FULL if i % 2 else SLIDING for i in range(L)])
        kinds = self.layer_types or []
        if len(kinds) != L or set(kinds) - {FULL, SLIDING}:
            raise ValueError(f"layer_types must be {FULL!r} or {SLIDING!r} for {L} layers, got {kinds!r:.200}.")
        if SLIDING in kinds and (self.sliding_window is None or self.sliding_window < 1):
            raise ValueError(f"sliding_window must be at least 1 for {SLIDING!r}, got {self.sliding_window}.")
        if not self.swiglu_limit > 0:
            raise ValueError(f"swiglu_limit must be positive, got {self.swiglu_limit!r}.")
        if not 1 <= self.num_experts_per_tok <= E:
            raise ValueError(f"num_experts_per_tok must be from 1 to {E}, all experts, got {self.num_experts_per_tok}.")
        rope, longest = self.rope_parameters or YARN, self.max_position_embeddings
        self.rope_parameters = read_rope(rope, longest, rope_theta=self.rope_theta)


# ---- Checkpoints in MXFP4

FP4 = (0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0)  # what 4 bits mean; with the highest set, less than 0


def read_mxfp4(blocks: Tensor, scales: Tensor) -> Tensor:
    """[E, K, N] in bfloat16 of blocks [E, N, K / 32, 16] and scales [E, N, K / 32], bytes. Raises ValueError.

    A byte is two numbers, the lower half the first; 32 of them share a scale, a power of two that is stored plus 127.
    Format: OCP Microscaling 1.0, https://www.opencompute.org/documents/ocp-microscaling-formats-mx-v1-0-spec-final-pdf
    """
    if blocks.dim() != 4 or blocks.shape[-1] != 16 or scales.shape != blocks.shape[:-1]:
        shapes = f"{list(blocks.shape)} and {list(scales.shape)}"
        raise ValueError(f"MXFP4 has blocks [E, N, K / 32, 16] and scales [E, N, K / 32], got {shapes}.")
    if {blocks.dtype, scales.dtype} != {torch.uint8}:
        raise ValueError(f"MXFP4 has blocks and scales of uint8, got {blocks.dtype} and {scales.dtype}.")
    numbers = torch.tensor([*FP4, *(-x for x in FP4)], dtype=torch.bfloat16, device=blocks.device)
    pairs = torch.stack((numbers.repeat(16), numbers.repeat_interleave(16)), -1)  # [256, 2], for each byte
    (E, N, K, _), weight = blocks.shape, blocks.new_empty(0, dtype=torch.bfloat16)
    weight = weight.new_empty(E, K * 32, N)
    for i in range(0 if blocks.is_meta else E):  # one by one, so that little memory is taken beside the weights
        values = pairs[blocks[i].int()].flatten(2)  # [N, K / 32, 32]
        weight[i] = torch.ldexp(values, scales[i, ..., None].int() - 127).view(N, -1).T
    return weight


# ---- Layers


class Pass(NamedTuple):
    """What one forward pass makes above the layers."""

    attend: dict[str, Attend]  # for each kind of layer
    windows: dict[str, int | None]
    rotary: tuple[Tensor, Tensor]  # cosines and sines, [B or 1, 1, T, D]
    cache: Cache | None
    router_logits: list[Tensor] | None  # receives each layer's, where they are asked for


class GptOssExperts(nn.Module):
    """All experts of a layer, stacked as published: columns of the gate and of what it lets through take turns."""

    def __init__(self, config: GptOssConfig):
        super().__init__()
        E, C, inner = config.num_local_experts, config.hidden_size, config.intermediate_size
        self.gate_up_proj = nn.Parameter(torch.empty(E, C, 2 * inner))
        self.gate_up_proj_bias = nn.Parameter(torch.empty(E, 2 * inner))
        self.down_proj = nn.Parameter(torch.empty(E, inner, C))
        self.down_proj_bias = nn.Parameter(torch.empty(E, C))
        self.alpha, self.limit = config.swiglu_alpha, config.swiglu_limit

    def compute(self, x: Tensor, i: int | Tensor) -> Tensor:
        """x [n, C] of one expert; or x [N, 1, 1, C] of those that each token chose, i [N, k], to [N, k, 1, C]."""
        biases = (self.gate_up_proj_bias[i], self.down_proj_bias[i])
        first, second = biases if isinstance(i, int) else (bias[..., None, :] for bias in biases)
        x = x @ self.gate_up_proj[i] + first
        gate, x = x[..., ::2].clamp(max=self.limit), x[..., 1::2].clamp(-self.limit, self.limit)
        return (gate * torch.sigmoid(self.alpha * gate) * (x + 1)) @ self.down_proj[i] + second

    def forward(self, x: Tensor, chosen: Tensor, weights: Tensor) -> Tensor:
        """[N, C]: what the experts that each token chose, [N, k], make of x [N, C], times their weights and summed up.

        An expert computes its own tokens only, and one that nobody chose is not read. Compiled code must know its
        shapes beforehand: there, experts are gathered for few tokens; for many, every expert computes all of them.
        """
        E, out = len(self.gate_up_proj), torch.zeros_like(x)
        if torch.compiler.is_compiling() and chosen.numel() <= E:
            return (self.compute(x[:, None, None], chosen)[:, :, 0] * weights[..., None]).sum(1).to(x.dtype)
        if torch.compiler.is_compiling():
            shares = weights.new_zeros(len(x), E).scatter(1, chosen, weights)
            return sum(((self.compute(x, i) * shares[:, i, None]).to(x.dtype) for i in range(E)), out)
        order = chosen.flatten().argsort(stable=True)  # all places of the first expert, then those of the second ...
        tokens, shares = order // chosen.shape[1], weights.flatten()[order, None]
        start = 0
        for i, n in enumerate(chosen.flatten().bincount(minlength=E).tolist()):
            if n:
                rows, share = tokens[start : start + n], shares[start : start + n]
                out = out.index_add(0, rows, (self.compute(x[rows], i) * share).to(x.dtype))
                start += n
        return out


class GptOssMLP(nn.Module):
    def __init__(self, config: GptOssConfig):
        super().__init__()
        self.router = nn.Linear(config.hidden_size, config.num_local_experts)
        self.experts = GptOssExperts(config)
        self.chosen = config.num_experts_per_tok

    def forward(self, x: Tensor, this: Pass) -> Tensor:
        B, T, C = x.shape
        x = x.reshape(-1, C)
        scores = project(x, self.router)[0]  # [B T, E]
        if this.router_logits is not None:
            this.router_logits.append(scores)
        weights, chosen = scores.topk(self.chosen)
        return self.experts(x, chosen, weights.softmax(-1)).view(B, T, C)


class GptOssAttention(nn.Module):
    def __init__(self, config: GptOssConfig, layer: int):
        super().__init__()
        C, H, G, D = config.hidden_size, config.num_attention_heads, config.num_key_value_heads, config.head_dim
        assert G is not None and D is not None and config.layer_types is not None  # validate() has filled them
        self.q_proj = nn.Linear(C, H * D, bias=config.attention_bias)
        self.k_proj = nn.Linear(C, G * D, bias=config.attention_bias)
        self.v_proj = nn.Linear(C, G * D, bias=config.attention_bias)
        self.o_proj = nn.Linear(H * D, C, bias=config.attention_bias)
        self.sinks = nn.Parameter(torch.empty(H))
        self.head_dim, self.layer, self.kind = D, layer, config.layer_types[layer]
        self.dropout = config.attention_dropout

    def forward(self, x: Tensor, this: Pass) -> Tensor:
        B, T, _ = x.shape
        q, k, v = (
            y.view(B, T, -1, self.head_dim).transpose(1, 2) for y in project(x, self.q_proj, self.k_proj, self.v_proj)
        )  # [B, H or G, T, D]
        q, k = apply_rotary(q, k, *this.rotary)
        if this.cache is not None:
            k, v = this.cache.append(self.layer, k, v, window=this.windows[self.kind])
        dropout = self.dropout if self.training else 0.0
        x = this.attend[self.kind](q, k, v, scale=self.head_dim**-0.5, dropout=dropout, sinks=self.sinks)
        return project(x.transpose(1, 2).reshape(B, T, -1), self.o_proj)[0]


class GptOssDecoderLayer(nn.Module):
    def __init__(self, config: GptOssConfig, layer: int):
        super().__init__()
        self.self_attn = GptOssAttention(config, layer)
        self.mlp = GptOssMLP(config)
        self.input_layernorm = nn.RMSNorm(config.hidden_size, config.rms_norm_eps)
        self.post_attention_layernorm = nn.RMSNorm(config.hidden_size, config.rms_norm_eps)

    def forward(self, x: Tensor, this: Pass) -> Tensor:
        x = x + self.self_attn(self.input_layernorm(x), this)
        return x + self.mlp(self.post_attention_layernorm(x), this)


# ---- Models


class GptOssPreTrainedModel(Model):
    config_class, base_model_prefix, accepts_packed = GptOssConfig, "model", True
    config: GptOssConfig
    prepared = r"layers\.\d+\.self_attn\.|^lm_head$"  # not the routers: rounded, they choose others
    together = r"\.(q|k|v)_proj$"
    quantized = {"mxfp4": (("_blocks", "_scales"), read_mxfp4)}
    may_be_new = (r"^lm_head\.", r"^score\.")

    def init_weights(self, module: nn.Module) -> None:
        if isinstance(module, (nn.Linear, nn.Embedding)):
            module.weight.normal_(0.0, self.config.initializer_range)
        if isinstance(module, nn.Linear) and module.bias is not None:
            module.bias.zero_()
        if isinstance(module, nn.Embedding) and module.padding_idx is not None:
            module.weight[module.padding_idx].zero_()
        if isinstance(module, nn.RMSNorm):
            module.weight.fill_(1.0)
        if isinstance(module, GptOssAttention):
            module.sinks.normal_(0.0, self.config.initializer_range)
        if isinstance(module, GptOssExperts):
            for name, parameter in module.named_parameters():
                parameter.zero_() if name.endswith("bias") else parameter.normal_(0.0, self.config.initializer_range)


class GptOssModel(GptOssPreTrainedModel):
    def __init__(self, config: GptOssConfig):
        super().__init__(config)
        self.embed_tokens = nn.Embedding(config.vocab_size, config.hidden_size, padding_idx=config.pad_token_id)
        self.layers = nn.ModuleList(GptOssDecoderLayer(config, i) for i in range(config.num_hidden_layers))
        self.norm = nn.RMSNorm(config.hidden_size, config.rms_norm_eps)
        self.post_init()

    def get_input_embeddings(self) -> nn.Module:
        return self.embed_tokens

    def set_input_embeddings(self, value: nn.Module) -> None:
        self.embed_tokens = value  # type: ignore[assignment]

    def forward(
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | Packed | None = None,
        position_ids: Tensor | None = None,
        past_key_values: Any = None,
        inputs_embeds: Tensor | None = None,
        use_cache: bool | None = None,
        *,
        output_attentions: bool | None = None,
        output_hidden_states: bool | None = None,
        output_router_logits: bool | None = None,
    ) -> MoeModelOutputWithPast:
        """input_ids [B, T], or inputs_embeds [B, T, C] in their place.

        attention_mask: 1 = real token, over the tokens in the cache and these; attention.dense_mask has other
        shapes; Packed for one row of concatenated sequences, which position_ids that start anew tell apart, too.
        past_key_values, use_cache: see cache.py. output_*: None is what the config says.
        """
        B, T, device = check_inputs(input_ids, inputs_embeds)
        config, kernel = self.config, self.config.attn_implementation
        assert config.rope_parameters is not None and config.head_dim is not None and config.layer_types is not None
        record = config.output_attentions if output_attentions is None else output_attentions
        attentions = [] if record else None
        routed = config.output_router_logits if output_router_logits is None else output_router_logits
        router_logits = [] if routed else None
        again = self.gradient_checkpointing and self.training  # which runs layers twice
        wanted = config.use_cache if use_cache is None else use_cache
        cache = None if again else as_cache(past_key_values, wanted and not isinstance(attention_mask, Packed))
        past, longest = (0, T) if cache is None else (cache.get_seq_length(), cache.key_length(T))
        if position_ids is None:
            position_ids = make_position_ids(attention_mask, B, T, past, device)
        else:
            longest = None  # not known without a look at them
            if attention_mask is None and isinstance(past, int) and past == 0:
                attention_mask = blocks_of(position_ids)
        windows, attend = {FULL: None, SLIDING: config.sliding_window}, {}
        for kind in sorted(set(config.layer_types)):
            attend[kind] = bind_attention(
                kernel,
                Q=T,
                K=T if cache is None else cache.key_length(T, windows[kind]),
                past=past,
                causal=True,
                window=windows[kind],
                mask=attention_mask,
                device=device,
                record=attentions,
            )

        x = self.embed_tokens(input_ids) if inputs_embeds is None else inputs_embeds
        rotary = make_rotary(config.rope_parameters, config.head_dim, position_ids, attention_mask, x.dtype, longest)
        this = Pass(attend, windows, rotary, cache, router_logits)
        hidden_states = (x,)
        for layer in self.layers:
            x = cast(Tensor, checkpoint(layer, x, this, use_reentrant=False)) if again else layer(x, this)
            hidden_states += (x,)
        x = self.norm(x)
        states = config.output_hidden_states if output_hidden_states is None else output_hidden_states
        return MoeModelOutputWithPast(
            last_hidden_state=x,
            past_key_values=cache,
            hidden_states=(*hidden_states[:-1], x) if states else None,
            attentions=tuple(attentions) if attentions is not None else None,
            router_logits=tuple(router_logits) if router_logits is not None else None,
        )


def balance_loss(router_logits: tuple[Tensor, ...], k: int, mask: Tensor | Packed | None) -> Tensor:
    """How unevenly the experts are used: k where all are alike, E at worst; over real tokens and all layers.

    For each expert, the tokens that chose it times its mean probability. Paper: Fedus et al., 2021, equations 4 to 6,
    https://arxiv.org/abs/2101.03961
    """
    probabilities = torch.stack(router_logits).float().softmax(-1)  # [L, B T, E]
    used = torch.zeros_like(probabilities).scatter(-1, probabilities.topk(k).indices, 1.0)
    real = probabilities.new_ones(probabilities.shape[1])
    if isinstance(mask, Tensor) and mask.dim() == 2:
        real = mask[:, -(len(real) // len(mask)) :].flatten().to(real)
    used, probabilities = (torch.einsum("lne,n->e", x, real) / (len(x) * real.sum()) for x in (used, probabilities))
    return probabilities.shape[-1] * (used * probabilities).sum()


class GptOssForCausalLM(GptOssPreTrainedModel):
    tied = {"lm_head.weight": "model.embed_tokens.weight"}
    generate, generation_config = generate, generation_config

    def __init__(self, config: GptOssConfig):
        super().__init__(config)
        self.model = GptOssModel(config)
        self.lm_head = nn.Linear(config.hidden_size, config.vocab_size, bias=False)
        self.post_init()

    def get_output_embeddings(self) -> nn.Module:
        return self.lm_head

    def set_output_embeddings(self, new_embeddings: nn.Module) -> None:
        self.lm_head = cast(nn.Linear, new_embeddings)

    def to_logits(self, x: Tensor) -> Tensor:
        """x [..., C] -> [..., V]."""
        return project(x, self.lm_head)[0]

    def forward(
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | Packed | None = None,
        position_ids: Tensor | None = None,
        past_key_values: Any = None,
        inputs_embeds: Tensor | None = None,
        labels: Tensor | None = None,
        use_cache: bool | None = None,
        output_router_logits: bool | None = None,
        logits_to_keep: int | Tensor = 0,
        *,
        output_attentions: bool | None = None,
        output_hidden_states: bool | None = None,
    ) -> MoeCausalLMOutputWithPast:
        """labels [B, T]: the input_ids themselves, -100 where none; logits_to_keep: logits of the last n tokens.

        output_router_logits: give router_logits and aux_loss, of which the loss then holds router_aux_loss_coef.
        """
        decoded = self.model(
            input_ids,
            attention_mask,
            position_ids,
            past_key_values,
            inputs_embeds,
            False if labels is not None and use_cache is None else use_cache,
            output_attentions=output_attentions,
            output_hidden_states=output_hidden_states,
            output_router_logits=output_router_logits,
        )
        keep = slice(-logits_to_keep, None) if isinstance(logits_to_keep, int) else logits_to_keep
        x, parts = decoded.last_hidden_state[:, keep], self.loss_parts if self.training else 0
        loss, count, logits = vocabulary_loss(self.to_logits, x, labels, shifted=True, parts=parts)
        aux_loss = None
        if decoded.router_logits:
            aux_loss = balance_loss(decoded.router_logits, self.config.num_experts_per_tok, attention_mask)
        if loss is not None and aux_loss is not None:
            loss = loss + self.config.router_aux_loss_coef * aux_loss
        return MoeCausalLMOutputWithPast(
            loss,
            aux_loss,
            logits,
            decoded.past_key_values,
            decoded.hidden_states,
            decoded.attentions,
            decoded.router_logits,
            loss_count=count,
        )


class GptOssForSequenceClassification(GptOssPreTrainedModel):
    def __init__(self, config: GptOssConfig):
        super().__init__(config)
        self.model = GptOssModel(config)
        self.score = nn.Linear(config.hidden_size, config.num_labels, bias=False)
        self.post_init()

    def forward(
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | Packed | None = None,
        position_ids: Tensor | None = None,
        past_key_values: Any = None,
        inputs_embeds: Tensor | None = None,
        labels: Tensor | None = None,
        use_cache: bool | None = None,
        *,
        output_attentions: bool | None = None,
        output_hidden_states: bool | None = None,
    ) -> SequenceClassifierOutputWithPast:
        """labels: [B] integers, or floats [B] or [B, N]; see losses.sequence_loss. logits [B, N]."""
        decoded = self.model(
            input_ids,
            attention_mask,
            position_ids,
            past_key_values,
            inputs_embeds,
            use_cache,
            output_attentions=output_attentions,
            output_hidden_states=output_hidden_states,
        )
        mask = real_tokens(input_ids, attention_mask, self.config.pad_token_id)
        logits = self.score(last_token(decoded.last_hidden_state, mask))
        loss = count = None
        if labels is not None:
            loss, count = sequence_loss(logits, labels, self.config.problem_type)
        return SequenceClassifierOutputWithPast(
            loss, logits, decoded.past_key_values, decoded.hidden_states, decoded.attentions, loss_count=count
        )


class GptOssForTokenClassification(GptOssPreTrainedModel):
    def __init__(self, config: GptOssConfig):
        super().__init__(config)
        self.model = GptOssModel(config)
        self.dropout = nn.Dropout(0.1 if config.classifier_dropout is None else config.classifier_dropout)
        self.score = nn.Linear(config.hidden_size, config.num_labels)
        self.post_init()

    def forward(
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | Packed | None = None,
        position_ids: Tensor | None = None,
        past_key_values: Any = None,
        inputs_embeds: Tensor | None = None,
        labels: Tensor | None = None,
        use_cache: bool | None = None,
        *,
        output_attentions: bool | None = None,
        output_hidden_states: bool | None = None,
    ) -> TokenClassifierOutput:
        """labels [B, T]: -100 where none is asked for. logits [B, T, N]."""
        decoded = self.model(
            input_ids,
            attention_mask,
            position_ids,
            past_key_values,
            inputs_embeds,
            use_cache,
            output_attentions=output_attentions,
            output_hidden_states=output_hidden_states,
        )
        logits = self.score(self.dropout(decoded.last_hidden_state))
        loss = count = None
        if labels is not None:
            loss, count = token_loss(logits, labels)
        return TokenClassifierOutput(loss, logits, decoded.hidden_states, decoded.attentions, loss_count=count)


HEADS = {
    "base": GptOssModel,
    "causal-lm": GptOssForCausalLM,
    "sequence-classification": GptOssForSequenceClassification,
    "token-classification": GptOssForTokenClassification,
}
