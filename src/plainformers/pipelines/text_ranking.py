"""text-ranking: a query and documents to the documents, the most relevant first, by a cross-encoder (reranker)."""

from typing import Any

import torch

from ..outputs import SequenceClassifierOutput
from .base import ManyRows, Rows, check_count, read_texts_of


class TextRankingPipeline(ManyRows):
    """Documents in the order of their relevance for a query, by any model …ForSequenceClassification with one label.

    An input is {"query": …, "documents": […]}. An answer is a list of {"index", "score", "text"}, the best first;
    index is the place among the documents.
    """

    task = "text-ranking"
    model_ending = "ForSequenceClassification"

    def __init__(self, model: Any, tokenizer: Any = None, **arguments: Any):
        super().__init__(model, tokenizer, **arguments)
        if (count := self.model.config.num_labels) != 1:
            raise ValueError(
                f"text-ranking needs a model with one label, whose logit is the relevance; this one has {count}. "
                "text-classification takes pairs too."
            )

    def read(self, item: Any, number: int | None = None) -> dict[str, Any]:
        return read_texts_of(item, number, "query", "documents")

    def preprocess(
        self,
        inputs: Any,
        *,
        truncation: bool | str | None = None,
        max_length: int | None = None,
        padding: bool | str = True,
        return_tensors: str | None = "pt",
    ) -> Rows:
        """A row for each query and document."""
        items = self.read_all(inputs)
        pairs = [(item["query"], document) for item in items for document in item["documents"]]
        encoded = self.tokenise(
            pairs, truncation=truncation, max_length=max_length, padding=padding, return_tensors=return_tensors
        )
        return Rows.of(encoded, items, [number for number, item in enumerate(items) for _ in item["documents"]])

    def parts(self, outputs: SequenceClassifierOutput, inputs: Rows) -> list[torch.Tensor]:
        """The logit of each pair."""
        assert outputs.logits is not None
        return list(outputs.logits[:, 0].float().cpu())

    def join(
        self, item: dict[str, Any], parts: list[torch.Tensor], *, top_k: int | None = None, raw_scores: bool = False
    ) -> list[dict[str, Any]]:
        """top_k: so many documents, None all of them. raw_scores: logits instead of their sigmoid, from 0 to 1."""
        scores = torch.stack(parts) if raw_scores else torch.stack(parts).sigmoid()
        order = scores.argsort(descending=True, stable=True).tolist()[:top_k]
        return [{"index": i, "score": float(scores[i]), "text": item["documents"][i]} for i in order]

    def checked(self, arguments: dict[str, Any]) -> dict[str, Any]:
        given = super().checked(arguments)
        check_count(given.get("top_k"), "top_k")
        return given
