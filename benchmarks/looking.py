"""What looking inside costs: a trace against a plain call, the command line against the same two lines of Python.

    python benchmarks/looking.py

All variants take turns in one run; the figures are medians. The built-in model is used, no network.
"""

import argparse
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

TEXTS = {
    "10 tokens": "A film that I would gladly see again.",
    "100 tokens": "It starts slowly, but the second half is a joy, and the actors are better than the script. " * 5,
    "512 tokens": "The plot is thin, the jokes are old, and it never ends. " * 60,
}
TWO_LINES = "from plainformers import pipeline; print(pipeline('sentiment-analysis')('This library is a joy to read.'))"


def medians(variants: dict[str, Callable[[], object]], rounds: int) -> dict[str, float]:
    for run in variants.values():
        run()
    seconds: dict[str, list[float]] = {name: [] for name in variants}
    for _ in range(rounds):
        for name, run in variants.items():
            begin = time.perf_counter()
            run()
            seconds[name].append(time.perf_counter() - begin)
    return {name: statistics.median(values) for name, values in seconds.items()}


def show(title: str, found: dict[str, float]) -> None:
    first = next(iter(found.values()))
    print(f"\n{title}")
    for name, seconds in found.items():
        print(f"  {name:44s} {seconds * 1e3:9.2f} ms   {seconds / first:5.2f}")


def process(*arguments: str) -> Callable[[], object]:
    return lambda: subprocess.run(arguments, check=True, capture_output=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=60)
    parser.add_argument("--process-rounds", type=int, default=9)
    options = parser.parse_args()

    command = str(Path(sys.executable).parent / "plainformers")
    variants = {
        "python -c, the two lines": process(sys.executable, "-c", TWO_LINES),
        "plainformers run sentiment-analysis": process(
            command, "run", "sentiment-analysis", "This library is a joy to read."
        ),
        "plainformers --help": process(command, "--help"),
        "python -c pass": process(sys.executable, "-c", "pass"),
    }
    show("From the start of a process to the answer", medians(variants, options.process_rounds))

    from plainformers import logging, pipeline

    logging.set_verbosity_error()
    pipe = pipeline("sentiment-analysis")
    for name, text in TEXTS.items():
        calls: dict[str, Callable[[], object]] = {
            "pipe(text)": lambda text=text: pipe(text),
            "pipe.trace(text)": lambda text=text: pipe.trace(text),
            "pipe.trace(text), printed": lambda text=text: str(pipe.trace(text)),
            "pipe.trace(text), as HTML": lambda text=text: pipe.trace(text)._repr_html_(),
            "pipe.trace(text, attention=True)": lambda text=text: pipe.trace(text, attention=True),
        }
        show(name, medians(calls, options.rounds))


if __name__ == "__main__":
    main()
