"""fill-mask: a text with a mask token to the words that may stand there."""

from collections.abc import Sequence
from typing import Any

import torch

from .. import logging
from ..encoding import BatchEncoding
from ..outputs import MaskedLMOutput
from .base import Pipeline, check_count, per_row, read_text, the_input


class FillMaskPipeline(Pipeline):
    """Words for the mask token of a text, by any model …ForMaskedLM.

    An answer is a list of {"score", "token", "token_str", "sequence"}, the likeliest word first; for a text with
    several masks a list of such lists, in which each mask is filled by itself. As in Transformers, a list of one text
    gives the answer alone.
    """

    task = "fill-mask"
    model_ending = "ForMaskedLM"

    def __call__(self, inputs: Any, **arguments: Any) -> Any:
        answer = super().__call__(inputs, **arguments)
        return answer[0] if isinstance(inputs, (list, tuple)) and len(inputs) == 1 else answer

    def read(self, item: Any, number: int | None = None) -> str:
        text, mask = read_text(item, number), self.tokenizer.mask_token
        if mask is None:
            raise ValueError("fill-mask needs a tokenizer with a mask token; this one has none.")
        if mask not in text:
            raise ValueError(
                f"{the_input(number)} has no mask token: put {mask} where a word is to be found, in {text!r:.80}."
            )
        return text

    def preprocess(
        self,
        inputs: Any,
        *,
        tokenizer_kwargs: dict[str, Any] | None = None,
        padding: bool | str = True,
        return_tensors: str | None = "pt",
    ) -> BatchEncoding:
        """Tokens of one text or a list of them. tokenizer_kwargs: further arguments of the tokenizer."""
        several = isinstance(inputs, (list, tuple))
        texts = [self.read(item, i) for i, item in enumerate(inputs)] if several else self.read(inputs)
        call = {"padding": padding, "return_tensors": return_tensors}
        return self.tokenise(texts, **{**(tokenizer_kwargs or {}), **call})

    def scores(self, outputs: MaskedLMOutput) -> None:
        return None  # of every word, for every token: nothing that a table can show

    def postprocess(
        self,
        outputs: MaskedLMOutput,
        inputs: Any = None,
        *,
        top_k: int = 5,
        targets: str | Sequence[str] | None = None,
    ) -> list[Any]:
        """top_k: so many words for each mask. targets: only these words are looked at."""
        wanted = None if targets is None else self.target_ids(targets)
        ids = per_row(inputs["input_ids"].to(self.device), inputs)
        rows = per_row(outputs.logits, inputs)  # type: ignore[arg-type]
        return [self.fill(row, logits, top_k, wanted) for row, logits in zip(ids, rows, strict=True)]

    def fill(self, ids: torch.Tensor, logits: torch.Tensor, top_k: int, wanted: list[int] | None) -> list[Any]:
        """The answer for one text: ids [n], logits [n, V]."""
        masks = (ids == self.tokenizer.mask_token_id).nonzero().flatten().tolist()
        if not masks:
            raise ValueError(
                f"The mask token was cut off with the end of a text of more than {len(ids)} tokens: give a shorter one."
            )
        answers = []
        for place in masks:
            scores = logits[place].float().softmax(-1)
            scores = scores if wanted is None else scores[wanted]
            best = scores.topk(min(top_k, len(scores)))
            found = []
            for score, index in zip(best.values.tolist(), best.indices.tolist(), strict=True):
                token = index if wanted is None else wanted[index]
                filled = ids.tolist()
                filled[place] = token
                sequence = self.tokenizer.decode(filled, skip_special_tokens=len(masks) == 1)
                word = self.tokenizer.decode([token])
                found.append({"score": score, "token": token, "token_str": word, "sequence": sequence})
            answers.append(found)
        return answers[0] if len(answers) == 1 else answers

    def target_ids(self, targets: str | Sequence[str]) -> list[int]:
        """The id of each word; of a word that is no token the first piece counts, which is said once."""
        words = [targets] if isinstance(targets, str) else list(targets)
        if not words or not all(isinstance(word, str) and word for word in words):
            raise ValueError(f"targets must be words, at least one, got {targets!r:.80}.")
        vocabulary, found = self.tokenizer.get_vocab(), []
        for word in words:
            if (index := vocabulary.get(word)) is None:
                pieces = self.tokenizer(word, add_special_tokens=False)["input_ids"]
                if not pieces:
                    raise ValueError(f"The target {word!r} has no tokens.")
                index = pieces[0]
                piece = self.tokenizer.convert_ids_to_tokens(index)
                logging.once(f"The target {word!r} is no token of the vocabulary; {piece!r}, its first one, counts.")
            found.append(index)
        return list(dict.fromkeys(found))

    def checked(self, arguments: dict[str, Any]) -> dict[str, Any]:
        given = super().checked(arguments)
        if "top_k" in given:
            given["top_k"] = check_count(given["top_k"], "top_k", "5") or 5
        return given
