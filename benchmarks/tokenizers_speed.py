"""Tokenizers, side by side with Transformers and the bare `tokenizers` library: batches, one text, loading, start.

    python benchmarks/tokenizers_speed.py --folder FOLDER [--spm FOLDER]

FOLDER holds a tokenizer.json; the folder of --spm holds a sentencepiece.bpe.model of XLM-R and no tokenizer.json. All
variants take turns in one run and must give the same ids; the figures are medians.
"""

import argparse
import random
import statistics
import subprocess
import sys
import time
import warnings
from collections.abc import Callable

LINES = """\
the a an and of to in it is was that for on with as at by from this his her not but had have be are were
which film never always wonderful tedious transformation internationally unbelievable 1984 3.14159
naïve café Straße Über
не был фильм очень хороший 电影 很 好看 とても 面白い 映画 재미있는 영화 فيلم رائع שלום नमस्ते 🎬 👍🏽 e-mail http://example.org
"""
WORDS = LINES.split()


def texts(count: int) -> list[str]:
    draw = random.Random(0)
    lengths = [min(256, max(3, int(20 * draw.lognormvariate(0, 0.85)))) for _ in range(count)]
    return [" ".join(draw.choices(WORDS, k=n)) for n in lengths]


def measure(variants: dict[str, Callable[[], object]], rounds: int, title: str, unit: float, name: str) -> None:
    for run in variants.values():
        run()
    seconds: dict[str, list[float]] = {key: [] for key in variants}
    for _ in range(rounds):
        for key, run in variants.items():
            begin = time.perf_counter()
            run()
            seconds[key].append(time.perf_counter() - begin)
    medians = {key: statistics.median(values) for key, values in seconds.items()}
    ours = medians["plainformers"]
    print(f"\n{title}")
    for key, value in medians.items():
        print(f"  {key:22s}{value * unit:12.3f} {name}   ours takes {ours / value:5.2f} of it ({value / ours:5.2f} x)")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", required=True)
    parser.add_argument("--spm")
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    warnings.filterwarnings("ignore")

    start = "from {} import AutoTokenizer; AutoTokenizer.from_pretrained({!r})"
    commands = {
        name: [sys.executable, "-c", start.format(name, options.folder)] for name in ("transformers", "plainformers")
    }
    runs = {name: (lambda c=c: subprocess.run(c, check=True, capture_output=True)) for name, c in commands.items()}
    measure(runs, options.rounds, "From the start of a process to a loaded tokenizer", 1e3, "ms")

    import tokenizers
    import torch
    import transformers

    import plainformers

    transformers.logging.set_verbosity_error()
    plainformers.logging.set_verbosity_error()
    loading: dict[str, Callable[[], object]] = {
        "transformers": lambda: transformers.AutoTokenizer.from_pretrained(options.folder),
        "tokenizers": lambda: tokenizers.Tokenizer.from_file(f"{options.folder}/tokenizer.json"),
        "plainformers": lambda: plainformers.AutoTokenizer.from_pretrained(options.folder),
    }
    measure(loading, 2 * options.rounds, "Loading tokenizer.json", 1e3, "ms")
    if options.spm:
        spm: dict[str, Callable[[], object]] = {
            "transformers": lambda: transformers.XLMRobertaTokenizer.from_pretrained(options.spm),
            "plainformers": lambda: plainformers.AutoTokenizer.from_pretrained(options.spm),
        }
        measure(spm, options.rounds, "Loading 250,000 entries of a sentencepiece.bpe.model", 1e3, "ms")

    theirs, bare, ours = (load() for load in loading.values())
    for each in (theirs, ours):
        each.model_max_length = 512
    bare.no_truncation()
    bare.no_padding()
    many, short = texts(20_000), "A film that I would gladly see again."
    asked = {"padding": True, "truncation": True, "max_length": 256, "return_tensors": "pt"}
    a, b = theirs(many, **asked), ours(many, **asked)
    assert all(torch.equal(a[name], b[name]) for name in a), "the tensors differ"

    def bare_batch() -> object:
        bare.enable_truncation(256)
        bare.enable_padding(pad_id=ours.pad_token_id, pad_token=ours.pad_token)
        rows = bare.encode_batch(many)
        bare.no_truncation()
        bare.no_padding()
        columns = ("ids", "type_ids", "attention_mask")
        return [torch.tensor([getattr(row, name) for row in rows]) for name in columns]

    measure(
        {
            "transformers": lambda: theirs(many, **asked),
            "tokenizers, by hand": bare_batch,
            "plainformers": lambda: ours(many, **asked),
        },
        options.rounds, "20,000 mixed texts, padded, as tensors", 1e3, "ms",
    )  # fmt: skip
    measure(
        {
            "transformers": lambda: theirs(many)["input_ids"],
            "tokenizers": lambda: [row.ids for row in bare.encode_batch(many)],
            "plainformers": lambda: ours(many)["input_ids"],
        },
        options.rounds, "20,000 mixed texts, lists of ids", 1e3, "ms",
    )  # fmt: skip
    repeat = range(200)
    measure(
        {
            "transformers": lambda: [theirs(short) for _ in repeat],
            "tokenizers": lambda: [bare.encode(short) for _ in repeat],
            "plainformers": lambda: [ours(short) for _ in repeat],
        },
        4 * options.rounds, "One short text", 1e6 / len(repeat), "us",
    )  # fmt: skip


if __name__ == "__main__":
    main()
