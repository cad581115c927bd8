"""Batches without padding: a padded batch becomes one row of concatenated sequences, and its logits a batch again.

Works behind any collator. Shapes: B sequences, T tokens with padding, N real tokens.
"""

from typing import Any, NamedTuple

import torch
from torch import Tensor

from ..sequences import Packed

# inputs that belong to sequences in a way that a packed row does not keep
OTHERS = {"past_key_values", "encoder_hidden_states", "encoder_attention_mask", "start_positions", "end_positions"}


class Layout(NamedTuple):
    """Where the tokens of a packed row stood in the padded batch."""

    mask: Tensor  # [B, T] bool
    order: Tensor  # [B]: the sequence of the batch that is the i-th of the row

    def unpack(self, x: Tensor, fill: float = 0.0) -> Tensor:
        """[B, T, …] of the packed row's x [1, N, …], or [B, …] of what there is one of per sequence."""
        B, T = self.mask.shape
        if x.dim() >= 2 and x.shape[0] == 1 and x.shape[1] == int(self.mask.sum()):
            padded = x.new_full((B, T, *x.shape[2:]), fill)
            ordered = padded.clone()
            ordered[self.mask[self.order].to(x.device)] = x[0]
            padded[self.order.to(x.device)] = ordered
            return padded
        return torch.empty_like(x).index_copy_(0, self.order.to(x.device), x) if x.dim() and x.shape[0] == B else x


def pack(inputs: dict[str, Any], shifted: bool) -> tuple[dict[str, Any], Layout | None]:
    """The inputs [B, T] without their padding, sequences of like length side by side; as they are when there is none.

    shifted: labels are compared with the logits one place before, so the first of a sequence must be nobody's.
    """
    mask = inputs.get("attention_mask")
    if not isinstance(mask, Tensor) or mask.dim() != 2 or mask.shape[0] < 2 or not inputs.keys().isdisjoint(OTHERS):
        return inputs, None
    B, T = mask.shape
    real = mask.ne(0)
    lengths = real.sum(1)
    places = torch.arange(T)
    spans = torch.where(real, places, -1).amax(1) - torch.where(real, places, T).amin(1) + 1
    if bool(real.all()) or not bool(lengths.all()) or not bool((spans == lengths).all()):
        return inputs, None  # nothing to leave out, or holes within a sequence
    order = lengths.argsort(descending=True, stable=True)
    chosen = real[order]
    packed: dict[str, Any] = {}
    for name, value in inputs.items():
        if not isinstance(value, Tensor) or not value.dim() or value.shape[0] != B:
            packed[name] = value
        elif value.shape[:2] == (B, T):
            packed[name] = value[order][chosen][None]
        else:
            packed[name] = value[order]
    packed["attention_mask"] = Packed(tuple(lengths[order].tolist()))
    if shifted and isinstance(packed.get("labels"), Tensor) and packed["labels"].shape == packed["input_ids"].shape:
        packed["labels"][0, packed["attention_mask"].starts] = -100
    return packed, Layout(real, order)
