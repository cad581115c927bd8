"""The losses of the heads: each returns the mean over its targets and how many targets there were.

The count lets a trainer weigh batches of different size rightly: loss * count is the sum. Label -100 means "no target".
"""

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor


def token_loss(logits: Tensor, labels: Tensor, ignore_index: int = -100) -> tuple[Tensor, Tensor]:
    """Cross-entropy of logits [..., N] and labels [...].

    Computed in float32. With no target at all the loss is 0, not nan.
    """
    if logits.shape[:-1] != labels.shape:
        raise ValueError(f"labels have shape {list(labels.shape)}; the logits ask for {list(logits.shape[:-1])}.")
    labels = labels.to(logits.device)
    count = (labels != ignore_index).sum()
    total = F.cross_entropy(
        logits.flatten(0, -2).float(), labels.flatten().long(), ignore_index=ignore_index, reduction="sum"
    )
    return total / count.clamp(min=1), count


def next_token_loss(logits: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """token_loss of logits [B, T, V] against the labels [B, T] one place further on."""
    return token_loss(logits[:, :-1], labels[:, 1:])


class PartedLoss(torch.autograd.Function):
    """Sum of the cross-entropies of head(x), x [N, C], whose logits are made and let go of `parts` rows at a time.

    The gradients are found at once, so that nothing is computed twice; weights: the parameters that head uses.
    """

    @staticmethod
    def forward(ctx: Any, head: Any, x: Tensor, labels: Tensor, parts: int, *weights: Tensor) -> Tensor:
        total, dx = torch.zeros((), device=x.device), torch.empty_like(x)
        sums: list[Tensor] = []
        for rows, own, out in zip(x.split(parts), labels.split(parts), dx.split(parts), strict=True):
            with torch.enable_grad():
                rows = rows.detach().requires_grad_()
                loss = F.cross_entropy(head(rows).float(), own, reduction="sum")
                first, *others = torch.autograd.grad(loss, (rows, *weights))
            total += loss.detach()
            out.copy_(first)
            sums = [a.add_(b) for a, b in zip(sums, others, strict=True)] if sums else others
        ctx.save_for_backward(dx, *sums)
        return total

    @staticmethod
    def backward(ctx: Any, *outer: Tensor) -> Any:
        dx, *sums = ctx.saved_tensors
        return None, dx.mul_(outer[0]), None, None, *(one.mul_(outer[0]) for one in sums)


def leaves_of(x: Tensor) -> list[Tensor]:
    """The parameters that a result was computed with and that require a gradient."""
    found, seen, todo = [], set(), [x.grad_fn]
    while todo:
        node = todo.pop()
        if node is not None and node not in seen:
            seen.add(node)
            found += [getattr(node, "variable")] if hasattr(node, "variable") else []  # noqa: B009
            todo += [before for before, _ in node.next_functions]
    return found


def vocabulary_loss(
    head: Callable[[Tensor], Tensor], x: Tensor, labels: Tensor | None, *, shifted: bool, parts: int
) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
    """(loss, count, logits) of hidden states x [B, T, C], of which head makes logits [B, T, V]; labels [B, T].

    shifted: next_token_loss, else token_loss. parts: 0, or how many targets have their logits made at a time: logits
    over a large vocabulary are then never there together, and None is returned for them.
    """
    if labels is None or not parts:
        logits = head(x)
        loss, count = (None, None) if labels is None else (next_token_loss if shifted else token_loss)(logits, labels)
        return loss, count, logits
    if x.shape[:-1] != labels.shape:
        raise ValueError(f"labels have shape {list(labels.shape)}; the hidden states ask for {list(x.shape[:-1])}.")
    if shifted:
        x, labels = x[:, :-1], labels[:, 1:]
    asked = labels != -100
    x, labels = x[asked], labels[asked].long()
    count = asked.sum()
    if not len(x) or not torch.is_grad_enabled():
        return token_loss(head(x), labels)[0], count, None
    return PartedLoss.apply(head, x, labels, parts, *leaves_of(head(x[:1].detach()))) / count, count, None


def sequence_loss(logits: Tensor, labels: Tensor, problem_type: str | None = None) -> tuple[Tensor, Tensor]:
    """The loss of logits [B, N] for a problem_type; without one it follows from N and the labels, as users know it:

    regression (squared error, labels [B] or [B, N]) when N is 1; single_label_classification (cross-entropy, labels
    [B]) when the labels are integers; multi_label_classification (binary cross-entropy, float labels [B, N]) otherwise.
    """
    N = logits.shape[-1]
    if problem_type is None:
        integers = not labels.is_floating_point() and labels.dtype != torch.bool
        single = "single_label_classification" if integers else "multi_label_classification"
        problem_type = "regression" if N == 1 else single
    if problem_type == "single_label_classification":
        return token_loss(logits, labels.view(-1) if labels.numel() == logits.shape[0] else labels)
    if problem_type not in ("regression", "multi_label_classification"):
        raise ValueError(
            f"problem_type is {problem_type!r}; known are regression, single_label_classification and "
            "multi_label_classification."
        )
    if labels.numel() != logits.numel():
        raise ValueError(f"{problem_type} needs labels of shape {list(logits.shape)}, got {list(labels.shape)}.")
    labels = labels.to(logits.device).view(logits.shape).float()
    measure = F.mse_loss if problem_type == "regression" else F.binary_cross_entropy_with_logits
    return measure(logits.float(), labels), torch.tensor(labels.numel(), device=logits.device)


def span_loss(
    start_logits: Tensor, end_logits: Tensor, start_positions: Tensor, end_positions: Tensor
) -> tuple[Tensor, Tensor]:
    """Mean of the two cross-entropies over positions [B]; a position outside of the T tokens is no target."""
    T = start_logits.shape[-1]
    # a position past the end is a target that truncation cut off
    start, end = (
        torch.where(p.flatten() >= T, -100, p.flatten()).to(start_logits.device)
        for p in (start_positions, end_positions)
    )
    (first, count), (last, _) = token_loss(start_logits, start), token_loss(end_logits, end)
    return (first + last) / 2, count
