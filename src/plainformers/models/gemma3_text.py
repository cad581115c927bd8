"""Gemma 3, the text model: a decoder of local and global layers, with norms before and after each part of a layer.

Paper: Gemma Team, 2025, https://arxiv.org/abs/2503.19786; EmbeddingGemma: https://arxiv.org/abs/2509.20354
Reference code: https://github.com/google/gemma_pytorch
Shapes: B batch, T tokens, C hidden_size, H heads, G key/value heads, D head_dim, V vocab_size, N labels, L layers.

Every sixth layer sees all tokens before, the others sliding_window of them; each kind has its own rotary positions.
Different from Transformers: positions count from the first real token; a sequence's label is made from its last real
token by the mask; attn_logit_softcapping is honoured; in the config, what is set last of rope_theta,
rope_local_base_freq, rope_scaling and rope_parameters counts, and the others follow.
"""

from dataclasses import dataclass
from typing import Any, NamedTuple, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from ..activations import activation
from ..arguments import check_inputs
from ..attention import Attend, bind_attention
from ..cache import Cache, as_cache
from ..config import Config
from ..generation import generate, generation_config
from ..linear import project
from ..losses import sequence_loss, vocabulary_loss
from ..model import Model
from ..outputs import BaseModelOutputWithPast, CausalLMOutputWithPast, SequenceClassifierOutputWithPast
from ..rope import apply_rotary, make_rotary, read_rope
from ..sequences import Packed, blocks_of, last_token, make_position_ids, real_tokens

# ---- Configuration

# kinds of layers
FULL = "full_attention"
SLIDING = "sliding_attention"


@dataclass(init=False)
class Gemma3TextConfig(Config):
    model_type = "gemma3_text"

    vocab_size: int = 262_208
    hidden_size: int = 2304
    intermediate_size: int = 9216
    num_hidden_layers: int = 26
    num_attention_heads: int = 8
    num_key_value_heads: int = 4
    head_dim: int = 256
    hidden_activation: str = "gelu_pytorch_tanh"
    max_position_embeddings: int = 131_072
    initializer_range: float = 0.02
    rms_norm_eps: float = 1e-6
    use_cache: bool = True
    pad_token_id: int | None = 0
    eos_token_id: int | list[int] | None = 1
    bos_token_id: int | None = 2
    attention_bias: bool = False
    attention_dropout: float = 0.0
    query_pre_attn_scalar: float = 256  # scores are divided by its root
    sliding_window: int | None = 4096  # tokens that a local layer sees, the token itself included
    sliding_window_pattern: int = 6  # every so-many-th layer is global, where layer_types does not say it
    layer_types: list[str] | None = None
    final_logit_softcapping: float | None = None
    attn_logit_softcapping: float | None = None
    use_bidirectional_attention: bool | None = False  # half of sliding_window is then seen on each side
    # the spelling of Transformers 4, then that of 5
    rope_theta: float = 1_000_000.0
    rope_local_base_freq: float = 10_000.0
    rope_scaling: dict[str, Any] | None = None  # of the global layers
    rope_parameters: dict[str, Any] | None = None  # kind of layer -> rope_type, rope_theta, ...

    def __setattr__(self, name: str, value: Any) -> None:
        before = self.__dict__.get("rope_scaling")
        super().__setattr__(name, value)
        ropes = self.__dict__.get("rope_parameters")
        if name == "rope_parameters" and value is not None:
            super().__setattr__("rope_scaling", None)  # validate() makes it anew
        elif name in ("rope_theta", "rope_local_base_freq") and ropes is not None:
            kind = FULL if name == "rope_theta" else SLIDING
            self.__dict__["rope_parameters"] = ropes | {kind: (ropes.get(kind) or {}) | {"rope_theta": value}}
        elif name == "rope_scaling" and ropes is not None and value != before:
            kept = {k: v for k, v in (ropes.get(FULL) or {}).items() if k == "rope_theta"}
            self.__dict__["rope_parameters"] = ropes | {FULL: kept | (value or {})}

    def validate(self) -> None:
        super().validate()
        H, G = self.num_attention_heads, self.num_key_value_heads
        if H % G:
            raise ValueError(f"num_attention_heads ({H}) must be a multiple of num_key_value_heads ({G}).")
        if self.head_dim % 2:
            raise ValueError(f"head_dim must be even, to be turned in pairs, got {self.head_dim}.")
        for name in ("query_pre_attn_scalar", "final_logit_softcapping", "attn_logit_softcapping"):
            if (value := vars(self)[name]) is not None and not value > 0:
                raise ValueError(f"{name} must be positive, got {value!r}.")
        self._validate_layer_types()
        self._validate_rope()

    def _validate_layer_types(self) -> None:
        L, n = self.num_hidden_layers, self.sliding_window_pattern
        if n < 1:
            raise ValueError(f"sliding_window_pattern must be at least 1, got {n}.")
        self.fill("layer_types", [SLIDING if (i + 1) % n else FULL for i in range(L)])
        kinds = self.layer_types or []
        if len(kinds) != L or set(kinds) - {FULL, SLIDING}:
            raise ValueError(f"layer_types must be {FULL!r} or {SLIDING!r} for {L} layers, got {kinds!r:.200}.")
        if SLIDING in kinds and (self.sliding_window is None or self.sliding_window < 1):
            raise ValueError(f"sliding_window must be at least 1 for {SLIDING!r}, got {self.sliding_window}.")

    def _validate_rope(self) -> None:
        given = self.rope_parameters or {}
        if strange := [k for k, rope in given.items() if k not in (FULL, SLIDING) or not isinstance(rope, dict | None)]:
            raise ValueError(f"rope_parameters must have a dictionary for {FULL} and {SLIDING}, got {strange!r:.200}.")
        longest = self.max_position_embeddings
        full = read_rope(given.get(FULL) or self.rope_scaling, longest, rope_theta=self.rope_theta)
        sliding = read_rope(given.get(SLIDING), longest, rope_theta=self.rope_local_base_freq)
        scaling = {name: value for name, value in full.items() if name != "rope_theta"}
        self.__dict__ |= {
            "rope_parameters": {FULL: full, SLIDING: sliding},
            "rope_scaling": None if scaling == {"rope_type": "default"} else scaling,
            "rope_theta": full["rope_theta"],
            "rope_local_base_freq": sliding["rope_theta"],
        }


# ---- Layers


class Pass(NamedTuple):
    """What one forward pass makes above the layers, for each kind of them."""

    attend: dict[str, Attend]
    rotary: dict[str, tuple[Tensor, Tensor]]  # cosines and sines, [B or 1, 1, T, D]
    windows: dict[str, int | None]
    cache: Cache | None


class Gemma3Embedding(nn.Embedding):
    """Vectors times the root of their size, which is rounded as the weights are."""

    def forward(self, input: Tensor) -> Tensor:
        return super().forward(input) * torch.tensor(self.embedding_dim**0.5, dtype=self.weight.dtype)


class Gemma3RMSNorm(nn.Module):
    """Weights lie around 0, where those of others lie around 1; all is computed in float32."""

    def __init__(self, size: int, eps: float):
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(size))
        self.eps = eps

    def forward(self, x: Tensor) -> Tensor:
        return F.rms_norm(x.float(), self.weight.shape, 1 + self.weight.float(), self.eps).type_as(x)


class Gemma3MLP(nn.Module):
    def __init__(self, config: Gemma3TextConfig):
        super().__init__()
        C, inner = config.hidden_size, config.intermediate_size
        self.gate_proj = nn.Linear(C, inner, bias=False)
        self.up_proj = nn.Linear(C, inner, bias=False)
        self.down_proj = nn.Linear(inner, C, bias=False)
        self.act = activation(config.hidden_activation)

    def forward(self, x: Tensor) -> Tensor:
        gate, x = project(x, self.gate_proj, self.up_proj)
        return project(self.act(gate) * x, self.down_proj)[0]


class Gemma3Attention(nn.Module):
    def __init__(self, config: Gemma3TextConfig, layer: int):
        super().__init__()
        assert config.layer_types is not None  # validate() has filled it
        C, H, G, D = config.hidden_size, config.num_attention_heads, config.num_key_value_heads, config.head_dim
        self.q_proj = nn.Linear(C, H * D, bias=config.attention_bias)
        self.k_proj = nn.Linear(C, G * D, bias=config.attention_bias)
        self.v_proj = nn.Linear(C, G * D, bias=config.attention_bias)
        self.o_proj = nn.Linear(H * D, C, bias=config.attention_bias)
        self.q_norm = Gemma3RMSNorm(D, config.rms_norm_eps)
        self.k_norm = Gemma3RMSNorm(D, config.rms_norm_eps)
        self.head_dim, self.layer, self.kind = D, layer, config.layer_types[layer]
        self.scale, self.softcap = config.query_pre_attn_scalar**-0.5, config.attn_logit_softcapping
        self.dropout = config.attention_dropout

    def forward(self, x: Tensor, this: Pass) -> Tensor:
        B, T, _ = x.shape
        q, k, v = (
            y.view(B, T, -1, self.head_dim).transpose(1, 2) for y in project(x, self.q_proj, self.k_proj, self.v_proj)
        )  # [B, H or G, T, D]
        q, k = apply_rotary(self.q_norm(q), self.k_norm(k), *this.rotary[self.kind])
        if this.cache is not None:
            k, v = this.cache.append(self.layer, k, v, window=this.windows[self.kind])
        dropout = self.dropout if self.training else 0.0
        x = this.attend[self.kind](q, k, v, scale=self.scale, dropout=dropout, softcap=self.softcap)
        return project(x.transpose(1, 2).reshape(B, T, -1), self.o_proj)[0]


class Gemma3DecoderLayer(nn.Module):
    def __init__(self, config: Gemma3TextConfig, layer: int):
        super().__init__()
        C, eps = config.hidden_size, config.rms_norm_eps
        self.self_attn = Gemma3Attention(config, layer)
        self.mlp = Gemma3MLP(config)
        self.input_layernorm = Gemma3RMSNorm(C, eps)
        self.post_attention_layernorm = Gemma3RMSNorm(C, eps)
        self.pre_feedforward_layernorm = Gemma3RMSNorm(C, eps)
        self.post_feedforward_layernorm = Gemma3RMSNorm(C, eps)

    def forward(self, x: Tensor, this: Pass) -> Tensor:
        x = x + self.post_attention_layernorm(self.self_attn(self.input_layernorm(x), this))
        return x + self.post_feedforward_layernorm(self.mlp(self.pre_feedforward_layernorm(x)))


# ---- Models


class Gemma3TextPreTrainedModel(Model):
    config_class, base_model_prefix, accepts_packed = Gemma3TextConfig, "model", True
    config: Gemma3TextConfig
    prepared = r"layers\.\d+\.|^lm_head$"
    together = r"\.(q|k|v|gate|up)_proj$"
    outliers = r"\.down_proj$"
    may_be_new = (r"^lm_head\.", r"^score\.")

    def init_weights(self, module: nn.Module) -> None:
        if isinstance(module, (nn.Linear, nn.Embedding)):
            module.weight.normal_(0.0, self.config.initializer_range)
        if isinstance(module, nn.Linear) and module.bias is not None:
            module.bias.zero_()
        if isinstance(module, nn.Embedding) and module.padding_idx is not None:
            module.weight[module.padding_idx].zero_()
        if isinstance(module, Gemma3RMSNorm):
            module.weight.zero_()


class Gemma3TextModel(Gemma3TextPreTrainedModel):
    def __init__(self, config: Gemma3TextConfig):
        super().__init__(config)
        self.embed_tokens = Gemma3Embedding(config.vocab_size, config.hidden_size, padding_idx=config.pad_token_id)
        self.layers = nn.ModuleList(Gemma3DecoderLayer(config, i) for i in range(config.num_hidden_layers))
        self.norm = Gemma3RMSNorm(config.hidden_size, config.rms_norm_eps)
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
    ) -> BaseModelOutputWithPast:
        """input_ids [B, T], or inputs_embeds [B, T, C] in their place, as get_input_embeddings() makes them.

        attention_mask: 1 = real token, over the tokens in the cache and these; attention.dense_mask has other shapes (a
        4-D mask says everything, local attention too); Packed for one row of concatenated sequences, which position_ids
        that start anew tell apart, too. past_key_values, use_cache: see cache.py. output_*: None is what the config
        says.
        """
        B, T, device = check_inputs(input_ids, inputs_embeds)
        config, kernel = self.config, self.config.attn_implementation
        assert config.rope_parameters is not None and config.layer_types is not None  # validate() has filled them
        record = config.output_attentions if output_attentions is None else output_attentions
        attentions = [] if record else None
        again = self.gradient_checkpointing and self.training  # which runs layers twice
        wanted = config.use_cache if use_cache is None else use_cache
        cache = None if again else as_cache(past_key_values, wanted and not isinstance(attention_mask, Packed))
        past, K = (0, T) if cache is None else (cache.get_seq_length(), cache.key_length(T))
        longest = None
        if position_ids is None:
            position_ids, longest = make_position_ids(attention_mask, B, T, past, device), K
        elif attention_mask is None and isinstance(past, int) and past == 0:
            attention_mask = blocks_of(position_ids)

        x = self.embed_tokens(input_ids) if inputs_embeds is None else inputs_embeds
        causal, size = not config.use_bidirectional_attention, config.sliding_window
        windows = {FULL: None, SLIDING: size if causal or size is None else size // 2 + 1}
        attend, rotary = {}, {}
        for kind in sorted(set(config.layer_types)):
            attend[kind] = bind_attention(
                kernel,
                Q=T,
                K=T if cache is None else cache.key_length(T, windows[kind]),
                past=past,
                causal=causal,
                mask=attention_mask,
                window=windows[kind],
                device=device,
                record=attentions,
            )
            rope = config.rope_parameters[kind]
            rotary[kind] = make_rotary(rope, config.head_dim, position_ids, attention_mask, x.dtype, longest)
        this = Pass(attend, rotary, windows, cache)
        hidden_states = (x,)
        for layer in self.layers:
            x = cast(Tensor, checkpoint(layer, x, this, use_reentrant=False)) if again else layer(x, this)
            hidden_states += (x,)
        x = self.norm(x)
        states = config.output_hidden_states if output_hidden_states is None else output_hidden_states
        return BaseModelOutputWithPast(
            last_hidden_state=x,
            past_key_values=cache,
            hidden_states=(*hidden_states[:-1], x) if states else None,
            attentions=tuple(attentions) if attentions is not None else None,
        )


class Gemma3ForCausalLM(Gemma3TextPreTrainedModel):
    tied = {"lm_head.weight": "model.embed_tokens.weight"}
    generate, generation_config = generate, generation_config

    def __init__(self, config: Gemma3TextConfig):
        super().__init__(config)
        self.model = Gemma3TextModel(config)
        self.lm_head = nn.Linear(config.hidden_size, config.vocab_size, bias=False)
        self.post_init()

    def get_output_embeddings(self) -> nn.Module:
        return self.lm_head

    def set_output_embeddings(self, new_embeddings: nn.Module) -> None:
        self.lm_head = cast(nn.Linear, new_embeddings)

    def to_logits(self, x: Tensor) -> Tensor:
        """x [..., C] -> [..., V]."""
        logits = project(x, self.lm_head)[0]
        cap = self.config.final_logit_softcapping
        return logits if cap is None else (logits / cap).tanh() * cap

    def forward(
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | Packed | None = None,
        position_ids: Tensor | None = None,
        past_key_values: Any = None,
        inputs_embeds: Tensor | None = None,
        labels: Tensor | None = None,
        use_cache: bool | None = None,
        logits_to_keep: int | Tensor = 0,
        *,
        output_attentions: bool | None = None,
        output_hidden_states: bool | None = None,
    ) -> CausalLMOutputWithPast:
        """labels [B, T]: the input_ids themselves, -100 where none; logits_to_keep: logits of the last n tokens."""
        decoded = self.model(
            input_ids,
            attention_mask,
            position_ids,
            past_key_values,
            inputs_embeds,
            False if labels is not None and use_cache is None else use_cache,
            output_attentions=output_attentions,
            output_hidden_states=output_hidden_states,
        )
        keep = slice(-logits_to_keep, None) if isinstance(logits_to_keep, int) else logits_to_keep
        x, parts = decoded.last_hidden_state[:, keep], self.loss_parts if self.training else 0
        loss, count, logits = vocabulary_loss(self.to_logits, x, labels, shifted=True, parts=parts)
        return CausalLMOutputWithPast(
            loss, logits, decoded.past_key_values, decoded.hidden_states, decoded.attentions, loss_count=count
        )


class Gemma3TextForSequenceClassification(Gemma3TextPreTrainedModel):
    def __init__(self, config: Gemma3TextConfig):
        super().__init__(config)
        self.model = Gemma3TextModel(config)
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


HEADS = {
    "base": Gemma3TextModel,
    "causal-lm": Gemma3ForCausalLM,
    "sequence-classification": Gemma3TextForSequenceClassification,
}
