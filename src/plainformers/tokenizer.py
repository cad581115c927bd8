"""Text to token ids and back: special tokens, cutting, padding and files, around the `tokenizers` library.

Names, arguments and saved files are those of Transformers. `tokenizer.json` is loaded as it is, except that it neither
cuts nor pads by itself: the call decides. Padding is done per row; how it cuts is the library's one shared state and is
set under a lock, so that threads may share a tokenizer. torch and numpy are imported only when tensors are asked for.
"""

import threading
from collections.abc import Callable, Iterable, Mapping
from contextlib import nullcontext
from pathlib import Path
from typing import Any

from tokenizers import AddedToken, Encoding, Tokenizer as Backend

from .aliases import did_you_mean, resolve_keywords, unknown_argument
from .chat import RenderedChat, apply_chat_template, encode_protected, get_chat_template
from .conversion import convert
from .encoding import (
    BatchEncoding,
    Call,
    as_id_lists,
    check_limit,
    check_side,
    explain_ids,
    explain_text,
    finish,
    is_batch,
    make_encoding,
    pad,
    pair_up,
    plan,
    truncate_sequences,
)
from .families import FAMILIES, Family
from .tokenizer_files import (
    EXTRA,
    SETTINGS,
    SPECIAL_TOKENS,
    TokenizerFiles,
    add_listed_tokens,
    add_missing,
    current_settings,
    parse_token,
    push_to_hub,
    read_backend,
    save_pretrained,
    save_vocabulary,
    set_bert_normalizer,
    special_values,
)

ALL_SETTINGS = (*SPECIAL_TOKENS, *EXTRA, *SETTINGS, "name_or_path")
BERT_SETTINGS = {  # -> what BertNormalizer calls it
    "do_lower_case": "lowercase",
    "strip_accents": "strip_accents",
    "tokenize_chinese_chars": "handle_chinese_chars",
}
PLAIN = Call()
CALL_ARGUMENTS = ("text", "text_pair", "text_target", "text_pair_target", *Call._fields)


def _special(name: str) -> tuple[property, property]:
    """The properties NAME (its text) and NAME_id (None when there is none, or when the vocabulary lacks it)."""

    def get(self: "Tokenizer") -> str | None:
        return self._special.get(name)

    def put(self: "Tokenizer", value: str | AddedToken | None) -> None:
        self._set_special(name, value)

    def get_id(self: "Tokenizer") -> int | None:
        token = self._special.get(name)
        return None if token is None else self._tokenizer.token_to_id(token)

    def put_id(self: "Tokenizer", value: int | None) -> None:
        token = None if value is None else self._tokenizer.id_to_token(value)
        if token is None and value is not None:
            raise ValueError(f"{name}_id={value}: the vocabulary has no such id.")
        self._special[name] = token

    return property(get, put), property(get_id, put_id)


class Tokenizer:
    """A tokenizer of the `tokenizers` library with the interface of Transformers.

    tokenizer_object is kept, not copied, and stops cutting and padding by itself. A special token that the vocabulary
    lacks is added to it. settings: see ALL_SETTINGS.
    """

    family = Family()  # what a class adds to its files
    is_fast = True

    bos_token, bos_token_id = _special("bos_token")
    eos_token, eos_token_id = _special("eos_token")
    unk_token, unk_token_id = _special("unk_token")
    sep_token, sep_token_id = _special("sep_token")
    pad_token, pad_token_id = _special("pad_token")
    cls_token, cls_token_id = _special("cls_token")
    mask_token, mask_token_id = _special("mask_token")

    def __init__(
        self, tokenizer_object: Backend | None = None, *, tokenizer_file: str | Path | None = None, **settings: Any
    ):
        settings = resolve_keywords(settings, ALL_SETTINGS, "tokenizer", type(self).__name__)
        if tokenizer_object is None and tokenizer_file is not None:
            tokenizer_object = read_backend(Path(tokenizer_file))
        if not isinstance(tokenizer_object, Backend):
            what, came = type(self).__name__, type(tokenizer_object).__name__
            raise TypeError(
                f"{what} needs a tokenizers.Tokenizer as tokenizer_object, or a tokenizer_file, not {came}."
            )
        self._tokenizer = tokenizer_object
        self._lock = threading.RLock()
        self._blocks = (tokenizer_object.truncation, tokenizer_object.padding)  # saved back, never acted on
        tokenizer_object.no_truncation()
        tokenizer_object.no_padding()
        self.files: TokenizerFiles | None = None
        self.as_loaded: dict[str, Any] | None = None  # current_settings as the files gave them
        self.init_kwargs = dict(settings)
        self.model_max_length = check_limit(settings.get("model_max_length"))
        self.padding_side: str = check_side(settings.get("padding_side") or self.family.padding_side, "padding_side")
        self.truncation_side: str = check_side(settings.get("truncation_side") or "right", "truncation_side")
        self.model_input_names = list(settings.get("model_input_names") or self.family.inputs)
        types = settings.get("pad_token_type_id")
        self.pad_token_type_id: int = self.family.options.get("pad_token_type_id", 0) if types is None else types
        self.clean_up_tokenization_spaces = bool(settings.get("clean_up_tokenization_spaces"))
        self.split_special_tokens = bool(settings.get("split_special_tokens"))
        self.chat_template = settings.get("chat_template")
        self.name_or_path = str(settings.get("name_or_path") or "")
        self._special: dict[str, str | None] = dict.fromkeys(SPECIAL_TOKENS)
        self._extra: list[str] = []
        self._take_special_tokens(settings)

    def _take_special_tokens(self, settings: Mapping[str, Any]) -> None:
        """Those of the family count only where the vocabulary has them; those that were asked for are added to it."""
        named, tokens = {**self.family.special, **{n: v for n, v in settings.items() if n in SPECIAL_TOKENS}}, []
        if "pad_token" not in named and self._blocks[1]:
            named["pad_token"] = self._blocks[1]["pad_token"]
        for name, value in special_values({name: settings[name] for name in EXTRA if name in settings}):
            if name in EXTRA:
                tokens.append(parse_token(value, name))
            else:
                named[name] = value
        self._extra = list(dict.fromkeys(token.content for token in tokens))
        for name, value in named.items():
            if value is None:
                self._special[name] = None
                continue
            token = parse_token(value, name)
            if token.content != self.family.special.get(name) or self._tokenizer.token_to_id(token.content) is not None:
                self._special[name] = token.content
                tokens.append(token)
        add_missing(self._tokenizer, tokens)

    def __getattr__(self, name: str) -> Any:
        """Special tokens that only this tokenizer has, such as image_token, and their ids."""
        special, base = self.__dict__.get("_special", {}), name.removesuffix("_id")
        if base not in special:
            raise AttributeError(f"{type(self).__name__} has no {name!r}.{did_you_mean(name, dir(type(self)))}")
        token = special[base]
        return token if base == name or token is None else self._tokenizer.token_to_id(token)

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in self.__dict__.items() if name != "_lock"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state, _lock=threading.RLock())

    def __len__(self) -> int:
        return self._tokenizer.get_vocab_size()

    def __repr__(self) -> str:
        special = ", ".join(f"{name}={token!r}" for name, token in self.special_tokens_map.items())
        limit = f"model_max_length={self.model_max_length}"
        return f"{type(self).__name__}({self.name_or_path!r}, {len(self)} tokens, {limit}, {special})"

    # ---- Text to ids

    def __call__(
        self,
        text: Any = None,
        text_pair: Any = None,
        text_target: Any = None,
        text_pair_target: Any = None,
        add_special_tokens: bool = True,
        padding: bool | str | None = False,
        truncation: bool | str | None = None,
        max_length: int | None = None,
        stride: int = 0,
        is_split_into_words: bool = False,
        pad_to_multiple_of: int | None = None,
        padding_side: str | None = None,
        return_tensors: str | None = None,
        return_token_type_ids: bool | None = None,
        return_attention_mask: bool | None = None,
        return_overflowing_tokens: bool = False,
        return_special_tokens_mask: bool = False,
        return_offsets_mapping: bool = False,
        return_length: bool = False,
        verbose: bool = True,
        **unknown: Any,
    ) -> BatchEncoding:
        """Encodes a text, a list of texts, a list of (text, pair), or words with is_split_into_words=True.

        max_length and stride count tokens, max_length the special ones too. text_target becomes `labels`, or stands for
        text where that is None. Raises for misspelt arguments, for what is no text, for padding without a pad token.
        """
        if unknown:
            raise unknown_argument(next(iter(unknown)), CALL_ARGUMENTS, type(self).__name__)
        call = Call(
            add_special_tokens, padding, truncation, max_length, stride, is_split_into_words, pad_to_multiple_of,
            padding_side, return_tensors, return_token_type_ids, return_attention_mask, return_overflowing_tokens,
            return_special_tokens_mask, return_offsets_mapping, return_length, verbose,
        )  # fmt: skip
        if call == PLAIN and text_pair is None and text_target is None and type(text) is str:
            return self._encode_plain(text, call)
        if text is None and text_target is not None:
            return self._encode_target(text_target, text_pair_target, call)
        encoded = self._encode(text, text_pair, call)
        if text_target is not None:
            encoded["labels"] = self._encode_target(text_target, text_pair_target, call)["input_ids"]
        return encoded

    def _encode_target(self, text: Any, pair: Any, call: Call) -> BatchEncoding:
        with self.as_target_tokenizer():
            return self._encode(text, pair, call)

    def _encode_plain(self, text: str, call: Call) -> BatchEncoding:
        """One text and nothing asked for: what _encode gives, without looking at what was not asked."""
        try:
            encoding = self._run(None, self._tokenizer.encode, text)
        except Exception as reason:
            raise explain_text(reason, text, None, False) from None
        names, data = self.model_input_names, {"input_ids": encoding.ids}
        if len(data["input_ids"]) > self.model_max_length:
            return finish(self, [encoding], False, None, None, call)  # which says so
        if "token_type_ids" in names:
            data["token_type_ids"] = encoding.type_ids
        if "attention_mask" in names:
            data["attention_mask"] = encoding.attention_mask
        return BatchEncoding(data, [encoding])

    def _encode(self, text: Any, pair: Any, call: Call) -> BatchEncoding:
        words, backend = call.is_split_into_words, self._tokenizer
        prompts = [text] if isinstance(text, str) else text
        if isinstance(prompts, (list, tuple)) and any(isinstance(prompt, RenderedChat) for prompt in prompts):
            return self._encode_prompts(prompts, pair, call._replace(add_special_tokens=False), prompts is text)
        batched = not isinstance(text, str) and is_batch(text, words)
        inputs = pair_up(text, pair, words) if batched else []
        two = pair is not None or (bool(inputs) and not words and not isinstance(inputs[0], str))
        cut, pad = plan(self, call, two)
        try:
            if batched:
                encodings = self._run(cut, backend.encode_batch, inputs, words, call.add_special_tokens)
            else:
                encodings = [self._run(cut, backend.encode, text, pair, words, call.add_special_tokens)]
        except Exception as reason:
            raise explain_text(reason, text, pair, words) from None
        return finish(self, encodings, batched, cut, pad, call)

    def _encode_prompts(self, prompts: Any, pair: Any, call: Call, batched: bool) -> BatchEncoding:
        """Texts that a chat template made: they hold their special tokens, so none is added."""
        if pair is not None or not all(isinstance(prompt, RenderedChat) for prompt in prompts):
            raise ValueError("Prompts of a chat template are encoded by themselves, without pairs and other texts.")
        cut, pad = plan(self, call, False)
        encodings = [self._run(None, encode_protected, self._tokenizer, prompt) for prompt in prompts]
        for encoding in encodings if cut else ():
            encoding.truncate(cut["max_length"], cut["stride"], cut["direction"])  # type: ignore[index]
        return finish(self, encodings, batched, cut, pad, call)

    def _run(self, cut: dict[str, Any] | None, function: Callable[..., Any], *arguments: Any) -> Any:
        """Calls the library while it cuts as asked; a panic of it, which is no Exception, becomes a ValueError."""
        try:
            with self._lock:
                self._set_cut(cut)
                return function(*arguments)
        except BaseException as reason:
            if type(reason).__name__ != "PanicException":
                raise
            raise ValueError(f"The tokenizers library gave up: {reason}.") from None

    def _set_cut(self, cut: dict[str, Any] | None) -> None:
        """Under the lock: how to cut, and whether special tokens are looked for in texts, is the library's state."""
        backend = self._tokenizer
        if backend.truncation != cut:
            backend.enable_truncation(**cut) if cut else backend.no_truncation()
        if backend.padding is not None:
            backend.no_padding()
        if backend.encode_special_tokens != self.split_special_tokens:
            backend.encode_special_tokens = self.split_special_tokens

    def need_pad_token(self) -> int:
        """The id; raises ValueError without one."""
        if self.pad_token_id is None:
            known = f"pad_token={self.pad_token!r} is not in the vocabulary"
            what = known if self.pad_token else "this tokenizer has no pad_token"
            raise ValueError(
                f"Padding is not possible: {what}. Take one that is there (tokenizer.pad_token = tokenizer.eos_token), "
                f"or add one (tokenizer.add_special_tokens({{'pad_token': {self.pad_token or '[PAD]'!r}}}), then "
                "model.resize_token_embeddings(len(tokenizer))."
            )
        return self.pad_token_id

    def encode(self, text: Any, text_pair: Any = None, add_special_tokens: bool = True, **options: Any) -> Any:
        """Only the ids. options: further arguments of a call."""
        return self(text, text_pair, add_special_tokens=add_special_tokens, **options)["input_ids"]

    def encode_plus(self, text: Any, text_pair: Any = None, **options: Any) -> BatchEncoding:
        return self(text, text_pair, **options)

    def batch_encode_plus(self, batch_text_or_text_pairs: Any, **options: Any) -> BatchEncoding:
        return self(batch_text_or_text_pairs, **options)

    def as_target_tokenizer(self) -> Any:
        """Within it, texts are what a model writes, as text_target is: of the target language, where that counts."""
        return nullcontext(self)

    def tokenize(self, text: Any, pair: Any = None, add_special_tokens: bool = False, **options: Any) -> list[str]:
        return self(text, pair, add_special_tokens=add_special_tokens, verbose=False, **options).tokens()

    # ---- Ids that are made already

    def prepare_for_model(self, ids: list[int], pair_ids: list[int] | None = None, **options: Any) -> BatchEncoding:
        """Frames, cuts and pads one row of ids as a call would. options: arguments of a call, prepend_batch_axis."""
        options = resolve_keywords(options, (*Call._fields, "prepend_batch_axis"), "prepare_for_model")
        kind, rows = options.pop("return_tensors", None), options.pop("prepend_batch_axis", False)
        call = Call(**options)
        cut, pad = plan(self, call, pair_ids is not None)
        encoding = self._frame(ids, pair_ids, cut, call.add_special_tokens)
        return finish(self, [encoding], False, cut, pad, call).convert_to_tensors(kind, rows)

    def _frame(
        self, ids: list[int], pair: list[int] | None, cut: Any = None, add_special_tokens: bool = True
    ) -> Encoding:
        def as_encoding(row: list[int]) -> Encoding:
            return make_encoding(row, [self._tokenizer.id_to_token(index) or "" for index in row])

        second = None if pair is None else as_encoding(pair)
        return self._run(cut, self._tokenizer.post_process, as_encoding(ids), second, add_special_tokens)

    def build_inputs_with_special_tokens(
        self, token_ids_0: list[int], token_ids_1: list[int] | None = None
    ) -> list[int]:
        return self._frame(token_ids_0, token_ids_1).ids

    def create_token_type_ids_from_sequences(
        self, token_ids_0: list[int], token_ids_1: list[int] | None = None
    ) -> list[int]:
        return self._frame(token_ids_0, token_ids_1).type_ids

    def get_special_tokens_mask(
        self, token_ids_0: list[int], token_ids_1: list[int] | None = None, already_has_special_tokens: bool = False
    ) -> list[int]:
        """1 = special. already_has_special_tokens: the ids are framed, else the mask is of what framing them gives."""
        if not already_has_special_tokens:
            return self._frame(token_ids_0, token_ids_1).special_tokens_mask
        special = set(self.all_special_ids)
        return [int(index in special) for index in token_ids_0]

    def num_special_tokens_to_add(self, pair: bool = False) -> int:
        return self._tokenizer.num_special_tokens_to_add(pair)

    @property
    def max_len_single_sentence(self) -> int:
        return self.model_max_length - self.num_special_tokens_to_add()

    @property
    def max_len_sentences_pair(self) -> int:
        return self.model_max_length - self.num_special_tokens_to_add(True)

    pad, truncate_sequences = pad, truncate_sequences
    apply_chat_template, get_chat_template = apply_chat_template, get_chat_template

    # ---- Ids to text

    def decode(
        self, token_ids: Any, skip_special_tokens: bool = False, clean_up_tokenization_spaces: bool | None = None
    ) -> Any:
        """The text of a row of ids; the list of texts of several rows, or of a BatchEncoding's."""
        ids = as_id_lists(token_ids)
        try:
            if ids and isinstance(ids[0], list):
                texts = self._tokenizer.decode_batch(ids, skip_special_tokens)
            else:
                texts = self._tokenizer.decode(ids, skip_special_tokens)
        except (OverflowError, TypeError) as reason:
            raise explain_ids(ids, reason) from None
        if self.clean_up_tokenization_spaces if clean_up_tokenization_spaces is None else clean_up_tokenization_spaces:
            clean = self.clean_up_tokenization
            return clean(texts) if isinstance(texts, str) else [clean(text) for text in texts]
        return texts

    @staticmethod
    def clean_up_tokenization(text: str) -> str:
        """English text without the blanks that splitting put before marks and contractions."""
        for spaced in (" .", " ?", " !", " ,", " ' ", " n't", " 'm", " 's", " 've", " 're"):
            text = text.replace(spaced, spaced.strip())
        return text

    def batch_decode(
        self, sequences: Any, skip_special_tokens: bool = False, clean_up_tokenization_spaces: bool | None = None
    ) -> list[str]:
        texts = self.decode(sequences, skip_special_tokens, clean_up_tokenization_spaces) if len(sequences) else []
        return [texts] if isinstance(texts, str) else texts

    def convert_ids_to_tokens(self, ids: Any, skip_special_tokens: bool = False) -> Any:
        """One token for one id, a list for several; None for an id that the vocabulary lacks."""
        if isinstance(ids, int):
            return self._tokenizer.id_to_token(ids)
        skip = set(self.all_special_ids) if skip_special_tokens else ()
        return [self._tokenizer.id_to_token(index) for index in as_id_lists(ids) if index not in skip]

    def convert_tokens_to_ids(self, tokens: Any) -> Any:
        """One id for one token, a list for several; a token that the vocabulary lacks has unk_token's, or None."""
        if tokens is None:
            return None
        if isinstance(tokens, str):
            found = self._tokenizer.token_to_id(tokens)
            return self.unk_token_id if found is None else found
        return [self.convert_tokens_to_ids(token) for token in tokens]

    def convert_tokens_to_string(self, tokens: list[str]) -> str:
        return self._tokenizer.decoder.decode(tokens) if self._tokenizer.decoder else " ".join(tokens)

    # ---- Vocabulary

    def train_new_from_iterator(self, text_iterator: Iterable[Any], vocab_size: int, *args: Any, **options: Any) -> Any:
        """A tokenizer that works like this one, trained on other texts; see tokenizer_training."""
        from .tokenizer_training import train_new_from_iterator

        return train_new_from_iterator(self, text_iterator, vocab_size, *args, **options)

    @property
    def backend_tokenizer(self) -> Backend:
        return self._tokenizer

    @property
    def decoder(self) -> Any:
        return self._tokenizer.decoder

    @property
    def vocab_size(self) -> int:
        """Without added tokens; len(tokenizer) counts them."""
        return self._tokenizer.get_vocab_size(with_added_tokens=False)

    @property
    def vocab(self) -> dict[str, int]:
        return self.get_vocab()

    def get_vocab(self) -> dict[str, int]:
        return self._tokenizer.get_vocab(with_added_tokens=True)

    @property
    def added_tokens_decoder(self) -> dict[int, AddedToken]:
        return dict(sorted(self._tokenizer.get_added_tokens_decoder().items()))

    @property
    def added_tokens_encoder(self) -> dict[str, int]:
        return {token.content: index for index, token in self.added_tokens_decoder.items()}

    def get_added_vocab(self) -> dict[str, int]:
        return self.added_tokens_encoder

    def add_tokens(self, new_tokens: Any, special_tokens: bool = False) -> int:
        """How many were new. The model needs resize_token_embeddings(len(tokenizer)) afterwards."""
        tokens = [new_tokens] if isinstance(new_tokens, str | AddedToken) else list(new_tokens)
        if wrong := [token for token in tokens if not isinstance(token, str | AddedToken)]:
            raise TypeError(f"A token must be a str or an AddedToken, not {type(wrong[0]).__name__}: {wrong[0]!r}.")
        return self._tokenizer.add_special_tokens(tokens) if special_tokens else self._tokenizer.add_tokens(tokens)

    def add_special_tokens(
        self,
        special_tokens_dict: Mapping[str, Any],
        replace_extra_special_tokens: bool = True,
        replace_additional_special_tokens: bool = True,
    ) -> int:
        """Sets tokens by name (pad_token, extra_special_tokens, ...); returns by how many the vocabulary grew."""
        allowed = {**dict.fromkeys((*SPECIAL_TOKENS, *EXTRA)), **self._special}
        tokens = []
        for name, value in special_tokens_dict.items():
            if name not in allowed:
                raise ValueError(
                    f"{name!r} is no special token.{did_you_mean(name, allowed)} Allowed: {', '.join(allowed)}."
                )
            if name in EXTRA:
                given = [parse_token(token, name) for token in value]
                old = [] if replace_extra_special_tokens and replace_additional_special_tokens else self._extra
                self._extra = list(dict.fromkeys([*old, *(token.content for token in given)]))
                tokens += given
            else:
                token = parse_token(value, name)
                self._special[name] = token.content
                tokens.append(token)
        return add_missing(self._tokenizer, tokens)

    def _set_special(self, name: str, value: str | AddedToken | None) -> None:
        if value is not None and not isinstance(value, str | AddedToken):
            raise TypeError(f"{name} must be a str, an AddedToken or None, not {type(value).__name__}.")
        self._special[name] = None if value is None else str(value)

    @property
    def special_tokens_map(self) -> dict[str, str]:
        return {name: token for name, token in self._special.items() if token is not None}

    @property
    def special_tokens_map_extended(self) -> dict[str, Any]:
        """With their flags, and the extra ones under version 4's name."""
        added = {token.content: token for token in self.added_tokens_decoder.values()}
        extended: dict[str, Any] = {name: added.get(token, token) for name, token in self.special_tokens_map.items()}
        return extended | ({EXTRA[1]: [added.get(token, token) for token in self._extra]} if self._extra else {})

    @property
    def all_special_tokens(self) -> list[str]:
        return list(dict.fromkeys([*self.special_tokens_map.values(), *self._extra]))

    @property
    def all_special_ids(self) -> list[int]:
        return self.convert_tokens_to_ids(self.all_special_tokens)

    @property
    def extra_special_tokens(self) -> list[str]:
        return list(self._extra)

    @extra_special_tokens.setter
    def extra_special_tokens(self, tokens: Iterable[str | AddedToken]) -> None:
        self._extra = [str(token) for token in tokens]

    @property
    def extra_special_tokens_ids(self) -> list[int]:
        return self.convert_tokens_to_ids(self._extra)

    additional_special_tokens, additional_special_tokens_ids = extra_special_tokens, extra_special_tokens_ids

    # ---- Files

    @classmethod
    def from_pretrained(cls, pretrained_model_name_or_path: str | Path, **options: Any) -> Any:
        """From a folder, a built-in name or a repository. options: those of load_tokenizer."""
        from .tokenizer_classes import load_tokenizer

        return load_tokenizer(pretrained_model_name_or_path, cls=cls, **options)

    @classmethod
    def from_files(cls, files: TokenizerFiles, settings: Mapping[str, Any]) -> "Tokenizer":
        """settings go before what the files say."""
        family = files.family or cls.family
        config = {**files.settings, **settings}
        if files.chat_template is not None:
            config["chat_template"] = settings.get("chat_template", files.chat_template)
        if files.tokenizer is not None:
            backend = read_backend(files.tokenizer)
            if changes := {theirs: settings[name] for name, theirs in BERT_SETTINGS.items() if name in settings}:
                set_bert_normalizer(backend, **changes)
        else:
            what = files.class_name or (
                cls.__name__ if cls.family.kind else f"model_type {files.model.get('model_type')!r}"
            )
            named = {name: config[name] for name in SPECIAL_TOKENS if config.get(name) is not None}
            special = {n: parse_token(token, n).content for n, token in {**family.special, **named}.items()}
            try:
                backend = convert(files.sources(family), family, special, config, what)
            except TypeError as reason:
                raise FileNotFoundError(f"{files.folder}: {reason}") from None
        add_listed_tokens(backend, files)
        known = {name: token for name, token in family.special.items() if backend.token_to_id(token) is not None}
        if cls.family == Family():
            known |= {"model_input_names": family.inputs, "padding_side": family.padding_side}
        given = {name: value for name, value in config.items() if name in ALL_SETTINGS}
        tokenizer = cls(tokenizer_object=backend, **{**known, **given})
        tokenizer.files, tokenizer.as_loaded = files, current_settings(tokenizer)
        tokenizer.init_kwargs = {**files.config, **settings}
        tokenizer._take_sources(files.sources(family), config, converted=files.tokenizer is None)
        return tokenizer

    def _take_sources(self, sources: Mapping[str, Any], asked: Mapping[str, Any], converted: bool) -> None:
        """What a class does once all its tokens are there.

        sources: its original files; asked: what files and call say; converted: there was no tokenizer.json.
        """

    save_pretrained, push_to_hub, save_vocabulary = save_pretrained, push_to_hub, save_vocabulary

    @property
    def class_name(self) -> str:
        """As tokenizer_config.json names it; a name that Transformers knows."""
        if self.files is not None and self.files.class_name:
            return self.files.class_name
        names = [base.__name__ for base in type(self).__mro__ if base.__name__ in FAMILIES]
        return names[0] if names else "PreTrainedTokenizerFast"

    def to_json(self) -> str:
        """The content of tokenizer.json, with the cutting and padding that stood in the loaded one."""
        backend, (truncation, padding) = self._tokenizer, self._blocks
        with self._lock:
            self._set_cut(None)
            try:
                if truncation:
                    backend.enable_truncation(**truncation)
                if padding:
                    backend.enable_padding(**padding)
                return backend.to_str(pretty=True)
            finally:
                self._set_cut(None)


PreTrainedTokenizerFast = PreTrainedTokenizerBase = PreTrainedTokenizer = Tokenizer
