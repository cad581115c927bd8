"""ELECTRA: BERT that is trained to tell which words of a text another, smaller model has put in.

Paper: Clark et al., 2020, https://arxiv.org/abs/2003.10555
Reference code: https://github.com/google-research/electra
Shapes: B batch, T tokens, E embedding_size, C hidden_size, H heads, D = C / H, V vocab_size, N labels, L layers, S
choices.

ElectraForPreTraining is the discriminator, ElectraForMaskedLM the generator. There is no pooler.
Different from Transformers: positions count from the first real token, so padding on the left changes nothing, and
classifiers read that token; head_mask is honoured.
"""

from dataclasses import dataclass
from typing import Any, NamedTuple, cast

import torch
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits, gelu
from torch.utils.checkpoint import checkpoint

from ..activations import activation
from ..arguments import check_inputs
from ..attention import Attend, bind_attention
from ..cache import DynamicCache, as_cache
from ..config import Config
from ..generation import generate, generation_config
from ..linear import activate, project
from ..losses import sequence_loss, span_loss, token_loss, vocabulary_loss
from ..model import Model
from ..outputs import (
    BaseModelOutputWithPoolingAndCrossAttentions,
    CausalLMOutputWithCrossAttentions,
    ElectraForPreTrainingOutput,
    MaskedLMOutput,
    MultipleChoiceModelOutput,
    QuestionAnsweringModelOutput,
    SequenceClassifierOutput,
    TokenClassifierOutput,
)
from ..sequences import Packed, first_token, make_position_ids

# ---- Configuration


@dataclass(init=False)
class ElectraConfig(Config):
    model_type = "electra"

    vocab_size: int = 30522
    embedding_size: int = 128
    hidden_size: int = 256
    num_hidden_layers: int = 12
    num_attention_heads: int = 4
    intermediate_size: int = 1024
    hidden_act: str = "gelu"
    hidden_dropout_prob: float = 0.1
    attention_probs_dropout_prob: float = 0.1
    max_position_embeddings: int = 512
    type_vocab_size: int = 2
    position_embedding_type: str = "absolute"
    initializer_range: float = 0.02
    layer_norm_eps: float = 1e-12
    pad_token_id: int | None = 0
    summary_type: str = "first"  # of multiple choice: the first token
    summary_use_proj: bool = True
    summary_activation: str | None = "gelu"
    summary_last_dropout: float = 0.1
    use_cache: bool = True
    classifier_dropout: float | None = None  # None: hidden_dropout_prob
    is_decoder: bool = False
    add_cross_attention: bool = False
    bos_token_id: int | None = None
    eos_token_id: int | list[int] | None = None

    def validate(self) -> None:
        super().validate()
        if self.num_attention_heads < 1 or self.hidden_size % self.num_attention_heads:
            raise ValueError(
                f"hidden_size ({self.hidden_size}) must be a multiple of num_attention_heads "
                f"({self.num_attention_heads})."
            )
        if self.position_embedding_type != "absolute":
            raise ValueError(f"position_embedding_type must be 'absolute', got {self.position_embedding_type!r}.")
        if self.summary_type != "first":
            raise ValueError(f"summary_type must be 'first', got {self.summary_type!r}.")


# ---- Layers


class Pass(NamedTuple):
    """What one forward pass makes above the layers and every layer reads."""

    attend: Attend
    head_mask: Tensor | None = None  # [L, H]
    cache: DynamicCache | None = None
    encoded: Tensor | None = None  # [B, K, C], an encoder's output
    cross_attend: Attend | None = None


class ElectraEmbeddings(nn.Module):
    def __init__(self, config: ElectraConfig):
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


class ElectraSelfAttention(nn.Module):
    """Attention to the tokens themselves, or (cross) to an encoder's output."""

    def __init__(self, config: ElectraConfig, layer: int, cross: bool = False):
        super().__init__()
        C = config.hidden_size
        self.query = nn.Linear(C, C)
        self.key = nn.Linear(C, C)
        self.value = nn.Linear(C, C)
        self.heads, self.layer, self.cross = config.num_attention_heads, layer, cross
        self.dropout = config.attention_probs_dropout_prob

    def split(self, x: Tensor) -> Tensor:
        """[B, T, C] -> [B, H, T, D]"""
        return x.view(*x.shape[:2], self.heads, -1).transpose(1, 2)

    def forward(self, x: Tensor, this: Pass) -> Tensor:
        B, T, C = x.shape
        attend = this.attend
        if self.cross:
            assert this.encoded is not None and this.cross_attend is not None
            attend, encoded = this.cross_attend, this.encoded
            q = self.split(project(x, self.query)[0])

            def keys_and_values() -> tuple[Tensor, Tensor]:
                k, v = project(encoded, self.key, self.value)
                return self.split(k), self.split(v)

            k, v = this.cache.once(self.layer, keys_and_values) if this.cache is not None else keys_and_values()
        else:
            q, k, v = (self.split(y) for y in project(x, self.query, self.key, self.value))
            if this.cache is not None:
                k, v = this.cache.append(self.layer, k, v)
        x = attend(
            q,
            k,
            v,
            scale=(C // self.heads) ** -0.5,
            dropout=self.dropout if self.training else 0.0,
            head_mask=None if this.head_mask is None else this.head_mask[self.layer],
        )  # [B, H, T, D]
        return x.transpose(1, 2).reshape(B, T, C)


class ElectraOutput(nn.Module):
    """Back to the hidden size, plus the residual, normalised."""

    def __init__(self, config: ElectraConfig, in_features: int):
        super().__init__()
        self.dense = nn.Linear(in_features, config.hidden_size)
        self.LayerNorm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        self.dropout = nn.Dropout(config.hidden_dropout_prob)

    def forward(self, x: Tensor, residual: Tensor) -> Tensor:
        return self.LayerNorm(self.dropout(project(x, self.dense)[0]) + residual)


class ElectraAttention(nn.Module):
    def __init__(self, config: ElectraConfig, layer: int, cross: bool = False):
        super().__init__()
        self.self = ElectraSelfAttention(config, layer, cross)
        self.output = ElectraOutput(config, config.hidden_size)

    def forward(self, x: Tensor, this: Pass) -> Tensor:
        return self.output(self.self(x, this), residual=x)


class ElectraIntermediate(nn.Module):
    def __init__(self, config: ElectraConfig):
        super().__init__()
        self.dense = nn.Linear(config.hidden_size, config.intermediate_size)
        self.act = activation(config.hidden_act)

    def forward(self, x: Tensor) -> Tensor:
        return activate(self.dense, self.act, x)


class ElectraLayer(nn.Module):
    def __init__(self, config: ElectraConfig, layer: int):
        super().__init__()
        self.attention = ElectraAttention(config, layer)
        if config.add_cross_attention:
            self.crossattention = ElectraAttention(config, layer, cross=True)
        self.intermediate = ElectraIntermediate(config)
        self.output = ElectraOutput(config, config.intermediate_size)

    def forward(self, x: Tensor, this: Pass) -> Tensor:
        x = self.attention(x, this)
        if this.encoded is not None:
            x = self.crossattention(x, this)
        return self.output(self.intermediate(x), residual=x)


class ElectraEncoder(nn.Module):
    def __init__(self, config: ElectraConfig):
        super().__init__()
        self.layer = nn.ModuleList(ElectraLayer(config, i) for i in range(config.num_hidden_layers))

    def forward(self, x: Tensor, this: Pass, keep: bool, checkpointing: bool = False) -> tuple[Tensor, ...]:
        """L + 1 tensors [B, T, C]: the input, then the output of every layer; unless keep, the last alone."""
        hidden_states = (x,)
        for layer in self.layer:
            x = cast(Tensor, checkpoint(layer, x, this, use_reentrant=False)) if checkpointing else layer(x, this)
            hidden_states = (*hidden_states, x) if keep else (x,)
        return hidden_states


class ElectraGeneratorPredictions(nn.Module):
    def __init__(self, config: ElectraConfig):
        super().__init__()
        self.dense = nn.Linear(config.hidden_size, config.embedding_size)
        self.LayerNorm = nn.LayerNorm(config.embedding_size, eps=config.layer_norm_eps)

    def forward(self, x: Tensor) -> Tensor:
        return self.LayerNorm(activate(self.dense, gelu, x))  # [B, T, E]


class ElectraDiscriminatorPredictions(nn.Module):
    def __init__(self, config: ElectraConfig):
        super().__init__()
        self.dense = nn.Linear(config.hidden_size, config.hidden_size)
        self.act = activation(config.hidden_act)
        self.dense_prediction = nn.Linear(config.hidden_size, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.dense_prediction(activate(self.dense, self.act, x)).squeeze(-1)  # [B, T]


class ElectraClassificationHead(nn.Module):
    def __init__(self, config: ElectraConfig):
        super().__init__()
        self.dense = nn.Linear(config.hidden_size, config.hidden_size)
        self.dropout = nn.Dropout(classifier_dropout(config))
        self.out_proj = nn.Linear(config.hidden_size, config.num_labels)

    def forward(self, x: Tensor) -> Tensor:
        """x: the first token of each sequence, [B, C]."""
        return self.out_proj(self.dropout(gelu(self.dense(self.dropout(x)))))


class ElectraSequenceSummary(nn.Module):
    def __init__(self, config: ElectraConfig):
        super().__init__()
        C = config.hidden_size
        self.summary = nn.Linear(C, C) if config.summary_use_proj else nn.Identity()
        self.act = activation(config.summary_activation) if config.summary_activation else nn.Identity()
        self.dropout = nn.Dropout(config.summary_last_dropout)

    def forward(self, x: Tensor) -> Tensor:
        """x: the first token of each sequence, [B, C]."""
        return self.dropout(self.act(self.summary(x)))


# ---- Models


class ElectraPreTrainedModel(Model):
    config_class, base_model_prefix, accepts_packed = ElectraConfig, "electra", True
    config: ElectraConfig
    renames = ((r"embeddings\.position_ids$", None),)  # a buffer of Transformers before 4.31
    prepared = r"encoder\.layer\.\d+\.|embeddings_project"
    together = r"\.attention\.self\.(query|key|value)$"
    may_be_new = (
        *(r"^classifier\.", r"^qa_outputs\.", r"^sequence_summary\.", r"\.crossattention\."),
        *(r"^generator_predictions\.", r"^generator_lm_head\.", r"^discriminator_predictions\."),
    )

    def init_weights(self, module: nn.Module) -> None:
        if isinstance(module, (nn.Linear, nn.Embedding)):
            module.weight.normal_(0.0, self.config.initializer_range)
        if isinstance(module, nn.Embedding) and module.padding_idx is not None:
            module.weight[module.padding_idx].zero_()
        if isinstance(module, nn.LayerNorm):
            module.weight.fill_(1.0)
        if isinstance(module, (nn.Linear, nn.LayerNorm)) and module.bias is not None:
            module.bias.zero_()


class ElectraModel(ElectraPreTrainedModel):
    def __init__(self, config: ElectraConfig):
        super().__init__(config)
        self.embeddings = ElectraEmbeddings(config)
        small = config.embedding_size != config.hidden_size
        self.embeddings_project = nn.Linear(config.embedding_size, config.hidden_size) if small else None
        self.encoder = ElectraEncoder(config)
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
        encoder_hidden_states: Tensor | None = None,
        encoder_attention_mask: Tensor | None = None,
        past_key_values: Any = None,
        use_cache: bool | None = None,
        *,
        head_mask: Tensor | None = None,
        output_attentions: bool | None = None,
        output_hidden_states: bool | None = None,
    ) -> BaseModelOutputWithPoolingAndCrossAttentions:
        """input_ids [B, T], or inputs_embeds [B, T, E] in their place; token_type_ids [B, T], 0 or 1.

        attention_mask: 1 = real token, over the tokens in the cache and these; attention.dense_mask has other
        shapes; Packed for one row of concatenated sequences. head_mask [H] or [L, H]: 1 keeps a head, 0 silences it.
        encoder_hidden_states [B, K, C] and encoder_attention_mask [B, K]: for cross-attention.
        past_key_values, use_cache: for decoders. output_*: None is what the config says.
        """
        B, T, device = check_inputs(input_ids, inputs_embeds)
        config, kernel = self.config, self.config.attn_implementation
        record = config.output_attentions if output_attentions is None else output_attentions
        attentions, cross_attentions = ([], []) if record else (None, None)
        cache = None
        if config.is_decoder and not (self.gradient_checkpointing and self.training):  # which runs layers twice
            cache = as_cache(past_key_values, config.use_cache if use_cache is None else use_cache)
        past = 0 if cache is None else cache.get_seq_length()
        if head_mask is not None:
            head_mask = head_mask.expand(config.num_hidden_layers, config.num_attention_heads)
        if position_ids is None:
            position_ids = make_position_ids(attention_mask, B, T, past, device)

        attend = bind_attention(
            kernel, Q=T, K=past + T, causal=config.is_decoder, mask=attention_mask, device=device, record=attentions
        )
        cross_attend = None
        if encoder_hidden_states is not None:
            if not config.add_cross_attention:
                raise ValueError("encoder_hidden_states need a model with add_cross_attention=True in its config.")
            K = encoder_hidden_states.shape[1]
            cross_attend = bind_attention(
                kernel, Q=T, K=K, causal=False, mask=encoder_attention_mask, device=device, record=cross_attentions
            )

        x = self.embeddings(input_ids, token_type_ids, position_ids, inputs_embeds)
        if self.embeddings_project is not None:
            x = project(x, self.embeddings_project)[0]
        this = Pass(attend, head_mask, cache, encoder_hidden_states, cross_attend)
        states = config.output_hidden_states if output_hidden_states is None else output_hidden_states
        hidden_states = self.encoder(x, this, states, self.gradient_checkpointing and self.training)
        x = hidden_states[-1]
        return BaseModelOutputWithPoolingAndCrossAttentions(
            last_hidden_state=x,
            past_key_values=cache,
            hidden_states=hidden_states if states else None,
            attentions=tuple(attentions) if attentions is not None else None,
            cross_attentions=tuple(cross_attentions) if cross_attentions and cross_attend is not None else None,
        )


class ElectraForPreTraining(ElectraPreTrainedModel):
    """The discriminator: which tokens another model has put in."""

    def __init__(self, config: ElectraConfig):
        super().__init__(config)
        self.electra = ElectraModel(config)
        self.discriminator_predictions = ElectraDiscriminatorPredictions(config)
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
    ) -> ElectraForPreTrainingOutput:
        """labels [B, T]: 1 where a token was put in, 0 where it is the text's own; padding does not count."""
        encoded = self.electra(
            input_ids,
            attention_mask,
            token_type_ids,
            position_ids,
            inputs_embeds,
            head_mask=head_mask,
            output_attentions=output_attentions,
            output_hidden_states=output_hidden_states,
        )
        logits = self.discriminator_predictions(encoded.last_hidden_state)  # [B, T]
        loss = count = None
        if labels is not None:
            real = torch.ones_like(labels, dtype=torch.bool)
            if isinstance(attention_mask, Tensor) and attention_mask.dim() == 2:
                real = attention_mask == 1
            count = real.sum()
            loss = binary_cross_entropy_with_logits(logits[real].float(), labels[real].float())
        return ElectraForPreTrainingOutput(loss, logits, encoded.hidden_states, encoded.attentions, loss_count=count)


class ElectraForCausalLM(ElectraPreTrainedModel):
    """ELECTRA as a decoder: config.is_decoder makes it causal."""

    tied = {"generator_lm_head.weight": "electra.embeddings.word_embeddings.weight"}
    generate, generation_config = generate, generation_config

    def __init__(self, config: ElectraConfig):
        super().__init__(config)
        self.electra = ElectraModel(config)
        self.generator_predictions = ElectraGeneratorPredictions(config)
        self.generator_lm_head = nn.Linear(config.embedding_size, config.vocab_size)
        self.post_init()

    def get_output_embeddings(self) -> nn.Module:
        return self.generator_lm_head

    def set_output_embeddings(self, new_embeddings: nn.Module) -> None:
        self.generator_lm_head = new_embeddings  # type: ignore[assignment]

    def to_logits(self, x: Tensor) -> Tensor:
        """x [..., C] -> [..., V]."""
        return self.generator_lm_head(self.generator_predictions(x))

    def forward(
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | Packed | None = None,
        token_type_ids: Tensor | None = None,
        position_ids: Tensor | None = None,
        inputs_embeds: Tensor | None = None,
        encoder_hidden_states: Tensor | None = None,
        encoder_attention_mask: Tensor | None = None,
        labels: Tensor | None = None,
        past_key_values: Any = None,
        use_cache: bool | None = None,
        logits_to_keep: int | Tensor = 0,
        *,
        head_mask: Tensor | None = None,
        output_attentions: bool | None = None,
        output_hidden_states: bool | None = None,
    ) -> CausalLMOutputWithCrossAttentions:
        """labels [B, T]: the input_ids themselves, -100 where none; logits_to_keep: logits of the last n tokens."""
        decoded = self.electra(
            input_ids,
            attention_mask,
            token_type_ids,
            position_ids,
            inputs_embeds,
            encoder_hidden_states,
            encoder_attention_mask,
            past_key_values,
            False if labels is not None and use_cache is None else use_cache,
            head_mask=head_mask,
            output_attentions=output_attentions,
            output_hidden_states=output_hidden_states,
        )
        keep = slice(-logits_to_keep, None) if isinstance(logits_to_keep, int) else logits_to_keep
        x, parts = decoded.last_hidden_state[:, keep], self.loss_parts if self.training else 0
        loss, count, logits = vocabulary_loss(self.to_logits, x, labels, shifted=True, parts=parts)
        return CausalLMOutputWithCrossAttentions(
            loss=loss,
            logits=logits,
            past_key_values=decoded.past_key_values,
            hidden_states=decoded.hidden_states,
            attentions=decoded.attentions,
            cross_attentions=decoded.cross_attentions,
            loss_count=count,
        )


class ElectraForMaskedLM(ElectraPreTrainedModel):
    tied = {"generator_lm_head.weight": "electra.embeddings.word_embeddings.weight"}

    def __init__(self, config: ElectraConfig):
        super().__init__(config)
        self.electra = ElectraModel(config)
        self.generator_predictions = ElectraGeneratorPredictions(config)
        self.generator_lm_head = nn.Linear(config.embedding_size, config.vocab_size)
        self.post_init()

    def get_output_embeddings(self) -> nn.Module:
        return self.generator_lm_head

    def set_output_embeddings(self, new_embeddings: nn.Module) -> None:
        self.generator_lm_head = new_embeddings  # type: ignore[assignment]

    def to_logits(self, x: Tensor) -> Tensor:
        """x [..., C] -> [..., V]."""
        return self.generator_lm_head(self.generator_predictions(x))

    def forward(
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | Packed | None = None,
        token_type_ids: Tensor | None = None,
        position_ids: Tensor | None = None,
        inputs_embeds: Tensor | None = None,
        encoder_hidden_states: Tensor | None = None,
        encoder_attention_mask: Tensor | None = None,
        labels: Tensor | None = None,
        *,
        head_mask: Tensor | None = None,
        output_attentions: bool | None = None,
        output_hidden_states: bool | None = None,
    ) -> MaskedLMOutput:
        """labels [B, T]: the words that stood there, -100 where none is asked for."""
        encoded = self.electra(
            input_ids,
            attention_mask,
            token_type_ids,
            position_ids,
            inputs_embeds,
            encoder_hidden_states,
            encoder_attention_mask,
            use_cache=False,
            head_mask=head_mask,
            output_attentions=output_attentions,
            output_hidden_states=output_hidden_states,
        )
        x, parts = encoded.last_hidden_state, self.loss_parts if self.training else 0
        loss, count, logits = vocabulary_loss(self.to_logits, x, labels, shifted=False, parts=parts)
        return MaskedLMOutput(loss, logits, encoded.hidden_states, encoded.attentions, loss_count=count)


class ElectraForSequenceClassification(ElectraPreTrainedModel):
    def __init__(self, config: ElectraConfig):
        super().__init__(config)
        self.electra = ElectraModel(config)
        self.classifier = ElectraClassificationHead(config)
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
        encoded = self.electra(
            input_ids,
            attention_mask,
            token_type_ids,
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


class ElectraForMultipleChoice(ElectraPreTrainedModel):
    def __init__(self, config: ElectraConfig):
        super().__init__(config)
        self.electra = ElectraModel(config)
        self.sequence_summary = ElectraSequenceSummary(config)
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
        inputs = tuple(None if one is None else one.flatten(0, 1) for one in inputs)
        encoded = self.electra(
            *inputs,
            head_mask=head_mask,
            output_attentions=output_attentions,
            output_hidden_states=output_hidden_states,
        )
        first = first_token(encoded.last_hidden_state, inputs[1])
        logits = self.classifier(self.sequence_summary(first)).view(given.shape[:2])  # [B, S]
        loss = count = None
        if labels is not None:
            loss, count = token_loss(logits, labels)
        return MultipleChoiceModelOutput(loss, logits, encoded.hidden_states, encoded.attentions, loss_count=count)


class ElectraForTokenClassification(ElectraPreTrainedModel):
    def __init__(self, config: ElectraConfig):
        super().__init__(config)
        self.electra = ElectraModel(config)
        self.dropout = nn.Dropout(classifier_dropout(config))
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
        encoded = self.electra(
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


class ElectraForQuestionAnswering(ElectraPreTrainedModel):
    def __init__(self, config: ElectraConfig):
        super().__init__(config)
        self.electra = ElectraModel(config)
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
        encoded = self.electra(
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


def classifier_dropout(config: ElectraConfig) -> float:
    return config.hidden_dropout_prob if config.classifier_dropout is None else config.classifier_dropout


HEADS = {
    "base": ElectraModel,
    "pretraining": ElectraForPreTraining,
    "causal-lm": ElectraForCausalLM,
    "masked-lm": ElectraForMaskedLM,
    "sequence-classification": ElectraForSequenceClassification,
    "multiple-choice": ElectraForMultipleChoice,
    "token-classification": ElectraForTokenClassification,
    "question-answering": ElectraForQuestionAnswering,
}
