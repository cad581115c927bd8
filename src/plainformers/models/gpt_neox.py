"""GPT-NeoX and Pythia: a decoder with partial rotary positions, whose attention and feed-forward part read one input.

Paper: Black et al., 2022, https://arxiv.org/abs/2204.06745; Pythia: https://arxiv.org/abs/2304.01373
Reference code: https://github.com/EleutherAI/gpt-neox
Shapes: B batch, T tokens, C hidden_size, H heads, D = C / H, V vocab_size, N labels, L layers.

Different from Transformers: positions count from the first real token; a sequence's label is made from its last real
token by the mask (without one, by pad_token_id); head_mask, which it gave up, is honoured.
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
from ..linear import activate, project
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


# fields of Transformers 4 -> their names in rope_parameters, of 5
ROTARY = {"rotary_pct": "partial_rotary_factor", "rotary_emb_base": "rope_theta"}


@dataclass(init=False)
class GPTNeoXConfig(Config):
    model_type = "gpt_neox"
    attribute_map = {
        "partial_rotary_factor": "rotary_pct",
        "rope_scaling": "rope_parameters",
        "rope_theta": "rotary_emb_base",
    }

    vocab_size: int = 50_432
    hidden_size: int = 6144
    num_hidden_layers: int = 44
    num_attention_heads: int = 64
    intermediate_size: int = 24_576
    hidden_act: str = "gelu"
    rotary_pct: float = 0.25  # of a head's dimensions, the first, that are turned
    rotary_emb_base: float = 10_000
    attention_dropout: float = 0.0
    hidden_dropout: float = 0.0
    classifier_dropout: float = 0.1  # of token classification
    max_position_embeddings: int = 2048
    initializer_range: float = 0.02
    layer_norm_eps: float = 1e-5
    use_cache: bool = True
    bos_token_id: int | None = 0
    eos_token_id: int | list[int] | None = 2
    pad_token_id: int | None = None
    tie_word_embeddings: bool = False
    use_parallel_residual: bool = True  # False: the feed-forward part reads what attention made
    rope_parameters: dict[str, Any] | None = None  # see rope.py
    attention_bias: bool = True
    is_decoder: bool = False  # changes nothing

    def __setattr__(self, name: str, value: Any) -> None:
        super().__setattr__(name, value)
        name = ROTARY.get(self.attribute_map.get(name, name), "")
        if name and self.rope_parameters is not None:
            super().__setattr__("rope_parameters", self.rope_parameters | {name: value})

    def validate(self) -> None:
        super().validate()
        C, H = self.hidden_size, self.num_attention_heads
        if H < 1 or C % H:
            raise ValueError(f"hidden_size ({C}) must be a multiple of num_attention_heads ({H}).")
        known = {"rope_theta": self.rotary_emb_base, "partial_rotary_factor": self.rotary_pct}
        rope = read_rope(self.rope_parameters, self.max_position_embeddings, **known)
        R = int(C // H * rope["partial_rotary_factor"])
        if R < 2 or R % 2:
            raise ValueError(f"rotary_pct must leave an even number of {C // H} dimensions to turn, not {R}.")
        super().__setattr__("rotary_pct", rope["partial_rotary_factor"])
        super().__setattr__("rotary_emb_base", rope["rope_theta"])
        super().__setattr__("rope_parameters", rope)


# ---- Layers


class Pass(NamedTuple):
    """What one forward pass makes above the layers."""

    attend: Attend
    rotary: tuple[Tensor, Tensor]  # cosines and sines, [B or 1, 1, T, D]
    cache: Cache | None
    head_mask: Tensor | None  # [L, H]


class GPTNeoXMLP(nn.Module):
    def __init__(self, config: GPTNeoXConfig):
        super().__init__()
        self.dense_h_to_4h = nn.Linear(config.hidden_size, config.intermediate_size)
        self.dense_4h_to_h = nn.Linear(config.intermediate_size, config.hidden_size)
        self.act = activation(config.hidden_act)

    def forward(self, x: Tensor) -> Tensor:
        return project(activate(self.dense_h_to_4h, self.act, x), self.dense_4h_to_h)[0]


class GPTNeoXAttention(nn.Module):
    def __init__(self, config: GPTNeoXConfig, layer: int):
        super().__init__()
        C, H = config.hidden_size, config.num_attention_heads
        self.query_key_value = nn.Linear(C, 3 * C, bias=config.attention_bias)  # head by head
        self.dense = nn.Linear(C, C, bias=config.attention_bias)
        self.heads, self.layer, self.dropout = H, layer, config.attention_dropout

    def forward(self, x: Tensor, this: Pass) -> Tensor:
        B, T, C = x.shape
        x = project(x, self.query_key_value)[0].view(B, T, self.heads, 3, -1)
        q, k, v = x.transpose(1, 2).unbind(3)  # [B, H, T, D]
        q, k = apply_rotary(q, k, *this.rotary)
        if this.cache is not None:
            k, v = this.cache.append(self.layer, k, v)
        x = this.attend(
            q,
            k,
            v,
            scale=(C // self.heads) ** -0.5,
            dropout=self.dropout if self.training else 0.0,
            head_mask=None if this.head_mask is None else this.head_mask[self.layer],
        )
        return project(x.transpose(1, 2).reshape(B, T, C), self.dense)[0]


class GPTNeoXLayer(nn.Module):
    def __init__(self, config: GPTNeoXConfig, layer: int):
        super().__init__()
        C, eps = config.hidden_size, config.layer_norm_eps
        self.input_layernorm = nn.LayerNorm(C, eps=eps)
        self.post_attention_layernorm = nn.LayerNorm(C, eps=eps)
        self.attention = GPTNeoXAttention(config, layer)
        self.mlp = GPTNeoXMLP(config)
        self.dropout = nn.Dropout(config.hidden_dropout)
        self.parallel = config.use_parallel_residual

    def forward(self, x: Tensor, this: Pass) -> Tensor:
        attended = x + self.dropout(self.attention(self.input_layernorm(x), this))
        read = x if self.parallel else attended
        return attended + self.dropout(self.mlp(self.post_attention_layernorm(read)))


# ---- Models


class GPTNeoXPreTrainedModel(Model):
    config_class, base_model_prefix, accepts_packed = GPTNeoXConfig, "gpt_neox", True
    config: GPTNeoXConfig
    # buffers of older checkpoints; the name that Transformers 5 has in memory
    renames = ((r"\.attention\.(bias|masked_bias|rotary_emb\.inv_freq)$", None), (r"^lm_head\.", "embed_out."))
    prepared = r"layers\.\d+\.|^embed_out$"
    outliers = r"\.dense_4h_to_h$"
    may_be_new = (r"^embed_out\.", r"^score\.", r"^classifier\.", r"^qa_outputs\.")

    def init_weights(self, module: nn.Module) -> None:
        if isinstance(module, (nn.Linear, nn.Embedding)):
            module.weight.normal_(0.0, self.config.initializer_range)
        if isinstance(module, nn.LayerNorm):
            module.weight.fill_(1.0)
        if isinstance(module, (nn.Linear, nn.LayerNorm)) and module.bias is not None:
            module.bias.zero_()


class GPTNeoXModel(GPTNeoXPreTrainedModel):
    def __init__(self, config: GPTNeoXConfig):
        super().__init__(config)
        self.embed_in = nn.Embedding(config.vocab_size, config.hidden_size)
        self.emb_dropout = nn.Dropout(config.hidden_dropout)
        self.layers = nn.ModuleList(GPTNeoXLayer(config, i) for i in range(config.num_hidden_layers))
        self.final_layer_norm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        self.post_init()

    def get_input_embeddings(self) -> nn.Module:
        return self.embed_in

    def set_input_embeddings(self, value: nn.Module) -> None:
        self.embed_in = value  # type: ignore[assignment]

    def forward(
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | Packed | None = None,
        position_ids: Tensor | None = None,
        inputs_embeds: Tensor | None = None,
        past_key_values: Any = None,
        use_cache: bool | None = None,
        *,
        head_mask: Tensor | None = None,
        output_attentions: bool | None = None,
        output_hidden_states: bool | None = None,
    ) -> BaseModelOutputWithPast:
        """input_ids [B, T], or inputs_embeds [B, T, C] in their place.

        attention_mask: 1 = real token, over the tokens in the cache and these; attention.dense_mask has other
        shapes; Packed for one row of concatenated sequences, which position_ids that start anew tell apart, too.
        past_key_values, use_cache: see cache.py. head_mask [H] or [L, H]: 1 keeps a head, 0 silences it. output_*: None
        is what the config says.
        """
        B, T, device = check_inputs(input_ids, inputs_embeds)
        config, kernel = self.config, self.config.attn_implementation
        assert config.rope_parameters is not None  # validate() has filled it
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
        attend = bind_attention(
            kernel, Q=T, K=K, past=past, causal=True, mask=attention_mask, device=device, record=attentions
        )

        if head_mask is not None:
            head_mask = head_mask.expand(config.num_hidden_layers, config.num_attention_heads)

        x = self.emb_dropout(self.embed_in(input_ids) if inputs_embeds is None else inputs_embeds)
        D = config.hidden_size // config.num_attention_heads
        rotary = make_rotary(config.rope_parameters, D, position_ids, attention_mask, x.dtype, longest)
        this = Pass(attend, rotary, cache, head_mask)
        states = config.output_hidden_states if output_hidden_states is None else output_hidden_states
        hidden_states = (x,)
        for layer in self.layers:
            x = cast(Tensor, checkpoint(layer, x, this, use_reentrant=False)) if again else layer(x, this)
            hidden_states = (*hidden_states, x) if states else ()
        x = self.final_layer_norm(x)
        return BaseModelOutputWithPast(
            last_hidden_state=x,
            past_key_values=cache,
            hidden_states=(*hidden_states[:-1], x) if states else None,
            attentions=tuple(attentions) if attentions is not None else None,
        )


class GPTNeoXForCausalLM(GPTNeoXPreTrainedModel):
    tied = {"embed_out.weight": "gpt_neox.embed_in.weight"}
    generate, generation_config = generate, generation_config

    def __init__(self, config: GPTNeoXConfig):
        super().__init__(config)
        self.gpt_neox = GPTNeoXModel(config)
        self.embed_out = nn.Linear(config.hidden_size, config.vocab_size, bias=False)
        self.post_init()

    def get_output_embeddings(self) -> nn.Module:
        return self.embed_out

    def set_output_embeddings(self, new_embeddings: nn.Module) -> None:
        self.embed_out = cast(nn.Linear, new_embeddings)

    def to_logits(self, x: Tensor) -> Tensor:
        """x [..., C] -> [..., V]."""
        return project(x, self.embed_out)[0]

    def forward(
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | Packed | None = None,
        position_ids: Tensor | None = None,
        inputs_embeds: Tensor | None = None,
        past_key_values: Any = None,
        labels: Tensor | None = None,
        use_cache: bool | None = None,
        logits_to_keep: int | Tensor = 0,
        *,
        head_mask: Tensor | None = None,
        output_attentions: bool | None = None,
        output_hidden_states: bool | None = None,
    ) -> CausalLMOutputWithPast:
        """labels [B, T]: the input_ids themselves, -100 where none; logits_to_keep: logits of the last n tokens."""
        decoded = self.gpt_neox(
            input_ids,
            attention_mask,
            position_ids,
            inputs_embeds,
            past_key_values,
            False if labels is not None and use_cache is None else use_cache,
            head_mask=head_mask,
            output_attentions=output_attentions,
            output_hidden_states=output_hidden_states,
        )
        keep = slice(-logits_to_keep, None) if isinstance(logits_to_keep, int) else logits_to_keep
        x, parts = decoded.last_hidden_state[:, keep], self.loss_parts if self.training else 0
        loss, count, logits = vocabulary_loss(self.to_logits, x, labels, shifted=True, parts=parts)
        return CausalLMOutputWithPast(
            loss, logits, decoded.past_key_values, decoded.hidden_states, decoded.attentions, loss_count=count
        )


class GPTNeoXForSequenceClassification(GPTNeoXPreTrainedModel):
    def __init__(self, config: GPTNeoXConfig):
        super().__init__(config)
        self.gpt_neox = GPTNeoXModel(config)
        self.score = nn.Linear(config.hidden_size, config.num_labels, bias=False)
        self.post_init()

    def forward(
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | Packed | None = None,
        position_ids: Tensor | None = None,
        inputs_embeds: Tensor | None = None,
        past_key_values: Any = None,
        labels: Tensor | None = None,
        use_cache: bool | None = None,
        *,
        head_mask: Tensor | None = None,
        output_attentions: bool | None = None,
        output_hidden_states: bool | None = None,
    ) -> SequenceClassifierOutputWithPast:
        """labels: [B] integers, or floats [B] or [B, N]; see losses.sequence_loss. logits [B, N]."""
        decoded = self.gpt_neox(
            input_ids,
            attention_mask,
            position_ids,
            inputs_embeds,
            past_key_values,
            use_cache,
            head_mask=head_mask,
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


class GPTNeoXForTokenClassification(GPTNeoXPreTrainedModel):
    def __init__(self, config: GPTNeoXConfig):
        super().__init__(config)
        self.gpt_neox = GPTNeoXModel(config)
        self.dropout = nn.Dropout(config.classifier_dropout)
        self.classifier = nn.Linear(config.hidden_size, config.num_labels)
        self.post_init()

    def forward(
        self,
        input_ids: Tensor | None = None,
        past_key_values: Any = None,
        attention_mask: Tensor | Packed | None = None,
        token_type_ids: Tensor | None = None,
        position_ids: Tensor | None = None,
        inputs_embeds: Tensor | None = None,
        labels: Tensor | None = None,
        use_cache: bool | None = None,
        *,
        head_mask: Tensor | None = None,
        output_attentions: bool | None = None,
        output_hidden_states: bool | None = None,
    ) -> TokenClassifierOutput:
        """labels [B, T]: -100 where none is asked for. logits [B, T, N]. There are no token types."""
        decoded = self.gpt_neox(
            input_ids,
            attention_mask,
            position_ids,
            inputs_embeds,
            past_key_values,
            use_cache,
            head_mask=head_mask,
            output_attentions=output_attentions,
            output_hidden_states=output_hidden_states,
        )
        logits = self.classifier(self.dropout(decoded.last_hidden_state))
        loss = count = None
        if labels is not None:
            loss, count = token_loss(logits, labels)
        return TokenClassifierOutput(loss, logits, decoded.hidden_states, decoded.attentions, loss_count=count)


class GPTNeoXForQuestionAnswering(GPTNeoXPreTrainedModel):
    def __init__(self, config: GPTNeoXConfig):
        super().__init__(config)
        self.gpt_neox = GPTNeoXModel(config)
        self.qa_outputs = nn.Linear(config.hidden_size, 2)
        self.post_init()

    def forward(
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | Packed | None = None,
        token_type_ids: Tensor | None = None,
        position_ids: Tensor | None = None,
        inputs_embeds: Tensor | None = None,
        start_positions: Tensor | None = None,
        end_positions: Tensor | None = None,
        *,
        head_mask: Tensor | None = None,
        output_attentions: bool | None = None,
        output_hidden_states: bool | None = None,
    ) -> QuestionAnsweringModelOutput:
        """start_positions, end_positions [B]: the answer's first and last token. There are no token types."""
        decoded = self.gpt_neox(
            input_ids,
            attention_mask,
            position_ids,
            inputs_embeds,
            head_mask=head_mask,
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
    "base": GPTNeoXModel,
    "causal-lm": GPTNeoXForCausalLM,
    "sequence-classification": GPTNeoXForSequenceClassification,
    "token-classification": GPTNeoXForTokenClassification,
    "question-answering": GPTNeoXForQuestionAnswering,
}
