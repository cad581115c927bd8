"""Ejected files: alone they give the numbers that the package gives, to the last bit."""

import ast
import copy
import importlib.util
import inspect
import json
import os
import pickle
import shutil
import subprocess
import sys
import warnings
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from zoo import CASES, ROWS, config_for, draw, draw_weight, flatten_outputs, make_inputs

import plainformers
from plainformers import auto, standalone
from plainformers.checkpoint import store_int8_rows
from plainformers.eject import eject, write
from plainformers.model import Model
from plainformers.registry import MODELS, Entry

ROOT = Path(__file__).parent.parent
EVERY = pytest.mark.parametrize(("row", "head"), CASES, ids=[f"{row.name}-{head}" for row, head in CASES])
EACH = pytest.mark.parametrize("model_type", sorted(MODELS))
LABELS = ("labels", "next_sentence_label", "start_positions", "end_positions")
PER_TOKEN = ("input_ids", "attention_mask", "token_type_ids")
TINY = {"vocab_size": 19, "hidden_size": 8, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 12}


def ours(model_type: str) -> dict:
    """The names of a model file of the package."""
    return vars(auto.model_module(MODELS[model_type]))


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """model type -> its ejected file."""
    folder = tmp_path_factory.mktemp("ejected")
    for model_type in MODELS:
        write(model_type, folder / f"my_{model_type}.py")
    return {model_type: folder / f"my_{model_type}.py" for model_type in MODELS}


@pytest.fixture(scope="module")
def bert(files):
    """The ejected file of BERT, imported here."""
    spec = importlib.util.spec_from_file_location("my_bert", files["bert"])
    module = sys.modules["my_bert"] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    yield module
    del sys.modules["my_bert"]


# ---- The file


@EACH
def test_an_ejected_file_is_little_more_than_the_model_file(model_type, files):
    text = files[model_type].read_text(encoding="utf-8")
    source = Path(inspect.getsourcefile(auto.model_module(MODELS[model_type]))).read_text(encoding="utf-8")
    assert len(text.splitlines()) <= len(source.splitlines()) + 450
    assert text == eject(model_type)
    first, docstring = text.splitlines()[0], source[: source.index('"""', 3) + 3]
    assert first == f"# Ejected from plainformers {plainformers.__version__}: src/plainformers/models/{model_type}.py"
    assert text.lower().count("plainformers") == first.count("plainformers") == 2
    assert text.startswith(f"{first}\n{docstring}\n\nimport ")
    after_imports = source[source.index("\n# ---- Configuration\n") :]
    assert text.endswith(after_imports) and text.count("\n# ---- ") == after_imports.count("\n# ---- ") + 1
    assert text.index("\n# ---- What the model stands on\n") < text.index("\n# ---- Configuration\n")


@EACH
def test_it_imports_torch_and_safetensors_only(model_type, files):
    tree = ast.parse(files[model_type].read_text(encoding="utf-8"))
    found, merged = [], []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert not node.level
            merged.append(node.module)
    assert len(merged) == len(set(merged))
    found += merged
    assert {name.split(".")[0] for name in found} - set(sys.stdlib_module_names) == {"torch", "safetensors"}


@EACH
def test_all_of_it_is_reached_and_stands_once(model_type, files):
    text = files[model_type].read_text(encoding="utf-8")
    begin = text[: text.index("\n# ---- Configuration\n")].count("\n")
    uses, made = {}, []
    reached = set()
    for node in ast.parse(text).body[1:]:
        if isinstance(node, (ast.Import, ast.ImportFrom)):
            names = [alias.asname or alias.name for alias in node.names]
        elif isinstance(node, (ast.FunctionDef, ast.ClassDef)):
            names = [node.name]
        else:
            names = [node.target.id] if isinstance(node, ast.AnnAssign) else [target.id for target in node.targets]
        made += names
        uses |= dict.fromkeys(names, {part.id for part in ast.walk(node) if isinstance(part, ast.Name)})
        reached |= set(names) if node.lineno > begin else set()
    assert len(made) == len(set(made))
    while more := {name for one in reached for name in uses.get(one, ())} - reached:
        reached |= more
    assert set(made) <= reached


@EACH
def test_it_is_formatted_and_linted_as_the_package_is(model_type, files):
    done = subprocess.run([sys.executable, "-W", "error", "-m", "py_compile", files[model_type]], timeout=60)
    assert done.returncode == 0
    ruff = shutil.which("ruff", path=str(Path(sys.executable).parent))
    for command in (["format", "--check"], ["check"]) if ruff else ():
        settings = ["--no-cache", "--config", ROOT / "pyproject.toml"]
        done = subprocess.run([ruff, *command, *settings, files[model_type]], capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr


def test_the_base_of_the_models_is_a_page():
    assert len(inspect.getsource(standalone.Model).splitlines()) <= 66


@EACH
def test_the_stand_in_has_all_that_the_families_set(model_type):
    """What a model file says of itself must not fall on deaf ears."""
    for kind in ours(model_type)["HEADS"].values():
        for part in kind.__mro__[: kind.__mro__.index(Model)]:
            told = {name for name, value in vars(part).items() if not callable(value) and not name.startswith("_")}
            assert {name for name in told if hasattr(Model, name)} <= set(dir(standalone.Model)), part


def test_unknown_model_types():
    with pytest.raises(ValueError, match=r"no model type 'brt'. Did you mean 'bert'\? There are bert, distilbert"):
        eject("brt")


def test_models_of_others_are_not_ejected(monkeypatch):
    monkeypatch.setitem(MODELS, "mine", Entry("somewhere.else", "MyConfig", {}))
    with pytest.raises(ValueError, match=r"'mine' stands in the module somewhere\.else"):
        eject("mine")


def test_writing_replaces_nothing_unasked(tmp_path, monkeypatch):
    path = tmp_path / "my_bert.py"
    path.write_text("mine = 1\n")
    with pytest.raises(FileExistsError, match=r"my_bert\.py is there already; force=True"):
        write("bert", path)
    with pytest.raises(FileNotFoundError, match="There is no folder .*absent; make it first"):
        write("bert", tmp_path / "absent" / "my_bert.py")
    for place in (tmp_path, Path(os.devnull)):
        with pytest.raises(FileExistsError, match="is no file"):
            write("bert", place, force=True)
    with monkeypatch.context() as patch:

        def full(*arguments):
            raise OSError("the disk is full")

        patch.setattr(os, "replace", full)
        with pytest.raises(OSError, match="full"):
            write("bert", path, force=True)
    assert path.read_text() == "mine = 1\n" and list(tmp_path.iterdir()) == [path]
    write("bert", str(path), force=True)
    assert path.read_text(encoding="utf-8") == eject("bert") and list(tmp_path.iterdir()) == [path]


# ---- The numbers


def answer(names, case):
    """{name: tensor} of all that a model says to the variants of a case; runs here and in an isolated interpreter."""
    import torch
    from safetensors.torch import load_file

    def flatten(out):
        for name, value in out.items():
            if name == "past_key_values":
                layers = (
                    value.layers.values() if hasattr(value, "layers") else zip(value.keys, value.values, strict=True)
                )
                pairs = [*layers, *value.cross.values()]
                yield from ((f"cache.{i}.{j}", tensor) for i, pair in enumerate(pairs) for j, tensor in enumerate(pair))
            elif isinstance(value, tuple):
                yield from ((f"{name}.{i}", tensor) for i, tensor in enumerate(value))
            else:
                yield name, value
        if getattr(out, "loss_count", None) is not None:
            yield "loss_count", out.loss_count

    given = load_file(case["inputs"])
    answers = {}
    for variant, settings in case["variants"].items():
        model = names[case["kind"]].from_pretrained(case["folder"])
        assert not model.training
        model.config.attn_implementation = settings["kernel"]
        inputs = {name.partition("/")[2]: value for name, value in given.items() if name.split("/")[0] == variant}
        if "lengths" in settings:
            inputs["attention_mask"] = names["Packed"](tuple(settings["lengths"]))
        inputs |= settings.get("flags", {})
        torch.manual_seed(0)
        if settings.get("train"):
            model.train()
            if settings.get("checkpointing"):
                model.gradient_checkpointing_enable()
            out = model(**inputs)
            out.loss.backward()
            gradients = {f"gradient.{n}": p.grad for n, p in model.named_parameters() if p.grad is not None}
            found = [*flatten(out), *gradients.items()]
        else:
            with torch.no_grad():
                found = []
                cache = None
                for i, (start, end) in enumerate(settings.get("steps", [(0, None)])):
                    part = dict(inputs)
                    if "steps" in settings:
                        part |= {n: v[:, start:end] for n, v in inputs.items() if n in ("input_ids", "token_type_ids")}
                        part |= {"attention_mask": inputs["attention_mask"][:, :end], "past_key_values": cache}
                    out = model(**part)
                    cache = getattr(out, "past_key_values", None)
                    found += [(f"{i}.{name}", value) for name, value in flatten(out)]
        answers |= {f"{variant}/{name}": value.detach().clone().contiguous() for name, value in found}
    return answers


# runs in an interpreter that has nothing but torch, what torch needs, and safetensors
ALONE = """
import sys

allowed = {"torch", "torchgen", "functorch", "safetensors", "packaging", "typing_extensions", "numpy", "sympy",
    "mpmath", "networkx", "jinja2", "markupsafe", "filelock", "fsspec"} | set(sys.stdlib_module_names)

class Blocker:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] not in allowed:
            raise ImportError(f"{name} is not here")

file, cases = sys.argv[1:]
allowed.add(file.rpartition("/")[2].removesuffix(".py"))
sys.meta_path.insert(0, Blocker())
before = set(sys.modules)
sys.path.insert(0, file.rpartition("/")[0])
import importlib, json
from safetensors.torch import save_file
names = vars(importlib.import_module(file.rpartition("/")[2].removesuffix(".py")))
for case in json.load(open(cases)):
    save_file(answer(names, case), case["answers"])
new = {name.partition(".")[0] for name in set(sys.modules) - before}
print(sorted(new - allowed))
for name in ("plainformers", "transformers", "tokenizers", "huggingface_hub"):
    try:
        importlib.import_module(name)
    except ImportError:
        print(name, "is not here")
"""


def turn(inputs):
    """The same batch, padded on the left."""
    mask = inputs["attention_mask"]
    turned = dict(inputs)
    for name in PER_TOKEN & inputs.keys():
        pairs = zip(inputs[name].flatten(0, -2), mask.flatten(0, -2).sum(-1), strict=True)
        turned[name] = torch.stack([one.roll(int(mask.shape[-1] - n)) for one, n in pairs]).view(mask.shape)
    return turned


def make_case(row, head, folder):
    """Saves our model and its inputs; the variants that both are asked."""
    kind = ours(row.model_type)["HEADS"][head]
    with torch.device("meta"):
        empty = kind(kind.config_class(**config_for(row, head)))
    state = {name: draw_weight(name, tuple(value.shape)) for name, value in empty.state_dict().items()}
    if row.config.get("tie_word_embeddings", True):
        for group in [names for names in tied(empty) if len(names) > 1]:
            state |= dict.fromkeys(group, state[group[0]])
    kind.from_pretrained(None, config=empty.config, state_dict=state).save_pretrained(folder)

    full = make_inputs(row, head)
    plain = {name: value for name, value in full.items() if name not in LABELS}
    bare = {name: value for name, value in plain.items() if name != "attention_mask"}
    shown = {"output_hidden_states": True, "output_attentions": True}
    variants = {
        "right": (full, {"kernel": "sdpa", "flags": {"output_hidden_states": True}}),
        "right-eager": (full, {"kernel": "eager", "flags": shown}),
        "left": (turn(plain), {"kernel": "sdpa", "flags": shown}),
        "left-fast": (turn(plain), {"kernel": "sdpa"}),
        "left-eager": (turn(plain), {"kernel": "eager"}),
        "no-mask": (bare, {"kernel": "sdpa"}),
    }
    if head == row.heads[0]:
        L, H = (2, 4)
        heads = {"head_mask": draw("heads", (L, H)) + 1}
        for kernel in ("sdpa", "eager"):
            variants[f"head-mask-{kernel}"] = plain | heads, {"kernel": kernel}
        if head == "base":
            T = plain["input_ids"].shape[1]
            square = draw("square", (3, T, T)) + torch.eye(T) > 0
            for name, mask in {"3-D": square, "4-D": square[:, None], "float": draw("added", (3, 1, T, T))}.items():
                for kernel in ("sdpa", "eager"):
                    variants[f"{name}-{kernel}"] = plain | {"attention_mask": mask}, {"kernel": kernel}
            embedded = {name: value for name, value in plain.items() if name != "input_ids"}
            C = row.config.get("hidden_size") or row.config["dim"]
            variants["embedded"] = embedded | {"inputs_embeds": draw("embedded", (3, T, C))}, {"kernel": "sdpa"}
    if head == next((one for one in row.heads if one != "base"), None):
        variants["train"] = full, {"kernel": "sdpa", "train": True}
        variants["train-eager"] = full, {"kernel": "eager", "train": True}
        variants["checkpointing"] = full, {"kernel": "sdpa", "train": True, "checkpointing": True}
    if row.decoder:
        steps = {"steps": [(0, 3), (3, 4), (4, 6)], "flags": {"use_cache": True}}
        for kernel in ("sdpa", "eager"):
            variants[f"steps-{kernel}"] = turn(plain), {"kernel": kernel} | steps
    if not row.cross and head != "multiple-choice":
        real = plain["attention_mask"].bool()
        packed = {name: value[real][None] for name, value in bare.items()}
        flags = {"use_cache": False} if row.decoder else {}
        for kernel in ("sdpa", "eager"):
            settings = {"kernel": kernel, "lengths": real.sum(-1).tolist(), "flags": flags}
            variants[f"packed-{kernel}"] = packed, settings
    tensors = {
        f"{variant}/{name}": value for variant, (inputs, _) in variants.items() for name, value in inputs.items()
    }
    save_file({name: value.clone() for name, value in tensors.items()}, folder / "inputs")
    return {
        "kind": kind.__name__,
        "folder": str(folder),
        "inputs": str(folder / "inputs"),
        "answers": str(folder / "answers"),
        "variants": {variant: settings for variant, (_, settings) in variants.items()},
    }


def tied(model):
    """The names of each parameter."""
    groups = {}
    for name, parameter in model.named_parameters(remove_duplicate=False):
        groups.setdefault(id(parameter), []).append(name)
    return groups.values()


@pytest.fixture(scope="module")
def cases(files, tmp_path_factory):
    """(row, head) -> its case, whose answers an isolated interpreter has written; one interpreter per model type."""
    folder, cases = tmp_path_factory.mktemp("cases"), {}
    runs = []
    for model_type, file in files.items():
        own = [(row, head) for row, head in CASES if row.model_type == model_type]
        cases |= {(row.name, head): make_case(row, head, folder / f"{row.name}-{head}") for row, head in own}
        listed = folder / f"{model_type}.json"
        listed.write_text(json.dumps([cases[row.name, head] for row, head in own]))
        command = [sys.executable, "-I", "-W", "error", "-c", inspect.getsource(answer) + ALONE, file, listed]
        runs.append(subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True))
    for run in runs:
        out, error = run.communicate(timeout=120)
        assert run.returncode == 0, error
        first, *others = out.splitlines()
        assert first == "[]" and len(others) == 4 and all(line.endswith("is not here") for line in others), out
    return cases


@EVERY
def test_alone_it_gives_the_same_bits(row, head, cases):
    case = cases[row.name, head]
    want, got = answer(ours(row.model_type), case), load_file(case["answers"])
    assert want.keys() == got.keys()
    assert {name.split("/")[0] for name in want} == case["variants"].keys()
    for name, value in want.items():
        if name.startswith("packed-sdpa"):  # another kernel than ours
            torch.testing.assert_close(got[name], value, atol=1e-5, rtol=1e-5, msg=lambda m, name=name: f"{name}: {m}")
        else:
            assert torch.equal(got[name], value), f"{name}: {(got[name] - value).abs().max()}"


def test_the_variants_show_something(cases):
    """The comparison above would be worth little if masks, kernels and heads made no difference."""
    found = load_file(cases["bert-decoder", "base"]["answers"])
    states = {name.split("/")[0]: value for name, value in found.items() if name.endswith("/0.last_hidden_state")}
    for one, other in (
        ("left", "no-mask"),
        ("3-D-sdpa", "no-mask"),
        ("float-sdpa", "4-D-sdpa"),
        ("3-D-eager", "right"),
    ):
        assert not torch.allclose(states[one], states[other], atol=1e-3), (one, other)
    assert found["steps-sdpa/2.cache.1.1"].shape == (3, 4, 6, 4)
    assert found["right-eager/0.attentions.1"].shape == (3, 4, 6, 6)
    gradients = load_file(cases["bert", "pretraining"]["answers"])
    name = "bert.encoder.layer.1.attention.self.query.weight"
    assert torch.equal(gradients[f"train/gradient.{name}"], gradients[f"checkpointing/gradient.{name}"])
    assert not torch.equal(gradients[f"train/gradient.{name}"], gradients[f"train-eager/gradient.{name}"])
    assert {row.name for row in ROWS} == {name for name, _ in cases}
