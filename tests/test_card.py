"""A pipeline is saved with its model card, which says what is known and nothing else."""

import re
from pathlib import Path

import fresh
import numpy as np
import pytest
import torch
from hub_server import HubServer
from huggingface_hub import ModelCard, metadata_load

from plainformers import (
    BertConfig,
    BertForSequenceClassification,
    BertTokenizer,
    DistilBertConfig,
    DistilBertForSequenceClassification,
    TextClassificationPipeline,
    card,
    logging as messages,
    pipeline,
)
from plainformers.pipelines import TASKS

BUILTIN = "plainformers/sentiment-english"
WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "the", "film", "was", "good", "bad", "long", "not"]
TEXTS = ["the film was good", "not good", "the film was bad and long", ""]
FACTS = {
    "language": "en",
    "license": "Apache-2.0",
    "base_model": "owner/base",
    "data": ["stanfordnlp/sst2", "3,000 reviews of films, which are *not* published"],
    "metrics": {"accuracy": 0.9048165137614679, "f1 | macro": 0.5, "rows": 872},
    "tested_on": "nyu-mll/glue",
    "limits": "It has seen films only.\n\n- No sarcasm.",
}


def make_pipe(**fields):
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=len(WORDS), hidden_size=32, num_hidden_layers=3, num_attention_heads=4, intermediate_size=64,
        max_position_embeddings=16, initializer_range=0.5, **fields,
    )  # fmt: skip
    tokenizer = BertTokenizer(vocab={word: i for i, word in enumerate(WORDS)})
    return TextClassificationPipeline(BertForSequenceClassification(config).eval(), tokenizer, device="cpu")


@pytest.fixture
def said(monkeypatch):
    texts = []
    monkeypatch.setattr(messages, "once", lambda message, level=messages.WARNING: texts.append((level, message)))
    return texts


def read(folder: Path) -> str:
    return (folder / "README.md").read_text(encoding="utf-8")


def saved(folder: Path, pipe=None, **arguments) -> str:
    (pipe or make_pipe()).save_pretrained(folder, **arguments)
    return read(folder)


def section(text: str, title: str) -> str:
    return re.search(rf"^## {title}\n\n(.*?)(?=^## |\Z)", text, re.M | re.S)[1].strip()


def rows(text: str) -> dict[str, str]:
    """The table of a section."""
    lines = [re.split(r"(?<!\\)\|", line)[1:-1] for line in text.splitlines() if line.startswith("|")]
    assert {len(line) for line in lines} == {2}
    return {name.strip(): value.strip() for name, value in lines[2:]}


def files(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


# ---- What the card says


def test_what_is_known_without_a_word(tmp_path):
    pipe = make_pipe(id2label={0: "bad", 1: "good"})
    text = saved(tmp_path / "films", pipe)
    assert metadata_load(tmp_path / "films/README.md") == {
        "library_name": "plainformers",
        "pipeline_tag": "text-classification",
        "tags": ["bert"],
    }
    assert "\n# `films`\n" in text
    assert rows(section(text, "Architecture")) == {
        "Architecture": "`BertForSequenceClassification`, model type `bert`",
        "Layers": "3",
        "Hidden size": "32",
        "Attention heads": "4",
        "Vocabulary": "12",
        "Parameters": f"{sum(p.numel() for p in pipe.model.parameters()):,}",
        "Weights": "float32",
        "Longest input": "16 tokens",
        "Labels": "`bad` (0), `good` (1)",
        "Base model": "not stated",
        "Language": "not stated",
        "License": "not stated",
    }
    assert section(text, "Data") == section(text, "Metrics") == "Not stated."
    limits = section(text, "Limits")
    assert "more than 16 tokens is cut" in limits and "2 labels and no others" in limits
    assert "Nothing else was stated about its limits. Test it" in limits
    assert "weights in float32" in section(text, "How it was saved")
    assert str(tmp_path) not in text


def test_what_the_caller_states(tmp_path):
    text = saved(tmp_path / "films", **FACTS)
    data = metadata_load(tmp_path / "films/README.md")
    assert {name: data[name] for name in ("language", "license", "base_model", "datasets", "metrics")} == {
        "language": "en",
        "license": "apache-2.0",
        "base_model": "owner/base",
        "datasets": ["stanfordnlp/sst2"],
        "metrics": ["accuracy", "f1 | macro", "rows"],
    }
    loaded = ModelCard.load(tmp_path / "films/README.md").data
    assert loaded.model_name == "films"
    assert [(r.task_type, r.dataset_type, r.metric_name, r.metric_value) for r in loaded.eval_results] == [
        ("text-classification", "nyu-mll/glue", name, value) for name, value in FACTS["metrics"].items()
    ]
    assert "[stanfordnlp/sst2](https://huggingface.co/datasets/stanfordnlp/sst2)\n\n3,000" in section(text, "Data")
    metrics = section(text, "Metrics")
    assert rows(metrics) == {"`accuracy`": "0.9048165137614679", "f1 &#124; macro": "0.5", "`rows`": "872"}
    assert metrics.endswith("Measured on: [nyu-mll/glue](https://huggingface.co/datasets/nyu-mll/glue)")
    assert section(text, "Limits").endswith(FACTS["limits"])
    assert "Nothing else was stated" not in text and "not stated" not in text.lower().replace(
        "what they stand for is not stated", ""
    )


def test_figures_without_their_data_are_no_evaluation(tmp_path):
    text = saved(tmp_path, metrics={"accuracy": np.float32(0.5)}, data="stanfordnlp/sst2")
    assert "model-index" not in metadata_load(tmp_path / "README.md")
    assert "Measured on: not stated" in text and "| `accuracy` | 0.5 |" in text
    saved(tmp_path, metrics={"accuracy": 0.5}, tested_on="GLUE SST-2, dev set", overwrite_card=True)
    [result] = ModelCard.load(tmp_path / "README.md").data.eval_results
    assert (result.dataset_name, result.dataset_type) == ("GLUE SST-2, dev set", "GLUE-SST-2-dev-set")


@pytest.mark.parametrize(
    ("fields", "words", "absent"),
    [
        ({"num_labels": 3}, ["gives one of 3 labels", "The labels have no names", "3 labels and no others"], []),
        ({"num_labels": 1}, ["a score from 0 to 1 for each of 1 label,"], ["no others"]),
        ({"num_labels": 1, "problem_type": "regression"}, ["gives a number for each of 1 label."], ["no others"]),
        ({"problem_type": "multi_label_classification"}, ["for each of 2 labels, independently"], ["no others"]),
        ({"id2label": {i: f"kind {i}" for i in range(1000)}}, ["`kind 19` (19), … and 980 more |"], ["`kind 20`"]),
    ],
)
def test_labels(fields, words, absent, tmp_path):
    text = saved(tmp_path, make_pipe(**fields))
    for word in words:
        assert word in text
    for word in absent:
        assert word not in text


def test_a_config_that_says_other_names(tmp_path):
    config = DistilBertConfig(vocab_size=12, dim=16, n_layers=2, n_heads=2, hidden_dim=16, max_position_embeddings=9)
    model = DistilBertForSequenceClassification(config).to(torch.bfloat16)
    table = rows(section(saved(tmp_path, TextClassificationPipeline(model, make_pipe().tokenizer)), "Architecture"))
    assert [table[name] for name in ("Layers", "Hidden size", "Attention heads", "Longest input", "Weights")] == [
        "2", "16", "2", "9 tokens", "bfloat16",
    ]  # fmt: skip


HOSTILE = [
    "a | b", "line\nend", "`code`", "</td><script>alert(1)</script>", "[a](javascript:1)", "![x](http://x/y.png)",
    "\n---\nlicense: mit\n---\n", "\x00\x1b[31m", "\ud800", "\u202eevil", "", "www.example.org", "# title", "x" * 999,
    "\\|", "&lt;b&gt;", "*a*", "__b__", "~~c~~", "| |\n|---|---|\n| License | mit |", "$x$", "\r\n## Data\r\n", "名前",
]  # fmt: skip


def test_hostile_labels_stay_in_their_cell(tmp_path):
    text = saved(tmp_path, make_pipe(id2label=dict(enumerate(HOSTILE[:20]))))
    more = saved(tmp_path / "more", make_pipe(id2label=dict(enumerate(HOSTILE[20:]))))
    assert "license" not in metadata_load(tmp_path / "README.md")
    for found in (text, more):
        plain = saved(tmp_path / "plain", make_pipe(id2label={0: "a", 1: "b"}), overwrite_card=True)
        assert [line for line in found.splitlines() if line.startswith("#")] == [
            line.replace("plain", tmp_path.name if found is text else "more")
            for line in plain.splitlines()
            if line.startswith("#")
        ]
        table = rows(section(found, "Architecture"))
        assert table["License"] == "not stated" and len(table) == 12
        cell = re.sub(r"`[\w .,:;/+()'…-]+`|&#\d+;", "", table["Labels"])  # all that could mean anything to Markdown
        assert not re.search(r"[^\w\s(),.…]", cell.replace("\ufffd", ""))
    assert "x" * 61 not in text and "`名前`" in more


def test_the_name_of_a_folder_is_text_too(tmp_path):
    folder = tmp_path / 'a "b" | `c` <b> {é}'
    text = saved(folder)
    assert "# a &#34;b&#34; &#124; &#96;c&#96; &#60;b&#62; &#123;é&#125;\n" in text
    assert run_block(text, tmp_path) == answer_of(make_pipe())


# ---- Where the model came from


def test_the_built_in_model_is_named(tmp_path):
    pipe = pipeline("sentiment-analysis")
    text = saved(tmp_path / "mine", pipe)
    assert metadata_load(tmp_path / "mine/README.md")["base_model"] == BUILTIN
    assert "| Parameters | 22,713,986 |" in text
    assert "license" not in metadata_load(tmp_path / "mine/README.md") and "SST-2" not in text  # its own card's claims
    again = pipeline("text-classification", model=str(tmp_path / "mine"))
    assert again(TEXTS, top_k=None) == pipe(TEXTS, top_k=None)
    text = saved(tmp_path / "again", again)
    assert "base_model" not in metadata_load(tmp_path / "again/README.md") and str(tmp_path) not in text


@pytest.mark.parametrize(
    "name", ["owner/name", "name", "./owner/name", "~/name", "/tmp/name", "a\\b", "C:\\name", None]
)
@pytest.mark.parametrize("there", [True, False])
def test_a_path_is_never_told(name, there, tmp_path, monkeypatch):
    """Also one that looks like a repository, and also when it is gone."""
    monkeypatch.chdir(tmp_path)
    if there and name in ("owner/name", "name"):
        Path(name).mkdir(parents=True)
    pipe = make_pipe()
    pipe.model.name_or_path = pipe.model.config.name_or_path = name
    text = saved(tmp_path / "out", pipe)
    assert "base_model" not in metadata_load(tmp_path / "out/README.md") and "| Base model | not stated |" in text
    assert b"name_or_path" not in (tmp_path / "out/config.json").read_bytes()


def test_a_repository_is_named(tmp_path, monkeypatch):
    make_pipe().save_pretrained(tmp_path / "first", license="mit", data="owner/texts")
    with HubServer() as hub:
        hub.use(monkeypatch, tmp_path / "cache")
        hub.add("owner/name", files(tmp_path / "first"))
        pipe = pipeline("text-classification", model="owner/name")
    text = saved(tmp_path / "out", pipe)
    assert metadata_load(tmp_path / "out/README.md")["base_model"] == "owner/name"
    assert "mit" not in metadata_load(tmp_path / "out/README.md").values() and "owner/texts" not in text


# ---- A README.md that is there


def test_a_readme_that_is_there_stays(tmp_path, said):
    (tmp_path / "README.md").write_text("mine")
    assert saved(tmp_path) == "mine"
    [(level, message)] = said
    assert level == messages.INFO and "overwrite_card=True" in message and str(tmp_path) in message
    said.clear()
    assert saved(tmp_path, license="mit") == "mine"
    assert [level for level, _ in said] == [messages.WARNING]  # what was stated is nowhere
    assert "license: mit" in saved(tmp_path, license="mit", overwrite_card=True)


def test_a_card_that_is_right_already_is_not_spoken_of(tmp_path, said):
    first = saved(tmp_path)
    assert saved(tmp_path) == first and said == []
    assert saved(tmp_path, make_pipe(num_labels=5)) == first
    assert [level for level, _ in said] == [messages.WARNING]  # a card of ours that is not true any more


def test_two_saves_are_the_same_bytes(tmp_path):
    pipe = make_pipe()
    for parent in ("a", "b"):
        pipe.save_pretrained(tmp_path / parent / "model", **FACTS)
    assert files(tmp_path / "a/model") == files(tmp_path / "b/model")
    assert not [name for name in files(tmp_path / "a/model") if name.startswith(".")]


# ---- What is wrong is said before anything is written


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"metrcs": {"accuracy": 1}}, TypeError, "save_pretrained has no argument 'metrcs'. Did you mean 'metrics'"),
        ({"licence": "mit"}, TypeError, "Did you mean 'license'"),
        ({"max_shard_sise": 1}, TypeError, "Did you mean 'max_shard_size'"),
        ({"metrics": 0.9}, TypeError, "metrics must map names to numbers, such as {'accuracy': 0.91}, got 0.9"),
        ({"metrics": {}}, TypeError, "metrics must map"),
        ({"metrics": {"accuracy": "90 %"}}, TypeError, "The metric 'accuracy' must be a finite number, got '90 %'"),
        ({"metrics": {"accuracy": float("nan")}}, TypeError, "finite"),
        ({"metrics": {"accuracy": True}}, TypeError, "finite"),
        ({"metrics": {3: 1.0}}, TypeError, "name of a metric"),
        ({"tested_on": "owner/data"}, ValueError, "give metrics too"),
        ({"license": ["mit"]}, TypeError, "license must be a text, got"),
        ({"license": "mit\n---\n"}, ValueError, "license must stand on one line"),
        ({"language": ["en", 3]}, TypeError, "language must be a text or a list of texts"),
        ({"data": " "}, TypeError, "data must be a text or a list"),
        ({"base_model": "/models/mine"}, ValueError, "base_model must name a repository, such as 'owner/name', not a"),
        ({"safe_serialization": False}, ValueError, "safetensors"),
        ({"token": "a", "use_auth_token": "b"}, TypeError, "twice"),
    ],
)
def test_wrong_arguments_write_nothing(arguments, error, message, tmp_path):
    with pytest.raises(error, match=message):
        make_pipe().save_pretrained(tmp_path / "out", **arguments)
    assert not (tmp_path / "out").exists()


def test_a_card_that_fails_writes_nothing(tmp_path, monkeypatch):
    def broken(*_):
        raise RuntimeError("broken")

    pipe = make_pipe()
    pipe.save_pretrained(tmp_path)
    before = files(tmp_path)
    monkeypatch.setattr(card, "front_matter", broken)
    with torch.no_grad():
        pipe.model.classifier.bias += 1
    with pytest.raises(RuntimeError, match="broken"):
        pipe.save_pretrained(tmp_path, overwrite_card=True)
    assert files(tmp_path) == before


def test_arguments_of_transformers(tmp_path):
    pipe = make_pipe()
    pipe.save_pretrained(tmp_path / "shards", safe_serialization=True, max_shard_size="8KB", private=True, token="t")
    assert len(list((tmp_path / "shards").glob("model-*.safetensors"))) > 1
    assert pipeline("text-classification", str(tmp_path / "shards"), device="cpu")(TEXTS) == pipe(TEXTS)
    pipe.save_pretrained(tmp_path / "not", is_main_process=False)
    assert not (tmp_path / "not").exists()
    with pytest.raises(ValueError, match="is a file"):
        pipe.save_pretrained(tmp_path / "shards/config.json")


# ---- The card is followed


def answer_of(pipe) -> str:
    return str(pipe("A text of your own."))


def run_block(text: str, where: Path) -> str:
    """What the card's code prints when it is run in a folder."""
    [block] = re.findall(r"^```python\n(.*?)^```$", text, re.M | re.S)
    return fresh.run(block, where, HF_HUB_OFFLINE="1", CUDA_VISIBLE_DEVICES="").strip()


def test_the_code_of_the_card_runs(tmp_path):
    pipe = make_pipe(id2label={0: "bad", 1: "good"})
    assert run_block(saved(tmp_path / "films", pipe), tmp_path) == answer_of(pipe)


def test_a_variant_is_found_by_the_code(tmp_path):
    pipe = make_pipe()
    text = saved(tmp_path / "films", pipe, variant="fp16")
    assert (tmp_path / "films/model.fp16.safetensors").is_file()
    assert run_block(text, tmp_path) == answer_of(pipe)


def test_the_folder_here(tmp_path, monkeypatch):
    (tmp_path / "films").mkdir()
    monkeypatch.chdir(tmp_path / "films")
    make_pipe().save_pretrained(".")
    assert 'model="films"' in read(tmp_path / "films")


def test_round_trip(tmp_path):
    pipe = make_pipe(num_labels=5)
    pipe.save_pretrained(tmp_path)
    again = pipeline("text-classification", model=str(tmp_path), device="cpu")
    for got, want in zip(again(TEXTS, top_k=None), pipe(TEXTS, top_k=None), strict=True):
        assert [a["label"] for a in got] == [b["label"] for b in want]
        assert [a["score"] for a in got] == pytest.approx([b["score"] for b in want], abs=1e-6)


def test_every_task_has_an_example():
    assert card.EXAMPLES.keys() == TASKS.keys() and TASKS.keys() >= card.LABELLED


def test_a_task_of_ones_own(tmp_path):
    class Own(TextClassificationPipeline):
        task = "own-task"

    pipe = Own(make_pipe().model, make_pipe().tokenizer, device="cpu")
    text = saved(tmp_path, pipe)
    assert "pipeline_tag" not in metadata_load(tmp_path / "README.md")
    assert "A model for `own-task`.\n" in text and "```" not in text and "`Own`, which is not a part of" in text


# ---- The Hub


@pytest.fixture
def hub(monkeypatch, tmp_path):
    with HubServer() as server:
        server.use(monkeypatch, tmp_path / "cache")
        yield server


def test_pushed_in_one_commit_and_fetched_again(hub):
    pipe = make_pipe()
    address = pipe.push_to_hub("somebody/new", use_auth_token="hf_x", **FACTS)
    assert re.search("/somebody/new/commit/[0-9a-f]{40}$", address)
    assert len(hub.commits["somebody/new"]) == 2  # the first is that of a new repository
    names = {"config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json", "README.md"}
    assert hub.files("somebody/new").keys() >= names
    text = hub.files("somebody/new")["README.md"].decode()
    assert "# `somebody/new`\n" in text and 'model="somebody/new")' in text and "license: apache-2.0" in text
    assert pipeline("text-classification", "somebody/new", device="cpu")(TEXTS) == pipe(TEXTS)


def test_a_repository_keeps_its_own_card(hub, tmp_path):
    pipe, theirs = make_pipe(), b"theirs"
    hub.add("somebody/new", {"README.md": theirs})
    for repo, where in (("somebody/new", {}), ("new", {}), ("somebody/new", {"revision": "trial"})):
        pipe.push_to_hub(repo, token="hf_x", **where)
        assert hub.files("somebody/new", where.get("revision", "main"))["README.md"] == theirs
        assert "model.safetensors" in hub.files("somebody/new", where.get("revision", "main"))
    pipe.save_pretrained(tmp_path / "new", push_to_hub=True, repo_id="somebody/new", token="hf_x")
    assert hub.files("somebody/new")["README.md"] == theirs
    assert 'model="somebody/new"' in read(tmp_path / "new")
    pipe.push_to_hub("somebody/new", token="hf_x", overwrite_card=True)
    assert hub.files("somebody/new")["README.md"].startswith(b"---\nlibrary_name")


def test_a_folder_is_pushed_with_its_readme(hub, tmp_path):
    (tmp_path / "new").mkdir()
    (tmp_path / "new/README.md").write_text("mine")
    make_pipe().save_pretrained(tmp_path / "new", push_to_hub=True, token="hf_x")
    assert hub.files("somebody/new")["README.md"] == b"mine"


def test_the_owner_is_named_in_the_card(hub):
    make_pipe().push_to_hub("mine", token="hf_x")
    assert b'model="somebody/mine")' in hub.files("somebody/mine")["README.md"]


def test_what_cannot_be_pushed_is_saved_all_the_same(hub, tmp_path, monkeypatch):
    pipe = make_pipe()
    with pytest.raises(PermissionError, match="log in with"):
        pipe.save_pretrained(tmp_path / "a", push_to_hub=True, repo_id="somebody/new")
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(ConnectionError, match="HF_HUB_OFFLINE is set"):
        pipe.save_pretrained(tmp_path / "b", push_to_hub=True, repo_id="somebody/new", token="hf_x")
    for name in "ab":
        assert {"README.md", "model.safetensors", "tokenizer.json"} <= files(tmp_path / name).keys()
    with pytest.raises(TypeError, match="push_to_hub has no argument 'comit_message'. Did you mean 'commit_message'"):
        pipe.push_to_hub("somebody/new", comit_message="x")
    assert "somebody/new" not in hub.commits


# ---- The reference


@pytest.mark.parity
@pytest.mark.parametrize("source", [BUILTIN, "tiny"])
def test_transformers_gives_the_same_answers(source, tmp_path):
    transformers = pytest.importorskip("transformers")
    transformers.logging.set_verbosity_error()
    pipe = make_pipe(id2label={0: "bad", 1: "so | so", 2: "good"}) if source == "tiny" else pipeline(model=source)
    pipe.save_pretrained(tmp_path / "saved", **FACTS)
    theirs = transformers.pipeline("text-classification", model=str(tmp_path / "saved"), device="cpu")
    for got, want in zip(pipe(TEXTS, top_k=None), theirs(TEXTS, top_k=None), strict=True):
        assert [answer["label"] for answer in got] == [answer["label"] for answer in want]
        assert [a["score"] for a in got] == pytest.approx([b["score"] for b in want], abs=1e-5)
