"""Original vocabulary files -> a tokenizer of the `tokenizers` library, for folders without a tokenizer.json.

A converter gives the whole tokenizer: normaliser, splitter, model, frame, decoder.
"""

import base64
import binascii
import gzip
import json
import re
import zlib
from collections.abc import Callable, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

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

from .families import (
    BERT_FRAME,
    CLIP_SPLIT,
    GPT2_SPLIT,
    RANK_FILES,
    TEKKEN_SPECIAL,
    WHISPER_LANGUAGES,
    Family,
    Original,
)
from .sentencepiece import convert_sentencepiece, frame_names, frame_of, set_frame

_PRINTED = (*range(33, 127), *range(161, 173), *range(174, 256))  # bytes that byte-level pieces show as they are
_OTHERS = (byte for byte in range(256) if byte not in _PRINTED)
BYTES = {byte: chr(byte) for byte in _PRINTED} | {byte: chr(256 + place) for place, byte in enumerate(_OTHERS)}
MOST_UNPACKED = 1 << 26  # bytes of a compressed vocabulary
MOST_WORK = 50_000_000  # looks at neighbours when merges are recovered; o200k_base takes 8 million
MOST_FILLED = 100_000  # ids between a vocabulary's end and a special token behind it

# ---- Files


def read_text(path: Path) -> str:
    try:
        return path.read_bytes().decode("utf-8")
    except UnicodeDecodeError as reason:
        raise ValueError(f"{path} is not UTF-8 text: {reason}.") from None


def read_vocab(path: Path) -> dict[str, int]:
    """vocab.txt: one token a line, its id is the line's number from 0."""
    lines = read_text(path).split("\n")
    if lines and not lines[-1]:
        lines.pop()
    return {line.removesuffix("\r"): index for index, line in enumerate(lines)}


def read_ids(source: Any, settings: Mapping[str, Any] = {}) -> dict[str, int]:
    """vocab.json, or token -> id: the ids from 0 on, each once. What added_tokens_decoder lists may fill gaps."""
    where = "the vocabulary" if isinstance(source, Mapping) else str(source)
    vocab: Any = source
    if not isinstance(source, Mapping):
        try:
            vocab = json.loads(read_text(Path(source)))
        except (ValueError, RecursionError) as reason:
            raise ValueError(f"{where} is not readable as JSON: {reason}. Fetch the file again.") from None
        if not isinstance(vocab, dict):
            raise ValueError(f"{where} must hold a JSON object of tokens and ids, not a {type(vocab).__name__}.")
    vocab = dict(vocab)
    for token, index in vocab.items():
        if type(index) is not int or type(token) is not str or index < 0:
            raise ValueError(f"{where} gives token {token!r:.100} the id {index!r:.100}, not a number from 0 on.")
    tokens = {index: token for token, index in vocab.items()}
    if len(tokens) < len(vocab):
        token, index = next((token, index) for token, index in vocab.items() if tokens[index] != token)
        raise ValueError(f"{where} gives the id {index} to two tokens, {token!r:.100} and {tokens[index]!r:.100}.")
    if not tokens:
        raise ValueError(f"{where} holds no tokens.")
    if max(tokens) >= len(tokens):
        listed = {index: token for index, token in listed_tokens(settings).items() if token not in vocab}
        gaps = (index for index in range(max(tokens)) if index not in tokens and index not in listed)
        if lacking := list(islice(gaps, 5)):
            raise ValueError(
                f"{where} has no token for the ids {', '.join(map(str, lacking))} ..., but goes up to {max(tokens)}. "
                "Fetch the file again, or use a tokenizer.json."
            )
        vocab |= {token: index for index, token in listed.items() if index < max(tokens)}
    return vocab


def listed_tokens(settings: Mapping[str, Any]) -> dict[int, str]:
    """added_tokens_decoder: id -> token."""
    listed = settings.get("added_tokens_decoder") or {}
    texts = {key: token.get("content") if isinstance(token, Mapping) else str(token) for key, token in listed.items()}
    return {int(key): text for key, text in texts.items() if str(key).isdigit() and isinstance(text, str)}


def read_merges(source: Any, vocab: Mapping[str, int]) -> list[tuple[str, str]]:
    """merges.txt, with or without a line "#version: …" before, or a list of pairs (or of "left right")."""
    if isinstance(source, str | Path):
        where, lines = f"{source}, line", read_text(Path(source)).split("\n")
    else:
        where, lines = "merges, entry", list(source)
    merges = []
    for number, line in enumerate(lines, 1):
        pair = tuple(line.rstrip("\r").split(" ")) if isinstance(line, str) else tuple(line)
        if pair == ("",) or (number == 1 and pair[0] == "#version:"):
            continue
        if len(pair) != 2:
            raise ValueError(f"{where} {number} must be two pieces with one space between, not {line!r:.100}.")
        left, right = pair
        if left not in vocab or right not in vocab or left + right not in vocab:
            unknown = next(piece for piece in (left, right, left + right) if piece not in vocab)
            raise ValueError(f"{where} {number} merges {left!r:.100} and {right!r:.100}: no token is {unknown!r:.100}.")
        merges.append(pair)
    return merges


# ---- WordPiece


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
    names = {name: special[f"{name}_token"] for name in ("unk", "cls", "sep")}
    if missing := [token for token in names.values() if token not in vocab]:
        raise ValueError(f"{where} lacks {', '.join(map(repr, missing))}, which a WordPiece tokenizer needs.")
    backend = Backend(models.WordPiece(dict(vocab), unk_token=names["unk"]))  # type: ignore[call-arg]
    backend.normalizer = normalizers.BertNormalizer(
        clean_text=True, handle_chinese_chars=chinese_chars, strip_accents=strip_accents, lowercase=lowercase
    )  # type: ignore[assignment]
    backend.pre_tokenizer = pre_tokenizers.BertPreTokenizer()  # type: ignore[assignment]
    backend.decoder = decoders.WordPiece(prefix="##")  # type: ignore[assignment]
    set_frame(backend, BERT_FRAME, names)
    return backend


def convert_wordpiece(given: Original) -> Backend:
    """vocab_file: a vocab.txt, or token -> id."""
    source, settings = given.sources["vocab_file"], given.settings
    from_file = not isinstance(source, Mapping)
    return wordpiece(
        read_vocab(Path(source)) if from_file else source,
        given.special,
        lowercase=settings.get("do_lower_case") is not False,
        strip_accents=settings.get("strip_accents"),
        chinese_chars=settings.get("tokenize_chinese_chars") is not False,
        where=source if from_file else "the vocabulary",
    )


# ---- Byte-level BPE


def byte_bpe(
    vocab: Mapping[str, int],
    merges: list[tuple[str, str]],
    split: Sequence[str] = (GPT2_SPLIT,),
    *,
    nfc: bool = False,
    prefix_space: bool = False,
    whole_words: bool = False,
    unk: str | None = None,
) -> Backend:
    """split: the patterns that cut a text, one after the other. whole_words: a word that is a token is not merged."""
    missing = unk in vocab and any(shown not in vocab for shown in BYTES.values())  # else bytes would vanish
    model = models.BPE(dict(vocab), merges, ignore_merges=whole_words, unk_token=unk if missing else None)
    backend = Backend(model)
    if nfc:
        backend.normalizer = normalizers.NFC()  # type: ignore[assignment]
    steps: list[Any] = [
        pre_tokenizers.ByteLevel(add_prefix_space=prefix_space)
        if pattern == GPT2_SPLIT
        else pre_tokenizers.Split(Regex(pattern), "isolated")
        for pattern in split
    ]
    if GPT2_SPLIT not in split:
        steps.append(pre_tokenizers.ByteLevel(add_prefix_space=prefix_space, use_regex=False))
    backend.pre_tokenizer = steps[0] if len(steps) == 1 else pre_tokenizers.Sequence(steps)  # type: ignore[assignment]
    backend.decoder = decoders.ByteLevel()  # type: ignore[assignment]
    return backend


def convert_bytelevel(given: Original) -> Backend:
    """vocab_file: a vocab.json, or token -> id; merges_file: a merges.txt, or pairs."""
    vocab, options = read_ids(given.sources["vocab_file"], given.settings), given.family.options
    return byte_bpe(
        vocab,
        read_merges(given.sources["merges_file"], vocab),
        options.get("split", (GPT2_SPLIT,)),
        nfc=bool(options.get("nfc")),
        prefix_space=bool(given.said("add_prefix_space")),
        unk=given.special.get("unk_token"),
    )


# ---- tiktoken: ranks instead of merges


def looks_like_tiktoken(path: str | Path) -> bool:
    """Whether a file holds lines of a piece in base64 and its rank; a tokenizer.model may be that or SentencePiece."""
    with open(path, "rb") as file:
        start = file.read(1024)
    return re.match(rb"[A-Za-z0-9+/]{1,800}={0,2} \d{1,9}\r?\n", start) is not None


def read_ranks(path: Path) -> dict[str, int]:
    """Pieces, as byte-level BPE shows bytes, and their ranks; every byte must be there."""
    ranks: dict[str, int] = {}
    for number, line in enumerate(path.read_bytes().split(b"\n"), 1):
        if not (line := line.rstrip(b"\r")):
            continue
        try:
            piece, rank = line.split(b" ")
            shown = b"" if piece == b"=" else base64.b64decode(piece, validate=True)
            ranks[shown.decode("latin-1").translate(BYTES)] = int(rank)
        except (ValueError, binascii.Error) as reason:
            raise ValueError(
                f"{path}, line {number}: {line[:100]!r} is no piece in base64 and a rank ({reason})."
            ) from None
    return _checked_ranks(ranks, path)


def _checked_ranks(ranks: dict[str, int], path: Path) -> dict[str, int]:
    ids = set(ranks.values())
    if len(ids) < len(ranks) or min(ids, default=1) != 0 or max(ids) != len(ranks) - 1:
        raise ValueError(f"{path} must give the ranks from 0 to {len(ranks) - 1}, each once. Fetch the file again.")
    if lacking := [byte for byte, shown in BYTES.items() if shown not in ranks]:
        raise ValueError(f"{path} has no piece for {len(lacking)} bytes, such as {lacking[0]}. Fetch the file again.")
    return ranks


def recover_merges(ranks: Mapping[str, int], where: object = "the vocabulary") -> list[tuple[str, str]]:
    """The merges that made pieces of known ranks: of each piece, the two parts that are left before it is whole.

    A piece comes about in one way only, wherever it stands: by the same steps as alone. Raises ValueError where that
    would take more than MOST_WORK steps, as no real vocabulary does.
    """
    merges, work = [], 0
    for piece in sorted(ranks, key=ranks.__getitem__):
        cuts = [cut for cut in range(1, len(piece)) if piece[:cut] in ranks and piece[cut:] in ranks]
        work += len(piece) ** 2 if len(cuts) > 1 else len(piece)
        if work > MOST_WORK:
            raise ValueError(f"{where}: its pieces are too long to find their merges; {piece!r:.100} is one.")
        if len(cuts) == 1:
            merges.append((piece[: cuts[0]], piece[cuts[0] :]))
        elif cuts and (parts := _last_parts(piece, ranks)):
            merges.append(parts)
    return merges


def _last_parts(piece: str, ranks: Mapping[str, int]) -> tuple[str, str] | None:
    """The two parts of a piece after merging its characters by rank; None where more are left."""
    parts, none = list(piece), len(ranks)
    found = [ranks.get(parts[i] + parts[i + 1], none) for i in range(len(parts) - 1)]  # of each part and its next
    while len(parts) > 2:
        best = min(found)
        if best == none:
            return None
        at = found.index(best)
        parts[at : at + 2] = [parts[at] + parts[at + 1]]
        del found[at]
        for i in (at - 1, at):
            if 0 <= i < len(found):
                found[i] = ranks.get(parts[i] + parts[i + 1], none)
    return parts[0], parts[1]


def with_special(ranks: Mapping[str, int], special: Mapping[int, str], where: object) -> dict[str, int]:
    """The vocabulary of ranks and of special tokens behind them; ids between that nobody names get a token too."""
    last = max(special, default=0)
    if last - len(ranks) > MOST_FILLED:
        raise ValueError(f"{where}: special token {special[last]!r} has the id {last}, far behind {len(ranks)} ranks.")
    behind = range(len(ranks), last + 1)
    return {**ranks, **{special.get(index, f"<|reserved_token_{index}|>"): index for index in behind}}


def convert_tiktoken(given: Original) -> Backend:
    """vocab_file: a file of ranks. Setting pat_str: the pattern that cuts a text, for a file that is not known."""
    path = Path(given.sources["vocab_file"])
    ranks, listed = read_ranks(path), listed_tokens(given.settings)
    known = RANK_FILES.get(len(ranks))
    split = given.settings.get("pat_str") or (known.split if known else None)
    if not isinstance(split, str):
        sizes = ", ".join(map(str, RANK_FILES))
        raise ValueError(f"{path} has {len(ranks)} ranks; known are files of {sizes}. Pass pat_str, its pattern.")
    named = {index: token for token, index in known.special.items() if index not in listed} if known else {}
    vocab = with_special(ranks, {**named, **{i: token for i, token in listed.items() if i >= len(ranks)}}, path)
    merges = recover_merges(ranks, path)
    prefix_space = bool(given.said("add_prefix_space"))
    backend = byte_bpe(vocab, merges, (split,), prefix_space=prefix_space, whole_words=True)
    backend.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in named.values()])
    return backend


def convert_tekken(given: Original) -> Backend:
    """vocab_file: Mistral's tekken.json, whose ids begin with its special tokens; it names its pattern itself."""
    path = Path(given.sources["vocab_file"])
    try:
        data = json.loads(read_text(path))
        config, entries = data["config"], data["vocab"]
        named = data.get("special_tokens") or [
            {"rank": i, "token_str": token} for i, token in enumerate(TEKKEN_SPECIAL)
        ]
        first = config.get("default_num_special_tokens") or len(named)
        before = {entry["rank"]: str(entry["token_str"]) for entry in named}
        entries = entries[: config.get("default_vocab_size", len(entries) + first) - first]
        pieces = [base64.b64decode(entry["token_bytes"], validate=True).decode("latin-1") for entry in entries]
        pattern = Regex(config["pattern"]) and config["pattern"]
        if not 0 <= max(before) < first <= MOST_FILLED or any(i != entry["rank"] for i, entry in enumerate(entries)):
            raise ValueError("its ranks do not go up one by one, or its special tokens are more than it says")
    except Exception as reason:  # any part of it may be of any type, and the library's error for a pattern is plain
        raise ValueError(f"{path} is no tekken.json that can be read: {reason!r:.200}.") from None
    ranks = _checked_ranks({piece.translate(BYTES): rank for rank, piece in enumerate(pieces)}, path)
    vocab = {before.get(index, f"<SPECIAL_{index}>"): index for index in range(first)}
    merges = recover_merges(ranks, path)
    vocab |= {piece: first + rank for piece, rank in ranks.items()}
    backend = byte_bpe(vocab, merges, (pattern,), whole_words=True)
    backend.add_special_tokens([AddedToken(token, normalized=False) for token in list(vocab)[:first]])
    return backend


# ---- BPE whose pieces say that a word ends: CLIP, the first GPT, HerBERT


def read_clip_merges(path: Path) -> tuple[dict[str, int], list[tuple[str, str]]]:
    """bpe_simple_vocab_16e6.txt.gz: the vocabulary follows from its merges."""
    try:
        with gzip.open(path) as file:
            data = file.read(MOST_UNPACKED + 1)
        if len(data) > MOST_UNPACKED:
            raise ValueError(f"it unpacks to more than {MOST_UNPACKED:,} bytes")
        lines = data.decode("utf-8").split("\n")[1 : 49152 - 256 - 2 + 1]
        pairs = [(left, right) for left, right in (line.split(" ") for line in lines if line)]
    except (OSError, EOFError, zlib.error, ValueError) as reason:
        raise ValueError(f"{path} holds no merges of CLIP: {reason}.") from None
    shown = list(BYTES.values())
    tokens = [*shown, *(char + "</w>" for char in shown), *map("".join, pairs), "<|startoftext|>", "<|endoftext|>"]
    vocab = {token: index for index, token in enumerate(tokens)}
    return vocab, read_merges(pairs, vocab)


def convert_clip(given: Original) -> Backend:
    """vocab_file and merges_file, or OpenAI's file of merges as vocab_file alone."""
    source = given.sources["vocab_file"]
    if "merges_file" in given.sources:
        vocab = read_ids(source, given.settings)
        merges = read_merges(given.sources["merges_file"], vocab)
    else:
        vocab, merges = read_clip_merges(Path(source))
    backend = Backend(models.BPE(vocab, merges, end_of_word_suffix="</w>", unk_token=_unk(vocab, given)))
    spaces = normalizers.Replace(Regex(r"\s+"), " ")
    backend.normalizer = normalizers.Sequence([normalizers.NFC(), spaces, normalizers.Lowercase()])  # type: ignore
    words = pre_tokenizers.Split(Regex(CLIP_SPLIT), "removed", invert=True)
    backend.pre_tokenizer = pre_tokenizers.Sequence([words, pre_tokenizers.ByteLevel(add_prefix_space=False)])  # type: ignore
    blank = r"[\s\x1c-\x1f]"
    around = Regex(rf"\A{blank}++|(?<!{blank}){blank}++\z")
    ends = [decoders.Replace("</w>", " "), decoders.Replace(around, "")]
    backend.decoder = decoders.Sequence([decoders.ByteLevel(), *ends])  # type: ignore[assignment]
    return backend


def _unk(vocab: Mapping[str, int], given: Original) -> str:
    if (unk := given.special["unk_token"]) not in vocab:
        source = given.sources["vocab_file"]
        where = "The vocabulary" if isinstance(source, Mapping) else source
        raise ValueError(f"{where} lacks {unk!r}, the token for what is unknown. Name another one: unk_token=….")
    return unk


def convert_wordbpe(given: Original) -> Backend:
    """vocab_file and merges_file over BERT's words, each of which ends in </w>."""
    vocab, lowercase = read_ids(given.sources["vocab_file"], given.settings), "lowercase" in given.family.options
    merges = read_merges(given.sources["merges_file"], vocab)
    backend = Backend(models.BPE(vocab, merges, end_of_word_suffix="</w>", unk_token=_unk(vocab, given)))
    backend.normalizer = normalizers.BertNormalizer(lowercase=lowercase, strip_accents=None if lowercase else False)  # type: ignore
    backend.pre_tokenizer = pre_tokenizers.BertPreTokenizer()  # type: ignore[assignment]
    backend.decoder = decoders.BPEDecoder(suffix="</w>")  # type: ignore[assignment]
    return backend


# ---- Words, characters and bytes


def convert_wordlevel(given: Original) -> Backend:
    """vocab_file: a vocab.json, a vocab.txt, or token -> id. Words are what stands between blanks.

    Option anywhere (ESM): tokens are found wherever they stand in a text, the longest first.
    """
    source = given.sources["vocab_file"]
    plain = isinstance(source, str | Path) and Path(source).suffix == ".txt"
    vocab = read_ids(read_vocab(Path(source)) if plain else source, given.settings)
    backend = Backend(models.WordLevel(vocab, unk_token=_unk(vocab, given)))
    if given.settings.get("do_lower_case"):
        backend.normalizer = normalizers.Lowercase()  # type: ignore[assignment]
    blanks = Regex(r"[\s\x1c-\x1f]+")  # as str.split sees them
    backend.pre_tokenizer = pre_tokenizers.Split(blanks, "removed")  # type: ignore[assignment]
    if given.family.options.get("anywhere"):
        named = set(given.special.values())
        tokens = [AddedToken(token, normalized=False) for token in vocab if token and token not in named]
        backend.add_tokens(tokens)
    return backend


def convert_bytes(given: Original) -> Backend:
    """Special tokens, then the 256 bytes; no files. Setting extra_ids: how many tokens <extra_id_N> follow (ByT5)."""
    named, settings = given.family.special, given.settings
    first = list(dict.fromkeys(given.special.get(name) or token for name, token in named.items()))
    vocab = {token: index for index, token in enumerate([*first, *(BYTES[byte] for byte in range(256))])}
    if len(vocab) < len(named) + 256:
        raise ValueError(f"The special tokens must be {len(named)} different ones, not {', '.join(first)}.")
    backend = byte_bpe(vocab, [], ())
    if given.family.options.get("drop_damaged"):  # as bytes.decode(errors="ignore") would
        backend.decoder = decoders.Sequence([decoders.ByteLevel(), decoders.Replace("\ufffd", "")])  # type: ignore
    count = given.said("extra_ids", 0)
    if not isinstance(count, int) or not 0 <= count <= MOST_FILLED:
        raise ValueError(f"extra_ids must be a number of tokens, not {count!r}.")
    if not (settings.get("additional_special_tokens") or settings.get("extra_special_tokens")):
        extra = [AddedToken(f"<extra_id_{i}>", special=True, normalized=False) for i in range(count)]
        _add_flagged(backend, given)
        backend.add_special_tokens(extra)
    return backend


def convert_codepoints(given: Original) -> Backend:
    """Every character is its code point (CANINE); no files. Planes 4 to 13, where Unicode has nothing, are an error."""
    planes = (*range(0xD800), *range(0xE000, 0x40000), *range(0xE0000, 0x110000))
    backend = Backend(models.WordLevel({chr(code): code for code in planes}, unk_token=""))
    backend.pre_tokenizer = pre_tokenizers.Split("", "isolated")  # type: ignore[assignment]
    backend.decoder = decoders.Fuse()  # type: ignore[assignment]
    return backend


# ---- What stands around a text


def _add_flagged(backend: Backend, given: Original) -> None:
    """Special tokens that take the blanks beside them, unless the settings say what they take."""
    listed, options = set(listed_tokens(given.settings).values()), given.family.options
    for name in options.get("lstrip", ()):
        token, plain = given.special.get(name), isinstance(given.settings.get(name) or "", str)
        if token in listed or not plain or backend.token_to_id(token or "") is None:
            continue
        right = name in options.get("rstrip", ())
        backend.add_special_tokens([AddedToken(token, lstrip=True, rstrip=right, special=True, normalized=False)])


def whisper_prefix(language: str | None, task: str | None, predict_timestamps: bool) -> list[str]:
    """The tokens that Whisper's texts begin with. language: a name or a code; task: transcribe or translate."""
    tokens = ["<|startoftranscript|>"]
    if language is not None:
        code = WHISPER_LANGUAGES.get(language.lower(), language.lower())
        if code not in WHISPER_LANGUAGES.values():
            raise ValueError(f"{language!r} is none of Whisper's languages: {', '.join(sorted(WHISPER_LANGUAGES))}.")
        tokens.append(f"<|{code}|>")
    if task not in (None, "transcribe", "translate"):
        raise ValueError(f"task must be 'transcribe' or 'translate', not {task!r}.")
    return [*tokens, *([f"<|{task}|>"] if task else []), *([] if predict_timestamps else ["<|notimestamps|>"])]


def frame_texts(backend: Backend, given: Original, wait: bool = False) -> None:
    """Puts the special tokens of a family around texts. wait: not yet where the vocabulary lacks one of them."""
    options, settings = given.family.options, given.settings
    names = frame_names(given)
    if around := options.get("around"):
        ends = [(given.special[name], backend.token_to_id(given.special[name])) for name in around]
        if missing := [token for token, index in ends if index is None]:
            raise ValueError(f"The vocabulary lacks {' and '.join(missing)}, which stand around every text.")
        trim, space = bool(given.said("trim_offsets", True)), bool(given.said("add_prefix_space"))
        backend.post_processor = processors.RobertaProcessing(ends[1], ends[0], trim, space)  # type: ignore
        return
    if options.get("whisper"):
        asked = (settings.get("language"), settings.get("task"), bool(settings.get("predict_timestamps")))
        prefix = {f"prefix{i}": token for i, token in enumerate(whisper_prefix(*asked))}
        names, start = names | prefix, " ".join(prefix)
        frame = (f"{start} $A eos", f"{start} $A $B:1 eos:1")
    elif given.family.kind != "sentencepiece" and "add_bos_token" in given.family.settings:
        bos, eos = (name if settings.get(f"add_{name}_token") and name in names else "" for name in ("bos", "eos"))
        frame = (f"{bos} $A {eos}", f"{bos} $A {eos} {bos and 'bos:1'} $B:1 {eos and 'eos:1'}")
    else:
        frame = frame_of(given)
    used = {part.partition(":")[0] for part in " ".join(frame or ()).split() if not part.startswith("$")}
    if frame and (not wait or all(backend.token_to_id(names.get(name, "")) is not None for name in used)):
        set_frame(backend, frame, names)


# ---- All of them

CONVERTERS: dict[str, Callable[[Original], Backend]] = {
    "wordpiece": convert_wordpiece,
    "sentencepiece": convert_sentencepiece,
    "bytelevel": convert_bytelevel,
    "tiktoken": convert_tiktoken,
    "tekken": convert_tekken,
    "clip": convert_clip,
    "wordbpe": convert_wordbpe,
    "wordlevel": convert_wordlevel,
    "bytes": convert_bytes,
    "codepoints": convert_codepoints,
}


def _alone(source: Any) -> str | None:
    """The converter of a vocabulary that is whole in one file, whatever files its family has."""
    if not isinstance(source, str | Path):
        return None
    name = Path(source).name
    if name.endswith(".txt.gz") or (name.startswith("tekken") and name.endswith(".json")):
        return "clip" if name.endswith(".gz") else "tekken"
    return "tiktoken" if looks_like_tiktoken(source) else None


def convert(
    sources: Mapping[str, Any], family: Family, special: Mapping[str, str], settings: Mapping[str, Any], what: str
) -> Backend:
    """The tokenizer of a family's original files. what: how an error calls the class; for the rest see Original.

    Raises TypeError for a missing source, ValueError for a damaged one and for a family whose files are not known.
    """
    if family.kind not in CONVERTERS:
        raise ValueError(f"It is not known how {what} splits text; it needs a tokenizer.json.")
    there = {name: source for name, source in sources.items() if source is not None}
    alone = _alone(there.get("vocab_file"))
    if lacking := [name for name in family.files if name not in there and not alone]:
        names = "; ".join(f"{name} ({' or '.join(family.files[name])})" for name in lacking)
        raise TypeError(f"{what} needs a vocabulary: {names}, or tokenizer_file, or tokenizer_object.")
    given = Original(family, special, settings, there)
    backend = CONVERTERS[alone or family.kind](given)
    if alone or family.kind not in ("wordpiece", "sentencepiece"):  # which do both themselves
        _add_flagged(backend, given)
        frame_texts(backend, given, wait=True)
    return backend
