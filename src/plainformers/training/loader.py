"""Which rows of a dataset make which batch, and the batches themselves: a function of (seed, epoch, number) alone.

So a run that is resumed sees what the interrupted one would have seen, whatever drew random numbers in between, and
with any number of loader processes.
"""

import inspect
import math
import random
from collections.abc import Callable, Iterable, Iterator, Sized
from contextlib import contextmanager
from itertools import count, islice
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import nn
from torch.utils.data import DataLoader, Dataset, IterableDataset, get_worker_info

MEGABATCH = 50  # batches within which rows are sorted by length


class Place(NamedTuple):
    """One batch: rows of a dataset, and where it stands in the run."""

    epoch: int
    number: int  # of this batch in the epoch, on all processes together
    rows: list[int]


@contextmanager
def own_random_numbers(*place: int) -> Iterator[None]:
    """Within, Python, NumPy and torch draw numbers that follow from `place` alone; after, they go on as before."""
    seed = np.random.SeedSequence(place).generate_state(4)
    before = random.getstate(), np.random.get_state(), torch.get_rng_state()
    random.seed(int(seed[0]))
    np.random.seed(seed[1])
    torch.default_generator.manual_seed(int(seed[2]))
    try:
        yield
    finally:
        random.setstate(before[0])
        np.random.set_state(before[1])
        torch.set_rng_state(before[2])


def order_of(count: int, size: int, strategy: str, seed: int, epoch: int, lengths: list[int] | None) -> list[int]:
    """The rows 0 to count - 1 in the order of an epoch.

    group_by_length: shuffled, sorted within windows of MEGABATCH batches, and the batches shuffled; the longest first,
    so that a batch that does not fit into memory shows at once.
    """
    if strategy == "sequential":
        return list(range(count))
    generator = torch.Generator().manual_seed(int(np.random.SeedSequence((seed, epoch)).generate_state(1)[0]))
    order = torch.randperm(count, generator=generator).tolist()
    if strategy == "random":
        return order
    assert lengths is not None
    batches: list[list[int]] = []
    for start in range(0, count, size * MEGABATCH):
        window = sorted(order[start : start + size * MEGABATCH], key=lengths.__getitem__, reverse=True)
        batches += [window[i : i + size] for i in range(0, len(window), size)]
    last = [batches.pop()] if len(batches[-1]) < size and len(batches) > 1 else []  # the short one stays at the end
    longest = batches.pop(max(range(len(batches)), key=lambda i: lengths[batches[i][0]]))
    shuffled = [batches[i] for i in torch.randperm(len(batches), generator=generator).tolist()]
    return [row for batch in [longest, *shuffled, *last] for row in batch]


class Places:
    """Yields the batches of one epoch, from `start` on; those of one process of several.

    Every process gets as many batches. Where rows run out, it gets one of another's and is idle: that batch counts for
    nothing there.
    """

    def __init__(self, rows: int, size: int, strategy: str, seed: int, *, lengths: list[int] | None = None,
                 drop_last: bool = False, rank: int = 0, world: int = 1):  # fmt: skip
        self.rows, self.size, self.strategy, self.seed, self.lengths = rows, size, strategy, seed, lengths
        self.drop_last, self.rank, self.world = drop_last, rank, world
        self.epoch = self.start = 0

    def __len__(self) -> int:
        together = self.size * self.world
        return self.rows // together if self.drop_last else -(-self.rows // together)

    def set_epoch(self, epoch: int, start: int = 0) -> None:
        self.epoch, self.start = epoch, start

    def idle(self, number: int) -> bool:
        return self.rows - number * self.size * self.world <= self.rank

    def __iter__(self) -> Iterator[Place]:
        order = order_of(self.rows, self.size, self.strategy, self.seed, self.epoch, self.lengths)
        for number in range(self.start, len(self)):
            rows = order[number * self.size * self.world :][: self.size * self.world]
            yield Place(self.epoch, number, rows[self.rank :: self.world] or rows[:1])


class Batches(Dataset):
    """place -> the collated batch."""

    def __init__(self, dataset: Any, collate: Callable[[list[Any]], Any], seed: int, rank: int = 0):
        self.dataset, self.collate, self.seed, self.rank = dataset, collate, seed, rank

    def __getitem__(self, place: Place) -> Any:
        with own_random_numbers(self.seed, place.epoch, place.number, self.rank):
            many = getattr(self.dataset, "__getitems__", None)
            rows = many(place.rows) if many else [self.dataset[i] for i in place.rows]
            if hasattr(self.collate, "reseed"):
                self.collate.reseed(self.seed, place.epoch, place.number, self.rank)  # pyright: ignore
            return self.collate(rows)


class Stream(IterableDataset):
    """The batches of a dataset that can only be read from its beginning, for one process of several.

    Every loader process reads all rows and collates every n-th batch. Of several processes each takes its part of every
    batch; at the end, fewer rows than processes are left out.
    """

    def __init__(self, dataset: Iterable[Any], collate: Callable[[list[Any]], Any], size: int, seed: int, *,
                 drop_last: bool = False, rank: int = 0, world: int = 1):  # fmt: skip
        self.dataset, self.collate, self.size, self.seed = dataset, collate, size, seed
        self.drop_last, self.rank, self.world = drop_last, rank, world
        self.epoch = self.start = 0

    def set_epoch(self, epoch: int, start: int = 0) -> None:
        self.epoch, self.start = epoch, start
        if hasattr(self.dataset, "set_epoch"):
            self.dataset.set_epoch(epoch)  # pyright: ignore

    def __iter__(self) -> Iterator[Any]:
        worker = get_worker_info()
        workers, own = (worker.num_workers, worker.id) if worker else (1, 0)
        with own_random_numbers(self.seed, self.epoch):  # a generator that shuffles does so when it begins
            rows = iter(self.dataset)
        for number in count():
            with own_random_numbers(self.seed, self.epoch, number, self.rank):
                together = list(islice(rows, self.size * self.world))
                if len(together) < (self.size * self.world if self.drop_last else self.world):
                    return
                if number >= self.start and (number - self.start) % workers == own:
                    yield self.collate(together[self.rank :: self.world])


class KeepColumns:
    """Collates what the model's forward takes of each row, and its labels; says so when nothing is left."""

    def __init__(self, collate: Callable[[list[Any]], Any], model: nn.Module, label_names: list[str]):
        forward = inspect.signature(type(model).forward).parameters
        self.all = any(p.kind is p.VAR_KEYWORD for p in forward.values())
        self.kept = {*forward, *label_names, "label", "label_ids"} - {"self"}
        self.collate, self.where = collate, f"{type(model).__name__}.forward"
        if hasattr(collate, "reseed"):
            self.reseed = collate.reseed  # pyright: ignore

    def __call__(self, rows: list[Any]) -> Any:
        if self.all or not hasattr(rows[0], "keys"):
            return self.collate(rows)
        chosen = [{name: value for name, value in row.items() if name in self.kept} for row in rows]
        if not set(chosen[0]) - {"label", "label_ids", "labels"}:
            raise ValueError(
                f"No column of the dataset is an argument of {self.where}: the rows have {sorted(rows[0])}, it takes "
                f"{sorted(self.kept - {'label', 'label_ids'})}. Tokenize the texts first, or set "
                "remove_unused_columns=False for a collator that does."
            )
        return self.collate(chosen)


def lengths_of(dataset: Any, column: str, name: str) -> list[int]:
    """Tokens of each row: what the column says, else how many there are of `name` (input_ids)."""
    columns = getattr(dataset, "column_names", None)
    if columns is not None and column in columns:
        return [int(n) for n in dataset[column]]
    first = dataset[0]
    if not hasattr(first, "keys") or (column not in first and name not in first):
        has = list(first) if hasattr(first, "keys") else type(first).__name__
        raise ValueError(
            f"group_by_length needs rows with {name!r} or a length column {column!r} (length_column_name); they have "
            f"{has}."
        )
    return [int(row[column]) if column in row else len(row[name]) for row in (dataset[i] for i in range(len(dataset)))]


def make_loader(
    dataset: Any, collate: Callable[[list[Any]], Any], size: int, args: Any, *, strategy: str, seed: int,
    lengths: list[int] | None = None, drop_last: bool = False, rank: int = 0, world: int = 1,
) -> DataLoader:  # fmt: skip
    """A DataLoader of collated batches. Its `places` is what set_epoch is called on."""
    parts: dict[str, Any] = dict(drop_last=drop_last, rank=rank, world=world)
    workers = args.dataloader_num_workers
    # a generator of its own, so that beginning an epoch takes no number from the model's
    options: dict[str, Any] = {"num_workers": workers, "generator": torch.Generator()}
    options["pin_memory"] = args.dataloader_pin_memory and args.n_gpu > 0
    if workers:
        options |= {
            "persistent_workers": args.dataloader_persistent_workers,
            "prefetch_factor": args.dataloader_prefetch_factor,
            "multiprocessing_context": args.dataloader_multiprocessing_context,
            "in_order": args.dataloader_in_order,
        }
    if isinstance(dataset, Sized) and hasattr(dataset, "__getitem__"):
        places: Any = Places(len(dataset), size, strategy, seed, lengths=lengths, **parts)
        loader = DataLoader(Batches(dataset, collate, seed, rank), batch_size=None, sampler=places, **options)
    else:
        places = Stream(dataset, collate, size, seed, **parts)  # pyright: ignore[reportArgumentType]
        loader = DataLoader(places, batch_size=None, **options)
    loader.__dict__["places"] = places
    return loader


def numbered(loader: Any, seed: int, epoch: int, start: int) -> Iterator[tuple[int, Any]]:
    """(number, batch) for each batch of an epoch from `start` on; a loader of the user's own is read from its begin."""
    places = getattr(loader, "places", None)
    if places is not None:
        places.set_epoch(epoch, start)
        yield from zip(count(start), loader)
        return
    sampler = getattr(loader, "sampler", None)
    if hasattr(sampler, "set_epoch"):
        sampler.set_epoch(epoch)  # pyright: ignore
    with own_random_numbers(seed, epoch):
        batches = iter(loader)
    for number in count():
        with own_random_numbers(seed, epoch, number):
            batch = next(batches, STOP)
        if batch is STOP:
            return
        if number >= start:
            yield number, batch


STOP = object()


def is_idle(loader: Any, number: int) -> bool:
    """Whether this process has another's batch at a place, since rows ran out."""
    places = getattr(loader, "places", None)
    return isinstance(places, Places) and places.idle(number)


def length_of(loader: Any) -> int | None:
    """How many batches a loader has; None when nobody knows."""
    try:
        return len(loader)
    except (TypeError, NotImplementedError):
        return None


def plan(loader: Any, args: Any, rows: int | None) -> tuple[tuple[int, int] | None, int, int]:
    """((steps, batches) of an epoch, None when nobody knows; steps in all; epochs)."""
    batches = length_of(loader)
    if batches == 0:
        kept = " with dataloader_drop_last=True" if args.dataloader_drop_last and rows else ""
        raise ValueError(
            f"The training dataset has {rows} rows, which make no batch of {args.train_batch_size * args.world_size}"
            f"{kept}."
        )
    if batches is None:
        if args.max_steps < 0:
            raise ValueError("The training dataset has no length: say with max_steps how long to train.")
        return None, args.max_steps, args.max_steps
    steps = math.ceil(batches / args.gradient_accumulation_steps)
    if args.max_steps > 0:
        return (steps, batches), args.max_steps, math.ceil(args.max_steps / steps)
    return (steps, batches), math.ceil(args.num_train_epochs * steps), math.ceil(args.num_train_epochs)
