"""Original vocabulary files -> a tokenizer of the `tokenizers` library, for folders without a tokenizer.json.

A converter takes sources (argument of the class -> file, or its content), the family, the special tokens by name, and
the settings of tokenizer_config.json, and gives the whole tokenizer: normaliser, splitter, model, frame, decoder.
"""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer as Backend, decoders, models, normalizers, pre_tokenizers, processors

from .families import Family

Sources = Mapping[str, Any]  # {"vocab_file": Path, or what it holds}
Converter = Callable[[Sources, Family, Mapping[str, str], Mapping[str, Any]], Backend]

# ---- WordPiece


def read_vocab(path: Path) -> dict[str, int]:
    """vocab.txt: one token a line, its id is the line's number from 0."""
    try:
        lines = path.read_bytes().decode("utf-8").split("\n")
    except UnicodeDecodeError as reason:
        raise ValueError(f"{path} is not UTF-8 text: {reason}.") from None
    if lines and not lines[-1]:
        lines.pop()
    return {line.removesuffix("\r"): index for index, line in enumerate(lines)}


def wordpiece(
    vocab: Mapping[str, int],
    special: Mapping[str, str],
    *,
    lowercase: bool = True,
    strip_accents: bool | None = None,
    chinese_chars: bool = True,
    where: object = "the vocabulary",
) -> Backend:
    """BERT's tokenizer; special: unk_token, cls_token and sep_token, which the vocabulary must hold."""
    unk, cls, sep = (special[name] for name in ("unk_token", "cls_token", "sep_token"))
    if missing := [token for token in (unk, cls, sep) if token not in vocab]:
        raise ValueError(f"{where} lacks {', '.join(map(repr, missing))}, which a WordPiece tokenizer needs.")
    backend = Backend(models.WordPiece(dict(vocab), unk_token=unk))  # type: ignore[call-arg]
    backend.normalizer = normalizers.BertNormalizer(
        clean_text=True, handle_chinese_chars=chinese_chars, strip_accents=strip_accents, lowercase=lowercase
    )  # type: ignore[assignment]
    backend.pre_tokenizer = pre_tokenizers.BertPreTokenizer()  # type: ignore[assignment]
    backend.decoder = decoders.WordPiece(prefix="##")  # type: ignore[assignment]
    backend.post_processor = processors.TemplateProcessing(
        single=[f"{cls}:0", "$A:0", f"{sep}:0"],
        pair=[f"{cls}:0", "$A:0", f"{sep}:0", "$B:1", f"{sep}:1"],
        special_tokens=[(cls, vocab[cls]), (sep, vocab[sep])],
    )  # type: ignore[assignment]
    return backend


def convert_wordpiece(
    sources: Sources, family: Family, special: Mapping[str, str], settings: Mapping[str, Any]
) -> Backend:
    """vocab_file: a vocab.txt, or token -> id."""
    source = sources["vocab_file"]
    from_file = not isinstance(source, Mapping)
    return wordpiece(
        read_vocab(Path(source)) if from_file else source,
        special,
        lowercase=settings.get("do_lower_case") is not False,
        strip_accents=settings.get("strip_accents"),
        chinese_chars=settings.get("tokenize_chinese_chars") is not False,
        where=source if from_file else "the vocabulary",
    )


CONVERTERS: dict[str, Converter] = {"wordpiece": convert_wordpiece}


def convert(
    sources: Sources, family: Family, special: Mapping[str, str], settings: Mapping[str, Any], what: str
) -> Backend:
    """The tokenizer of a family's original files. what: how an error calls the class.

    Raises TypeError for a missing source, ValueError for a damaged one and for a family whose files are not known.
    """
    if family.kind not in CONVERTERS:
        raise ValueError(f"It is not known how {what} splits text; it needs a tokenizer.json.")
    given = {name: source for name, source in sources.items() if source is not None}
    if lacking := [name for name in family.files if name not in given]:
        names = "; ".join(f"{name} ({' or '.join(family.files[name])})" for name in lacking)
        raise TypeError(f"{what} needs a vocabulary: {names}, or tokenizer_file, or tokenizer_object.")
    return CONVERTERS[family.kind](given, family, special, settings)
