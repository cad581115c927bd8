"""Which texts go through the model together: batches of like length, so that little is padded, and windows of a stream.

Numbers of tokens and of texts only; nothing here knows a model or a tensor.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from time import perf_counter
from typing import Any


def plan_batches(
    lengths: Sequence[int], *, tokens: int, rows: int, fixed: int | None = None, packed: bool = False
) -> list[list[int]]:
    """The indices of `lengths` in batches, the longest first.

    tokens: most of a batch, padding counted (there is none when packed); a text that is longer than that has a batch of
    its own. rows: most texts of a batch. fixed: so many texts in every batch but the last, however long they are.
    """
    order = sorted(range(len(lengths)), key=lengths.__getitem__, reverse=True)
    batches: list[list[int]] = []
    start = 0
    while start < len(order):
        end, sum_of = start + 1, lengths[order[start]]
        longest = max(sum_of, 1)
        while end < len(order) and end - start < (fixed or rows):
            sum_of += lengths[order[end]] if packed else longest
            if sum_of > tokens and not fixed:
                break
            end += 1
        batches.append(order[start:end])
        start = end
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
