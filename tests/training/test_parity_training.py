"""Training beside the reference library's Trainer: the same losses, step by step; schedules, optimizers, collators."""

import copy
import warnings

import pytest
import torch
from adapter_cases import CASES, IDS, base_model, randomise
from small import collate, losses, make, rows_for, trainer

from plainformers import (
    BertForSequenceClassification,
    DataCollatorForLanguageModeling,
    DataCollatorForPermutationLanguageModeling,
    DataCollatorForTokenClassification,
    DataCollatorWithFlattening,
    LlamaForCausalLM,
    LoraConfig,
)
from plainformers.training import optim
from plainformers.training.optim import SCHEDULES, parameter_groups

pytestmark = [pytest.mark.parity, pytest.mark.filterwarnings("ignore")]


@pytest.fixture(scope="module")
def reference():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import transformers
    return transformers


def their_losses(reference, kind, folder, rows, steps, **settings):
    model = make(kind)
    model.save_pretrained(folder / "start")
    theirs = getattr(reference, kind.__name__).from_pretrained(folder / "start", dtype=torch.float32)
    args = reference.TrainingArguments(
        str(folder / "theirs"), per_device_train_batch_size=4, use_cpu=True, disable_tqdm=True, report_to="none",
        save_strategy="no", logging_steps=1, max_steps=steps, train_sampling_strategy="sequential", **settings,
    )  # fmt: skip
    made = reference.Trainer(theirs, args, train_dataset=rows, data_collator=collate)
    made.train()
    return [e for e in made.state.log_history if "loss" in e], theirs


@pytest.mark.parametrize(
    "settings",
    [
        {"learning_rate": 1e-3},
        {"learning_rate": 1e-2, "optim": "sgd", "lr_scheduler_type": "cosine", "warmup_steps": 7, "weight_decay": 0.1},
        {"learning_rate": 1e-3, "optim": "adafactor", "max_grad_norm": 0.5, "label_smoothing_factor": 0.1},
        {"learning_rate": 1e-3, "weight_decay": 0.3, "adam_beta2": 0.98, "lr_scheduler_type": "inverse_sqrt"},
    ],
)
def test_a_classifier_learns_in_the_same_steps(settings, reference, tmp_path):
    rows = rows_for(BertForSequenceClassification, 40)
    theirs, model = their_losses(reference, BertForSequenceClassification, tmp_path, rows, 50, **settings)
    for padding_free in (None, False):
        ours = trainer(
            tmp_path / "ours", train_dataset=rows, max_steps=50, train_sampling_strategy="sequential",
            padding_free=padding_free, **settings,
        )  # fmt: skip
        ours.train()
        assert losses(ours) == pytest.approx([e["loss"] for e in theirs], abs=1e-4)
        norms = [e["grad_norm"] for e in ours.state.log_history if "grad_norm" in e]
        assert norms == pytest.approx([float(e["grad_norm"]) for e in theirs], rel=2e-3)
        for name, tensor in ours.model.state_dict().items():
            if name.endswith("key.bias"):  # its gradient is 0 but for rounding, which these optimizers blow up
                continue
            torch.testing.assert_close(tensor, model.state_dict()[name], atol=1e-3, rtol=1e-3)


def test_a_language_model_learns_in_the_same_steps_from_several_batches_each(reference, tmp_path):
    """Of rows whose first token is nobody's target: the reference counts it where it is one, and is wrong then."""
    rows = [{**row, "labels": [-100, *row["labels"][1:]]} for row in rows_for(LlamaForCausalLM, 40)]
    settings = {"learning_rate": 1e-3, "gradient_accumulation_steps": 3}
    theirs, _ = their_losses(reference, LlamaForCausalLM, tmp_path, rows, 50, **settings)
    ours = trainer(
        tmp_path / "ours", LlamaForCausalLM, train_dataset=rows, max_steps=50, train_sampling_strategy="sequential",
        **settings,
    )  # fmt: skip
    ours.train()
    assert losses(ours) == pytest.approx([e["loss"] for e in theirs], abs=1e-4)
    rates = [e["learning_rate"] for e in ours.state.log_history if "learning_rate" in e]
    assert rates == pytest.approx([e["learning_rate"] for e in theirs], abs=1e-12)


def test_schedules_and_adafactor_are_the_references(reference):
    def curve(library, name, warmup, settings):
        some = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.3)
        schedule = library.get_scheduler(name, some, warmup, 24, copy.deepcopy(settings))
        rates = []
        for _ in range(30):
            rates.append(some.param_groups[0]["lr"])
            some.step(), schedule.step()
        return rates

    more = {"cosine_with_min_lr": {"min_lr": 0.01}, "cosine_warmup_with_min_lr": {"min_lr_rate": 0.1},
            "warmup_stable_decay": {"num_decay_steps": 6, "warmup_type": "cosine"}}  # fmt: skip
    for name in SCHEDULES.keys() - {"reduce_lr_on_plateau"}:
        for warmup in (0, 5):
            expected = curve(reference, name, warmup, more.get(name))
            assert curve(optim, name, warmup, more.get(name)) == pytest.approx(expected, abs=1e-12), name

    def changed(kind, **settings):
        torch.manual_seed(0)
        some = [torch.nn.Parameter(torch.randn(shape)) for shape in ((4, 5), (5,), (2, 3, 4))]
        made = kind(some, **settings)
        for _ in range(20):
            for weight in some:
                weight.grad = torch.randn_like(weight)
            made.step()
        return some

    for settings in (
        {},
        {"warmup_init": True},
        {"beta1": 0.9, "lr": 1e-2, "relative_step": False, "weight_decay": 0.1},
    ):
        for ours, theirs in zip(
            changed(optim.Adafactor, **settings), changed(reference.Adafactor, **settings), strict=True
        ):
            torch.testing.assert_close(ours, theirs, atol=1e-6, rtol=1e-6)


def test_the_same_parameters_decay(reference):
    theirs = reference.Trainer.__new__(reference.Trainer)
    for kind in (BertForSequenceClassification, LlamaForCausalLM):
        model = make(kind)
        names = {id(p): name for name, p in model.named_parameters()}
        ours = {names[id(p)] for p in parameter_groups(model, 0.1)[0]["params"]}
        assert ours == set(theirs.get_decay_parameter_names(model)) & set(names.values())


def test_collators_are_the_references(reference, tmp_path):
    from plainformers import AutoTokenizer

    ours = AutoTokenizer.from_pretrained("plainformers/sentiment-english")
    ours.save_pretrained(tmp_path)
    theirs = reference.AutoTokenizer.from_pretrained(tmp_path)
    texts = ["A wonderful film with a twist.", "No.", "The plot is thin and so on."]
    rows = [dict(ours(text)) for text in texts]
    labelled = [{**row, "labels": list(range(len(row["input_ids"])))} for row in rows]
    even = [{"input_ids": row["input_ids"]} for row in rows if len(row["input_ids"]) % 2 == 0] * 2
    assert even
    cases = [
        (DataCollatorForTokenClassification, {}, labelled),
        (DataCollatorForLanguageModeling, {"mlm": False}, rows),
        (DataCollatorForPermutationLanguageModeling, {}, even),
    ]
    for kind, settings, given in cases:
        found = []
        for library_kind, tokenizer in ((kind, ours), (getattr(reference, kind.__name__), theirs)):
            torch.manual_seed(3)
            found.append(library_kind(tokenizer, **settings)(copy.deepcopy(given)))
        for name in found[0].keys() & found[1].keys():
            assert torch.equal(found[0][name], found[1][name]), (kind.__name__, name)
        assert found[0].keys() >= set(found[1].keys()) - {"token_type_ids"}
    flat = [
        kind(return_seq_idx=True)(copy.deepcopy(labelled))
        for kind in (DataCollatorWithFlattening, reference.DataCollatorWithFlattening)
    ]
    for name in flat[1]:
        assert torch.equal(flat[0][name], flat[1][name]), name


@pytest.mark.parametrize("name", CASES)
def test_peft_reads_our_adapters(name, reference, tmp_path):
    from peft import PeftModel

    model = base_model(CASES[name])
    model.save_pretrained(tmp_path / "base")
    config = {k: v for k, v in CASES[name]["config"].items() if (k, v) != ("bias", "lora_only")}  # PEFT loses those
    model.add_adapter(LoraConfig(**config))
    randomise(model)
    model.save_pretrained(tmp_path / "adapter")
    kind = getattr(reference, CASES[name]["kind"])
    theirs = PeftModel.from_pretrained(kind.from_pretrained(tmp_path / "base"), str(tmp_path / "adapter"))
    with torch.no_grad():
        torch.testing.assert_close(model(input_ids=IDS).logits, theirs(input_ids=IDS).logits, atol=1e-6, rtol=1e-5)
    with torch.no_grad():
        merged = theirs.merge_and_unload()(input_ids=IDS).logits
        torch.testing.assert_close(model.merge_adapter()(input_ids=IDS).logits, merged, atol=1e-6, rtol=1e-5)
