"""Checkpoints: everything that a run needs to go on exactly where it was, as JSON and safetensors, written atomically.

A checkpoint is written beside (`tmp-checkpoint-N`), with a manifest of its files, and renamed when it is whole: killed
at any moment, a run leaves the older ones and perhaps this one, never half of it.
"""

import base64
import json
import os
import random
import re
import shutil
import threading
import zlib
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from .. import logging
from . import distributed

MANIFEST, STATE, SETTINGS, OPTIMIZER = "checkpoint.json", "trainer_state.json", "training_args.json", "optimizer"
NAME = re.compile(r"checkpoint-(\d+)")
WRITING, LEAVING, REPLACED = "tmp-", "tmp-gone-", "tmp-old-"


# ---- Finding


def step_of(path: str | os.PathLike[str]) -> int:
    found = NAME.fullmatch(Path(path).name)
    return int(found[1]) if found else -1


def checkpoints_in(folder: str | os.PathLike[str]) -> list[Path]:
    """The checkpoints of a folder, the oldest first, whole or not."""
    folder = Path(folder)
    found = folder.iterdir() if folder.is_dir() else ()
    return sorted((path for path in found if NAME.fullmatch(path.name) and path.is_dir()), key=step_of)


def checksum(path: Path) -> int:
    value = 0
    with path.open("rb") as file:
        while part := file.read(1 << 22):
            value = zlib.crc32(part, value)
    return value


def damage(path: Path) -> str | None:
    """What is wrong with a checkpoint; None when it is whole."""
    try:
        files = json.loads((path / MANIFEST).read_text(encoding="utf-8"))["files"]
        for name, (size, check) in files.items():
            found = path / name
            if not found.is_file():
                return f"{name} is missing"
            if found.stat().st_size != size:
                return f"{name} has {found.stat().st_size:,} bytes in place of {size:,}"
            if checksum(found) != check:
                return f"{name} was changed after it was written"
    except FileNotFoundError:
        return f"it has no {MANIFEST}, so it was not written by this Trainer"
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        return f"its {MANIFEST} cannot be read ({error})"
    return None


def newest_whole(folder: str | os.PathLike[str]) -> Path | None:
    """The newest checkpoint that is whole; damaged ones are named in a warning."""
    put_back(Path(folder))
    for path in reversed(checkpoints_in(folder)):
        wrong = damage(path)
        if wrong is None:
            return path
        logging.get_logger().warning(f"{path} is passed over: {wrong}.")
    return None


def get_last_checkpoint(folder: str | os.PathLike[str]) -> str | None:
    """The path of the newest whole checkpoint in a folder, or None."""
    path = newest_whole(folder)
    return None if path is None else str(path)


def find(given: str | os.PathLike[str] | bool, output_dir: str) -> Path:
    """The checkpoint to resume from: the one given, or (True) the newest whole one of output_dir.

    Raises ValueError that says what is wrong with it.
    """
    if given is True:
        path = newest_whole(output_dir)
        if path is None:
            has = ", ".join(p.name for p in checkpoints_in(output_dir)) or "no checkpoint"
            raise ValueError(f"resume_from_checkpoint=True found no whole checkpoint in {output_dir} (it has {has}).")
        return path
    path = Path(given)  # pyright: ignore[reportArgumentType]
    if not path.is_dir():
        raise ValueError(f"resume_from_checkpoint={str(path)!r} is no folder.")
    wrong = damage(path)
    if wrong is not None:
        whole = newest_whole(path.parent)
        hint = f" The newest whole one there is {whole.name}." if whole else ""
        raise ValueError(f"The checkpoint {path} cannot be resumed: {wrong}.{hint}")
    return path


# ---- Writing


@dataclass
class Snapshot:
    """A copy of all that a checkpoint holds, so that training can go on while it is written."""

    step: int
    write_model: Callable[[Path], None]
    tensors: dict[str, dict[str, Tensor]] = field(default_factory=dict)  # file -> its tensors
    texts: dict[str, str] = field(default_factory=dict)  # file -> its text


def sync(path: Path) -> None:
    number = os.open(path, os.O_RDONLY)
    try:
        os.fsync(number)
    finally:
        os.close(number)


def write(snapshot: Snapshot, folder: Path) -> Path:
    """Writes the checkpoint into a folder and returns its path. Raises OSError with nothing changed when that fails."""
    path = folder / f"checkpoint-{snapshot.step}"
    beside = folder / f"{WRITING}{path.name}"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        shutil.rmtree(beside, ignore_errors=True)
        beside.mkdir()
        snapshot.write_model(beside)
        for name, tensors in snapshot.tensors.items():
            save_file(tensors, beside / name)
        for name, text in snapshot.texts.items():
            (beside / name).write_text(text, encoding="utf-8")
        files = [p for p in beside.rglob("*") if p.is_file()]
        manifest = {str(p.relative_to(beside)): (p.stat().st_size, checksum(p)) for p in sorted(files)}
        (beside / MANIFEST).write_text(json.dumps({"step": snapshot.step, "files": manifest}, indent=1))
        for p in (*files, beside / MANIFEST, beside):
            sync(p)
    except BaseException as error:
        shutil.rmtree(beside, ignore_errors=True)
        if isinstance(error, (OSError, SafetensorError)):
            raise OSError(
                f"The checkpoint of step {snapshot.step} could not be written to {folder} ({error}); what was there "
                "before is unchanged."
            ) from error
        raise
    old = folder / f"{REPLACED}{path.name}"
    if path.exists():  # of the same step, before this run was resumed
        shutil.rmtree(old, ignore_errors=True)
        path.rename(old)
    beside.rename(path)
    sync(folder)
    shutil.rmtree(old, ignore_errors=True)
    return path


def put_back(folder: Path) -> None:
    """Finishes what a killed process left: a checkpoint that was about to be replaced is one again."""
    for old in folder.glob(f"{REPLACED}checkpoint-*"):
        name = old.name.removeprefix(REPLACED)
        if (folder / name).exists():
            shutil.rmtree(old, ignore_errors=True)
        else:
            old.rename(folder / name)


def tidy(folder: Path) -> None:
    """Removes what killed processes left half written or half deleted."""
    put_back(folder)
    for path in (*folder.glob(f"{WRITING}checkpoint-*"), *folder.glob(f"{LEAVING}checkpoint-*")):
        shutil.rmtree(path, ignore_errors=True)


def delete(path: Path) -> None:
    """Deletes a checkpoint; at no moment is half of one there under its name."""
    gone = path.with_name(f"{LEAVING}{path.name}")
    shutil.rmtree(gone, ignore_errors=True)
    path.rename(gone)
    shutil.rmtree(gone, ignore_errors=True)


def rotate(folder: Path, most: int | None, best: str | None) -> None:
    """Deletes the oldest checkpoints beyond `most`; never the best, and never the newest, which is whole."""
    found = checkpoints_in(folder)
    if most is None or len(found) <= most:
        return
    kept = {found[-1].name, Path(best).name if best else ""}
    for path in found[: len(found) - most]:
        if path.name not in kept:
            delete(path)


def set_aside(folder: Path, overwrite: bool) -> None:
    """Makes room for a new run: checkpoints of an earlier one move into a folder of their own, or are deleted."""
    found = checkpoints_in(folder)
    if not found:
        return
    if overwrite:
        for path in found:
            delete(path)
        return
    number = 1
    while (aside := folder / f"previous-run-{number}").exists():
        number += 1
    aside.mkdir()
    for path in found:
        path.rename(aside / path.name)
    logging.get_logger().warning(
        f"{folder} holds the checkpoints of an earlier run. They were moved to {aside}; resume_from_checkpoint=True "
        "would have gone on with it, overwrite_output_dir=True deletes them."
    )


class Writer:
    """Writes checkpoints in the background, one at a time."""

    def __init__(self) -> None:
        self.thread: threading.Thread | None = None
        self.error: BaseException | None = None

    def start(self, work: Callable[[], Any]) -> None:
        self.wait()

        def run() -> None:
            try:
                work()
            except BaseException as error:
                self.error = error

        # not a daemon: a program that ends waits for its last checkpoint
        self.thread = threading.Thread(target=run, name="checkpoint")
        self.thread.start()

    def check(self) -> None:
        """Raises what went wrong in the background."""
        if self.error is not None:
            error, self.error = self.error, None
            raise error

    def wait(self) -> None:
        if self.thread is not None:
            self.thread.join()
            self.thread = None
        self.check()


# ---- States as JSON and tensors


def optimizer_state(optimizer: Any, names: dict[Any, str]) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """(copies of its tensors by "parameter.key" on the CPU, everything else as JSON knows it)."""
    tensors: dict[str, Tensor] = {}
    values: dict[str, Any] = {}
    for parameter, state in optimizer.state.items():
        for key, value in state.items():
            name = f"{names[parameter]}.{key}"
            if isinstance(value, Tensor):
                tensors[name] = distributed.whole(value.detach()).to("cpu", copy=True)
            else:
                values[name] = value
    groups = [
        {key: value for key, value in group.items() if key != "params"}
        | {"params": [names[parameter] for parameter in group["params"]]}
        for group in optimizer.param_groups
    ]
    return tensors, {"values": values, "groups": groups}


def restore_optimizer(optimizer: Any, names: dict[Any, str], tensors: dict[str, Tensor], saved: dict[str, Any]) -> None:
    """The inverse of optimizer_state. Raises ValueError when the parameters are others."""
    current = [[names[parameter] for parameter in group["params"]] for group in optimizer.param_groups]
    if current != [group["params"] for group in saved["groups"]]:
        before = {name for group in saved["groups"] for name in group["params"]}
        now = {name for group in current for name in group}
        odd = sorted(before ^ now)[:5]
        raise ValueError(
            "The checkpoint's optimizer has other parameters, or other groups of them, than this run's"
            f"{f': {odd}' if odd else ''}. Train the same model with the same settings, or start anew from its weights."
        )
    order = [name for group in current for name in group]
    state: dict[int, dict[str, Any]] = {}
    number = {name: i for i, name in enumerate(order)}
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    for full, value in (*tensors.items(), *saved["values"].items()):
        name, _, key = full.rpartition(".")
        part = distributed.like(value, parameters[number[name]]) if isinstance(value, Tensor) else value
        state.setdefault(number[name], {})[key] = part
    start, groups = 0, []
    for group in saved["groups"]:
        count = len(group["params"])
        plain = {key: tuple(value) if isinstance(value, list) else value for key, value in group.items()}
        groups.append(plain | {"params": list(range(start, start + count))})
        start += count
    optimizer.load_state_dict({"state": state, "param_groups": groups})


def random_state(device: torch.device) -> dict[str, Any]:
    """The states of all generators that a training step may draw from."""
    kind, keys, *rest = tuple(np.random.get_state())
    state: dict[str, Any] = {
        "python": random.getstate(),
        "numpy": [kind, np.asarray(keys).tolist(), *rest],
        "torch": as_text(torch.get_rng_state()),
    }
    if device.type == "cuda":
        state["cuda"] = as_text(torch.cuda.get_rng_state(device))
    return state


def restore_random_state(state: dict[str, Any], device: torch.device) -> None:
    version, internal, gauss = state["python"]
    random.setstate((version, tuple(internal), gauss))
    kind, keys, *rest = state["numpy"]
    np.random.set_state((kind, np.array(keys, dtype=np.uint32), *rest))
    torch.set_rng_state(as_tensor(state["torch"]))
    if "cuda" in state and device.type == "cuda":
        torch.cuda.set_rng_state(as_tensor(state["cuda"]), device)


def as_text(state: Tensor) -> str:
    return base64.b64encode(state.numpy().tobytes()).decode("ascii")


def as_tensor(text: str) -> Tensor:
    return torch.tensor(list(base64.b64decode(text)), dtype=torch.uint8)


def read(path: Path, name: str) -> Any:
    return json.loads((path / name).read_text(encoding="utf-8"))


def read_tensors(path: Path, name: str) -> dict[str, Tensor]:
    return load_file(path / name) if (path / name).exists() else {}
