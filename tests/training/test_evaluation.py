"""evaluate and predict: the loss over all targets, the rows in their order, and no more kept than is asked for."""

import numpy as np
import pytest
import torch
from small import collate, make, rows_for, trainer
from zoo import CASES, config_for, make_inputs

from plainformers import (
    BertForSequenceClassification,
    BertForTokenClassification,
    EvalPrediction,
    LlamaConfig,
    LlamaForCausalLM,
    Seq2SeqTrainer,
    Seq2SeqTrainingArguments,
    auto,
)
from plainformers.registry import MODELS
from plainformers.training.packing import pack
from plainformers.training.targets import count_targets

KIND = BertForSequenceClassification


@pytest.mark.parametrize("kind", [BertForSequenceClassification, BertForTokenClassification, LlamaForCausalLM])
@pytest.mark.parametrize("padding_free", [False, None])
def test_predictions_are_those_of_the_model_row_by_row(kind, padding_free, tmp_path):
    rows = rows_for(kind, 11)
    some = trainer(tmp_path, kind, padding_free=padding_free, per_device_eval_batch_size=4)
    out = some.predict(rows)
    model, total, count = make(kind).eval(), 0.0, 0
    for i, row in enumerate(rows):
        with torch.no_grad():
            one = model(**collate([row]))
        n = one.logits.shape[1]
        if kind is KIND:
            np.testing.assert_allclose(out.predictions[i], one.logits[0], atol=1e-5)
            assert out.label_ids[i] == row["labels"]
        else:
            np.testing.assert_allclose(out.predictions[i, :n], one.logits[0], atol=1e-5)
            assert out.label_ids[i, :n].tolist() == row["labels"] and (out.label_ids[i, n:] == -100).all()
        total, count = total + float(one.loss * one.loss_count), count + int(one.loss_count)
    assert out.metrics["test_loss"] == pytest.approx(total / count, rel=1e-5)
    assert some.evaluate(rows)["eval_loss"] == pytest.approx(total / count, rel=1e-5)
    assert {"test_runtime", "test_samples_per_second", "test_steps_per_second"} <= out.metrics.keys()


def test_metrics_get_what_they_ask_for(tmp_path):
    rows, seen = rows_for(KIND, 10), []

    def metrics(p: EvalPrediction):
        logits, labels, *_ = p
        seen.append(p)
        return {"accuracy": np.mean(logits == labels), "eval_named": 1}

    some = trainer(
        tmp_path, eval_dataset=rows, compute_metrics=metrics, include_for_metrics=["inputs", "loss"],
        preprocess_logits_for_metrics=lambda logits, labels: logits.argmax(-1), per_device_eval_batch_size=4,
    )  # fmt: skip
    found = some.evaluate()
    assert seen[0].predictions.shape == (10,) and seen[0].losses.shape == (10,) and seen[0].inputs.shape[0] == 10
    assert found["eval_accuracy"] == np.mean(seen[0].predictions == [row["labels"] for row in rows])
    assert found["eval_named"] == 1 and "eval_eval_named" not in found
    several = some.evaluate({"a": rows[:4], "b": rows[4:]})
    assert {"eval_a_loss", "eval_b_loss", "eval_a_accuracy"} <= several.keys()
    with pytest.raises(TypeError, match="compute_metrics must return a dict"):
        trainer(tmp_path, eval_dataset=rows, compute_metrics=lambda p: 0.5).evaluate()
    with pytest.raises(ValueError, match="needs an eval_dataset"):
        trainer(tmp_path).evaluate()


def test_metrics_by_batch_keep_no_predictions(tmp_path):
    sizes = []

    def metrics(p, compute_result=False):
        sizes.append(len(p.predictions))
        return {"rows": sum(sizes)} if compute_result else {}

    some = trainer(
        tmp_path, eval_dataset=rows_for(KIND, 10), compute_metrics=metrics, batch_eval_metrics=True,
        per_device_eval_batch_size=4,
    )  # fmt: skip
    assert some.evaluate()["eval_rows"] == 10 and sizes == [4, 4, 2]


def test_a_dataset_without_labels_is_predicted(tmp_path):
    rows = [{"input_ids": row["input_ids"]} for row in rows_for(KIND, 5)]

    def unlabelled(rows):
        found = collate([{**row, "labels": 0} for row in rows])
        return {"input_ids": found["input_ids"], "attention_mask": found["attention_mask"]}

    out = trainer(tmp_path, data_collator=unlabelled).predict(rows)
    assert out.predictions.shape == (5, 2) and out.label_ids is None and "test_loss" not in out.metrics


def test_training_goes_on_in_training_mode_after_an_evaluation(tmp_path):
    some = trainer(tmp_path, eval_dataset=rows_for(KIND, 4), eval_strategy="steps", eval_steps=1, max_steps=2)
    some.train()
    assert some.model.training
    assert [("eval_loss" in e) for e in some.state.log_history] == [False, True, False, True, False]


@pytest.mark.parametrize(("row", "head"), CASES, ids=[f"{row.name}-{head}" for row, head in CASES])
def test_targets_are_counted_as_the_heads_count_them(row, head):
    """What a batch is weighed by is known before the model has seen it; and packing loses none of it."""
    inputs = make_inputs(row, head)
    if row.model_type == "electra" and head == "pretraining":  # this head leaves padding out by itself
        inputs["labels"] = inputs["labels"].masked_fill(inputs["attention_mask"] == 0, -100)
    entry = MODELS[row.model_type]
    kind = getattr(auto.model_module(entry), entry.heads[head])
    torch.manual_seed(0)
    model = kind(kind.config_class(**config_for(row, head))).eval()
    with torch.no_grad():
        out = model(**inputs)
    if getattr(out, "loss", None) is None or out.loss_count is None:
        return
    names = [n for n in inputs if "label" in n or n in ("start_positions", "end_positions")]
    shifted = bool(getattr(model, "can_generate", bool)())
    assert count_targets(inputs, names, shifted) == int(out.loss_count)
    mask = inputs.get("attention_mask")
    if not model.accepts_packed or mask is None or mask.dim() != 2:
        return
    packed, layout = pack(dict(inputs), shifted)
    if layout is not None:
        with torch.no_grad():
            again = model(**packed)
        torch.testing.assert_close(again.loss, out.loss, atol=1e-5, rtol=1e-5)
        assert int(again.loss_count) == int(out.loss_count)
        if getattr(out, "logits", None) is None or len(out.logits) != len(mask):  # ModernBert's of targets alone
            return
        logits = layout.unpack(again.logits)
        real = mask.bool() if logits.shape[:2] == mask.shape else torch.ones(len(logits), dtype=torch.bool)
        torch.testing.assert_close(logits[real], out.logits[real], atol=1e-4, rtol=1e-4)


def test_texts_are_written_in_an_evaluation(tmp_path):
    torch.manual_seed(0)
    model = make(LlamaForCausalLM, eos_token_id=None, pad_token_id=0)
    rows = [{"input_ids": [5, 6, 7 + i], "labels": [5, 6, 7 + i]} for i in range(3)]
    seen = []
    args = Seq2SeqTrainingArguments(
        str(tmp_path), predict_with_generate=True, generation_max_length=6, use_cpu=True, disable_tqdm=True
    )

    def metrics(p):
        seen.append(p.predictions)
        return {"width": p.predictions.shape[1]}

    some = Seq2SeqTrainer(model, args, data_collator=collate, eval_dataset=rows, compute_metrics=metrics)
    found = some.evaluate()
    assert found["eval_width"] == 6 and found["eval_loss"] > 0
    expected = model.generate(torch.tensor([row["input_ids"] for row in rows]), max_length=6)
    assert seen[0].tolist() == expected.tolist()
    assert some.evaluate(max_length=5)["eval_width"] == 5 and some.evaluate()["eval_width"] == 6
    assert some.predict(rows, num_beams=2, max_length=4).predictions.shape == (3, 4)
    assert isinstance(model.config, LlamaConfig)
