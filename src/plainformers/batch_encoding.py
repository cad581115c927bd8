"""What goes into a tokenizer and what comes out: checks of texts and ids, padding of rows, BatchEncoding, tensors."""

import copy
from collections import UserDict
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from tokenizers import Encoding

from .aliases import did_you_mean

NO_LIMIT = int(1e30)  # model_max_length where no file says one, as Transformers writes it
PADDING = {True: "longest", False: None, "longest": "longest", "max_length": "max_length", "do_not_pad": None}


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
        raise AttributeError(f"{type(self).__name__} has no {name!r}.{did_you_mean(name, data)} Columns: {', '.join(data)}.")

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
                self.data[name] = tensor(name, [column] if prepend_batch_axis else column, tensor_type)
        return self

    def _rows(self) -> Sequence[Encoding]:
        if self._encodings is None:
            raise ValueError("This BatchEncoding was not made by tokenizing text: it does not know where tokens come from.")
        return self._encodings

    def _at(self, batch_or_index: int, index: int | None, length: Callable[[Encoding], int] = len) -> tuple[Encoding, int]:
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
        found = encoding.token_to_word(index)
        return found[1] if isinstance(found, tuple) else found

    def token_to_chars(self, batch_or_token_index: int, token_index: int | None = None) -> CharSpan | None:
        encoding, index = self._at(batch_or_token_index, token_index)
        found: Any = encoding.token_to_chars(index)
        return CharSpan(*(found[1] if found and isinstance(found[1], tuple) else found)) if found else None

    def word_to_tokens(self, batch_or_word_index: int, word_index: int | None = None, sequence_index: int = 0) -> TokenSpan | None:
        encoding, index = self._at(batch_or_word_index, word_index, _words)
        found = encoding.word_to_tokens(index, sequence_index)
        return TokenSpan(*found) if found else None

    def word_to_chars(self, batch_or_word_index: int, word_index: int | None = None, sequence_index: int = 0) -> CharSpan | None:
        encoding, index = self._at(batch_or_word_index, word_index, _words)
        found = encoding.word_to_chars(index, sequence_index)
        return CharSpan(*found) if found else None

    def char_to_token(self, batch_or_char_index: int, char_index: int | None = None, sequence_index: int = 0) -> int | None:
        encoding, index = self._at(batch_or_char_index, char_index)
        return encoding.char_to_token(index, sequence_index)

    def char_to_word(self, batch_or_char_index: int, char_index: int | None = None, sequence_index: int = 0) -> int | None:
        encoding, index = self._at(batch_or_char_index, char_index)
        return encoding.char_to_word(index, sequence_index)


def _words(encoding: Encoding) -> int:
    return 1 + max((word for word in encoding.word_ids if word is not None), default=-1)


def tensor(name: str, column: Any, kind: str) -> Any:
    """A list as a tensor, whole numbers as int64; what is a tensor or an array of that kind already stays."""
    if kind == "pt":
        import torch

        make, is_one = torch.as_tensor, torch.is_tensor
    elif kind == "np":
        import numpy

        make, is_one = numpy.asarray, lambda value: isinstance(value, numpy.ndarray)
    else:
        raise ValueError(f"return_tensors must be 'pt' (PyTorch), 'np' (NumPy) or None (lists), not {kind!r}.")
    if is_one(column):
        return column
    if isinstance(column, list) and column and hasattr(column[0], "tolist"):
        column = [row.tolist() if hasattr(row, "tolist") else row for row in column]
    lengths = {len(row) for row in column if isinstance(row, list | tuple)} if isinstance(column, list | tuple) else set()
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


def side(value: str, name: str) -> str:
    if value not in ("left", "right"):
        raise ValueError(f"{name} must be 'left' or 'right', not {value!r}.")
    return value


def choice(name: str, table: dict[Any, str | None], value: Any) -> str | None:
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


def inputs(text: Any, pair: Any, words: bool) -> list[Any]:
    texts = list(text)
    if pair is None:
        return texts
    if not is_batch(pair, words):
        raise TypeError(f"text is a list of {len(texts)} texts, so text_pair must be a list too, not {type(pair).__name__}.")
    if len(pair) != len(texts):
        raise ValueError(f"text has {len(texts)} texts, text_pair {len(pair)}. They must be as many.")
    return list(zip(texts, pair, strict=True))


def fault(value: Any, where: str) -> Exception | None:
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
        return next(filter(None, (fault(item, f"{where}[{index}]") for index, item in enumerate(value))), None)
    return TypeError(f"{where} must be a str, not {type(value).__name__}: {repr(value)[:60]}.")


def explained(reason: Exception, text: Any, pair: Any, words: bool) -> Exception:
    """The error to raise instead of the library's, which does not say what is wrong, nor where."""
    if fault := fault(text, "text") or (None if pair is None else fault(pair, "text_pair")):
        return fault
    if "Truncation error" in str(reason):
        return ValueError("The sequence that truncation names is too short to be cut to max_length. Use truncation='longest_first'.")
    shape = "words, or lists of words" if words else "a str, a list of str, or a list of (text, pair); for words is_split_into_words=True"
    came = f"text is a {type(text).__name__}" + ("" if pair is None else f", text_pair a {type(pair).__name__}")
    return TypeError(f"The text is nested wrongly ({came}): give {shape}. ({reason})")


def columns(inputs: Any) -> dict[str, Any]:
    """Columns of plain lists, from columns or a list of rows."""
    if isinstance(inputs, list | tuple):
        if wrong := [row for row in inputs if not isinstance(row, Mapping)]:
            raise TypeError(f"pad needs dicts, as the tokenizer returns them, not {type(wrong[0]).__name__}.")
        names = list(inputs[0]) if inputs else []
        for index, row in enumerate(inputs):
            if row.keys() != inputs[0].keys():
                raise ValueError(f"Row {index} has {sorted(row)}, row 0 has {sorted(names)}: they cannot make one batch.")
        inputs = {name: [row[name] for row in inputs] for name in names}
    if not isinstance(inputs, Mapping):
        raise TypeError(f"pad needs a dict or a list of dicts, as the tokenizer returns them, not {type(inputs).__name__}.")
    plain = {name: column.tolist() if hasattr(column, "tolist") else column for name, column in inputs.items()}
    return {
        name: [row.tolist() if hasattr(row, "tolist") else row for row in column] if isinstance(column, list | tuple) else column
        for name, column in plain.items()
    }


def padded_length(lengths: Iterable[int], pad: int | str | None, multiple: int | None) -> int:
    target = pad if isinstance(pad, int) else max(lengths)
    return -(-target // multiple) * multiple if multiple else target


def plain_ids(ids: Any) -> list[Any]:
    """Ids in whatever form, as a list, or a list of lists."""
    ids = ids["input_ids"] if isinstance(ids, Mapping) else ids
    ids = ids.tolist() if hasattr(ids, "tolist") else ids
    if isinstance(ids, int):
        return [ids]
    return [item.tolist() if hasattr(item, "tolist") else list(item) if isinstance(item, tuple) else item for item in ids]


def bad_ids(ids: list[Any], reason: Exception) -> Exception:
    for item in (item for row in ids for item in (row if isinstance(row, list) else [row])):
        if not isinstance(item, int):
            return TypeError(f"A token id must be a whole number, not {type(item).__name__}: {item!r}.")
        if item < 0:
            return ValueError(f"{item} is no token id. In labels -100 marks what is ignored: put pad_token_id in its place first.")
    return TypeError(f"The ids cannot be decoded: {reason}. Give a row of ids or a list of rows.")


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
    batch = columns(encoded_inputs)
    main = tokenizer.model_input_names[0]
    if main not in batch:
        raise ValueError(f"pad needs {main!r}; got {', '.join(map(repr, batch)) or 'nothing'}. Is this what the tokenizer returned?")
    single = bool(batch[main]) and isinstance(batch[main][0], int)
    if single:
        batch = {name: [column] for name, column in batch.items()}
    how = choice("padding", PADDING, padding)
    if return_attention_mask or (return_attention_mask is None and "attention_mask" in tokenizer.model_input_names):
        batch.setdefault("attention_mask", [[1] * len(row) for row in batch[main]])
    if how == "max_length" and max_length is None:
        max_length = tokenizer.model_max_length if tokenizer.model_max_length < NO_LIMIT / 1e10 else None
        how = how if max_length is not None else None
    if how is not None and batch[main]:
        fill = {main: tokenizer._need_pad_token(), "attention_mask": 0, "token_type_ids": tokenizer.pad_token_type_id, "special_tokens_mask": 1}
        lengths = [len(row) for row in batch[main]]
        target = padded_length(lengths, max_length if how == "max_length" else how, pad_to_multiple_of)
        left = side(padding_side or tokenizer.padding_side, "padding_side") == "left"
        for name in fill.keys() & batch.keys():
            missing = [[fill[name]] * (target - n) for n in lengths]
            pairs = zip(batch[name], missing, strict=True)
            batch[name] = [more + list(row) if left else list(row) + more for row, more in pairs]
    if single and return_tensors is None:
        batch = {name: column[0] for name, column in batch.items()}
    return BatchEncoding(batch, tensor_type=return_tensors)
