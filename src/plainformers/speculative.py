"""Drafts that the model checks, contrastive search, and contrasted layers: ways of generating beside generation.steps.

A draft is checked in one pass: the model gives its scores behind each of the tokens, those that it would have written
itself are taken, and one more. The text is the one that the model alone would write, drawn texts from the same
distribution.

Papers: speculative decoding arXiv:2211.17192, early exit 2404.16710, ensembles 2604.07622, other vocabularies
2502.05202, contrastive search 2202.06417, contrasted layers (DoLa) 2309.03883.
Shapes: B rows, T tokens so far, N drafted tokens, K candidates, C hidden, V vocabulary.
"""

import copy
import math
from collections.abc import Callable, Generator
from dataclasses import replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .cache import SPARE, DynamicCache, StaticCache
from .feed import Feed, GenerateDecoderOnlyOutput, Record, Task
from .linear import project
from .outputs import ModelOutput

Turns = Generator[Tensor, None, ModelOutput]  # new tokens of each turn; in the end what generate returns


# ---- Drafts: of ids [1, T] the next tokens [N], at most so many, and their scores [N, V] where there are any


class ModelDraft:
    """What another model writes on, until it is no longer sure; it has a cache of its own."""

    def __init__(self, task: Task, model: Any):
        own, names = model.generation_config, model._forward_names[0]
        if task.feed.embeds is not None:
            raise ValueError("A model that drafts needs input_ids; inputs_embeds are another model's.")
        inputs = {name: value for name, value in task.feed.inputs.items() if name in names}
        self.feed = Feed(model, task.config, inputs, task.feed.mask, DynamicCache(expected=task.config.max_length))
        self.feed.fixed = {name: value for name, value in self.feed.fixed.items() if name == "use_cache"}
        self.task, self.model, self.read = task, model, task.ids[0, :0]
        self.V = task.feed.model.config.get_text_config().vocab_size
        settings = ("num_assistant_tokens", "num_assistant_tokens_schedule", "assistant_confidence_threshold")
        found = (getattr(task.config if getattr(own, name) is None else own, name) for name in settings)
        self.number, self.schedule, self.least = found

    def __call__(self, ids: Tensor, most: int) -> tuple[Tensor, Tensor | None]:
        start, known = ids.shape[1], min(len(self.read), ids.shape[1] - 1)
        same = int((self.read[:known] == ids[0, :known]).cumprod(0).sum())
        self.feed.forget(max(self.feed.seen - same, 0))  # what was not taken
        scores = list[Tensor]()
        for _ in range(min(most, self.number)):
            logits = self.feed(ids.to(self.model.device)).logits[:, -1].float().to(ids.device)
            # vocabularies of a family are padded to different sizes
            scores.append(self.task.apply(ids, F.pad(logits, (0, self.V - logits.shape[1]), value=-math.inf)))
            odds = scores[-1].softmax(-1)
            token = torch.multinomial(odds, 1) if self.task.config.do_sample else odds.argmax(-1, keepdim=True)
            ids = torch.cat((ids, token), 1)
            if float(odds[0, token[0, 0]]) < self.least or torch.isin(token, self.task.eos).any():
                break
        self.read = ids[0]
        return ids[0, start:], torch.cat(scores) if scores else None

    def learn(self, drafted: int, taken: int) -> None:
        """Drafts more after a draft that was wholly taken, else less."""
        if self.schedule != "constant":
            self.number = self.number + 2 if taken == drafted else max(1, self.number - 1)
        if self.schedule == "heuristic":  # in the next call, too
            self.model.generation_config.num_assistant_tokens = self.number


class TextDraft(ModelDraft):
    """What a model with another tokenizer writes on: our text in its tokens, and its text in ours."""

    def __init__(self, task: Task, model: Any, tokenizer: Any, other: Any):
        eos = [] if other.eos_token_id is None else [other.eos_token_id]
        config = task.config.copy(do_sample=False, num_return_sequences=1)
        super().__init__(replace(task, config=config, rules=[], eos=task.eos.new_tensor(eos)), model)
        self.tokenizer, self.other, self.V = tokenizer, other, model.config.get_text_config().vocab_size
        self.feed.mask = None

    def __call__(self, ids: Tensor, most: int) -> tuple[Tensor, None]:
        text = self.tokenizer.decode(ids[0].tolist(), skip_special_tokens=True)
        theirs = ids.new_tensor([self.other(text)["input_ids"]])
        if not theirs.shape[1]:
            return ids[0, :0], None
        drafted, _ = super().__call__(theirs, most)
        before, after = (
            self.other.decode(tokens.tolist(), skip_special_tokens=True)
            for tokens in (theirs[0], torch.cat((theirs[0], drafted)))
        )
        new = after[len(before) :] if after.startswith(before) else ""
        return ids.new_tensor(self.tokenizer(new, add_special_tokens=False)["input_ids"][:most]), None


class LookUp:
    """What followed in the text where its last tokens stood before."""

    def __init__(self, task: Task):
        self.number, self.longest = task.config.prompt_lookup_num_tokens, task.config.max_matching_ngram_size or 2
        if task.config.assistant_ensemble_weight is not None:
            raise ValueError("assistant_ensemble_weight weighs a drafting model's scores; prompt lookup has none.")

    def __call__(self, ids: Tensor, most: int) -> tuple[Tensor, None]:
        text, T = ids[0], ids.shape[1]
        for size in range(min(self.longest, T - 1), 0, -1):
            found = (text[:-1].unfold(0, size, 1) == text[T - size :]).all(-1).nonzero()
            if len(found):
                start = int(found[0]) + size
                return text[start : start + min(self.number, most)], None
        return text[:0], None

    def learn(self, drafted: int, taken: int) -> None:
        pass


def first_layers(model: Any, count: int) -> Any:
    """The same model with its first layers only; they are shared."""
    total = model.config.get_text_config().num_hidden_layers
    if count >= total:
        raise ValueError(f"assistant_early_exit must be less than the {total} layers, got {count}.")
    whole, base = copy.copy(model), copy.copy(model.base_model)
    whole._modules = {name: base if one is model.base_model else one for name, one in model._modules.items()}
    base._modules = {
        name: one[:count] if isinstance(one, nn.ModuleList) and len(one) == total else one
        for name, one in model.base_model._modules.items()
    }
    return whole


def assisted_generation(task: Task, assistant: Any = None, tokenizer: Any = None, other: Any = None) -> Turns:
    """Each turn checks a draft; other: the assistant's tokenizer, where it is not the model's."""
    feed, config, record, ids = task.feed, task.config, Record(task.config), task.ids
    if config.prompt_lookup_num_tokens:
        draft: Any = LookUp(task)
    elif config.assistant_early_exit:
        draft = ModelDraft(task, first_layers(feed.model, config.assistant_early_exit))
    elif tokenizer is None or other is None:
        draft = ModelDraft(task, assistant)
    else:
        draft = TextDraft(task, assistant, tokenizer, other)
    over = False
    while not over:
        T = ids.shape[1]
        tokens, guesses = draft(ids, min(config.max_length - T - 1, SPARE))
        N, text = len(tokens), torch.cat((ids, tokens[None]), 1)
        out = feed(text, keep=N + 1)
        logits = out.logits[0, -N - 1 :].float()
        scores = torch.cat([task.apply(text[:, : T + i], logits[i : i + 1]) for i in range(N + 1)])
        new = taken(tokens, scores, guesses, config)
        draft.learn(N, len(new) - 1)
        for i, token in enumerate(new):
            ids = torch.cat((ids, token.view(1, 1)), 1)
            record.add(part_of(out, record, N, i), logits[i : i + 1], scores[i : i + 1])
            yield token.view(1)
            over = ids.shape[1] >= config.max_length or bool(task.stop(ids, record.kept.get("scores")).any())
            if over:
                break
        feed.forget(feed.seen - feed.ahead - ids.shape[1] + 1)
    return GenerateDecoderOnlyOutput(ids, **record.fields(), past_key_values=feed.cache)


def taken(tokens: Tensor, scores: Tensor, guesses: Tensor | None, config: Any) -> Tensor:
    """Of drafted tokens [N] those that are right, and one more, by the model's scores [N + 1, V].

    guesses [N, V]: the scores of who drafted. A token that was drawn from them is kept with the odds that the model
    gives it by those it was drawn with; if not, what the model thinks more likely is drawn in its place.
    """
    N, odds, weight = len(tokens), scores.softmax(-1), config.assistant_ensemble_weight
    weight = 1.0 if weight is None or guesses is None else weight
    if config.do_sample and guesses is not None:
        guessed, i = guesses.softmax(-1), torch.arange(N, device=tokens.device)
        ratio = 1 - weight + weight * odds[i, tokens] / guessed[i, tokens]
        right = int((torch.rand_like(ratio) <= ratio).cumprod(0).sum())
        rest = odds[right] if right == N else (odds[right] - guessed[right]).clamp(min=0)
        last = torch.multinomial(rest if rest.any() else odds[right], 1)
        return torch.cat((tokens[:right], last))
    if config.do_sample:
        chosen = torch.multinomial(odds, 1)[:, 0]
    elif weight < 1 and guesses is not None:
        chosen = torch.cat((weight * odds[:N] + (1 - weight) * guesses.softmax(-1), odds[N:])).argmax(-1)
    else:
        chosen = scores.argmax(-1)
    return chosen[: int((chosen[:N] == tokens).cumprod(0).sum()) + 1]


def part_of(out: Any, record: Record, N: int, i: int) -> dict[str, tuple[Tensor, ...]]:
    """What is to be recorded of an output with N drafted tokens, as if its i-th new token had come alone."""
    parts = {}
    for name in record.kept.keys() & {"attentions", "hidden_states"}:
        first = out[name][0].shape[-2] - N  # queries of the first new token: the prompt's, too
        rows = slice(0, first) if i == 0 else slice(first + i - 1, first + i)
        parts[name] = tuple(x[..., rows, : x.shape[-1] - N + i if name == "attentions" else None] for x in out[name])
    return parts


# ---- Contrastive search


def contrastive_search(task: Task, *_: Any) -> Turns:
    """Of the top_k likeliest tokens the one whose hidden state is likely and yet least like any one before it.

    All are tried side by side; low_memory: one after the other.
    """
    feed, config, record, B = task.feed, task.config, Record(task.config), len(task.ids)
    if isinstance(feed.cache, StaticCache):
        raise ValueError("Contrastive search tries several tokens side by side, for which a static cache has no room.")
    feed.fixed["output_hidden_states"] = True
    feed.forget(feed.seen)  # the states of all tokens are needed, of the whole prompt at once
    feed.chunk = None
    ids, alive = task.ids, torch.ones(B, dtype=torch.bool, device=task.ids.device)
    out: Any = feed(ids)
    logits, context = out.logits[:, -1].float(), F.normalize(out.hidden_states[-1], dim=-1)  # [B, T, C]
    real = None if feed.mask is None else feed.mask.bool()
    each = torch.arange(B, device=ids.device)
    while ids.shape[1] < config.max_length and alive.any():
        scores = task.apply(ids, logits)
        record.add(out, logits, scores)
        odds, tokens = scores.softmax(-1).topk(min(config.top_k, scores.shape[1]))  # [B, K]
        K = tokens.shape[1]
        if config.low_memory:
            tried = []
            for k in range(K):
                tried.append(feed(torch.cat((ids, tokens[:, k : k + 1]), 1)).hidden_states[-1][:, -1])
                feed.forget(1)
            states = torch.stack(tried, 1)
        else:
            feed.choose(each.repeat_interleave(K))
            out = feed(torch.cat((ids.repeat_interleave(K, 0), tokens.view(-1, 1)), 1))
            states = out.hidden_states[-1][:, -1].unflatten(0, (B, K))
        states = F.normalize(states, dim=-1)
        likeness = states @ context.transpose(1, 2)  # [B, K, T]
        if real is not None:
            likeness = likeness.masked_fill(~real[:, None, : likeness.shape[2]], -math.inf)
        alpha = config.penalty_alpha
        best = ((1 - alpha) * odds - alpha * likeness.amax(-1)).argmax(-1)
        new = tokens[each, best]
        if config.low_memory:
            out = feed(torch.cat((ids, new[:, None]), 1))
            logits = out.logits[:, -1].float()
        else:
            rows = each * K + best
            feed.choose(rows)
            logits = out.logits[rows, -1].float()
            out = {name: tuple(x[rows] for x in out[name]) for name in record.kept.keys() - {"scores", "logits"}}
        context = torch.cat((context, states[each, best][:, None]), 1)
        ids = torch.cat((ids, torch.where(alive, new, task.pad)[:, None]), 1)
        yield ids[:, -1]
        alive = alive & ~task.stop(ids, record.kept.get("scores"))
    feed.forget(1)  # the last token was only tried
    return GenerateDecoderOnlyOutput(ids, **record.fields(), past_key_values=feed.cache)


# ---- Contrasted layers


def contrast_layers(task: Task) -> Callable[[Any, Tensor], Tensor]:
    """A function that makes of an output's logits [B, V] the difference to those of an earlier layer.

    The layer is, for each text by itself, the one among dola_layers whose prediction is furthest from the last one's.
    """
    config, model = task.config, task.feed.model
    layers, head = layers_of(config.dola_layers, model.config.get_text_config()), model.get_output_embeddings()
    task.feed.fixed["output_hidden_states"] = True

    def contrast(out: Any, logits: Tensor) -> Tensor:
        states = torch.stack([out.hidden_states[layer][:, -1] for layer in layers])
        early, last = project(states, head)[0].float().log_softmax(-1), logits.log_softmax(-1)  # [N, B, V], [B, V]
        mean = (early.exp() + last.exp()) / 2
        apart = (mean * (2 * mean.log() - early - last)).mean(-1)
        chosen = early[apart.argmax(0), torch.arange(len(last), device=last.device)]
        unlikely = last < last.amax(-1, keepdim=True) + math.log(0.1)
        return (last - chosen).masked_fill(unlikely, -math.inf)

    return contrast


def layers_of(asked: str | list[int], config: Any) -> list[int]:
    """The layers that dola_layers names, 0 being the embeddings; these predict themselves where they are the head."""
    L = config.num_hidden_layers
    first = 0 if not config.tie_word_embeddings or L < 2 else min(L - 1, 2)
    if asked == "low":
        return list(range(first, L // 2 if L <= 40 else 20, 2)) or [first]
    if asked == "high":
        return list(range(L // 2 if L <= 40 else L - 20, L, 2))
    if not isinstance(asked, list) or not asked or not all(isinstance(i, int) and 0 <= i < L for i in asked):
        raise ValueError(f"dola_layers must be 'low', 'high' or a list of layers from 0 to {L - 1}, got {asked!r:.80}.")
    return asked


LOOPS: dict[str, Callable[..., Turns]] = {
    "assisted_generation": assisted_generation,
    "contrastive_search": contrastive_search,
}
