"""Keys and values of the tokens already seen, so that a decoder computes each of them once.

A forward pass asks a cache three things: `get_seq_length()`, how many tokens were seen; `key_length(Q)`, how many keys
a layer will attend to when Q more come; and, in every layer, `append`, which takes the new ones and gives all of them.
Shapes: B batch, G key/value heads, K tokens seen, Q new tokens, D head size.
"""

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor

SPARE = 64  # tokens by which a sliding layer may be cropped beyond its window


class Rows:
    """Keys or values of one layer, in a buffer with room for more: a token costs its own copy, not that of all.

    What is given first is kept as it is; the buffer is made when more comes. window: a token sees so many of them,
    itself included, and older ones are forgotten.
    """

    def __init__(self, new: Tensor, window: int | None = None):
        self.buffer, self.start, self.end, self.window = new, 0, new.shape[2], window
        self.total = self.end  # tokens, those that are forgotten counted

    @property
    def seen(self) -> Tensor:
        """[B, G, K, D], a view."""
        return self.last(self.end - self.start)

    def last(self, tokens: int) -> Tensor:
        return self.buffer.narrow(2, self.end - tokens, tokens)

    def append(self, new: Tensor, room: int) -> None:
        """room: tokens that a new buffer has at least."""
        Q, keep = new.shape[2], 0
        self.total += Q
        if self.window is not None:
            keep = self.window - 1 + SPARE
            self.start = max(self.start, self.end - keep)
        if torch.is_grad_enabled() and (new.requires_grad or self.buffer.requires_grad):
            self.buffer = torch.cat((self.seen, new), dim=2)  # gradients do not flow through what is overwritten
            self.start, self.end = 0, self.buffer.shape[2]
            return
        if self.end + Q > self.buffer.shape[2]:
            old, K = self.seen, self.end - self.start
            room = 2 * (keep + Q) if keep else max(K + Q + 32, (K + Q) * 3 // 2, room)
            self.buffer = old.new_empty(*old.shape[:2], room, old.shape[3])
            self.buffer[:, :, :K] = old
            self.start, self.end = 0, K
        self.buffer.narrow(2, self.end, Q).copy_(new)
        self.end += Q

    def crop(self, left: int) -> None:
        """Forgets all but the first tokens of the sequence, so many."""
        forgotten = self.total - left
        need = left if self.window is None else min(left, self.window - 1)
        if self.end - forgotten - self.start < need:
            raise ValueError(f"{forgotten} tokens cannot be forgotten: those before them left the window of a layer.")
        self.end, self.total = self.end - forgotten, left

    def choose(self, rows: Tensor) -> None:
        """Row i becomes what row rows[i] was; where there is room for more, only those move that others replace."""
        rows = rows.to(self.buffer.device)
        if len(rows) == len(self.buffer) and self.end < self.buffer.shape[2]:  # made here, nobody else's
            moved = (rows != torch.arange(len(rows), device=rows.device)).nonzero()[:, 0]
            self.seen.index_copy_(0, moved, self.seen.index_select(0, rows[moved]))
            return
        chosen = self.seen.index_select(0, rows)
        self.buffer, self.start, self.end = chosen, 0, chosen.shape[2]


class DynamicCache:
    """Grows with every token. `past_key_values` of a forward pass; the same object comes back, longer.

    Layers with a window forget what no later token sees. cross: per layer the keys and values of an encoder's output,
    made once. expected: tokens that will come in all, so that memory is taken once.
    """

    def __init__(self, config: Any = None, *, expected: int = 0):
        # layer -> keys and values. A config is accepted as Transformers takes it; the layers say what they need
        self.layers: dict[int, tuple[Rows, Rows]] = {}
        self.cross: dict[int, tuple[Tensor, Tensor]] = {}
        self.expected = expected

    def append(self, layer: int, k: Tensor, v: Tensor, window: int | None = None) -> tuple[Tensor, Tensor]:
        """The keys and values that the new tokens may see, with their own at the end. Changes the cache.

        window: a token sees so many keys, itself included.
        """
        Q = k.shape[2]
        if layer not in self.layers:
            self.layers[layer] = Rows(k, window), Rows(v, window)
        else:
            for rows, new in zip(self.layers[layer], (k, v), strict=True):
                (B, G, _, D), (b, g, _, d) = rows.buffer.shape, new.shape
                if b != B or g != G or d != D:
                    raise ValueError(
                        f"past_key_values holds {list(rows.seen.shape)} in layer {layer}, which does not go with new "
                        f"keys of {list(new.shape)}: it is of another model or another batch."
                    )
                rows.append(new, self.expected)
        keys, values = self.layers[layer]
        K = keys.total if window is None else min(keys.total - Q, window - 1) + Q
        return keys.last(K), values.last(K)

    def once(self, layer: int, make: Callable[[], tuple[Tensor, Tensor]]) -> tuple[Tensor, Tensor]:
        """The keys and values of an encoder's output for a layer; made at the first call."""
        if layer not in self.cross:
            self.cross[layer] = make()
        return self.cross[layer]

    def get_seq_length(self, layer_idx: int = 0) -> int:
        """Tokens seen, by all layers: one that was interrupted has seen more in some."""
        return min([keys.total for keys, _ in self.layers.values()] or [0])

    def key_length(self, Q: int, window: int | None = None) -> int:
        """How many keys append will give for Q new tokens."""
        past = self.get_seq_length()
        return Q + (past if window is None else min(past, window - 1))

    def rows(self) -> Iterator[Rows]:
        return (rows for pair in self.layers.values() for rows in pair)

    def reorder_cache(self, beam_idx: Tensor) -> None:
        """Row i becomes what row beam_idx[i] was. Changes the cache."""
        for rows in self.rows():
            rows.choose(beam_idx)
        self.cross = {
            i: (k.index_select(0, beam_idx.to(k.device)), v.index_select(0, beam_idx.to(v.device)))
            for i, (k, v) in self.cross.items()
        }

    batch_select_indices = reorder_cache

    def batch_repeat_interleave(self, repeats: int) -> None:
        """Every row so many times, next to each other."""
        first = next(self.rows(), None)
        if first is not None:
            self.reorder_cache(torch.arange(first.buffer.shape[0]).repeat_interleave(repeats))

    def crop(self, max_length: int) -> None:
        """Forgets all but the first max_length tokens; a negative number forgets that many of the last."""
        past = self.get_seq_length()
        left = past + max_length if max_length < 0 else min(max_length, past)
        if left < 0:
            raise ValueError(f"The cache holds {past} tokens; {-max_length} cannot be forgotten.")
        for rows in self.rows():
            rows.crop(left)

    def reset(self) -> None:
        self.layers, self.cross = {}, {}

    # ---- as code written for Transformers uses it

    def update(self, key_states: Tensor, value_states: Tensor, layer_idx: int, *_: Any) -> tuple[Tensor, Tensor]:
        return self.append(layer_idx, key_states, value_states)

    def to_legacy_cache(self) -> tuple[tuple[Tensor, Tensor], ...]:
        """The tuple of (keys, values) per layer that older code passes around."""
        return tuple(self)

    @classmethod
    def from_legacy_cache(cls, past_key_values: tuple[tuple[Tensor, ...], ...] | None = None) -> "DynamicCache":
        cache = cls()
        for layer, (k, v, *cross) in enumerate(past_key_values or ()):
            cache.append(layer, k, v)
            if cross:
                cache.cross[layer] = (cross[0], cross[1])
        return cache

    def __len__(self) -> int:
        return len(self.layers)

    def __getitem__(self, layer: int) -> tuple[Tensor, Tensor]:
        keys, values = self.layers[layer]
        return keys.seen, values.seen

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        return (self[layer] for layer in sorted(self.layers))


class QuantizedCache(DynamicCache):
    """Keeps keys and values in 8 bits, each token's of a head by a scale of its own: a quarter of float32's memory.

    A layer's floats are made anew when it needs them and forgotten again. Paper: https://arxiv.org/abs/2402.02750 has
    finer ways for fewer bits.
    """

    def __init__(self, config: Any = None, *, expected: int = 0):
        super().__init__(config, expected=expected)
        self.scales: dict[int, DynamicCache] = {}

    def append(self, layer: int, k: Tensor, v: Tensor, window: int | None = None) -> tuple[Tensor, Tensor]:
        scales = self.scales.setdefault(layer, DynamicCache(expected=self.expected))
        fine = [x.detach().abs().amax(-1, keepdim=True).float().clamp(min=1e-12) / 127 for x in (k, v)]
        whole = [(x.detach() / scale).round().to(torch.int8) for x, scale in zip((k, v), fine, strict=True)]
        rounded = super().append(layer, whole[0], whole[1], window)
        by = scales.append(0, fine[0], fine[1], window)
        return tuple((x * scale).to(k.dtype) for x, scale in zip(rounded, by, strict=True))  # type: ignore[return-value]

    def reorder_cache(self, beam_idx: Tensor) -> None:
        super().reorder_cache(beam_idx)
        for scales in self.scales.values():
            scales.reorder_cache(beam_idx)

    batch_select_indices = reorder_cache

    def crop(self, max_length: int) -> None:
        for scales in self.scales.values():
            scales.crop(max_length)
        super().crop(max_length)

    def reset(self) -> None:
        super().reset()
        self.scales = {}

    def __getitem__(self, layer: int) -> tuple[Tensor, Tensor]:
        return tuple(x * by for x, by in zip(super().__getitem__(layer), self.scales[layer][0], strict=True))  # type: ignore[return-value]


class StaticCache:
    """Has room for max_cache_len tokens from the beginning and never moves: for torch.compile and CUDA graphs.

    Layers attend to all of its keys; a mask hides those that are not there yet. length: tokens seen, a tensor [], so
    that a compiled step is the same for every token.
    """

    def __init__(self, config: Any = None, max_cache_len: int = 0, **_: Any):
        if max_cache_len < 1:
            raise ValueError(
                f"StaticCache needs max_cache_len, the number of tokens it has room for; got {max_cache_len}."
            )
        self.max_cache_len = max_cache_len
        self.keys: dict[int, Tensor] = {}
        self.values: dict[int, Tensor] = {}
        self.cross: dict[int, tuple[Tensor, Tensor]] = {}
        self.length = torch.zeros((), dtype=torch.long)

    def append(self, layer: int, k: Tensor, v: Tensor, window: int | None = None) -> tuple[Tensor, Tensor]:
        """All keys and values, [B, G, max_cache_len, D], with the new ones in their places. Changes the cache."""
        Q = k.shape[2]
        cheap = k.device.type == "cpu" and not torch.compiler.is_compiling()  # on a GPU it would wait for the token
        if cheap and layer == min(self.keys, default=layer) and int(self.length) + Q > self.max_cache_len:
            seen = int(self.length)
            raise ValueError(f"StaticCache has room for {self.max_cache_len} tokens: {seen} were seen, {Q} come.")
        if layer not in self.keys:
            shape = (*k.shape[:2], self.max_cache_len, k.shape[3])
            self.keys[layer], self.values[layer] = k.new_zeros(shape), v.new_zeros((*shape[:3], v.shape[3]))
            self.length = self.length.to(k.device)
        if layer == min(self.keys):
            self.length.add_(Q)
        places = self.length - Q + torch.arange(Q, device=k.device)
        self.keys[layer].index_copy_(2, places, k)
        self.values[layer].index_copy_(2, places, v)
        return self.keys[layer], self.values[layer]

    once = DynamicCache.once

    def get_seq_length(self, layer_idx: int = 0) -> Tensor:
        return self.length

    def key_length(self, Q: int, window: int | None = None) -> int:
        return self.max_cache_len

    def reorder_cache(self, beam_idx: Tensor) -> None:
        """Row i becomes what row beam_idx[i] was, in place."""
        for kept in (self.keys, self.values):
            for x in kept.values():
                x.copy_(x.index_select(0, beam_idx.to(x.device)))

    def crop(self, max_length: int) -> None:
        self.length.fill_(max_length if max_length >= 0 else int(self.length) + max_length)

    def reset(self) -> None:
        """Forgets the tokens and keeps the memory."""
        self.length.zero_()
        self.cross = {}

    def __len__(self) -> int:
        return len(self.keys)


Cache = DynamicCache | StaticCache


def as_cache(past_key_values: Any, wanted: bool) -> Any:
    """The cache of a forward pass: the one given (older code gives tuples), a new one when wanted, else None."""
    if isinstance(past_key_values, (tuple, list)):
        return DynamicCache.from_legacy_cache(tuple(past_key_values))
    return DynamicCache() if past_key_values is None and wanted else past_key_values
