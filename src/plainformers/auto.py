"""AutoConfig and the AutoModel classes: config.json names the model_type, the registry its file, the file the class."""

import importlib
import os
from typing import Any

from .aliases import did_you_mean, rename_keywords
from .config import HUB_ARGUMENTS, Config, load_config_dict
from .registry import AUTO_CLASSES, MODELS, Entry, module_path

_own_configs: dict[str, type[Config]] = {}  # of AutoConfig.register
_own_models: dict[tuple[type[Config], str], type] = {}  # of AutoModel….register


def model_module(entry: Entry) -> Any:
    return importlib.import_module(module_path(entry.file))


def find_entry(model_type: Any, name: str) -> Entry:
    """The row of a model_type; an error says what to do when there is none."""
    known = ", ".join(sorted({*MODELS, *_own_configs}))
    if not isinstance(model_type, str) or not model_type:
        raise ValueError(
            f"The config of {name} names no model_type (it says {model_type!r:.100}), so the model is not known. "
            f"Load it with its own class, or add one of: {known}."
        )
    if model_type not in MODELS:
        raise ValueError(
            f"{name} is of model_type {model_type!r:.100}, which is not here.{did_you_mean(model_type[:100], MODELS)} "
            f"Known: {known}."
        )
    return MODELS[model_type]


def config_class_for(values: dict[str, Any], name: str) -> type[Config]:
    """The config class for the content of a config.json."""
    model_type = values.get("model_type")
    if isinstance(model_type, str) and model_type in _own_configs:
        return _own_configs[model_type]
    if values.get("auto_map") and str(model_type) not in MODELS:
        raise ValueError(
            f"{name} is of model_type {model_type!r:.100} and asks for code of its repository to be run "
            f"({values['auto_map']!r:.200}). Code of a repository is never run here; write the model as a file and "
            "register it, or use another checkpoint."
        )
    entry = find_entry(model_type, name)
    return getattr(model_module(entry), entry.config)


class AutoConfig:
    """Makes the config that a config.json asks for."""

    def __init__(self, *args: Any, **keywords: Any):
        raise TypeError(
            "AutoConfig makes configs: call AutoConfig.from_pretrained(name) or AutoConfig.for_model(type)."
        )

    @classmethod
    def from_pretrained(cls, pretrained_model_name_or_path: str | os.PathLike[str], **keywords: Any) -> Any:
        """See Config.from_pretrained. trust_remote_code is accepted; no code of a repository is ever run."""
        keywords = rename_keywords(keywords, "from_pretrained")
        name = str(pretrained_model_name_or_path)
        where = {key: keywords.pop(key) for key in HUB_ARGUMENTS if key in keywords}
        values = load_config_dict(pretrained_model_name_or_path, **where)
        return config_class_for(values, name).from_dict(values, name_or_path=name, **keywords)

    @classmethod
    def for_model(cls, model_type: str, **fields: Any) -> Any:
        return config_class_for({"model_type": model_type}, "AutoConfig.for_model")(**fields)

    @classmethod
    def register(cls, model_type: str, config: type[Config], exist_ok: bool = False) -> None:
        """Makes AutoConfig know a config class of yours, whose model_type must be the same."""
        if config.model_type != model_type:
            raise ValueError(f"{config.__name__}.model_type is {config.model_type!r}, not {model_type!r}.")
        if (model_type in MODELS or model_type in _own_configs) and not exist_ok:
            raise ValueError(f"model_type {model_type!r} is taken; exist_ok=True replaces it.")
        _own_configs[model_type] = config


class AutoModel:
    """Makes the model that a config asks for; the subclasses make it with a head."""

    head = "base"

    def __init__(self, *args: Any, **keywords: Any):
        name = type(self).__name__
        raise TypeError(f"{name} makes models: call {name}.from_pretrained(name) or {name}.from_config(config).")

    @classmethod
    def from_pretrained(
        cls,
        pretrained_model_name_or_path: str | os.PathLike[str] | None,
        *,
        config: Config | str | os.PathLike[str] | None = None,
        **keywords: Any,
    ) -> Any:
        """Takes what Model.from_pretrained takes."""
        if not isinstance(config, Config):
            renamed = rename_keywords(keywords, "from_pretrained")
            where = {key: renamed[key] for key in HUB_ARGUMENTS if key in renamed}
            source: Any = pretrained_model_name_or_path if config is None else config
            config = AutoConfig.from_pretrained(source, **where)
        assert isinstance(config, Config)
        return cls.class_for(type(config)).from_pretrained(pretrained_model_name_or_path, config=config, **keywords)

    @classmethod
    def from_config(cls, config: Config, **keywords: Any) -> Any:
        """A model with random weights; see Model.from_config."""
        if not isinstance(config, Config):
            raise TypeError(f"{cls.__name__}.from_config takes a config, got {type(config).__name__}.")
        return cls.class_for(type(config)).from_config(config, **rename_keywords(keywords, "from_config"))

    @classmethod
    def class_for(cls, config_class: type[Config]) -> Any:
        for kind in config_class.__mro__:
            if (kind, cls.head) in _own_models:
                return _own_models[kind, cls.head]
        if config_class.model_type in _own_configs and config_class.model_type not in MODELS:
            raise ValueError(
                f"{cls.__name__} has no class for {config_class.__name__}: call {cls.__name__}.register("
                f"{config_class.__name__}, YourModel)."
            )
        entry = find_entry(config_class.model_type, config_class.__name__)
        if cls.head not in entry.heads:
            there = sorted(AUTO_CLASSES[head] for head in entry.heads if head in AUTO_CLASSES)
            raise ValueError(
                f"{config_class.model_type} has no head for {cls.__name__}. It can be made by {', '.join(there)}."
            )
        return getattr(model_module(entry), entry.heads[cls.head])

    @classmethod
    def register(cls, config_class: type[Config], model_class: Any, exist_ok: bool = False) -> None:
        """Makes this Auto class give a model class of yours for a config class."""
        if getattr(model_class, "config_class", config_class) is not config_class:
            theirs = model_class.config_class.__name__
            raise ValueError(f"{model_class.__name__}.config_class is {theirs}, not {config_class.__name__}.")
        if (config_class, cls.head) in _own_models and not exist_ok:
            raise ValueError(
                f"{cls.__name__} already has a class for {config_class.__name__}; exist_ok=True replaces it."
            )
        _own_models[config_class, cls.head] = model_class


# the classes with a head, as the registry names them
for _head, _name in AUTO_CLASSES.items():
    if _name != "AutoModel":
        globals()[_name] = type(
            _name, (AutoModel,), {"head": _head, "__module__": __name__, "__doc__": AutoModel.__doc__}
        )
