"""Rotary positions (RoPE): pairs of a head's dimensions are turned by angles that grow with a token's position.

The tables are made once per forward pass, above the layers. A config's rope_parameters say which: {"rope_type": ...,
"rope_theta": ..., and what the type needs}. Paper: Su et al., 2021, https://arxiv.org/abs/2104.09864
Shapes: B batch, T tokens, H heads, D head size, R dimensions of a head that are turned (all of them, or the first).
"""

import functools
import math
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
        position_ids = position_ids * mask[:, -position_ids.shape[1] :].ne(0)
    return position_ids.amax(-1, keepdim=True) + 1


# ---- Radians per position, [R / 2]: one function for each rope_type


def default_frequencies(rope: Rope, R: int, device: torch.device) -> Tensor:
    return 1.0 / rope["rope_theta"] ** (torch.arange(0, R, 2, device=device).float() / R)


def linear_frequencies(rope: Rope, R: int, device: torch.device) -> Tensor:
    """Positions are squeezed by a factor. Paper: Chen et al., 2023, https://arxiv.org/abs/2306.15595"""
    return default_frequencies(rope, R, device) / rope["factor"]


def llama3_frequencies(rope: Rope, R: int, device: torch.device) -> Tensor:
    """Slow turns are squeezed, fast ones kept, those between mixed. Paper: https://arxiv.org/abs/2407.21783"""
    frequencies = default_frequencies(rope, R, device)
    low, high = rope["low_freq_factor"], rope["high_freq_factor"]
    turns = rope["original_max_position_embeddings"] * frequencies / (2 * math.pi)  # within the trained length
    kept = ((turns - low) / (high - low)).clamp(0, 1)
    return frequencies * (kept + (1 - kept) / rope["factor"])


def yarn_frequencies(rope: Rope, R: int, device: torch.device) -> Tensor:
    """As llama3, by dimensions between two bounds. Paper: Peng et al., 2023, https://arxiv.org/abs/2309.00071"""
    frequencies, known = default_frequencies(rope, R, device), rope["original_max_position_embeddings"]

    def dimension(turns: float) -> float:  # the one that turns so often within the trained length
        return R * math.log(known / (turns * 2 * math.pi)) / (2 * math.log(rope["rope_theta"]))

    low, high = dimension(rope.get("beta_fast") or 32), dimension(rope.get("beta_slow") or 1)
    if rope.get("truncate", True):
        low, high = math.floor(low), math.ceil(high)
    low, high = max(low, 0), min(high, R - 1)
    kept = 1 - ((torch.arange(R // 2, device=device) - low) / ((high - low) or 0.001)).clamp(0, 1)
    return frequencies * (kept + (1 - kept) / rope["factor"])


def longrope_frequencies(rope: Rope, R: int, device: torch.device, long: bool = False) -> Tensor:
    """A factor for each dimension, of two lists. Paper: Ding et al., 2024, https://arxiv.org/abs/2402.13753"""
    factors = torch.tensor(rope["long_factor" if long else "short_factor"], device=device).float()
    if factors.shape != (R // 2,):
        raise ValueError(f"longrope needs a factor for each of {R // 2} frequencies, got {len(factors)}.")
    return default_frequencies(rope, R, device) / factors


def yarn_factor(rope: Rope) -> float:
    def grow(by: float) -> float:
        return 1.0 if rope["factor"] <= 1 else 0.1 * by * math.log(rope["factor"]) + 1.0

    by, by_all = rope.get("mscale"), rope.get("mscale_all_dim")
    return grow(by) / grow(by_all) if by and by_all else grow(1)


def longrope_factor(rope: Rope) -> float:
    factor = rope["factor"]
    return 1.0 if factor <= 1 else math.sqrt(1 + math.log(factor) / math.log(rope["original_max_position_embeddings"]))


# rope_type -> (radians per position, what it needs)
ROPE_TYPES = {
    "default": (default_frequencies, ()),
    "linear": (linear_frequencies, ("factor",)),
    "dynamic": (default_frequencies, ("factor", "original_max_position_embeddings")),
    "llama3": (
        llama3_frequencies,
        ("factor", "low_freq_factor", "high_freq_factor", "original_max_position_embeddings"),
    ),
    "yarn": (yarn_frequencies, ("factor", "original_max_position_embeddings")),
    "longrope": (longrope_frequencies, ("factor", "original_max_position_embeddings")),
}
# rope_type -> what cosines and sines are multiplied with, where the config does not say it
ATTENTION_FACTORS = {"yarn": yarn_factor, "longrope": longrope_factor}
OLD_NAMES = {"su": "longrope", "mrope": "default"}


def read_rope(rope: Rope | None, longest: int | None = None, **defaults: Any) -> dict[str, Any]:
    """A config's rope_parameters, or rope_scaling, with all that its type needs. Raises ValueError.

    longest: max_position_embeddings; what is extended beyond the trained length is so by a factor of it.
    """
    rope = {} if rope is None else rope
    full: dict[str, Any] = {"rope_type": rope.get("type") or "default"}
    full |= {name: value for name, value in defaults.items() if value is not None}
    full |= {name: value for name, value in rope.items() if value is not None and name != "type"}
    kind: Any = full["rope_type"]
    kind = full["rope_type"] = OLD_NAMES.get(kind, kind) if isinstance(kind, str) else kind
    if kind not in list(ROPE_TYPES):
        raise ValueError(f"rope_parameters must be of type {' or '.join(ROPE_TYPES)}, got {rope!r:.200}.")
    needs = ("rope_theta", *ROPE_TYPES[kind][1])
    if "original_max_position_embeddings" not in needs:
        full.pop("original_max_position_embeddings", None)
    elif longest is not None:
        known = full.setdefault("original_max_position_embeddings", longest)
        if kind != "dynamic" and is_positive(known):
            full.setdefault("factor", longest / known)
    wrong = [name for name in needs if not is_positive(full.get(name))]
    wrong += [n for n in ("partial_rotary_factor",) if n in full and not (is_positive(full[n]) and full[n] <= 1)]
    if kind == "longrope":
        lists = ("short_factor", "long_factor")
        wrong += [n for n in lists if not full.get(n) or not all(map(is_positive, full[n]))]
    if wrong:
        raise ValueError(f"rope_parameters of type {kind!r} need a positive {', '.join(wrong)}, got {rope!r:.200}.")
    if kind == "llama3" and full["high_freq_factor"] <= full["low_freq_factor"]:
        raise ValueError(f"high_freq_factor must be greater than low_freq_factor, got {rope!r:.200}.")
    return full


def is_positive(value: Any) -> bool:
    return type(value) in (int, float) and 0 < value < 2**63


# ---- Tables


@functools.lru_cache(32)
def cached_table(
    key: tuple[Any, ...], R: int, length: int, dtype: torch.dtype, device: torch.device
) -> tuple[Tensor, Tensor]:
    rope: dict[str, Any] = {name: list(value) if isinstance(value, tuple) else value for name, value in key}
    with torch.inference_mode(False):  # such tensors could not be used in training
        kind: str = rope["rope_type"]
        frequencies = ROPE_TYPES[kind][0](rope, R, device)
        return turns(rope, torch.arange(length, device=device)[:, None] * frequencies, dtype)


def turns(rope: Rope, angles: Tensor, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """cos and sin [..., R] of angles [..., R / 2]; the first half of sin is negative, as apply_rotary wants it."""
    factor = rope.get("attention_factor") or ATTENTION_FACTORS.get(rope["rope_type"], lambda _: 1.0)(rope)
    cos, sin = angles.cos() * factor, angles.sin() * factor
    return torch.cat((cos, cos), -1).to(dtype), torch.cat((-sin, sin), -1).to(dtype)


def make_rotary(
    rope: Rope, D: int, position_ids: Tensor, mask: Any, dtype: torch.dtype, length: int | None = None
) -> tuple[Tensor, Tensor]:
    """cos and sin [B or 1, 1, T, R], computed in float32; mask: the model's attention_mask.

    length: all position_ids are smaller; then they are looked up in a table that is kept.
    """
    R, kind = int(D * rope.get("partial_rotary_factor", 1.0)), rope["rope_type"]
    varies = kind in ("dynamic", "longrope")  # with the length of the sequence
    known = rope.get("original_max_position_embeddings", 0)
    short = varies and length is not None and length <= known
    if length is not None and (short or not varies) and not torch.compiler.is_compiling():
        key = tuple((name, tuple(value) if isinstance(value, list) else value) for name, value in rope.items())
        size = 1 << max(length - 1, 255).bit_length()
        cos, sin = cached_table(key, R, size, dtype, position_ids.device)
        return cos[position_ids[:, None]], sin[position_ids[:, None]]
    frequencies = ROPE_TYPES[kind][0](rope, R, position_ids.device)
    if varies and not short:
        lengths = sequence_lengths(position_ids, mask)[..., None]  # each sequence by its own
        if kind == "longrope":
            other = longrope_frequencies(rope, R, position_ids.device, long=True)
            frequencies = torch.where(lengths > known, other, frequencies)
        else:  # longer sequences turn slower ("NTK-aware")
            theta = rope["factor"] * lengths.clamp(min=known) / known - (rope["factor"] - 1)
            frequencies = default_frequencies(
                {"rope_theta": rope["rope_theta"] * theta ** (R / (R - 2))}, R, lengths.device
            )
    return turns(rope, (position_ids[..., None].float() * frequencies)[:, None], dtype)


def apply_rotary(q: Tensor, k: Tensor, cos: Tensor, sin: Tensor) -> tuple[Tensor, ...]:
    """q [B, H, T, D] and k, turned: dimension i of the first R makes a pair with i + R / 2."""
    R = cos.shape[-1]
    if q.shape[-1] == R:
        return tuple([torch.addcmul(x * cos, x.roll(R // 2, -1), sin) for x in (q, k)])
    parts = ((x[..., :R], x[..., R:]) for x in (q, k))
    return tuple(torch.cat((torch.addcmul(x * cos, x.roll(R // 2, -1), sin), rest), -1) for x, rest in parts)
