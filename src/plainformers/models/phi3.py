"""Phi-3 and Phi-4: a decoder as Llama is, with fused projections, partial rotary positions, and two lists of factors
(longrope) for texts shorter and longer than those of the first training.

Papers: Abdin et al., 2024, https://arxiv.org/abs/2404.14219; longrope: https://arxiv.org/abs/2402.13753
Reference code: https://huggingface.co/microsoft/Phi-3-mini-4k-instruct
Shapes: B batch, T tokens, C hidden_size, H heads, G key/value heads, D = C / H, V vocab_size, N labels, L layers.

Different from Transformers: positions count from the first real token; a sequence's label is made from its last real
token by the mask (without one, by pad_token_id). Longrope takes its factors by the length of each sequence, not of
the longest of a batch; keys that a cache holds are not turned anew when a text grows beyond
original_max_position_embeddings.
"""

from dataclasses import dataclass
from typing import Any, NamedTuple, cast

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


# fields that stand in rope_parameters, too
ROTARY = ("partial_rotary_factor", "original_max_position_embeddings")


@dataclass(init=False)
class Phi3Config(Config):
    model_type = "phi3"
    attribute_map = {"rope_scaling": "rope_parameters"}

    vocab_size: int = 32_064
    hidden_size: int = 3072
    intermediate_size: int = 8192
    num_hidden_layers: int = 32
    num_attention_heads: int = 32
    num_key_value_heads: int | None = None  # None: as many as heads
    resid_pdrop: float = 0.0
    embd_pdrop: float = 0.0  # no dropout follows from it, in the reference code neither
    attention_dropout: float = 0.0
    hidden_act: str = "silu"
    max_position_embeddings: int = 4096
    original_max_position_embeddings: int = 4096  # longrope: texts up to so many tokens take short_factor
    initializer_range: float = 0.02
    rms_norm_eps: float = 1e-5
    use_cache: bool = True
    tie_word_embeddings: bool = False
    rope_theta: float = 10_000.0
    partial_rotary_factor: float = 1.0  # of a head's dimensions, the first, that are turned
    rope_parameters: dict[str, Any] | None = None  # see rope.py
    bos_token_id: int | None = 1
    eos_token_id: int | list[int] | None = 32_000
    pad_token_id: int | None = 32_000
    sliding_window: int | None = None  # tokens that a token sees, itself included; None: all before it
    classifier_dropout: float | None = None  # of token classification; None: 0.1

    def __setattr__(self, name: str, value: Any) -> None:
        super().__setattr__(name, value)
        if name in ROTARY and self.rope_parameters is not None and name in self.rope_parameters:
            super().__setattr__("rope_parameters", self.rope_parameters | {name: value})

    def validate(self) -> None:
        super().validate()
        C, H = self.hidden_size, self.num_attention_heads
        if H < 1 or C % (2 * H):
            raise ValueError(f"hidden_size ({C}) must be an even multiple of num_attention_heads ({H}).")
        self.fill("num_key_value_heads", H)
        if not self.num_key_value_heads or H % self.num_key_value_heads:
            raise ValueError(
                f"num_attention_heads ({H}) must be a multiple of num_key_value_heads ({self.num_key_value_heads})."
            )
        if self.sliding_window is not None and self.sliding_window < 1:
            raise ValueError(f"sliding_window must be at least 1, or None for no window, got {self.sliding_window}.")
        if self.pad_token_id is not None and not 0 <= self.pad_token_id < self.vocab_size:
            raise ValueError(f"pad_token_id is {self.pad_token_id}, of a vocabulary of {self.vocab_size}.")
        self._validate_rope(C // H)

    def _validate_rope(self, D: int) -> None:
        rope = dict(self.rope_parameters or {})
        if "short_factor" in rope:  # under the names of its first versions
            rope = {name: value for name, value in rope.items() if name not in ("type", "rope_type")}
            rope["rope_type"] = "longrope"
        rope.setdefault("partial_rotary_factor", self.partial_rotary_factor)
        if rope.get("rope_type") == "longrope":  # what stands outside counts more, as published
            rope["original_max_position_embeddings"] = self.original_max_position_embeddings
        rope = read_rope(rope, self.max_position_embeddings, rope_theta=self.rope_theta)
        R = int(D * rope["partial_rotary_factor"])
        if R < 2 or R % 2:
            raise ValueError(f"partial_rotary_factor must leave an even number of {D} dimensions to turn, not {R}.")
        for name in ("short_factor", "long_factor"):
            if len(rope.get(name, ())) not in (0, R // 2):
                raise ValueError(
                    f"{name} must hold {R // 2} numbers, for {R} turned dimensions, got {len(rope[name])}."
                )
        super().__setattr__("partial_rotary_factor", rope["partial_rotary_factor"])
        super().__setattr__("rope_parameters", rope)


# ---- Layers


class Pass(NamedTuple):
    """What one forward pass makes above the layers."""

    attend: Attend
    rotary: tuple[Tensor, Tensor]  # cosines and sines, [B or 1, 1, T, D]
    cache: Cache | None
    window: int | None  # tokens that a token sees


class Phi3MLP(nn.Module):
    def __init__(self, config: Phi3Config):
        super().__init__()
        C, inner = config.hidden_size, config.intermediate_size
        self.gate_up_proj = nn.Linear(C, 2 * inner, bias=False)
        self.down_proj = nn.Linear(inner, C, bias=False)
        self.act = activation(config.hidden_act)

    def forward(self, x: Tensor) -> Tensor:
        gate, x = project(x, self.gate_up_proj)[0].chunk(2, dim=-1)
        return project(self.act(gate) * x, self.down_proj)[0]


class Phi3Attention(nn.Module):
    def __init__(self, config: Phi3Config, layer: int):
        super().__init__()
        C, H, G = config.hidden_size, config.num_attention_heads, config.num_key_value_heads
        assert G is not None  # validate() has filled it
        D = C // H
        self.qkv_proj = nn.Linear(C, (H + 2 * G) * D, bias=False)
        self.o_proj = nn.Linear(C, C, bias=False)
        self.parts, self.head_dim, self.layer, self.dropout = (H, G, G), D, layer, config.attention_dropout

    def forward(self, x: Tensor, this: Pass) -> Tensor:
        B, T, _ = x.shape
        x = project(x, self.qkv_proj)[0].view(B, T, -1, self.head_dim).transpose(1, 2)
        q, k, v = x.split(self.parts, dim=1)  # [B, H or G, T, D]
        q, k = apply_rotary(q, k, *this.rotary)
        if this.cache is not None:
            k, v = this.cache.append(self.layer, k, v, this.window)
        x = this.attend(q, k, v, scale=self.head_dim**-0.5, dropout=self.dropout if self.training else 0.0)
        return project(x.transpose(1, 2).reshape(B, T, -1), self.o_proj)[0]


class Phi3DecoderLayer(nn.Module):
    def __init__(self, config: Phi3Config, layer: int):
        super().__init__()
        self.self_attn = Phi3Attention(config, layer)
        self.mlp = Phi3MLP(config)
        self.input_layernorm = nn.RMSNorm(config.hidden_size, config.rms_norm_eps)
        self.post_attention_layernorm = nn.RMSNorm(config.hidden_size, config.rms_norm_eps)
        self.dropout = nn.Dropout(config.resid_pdrop)

    def forward(self, x: Tensor, this: Pass) -> Tensor:
        x = x + self.dropout(self.self_attn(self.input_layernorm(x), this))
        return x + self.dropout(self.mlp(self.post_attention_layernorm(x)))


# ---- Models


class Phi3PreTrainedModel(Model):
    config_class, base_model_prefix, accepts_packed = Phi3Config, "model", True
    config: Phi3Config
    renames = ((r"\.rotary_emb\.inv_freq$", None),)  # a buffer of Transformers before 4.32
    prepared = r"layers\.\d+\.|^lm_head$"
    outliers = r"\.down_proj$"
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


class Phi3Model(Phi3PreTrainedModel):
    def __init__(self, config: Phi3Config):
        super().__init__(config)
        self.embed_tokens = nn.Embedding(config.vocab_size, config.hidden_size, padding_idx=config.pad_token_id)
        self.layers = nn.ModuleList(Phi3DecoderLayer(config, i) for i in range(config.num_hidden_layers))
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
    ) -> BaseModelOutputWithPast:
        """input_ids [B, T], or inputs_embeds [B, T, C] in their place.

        attention_mask: 1 = real token, over the tokens in the cache and these; attention.dense_mask has other
        shapes; Packed for one row of concatenated sequences, which position_ids that start anew tell apart, too.
        past_key_values, use_cache: see cache.py. output_*: None is what the config says.
        """
        B, T, device = check_inputs(input_ids, inputs_embeds)
        config, kernel = self.config, self.config.attn_implementation
        assert config.rope_parameters is not None  # validate() has filled it
        record = config.output_attentions if output_attentions is None else output_attentions
        attentions = [] if record else None
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
        D = config.hidden_size // config.num_attention_heads
        rotary = make_rotary(config.rope_parameters, D, position_ids, attention_mask, x.dtype, longest)
        this = Pass(attend, rotary, cache, window)
        states = config.output_hidden_states if output_hidden_states is None else output_hidden_states
        hidden_states = (x,)
        for layer in self.layers:
            x = cast(Tensor, checkpoint(layer, x, this, use_reentrant=False)) if again else layer(x, this)
            hidden_states = (*hidden_states, x) if states else ()
        x = self.norm(x)
        return BaseModelOutputWithPast(
            last_hidden_state=x,
            past_key_values=cache,
            hidden_states=(*hidden_states[:-1], x) if states else None,
            attentions=tuple(attentions) if attentions is not None else None,
        )


class Phi3ForCausalLM(Phi3PreTrainedModel):
    tied = {"lm_head.weight": "model.embed_tokens.weight"}
    generate, generation_config = generate, generation_config

    def __init__(self, config: Phi3Config):
        super().__init__(config)
        self.model = Phi3Model(config)
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


class Phi3ForSequenceClassification(Phi3PreTrainedModel):
    def __init__(self, config: Phi3Config):
        super().__init__(config)
        self.model = Phi3Model(config)
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


class Phi3ForTokenClassification(Phi3PreTrainedModel):
    def __init__(self, config: Phi3Config):
        super().__init__(config)
        self.model = Phi3Model(config)
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
    "base": Phi3Model,
    "causal-lm": Phi3ForCausalLM,
    "sequence-classification": Phi3ForSequenceClassification,
    "token-classification": Phi3ForTokenClassification,
}
