"""Evaluation: a dataset through the model, batch by batch, with as little kept as the metrics need.

What is kept lies on the CPU as NumPy arrays; -100 fills up where lengths differ.
"""

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from . import distributed
from .loader import is_idle, numbered
from .packing import pack

FILL = -100


class EvalPrediction:
    """What compute_metrics gets: predictions (logits) and label_ids, arrays or tuples of them; unpacks like a tuple."""

    def __init__(self, predictions: Any, label_ids: Any, inputs: Any = None, losses: Any = None):
        self.predictions, self.label_ids, self.inputs, self.losses = predictions, label_ids, inputs, losses

    def _elements(self) -> tuple[Any, ...]:
        return (self.predictions, self.label_ids, *(x for x in (self.inputs, self.losses) if x is not None))

    def __iter__(self) -> Iterator[Any]:
        return iter(self._elements())

    def __getitem__(self, index: int) -> Any:
        return self._elements()[index]


class EvalLoopOutput(NamedTuple):
    predictions: Any
    label_ids: Any
    metrics: dict[str, Any]
    num_samples: int


class PredictionOutput(NamedTuple):
    predictions: Any
    label_ids: Any
    metrics: dict[str, Any]


class TrainOutput(NamedTuple):
    global_step: int
    training_loss: float
    metrics: dict[str, Any]


def apply(function: Any, value: Any) -> Any:
    """The function on every tensor or array of nested tuples, lists and dicts; None stays."""
    if value is None:
        return None
    if isinstance(value, (list, tuple)):
        return tuple(apply(function, one) for one in value)
    if hasattr(value, "items"):
        return {name: apply(function, one) for name, one in value.items()}
    return function(value)


def as_array(value: Any) -> Any:
    """On the CPU; bfloat16, which NumPy lacks, as float32."""
    if not isinstance(value, Tensor):
        return value
    value = value.detach().cpu()
    return (value.float() if value.dtype == torch.bfloat16 else value).numpy()


class Kept:
    """Arrays of batches, put together at the end; rows of different lengths (their second axis) are filled up."""

    def __init__(self, concatenate: bool = True):
        self.parts: list[Any] = []
        self.concatenate = concatenate

    def add(self, value: Any) -> None:
        if value is not None:
            self.parts.append(value)

    def all(self) -> Any:
        """Everything in one; the parts are let go of as they are copied."""
        if not self.parts:
            return None
        if not self.concatenate:
            return self.parts
        return put_together(self.parts)


def put_together(parts: list[Any]) -> Any:
    first = parts[0]
    if isinstance(first, tuple):
        return tuple(put_together([part[i] for part in parts]) for i in range(len(first)))
    if isinstance(first, dict):
        return {name: put_together([part[name] for part in parts]) for name in first}
    arrays = [np.atleast_1d(part) for part in parts]
    width = max((a.shape[1] for a in arrays if a.ndim > 1), default=0)
    shape = (sum(len(a) for a in arrays), *((width, *arrays[0].shape[2:]) if arrays[0].ndim > 1 else ()))
    whole, start = np.full(shape, FILL, dtype=arrays[0].dtype), 0
    parts.clear()
    arrays.reverse()
    while arrays:
        part = arrays.pop()
        whole[(slice(start, start + len(part)), *((slice(0, part.shape[1]),) if part.ndim > 1 else ()))] = part
        start += len(part)
    return whole


def rows_in(inputs: Any) -> int:
    first = next((v for v in inputs.values() if isinstance(v, Tensor) and v.dim()), None)
    return 0 if first is None else len(first)


def evaluation_loop(
    trainer: Any, loader: Any, loss_only: bool, ignore_keys: list[str] | None, prefix: str
) -> EvalLoopOutput:
    """The loss over all targets, predictions, labels, and what compute_metrics makes of them, under "prefix_…"."""
    args, model = trainer.args, trainer.model_wrapped
    was_training = trainer.model.training
    model.eval()
    join = args.eval_do_concat_batches
    logits, labels, inputs_kept, losses = Kept(join), Kept(join), Kept(join), Kept(join)
    waiting: list[Any] = []  # on the device
    total, targets, rows = 0.0, 0, 0
    found: Any = {}
    metrics_of: Any = trainer.compute_metrics
    by_batch = args.batch_eval_metrics and metrics_of is not None and not loss_only
    last: Any = None

    def keep() -> None:
        for one in waiting:
            for kept, value in zip((logits, labels, inputs_kept, losses), apply(as_array, one), strict=True):
                kept.add(value)
        waiting.clear()

    for number, batch in numbered(loader, args.seed, 0, 0):
        count = trainer.count_targets(batch)
        loss, some, theirs = trainer.prediction_step(model, batch, loss_only, ignore_keys)
        trainer._call("on_prediction_step", eval_dataloader=loader)
        if is_idle(loader, number):
            continue
        rows += rows_in(batch)
        if loss is not None:
            total, targets = total + float(loss.mean()) * count, targets + count
        if loss_only:
            continue
        if some is not None and trainer.preprocess_logits_for_metrics is not None:
            some = trainer.preprocess_logits_for_metrics(some, theirs)
        main = batch.get(getattr(trainer.model, "main_input_name", "input_ids"))
        wanted = "inputs" in args.include_for_metrics and main is not None
        each = loss.mean().repeat(rows_in(batch)) if "loss" in args.include_for_metrics and loss is not None else None
        if by_batch:
            if last is not None:
                metrics_of(last, compute_result=False)  # pyright: ignore
            last = EvalPrediction(*apply(as_array, (some, theirs, main if wanted else None, each)))
            continue
        waiting.append((some, theirs, main if wanted else None, each))
        if len(waiting) >= (args.eval_accumulation_steps or 1):
            keep()
    keep()
    if by_batch and last is not None:
        found = metrics_of(last, compute_result=True)  # pyright: ignore
    trainer.model.train(was_training)
    everything = [distributed.gathered_rows(kept) for kept in (logits, labels, inputs_kept, losses)]
    total, targets, rows = (distributed.sum_of(x, args.device) for x in (total, targets, rows))
    if not by_batch and metrics_of is not None and everything[0] is not None and everything[1] is not None:
        found = metrics_of(EvalPrediction(*everything))
    if not isinstance(found, dict):
        raise TypeError(f"compute_metrics must return a dict of names and numbers, got {type(found).__name__}.")
    metrics = {} if not targets else {f"{prefix}_loss": total / targets}
    for name, value in found.items():
        plain = value.item() if getattr(value, "size", 0) == 1 and hasattr(value, "item") else value
        metrics[name if name.startswith(f"{prefix}_") else f"{prefix}_{name}"] = plain
    return EvalLoopOutput(everything[0], everything[1], metrics, rows)


def prediction_step(
    trainer: Any, model: nn.Module, inputs: dict[str, Any], loss_only: bool, ignore_keys: list[str] | None
) -> tuple[Tensor | None, Any, Any]:
    """(loss, logits, labels) of a batch, in the order and with the padding that it came with."""
    names = [n for n in trainer.label_names if inputs.get(n) is not None]
    labels: Any = tuple(inputs[n] for n in names)
    labels = None if not labels else labels[0] if len(labels) == 1 else labels
    layout = None
    if trainer.packs:
        inputs, layout = pack(inputs, trainer._shifts)
    inputs = trainer._prepare_inputs(inputs)
    on = trainer.args.bf16_full_eval or trainer.args.fp16_full_eval
    half = torch.bfloat16 if trainer.args.bf16_full_eval else torch.float16
    context = torch.autocast(trainer.args.device.type, half) if on else trainer.autocast()
    with torch.no_grad(), context:
        if labels is not None:
            loss, outputs = trainer.compute_loss(model, inputs, return_outputs=True)
            loss = loss.detach()
        else:
            loss, outputs = None, model(**inputs)
    if loss_only:
        return loss, None, None
    ignored = {"loss", "loss_count", *(unwanted(trainer.model) if ignore_keys is None else ignore_keys)}
    if hasattr(outputs, "items"):
        logits = tuple(value for name, value in outputs.items() if name not in ignored and value is not None)
    else:
        logits = tuple(outputs[1:] if labels is not None else outputs)
    if layout is not None:
        logits = apply(layout.unpack, logits)
    return loss, logits[0] if len(logits) == 1 else logits or None, labels


def unwanted(model: Any) -> list[str]:
    return [*getattr(getattr(model, "config", None), "keys_to_ignore_at_inference", ()), "past_key_values"]


def speed(prefix: str, seconds: float, samples: int, steps: int) -> dict[str, float]:
    """What metrics say of the time."""
    each = max(seconds, 1e-9)
    return {
        f"{prefix}_runtime": round(seconds, 4),
        f"{prefix}_samples_per_second": round(samples / each, 3),
        f"{prefix}_steps_per_second": round(steps / each, 3),
    }
