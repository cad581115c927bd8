"""Chat templates are programs of strangers: here they are run by Jinja's sandbox, with limits on what they may spend.

A template sees texts, numbers, lists and dictionaries, a fixed set of their methods, and the filters below. It is
bounded in source, steps, time, the size of every value and of the output, so that nothing it does can hang or fill
memory. No signals and no threads are used: each loop, call, filter and operator counts a step, and each step is small.
"""

import functools
import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import datetime
from time import monotonic
from typing import Any

from jinja2 import meta, nodes
from jinja2.exceptions import SecurityError, TemplateError, TemplateSyntaxError
from jinja2.ext import Extension, loopcontrols
from jinja2.runtime import Macro
from jinja2.sandbox import ImmutableSandboxedEnvironment

MOST_SOURCE = 256 * 1024  # characters of a template; the longest published ones have 30,000
MOST_STEPS, MOST_SECONDS = 1_000_000, 5.0
MOST_OUTPUT = 10_000_000  # characters of the output
MOST_BITS = 4096  # of a number

_FILTERS = """
abs batch capitalize count d default dictsort e escape first float forceescape groupby indent int items join last length
list lower map max min reject rejectattr replace reverse round safe select selectattr slice sort string sum title trim
truncate unique upper wordcount
"""
_TEXT_METHODS = """
capitalize casefold count endswith find index isalnum isalpha isascii isdecimal isdigit islower isnumeric isspace
istitle isupper join lower lstrip partition removeprefix removesuffix replace rfind rindex rpartition rsplit rstrip
split splitlines startswith strip swapcase title upper
"""
FILTERS = frozenset(_FILTERS.split())
GLOBALS = frozenset(["range", "dict", "namespace", "cycler", "joiner"])
METHODS: dict[type, frozenset[str]] = {
    str: frozenset(_TEXT_METHODS.split()),
    dict: frozenset(["copy", "get", "items", "keys", "values"]),
    list: frozenset(["copy", "count", "index"]),
    tuple: frozenset(["count", "index"]),
}


class TemplateRefused(ValueError):
    """A template that does what none may do."""


class Meter:
    """What one rendering has spent."""

    def __init__(self) -> None:
        self.steps, self.end = 0, monotonic() + MOST_SECONDS
        self.weights: dict[int, tuple[Any, int]] = {}  # of lists and dictionaries, which are kept so that ids stay

    def tick(self, steps: int = 1) -> None:
        self.steps += steps
        if self.steps > MOST_STEPS:
            raise TemplateRefused(f"it takes more than {MOST_STEPS:,} steps")
        if monotonic() > self.end:
            raise TemplateRefused(f"it takes longer than {MOST_SECONDS:g} seconds")

    def weigh(self, value: Any) -> int:
        """About the characters of a value, each part as often as it stands there; refused above MOST_OUTPUT."""
        if isinstance(value, str):
            weight = len(value) + 1
        elif not isinstance(value, (list, tuple, Mapping)):
            weight = 8
        elif id(value) in self.weights:
            return self.weights[id(value)][1]
        else:
            parts = [*value.keys(), *value.values()] if isinstance(value, Mapping) else value
            self.tick()
            weight = 2
            for part in parts:
                weight += self.weigh(part)
                check_size(weight)
            self.weights[id(value)] = value, weight
        check_size(weight)
        return weight

    def measured(self, value: Any) -> Any:
        self.weigh(value)
        return value

    def counted(self, items: Iterable[Any]) -> Iterator[Any]:
        """The items of a loop, a step for each."""
        for item in items:
            self.tick()
            yield item


def check_size(size: int) -> None:
    if size > MOST_OUTPUT:
        raise TemplateRefused(f"it makes a value of more than {MOST_OUTPUT:,} characters")


def check_binop(operator: str, left: Any, right: Any, meter: Meter) -> None:
    """Refuses an operation whose result would be large, before it is made."""
    numbers = isinstance(left, int) and isinstance(right, int)
    if operator == "**":
        if not isinstance(right, (int, float)) or abs(right) > 64:
            raise TemplateRefused(f"it raises a number to the power of {right!r:.20}")
        meter.weigh(left)
    elif operator == "*" and not numbers:
        for value, times in ((left, right), (right, left)):
            if isinstance(value, (str, list, tuple)) and isinstance(times, int):
                check_size(meter.weigh(value) * max(times, 0))
    elif operator == "%" and isinstance(left, str):
        if re.search(r"%[^a-zA-Z%]{0,40}(\d{4}|\*)", left):
            raise TemplateRefused("it formats a text to a great width")
        check_size(meter.weigh(left) + meter.weigh(right) * left.count("%"))
    elif operator == "+" and not numbers:
        check_size(meter.weigh(left) + meter.weigh(right))
    if isinstance(left, int) and isinstance(right, int) and max(left.bit_length(), right.bit_length()) > MOST_BITS:
        raise TemplateRefused(f"it makes a number of more than {MOST_BITS} bits")


def joined(separator: str, parts: list[Any], meter: Meter) -> str:
    check_size(sum(map(meter.weigh, parts)) + len(separator) * len(parts))
    return separator.join(map(str, parts))


def replaced(text: str, old: str, new: str, count: int = -1) -> str:
    times = (len(text) + 1 if not old else text.count(old)) if count < 0 else min(count, len(text) + 1)
    check_size(len(text) + times * max(len(new) - len(old), 0))
    return text.replace(old, new, count)


def to_json(
    value: Any, ensure_ascii: bool = False, indent: int | None = None, separators: Any = None, sort_keys: bool = False
) -> str:
    """As templates expect it: no HTML escapes."""
    if indent is not None and not 0 <= int(indent) <= 40:
        raise TemplateRefused(f"it indents by {indent!r:.20}")
    return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)


def raise_exception(message: Any) -> None:
    raise TemplateError(str(message))


class Generation(Extension):
    """{% generation %} … {% endgeneration %}: what the assistant says, between two marks."""

    tags = {"generation"}

    def parse(self, parser: Any) -> Any:
        line = next(parser.stream).lineno
        body = parser.parse_statements(("name:endgeneration",), drop_needle=True)
        begin, end = self.environment.generation_marks  # type: ignore[attr-defined]
        mark = lambda text: nodes.Output([nodes.TemplateData(text)], lineno=line)  # noqa: E731
        return [mark(begin), *body, mark(end)]


class Environment(ImmutableSandboxedEnvironment):
    intercepted_binops = frozenset(["+", "*", "**", "%"])

    def __init__(self, generation_marks: tuple[str, str]):
        self.meter, self.generation_marks = Meter(), generation_marks
        super().__init__(trim_blocks=True, lstrip_blocks=True, extensions=[loopcontrols, Generation], cache_size=0)
        self.concat = lambda parts: joined("", list(parts), self.meter)  # type: ignore[method-assign]
        self.finalize = self._finalize
        own = {"tojson": to_json, "join": self._join, "indent": self._indent, "sum": self._sum}
        own["replace"] = lambda text, old, new, count=-1: replaced(str(text), str(old), str(new), count)
        kept = {name: self.filters[name] for name in FILTERS} | own
        self.filters = {name: self._counting(function) for name, function in kept.items()}
        self.filters |= {"-loop": self._loop, "-measured": self.meter.measured, "-concat": self._concat}
        self.globals = {name: self.globals[name] for name in GLOBALS}
        now = lambda form: datetime.now().strftime(str(form)[:200])  # noqa: E731
        self.globals |= {"raise_exception": raise_exception, "strftime_now": now}

    # what a step is

    def _counting(self, function: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(function)
        def counted(*args: Any, **keywords: Any) -> Any:
            self.meter.tick()
            return function(*args, **keywords)

        return counted

    def _finalize(self, value: Any) -> Any:
        self.meter.tick()
        self.meter.weigh(value)
        return value

    def _loop(self, items: Any) -> Any:
        if isinstance(items, (str, Mapping, list, tuple)):
            self.meter.tick(len(items))
            return items
        return list(self.meter.counted(items)) if isinstance(items, Iterable) else items

    def _join(self, value: Any, d: Any = "", attribute: Any = None) -> str:
        parts = [self.getitem(item, attribute) for item in value] if attribute is not None else list(value)
        return joined(str(d), parts, self.meter)

    def _concat(self, value: Any) -> str:
        return joined("", value, self.meter)

    def _sum(self, value: Any, attribute: Any = None, start: Any = 0) -> Any:
        for item in value:
            item = item if attribute is None else self.getitem(item, attribute)
            start = self.call_binop(None, "+", start, item)
        return start

    def _indent(self, value: Any, width: Any = 4, first: bool = False, blank: bool = False) -> str:
        if isinstance(width, int) and not 0 <= width <= 200:
            raise TemplateRefused(f"it indents by {width}")
        lines, space = str(value).split("\n"), width if isinstance(width, str) else " " * width
        check_size(len(lines) * len(space) + len(str(value)))
        return "\n".join(space + line if (i or first) and (line or blank) else line for i, line in enumerate(lines))

    def call_binop(self, context: Any, operator: str, left: Any, right: Any) -> Any:
        self.meter.tick()
        check_binop(operator, left, right, self.meter)
        return super().call_binop(context, operator, left, right)

    def call(__self, __context: Any, __obj: Any, *args: Any, **keywords: Any) -> Any:  # noqa: N805
        __self.meter.tick()
        owner, name = getattr(__obj, "__self__", None), getattr(__obj, "__name__", "")
        if isinstance(owner, str) and name == "replace":
            return replaced(owner, *args, **keywords)
        if isinstance(owner, str) and name == "join":
            return joined(owner, list(*args), __self.meter)
        return super().call(__context, __obj, *args, **keywords)

    # what may be touched

    def is_safe_attribute(self, obj: Any, attr: str, value: Any) -> bool:
        for kind, names in METHODS.items():
            if isinstance(obj, kind):
                return attr in names
        if isinstance(obj, (bool, int, float, bytes, type)) or callable(obj) and not isinstance(obj, Macro):
            return attr.isidentifier() and type(obj).__module__ == "jinja2.runtime" and not attr.startswith("_")
        return super().is_safe_attribute(obj, attr, value)

    def is_safe_callable(self, obj: Any) -> bool:
        owner = getattr(obj, "__self__", None)
        if isinstance(owner, tuple(METHODS)):
            return super().is_safe_callable(obj)
        ours = any(obj is known for known in self.globals.values())
        return ours or type(obj).__module__.startswith("jinja2.") or type(owner).__module__.startswith("jinja2.")

    # what is read

    def _parse(self, source: str, name: Any, filename: Any) -> Any:
        tree = super()._parse(source, name, filename)
        for node in tree.find_all((nodes.Include, nodes.Import, nodes.FromImport, nodes.Extends)):
            raise TemplateRefused(f"line {node.lineno} reads another template")
        return guard(tree)


def guard(node: Any) -> Any:
    """Lets loops count their steps and what is built be measured."""
    for field, value in node.iter_fields():
        if isinstance(value, list):
            setattr(node, field, [guard(item) if isinstance(item, nodes.Node) else item for item in value])
        elif isinstance(value, nodes.Node):
            setattr(node, field, guard(value))
    through = lambda inner, name: nodes.Filter(inner, name, [], [], None, None, lineno=node.lineno)  # noqa: E731
    if isinstance(node, nodes.For):
        node.iter = through(node.iter, "-loop")
    elif isinstance(node, nodes.Concat):
        return through(nodes.List(node.nodes, lineno=node.lineno), "-concat")
    elif isinstance(node, (nodes.List, nodes.Dict)) or (isinstance(node, nodes.Tuple) and node.ctx == "load"):
        return node if is_constant(node) else through(node, "-measured")
    return node


def is_constant(node: Any) -> bool:
    parts = node.items
    return not any(True for _ in node.find_all((nodes.Name, nodes.Call, nodes.Filter))) and len(parts) < 1000


def render(template: str, what: str, marks: tuple[str, str], **values: Any) -> str:
    """The text that a template makes of values. marks: around what {% generation %} holds. what: for the error.

    Raises ValueError for a template that is damaged, raises an exception of its own, or oversteps a limit.
    """
    if len(template) > MOST_SOURCE:
        raise ValueError(f"{what} has {len(template):,} characters; at most {MOST_SOURCE:,} are read.")
    environment = Environment(marks)
    try:
        pieces, size = [], 0
        for piece in environment.from_string(template).generate(**values):
            environment.meter.tick()
            size += len(piece)
            check_size(size)
            pieces.append(piece)
        return "".join(pieces)
    except TemplateRefused as reason:
        raise ValueError(f"{what} is refused: {reason}.") from None
    except SecurityError as reason:
        raise ValueError(f"{what} is refused: {reason}") from None
    except TemplateSyntaxError as reason:
        raise ValueError(f"{what} cannot be read: {reason} (line {reason.lineno}).") from None
    except TemplateError as reason:
        raise ValueError(f"{what} says: {reason}") from None
    except RecursionError:
        raise ValueError(f"{what} is refused: it is nested too deeply.") from None
    except (TypeError, ValueError, ArithmeticError, LookupError, AttributeError, MemoryError, AssertionError) as reason:
        raise ValueError(f"{what} failed: {type(reason).__name__}: {reason!s:.200}") from None


def variables(template: str) -> set[str]:
    """The names that a template takes from outside; none for one that cannot be read, which render says."""
    try:
        return set(meta.find_undeclared_variables(Environment(("", "")).parse(template)))
    except (TemplateError, TemplateRefused, RecursionError):
        return set()
