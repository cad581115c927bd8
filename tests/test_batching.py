import time

import pytest

from plainformers.batching import in_order, map_in_windows, plan_batches


def test_batches_hold_like_lengths_within_the_budget():
    assert plan_batches([3, 9, 4, 1, 8], tokens=18, rows=8) == [[1, 4], [2, 0, 3]]
    assert plan_batches([3, 9, 4, 1, 8], tokens=18, rows=2) == [[1, 4], [2, 0], [3]]


def test_a_text_beyond_the_budget_is_alone():
    assert plan_batches([50, 5, 60], tokens=20, rows=8) == [[2], [0], [1]]


def test_equal_lengths_keep_their_order_and_nothing_is_no_batch():
    assert plan_batches([7, 7, 7, 7], tokens=14, rows=8) == [[0, 1], [2, 3]]
    assert plan_batches([], tokens=14, rows=8) == []
    assert plan_batches([0, 0], tokens=14, rows=8) == [[0, 1]]


def test_a_fixed_number_goes_before_the_budget():
    assert plan_batches([5, 100, 7, 6, 1], tokens=10, rows=1, fixed=2) == [[1, 2], [3, 0], [4]]


def test_packed_batches_are_filled_with_shorter_texts():
    assert plan_batches([3, 9, 4, 1, 8], tokens=12, rows=8, packed=True) == [[1, 0], [4, 2], [3]]
    assert plan_batches([3, 9, 4, 1, 8], tokens=12, rows=1, packed=True) == [[1], [4], [2], [0], [3]]
    assert plan_batches([50, 0, 5, 60], tokens=20, rows=8, packed=True) == [[3], [0], [2, 1]]
    assert plan_batches([5, 100, 7, 6, 1], tokens=10, rows=1, fixed=2, packed=True) == [[1, 2], [3, 0], [4]]
    lengths = [5 + i * 7919 % 180 for i in range(1000)]
    sums = [sum(lengths[i] for i in batch) for batch in plan_batches(lengths, tokens=2048, rows=256, packed=True)]
    assert all(2048 - min(lengths) < one <= 2048 for one in sums[:-1]) and sums.count(2048) > len(sums) / 2
    assert sum(sums) == sum(lengths)


def test_answers_go_back_to_their_places():
    assert in_order([(2, "c"), (0, "a"), (1, "b")], 3) == ["a", "b", "c"]


class Windows:
    """Doubles numbers; notes what was answered together."""

    def __init__(self, seconds=0.002):
        self.seen, self.seconds = [], seconds

    def __call__(self, window, start):
        time.sleep(self.seconds)
        self.seen.append((start, len(window)))
        return [2 * item for item in window]


def test_windows_grow_and_nothing_is_lost():
    answer = Windows()
    assert list(map_in_windows(iter(range(20)), answer, first=1, most=8)) == [2 * i for i in range(20)]
    assert answer.seen == [(0, 1), (1, 2), (3, 4), (7, 8), (15, 5)]


def test_the_first_answer_needs_one_item_only():
    read = []
    source = (read.append(i) or i for i in range(100))
    assert next(map_in_windows(source, Windows(), first=1, most=8)) == 0
    assert read == [0]


def test_answers_of_a_slow_source_are_not_held_back():
    def slow():
        for i in range(5):
            time.sleep(0.01)
            yield i

    answer = Windows(seconds=0)
    assert list(map_in_windows(slow(), answer, first=1, most=8)) == [0, 2, 4, 6, 8]
    assert answer.seen == [(i, 1) for i in range(5)]


def test_what_was_read_before_a_source_failed_is_answered():
    def failing():
        yield from range(4)
        raise OSError("the disk is gone")

    results = map_in_windows(failing(), Windows(), first=3, most=8)
    assert [next(results) for _ in range(4)] == [0, 2, 4, 6]
    with pytest.raises(OSError, match="the disk is gone"):
        next(results)
