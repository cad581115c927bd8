"""Weights that are rounded while they are loaded, and checkpoints whose rounding cannot be honoured."""

import re
from collections.abc import Iterable
from typing import Any

from .checkpoint import shared_groups
from .config import Config
from .linear import prepare


class RoundWhileLoading:
    """Rounds layers as soon as the weights of all that become one product are there: never is a whole model in floats.

    What shares its weight is left to Model.prepare.
    """

    def __init__(self, model: Any, quantization: str):
        self.model, self.quantization = model, quantization
        shared = {name for group in shared_groups(model) for name in group}
        groups: dict[str, tuple[list[str], set[str]]] = {}  # layers, and their tensors that are not there yet
        for name, layer in model.named_modules():
            own = {f"{name}.{one}" for one, _ in layer.named_parameters(recurse=False)}
            head = layer is model.get_output_embeddings()
            if own and re.search(model.prepared or "(?!)", name) and not own & shared and not head:
                joins = re.search(model.together, name)
                layers, tensors = groups.setdefault(name.rpartition(".")[0] if joins else name, ([], set()))
                layers.append(name)
                tensors |= own
        self.group_of = {name: group for group in groups.values() for name in group[1]}

    def __call__(self, name: str) -> None:
        layers, left = self.group_of.get(name, ([], {""}))
        left.discard(name)
        if not left:
            model, exactly = self.model, "|".join(f"^{re.escape(layer)}$" for layer in layers)
            prepare(model, exactly, model.together, self.quantization, model.outliers)


def refuse_quantization(config: Config, quantization_config: Any, known: Iterable[str] = ()) -> None:
    """known: methods that a checkpoint of this model may be stored by."""
    asked = quantization_config or config.extra.get("quantization_config")
    if asked:
        method = asked.get("quant_method", asked) if isinstance(asked, dict) else type(asked).__name__
        if not quantization_config and method in list(known):
            return
        raise ValueError(
            f"{config.name_or_path or 'The config'} asks for quantisation by {method!r}, which is not supported here; "
            "its weights would be read as raw integers. Use a checkpoint in float32, float16 or bfloat16."
        )
