"""The rules of text generation: each changes the scores of the next token, and nothing else.

A rule is called as rule(ids, scores): ids [B, T] are the tokens so far, scores [B, V] the logits (log-probabilities in
beam search). It returns new scores and never writes into those it was given; -inf rules a token out. Rows are
independent of each other. What a rule needs beyond that is bound by `make_rules`, in the order of Transformers.

Papers: CTRL (repetition penalty) arXiv:1909.05858, nucleus 1904.09751, typical 2202.00666, epsilon and eta 2210.15191,
min-p 2407.01082, top-H 2509.02510, diverse beam search 1610.02424, watermark 2301.10226.
Shapes: B rows, T tokens so far, V vocabulary, P prompts (each has B / P rows), N a number of tokens.
"""

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

Rule = Callable[[Tensor, Tensor], Tensor]
INF = math.inf


# ---- For sampling: which of the likely tokens may be drawn. keep: how many of the best always stay


def temperature(ids: Tensor, scores: Tensor, *, value: float) -> Tensor:
    return scores / value


def top_k(ids: Tensor, scores: Tensor, *, k: int, keep: int = 1) -> Tensor:
    """The k best tokens stay, and those that equal the last of them."""
    return scores.masked_fill(scores < _nth_best(scores, max(k, keep)), -INF)


def top_p(ids: Tensor, scores: Tensor, *, p: float, keep: int = 1) -> Tensor:
    """The fewest best tokens stay whose probabilities add up to p; at least one."""
    rising, tokens = _sort_open(scores, scores)
    N = tokens.shape[1]
    # as long a row as before, so that the sum rounds as it did
    probabilities = F.pad(rising, (scores.shape[1] - N, 0), value=-INF).softmax(-1)[:, scores.shape[1] - N :]
    ruled_out = probabilities.cumsum(-1) <= 1 - p
    ruled_out[:, -keep:] = False
    return _only(tokens, rising.masked_fill(ruled_out, -INF), scores)


def min_p(ids: Tensor, scores: Tensor, *, p: float, keep: int = 1) -> Tensor:
    """Tokens stay that are at least p times as probable as the best."""
    probabilities = scores.softmax(-1)
    ruled_out = probabilities < p * probabilities.amax(-1, keepdim=True)
    if keep > 1:  # the best itself always stays
        ruled_out.scatter_(1, probabilities.topk(min(keep, scores.shape[1])).indices, False)
    return scores.masked_fill(ruled_out, -INF)


def top_h(ids: Tensor, scores: Tensor, *, h: float, most: int = 100) -> Tensor:
    """The best tokens stay whose share of the entropy is at most h; only the first `most` are looked at."""
    best, tokens = scores.topk(min(most, scores.shape[1]))
    entropy, probabilities = _entropy(best)
    share = (-probabilities * probabilities.log()).cumsum(-1)
    stays = share <= (entropy * h)[:, None]
    stays[:, 0] = True
    return _only(tokens, best.masked_fill(~stays, -INF), scores)


def typical_p(ids: Tensor, scores: Tensor, *, p: float, keep: int = 1) -> Tensor:
    """The tokens stay whose surprise is nearest to the expected one, until their probabilities add up to p."""
    logs = scores.log_softmax(-1)
    expected = -(logs * logs.exp()).nansum(-1, keepdim=True)
    distances, tokens = _sort_open((-logs - expected).abs(), scores)
    N = tokens.shape[1]
    if N == 0:  # every token is ruled out already
        return scores
    ranked = scores.gather(1, tokens)
    mass = F.pad(ranked, (0, scores.shape[1] - N), value=-INF).softmax(-1)[:, :N].cumsum(-1)
    last = (mass < p).sum(-1, keepdim=True).clamp(max=N - 1)
    ruled_out = distances > distances.gather(1, last)
    ruled_out[:, :keep] = False
    return _only(tokens, ranked.masked_fill(ruled_out, -INF), scores)


def epsilon_cutoff(ids: Tensor, scores: Tensor, *, epsilon: float, keep: int = 1) -> Tensor:
    """Tokens less probable than epsilon are ruled out."""
    ruled_out = (scores.softmax(-1) < epsilon) & (scores < _nth_best(scores, keep))
    return scores.masked_fill(ruled_out, -INF)


def eta_cutoff(ids: Tensor, scores: Tensor, *, epsilon: float, keep: int = 1) -> Tensor:
    """Like epsilon_cutoff, with a lower threshold where the entropy is high."""
    entropy, probabilities = _entropy(scores)
    limit = torch.full((), epsilon, device=scores.device)
    eta = torch.minimum(limit, limit.sqrt() * torch.exp(-entropy))[:, None]
    return scores.masked_fill((probabilities < eta) & (scores < _nth_best(scores, keep)), -INF)


# ---- Against the text so far. A negative id stands for no token (padding)


def repetition_penalty(ids: Tensor, scores: Tensor, *, penalty: float) -> Tensor:
    """Tokens that stand in the text become less likely where penalty > 1, more likely where it is below."""
    return torch.where(_among(ids, scores), torch.where(scores < 0, scores * penalty, scores / penalty), scores)


def encoder_repetition_penalty(ids: Tensor, scores: Tensor, *, penalty: float, encoder_ids: Tensor) -> Tensor:
    """Tokens of the encoder's text [P, N] become more likely where penalty > 1."""
    return repetition_penalty(_per_row(encoder_ids, scores), scores, penalty=1 / penalty)


def no_repeat_ngram(ids: Tensor, scores: Tensor, *, size: int) -> Tensor:
    """Rules out what would make an n-gram of this size stand twice in the text."""
    return scores.masked_fill(_among(_ngram_ends(ids, ids, size), scores), -INF)


def encoder_no_repeat_ngram(ids: Tensor, scores: Tensor, *, size: int, encoder_ids: Tensor) -> Tensor:
    """Rules out what would repeat an n-gram of the encoder's text [P, N]."""
    return scores.masked_fill(_among(_ngram_ends(ids, _per_row(encoder_ids, scores), size), scores), -INF)


class SequenceBias:
    """Adds to the score of a sequence's last token where the text ends with the tokens before it.

    biases: {(1, 2, 3): -2.5}, or a list of ([1, 2, 3], -2.5). Raises ValueError for tokens outside of the vocabulary.
    """

    def __init__(self, biases: dict | Sequence, device: torch.device | str | None = None):
        pairs = {tuple(sequence): bias for sequence, bias in (biases.items() if isinstance(biases, dict) else biases)}
        lengths = dict.fromkeys(sorted(map(len, pairs), key=lambda length: length > 1))  # single tokens first
        self.largest = max(max(sequence) for sequence in pairs)
        self.groups = []  # one per length: what stands before [N, length - 1], the last tokens [N], the biases [N]
        for length in lengths:
            some = [sequence for sequence in pairs if len(sequence) == length]
            before = torch.tensor([sequence[:-1] for sequence in some], dtype=torch.long, device=device)
            last = torch.tensor([sequence[-1] for sequence in some], device=device)
            self.groups.append((before, last, torch.tensor([float(pairs[one]) for one in some], device=device)))

    def __call__(self, ids: Tensor, scores: Tensor) -> Tensor:
        if self.largest >= scores.shape[1]:
            raise ValueError(f"Token {self.largest} has a bias; the vocabulary ends at {scores.shape[1] - 1}.")
        T, total = ids.shape[1], torch.zeros_like(scores)
        for before, last, biases in self.groups:
            if (length := before.shape[1]) <= T:
                found = (ids[:, None, T - length :] == before).all(-1)  # [B, N]
                total.index_add_(1, last, torch.where(found, biases, 0.0).to(scores.dtype))
        return scores + total


def bad_words(words: Iterable[Sequence[int]], device: torch.device | str | None = None) -> Rule:
    """Rules out the last token of each word, a list of ids, where the text ends with those before it."""
    return SequenceBias({tuple(word): -INF for word in words}, device)


def prefix_allowed(
    ids: Tensor, scores: Tensor, *, allowed: Callable[[int, Tensor], Sequence[int]], num_beams: int = 1
) -> Tensor:
    """Only the tokens that allowed(prompt, ids of the row) names; raises ValueError where it names none.

    Where all rows of a prompt could go on with ruled-out tokens only, the allowed ones become equally likely.
    """
    mask = torch.full_like(scores, -INF)
    for row, text in enumerate(ids):
        tokens = allowed(row // num_beams, text)
        if len(tokens) == 0:
            raise ValueError(
                f"prefix_allowed_tokens_fn allows no token for prompt {row // num_beams}: {text.tolist()}."
            )
        mask[row, tokens] = 0
    masked = scores + mask
    stuck = masked.amax(-1).isneginf().view(-1, num_beams).all(-1).repeat_interleave(num_beams)
    return torch.where(stuck[:, None], mask, masked)


def diversity(ids: Tensor, scores: Tensor, *, penalty: float, taken: Tensor) -> Tensor:
    """The penalty per time that a token was taken in this step by an earlier group of beams; taken: [P, N]."""
    counts = scores.new_zeros(len(taken), scores.shape[1]).scatter_add_(1, taken, scores.new_ones(taken.shape))
    return scores - penalty * _per_row(counts, scores)


# ---- By the length of the text. tokens: [N]; those outside of the vocabulary are ignored


def min_length(ids: Tensor, scores: Tensor, *, length: int, eos: Tensor) -> Tensor:
    """No end before the text has this many tokens, the prompt counted."""
    return suppress(ids, scores, tokens=eos) if ids.shape[1] < length else scores


def forced_bos(ids: Tensor, scores: Tensor, *, tokens: Tensor) -> Tensor:
    """The second token of the text, after the one that starts a decoder."""
    return _force(scores, tokens) if ids.shape[1] == 1 else scores


def forced_eos(ids: Tensor, scores: Tensor, *, max_length: int, tokens: Tensor) -> Tensor:
    """The last token that fits."""
    return _force(scores, tokens) if ids.shape[1] == max_length - 1 else scores


def exponential_decay_length(ids: Tensor, scores: Tensor, *, start: int, factor: float, eos: Tensor) -> Tensor:
    """After `start` tokens the end becomes more likely with each, by factor ** tokens, to what a number can hold."""
    if (tokens := ids.shape[1] - start) <= 0:
        return scores
    largest = torch.finfo(scores.dtype).max
    growth = min(factor**tokens, largest) if tokens * math.log(factor) < math.log(largest) else largest
    risen = (scores + scores.abs() * (growth - 1)).clamp(max=largest)
    return torch.where(_among(eos[None], scores) & scores.isfinite(), risen, scores)


def suppress(ids: Tensor, scores: Tensor, *, tokens: Tensor) -> Tensor:
    return scores.masked_fill(_among(tokens[None], scores), -INF)


def begin_suppress(ids: Tensor, scores: Tensor, *, tokens: Tensor, length: int) -> Tensor:
    """Only when the text has just this many tokens."""
    return suppress(ids, scores, tokens=tokens) if ids.shape[1] == length else scores


# ---- Of the scores as a whole


def remove_invalid(ids: Tensor, scores: Tensor) -> Tensor:
    """nan becomes 0, and what is infinite the largest number of its sign."""
    return scores.nan_to_num(0.0)


def renormalize(ids: Tensor, scores: Tensor) -> Tensor:
    return scores.log_softmax(-1)


class Watermark:
    """Raises a pseudo-random "green" part of the vocabulary, which follows from the last tokens, by a bias.

    Who knows the hashing key finds too many green tokens in the text. lefthash: the green tokens follow from the last
    token; selfhash: of the 40 best tokens those are raised that are green after `context_width` tokens, themselves the
    last of these.
    """

    TABLE = 1_000_003

    def __init__(
        self,
        greenlist_ratio: float = 0.25,
        bias: float = 2.0,
        hashing_key: int = 15485863,
        seeding_scheme: str = "lefthash",
        context_width: int = 1,
        device: torch.device | str = "cpu",
    ):
        self.ratio, self.bias, self.key = greenlist_ratio, bias, hashing_key
        self.selfhash, self.width = seeding_scheme == "selfhash", context_width
        self.random = torch.Generator(device).manual_seed(hashing_key)
        self.table = torch.randperm(self.TABLE, generator=self.random, device=device) + 1

    def __call__(self, ids: Tensor, scores: Tensor) -> Tensor:
        if ids.shape[1] < self.width:
            return scores
        raised = torch.zeros_like(scores, dtype=torch.bool)
        for row, text in enumerate(ids):
            if self.selfhash:
                best = scores[row].topk(min(40, scores.shape[1])).indices
                green = [
                    token for token in best if (self._green(torch.cat([text, token[None]]), scores) == token).any()
                ]
                raised[row, green] = True
            else:
                raised[row, self._green(text, scores)] = True
        return torch.where(raised, scores + self.bias, scores)

    def _green(self, text: Tensor, scores: Tensor) -> Tensor:
        """The green tokens after a text [T]."""
        seed = self.key * int(text[-1])
        if self.selfhash:
            hashed = self.table[text[-self.width :] % self.TABLE]
            seed = int((self.key * hashed * hashed[-1]).min())
        self.random.manual_seed(seed % (2**64 - 1))
        order = torch.randperm(scores.shape[1], generator=self.random, device=scores.device)
        return order[: int(scores.shape[1] * self.ratio)]


# ---- The rules that a configuration asks for


def make_rules(
    config: Any,
    *,
    prompt_length: int,
    eos: Tensor | Sequence[int],
    prompt_mask: Tensor | None = None,
    encoder_ids: Tensor | None = None,
    encoder_mask: Tensor | None = None,
    prefix_allowed_tokens_fn: Callable[[int, Tensor], Sequence[int]] | None = None,
    num_beams: int = 1,
    custom: Iterable[Rule] = (),
    device: torch.device | str | None = None,
) -> list[Rule]:
    """What a GenerationConfig asks for, to be called one after the other, and the custom rules in their place.

    prompt_length: tokens that the text has before the first new one. eos: the ids that end it, none or more.
    prompt_mask [P or B, prompt_length]: 0 for left padding, which no rule takes for text.
    encoder_ids, encoder_mask [P, N]: what the encoder read; the prompt for a model without one.
    num_beams: rows per prompt that prefix_allowed_tokens_fn counts as one. device: where the scores will be.
    """
    device = eos.device if isinstance(eos, Tensor) and device is None else device or "cpu"
    eos = torch.as_tensor(eos, dtype=torch.long, device=device)
    rules = [
        *_against_repetition(config, eos, prompt_mask, encoder_ids, encoder_mask, device),
        *_by_length(config, eos, prompt_length, prefix_allowed_tokens_fn, num_beams, device),
        *custom,
    ]
    if config.do_sample:
        beams = config.num_beams is not None and config.num_beams > 1
        rules += _for_sampling(config, max(len(eos), 1) + 1 if beams else 1)  # a beam needs one that goes on
    if config.watermarking_config is not None:
        rules.append(Watermark(**vars(config.watermarking_config), device=device))
    return [*rules, renormalize] if config.renormalize_logits else rules


def _against_repetition(
    config: Any, eos: Tensor, mask: Tensor | None, text: Tensor | None, text_mask: Tensor | None, device: Any
) -> Iterator[Rule]:
    padding = None if mask is None else (mask != 0).int().argmax(1)
    behind_padding = partial(_skip_padding, padding=None if padding is None or not padding.any() else padding)
    if text is not None and text_mask is not None:
        text = text.masked_fill(text_mask == 0, -1)
    asked = [name for name in ("encoder_repetition_penalty", "encoder_no_repeat_ngram_size") if getattr(config, name)]
    if text is None and (asked := [name for name in asked if getattr(config, name) != 1.0]):
        raise ValueError(f"{asked[0]} needs the text as input_ids; none were given.")
    if config.sequence_bias:
        yield behind_padding(SequenceBias(config.sequence_bias, device))
    if config.encoder_repetition_penalty not in (None, 1.0):
        yield partial(encoder_repetition_penalty, penalty=config.encoder_repetition_penalty, encoder_ids=text)
    if config.repetition_penalty not in (None, 1.0):
        yield behind_padding(partial(repetition_penalty, penalty=config.repetition_penalty))
    if config.no_repeat_ngram_size:
        yield behind_padding(partial(no_repeat_ngram, size=config.no_repeat_ngram_size))
    if config.encoder_no_repeat_ngram_size:
        size = config.encoder_no_repeat_ngram_size
        yield behind_padding(partial(encoder_no_repeat_ngram, size=size, encoder_ids=text))
    # the end of the text is no word, or it would never come
    if words := [word for word in config.bad_words_ids or () if list(word) not in eos[:, None].tolist()]:
        yield behind_padding(bad_words(words, device))


def _by_length(
    config: Any, eos: Tensor, prompt_length: int, allowed: Callable | None, num_beams: int, device: Any
) -> Iterator[Rule]:
    ids = partial(torch.tensor, dtype=torch.long, device=device)
    shortest = config.min_length or 0
    if config.min_new_tokens is not None:
        shortest = prompt_length + config.min_new_tokens
    if shortest > 0 and len(eos):
        yield partial(min_length, length=shortest, eos=eos)
    if allowed is not None:
        yield partial(prefix_allowed, allowed=allowed, num_beams=num_beams)
    if config.forced_bos_token_id is not None:
        yield partial(forced_bos, tokens=ids([config.forced_bos_token_id]))
    if config.forced_eos_token_id is not None:
        last = config.forced_eos_token_id
        longest = config.max_length if config.max_new_tokens is None else prompt_length + config.max_new_tokens
        yield partial(forced_eos, max_length=longest, tokens=ids([last] if isinstance(last, int) else list(last)))
    if config.remove_invalid_values:
        yield remove_invalid
    if config.exponential_decay_length_penalty is not None and len(eos):
        start, factor = config.exponential_decay_length_penalty
        yield partial(exponential_decay_length, start=prompt_length + start, factor=factor, eos=eos)
    if config.suppress_tokens:
        yield partial(suppress, tokens=ids(list(config.suppress_tokens)))
    if config.begin_suppress_tokens:
        later = prompt_length == 1 and config.forced_bos_token_id is not None  # the first new token is forced
        tokens = ids(list(config.begin_suppress_tokens))
        yield partial(begin_suppress, tokens=tokens, length=prompt_length + later)


def _for_sampling(config: Any, keep: int) -> Iterator[Rule]:
    if config.temperature not in (None, 1.0):
        yield partial(temperature, value=config.temperature)
    if config.top_h is not None:
        yield partial(top_h, h=config.top_h)
    if config.top_k:
        yield partial(top_k, k=config.top_k, keep=keep)
    if config.top_p is not None and config.top_p < 1:
        yield partial(top_p, p=config.top_p, keep=keep)
    if config.min_p is not None:
        yield partial(min_p, p=config.min_p, keep=keep)
    if config.typical_p is not None and config.typical_p < 1:
        yield partial(typical_p, p=config.typical_p, keep=keep)
    if config.epsilon_cutoff:
        yield partial(epsilon_cutoff, epsilon=config.epsilon_cutoff, keep=keep)
    if config.eta_cutoff:
        yield partial(eta_cutoff, epsilon=config.eta_cutoff, keep=keep)


# ---- What several rules need


def _skip_padding(rule: Rule, padding: Tensor | None) -> Rule:
    """The rule, which sees -1 for the left padding of the ids; padding [P]: how much of it each prompt has."""
    if padding is None:
        return rule

    def padded(ids: Tensor, scores: Tensor) -> Tensor:
        hidden = torch.arange(ids.shape[1], device=ids.device) < _per_row(padding, scores)[:, None]
        return rule(ids.masked_fill(hidden, -1), scores)

    return padded


def _nth_best(scores: Tensor, n: int) -> Tensor:
    """[B, 1]; the worst where there are fewer."""
    return scores.topk(min(n, scores.shape[1])).values[:, -1:]


def _entropy(scores: Tensor) -> tuple[Tensor, Tensor]:
    """The entropy [B] of the probabilities, and these [B, V]."""
    logs = scores - scores.logsumexp(-1, keepdim=True)
    probabilities = logs.softmax(-1)
    return -(logs.clamp(min=torch.finfo(logs.dtype).min) * probabilities).sum(-1), probabilities


def _sort_open(keys: Tensor, scores: Tensor) -> tuple[Tensor, Tensor]:
    """The keys [B, V] in rising order and their tokens, both [B, N]; equal ones in the order of tokens.

    N < V where tokens are ruled out in every row: after top_k hardly any are left, which saves most of the time.
    """
    if scores.is_cuda:  # sorts quickly, while counting would wait for the device
        return keys.sort(stable=True)
    left = (scores != -INF).any(0).nonzero()[:, 0]
    ranked, order = keys[:, left].sort(stable=True)
    return ranked, left[order]


def _only(tokens: Tensor, values: Tensor, scores: Tensor) -> Tensor:
    """Scores of these tokens alone, both [B, N]; all others are ruled out."""
    return torch.full_like(scores, -INF).scatter_(1, tokens, values)


def _among(tokens: Tensor, scores: Tensor) -> Tensor:
    """Whether each of the V tokens stands in its row of tokens [B, N]; those outside of the vocabulary are ignored."""
    V = scores.shape[1]
    inside = tokens.masked_fill((tokens < 0) | (tokens > V), V)
    return scores.new_zeros((len(tokens), V + 1), dtype=torch.bool).scatter_(1, inside, True)[:, :V]


def _per_row(values: Tensor, scores: Tensor) -> Tensor:
    """Values of the prompts [P, ...] as often as each has rows in the scores."""
    return values.repeat_interleave(len(scores) // len(values), 0)


def _ngram_ends(ids: Tensor, text: Tensor, size: int) -> Tensor:
    """For ids [B, T] and a text [B, N]: the last tokens of its n-grams that begin as the ids end, -1 for the others."""
    T = ids.shape[1]
    if min(T + 1, text.shape[1]) < size:
        return ids[:, :0]
    grams = text.unfold(1, size, 1)  # [B, N - size + 1, size]
    begun = (grams[..., :-1] == ids[:, None, T + 1 - size :]).all(-1)
    return grams[..., -1].masked_fill(~begun, -1)


def _force(scores: Tensor, tokens: Tensor) -> Tensor:
    return torch.full_like(scores, -INF).masked_fill(_among(tokens[None], scores), 0)


# ---- Users' own rules: any function will do; these are the classes that users of Transformers know


class LogitsProcessor:
    """A rule as a class."""

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        raise NotImplementedError(f"{type(self).__name__} must define __call__(self, input_ids, scores).")


class LogitsProcessorList(list):
    """Rules called one after the other."""

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        for rule in self:
            scores = rule(input_ids, scores)
        return scores


class StoppingCriteria:
    """Whether each row is finished: bool [B], or one bool for all."""

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor | bool:
        raise NotImplementedError(f"{type(self).__name__} must define __call__(self, input_ids, scores).")


class StoppingCriteriaList(list):
    """A row is finished when any of the criteria says so."""

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        done = torch.zeros(len(input_ids), dtype=torch.bool, device=input_ids.device)
        for criterion in self:
            done = done | criterion(input_ids, scores)
        return done
