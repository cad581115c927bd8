"""DistilBERT: half of BERT's layers, taught by the whole; no token types, no pooler.

Paper: Sanh et al., 2019, https://arxiv.org/abs/1910.01108
Reference code: https://github.com/huggingface/transformers/tree/main/src/transformers/models/distilbert
Shapes: B batch, T tokens, C dim, H n_heads, D = C / H, V vocab_size, N labels, L n_layers, S choices.

Different from Transformers: positions count from the first real token, so padding on the left changes nothing, and the
sequence heads read that token; head_mask is honoured.
"""

from dataclasses import dataclass
from typing import cast

import torch
import torch.nn.functional as F
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
    BaseModelOutput,
    MaskedLMOutput,
    MultipleChoiceModelOutput,
    QuestionAnsweringModelOutput,
    SequenceClassifierOutput,
    TokenClassifierOutput,
)
from ..sequences import Packed, first_token, make_position_ids

# ---- Configuration


@dataclass(init=False)
class DistilBertConfig(Config):
    model_type = "distilbert"
    attribute_map = {"hidden_size": "dim", "num_attention_heads": "n_heads", "num_hidden_layers": "n_layers"}

    vocab_size: int = 30522
    max_position_embeddings: int = 512
    sinusoidal_pos_embds: bool = False  # positions start as sines and are not trained
    n_layers: int = 6
    n_heads: int = 12
    dim: int = 768
    hidden_dim: int = 3072
    dropout: float = 0.1
    attention_dropout: float = 0.1
    activation: str = "gelu"
    initializer_range: float = 0.02
    qa_dropout: float = 0.1
    seq_classif_dropout: float = 0.2
    pad_token_id: int | None = 0
    eos_token_id: int | list[int] | None = None
    bos_token_id: int | None = None

    def validate(self) -> None:
        super().validate()
        if self.n_heads < 1 or self.dim % self.n_heads:
            raise ValueError(f"dim ({self.dim}) must be a multiple of n_heads ({self.n_heads}).")


# ---- Layers

LAYER_NORM_EPS = 1e-12


class Embeddings(nn.Module):
    def __init__(self, config: DistilBertConfig):
        super().__init__()
        self.word_embeddings = nn.Embedding(config.vocab_size, config.dim, padding_idx=config.pad_token_id)
        self.position_embeddings = nn.Embedding(config.max_position_embeddings, config.dim)
        self.LayerNorm = nn.LayerNorm(config.dim, eps=LAYER_NORM_EPS)
        self.dropout = nn.Dropout(config.dropout)

    def forward(self, input_ids: Tensor | None, position_ids: Tensor, inputs_embeds: Tensor | None) -> Tensor:
        x = self.word_embeddings(input_ids) if inputs_embeds is None else inputs_embeds
        return self.dropout(self.LayerNorm(x + self.position_embeddings(position_ids)))


class SelfAttention(nn.Module):
    def __init__(self, config: DistilBertConfig, layer: int):
        super().__init__()
        C = config.dim
        self.q_lin = nn.Linear(C, C)
        self.k_lin = nn.Linear(C, C)
        self.v_lin = nn.Linear(C, C)
        self.out_lin = nn.Linear(C, C)
        self.heads, self.layer, self.dropout = config.n_heads, layer, config.attention_dropout

    def forward(self, x: Tensor, attend: Attend, head_mask: Tensor | None) -> Tensor:
        B, T, C = x.shape
        q, k, v = (y.view(B, T, self.heads, -1).transpose(1, 2) for y in project(x, self.q_lin, self.k_lin, self.v_lin))
        x = attend(
            q,
            k,
            v,
            scale=(C // self.heads) ** -0.5,
            dropout=self.dropout if self.training else 0.0,
            head_mask=None if head_mask is None else head_mask[self.layer],
        )  # [B, H, T, D]
        return project(x.transpose(1, 2).reshape(B, T, C), self.out_lin)[0]


class FFN(nn.Module):
    def __init__(self, config: DistilBertConfig):
        super().__init__()
        self.lin1 = nn.Linear(config.dim, config.hidden_dim)
        self.lin2 = nn.Linear(config.hidden_dim, config.dim)
        self.act = activation(config.activation)
        self.dropout = nn.Dropout(config.dropout)

    def forward(self, x: Tensor) -> Tensor:
        return self.dropout(project(activate(self.lin1, self.act, x), self.lin2)[0])


class TransformerBlock(nn.Module):
    def __init__(self, config: DistilBertConfig, layer: int):
        super().__init__()
        self.attention = SelfAttention(config, layer)
        self.sa_layer_norm = nn.LayerNorm(config.dim, eps=LAYER_NORM_EPS)
        self.ffn = FFN(config)
        self.output_layer_norm = nn.LayerNorm(config.dim, eps=LAYER_NORM_EPS)

    def forward(self, x: Tensor, attend: Attend, head_mask: Tensor | None) -> Tensor:
        x = self.sa_layer_norm(self.attention(x, attend, head_mask) + x)
        return self.output_layer_norm(self.ffn(x) + x)


class Transformer(nn.Module):
    def __init__(self, config: DistilBertConfig):
        super().__init__()
        self.layer = nn.ModuleList(TransformerBlock(config, i) for i in range(config.n_layers))

    def forward(
        self, x: Tensor, attend: Attend, head_mask: Tensor | None, keep: bool, checkpointing: bool = False
    ) -> tuple[Tensor, ...]:
        """L + 1 tensors [B, T, C]: the input, then the output of every layer; unless keep, the last alone."""
        hidden_states = (x,)
        for layer in self.layer:
            inputs = (x, attend, head_mask)
            x = cast(Tensor, checkpoint(layer, *inputs, use_reentrant=False)) if checkpointing else layer(*inputs)
            hidden_states = (*hidden_states, x) if keep else (x,)
        return hidden_states


# ---- Models


class DistilBertPreTrainedModel(Model):
    config_class, base_model_prefix, accepts_packed = DistilBertConfig, "distilbert", True
    config: DistilBertConfig
    # gamma and beta: checkpoints written before 2019; position_ids: a buffer of Transformers before 4.31
    renames = ((r"\.gamma$", ".weight"), (r"\.beta$", ".bias"), (r"embeddings\.position_ids$", None))
    prepared = r"transformer\.layer\.\d+\."
    together = r"\.[qkv]_lin$"
    may_be_new = (r"^(pre_)?classifier\.", r"^qa_outputs\.", r"^vocab_(transform|layer_norm|projector)\.")

    def init_weights(self, module: nn.Module) -> None:
        if isinstance(module, (nn.Linear, nn.Embedding)):
            module.weight.normal_(0.0, self.config.initializer_range)
        if isinstance(module, nn.Embedding) and module.padding_idx is not None:
            module.weight[module.padding_idx].zero_()
        if isinstance(module, nn.LayerNorm):
            module.weight.fill_(1.0)
        if isinstance(module, (nn.Linear, nn.LayerNorm)) and module.bias is not None:
            module.bias.zero_()


class DistilBertModel(DistilBertPreTrainedModel):
    def __init__(self, config: DistilBertConfig):
        super().__init__(config)
        self.embeddings = Embeddings(config)
        self.transformer = Transformer(config)
        self.post_init()
        positions = self.embeddings.position_embeddings.weight
        if config.sinusoidal_pos_embds:
            positions.requires_grad_(False)
            if not positions.is_meta:
                positions.copy_(sinusoids(*positions.shape))

    def get_input_embeddings(self) -> nn.Module:
        return self.embeddings.word_embeddings

    def set_input_embeddings(self, value: nn.Module) -> None:
        self.embeddings.word_embeddings = value  # type: ignore[assignment]

    def forward(
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | Packed | None = None,
        inputs_embeds: Tensor | None = None,
        position_ids: Tensor | None = None,
        *,
        head_mask: Tensor | None = None,
        output_attentions: bool | None = None,
        output_hidden_states: bool | None = None,
    ) -> BaseModelOutput:
        """input_ids [B, T], or inputs_embeds [B, T, C] in their place.

        attention_mask [B, T]: 1 = real token; see attention.dense_mask for other shapes; Packed for one row of
        concatenated sequences. head_mask [H] or [L, H]: 1 keeps a head, 0 silences it. output_*: None is what the
        config says.
        """
        B, T, device = check_inputs(input_ids, inputs_embeds)
        config = self.config
        record = config.output_attentions if output_attentions is None else output_attentions
        attentions = [] if record else None
        if head_mask is not None:
            head_mask = head_mask.expand(config.n_layers, config.n_heads)
        if position_ids is None:
            position_ids = make_position_ids(attention_mask, B, T, 0, device)
        attend = bind_attention(
            config.attn_implementation, Q=T, K=T, causal=False, mask=attention_mask, device=device, record=attentions
        )
        x = self.embeddings(input_ids, position_ids, inputs_embeds)
        states = config.output_hidden_states if output_hidden_states is None else output_hidden_states
        checkpointing = self.gradient_checkpointing and self.training
        hidden_states = self.transformer(x, attend, head_mask, states, checkpointing)
        return BaseModelOutput(
            last_hidden_state=hidden_states[-1],
            hidden_states=hidden_states if states else None,
            attentions=tuple(attentions) if attentions is not None else None,
        )


def sinusoids(positions: int, C: int) -> Tensor:
    """[positions, C]: sin(p / 10000^(2i/C)) in even columns, the cosine in odd ones."""
    angles = torch.arange(positions)[:, None] / 10000.0 ** (torch.arange(0, C, 2, dtype=torch.float64) / C)
    return torch.stack([angles.sin(), angles.cos()], dim=-1).flatten(1)[:, :C].float()


class DistilBertForMaskedLM(DistilBertPreTrainedModel):
    tied = {"vocab_projector.weight": "distilbert.embeddings.word_embeddings.weight"}

    def __init__(self, config: DistilBertConfig):
        super().__init__(config)
        self.distilbert = DistilBertModel(config)
        self.vocab_transform = nn.Linear(config.dim, config.dim)
        self.vocab_layer_norm = nn.LayerNorm(config.dim, eps=LAYER_NORM_EPS)
        self.vocab_projector = nn.Linear(config.dim, config.vocab_size)
        self.act = activation(config.activation)
        self.post_init()

    def get_output_embeddings(self) -> nn.Module:
        return self.vocab_projector

    def set_output_embeddings(self, new_embeddings: nn.Module) -> None:
        self.vocab_projector = new_embeddings  # type: ignore[assignment]

    def to_logits(self, x: Tensor) -> Tensor:
        """x [..., C] -> [..., V]."""
        return self.vocab_projector(self.vocab_layer_norm(activate(self.vocab_transform, self.act, x)))

    def forward(
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | Packed | None = None,
        inputs_embeds: Tensor | None = None,
        labels: Tensor | None = None,
        position_ids: Tensor | None = None,
        *,
        head_mask: Tensor | None = None,
        output_attentions: bool | None = None,
        output_hidden_states: bool | None = None,
    ) -> MaskedLMOutput:
        """labels [B, T]: the words that stood there, -100 where none is asked for."""
        encoded = self.distilbert(
            input_ids,
            attention_mask,
            inputs_embeds,
            position_ids,
            head_mask=head_mask,
            output_attentions=output_attentions,
            output_hidden_states=output_hidden_states,
        )
        x, parts = encoded.last_hidden_state, self.loss_parts if self.training else 0
        loss, count, logits = vocabulary_loss(self.to_logits, x, labels, shifted=False, parts=parts)
        return MaskedLMOutput(loss, logits, encoded.hidden_states, encoded.attentions, loss_count=count)


class DistilBertForSequenceClassification(DistilBertPreTrainedModel):
    def __init__(self, config: DistilBertConfig):
        super().__init__(config)
        self.distilbert = DistilBertModel(config)
        self.pre_classifier = nn.Linear(config.dim, config.dim)
        self.classifier = nn.Linear(config.dim, config.num_labels)
        self.dropout = nn.Dropout(config.seq_classif_dropout)
        self.post_init()

    def forward(
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | Packed | None = None,
        inputs_embeds: Tensor | None = None,
        labels: Tensor | None = None,
        position_ids: Tensor | None = None,
        *,
        head_mask: Tensor | None = None,
        output_attentions: bool | None = None,
        output_hidden_states: bool | None = None,
    ) -> SequenceClassifierOutput:
        """labels: [B] integers, or floats [B] or [B, N]; see losses.sequence_loss."""
        encoded = self.distilbert(
            input_ids,
            attention_mask,
            inputs_embeds,
            position_ids,
            head_mask=head_mask,
            output_attentions=output_attentions,
            output_hidden_states=output_hidden_states,
        )
        x = F.relu(self.pre_classifier(first_token(encoded.last_hidden_state, attention_mask)))  # [B, C]
        logits = self.classifier(self.dropout(x))  # [B, N]
        loss = count = None
        if labels is not None:
            loss, count = sequence_loss(logits, labels, self.config.problem_type)
        return SequenceClassifierOutput(loss, logits, encoded.hidden_states, encoded.attentions, loss_count=count)


class DistilBertForMultipleChoice(DistilBertPreTrainedModel):
    def __init__(self, config: DistilBertConfig):
        super().__init__(config)
        self.distilbert = DistilBertModel(config)
        self.pre_classifier = nn.Linear(config.dim, config.dim)
        self.classifier = nn.Linear(config.dim, 1)
        self.dropout = nn.Dropout(config.seq_classif_dropout)
        self.post_init()

    def forward(
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        inputs_embeds: Tensor | None = None,
        labels: Tensor | None = None,
        position_ids: Tensor | None = None,
        *,
        head_mask: Tensor | None = None,
        output_attentions: bool | None = None,
        output_hidden_states: bool | None = None,
    ) -> MultipleChoiceModelOutput:
        """All inputs have a dimension of choices, [B, S, T]; labels [B]: the right choice. logits [B, S]."""
        given = input_ids if input_ids is not None else inputs_embeds
        if given is None or given.dim() < 3:
            raise ValueError("Multiple choice takes input_ids of shape [B, S, T], or inputs_embeds of [B, S, T, C].")
        mask = None if attention_mask is None else attention_mask.flatten(0, 1)
        encoded = self.distilbert(
            None if input_ids is None else input_ids.flatten(0, 1),
            mask,
            None if inputs_embeds is None else inputs_embeds.flatten(0, 1),
            None if position_ids is None else position_ids.flatten(0, 1),
            head_mask=head_mask,
            output_attentions=output_attentions,
            output_hidden_states=output_hidden_states,
        )
        x = F.relu(self.pre_classifier(first_token(encoded.last_hidden_state, mask)))  # [B * S, C]
        logits = self.classifier(self.dropout(x)).view(given.shape[:2])  # [B, S]
        loss = count = None
        if labels is not None:
            loss, count = token_loss(logits, labels)
        return MultipleChoiceModelOutput(loss, logits, encoded.hidden_states, encoded.attentions, loss_count=count)


class DistilBertForTokenClassification(DistilBertPreTrainedModel):
    def __init__(self, config: DistilBertConfig):
        super().__init__(config)
        self.distilbert = DistilBertModel(config)
        self.dropout = nn.Dropout(config.dropout)
        self.classifier = nn.Linear(config.dim, config.num_labels)
        self.post_init()

    def forward(
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | Packed | None = None,
        inputs_embeds: Tensor | None = None,
        labels: Tensor | None = None,
        position_ids: Tensor | None = None,
        *,
        head_mask: Tensor | None = None,
        output_attentions: bool | None = None,
        output_hidden_states: bool | None = None,
    ) -> TokenClassifierOutput:
        """labels [B, T], -100 where none."""
        encoded = self.distilbert(
            input_ids,
            attention_mask,
            inputs_embeds,
            position_ids,
            head_mask=head_mask,
            output_attentions=output_attentions,
            output_hidden_states=output_hidden_states,
        )
        logits = self.classifier(self.dropout(encoded.last_hidden_state))  # [B, T, N]
        loss = count = None
        if labels is not None:
            loss, count = token_loss(logits, labels)
        return TokenClassifierOutput(loss, logits, encoded.hidden_states, encoded.attentions, loss_count=count)


class DistilBertForQuestionAnswering(DistilBertPreTrainedModel):
    def __init__(self, config: DistilBertConfig):
        super().__init__(config)
        self.distilbert = DistilBertModel(config)
        self.dropout = nn.Dropout(config.qa_dropout)
        self.qa_outputs = nn.Linear(config.dim, 2)
        self.post_init()

    def forward(
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | Packed | None = None,
        inputs_embeds: Tensor | None = None,
        start_positions: Tensor | None = None,
        end_positions: Tensor | None = None,
        position_ids: Tensor | None = None,
        *,
        head_mask: Tensor | None = None,
        output_attentions: bool | None = None,
        output_hidden_states: bool | None = None,
    ) -> QuestionAnsweringModelOutput:
        """start_positions, end_positions [B]: first and last token of the answer."""
        encoded = self.distilbert(
            input_ids,
            attention_mask,
            inputs_embeds,
            position_ids,
            head_mask=head_mask,
            output_attentions=output_attentions,
            output_hidden_states=output_hidden_states,
        )
        start, end = self.qa_outputs(self.dropout(encoded.last_hidden_state)).unbind(-1)  # [B, T] each
        loss = count = None
        if start_positions is not None and end_positions is not None:
            loss, count = span_loss(start, end, start_positions, end_positions)
        return QuestionAnsweringModelOutput(
            loss, start, end, encoded.hidden_states, encoded.attentions, loss_count=count
        )


HEADS = {
    "base": DistilBertModel,
    "pretraining": DistilBertForMaskedLM,
    "masked-lm": DistilBertForMaskedLM,
    "sequence-classification": DistilBertForSequenceClassification,
    "multiple-choice": DistilBertForMultipleChoice,
    "token-classification": DistilBertForTokenClassification,
    "question-answering": DistilBertForQuestionAnswering,
}
