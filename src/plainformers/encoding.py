"""One call of a tokenizer: its options, the checks of what came, cutting and padding of rows, and what comes out."""

import copy
import json
from collections import UserDict
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from tokenizers import Encoding

from .aliases import did_you_mean
from .logging import once

NO_LIMIT = int(1e30)  # model_max_length where no file says one, as Transformers writes it
PADDING = {True: "longest", False: None, "longest": "longest", "max_length": "max_length", "do_not_pad": None}
TRUNCATION = {
    True: "longest_first", False: None, "do_not_truncate": None,
    "longest_first": "longest_first", "only_first": "only_first", "only_second": "only_second",
}  # fmt: skip


class Call(NamedTuple):
    """How one call encodes; the fields are arguments of Tokenizer.__call__."""

    add_special_tokens: bool = True
    padding: bool | str | None = False
    truncation: bool | str | None = None
    max_length: int | None = None
    stride: int = 0
    is_split_into_words: bool = False
    pad_to_multiple_of: int | None = None
    padding_side: str | None = None
    return_tensors: str | None = None
    return_token_type_ids: bool | None = None
    return_attention_mask: bool | None = None
    return_overflowing_tokens: bool = False
    return_special_tokens_mask: bool = False
    return_offsets_mapping: bool = False
    return_length: bool = False
    verbose: bool = True


class TokenSpan(NamedTuple):
    start: int
    end: int


class CharSpan(NamedTuple):
    start: int
    end: int


class BatchEncoding(UserDict):
    """What a tokenizer returns: a mapping of columns (also attributes), and per row where each token comes from.

    The methods that look up a position take (batch index, position), or the position alone for the first row.
    """

    def __init__(
        self,
        data: Mapping[str, Any] | None = None,
        encoding: Encoding | Sequence[Encoding] | None = None,
        tensor_type: str | None = None,
        prepend_batch_axis: bool = False,
        n_sequences: int | None = None,
    ):
        self.data = dict(data or {})
        self._encodings = [encoding] if isinstance(encoding, Encoding) else encoding
        self._n_sequences = n_sequences
        if tensor_type is not None:
            self.convert_to_tensors(tensor_type, prepend_batch_axis)

    def __getitem__(self, item: Any) -> Any:
        """A column by its name, the row's Encoding by number, every column cut by a slice."""
        if isinstance(item, str):
            return self.data[item]
        if isinstance(item, slice):
            return {name: column[item] for name, column in self.data.items()}
        return self._rows()[item]

    def __getattr__(self, name: str) -> Any:
        data = self.__dict__.get("data", {})
        if name in data:
            return data[name]
        raise AttributeError(
            f"{type(self).__name__} has no {name!r}; columns: {', '.join(data)}.{did_you_mean(name, data)}"
        )

    def copy(self) -> "BatchEncoding":
        return copy.copy(self)

    def to(self, device: Any, *, non_blocking: bool = False) -> "BatchEncoding":
        """Moves the tensors, in place."""
        for name, column in self.data.items():
            if hasattr(column, "to"):
                self.data[name] = column.to(device, non_blocking=non_blocking)
        return self

    def convert_to_tensors(self, tensor_type: str | None = None, prepend_batch_axis: bool = False) -> "BatchEncoding":
        """Turns lists into tensors ("pt", "np"), in place. Raises ValueError where rows differ in length."""
        if tensor_type is not None:
            for name, column in self.data.items():
                self.data[name] = make_tensor(name, [column] if prepend_batch_axis else column, tensor_type)
        return self

    def _rows(self) -> Sequence[Encoding]:
        if self._encodings is None:
            raise ValueError("This BatchEncoding was not made from text: it does not know where its tokens come from.")
        return self._encodings

    def _at(
        self, batch_or_index: int, index: int | None, length: Callable[[Encoding], int] = len
    ) -> tuple[Encoding, int]:
        row, index = (0, batch_or_index) if index is None else (batch_or_index, index)
        encoding = self._rows()[row]
        return encoding, index + length(encoding) if index < 0 else index

    @property
    def is_fast(self) -> bool:
        return self._encodings is not None

    @property
    def encodings(self) -> Sequence[Encoding] | None:
        return self._encodings

    @property
    def n_sequences(self) -> int | None:
        """1 for single texts, 2 for pairs."""
        return self._encodings[0].n_sequences if self._n_sequences is None and self._encodings else self._n_sequences

    def tokens(self, batch_index: int = 0) -> list[str]:
        return self._rows()[batch_index].tokens

    def word_ids(self, batch_index: int = 0) -> list[int | None]:
        return self._rows()[batch_index].word_ids

    words = word_ids

    def sequence_ids(self, batch_index: int = 0) -> list[int | None]:
        return self._rows()[batch_index].sequence_ids

    def token_to_sequence(self, batch_or_token_index: int, token_index: int | None = None) -> int | None:
        encoding, index = self._at(batch_or_token_index, token_index)
        return encoding.token_to_sequence(index)

    def token_to_word(self, batch_or_token_index: int, token_index: int | None = None) -> int | None:
        encoding, index = self._at(batch_or_token_index, token_index)
        return encoding.token_to_word(index)

    def token_to_chars(self, batch_or_token_index: int, token_index: int | None = None) -> CharSpan | None:
        encoding, index = self._at(batch_or_token_index, token_index)
        found = encoding.token_to_chars(index)
        return CharSpan(*found) if found else None

    def word_to_tokens(
        self, batch_or_word_index: int, word_index: int | None = None, sequence_index: int = 0
    ) -> TokenSpan | None:
        encoding, index = self._at(batch_or_word_index, word_index, _words)
        found = encoding.word_to_tokens(index, sequence_index)
        return TokenSpan(*found) if found else None

    def word_to_chars(
        self, batch_or_word_index: int, word_index: int | None = None, sequence_index: int = 0
    ) -> CharSpan | None:
        encoding, index = self._at(batch_or_word_index, word_index, _words)
        found = encoding.word_to_chars(index, sequence_index)
        return CharSpan(*found) if found else None

    def char_to_token(
        self, batch_or_char_index: int, char_index: int | None = None, sequence_index: int = 0
    ) -> int | None:
        encoding, index = self._at(batch_or_char_index, char_index)
        return encoding.char_to_token(index, sequence_index)

    def char_to_word(
        self, batch_or_char_index: int, char_index: int | None = None, sequence_index: int = 0
    ) -> int | None:
        encoding, index = self._at(batch_or_char_index, char_index)
        return encoding.char_to_word(index, sequence_index)


def _words(encoding: Encoding) -> int:
    return 1 + max((word for word in encoding.word_ids if word is not None), default=-1)


def is_limit(model_max_length: int) -> bool:
    return model_max_length < NO_LIMIT / 1e10


def make_tensor(name: str, column: Any, kind: str) -> Any:
    """A list as a tensor, whole numbers as int64; what is a tensor or an array of that kind already stays."""
    make: Any
    if kind == "pt":
        import torch

        make, own = torch.as_tensor, torch.Tensor
    elif kind == "np":
        import numpy

        make, own = numpy.asarray, numpy.ndarray
    else:
        raise ValueError(f"return_tensors must be 'pt' (PyTorch), 'np' (NumPy) or None (lists), not {kind!r}.")
    if isinstance(column, own):
        return column
    column = _plain(column)
    lengths = {len(row) for row in column if isinstance(row, list | tuple)} if isinstance(column, list) else set()
    if len(lengths) > 1:
        raise ValueError(
            f"{name!r} has rows of {min(lengths)} to {max(lengths)} items, which make no tensor. "
            "Ask for padding=True (and truncation=True to cut long rows), or leave return_tensors out."
        )
    try:
        tensor = make(column)
    except (TypeError, ValueError, RuntimeError) as reason:
        raise ValueError(f"{name!r} cannot be made a tensor ({reason}). Leave it out, or return_tensors.") from None
    if kind == "np" and tensor.dtype.kind not in "iufb":
        raise ValueError(f"{name!r} cannot be made an array of numbers. Leave it out, or return_tensors.")
    if 0 in tensor.shape:  # without items both libraries guess float
        tensor = tensor.long() if kind == "pt" else tensor.astype("int64")
    return tensor


def check_side(value: str, name: str) -> str:
    if value not in ("left", "right"):
        raise ValueError(f"{name} must be 'left' or 'right', not {value!r}.")
    return value


def check_limit(value: Any) -> int:
    """model_max_length as files have it: a number, floats of 1e30 too, or null."""
    if value is None:
        return NO_LIMIT
    if not isinstance(value, int | float) or not 0 < value <= 1e300:
        raise ValueError(f"model_max_length must be a number of tokens, not {value!r}.")
    return int(value)


def choose(name: str, table: dict[Any, str | None], value: Any) -> str | None:
    if value is None:
        return None
    if not isinstance(value, str | bool) or value not in table:
        near = did_you_mean(value, [key for key in table if isinstance(key, str)]) if isinstance(value, str) else ""
        raise ValueError(f"{name} must be one of {', '.join(map(repr, table))}, not {value!r}.{near}")
    return table[value]


def is_batch(text: Any, words: bool) -> bool:
    """Whether several texts came: any sequence, but of words only when it holds sequences itself."""
    if not hasattr(text, "__len__") or not hasattr(text, "__getitem__") or isinstance(text, str | bytes | Mapping):
        return False
    return not words or (len(text) > 0 and not isinstance(text[0], str))


def pair_up(text: Any, pair: Any, words: bool) -> list[Any]:
    """The list that encode_batch takes."""
    texts = list(text)
    if pair is None:
        return texts
    if not is_batch(pair, words):
        raise TypeError(
            f"text is a list of {len(texts)} texts: text_pair must be a list too, not {type(pair).__name__}."
        )
    if len(pair) != len(texts):
        raise ValueError(f"text has {len(texts)} texts, text_pair {len(pair)}. They must be as many.")
    return list(zip(texts, pair, strict=True))


def find_fault(value: Any, where: str) -> Exception | None:
    """What is wrong with the first piece of text that is none."""
    if isinstance(value, str):
        for index, character in enumerate(value):
            if 0xD800 <= ord(character) <= 0xDFFF:
                return ValueError(
                    f"{where} has a lone surrogate (U+{ord(character):04X}) at character {index}, which is no text. "
                    "Read the bytes again with errors='replace'."
                )
        return None
    if isinstance(value, list | tuple) or (hasattr(value, "tolist") and hasattr(value, "__len__")):
        return next(filter(None, (find_fault(item, f"{where}[{index}]") for index, item in enumerate(value))), None)
    return TypeError(f"{where} must be a str, not {type(value).__name__}: {repr(value)[:60]}.")


def explain_text(reason: Exception, text: Any, pair: Any, words: bool) -> Exception:
    """The error to raise instead of the library's, which does not say what is wrong, nor where."""
    if found := find_fault(text, "text") or (None if pair is None else find_fault(pair, "text_pair")):
        return found
    if isinstance(reason, ValueError):
        return reason
    if "Truncation error" in str(reason):
        return ValueError("The text that truncation names is too short for max_length. Use truncation='longest_first'.")
    shape = "words, or lists of words" if words else "a str, a list of str, or a list of (text, pair)"
    came = f"text is a {type(text).__name__}" + ("" if pair is None else f", text_pair a {type(pair).__name__}")
    more = "" if words else " For words say is_split_into_words=True."
    return TypeError(f"The text cannot be encoded ({came}; {reason}): give {shape}.{more}")


def as_columns(inputs: Any) -> dict[str, Any]:
    """Columns of plain lists, from columns or a list of rows."""
    if isinstance(inputs, list | tuple):
        if wrong := [row for row in inputs if not isinstance(row, Mapping)]:
            raise TypeError(f"pad needs dicts, as the tokenizer returns them, not {type(wrong[0]).__name__}.")
        names = list(inputs[0]) if inputs else []
        for index, row in enumerate(inputs):
            if set(row) != set(names):
                raise ValueError(f"Row {index} has {sorted(row)}, row 0 {sorted(names)}: they cannot make one batch.")
        inputs = {name: [row[name] for row in inputs] for name in names}
    if not isinstance(inputs, Mapping):
        raise TypeError(f"pad needs a dict or a list of dicts, not {type(inputs).__name__}.")
    return {name: _plain(column) for name, column in inputs.items()}


def _plain(column: Any) -> Any:
    """Lists in place of tensors and arrays."""
    if hasattr(column, "tolist"):
        return column.tolist()
    if isinstance(column, list | tuple):
        return [row.tolist() if hasattr(row, "tolist") else row for row in column]
    return column


def padded_length(lengths: Iterable[int], pad: int | str | None, multiple: int | None) -> int:
    target = pad if isinstance(pad, int) else max(lengths)
    return -(-target // multiple) * multiple if multiple else target


def as_id_lists(ids: Any) -> list[Any]:
    """Ids in whatever form, as a list, or a list of lists."""
    ids = ids["input_ids"] if isinstance(ids, Mapping) else ids
    ids = _plain(ids)
    if isinstance(ids, int):
        return [ids]
    return [list(item) if isinstance(item, tuple) else item for item in _plain(list(ids))]


def explain_ids(ids: list[Any], reason: Exception) -> Exception:
    """The error to raise instead of the library's."""
    for item in (item for row in ids for item in (row if isinstance(row, list) else [row])):
        if not isinstance(item, int):
            return TypeError(f"A token id must be a whole number, not {type(item).__name__}: {item!r}.")
        if item < 0:
            return ValueError(f"{item} is no token id. Where labels have -100 put pad_token_id in its place first.")
    return TypeError(f"The ids cannot be decoded: {reason}. Give a row of ids or a list of rows.")


def plan(tokenizer: Any, call: Call, two: bool) -> tuple[dict[str, Any] | None, int | str | None]:
    """How to cut (None: not) and to what length to pad ("longest", a number of tokens, None: not)."""
    how, pad, limit = call.truncation, call.padding, call.max_length
    if not how and not pad and limit is None:
        return None, None
    how, pad = choose("truncation", TRUNCATION, how), choose("padding", PADDING, pad)
    if limit is not None and (not isinstance(limit, int) or isinstance(limit, bool) or limit < 0):
        raise ValueError(f"max_length must be a number of tokens, not {limit!r}.")
    if call.truncation is None and limit is not None and pad is None:
        how = "longest_first"
        if call.verbose:
            once("max_length without truncation cuts longer texts. Say truncation=True (or False) to make it plain.")
    elif limit is not None and pad == "longest" and how is None and call.verbose:
        once("max_length has no effect with padding=True alone. Say truncation=True, or padding='max_length'.")
    if limit is None and (how or pad == "max_length"):
        limit = tokenizer.model_max_length if is_limit(tokenizer.model_max_length) else None
        if limit is None:
            if call.verbose:
                once("Neither max_length nor model_max_length is known: texts are not cut or padded to it.")
            how, pad = None, None if pad == "max_length" else pad
    if pad is not None:
        tokenizer.need_pad_token()
    if how and limit and pad and call.pad_to_multiple_of and limit % call.pad_to_multiple_of:
        raise ValueError(f"max_length={limit} is not a multiple of pad_to_multiple_of={call.pad_to_multiple_of}.")
    if how is None or limit is None:
        return None, limit if pad == "max_length" else pad
    special = tokenizer.num_special_tokens_to_add(two) if call.add_special_tokens else 0
    if limit < special or not 0 <= call.stride < max(limit - special, 1):
        raise ValueError(
            f"max_length={limit} leaves {limit - special} tokens beside {special} special ones, which is too few"
            + (f" for stride={call.stride}." if call.stride else ".")
        )
    side = check_side(tokenizer.truncation_side, "truncation_side")
    cut = {"max_length": limit, "stride": call.stride, "strategy": how, "direction": side}
    return cut, limit if pad == "max_length" else pad


def finish(
    tokenizer: Any, encodings: list[Encoding], batched: bool, cut: Any, pad: int | str | None, call: Call
) -> BatchEncoding:
    """Overflow as rows, padding, and the columns that were asked for."""
    mapping = list(range(len(encodings)))
    if call.return_overflowing_tokens:
        rows = [[encoding, *encoding.overflowing] for encoding in encodings]
        mapping = [index for index, row in enumerate(rows) for _ in row]
        encodings = [encoding for row in rows for encoding in row]
    most = tokenizer.model_max_length
    if call.verbose and cut is None and max(map(len, encodings), default=0) > most:
        once(f"A text has more tokens than the {most} that the model takes. truncation=True cuts it.")
    if pad is not None and encodings:
        target = padded_length(map(len, encodings), pad, call.pad_to_multiple_of)
        how = {
            "direction": check_side(call.padding_side or tokenizer.padding_side, "padding_side"),
            "pad_id": tokenizer.need_pad_token(),
            "pad_type_id": tokenizer.pad_token_type_id,
            "pad_token": tokenizer.pad_token,
        }
        for encoding in encodings:
            if len(encoding) < target:
                encoding.pad(target, **how)
    names, types, mask = tokenizer.model_input_names, call.return_token_type_ids, call.return_attention_mask
    data: dict[str, Any] = {"input_ids": [encoding.ids for encoding in encodings]}
    if types or (types is None and "token_type_ids" in names):
        data["token_type_ids"] = [encoding.type_ids for encoding in encodings]
    if mask or (mask is None and "attention_mask" in names):
        data["attention_mask"] = [encoding.attention_mask for encoding in encodings]
    if call.return_special_tokens_mask:
        data["special_tokens_mask"] = [encoding.special_tokens_mask for encoding in encodings]
    if call.return_offsets_mapping:
        data["offset_mapping"] = [encoding.offsets for encoding in encodings]
    if call.return_length:
        data["length"] = [len(encoding) for encoding in encodings]
    if call.return_overflowing_tokens:
        data["overflow_to_sample_mapping"] = mapping
    elif not batched and call.return_tensors is None:
        data = {name: column if name == "length" else column[0] for name, column in data.items()}
    if call.return_tensors is not None and not encodings:
        raise ValueError(
            "An empty list of texts makes no tensors: give at least one text, or leave return_tensors out."
        )
    return BatchEncoding(data, encodings, call.return_tensors)


def make_encoding(
    ids: Sequence[int],
    tokens: Sequence[str],
    offsets: Sequence[tuple[int, int]] | None = None,
    types: Sequence[int] | None = None,
) -> Encoding:
    """Ids as the library has them after a text; its pickled form is the only way to make one."""
    n = len(ids)
    state = {"ids": ids, "tokens": tokens, "offsets": offsets or [(0, 0)] * n, "type_ids": types or [0] * n}
    state |= {"words": [None] * n, "attention_mask": [1] * n, "special_tokens_mask": [0] * n}
    encoding = Encoding()
    encoding.__setstate__(json.dumps({**state, "overflowing": [], "sequence_ranges": {}}).encode())
    return encoding


def truncate_sequences(
    tokenizer: Any,
    ids: list[int],
    pair_ids: list[int] | None = None,
    num_tokens_to_remove: int = 0,
    truncation_strategy: bool | str = "longest_first",
    stride: int = 0,
) -> tuple[list[int], list[int] | None, list[int]]:
    """(ids, pair_ids, what was cut off, after `stride` tokens more); longest_first cuts the longer, one by one."""
    how = choose("truncation_strategy", TRUNCATION, truncation_strategy)
    if num_tokens_to_remove <= 0 or how is None:
        return ids, pair_ids, []
    a, b = len(ids), len(pair_ids or ())
    for _ in range(num_tokens_to_remove):
        if how == "only_first" or (how == "longest_first" and a > b):
            a -= 1
        else:
            b -= 1
    if a < 0 or b < 0:
        raise ValueError(
            f"{num_tokens_to_remove} tokens cannot be removed ({how}) from {len(ids)} and {len(pair_ids or ())}."
        )
    left, cut_off = tokenizer.truncation_side == "left", []
    if how != "longest_first" or pair_ids is None:
        source, n = (pair_ids or [], b) if how == "only_second" else (ids, a)
        cut_off = source[: len(source) - n + stride] if left else source[max(n - stride, 0) :]
    kept = ids[len(ids) - a :] if left else ids[:a]
    return (
        kept,
        (pair_ids[len(pair_ids) - b :] if left else pair_ids[:b]) if pair_ids is not None else None,
        cut_off,
    )


def pad(
    tokenizer: Any,
    encoded_inputs: Any,
    padding: bool | str = True,
    max_length: int | None = None,
    pad_to_multiple_of: int | None = None,
    padding_side: str | None = None,
    return_attention_mask: bool | None = None,
    return_tensors: str | None = None,
    verbose: bool = True,
) -> BatchEncoding:
    """Rows of ids to one length: from a dict of columns or a list of dicts.

    Columns that the tokenizer does not make (labels) are left as they are; collators pad those.
    """
    batch = as_columns(encoded_inputs)
    main = tokenizer.model_input_names[0]
    if main not in batch:
        raise ValueError(
            f"pad needs {main!r}, as the tokenizer returns it; got {', '.join(map(repr, batch)) or 'nothing'}."
        )
    single = bool(batch[main]) and isinstance(batch[main][0], int)
    if single:
        batch = {name: [column] for name, column in batch.items()}
    how = choose("padding", PADDING, padding)
    if return_attention_mask or (return_attention_mask is None and "attention_mask" in tokenizer.model_input_names):
        batch.setdefault("attention_mask", [[1] * len(row) for row in batch[main]])
    if how == "max_length" and max_length is None:
        max_length = tokenizer.model_max_length if is_limit(tokenizer.model_max_length) else None
        how = how if max_length is not None else None
    if how is not None and batch[main]:
        fill = {"attention_mask": 0, "token_type_ids": tokenizer.pad_token_type_id, "special_tokens_mask": 1}
        fill[main] = tokenizer.need_pad_token()
        lengths = [len(row) for row in batch[main]]
        target = padded_length(lengths, max_length if how == "max_length" else how, pad_to_multiple_of)
        left = check_side(padding_side or tokenizer.padding_side, "padding_side") == "left"
        for name in fill.keys() & batch.keys():
            missing = [[fill[name]] * (target - n) for n in lengths]
            pairs = zip(batch[name], missing, strict=True)
            batch[name] = [more + list(row) if left else list(row) + more for row, more in pairs]
    if single and return_tensors is None:
        batch = {name: column[0] for name, column in batch.items()}
    return BatchEncoding(batch, tensor_type=return_tensors)
