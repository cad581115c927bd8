"""The activation functions that config.json names."""

import math
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor


def gelu_new(x: Tensor) -> Tensor:
    """The tanh approximation of GELU, https://arxiv.org/abs/1606.08415."""
    return F.gelu(x, approximate="tanh")


def gelu_accurate(x: Tensor) -> Tensor:
    return 0.5 * x * (1 + torch.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))


def quick_gelu(x: Tensor) -> Tensor:
    return x * torch.sigmoid(1.702 * x)


def gelu_10(x: Tensor) -> Tensor:
    return F.gelu(x).clamp(-10, 10)


def relu2(x: Tensor) -> Tensor:
    return F.relu(x).square()


def laplace(x: Tensor) -> Tensor:
    """Laplace distribution function with the constants of https://arxiv.org/abs/2209.10655."""
    return 0.5 * (1 + torch.erf((x - 0.707107) / (0.282095 * math.sqrt(2))))


def linear(x: Tensor) -> Tensor:
    return x


ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "gelu": F.gelu,
    "gelu_10": gelu_10,
    "gelu_accurate": gelu_accurate,
    "gelu_fast": gelu_new,
    "gelu_new": gelu_new,
    "gelu_python": F.gelu,
    "gelu_pytorch_tanh": gelu_new,
    "gelu_python_tanh": gelu_new,
    "laplace": laplace,
    "leaky_relu": F.leaky_relu,
    "linear": linear,
    "mish": F.mish,
    "quick_gelu": quick_gelu,
    "relu": F.relu,
    "relu2": relu2,
    "relu6": F.relu6,
    "sigmoid": torch.sigmoid,
    "silu": F.silu,
    "swish": F.silu,
    "tanh": torch.tanh,
}


def activation(name: str) -> Callable[[Tensor], Tensor]:
    """The function that a config's name stands for."""
    if name not in ACTIVATIONS:
        raise ValueError(f"The config asks for the activation {name!r}; known are {', '.join(sorted(ACTIVATIONS))}.")
    return ACTIVATIONS[name]
