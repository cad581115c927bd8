"""Files of weights: every format that is read, every way in which they can be wrong, and how they are written."""

import collections
import json
import os
import pickle
import random
import signal
import struct
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest
import torch
from models.zoo import BERT, draw_weight
from safetensors.torch import load_file, save_file

from plainformers import (
    AutoModel,
    AutoModelForSequenceClassification,
    BertConfig,
    BertForMaskedLM,
    BertModel,
    checkpoint,
)
from plainformers.checkpoint import parse_size, store_int8_rows
from plainformers.hub import COMMIT_FOLDER

CONFIG = {"model_type": "bert"} | BERT
IDS = torch.tensor([[5, 9, 11, 3]])


def weights(kind=BertModel, **fields):
    """Weights drawn by name, in published names."""
    model = kind(BertConfig(**BERT | fields))
    state = {name: draw_weight(name, tuple(tensor.shape)) for name, tensor in model.state_dict().items()}
    for group in checkpoint.shared_groups(model):
        for name in group[1:]:
            state[name] = state[group[0]]
    return state


def unshared(state):
    return {name: tensor.clone() for name, tensor in state.items()}


def folder_with(folder, state, config=CONFIG, name="model.safetensors"):
    folder.mkdir(exist_ok=True, parents=True)
    (folder / "config.json").write_text(json.dumps(config))
    if name.endswith(".bin"):
        torch.save(state, folder / name)
    else:
        save_file(unshared(state), folder / name)
    return folder


def sharded(folder, state, n=3, ending="safetensors", weight_map=None, config=CONFIG):
    folder.mkdir(exist_ok=True, parents=True)
    (folder / "config.json").write_text(json.dumps(config))
    stem = {"safetensors": "model", "bin": "pytorch_model"}[ending]
    parts = [dict(list(state.items())[i::n]) for i in range(n)]
    names = [f"{stem}-{i + 1:05}-of-{n:05}.{ending}" for i in range(n)]
    for name, part in zip(names, parts, strict=True):
        save_file(unshared(part), folder / name) if ending == "safetensors" else torch.save(part, folder / name)
    found = {tensor: name for name, part in zip(names, parts, strict=True) for tensor in part}
    index = {"metadata": {}, "weight_map": found | (weight_map or {})}
    (folder / f"{stem}.{ending}.index.json").write_text(json.dumps(index))
    return folder


def assert_holds(model, state):
    got = model.state_dict()
    assert got.keys() == state.keys()
    for name, tensor in state.items():
        assert torch.equal(got[name], tensor), name


def raw(folder, header, data=b"", length=None):
    """A safetensors file made by hand."""
    header = header if isinstance(header, bytes) else json.dumps(header).encode()
    content = struct.pack("<Q", len(header) if length is None else length) + header + data
    folder.mkdir(exist_ok=True)
    (folder / "config.json").write_text(json.dumps(CONFIG))
    (folder / "model.safetensors").write_bytes(content)
    return folder


# ---- Formats


def test_every_layout_gives_the_same_model(tmp_path):
    state = weights()
    folders = [
        folder_with(tmp_path / "single", state),
        folder_with(tmp_path / "pickle", state, name="pytorch_model.bin"),
        sharded(tmp_path / "shards", state),
        sharded(tmp_path / "pickles", state, ending="bin"),
        folder_with(tmp_path / "ordered", collections.OrderedDict(state), name="pytorch_model.bin"),
        folder_with(
            tmp_path / "trained", {k: torch.nn.Parameter(v) for k, v in state.items()}, name="pytorch_model.bin"
        ),
    ]
    (tmp_path / "legacy").mkdir()
    (tmp_path / "legacy/config.json").write_text(json.dumps(CONFIG))
    torch.save(state, tmp_path / "legacy/pytorch_model.bin", _use_new_zipfile_serialization=False)
    for folder in (*folders, tmp_path / "legacy"):
        model = BertModel.from_pretrained(folder)
        assert_holds(model, state)
        assert all(p.requires_grad for p in model.parameters()) and not model.training
    assert_holds(AutoModel.from_pretrained(tmp_path / "shards"), state)


def test_which_file_is_taken(tmp_path):
    state, other = weights(), {k: v + 1 for k, v in weights().items()}
    folder = folder_with(tmp_path, state)
    folder_with(tmp_path, other, name="pytorch_model.bin")
    folder_with(tmp_path, {k: v + 2 for k, v in state.items()}, name="model.fp16.safetensors")
    assert_holds(BertModel.from_pretrained(folder), state)
    assert_holds(BertModel.from_pretrained(folder, use_safetensors=True), state)
    assert_holds(BertModel.from_pretrained(folder, use_safetensors=False), other)
    assert_holds(BertModel.from_pretrained(folder, variant="fp16"), {k: v + 2 for k, v in state.items()})
    with pytest.raises(FileNotFoundError, match="no weights of variant 'fp8': looked for model.safetensors"):
        BertModel.from_pretrained(folder, variant="fp8")
    with pytest.raises(ValueError, match="variant must be a word"):
        BertModel.from_pretrained(folder, variant="../x")
    (folder / "model.safetensors").unlink()
    with pytest.raises(FileNotFoundError, match="looked for model.safetensors and .* there is config.json"):
        BertModel.from_pretrained(folder, use_safetensors=True)


def test_old_names_are_read(tmp_path):
    state = weights()
    old = {k.replace("LayerNorm.weight", "LayerNorm.gamma").replace("LayerNorm.bias", "LayerNorm.beta"): v
           for k, v in state.items()}  # fmt: skip
    assert old.keys() != state.keys()
    old["embeddings.position_ids"] = torch.arange(12)[None]
    model, info = BertModel.from_pretrained(folder_with(tmp_path, old), output_loading_info=True)
    assert_holds(model, state)
    assert info == {"missing_keys": set(), "unexpected_keys": set(), "mismatched_keys": set(), "error_msgs": []}


def test_base_into_head_and_head_into_base(tmp_path):
    base, head = weights(), weights(BertForMaskedLM)
    model, info = AutoModelForSequenceClassification.from_pretrained(
        folder_with(tmp_path / "base", base), output_loading_info=True
    )
    assert info["missing_keys"] == {"classifier.weight", "classifier.bias"} and not info["unexpected_keys"]
    assert_holds(model.bert, base)
    assert 0 < model.classifier.weight.std() < 0.1 and (model.classifier.bias == 0).all()
    model, info = BertModel.from_pretrained(folder_with(tmp_path / "head", head), output_loading_info=True)
    assert info["missing_keys"] == {"pooler.dense.weight", "pooler.dense.bias"}
    assert info["unexpected_keys"] == {name for name in head if name.startswith("cls.")}
    for name, tensor in model.state_dict().items():
        if not name.startswith("pooler"):
            assert torch.equal(tensor, head[f"bert.{name}"]), name


HEAD = "cls.predictions.decoder."


@pytest.mark.parametrize("absent", [("weight",), ("weight", "bias"), ()], ids=["weight", "both", "none"])
def test_a_tied_head_may_be_stored_or_not(absent, tmp_path):
    state = weights(BertForMaskedLM)
    stored = {k: v for k, v in state.items() if k not in {HEAD + name for name in absent}}
    model, info = BertForMaskedLM.from_pretrained(folder_with(tmp_path, stored), output_loading_info=True)
    assert not info["missing_keys"]
    assert_holds(model, state)
    assert model.cls.predictions.decoder.weight is model.bert.embeddings.word_embeddings.weight
    assert model.cls.predictions.decoder.bias is model.cls.predictions.bias
    model.save_pretrained(tmp_path / "again")
    assert load_file(tmp_path / "again/model.safetensors").keys() == state.keys() - {HEAD + "weight", HEAD + "bias"}


def test_a_different_head_stays_untied(tmp_path):
    state = weights(BertForMaskedLM)
    state[HEAD + "weight"] = state[HEAD + "weight"] * 2
    folder = folder_with(tmp_path / "a", state)
    for _ in range(2):
        model = BertForMaskedLM.from_pretrained(folder)
        assert_holds(model, state)
        model.tie_weights()
        assert model.cls.predictions.decoder.weight is not model.bert.embeddings.word_embeddings.weight
        folder = tmp_path / "b"
        model.save_pretrained(folder)
        assert HEAD + "weight" in load_file(folder / "model.safetensors")


def test_an_untied_head_is_written_under_every_name(tmp_path):
    model = BertForMaskedLM(BertConfig(**BERT, tie_word_embeddings=False))
    assert model.cls.predictions.decoder.bias is model.cls.predictions.bias
    model.save_pretrained(tmp_path)
    assert load_file(tmp_path / "model.safetensors").keys() == model.state_dict().keys()
    again = BertForMaskedLM.from_pretrained(tmp_path)
    assert_holds(again, model.state_dict())
    assert again.cls.predictions.decoder.bias is again.cls.predictions.bias


def test_parameters_that_share_memory_in_a_file_are_two(tmp_path):
    state = weights(BertForMaskedLM)  # its two matrices share memory, as torch.save keeps
    folder = folder_with(tmp_path, state, CONFIG | {"tie_word_embeddings": False}, "pytorch_model.bin")
    model = BertForMaskedLM.from_pretrained(folder)
    assert_holds(model, state)
    with torch.no_grad():
        model.cls.predictions.decoder.weight.zero_()
    assert model.bert.embeddings.word_embeddings.weight.abs().sum() > 0


def test_int8_rows(tmp_path):
    state = weights()
    folder = folder_with(tmp_path, state)
    store_int8_rows(state, folder / "model.safetensors")
    model = BertModel.from_pretrained(folder)
    for name, tensor in model.state_dict().items():
        step = state[name].abs().amax(-1, keepdim=True) / 127 if state[name].dim() > 1 else state[name].abs() / 2**10
        assert tensor.dtype == torch.float32 and ((tensor - state[name]).abs() <= step * 0.51).all(), name
    stored = load_file(folder / "model.safetensors")
    del stored["pooler.dense.weight.row_scale"]
    save_file(stored, folder / "model.safetensors", metadata=checkpoint.INT8_ROWS)
    with pytest.raises(ValueError, match="lacks the scales of its int8 tensors: pooler.dense.weight.row_scale"):
        BertModel.from_pretrained(folder)
    save_file(stored, folder / "model.safetensors")
    with pytest.raises(ValueError, match="as torch.int8; it is torch.float32 here. Quantised weights are not read"):
        BertModel.from_pretrained(folder)


def test_training_leaves_the_files_alone(tmp_path):
    folder = folder_with(tmp_path, weights())
    before = (folder / "model.safetensors").read_bytes()
    model = BertModel.from_pretrained(folder)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(1)
    assert (folder / "model.safetensors").read_bytes() == before


# ---- Bad files


def test_damaged_files_give_errors(tmp_path):
    folder = folder_with(tmp_path, weights())
    whole = (folder / "model.safetensors").read_bytes()
    header = int.from_bytes(whole[:8], "little")
    for cut in (0, 1, 7, 8, 9, header // 2, header + 7, header + 8, header + 9, len(whole) // 2, len(whole) - 1):
        (folder / "model.safetensors").write_bytes(whole[:cut])
        with pytest.raises(ValueError, match="model.safetensors is not a readable safetensors file .* Fetch it again"):
            BertModel.from_pretrained(folder)
    (folder / "model.safetensors").write_bytes(whole + b"more")
    with pytest.raises(ValueError, match="not a readable safetensors file"):
        BertModel.from_pretrained(folder)


ONE = {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}
LYING = {
    "length over the file": (ONE, bytes(8), 10**6),
    "length over memory": (ONE, bytes(8), 2**63),
    "overlap": ({"a": ONE, "b": ONE | {"data_offsets": [4, 12]}}, bytes(12), None),
    "gap": ({"a": ONE, "b": ONE | {"data_offsets": [12, 20]}}, bytes(20), None),
    "backwards": ({"a": ONE | {"data_offsets": [8, 0]}}, bytes(8), None),
    "outside": ({"a": ONE | {"data_offsets": [0, 80]}}, bytes(8), None),
    "too small for its type": ({"a": ONE | {"dtype": "F64"}}, bytes(8), None),
    "unknown type": ({"a": ONE | {"dtype": "F128"}}, bytes(8), None),
    "float8": ({"a": ONE | {"dtype": "F8_E4M3", "shape": [8]}}, bytes(8), None),
    "negative": ({"a": ONE | {"shape": [-2]}}, bytes(8), None),
    "huge": ({"a": ONE | {"shape": [2**62, 2**62]}}, bytes(8), None),
    "text as shape": ({"a": ONE | {"shape": "2"}}, bytes(8), None),
    "not JSON": (b"{not json}", b"", None),
    "a list": (b"[]", b"", None),
    "deep": (b"[" * 100_000, b"", None),
    "twice": (b'{"a":%s,"a":%s}' % ((json.dumps(ONE).encode(),) * 2), bytes(8), None),
}


@pytest.mark.parametrize("kind", LYING)
def test_a_lying_header(kind, tmp_path):
    header, data, length = LYING[kind]
    folder = raw(tmp_path, header, data, length)
    started = time.perf_counter()
    with pytest.raises(ValueError, match=r"model\.safetensors (is not a readable|holds tensors of type)"):
        BertModel.from_pretrained(folder)
    assert time.perf_counter() - started < 1


def test_shapes_that_do_not_fit_are_listed_together(tmp_path):
    state = weights()
    state["pooler.dense.bias"] = torch.zeros(3)
    state["embeddings.word_embeddings.weight"] = torch.zeros(60, 16)
    folder = folder_with(tmp_path, state)
    with pytest.raises(ValueError, match=r"does not fit BertModel") as error:
        BertModel.from_pretrained(folder)
    assert "pooler.dense.bias: [3] in the checkpoint, [16] here" in str(error.value)
    assert "word_embeddings.weight: [60, 16] in the checkpoint, [61, 16] here" in str(error.value)
    model, info = BertModel.from_pretrained(folder, ignore_mismatched_sizes=True, output_loading_info=True)
    assert info["mismatched_keys"] == {
        ("pooler.dense.bias", (3,), (16,)),
        ("embeddings.word_embeddings.weight", (60, 16), (61, 16)),
    }
    assert model.embeddings.word_embeddings.weight.shape == (61, 16)
    assert torch.equal(model.pooler.dense.weight, state["pooler.dense.weight"]), "its neighbour stays"
    assert 0 < model.embeddings.word_embeddings.weight.std() < 0.1


def test_an_index_cannot_lead_out(tmp_path):
    state = weights()
    outside = folder_with(tmp_path / "outside", state) / "model.safetensors"
    bad = ("../outside/model.safetensors", str(outside), "..\\outside\\model.safetensors", "sub/model.safetensors",
           "C:model.safetensors", ".hidden.safetensors", "x\0.safetensors", "config.json", "model.pkl", "")  # fmt: skip
    for name in bad:
        folder = sharded(tmp_path / "in", state, weight_map={"pooler.dense.bias": name})
        with pytest.raises(ValueError, match=r"names the shard .*; (only plain file names|shards end in)"):
            BertModel.from_pretrained(folder)
    folder = sharded(tmp_path / "in", state, weight_map={"pooler.dense.bias": "linked.safetensors"})
    (folder / "linked.safetensors").symlink_to(outside)
    with pytest.raises(ValueError, match="leads outside the model folder"):
        BertModel.from_pretrained(folder)


def test_an_index_and_its_shards_must_agree(tmp_path):
    state = weights()
    folder = sharded(tmp_path / "a", state)
    (folder / "model-00002-of-00003.safetensors").unlink()
    with pytest.raises(FileNotFoundError, match="model-00002-of-00003.safetensors is missing"):
        BertModel.from_pretrained(folder)
    # a head would be drawn anew: here it was promised
    folder = sharded(tmp_path / "b", state, weight_map={"classifier.weight": "model-00001-of-00003.safetensors"})
    with pytest.raises(ValueError, match="names 1 tensors that no shard holds: 'classifier.weight'"):
        AutoModelForSequenceClassification.from_pretrained(folder)
    folder = sharded(tmp_path / "c", state)
    save_file({"pooler.dense.bias": torch.zeros(16)}, folder / "extra.safetensors")
    index = json.loads((folder / "model.safetensors.index.json").read_text())
    index["weight_map"]["x"] = "extra.safetensors"
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    with pytest.raises(ValueError, match="'pooler.dense.bias' stands in two shards, .* and extra.safetensors"):
        BertModel.from_pretrained(folder)


@pytest.mark.parametrize(
    "text",
    ["", "{", "[]", "3", "{}", '{"weight_map": 3}', '{"weight_map": {}}', '{"weight_map": {"a": 3}}',
     '{"weight_map": ["a"]}', '{"weight_map": null}', "[" * 100_000],
    ids=range(11),
)  # fmt: skip
def test_an_index_that_is_none(text, tmp_path):
    folder = sharded(tmp_path, weights())
    (folder / "model.safetensors.index.json").write_text(text)
    with pytest.raises(ValueError, match=r"model.safetensors.index.json is not an index of shards"):
        BertModel.from_pretrained(folder)


class Evil:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return (Path.touch, (self.path,))


class EvilCall:
    def __init__(self, function, *arguments):
        self.what = function, arguments

    def __reduce__(self):
        return self.what


@pytest.mark.parametrize("new", [True, False], ids=["zip", "legacy"])
def test_a_pickle_runs_nothing(new, tmp_path):
    folder, target = folder_with(tmp_path / "a", weights()), tmp_path / "was-run"
    (folder / "model.safetensors").unlink()
    evils = (Evil(target), EvilCall(os.system, f"touch {target}"), EvilCall(eval, f"open({str(target)!r}, 'w')"))
    for evil in evils:
        for content in (evil, {"a": evil}, weights() | {"x": evil}):
            torch.save(content, folder / "pytorch_model.bin", _use_new_zipfile_serialization=new)
            with pytest.raises(ValueError, match="holds code or objects, which are never loaded here"):
                BertModel.from_pretrained(folder)
            (folder / "pytorch_model.bin").write_bytes(pickle.dumps(content))
            with pytest.raises(ValueError, match="pytorch_model.bin"):
                BertModel.from_pretrained(folder)
            assert not target.exists()


def test_a_pickle_of_other_things(tmp_path):
    folder = folder_with(tmp_path / "a", weights())
    (folder / "model.safetensors").unlink()
    sparse, meta = torch.eye(16).to_sparse(), torch.zeros(16, device="meta")
    for content, message in [
        ([1, 2], "holds a list"),
        (torch.zeros(3), "holds a Tensor"),
        ({"a": 3, "b": "text"}, r"holds more than plain tensors with names: 'a' \(int\), 'b' \(str\)"),
        ({3: torch.zeros(1)}, "more than plain tensors"),
        ({"model": {"a": torch.zeros(1)}}, r"'model' \(dict\)"),
        ({"a": sparse}, "more than plain tensors"),
        ({"a": meta}, "more than plain tensors|never loaded"),
    ]:
        torch.save(content, folder / "pytorch_model.bin")
        with pytest.raises(ValueError, match=message):
            BertModel.from_pretrained(folder)


@pytest.mark.parametrize("new", [True, False], ids=["zip", "legacy"])
def test_a_cut_pickle(new, tmp_path):
    folder = folder_with(tmp_path, weights())
    (folder / "model.safetensors").unlink()
    path = folder / "pytorch_model.bin"
    torch.save(weights(), path, _use_new_zipfile_serialization=new)
    whole = path.read_bytes()
    for cut in (0, 1, 10, 100, len(whole) // 2, len(whole) - 1000, len(whole) - 1):
        path.write_bytes(whole[:cut])
        with pytest.raises(ValueError, match="pytorch_model.bin could not be read as weights"):
            BertModel.from_pretrained(folder)


# ---- Writing


def test_sizes_are_read():
    assert [parse_size(x) for x in (7, "4KB", "5 GB", "1KiB", "2gib")] == [7, 4000, 5 * 10**9, 1024, 2 * 2**30]
    for bad in (0, -1, True, "", "5", "KB", "0KB", "1.5GB", "-1GB", None, 2.0):
        with pytest.raises(ValueError, match="max_shard_size must be"):
            parse_size(bad)


def named(labels, value):
    """A classifier whose labels tell its weights."""
    config = BertConfig(**BERT, id2label={i: f"{value}-{i}" for i in range(labels)})
    model = AutoModelForSequenceClassification.from_config(config)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.fill_(value)
    return model


def what_is_there(folder):
    """(the value of all weights, whether the config goes with it); an error when it is a mix."""
    model = AutoModelForSequenceClassification.from_pretrained(folder)
    values = {value.item() for p in model.parameters() for value in p.detach().unique()}
    assert len(values) == 1, f"a mix of weights: {values}"
    value = values.pop()
    assert {label.split("-")[0] for label in model.config.id2label.values()} == {str(int(value))}
    return int(value)


class Stop(BaseException):
    pass


@pytest.mark.parametrize("sizes", [("1GB", "1GB"), ("12KB", "12KB"), ("12KB", "1GB"), ("1GB", "12KB")], ids=str)
def test_a_save_stopped_at_any_step(sizes, tmp_path, monkeypatch):
    """Killed before the n-th call that changes the disk, for every n: the old model is there, or the new."""
    a, b = named(2, 1), named(3, 2)
    steps = [(os, "replace"), (os, "rename"), (os, "fsync"), (os, "chmod"), (Path, "unlink"), (Path, "mkdir"),
             (Path, "write_text"), (checkpoint.shutil, "rmtree"), (checkpoint, "save_file")]  # fmt: skip

    def stop_at(n, real, count):
        def step(*args, **keywords):
            count.append(1)
            if len(count) >= n:  # nothing works any more, as for a process that is gone
                raise Stop
            return real(*args, **keywords)

        return step

    seen, n = [], 0
    while True:
        n += 1
        folder = tmp_path / str(n)
        a.save_pretrained(folder, max_shard_size=sizes[0])
        count = []
        with monkeypatch.context() as patch:
            for owner, name in steps:
                patch.setattr(owner, name, stop_at(n, getattr(owner, name), count))
            try:
                b.save_pretrained(folder, max_shard_size=sizes[1])
                finished = True
            except Stop:
                finished = False
        seen.append(what_is_there(folder))
        if finished:
            break
        named(2, 3).save_pretrained(folder, max_shard_size=sizes[1])
        assert what_is_there(folder) == 3
        assert not [name for name in os.listdir(folder) if name.startswith(".")]
    assert n > 10 and seen == sorted(seen) and set(seen) == {1, 2}, seen


KILLED = """
import itertools, sys, torch
sys.path.insert(0, {tests!r})
torch.set_num_threads(1)
from test_checkpoint import named
models = named(2, 1), named(3, 2)
print("ready", flush=True)
for i in itertools.count():
    models[i % 2].save_pretrained({folder!r}, max_shard_size=("1GB", "8KB")[i // 2 % 2])
"""


def test_a_killed_save_leaves_old_or_new(tmp_path):
    random.seed(0)
    folder, seen = tmp_path / "model", collections.Counter()
    named(2, 1).save_pretrained(folder)
    code = textwrap.dedent(KILLED).format(tests=str(Path(__file__).parent), folder=str(folder))
    fork = f"""
import os, signal, sys
{code.split('print("ready"')[0]}
loop = {code.split("flush=True)")[1]!r}
for line in sys.stdin:  # a child per line, so that torch is imported once
    child = os.fork()
    if not child:
        exec(loop)
    print(child, flush=True)
    os.waitpid(child, 0)
    print("gone", flush=True)
"""
    command = [sys.executable, "-c", fork]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin is not None and process.stdout is not None
        for number in range(40):
            process.stdin.write("\n")
            process.stdin.flush()
            child = int(process.stdout.readline())
            slower = 1.05**number if len(seen) < 2 else 1  # a busy machine saves later
            time.sleep(random.uniform(0, 0.06 * slower))
            os.kill(child, signal.SIGKILL)
            assert process.stdout.readline().strip() == "gone"
            seen[what_is_there(folder)] += 1
        process.stdin.close()
        assert process.wait(20) == 0
    assert len(seen) == 2, seen


@pytest.mark.parametrize("where", ["save_file", "write_text", "fsync"])
def test_a_full_disk_leaves_the_old_model(where, tmp_path, monkeypatch):
    named(2, 1).save_pretrained(tmp_path)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    owner = {"save_file": checkpoint, "write_text": Path, "fsync": os}[where]
    real, count = getattr(owner, where), [0]

    def full(*args, **keywords):
        count[0] += 1
        if count[0] > 1:
            if where == "save_file":
                args[1].write_bytes(b"half")
            raise OSError(28, "No space left on device")
        return real(*args, **keywords)

    with monkeypatch.context() as patch:
        patch.setattr(owner, where, full)
        with pytest.raises(OSError, match="No space left.*what was there before is unchanged"):
            named(3, 2).save_pretrained(tmp_path, max_shard_size="4KB")
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_a_really_full_disk(tmp_path):
    if sys.platform != "linux" or os.geteuid() != 0:
        pytest.skip("only root may mount a small disk")
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", tmp_path], capture_output=True).returncode:
        pytest.skip("mounting is not allowed here")
    try:
        named(2, 1).save_pretrained(tmp_path)
        with pytest.raises(OSError, match="what was there before is unchanged"):
            named(3, 2).save_pretrained(tmp_path)
        assert what_is_there(tmp_path) == 1 and not (tmp_path / COMMIT_FOLDER).exists()
    finally:
        subprocess.run(["umount", "-l", tmp_path], check=True)


@pytest.mark.slow
def test_two_savers_do_not_mix(tmp_path):
    code = textwrap.dedent(KILLED).replace("itertools.count()", "range(6)").replace("i % 2]", "int(sys.argv[1])]")
    code = code.format(tests=str(Path(__file__).parent), folder=str(tmp_path))
    pair = [subprocess.Popen([sys.executable, "-c", code, str(i)], stdout=subprocess.DEVNULL) for i in range(2)]
    assert [process.wait(60) for process in pair] == [0, 0]
    assert what_is_there(tmp_path) in (1, 2)


def test_saved_files_may_be_read_by_whom_the_umask_allows(tmp_path):
    named(2, 1).save_pretrained(tmp_path, max_shard_size="8KB")
    modes = {path.stat().st_mode for path in tmp_path.iterdir()}
    (tmp_path / "plain").write_text("")
    assert modes == {(tmp_path / "plain").stat().st_mode}
