"""The sentiment model that ships inside the package."""

import csv
import time
from pathlib import Path

import pytest
import torch

from plainformers import AutoModelForSequenceClassification, AutoTokenizer, pipeline

SHIPPED = Path(__file__).parents[1] / "src" / "plainformers" / "builtin" / "sentiment"
NAME = "plainformers/sentiment-english"


@pytest.fixture(scope="module")
def classifier():
    return pipeline("sentiment-analysis")


def test_two_lines(classifier):
    assert classifier("I love this.")[0]["label"] == "POSITIVE"
    answers = classifier(["A wonderful film, full of life.", "Dull, slow and far too long."])
    assert [answer["label"] for answer in answers] == ["POSITIVE", "NEGATIVE"]
    assert all(answer["score"] > 0.9 for answer in answers)


def test_accuracy_on_sst2(classifier):
    """872 sentences of GLUE's dev set, in the default call."""
    with open(Path(__file__).parent / "data" / "sst2" / "glue_dev.tsv", encoding="utf-8") as file:
        rows = list(csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE))
    answers = classifier([row["sentence"] for row in rows])
    right = sum(
        (answer["label"] == "POSITIVE") == (row["label"] == "1") for answer, row in zip(answers, rows, strict=True)
    )
    assert len(rows) == 872
    assert right / len(rows) >= 0.90


def test_it_is_small_and_loads_quickly(classifier):
    size = sum(path.stat().st_size for path in SHIPPED.iterdir())
    assert size < 25e6
    start = time.perf_counter()
    AutoModelForSequenceClassification.from_pretrained(NAME)
    assert time.perf_counter() - start < 5  # well under a second on a quiet machine; this is to catch a blunder


def test_it_says_what_it_is(classifier):
    card = (SHIPPED / "README.md").read_text(encoding="utf-8")
    for word in ("license: apache-2.0", "SST-2", "MiniLM", "accuracy", "Limits"):
        assert word in card
    assert classifier.model.config.id2label == {0: "NEGATIVE", 1: "POSITIVE"}


def test_a_text_of_a_megabyte_is_cut(classifier):
    assert classifier("wonderful " * 100_000)[0]["label"] == "POSITIVE"


def test_saving_writes_float32(classifier, tmp_path):
    classifier.save_pretrained(tmp_path)
    again = pipeline("sentiment-analysis", model=str(tmp_path))
    assert again.model.dtype == torch.float32
    for name, value in again.model.state_dict().items():
        assert torch.equal(value, classifier.model.state_dict()[name]), name
    assert again("Not bad at all") == classifier("Not bad at all")


def test_by_hand_in_three_steps(classifier):
    tokenizer, model = AutoTokenizer.from_pretrained(NAME), AutoModelForSequenceClassification.from_pretrained(NAME)
    with torch.no_grad():
        scores = model(**tokenizer("Worth every minute.", return_tensors="pt")).logits.softmax(-1)[0]
    answer = classifier("Worth every minute.")[0]
    assert answer["label"] == model.config.id2label[int(scores.argmax())]
    assert answer["score"] == pytest.approx(float(scores.max()), abs=1e-6)
