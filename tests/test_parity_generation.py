"""Live comparison of generate, its rules and GenerationConfig with the reference library (make parity)."""

import json
import math

import pytest
import torch
from generation_cases import CONFIGS as TINY, EOS as ENDING, make_model, make_prompts, make_small

import plainformers
from plainformers import GenerationConfig, logits
from plainformers.logits import make_rules

transformers = pytest.importorskip("transformers")
pytestmark = pytest.mark.parity
V, EOS = 211, [3, 200]
theirs = pytest.importorskip("transformers.generation.logits_process")


@pytest.fixture(autouse=True)
def quiet():
    transformers.logging.set_verbosity_error()


def scores_of(kind: str, B: int = 4) -> torch.Tensor:
    """[B, V] logits: plain, with equal ones, with tokens ruled out, after top_k, very sharp, flat."""
    torch.manual_seed(len(kind))
    scores = torch.randn(B, V) * 3
    if kind == "ruled out":
        scores[torch.rand(B, V) < 0.7] = -math.inf
    if kind == "few left":
        scores = scores.masked_fill(scores < scores.topk(5).values[:, -1:], -math.inf)
    if kind == "one left":
        scores = scores.masked_fill(scores < scores.amax(-1, keepdim=True), -math.inf)
    return {"equal": scores.round(), "sharp": scores * 40, "flat": scores * 0.01}.get(kind, scores)


KINDS = ["plain", "equal", "ruled out", "few left", "one left", "sharp", "flat"]
SAMPLING = {
    "temperature": ("TemperatureLogitsWarper", "value", [0.3, 1.7], False),
    "top_k": ("TopKLogitsWarper", "k", [1, 5, V, 10 * V], True),
    "top_p": ("TopPLogitsWarper", "p", [0.0, 1e-9, 0.3, 0.9, 0.999999, 1.0], True),
    "min_p": ("MinPLogitsWarper", "p", [0.0, 0.05, 1.0], True),
    "top_h": ("TopHLogitsWarper", "h", [0.01, 0.4, 1.0], False),
    "typical_p": ("TypicalLogitsWarper", "p", [0.01, 0.5, 0.95, 0.9999999], True),
    "epsilon_cutoff": ("EpsilonLogitsWarper", "epsilon", [1e-4, 0.02, 0.9], True),
    "eta_cutoff": ("EtaLogitsWarper", "epsilon", [1e-4, 0.02, 0.9], True),
}


@pytest.mark.parametrize("keep", [1, 3, 2 * V])
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("rule", SAMPLING)
def test_a_rule_for_sampling(rule, kind, keep):
    """Bit for bit. Which of equal scores the reference keeps is chance, since its sort is not stable."""
    name, keyword, values, keeps = SAMPLING[rule]
    scores = scores_of(kind)
    for value in values:
        got = getattr(logits, rule)(None, scores, **{keyword: value}, **({"keep": keep} if keeps else {}))
        want = getattr(theirs, name)(value, **({"min_tokens_to_keep": keep} if keeps else {}))(None, scores)
        if kind == "equal":
            got, want = got.sort().values, want.sort().values
        assert torch.equal(got, want), value


def text(B: int, T: int) -> torch.Tensor:
    return torch.randint(0, 6, (B, T), generator=torch.Generator().manual_seed(T)) * 40


@pytest.mark.parametrize("T", [1, 2, 3, 30])
@pytest.mark.parametrize("kind", KINDS)
def test_a_rule_about_the_text(kind, T):
    ids, scores, encoder = text(4, T), scores_of(kind), text(2, 9)
    for penalty in (0.7, 1.3):
        want = theirs.RepetitionPenaltyLogitsProcessor(penalty)(ids, scores)
        assert torch.equal(logits.repetition_penalty(ids, scores, penalty=penalty), want)
        padding = torch.tensor([0, T - 1, 1, T // 2])
        want = theirs.RepetitionPenaltyLogitsProcessor(penalty, prompt_ignore_length=padding)(ids, scores)
        hidden = ids.masked_fill(torch.arange(T) < padding[:, None], -1)
        assert torch.equal(logits.repetition_penalty(hidden, scores, penalty=penalty), want)
        want = theirs.EncoderRepetitionPenaltyLogitsProcessor(penalty, encoder)(ids, scores)
        assert torch.equal(logits.repetition_penalty(ids, scores, penalty=1 / penalty, text=encoder), want)
    for size in (1, 2, 3, 4):
        want = theirs.NoRepeatNGramLogitsProcessor(size)(ids, scores)
        assert torch.equal(logits.no_repeat_ngram(ids, scores, size=size), want)
        want = theirs.EncoderNoRepeatNGramLogitsProcessor(size, encoder)(ids, scores)
        assert torch.equal(logits.no_repeat_ngram(ids, scores, size=size, text=encoder), want)
    last = ids[0].tolist()
    biases = {
        (7,): 1.5,
        (9,): -0.3,
        (*last[-2:], 7): 0.1,
        (last[-1], 7): 0.7,
        (1, 2, 3): 4.0,
        (*last[-1:], 9): -math.inf,
    }
    want = theirs.SequenceBiasLogitsProcessor(biases)(ids, scores)
    assert torch.equal(logits.sequence_bias(biases)(ids, scores), want)
    assert torch.equal(logits.sequence_bias([[list(s), b] for s, b in biases.items()])(ids, scores), want)
    words = [list(sequence) for sequence in biases]
    want = theirs.NoBadWordsLogitsProcessor(words, EOS)(ids, scores)
    assert torch.equal(logits.sequence_bias({tuple(w): -math.inf for w in words})(ids, scores), want)


def allowed(prompt: int, row: torch.Tensor) -> list[int]:
    return [prompt, 5, int(row[-1])]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("num_beams", [1, 2])
def test_prefix_allowed(kind, num_beams):
    ids, scores = text(4, 5), scores_of(kind)
    want = theirs.PrefixConstrainedLogitsProcessor(allowed, num_beams)(ids, scores)
    assert torch.equal(logits.prefix_allowed(ids, scores, allowed=allowed, num_beams=num_beams), want)


@pytest.mark.parametrize("scheme", ["lefthash", "selfhash"])
@pytest.mark.parametrize("width", [1, 3, 6])
def test_watermark(scheme, width):
    ids, scores = text(4, 5), scores_of("plain")
    want = theirs.WatermarkLogitsProcessor(V, "cpu", seeding_scheme=scheme, context_width=width)(ids, scores)
    assert torch.equal(logits.watermark(ids, scores, seeding_scheme=scheme, context_width=width), want)


@pytest.mark.parametrize("T", [1, 2, 3, 7, 8, 9, 40])
@pytest.mark.parametrize("kind", KINDS)
def test_a_rule_about_the_length(kind, T):
    ids, scores, eos = text(4, T), scores_of(kind), torch.tensor(EOS)
    for got, want in [
        (logits.suppress(ids, scores, tokens=eos, lengths=range(8)), theirs.MinLengthLogitsProcessor(8, EOS)),
        (
            logits.suppress(ids, scores, tokens=eos, lengths=range(8)),
            theirs.MinNewTokensLengthLogitsProcessor(2, 6, EOS),
        ),
        (logits.suppress(ids, scores, tokens=eos), theirs.SuppressTokensLogitsProcessor(EOS)),
        (
            logits.suppress(ids, scores, tokens=eos, lengths=range(2, 3)),
            theirs.SuppressTokensAtBeginLogitsProcessor(EOS, 2),
        ),
        (logits.force(ids, scores, tokens=torch.tensor(9), length=1), theirs.ForcedBOSTokenLogitsProcessor(9)),
        (logits.force(ids, scores, tokens=eos, length=8), theirs.ForcedEOSTokenLogitsProcessor(9, EOS)),
        (
            logits.exponential_decay_length(ids, scores, start=7, factor=1.1, eos=eos),
            theirs.ExponentialDecayLengthPenalty((5, 1.1), EOS, 2),
        ),
        (logits.remove_invalid(ids, scores), theirs.InfNanRemoveLogitsProcessor()),
        (logits.renormalize(ids, scores), theirs.LogitNormalization()),
    ]:
        assert torch.equal(got, want(ids, scores)), type(want).__name__


@pytest.fixture(scope="module")
def model():
    config = transformers.GPT2Config(vocab_size=V, n_embd=8, n_layer=1, n_head=2, bos_token_id=1, eos_token_id=EOS[0])
    return transformers.GPT2LMHeadModel(config)


ALL = {
    "sequence_bias": [[[7], 1.5], [[40, 80], -2.0]],
    "encoder_repetition_penalty": 1.2,
    "repetition_penalty": 1.3,
    "no_repeat_ngram_size": 2,
    "encoder_no_repeat_ngram_size": 3,
    "bad_words_ids": [[3], [8], [40, 0]],
    "min_length": 6,
    "min_new_tokens": 4,
    "forced_bos_token_id": 11,
    "forced_eos_token_id": [3, 12],
    "remove_invalid_values": True,
    "exponential_decay_length_penalty": (2, 1.2),
    "suppress_tokens": [13, 14],
    "begin_suppress_tokens": [15, 16],
    "renormalize_logits": True,
}
DRAWN = {
    "do_sample": True,
    "temperature": 0.8,
    "top_h": 0.9,
    "top_k": 60,
    "top_p": 0.97,
    "min_p": 0.001,
    "typical_p": 0.9,
    "epsilon_cutoff": 1e-4,
    "eta_cutoff": 1e-4,
}
CONFIGS = [{name: value} for name, value in ALL.items()]
CONFIGS += [{name: value, "do_sample": True} for name, value in DRAWN.items() if name != "do_sample"]
CONFIGS += [{}, ALL, DRAWN, ALL | DRAWN, DRAWN | {"num_beams": 3}, ALL | DRAWN | {"num_beams": 2}]


@pytest.mark.parametrize("given", CONFIGS, ids=lambda given: "+".join(given)[:60] or "nothing")
@pytest.mark.parametrize("marked", [False, True])
@pytest.mark.parametrize("T", [1, 5])
def test_the_rules_of_a_config_and_their_order(model, given, marked, T):
    """The same scores after all rules at every length of the text, with left padding and a rule of the user's."""
    torch.manual_seed(T)
    ids, mask = text(4, T), torch.ones(4, T, dtype=torch.long)
    mask[1, : T - 1] = 0
    ids[mask == 0] = 201  # stands nowhere else: for most rules of the reference padding is text

    def custom(ids, scores):
        return scores * 0.9

    config = transformers.GenerationConfig(**{"num_beams": 1} | given, max_length=T + 6, pad_token_id=0)
    if config.min_new_tokens is not None:  # as generate does it
        config.min_length = T + config.min_new_tokens
    if marked:
        config.watermarking_config = transformers.WatermarkingConfig(bias=0.5)
    config._eos_token_tensor = torch.tensor(EOS)
    prefix_fn = (lambda prompt, row: list(range(3, V, 2 + prompt))) if "min_length" in given else None
    reference = model._get_logits_processor(config, T, ids, prefix_fn, [custom], "cpu", {"attention_mask": mask})
    ours = GenerationConfig(**{"top_k": 0} | given, max_length=T + 6).resolved()
    if marked:
        ours.watermarking_config = {"bias": 0.5}
    rules = make_rules(
        ours, prompt_length=T, eos=EOS, prompt_mask=mask, encoder_ids=ids, prefix_allowed_tokens_fn=prefix_fn,
        num_beams=given.get("num_beams", 1), custom=[custom],
    )  # fmt: skip
    merged = config.min_new_tokens is not None  # into the rule of min_length
    assert len(rules) == len(reference) - merged
    for _ in range(6):
        scores = logits_before = torch.randn(4, V) * 3
        for rule in rules:
            before = scores.clone()
            after = rule(ids, scores)
            assert torch.equal(scores, before), "a rule wrote into its input"
            scores = after
        want = reference(ids, logits_before)
        torch.testing.assert_close(scores, want, rtol=0, atol=0, equal_nan=True)
        ids = torch.cat([ids, torch.randint(0, 6, (4, 1)) * 40], 1)


def test_the_fields_and_their_defaults():
    theirs = transformers.GenerationConfig()
    fields = set(vars(theirs)) - {"transformers_version", "_from_model_config"}
    assert fields <= GenerationConfig.names()
    # what older versions had
    assert GenerationConfig.names() - fields == {"return_legacy_cache"}
    resolved, defaults = GenerationConfig().resolved(), theirs._get_default_generation_params()
    assert (
        defaults.pop("max_length") == 20
    )  # new tokens, if nobody says more; ours stays None, so that generate can tell
    assert resolved.max_length is None
    assert {name: getattr(resolved, name) for name in defaults} == defaults
    unstated = {name: getattr(resolved, name) for name in fields - defaults.keys()}
    assert not any(value for name, value in unstated.items() if name != "use_cache"), unstated


def test_what_one_config_saves_the_other_reads(tmp_path):
    given = ALL | DRAWN | {"eos_token_id": [2, 3], "num_beams": 2, "early_stopping": "never", "max_length": 30}
    ours = GenerationConfig(**given)
    ours.save_pretrained(tmp_path / "ours")
    theirs = transformers.GenerationConfig.from_pretrained(tmp_path / "ours")
    assert {name: getattr(theirs, name) for name in given} == given | {"exponential_decay_length_penalty": [2, 1.2]}
    theirs.save_pretrained(tmp_path / "theirs")
    again = GenerationConfig.from_pretrained(tmp_path / "theirs")
    assert {name: getattr(again, name) for name in given} == {name: getattr(theirs, name) for name in given}
    again.save_pretrained(tmp_path / "again")
    files = [json.loads((tmp_path / name / "generation_config.json").read_text()) for name in ("theirs", "again")]
    assert files[0] == files[1]


@pytest.mark.parametrize("do_sample", [None, False, True])
@pytest.mark.parametrize("num_beams", [None, 1, 2])
@pytest.mark.parametrize(
    "more",
    [
        {},
        {"penalty_alpha": 0.5, "top_k": 4},
        {"force_words_ids": [[1]]},
        {"num_beam_groups": 2, "diversity_penalty": 1.0},
        {"prompt_lookup_num_tokens": 3},
        {"dola_layers": "low"},
    ],
    ids=str,
)
def test_the_mode_of_generation(do_sample, num_beams, more):
    given = {"do_sample": do_sample, "num_beams": num_beams} | more
    try:
        ours = GenerationConfig(**given).get_generation_mode()
    except ValueError:  # what we refuse the reference would do in part
        assert more
        return
    assert transformers.GenerationConfig(**given).get_generation_mode() == ours


# ---- generate, whole


ENDS = {"eos_token_id": ENDING, "pad_token_id": 1, "max_new_tokens": 10}
DRAWN_WAYS = [
    {},
    {"temperature": 0.6},
    {"top_k": 5},
    {"top_k": 0, "top_p": 0.7},
    {"min_p": 0.05, "top_k": 0},
    {"typical_p": 0.8},
    {"epsilon_cutoff": 0.02, "eta_cutoff": 0.02},
    {"num_return_sequences": 3},
    {"renormalize_logits": True, "top_p": 0.9},
    {"repetition_penalty": 1.4, "no_repeat_ngram_size": 2},
]
GREEDY_WAYS = [
    {},
    {"min_new_tokens": 6},
    {"repetition_penalty": 1.5},
    {"no_repeat_ngram_size": 2},
    {"bad_words_ids": [[17], [44, 44], [6, 13]]},
    {"sequence_bias": [[[44], -3.0], [[17, 12], 4.0]]},
    {"suppress_tokens": [17, 6], "begin_suppress_tokens": [22, 20]},
    {"forced_eos_token_id": 9},
    {"exponential_decay_length_penalty": (3, 1.3)},
    {"encoder_repetition_penalty": 1.5},
    {"guidance_scale": 1.6},
    {"guidance_scale": 1.6, "repetition_penalty": 1.5, "sequence_bias": [[[44], -3.0]]},
    {"prefill_chunk_size": 3},
    {"use_cache": False},
]
BEAM_WAYS = [
    {"num_beams": n, "num_return_sequences": r, "length_penalty": p, "early_stopping": e, "do_sample": s}
    for n, r, p, e, s in [
        (2, 1, 1.0, False, False),
        (3, 3, 0.0, True, False),
        (5, 2, -0.7, "never", False),
        (5, 5, 1.7, "never", False),
        (8, 4, 0.3, False, False),
        (4, 4, 1.0, True, True),
        (3, 2, 0.4, False, True),
        (6, 6, -1.0, "never", True),
    ]
]
BEAM_WAYS += [
    {"num_beams": 3, "use_cache": False},
    {"num_beams": 3, "do_sample": True, "top_k": 6, "temperature": 0.8, "repetition_penalty": 1.3},
    {"num_beams": 4, "bad_words_ids": [[17], [44, 44]], "min_new_tokens": 5, "num_return_sequences": 4},
    {"num_beams": 4, "no_repeat_ngram_size": 4, "forced_eos_token_id": 9, "num_return_sequences": 2},
    {"num_beams": 4, "eos_token_id": None, "num_return_sequences": 4},
]
WHOLE = [*GREEDY_WAYS, *({"do_sample": True} | way for way in DRAWN_WAYS), *BEAM_WAYS]


@pytest.fixture(scope="module")
def pairs():
    """Our models and the reference's, with the same numbers."""
    return {name: (make_model(name, plainformers), make_model(name, transformers)) for name in TINY}


@pytest.mark.parametrize("name", TINY)
@pytest.mark.parametrize("way", WHOLE, ids=lambda way: "+".join(f"{k}={v}" for k, v in way.items())[:80] or "greedy")
def test_generate(way, name, pairs):
    """Ids, scores, logits, hidden states and attentions of a padded batch."""
    names = ("scores", "logits", "attentions", "hidden_states")
    asked = {f"output_{one}": True for one in names} | {"return_dict_in_generate": True}
    found = []
    for model in pairs[name]:
        model.set_attn_implementation("eager")
        torch.manual_seed(3)
        found.append(model.generate(**make_prompts(), **ENDS | way, **asked))
    ours, reference = found
    assert ours.sequences.tolist() == reference.sequences.tolist()
    compared = [*names, "sequences_scores", "beam_indices"] if "num_beams" in way else list(names)
    real = make_prompts()["attention_mask"].bool().repeat_interleave(len(ours.logits[0]) // 3, 0)
    for one in compared:
        got, want = ours[one], reference[one]
        if one == "beam_indices":
            assert got.tolist() == want.tolist()
            continue
        for i, (x, y) in enumerate(zip(flat(got), flat(want), strict=True)):
            if one in ("attentions", "hidden_states") and x.shape[-2] == 6:  # those of padding are nobody's
                x, y = (v.transpose(1, -2)[real] if one == "attentions" else v[real] for v in (x, y))
            torch.testing.assert_close(x, y, atol=2e-5, rtol=2e-5, msg=lambda m, one=one, i=i: f"{one} {i}: {m}")
    if "num_beams" in way or not way.get("do_sample"):
        arguments = (ours.sequences, ours.scores, ours.get("beam_indices"))
        for normalize in (False, True):
            want = pairs[name][1].compute_transition_scores(*arguments, normalize_logits=normalize)
            got = pairs[name][0].compute_transition_scores(*arguments, normalize_logits=normalize)
            torch.testing.assert_close(got, want, atol=1e-6, rtol=1e-6)


def flat(value):
    return [value] if isinstance(value, torch.Tensor) else [x for one in value for x in flat(one)]


@pytest.mark.parametrize("name", TINY)
@pytest.mark.parametrize("way", [{}, {"repetition_penalty": 1.3}, {"assistant_ensemble_weight": 0.6}], ids=str)
def test_assisted(way, name, pairs):
    """Ids and what is recorded, token by token."""
    found = []
    for model, library in zip(pairs[name], (plainformers, transformers), strict=True):
        small = make_small(name, library)
        small.generation_config.num_assistant_tokens = 4
        small.generation_config.assistant_confidence_threshold = 0.02
        model.set_attn_implementation("eager")
        more = {f"output_{one}": True for one in ("scores", "logits", "attentions", "hidden_states")}
        more |= {"return_dict_in_generate": True, "assistant_model": small, "max_new_tokens": 16}
        found.append(model.generate(**make_prompts(batch=False), **way, **more))
    ours, reference = found
    assert ours.sequences.tolist() == reference.sequences.tolist()
    for one in ("scores", "logits", "hidden_states", "attentions"):
        for x, y in zip(flat(ours[one]), flat(reference[one]), strict=True):
            torch.testing.assert_close(x, y, atol=2e-5, rtol=2e-5)
