"""The rules of generation: what they rule out, by hand and as properties; no rule writes into what it is given."""

import math

import pytest
import torch
from hypothesis import given, settings, strategies as st

from plainformers import GenerationConfig, LogitsProcessor, LogitsProcessorList, StoppingCriteria, StoppingCriteriaList
from plainformers.logits import (
    diversity,
    epsilon_cutoff,
    eta_cutoff,
    exponential_decay_length,
    force,
    make_rules,
    min_p,
    no_repeat_ngram,
    prefix_allowed,
    remove_invalid,
    renormalize,
    repetition_penalty,
    sequence_bias,
    suppress,
    temperature,
    top_h,
    top_k,
    top_p,
    typical_p,
    watermark,
)

INF, NO_IDS = math.inf, torch.zeros(1, 0, dtype=torch.long)


def of(*probabilities: float) -> torch.Tensor:
    """[1, V] scores of tokens that are so probable."""
    return torch.tensor([probabilities]).log()


def left(scores: torch.Tensor) -> list:
    """The tokens that are not ruled out, of each row; of the row where there is one."""
    rows = [(row > -INF).nonzero()[:, 0].tolist() for row in scores]
    return rows[0] if len(rows) == 1 else rows


# ---- Sampling

P = of(0.1, 0.4, 0.05, 0.25, 0.2)


def test_temperature():
    assert torch.equal(temperature(NO_IDS, torch.tensor([[1.0, -3.0]]), value=0.5), torch.tensor([[2.0, -6.0]]))


def test_top_k_keeps_ties_and_takes_any_k():
    assert left(top_k(NO_IDS, P, k=2)) == [1, 3]
    assert left(top_k(NO_IDS, P, k=1, keep=3)) == [1, 3, 4]
    assert left(top_k(NO_IDS, P, k=99)) == [0, 1, 2, 3, 4]
    assert left(top_k(NO_IDS, torch.tensor([[2.0, 1.0, 2.0, 2.0]]), k=2)) == [0, 2, 3]


def test_top_p_stops_when_the_mass_is_reached():
    assert left(top_p(NO_IDS, P, p=0.39)) == [1]
    assert left(top_p(NO_IDS, P, p=0.41)) == left(top_p(NO_IDS, P, p=0.64)) == [1, 3]
    assert left(top_p(NO_IDS, P, p=0.0)) == [1]
    assert left(top_p(NO_IDS, P, p=0.0, keep=2)) == [1, 3]
    assert left(top_p(NO_IDS, P, p=1.0)) == [0, 1, 2, 3, 4]
    # of equal tokens the last ones, always
    assert left(top_p(NO_IDS, torch.zeros(1, 1000), p=0.002)) == [998, 999]


def test_min_p_is_relative_to_the_best():
    assert left(min_p(NO_IDS, P, p=0.6)) == [1, 3]
    assert left(min_p(NO_IDS, P, p=1.0)) == [1]
    assert left(min_p(NO_IDS, P, p=1.0, keep=2)) == [1, 3]


def test_top_h_spends_a_share_of_the_entropy():
    # entropy of (1/2, 1/4, 1/8, 1/8) is 1.75 bits, of which the tokens hold 0.5, 0.5, 0.375 and 0.375
    scores = of(1 / 8, 1 / 2, 1 / 8, 1 / 4)
    assert left(top_h(NO_IDS, scores, h=0.01)) == left(top_h(NO_IDS, scores, h=0.5)) == [1]
    assert left(top_h(NO_IDS, scores, h=0.6)) == [1, 3]
    assert len(left(top_h(NO_IDS, scores, h=0.8))) == 3
    assert len(left(top_h(NO_IDS, torch.zeros(1, 1000), h=1.0))) in (99, 100)  # the last by a rounding


def test_typical_p_prefers_the_expected_surprise():
    # the entropy is 1.75 bits; the surprises are 3, 1, 3 and 2 bits
    scores = of(1 / 8, 1 / 2, 1 / 8, 1 / 4)
    assert left(typical_p(NO_IDS, scores, p=0.2)) == [3]
    assert left(typical_p(NO_IDS, scores, p=0.3)) == [1, 3]
    assert left(typical_p(NO_IDS, scores, p=0.2, keep=2)) == [1, 3]


def test_cutoffs():
    assert left(epsilon_cutoff(NO_IDS, P, epsilon=0.15)) == [1, 3, 4]
    assert left(epsilon_cutoff(NO_IDS, P, epsilon=0.9)) == [1]
    assert left(epsilon_cutoff(NO_IDS, P, epsilon=0.9, keep=2)) == [1, 3]
    # a flat distribution of 8: entropy log 8, so the limit is sqrt(0.9) / 8 < 1 / 8
    flat = of(*[1 / 8] * 8)
    assert left(eta_cutoff(NO_IDS, flat, epsilon=0.9)) == list(range(8))
    assert left(eta_cutoff(NO_IDS, of(0.97, 0.01, 0.02), epsilon=0.015)) == [0, 2]


SAMPLERS = {
    "temperature": (temperature, {"value": 0.7}),
    "top_k": (top_k, {"k": 3}),
    "top_p": (top_p, {"p": 0.8}),
    "min_p": (min_p, {"p": 0.2}),
    "min_p, two": (min_p, {"p": 0.9, "keep": 2}),
    "top_h": (top_h, {"h": 0.5}),
    "typical_p": (typical_p, {"p": 0.6}),
    "epsilon_cutoff": (epsilon_cutoff, {"epsilon": 0.1}),
    "eta_cutoff": (eta_cutoff, {"epsilon": 0.1}),
    "renormalize": (renormalize, {}),
    "remove_invalid": (remove_invalid, {}),
}
numbers = st.sampled_from([-INF, -30.0, -2.0, -1.0, 0.0, 0.5, 1.0, 3.0, 80.0])


@pytest.mark.parametrize("name", SAMPLERS)
@settings(max_examples=40, deadline=None)
@given(rows=st.lists(st.lists(numbers, min_size=6, max_size=6), min_size=1, max_size=4))
def test_rows_do_not_touch_each_other_and_inputs_stay(name, rows):
    """Rows that are ruled out as a whole, too."""
    rule, options = SAMPLERS[name]
    scores = torch.tensor(rows)
    before = scores.clone()
    got = rule(NO_IDS, scores, **options)
    assert torch.equal(scores, before)
    for i in range(len(rows)):
        alone = rule(NO_IDS, scores[i : i + 1], **options)[0]
        torch.testing.assert_close(got[i], alone, rtol=0, atol=0, equal_nan=True)
    if name not in ("temperature", "renormalize", "remove_invalid"):
        kept = got > -INF
        assert torch.equal(got[kept], scores[kept]), "a score that stays is not changed"
        some = (scores > -INF).any(-1)
        assert torch.equal(kept.any(-1), some)
        best = scores == scores.amax(-1, keepdim=True)
        if name != "typical_p":  # which may prefer less likely tokens
            assert (kept & best).any(-1)[some].all()


def test_top_p_after_top_k_is_the_same_as_of_all():
    """The way through the few tokens that are left gives bit for bit what sorting them all would."""
    torch.manual_seed(0)
    scores = torch.randn(3, 5000) * 4
    scores[0, 7:] = -INF
    few = top_k(NO_IDS, scores, k=40)
    for p in (0.1, 0.5, 0.9, 0.999):
        rising, tokens = few.sort(stable=True)
        ruled_out = rising.softmax(-1).cumsum(-1) <= 1 - p
        ruled_out[:, -1:] = False
        want = few.masked_fill(ruled_out.scatter(1, tokens, ruled_out), -INF)
        assert torch.equal(top_p(NO_IDS, few, p=p), want)


# ---- By the text


def test_repetition_penalty_counts_each_token_once():
    scores = torch.tensor([[2.0, -2.0, 3.0, 0.0], [2.0, -2.0, 3.0, 1.0]])
    got = repetition_penalty(torch.tensor([[0, 0, 1], [-1, 3, 99]]), scores, penalty=2.0)
    assert got.tolist() == [[1.0, -4.0, 3.0, 0.0], [2.0, -2.0, 3.0, 0.5]]
    text = torch.tensor([[2, -1]])  # of one prompt with two rows
    got = repetition_penalty(torch.tensor([[0], [1]]), scores, penalty=0.5, text=text)
    assert got.tolist() == [[2.0, -2.0, 6.0, 0.0], [2.0, -2.0, 6.0, 1.0]]


def test_no_ngram_stands_twice():
    ids = torch.tensor([[1, 2, 3, 1, 2], [4, 4, 4, 4, 4]])
    scores = torch.zeros(2, 5)
    assert left(no_repeat_ngram(ids, scores, size=3)) == [[0, 1, 2, 4], [0, 1, 2, 3]]
    assert left(no_repeat_ngram(ids, scores, size=1)) == [[0, 4], [0, 1, 2, 3]]
    assert left(no_repeat_ngram(ids, scores, size=6)) == [[0, 1, 2, 3, 4]] * 2
    # an n-gram of padding is none
    assert left(no_repeat_ngram(torch.tensor([[-1, -1, 3, 2, 3]]), scores[:1], size=1)) == [0, 1, 4]
    text = torch.tensor([[0, 1, 2, 4], [3, 4, 4, -1]])
    assert left(no_repeat_ngram(ids, scores, size=2, text=text)) == [[0, 1, 2, 3], [0, 1, 2, 3]]
    assert left(no_repeat_ngram(ids[:, :1], scores, size=3, text=text)) == [[0, 1, 2, 3, 4]] * 2


@settings(max_examples=60, deadline=None)
@given(ids=st.lists(st.integers(0, 3), min_size=1, max_size=12), size=st.integers(1, 4))
def test_ngrams_by_brute_force(ids, size):
    got = left(no_repeat_ngram(torch.tensor([ids]), torch.zeros(1, 4), size=size))

    def ngrams(tokens):
        return [tuple(tokens[i : i + size]) for i in range(len(tokens) - size + 1)]

    assert got == [token for token in range(4) if not set(ngrams([*ids, token])[-1:]) & set(ngrams(ids))]


def test_sequence_bias_waits_for_the_tokens_before():
    rule = sequence_bias({(3,): 1.0, (1, 2): 5.0, (0, 1, 2): 7.0, (4, 2): 9.0})
    got = rule(torch.tensor([[4, 0, 1], [9, 9, 4]]), torch.zeros(2, 5))
    assert got.tolist() == [[0.0, 0.0, 12.0, 1.0, 0.0], [0.0, 0.0, 9.0, 1.0, 0.0]]
    assert rule(torch.tensor([[1]]), torch.zeros(1, 5)).tolist() == [[0.0, 0.0, 5.0, 1.0, 0.0]]
    with pytest.raises(ValueError, match="Token 3 has a bias, but the vocabulary ends with 2"):
        sequence_bias([[[3], 1.0]])(NO_IDS, torch.zeros(1, 3))


def test_prefix_allowed():
    asked = []

    def allowed(prompt, ids):
        asked.append((prompt, ids.tolist()))
        return [prompt, 2]

    ids = torch.tensor([[0], [1], [2], [3]])
    scores = torch.tensor([[1.0, 2.0, 3.0]] * 2 + [[1.0, -INF, -INF]] * 2)
    got = prefix_allowed(ids, scores, allowed=allowed, num_beams=2)
    assert asked == [(0, [0]), (0, [1]), (1, [2]), (1, [3])]
    # where nothing that is allowed is possible, it becomes so
    assert got.tolist() == [[1.0, -INF, 3.0]] * 2 + [[-INF, 0.0, 0.0]] * 2
    with pytest.raises(ValueError, match=r"names no token for prompt 0: \[0\]"):
        prefix_allowed(ids, scores, allowed=lambda prompt, ids: [])


def test_diversity_counts_what_earlier_groups_took():
    scores = torch.zeros(4, 3)  # two prompts with a group of two beams each
    got = diversity(NO_IDS, scores, penalty=0.5, taken=torch.tensor([[0, 0], [1, 2]]))
    assert got.tolist() == [[-1.0, 0.0, 0.0]] * 2 + [[0.0, -0.5, -0.5]] * 2
    assert torch.equal(diversity(NO_IDS, scores, penalty=0.5, taken=torch.zeros(2, 0, dtype=torch.long)), scores)


@pytest.mark.parametrize("scheme", ["lefthash", "selfhash"])
def test_a_watermark_is_found_by_its_key(scheme):
    scores = torch.zeros(2, 400)
    scores[0, :40] = scores[1, 40:80] = 1.0
    ids = torch.tensor([[5, 6], [5, 7]])
    options = {"seeding_scheme": scheme, "greenlist_ratio": 0.25, "bias": 3.0}
    got = watermark(ids, scores, **options)
    green = got == scores + 3
    assert torch.equal(got, torch.where(green, scores + 3, scores))
    if scheme == "lefthash":
        assert green.sum(-1).tolist() == [100, 100]
    else:
        assert 0 < green.sum() < 40 and not green[0, 40:].any()
    assert torch.equal(watermark(ids, scores, **options), got), "the same each time"
    assert torch.equal(watermark(ids[1:], scores[1:], **options), got[1:]), "whatever stands beside"
    assert not torch.equal(watermark(ids, scores, **options, hashing_key=3), got)
    assert not torch.equal(watermark(ids + 1, scores, **options), got) or scheme == "selfhash"
    assert torch.equal(watermark(ids, scores, **options, context_width=3), scores)


# ---- By the length


def test_lengths():
    scores, tokens = torch.zeros(1, 4), torch.tensor([1, 3, 50256, -1])  # some are not in the vocabulary
    for T, want in ((2, [0, 2]), (3, [0, 1, 2, 3])):
        assert left(suppress(torch.zeros(1, T), scores, tokens=tokens, lengths=range(3))) == want
    assert left(suppress(torch.zeros(1, 9), scores, tokens=tokens)) == [0, 2]
    forced = force(torch.zeros(1, 3), torch.full((1, 4), 5.0), tokens=tokens, length=3)
    assert forced.tolist() == [[-INF, 0.0, -INF, 0.0]]
    assert force(torch.zeros(1, 2), scores, tokens=tokens, length=3) is scores


def test_the_end_becomes_more_likely_but_not_infinitely():
    """The reference overflows: its scores become infinite, and no token can be drawn."""
    scores, eos = torch.tensor([[1.0, -2.0, -INF]]), torch.tensor([1, 2])
    options = {"start": 4, "factor": 1.5, "eos": eos}
    assert torch.equal(exponential_decay_length(torch.zeros(1, 4), scores, **options), scores)
    got = exponential_decay_length(torch.zeros(1, 6), scores, **options)
    assert got.tolist() == [[1.0, -2.0 + 2.0 * (1.5**2 - 1), -INF]]
    for T in (300, 3000):
        got = exponential_decay_length(torch.zeros(1, T), scores, **options)
        assert got[0, 1] > 1e38 and got.softmax(-1).tolist() == [[0.0, 1.0, 0.0]]


def test_remove_invalid():
    got = remove_invalid(NO_IDS, torch.tensor([[math.nan, INF, -INF, 2.0]]))
    largest = torch.finfo(torch.float32).max
    assert got.tolist() == [[0.0, largest, -largest, 2.0]]


# ---- From a config


def rules_of(given=None, **others):
    config = GenerationConfig(**given or {}).resolved()
    return make_rules(config, **{"prompt_length": 2, "eos": [1]} | others)


def names(rules):
    return [getattr(getattr(rule, "func", rule), "__name__", rule) for rule in rules]


def test_only_what_was_asked_for():
    assert rules_of() == []
    assert names(rules_of({"do_sample": True})) == ["top_k"]
    assert rules_of({"temperature": 0.5, "top_p": 0.9, "top_k": 5}) == [], "not without sampling"
    given = {"do_sample": True, "temperature": 0.5, "top_p": 0.9, "repetition_penalty": 1.1, "renormalize_logits": True}
    want = ["repetition_penalty", len, "temperature", "top_k", "top_p", "renormalize"]
    assert names(rules_of(given, custom=[len])) == [name if isinstance(name, str) else "len" for name in want]


def test_beams_keep_one_token_more_than_there_are_ends():
    for eos, beams, keep in (([1], 1, 1), ([1], 2, 2), ([1, 2], 2, 3), ([], 2, 2)):
        (rule,) = rules_of({"do_sample": True, "num_beams": beams}, eos=eos)
        assert rule.keywords == {"k": 50, "keep": keep}


@pytest.mark.parametrize(
    "given",
    [
        {"repetition_penalty": 2.0},
        {"no_repeat_ngram_size": 1},
        {"no_repeat_ngram_size": 2},
        {"encoder_repetition_penalty": 2.0},
        {"encoder_no_repeat_ngram_size": 1},
        {"sequence_bias": [[[0, 3], 2.0]]},
        {"bad_words_ids": [[0, 3]]},
    ],
    ids=str,
)
def test_left_padding_changes_nothing(given):
    """In the reference padding counts as text for all of these but the repetition penalty."""
    scores, pad = torch.randn(2, 6, generator=torch.Generator().manual_seed(0)), 0
    ids = torch.tensor([[pad, pad, 3, 4], [0, 3, 0, 4]])
    mask = torch.tensor([[0, 0, 1, 1], [1, 1, 1, 1]])
    options = {"prompt_length": 4, "prompt_mask": mask, "encoder_ids": ids, "encoder_mask": mask}
    (rule,) = rules_of(given, **options)
    for new in ([], [0], [0, 4]):
        text = torch.cat([ids, torch.tensor([new, new], dtype=torch.long)], 1)
        (alone,) = rules_of(given, prompt_length=2, encoder_ids=ids[:1, 2:])
        torch.testing.assert_close(rule(text, scores)[0], alone(text[:1, 2:], scores[:1])[0], rtol=0, atol=0)
        both = rule(text.repeat_interleave(2, 0), scores.repeat_interleave(2, 0))  # as with beams
        torch.testing.assert_close(both[::2], rule(text, scores), rtol=0, atol=0)


def test_the_end_of_the_text_is_no_bad_word():
    """The reference fails when it is the only one."""
    assert rules_of({"bad_words_ids": [[1]]}) == []
    (rule,) = rules_of({"bad_words_ids": [[1], [2]]})
    assert left(rule(NO_IDS, torch.zeros(1, 4))) == [0, 1, 3]


def test_new_tokens_count_from_the_prompt():
    (rule,) = rules_of({"min_new_tokens": 3, "min_length": 9}, prompt_length=4)
    lengths = [T for T in range(12) if left(rule(torch.zeros(1, T), torch.zeros(1, 2))) == [0]]
    assert lengths == list(range(7)), "min_new_tokens counts, where both are given"
    (rule,) = rules_of({"forced_eos_token_id": 1, "max_new_tokens": 5}, prompt_length=4)
    assert left(rule(torch.zeros(1, 8), torch.zeros(1, 3))) == [1]
    for prompt_length, forced, at in ((1, None, 1), (1, 2, 2), (3, 2, 3)):
        given = {"begin_suppress_tokens": [0], "forced_bos_token_id": forced}
        rule = rules_of(given, prompt_length=prompt_length)[-1]
        assert [T for T in range(6) if left(rule(torch.zeros(1, T), torch.zeros(1, 3))) == [1, 2]] == [at]


def test_the_encoder_rules_need_its_text():
    with pytest.raises(ValueError, match="need input_ids; none were given"):
        rules_of({"encoder_no_repeat_ngram_size": 2})


# ---- Users' own


def test_users_classes():
    class Double(LogitsProcessor):
        def __call__(self, input_ids, scores):
            return scores * 2

    class Long(StoppingCriteria):
        def __call__(self, input_ids, scores, **kwargs):
            return input_ids[:, -1] == 7

    ids = torch.tensor([[1, 7], [7, 1]])
    rules = LogitsProcessorList([Double(), lambda ids, scores: scores + 1])
    assert rules(ids, torch.ones(2, 1)).tolist() == [[3.0], [3.0]]
    assert StoppingCriteriaList([Long(), lambda ids, scores: False])(ids, None).tolist() == [True, False]
    assert StoppingCriteriaList([lambda ids, scores: True])(ids, None).tolist() == [True, True]
    assert StoppingCriteriaList()(ids, None).tolist() == [False, False]
    assert names(rules_of(custom=rules)) == [rules[0], "<lambda>"]
