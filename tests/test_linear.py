"""Prepared linear layers: the same numbers, and nothing that a user does to the model sees or breaks them."""

import copy
import pickle

import pytest
import torch
from zoo import ROWS, config_for, draw, make_inputs

import plainformers
from plainformers import pipeline
from plainformers.activations import ACTIVATIONS
from plainformers.linear import activate, is_prepared, prepare, project, unprepare
from plainformers.registry import MODELS

ROW = ROWS[0]
HEAD = "sequence-classification"
CAN = torch.backends.mkldnn.is_available()


def linear_layers(model):
    return [layer for layer in model.modules() if isinstance(layer, torch.nn.Linear)]


@pytest.fixture
def inputs():
    return {name: value for name, value in make_inputs(ROW, HEAD).items() if name != "labels"}


@pytest.fixture
def model():
    torch.manual_seed(0)
    model = plainformers.BertForSequenceClassification(plainformers.BertConfig(**config_for(ROW, HEAD))).eval()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    assert model.prepare() == CAN
    assert any(is_prepared(layer) for layer in linear_layers(model)) == CAN
    model.before = before
    return model


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_prepared_models_give_the_same_numbers(row):
    for head in row.heads:
        kind = getattr(plainformers, MODELS[row.model_type].heads[head])
        model = kind(kind.config_class(**config_for(row, head) | {"initializer_range": 0.15})).eval()
        inputs = make_inputs(row, head)
        with torch.inference_mode():
            want = model(**inputs)
            assert model.prepare() == CAN
            got = model(**inputs)
        for name, value in want.items():
            if isinstance(value, torch.Tensor):
                torch.testing.assert_close(got[name], value, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("name", ["gelu", "gelu_new", "relu"])
def test_layers_alone(dtype, name):
    layer = torch.nn.Linear(24, 40).to(dtype)
    x, act = draw("x", (2, 7, 24), 1.0).to(dtype), ACTIVATIONS[name]
    with torch.inference_mode():
        plain = layer(x), act(layer(x)), layer(x[:, ::2])
        can = CAN and (dtype != torch.bfloat16 or torch.ops.mkldnn._is_mkldnn_bf16_supported())
        assert prepare(layer_in := torch.nn.Sequential(layer), "") == can
        got = project(x, layer)[0], activate(layer, act, x), project(x[:, ::2], layer)[0]
    tight = {"atol": 1e-5, "rtol": 1e-5} if dtype == torch.float32 else {"atol": 2e-2, "rtol": 2e-2}
    for a, b in zip(got, plain, strict=True):
        torch.testing.assert_close(a, b, **tight)
    unprepare(layer_in)
    assert not is_prepared(layer)


def test_weights_are_read_and_saved_as_ever(model, tmp_path):
    for name, value in model.state_dict().items():
        assert torch.equal(value, model.before[name]), name
    count = model.num_parameters()
    assert count == sum(value.numel() for value in model.before.values())
    assert model.get_memory_footprint() == 4 * count and model.dtype == torch.float32 and model.device.type == "cpu"
    model.save_pretrained(tmp_path)
    assert any(map(is_prepared, linear_layers(model))) == CAN, "saving and counting undo nothing"
    again = type(model).from_pretrained(tmp_path)
    for name, value in again.state_dict().items():
        assert torch.equal(value, model.before[name]), name


@pytest.mark.parametrize(
    "touch",
    [
        lambda model: model.train(),
        lambda model: list(model.parameters()),
        lambda model: model.to(torch.float64),
        lambda model: model.double(),
        lambda model: copy.deepcopy(model),
        lambda model: pickle.dumps(model),
        lambda model: model.load_state_dict(model.before),
        lambda model: model.compile(),
        lambda model: model.bert(torch.ones(1, 2, dtype=torch.long)),
        lambda model: model.requires_grad_(False),
    ],
    ids=[
        "train",
        "parameters",
        "to",
        "double",
        "deepcopy",
        "pickle",
        "load_state_dict",
        "compile",
        "inner-call",
        "requires_grad_",
    ],
)
@pytest.mark.filterwarnings("ignore:.torch.jit.script_method. is deprecated:DeprecationWarning")  # torch's own imports
def test_what_changes_weights_or_hands_them_out_undoes_it(model, touch):
    touch(model)
    assert not any(map(is_prepared, linear_layers(model)))
    for name, value in model.state_dict().items():
        assert torch.equal(value.float(), model.before[name]), name


def test_a_call_with_gradients_gets_gradients(model, inputs):
    with torch.no_grad():
        want = model(**inputs).logits
    out = model(**inputs, labels=make_inputs(ROW, HEAD)["labels"])
    torch.testing.assert_close(out.logits, want, atol=1e-5, rtol=1e-5)
    out.loss.backward()
    assert all(parameter.grad is not None for parameter in model.parameters())


def test_hooks_hear_prepared_layers(model, inputs):
    heard = {}
    block = model.bert.encoder.layer[0]
    for name, layer in {"query": block.attention.self.query, "dense": block.intermediate.dense}.items():
        layer.register_forward_hook(lambda _, __, out, name=name: heard.update({name: out}))
    with torch.no_grad():
        model(**inputs)
        fast = dict(heard)
        model.unprepare()
        model(**inputs)
    assert fast.keys() == heard.keys() == {"query", "dense"}
    for name, value in heard.items():
        torch.testing.assert_close(fast[name], value, atol=1e-5, rtol=1e-5)


@pytest.mark.skipif(not CAN, reason="no oneDNN in this PyTorch")
def test_no_gradient_is_lost_silently(model):
    layer = model.bert.encoder.layer[0].intermediate
    with pytest.raises(RuntimeError, match=r"call unprepare\(\) of the model first"):
        layer.dense(torch.ones(1, 16, requires_grad=True))
    with pytest.raises(RuntimeError, match=r"call unprepare\(\) of the model first"):
        layer(torch.ones(1, 16, requires_grad=True))


def test_frozen_layers_stay_frozen(model):
    model.unprepare()
    model.bert.encoder.layer[0].requires_grad_(False)
    model.prepare()
    model.unprepare()
    trained = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
    assert trained == {name for name in model.before if "encoder.layer.0." not in name}


def test_shared_weights_are_left_alone():
    model = plainformers.BertForMaskedLM(plainformers.BertConfig(**config_for(ROW, "masked-lm")))
    prepare(model, "")
    assert not is_prepared(model.cls.predictions.decoder)
    assert model.cls.predictions.decoder.weight is model.get_input_embeddings().weight


def test_pipelines_prepare_what_they_load():
    pipe = pipeline("sentiment-analysis", device="cpu")
    assert any(map(is_prepared, linear_layers(pipe.model))) == CAN
    fast = pipe(["A wonderful film.", "Far too long."])
    pipe.model.unprepare()
    plain = pipe(["A wonderful film.", "Far too long."])
    for a, b in zip(fast, plain, strict=True):
        assert a["label"] == b["label"] and a["score"] == pytest.approx(b["score"], abs=1e-6)
