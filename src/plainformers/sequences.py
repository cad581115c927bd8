"""Where the sequences of a batch begin and end: one set of functions for padded and for packed batches.

A padded batch has a mask [B, T], 1 = real token. A packed batch is one row of concatenated sequences, and the place of
its mask is taken by `Packed`, which holds the lengths; linear layers then do no wasted work.
Shapes: B sequences (a packed batch has one row but B sequences), T tokens, C hidden size.
"""

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Packed:
    """Takes the place of attention_mask when input_ids is one row [1, T] of concatenated sequences.

    lengths: tokens of each sequence, in order; they sum to T.
    """

    lengths: tuple[int, ...]

    def __post_init__(self):
        if not self.lengths or any(n < 1 for n in self.lengths):
            raise ValueError(f"Packed needs at least one sequence and no empty one, got lengths {self.lengths}.")

    @property
    def starts(self) -> list[int]:
        """Index of each sequence's first token."""
        ends = torch.tensor(self.lengths).cumsum(0).tolist()
        return [end - n for end, n in zip(ends, self.lengths, strict=True)]

    def check(self, B: int, T: int) -> None:
        if (1, sum(self.lengths)) != (B, T):
            raise ValueError(
                f"A packed batch of lengths {self.lengths} needs input of shape [1, {sum(self.lengths)}], got [{B}, "
                f"{T}]."
            )


Mask = Tensor | Packed | None


def first_index(mask: Mask) -> Tensor | None:
    """[B]: the index of each sequence's first real token; None when every sequence starts at 0."""
    if isinstance(mask, Packed):
        return torch.tensor(mask.starts)
    if mask is None or mask.dim() != 2:
        return None
    return mask.ne(0).int().argmax(dim=1)


def make_position_ids(mask: Mask, B: int, T: int, past: int | Tensor, device: torch.device) -> Tensor:
    """[B or 1, T]: each token's place in its own sequence, so that padding on the left shifts nothing.

    mask: 2-D over past + T tokens, or Packed, or anything else for "no padding". past: tokens already in the cache.
    """
    if isinstance(mask, Packed):
        mask.check(B, T)
        return torch.cat([torch.arange(n, device=device) for n in mask.lengths])[None]
    positions = (torch.arange(T, device=device) + past)[None]
    first = first_index(mask)
    return positions if first is None else (positions - first[:, None].to(device)).clamp(min=0)


def blocks_of(position_ids: Tensor) -> Tensor:
    """[B, T, T] bool, True within a sequence: without a mask, positions [B, T] that start anew begin the next one."""
    own = (position_ids[:, 1:] <= position_ids[:, :-1]).cumsum(-1)
    own = torch.nn.functional.pad(own, (1, 0))
    return own[:, :, None] == own[:, None, :]


def real_tokens(input_ids: Tensor | None, mask: Mask, pad: int | None) -> Mask:
    """The mask; without one, what the ids say: all that is not the padding token is real."""
    if mask is not None or input_ids is None or pad is None:
        return mask
    return input_ids.ne(pad)


def first_token(x: Tensor, mask: Mask) -> Tensor:
    """[B, C]: the first real token of each sequence of x [B, T, C]."""
    if isinstance(mask, Packed):
        return x[0, mask.starts]
    first = first_index(mask)
    # a mask that is longer than x counts tokens in a cache, which x does not hold
    if first is None or mask.shape[1] != x.shape[1]:  # type: ignore[union-attr]
        return x[:, 0]
    return x[torch.arange(x.shape[0], device=x.device), first.to(x.device)]


def last_token(x: Tensor, mask: Mask) -> Tensor:
    """[B, C]: the last real token of each sequence of x [B, T, C]."""
    if isinstance(mask, Packed):
        return x[0, [start + n - 1 for start, n in zip(mask.starts, mask.lengths, strict=True)]]
    if mask is None or mask.dim() != 2:
        return x[:, -1]
    T = x.shape[1]
    last = T - 1 - mask[:, -T:].ne(0).int().flip(1).argmax(dim=1)
    return x[torch.arange(x.shape[0], device=x.device), last.to(x.device)]


def mean_tokens(x: Tensor, mask: Mask) -> Tensor:
    """[B, C]: the mean over the real tokens of each sequence of x [B, T, C]."""
    if isinstance(mask, Packed):
        return torch.stack([part.mean(0) for part in x[0].split(mask.lengths)])
    if mask is None or mask.dim() != 2:
        return x.mean(1)
    weights = mask[..., None].to(x.dtype)
    return (x * weights).sum(1) / weights.sum(1).clamp(min=1)
