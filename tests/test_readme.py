"""Every Python block of the README and of docs/ runs: those of a page in one process, one after the other."""

import re
import shlex
import subprocess
import sys
from pathlib import Path

import fresh
import pytest

ROOT = Path(__file__).parent.parent
PAGES = [
    "README.md",
    "CONTRIBUTING.md",
    "SECURITY.md",
    *(f"docs/{p.name}" for p in sorted((ROOT / "docs").glob("*.md"))),
]


@pytest.mark.parametrize("page", PAGES)
def test_python_blocks_run(page, tmp_path):
    blocks = re.findall(r"^```python\n(.*?)^```", (ROOT / page).read_text(encoding="utf-8"), re.M | re.S)
    assert blocks or page != "README.md"
    printed = fresh.run("\n".join(blocks), tmp_path, HF_HUB_OFFLINE="1")
    if page == "README.md":
        assert "POSITIVE" in printed and "NEGATIVE" in printed and "torch.bfloat16" in printed


@pytest.mark.parametrize("page", [*PAGES, "CHANGELOG.md"])
def test_links_lead_somewhere(page):
    for target in re.findall(r"\]\(([^)#]+)\)", (ROOT / page).read_text(encoding="utf-8")):
        there = (ROOT / page).parent / target
        assert "://" in target or there.exists(), f"{page} links to {target}, which is not there"


def test_shown_commands_give_what_is_shown(tmp_path):
    """`$ plainformers …` with a text and its answer, in README and docs."""
    checked = 0
    for number, page in enumerate(PAGES):
        folder = tmp_path / str(number)
        folder.mkdir()
        for block in re.findall(r"^```console\n(.*?)^```", (ROOT / page).read_text(encoding="utf-8"), re.M | re.S):
            for command, shown in re.findall(r"^\$ plainformers (run|eject) (.*\n(?:[^$].*\n?)*)", block, re.M):
                line, _, answer = shown.partition("\n")
                if not answer.strip():
                    continue
                arguments = [command, *shlex.split(line)]
                done = subprocess.run(
                    [sys.executable, "-m", "plainformers", *arguments],
                    cwd=folder, capture_output=True, text=True, timeout=120,
                )  # fmt: skip
                got, numbers = done.stdout + done.stderr, r"\d+\.\d+"
                assert re.sub(numbers, "N", got) == re.sub(numbers, "N", answer), f"{page}: {line}"
                for there, said in zip(re.findall(numbers, got), re.findall(numbers, answer), strict=True):
                    assert abs(float(there) - float(said)) < 2e-3, f"{page}: {line}"
                checked += 1
    assert checked >= 2


def test_security_names_tests_that_exist():
    named = re.findall(r"`tests/(\w+)\.py::(\w+)`", (ROOT / "SECURITY.md").read_text(encoding="utf-8"))
    assert len(named) > 10
    for file, test in named:
        assert f"def {test}(" in (ROOT / "tests" / f"{file}.py").read_text(encoding="utf-8"), f"{file}::{test}"
