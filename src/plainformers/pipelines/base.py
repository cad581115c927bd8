"""Pipeline: raw inputs to answers in three steps that can be called one after the other.

    inputs = pipe.preprocess(["A wonderful film.", "Far too long."])    # tokens: tensors [B, T]
    outputs = pipe.forward(inputs)                                      # the model's output
    answers = pipe.postprocess(outputs, inputs)                         # one answer for each input

A call does this and no more, for any number of inputs: it tokenises a window of them at once, puts those of like
length into a batch without padding, and gives the answers in the order of the inputs. The arguments of a call are the
keywords of preprocess and postprocess.
"""

import functools
import inspect
import tempfile
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence, Sized
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from .. import logging
from ..aliases import did_you_mean, resolve_keywords
from ..arguments import as_device, as_dtype
from ..batching import in_order, map_in_windows, plan_batches
from ..encoding import BatchEncoding
from ..model import UPLOAD, Model
from ..sequences import Packed
from ..tokenizer import Tokenizer

if TYPE_CHECKING:
    from ..trace import Trace

# of one batch, padding counted: on a CPU more tokens than this leave its caches, a GPU wants many
TOKENS, TOKENS_ON_GPU, ROWS = 2048, 16384, 256
PER_TOKEN = ("input_ids", "token_type_ids", "position_ids")  # columns that are laid end to end in a packed batch
WINDOW = 1024  # inputs that are tokenised together
BETWEEN_STEPS = frozenset(
    {"return_tensors", "return_attention_mask"}
)  # keywords of preprocess that a call does not take
PADDING = ("padding", "pad_to_multiple_of", "padding_side")


class Rows(BatchEncoding):
    """What a model is called with, and beside it what the answers are made of.

    given: the inputs as `read` gave them. owners: the number of the input that each row belongs to; None: its own.
    """

    given: Sequence[Any] = ()
    owners: Sequence[int] | None = None

    @classmethod
    def of(cls, encoded: BatchEncoding, given: Sequence[Any], owners: Sequence[int] | None = None) -> "Rows":
        """owners: None is as the tokenizer says, which made several rows of a long text."""
        found = encoded.data.pop("overflow_to_sample_mapping", None) if owners is None else owners
        made = cls(encoded.data, encoded.encodings)
        made.given, made.owners = given, found.tolist() if isinstance(found, torch.Tensor) else found
        return made


def per_row(x: torch.Tensor, inputs: Mapping[str, Any]) -> Sequence[torch.Tensor]:
    """The real tokens of each row: x [B, T, ...], or [1, T, ...] of a packed batch -> B tensors [n, ...]."""
    mask = inputs.get("attention_mask")
    if mask is None:
        return x.unbind()
    if isinstance(mask, Packed):
        return x[0].split(mask.lengths)
    return [row[real] for row, real in zip(x, mask.bool().to(x.device), strict=True)]


class Pipeline:
    """Base of all pipelines. A subclass names its model's class and writes read, preprocess and postprocess.

    pipe.model, pipe.tokenizer, pipe.task, pipe.device, pipe.dtype (torch_dtype), pipe.batch_size.
    """

    task = ""  # the name in TASKS
    model_ending = ""  # how the names of fitting model classes end
    framework = "pt"
    last_step = "postprocess"  # the step whose keywords, with those of preprocess, are the arguments of a call

    def __init__(
        self,
        model: Any,
        tokenizer: Any = None,
        *,
        task: str | None = None,
        device: Any = None,
        dtype: Any = None,
        batch_size: int | None = None,
        num_workers: int | None = None,
        **arguments: Any,
    ):
        """The model is moved to device (None: a GPU where there is one) and, when a dtype is given, cast to it.

        arguments: those of a call, as its new defaults; torch_dtype.
        """
        if not isinstance(model, Model):
            raise TypeError(
                f"{type(self).__name__} needs a Model, got {type(model).__name__}: load one with from_pretrained."
            )
        if not self.takes(model):
            raise ValueError(
                f"{type(self).__name__} needs a model …{self.model_ending}, which {type(model).__name__} is not."
            )
        if not isinstance(tokenizer, Tokenizer):
            raise TypeError(
                f"{type(self).__name__} needs a tokenizer (of AutoTokenizer), got {type(tokenizer).__name__}."
            )
        arguments = {"dtype": dtype, **arguments} if dtype is not None else arguments
        allowed = self.call_arguments() | {"dtype"} | inspect.signature(Pipeline).parameters.keys()
        arguments = resolve_keywords(arguments, allowed, "pipeline", type(self).__name__)
        dtype = as_dtype(arguments.pop("dtype", None))
        device = self.as_device(device)
        if model.device != device or dtype not in (None, model.dtype):
            model = model.to(device, dtype)
        self.model, self.tokenizer, self.device = model, tokenizer, device
        self.model_longest = model.config.longest_input
        self.task = task or self.task
        self.batch_size = check_count(batch_size, "batch_size", "by their lengths")
        self.defaults = self.checked(arguments)

    def __repr__(self) -> str:
        where = f"device={str(self.device)!r}, dtype={self.dtype}"
        return f"{type(self).__name__}({type(self.model).__name__}, task={self.task!r}, {where})"

    @classmethod
    def takes(cls, model: Model) -> bool:
        """Whether the model has the task's head, by the name of its class or of one that it is made of."""
        return any(kind.__name__.removesuffix("Simple").endswith(cls.model_ending) for kind in type(model).__mro__)

    # ---- The steps

    def read(self, item: Any, number: int | None = None) -> Any:
        """One input as preprocess takes it. number: its place among several, for the TypeError when it is none."""
        raise NotImplementedError

    def read_all(self, inputs: Any) -> list[Any]:
        """One input, or a list of them, as preprocess takes them."""
        several = isinstance(inputs, (list, tuple))
        return [self.read(item, i) for i, item in enumerate(inputs)] if several else [self.read(inputs)]

    def preprocess(self, inputs: Any, *, padding: Any = True, return_tensors: str | None = "pt") -> BatchEncoding:
        """One input or a list of them as the model takes them: columns of B rows.

        padding=False and return_tensors=None: rows as they are, in lists. Other keywords become arguments of a call.
        """
        raise NotImplementedError

    def tokenise(
        self,
        texts: Any,
        *,
        truncation: bool | str | None = None,
        max_length: int | None = None,
        **options: Any,
    ) -> BatchEncoding:
        """A text, a pair (a tuple), or a list of either, by the tokenizer, whose arguments these are.

        What is longer than the model takes is cut, which is said once; with truncation=False it is an error.
        """
        unasked = truncation is None and max_length is None
        if max_length is None and truncation is not False:
            max_length = self.longest
            truncation = max_length is not None if truncation is None else truncation
        given = texts if isinstance(texts, tuple) else (texts,)
        encoded = self.tokenizer(*given, truncation=truncation, max_length=max_length, **options)
        if unasked and any(len(row) == max_length and row.overflowing for row in encoded.encodings or ()):
            logging.once(
                f"A text was cut to the {max_length} tokens that {self.model.name_or_path or 'the model'} takes. "
                "truncation=True says that this is meant, truncation=False makes it an error."
            )
        return encoded

    def forward(self, inputs: Mapping[str, Any]) -> Any:
        """The model's output, on its device; evaluated without dropout and without a graph."""
        if self.device.type != "cpu":
            moved = (
                (k, v.to(self.device, non_blocking=True)) for k, v in inputs.items() if isinstance(v, torch.Tensor)
            )
            inputs = {**inputs, **dict(moved)}
        training = self.model.training
        if training:
            self.model.eval()
        try:
            with torch.inference_mode():
                outputs = self.model(**inputs)
        finally:
            if training:
                self.model.train()
        # logits, or hidden states where there are none
        first = next((value for value in vars(outputs).values() if isinstance(value, torch.Tensor)), None)
        if first is not None and first.isnan().any():
            raise ValueError(
                f"What {type(self.model).__name__} gives is not a number (NaN), so there is no answer: its weights "
                f"hold NaN, or {str(self.dtype).removeprefix('torch.')} is too narrow for them."
            )
        return outputs

    def postprocess(self, outputs: Any, inputs: Any = None) -> list[Any]:
        """An answer for each row; inputs: what the model was called with. Its keywords become arguments of a call."""
        raise NotImplementedError

    def scores(self, outputs: Any) -> torch.Tensor | None:
        """What the answers are made of: a number for each label [B, N]; None for a task that has no such numbers."""
        return None

    # ---- Calling

    def __call__(
        self, inputs: Any, *, batch_size: int | None = None, num_workers: int | None = None, **arguments: Any
    ) -> Any:
        """One answer for one input, a list for a list or tuple, an iterator for a generator, an iterator or a dataset.

        batch_size: inputs that go through the model together; None is by their lengths. num_workers changes nothing.
        """
        before, after = self.steps_of(self.defaults | self.checked(arguments) if arguments else self.defaults)
        batch_size = check_count(
            self.batch_size if batch_size is None else batch_size, "batch_size", "by their lengths"
        )
        if isinstance(inputs, (str, bytes, Mapping)) or not isinstance(inputs, Iterable | Sized):
            self.read(inputs)
            return self.answer_one(inputs, before, after)
        if not isinstance(inputs, (list, tuple)):
            return self.stream(inputs, before, after, batch_size)
        for number, item in enumerate(inputs):
            self.read(item, number)  # before hours of work, not after
        if len(inputs) == 1:
            return [self.answer_one(inputs[0], before, after)]
        numbered = self.numbered_answers(inputs, before, after, batch_size)
        return in_order(logging.progress(numbered, total=len(inputs), what=self.task), len(inputs))

    def answer_one(self, item: Any, before: dict[str, Any], after: dict[str, Any]) -> Any:
        inputs = self.preprocess(item, **before)
        if not any(before.get(name) for name in PADDING):
            inputs.data.pop("attention_mask", None)  # nothing is padded; attention without a mask is quicker
        return self.postprocess(self.forward(inputs), inputs, **after)[0]

    def numbered_answers(
        self, items: Sequence[Any], before: dict[str, Any], after: dict[str, Any], batch_size: int | None
    ) -> Iterator[tuple[int, Any]]:
        """(number, answer) of every item, in the order in which they are computed."""
        for start in range(0, len(items), WINDOW):
            encoded = self.encode_rows(items[start : start + WINDOW], before)
            for rows, inputs in self.batches(encoded, before, batch_size):
                answers = self.postprocess(self.forward(inputs), inputs, **after)
                for row, answer in zip(rows, answers, strict=True):
                    yield start + row, answer

    def encode_rows(self, items: Sequence[Any], before: dict[str, Any]) -> BatchEncoding:
        """The rows of some items in lists, not padded."""
        unpadded = {name: value for name, value in before.items() if name not in PADDING}
        return self.preprocess(list(items), padding=False, return_tensors=None, **unpadded)

    def batches(
        self, encoded: BatchEncoding, before: dict[str, Any], batch_size: int | None
    ) -> Iterator[tuple[list[int], "Rows"]]:
        """(numbers of rows, what the model is called with) until all rows are done, the longest first."""
        lengths = [len(row) for row in encoded[self.model.main_input_name]]
        tokens = TOKENS if self.device.type == "cpu" else TOKENS_ON_GPU
        packed = self.packs and not any(before.get(name) for name in PADDING)
        for rows in plan_batches(lengths, tokens=tokens, rows=ROWS, fixed=batch_size, packed=packed):
            yield rows, self.collate(encoded, rows, before, packed)

    @property
    def packs(self) -> bool:
        """Whether batches are laid end to end instead of padded; on a GPU they are padded, which is quicker there."""
        names = {*self.tokenizer.model_input_names} - {*PER_TOKEN, "attention_mask"}
        plain = self.device.type == "cpu" and self.model._compiled_call_impl is None
        return self.model.accepts_packed and plain and not names

    def collate(self, encoded: BatchEncoding, rows: Sequence[int], before: dict[str, Any], packed: bool) -> "Rows":
        """Some rows as tensors: laid end to end, or padded to the longest of them, or as the call says."""
        columns = {name: [column[row] for row in rows] for name, column in encoded.items()}
        lengths = [len(row) for row in columns[self.model.main_input_name]]
        if packed and len(set(lengths)) > 1 and min(lengths):
            data: dict[str, Any] = {
                name: torch.tensor([[value for row in column for value in row]])
                for name, column in columns.items()
                if name in PER_TOKEN
            }
            data["attention_mask"] = Packed(tuple(lengths))
        else:
            padding = {name: before[name] for name in PADDING if before.get(name)}
            if padding.get("padding") == "max_length":
                padding["max_length"] = before.get("max_length") or self.longest
            data = self.tokenizer.pad(columns, return_tensors="pt", **padding).data
            if len(set(lengths)) == 1 and data[self.model.main_input_name].shape[1] in lengths:
                data.pop("attention_mask", None)  # all ones
        made = Rows(data, encoded.encodings and [encoded.encodings[row] for row in rows])
        if isinstance(encoded, Rows):
            made.given, owners = encoded.given, encoded.owners
            made.owners = [row if owners is None else owners[row] for row in rows]
        return made

    def stream(
        self, items: Any, before: dict[str, Any], after: dict[str, Any], batch_size: int | None
    ) -> Iterator[Any]:
        """The answers one by one, in order; no more than WINDOW items are held."""
        count = len(items) if isinstance(items, Sized) else None
        by_index = not hasattr(
            type(items), "__iter__"
        )  # a torch Dataset: Python would look for an end that it may not have
        source: Iterator[Any] = (items[i] for i in range(count or 0)) if by_index else iter(items)  # type: ignore[arg-type]

        def answer(window: list[Any], start: int) -> list[Any]:
            for number, item in enumerate(window, start):
                self.read(item, number)
            if len(window) == 1:
                return [self.answer_one(window[0], before, after)]
            return in_order(self.numbered_answers(window, before, after, batch_size), len(window))

        results = map_in_windows(source, answer, first=batch_size or 1, most=max(batch_size or 1, WINDOW))
        return results if count is None else SizedIterator(results, count)

    # ---- Looking inside

    def trace(self, inputs: Any, *, attention: bool = False, **arguments: Any) -> "Trace":
        """Every step of one input with its numbers: text, tokens, ids, hidden states, logits, scores, answer.

        A list of up to 32 inputs is traced as one padded batch. attention=True records the attentions too, with the
        eager kernel. arguments: those of a call. print() gives text, a notebook shows HTML, save(path) writes a page.
        """
        from ..trace import trace

        return trace(self, inputs, attention=attention, **arguments)

    def watch(self, *names: str, every: bool = False) -> AbstractContextManager[dict[str, Any]]:
        """`with pipe.watch("encoder.layer.3.output") as seen:` reads any module's output; see trace.watch."""
        from ..trace import watch

        return watch(self.model, *names, every=every)

    # ---- Arguments

    @classmethod
    @functools.cache
    def keywords_of(cls, step: str) -> frozenset[str]:
        """The keywords of a step, those of the base classes too where it takes any and hands them on."""
        names = set()
        for kind in cls.__mro__:
            if step in vars(kind):
                parameters = list(inspect.signature(vars(kind)[step]).parameters.values())[2:]
                names |= {p.name for p in parameters if p.kind is not p.VAR_KEYWORD and p.name != "inputs"}
                if not any(p.kind is p.VAR_KEYWORD for p in parameters):
                    break
        return frozenset(names) - BETWEEN_STEPS

    @classmethod
    def call_arguments(cls) -> frozenset[str]:
        return cls.keywords_of("preprocess") | cls.keywords_of(cls.last_step)

    def checked(self, arguments: dict[str, Any]) -> dict[str, Any]:
        """Arguments of a call under our names; TypeError for unknown ones. A subclass checks their values too."""
        allowed = self.call_arguments() | {"batch_size", "num_workers"}  # these never come here; they may be meant
        return resolve_keywords(arguments, allowed, "pipeline", type(self).__name__)

    def steps_of(self, arguments: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
        """(arguments of preprocess, arguments of postprocess)"""
        after = self.keywords_of(self.last_step)
        return {k: v for k, v in arguments.items() if k not in after}, {
            k: v for k, v in arguments.items() if k in after
        }

    # ---- The parts

    @property
    def dtype(self) -> torch.dtype:
        return self.model.dtype

    torch_dtype = dtype

    @property
    def longest(self) -> int | None:
        """The tokens of the longest input that the model and the tokenizer take; None: no limit is known."""
        limits = (self.model_longest, self.tokenizer.model_max_length)
        return min((limit for limit in limits if limit is not None and limit < 1e20), default=None)

    @staticmethod
    def as_device(device: Any) -> torch.device:
        """None: a GPU where there is one; -1: the CPU; see model.as_device for the rest."""
        return as_device("auto" if device is None else "cpu" if device == -1 else device)

    def save_pretrained(
        self,
        save_directory: str | Path,
        *,
        language: str | Sequence[str] | None = None,
        license: str | None = None,
        base_model: str | Sequence[str] | None = None,
        data: str | Sequence[str] | None = None,
        metrics: Mapping[str, float] | None = None,
        tested_on: str | None = None,
        limits: str | Sequence[str] | None = None,
        overwrite_card: bool = False,
        push_to_hub: bool = False,
        repo_id: str | None = None,
        **arguments: Any,
    ) -> None:
        """Writes model, tokenizer and a model card into one folder, which pipeline(task, model=folder) reads.

        The card, README.md, holds what the config says and what is stated here. language ("en") and license
        ("apache-2.0"): as the Hub names them. base_model: a repository; None is the one that the model was loaded from.
        data: what it was trained on. metrics: {"accuracy": 0.91}; tested_on: the data that they were measured on. A
        data set of the Hub is named "owner/name"; data and limits may be Markdown. A README.md that is there stays,
        unless overwrite_card. push_to_hub uploads the folder. arguments: those of Model.save_pretrained.
        Raises TypeError or ValueError, with nothing written, for what a card cannot hold.
        """
        from ..card import save

        given = {"language": language, "license": license, "base_model": base_model, "data": data, "metrics": metrics}
        given |= {"tested_on": tested_on, "limits": limits, "overwrite_card": overwrite_card}
        allowed = {*inspect.signature(Model.save_pretrained).parameters, *given, *UPLOAD} - {"self", "upload_arguments"}
        name = f"{type(self).__name__}.save_pretrained"
        arguments = resolve_keywords(arguments, allowed, "save_pretrained", name)
        repo_id = repo_id or Path(save_directory).resolve().name
        save(self, save_directory, given, arguments, repo_id if push_to_hub else None)

    def push_to_hub(self, repo_id: str, **arguments: Any) -> str:
        """Saves into a temporary folder and uploads it in one commit; returns the address of the commit.

        A README.md that is in the repository stays, unless overwrite_card. arguments: what save_pretrained says in the
        card; max_shard_size, variant; token, private, revision, commit_message, create_pr.
        """
        from ..card import FACTS, save

        for_card = (*FACTS, "overwrite_card")
        allowed, name = {*for_card, *UPLOAD, "max_shard_size", "variant"}, f"{type(self).__name__}.push_to_hub"
        arguments = resolve_keywords(arguments, allowed, "push_to_hub", name)
        given = {key: arguments.pop(key) for key in for_card if key in arguments}
        with tempfile.TemporaryDirectory() as folder:
            return save(self, folder, given, arguments, repo_id)


class ManyRows(Pipeline):
    """Base of the tasks in which an input becomes several rows: windows of a long text, or pairs of texts.

    A subclass writes preprocess, which gives Rows with given and owners, part and join.
    """

    last_step = "join"

    def parts(self, outputs: Any, inputs: Rows) -> list[Any]:
        """What join needs of each row."""
        raise NotImplementedError

    def join(self, item: Any, parts: list[Any]) -> Any:
        """The answer of one input from its rows, in their order. Its keywords become arguments of a call."""
        raise NotImplementedError

    def postprocess(self, outputs: Any, inputs: Any = None, **arguments: Any) -> list[Any]:
        """The answers of all inputs, whose rows are all there. arguments: those of join."""
        found: dict[int, list[Any]] = {}
        for owner, part in zip(inputs.owners, self.parts(outputs, inputs), strict=True):
            found.setdefault(owner, []).append(part)
        return [self.join(item, found[number], **arguments) for number, item in enumerate(inputs.given)]

    def answer_one(self, item: Any, before: dict[str, Any], after: dict[str, Any]) -> Any:
        ((_, answer),) = self.numbered_answers([item], before, after, self.batch_size)
        return answer

    def numbered_answers(
        self, items: Sequence[Any], before: dict[str, Any], after: dict[str, Any], batch_size: int | None
    ) -> Iterator[tuple[int, Any]]:
        for start in range(0, len(items), WINDOW):
            encoded = self.encode_rows(items[start : start + WINDOW], before)
            assert isinstance(encoded, Rows) and encoded.owners is not None
            left, found = Counter(encoded.owners), dict[int, dict[int, Any]]()
            for rows, inputs in self.batches(encoded, before, batch_size):
                for row, part in zip(rows, self.parts(self.forward(inputs), inputs), strict=True):
                    owner = encoded.owners[row]
                    found.setdefault(owner, {})[row] = part
                    left[owner] -= 1
                    if not left[owner]:
                        parts = found.pop(owner)
                        yield start + owner, self.join(encoded.given[owner], [parts[r] for r in sorted(parts)], **after)


def the_input(number: int | None) -> str:
    return "The input" if number is None else f"Input {number}"


def read_text(item: Any, number: int | None, what: str = "") -> str:
    """The input as it is, when it is a text; TypeError otherwise. what: a further sentence for it."""
    if isinstance(item, str):
        return item
    raise TypeError(f"{the_input(number)} must be a text (str), not {type(item).__name__}: {item!r:.80}.{what}")


def read_fields(
    item: Any, number: int | None, names: Sequence[str], example: str, optional: Sequence[str] = ()
) -> dict[str, Any]:
    """The input as it is, when it is a dict with these names; TypeError, which shows the example, otherwise."""
    where = the_input(number)
    if not isinstance(item, Mapping):
        raise TypeError(f"{where} must be {example}, not {type(item).__name__}: {item!r:.80}.")
    for name in item:
        if name not in (*names, *optional):
            near = did_you_mean(str(name), (*names, *optional))
            raise TypeError(f"{where} has the key {name!r}.{near} It must be {example}.")
    if lacking := [name for name in names if name not in item]:
        raise TypeError(f"{where} lacks {' and '.join(map(repr, lacking))}. It must be {example}.")
    return dict(item)


def read_texts_of(item: Any, number: int | None, one: str, many: str) -> dict[str, Any]:
    """The input as it is, when it is {one: a text, many: texts}; TypeError otherwise."""
    example = f'{{"{one}": "…", "{many}": ["…", "…"]}}'
    given = read_fields(item, number, (one, many), example)
    texts = [given[one], *(given[many] if isinstance(given[many], (list, tuple)) else [None])]
    if len(texts) < 2 or not all(isinstance(text, str) for text in texts):
        raise TypeError(f"{the_input(number)} must be {example}, with at least one text in the list, not {item!r:.80}.")
    return given


def check_count(value: Any, name: str, none: str = "all of them") -> int | None:
    """A number from 1, or None; ValueError otherwise."""
    if value is not None and (isinstance(value, bool) or not isinstance(value, int) or value < 1):
        raise ValueError(f"{name} must be a number from 1, or None ({none}), got {value!r}.")
    return value


class SizedIterator:
    """An iterator that knows how many results it gives in all."""

    def __init__(self, results: Iterator[Any], count: int):
        self.results, self.count = results, count

    def __iter__(self) -> Iterator[Any]:
        return self.results

    def __next__(self) -> Any:
        return next(self.results)

    def __len__(self) -> int:
        return self.count
