"""The rules of the project's structure: who imports whom, how long a file may be, what a model file looks like."""

import ast
import importlib
import re
import subprocess
import sys
from pathlib import Path

import fresh
import pytest

import plainformers
from plainformers.families import FAMILIES
from plainformers.model import Model
from plainformers.registry import AUTO_CLASSES, MODELS, TOKENIZER_NAMES, TOKENIZERS, public_names

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "src" / "plainformers"
FILES = sorted(PACKAGE.rglob("*.py"))
MODEL_FILES = [path for path in sorted((PACKAGE / "models").glob("*.py")) if path.stem != "__init__"]
SHARED = [path for path in FILES if path not in MODEL_FILES]

LEAVES = {
    *("attention", "linear", "sequences", "losses", "cache", "activations", "outputs", "batching", "arguments"),
    *("rope", "logits"),
}
# module -> the modules of this package that it may import; what stands in no row may import anything but a model file
MAY_IMPORT = {
    **dict.fromkeys(LEAVES | {"registry", "aliases", "logging", "hub"}, set()),
    "modeling_outputs": {"outputs"},
    "config": {"aliases", "gguf", "gguf_models", "hub"},
    "checkpoint": {"gguf", "gguf_models", "gguf_tensors", "hub"},
    "model": {
        *("aliases", "arguments", "checkpoint", "config", "hub", "linear", "logging", "lora", "outputs", "quantize"),
    },
    "lora": {"aliases", "hub"},
    "quantize": {"checkpoint", "linear"},
    "generation_config": {"aliases", "config", "hub"},
    "streaming": set(),
    "feed": {"cache", "logits", "outputs"},
    "constraints": set(),
    "beam": {"constraints", "feed", "logits"},
    "speculative": {"cache", "feed", "linear", "outputs"},
    "generation": {
        *("aliases", "beam", "cache", "feed", "generation_config", "logging", "logits", "outputs", "speculative"),
        "streaming",
    },
    "encoding": {"aliases", "logging"},
    "families": set(),
    "sentencepiece": {"families"},
    "gguf": set(),
    "conversion": {"families", "sentencepiece"},
    "gguf_tokenizer": {"conversion", "families", "gguf", "sentencepiece"},
    "sandbox": set(),
    "tool_schema": set(),
    "chat": {"aliases", "encoding", "sandbox", "tool_schema"},
    "tokenizer_files": {"aliases", "families", "hub", "logging", "registry"},
    "tokenizer": {
        *("aliases", "chat", "conversion", "encoding", "families", "hub", "logging", "tokenizer_files"),
        *("tokenizer_classes", "tokenizer_training"),
    },
    "tokenizer_training": {"aliases", "families", "logging", "sentencepiece", "tokenizer"},
    "tokenizer_classes": {
        "aliases",
        "conversion",
        "families",
        "gguf_tokenizer",
        "hub",
        "sentencepiece",
        "tokenizer",
        "tokenizer_files",
    },
    "auto": {"aliases", "config", "registry"},
    "views": set(),
    "trace": {"aliases", "arguments", "encoding", "outputs", "views"},
    "eject": {"aliases", "hub", "registry"},
    "standalone": set(),
    "card": {"__version__", "hub", "logging", "model", "views"},
    "__main__": {"cli"},
    "models": LEAVES | {"config", "generation", "model"},
}
# module -> packages outside of the standard library that it may import when it is imported
MAY_LOAD = {
    **dict.fromkeys(["registry", "aliases", "logging", "hub", "config", "auto", "batching", "cli", "eject"], set()),
    **dict.fromkeys(["generation_config", "streaming"], set()),
    **dict.fromkeys(["constraints", "generation_config"], set()),
    **dict.fromkeys(["feed", "beam", "speculative", "generation"], {"torch"}),
    **dict.fromkeys(["__init__", "__main__"], set()),
    **dict.fromkeys(["views", "trace"], {"torch"}),
    "card": set(),
    "standalone": {"torch", "safetensors"},
    **dict.fromkeys(
        ["conversion", "encoding", "sentencepiece", "tokenizer", "tokenizer_files", "tokenizer_classes"], {"tokenizers"}
    ),
    **dict.fromkeys(["families", "gguf", "gguf_models"], {"numpy"}),
    **dict.fromkeys(["chat"], {"tokenizers"}),
    "sandbox": {"jinja2"},
    "tool_schema": set(),
    **dict.fromkeys(LEAVES - {"batching"}, {"torch", "numpy"}),
    "checkpoint": {"numpy", "torch", "safetensors"},
    "gguf_tensors": {"torch"},
    "generation": {"torch"},
    "model": {"torch"},
    "quantize": set(),
    "models": {"torch"},
    "training": {"numpy", "torch", "safetensors"},
}
MOST_SHARED, MOST_MODEL, MOST_FUNCTION = 700, 900, 80
# what writes texts on, which a program that only reads them never enters, has a budget of its own
GENERATION = {
    "beam",
    "cache",
    "constraints",
    "feed",
    "generation",
    "generation_config",
    "gguf_models",
    "gguf_tensors",
    "logits",
}
GENERATION |= {"speculative", "streaming", "text_generation"}
MOST_GENERATION_LINES, MOST_SHARED_LINES = 3_200, 12_450  # the second: all other files together, but for TABLES
TABLES = {"registry", "aliases"}  # of names, which grow with the models and the settings that are known
MOST_TRAINING_LINES = 4_800  # all of training/


def tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


def row(path: Path) -> str:
    """The key of the tables above for a file."""
    inside = path.relative_to(PACKAGE).with_suffix("").parts
    return inside[0] if len(inside) > 1 else inside[-1]


def own_imports(path: Path) -> set[str]:
    """Modules of this package that a file imports, anywhere in it."""
    found = set()
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.ImportFrom) and node.level:
            depth = len(path.relative_to(PACKAGE).parts)
            inside = node.level == depth  # counted from the package itself
            if node.module and inside:
                found.add(node.module.split(".")[0])
            elif inside:
                found |= {alias.name for alias in node.names}
            else:
                found.add(path.parent.name)
    return found


def top_imports(path: Path) -> set[str]:
    """Packages outside of the standard library that are imported with the file."""
    found = set()
    for node in tree(path).body:
        if isinstance(node, ast.Import):
            found |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and not node.level:
            found.add(node.module.split(".")[0])
    return found - set(sys.stdlib_module_names)


def name_of(path: Path) -> str:
    return str(path.relative_to(PACKAGE))


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_imports_go_one_way(path):
    assert own_imports(path) <= MAY_IMPORT.get(row(path), own_imports(path) - {"models"})


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_imports_are_light(path):
    if row(path) in MAY_LOAD:
        assert top_imports(path) <= MAY_LOAD[row(path)]
    for node in ast.walk(tree(path)):
        names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        names += [node.module] if isinstance(node, ast.ImportFrom) and node.module and not node.level else []
        banned = {"transformers", "accelerate", "peft", "pickle", "importlib.util", "runpy"}
        if path.name == "checkpoint.py":
            banned -= {"pickle"}  # for the name of the error that torch's restricted reader raises
        assert not {n for n in names if n.split(".")[0] in banned or n in banned}


def test_nothing_is_unpickled_or_executed():
    for path in FILES:
        for node in ast.walk(tree(path)):
            if not isinstance(node, ast.Call):
                continue
            called = ast.unparse(node.func)
            assert called not in ("eval", "exec", "compile", "pickle.load", "pickle.loads", "__import__"), name_of(path)
            if called == "torch.load":
                assert "weights_only=True" in ast.unparse(node), name_of(path)
            if called.endswith("import_module"):
                assert path.stem in ("__init__", "auto"), f"{name_of(path)}: modules come from the registry only"


@pytest.mark.parametrize("path", MODEL_FILES, ids=name_of)
def test_a_model_file_is_made_as_all_are(path):
    module = tree(path)
    imports = [n for n in ast.walk(module) if isinstance(n, (ast.Import, ast.ImportFrom))]
    assert set(imports) <= set(module.body), "imports stand at the top and are never conditional"
    text = path.read_text(encoding="utf-8")
    header = ast.get_docstring(module) or ""
    assert re.search("Papers?: ", header) and "Reference code: " in header and "Shapes: " in header
    places = [text.index(f"\n# ---- {part}\n") for part in ("Configuration", "Layers", "Models")]
    assert places == sorted(places) and text.rstrip().rpartition("\n\n")[2].startswith("HEADS = {")
    classes = {node.name for node in module.body if isinstance(node, ast.ClassDef)}
    for node in ast.walk(module):
        if isinstance(node, ast.FunctionDef):
            assert not node.args.kwarg, f"{node.name} takes **{node.args.kwarg and node.args.kwarg.arg}"
            if node.name == "forward":
                assert not node.args.vararg
        if isinstance(node, ast.ClassDef):
            bases = {ast.unparse(base) for base in node.bases}
            family = {base for base in bases if base.endswith("PreTrainedModel")}
            # another name of a family's class says its config_class and no more
            renamed = all(isinstance(part, (ast.Assign, ast.AnnAssign)) for part in node.body)
            family |= {base for base in bases if renamed and base in classes}
            # what models of a family return, where no other family returns the same
            family |= {base for base in bases if base.endswith("Output") and node.name.endswith("Output")}
            assert (
                bases <= {"nn.Module", "nn.Embedding", "Model", "Config", "NamedTuple"} | family and len(bases) == 1
            ), node.name
        if isinstance(node, ast.Call):
            assert ast.unparse(node.func) not in ("self.register_buffer", "hasattr", "getattr", "isinstance_of")


def test_registry_files_and_heads_are_one():
    assert {entry.file for entry in MODELS.values()} == {path.stem for path in MODEL_FILES}
    for model_type, entry in MODELS.items():
        module = importlib.import_module(f"plainformers.models.{entry.file}")
        first = next(one for one in MODELS.values() if one.file == entry.file)
        assert {head: kind.__name__ for head, kind in module.HEADS.items()} == first.heads
        assert entry.heads.keys() == first.heads.keys()
        assert set(entry.heads) <= {
            *AUTO_CLASSES,
            "beam-question-answering",
            "double-heads",
        }  # these have no Auto class
        config_class = getattr(module, entry.config)
        assert config_class.model_type == model_type
        for head, name in entry.heads.items():
            kind = getattr(module, name)
            assert kind.config_class is config_class and issubclass(kind, (Model, module.HEADS[head]))
        assert entry.config.replace("Config", "PreTrainedModel") in vars(module)


def test_public_names_exist_and_are_typed():
    assert set(plainformers.__all__) == {*public_names(), "logging", "modeling_outputs", "trainer_utils"}
    for name in plainformers.__all__:
        assert getattr(plainformers, name) is not None
    stub = ast.parse((PACKAGE / "__init__.pyi").read_text())
    typed = {
        alias.asname or alias.name for node in stub.body if isinstance(node, ast.ImportFrom) for alias in node.names
    }
    typed |= {target.id for node in stub.body if isinstance(node, ast.Assign) for target in node.targets}
    assert typed == set(plainformers.__all__)
    with pytest.raises(AttributeError, match="Did you mean 'BertModel'"):
        plainformers.BertModl  # noqa: B018


def test_every_tokenizer_family_is_public():
    kept = {"WordLevelTokenizer"}  # a kind of file, not a class that users name
    assert {f"{name}Tokenizer" for name in TOKENIZER_NAMES.split()} == FAMILIES.keys() - kept
    assert plainformers.T5TokenizerFast is plainformers.T5Tokenizer
    assert set(TOKENIZERS.values()) - FAMILIES.keys() == set()


def test_top_level_names_of_leaves_are_unique():
    seen: dict[str, str] = {}
    for leaf in sorted(LEAVES):
        for node in tree(PACKAGE / f"{leaf}.py").body:
            names = [node.name] if isinstance(node, (ast.FunctionDef, ast.ClassDef)) else []
            if isinstance(node, ast.Assign):
                names += [t.id for t in node.targets if isinstance(t, ast.Name)]
            for name in names:
                assert name not in seen, f"{name} stands in {leaf}.py and {seen[name]}.py"
                seen[name] = leaf


def lines(path: Path) -> int:
    return len(path.read_text(encoding="utf-8").splitlines())


def test_budgets():
    writes = [path for path in SHARED if path.stem in GENERATION]
    trains = [path for path in SHARED if row(path) in ("training", "trainer_utils", "lora")]
    assert sum(map(lines, writes)) <= MOST_GENERATION_LINES
    assert sum(map(lines, trains)) <= MOST_TRAINING_LINES
    others = [path for path in SHARED if path not in writes + trains and path.stem not in TABLES]
    assert sum(map(lines, others)) <= MOST_SHARED_LINES
    assert {name_of(p): lines(p) for p in SHARED if lines(p) > MOST_SHARED} == {}
    assert {name_of(p): lines(p) for p in MODEL_FILES if lines(p) > MOST_MODEL} == {}
    long = {}
    for path in FILES:
        for node in ast.walk(tree(path)):
            if isinstance(node, ast.FunctionDef) and node.end_lineno - node.lineno + 1 > MOST_FUNCTION:
                long[f"{name_of(path)}:{node.name}"] = node.end_lineno - node.lineno + 1
    assert long == {}


def python(code: str) -> str:
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=120)
    return done.stdout.strip()


def test_importing_the_package_imports_nothing_heavy():
    heavy = "{'torch', 'numpy', 'tokenizers', 'safetensors', 'huggingface_hub', 'tqdm', 'jinja2'}"
    assert python(f"import plainformers, sys; print({heavy} & set(sys.modules))") == "set()"


def test_models_are_imported_one_by_one(tmp_path):
    code = "import plainformers, sys; plainformers.BertModel; print([m for m in sys.modules if m.startswith(PREFIX)])"
    code = code.replace("PREFIX", "'plainformers.models.'")
    assert fresh.run(code, tmp_path).strip() == "['plainformers.models.bert']"


ENTERED = """
import sys, os, pathlib, plainformers
from plainformers import {names}
package = os.path.dirname(plainformers.__file__)
{before}
entered = set()
def profile(frame, event, arg):
    if event == "call" and frame.f_code.co_filename.startswith(package):
        entered.add(frame.f_code.co_filename)
sys.setprofile(profile)
{action}
sys.setprofile(None)
print(len(entered), sorted(os.path.basename(f) for f in entered))
"""


@pytest.fixture(scope="module")
def tiny_folder(tmp_path_factory):
    """A tiny classifier with its tokenizer."""
    folder = tmp_path_factory.mktemp("tiny")
    (folder / "vocab.txt").write_text(
        "\n".join(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "a", "good", "film"]) + "\n"
    )
    config = plainformers.BertConfig(
        vocab_size=8, hidden_size=8, num_hidden_layers=2, num_attention_heads=2, intermediate_size=8
    )
    plainformers.BertForSequenceClassification(config).save_pretrained(folder)
    plainformers.BertTokenizer(folder / "vocab.txt").save_pretrained(folder)
    return folder


@pytest.mark.parametrize(
    ("names", "before", "action", "most"),
    [
        (
            "BertModel, BertConfig",
            "import torch; m = BertModel(BertConfig(vocab_size=9, hidden_size=8, num_attention_heads=2)).eval(); "
            "ids = torch.ones(1, 3).long(); m(ids)",
            "m(ids)",
            6,
        ),
        ("AutoModelForSequenceClassification as A", "A.from_pretrained(FOLDER)", "A.from_pretrained(FOLDER)", 10),
        ("pipeline", "pipe = pipeline('text-classification', model=FOLDER); pipe('a')", "pipe('a good film')", 10),
    ],
    ids=["forward", "from_pretrained", "pipe"],
)
def test_few_files_are_entered(names, before, action, most, tiny_folder, tmp_path):
    """To follow a call, a reader opens few files; the reference enters 12, 30 and 16."""
    before, action = (part.replace("FOLDER", repr(str(tiny_folder))) for part in (before, action))
    code = ENTERED.format(names=names, before=before, action=action)
    count, _, files = fresh.run(code, tmp_path).partition(" ")
    assert int(count) <= most, files
