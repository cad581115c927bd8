"""Looking inside: every step of a pipeline with its numbers (Trace), any module's output by its name (watch).

    print(pipe.trace("A wonderful film."))            # text; in a notebook the last value of a cell is shown as HTML
    with pipe.watch("encoder.layer.*.output") as seen:
        pipe("A wonderful film.")
    seen["encoder.layer.3.output"]                    # [B, T, C]

Shapes: B inputs, T tokens, C hidden size, H heads, N labels, L layers.
"""

import re
import unicodedata
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from .arguments import forward_names
from .encoding import BatchEncoding
from .outputs import ModelOutput
from .views import Page, attention_view, printable, shorten, trace_fragment

MOST_INPUTS = 32  # of one trace: it is for looking, and shows all of them
MOST_TOKENS = 48  # of one input in a text
MOST_LABELS = 10
WIDTH = 100  # columns of a text


@dataclass(frozen=True)
class Token:
    """One token of an input, as the tokenizer made it and the model reads it."""

    text: str
    id: int
    mask: int  # 1: real, 0: padding
    kind: int  # the token type; 1: of the second text of a pair
    special: bool  # added by the tokenizer
    characters: tuple[int, int] | None  # where it stands in the text; None: nowhere


class Spread(NamedTuple):
    least: float
    mean: float
    most: float


@dataclass(eq=False)
class Trace:
    """What happened to one input, or to a few in one batch, step by step. Made by `pipe.trace`.

    str() and print give it as text, `_repr_html_` for notebooks, save(path) as a page of its own. The texts and tables
    are bounded, whatever the input; the tensors are whole.
    """

    task: str
    model: dict[str, str]  # what it is: name, class, parameters, dtype, device
    given: list[Any]  # the inputs as they came
    texts: list[str | tuple[str, ...]]  # what the tokenizer read of each
    tokens: list[list[Token]]  # per input
    cut: list[int]  # per input: tokens that the tokenizer left out at the end, 0 for none
    inputs: Mapping[str, Any]  # what the model was called with, [B, T] each
    outputs: ModelOutput
    labels: list[str]  # of the model, [N]
    scores: Tensor | None  # [B, N], the probabilities; None for tasks without them
    answers: list[Any]  # what the pipeline answers, one for each input
    seconds: dict[str, float] = field(default_factory=dict)  # of each step

    @property
    def hidden_states(self) -> tuple[Tensor, ...]:
        """L + 1 tensors [B, T, C]: the embeddings, then the output of every layer."""
        return self.outputs.get("hidden_states", ())

    @property
    def attentions(self) -> tuple[Tensor, ...]:
        """L tensors [B, H, T, T]; ValueError when they were not asked for."""
        found = self.outputs.get("attentions")
        if found is None:
            raise ValueError("This trace has no attentions: ask for them with pipe.trace(text, attention=True).")
        return found

    @property
    def logits(self) -> Tensor | None:
        return self.outputs.get("logits")

    @cached_property
    def norms(self) -> list[Tensor]:
        """L + 1 tensors [B, T]: the length of each token's hidden state, in float32."""
        return [x.float().norm(dim=-1).cpu() for x in self.hidden_states]

    @cached_property
    def mask(self) -> Tensor:
        """[B, T] bool: which tokens are real."""
        return torch.tensor([[bool(token.mask) for token in row] for row in self.tokens])

    def spread(self, layer: int) -> Spread:
        """The norms of a layer's hidden states over all real tokens; layer 0: the embeddings."""
        real = self.norms[layer][self.mask]
        return Spread(float(real.min()), float(real.mean()), float(real.max()))

    @property
    def results(self) -> dict[str, Tensor]:
        """The model's outputs that are no hidden states: logits, and what else the head makes."""
        return {
            name: value
            for name, value in self.outputs.items()
            if isinstance(value, Tensor) and name not in ("loss", "last_hidden_state")
        }

    def attended(self, layer: int, row: int = 0, most: int = 3) -> list[tuple[str, float]]:
        """The tokens that a layer looks at most, with the share of all its attention, over heads and real tokens."""
        tokens, real = self.tokens[row], self.mask[row]
        shares = self.attentions[layer][row].float().mean(0).cpu()[real].mean(0)  # [K]
        best = shares.topk(min(most, int(real.sum()))).indices.tolist()
        return [(tokens[i].text, float(shares[i])) for i in best]

    def attention_view(self, row: int = 0) -> Page:
        """The attentions of one input as a page in which layer and head are chosen."""
        if not -len(self.tokens) <= row < len(self.tokens):
            raise IndexError(f"row {row} is not there: this trace has {len(self.tokens)} inputs.")
        real = [i for i, token in enumerate(self.tokens[row]) if token.mask]
        attentions = [layer[row, :, real[0] : real[-1] + 1, real[0] : real[-1] + 1] for layer in self.attentions]
        return attention_view(attentions, [self.tokens[row][i].text for i in real], title=self.texts[row])

    # ---- As text, and as HTML

    def __repr__(self) -> str:
        return str(self)

    def __str__(self) -> str:
        lines = [f"{self.task}: " + ", ".join(self.model.values())]
        for row, text in enumerate(self.texts):
            lines += [self._heading("input", row), *(f"  {part}" for part in _quoted(text))]
        lines += self._step(1, "tokenizer", "text -> ids", "preprocess")
        for row in range(len(self.tokens)):
            lines += [*self._heading_if_several(row), *self._token_lines(row)]
        lines += self._step(2, "model", "ids -> hidden states -> logits", "forward")
        lines += self._layer_lines()
        for name, value in self.results.items():
            lines += self._result_lines(name, value)
        if "attentions" in self.outputs:
            lines += self._attention_lines()
        lines += self._step(3, "post-processing", "logits -> answer", "postprocess")
        for row, answer in enumerate(self.answers):
            lines += [
                *self._heading_if_several(row),
                *self._score_lines(row),
                f"  answer  {shorten(printable(str(answer)), 400)}",
            ]
        return "\n".join(line.rstrip() for line in lines)

    def _repr_html_(self) -> str:
        return trace_fragment(self)

    def page(self) -> Page:
        """The trace as a page of its own, which needs no network."""
        return Page(f"Trace of {self.task}", trace_fragment(self))

    def save(self, path: str | Path) -> Path:
        """Writes page() to an HTML file."""
        return self.page().save(path)

    def _heading(self, what: str, row: int) -> str:
        return what if len(self.texts) == 1 else f"{what} {row}"

    def _heading_if_several(self, row: int) -> list[str]:
        return [f"  input {row}"] if len(self.texts) > 1 else []

    def _step(self, number: int, name: str, what: str, step: str) -> list[str]:
        head = f"{number}. {name}: {what}"
        return ["", f"{head:<{WIDTH - 12}}{self.seconds[step] * 1e3:9.2f} ms"]

    def _token_lines(self, row: int) -> list[str]:
        tokens = self.tokens[row]
        real = sum(token.mask for token in tokens)
        note = f" ({len(tokens) - real} more are padding)" if real < len(tokens) else ""
        note += f" (cut: {self.cut[row]:,} more were left out)" if self.cut[row] else ""
        lines = [f"  {real:,} tokens{note}"]
        rows = {"token": [_cell(t.text) for t in tokens], "id": [str(t.id) for t in tokens]}
        rows["mask"] = [str(t.mask) for t in tokens]
        if any(t.kind for t in tokens):
            rows["type"] = [str(t.kind) for t in tokens]
        if len(tokens) > MOST_TOKENS:
            first, last = MOST_TOKENS - 8, 7
            rows = {k: [*v[:first], "…" if k == "token" else "", *v[-last:]] for k, v in rows.items()}
        return lines + _columns(rows)

    def _layer_lines(self) -> list[str]:
        if not self.hidden_states:
            return ["  (the model gives no hidden states)"]
        lines = [f"  {'hidden states':<16}{'shape':<20}{'norm of a token: least':>24}{'mean':>10}{'most':>10}"]
        for layer, x in enumerate(self.hidden_states):
            least, mean, most = self.spread(layer)
            name = f"layer {layer}" if layer else "embeddings"
            lines.append(f"  {name:<16}{list(x.shape)!s:<20}{least:24.2f}{mean:10.2f}{most:10.2f}")
        return lines

    def _result_lines(self, name: str, value: Tensor) -> list[str]:
        lines = [f"  {name:<16}{list(value.shape)!s:<20}"]
        if value.dim() == 2 and value.shape[1] == len(self.labels):
            for row, numbers in enumerate(value.float().tolist()):
                named = [f"{_cell(k)} {v:.4f}" for k, v in zip(self.labels, numbers, strict=True)]
                more = f"  … {len(named) - MOST_LABELS} more" if len(named) > MOST_LABELS else ""
                head = f"input {row}" if len(self.texts) > 1 else ""
                lines.append(f"  {head:<16}{'   '.join(named[:MOST_LABELS])}{more}")
        return lines

    def _attention_lines(self) -> list[str]:
        lines = []
        for layer, weights in enumerate(self.attentions):
            for row in range(len(self.tokens)):
                found = ", ".join(f"{_cell(token)} {share:.2f}" for token, share in self.attended(layer, row))
                name = f"attention {layer + 1}" if row == 0 else ""
                shape = str(list(weights.shape)) if row == 0 else ""
                lines.append(f"  {name:<16}{shape:<20}looks most at {found}")
        return lines

    def _score_lines(self, row: int) -> list[str]:
        if self.scores is None:
            return []
        lines = []
        scores = self.scores[row].float()
        for i in scores.topk(min(MOST_LABELS, len(scores))).indices.tolist():
            bar = "█" * round(40 * min(max(float(scores[i]), 0.0), 1.0))
            lines.append(f"  {_pad(_cell(self.labels[i]), 16)}{float(scores[i]):<10.6f}{bar}")
        more = len(scores) - MOST_LABELS
        return [*lines, f"  … {more} more labels"] if more > 0 else lines


def trace(pipe: Any, inputs: Any, *, attention: bool = False, **arguments: Any) -> Trace:
    """See Pipeline.trace."""
    several = isinstance(inputs, (list, tuple))
    items = list(inputs) if several else [inputs]
    if not 1 <= len(items) <= MOST_INPUTS:
        raise ValueError(f"trace looks at 1 to {MOST_INPUTS} inputs, got {len(items)}. Give it a few of them.")
    texts = [pipe.read(item, number if several else None) for number, item in enumerate(items)]
    before, after = pipe.steps_of(pipe.defaults | pipe.checked(arguments))
    seconds, model = {}, pipe.model
    names, others = forward_names(type(model).forward)
    asked = {"output_hidden_states": True} | ({"output_attentions": True} if attention else {})
    asked = {name: value for name, value in asked.items() if others or name in names}
    with _timed(pipe.device, "preprocess", seconds):
        encoded = pipe.preprocess(items, **before)
    with _timed(pipe.device, "forward", seconds):
        outputs = pipe.forward({**encoded, **asked})
    with _timed(pipe.device, "postprocess", seconds):
        answers = pipe.postprocess(outputs, encoded, **after)
    ids = encoded[model.main_input_name]
    about = {
        "name": shorten(model.name_or_path or "a model made in code", 100),
        "class": type(model).__name__,
        "parameters": f"{model.num_parameters():,} parameters",
        "dtype": str(model.dtype).removeprefix("torch."),
        "device": str(pipe.device),
    }
    return Trace(
        task=pipe.task,
        model=about,
        given=items,
        texts=[text if isinstance(text, tuple) else str(text) for text in texts],
        tokens=[_tokens(encoded, ids, row, pipe.tokenizer) for row in range(len(ids))],
        cut=[_cut(encoded, row) for row in range(len(ids))],
        inputs=encoded,
        outputs=outputs,
        labels=list(model.config.id2label.values()),
        scores=pipe.scores(outputs, **{k: v for k, v in after.items() if k in pipe.keywords_of("scores")}),
        answers=answers,
        seconds=seconds,
    )


@contextmanager
def _timed(device: torch.device, step: str, seconds: dict[str, float]) -> Iterator[None]:
    from time import perf_counter

    begin = perf_counter()
    yield
    if device.type != "cpu":
        torch.accelerator.synchronize(device)
    seconds[step] = perf_counter() - begin


def _tokens(encoded: BatchEncoding, ids: Tensor, row: int, tokenizer: Any) -> list[Token]:
    numbers = ids[row].tolist()
    texts = tokenizer.convert_ids_to_tokens(numbers)
    columns = {name: encoded[name][row].tolist() for name in ("attention_mask", "token_type_ids") if name in encoded}
    mask = columns.get("attention_mask", [1] * len(numbers))
    kinds = columns.get("token_type_ids", [0] * len(numbers))
    encoding = (encoded.encodings or {row: None})[row]
    special = set(tokenizer.all_special_ids)
    # padding made after the tokenizer is in no encoding; then positions in the text are not known
    spans: list[Any] = [None] * len(numbers)
    added = [int(number in special) for number in numbers]
    if encoding is not None and len(encoding) == len(numbers):
        spans, added = encoding.offsets, encoding.special_tokens_mask
    return [
        Token(str(text), number, m, kind, bool(s), None if s or not span else tuple(span))
        for text, number, m, kind, s, span in zip(texts, numbers, mask, kinds, added, spans, strict=True)
    ]


def _cut(encoded: BatchEncoding, row: int) -> int:
    encoding = (encoded.encodings or {row: None})[row]
    return sum(part.special_tokens_mask.count(0) for part in encoding.overflowing) if encoding is not None else 0


# ---- Text that is safe to print, whatever stood in the input


def _cell(text: str) -> str:
    text = shorten(printable(shorten(text, 100)), 24)
    right_to_left = any(unicodedata.bidirectional(c) in ("R", "AL") for c in text)
    return f"\u2068{text}\u2069" if right_to_left else text


def _columns_of(text: str) -> int:
    """Columns that a terminal takes for a text."""
    zero = ("Mn", "Me", "Cf")
    return sum(
        0 if unicodedata.category(c) in zero else 2 if unicodedata.east_asian_width(c) in "WF" else 1 for c in text
    )


def _pad(text: str, columns: int) -> str:
    return text + " " * max(1, columns - _columns_of(text))


def _quoted(text: str | tuple[str, ...]) -> list[str]:
    parts = text if isinstance(text, tuple) else (text,)
    sizes = (f"  ({len(part):,} characters)" if len(part) > 200 else "" for part in parts)
    return [f'"{shorten(printable(shorten(part, 200)), 240)}"{size}' for part, size in zip(parts, sizes, strict=True)]


def _columns(rows: dict[str, list[str]]) -> list[str]:
    """Rows of cells below each other, folded into as many blocks as the width asks for."""
    widths = [max(map(_columns_of, cells)) for cells in zip(*rows.values(), strict=True)]
    lines, start = [], 0
    while start < len(widths):
        end, used = start, 8
        while end < len(widths) and (end == start or used + widths[end] + 2 <= WIDTH):
            used += widths[end] + 2
            end += 1
        for name, cells in rows.items():
            lines.append(f"  {name:<6}" + "".join(_pad(cells[i], widths[i] + 2) for i in range(start, end)))
        start = end
    return lines


# ---- Any module's output


class Seen(dict[str, Any]):
    def __missing__(self, name: str) -> Any:
        raise KeyError(f"Nothing was seen of {name!r}: its module was not called, or it is not among those watched.")


@contextmanager
def watch(model: nn.Module, *names: str, every: bool = False) -> Iterator[dict[str, Any]]:
    """Reads the outputs of modules by their names: plain forward hooks, which are gone after the block.

    names: as named_modules says them; the prefix of the base model ("bert.") may be left out, and `*` stands for one
    part of a name ("encoder.layer.*.output"). Gives a dictionary, name -> what the module returned when it was last
    called; every=True: a list of what it returned at each call. Raises ValueError for a name that is none.
    """
    from .aliases import did_you_mean

    modules = dict(model.named_modules())
    prefix = getattr(model, "base_model_prefix", "")
    found: dict[str, nn.Module] = {}
    for name in names:
        wanted = re.escape(name).replace(r"\*", r"[^.]+")
        pattern = re.compile(rf"(?:{re.escape(prefix)}\.)?({wanted})")
        matched = {place: match[1] for place in modules if place and (match := pattern.fullmatch(place))}
        if not matched:
            known = [place for place in modules if place]
            known += [place.removeprefix(f"{prefix}.") for place in known]
            raise ValueError(
                f"{type(model).__name__} has no module {name!r}.{did_you_mean(name, known)} "
                "`for name, _ in model.named_modules()` lists them."
            )
        found |= {short: modules[place] for place, short in matched.items()}
    seen = Seen()

    def hook_for(name: str) -> Any:
        def hook(module: nn.Module, args: Any, output: Any) -> None:
            if every:
                seen.setdefault(name, []).append(output)
            else:
                seen[name] = output

        return hook

    handles = [module.register_forward_hook(hook_for(name)) for name, module in found.items()]
    try:
        yield seen
    finally:
        for handle in handles:
            handle.remove()
