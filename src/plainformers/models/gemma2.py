"""Gemma 2: a decoder of local and global layers in turn, whose scores and logits are kept within bounds.

Paper: Gemma Team, 2024, https://arxiv.org/abs/2408.00118
Reference code: https://github.com/google/gemma_pytorch
Shapes: B batch, T tokens, C hidden_size, H heads, G key/value heads, D head_dim, V vocab_size, N labels, L layers.

Every second layer sees all tokens before, the others sliding_window of them; parts of a layer have norms before and
after. Different from Transformers: positions count from the first real token; a sequence's label is made from its last
real token by the mask (without one, by pad_token_id).
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
from ..losses import sequence_loss, token_loss, vocabulary_loss
from ..model import Model
from ..outputs import (
    BaseModelOutputWithPast,
    CausalLMOutputWithPast,
    SequenceClassifierOutputWithPast,
    TokenClassifierOutput,
)
from ..rope import apply_rotary, make_rotary, read_rope
from ..sequences import Packed, blocks_of, last_token, make_position_ids, real_tokens

# ---- Configuration

# kinds of layers
FULL = "full_attention"
SLIDING = "sliding_attention"


@dataclass(init=False)
class Gemma2Config(Config):
    model_type = "gemma2"
    attribute_map = {"rope_scaling": "rope_parameters"}

    vocab_size: int = 256_000
    hidden_size: int = 2304
    intermediate_size: int = 9216
    num_hidden_layers: int = 26
    num_attention_heads: int = 8
    num_key_value_heads: int = 4
    head_dim: int = 256
    hidden_activation: str = "gelu_pytorch_tanh"
    max_position_embeddings: int = 8192
    initializer_range: float = 0.02
    rms_norm_eps: float = 1e-6
    use_cache: bool = True
    pad_token_id: int | None = 0
    eos_token_id: int | list[int] | None = 1
    bos_token_id: int | None = 2
    rope_theta: float = 10_000.0
    rope_parameters: dict[str, Any] | None = None  # see rope.py
    attention_bias: bool = False
    attention_dropout: float = 0.0
    query_pre_attn_scalar: float = 256  # scores are divided by its root
    sliding_window: int | None = 4096  # tokens that a local layer sees, the token itself included
    layer_types: list[str] | None = None  # None: local and global in turn
    final_logit_softcapping: float | None = 30.0
    attn_logit_softcapping: float | None = 50.0
    classifier_dropout: float | None = None  # of token classification; None: 0.1

    def validate(self) -> None:
        super().validate()
        L, H, G = self.num_hidden_layers, self.num_attention_heads, self.num_key_value_heads
        if H % G:
            raise ValueError(f"num_attention_heads ({H}) must be a multiple of num_key_value_heads ({G}).")
        if self.head_dim % 2:
            raise ValueError(f"head_dim must be even, to be turned in pairs, got {self.head_dim}.")
        for name in ("query_pre_attn_scalar", "final_logit_softcapping", "attn_logit_softcapping"):
            if (value := vars(self)[name]) is not None and not value > 0:
                raise ValueError(f"{name} must be positive, got {value!r}.")
        self.fill("layer_types", [FULL if i % 2 else SLIDING for i in range(L)])
        kinds = self.layer_types or []
        if len(kinds) != L or set(kinds) - {FULL, SLIDING}:
            raise ValueError(f"layer_types must be {FULL!r} or {SLIDING!r} for {L} layers, got {kinds!r:.200}.")
        if SLIDING in kinds and (self.sliding_window is None or self.sliding_window < 1):
            raise ValueError(f"sliding_window must be at least 1 for {SLIDING!r}, got {self.sliding_window}.")
        self.rope_parameters = read_rope(self.rope_parameters, self.max_position_embeddings, rope_theta=self.rope_theta)


# ---- Layers


class Pass(NamedTuple):
    """What one forward pass makes above the layers."""

    attend: dict[str, Attend]  # for each kind of layer
    windows: dict[str, int | None]
    rotary: tuple[Tensor, Tensor]  # cosines and sines, [B or 1, 1, T, D]
    cache: Cache | None


class Gemma2Embedding(nn.Embedding):
    """Vectors times the root of their size, which is rounded as the weights are."""

    def forward(self, input: Tensor) -> Tensor:
        return super().forward(input) * torch.tensor(self.embedding_dim**0.5, dtype=self.weight.dtype)


class Gemma2RMSNorm(nn.Module):
    """Weights lie around 0, where those of others lie around 1; all is computed in float32."""

    def __init__(self, size: int, eps: float):
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(size))
        self.eps = eps

    def forward(self, x: Tensor) -> Tensor:
        return F.rms_norm(x.float(), self.weight.shape, 1 + self.weight.float(), self.eps).type_as(x)


class Gemma2MLP(nn.Module):
    def __init__(self, config: Gemma2Config):
        super().__init__()
        C, inner = config.hidden_size, config.intermediate_size
        self.gate_proj = nn.Linear(C, inner, bias=False)
        self.up_proj = nn.Linear(C, inner, bias=False)
        self.down_proj = nn.Linear(inner, C, bias=False)
        self.act = activation(config.hidden_activation)

    def forward(self, x: Tensor) -> Tensor:
        gate, x = project(x, self.gate_proj, self.up_proj)
        return project(self.act(gate) * x, self.down_proj)[0]


class Gemma2Attention(nn.Module):
    def __init__(self, config: Gemma2Config, layer: int):
        super().__init__()
        assert config.layer_types is not None  # validate() has filled it
        C, H, G, D = config.hidden_size, config.num_attention_heads, config.num_key_value_heads, config.head_dim
        self.q_proj = nn.Linear(C, H * D, bias=config.attention_bias)
        self.k_proj = nn.Linear(C, G * D, bias=config.attention_bias)
        self.v_proj = nn.Linear(C, G * D, bias=config.attention_bias)
        self.o_proj = nn.Linear(H * D, C, bias=config.attention_bias)
        self.head_dim, self.layer, self.kind = D, layer, config.layer_types[layer]
        self.scale, self.softcap = config.query_pre_attn_scalar**-0.5, config.attn_logit_softcapping
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
        x = this.attend[self.kind](q, k, v, scale=self.scale, dropout=dropout, softcap=self.softcap)
        return project(x.transpose(1, 2).reshape(B, T, -1), self.o_proj)[0]


class Gemma2DecoderLayer(nn.Module):
    def __init__(self, config: Gemma2Config, layer: int):
        super().__init__()
        C, eps = config.hidden_size, config.rms_norm_eps
        self.self_attn = Gemma2Attention(config, layer)
        self.mlp = Gemma2MLP(config)
        self.input_layernorm = Gemma2RMSNorm(C, eps)
        self.post_attention_layernorm = Gemma2RMSNorm(C, eps)
        self.pre_feedforward_layernorm = Gemma2RMSNorm(C, eps)
        self.post_feedforward_layernorm = Gemma2RMSNorm(C, eps)

    def forward(self, x: Tensor, this: Pass) -> Tensor:
        x = x + self.post_attention_layernorm(self.self_attn(self.input_layernorm(x), this))
        return x + self.post_feedforward_layernorm(self.mlp(self.pre_feedforward_layernorm(x)))


# ---- Models


class Gemma2PreTrainedModel(Model):
    config_class, base_model_prefix, accepts_packed = Gemma2Config, "model", True
    config: Gemma2Config
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
        if isinstance(module, Gemma2RMSNorm):
            module.weight.zero_()


class Gemma2Model(Gemma2PreTrainedModel):
    def __init__(self, config: Gemma2Config):
        super().__init__(config)
        self.embed_tokens = Gemma2Embedding(config.vocab_size, config.hidden_size, padding_idx=config.pad_token_id)
        self.layers = nn.ModuleList(Gemma2DecoderLayer(config, i) for i in range(config.num_hidden_layers))
        self.norm = Gemma2RMSNorm(config.hidden_size, config.rms_norm_eps)
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
        windows, attend = {FULL: None, SLIDING: config.sliding_window}, {}
        for kind in sorted(set(config.layer_types)):
            attend[kind] = bind_attention(
                kernel,
                Q=T,
                K=T if cache is None else cache.key_length(T, windows[kind]),
                past=past,
                causal=True,
                mask=attention_mask,
                window=windows[kind],
                device=device,
                record=attentions,
            )
        rotary = make_rotary(config.rope_parameters, config.head_dim, position_ids, attention_mask, x.dtype, longest)
        this = Pass(attend, windows, rotary, cache)
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


class Gemma2ForCausalLM(Gemma2PreTrainedModel):
    tied = {"lm_head.weight": "model.embed_tokens.weight"}
    generate, generation_config = generate, generation_config

    def __init__(self, config: Gemma2Config):
        super().__init__(config)
        self.model = Gemma2Model(config)
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


class Gemma2ForSequenceClassification(Gemma2PreTrainedModel):
    def __init__(self, config: Gemma2Config):
        super().__init__(config)
        self.model = Gemma2Model(config)
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


class Gemma2ForTokenClassification(Gemma2PreTrainedModel):
    def __init__(self, config: Gemma2Config):
        super().__init__(config)
        self.model = Gemma2Model(config)
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
    "base": Gemma2Model,
    "causal-lm": Gemma2ForCausalLM,
    "sequence-classification": Gemma2ForSequenceClassification,
    "token-classification": Gemma2ForTokenClassification,
}
