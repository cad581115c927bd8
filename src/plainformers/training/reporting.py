"""Callbacks that hand what is logged to a file or to another program; `report_to` names them."""

import json
from importlib import metadata
from pathlib import Path
from typing import Any

from ..aliases import did_you_mean
from .callbacks import TrainerCallback, TrainerControl, TrainerState


def numbers(logs: dict[str, Any]) -> dict[str, float]:
    """The numbers of what is logged, in the groups that dashboards show: train/, eval/, test/."""
    named = {}
    for key, value in logs.items():
        group, _, rest = key.partition("_")
        name = f"{group}/{rest}" if group in ("eval", "test") and rest else f"train/{key}"
        if isinstance(value, (int, float)):
            named[name] = value
    return named


class JsonLinesCallback(TrainerCallback):
    """Appends what is logged to `logs.jsonl` in output_dir, an object a line."""

    def __init__(self, path: str | Path | None = None):
        self.path = path

    def on_log(self, args: Any, state: TrainerState, control: TrainerControl, logs: Any = None, **kwargs: Any) -> None:
        if state.is_world_process_zero:
            path = Path(self.path or Path(args.output_dir) / "logs.jsonl")
            path.parent.mkdir(parents=True, exist_ok=True)
            with path.open("a", encoding="utf-8") as file:
                file.write(json.dumps({"step": state.global_step, **(logs or {})}) + "\n")


class TensorBoardCallback(TrainerCallback):
    """Writes what is logged for TensorBoard; tb_writer: a SummaryWriter of your own."""

    def __init__(self, tb_writer: Any = None):
        self.writer = tb_writer

    def on_train_begin(self, args: Any, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        if not state.is_world_process_zero:
            return
        if self.writer is None:
            try:
                from torch.utils.tensorboard import SummaryWriter
            except ImportError as error:
                raise ImportError("report_to='tensorboard' needs the package: pip install tensorboard") from error
            self.writer = SummaryWriter(log_dir=args.logging_dir or str(Path(args.output_dir) / "runs"))
        self.writer.add_text("args", args.to_json_string())

    def on_log(self, args: Any, state: TrainerState, control: TrainerControl, logs: Any = None, **kwargs: Any) -> None:
        if self.writer is not None:
            for name, value in numbers(logs or {}).items():
                self.writer.add_scalar(name, value, state.global_step)
            self.writer.flush()

    def on_train_end(self, args: Any, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        if self.writer is not None:
            self.writer.close()
        self.writer = None


class WandbCallback(TrainerCallback):
    """Hands what is logged to Weights & Biases, in a run of the name run_name."""

    def on_train_begin(self, args: Any, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        import wandb  # pyright: ignore[reportMissingImports]

        if state.is_world_process_zero and wandb.run is None:
            wandb.init(project=args.project, name=args.run_name, config=args.to_sanitized_dict())

    def on_log(self, args: Any, state: TrainerState, control: TrainerControl, logs: Any = None, **kwargs: Any) -> None:
        import wandb  # pyright: ignore[reportMissingImports]

        if state.is_world_process_zero and wandb.run is not None:
            wandb.log({**numbers(logs or {}), "train/global_step": state.global_step})


class MLflowCallback(TrainerCallback):
    """Hands arguments and what is logged to MLflow; where to, its own settings say."""

    def __init__(self) -> None:
        self.began = False

    def on_train_begin(self, args: Any, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        import mlflow  # pyright: ignore[reportMissingImports]

        if state.is_world_process_zero:
            if mlflow.active_run() is None:
                mlflow.start_run(run_name=args.run_name)
                self.began = True
            values = [(k, str(v)[:500]) for k, v in args.to_sanitized_dict().items()]
            for i in range(0, len(values), 100):  # as many as it takes at once
                mlflow.log_params(dict(values[i : i + 100]))

    def on_log(self, args: Any, state: TrainerState, control: TrainerControl, logs: Any = None, **kwargs: Any) -> None:
        import mlflow  # pyright: ignore[reportMissingImports]

        if state.is_world_process_zero:
            mlflow.log_metrics(numbers(logs or {}), step=state.global_step)

    def on_train_end(self, args: Any, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        if self.began:
            import mlflow  # pyright: ignore[reportMissingImports]

            mlflow.end_run()
            self.began = False


REPORTERS: dict[str, tuple[type[TrainerCallback], str | None]] = {  # name -> (callback, the package that it needs)
    "jsonl": (JsonLinesCallback, None),
    "tensorboard": (TensorBoardCallback, "tensorboard"),
    "wandb": (WandbCallback, "wandb"),
    "mlflow": (MLflowCallback, "mlflow"),
}


def is_installed(package: str) -> bool:
    try:
        return bool(metadata.version(package))
    except metadata.PackageNotFoundError:
        return False


def reporters(names: list[str]) -> list[TrainerCallback]:
    """The callbacks that report_to names; "all": those whose packages are installed."""
    found = []
    for name in names:
        if name == "all":
            found += [kind() for kind, package in REPORTERS.values() if package and is_installed(package)]
        elif name != "none":
            if name not in REPORTERS:
                allowed = [*REPORTERS, "all", "none"]
                raise ValueError(
                    f"report_to names {name!r}.{did_you_mean(name, allowed)} Allowed: {', '.join(allowed)}; for others "
                    "write a TrainerCallback with on_log."
                )
            kind, package = REPORTERS[name]
            if package and not is_installed(package):
                raise ImportError(f"report_to={name!r} needs the package: pip install {package}")
            found.append(kind())
    return found


def print_metrics(split: str, metrics: dict[str, Any]) -> None:
    print(f"***** {split} metrics *****")
    width = max(map(len, metrics), default=0)
    for name in sorted(metrics):
        value = metrics[name]
        print(f"  {name:<{width}} = {f'{value:.4f}' if isinstance(value, float) else value:>12}")


def write_metrics(folder: Path, split: str, metrics: dict[str, Any], combined: bool) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    everything = folder / "all_results.json"
    known = json.loads(everything.read_text(encoding="utf-8")) if combined and everything.exists() else {}
    files = {f"{split}_results.json": metrics} | ({everything.name: known | metrics} if combined else {})
    for name, values in files.items():
        (folder / name).write_text(json.dumps(values, indent=4, sort_keys=True) + "\n", encoding="utf-8")
