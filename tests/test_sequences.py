import pytest
import torch

from plainformers import Packed
from plainformers.sequences import first_token, last_token, make_position_ids, mean_tokens

CPU = torch.device("cpu")
LEFT = torch.tensor([[1, 1, 1, 1], [0, 0, 1, 1]])
RIGHT = torch.tensor([[1, 1, 1, 1], [1, 1, 0, 0]])


def test_positions_count_from_the_first_real_token():
    assert make_position_ids(None, 2, 4, 0, CPU).tolist() == [[0, 1, 2, 3]]
    assert make_position_ids(RIGHT, 2, 4, 0, CPU).tolist() == [[0, 1, 2, 3], [0, 1, 2, 3]]
    assert make_position_ids(LEFT, 2, 4, 0, CPU).tolist() == [[0, 1, 2, 3], [0, 0, 0, 1]]
    hole = torch.tensor([[1, 0, 1, 1]])  # a token that nobody looks at keeps its place, as users expect
    assert make_position_ids(hole, 1, 4, 0, CPU).tolist() == [[0, 1, 2, 3]]


def test_positions_go_on_after_a_cache():
    mask = torch.tensor([[1, 1, 1, 1, 1], [0, 0, 1, 1, 1]])
    assert make_position_ids(mask, 2, 2, 3, CPU).tolist() == [[3, 4], [1, 2]]
    assert make_position_ids(None, 2, 1, 7, CPU).tolist() == [[7]]


def test_packed_positions_restart():
    assert make_position_ids(Packed((3, 1, 2)), 1, 6, 0, CPU).tolist() == [[0, 1, 2, 0, 0, 1]]


@pytest.mark.parametrize(("mask", "first", "last", "mean"), [(RIGHT, 4.0, 5.0, 4.5), (LEFT, 6.0, 7.0, 6.5)])
def test_tokens_of_padded_sequences(mask, first, last, mean):
    x = torch.arange(8.0).view(2, 4, 1)
    assert first_token(x, mask).flatten().tolist() == [0.0, first]
    assert last_token(x, mask).flatten().tolist() == [3.0, last]
    assert mean_tokens(x, mask).flatten().tolist() == [1.5, mean]


def test_tokens_of_packed_and_of_full_sequences():
    x, packed = torch.arange(6.0).view(1, 6, 1), Packed((4, 2))
    assert first_token(x, packed).flatten().tolist() == [0.0, 4.0]
    assert last_token(x, packed).flatten().tolist() == [3.0, 5.0]
    assert mean_tokens(x, packed).flatten().tolist() == [1.5, 4.5]
    assert [f(x, None).item() for f in (first_token, last_token, mean_tokens)] == [0.0, 5.0, 2.5]


def test_packed_says_what_is_wrong():
    with pytest.raises(ValueError, match="no empty one"):
        Packed((3, 0))
    with pytest.raises(ValueError, match="at least one"):
        Packed(())
    with pytest.raises(ValueError, match=r"needs input of shape \[1, 5\], got \[1, 4\]"):
        make_position_ids(Packed((3, 2)), 1, 4, 0, CPU)
