"""A Trainer's whole state: copied for a checkpoint, and taken up again."""

import json
from pathlib import Path
from typing import Any

from safetensors.torch import save_file
from torch import Tensor, nn

from .. import logging, lora
from ..checkpoint import find_weights
from ..model import Model
from . import checkpoints, distributed
from .callbacks import TrainerState

# settings that decide which rows make which batch: a run goes on with those that it began with
BATCHES = ("per_device_train_batch_size", "gradient_accumulation_steps", "train_sampling_strategy", "seed", "data_seed")


def parameter_names(model: nn.Module, optimizer: Any) -> dict[Any, str]:
    """parameter -> its name in the model; those of the optimizer alone are numbered."""
    names: dict[Any, str] = {}
    for name, parameter in nn.Module.named_parameters(model):
        names[parameter] = name
    for i, parameter in enumerate(p for group in optimizer.param_groups for p in group["params"]):
        names.setdefault(parameter, f"parameter-{i}")
    return names


def take(trainer: Any) -> checkpoints.Snapshot:
    """A copy of everything; called by all processes, used by the first."""
    args, state = trainer.args, trainer.state
    model, processing = trainer.model, trainer.processing_class
    weights = distributed.whole_state(model, copy=True)
    snapshot = checkpoints.Snapshot(state.global_step, lambda folder: write_model(model, processing, weights, folder))
    state.stateful_callbacks = trainer.callbacks.states()
    texts = {checkpoints.STATE: state.to_json_string(), checkpoints.SETTINGS: args.to_json_string() + "\n"}
    if not args.save_only_model:
        names = parameter_names(model, trainer.optimizer)
        tensors, values = checkpoints.optimizer_state(trainer.optimizer, names)
        snapshot.tensors[f"{checkpoints.OPTIMIZER}.safetensors"] = tensors
        schedule = {k: v for k, v in trainer.lr_scheduler.state_dict().items() if k != "lr_lambdas"}
        rest = {
            "optimizer": values,
            "scheduler": schedule,
            "scaler": trainer.scaler.state_dict(),
            "random": distributed.gathered(checkpoints.random_state(args.device)),
            "position": {
                "epoch": trainer._place[0],
                "batch": trainer._place[1],
                "rows": rows_of(trainer),
                "processes": args.world_size,
            },
            "loss": {
                "window": float(trainer._window_loss),
                "steps": trainer._window_steps,
                "total": trainer._total_loss,
            },
        }
        texts["training_state.json"] = as_json(rest)
    snapshot.texts = texts
    return snapshot


def as_json(values: dict[str, Any]) -> str:
    try:
        return json.dumps(values)
    except TypeError as error:
        raise TypeError(
            f"The state of the optimizer or of the schedule holds what JSON does not know ({error}). A class of your "
            "own must return numbers, texts and lists; save_only_model=True saves the weights alone."
        ) from error


def rows_of(trainer: Any) -> int | None:
    return len(trainer.train_dataset) if hasattr(trainer.train_dataset, "__len__") else None


def write_model(model: nn.Module, processing: Any, weights: dict[str, Tensor], folder: Path) -> None:
    """A folder that from_pretrained reads."""
    if isinstance(model, Model):  # with an adapter, weights are the adapter's
        model.save_pretrained(folder, state_dict=weights)
    else:
        save_file({n: t.contiguous() for n, t in weights.items()}, folder / "model.safetensors", {"format": "pt"})
    if hasattr(processing, "save_pretrained"):
        processing.save_pretrained(folder)


def load_weights(model: nn.Module, folder: Path) -> None:
    """The weights of a folder into a model that is there. Raises ValueError when they are another model's."""
    if getattr(model, "adapters", None):
        lora.fill_adapter(model, lora.read_adapter(folder)[1], lora.active_adapters(model)[0], folder)
        return
    weights: dict[str, Tensor] = {}
    for shard in find_weights(str(folder), None, True, {}):
        weights |= {name: shard.read(name) for name in shard.shapes}
    distributed.load_whole_state(model, weights, str(folder))


def restore(trainer: Any, path: Path, loader: Any) -> tuple[int, int]:
    """Takes everything up; returns the epoch and the batch in it that come next."""
    args = trainer.args
    load_weights(trainer.model, path)
    trainer.state = TrainerState.from_dict(checkpoints.read(path, checkpoints.STATE))
    trainer.state.is_world_process_zero = args.process_index == 0
    trainer.state.is_local_process_zero = args.local_process_index == 0
    if not (path / "training_state.json").exists():
        raise ValueError(
            f"{path} was saved with save_only_model=True: load its weights with from_pretrained and begin anew."
        )
    rest = checkpoints.read(path, "training_state.json")
    names = parameter_names(trainer.model, trainer.optimizer)
    tensors = checkpoints.read_tensors(path, f"{checkpoints.OPTIMIZER}.safetensors")
    checkpoints.restore_optimizer(trainer.optimizer, names, tensors, rest["optimizer"])
    functions = {k: v for k, v in trainer.lr_scheduler.state_dict().items() if k == "lr_lambdas"}
    trainer.lr_scheduler.load_state_dict(rest["scheduler"] | functions)
    if args.fp16:
        trainer.scaler.load_state_dict(rest["scaler"])
    trainer.callbacks.restore(trainer.state.stateful_callbacks)
    trainer._window_loss.fill_(rest["loss"]["window"])
    trainer._window_steps, trainer._total_loss = rest["loss"]["steps"], rest["loss"]["total"]
    states = rest["random"]
    if args.process_index < len(states):
        checkpoints.restore_random_state(states[args.process_index], args.device)
    return position(trainer, path, rest["position"])


def position(trainer: Any, path: Path, saved: dict[str, Any]) -> tuple[int, int]:
    """(epoch, batch) to go on with; batches of another size than before are counted in rows."""
    args, before = trainer.args, checkpoints.read(path, checkpoints.SETTINGS)
    epoch, batch = saved["epoch"], saved["batch"]
    if args.ignore_data_skip:
        return epoch, 0
    if saved["rows"] is not None and rows_of(trainer) not in (None, saved["rows"]):
        raise ValueError(
            f"{path} was saved {batch} batches into a dataset of {saved['rows']} rows; this one has "
            f"{rows_of(trainer)}. Give the same dataset, or ignore_data_skip=True to begin the epoch anew."
        )
    changed = [
        f"{k} ({before[k]} -> {getattr(args, k)})" for k in BATCHES if k in before and before[k] != getattr(args, k)
    ]
    if changed:
        logging.get_logger().warning(f"{path} is resumed with other settings: {', '.join(changed)}.")
    size = args.per_device_train_batch_size * args.world_size
    before_size = before["per_device_train_batch_size"] * saved["processes"]
    if size == before_size:
        return epoch, batch
    batch = -(-batch * before_size // size)
    return epoch, batch - batch % args.gradient_accumulation_steps
