"""Text classification, side by side with Transformers: one short text, and 1,000 texts of mixed length.

    python benchmarks/pipeline.py --model FOLDER

FOLDER holds a checkpoint and its tokenizer; a classifier is drawn where it has none. Both libraries run in one process,
in turns, and must agree on every score. "sorted loop" is what a careful user writes by hand with Transformers.
"""

import argparse
import random
import re
import statistics
import tempfile
import time
import warnings
from collections.abc import Callable

import torch
import transformers

import plainformers

SHORT = "A film that I would gladly see again."


def english(count: int, seed: int = 0) -> list[str]:
    """Passages of real English out of Python's own documentation: 4 to 190 words, most of them short."""
    from pydoc_data.topics import topics

    paragraphs = [p for text in topics.values() for p in re.split(r"\n\s*\n", text)]
    prose = [p for p in paragraphs if len(re.findall(r"[A-Za-z]{2,}", p)) > 12 and "::=" not in p and ">>>" not in p]
    words = re.sub(r'["*`]', "", " ".join(prose)).split()
    draw, at, texts = random.Random(seed), 0, []
    for _ in range(count):
        length = min(190, max(4, int(20 * draw.lognormvariate(0, 0.85))))
        at = at if at + length < len(words) else draw.randrange(50)
        texts.append(" ".join(words[at : at + length]))
        at += length
    return texts


def with_classifier(model: str, folder: str) -> str:
    """A folder with the model, its tokenizer and a classifier, drawn if need be, that both libraries read."""
    torch.manual_seed(0)
    classifier, info = plainformers.AutoModelForSequenceClassification.from_pretrained(
        model, dtype="float32", output_loading_info=True
    )
    if info["missing_keys"]:
        with torch.no_grad():
            classifier.classifier.weight.normal_(0.0, 0.5)  # as drawn, it would tell no texts apart
    classifier.save_pretrained(folder)
    plainformers.AutoTokenizer.from_pretrained(model).save_pretrained(folder)
    return folder


def measure(variants: dict[str, Callable[[], list[float]]], rounds: int) -> dict[str, float]:
    """Median seconds of each; the variants take turns."""
    reference = next(iter(variants.values()))()  # warms up
    for name, run in variants.items():
        worst = max(abs(a - b) for a, b in zip(reference, run(), strict=True))
        assert worst < 1e-5, f"{name} differs by {worst}"
    seconds: dict[str, list[float]] = {name: [] for name in variants}
    for _ in range(rounds):
        for name, run in variants.items():
            start = time.perf_counter()
            run()
            seconds[name].append(time.perf_counter() - start)
    return {name: statistics.median(times) for name, times in seconds.items()}


def table(title: str, medians: dict[str, float], unit: Callable[[float], str]) -> None:
    """The last row is ours; the ratio is how many times faster it is than each."""
    ours = list(medians.values())[-1]
    print(f"\n{title}")
    for name, seconds in medians.items():
        print(f"  {name:28s} {unit(seconds):>22s}   plainformers is {seconds / ours:5.2f} x as fast")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", required=True)
    parser.add_argument("--texts", type=int, default=1000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--short-rounds", type=int, default=200)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    options = parser.parse_args()
    warnings.filterwarnings("ignore")
    torch.set_num_threads(options.threads)
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    plainformers.logging.set_verbosity_error()
    with tempfile.TemporaryDirectory() as temporary:
        folder = with_classifier(options.model, temporary)
        theirs = transformers.pipeline("text-classification", model=folder, device="cpu", dtype=torch.float32)
        ours = plainformers.pipeline("text-classification", model=folder, device="cpu", dtype=torch.float32)
    texts = english(options.texts)

    def sorted_loop() -> list[float]:
        rows = theirs.tokenizer(texts, truncation=True)["input_ids"]
        order = sorted(range(len(rows)), key=lambda i: len(rows[i]), reverse=True)
        scores = [0.0] * len(rows)
        for start in range(0, len(order), 32):
            some = order[start : start + 32]
            batch = theirs.tokenizer.pad({"input_ids": [rows[i] for i in some]}, return_tensors="pt")
            with torch.inference_mode():
                best = theirs.model(**batch).logits.softmax(-1).amax(-1).tolist()
            for i, score in zip(some, best, strict=True):
                scores[i] = score
        return scores

    print(f"torch {torch.__version__}, transformers {transformers.__version__}, {options.threads} threads")
    medians = measure(
        {
            "transformers": lambda: [theirs(SHORT)[0]["score"]],
            "plainformers": lambda: [ours(SHORT)[0]["score"]],
        },
        options.short_rounds,
    )
    table("One short text, warm", medians, lambda seconds: f"{seconds * 1e3:.2f} ms")
    print(f"  latency: {medians['plainformers'] / medians['transformers']:.2f} of Transformers'")
    medians = measure(
        {
            "transformers, default": lambda: [answer["score"] for answer in theirs(texts, truncation=True)],
            "transformers, batch_size=32": lambda: [a["score"] for a in theirs(texts, truncation=True, batch_size=32)],
            "transformers, sorted loop": sorted_loop,
            "plainformers, default": lambda: [answer["score"] for answer in ours(texts, truncation=True)],
        },
        options.rounds,
    )
    table(f"{len(texts)} texts", medians, lambda seconds: f"{len(texts) / seconds:.1f} texts a second")


if __name__ == "__main__":
    main()
