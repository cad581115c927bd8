"""ALBERT: BERT with one layer's weights for all layers, and small embeddings that are mapped to the hidden size.

Paper: Lan et al., 2019, https://arxiv.org/abs/1909.11942
Reference code: https://github.com/google-research/albert/blob/master/modeling.py
Shapes: B batch, T tokens, E embedding_size, C hidden_size, H heads, D = C / H, V vocab_size, N labels, L layers, S
choices.

A layer of the model is one of num_hidden_groups groups, each of inner_group_num layers with weights of their own.
Different from Transformers: positions count from the first real token, so padding on the left changes nothing, and the
pooler reads that token; head_mask is honoured.
"""

from dataclasses import dataclass
from typing import NamedTuple, cast

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from ..activations import activation
from ..arguments import check_inputs
from ..attention import Attend, bind_attention
from ..config import Config
from ..linear import activate, project
from ..losses import sequence_loss, span_loss, token_loss, vocabulary_loss
from ..model import Model
from ..outputs import (
    AlbertForPreTrainingOutput,
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
class AlbertConfig(Config):
    model_type = "albert"

    vocab_size: int = 30000
    embedding_size: int = 128
    hidden_size: int = 4096
    num_hidden_layers: int = 12
    num_hidden_groups: int = 1
    num_attention_heads: int = 64
    intermediate_size: int = 16384
    inner_group_num: int = 1
    hidden_act: str = "gelu_new"
    hidden_dropout_prob: float = 0.0
    attention_probs_dropout_prob: float = 0.0
    max_position_embeddings: int = 512
    type_vocab_size: int = 2
    position_embedding_type: str = "absolute"
    initializer_range: float = 0.02
    layer_norm_eps: float = 1e-12
    classifier_dropout_prob: float = 0.1
    pad_token_id: int | None = 0
    bos_token_id: int | None = 2
    eos_token_id: int | list[int] | None = 3

    def validate(self) -> None:
        super().validate()
        if self.num_attention_heads < 1 or self.hidden_size % self.num_attention_heads:
            raise ValueError(
                f"hidden_size ({self.hidden_size}) must be a multiple of num_attention_heads "
                f"({self.num_attention_heads})."
            )
        if self.position_embedding_type != "absolute":
            raise ValueError(f"position_embedding_type must be 'absolute', got {self.position_embedding_type!r}.")
        if not 1 <= self.num_hidden_groups <= self.num_hidden_layers:
            raise ValueError(
                f"num_hidden_groups ({self.num_hidden_groups}) must be from 1 to num_hidden_layers "
                f"({self.num_hidden_layers})."
            )


# ---- Layers


class Pass(NamedTuple):
    """What one forward pass makes above the layers and every layer reads."""

    attend: Attend
    head_mask: Tensor | None = None  # [L, H]


class AlbertEmbeddings(nn.Module):
    def __init__(self, config: AlbertConfig):
        super().__init__()
        E = config.embedding_size
        self.word_embeddings = nn.Embedding(config.vocab_size, E, padding_idx=config.pad_token_id)
        self.position_embeddings = nn.Embedding(config.max_position_embeddings, E)
        self.token_type_embeddings = nn.Embedding(config.type_vocab_size, E)
        self.LayerNorm = nn.LayerNorm(E, eps=config.layer_norm_eps)
        self.dropout = nn.Dropout(config.hidden_dropout_prob)

    def forward(
        self,
        input_ids: Tensor | None,
        token_type_ids: Tensor | None,
        position_ids: Tensor,
        inputs_embeds: Tensor | None,
    ) -> Tensor:
        x = self.word_embeddings(input_ids) if inputs_embeds is None else inputs_embeds
        types = (
            self.token_type_embeddings.weight[0]
            if token_type_ids is None
            else self.token_type_embeddings(token_type_ids)
        )
        x = x + types + self.position_embeddings(position_ids)
        return self.dropout(self.LayerNorm(x))


class AlbertAttention(nn.Module):
    def __init__(self, config: AlbertConfig):
        super().__init__()
        C = config.hidden_size
        self.query = nn.Linear(C, C)
        self.key = nn.Linear(C, C)
        self.value = nn.Linear(C, C)
        self.dense = nn.Linear(C, C)
        self.LayerNorm = nn.LayerNorm(C, eps=config.layer_norm_eps)
        self.output_dropout = nn.Dropout(config.hidden_dropout_prob)
        self.heads, self.dropout = config.num_attention_heads, config.attention_probs_dropout_prob

    def forward(self, x: Tensor, this: Pass, depth: int) -> Tensor:
        B, T, C = x.shape
        q, k, v = (
            y.view(B, T, self.heads, -1).transpose(1, 2) for y in project(x, self.query, self.key, self.value)
        )  # [B, H, T, D]
        y = this.attend(
            q,
            k,
            v,
            scale=(C // self.heads) ** -0.5,
            dropout=self.dropout if self.training else 0.0,
            head_mask=None if this.head_mask is None else this.head_mask[depth],
        )
        y = y.transpose(1, 2).reshape(B, T, C)
        return self.LayerNorm(x + self.output_dropout(project(y, self.dense)[0]))


class AlbertLayer(nn.Module):
    def __init__(self, config: AlbertConfig):
        super().__init__()
        C = config.hidden_size
        self.full_layer_layer_norm = nn.LayerNorm(C, eps=config.layer_norm_eps)
        self.attention = AlbertAttention(config)
        self.ffn = nn.Linear(C, config.intermediate_size)
        self.ffn_output = nn.Linear(config.intermediate_size, C)
        self.act = activation(config.hidden_act)

    def forward(self, x: Tensor, this: Pass, depth: int) -> Tensor:
        """depth: which of the model's L layers this is now."""
        x = self.attention(x, this, depth)
        return self.full_layer_layer_norm(project(activate(self.ffn, self.act, x), self.ffn_output)[0] + x)


class AlbertLayerGroup(nn.Module):
    def __init__(self, config: AlbertConfig):
        super().__init__()
        self.albert_layers = nn.ModuleList(AlbertLayer(config) for _ in range(config.inner_group_num))


class AlbertTransformer(nn.Module):
    def __init__(self, config: AlbertConfig):
        super().__init__()
        self.embedding_hidden_mapping_in = nn.Linear(config.embedding_size, config.hidden_size)
        self.albert_layer_groups = nn.ModuleList(AlbertLayerGroup(config) for _ in range(config.num_hidden_groups))
        self.layers = config.num_hidden_layers

    def forward(self, x: Tensor, this: Pass, keep: bool, checkpointing: bool = False) -> tuple[Tensor, ...]:
        """Tensors [B, T, C]: the mapped embeddings, then every layer's output, inner ones too; or the last alone."""
        x = project(x, self.embedding_hidden_mapping_in)[0]
        hidden_states = (x,)
        groups = len(self.albert_layer_groups)
        for depth in range(self.layers):
            group = cast(AlbertLayerGroup, self.albert_layer_groups[depth * groups // self.layers])
            for layer in group.albert_layers:
                if checkpointing:
                    x = cast(Tensor, checkpoint(layer, x, this, depth, use_reentrant=False))
                else:
                    x = layer(x, this, depth)
                hidden_states = (*hidden_states, x) if keep else (x,)
        return hidden_states


class AlbertMLMHead(nn.Module):
    """Hidden states -> logits over the vocabulary. The bias stands under two names in checkpoints."""

    def __init__(self, config: AlbertConfig):
        super().__init__()
        self.dense = nn.Linear(config.hidden_size, config.embedding_size)
        self.act = activation(config.hidden_act)
        self.LayerNorm = nn.LayerNorm(config.embedding_size, eps=config.layer_norm_eps)
        self.decoder = nn.Linear(config.embedding_size, config.vocab_size)
        self.bias = self.decoder.bias

    def forward(self, x: Tensor) -> Tensor:
        return self.decoder(self.LayerNorm(activate(self.dense, self.act, x)))


class AlbertSOPHead(nn.Module):
    """Whether two segments stand in their order."""

    def __init__(self, config: AlbertConfig):
        super().__init__()
        self.dropout = nn.Dropout(config.classifier_dropout_prob)
        self.classifier = nn.Linear(config.hidden_size, config.num_labels)

    def forward(self, x: Tensor) -> Tensor:
        return self.classifier(self.dropout(x))


# ---- Models


class AlbertPreTrainedModel(Model):
    config_class, base_model_prefix, accepts_packed = AlbertConfig, "albert", True
    config: AlbertConfig
    renames = ((r"embeddings\.position_ids$", None),)  # a buffer of Transformers before 4.31
    prepared = r"encoder\."
    together = r"\.attention\.(query|key|value)$"
    may_be_new = (r"^(albert\.)?pooler\.", r"^classifier\.", r"^qa_outputs\.", r"^predictions\.", r"^sop_classifier\.")

    def init_weights(self, module: nn.Module) -> None:
        if isinstance(module, (nn.Linear, nn.Embedding)):
            module.weight.normal_(0.0, self.config.initializer_range)
        if isinstance(module, nn.Embedding) and module.padding_idx is not None:
            module.weight[module.padding_idx].zero_()
        if isinstance(module, nn.LayerNorm):
            module.weight.fill_(1.0)
        if isinstance(module, (nn.Linear, nn.LayerNorm, AlbertMLMHead)) and module.bias is not None:
            module.bias.zero_()


class AlbertModel(AlbertPreTrainedModel):
    def __init__(self, config: AlbertConfig, add_pooling_layer: bool = True):
        super().__init__(config)
        self.embeddings = AlbertEmbeddings(config)
        self.encoder = AlbertTransformer(config)
        self.pooler = nn.Linear(config.hidden_size, config.hidden_size) if add_pooling_layer else None
        self.post_init()

    def get_input_embeddings(self) -> nn.Module:
        return self.embeddings.word_embeddings

    def set_input_embeddings(self, value: nn.Module) -> None:
        self.embeddings.word_embeddings = value  # type: ignore[assignment]

    def forward(
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | Packed | None = None,
        token_type_ids: Tensor | None = None,
        position_ids: Tensor | None = None,
        inputs_embeds: Tensor | None = None,
        *,
        head_mask: Tensor | None = None,
        output_attentions: bool | None = None,
        output_hidden_states: bool | None = None,
    ) -> BaseModelOutputWithPooling:
        """input_ids [B, T], or inputs_embeds [B, T, E] in their place; token_type_ids [B, T], 0 or 1.

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
            position_ids = make_position_ids(attention_mask, B, T, 0, device)

        attend = bind_attention(kernel, Q=T, K=T, causal=False, mask=attention_mask, device=device, record=attentions)
        x = self.embeddings(input_ids, token_type_ids, position_ids, inputs_embeds)
        states = config.output_hidden_states if output_hidden_states is None else output_hidden_states
        checkpointing = self.gradient_checkpointing and self.training
        hidden_states = self.encoder(x, Pass(attend, head_mask), states, checkpointing)
        x = hidden_states[-1]
        pooled = None if self.pooler is None else torch.tanh(self.pooler(first_token(x, attention_mask)))
        return BaseModelOutputWithPooling(
            last_hidden_state=x,
            pooler_output=pooled,
            hidden_states=hidden_states if states else None,
            attentions=tuple(attentions) if attentions is not None else None,
        )


class AlbertForPreTraining(AlbertPreTrainedModel):
    tied = {"predictions.decoder.weight": "albert.embeddings.word_embeddings.weight"}

    def __init__(self, config: AlbertConfig):
        super().__init__(config)
        self.albert = AlbertModel(config)
        self.predictions = AlbertMLMHead(config)
        self.sop_classifier = AlbertSOPHead(config)
        self.post_init()

    def get_output_embeddings(self) -> nn.Module:
        return self.predictions.decoder

    def set_output_embeddings(self, new_embeddings: nn.Module) -> None:
        self.predictions.decoder = new_embeddings  # type: ignore[assignment]
        self.predictions.bias = new_embeddings.bias  # type: ignore[assignment]

    def forward(
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | Packed | None = None,
        token_type_ids: Tensor | None = None,
        position_ids: Tensor | None = None,
        inputs_embeds: Tensor | None = None,
        labels: Tensor | None = None,
        sentence_order_label: Tensor | None = None,
        *,
        head_mask: Tensor | None = None,
        output_attentions: bool | None = None,
        output_hidden_states: bool | None = None,
    ) -> AlbertForPreTrainingOutput:
        """labels [B, T]: words, -100 where none is asked for; sentence_order_label [B]: 0: they stand in order."""
        encoded = self.albert(
            input_ids,
            attention_mask,
            token_type_ids,
            position_ids,
            inputs_embeds,
            head_mask=head_mask,
            output_attentions=output_attentions,
            output_hidden_states=output_hidden_states,
        )
        words = self.predictions(encoded.last_hidden_state)  # [B, T, V]
        order = self.sop_classifier(encoded.pooler_output)  # [B, 2]
        loss = count = None
        if labels is not None and sentence_order_label is not None:
            loss, count = token_loss(words, labels)
            loss = loss + token_loss(order, sentence_order_label.view(-1))[0]
        return AlbertForPreTrainingOutput(
            loss, words, order, hidden_states=encoded.hidden_states, attentions=encoded.attentions, loss_count=count
        )


class AlbertForMaskedLM(AlbertPreTrainedModel):
    tied = {"predictions.decoder.weight": "albert.embeddings.word_embeddings.weight"}

    def __init__(self, config: AlbertConfig):
        super().__init__(config)
        self.albert = AlbertModel(config, add_pooling_layer=False)
        self.predictions = AlbertMLMHead(config)
        self.post_init()

    def get_output_embeddings(self) -> nn.Module:
        return self.predictions.decoder

    def set_output_embeddings(self, new_embeddings: nn.Module) -> None:
        self.predictions.decoder = new_embeddings  # type: ignore[assignment]
        self.predictions.bias = new_embeddings.bias  # type: ignore[assignment]

    def forward(
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | Packed | None = None,
        token_type_ids: Tensor | None = None,
        position_ids: Tensor | None = None,
        inputs_embeds: Tensor | None = None,
        labels: Tensor | None = None,
        *,
        head_mask: Tensor | None = None,
        output_attentions: bool | None = None,
        output_hidden_states: bool | None = None,
    ) -> MaskedLMOutput:
        """labels [B, T]: the words that stood there, -100 where none is asked for."""
        encoded = self.albert(
            input_ids,
            attention_mask,
            token_type_ids,
            position_ids,
            inputs_embeds,
            head_mask=head_mask,
            output_attentions=output_attentions,
            output_hidden_states=output_hidden_states,
        )
        x, parts = encoded.last_hidden_state, self.loss_parts if self.training else 0
        loss, count, logits = vocabulary_loss(self.predictions, x, labels, shifted=False, parts=parts)
        return MaskedLMOutput(loss, logits, encoded.hidden_states, encoded.attentions, loss_count=count)


class AlbertForSequenceClassification(AlbertPreTrainedModel):
    def __init__(self, config: AlbertConfig):
        super().__init__(config)
        self.albert = AlbertModel(config)
        self.dropout = nn.Dropout(config.classifier_dropout_prob)
        self.classifier = nn.Linear(config.hidden_size, config.num_labels)
        self.post_init()

    def forward(
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | Packed | None = None,
        token_type_ids: Tensor | None = None,
        position_ids: Tensor | None = None,
        inputs_embeds: Tensor | None = None,
        labels: Tensor | None = None,
        *,
        head_mask: Tensor | None = None,
        output_attentions: bool | None = None,
        output_hidden_states: bool | None = None,
    ) -> SequenceClassifierOutput:
        """labels: [B] integers, or floats [B] or [B, N]; see losses.sequence_loss."""
        encoded = self.albert(
            input_ids,
            attention_mask,
            token_type_ids,
            position_ids,
            inputs_embeds,
            head_mask=head_mask,
            output_attentions=output_attentions,
            output_hidden_states=output_hidden_states,
        )
        logits = self.classifier(self.dropout(encoded.pooler_output))  # [B, N]
        loss = count = None
        if labels is not None:
            loss, count = sequence_loss(logits, labels, self.config.problem_type)
        return SequenceClassifierOutput(loss, logits, encoded.hidden_states, encoded.attentions, loss_count=count)


class AlbertForMultipleChoice(AlbertPreTrainedModel):
    def __init__(self, config: AlbertConfig):
        super().__init__(config)
        self.albert = AlbertModel(config)
        self.dropout = nn.Dropout(config.classifier_dropout_prob)
        self.classifier = nn.Linear(config.hidden_size, 1)
        self.post_init()

    def forward(
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        token_type_ids: Tensor | None = None,
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
        inputs = (input_ids, attention_mask, token_type_ids, position_ids, inputs_embeds)
        encoded = self.albert(
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


class AlbertForTokenClassification(AlbertPreTrainedModel):
    def __init__(self, config: AlbertConfig):
        super().__init__(config)
        self.albert = AlbertModel(config, add_pooling_layer=False)
        self.dropout = nn.Dropout(config.classifier_dropout_prob)
        self.classifier = nn.Linear(config.hidden_size, config.num_labels)
        self.post_init()

    def forward(
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | Packed | None = None,
        token_type_ids: Tensor | None = None,
        position_ids: Tensor | None = None,
        inputs_embeds: Tensor | None = None,
        labels: Tensor | None = None,
        *,
        head_mask: Tensor | None = None,
        output_attentions: bool | None = None,
        output_hidden_states: bool | None = None,
    ) -> TokenClassifierOutput:
        """labels [B, T], -100 where none."""
        encoded = self.albert(
            input_ids,
            attention_mask,
            token_type_ids,
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


class AlbertForQuestionAnswering(AlbertPreTrainedModel):
    def __init__(self, config: AlbertConfig):
        super().__init__(config)
        self.albert = AlbertModel(config, add_pooling_layer=False)
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
        """start_positions, end_positions [B]: first and last token of the answer."""
        encoded = self.albert(
            input_ids,
            attention_mask,
            token_type_ids,
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
    "base": AlbertModel,
    "pretraining": AlbertForPreTraining,
    "masked-lm": AlbertForMaskedLM,
    "sequence-classification": AlbertForSequenceClassification,
    "multiple-choice": AlbertForMultipleChoice,
    "token-classification": AlbertForTokenClassification,
    "question-answering": AlbertForQuestionAnswering,
}
