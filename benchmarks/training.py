"""Fine-tuning a small BERT for classification, side by side with Transformers' Trainer and bare loops.

    python benchmarks/training.py --model FOLDER [--causal] [--steps 12] [--rounds 3] [--only REGEX]

FOLDER holds a checkpoint and its tokenizer (all-MiniLM-L6-v2, say). Batches of 32 texts of 5 to 256 tokens, most of
them few; a whole train() call without logging and saving, and the same rows in the bare loops. All run in turns, each
in a process of its own; medians. It also prints the peak memory of each process.
With --causal, FOLDER is a decoder's (SmolLM2, say), whose shape is trained from drawn weights on full rows of 512
tokens, four to a batch, by both Trainers.
"""

import argparse
import multiprocessing
import random
import re
import resource
import statistics
import tempfile
import time
import warnings
from collections.abc import Callable
from typing import Any

import torch
from pipeline import english

BATCH, LONGEST, RATE = 32, 256, 5e-5


def rows_of(folder: str, count: int) -> list[dict[str, Any]]:
    import plainformers

    texts = english(count)
    ids = plainformers.AutoTokenizer.from_pretrained(folder)(texts, truncation=True, max_length=LONGEST)["input_ids"]
    return [
        {"input_ids": row, "attention_mask": [1] * len(row), "labels": int("the" in text.split())}
        for row, text in zip(ids, texts, strict=True)
    ]


def causal_rows(folder: str, count: int) -> list[dict[str, Any]]:
    import plainformers

    size, draw = plainformers.AutoConfig.from_pretrained(folder).vocab_size, random.Random(0)
    rows = [[draw.randrange(size) for _ in range(512)] for _ in range(count)]
    return [{"input_ids": row, "labels": row} for row in rows]


def model_of(library: Any, folder: str, causal: bool = False) -> Any:
    torch.manual_seed(0)
    if causal:
        return library.AutoModelForCausalLM.from_config(library.AutoConfig.from_pretrained(folder), dtype=torch.float32)
    return library.AutoModelForSequenceClassification.from_pretrained(folder, num_labels=2, dtype=torch.float32)


def trainer(library: Any, folder: str, rows: list[Any], **settings: Any) -> Callable[[], float]:
    """Seconds of a train() call of a library's Trainer."""
    causal = "attention_mask" not in rows[0]
    size = 4 if causal else BATCH
    tokenizer = None if causal else library.AutoTokenizer.from_pretrained(folder)

    def run() -> float:
        model = model_of(library, folder, causal)
        with tempfile.TemporaryDirectory() as out:
            args = library.TrainingArguments(
                out, per_device_train_batch_size=size, max_steps=len(rows) // size, report_to="none", use_cpu=True,
                save_strategy="no", logging_strategy="no", disable_tqdm=True, learning_rate=RATE, **settings,
            )  # fmt: skip
            collator = library.default_data_collator if causal else library.DataCollatorWithPadding(tokenizer)
            made = library.Trainer(model=model, args=args, train_dataset=rows, data_collator=collator)
            begin = time.perf_counter()
            made.train()
            return time.perf_counter() - begin

    return run


def bare(folder: str, rows: list[Any], grouped: bool, bf16: bool) -> Callable[[], float]:
    """Seconds of a loop of torch alone, over Transformers' model; grouped: batches of texts of like length."""
    import transformers

    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)

    def run() -> float:
        model = model_of(transformers, folder).train()
        optimizer = torch.optim.AdamW(model.parameters(), lr=RATE, fused=True)
        order = list(range(len(rows)))
        random.Random(0).shuffle(order)
        if grouped:
            order.sort(key=lambda i: len(rows[i]["input_ids"]))
        batches = [order[i : i + BATCH] for i in range(0, len(order), BATCH)]
        random.Random(0).shuffle(batches)
        begin = time.perf_counter()
        for batch in batches:
            inputs = tokenizer.pad(
                [{k: rows[i][k] for k in ("input_ids", "attention_mask")} for i in batch], return_tensors="pt"
            )
            with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
                loss = model(**inputs, labels=torch.tensor([rows[i]["labels"] for i in batch])).loss
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        return time.perf_counter() - begin

    return run


def variants(folder: str, rows: list[Any]) -> dict[str, Callable[[], Callable[[], float]]]:
    import transformers

    import plainformers

    grouped = {"train_sampling_strategy": "group_by_length"}
    if "attention_mask" not in rows[0]:
        return {
            "transformers Trainer": lambda: trainer(transformers, folder, rows),
            "plainformers Trainer": lambda: trainer(plainformers, folder, rows),
            "plainformers Trainer, all logits": lambda: trainer(plainformers, folder, rows, chunked_loss=False),
        }
    return {
        "transformers Trainer": lambda: trainer(transformers, folder, rows),
        "transformers Trainer, grouped": lambda: trainer(transformers, folder, rows, **grouped),
        "bare loop": lambda: bare(folder, rows, False, False),
        "bare loop, grouped": lambda: bare(folder, rows, True, False),
        "plainformers Trainer, padded": lambda: trainer(plainformers, folder, rows, padding_free=False),
        "plainformers Trainer": lambda: trainer(plainformers, folder, rows),
        "plainformers Trainer, grouped": lambda: trainer(plainformers, folder, rows, **grouped),
        "transformers Trainer, bf16": lambda: trainer(transformers, folder, rows, bf16=True),
        "bare loop, grouped, bf16": lambda: bare(folder, rows, True, True),
        "plainformers Trainer, bf16": lambda: trainer(plainformers, folder, rows, bf16=True),
    }


def serve(name: str, folder: str, rows: list[Any], threads: int, pipe: Any) -> None:
    """A process that runs one variant whenever it is told to."""
    warnings.filterwarnings("ignore")
    torch.set_num_threads(threads)
    run = variants(folder, rows)[name]()
    pipe.send("ready")
    while pipe.recv():
        pipe.send((run(), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024))


def main() -> None:
    p = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    p.add_argument("--model", required=True)
    p.add_argument("--causal", action="store_true")
    p.add_argument("--steps", type=int, default=12)
    p.add_argument("--rounds", type=int, default=3)
    p.add_argument("--threads", type=int, default=2)
    p.add_argument("--only", default="")
    args = p.parse_args()
    warnings.filterwarnings("ignore")
    rows = causal_rows(args.model, args.steps * 4) if args.causal else rows_of(args.model, args.steps * BATCH)
    names = [name for name in variants(args.model, rows) if re.search(args.only, name)]
    context = multiprocessing.get_context("spawn")
    times: dict[str, list[float]] = {name: [] for name in names}
    memory: dict[str, float] = {}
    pipes = {}
    for name in names:
        pipes[name], theirs = context.Pipe()
        context.Process(target=serve, args=(name, args.model, rows, args.threads, theirs), daemon=True).start()
        pipes[name].recv()
    for turn in range(args.rounds + 1):  # the first one warms up
        for name in names:
            pipes[name].send(True)
            seconds, memory[name] = pipes[name].recv()
            if turn:
                times[name].append(seconds)
    for pipe in pipes.values():
        pipe.send(False)
    tokens = sum(len(row["input_ids"]) for row in rows)
    mean, size = tokens / len(rows), 4 if args.causal else BATCH
    print(f"{len(rows)} texts, {mean:.0f} tokens on average, batches of {size}, {args.threads} threads\n")
    print("| | samples/s | x Transformers' Trainer | peak memory, MB |\n|---|---|---|---|")
    first = {half: next((n for n in names if n.startswith("transformers") and ("bf16" in n) == half), None)
             for half in (False, True)}  # fmt: skip
    for name in names:
        base = first["bf16" in name]
        ratio = statistics.median(times[base]) / statistics.median(times[name]) if base else float("nan")
        print(f"| {name} | {len(rows) / statistics.median(times[name]):.1f} | {ratio:.2f} | {memory[name]:.0f} |")


if __name__ == "__main__":
    main()
