"""LoRA: a few trained numbers beside weights that stay as they are; a layer's output gets B(A(x)) * scale added.

Hu et al., 2021, https://arxiv.org/abs/2106.09685. An adapted layer keeps its own weight under its published name, and
holds its adapters by name in `lora_A` and `lora_B`. Files are those of PEFT: adapter_config.json and
adapter_model.safetensors.
"""

import dataclasses
import json
import math
import os
import re
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from .aliases import did_you_mean
from .hub import fetch, file_in, read_json, write_file

CONFIG, WEIGHTS, PREFIX = "adapter_config.json", "adapter_model.safetensors", "base_model.model."
# model_type -> the layers that PEFT adapts when nobody says which
TARGETS = {
    **dict.fromkeys(
        ["llama", "mistral", "mixtral", "qwen2", "qwen3", "gemma2", "gemma3_text", "opt"], ["q_proj", "v_proj"]
    ),
    **dict.fromkeys(["bert", "roberta", "xlm-roberta", "camembert", "electra"], ["query", "value"]),
    "gpt2": ["c_attn"],
    "gpt_neox": ["query_key_value"],
    "deberta-v2": ["query_proj", "value_proj"],
}
HEADS = ("classifier", "score")  # new layers of classifiers, which are trained whole
UNSUPPORTED = {
    "use_dora": "DoRA is not here", "use_qalora": "QA-LoRA is not here", "lora_bias": "B has no bias here",
    "megatron_config": "Megatron is not here", "layer_replication": "layers are not repeated here",
    "trainable_token_indices": "name the embedding in modules_to_save", "target_parameters": "only layers are adapted",
    "alora_invocation_tokens": "activated LoRA is not here", "arrow_config": "Arrow is not here",
}  # fmt: skip


@dataclass
class LoraConfig:
    """What is adapted and how, under PEFT's names.

    target_modules: ends of the names of layers, a regular expression for whole names, or "all-linear"; None: what is
    usual for the model type. rank_pattern, alpha_pattern: {regular expression: other r or lora_alpha}. use_rslora: the
    scale is lora_alpha / sqrt(r) (Kalajdzievski, 2023). modules_to_save: further modules that are trained whole.
    init_lora_weights: True (B is 0), "gaussian" or False (both drawn, for tests).
    """

    r: int = 8
    target_modules: list[str] | str | None = None
    exclude_modules: list[str] | str | None = None
    lora_alpha: float = 8
    lora_dropout: float = 0.0
    fan_in_fan_out: bool = False  # accepted: a layer knows how its weight is stored
    bias: str = "none"
    use_rslora: bool = False
    modules_to_save: list[str] | None = None
    init_lora_weights: bool | str = True
    layers_to_transform: list[int] | int | None = None
    layers_pattern: list[str] | str | None = None
    rank_pattern: dict[str, int] = field(default_factory=dict)
    alpha_pattern: dict[str, float] = field(default_factory=dict)
    task_type: str | None = None
    inference_mode: bool = False
    base_model_name_or_path: str | None = None
    revision: str | None = None
    peft_type: str = "LORA"
    extra: dict[str, Any] = field(default_factory=dict)  # keys of a file that are none of these

    def __post_init__(self) -> None:
        wrong = []
        if not isinstance(self.r, int) or self.r < 1 or any(rank < 1 for rank in self.rank_pattern.values()):
            wrong.append(f"r and all of rank_pattern must be 1 or more, got {self.r} and {self.rank_pattern}")
        if not 0 <= self.lora_dropout < 1:
            wrong.append(f"lora_dropout must be in [0, 1), got {self.lora_dropout}")
        if self.bias not in ("none", "all", "lora_only"):
            wrong.append(f"bias must be 'none', 'all' or 'lora_only', got {self.bias!r:.40}")
        if self.init_lora_weights not in (True, False, "gaussian"):
            wrong.append(f"init_lora_weights must be True, False or 'gaussian', got {self.init_lora_weights!r:.40}")
        if str(self.peft_type).rpartition(".")[2] != "LORA":
            wrong.append(f"peft_type is {self.peft_type!r:.40}; only LORA is supported")
        wrong += [f"{name}: {why}" for name, why in UNSUPPORTED.items() if self.extra.get(name)]
        if wrong:
            raise ValueError(f"LoraConfig: {'; '.join(wrong)}.")
        if isinstance(self.target_modules, (set, tuple)):
            self.target_modules = sorted(self.target_modules)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> "LoraConfig":
        names = cls.__dataclass_fields__.keys() - {"extra"}
        known = {name: value for name, value in values.items() if name in names}
        return cls(**known, extra={name: value for name, value in values.items() if name not in names})

    def to_dict(self) -> dict[str, Any]:
        values = dataclasses.asdict(self)
        return values.pop("extra") | values

    def of(self, name: str) -> tuple[int, float]:
        """(rank, scale) of a layer."""
        found = lambda table, value: next(  # noqa: E731
            (v for pattern, v in table.items() if re.match(rf"(.*\.)?({pattern})$", name)), value
        )
        rank, alpha = found(self.rank_pattern, self.r), found(self.alpha_pattern, self.lora_alpha)
        return rank, alpha / math.sqrt(rank) if self.use_rslora else alpha / rank


# ---- Layers


def adapted_forward(layer: Any, x: Tensor) -> Tensor:
    y = layer.origin.forward(layer, x)
    for name in layer.active:
        if name in layer.lora_A:
            first, second = layer.lora_A[name], layer.lora_B[name]
            dropped = nn.functional.dropout(x, layer.dropout[name], layer.training)
            y = y + second(first(dropped.to(first.weight.dtype))).to(y.dtype) * layer.scale[name]
    return y


def remake(kind: type) -> Any:
    made = adapted_class(kind)
    return object.__new__(made)


@cache
def adapted_class(kind: type) -> type:
    """A kind of linear layer, with adapters; layers are turned into it in place, as linear.py does."""
    parts = {"forward": adapted_forward, "origin": kind, "__reduce__": lambda self: (remake, (kind,), self.__dict__)}
    return type(f"Adapted{kind.__name__}", (kind,), parts)


def is_adapted(layer: nn.Module) -> bool:
    return "lora_A" in layer._modules


def adapted_layers(model: nn.Module) -> dict[str, Any]:
    return {name: layer for name, layer in model.named_modules() if is_adapted(layer)}


def sizes_of(layer: nn.Module) -> tuple[int, int]:
    """(inputs, outputs) of a linear layer, whichever way its weight is stored."""
    weight: Any = layer.weight
    outputs, inputs = reversed(weight.shape) if getattr(layer, "transposed", False) else weight.shape
    return inputs, outputs


def adapt(layer: Any, name: str, rank: int, scale: float, dropout: float, how: bool | str) -> None:
    if not is_adapted(layer):
        layer.__class__ = adapted_class(type(layer))
        layer.lora_A, layer.lora_B = nn.ModuleDict(), nn.ModuleDict()
        layer.scale, layer.dropout, layer.active = {}, {}, []
        layer.weight.requires_grad_(False)
    inputs, outputs = sizes_of(layer)
    device, dtype = layer.weight.device, torch.float32
    first = nn.Linear(inputs, rank, bias=False, device=device, dtype=dtype)
    second = nn.Linear(rank, outputs, bias=False, device=device, dtype=dtype)
    if how == "gaussian":
        nn.init.normal_(first.weight, std=1 / rank)
    if how is not False:
        nn.init.zeros_(second.weight)
    layer.lora_A[name], layer.lora_B[name], layer.scale[name], layer.dropout[name] = first, second, scale, dropout


# ---- Models


def matches(name: str, wanted: Any) -> bool:
    """Whether a module is one of those that a list of ends of names, or a regular expression, means."""
    if isinstance(wanted, str):
        return re.fullmatch(wanted, name) is not None
    return any(name == one or name.endswith(f".{one}") for one in wanted or ())


def is_linear(layer: nn.Module) -> bool:
    return isinstance(layer, nn.Linear) or bool(getattr(layer, "transposed", False))


def chosen(model: Any, config: LoraConfig) -> dict[str, nn.Module]:
    """The layers to adapt. Raises ValueError that says which there are."""
    linear = {n: m for n, m in model.named_modules() if is_linear(m) and not re.search(r"\.lora_[AB]\.", n)}
    wanted = config.target_modules or TARGETS.get(model.config.model_type or "")
    ends = sorted({name.rpartition(".")[2] for name in linear})
    if wanted is None:
        raise ValueError(f"target_modules must be named for {model.config.model_type!r}; its layers end in {ends}.")
    if wanted == "all-linear":
        head, heads = model.get_output_embeddings(), config.modules_to_save or HEADS
        found = {n: m for n, m in linear.items() if m is not head and not matches(n, heads)}
    else:
        found = {name: layer for name, layer in linear.items() if matches(name, wanted)}
    found = {name: layer for name, layer in found.items() if not matches(name, config.exclude_modules)}
    only = config.layers_to_transform
    if only is not None:
        numbers = {only} if isinstance(only, int) else set(only)
        patterns = [config.layers_pattern] if isinstance(config.layers_pattern, str) else config.layers_pattern
        pattern = "|".join(patterns or [r"[^.]*"])
        found = {
            n: m
            for n, m in found.items()
            if (hit := re.search(rf"\.(?:{pattern})\.(\d+)\.", n)) and int(hit[1]) in numbers
        }
    if not found:
        hint = did_you_mean(wanted, ends) if isinstance(wanted, str) else "".join(did_you_mean(w, ends) for w in wanted)
        raise ValueError(f"target_modules={wanted!r:.200} names no layer of the model.{hint} Its layers end in {ends}.")
    return found


def saved_whole(model: nn.Module, config: LoraConfig) -> list[str]:
    """Names of the modules that are trained whole beside the adapters."""
    wanted = config.modules_to_save
    if wanted is None:
        classifies = str(config.task_type).rpartition(".")[2] in ("SEQ_CLS", "TOKEN_CLS")
        wanted = [name for name in HEADS if classifies and hasattr(model, name)]
    names = [name for name, _ in model.named_modules() if matches(name, wanted)]
    # PEFT names every head that some classifier has
    if missing := [one for one in wanted if one not in HEADS and not any(matches(name, [one]) for name in names)]:
        raise ValueError(f"modules_to_save names {missing}, which the model has not.")
    return names


def add_adapter(model: Any, config: LoraConfig | dict[str, Any] | None = None, adapter_name: str = "default") -> None:
    """Puts a new adapter into the model, in place, and lets nothing else be trained but what the config names.

    Adapters are float32. Raises ValueError where the config names no layer, or the name is taken.
    """
    config = LoraConfig() if config is None else LoraConfig.from_dict(config) if isinstance(config, dict) else config
    known = model.__dict__.setdefault("adapters", {})
    if adapter_name in known or not re.fullmatch(r"\w+", adapter_name):
        raise ValueError(f"{adapter_name!r:.60} is no name, or an adapter's already; there are {sorted(known)}.")
    model.unprepare()
    layers, whole = chosen(model, config), saved_whole(model, config)
    if not known:
        for parameter in model.parameters():
            parameter.requires_grad_(False)
    for name, layer in layers.items():
        rank, scale = config.of(name)
        adapt(layer, adapter_name, rank, scale, config.lora_dropout, config.init_lora_weights)
    for name in whole:
        model.get_submodule(name).requires_grad_(True)
    for name, parameter in nn.Module.named_parameters(model):
        owner = name.rpartition(".")[0]
        if name.endswith(".bias") and (config.bias == "all" or config.bias == "lora_only" and owner in layers):
            parameter.requires_grad_(True)
    known[adapter_name] = config
    set_adapter(model, adapter_name)


def check_known(model: Any, name: str) -> None:
    known = model.__dict__.get("adapters", {})
    if name not in known:
        raise ValueError(f"There is no adapter {name!r:.60}.{did_you_mean(name, known)} There are: {sorted(known)}.")


def set_adapter(model: Any, adapter_name: str | list[str]) -> None:
    """The adapter, or those of a list together, that are used; the others stay as they are."""
    names = [adapter_name] if isinstance(adapter_name, str) else list(adapter_name)
    for name in names:
        check_known(model, name)
    for layer in adapted_layers(model).values():
        layer.active = [name for name in names if name in layer.lora_A]
        for name in layer.lora_A:
            trained = name in names and not model.adapters[name].inference_mode
            layer.lora_A[name].requires_grad_(trained)
            layer.lora_B[name].requires_grad_(trained)
    model.__dict__["active_names"] = names


def disable_adapters(model: Any) -> None:
    """The model as it was, until enable_adapters; modules that were trained whole stay trained."""
    for layer in adapted_layers(model).values():
        layer.active = []


def enable_adapters(model: Any) -> None:
    set_adapter(model, active_adapters(model))


def active_adapters(model: Any) -> list[str]:
    return model.__dict__.get("active_names", [])


def delete_adapter(model: Any, adapter_name: str) -> None:
    check_known(model, adapter_name)
    del model.adapters[adapter_name]
    for layer in adapted_layers(model).values():
        for table in (layer.lora_A, layer.lora_B, layer.scale, layer.dropout):
            table.pop(adapter_name) if adapter_name in table else None
        if not len(layer.lora_A):
            take_out(layer)
    model.active_names = [name for name in active_adapters(model) if name != adapter_name]


def take_out(layer: Any) -> None:
    layer.__class__ = layer.origin
    del layer.lora_A, layer.lora_B, layer.scale, layer.dropout, layer.active


@torch.no_grad()
def merge_adapter(model: Any) -> Any:
    """Adds the active adapters to the weights and takes all out: the plain model again, which is returned."""
    if not adapted_layers(model):
        raise ValueError("The model has no adapter to merge, or they were merged before.")
    for layer in adapted_layers(model).values():
        for name in layer.active:
            change = layer.lora_B[name].weight @ layer.lora_A[name].weight * layer.scale[name]
            change = change.t() if getattr(layer, "transposed", False) else change
            layer.weight.copy_((layer.weight.float() + change).to(layer.weight.dtype))
        take_out(layer)
    model.adapters, model.active_names = {}, []
    for parameter in model.parameters():
        parameter.requires_grad_(True)
    return model


# ---- Files


def adapter_state(model: Any, adapter_name: str | None = None) -> dict[str, Tensor]:
    """The adapter's tensors under PEFT's names, with the biases and modules that are trained beside it."""
    name = adapter_name or active_adapters(model)[0]
    check_known(model, name)
    config, layers, state = model.adapters[name], adapted_layers(model), {}
    whole = saved_whole(model, config)
    for full, tensor in nn.Module.state_dict(model).items():
        found = re.fullmatch(r"(.*)\.(lora_[AB])\.(\w+)\.weight", full)
        owner = full.rpartition(".")[0]
        is_bias = full.endswith(".bias") and (config.bias == "all" or config.bias == "lora_only" and owner in layers)
        if found and found[3] == name:
            state[f"{PREFIX}{found[1]}.{found[2]}.weight"] = tensor
        elif is_bias and owner in layers:  # PEFT holds the layer inside of its own
            state[f"{PREFIX}{owner}.base_layer.bias"] = tensor
        elif not found and (is_bias or any(full.startswith(f"{one}.") for one in whole)):
            state[f"{PREFIX}{full}"] = tensor
    return state


def save_adapter(model: Any, folder: Path, state: dict[str, Tensor] | None = None, name: str | None = None) -> None:
    """adapter_config.json and adapter_model.safetensors, as PEFT reads them."""
    name = name or active_adapters(model)[0]
    config, folder = model.adapters[name], Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    values = config.to_dict() | {"inference_mode": True}
    values["base_model_name_or_path"] = config.base_model_name_or_path or model.name_or_path
    values["target_modules"] = config.target_modules or sorted({n.rpartition(".")[2] for n in adapted_layers(model)})
    values["modules_to_save"] = config.modules_to_save or saved_whole(model, config) or None
    tensors = adapter_state(model, name) if state is None else state
    save_file(
        {n: t.detach().cpu().contiguous() for n, t in tensors.items()}, folder / f"tmp-{WEIGHTS}", {"format": "pt"}
    )
    write_file(folder / CONFIG, json.dumps(values, indent=2, sort_keys=True) + "\n")
    os.replace(folder / f"tmp-{WEIGHTS}", folder / WEIGHTS)


def read_adapter(name: Any, **where: Any) -> tuple[LoraConfig, dict[str, Tensor]]:
    """(config, tensors) of a folder or a repository. Raises ValueError or FileNotFoundError."""
    folder = fetch(name, lambda names: [n for n in names if n in (CONFIG, WEIGHTS)], **where)
    config, weights = file_in(folder, CONFIG), file_in(folder, WEIGHTS)
    if config is None or weights is None:
        has_pickle = file_in(folder, "adapter_model.bin") is not None
        hint = " A pickle (adapter_model.bin) is not read: have PEFT save it as safetensors." if has_pickle else ""
        raise FileNotFoundError(f"{name}: an adapter is {CONFIG} and {WEIGHTS}; one is missing.{hint}")
    try:
        return LoraConfig.from_dict(read_json(config)), load_file(weights)
    except SafetensorError as error:
        raise ValueError(f"{weights} is damaged: {error}") from error


@torch.no_grad()
def fill_adapter(model: Any, tensors: dict[str, Tensor], adapter_name: str, where: Any) -> None:
    """Copies an adapter's tensors into it. Raises ValueError, with nothing changed, when they are another model's."""
    state, wrong = adapter_state(model, adapter_name), []
    lost = {name for name in state.keys() - tensors.keys() if name.endswith(".bias")}  # PEFT saves no "lora_only" ones
    for name in sorted((state.keys() | tensors.keys()) - lost):
        if name not in tensors or name not in state:
            wrong.append(f"{name.removeprefix(PREFIX)} is {'missing there' if name in state else 'unknown here'}")
        elif state[name].shape != tensors[name].shape:
            theirs, ours = list(tensors[name].shape), list(state[name].shape)
            wrong.append(f"{name.removeprefix(PREFIX)} has shape {theirs} in place of {ours}")
    if wrong:
        raise ValueError(f"{where} is the adapter of another model: {'; '.join(wrong[:4])} ({len(wrong)} in all).")
    for name, tensor in tensors.items():
        state[name].copy_(tensor)


def load_adapter(
    model: Any, peft_model_id: Any, adapter_name: str = "default", *, is_trainable: bool = False, **where: Any
) -> None:
    """Puts the adapter of a folder or a repository into the model. where: revision, subfolder, token, cache_dir, …

    Raises ValueError when it belongs to another model, with the model as it was.
    """
    config, tensors = read_adapter(peft_model_id, **where)
    add_adapter(model, dataclasses.replace(config, inference_mode=not is_trainable), adapter_name)
    try:
        fill_adapter(model, tensors, adapter_name, peft_model_id)
    except ValueError:
        delete_adapter(model, adapter_name)
        raise


# ---- PEFT's own names


def get_peft_model(model: Any, peft_config: LoraConfig, adapter_name: str = "default") -> Any:
    """The same model, with a new adapter."""
    add_adapter(model, peft_config, adapter_name)
    return model


class PeftModel:
    """Where code for PEFT loads an adapter from; what comes back is the model itself."""

    @staticmethod
    def from_pretrained(model: Any, model_id: Any, adapter_name: str = "default", **how: Any) -> Any:
        load_adapter(model, model_id, adapter_name, **how)
        return model


def print_trainable_parameters(model: Any) -> None:
    trained, every = model.num_parameters(only_trainable=True), model.num_parameters()
    print(f"trainable params: {trained:,} || all params: {every:,} || trainable%: {100 * trained / every:.4f}")
