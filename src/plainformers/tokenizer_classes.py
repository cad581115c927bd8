"""The tokenizer classes that users name, and how AutoTokenizer finds the one of a folder."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from tokenizers import AddedToken, Tokenizer as Backend

from .aliases import did_you_mean, rename_keywords, resolve_keywords
from .conversion import convert
from .families import FAMILIES, Family
from .hub import fetch, file_in, names_in
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
        if tokenizer_object is None and tokenizer_file is None:
            named = {
                **family.special,
                **{key: settings[key] for key in SPECIAL_TOKENS if settings.get(key) is not None},
            }
            special = {key: parse_token(token, key).content for key, token in named.items()}
            tokenizer_object = convert(given, family, special, {**settings, **own}, name)
        super().__init__(tokenizer_object, tokenizer_file=tokenizer_file, **settings)
        self.init_kwargs |= own


CLASSES: dict[str, type[Tokenizer]] = {
    name: type(name, (FamilyTokenizer,), {"family": family, "__module__": __name__, "__doc__": FamilyTokenizer.__doc__})
    for name, family in FAMILIES.items()
}
CLASSES |= {"BertTokenizer": BertTokenizer, "DistilBertTokenizer": DistilBertTokenizer}


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
    those of the family, which go before the files; gguf_file: the name of a GGUF file, whose vocabulary is read.
    cls: the class to make; Tokenizer itself means the one that the files name. model_type: for files that name none.
    Raises FileNotFoundError without a vocabulary, ValueError for a file that is damaged.
    """
    options.pop("use_fast", None)  # there is one kind
    options = rename_keywords(options, "from_pretrained")
    where = {name: options.pop(name) for name in HUB_ARGUMENTS if name in options}
    if (gguf_file := options.pop("gguf_file", None)) is not None:
        return load_gguf(name_or_path, gguf_file, options, where)
    files = read_files(fetch(name_or_path, wanted_files, **where))
    if model_type is not None and "model_type" not in files.model:
        files = files._replace(model={**files.model, "model_type": model_type})
    cls = _class_for(files) if cls in (None, Tokenizer) else cls
    allowed = (*HUB_ARGUMENTS, *ALL_SETTINGS, *BERT_SETTINGS, *cls.family.settings)
    tokenizer = cls.from_files(files, resolve_keywords(options, allowed, "from_pretrained"))
    tokenizer.name_or_path = str(name_or_path)
    return tokenizer


def load_gguf(name_or_path: str | Path, gguf_file: str, options: dict[str, Any], where: dict[str, Any]) -> Tokenizer:
    """The tokenizer inside a GGUF file of a folder or a repository."""
    from .gguf_tokenizer import tokenizer_from_gguf

    folder = fetch(name_or_path, lambda names: [name for name in names if name == gguf_file], **where)
    path = file_in(folder, gguf_file)
    if path is None:
        there = ", ".join(name for name in names_in(folder) if name.endswith(".gguf"))
        raise FileNotFoundError(f"{folder} has no {gguf_file!r}; of GGUF files there is {there or 'none'}.")
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
