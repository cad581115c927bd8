"""Tokenizers out of texts: a new one of each kind, or one like an old one for other texts.

Kinds: wordpiece (Schuster and Nakajima, 2012), bpe on bytes (Sennrich et al., https://arxiv.org/abs/1508.07909; Radford
et al., 2019), unigram (Kudo, https://arxiv.org/abs/1804.10959), word (one token per word), character.
"""

import json
from collections.abc import Iterable, Iterator, Mapping
from itertools import chain
from typing import Any, NamedTuple

from tokenizers import AddedToken, Regex, Tokenizer as Backend, decoders, models, normalizers, pre_tokenizers, trainers
from tokenizers.processors import ByteLevel

from . import logging
from .aliases import did_you_mean
from .families import BERT_FRAME
from .sentencepiece import set_frame
from .tokenizer import Tokenizer

TRAINERS: dict[str, Any] = {
    "BPE": trainers.BpeTrainer,
    "Unigram": trainers.UnigramTrainer,
    "WordLevel": trainers.WordLevelTrainer,
    "WordPiece": trainers.WordPieceTrainer,
}


class Kind(NamedTuple):
    """A kind of tokenizer: its special tokens by name, and the frame around a text and around a pair (set_frame)."""

    special: Mapping[str, str]
    frame: tuple[str, str] | None = None


_BERT = {name: f"[{name[:-6].upper()}]" for name in ("pad_token", "unk_token", "cls_token", "sep_token", "mask_token")}
KINDS: dict[str, Kind] = {
    "wordpiece": Kind(_BERT, BERT_FRAME),
    "bpe": Kind({"bos_token": "<|endoftext|>", "eos_token": "<|endoftext|>"}),
    "unigram": Kind({"pad_token": "<pad>", "eos_token": "</s>", "unk_token": "<unk>"}, ("$A eos", "$A eos $B eos")),
    "word": Kind(_BERT, BERT_FRAME),
    "character": Kind(_BERT, BERT_FRAME),
}


def train_tokenizer(
    texts: Iterable[str] | Iterable[list[str]],
    kind: str = "bpe",
    *,
    vocab_size: int = 30_000,
    min_frequency: int = 0,
    lowercase: bool = False,
    special_tokens: Mapping[str, str] | None = None,
    extra_special_tokens: Iterable[str] = (),
    length: int | None = None,
) -> Tokenizer:
    """A new tokenizer, trained on texts (or on lists of them), which may come from an iterator.

    kind: wordpiece, bpe, unigram, word or character. vocab_size: at most so many tokens, special ones counted.
    min_frequency: what is rarer gets no token. special_tokens: {"pad_token": "<pad>"} instead of the kind's own names;
    None takes one away. length: how many texts there are, for the progress bar.
    Raises ValueError for an unknown kind and where vocab_size leaves no room, TypeError for what is no text.
    """
    if kind not in KINDS:
        raise ValueError(f"There is no kind {kind!r}.{did_you_mean(str(kind), KINDS)} Kinds: {', '.join(KINDS)}.")
    renamed = dict(special_tokens or {})
    if wrong := renamed.keys() - {name for each in KINDS.values() for name in each.special}:
        raise TypeError(f"{sorted(wrong)[0]!r} is no special token of a kind. There are {', '.join(_BERT)}, bos_token, "
                        "eos_token; others stand in extra_special_tokens.")  # fmt: skip
    named = {name: token for name, token in {**KINDS[kind].special, **renamed}.items() if token is not None}
    special = list(dict.fromkeys([*named.values(), *extra_special_tokens]))
    backend, options = new_backend(kind, named.get("unk_token"), lowercase)
    if kind != "unigram":
        options["min_frequency"] = min_frequency
    train(backend, texts, vocab_size, special, length, options)
    if frame := KINDS[kind].frame:
        names = {name.removesuffix("_token"): token for name, token in named.items()}
        lacking = {name.removesuffix("_token") for name in KINDS[kind].special} - names.keys()
        parts = ([part for part in side.split() if part.partition(":")[0] not in lacking] for side in frame)
        set_frame(backend, [" ".join(side) for side in parts], names)
    return Tokenizer(backend, extra_special_tokens=list(extra_special_tokens), **named)


def new_backend(kind: str, unk: str | None, lowercase: bool) -> tuple[Backend, dict[str, Any]]:
    """(a tokenizer without a vocabulary, arguments of its trainer)."""
    lower = [normalizers.Lowercase()] if lowercase else []
    if kind == "bpe":
        backend = Backend(models.BPE())
        backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)  # type: ignore[assignment]
        backend.decoder = decoders.ByteLevel()  # type: ignore[assignment]
        backend.post_processor = ByteLevel(trim_offsets=False)  # type: ignore[assignment]
        backend.normalizer = normalizers.Sequence([normalizers.NFC(), *lower])  # type: ignore[assignment]
        return backend, {"initial_alphabet": pre_tokenizers.ByteLevel.alphabet()}
    if kind == "unigram":
        backend = Backend(models.Unigram())
        spaces = normalizers.Replace(Regex(" {2,}"), " ")
        backend.normalizer = normalizers.Sequence([normalizers.NFKC(), *lower, spaces])  # type: ignore[assignment]
        backend.pre_tokenizer = pre_tokenizers.Metaspace()  # type: ignore[assignment]
        backend.decoder = decoders.Metaspace()  # type: ignore[assignment]
        return backend, {"unk_token": unk} if unk else {}
    if kind == "wordpiece":
        backend = Backend(models.WordPiece(unk_token=unk or "[UNK]"))  # type: ignore[call-arg]
        backend.normalizer = normalizers.BertNormalizer(lowercase=lowercase)  # type: ignore[assignment]
        backend.pre_tokenizer = pre_tokenizers.BertPreTokenizer()  # type: ignore[assignment]
        backend.decoder = decoders.WordPiece()  # type: ignore[assignment]
        return backend, {}
    backend = Backend(models.WordLevel(unk_token=unk or "[UNK]"))  # type: ignore[call-arg]
    backend.normalizer = normalizers.Sequence([normalizers.NFC(), *lower])  # type: ignore[assignment]
    if kind == "word":
        backend.pre_tokenizer = pre_tokenizers.Whitespace()  # type: ignore[assignment]
    else:
        backend.pre_tokenizer = pre_tokenizers.Split(Regex(r"[\s\S]"), "isolated")  # type: ignore[assignment]
        backend.decoder = decoders.Fuse()  # type: ignore[assignment]
    return backend, {}


def train(
    backend: Backend, texts: Iterable[Any], vocab_size: int, special: list[Any], length: int | None, options: Any
) -> None:
    """Gives a backend a vocabulary."""
    if isinstance(vocab_size, bool) or not isinstance(vocab_size, int) or vocab_size <= len(special):
        raise ValueError(
            f"vocab_size must be a number above {len(special)}, which the special tokens take; got {vocab_size!r}."
        )
    if isinstance(texts, (str, bytes)):
        raise TypeError("A tokenizer is trained on several texts: give a list or an iterator of them, not one text.")
    kind = TRAINERS[type(backend.model).__name__]
    trainer = kind(vocab_size=vocab_size, special_tokens=special, show_progress=shows_progress(), **options)
    failed: list[Exception] = []
    try:
        backend.train_from_iterator(checked(texts, failed), trainer=trainer, length=length)
    except BaseException as reason:  # a panic of the library is no Exception
        if failed:
            raise failed[0] from None
        if isinstance(reason, Exception) or type(reason).__name__ == "PanicException":
            raise ValueError(f"No tokenizer could be trained on these texts: {reason}.") from None
        raise


def shows_progress() -> bool:
    import sys

    return logging.is_progress_bar_enabled() and sys.stderr.isatty()


def checked(texts: Iterable[Any], failed: list[Exception]) -> Iterator[Any]:
    """The texts; what is none is noted, since the library would not say where it stood."""
    try:
        for number, item in enumerate(texts):
            for text in item if isinstance(item, (list, tuple)) else (item,):
                if not isinstance(text, str):
                    raise TypeError(f"Text {number} must be a str, not {type(text).__name__}: {text!r:.80}.")
            yield item
    except Exception as reason:
        failed.append(reason)
        raise


def train_new_from_iterator(
    tokenizer: Tokenizer,
    text_iterator: Iterable[Any],
    vocab_size: int,
    length: int | None = None,
    new_special_tokens: Iterable[str | AddedToken] | None = None,
    special_tokens_map: Mapping[str, str] | None = None,
    **options: Any,
) -> Tokenizer:
    """A tokenizer that works like this one, with a vocabulary learnt from other texts.

    Normaliser, splitter, special tokens and frame stay. new_special_tokens: more of them. special_tokens_map: {old:
    new} names. options: further arguments of the trainer of `tokenizers`, such as min_frequency.
    """
    renamed = dict(special_tokens_map or {})
    state = json.loads(tokenizer.backend_tokenizer.to_str())
    added, frame, model = state.pop("added_tokens"), state.pop("post_processor"), state["model"]
    state |= {"added_tokens": [], "post_processor": None, "truncation": None, "padding": None}
    kind, unk = model["type"], model.get("unk_token")
    if kind not in TRAINERS:
        raise ValueError(f"A tokenizer with a {kind} model cannot be trained; there are {', '.join(TRAINERS)}.")
    if kind == "Unigram":
        at = model["unk_id"]
        unk = None if at is None else renamed.get(model["vocab"][at][0], model["vocab"][at][0])
        model |= {"vocab": [[unk, 0.0]] if unk else [], "unk_id": 0 if unk else None}
        options |= {"unk_token": unk} if unk else {}
    else:
        model["vocab"] = {}
        if unk is not None:
            model["unk_token"] = renamed.get(unk, unk)
    if kind == "BPE":
        model["merges"] = []
        marks = ("continuing_subword_prefix", "end_of_word_suffix")
        options = {mark: model[mark] for mark in marks if model.get(mark) is not None} | options
    if "ByteLevel" in json.dumps(state["pre_tokenizer"]):
        options.setdefault("initial_alphabet", pre_tokenizers.ByteLevel.alphabet())
    special = []
    for token in added:
        if token["special"] or kind == "Unigram":
            token = {key: value for key, value in token.items() if key != "id"}
            special.append(AddedToken(**{**token, "content": renamed.get(token["content"], token["content"])}))
    more = list(new_special_tokens or ())
    backend = Backend.from_str(json.dumps(state))
    train(backend, text_iterator, vocab_size, [*special, *more], length, options)
    if frame is not None:
        whole = json.loads(backend.to_str())
        whole["post_processor"] = framed(frame, renamed, backend)
        backend = Backend.from_str(json.dumps(whole))
    named = {name: renamed.get(token, token) for name, token in tokenizer.special_tokens_map.items()}
    extra = [*(renamed.get(token, token) for token in tokenizer.extra_special_tokens), *map(str, more)]
    kept = ("model_max_length", "padding_side", "truncation_side", "model_input_names", "clean_up_tokenization_spaces")
    settings = {name: getattr(tokenizer, name) for name in kept}
    return type(tokenizer)(tokenizer_object=backend, extra_special_tokens=extra, **settings, **named)


def framed(frame: Any, renamed: Mapping[str, str], backend: Backend) -> Any:
    """A post-processor with the new names and ids of its tokens."""
    if isinstance(frame, list):
        return [framed(part, renamed, backend) for part in frame]
    if not isinstance(frame, dict):
        return frame
    frame = {key: framed(value, renamed, backend) for key, value in frame.items()}
    if frame.get("type") == "TemplateProcessing":
        new = {}
        for token in frame["special_tokens"].values():
            names = [renamed.get(name, name) for name in token["tokens"]]
            new[names[0]] = {"id": names[0], "ids": [backend.token_to_id(name) for name in names], "tokens": names}
        for piece in chain(frame["single"], frame["pair"]):
            if "SpecialToken" in piece:
                piece["SpecialToken"]["id"] = renamed.get(piece["SpecialToken"]["id"], piece["SpecialToken"]["id"])
        frame["special_tokens"] = new
    for side in ("cls", "sep"):
        if isinstance(frame.get(side), list):
            name = renamed.get(frame[side][0], frame[side][0])
            frame[side] = [name, backend.token_to_id(name)]
    return frame
