"""Mixtral: a decoder whose layers have several MLPs, the experts, two of which a router chooses for each token.

Paper: Jiang et al., 2024, https://arxiv.org/abs/2401.04088
Reference code: https://github.com/mistralai/mistral-inference
Shapes: B batch, T tokens, C hidden_size, H heads, G key/value heads, D head_dim, V vocab_size, N labels, L layers,
E experts.

Different from Transformers: positions count from the first real token; a sequence's label is made from its last real
token by the mask (without one, by pad_token_id); experts stay apart in memory, so that the file's pages are mapped and
those of experts that are not chosen are not read.
"""

from dataclasses import dataclass
from typing import Any, NamedTuple, cast

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from ..activations import activation
from ..arguments import check_inputs
from ..attention import Attend, bind_attention
from ..cache import Cache, as_cache
from ..config import Config
from ..generation import generate, generation_config
from ..linear import project
from ..losses import sequence_loss, span_loss, token_loss, vocabulary_loss
from ..model import Model
from ..outputs import (
    MoeCausalLMOutputWithPast,
    MoeModelOutputWithPast,
    QuestionAnsweringModelOutput,
    SequenceClassifierOutputWithPast,
    TokenClassifierOutput,
)
from ..rope import apply_rotary, make_rotary, read_rope
from ..sequences import Packed, blocks_of, last_token, make_position_ids, real_tokens

# ---- Configuration


@dataclass(init=False)
class MixtralConfig(Config):
    model_type = "mixtral"
    attribute_map = {"rope_scaling": "rope_parameters", "num_experts": "num_local_experts"}

    vocab_size: int = 32000
    hidden_size: int = 4096
    intermediate_size: int = 14336
    num_hidden_layers: int = 32
    num_attention_heads: int = 32
    num_key_value_heads: int | None = 8  # None: as many as heads
    head_dim: int | None = None  # None: hidden_size / num_attention_heads
    hidden_act: str = "silu"
    max_position_embeddings: int = 131_072
    initializer_range: float = 0.02
    rms_norm_eps: float = 1e-5
    use_cache: bool = True
    pad_token_id: int | None = None
    bos_token_id: int | None = 1
    eos_token_id: int | list[int] | None = 2
    tie_word_embeddings: bool = False
    rope_theta: float = 1_000_000.0
    rope_parameters: dict[str, Any] | None = None  # see rope.py
    sliding_window: int | None = None  # tokens that a token sees, itself included; None: all before it
    attention_dropout: float = 0.0
    num_experts_per_tok: int = 2
    num_local_experts: int = 8
    output_router_logits: bool = False
    router_aux_loss_coef: float = 0.001  # weight of aux_loss in the loss
    router_jitter_noise: float = 0.0  # in training, what experts read is multiplied with 1 - this to 1 + this
    classifier_dropout: float | None = None  # of token classification; None: 0.1

    def validate(self) -> None:
        super().validate()
        C, H = self.hidden_size, self.num_attention_heads
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
        if self.sliding_window is not None and self.sliding_window < 1:
            raise ValueError(f"sliding_window must be at least 1, or None for no window, got {self.sliding_window}.")
        E = self.num_local_experts
        if not 1 <= self.num_experts_per_tok <= E:
            raise ValueError(f"num_experts_per_tok must be from 1 to {E}, all experts, got {self.num_experts_per_tok}.")
        self.rope_parameters = read_rope(self.rope_parameters, self.max_position_embeddings, rope_theta=self.rope_theta)


# ---- Layers


class Pass(NamedTuple):
    """What one forward pass makes above the layers."""

    attend: Attend
    rotary: tuple[Tensor, Tensor]  # cosines and sines, [B or 1, 1, T, D]
    cache: Cache | None
    window: int | None  # tokens that a token sees
    router_logits: list[Tensor] | None  # receives each layer's, where they are asked for


class MixtralExpert(nn.Module):
    def __init__(self, config: MixtralConfig):
        super().__init__()
        C, inner = config.hidden_size, config.intermediate_size
        self.w1 = nn.Linear(C, inner, bias=False)
        self.w2 = nn.Linear(inner, C, bias=False)
        self.w3 = nn.Linear(C, inner, bias=False)
        self.act = activation(config.hidden_act)

    def forward(self, x: Tensor) -> Tensor:
        gate, x = project(x, self.w1, self.w3)
        return project(self.act(gate) * x, self.w2)[0]


class MixtralSparseMoeBlock(nn.Module):
    def __init__(self, config: MixtralConfig):
        super().__init__()
        self.gate = nn.Linear(config.hidden_size, config.num_local_experts, bias=False)
        self.experts = nn.ModuleList(MixtralExpert(config) for _ in range(config.num_local_experts))
        self.chosen, self.noise = config.num_experts_per_tok, config.router_jitter_noise

    def forward(self, x: Tensor, this: Pass) -> Tensor:
        B, T, C = x.shape
        x = x.reshape(-1, C)
        if self.training and self.noise:
            x = x * torch.empty_like(x).uniform_(1 - self.noise, 1 + self.noise)
        scores = project(x, self.gate)[0]  # [B T, E]
        if this.router_logits is not None:
            this.router_logits.append(scores)
        weights, chosen = scores.softmax(-1, dtype=torch.float32).topk(self.chosen)
        weights = weights / weights.sum(-1, keepdim=True)
        return mix(x, chosen, weights, self.experts).view(B, T, C)


def mix(x: Tensor, chosen: Tensor, weights: Tensor, experts: nn.ModuleList) -> Tensor:
    """[N, C]: what the experts that each token chose, [N, k], make of x [N, C], times their weights and summed up.

    An expert computes its own tokens only, and one that nobody chose is not read. Compiled code must know its shapes
    beforehand: there, every expert computes all tokens.
    """
    if torch.compiler.is_compiling():
        shares = weights.new_zeros(len(x), len(experts)).scatter(1, chosen, weights)
        return sum(((expert(x) * shares[:, i, None]).to(x.dtype) for i, expert in enumerate(experts)), x * 0)
    order = chosen.flatten().argsort(stable=True)  # all places of the first expert, then those of the second ...
    tokens, shares = order // chosen.shape[1], weights.flatten()[order, None]
    counts = chosen.flatten().bincount(minlength=len(experts)).tolist()
    out, start = torch.zeros_like(x), 0
    for expert, n in zip(experts, counts, strict=True):
        if n:
            rows, share = tokens[start : start + n], shares[start : start + n]
            out = out.index_add(0, rows, (expert(x[rows]) * share).to(x.dtype))
            start += n
    return out


class MixtralAttention(nn.Module):
    def __init__(self, config: MixtralConfig, layer: int):
        super().__init__()
        C, H, G, D = config.hidden_size, config.num_attention_heads, config.num_key_value_heads, config.head_dim
        assert G is not None and D is not None  # validate() has filled them
        self.q_proj = nn.Linear(C, H * D, bias=False)
        self.k_proj = nn.Linear(C, G * D, bias=False)
        self.v_proj = nn.Linear(C, G * D, bias=False)
        self.o_proj = nn.Linear(H * D, C, bias=False)
        self.head_dim, self.layer, self.dropout = D, layer, config.attention_dropout

    def forward(self, x: Tensor, this: Pass) -> Tensor:
        B, T, _ = x.shape
        q, k, v = (
            y.view(B, T, -1, self.head_dim).transpose(1, 2) for y in project(x, self.q_proj, self.k_proj, self.v_proj)
        )  # [B, H or G, T, D]
        q, k = apply_rotary(q, k, *this.rotary)
        if this.cache is not None:
            k, v = this.cache.append(self.layer, k, v, this.window)
        x = this.attend(q, k, v, scale=self.head_dim**-0.5, dropout=self.dropout if self.training else 0.0)
        return project(x.transpose(1, 2).reshape(B, T, -1), self.o_proj)[0]


class MixtralDecoderLayer(nn.Module):
    def __init__(self, config: MixtralConfig, layer: int):
        super().__init__()
        self.self_attn = MixtralAttention(config, layer)
        self.block_sparse_moe = MixtralSparseMoeBlock(config)
        self.input_layernorm = nn.RMSNorm(config.hidden_size, config.rms_norm_eps)
        self.post_attention_layernorm = nn.RMSNorm(config.hidden_size, config.rms_norm_eps)

    def forward(self, x: Tensor, this: Pass) -> Tensor:
        x = x + self.self_attn(self.input_layernorm(x), this)
        return x + self.block_sparse_moe(self.post_attention_layernorm(x), this)


# ---- Models


class MixtralPreTrainedModel(Model):
    config_class, base_model_prefix, accepts_packed = MixtralConfig, "model", True
    config: MixtralConfig
    renames = ((r"\.rotary_emb\.inv_freq$", None),)  # a buffer of Transformers before 4.32
    prepared = r"layers\.\d+\.(self_attn|block_sparse_moe\.experts)\.|^lm_head$"  # rounded, routers choose others
    together = r"\.(q_proj|k_proj|v_proj|w1|w3)$"
    outliers = r"\.w2$"
    may_be_new = (r"^lm_head\.", r"^score\.", r"^qa_outputs\.")

    def init_weights(self, module: nn.Module) -> None:
        if isinstance(module, (nn.Linear, nn.Embedding)):
            module.weight.normal_(0.0, self.config.initializer_range)
        if isinstance(module, nn.Linear) and module.bias is not None:
            module.bias.zero_()
        if isinstance(module, nn.Embedding) and module.padding_idx is not None:
            module.weight[module.padding_idx].zero_()
        if isinstance(module, nn.RMSNorm):
            module.weight.fill_(1.0)


class MixtralModel(MixtralPreTrainedModel):
    def __init__(self, config: MixtralConfig):
        super().__init__(config)
        self.embed_tokens = nn.Embedding(config.vocab_size, config.hidden_size, padding_idx=config.pad_token_id)
        self.layers = nn.ModuleList(MixtralDecoderLayer(config, i) for i in range(config.num_hidden_layers))
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
        assert config.rope_parameters is not None and config.head_dim is not None  # validate() has filled them
        record = config.output_attentions if output_attentions is None else output_attentions
        attentions = [] if record else None
        routed = config.output_router_logits if output_router_logits is None else output_router_logits
        router_logits = [] if routed else None
        again = self.gradient_checkpointing and self.training  # which runs layers twice
        wanted = config.use_cache if use_cache is None else use_cache
        cache = None if again else as_cache(past_key_values, wanted and not isinstance(attention_mask, Packed))
        window, past, K, longest = config.sliding_window, 0, T, T
        if cache is not None:
            past, K, longest = cache.get_seq_length(), cache.key_length(T, window), cache.key_length(T)
        if position_ids is None:
            position_ids = make_position_ids(attention_mask, B, T, past, device)
        else:
            longest = None  # not known without a look at them
            if attention_mask is None and isinstance(past, int) and past == 0:
                attention_mask = blocks_of(position_ids)
        attend = bind_attention(
            kernel,
            Q=T,
            K=K,
            past=past,
            causal=True,
            window=window,
            mask=attention_mask,
            device=device,
            record=attentions,
        )

        x = self.embed_tokens(input_ids) if inputs_embeds is None else inputs_embeds
        rotary = make_rotary(config.rope_parameters, config.head_dim, position_ids, attention_mask, x.dtype, longest)
        this = Pass(attend, rotary, cache, window, router_logits)
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


class MixtralForCausalLM(MixtralPreTrainedModel):
    tied = {"lm_head.weight": "model.embed_tokens.weight"}
    generate, generation_config = generate, generation_config

    def __init__(self, config: MixtralConfig):
        super().__init__(config)
        self.model = MixtralModel(config)
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


class MixtralForSequenceClassification(MixtralPreTrainedModel):
    def __init__(self, config: MixtralConfig):
        super().__init__(config)
        self.model = MixtralModel(config)
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


class MixtralForTokenClassification(MixtralPreTrainedModel):
    def __init__(self, config: MixtralConfig):
        super().__init__(config)
        self.model = MixtralModel(config)
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


class MixtralForQuestionAnswering(MixtralPreTrainedModel):
    def __init__(self, config: MixtralConfig):
        super().__init__(config)
        self.model = MixtralModel(config)
        self.qa_outputs = nn.Linear(config.hidden_size, 2)
        self.post_init()

    def forward(
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | Packed | None = None,
        position_ids: Tensor | None = None,
        past_key_values: Any = None,
        inputs_embeds: Tensor | None = None,
        start_positions: Tensor | None = None,
        end_positions: Tensor | None = None,
        *,
        output_attentions: bool | None = None,
        output_hidden_states: bool | None = None,
    ) -> QuestionAnsweringModelOutput:
        """start_positions, end_positions [B]: the answer's first and last token."""
        decoded = self.model(
            input_ids,
            attention_mask,
            position_ids,
            past_key_values,
            inputs_embeds,
            output_attentions=output_attentions,
            output_hidden_states=output_hidden_states,
        )
        start_logits, end_logits = self.qa_outputs(decoded.last_hidden_state).unbind(-1)
        loss = count = None
        if start_positions is not None and end_positions is not None:
            loss, count = span_loss(start_logits, end_logits, start_positions, end_positions)
        return QuestionAnsweringModelOutput(
            loss, start_logits, end_logits, decoded.hidden_states, decoded.attentions, loss_count=count
        )


HEADS = {
    "base": MixtralModel,
    "causal-lm": MixtralForCausalLM,
    "sequence-classification": MixtralForSequenceClassification,
    "token-classification": MixtralForTokenClassification,
    "question-answering": MixtralForQuestionAnswering,
}
