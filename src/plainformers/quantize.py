"""Weights that are rounded while they are loaded."""

import re
from typing import Any

from .checkpoint import shared_groups
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
