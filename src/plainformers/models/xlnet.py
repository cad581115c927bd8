"""XLNet: an encoder that is pre-trained on words in permuted order; its attention knows distances and segments only.

Paper: Yang et al., 2019, https://arxiv.org/abs/1906.08237
Reference code: https://github.com/zihangdai/xlnet
Shapes: B batch, T tokens, M tokens in memory, K = M + T, P predictions, R directions (2 with bi_data, else 1),
C d_model, H n_head, D = C / H, V vocab_size, N labels, L n_layer, S choices, A starts of answers.

The content stream holds what stands at each place. With target_mapping there is a query stream too, which holds for
each prediction what can be known of its place from elsewhere. The tokenizer pads on the left and puts <cls> at the end.
Different from Transformers: classifiers read the last real token, so padding on the right changes nothing; the summary
"mean" counts real tokens; padding is no candidate for an answer; with mems, attention_mask may cover the memory too,
and distances count real tokens; a prediction that may see nothing sees nothing, not everything; head_mask is honoured;
the dropout of positions is one for all sequences of a batch.
"""

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from ..activations import activation
from ..arguments import check_inputs
from ..attention import Attend, bind_attention
from ..config import Config
from ..linear import activate, project
from ..losses import sequence_loss, span_loss, token_loss
from ..model import Model
from ..outputs import ModelOutput, outside_tuple
from ..sequences import first_token, last_token, mean_tokens

# ---- Configuration


@dataclass(init=False)
class XLNetConfig(Config):
    model_type = "xlnet"
    attribute_map = {
        "n_token": "vocab_size",
        "hidden_size": "d_model",
        "num_hidden_layers": "n_layer",
        "num_attention_heads": "n_head",
    }

    vocab_size: int = 32000
    d_model: int = 1024
    n_layer: int = 24
    n_head: int = 16
    d_inner: int = 4096
    ff_activation: str = "gelu"
    untie_r: bool = True  # False: the layers' biases began as one; a checkpoint holds each layer's own in any case
    attn_type: str = "bi"  # uni: a token sees only what stands before it
    initializer_range: float = 0.02
    layer_norm_eps: float = 1e-12
    dropout: float = 0.1
    mem_len: int | None = 512  # tokens that are remembered; None, 0: all of them
    reuse_len: int | None = None  # only the first of an input are remembered; None, 0: all of them
    use_mems_eval: bool = True
    use_mems_train: bool = False
    bi_data: bool = False  # the second half of a batch is read backwards
    clamp_len: int = -1  # farther distances count as this one; -1: none do
    same_length: bool = False  # with "uni": every token sees as many others, M
    summary_type: str = "last"  # last, first, mean; cls_index is last
    summary_use_proj: bool = True
    summary_activation: str | None = "tanh"
    summary_last_dropout: float = 0.1
    start_n_top: int = 5
    end_n_top: int = 5
    pad_token_id: int | None = 5
    bos_token_id: int | None = 1
    eos_token_id: int | list[int] | None = 2
    d_head: int | None = None  # d_model / n_head, and nothing else

    def validate(self) -> None:
        super().validate()
        values = vars(self)
        sizes = ("d_model", "n_head", "d_inner", "start_n_top", "end_n_top", "mem_len", "reuse_len")
        for name, least in zip(sizes, (1, 1, 1, 1, 1, 0, 0), strict=True):
            if values[name] is not None and values[name] < least:
                raise ValueError(f"{name} must be a number from {least}, got {values[name]!r}.")
        choices = {"attn_type": ("bi", "uni"), "summary_type": ("last", "first", "mean", "cls_index")}
        for name, allowed in choices.items():
            if values[name] not in allowed:
                raise ValueError(f"{name} must be one of {', '.join(allowed)}, got {values[name]!r:.40}.")
        if self.d_model % self.n_head or self.d_model % 2:
            raise ValueError(f"d_model ({self.d_model}) must be even, and a multiple of n_head ({self.n_head}).")
        self.d_head = self.d_head or self.d_model // self.n_head  # version 4 reads no null
        if self.d_head != self.d_model // self.n_head:
            raise ValueError(f"d_head must be d_model / n_head, {self.d_model // self.n_head}, got {self.d_head}.")


# ---- Outputs


@dataclass
class XLNetModelOutput(ModelOutput):
    """mems: L tensors [M, B, C], to be given to the next call. With target_mapping, hidden_states are those of both
    streams in turn, 2 (L + 1) tensors, and attentions L pairs.
    """

    last_hidden_state: Tensor | None = None  # [B, T, C], or [B, P, C] with target_mapping
    mems: tuple[Tensor, ...] | None = None
    hidden_states: tuple[Tensor, ...] | None = None
    attentions: tuple[Tensor, ...] | tuple[tuple[Tensor, Tensor], ...] | None = None


@dataclass
class XLNetLogitsOutput(ModelOutput):
    loss: Tensor | None = None
    logits: Tensor | None = None  # words [B, T or P, V], sequence labels [B, N], token labels [B, T, N], choices [B, S]
    mems: tuple[Tensor, ...] | None = None
    hidden_states: tuple[Tensor, ...] | None = None
    attentions: tuple[Tensor, ...] | tuple[tuple[Tensor, Tensor], ...] | None = None
    loss_count: Tensor | None = outside_tuple()


class XLNetLMHeadModelOutput(XLNetLogitsOutput): ...


class XLNetForSequenceClassificationOutput(XLNetLogitsOutput): ...


class XLNetForTokenClassificationOutput(XLNetLogitsOutput): ...


class XLNetForMultipleChoiceOutput(XLNetLogitsOutput): ...


@dataclass
class XLNetForQuestionAnsweringSimpleOutput(ModelOutput):
    loss: Tensor | None = None
    start_logits: Tensor | None = None  # [B, T]
    end_logits: Tensor | None = None  # [B, T]
    mems: tuple[Tensor, ...] | None = None
    hidden_states: tuple[Tensor, ...] | None = None
    attentions: tuple[Tensor, ...] | tuple[tuple[Tensor, Tensor], ...] | None = None
    loss_count: Tensor | None = outside_tuple()


@dataclass
class XLNetForQuestionAnsweringOutput(ModelOutput):
    """The likeliest starts of an answer, and for each start the likeliest ends; or, with targets, only the loss."""

    loss: Tensor | None = None
    start_top_log_probs: Tensor | None = None  # [B, A]; probabilities, whatever their name says
    start_top_index: Tensor | None = None  # [B, A]
    end_top_log_probs: Tensor | None = None  # [B, end_n_top * A], the best end of every start first; probabilities
    end_top_index: Tensor | None = None  # [B, end_n_top * A]
    cls_logits: Tensor | None = None  # [B], that there is no answer
    mems: tuple[Tensor, ...] | None = None
    hidden_states: tuple[Tensor, ...] | None = None
    attentions: tuple[Tensor, ...] | tuple[tuple[Tensor, Tensor], ...] | None = None
    loss_count: Tensor | None = outside_tuple()


# ---- Layers


class Pass(NamedTuple):
    """What one forward pass makes above the layers and every layer reads."""

    attend: Attend
    attend_elsewhere: Attend  # of the query stream, in which a place does not see itself
    positions: Tensor  # [R, K + T, C]
    places: Tensor | None  # [B, 1, T, K]: which of the positions a query and a key share; None: as in `align`
    other: Tensor | None  # [B, 1, T, K]: 1 where a key is of another segment than the query
    target: Tensor | None  # [B, P, T]
    sighted: Tensor | None  # [B, 1, T, 1]: 0 where the query stream sees nothing
    head_mask: Tensor | None  # [L, H]


def position_table(config: XLNetConfig, T: int, K: int, device: torch.device) -> Tensor:
    """[R, K + T, C]: sines and cosines of the distances K - 1, …, -T of a key, counted back from the query."""
    distances = torch.arange(K - 1, -T - 1, -1, device=device).float()[None]
    if config.bi_data:
        distances = torch.cat([distances, -distances])
    if config.clamp_len > 0:
        distances = distances.clamp(-config.clamp_len, config.clamp_len)
    rates = 1 / 10000 ** (torch.arange(0, config.d_model, 2, device=device).float() / config.d_model)
    angles = distances[..., None] * rates
    return torch.cat([angles.sin(), angles.cos()], dim=-1)


def align(scores: Tensor, K: int) -> Tensor:
    """[B, H, T, K + T] scores of a query at each distance -> [B, H, T, K], at the distance of each key. A view.

    Row i begins i columns earlier than row 0: https://arxiv.org/abs/1901.02860, appendix B.
    """
    T, width = scores.shape[2:]
    return scores.flatten(2)[..., T - 1 : -1].unflatten(-1, (T, width - 1))[..., :K]


def real_places(mask: Tensor, T: int, K: int) -> Tensor:
    """[B, 1, T, K]: as `align` has them, but over the real tokens of a mask [B, K] only."""
    counts = mask.cumsum(-1)
    distances = counts[:, -T:, None] - counts[:, None, :]
    return (K - 1 - distances).clamp(0, K + T - 1)[:, None]


def real_tokens(attention_mask: Tensor | None, input_mask: Tensor | None) -> Tensor | None:
    """The attention_mask; input_mask says the same the other way round, 1 = padding."""
    if attention_mask is not None and input_mask is not None:
        raise ValueError("Give attention_mask (1 = real token) or input_mask (1 = padding), not both.")
    if attention_mask is not None and not isinstance(attention_mask, Tensor):
        raise ValueError("XLNet takes no packed batches: give attention_mask as a tensor [B, T].")
    return attention_mask if input_mask is None else input_mask == 0


def own_mask(attention_mask: Tensor | None, input_mask: Tensor | None, x: Tensor) -> Tensor | None:
    """[B, T] of the tokens in x [B, T, C], not of the memory; None where nothing is padded."""
    mask = real_tokens(attention_mask, input_mask)
    return mask[:, -x.shape[1] :] if mask is not None and mask.dim() == 2 else None


def over_memory(mask: Tensor, T: int, K: int, name: str = "attention_mask") -> Tensor:
    """[..., T or K] -> [..., K] bool: what does not cover the memory lets all of it be seen."""
    if mask.shape[-1] not in (T, K):
        memory = "" if K == T else f", or {K} with those in memory"
        raise ValueError(f"{name} covers {mask.shape[-1]} tokens; the input has {T}{memory}.")
    return F.pad(mask.bool(), (K - mask.shape[-1], 0), value=True)


def stream_masks(
    mask: Tensor | None, perm_mask: Tensor | None, near: Tensor | None, T: int, K: int
) -> tuple[Tensor | None, Tensor | None]:
    """What the content and the query stream may see, [B, T, K] bool; None: everything. near: the same of attn_type.

    In the content stream a token sees itself, whatever the masks say. A 4-D mask counts as it is.
    """
    if mask is not None and mask.dim() == 4:
        if perm_mask is not None:
            raise ValueError("perm_mask goes with an attention_mask of shape [B, T], not with a 4-D one.")
        return mask, mask
    parts = [] if near is None else [near]
    if mask is not None:
        covering = over_memory(mask, T, K)
        parts.append(covering[:, None] if mask.dim() == 2 else covering)
    if perm_mask is not None:
        parts.append(over_memory(perm_mask == 0, T, K, "perm_mask"))
    if not parts:
        return None, None
    seen = functools.reduce(torch.logical_and, parts)
    itself = torch.ones(T, K, dtype=torch.bool, device=seen.device).tril(K - T).triu(K - T)
    return seen | itself, seen.expand(-1, T, K)


class XLNetRelativeAttention(nn.Module):
    def __init__(self, config: XLNetConfig, layer: int):
        super().__init__()
        C, H, D = config.d_model, config.n_head, config.d_model // config.n_head
        self.q, self.k, self.v, self.o, self.r = (nn.Parameter(torch.empty(C, H, D)) for _ in range(5))
        self.r_r_bias, self.r_s_bias, self.r_w_bias = (nn.Parameter(torch.empty(H, D)) for _ in range(3))
        self.seg_embed = nn.Parameter(torch.empty(2, H, D))
        self.layer_norm = nn.LayerNorm(C, eps=config.layer_norm_eps)
        self.dropout = nn.Dropout(config.dropout)
        self.layer = layer

    def split(self, x: Tensor, weight: Tensor) -> Tensor:
        """x [B, T, C] times one of q, k, v, r -> [B, H, T, D]"""
        return (x @ weight.flatten(1)).unflatten(-1, weight.shape[1:]).transpose(1, 2)

    def merge(self, x: Tensor, residual: Tensor) -> Tensor:
        """x [B, H, T, D] -> [B, T, C], plus the residual, normalised."""
        x = F.linear(x.transpose(1, 2).flatten(2), self.o.flatten(1))
        return self.layer_norm(self.dropout(x) + residual)

    def read(self, q: Tensor, k: Tensor, v: Tensor, r: Tensor, this: Pass, attend: Attend) -> Tensor:
        """Attention of q [B, H, T, D] to k, v [B, H, K, D]. r [R, H, K + T, D]: the positions."""
        scale = q.shape[-1] ** -0.5
        by_position = ((q + self.r_r_bias[:, None]) * scale).unflatten(0, (len(r), -1))
        bias = torch.einsum("rbhtd,rhpd->rbhtp", by_position, r).flatten(0, 1)  # [B, H, T, K + T]
        if this.places is not None:
            bias = bias.gather(-1, this.places.expand(-1, q.shape[1], -1, -1))
        else:
            bias = align(bias, k.shape[2])
        if this.other is None:
            bias = bias.contiguous()  # no longer a view, whose rows begin where kernels of GPUs cannot read
        else:  # what all keys have in common changes no softmax: the difference of the two embeddings is enough
            apart = self.seg_embed[1] - self.seg_embed[0]
            apart = torch.einsum("bhtd,hd->bht", (q + self.r_s_bias[:, None]) * scale, apart)
            bias = bias + this.other * apart[..., None]
        return attend(
            q + self.r_w_bias[:, None],
            k,
            v,
            scale=scale,
            dropout=self.dropout.p if self.training else 0.0,
            head_mask=None if this.head_mask is None else this.head_mask[self.layer],
            bias=bias,
        )  # [B, H, T, D]

    def forward(self, x: Tensor, g: Tensor | None, memory: Tensor | None, this: Pass) -> tuple[Tensor, Tensor | None]:
        """x [B, T, C] and g [B, P, C]: the two streams; memory [B, M, C]: what stood before x."""
        keys = x if memory is None else torch.cat([memory, x], dim=1)
        k, v, r = self.split(keys, self.k), self.split(keys, self.v), self.split(this.positions, self.r)
        read = self.read(self.split(x, self.q), k, v, r, this, this.attend)
        if g is None or this.target is None:
            return self.merge(read, x), None
        target = this.target[:, None]  # puts each prediction where it belongs among the T places, and takes it back
        q = target.transpose(-1, -2) @ self.split(g, self.q)
        elsewhere = self.read(q, k, v, r, this, this.attend_elsewhere)
        elsewhere = elsewhere if this.sighted is None else elsewhere * this.sighted
        return self.merge(read, x), self.merge(target @ elsewhere, g)


class XLNetFeedForward(nn.Module):
    def __init__(self, config: XLNetConfig):
        super().__init__()
        self.layer_norm = nn.LayerNorm(config.d_model, eps=config.layer_norm_eps)
        self.layer_1 = nn.Linear(config.d_model, config.d_inner)
        self.layer_2 = nn.Linear(config.d_inner, config.d_model)
        self.dropout = nn.Dropout(config.dropout)
        self.act = activation(config.ff_activation)

    def forward(self, x: Tensor) -> Tensor:
        inner = self.dropout(activate(self.layer_1, self.act, x))
        return self.layer_norm(self.dropout(project(inner, self.layer_2)[0]) + x)


class XLNetLayer(nn.Module):
    def __init__(self, config: XLNetConfig, layer: int):
        super().__init__()
        self.rel_attn = XLNetRelativeAttention(config, layer)
        self.ff = XLNetFeedForward(config)

    def forward(self, x: Tensor, g: Tensor | None, memory: Tensor | None, this: Pass) -> tuple[Tensor, Tensor | None]:
        x, g = self.rel_attn(x, g, memory, this)
        return self.ff(x), None if g is None else self.ff(g)


class XLNetSequenceSummary(nn.Module):
    def __init__(self, config: XLNetConfig):
        super().__init__()
        C = config.d_model
        self.pick = {"first": first_token, "mean": mean_tokens}.get(config.summary_type, last_token)
        self.summary = nn.Linear(C, C) if config.summary_use_proj else nn.Identity()
        self.act = activation(config.summary_activation) if config.summary_activation else nn.Identity()
        self.dropout = nn.Dropout(config.summary_last_dropout)

    def forward(self, x: Tensor, mask: Tensor | None) -> Tensor:
        """x [B, T, C], mask [B, T] -> [B, C]"""
        return self.dropout(self.act(self.summary(self.pick(x, mask))))


class XLNetPoolerStartLogits(nn.Module):
    def __init__(self, config: XLNetConfig):
        super().__init__()
        self.dense = nn.Linear(config.d_model, 1)

    def forward(self, x: Tensor) -> Tensor:
        """x [B, T, C] -> [B, T]"""
        return self.dense(x).squeeze(-1)


class XLNetPoolerEndLogits(nn.Module):
    def __init__(self, config: XLNetConfig):
        super().__init__()
        self.dense_0 = nn.Linear(2 * config.d_model, config.d_model)
        self.LayerNorm = nn.LayerNorm(config.d_model, eps=config.layer_norm_eps)
        self.dense_1 = nn.Linear(config.d_model, 1)

    def forward(self, x: Tensor, start: Tensor) -> Tensor:
        """x [B, T, C], start [B, A, C]: where the answer may begin -> [B, T, A]"""
        # the layer takes both side by side; each is multiplied once, not once for each of the other
        ends, starts = self.dense_0.weight.chunk(2, dim=1)
        x = F.linear(x, ends)[:, :, None] + F.linear(start, starts, self.dense_0.bias)[:, None]
        return self.dense_1(self.LayerNorm(x.tanh())).squeeze(-1)


class XLNetPoolerAnswerClass(nn.Module):
    def __init__(self, config: XLNetConfig):
        super().__init__()
        self.dense_0 = nn.Linear(2 * config.d_model, config.d_model)
        self.dense_1 = nn.Linear(config.d_model, 1, bias=False)

    def forward(self, start: Tensor, cls: Tensor) -> Tensor:
        """Where the answer begins, and the token <cls>, [B, C] each -> [B]"""
        return self.dense_1(self.dense_0(torch.cat([start, cls], dim=-1)).tanh()).squeeze(-1)


# ---- Models


class XLNetPreTrainedModel(Model):
    config_class, base_model_prefix = XLNetConfig, "transformer"
    config: XLNetConfig
    prepared = r"layer\.\d+\.ff\."
    may_be_new = (
        *(r"^lm_loss\.", r"^sequence_summary\.", r"^logits_proj\.", r"^classifier\.", r"^qa_outputs\."),
        *(r"^start_logits\.", r"^end_logits\.", r"^answer_class\."),
    )

    def init_weights(self, module: nn.Module) -> None:
        if isinstance(module, (nn.Linear, nn.Embedding, XLNetRelativeAttention, XLNetModel)):
            for parameter in module.parameters(recurse=False):
                parameter.normal_(0.0, self.config.initializer_range)
        if isinstance(module, nn.LayerNorm):
            module.weight.fill_(1.0)
        if isinstance(module, (nn.Linear, nn.LayerNorm)) and module.bias is not None:
            module.bias.zero_()


class XLNetModel(XLNetPreTrainedModel):
    def __init__(self, config: XLNetConfig):
        super().__init__(config)
        self.word_embedding = nn.Embedding(config.vocab_size, config.d_model)
        self.mask_emb = nn.Parameter(torch.empty(1, 1, config.d_model))
        self.layer = nn.ModuleList(XLNetLayer(config, i) for i in range(config.n_layer))
        self.dropout = nn.Dropout(config.dropout)
        self.post_init()

    def get_input_embeddings(self) -> nn.Module:
        return self.word_embedding

    def set_input_embeddings(self, value: nn.Module) -> None:
        self.word_embedding = value  # type: ignore[assignment]

    def remember(self, memory: Tensor | None, x: Tensor) -> Tensor:
        """[M, B, C]: what the next input will see of a layer's input."""
        x = x[:, : self.config.reuse_len or None]
        x = x if memory is None else torch.cat([memory, x], dim=1)
        return x[:, -(self.config.mem_len or 0) :].detach().transpose(0, 1)

    def bind(
        self,
        x: Tensor,
        M: int,
        mask: Tensor | None,
        perm_mask: Tensor | None,
        target_mapping: Tensor | None,
        token_type_ids: Tensor | None,
        head_mask: Tensor | None,
        attentions: tuple[list[Tensor] | None, list[Tensor] | None],
    ) -> Pass:
        config, (B, T), K = self.config, x.shape[:2], M + x.shape[1]
        if config.bi_data and B % 2:
            raise ValueError(f"With bi_data the second half of a batch is read backwards; this one has {B} rows.")
        near = places = None
        if M > 0 and mask is not None and mask.dim() == 2:  # padding may stand between the memory and the tokens
            places = real_places(over_memory(mask, T, K), T, K)
        if config.attn_type == "uni":
            near = torch.ones(1, T, K, dtype=torch.bool, device=x.device).tril(M)
            if config.same_length:  # no farther than M
                near = near.triu() if places is None else near & (places[:, 0] >= T - 1)
        masks = stream_masks(mask, perm_mask, near, T, K)
        attend, attend_elsewhere = (
            bind_attention(
                config.attn_implementation, Q=T, K=K, causal=False, mask=seen, device=x.device, record=record
            )
            for seen, record in zip(masks, attentions, strict=True)
        )
        sighted = None
        if target_mapping is not None and masks[1] is not None and masks[1].dim() == 3:
            sighted = masks[1].any(-1)[:, None, :, None].to(x.dtype)
        other = None
        if token_type_ids is not None:  # the memory is of segment 0
            other = (token_type_ids[:, :, None] != F.pad(token_type_ids, (M, 0))[:, None])[:, None].to(x.dtype)
        return Pass(
            attend,
            attend_elsewhere,
            positions=self.dropout(position_table(config, T, K, x.device).to(x.dtype)),
            places=places,
            other=other,
            target=None if target_mapping is None else target_mapping.to(x.dtype),
            sighted=sighted,
            head_mask=None if head_mask is None else head_mask.expand(config.n_layer, config.n_head),
        )

    def forward(
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        mems: Sequence[Tensor] | Tensor | None = None,
        perm_mask: Tensor | None = None,
        target_mapping: Tensor | None = None,
        token_type_ids: Tensor | None = None,
        input_mask: Tensor | None = None,
        inputs_embeds: Tensor | None = None,
        use_mems: bool | None = None,
        output_attentions: bool | None = None,
        output_hidden_states: bool | None = None,
        *,
        head_mask: Tensor | None = None,
    ) -> XLNetModelOutput:
        """input_ids [B, T], or inputs_embeds [B, T, C] in their place; token_type_ids [B, T]: any number per segment.

        attention_mask: 1 = real token, [B, T] or [B, K] to cover mems too; attention.dense_mask has other shapes.
        input_mask: 1 = padding, in its place. mems: L tensors [M, B, C], of an earlier output. perm_mask [B, T, T]: 1
        where the first token may not see the second. target_mapping [B, P, T]: 1 at the place of each prediction.
        use_mems: whether mems come out; it and output_*: None is what the config says. head_mask [H] or [L, H]: 1
        keeps a head, 0 silences it.
        """
        B, _, _ = check_inputs(input_ids, inputs_embeds)
        config = self.config
        if mems is not None and len(mems) != config.n_layer:
            raise ValueError(f"mems must hold a tensor for each of the {config.n_layer} layers, got {len(mems)}.")
        use_mems = (config.use_mems_train if self.training else config.use_mems_eval) if use_mems is None else use_mems
        record = config.output_attentions if output_attentions is None else output_attentions
        attentions, elsewhere = ([], []) if record else (None, None)

        x = self.dropout(self.word_embedding(input_ids) if inputs_embeds is None else inputs_embeds)
        g = None if target_mapping is None else self.dropout(self.mask_emb.expand(B, target_mapping.shape[1], -1))
        M, mask = 0 if mems is None else mems[0].shape[0], real_tokens(attention_mask, input_mask)
        this = self.bind(
            x, M, mask, perm_mask, target_mapping, token_type_ids, head_mask, attentions=(attentions, elsewhere)
        )
        states = config.output_hidden_states if output_hidden_states is None else output_hidden_states
        hidden_states, memories = (x,) if g is None else (x, g), ()
        for i, layer in enumerate(self.layer):
            memory = None if mems is None else mems[i].transpose(0, 1).to(x)
            memories += (self.remember(memory, x),) if use_mems else ()
            if self.gradient_checkpointing and self.training:
                x, g = cast(tuple, checkpoint(layer, x, g, memory, this, use_reentrant=False))
            else:
                x, g = layer(x, g, memory, this)
            made = (x,) if g is None else (x, g)
            hidden_states = (*hidden_states, *made) if states else made
        if elsewhere and this.sighted is not None:
            elsewhere = [weights * this.sighted for weights in elsewhere]
        both = attentions if g is None or not record else zip(attentions or (), elsewhere or (), strict=True)
        return XLNetModelOutput(
            last_hidden_state=self.dropout(x if g is None else g),
            mems=memories if use_mems else None,
            hidden_states=hidden_states if states else None,
            attentions=None if both is None else tuple(both),
        )


class XLNetLMHeadModel(XLNetPreTrainedModel):
    tied = {"lm_loss.weight": "transformer.word_embedding.weight"}

    def __init__(self, config: XLNetConfig):
        super().__init__(config)
        self.transformer = XLNetModel(config)
        self.lm_loss = nn.Linear(config.d_model, config.vocab_size)
        self.post_init()

    def get_output_embeddings(self) -> nn.Module:
        return self.lm_loss

    def set_output_embeddings(self, new_embeddings: nn.Module) -> None:
        self.lm_loss = new_embeddings  # type: ignore[assignment]

    def forward(
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        mems: Sequence[Tensor] | Tensor | None = None,
        perm_mask: Tensor | None = None,
        target_mapping: Tensor | None = None,
        token_type_ids: Tensor | None = None,
        input_mask: Tensor | None = None,
        inputs_embeds: Tensor | None = None,
        labels: Tensor | None = None,
        use_mems: bool | None = None,
        output_attentions: bool | None = None,
        output_hidden_states: bool | None = None,
        logits_to_keep: int | Tensor = 0,
        *,
        head_mask: Tensor | None = None,
    ) -> XLNetLMHeadModelOutput:
        """labels [B, T], or [B, P] with target_mapping: the words there, not those that follow; -100 where none.

        logits_to_keep: logits of the last n.
        """
        inputs = (input_ids, attention_mask, mems, perm_mask, target_mapping, token_type_ids, input_mask, inputs_embeds)
        encoded = self.transformer(*inputs, use_mems, output_attentions, output_hidden_states, head_mask=head_mask)
        keep = slice(-logits_to_keep, None) if isinstance(logits_to_keep, int) else logits_to_keep
        logits = self.lm_loss(encoded.last_hidden_state[:, keep])  # [B, T or P, V]
        loss = count = None
        if labels is not None:
            loss, count = token_loss(logits, labels)
        return XLNetLMHeadModelOutput(
            loss, logits, encoded.mems, encoded.hidden_states, encoded.attentions, loss_count=count
        )


class XLNetForSequenceClassification(XLNetPreTrainedModel):
    def __init__(self, config: XLNetConfig):
        super().__init__(config)
        self.transformer = XLNetModel(config)
        self.sequence_summary = XLNetSequenceSummary(config)
        self.logits_proj = nn.Linear(config.d_model, config.num_labels)
        self.post_init()

    def forward(
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        mems: Sequence[Tensor] | Tensor | None = None,
        perm_mask: Tensor | None = None,
        target_mapping: Tensor | None = None,
        token_type_ids: Tensor | None = None,
        input_mask: Tensor | None = None,
        inputs_embeds: Tensor | None = None,
        labels: Tensor | None = None,
        use_mems: bool | None = None,
        output_attentions: bool | None = None,
        output_hidden_states: bool | None = None,
        *,
        head_mask: Tensor | None = None,
    ) -> XLNetForSequenceClassificationOutput:
        """labels: [B] integers, or floats [B] or [B, N]; see losses.sequence_loss."""
        inputs = (input_ids, attention_mask, mems, perm_mask, target_mapping, token_type_ids, input_mask, inputs_embeds)
        encoded = self.transformer(*inputs, use_mems, output_attentions, output_hidden_states, head_mask=head_mask)
        x = encoded.last_hidden_state
        mask = own_mask(attention_mask, input_mask, x) if target_mapping is None else None
        logits = self.logits_proj(self.sequence_summary(x, mask))  # [B, N]
        loss = count = None
        if labels is not None:
            loss, count = sequence_loss(logits, labels, self.config.problem_type)
        return XLNetForSequenceClassificationOutput(
            loss, logits, encoded.mems, encoded.hidden_states, encoded.attentions, loss_count=count
        )


class XLNetForTokenClassification(XLNetPreTrainedModel):
    def __init__(self, config: XLNetConfig):
        super().__init__(config)
        self.transformer = XLNetModel(config)
        self.classifier = nn.Linear(config.d_model, config.num_labels)
        self.post_init()

    def forward(
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        mems: Sequence[Tensor] | Tensor | None = None,
        perm_mask: Tensor | None = None,
        target_mapping: Tensor | None = None,
        token_type_ids: Tensor | None = None,
        input_mask: Tensor | None = None,
        inputs_embeds: Tensor | None = None,
        labels: Tensor | None = None,
        use_mems: bool | None = None,
        output_attentions: bool | None = None,
        output_hidden_states: bool | None = None,
        *,
        head_mask: Tensor | None = None,
    ) -> XLNetForTokenClassificationOutput:
        """labels [B, T], -100 where none."""
        inputs = (input_ids, attention_mask, mems, perm_mask, target_mapping, token_type_ids, input_mask, inputs_embeds)
        encoded = self.transformer(*inputs, use_mems, output_attentions, output_hidden_states, head_mask=head_mask)
        logits = self.classifier(encoded.last_hidden_state)  # [B, T, N]
        loss = count = None
        if labels is not None:
            loss, count = token_loss(logits, labels)
        return XLNetForTokenClassificationOutput(
            loss, logits, encoded.mems, encoded.hidden_states, encoded.attentions, loss_count=count
        )


class XLNetForMultipleChoice(XLNetPreTrainedModel):
    def __init__(self, config: XLNetConfig):
        super().__init__(config)
        self.transformer = XLNetModel(config)
        self.sequence_summary = XLNetSequenceSummary(config)
        self.logits_proj = nn.Linear(config.d_model, 1)
        self.post_init()

    def forward(
        self,
        input_ids: Tensor | None = None,
        token_type_ids: Tensor | None = None,
        input_mask: Tensor | None = None,
        attention_mask: Tensor | None = None,
        mems: Sequence[Tensor] | Tensor | None = None,
        perm_mask: Tensor | None = None,
        target_mapping: Tensor | None = None,
        inputs_embeds: Tensor | None = None,
        labels: Tensor | None = None,
        use_mems: bool | None = None,
        output_attentions: bool | None = None,
        output_hidden_states: bool | None = None,
        *,
        head_mask: Tensor | None = None,
    ) -> XLNetForMultipleChoiceOutput:
        """Inputs have a dimension of choices, [B, S, T]; labels [B]: the right choice. logits [B, S].

        mems, perm_mask and target_mapping are those of B * S sequences.
        """
        given = input_ids if input_ids is not None else inputs_embeds
        if given is None or given.dim() < 3:
            raise ValueError("Multiple choice takes input_ids of shape [B, S, T], or inputs_embeds of [B, S, T, C].")
        input_ids, attention_mask, token_type_ids, input_mask, inputs_embeds = (
            None if one is None else one.flatten(0, 1)
            for one in (input_ids, attention_mask, token_type_ids, input_mask, inputs_embeds)
        )
        inputs = (input_ids, attention_mask, mems, perm_mask, target_mapping, token_type_ids, input_mask, inputs_embeds)
        encoded = self.transformer(*inputs, use_mems, output_attentions, output_hidden_states, head_mask=head_mask)
        x = encoded.last_hidden_state
        mask = own_mask(attention_mask, input_mask, x) if target_mapping is None else None
        logits = self.logits_proj(self.sequence_summary(x, mask)).view(given.shape[:2])  # [B, S]
        loss = count = None
        if labels is not None:
            loss, count = token_loss(logits, labels)
        return XLNetForMultipleChoiceOutput(
            loss, logits, encoded.mems, encoded.hidden_states, encoded.attentions, loss_count=count
        )


class XLNetForQuestionAnsweringSimple(XLNetPreTrainedModel):
    """Start and end of an answer, each by itself."""

    def __init__(self, config: XLNetConfig):
        super().__init__(config)
        self.transformer = XLNetModel(config)
        self.qa_outputs = nn.Linear(config.d_model, 2)
        self.post_init()

    def forward(
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        mems: Sequence[Tensor] | Tensor | None = None,
        perm_mask: Tensor | None = None,
        target_mapping: Tensor | None = None,
        token_type_ids: Tensor | None = None,
        input_mask: Tensor | None = None,
        inputs_embeds: Tensor | None = None,
        start_positions: Tensor | None = None,
        end_positions: Tensor | None = None,
        use_mems: bool | None = None,
        output_attentions: bool | None = None,
        output_hidden_states: bool | None = None,
        *,
        head_mask: Tensor | None = None,
    ) -> XLNetForQuestionAnsweringSimpleOutput:
        """start_positions, end_positions [B]: first and last token of the answer."""
        inputs = (input_ids, attention_mask, mems, perm_mask, target_mapping, token_type_ids, input_mask, inputs_embeds)
        encoded = self.transformer(*inputs, use_mems, output_attentions, output_hidden_states, head_mask=head_mask)
        start, end = self.qa_outputs(encoded.last_hidden_state).unbind(-1)  # [B, T] each
        loss = count = None
        if start_positions is not None and end_positions is not None:
            loss, count = span_loss(start, end, start_positions, end_positions)
        return XLNetForQuestionAnsweringSimpleOutput(
            loss, start, end, encoded.mems, encoded.hidden_states, encoded.attentions, loss_count=count
        )


class XLNetForQuestionAnswering(XLNetPreTrainedModel):
    """The end of an answer for each likely start of it, and whether there is one."""

    def __init__(self, config: XLNetConfig):
        super().__init__(config)
        self.transformer = XLNetModel(config)
        self.start_logits = XLNetPoolerStartLogits(config)
        self.end_logits = XLNetPoolerEndLogits(config)
        self.answer_class = XLNetPoolerAnswerClass(config)
        self.post_init()

    def forward(
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        mems: Sequence[Tensor] | Tensor | None = None,
        perm_mask: Tensor | None = None,
        target_mapping: Tensor | None = None,
        token_type_ids: Tensor | None = None,
        input_mask: Tensor | None = None,
        inputs_embeds: Tensor | None = None,
        start_positions: Tensor | None = None,
        end_positions: Tensor | None = None,
        is_impossible: Tensor | None = None,
        cls_index: Tensor | None = None,
        p_mask: Tensor | None = None,
        use_mems: bool | None = None,
        output_attentions: bool | None = None,
        output_hidden_states: bool | None = None,
        *,
        head_mask: Tensor | None = None,
    ) -> XLNetForQuestionAnsweringOutput:
        """start_positions, end_positions [B]: first and last token of the answer; with them only the loss is given.

        is_impossible [B]: 1 where there is no answer; it counts when cls_index is given too. cls_index [B]: the place
        of <cls>; None is the last real token. p_mask [B, T]: 1 at tokens that are no answer; padding never is.
        """
        inputs = (input_ids, attention_mask, mems, perm_mask, target_mapping, token_type_ids, input_mask, inputs_embeds)
        encoded = self.transformer(*inputs, use_mems, output_attentions, output_hidden_states, head_mask=head_mask)
        x = encoded.last_hidden_state
        mask = own_mask(attention_mask, input_mask, x) if target_mapping is None else None
        no_answer = torch.zeros(x.shape[:2], dtype=torch.bool, device=x.device) if p_mask is None else p_mask.bool()
        no_answer = no_answer if mask is None else no_answer | (mask == 0)
        start = self.start_logits(x).float().masked_fill(no_answer, -1e30)  # [B, T]
        cls = last_token(x, mask) if cls_index is None else take(x, cls_index.view(-1, 1))[:, 0]
        out = XLNetForQuestionAnsweringOutput(
            mems=encoded.mems, hidden_states=encoded.hidden_states, attentions=encoded.attentions
        )
        if start_positions is not None and end_positions is not None:
            first = take(x, start_positions.view(-1, 1).clamp(0, x.shape[1] - 1))  # [B, 1, C]
            end = self.end_logits(x, first)[..., 0].float().masked_fill(no_answer, -1e30)
            out.loss, out.loss_count = span_loss(start, end, start_positions, end_positions)
            if cls_index is not None and is_impossible is not None:
                impossible = self.answer_class(first[:, 0], cls).float()
                out.loss = out.loss + 0.5 * F.binary_cross_entropy_with_logits(
                    impossible, is_impossible.view(-1).float()
                )
            return out
        probabilities = start.softmax(-1)
        out.start_top_log_probs, starts = probabilities.topk(min(self.config.start_n_top, x.shape[1]))
        out.start_top_index = starts
        end = self.end_logits(x, take(x, starts)).float()  # [B, T, A]
        end = end.masked_fill(no_answer[..., None], -1e30).softmax(1)
        best = end.topk(min(self.config.end_n_top, x.shape[1]), dim=1)
        out.end_top_log_probs, out.end_top_index = best.values.flatten(1), best.indices.flatten(1)
        likely = torch.einsum("bt,btc->bc", probabilities.to(x.dtype), x)
        out.cls_logits = self.answer_class(likely, cls)
        return out


def take(x: Tensor, index: Tensor) -> Tensor:
    """x [B, T, C], index [B, A] -> [B, A, C]"""
    return x.gather(1, index[..., None].expand(-1, -1, x.shape[-1]))


HEADS = {
    "base": XLNetModel,
    "pretraining": XLNetLMHeadModel,
    "causal-lm": XLNetLMHeadModel,
    "sequence-classification": XLNetForSequenceClassification,
    "multiple-choice": XLNetForMultipleChoice,
    "token-classification": XLNetForTokenClassification,
    "question-answering": XLNetForQuestionAnsweringSimple,
    "beam-question-answering": XLNetForQuestionAnswering,
}
