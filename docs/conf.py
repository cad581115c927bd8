"""Sphinx: the pages of this folder, the notebooks, and the reference out of the docstrings. `make docs` builds them."""

import re
import shutil
import sys
from pathlib import Path

HERE = Path(__file__).parent
ROOT = HERE.parent
sys.path.insert(0, str(ROOT / "src"))

from plainformers import __version__  # noqa: E402
from plainformers.registry import public_names  # noqa: E402

project, author, copyright = "plainformers", "the plainformers authors", "the plainformers authors"
version = release = __version__
extensions = ["myst_nb", "sphinx.ext.autodoc", "sphinx.ext.viewcode"]
exclude_patterns = ["_build"]
html_theme, html_title = "furo", f"plainformers {__version__}"
html_extra_path = ["pages"]  # a trace and an attention page, made below
myst_enable_extensions = ["colon_fence"]
myst_heading_anchors = 3
nb_execution_mode = "off"  # they are committed with their outputs, which tests/test_notebooks.py makes anew
default_role = "code"
autodoc_member_order, autodoc_class_signature = "bysource", "mixed"
autodoc_typehints_format, python_maximum_signature_line_length = "short", 100
add_module_names = autodoc_inherit_docstrings = False

# the reference: headings, and the modules whose public names stand below each
SECTIONS = {
    "Pipelines": ["pipelines"],
    "Looking inside": ["trace", "views"],
    "Auto classes": ["auto"],
    "Models and configurations": ["model", "config", "outputs", "cache", "sequences"],
    "Tokenizers": ["tokenizer"],
}


def reference() -> str:
    """A page that shows every public name; what has two names stands under the first."""
    modules: dict[str, list[str]] = {}
    for public, (module, name) in public_names().items():
        if public == name:
            modules.setdefault(module, []).append(public)
    titled = [(title, [f"plainformers.{part}" for part in parts]) for title, parts in SECTIONS.items()]
    rest = sorted(modules.keys() - {module for _, parts in titled for module in parts})
    titled += [(module.rpartition(".")[2], [module]) for module in rest]
    lines = ["Reference", "=========", ""]
    for title, parts in titled:
        lines += [title, "-" * len(title), ""]
        for module in parts:
            for name in modules[module]:
                kind, options = ("function", []) if name[0].islower() else ("class", ["   :members:"])
                lines += [f".. auto{kind}:: {module}.{name}", *options, ""]
    return "\n".join(lines)


def as_rst(app, what, name, obj, options, lines) -> None:
    """Our docstrings are plain text: outside of `code` nothing means anything to Sphinx."""
    for i, line in enumerate(lines):
        if line.startswith("    ") or "::" in line:
            continue
        parts = re.split(r"(`[^`]*`)", line)
        lines[i] = "".join(p if p.startswith("`") else re.sub(r"([*_|\\])", r"\\\1", p) for p in parts)
    text = "\n".join(lines)
    text = re.sub(r":\n\n(?=    )", "::\n\n", text)  # an indented block is code
    lines[:] = text.split("\n")


def write(app) -> None:
    """What is made of something else: the reference's page, the notebooks' copies, the example pages."""
    (HERE / "reference.rst").write_text(reference(), encoding="utf-8")
    shutil.rmtree(HERE / "notebooks", ignore_errors=True)
    (HERE / "notebooks").mkdir()
    for notebook in sorted((ROOT / "notebooks").glob("*.ipynb")):
        text = notebook.read_text(encoding="utf-8")
        text = re.sub(r"\[([^\]\[\n]*)\]\(\.\./src/[^)]*\)", r"\1", text)  # files of the repository are not pages
        (HERE / "notebooks" / notebook.name).write_text(text, encoding="utf-8")
    from plainformers import pipeline

    found = pipeline("sentiment-analysis").trace("The food was cold and the waiter was rude.", attention=True)
    (HERE / "pages").mkdir(exist_ok=True)
    found.save(HERE / "pages" / "trace.html")
    found.attention_view().save(HERE / "pages" / "attention.html")


def setup(app) -> None:
    write(app)
    app.connect("autodoc-process-docstring", as_rst)
