"""zero-shot-classification: texts to scores of any labels, by a model that says whether one text implies another.

Yin, Hay and Roth, 2019, https://arxiv.org/abs/1909.00161: every label makes a hypothesis, and the text is its premise.
"""

from collections.abc import Sequence
from typing import Any

import torch

from ..outputs import SequenceClassifierOutput
from .base import ManyRows, Rows, read_text, the_input


class ZeroShotClassificationPipeline(ManyRows):
    """Scores of labels that are chosen with the call, by any model for inference …ForSequenceClassification.

    An answer is {"sequence": …, "labels": […], "scores": […]}, the likeliest label first. As in Transformers, a list of
    one text gives the answer alone.
    """

    task = "zero-shot-classification"
    model_ending = "ForSequenceClassification"

    def __call__(self, inputs: Any, candidate_labels: Any = None, **arguments: Any) -> Any:
        """candidate_labels: a list of labels, or one text with commas between them. See preprocess and join."""
        if candidate_labels is not None:
            arguments["candidate_labels"] = candidate_labels
        if "candidate_labels" not in {**self.defaults, **arguments}:
            raise TypeError('zero-shot-classification needs candidate_labels=["…", "…"].')
        answer = super().__call__(inputs, **arguments)
        return answer[0] if isinstance(inputs, (list, tuple)) and len(inputs) == 1 else answer

    def read(self, item: Any, number: int | None = None) -> str:
        if not read_text(item, number):
            raise ValueError(f"{the_input(number)} is an empty text.")
        return item

    def preprocess(
        self,
        inputs: Any,
        *,
        candidate_labels: Sequence[str] = (),
        hypothesis_template: str = "This example is {}.",
        truncation: bool | str = "only_first",
        padding: bool | str = True,
        return_tensors: str | None = "pt",
    ) -> Rows:
        """A row for each text and label: the text, and the template with the label in place of {}."""
        texts = self.read_all(inputs)
        hypotheses = [hypothesis_template.format(label) for label in candidate_labels]
        pairs = [(text, hypothesis) for text in texts for hypothesis in hypotheses]
        encoded = self.tokenise(pairs, truncation=truncation, padding=padding, return_tensors=return_tensors)
        return Rows.of(
            encoded,
            [(text, list(candidate_labels)) for text in texts],
            [number for number in range(len(texts)) for _ in hypotheses],
        )

    def parts(self, outputs: SequenceClassifierOutput, inputs: Rows) -> list[torch.Tensor]:
        """The logits [N] of each pair."""
        assert outputs.logits is not None
        return list(outputs.logits.float().cpu())

    def join(self, item: tuple[str, list[str]], parts: list[torch.Tensor], *, multi_label: bool = False) -> Any:
        """multi_label: every label is true or false by itself; otherwise the scores sum to 1."""
        text, labels = item
        logits, entails = torch.stack(parts), self.entailment_id  # [labels, N]
        if multi_label or len(labels) == 1:
            scores = logits[:, [0 if entails else -1, entails]].softmax(-1)[:, 1]
        else:
            scores = logits[:, entails].softmax(0)
        order = scores.argsort(descending=True, stable=True).tolist()
        return {"sequence": text, "labels": [labels[i] for i in order], "scores": [float(scores[i]) for i in order]}

    @property
    def entailment_id(self) -> int:
        """The label that says that the second sentence follows from the first."""
        names = self.model.config.id2label
        for index, name in names.items():
            if str(name).lower().startswith("entail"):
                return index
        raise ValueError(
            f"The model's labels are {', '.join(map(str, names.values()))}: none begins with 'entail', so it is not "
            "made for inference. If it is, name its labels: model.config.id2label = {0: 'contradiction', …}."
        )

    def checked(self, arguments: dict[str, Any]) -> dict[str, Any]:
        given = super().checked(arguments)
        labels, template = given.get("candidate_labels"), given.get("hypothesis_template")
        if labels is not None:
            labels = [label.strip() for label in labels.split(",")] if isinstance(labels, str) else list(labels)
            if not labels or not all(isinstance(label, str) and label for label in labels):
                raise ValueError(f"candidate_labels must be labels (str), at least one, got {labels!r:.80}.")
            given["candidate_labels"] = labels
        if template is not None and (not isinstance(template, str) or template.format("x") == template):
            raise ValueError(f"hypothesis_template must hold {{}}, where the label goes, got {template!r}.")
        return given
