"""SentencePiece: reads a .model file and makes of it a tokenizer of the `tokenizers` library that gives the same ids.

The file is a protobuf message (https://github.com/google/sentencepiece, src/sentencepiece_model.proto). What the
tokenizer classes built on it add, extra tokens, their order and frame, and how text is cleaned, stands as data in
families.py: the options of a Family, which `convert_sentencepiece` explains.
"""

import json
import math
import re
import sys
import unicodedata
from array import array
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from tokenizers import (
    AddedToken,
    Regex,
    Tokenizer as Backend,
    decoders,
    models,
    normalizers,
    pre_tokenizers,
    processors,
)

from .families import Family, Original

NORMAL, UNKNOWN, CONTROL, USER_DEFINED, UNUSED, BYTE = range(1, 7)
UNIGRAM, BPE, CHAR = 1, 2, 4
SPACE = "▁"
PLAIN = Original(Family())
# field numbers of the messages, as far as they are read
PIECE = {1: ("piece", str), 2: ("score", float), 3: ("type", int)}
TRAINER = {3: ("model_type", int), 24: ("treat_whitespace_as_suffix", bool), 35: ("byte_fallback", bool)}
NORMALIZER = {2: ("charsmap", str), 5: ("escape_whitespaces", bool)}
NORMALIZER |= {3: ("add_dummy_prefix", bool), 4: ("remove_extra_whitespaces", bool)}


class SentencePieceModel(NamedTuple):
    """What a .model file says, as far as it decides about ids. Lists are in the order of the ids."""

    pieces: list[str]
    scores: Sequence[float]
    types: Mapping[int, int]  # of the pieces that are not NORMAL
    model_type: int = UNIGRAM
    byte_fallback: bool = False
    charsmap: bytes = b""
    add_dummy_prefix: bool = True
    remove_extra_whitespaces: bool = True
    where: str = "the model"  # how errors call it

    @property
    def unk_id(self) -> int:
        return self.of_type(UNKNOWN)[0]

    def of_type(self, *kinds: int) -> list[int]:
        return [index for index, kind in self.types.items() if kind in kinds]


# ---- Reading


def _varint(data: bytes, at: int, end: int) -> tuple[int, int]:
    """The number, and where it ends."""
    value = 0
    for shift in range(0, 70, 7):
        if at >= end:
            raise ValueError("it ends within a number")
        value |= (data[at] & 0x7F) << shift
        at += 1
        if data[at - 1] < 0x80:
            return value, at
    raise ValueError(f"the number at byte {at - 10} has more than 10 bytes")


def _fields(data: bytes, at: int, end: int) -> Iterator[tuple[int, Any]]:
    """(field, value) of a message: an int (varint), bytes (4 or 8 of them) or a range of positions (a string)."""
    while at < end:
        key, at = _varint(data, at, end)
        field, wire = key >> 3, key & 7
        if wire == 0:
            value, at = _varint(data, at, end)
            yield field, value
            continue
        if wire not in (1, 2, 5) or not field:
            raise ValueError(f"no field starts before byte {at} (number {field}, wire type {wire})")
        size, at = _varint(data, at, end) if wire == 2 else (8 if wire == 1 else 4, at)
        if size > end - at:
            raise ValueError(f"field {field} at byte {at} has {size} bytes, of which {end - at} are there")
        yield field, range(at, at + size) if wire == 2 else data[at : at + size]
        at += size


def _message(data: bytes, span: range, fields: Mapping[int, tuple[str, type]]) -> dict[str, Any]:
    """The fields that are asked for: number -> (name, type); a str stays bytes, and a float 4 of them."""
    found: dict[str, Any] = {}
    for field, value in _fields(data, span.start, span.stop):
        if field in fields:
            name, kind = fields[field]
            if not isinstance(value, {str: range, float: bytes}.get(kind, int)) or (kind is float and len(value) != 4):
                raise ValueError(f"{name} is of another type")
            found[name] = data[value.start : value.stop] if kind is str else bool(value) if kind is bool else value
    return found


def _parse(data: bytes) -> tuple[list[bytes], bytes, dict[int, int], dict[str, Any]]:
    """Texts, scores (4 bytes each), types that are not NORMAL, settings."""
    texts: list[bytes] = []
    scores: list[bytes] = []
    types: dict[int, int] = {}
    found: dict[str, Any] = {}
    at, most = 0, len(data) - 137  # so that what is looked at below is there
    while at < most:
        # nearly all of a file are pieces written as: text, score, perhaps type; short ones, so sizes take one byte
        size, length = data[at + 1], data[at + 3]
        score, rest = at + 4 + length, size - length
        typed = rest == 9 and data[score + 5] == 24 and data[score + 6] < 128
        usual = data[at] == 10 and size < 128 and data[at + 2] == 10 and data[score] == 21
        if not usual or not (typed or rest == 7):
            break
        if typed and data[score + 6] != NORMAL:
            types[len(texts)] = data[score + 6]
        texts.append(data[at + 4 : score])
        scores.append(data[score + 1 : score + 5])
        at += size + 2
    for field, value in _fields(data, at, len(data)):
        if field not in (1, 2, 3):
            continue
        if not isinstance(value, range):
            raise ValueError(f"field {field} is no message")
        message = _message(data, value, (PIECE, TRAINER, NORMALIZER)[field - 1])
        if field > 1:
            found |= message
            continue
        if (kind := message.get("type", NORMAL)) != NORMAL:
            types[len(texts)] = kind
        texts.append(message.get("piece", b""))
        scores.append(message.get("score", bytes(4)))
    return texts, b"".join(scores), types, found


def read_model(source: str | Path | bytes) -> SentencePieceModel:
    """A .model file, or its content. Raises ValueError, which names the file and what is wrong, when it is damaged."""
    where = "the SentencePiece model" if isinstance(source, bytes) else str(source)
    data = source if isinstance(source, bytes) else Path(source).read_bytes()
    try:
        texts, floats, types, found = _parse(data)
        if not texts:
            raise ValueError("it holds no pieces")
        scores = array("f", floats)
        if sys.byteorder == "big":
            scores.byteswap()
        pieces = b"\0".join(texts).decode("utf-8").split("\0")
        if len(pieces) != len(texts):  # a piece holds the separator
            pieces = [text.decode("utf-8") for text in texts]
        for name, wanted in (("treat_whitespace_as_suffix", False), ("escape_whitespaces", True)):
            if found.pop(name, wanted) != wanted:
                raise ValueError(f"{name}={not wanted} is not supported")
        model = SentencePieceModel(pieces, scores, types, where=where, **found)
        _check(model)
    except ValueError as reason:  # UnicodeDecodeError too
        raise ValueError(f"{where} is no SentencePiece model that can be read: {reason}.") from None
    return model


def _check(model: SentencePieceModel) -> None:
    pieces, types = model.pieces, model.types
    if "" in pieces:
        raise ValueError(f"piece {pieces.index('')} is empty")
    if len(set(pieces)) != len(pieces):
        raise ValueError(f"piece {Counter(pieces).most_common(1)[0][0]!r} stands in it twice")
    if not math.isfinite(sum(model.scores)):
        raise ValueError("a score is not a finite number")
    if wrong := [index for index, kind in types.items() if not NORMAL <= kind <= BYTE]:
        raise ValueError(f"piece {pieces[wrong[0]]!r} is of an unknown type, {types[wrong[0]]}")
    if (unknown := len(model.of_type(UNKNOWN))) != 1:
        raise ValueError(f"it has {unknown} pieces for what is unknown, where 1 is needed")
    if model.model_type not in (UNIGRAM, BPE, CHAR):
        raise ValueError(f"model_type {model.model_type} is none of 1 (Unigram), 2 (BPE), 4 (char)")
    there, wanted = {pieces[index] for index in model.of_type(BYTE)}, {f"<0x{byte:02X}>" for byte in range(256)}
    if there != (wanted if model.byte_fallback else set()):
        raise ValueError(f"byte_fallback={model.byte_fallback}, but it has {len(there & wanted)} of the 256 bytes")


# ---- Ids


def _place(model: SentencePieceModel, before: Sequence[str], skip: int, unk: str) -> SentencePieceModel:
    """The pieces from number `skip` on behind those of `before`, which become control symbols (unk: the unknown)."""
    if not before and not skip:
        return model
    pieces, shift = model.pieces[skip:], len(before) - skip
    for twice in set(before).intersection(pieces):
        pieces[pieces.index(twice)] = f"{twice}NOTUSED"  # as fairseq calls what it does not use
    types = {index: UNKNOWN if piece == unk else CONTROL for index, piece in enumerate(before)}
    again = UNUSED if unk in before else UNKNOWN  # there is one unknown piece
    for index, kind in model.types.items():
        if index >= skip:
            types[index + shift] = again if kind == UNKNOWN else kind
    scores = array("f", bytes(4 * len(before))) + array("f", model.scores[skip:])
    return model._replace(pieces=[*before, *pieces], scores=scores, types=types)


def _reorder(model: SentencePieceModel, source: Any, unk: str) -> SentencePieceModel:
    """The pieces at the ids of a vocab.json (or token -> id).

    A piece that it lacks cannot be found any more; SentencePiece itself would find it and call it unknown. Its other
    tokens, the target language's in Marian's, may be found in place of what the model does not know.
    """
    where = "the vocabulary" if isinstance(source, Mapping) else str(source)
    try:
        vocab = dict(source) if isinstance(source, Mapping) else json.loads(Path(source).read_text(encoding="utf-8"))
        order = sorted(vocab, key=vocab.__getitem__)
        whole = [vocab[piece] for piece in order] == list(range(len(order)))
    except (ValueError, TypeError, AttributeError, RecursionError) as reason:
        raise ValueError(f"{where} is no JSON object of tokens and ids: {reason}.") from None
    if not whole or unk not in vocab:
        raise ValueError(f"{where} must give the ids from 0 to {len(order) - 1}, and one to {unk!r}.")
    old = {piece: index for index, piece in enumerate(model.pieces)}
    kinds = [model.types.get(old[piece], NORMAL) if piece in old else UNUSED for piece in order]
    types = {index: CONTROL if kind == UNKNOWN else kind for index, kind in enumerate(kinds) if kind != NORMAL}
    scores = [model.scores[old[piece]] if piece in old else 0.0 for piece in order]
    return model._replace(pieces=order, scores=scores, types={**types, vocab[unk]: UNKNOWN})


# ---- The model


def _merges(model: SentencePieceModel) -> list[tuple[str, str]]:
    """Every two pieces that make a third, by its score; of those that make the same one, the longest left one first.

    SentencePiece takes the leftmost of equal scores: in a run of one character that is the one with the longest left.
    """
    normal = {model.pieces[index]: score for index, score in enumerate(model.scores) if index not in model.types}
    found = [
        (-score, -cut, piece[:cut], piece[cut:])
        for piece, score in normal.items()
        for cut in range(len(piece) - 1, 0, -1)
        if piece[:cut] in normal and piece[cut:] in normal
    ]
    found.sort(key=lambda merge: merge[:2])
    return [merge[2:] for merge in found]


def _unigram(model: SentencePieceModel, text: str, split_commas: bool) -> Any:
    """Unigram finds every entry of its vocabulary in a text: what must not be found has a score that never wins.

    text: the pieces that may be found, with "\\0" between them.
    """
    pieces, scores, types = model.pieces, list(model.scores), model.types
    normal = scores.copy()
    for index in sorted(types, reverse=True):
        del normal[index]
    lowest, highest = min(normal, default=0.0), max(normal, default=0.0)
    # The score of unknown characters follows the lowest one. Where every character is a piece, it decides nothing.
    hidden = lowest - 100 if set(text).issubset({*pieces, "\0"}) else lowest
    for index, kind in types.items():
        scores[index] = len(pieces[index].encode()) * highest - 0.1 if kind == USER_DEFINED else hidden
    if split_commas:  # a comma is kept apart from the digits before it
        for index, piece in enumerate(pieces):
            if piece[-1] == "," and piece[-2:-1].isdigit():
                scores[index] -= 100
    return models.Unigram(list(zip(pieces, scores, strict=True)), model.unk_id, model.byte_fallback)  # type: ignore


def _hidden(model: SentencePieceModel, text: str) -> str:
    """A pattern for the beginnings of what Unigram would take for a control symbol, a byte or the like.

    A cut behind it hides the rest. It is where no piece goes over it, so that nothing else changes.
    """
    parts = [r"<(?=0x[0-9A-F]{2}>)"] if model.byte_fallback else []
    known = {piece for piece in model.pieces if len(piece) == 1}
    for piece in (model.pieces[index] for index in model.of_type(UNKNOWN, CONTROL)):
        cuts = [cut for cut in range(1, len(piece)) if piece[cut - 1 : cut + 1] not in text]
        cuts = [cut for cut in cuts if not known.isdisjoint(piece[cut - 1 : cut + 1])] or cuts or [1]
        if len(piece) > 1:
            parts.append(f"{re.escape(piece[: cuts[0]])}(?={re.escape(piece[cuts[0] :])})")
    return "|".join(parts)


# ---- Text before and after


def _cleaning(given: Original) -> list[Any]:
    """What a tokenizer class does to a text before SentencePiece sees it."""
    said = {**given.family.options, **{name: given.said(name) for name in given.family.settings}}
    steps: list[Any] = []
    if said.get("remove_space"):
        steps.append(normalizers.Replace(Regex(r"[^\S ]|[\x1c-\x1f]"), " "))
    if said.get("quotes"):
        steps += [normalizers.Replace("``", '"'), normalizers.Replace("''", '"')]
    if said.get("keep_accents") is False:
        steps += [normalizers.NFKD(), normalizers.Replace(Regex(_combining()), ""), normalizers.NFC()]
    if said.get("do_lower_case"):
        steps.append(normalizers.Lowercase())
    if said.get("remove_punctuation"):
        steps.append(normalizers.Replace(Regex(r"[!-/:-@\[-`{-~]"), ""))
    return steps


def _combining() -> str:
    """A character class of all marks that combine (StripAccents takes the vowels of Hindi and Thai away too)."""
    marks = [code for code in range(0x300, 0x1E950) if unicodedata.combining(chr(code))]
    starts = [code for code, before in zip(marks, [0, *marks], strict=False) if code != before + 1]
    ends = [code for code, after in zip(marks, [*marks[1:], 0], strict=True) if code + 1 != after]
    return "[" + "".join(f"\\x{{{a:x}}}-\\x{{{b:x}}}" for a, b in zip(starts, ends, strict=True)) + "]"


def _set_text(
    backend: Backend, model: SentencePieceModel, text: str, user: list[str], prefix: str, steps: list, split: list
) -> None:
    """The normaliser, the splitter and the decoder. prefix: which parts of a text get one: always, first, never.

    Words are split apart where no piece goes over their ends, and then have offsets without the blank before them.
    user: symbols that are found in the text before the rest is split; Unigram has them among its pieces.
    """
    apart = SPACE in model.pieces and text.count(SPACE) == text.count(f"\0{SPACE}")
    words = apart and model.remove_extra_whitespaces and prefix == "always" and not user
    literal = True  # whether a "▁" of the text itself comes through
    if model.charsmap:
        own = normalizers.Precompiled(model.charsmap)
        literal = own.normalize_str(SPACE) != " "
        # what it takes away at a text's start would shift all offsets, so that goes first
        if gone := "".join(f"\\x{code:02x}" for code in range(1, 0xA0) if own.normalize_str(f"a{chr(code)}") == "a"):
            steps.append(normalizers.Replace(Regex(rf"\A[{gone}]+"), ""))
        steps.append(own)
    if model.remove_extra_whitespaces and not words:
        steps += [normalizers.Replace(Regex(" {2,}"), " "), normalizers.Replace(Regex(r"\A "), "")]
    if model.remove_extra_whitespaces and (literal or not words):
        steps.append(normalizers.Replace(Regex(r"(?<![ ▁])[ ▁]++\z"), ""))
    if not words:
        steps.append(normalizers.Replace(" ", SPACE))
    by_splitter = prefix != "never" and not (user and prefix == "always")
    if prefix != "never" and not by_splitter:  # not behind such a symbol, and not in one, which is normalised too
        alone = "|".join(map(re.escape, user))
        steps.append(normalizers.Replace(Regex(rf"\A(?!(?:{alone})?\z)"), SPACE))
    split += [pre_tokenizers.Split(" ", "removed")] if words else []
    if words and not literal:
        split.append(pre_tokenizers.Metaspace(SPACE, prefix, split=False))
    else:
        # Metaspace takes a "▁" at a part's start for a prefix that is there already, so a blank, of which none are
        # left, is its mark at first
        split += [pre_tokenizers.Metaspace(" ", prefix, split=False)] if by_splitter else []  # type: ignore
        split.append(pre_tokenizers.Metaspace(SPACE, "never", split=apart))
    if model.model_type == UNIGRAM and (hidden := _hidden(model, text)):
        split.append(pre_tokenizers.Split(Regex(hidden), "merged_with_previous"))
    backend.normalizer = normalizers.Sequence(steps)  # type: ignore[assignment]
    backend.pre_tokenizer = pre_tokenizers.Sequence(split)  # type: ignore[assignment]
    chain: list[Any] = [decoders.Replace(SPACE, " "), decoders.ByteFallback(), decoders.Fuse()]
    chain += [decoders.Strip(" ", 1, 0)] if prefix != "never" else []
    plain = words and not model.byte_fallback
    backend.decoder = decoders.Metaspace(SPACE, prefix) if plain else decoders.Sequence(chain)  # type: ignore


def set_frame(backend: Backend, frame: Sequence[str], tokens: Mapping[str, str]) -> None:
    """frame: for a text and for a pair, such as "cls $A sep" and "cls $A sep $B:1 sep:1"; tokens: cls -> [CLS]."""
    parts = [[(part.partition(":")[0], part.partition(":")[2] or "0") for part in side.split()] for side in frame]
    if "lang" not in tokens:
        parts = [[part for part in side if part[0] != "lang"] for side in parts]
    ids = {tokens[name]: None for side in parts for name, _ in side if not name.startswith("$")}
    ids = {token: backend.token_to_id(token) for token in ids}
    if missing := [token for token, index in ids.items() if index is None]:
        raise ValueError(f"the vocabulary lacks {', '.join(map(repr, missing))}, which stands around every text")
    single, pair = ([f"{tokens.get(name, name)}:{kind}" for name, kind in side] for side in parts)
    backend.post_processor = processors.TemplateProcessing(single, pair, list(ids.items()))  # type: ignore


# ---- All of it


def to_backend(model: SentencePieceModel, given: Original = PLAIN) -> Backend:
    """A tokenizer for a model whose pieces stand at their ids already.

    Text is cut at special tokens first, and each part is encoded as SentencePiece would encode it alone; with
    legacy=False (Llama) only the first part of a text gets a blank in front. Raises ValueError.
    """
    try:
        return _to_backend(model, given)
    except BaseException as reason:  # a panic of the library is no Exception
        if isinstance(reason, KeyboardInterrupt | SystemExit | MemoryError):
            raise
        raise ValueError(f"{model.where} makes no tokenizer: {reason}.") from None


def _to_backend(model: SentencePieceModel, given: Original) -> Backend:
    options, settings, special = given.family.options, given.settings, given.special
    types, pieces = model.types, model.pieces.copy()
    for index in sorted(model.of_type(UNKNOWN, CONTROL, UNUSED, BYTE), reverse=True):
        del pieces[index]
    text = "\0".join(["", *pieces])  # what may be found in texts
    user = [] if model.model_type == UNIGRAM else [model.pieces[index] for index in model.of_type(USER_DEFINED)]
    if model.model_type == UNIGRAM:
        kind = _unigram(model, text, bool(options.get("split_commas")))
    else:
        vocab, unk = {piece: index for index, piece in enumerate(model.pieces)}, model.pieces[model.unk_id]
        merges = _merges(model) if model.model_type == BPE else []
        kind = models.BPE(vocab, merges, unk_token=unk, fuse_unk=True, byte_fallback=model.byte_fallback)
    backend = Backend(kind)
    prefix = "always" if given.said("legacy") or "legacy" not in options or model.remove_extra_whitespaces else "first"
    if not model.add_dummy_prefix or settings.get("add_prefix_space") is False:
        prefix = "never"
    punctuation = [pre_tokenizers.Punctuation("isolated")] if settings.get("split_by_punct") else []
    _set_text(backend, model, text, user, prefix, _cleaning(given), punctuation)
    backend.add_tokens([AddedToken(piece, normalized=True, special=False) for piece in user])
    names = {token: name for name, token in reversed(list(special.items()))}
    inside = [*special.values(), *options.get("special", ()), *options.get("before", ())]
    if options.get("offset"):  # Pegasus: everything before the pieces
        inside += [model.pieces[index] for index in sorted(types) if index < 105]
    inside = [token for token in dict.fromkeys(inside) if backend.token_to_id(token) is not None]
    left = options.get("lstrip", ("mask_token",))
    backend.add_special_tokens(
        [AddedToken(t, lstrip=names.get(t) in left, normalized=False) for t in [*inside, *_after(given)]]
    )
    if options.get("codes"):  # Marian: >>fr<<
        codes = [piece for piece in model.pieces if piece.startswith(">>") and piece.endswith("<<")]
        backend.add_tokens([AddedToken(piece, normalized=False, special=False) for piece in codes])
    if frame := frame_of(given):
        set_frame(backend, frame, frame_names(given))
    return backend


def _after(given: Original) -> list[str]:
    """The tokens behind the vocabulary: language codes, T5's extra ids (the last one first), and others."""
    options, count = given.family.options, given.said("extra_ids", 0)
    if not isinstance(count, int) or not 0 <= count <= 100_000:
        raise ValueError(f"extra_ids must be a number of tokens, not {count!r}")
    form = options.get("language_token", "{}")
    languages = [form.format(code) for code in options.get("languages", ())]
    return [*languages, *(f"<extra_id_{i}>" for i in range(count - 1, -1, -1)), *options.get("after", ())]


def frame_of(given: Original) -> Sequence[str] | None:
    """What stands around a text and around a pair."""
    options = given.family.options
    if "add_bos_token" in options:
        bos, eos = given.said("add_bos_token"), given.said("add_eos_token")
        one = " ".join(["bos"] * bool(bos) + ["$A"] + ["eos"] * bool(eos))
        return one, " ".join([one, *["bos:1"] * bool(bos), "$B:1", *["eos:1"] * bool(eos)])
    return options.get("legacy_frame" if given.settings.get("legacy_behaviour") else "frame")


def frame_names(given: Original) -> dict[str, str]:
    """What frames may name: the special tokens without "_token", and the language's token as lang."""
    names = {name.removesuffix("_token"): token for name, token in given.special.items()}
    language = given.settings.get("src_lang") or given.family.options.get("src_lang")
    if language and "languages" in given.family.options:
        names["lang"] = language_token(given.family, language)
    return names


def language_token(family: Family, language: str) -> str:
    """The token of a language code: __en__ for en (M2M100). Raises ValueError for a language that is not known."""
    tokens = {code: family.options.get("language_token", "{}").format(code) for code in family.options["languages"]}
    if language in tokens.values():
        return language
    if language not in tokens:
        raise ValueError(f"{language!r} is none of the languages {', '.join(tokens.values())}")
    return tokens[language]


def convert_sentencepiece(given: Original, target: bool = False) -> Backend:
    """A converter, as conversion.py wants them. target: Marian's other tokenizer, for text_target: split by target.spm.

    What a family's options may be:
    before, skip: tokens that stand before the pieces, and how many pieces they replace; offset: Pegasus' way of that
    after, languages, language_token, extra_ids: tokens behind the pieces
    special: pieces that are special tokens without a name; lstrip: names of special tokens that take blanks before them
    frame, legacy_frame; or add_bos_token, add_eos_token: what stands around a text
    remove_space, quotes, keep_accents, do_lower_case, remove_punctuation, split_commas: how text is cleaned
    legacy: the default of that setting, in families that have it; src_lang: the language unless one is named
    codes: whether tokens such as >>fr<< are found in texts
    """
    names = ("target_spm",) if target else ("spm_file", "source_spm", "vocab_file")
    files, special, sources = given.family.files, given.special, given.sources
    model = read_model(next(sources[name] for name in names if name in sources))
    options, unk = given.family.options, special.get("unk_token", "<unk>")
    if len(files) > 1:
        model = _reorder(model, sources["vocab" if "vocab" in files else "vocab_file"], unk)
    elif offset := given.said("offset", 0):
        masks = [given.settings.get("mask_token_sent", "<mask_1>"), special.get("mask_token")]
        before = [special["pad_token"], special["eos_token"], *(token for token in masks if token)]
        model = _place(model, [*before, *(f"<unk_{i}>" for i in range(2, offset))], 2, unk)
    else:
        model = _place(model, options.get("before", ()), options.get("skip", 0), unk)
    return to_backend(model, given)
