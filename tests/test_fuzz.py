"""Damaged and hostile files, made at random: a model is loaded and runs, or an error names the file or the field."""

import copy
import json
import resource
import struct
import time

import pytest
import torch
from hypothesis import HealthCheck, given, settings, strategies as st
from models.zoo import BERT

from plainformers import AutoModelForSequenceClassification, BertConfig, BertForSequenceClassification, BertModel
from plainformers.model import Model

FEW = settings(
    deadline=None,
    derandomize=True,
    database=None,
    max_examples=150,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
IDS = torch.tensor([[0, 1]])
SECONDS, BYTES = 2, 500 * 2**20
FIELDS = sorted({*BertConfig.keywords(), "model_type", "torch_dtype", "quantization_config", "auto_map"})

leaves = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-3, 70),
    st.sampled_from([2**31 - 1, 2**31, 2**63, 10**12, -(10**30), 10**400, 0, 1, 16, 61]),
    st.floats(),
    st.sampled_from(
        ["", "bert", "gelu", "relu", "float16", "bfloat16", "regression", "../x", "os.system", "\ud800", "é" * 99]
    ),
    st.text(max_size=8),
)
values = st.recursive(
    leaves, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3)
)


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """A folder with a single file, and one with shards."""
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("fuzz")
    model = BertForSequenceClassification(BertConfig(**BERT, num_labels=3))
    model.save_pretrained(folder / "single")
    model.save_pretrained(folder / "shards", max_shard_size="12KB")
    AutoModelForSequenceClassification.from_pretrained(folder / "single")(IDS)  # what is needed once
    return folder


def load_or_explain(folder, names):
    """Loads and runs, or raises one of three errors whose message has one of the names; in bounded time and memory."""
    before, started = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.perf_counter()
    try:
        model = AutoModelForSequenceClassification.from_pretrained(folder)
    except (ValueError, TypeError, OSError) as error:
        assert any(name in str(error) for name in names), f"names nothing: {error!r}"
        assert len(str(error)) < 20_000
    else:
        assert isinstance(model, Model)
        try:
            model(IDS)
        except ValueError as error:  # such as a vocabulary of one word
            assert "this model" in str(error) or "kernel" in str(error), repr(error)
    assert time.perf_counter() - started < SECONDS
    assert (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024 < BYTES


@FEW
@given(st.dictionaries(st.sampled_from(FIELDS) | st.text(max_size=6), values, min_size=1, max_size=3), st.booleans())
def test_config_values(home, changes, without):
    config = json.loads((home / "single/config.json").read_text())
    place = home / "config"
    place.mkdir(exist_ok=True)
    (place / "model.safetensors").unlink(missing_ok=True)
    (place / "model.safetensors").hardlink_to(home / "single/model.safetensors")
    changed = copy.deepcopy(config)
    for name, value in changes.items():
        if without:
            changed.pop(name, None)
        else:
            changed[name] = value
    (place / "config.json").write_text(json.dumps(changed))
    load_or_explain(place, (*changes, str(place)))


@FEW
@given(st.binary(max_size=40), st.integers(0, 2000), st.integers(0, 60))
def test_config_bytes(home, new, start, cut):
    text = (home / "single/config.json").read_bytes()
    place = home / "bytes"
    place.mkdir(exist_ok=True)
    (place / "model.safetensors").unlink(missing_ok=True)
    (place / "model.safetensors").hardlink_to(home / "single/model.safetensors")
    start %= len(text)
    (place / "config.json").write_bytes(text[:start] + new + text[start + cut :])
    load_or_explain(place, (str(place),))


@FEW
@given(values | st.dictionaries(st.sampled_from(["metadata", "weight_map"]), values, min_size=1),
       st.dictionaries(st.sampled_from(["classifier.weight", "classifier.bias", "x"]),
                       values | st.sampled_from(["../a.safetensors", "model-00001-of-00003.safetensors"]), max_size=2),
       st.booleans())  # fmt: skip
def test_index_files(home, whole, entries, keep):
    place = home / "shards"
    path = place / "model.safetensors.index.json"
    before = path.read_bytes()
    index = json.loads(before)
    if keep:
        index["weight_map"] |= entries
    try:
        path.write_text(json.dumps(index if keep else whole))
        load_or_explain(place, (str(place), "shard"))
    finally:
        path.write_bytes(before)


def write_safetensors(home, content):
    place = home / "weights"
    place.mkdir(exist_ok=True)
    (place / "config.json").write_bytes((home / "single/config.json").read_bytes())
    (place / "model.safetensors").unlink(missing_ok=True)
    (place / "model.safetensors").write_bytes(content)
    return place


@FEW
@given(st.binary(min_size=1, max_size=12), st.integers(0, 3000), st.integers(0, 12), st.none() | st.integers(0, 40_000))
def test_safetensors_bytes(home, new, start, cut, end):
    whole = (home / "single/model.safetensors").read_bytes()
    place = write_safetensors(home, (whole[:start] + new + whole[start + cut :])[:end])
    load_or_explain(place, (str(place),))


@FEW
@given(st.data())
def test_safetensors_headers(home, data):
    """Headers that are JSON, with entries that lie."""
    whole = (home / "single/model.safetensors").read_bytes()
    n = int.from_bytes(whole[:8], "little")
    header = json.loads(whole[8 : 8 + n])
    name = data.draw(st.sampled_from(sorted(header)))
    kinds = st.sampled_from(["F64", "F32", "F16", "BF16", "I8", "I64", "BOOL", "F8_E5M2", "F4", "C64", ""])
    sizes = st.lists(st.integers(-1, 70) | st.sampled_from([2**31, 2**62, 2**64]), max_size=4)
    numbers = st.integers(0, 40_000) | st.sampled_from([-1, 2**63, 2**64])
    entry = {"dtype": kinds, "shape": sizes, "data_offsets": st.tuples(numbers, numbers)}
    changed = data.draw(st.sampled_from(sorted(entry)))
    if isinstance(header[name], dict) and changed in header[name]:
        header[name][changed] = data.draw(entry[changed] | values)
    else:
        header[name] = data.draw(values)
    if data.draw(st.booleans()):
        header[data.draw(st.text(max_size=9))] = header.pop(name)
    text = json.dumps(header, allow_nan=True).encode()
    place = write_safetensors(home, struct.pack("<Q", len(text)) + text + whole[8 + n :])
    load_or_explain(place, (str(place),))


@FEW
@given(st.integers(0, 40_000), st.binary(min_size=1, max_size=8), st.booleans())
def test_pickle_bytes(home, start, new, legacy):
    place = home / f"pickle-{legacy}"
    path = place / "pytorch_model.bin"
    if not place.exists():
        place.mkdir()
        (place / "config.json").write_bytes((home / "single/config.json").read_bytes())
        state = BertModel(BertConfig(**BERT)).state_dict()
        torch.save(state, place / "whole", _use_new_zipfile_serialization=not legacy)
    whole = (place / "whole").read_bytes()
    start %= len(whole)
    path.unlink(missing_ok=True)
    path.write_bytes(whole[:start] + new + whole[start + len(new) :])
    load_or_explain(place, (str(place),))
