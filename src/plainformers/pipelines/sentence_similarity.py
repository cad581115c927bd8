"""sentence-similarity: one text and others to how near each of these is to it, by their embeddings."""

from typing import Any

import numpy as np

from .base import ManyRows, Rows, read_texts_of
from .feature_extraction import FeatureExtractionPipeline


class SentenceSimilarityPipeline(ManyRows):
    """Cosines of embeddings, by any base model; pooled as its folder says, else by the mean of the tokens.

    An input is {"source_sentence": …, "sentences": […]}. An answer is a list of numbers from -1 to 1, one for each of
    the sentences. `encode` gives the embeddings themselves.
    """

    task = "sentence-similarity"
    model_ending = "Model"

    def __init__(self, model: Any, tokenizer: Any = None, **arguments: Any):
        super().__init__(model, tokenizer, **arguments)
        self.features = FeatureExtractionPipeline(
            self.model, self.tokenizer, device=self.device, batch_size=self.batch_size
        )

    def encode(self, inputs: Any, **arguments: Any) -> Any:
        """Embeddings of texts, one array; see FeatureExtractionPipeline.encode."""
        return self.features.encode(inputs, **{"pooling": self.pooling, **arguments})

    @property
    def pooling(self) -> str:
        return "mean" if self.features.sentences is None else "model"

    def read(self, item: Any, number: int | None = None) -> dict[str, Any]:
        return read_texts_of(item, number, "source_sentence", "sentences")

    def preprocess(
        self,
        inputs: Any,
        *,
        truncation: bool | str | None = None,
        max_length: int | None = None,
        prompt: str | None = None,
        prompt_name: str | None = None,
        padding: bool | str = True,
        return_tensors: str | None = "pt",
    ) -> Rows:
        """A row for each text. The keywords are those of feature-extraction."""
        items = self.read_all(inputs)
        texts = [text for item in items for text in (item["source_sentence"], *item["sentences"])]
        asked = {"truncation": truncation, "max_length": max_length, "prompt": prompt, "prompt_name": prompt_name}
        asked = {name: value for name, value in asked.items() if value is not None}
        before, _ = self.features.steps_of(self.features.checked({"pooling": self.pooling, **asked}))
        encoded = self.features.preprocess(texts, **before, padding=padding, return_tensors=return_tensors)
        return Rows.of(
            encoded, items, [number for number, item in enumerate(items) for _ in range(1 + len(item["sentences"]))]
        )

    def parts(self, outputs: Any, inputs: Rows) -> list[np.ndarray]:
        """The embedding [C] of each text, of length 1."""
        return self.features.postprocess(outputs, inputs, pooling=self.pooling, normalized=True)

    def join(self, item: dict[str, Any], parts: list[np.ndarray]) -> list[float]:
        return (np.stack(parts[1:]) @ parts[0]).tolist()
