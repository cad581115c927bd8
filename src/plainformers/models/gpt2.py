"""GPT-2: a decoder that normalises the input of each layer and learns a vector for each position.

Paper: Radford et al., 2019, https://cdn.openai.com/better-language-models/language_models_are_unsupervised_multitask_learners.pdf
Reference code: https://github.com/openai/gpt-2
Shapes: B batch, T tokens, C n_embd, H heads, D = C / H, V vocab_size, N labels, L layers, S choices.

Weights of linear layers are stored turned round, [in, out]. Different from Transformers: positions count from the first
real token; a sequence's label is made from its last real token by the mask (without one, by pad_token_id).
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
from ..linear import activate, project
from ..losses import sequence_loss, span_loss, token_loss, vocabulary_loss
from ..model import Model
from ..outputs import (
    BaseModelOutputWithPastAndCrossAttentions,
    CausalLMOutputWithCrossAttentions,
    ModelOutput,
    QuestionAnsweringModelOutput,
    SequenceClassifierOutputWithPast,
    TokenClassifierOutput,
    outside_tuple,
)
from ..sequences import Packed, blocks_of, first_token, last_token, make_position_ids, mean_tokens, real_tokens

# ---- Configuration


@dataclass(init=False)
class GPT2Config(Config):
    model_type = "gpt2"
    attribute_map = {
        "hidden_size": "n_embd",
        "max_position_embeddings": "n_positions",
        "num_attention_heads": "n_head",
        "num_hidden_layers": "n_layer",
    }

    vocab_size: int = 50257
    n_positions: int = 1024
    n_embd: int = 768
    n_layer: int = 12
    n_head: int = 12
    n_inner: int | None = None  # None: 4 n_embd
    activation_function: str = "gelu_new"
    resid_pdrop: float = 0.1
    embd_pdrop: float = 0.1
    attn_pdrop: float = 0.1
    layer_norm_epsilon: float = 1e-5
    initializer_range: float = 0.02
    # the head of choices: how a sequence becomes a vector, and what is made of that
    summary_type: str = "cls_index"
    summary_use_proj: bool = True
    summary_activation: str | None = None
    summary_proj_to_labels: bool = True
    summary_first_dropout: float = 0.1
    scale_attn_weights: bool = True
    scale_attn_by_inverse_layer_idx: bool = False
    reorder_and_upcast_attn: bool = False  # scores in float32; the softmax always is
    use_cache: bool = True
    bos_token_id: int | None = 50256
    eos_token_id: int | list[int] | None = 50256
    pad_token_id: int | None = None
    add_cross_attention: bool = False
    classifier_dropout: float | None = None  # of token classification
    hidden_dropout: float | None = None  # the same, in older configs

    def validate(self) -> None:
        super().validate()
        if self.n_head < 1 or self.n_embd % self.n_head:
            raise ValueError(f"n_embd ({self.n_embd}) must be a multiple of n_head ({self.n_head}).")
        if self.summary_type not in ("last", "first", "mean", "cls_index"):
            raise ValueError(f"summary_type must be last, first, mean or cls_index, got {self.summary_type!r:.80}.")


# ---- Layers


class Pass(NamedTuple):
    """What one forward pass makes above the layers."""

    attend: Attend
    cache: Cache | None
    head_mask: Tensor | None  # [L, H]
    encoded: Tensor | None  # an encoder's output [B, K, C]
    cross_attend: Attend | None


class Conv1D(nn.Module):
    """A linear layer whose weight [in, out] is stored turned round."""

    transposed = True  # for linear.py

    def __init__(self, nf: int, nx: int):
        super().__init__()
        self.weight = nn.Parameter(torch.empty(nx, nf))
        self.bias = nn.Parameter(torch.empty(nf))

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(x, self.weight.t(), self.bias)


class GPT2Attention(nn.Module):
    """Attention to the tokens themselves, or (cross) to an encoder's output."""

    def __init__(self, config: GPT2Config, layer: int, cross: bool = False):
        super().__init__()
        C, D = config.n_embd, config.n_embd // config.n_head
        self.c_attn = Conv1D((2 if cross else 3) * C, C)
        if cross:
            self.q_attn = Conv1D(C, C)
        self.c_proj = Conv1D(C, C)
        self.resid_dropout = nn.Dropout(config.resid_pdrop)
        self.scale = D**-0.5 if config.scale_attn_weights else 1.0
        if config.scale_attn_by_inverse_layer_idx:
            self.scale /= layer + 1
        self.head_dim, self.layer, self.cross, self.dropout = D, layer, cross, config.attn_pdrop

    def split(self, x: Tensor, parts: int) -> tuple[Tensor, ...]:
        """[B, T, parts C] -> parts of [B, H, T, D]"""
        return x.view(*x.shape[:2], parts, -1, self.head_dim).transpose(1, 3).unbind(2)

    def forward(self, x: Tensor, this: Pass) -> Tensor:
        B, T, C = x.shape
        attend, cache = this.attend, this.cache
        if self.cross:
            assert this.encoded is not None and this.cross_attend is not None
            attend, encoded = this.cross_attend, this.encoded
            (q,) = self.split(project(x, self.q_attn)[0], 1)

            def keys_and_values() -> tuple[Tensor, Tensor]:
                return cast(tuple[Tensor, Tensor], self.split(project(encoded, self.c_attn)[0], 2))

            k, v = cache.once(self.layer, keys_and_values) if cache is not None else keys_and_values()
        else:
            q, k, v = self.split(project(x, self.c_attn)[0], 3)
            if cache is not None:
                k, v = cache.append(self.layer, k, v)
        head_mask = None if this.head_mask is None or self.cross else this.head_mask[self.layer]
        x = attend(q, k, v, scale=self.scale, dropout=self.dropout if self.training else 0.0, head_mask=head_mask)
        return self.resid_dropout(project(x.transpose(1, 2).reshape(B, T, C), self.c_proj)[0])


class GPT2MLP(nn.Module):
    def __init__(self, config: GPT2Config):
        super().__init__()
        C, inner = config.n_embd, config.n_inner or 4 * config.n_embd
        self.c_fc = Conv1D(inner, C)
        self.c_proj = Conv1D(C, inner)
        self.act = activation(config.activation_function)
        self.dropout = nn.Dropout(config.resid_pdrop)

    def forward(self, x: Tensor) -> Tensor:
        return self.dropout(project(activate(self.c_fc, self.act, x), self.c_proj)[0])


class GPT2Block(nn.Module):
    def __init__(self, config: GPT2Config, layer: int):
        super().__init__()
        C, eps = config.n_embd, config.layer_norm_epsilon
        self.ln_1 = nn.LayerNorm(C, eps=eps)
        self.attn = GPT2Attention(config, layer)
        self.ln_2 = nn.LayerNorm(C, eps=eps)
        if config.add_cross_attention:
            self.crossattention = GPT2Attention(config, layer, cross=True)
            self.ln_cross_attn = nn.LayerNorm(C, eps=eps)
        self.mlp = GPT2MLP(config)

    def forward(self, x: Tensor, this: Pass) -> Tensor:
        x = x + self.attn(self.ln_1(x), this)
        if this.encoded is not None:
            x = x + self.crossattention(self.ln_cross_attn(x), this)
        return x + self.mlp(self.ln_2(x))


class GPT2SequenceSummary(nn.Module):
    """A vector of numbers for each sequence, from one of its tokens or their mean."""

    def __init__(self, config: GPT2Config, labels: int):
        super().__init__()
        out = labels if config.summary_proj_to_labels and labels > 0 else config.n_embd
        self.summary = nn.Linear(config.n_embd, out) if config.summary_use_proj else nn.Identity()
        self.activation = activation(config.summary_activation or "linear")
        self.first_dropout = nn.Dropout(config.summary_first_dropout)
        self.kind = config.summary_type

    def forward(self, x: Tensor, mask: Tensor | None, index: Tensor | None) -> Tensor:
        """x [B, T, C], index [B]: which token, without one the last -> [B, N or C]"""
        if self.kind == "first":
            x = first_token(x, mask)
        elif self.kind == "mean":
            x = mean_tokens(x, mask)
        elif self.kind == "last" or index is None:
            x = last_token(x, mask)
        else:
            x = x[torch.arange(len(x), device=x.device), index]
        return self.activation(self.summary(self.first_dropout(x)))


# ---- Models


@dataclass
class GPT2DoubleHeadsModelOutput(ModelOutput):
    loss: Tensor | None = None
    mc_loss: Tensor | None = None
    logits: Tensor | None = None  # [B, S, T, V]
    mc_logits: Tensor | None = None  # [B, S]
    past_key_values: Any = None
    hidden_states: tuple[Tensor, ...] | None = None
    attentions: tuple[Tensor, ...] | None = None
    loss_count: Tensor | None = outside_tuple()


class GPT2PreTrainedModel(Model):
    config_class, base_model_prefix, accepts_packed = GPT2Config, "transformer", True
    config: GPT2Config
    # buffers of masks in older checkpoints, which are no parameters
    renames = ((r"\.(cross)?att(n|ention)\.(masked_)?bias$", None),)
    prepared = r"h\.\d+\.|^lm_head$"
    outliers = r"\.mlp\.c_proj$"
    may_be_new = (
        *(r"^lm_head\.", r"^score\.", r"^classifier\.", r"^qa_outputs\.", r"^multiple_choice_head\."),
        *(r"\.crossattention\.", r"\.ln_cross_attn\."),
    )

    def init_weights(self, module: nn.Module) -> None:
        if isinstance(module, (nn.Linear, nn.Embedding, Conv1D)):
            module.weight.normal_(0.0, self.config.initializer_range)
        if isinstance(module, nn.LayerNorm):
            module.weight.fill_(1.0)
        if isinstance(module, (nn.Linear, nn.LayerNorm, Conv1D)) and module.bias is not None:
            module.bias.zero_()
        if isinstance(module, (GPT2Attention, GPT2MLP)):  # of which 2 L are summed up in the residual stream
            std = self.config.initializer_range / (2 * max(self.config.n_layer, 1)) ** 0.5
            module.c_proj.weight.normal_(0.0, std)


class GPT2Model(GPT2PreTrainedModel):
    def __init__(self, config: GPT2Config):
        super().__init__(config)
        self.wte = nn.Embedding(config.vocab_size, config.n_embd)
        self.wpe = nn.Embedding(config.n_positions, config.n_embd)
        self.drop = nn.Dropout(config.embd_pdrop)
        self.h = nn.ModuleList(GPT2Block(config, i) for i in range(config.n_layer))
        self.ln_f = nn.LayerNorm(config.n_embd, eps=config.layer_norm_epsilon)
        self.post_init()

    def get_input_embeddings(self) -> nn.Module:
        return self.wte

    def set_input_embeddings(self, value: nn.Module) -> None:
        self.wte = value  # type: ignore[assignment]

    def forward(
        self,
        input_ids: Tensor | None = None,
        past_key_values: Any = None,
        attention_mask: Tensor | Packed | None = None,
        token_type_ids: Tensor | None = None,
        position_ids: Tensor | None = None,
        inputs_embeds: Tensor | None = None,
        encoder_hidden_states: Tensor | None = None,
        encoder_attention_mask: Tensor | None = None,
        use_cache: bool | None = None,
        *,
        head_mask: Tensor | None = None,
        output_attentions: bool | None = None,
        output_hidden_states: bool | None = None,
    ) -> BaseModelOutputWithPastAndCrossAttentions:
        """input_ids [B, T], or inputs_embeds [B, T, C] in their place; token_type_ids [B, T] are words, too.

        attention_mask: 1 = real token, over the tokens in the cache and these; attention.dense_mask has other
        shapes; Packed for one row of concatenated sequences, which position_ids that start anew tell apart, too.
        head_mask [H] or [L, H]: 1 keeps a head, 0 silences it. encoder_hidden_states [B, K, C] and
        encoder_attention_mask [B, K]: for cross-attention. past_key_values, use_cache: see cache.py.
        """
        B, T, device = check_inputs(input_ids, inputs_embeds)
        config, kernel = self.config, self.config.attn_implementation
        record = config.output_attentions if output_attentions is None else output_attentions
        attentions, cross_attentions = ([], []) if record else (None, None)
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
        cross_attend = None
        if encoder_hidden_states is not None:
            if not config.add_cross_attention:
                raise ValueError("encoder_hidden_states need a model with add_cross_attention=True in its config.")
            N = encoder_hidden_states.shape[1]
            cross_attend = bind_attention(
                kernel, Q=T, K=N, causal=False, mask=encoder_attention_mask, device=device, record=cross_attentions
            )
        if head_mask is not None:
            head_mask = head_mask.expand(config.n_layer, config.n_head)

        x = self.wte(input_ids) if inputs_embeds is None else inputs_embeds
        x = x + self.wpe(position_ids)
        if token_type_ids is not None:
            x = x + self.wte(token_type_ids)
        x = self.drop(x)
        this = Pass(attend, cache, head_mask, encoder_hidden_states, cross_attend)
        hidden_states = (x,)
        for layer in self.h:
            x = cast(Tensor, checkpoint(layer, x, this, use_reentrant=False)) if again else layer(x, this)
            hidden_states += (x,)
        x = self.ln_f(x)
        states = config.output_hidden_states if output_hidden_states is None else output_hidden_states
        return BaseModelOutputWithPastAndCrossAttentions(
            last_hidden_state=x,
            past_key_values=cache,
            hidden_states=(*hidden_states[:-1], x) if states else None,
            attentions=tuple(attentions) if attentions is not None else None,
            cross_attentions=tuple(cross_attentions) if cross_attentions and cross_attend is not None else None,
        )


class GPT2LMHeadModel(GPT2PreTrainedModel):
    tied = {"lm_head.weight": "transformer.wte.weight"}
    generate, generation_config = generate, generation_config

    def __init__(self, config: GPT2Config):
        super().__init__(config)
        self.transformer = GPT2Model(config)
        self.lm_head = nn.Linear(config.n_embd, config.vocab_size, bias=False)
        self.post_init()

    def get_output_embeddings(self) -> nn.Module:
        return self.lm_head

    def set_output_embeddings(self, new_embeddings: nn.Module) -> None:
        self.lm_head = new_embeddings  # type: ignore[assignment]

    def to_logits(self, x: Tensor) -> Tensor:
        """x [..., C] -> [..., V]."""
        return project(x, self.lm_head)[0]

    def forward(
        self,
        input_ids: Tensor | None = None,
        past_key_values: Any = None,
        attention_mask: Tensor | Packed | None = None,
        token_type_ids: Tensor | None = None,
        position_ids: Tensor | None = None,
        inputs_embeds: Tensor | None = None,
        encoder_hidden_states: Tensor | None = None,
        encoder_attention_mask: Tensor | None = None,
        labels: Tensor | None = None,
        use_cache: bool | None = None,
        logits_to_keep: int | Tensor = 0,
        *,
        head_mask: Tensor | None = None,
        output_attentions: bool | None = None,
        output_hidden_states: bool | None = None,
    ) -> CausalLMOutputWithCrossAttentions:
        """labels [B, T]: the input_ids themselves, -100 where none; logits_to_keep: logits of the last n tokens."""
        decoded = self.transformer(
            input_ids,
            past_key_values,
            attention_mask,
            token_type_ids,
            position_ids,
            inputs_embeds,
            encoder_hidden_states,
            encoder_attention_mask,
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


class GPT2DoubleHeadsModel(GPT2PreTrainedModel):
    """Words, and which of several sequences goes on best."""

    tied = {"lm_head.weight": "transformer.wte.weight"}
    generate, generation_config = generate, generation_config

    def __init__(self, config: GPT2Config):
        super().__init__(config)
        self.transformer = GPT2Model(config)
        self.lm_head = nn.Linear(config.n_embd, config.vocab_size, bias=False)
        self.multiple_choice_head = GPT2SequenceSummary(config, labels=1)
        self.post_init()

    def get_output_embeddings(self) -> nn.Module:
        return self.lm_head

    def set_output_embeddings(self, new_embeddings: nn.Module) -> None:
        self.lm_head = new_embeddings  # type: ignore[assignment]

    def forward(
        self,
        input_ids: Tensor | None = None,
        past_key_values: Any = None,
        attention_mask: Tensor | None = None,
        token_type_ids: Tensor | None = None,
        position_ids: Tensor | None = None,
        inputs_embeds: Tensor | None = None,
        mc_token_ids: Tensor | None = None,
        labels: Tensor | None = None,
        mc_labels: Tensor | None = None,
        use_cache: bool | None = None,
        *,
        head_mask: Tensor | None = None,
        output_attentions: bool | None = None,
        output_hidden_states: bool | None = None,
    ) -> GPT2DoubleHeadsModelOutput:
        """All inputs may have a dimension of choices, [B, S, T]; labels as the ids. mc_token_ids [B, S]: the token that
        speaks for its sequence, without it the last; mc_labels [B]: the right choice.
        """
        given = input_ids if input_ids is not None else inputs_embeds
        assert given is not None
        lead = given.shape[: given.dim() - (1 if input_ids is not None else 2)]  # [B] or [B, S]
        parts = (input_ids, attention_mask, token_type_ids, position_ids, inputs_embeds)
        input_ids, mask, types, positions, embeds = (
            None if x is None else x.flatten(0, len(lead) - 1) if len(lead) > 1 else x for x in parts
        )
        decoded = self.transformer(
            input_ids,
            past_key_values,
            mask,
            types,
            positions,
            embeds,
            use_cache=use_cache,
            head_mask=head_mask,
            output_attentions=output_attentions,
            output_hidden_states=output_hidden_states,
        )
        x = decoded.last_hidden_state
        index = None if mc_token_ids is None else mc_token_ids.flatten()
        choices = self.multiple_choice_head(x, real_tokens(input_ids, mask, self.config.pad_token_id), index)
        choices = choices.view(*lead, -1).squeeze(-1)
        labels = None if labels is None else labels.view(x.shape[:2])
        loss, count, logits = vocabulary_loss(self.lm_head, x, labels, shifted=True, parts=0)
        return GPT2DoubleHeadsModelOutput(
            loss=loss,
            mc_loss=None if mc_labels is None else token_loss(choices, mc_labels)[0],
            logits=None if logits is None else logits.view(*lead, *logits.shape[1:]),
            mc_logits=choices,
            past_key_values=decoded.past_key_values,
            hidden_states=decoded.hidden_states,
            attentions=decoded.attentions,
            loss_count=count,
        )


class GPT2ForSequenceClassification(GPT2PreTrainedModel):
    def __init__(self, config: GPT2Config):
        super().__init__(config)
        self.transformer = GPT2Model(config)
        self.score = nn.Linear(config.n_embd, config.num_labels, bias=False)
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
    ) -> SequenceClassifierOutputWithPast:
        """labels: [B] integers, or floats [B] or [B, N]; see losses.sequence_loss. logits [B, N]."""
        decoded = self.transformer(
            input_ids,
            past_key_values,
            attention_mask,
            token_type_ids,
            position_ids,
            inputs_embeds,
            use_cache=use_cache,
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


class GPT2ForTokenClassification(GPT2PreTrainedModel):
    def __init__(self, config: GPT2Config):
        super().__init__(config)
        self.transformer = GPT2Model(config)
        dropout = config.hidden_dropout if config.classifier_dropout is None else config.classifier_dropout
        self.dropout = nn.Dropout(0.1 if dropout is None else dropout)
        self.classifier = nn.Linear(config.n_embd, config.num_labels)
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
        """labels [B, T]: -100 where none is asked for. logits [B, T, N]."""
        decoded = self.transformer(
            input_ids,
            past_key_values,
            attention_mask,
            token_type_ids,
            position_ids,
            inputs_embeds,
            use_cache=use_cache,
            head_mask=head_mask,
            output_attentions=output_attentions,
            output_hidden_states=output_hidden_states,
        )
        logits = self.classifier(self.dropout(decoded.last_hidden_state))
        loss = count = None
        if labels is not None:
            loss, count = token_loss(logits, labels)
        return TokenClassifierOutput(loss, logits, decoded.hidden_states, decoded.attentions, loss_count=count)


class GPT2ForQuestionAnswering(GPT2PreTrainedModel):
    def __init__(self, config: GPT2Config):
        super().__init__(config)
        self.transformer = GPT2Model(config)
        self.qa_outputs = nn.Linear(config.n_embd, 2)
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
        """start_positions, end_positions [B]: the answer's first and last token."""
        decoded = self.transformer(
            input_ids,
            None,
            attention_mask,
            token_type_ids,
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
    "base": GPT2Model,
    "causal-lm": GPT2LMHeadModel,
    "double-heads": GPT2DoubleHeadsModel,
    "sequence-classification": GPT2ForSequenceClassification,
    "token-classification": GPT2ForTokenClassification,
    "question-answering": GPT2ForQuestionAnswering,
}
