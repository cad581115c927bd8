"""Checks of what a model is given: inputs, dtypes, devices. What is wrong is said before torch says it less clearly."""

import functools
import inspect
import re
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

TENSORS = frozenset(
    {"input_ids", "attention_mask", "token_type_ids", "position_ids", "inputs_embeds", "labels", "head_mask"}
)
DTYPES = {str(t).removeprefix("torch."): t for t in (torch.float32, torch.float16, torch.bfloat16, torch.float64)}


@functools.cache
def forward_names(forward: Callable[..., Any]) -> tuple[tuple[str, ...], bool]:
    """(the names of a forward's arguments in order, whether it takes any others too: a user's own class may)."""
    parameters = inspect.signature(forward).parameters.values()
    several = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    names = tuple(p.name for p in parameters if p.kind not in several and p.name != "self")
    return names, any(p.kind is p.VAR_KEYWORD for p in parameters)


def check_inputs(input_ids: Tensor | None, inputs_embeds: Tensor | None) -> tuple[int, int, torch.device]:
    """(B, T, device) of a model's input: input_ids [B, T] or inputs_embeds [B, T, C], never both."""
    if (input_ids is None) == (inputs_embeds is None):
        raise ValueError("Give exactly one of input_ids and inputs_embeds.")
    if input_ids is None:
        assert inputs_embeds is not None
        if not inputs_embeds.is_floating_point() or inputs_embeds.dim() != 3:
            shape = list(inputs_embeds.shape)
            raise TypeError(f"inputs_embeds must be floats of shape [B, T, C], got {inputs_embeds.dtype} {shape}.")
        return inputs_embeds.shape[0], inputs_embeds.shape[1], inputs_embeds.device
    if input_ids.dtype not in (torch.int64, torch.int32) or input_ids.dim() != 2:
        shape = list(input_ids.shape)
        raise TypeError(f"input_ids must be integers (int64 or int32) of shape [B, T], got {input_ids.dtype} {shape}.")
    return input_ids.shape[0], input_ids.shape[1], input_ids.device


def check_arguments(given: dict[str, Any]) -> None:
    """Refuses what is no tensor, and what torch would stretch to a batch that nobody asked for."""
    for name in TENSORS:
        value = given.get(name)
        if value is not None and not isinstance(value, Tensor) and not hasattr(value, "lengths"):
            hint = " A tokenizer makes one: tokenizer(text, return_tensors='pt')." if name == "input_ids" else ""
            hint = " Hand over its parts by name: model(**inputs)." if isinstance(value, Mapping) else hint
            raise TypeError(f"{name} must be a tensor, got {type(value).__name__}.{hint}")
    first = given.get("input_ids")
    if not isinstance(first, Tensor) or first.dim() != 2:
        return
    for name in ("attention_mask", "token_type_ids", "position_ids"):
        value = given.get(name)
        if isinstance(value, Tensor) and value.dim() == 2 and value.shape[0] not in (1, first.shape[0]):
            raise ValueError(
                f"{name} has shape {list(value.shape)} and input_ids {list(first.shape)}: the numbers of rows differ."
            )
    if first.shape[1] == 0:
        raise ValueError(f"input_ids has shape {list(first.shape)}: there is no token.")


def as_dtype(dtype: Any, what: str = "dtype") -> torch.dtype | None:
    """torch.float16 of torch.float16, "float16" or "torch.float16"; None of None and "auto"."""
    name = str(dtype).removeprefix("torch.")
    if dtype is None or name == "auto":
        return None
    if name not in DTYPES:
        raise ValueError(f"{what} must be 'auto' or one of {', '.join(DTYPES)}, got {dtype!r:.100}.")
    return DTYPES[name]


def as_device(device_map: Any) -> torch.device:
    """The one device that a device_map names: None, "auto", "cpu", "cuda", 0, torch.device or {"": one of these}."""
    if isinstance(device_map, dict):
        if set(device_map) != {""}:
            raise ValueError(
                f"device_map must name one device for the whole model, {{'': 'cuda:0'}}; got {device_map!r:.200}."
            )
        device_map = device_map[""]
    if device_map in ("auto", "balanced", "balanced_low_0", "sequential"):
        device_map = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    try:
        device = torch.device(
            "cpu" if device_map is None else f"cuda:{device_map}" if isinstance(device_map, int) else device_map
        )
    except (RuntimeError, TypeError) as error:
        raise ValueError(
            f"{device_map!r:.100} is no device; there are 'auto', 'cpu', 'cuda', 'cuda:0', 'mps'."
        ) from error
    if device.type == "meta":
        raise ValueError("The device 'meta' keeps no weights; use from_config under torch.device('meta').")
    try:
        torch.empty(0, device=device)
    except Exception as error:  # each kind of device has its own way to say that it is not there
        reason = str(error).split("\n")[0]
        raise ValueError(
            f"The device {device} was asked for, but this PyTorch cannot use it ({reason:.200}). Use 'cpu' or 'auto'."
        ) from error
    return device


def explain(config: Any, given: dict[str, Any], error: str) -> str | None:
    """What is wrong with inputs that an operation refused; looked at only after it did."""
    limits = (
        ("input_ids", "vocab_size", "ids of the vocabulary"),
        ("token_type_ids", "type_vocab_size", "token types"),
        ("position_ids", "max_position_embeddings", "positions"),
    )
    for name, field, what in limits:
        ids, size = given.get(name), getattr(config, field, None)
        if isinstance(ids, Tensor) and not ids.is_floating_point() and size:
            outside = ((ids < 0) | (ids >= size)).nonzero()
            if len(outside):
                where = outside[0].tolist()
                return f"{name}{where} is {int(ids[tuple(where)])}; in this model, {what} go from 0 to {size - 1}."
    if "No working C++ compiler" in error:
        return (
            "The model is compiled, for which a CPU needs a C++ compiler, and none is found: install g++, name one in "
            "the environment variable CXX, or leave it plain."
        )
    most, ids = getattr(config, "longest_input", None), given.get("input_ids")
    shapes = {name: list(value.shape) for name, value in given.items() if isinstance(value, Tensor)}
    if isinstance(ids, Tensor) and most is not None and ids.shape[-1] > most:
        return (
            f"The input is {ids.shape[-1]} tokens long; this model has {most} positions. "
            f"Cut it: tokenizer(text, truncation=True, max_length={most})."
        )
    if found := re.fullmatch(r"Target (-?\d+) is out of bounds\.", error):
        return (
            f"The labels hold {found[1]}, for which there is no logit (num_labels is {config.num_labels}, "
            f"vocab_size {getattr(config, 'vocab_size', None)}); -100 marks what is no target."
        )
    sizes = re.search(r"size of tensor|shapes cannot be multiplied|must match|Expected size|not compatible", error)
    return f"The inputs do not fit together or the model: {shapes}. {error}" if sizes and shapes else None
