"""A Python function as the JSON schema of a tool, out of its type hints and its Google-style docstring."""

import enum
import inspect
import re
import types
import typing
from collections.abc import Callable
from typing import Any

BASIC = {
    str: "string",
    int: "integer",
    float: "number",
    bool: "boolean",
    type(None): "null",
    dict: "object",
    list: "array",
}
SECTIONS = re.compile(
    r"^[ \t]*(Args|Arguments|Parameters|Returns|Return|Raises|Yields|Examples?|Note|Notes):[ \t]*$", re.M
)
ARGUMENT = re.compile(r"^([ \t]*)(\w+)[ \t]*(\([^)\n]*\))?[ \t]*:[ \t]*(.*)$")
CHOICES = re.compile(r"\(choices:\s*(.*?)\)\s*$", re.S)


def get_json_schema(function: Callable[..., Any]) -> dict[str, Any]:
    """{"type": "function", "function": {"name", "description", "parameters"[, "return"]}}.

    Every argument needs a type hint and a line in the docstring's Args; "(choices: ["a", "b"])" at its end lists the
    values that it may have. Raises ValueError naming what is missing, TypeError for what is no function.
    """
    if not callable(function) or not hasattr(function, "__name__"):
        raise TypeError(f"A tool must be a JSON schema (a dict) or a function, not {type(function).__name__}.")
    name, text = function.__name__, inspect.getdoc(function)
    if not text:
        raise ValueError(f"The tool {name} has no docstring; a model chooses a tool by its description.")
    description, arguments, returns = read_docstring(text)
    hints, parameters = typing.get_type_hints(function), inspect.signature(function).parameters
    properties: dict[str, Any] = {}
    for argument in parameters:
        if argument not in hints:
            raise ValueError(f"The tool {name} has no type hint for its argument {argument!r}.")
        if argument not in arguments:
            raise ValueError(f"The docstring of the tool {name} says nothing of {argument!r} under Args.")
        schema, said = schema_of(hints[argument], name, argument), arguments[argument]
        if choices := CHOICES.search(said):
            schema["enum"] = [value.strip().strip("\"'") for value in choices[1].strip("[] ").split(",")]
            said = said[: choices.start()].strip()
        properties[argument] = {**schema, "description": said}
    made: dict[str, Any] = {"type": "object", "properties": properties}
    required = [argument for argument, p in parameters.items() if p.default is p.empty]
    if required:
        made["required"] = required
    schema = {"name": name, "description": description, "parameters": made}
    if "return" in hints:
        schema["return"] = schema_of(hints["return"], name, "return")
        if returns:
            schema["return"]["description"] = returns
    return {"type": "function", "function": schema}


def read_docstring(text: str) -> tuple[str, dict[str, str], str]:
    """(description, {argument: what is said of it}, what is said of the return value)."""
    parts = SECTIONS.split(text)
    sections = {title: body for title, body in zip(parts[1::2], parts[2::2], strict=True)}
    arguments: dict[str, list[str]] = {}
    indent, current = None, ""
    for line in (sections.get("Args") or sections.get("Arguments") or sections.get("Parameters") or "").split("\n"):
        found = ARGUMENT.match(line)
        if found and (indent is None or len(found[1]) <= indent):
            indent, current = len(found[1]), found[2]
            arguments[current] = [found[4].strip()]
        elif line.strip() and current:
            arguments[current].append(line.strip())
    said = {name: " ".join(filter(None, lines)) for name, lines in arguments.items()}
    returns = sections.get("Returns") or sections.get("Return") or ""
    return parts[0].strip(), said, " ".join(returns.split())


def schema_of(hint: Any, tool: str, where: str) -> dict[str, Any]:
    """The JSON schema of a type hint."""
    origin, inner = typing.get_origin(hint), typing.get_args(hint)
    if hint is Any:
        return {}
    if hint in BASIC:
        return {"type": BASIC[hint]}
    if isinstance(hint, type) and issubclass(hint, enum.Enum):
        return enumerated([member.value for member in hint], tool, where)
    if origin is typing.Literal:
        return enumerated(list(inner), tool, where)
    if origin in (typing.Union, types.UnionType):
        kinds = [schema_of(kind, tool, where) for kind in inner if kind is not type(None)]
        nullable = {"nullable": True} if type(None) in inner else {}
        if len(kinds) == 1:
            return kinds[0] | nullable
        if all(set(kind) == {"type"} and isinstance(kind["type"], str) for kind in kinds):
            return {"type": sorted(kind["type"] for kind in kinds)} | nullable
        return {"anyOf": kinds} | nullable
    if origin is list:
        return {"type": "array", "items": schema_of(inner[0], tool, where)}
    if origin is tuple:
        items = [schema_of(kind, tool, where) for kind in inner]
        return {"type": "array", "prefixItems": items}
    if origin is dict:
        return {"type": "object", "additionalProperties": schema_of(inner[1], tool, where)}
    raise ValueError(f"The tool {tool} has a type hint for {where!r} that JSON has no word for: {hint!r}.")


def enumerated(values: list[Any], tool: str, where: str) -> dict[str, Any]:
    kinds = sorted({BASIC[type(value)] for value in values if type(value) in BASIC and value is not None})
    if not kinds:
        raise ValueError(f"The tool {tool} lists values for {where!r} that JSON has no word for: {values!r}.")
    schema: dict[str, Any] = {"type": kinds[0] if len(kinds) == 1 else kinds}
    schema["enum"] = [value for value in values if value is not None]
    return schema | ({"nullable": True} if None in values else {})
