"""HfArgumentParser: dataclasses as the arguments of a command line, or of a JSON or YAML file."""

import dataclasses
import json
import sys
import types
import typing
from argparse import ArgumentDefaultsHelpFormatter, ArgumentParser, ArgumentTypeError
from collections.abc import Iterable
from enum import Enum
from pathlib import Path
from typing import Any, Literal

from ..aliases import did_you_mean

MISSING = dataclasses.MISSING


def as_bool(text: Any) -> bool:
    words = {"yes": True, "true": True, "t": True, "y": True, "1": True}
    words |= {"no": False, "false": False, "f": False, "n": False, "0": False}
    if isinstance(text, bool):
        return text
    if str(text).lower() not in words:
        raise ArgumentTypeError(f"expected true or false (yes, no, 1, 0), got {text!r}")
    return words[str(text).lower()]


def HfArg(  # noqa: N802
    *, aliases: str | list[str] | None = None, help: str | None = None, default: Any = MISSING,
    default_factory: Any = MISSING, metadata: dict[str, Any] | None = None, **kwargs: Any,
) -> Any:  # fmt: skip
    """A dataclasses.field with other names of its flag, and a help text."""
    found = dict(metadata or {})
    found |= {key: value for key, value in (("aliases", aliases), ("help", help)) if value is not None}
    return dataclasses.field(metadata=found, default=default, default_factory=default_factory, **kwargs)


class HfArgumentParser(ArgumentParser):
    """An ArgumentParser with a flag for each field of one dataclass or several.

    A bool is --flag or --flag false; where it is true by default there is --no_flag, too. A list takes several values,
    a Literal or Enum its choices, a dict JSON.
    """

    def __init__(self, dataclass_types: Any = None, **kwargs: Any):
        kwargs.setdefault("formatter_class", ArgumentDefaultsHelpFormatter)
        super().__init__(**kwargs)
        given = dataclass_types or []
        self.dataclass_types: list[type] = list(given) if isinstance(given, Iterable) else [given]
        for kind in self.dataclass_types:
            if not dataclasses.is_dataclass(kind):
                raise TypeError(f"HfArgumentParser takes dataclasses, got {kind!r:.80}.")
            hints = typing.get_type_hints(kind)
            for f in dataclasses.fields(kind):
                if f.init:
                    self._add_field(f, hints[f.name])

    def _add_field(self, f: Any, hint: Any) -> None:
        names, options = [f"--{f.name}"], {"help": f.metadata.get("help"), "dest": f.name}
        names += [f"--{f.name.replace('_', '-')}"] if "_" in f.name else []
        other = f.metadata.get("aliases", [])
        names += [other] if isinstance(other, str) else list(other)
        has_default = f.default is not MISSING or f.default_factory is not MISSING
        default: Any = f.default if f.default is not MISSING else None
        if f.default_factory is not MISSING:
            default = f.default_factory()  # pyright: ignore
        options |= {"default": default} if has_default else {"required": True}
        inner = [one for one in typing.get_args(hint) if one is not type(None)]
        if typing.get_origin(hint) in (typing.Union, types.UnionType):
            hint = inner[0] if len(inner) == 1 else str if str in inner else inner[0]
            inner = list(typing.get_args(hint))
        origin = typing.get_origin(hint)
        if origin is Literal or isinstance(hint, type) and issubclass(hint, Enum):
            choices = list(inner) if origin is Literal else [one.value for one in hint]
            by_text = {str(choice): choice for choice in choices}
            options |= {"choices": choices, "type": lambda text: by_text.get(text, text)}
            if isinstance(default, Enum):
                options["default"] = default.value
        elif hint is bool:
            options |= {"type": as_bool, "nargs": "?", "const": True, "default": default if has_default else False}
            options.pop("required", None)
            if default is True:
                off = [f"--no_{f.name}", f"--no-{f.name.replace('_', '-')}"]
                self.add_argument(*off, dest=f.name, action="store_false", default=default)
        elif origin in (list, tuple) or hint in (list, tuple):
            options |= {"nargs": "+", "type": inner[0] if inner and inner[0] is not Any else str}
        elif origin is dict or hint is dict:
            options["type"] = read_json_text
        elif isinstance(hint, type) and hint is not Any:
            options["type"] = hint
        self.add_argument(*names, **options)

    def _made(self, values: dict[str, Any]) -> tuple[Any, ...]:
        made = []
        for kind in self.dataclass_types:
            names = {f.name for f in dataclasses.fields(kind) if f.init}
            made.append(kind(**{name: value for name, value in values.items() if name in names}))
        return tuple(made)

    def parse_args_into_dataclasses(
        self, args: list[str] | None = None, return_remaining_strings: bool = False, look_for_args_file: bool = True,
        args_filename: str | None = None, args_file_flag: str | None = None,
    ) -> tuple[Any, ...]:  # fmt: skip
        """An object of each dataclass, and what else the dataclasses do not know when that is asked for.

        Arguments are read from the files named by args_filename, by the flag args_file_flag, or beside the program with
        the ending .args; those of the command line count more. Raises ValueError for unknown ones.
        """
        own = list(sys.argv[1:] if args is None else args)
        files = [Path(args_filename)] if args_filename else []
        if not files and look_for_args_file and not args_file_flag and sys.argv:
            files = [Path(sys.argv[0]).with_suffix(".args")]
        if args_file_flag:
            flags = ArgumentParser(add_help=False)
            flags.add_argument(args_file_flag, type=Path, action="append")
            named, own = flags.parse_known_args(own)
            files = vars(named)[args_file_flag.lstrip("-")] or []
        before = [word for file in files if file.exists() for word in file.read_text(encoding="utf-8").split()]
        namespace, left = self.parse_known_args(before + own)
        made = self._made(vars(namespace))
        known = {f.name for kind in self.dataclass_types for f in dataclasses.fields(kind)}
        more = {name: value for name, value in vars(namespace).items() if name not in known}
        if more:
            made = (*made, types.SimpleNamespace(**more))
        if return_remaining_strings:
            return (*made, left)
        if left:
            raise ValueError(f"Unknown arguments: {left}.{did_you_mean(left[0].lstrip('-'), known)}")
        return made

    def parse_dict(self, args: dict[str, Any], allow_extra_keys: bool = False) -> tuple[Any, ...]:
        """An object of each dataclass, of a dict. Raises ValueError for keys that none of them has."""
        known = {f.name for kind in self.dataclass_types for f in dataclasses.fields(kind) if f.init}
        if (unknown := sorted(args.keys() - known)) and not allow_extra_keys:
            raise ValueError(f"Unknown keys: {unknown}.{did_you_mean(unknown[0], known)}")
        return self._made(args)

    def parse_json_file(self, json_file: Any, allow_extra_keys: bool = False) -> tuple[Any, ...]:
        return self.parse_dict(json.loads(Path(json_file).read_text(encoding="utf-8")), allow_extra_keys)

    def parse_yaml_file(self, yaml_file: Any, allow_extra_keys: bool = False) -> tuple[Any, ...]:
        try:
            import yaml
        except ImportError as error:
            raise ImportError("parse_yaml_file needs the package: pip install pyyaml") from error
        return self.parse_dict(yaml.safe_load(Path(yaml_file).read_text(encoding="utf-8")), allow_extra_keys)


def read_json_text(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError as error:
        raise ArgumentTypeError(f"expected JSON, got {text!r:.80}") from error
