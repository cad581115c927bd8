"""generate: every way of choosing the next token, and what holds for all of them."""

import copy
import gc
import json
from types import SimpleNamespace

import pytest
import torch
from generation_cases import CASES_4, CASES_5, CONFIGS, DATA, EOS, generate, make_model, make_prompts, make_small
from zoo import draw_weight

import plainformers
from plainformers.constraints import Progress
from plainformers.generation import stream
from plainformers.speculative import taken

GOLDEN = {version: json.loads((DATA / f"generation-{version}.json").read_text()) for version in "45"}
CASES = [("5", name, case) for name in CONFIGS for case in CASES_5]
CASES += [("4", name, case) for name in CONFIGS for case in CASES_4]


@pytest.fixture(scope="module")
def models():
    return {name: make_model(name, plainformers) for name in CONFIGS}


@pytest.fixture(scope="module")
def small():
    return {name: make_small(name, plainformers) for name in CONFIGS}


def ended(rows: list[list[int]]) -> list[list[int]]:
    """New tokens with the first of EOS at the end of a text, which version 4 writes whichever of them ended it."""
    return [row[:6] + [EOS[0] if token in EOS else token for token in row[6:]] for row in rows]


@pytest.mark.parametrize(("version", "name", "case"), CASES, ids=lambda x: x)
def test_ids_and_scores_equal_the_reference(version, name, case, models, small):
    out = generate(models[name], (CASES_4 if version == "4" else CASES_5)[case], small[name])
    ids, *scores = GOLDEN[version][f"{name}, {case}"]
    got = out.sequences.tolist()
    if version == "4":
        got, ids = ended(got), ended(ids)
    if case == "phrases":  # texts that do not hold all of them stand behind those that do, however likely they are
        assert got != ids and [phrases(row) >= PHRASES for row in got] == [True, False, False, False] * 3
        order = [ids.index(row) for row in got]
        ids, scores = got, [[scores[0][i] for i in order]]
    assert got == ids
    for want in scores:
        torch.testing.assert_close(out.sequences_scores, torch.tensor(want), atol=1e-5, rtol=1e-5)


PHRASES = set(map(tuple, CASES_4["phrases"]["force_words_ids"]))


def phrases(row: list[int]) -> set[tuple[int, ...]]:
    """All sequences of two and three new tokens."""
    return {tuple(row[i : i + n]) for n in (2, 3) for i in range(6, len(row) + 1 - n)}


# ---- What holds for all ways

WAYS = {
    "greedy": {"max_new_tokens": 8},
    "beams": {"num_beams": 3, "max_new_tokens": 8},
    "groups": {"num_beams": 4, "num_beam_groups": 2, "diversity_penalty": 0.5, "max_new_tokens": 8},
    "constraint": {"num_beams": 3, "force_words_ids": [[7, 8]], "max_new_tokens": 8},
    "contrastive": {"penalty_alpha": 0.6, "top_k": 4, "max_new_tokens": 8},
    "layers": {"dola_layers": "high", "max_new_tokens": 8},
}
DRAFTED = {
    "look up": {"prompt_lookup_num_tokens": 4, "max_matching_ngram_size": 3},
    "early exit": {"assistant_early_exit": 2, "num_assistant_tokens": 3},
    "early exit, never sure": {"assistant_early_exit": 1, "assistant_confidence_threshold": 1.0},
    "early exit, many": {"assistant_early_exit": 3, "num_assistant_tokens": 60, "assistant_confidence_threshold": 0.0},
    "less": {"assistant_early_exit": 1, "num_assistant_tokens_schedule": "heuristic_transient"},
}


@pytest.fixture(params=list(CONFIGS))
def model(request, models):
    return models[request.param]


def new_tokens(model, prompts, **options) -> list[list[int]]:
    return model.generate(**prompts, **options)[:, prompts["input_ids"].shape[1] :].tolist()


def padded_right(prompts: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The prompts with their padding behind them."""
    behind = prompts["attention_mask"].argmax(1)
    return {
        name: torch.stack([row.roll(-int(n)) for row, n in zip(x, behind, strict=True)]) for name, x in prompts.items()
    }


def alone(prompts: dict[str, torch.Tensor]) -> list[dict[str, torch.Tensor]]:
    """Each prompt without its padding."""
    masks = prompts["attention_mask"].bool()
    return [{"input_ids": row[mask][None]} for row, mask in zip(prompts["input_ids"], masks, strict=True)]


def cut(rows: list[list[int]], pad: int = 0) -> list[list[int]]:
    """Without padding at the end."""
    return [
        row[: len(row) - next((i for i, token in enumerate(reversed(row)) if token != pad), len(row))] for row in rows
    ]


@pytest.mark.parametrize("way", WAYS)
def test_a_batch_padded_on_either_side_equals_single_prompts(way, model):
    options = WAYS[way] | {"eos_token_id": EOS, "pad_token_id": 0}
    prompts = make_prompts()
    single = [new_tokens(model, one, **options)[0] for one in alone(prompts)]
    assert cut(new_tokens(model, prompts, **options)) == single
    right = padded_right(prompts)
    assert right["attention_mask"][1].tolist() == [1, 1, 1, 1, 0, 0]
    out = model.generate(**right, **options)
    assert torch.equal(out[:, :6], right["input_ids"]) and cut(out[:, 6:].tolist()) == single


@pytest.mark.parametrize("way", DRAFTED)
def test_what_is_drafted_is_checked(way, model):
    """Greedy ids, whoever drafts; with rules, with ends, with padding, with any cache and without one."""
    prompts, how = make_prompts(), DRAFTED[way]
    prompt, padded = alone(prompts)[1], {name: x[1:2] for name, x in prompts.items()}
    for rules in ({"no_repeat_ngram_size": 2, "repetition_penalty": 1.3}, {"eos_token_id": EOS}):
        want = new_tokens(model, prompt, max_new_tokens=16, **rules)
        assert new_tokens(model, prompt, max_new_tokens=16, **rules, **how) == want
    want = new_tokens(model, prompt, max_new_tokens=9)
    assert new_tokens(model, padded, max_new_tokens=9, **how) == want
    for cache in ({"use_cache": False}, {"cache_implementation": "static"}):
        assert new_tokens(model, prompt, max_new_tokens=9, **cache, **how) == want


@pytest.mark.parametrize("way", [*DRAFTED, "contrastive", "beams"])
def test_layers_with_a_window_forget_what_was_not_taken(way):
    """Over a text much longer than the window and what is spared; without a cache nothing is forgotten."""
    torch.manual_seed(0)
    config = {name: value for name, value in CONFIGS["llama"][2].items() if name != "max_position_embeddings"}
    more = {"sliding_window": 5, "max_position_embeddings": 200, "eos_token_id": None}
    model = plainformers.MistralForCausalLM(plainformers.MistralConfig(**config | more)).eval()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            parameter.copy_(draw_weight(name, tuple(parameter.shape)))
    prompt, options = make_prompts(batch=False), (WAYS | DRAFTED)[way] | {"max_new_tokens": 75}
    want = new_tokens(model, prompt, max_new_tokens=75) if way in DRAFTED else None
    assert new_tokens(model, prompt, **options) == (want or new_tokens(model, prompt, use_cache=False, **options))


def test_an_assistant_drafts(models, small, monkeypatch):
    model, assistant = models["llama"], small["llama"]
    prompt = make_prompts(batch=False)
    counted = count_rows(model, monkeypatch)
    want = new_tokens(model, prompt, max_new_tokens=30)
    plain = len(counted)
    counted.clear()
    assert new_tokens(model, prompt, max_new_tokens=30, assistant_model=assistant) == want
    assert len(counted) < plain  # some drafts were right
    other = make_model("llama", plainformers, vocab_size=80)  # that of the same tokenizer, padded
    assert new_tokens(model, prompt, max_new_tokens=12, assistant_model=other) == [want[0][:12]]
    assistant.generation_config.num_assistant_tokens_schedule = "heuristic"
    assistant.generation_config.num_assistant_tokens = 2
    assert new_tokens(model, prompt, max_new_tokens=30, assistant_model=assistant) == want
    assert assistant.generation_config.num_assistant_tokens != 2
    assistant.generation_config.num_assistant_tokens = assistant.generation_config.num_assistant_tokens_schedule = None
    with pytest.raises(ValueError, match="one prompt"):
        model.generate(**make_prompts(), assistant_model=assistant)


def count_rows(model, monkeypatch) -> list[int]:
    """How many rows the model is given, call by call."""
    counted, forward = [], type(model).forward

    def spy(self, *arguments, **keywords):
        if self is model:
            counted.append(len(keywords["input_ids"]))
        return forward(self, *arguments, **keywords)

    monkeypatch.setattr(type(model), "forward", spy)
    return counted


def chi_squared(counts: torch.Tensor, odds: torch.Tensor) -> float:
    """How far counts are from what odds let expect, over the degrees of freedom: about 1 when these are the odds."""
    expected = odds * counts.sum()
    return float(((counts - expected) ** 2 / expected).sum() / (len(odds) - 1))


@pytest.mark.parametrize("drafted", [True, False])
def test_taken_tokens_follow_the_model(drafted):
    """Two drafted tokens and one more; the odds of the first two that are taken, whatever was drafted by what odds."""
    torch.manual_seed(0)
    V, config = 4, SimpleNamespace(do_sample=True, assistant_ensemble_weight=None)
    scores, guesses = torch.randn(3, V), torch.randn(2, V) * 2
    counts, drafts = torch.zeros(V * V), torch.zeros(V)
    for _ in range(4000):
        tokens = torch.multinomial(guesses.softmax(-1), 1)[:, 0]
        drafts[tokens[0]] += 1
        new = taken(tokens, scores, guesses if drafted else None, config)
        # what was not taken would be drawn in the next turn
        second = new[1] if len(new) > 1 else torch.multinomial(scores[1].softmax(-1), 1)[0]
        counts[new[0] * V + second] += 1
    first, second = scores[:2].softmax(-1)
    assert chi_squared(counts, (first[:, None] * second).view(-1)) < 2.2 and chi_squared(drafts, first) > 50


@pytest.mark.parametrize("how", ["assistant", "look up"])
def test_drafted_texts_are_drawn_from_the_model(how):
    """The first two tokens of texts against their exact odds."""
    torch.manual_seed(0)
    tiny = {"vocab_size": 3, "num_hidden_layers": 1, "pad_token_id": None, "bos_token_id": None, "eos_token_id": None}
    model, small = (make_model("llama", plainformers, **tiny | {"num_attention_heads": heads}) for heads in (4, 2))
    with torch.no_grad():
        for parameter in (model.lm_head.weight, small.lm_head.weight):
            parameter.copy_(torch.randn_like(parameter))
    ids = torch.tensor([[1, 2, 0, 1, 2]])
    with torch.no_grad():
        first, guess = (one(ids).logits[0, -1].softmax(-1) for one in (model, small))
        after = torch.cat((ids.expand(3, -1), torch.arange(3)[:, None]), 1)
        odds = (first[:, None] * model(after).logits[:, -1].softmax(-1)).view(-1)
    assert (first - guess).abs().sum() > 0.5
    options = {"assistant": {"assistant_model": small, "assistant_confidence_threshold": 0.0}}
    options["look up"] = {"prompt_lookup_num_tokens": 3}
    counts = torch.zeros(9)
    for _ in range(400):
        one, two = new_tokens(model, {"input_ids": ids}, max_new_tokens=3, do_sample=True, top_k=0, **options[how])[0][
            :2
        ]
        counts[one * 3 + two] += 1
    assert chi_squared(counts, odds) < 2.5


# ---- The loop


def test_finished_rows_are_not_computed(model, monkeypatch):
    """The end of each text is made the token that it has at that place."""
    prompts = make_prompts()
    plain = new_tokens(model, prompts, max_new_tokens=8)
    ends = [plain[0][1], plain[2][4]]
    want = [row[: next((i + 1 for i, token in enumerate(row) if token in ends), 8)] for row in plain]
    lengths = sorted(map(len, want))
    assert lengths[0] < lengths[-1]
    counted = count_rows(model, monkeypatch)
    got = new_tokens(model, prompts, max_new_tokens=8, eos_token_id=ends, pad_token_id=60)
    assert cut(got, 60) == want and len(got[0]) == lengths[-1]
    assert counted == [sum(length > i for length in lengths) for i in range(lengths[-1])]
    # what is recorded has all rows
    counted.clear()
    asked = {"return_dict_in_generate": True, "output_scores": True, "eos_token_id": ends, "pad_token_id": 60}
    out = model.generate(**prompts, max_new_tokens=8, **asked)
    assert out.sequences[:, 6:].tolist() == got and set(counted) == {3} and len(out.scores) == lengths[-1]


@pytest.mark.parametrize("way", ["beams", "groups", "constraint", "drawn"])
def test_a_prompt_is_read_once(way, model, monkeypatch):
    """For all of its beams or texts; they are the same as when each reads it."""
    drawn = {"do_sample": True, "num_return_sequences": 3, "max_new_tokens": 4}
    prompts, options = make_prompts(), (WAYS | {"drawn": drawn})[way]
    torch.manual_seed(0)
    want = model.generate(**prompts, **options, cache_implementation="static")
    counted = count_rows(model, monkeypatch)
    torch.manual_seed(0)
    assert torch.equal(model.generate(**prompts, **options), want)
    assert counted[0] == 3 and counted[1] == 3 * options.get("num_beams", 3)


class Put:
    """A streamer that keeps what it is given."""

    def __init__(self):
        self.tokens, self.ended = [], False

    def put(self, value):
        self.tokens += value.reshape(-1).tolist()

    def end(self):
        self.ended = True


SINGLE = {name: way for name, way in WAYS.items() if "num_beams" not in way} | {
    "drawn": {"do_sample": True, "max_new_tokens": 8},
    "look up": DRAFTED["look up"] | {"max_new_tokens": 8},
    "early exit": DRAFTED["early exit"] | {"max_new_tokens": 8, "do_sample": True},
}


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory):
    """A word for each token of the tiny models."""
    path = tmp_path_factory.mktemp("words") / "vocab.txt"
    path.write_text("\n".join(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *(f"w{i}" for i in range(5, 61))]) + "\n")
    return plainformers.BertTokenizer(path)


@pytest.mark.parametrize("way", SINGLE)
def test_a_streamer_gets_what_is_returned(way, model, tokenizer):
    prompt = make_prompts(batch=False)
    torch.manual_seed(0)
    want = model.generate(**prompt, **SINGLE[way])
    streamer = Put()
    torch.manual_seed(0)
    assert torch.equal(model.generate(**prompt, **SINGLE[way], streamer=streamer), want)
    assert streamer.tokens == want[0].tolist() and streamer.ended
    torch.manual_seed(0)
    pieces = list(stream(model, prompt, tokenizer=tokenizer, **SINGLE[way]))
    assert "".join(pieces) == tokenizer.decode(want[0, 6:], skip_special_tokens=True) and len(pieces) > 2


def test_a_streamer_is_ended_by_an_error(models):
    streamer = Put()
    with pytest.raises(RuntimeError, match="stop here"):
        models["gpt2"].generate(
            **make_prompts(batch=False), streamer=streamer, logits_processor=[lambda ids, scores: fail()]
        )
    assert streamer.ended


def fail():
    raise RuntimeError("stop here")


@pytest.mark.parametrize("way", ["greedy", "beams", "groups", "contrastive", "layers", "look up"])
def test_strings_criteria_and_time_end_texts(way, model, tokenizer):
    prompt, options = make_prompts(batch=False), (WAYS | DRAFTED)[way] | {"max_new_tokens": 8}
    plain = new_tokens(model, prompt, **options)[0]
    word, place = tokenizer.decode(plain[4:5]), plain.index(plain[4])
    if way in ("beams", "groups"):  # the best text is another one, when some end
        got = new_tokens(model, prompt, stop_strings=word, tokenizer=tokenizer, early_stopping=True, **options)[0]
        assert tokenizer.decode(got[:-1]).count(word) == 0 and len(got) <= 8
    else:
        for strings in (word, ["never", word]):
            got = new_tokens(model, prompt, stop_strings=strings, tokenizer=tokenizer, **options)[0]
            assert got == plain[: place + 1]
    seen = []

    def after_nine(ids, scores):
        seen.append(ids.shape[1])
        return torch.full((len(ids),), ids.shape[1] >= 9)

    assert len(new_tokens(model, prompt, stopping_criteria=[after_nine], **options)[0]) == 3 and seen[-1] == 9
    criteria = plainformers.StoppingCriteriaList([after_nine])
    assert len(new_tokens(model, prompt, stopping_criteria=criteria, **options)[0]) == 3
    assert len(new_tokens(model, prompt, max_time=0.0, **options)[0]) == 1
    with pytest.raises(ValueError, match="stop_strings need the tokenizer"):
        model.generate(**prompt, stop_strings="a")


def test_criteria_see_the_scores(model):
    seen = []

    def see(ids, scores):
        seen.append(None if scores is None else [x.shape for x in scores])
        return torch.zeros(len(ids), dtype=torch.bool)

    prompt = make_prompts()
    more = {"max_new_tokens": 3, "stopping_criteria": [see]}
    model.generate(**prompt, **more)
    assert seen == [None] * 3
    seen.clear()
    model.generate(**prompt, return_dict_in_generate=True, output_scores=True, **more)
    assert seen == [[(3, 61)] * n for n in (1, 2, 3)]


@pytest.mark.parametrize("way", [*WAYS, *DRAFTED])
def test_a_users_rule(way, model):
    """Rules out the half of the tokens that the text is too long for."""
    lengths = []

    def odd(ids, scores):
        lengths.append(ids.shape[1])
        assert scores.dtype == torch.float32 and scores.shape == (len(ids), 61)
        return scores.masked_fill(torch.arange(61) % 2 == ids.shape[1] % 2, float("-inf"))

    constraint = {"force_words_ids": [[8]]} if way == "constraint" else {}
    options = {"max_new_tokens": 6} | (WAYS | DRAFTED)[way] | constraint
    got = new_tokens(model, make_prompts(batch=False), logits_processor=[odd], **options)[0]
    assert [token % 2 for token in got] == [(6 + i + 1) % 2 for i in range(len(got))] and set(lengths) >= {6, 9}


def test_prefix_allowed_tokens(model):
    prompts = make_prompts()

    def allowed(prompt, ids):
        return [10 * prompt + 5, 10 * prompt + 6 + len(ids) % 2]

    for options, times in (({}, 1), ({"num_beams": 3, "num_return_sequences": 3}, 3), (WAYS["groups"], 1)):
        options = options | {"max_new_tokens": 6, "prefix_allowed_tokens_fn": allowed}
        for i, row in enumerate(new_tokens(model, prompts, **options)):
            for T, token in enumerate(row, 6):
                assert token in allowed(i // times, range(T))


# ---- What is fed: caches, embeddings, prompts in parts


@pytest.mark.parametrize("way", WAYS)
def test_any_cache_gives_the_same_ids(way, model):
    prompts, options = make_prompts(), WAYS[way]
    want = new_tokens(model, prompts, **options)
    assert new_tokens(model, prompts, use_cache=False, **options) == want
    assert new_tokens(model, prompts, prefill_chunk_size=2, **options) == want
    if way == "contrastive":
        with pytest.raises(ValueError, match="static cache has no room"):
            model.generate(**prompts, cache_implementation="static", **options)
        return
    assert new_tokens(model, prompts, cache_implementation="static", **options) == want


def test_a_quantized_cache_is_close(model):
    """Less than one step of 127 of the largest number of each head."""
    prompts, asked = make_prompts(), {"return_dict_in_generate": True, "output_logits": True, "max_new_tokens": 8}
    want, got = (model.generate(**prompts, **asked, cache_implementation=kind) for kind in ("dynamic", "quantized"))
    assert type(got.past_key_values).__name__ == "QuantizedCache"
    assert 0 < (want.logits[1] - got.logits[1]).abs().max() < 0.03 * want.logits[1].abs().max()


@pytest.mark.parametrize("way", ["greedy", "beams", "contrastive", "look up"])
def test_the_cache_of_a_prompt_serves_two_texts(way, model):
    prompt, options = make_prompts(batch=False), {"max_new_tokens": 6} | (WAYS | DRAFTED)[way]
    with torch.no_grad():
        cache = model(prompt["input_ids"][:, :4], use_cache=True).past_key_values
    for end in ([9, 10], [11, 12, 13]):
        ids = torch.cat((prompt["input_ids"][:, :4], torch.tensor([end])), 1)
        want = new_tokens(model, {"input_ids": ids}, **options)
        assert new_tokens(model, {"input_ids": ids}, past_key_values=copy.deepcopy(cache), **options) == want
    assert cache.get_seq_length() == 4
    out = model.generate(**prompt, return_dict_in_generate=True, **options)
    assert out.past_key_values.get_seq_length() == out.sequences.shape[1] - 1 or "num_beams" in options
    if "num_beams" not in options:  # a conversation goes on from what was written
        ids = torch.cat((out.sequences, torch.tensor([[7, 8]])), 1)
        more = new_tokens(model, {"input_ids": ids}, past_key_values=out.past_key_values, **options)
        assert more == new_tokens(model, {"input_ids": ids}, **options)


@pytest.mark.parametrize("way", [*WAYS, "look up", "early exit"])
def test_embeddings_in_place_of_ids(way, model):
    prompts, options = make_prompts(), {"max_new_tokens": 6} | (WAYS | DRAFTED)[way]
    embeds = model.get_input_embeddings()(prompts["input_ids"]).detach()
    if way in DRAFTED or way == "constraint":
        prompts, embeds = {"input_ids": prompts["input_ids"][:1]}, embeds[:1]
    mask = {name: x for name, x in prompts.items() if name == "attention_mask"}
    if way == "early exit":
        with pytest.raises(ValueError, match="drafts needs input_ids"):
            model.generate(inputs_embeds=embeds, **mask, **options)
        return
    got = model.generate(inputs_embeds=embeds, **mask, **options)
    assert got.tolist() == new_tokens(model, prompts, **options)


def test_guidance_leads_away(model):
    """Against its formula, with two whole passes for each token."""
    prompts = make_prompts(batch=False)
    negative = torch.tensor([[9, 10, 11]])
    ids, other = prompts["input_ids"], negative
    for _ in range(6):
        with torch.no_grad():
            toward, away = (model(x).logits[:, -1].log_softmax(-1) for x in (ids, other))
        token = (away + 1.8 * (toward - away)).argmax(-1, keepdim=True)
        ids, other = torch.cat((ids, token), 1), torch.cat((other, token), 1)
    options = {"guidance_scale": 1.8, "negative_prompt_ids": negative, "max_new_tokens": 6}
    plain = new_tokens(model, prompts, max_new_tokens=6)
    for way in (
        {},
        {"use_cache": False},
        DRAFTED["look up"],
        {"num_return_sequences": 2, "do_sample": True, "top_k": 1},
    ):
        got = new_tokens(model, prompts, **options, **way)
        assert got == [ids[0, 6:].tolist()] * len(got) and got != plain
    # beams change their places, and so must what they are led away from
    with_cache, without = (new_tokens(model, prompts, num_beams=3, use_cache=yes, **options) for yes in (True, False))
    assert with_cache == without


# ---- What is returned


@pytest.mark.parametrize("way", [*WAYS, "look up", "early exit"])
def test_what_is_recorded_are_the_models_outputs(way, model):
    """Logits, hidden states and attentions of each token against one pass over the whole text."""
    prompt, options = make_prompts(batch=False), {"max_new_tokens": 6} | (WAYS | DRAFTED)[way]
    names = ("logits", "scores", "attentions", "hidden_states")
    asked = {f"output_{name}": True for name in names} | {"return_dict_in_generate": True}
    out = model.generate(**prompt, **asked, **options)
    new = out.sequences.shape[1] - 6
    assert all(len(out[name]) == new for name in names)
    with torch.no_grad():
        whole = model(out.sequences, output_attentions=True, output_hidden_states=True)
    rows = out.beam_indices[0].tolist() if "num_beams" in options else [0] * new
    for i, row in enumerate(rows):
        torch.testing.assert_close(out.logits[i][row], whole.logits[0, 5 + i], atol=1e-5, rtol=1e-5)
        queries = slice(0, 6) if i == 0 else slice(5 + i, 6 + i)
        for layer in range(4):
            got, want = out.attentions[i][layer][row], whole.attentions[layer][0, :, queries, : 6 + i]
            torch.testing.assert_close(got, want, atol=1e-5, rtol=1e-5)
        for layer in range(5):
            got, want = out.hidden_states[i][layer][row], whole.hidden_states[layer][0, queries]
            torch.testing.assert_close(got, want, atol=1e-5, rtol=1e-5)
    tokens = out.sequences[0, 6:]
    if "num_beams" in options:
        found = model.compute_transition_scores(out.sequences, out.scores, out.beam_indices)
        torch.testing.assert_close(found.sum(1) / new, out.sequences_scores, atol=1e-5, rtol=1e-5)
        found = model.compute_transition_scores(out.sequences, out.logits, out.beam_indices, normalize_logits=True)
    else:
        found = model.compute_transition_scores(out.sequences, out.logits, normalize_logits=True)
    want = whole.logits[0, 5:-1].log_softmax(-1)[torch.arange(new), tokens]
    torch.testing.assert_close(found[0], want, atol=1e-5, rtol=1e-5)
    if way == "greedy":
        assert torch.equal(found, model.compute_transition_scores(out.sequences, out.scores, None, True))
    assert "logits" not in model.generate(**prompt, return_dict_in_generate=True, **options)


# ---- What is refused


WRONG = {
    "prompt": ({"input_ids": torch.empty(1, 0, dtype=torch.long)}, ValueError, "no token to go on from"),
    "no batch": ({"input_ids": torch.empty(0, 3, dtype=torch.long)}, ValueError, "no token to go on from"),
    "one dimension": ({"input_ids": torch.tensor([5, 6])}, TypeError, r"shape \[B, T\].*got \[2\]"),
    "a list": ({"input_ids": [[5, 6]]}, TypeError, r"return_tensors='pt'\) gives; got list"),
    "floats": ({"input_ids": torch.ones(1, 3)}, TypeError, r"shape \[B, T\]"),
    "padding only": ({"attention_mask": torch.zeros(1, 6, dtype=torch.long)}, ValueError, "nothing but padding"),
    "short mask": ({"attention_mask": torch.ones(1, 3, dtype=torch.long)}, ValueError, r"\[1, 6\], got \[1, 3\]"),
    "mask": ({"attention_mask": torch.ones(2, 6, dtype=torch.long)}, ValueError, r"\[1, 6\], got \[2, 6\]"),
    "nothing to write": ({"max_new_tokens": 0}, ValueError, r"max_new_tokens must be in \[1, inf\), got 0"),
    "negative": ({"max_new_tokens": -2}, ValueError, r"max_new_tokens must be in \[1, inf\), got -2"),
    "too short": ({"max_length": 6}, ValueError, "prompt has 6 tokens and max_length is 6.*Give max_new_tokens"),
    "temperature": ({"do_sample": True, "temperature": 0.0}, ValueError, "do_sample=False"),
    "misspelt": ({"temprature": 0.5}, TypeError, "no argument 'temprature'. Did you mean 'temperature'"),
    "returned": ({"num_return_sequences": 2}, ValueError, "num_return_sequences=2 needs do_sample=True, or num_beams"),
    "streamed beams": ({"num_beams": 2, "streamer": Put()}, ValueError, "follows one text.*2 beams"),
    "streamed texts": (
        {"num_return_sequences": 2, "do_sample": True, "streamer": Put()}, ValueError, "follows one text.*2 texts",
    ),
    "drafts of many": (
        {"num_return_sequences": 2, "do_sample": True, "assistant_early_exit": 1}, ValueError, "one text at a time",
    ),
    "early exit": ({"assistant_early_exit": 4}, ValueError, "must be less than the 4 layers, got 4"),
    "layers": ({"dola_layers": [1, 4]}, ValueError, r"layers from 0 to 3, got \[1, 4\]"),
    "layer": ({"dola_layers": "middle"}, ValueError, "'low', 'high' or a list of layers from 0 to 3, got 'middle'"),
    "cache": ({"cache_implementation": "paged"}, ValueError, "cache_implementation must be"),
    "weight": ({"prompt_lookup_num_tokens": 2, "assistant_ensemble_weight": 0.5}, ValueError, "prompt lookup has none"),
    "empty phrase": ({"num_beams": 2, "force_words_ids": [[]]}, ValueError, "force_words_ids must name sequences"),
    "phrase": ({"num_beams": 2, "force_words_ids": [[61]]}, ValueError, "asks for token 61; the last is 60"),
    "phrases": ({"num_beams": 2, "force_words_ids": [[[7], [7, 8]]]}, ValueError, "be the beginning of another"),
    "no constraint": ({"num_beams": 2, "constraints": ["words"]}, TypeError, "PhrasalConstraint.*got 'words'"),
}  # fmt: skip


@pytest.mark.parametrize("what", WRONG)
def test_bad_input_is_refused(what, model):
    given, error, message = WRONG[what]
    with pytest.raises(error, match=message):
        model.generate(**make_prompts(batch=False) | given)


def test_what_does_not_fit_is_refused(models, small, tokenizer):
    model, prompt = models["gpt2"], make_prompts(batch=False)
    long = torch.full((1, 60), 7)
    with pytest.raises(ValueError, match="prompt of 60 tokens and 10 new ones are more than this model's 64 positions"):
        model.generate(long, max_new_tokens=10)
    assert model.generate(long).shape == (1, 64)  # nobody said how many
    with torch.no_grad():
        cache = model(make_prompts()["input_ids"], use_cache=True).past_key_values
    with pytest.raises(ValueError, match="of another model or another batch"):
        model.generate(torch.full((1, 7), 7), past_key_values=cache)
    with pytest.raises(ValueError, match="past_key_values holds 6 tokens; give the whole prompt, with one more"):
        model.generate(**prompt, past_key_values=cache)
    with pytest.raises(ValueError, match="not for beam search"):
        model.generate(**prompt, num_beams=2, assistant_model=small["gpt2"])
    with pytest.raises(ValueError, match="no beams, one prompt"):
        next(stream(model, prompt, tokenizer=tokenizer, num_beams=2))
    without_bos = make_model("gpt2", plainformers, bos_token_id=None)
    with pytest.raises(ValueError, match="needs a prompt: input_ids, or a bos_token_id"):
        without_bos.generate()
    assert model.generate(max_new_tokens=3)[0, 0] == 1


# ---- Constraints


def test_a_users_own_constraint(models):
    """An even number of words 7 and 8, in pairs: whatever follows the interface is met."""

    class Pair(plainformers.Constraint):
        seqlen = 2

        def __init__(self):
            self.first = None

        def advance(self):
            return None if self.completed else [7, 8] if self.first is None else self.first

        def does_advance(self, token):
            return not self.completed and token in ([7, 8] if self.first is None else [self.first])

        def update(self, token):
            stepped = self.does_advance(token)
            self.completed = stepped and self.first is not None
            self.first = token if stepped else None
            return stepped, self.completed, not stepped

        def reset(self):
            self.first, self.completed = None, False

        def remaining(self):
            return 0 if self.completed else 2 - (self.first is not None)

    for model in models.values():
        row = new_tokens(model, make_prompts(batch=False), num_beams=4, constraints=[Pair()], max_new_tokens=8)[0]
        assert any(pair in ([7, 7], [8, 8]) for pair in map(list, zip(row, row[1:], strict=False)))


def test_phrases_with_the_same_beginning():
    """Each may be gone on with, which version 4 of the reference forgot after the first that it tried."""
    progress = Progress([plainformers.DisjunctiveConstraint([[1, 2], [1, 3]])]).after(1)
    assert progress.tokens() == [2, 3] and progress.bank == 1
    assert [progress.after(token).done for token in (2, 3, 4)] == [True, True, False]
    assert progress.after(4).tokens() == [1] and progress.after(4).bank == 0
    phrase = plainformers.PhrasalConstraint([5, 6])
    assert [phrase.advance(), phrase.update(5), phrase.remaining()] == [5, (True, False, False), 1]
    assert phrase.update(7) == (False, False, True) and phrase.advance() == 5
    assert phrase.copy(stateful=True).update(5)[0] and phrase.remaining() == 2
    two = Progress([plainformers.PhrasalConstraint([5, 6]), plainformers.PhrasalConstraint([7])])
    assert two.tokens() == [5, 7] and two.after(7, 5).tokens() == [6] and two.after(5, 6, 7).done
    assert two.after(7).bank == 2 and two.after(5).bank == 1 and not two.done


# ---- With another tokenizer


def test_an_assistant_with_another_tokenizer(models, tokenizer, tmp_path, monkeypatch):
    """It reads and writes the same words, in another order of the vocabulary, and is the same model otherwise."""
    words = [tokenizer.decode([i]) for i in range(5, 61)]
    path = tmp_path / "vocab.txt"
    path.write_text("\n".join(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *reversed(words)]) + "\n")
    other = plainformers.BertTokenizer(path)
    other.eos_token = "w30"
    model, assistant = models["llama"], make_model("llama", plainformers)
    with torch.no_grad():
        order = torch.tensor([*range(5), *reversed(range(5, 61))])
        for weight in (assistant.model.embed_tokens.weight, assistant.lm_head.weight):
            weight.copy_(weight[order])
    prompt, more = make_prompts(batch=False), {"max_new_tokens": 24, "tokenizer": tokenizer}
    want = new_tokens(model, prompt, max_new_tokens=24)
    counted = count_rows(model, monkeypatch)
    more |= {"assistant_model": assistant, "assistant_tokenizer": other, "assistant_confidence_threshold": 0.0}
    assert new_tokens(model, prompt, **more) == want and len(counted) < 24
    torch.manual_seed(0)
    assert len(new_tokens(model, prompt, do_sample=True, **more)[0]) == 24


# ---- What stays


def tensors() -> list[torch.Tensor]:
    return [one for one in gc.get_objects() if type(one) in (torch.Tensor, torch.nn.Parameter)]


@pytest.mark.parametrize("times", [200, pytest.param(1000, marks=pytest.mark.slow)])
def test_nothing_is_left_behind(models, times):
    """Tensors that live after many generations, in every way, are those from before."""

    def alive() -> int:
        gc.collect()
        return len(tensors())

    model, prompt = models["llama"], make_prompts(batch=False)
    ways = [way | {"max_new_tokens": 3} for way in (WAYS | DRAFTED).values()]
    for way in ways:
        model.generate(**prompt, **way)
    before = alive()
    for i in range(times):
        model.generate(**prompt, **ways[i % len(ways)])
    assert alive() == before


def test_a_long_text_takes_memory_for_its_keys_only(models):
    """Bytes in use at the end of every eighth turn: the cache is taken once, so no turn takes more than another."""
    taken_up, model = [], models["llama"]

    def measure(ids, scores):
        if ids.shape[1] % 8 == 0:  # to look at every object takes a while
            storages = [one.untyped_storage() for one in tensors()]
            taken_up.append(sum({one.data_ptr(): one.nbytes() for one in storages}.values()))
        return torch.zeros(len(ids), dtype=torch.bool)

    gc.collect()
    model.generate(torch.full((1, 4), 7), max_new_tokens=56, stopping_criteria=[measure])
    assert len(taken_up) == 7 and max(taken_up[1:]) - min(taken_up[1:]) < 2000
