"""Trainer.hyperparameter_search: runs with other settings, one by one, and the best of them."""

import math
import random
from collections.abc import Callable
from typing import Any, NamedTuple

from ..aliases import did_you_mean
from .reporting import is_installed

BACKENDS = ("optuna", "random")


class BestRun(NamedTuple):
    run_id: str
    objective: float
    hyperparameters: dict[str, Any]
    run_summary: Any = None


class Trial:
    """Draws settings at random; its methods are those of an Optuna trial."""

    def __init__(self, number: int, seed: int):
        self.number, self.params = number, {}
        self._random = random.Random(f"{seed}-{number}")

    def suggest_float(self, name: str, low: float, high: float, *, log: bool = False) -> float:
        drawn = (
            math.exp(self._random.uniform(math.log(low), math.log(high))) if log else self._random.uniform(low, high)
        )
        return self.params.setdefault(name, drawn)

    def suggest_int(self, name: str, low: int, high: int, *, log: bool = False) -> int:
        if log:
            return self.params.setdefault(name, round(math.exp(self._random.uniform(math.log(low), math.log(high)))))
        return self.params.setdefault(name, self._random.randint(low, high))

    def suggest_categorical(self, name: str, choices: Any) -> Any:
        return self.params.setdefault(name, self._random.choice(list(choices)))


def default_space(trial: Any) -> dict[str, Any]:
    return {
        "learning_rate": trial.suggest_float("learning_rate", 1e-6, 1e-4, log=True),
        "num_train_epochs": trial.suggest_int("num_train_epochs", 1, 5),
        "seed": trial.suggest_int("seed", 1, 40),
        "per_device_train_batch_size": trial.suggest_categorical("per_device_train_batch_size", [4, 8, 16, 32, 64]),
    }


def default_objective(metrics: dict[str, float]) -> float:
    """The loss when there is nothing else, else the sum of the other metrics."""
    times = ("_runtime", "_per_second")
    others = {k: v for k, v in metrics.items() if not k.endswith(times) and k not in ("eval_loss", "epoch")}
    return sum(others.values()) if others else metrics["eval_loss"]


def search(
    trainer: Any,
    hp_space: Callable[[Any], dict[str, Any]] | None = None,
    compute_objective: Callable[[dict[str, float]], float] | None = None,
    n_trials: int = 20,
    direction: str = "minimize",
    backend: str | None = None,
    hp_name: Callable[[Any], str] | None = None,
) -> BestRun:
    """The best of n_trials runs, each with the settings that hp_space draws from a trial.

    compute_objective: metrics of the last evaluation -> what is minimized, or maximized as direction says. backend:
    "optuna", or "random", which needs nothing; None: the first that is installed. The Trainer needs a model_init.
    """
    if trainer.model_init is None:
        raise ValueError("hyperparameter_search makes the model anew for every run: give the Trainer a model_init.")
    if direction not in ("minimize", "maximize"):
        raise ValueError(f"direction must be 'minimize' or 'maximize', got {direction!r:.60}.")
    backend = backend or ("optuna" if is_installed("optuna") else "random")
    if backend not in BACKENDS:
        raise ValueError(f"backend is {backend!r}.{did_you_mean(backend, BACKENDS)} Allowed: {', '.join(BACKENDS)}.")
    space, objective = hp_space or default_space, compute_objective or default_objective
    settings, output_dir = trainer.args.to_dict(), trainer.args.output_dir
    runs: list[BestRun] = []

    def run(trial: Any) -> float:
        drawn = space(trial)
        for name, value in drawn.items():
            setattr(trainer.args, name, value)  # an unknown name raises
        trainer.args.output_dir = f"{output_dir}/run-{hp_name(trial) if hp_name else trial.number}"
        trainer.args.validate()
        trainer.train(trial=trial)
        value = float(objective(trainer.evaluate()))
        runs.append(BestRun(str(trial.number), value, drawn))
        return value

    try:
        if backend == "optuna":
            import optuna  # pyright: ignore[reportMissingImports]

            optuna.create_study(direction=direction).optimize(run, n_trials=n_trials)
        else:
            for number in range(n_trials):
                run(Trial(number, trainer.args.seed))
    finally:
        for name, value in settings.items():
            if not name.endswith("_token"):
                setattr(trainer.args, name, value)
    return (min if direction == "minimize" else max)(runs, key=lambda one: one.objective)
