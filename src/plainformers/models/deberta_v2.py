"""DeBERTa 2 and 3: an encoder whose attention holds what a token says and where it stands in vectors of their own.

Papers: He et al., 2020, https://arxiv.org/abs/2006.03654 and 2021, https://arxiv.org/abs/2111.09543 (version 3)
Reference code: https://github.com/microsoft/DeBERTa
Shapes: B batch, T tokens, C hidden_size, E embedding_size, H heads, D = C / H, V vocab_size, N labels, L layers,
S choices, P rows of relative positions.

The score of query i and key j is q_i k_j + q_i K_d + k_j Q_d, divided by sqrt(D) and by the root of the number of its
terms; K and Q are keys and queries of relative positions, d is the bucket of the distance i - j.
Different from Transformers: positions count from the first real token of the mask, so padding on the left changes
nothing; both forms of the masked-word head load into either, so that the one in Microsoft's checkpoints is not lost;
with legacy=False, embedding_size may differ from hidden_size and the vocabulary can be resized.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple, cast

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
class DebertaV2Config(Config):
    model_type = "deberta-v2"

    vocab_size: int = 128100
    hidden_size: int = 1536
    num_hidden_layers: int = 24
    num_attention_heads: int = 24
    intermediate_size: int = 6144
    hidden_act: str = "gelu"
    hidden_dropout_prob: float = 0.1
    attention_probs_dropout_prob: float = 0.1
    max_position_embeddings: int = 512
    type_vocab_size: int = 0
    initializer_range: float = 0.02
    layer_norm_eps: float = 1e-7
    relative_attention: bool = False
    max_relative_positions: int = -1  # below 1: max_position_embeddings
    pad_token_id: int | None = 0
    bos_token_id: int | None = None
    eos_token_id: int | list[int] | None = None
    position_biased_input: bool = True  # absolute positions are added to the words
    pos_att_type: str | list[str] | None = None  # of c2p and p2c, "p2c|c2p" or ["p2c", "c2p"]
    pooler_dropout: float = 0.0
    pooler_hidden_act: str = "gelu"
    legacy: bool = True  # form of the masked-word head: cls.predictions, else lm_predictions.lm_head
    # what Transformers reads where a file has it
    share_att_key: bool = False  # relative positions go through the projections of the words
    position_buckets: int = -1  # below 1: each distance has its own row
    norm_rel_ebd: str = "none"  # or layer_norm
    conv_kernel_size: int = 0  # of the convolution beside the first layer; 0: none
    conv_groups: int = 1
    conv_act: str = "tanh"
    cls_dropout: float | None = None  # None: hidden_dropout_prob
    embedding_size: int | None = None  # None: hidden_size
    attention_head_size: int | None = None
    pooler_hidden_size: int | None = None

    def validate(self) -> None:
        super().validate()
        C, H = self.hidden_size, self.num_attention_heads
        if H < 1 or C % H:
            raise ValueError(f"hidden_size ({C}) must be a multiple of num_attention_heads ({H}).")
        if self.attention_head_size not in (None, C // H):
            raise ValueError(
                f"attention_head_size must be hidden_size / num_attention_heads ({C // H}), got "
                f"{self.attention_head_size}."
            )
        if strange := set(self.position_terms) - {"c2p", "p2c"}:
            raise ValueError(f"pos_att_type may name c2p and p2c, got {', '.join(sorted(strange))}.")
        if strange := set(parts(self.norm_rel_ebd)) - {"none", "layer_norm"}:
            raise ValueError(f"norm_rel_ebd must be 'none' or 'layer_norm', got {', '.join(sorted(strange))}.")
        if self.position_buckets == 1:
            raise ValueError("position_buckets must be at least 2, or below 1 for none, got 1.")
        if self.conv_kernel_size > 0 and self.conv_kernel_size % 2 == 0:
            raise ValueError(f"conv_kernel_size must be odd, or 0 for no convolution, got {self.conv_kernel_size}.")
        if self.conv_groups < 1 or C % self.conv_groups:
            raise ValueError(f"conv_groups must divide hidden_size ({C}), got {self.conv_groups}.")

    @property
    def longest_input(self) -> int | None:
        """Tokens of the longest input: only absolute positions end; far ones share the last relative one."""
        return self.max_position_embeddings if self.position_biased_input else None

    @property
    def position_terms(self) -> list[str]:
        """pos_att_type as a list."""
        return parts("|".join(self.pos_att_type) if isinstance(self.pos_att_type, list) else self.pos_att_type or "")

    @property
    def farthest(self) -> int:
        """The distance from which on relative positions are no longer told apart."""
        return self.max_relative_positions if self.max_relative_positions > 0 else self.max_position_embeddings

    @property
    def span(self) -> int:
        """The number of relative positions to either side."""
        return self.position_buckets if self.position_buckets > 0 else self.farthest

    def to_dict(self) -> dict[str, Any]:
        """Without the sizes that follow from others, which Transformers would read as None."""
        follow = ("embedding_size", "attention_head_size", "pooler_hidden_size")
        return {name: value for name, value in super().to_dict().items() if value is not None or name not in follow}


def parts(text: str) -> list[str]:
    """The parts of "p2c|c2p"."""
    return [part.strip() for part in text.lower().split("|") if part.strip()]


# ---- Layers


class Pass(NamedTuple):
    """What one forward pass makes above the layers and every layer reads."""

    attend: Attend
    positions: Tensor | None = None  # [P, C], the relative positions within reach
    rows: Tensor | None = None  # [2T - 1], the row of these for each distance from 1 - T to T - 1


def distance_rows(T: int, reach: int, config: DebertaV2Config, device: torch.device) -> Tensor:
    """[2T - 1]: for each distance from 1 - T to T - 1 its row among 2 reach relative positions, 0 in the middle.

    Buckets: distances up to half their number have one each, those behind share them, the more the farther.
    """
    # on the CPU in float64: in which bucket a distance falls must not depend on the device
    distance = torch.arange(1 - T, T)
    near = config.position_buckets // 2
    if near > 0 and config.farthest - 1 > near:
        far = distance.abs().clamp(min=near).double()
        steps = (far / near).log() * ((near - 1) / math.log((config.farthest - 1) / near))
        bucket = near + (steps - 1e-9).ceil().long()  # the last bit of a logarithm must not decide either
        distance = torch.where(distance.abs() <= near, distance, distance.sign() * bucket)
    return (distance.clamp(-reach, reach - 1) + reach).to(device)


def position_scores(q: Tensor, k: Tensor, *, pos_k: Tensor | None, pos_q: Tensor | None, rows: Tensor) -> Tensor:
    """[B, H, n, n]: the terms of the scores that depend on distances, for q and k [B, H, n, D].

    pos_k, pos_q [H, P, D]: keys and queries of relative positions, scaled; None leaves a term out.
    """
    n, middle = q.shape[2], len(rows) // 2
    near = rows[middle - n + 1 : middle + n].unfold(0, n, 1)  # [n, n], distances rise along both dimensions
    shape, terms = (*q.shape[:3], n), []
    if pos_k is not None:
        scores = torch.einsum("bhqd,hpd->bhqp", q, pos_k)
        terms.append(scores.gather(-1, near.flip(1).expand(shape)))
    if pos_q is not None:
        scores = torch.einsum("bhkd,hpd->bhkp", k, pos_q)
        terms.append(scores.gather(-1, near.flip(0).expand(shape)).transpose(-1, -2))
    return terms[0] if len(terms) == 1 else terms[0] + terms[1]


class DebertaV2Embeddings(nn.Module):
    def __init__(self, config: DebertaV2Config):
        super().__init__()
        C, E, types = config.hidden_size, config.embedding_size or config.hidden_size, config.type_vocab_size
        self.word_embeddings = nn.Embedding(config.vocab_size, E, padding_idx=config.pad_token_id)
        absolute = config.position_biased_input
        self.position_embeddings = nn.Embedding(config.max_position_embeddings, E) if absolute else None
        self.token_type_embeddings = nn.Embedding(types, E) if types > 0 else None
        self.embed_proj = nn.Linear(E, C, bias=False) if E != C else None
        self.LayerNorm = nn.LayerNorm(C, eps=config.layer_norm_eps)
        self.dropout = nn.Dropout(config.hidden_dropout_prob)

    def forward(
        self,
        input_ids: Tensor | None,
        token_type_ids: Tensor | None,
        position_ids: Tensor | None,
        inputs_embeds: Tensor | None,
    ) -> Tensor:
        x = self.word_embeddings(input_ids) if inputs_embeds is None else inputs_embeds
        if self.position_embeddings is not None:
            x = x + self.position_embeddings(position_ids)
        if self.token_type_embeddings is not None:
            types = self.token_type_embeddings
            x = x + (types.weight[0] if token_type_ids is None else types(token_type_ids))
        if self.embed_proj is not None:
            x = project(x, self.embed_proj)[0]
        return self.dropout(self.LayerNorm(x))


class DebertaV2SelfAttention(nn.Module):
    def __init__(self, config: DebertaV2Config):
        super().__init__()
        C, terms, relative = config.hidden_size, config.position_terms, config.relative_attention
        self.query_proj = nn.Linear(C, C)
        self.key_proj = nn.Linear(C, C)
        self.value_proj = nn.Linear(C, C)
        self.c2p, self.p2c, self.shared = "c2p" in terms, "p2c" in terms, config.share_att_key
        own = relative and not self.shared
        self.pos_key_proj = nn.Linear(C, C) if own and self.c2p else None
        self.pos_query_proj = nn.Linear(C, C) if own and self.p2c else None
        self.pos_dropout = nn.Dropout(config.hidden_dropout_prob)
        self.heads, self.dropout = config.num_attention_heads, config.attention_probs_dropout_prob
        # the terms count even where relative_attention is off: so it was trained
        self.scale = (C // self.heads * (1 + self.c2p + self.p2c)) ** -0.5

    def bias(self, this: Pass) -> Callable[[Tensor, Tensor], Tensor] | None:
        """What attend asks for the terms of the scores that depend on distances."""
        if this.positions is None or this.rows is None or not (self.c2p or self.p2c):
            return None
        positions = self.pos_dropout(this.positions)
        query, key = (self.query_proj, self.key_proj) if self.shared else (self.pos_query_proj, self.pos_key_proj)
        layers = [layer for layer, asked in ((query, self.p2c), (key, self.c2p)) if asked and layer is not None]
        projected = project(positions, *layers)
        split = [y.view(len(positions), self.heads, -1).transpose(0, 1) * self.scale for y in projected]  # [H, P, D]
        pos_q, pos_k = split[0] if self.p2c else None, split[-1] if self.c2p else None
        return partial(position_scores, pos_k=pos_k, pos_q=pos_q, rows=this.rows)

    def forward(self, x: Tensor, this: Pass) -> Tensor:
        B, T, C = x.shape
        # apart from the values, since relative positions may go through the first two as well
        projected = (*project(x, self.query_proj, self.key_proj), *project(x, self.value_proj))
        q, k, v = (y.view(B, T, self.heads, -1).transpose(1, 2) for y in projected)
        dropout = self.dropout if self.training else 0.0
        x = this.attend(q, k, v, scale=self.scale, dropout=dropout, bias=self.bias(this))  # [B, H, T, D]
        return x.transpose(1, 2).reshape(B, T, C)


class DebertaV2Output(nn.Module):
    """Back to the hidden size, plus the residual, normalised."""

    def __init__(self, config: DebertaV2Config, in_features: int):
        super().__init__()
        self.dense = nn.Linear(in_features, config.hidden_size)
        self.LayerNorm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        self.dropout = nn.Dropout(config.hidden_dropout_prob)

    def forward(self, x: Tensor, residual: Tensor) -> Tensor:
        return self.LayerNorm(self.dropout(project(x, self.dense)[0]) + residual)


class DebertaV2Attention(nn.Module):
    def __init__(self, config: DebertaV2Config):
        super().__init__()
        self.self = DebertaV2SelfAttention(config)
        self.output = DebertaV2Output(config, config.hidden_size)

    def forward(self, x: Tensor, this: Pass) -> Tensor:
        return self.output(self.self(x, this), residual=x)


class DebertaV2Intermediate(nn.Module):
    def __init__(self, config: DebertaV2Config):
        super().__init__()
        self.dense = nn.Linear(config.hidden_size, config.intermediate_size)
        self.act = activation(config.hidden_act)

    def forward(self, x: Tensor) -> Tensor:
        return activate(self.dense, self.act, x)


class DebertaV2Layer(nn.Module):
    def __init__(self, config: DebertaV2Config):
        super().__init__()
        self.attention = DebertaV2Attention(config)
        self.intermediate = DebertaV2Intermediate(config)
        self.output = DebertaV2Output(config, config.intermediate_size)

    def forward(self, x: Tensor, this: Pass) -> Tensor:
        x = self.attention(x, this)
        return self.output(self.intermediate(x), residual=x)


class DebertaV2Conv(nn.Module):
    """A convolution over the embeddings, added to the output of the first layer: what stands together goes together."""

    def __init__(self, config: DebertaV2Config):
        super().__init__()
        C, size = config.hidden_size, config.conv_kernel_size
        self.conv = nn.Conv1d(C, C, size, padding=size // 2, groups=config.conv_groups)
        self.act = activation(config.conv_act)
        self.LayerNorm = nn.LayerNorm(C, eps=config.layer_norm_eps)
        self.dropout = nn.Dropout(config.hidden_dropout_prob)

    def forward(self, x: Tensor, residual: Tensor, mask: Tensor | Packed | None) -> Tensor:
        """x, residual [B, T, C]. A sequence sees zeros where it ends, whatever stands there."""
        places = None
        if isinstance(mask, Packed):  # zeros are put between the sequences
            gap = self.conv.kernel_size[0] // 2
            number = torch.cat([torch.full((n,), i, device=x.device) for i, n in enumerate(mask.lengths)])
            places = torch.arange(len(number), device=x.device) + gap * number
            spaced = x.new_zeros(1, len(number) + gap * (len(mask.lengths) - 1), x.shape[2])
            x = spaced.index_copy(1, places, x)
        elif mask is not None:
            x = x.masked_fill(~real_tokens(mask)[..., None], 0.0)
        x = self.conv(x.transpose(1, 2)).transpose(1, 2)
        x = x if places is None else x[:, places]
        return self.LayerNorm(residual + self.act(self.dropout(x)))


def real_tokens(mask: Tensor) -> Tensor:
    """[B, T] bool: the tokens that count in a mask [B, T], or that a query may see in one of 3 or 4 dimensions."""
    if mask.dim() == 4 and mask.is_floating_point():
        mask = mask > -1e3  # what is added to hide a token is -1e4 or less
    return mask.bool() if mask.dim() == 2 else mask.bool().flatten(1, -2).any(1)


class DebertaV2Encoder(nn.Module):
    def __init__(self, config: DebertaV2Config):
        super().__init__()
        C, normal = config.hidden_size, "layer_norm" in parts(config.norm_rel_ebd)
        self.layer = nn.ModuleList(DebertaV2Layer(config) for _ in range(config.num_hidden_layers))
        self.rel_embeddings = nn.Embedding(2 * config.span, C) if config.relative_attention else None
        self.LayerNorm = nn.LayerNorm(C, eps=config.layer_norm_eps) if normal else None
        self.conv = DebertaV2Conv(config) if config.conv_kernel_size > 0 else None
        self.config = config

    def positions(self, T: int, longest: int) -> tuple[Tensor | None, Tensor | None]:
        """`positions` and `rows` of a Pass. longest: tokens of the longest sequence, all T when nothing is packed."""
        if self.rel_embeddings is None:
            return None, None
        span, config = self.config.span, self.config
        # where buckets grow slower than distances, as in all published models, short inputs reach few of them
        slower = config.position_buckets < 1 or config.position_buckets // 2 * math.e < config.farthest - 1
        reach = min(span, longest) if slower else span
        weight = self.rel_embeddings.weight[span - reach : span + reach]
        rows = distance_rows(T, reach, config, weight.device)
        return weight if self.LayerNorm is None else self.LayerNorm(weight), rows

    def forward(
        self, x: Tensor, this: Pass, mask: Tensor | Packed | None, keep: bool, checkpointing: bool = False
    ) -> tuple[Tensor, ...]:
        """L + 1 tensors [B, T, C]: the input, then the output of every layer; unless keep, the last alone."""
        hidden_states = (x,)
        for i, layer in enumerate(self.layer):
            x = cast(Tensor, checkpoint(layer, x, this, use_reentrant=False)) if checkpointing else layer(x, this)
            if i == 0 and self.conv is not None:
                x = self.conv(hidden_states[0], x, mask)
            hidden_states = (*hidden_states, x) if keep else (x,)
        return hidden_states


class DebertaV2Pooler(nn.Module):
    def __init__(self, config: DebertaV2Config):
        super().__init__()
        C, size = config.hidden_size, config.pooler_hidden_size
        if size not in (None, C):
            raise ValueError(f"pooler_hidden_size must be hidden_size ({C}), got {size}.")
        self.dense = nn.Linear(C, C)
        self.dropout = nn.Dropout(config.pooler_dropout)
        self.act = activation(config.pooler_hidden_act)

    def forward(self, x: Tensor) -> Tensor:
        """x: the first token of each sequence, [B, C]."""
        return activate(self.dense, self.act, self.dropout(x))


class DebertaV2PredictionHeadTransform(nn.Module):
    def __init__(self, config: DebertaV2Config):
        super().__init__()
        E = config.embedding_size or config.hidden_size
        self.dense = nn.Linear(config.hidden_size, E)
        self.act = activation(config.hidden_act)
        self.LayerNorm = nn.LayerNorm(E, eps=config.layer_norm_eps)

    def forward(self, x: Tensor) -> Tensor:
        return self.LayerNorm(activate(self.dense, self.act, x))  # [B, T, E]


class DebertaV2LegacyLMHead(nn.Module):
    """Hidden states -> logits over the vocabulary, by the names that Transformers gave it. The bias has two."""

    def __init__(self, config: DebertaV2Config):
        super().__init__()
        self.transform = DebertaV2PredictionHeadTransform(config)
        self.decoder = nn.Linear(self.transform.dense.out_features, config.vocab_size)
        self.bias = self.decoder.bias

    def forward(self, x: Tensor) -> Tensor:
        return self.decoder(self.transform(x))


class DebertaV2LMHead(nn.Module):
    """The same by the names of Microsoft's checkpoints, in which the words' embeddings always are its last layer."""

    def __init__(self, config: DebertaV2Config):
        super().__init__()
        if not config.tie_word_embeddings:
            raise ValueError("legacy=False needs tie_word_embeddings=True: this head has no output layer of its own.")
        E = config.embedding_size or config.hidden_size
        self.dense = nn.Linear(config.hidden_size, E)
        self.act = activation(config.hidden_act)
        self.LayerNorm = nn.LayerNorm(E, eps=config.layer_norm_eps)
        self.decoder = nn.Linear(E, config.vocab_size)
        self.bias = self.decoder.bias

    def forward(self, x: Tensor) -> Tensor:
        return self.decoder(self.LayerNorm(activate(self.dense, self.act, x)))


# ---- Models


class DebertaV2PreTrainedModel(Model):
    config_class, base_model_prefix, accepts_packed = DebertaV2Config, "deberta", True
    config: DebertaV2Config
    # gamma and beta: checkpoints written before 2019; position_ids: a buffer of Transformers before 4.31
    renames = ((r"\.gamma$", ".weight"), (r"\.beta$", ".bias"), (r"embeddings\.position_ids$", None))
    prepared = r"encoder\.layer\.\d+\.|embed_proj"
    together = r"\.attention\.self\.(query|key)_proj$"
    may_be_new = (
        *(r"^pooler\.", r"^classifier\.", r"^qa_outputs\.", r"^cls\."),
        *(r"^lm_predictions\.", r"^mask_predictions\."),
    )

    def init_weights(self, module: nn.Module) -> None:
        if isinstance(module, (nn.Linear, nn.Embedding, nn.Conv1d)):
            module.weight.normal_(0.0, self.config.initializer_range)
        if isinstance(module, nn.Embedding) and module.padding_idx is not None:
            module.weight[module.padding_idx].zero_()
        if isinstance(module, nn.LayerNorm):
            module.weight.fill_(1.0)
        biased = (nn.Linear, nn.LayerNorm, nn.Conv1d, DebertaV2LegacyLMHead, DebertaV2LMHead)
        if isinstance(module, biased) and module.bias is not None:
            module.bias.zero_()


class DebertaV2Model(DebertaV2PreTrainedModel):
    def __init__(self, config: DebertaV2Config):
        super().__init__(config)
        self.embeddings = DebertaV2Embeddings(config)
        self.encoder = DebertaV2Encoder(config)
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
        output_attentions: bool | None = None,
        output_hidden_states: bool | None = None,
    ) -> BaseModelOutput:
        """input_ids [B, T], or inputs_embeds [B, T, E] in their place.

        attention_mask [B, T]: 1 = real token; see attention.dense_mask for other shapes; Packed for one row of
        concatenated sequences. token_type_ids and position_ids [B, T] count where the config has embeddings of them.
        output_*: None is what the config says.
        """
        B, T, device = check_inputs(input_ids, inputs_embeds)
        config, kernel = self.config, self.config.attn_implementation
        record = config.output_attentions if output_attentions is None else output_attentions
        attentions = [] if record else None
        if position_ids is None:
            position_ids = make_position_ids(attention_mask, B, T, 0, device)

        attend = bind_attention(kernel, Q=T, K=T, causal=False, mask=attention_mask, device=device, record=attentions)
        longest = max(attention_mask.lengths) if isinstance(attention_mask, Packed) else T
        x = self.embeddings(input_ids, token_type_ids, position_ids, inputs_embeds)
        this = Pass(attend, *self.encoder.positions(T, longest))
        checkpointing = self.gradient_checkpointing and self.training
        states = config.output_hidden_states if output_hidden_states is None else output_hidden_states
        hidden_states = self.encoder(x, this, attention_mask, states, checkpointing)
        return BaseModelOutput(
            last_hidden_state=hidden_states[-1],
            hidden_states=hidden_states if states else None,
            attentions=tuple(attentions) if attentions is not None else None,
        )


class DebertaV2ForMaskedLM(DebertaV2PreTrainedModel):
    def __init__(self, config: DebertaV2Config):
        super().__init__(config)
        self.deberta = DebertaV2Model(config)
        words = "deberta.embeddings.word_embeddings.weight"
        if config.legacy:
            self.cls = nn.ModuleDict({"predictions": DebertaV2LegacyLMHead(config)})
            self.tied = {"cls.predictions.decoder.weight": words}  # type: ignore[misc]
            other = (
                (r"^lm_predictions\.lm_head\.(dense|LayerNorm)\.", r"cls.predictions.transform.\1."),
                (r"^lm_predictions\.lm_head\.", "cls.predictions."),
            )
        else:
            self.lm_predictions = nn.ModuleDict({"lm_head": DebertaV2LMHead(config)})
            self.tied = {"lm_predictions.lm_head.decoder.weight": words}  # type: ignore[misc]
            other = ((r"^cls\.predictions\.(transform\.)?", "lm_predictions.lm_head."),)
        self.renames = (*type(self).renames, *other)  # type: ignore[misc]
        self.post_init()

    def head(self) -> Any:
        return self.cls["predictions"] if self.config.legacy else self.lm_predictions["lm_head"]

    def get_output_embeddings(self) -> nn.Module:
        return self.head().decoder

    def set_output_embeddings(self, new_embeddings: nn.Module) -> None:
        self.head().decoder = new_embeddings
        self.head().bias = new_embeddings.bias

    def forward(
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | Packed | None = None,
        token_type_ids: Tensor | None = None,
        position_ids: Tensor | None = None,
        inputs_embeds: Tensor | None = None,
        labels: Tensor | None = None,
        *,
        output_attentions: bool | None = None,
        output_hidden_states: bool | None = None,
    ) -> MaskedLMOutput:
        """labels [B, T]: the words that stood there, -100 where none is asked for."""
        encoded = self.deberta(
            input_ids,
            attention_mask,
            token_type_ids,
            position_ids,
            inputs_embeds,
            output_attentions=output_attentions,
            output_hidden_states=output_hidden_states,
        )
        x, parts = encoded.last_hidden_state, self.loss_parts if self.training else 0
        loss, count, logits = vocabulary_loss(self.head(), x, labels, shifted=False, parts=parts)
        return MaskedLMOutput(loss, logits, encoded.hidden_states, encoded.attentions, loss_count=count)


class DebertaV2ForSequenceClassification(DebertaV2PreTrainedModel):
    def __init__(self, config: DebertaV2Config):
        super().__init__(config)
        self.deberta = DebertaV2Model(config)
        self.pooler = DebertaV2Pooler(config)
        self.dropout = nn.Dropout(config.hidden_dropout_prob if config.cls_dropout is None else config.cls_dropout)
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
        output_attentions: bool | None = None,
        output_hidden_states: bool | None = None,
    ) -> SequenceClassifierOutput:
        """labels [B], or [B, N] of floats; see losses.sequence_loss."""
        encoded = self.deberta(
            input_ids,
            attention_mask,
            token_type_ids,
            position_ids,
            inputs_embeds,
            output_attentions=output_attentions,
            output_hidden_states=output_hidden_states,
        )
        pooled = self.pooler(first_token(encoded.last_hidden_state, attention_mask))
        logits = self.classifier(self.dropout(pooled))  # [B, N]
        loss = count = None
        if labels is not None:
            loss, count = sequence_loss(logits, labels, self.config.problem_type)
        return SequenceClassifierOutput(loss, logits, encoded.hidden_states, encoded.attentions, loss_count=count)


class DebertaV2ForMultipleChoice(DebertaV2PreTrainedModel):
    def __init__(self, config: DebertaV2Config):
        super().__init__(config)
        self.deberta = DebertaV2Model(config)
        self.pooler = DebertaV2Pooler(config)
        self.dropout = nn.Dropout(config.hidden_dropout_prob if config.cls_dropout is None else config.cls_dropout)
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
        output_attentions: bool | None = None,
        output_hidden_states: bool | None = None,
    ) -> MultipleChoiceModelOutput:
        """All inputs have a dimension of choices, [B, S, T]; labels [B]: the right choice. logits [B, S]."""
        given = input_ids if input_ids is not None else inputs_embeds
        if given is None or given.dim() < 3:
            raise ValueError("Multiple choice takes input_ids of shape [B, S, T], or inputs_embeds of [B, S, T, E].")
        inputs = (input_ids, attention_mask, token_type_ids, position_ids, inputs_embeds)
        inputs = [None if one is None else one.flatten(0, 1) for one in inputs]
        encoded = self.deberta(*inputs, output_attentions=output_attentions, output_hidden_states=output_hidden_states)
        pooled = self.pooler(first_token(encoded.last_hidden_state, inputs[1]))
        logits = self.classifier(self.dropout(pooled)).view(given.shape[:2])  # [B, S]
        loss = count = None
        if labels is not None:
            loss, count = token_loss(logits, labels)
        return MultipleChoiceModelOutput(loss, logits, encoded.hidden_states, encoded.attentions, loss_count=count)


class DebertaV2ForTokenClassification(DebertaV2PreTrainedModel):
    def __init__(self, config: DebertaV2Config):
        super().__init__(config)
        self.deberta = DebertaV2Model(config)
        self.dropout = nn.Dropout(config.hidden_dropout_prob)
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
        output_attentions: bool | None = None,
        output_hidden_states: bool | None = None,
    ) -> TokenClassifierOutput:
        """labels [B, T], -100 where none."""
        encoded = self.deberta(
            input_ids,
            attention_mask,
            token_type_ids,
            position_ids,
            inputs_embeds,
            output_attentions=output_attentions,
            output_hidden_states=output_hidden_states,
        )
        logits = self.classifier(self.dropout(encoded.last_hidden_state))  # [B, T, N]
        loss = count = None
        if labels is not None:
            loss, count = token_loss(logits, labels)
        return TokenClassifierOutput(loss, logits, encoded.hidden_states, encoded.attentions, loss_count=count)


class DebertaV2ForQuestionAnswering(DebertaV2PreTrainedModel):
    def __init__(self, config: DebertaV2Config):
        super().__init__(config)
        self.deberta = DebertaV2Model(config)
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
        output_attentions: bool | None = None,
        output_hidden_states: bool | None = None,
    ) -> QuestionAnsweringModelOutput:
        """start_positions, end_positions [B]: first and last token of the answer."""
        encoded = self.deberta(
            input_ids,
            attention_mask,
            token_type_ids,
            position_ids,
            inputs_embeds,
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
    "base": DebertaV2Model,
    "pretraining": DebertaV2ForMaskedLM,
    "masked-lm": DebertaV2ForMaskedLM,
    "sequence-classification": DebertaV2ForSequenceClassification,
    "multiple-choice": DebertaV2ForMultipleChoice,
    "token-classification": DebertaV2ForTokenClassification,
    "question-answering": DebertaV2ForQuestionAnswering,
}
