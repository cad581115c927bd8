"""Tokenizer files on disk <-> the `tokenizers` library: what is read, converted once, and written.

`tokenizer.json` is read as it is. Only where it is missing are original files converted, in conversion.py.
"""

import copy
import json
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

from tokenizers import AddedToken, Tokenizer as Backend, models, normalizers

from .aliases import resolve_keywords
from .families import FAMILIES, VOCABULARY_FILES, Family
from .hub import file_in, names_in, read_json, upload, write_file
from .logging import once
from .registry import TOKENIZERS

SPECIAL_TOKENS = ("bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token")
FLAGS = ("lstrip", "rstrip", "single_word", "normalized", "special")
EXTRA = ("extra_special_tokens", "additional_special_tokens")  # versions 5 and 4
SETTINGS = (
    "model_max_length",
    "padding_side",
    "truncation_side",
    "model_input_names",
    "pad_token_type_id",
    "clean_up_tokenization_spaces",
    "split_special_tokens",
    "chat_template",
)
UPLOAD = ("repo_id", "token", "private", "revision", "commit_message", "create_pr")
FILES = (
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "config.json",
    "chat_template.jinja",
    "chat_template.json",
    *VOCABULARY_FILES,
)


class TokenizerFiles(NamedTuple):
    """The parsed tokenizer files of one folder; a file that is not there is an empty dict, or None."""

    folder: Path
    tokenizer: Path | None  # tokenizer.json
    vocabulary: dict[str, Path]  # original files by their names, such as vocab.txt
    config: dict[str, Any]  # tokenizer_config.json
    special: dict[str, Any]  # special_tokens_map.json
    added: dict[str, Any]  # added_tokens.json
    model: dict[str, Any]  # config.json
    chat_template: str | None

    @property
    def class_name(self) -> str | None:
        """The tokenizer's class as its files name it, or as its model type implies, without "Fast"."""
        named = self.config.get("tokenizer_class") or self.model.get("tokenizer_class")
        if isinstance(named, str):
            return named.removesuffix("Fast")
        return TOKENIZERS.get(str(self.model.get("model_type")))

    @property
    def family(self) -> Family | None:
        return FAMILIES.get(self.class_name or "")

    def sources(self, family: Family) -> dict[str, Path | None]:
        """The original files of a family, by the arguments of its class."""
        found = self.vocabulary
        return {
            argument: next((found[name] for name in names if name in found), None)
            for argument, names in family.files.items()
        }

    @property
    def settings(self) -> dict[str, Any]:
        """Both files' settings; as in Transformers, special_tokens_map.json goes first in what older versions saved."""
        if self.config.get("added_tokens_decoder"):
            return {**self.special, **self.config}
        return {**self.config, **{name: value for name, value in self.special.items() if value is not None}}


def wanted_files(names: list[str]) -> list[str]:
    return [name for name in names if name in FILES]


def read_files(folder: Path) -> TokenizerFiles:
    """Everything but tokenizer.json itself, which read_backend reads. Raises FileNotFoundError without a vocabulary."""
    path = {name: file_in(folder, name) for name in FILES}
    vocabulary = {name: found for name in VOCABULARY_FILES if (found := path[name]) is not None}
    files = TokenizerFiles(
        folder=folder,
        tokenizer=path["tokenizer.json"],
        vocabulary=vocabulary,
        config=read_if_there(path["tokenizer_config.json"]),
        special=read_if_there(path["special_tokens_map.json"]),
        added=read_if_there(path["added_tokens.json"]),
        model=read_if_there(path["config.json"]),
        chat_template=read_template(path["chat_template.jinja"], path["chat_template.json"]),
    )
    family = files.family or Family()
    if files.tokenizer is None and not vocabulary and not (family.kind and not family.files):
        there = names_in(folder)
        raise FileNotFoundError(
            f"{folder} holds no tokenizer: looked for tokenizer.json and original files "
            f"({', '.join(VOCABULARY_FILES)}); "
            + (f"there are {', '.join(there[:20])}{' ...' if len(there) > 20 else ''}." if there else "it is empty.")
        )
    return files


def read_template(jinja: Path | None, older: Path | None) -> str | None:
    """chat_template.jinja, or chat_template.json, which processors of version 4 wrote."""
    if jinja is not None:
        return jinja.read_text(encoding="utf-8")
    template = read_if_there(older).get("chat_template")
    if template is not None and not isinstance(template, str):
        raise ValueError(f"{older} must have a text as 'chat_template', not {template!r:.80}.")
    return template


def read_if_there(path: Path | None) -> dict[str, Any]:
    return {} if path is None else read_json(path)


def read_backend(path: Path) -> Backend:
    """tokenizer.json as it is; raises ValueError where it contradicts itself about the id of a token."""
    data = path.read_bytes()
    try:
        backend = Backend.from_buffer(data)
        frame = backend.encode("", add_special_tokens=True)
    except BaseException as reason:  # a panic of the library is no Exception
        if isinstance(reason, KeyboardInterrupt | SystemExit | MemoryError):
            raise
        raise ValueError(f"{path} is not a tokenizer.json that can be read: {reason}.") from None
    text = data.decode()
    if found := re.search(r'"added_tokens"\s*:\s*(?=\[)', text):
        for token in json.JSONDecoder().raw_decode(text, found.end())[0]:
            check_id(backend, token["content"], token["id"], path)
    columns = zip(frame.tokens, frame.ids, frame.special_tokens_mask, frame.attention_mask, strict=True)
    for token, token_id, special, real in columns:
        if special and real:
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
    """Adds the tokens that are not added tokens yet; returns by how many the vocabulary grew."""
    there = {token.content for token in backend.get_added_tokens_decoder().values()}
    size, missing = backend.get_vocab_size(), [token for token in tokens if token.content not in there]
    for token in missing:
        (backend.add_special_tokens if token.special else backend.add_tokens)([token])
    return backend.get_vocab_size() - size


def add_listed_tokens(backend: Backend, files: TokenizerFiles) -> None:
    """The tokens that tokenizer_config.json and added_tokens.json list and tokenizer.json (or vocab.txt) lacks."""
    listed: list[tuple[int, AddedToken, Path]] = []
    for key, value in (files.config.get("added_tokens_decoder") or {}).items():
        if not key.isdigit() or not isinstance(value, Mapping):
            raise ValueError(f"added_tokens_decoder must have ids and objects, not {key!r}: {value!r}.")
        token = parse_token({"special": False, **value}, f"added_tokens_decoder[{key}]")
        listed.append((int(key), token, files.folder / "tokenizer_config.json"))
    special = {parse_token(value, name).content for name, value in special_values(files.settings)}
    for content, token_id in files.added.items():
        if not isinstance(token_id, int):
            raise ValueError(f"added_tokens.json must give {content!r} a whole number, not {token_id!r}.")
        token = AddedToken(content, special=content in special, normalized=content not in special)
        listed.append((token_id, token, files.folder / "added_tokens.json"))
    for token_id, token, path in sorted(listed, key=lambda entry: entry[0]):
        add_missing(backend, [token])
        check_id(backend, token.content, token_id, path)


def special_values(config: Mapping[str, Any]) -> list[tuple[str, Any]]:
    """(name, value) of each special token that a configuration names; extra ones under the list's name."""
    found = [(name, config[name]) for name in SPECIAL_TOKENS if config.get(name) is not None]
    for name in EXTRA:
        extra = config.get(name) or []
        if not isinstance(extra, Mapping | list | tuple):
            raise ValueError(f"{name} must be a list of tokens, or an object of names and tokens, not {extra!r}.")
        found += extra.items() if isinstance(extra, Mapping) else [(name, value) for value in extra]
    return found


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


# ---- Saving; where a function's first argument is the tokenizer, it is a method of Tokenizer


def save_pretrained(
    tokenizer: Any,
    save_directory: str | Path,
    legacy_format: bool | None = None,
    filename_prefix: str | None = None,
    push_to_hub: bool = False,
    **options: Any,
) -> tuple[str, ...]:
    """Writes what Transformers reads; returns the paths. A field that nobody changed is written as it was loaded.

    legacy_format is accepted and not needed. options, with push_to_hub: repo_id, token, private, revision,
    commit_message, create_pr.
    """
    options = resolve_keywords(options, UPLOAD, "save_pretrained")
    folder, prefix = Path(save_directory), f"{filename_prefix}-" if filename_prefix else ""
    if folder.is_file():
        raise ValueError(f"{folder} is a file; save_pretrained needs a folder.")
    folder.mkdir(parents=True, exist_ok=True)
    changes = _changes(tokenizer)
    config = _saved_config(tokenizer, changes)
    texts = {
        "tokenizer_config.json": _json(config),
        "special_tokens_map.json": _json(_saved_special_tokens(tokenizer, changes)),
        "tokenizer.json": tokenizer.to_json(),
    }
    if isinstance(tokenizer.chat_template, str) and "chat_template" not in config:
        texts["chat_template.jinja"] = tokenizer.chat_template
    for name, text in texts.items():
        write_file(folder / (prefix + name), text)
    paths = *(str(folder / (prefix + name)) for name in texts), *tokenizer.save_vocabulary(folder, filename_prefix)
    if push_to_hub:
        upload(folder, options.pop("repo_id", None) or folder.name, **options)
    return paths


def push_to_hub(tokenizer: Any, repo_id: str, **options: Any) -> str:
    """options: token, private, revision, commit_message, create_pr. Returns the address."""
    options = resolve_keywords({"repo_id": repo_id, **options}, UPLOAD, "push_to_hub")
    with TemporaryDirectory() as folder:
        tokenizer.save_pretrained(folder)
        return upload(folder, **options)


def save_vocabulary(tokenizer: Any, save_directory: str | Path, filename_prefix: str | None = None) -> tuple[str, ...]:
    """vocab.txt of a WordPiece or word-level tokenizer; other kinds have all in tokenizer.json."""
    backend: Backend = tokenizer.backend_tokenizer
    listed = "vocab.txt" in tokenizer.family.files.get("vocab_file", ())
    if not (isinstance(backend.model, models.WordPiece) or (listed and isinstance(backend.model, models.WordLevel))):
        return ()
    path = Path(save_directory) / (f"{filename_prefix}-vocab.txt" if filename_prefix else "vocab.txt")
    vocab = backend.get_vocab(with_added_tokens=False)
    tokens = sorted(vocab, key=vocab.__getitem__)
    if vocab[tokens[-1]] != len(tokens) - 1 or any("\n" in token for token in tokens):
        once("vocab.txt cannot hold this vocabulary (ids have gaps, or a token a line's end) and is not written.")
        return ()
    write_file(path, "".join(f"{token}\n" for token in tokens))
    return (str(path),)


def current_settings(tokenizer: Any) -> dict[str, Any]:
    """The fields of tokenizer_config.json that may change after loading, as they are now."""
    special = tokenizer.special_tokens_map
    now = {name: getattr(tokenizer, name) for name in (*SPECIAL_TOKENS, *SETTINGS)}
    now[EXTRA[0]] = {name: token for name, token in special.items() if name not in SPECIAL_TOKENS}
    return copy.deepcopy({**now, EXTRA[1]: tokenizer.extra_special_tokens})


def _changes(tokenizer: Any) -> dict[str, Any]:
    """What differs from the files; all that says something where there are none."""
    now = current_settings(tokenizer)
    if tokenizer.as_loaded is None:
        return {name: value for name, value in now.items() if value not in (None, [], {}) and name != "chat_template"}
    return {name: value for name, value in now.items() if value != tokenizer.as_loaded[name]}


def _saved_config(tokenizer: Any, changes: Mapping[str, Any]) -> dict[str, Any]:
    config = {name: value for name, value in tokenizer.init_kwargs.items() if tokenizer.files or value is not None}
    changes = dict(changes)
    if "chat_template" not in config:
        changes.pop("chat_template", None)  # it has a file of its own
    if EXTRA[1] in changes and isinstance(config.get(EXTRA[0]), list):
        changes[EXTRA[0]] = changes.pop(EXTRA[1])
    config |= changes
    if listed := config.get("added_tokens_decoder"):
        now = {str(index): token for index, token in tokenizer.added_tokens_decoder.items()}
        if {key: value.get("content") for key, value in listed.items()} != {key: str(now[key]) for key in now}:
            flags = {key: {flag: getattr(token, flag) for flag in FLAGS} for key, token in now.items()}
            config["added_tokens_decoder"] = {key: {"content": str(now[key]), **flags[key]} for key in now}
    config.setdefault("tokenizer_class", tokenizer.class_name)
    return config


def _saved_special_tokens(tokenizer: Any, changes: Mapping[str, Any]) -> dict[str, Any]:
    now = tokenizer.special_tokens_map_extended
    kept, names = {}, list(now)
    if tokenizer.files and tokenizer.files.special:
        kept = {name: value for name, value in tokenizer.files.special.items() if changes.get(name, value) is not None}
        names = [name for name in now if name in changes]
    for name in names:
        kept[name] = [_token_json(token) for token in now[name]] if name == EXTRA[1] else _token_json(now[name])
    return kept


def _token_json(token: str | AddedToken) -> Any:
    """Its text where the flags are a special token's usual ones, else an object."""
    if isinstance(token, str) or not (token.lstrip or token.rstrip or token.single_word or token.normalized):
        return str(token)
    return {"content": token.content} | {flag: getattr(token, flag) for flag in FLAGS if flag != "special"}


def _json(value: Any) -> str:
    return json.dumps(value, indent=2, ensure_ascii=False, default=str) + "\n"
