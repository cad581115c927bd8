"""Tokenizer files on disk <-> the `tokenizers` library: what is read, converted once, and written.

`tokenizer.json` is read as it is. Only where it is missing is another file converted: WordPiece's `vocab.txt`, here.
"""

import json
import os
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from tokenizers import AddedToken, decoders, models, normalizers, pre_tokenizers, processors
from tokenizers import Tokenizer as Backend

from .hub import file_in, names_in

SPECIAL_TOKENS = ("bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token")
FLAGS = ("lstrip", "rstrip", "single_word", "normalized", "special")
WITH_TYPES = ("input_ids", "token_type_ids", "attention_mask")
WITHOUT_TYPES = ("input_ids", "attention_mask")
FILES = (
    "tokenizer.json tokenizer_config.json special_tokens_map.json added_tokens.json vocab.txt config.json "
    "chat_template.jinja"
).split()


class Family(NamedTuple):
    """What a tokenizer class adds to its files: special tokens and inputs that the files may leave unsaid."""

    special: Mapping[str, str] = {}
    inputs: tuple[str, ...] = WITH_TYPES
    padding_side: str = "right"
    wordpiece: bool = False


def _tokens(tokens: str) -> dict[str, str]:
    return {f"{name}_token": token for name, token in (pair.split("=") for pair in tokens.split())}


_BERT = _tokens("unk=[UNK] sep=[SEP] pad=[PAD] cls=[CLS] mask=[MASK]")
_ROBERTA = _tokens("bos=<s> eos=</s> unk=<unk> sep=</s> pad=<pad> cls=<s> mask=<mask>")
_GPT2 = _tokens("bos=<|endoftext|> eos=<|endoftext|> unk=<|endoftext|>")
_BERT_FAMILY = Family(_BERT, wordpiece=True)
FAMILIES: dict[str, Family] = {
    "BertTokenizer": _BERT_FAMILY,
    "ConvBertTokenizer": _BERT_FAMILY,
    "ElectraTokenizer": _BERT_FAMILY,
    "LayoutLMTokenizer": _BERT_FAMILY,
    "LxmertTokenizer": _BERT_FAMILY,
    "MobileBertTokenizer": _BERT_FAMILY,
    "SqueezeBertTokenizer": _BERT_FAMILY,
    "DistilBertTokenizer": Family(_BERT, WITHOUT_TYPES, wordpiece=True),
    "RobertaTokenizer": Family(_ROBERTA, WITHOUT_TYPES),
    "BartTokenizer": Family(_ROBERTA, WITHOUT_TYPES),
    "CamembertTokenizer": Family(_ROBERTA, WITHOUT_TYPES),
    "MPNetTokenizer": Family({**_ROBERTA, "unk_token": "[UNK]"}, WITHOUT_TYPES),
    "XLMRobertaTokenizer": Family(_ROBERTA, WITHOUT_TYPES),
    "AlbertTokenizer": Family({**_BERT, **_tokens("bos=[CLS] eos=[SEP] unk=<unk> pad=<pad>")}),
    "GPT2Tokenizer": Family(_GPT2, WITHOUT_TYPES),
    "WhisperTokenizer": Family(_GPT2, WITHOUT_TYPES),
    "T5Tokenizer": Family(_tokens("eos=</s> unk=<unk> pad=<pad>"), WITHOUT_TYPES),
    "LlamaTokenizer": Family(_tokens("bos=<s> eos=</s> unk=<unk>"), WITHOUT_TYPES, "left"),
}
# model_type in config.json -> tokenizer class, for folders whose tokenizer files name none
MODEL_TYPES: dict[str, str] = {
    **{name: f"{name.capitalize()}Tokenizer" for name in "bert electra roberta bart camembert albert whisper llama".split()},
    **{"convbert": "ConvBertTokenizer", "distilbert": "DistilBertTokenizer", "gpt2": "GPT2Tokenizer"},
    **{"layoutlm": "LayoutLMTokenizer", "lxmert": "LxmertTokenizer", "mobilebert": "MobileBertTokenizer"},
    **{"mpnet": "MPNetTokenizer", "squeezebert": "SqueezeBertTokenizer", "t5": "T5Tokenizer"},
    "xlm-roberta": "XLMRobertaTokenizer",
}


class TokenizerFiles(NamedTuple):
    """The parsed tokenizer files of one folder; a file that is not there is an empty dict, or None."""

    folder: Path
    tokenizer: Path | None  # tokenizer.json
    vocab: Path | None  # vocab.txt
    config: dict[str, Any]  # tokenizer_config.json
    special: dict[str, Any]  # special_tokens_map.json
    added: dict[str, Any]  # added_tokens.json
    model: dict[str, Any]  # config.json
    chat_template: str | None

    @property
    def class_name(self) -> str | None:
        """The tokenizer's class as its files name it, or as its model type implies, without "Fast"."""
        named = self.config.get("tokenizer_class") or self.model.get("tokenizer_class")
        return named.removesuffix("Fast") if isinstance(named, str) else MODEL_TYPES.get(str(self.model.get("model_type")))


def wanted_files(names: list[str]) -> list[str]:
    return [name for name in names if name in FILES]


def read_files(folder: Path) -> TokenizerFiles:
    """Everything but tokenizer.json itself, which read_backend reads. Raises FileNotFoundError without a vocabulary."""
    path = {name: file_in(folder, name) for name in FILES}
    if path["tokenizer.json"] is None and path["vocab.txt"] is None:
        there = names_in(folder)
        raise FileNotFoundError(
            f"{folder} holds no tokenizer: looked for tokenizer.json and vocab.txt; "
            + (f"there are {', '.join(there[:20])}{' ...' if len(there) > 20 else ''}." if there else "it is empty.")
        )
    read = {name: read_json(path[name]) for name in FILES if name.endswith(".json") and name != "tokenizer.json"}
    template = path["chat_template.jinja"]
    return TokenizerFiles(
        folder, path["tokenizer.json"], path["vocab.txt"], read["tokenizer_config.json"], read["special_tokens_map.json"],
        read["added_tokens.json"], read["config.json"], template.read_text(encoding="utf-8") if template else None,
    )  # fmt: skip


def read_json(path: Path | None) -> dict[str, Any]:
    if path is None:
        return {}
    try:
        value = json.loads(path.read_bytes())
    except (ValueError, RecursionError) as reason:
        raise ValueError(f"{path} is not JSON: {reason}.") from None
    if not isinstance(value, dict):
        raise ValueError(f"{path} must hold a JSON object, not a {type(value).__name__}.")
    return value


def read_backend(path: Path) -> Backend:
    """tokenizer.json as it is; raises ValueError where it contradicts itself about the id of a token."""
    data = path.read_bytes()
    try:
        backend = Backend.from_buffer(data)
    except BaseException as reason:  # a panic of the library is no Exception
        if isinstance(reason, KeyboardInterrupt | SystemExit | MemoryError):
            raise
        raise ValueError(f"{path} is not a tokenizer.json that can be read: {reason}.") from None
    text = data.decode()
    if found := re.search(r'"added_tokens"\s*:\s*(?=\[)', text):
        for token in json.JSONDecoder().raw_decode(text, found.end())[0]:
            check_id(backend, token["content"], token["id"], path)
    frame = backend.encode("", add_special_tokens=True)
    for token, token_id in zip(frame.tokens, frame.ids, strict=True):
        check_id(backend, token, token_id, path)
    return backend


def check_id(backend: Backend, token: str, token_id: int, path: Path) -> None:
    if backend.token_to_id(token) != token_id:
        raise ValueError(
            f"{path} contradicts itself: it gives token {token!r} the id {token_id}, but the vocabulary has "
            f"{backend.token_to_id(token)} for it."
        )


def parse_token(value: Any, where: str) -> AddedToken:
    """A special token as versions 4 and 5 write it: a string, or an object with its flags."""
    if isinstance(value, AddedToken):
        return value
    if isinstance(value, str):
        return AddedToken(value, special=True, normalized=False)
    content = value.get("content") if isinstance(value, Mapping) else None
    if not isinstance(content, str):
        raise ValueError(f"{where} must be a string or an object with 'content', not {value!r}.")
    return AddedToken(content, **{"special": True, **{flag: bool(value[flag]) for flag in FLAGS if flag in value}})


def add_missing(backend: Backend, tokens: Iterable[AddedToken]) -> int:
    """Puts tokens into the vocabulary, except those that stand in it as added tokens already; returns how many are new."""
    there = {token.content for token in backend.get_added_tokens_decoder().values()}
    size, missing = backend.get_vocab_size(), [token for token in tokens if token.content not in there]
    for token in missing:
        (backend.add_special_tokens if token.special else backend.add_tokens)([token])
    return backend.get_vocab_size() - size


def add_listed_tokens(backend: Backend, files: TokenizerFiles) -> None:
    """The tokens that tokenizer_config.json and added_tokens.json list and tokenizer.json (or vocab.txt) lacks."""
    listed: list[tuple[int, AddedToken, Path]] = []
    for key, value in (files.config.get("added_tokens_decoder") or {}).items():
        token = parse_token({"special": False, **value}, f"added_tokens_decoder[{key}]")
        listed.append((int(key), token, files.folder / "tokenizer_config.json"))
    special = {parse_token(value, name).content for name, value in special_values({**files.special, **files.config})}
    for content, token_id in files.added.items():
        token = AddedToken(content, special=content in special, normalized=content not in special)
        listed.append((int(token_id), token, files.folder / "added_tokens.json"))
    for token_id, token, path in sorted(listed, key=lambda entry: entry[0]):
        add_missing(backend, [token])
        check_id(backend, token.content, token_id, path)


def special_values(config: Mapping[str, Any]) -> list[tuple[str, Any]]:
    """(name, value) of each special token that a configuration names; extra ones under the list's name."""
    found = [(name, config[name]) for name in SPECIAL_TOKENS if config.get(name) is not None]
    for name in ("additional_special_tokens", "extra_special_tokens"):
        extra = config.get(name) or []
        found += extra.items() if isinstance(extra, Mapping) else [(name, value) for value in extra]
    return found


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


def set_bert_normalizer(backend: Backend, **changes: bool | None) -> None:
    """changes: lowercase, strip_accents, handle_chinese_chars; raises where the tokenizer has no BertNormalizer."""
    normalizer = backend.normalizer
    if not isinstance(normalizer, normalizers.BertNormalizer):
        raise ValueError(
            "do_lower_case, strip_accents and tokenize_chinese_chars change a BertNormalizer; this tokenizer has "
            f"{type(normalizer).__name__ if normalizer else 'no normalizer'}. Load it without them."
        )
    for name, value in changes.items():
        setattr(normalizer, name, value)
    backend.normalizer = normalizer  # type: ignore[assignment]


def write_text(path: Path, text: str) -> None:
    """Under another name first: a reader finds the old file or the new one, never half of one."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with open(temporary, "w", encoding="utf-8", newline="\n") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


# ---- Saving: methods of Tokenizer, which is their first argument


def save_pretrained(
    tokenizer,
    save_directory: str | Path,
    legacy_format: bool | None = None,
    filename_prefix: str | None = None,
    push_to_hub: bool = False,
    **options: Any,
) -> tuple[str, ...]:
    """Writes what Transformers reads; returns the paths. A field that nobody changed is written as it was loaded.

    options, with push_to_hub: repo_id, token, private, revision, commit_message, create_pr.
    """
    options = resolve_keywords(options, UPLOAD, "save_pretrained")
    folder, prefix = Path(save_directory), f"{filename_prefix}-" if filename_prefix else ""
    if folder.is_file():
        raise ValueError(f"{folder} is a file; save_pretrained needs a folder.")
    folder.mkdir(parents=True, exist_ok=True)
    texts = {
        "tokenizer_config.json": _json(tokenizer._saved_config()),
        "special_tokens_map.json": _json(tokenizer._saved_special_tokens()),
        "tokenizer.json": tokenizer._saved_backend(),
    }
    if isinstance(tokenizer.chat_template, str) and "chat_template" not in (tokenizer._files.config if tokenizer._files else ()):
        texts["chat_template.jinja"] = tokenizer.chat_template
    for name, text in texts.items():
        write_text(folder / (prefix + name), text)
    paths = (*(str(folder / (prefix + name)) for name in texts), *tokenizer.save_vocabulary(folder, filename_prefix))
    if push_to_hub:
        upload(folder, options.pop("repo_id", None) or folder.name, **options)
    return paths

def push_to_hub(tokenizer, repo_id: str, **options: Any) -> str:
    """options: token, private, revision, commit_message, create_pr. Returns the address."""
    options = resolve_keywords(options, UPLOAD, "push_to_hub")
    with TemporaryDirectory() as folder:
        tokenizer.save_pretrained(folder)
        return upload(Path(folder), repo_id, **options)

def save_vocabulary(tokenizer, save_directory: str | Path, filename_prefix: str | None = None) -> tuple[str, ...]:
    """vocab.txt of a WordPiece tokenizer; other kinds have all in tokenizer.json."""
    if type(tokenizer._tokenizer.model).__name__ != "WordPiece":
        return ()
    path = Path(save_directory) / (f"{filename_prefix}-" * bool(filename_prefix) + "vocab.txt")
    vocab = tokenizer._tokenizer.get_vocab(with_added_tokens=False)
    write_text(path, "".join(f"{token}\n" for token in sorted(vocab, key=vocab.__getitem__)))
    return (str(path),)

def _saved_backend(tokenizer) -> str:
    """tokenizer.json, with the cutting and padding that stood in the loaded file."""
    backend = tokenizer._tokenizer
    with tokenizer._lock:
        tokenizer._set_cut(None)
        try:
            if tokenizer._blocks[0]:
                backend.enable_truncation(**tokenizer._blocks[0])
            if tokenizer._blocks[1]:
                backend.enable_padding(**tokenizer._blocks[1])
            return backend.to_str(pretty=True)
        finally:
            tokenizer._set_cut(None)

def _state(tokenizer) -> dict[str, Any]:
    """The fields of tokenizer_config.json that may change after loading, as they are now."""
    names = ("model_max_length", "padding_side", "truncation_side", "model_input_names", "pad_token_type_id",
             "clean_up_tokenization_spaces", "split_special_tokens")  # fmt: skip
    named = {name: token for name, token in tokenizer.special_tokens_map.items() if name not in SPECIAL_TOKENS}
    state = {name: tokenizer._special[name] for name in SPECIAL_TOKENS} | {name: getattr(tokenizer, name) for name in names}
    state |= {EXTRA[0]: named, EXTRA[1]: list(tokenizer._extra), "chat_template": tokenizer.chat_template}
    return copy.deepcopy(state)

def _changes(tokenizer) -> dict[str, Any]:
    """Of _state, what differs from the files; everything that says something where there are none."""
    state = tokenizer._state()
    if tokenizer._loaded is None:
        return {name: value for name, value in state.items() if value not in (None, [], {}) and name != "chat_template"}
    return {name: value for name, value in state.items() if value != tokenizer._loaded[name]}

def _saved_config(tokenizer) -> dict[str, Any]:
    config, changes = {name: value for name, value in tokenizer.init_kwargs.items() if tokenizer._files or value is not None}, tokenizer._changes()
    if "chat_template" not in config:
        changes.pop("chat_template", None)  # it has a file of its own
    if EXTRA[1] in changes and isinstance(config.get(EXTRA[0]), list):
        changes[EXTRA[0]] = changes.pop(EXTRA[1])
    config |= changes
    if "added_tokens_decoder" in config:
        now = {str(index): {"content": token.content} | {flag: getattr(token, flag) for flag in FLAGS}
               for index, token in tokenizer.added_tokens_decoder.items()}  # fmt: skip
        was = {key: value.get("content") for key, value in config["added_tokens_decoder"].items()}
        if was != {key: value["content"] for key, value in now.items()}:
            config["added_tokens_decoder"] = now
    names = [base.__name__ for base in type(tokenizer).__mro__ if base.__name__ in CLASSES]
    config.setdefault("tokenizer_class", (tokenizer._files and tokenizer._files.class_name) or (names or ["PreTrainedTokenizerFast"])[0])
    return config

def _saved_special_tokens(tokenizer) -> dict[str, Any]:
    changes = tokenizer._changes()
    if tokenizer._files is not None and tokenizer._files.special:
        kept = {name: value for name, value in tokenizer._files.special.items() if changes.get(name, value) is not None}
        names = [name for name in (*SPECIAL_TOKENS, EXTRA[1]) if changes.get(name)]
    else:
        kept, names = {}, list(tokenizer.special_tokens_map_extended)
    for name in names:
        value = tokenizer.special_tokens_map_extended[name]
        kept[name] = [_token_json(token) for token in value] if isinstance(value, list) else _token_json(value)
    return kept


def _token_json(token: str | AddedToken) -> Any:
    """Its text where the flags are a special token's usual ones, else an object."""
    if isinstance(token, str) or not (token.lstrip or token.rstrip or token.single_word or token.normalized):
        return str(token)
    return {"content": token.content} | {flag: getattr(token, flag) for flag in FLAGS if flag != "special"}


def _json(value: Any) -> str:
    return json.dumps(value, indent=2, ensure_ascii=False, default=str) + "\n"


def _wordpiece(source: Any, special: Mapping[str, Any], asked: Mapping[str, Any]) -> Backend:
    return wordpiece(
        source if isinstance(source, Mapping) else read_vocab(Path(source)),
        {name: parse_token(special[name], name).content for name in ("unk_token", "cls_token", "sep_token")},
        lowercase=asked.get("do_lower_case", True),
        strip_accents=asked.get("strip_accents"),
        chinese_chars=asked.get("tokenize_chinese_chars", True),
        where="the vocabulary" if isinstance(source, Mapping) else source,
    )


def _converted(files: TokenizerFiles, asked: Mapping[str, Any], special: Mapping[str, Any], family: Family) -> Backend:
    """The tokenizer of a folder without tokenizer.json."""
    if not family.wordpiece:
        what = files.class_name or f"model_type {files.model.get('model_type')!r}"
        raise ValueError(f"{files.folder} has no tokenizer.json, and its vocab.txt cannot be converted: it is not known how {what} splits text.")
    return _wordpiece(files.vocab, special, asked)


