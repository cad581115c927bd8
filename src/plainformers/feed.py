"""What every way of generating works with: the task it is given, what feeds the model, what is kept, what ends a text.

`Feed` knows what the model has seen and gives it what it has not.
Shapes: B rows (prompts times beams or returned sequences), T tokens so far, V vocabulary.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from .cache import DynamicCache
from .logits import Rule
from .outputs import ModelOutput

Settings = Any  # a GenerationConfig as resolved for one call: what has a default is not None, max_length is known


@dataclass
class GenerateDecoderOnlyOutput(ModelOutput):
    """What generate returns with return_dict_in_generate=True; the tuples have an entry for each new token."""

    sequences: Tensor | None = None  # [B, T]: the prompts and what follows
    scores: tuple[Tensor, ...] | None = None  # [B, V], after the rules
    logits: tuple[Tensor, ...] | None = None  # [B, V], before them
    attentions: tuple[tuple[Tensor, ...], ...] | None = None  # of each layer [B, H, Q, K]
    hidden_states: tuple[tuple[Tensor, ...], ...] | None = None  # of each layer [B, Q, C]
    past_key_values: Any = None


@dataclass
class GenerateBeamDecoderOnlyOutput(ModelOutput):
    """The same of beam search; scores are log-probabilities."""

    sequences: Tensor | None = None
    sequences_scores: Tensor | None = None  # [B]
    scores: tuple[Tensor, ...] | None = None
    logits: tuple[Tensor, ...] | None = None
    beam_indices: Tensor | None = None  # [B, new tokens]: the row that each token was written in, -1 behind the end
    attentions: tuple[tuple[Tensor, ...], ...] | None = None
    hidden_states: tuple[tuple[Tensor, ...], ...] | None = None
    past_key_values: Any = None


class Feed:
    """What a model is given from turn to turn: only the tokens that its cache does not hold.

    mask [B, longest]: 0 for padding on the left of a prompt; None where there is none. inputs: what else the model
    takes, the same in every turn. The rows are those of the ids that it is called with. times: so many rows, next to
    each other, begin with the same prompt, which is read once.
    """

    times = 1

    def __init__(self, model: Any, config: Settings, inputs: dict[str, Any], mask: Tensor | None, cache: Any):
        self.model, self.mask, self.cache, self.chunk = model, mask, cache, config.prefill_chunk_size
        self.inputs, names = inputs, model._forward_names[0]
        self.fixed: dict[str, Any] = {"use_cache": cache is not None} if "use_cache" in names else {}
        for name in ("output_attentions", "output_hidden_states"):
            if getattr(config, name) and config.return_dict_in_generate:
                self.fixed[name] = True
        self.cuts = "logits_to_keep" in names
        rope = getattr(model.config, "rope_parameters", None) or {}
        self.turns_at = rope["original_max_position_embeddings"] if rope.get("rope_type") == "longrope" else None
        self.seen = 0 if cache is None else int(cache.get_seq_length())
        self.embeds: Tensor | None = inputs.pop("inputs_embeds", None)  # in place of the ids that they are longer than
        self.ahead = 0 if self.embeds is None else self.embeds.shape[1]

    def __call__(self, ids: Tensor, keep: int = 1) -> Any:
        """The model's output for ids [B, T], with the logits of the last `keep` tokens."""
        times, self.times = self.times, 1
        if times > 1 and isinstance(self.cache, DynamicCache) and self.fixed.keys() <= {"use_cache"}:
            prompts = torch.arange(0, len(ids), times, device=ids.device)
            self.choose(prompts)
            out = self(ids[prompts], keep)
            self.choose(torch.arange(len(prompts), device=ids.device).repeat_interleave(times))
            out.logits = out.logits.repeat_interleave(times, 0)
            return out
        T, given = ids.shape[1] + self.ahead, dict(self.inputs)
        if self.seen and self.turns_at is not None:
            padding: Any = 0 if self.mask is None else (self.mask[:, :T] == 0).sum(1)
            if torch.as_tensor((self.seen - padding <= self.turns_at) & (self.turns_at < T - padding)).any():
                self.cache.reset()  # a text has become long, and its keys are turned by other factors
                self.seen = 0
        if self.embeds is not None and self.seen < self.ahead:
            given["inputs_embeds"] = self.embeds
        else:
            given["input_ids"] = ids[:, max(self.seen - self.ahead, 0) :]
        if self.cache is not None:
            given["past_key_values"] = self.cache
        if self.mask is not None:
            given["attention_mask"] = self.mask[:, :T]
        chunk = self.chunk
        while chunk and self.cache is not None and "input_ids" in given and given["input_ids"].shape[1] > chunk + keep:
            part: dict[str, Any] = {"input_ids": given["input_ids"][:, :chunk]}
            self.seen += chunk
            part |= {"logits_to_keep": 1} if self.cuts else {}
            part |= {"attention_mask": self.mask[:, : self.seen]} if self.mask is not None else {}
            self.model(**given | self.fixed | part)
            given["input_ids"] = given["input_ids"][:, chunk:]
        if self.cuts:
            given["logits_to_keep"] = keep
        out = self.model(**given, **self.fixed)
        self.seen = 0 if self.cache is None else T
        return out

    def choose(self, rows: Tensor) -> None:
        """Row i becomes what row rows[i] was."""
        if self.cache is not None:
            self.cache.reorder_cache(rows)
        if self.mask is not None:
            self.mask = self.mask[rows]
        if self.embeds is not None:
            self.embeds = self.embeds[rows]
        self.inputs = {n: v[rows] if isinstance(v, Tensor) and v.dim() else v for n, v in self.inputs.items()}

    def forget(self, tokens: int) -> None:
        """The last tokens were not taken."""
        if tokens and self.cache is not None:
            self.cache.crop(-tokens)
            self.seen -= tokens


class Record:
    """What return_dict_in_generate asks to keep of every turn."""

    def __init__(self, config: Settings):
        asked = {"scores": config.output_scores, "logits": config.output_logits}
        asked |= {"attentions": config.output_attentions, "hidden_states": config.output_hidden_states}
        self.kept: dict[str, list[Any]] = {n: [] for n, yes in asked.items() if yes and config.return_dict_in_generate}

    def add(self, out: Any, logits: Tensor, scores: Tensor) -> None:
        for name, values in self.kept.items():
            values.append({"logits": logits, "scores": scores}[name] if name in ("logits", "scores") else out[name])

    def fields(self) -> dict[str, tuple[Any, ...]]:
        return {name: tuple(values) for name, values in self.kept.items()}


class Stop:
    """Whether rows are finished: a token that ends them, strings, a time, or what a user's criteria say."""

    def __init__(self, config: Settings, eos: Tensor, tokenizer: Any, custom: list[Callable]):
        self.eos = eos if len(eos) else None
        self.custom, self.tokenizer = custom, tokenizer
        strings = config.stop_strings
        self.strings = [strings] if isinstance(strings, str) else list(strings or ())
        if self.strings and tokenizer is None:
            raise ValueError("stop_strings need the tokenizer: generate(…, stop_strings=…, tokenizer=tokenizer).")
        self.reach = max((len(one.encode()) for one in self.strings), default=0) + 8  # tokens that a string may take
        self.end = None if config.max_time is None else time.monotonic() + config.max_time

    def __call__(self, ids: Tensor, scores: Any) -> Tensor:
        """[B] bool, of ids [B, T] whose last token is new."""
        last = ids[:, -1]
        done = torch.zeros_like(last, dtype=torch.bool) if self.eos is None else torch.isin(last, self.eos)
        if self.strings:
            done = done | torch.tensor([self.ends_with_string(row) for row in ids], device=ids.device)
        if self.end is not None and time.monotonic() > self.end:
            done = torch.ones_like(done)
        for criterion in self.custom:
            done = done | criterion(ids, scores)
        return done

    def ends_with_string(self, row: Tensor) -> bool:
        """Whether the last token brings one of the strings to its end."""
        tail = row[-self.reach :].tolist()
        after, before = (self.tokenizer.decode(tokens, skip_special_tokens=False) for tokens in (tail, tail[:-1]))
        return any(after.count(one) > before.count(one) for one in self.strings)


@dataclass
class Task:
    """What a loop is given: ids [B, T] of the prompts, and how to go on."""

    ids: Tensor
    feed: Feed
    config: Settings  # max_length counts the prompt
    rules: list[Rule]
    stop: Stop
    eos: Tensor  # [N]: the tokens that end a text
    pad: int
    mode: str
    streamer: Any = None

    def apply(self, ids: Tensor, scores: Tensor) -> Tensor:
        for rule in self.rules:
            scores = rule(ids, scores)
        return scores
