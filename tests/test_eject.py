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
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from zoo import (
    CASES,
    CHOICES,
    GENERATED,
    GENERATIONS,
    ROWS,
    SECOND,
    config_for,
    draw,
    draw_weight,
    flatten_outputs,
    make_inputs,
    make_prompts,
    turn,
)

import plainformers
from plainformers import auto, standalone
from plainformers.checkpoint import store_int8_rows
from plainformers.eject import eject, write
from plainformers.model import Model
from plainformers.registry import MODELS, Entry

pytestmark = pytest.mark.xdist_group("eject")  # in one process: ejecting and answering is done once
ROOT = Path(__file__).parent.parent
EVERY = pytest.mark.parametrize(("row", "head"), CASES, ids=[f"{row.name}-{head}" for row, head in CASES])
EACH = pytest.mark.parametrize("model_type", sorted(MODELS))
LABELS = ("labels", "mc_labels", *SECOND.values(), "start_positions", "end_positions", "cls_index", "is_impossible")
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
def modules(files):
    """model type -> its ejected file, imported here."""
    found = {}
    for model_type, path in files.items():
        spec = importlib.util.spec_from_file_location(path.stem, path)
        found[model_type] = sys.modules[path.stem] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(found[model_type])
    yield found
    for path in files.values():
        del sys.modules[path.stem]


@pytest.fixture
def bert(modules):
    return modules["bert"]


# ---- The file


@EACH
def test_an_ejected_file_is_little_more_than_the_model_file(model_type, files):
    text = files[model_type].read_text(encoding="utf-8")
    source = Path(inspect.getsourcefile(auto.model_module(MODELS[model_type]))).read_text(encoding="utf-8")
    # biases of attention, rotary positions and writing on take more
    parts = {"def varlen_attention": 200, "def make_rotary": 200, "def generate": 110, "def vocabulary_loss": 8}
    most = 485 + sum(lines for part, lines in parts.items() if part in text)
    assert len(text.splitlines()) <= len(source.splitlines()) + most
    assert text == eject(model_type)
    first, docstring = text.splitlines()[0], source[: source.index('"""', 3) + 3]
    place = f"src/plainformers/models/{MODELS[model_type].file}.py"
    assert first == f"# Ejected from plainformers {plainformers.__version__}: {place}"
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
    for kind in map(ours(model_type).get, MODELS[model_type].heads.values()):
        for part in kind.__mro__[: kind.__mro__.index(Model)]:
            told = {name for name, value in vars(part).items() if not callable(value) and not name.startswith("_")}
            assert {name for name in told if hasattr(Model, name)} <= set(dir(standalone.Model)), part


def test_unknown_model_types():
    with pytest.raises(
        ValueError, match=r"no model type 'brt'. Did you mean 'bert'\? There are .*bert, camembert, .*distilbert"
    ):
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
                layers = value.layers.values()
                # ours keeps keys in buffers with room for more
                pairs = [tuple(getattr(x, "seen", x) for x in pair) for pair in [*layers, *value.cross.values()]]
                yield from ((f"cache.{i}.{j}", tensor) for i, pair in enumerate(pairs) for j, tensor in enumerate(pair))
            elif isinstance(value, tuple):
                for i, part in enumerate(value):  # of two streams, attentions are pairs
                    parts = part if isinstance(part, tuple) else (part,)
                    yield from ((f"{name}.{i}.{j}", tensor) for j, tensor in enumerate(parts))
            else:
                yield name, value
        if getattr(out, "loss_count", None) is not None:
            yield "loss_count", out.loss_count

    kind = names[case["kind"]]
    given, answers, loaded = load_file(case["inputs"]), {}, kind.from_pretrained(case["folder"])
    assert not loaded.training
    for variant, settings in case["variants"].items():
        model = kind.from_pretrained(case["folder"]) if settings.get("train") else loaded
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
from importlib.machinery import BuiltinImporter, FrozenImporter, PathFinder

allowed = {"torch", "torchgen", "functorch", "safetensors", "packaging", "typing_extensions", "numpy", "sympy",
    "mpmath", "networkx", "jinja2", "markupsafe", "filelock", "fsspec"} | set(sys.stdlib_module_names)

module = None  # the ejected file's

class Finder(PathFinder):  # nothing else that stands in this environment can be found
    @classmethod
    def find_spec(cls, name, path=None, target=None):
        first = name.partition(".")[0]
        there = first in allowed or first == module or first.startswith("_sysconfigdata")
        return super().find_spec(name, path, target) if there else None

sys.meta_path = [BuiltinImporter, FrozenImporter, Finder]
import importlib, json
from safetensors.torch import save_file
for file, cases in json.load(open(sys.argv[1])).items():
    folder, _, module = file.removesuffix(".py").rpartition("/")
    sys.path.insert(0, folder)
    names = vars(importlib.import_module(module))
    for case in cases:
        save_file(answer(names, case), case["answers"])
    del sys.path[0], sys.modules[module]  # no file may lean on the one before
for name in ("plainformers", "transformers", "tokenizers", "huggingface_hub"):
    try:
        importlib.import_module(name)
    except ImportError:
        print(name, "is not here")
"""


def make_case(row, head, folder):
    """Saves our model and its inputs; the variants that both are asked."""
    kind = ours(row.model_type)[MODELS[row.model_type].heads[head]]
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
        H = next(row.config[name] for name in ("num_attention_heads", "n_head", "n_heads") if name in row.config)
        heads = {"head_mask": draw("heads", (2, H)) + 1}
        for kernel in ("sdpa", "eager") if "head_mask" in inspect.signature(kind.forward).parameters else ():
            variants[f"head-mask-{kernel}"] = plain | heads, {"kernel": kernel}
        if head == "base" and not {"mems", "perm_mask"} & {*row.extra}:  # they go with a mask of tokens
            T = plain["input_ids"].shape[1]
            square = draw("square", (3, T, T)) + torch.eye(T) > 0
            for name, mask in {"3-D": square, "4-D": square[:, None], "float": draw("added", (3, 1, T, T))}.items():
                for kernel in ("sdpa", "eager"):
                    variants[f"{name}-{kernel}"] = plain | {"attention_mask": mask}, {"kernel": kernel}
            embedded = {name: value for name, value in plain.items() if name != "input_ids"}
            names = ("embedding_size", "word_embed_proj_dim", "hidden_size", "dim", "d_model", "n_embd")
            C = next(row.config[name] for name in names if name in row.config)
            variants["embedded"] = embedded | {"inputs_embeds": draw("embedded", (3, T, C))}, {"kernel": "sdpa"}
    if row.labelled and head == next((one for one in row.heads if one != "base"), None):
        variants["train"] = full, {"kernel": "sdpa", "train": True}
        variants["train-eager"] = full, {"kernel": "eager", "train": True}
        variants["checkpointing"] = full, {"kernel": "sdpa", "train": True, "checkpointing": True}
    cached = row.decoder and head in ("base", "causal-lm")
    if cached:
        steps = {"steps": [(0, 3), (3, 4), (4, 6)], "flags": {"use_cache": True}}
        for kernel in ("sdpa", "eager"):
            variants[f"steps-{kernel}"] = turn(plain), {"kernel": kernel} | steps
    if kind.accepts_packed and not row.cross and head not in CHOICES:
        real = plain["attention_mask"].bool()
        packed = {name: value[real][None] for name, value in bare.items()}
        flags = {"use_cache": False} if cached else {}
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
    """(row, head) -> its case, whose answers one isolated interpreter has written, told of one file at a time."""
    folder = tmp_path_factory.mktemp("cases")
    cases = {(row.name, head): make_case(row, head, folder / f"{row.name}-{head}") for row, head in CASES}
    of_file = {str(file): [] for file in files.values()}
    for row, head in CASES:
        of_file[str(files[row.model_type])].append(cases[row.name, head])
    listed = folder / "cases.json"
    listed.write_text(json.dumps(of_file))
    command = [sys.executable, "-I", "-W", "error", "-c", inspect.getsource(answer) + ALONE, listed]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("is not here") == 4
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
            if ".cache." in name:  # ours may hold more than a window
                value = value[:, :, -got[name].shape[2] :]
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
    assert found["right-eager/0.attentions.1.0"].shape == (3, 4, 6, 6)
    gradients = load_file(cases["bert", "pretraining"]["answers"])
    name = "bert.encoder.layer.1.attention.self.query.weight"
    assert torch.equal(gradients[f"train/gradient.{name}"], gradients[f"checkpointing/gradient.{name}"])
    assert not torch.equal(gradients[f"train/gradient.{name}"], gradients[f"train-eager/gradient.{name}"])
    assert {row.name for row in ROWS} == {name for name, _ in cases}


# ---- Writing on

WRITERS = [
    row for row in GENERATED if hasattr(ours(row.model_type)[MODELS[row.model_type].heads["causal-lm"]], "generate")
]


@pytest.mark.parametrize("row", WRITERS, ids=lambda row: row.name)
def test_it_writes_what_the_reference_writes(row, cases, modules):
    """Greedily and by drawing; prompts are padded on the left."""
    case = cases[row.name, "causal-lm"]
    twin = vars(modules[row.model_type])[case["kind"]].from_pretrained(case["folder"])
    expected = load_file(ROOT / "tests" / "models" / "golden" / f"{row.name}.safetensors")
    for how in ("greedy", "sample"):
        torch.manual_seed(0)
        ids = twin.generate(**make_prompts(row), max_new_tokens=6, **GENERATIONS[how])
        assert ids.tolist() == expected[f"causal-lm/generate.{how}"].tolist()


@pytest.fixture
def writers(modules, tmp_path):
    """Our GPT-2 and its twin, which end texts by a file's word."""
    torch.manual_seed(5)
    config = plainformers.GPT2Config(
        vocab_size=19, n_embd=8, n_layer=2, n_head=2, n_positions=40, initializer_range=0.6
    )
    plainformers.GPT2LMHeadModel(config).save_pretrained(tmp_path)
    words = {"eos_token_id": [3, 17], "pad_token_id": 1, "max_length": 30, "top_k": 7, "transformers_version": "4.40.0"}
    (tmp_path / "generation_config.json").write_text(json.dumps(words))
    return plainformers.GPT2LMHeadModel.from_pretrained(tmp_path), modules["gpt2"].GPT2LMHeadModel.from_pretrained(
        tmp_path
    )


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"max_length": 9},
        {"max_new_tokens": 25, "eos_token_id": None, "max_length": None},
        {"repetition_penalty": 1.7, "max_new_tokens": 20},
        {"do_sample": True},
        {"do_sample": True, "top_k": 0, "top_p": 0.6, "temperature": 2.0, "eos_token_id": 4},
        {"do_sample": True, "top_k": None, "repetition_penalty": 0.5},
    ],
    ids=str,
)
def test_settings_of_generate(settings, writers):
    model, twin = writers
    prompts = torch.tensor([[1, 1, 5, 6, 7], [1, 8, 9, 10, 11], [4, 6, 8, 9, 12]])  # 1 is padding
    written = []
    for one in (model, twin):
        torch.manual_seed(1)
        written.append(one.generate(prompts, **settings).tolist())
    assert written[0] == written[1] and len(written[0][0]) > 5


def test_what_generate_refuses(writers, tmp_path):
    _, twin = writers
    ids = torch.tensor([[5, 6, 7]])
    with pytest.raises(TypeError, match="no setting num_beams; there are do_sample, .*max_length"):
        twin.generate(ids, num_beams=2)
    with pytest.raises(ValueError, match=r"end in real tokens, and sooner than after max_length \(3\); they have 3"):
        twin.generate(ids, max_length=3)
    with pytest.raises(ValueError, match="Prompts must end in real tokens"):
        twin.generate(ids, torch.tensor([[1, 1, 0]]))
    twin.generation_config["num_beams"] = 4
    with pytest.warns(UserWarning, match=r"generation_config\.json sets num_beams; that is not done here"):
        assert twin.generate(ids, max_new_tokens=1).shape == (1, 4)
    twin.save_pretrained(tmp_path / "again")
    assert type(twin).from_pretrained(tmp_path / "again").generation_config == twin.generation_config


def test_rotary_settings_stand_in_two_places(modules, tmp_path):
    """A config read from either spelling says one thing, and says it after a change."""
    llama = modules["llama"]
    tiny = {"model_type": "llama", "hidden_size": 32, "num_attention_heads": 4, "num_hidden_layers": 1}
    for file in ({"rope_theta": 500.0, "rope_scaling": None}, {"rope_parameters": {"rope_theta": 500.0}}):
        (tmp_path / "config.json").write_text(json.dumps(tiny | file))
        config = llama.LlamaConfig.from_pretrained(tmp_path)
        assert config.rope_theta == config.rope_parameters["rope_theta"] == 500.0
        assert config.head_dim == 8 and config.num_key_value_heads == 4
        config.rope_theta = 30.0
        assert config.rope_parameters == {"rope_type": "default", "rope_theta": 30.0}
        config.rope_scaling = {"rope_theta": 20.0, "rope_type": "linear", "factor": 2.0}
        assert config.rope_theta == 20.0 and config.to_dict()["rope_parameters"]["factor"] == 2.0
    assert llama.LlamaConfig(hidden_size=64, num_attention_heads=4).head_dim == 16


# ---- Loading and saving


def drawn(bert, name="BertForSequenceClassification", **fields):
    """One of our models with drawn weights, its twin of the ejected file, and inputs."""
    config = TINY | {"max_position_embeddings": 9} | fields
    torch.manual_seed(3)
    model = ours("bert")[name](plainformers.BertConfig(**config)).eval()
    return model, getattr(bert, name), {"input_ids": torch.tensor([[2, 3, 4, 5], [6, 7, 0, 0]])}


@torch.no_grad()
def same(model, twin, inputs):
    """Whether two models have the same weights and say the same."""
    mine, other = model.state_dict(), twin.state_dict()
    assert mine.keys() == other.keys()
    for name, value in mine.items():
        assert torch.equal(value, other[name]) and value.dtype == other[name].dtype, name
    # not to the last bit: where a tensor lies in memory decides which kernel is taken
    torch.testing.assert_close(twin(**inputs)[0], model(**inputs)[0], atol=1e-6, rtol=1e-6)
    return True


def rewrite(folder, change):
    """Replaces a checkpoint's tensors by what a function makes of them."""
    tensors = load_file(folder / "model.safetensors")
    tensors = change({name: value.clone() for name, value in tensors.items()})
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})


def test_new_models_are_drawn_as_ours(bert):
    for name in ("BertModel", "BertForPreTraining", "BertForSequenceClassification"):
        model, kind, inputs = drawn(bert, name)
        torch.manual_seed(3)
        twin = kind(bert.BertConfig(**TINY, max_position_embeddings=9)).eval()
        assert same(model, twin, inputs)
        assert list(map(set, tied(twin))) == list(map(set, tied(model)))


@pytest.mark.parametrize("safe", [True, False], ids=["safetensors", "bin"])
def test_shards_are_loaded(bert, safe, tmp_path):
    model, kind, inputs = drawn(bert)
    model.save_pretrained(tmp_path, max_shard_size=2000)
    index = tmp_path / "model.safetensors.index.json"
    shards = sorted(tmp_path.glob("*.safetensors"))
    assert len(shards) > 2
    if not safe:
        for path in shards:
            torch.save(load_file(path), path.with_suffix(".bin"))
            path.unlink()
        index.with_name("pytorch_model.bin.index.json").write_text(index.read_text().replace(".safetensors", ".bin"))
        index.unlink()
    twin = kind.from_pretrained(str(tmp_path))
    assert same(model, twin, inputs) and not twin.training


def test_a_pickle_of_weights_is_loaded_and_one_of_code_is_not(bert, tmp_path):
    model, kind, inputs = drawn(bert)
    model.save_pretrained(tmp_path)
    (tmp_path / "model.safetensors").unlink()
    torch.save(model.state_dict(), tmp_path / "pytorch_model.bin")
    assert same(model, kind.from_pretrained(tmp_path), inputs)
    torch.save({"a": model}, tmp_path / "pytorch_model.bin")
    with pytest.raises(pickle.UnpicklingError, match="Weights only load failed"):
        kind.from_pretrained(tmp_path)


@pytest.mark.parametrize(
    "name", ["../model-1.safetensors", "/etc/model.safetensors", "a\\b.safetensors", ".hidden.bin"]
)
def test_shards_elsewhere_are_refused(bert, name, tmp_path):
    model, kind, _ = drawn(bert)
    folder = tmp_path / "model"
    model.save_pretrained(folder)
    shutil.copy(folder / "model.safetensors", tmp_path / "model-1.safetensors")
    (folder / "model.safetensors").unlink()
    index = {"weight_map": dict.fromkeys(model.state_dict(), name)}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    with pytest.raises(ValueError, match="only plain file names of its own folder are read"):
        kind.from_pretrained(folder)


def test_prefixes_and_old_names(bert, tmp_path):
    model, kind, inputs = drawn(bert)
    model.save_pretrained(tmp_path)
    base = bert.BertModel.from_pretrained(tmp_path)  # from a headed model's checkpoint, and without a warning
    assert same(model.bert, base, inputs)

    def age(tensors):
        old = {n.replace("LayerNorm.weight", "LayerNorm.gamma"): value for n, value in tensors.items()}
        old = {n.replace("LayerNorm.bias", "LayerNorm.beta"): value for n, value in old.items()}
        return old | {"bert.embeddings.position_ids": torch.arange(9)[None]}

    rewrite(tmp_path, age)
    assert same(model, kind.from_pretrained(tmp_path), inputs)
    rewrite(tmp_path, lambda tensors: {name.removeprefix("bert."): value for name, value in tensors.items()})
    assert same(model, kind.from_pretrained(tmp_path), inputs)
    rewrite(tmp_path, lambda tensors: tensors | {"bert.pooler.dense.bias": torch.zeros(8)})
    with pytest.raises(ValueError, match=r"two tensors for 'bert\.pooler\.dense\.bias'"):
        kind.from_pretrained(tmp_path)


def test_new_heads_are_drawn_and_said(bert, tmp_path):
    model, _, inputs = drawn(bert, "BertModel")
    model.save_pretrained(tmp_path)
    torch.manual_seed(0)
    with pytest.warns(UserWarning, match=r"lacks \['classifier\.bias', 'classifier\.weight'\]: they are drawn"):
        twin = bert.BertForSequenceClassification.from_pretrained(tmp_path)
    assert same(model, twin.bert, inputs)
    assert 0.005 < twin.classifier.weight.std() < 0.05 and not twin.classifier.bias.any()
    with pytest.warns(UserWarning, match=r"lacks \['cls\.predictions\.bias', 'cls\.predictions\.decoder\.bias', "):
        words = bert.BertForMaskedLM.from_pretrained(tmp_path)
    assert words.cls.predictions.decoder.weight is words.bert.embeddings.word_embeddings.weight
    assert torch.equal(words.cls.predictions.decoder.weight, model.embeddings.word_embeddings.weight)
    assert words.cls.predictions.bias is words.cls.predictions.decoder.bias
    assert not any(parameter.is_meta for parameter in (*twin.parameters(), *words.parameters()))


def test_what_does_not_fit_is_an_error(bert, tmp_path):
    model, kind, _ = drawn(bert)
    model.save_pretrained(tmp_path)
    name = "bert.encoder.layer.1.output.dense.weight"
    good = load_file(tmp_path / "model.safetensors")
    rewrite(tmp_path, lambda tensors: {n: value for n, value in tensors.items() if n != name})
    with pytest.raises(ValueError, match=f"lacks .'{name}'. of BertForSequenceClassification"):
        kind.from_pretrained(tmp_path)
    rewrite(tmp_path, lambda tensors: tensors | {name: torch.zeros(3, 4)})
    with pytest.raises(RuntimeError, match=rf"size mismatch for {name}: .*\[3, 4\].*\[8, 12\]"):
        kind.from_pretrained(tmp_path)
    for dtype in (torch.int8, torch.int32, torch.float8_e4m3fn):
        rewrite(tmp_path, lambda _, dtype=dtype: good | {name: torch.ones(8, 12).to(dtype)})
        with pytest.raises(ValueError, match=f"holds '{name}' as {dtype}; save the model as floats first"):
            kind.from_pretrained(tmp_path)
    rewrite(tmp_path, lambda _: good | {"strange": torch.ones(2)})
    with pytest.warns(UserWarning, match=r"has \['strange'\], for which BertForSequenceClassification has no place"):
        kind.from_pretrained(tmp_path)
    store_int8_rows(good, tmp_path / "model.safetensors")
    with pytest.raises(ValueError, match="as torch.int8; save the model as floats first"):
        kind.from_pretrained(tmp_path)
    (tmp_path / "model.safetensors").unlink()
    with pytest.raises(FileNotFoundError, match=r"model\.safetensors"):
        kind.from_pretrained(tmp_path)
    with pytest.raises(FileNotFoundError, match=r"absent/config\.json"):
        kind.from_pretrained(tmp_path / "absent")
    (tmp_path / "config.json").write_text('{"model_type": "roberta"}')
    with pytest.raises(ValueError, match="says model_type 'roberta'; BertConfig reads 'bert'"):
        kind.from_pretrained(tmp_path)


def test_what_it_saves_the_package_reads(bert, tmp_path):
    for name in ("BertForMaskedLM", "BertForSequenceClassification", "BertForPreTraining"):
        for tie in (True, False):
            folder = tmp_path / f"{name}-{tie}"
            model, kind, inputs = drawn(bert, name, tie_word_embeddings=tie, id2label={0: "bad", 1: "good", 2: "fine"})
            model.config.finetuning_task = "films"
            model.save_pretrained(folder)
            twin = kind.from_pretrained(folder)
            before = {n: value.clone() for n, value in twin.state_dict().items()}
            twin.save_pretrained(folder)  # over the file that it is mapped from
            assert all(torch.equal(value, before[n]) for n, value in twin.state_dict().items())
            again, info = type(model).from_pretrained(folder, output_loading_info=True)
            assert not info["missing_keys"] and not info["unexpected_keys"]
            assert same(model, again, inputs) and same(twin, kind.from_pretrained(folder), inputs)
            assert again.config.id2label == {0: "bad", 1: "good", 2: "fine"} and again.config.finetuning_task == "films"
            assert again.config.architectures == [name] and again.config == model.config
            with safe_open(folder / "model.safetensors", "pt") as file:
                assert file.metadata() == {"format": "pt"}
                names = set(file.keys())
            for one in ("weight", "bias") if "Class" not in name else ():  # readers that tie nothing want every name
                assert (f"cls.predictions.decoder.{one}" in names) is not tie
            assert sorted(path.name for path in folder.iterdir()) == ["config.json", "model.safetensors"]


def test_saving_changes_no_other_model(bert, tmp_path):
    model, kind, inputs = drawn(bert)
    model.save_pretrained(tmp_path)
    one, other = kind.from_pretrained(tmp_path), kind.from_pretrained(tmp_path)
    with torch.no_grad():
        one.classifier.bias.add_(1)
    assert same(model, other, inputs)
    one.save_pretrained(tmp_path)
    assert same(model, other, inputs) and same(one, kind.from_pretrained(tmp_path), inputs)


def test_weights_keep_their_dtype(bert, tmp_path):
    model, kind, _ = drawn(bert)
    model.to(torch.bfloat16).save_pretrained(tmp_path)
    assert {p.dtype for p in kind.from_pretrained(tmp_path).parameters()} == {torch.bfloat16}
    values = json.loads((tmp_path / "config.json").read_text())
    for name, dtype in (("torch_dtype", "float32"), ("dtype", "float16"), ("dtype", None)):
        (tmp_path / "config.json").write_text(
            json.dumps({k: v for k, v in values.items() if k != "dtype"} | {name: dtype})
        )
        want = getattr(torch, dtype or "bfloat16")
        assert {p.dtype for p in kind.from_pretrained(tmp_path).parameters()} == {want}


def test_a_head_that_was_untied_stays_so(bert, tmp_path):
    model, kind, inputs = drawn(bert, "BertForMaskedLM", tie_word_embeddings=False)
    model.save_pretrained(tmp_path)
    values = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(values | {"tie_word_embeddings": True}))
    assert same(model, kind.from_pretrained(tmp_path), inputs)


def test_loaded_models_are_whole(bert, tmp_path):
    """They copy, pickle, become parts of others, and are not drawn again there."""
    model, kind, inputs = drawn(bert)
    model.save_pretrained(tmp_path)

    class Mine(bert.BertPreTrainedModel):
        def __init__(self, config):
            super().__init__(config)
            self.bert = bert.BertModel.from_pretrained(tmp_path)
            self.score = torch.nn.Linear(8, 1)
            self.post_init()

    assert same(model.bert, Mine(bert.BertConfig(**TINY)).bert, inputs)
    twin = kind.from_pretrained(tmp_path)
    assert same(model, copy.deepcopy(twin), inputs) and same(model, pickle.loads(pickle.dumps(twin)), inputs)


# ---- The other stand-ins


def test_configs(bert, tmp_path):
    config = bert.BertConfig(hidden_size=16, num_attention_heads=2, num_labels=3)
    assert config.id2label == {0: "LABEL_0", 1: "LABEL_1", 2: "LABEL_2"} and config.label2id["LABEL_2"] == 2
    config.id2label = {"0": "bad", "1": "good"}
    assert config.num_labels == 2 and config.label2id == {"bad": 0, "good": 1}
    named = {"label2id": {"a": 0, "b": 1}, "id2label": {0: "A", 1: "B"}, "num_labels": 2}
    assert bert.BertConfig(**named).to_dict().items() >= {n: v for n, v in named.items() if n != "num_labels"}.items()
    assert bert.BertConfig().to_dict().items() >= {"model_type": "bert", "vocab_size": 30522}.items()
    for wrong in ("hidden_sise", "validate", "extra"):
        with pytest.raises(TypeError, match=f"BertConfig has no field {wrong}"):
            bert.BertConfig(**{wrong: 2})
    with pytest.raises(ValueError, match="must be a multiple of num_attention_heads"):
        bert.BertConfig(hidden_size=7)
    with pytest.raises(AttributeError, match="BertConfig has no 'hidden_sise'"):
        config.hidden_sise  # noqa: B018
    assert copy.deepcopy(config) == config and pickle.loads(pickle.dumps(config)) == config
    file = {"model_type": "bert", "hidden_size": 8, "num_attention_heads": 2, "id2label": None, "gradient_x": [1]}
    (tmp_path / "config.json").write_text(json.dumps(file))
    read = bert.BertConfig.from_pretrained(tmp_path)
    assert read.gradient_x == [1] and read.num_labels == 2 and "attn_implementation" not in read.to_dict()
    assert read.to_dict().items() >= (file | {"id2label": {0: "LABEL_0", 1: "LABEL_1"}}).items()


def test_common_names_of_a_config(modules):
    config = modules["distilbert"].DistilBertConfig(hidden_size=24, n_heads=3)
    assert (config.dim, config.hidden_size, config.num_attention_heads) == (24, 24, 3)
    config.hidden_size = 36
    assert config.dim == 36 and "hidden_size" not in config.to_dict()


def test_outputs_are_read_in_every_way(bert):
    out = bert.MaskedLMOutput(logits=torch.ones(2), hidden_states=(torch.zeros(1),), loss_count=torch.tensor(3))
    assert list(out) == list(out.keys()) == ["logits", "hidden_states"] and len(out) == 2
    assert out[0] is out["logits"] is out.logits is out.get("logits") is dict(out)["logits"] is {**out}["logits"]
    assert out.to_tuple() == out[:2] == tuple(out.values()) and "loss" not in out and out.get("loss", 5) == 5
    assert out.loss_count == 3 and out.loss is None
    with pytest.raises(KeyError):
        out["loss"]
    flat = flatten_outputs(pickle.loads(pickle.dumps(out)))
    assert flat.keys() == {"logits", "hidden_states.0"}


def test_a_cache_takes_another_order(bert):
    inputs = {"input_ids": torch.tensor([[2, 3, 4, 5], [6, 7, 8, 9]])}
    twin = bert.BertLMHeadModel(bert.BertConfig(**TINY, is_decoder=True, add_cross_attention=True)).eval()
    encoded = {"encoder_hidden_states": draw("encoded", (2, 3, 8))}
    order = torch.tensor([1, 0])
    with torch.no_grad():
        cache = twin(**inputs, **encoded, use_cache=True).past_key_values
        cache.reorder_cache(order)
        assert cache.get_seq_length() == 4
        turned = {name: value[order] for name, value in (inputs | encoded).items()}
        want = twin(**turned, use_cache=True).past_key_values
    for one, other in ((cache.layers, want.layers), (cache.cross, want.cross)):
        assert one.keys() == other.keys() == {0, 1}
        for layer in one:
            torch.testing.assert_close(one[layer], other[layer])


def test_wrong_calls_are_errors(bert):
    model = bert.BertModel(bert.BertConfig(**TINY)).eval()
    ids = torch.tensor([[2, 3, 4]])
    with pytest.raises(ValueError, match="exactly one of input_ids and inputs_embeds"):
        model()
    with pytest.raises(ValueError, match="attention_mask covers 1 tokens; 3 are attended to"):
        model(ids, torch.ones(1, 1).long())
    with pytest.raises(ValueError, match=r"lengths \(2, 2\) need input of shape \[1, 4\], got \[1, 3\]"):
        model(ids, bert.Packed((2, 2)))
    model.config.attn_implementation = "flash"
    with pytest.raises(ValueError, match="must be 'sdpa' or 'eager', got 'flash'"):
        model(ids)
    with pytest.raises(ValueError, match="activation 'laplace'; known are gelu"):
        bert.BertModel(bert.BertConfig(**TINY, hidden_act="laplace"))


def test_checkpointing_recomputes_every_layer(bert, monkeypatch):
    model = bert.BertForSequenceClassification(bert.BertConfig(**TINY))
    model.gradient_checkpointing_enable()
    layers, real = [], bert.checkpoint
    monkeypatch.setattr(
        bert, "checkpoint", lambda layer, *rest, **more: layers.append(layer) or real(layer, *rest, **more)
    )
    model(torch.tensor([[2, 3, 4]]), labels=torch.tensor([1])).loss.backward()
    assert layers == list(model.bert.encoder.layer)


def test_it_compiles(bert):
    model = bert.BertForSequenceClassification(bert.BertConfig(**TINY)).eval()
    inputs = {"input_ids": torch.tensor([[2, 3, 4]]), "attention_mask": torch.tensor([[1, 1, 0]])}
    with torch.no_grad():
        compiled = torch.compile(model, fullgraph=True, backend="eager")
        torch.testing.assert_close(compiled(**inputs).logits, model(**inputs).logits)
