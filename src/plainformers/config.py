"""Config: the base of every model's configuration, and the reading of config.json.

A model file declares one dataclass, a field per key of its config.json. What a file holds beyond the fields is kept in
`extra` and saved back as it came; what a caller misspells is an error.
"""

import copy
import dataclasses
import functools
import inspect
import json
import math
import os
import re
import types
import typing
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from .aliases import ALIASES, did_you_mean, rename_keywords, resolve_keywords, unknown_argument
from .hub import fetch, file_in, find_gguf, names_in, only_gguf, read_json, upload, write_file

# arguments of every from_pretrained that say where files come from
HUB_ARGUMENTS = ("revision", "subfolder", "cache_dir", "force_download", "local_files_only", "token", "gguf_file")
MOST_LAYERS = 10_000  # of anything that makes one module each; more is a damaged or hostile file
MOST_LABELS = 100_000  # without names, so that a small file does not make large ones
# what users set on any config; no forward pass of ours reads them where they are no fields
NOTES = frozenset({
    "bos_token_id", "eos_token_id", "pad_token_id", "sep_token_id", "mask_token_id", "decoder_start_token_id",
    "use_cache", "tokenizer_class", "finetuning_task", "task_specific_params",
})  # fmt: skip
# what classes with an __init__ of their own hand to the base, too
BASE_ARGUMENTS = NOTES | {"is_decoder", "add_cross_attention", "chunk_size_feed_forward", "tie_encoder_decoder"}


def load_config_dict(name: str | os.PathLike[str], gguf_file: str | None = None, **where: Any) -> dict[str, Any]:
    """The content of a model's config.json, or what a GGUF file says instead; where: the arguments of hub.fetch."""
    name, usual = Path(name) if isinstance(name, os.PathLike) else name, "config.json"
    path = find_gguf(name, gguf_file, **where)
    if path is None:
        folder = fetch(name, lambda names: [n for n in names if n == usual] or only_gguf(names, [usual]), **where)
        path = file_in(folder, next(iter(only_gguf(names_in(folder), [usual])), usual))
        if path is None:
            there = ", ".join(names_in(folder)[:20]) or "nothing"
            raise FileNotFoundError(f"{name} has no config.json; in {folder} there is {there}.")
    if path.suffix != ".gguf":
        return read_json(path)
    from .gguf import read_gguf
    from .gguf_models import gguf_config

    return gguf_config(read_gguf(path))


def fits(value: Any, hint: Any) -> bool:
    """Whether a value read from JSON has the type that a field declares."""
    origin, inner = typing.get_origin(hint), typing.get_args(hint)
    if hint is Any:
        return True
    if origin in (typing.Union, types.UnionType):
        return any(fits(value, one) for one in inner)
    if origin in (list, tuple):
        return isinstance(value, (list, tuple)) and all(fits(one, inner[0]) for one in value)
    if origin is dict:
        return isinstance(value, dict)
    if isinstance(value, bool):
        return hint is bool
    if hint is float:
        return isinstance(value, (int, float)) and abs(value) < math.inf  # a nan is not, an int may be of any size
    return not isinstance(hint, type) or isinstance(value, hint)  # a subclass may declare what JSON does not know


@functools.cache
def field_types(config_class: type) -> dict[str, Any]:
    hints = typing.get_type_hints(config_class)
    return {f.name: hints[f.name] for f in dataclasses.fields(config_class)}


def label_names(count: int) -> dict[int, str]:
    return {i: f"LABEL_{i}" for i in range(count)}


def read_labels(labels: Any) -> dict[int, str]:
    """id2label of a file (whose keys are texts) or of a call; None means two labels."""
    try:
        return label_names(2) if labels is None else {int(i): str(label) for i, label in labels.items()}
    except (AttributeError, ValueError, TypeError) as error:
        raise ValueError(f"id2label must map numbers to names, got {labels!r:.100}.") from error


def wrong_size(name: str, value: int) -> str | None:
    """What is wrong with a whole number, by the name of its field."""
    if not re.search(r"(_size|_layers?|_heads|_embeddings|(?<!relative)_positions|_experts|^dim|_dim)$", name):
        return None if abs(value) < 2**63 else f"{name} must be a 64-bit number, got {value!r:.40}"
    most = MOST_LAYERS if counts_modules(name) else 2**31 - 1
    optional = re.search(r"^(type|chunk|conv|max_window)_|_(embeddings|positions)$", name)
    least = 0 if counts_modules(name) or optional else 1
    return None if least <= value <= most else f"{name} must be between {least} and {most}, got {value!r:.40}"


def wrong_number(name: str, value: float) -> str | None:
    """What is wrong with a number, by the name of its field."""
    if re.search(r"(dropout|_prob|_pdrop)$", name):
        return None if 0 <= value <= 1 else f"{name} is a probability, from 0 to 1, got {value!r:.40}"
    if re.search(r"(_range|_std|_eps|_epsilon)$", name):
        return None if 0 <= value < 1e6 else f"{name} must not be negative or huge, got {value!r:.40}"
    return None


@dataclass(init=False)
class Config:
    """Base of all configurations. A subclass is a dataclass(init=False); this __init__ serves it.

    Fields are given by keyword (or in order, the subclass's own first); an unknown keyword raises TypeError.
    extra: keys of a config.json that are no fields; readable and settable as attributes.
    """

    model_type: ClassVar[str] = ""
    attribute_map: ClassVar[dict[str, str]] = {}  # common name -> this config's name, e.g. hidden_size -> n_embd
    not_saved: ClassVar[frozenset[str]] = frozenset({"extra", "name_or_path", "attn_implementation"})

    architectures: list[str] | None = None
    dtype: str | None = None  # of the weights in the checkpoint, e.g. "bfloat16"
    id2label: dict[int, str] = dataclasses.field(default_factory=lambda: label_names(2))
    label2id: dict[str, int] = dataclasses.field(default_factory=dict)
    problem_type: str | None = None  # regression, single_label_classification or multi_label_classification
    output_attentions: bool = False
    output_hidden_states: bool = False
    return_dict: bool = True  # False: a model gives tuples
    is_encoder_decoder: bool = False
    tie_word_embeddings: bool = True
    name_or_path: str = dataclasses.field(default="", compare=False)
    attn_implementation: str = dataclasses.field(default="sdpa", compare=False)
    extra: dict[str, Any] = dataclasses.field(default_factory=dict)

    def __init__(self, *args: Any, **keywords: Any):
        own = [f.name for f in dataclasses.fields(self) if f.name not in Config.__dataclass_fields__]
        if len(args) > len(own):
            raise TypeError(f"{type(self).__name__} takes at most {len(own)} values in order, got {len(args)}.")
        twice = sorted(keywords.keys() & set(own[: len(args)]))
        if twice:
            raise TypeError(f"{type(self).__name__} got {', '.join(twice)} twice: in order and by name.")
        keywords = dict(zip(own, args, strict=False)) | keywords
        given = resolve_keywords(keywords, self.keywords() | set(self.extra), "config", type(self).__name__)
        for f in dataclasses.fields(self):
            if f.name not in self.__dict__:
                default = f.default_factory() if f.default_factory is not dataclasses.MISSING else f.default
                object.__setattr__(self, f.name, default)
        if not given.get("label2id"):
            given.pop("label2id", None)
            object.__setattr__(self, "label2id", {label: i for i, label in self.__dict__["id2label"].items()})
        self._change(given)

    def _change(self, given: dict[str, Any]) -> None:
        """Sets fields, then checks all of them."""
        places: dict[str, str] = {}
        for name in given:
            ours = type(self).attribute_map.get(name, name)
            other = places.setdefault(ours, name)
            if other != name and given[other] != given[name]:
                raise ValueError(
                    f"{other}={given[other]!r:.40} and {name}={given[name]!r:.40} name the same; give one of them."
                )
        if given.get("num_labels") is not None and given.get("id2label") is not None:
            names = read_labels(given["id2label"])
            if len(names) != given["num_labels"]:
                raise ValueError(f"num_labels is {given['num_labels']!r}, but id2label names {len(names)} labels.")
        # setting the one makes the other: the names after their number, and their inverse last; so newer spellings
        newer = ("rope_parameters", "rope_scaling", "layer_types", "id2label")
        order = {"num_labels": 0, **dict.fromkeys(newer, 2), "label2id": 3}
        for name in sorted(given, key=lambda name: order.get(name, 1)):
            if name != "num_labels" or given[name] is not None:
                setattr(self, name, given[name])
        self.validate()

    # ---- Names

    @classmethod
    def keywords(cls) -> set[str]:
        """The names that a caller may set."""
        names = {f.name for f in dataclasses.fields(cls)} - {"extra"}
        notes = NOTES if cls.__init__ is Config.__init__ else BASE_ARGUMENTS
        return names | set(cls.attribute_map) | {"num_labels"} | notes

    def __getattr__(self, name: str) -> Any:
        # only called for what is no field
        if name.startswith("__") or name == "extra":
            if name == "extra":  # a subclass may set attributes before it calls this class's __init__
                object.__setattr__(self, "extra", {})
                return self.extra
            raise AttributeError(name)
        ours = type(self).attribute_map.get(name) or ALIASES["config"].get(name)
        if ours is not None:
            return getattr(self, ours)
        if name in self.extra:
            return self.extra[name]
        raise AttributeError(
            f"{type(self).__name__} has no {name!r}.{did_you_mean(name, self.keywords() | set(self.extra))}"
        )

    def __setattr__(self, name: str, value: Any) -> None:
        name = type(self).attribute_map.get(name) or ALIASES["config"].get(name, name)
        if name == "dtype" and value is not None:
            value = str(value).removeprefix("torch.")
        if name == "id2label":
            value = read_labels(value)
            object.__setattr__(self, "label2id", {label: i for i, label in value.items()})
        if name == "label2id" and value is None:
            value = {label: i for i, label in self.id2label.items()}
        self.__dict__.get("_filled", set()).discard(name)
        if "rope_theta" in type(self).__dataclass_fields__:  # one number in two spellings
            rope = self.__dict__.get("rope_parameters")
            if name == "rope_theta" and isinstance(rope, dict) and name in rope:
                object.__setattr__(self, "rope_parameters", rope | {name: value})
            if name == "rope_parameters" and isinstance(value, dict) and value.get("rope_theta") is not None:
                object.__setattr__(self, "rope_theta", value["rope_theta"])
        # the class, not the instance, says what is a field, a property or a private note
        if hasattr(type(self), name) or name in type(self).__dataclass_fields__ or name.startswith("_"):
            object.__setattr__(self, name, value)
        else:
            self.extra[name] = value

    @property
    def longest_input(self) -> int | None:
        """Tokens of the longest input that the model takes; None: no limit is known."""
        return getattr(self, "max_position_embeddings", None)

    @property
    def num_labels(self) -> int:
        return len(self.id2label)

    @num_labels.setter
    def num_labels(self, count: int) -> None:
        if isinstance(count, bool) or not isinstance(count, int) or not 0 <= count <= MOST_LABELS:
            raise ValueError(
                f"num_labels must be a number from 0 to {MOST_LABELS}; more are named by id2label. Got {count!r:.40}."
            )
        if count != len(self.id2label):
            self.id2label = label_names(count)

    def get_text_config(self, decoder: bool | None = None, encoder: bool | None = None) -> "Config":
        """The configuration of the text model: this one, except for models of several parts."""
        return self

    # ---- Checks

    def fill(self, name: str, value: Any) -> None:
        """Gives a field that nobody set the value that follows from others; validate() does it anew each time."""
        filled = self.__dict__.setdefault("_filled", set())
        if self.__dict__[name] is None or name in filled:
            object.__setattr__(self, name, value)
            filled.add(name)

    def validate(self) -> None:
        """Raises ValueError for a field of a wrong type or an absurd size, naming all of them."""
        wrong = []
        for name, hint in field_types(type(self)).items():
            value = self.__dict__[name]
            if not fits(value, hint):
                kind = getattr(hint, "__name__", None) if isinstance(hint, type) else str(hint)
                wrong.append(f"{name} must be {kind}, got {value!r:.100}")
                continue
            found = wrong_size(name, value) if isinstance(value, int) and not isinstance(value, bool) else None
            found = found or (wrong_number(name, value) if isinstance(value, (int, float)) else None)
            if found:
                wrong.append(found)
        if wrong:
            raise ValueError(f"{type(self).__name__} ({self.name_or_path or 'made in code'}): {'; '.join(wrong)}.")

    # ---- Files

    @classmethod
    def from_pretrained(
        cls,
        pretrained_model_name_or_path: str | os.PathLike[str],
        *,
        return_unused_kwargs: bool = False,
        **keywords: Any,
    ) -> Any:
        """Reads config.json of a folder or a repository, or a GGUF file (its path, or gguf_file within them).

        keywords: revision, subfolder, cache_dir, force_download, local_files_only, token, gguf_file; others override
        fields.
        return_unused_kwargs: give (config, keywords that are no fields) instead of raising.
        """
        keywords = rename_keywords(keywords, "from_pretrained")
        where = {name: keywords.pop(name) for name in HUB_ARGUMENTS if name in keywords}
        name = pretrained_model_name_or_path
        values = load_config_dict(name, **where)
        return cls.from_dict(values, name_or_path=str(name), return_unused_kwargs=return_unused_kwargs, **keywords)

    @classmethod
    def from_dict(
        cls,
        config_dict: dict[str, Any],
        *,
        name_or_path: str = "",
        return_unused_kwargs: bool = False,
        **overrides: Any,
    ) -> Any:
        """A config from the content of a config.json; overrides name fields, aliases or keys of the dictionary."""
        kind = config_dict.get("model_type")
        if cls.model_type and kind not in (None, "", cls.model_type):
            raise ValueError(
                f"The config of {name_or_path or 'this dictionary'} says model_type {kind!r:.40}; {cls.__name__} reads "
                f"{cls.model_type!r}. Use AutoConfig (or AutoModel…), which takes the right class."
            )
        values = {k: v for k, v in config_dict.items() if k != "model_type"}
        for spelling, ours in ALIASES["config"].items():
            if spelling in values and ours not in values:
                values[ours] = values[spelling]
        accepted = cls.keywords() | cls._init_names()
        fields = {k: copy.deepcopy(v) for k, v in values.items() if k in accepted and k not in cls.not_saved}
        if fields.get("id2label") is not None:
            fields.pop("num_labels", None)
        try:
            config = cls(name_or_path=name_or_path, **fields)
        except (ValueError, TypeError) as error:
            if name_or_path in str(error):
                raise
            raise type(error)(f"The config of {name_or_path}: {error}") from error
        config.extra.update(
            {k: copy.deepcopy(v) for k, v in values.items() if k not in accepted and k not in ALIASES["config"]}
        )
        config._file, config._loaded = copy.deepcopy(config_dict), copy.deepcopy(config._state())
        unused = config.override(overrides, raising=not return_unused_kwargs)
        return (config, unused) if return_unused_kwargs else config

    def override(
        self, changes: dict[str, Any], *, raising: bool = True, where: str = "", meant: Iterable[str] = ()
    ) -> dict[str, Any]:
        """Sets fields, aliases or keys of the file; returns what is none of them, or raises TypeError for it.

        where: what the error calls the function; meant: other words that a misspelt one may be.
        """
        allowed = self.keywords() | type(self)._init_names() | set(self.extra)
        changes = rename_keywords(changes, "config")
        unused = {k: changes.pop(k) for k in list(changes) if k not in allowed}
        if unused and raising:
            raise unknown_argument(next(iter(unused)), allowed | set(meant), where or type(self).__name__)
        self._change(changes)
        return unused

    @classmethod
    def _init_names(cls) -> set[str]:
        """Keywords of a user's subclass that has an __init__ of its own."""
        parameters = inspect.signature(cls.__init__).parameters.values()
        named = {p.name for p in parameters if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)}
        return named - {"self"}

    @classmethod
    def from_json_file(cls, json_file: str | os.PathLike[str]) -> Any:
        return cls.from_dict(read_json(Path(json_file)))

    def _state(self) -> dict[str, Any]:
        state = {f.name: getattr(self, f.name) for f in dataclasses.fields(self) if f.name not in self.not_saved}
        return state | self.extra

    def to_dict(self) -> dict[str, Any]:
        """What save_pretrained writes: the file as it was read with the changes since; every field of a new config."""
        state = self._state()
        file: dict[str, Any] | None = self.__dict__.get("_file")
        if file is None:
            common = Config.__dataclass_fields__
            plain = Config()._state()
            own = type(self).__dataclass_fields__  # where a model has another default, readers may have either
            usual = {k for k in plain if k in common and state[k] == plain[k] and own[k].default == common[k].default}
            result = {k: v for k, v in state.items() if k not in usual}
            return {"model_type": self.model_type} | copy.deepcopy(result)
        result = copy.deepcopy(file)
        loaded = self._loaded
        changed = {name: value for name, value in state.items() if name not in loaded or loaded[name] != value}
        aliases = ALIASES["config"] | self.attribute_map
        for name, value in changed.items():
            spellings = [old for old in (name, *(old for old, ours in aliases.items() if ours == name)) if old in file]
            result |= {spelling: copy.deepcopy(value) for spelling in spellings or [name]}
        for name in loaded.keys() - state.keys():
            result.pop(name, None)
        if "num_labels" in result and "id2label" in changed:
            result["num_labels"] = self.num_labels
        return result

    def to_diff_dict(self) -> dict[str, Any]:
        """to_dict without the fields that have their defaults."""
        default = type(self)().to_dict()
        return {k: v for k, v in self.to_dict().items() if k == "model_type" or k not in default or default[k] != v}

    def to_json_string(self, use_diff: bool = False) -> str:
        return json.dumps(self.to_diff_dict() if use_diff else self.to_dict(), indent=2, sort_keys=True) + "\n"

    def to_json_file(self, json_file_path: str | os.PathLike[str], use_diff: bool = False) -> None:
        write_file(Path(json_file_path), self.to_json_string(use_diff))

    def save_pretrained(
        self, save_directory: str | os.PathLike[str], push_to_hub: bool = False, repo_id: str | None = None,
        token: str | bool | None = None,
    ) -> None:  # fmt: skip
        """Writes config.json into a folder, which is made when it is not there."""
        folder = Path(save_directory)
        folder.mkdir(parents=True, exist_ok=True)
        # an interrupted save of a model may hold the config.json that counts, and is then where this one belongs
        self.to_json_file(file_in(folder, "config.json") or folder / "config.json")
        if push_to_hub:
            upload(folder, repo_id or folder.name, token=token)

    def update(self, config_dict: dict[str, Any]) -> None:
        self._change(dict(config_dict))


def counts_modules(name: str) -> bool:
    """Whether a field says how many modules are built, which costs time even without memory."""
    return bool(re.search(r"(^|_)(?<!window_)(layers?|experts)$", name))
