"""Scaled dot-product attention: one contract, several kernels.

A model calls `bind_attention` once per forward pass, above its layers, and hands them the function that comes back. A
layer calls `attend(q, k, v, scale=..., dropout=...)` and knows nothing of masks or kernels.
Shapes: B batch, H heads, G key/value heads (G divides H), Q query tokens, K key tokens, D head size.
"""

from collections.abc import Callable
from functools import partial
from itertools import groupby
from typing import Any, NamedTuple, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor

Bias = Tensor | Callable[[Tensor, Tensor], Tensor] | None


class Attend(Protocol):
    def __call__(
        self,
        q: Tensor,
        k: Tensor,
        v: Tensor,
        *,
        scale: float,
        dropout: float = 0.0,
        head_mask: Tensor | None = None,
        bias: Bias = None,
        softcap: float | None = None,
        sinks: Tensor | None = None,
    ) -> Tensor:
        """q [B, H, Q, D]; k, v [B, G, K, D] -> [B, H, Q, D].

        dropout: probability at which attention weights are dropped; 0 outside of training.
        head_mask: [H], what each head's weights are multiplied with.
        softcap: scores are bent to stay within -softcap and softcap, by a tanh.
        sinks: [H], a score of each head that takes its share of the weights and gives nothing.
        bias: added to the scaled scores, [1 or B, 1 or H, Q, K]. In a packed batch it is [1, 1 or H, N, N], N tokens of
        the longest sequence: every sequence takes its first rows and columns, so it may depend on positions only.
        Or a function of q and k: a packed batch calls it for sequences of one length, [S, H, n, D], or for its row.
        """
        ...


# ---- Masks: what each kernel wants in place of the model's attention_mask


class Span(NamedTuple):
    """What a query may see before padding counts."""

    Q: int
    K: int
    causal: bool
    window: int | None  # a query sees this many keys to its left, itself included
    device: torch.device
    # tokens before the first query: keys are the last K of past + Q; a tensor []: they are the first K, there or not
    past: int | Tensor

    @property
    def everything(self) -> bool:
        within = self.window is None or self.window >= self.K
        return not isinstance(self.past, Tensor) and (not self.causal or self.Q == 1) and within

    def allowed(self) -> Tensor:
        """[Q, K] bool, True where a query may see a key."""
        past = self.past if isinstance(self.past, Tensor) else self.K - self.Q
        q = (torch.arange(self.Q, device=self.device) + past)[:, None]
        k = torch.arange(self.K, device=self.device)[None, :]
        allowed = k <= q if self.causal else torch.ones(self.Q, self.K, dtype=torch.bool, device=self.device)
        if self.window is not None:
            allowed = allowed & (q - k < self.window)
            if not self.causal:
                allowed = allowed & (k - q < self.window)
        return allowed


def dense_mask(span: Span, mask: Any) -> Tensor | None:
    """A mask that broadcasts to [B, H, Q, K]: bool with True = may be seen, or float to be added; None when all is
    seen.

    mask: None, [B, K] with 1 = real token, [B, Q, K], [B, 1 or H, Q, K] bool or float, or a packed batch (`lengths`).
    A 4-D mask says everything itself; nothing causal is added to it.
    """
    if hasattr(mask, "lengths"):
        own = torch.arange(len(mask.lengths), device=span.device).repeat_interleave(
            torch.tensor(mask.lengths, device=span.device)
        )
        mask = (own[:, None] == own[None, :])[None, None]
    elif mask is not None and mask.dim() == 2:
        if isinstance(span.past, Tensor):  # what is not there yet is hidden by being later
            mask = F.pad(mask[:, : span.K], (0, max(span.K - mask.shape[1], 0)), value=1)
        elif mask.shape[1] != span.past + span.Q:
            raise ValueError(
                f"attention_mask covers {mask.shape[1]} tokens; there are {span.past + span.Q}"
                f"{f' ({span.past} of them in the cache)' if span.past else ''}."
            )
        mask = mask[:, None, None, -span.K :].bool()
    elif mask is not None and mask.dim() == 3:
        mask = mask[:, None].bool()
    elif mask is not None:
        if mask.dim() != 4:
            raise ValueError(
                f"attention_mask has shape {list(mask.shape)}; allowed are [B, K], [B, Q, K], [B, 1, Q, K]."
            )
        return mask if mask.is_floating_point() else mask.bool()
    if span.everything:
        return mask
    return span.allowed() if mask is None else mask & span.allowed()


class EagerMask(NamedTuple):
    dense: Tensor | None
    lengths: tuple[int, ...] | None  # of a packed batch


def eager_mask(span: Span, mask: Any) -> EagerMask:
    return EagerMask(dense_mask(span, mask), getattr(mask, "lengths", None))


class SdpaMask(NamedTuple):
    dense: Tensor | None
    causal: bool  # causal and nothing else: the kernel needs no mask for it


def sdpa_mask(span: Span, mask: Any) -> SdpaMask:
    whole = span.window is None or span.window >= span.K
    if mask is None and span.causal and whole and span.Q == span.K > 1 and not isinstance(span.past, Tensor):
        return SdpaMask(None, True)
    return SdpaMask(dense_mask(span, mask), False)


class Blocks(NamedTuple):
    lengths: tuple[int, ...]
    causal: bool
    window: int | None


def varlen_mask(span: Span, mask: Any) -> Blocks:
    if not hasattr(mask, "lengths"):
        raise ValueError("The varlen kernel takes packed batches only: give attention_mask=Packed(lengths).")
    return Blocks(mask.lengths, span.causal, span.window)


# ---- Kernels


def eager_attention(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    *,
    mask: EagerMask,
    scale: float,
    dropout: float = 0.0,
    head_mask: Tensor | None = None,
    bias: Bias = None,
    softcap: float | None = None,
    sinks: Tensor | None = None,
    record: list[Tensor] | None = None,
) -> Tensor:
    """The formula, step by step; appends the weights [B, H, Q, K] to `record`."""
    k, v = (x.repeat_interleave(q.shape[1] // x.shape[1], dim=1) for x in (k, v))
    scores = q @ k.transpose(-1, -2) * scale
    if softcap is not None:
        scores = (scores / softcap).tanh() * softcap
    if callable(bias):  # a distance within a sequence is the same within the row
        bias = bias(q, k)
    elif bias is not None and mask.lengths is not None:
        place = torch.cat([torch.arange(n, device=bias.device) for n in mask.lengths])
        bias = bias[..., place[:, None], place]
    if bias is not None:
        scores = scores + bias
    if mask.dense is not None and mask.dense.dtype == torch.bool:
        scores = scores.masked_fill(~mask.dense, torch.finfo(scores.dtype).min)
    elif mask.dense is not None:
        scores = scores + mask.dense
    if sinks is not None:
        scores = torch.cat((scores, sinks.to(scores)[:, None, None].expand(*scores.shape[:3], 1)), dim=-1)
    weights = scores.softmax(-1, dtype=torch.float32).to(q.dtype)
    if sinks is not None:
        weights = weights[..., :-1]
    if head_mask is not None:
        weights = weights * head_mask[:, None, None].to(weights)
    if record is not None:
        record.append(weights)
    return F.dropout(weights, dropout) @ v


def sdpa_attention(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    *,
    mask: SdpaMask,
    scale: float,
    dropout: float = 0.0,
    head_mask: Tensor | None = None,
    bias: Bias = None,
    softcap: float | None = None,
    sinks: Tensor | None = None,
) -> Tensor:
    dense, causal = mask
    if softcap is not None or sinks is not None:  # which PyTorch's kernel does not know
        if causal:
            dense = torch.ones(q.shape[2], k.shape[2], dtype=torch.bool, device=q.device).tril()
        seen, more = EagerMask(dense, None), {"softcap": softcap, "sinks": sinks, "dropout": dropout}
        return eager_attention(q, k, v, mask=seen, scale=scale, head_mask=head_mask, bias=bias, **more)
    (B, H, Q, D), G, shared, folded = q.shape, k.shape[1], False, False
    if G != H:  # heads that share keys; for one query they become the queries of one head, and nothing is repeated
        folded = Q == 1 and bias is None and not dropout and (dense is None or dense.dim() < 4 or dense.shape[1] == 1)
        shared = not folded
    if folded:
        q = q.reshape(B, G, H // G, D)
    if dense is not None and dense.is_floating_point():
        dense = dense.to(q.dtype)
    bias = bias(q, k) if callable(bias) else bias
    if bias is not None:
        if causal:
            dense, causal = torch.ones(q.shape[2], k.shape[2], dtype=torch.bool, device=q.device).tril(), False
        bias = bias.to(q.dtype)
        if dense is None:
            dense = bias
        elif dense.dtype == torch.bool:
            dense = bias.masked_fill(~dense, torch.finfo(q.dtype).min)
        else:
            dense = dense + bias
    x = F.scaled_dot_product_attention(
        q,
        k,
        v,
        attn_mask=dense,
        is_causal=causal,
        scale=scale,
        dropout_p=dropout,
        enable_gqa=shared,
    )
    if folded:
        x = x.reshape(B, H, Q, x.shape[3])
    # weights scaled per head and then summed over the values are the sum scaled per head
    return x if head_mask is None else x * head_mask[:, None, None].to(x)


def varlen_attention(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    *,
    mask: Blocks,
    scale: float,
    dropout: float = 0.0,
    head_mask: Tensor | None = None,
    bias: Bias = None,
    softcap: float | None = None,
    sinks: Tensor | None = None,
) -> Tensor:
    """The sequences of a packed batch for themselves, those of one length that stand together at once.

    q, k, v have one row: [1, H, T, D].
    """
    parts, start = [], 0
    for n, same in groupby(mask.lengths):
        end = start + n * len(list(same))
        # [1, H, S n, D] -> [S, H, n, D]: views, since memory lies as [T, H, D]
        parts_of = (x[0, :, start:end].unflatten(1, (-1, n)).transpose(0, 1) for x in (q, k, v))
        inner = sdpa_mask(Span(n, n, mask.causal, mask.window, q.device, 0), None)
        own = bias[..., :n, :n] if isinstance(bias, Tensor) else bias
        more = {"dropout": dropout, "head_mask": head_mask, "bias": own, "softcap": softcap, "sinks": sinks}
        x = sdpa_attention(*parts_of, mask=inner, scale=scale, **more)
        parts.append(x.transpose(1, 2).flatten(0, 1))  # [S n, H, D]
        start = end
    return torch.cat(parts)[None].transpose(1, 2)


class Kernel(NamedTuple):
    make_mask: Callable[[Span, Any], Any]
    attend: Callable[..., Tensor]


KERNELS: dict[str, Kernel] = {
    "eager": Kernel(eager_mask, eager_attention),
    "sdpa": Kernel(sdpa_mask, sdpa_attention),
    "varlen": Kernel(varlen_mask, varlen_attention),
}


def bind_attention(
    kernel: str,
    *,
    Q: int,
    K: int,
    causal: bool,
    device: torch.device,
    mask: Any = None,
    past: int | Tensor | None = None,
    window: int | None = None,
    record: list[Tensor] | None = None,
) -> Attend:
    """The function that layers call; see Attend.

    K: keys of a layer; past: tokens before the first query, K - Q without another word, a tensor [] for a cache whose
    keys have fixed places. mask: what the model was given as attention_mask; a packed batch takes the varlen kernel.
    record: a list that receives each layer's weights [B, H, Q, K]; this takes the eager kernel.
    """
    if record is not None:
        kernel = "eager"
    elif kernel == "sdpa" and hasattr(mask, "lengths"):
        kernel = "varlen"
    if kernel not in KERNELS:
        raise ValueError(f"Attention kernel {kernel!r} is not known; there are {', '.join(KERNELS)}.")
    make_mask, attend = KERNELS[kernel]
    bound = partial(attend, mask=make_mask(Span(Q, K, causal, window, device, K - Q if past is None else past), mask))
    return bound if record is None else partial(bound, record=record)
