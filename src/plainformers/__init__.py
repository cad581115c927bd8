"""plainformers: any Transformer model in two lines to use, one file to read, and plain PyTorch to build on.

Names are found on first use, so that importing the package imports neither torch nor any model.
"""

import importlib
from typing import Any

from .registry import public_names

__version__ = "0.1.0"
__all__ = sorted([*public_names(), "logging", "modeling_outputs", "trainer_utils"])  # pyright: ignore[reportUnsupportedDunderAll]


def __getattr__(name: str) -> Any:
    if name in ("logging", "modeling_outputs", "trainer_utils"):
        return importlib.import_module(f"{__name__}.{name}")
    found = public_names().get(name)
    if found is None:
        from .aliases import did_you_mean

        raise AttributeError(f"plainformers has no {name!r}.{did_you_mean(name, __all__)}")
    value = globals()[name] = getattr(importlib.import_module(found[0]), found[1])
    return value


def __dir__() -> list[str]:
    return __all__
