"""Adapters: what PEFT wrote gives PEFT's logits here and back; merged, trained, saved, refused."""

import copy
import json
import pickle
from pathlib import Path

import pytest
import torch
from adapter_cases import CASES, IDS, base_model, randomise
from safetensors.torch import load_file, save_file
from small import losses, make, rows_for, trainer

from plainformers import BertForSequenceClassification, LlamaForCausalLM, LoraConfig, PeftModel, get_peft_model
from plainformers.lora import adapted_layers, read_adapter

FOLDER = Path(__file__).parents[1] / "data" / "adapters"
CLOSE = {"atol": 1e-6, "rtol": 1e-5}


def logits(model, ids=IDS):
    with torch.no_grad():
        return model(input_ids=ids).logits


@pytest.mark.parametrize("name", CASES)
def test_adapters_of_peft_give_its_logits(name, tmp_path):
    model, expected = base_model(CASES[name]), load_file(FOLDER / name / "logits.safetensors")["logits"]
    plain = logits(model)
    model.load_adapter(FOLDER / name)
    torch.testing.assert_close(logits(model), expected, **CLOSE)
    assert (expected - plain).abs().max() > 0.001
    model.disable_adapters()
    if name != "bert":  # whose classifier and biases are trained whole
        torch.testing.assert_close(logits(model), plain, **CLOSE)
    model.enable_adapters()
    # what is saved is what was read, and is read again
    model.save_pretrained(tmp_path)
    theirs, ours = (
        load_file(FOLDER / name / "adapter_model.safetensors"),
        load_file(tmp_path / "adapter_model.safetensors"),
    )
    assert all(torch.equal(theirs[n], ours[n]) for n in theirs)
    assert all(n.endswith("base_layer.bias") for n in ours.keys() - theirs.keys())
    config = json.loads((tmp_path / "adapter_config.json").read_text())
    before = json.loads((FOLDER / name / "adapter_config.json").read_text())
    for key, value in before.items():
        same = sorted(value) == sorted(config[key]) if isinstance(value, list) else value == config[key]
        assert same or key in ("base_model_name_or_path", "modules_to_save"), key
    other = PeftModel.from_pretrained(base_model(CASES[name]), tmp_path)
    torch.testing.assert_close(logits(other), expected, **CLOSE)
    # and in the weights
    other.merge_adapter()
    torch.testing.assert_close(logits(other), expected, atol=1e-5, rtol=1e-4)
    assert not adapted_layers(other) and other.state_dict().keys() == base_model(CASES[name]).state_dict().keys()
    with pytest.raises(ValueError, match="no adapter to merge"):
        other.merge_adapter()


def test_only_the_adapter_is_trained(tmp_path):
    model = make(LlamaForCausalLM)
    before = {name: p.clone() for name, p in model.named_parameters()}
    get_peft_model(model, LoraConfig(r=2, target_modules="all-linear"))
    assert not any("lm_head" in name for name in adapted_layers(model))
    trained = {name for name, p in model.named_parameters() if p.requires_grad}
    assert trained and all(".lora_" in name for name in trained)
    some = trainer(tmp_path, LlamaForCausalLM, model=model, learning_rate=1e-2, max_steps=24)
    some.train()
    assert sum(losses(some)[-6:]) < sum(losses(some)[:6])
    for name, tensor in before.items():
        assert torch.equal(model.get_parameter(name), tensor)
    assert model.num_parameters(only_trainable=True) == sum(p.numel() for p in model.parameters() if p.requires_grad)


def test_a_run_with_an_adapter_goes_on_where_it_was(tmp_path):
    def run(folder, resume=None):
        model = make(BertForSequenceClassification)
        torch.manual_seed(3)
        model.add_adapter(LoraConfig(r=2, task_type="SEQ_CLS", lora_dropout=0.1))
        some = trainer(folder, model=model, save_strategy="steps", save_steps=2, learning_rate=1e-2, max_steps=6)
        some.train(resume)
        return some

    whole = run(tmp_path / "whole")
    again = run(tmp_path / "again", str(tmp_path / "whole" / "checkpoint-2"))
    assert losses(again) == losses(whole)
    for name, tensor in whole.model.state_dict().items():
        assert torch.equal(tensor, again.model.state_dict()[name])
    names = load_file(tmp_path / "whole" / "checkpoint-2" / "adapter_model.safetensors")
    assert all(".lora_" in name or "classifier" in name for name in names)
    loaded = PeftModel.from_pretrained(make(BertForSequenceClassification), tmp_path / "whole" / "checkpoint-6")
    ids = torch.tensor([rows_for(BertForSequenceClassification)[0]["input_ids"]])
    torch.testing.assert_close(logits(loaded.eval(), ids), logits(whole.model.eval(), ids), **CLOSE)


def test_several_adapters_are_chosen_and_taken_out():
    model = base_model(CASES["llama"])
    plain = logits(model)
    for name in ("one", "two"):
        model.add_adapter(LoraConfig(r=2, init_lora_weights=False), name)
    randomise(model)
    both = {}
    for chosen in ("one", "two", ["one", "two"]):
        model.set_adapter(chosen)
        both[str(chosen)] = logits(model)
    assert model.active_adapters() == ["one", "two"]
    assert len({round(x.sum().item(), 4) for x in both.values()}) == 3
    assert {n for n, p in model.named_parameters() if p.requires_grad} == {
        n for n, _ in model.named_parameters() if "lora" in n
    }
    model.set_adapter("two")
    model.delete_adapter("one")
    torch.testing.assert_close(logits(model), both["two"], **CLOSE)
    model.delete_adapter("two")
    assert not adapted_layers(model)
    randomise(model)
    torch.testing.assert_close(logits(model), plain, **CLOSE)


def test_models_with_adapters_copy_pickle_checkpoint_and_compile():
    model = base_model(CASES["gpt2"])
    model.add_adapter(LoraConfig(r=2, init_lora_weights=False))
    expected = logits(model)
    for other in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        torch.testing.assert_close(logits(other), expected, **CLOSE)
        assert other.adapters.keys() == {"default"} and len(adapted_layers(other)) == 2
    compiled = torch.compile(model, fullgraph=True, backend="eager")
    torch.testing.assert_close(logits(compiled), expected, **CLOSE)
    model.prepare()  # faster layers leave adapted ones alone
    with torch.inference_mode():
        torch.testing.assert_close(model(input_ids=IDS).logits, expected, atol=1e-5, rtol=1e-4)
    model.train().gradient_checkpointing_enable()
    model(input_ids=IDS, labels=IDS).loss.backward()
    assert all(p.grad is not None for n, p in model.named_parameters() if "lora" in n)


def test_what_is_wrong_is_named(tmp_path):
    model = base_model(CASES["llama"])
    for settings, words in [
        ({"target_modules": ["q_prj"]}, r"names no layer .*Did you mean 'q_proj'.*end in \['down_proj'"),
        ({"r": 0}, "r and all of rank_pattern must be 1 or more"),
        ({"peft_type": "IA3"}, "peft_type is 'IA3'; only LORA"),
        ({"bias": "some"}, "bias must be"),
        ({"init_lora_weights": "pissa"}, "init_lora_weights must be"),
        ({"extra": {"use_dora": True}}, "use_dora: DoRA is not here"),
        ({"modules_to_save": ["nothing"]}, r"modules_to_save names \['nothing'\]"),
    ]:
        with pytest.raises(ValueError, match=words):
            model.add_adapter(LoraConfig(**settings))
    assert not adapted_layers(model)
    model.add_adapter()
    with pytest.raises(ValueError, match="'default' is no name, or an adapter's already"):
        model.add_adapter()
    with pytest.raises(ValueError, match="no adapter 'defalt'. Did you mean 'default'"):
        model.set_adapter("defalt")
    with pytest.raises(ValueError, match="is the adapter of another model: .*unknown here"):
        model.load_adapter(FOLDER / "qwen2", "other") if False else base_model(CASES["bert"]).load_adapter(
            _bent(tmp_path)
        )
    (tmp_path / "empty").mkdir()
    with pytest.raises(FileNotFoundError, match="one is missing"):
        model.load_adapter(tmp_path / "empty", "more")
    (tmp_path / "empty" / "adapter_model.bin").write_bytes(b"")
    with pytest.raises(FileNotFoundError, match="A pickle .adapter_model.bin. is not read"):
        model.load_adapter(tmp_path / "empty", "more")


def _bent(folder: Path) -> Path:
    """PEFT's adapter of bert with a tensor that the model has not."""
    out = folder / "bent"
    out.mkdir()
    config, tensors = read_adapter(FOLDER / "bert")
    save_file(
        {**tensors, "base_model.model.bert.more.lora_A.weight": torch.ones(1, 1)}, out / "adapter_model.safetensors"
    )
    (out / "adapter_config.json").write_text(json.dumps(config.to_dict()))
    return out
