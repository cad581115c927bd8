"""The notebooks run, without a network, and what is stored in them is what they put out."""

import html
import importlib.util
import json
import re
import subprocess
import sys
import xml.etree.ElementTree as ET
from pathlib import Path

import nbformat
import pytest
import torch

from plainformers import AutoModelForSequenceClassification, AutoTokenizer, pipeline, train_tokenizer

ROOT = Path(__file__).parent.parent
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
SVG = "{http://www.w3.org/2000/svg}"


def load(name: str):
    """A Python file of the folder notebooks, which is no package."""
    spec = importlib.util.spec_from_file_location(f"notebooks_{name}", ROOT / "notebooks" / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


execute, figures = load("execute"), load("figures")


each_notebook = pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)


def read(path: Path):
    return nbformat.read(path, as_version=4)


def code_cells(notebook):
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


# ---- Running

# a last cell that prints JSON; CHECKS below get it, with the cells by their ids
PROBES = {
    "behind_the_pipeline_pytorch": """
import json
results = {"answers": answers, "by_hand": by_hand, "stepwise": results, "logits": logits.tolist()}
print(json.dumps(results | {"sizes": [model.config.hidden_size, model.num_parameters(), list(logits.shape)]}))
""",
    "models": """
import json
print(json.dumps({"alone": alone.tolist(), "together": together.tolist(), "masked": masked.tolist()}))
""",
    "tokenizers": """
import json
legal_tokens = sum(len(legal.tokenize(text)) for text in paragraphs)
print(json.dumps({"costs": costs, "scripts": scripts, "legal": [len(legal), legal_tokens]}))
""",
}


@each_notebook
def test_runs_and_puts_out_what_is_stored(path):
    notebook = read(path)
    fresh = execute.execute(notebook, PROBES.get(path.stem, "print('null')"))
    *cells, last = code_cells(fresh)
    for stored, cell in zip(code_cells(notebook), cells, strict=True):
        assert stored.execution_count == cell.execution_count, f"{cell.id}: run notebooks/execute.py"
        streams = [output.get("name") for output in cell.outputs]
        assert "stderr" not in streams, f"{cell.id} writes to stderr: {cell.outputs}"
        difference = execute.differs(stored.outputs, cell.outputs)
        assert difference is None, f"{path.name}, cell {cell.id} is out of date, run notebooks/execute.py: {difference}"
    assert not any(cell.metadata for cell in fresh.cells)
    if path.stem in CHECKS:
        CHECKS[path.stem](json.loads(last.outputs[0].text), {cell.id: cell for cell in cells})


def check_behind_the_pipeline(found, cells):
    assert [answer["label"] for answer in found["answers"]] == ["POSITIVE", "NEGATIVE"]
    for ours, theirs, stepwise in zip(found["by_hand"], found["answers"], found["stepwise"], strict=True):
        assert ours["label"] == theirs["label"] == stepwise["label"]
        assert abs(ours["score"] - theirs["score"]) < 1e-6 and abs(stepwise["score"] - theirs["score"]) < 1e-6
    overview, transformer = (cells[name].outputs[0].data["image/svg+xml"] for name in ("overview", "figure-2"))
    hidden, parameters, shape = found["sizes"]
    assert f"{found['answers'][1]['score']:.3f}" in words(overview)
    for logit in found["logits"][1]:
        assert figures.signed(logit, 3) in words(overview)
        assert figures.signed(logit, 2) in words(transformer)
    assert {f"{hidden} → {hidden}", f"{parameters:,} parameters", str(shape)} <= set(words(transformer))


def check_models(found, cells):
    label = {name: torch.tensor(rows).argmax(-1).tolist() for name, rows in found.items()}
    assert label == {"alone": [0, 1], "together": [1, 1], "masked": [0, 1]}  # what the text says of padding
    torch.testing.assert_close(torch.tensor(found["masked"]), torch.tensor(found["alone"]), atol=1e-5, rtol=0)


def check_tokenizers(found, cells):
    counts = [line.split() for line in cells["chat-strangers"].outputs[0].text.splitlines()]
    assert counts == [["<|im_start|>", "1"], ["<|im_end|>", "1"]], "control tokens of a message stay text"
    licence = (ROOT / "LICENSE").read_text(encoding="utf-8")
    paragraphs = [" ".join(part.split()) for part in licence.split("\n\n") if part.strip()]
    sentence = "You may redistribute this library, unless its licensors objected."
    assert sentence in cells["sentence"].source
    built_in = AutoTokenizer.from_pretrained("plainformers/sentiment-english")
    model = AutoModelForSequenceClassification.from_pretrained("plainformers/sentiment-english")
    kinds = {"words": "word", "characters": "character", "BPE": "bpe", "built-in": None}
    live = {n: train_tokenizer(paragraphs, kind, vocab_size=1000) if kind else built_in for n, kind in kinds.items()}
    table = cells["costs"].outputs[0].text.splitlines()[2:]
    for (name, tokenizer), line in zip(live.items(), table, strict=True):
        ids = tokenizer(sentence, add_special_tokens=False)["input_ids"]
        in_licence = sum(map(len, tokenizer(paragraphs, add_special_tokens=False)["input_ids"]))
        unknown = 0 if tokenizer.unk_token_id is None else ids.count(tokenizer.unk_token_id)
        numbers = [len(tokenizer), len(tokenizer) * model.config.hidden_size, in_licence, len(ids), unknown]
        assert found["costs"][name] == numbers and line.split() == [name, *(f"{number:,}" for number in numbers)]
    # what the text says of them
    tokens, (pieces, most) = {name: row[2] for name, row in found["costs"].items()}, (live["BPE"], live["built-in"])
    assert found["costs"]["words"][4] == 4 and not any(found["costs"][name][4] for name in ("characters", "BPE"))
    assert round(tokens["characters"] / tokens["words"]) == 5 and round(len(most) / len(pieces), -1) == 30
    assert model.bert.embeddings.word_embeddings.weight.numel() == found["costs"]["built-in"][1]
    assert round(2 * found["costs"]["built-in"][1] / model.num_parameters()) == 1
    assert round(5 * tokens["built-in"] / tokens["BPE"]) == 4
    assert found["legal"][0] < len(most) / 10 and found["legal"][1] < tokens["built-in"]
    for characters, as_bytes, bpe, _, _ in found["scripts"].values():
        assert characters <= as_bytes and bpe <= as_bytes
    thai, chinese = found["scripts"]["Thai"], found["scripts"]["Chinese"]
    assert thai[2] == 3 * thai[0] and thai[3:] == [1, 1] and chinese[0] == 3 and chinese[4] == 2
    for name, tokenizer, text in (
        ("offsets", built_in, "Déjà  vu: unputdownable!"),
        ("bytes", pieces, "Hi 🌅 早上"),
    ):
        encoded, drawn = tokenizer(text), words(cells[name].outputs[0].data["image/svg+xml"])
        assert text in cells[name].source and {*encoded.tokens(), *map(str, encoded["input_ids"])} <= {*drawn}


CHECKS = {
    "behind_the_pipeline_pytorch": check_behind_the_pipeline,
    "models": check_models,
    "tokenizers": check_tokenizers,
}


# ---- What is stored


@each_notebook
def test_is_valid_and_holds_nothing_of_a_machine(path):
    notebook = read(path)
    nbformat.validate(notebook)
    assert (notebook.nbformat, notebook.nbformat_minor) == (4, 5)  # cells have ids
    ids = [cell.id for cell in notebook.cells]
    assert len(set(ids)) == len(ids) and all(re.fullmatch(r"[a-z][a-z0-9-]+", name) for name in ids)
    assert notebook.metadata == execute.METADATA
    assert not any(cell.metadata for cell in notebook.cells)
    assert [cell.execution_count for cell in code_cells(notebook)] == [*range(1, len(code_cells(notebook)) + 1)]
    # file:// in a message, a folder of a user, a temporary folder, an address in memory
    machine = r"/(?:work|root|tmp|home|Users|usr|opt|var|private)/|[A-Z]:\\\\|file://|site-packages|\b0x[0-9a-f]{6,}"
    assert not (found := re.findall(f".{{30}}(?:{machine}).{{30}}", nbformat.writes(notebook))), found


@each_notebook
def test_reads_well(path):
    cells = read(path).cells
    assert cells[0].cell_type == "markdown" and cells[0].source.startswith("# ")
    text = "\n".join(cell.source for cell in cells if cell.cell_type == "markdown")
    for before, cell in zip(cells, cells[1:], strict=False):
        assert cell.cell_type == "markdown" or before.cell_type == "markdown", f"{cell.id} comes without a word"
        assert len(cell.source.splitlines()) <= 22, f"{cell.id} is long"
        assert cell.cell_type == "markdown" or max(map(len, cell.source.splitlines())) <= 100, cell.id
    for target in re.findall(r"\]\(([^)#]+)\)", text):
        assert (path.parent / target).exists(), target
    # a size in the text is one that a cell uses or puts out
    there = "".join(cell.source + json.dumps(cell.outputs) for cell in cells if cell.cell_type == "code")
    for number in re.findall(r"(?<![\w.])(?:\d{2,}|\d+e-\d+|\[\d+(?:, \d+)*\])(?![\w.]*\d)", text):
        assert re.search(rf"(?<!\d){re.escape(number)}(?!\d)", there), f"{number} stands in the text only"


@each_notebook
def test_is_formatted(path):
    pytest.importorskip("ruff", reason="make check has it")
    run = [sys.executable, "-m", "ruff", "format", "--check", "--isolated", "--line-length=100", "--no-cache", path]
    done = subprocess.run(run, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


# ---- The figures


def words(svg: str) -> list[str]:
    """The texts in a figure; fails where it is no XML."""
    return [element.text or "" for element in ET.fromstring(svg).iter(f"{SVG}text")]


@pytest.fixture(scope="module")
def pipe():
    return pipeline("sentiment-analysis")


TAGS = {"svg", "title", "rect", "text", "polyline", "polygon", "circle"}
HOSTILE = '</text><script>alert("1")</script>&amp;\x1b[31m\u202e 映画は素晴らしい ' + "incomprehensibilities" * 60


@pytest.mark.parametrize("text", ["A wonderful film.", HOSTILE, "so " * 700, "", "\n"], ids=range(5))
def test_the_pipeline_as_a_figure(pipe, text):
    svg = figures.pipeline_figure(pipe, text)
    found, (answer,) = words(svg), pipe(text)
    inputs = pipe.preprocess([text])
    assert f"{answer['score']:.3f}" in found and answer["label"] in found
    assert str(list(inputs["input_ids"].shape)) in found
    assert {"[CLS]", "[SEP]", "101", "102"} <= set(found)
    for logit in pipe.forward(inputs).logits[0].tolist():
        assert figures.signed(logit, 3) in found
    assert_stays_inside(svg)


def assert_stays_inside(svg):
    """Nothing leaves the picture, to the right or below, and nothing in it is active."""
    drawn = ET.fromstring(svg)
    assert {element.tag.removeprefix(SVG) for element in drawn.iter()} <= TAGS
    high = float(drawn.get("height"))
    for element in drawn.iter(f"{SVG}rect"):
        x, y, width, height = (float(element.get(name)) for name in ("x", "y", "width", "height"))
        assert x >= 0 and x + width <= figures.WIDTH, "a box outside of the picture"
        assert y >= 0 and y + height <= high, "a box below the picture"
    for element in drawn.iter(f"{SVG}text"):  # a letter is at most 0.62 of its size wide, in these fonts
        wide = 0.62 * float(element.get("font-size")) * figures.columns(element.text or "")
        start = float(element.get("x")) - {"start": 0, "middle": wide / 2, "end": wide}[element.get("text-anchor")]
        assert start >= 0 and start + wide <= figures.WIDTH, element.text
        assert 0 < float(element.get("y")) < high, element.text


def test_the_transformer_as_a_figure(pipe):
    model = AutoModelForSequenceClassification.from_pretrained("plainformers/sentiment-english")
    inputs = pipe.tokenizer(["A wonderful film.", "Dull."], padding=True, return_tensors="pt")
    found, config = words(figures.transformer_figure(model, inputs)), model.config
    B, T = inputs["input_ids"].shape
    assert {f"[{B}, {T}]", f"[{B}, {T}, {config.hidden_size}]", f"[{B}, {config.num_labels}]"} <= set(found)
    assert f"{config.num_hidden_layers} layers" in found and f"{config.vocab_size:,}" in found
    D = config.hidden_size // config.num_attention_heads
    assert f"{config.num_attention_heads} heads of {D}" in found
    parts = [model.bert.embeddings, model.bert.encoder, model.bert.pooler, model.classifier]
    counts = [sum(p.numel() for p in part.parameters()) for part in parts]
    assert sum(counts) == model.num_parameters() and {f"{count:,}" for count in counts} <= set(found)
    with torch.no_grad():
        for logit in model(**inputs).logits.flatten().tolist():
            assert figures.signed(logit, 2) in found


@pytest.fixture(scope="module")
def of_bytes():
    return train_tokenizer(["where is it, and what is that?"], vocab_size=270)


@pytest.mark.parametrize(
    "text",
    [
        "Déjà  vu, a café!",
        HOSTILE,
        "so " * 700,
        "",
        "\n",
        " \t ",
        "🌅 早上好",
        "ﷺ" * 9,
        ("A film?", "Dull, 早上. "),
        ("", ""),
    ],
    ids=range(10),
)
def test_the_characters_of_tokens_as_a_figure(pipe, of_bytes, text):
    texts = (text,) if isinstance(text, str) else text
    for tokenizer in (pipe.tokenizer, of_bytes):
        for options in ({}, {"truncation": True, "max_length": 6}):
            encoded = tokenizer(*texts, **options)
            svg = figures.tokens_figure(text, encoded)
            found = words(svg)
            assert_stays_inside(svg)
            for i, (token, index) in enumerate(zip(encoded.tokens(), encoded["input_ids"], strict=True)):
                if i < figures.MOST_SHOWN - figures.MOST_TOGETHER:
                    assert str(index) in found and (len(token) > 14 or figures.visible(token) in found)
            if len(encoded["input_ids"]) > figures.MOST_SHOWN:
                (left,) = re.findall(r"and ([\d,]+) more", " ".join(found))
                assert 0 <= int(left.replace(",", "")) - len(encoded["input_ids"]) + figures.MOST_SHOWN < 4


def test_boxes_of_the_figure_hold_what_the_offsets_say(pipe, of_bytes):
    text = "Déjà  vu"
    found = words(figures.tokens_figure(text, pipe.tokenizer(text)))
    assert found.count("##ja") == 1 and {"Dé", "jà", "vu", "0–2", "2–4", "6–8", "␣␣", "[CLS]"} <= {*found}
    found = words(figures.tokens_figure("x好", of_bytes("x好")))
    assert found.count("好") == 1 and found.count("1–2") == 1, "one box for the three bytes of a character"
    found = words(
        figures.tokens_figure("one two three", pipe.tokenizer("one two three", truncation=True, max_length=3))
    )
    assert "␣two␣three" in found, "what was cut off has no token"
    found = words(figures.tokens_figure(("a b", "c"), pipe.tokenizer("a b", "c")))
    assert found.count("[SEP]") == 2 and {"a", "b", "c"} <= {*found} and found.count("0–1") == 2


# ---- What counts as the same output


@pytest.mark.parametrize(
    ("stored", "fresh", "same"),
    [
        ("score 0.9486", "score 0.9487", True),
        ("score 0.9486", "score 0.9386", False),
        ("0.95", "0.96", True),  # the last place
        ("0.95", "0.97", False),
        ("22,713,986 parameters", "22,713,987 parameters", False),
        ("[2, 15]", "[2, 16]", False),
        ("in  12.31 ms", "in   4.05 ms", True),
        ("POSITIVE", "NEGATIVE", False),
        ("-1.28", "1.28", False),
        (html.escape("<b>1.5</b>"), "<b>1.5</b>", False),
        ([{"text": "1.5"}], [{"text": "1.5"}, {"text": ""}], False),
        ({"text": "1.5"}, {"html": "1.5"}, False),
    ],
)
def test_outputs_are_compared_by_what_they_say(stored, fresh, same):
    assert (execute.differs(stored, fresh) is None) is same
