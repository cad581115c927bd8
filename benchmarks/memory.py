"""Peak memory of text classification, side by side with Transformers, and of 100,000 texts in one call.

    python benchmarks/memory.py --model FOLDER [--many 100000]

FOLDER holds a checkpoint and its tokenizer; a classifier is drawn where it has none. Each row is a process of its own,
whose greatest resident memory is printed: all of it, and what came on top of the imports. The 100,000 texts are of 4 to
20 words, once as a list and once as a generator, whose answers are not kept.
"""

import argparse
import multiprocessing
import resource
import tempfile
import time
import warnings
from collections.abc import Iterator
from typing import Any

from pipeline import english, with_classifier

TASK = "text-classification"


def peak() -> float:
    """MB of resident memory, at most, until now."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def short_texts(count: int) -> Iterator[str]:
    words = " ".join(english(1000)).split()
    for number in range(count):
        at, length = number * 7 % (len(words) - 20), 4 + number % 17
        yield " ".join(words[at : at + length])


def serve(library: str, folder: str, kind: str, count: int, pipe: Any) -> None:
    warnings.filterwarnings("ignore")
    if library == "transformers":
        import transformers as package

        package.logging.set_verbosity_error()
    else:
        import plainformers as package

        package.logging.set_verbosity_error()
    import torch

    package.pipeline  # noqa: B018 what is imported on first use
    torch.set_num_threads(2)
    texts = english(1000) if kind.startswith("1,000") else list(short_texts(count)) if kind == "list" else None
    classify = package.pipeline(TASK, model=folder, device="cpu", dtype=torch.float32)
    classify("A first text.")
    before, start = peak(), time.perf_counter()
    options = {"truncation": True} | ({"batch_size": 32} if kind.endswith("32") else {})
    answers = classify(short_texts(count) if texts is None else texts, **options)
    number = sum(1 for _ in answers)
    pipe.send((number, peak(), peak() - before, time.perf_counter() - start))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", required=True)
    parser.add_argument("--many", type=int, default=100_000)
    options = parser.parse_args()
    context = multiprocessing.get_context("spawn")
    with tempfile.TemporaryDirectory() as folder:
        with_classifier(options.model, folder)
        rows = [("transformers", kind) for kind in ("1,000", "1,000 by 32")]
        rows += [("plainformers", kind) for kind in ("1,000", "1,000 by 32")]
        rows += [("plainformers", kind) for kind in ("list", "generator")] if options.many else []
        for library, kind in rows:
            ours, theirs = context.Pipe()
            process = context.Process(target=serve, args=(library, folder, kind, options.many, theirs), daemon=True)
            process.start()
            theirs.close()  # so that the end of a process that failed is heard
            count, most, more, seconds = ours.recv()
            process.join()
            figures = f"{most:6.0f} MB in all, {more:6.0f} MB by the call, {seconds:6.1f} s"
            print(f"{library:14s} {kind:12s} {count:7d} texts: {figures}")


if __name__ == "__main__":
    main()
