"""Beam search: the likeliest texts are followed side by side; also drawn, in groups that differ, or under constraints.

In each turn the beams of a group (all beams of a prompt, unless num_beam_groups says otherwise) are continued by every
token. The best continuations are looked at: those that end are candidates for the answer, the others go on.

Papers: length penalty arXiv:1609.08144, drawn beams 1903.06059, groups 1610.02424, constraints 1804.06609.
Shapes: B rows (prompts times beams), P prompts, U groups of N beams each, K continuations that are looked at, V
vocabulary.
"""

from dataclasses import dataclass, field
from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor

from .constraints import Progress, read_constraints
from .feed import GenerateBeamDecoderOnlyOutput, Record, Task
from .logits import Rule, diversity

NEVER = -1e9  # added to a score: better than none, worse than any other


@dataclass(order=True)
class Text:
    """One that is finished; of two the better is greater."""

    score: float  # the sum of its log-probabilities by its length
    ids: list[int] = field(compare=False)
    rows: list[int] = field(compare=False)  # in which each new token was written


class Finished:
    """The best finished texts of a group, at most so many, the worst first; done: no more will come."""

    def __init__(self, most: int):
        self.most, self.texts, self.done = most, list[Text](), False

    def add(self, text: Text) -> None:
        if len(self.texts) < self.most or text > self.texts[0]:
            self.texts = sorted([*self.texts, text])[-self.most :]

    def settle(self, best: float, early_stopping: bool | str | None) -> None:
        """best: the score that texts which are written now may reach."""
        if len(self.texts) == self.most:
            self.done = self.done or early_stopping is True or best <= self.texts[0].score


class Turn(NamedTuple):
    """Continuations of groups: the sums of their log-probabilities, the rows that they continue, their tokens."""

    scores: Tensor  # [U, K], as the others
    rows: Tensor
    tokens: Tensor


class Beams:
    """The texts that are being written: their ids [B, T], the rows they were written in, their scores [U, N]."""

    def __init__(self, task: Task):
        config, (B, self.start) = task.config, task.ids.shape
        self.task, self.length, self.groups = task, self.start, config.num_beam_groups
        self.N = config.num_beams // self.groups
        self.ids = task.ids.new_full((B, config.max_length), task.pad)
        self.ids[:, : self.start] = task.ids
        self.came = task.ids.new_empty((B, config.max_length - self.start))
        self.scores = torch.full((B // self.N, self.N), NEVER, device=task.ids.device)
        self.scores[:, 0] = 0.0  # the beams of a group are all the same yet
        self.rows = torch.arange(B, device=task.ids.device).view(self.scores.shape)
        self.finished = [Finished(self.N) for _ in self.scores]

    def text(self, row: int, score: float, token: int | None = None) -> Text:
        """That of a row, with a token more."""
        last = [] if token is None else [token]
        rows = self.came[row, : self.length - self.start].tolist() + [row] * len(last)
        return Text(self.by_length(score, len(rows)), self.ids[row, : self.length].tolist() + last, rows)

    def by_length(self, score: float, tokens: int) -> float:
        return score / tokens**self.task.config.length_penalty

    def reach(self, score: float) -> float:
        """What a text of this score may come to: "never" thinks of longer ones, too."""
        config, tokens = self.task.config, self.length + 1 - self.start
        far = config.early_stopping == "never" and config.length_penalty > 0
        return self.by_length(score, config.max_length - self.start if far else tokens)

    def ends(self, turn: Turn) -> Tensor:
        """[U, K]: which continuations are finished."""
        stop, (U, K) = self.task.stop, turn.tokens.shape
        since = 0 if stop.custom else max(self.length - stop.reach, 0)
        texts = self.ids[turn.rows.view(-1), since : self.length]
        return stop(torch.cat((texts, turn.tokens.view(-1, 1)), 1), None).view(U, K)

    def move(self, turn: Turn) -> bool:
        """The beams become these continuations, [U, N]; whether rows that differ changed their places."""
        rows, new = turn.rows.view(-1), self.length - self.start
        moved = new > 0 and not torch.equal(rows, torch.arange(len(rows), device=rows.device))
        if moved:
            self.ids[:, : self.length] = self.ids[rows, : self.length]
            self.came[:, :new] = self.came[rows, :new]
        self.ids[:, self.length], self.came[:, new] = turn.tokens.view(-1), rows
        self.scores, self.length = turn.scores, self.length + 1
        return moved


class Promises:
    """The constraints of a task: how far each row has come, and which beams go on to come further."""

    def __init__(self, task: Task):
        constraints = read_constraints(task.config.constraints, task.config.force_words_ids)
        real = task.ids.ge(0) if task.feed.mask is None else task.feed.mask[:, -task.ids.shape[1] :].bool()
        start = Progress(constraints)
        self.rows = [start.after(*ids[mask].tolist()) for ids, mask in zip(task.ids, real, strict=True)]

    def choose(self, beams: Beams, turn: Turn, scores: Tensor) -> Turn:
        """Beside the continuations of the turn, [U, N], those by a token that a constraint waits for.

        Of the texts that have come as far as each other, the best goes on; then of each the second best, until there
        are enough. scores [B, V]: log-probabilities.
        """
        chosen = []
        for u, (values, rows, tokens) in enumerate(zip(turn.scores, turn.rows, turn.tokens, strict=True)):
            texts = {
                row: tuple(beams.ids[row, : beams.length].tolist()) for row in range(u * beams.N, (u + 1) * beams.N)
            }
            options = list(zip(values.tolist(), rows.tolist(), tokens.tolist(), strict=True))
            seen = {(texts[row], token) for _, row, token in options}
            for row in () if beams.finished[u].done else texts:
                for token in self.rows[row].tokens():
                    if token >= scores.shape[1]:
                        raise ValueError(f"A constraint asks for token {token}; the last is {scores.shape[1] - 1}.")
                    if (texts[row], token) not in seen:
                        seen.add((texts[row], token))
                        options.append((float(scores[row, token] + beams.scores.view(-1)[row]), row, token))
            after = [(self.rows[row].after(token), score, row, token) for score, row, token in options]
            after.sort(key=lambda one: (-one[0].bank, -one[1]))
            banks = [one[0].bank for one in after]
            places = [i - banks.index(bank) for i, bank in enumerate(banks)]
            chosen += [after[i] for i in sorted(range(len(after)), key=places.__getitem__)[: beams.N]]
        self.rows = [one[0] for one in chosen]
        columns = (
            turn.scores.new_tensor([one[1] for one in chosen]),
            *turn.rows.new_tensor([one[2:] for one in chosen]).T,
        )
        return Turn(*(x.reshape(turn.scores.shape) for x in columns))


@torch.no_grad()
def beam_search(task: Task) -> GenerateBeamDecoderOnlyOutput:
    """All kinds of beam search; the beams of a prompt stand next to each other in task.ids.

    Plain and drawn beams are those of version 5 of Transformers. Groups and constraints are those of version 4: a group
    is done when its best continuation, finished or not, is no better than its worst finished text.
    """
    feed, record, beams = task.feed, Record(task.config), Beams(task)
    promises = Promises(task) if task.mode == "constrained_beam_search" else None
    over = False
    while not over and beams.length < task.config.max_length:
        out = feed(beams.ids[:, : beams.length])
        logits = out.logits[:, -1].float()
        logs, scores, turns, over = logits.log_softmax(-1), [], [], True
        for group in range(beams.groups):
            part, turn, ended = step(task, beams, logs, group, turns, promises)
            scores, turns, over = [*scores, part], [*turns, turn], over and ended
        record.add(out, logits, torch.stack(scores, 1).flatten(0, 2))
        turn = Turn(*(torch.stack(x, 1).flatten(0, 1) for x in zip(*turns, strict=True)))
        over = over or all(one.done for one in beams.finished)
        if beams.move(turn) and not over:
            feed.choose(turn.rows.view(-1))
    return answer(task, beams, record, promises)


def step(
    task: Task, beams: Beams, logs: Tensor, group: int, before: list[Turn], promises: Promises | None
) -> tuple[Tensor, Turn, bool]:
    """A turn of one group of each prompt: (scores after the rules [P, N, V], what goes on [P, N], whether all ended).

    logs [B, V]: log-probabilities. before: what goes on of the groups before this one.
    """
    config, N, V = task.config, beams.N, logs.shape[1]
    rows, sums = (x.view(-1, beams.groups, N)[:, group] for x in (beams.rows, beams.scores))  # [P, N]
    finished, plain = beams.finished[group :: beams.groups], task.mode in ("beam_search", "beam_sample")
    scores = logs.view(-1, beams.groups, N, V)[:, group].reshape(-1, V)
    for rule in rules_of(task, before):
        scores = rule(beams.ids[rows.reshape(-1), : beams.length], scores)
    scores = scores.view(-1, N, V)
    totals = (scores + sums[..., None]).flatten(1)
    # enough that N go on even when each beam's best tokens are those that end it
    K = min(max(2, 1 + len(task.eos)) * N, N * V)
    places = torch.multinomial(totals.softmax(-1), K) if config.do_sample else totals.topk(K).indices
    looked_at = Turn(totals.gather(1, places), rows.gather(1, places // V), places % V)
    ended = beams.ends(looked_at)
    if plain and beams.length + 1 == config.max_length:
        ended = torch.ones_like(ended)
    for p, k in ended[:, :N].nonzero().tolist():
        row, score, token = (int(looked_at.rows[p, k]), float(looked_at.scores[p, k]), int(looked_at.tokens[p, k]))
        if not finished[p].done and (promises is None or promises.rows[row].done):
            finished[p].add(beams.text(row, score, token))
    going, best = (looked_at.scores + ended * NEVER).topk(N)
    turn = Turn(going, looked_at.rows.gather(1, best), looked_at.tokens.gather(1, best))
    leading = (turn if plain else looked_at).scores[:, 0].tolist()
    if promises is not None:
        turn = promises.choose(beams, turn, scores.flatten(0, 1))
    if beams.groups > 1:  # a group that is done takes no tokens
        turn.tokens[torch.tensor([one.done for one in finished])] = task.pad
    for one, score in zip(finished, leading, strict=True):
        one.settle(beams.reach(score), config.early_stopping)
    return scores, turn, bool(ended.all())


def rules_of(task: Task, before: list[Turn]) -> list[Rule]:
    """The task's rules; a group avoids the tokens of those before it, which comes where version 4 had it."""
    if not before:
        return task.rules
    config, taken = task.config, torch.cat([turn.tokens for turn in before], 1)
    first = bool(config.sequence_bias) + (config.guidance_scale not in (None, 1))
    rule = partial(diversity, penalty=config.diversity_penalty, taken=taken)
    return [*task.rules[:first], rule, *task.rules[first:]]


def answer(task: Task, beams: Beams, record: Record, promises: Promises | None) -> GenerateBeamDecoderOnlyOutput:
    """The best texts of each prompt, the best first; those that are still written count, too, where that can be."""
    config, texts = task.config, list[Text]()
    for p in range(0, len(beams.finished), beams.groups):
        found, short = list[Text](), list[Text]()  # short: of what a constraint asks for
        for u in range(p, p + beams.groups):
            for row in () if beams.finished[u].done else beams.rows[u].tolist():
                text = beams.text(row, float(beams.scores.view(-1)[row]))
                if promises is None or promises.rows[row].done:
                    beams.finished[u].add(text)
                else:
                    short.append(text)
            found += beams.finished[u].texts
        best = [*sorted(found, reverse=True), *sorted(short, reverse=True)]
        texts += best[: config.num_return_sequences]
    longest = max(len(text.ids) for text in texts)
    ids, rows = task.ids.new_full((len(texts), longest), task.pad), task.ids.new_full((len(texts), longest), -1)
    for i, text in enumerate(texts):
        ids[i, : len(text.ids)] = task.ids.new_tensor(text.ids)
        rows[i, : len(text.rows)] = task.ids.new_tensor(text.rows)
    scores = torch.tensor([text.score for text in texts], device=ids.device) if "scores" in record.kept else None
    rows = rows[:, : longest - beams.start]
    return GenerateBeamDecoderOnlyOutput(
        ids, scores, **record.fields(), beam_indices=rows, past_key_values=task.feed.cache
    )
