"""generate: every way of choosing the next token, and what holds for all of them."""

import json

import pytest
import torch
from generation_cases import CASES_4, CASES_5, CONFIGS, DATA, EOS, generate, make_model

import plainformers

GOLDEN = {version: json.loads((DATA / f"generation-{version}.json").read_text()) for version in "45"}
CASES = [("5", name, case) for name in CONFIGS for case in CASES_5]
CASES += [("4", name, case) for name in CONFIGS for case in CASES_4]


@pytest.fixture(scope="module")
def models():
    return {name: make_model(name, plainformers) for name in CONFIGS}


def ended(rows: list[list[int]]) -> list[list[int]]:
    """New tokens with the first of EOS at the end of a text, which version 4 writes whichever of them ended it."""
    return [row[:6] + [EOS[0] if token in EOS else token for token in row[6:]] for row in rows]


@pytest.mark.parametrize(("version", "name", "case"), CASES, ids=lambda x: x)
def test_ids_and_scores_equal_the_reference(version, name, case, models):
    out = generate(models[name], (CASES_4 if version == "4" else CASES_5)[case])
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
