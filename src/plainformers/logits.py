"""The rules of text generation: each changes the scores of the next token, and nothing else.

A rule is called as rule(ids, scores): ids [B, T] are the text so far (-1: left padding), scores [B, V] the logits, or
log-probabilities in beam search. It returns new scores and never writes into those it was given; -inf rules a token
out. Rows do not touch each other. What a rule needs beyond that is bound by `make_rules`, in the order of Transformers.

Papers: CTRL (repetition penalty) arXiv:1909.05858, nucleus 1904.09751, typical 2202.00666, epsilon and eta 2210.15191,
min-p 2407.01082, top-H 2509.02510, diverse beam search 1610.02424, watermark 2301.10226.
Shapes: B rows, T tokens so far, V vocabulary, P prompts (each has B / P rows), N a number of tokens.
"""

import math
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

Rule = Callable[[Tensor, Tensor], Tensor]
Device = torch.device | str | None
INF = math.inf


# ---- For sampling: which of the likely tokens may be drawn. keep: how many of the best always stay


def temperature(ids: Tensor, scores: Tensor, *, value: float) -> Tensor:
    return scores / value


def top_k(ids: Tensor, scores: Tensor, *, k: int, keep: int = 1) -> Tensor:
    """The k best tokens stay, and those that equal the last of them."""
    return scores.masked_fill(scores < _nth_best(scores, max(k, keep)), -INF)


def top_p(ids: Tensor, scores: Tensor, *, p: float, keep: int = 1) -> Tensor:
    """The fewest best tokens stay whose probabilities add up to p; of equal ones the last."""
    rising, tokens = _sort_open(scores, scores)
    gone = scores.shape[1] - tokens.shape[1]
    # softmax of as long a row as before, so that its sum rounds as it did
    mass = F.pad(rising, (gone, 0), value=-INF).softmax(-1)[:, gone:].cumsum(-1)
    ruled_out = mass <= 1 - p
    ruled_out[:, -keep:] = False
    return torch.full_like(scores, -INF).scatter_(1, tokens, rising.masked_fill(ruled_out, -INF))


def min_p(ids: Tensor, scores: Tensor, *, p: float, keep: int = 1) -> Tensor:
    """Tokens stay that are at least p times as probable as the best."""
    probabilities = scores.softmax(-1)
    ruled_out = probabilities < p * probabilities.amax(-1, keepdim=True)
    if keep > 1:  # the best itself always stays
        ruled_out.scatter_(1, probabilities.topk(min(keep, scores.shape[1])).indices, False)
    return scores.masked_fill(ruled_out, -INF)


def top_h(ids: Tensor, scores: Tensor, *, h: float, most: int = 100) -> Tensor:
    """The best tokens stay that hold at most the share h of the entropy; only the first `most` are looked at."""
    best, tokens = scores.topk(min(most, scores.shape[1]))
    entropy, probabilities = _entropy(best)
    stays = (-probabilities * probabilities.log()).cumsum(-1) <= (entropy * h)[:, None]
    stays[:, 0] = True
    return torch.full_like(scores, -INF).scatter_(1, tokens, best.masked_fill(~stays, -INF))


def typical_p(ids: Tensor, scores: Tensor, *, p: float, keep: int = 1) -> Tensor:
    """The tokens stay whose surprise is nearest to the expected one, until their probabilities add up to p."""
    logs = scores.log_softmax(-1)
    expected = -(logs * logs.exp()).nansum(-1, keepdim=True)
    distances, tokens = _sort_open((-logs - expected).abs(), scores)
    if (N := tokens.shape[1]) == 0:  # all are ruled out already
        return scores
    ranked = scores.gather(1, tokens)
    mass = F.pad(ranked, (0, scores.shape[1] - N), value=-INF).softmax(-1)[:, :N].cumsum(-1)
    last = (mass < p).sum(-1, keepdim=True).clamp(max=N - 1)
    ruled_out = distances > distances.gather(1, last)
    ruled_out[:, :keep] = False
    return torch.full_like(scores, -INF).scatter_(1, tokens, ranked.masked_fill(ruled_out, -INF))


def epsilon_cutoff(ids: Tensor, scores: Tensor, *, epsilon: float, keep: int = 1) -> Tensor:
    """Tokens less probable than epsilon are ruled out."""
    return scores.masked_fill((scores.softmax(-1) < epsilon) & (scores < _nth_best(scores, keep)), -INF)


def eta_cutoff(ids: Tensor, scores: Tensor, *, epsilon: float, keep: int = 1) -> Tensor:
    """Like epsilon_cutoff, with a lower limit where the entropy is high."""
    highest = torch.full((), epsilon, device=scores.device)
    limit = torch.minimum(highest, highest.sqrt() * torch.exp(-_entropy(scores)[0]))[:, None]
    return scores.masked_fill((scores.softmax(-1) < limit) & (scores < _nth_best(scores, keep)), -INF)


# ---- By what stands in the text


def repetition_penalty(ids: Tensor, scores: Tensor, *, penalty: float, text: Tensor | None = None) -> Tensor:
    """Tokens of the text (ids, or another [P, N]) become less likely where penalty > 1, else more likely."""
    seen = _among(ids if text is None else _per_row(text, scores), scores)
    return torch.where(seen, torch.where(scores < 0, scores * penalty, scores / penalty), scores)


def no_repeat_ngram(ids: Tensor, scores: Tensor, *, size: int, text: Tensor | None = None) -> Tensor:
    """Rules out the tokens with which the ids would end on an n-gram of the text (ids, or another [P, N])."""
    text, T = ids if text is None else _per_row(text, scores), ids.shape[1]
    if min(T + 1, text.shape[1]) < size:
        return scores
    ngrams = text.unfold(1, size, 1)  # [B, N - size + 1, size]
    begun = (ngrams[..., :-1] == ids[:, None, T + 1 - size :]).all(-1)
    return scores.masked_fill(_among(ngrams[..., -1].masked_fill(~begun, -1), scores), -INF)


def sequence_bias(biases: dict | Iterable, device: Device = None) -> Rule:
    """Adds to the score of a sequence's last token where the text ends with the tokens before it.

    biases: {(1, 2, 3): -2.5} or [[[1, 2, 3], -2.5]]. The rule raises ValueError for tokens outside of the vocabulary.
    """
    given = biases.items() if isinstance(biases, dict) else biases
    pairs = {tuple(sequence): float(bias) for sequence, bias in given}
    largest, groups = max(map(max, pairs)), []
    for length in dict.fromkeys([1, *map(len, pairs)]):  # single tokens first: sums of floats depend on the order
        some = [sequence for sequence in pairs if len(sequence) == length]
        before, last = torch.tensor(some, dtype=torch.long, device=device).view(-1, length).split([length - 1, 1], 1)
        groups.append((before, last[:, 0], torch.tensor([pairs[one] for one in some], device=device)))

    def rule(ids: Tensor, scores: Tensor) -> Tensor:
        if largest >= scores.shape[1]:
            raise ValueError(f"Token {largest} has a bias, but the vocabulary ends with {scores.shape[1] - 1}.")
        T, total = ids.shape[1], torch.zeros_like(scores)
        for before, last, bias in groups:  # [N, L], [N], [N]
            if (L := before.shape[1]) <= T:
                found = (ids[:, None, T - L :] == before).all(-1)
                total.index_add_(1, last, torch.where(found, bias, 0.0).to(scores.dtype))
        return scores + total

    return rule


def prefix_allowed(
    ids: Tensor, scores: Tensor, *, allowed: Callable[[int, Tensor], Sequence[int]], num_beams: int = 1
) -> Tensor:
    """Only the tokens that allowed(number of the prompt, ids of the row) names; ValueError where it names none.

    Where the scores rule them out in all rows of a prompt, they become equally likely.
    """
    mask = torch.full_like(scores, -INF)
    for row, text in enumerate(ids):
        if len(tokens := allowed(row // num_beams, text)) == 0:
            raise ValueError(f"prefix_allowed_tokens_fn names no token for prompt {row // num_beams}: {text.tolist()}.")
        mask[row, tokens] = 0
    masked = scores + mask
    stuck = masked.amax(-1).isneginf().view(-1, num_beams).all(-1).repeat_interleave(num_beams)
    return torch.where(stuck[:, None], mask, masked)


def diversity(ids: Tensor, scores: Tensor, *, penalty: float, taken: Tensor) -> Tensor:
    """Subtracts the penalty for each time that an earlier group of beams took a token in this step; taken [P, N]."""
    counts = scores.new_zeros(len(taken), scores.shape[1]).scatter_add_(1, taken, scores.new_ones(taken.shape))
    return scores - penalty * _per_row(counts, scores)


def watermark(
    ids: Tensor, scores: Tensor, *, greenlist_ratio: float = 0.25, bias: float = 2.0, hashing_key: int = 15485863,
    seeding_scheme: str = "lefthash", context_width: int = 1,
) -> Tensor:  # fmt: skip
    """Adds a bias to a share of the vocabulary, the "green" tokens, that who knows the key can tell from chance.

    lefthash: they follow from the last token. selfhash: each of the 40 best tokens decides with those before it, in all
    context_width, whether it is green. Nothing is added while the text is shorter than that.
    """
    V, generator, green = scores.shape[1], torch.Generator(scores.device), torch.zeros_like(scores, dtype=torch.bool)

    def shuffled(size: int, seed: int) -> Tensor:
        return torch.randperm(size, generator=generator.manual_seed(seed % (2**64 - 1)), device=scores.device)

    for row, text in enumerate(ids if ids.shape[1] >= context_width else ()):
        if seeding_scheme == "lefthash":
            green[row, shuffled(V, hashing_key * int(text[-1]))[: int(V * greenlist_ratio)]] = True
            continue
        table = shuffled(1_000_003, hashing_key) + 1
        for token in scores[row].topk(min(40, V)).indices:
            hashed = table[torch.cat([text, token[None]])[-context_width:] % len(table)]
            order = shuffled(V, int((hashing_key * hashed * hashed[-1]).min()))
            green[row, token] = (order[: int(V * greenlist_ratio)] == token).any()
    return torch.where(green, scores + bias, scores)


# ---- By the length of the text. tokens [N]: those outside of the vocabulary are ignored


def suppress(ids: Tensor, scores: Tensor, *, tokens: Tensor, lengths: range | None = None) -> Tensor:
    """Rules tokens out, as long as the text has one of these lengths; None: always."""
    if lengths is not None and ids.shape[1] not in lengths:
        return scores
    return scores.masked_fill(_among(tokens.view(1, -1), scores), -INF)


def force(ids: Tensor, scores: Tensor, *, tokens: Tensor, length: int) -> Tensor:
    """One of these tokens follows, all equally likely, when the text has this length."""
    if ids.shape[1] != length:
        return scores
    return torch.full_like(scores, -INF).masked_fill(_among(tokens.view(1, -1), scores), 0)


def exponential_decay_length(ids: Tensor, scores: Tensor, *, start: int, factor: float, eos: Tensor) -> Tensor:
    """From the length `start` on, the end becomes more likely by factor ** tokens; never infinitely so."""
    if (tokens := ids.shape[1] - start) <= 0:
        return scores
    largest = torch.finfo(scores.dtype).max
    growth = factor**tokens if tokens * math.log(factor) < math.log(largest) else largest
    risen = (scores + scores.abs() * (growth - 1)).clamp(max=largest)
    return torch.where(_among(eos[None], scores) & scores.isfinite(), risen, scores)


# ---- Of the scores as a whole


def remove_invalid(ids: Tensor, scores: Tensor) -> Tensor:
    """nan becomes 0, and what is infinite the largest number of its sign."""
    return scores.nan_to_num(0.0)


def renormalize(ids: Tensor, scores: Tensor) -> Tensor:
    return scores.log_softmax(-1)


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
    device: Device = None,
) -> list[Rule]:
    """What a GenerationConfig asks for and the custom rules, to be called one after the other.

    prompt_length: of the text before the first new token. eos: the ids that end it. device: where scores will be.
    prompt_mask [P, T]: 0 is left padding. encoder_ids, encoder_mask [P, N]: what the encoder read; without one the
    prompt. num_beams: the rows that prefix_allowed_tokens_fn counts as one prompt.
    """
    c = config
    eos = torch.as_tensor(eos, dtype=torch.long, device=device).view(-1)
    tensor, device = eos.new_tensor, eos.device
    padding = None if prompt_mask is None else (prompt_mask != 0).int().argmax(1)
    real = partial(_without_padding, padding=padding if padding is not None and padding.any() else None)
    if encoder_ids is not None and encoder_mask is not None:
        encoder_ids = encoder_ids.masked_fill(encoder_mask == 0, -1)
    penalty, size = c.encoder_repetition_penalty or 1.0, c.encoder_no_repeat_ngram_size
    if encoder_ids is None and (penalty != 1 or size):
        raise ValueError("encoder_repetition_penalty and encoder_no_repeat_ngram_size need input_ids; none were given.")
    # the end of the text is no word, or it would never come
    words = [word for word in c.bad_words_ids or () if len(word) > 1 or word[0] not in eos.tolist()]
    least, most = c.min_length or 0, c.max_length
    least = least if c.min_new_tokens is None else prompt_length + c.min_new_tokens
    most = most if c.max_new_tokens is None else prompt_length + c.max_new_tokens
    decay = c.exponential_decay_length_penalty
    first = prompt_length + (prompt_length == 1 and c.forced_bos_token_id is not None)  # the forced one comes before
    own = [
        c.sequence_bias and real(sequence_bias(c.sequence_bias, device)),
        penalty != 1 and partial(repetition_penalty, penalty=1 / penalty, text=encoder_ids),
        c.repetition_penalty not in (None, 1) and real(partial(repetition_penalty, penalty=c.repetition_penalty)),
        c.no_repeat_ngram_size and real(partial(no_repeat_ngram, size=c.no_repeat_ngram_size)),
        size and real(partial(no_repeat_ngram, size=size, text=encoder_ids)),
        words and real(sequence_bias({tuple(word): -INF for word in words}, device)),
        least > 0 and len(eos) and partial(suppress, tokens=eos, lengths=range(least)),
        prefix_allowed_tokens_fn and partial(prefix_allowed, allowed=prefix_allowed_tokens_fn, num_beams=num_beams),
        c.forced_bos_token_id is not None and partial(force, tokens=tensor(c.forced_bos_token_id), length=1),
        c.forced_eos_token_id is not None and partial(force, tokens=tensor(c.forced_eos_token_id), length=most - 1),
        c.remove_invalid_values and remove_invalid,
        decay and partial(exponential_decay_length, start=prompt_length + decay[0], factor=decay[1], eos=eos),
        c.suppress_tokens and partial(suppress, tokens=tensor(c.suppress_tokens)),
        c.begin_suppress_tokens
        and partial(suppress, tokens=tensor(c.begin_suppress_tokens), lengths=range(first, first + 1)),
    ]
    keep = max(len(eos), 1) + 1 if (c.num_beams or 1) > 1 else 1  # a beam needs a token with which it goes on
    sampling = [
        c.temperature not in (None, 1) and partial(temperature, value=c.temperature),
        c.top_h is not None and partial(top_h, h=c.top_h),
        c.top_k and partial(top_k, k=c.top_k, keep=keep),
        c.top_p is not None and c.top_p < 1 and partial(top_p, p=c.top_p, keep=keep),
        c.min_p is not None and partial(min_p, p=c.min_p, keep=keep),
        c.typical_p is not None and c.typical_p < 1 and partial(typical_p, p=c.typical_p, keep=keep),
        c.epsilon_cutoff and partial(epsilon_cutoff, epsilon=c.epsilon_cutoff, keep=keep),
        c.eta_cutoff and partial(eta_cutoff, epsilon=c.eta_cutoff, keep=keep),
    ]
    last = [c.watermarking_config and partial(watermark, **c.watermarking_config), c.renormalize_logits and renormalize]
    return [*filter(None, own), *custom, *filter(None, sampling if c.do_sample else ()), *filter(None, last)]


# ---- What several rules need


def _without_padding(rule: Rule, padding: Tensor | None) -> Rule:
    """The rule, to which left padding looks like -1; padding [P]: how many tokens each prompt has of it."""
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
    """The keys [B, V] in rising order and their tokens, both [B, N]; N < V where tokens are ruled out in every row.

    After top_k hardly any are left, and sorting them all would take most of the time.
    """
    if scores.is_cuda:  # sorts quickly, while counting would wait for the device
        return keys.sort(stable=True)
    left = (scores != -INF).any(0).nonzero()[:, 0]
    ranked, order = keys[:, left].sort(stable=True)
    return ranked, left[order]


def _among(tokens: Tensor, scores: Tensor) -> Tensor:
    """Whether each of the V tokens stands in its row of tokens [B, N]; those outside of the vocabulary are ignored."""
    V = scores.shape[1]
    inside = tokens.masked_fill((tokens < 0) | (tokens > V), V)
    return scores.new_zeros((len(tokens), V + 1), dtype=torch.bool).scatter_(1, inside, True)[:, :V]


def _per_row(values: Tensor, scores: Tensor) -> Tensor:
    """Values of the prompts [P, ...], as often as each has rows in the scores."""
    return values.repeat_interleave(len(scores) // len(values), 0)


# ---- What users of Transformers derive their own rules and criteria from; any function does as well


class LogitsProcessor:
    """A rule: __call__(input_ids, scores) gives new scores."""


class LogitsProcessorList(list):
    """Rules, called one after the other."""

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        for rule in self:
            scores = rule(input_ids, scores)
        return scores


class StoppingCriteria:
    """Which rows are finished: __call__(input_ids, scores) gives bool [B], or one bool for all."""


class StoppingCriteriaList(list):
    """A row is finished when one of the criteria says so."""

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        done = torch.zeros(len(input_ids), dtype=torch.bool, device=input_ids.device)
        for criterion in self:
            done = done | criterion(input_ids, scores)
        return done
