"""text-classification (sentiment-analysis): texts, or pairs of texts, to labels with scores."""

from typing import Any, Literal

import torch

from ..aliases import did_you_mean
from ..encoding import BatchEncoding
from ..outputs import SequenceClassifierOutput
from .base import Pipeline, read_fields, the_input

FUNCTIONS = ("sigmoid", "softmax", "none")


class TextClassificationPipeline(Pipeline):
    """Labels of texts by any model …ForSequenceClassification.

    An input is a text or {"text": …, "text_pair": …}. An answer is {"label": …, "score": …}; with top_k a list of
    these, the likeliest first. As in Transformers, one text gives a list even without top_k.
    """

    task = "text-classification"
    model_ending = "ForSequenceClassification"

    def __call__(self, inputs: Any, **arguments: Any) -> Any:
        """See Pipeline.__call__, preprocess and postprocess. return_all_scores: version 4's name for top_k.

        True gives all labels in the model's order, not in that of their scores; False only the likeliest.
        """
        answer = super().__call__(inputs, **arguments)
        return [answer] if isinstance(inputs, str) and "top_k" not in arguments else answer

    def read(self, item: Any, number: int | None = None) -> str | tuple[str, str]:
        if isinstance(item, str):
            return item
        given = read_fields(
            item, number, ("text",), 'a text (str) or a dict, {"text": …, "text_pair": …}', ("text_pair",)
        )
        for name, value in given.items():
            if not isinstance(value, str) and not (name == "text_pair" and value is None):
                what = f"{the_input(number)} needs a str as {name!r}"
                raise TypeError(f"{what}, not {type(value).__name__}: {value!r:.80}.")
        pair = given.get("text_pair")
        return given["text"] if pair is None else (given["text"], pair)

    def preprocess(
        self,
        inputs: Any,
        *,
        add_special_tokens: bool = True,
        padding: bool | str = True,
        truncation: bool | str | None = None,
        max_length: int | None = None,
        stride: int = 0,
        pad_to_multiple_of: int | None = None,
        padding_side: str | None = None,
        return_token_type_ids: bool | None = None,
        return_attention_mask: bool | None = None,
        return_tensors: str | None = "pt",
    ) -> BatchEncoding:
        """Tokens of one text or pair, or of a list of them; the keywords are those of a tokenizer.

        What is longer than the model takes is cut, which is said once; with truncation=False it is an error.
        """
        several = isinstance(inputs, (list, tuple))
        texts = [self.read(item, i) for i, item in enumerate(inputs)] if several else self.read(inputs)
        return self.tokenise(
            texts,
            add_special_tokens=add_special_tokens,
            padding=padding,
            truncation=truncation,
            max_length=max_length,
            stride=stride,
            pad_to_multiple_of=pad_to_multiple_of,
            padding_side=padding_side,
            return_token_type_ids=return_token_type_ids,
            return_attention_mask=return_attention_mask,
            return_tensors=return_tensors,
        )

    def scores(self, outputs: SequenceClassifierOutput, *, function_to_apply: str | None = None) -> torch.Tensor:
        """The scores [B, N] of the logits.

        function_to_apply: from logits to scores: "sigmoid", "softmax", "none". None: nothing for problem_type
        "regression", sigmoid for "multi_label_classification" or one label, else softmax.
        """
        assert outputs.logits is not None
        config, logits = self.model.config, outputs.logits.float()  # [B, N]
        if function_to_apply is None:
            one_by_one = config.problem_type == "multi_label_classification" or logits.shape[-1] == 1
            function_to_apply = "sigmoid" if one_by_one else "softmax"
            function_to_apply = "none" if config.problem_type == "regression" else function_to_apply
        if function_to_apply == "none":
            return logits
        return logits.sigmoid() if function_to_apply == "sigmoid" else logits.softmax(-1)

    def postprocess(
        self,
        outputs: SequenceClassifierOutput,
        inputs: Any = None,
        *,
        top_k: int | Literal["best", "all"] | None = "best",
        function_to_apply: str | None = None,
    ) -> list[Any]:
        """top_k: so many labels, None all of them; "best" one without a list, "all" every label in the model's order.

        function_to_apply: see scores.
        """
        names = self.model.config.id2label
        answers = []
        for scores in self.scores(outputs, function_to_apply=function_to_apply).tolist():
            if top_k == "best":
                best = max(scores)
                answers.append({"label": names[scores.index(best)], "score": best})
                continue
            labels = [{"label": names[i], "score": score} for i, score in enumerate(scores)]
            if top_k != "all":
                labels.sort(key=lambda label: label["score"], reverse=True)
                labels = labels[:top_k]  # None: all
            answers.append(labels)
        return answers

    @classmethod
    def call_arguments(cls) -> frozenset[str]:
        return super().call_arguments() | {"return_all_scores"}

    def checked(self, arguments: dict[str, Any]) -> dict[str, Any]:
        given = super().checked(arguments)
        if (every := given.pop("return_all_scores", None)) is not None:
            if "top_k" in given:
                raise TypeError("return_all_scores is version 4's name for top_k; give one of them.")
            given["top_k"] = "all" if every else "best"
        top_k, function = given.get("top_k"), given.get("function_to_apply")
        number = isinstance(top_k, int) and not isinstance(top_k, bool) and top_k > 0
        if not (top_k is None or number or top_k in ("best", "all")):
            raise ValueError(f"top_k must be a number of labels from 1, or None for all, got {top_k!r}.")
        if function is not None:
            given["function_to_apply"] = str(function).lower()
            if given["function_to_apply"] not in FUNCTIONS:
                near = did_you_mean(str(function), FUNCTIONS)
                raise ValueError(f"function_to_apply must be one of {', '.join(FUNCTIONS)}, got {function!r}.{near}")
        return given
