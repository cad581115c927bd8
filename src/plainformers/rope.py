"""Rotary positions (RoPE): pairs of a head's dimensions are turned by angles that grow with a token's position.

The tables are made once per forward pass, above the layers. A config's rope_parameters say which: {"rope_type": ...,
"rope_theta": ..., and what the type needs}. Paper: Su et al., 2021, https://arxiv.org/abs/2104.09864
Shapes: B batch, T tokens, H heads, D head size.
"""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

Rope = Mapping[str, Any]  # of read_rope


def sequence_lengths(position_ids: Tensor, mask: Any) -> Tensor:
    """[B, 1], or [1, T] of a packed batch: the number of tokens in the sequence that each token belongs to."""
    if hasattr(mask, "lengths"):
        lengths = torch.tensor(mask.lengths, device=position_ids.device)
        return lengths.repeat_interleave(lengths)[None]
    if mask is not None and mask.dim() == 2:
        position_ids = position_ids * mask.ne(0)
    return position_ids.amax(-1, keepdim=True) + 1


def default_frequencies(rope: Rope, D: int, position_ids: Tensor, mask: Any) -> Tensor:
    return 1.0 / rope["rope_theta"] ** (torch.arange(0, D, 2, device=position_ids.device).float() / D)


def dynamic_frequencies(rope: Rope, D: int, position_ids: Tensor, mask: Any) -> Tensor:
    """Sequences longer than those of the training turn slower, each by its own length ("NTK-aware", dynamic)."""
    known, factor = rope["original_max_position_embeddings"], rope["factor"]
    longer = sequence_lengths(position_ids, mask).clamp(min=known)[..., None] / known
    theta = rope["rope_theta"] * (factor * longer - (factor - 1)) ** (D / (D - 2))
    return 1.0 / theta ** (torch.arange(0, D, 2, device=position_ids.device).float() / D)


# rope_type -> (radians per position, [D / 2] or [B, 1 or T, D / 2]; what it needs)
ROPE_TYPES = {
    "default": (default_frequencies, ("rope_theta",)),
    "dynamic": (dynamic_frequencies, ("rope_theta", "factor", "original_max_position_embeddings")),
}


def read_rope(rope: Rope, **defaults: Any) -> dict[str, Any]:
    """A config's rope_parameters, or rope_scaling, with all that its type needs. Raises ValueError."""
    full: dict[str, Any] = {"rope_type": rope.get("type") or "default"} | defaults
    full |= {name: value for name, value in rope.items() if value is not None and name != "type"}
    kind = full["rope_type"]
    if kind not in list(ROPE_TYPES) or full.get("partial_rotary_factor", 1) != 1:
        raise ValueError(f"rope_parameters must turn whole heads, by {' or '.join(ROPE_TYPES)}, got {rope!r:.200}.")
    wrong = [n for n in ROPE_TYPES[kind][1] if type(full.get(n)) not in (int, float) or not 0 < full[n] < 2**63]
    if wrong:
        raise ValueError(f"rope_parameters of type {kind!r} need a positive {', '.join(wrong)}, got {rope!r:.200}.")
    return full


def make_rotary(rope: Rope, D: int, position_ids: Tensor, mask: Any, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """cos and sin [B or 1, T, D / 2], computed in float32; mask: the model's attention_mask."""
    angles = position_ids[..., None].float() * ROPE_TYPES[rope["rope_type"]][0](rope, D, position_ids, mask)
    return angles.cos().to(dtype), angles.sin().to(dtype)


def apply_rotary(q: Tensor, k: Tensor, cos: Tensor, sin: Tensor) -> tuple[Tensor, ...]:
    """q [B, H, T, D] and k, turned: dimension i of a head makes a pair with i + D / 2."""
    cos, sin = cos[:, None], sin[:, None]
    halves = (x.chunk(2, dim=-1) for x in (q, k))
    return tuple(torch.cat((x * cos - y * sin, y * cos + x * sin), dim=-1) for x, y in halves)
