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


class PreparedLinear(nn.Linear):
    """A linear layer whose weight lies in oneDNN's order. Layers are turned into it and back, so hooks stay on them."""

    trainable: bool  # whether the plain weight was

    def forward(self, input: Tensor) -> Tensor:
        if input.requires_grad and torch.is_grad_enabled():
            raise RuntimeError("No gradient flows through a prepared layer: call unprepare() of the model first.")
        return torch.ops.mkldnn._linear_pointwise(input, self.weight, self.bias, "none", [], "")


def project(x: Tensor, *layers: nn.Linear) -> tuple[Tensor, ...]:
    """Every layer's output for the same input."""
    return tuple(layer(x) for layer in layers)


def activate(layer: nn.Linear, act: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    """act(layer(x)), in one step where that is possible and nobody listens to what is between."""
    listened = layer._forward_hooks or layer._forward_pre_hooks
    if act is F.gelu and is_prepared(layer) and not listened and not (x.requires_grad and torch.is_grad_enabled()):
        return torch.ops.mkldnn._linear_pointwise(x, layer.weight, layer.bias, "gelu", [], "none")
    return act(layer(x))


def is_prepared(layer: nn.Linear) -> bool:
    return isinstance(layer, PreparedLinear)


def become(layer: nn.Module, kind: type[nn.Linear]) -> None:
    layer.__class__ = kind  # the same module, so that whoever holds it sees the change


def prepare(model: nn.Module, names: str) -> bool:
    """Prepares the linear layers whose names match, in place.

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
        if type(layer) is not nn.Linear or not re.search(names, name) or shared[id(layer.weight)] > 1:
            continue
        weight = layer.weight.detach()
        if weight.device.type == "cpu" and weight.dtype in dtypes:
            packed = torch.ops.mkldnn._reorder_linear_weight(weight, None)
            trainable = layer.weight.requires_grad
            layer.weight = nn.Parameter(packed, requires_grad=False)
            become(layer, PreparedLinear)
            layer.__dict__["trainable"] = trainable
            found = True
    return found


def unprepare(model: nn.Module) -> None:
    """Gives prepared layers their plain weights back, as new parameters."""
    for layer in model.modules():
        if isinstance(layer, PreparedLinear):
            layer.weight = nn.Parameter(layer.weight.detach().to_dense(), requires_grad=layer.trainable)
            become(layer, nn.Linear)
