"""The Trainer: the loss and the gradients of a step, what its settings change, what it tells, what it refuses."""

import json
import math

import pytest
import torch
from small import SIZES, STILL, collate, history, losses, make, rows_for, trainer, weights

from plainformers import (
    BertConfig,
    BertForMaskedLM,
    BertForSequenceClassification,
    BertForTokenClassification,
    EarlyStoppingCallback,
    LlamaForCausalLM,
    Trainer,
    TrainerCallback,
    TrainingArguments,
)
from plainformers.training.callbacks import EVENTS

KINDS = [BertForSequenceClassification, BertForTokenClassification, BertForMaskedLM, LlamaForCausalLM]
SGD = {"optim": "sgd", "learning_rate": 0.1, "lr_scheduler_type": "constant", "max_grad_norm": 0}


# ---- The loss


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("padding_free", [False, None])
def test_batches_that_add_up_are_one_batch(kind, padding_free, tmp_path):
    """k batches of b rows give the loss and the gradients of one of kb rows."""
    found = []
    for size, accumulation in ((8, 1), (2, 4), (4, 2)):
        some = trainer(
            tmp_path, kind, per_device_train_batch_size=size, gradient_accumulation_steps=accumulation, **SGD,
            padding_free=padding_free, max_steps=3,
        )  # fmt: skip
        some.train()
        found.append((losses(some), weights(some.model)))
    for other_losses, other in found[1:]:
        assert other_losses == pytest.approx(found[0][0], rel=1e-6)
        for name, tensor in other.items():
            torch.testing.assert_close(tensor, found[0][1][name], atol=1e-6, rtol=1e-6)
    assert any(not torch.equal(t, make(kind).state_dict()[n]) for n, t in found[0][1].items())


@pytest.mark.parametrize("kind", KINDS)
def test_a_step_is_that_of_a_bare_loop(kind, tmp_path):
    plain = {"train_sampling_strategy": "sequential", "padding_free": False, "chunked_loss": False}
    some = trainer(tmp_path, kind, max_steps=6, **plain, **SGD)
    some.train()
    model, rows, seen = make(kind), rows_for(kind), []
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    for start in range(0, 24, 4):
        loss = model(**collate(rows[start : start + 4])).loss
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        seen.append(loss.item())
    assert losses(some) == seen
    for name, tensor in some.model.state_dict().items():
        assert torch.equal(tensor, model.state_dict()[name]), name


@pytest.mark.parametrize("kind", KINDS)
def test_the_last_window_of_an_epoch_may_be_short(kind, tmp_path):
    """Five batches, three to a step, the last of two rows: the second step is the mean over what there is."""
    rows = rows_for(kind, 18)
    some = trainer(
        tmp_path, kind, train_dataset=rows, train_sampling_strategy="sequential", gradient_accumulation_steps=3,
        num_train_epochs=1, padding_free=None, **SGD,
    )  # fmt: skip
    some.train()
    assert some.state.global_step == 2
    model = make(kind)
    first = model(**collate(rows[:12])).loss
    assert losses(some)[0] == pytest.approx(first.item(), rel=1e-6)
    first.backward()
    torch.optim.SGD(model.parameters(), lr=0.1).step()
    assert losses(some)[1] == pytest.approx(model(**collate(rows[12:])).loss.item(), rel=1e-5)


def test_overridden_losses_are_weighed_by_their_targets(tmp_path):
    """Whether a loss of the user's own divides by num_items_in_batch or takes the mean, a step is the same."""

    class Mean(Trainer):
        def compute_loss(self, model, inputs, return_outputs=False, num_items_in_batch=None):
            assert inputs["attention_mask"].shape == inputs["input_ids"].shape  # padded: the user may look at it
            out = model(**inputs)
            return (out.loss, out) if return_outputs else out.loss

    def divided(outputs, labels, num_items_in_batch=None):
        flat = outputs.logits[:, :-1].flatten(0, 1), labels[:, 1:].flatten()
        return torch.nn.functional.cross_entropy(*flat, reduction="sum") / num_items_in_batch

    settings = {"gradient_accumulation_steps": 2, "max_steps": 4, **SGD}
    one = trainer(tmp_path, LlamaForCausalLM, **settings)
    two = trainer(tmp_path, LlamaForCausalLM, by=Mean, **settings)
    three = trainer(tmp_path, LlamaForCausalLM, compute_loss_func=divided, **settings)
    for some in (one, two, three):
        some.train()
    assert losses(two) == pytest.approx(losses(one), rel=1e-5)
    assert losses(three) == pytest.approx(losses(one), rel=1e-5)


def test_label_smoothing_is_that_of_torch(tmp_path):
    for kind in (BertForSequenceClassification, LlamaForCausalLM):
        some = trainer(tmp_path, kind, label_smoothing_factor=0.2, train_sampling_strategy="sequential", max_steps=1)
        some.train()
        batch = collate(rows_for(kind)[:4])
        logits, labels = make(kind)(**batch).logits, batch["labels"]
        if kind is LlamaForCausalLM:
            logits, labels = logits[:, :-1].flatten(0, 1), labels[:, 1:].flatten()
        expected = torch.nn.functional.cross_entropy(logits, labels, label_smoothing=0.2)
        assert losses(some)[0] == pytest.approx(expected.item(), rel=1e-5)


# ---- Settings


def test_epochs_steps_and_the_learning_rate(tmp_path):
    some = trainer(tmp_path, num_train_epochs=2, warmup_steps=0.25, learning_rate=1e-3)
    out = some.train()
    assert (out.global_step, some.state.epoch, some.state.max_steps) == (12, 2.0, 12)
    rates = [entry["learning_rate"] for entry in some.state.log_history if "learning_rate" in entry]
    assert rates == pytest.approx([1e-3 * x for x in (0, 1 / 3, 2 / 3, 1, *(i / 9 for i in range(8, 0, -1)))])
    assert out.training_loss == pytest.approx(sum(losses(some)) / 12)
    half = trainer(tmp_path, num_train_epochs=0.5)
    half.train()
    assert (half.state.global_step, half.state.epoch) == (3, 0.5)


def test_gradients_are_clipped(tmp_path):
    norms = []

    class Look(TrainerCallback):
        def on_pre_optimizer_step(self, args, state, control, model=None, **kwargs):
            norms.append(torch.nn.utils.get_total_norm([p.grad for p in model.parameters() if p.grad is not None]))

    some = trainer(tmp_path, max_grad_norm=0.01, max_steps=2, callbacks=[Look])
    some.train()
    logged = [entry["grad_norm"] for entry in some.state.log_history if "grad_norm" in entry]
    assert all(n <= 0.01001 for n in norms) and all(n > 0.01 for n in logged)


def test_the_same_numbers_again_and_others_with_another_seed(tmp_path):
    dropout = dict.fromkeys(STILL, 0.1)
    runs = []
    for seed in (1, 1, 2):
        model = make(BertForSequenceClassification, **dropout)
        some = trainer(tmp_path, model=model, seed=seed, max_steps=3)
        some.train()
        runs.append(losses(some))
    assert runs[0] == runs[1] != runs[2]


def test_bf16_trains_near_float32(tmp_path):
    plain, half = trainer(tmp_path, max_steps=4), trainer(tmp_path, max_steps=4, bf16=True)
    plain.train(), half.train()
    assert next(half.model.parameters()).dtype == torch.float32
    assert losses(half) == pytest.approx(losses(plain), rel=0.02) and losses(half) != losses(plain)


def test_gradient_checkpointing_changes_no_number(tmp_path):
    plain, again = (
        trainer(tmp_path, max_steps=3, **SGD),
        trainer(tmp_path, max_steps=3, gradient_checkpointing=True, **SGD),
    )
    plain.train(), again.train()
    assert losses(again) == pytest.approx(losses(plain), rel=1e-6)


def test_noise_on_the_embeddings_is_of_the_size_that_its_paper_says(tmp_path):
    kind, seen = LlamaForCausalLM, {}

    class Look(TrainerCallback):
        def on_train_begin(self, args, state, control, model=None, **kwargs):
            embedding = model.get_input_embeddings()
            embedding.register_forward_hook(
                lambda m, inputs, x: seen.update(x=x.detach() - m.weight[inputs[0]].detach())
            )

    for padding_free in (False, None):
        row = {"input_ids": [5, 6, 7, 8], "labels": [5, 6, 7, 8]}
        rows = [row, {"input_ids": [9] * 16, "labels": [9] * 16}]
        some = trainer(
            tmp_path, kind, neftune_noise_alpha=4.0, train_dataset=rows, train_sampling_strategy="sequential",
            max_steps=1, padding_free=padding_free, callbacks=[Look],
        )  # fmt: skip
        some.train()
        noise = [seen["x"][0, :4], seen["x"][1]] if padding_free is False else [seen["x"][0, 16:], seen["x"][0, :16]]
        for part, tokens in zip(noise, (4, 16), strict=True):
            most = 4.0 / (tokens * 16) ** 0.5
            assert 0.85 * most < part.abs().max() <= most * 1.0001
        embedding = some.model.train().get_input_embeddings()
        assert torch.equal(embedding(torch.tensor([5]))[0], embedding.weight[5])


def test_a_plain_torch_module_is_trained_and_saved(tmp_path):
    class Plain(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.line = torch.nn.Linear(2, 1)

        def forward(self, x, labels=None):
            out = self.line(x)
            return {"loss": ((out - labels) ** 2).mean(), "logits": out} if labels is not None else {"logits": out}

    rows = [{"x": [float(i), 1.0], "labels": [2.0 * i + 3.0]} for i in range(-4, 4)]
    settings = {"use_cpu": True, "disable_tqdm": True, "save_strategy": "no", "logging_steps": 200}
    args = TrainingArguments(str(tmp_path), num_train_epochs=60, learning_rate=0.1, **settings)
    some = Trainer(Plain(), args, train_dataset=rows, eval_dataset=rows)
    some.train()
    assert some.evaluate()["eval_loss"] < 0.1
    some.save_model()
    other = Plain()
    from safetensors.torch import load_file

    other.load_state_dict(load_file(tmp_path / "model.safetensors"))
    assert torch.equal(other.line.weight, some.model.line.weight)


# ---- Callbacks


def test_every_event_is_called_in_order(tmp_path):
    called = []

    class All(TrainerCallback):
        pass

    for event in EVENTS:
        setattr(All, event, lambda self, args, state, control, event=event, **kwargs: called.append(event))
    some = trainer(
        tmp_path, callbacks=[All], max_steps=1, gradient_accumulation_steps=2, eval_strategy="steps", eval_steps=1,
        eval_dataset=rows_for(BertForSequenceClassification, 8), save_strategy="steps", save_steps=1,
    )  # fmt: skip
    some.train()
    some.predict(rows_for(BertForSequenceClassification, 4))
    assert called == [
        "on_init_end", "on_train_begin", "on_epoch_begin", "on_step_begin", "on_substep_end", "on_pre_optimizer_step",
        "on_optimizer_step", "on_step_end", "on_log", "on_prediction_step", "on_log", "on_evaluate", "on_save",
        "on_epoch_end", "on_log", "on_train_end", "on_prediction_step", "on_predict",
    ]  # fmt: skip
    assert set(called) == set(EVENTS) - {"on_push_begin"}


def test_callbacks_are_added_taken_and_may_steer(tmp_path):
    class Stop(TrainerCallback):
        def on_step_end(self, args, state, control, **kwargs):
            control.should_training_stop = state.global_step == 2

    some = trainer(tmp_path)
    some.add_callback(Stop)
    with pytest.raises(TypeError, match="must be a TrainerCallback"):
        some.add_callback(print)
    some.train()
    assert some.state.global_step == 2
    assert isinstance(some.pop_callback(Stop), Stop) and some.pop_callback(Stop) is None
    some.train()
    assert some.state.global_step == 18


def test_early_stopping_counts_evaluations_without_gain(tmp_path):
    values = iter([0.5, 0.7, 0.7, 0.6, 0.9])
    some = trainer(
        tmp_path, num_train_epochs=5, eval_strategy="epoch", metric_for_best_model="score",
        callbacks=[EarlyStoppingCallback(2)], eval_dataset=rows_for(BertForSequenceClassification, 4),
        compute_metrics=lambda _: {"score": next(values)},
    )  # fmt: skip
    some.train()
    assert some.state.epoch == 4.0 and some.state.best_metric == 0.7 and some.state.best_global_step == 12
    with pytest.raises(ValueError, match="EarlyStoppingCallback needs metric_for_best_model"):
        trainer(tmp_path, callbacks=[EarlyStoppingCallback()]).train()


def test_what_is_logged_reaches_files_and_the_screen(tmp_path, capsys):
    some = trainer(tmp_path, max_steps=2, report_to=["jsonl"])
    some.train()
    lines = [json.loads(line) for line in (tmp_path / "logs.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == [1, 2, 2] and lines[0]["loss"] == losses(some)[0]
    assert "'loss'" in capsys.readouterr().out
    some.log({"mine": 1.5})
    assert some.state.log_history[-1] == {"mine": 1.5, "epoch": some.state.epoch, "step": 2}
    some.log_metrics("train", {"train_loss": 0.25, "n": 3})
    assert "train_loss =       0.2500" in capsys.readouterr().out
    some.save_metrics("train", {"train_loss": 0.25})
    some.save_metrics("eval", {"eval_loss": 0.5})
    assert json.loads((tmp_path / "all_results.json").read_text()) == {"train_loss": 0.25, "eval_loss": 0.5}
    with pytest.raises(ValueError, match="report_to names 'tensorbord'. Did you mean 'tensorboard'"):
        trainer(tmp_path, report_to="tensorbord")
    with pytest.raises(ImportError, match="pip install wandb"):
        trainer(tmp_path, report_to="wandb")


# ---- What is refused


def test_wrong_data_is_named(tmp_path):
    kind = BertForSequenceClassification
    cases = [
        ({"train_dataset": None}, ValueError, "needs a train_dataset"),
        ({"train_dataset": []}, ValueError, "has 0 rows, which make no batch"),
        ({"train_dataset": rows_for(kind, 3), "dataloader_drop_last": True}, ValueError, "3 rows.*drop_last"),
        ({"train_dataset": [{"text": "a"}]}, ValueError, r"No column .* argument of BertFor.*rows have \['text'\]"),
        (
            {"train_dataset": [{**row, "labels": 7} for row in rows_for(kind)]},
            ValueError,
            "labels hold 7.*num_labels is 2",
        ),
    ]
    for given, error, words in cases:
        with pytest.raises(error, match=words):
            trainer(tmp_path, **given).train()
    rows = [{**row, "labels": [-100] * len(row["labels"])} for row in rows_for(LlamaForCausalLM)]
    with pytest.raises(ValueError, match="Step 1 has no target: all its labels are -100"):
        trainer(tmp_path, LlamaForCausalLM, train_dataset=rows).train()

    def unlabelled(rows):
        return {name: value for name, value in collate(rows).items() if name != "labels"}

    with pytest.raises(ValueError, match="returned no loss for a batch of input_ids, attention_mask.*hold labels"):
        trainer(tmp_path, data_collator=unlabelled).train()
    with pytest.raises(ValueError, match="no length: say with max_steps"):
        trainer(tmp_path, train_dataset=iter(rows_for(kind))).train()


def test_a_loss_that_is_no_number_ends_training_before_it_harms_the_weights(tmp_path):
    some = trainer(tmp_path, save_strategy="steps", save_steps=2)
    kept = {}

    class Spoil(TrainerCallback):
        def on_step_begin(self, args, state, control, model=None, **kwargs):
            kept.update(weights(model))
            if state.global_step == 3:
                model.classifier.bias.data.fill_(math.nan)

    some.add_callback(Spoil)
    with pytest.raises(FloatingPointError, match="loss of step 4 is nan.*The last checkpoint is .*checkpoint-2"):
        some.train()
    some.writer.wait()
    for name, tensor in some.model.state_dict().items():
        assert name == "classifier.bias" or torch.equal(tensor, kept[name])


def test_wrong_arguments_are_named(tmp_path):
    with pytest.raises(ValueError, match="a model, or a model_init"):
        Trainer()
    with pytest.raises(TypeError, match="args must be TrainingArguments"):
        Trainer(make(BertForSequenceClassification), args={})
    with pytest.raises(ValueError, match="no parameter that requires a gradient"):
        trainer(tmp_path, model=make(BertForSequenceClassification).requires_grad_(False)).train()
    with pytest.raises(ValueError, match="fp16 needs a GPU"):
        trainer(tmp_path, fp16=True).train()
    with pytest.raises(AttributeError, match="Trainer has no 'evalute'. Did you mean 'evaluate'"):
        trainer(tmp_path).evalute  # noqa: B018
    bare = torch.nn.Linear(2, 2)
    with pytest.raises(ValueError, match="padding_free=True: Linear takes padded"):
        trainer(tmp_path, model=bare, padding_free=True)
    with pytest.raises(ValueError, match="no gradient_checkpointing_enable"):
        trainer(tmp_path, model=bare, gradient_checkpointing=True, remove_unused_columns=False).train()


def test_hyperparameters_are_searched(tmp_path):
    def fresh():
        torch.manual_seed(0)
        return BertForSequenceClassification(BertConfig(**SIZES, **STILL))

    some = trainer(tmp_path, model_init=fresh, max_steps=2, eval_dataset=rows_for(BertForSequenceClassification, 4))
    rates = []

    def space(trial):
        rates.append(trial.suggest_float("learning_rate", 1e-5, 1e-1, log=True))
        return {"learning_rate": rates[-1]}

    before = some.args.learning_rate
    best = some.hyperparameter_search(hp_space=space, n_trials=3, backend="random")
    assert len(set(rates)) == 3 and best.hyperparameters["learning_rate"] in rates and best.objective > 0
    assert some.args.learning_rate == before and some.args.output_dir == str(tmp_path)
    with pytest.raises(ValueError, match="backend is 'optun'. Did you mean 'optuna'"):
        some.hyperparameter_search(backend="optun")
    with pytest.raises(ValueError, match="give the Trainer a model_init"):
        trainer(tmp_path).hyperparameter_search()


def test_history_has_every_number_once(tmp_path):
    some = trainer(tmp_path, max_steps=3, logging_steps=2, logging_first_step=True)
    some.train()
    assert [entry["step"] for entry in history(some)] == [1, 2, 3]
