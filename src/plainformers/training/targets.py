"""What a loss is the mean over, and the loss against labels that are a little uncertain."""

import inspect
import math
from typing import Any

import torch
from torch import Tensor, nn

MOST_LOGITS = 2**24  # that are there at a time in training


def find_label_names(model: nn.Module) -> list[str]:
    """The arguments of the model's forward that are labels."""
    names = inspect.signature(type(model).forward).parameters
    return [name for name in names if "label" in name or name in ("start_positions", "end_positions")]


def count_multiplied(model: nn.Module) -> int:
    """Parameters that take part in matrix products, for a count of operations."""
    embedded = sum(m.weight.numel() for m in model.modules() if isinstance(m, nn.Embedding))
    return sum(p.numel() for p in model.parameters()) - embedded


def count_targets(inputs: dict[str, Any], label_names: list[str], shifted: bool) -> int:
    """What the loss of a head is the mean over: labels that are not -100, numbers to regress, valid spans.

    shifted: labels are compared with the logits one place before, so that each row's first is nobody's.
    """
    labels, starts = inputs.get("labels"), inputs.get("start_positions")
    if isinstance(starts, Tensor) and labels is None:
        ids = inputs.get("input_ids")
        return int(((starts != -100) & (starts < (ids.shape[-1] if isinstance(ids, Tensor) else math.inf))).sum())
    if labels is None:
        labels = next((inputs[n] for n in label_names if isinstance(inputs.get(n), Tensor)), None)
    if not isinstance(labels, Tensor):
        first = next((v for v in inputs.values() if isinstance(v, Tensor) and v.dim()), None)
        return 1 if first is None else len(first)
    if labels.is_floating_point() or labels.dtype == torch.bool:
        return labels.numel()
    ids = inputs.get("input_ids")
    if shifted and isinstance(ids, Tensor) and labels.shape == ids.shape:
        labels = labels[..., 1:]
    return int((labels != -100).sum())


def smooth_loss(logits: Tensor, labels: Tensor, epsilon: float, shifted: bool) -> Tensor:
    """Cross-entropy against labels that are right with 1 - epsilon (Szegedy et al., 2016), the mean over targets."""
    if shifted and labels.dim() == 2:
        logits, labels = logits[:, :-1], labels[:, 1:]
    total = nn.functional.cross_entropy(
        logits.flatten(0, -2).float(), labels.flatten(), ignore_index=-100, label_smoothing=epsilon, reduction="sum"
    )
    return total / (labels != -100).sum().clamp(min=1)
