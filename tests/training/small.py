"""Tiny models and datasets for the tests of training."""

import random
from pathlib import Path
from typing import Any

import torch

from plainformers import (
    BertConfig,
    BertForMaskedLM,
    BertForSequenceClassification,
    BertForTokenClassification,
    LlamaConfig,
    LlamaForCausalLM,
    Trainer,
    TrainingArguments,
)

SIZES = {"vocab_size": 60, "hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 24}
STILL = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}


def make(kind: type, **fields: Any) -> Any:
    """A model with drawn weights, the same every time; without dropout unless asked for."""
    torch.manual_seed(1)
    decoder = kind is LlamaForCausalLM
    config = LlamaConfig if decoder else BertConfig
    model = kind(config(**SIZES | ({} if decoder else STILL) | fields))
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.15)
    return model


def rows_for(kind: type, count: int = 24, seed: int = 0) -> list[dict[str, Any]]:
    draw = random.Random(seed)
    rows = []
    for _ in range(count):
        ids = [draw.randrange(5, 60) for _ in range(draw.randrange(3, 12))]
        row: dict[str, Any] = {"input_ids": ids, "labels": draw.randrange(2)}
        if kind in (BertForTokenClassification, BertForMaskedLM):
            row["labels"] = [draw.choice([-100, 0, 1]) for _ in ids[:-1]] + [1]
        if kind is LlamaForCausalLM:
            row["labels"] = [-100] * (len(ids) // 2) + ids[len(ids) // 2 :]
        rows.append(row)
    return rows


def collate(rows: list[dict[str, Any]]) -> dict[str, torch.Tensor]:
    width = max(len(row["input_ids"]) for row in rows)
    pad = lambda name, fill: [row[name] + [fill] * (width - len(row[name])) for row in rows]  # noqa: E731
    mask = [[1] * len(row["input_ids"]) + [0] * (width - len(row["input_ids"])) for row in rows]
    per_token = isinstance(rows[0]["labels"], list)
    labels = pad("labels", -100) if per_token else [row["labels"] for row in rows]
    found = {"input_ids": pad("input_ids", 0), "attention_mask": mask, "labels": labels}
    return {name: torch.tensor(value) for name, value in found.items()}


def trainer(folder: Path, kind: type = BertForSequenceClassification, **given: Any) -> Trainer:
    """A Trainer of a tiny model; given: arguments of TrainingArguments, and of the Trainer those that it knows."""
    own = {"model", "train_dataset", "eval_dataset", "compute_metrics", "callbacks", "data_collator", "model_init"}
    own |= {"compute_loss_func", "optimizers", "preprocess_logits_for_metrics", "processing_class", "by"}
    more = {name: given.pop(name) for name in list(given) if name in own}
    by = more.pop("by", Trainer)
    settings = {"per_device_train_batch_size": 4, "use_cpu": True, "disable_tqdm": True, "report_to": "none"}
    args = TrainingArguments(str(folder), **settings | {"save_strategy": "no", "logging_steps": 1} | given)
    if "model_init" not in more:
        more.setdefault("model", make(kind))
    more = {"train_dataset": rows_for(kind), "data_collator": collate} | more
    return by(args=args, **more)


def weights(model: Any) -> dict[str, torch.Tensor]:
    return {name: tensor.clone() for name, tensor in model.state_dict().items()}


def losses(trained: Trainer) -> list[float]:
    return [entry["loss"] for entry in trained.state.log_history if "loss" in entry]


def history(trained: Trainer) -> list[dict[str, Any]]:
    """The log without times."""
    timed = ("_runtime", "_per_second")
    return [{k: v for k, v in entry.items() if not k.endswith(timed)} for entry in trained.state.log_history]
