"""Checkpoints: a run that is resumed is the run that was interrupted, and no accident costs more than one of them."""

import errno
import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from small import STILL, history, make, rows_for, trainer, weights

from plainformers import AutoModelForSequenceClassification, BertForSequenceClassification, EarlyStoppingCallback
from plainformers.trainer_utils import get_last_checkpoint
from plainformers.training import checkpoints

KIND = BertForSequenceClassification
DROPOUT = dict.fromkeys(STILL, 0.1)
SAVES = {"save_strategy": "steps", "save_steps": 1, "logging_steps": 3, "num_train_epochs": 2}


def run(folder: Path, resume=None, until: int | None = None, **given):
    """A run with dropout; until: it is broken off after so many steps."""
    some = trainer(folder, model=make(KIND, **DROPOUT), **SAVES | given)
    if until is not None:
        step = some._step

        def broken(*args):
            if some.state.global_step == until:
                raise KeyboardInterrupt
            step(*args)

        some._step = broken
        with pytest.raises(KeyboardInterrupt):
            some.train(resume)
        some.writer.wait()
    else:
        some.train(resume)
    return some


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"gradient_accumulation_steps": 2, "train_sampling_strategy": "group_by_length"},
        {"optim": "adafactor", "lr_scheduler_type": "cosine", "data_seed": 7},
        {"eval_strategy": "steps", "eval_steps": 2, "metric_for_best_model": "loss", "load_best_model_at_end": True,
         "save_steps": 2},
    ],
)  # fmt: skip
def test_a_resumed_run_is_the_run_bit_by_bit(settings, tmp_path):
    """Weights, optimizer, schedule, order of the rows, dropout, log, best metric: after every step of a run."""
    more = {"eval_dataset": rows_for(KIND, 6, seed=3)} if "eval_strategy" in settings else {}
    whole = run(tmp_path / "whole", **settings, **more)
    for step in range(1, whole.state.global_step, 2):
        folder = tmp_path / f"broken-{step}"
        run(folder, until=step, **settings, **more)
        if not checkpoints.checkpoints_in(folder):
            continue
        torch.manual_seed(step)  # what else drew numbers in between
        resumed = run(folder, resume=True, **settings, **more)
        assert history(resumed) == history(whole)
        for name, tensor in weights(whole.model).items():
            assert torch.equal(tensor, resumed.model.state_dict()[name]), (step, name)
        last = [folder_of / f"checkpoint-{whole.state.global_step}" for folder_of in (folder, tmp_path / "whole")]
        for name in ("optimizer.safetensors", "model.safetensors"):
            assert (last[0] / name).read_bytes() == (last[1] / name).read_bytes(), (step, name)
        states = [json.loads((one / "training_state.json").read_text()) for one in last]
        assert states[0] == states[1]


SCRIPT = """
import sys
sys.path[:0] = [{tests!r}, {here!r}]
from pathlib import Path
from test_resuming import DROPOUT, KIND, SAVES
from small import make, trainer
from plainformers.training import checkpoints
folder = Path({folder!r})
some = trainer(folder, model=make(KIND, **DROPOUT), **SAVES | {{"num_train_epochs": 6}})
print("ready", flush=True)
some.train(bool(checkpoints.newest_whole(folder)))
"""


def killed(folder: Path, seconds: float | None) -> None:
    """A run in a process of its own that is killed so many seconds after it began; None: it ends."""
    here = Path(__file__).parent
    code = SCRIPT.format(tests=str(here.parent), here=str(here), folder=str(folder))
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert process.stdout is not None
    assert process.stdout.readline() == b"ready\n", process.stderr.read().decode()
    if seconds is not None:
        time.sleep(seconds)
        process.send_signal(signal.SIGKILL)
    _, errors = process.communicate(timeout=120)
    assert seconds is not None or process.returncode == 0, errors.decode()


@pytest.mark.parametrize("kills", [1, pytest.param(20, marks=pytest.mark.slow)])
def test_killed_at_random_moments_a_run_ends_as_if_nothing_had_been(kills, tmp_path):
    killed(tmp_path / "whole", None)
    draw = random.Random(kills)
    for _ in range(kills):
        killed(tmp_path / "broken", draw.uniform(0.02, 0.6))
        for path in checkpoints.checkpoints_in(tmp_path / "broken"):
            assert checkpoints.damage(path) is None
    killed(tmp_path / "broken", None)
    names = [path.name for path in checkpoints.checkpoints_in(tmp_path / "broken")]
    assert names == [path.name for path in checkpoints.checkpoints_in(tmp_path / "whole")]
    for name in ("model.safetensors", "optimizer.safetensors", "training_state.json"):
        one, other = (tmp_path / run / names[-1] / name for run in ("whole", "broken"))
        assert one.read_bytes() == other.read_bytes(), name


def test_a_checkpoint_is_a_model_folder_of_json_and_safetensors(tmp_path):
    some = run(tmp_path)
    path = Path(get_last_checkpoint(tmp_path))
    assert path.name == "checkpoint-12"
    assert {file.suffix for file in path.iterdir()} == {".json", ".safetensors"}
    model = AutoModelForSequenceClassification.from_pretrained(path)
    for name, tensor in weights(some.model).items():
        assert torch.equal(tensor, model.state_dict()[name])
    state = json.loads((path / "trainer_state.json").read_text())
    assert (state["global_step"], state["epoch"]) == (12, 2.0) and len(state["log_history"]) == 4


def test_what_is_damaged_is_passed_over_or_named(tmp_path):
    run(tmp_path, until=6)
    found = checkpoints.checkpoints_in(tmp_path)
    assert [path.name for path in found] == [f"checkpoint-{i}" for i in range(1, 7)]
    (found[5] / "model.safetensors").write_bytes((found[5] / "model.safetensors").read_bytes()[:-1])
    (found[4] / "trainer_state.json").write_text("{}" + " " * ((found[4] / "trainer_state.json").stat().st_size - 2))
    (found[3] / "optimizer.safetensors").unlink()
    (found[2] / "checkpoint.json").write_text("[")
    words = [
        "model.safetensors has",
        "trainer_state.json was changed",
        "optimizer.safetensors is missing",
        "cannot be read",
    ]
    for path, word in zip(reversed(found[2:]), words, strict=True):
        with pytest.raises(ValueError, match=rf"{path.name} cannot be resumed: .*{word}.*newest whole one there is"):
            run(tmp_path, resume=str(path))
    assert get_last_checkpoint(tmp_path) == str(found[1])
    (found[1] / "checkpoint.json").unlink()
    assert get_last_checkpoint(tmp_path) == str(found[0])
    with pytest.raises(ValueError, match="found no whole checkpoint in .*nothing .it has no checkpoint"):
        run(tmp_path / "nothing", resume=True)
    with pytest.raises(ValueError, match="is no folder"):
        run(tmp_path, resume=str(tmp_path / "nowhere"))


def test_another_model_or_dataset_is_refused(tmp_path):
    run(tmp_path, until=4)
    with pytest.raises(ValueError, match=r"holds the weights of another model: .*missing there|shape"):
        trainer(tmp_path, model=make(KIND, num_hidden_layers=2), **SAVES).train(True)
    with pytest.raises(ValueError, match="saved 4 batches into a dataset of 24 rows; this one has 20"):
        trainer(tmp_path, model=make(KIND), train_dataset=rows_for(KIND, 20), **SAVES).train(True)
    with pytest.raises(ValueError, match="optimizer has other parameters, or other groups"):
        model = make(KIND)
        model.bert.embeddings.requires_grad_(False)
        trainer(tmp_path, model=model, **SAVES).train(True)
    some = trainer(tmp_path, model=make(KIND), train_dataset=rows_for(KIND, 20), ignore_data_skip=True, **SAVES)
    some.train(True)
    assert some.state.global_step == 10


def test_batches_of_another_size_go_on_at_the_same_row(tmp_path, caplog):
    run(tmp_path, until=4)
    some = run(tmp_path, resume=True, per_device_train_batch_size=2)
    assert some.state.global_step == 4 + (24 - 16) // 2 + 12


def test_the_oldest_checkpoints_go_and_never_the_best(tmp_path):
    values = iter([0.5, 0.9, 0.4, 0.3, 0.2, 0.1])
    some = trainer(
        tmp_path, save_strategy="steps", save_steps=1, eval_strategy="steps", eval_steps=1, save_total_limit=2,
        max_steps=6, load_best_model_at_end=True, metric_for_best_model="score", eval_dataset=rows_for(KIND, 4),
        compute_metrics=lambda _: {"score": next(values)},
    )  # fmt: skip
    some.train()
    assert [path.name for path in checkpoints.checkpoints_in(tmp_path)] == [
        "checkpoint-2",
        "checkpoint-5",
        "checkpoint-6",
    ]
    assert some.state.best_model_checkpoint == str(tmp_path / "checkpoint-2")
    best = AutoModelForSequenceClassification.from_pretrained(tmp_path / "checkpoint-2")
    for name, tensor in weights(some.model).items():
        assert torch.equal(tensor, best.state_dict()[name])


def test_only_the_best_are_saved_when_asked(tmp_path):
    values = iter([0.5, 0.4, 0.9, 0.8])
    some = trainer(
        tmp_path, save_strategy="best", eval_strategy="steps", eval_steps=1, metric_for_best_model="score", max_steps=4,
        eval_dataset=rows_for(KIND, 4), compute_metrics=lambda _: {"score": next(values)},
    )  # fmt: skip
    some.train()
    assert [path.name for path in checkpoints.checkpoints_in(tmp_path)] == ["checkpoint-1", "checkpoint-3"]


def test_the_folder_of_another_run_is_set_aside(tmp_path, capsys):
    run(tmp_path)
    run(tmp_path, until=2)
    assert [path.name for path in checkpoints.checkpoints_in(tmp_path)] == ["checkpoint-1", "checkpoint-2"]
    assert len(checkpoints.checkpoints_in(tmp_path / "previous-run-1")) == 12
    assert "checkpoints of an earlier run. They were moved" in capsys.readouterr().err
    run(tmp_path, until=1, overwrite_output_dir=True)
    assert [path.name for path in checkpoints.checkpoints_in(tmp_path)] == ["checkpoint-1"]
    assert not (tmp_path / "previous-run-2").exists()


def test_a_full_disk_costs_nothing_that_was_there(tmp_path, monkeypatch):
    real, calls = checkpoints.save_file, []

    def full(tensors, path):
        calls.append(path)
        if len(calls) == 3:
            Path(path).write_bytes(b"half")
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return real(tensors, path)

    monkeypatch.setattr(checkpoints, "save_file", full)
    with pytest.raises(OSError, match="checkpoint of step 3 could not be written to .*No space left"):
        run(tmp_path)
    assert [path.name for path in checkpoints.checkpoints_in(tmp_path)] == ["checkpoint-1", "checkpoint-2"]
    assert not list(tmp_path.glob("tmp-*")) and get_last_checkpoint(tmp_path) == str(tmp_path / "checkpoint-2")


def test_what_a_killed_process_left_is_tidied(tmp_path):
    run(tmp_path, until=3)
    (tmp_path / "checkpoint-3").rename(tmp_path / "tmp-old-checkpoint-3")  # killed between two renames
    (tmp_path / "tmp-checkpoint-4").mkdir()
    (tmp_path / "tmp-gone-checkpoint-1").mkdir()
    run(tmp_path, resume=True)
    assert len(checkpoints.checkpoints_in(tmp_path)) == 12 and not list(tmp_path.glob("tmp-*"))


def test_sigterm_saves_and_ends(tmp_path):
    some = trainer(tmp_path, save_strategy="no", enable_jit_checkpoint=True)
    step = some._step

    def struck(*args):
        step(*args)
        if some.state.global_step == 2:
            os.kill(os.getpid(), signal.SIGTERM)

    before = signal.getsignal(signal.SIGTERM)
    some._step = struck
    some.train()
    assert some.state.global_step == 2 and get_last_checkpoint(tmp_path) == str(tmp_path / "checkpoint-2")
    assert signal.getsignal(signal.SIGTERM) == before


def test_weights_alone_are_saved_when_asked(tmp_path):
    run(tmp_path, save_only_model=True, max_steps=2)
    assert not (tmp_path / "checkpoint-2" / "optimizer.safetensors").exists()
    with pytest.raises(ValueError, match="save_only_model=True: load its weights"):
        run(tmp_path, resume=True)


def test_callbacks_go_on_where_they_were(tmp_path):
    settings = {"eval_strategy": "steps", "eval_steps": 1, "metric_for_best_model": "score"}
    values = iter([0.9, 0.5, 0.4, 0.3])
    more = {"eval_dataset": rows_for(KIND, 4), "compute_metrics": lambda _: {"score": next(values)}}
    run(tmp_path, until=2, callbacks=[EarlyStoppingCallback(3)], **settings, **more)
    some = run(tmp_path, resume=True, callbacks=[EarlyStoppingCallback(3)], **settings, **more)
    assert some.state.global_step == 4
