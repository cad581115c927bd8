"""Makes the built-in sentiment model: all-MiniLM-L6-v2, trained on SST-2.

    python recipes/sentiment/train.py --start FOLDER --data FOLDER --out FOLDER

--start: the folder of sentence-transformers/all-MiniLM-L6-v2 (Apache-2.0). --data: a folder with GLUE's SST-2 as
glue_train.tsv.gz and glue_dev.tsv (header `sentence<TAB>label`, 1 = positive).
AdamW with a learning rate that rises for 6 % of the steps and then falls to 0; batches of texts of similar length.
Three things against learning the phrases by heart: the embeddings stay as they are (so words that SST-2 lacks keep
their sense), a part of the words is hidden, and labels are a little uncertain. The weights that count are a running
average, which is steadier than the last step. shrink.py makes the file that ships.
"""

import argparse
import copy
import csv
import gzip
import random
import time
from pathlib import Path

import torch
import torch.nn.functional as F

from plainformers import AutoModelForSequenceClassification, AutoTokenizer

LABELS = {0: "NEGATIVE", 1: "POSITIVE"}


def read(path: Path) -> tuple[list[str], torch.Tensor]:
    """Sentences, and labels [N]."""
    with (gzip.open if path.suffix == ".gz" else open)(path, "rt", encoding="utf-8") as file:
        rows = list(csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE))
    return [row["sentence"].strip() for row in rows], torch.tensor([int(row["label"]) for row in rows])


def batches(lengths: list[int], size: int, shuffle: random.Random | None) -> list[list[int]]:
    """Indices in batches of similar length: shuffled, sorted within windows of 100 batches, batches shuffled."""
    order = list(range(len(lengths)))
    if shuffle is None:
        order.sort(key=lengths.__getitem__)
        return [order[i : i + size] for i in range(0, len(order), size)]
    shuffle.shuffle(order)
    made = []
    for start in range(0, len(order), 100 * size):
        window = sorted(order[start : start + 100 * size], key=lengths.__getitem__)
        made += [window[i : i + size] for i in range(0, len(window), size)]
    shuffle.shuffle(made)
    return made


def collate(ids: list[list[int]], chosen: list[int], hide: float = 0.0, by: int = 0) -> dict[str, torch.Tensor]:
    """hide: the part of the words that is replaced by the id `by`; the first and last token of a text stay."""
    width = max(len(ids[i]) for i in chosen)
    input_ids, mask = (
        torch.zeros(len(chosen), width, dtype=torch.long),
        torch.zeros(len(chosen), width, dtype=torch.long),
    )
    for row, i in enumerate(chosen):
        input_ids[row, : len(ids[i])] = torch.tensor(ids[i])
        mask[row, : len(ids[i])] = 1
    if hide:
        inner = mask.roll(-1, 1) * mask
        inner[:, 0] = inner[:, -1] = 0
        input_ids[(torch.rand(input_ids.shape) < hide) & inner.bool()] = by
    return {"input_ids": input_ids, "attention_mask": mask}


@torch.no_grad()
def accuracy(model, ids, labels) -> float:
    model.eval()
    right = 0
    for chosen in batches([len(one) for one in ids], 64, None):
        right += (model(**collate(ids, chosen)).logits.argmax(-1) == labels[chosen]).sum().item()
    return right / len(ids)


def main() -> None:
    p = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    p.add_argument("--start", required=True)
    p.add_argument("--data", type=Path, required=True)
    p.add_argument("--out", type=Path, required=True)
    p.add_argument("--epochs", type=int, default=3)
    p.add_argument("--batch", type=int, default=32)
    p.add_argument("--rate", type=float, default=6e-5)
    p.add_argument("--decay", type=float, default=0.05, help="weight decay")
    p.add_argument("--hide", type=float, default=0.1, help="part of the words that is hidden")
    p.add_argument("--smooth", type=float, default=0.1, help="label smoothing")
    p.add_argument("--average", type=float, default=0.999, help="decay of the running average of the weights")
    p.add_argument("--seed", type=int, default=0)
    p.add_argument("--float32", action="store_true", help="no bfloat16 matrix products")
    p.add_argument("--steps", type=int, help="stop after so many steps, to try things out")
    args = p.parse_args()
    random.seed(args.seed)
    torch.manual_seed(args.seed)
    print(vars(args) | {"start": Path(args.start).name, "data": "SST-2", "out": args.out.name}, flush=True)

    tokenizer = AutoTokenizer.from_pretrained(args.start)
    model = AutoModelForSequenceClassification.from_pretrained(args.start, id2label=LABELS)
    texts, labels = read(args.data / "glue_train.tsv.gz")
    dev_texts, dev_labels = read(args.data / "glue_dev.tsv")
    ids, dev_ids = (tokenizer(part, truncation=True, max_length=128)["input_ids"] for part in (texts, dev_texts))
    lengths = [len(one) for one in ids]

    model.bert.embeddings.requires_grad_(False)
    trained = [q for q in model.parameters() if q.requires_grad]
    groups = [
        {"params": [q for q in trained if q.dim() > 1], "weight_decay": args.decay},
        {"params": [q for q in trained if q.dim() < 2]},
    ]
    optimizer = torch.optim.AdamW(groups, lr=args.rate, weight_decay=0.0, fused=True)
    total = args.steps or args.epochs * len(batches(lengths, args.batch, random.Random(0)))
    warm = int(0.06 * total)
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda s: min(s / max(warm, 1), (total - s) / (total - warm))
    )
    averaged = copy.deepcopy(model)
    copies = [q for q in averaged.parameters() if q.requires_grad]
    shuffle, step, start, window = random.Random(args.seed), 0, time.time(), []
    before = accuracy(model, dev_ids, dev_labels)
    print(f"{len(texts)} sentences, {sum(lengths)} tokens, {total} steps; dev {before:.4f} before any", flush=True)
    while step < total:
        for chosen in batches(lengths, args.batch, shuffle):
            model.train()
            with torch.autocast("cpu", torch.bfloat16, enabled=not args.float32):
                logits = model(**collate(ids, chosen, args.hide, tokenizer.mask_token_id)).logits
            loss = F.cross_entropy(logits.float(), labels[chosen], label_smoothing=args.smooth)
            loss.backward()
            torch.nn.utils.clip_grad_norm_(trained, 1.0)
            optimizer.step()
            schedule.step()
            optimizer.zero_grad()
            step += 1
            with torch.no_grad():
                weight = 1 - min(args.average, step / (step + 10))
                torch._foreach_lerp_(copies, trained, weight)
            window.append(loss.item())
            if step % 500 == 0 or step == total:
                scores = accuracy(model, dev_ids, dev_labels), accuracy(averaged, dev_ids, dev_labels)
                mean, window = sum(window) / len(window), []
                seconds = time.time() - start
                print(
                    f"step {step:5} loss {mean:.4f} dev {scores[0]:.4f} averaged {scores[1]:.4f} {seconds:.0f} s",
                    flush=True,
                )
            if step == total:
                break
    averaged.save_pretrained(args.out)  # the last step's, not the best one's: the dev set chooses nothing
    tokenizer.save_pretrained(args.out)


if __name__ == "__main__":
    main()
