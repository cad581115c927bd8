"""Optimizers, and schedules of the learning rate: each schedule is a function, step -> factor of the learning rate."""

import inspect
import math
from collections.abc import Callable
from enum import Enum, StrEnum
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR, ReduceLROnPlateau

from ..aliases import did_you_mean

# ---- Schedules


def warm_up(step: int, warmup: int) -> float:
    return step / max(1, warmup)


def progress(step: int, warmup: int, total: int) -> float:
    """0 at the end of the warm-up, 1 at the last step."""
    return (step - warmup) / max(1, total - warmup)


def constant(step: int, *, warmup: int = 0) -> float:
    return warm_up(step, warmup) if step < warmup else 1.0


def linear(step: int, *, warmup: int, total: int) -> float:
    return warm_up(step, warmup) if step < warmup else max(0.0, (total - step) / max(1, total - warmup))


def cosine(step: int, *, warmup: int, total: int, cycles: float = 0.5, least: float = 0.0) -> float:
    """Loshchilov and Hutter, 2017, https://arxiv.org/abs/1608.03983, without restarts."""
    if step < warmup:
        return warm_up(step, warmup)
    wave = 0.5 * (1.0 + math.cos(math.pi * cycles * 2.0 * progress(step, warmup, total)))
    return max(0.0, wave * (1 - least) + least)


def cosine_after_warm_start(
    step: int, *, warmup: int, total: int, cycles: float = 0.5, least: float = 0.0, first: float | None = None
) -> float:
    """The cosine, whose warm-up begins above 0: at `first`, or at 1 / warmup."""
    if step < warmup and first is not None:
        return first + (1.0 - first) * step / max(1, warmup - 1)
    if step < warmup:
        return (step + 1.0) / max(1.0, warmup)
    part = (step - warmup + 1.0) / max(1.0, total - warmup)
    return max(0.0, 0.5 * (1.0 + math.cos(math.pi * cycles * 2.0 * part)) * (1 - least) + least)


def cosine_restarts(step: int, *, warmup: int, total: int, cycles: int = 1) -> float:
    if step < warmup:
        return warm_up(step, warmup)
    part = progress(step, warmup, total)
    return 0.0 if part >= 1.0 else max(0.0, 0.5 * (1.0 + math.cos(math.pi * ((cycles * part) % 1.0))))


def polynomial(step: int, *, warmup: int, total: int, first: float, last: float, power: float) -> float:
    if step < warmup:
        return warm_up(step, warmup)
    if step > total:
        return last / first
    left = 1 - (step - warmup) / (total - warmup)
    return ((first - last) * left**power + last) / first


def inverse_sqrt(step: int, *, warmup: int, timescale: int) -> float:
    if step < warmup:
        return warm_up(step, warmup)
    return 1.0 / math.sqrt((step + timescale - warmup) / timescale)


def stable_decay(
    step: int, *, warmup: int, stable: int, decay: int, kinds: tuple[str, str], least: float, cycles: float
) -> float:
    """Warm-up, stable, decay: Hu et al., 2024, https://arxiv.org/abs/2404.06395."""
    shapes: dict[str, Callable[[float], float]] = {
        "linear": lambda part: part,
        "cosine": lambda part: 0.5 * (1.0 - math.cos(math.pi * part)),
        "1-sqrt": lambda part: 1.0 - math.sqrt(1.0 - part),
    }
    if step < warmup:
        return max(0.0, shapes[kinds[0]](step / max(1, warmup)) * (1.0 - least) + least)
    if step < warmup + stable:
        return 1.0
    if step >= warmup + stable + decay:
        return least
    part = (step - warmup - stable) / max(1, decay)
    if kinds[1] == "cosine":
        factor = 0.5 * (1.0 + math.cos(math.pi * cycles * 2.0 * part))
    else:
        factor = 1.0 - part if kinds[1] == "linear" else 1.0 - math.sqrt(part)
    return max(0.0, factor * (1.0 - least) + least)


def get_constant_schedule(optimizer: Optimizer, last_epoch: int = -1) -> LambdaLR:
    return LambdaLR(optimizer, constant, last_epoch)


def get_constant_schedule_with_warmup(optimizer: Optimizer, num_warmup_steps: int, last_epoch: int = -1) -> LambdaLR:
    return LambdaLR(optimizer, partial(constant, warmup=num_warmup_steps), last_epoch)


def get_linear_schedule_with_warmup(
    optimizer: Optimizer, num_warmup_steps: int, num_training_steps: int, last_epoch: int = -1
) -> LambdaLR:
    return LambdaLR(optimizer, partial(linear, warmup=num_warmup_steps, total=num_training_steps), last_epoch)


def get_cosine_schedule_with_warmup(
    optimizer: Optimizer, num_warmup_steps: int, num_training_steps: int, num_cycles: float = 0.5, last_epoch: int = -1
) -> LambdaLR:
    factor = partial(cosine, warmup=num_warmup_steps, total=num_training_steps, cycles=num_cycles)
    return LambdaLR(optimizer, factor, last_epoch)


def get_cosine_with_hard_restarts_schedule_with_warmup(
    optimizer: Optimizer, num_warmup_steps: int, num_training_steps: int, num_cycles: int = 1, last_epoch: int = -1
) -> LambdaLR:
    factor = partial(cosine_restarts, warmup=num_warmup_steps, total=num_training_steps, cycles=num_cycles)
    return LambdaLR(optimizer, factor, last_epoch)


def get_polynomial_decay_schedule_with_warmup(
    optimizer: Optimizer,
    num_warmup_steps: int,
    num_training_steps: int,
    lr_end: float = 1e-7,
    power: float = 1.0,
    last_epoch: int = -1,
) -> LambdaLR:
    first = optimizer.defaults["lr"]
    if lr_end >= first:
        raise ValueError(f"lr_end={lr_end} must be below the learning rate of the optimizer, {first}.")
    known = {"warmup": num_warmup_steps, "total": num_training_steps, "first": first, "last": lr_end, "power": power}
    return LambdaLR(optimizer, partial(polynomial, **known), last_epoch)


def get_inverse_sqrt_schedule(
    optimizer: Optimizer, num_warmup_steps: int, timescale: int | None = None, last_epoch: int = -1
) -> LambdaLR:
    scale = (num_warmup_steps or 10_000) if timescale is None else timescale
    return LambdaLR(optimizer, partial(inverse_sqrt, warmup=num_warmup_steps, timescale=scale), last_epoch)


def least_rate(optimizer: Optimizer, min_lr: float | None, min_lr_rate: float | None) -> float:
    """The lowest factor, said as a learning rate or as a factor."""
    if (min_lr is None) == (min_lr_rate is None):
        raise ValueError(f"Give exactly one of min_lr and min_lr_rate; they are {min_lr} and {min_lr_rate}.")
    return min_lr_rate if min_lr is None else min_lr / optimizer.defaults["lr"]  # pyright: ignore


def get_cosine_with_min_lr_schedule_with_warmup(
    optimizer: Optimizer,
    num_warmup_steps: int,
    num_training_steps: int,
    num_cycles: float = 0.5,
    last_epoch: int = -1,
    min_lr: float | None = None,
    min_lr_rate: float | None = None,
) -> LambdaLR:
    least = least_rate(optimizer, min_lr, min_lr_rate)
    known = {"warmup": num_warmup_steps, "total": num_training_steps, "cycles": num_cycles, "least": least}
    return LambdaLR(optimizer, partial(cosine, **known), last_epoch)


def get_cosine_with_min_lr_schedule_with_warmup_lr_rate(
    optimizer: Optimizer,
    num_warmup_steps: int,
    num_training_steps: int,
    num_cycles: float = 0.5,
    last_epoch: int = -1,
    min_lr: float | None = None,
    min_lr_rate: float | None = None,
    warmup_lr_rate: float | None = None,
) -> LambdaLR:
    least = least_rate(optimizer, min_lr, min_lr_rate)
    known = {"warmup": num_warmup_steps, "total": num_training_steps, "cycles": num_cycles, "least": least}
    return LambdaLR(optimizer, partial(cosine_after_warm_start, **known, first=warmup_lr_rate), last_epoch)


def get_wsd_schedule(
    optimizer: Optimizer,
    num_warmup_steps: int,
    num_decay_steps: int,
    num_training_steps: int | None = None,
    num_stable_steps: int | None = None,
    warmup_type: str = "linear",
    decay_type: str = "cosine",
    min_lr_ratio: float = 0,
    num_cycles: float = 0.5,
    last_epoch: int = -1,
) -> LambdaLR:
    for name, kind in (("warmup_type", warmup_type), ("decay_type", decay_type)):
        if kind not in ("linear", "cosine", "1-sqrt"):
            raise ValueError(f"{name} must be 'linear', 'cosine' or '1-sqrt', got {kind!r:.60}.")
    if (num_training_steps is None) == (num_stable_steps is None):
        raise ValueError("Give exactly one of num_training_steps and num_stable_steps.")
    stable = num_stable_steps
    if stable is None:
        assert num_training_steps is not None
        stable = num_training_steps - num_warmup_steps - num_decay_steps
    factor = partial(
        stable_decay, warmup=num_warmup_steps, stable=stable, decay=num_decay_steps, kinds=(warmup_type, decay_type),
        least=min_lr_ratio, cycles=num_cycles,
    )  # fmt: skip
    return LambdaLR(optimizer, factor, last_epoch)


def get_reduce_on_plateau_schedule(optimizer: Optimizer, **kwargs: Any) -> ReduceLROnPlateau:
    """Lowers the learning rate when the metric of the evaluation stays; torch's own class."""
    return ReduceLROnPlateau(optimizer, **kwargs)


class SchedulerType(StrEnum):
    LINEAR = "linear"
    COSINE = "cosine"
    COSINE_WITH_RESTARTS = "cosine_with_restarts"
    POLYNOMIAL = "polynomial"
    CONSTANT = "constant"
    CONSTANT_WITH_WARMUP = "constant_with_warmup"
    INVERSE_SQRT = "inverse_sqrt"
    REDUCE_ON_PLATEAU = "reduce_lr_on_plateau"
    COSINE_WITH_MIN_LR = "cosine_with_min_lr"
    COSINE_WARMUP_WITH_MIN_LR = "cosine_warmup_with_min_lr"
    WARMUP_STABLE_DECAY = "warmup_stable_decay"


SCHEDULES: dict[str, Callable[..., Any]] = {
    "linear": get_linear_schedule_with_warmup,
    "cosine": get_cosine_schedule_with_warmup,
    "cosine_with_restarts": get_cosine_with_hard_restarts_schedule_with_warmup,
    "polynomial": get_polynomial_decay_schedule_with_warmup,
    "constant": get_constant_schedule,
    "constant_with_warmup": get_constant_schedule_with_warmup,
    "inverse_sqrt": get_inverse_sqrt_schedule,
    "reduce_lr_on_plateau": get_reduce_on_plateau_schedule,
    "cosine_with_min_lr": get_cosine_with_min_lr_schedule_with_warmup,
    "cosine_warmup_with_min_lr": get_cosine_with_min_lr_schedule_with_warmup_lr_rate,
    "warmup_stable_decay": get_wsd_schedule,
}


def get_scheduler(
    name: str | SchedulerType,
    optimizer: Optimizer,
    num_warmup_steps: int | None = None,
    num_training_steps: int | None = None,
    scheduler_specific_kwargs: dict[str, Any] | None = None,
) -> Any:
    """The schedule of a name; scheduler_specific_kwargs: further arguments of its function. Raises ValueError."""
    name = name.value if isinstance(name, Enum) else name
    if name not in SCHEDULES:
        raise ValueError(
            f"The schedule {name!r:.60} is unknown.{did_you_mean(str(name), SCHEDULES)} Known: {', '.join(SCHEDULES)}."
        )
    make, own = SCHEDULES[name], dict(scheduler_specific_kwargs or {})
    takes = inspect.signature(make).parameters
    if "kwargs" not in takes and not own.keys() <= takes.keys():
        wrong = sorted(own.keys() - takes.keys())
        allowed = sorted(takes.keys() - {"optimizer", "num_warmup_steps", "num_training_steps", "last_epoch"})
        raise ValueError(
            f"The schedule {name!r} has no {', '.join(wrong)}. Allowed: {', '.join(allowed) or 'nothing'}."
        )
    given = {"num_warmup_steps": num_warmup_steps, "num_training_steps": num_training_steps}
    for key, value in given.items():
        if key in takes and key not in own and not (key == "num_training_steps" and "num_stable_steps" in own):
            if value is None:
                raise ValueError(f"The schedule {name!r} needs {key}.")
            own[key] = value
    return make(optimizer, **own)


# ---- Optimizers


class Adafactor(Optimizer):
    """Adam with a second moment of rows and columns in place of one per weight.

    Shazeer and Stern, 2018, https://arxiv.org/abs/1804.04235. lr: None is by step and by the size of the weights
    (relative_step). eps: (of the squared gradient, of the size of the weights). clip_threshold: largest root mean
    square of an update. decay_rate: how fast the second moment forgets less. beta1: of a first moment; None: none.
    """

    def __init__(
        self,
        params: Any,
        lr: float | None = None,
        eps: tuple[float, float] = (1e-30, 1e-3),
        clip_threshold: float = 1.0,
        decay_rate: float = -0.8,
        beta1: float | None = None,
        weight_decay: float = 0.0,
        scale_parameter: bool = True,
        relative_step: bool = True,
        warmup_init: bool = False,
    ):
        if lr is not None and relative_step:
            raise ValueError("Adafactor takes a learning rate only with relative_step=False.")
        if warmup_init and not relative_step:
            raise ValueError("Adafactor's warmup_init needs relative_step=True.")
        super().__init__(
            params,
            dict(
                lr=lr, eps=eps, clip_threshold=clip_threshold, decay_rate=decay_rate, beta1=beta1,
                weight_decay=weight_decay, scale_parameter=scale_parameter, relative_step=relative_step,
                warmup_init=warmup_init,
            ),
        )  # fmt: skip

    @torch.no_grad()
    def step(self, closure: Any = None) -> Any:  # pyright: ignore[reportIncompatibleMethodOverride]
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            for weight in group["params"]:
                if weight.grad is not None:
                    self._change(weight, group)
        return loss

    def _change(self, weight: Tensor, group: dict[str, Any]) -> None:
        gradient, state, x = weight.grad.float(), self.state[weight], weight.float()  # pyright: ignore
        factored = gradient.dim() >= 2
        if not state:
            state["step"], state["RMS"] = 0, 0.0
            if group["beta1"] is not None:
                state["exp_avg"] = torch.zeros_like(gradient)
            if factored:
                state["exp_avg_sq_row"] = gradient.new_zeros(gradient.shape[:-1])
                state["exp_avg_sq_col"] = gradient.new_zeros(gradient.shape[:-2] + gradient.shape[-1:])
            else:
                state["exp_avg_sq"] = torch.zeros_like(gradient)
        state["step"] += 1
        state["RMS"] = float(root_mean_square(x))
        rate = self.rate(group, state)
        beta2 = 1.0 - state["step"] ** group["decay_rate"]
        square = gradient.square() + group["eps"][0]
        if factored:
            rows, columns = state["exp_avg_sq_row"], state["exp_avg_sq_col"]
            rows.lerp_(square.mean(-1), 1.0 - beta2)
            columns.lerp_(square.mean(-2), 1.0 - beta2)
            update = (rows / rows.mean(-1, keepdim=True)).rsqrt()[..., None] * columns.rsqrt()[..., None, :] * gradient
        else:
            state["exp_avg_sq"].lerp_(square, 1.0 - beta2)
            update = state["exp_avg_sq"].rsqrt() * gradient
        update.div_((root_mean_square(update) / group["clip_threshold"]).clamp(min=1.0)).mul_(rate)
        if group["beta1"] is not None:
            update = state["exp_avg"].lerp_(update, 1.0 - group["beta1"])
        if group["weight_decay"]:
            x = x * (1.0 - group["weight_decay"] * rate)
        weight.copy_(x - update)

    @staticmethod
    def rate(group: dict[str, Any], state: dict[str, Any]) -> float:
        """The learning rate of a step that is about to be done."""
        rate = group["lr"]
        if group["relative_step"]:
            most = 1e-6 * state["step"] if group["warmup_init"] else 1e-2
            rate = min(most, 1.0 / math.sqrt(state["step"]))
        return rate * (max(group["eps"][1], state["RMS"]) if group["scale_parameter"] else 1.0)


def root_mean_square(x: Tensor) -> Tensor:
    return x.norm(2) / x.numel() ** 0.5


class AdafactorSchedule(LambdaLR):
    """Shows the learning rate that Adafactor finds by itself, to code that asks a schedule for it."""

    def __init__(self, optimizer: Optimizer, initial_lr: float = 0.0):
        for group in optimizer.param_groups:
            group["initial_lr"] = initial_lr
        super().__init__(optimizer, lambda _: initial_lr)
        for group in optimizer.param_groups:
            del group["initial_lr"]

    def get_lr(self) -> list[Any]:  # pyright: ignore[reportIncompatibleMethodOverride]
        """Of each group's first weight that was changed."""
        found = [
            self.optimizer.rate(group, self.optimizer.state[group["params"][0]])  # pyright: ignore
            for group in self.optimizer.param_groups
            if group["params"] and group["params"][0].grad is not None and self.optimizer.state[group["params"][0]]
        ]
        return found or list(self.base_lrs)


def get_adafactor_schedule(optimizer: Optimizer, initial_lr: float = 0.0) -> AdafactorSchedule:
    return AdafactorSchedule(optimizer, initial_lr)


def parameter_groups(model: nn.Module, weight_decay: float) -> list[dict[str, Any]]:
    """Two groups of the parameters that are trained: matrices, which decay, and biases and norms, which do not."""
    still = {
        id(p)
        for path, module in model.named_modules()
        for name, p in module.named_parameters(recurse=False)
        if "norm" in f"{type(module).__name__} {path.rpartition('.')[2]} {name}".lower() or "bias" in f"{path}.{name}"
    }
    trained = [p for _, p in nn.Module.named_parameters(model) if p.requires_grad]
    return [
        {"params": [p for p in trained if id(p) not in still], "weight_decay": weight_decay},
        {"params": [p for p in trained if id(p) in still], "weight_decay": 0.0},
    ]


BITS = "it needs bitsandbytes; the states of adafactor are smaller still, and add_adapter trains few weights"
REFUSED = {
    **dict.fromkeys(["adamw_8bit", "adamw_bnb_8bit", "paged_adamw_8bit", "paged_adamw_32bit", "paged_adamw"], BITS),
    **dict.fromkeys(["ademamix", "ademamix_8bit", "paged_ademamix_32bit", "paged_ademamix_8bit"], BITS),
    **dict.fromkeys(["lion_8bit", "lion_32bit", "paged_lion_8bit", "paged_lion_32bit"], BITS),
    **dict.fromkeys(["rmsprop_bnb", "rmsprop_bnb_8bit", "rmsprop_bnb_32bit"], BITS),
    **dict.fromkeys(["adamw_torch_4bit", "adamw_torch_8bit"], "it needs torchao; adafactor keeps less, too"),
}


def make_optimizer(
    name: str,
    groups: Any,
    *,
    learning_rate: float,
    betas: tuple[float, float] = (0.9, 0.999),
    eps: float = 1e-8,
    weight_decay: float = 0.0,
    optim_args: str | dict[str, Any] | None = None,
) -> Optimizer:
    """The optimizer of a name of TrainingArguments.optim; optim_args: further arguments, "name=value,name=value"."""
    name, more = str(name), read_options(optim_args)
    adam = {"lr": learning_rate, "betas": betas, "eps": eps, "weight_decay": weight_decay}
    plain = {"lr": learning_rate, "weight_decay": weight_decay}
    known: dict[str, tuple[type[Optimizer], dict[str, Any]]] = {
        "adamw_torch": (torch.optim.AdamW, {**adam, "foreach": True}),
        "adamw_torch_fused": (torch.optim.AdamW, {**adam, "fused": True}),
        "adafactor": (Adafactor, {**plain, "scale_parameter": False, "relative_step": False}),
        "sgd": (torch.optim.SGD, plain),
        "adagrad": (torch.optim.Adagrad, plain),
        "rmsprop": (torch.optim.RMSprop, plain),
    }
    if name not in known:
        reason = f" {REFUSED[name]}." if name in REFUSED else did_you_mean(name, known)
        raise ValueError(
            f"optim={name!r:.60} is not supported:{reason or ' nothing here has that name.'} Allowed: "
            f"{', '.join(known)}; any other class goes in by optimizer_cls_and_kwargs or optimizers."
        )
    kind, settings = known[name]
    allowed = inspect.signature(kind.__init__).parameters
    if wrong := sorted(more.keys() - allowed.keys()):
        raise ValueError(f"optim_args: {kind.__name__} has no {', '.join(wrong)}.{did_you_mean(wrong[0], allowed)}")
    return kind(groups, **settings | more)


def read_options(given: str | dict[str, Any] | None) -> dict[str, Any]:
    """{"momentum": 0.9} of "momentum=0.9"; numbers, True, False and None are read as such."""
    if not isinstance(given, str):
        return dict(given or {})
    options: dict[str, Any] = {}
    for part in filter(None, given.replace(" ", "").split(",")):
        name, found, text = part.partition("=")
        if not found:
            raise ValueError(f"optim_args must be 'name=value,name=value', got {given!r:.100}.")
        words = {"True": True, "False": False, "None": None}
        try:
            options[name] = words[text] if text in words else float(text) if "." in text or "e" in text else int(text)
        except ValueError:
            options[name] = text
    return options
