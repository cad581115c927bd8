"""Every kernel against the formula, over every kind of mask."""

import itertools

import pytest
import torch

from plainformers import Packed
from plainformers.attention import KERNELS, Span, bind_attention, dense_mask

CPU = torch.device("cpu")


def qkv(B=2, H=4, G=4, Q=5, K=5, D=8):
    torch.manual_seed(0)
    return torch.randn(B, H, Q, D), torch.randn(B, G, K, D), torch.randn(B, G, K, D)


def formula(q, k, v, allowed, scale):
    """softmax(q k^T scale) v, sums written out; allowed [B, Q, K] bool."""
    B, H, Q, D = q.shape
    out = torch.zeros(B, H, Q, D)
    for b, h, i in itertools.product(range(B), range(H), range(Q)):
        g = h * k.shape[1] // H
        seen = allowed[b, i].nonzero().flatten()
        weights = torch.softmax((k[b, g, seen] @ q[b, h, i]) * scale, 0)
        out[b, h, i] = weights @ v[b, g, seen]
    return out


@pytest.mark.parametrize("kernel", ["eager", "sdpa"])
@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("window", [None, 2])
@pytest.mark.parametrize("padding", [None, "right"])
@pytest.mark.parametrize("G", [4, 2, 1])
@pytest.mark.parametrize("past", [0, 3])
def test_kernels_equal_the_formula(kernel, causal, window, padding, G, past):
    Q, K = 5, 5 + past
    q, k, v = qkv(G=G, Q=Q, K=K)
    mask = None if padding is None else torch.tensor([[1] * K, [1] * (K - 1) + [0]])
    allowed = torch.zeros(2, Q, K, dtype=torch.bool)
    for b, i, j in itertools.product(range(2), range(Q), range(K)):
        at = i + past
        near = window is None or abs(at - j) < window
        allowed[b, i, j] = (not causal or j <= at) and near and (mask is None or bool(mask[b, j]))
    seen = allowed.any(-1)  # a query that sees nothing has no answer
    attend = bind_attention(kernel, Q=Q, K=K, causal=causal, mask=mask, window=window, device=CPU)
    got, want = attend(q, k, v, scale=0.3), formula(q, k, v, allowed, 0.3)
    torch.testing.assert_close(got.transpose(1, 2)[seen], want.transpose(1, 2)[seen], atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("kernel", ["eager", "sdpa"])
def test_four_dimensional_masks_say_everything(kernel):
    q, k, v = qkv()
    allowed = torch.rand(2, 1, 5, 5) > 0.3
    allowed |= torch.eye(5, dtype=torch.bool)
    want = formula(q, k, v, allowed[:, 0], 0.5)
    additive = torch.zeros(2, 1, 5, 5).masked_fill(~allowed, torch.finfo(torch.float32).min)
    for mask in (allowed, additive, allowed[:, 0]):
        for causal in (False, True) if mask.dim() == 4 else (False,):
            attend = bind_attention(kernel, Q=5, K=5, causal=causal, mask=mask, device=CPU)
            torch.testing.assert_close(attend(q, k, v, scale=0.5), want, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("causal", [False, True])
def test_packed_sequences_do_not_see_each_other(causal):
    q, k, v = qkv(B=1, Q=9, K=9)
    mask = Packed((4, 2, 3))
    allowed = torch.zeros(1, 9, 9, dtype=torch.bool)
    for start, n in zip(mask.starts, mask.lengths, strict=True):
        block = torch.ones(n, n).tril() if causal else torch.ones(n, n)
        allowed[0, start : start + n, start : start + n] = block.bool()
    want = formula(q, k, v, allowed, 0.5)
    for kernel in ("eager", "sdpa", "varlen"):
        attend = bind_attention(kernel, Q=9, K=9, causal=causal, mask=mask, device=CPU)
        torch.testing.assert_close(attend(q, k, v, scale=0.5), want, atol=1e-5, rtol=1e-5)


def test_a_head_mask_scales_the_weights():
    q, k, v = qkv()
    heads = torch.tensor([1.0, 0.0, 0.5, 2.0])
    plain = formula(q, k, v, torch.ones(2, 5, 5, dtype=torch.bool), 0.5)
    for kernel in ("eager", "sdpa"):
        attend = bind_attention(kernel, Q=5, K=5, causal=False, device=CPU)
        got = attend(q, k, v, scale=0.5, head_mask=heads)
        torch.testing.assert_close(got, plain * heads.view(1, 4, 1, 1), atol=1e-5, rtol=1e-5)


def test_recorded_weights_are_probabilities_of_what_is_seen():
    q, k, v = qkv()
    seen = []
    attend = bind_attention("sdpa", Q=5, K=5, causal=True, device=CPU, record=seen)
    attend(q, k, v, scale=0.5)
    assert len(seen) == 1 and seen[0].shape == (2, 4, 5, 5)
    torch.testing.assert_close(seen[0].sum(-1), torch.ones(2, 4, 5))
    assert (seen[0].triu(1) == 0).all()


def test_dropout_only_where_it_is_asked_for():
    q, k, v = qkv()
    for kernel in ("eager", "sdpa"):
        attend = bind_attention(kernel, Q=5, K=5, causal=False, device=CPU)
        assert torch.equal(attend(q, k, v, scale=0.5), attend(q, k, v, scale=0.5))
        assert not torch.equal(attend(q, k, v, scale=0.5, dropout=0.5), attend(q, k, v, scale=0.5))


def test_no_mask_is_made_when_everything_is_seen():
    assert dense_mask(Span(5, 5, False, None, CPU, 0), None) is None
    assert dense_mask(Span(1, 9, True, None, CPU, 8), None) is None  # one new token of a decoder


def test_unknown_kernels_and_wrong_masks_are_named():
    with pytest.raises(ValueError, match="'flush' is not known; there are eager, sdpa, varlen"):
        bind_attention("flush", Q=5, K=5, causal=False, device=CPU)
    with pytest.raises(ValueError, match="covers 4 tokens; there are 5"):
        bind_attention("sdpa", Q=5, K=5, causal=False, device=CPU, mask=torch.ones(2, 4))
    with pytest.raises(ValueError, match=r"covers 5 tokens; there are 8 \(3 of them in the cache\)"):
        bind_attention("sdpa", Q=5, K=8, causal=True, device=CPU, mask=torch.ones(2, 5))
    with pytest.raises(ValueError, match=r"shape \[5\]"):
        bind_attention("sdpa", Q=5, K=5, causal=False, device=CPU, mask=torch.ones(5))
    with pytest.raises(ValueError, match="packed batches only"):
        bind_attention("varlen", Q=5, K=5, causal=False, device=CPU)


def test_a_kernel_of_ones_own_is_a_dictionary_entry(monkeypatch):
    def twice(q, k, v, *, mask, scale, dropout=0.0, head_mask=None):
        return 2 * KERNELS["sdpa"].attend(q, k, v, mask=mask, scale=scale)

    monkeypatch.setitem(KERNELS, "twice", KERNELS["sdpa"]._replace(attend=twice))
    q, k, v = qkv()
    plain, own = (bind_attention(name, Q=5, K=5, causal=True, device=CPU) for name in ("sdpa", "twice"))
    assert torch.equal(own(q, k, v, scale=0.5), 2 * plain(q, k, v, scale=0.5))


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("padded", [None, "2-D", "additive"])
def test_a_bias_is_added_to_the_scores(causal, padded):
    q, k, v = qkv()
    bias = torch.randn(1, 4, 5, 5)
    mask = None if padded is None else torch.tensor([[1, 1, 1, 1, 1], [1, 1, 1, 1, 0]])
    allowed = torch.ones(5, 5).tril() if causal else torch.ones(5, 5)
    allowed = allowed.bool() if mask is None else allowed.bool() & mask[:, None, None].bool()
    want = (q @ k.mT * 0.5 + bias).masked_fill(~allowed, -torch.inf).softmax(-1) @ v
    if padded == "additive":
        mask = torch.zeros(2, 1, 5, 5).masked_fill(~allowed, torch.finfo(torch.float32).min)
    for kernel in ("eager", "sdpa"):
        attend = bind_attention(kernel, Q=5, K=5, causal=causal, mask=mask, device=CPU)
        torch.testing.assert_close(attend(q, k, v, scale=0.5, bias=bias), want, atol=1e-5, rtol=1e-5)


def test_every_packed_sequence_takes_its_part_of_the_bias():
    q, k, v = qkv(B=1, Q=9, K=9)
    bias, mask = torch.randn(1, 4, 4, 4), Packed((4, 2, 3))
    want = torch.cat(
        [
            (q_ @ k_.mT * 0.5 + bias[..., :n, :n]).softmax(-1) @ v_
            for n, q_, k_, v_ in zip(mask.lengths, *(x.split(mask.lengths, 2) for x in (q, k, v)), strict=True)
        ],
        2,
    )
    for kernel in ("eager", "sdpa", "varlen"):
        attend = bind_attention(kernel, Q=9, K=9, causal=False, mask=mask, device=CPU)
        torch.testing.assert_close(attend(q, k, v, scale=0.5, bias=bias), want, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("padded", [False, True])
def test_a_bias_may_be_a_function_of_queries_and_keys(padded):
    """Of each sequence for itself, wherever it stands and with whatever others it goes."""

    def bias(q, k):
        n = torch.arange(q.shape[2])
        return (q.sum(-1)[..., None] * k.mean(-1)[..., None, :]) + (n[:, None] - n).sign()

    q, k, v = qkv(B=1, Q=9, K=9)
    mask = Packed((2, 2, 1, 4))
    parts = list(zip(*(x.split(mask.lengths, 2) for x in (q, k, v)), strict=True))
    want = [(q_ @ k_.mT * 0.5 + bias(q_, k_)).softmax(-1) @ v_ for q_, k_, v_ in parts]
    if padded:
        rows = zip(*parts[:2], strict=True)
        wide = [torch.nn.functional.pad(torch.cat(pair), (0, 0, 0, 3), value=7.0) for pair in rows]
        mask = torch.tensor([[1, 1, 0, 0, 0]] * 2)
        for kernel in ("eager", "sdpa"):
            attend = bind_attention(kernel, Q=5, K=5, causal=False, mask=mask, device=CPU)
            got = attend(*wide, scale=0.5, bias=bias)[:, :, :2]
            torch.testing.assert_close(got, torch.cat(want[:2]), atol=1e-5, rtol=1e-5)
        return
    for kernel in ("eager", "sdpa", "varlen"):
        attend = bind_attention(kernel, Q=9, K=9, causal=False, mask=mask, device=CPU)
        torch.testing.assert_close(attend(q, k, v, scale=0.5, bias=bias), torch.cat(want, 2), atol=1e-5, rtol=1e-5)
