"""token-classification (ner): a text to its tokens, words or groups of words with a label each."""

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import torch

from ..aliases import did_you_mean
from ..outputs import TokenClassifierOutput
from .base import ManyRows, Rows, per_row, read_text

STRATEGIES = ("none", "simple", "first", "average", "max")


class Item(NamedTuple):
    text: str
    words: tuple[tuple[int, int], ...] | None  # first and last character of each word, where words were given


class Token(NamedTuple):
    """A token that is no special one."""

    index: int  # among all tokens of its text, special ones counted
    word: str
    start: int  # characters of the text
    end: int
    inside: bool  # whether it goes on with the word of the token before
    scores: torch.Tensor  # [N]


class TokenClassificationPipeline(ManyRows):
    """Labels of tokens, or of the entities that they make, by any model …ForTokenClassification.

    An answer is a list of {"entity", "score", "index", "word", "start", "end"}; with an aggregation_strategy of
    {"entity_group", "score", "word", "start", "end"}. start and end count characters. A text that is longer than the
    model takes goes through it in windows, which overlap.
    """

    task = "token-classification"
    model_ending = "ForTokenClassification"

    def __call__(self, inputs: Any, **arguments: Any) -> Any:
        """See preprocess and join. grouped_entities, ignore_subwords: version 4's names for the strategies."""
        given = {**self.defaults, **arguments}
        if given.get("is_split_into_words") and isinstance(inputs, (list, tuple)):
            one = all(isinstance(word, str) for word in inputs)
            answers = super().__call__([inputs] if one else list(inputs), **arguments)
            return answers[0] if one else answers
        return super().__call__(inputs, **arguments)

    def read(self, item: Any, number: int | None = None) -> Any:
        if isinstance(item, (list, tuple)) and all(isinstance(word, str) for word in item):
            return tuple(item)  # words; preprocess says when a text was wanted
        return read_text(item, number, " Words need is_split_into_words=True.")

    def preprocess(
        self,
        inputs: Any,
        *,
        stride: int | None = None,
        is_split_into_words: bool = False,
        delimiter: str = " ",
        padding: bool | str = True,
        return_tensors: str | None = "pt",
    ) -> Rows:
        """A row for each window of each text.

        stride: tokens that windows share; None is a quarter of the longest input. is_split_into_words: an input is a
        list of words; the answer's characters are those of the words with the delimiter between them.
        """
        several = isinstance(inputs, list) or (isinstance(inputs, tuple) and not is_split_into_words)
        given = [self.read(item, i) for i, item in enumerate(inputs)] if several else [self.read(inputs)]
        for number, item in enumerate(given):
            if isinstance(item, str) is is_split_into_words:
                wanted = "a list of words" if is_split_into_words else "a text; words need is_split_into_words=True"
                raise TypeError(f"Input {number} must be {wanted}, not {item!r:.80}.")
        items = [Item(delimiter.join(item), spans(item, delimiter)) if is_split_into_words else Item(item, None)
                 for item in given]  # fmt: skip
        most = self.longest
        shared = min(most // 4, 128) if stride is None and most else stride or 0
        encoded = self.tokenizer(
            [list(item) for item in given] if is_split_into_words else given,
            is_split_into_words=is_split_into_words,
            truncation=most is not None,
            max_length=most,
            stride=shared,
            padding=padding,
            return_tensors=return_tensors,
            return_overflowing_tokens=True,
        )
        return Rows.of(encoded, [(item, shared) for item in items])

    def parts(self, outputs: TokenClassifierOutput, inputs: Rows) -> list[Any]:
        """(encoding, scores [n, N]) of each window."""
        assert outputs.logits is not None
        rows = per_row(outputs.logits.float().softmax(-1).cpu(), inputs)
        return list(zip(inputs.encodings or (), rows, strict=True))

    def join(
        self,
        item: tuple[Item, int],
        parts: list[Any],
        *,
        aggregation_strategy: str = "none",
        ignore_labels: Sequence[str] = ("O",),
    ) -> list[dict[str, Any]]:
        """aggregation_strategy: none: every token for itself; simple: neighbours of one label are a group; first,
        average, max: so, but a word has one label, that of its first token, of the mean or of the surest one.
        ignore_labels: what is left out.
        """
        tokens = list(self.tokens(item[0], parts, item[1]))
        names = self.model.config.id2label
        if aggregation_strategy in ("none", "simple"):
            found = []
            for token in tokens:
                score, best = token.scores.max(0)
                found.append(
                    {"entity": names[int(best)], "score": float(score), "index": token.index, "word": token.word,
                     "start": token.start, "end": token.end}
                )  # fmt: skip
        else:
            found = [self.label_word(word, aggregation_strategy) for word in words_of(tokens)]
        if aggregation_strategy != "none":
            found = [self.group(entities) for entities in groups_of(found)]
        key = "entity" if aggregation_strategy == "none" else "entity_group"
        return [entity for entity in found if entity[key] not in ignore_labels]

    def tokens(self, item: Item, parts: list[Any], shared: int) -> Iterator[Token]:
        """The tokens of a text; of what two windows share, each gives the half that it sees more around."""
        pieces = bool(getattr(self.tokenizer.backend_tokenizer.model, "continuing_subword_prefix", None))
        index = 0
        for number, (encoding, scores) in enumerate(parts):
            special = encoding.special_tokens_mask
            real = [i for i, mask in enumerate(encoding.attention_mask) if mask]  # padding is in no row of scores
            places = [i for i in real if not special[i]]
            index += real.index(places[0]) if places and not number else 0
            first = shared - shared // 2 if number else 0
            last = len(places) - (shared // 2 if number < len(parts) - 1 else 0)
            for i in places[first:last]:
                start, end = encoding.offsets[i]
                if item.words is not None:
                    begin = item.words[encoding.word_ids[i]][0]
                    start, end = start + begin, end + begin
                token, text = encoding.tokens[i], item.text[start:end]
                inside = (
                    len(token) != len(text) if pieces else start > 0 and " " not in item.text[start - 1 : start + 1]
                )
                if encoding.ids[i] == self.tokenizer.unk_token_id:
                    token, inside = text, False
                yield Token(index, token, start, end, inside, scores[real.index(i)])
                index += 1

    def label_word(self, tokens: list[Token], strategy: str) -> dict[str, Any]:
        scores = tokens[0].scores
        if strategy == "average":
            scores = torch.stack([token.scores for token in tokens]).mean(0)
        elif strategy == "max":
            scores = max(tokens, key=lambda token: float(token.scores.max())).scores
        score, best = scores.max(0)
        word = self.tokenizer.convert_tokens_to_string([token.word for token in tokens])
        label = self.model.config.id2label[int(best)]
        return {"entity": label, "score": float(score), "word": word, "start": tokens[0].start, "end": tokens[-1].end}

    def group(self, entities: list[dict[str, Any]]) -> dict[str, Any]:
        return {
            "entity_group": split_tag(entities[0]["entity"])[1],
            "score": sum(entity["score"] for entity in entities) / len(entities),
            "word": self.tokenizer.convert_tokens_to_string([entity["word"] for entity in entities]),
            "start": entities[0]["start"],
            "end": entities[-1]["end"],
        }

    @classmethod
    def call_arguments(cls) -> frozenset[str]:
        return super().call_arguments() | {"grouped_entities", "ignore_subwords"}

    def checked(self, arguments: dict[str, Any]) -> dict[str, Any]:
        given = super().checked(arguments)
        grouped, subwords = given.pop("grouped_entities", None), given.pop("ignore_subwords", None)
        if grouped is not None or subwords is not None:
            if "aggregation_strategy" in given:
                raise TypeError("grouped_entities is version 4's name for aggregation_strategy; give one of them.")
            given["aggregation_strategy"] = ("first" if subwords else "simple") if grouped else "none"
        strategy = given.get("aggregation_strategy")
        if strategy is not None:
            given["aggregation_strategy"] = name = str(getattr(strategy, "value", strategy)).lower()
            if name not in STRATEGIES:
                near = did_you_mean(name, STRATEGIES)
                raise ValueError(
                    f"aggregation_strategy must be one of {', '.join(STRATEGIES)}, got {strategy!r}.{near}"
                )
        stride, most = given.get("stride"), self.longest
        if stride is not None and not (
            isinstance(stride, int) and stride >= 0 and (most is None or stride < most // 2)
        ):
            limit = "" if most is None else f" and below half of the {most} tokens that the model takes"
            raise ValueError(f"stride must be a number of tokens from 0{limit}, got {stride!r}.")
        if isinstance(given.get("ignore_labels"), str):
            raise TypeError(f"ignore_labels must be a list of labels, not the text {given['ignore_labels']!r}.")
        return given


def spans(words: Sequence[str], delimiter: str) -> tuple[tuple[int, int], ...]:
    """First and last character of each word in the words joined."""
    found, at = [], 0
    for word in words:
        found.append((at, at + len(word)))
        at += len(word) + len(delimiter)
    return tuple(found)


def words_of(tokens: list[Token]) -> list[list[Token]]:
    words: list[list[Token]] = []
    for token in tokens:
        if words and token.inside:
            words[-1].append(token)
        else:
            words.append([token])
    return words


def split_tag(label: str) -> tuple[str, str]:
    """B-PER -> B, PER; what has neither B- nor I- goes on, as I- does."""
    return (label[0], label[2:]) if label[:2] in ("B-", "I-") else ("I", label)


def groups_of(entities: list[dict[str, Any]]) -> list[list[dict[str, Any]]]:
    """Neighbours of one label, unless one begins anew (B-)."""
    groups: list[list[dict[str, Any]]] = []
    for entity in entities:
        begins, label = split_tag(entity["entity"])
        if groups and split_tag(groups[-1][-1]["entity"])[1] == label and begins != "B":
            groups[-1].append(entity)
        else:
            groups.append([entity])
    return groups
