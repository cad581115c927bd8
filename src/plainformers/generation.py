"""generate: a model writes on, token by token.

`generate` reads what is asked for, and hands over to one loop: `sample` here (greedy search is its simplest case), or
one of beam.py and speculative.py. `Feed` knows what the model has seen and gives it what it has not.
Shapes: B rows (prompts times beams or returned sequences), T tokens so far, V vocabulary.
"""

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor

from . import logging
from .aliases import did_you_mean
from .beam import beam_search
from .cache import DynamicCache, QuantizedCache, StaticCache
from .feed import Feed, GenerateDecoderOnlyOutput, Record, Settings, Stop, Task
from .generation_config import GenerationConfig
from .logits import Rule, make_rules
from .speculative import LOOPS, Turns, contrast_layers

CACHES = {None: DynamicCache, "dynamic": DynamicCache, "static": StaticCache, "quantized": QuantizedCache}
# keywords of Transformers' generate that change nothing here
WITHOUT_EFFECT = frozenset({"synced_gpus", "trust_remote_code", "cache_position", "num_items_in_batch"})


def steps(task: Task, contrast: Callable[[Any, Tensor], Tensor] | None = None) -> Turns:
    """Greedy search and sampling: yields the tokens [B] of each turn; its value is what generate returns.

    Rows that are finished are not computed any more. contrast: what is made of an output's logits [B, V] before the
    rules see them.
    """
    feed, config, (B, start) = task.feed, task.config, task.ids.shape
    ids = task.ids.new_full((B, config.max_length), task.pad)
    ids[:, :start] = task.ids
    record, length = Record(config), start
    rows = torch.arange(B, device=ids.device)  # those that are still being written
    drops = B > 1 and not record.kept and not isinstance(feed.cache, StaticCache)
    alive = torch.ones(B, dtype=torch.bool, device=ids.device)
    while length < config.max_length and len(rows):
        whole = len(rows) == B
        out = feed(ids[:, :length] if whole else ids[rows, :length])
        scores = logits = out.logits[:, -1].float()
        if contrast is not None:
            scores = contrast(out, logits)
        if not whole:  # rules and random numbers are those of the whole batch
            scores = scores.new_zeros(B, scores.shape[1]).index_copy_(0, rows, scores)
        scores = task.apply(ids[:, :length], scores)
        record.add(out, logits, scores)
        new = torch.multinomial(scores.softmax(-1), 1)[:, 0] if config.do_sample else scores.argmax(-1)
        ids[:, length] = new if B == 1 else torch.where(alive, new, task.pad)
        length += 1
        yield ids[:, length - 1]
        done = task.stop(ids[:, :length], record.kept.get("scores")) & alive
        if done.any():
            alive = alive & ~done
            if drops and alive.any():
                feed.choose((~done)[rows].nonzero()[:, 0])
            rows = alive.nonzero()[:, 0] if drops else rows[: len(rows) * int(alive.any())]
    return GenerateDecoderOnlyOutput(ids[:, :length], **record.fields(), past_key_values=feed.cache)


def turns_of(task: Task, assistant: Any = None, tokenizer: Any = None, other: Any = None) -> Turns:
    """All ways but beam search, turn by turn."""
    if task.mode in LOOPS:
        return LOOPS[task.mode](task, assistant, tokenizer, other)
    return steps(task, contrast_layers(task) if task.mode == "dola_generation" else None)


def run(task: Task, turns: Turns) -> Any:
    """All turns, each handed to the streamer."""
    while True:
        try:
            new = next(turns)
        except StopIteration as end:
            return end.value
        if task.streamer is not None:
            task.streamer.put(new.cpu())


# ---- From what a user asks for to a task


def generation_config_of(model: Any) -> GenerationConfig:
    """What generation_config.json says, else what an older config.json says; made at the first use."""
    found = model.__dict__.get("_generation_config")
    if found is None:
        values = model.__dict__.get("generation_values")
        try:
            own = values is not None
            found = GenerationConfig.from_dict(values) if own else GenerationConfig.from_model_config(model.config)
        except (ValueError, TypeError) as error:
            raise type(error)(f"{model.name_or_path}, what it says of generation: {error}") from error
        model.__dict__["_generation_config"] = found
    return found


def set_generation_config(model: Any, config: GenerationConfig) -> None:
    if not isinstance(config, GenerationConfig):
        raise TypeError(f"generation_config must be a GenerationConfig, got {type(config).__name__}.")
    model.__dict__["_generation_config"] = config


generation_config = property(generation_config_of, set_generation_config)


@torch.no_grad()
def generate(
    model: Any,
    inputs: Any = None,
    generation_config: GenerationConfig | None = None,
    logits_processor: list[Rule] | None = None,
    stopping_criteria: list[Callable] | None = None,
    prefix_allowed_tokens_fn: Callable[[int, Tensor], list[int]] | None = None,
    *,
    assistant_model: Any = None,
    streamer: Any = None,
    negative_prompt_ids: Tensor | None = None,
    negative_prompt_attention_mask: Tensor | None = None,
    tokenizer: Any = None,
    assistant_tokenizer: Any = None,
    **keywords: Any,
) -> Any:
    """Writes on after prompts; returns ids [B, T], the prompts first, or an output with return_dict_in_generate=True.

    inputs: input_ids [B, T], or what a tokenizer gives. generation_config: in place of the model's; other keywords are
    its fields (max_new_tokens, do_sample, temperature, num_beams, …) or inputs of the model (attention_mask,
    past_key_values, …). A mask may pad on either side; without one, tokens that are pad_token_id are padding. Without
    max_new_tokens and max_length, 20 tokens are written. logits_processor, stopping_criteria, prefix_allowed_tokens_fn:
    a user's own rules. assistant_model: a smaller model that drafts. streamer: put(ids) and end(); see streaming.py.
    negative_prompt_ids: what guidance_scale leads away from. tokenizer: for stop_strings.
    Raises ValueError for prompts without a token, lengths that do not fit, and options that exclude each other.
    """
    own = {"logits_processor": logits_processor, "stopping_criteria": stopping_criteria, "tokenizer": tokenizer}
    own |= {"prefix_allowed_tokens_fn": prefix_allowed_tokens_fn, "streamer": streamer}
    negative = (negative_prompt_ids, negative_prompt_attention_mask)
    task, back = make_task(model, inputs, generation_config, keywords, assistant_model is not None, own, negative)
    if streamer is not None:
        streamer.put(task.ids.cpu())
    try:
        others = (assistant_model, tokenizer, assistant_tokenizer)
        out: Any = beam_search(task) if "beam" in task.mode else run(task, turns_of(task, *others))
    finally:
        if streamer is not None:
            streamer.end()
    if back is not None:  # padding stood behind the prompts
        B, start = back.shape
        out.sequences = torch.cat((back.repeat_interleave(len(out.sequences) // B, 0), out.sequences[:, start:]), 1)
    return out if task.config.return_dict_in_generate else out.sequences


@torch.no_grad()
def stream(
    model: Any,
    inputs: Any = None,
    *,
    tokenizer: Any,
    generation_config: GenerationConfig | None = None,
    **keywords: Any,
) -> Iterator[str]:
    """Writes on after one prompt, and gives the text piece by piece: whole characters, as soon as they are certain.

    Arguments as those of generate. Whoever stops to iterate stops the model.
    """
    from .streaming import TextPieces

    skip_special_tokens = keywords.pop("skip_special_tokens", True)
    own = {name: keywords.pop(name, None) for name in ("logits_processor", "stopping_criteria")}
    assistant, other = keywords.pop("assistant_model", None), keywords.pop("assistant_tokenizer", None)
    own["tokenizer"] = tokenizer
    task, _ = make_task(model, inputs, generation_config, keywords, assistant is not None, own)
    if "beam" in task.mode or len(task.ids) > 1:
        raise ValueError("stream follows one text as it is written: no beams, one prompt.")
    pieces = TextPieces(tokenizer, skip_special_tokens=skip_special_tokens)
    for new in turns_of(task, assistant, tokenizer, other):
        if piece := pieces.push(new.tolist()):
            yield piece
    if piece := pieces.flush():
        yield piece


def make_task(
    model: Any,
    inputs: Any,
    asked: GenerationConfig | None,
    keywords: dict[str, Any],
    assisted: bool,
    own: dict[str, Any],
    negative: tuple[Tensor | None, Tensor | None] = (None, None),
) -> tuple[Task, Tensor | None]:
    """What generate's arguments come to, and the prompts as they were given where padding stood behind them."""
    config, given = read_request(model, inputs, asked, keywords)
    ids, mask, given = read_prompt(model, config, given)
    ids, mask, back = turn_left(ids, mask)
    B, start = ids.shape
    ahead = 0 if "inputs_embeds" not in given else given["inputs_embeds"].shape[1]
    settle_lengths(model, config, start, ahead)
    mode = config.get_generation_mode(True if assisted else None)
    check_mode(mode, config, B, assisted, own.get("streamer"))
    eos = config.eos_token_id
    eos = torch.tensor([] if eos is None else [eos] if isinstance(eos, int) else list(eos), dtype=torch.long)
    pad = config.pad_token_id if config.pad_token_id is not None else int(eos[0]) if len(eos) else 0
    eos = eos.to(ids.device)
    real = None if mask is None or not start else mask[:, -start:]
    rules = make_rules(
        config,
        prompt_length=start,
        eos=eos,
        prompt_mask=real,
        encoder_ids=ids,
        encoder_mask=real,
        prefix_allowed_tokens_fn=own.get("prefix_allowed_tokens_fn"),
        num_beams=(config.num_beams or 1) // (config.num_beam_groups or 1),
        custom=list(own.get("logits_processor") or ()),
        device=ids.device,
    )
    if config.guidance_scale not in (None, 1):
        grows = mode in ("greedy_search", "sample", "dola_generation", "contrastive_search")
        rules.insert(0, guidance(model, config, ids, grows, *negative))
    times = config.num_beams if "beam" in mode else config.num_return_sequences or 1
    if times > 1:
        ids = ids.repeat_interleave(times, 0)
        mask = None if mask is None else mask.repeat_interleave(times, 0)
        given = {n: repeat_rows(v, B, times) for n, v in given.items()}
    if config.cache_implementation is None and model._compiled_call_impl is not None:
        config.cache_implementation = "static"  # whose steps are all alike to a compiler
    cache = make_cache(config, given.pop("past_key_values", None), ahead)
    if mask is not None:  # new tokens are real
        mask = torch.nn.functional.pad(mask, (0, config.max_length + ahead - mask.shape[1]), value=1)
    feed = Feed(model, config, given, mask, cache)
    feed.times = times
    if feed.seen and feed.seen >= start + ahead:
        raise ValueError(
            f"past_key_values holds {feed.seen} tokens; give the whole prompt, with one more at least: {start}."
        )
    stop = Stop(config, eos, own.get("tokenizer"), list(own.get("stopping_criteria") or ()))
    return Task(ids, feed, config, rules, stop, eos, pad, mode, own.get("streamer")), back


def read_request(
    model: Any, inputs: Any, asked: GenerationConfig | None, keywords: dict[str, Any]
) -> tuple[Settings, dict[str, Any]]:
    """(what is to be done, the model's inputs) of generate's arguments."""
    names, others = model._forward_names
    if isinstance(inputs, Mapping):
        keywords = dict(inputs) | keywords
    elif inputs is not None:
        keywords = {"input_ids": inputs} | keywords
    keywords = {n: v for n, v in keywords.items() if n not in WITHOUT_EFFECT}
    fields = {n: v for n, v in keywords.items() if n in GenerationConfig.names()}  # None switches a rule off
    given = {n: v for n, v in keywords.items() if n not in fields and v is not None}
    given = {n: v for n, v in given.items() if n != "token_type_ids" or n in names}  # what tokenizers give to any model
    if not others and (unknown := [n for n in given if n not in names]):
        known = {*names, *GenerationConfig.names()}
        raise TypeError(f"generate has no argument {unknown[0]!r}.{did_you_mean(unknown[0], known)}")
    base = model.generation_config if asked is None else asked
    config = base.resolved(model.generation_config, **fields)
    return config, given


def read_prompt(model: Any, config: Settings, given: dict[str, Any]) -> tuple[Tensor, Tensor | None, dict[str, Any]]:
    """(ids [B, T], their mask or None, the other inputs); no prompt at all is the token that begins texts."""
    ids, mask = given.pop("input_ids", None), given.pop("attention_mask", None)
    embeds: Any = given.get("inputs_embeds")
    if ids is None and embeds is None:
        if config.bos_token_id is None:
            raise ValueError(
                "generate needs a prompt: input_ids, or a bos_token_id in the generation config to begin with."
            )
        ids = torch.tensor([[config.bos_token_id]], device=model.device)
    if ids is None and embeds is not None:
        ids = torch.empty((embeds.shape[0], 0), dtype=torch.long, device=embeds.device)
    if not isinstance(ids, Tensor) or ids.dim() != 2 or ids.is_floating_point():
        shape = list(ids.shape) if isinstance(ids, Tensor) else type(ids).__name__
        raise TypeError(
            f"generate takes input_ids of shape [B, T], as tokenizer(text, return_tensors='pt') gives; got {shape}."
        )
    if not len(ids) or (not ids.shape[1] and embeds is None):
        raise ValueError(f"input_ids has shape {list(ids.shape)}: there is no token to go on from.")
    ids = ids.long()
    pad, eos = config.pad_token_id, config.eos_token_id
    ends = pad in (eos if isinstance(eos, list) else [eos])
    if mask is None and pad is not None and not ends and ids.eq(pad).any():
        mask = ids.ne(pad).long()
    if mask is not None:
        whole = [len(ids), ids.shape[1] + (0 if embeds is None else embeds.shape[1])]
        if list(mask.shape) != whole:
            raise ValueError(f"attention_mask must have the shape of the prompts, {whole}, got {list(mask.shape)}.")
        if not mask.any(-1).all():
            raise ValueError("A prompt is nothing but padding: its row of attention_mask has no 1.")
        mask = None if mask.all() else mask
    return ids, mask, given


def turn_left(ids: Tensor, mask: Tensor | None) -> tuple[Tensor, Tensor | None, Tensor | None]:
    """Prompts and mask with their padding on the left, and the prompts as they were when that is a change."""
    if mask is None or mask.shape != ids.shape or mask[:, -1].all():
        return ids, mask, None
    T = ids.shape[1]
    behind = mask.ne(0).flip(1).int().argmax(1)  # padding behind the last real token
    places = (torch.arange(T, device=ids.device)[None] - behind[:, None]) % T
    return ids.gather(1, places), mask.gather(1, places), ids


def settle_lengths(model: Any, config: Settings, start: int, ahead: int) -> None:
    """Sets max_length, which counts the prompt, from what was asked; embeddings ahead of the ids do not count."""
    longest = model.config.longest_input
    turned = getattr(model.config, "rope_parameters", None) is not None  # positions go on, if not well
    if config.max_new_tokens is not None:
        config.max_length = start + config.max_new_tokens
    elif config.max_length is None:  # nobody said
        config.max_length = start + 20
        if longest is not None and start + ahead < longest:
            config.max_length = min(config.max_length, longest - ahead)
    if config.max_length <= start:
        raise ValueError(
            f"The prompt has {start} tokens and max_length is {config.max_length}, which counts them: nothing can be "
            "written. Give max_new_tokens."
        )
    if longest is not None and config.max_length + ahead > longest:
        new = config.max_length - start
        message = (
            f"The prompt of {start + ahead} tokens and {new} new ones are more than this model's {longest} positions."
        )
        if not turned:
            raise ValueError(f"{message} Cut the prompt or ask for fewer.")
        logging.once(f"{message} What it was not trained for is seldom good.", logging.WARNING)


def check_mode(mode: str, config: Settings, B: int, assisted: bool, streamer: Any) -> None:
    texts = B * (config.num_return_sequences or 1)
    if streamer is not None and ("beam" in mode or texts > 1):
        why = f"{config.num_beams} beams" if "beam" in mode else f"{texts} texts at once"
        raise ValueError(f"A streamer follows one text as it is written; there are {why}.")
    if assisted and mode != "assisted_generation":
        raise ValueError(f"An assistant_model drafts for greedy search and sampling, not for {mode.replace('_', ' ')}.")
    if mode == "assisted_generation" and texts > 1:
        raise ValueError(f"A draft is checked for one prompt and one text at a time; there are {texts}.")
    if mode == "greedy_search" and texts > B:
        raise ValueError(
            f"num_return_sequences={config.num_return_sequences} without sampling would be the same text as often: set "
            "do_sample=True or num_beams."
        )


def make_cache(config: Settings, given: Any, ahead: int) -> Any:
    if not config.use_cache:
        return None
    if isinstance(given, (tuple, list)):
        return DynamicCache.from_legacy_cache(tuple(given))
    if given is not None:
        return given
    if config.cache_implementation not in CACHES:
        known = ", ".join(repr(name) for name in CACHES if name)
        raise ValueError(f"cache_implementation must be one of {known}, got {config.cache_implementation!r:.80}.")
    kind, longest = CACHES[config.cache_implementation], config.max_length + ahead
    return StaticCache(max_cache_len=config.max_cache_len or longest) if kind is StaticCache else kind(expected=longest)


def repeat_rows(value: Any, B: int, times: int) -> Any:
    """An input of B rows, so many times each; a cache, too."""
    if isinstance(value, Tensor) and value.dim() and value.shape[0] == B:
        return value.repeat_interleave(times, 0)
    if isinstance(value, DynamicCache):
        value.batch_repeat_interleave(times)
    return value


def guidance(
    model: Any, config: Settings, prompts: Tensor, grows: bool, ids: Tensor | None, mask: Tensor | None
) -> Rule:
    """Leads away from what the model would write after a negative prompt [B or 1, N], without one the last token.

    grows: rows keep their places and tokens from turn to turn, so that a cache can.
    Paper: Sanchez et al., 2023, https://arxiv.org/abs/2306.17806
    """
    other, start = prompts[:, -1:] if ids is None else ids.expand(len(prompts), -1), prompts.shape[1]
    if mask is not None:
        mask = torch.nn.functional.pad(mask.expand(len(prompts), -1), (0, config.max_length - start), value=1)
    cached = config.use_cache and grows
    feed: Feed | None = None

    def guide(ids: Tensor, scores: Tensor) -> Tensor:
        nonlocal feed
        times = len(ids) // len(prompts)
        if feed is None or not cached:
            real = None if mask is None else mask.repeat_interleave(times, 0)
            feed = Feed(model, config, {}, real, DynamicCache() if cached else None)
        text = torch.cat((other.repeat_interleave(times, 0), ids[:, start:]), 1)
        logits = feed(text).logits[:, -1].float().log_softmax(-1)
        return logits + config.guidance_scale * (scores.log_softmax(-1) - logits)

    return guide
