"""MPNet: an encoder that is pre-trained on masked and permuted words, with relative positions in its attention.

Paper: Song et al., 2020, https://arxiv.org/abs/2004.09297
Reference code: https://github.com/microsoft/MPNet
Shapes: B batch, T tokens, C hidden_size, H heads, D = C / H, V vocab_size, N labels, L layers, S choices.

Positions start behind pad_token_id, as RoBERTa's; distances between tokens add a bias to the scores of every layer.
Different from Transformers: positions count from the first real token of the mask, so padding on the left changes
nothing; head_mask is honoured; relative_attention_num_buckets counts.
"""

import math
from dataclasses import dataclass
from typing import NamedTuple, cast

import torch
from torch import Tensor, nn
from torch.nn.functional import gelu
from torch.utils.checkpoint import checkpoint

from ..activations import activation
from ..arguments import check_inputs
from ..attention import Attend, bind_attention
from ..config import Config
from ..linear import activate, project
from ..losses import sequence_loss, span_loss, token_loss, vocabulary_loss
from ..model import Model
from ..outputs import (
    BaseModelOutputWithPooling,
    MaskedLMOutput,
    MultipleChoiceModelOutput,
    QuestionAnsweringModelOutput,
    SequenceClassifierOutput,
    TokenClassifierOutput,
)
from ..sequences import Packed, first_token, make_position_ids

# ---- Configuration


@dataclass(init=False)
class MPNetConfig(Config):
    model_type = "mpnet"

    vocab_size: int = 30527
    hidden_size: int = 768
    num_hidden_layers: int = 12
    num_attention_heads: int = 12
    intermediate_size: int = 3072
    hidden_act: str = "gelu"
    hidden_dropout_prob: float = 0.1
    attention_probs_dropout_prob: float = 0.1
    max_position_embeddings: int = 512
    initializer_range: float = 0.02
    layer_norm_eps: float = 1e-12
    relative_attention_num_buckets: int = 32
    pad_token_id: int = 1  # positions start behind it
    bos_token_id: int | None = 0
    eos_token_id: int | list[int] | None = 2

    def validate(self) -> None:
        super().validate()
        if self.num_attention_heads < 1 or self.hidden_size % self.num_attention_heads:
            raise ValueError(
                f"hidden_size ({self.hidden_size}) must be a multiple of num_attention_heads "
                f"({self.num_attention_heads})."
            )

    @property
    def longest_input(self) -> int:
        """Tokens of the longest input: the first positions are not used."""
        return self.max_position_embeddings - self.pad_token_id - 1


# ---- Layers


class Pass(NamedTuple):
    """What one forward pass makes above the layers and every layer reads."""

    attend: Attend
    bias: Tensor  # [1, H, T, T], or of the longest sequence of a packed batch
    head_mask: Tensor | None = None  # [L, H]


def distance_buckets(T: int, buckets: int, device: torch.device) -> Tensor:
    """[T, T]: which bias a query and a key share: near distances have one each, far ones, up to 128, few.

    The distances of T5, https://arxiv.org/abs/1910.10683.
    """
    places = torch.arange(T, device=device)
    distance = places[None, :] - places[:, None]  # of the key from the query
    half, far = buckets // 2, distance.abs()
    exact = half // 2
    steps = torch.log(far.clamp(min=1).float() / exact) / math.log(128 / exact) * (half - exact)
    coarse = (exact + steps.long()).clamp(max=half - 1)
    return (distance > 0).long() * half + torch.where(far < exact, far, coarse)


class MPNetEmbeddings(nn.Module):
    def __init__(self, config: MPNetConfig):
        super().__init__()
        C, padding = config.hidden_size, config.pad_token_id
        self.word_embeddings = nn.Embedding(config.vocab_size, C, padding_idx=padding)
        self.position_embeddings = nn.Embedding(config.max_position_embeddings, C, padding_idx=padding)
        self.LayerNorm = nn.LayerNorm(C, eps=config.layer_norm_eps)
        self.dropout = nn.Dropout(config.hidden_dropout_prob)

    def forward(self, input_ids: Tensor | None, position_ids: Tensor, inputs_embeds: Tensor | None) -> Tensor:
        x = self.word_embeddings(input_ids) if inputs_embeds is None else inputs_embeds
        return self.dropout(self.LayerNorm(x + self.position_embeddings(position_ids)))


class MPNetSelfAttention(nn.Module):
    def __init__(self, config: MPNetConfig, layer: int):
        super().__init__()
        C = config.hidden_size
        self.q = nn.Linear(C, C)
        self.k = nn.Linear(C, C)
        self.v = nn.Linear(C, C)
        self.o = nn.Linear(C, C)
        self.heads, self.layer, self.dropout = config.num_attention_heads, layer, config.attention_probs_dropout_prob

    def forward(self, x: Tensor, this: Pass) -> Tensor:
        B, T, C = x.shape
        q, k, v = (y.view(B, T, self.heads, -1).transpose(1, 2) for y in project(x, self.q, self.k, self.v))
        x = this.attend(
            q,
            k,
            v,
            scale=(C // self.heads) ** -0.5,
            dropout=self.dropout if self.training else 0.0,
            head_mask=None if this.head_mask is None else this.head_mask[self.layer],
            bias=this.bias,
        )  # [B, H, T, D]
        return project(x.transpose(1, 2).reshape(B, T, C), self.o)[0]


class MPNetAttention(nn.Module):
    def __init__(self, config: MPNetConfig, layer: int):
        super().__init__()
        self.attn = MPNetSelfAttention(config, layer)
        self.LayerNorm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        self.dropout = nn.Dropout(config.hidden_dropout_prob)

    def forward(self, x: Tensor, this: Pass) -> Tensor:
        return self.LayerNorm(self.dropout(self.attn(x, this)) + x)


class MPNetIntermediate(nn.Module):
    def __init__(self, config: MPNetConfig):
        super().__init__()
        self.dense = nn.Linear(config.hidden_size, config.intermediate_size)
        self.act = activation(config.hidden_act)

    def forward(self, x: Tensor) -> Tensor:
        return activate(self.dense, self.act, x)


class MPNetOutput(nn.Module):
    """Back to the hidden size, plus the residual, normalised."""

    def __init__(self, config: MPNetConfig):
        super().__init__()
        self.dense = nn.Linear(config.intermediate_size, config.hidden_size)
        self.LayerNorm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        self.dropout = nn.Dropout(config.hidden_dropout_prob)

    def forward(self, x: Tensor, residual: Tensor) -> Tensor:
        return self.LayerNorm(self.dropout(project(x, self.dense)[0]) + residual)


class MPNetLayer(nn.Module):
    def __init__(self, config: MPNetConfig, layer: int):
        super().__init__()
        self.attention = MPNetAttention(config, layer)
        self.intermediate = MPNetIntermediate(config)
        self.output = MPNetOutput(config)

    def forward(self, x: Tensor, this: Pass) -> Tensor:
        x = self.attention(x, this)
        return self.output(self.intermediate(x), residual=x)


class MPNetEncoder(nn.Module):
    def __init__(self, config: MPNetConfig):
        super().__init__()
        self.layer = nn.ModuleList(MPNetLayer(config, i) for i in range(config.num_hidden_layers))
        self.relative_attention_bias = nn.Embedding(config.relative_attention_num_buckets, config.num_attention_heads)

    def bias(self, T: int) -> Tensor:
        """[1, H, T, T]"""
        weight = self.relative_attention_bias.weight
        return self.relative_attention_bias(distance_buckets(T, len(weight), weight.device)).permute(2, 0, 1)[None]

    def forward(self, x: Tensor, this: Pass, keep: bool, checkpointing: bool = False) -> tuple[Tensor, ...]:
        """L + 1 tensors [B, T, C]: the input, then the output of every layer; unless keep, the last alone."""
        hidden_states = (x,)
        for layer in self.layer:
            x = cast(Tensor, checkpoint(layer, x, this, use_reentrant=False)) if checkpointing else layer(x, this)
            hidden_states = (*hidden_states, x) if keep else (x,)
        return hidden_states


class MPNetPooler(nn.Module):
    def __init__(self, config: MPNetConfig):
        super().__init__()
        self.dense = nn.Linear(config.hidden_size, config.hidden_size)

    def forward(self, x: Tensor) -> Tensor:
        """x: the first token of each sequence, [B, C]."""
        return torch.tanh(self.dense(x))


class MPNetLMHead(nn.Module):
    """Hidden states -> logits over the vocabulary. The bias stands under two names in checkpoints."""

    def __init__(self, config: MPNetConfig):
        super().__init__()
        self.dense = nn.Linear(config.hidden_size, config.hidden_size)
        self.layer_norm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        self.decoder = nn.Linear(config.hidden_size, config.vocab_size)
        self.bias = self.decoder.bias

    def forward(self, x: Tensor) -> Tensor:
        return self.decoder(self.layer_norm(activate(self.dense, gelu, x)))


class MPNetClassificationHead(nn.Module):
    def __init__(self, config: MPNetConfig):
        super().__init__()
        self.dense = nn.Linear(config.hidden_size, config.hidden_size)
        self.dropout = nn.Dropout(config.hidden_dropout_prob)
        self.out_proj = nn.Linear(config.hidden_size, config.num_labels)

    def forward(self, x: Tensor) -> Tensor:
        """x: the first token of each sequence, [B, C]."""
        return self.out_proj(self.dropout(torch.tanh(self.dense(self.dropout(x)))))


# ---- Models


class MPNetPreTrainedModel(Model):
    config_class, base_model_prefix, accepts_packed = MPNetConfig, "mpnet", True
    config: MPNetConfig
    renames = ((r"embeddings\.position_ids$", None),)  # a buffer of Transformers before 4.31
    prepared = r"encoder\.layer\.\d+\."
    together = r"\.attn\.[qkv]$"
    may_be_new = (r"^(mpnet\.)?pooler\.", r"^classifier\.", r"^qa_outputs\.", r"^lm_head\.")

    def init_weights(self, module: nn.Module) -> None:
        if isinstance(module, (nn.Linear, nn.Embedding)):
            module.weight.normal_(0.0, self.config.initializer_range)
        if isinstance(module, nn.Embedding) and module.padding_idx is not None:
            module.weight[module.padding_idx].zero_()
        if isinstance(module, nn.LayerNorm):
            module.weight.fill_(1.0)
        if isinstance(module, (nn.Linear, nn.LayerNorm, MPNetLMHead)) and module.bias is not None:
            module.bias.zero_()


class MPNetModel(MPNetPreTrainedModel):
    def __init__(self, config: MPNetConfig, add_pooling_layer: bool = True):
        super().__init__(config)
        self.embeddings = MPNetEmbeddings(config)
        self.encoder = MPNetEncoder(config)
        self.pooler = MPNetPooler(config) if add_pooling_layer else None
        self.post_init()

    def get_input_embeddings(self) -> nn.Module:
        return self.embeddings.word_embeddings

    def set_input_embeddings(self, value: nn.Module) -> None:
        self.embeddings.word_embeddings = value  # type: ignore[assignment]

    def forward(
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | Packed | None = None,
        position_ids: Tensor | None = None,
        inputs_embeds: Tensor | None = None,
        *,
        head_mask: Tensor | None = None,
        output_attentions: bool | None = None,
        output_hidden_states: bool | None = None,
    ) -> BaseModelOutputWithPooling:
        """input_ids [B, T], or inputs_embeds [B, T, C] in their place.

        attention_mask [B, T]: 1 = real token; see attention.dense_mask for other shapes; Packed for one row of
        concatenated sequences. head_mask [H] or [L, H]: 1 keeps a head, 0 silences it.
        output_*: None is what the config says.
        """
        B, T, device = check_inputs(input_ids, inputs_embeds)
        config, kernel = self.config, self.config.attn_implementation
        record = config.output_attentions if output_attentions is None else output_attentions
        attentions = [] if record else None
        if head_mask is not None:
            head_mask = head_mask.expand(config.num_hidden_layers, config.num_attention_heads)
        if position_ids is None:
            position_ids = make_position_ids(attention_mask, B, T, 0, device) + config.pad_token_id + 1
            if isinstance(attention_mask, Tensor) and attention_mask.dim() == 2:
                position_ids = position_ids.masked_fill(attention_mask == 0, config.pad_token_id)

        attend = bind_attention(kernel, Q=T, K=T, causal=False, mask=attention_mask, device=device, record=attentions)
        longest = max(attention_mask.lengths) if isinstance(attention_mask, Packed) else T
        x = self.embeddings(input_ids, position_ids, inputs_embeds)
        this = Pass(attend, self.encoder.bias(longest), head_mask)
        states = config.output_hidden_states if output_hidden_states is None else output_hidden_states
        hidden_states = self.encoder(x, this, states, self.gradient_checkpointing and self.training)
        x = hidden_states[-1]
        return BaseModelOutputWithPooling(
            last_hidden_state=x,
            pooler_output=None if self.pooler is None else self.pooler(first_token(x, attention_mask)),
            hidden_states=hidden_states if states else None,
            attentions=tuple(attentions) if attentions is not None else None,
        )


class MPNetForMaskedLM(MPNetPreTrainedModel):
    tied = {"lm_head.decoder.weight": "mpnet.embeddings.word_embeddings.weight"}

    def __init__(self, config: MPNetConfig):
        super().__init__(config)
        self.mpnet = MPNetModel(config, add_pooling_layer=False)
        self.lm_head = MPNetLMHead(config)
        self.post_init()

    def get_output_embeddings(self) -> nn.Module:
        return self.lm_head.decoder

    def set_output_embeddings(self, new_embeddings: nn.Module) -> None:
        self.lm_head.decoder = new_embeddings  # type: ignore[assignment]
        self.lm_head.bias = new_embeddings.bias  # type: ignore[assignment]

    def forward(
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | Packed | None = None,
        position_ids: Tensor | None = None,
        inputs_embeds: Tensor | None = None,
        labels: Tensor | None = None,
        *,
        head_mask: Tensor | None = None,
        output_attentions: bool | None = None,
        output_hidden_states: bool | None = None,
    ) -> MaskedLMOutput:
        """labels [B, T]: the words that stood there, -100 where none is asked for."""
        encoded = self.mpnet(
            input_ids,
            attention_mask,
            position_ids,
            inputs_embeds,
            head_mask=head_mask,
            output_attentions=output_attentions,
            output_hidden_states=output_hidden_states,
        )
        x, parts = encoded.last_hidden_state, self.loss_parts if self.training else 0
        loss, count, logits = vocabulary_loss(self.lm_head, x, labels, shifted=False, parts=parts)
        return MaskedLMOutput(loss, logits, encoded.hidden_states, encoded.attentions, loss_count=count)


class MPNetForSequenceClassification(MPNetPreTrainedModel):
    def __init__(self, config: MPNetConfig):
        super().__init__(config)
        self.mpnet = MPNetModel(config, add_pooling_layer=False)
        self.classifier = MPNetClassificationHead(config)
        self.post_init()

    def forward(
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | Packed | None = None,
        position_ids: Tensor | None = None,
        inputs_embeds: Tensor | None = None,
        labels: Tensor | None = None,
        *,
        head_mask: Tensor | None = None,
        output_attentions: bool | None = None,
        output_hidden_states: bool | None = None,
    ) -> SequenceClassifierOutput:
        """labels: [B] integers, or floats [B] or [B, N]; see losses.sequence_loss."""
        encoded = self.mpnet(
            input_ids,
            attention_mask,
            position_ids,
            inputs_embeds,
            head_mask=head_mask,
            output_attentions=output_attentions,
            output_hidden_states=output_hidden_states,
        )
        logits = self.classifier(first_token(encoded.last_hidden_state, attention_mask))  # [B, N]
        loss = count = None
        if labels is not None:
            loss, count = sequence_loss(logits, labels, self.config.problem_type)
        return SequenceClassifierOutput(loss, logits, encoded.hidden_states, encoded.attentions, loss_count=count)


class MPNetForMultipleChoice(MPNetPreTrainedModel):
    def __init__(self, config: MPNetConfig):
        super().__init__(config)
        self.mpnet = MPNetModel(config)
        self.dropout = nn.Dropout(config.hidden_dropout_prob)
        self.classifier = nn.Linear(config.hidden_size, 1)
        self.post_init()

    def forward(
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        position_ids: Tensor | None = None,
        inputs_embeds: Tensor | None = None,
        labels: Tensor | None = None,
        *,
        head_mask: Tensor | None = None,
        output_attentions: bool | None = None,
        output_hidden_states: bool | None = None,
    ) -> MultipleChoiceModelOutput:
        """All inputs have a dimension of choices, [B, S, T]; labels [B]: the right choice. logits [B, S]."""
        given = input_ids if input_ids is not None else inputs_embeds
        if given is None or given.dim() < 3:
            raise ValueError("Multiple choice takes input_ids of shape [B, S, T], or inputs_embeds of [B, S, T, C].")
        inputs = (input_ids, attention_mask, position_ids, inputs_embeds)
        encoded = self.mpnet(
            *(None if one is None else one.flatten(0, 1) for one in inputs),
            head_mask=head_mask,
            output_attentions=output_attentions,
            output_hidden_states=output_hidden_states,
        )
        logits = self.classifier(self.dropout(encoded.pooler_output)).view(given.shape[:2])  # [B, S]
        loss = count = None
        if labels is not None:
            loss, count = token_loss(logits, labels)
        return MultipleChoiceModelOutput(loss, logits, encoded.hidden_states, encoded.attentions, loss_count=count)


class MPNetForTokenClassification(MPNetPreTrainedModel):
    def __init__(self, config: MPNetConfig):
        super().__init__(config)
        self.mpnet = MPNetModel(config, add_pooling_layer=False)
        self.dropout = nn.Dropout(config.hidden_dropout_prob)
        self.classifier = nn.Linear(config.hidden_size, config.num_labels)
        self.post_init()

    def forward(
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | Packed | None = None,
        position_ids: Tensor | None = None,
        inputs_embeds: Tensor | None = None,
        labels: Tensor | None = None,
        *,
        head_mask: Tensor | None = None,
        output_attentions: bool | None = None,
        output_hidden_states: bool | None = None,
    ) -> TokenClassifierOutput:
        """labels [B, T], -100 where none."""
        encoded = self.mpnet(
            input_ids,
            attention_mask,
            position_ids,
            inputs_embeds,
            head_mask=head_mask,
            output_attentions=output_attentions,
            output_hidden_states=output_hidden_states,
        )
        logits = self.classifier(self.dropout(encoded.last_hidden_state))  # [B, T, N]
        loss = count = None
        if labels is not None:
            loss, count = token_loss(logits, labels)
        return TokenClassifierOutput(loss, logits, encoded.hidden_states, encoded.attentions, loss_count=count)


class MPNetForQuestionAnswering(MPNetPreTrainedModel):
    def __init__(self, config: MPNetConfig):
        super().__init__(config)
        self.mpnet = MPNetModel(config, add_pooling_layer=False)
        self.qa_outputs = nn.Linear(config.hidden_size, 2)
        self.post_init()

    def forward(
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | Packed | None = None,
        position_ids: Tensor | None = None,
        inputs_embeds: Tensor | None = None,
        start_positions: Tensor | None = None,
        end_positions: Tensor | None = None,
        *,
        head_mask: Tensor | None = None,
        output_attentions: bool | None = None,
        output_hidden_states: bool | None = None,
    ) -> QuestionAnsweringModelOutput:
        """start_positions, end_positions [B]: first and last token of the answer."""
        encoded = self.mpnet(
            input_ids,
            attention_mask,
            position_ids,
            inputs_embeds,
            head_mask=head_mask,
            output_attentions=output_attentions,
            output_hidden_states=output_hidden_states,
        )
        start, end = self.qa_outputs(encoded.last_hidden_state).unbind(-1)  # [B, T] each
        loss = count = None
        if start_positions is not None and end_positions is not None:
            loss, count = span_loss(start, end, start_positions, end_positions)
        return QuestionAnsweringModelOutput(
            loss, start, end, encoded.hidden_states, encoded.attentions, loss_count=count
        )


HEADS = {
    "base": MPNetModel,
    "masked-lm": MPNetForMaskedLM,
    "sequence-classification": MPNetForSequenceClassification,
    "multiple-choice": MPNetForMultipleChoice,
    "token-classification": MPNetForTokenClassification,
    "question-answering": MPNetForQuestionAnswering,
}
