"""Collators: what makes one batch of several rows. Each is called with a list of dicts and returns a dict of tensors.

Those that draw random numbers (masked words) take torch's global generator, which the Trainer seeds for every batch,
or with `seed` one of their own, which `reseed` begins anew for a batch.
Shapes: B rows, T tokens of the longest.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

LABELS = {"label": "labels", "label_ids": "labels"}
NO_TARGET = -100


# ---- From rows to tensors


def check_rows(rows: list[Any], who: str) -> list[dict[str, Any]]:
    """The rows as dicts. Raises ValueError that names the row and the column where they differ."""
    if not rows:
        raise ValueError(f"{who} got no rows.")
    plain = [dict(row) if isinstance(row, Mapping) or hasattr(row, "keys") else dict(vars(row)) for row in rows]
    for i, row in enumerate(plain):
        if row.keys() != plain[0].keys():
            odd = sorted(row.keys() ^ plain[0].keys())
            raise ValueError(f"{who}: row {i} has the columns {sorted(row)}, row 0 {sorted(plain[0])}; {odd} differ.")
    return plain


def column(rows: list[dict[str, Any]], name: str) -> Tensor:
    """One column of all rows. Raises ValueError when they differ in length: such columns are padded before."""
    values = [row[name] for row in rows]
    try:
        if isinstance(values[0], Tensor):
            return torch.stack(values)
        array = np.asarray(values)
    except (ValueError, RuntimeError) as error:
        raise ValueError(
            f"The column {name!r} has rows of different lengths, which this collator does not pad."
        ) from error
    if array.dtype.kind not in "biuf":
        raise ValueError(f"The column {name!r} holds no numbers: row 0 has {values[0]!r:.80}.")
    kinds = {"f": np.float32, "b": np.bool_}
    return torch.from_numpy(array.astype(kinds.get(array.dtype.kind, np.int64), copy=False))


def as_returned(batch: dict[str, Any], return_tensors: str) -> dict[str, Any]:
    if return_tensors == "pt":
        return batch
    if return_tensors == "np":
        return {name: value.numpy() if isinstance(value, Tensor) else value for name, value in batch.items()}
    raise ValueError(f"return_tensors must be 'pt' or 'np', got {return_tensors!r:.40}.")


def default_data_collator(features: list[Any], return_tensors: str = "pt") -> dict[str, Any]:
    """Stacks rows of one length; label and label_ids become labels. Columns of texts, and None, are left out."""
    rows = check_rows(features, "default_data_collator")
    first = rows[0]
    kept = [k for k, v in first.items() if v is not None and not isinstance(v, str)]
    batch = {LABELS.get(name, name): column(rows, name) for name in kept}
    return as_returned(batch, return_tensors)


@dataclass
class DefaultDataCollator:
    """default_data_collator as a class."""

    return_tensors: str = "pt"

    def __call__(self, features: list[Any], return_tensors: str | None = None) -> dict[str, Any]:
        return default_data_collator(features, return_tensors or self.return_tensors)


def padded(
    tokenizer: Any, rows: list[dict[str, Any]], keep: tuple[str, ...] = (), **how: Any
) -> tuple[dict[str, Any], dict[str, list[Any]]]:
    """(the tokenizer's columns padded, and those of one length, as tensors; the columns `keep` as they came)."""
    own = {*tokenizer.model_input_names, "special_tokens_mask"}
    kept = {name: [row[name] for row in rows] for name in keep if name in rows[0]}
    others = [name for name in rows[0] if name not in own and name not in keep]
    batch = dict(
        tokenizer.pad([{k: v for k, v in row.items() if k in own} for row in rows], return_tensors="pt", **how)
    )
    for name in others:
        if rows[0][name] is not None and not isinstance(rows[0][name], str):
            batch[LABELS.get(name, name)] = column(rows, name)
    return batch, kept


def pad_labels(labels: list[Any], width: int, side: str, fill: int) -> Tensor:
    """[B, width], filled up on the side on which the tokenizer pads."""
    longest = max(map(len, labels))
    out = np.full((len(labels), max(width, longest)), fill, dtype=np.int64)
    for i, row in enumerate(labels):
        if len(row):
            out[i, slice(-len(row), None) if side == "left" else slice(len(row))] = np.asarray(row)
    return torch.from_numpy(out)


def fit(labels: list[Any], rows: list[dict[str, Any]], who: str) -> None:
    """Raises ValueError for a row whose labels are not one per token."""
    for i, (row, own) in enumerate(zip(rows, labels, strict=True)):
        if len(own) != len(row["input_ids"]):
            raise ValueError(f"{who}: row {i} has {len(row['input_ids'])} tokens and {len(own)} labels.")


@dataclass
class DataCollatorWithPadding:
    """Pads rows of token ids to the longest one; padding, max_length, pad_to_multiple_of are tokenizer.pad's."""

    tokenizer: Any
    padding: bool | str = True
    max_length: int | None = None
    pad_to_multiple_of: int | None = None
    return_tensors: str = "pt"

    def __call__(self, features: list[Any]) -> dict[str, Any]:
        rows = check_rows(features, type(self).__name__)
        return as_returned(padded(self.tokenizer, rows, **padding_of(self))[0], self.return_tensors)


def padding_of(collator: Any) -> dict[str, Any]:
    return {n: getattr(collator, n) for n in ("padding", "max_length", "pad_to_multiple_of")}


@dataclass
class DataCollatorForTokenClassification:
    """Pads token ids and, with label_pad_token_id, the labels of each token."""

    tokenizer: Any
    padding: bool | str = True
    max_length: int | None = None
    pad_to_multiple_of: int | None = None
    label_pad_token_id: int = NO_TARGET
    return_tensors: str = "pt"

    def __call__(self, features: list[Any]) -> dict[str, Any]:
        who = type(self).__name__
        rows = check_rows(features, who)
        batch, kept = padded(self.tokenizer, rows, ("labels", "label"), **padding_of(self))
        labels = kept.get("labels", kept.get("label"))
        if labels is not None:
            fit(labels, rows, who)
            width, side = batch["input_ids"].shape[1], self.tokenizer.padding_side
            batch["labels"] = pad_labels(labels, width, side, self.label_pad_token_id)
        return as_returned(batch, self.return_tensors)


@dataclass
class DataCollatorForSeq2Seq:
    """Pads token ids and labels, each to its own longest row.

    model: one with prepare_decoder_input_ids_from_labels gets decoder_input_ids, too.
    """

    tokenizer: Any
    model: Any = None
    padding: bool | str = True
    max_length: int | None = None
    pad_to_multiple_of: int | None = None
    label_pad_token_id: int = NO_TARGET
    return_tensors: str = "pt"

    def __call__(self, features: list[Any], return_tensors: str | None = None) -> dict[str, Any]:
        rows = check_rows(features, type(self).__name__)
        batch, kept = padded(self.tokenizer, rows, ("labels", "label"), **padding_of(self))
        labels = kept.get("labels", kept.get("label"))
        if labels is not None and labels[0] is not None:
            width = max(map(len, labels))
            if self.padding == "max_length" and self.max_length is not None:
                width = max(width, self.max_length)
            multiple = self.pad_to_multiple_of or 1
            width = -(-width // multiple) * multiple
            batch["labels"] = pad_labels(labels, width, self.tokenizer.padding_side, self.label_pad_token_id)
            shift = getattr(self.model, "prepare_decoder_input_ids_from_labels", None)
            if shift is not None:
                batch["decoder_input_ids"] = shift(labels=batch["labels"])
        return as_returned(batch, return_tensors or self.return_tensors)


@dataclass
class DataCollatorForMultipleChoice:
    """Pads rows that hold several choices each: [B, choices, T]."""

    tokenizer: Any
    padding: bool | str = True
    max_length: int | None = None
    pad_to_multiple_of: int | None = None
    return_tensors: str = "pt"

    def __call__(self, features: list[Any]) -> dict[str, Any]:
        rows = check_rows(features, type(self).__name__)
        name = next((n for n in ("label", "labels") if n in rows[0]), None)
        choices = len(rows[0]["input_ids"])
        if any(len(row["input_ids"]) != choices for row in rows):
            raise ValueError(f"All rows must have as many choices; they have {[len(r['input_ids']) for r in rows]}.")
        flat = [{k: v[i] for k, v in row.items() if k != name} for row in rows for i in range(choices)]
        batch, _ = padded(self.tokenizer, flat, **padding_of(self))
        batch = {k: v.view(len(rows), choices, *v.shape[1:]) for k, v in batch.items()}
        if name is not None:
            batch["labels"] = column(rows, name)
        return as_returned(batch, self.return_tensors)


@dataclass
class DataCollatorWithFlattening:
    """All rows in one, without padding: [1, tokens of all], position_ids that begin anew with every row.

    labels: input_ids where a row has none; the first of each row is separator_id, so that no row foretells the next.
    return_seq_idx: the number of the row of each token. return_flash_attn_kwargs: where rows begin, as flash-attn asks.
    """

    return_position_ids: bool = True
    separator_id: int = NO_TARGET
    return_flash_attn_kwargs: bool = False
    return_seq_idx: bool = False
    position_ids_start: int = 0
    return_tensors: str = "pt"

    def __call__(self, features: list[Any], return_tensors: str | None = None) -> dict[str, Any]:
        rows = check_rows(features, type(self).__name__)
        ids = [np.asarray(row["input_ids"], dtype=np.int64) for row in rows]
        lengths = [len(one) for one in ids]
        labels = [np.array(row.get("labels", row["input_ids"]), dtype=np.int64) for row in rows]
        for own in labels:
            own[:1] = self.separator_id
        one = lambda parts: torch.from_numpy(np.concatenate(parts))[None]  # noqa: E731
        batch: dict[str, Any] = {"input_ids": one(ids), "labels": one(labels)}
        if self.return_position_ids:
            first = self.position_ids_start
            batch["position_ids"] = one([np.arange(first, first + n) for n in lengths])
        if self.return_seq_idx:
            batch["seq_idx"] = one([np.full(n, i, dtype=np.int32) for i, n in enumerate(lengths)])
        if self.return_flash_attn_kwargs:
            ends = torch.tensor([0, *np.cumsum(lengths).tolist()], dtype=torch.int32)
            batch |= {"cu_seq_lens_q": ends, "cu_seq_lens_k": ends.clone()}
            batch |= {"max_length_q": max(lengths), "max_length_k": max(lengths)}
        return as_returned(batch, return_tensors or self.return_tensors)


# ---- Words that are to be found out


def starts_word(tokenizer: Any) -> np.ndarray:
    """[V] bool: the tokens with which a word begins; WordPiece marks those that go on, the others those that begin."""
    tokens = tokenizer.convert_ids_to_tokens(list(range(len(tokenizer))))
    if any(t and t.startswith("##") for t in tokens):
        return np.array([not (t or "").startswith("##") for t in tokens])
    begins = np.array([(t or "").startswith(("\u2581", "\u0120")) for t in tokens])
    if not begins.any():
        raise ValueError("whole_word_mask: the tokens of this tokenizer do not show where a word begins.")
    return begins


@dataclass
class DataCollatorForLanguageModeling:
    """Pads, and makes labels: with mlm, tokens that are hidden and to be found out; without, the input_ids themselves.

    mlm_probability: the part of the tokens, never special ones, that is asked for (Devlin et al., 2019). Of these,
    mask_replace_prob become the mask token, random_replace_prob any other, the rest stays. whole_word_mask: the tokens
    of a word are asked for together.
    """

    tokenizer: Any
    mlm: bool = True
    whole_word_mask: bool = False
    mlm_probability: float | None = 0.15
    mask_replace_prob: float = 0.8
    random_replace_prob: float = 0.1
    pad_to_multiple_of: int | None = None
    return_tensors: str = "pt"
    seed: int | None = None
    _generator: torch.Generator | None = field(default=None, init=False, repr=False)
    _begins: Tensor | None = field(default=None, init=False, repr=False)

    def __post_init__(self) -> None:
        if self.mlm:
            if getattr(self.tokenizer, "mask_token", None) is None:
                raise ValueError(
                    f"mlm=True hides words behind a mask token, which this {type(self.tokenizer).__name__} has not. "
                    "Use mlm=False for models that write texts."
                )
            for name in ("mlm_probability", "mask_replace_prob", "random_replace_prob"):
                value = getattr(self, name)
                if value is None or not 0 <= value <= 1 or name == "mlm_probability" and not value:
                    raise ValueError(f"{name} must be between 0 and 1, got {value}.")
            if self.mask_replace_prob + self.random_replace_prob > 1:
                raise ValueError("mask_replace_prob and random_replace_prob are more than 1 together.")
        elif self.whole_word_mask:
            raise ValueError("whole_word_mask needs mlm=True.")
        if self.seed is not None:
            self._generator = torch.Generator().manual_seed(self.seed)

    def reseed(self, *place: int) -> None:
        """Begins a generator of one's own anew for a batch, so that its masks depend on nothing before."""
        if self._generator is not None:
            drawn = np.random.SeedSequence((self.seed or 0, *place)).generate_state(1)
            self._generator.manual_seed(int(drawn[0]))

    def __call__(self, features: list[Any], return_tensors: str | None = None) -> dict[str, Any]:
        some = features and not hasattr(features[0], "keys")  # rows may be ids alone
        rows = [{"input_ids": list(row)} for row in features] if some else check_rows(features, type(self).__name__)
        batch, kept = padded(self.tokenizer, rows, ("labels",), pad_to_multiple_of=self.pad_to_multiple_of)
        special = batch.pop("special_tokens_mask", None)
        ids, side = batch["input_ids"], self.tokenizer.padding_side
        real = batch.get("attention_mask")
        real = torch.ones_like(ids) if real is None else real
        if self.mlm:
            if special is None:
                special = torch.isin(ids, torch.tensor(sorted(self.tokenizer.all_special_ids)))
            batch["input_ids"], batch["labels"] = self.mask(ids, special.bool() | ~real.bool())
        elif "labels" in kept and kept["labels"][0] is not None:
            fit(kept["labels"], rows, type(self).__name__)
            batch["labels"] = pad_labels(kept["labels"], ids.shape[1], side, NO_TARGET)
        else:
            batch["labels"] = ids.masked_fill(~real.bool(), NO_TARGET)  # by the mask: pad may be a token of texts, too
        return as_returned(batch, return_tensors or self.return_tensors)

    def torch_mask_tokens(self, inputs: Tensor, special_tokens_mask: Any = None) -> tuple[Tensor, Tensor]:
        """(ids with hidden words, labels) of ids [B, T], under the name in Transformers."""
        if special_tokens_mask is None:
            special_tokens_mask = torch.isin(inputs, torch.tensor(sorted(self.tokenizer.all_special_ids)))
        return self.mask(inputs, torch.as_tensor(special_tokens_mask).bool())

    def mask(self, ids: Tensor, never: Tensor) -> tuple[Tensor, Tensor]:
        """(ids with hidden words, labels) of ids [B, T]; never: [B, T] bool, tokens that are not asked for."""
        drawn = torch.rand(ids.shape, generator=self._generator)
        if self.whole_word_mask:
            drawn = drawn.gather(1, self.first_of_word(ids, never))
        chosen = (drawn < (self.mlm_probability or 0)) & ~never
        labels = ids.masked_fill(~chosen, NO_TARGET)
        how = torch.rand(ids.shape, generator=self._generator)
        others = torch.randint(len(self.tokenizer), ids.shape, generator=self._generator)
        hidden = ids.masked_fill(chosen & (how < self.mask_replace_prob), self.tokenizer.mask_token_id)
        wrong = chosen & (how >= self.mask_replace_prob) & (how < self.mask_replace_prob + self.random_replace_prob)
        return torch.where(wrong, others, hidden), labels

    def first_of_word(self, ids: Tensor, never: Tensor) -> Tensor:
        """[B, T]: the place of the first token of each token's word."""
        if self._begins is None:
            self._begins = torch.from_numpy(starts_word(self.tokenizer))
        begins = self._begins[ids] | never | torch.nn.functional.pad(never[:, :-1], (1, 0), value=True)
        places = torch.arange(ids.shape[1]).expand_as(ids)
        return torch.where(begins, places, 0).cummax(1).values


def DataCollatorForWholeWordMask(tokenizer: Any, **settings: Any) -> DataCollatorForLanguageModeling:  # noqa: N802
    """DataCollatorForLanguageModeling with whole_word_mask, under its name in Transformers 4."""
    return DataCollatorForLanguageModeling(tokenizer, **{**settings, "whole_word_mask": True})


@dataclass
class DataCollatorForPermutationLanguageModeling:
    """What XLNet is trained on (Yang et al., 2019): spans are asked for, in an order of the tokens that is drawn.

    Returns input_ids, labels [B, T], perm_mask [B, T, T] (1: the first may not see the second) and target_mapping
    [B, T, T]. plm_probability: the part that is asked for, in spans of at most max_span_length tokens. T must be even.
    """

    tokenizer: Any
    plm_probability: float = 1 / 6
    max_span_length: int = 5
    return_tensors: str = "pt"

    def __call__(self, features: list[Any]) -> dict[str, Any]:
        if getattr(self.tokenizer, "mask_token", None) is None:
            raise ValueError("This tokenizer has no mask token, which stands for the words that are asked for.")
        rows = check_rows(features, type(self).__name__)
        batch, _ = padded(self.tokenizer, [{"input_ids": row["input_ids"]} for row in rows])
        ids, real = batch["input_ids"], batch["attention_mask"].bool()
        B, T = ids.shape
        if T % 2:
            raise ValueError(f"The longest row has {T} tokens; permutation language modeling needs an even number.")
        asked = torch.zeros_like(real)
        for row in asked:
            start = 0
            while start < T:
                span = int(torch.randint(1, self.max_span_length + 1, ()))
                context = int(span / self.plm_probability)
                first = start + int(torch.randint(context - span + 1, ()))
                row[first : first + span] = True
                start += context
        special = torch.isin(ids, torch.tensor(sorted(self.tokenizer.all_special_ids))) | ~real
        asked &= ~special
        order = torch.stack([self.order(T) for _ in range(B)])  # when each token's turn is
        order = order.masked_fill(~asked & ~special, -1)  # what is not asked for is seen by all
        perm_mask = ((order[:, :, None] <= order[:, None, :]) & asked[:, None, :]).float()
        labels = ids.masked_fill(~asked, NO_TARGET)
        hidden = ids.masked_fill(asked, self.tokenizer.mask_token_id)
        target_mapping = torch.eye(T).expand(B, T, T).clone()
        found = {"input_ids": hidden, "perm_mask": perm_mask, "target_mapping": target_mapping, "labels": labels}
        return as_returned(found, self.return_tensors)

    @staticmethod
    def order(T: int) -> Tensor:
        """[T]: when each token's turn is; both halves in the same order, one after the other."""
        half = torch.randperm(T // 2)
        return torch.cat((half, half + T // 2))
