"""The tokenizer classes that users name, and how AutoTokenizer finds the one of a folder."""

import json
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tokenizers import AddedToken, Tokenizer as Backend

from .aliases import did_you_mean, rename_keywords, resolve_keywords
from .conversion import convert, frame_texts
from .families import FAMILIES, VOCABULARY_FILES, Family, Original
from .hub import fetch, file_in, find_gguf, names_in, only_gguf, write_file
from .sentencepiece import convert_sentencepiece, language_token
from .tokenizer import ALL_SETTINGS, BERT_SETTINGS, Tokenizer
from .tokenizer_files import (
    SPECIAL_TOKENS,
    TokenizerFiles,
    parse_token,
    read_backend,
    read_files,
    set_bert_normalizer,
    wanted_files,
)

# settings that say what stands around texts
FRAMING = ("src_lang", "legacy_behaviour", "add_bos_token", "add_eos_token", "language", "task", "predict_timestamps")
HUB_ARGUMENTS = ("revision", "subfolder", "cache_dir", "force_download", "local_files_only", "token")


class BertTokenizer(Tokenizer):
    """WordPiece as BERT has it.

    vocab (or vocab_file): a vocab.txt, or token -> id. do_lower_case, tokenize_chinese_chars: None means True for a
    vocabulary, and unchanged for a tokenizer_object.
    """

    family = FAMILIES["BertTokenizer"]

    def __init__(
        self,
        vocab_file: str | Path | Mapping[str, int] | None = None,
        do_lower_case: bool | None = None,
        unk_token: str | AddedToken = "[UNK]",
        sep_token: str | AddedToken = "[SEP]",
        pad_token: str | AddedToken | None = "[PAD]",
        cls_token: str | AddedToken = "[CLS]",
        mask_token: str | AddedToken | None = "[MASK]",
        tokenize_chinese_chars: bool | None = None,
        strip_accents: bool | None = None,
        *,
        vocab: str | Path | Mapping[str, int] | None = None,
        tokenizer_object: Backend | None = None,
        tokenizer_file: str | Path | None = None,
        do_basic_tokenize: bool = True,
        never_split: Iterable[str] | None = None,
        **settings: Any,
    ):
        if not do_basic_tokenize or never_split:
            raise ValueError("do_basic_tokenize=False and never_split are not supported; add_tokens keeps words whole.")
        special = {"unk_token": unk_token, "sep_token": sep_token, "pad_token": pad_token}
        special |= {"cls_token": cls_token, "mask_token": mask_token}
        asked = dict(zip(BERT_SETTINGS, (do_lower_case, strip_accents, tokenize_chinese_chars), strict=True))
        asked = {name: value for name, value in asked.items() if value is not None}
        if tokenizer_object is None and tokenizer_file is not None:
            tokenizer_object = read_backend(Path(tokenizer_file))
        if tokenizer_object is None:
            asked = {"do_lower_case": True, "strip_accents": None, "tokenize_chinese_chars": True} | asked
            sources = {"vocab_file": vocab if vocab is not None else vocab_file}
            named = {name: parse_token(token, name).content for name, token in special.items() if token is not None}
            tokenizer_object = convert(sources, self.family, named, asked, type(self).__name__)
        elif asked:
            set_bert_normalizer(tokenizer_object, **{BERT_SETTINGS[name]: value for name, value in asked.items()})
        super().__init__(tokenizer_object, **special, **settings)
        self.init_kwargs |= asked


class DistilBertTokenizer(BertTokenizer):
    family = FAMILIES["DistilBertTokenizer"]


class FamilyTokenizer(Tokenizer):
    """A class of the table in families.py, which says all that is its own.

    Takes its original files, by place or by name (vocab_file, merges_file; or vocab, merges, as version 5 calls them,
    which may also be what the files hold), or tokenizer_file, or tokenizer_object; then the settings of its family and
    those of every tokenizer.
    """

    def __init__(
        self,
        *sources: Any,
        tokenizer_object: Backend | None = None,
        tokenizer_file: str | Path | None = None,
        **settings: Any,
    ):
        family, name = self.family, type(self).__name__
        if len(sources) > len(family.files):
            raise TypeError(f"{name} takes {len(family.files)} files by place, got {len(sources)}.")
        given = dict(zip(family.files, sources, strict=False))
        for argument in family.files:
            for spelling in (argument, argument.removesuffix("_file")):
                if settings.get(spelling) is not None:
                    if given.get(argument) is not None:
                        raise TypeError(f"{name} got {argument} twice.")
                    given[argument] = settings[spelling]
                settings.pop(spelling, None)
        settings = resolve_keywords(settings, (*ALL_SETTINGS, *family.files, *family.settings), "tokenizer", name)
        own = {key: settings.pop(key) for key in family.settings if key in settings}
        if converted := tokenizer_object is None and tokenizer_file is None:
            named = {
                **family.special,
                **{key: settings[key] for key in SPECIAL_TOKENS if settings.get(key) is not None},
            }
            special = {key: parse_token(token, key).content for key, token in named.items()}
            tokenizer_object = convert(given, family, special, {**settings, **own}, name)
        super().__init__(tokenizer_object, tokenizer_file=tokenizer_file, **settings)
        self.init_kwargs |= own
        self._take_sources(given, own, converted)

    def _take_sources(self, sources: Mapping[str, Any], asked: Mapping[str, Any], converted: bool) -> None:
        if self.family.kind == "sentencepiece" and converted and not self._extra:
            named = self.special_tokens_map.values()
            added = self.added_tokens_decoder.values()  # language codes, <extra_id_0> and the like
            self._extra = [str(token) for token in added if token.special and str(token) not in named]
        named = [name for name in FRAMING if name in self.family.settings and asked.get(name) is not None]
        if named or (converted and self.family.kind != "sentencepiece"):  # whose converter has done it
            self._put_frame(wait=not named)

    def _put_frame(self, wait: bool = False, **asked: Any) -> None:
        """Puts the special tokens around texts that the settings name. wait: leaves it where one of them is lacking."""
        given = Original(self.family, self.special_tokens_map, {**self.init_kwargs, **asked})
        with self._lock:
            frame_texts(self.backend_tokenizer, given, wait)

    def _change_frame(self, **asked: Any) -> None:
        """Settings that say what stands around texts, from now on; unchanged where one of them is impossible."""
        self._put_frame(**asked)
        self.init_kwargs = {**self.init_kwargs, **asked}


class BosEosTokenizer(FamilyTokenizer):
    """Its texts may have a BOS token in front and an EOS token behind: add_bos_token, add_eos_token."""

    def _take_sources(self, sources: Mapping[str, Any], asked: Mapping[str, Any], converted: bool) -> None:
        ends = [name for name in ("add_bos_token", "add_eos_token") if asked.get(name) is not None]
        if converted or any(getattr(self, name) != asked[name] for name in ends):  # else the frame stays as it came
            super()._take_sources(sources, asked, converted)

    def _ends(self) -> list[int]:
        return self.build_inputs_with_special_tokens([])

    @property
    def add_bos_token(self) -> bool:
        return self.bos_token_id is not None and self._ends()[:1] == [self.bos_token_id]

    @add_bos_token.setter
    def add_bos_token(self, value: bool) -> None:
        self._set_ends(add_bos_token=value, add_eos_token=self.add_eos_token)

    @property
    def add_eos_token(self) -> bool:
        return self.eos_token_id is not None and self._ends()[self.add_bos_token :] == [self.eos_token_id]

    @add_eos_token.setter
    def add_eos_token(self, value: bool) -> None:
        self._set_ends(add_bos_token=self.add_bos_token, add_eos_token=value)

    def _set_ends(self, **asked: bool) -> None:
        for name, value in asked.items():
            if value and getattr(self, name[4:]) is None:
                raise ValueError(f"{name} needs a {name[4:]}; this tokenizer has none.")
        self._change_frame(**asked)


class TranslationTokenizer(FamilyTokenizer):
    """Its texts are framed by the token of their language: src_lang for inputs, tgt_lang for text_target."""

    @property
    def src_lang(self) -> str:
        """A language code such as "en_XX"; setting it changes what stands around texts."""
        return self.init_kwargs.get("src_lang") or self.family.options.get("src_lang", "")

    @src_lang.setter
    def src_lang(self, language: str) -> None:
        language_token(self.family, language)  # which raises
        self._change_frame(src_lang=language)

    @property
    def tgt_lang(self) -> str | None:
        return self.init_kwargs.get("tgt_lang")

    @tgt_lang.setter
    def tgt_lang(self, language: str | None) -> None:
        if language is not None:
            language_token(self.family, language)
        self.init_kwargs["tgt_lang"] = language

    @contextmanager
    def as_target_tokenizer(self) -> Iterator[Any]:
        language = self.tgt_lang
        if language is None:
            yield self
            return
        with self._lock:  # no other thread reads this frame
            self._put_frame(src_lang=language)
            try:
                yield self
            finally:
                self._put_frame()

    @property
    def lang_code_to_id(self) -> dict[str, int]:
        """The id of each language's token, what generate takes as forced_bos_token_id."""
        return {code: self.get_lang_id(code) for code in self.family.options["languages"]}

    def get_lang_token(self, lang: str) -> str:
        return language_token(self.family, lang)

    def get_lang_id(self, lang: str) -> int:
        return self.convert_tokens_to_ids(language_token(self.family, lang))


class MarianTokenizer(FamilyTokenizer):
    """Two SentencePiece models over one vocabulary: source.spm splits inputs, target.spm what stands in text_target."""

    family = FAMILIES["MarianTokenizer"]
    _sources: Mapping[str, Any]
    _target: Backend | None = None

    def __init__(self, *sources: Any, **settings: Any):
        self._sources = {}
        super().__init__(*sources, **settings)

    def _take_sources(self, sources: Mapping[str, Any], asked: Mapping[str, Any], converted: bool) -> None:
        super()._take_sources(sources, asked, converted)
        if sources.get("target_spm") is not None:
            self._sources = dict(sources)

    @contextmanager
    def as_target_tokenizer(self) -> Iterator[Any]:
        """ValueError where the tokenizer came without its target.spm."""
        with self._lock:
            if self._target is None:
                if not self._sources:
                    raise ValueError(
                        "This tokenizer has no target.spm, which splits text_target: load it from a folder that holds "
                        "source.spm, target.spm and vocab.json."
                    )
                given = Original(self.family, self.special_tokens_map, self.init_kwargs, self._sources)
                self._target = convert_sentencepiece(given, target=True)
            own, self._tokenizer = self._tokenizer, self._target
            try:
                yield self
            finally:
                self._tokenizer = own

    def save_vocabulary(self, save_directory: str | Path, filename_prefix: str | None = None) -> tuple[str, ...]:
        """The original files, without which text_target cannot be split and which Transformers reads alone."""
        prefix = f"{filename_prefix}-" if filename_prefix else ""
        paths = []
        for argument, source in self._sources.items():
            path = Path(save_directory) / f"{prefix}{self.family.files[argument][0]}"
            if isinstance(source, Mapping):
                write_file(path, json.dumps(source, ensure_ascii=False))
            elif Path(source).resolve() != path.resolve():
                write_file(path, Path(source).read_bytes())
            paths.append(str(path))
        return tuple(paths)


class WhisperTokenizer(FamilyTokenizer):
    """Texts begin with what they are: language ("french" or "fr"), task ("transcribe", "translate"), timestamps."""

    family = FAMILIES["WhisperTokenizer"]

    def set_prefix_tokens(
        self, language: str | None = None, task: str | None = None, predict_timestamps: bool | None = None
    ) -> None:
        """Changes what texts begin with; None leaves that part as it is."""
        asked = {"language": language, "task": task, "predict_timestamps": predict_timestamps}
        self._change_frame(**{name: value for name, value in asked.items() if value is not None})

    @property
    def prefix_tokens(self) -> list[int]:
        """The ids that texts begin with."""
        return self.build_inputs_with_special_tokens([])[:-1]


def class_of(name: str, family: Family) -> type[Tokenizer]:
    """The class of a row of the table."""
    if "languages" in family.options and "src_lang" in family.settings:
        base = TranslationTokenizer
    else:
        base = BosEosTokenizer if "add_bos_token" in family.settings else FamilyTokenizer
    body = {"family": family, "__module__": __name__, "__doc__": base.__doc__}
    return type(name, (base,), body)  # type: ignore[return-value]


CLASSES: dict[str, type[Tokenizer]] = {
    name: globals().get(name) or class_of(name, family) for name, family in FAMILIES.items()
}


def __getattr__(name: str) -> Any:
    """The classes of the table by their names; …Fast is another name of the same class."""
    found = CLASSES.get(name.removesuffix("Fast"))
    if found is None:
        raise AttributeError(f"plainformers has no tokenizer class {name!r}.{did_you_mean(name, CLASSES)}")
    return found


REGISTERED: dict[str, type] = {}  # model_type -> the class that a user registered


def _class_for(files: TokenizerFiles) -> type:
    name, model_type = files.class_name, files.model.get("model_type")
    if model_type in REGISTERED:
        return REGISTERED[model_type]
    nothing_said = name is None and model_type is None and files.tokenizer is None
    if name in CLASSES or not (nothing_said or (files.family or Family()).kind == "wordpiece"):
        return CLASSES.get(name or "", Tokenizer)
    return BertTokenizer


def load_tokenizer(
    name_or_path: str | Path, *, cls: type | None = None, model_type: str | None = None, **options: Any
) -> Any:
    """The tokenizer of a folder, a built-in name or a repository.

    options: revision, subfolder, cache_dir, force_download, local_files_only, token; ALL_SETTINGS, BERT_SETTINGS and
    those of the family, which go before the files; gguf_file: the name of a GGUF file, whose vocabulary is read (a path
    of such a file, or a folder that holds only one, needs no such name).
    cls: the class to make; Tokenizer itself means the one that the files name. model_type: for files that name none.
    Raises FileNotFoundError without a vocabulary, ValueError for a file that is damaged.
    """
    options.pop("use_fast", None)  # there is one kind
    options = rename_keywords(options, "from_pretrained")
    where = {name: options.pop(name) for name in HUB_ARGUMENTS if name in options}
    if (path := find_gguf(name_or_path, options.pop("gguf_file", None), **where)) is not None:
        return load_gguf(path, name_or_path, options)
    others = ("tokenizer.json", *VOCABULARY_FILES)
    folder = fetch(name_or_path, lambda names: wanted_files(names) + only_gguf(names, others), **where)
    for found in only_gguf(names_in(folder), others):
        return load_gguf(file_in(folder, found), name_or_path, options)
    files = read_files(folder)
    if model_type is not None and "model_type" not in files.model:
        files = files._replace(model={**files.model, "model_type": model_type})
    cls = _class_for(files) if cls in (None, Tokenizer) else cls
    allowed = (*HUB_ARGUMENTS, *ALL_SETTINGS, *BERT_SETTINGS, *cls.family.settings)
    tokenizer = cls.from_files(files, resolve_keywords(options, allowed, "from_pretrained"))
    tokenizer.name_or_path = str(name_or_path)
    return tokenizer


def load_gguf(path: Any, name_or_path: str | Path, options: dict[str, Any]) -> Tokenizer:
    """The tokenizer inside a GGUF file."""
    from .gguf_tokenizer import tokenizer_from_gguf

    backend, found = tokenizer_from_gguf(path)
    settings = {**found, **resolve_keywords(options, ALL_SETTINGS, "from_pretrained")}
    tokenizer = Tokenizer(backend, **{name: value for name, value in settings.items() if name in ALL_SETTINGS})
    tokenizer.name_or_path = str(name_or_path)
    return tokenizer


class AutoTokenizer:
    """from_pretrained gives a tokenizer of the class that the files name."""

    def __init__(self, *args: Any, **keywords: Any):
        raise TypeError("AutoTokenizer makes tokenizers: call AutoTokenizer.from_pretrained(name).")

    @staticmethod
    def from_pretrained(
        pretrained_model_name_or_path: str | Path,
        *,
        config: Any = None,
        tokenizer_type: str | None = None,
        **options: Any,
    ) -> Any:
        model_type = tokenizer_type or getattr(config, "model_type", None)
        return load_tokenizer(pretrained_model_name_or_path, model_type=model_type, **options)

    @staticmethod
    def register(
        config_class: Any,
        slow_tokenizer_class: type | None = None,
        fast_tokenizer_class: type | None = None,
        *,
        tokenizer_class: type | None = None,
        exist_ok: bool = False,
    ) -> None:
        """Makes folders of a config's model_type (or of the model_type itself) load with a class, a Tokenizer."""
        chosen = tokenizer_class or fast_tokenizer_class or slow_tokenizer_class
        if not (isinstance(chosen, type) and issubclass(chosen, Tokenizer)):
            raise TypeError(f"register needs a subclass of Tokenizer, got {chosen!r}.")
        model_type = config_class if isinstance(config_class, str) else config_class.model_type
        if REGISTERED.get(model_type, chosen) is not chosen and not exist_ok:
            raise ValueError(
                f"{model_type!r} is registered to {REGISTERED[model_type].__name__}; exist_ok=True replaces it."
            )
        REGISTERED[model_type] = chosen
