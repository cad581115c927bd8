"""The figures of the notebooks, drawn as SVG from the values of a run.

    SVG(pipeline_figure(pipe, "A wonderful film."))    # from a text to its label, with the numbers between
    SVG(transformer_figure(model, inputs))             # a Transformer and its head, with the sizes of this one
    SVG(tokens_figure(text, tokenizer(text)))          # the characters that each token stands for

All bring a light background of their own, so that they can be read on a dark page too. All text in them is escaped,
and cut to the room that it has.
"""

import html
import unicodedata
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import torch

WIDTH = 760
PAPER, EDGE, INK, SOFT, WHITE = "#fbfcfe", "#d3dae6", "#1d2433", "#5a667b", "#ffffff"
BLUE, BLUE_TINT, BLUE_EDGE, ROSE, ROSE_TINT, ROSE_EDGE = (
    "#2f5fc4",
    "#e6eefc",
    "#bfd0f2",
    "#b13d6b",
    "#fae9f0",
    "#e7bccf",
)
RAIL = "#e9edf4"
SANS = "system-ui, -apple-system, 'Segoe UI', 'Helvetica Neue', Arial, 'DejaVu Sans', sans-serif"
MONO = "ui-monospace, 'SF Mono', Menlo, Consolas, 'DejaVu Sans Mono', monospace"


# ---- From a text to its label

LEFT, RIGHT = 136, WIDTH - 28
MOST_TOKENS, MOST_LABELS = 32, 4


def pipeline_figure(pipe: Any, words: str) -> str:
    """One text on its way through a text-classification pipeline: tokens and ids, logits, scores."""
    inputs = pipe.preprocess([words])
    outputs = pipe.forward(inputs)
    (answers,) = pipe.postprocess(outputs, top_k="all")
    ids, logits = inputs["input_ids"][0].tolist(), outputs.logits[0].tolist()
    names, scores = [a["label"] for a in answers], [a["score"] for a in answers]
    tokens, config = pipe.tokenizer.convert_ids_to_tokens(ids), pipe.model.config
    best = scores.index(max(scores))
    shown = sorted(sorted(range(len(scores)), key=lambda i: -scores[i])[:MOST_LABELS])
    most = max(map(abs, logits)) or 1.0
    size = f"{config.num_hidden_layers} layers, {pipe.model.num_parameters() / 1e6:.1f} million parameters"

    parts, y = [datum(38, "text")], 39.0
    for written in lines_of(f"“{words}”", 58, most=2):
        parts.append(text(LEFT, y, written, 16))
        y += 23
    y = step(parts, y - 10, 1, "Tokenizer", "text → tokens → ids", "pipe.preprocess")
    parts.append(datum(y + 16, "input_ids", inputs["input_ids"].shape))
    y = chips(parts, y, tokens, ids, set(pipe.tokenizer.all_special_ids))
    y = step(parts, y + 3, 2, "Model", f"ids → logits: {size}", "pipe.forward")
    parts.append(datum(y + 13, "logits", outputs.logits.shape))
    for i in shown:
        bar(parts, y, names[i], signed(logits[i], 3), logits[i] / most, i == best, middle=True)
        y += 23
    y = step(parts, y + 3, 3, "Post-processing", "logits → scores: softmax, names: id2label", "pipe.postprocess")
    parts.append(datum(y + 13, "scores", outputs.logits.shape))
    for i in shown:
        bar(parts, y, names[i], f"{scores[i]:.3f}", scores[i], i == best)
        y += 23
    if len(shown) < len(scores):
        parts.append(text(LEFT, y + 12, f"… and {len(scores) - len(shown):,} labels with lower scores", 12, fill=SOFT))
        y += 20
    return picture(parts, y + 18, f"From a text to the label {names[best]}, step by step")


def datum(y: float, name: str, shape: Sequence[int] | None = None) -> str:
    """What stands between two steps: its name and, below, its shape."""
    below = "" if shape is None else text(28, y + 17, shape_of(shape), 11.5, fill=SOFT, mono=True)
    return text(28, y, name, 13, bold=True) + below


def step(parts: list[str], y: float, place: int, name: str, what: str, method: str) -> float:
    """Draws one step with its arrows; returns where the datum that it makes begins."""
    parts.append(line((LEFT + 19, y), (LEFT + 19, y + 12)))
    parts.append(rect(LEFT, y + 12, RIGHT - LEFT, 34, BLUE_TINT, BLUE_EDGE, 9))
    parts.append(f'<circle cx="{LEFT + 19}" cy="{digits(y + 29)}" r="9.5" fill="{BLUE}"/>')
    parts.append(text(LEFT + 19, y + 33.4, str(place), 12.5, at="middle", fill=WHITE, bold=True))
    parts.append(text(LEFT + 38, y + 33.5, name, 13.5, bold=True))
    parts.append(text(LEFT + 172, y + 33.5, what, 12.5, fill=SOFT))
    parts.append(text(RIGHT - 12, y + 33.5, method, 11.5, at="end", fill=BLUE, mono=True))
    parts.append(arrow((LEFT + 19, y + 46), (LEFT + 19, y + 62)))
    return y + 70


def chips(parts: list[str], y: float, tokens: Sequence[str], ids: Sequence[int], special: set[int]) -> float:
    """Draws tokens above their ids, in as many rows as they need; returns the lower edge."""
    left_out = len(tokens) - MOST_TOKENS
    keep = (
        range(len(tokens)) if left_out <= 0 else [*range(MOST_TOKENS - 5), None, *range(len(tokens) - 4, len(tokens))]
    )
    x = float(LEFT)
    for i in keep:
        above, below = ("…", f"{left_out + 1:,} more") if i is None else (shorten(tokens[i], 18), str(ids[i]))
        width = max(7.3 * columns(above), 6.7 * columns(below)) + 13
        if x + width > RIGHT:
            x, y = float(LEFT), y + 42
        plain = i is not None and ids[i] not in special
        parts.append(rect(x, y, width, 36, BLUE_TINT if plain else WHITE, BLUE_EDGE if plain else EDGE, 7))
        parts.append(text(x + width / 2, y + 15.5, above, 12, at="middle", mono=True))
        parts.append(text(x + width / 2, y + 29.5, below, 11, at="middle", fill=SOFT, mono=True))
        x += width + 5
    return y + 36


def bar(parts: list[str], y: float, name: str, number: str, share: float, best: bool, middle: bool = False) -> None:
    """Draws one label with its number and a bar; middle: the bar starts in the middle and goes to either side."""
    x, width, high = LEFT + 118, RIGHT - LEFT - 118 - 70, 11
    color = BLUE if best else "#93a2bd"
    zero, full = (x + width / 2, width / 2) if middle else (x, width)
    length = max(full * min(abs(share), 1.0), 1.0)
    parts.append(text(LEFT, y + 13, shorten(name, 14), 12.5, bold=best))
    parts.append(rect(x, y + 3, width, high, RAIL, r=3))
    parts.append(rect(zero if share >= 0 else zero - length, y + 3, length, high, color, r=3))
    if middle:
        parts.append(line((zero, y), (zero, y + high + 6), color=INK, width=1))
    parts.append(text(RIGHT, y + 13, number, 12.5, at="end", bold=best, mono=True))


# ---- A Transformer and its head


def transformer_figure(model: Any, inputs: Mapping[str, torch.Tensor]) -> str:
    """A BertForSequenceClassification with its sizes, and the shapes of what goes through it for these inputs."""
    with torch.no_grad():
        outputs = model(**inputs, output_hidden_states=True)
    config, hidden, logits = model.config, outputs.hidden_states[-1], outputs.logits
    ids, C = inputs["input_ids"], config.hidden_size
    mask = inputs["attention_mask"] if "attention_mask" in inputs else torch.ones_like(ids)
    base, middle = model.base_model, 124
    parts = [
        text(24, 32, type(model).__name__, 15, bold=True),
        text(WIDTH - 24, 32, f"{count(model):,} parameters", 12.5, at="end", fill=SOFT),
    ]

    parts.append(rect(104, 50, 462, 168, BLUE_TINT, BLUE_EDGE, 12))
    parts.append(text(118, 70, f"{type(base).__name__}, the Transformer", 12.5, fill=BLUE, bold=True))
    parts.append(text(552, 70, f"{count(base):,} parameters", 11.5, at="end", fill=SOFT))
    parts.append(rect(576, 50, 76, 168, ROSE_TINT, ROSE_EDGE, 12))
    parts.append(text(614, 70, "head", 12.5, at="middle", fill=ROSE, bold=True))

    grid(parts, 24, middle, mask, 62)
    parts.append(below(55, 176, "input_ids", shape_of(ids.shape)))
    parts.append(arrow((89, middle), (118, middle)))
    sizes = {"words": config.vocab_size, "positions": config.max_position_embeddings, "types": config.type_vocab_size}
    box(parts, 118, 88, 98, 86, "embeddings")
    for i, (name, size) in enumerate(sizes.items()):
        y = 124 + 16 * i
        parts.append(text(126, y, name, 11, fill=SOFT) + text(209, y, f"{size:,}", 11, at="end", fill=SOFT, mono=True))
    parts.append(size_of(167, base.embeddings))
    parts.append(arrow((216, middle), (239, middle)))
    for offset in (12, 6):
        parts.append(rect(239 + offset, 88 - offset / 1.5, 96, 86, WHITE, BLUE_EDGE))
    box(parts, 239, 88, 96, 86, f"{config.num_hidden_layers} layers")
    for i, name in enumerate(("self-attention", "feed-forward")):
        parts.append(rect(247, 116 + 26 * i, 80, 20, RAIL, r=5))
        parts.append(text(287, 130 + 26 * i, name, 11, at="middle"))
    parts.append(size_of(287, base.encoder))
    parts.append(arrow((347, middle), (371, middle)))
    for offset in (8, 4):
        grid(parts, 375 + offset, middle - offset, mask, 62, "#cfdaf0")
    grid(parts, 375, middle, mask, 62)
    parts.append(below(408, 176, "hidden states", shape_of(hidden.shape)))
    parts.append(arrow((451, middle), (472, middle)))
    box(parts, 472, 88, 84, 86, "pooler")
    for i, words in enumerate(("first token", f"{C} → {C}", "tanh")):
        parts.append(text(514, 124 + 16 * i, words, 11, at="middle", fill=SOFT, mono=i == 1))
    parts.append(size_of(514, base.pooler))
    parts.append(arrow((556, middle), (584, middle), color=ROSE))
    box(parts, 584, 88, 60, 86, "linear", ROSE_EDGE)
    parts.append(text(614, 124, f"{C} → {config.num_labels}", 11, at="middle", fill=SOFT, mono=True))
    for i, name in enumerate([*config.id2label.values()][:2]):
        parts.append(text(614, 145 + 14 * i, shorten(name, 9), 9.5, at="middle", fill=SOFT, mono=True))
    parts.append(size_of(614, model.classifier))
    parts.append(arrow((644, middle), (666, middle), color=ROSE))
    numbers(parts, 668, middle, logits)
    parts.append(below(703, 176, "logits", shape_of(logits.shape)))
    return picture([*parts, *layer_strip(config)], 366, f"{type(model).__name__}: a Transformer and its head")


def layer_strip(config: Any) -> list[str]:
    """One layer from the inside, below the stack of them."""
    top, C, D = 252, config.hidden_size, config.hidden_size // config.num_attention_heads
    parts = [line((239, 178), (239, 218), (34, top), color="#9db7ea", width=1)]
    parts.append(line((335, 178), (335, 218), (WIDTH - 34, top), color="#9db7ea", width=1))
    parts.append(rect(24, top, WIDTH - 48, 92, WHITE, BLUE_EDGE, 12))
    parts.append(text(38, top + 22, "one layer", 12.5, fill=BLUE, bold=True))
    y = top + 56
    steps = (
        (138, 144, "self-attention", f"{config.num_attention_heads} heads of {D}"),
        (304, 84, "add", "LayerNorm"),
        (424, 148, "feed-forward", f"{C} → {config.intermediate_size:,} → {C}"),
        (594, 84, "add", "LayerNorm"),
    )
    parts.append(text(40, y + 4, "x", 13, mono=True))
    x = 54
    for i, (left, width, name, more) in enumerate(steps):
        adds, half = name == "add", left + width / 2
        parts.append(arrow((x, y), (left, y)))
        parts.append(rect(left, y - 20, width, 40, PAPER if adds else BLUE_TINT, EDGE if adds else BLUE_EDGE, 7))
        parts.append(text(half, y - 3, name, 12, at="middle", bold=not adds))
        parts.append(
            text(half, y + 13, more, 12 if adds else 11, at="middle", fill=INK if adds else SOFT, mono=not adds)
        )
        if adds:  # to what came out of the step before, what went into it
            fork = steps[i - 1][0] - 18
            parts.append(arrow((fork, y), (fork, y - 32), (half, y - 32), (half, y - 20)))
        x = left + width
    parts.append(arrow((x, y), (x + 24, y)) + text(x + 32, y + 4, "x", 13, mono=True))
    return parts


def box(parts: list[str], x: float, y: float, w: float, h: float, name: str, edge: str = BLUE_EDGE) -> None:
    parts.append(rect(x, y, w, h, WHITE, edge) + text(x + w / 2, y + 19, name, 12.5, at="middle", bold=True))


def below(x: float, y: float, name: str, more: str) -> str:
    return text(x, y, name, 12, at="middle", bold=True) + text(x, y + 17, more, 11, at="middle", fill=SOFT, mono=True)


def grid(parts: list[str], x: float, middle: float, mask: torch.Tensor, width: float, color: str = "#7f9bd8") -> None:
    """Draws a cell for each token of each input; padding is pale."""
    rows = [row[:20] for row in mask.tolist()[:6]]
    pitch = min(9.0, width / len(rows[0]))
    x, top = x + (width - pitch * len(rows[0])) / 2, middle - 1.8 * pitch * len(rows)
    parts.append(rect(x - 3, top - 3, pitch * len(rows[0]) + 5, 3.6 * pitch * len(rows) + 5, PAPER, r=3))
    for i, row in enumerate(rows):
        for j, real in enumerate(row):
            fill = color if real else RAIL
            parts.append(rect(x + j * pitch, top + 3.6 * i * pitch, pitch - 1, 3.6 * pitch - 2, fill, r=1))


def numbers(parts: list[str], x: float, middle: float, values: torch.Tensor) -> None:
    """Draws the first rows and columns of a matrix with its numbers."""
    rows = [row[:2] for row in values.tolist()[:4]]
    top = middle - 11 * len(rows)
    for i, row in enumerate(rows):
        for j, value in enumerate(row):
            fill = ROSE_TINT if value == max(row) else WHITE
            parts.append(rect(x + 36 * j, top + 22 * i, 34, 20, fill, ROSE_EDGE, 3))
            parts.append(text(x + 36 * j + 17, top + 22 * i + 13.8, signed(value, 2), 10.5, at="middle", mono=True))


def count(module: torch.nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


def size_of(x: float, module: torch.nn.Module) -> str:
    found = text(x, 191, f"{count(module):,}", 11, at="middle", fill=SOFT, mono=True)
    return found + text(x, 205, "parameters", 10.5, at="middle", fill=SOFT)


# ---- Tokens and their characters

MOST_SHOWN, MOST_TOGETHER = 48, 4
VISIBLE = {" ": "\N{OPEN BOX}", "\n": "\N{DOWNWARDS ARROW WITH CORNER LEFTWARDS}", "\t": "\N{RIGHTWARDS ARROW}"}


class Piece(NamedTuple):
    """Characters start:end of a text and the places of the tokens that stand for them; either may be missing."""

    text: int | None  # 1 for the second of a pair, None for the special tokens around them
    start: int
    end: int
    tokens: list[int]


def tokens_figure(words: str | tuple[str, str], encoding: Any) -> str:
    """A text (or a pair of them) above its tokens: offsets, characters, tokens, ids.

    encoding: what the tokenizer gave for it; of a batch, the first row. Tokens that stand for the same characters hang
    on one box. Characters that no token stands for have none, special tokens hang on nothing.
    """
    row, texts = encoding[0], (words,) if isinstance(words, str) else words
    parts = [text(28, y, name, 13, bold=True) for y, name in ((67, "characters"), (107, "tokens"))]
    parts += [text(28, y, name, 11.5, fill=SOFT) for y, name in ((41, "offsets"), (121, "ids"))]
    x, y, shown = float(LEFT), 30.0, 0
    for piece in pieces_of(texts, row):
        if shown + len(piece.tokens) > MOST_SHOWN:
            parts.append(text(LEFT, y + 124, f"… and {len(row.ids) - shown:,} more tokens", 12, fill=SOFT))
            y += 24
            break
        most = 22 if len(piece.tokens) < 2 else 14
        tokens = [(shorten(visible(row.tokens[i]), most), str(row.ids[i])) for i in piece.tokens]
        widths = [max(7.5 * columns(token), 6.9 * columns(number)) + 12 for token, number in tokens]
        above = "" if piece.text is None else visible(texts[piece.text][piece.start : piece.end])
        above = shorten(above, 30 if tokens else 12)
        offsets = f"{piece.start}–{piece.end}" if tokens and above else ""
        width = max(sum(widths) + 3 * len(widths) - 3, 9.4 * columns(above) + 6 * bool(tokens), 6.6 * len(offsets))
        if x > LEFT and x + width > RIGHT:
            x, y = float(LEFT), y + 118
        parts += hanging(x, y, piece.text, (offsets, above), tokens, widths, width)
        x, shown = x + width + 4, shown + len(tokens)
    return picture(parts, y + 118, "The characters that each token stands for")


def hanging(
    x: float,
    y: float,
    which: int | None,
    labels: tuple[str, str],
    tokens: Sequence[tuple[str, str]],
    widths: Sequence[float],
    width: float,
) -> list[str]:
    """Characters in their box, with their tokens below."""
    (offsets, above), middle = labels, x + width / 2
    tint, edge = ((BLUE_TINT, BLUE_EDGE), (ROSE_TINT, ROSE_EDGE))[which] if which is not None else (WHITE, EDGE)
    if not tokens:
        return [text(middle, y + 37, above, 15, at="middle", fill=SOFT, mono=True)]
    parts, left = [], x + (width - sum(widths) - 3 * len(widths) + 3) / 2
    for (token, number), wide in zip(tokens, widths, strict=True):
        center = left + wide / 2
        if above:
            parts.append(line((middle, y + 45), (center, y + 62), color=edge))
        parts.append(rect(left, y + 62, wide, 36, tint, edge, 7))
        parts.append(text(center, y + 77.5, token, 12, at="middle", mono=True))
        parts.append(text(center, y + 91.5, number, 11, at="middle", fill=SOFT, mono=True))
        left += wide + 3
    if above:
        parts.append(rect(x, y + 18, width, 27, WHITE, edge, 5))
        parts.append(text(middle, y + 37, above, 15, at="middle", mono=True))
        parts.append(text(middle, y + 11, offsets, 10.5, at="middle", fill=SOFT, mono=True))
    return parts


def pieces_of(texts: Sequence[str], row: Any) -> list[Piece]:
    """A text cut where its tokens begin and end."""
    found: list[Piece] = []
    ends, last = [0] * len(texts), [0] * len(texts)  # of each text: how far it is covered, where its last piece stands
    for i, (start, end) in enumerate(row.offsets):
        which = row.sequence_ids[i]
        if which is None or start == end:
            found.append(Piece(which, 0, 0, [i]))
            continue
        if start > ends[which]:
            found.append(Piece(which, ends[which], start, []))
        before = found[-1] if found else Piece(None, 0, 0, [])
        shared = before.text == which and start < before.end and len(before.tokens) < MOST_TOGETHER
        if shared:
            found[-1] = Piece(which, before.start, max(end, before.end), [*before.tokens, i])
        else:
            found.append(Piece(which, start, end, [i]))
        ends[which], last[which] = max(end, ends[which]), len(found)
    for which in reversed(range(len(texts))):
        if ends[which] < len(texts[which]):
            found.insert(last[which], Piece(which, ends[which], len(texts[which]), []))
    return found


def visible(words: str) -> str:
    return "".join(VISIBLE.get(c, c) for c in words)


# ---- Shapes and letters


def digits(x: float) -> str:
    return f"{x:.4g}"


def signed(x: float, places: int) -> str:
    return f"{x:.{places}f}".replace("-", "\N{MINUS SIGN}")


def shape_of(shape: Sequence[int]) -> str:
    return str(list(shape))


def columns(words: str) -> int:
    """The room that a text takes, in letters of a monospaced font."""
    return sum(2 if unicodedata.east_asian_width(c) in "WF" else 1 for c in words)


def shorten(words: str, most: int) -> str:
    """A text of at most so many columns; … stands for what was cut off."""
    words = "".join(c if c.isprintable() else " " for c in words)
    if columns(words) <= most:
        return words
    while columns(words) > most - 1:
        words = words[:-1]
    return f"{words.rstrip()}…"


def lines_of(words: str, width: int, most: int) -> list[str]:
    """A text in at most so many lines of so many columns."""
    words, lines = shorten(words, width * most).strip(), []
    while words and len(lines) < most:
        end = next((i for i in range(1, len(words)) if columns(words[: i + 1]) > width), len(words))
        end = words.rfind(" ", 1, end + 1) if end < len(words) and " " in words[1 : end + 1] else end
        lines.append(words[:end])
        words = words[end:].lstrip()
    return [*lines[:-1], shorten(f"{lines[-1]} {words}", width)] if words else lines


def rect(x: float, y: float, w: float, h: float, fill: str = "none", edge: str = "none", r: float = 8) -> str:
    place = f'x="{digits(x)}" y="{digits(y)}" width="{digits(w)}" height="{digits(h)}" rx="{digits(r)}"'
    return f'<rect {place} fill="{fill}" stroke="{edge}"/>'


def text(
    x: float,
    y: float,
    words: str,
    size: float,
    *,
    at: str = "start",
    fill: str = INK,
    bold: bool = False,
    mono: bool = False,
) -> str:
    look = f'font-size="{digits(size)}" fill="{fill}" text-anchor="{at}"'
    look += ' font-weight="600"' if bold else ""
    look += f' font-family="{MONO}"' if mono else ""
    return f'<text x="{digits(x)}" y="{digits(y)}" {look}>{html.escape(words)}</text>'


def line(*points: tuple[float, float], color: str = SOFT, width: float = 1.4) -> str:
    path = " ".join(f"{digits(x)},{digits(y)}" for x, y in points)
    return f'<polyline points="{path}" fill="none" stroke="{color}" stroke-width="{digits(width)}"/>'


def arrow(*points: tuple[float, float], color: str = SOFT) -> str:
    """A line through the points, with a head at the last; its last piece is horizontal or vertical."""
    (x0, y0), (x, y) = points[-2:]
    dx, dy = (x > x0) - (x < x0), (y > y0) - (y < y0)
    corners = ((x, y), (x - 7 * dx - 4 * dy, y - 7 * dy - 4 * dx), (x - 7 * dx + 4 * dy, y - 7 * dy + 4 * dx))
    head = " ".join(f"{digits(a)},{digits(b)}" for a, b in corners)
    return line(*points[:-1], (x - 6 * dx, y - 6 * dy), color=color) + f'<polygon points="{head}" fill="{color}"/>'


def picture(parts: Sequence[str], height: float, title: str) -> str:
    name, size = (
        html.escape(title),
        f'width="{WIDTH}" height="{digits(height)}" viewBox="0 0 {WIDTH} {digits(height)}"',
    )
    card = rect(0.5, 0.5, WIDTH - 1, height - 1, PAPER, EDGE, 12)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" {size} font-family="{SANS}" role="img" aria-label="{name}">\n'
        f"<title>{name}</title>\n{card}\n" + "\n".join(filter(None, parts)) + "\n</svg>\n"
    )
