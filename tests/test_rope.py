"""Rotary positions against the arithmetic of the paper, written with complex numbers."""

import numpy as np
import pytest
import torch

from plainformers import Packed
from plainformers.rope import apply_rotary, make_rotary, read_rope

D, THETA = 8, 50.0
PLAIN = {"rope_type": "default", "rope_theta": THETA}
DYNAMIC = PLAIN | {"rope_type": "dynamic", "factor": 3.0, "original_max_position_embeddings": 4}


def turned(x, positions, theta=THETA):
    """x [..., T, D] by the paper: dimensions i and i + D / 2, a complex number, turned by position * theta^(-2i/D)."""
    x = x.double().numpy()
    angle = np.asarray(positions)[..., :, None] * np.asarray(theta)[..., None] ** (-np.arange(0, D, 2) / D)
    z = (x[..., : D // 2] + 1j * x[..., D // 2 :]) * np.exp(1j * angle)
    return torch.from_numpy(np.concatenate([z.real, z.imag], -1)).float()


def stretched(lengths):
    """The theta of sequences of these lengths, trained on 4 and stretched by 3."""
    longer = np.maximum(np.asarray(lengths), 4) / 4
    return THETA * (3 * longer - 2) ** (D / (D - 2))


@pytest.fixture
def qk():
    torch.manual_seed(0)
    return torch.randn(2, 3, 6, D), torch.randn(2, 1, 6, D)  # k of one head for three


def test_heads_are_turned_by_their_positions(qk):
    positions = torch.tensor([[0, 1, 2, 3, 4, 5], [7, 5, 0, 0, 1, 900]])
    cos, sin = make_rotary(PLAIN, D, positions, None, torch.float32)
    assert cos.shape == sin.shape == (2, 1, 6, D)
    for x, got in zip(qk, apply_rotary(*qk, cos, sin), strict=True):
        torch.testing.assert_close(got, turned(x, positions[:, None].numpy()), atol=1e-4, rtol=0)
    one = make_rotary(PLAIN, D, positions[:1], None, torch.float32)  # one row of positions for all
    torch.testing.assert_close(apply_rotary(*qk, *one)[0], turned(qk[0], np.arange(6)), atol=1e-5, rtol=0)


def test_scores_depend_on_distances_only(qk):
    scores = []
    for start in (0, 40):
        q, k = apply_rotary(*qk, *make_rotary(PLAIN, D, torch.arange(start, start + 6)[None], None, torch.float32))
        scores.append(q @ k.transpose(-1, -2))
    torch.testing.assert_close(*scores, atol=1e-4, rtol=0)


def test_long_sequences_are_stretched_each_by_its_own_length(qk):
    q, k = qk
    right, left = torch.tensor([[1, 1, 1, 1, 1, 1], [1, 1, 1, 1, 1, 0]]), torch.tensor([[1] * 6, [0, 1, 1, 1, 1, 1]])
    theta = stretched([[6], [5]])[:, None]
    for mask, positions in ((right, [range(6)] * 2), (left, [range(6), [0, 0, 1, 2, 3, 4]])):
        positions = torch.tensor([list(row) for row in positions])
        got = apply_rotary(q, k, *make_rotary(DYNAMIC, D, positions, mask, torch.float32))[0]
        want = turned(q, positions[:, None].numpy(), theta)
        torch.testing.assert_close(got[mask[:, None].expand(2, 3, 6) == 1], want[mask[:, None].expand(2, 3, 6) == 1])
    packed = torch.tensor([[0, 1, 2, 3, 4, 0]])
    got = apply_rotary(q, k, *make_rotary(DYNAMIC, D, packed, Packed((5, 1)), torch.float32))[0]
    torch.testing.assert_close(got, turned(q, packed.numpy(), stretched([5, 5, 5, 5, 5, 1])))
    for mask in (None, torch.ones(2, 1, 6, 6)):
        cos, _ = make_rotary(DYNAMIC, D, torch.arange(6)[None], mask, torch.float32)
        assert cos.shape == (1, 1, 6, D)
        got = apply_rotary(q, k, cos, _)[0]
        torch.testing.assert_close(got, turned(q, np.arange(6), stretched(6)))
    short = torch.arange(4)[None]
    for one, other in zip(
        *(make_rotary(rope, D, short, None, torch.float32) for rope in (PLAIN, DYNAMIC)), strict=True
    ):
        torch.testing.assert_close(one, other)


@pytest.mark.parametrize("rope", [PLAIN, DYNAMIC], ids=["default", "dynamic"])
def test_tables_are_made_in_float32_anywhere(rope):
    positions = torch.arange(3000)[None]
    exact, coarse = (make_rotary(rope, D, positions, None, dtype) for dtype in (torch.float32, torch.bfloat16))
    for one, other in zip(exact, coarse, strict=True):
        assert torch.equal(one.to(torch.bfloat16), other)
    meta = make_rotary(rope, D, positions.to("meta"), None, torch.float16)
    assert all(one.is_meta and one.shape == (1, 1, 3000, 8) and one.dtype is torch.float16 for one in meta)
    compiled = torch.compile(make_rotary, fullgraph=True, backend="eager")
    for one, other in zip(exact, compiled(rope, D, positions, None, torch.float32), strict=True):
        torch.testing.assert_close(one, other)


def test_what_a_config_says_is_read():
    assert read_rope({}, rope_theta=5.0) == {"rope_type": "default", "rope_theta": 5.0}
    assert read_rope({"rope_type": None, "rope_theta": 7}, rope_theta=5.0) == {"rope_type": "default", "rope_theta": 7}
    older = read_rope({"type": "dynamic", "factor": 2.0}, rope_theta=5.0, original_max_position_embeddings=9)
    assert older == read_rope(older) and older["rope_type"] == "dynamic" and "type" not in older
    for wrong, message in (
        ({"rope_type": "yarn", "factor": 2.0}, "'yarn' need a positive original_max_position_embeddings, got"),
        ({"rope_type": ["default"]}, "of type default or linear or dynamic"),
        ({"rope_type": "axial"}, "of type default or linear or .*, got {'rope_type': 'axial'}"),
        ({"partial_rotary_factor": 1.5}, "need a positive partial_rotary_factor"),
        ({"rope_type": "longrope", "factor": 2, "original_max_position_embeddings": 4}, "short_factor, long_factor"),
        (
            {"rope_type": "llama3", "factor": 2, "original_max_position_embeddings": 4}
            | {"low_freq_factor": 4, "high_freq_factor": 1},
            "must be greater than low_freq_factor",
        ),
        ({"type": "dynamic"}, "need a positive factor, original_max_position_embeddings, got"),
        ({"rope_theta": 0}, "need a positive rope_theta"),
        ({"rope_theta": "10"}, "need a positive rope_theta"),
        ({"rope_theta": float("inf")}, "need a positive rope_theta"),
        ({"rope_theta": True}, "need a positive rope_theta"),
    ):
        with pytest.raises(ValueError, match=message):
            read_rope(wrong, **{} if "rope_theta" in wrong else {"rope_theta": 5.0})
