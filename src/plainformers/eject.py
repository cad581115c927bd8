"""Writes a model as one file of Python that needs only torch and safetensors, for its new owner to read and change.

The model file is taken as it is. Before it stand the shared definitions that it reaches by name: the one of
standalone.py where that has one of the name, else the one that is imported. Files are parsed and never run.
"""

import ast
import os
import re
import sys
from collections.abc import Iterator
from pathlib import Path

from .aliases import did_you_mean
from .hub import write_file
from .registry import MODELS

ROOT = Path(__file__).parent
Outer = tuple[str, str]  # what is imported from outside: (module, name in it), or ("", module)


ATTENTION = ("attend", "bind_attention")  # as models call it


class Source:
    """A file of Python, taken apart."""

    def __init__(self, path: Path):
        self.path = path
        self.lines = path.read_text(encoding="utf-8").split("\n")
        self.nodes = ast.parse("\n".join(self.lines)).body
        self.definitions = {name: node for node in self.nodes for name in names_made(node)}
        self.outer: dict[str, Outer] = {}
        self.ours: dict[str, Path] = {}  # name -> the file of this package that it comes from
        self.head = 0  # the line on which the imports end
        for node in self.nodes:
            for alias in node.names if isinstance(node, (ast.Import, ast.ImportFrom)) else ():
                self.head = node.end_lineno or 0
                name = alias.asname or alias.name.partition(".")[0]
                module = (node.module or "") if isinstance(node, ast.ImportFrom) else ""
                if isinstance(node, ast.ImportFrom) and node.level:
                    self.ours[name] = path.parents[node.level - 1] / f"{module}.py"
                else:
                    self.outer[name] = (module, alias.name + (f" as {alias.asname}" if alias.asname else ""))

    def text(self, node: ast.stmt) -> str:
        """A definition as it is written, with its decorators and the comment right above it."""
        first = min([node.lineno, *(decorator.lineno for decorator in getattr(node, "decorator_list", ()))])
        while self.lines[first - 2].startswith("#"):
            first -= 1
        return "\n".join(self.lines[first - 1 : node.end_lineno])


def names_made(node: ast.stmt) -> list[str]:
    """The names that a top-level statement defines."""
    targets = [*getattr(node, "targets", ()), getattr(node, "target", None)]
    names = [target.id for target in targets if isinstance(target, ast.Name)]
    return [node.name] if isinstance(node, (ast.ClassDef, ast.FunctionDef)) else names


def names_used(node: ast.AST) -> set[str]:
    """The names in a definition, those of annotations written as text included."""
    parts = list(ast.walk(node))
    hints = [getattr(part, place, None) for part in parts for place in ("annotation", "returns")]
    texts = [hint.value for hint in hints if isinstance(hint, ast.Constant) and isinstance(hint.value, str)]
    return {part.id for part in parts if isinstance(part, ast.Name)} | set(re.findall(r"\w+", " ".join(texts)))


def needs_whole_attention(model: Source) -> bool:
    """Whether a model has what the stand-in for attention.py leaves out: biases, bent scores, sinks."""
    calls = [part for node in model.nodes for part in ast.walk(node) if isinstance(part, ast.Call)]
    asked = [call for call in calls if getattr(call.func, "id", getattr(call.func, "attr", "")) in ATTENTION]
    names = {keyword.arg for call in calls for keyword in call.keywords}
    return bool(names & {"softcap", "sinks"}) or any(k.arg == "bias" for call in asked for k in call.keywords)


def eject(model_type: str) -> str:
    """The source of one file that holds all models of a type."""
    model, stand_ins = Source(model_path(model_type)), Source(ROOT / "standalone.py")
    if needs_whole_attention(model):
        for name in ("Attend", "bind_attention", "dense_mask"):
            del stand_ins.definitions[name]
    sources, outer = {stand_ins.path: stand_ins}, set()
    reached: set[ast.stmt] = set()
    waiting = [(model, name) for node in model.nodes if node.lineno > model.head for name in names_used(node)]
    while waiting:
        source, name = waiting.pop()
        if name in source.outer:
            outer.add(source.outer[name])
        elif name in source.ours:
            path = source.ours[name]
            source = sources[path] = sources.get(path) or Source(path)
            assert name in source.definitions, f"{path} defines no {name}"
        if source is model:  # its own definitions stay where they are
            continue
        source = stand_ins if name in stand_ins.definitions else source
        node = source.definitions.get(name)
        if node is not None and node not in reached:
            reached.add(node)
            waiting += [(source, used) for used in names_used(node)]
    shared, before = "", None
    for path in [stand_ins.path, *sorted(sources.keys() - {stand_ins.path})]:
        for node in sources[path].nodes:
            if node in reached:
                together = isinstance(node, ast.Assign) and isinstance(before, ast.Assign)
                shared += ("\n" if together else "\n\n\n") + sources[path].text(node)
                before = node
    version = re.findall(r'^__version__ = "(.+)"', (ROOT / "__init__.py").read_text(encoding="utf-8"), re.M)[0]
    origin = f"# Ejected from plainformers {version}: src/plainformers/models/{model.path.name}"
    docstring = model.lines[: model.nodes[0].end_lineno]
    heading = f"# ---- What the model stands on{shared}"
    return "\n".join([origin, *docstring, "", *import_lines(outer), "", heading, "", *model.lines[model.head :]])


def import_lines(outer: set[Outer]) -> Iterator[str]:
    """The imports, sorted and merged, the standard library's first."""
    for standard in (True, False):
        modules: dict[str, list[str]] = {}
        for module, name in sorted(outer):
            if ((module or name).partition(".")[0] in sys.stdlib_module_names) is standard:
                modules.setdefault(module, []).append(name)
        yield from (f"import {name}" for name in modules.pop("", ()))
        for module, names in modules.items():  # constants, then classes, then functions
            names.sort(key=lambda name: (not name.isupper(), name[0].islower(), name))
            yield f"from {module} import {', '.join(names)}"
        if standard:
            yield ""


def model_path(model_type: str) -> Path:
    if model_type not in MODELS:
        known = ", ".join(sorted(MODELS))
        raise ValueError(f"There is no model type {model_type!r}.{did_you_mean(model_type, MODELS)} There are {known}.")
    file = MODELS[model_type].file
    if "." in file:
        raise ValueError(f"{model_type!r} stands in the module {file}; only models of this package are ejected.")
    return ROOT / "models" / f"{file}.py"


def write(model_type: str, path: str | os.PathLike[str], *, force: bool = False) -> None:
    """Writes the ejected file in one step, into a folder that is there; force: over a file that is there."""
    path, text = Path(path), eject(model_type)
    if not path.parent.is_dir():
        raise FileNotFoundError(f"There is no folder {path.parent}; make it first.")
    if path.exists() and not path.is_file():
        raise FileExistsError(f"{path} is there and is no file; give the name of a file.")
    if os.path.lexists(path) and not force:
        raise FileExistsError(
            f"{path} is there already; force=True (--force) replaces it, and all that was changed in it."
        )
    write_file(path, text)
