"""Which rows make which batch: a function of seed, epoch and number; and what is drawn within a batch, too."""

import random
from collections import Counter

import numpy as np
import pytest
import torch
from small import collate, losses, rows_for, trainer
from torch.utils.data import DataLoader, Dataset, IterableDataset

from plainformers import BertForSequenceClassification, Trainer, TrainingArguments
from plainformers.training.loader import Places, make_loader, numbered, order_of, own_random_numbers

KIND = BertForSequenceClassification


def args(**given):
    return TrainingArguments("out", use_cpu=True, **given)


def all_of(places, epoch=0, start=0):
    places.set_epoch(epoch, start)
    return [place.rows for place in places]


@pytest.mark.parametrize("strategy", ["random", "sequential", "group_by_length"])
def test_every_row_comes_once_in_an_epoch(strategy):
    lengths = [random.Random(i).randrange(1, 99) for i in range(103)]
    for world in (1, 2, 3):
        every: Counter = Counter()
        for rank in range(world):
            places = Places(103, 4, strategy, 7, lengths=lengths, rank=rank, world=world)
            batches = all_of(places, 1)
            assert len(batches) == len(places) == -(-103 // (4 * world))
            for number, rows in enumerate(batches):
                if not places.idle(number):
                    every.update(rows)
                assert rows
            assert all_of(places, 1, start=5) == batches[5:]
        assert every == Counter(range(103))
    if strategy != "sequential":
        places = Places(103, 4, strategy, 7, lengths=lengths)
        assert all_of(places, 0) != all_of(places, 1) and all_of(places, 0) == all_of(places, 0)


def test_rows_of_like_length_come_together():
    lengths = [random.Random(i).randrange(1, 500) for i in range(1000)]
    order = order_of(1000, 10, "group_by_length", 0, 0, lengths)
    batches = [[lengths[i] for i in order[k : k + 10]] for k in range(0, 1000, 10)]
    padded = sum(10 * max(batch) for batch in batches)
    assert padded < 1.08 * sum(lengths) and max(batches[0]) == max(lengths)


class Drawn(Dataset):
    """Rows in which random numbers of all three kinds are drawn."""

    def __len__(self):
        return 10

    def __getitem__(self, i):
        return [float(i), torch.rand(()).item(), random.random(), np.random.rand()]


def test_what_is_drawn_within_a_batch_depends_on_its_place_alone():
    found = []
    for workers in (0, 2):
        loader = make_loader(Drawn(), torch.tensor, 2, args(dataloader_num_workers=workers), strategy="random", seed=3)
        torch.manual_seed(workers)
        found.append([batch for _, batch in numbered(loader, 3, 1, 0)])
        random.random()
        assert torch.equal(next(iter(numbered(loader, 3, 1, 2)))[1], found[-1][2])
    assert torch.equal(torch.stack(found[0]), torch.stack(found[1]))
    before = torch.get_rng_state()
    with own_random_numbers(1, 2):
        torch.rand(3), random.random(), np.random.rand()
    assert torch.equal(before, torch.get_rng_state())


class Stream(IterableDataset):
    def __init__(self, rows):
        self.rows = rows

    def __iter__(self):
        return iter(self.rows)


def test_a_stream_trains_like_a_list(tmp_path):
    rows = rows_for(KIND)
    listed = trainer(tmp_path, train_sampling_strategy="sequential", num_train_epochs=2)
    listed.train()
    for workers in (0, 2):
        streamed = trainer(tmp_path, train_dataset=Stream(rows), max_steps=12, dataloader_num_workers=workers)
        streamed.train()
        assert losses(streamed) == losses(listed)


def test_a_loader_of_ones_own_is_used(tmp_path):
    class Mine(Trainer):
        def get_train_dataloader(self):
            return DataLoader(self.train_dataset, batch_size=6, shuffle=True, collate_fn=collate)

    whole = trainer(tmp_path, by=Mine, save_strategy="steps", save_steps=1, num_train_epochs=2)
    whole.train()
    assert whole.state.global_step == 8
    again = trainer(tmp_path, by=Mine, num_train_epochs=2)
    again.train(str(tmp_path / "checkpoint-3"))
    assert losses(again) == losses(whole)


def test_lengths_are_taken_from_a_column_or_counted(tmp_path):
    rows = rows_for(KIND)
    counted = trainer(tmp_path, train_sampling_strategy="group_by_length", max_steps=2)
    counted.train()
    named = [{**row, "size": len(row["input_ids"])} for row in rows]
    told = trainer(
        tmp_path, train_dataset=named, train_sampling_strategy="group_by_length", length_column_name="size", max_steps=2
    )
    told.train()
    assert losses(counted) == losses(told)
    with pytest.raises(ValueError, match="group_by_length needs rows with 'input_ids' or a length column 'length'"):
        trainer(tmp_path, train_dataset=[{"text": "a"}], train_sampling_strategy="group_by_length").train()
