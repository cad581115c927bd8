"""What a Trainer tells while it runs, and what it lets itself be told: state, control, callbacks and their events."""

import json
import math
import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

from .. import logging
from ..aliases import did_you_mean
from .arguments import TrainingArguments, as_steps

# where a callback is called, in the order of a run
EVENTS = (
    *("on_init_end", "on_train_begin", "on_epoch_begin", "on_step_begin", "on_substep_end", "on_pre_optimizer_step"),
    *("on_optimizer_step", "on_step_end", "on_log", "on_evaluate", "on_prediction_step", "on_predict", "on_save"),
    *("on_push_begin", "on_epoch_end", "on_train_end"),
)


@dataclass
class TrainerState:
    """How far a run is. It is what trainer_state.json of a checkpoint holds."""

    epoch: float = 0.0
    global_step: int = 0
    max_steps: int = 0
    logging_steps: int = 500
    eval_steps: int = 500
    save_steps: int = 500
    train_batch_size: int | None = None
    num_train_epochs: int = 0
    num_input_tokens_seen: int = 0
    total_flos: float = 0
    log_history: list[dict[str, Any]] = field(default_factory=list)
    best_metric: float | None = None
    best_global_step: int | None = None
    best_model_checkpoint: str | None = None
    is_local_process_zero: bool = True
    is_world_process_zero: bool = True
    is_hyper_param_search: bool = False
    trial_name: str | None = None
    trial_params: dict[str, Any] | None = None
    stateful_callbacks: dict[str, Any] = field(default_factory=dict)

    def to_json_string(self) -> str:
        return json.dumps(asdict(self), indent=2, sort_keys=True) + "\n"

    def save_to_json(self, json_path: str | os.PathLike[str]) -> None:
        Path(json_path).write_text(self.to_json_string(), encoding="utf-8")

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> "TrainerState":
        """Of a file's values; keys that are none of ours are left out."""
        return cls(**{f.name: values[f.name] for f in fields(cls) if f.name in values})

    @classmethod
    def load_from_json(cls, json_path: str | os.PathLike[str]) -> "TrainerState":
        return cls.from_dict(json.loads(Path(json_path).read_text(encoding="utf-8")))


@dataclass
class TrainerControl:
    """What the Trainer does next; a callback sets it. The last three are set back once they are done."""

    should_training_stop: bool = False
    should_epoch_stop: bool = False
    should_save: bool = False
    should_evaluate: bool = False
    should_log: bool = False


class TrainerCallback:
    """Base of callbacks: override what you need.

    Each event gets (args, state, control) and, by name, model, processing_class, optimizer, lr_scheduler,
    train_dataloader and eval_dataloader, on_log also logs, on_evaluate and on_predict also metrics. It changes control
    in place, or returns another one. A callback with `state_dict` and `load_state_dict` is saved with each checkpoint
    and goes on where it was (values of JSON).
    """

    def on_init_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> Any:
        """The Trainer was made."""

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> Any:
        """Everything is set up, a checkpoint was read."""

    def on_train_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> Any:
        """Training ended."""

    def on_epoch_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> Any:
        """An epoch begins."""

    def on_epoch_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> Any:
        """An epoch ended."""

    def on_step_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> Any:
        """An optimizer step begins, of gradient_accumulation_steps batches."""

    def on_substep_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> Any:
        """A batch is done that is not the last one of its step."""

    def on_pre_optimizer_step(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> Any:
        """Gradients are whole and clipped, weights are not changed yet."""

    def on_optimizer_step(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> Any:
        """Weights were changed, gradients are still there."""

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> Any:
        """An optimizer step is done."""

    def on_evaluate(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> Any:
        """An evaluation is done."""

    def on_predict(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> Any:
        """A prediction is done."""

    def on_save(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> Any:
        """A checkpoint was taken; it may still be on its way to the disk."""

    def on_log(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> Any:
        """Something was logged."""

    def on_prediction_step(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> Any:
        """A batch of an evaluation is done."""

    def on_push_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> Any:
        """An upload begins."""


class Callbacks:
    """The callbacks of a Trainer, called in the order in which they were added."""

    def __init__(self, given: list[Any]):
        self.list: list[TrainerCallback] = []
        for callback in given:
            self.add(callback)

    def add(self, callback: Any) -> None:
        made = callback() if isinstance(callback, type) else callback
        if not isinstance(made, TrainerCallback):
            raise TypeError(f"A callback must be a TrainerCallback, or a class of them; got {callback!r:.100}.")
        if any(type(one) is type(made) for one in self.list):
            logging.once(f"A second {type(made).__name__} was added to the callbacks.")
        self.list.append(made)

    def take(self, callback: Any) -> TrainerCallback | None:
        """Takes out the callback, or the first one of a class, and returns it; None when there is none."""
        for one in self.list:
            if one is callback or isinstance(callback, type) and type(one) is callback:
                self.list.remove(one)
                return one
        return None

    def call(self, event: str, args: Any, state: TrainerState, control: TrainerControl, **more: Any) -> TrainerControl:
        for callback in self.list:
            control = getattr(callback, event)(args, state, control, **more) or control
        return control

    def states(self) -> dict[str, Any]:
        """Of each class of callbacks that can tell its state, the states of its callbacks."""
        found: dict[str, Any] = {}
        for one in self.list:
            if hasattr(one, "state_dict"):
                found.setdefault(type(one).__name__, []).append(one.state_dict())  # pyright: ignore
        return found

    def restore(self, states: dict[str, Any]) -> None:
        left = {name: list(several) for name, several in states.items() if isinstance(several, list)}
        for one in self.list:
            if hasattr(one, "load_state_dict") and left.get(type(one).__name__):
                one.load_state_dict(left[type(one).__name__].pop(0))  # pyright: ignore


class DefaultFlowCallback(TrainerCallback):
    """When to log, evaluate and save, as the strategies of the arguments say."""

    def on_train_begin(self, args: Any, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        for name in ("logging_steps", "eval_steps", "save_steps"):
            setattr(state, name, max(1, math.ceil(as_steps(getattr(args, name), state.max_steps))))

    def on_step_end(self, args: Any, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        step, last = state.global_step, state.global_step >= state.max_steps
        control.should_log |= args.logging_first_step and step == 1
        control.should_log |= args.logging_strategy == "steps" and step % state.logging_steps == 0
        control.should_evaluate |= (
            args.eval_strategy == "steps" and step % state.eval_steps == 0 and step >= args.eval_delay
        )
        control.should_save |= args.save_strategy == "steps" and step % state.save_steps == 0
        if last:
            control.should_training_stop = True
            control.should_evaluate |= args.eval_strategy == "steps" and step >= args.eval_delay
            control.should_save |= args.save_strategy == "steps"

    def on_epoch_end(self, args: Any, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        control.should_log |= args.logging_strategy == "epoch"
        control.should_evaluate |= args.eval_strategy == "epoch" and args.eval_delay <= state.epoch
        control.should_save |= args.save_strategy == "epoch"


class EarlyStoppingCallback(TrainerCallback):
    """Ends training when metric_for_best_model did not get better in `patience` evaluations, one after the other.

    early_stopping_threshold: what counts as better is better by more than this.
    """

    def __init__(self, early_stopping_patience: int = 1, early_stopping_threshold: float = 0.0):
        self.early_stopping_patience, self.early_stopping_threshold = early_stopping_patience, early_stopping_threshold
        self.early_stopping_patience_counter = 0
        self.best: float | None = None

    def state_dict(self) -> dict[str, Any]:
        return {"counter": self.early_stopping_patience_counter, "best": self.best}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.early_stopping_patience_counter, self.best = state["counter"], state["best"]

    def on_train_begin(self, args: Any, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        if args.metric_for_best_model is None or args.eval_strategy == "no":
            raise ValueError(
                "EarlyStoppingCallback needs metric_for_best_model and an eval_strategy, 'steps' or 'epoch'; they are "
                f"{args.metric_for_best_model!r} and {args.eval_strategy!r}."
            )

    def on_evaluate(
        self,
        args: Any,
        state: TrainerState,
        control: TrainerControl,
        metrics: dict[str, float] | None = None,
        **kwargs: Any,
    ) -> None:
        value = metric_of(metrics or {}, args.metric_for_best_model)
        gain = math.inf if self.best is None else (value - self.best) * (1 if args.greater_is_better else -1)
        if gain > self.early_stopping_threshold:
            self.best, self.early_stopping_patience_counter = value, 0
        else:
            self.early_stopping_patience_counter += 1
        control.should_training_stop |= self.early_stopping_patience_counter >= self.early_stopping_patience


def metric_of(metrics: dict[str, float], name: str) -> float:
    """The metric of an evaluation, named with or without "eval_"."""
    key = name if name in metrics else f"eval_{name}"
    if key not in metrics:
        raise KeyError(
            f"metric_for_best_model is {name!r}, which the evaluation did not give.{did_you_mean(key, metrics)} "
            f"It gave {', '.join(metrics)}."
        )
    return metrics[key]


# ---- What people see


def readable(logs: dict[str, Any]) -> dict[str, Any]:
    return {k: float(f"{v:.4g}") if isinstance(v, float) else v for k, v in logs.items() if k != "total_flos"}


class PrinterCallback(TrainerCallback):
    """Prints what is logged, a line each."""

    def on_log(self, args: Any, state: TrainerState, control: TrainerControl, logs: Any = None, **kwargs: Any) -> None:
        if state.is_local_process_zero:
            print(readable(logs or {}), flush=True)


class ProgressCallback(TrainerCallback):
    """A progress bar, and above it what is logged; in a terminal and in a notebook."""

    def __init__(self) -> None:
        self.training: Any = None
        self.evaluation: Any = None

    def on_train_begin(self, args: Any, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        from tqdm.auto import tqdm

        if state.is_world_process_zero:
            self.training = tqdm(total=state.max_steps, initial=state.global_step, dynamic_ncols=True)

    def on_step_end(self, args: Any, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        if self.training is not None:
            self.training.update(state.global_step - self.training.n)

    def on_prediction_step(
        self, args: Any, state: TrainerState, control: TrainerControl, eval_dataloader: Any = None, **kwargs: Any
    ) -> None:
        from tqdm.auto import tqdm

        if state.is_world_process_zero and hasattr(eval_dataloader, "__len__"):
            if self.evaluation is None:
                self.evaluation = tqdm(total=len(eval_dataloader), leave=self.training is None, dynamic_ncols=True)
            self.evaluation.update(1)

    def _close_evaluation(self) -> None:
        if self.evaluation is not None:
            self.evaluation.close()
        self.evaluation = None

    def on_evaluate(self, args: Any, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        self._close_evaluation()

    def on_predict(self, args: Any, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        self._close_evaluation()

    def on_log(self, args: Any, state: TrainerState, control: TrainerControl, logs: Any = None, **kwargs: Any) -> None:
        if self.training is not None:
            self.training.write(str(readable(logs or {})))

    def on_train_end(self, args: Any, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        if self.training is not None:
            self.training.close()
        self.training = None


def is_seen() -> bool:
    """Whether somebody looks on: a terminal or a notebook."""
    return logging.is_progress_bar_enabled() and (sys.stderr.isatty() or "ipykernel" in sys.modules)


@contextmanager
def when_terminated(control: TrainerControl) -> Iterator[None]:
    """Within, SIGTERM asks for a checkpoint after the step that is being done, and for the end."""

    def asked(*_: Any) -> None:
        control.should_save = control.should_training_stop = True

    before = signal.signal(signal.SIGTERM, asked)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
