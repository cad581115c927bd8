"""What a text must contain: constraints of beam search, and how far a text has come with them.

A user's own constraint is a subclass of `Constraint`. A text meets constraints one after the other, in any order; a
token that breaks one off undoes what was done of it. Paper: Post and Vilar, 2018, https://arxiv.org/abs/1804.06609
"""

import copy
from typing import Any


class Constraint:
    """Something that tokens, one after the other, come closer to.

    seqlen: how many tokens it takes at most. completed: whether it is met.
    """

    seqlen: int
    completed: bool = False

    def advance(self) -> int | list[int] | None:
        """The token, or the tokens, that come one step closer; None when there is none."""
        raise NotImplementedError(f"{type(self).__name__}.advance is missing.")

    def does_advance(self, token_id: int) -> bool:
        """Whether a token comes one step closer."""
        raise NotImplementedError(f"{type(self).__name__}.does_advance is missing.")

    def update(self, token_id: int) -> tuple[bool, bool, bool]:
        """Takes a token: (it came closer, the constraint is met, what was done is undone)."""
        raise NotImplementedError(f"{type(self).__name__}.update is missing.")

    def reset(self) -> None:
        """Begins anew."""
        raise NotImplementedError(f"{type(self).__name__}.reset is missing.")

    def remaining(self) -> int:
        """How many tokens are missing."""
        raise NotImplementedError(f"{type(self).__name__}.remaining is missing.")

    def copy(self, stateful: bool = False) -> "Constraint":
        """Another one, as far as this one (stateful) or at its beginning."""
        other = copy.deepcopy(self)
        if not stateful:
            other.reset()
        return other


class DisjunctiveConstraint(Constraint):
    """One of several phrases, each a list of token ids, stands in the text. None may be the beginning of another."""

    def __init__(self, nested_token_ids: list[list[int]]):
        phrases = nested_token_ids
        for phrase in phrases if isinstance(phrases, list) and phrases else [None]:
            if not (isinstance(phrase, list) and phrase and all(isinstance(i, int) and i >= 0 for i in phrase)):
                raise ValueError(f"A constraint needs lists of token ids, none of them empty; got {phrases!r:.200}.")
        if any(a == b[: len(a)] for i, a in enumerate(phrases) for j, b in enumerate(phrases) if i != j):
            raise ValueError(f"No phrase of a constraint may be the beginning of another; got {phrases!r:.200}.")
        self.phrases, self.seqlen = phrases, max(map(len, phrases))
        self.token_ids: Any = phrases
        self.reset()

    def advance(self) -> int | list[int] | None:
        T = len(self.current_seq)
        return (
            list(dict.fromkeys(one[T] for one in self.phrases if one[:T] == self.current_seq and len(one) > T)) or None
        )

    def does_advance(self, token_id: int) -> bool:
        return any(one[: len(self.current_seq) + 1] == [*self.current_seq, token_id] for one in self.phrases)

    def update(self, token_id: int) -> tuple[bool, bool, bool]:
        stepped = self.does_advance(token_id)
        if stepped:
            self.current_seq = [*self.current_seq, token_id]
            self.completed = self.current_seq in self.phrases
        else:
            self.reset()
        return stepped, self.completed, not stepped

    def reset(self) -> None:
        self.completed, self.current_seq = False, list[int]()

    def remaining(self) -> int:
        return 0 if self.completed else self.seqlen - len(self.current_seq)

    def copy(self, stateful: bool = False) -> "DisjunctiveConstraint":
        other = copy.copy(self)  # what it holds is replaced, never changed
        if not stateful:
            other.reset()
        return other


class PhrasalConstraint(DisjunctiveConstraint):
    """A phrase, a list of token ids, stands in the text."""

    def __init__(self, token_ids: list[int]):
        super().__init__([token_ids])
        self.token_ids = token_ids

    def advance(self) -> int | None:
        return None if self.completed else self.token_ids[len(self.current_seq)]


class Progress:
    """How far a text has come: the constraints that are open, the one that is begun, how many are met."""

    def __init__(self, constraints: list[Constraint]):
        self.open: list[Constraint] = [one.copy() for one in constraints]  # at their beginning
        self.current: Constraint | None = None
        self.met, self.longest = 0, max(one.seqlen for one in constraints)

    @property
    def done(self) -> bool:
        return not self.open and self.current is None

    @property
    def bank(self) -> int:
        """The further, the higher."""
        begun = 0 if self.current is None else self.longest - self.current.remaining()
        return self.met * self.longest + begun

    def tokens(self) -> list[int]:
        """Those that come closer: to what is begun, else to any."""
        steps = [one.advance() for one in (self.open if self.current is None else [self.current])]
        return [token for step in steps for token in (step if isinstance(step, list) else [step]) if token is not None]

    def after(self, *tokens: int) -> "Progress":
        """That of the text with more tokens."""
        other = copy.copy(self)
        other.open = list(self.open)
        other.current = None if self.current is None else self.current.copy(stateful=True)
        for token in tokens:
            other._take(token)
        return other

    def _take(self, token: int) -> None:
        if self.current is None:
            found = next((i for i, one in enumerate(self.open) if one.does_advance(token)), None)
            if found is None:
                return
            self.current = self.open.pop(found).copy()
        _, completed, undone = self.current.update(token)
        if completed:
            self.met, self.current = self.met + 1, None
        elif undone:
            self.open.append(self.current.copy())
            self.current = None


def read_constraints(constraints: list[Any] | None, force_words_ids: list[Any] | None) -> list[Constraint]:
    """Those given, and of force_words_ids a phrase for each list of tokens, a choice for each list of such lists."""
    for one in constraints or ():
        if not isinstance(one, Constraint):
            raise TypeError(
                f"constraints must hold PhrasalConstraint, DisjunctiveConstraint or your own; got {one!r:.80}."
            )
    if not all(force_words_ids or ()):
        raise ValueError(f"force_words_ids must name sequences of one token or more, got {force_words_ids!r:.100}.")
    made = [
        DisjunctiveConstraint(words) if words and isinstance(words[0], list) else PhrasalConstraint(words)
        for words in force_words_ids or ()
    ]
    return [*(constraints or ()), *made]
