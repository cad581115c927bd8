"""The two places where models call linear layers, so that faster ones can stand behind them.

Plain calls today; a prepared model (fused query-key-value, packed or quantised weights) answers through the same
functions.
"""

from collections.abc import Callable

from torch import Tensor, nn


def project(x: Tensor, *layers: nn.Module) -> tuple[Tensor, ...]:
    """Every layer's output for the same input."""
    return tuple(layer(x) for layer in layers)


def activate(dense: nn.Module, act: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    """act(dense(x))"""
    return act(dense(x))
