"""Executes the notebooks and stores what their cells put out: python notebooks/execute.py [file ...]

They are committed with their outputs, so that they can be read where nothing runs. A cell whose new output says the
same as the stored one keeps that, so that nothing changes in a file without a reason. tests/test_notebooks.py fails
where a stored output is no longer what the cell gives. Edit the cells in Jupyter, or any editor, and run this.
"""

import copy
import math
import os
import re
import sys
import tempfile
from pathlib import Path
from typing import Any

import nbformat
from jupyter_client.kernelspec import KernelSpec
from jupyter_client.manager import AsyncKernelManager
from nbclient import NotebookClient
from nbformat import NotebookNode

FOLDER = Path(__file__).resolve().parent
METADATA = {
    "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
    "language_info": {"name": "python"},
}
NUMBER = re.compile(r"[-+\N{MINUS SIGN}]?\d+(?:,\d{3})*(?:\.\d+)?(?:e[-+]?\d+)?")
DURATION = re.compile(r" *\d[\d.,]* (?:ms|s)\b")  # with the spaces that align it
TOLERANCE = 1e-3


class Kernel(AsyncKernelManager):
    """A kernel of the Python that runs this, whatever is registered under the name python3."""

    @property
    def kernel_spec(self) -> KernelSpec:
        run = [sys.executable, "-m", "ipykernel_launcher", "-f", "{connection_file}", "--log-level=ERROR"]
        return KernelSpec(argv=run, display_name="Python 3", language="python")


def execute(notebook: NotebookNode, extra: str | None = None) -> NotebookNode:
    """The notebook as it is after all cells ran in a new kernel, without any network. extra: one more cell, the last.

    Raises nbclient's CellExecutionError where a cell fails.
    """
    fresh = copy.deepcopy(notebook)
    for cell in fresh.cells:
        if cell.cell_type == "code":
            cell.outputs, cell.execution_count = [], None
    if extra is not None:
        fresh.cells.append(nbformat.v4.new_code_cell(extra))
    with tempfile.TemporaryDirectory() as place:
        client = NotebookClient(
            fresh,
            timeout=300,
            record_timing=False,
            coalesce_streams=True,
            kernel_manager_class=Kernel,
            resources={"metadata": {"path": str(FOLDER)}},
        )
        client.execute(env=os.environ | {"HF_HUB_OFFLINE": "1", "IPYTHONDIR": place})
    fresh.metadata = nbformat.from_dict(METADATA)
    return fresh


def differs(stored: Any, fresh: Any) -> str | None:
    """Where two outputs (or anything of JSON) do not say the same; None where they do.

    Numbers with a point may differ by 1e-3, or by one in their last place; whole ones not at all; durations by any
    amount.
    """
    if isinstance(stored, dict) and isinstance(fresh, dict) and stored.keys() == fresh.keys():
        return next(filter(None, (differs(stored[key], fresh[key]) for key in stored)), None)
    if isinstance(stored, list) and isinstance(fresh, list) and len(stored) == len(fresh):
        return next(filter(None, map(differs, stored, fresh)), None)
    if not (isinstance(stored, str) and isinstance(fresh, str)):
        return None if stored == fresh else f"{stored!r:.200} is now {fresh!r:.200}"
    old, new = (DURATION.sub(" a while", text) for text in (stored, fresh))
    same = NUMBER.sub("#", old) == NUMBER.sub("#", new)
    if same and all(map(close, NUMBER.findall(old), NUMBER.findall(new))):
        return None
    lines = zip(old.splitlines(), new.splitlines(), strict=False)
    return next((f"{a!r:.300} is now {b!r:.300}" for a, b in lines if a != b), f"{old!r:.200} is now {new!r:.200}")


def close(stored: str, fresh: str) -> bool:
    if "." not in stored and "e" not in stored:
        return stored == fresh
    last_place = 10.0 ** -len(stored.partition("e")[0].partition(".")[2])
    old, new = (float(number.replace(",", "").replace("\N{MINUS SIGN}", "-")) for number in (stored, fresh))
    return math.isclose(old, new, rel_tol=TOLERANCE, abs_tol=max(TOLERANCE, 1.01 * last_place))


def main(names: list[str]) -> None:
    for path in map(Path, names or sorted(FOLDER.glob("*.ipynb"))):
        stored = nbformat.read(path, as_version=4)
        fresh = execute(stored)
        changed = 0
        for old, new in zip(stored.cells, fresh.cells, strict=True):
            if new.cell_type == "code" and differs(old.outputs, new.outputs) is None:
                new.outputs = old.outputs
            elif new.cell_type == "code":
                changed += 1
        nbformat.validate(fresh)
        nbformat.write(fresh, path)
        print(f"{path.name}: {changed} outputs changed")


if __name__ == "__main__":
    main(sys.argv[1:])
