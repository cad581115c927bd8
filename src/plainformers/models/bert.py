"""BERT: a bidirectional Transformer encoder, pre-trained on masked words and on which sentence follows which.

Paper: Devlin et al., 2018, https://arxiv.org/abs/1810.04805
Reference code: https://github.com/google-research/bert/blob/master/modeling.py
Shapes: B batch, T tokens, C hidden_size, H heads, D = C / H, V vocab_size, N labels, L layers, S choices.

With config.is_decoder it is a causal decoder, with config.add_cross_attention one that reads an encoder's output.
Different from Transformers: positions count from the first real token, so padding on the left changes nothing, and the
pooler reads that token; head_mask is honoured.
"""

from dataclasses import dataclass
from typing import Any, NamedTuple, cast

import torch
from torch import Tensor, nn
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
    MaskedLMOutput,
    MultipleChoiceModelOutput,
    NextSentencePredictorOutput,
    PreTrainingOutput,
    QuestionAnsweringModelOutput,
    SequenceClassifierOutput,
    TokenClassifierOutput,
)
from ..sequences import Packed, first_token, make_position_ids

# ---- Configuration


@dataclass(init=False)
class BertConfig(Config):
    model_type = "bert"

    vocab_size: int = 30522
    hidden_size: int = 768
    num_hidden_layers: int = 12
    num_attention_heads: int = 12
    intermediate_size: int = 3072
    hidden_act: str = "gelu"
    hidden_dropout_prob: float = 0.1
    attention_probs_dropout_prob: float = 0.1
    max_position_embeddings: int = 512
    type_vocab_size: int = 2
    position_embedding_type: str = "absolute"
    initializer_range: float = 0.02
    layer_norm_eps: float = 1e-12
    pad_token_id: int | None = 0
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


# ---- Layers


class Pass(NamedTuple):
    """What one forward pass makes above the layers and every layer reads."""

    attend: Attend
    head_mask: Tensor | None = None  # [L, H]
    cache: DynamicCache | None = None
    encoded: Tensor | None = None  # [B, K, C], an encoder's output
    cross_attend: Attend | None = None


class BertEmbeddings(nn.Module):
    def __init__(self, config: BertConfig):
        super().__init__()
        C = config.hidden_size
        self.word_embeddings = nn.Embedding(config.vocab_size, C, padding_idx=config.pad_token_id)
        self.position_embeddings = nn.Embedding(config.max_position_embeddings, C)
        self.token_type_embeddings = nn.Embedding(config.type_vocab_size, C)
        self.LayerNorm = nn.LayerNorm(C, eps=config.layer_norm_eps)
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


class BertSelfAttention(nn.Module):
    """Attention to the tokens themselves, or (cross) to an encoder's output."""

    def __init__(self, config: BertConfig, layer: int, cross: bool = False):
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


class BertOutput(nn.Module):
    """Back to the hidden size, plus the residual, normalised."""

    def __init__(self, config: BertConfig, in_features: int):
        super().__init__()
        self.dense = nn.Linear(in_features, config.hidden_size)
        self.LayerNorm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        self.dropout = nn.Dropout(config.hidden_dropout_prob)

    def forward(self, x: Tensor, residual: Tensor) -> Tensor:
        return self.LayerNorm(self.dropout(project(x, self.dense)[0]) + residual)


class BertAttention(nn.Module):
    def __init__(self, config: BertConfig, layer: int, cross: bool = False):
        super().__init__()
        self.self = BertSelfAttention(config, layer, cross)
        self.output = BertOutput(config, config.hidden_size)

    def forward(self, x: Tensor, this: Pass) -> Tensor:
        return self.output(self.self(x, this), residual=x)


class BertIntermediate(nn.Module):
    def __init__(self, config: BertConfig):
        super().__init__()
        self.dense = nn.Linear(config.hidden_size, config.intermediate_size)
        self.act = activation(config.hidden_act)

    def forward(self, x: Tensor) -> Tensor:
        return activate(self.dense, self.act, x)


class BertLayer(nn.Module):
    def __init__(self, config: BertConfig, layer: int):
        super().__init__()
        self.attention = BertAttention(config, layer)
        if config.add_cross_attention:
            self.crossattention = BertAttention(config, layer, cross=True)
        self.intermediate = BertIntermediate(config)
        self.output = BertOutput(config, config.intermediate_size)

    def forward(self, x: Tensor, this: Pass) -> Tensor:
        x = self.attention(x, this)
        if this.encoded is not None:
            x = self.crossattention(x, this)
        return self.output(self.intermediate(x), residual=x)


class BertEncoder(nn.Module):
    def __init__(self, config: BertConfig):
        super().__init__()
        self.layer = nn.ModuleList(BertLayer(config, i) for i in range(config.num_hidden_layers))

    def forward(self, x: Tensor, this: Pass, keep: bool, checkpointing: bool = False) -> tuple[Tensor, ...]:
        """L + 1 tensors [B, T, C]: the input, then the output of every layer; unless keep, the last alone."""
        hidden_states = (x,)
        for layer in self.layer:
            x = cast(Tensor, checkpoint(layer, x, this, use_reentrant=False)) if checkpointing else layer(x, this)
            hidden_states = (*hidden_states, x) if keep else (x,)
        return hidden_states


class BertPooler(nn.Module):
    def __init__(self, config: BertConfig):
        super().__init__()
        self.dense = nn.Linear(config.hidden_size, config.hidden_size)

    def forward(self, x: Tensor) -> Tensor:
        """x: the first token of each sequence, [B, C]."""
        return torch.tanh(self.dense(x))


class BertPredictionHeadTransform(nn.Module):
    def __init__(self, config: BertConfig):
        super().__init__()
        self.dense = nn.Linear(config.hidden_size, config.hidden_size)
        self.act = activation(config.hidden_act)
        self.LayerNorm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)

    def forward(self, x: Tensor) -> Tensor:
        return self.LayerNorm(activate(self.dense, self.act, x))


class BertLMPredictionHead(nn.Module):
    """Hidden states -> logits over the vocabulary. The bias stands under two names in checkpoints."""

    def __init__(self, config: BertConfig):
        super().__init__()
        self.transform = BertPredictionHeadTransform(config)
        self.decoder = nn.Linear(config.hidden_size, config.vocab_size)
        self.bias = self.decoder.bias

    def forward(self, x: Tensor) -> Tensor:
        return self.decoder(self.transform(x))


class BertHeads(nn.Module):
    """The heads of pre-training: words, next sentence, or both."""

    def __init__(self, config: BertConfig, words: bool = False, sentences: bool = False):
        super().__init__()
        if words:
            self.predictions = BertLMPredictionHead(config)
        if sentences:
            self.seq_relationship = nn.Linear(config.hidden_size, 2)


# ---- Models


class BertPreTrainedModel(Model):
    config_class, base_model_prefix, accepts_packed = BertConfig, "bert", True
    config: BertConfig
    # gamma and beta: checkpoints written before 2019; position_ids: a buffer of Transformers before 4.31
    renames = ((r"\.gamma$", ".weight"), (r"\.beta$", ".bias"), (r"embeddings\.position_ids$", None))
    prepared = r"encoder\.layer\.\d+\."
    together = r"\.attention\.self\.(query|key|value)$"
    may_be_new = (r"^(bert\.)?pooler\.", r"^classifier\.", r"^qa_outputs\.", r"^cls\.", r"\.crossattention\.")

    def init_weights(self, module: nn.Module) -> None:
        if isinstance(module, (nn.Linear, nn.Embedding)):
            module.weight.normal_(0.0, self.config.initializer_range)
        if isinstance(module, nn.Embedding) and module.padding_idx is not None:
            module.weight[module.padding_idx].zero_()
        if isinstance(module, nn.LayerNorm):
            module.weight.fill_(1.0)
        if isinstance(module, (nn.Linear, nn.LayerNorm, BertLMPredictionHead)) and module.bias is not None:
            module.bias.zero_()


class BertModel(BertPreTrainedModel):
    def __init__(self, config: BertConfig, add_pooling_layer: bool = True):
        super().__init__(config)
        self.embeddings = BertEmbeddings(config)
        self.encoder = BertEncoder(config)
        self.pooler = BertPooler(config) if add_pooling_layer else None
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
        """input_ids [B, T], or inputs_embeds [B, T, C] in their place; token_type_ids [B, T], 0 or 1.

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
        this = Pass(attend, head_mask, cache, encoder_hidden_states, cross_attend)
        states = config.output_hidden_states if output_hidden_states is None else output_hidden_states
        hidden_states = self.encoder(x, this, states, self.gradient_checkpointing and self.training)
        x = hidden_states[-1]
        return BaseModelOutputWithPoolingAndCrossAttentions(
            last_hidden_state=x,
            pooler_output=None if self.pooler is None else self.pooler(first_token(x, attention_mask)),
            past_key_values=cache,
            hidden_states=hidden_states if states else None,
            attentions=tuple(attentions) if attentions is not None else None,
            cross_attentions=tuple(cross_attentions) if cross_attentions and cross_attend is not None else None,
        )


class BertForPreTraining(BertPreTrainedModel):
    tied = {"cls.predictions.decoder.weight": "bert.embeddings.word_embeddings.weight"}

    def __init__(self, config: BertConfig):
        super().__init__(config)
        self.bert = BertModel(config)
        self.cls = BertHeads(config, words=True, sentences=True)
        self.post_init()

    def get_output_embeddings(self) -> nn.Module:
        return self.cls.predictions.decoder

    def set_output_embeddings(self, new_embeddings: nn.Module) -> None:
        self.cls.predictions.decoder = new_embeddings  # type: ignore[assignment]
        self.cls.predictions.bias = new_embeddings.bias  # type: ignore[assignment]

    def forward(
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | Packed | None = None,
        token_type_ids: Tensor | None = None,
        position_ids: Tensor | None = None,
        inputs_embeds: Tensor | None = None,
        labels: Tensor | None = None,
        next_sentence_label: Tensor | None = None,
        *,
        head_mask: Tensor | None = None,
        output_attentions: bool | None = None,
        output_hidden_states: bool | None = None,
    ) -> PreTrainingOutput:
        """labels [B, T]: words, -100 where none is asked for; next_sentence_label [B]: 0: the second one follows."""
        encoded = self.bert(
            input_ids,
            attention_mask,
            token_type_ids,
            position_ids,
            inputs_embeds,
            head_mask=head_mask,
            output_attentions=output_attentions,
            output_hidden_states=output_hidden_states,
        )
        words = self.cls.predictions(encoded.last_hidden_state)  # [B, T, V]
        follows = self.cls.seq_relationship(encoded.pooler_output)  # [B, 2]
        loss = count = None
        if labels is not None and next_sentence_label is not None:
            loss, count = token_loss(words, labels)
            loss = loss + token_loss(follows, next_sentence_label.view(-1))[0]
        return PreTrainingOutput(
            loss, words, follows, hidden_states=encoded.hidden_states, attentions=encoded.attentions, loss_count=count
        )


class BertLMHeadModel(BertPreTrainedModel):
    """BERT as a decoder: config.is_decoder makes it causal."""

    tied = {"cls.predictions.decoder.weight": "bert.embeddings.word_embeddings.weight"}
    generate, generation_config = generate, generation_config

    def __init__(self, config: BertConfig):
        super().__init__(config)
        self.bert = BertModel(config, add_pooling_layer=False)
        self.cls = BertHeads(config, words=True)
        self.post_init()

    def get_output_embeddings(self) -> nn.Module:
        return self.cls.predictions.decoder

    def set_output_embeddings(self, new_embeddings: nn.Module) -> None:
        self.cls.predictions.decoder = new_embeddings  # type: ignore[assignment]
        self.cls.predictions.bias = new_embeddings.bias  # type: ignore[assignment]

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
        decoded = self.bert(
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
        loss, count, logits = vocabulary_loss(self.cls.predictions, x, labels, shifted=True, parts=parts)
        return CausalLMOutputWithCrossAttentions(
            loss=loss,
            logits=logits,
            past_key_values=decoded.past_key_values,
            hidden_states=decoded.hidden_states,
            attentions=decoded.attentions,
            cross_attentions=decoded.cross_attentions,
            loss_count=count,
        )


class BertForMaskedLM(BertPreTrainedModel):
    tied = {"cls.predictions.decoder.weight": "bert.embeddings.word_embeddings.weight"}

    def __init__(self, config: BertConfig):
        super().__init__(config)
        self.bert = BertModel(config, add_pooling_layer=False)
        self.cls = BertHeads(config, words=True)
        self.post_init()

    def get_output_embeddings(self) -> nn.Module:
        return self.cls.predictions.decoder

    def set_output_embeddings(self, new_embeddings: nn.Module) -> None:
        self.cls.predictions.decoder = new_embeddings  # type: ignore[assignment]
        self.cls.predictions.bias = new_embeddings.bias  # type: ignore[assignment]

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
        encoded = self.bert(
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
        loss, count, logits = vocabulary_loss(self.cls.predictions, x, labels, shifted=False, parts=parts)
        return MaskedLMOutput(loss, logits, encoded.hidden_states, encoded.attentions, loss_count=count)


class BertForNextSentencePrediction(BertPreTrainedModel):
    def __init__(self, config: BertConfig):
        super().__init__(config)
        self.bert = BertModel(config)
        self.cls = BertHeads(config, sentences=True)
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
    ) -> NextSentencePredictorOutput:
        """labels [B]: 0 when the second sentence follows the first, 1 when it is a random one."""
        encoded = self.bert(
            input_ids,
            attention_mask,
            token_type_ids,
            position_ids,
            inputs_embeds,
            head_mask=head_mask,
            output_attentions=output_attentions,
            output_hidden_states=output_hidden_states,
        )
        logits = self.cls.seq_relationship(encoded.pooler_output)  # [B, 2]
        loss = count = None
        if labels is not None:
            loss, count = token_loss(logits, labels.view(-1))
        return NextSentencePredictorOutput(loss, logits, encoded.hidden_states, encoded.attentions, loss_count=count)


class BertForSequenceClassification(BertPreTrainedModel):
    def __init__(self, config: BertConfig):
        super().__init__(config)
        self.bert = BertModel(config)
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
    ) -> SequenceClassifierOutput:
        """labels: [B] integers, or floats [B] or [B, N]; see losses.sequence_loss."""
        encoded = self.bert(
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


class BertForMultipleChoice(BertPreTrainedModel):
    def __init__(self, config: BertConfig):
        super().__init__(config)
        self.bert = BertModel(config)
        self.dropout = nn.Dropout(classifier_dropout(config))
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
        encoded = self.bert(
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


class BertForTokenClassification(BertPreTrainedModel):
    def __init__(self, config: BertConfig):
        super().__init__(config)
        self.bert = BertModel(config, add_pooling_layer=False)
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
        encoded = self.bert(
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


class BertForQuestionAnswering(BertPreTrainedModel):
    def __init__(self, config: BertConfig):
        super().__init__(config)
        self.bert = BertModel(config, add_pooling_layer=False)
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
        encoded = self.bert(
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


def classifier_dropout(config: BertConfig) -> float:
    return config.hidden_dropout_prob if config.classifier_dropout is None else config.classifier_dropout


HEADS = {
    "base": BertModel,
    "pretraining": BertForPreTraining,
    "causal-lm": BertLMHeadModel,
    "masked-lm": BertForMaskedLM,
    "next-sentence": BertForNextSentencePrediction,
    "sequence-classification": BertForSequenceClassification,
    "multiple-choice": BertForMultipleChoice,
    "token-classification": BertForTokenClassification,
    "question-answering": BertForQuestionAnswering,
}
