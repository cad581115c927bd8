"""question-answering: a question and a text to the part of the text that answers it."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from ..outputs import QuestionAnsweringModelOutput
from .base import ManyRows, Rows, check_count, per_row, read_fields

EXAMPLE = '{"question": "…", "context": "…"}'


class Window(NamedTuple):
    encoding: Any
    start: np.ndarray  # logits [n]
    end: np.ndarray


class QuestionAnsweringPipeline(ManyRows):
    """Parts of texts that answer questions, by any model …ForQuestionAnswering.

    An input is {"question": …, "context": …}, or question=…, context=… (lists of them for several). An answer is
    {"score", "start", "end", "answer"}, start and end in characters of the context; with top_k a list, the best first.
    A context that is longer than the model takes goes through it in windows, which overlap.
    """

    task = "question-answering"
    model_ending = "ForQuestionAnswering"

    def __call__(self, *inputs: Any, question: Any = None, context: Any = None, **arguments: Any) -> Any:
        """See preprocess and join. data=, X=: version 4's names of the inputs; topk, of top_k."""
        given = [*inputs, *(arguments.pop(name) for name in ("data", "X") if name in arguments)]
        if question is not None or context is not None:
            given.append(paired(question, context))
        if len(given) != 1:
            raise TypeError(f"question-answering takes one input, {EXAMPLE} or a list of them, got {len(given)}.")
        return super().__call__(given[0], **arguments)

    def read(self, item: Any, number: int | None = None) -> dict[str, Any]:
        given = read_fields(item, number, ("question", "context"), EXAMPLE)
        for name, value in given.items():
            where = f"The {name}" if number is None else f"The {name} of input {number}"
            if not isinstance(value, str):
                raise TypeError(f"{where} must be a text (str), not {type(value).__name__}: {value!r:.80}.")
            if not value.strip():
                raise ValueError(f"{where} is empty.")
        return given

    def preprocess(
        self,
        inputs: Any,
        *,
        max_seq_len: int | None = None,
        doc_stride: int | None = None,
        max_question_len: int | None = None,
        padding: bool | str = True,
        return_tensors: str | None = "pt",
    ) -> Rows:
        """A row for each window of each context, behind its question.

        max_seq_len: tokens of a window with its question, 384 or what the model takes. doc_stride: tokens that windows
        share, 128 or half a window. max_question_len: most tokens of a question; None is half of a window.
        Raises ValueError for a question that is longer.
        """
        items = self.read_all(inputs)
        most = min(max_seq_len or 384, self.longest or 384)
        limit = most // 2 if max_question_len is None else max_question_len
        for number, item in enumerate(items):
            size = len(self.tokenizer(item["question"], add_special_tokens=False)["input_ids"])
            if size > limit:
                raise ValueError(f"The question of input {number} has {size} tokens; {limit} are allowed. Shorten it.")
        encoded = self.tokenizer(
            [(item["question"], item["context"]) for item in items],
            truncation="only_second",
            max_length=most,
            stride=min(most // 2, 128) if doc_stride is None else doc_stride,
            padding=padding,
            return_tensors=return_tensors,
            return_overflowing_tokens=True,
        )
        return Rows.of(encoded, items)

    def parts(self, outputs: QuestionAnsweringModelOutput, inputs: Rows) -> list[Window]:
        if not hasattr(outputs, "start_logits"):
            raise ValueError(
                f"{type(self.model).__name__} gives the ends of its best starts, not a score for every token: load the "
                "model with AutoModelForQuestionAnswering."
            )
        ends = ((x.float().cpu()) for x in (outputs.start_logits, outputs.end_logits))  # type: ignore[union-attr]
        starts, stops = ([row.numpy() for row in per_row(x, inputs)] for x in ends)
        return [Window(*row) for row in zip(inputs.encodings or (), starts, stops, strict=True)]

    def join(
        self,
        item: Mapping[str, str],
        parts: list[Window],
        *,
        top_k: int | None = None,
        max_answer_len: int = 15,
        handle_impossible_answer: bool = False,
        align_to_words: bool = True,
    ) -> Any:
        """top_k: so many answers, in a list. max_answer_len: most tokens of one. handle_impossible_answer: "" is one
        too, where the model finds none. align_to_words: answers begin and end with words, where words are known.
        """
        found: dict[str, dict[str, Any]] = {}
        least = 1.0  # of what windows say of "no answer here"
        # spans that become the same words are one answer, so that more of them are looked at, as many as version 4 did
        count = 2 * (top_k or 1) + 10 if align_to_words else top_k or 1
        for window in parts:
            null, spans = self.spans(window, count, max_answer_len)
            least = min(least, null)
            for first, last, score in spans:
                start, end = characters(window.encoding, first, last, align_to_words)
                answer = item["context"][start:end]
                if answer.lower() in found:  # several tokens, or windows, for the same words
                    found[answer.lower()]["score"] += score
                else:
                    found[answer.lower()] = {"score": score, "start": start, "end": end, "answer": answer}
        answers = list(found.values())
        if handle_impossible_answer:
            answers.append({"score": least, "start": 0, "end": 0, "answer": ""})
        answers.sort(key=lambda answer: answer["score"], reverse=True)
        return answers[0] if top_k is None else answers[:top_k]

    def spans(self, window: Window, count: int, most: int) -> tuple[float, list[tuple[int, int, float]]]:
        """(probability of no answer, the best (first token, last token, probability)) of one window."""
        encoding = window.encoding
        real = [i for i, mask in enumerate(encoding.attention_mask) if mask]  # padding has no logits
        inside = np.array([encoding.sequence_ids[i] == 1 for i in real])
        no_answer = np.array([encoding.ids[i] == self.tokenizer.cls_token_id for i in real])
        start, end = (probabilities(x, inside | no_answer) for x in (window.start, window.end))
        null = float(start[no_answer].sum() * end[no_answer].sum())
        both = np.triu(start[:, None] * end[None, :])
        both = np.tril(both, most - 1) * (inside[:, None] & inside[None, :])
        best = np.argsort(-both, axis=None, kind="stable")[:count]
        places = zip(*np.unravel_index(best, both.shape), strict=True)
        allowed = [(int(i), int(j)) for i, j in places if inside[i] and inside[j] and i <= j]
        return null, [(real[i], real[j], float(both[i, j])) for i, j in allowed]

    @classmethod
    def call_arguments(cls) -> frozenset[str]:
        return super().call_arguments() | {"topk"}

    def checked(self, arguments: dict[str, Any]) -> dict[str, Any]:
        given = super().checked(arguments)
        if "topk" in given:
            given["top_k"] = given.pop("topk")
        for name in ("top_k", "max_answer_len", "max_seq_len", "doc_stride", "max_question_len"):
            check_count(given.get(name), name, "the default")
        if given.get("top_k") == 1:
            del given["top_k"]  # one answer comes without a list
        return given


def paired(question: Any, context: Any) -> Any:
    """Questions and contexts, of which one may serve all, as inputs."""
    if question is None or context is None:
        there, lacking = ("question", "context") if context is None else ("context", "question")
        raise TypeError(f"A {there} was given without a {lacking}: question=…, context=….")
    if isinstance(question, str) and isinstance(context, str):
        return {"question": question, "context": context}
    count = max(len(value) for value in (question, context) if not isinstance(value, str))
    questions, contexts = ([value] * count if isinstance(value, str) else list(value) for value in (question, context))
    if len(questions) != len(contexts):
        raise ValueError(f"{len(questions)} questions and {len(contexts)} contexts do not pair up.")
    return [{"question": one, "context": other} for one, other in zip(questions, contexts, strict=True)]


def probabilities(logits: np.ndarray, allowed: np.ndarray) -> np.ndarray:
    """Over the allowed tokens; 0 elsewhere."""
    x = np.where(allowed, logits, -np.inf)
    x = np.exp(x - x.max())
    return x / x.sum()


def characters(encoding: Any, first: int, last: int, words: bool) -> tuple[int, int]:
    """First and last character of the context for two tokens."""
    start, end = encoding.offsets[first][0], encoding.offsets[last][1]
    if words:
        begin, finish = (encoding.token_to_word(token) for token in (first, last))
        if begin is not None and finish is not None:
            start, end = encoding.word_to_chars(begin, 1)[0], encoding.word_to_chars(finish, 1)[1]
    return start, end
