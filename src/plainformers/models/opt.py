"""OPT and Galactica: a decoder that learns a vector for each position, with norms before its parts (at 350M behind).

Paper: Zhang et al., 2022, https://arxiv.org/abs/2205.01068; Galactica: https://arxiv.org/abs/2211.09085
Reference code: https://github.com/facebookresearch/metaseq
Shapes: B batch, T tokens, C hidden_size, E word_embed_proj_dim, H heads, D = C / H, V vocab_size, N labels, L layers.

Different from Transformers: a sequence's label is made from its last real token by the mask (without one, by
pad_token_id); head_mask, which it gave up, is honoured.
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
from ..linear import activate, project
from ..losses import sequence_loss, span_loss, vocabulary_loss
from ..model import Model
from ..outputs import (
    BaseModelOutputWithPast,
    CausalLMOutputWithPast,
    QuestionAnsweringModelOutput,
    SequenceClassifierOutputWithPast,
)
from ..sequences import Packed, blocks_of, last_token, make_position_ids, real_tokens

# ---- Configuration


@dataclass(init=False)
class OPTConfig(Config):
    model_type = "opt"
    attribute_map = {"initializer_range": "init_std"}

    vocab_size: int = 50_272
    hidden_size: int = 768
    num_hidden_layers: int = 12
    ffn_dim: int = 3072
    max_position_embeddings: int = 2048
    do_layer_norm_before: bool = True
    _remove_final_layer_norm: bool = False  # as in checkpoints trained before Transformers 4.20.1
    word_embed_proj_dim: int | None = None  # None: hidden_size; else words have so many numbers of their own
    dropout: float = 0.1
    attention_dropout: float = 0.0
    num_attention_heads: int = 12
    activation_function: str = "relu"
    layerdrop: float = 0.0  # how often a layer is left out in training
    init_std: float = 0.02
    use_cache: bool = True
    pad_token_id: int | None = 1
    bos_token_id: int | None = 2
    eos_token_id: int | list[int] | None = 2
    enable_bias: bool = True
    layer_norm_elementwise_affine: bool = True  # False: norms have no weights

    def validate(self) -> None:
        super().validate()
        C, H = self.hidden_size, self.num_attention_heads
        if H < 1 or C % H:
            raise ValueError(f"hidden_size ({C}) must be a multiple of num_attention_heads ({H}).")
        if not 0 <= self.layerdrop <= 1:
            raise ValueError(f"layerdrop is a probability, from 0 to 1, got {self.layerdrop}.")
        if self.pad_token_id is not None and not 0 <= self.pad_token_id < self.vocab_size:
            raise ValueError(f"pad_token_id is {self.pad_token_id}, of a vocabulary of {self.vocab_size}.")
        self.fill("word_embed_proj_dim", C)


# ---- Layers


class Pass(NamedTuple):
    """What one forward pass makes above the layers."""

    attend: Attend
    cache: Cache | None
    head_mask: Tensor | None  # [L, H]


class OPTAttention(nn.Module):
    def __init__(self, config: OPTConfig, layer: int):
        super().__init__()
        C, bias = config.hidden_size, config.enable_bias
        self.k_proj = nn.Linear(C, C, bias=bias)
        self.v_proj = nn.Linear(C, C, bias=bias)
        self.q_proj = nn.Linear(C, C, bias=bias)
        self.out_proj = nn.Linear(C, C, bias=bias)
        self.heads, self.layer, self.dropout = config.num_attention_heads, layer, config.attention_dropout

    def forward(self, x: Tensor, this: Pass) -> Tensor:
        B, T, C = x.shape
        q, k, v = (
            y.view(B, T, self.heads, -1).transpose(1, 2) for y in project(x, self.q_proj, self.k_proj, self.v_proj)
        )  # [B, H, T, D]
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
        return project(x.transpose(1, 2).reshape(B, T, C), self.out_proj)[0]


class OPTDecoderLayer(nn.Module):
    def __init__(self, config: OPTConfig, layer: int):
        super().__init__()
        C, affine = config.hidden_size, config.layer_norm_elementwise_affine
        self.self_attn = OPTAttention(config, layer)
        self.self_attn_layer_norm = nn.LayerNorm(C, elementwise_affine=affine)
        self.fc1 = nn.Linear(C, config.ffn_dim, bias=config.enable_bias)
        self.fc2 = nn.Linear(config.ffn_dim, C, bias=config.enable_bias)
        self.final_layer_norm = nn.LayerNorm(C, elementwise_affine=affine)
        self.act = activation(config.activation_function)
        self.dropout = nn.Dropout(config.dropout)
        self.before = config.do_layer_norm_before

    def feed_forward(self, x: Tensor) -> Tensor:
        return project(activate(self.fc1, self.act, x), self.fc2)[0]

    def forward(self, x: Tensor, this: Pass) -> Tensor:
        if self.before:
            x = x + self.dropout(self.self_attn(self.self_attn_layer_norm(x), this))
            return x + self.dropout(self.feed_forward(self.final_layer_norm(x)))
        x = self.self_attn_layer_norm(x + self.dropout(self.self_attn(x, this)))
        return self.final_layer_norm(x + self.dropout(self.feed_forward(x)))


class OPTDecoder(nn.Module):
    def __init__(self, config: OPTConfig):
        super().__init__()
        C, E = config.hidden_size, config.word_embed_proj_dim
        assert E is not None  # validate() has filled it
        self.embed_tokens = nn.Embedding(config.vocab_size, E, padding_idx=config.pad_token_id)
        self.embed_positions = nn.Embedding(config.max_position_embeddings + 2, C)  # the first two are never read
        self.project_out = nn.Linear(C, E, bias=False) if E != C else None
        self.project_in = nn.Linear(E, C, bias=False) if E != C else None
        self.final_layer_norm = None
        if config.do_layer_norm_before and not config._remove_final_layer_norm:
            self.final_layer_norm = nn.LayerNorm(C, elementwise_affine=config.layer_norm_elementwise_affine)
        self.layers = nn.ModuleList(OPTDecoderLayer(config, i) for i in range(config.num_hidden_layers))
        self.layerdrop = config.layerdrop

    def forward(
        self, x: Tensor, position_ids: Tensor, this: Pass, keep: bool, checkpointing: bool = False
    ) -> tuple[Tensor, ...]:
        """Of words x [B, T, E] L + 1 tensors [B, T, C], the last one [B, T, E]; unless keep, the last alone."""
        if self.project_in is not None:
            x = project(x, self.project_in)[0]
        x = x + self.embed_positions(position_ids + 2)
        hidden_states = (x,)
        for layer in self.layers:
            if not (self.training and self.layerdrop and torch.rand([]) < self.layerdrop):
                x = cast(Tensor, checkpoint(layer, x, this, use_reentrant=False)) if checkpointing else layer(x, this)
            hidden_states = (*hidden_states, x) if keep else ()
        if self.final_layer_norm is not None:
            x = self.final_layer_norm(x)
        if self.project_out is not None:
            x = project(x, self.project_out)[0]
        return (*hidden_states[:-1], x)


# ---- Models


class OPTPreTrainedModel(Model):
    config_class, base_model_prefix, accepts_packed = OPTConfig, "model", True
    config: OPTConfig
    renames = ((r"(^|\.)decoder\.version$", None),)  # a note in the first checkpoints
    prepared = r"decoder\.(layers\.\d+\.|project_)|^lm_head$"
    together = r"\.(q|k|v)_proj$"
    outliers = r"\.fc2$"
    may_be_new = (r"^lm_head\.", r"^score\.", r"^qa_outputs\.")

    def init_weights(self, module: nn.Module) -> None:
        if isinstance(module, (nn.Linear, nn.Embedding)):
            module.weight.normal_(0.0, self.config.init_std)
        if isinstance(module, nn.Embedding) and module.padding_idx is not None:
            module.weight[module.padding_idx].zero_()
        if isinstance(module, nn.LayerNorm) and module.weight is not None:
            module.weight.fill_(1.0)
        if isinstance(module, (nn.Linear, nn.LayerNorm)) and module.bias is not None:
            module.bias.zero_()


class OPTModel(OPTPreTrainedModel):
    def __init__(self, config: OPTConfig):
        super().__init__(config)
        self.decoder = OPTDecoder(config)
        self.post_init()

    def get_input_embeddings(self) -> nn.Module:
        return self.decoder.embed_tokens

    def set_input_embeddings(self, value: nn.Module) -> None:
        self.decoder.embed_tokens = value  # type: ignore[assignment]

    def forward(
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | Packed | None = None,
        past_key_values: Any = None,
        inputs_embeds: Tensor | None = None,
        use_cache: bool | None = None,
        position_ids: Tensor | None = None,
        *,
        head_mask: Tensor | None = None,
        output_attentions: bool | None = None,
        output_hidden_states: bool | None = None,
    ) -> BaseModelOutputWithPast:
        """input_ids [B, T], or inputs_embeds [B, T, E] in their place.

        attention_mask: 1 = real token, over the tokens in the cache and these; attention.dense_mask has other
        shapes; Packed for one row of concatenated sequences, which position_ids that start anew tell apart, too.
        past_key_values, use_cache: see cache.py. head_mask [H] or [L, H]: 1 keeps a head, 0 silences it. output_*: None
        is what the config says.
        """
        B, T, device = check_inputs(input_ids, inputs_embeds)
        config, kernel = self.config, self.config.attn_implementation
        record = config.output_attentions if output_attentions is None else output_attentions
        attentions = [] if record else None
        again = self.gradient_checkpointing and self.training  # which runs layers twice
        wanted = config.use_cache if use_cache is None else use_cache
        cache = None if again else as_cache(past_key_values, wanted and not isinstance(attention_mask, Packed))
        past, K = (0, T) if cache is None else (cache.get_seq_length(), cache.key_length(T))
        if position_ids is None:
            position_ids = make_position_ids(attention_mask, B, T, past, device)
        elif attention_mask is None and isinstance(past, int) and past == 0:
            attention_mask = blocks_of(position_ids)
        attend = bind_attention(
            kernel, Q=T, K=K, past=past, causal=True, mask=attention_mask, device=device, record=attentions
        )
        if head_mask is not None:
            head_mask = head_mask.expand(config.num_hidden_layers, config.num_attention_heads)

        x = self.decoder.embed_tokens(input_ids) if inputs_embeds is None else inputs_embeds
        states = config.output_hidden_states if output_hidden_states is None else output_hidden_states
        hidden_states = self.decoder(x, position_ids, Pass(attend, cache, head_mask), states, again)
        return BaseModelOutputWithPast(
            last_hidden_state=hidden_states[-1],
            past_key_values=cache,
            hidden_states=hidden_states if states else None,
            attentions=tuple(attentions) if attentions is not None else None,
        )


class OPTForCausalLM(OPTPreTrainedModel):
    tied = {"lm_head.weight": "model.decoder.embed_tokens.weight"}
    generate, generation_config = generate, generation_config

    def __init__(self, config: OPTConfig):
        super().__init__(config)
        assert config.word_embed_proj_dim is not None  # validate() has filled it
        self.model = OPTModel(config)
        self.lm_head = nn.Linear(config.word_embed_proj_dim, config.vocab_size, bias=False)
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
        past_key_values: Any = None,
        inputs_embeds: Tensor | None = None,
        labels: Tensor | None = None,
        use_cache: bool | None = None,
        position_ids: Tensor | None = None,
        logits_to_keep: int | Tensor = 0,
        *,
        head_mask: Tensor | None = None,
        output_attentions: bool | None = None,
        output_hidden_states: bool | None = None,
    ) -> CausalLMOutputWithPast:
        """labels [B, T]: the input_ids themselves, -100 where none; logits_to_keep: logits of the last n tokens."""
        decoded = self.model(
            input_ids,
            attention_mask,
            past_key_values,
            inputs_embeds,
            False if labels is not None and use_cache is None else use_cache,
            position_ids,
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


class OPTForSequenceClassification(OPTPreTrainedModel):
    def __init__(self, config: OPTConfig):
        super().__init__(config)
        assert config.word_embed_proj_dim is not None  # validate() has filled it
        self.model = OPTModel(config)
        self.score = nn.Linear(config.word_embed_proj_dim, config.num_labels, bias=False)
        self.post_init()

    def forward(
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | Packed | None = None,
        past_key_values: Any = None,
        inputs_embeds: Tensor | None = None,
        labels: Tensor | None = None,
        use_cache: bool | None = None,
        position_ids: Tensor | None = None,
        *,
        head_mask: Tensor | None = None,
        output_attentions: bool | None = None,
        output_hidden_states: bool | None = None,
    ) -> SequenceClassifierOutputWithPast:
        """labels: [B] integers, or floats [B] or [B, N]; see losses.sequence_loss. logits [B, N]."""
        decoded = self.model(
            input_ids,
            attention_mask,
            past_key_values,
            inputs_embeds,
            use_cache,
            position_ids,
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


class OPTForQuestionAnswering(OPTPreTrainedModel):
    def __init__(self, config: OPTConfig):
        super().__init__(config)
        assert config.word_embed_proj_dim is not None  # validate() has filled it
        self.model = OPTModel(config)
        self.qa_outputs = nn.Linear(config.word_embed_proj_dim, 2)
        self.post_init()

    def forward(
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | Packed | None = None,
        past_key_values: Any = None,
        inputs_embeds: Tensor | None = None,
        start_positions: Tensor | None = None,
        end_positions: Tensor | None = None,
        use_cache: bool | None = None,
        position_ids: Tensor | None = None,
        *,
        head_mask: Tensor | None = None,
        output_attentions: bool | None = None,
        output_hidden_states: bool | None = None,
    ) -> QuestionAnsweringModelOutput:
        """start_positions, end_positions [B]: the answer's first and last token."""
        decoded = self.model(
            input_ids,
            attention_mask,
            past_key_values,
            inputs_embeds,
            use_cache,
            position_ids,
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
    "base": OPTModel,
    "causal-lm": OPTForCausalLM,
    "sequence-classification": OPTForSequenceClassification,
    "question-answering": OPTForQuestionAnswering,
}
