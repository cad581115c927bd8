"""Pages to look at: a trace as HTML, and attention_view, each self-contained: no network, no build step, no library.

What a page shows was in an input once, so all of it is escaped, and a page may load nothing (Content-Security-Policy).
"""

import base64
import functools
import html
import json
import os
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch

MOST_WEIGHTS = 2_000_000  # of one attention page, which is 5 MB then; of longer inputs the first tokens are shown
MOST_CHIPS, MOST_CELLS, MOST_BARS = 96, 64, 10  # tokens in a row, tokens in a strip, labels


@functools.cache
def _asset(name: str) -> str:
    """The text of a file that ships with the package."""
    return (Path(__file__).parent / "assets" / name).read_text(encoding="utf-8")


@functools.cache
def template(name: str, *, escaped: bool = True, folded: bool = False, **filters: Callable[..., Any]) -> Any:
    """A text of assets/ with places for values, which escaped makes harmless in HTML.

    folded: without line ends and indentation. filters: more than `text` (see _text), `count` (1,234) and `json`.
    """
    from jinja2 import Environment, StrictUndefined  # which torch rests on, too
    from markupsafe import Markup

    source = re.sub(r"\n\s*", "", _asset(name)) if folded else _asset(name)
    options: dict[str, Any] = {"trim_blocks": True, "lstrip_blocks": True, "keep_trailing_newline": True}
    environment = Environment(autoescape=escaped, undefined=StrictUndefined, **options)
    environment.filters |= {"text": lambda *given: Markup(_text(*given)), "count": "{:,}".format, **filters}
    environment.filters["json"] = functools.partial(json.dumps, ensure_ascii=False)
    return environment.from_string(source)


class Page:
    """A whole HTML document: save(path) writes it, a notebook shows it in a frame, str() is its source."""

    def __init__(self, title: str, body: str, css: str = "", script: str = ""):
        style = _asset("page.css") + css
        self.html = template("page.html").render(title=title, style=style, body=body, script=script)

    def __str__(self) -> str:
        return self.html

    def __repr__(self) -> str:
        return f"<Page of {len(self.html):,} characters: save(path) writes it>"

    def _repr_html_(self) -> str:
        return self.frame()

    def frame(self, height: int = 640) -> str:
        """The page inside another one, which its style and script cannot touch."""
        style = f"width:100%;height:{height}px;border:0"
        return f'<iframe sandbox="allow-scripts" style="{style}" srcdoc="{html.escape(self.html)}"></iframe>'

    def save(self, path: str | os.PathLike[str]) -> Path:
        """Writes the document; UTF-8."""
        path = Path(path)
        path.write_text(self.html, encoding="utf-8")
        return path


def shorten(text: str, most: int) -> str:
    """A text of at most so many characters: of a longer one the beginning and, behind …, a bit of the end."""
    if len(text) <= most:
        return text
    end = most // 5
    return f"{text[: most - end - 1]}…{text[len(text) - end :]}"


def printable(text: str) -> str:
    """Without characters that move the cursor, colour the terminal or turn the line around: these are spelt out."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


# ---- A trace


def trace_fragment(trace: Any) -> str:
    """A trace as HTML that can stand in any page: its style touches nothing else."""
    several = "attentions" in trace.outputs
    return template("trace.html", folded=True).render(
        trace=trace,
        style=_asset("trace.css"),
        inputs=[text if isinstance(text, tuple) else (text,) for text in trace.texts],
        shapes={name: list(x.shape) for name, x in trace.inputs.items() if hasattr(x, "shape")},
        frames=[trace.attention_view(row).frame(620) for row in range(min(len(trace.tokens), 4)) if several],
        most_chips=MOST_CHIPS,
        most_cells=MOST_CELLS,
        most_bars=MOST_BARS,
    )


def _text(value: Any, most: int = 300) -> str:
    return html.escape(shorten(printable(shorten(str(value), 2 * most)), most))


# ---- Attention


def _name(token: Any) -> str:
    return shorten(printable(shorten(str(token), 100)), 24)


def attention_view(
    attentions: Any, tokens: Sequence[str], key_tokens: Sequence[str] | None = None, *, row: int = 0, title: Any = ""
) -> Page:
    """One page in which layer and head are chosen and any token's attention is read.

    attentions: what a model called with output_attentions=True returned, or its attentions: for each layer a tensor
    [B, H, Q, K] (or [H, Q, K]) of probabilities. tokens: the Q tokens that look, as texts (tokenizer.
    convert_ids_to_tokens(ids)); key_tokens: the K that are looked at, when they are others (cross-attention). row:
    which input of the batch. Of long inputs the first tokens are shown; the page says so.
    Raises ValueError where shapes and tokens do not fit.
    """
    found = getattr(attentions, "attentions", None) if not isinstance(attentions, (list, tuple)) else attentions
    if not found:
        raise ValueError(
            "There are no attentions: call the model with output_attentions=True and give what it returns."
        )
    layers = [torch.as_tensor(layer).detach() for layer in found]
    layers = [layer[row] if layer.dim() == 4 else layer for layer in layers]  # [H, Q, K]
    keys = list(tokens if key_tokens is None else key_tokens)
    queries = list(tokens)
    for number, layer in enumerate(layers):
        if layer.dim() != 3 or layer.shape[1:] != (len(queries), len(keys)):
            raise ValueError(
                f"Layer {number} has attentions of shape {list(found[number].shape)}; {len(queries)} tokens that look "
                f"at {len(keys)} ask for [B, H, {len(queries)}, {len(keys)}]."
            )
    heads = {layer.shape[0] for layer in layers}
    if len(heads) != 1:
        raise ValueError(f"All layers must have the same number of heads, got {sorted(heads)}.")
    (H,) = heads
    side = max(1, int((MOST_WEIGHTS / (len(layers) * H)) ** 0.5))
    Q, K = min(side, len(queries)), min(side, len(keys))
    weights = torch.stack([layer[:, :Q, :K].float().cpu() for layer in layers])
    numbers = (weights.clamp(0, 1) * 65535).round().to(torch.int32).to(torch.uint16)  # read as little-endian
    cut = f"the first {Q} of {len(queries)} tokens are shown" if len(queries) > Q or len(keys) > K else ""
    data = {
        "layers": len(layers),
        "heads": H,
        "queries": [_name(token) for token in queries[:Q]],
        "keys": [_name(token) for token in keys[:K]],
        "weights": base64.b64encode(numbers.numpy().astype("<u2").tobytes()).decode(),
    }
    text = " + ".join(title) if isinstance(title, tuple) else str(title)
    about = [f"{len(layers)} layers of {H} heads, {len(queries)} tokens", cut]
    # no "<" in the data, so that nothing in it can end the script
    inert = json.dumps(data).replace("<", chr(92) + "u003c")
    body = template("attention.html").render(title=text, about=" · ".join(filter(None, about)), data=inert)
    return Page("Attention", body, _asset("attention.css"), _asset("attention.js"))
