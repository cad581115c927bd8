"""Schedules by their formulas, optimizers by their first steps, and the groups of parameters."""

import math

import pytest
import torch
from small import make

from plainformers import (
    Adafactor,
    AdafactorSchedule,
    BertForSequenceClassification,
    get_cosine_with_min_lr_schedule_with_warmup,
    get_polynomial_decay_schedule_with_warmup,
    get_scheduler,
)
from plainformers.training.optim import SCHEDULES, make_optimizer, parameter_groups, read_options

cos = math.cos
pi = math.pi
# schedule, its arguments, the factors at steps 0, 2, 4, 9, 14 of 14, of which 4 are warm-up
FACTORS = [
    ("constant", {}, [1, 1, 1, 1, 1]),
    ("constant_with_warmup", {}, [0, 0.5, 1, 1, 1]),
    ("linear", {}, [0, 0.5, 1, 0.5, 0]),
    ("cosine", {}, [0, 0.5, 1, 0.5, 0]),
    ("cosine_with_restarts", {"num_cycles": 2}, [0, 0.5, 1, 1, 0]),
    ("polynomial", {"power": 2.0, "lr_end": 0.01}, [0, 0.5, 1, (0.09 * 0.25 + 0.01) / 0.1, 0.1]),
    ("inverse_sqrt", {}, [0, 0.5, 1, 3**-0.5 * 0 + (9 / 4) ** -0.5, (14 / 4) ** -0.5]),
    ("inverse_sqrt", {"timescale": 5}, [0, 0.5, 1, 2**-0.5, 3**-0.5]),
    ("cosine_with_min_lr", {"min_lr": 0.02}, [0, 0.5, 1, 0.6, 0.2]),
    ("cosine_warmup_with_min_lr", {"min_lr_rate": 0.2, "warmup_lr_rate": 0.1},
     [0.1, 0.7, 0.5 * (1 + cos(pi * 0.1)) * 0.8 + 0.2, 0.5 * (1 + cos(pi * 0.6)) * 0.8 + 0.2,
      0.5 * (1 + cos(pi * 1.1)) * 0.8 + 0.2]),
    ("warmup_stable_decay", {"num_decay_steps": 5}, [0, 0.5, 1, 1, 0]),
    ("warmup_stable_decay", {"num_decay_steps": 10, "decay_type": "linear", "min_lr_ratio": 0.1},
     [0.1, 0.55, 1, 0.55, 0.1]),
    ("warmup_stable_decay", {"num_decay_steps": 10, "decay_type": "1-sqrt"}, [0, 0.5, 1, 1 - 0.5**0.5, 0]),
]  # fmt: skip


def optimizer(rate=0.1):
    return torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=rate)


@pytest.mark.parametrize(("name", "settings", "factors"), FACTORS)
def test_schedules_are_their_formulas(name, settings, factors):
    some = optimizer()
    schedule = get_scheduler(name, some, num_warmup_steps=4, num_training_steps=14, scheduler_specific_kwargs=settings)
    seen = []
    for _ in range(15):
        seen.append(some.param_groups[0]["lr"])
        some.step(), schedule.step()
    assert [seen[i] for i in (0, 2, 4, 9, 14)] == pytest.approx([0.1 * f for f in factors], abs=1e-12)
    again = get_scheduler(name, optimizer(), 4, 14, settings)
    state = {k: v for k, v in schedule.state_dict().items() if k != "lr_lambdas"}
    again.load_state_dict({**state, "lr_lambdas": again.state_dict()["lr_lambdas"]})
    assert again.get_last_lr() == schedule.get_last_lr()


def test_wrong_schedules_are_named():
    for name, given, words in [
        ("lineal", {}, "'lineal' is unknown. Did you mean 'linear'"),
        ("linear", {"power": 2}, "'linear' has no power. Allowed: nothing"),
        ("cosine", {"cycles": 2}, "'cosine' has no cycles. Allowed: num_cycles"),
    ]:
        with pytest.raises(ValueError, match=words):
            get_scheduler(name, optimizer(), 1, 2, given)
    with pytest.raises(ValueError, match="'linear' needs num_training_steps"):
        get_scheduler("linear", optimizer(), 1)
    with pytest.raises(ValueError, match="exactly one of min_lr and min_lr_rate"):
        get_cosine_with_min_lr_schedule_with_warmup(optimizer(), 1, 2)
    with pytest.raises(ValueError, match="lr_end=0.5 must be below"):
        get_polynomial_decay_schedule_with_warmup(optimizer(), 1, 2, lr_end=0.5)
    with pytest.raises(ValueError, match="decay_type must be"):
        get_scheduler("warmup_stable_decay", optimizer(), 1, 9, {"num_decay_steps": 2, "decay_type": "cubic"})
    assert get_scheduler("reduce_lr_on_plateau", optimizer(), scheduler_specific_kwargs={"patience": 3}).patience == 3
    assert len(SCHEDULES) == 11


def test_adafactor_factors_the_second_moment():
    """By hand: the first step of a matrix, whose second moment is the outer product of its rows' and columns' means."""
    weight = torch.nn.Parameter(torch.tensor([[3.0, -1.0], [2.0, 4.0]]))
    some = Adafactor([weight], lr=0.1, relative_step=False, scale_parameter=False)
    weight.grad = torch.tensor([[1.0, 2.0], [3.0, -4.0]])
    before = weight.detach().clone()
    some.step()
    square = weight.grad**2 + 1e-30
    rows, columns = square.mean(1), square.mean(0)
    update = weight.grad / torch.sqrt(rows[:, None] * columns / rows.mean())
    update /= max(1.0, update.square().mean().sqrt().item())
    torch.testing.assert_close(weight.detach(), before - 0.1 * update, atol=1e-6, rtol=1e-6)
    assert set(some.state[weight]) == {"step", "RMS", "exp_avg_sq_row", "exp_avg_sq_col"}
    by_itself = Adafactor([weight])
    schedule = AdafactorSchedule(by_itself)
    by_itself.step()
    assert schedule.get_lr()[0] == pytest.approx(
        0.01 * before.sub(0.1 * update).square().mean().sqrt().item(), rel=1e-5
    )
    with pytest.raises(ValueError, match="only with relative_step=False"):
        Adafactor([weight], lr=0.1)


def test_biases_and_norms_do_not_decay():
    model = make(BertForSequenceClassification)
    decays, still = parameter_groups(model, 0.1)
    names = {id(p): name for name, p in model.named_parameters()}
    assert all("bias" in names[id(p)] or "LayerNorm" in names[id(p)] for p in still["params"])
    assert not any("bias" in names[id(p)] or "LayerNorm" in names[id(p)] for p in decays["params"])
    assert (decays["weight_decay"], still["weight_decay"]) == (0.1, 0.0)
    assert len(decays["params"]) + len(still["params"]) == len(names)
    model.bert.requires_grad_(False)
    assert [len(group["params"]) for group in parameter_groups(model, 0.1)] == [1, 1]


def test_optimizers_by_name():
    groups = lambda: [{"params": [torch.nn.Parameter(torch.ones(2))], "weight_decay": 0.0}]  # noqa: E731
    kinds = {"adamw_torch": "AdamW", "adamw_torch_fused": "AdamW", "adafactor": "Adafactor", "sgd": "SGD",
             "adagrad": "Adagrad", "rmsprop": "RMSprop"}  # fmt: skip
    for name, kind in kinds.items():
        made = make_optimizer(name, groups(), learning_rate=0.1)
        assert type(made).__name__ == kind and made.param_groups[0]["lr"] == 0.1
    made = make_optimizer("sgd", groups(), learning_rate=0.1, optim_args="momentum=0.9, nesterov=True")
    assert (made.param_groups[0]["momentum"], made.param_groups[0]["nesterov"]) == (0.9, True)
    assert read_options("a=1,b=2.5,c=None,d=text") == {"a": 1, "b": 2.5, "c": None, "d": "text"}
    for name, given, words in [
        ("adamw", None, "optim='adamw' is not supported: Did you mean 'adamw_torch'"),
        ("adamw_bnb_8bit", None, "needs bitsandbytes"),
        ("sgd", "momentun=0.9", "SGD has no momentun. Did you mean 'momentum'"),
        ("sgd", "momentum", "must be 'name=value"),
    ]:
        with pytest.raises(ValueError, match=words):
            make_optimizer(name, groups(), learning_rate=0.1, optim_args=given)
