"""Makes the file that ships from what train.py made: a byte per weight, and a model card.

    python recipes/sentiment/shrink.py --model FOLDER --data FOLDER [--out src/plainformers/builtin/sentiment]

Matrices are stored as int8 with a scale per row; loading gives float32 back. Both accuracies are printed, so that what
the rounding costs is seen.
"""

import argparse
import shutil
from pathlib import Path

import torch
from train import accuracy, read

from plainformers import AutoModelForSequenceClassification, AutoTokenizer
from plainformers.checkpoint import store_int8_rows

OUT = Path(__file__).parents[2] / "src" / "plainformers" / "builtin" / "sentiment"


def main() -> None:
    p = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    p.add_argument("--model", type=Path, required=True)
    p.add_argument("--data", type=Path, required=True)
    p.add_argument("--out", type=Path, default=OUT)
    args = p.parse_args()
    tokenizer = AutoTokenizer.from_pretrained(args.model)
    model = AutoModelForSequenceClassification.from_pretrained(args.model)
    args.out.mkdir(parents=True, exist_ok=True)
    store_int8_rows(dict(model.state_dict()), args.out / "model.safetensors")
    for name in ("config.json", "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json"):
        shutil.copyfile(args.model / name, args.out / name)
    small = AutoModelForSequenceClassification.from_pretrained(args.out)
    texts, labels = read(args.data / "glue_dev.tsv")
    ids = tokenizer(texts, truncation=True, max_length=128)["input_ids"]
    probe = torch.tensor([ids[0]])
    moved = (small(probe).logits - model(probe).logits).abs().max().item()
    size = (args.out / "model.safetensors").stat().st_size / 1e6
    print(f"{size:.1f} MB; logits moved by {moved:.4f}")
    print(f"dev accuracy: float32 {accuracy(model, ids, labels):.4f}, int8 rows {accuracy(small, ids, labels):.4f}")


if __name__ == "__main__":
    main()
