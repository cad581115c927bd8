"""Two processes on the CPU (gloo), started by torchrun: the same numbers as one."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from small import rows_for, trainer

from plainformers import BertForSequenceClassification, LlamaForCausalLM
from plainformers.training import checkpoints

KINDS = {"bert": BertForSequenceClassification, "llama": LlamaForCausalLM}
SGD = {"optim": "sgd", "learning_rate": 0.1, "lr_scheduler_type": "constant"}

SCRIPT = """
import sys, json, warnings
sys.path[:0] = [{tests!r}, {here!r}]
warnings.simplefilter("error")
warnings.filterwarnings("ignore", module="torch")
from pathlib import Path
import numpy as np
from small import losses, rows_for, trainer
from test_distributed import KINDS
settings = json.loads({settings!r})
kind = KINDS[settings.pop("kind")]
resume, rows = settings.pop("resume", None), settings.pop("rows", 24)
some = trainer(Path({folder!r}), kind, train_dataset=rows_for(kind, rows), eval_dataset=rows_for(kind, 7), **settings)
some.train(resume)
out = some.predict(rows_for(kind, 7))
if some.is_world_process_zero():
    some.save_model(str(Path({folder!r}, "end")))
    found = {{"losses": losses(some), "loss": out.metrics["test_loss"], "labels": out.label_ids.tolist(),
             "predictions": out.predictions.tolist(), "world": some.args.world_size}}
    Path({folder!r}, "found.json").write_text(json.dumps(found))
else:
    some.save_model(str(Path({folder!r}, "end")))
"""


def run(folder: Path, processes: int, **settings) -> dict:
    here = Path(__file__).parent
    script = folder / "script.py"
    folder.mkdir(exist_ok=True)
    script.write_text(
        SCRIPT.format(tests=str(here.parent), here=str(here), folder=str(folder), settings=json.dumps(settings))
    )
    starter = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(processes)]
    command = [sys.executable, *(starter if processes > 1 else []), str(script)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=200)
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads((folder / "found.json").read_text())


SLOW = pytest.mark.slow
FSDP = {"fsdp": "full_shard"}


@pytest.mark.parametrize(
    ("kind", "how"),
    [("bert", {}), ("llama", FSDP), pytest.param("bert", FSDP, marks=SLOW), pytest.param("llama", {}, marks=SLOW)],
    ids=["bert-ddp", "llama-fsdp2", "bert-fsdp2", "llama-ddp"],
)
def test_two_processes_are_one(kind, how, tmp_path):
    """Two batches of two rows in each of two processes: one of eight, in losses, weights and predictions."""
    settings = {"kind": kind, "num_train_epochs": 1, "rows": 26, **SGD}
    one = trainer(
        tmp_path / "one", KINDS[kind], per_device_train_batch_size=8, num_train_epochs=1,
        train_dataset=rows_for(KINDS[kind], 26), train_sampling_strategy="sequential", **SGD,
    )  # fmt: skip
    one.train()
    two = run(
        tmp_path / "two", 2, per_device_train_batch_size=2, gradient_accumulation_steps=2,
        train_sampling_strategy="sequential", **settings, **how,
    )  # fmt: skip
    assert two["world"] == 2
    expected = [entry["loss"] for entry in one.state.log_history if "loss" in entry]
    assert two["losses"] == pytest.approx(expected, rel=1e-6)
    weights = load_file(tmp_path / "two" / "end" / "model.safetensors")
    for name, tensor in weights.items():
        torch.testing.assert_close(tensor, one.model.state_dict()[name], atol=1e-6, rtol=1e-5)
    alone = one.predict(rows_for(KINDS[kind], 7))
    assert two["loss"] == pytest.approx(alone.metrics["test_loss"], rel=1e-5)
    assert two["labels"] == alone.label_ids.tolist()
    torch.testing.assert_close(torch.tensor(two["predictions"]), torch.tensor(alone.predictions), atol=1e-5, rtol=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("how", [{}, FSDP], ids=["ddp", "fsdp2"])
def test_a_checkpoint_of_two_processes_goes_on_with_one_and_with_two(how, tmp_path):
    settings = {
        "kind": "bert",
        "save_strategy": "steps",
        "save_steps": 2,
        "max_steps": 6,
        "optim": "adamw_torch",
        **how,
    }
    size = {"per_device_train_batch_size": 2}
    whole = run(tmp_path / "whole", 2, **settings, **size)
    start = str(tmp_path / "whole" / "checkpoint-2")
    assert checkpoints.damage(Path(start)) is None
    two = run(tmp_path / "again", 2, resume=start, **settings, **size)
    assert two["losses"] == pytest.approx(whole["losses"], rel=1e-6)
    one = run(tmp_path / "one", 1, resume=start, **settings, per_device_train_batch_size=4)
    assert one["losses"] == pytest.approx(whole["losses"], rel=1e-5)
