"""The command: what it answers, what it reads, how it fails, and what it does not import."""

import io
import json
import os
import subprocess
import sys

import pytest

from plainformers import __version__, pipeline
from plainformers.cli import main, setting

GOOD, BAD = "A wonderful film.", "Far too long and never funny."


@pytest.fixture
def stdin(monkeypatch):
    def give(content: bytes):
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(content), encoding="utf-8"))

    return give


def run(*arguments, status=0, capsys):
    assert main(list(arguments)) == status
    return capsys.readouterr()


def start(*arguments, **options):
    """The command as its own process."""
    return subprocess.run(
        [sys.executable, "-m", "plainformers", *arguments], capture_output=True, text=True, timeout=120, **options
    )


# ---- run


def test_texts(capsys):
    out = run("run", "sentiment-analysis", GOOD, BAD, capsys=capsys).out
    scores = [answer["score"] for answer in pipeline("sentiment-analysis")([GOOD, BAD])]
    assert out.splitlines() == [f"POSITIVE\t{scores[0]:.4f}\t{GOOD}", f"NEGATIVE\t{scores[1]:.4f}\t{BAD}"]


def test_json_lines_out(capsys):
    out = run("run", "text-classification", GOOD, "--output", "jsonl", "--set", "top_k=null", capsys=capsys).out
    line = json.loads(out)
    assert line["input"] == GOOD
    assert [one["label"] for one in line["answer"]] == ["POSITIVE", "NEGATIVE"]
    assert line["answer"] == [pytest.approx(a, abs=1e-6) for a in pipeline("text-classification")(GOOD, top_k=None)]


def test_files_and_json_lines_in(tmp_path, capsys):
    (tmp_path / "a.txt").write_bytes(b"\xef\xbb\xbf" + f"{GOOD}\r\n\r\n{BAD}\n".encode())
    rows = [GOOD, {"text": BAD}, {"text": GOOD, "text_pair": BAD}]
    (tmp_path / "b.jsonl").write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    files = ["--file", str(tmp_path / "a.txt"), "-f", str(tmp_path / "b.jsonl")]
    out = run("run", "sentiment-analysis", *files, "--output", "jsonl", capsys=capsys).out
    read = [json.loads(line) for line in out.splitlines()]
    assert [line["input"] for line in read] == [GOOD, BAD, *rows]
    assert [line["answer"]["label"] for line in read[:4]] == ["POSITIVE", "NEGATIVE", "POSITIVE", "NEGATIVE"]


@pytest.mark.parametrize("given", [[], ["--file", "-"]])
def test_standard_input(given, stdin, capsys):
    stdin(f"{GOOD}\n{BAD}".encode())
    out = run("run", "sentiment-analysis", *given, capsys=capsys).out
    assert [line.split("\t")[0] for line in out.splitlines()] == ["POSITIVE", "NEGATIVE"]


def test_json_lines_of_standard_input(stdin, capsys):
    stdin(json.dumps({"text": BAD}).encode())
    out = run("run", "sentiment-analysis", "--input", "jsonl", capsys=capsys).out
    assert out.startswith("NEGATIVE")


def test_many_lines_keep_their_order(stdin, capsys):
    texts = [f"{GOOD if i % 3 else BAD} {'very ' * (i % 7)}{i}" for i in range(300)]
    stdin("\n".join(texts).encode())
    out = run("run", "sentiment-analysis", "--output", "jsonl", capsys=capsys).out
    lines = [json.loads(line) for line in out.splitlines()]
    assert [line["input"] for line in lines] == texts
    expected = pipeline("sentiment-analysis")(texts)
    assert [line["answer"]["label"] for line in lines] == [answer["label"] for answer in expected]


def test_control_characters_stay_out_of_the_terminal(capsys):
    out = run("run", "sentiment-analysis", "good\x1b[31m\tfilm\n", capsys=capsys).out
    assert "\x1b" not in out and len(out.splitlines()) == 1 and out.count("\t") == 2


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["run", "sentment-analysis", "a"], "Did you mean 'sentiment-analysis'"),
        (["run", "sentiment-analysis", "a", "--set", "topk=2"], "Did you mean 'top_k'"),
        (["run", "sentiment-analysis", "a", "--set", "top_k"], "NAME=VALUE"),
        (["run", "sentiment-analysis", "a", "--set", "top_k=-1"], "top_k must be"),
        (["run", "sentiment-analysis", "a", "--file", "b"], "not both"),
        (["run", "sentiment-analysis", "--file", "no-such-file"], "There is no file 'no-such-file'"),
        (["run", "sentiment-analysis", "a", "--model", "./nowhere"], "does not exist"),
        (["run", "sentiment-analysis", "a", "--device", "tpu"], "tpu"),
        (["trace", "a", "--task", "nothing"], "no task 'nothing'"),
        (["trace", "a", "--html", "no-such-folder/a.html"], "no-such-folder"),
        (["eject", "brt"], "Did you mean 'bert'"),
    ],
)
def test_mistakes_are_one_line_and_no_traceback(arguments, message, capsys):
    found = run(*arguments, status=1, capsys=capsys)
    assert found.err.startswith("plainformers: ") and message in found.err and "Traceback" not in found.err
    assert found.out == ""


@pytest.mark.parametrize(
    ("content", "options", "message"),
    [
        (b"fine\n\xff\xfe\n", [], "Line 2 of standard input is no UTF-8 text"),
        (b'"fine"\n{"text": \n', ["--input", "jsonl"], "Line 2 of standard input is no JSON"),
        (b"[" * 100_000, ["--input", "jsonl"], "Line 1 of standard input is no JSON"),
        (b"3\n", ["--input", "jsonl"], "must be a text"),
    ],
)
def test_a_damaged_line_is_named(content, options, message, stdin, capsys):
    stdin(content)
    found = run("run", "sentiment-analysis", *options, status=1, capsys=capsys)
    assert message in found.err
    assert len(found.out.splitlines()) == (b"fine" in content), "what was read before is answered"


def test_an_empty_input_answers_nothing(stdin, capsys):
    stdin(b"\n \n")
    assert run("run", "sentiment-analysis", capsys=capsys).out == ""


def test_nothing_to_read(monkeypatch, capsys):
    class Terminal(io.StringIO):
        def isatty(self):
            return True

    monkeypatch.setattr(sys, "stdin", Terminal())
    assert "nothing to read" in run("run", "sentiment-analysis", status=1, capsys=capsys).err


def test_settings_are_json_or_text():
    assert setting("top_k=2") == ("top_k", 2) and setting("a=true") == ("a", True) and setting("a=None") == ("a", None)
    assert setting("function_to_apply=sigmoid") == ("function_to_apply", "sigmoid")
    assert setting("a=b=c") == ("a", "b=c")


def test_a_reader_that_has_enough(tmp_path):
    (tmp_path / "many.txt").write_text(f"{GOOD}\n" * 3000, encoding="utf-8")
    command = f'"{sys.executable}" -m plainformers run sentiment-analysis -f many.txt'
    done = subprocess.run(
        ["bash", "-c", f"{command} | head -n 1"], cwd=tmp_path, capture_output=True, text=True, timeout=120
    )
    assert done.stdout.startswith("POSITIVE") and done.stderr == ""


# ---- trace and eject


def test_trace_prints_every_step(capsys):
    out = run("trace", GOOD, capsys=capsys).out
    score = pipeline("sentiment-analysis")(GOOD)[0]["score"]
    assert "wonderful" in out and f"{score:.4f}" in out and "3. post-processing" in out


def test_trace_writes_a_page(tmp_path, capsys):
    path = tmp_path / "trace.html"
    found = run("trace", GOOD, BAD, "--attention", "--html", str(path), capsys=capsys)
    assert found.out == "" and str(path) in found.err
    page = path.read_text(encoding="utf-8")
    assert page.startswith("<!doctype html>") and page.count("<iframe") == 2


def test_a_terminal_without_unicode():
    done = start("trace", "Ça va?", env=os.environ | {"PYTHONIOENCODING": "ascii", "PYTHONUTF8": "0"})
    assert done.returncode == 0 and "\\u2588" in done.stdout and done.stderr == ""


def test_eject_writes_a_file(tmp_path, capsys):
    source = run("eject", "bert", capsys=capsys).out
    path = tmp_path / "my_bert.py"
    run("eject", "bert", "-o", str(path), capsys=capsys)
    assert path.read_text(encoding="utf-8") == source and "class BertModel" in source
    assert "--force" in run("eject", "bert", "-o", str(path), status=1, capsys=capsys).err
    run("eject", "bert", "-o", str(path), "--force", capsys=capsys)


# ---- Help


@pytest.mark.parametrize("command", [[], ["run"], ["trace"], ["eject"]])
def test_help_shows_examples_and_needs_no_torch(command):
    code = (
        "import sys; from plainformers.cli import main\ntry: main(sys.argv[1:])\nfinally: print(*sorted(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code, *command, "--help"], capture_output=True, text=True, timeout=60)
    text, _, modules = done.stdout.rstrip().rpartition("\n")
    assert "examples:\n  plainformers " in text and "usage: plainformers" in text
    assert {"torch", "numpy", "tokenizers", "huggingface_hub", "plainformers.pipelines"}.isdisjoint(modules.split())


def test_version_and_wrong_calls(capsys):
    for arguments, status in ((["--version"], 0), (["nothing"], 2), ([], 2), (["run"], 2)):
        with pytest.raises(SystemExit) as stopped:
            main(arguments)
        assert stopped.value.code == status
    assert __version__ in capsys.readouterr().out
