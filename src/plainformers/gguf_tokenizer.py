"""The vocabulary inside a GGUF file -> a tokenizer of the `tokenizers` library, whose pre-tokenizer the file names."""

import re
from pathlib import Path
from typing import Any

from tokenizers import AddedToken, Tokenizer as Backend

from .conversion import byte_bpe, frame_texts, read_merges, wordpiece
from .families import FAMILIES, GGUF_NFC, GGUF_SPLITS, GGUF_WHOLE_WORDS, Family, Original
from .gguf import read_gguf
from .sentencepiece import (
    BPE,
    CONTROL,
    NORMAL,
    UNIGRAM,
    UNKNOWN,
    UNUSED,
    USER_DEFINED,
    SentencePieceModel,
    to_backend,
)

_GGUF = "tokenizer.ggml."
_GGUF_NAMES = {
    "bos_token": "bos",
    "eos_token": "eos",
    "unk_token": "unknown",
    "sep_token": "seperator",  # so it is written
    "pad_token": "padding",
    "cls_token": "cls",
    "mask_token": "mask",
}


class _Vocabulary:
    """The fields of a GGUF file that say how it splits texts, checked."""

    def __init__(self, path: Path):
        self.path, self.fields = path, read_gguf(path, tensors=False).metadata
        self.tokens: list[str] = self.get("tokens", list)
        if not self.tokens or not all(isinstance(token, str) for token in self.tokens):
            raise self.error("tokens", "must be strings")
        self.vocab = {token: index for index, token in enumerate(self.tokens)}
        if len(self.vocab) < len(self.tokens):
            twice = next(token for index, token in enumerate(self.tokens) if self.vocab[token] != index)
            raise self.error("tokens", f"has {twice!r:.100} twice")
        self.types = self.numbers("token_type", [NORMAL] * len(self.tokens))
        for index, kind in enumerate(self.types):  # tokens that only fill the vocabulary up
            if kind in (USER_DEFINED, UNKNOWN) and self.tokens[index] == f"[PAD{index}]":
                self.types[index] = UNUSED
        self.special = {}
        for name, theirs in _GGUF_NAMES.items():
            if (index := self.get(f"{theirs}_token_id", int, None)) is not None:
                if not 0 <= index < len(self.tokens):
                    raise self.error(f"{theirs}_token_id", f"is {index}, but there are {len(self.tokens)} tokens")
                self.special[name] = self.tokens[index]

    def error(self, field: str, what: str) -> ValueError:
        return ValueError(f"{self.path}: {_GGUF}{field} {what}.")

    def get(self, field: str, kind: type, default: Any = ...) -> Any:
        value = self.fields.get(_GGUF + field, default)
        if value is default and default is not ...:
            return default
        if type(value) is not kind:
            came = "is missing" if value is ... else f"is a {type(value).__name__}, not a {kind.__name__}"
            raise self.error(field, came)
        return value

    def numbers(self, field: str, default: list[Any]) -> list[Any]:
        values = self.fields.get(_GGUF + field, default)
        if isinstance(values, str) or not hasattr(values, "__len__") or len(values) != len(self.tokens):
            raise self.error(field, f"must have {len(self.tokens)} numbers, one for each token")
        return values if isinstance(values, list) else values.tolist()

    def of_type(self, *kinds: int) -> list[str]:
        return [token for token, kind in zip(self.tokens, self.types, strict=True) if kind in kinds]


def _gguf_bytes(found: _Vocabulary) -> Backend:
    pre = found.get("pre", str, None)
    if pre not in GGUF_SPLITS:
        raise found.error("pre", f"is {pre!r}; known are {', '.join(GGUF_SPLITS)}. Use the original tokenizer.json")
    merges = found.get("merges", list)
    try:
        pairs = read_merges(merges, found.vocab)
    except (ValueError, TypeError, AttributeError) as reason:
        raise found.error("merges", f"cannot be read: {reason}") from None
    whole = pre in GGUF_WHOLE_WORDS
    backend = byte_bpe(found.vocab, pairs, GGUF_SPLITS[pre], nfc=pre in GGUF_NFC, whole_words=whole)
    backend.add_special_tokens([AddedToken(token, normalized=False) for token in found.of_type(CONTROL, UNKNOWN)])
    backend.add_tokens([AddedToken(token, normalized=False) for token in found.of_type(USER_DEFINED)])
    flags = {
        name: found.get(name, bool, whole and name == "add_bos_token") for name in ("add_bos_token", "add_eos_token")
    }
    frame_texts(backend, Original(FAMILIES["GPT2Tokenizer"], found.special, flags))
    return backend


def _gguf_pieces(found: _Vocabulary) -> Backend:
    merged = found.get("model", str) == "llama"
    unk = found.vocab[found.special.setdefault("unk_token", next(iter(found.of_type(UNKNOWN)), found.tokens[0]))]
    kinds = [UNUSED if kind == UNKNOWN or not kind else kind for kind in found.types]
    types = {index: kind for index, kind in enumerate(kinds) if kind != NORMAL} | {unk: UNKNOWN}
    model = SentencePieceModel(
        found.tokens,
        found.numbers("scores", []),
        types,
        BPE if merged else UNIGRAM,
        byte_fallback=all(f"<0x{byte:02X}>" in found.vocab for byte in range(256)),
        charsmap=bytes(bytearray(byte % 256 for byte in found.fields.get(_GGUF + "precompiled_charsmap", ()))),
        add_dummy_prefix=found.get("add_space_prefix", bool, True),
        remove_extra_whitespaces=found.get("remove_extra_whitespaces", bool, False),
        where=str(found.path),
    )
    flags = {"add_bos_token": merged, "add_eos_token": not merged}
    flags = {name: found.get(name, bool, default) for name, default in flags.items()}
    flags = {name: flag and name.removeprefix("add_") in found.special for name, flag in flags.items()}
    family = Family(options={**flags, "special": found.of_type(CONTROL)})
    return to_backend(model, Original(family, found.special))


def _gguf_words(found: _Vocabulary) -> Backend:
    """WordPiece whose pieces begin a word with "▁" and go on without "##"; capitals tell whether case counts."""
    found.special = {"unk_token": "[UNK]", "cls_token": "[CLS]", "sep_token": "[SEP]", **found.special}
    pieces = {}
    for token, index in found.vocab.items():
        whole = token.startswith("[") and token.endswith("]")
        pieces[token if whole else token[1:] if token.startswith("▁") else f"##{token}"] = index
    if len(pieces) < len(found.vocab):
        raise found.error("tokens", "has a piece with and without '##'")
    cased = any("A" <= token[1:2] <= "Z" and token[0] == "▁" for token in found.vocab)
    return wordpiece(pieces, found.special, lowercase=not cased, where=found.path)


_GGUF_MODELS = {"gpt2": _gguf_bytes, "llama": _gguf_pieces, "t5": _gguf_pieces, "bert": _gguf_words}


def tokenizer_from_gguf(path: str | Path) -> tuple[Backend, dict[str, Any]]:
    """The tokenizer inside a GGUF file, and the settings that a tokenizer_config.json would name: special tokens,
    add_bos_token, add_eos_token, chat_template. Raises ValueError, naming file and field, for what is not known."""
    found = _Vocabulary(Path(path))
    model = found.get("model", str)
    if model not in _GGUF_MODELS:
        raise found.error("model", f"is {model!r}; known are {', '.join(_GGUF_MODELS)}. Use the original tokenizer")
    try:
        backend = _GGUF_MODELS[model](found)
        backend.encode("a")
    except BaseException as reason:  # a panic of the library is no Exception
        if isinstance(reason, ValueError | KeyboardInterrupt | SystemExit | MemoryError):
            raise
        raise ValueError(f"{path} holds a vocabulary that makes no tokenizer: {reason}") from None
    settings: dict[str, Any] = dict(found.special)
    settings |= {
        name: found.fields[_GGUF + name] for name in ("add_bos_token", "add_eos_token") if _GGUF + name in found.fields
    }
    templates = {
        key.removeprefix("tokenizer.chat_template").lstrip(".") or "default": text
        for key, text in found.fields.items()
        if re.match(r"tokenizer\.chat_template(\.|$)", key)
    }
    if templates:
        settings["chat_template"] = templates if len(templates) > 1 else next(iter(templates.values()))
    return backend, settings
