"""Which texts go through the model together: batches of like length, so that little is padded, and windows of a stream.

Numbers of tokens and of texts only; nothing here knows a model or a tensor.
"""

from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator, Sequence
from time import perf_counter
from typing import Any


def plan_batches(
    lengths: Sequence[int], *, tokens: int, rows: int, fixed: int | None = None, packed: bool = False
) -> list[list[int]]:
    """The indices of `lengths` in batches, the longest first.

    tokens: most of a batch, padding counted (there is none when packed); a text that is longer than that has a batch of
    its own. rows: most texts of a batch. fixed: so many texts in every batch but the last, however long they are.
    A packed batch is filled to the last token with shorter texts: for every other number of tokens, matrix products
    are made anew, which takes time and memory.
    """
    order = sorted(range(len(lengths)), key=lengths.__getitem__, reverse=True)
    batches: list[list[int]] = []
    while order:
        batch, at = [order.pop(0)], 0
        longest = max(lengths[batch[0]], 1)
        left = tokens - longest
        while len(batch) < (fixed or rows):
            if packed and not fixed:
                at = bisect_left(order, -left, key=lambda i: -lengths[i])
            if at == len(order) or not (fixed or packed or longest <= left):
                break
            batch.append(order.pop(at))
            left -= lengths[batch[-1]] if packed else longest
        batches.append(batch)
    return batches


def in_order(numbered: Iterable[tuple[int, Any]], count: int) -> list[Any]:
    """The answers 0 to count - 1, which come with their numbers in any order."""
    answers: list[Any] = [None] * count
    for number, answer in numbered:
        answers[number] = answer
    return answers


def map_in_windows(
    items: Iterator[Any], answer: Callable[[list[Any], int], list[Any]], *, first: int, most: int
) -> Iterator[Any]:
    """answer(items of a window, number of its first) for window after window, one result after the other.

    A window holds `first` items and twice as many each time, up to `most`, so that the first results come at once. It
    is halved where reading it took longer than answering it: results of a slow source are not held back.
    When the source fails, what was read before is answered first.
    """
    start, size, failed = 0, first, None
    while failed is None:
        begin = perf_counter()
        window: list[Any] = []
        try:
            for item in items:
                window.append(item)
                if len(window) == size:
                    break
        except Exception as error:
            failed = error
        if not window:
            break
        read = perf_counter()
        results = answer(window, start)
        slow = read - begin > perf_counter() - read
        yield from results
        start += len(window)
        size = max(first, size // 2) if slow else min(most, size * 2)
    if failed is not None:
        raise failed
