"""What models return: dataclasses that can also be read as the tuples and dictionaries that users know.

`out.logits`, `out["logits"]`, `out[0]`, `out[:2]`, `out.to_tuple()` and `dict(out)` all work; a field that is None
does not count in the tuple. Shapes: B batch, T tokens, C hidden size, V vocabulary, N labels, L layers, H heads.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field, fields
from typing import Any

import torch
from torch import Tensor

HiddenStates = tuple[Tensor, ...]  # L + 1 tensors [B, T, C]: the embeddings, then the output of every layer
Attentions = tuple[Tensor, ...]  # L tensors [B, H, Q, K] of probabilities


def outside_tuple() -> Any:
    """A field that is an attribute only, so that the tuple stays the one that users know."""
    return field(default=None, kw_only=True, metadata={"outside_tuple": True})


@dataclass
class ModelOutput:
    """Base of all outputs; a subclass is a dataclass whose fields default to None."""

    def keys(self) -> list[str]:
        return [
            f.name for f in fields(self) if not f.metadata.get("outside_tuple") and getattr(self, f.name) is not None
        ]

    def values(self) -> list[Any]:
        return [getattr(self, name) for name in self.keys()]

    def items(self) -> list[tuple[str, Any]]:
        return [(name, getattr(self, name)) for name in self.keys()]

    def to_tuple(self) -> tuple[Any, ...]:
        return tuple(self.values())

    def get(self, name: str, default: Any = None) -> Any:
        value = getattr(self, name, None)
        return default if value is None else value

    def __getitem__(self, key: str | int | slice) -> Any:
        if not isinstance(key, str):
            return self.to_tuple()[key]
        if key in self:
            return getattr(self, key)
        raise KeyError(f"{type(self).__name__} has no {key!r} here; it holds {', '.join(self.keys()) or 'nothing'}.")

    def __setitem__(self, key: str, value: Any) -> None:
        setattr(self, key, value)

    def __contains__(self, key: object) -> bool:
        return key in self.keys()

    def __iter__(self) -> Iterator[str]:
        return iter(self.keys())

    def __len__(self) -> int:
        return len(self.keys())


@dataclass
class BaseModelOutput(ModelOutput):
    last_hidden_state: Tensor | None = None  # [B, T, C]
    hidden_states: HiddenStates | None = None
    attentions: Attentions | None = None


@dataclass
class BaseModelOutputWithPast(ModelOutput):
    last_hidden_state: Tensor | None = None  # [B, T, C]
    past_key_values: Any = None
    hidden_states: HiddenStates | None = None
    attentions: Attentions | None = None


@dataclass
class BaseModelOutputWithPastAndCrossAttentions(BaseModelOutputWithPast):
    cross_attentions: Attentions | None = None


@dataclass
class MoeModelOutputWithPast(BaseModelOutputWithPast):
    router_logits: tuple[Tensor, ...] | None = None  # L tensors [B T, E] of scores over experts


@dataclass
class BaseModelOutputWithPoolingAndCrossAttentions(ModelOutput):
    last_hidden_state: Tensor | None = None  # [B, T, C]
    pooler_output: Tensor | None = None  # [B, C]
    hidden_states: HiddenStates | None = None
    past_key_values: Any = None
    attentions: Attentions | None = None
    cross_attentions: Attentions | None = None


@dataclass
class PreTrainingOutput(ModelOutput):
    loss: Tensor | None = None
    prediction_logits: Tensor | None = None  # [B, T, V]
    seq_relationship_logits: Tensor | None = None  # [B, 2]
    hidden_states: HiddenStates | None = None
    attentions: Attentions | None = None
    loss_count: Tensor | None = outside_tuple()


@dataclass
class AlbertForPreTrainingOutput(ModelOutput):
    loss: Tensor | None = None
    prediction_logits: Tensor | None = None  # [B, T, V]
    sop_logits: Tensor | None = None  # [B, 2]
    hidden_states: HiddenStates | None = None
    attentions: Attentions | None = None
    loss_count: Tensor | None = outside_tuple()


@dataclass
class BaseModelOutputWithPooling(ModelOutput):
    last_hidden_state: Tensor | None = None  # [B, T, C]
    pooler_output: Tensor | None = None  # [B, C]
    hidden_states: HiddenStates | None = None
    attentions: Attentions | None = None


@dataclass
class LogitsOutput(ModelOutput):
    """Logits of any head that makes one kind: words [B, T, V], token labels [B, T, N], sequence labels [B, N]."""

    loss: Tensor | None = None
    logits: Tensor | None = None
    hidden_states: HiddenStates | None = None
    attentions: Attentions | None = None
    loss_count: Tensor | None = outside_tuple()  # targets that the loss is the mean over


class MaskedLMOutput(LogitsOutput): ...


class CausalLMOutput(LogitsOutput): ...


class SequenceClassifierOutput(LogitsOutput): ...


class TokenClassifierOutput(LogitsOutput): ...


class ElectraForPreTrainingOutput(LogitsOutput): ...


class MultipleChoiceModelOutput(LogitsOutput): ...


class NextSentencePredictorOutput(LogitsOutput): ...


@dataclass
class CausalLMOutputWithPast(ModelOutput):
    loss: Tensor | None = None
    logits: Tensor | None = None  # [B, T, V]
    past_key_values: Any = None
    hidden_states: HiddenStates | None = None
    attentions: Attentions | None = None
    loss_count: Tensor | None = outside_tuple()


@dataclass
class CausalLMOutputWithCrossAttentions(CausalLMOutputWithPast):
    cross_attentions: Attentions | None = None


@dataclass
class MoeCausalLMOutputWithPast(ModelOutput):
    loss: Tensor | None = None
    aux_loss: Tensor | None = None  # how unevenly the experts are used
    logits: Tensor | None = None  # [B, T, V]
    past_key_values: Any = None
    hidden_states: HiddenStates | None = None
    attentions: Attentions | None = None
    router_logits: tuple[Tensor, ...] | None = None
    loss_count: Tensor | None = outside_tuple()


@dataclass
class SequenceClassifierOutputWithPast(ModelOutput):
    loss: Tensor | None = None
    logits: Tensor | None = None  # [B, N]
    past_key_values: Any = None
    hidden_states: HiddenStates | None = None
    attentions: Attentions | None = None
    loss_count: Tensor | None = outside_tuple()


@dataclass
class QuestionAnsweringModelOutput(ModelOutput):
    loss: Tensor | None = None
    start_logits: Tensor | None = None  # [B, T]
    end_logits: Tensor | None = None  # [B, T]
    hidden_states: HiddenStates | None = None
    attentions: Attentions | None = None
    loss_count: Tensor | None = outside_tuple()


def transition_scores(
    sequences: Tensor, scores: tuple[Tensor, ...], beam_indices: Tensor | None = None, normalize_logits: bool = False
) -> Tensor:
    """Of what generate returned, the score of each new token [B, new tokens]; 0 behind the end of a beam's text.

    normalize_logits: their log-probabilities. Without beam_indices a text was written in one row.
    """
    if beam_indices is None:
        rows = torch.arange(len(sequences), device=sequences.device)[:, None].expand(-1, len(scores))
    else:
        rows = beam_indices[:, : int((beam_indices >= 0).sum(-1).max())]
    new = rows.shape[1]
    table = torch.stack(scores[:new])  # [new tokens, rows, V]
    table = table.log_softmax(-1) if normalize_logits else table
    found = table[torch.arange(new, device=table.device), rows.clamp(min=0), sequences[:, sequences.shape[1] - new :]]
    return found.masked_fill(rows < 0, 0.0)
