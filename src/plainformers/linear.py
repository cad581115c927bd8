"""The places where models call linear layers, so that faster ones can stand behind them.

`prepare` puts the weights of a model on a CPU into the order in which they are multiplied fastest, those of layers that
read the same input into one matrix. They are replaced, not doubled; `unprepare` gives the same values back. Rounded to
8 bits they take a quarter of the memory, and there is no way back.
"""

import re
import warnings
from collections.abc import Callable
from functools import cache

import torch
import torch.nn.functional as F
from torch import Tensor, nn

# with narrower registers, oneDNN's own GELU takes twice the time of PyTorch's
FUSES_GELU = torch.backends.cpu.get_cpu_capability() == "AVX512"


class OneDnnProduct:
    """x [..., K] -> x weight^T + bias [..., N], with the weight [N, K] in oneDNN's order."""

    def __init__(self, weight: Tensor, bias: Tensor | None):
        self.weight, self.bias = torch.ops.mkldnn._reorder_linear_weight(weight, None), bias
        self.nbytes = weight.nbytes

    def __call__(self, x: Tensor, gelu: bool = False) -> Tensor:
        fused = ("gelu", [], "none") if gelu and FUSES_GELU else ("none", [], "")
        y = torch.ops.mkldnn._linear_pointwise(x, self.weight, self.bias, *fused)
        return torch.ops.aten.gelu_(y) if gelu and not FUSES_GELU else y  # in place: fresh memory costs more

    def plain(self) -> Tensor:
        return self.weight.to_dense()

    @staticmethod
    @cache
    def dtypes() -> tuple[torch.dtype, ...]:
        """Of the weights that this PyTorch multiplies so on this machine."""
        if not torch.backends.mkldnn.is_available() or not hasattr(torch.ops.mkldnn, "_linear_pointwise"):
            return ()
        return torch.float32, *([torch.bfloat16] if torch.ops.mkldnn._is_mkldnn_bf16_supported() else [])


class Int8Product:
    """The same in whole numbers of 8 bits, by FBGEMM: weights are rounded by rows of the matrix, inputs by tokens.

    A token's values are spread over the levels between its least and its greatest, whatever else is in the batch.
    """

    def __init__(self, weight: Tensor, bias: Tensor | None):
        scale, zeros = (weight.abs().amax(1) / 127).clamp(min=1e-30), torch.zeros(len(weight), dtype=torch.long)
        engine = torch.backends.quantized.engine
        try:
            torch.backends.quantized.engine = "fbgemm"
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", UserWarning)  # quantised tensors will move out of torch one day
                rounded = torch.quantize_per_channel(weight.float(), scale.double(), zeros, 0, torch.qint8)
            self.packed = torch.ops.quantized.linear_prepack(rounded, None)
        finally:
            torch.backends.quantized.engine = engine
        self.sums, self.bias, self.nbytes = rounded.dequantize().sum(1), bias, weight.numel()

    def __call__(self, x: Tensor, gelu: bool = False) -> Tensor:
        low = x.amin(-1, keepdim=True)
        span = (x.amax(-1, keepdim=True) - low).clamp_(min=1e-30)
        x = (x - low).div_(span)  # from 0 to 1, so x weight^T = span (x' weight^T) + low (1 weight^T)
        y = torch.ops.quantized.linear_with_input_q_dq_qweight_dq_output_fp32(x, 1 / int8_levels(), 0, self.packed)
        y.mul_(span).addcmul_(low, self.sums)
        if self.bias is not None:
            y.add_(self.bias)
        return torch.ops.aten.gelu_(y) if gelu else y

    def plain(self) -> Tensor:
        return torch.ops.quantized.linear_unpack(self.packed)[0].dequantize()

    @staticmethod
    @cache
    def dtypes() -> tuple[torch.dtype, ...]:
        ours = hasattr(torch.ops.quantized, "linear_with_input_q_dq_qweight_dq_output_fp32")
        return (torch.float32,) if ours and "fbgemm" in torch.backends.quantized.supported_engines else ()


@cache
def int8_levels() -> int:
    """The greatest whole number for an input: 255, or 127 where the processor adds pairs of products in 16 bits."""
    probe = Int8Product(torch.full((16, 64), 127.0), None).packed
    ones = torch.ones(32, 64)
    got = torch.ops.quantized.linear_with_input_q_dq_qweight_dq_output_fp32(ones, 1 / 255, 0, probe)
    return 255 if torch.allclose(got, torch.tensor(64 * 127.0)) else 127


PRODUCTS: dict[str | None, type[OneDnnProduct] | type[Int8Product]] = {None: OneDnnProduct, "int8": Int8Product}


class PreparedLinear(nn.Linear):
    """A linear layer whose product is a prepared one. Layers are turned into it and back, so hooks stay on them."""

    product: OneDnnProduct | Int8Product
    part: slice | None  # of the product's output, which is that of several layers; None: all of it
    trainable: bool  # whether the plain weight was

    @property
    def weight(self) -> Tensor:  # type: ignore[override]
        """The plain weight, made anew: to be read, not to be changed."""
        weight = self.product.plain()
        return weight if self.part is None else weight[self.part]

    def forward(self, input: Tensor) -> Tensor:
        refuse_gradient(input)
        y = self.product(input)
        return y if self.part is None else y[..., self.part]

    def _save_to_state_dict(self, destination: dict[str, Tensor], prefix: str, keep_vars: bool) -> None:
        destination[prefix + "weight"] = self.weight
        super()._save_to_state_dict(destination, prefix, keep_vars)


def refuse_gradient(x: Tensor) -> None:
    if x.requires_grad and torch.is_grad_enabled():
        raise RuntimeError("No gradient flows through a prepared layer: call unprepare() of the model first.")


def is_prepared(layer: nn.Module) -> bool:
    return isinstance(layer, PreparedLinear)


def become(layer: nn.Module, kind: type[nn.Linear]) -> None:
    layer.__class__ = kind  # the same module, so that whoever holds it sees the change


def is_heard(layer: nn.Module) -> bool:
    """Whether a hook waits for what goes into the layer or comes out of it."""
    return bool(layer._forward_hooks or layer._forward_pre_hooks)


def project(x: Tensor, *layers: nn.Linear) -> tuple[Tensor, ...]:
    """Every layer's output for the same input."""
    first = layers[0]
    if len(layers) > 1 and isinstance(first, PreparedLinear) and first.part is not None:
        together = all(isinstance(layer, PreparedLinear) and layer.product is first.product for layer in layers)
        if together and not any(map(is_heard, layers)):
            refuse_gradient(x)
            y = first.product(x)
            return tuple(y[..., layer.part] for layer in layers)  # type: ignore[index]
    return tuple(layer(x) for layer in layers)


def activate(layer: nn.Linear, act: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    """act(layer(x)), in one step where that is possible and nobody listens to what is between."""
    if act is not F.gelu or not isinstance(layer, PreparedLinear) or layer.part is not None or is_heard(layer):
        return act(layer(x))
    refuse_gradient(x)
    return layer.product(x, gelu=True)


def prepare(model: nn.Module, names: str, together: str = "(?!)", kind: str | None = None) -> bool:
    """Prepares the linear layers whose names match, in place, for inference: no gradient flows through them.

    together: those of them that read the same input as their neighbours and become one product. kind: "int8" rounds the
    weights. False, and nothing is changed, where this PyTorch cannot.
    """
    make = PRODUCTS[kind]
    owners: dict[int, int] = {}
    for module in model.modules():
        for parameter in module._parameters.values():
            owners[id(parameter)] = owners.get(id(parameter), 0) + 1
    groups: dict[str, list[nn.Linear]] = {}
    for name, layer in model.named_modules():
        if type(layer) is not nn.Linear or not re.search(names, name) or owners[id(layer.weight)] > 1:
            continue
        if layer.weight.device.type == "cpu" and layer.weight.dtype in make.dtypes():
            parent, biased = name.rpartition(".")[0], layer.bias is not None
            group = f"{parent}, {layer.in_features}, {biased}" if re.search(together, name) else name
            groups.setdefault(group, []).append(layer)
    with torch.no_grad():
        for layers in groups.values():
            prepare_together(layers, make)
    return bool(groups)


def prepare_together(layers: list[nn.Linear], make: type[OneDnnProduct] | type[Int8Product]) -> None:
    """One product for layers that read the same input."""
    if len(layers) == 1:
        weight, bias = layers[0].weight.detach(), layers[0].bias
    else:
        weight = torch.cat([layer.weight for layer in layers])
        bias = None if layers[0].bias is None else torch.cat([layer.bias for layer in layers])
    product, start = make(weight, None if bias is None else bias.detach()), 0
    for layer in layers:
        part = slice(start, start + layer.out_features) if len(layers) > 1 else None
        trainable, start = layer.weight.requires_grad, start + layer.out_features
        layer.weight = None  # type: ignore[assignment]
        become(layer, PreparedLinear)
        layer.__dict__ |= {"product": product, "part": part, "trainable": trainable}


def unprepare(model: nn.Module) -> None:
    """Gives prepared layers their plain weights back, as new parameters."""
    for layer in model.modules():
        if isinstance(layer, PreparedLinear):
            weight = nn.Parameter(layer.weight.clone(), requires_grad=layer.trainable)
            become(layer, nn.Linear)
            for name in ("product", "part", "trainable"):
                del layer.__dict__[name]
            layer.weight = weight  # type: ignore[misc]


def prepared_sizes(model: nn.Module) -> tuple[int, int, int]:
    """(numbers in the weights of prepared layers, those of them that were trainable, bytes that they take)"""
    layers = [layer for layer in model.modules() if isinstance(layer, PreparedLinear)]
    sizes = [(layer.in_features * layer.out_features, layer.trainable) for layer in layers]
    nbytes = sum(product.nbytes for product in {layer.product for layer in layers})
    return sum(size for size, _ in sizes), sum(size for size, trainable in sizes if trainable), nbytes
