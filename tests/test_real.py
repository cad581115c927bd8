"""Real checkpoints against outputs that the reference library recorded (make real)."""

import csv
import json
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from assets import find
from scipy.stats import spearmanr

from plainformers import AlbertForMaskedLM, AutoModel, AutoModelForCausalLM, AutoTokenizer, Packed, pipeline
from plainformers.linear import Int8Product
from plainformers.sequences import mean_tokens

DATA = Path(__file__).parent / "data"
pytestmark = pytest.mark.real


@pytest.fixture(scope="module")
def minilm():
    folder = find("minilm")
    if folder is None:
        pytest.skip("all-MiniLM-L6-v2 is not in the cache: make real downloads it")
    return AutoTokenizer.from_pretrained(folder), AutoModel.from_pretrained(folder)


@pytest.fixture(scope="module")
def expected():
    return json.loads((DATA / "expected" / "minilm.json").read_text(encoding="utf-8"))


@torch.no_grad()
def embed(minilm, texts, batch=32):
    """[N, C]: the mean over the real tokens, of length 1."""
    tokenizer, model = minilm
    order = sorted(range(len(texts)), key=lambda i: len(texts[i]))
    vectors = torch.empty(len(texts), model.config.hidden_size)
    for start in range(0, len(order), batch):
        rows = order[start : start + batch]
        inputs = tokenizer([texts[i] for i in rows], padding=True, truncation=True, max_length=256, return_tensors="pt")
        x = model(**inputs).last_hidden_state
        vectors[rows] = F.normalize(mean_tokens(x, inputs["attention_mask"]), dim=-1)
    return vectors


def test_ids_hidden_states_and_embeddings(minilm, expected):
    tokenizer, model = minilm
    inputs = tokenizer(expected["sentences"], padding=True, return_tensors="pt")
    assert inputs["input_ids"].tolist() == expected["input_ids"]
    assert inputs["attention_mask"].tolist() == expected["attention_mask"]
    with torch.no_grad():
        x = model(**inputs).last_hidden_state
    # recorded for all positions of the batch's first row, padding too, to 5 digits
    real = inputs["attention_mask"][0].bool()
    want = torch.tensor(expected["last_hidden_state_0_first8"])[real]
    torch.testing.assert_close(x[0, real, :8], want, atol=2e-5, rtol=0)
    vectors = embed(minilm, expected["sentences"])
    torch.testing.assert_close(vectors, torch.tensor(expected["embeddings"]), atol=2e-5, rtol=0)


@torch.no_grad()
def test_packed_and_left_padded_batches_give_the_same_embeddings(minilm, expected):
    tokenizer, model = minilm
    rows = tokenizer(expected["sentences"])["input_ids"]
    packed = Packed(tuple(map(len, rows)))
    x = model(input_ids=torch.tensor([sum(rows, [])]), attention_mask=packed).last_hidden_state
    want = torch.tensor(expected["embeddings"])
    torch.testing.assert_close(F.normalize(mean_tokens(x, packed), dim=-1), want, atol=2e-5, rtol=0)
    left = tokenizer(expected["sentences"], padding=True, padding_side="left", return_tensors="pt")
    x = model(**left).last_hidden_state
    torch.testing.assert_close(F.normalize(mean_tokens(x, left["attention_mask"]), dim=-1), want, atol=2e-5, rtol=0)


def test_sts_benchmark(minilm, expected):
    with open(DATA / "stsb" / "stsb-en-test.csv", newline="", encoding="utf-8") as file:
        rows = list(csv.reader(file))
    first, second = (embed(minilm, [row[i] for row in rows]) for i in (0, 1))
    rank = spearmanr([float(row[2]) for row in rows], (first * second).sum(-1).tolist())[0]
    assert len(rows) == 1379
    assert rank == pytest.approx(expected["stsb_en_test"]["spearman"], abs=1e-4) == pytest.approx(0.8203, abs=1e-4)


def spearman(pipe, language="en", **arguments):
    """Of the cosines that a feature-extraction pipeline gives for STS-B's pairs, with what people said."""
    folder = DATA / "stsb" / f"stsb-{language}-test.csv"
    if not folder.exists():
        pytest.skip(f"{folder} is not here")
    with open(folder, newline="", encoding="utf-8") as file:
        rows = list(csv.reader(file))
    first, second = (pipe.encode([row[i] for row in rows], **arguments) for i in (0, 1))
    return spearmanr([float(row[2]) for row in rows], (first * second).sum(-1))[0]


@pytest.mark.parametrize(("dtype", "near"), [("float32", 1e-4), ("bfloat16", 1e-3)])
def test_embeddings_in_one_call(minilm, expected, dtype, near):
    pipe = pipeline("feature-extraction", find("minilm"), dtype=dtype)
    vectors = pipe.encode(expected["sentences"])
    want = np.array(expected["embeddings"], np.float32)
    if dtype == "float32":
        np.testing.assert_allclose(vectors, want, atol=2e-5)
    assert ((vectors * want).sum(-1) > 1 - 2e-4).all()
    assert spearman(pipe) == pytest.approx(0.8203, abs=near)


@pytest.mark.skipif(not Int8Product.dtypes(), reason="no FBGEMM in this PyTorch")
def test_embeddings_of_8_bits(minilm, expected):
    pipe = pipeline("feature-extraction", find("minilm"), device="cpu", quantization="int8")
    vectors, want = pipe.encode(expected["sentences"]), np.array(expected["embeddings"], np.float32)
    assert np.abs(vectors - want).max() > 1e-4 and ((vectors * want).sum(-1) > 0.98).all()
    assert 0.815 <= spearman(pipe) < 0.8215


@pytest.mark.parametrize("precision", [{"dtype": "bfloat16"}, {"quantization": "int8"}], ids=str)
def test_sentiment_with_less_precision(precision):
    """Every fourth sentence of GLUE's dev set: 218."""
    if "quantization" in precision and not Int8Product.dtypes():
        pytest.skip("no FBGEMM in this PyTorch")
    with open(DATA / "sst2" / "glue_dev.tsv", encoding="utf-8") as file:
        rows = list(csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE))[::4]
    texts, right = [row["sentence"] for row in rows], [["NEGATIVE", "POSITIVE"][int(row["label"])] for row in rows]
    exact, rounded = (pipeline("sentiment-analysis", device="cpu", **given)(texts) for given in ({}, precision))
    labels = [answer["label"] for answer in rounded]
    assert len(rows) == 218 and sum(a == b for a, b in zip(labels, right, strict=True)) / 218 >= 0.89
    assert sum(a == b["label"] for a, b in zip(labels, exact, strict=True)) >= 215
    scores = [abs(a["score"] - b["score"]) for a, b in zip(rounded, exact, strict=True)]
    assert max(scores) > 1e-4, "the weights are not rounded"


@pytest.mark.parametrize(("language", "rank"), [("en", 0.8397), ("de", 0.7891)])
def test_multilingual_e5(language, rank):
    if (folder := find("me5")) is None:
        pytest.skip("multilingual-e5-small is not in the cache")
    pipe = pipeline("feature-extraction", folder)
    assert spearman(pipe, language, prompt="query: ") == pytest.approx(rank, abs=1e-4)


@torch.no_grad()
def test_albert_from_an_old_bin():
    folder, want = find("rxnmapper"), json.loads((DATA / "expected" / "rxnmapper.json").read_text(encoding="utf-8"))
    if folder is None:
        pytest.skip("rxnmapper is not in the cache: make real downloads it")
    model = AlbertForMaskedLM.from_pretrained(folder)
    vocabulary = {token: i for i, token in enumerate((folder / "vocab.txt").read_text().split("\n"))}
    ids = torch.tensor([want["input_ids"]])
    assert [vocabulary[token] for token in want["tokens"]] == want["input_ids"]
    out = model(ids, output_hidden_states=True)
    torch.testing.assert_close(
        out.hidden_states[-1][0, :, :8], torch.tensor(want["last_hidden_first8"]), atol=2e-5, rtol=0
    )
    assert out.logits.abs().mean() == pytest.approx(want["logits_mean_abs"], abs=1e-5)
    assert out.logits[0].argmax(-1).tolist() == want["argmax_ids"]
    # every token but the first and the last, hidden in its turn
    masked = ids.repeat(23, 1)
    masked[torch.arange(23), torch.arange(1, 24)] = vocabulary["[MASK]"]
    logits = model(masked).logits[torch.arange(23), torch.arange(1, 24)]
    top = logits[5].topk(5)
    assert top.indices.tolist() == want["mask_at_6_top5"]
    torch.testing.assert_close(top.values, torch.tensor(want["mask_at_6_top5_logits"]), atol=1e-4, rtol=0)
    assert int((logits.argmax(-1) == ids[0, 1:24]).sum()) == 15


@torch.no_grad()
def test_smollm2_from_a_gguf_file():
    """Its settings; what it writes is compared in test_real_decoders."""
    folder, want = find("smollm2"), json.loads((DATA / "expected" / "smollm2.json").read_text(encoding="utf-8"))
    if folder is None:
        pytest.skip("SmolLM2 is not in the cache: make real downloads it")
    model = AutoModelForCausalLM.from_pretrained(folder, gguf_file=want["file"])
    assert {name: getattr(model.config, name) for name in want["config"]} == want["config"]
    assert model.dtype == torch.float32 and model.config.rms_norm_eps == 1e-5
