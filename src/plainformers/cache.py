"""Keys and values of the tokens already seen, so that a decoder computes each of them once.

Shapes: B batch, G key/value heads, K tokens seen, D head size.
"""

from collections.abc import Callable, Iterator

import torch
from torch import Tensor


class DynamicCache:
    """Grows with every token. `past_key_values` of a forward pass; the same object comes back, longer.

    keys, values: per layer [B, G, K, D]. cross: per layer the keys and values of an encoder's output, made once.
    """

    def __init__(self):
        self.keys: list[Tensor] = []
        self.values: list[Tensor] = []
        self.cross: dict[int, tuple[Tensor, Tensor]] = {}

    def append(self, layer: int, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        """All keys and values of a layer, with the new ones at the end. Changes the cache."""
        if layer == len(self.keys):
            self.keys.append(k)
            self.values.append(v)
        else:
            self.keys[layer] = torch.cat([self.keys[layer], k], dim=2)
            self.values[layer] = torch.cat([self.values[layer], v], dim=2)
        return self.keys[layer], self.values[layer]

    def once(self, layer: int, make: Callable[[], tuple[Tensor, Tensor]]) -> tuple[Tensor, Tensor]:
        """The keys and values of an encoder's output for a layer; made at the first call."""
        if layer not in self.cross:
            self.cross[layer] = make()
        return self.cross[layer]

    def get_seq_length(self, layer_idx: int = 0) -> int:
        """Tokens seen."""
        return self.keys[layer_idx].shape[2] if len(self.keys) > layer_idx else 0

    def reorder_cache(self, beam_idx: Tensor) -> None:
        """Row i becomes what row beam_idx[i] was. Changes the cache."""
        self.keys = [k.index_select(0, beam_idx.to(k.device)) for k in self.keys]
        self.values = [v.index_select(0, beam_idx.to(v.device)) for v in self.values]
        self.cross = {
            i: (k.index_select(0, beam_idx.to(k.device)), v.index_select(0, beam_idx.to(v.device)))
            for i, (k, v) in self.cross.items()
        }

    def crop(self, max_length: int) -> None:
        """Forgets all but the first max_length tokens; a negative number forgets that many of the last."""
        length = max_length if max_length >= 0 else self.get_seq_length() + max_length
        self.keys = [k[:, :, :length] for k in self.keys]
        self.values = [v[:, :, :length] for v in self.values]

    def to_legacy_cache(self) -> tuple[tuple[Tensor, Tensor], ...]:
        """The tuple of (keys, values) per layer that older code passes around."""
        return tuple(zip(self.keys, self.values, strict=True))

    @classmethod
    def from_legacy_cache(cls, past_key_values: tuple[tuple[Tensor, ...], ...] | None = None) -> "DynamicCache":
        cache = cls()
        for layer, (k, v, *cross) in enumerate(past_key_values or ()):
            cache.append(layer, k, v)
            if cross:
                cache.cross[layer] = (cross[0], cross[1])
        return cache

    def __len__(self) -> int:
        return len(self.keys)

    def __getitem__(self, layer: int) -> tuple[Tensor, Tensor]:
        return self.keys[layer], self.values[layer]

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        return iter(self.to_legacy_cache())


def as_cache(past_key_values: "DynamicCache | tuple | None", wanted: bool) -> "DynamicCache | None":
    """The cache of a forward pass: the one given (older code gives tuples), a new one when wanted, else None."""
    if isinstance(past_key_values, (tuple, list)):
        return DynamicCache.from_legacy_cache(tuple(past_key_values))
    return DynamicCache() if past_key_values is None and wanted else past_key_values
