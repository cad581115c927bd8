"""Prepared linear layers: the same numbers, and nothing that a user does to the model sees or breaks them."""

import copy
import functools
import pickle

import pytest
import torch
from zoo import ROWS, config_for, draw, make_inputs

import plainformers
from plainformers import linear, pipeline
from plainformers.activations import ACTIVATIONS
from plainformers.linear import (
    Int4Product,
    Int8Product,
    activate,
    int8_levels,
    is_prepared,
    prepare,
    project,
    unprepare,
)
from plainformers.registry import MODELS

ROW = next(row for row in ROWS if row.name == "bert")
HEAD = "sequence-classification"
CAN = torch.backends.mkldnn.is_available()
needs_int8 = pytest.mark.skipif(not Int8Product.dtypes(), reason="no FBGEMM in this PyTorch")


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
        assert prepare(layer_in := torch.nn.Sequential(layer), "") == (CAN or dtype == torch.bfloat16)
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


@pytest.mark.skipif(not CAN, reason="no oneDNN in this PyTorch")
def test_layers_that_read_the_same_are_one_product(model, inputs):
    attention = model.bert.encoder.layer[0].attention.self
    together = (attention.query, attention.key, attention.value)
    assert len({id(layer.product) for layer in together}) == 1
    x = draw("x", (2, 5, 16), 1.0)
    with torch.inference_mode():
        for layer, y in zip(together, project(x, *together), strict=True):
            torch.testing.assert_close(y, layer(x), atol=1e-6, rtol=1e-6)
            torch.testing.assert_close(y, torch.nn.functional.linear(x, layer.weight, layer.bias), atol=1e-5, rtol=1e-5)
    with pytest.raises(RuntimeError, match=r"call unprepare\(\) of the model first"):
        project(x.requires_grad_(), *together)


# ---- 8 bits


def rounded_product(x, weight, bias, levels):
    """What Int8Product computes, in double precision."""
    x, weight = x.double(), weight.double()
    row = (weight.abs().amax(1) / 127).float().double()
    weight = (weight / row[:, None]).round() * row[:, None]
    low = x.amin(-1, keepdim=True)
    span = x.amax(-1, keepdim=True) - low
    return (low + ((x - low) / span * levels).round() / levels * span) @ weight.T + bias.double()


@needs_int8
def test_int8_rounds_weights_by_rows_and_inputs_by_tokens():
    x, weight, bias = draw("x", (3, 7, 40), 1.0), draw("weight", (24, 40), 0.2), draw("bias", (24,), 1.0)
    x[0] *= 100  # a token with large values must not coarsen the others
    want = rounded_product(x, weight, bias, int8_levels())
    got = Int8Product(weight, bias)(x)
    # a value in the middle of two levels may fall to either
    torch.testing.assert_close(got[1:].double(), want[1:], atol=0.05, rtol=0)
    assert (got[1:] - want[1:]).abs().mean() < 1e-3
    exact = x @ weight.T + bias
    assert 1e-4 < (got[1:] - exact[1:]).abs().mean() < 0.02
    for row in (0, 1):
        torch.testing.assert_close(Int8Product(weight, bias)(x[row, :2]), got[row, :2], atol=1e-4, rtol=1e-5)
        one = Int8Product(weight, bias)(x[row, :1])  # a token alone, as in decoding: the kernel's own levels
        assert (one - exact[row, :1]).abs().mean() < 2 * (got[row] - exact[row]).abs().mean()


@needs_int8
def test_int8_does_not_overflow():
    x, weight = torch.ones(4, 256), torch.full((16, 256), -3.0)
    x[:, 0] = 0
    torch.testing.assert_close(Int8Product(weight, None)(x), torch.full((4, 16), -3.0 * 255))


@needs_int8
def test_int8_of_constant_and_huge_tokens():
    weight = draw("weight", (16, 32), 0.2)
    for value in (0.0, 5.0, -1e20):
        x = torch.full((2, 32), value)
        product = Int8Product(weight, None)
        torch.testing.assert_close(product(x), x @ product.plain().T, atol=1e-5, rtol=1e-3)


@needs_int8
@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_int8_models_are_near(row):
    kind = getattr(plainformers, MODELS[row.model_type].heads[row.heads[0]])
    model = kind(kind.config_class(**config_for(row, row.heads[0]) | {"initializer_range": 0.15})).eval()
    inputs = {name: value for name, value in make_inputs(row, row.heads[0]).items() if "label" not in name}
    size = model.get_memory_footprint(), model.num_parameters()
    with torch.inference_mode():
        want = model(**inputs)[0]
        model.prepare(quantization="int8")
        got = model(**inputs)[0]
    assert model.get_memory_footprint() < size[0] and model.num_parameters() == size[1]
    error = (got - want).norm() / want.norm()
    assert 0 < error < (0.15 if "gemma" in row.model_type else 0.1)  # which normalises, and so enlarges, small parts


@pytest.fixture
def int8_model(model):
    model.prepare(quantization="int8")
    return model


@needs_int8
@pytest.mark.parametrize(
    "touch",
    [
        lambda model, folder: model.train(),
        lambda model, folder: list(model.parameters()),
        lambda model, folder: model.to(torch.float64),
        lambda model, folder: copy.deepcopy(model),
        lambda model, folder: model.state_dict(),
        lambda model, folder: model.save_pretrained(folder),
        lambda model, folder: model.unprepare(),
        lambda model, folder: model.prepare(),
        lambda model, folder: model.compile(),
    ],
    ids=["train", "parameters", "to", "deepcopy", "state_dict", "save", "unprepare", "prepare", "compile"],
)
def test_int8_is_never_undone_silently(int8_model, touch, tmp_path):
    with pytest.raises(ValueError, match="rounded to int8 and the exact ones are gone.*Load it again"):
        touch(int8_model, tmp_path)
    assert not list(tmp_path.iterdir()) and int8_model.quantization == "int8"


@needs_int8
def test_int8_models_are_called_without_no_grad_too(int8_model, inputs):
    out = int8_model(**inputs)
    assert not out.logits.requires_grad
    with torch.no_grad():
        torch.testing.assert_close(int8_model(**inputs).logits, out.logits)


@needs_int8
def test_int8_is_asked_for_by_name(model, tmp_path):
    with pytest.raises(ValueError, match=r"quantization must be one of None, 'int8', 'int4', got 'int7'"):
        model.prepare(quantization="int7")
    model.save_pretrained(tmp_path)
    with pytest.raises(ValueError, match=r"needs a float32 or bfloat16 model on a CPU.*is torch.float16 on cpu"):
        type(model).from_pretrained(tmp_path, dtype="float16", quantization="int8")
    loaded = type(model).from_pretrained(tmp_path, quantization="int8")
    assert loaded.quantization == "int8" and loaded.bert.quantization == "int8"
    assert loaded.get_memory_footprint() < model.get_memory_footprint()


@needs_int8
def test_int8_pipelines_give_one_text_the_same_answer_alone_and_in_a_batch():
    pipe, plain = (pipeline("sentiment-analysis", device="cpu", quantization=q) for q in ("int8", None))
    texts = ["A wonderful film.", "Far too long.", "The first half drags, but its end is a joy to watch.", "No."]
    for alone, batched, exact in zip(map(pipe, texts), pipe(texts), plain(texts), strict=True):
        assert alone[0]["label"] == batched["label"] == exact["label"]
        assert alone[0]["score"] == pytest.approx(batched["score"], abs=2e-3)
        assert batched["score"] == pytest.approx(exact["score"], abs=0.05)
    with pytest.raises(ValueError, match="give one of quantization and compile"):
        pipeline("sentiment-analysis", quantization="int8", compile=True)


# ---- 4 bits

needs_int4 = pytest.mark.skipif(not Int4Product.dtypes(), reason="no kernel for 4 bits in this PyTorch")


@needs_int4
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_int4_of_many_tokens_is_that_of_few(dtype, monkeypatch):
    x, weight, bias = draw("x", (2, 24, 64), 1.0).to(dtype), draw("weight", (576, 64), 0.2), draw("bias", (576,), 1.0)
    product = Int4Product(weight, bias)
    assert linear.int4_block() in (32, 64) and product.opens(), "the kernel's order is known"
    plain = product.plain()
    alone = torch.cat([Int4Product(weight, None)(row) for row in torch.eye(64).to(dtype).split(32)])  # by the kernel
    torch.testing.assert_close(alone.t().float(), plain, atol=1e-6, rtol=1e-2)
    assert (plain - weight).abs().max() < 0.6 * (weight.max() - weight.min()) / 15
    exact = x.float() @ plain.t() + bias
    many = product(x)
    torch.testing.assert_close(many.float(), exact, atol=1e-5 if dtype == torch.float32 else 2e-2, rtol=1e-2)
    monkeypatch.setattr(linear, "MANY", 1 << 30)
    torch.testing.assert_close(product(x).float(), exact, atol=3e-2, rtol=2e-2)


# ---- Norms


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.skipif(not CAN, reason="no oneDNN in this PyTorch")
def test_prepared_norms_are_norms(dtype):
    norm, dense = torch.nn.RMSNorm(48, 1e-6).to(dtype), torch.nn.Linear(8, 8)
    norm.weight.data = draw("weight", (48,), 1.0).to(dtype)
    x = draw("x", (2, 5, 48), 1.0).to(dtype)
    x[0, 0], x[0, 1], x[0, 2] = 0, x[0, 1] * 1e-4, x[0, 2] * 1e4
    both = torch.nn.Sequential(norm, dense)
    with torch.no_grad():
        want = norm(x)
        assert prepare(both, "") and type(norm) is not torch.nn.RMSNorm
        got = norm(x)
        norm.weight.mul_(2)
        doubled = norm(x)
    torch.testing.assert_close(got, want, atol=1e-6, rtol=1e-6 if dtype == torch.float32 else 8e-3)
    torch.testing.assert_close(doubled, 2 * got)
    norm(x.requires_grad_()).sum().backward()
    assert x.grad.isfinite().all() and norm.weight.grad is not None
    unprepare(both)
    assert type(norm) is torch.nn.RMSNorm and torch.equal(norm.state_dict()["weight"], norm.weight)


# ---- Compiled


def test_compiled_pipelines_pad(monkeypatch):
    monkeypatch.setattr(torch, "compile", functools.partial(torch.compile, backend="eager"))  # needs no compiler
    torch._dynamo.reset()
    pipe, plain = (pipeline("sentiment-analysis", device="cpu", compile=yes) for yes in (True, False))
    assert plain.packs and not pipe.packs
    texts = ["A wonderful film.", "Far too long, and dull besides.", ""]
    for a, b in zip(pipe(texts), plain(texts), strict=True):
        assert a["label"] == b["label"] and a["score"] == pytest.approx(b["score"], abs=1e-5)


def test_without_a_compiler_the_error_says_so(model, inputs, monkeypatch):
    """Found with torch 2.13 and CXX=nonesuch, whose error this is; to let torch look for one takes it seconds."""

    def fail(*args, **keywords):
        raise RuntimeError(
            "InvalidCxxCompiler: No working C++ compiler found in torch._inductor.config.cpp.cxx: (None,)"
        )

    monkeypatch.setattr(type(model), "forward", fail)
    with pytest.raises(
        ValueError, match=r"needs a C\+\+ compiler, and none is found: install g\+\+, name one in .* CXX"
    ):
        model(**inputs)
