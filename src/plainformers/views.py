"""Pages to look at: a trace as HTML, and attention_view, each self-contained: no network, no build step, no library.

What a page shows was in an input once, so all of it is escaped, and a page may load nothing (Content-Security-Policy).
"""

import base64
import functools
import html
import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

MOST_WEIGHTS = 2_000_000  # of one attention page, which is 5 MB then; of longer inputs the first tokens are shown
MOST_CHIPS, MOST_CELLS, MOST_BARS = 96, 64, 10  # tokens in a row, tokens in a strip, labels


@functools.cache
def _asset(name: str) -> str:
    """A style sheet or script that ships with the package; it goes into pages as it is."""
    return (Path(__file__).parent / "assets" / name).read_text(encoding="utf-8")


class Page:
    """A whole HTML document: save(path) writes it, a notebook shows it in a frame, str() is its source."""

    def __init__(self, title: str, body: str, css: str = "", script: str = ""):
        allowed = (
            "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; img-src data:; frame-src 'self'"
        )
        self.html = (
            f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>{html.escape(title)}</title>\n'
            f'<meta http-equiv="Content-Security-Policy" content="{allowed}">\n'
            '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
            f"<style>{_asset('page.css')}{css}</style></head>\n<body>\n{body}\n"
            + (f"<script>{script}</script>\n" if script else "")
            + "</body></html>\n"
        )

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
    parts = [f"<style>{_asset('trace.css')}</style>", *(_input(text) for text in trace.texts)]
    about = " · ".join(map(_text, (trace.task, *trace.model.values())))
    parts.append(f'<div class="pf-soft">{about}</div>')
    parts.append(_section(trace, 1, "Tokenizer", "text → ids", "preprocess", _tokenizer(trace)))
    parts.append(_section(trace, 2, "Model", "ids → hidden states → logits", "forward", _model(trace)))
    parts.append(_section(trace, 3, "Post-processing", "logits → answer", "postprocess", _answers(trace)))
    if "attentions" in trace.outputs:
        frames = (trace.attention_view(row).frame(620) for row in range(min(len(trace.tokens), 4)))
        parts.append(f"<section>{''.join(frames)}</section>")
    return f'<div class="pf">{"".join(parts)}</div>'


def _text(value: Any, most: int = 300) -> str:
    return html.escape(shorten(printable(shorten(str(value), 2 * most)), most))


def _input(text: str | tuple[str, ...]) -> str:
    parts = text if isinstance(text, tuple) else (text,)
    size = sum(map(len, parts))
    note = f' <span class="pf-soft">({size:,} characters)</span>' if size > 300 else ""
    quoted = " + ".join(f"“<bdi>{_text(part)}</bdi>”" for part in parts)
    return f'<div class="pf-input">{quoted}{note}</div>'


def _section(trace: Any, number: int, name: str, what: str, step: str, body: str) -> str:
    time = f"{trace.seconds[step] * 1e3:.2f} ms"
    head = f'<b>{number}</b>{name} <span class="pf-soft">{what}</span><span class="pf-soft pf-ms">{time}</span>'
    return f"<section><h4>{head}</h4>{body}</section>"


def _tokenizer(trace: Any) -> str:
    parts = []
    for row, tokens in enumerate(trace.tokens):
        chips = [_chip(i, token) for i, token in enumerate(tokens)]
        if len(chips) > MOST_CHIPS:
            left = len(chips) - MOST_CHIPS
            chips = [
                *chips[: MOST_CHIPS - 8],
                f'<span class="pf-soft">… {left:,} more …</span>',
                *chips[len(chips) - 8 :],
            ]
        cut = f", {trace.cut[row]:,} more were cut off" if trace.cut[row] else ""
        real = sum(token.mask for token in tokens)
        parts.append(f'<div class="pf-chips">{"".join(chips)}</div>')
        parts.append(f'<div class="pf-soft">{real:,} tokens{cut}</div>')
    shapes = (
        f"<code>{_text(name)} {list(column.shape)}</code>"
        for name, column in trace.inputs.items()
        if hasattr(column, "shape")
    )
    return "".join(parts) + f'<div class="pf-soft">{" &nbsp; ".join(shapes)}</div>'


def _chip(position: int, token: Any) -> str:
    kind = "pf-pad" if not token.mask else "pf-special" if token.special else "pf-second" if token.kind else ""
    where = f", characters {token.characters[0]} to {token.characters[1]}" if token.characters else ""
    title = f"position {position}, id {token.id}, mask {token.mask}, type {token.kind}{where}"
    name = _text(token.text, 40)
    return f'<span class="pf-chip {kind}" title="{title}"><bdi>{name}</bdi><span class="pf-n">{token.id}</span></span>'


def _model(trace: Any) -> str:
    rows = []
    for layer, x in enumerate(trace.hidden_states):
        name = f"layer {layer}" if layer else "embeddings"
        rows.append(
            f'<tr><td>{name}</td><td class="pf-n">{list(x.shape)}</td>'
            f'<td class="pf-n pf-right">{trace.spread(layer).mean:.2f}</td><td>{_strip(trace, layer)}</td></tr>'
        )
    heads = ("hidden states", "shape", "norm, mean", "norm of each token, from the layer's least to its most")
    head = f"<tr>{''.join(f'<th>{name}</th>' for name in heads)}</tr>"
    parts = [f'<div class="pf-wide"><table>{head}{"".join(rows)}</table></div>' if rows else ""]
    for name, value in trace.results.items():
        parts.append(
            f'<div><span class="pf-soft">{_text(name)}</span> <code>{list(value.shape)}</code>'
            f"{_named(trace, value)}</div>"
        )
    return "".join(parts)


def _strip(trace: Any, layer: int) -> str:
    """One shade for each token, from the layer's least norm to its most; one row for each input."""
    size, cells, spread = 9, [], trace.spread(layer)
    for row, (norms, tokens) in enumerate(zip(trace.norms[layer].tolist(), trace.tokens, strict=True)):
        for i, (norm, token) in enumerate(zip(norms[:MOST_CELLS], tokens[:MOST_CELLS], strict=True)):
            if token.mask:
                shade = 0.12 + 0.88 * (norm - spread.least) / (spread.most - spread.least or 1.0)
                place = f'x="{i * size}" y="{row * size}" width="{size - 1}" height="{size - 1}"'
                name = f"<title>{_text(token.text, 40)} {norm:.2f}</title>"
                cells.append(f'<rect class="pf-bar" {place} opacity="{shade:.2f}">{name}</rect>')
    width = min(len(trace.tokens[0]), MOST_CELLS) * size
    return f'<svg width="{width}" height="{len(trace.tokens) * size}" role="img">{"".join(cells)}</svg>'


def _named(trace: Any, value: torch.Tensor) -> str:
    """The numbers behind the names of the labels, where the output has one for each."""
    if value.dim() != 2 or value.shape[1] != len(trace.labels):
        return ""
    lines = []
    for numbers in value.float().tolist():
        pairs = zip(trace.labels[:MOST_BARS], numbers, strict=False)
        more = f" … {len(numbers) - MOST_BARS:,} more" if len(numbers) > MOST_BARS else ""
        lines.append(" &nbsp; ".join(f"{_text(label, 40)} <code>{number:.4f}</code>" for label, number in pairs) + more)
    return "".join(f"<div>{line}</div>" for line in lines)


def _answers(trace: Any) -> str:
    parts = []
    for row, answer in enumerate(trace.answers):
        if trace.scores is not None:
            table = _bars(trace.labels, trace.scores[row].float())
            parts.append(f'<div class="pf-wide"><table>{table}</table></div>')
        parts.append(f'<div class="pf-answer"><code class="pf-fold">{_text(answer, 400)}</code></div>')
    return "".join(parts)


def _bars(labels: Sequence[str], scores: torch.Tensor) -> str:
    rows, shape = [], 'height="10" rx="2"'
    for i in scores.topk(min(MOST_BARS, len(scores))).indices.tolist():
        score = float(scores[i])
        width = 320 * min(max(score, 0.0), 1.0)
        bar = f'<rect class="pf-rail" {shape} width="320"/><rect class="pf-bar" {shape} width="{width:.1f}"/>'
        rows.append(
            f'<tr><td>{_text(labels[i], 40)}</td><td class="pf-n">{score:.6f}</td>'
            f'<td><svg width="320" height="10">{bar}</svg></td></tr>'
        )
    left = len(scores) - MOST_BARS
    return "".join(rows) + (f'<tr><td class="pf-soft">… {left:,} more labels</td></tr>' if left > 0 else "")


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
    body = f"""<main>
<h1>Attention</h1>
<p><bdi>{_text(text)}</bdi> <span class="soft">{" · ".join(filter(None, about))}</span></p>
<div class="choice layers" role="group" aria-label="Layer"><span class="name">layer</span></div>
<div class="choice heads" role="group" aria-label="Head"><span class="name">head</span></div>
<div class="figures"><div><svg class="lines" role="img" aria-label="Which token looks at which"></svg></div>
<div><canvas class="map" role="img" aria-label="All weights of the head"></canvas><output></output></div></div>
<p class="soft">Left: the tokens that look; right: what they look at; the stronger the line, the larger the weight.
Point at a token for its weights, click to keep it. The map has a row for each token that looks; its shade is the
square root of the weight.</p>
</main>
<script type="application/json" id="data">{json.dumps(data).replace("<", chr(92) + "u003c")}</script>"""
    return Page("Attention", body, _asset("attention.css"), _asset("attention.js"))
