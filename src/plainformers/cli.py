"""The command `plainformers`: run a task on texts and files, trace one text step by step, eject a model's file.

What only one command needs is imported in its function, so that help and mistakes are answered without torch.
"""

import argparse
import io
import json
import os
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one command; returns the exit status: 0, 1 for what went wrong, 2 for a wrong call, 130 for Ctrl-C."""
    options = make_parser().parse_args(arguments)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # a terminal that knows no Unicode gets escapes, not an error
            stream.reconfigure(errors="backslashreplace")
    try:
        options.command(options)
        sys.stdout.flush()
        return 0
    except BrokenPipeError:  # `plainformers run … | head`: the reader has enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except KeyboardInterrupt:
        return 130
    except (ValueError, TypeError, OSError) as error:
        if os.environ.get("PLAINFORMERS_VERBOSITY", "").lower() == "debug":
            raise
        print(f"plainformers: {error}", file=sys.stderr)
        return 1


def make_parser() -> argparse.ArgumentParser:
    from . import __version__

    parser = new_parser(argparse.ArgumentParser, "plainformers", "Transformer models in one line.")
    parser.add_argument("--version", action="version", version=f"plainformers {__version__}")
    commands = parser.add_subparsers(metavar="COMMAND", required=True)

    command = new_parser(commands.add_parser, "run", "Answers texts, files or standard input.")
    command.add_argument("task", metavar="TASK", help="for instance sentiment-analysis")
    command.add_argument("texts", metavar="TEXT", nargs="*", help="inputs; without any, standard input is read")
    command.add_argument(
        "-f", "--file", action="append", default=[], help="a file of inputs, one a line; - is standard input"
    )
    command.add_argument(
        "--input", choices=["text", "jsonl"], help="what the lines are; by default the file's name says"
    )
    command.add_argument("--output", choices=["text", "jsonl"], default="text", help="how answers are written")
    add_pipeline_arguments(command)
    command.set_defaults(command=run)

    command = new_parser(commands.add_parser, "trace", "Shows every step of a text with its numbers.")
    command.add_argument("texts", metavar="TEXT", nargs="+", help="one text, or a few, which then make one batch")
    command.add_argument("--task", default="sentiment-analysis", help="default: %(default)s")
    command.add_argument("--attention", action="store_true", help="with the attentions of all layers")
    command.add_argument("--html", metavar="FILE", help="write a page instead of text")
    add_pipeline_arguments(command)
    command.set_defaults(command=trace)

    command = new_parser(commands.add_parser, "generate", "Writes on after a text.")
    command.add_argument("texts", metavar="TEXT", nargs="*", help="the beginning; without any, standard input is read")
    command.set_defaults(command=generate)
    add_generation_arguments(command)

    command = new_parser(commands.add_parser, "chat", "Talks with a model, in a terminal.")
    command.add_argument("model", metavar="MODEL", help="a folder, a .gguf file or a repository")
    command.add_argument("--system", metavar="TEXT", help="what the model is told first")
    command.set_defaults(command=chat)
    add_generation_arguments(command, model=False)

    command = new_parser(commands.add_parser, "eject", "Writes a model as one file that is yours.")
    command.add_argument("model_type", metavar="MODEL", help="for instance bert")
    command.add_argument("-o", "--output", metavar="FILE", help="default: standard output")
    command.add_argument("--force", action="store_true", help="replace FILE when it is there")
    command.set_defaults(command=eject)
    return parser


def new_parser(make: Any, name: str, what: str) -> argparse.ArgumentParser:
    """A parser whose help ends with the examples of assets/help. make: ArgumentParser or add_parser."""
    examples = Path(__file__).parent / "assets" / "help" / f"{name}.txt"
    given = {"help": what} if make is not argparse.ArgumentParser else {"prog": name}
    return make(
        *([] if "prog" in given else [name]),
        **given,
        description=what,
        epilog=examples.read_text(encoding="utf-8"),
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )


def add_generation_arguments(parser: argparse.ArgumentParser, model: bool = True) -> None:
    parser.add_argument("-n", "--max-new-tokens", type=int, metavar="N", help="default: 256")
    parser.add_argument(
        "-t", "--temperature", type=float, help="0 takes the likeliest token; default: the model's, or 0.7"
    )
    parser.add_argument("--seed", type=int, help="the same text for the same number")
    parser.add_argument("--quantization", choices=["int8", "int4"], help="rounds the weights")
    add_pipeline_arguments(parser, model)


def add_pipeline_arguments(parser: argparse.ArgumentParser, model: bool = True) -> None:
    if model:
        parser.add_argument("-m", "--model", help="a folder or a repository; default: the task's own")
    parser.add_argument("--revision", help="branch, tag or commit of the repository")
    parser.add_argument("--device", help="cpu, cuda, cuda:1, …; default: a GPU where there is one")
    parser.add_argument("--dtype", help="float32, bfloat16, float16; default: the checkpoint's")
    parser.add_argument("--batch-size", type=int, metavar="N", help="inputs at once; default: by their lengths")
    parser.add_argument(
        "--set", action="append", default=[], metavar="NAME=VALUE", help="any argument of the task: --set top_k=2"
    )


def make_pipeline(task: str, options: argparse.Namespace) -> Any:
    from .pipelines import known_task, pipeline

    known_task(task)  # a misspelt task needs no torch
    names = ("model", "revision", "device", "dtype", "batch_size", "quantization", "max_new_tokens")
    given = {name: value for name in names if (value := getattr(options, name, None)) is not None}
    if (temperature := getattr(options, "temperature", None)) is not None:
        given |= {"do_sample": True, "temperature": temperature} if temperature else {"do_sample": False}
    return pipeline(task, **given, **dict(map(setting, options.set)))


def setting(text: str) -> tuple[str, Any]:
    """NAME=VALUE -> (name, value): a value of JSON (2, true, null), anything else is a text."""
    name, equals, value = text.partition("=")
    if not equals or not name.isidentifier():
        raise ValueError(f"--set takes NAME=VALUE, for instance --set top_k=2; got {text!r:.80}.")
    try:
        return name, json.loads(value)
    except ValueError:
        return name, {"True": True, "False": False, "None": None}.get(value, value)


# ---- Commands


def run(options: argparse.Namespace) -> None:
    if options.texts and options.file:
        raise ValueError("Give texts or files (--file), not both.")
    if not options.texts and not options.file and sys.stdin.isatty():
        raise ValueError('There is nothing to read: give texts ("…"), files (--file FILE) or standard input.')
    files = [Path(name) for name in options.file if name != "-"]
    for path in files:  # before a model is loaded
        if not path.is_file():
            raise FileNotFoundError(f"There is no file {str(path)!r}.")
    pipe = make_pipeline(options.task, options)
    if options.texts:
        for text, answer in zip(options.texts, pipe(options.texts), strict=True):
            write(text, answer, options.output)
        return
    held: list[Any] = []  # the inputs whose answers are not written yet
    source = (held.append(item) or item for item in read_inputs(options))
    for answer in pipe(source):
        write(held.pop(0), answer, options.output)


def read_inputs(options: argparse.Namespace) -> Iterator[Any]:
    """The inputs of all files, or of standard input, line by line."""
    for name in options.file or ["-"]:
        lines = sys.stdin.buffer if name == "-" else open(name, "rb")  # noqa: SIM115 (closed below)
        what = "standard input" if name == "-" else repr(name)
        json_lines = name.endswith(".jsonl") if options.input is None else options.input == "jsonl"
        try:
            for number, line in enumerate(lines, 1):
                try:
                    text = line.decode("utf-8-sig" if number == 1 else "utf-8").rstrip("\r\n")
                    if text.strip():
                        yield json.loads(text) if json_lines else text
                except (ValueError, RecursionError) as error:
                    kind = "JSON" if json_lines and not isinstance(error, UnicodeError) else "UTF-8 text"
                    raise ValueError(f"Line {number} of {what} is no {kind}: {error!s:.120}.") from error
        finally:
            if name != "-":
                lines.close()


def write(item: Any, answer: Any, output: str) -> None:
    """One line for one answer: JSON of input and answer, or the answer's values, then the input."""
    if output == "jsonl":
        print(json.dumps({"input": item, "answer": answer}, ensure_ascii=False, default=str), flush=True)
        return
    answers = answer if isinstance(answer, list) else [answer]
    text = item if isinstance(item, str) else json.dumps(item, ensure_ascii=False)
    text = "".join(c if c.isprintable() else " " for c in text)
    for one in answers:
        values = one.values() if isinstance(one, dict) else [one]
        shown = (f"{value:.4f}" if isinstance(value, float) else str(value) for value in values)
        print("\t".join((*shown, text)), flush=True)


def trace(options: argparse.Namespace) -> None:
    pipe = make_pipeline(options.task, options)
    texts = options.texts if len(options.texts) > 1 else options.texts[0]
    pipe.trace(texts)  # the first call of a process takes longer, which is not what the times should show
    found = pipe.trace(texts, attention=options.attention)
    if options.html is None:
        print(found)
    else:
        print(f"Wrote {found.save(options.html)}", file=sys.stderr)


def make_writer(options: argparse.Namespace) -> Any:
    """A pipeline for generate and chat."""
    pipe = make_pipeline("text-generation", options)
    if options.seed is not None:
        import torch

        torch.manual_seed(options.seed)
    return pipe


def generate(options: argparse.Namespace) -> None:
    if options.model is None:
        raise ValueError("Name a model: plainformers generate -m MODEL TEXT.")
    if not options.texts and sys.stdin.isatty():
        raise ValueError('There is nothing to go on from: give a text ("…") or standard input.')
    texts = options.texts or [sys.stdin.read().rstrip("\n")]
    pipe = make_writer(options)
    for text in texts:
        print(text, end="", flush=True)
        for piece in pipe.stream_text(text):
            print(piece, end="", flush=True)
        print()


def chat(options: argparse.Namespace) -> None:
    """Turn by turn until /exit, Ctrl-D or Ctrl-C; Ctrl-C during an answer ends only that. Errors leave the history."""
    pipe = make_writer(options)
    begin = [{"role": "system", "content": options.system}] if options.system else []
    conversation, terminal = pipe.conversation(begin), sys.stdin.isatty()
    if terminal:
        print(f"{pipe.model.name_or_path}: /reset forgets what was said, /exit or Ctrl-D ends, Ctrl-C stops an answer.")
    while True:
        try:
            said = input("\n> " if terminal else "")
        except (EOFError, KeyboardInterrupt):
            print()
            return
        if said.strip() in ("/exit", "/quit"):
            return
        if said.strip() == "/reset":
            conversation = pipe.conversation(begin)
        elif said.strip():
            try:
                for piece in conversation.answer(said):
                    print(piece, end="", flush=True)
            except KeyboardInterrupt:  # what was said so far stays said
                pass
            except ValueError as error:
                print(f"plainformers: {error}", file=sys.stderr)
            print(flush=True)


def eject(options: argparse.Namespace) -> None:
    from .eject import eject, write

    if options.output is None:
        sys.stdout.write(eject(options.model_type))
        return
    write(options.model_type, options.output, force=options.force)
    print(f"Wrote {options.output}", file=sys.stderr)
