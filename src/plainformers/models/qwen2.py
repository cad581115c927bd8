"""Qwen2 and Qwen2.5: a decoder as Llama is, with biases on queries, keys and values; its later layers may see a window.

Paper: Yang et al., 2024, https://arxiv.org/abs/2407.10671
Reference code: https://github.com/QwenLM/Qwen2.5
Shapes: B batch, T tokens, C hidden_size, H heads, G key/value heads, D head_dim, V vocab_size, N labels, L layers.

Different from Transformers: positions count from the first real token; a sequence's label is made from its last real
token by the mask (without one, by pad_token_id). A sliding_window that use_sliding_window switches off stays in the
config.
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
from ..losses import sequence_loss, span_loss, token_loss, vocabulary_loss
from ..model import Model
from ..outputs import (
    BaseModelOutputWithPast,
    CausalLMOutputWithPast,
    QuestionAnsweringModelOutput,
    SequenceClassifierOutputWithPast,
    TokenClassifierOutput,
)
from ..rope import apply_rotary, make_rotary, read_rope
from ..sequences import Packed, blocks_of, last_token, make_position_ids, real_tokens

# ---- Configuration


FULL = "full_attention"
SLIDING = "sliding_attention"


@dataclass(init=False)
class Qwen2Config(Config):
    model_type = "qwen2"
    attribute_map = {"rope_scaling": "rope_parameters"}

    vocab_size: int = 151_936
    hidden_size: int = 4096
    intermediate_size: int = 22_016
    num_hidden_layers: int = 32
    num_attention_heads: int = 32
    num_key_value_heads: int | None = 32  # None: as many as heads
    hidden_act: str = "silu"
    max_position_embeddings: int = 32_768
    initializer_range: float = 0.02
    rms_norm_eps: float = 1e-6
    use_cache: bool = True
    tie_word_embeddings: bool = False
    rope_theta: float = 10_000.0
    rope_parameters: dict[str, Any] | None = None  # see rope.py
    use_sliding_window: bool = False
    sliding_window: int | None = 4096  # tokens that a token sees in layers of that kind, itself included
    max_window_layers: int = 28  # so many see all before it; the layers after them, where switched on, a window
    layer_types: list[str] | None = None  # None: as the three say
    attention_dropout: float = 0.0
    pad_token_id: int | None = None
    bos_token_id: int | None = None
    eos_token_id: int | list[int] | None = None
    head_dim: int | None = None  # None: hidden_size / num_attention_heads
    classifier_dropout: float | None = None  # of token classification; None: 0.1

    def validate(self) -> None:
        super().validate()
        C, H, L = self.hidden_size, self.num_attention_heads, self.num_hidden_layers
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
        window = self.sliding_window if self.use_sliding_window else None
        full = L if window is None else max(self.max_window_layers, 0)
        self.fill("layer_types", [FULL if i < full else SLIDING for i in range(L)])
        kinds = self.layer_types or []
        if len(kinds) != L or set(kinds) - {FULL, SLIDING}:
            raise ValueError(f"layer_types must be {FULL!r} or {SLIDING!r} for {L} layers, got {kinds!r:.200}.")
        if SLIDING in kinds and (window is None or window < 1):
            raise ValueError(
                f"Layers of {SLIDING!r} need use_sliding_window=True and a sliding_window of at least 1, got "
                f"{self.use_sliding_window} and {self.sliding_window}."
            )
        self.rope_parameters = read_rope(self.rope_parameters, self.max_position_embeddings, rope_theta=self.rope_theta)

    def window(self, layer: int) -> int | None:
        """How many tokens a token sees in a layer; None: all before it."""
        assert self.layer_types is not None  # validate() has filled it
        return self.sliding_window if self.layer_types[layer] == SLIDING else None


# ---- Layers


class Pass(NamedTuple):
    """What one forward pass makes above the layers."""

    attend: dict[int | None, Attend]  # for each window that layers have
    rotary: tuple[Tensor, Tensor]  # cosines and sines, [B or 1, 1, T, D]
    cache: Cache | None


class Qwen2MLP(nn.Module):
    def __init__(self, config: Qwen2Config):
        super().__init__()
        C, inner = config.hidden_size, config.intermediate_size
        self.gate_proj = nn.Linear(C, inner, bias=False)
        self.up_proj = nn.Linear(C, inner, bias=False)
        self.down_proj = nn.Linear(inner, C, bias=False)
        self.act = activation(config.hidden_act)

    def forward(self, x: Tensor) -> Tensor:
        gate, x = project(x, self.gate_proj, self.up_proj)
        return project(self.act(gate) * x, self.down_proj)[0]


class Qwen2Attention(nn.Module):
    def __init__(self, config: Qwen2Config, layer: int):
        super().__init__()
        C, H, G, D = config.hidden_size, config.num_attention_heads, config.num_key_value_heads, config.head_dim
        assert G is not None and D is not None  # validate() has filled them
        self.q_proj = nn.Linear(C, H * D)
        self.k_proj = nn.Linear(C, G * D)
        self.v_proj = nn.Linear(C, G * D)
        self.o_proj = nn.Linear(H * D, C, bias=False)
        self.head_dim, self.layer, self.window, self.dropout = D, layer, config.window(layer), config.attention_dropout

    def forward(self, x: Tensor, this: Pass) -> Tensor:
        B, T, _ = x.shape
        q, k, v = (
            y.view(B, T, -1, self.head_dim).transpose(1, 2) for y in project(x, self.q_proj, self.k_proj, self.v_proj)
        )  # [B, H or G, T, D]
        q, k = apply_rotary(q, k, *this.rotary)
        if this.cache is not None:
            k, v = this.cache.append(self.layer, k, v, self.window)
        attend, dropout = this.attend[self.window], self.dropout if self.training else 0.0
        x = attend(q, k, v, scale=self.head_dim**-0.5, dropout=dropout)
        return project(x.transpose(1, 2).reshape(B, T, -1), self.o_proj)[0]


class Qwen2DecoderLayer(nn.Module):
    def __init__(self, config: Qwen2Config, layer: int):
        super().__init__()
        self.self_attn = Qwen2Attention(config, layer)
        self.mlp = Qwen2MLP(config)
        self.input_layernorm = nn.RMSNorm(config.hidden_size, config.rms_norm_eps)
        self.post_attention_layernorm = nn.RMSNorm(config.hidden_size, config.rms_norm_eps)

    def forward(self, x: Tensor, this: Pass) -> Tensor:
        x = x + self.self_attn(self.input_layernorm(x), this)
        return x + self.mlp(self.post_attention_layernorm(x))


# ---- Models


class Qwen2PreTrainedModel(Model):
    config_class, base_model_prefix, accepts_packed = Qwen2Config, "model", True
    config: Qwen2Config
    renames = ((r"\.rotary_emb\.inv_freq$", None),)  # a buffer of Transformers before 4.32
    prepared = r"layers\.\d+\.|^lm_head$"
    together = r"\.(q|k|v|gate|up)_proj$"
    outliers = r"\.down_proj$"
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


class Qwen2Model(Qwen2PreTrainedModel):
    def __init__(self, config: Qwen2Config):
        super().__init__(config)
        self.embed_tokens = nn.Embedding(config.vocab_size, config.hidden_size, padding_idx=config.pad_token_id)
        self.layers = nn.ModuleList(Qwen2DecoderLayer(config, i) for i in range(config.num_hidden_layers))
        self.norm = nn.RMSNorm(config.hidden_size, config.rms_norm_eps)
        self.windows = list(dict.fromkeys(config.window(i) for i in range(config.num_hidden_layers)))
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
        assert config.rope_parameters is not None and config.head_dim is not None  # validate() has filled them
        record = config.output_attentions if output_attentions is None else output_attentions
        attentions = [] if record else None
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
        attend = {}
        for window in self.windows:
            attend[window] = bind_attention(
                kernel,
                Q=T,
                K=T if cache is None else cache.key_length(T, window),
                past=past,
                causal=True,
                window=window,
                mask=attention_mask,
                device=device,
                record=attentions,
            )

        x = self.embed_tokens(input_ids) if inputs_embeds is None else inputs_embeds
        rotary = make_rotary(config.rope_parameters, config.head_dim, position_ids, attention_mask, x.dtype, longest)
        this = Pass(attend, rotary, cache)
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


class Qwen2ForCausalLM(Qwen2PreTrainedModel):
    tied = {"lm_head.weight": "model.embed_tokens.weight"}
    generate, generation_config = generate, generation_config

    def __init__(self, config: Qwen2Config):
        super().__init__(config)
        self.model = Qwen2Model(config)
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


class Qwen2ForSequenceClassification(Qwen2PreTrainedModel):
    def __init__(self, config: Qwen2Config):
        super().__init__(config)
        self.model = Qwen2Model(config)
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


class Qwen2ForTokenClassification(Qwen2PreTrainedModel):
    def __init__(self, config: Qwen2Config):
        super().__init__(config)
        self.model = Qwen2Model(config)
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


class Qwen2ForQuestionAnswering(Qwen2PreTrainedModel):
    base_model_prefix = "transformer"  # as published
    renames = (*Qwen2PreTrainedModel.renames, (r"^model\.", "transformer."))

    def __init__(self, config: Qwen2Config):
        super().__init__(config)
        self.transformer = Qwen2Model(config)
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
        decoded = self.transformer(
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
    "base": Qwen2Model,
    "causal-lm": Qwen2ForCausalLM,
    "sequence-classification": Qwen2ForSequenceClassification,
    "token-classification": Qwen2ForTokenClassification,
    "question-answering": Qwen2ForQuestionAnswering,
}
