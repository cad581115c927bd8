"""Model: what from_pretrained is asked for, what it refuses, what saving writes, and what can be changed."""

import json
import os
import subprocess
import sys
import textwrap
import time

import pytest
import torch
from models.zoo import BERT, DISTILBERT, draw_weight
from safetensors.torch import load_file, save_file
from torch import nn

from plainformers import (
    AutoModel,
    AutoModelForMaskedLM,
    AutoModelForSequenceClassification,
    BertConfig,
    BertForMaskedLM,
    BertForSequenceClassification,
    BertModel,
    DistilBertConfig,
    DistilBertForMaskedLM,
    Packed,
    logging,
)

IDS = torch.tensor([[5, 9, 11, 3], [7, 8, 1, 2]])


def drawn(model):
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            parameter.copy_(draw_weight(name, tuple(parameter.shape)))
    return model.eval()


def masked(**fields):
    return drawn(BertForMaskedLM(BertConfig(**BERT | fields)))


@pytest.fixture
def folder(tmp_path):
    masked().save_pretrained(tmp_path / "bert")
    return tmp_path / "bert"


@pytest.fixture
def said(monkeypatch):
    """What was logged."""
    lines = []
    monkeypatch.setattr(logging, "_said", set())
    monkeypatch.setattr(logging._ROOT, "handle", lambda record: lines.append(record.getMessage()))
    level = logging.get_verbosity()
    logging.set_verbosity_info()
    yield lines
    logging.set_verbosity(level)


def change_config(folder, **fields):
    values = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(values | fields))
    return folder


# ---- What is asked for


def test_dtypes(folder):
    want = BertForMaskedLM.from_pretrained(folder)
    assert want.dtype == torch.float32
    for asked in ("bfloat16", "torch.bfloat16", torch.bfloat16):
        for keyword in ("dtype", "torch_dtype"):
            for kind in (AutoModelForMaskedLM, BertForMaskedLM):
                model = kind.from_pretrained(folder, **{keyword: asked})
                for name, tensor in model.state_dict().items():
                    assert torch.equal(tensor, want.state_dict()[name].bfloat16()), name
    assert BertForMaskedLM.from_pretrained(folder, dtype="auto").dtype == torch.float32
    change_config(folder, dtype="bfloat16")
    for asked in ({}, {"dtype": "auto"}, {"torch_dtype": "auto"}, {"dtype": None}):
        assert BertForMaskedLM.from_pretrained(folder, **asked).dtype == torch.bfloat16
    assert BertForMaskedLM.from_pretrained(folder, dtype="float32").dtype == torch.float32
    change_config(folder, dtype=None)
    want.bfloat16().save_pretrained(folder)
    change_config(folder, dtype=None)
    assert BertForMaskedLM.from_pretrained(folder).dtype == torch.bfloat16, "the first tensor's"
    for bad in ("float8_e4m3fn", "int8", "load", "float33", 7, torch.int64, ["bfloat16"]):
        with pytest.raises(ValueError, match="dtype must be 'auto' or one of float32, float16, bfloat16, float64, got"):
            BertForMaskedLM.from_pretrained(folder, dtype=bad)
    with pytest.raises(ValueError, match=".*bert: the config's dtype must be 'auto' or one of"):
        BertForMaskedLM.from_pretrained(change_config(folder, dtype="evil"))
    with pytest.raises(TypeError, match="'dtype' twice"):
        BertForMaskedLM.from_pretrained(folder, dtype="float32", torch_dtype="bfloat16")


def test_float16_on_a_cpu_becomes_float32_and_is_said_once(folder, said):
    want = BertForMaskedLM.from_pretrained(folder).half()
    want.save_pretrained(folder)
    for _ in range(2):
        model = BertForMaskedLM.from_pretrained(folder)
    assert model.dtype == torch.float32
    assert torch.equal(model.cls.predictions.bias, want.cls.predictions.bias.float())
    assert [line for line in said if "stored in float16" in line] == said and len(said) == 1
    assert BertForMaskedLM.from_pretrained(folder, dtype="float16").dtype == torch.float16 and len(said) == 1


def test_some_tensors_stay_in_float32(folder):
    class Careful(BertForMaskedLM):
        keep_float32 = (r"LayerNorm",)

    model = Careful.from_pretrained(folder, dtype="bfloat16")
    for name, tensor in model.state_dict().items():
        assert tensor.dtype == (torch.float32 if "LayerNorm" in name else torch.bfloat16), name


def test_devices(folder):
    for device in (None, "cpu", "auto", {"": "cpu"}, torch.device("cpu"), "balanced", "sequential"):
        assert BertForMaskedLM.from_pretrained(folder, device_map=device).device.type in ("cpu", "cuda", "mps")
    for bad, message in (
        ({"bert": 0, "cls": 1}, "device_map must name one device for the whole model"),
        ({}, "device_map must name one device"),
        ("gpu", "'gpu' is no device; there are 'auto', 'cpu', 'cuda'"),
        (3.5, "3.5 is no device"),
        (["cpu"], "is no device"),
        ("meta", "'meta' keeps no weights"),
        ("cuda:99", "cuda:99 was asked for, but this PyTorch cannot use it .* Use 'cpu' or 'auto'"),
    ):
        with pytest.raises(ValueError, match=message):
            BertForMaskedLM.from_pretrained(folder, device_map=bad)


@pytest.mark.skipif(torch.cuda.is_available(), reason="needs a machine without CUDA")
def test_a_device_that_is_not_there(folder):
    for device in ("cuda", "cuda:0", 0, {"": 0}, torch.device("cuda")):
        with pytest.raises(ValueError, match="cuda.* was asked for, but this PyTorch cannot use it"):
            AutoModel.from_pretrained(folder, device_map=device)


def test_attention_is_chosen_by_the_call_only(folder):
    eager = BertForMaskedLM.from_pretrained(folder, attn_implementation="eager")
    assert eager.config.attn_implementation == "eager"
    eager.save_pretrained(folder)
    assert "eager" not in (folder / "config.json").read_text()
    model = BertForMaskedLM.from_pretrained(
        change_config(folder, _attn_implementation="a/b", attn_implementation="a/b")
    )
    assert model.config.attn_implementation == "sdpa"
    torch.testing.assert_close(model(IDS).logits, eager(IDS).logits, atol=1e-6, rtol=1e-5)
    model.set_attn_implementation("nonsense")
    with pytest.raises(ValueError, match="kernel 'nonsense' is not known; there are eager, sdpa, varlen"):
        model(IDS)


def test_names_are_mapped_by_the_call(folder):
    state = load_file(folder / "model.safetensors")
    save_file({f"wrapped.{name}": tensor for name, tensor in state.items()}, folder / "model.safetensors")
    with pytest.raises(ValueError, match="lacks .* tensors of BertForMaskedLM"):
        BertForMaskedLM.from_pretrained(folder)
    model, info = BertForMaskedLM.from_pretrained(folder, key_mapping={r"^wrapped\.": ""}, output_loading_info=True)
    assert not info["missing_keys"] and not info["unexpected_keys"]
    assert torch.equal(model.cls.predictions.bias, state["cls.predictions.bias"])


def test_a_state_dict_stays_the_callers(folder):
    state = {name: tensor.clone() for name, tensor in masked().state_dict().items()}
    before = {name: tensor.clone() for name, tensor in state.items()}
    for given in (state, {name: nn.Parameter(tensor) for name, tensor in state.items()}):
        model = BertForMaskedLM.from_pretrained(folder, state_dict=given)
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.add_(1)
        assert all(torch.equal(given[name], tensor) for name, tensor in before.items())
    with pytest.raises(ValueError, match="Without a name, from_pretrained needs a config and a state_dict"):
        BertModel.from_pretrained(None, state_dict=state)
    with pytest.raises(ValueError, match="state_dict holds more than plain tensors.*'x' .int"):
        BertModel.from_pretrained(folder, state_dict={"x": 3})


# ---- What is refused


def test_missing_weights_are_an_error(folder):
    state = load_file(folder / "model.safetensors")
    lost = ["bert.encoder.layer.0.output.dense.bias", "bert.embeddings.LayerNorm.weight"]
    kept = {name: tensor for name, tensor in state.items() if name not in lost}
    save_file(kept | {"stranger": torch.zeros(1)}, folder / "model.safetensors")
    with pytest.raises(ValueError, match="lacks 2 tensors of BertForMaskedLM") as error:
        BertForMaskedLM.from_pretrained(folder)
    assert all(name in str(error.value) for name in (*lost, "stranger", str(folder)))
    save_file({"stranger": torch.zeros(1)}, folder / "model.safetensors")
    with pytest.raises(ValueError, match="num_hidden_layers 2; the checkpoint, of 1 tensors, cannot hold that"):
        BertForMaskedLM.from_pretrained(folder)


def test_unused_tensors_are_reported(folder, said):
    state = load_file(folder / "model.safetensors")
    save_file(state | {"stranger": torch.zeros(1)}, folder / "model.safetensors")
    _, info = BertForMaskedLM.from_pretrained(folder, output_loading_info=True)
    assert info["unexpected_keys"] == {"stranger"}
    assert len(said) == 1 and "not used from the checkpoint: stranger" in said[0]
    AutoModelForSequenceClassification.from_pretrained(folder, num_labels=3)
    new = [line for line in said if "new weights were drawn for" in line]
    assert len(new) == 1 and "classifier.weight" in new[0] and "Train them" in new[0]


def test_heads_of_the_family_are_left_out_quietly_and_strangers_are_not(folder, said):
    logging.set_verbosity_warning()
    BertModel.from_pretrained(folder)  # leaves cls.* out
    assert [line for line in said if "not used" in line] == []
    save_file(load_file(folder / "model.safetensors") | {"stranger": torch.zeros(1)}, folder / "model.safetensors")
    BertModel.from_pretrained(folder)
    assert len([line for line in said if "not used" in line and "stranger" in line]) == 1


def test_unknown_quantisation_is_refused(folder):
    for quantization in ({"quant_method": "gptq", "bits": 4}, {"quant_method": "bitsandbytes"}, {"load_in_8bit": True}):
        with pytest.raises(ValueError, match="asks for quantisation by .* not supported here"):
            BertForMaskedLM.from_pretrained(folder, quantization_config=quantization)
        change_config(folder, quantization_config=quantization)
        with pytest.raises(ValueError, match="asks for quantisation by"):
            AutoModel.from_pretrained(folder)
        change_config(folder, quantization_config=None)
    BertForMaskedLM.from_pretrained(folder)
    with pytest.raises(TypeError, match="no argument 'load_in_8bit'"):
        BertForMaskedLM.from_pretrained(folder, load_in_8bit=True)
    with pytest.raises(ValueError, match="asks for quantisation"):
        AutoModel.from_pretrained(change_config(folder, quantization_config="fp8"))


HUGE = [
    ({"num_hidden_layers": 10**12}, "num_hidden_layers must be between 0 and 10000"),
    ({"num_hidden_layers": 9999}, "num_hidden_layers 9999; the checkpoint, of .* tensors, cannot hold that"),
    ({"num_hidden_layers": 20}, "lacks .* tensors of BertModel: encoder.layer.2."),
    ({"vocab_size": 10**12}, "vocab_size must be between"),
    ({"vocab_size": 2**31 - 1}, r"word_embeddings.weight: \[61, 16\] in the checkpoint, \[2147483647, 16\] here"),
    ({"hidden_size": 2**31 - 4}, "does not fit|no BertModel can be made"),
    ({"intermediate_size": 2**31 - 1}, "does not fit"),
    ({"max_position_embeddings": 2**31 - 1}, "does not fit"),
]


@pytest.mark.parametrize(("fields", "message"), HUGE, ids=lambda x: str(x)[:30])
def test_huge_sizes_are_refused_before_allocation(fields, message, folder):
    BertForMaskedLM.from_pretrained(folder)  # what is needed once
    change_config(folder, **fields)
    before, started = memory("VmHWM"), time.perf_counter()
    with pytest.raises(ValueError, match=message) as error:
        BertModel.from_pretrained(folder)
    assert time.perf_counter() - started < 1 and memory("VmHWM") - before < 50 * 2**20
    assert str(folder) in str(error.value)


def test_huge_heads_are_refused_before_allocation(tmp_path):
    config = BertConfig(**BERT | {"hidden_size": 256, "num_hidden_layers": 1})
    BertModel(config).save_pretrained(tmp_path)
    change_config(tmp_path, num_labels=100_000)  # names no labels, so that the file stays small
    with pytest.raises(ValueError, match="asks for 102,800,000 bytes of new weights .*classifier.weight"):
        AutoModelForSequenceClassification.from_pretrained(tmp_path)
    with pytest.raises(ValueError, match="num_labels must be a number from 0 to 100000; more are named by id2label"):
        AutoModel.from_pretrained(change_config(tmp_path, num_labels=100_001))


def test_a_missing_folder_or_file(tmp_path, folder):
    with pytest.raises(FileNotFoundError, match="'.*bertt' does not exist. In .* did you mean 'bert'"):
        BertModel.from_pretrained(tmp_path / "bertt")
    (folder / "model.safetensors").rename(folder / "weights.h5")
    with pytest.raises(FileNotFoundError, match="no weights: looked for model.safetensors, .*config.json, weights.h5"):
        BertModel.from_pretrained(folder)
    with pytest.raises(NotADirectoryError, match="is a file. Give the model's folder"):
        BertModel.from_pretrained(folder / "config.json")
    with pytest.raises(FileNotFoundError, match="no folder 'inner'"):
        BertModel.from_pretrained(folder, subfolder="inner")


# ---- What is drawn


def test_nothing_is_left_uninitialised(folder, monkeypatch):
    """Memory that torch hands out unwritten is poisoned; none of it may show."""
    real = torch.empty

    def poisoned(*args, **keywords):
        tensor = real(*args, **keywords)
        return tensor.fill_(torch.nan) if tensor.is_floating_point() and not tensor.is_meta else tensor

    monkeypatch.setattr(torch, "empty", poisoned)
    assert torch.empty(2).isnan().all()
    for kind in (BertModel, BertForSequenceClassification, BertForMaskedLM):
        loaded = kind.from_pretrained(folder)
        made = kind(loaded.config)
        for model in (loaded, made):
            assert all(tensor.isfinite().all() and not tensor.is_meta for tensor in model.state_dict().values())
    model.resize_token_embeddings(70)
    assert all(tensor.isfinite().all() for tensor in model.state_dict().values())


def test_drawn_weights_follow_the_config(tmp_path):
    state = drawn(BertModel(BertConfig(**BERT), add_pooling_layer=False)).state_dict()
    for deviation in (0.02, 0.5):
        config = BertConfig(**BERT, initializer_range=deviation, num_labels=64)
        model = BertForSequenceClassification.from_pretrained(None, config=config, state_dict=state)
        for layer in (model.classifier, model.bert.pooler.dense):
            assert 0.8 < layer.weight.std() / deviation < 1.2 and (layer.bias == 0).all()
        model = BertForMaskedLM.from_pretrained(None, config=config, state_dict=state)
        assert model.cls.predictions.decoder.weight is model.bert.embeddings.word_embeddings.weight
        assert (model.cls.predictions.transform.LayerNorm.weight == 1).all()
        assert (
            model.cls.predictions.bias == 0
        ).all() and model.cls.predictions.bias is model.cls.predictions.decoder.bias
        for name, tensor in model.bert.state_dict().items():
            assert torch.equal(tensor, state[name]), name


def test_one_part_of_a_module_may_be_drawn(folder):
    state = load_file(folder / "model.safetensors")
    state = {"bert." + k.removeprefix("bert."): v for k, v in state.items() if k.startswith("bert.")}
    state["classifier.weight"] = torch.ones(2, 16)
    save_file(state, folder / "model.safetensors")
    model, info = BertForSequenceClassification.from_pretrained(folder, output_loading_info=True)
    assert {n for n in info["missing_keys"] if "classifier" in n} == {"classifier.bias"}
    assert (model.classifier.weight == 1).all() and (model.classifier.bias == 0).all()


# ---- Saving


def test_a_round_trip_changes_nothing(folder, tmp_path):
    change_config(folder, note={"a": [1]}, _name_or_path="x", torch_dtype="float32")
    values = json.loads((folder / "config.json").read_text())
    model = BertForMaskedLM.from_pretrained(folder)
    model.save_pretrained(tmp_path / "again")
    assert json.loads((tmp_path / "again/config.json").read_text()) == values
    old, new = load_file(folder / "model.safetensors"), load_file(tmp_path / "again/model.safetensors")
    assert old.keys() == new.keys() and all(torch.equal(old[name], new[name]) for name in old)
    model.bfloat16().save_pretrained(tmp_path / "again")
    changed = json.loads((tmp_path / "again/config.json").read_text())
    assert changed == values | {"dtype": "bfloat16", "torch_dtype": "bfloat16"}


def test_shards_and_their_index(tmp_path):
    model = masked()
    model.save_pretrained(tmp_path, max_shard_size="4KB")
    index = json.loads((tmp_path / "model.safetensors.index.json").read_text())
    names = sorted(path.name for path in tmp_path.glob("*.safetensors"))
    n = len(names)
    assert n > 3 and names == [f"model-{i:05}-of-{n:05}.safetensors" for i in range(1, n + 1)]
    stored = {}
    for name in names:
        part = load_file(tmp_path / name)
        assert sum(t.nbytes for t in part.values()) <= 4000 or len(part) == 1
        assert all(index["weight_map"][tensor] == name for tensor in part)
        stored |= part
    parameters = {id(p): p for p in model.parameters()}.values()
    assert index["metadata"] == {
        "total_parameters": sum(p.numel() for p in parameters),
        "total_size": sum(p.nbytes for p in parameters),
    }
    assert index["weight_map"].keys() == stored.keys()
    again = BertForMaskedLM.from_pretrained(tmp_path)
    assert all(torch.equal(tensor, model.state_dict()[name]) for name, tensor in again.state_dict().items())


def test_saving_over_another_layout(tmp_path):
    model = masked()
    (tmp_path / "tokenizer.json").write_text("{}")
    for size, files in (("8KB", None), ("1GB", {"model.safetensors"}), ("4KB", None), ("8KB", None)):
        model.save_pretrained(tmp_path, max_shard_size=size)
        names = {path.name for path in tmp_path.iterdir()} - {"config.json", "tokenizer.json"}
        if files is None:
            index = json.loads((tmp_path / "model.safetensors.index.json").read_text())
            files = {"model.safetensors.index.json", *index["weight_map"].values()}
        assert names == files
        with torch.no_grad():
            model.cls.predictions.bias.add_(1)
    assert (tmp_path / "tokenizer.json").exists()


def test_variants(tmp_path):
    model = masked()
    model.save_pretrained(tmp_path)
    with torch.no_grad():
        model.cls.predictions.bias.fill_(7)
    model.save_pretrained(tmp_path, variant="new", max_shard_size="8KB")
    assert (tmp_path / "model.safetensors.index.new.json").exists()
    n = len(list(tmp_path.glob("model.new-*")))
    assert n > 1 and (tmp_path / f"model.new-00001-of-{n:05}.safetensors").exists()
    assert (BertForMaskedLM.from_pretrained(tmp_path, variant="new").cls.predictions.bias == 7).all()
    assert not (BertForMaskedLM.from_pretrained(tmp_path).cls.predictions.bias == 7).any()
    with pytest.raises(ValueError, match="variant must be a word such as 'fp16'"):
        model.save_pretrained(tmp_path, variant="../x")


def test_saving_into_the_folder_that_is_mapped(folder):
    model = BertForMaskedLM.from_pretrained(folder)
    want = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    for size in ("1GB", "8KB", "1GB"):
        model.save_pretrained(folder, max_shard_size=size)
        again = BertForMaskedLM.from_pretrained(folder)
        for name, tensor in want.items():
            assert torch.equal(tensor, model.state_dict()[name]) and torch.equal(tensor, again.state_dict()[name])
        model = again


def test_other_ways_to_save(tmp_path):
    model = masked()
    with pytest.raises(ValueError, match="Only safetensors is written"):
        model.save_pretrained(tmp_path, safe_serialization=False)
    (tmp_path / "file").write_text("")
    with pytest.raises(ValueError, match="is a file; save_pretrained needs a folder"):
        model.save_pretrained(tmp_path / "file")
    model.save_pretrained(tmp_path / "none", is_main_process=False)
    assert not (tmp_path / "none").exists()
    model.save_pretrained(tmp_path / "a", save_function=torch.save)
    assert (tmp_path / "a/model.safetensors").exists()
    state = {name: tensor + 1 for name, tensor in model.state_dict().items()}
    model.save_pretrained(tmp_path / "b", state_dict=state)
    stored = load_file(tmp_path / "b/model.safetensors")
    assert all(torch.equal(tensor, state[name]) for name, tensor in stored.items())
    deep = tmp_path / "模型 🙂" / ("x" * 200) / ("y" * 200)
    model.save_pretrained(deep)
    assert torch.equal(BertForMaskedLM.from_pretrained(deep)(IDS).logits, model(IDS).logits)


def test_a_folder_that_may_not_be_written(folder, monkeypatch):
    model = BertForMaskedLM.from_pretrained(folder)
    before = {path.name: path.read_bytes() for path in folder.iterdir()}

    def refuse(*args, **keywords):
        raise PermissionError(13, "Permission denied")

    with monkeypatch.context() as patch:  # root may write everywhere, so that the mode alone would test nothing
        patch.setattr("pathlib.Path.mkdir", refuse)
        patch.setattr("os.rename", refuse)
        with pytest.raises(PermissionError):
            model.save_pretrained(folder / "new")
    with monkeypatch.context() as patch:
        patch.setattr(os, "mkdir", refuse)
        with pytest.raises(OSError, match="cannot be written .*Permission denied.*; nothing was changed"):
            model.save_pretrained(folder)
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before
    BertForMaskedLM.from_pretrained(folder)


# ---- Inputs


@pytest.fixture(scope="module")
def model():
    return masked()


@pytest.fixture(scope="module")
def classifier():
    return drawn(BertForSequenceClassification(BertConfig(**BERT, num_labels=3)))


def test_names_of_arguments(model, classifier):
    with pytest.raises(
        TypeError, match="BertForMaskedLM.forward has no argument 'atention_mask'. Did you mean 'attention_mask'"
    ):
        model(IDS, atention_mask=torch.ones(2, 4))
    with pytest.raises(TypeError, match="no argument 'foo'"):
        model(IDS, foo=1)
    want = model(IDS, labels=IDS)
    assert torch.equal(model(IDS, masked_lm_labels=IDS).loss, want.loss), "a spelling of version 2"
    assert torch.equal(model(IDS, cache_position=None, num_items_in_batch=4).logits, want.logits)
    with pytest.raises(TypeError, match="twice"):
        model(IDS, labels=IDS, lm_labels=IDS)
    out = model(IDS, return_dict=False)
    assert type(out) is tuple and torch.equal(out[0], want.logits)
    distil = drawn(DistilBertForMaskedLM(DistilBertConfig(**DISTILBERT)))
    assert torch.equal(distil(IDS, token_type_ids=IDS * 0).logits, distil(IDS).logits)


BAD_INPUTS = [
    (
        {"input_ids": torch.tensor([[5, 61]])},
        ValueError,
        r"input_ids\[0, 1\] is 61; in this model, ids of the vocabulary go from 0 to 60",
    ),
    ({"input_ids": torch.tensor([[5, 6], [-1, 2]])}, ValueError, r"input_ids\[1, 0\] is -1"),
    (
        {"input_ids": torch.ones(1, 13, dtype=torch.int64)},
        ValueError,
        "13 tokens long; this model has 12 positions. Cut it",
    ),
    (
        {"input_ids": IDS, "token_type_ids": IDS},
        ValueError,
        r"token_type_ids\[0, 0\] is 5; in this model, token types go from 0 to 1",
    ),
    ({"input_ids": IDS, "position_ids": IDS + 9}, ValueError, "position_ids.* positions go from 0 to 11"),
    ({"input_ids": IDS.float()}, TypeError, r"input_ids must be integers .* got torch.float32 \[2, 4\]"),
    ({"input_ids": IDS.bool()}, TypeError, "input_ids must be integers"),
    ({"input_ids": IDS[0]}, TypeError, r"of shape \[B, T\], got torch.int64 \[4\]"),
    ({"input_ids": IDS[:, :0]}, ValueError, "there is no token"),
    ({"input_ids": {"input_ids": IDS}}, TypeError, r"got dict. Hand over its parts by name: model\(\*\*inputs\)"),
    ({"input_ids": "a text"}, TypeError, "input_ids must be a tensor, got str. A tokenizer makes one"),
    ({"input_ids": IDS.tolist()}, TypeError, "input_ids must be a tensor, got list"),
    ({"input_ids": IDS.numpy()}, TypeError, "input_ids must be a tensor, got ndarray"),
    ({}, ValueError, "exactly one of input_ids and inputs_embeds"),
    ({"input_ids": IDS, "inputs_embeds": torch.zeros(2, 4, 16)}, ValueError, "exactly one of input_ids"),
    ({"inputs_embeds": torch.zeros(2, 4, 15)}, ValueError, "do not fit"),
    ({"inputs_embeds": torch.zeros(4, 16)}, TypeError, r"inputs_embeds must be floats of shape \[B, T, C\]"),
    ({"inputs_embeds": IDS}, TypeError, r"inputs_embeds must be floats"),
    (
        {"input_ids": IDS, "attention_mask": torch.ones(2, 5)},
        ValueError,
        "attention_mask covers 5 tokens; there are 4",
    ),
    ({"input_ids": IDS, "attention_mask": torch.ones(3, 4)}, ValueError, "the numbers of rows differ"),
    ({"input_ids": IDS[:1], "attention_mask": torch.ones(2, 4)}, ValueError, "the numbers of rows differ"),
    ({"input_ids": IDS[:1], "token_type_ids": IDS * 0}, ValueError, "the numbers of rows differ"),
    ({"input_ids": IDS[:1], "position_ids": IDS * 0}, ValueError, "the numbers of rows differ"),
    ({"input_ids": IDS, "attention_mask": torch.ones(4)}, ValueError, r"attention_mask has shape \[4\]; allowed are"),
    ({"input_ids": IDS, "attention_mask": torch.ones(1, 1, 1, 1, 4)}, ValueError, "attention_mask has shape"),
    ({"input_ids": IDS, "attention_mask": [[1, 1, 1, 1]]}, TypeError, "attention_mask must be a tensor, got list"),
    ({"input_ids": IDS, "attention_mask": Packed((2, 2))}, ValueError, r"needs input of shape \[1, 4\], got \[2, 4\]"),
    ({"input_ids": IDS, "token_type_ids": torch.zeros(2, 3, dtype=torch.int64)}, ValueError, "do not fit"),
    ({"input_ids": IDS, "position_ids": torch.zeros(2, 3, dtype=torch.int64)}, ValueError, "do not fit"),
    ({"input_ids": IDS, "labels": IDS[:, :3]}, ValueError, r"labels have shape \[2, 3\]; the logits ask for \[2, 4\]"),
    ({"input_ids": IDS, "labels": IDS + 60}, ValueError, "labels hold .*, for which there is no logit .*-100 marks"),
    ({"input_ids": IDS, "labels": IDS.tolist()}, TypeError, "labels must be a tensor, got list"),
]


@pytest.mark.parametrize(("inputs", "kind", "message"), BAD_INPUTS, ids=range(len(BAD_INPUTS)))
def test_bad_inputs(inputs, kind, message, model):
    with pytest.raises(kind, match=message):
        model(**inputs)


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (torch.tensor([0, 3]), "labels hold 3, for which there is no logit .num_labels is 3"),
        (torch.tensor([0, -1]), "labels hold -1"),
        (torch.tensor([0, 1, 2]), r"labels have shape \[3\]; the logits ask for \[2\]"),
        (torch.zeros(2), r"multi_label_classification needs labels of shape \[2, 3\], got \[2\]"),
    ],
    ids=range(4),
)
def test_bad_labels(labels, message, classifier):
    with pytest.raises(ValueError, match=message):
        classifier(IDS, labels=labels)


def test_a_config_of_another_kind():
    with pytest.raises(
        TypeError, match="BertModel takes a BertConfig, got str. To load a checkpoint, call BertModel.from_pre"
    ):
        BertModel("bert-base-uncased")
    with pytest.raises(ValueError, match="hidden_act|activation"):
        BertModel(BertConfig(**BERT, hidden_act="nonsense"))


# ---- Looking and changing


def test_counting(model):
    embeddings = (61 + 12 + 2) * 16
    layer = 4 * (16 * 16 + 16) + 2 * 32 + 16 * 24 + 24 + 24 * 16 + 16
    head = 16 * 16 + 16 + 32 + 61
    assert model.num_parameters() == embeddings + 32 + 2 * layer + head
    assert model.num_parameters(exclude_embeddings=True) == model.num_parameters() - embeddings
    assert model.get_memory_footprint() == 4 * model.num_parameters()
    frozen = masked()
    frozen.base_model.requires_grad_(False)
    assert frozen.num_parameters(only_trainable=True) == head and frozen.base_model is frozen.bert
    assert model.device == torch.device("cpu") and model.dtype == torch.float32
    assert model.bert.base_model is model.bert and not model.can_generate()
    model(**model.dummy_inputs)
    frozen.tie_weights()
    assert frozen.get_output_embeddings().weight is frozen.get_input_embeddings().weight
    assert frozen.bert.get_output_embeddings() is None


@pytest.mark.parametrize("tied", [True, False], ids=["tied", "untied"])
@pytest.mark.parametrize("size", [70, 50, 61])
def test_resizing_the_vocabulary(tied, size, tmp_path):
    model = masked(tie_word_embeddings=tied)
    before = model(IDS).logits
    old = model.get_input_embeddings().weight.detach().clone()
    bias = model.get_output_embeddings().bias.detach().clone()
    new = model.resize_token_embeddings(size)
    head, n = model.get_output_embeddings(), min(size, 61)
    assert new is model.get_input_embeddings() and new.num_embeddings == model.config.vocab_size == size
    assert (head.weight is new.weight) == tied and head.out_features == size and model.cls.predictions.bias is head.bias
    assert torch.equal(new.weight[:n], old[:n]) and torch.equal(head.bias[:n], bias[:n])
    after = model(IDS).logits
    assert after.shape[-1] == size
    torch.testing.assert_close(after[..., :n], before[..., :n], atol=1e-6, rtol=1e-6)
    if size > 61:
        torch.testing.assert_close(new.weight[61:], old.mean(0).expand(9, -1))
        torch.testing.assert_close(head.bias[61:], bias.mean().expand(9))
    model.save_pretrained(tmp_path)
    again = BertForMaskedLM.from_pretrained(tmp_path)
    assert again.config.vocab_size == size
    torch.testing.assert_close(again(IDS).logits, after, atol=1e-6, rtol=1e-6)


def test_resizing_in_other_ways():
    model = masked(initializer_range=0.5)
    assert model.resize_token_embeddings(pad_to_multiple_of=32).num_embeddings == 64
    assert model.resize_token_embeddings() is model.get_input_embeddings()
    model.resize_token_embeddings(264, mean_resizing=False)
    assert 0.4 < model.get_input_embeddings().weight[64:].std() < 0.6
    base = drawn(BertModel(BertConfig(**BERT)))
    base.resize_token_embeddings(62)
    assert base.config.vocab_size == 62
    for bad in (0, -3, True, 2.5, "9"):
        with pytest.raises(ValueError, match="new_num_tokens must be a positive number"):
            model.resize_token_embeddings(bad)
    for bad in (0, -8, 1.5):
        with pytest.raises(ValueError, match="pad_to_multiple_of must be a positive number"):
            model.resize_token_embeddings(65, pad_to_multiple_of=bad)


def test_setting_embeddings(model):
    new = nn.Embedding(61, 16)
    other = masked()
    other.set_input_embeddings(new)
    assert other.bert.embeddings.word_embeddings is new is other.get_input_embeddings()
    other.tie_weights()
    assert other.get_output_embeddings().weight is new.weight
    head = nn.Linear(16, 61)
    other.set_output_embeddings(head)
    assert other.get_output_embeddings() is head and other.cls.predictions.bias is head.bias
    with pytest.raises(AttributeError, match="BertModel has no output embeddings"):
        other.bert.set_output_embeddings(head)


def test_gradients_of_frozen_models():
    model = masked()
    model.requires_grad_(False)
    assert not model(IDS).logits.requires_grad
    model.enable_input_require_grads()
    assert model(IDS).logits.requires_grad
    assert not model.is_gradient_checkpointing
    model.gradient_checkpointing_enable()
    assert model.is_gradient_checkpointing and model.bert.gradient_checkpointing
    model.gradient_checkpointing_disable()
    assert not model.is_gradient_checkpointing
    with pytest.raises(ValueError, match="Only use_reentrant=False"):
        model.gradient_checkpointing_enable({"use_reentrant": True})


# ---- Memory


def memory(field):
    """A value of this process's status, in bytes."""
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) * 1024 for line in status if line.startswith(field + ":"))


MEASURE = """
import sys, json, torch
torch.set_num_threads(1)
from plainformers import BertModel
from test_model import memory
BertModel.from_pretrained(sys.argv[2])  # what is needed once
before = memory("VmHWM")
model = BertModel.from_pretrained(sys.argv[1], **json.loads(sys.argv[3]))
total = sum(p.sum().item() for p in model.parameters())  # every page is looked at
print(memory("VmHWM") - before)
"""


@pytest.mark.slow
@pytest.mark.skipif(not os.path.exists("/proc/self/status"), reason="reads Linux's /proc")
def test_loading_takes_no_more_memory_than_the_model(tmp_path):
    fields = BERT | {"vocab_size": 20_000, "hidden_size": 1024, "intermediate_size": 4096, "num_hidden_layers": 2}
    big = BertModel(BertConfig(**fields))
    size = big.get_memory_footprint()
    assert 150e6 < size < 250e6
    big.save_pretrained(tmp_path / "single")
    big.save_pretrained(tmp_path / "shards", max_shard_size="20MB")
    masked().save_pretrained(tmp_path / "tiny")
    torch.save(big.state_dict(), tmp_path / "pytorch_model.bin")
    big.config.save_pretrained(tmp_path)
    del big

    def peak(folder, **keywords):
        command = [sys.executable, "-c", textwrap.dedent(MEASURE), folder, tmp_path / "tiny", json.dumps(keywords)]
        path = os.pathsep.join(sys.path)
        run = subprocess.run(command, capture_output=True, text=True, check=True, env=os.environ | {"PYTHONPATH": path})
        return int(run.stdout) / size

    assert peak(tmp_path / "single") < 1.3
    assert peak(tmp_path) < 1.3, "an old .bin is mapped too"
    assert peak(tmp_path / "shards", dtype="bfloat16") < 1.2
