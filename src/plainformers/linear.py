"""The places where models call linear layers, so that faster ones can stand behind them.

`prepare` puts the weights of a model on a CPU into the order in which they are multiplied fastest, those of layers that
read the same input into one matrix. They are replaced, not doubled; `unprepare` gives the same values back. Rounded to
8 or 4 bits they take a quarter or a seventh of float32's memory, and there is no way back.
Shapes: x [..., K], a weight [N, K].
"""

import re
import warnings
from collections.abc import Callable, Iterable, Iterator
from functools import cache, partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

# with narrower registers, oneDNN's own GELU takes twice the time of PyTorch's
FUSES_GELU = torch.backends.cpu.get_cpu_capability() == "AVX512"
FEW = 2  # tokens at once for which reading a weight takes longer than computing with it
MANY = 40  # tokens at once for which it pays to make floats of rounded weights
PART = 512  # rows of a weight that are widened at a time
GROUP = 32  # neighbours in a row that share their scale in 4 bits


def finish(y: Tensor, bias: Tensor | None, gelu: bool) -> Tensor:
    """In place: fresh memory costs more."""
    y = y if bias is None else y.add_(bias)
    return torch.ops.aten.gelu_(y) if gelu else y


class OneDnnProduct:
    """x [..., K] -> x weight^T + bias [..., N], with the weight [N, K] in oneDNN's order."""

    def __init__(self, weight: Tensor, bias: Tensor | None):
        self.weight, self.bias = torch.ops.mkldnn._reorder_linear_weight(weight, None), bias
        self.nbytes = weight.nbytes

    def __call__(self, x: Tensor, gelu: bool = False) -> Tensor:
        fused = ("gelu", [], "none") if gelu and FUSES_GELU else ("none", [], "")
        y = torch.ops.mkldnn._linear_pointwise(x, self.weight, self.bias, *fused)
        return finish(y, None, gelu and not FUSES_GELU)

    def plain(self) -> Tensor:
        return self.weight.to_dense()

    @staticmethod
    @cache
    def dtypes() -> tuple[torch.dtype, ...]:
        """Of the weights that this PyTorch multiplies so on this machine."""
        if not torch.backends.mkldnn.is_available() or not hasattr(torch.ops.mkldnn, "_linear_pointwise"):
            return ()
        return torch.float32, *([torch.bfloat16] if torch.ops.mkldnn._is_mkldnn_bf16_supported() else [])


def multiply_wide(x: Tensor, parts: Iterable[Tensor]) -> Tensor:
    """x [..., K] times parts [K, n] of a matrix, which are there one at a time and stay in the cache, side by side.

    In bfloat16 where the processor has arithmetic for it, else in float32.
    """
    dtype = x.dtype if x.dtype in OneDnnProduct.dtypes() else torch.float32
    wide = x.to(dtype)
    return torch.cat([(wide @ part.to(dtype)).to(x.dtype) for part in parts], -1)


class WidenedProduct:
    """bfloat16 on a processor that has no arithmetic for it: more than a few tokens are multiplied in float32.

    The weight is widened in parts that stay in the cache.
    """

    def __init__(self, weight: Tensor, bias: Tensor | None):
        self.weight, self.bias, self.nbytes = weight, bias, weight.nbytes

    def __call__(self, x: Tensor, gelu: bool = False) -> Tensor:
        if x.numel() <= FEW * x.shape[-1]:
            return finish(F.linear(x, self.weight, self.bias), None, gelu)
        return finish(multiply_wide(x, (part.t() for part in self.weight.split(PART))), self.bias, gelu)

    def plain(self) -> Tensor:
        return self.weight

    @staticmethod
    def dtypes() -> tuple[torch.dtype, ...]:
        return (torch.bfloat16,)


class Int8Product:
    """The same in whole numbers of 8 bits, by FBGEMM: weights are rounded by rows of the matrix, inputs by tokens.

    A token's values are spread over the levels between its least and its greatest, whatever else is in the batch.
    """

    def __init__(self, weight: Tensor, bias: Tensor | None, twice: bool = False):
        """twice: what the levels lose of the input is multiplied, too, for inputs with a few huge values."""
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
        self.twice = twice

    def __call__(self, x: Tensor, gelu: bool = False) -> Tensor:
        dtype, x, levels = x.dtype, x.float(), int8_levels()
        if x.numel() == x.shape[-1] and not self.twice:  # one token, whose range the kernel finds itself
            y = torch.ops.quantized.linear_dynamic(x, self.packed, levels == 127)
        else:
            low = x.amin(-1, keepdim=True)
            span = (x.amax(-1, keepdim=True) - low).clamp_(min=1e-30)
            x = (x - low).div_(span)  # from 0 to 1, so x weight^T = span (x' weight^T) + low (1 weight^T)
            multiply = torch.ops.quantized.linear_with_input_q_dq_qweight_dq_output_fp32
            if self.twice:
                level = x.mul_(levels).round()
                rest = multiply(x.sub_(level).add_(0.5), 1 / levels, 0, self.packed)  # from 0 to 1 again
                y = multiply(level.div_(levels), 1 / levels, 0, self.packed)
                y.add_(rest.sub_(self.sums, alpha=0.5), alpha=1 / levels)
            else:
                y = multiply(x, 1 / levels, 0, self.packed)
            y.mul_(span).addcmul_(low, self.sums)
        return finish(y, self.bias, gelu).to(dtype)

    def plain(self) -> Tensor:
        return torch.ops.quantized.linear_unpack(self.packed)[0].dequantize()

    @staticmethod
    @cache
    def dtypes() -> tuple[torch.dtype, ...]:
        ours = hasattr(torch.ops.quantized, "linear_with_input_q_dq_qweight_dq_output_fp32")
        there = ours and "fbgemm" in torch.backends.quantized.supported_engines
        return (torch.float32, torch.bfloat16) if there else ()


class Int4Product:
    """Weights in whole numbers of 4 bits, each group of neighbours by a scale and an offset of its own; inputs are
    not rounded. By PyTorch's kernel, which multiplies in bfloat16.
    """

    def __init__(self, weight: Tensor, bias: Tensor | None):
        N, K = weight.shape
        groups = weight.float().view(N, K // GROUP, GROUP)
        low = groups.amin(-1, keepdim=True)
        scale = ((groups.amax(-1, keepdim=True) - low) / 15).clamp(min=1e-9)
        codes = groups.sub(low).div_(scale).round_().clamp_(0, 15).to(torch.int32).view(N, K)
        self.pack(codes, scale.squeeze(-1), low.squeeze(-1), bias)

    def pack(self, codes: Tensor, scale: Tensor, low: Tensor, bias: Tensor | None) -> None:
        """codes [N, K] from 0 to 15, of values low + scale * code; scale, low [N, K / GROUP]."""
        self.packed, self.shape = torch.ops.aten._convert_weight_to_int4pack_for_cpu(codes, 1), codes.shape
        # the kernel's codes lie around 8
        self.scales = torch.stack((scale, low + 8 * scale), -1).transpose(0, 1).contiguous().bfloat16()
        self.bias, self.nbytes = bias, self.packed.nbytes + self.scales.nbytes

    def __call__(self, x: Tensor, gelu: bool = False) -> Tensor:
        rows = x.reshape(-1, x.shape[-1])
        if len(rows) >= MANY and self.opens():
            y = multiply_wide(rows, self.parts())
        else:
            y = torch.ops.aten._weight_int4pack_mm_for_cpu(rows.bfloat16(), self.packed, GROUP, self.scales).to(x.dtype)
        return finish(y, self.bias, gelu).view(*x.shape[:-1], -1)

    def opens(self) -> bool:
        return int4_block() > 0 and self.shape[0] % int4_block() == 0

    def parts(self) -> Iterator[Tensor]:
        """The weight as floats [K, n], a few rows of it at a time."""
        (N, K), block = self.shape, int4_block()
        packed = self.packed.view(N // block, K, block // 32, 16)
        scale, middle = (part.contiguous() for part in self.scales.float().view(K // GROUP, 1, N, 2).unbind(-1))
        low = middle - 8 * scale
        for start in range(0, N, PART):
            few = packed[start // block : (start + PART) // block].transpose(0, 1)
            codes = torch.stack((few & 15, few >> 4), 3).view(K // GROUP, GROUP, -1)
            rows = slice(start, start + PART)
            yield codes.float().mul_(scale[..., rows]).add_(low[..., rows]).view(K, -1)

    def plain(self) -> Tensor:
        if self.opens():
            return torch.cat(list(self.parts()), -1).t()
        return self(torch.eye(self.shape[1])).t()  # a unit vector gives a column

    @staticmethod
    @cache
    def dtypes() -> tuple[torch.dtype, ...]:
        return (torch.float32, torch.bfloat16) if hasattr(torch.ops.aten, "_weight_int4pack_mm_for_cpu") else ()

    @staticmethod
    def takes(N: int, K: int) -> bool:
        return N % 32 == 0 and K % GROUP == 0


Product = OneDnnProduct | WidenedProduct | Int8Product | Int4Product


@cache
def int4_block() -> int:
    """The rows that PyTorch's kernel for 4 bits keeps in a block: for each of K as many bytes as rows / 2, of which 16
    hold 16 rows in their lower halves, and the next 16 in their upper. Found by packing numbers, 0 is: otherwise.
    """
    rows = torch.arange(128, dtype=torch.int32)[:, None].repeat(1, GROUP)
    halves = [torch.ops.aten._convert_weight_to_int4pack_for_cpu(rows >> bits & 15, 1) for bits in (0, 4)]
    for n in (32, 64):
        parts = (half.view(128 // n, GROUP, n // 32, 16) for half in halves)
        low, high = (torch.stack((part & 15, part >> 4), 3) for part in parts)
        if torch.equal((low + 16 * high).view(128 // n, GROUP, n).transpose(1, 2).reshape(128, GROUP), rows.byte()):
            return n
    return 0


@cache
def int8_levels() -> int:
    """The greatest whole number for an input: 255, or 127 where the processor adds pairs of products in 16 bits."""
    probe = Int8Product(torch.full((16, 64), 127.0), None).packed
    ones = torch.ones(32, 64)
    got = torch.ops.quantized.linear_with_input_q_dq_qweight_dq_output_fp32(ones, 1 / 255, 0, probe)
    return 255 if torch.allclose(got, torch.tensor(64 * 127.0)) else 127


KINDS = (None, "int8", "int4")  # of rounding


def product_class(kind: str | None, layer: nn.Module) -> type[Product] | None:
    """What multiplies a layer; None where it stays as it is."""
    weight = layer.weight
    if type(layer) is not nn.Linear and not getattr(layer, "transposed", False) or weight.device.type != "cpu":
        return None
    assert isinstance(weight, Tensor)
    shape = weight.shape if type(layer) is nn.Linear else weight.shape[::-1]
    if kind == "int4" and Int4Product.takes(*shape):
        choices: tuple[type[Product], ...] = (Int4Product,)
    else:
        choices = (OneDnnProduct, WidenedProduct) if kind is None else (Int8Product,)
    return next((choice for choice in choices if weight.dtype in choice.dtypes()), None)


class PreparedLinear(nn.Linear):
    """A linear layer whose product is a prepared one. Layers are turned into it and back, so hooks stay on them."""

    product: Product
    part: slice | None  # of the product's output, which is that of several layers; None: all of it
    together: tuple[nn.Module, ...]  # these layers
    sizes: list[int]  # of their parts
    trainable: bool  # whether the plain weight was
    origin: type[nn.Module]  # what the layer was
    counted: bool  # False: its numbers are those of a layer that is not prepared

    @property
    def weight(self) -> Tensor:  # type: ignore[override]
        """The plain weight, made anew: to be read, not to be changed."""
        weight = self.product.plain()
        weight = weight if self.part is None else weight[self.part]
        return weight.t() if self.__dict__.get("transposed") else weight

    def forward(self, input: Tensor) -> Tensor:
        refuse_gradient(input)
        y = self.product(input)
        return y if self.part is None else y[..., self.part]

    def _save_to_state_dict(self, destination: dict[str, Tensor], prefix: str, keep_vars: bool) -> None:
        destination[prefix + "weight"] = self.weight
        super()._save_to_state_dict(destination, prefix, keep_vars)


class PreparedRMSNorm(nn.RMSNorm):
    """The same in four operations, where PyTorch takes seven on a CPU; which is what a token costs there."""

    least: Tensor  # [], the length of a vector whose mean square is eps
    zero: Tensor  # [1]

    def forward(self, x: Tensor) -> Tensor:
        if x.requires_grad and torch.is_grad_enabled():
            return super().forward(x)
        length = torch.linalg.vector_norm(x, dim=-1, keepdim=True, dtype=torch.float32).hypot_(self.least)
        return torch.addcdiv(self.zero, x, length, value=x.shape[-1] ** 0.5).mul_(self.weight).to(x.dtype)


def prepare_norms(model: nn.Module) -> None:
    for norm in model.modules():
        weight, eps = (norm.weight, norm.eps) if type(norm) is nn.RMSNorm else (None, None)
        if weight is not None and eps and weight.dim() == 1 and weight.device.type == "cpu":
            become(norm, PreparedRMSNorm)
            norm.__dict__ |= {"least": torch.tensor((len(weight) * eps) ** 0.5), "zero": torch.zeros(1)}


def refuse_gradient(x: Tensor) -> None:
    if x.requires_grad and torch.is_grad_enabled():
        raise RuntimeError("No gradient flows through a prepared layer: call unprepare() of the model first.")


def is_prepared(layer: nn.Module) -> bool:
    return isinstance(layer, PreparedLinear)


def become(layer: nn.Module, kind: type[nn.Module]) -> None:
    layer.__class__ = kind  # the same module, so that whoever holds it sees the change


def is_heard(layer: nn.Module) -> bool:
    """Whether a hook waits for what goes into the layer or comes out of it."""
    return bool(layer._forward_hooks or layer._forward_pre_hooks)


def project(x: Tensor, *layers: nn.Module) -> tuple[Tensor, ...]:
    """Every layer's output for the same input."""
    first = layers[0]
    if isinstance(first, PreparedLinear) and layers == first.together and not any(map(is_heard, layers)):
        refuse_gradient(x)
        y = first.product(x)
        return y.split(first.sizes, -1) if len(layers) > 1 else (y,)
    return tuple(layer(x) for layer in layers)


def activate(layer: nn.Module, act: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    """act(layer(x)), in one step where that is possible and nobody listens to what is between."""
    if act is not F.gelu or not isinstance(layer, PreparedLinear) or layer.part is not None or is_heard(layer):
        return act(layer(x))
    refuse_gradient(x)
    return layer.product(x, gelu=True)


def prepare(
    model: nn.Module,
    names: str,
    together: str = "(?!)",
    kind: str | None = None,
    outliers: str = "(?!)",
    head: nn.Module | None = None,
) -> bool:
    """Prepares the linear layers whose names match, in place, for inference: no gradient flows through them.

    together: those of them that read the same input as their neighbours and become one product. kind: one of KINDS,
    which rounds the weights. outliers: those whose inputs have a few huge values, which rounding them must not lose.
    head: makes the logits over a vocabulary, for which 4 bits are too few; it takes 8, and its inputs have outliers.
    False, and nothing is changed, where this PyTorch cannot.
    """
    owners: dict[int, int] = {}
    for module in model.modules():
        for parameter in module._parameters.values():
            owners[id(parameter)] = owners.get(id(parameter), 0) + 1
    groups: dict[Any, list[nn.Module]] = {}
    for name, layer in model.named_modules():
        adapted = "lora_A" in layer._modules
        if adapted or not re.search(names, name) or layer._parameters.get("weight") is None:
            continue
        # a weight that is an embedding, too, would be there twice; rounded it is small
        make: Any = (
            None
            if owners[id(layer.weight)] > 1 and kind is None
            else product_class("int8" if kind and layer is head else kind, layer)
        )
        if make is not None:
            joins = re.search(together, name)
            if make is Int8Product and (layer is head or re.search(outliers, name)):
                make = partial(Int8Product, twice=True)
            group = name.rpartition(".")[0] if joins else name, make, len(plain_weight(layer).t()), layer.bias is None
            groups.setdefault(group, []).append(layer)
            layer.__dict__["counted"] = owners[id(layer.weight)] == 1  # an embedding stays, and counts already
    with torch.no_grad():
        for (_, make, *_), layers in groups.items():
            prepare_together(layers, make)
    if groups:
        prepare_norms(model)
    return bool(groups)


def plain_weight(layer: nn.Module) -> Tensor:
    """[N, K], also of a layer that stores it turned round."""
    assert isinstance(layer.weight, Tensor)
    return layer.weight.t() if getattr(layer, "transposed", False) else layer.weight


def prepare_together(layers: list[Any], make: Callable[..., Product]) -> None:
    """One product for layers that read the same input."""
    weights, biases = [plain_weight(layer).detach() for layer in layers], [layer.bias for layer in layers]
    weight = weights[0] if len(layers) == 1 else torch.cat(weights)
    bias = None if biases[0] is None else torch.cat(biases).detach()
    product, start, sizes = make(weight.contiguous(), bias), 0, [len(plain) for plain in weights]
    for layer, plain in zip(layers, weights, strict=True):
        part = slice(start, start + len(plain)) if len(layers) > 1 else None
        more = {"product": product, "part": part, "trainable": layer.weight.requires_grad, "origin": type(layer)}
        more |= {"together": tuple(layers), "sizes": sizes}
        more |= {"transposed": True} if getattr(layer, "transposed", False) else {}
        start += len(plain)
        layer.weight = None
        become(layer, PreparedLinear)
        layer.__dict__ |= more | {"in_features": plain.shape[1], "out_features": len(plain)}


def unprepare(model: nn.Module) -> None:
    """Gives prepared layers their plain weights back, as new parameters."""
    for layer in model.modules():
        if isinstance(layer, PreparedLinear):
            weight = nn.Parameter(layer.weight.clone(), requires_grad=layer.trainable)
            become(layer, layer.origin)
            for name in ("product", "part", "together", "sizes", "trainable", "origin", "transposed", "counted"):
                layer.__dict__.pop(name, None)
            layer.weight = weight  # type: ignore[misc]
        elif isinstance(layer, PreparedRMSNorm):
            become(layer, nn.RMSNorm)


def prepared_sizes(model: nn.Module) -> tuple[int, int, int]:
    """(numbers in the weights of prepared layers, those of them that were trainable, bytes that they take)"""
    layers = [layer for layer in model.modules() if isinstance(layer, PreparedLinear)]
    sizes = [(layer.in_features * layer.out_features, layer.trainable) for layer in layers if layer.counted]
    nbytes = sum(product.nbytes for product in {layer.product for layer in layers})
    return sum(size for size, _ in sizes), sum(size for size, trainable in sizes if trainable), nbytes
