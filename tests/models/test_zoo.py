"""Every row of the zoo, every head, every check. A failure names the row, the head and the check."""

import copy
import inspect
import json
import pickle
import re
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file
from zoo import (
    CASES,
    CHOICES,
    GENERATED,
    GENERATIONS,
    PER_TOKEN,
    ROWS,
    SECOND,
    Row,
    config_for,
    draw_weight,
    flatten_outputs,
    make_inputs,
    make_prompts,
    summarise_gradients,
    take_row,
    turn,
)

from plainformers import Packed, auto
from plainformers.attention import KERNELS
from plainformers.registry import MODELS

GOLDEN = Path(__file__).parent / "golden"
CLOSE = {"atol": 1e-5, "rtol": 1e-5}
# the checks of a row share a process, and what is read and drawn for it
EVERY = pytest.mark.parametrize(
    ("row", "head"),
    [pytest.param(*case, marks=pytest.mark.xdist_group(case[0].name)) for case in CASES],
    ids=[f"{row.name}-{head}" for row, head in CASES],
)
LABELS = ("labels", "mc_labels", *SECOND.values(), "start_positions", "end_positions", "cls_index", "is_impossible")


def model_class(row: Row, head: str):
    entry = MODELS[row.model_type]
    return getattr(auto.model_module(entry), entry.heads[head])


@pytest.fixture(scope="module")
def golden():
    """(row, head) -> the reference's outputs, and its published names with their shapes."""
    files = {}

    def read(row: Row, head: str):
        if row.name not in files:
            path = GOLDEN / f"{row.name}.safetensors"
            with safe_open(path, "pt") as file:
                files[row.name] = load_file(path), json.loads(file.metadata()["published"])
        tensors, published = files[row.name]
        return {k.removeprefix(f"{head}/"): v for k, v in tensors.items() if k.startswith(f"{head}/")}, published[head]

    return read


def build(row: Row, head: str, published: dict, folder: Path, **fields):
    """The model, loaded from a checkpoint in the published names."""
    kind = model_class(row, head)
    config = kind.config_class(**config_for(row, head) | fields)
    state = {name: draw_weight(name, tuple(shape)) for name, shape in published.items()}
    return kind.from_pretrained(None, config=config, state_dict=state)


@pytest.fixture
def case(row, head, golden, tmp_path):
    expected, published = golden(row, head)
    return build(row, head, published, tmp_path), make_inputs(row, head), expected, published


def same(got, want):
    torch.testing.assert_close(got, want, atol=1e-6, rtol=1e-6)


def without_labels(inputs):
    return {name: value for name, value in inputs.items() if name not in LABELS}


def assert_real_tokens_close(got, want, mask, where):
    """Compares an output; along dimensions of T tokens, at the real ones only."""
    mask = mask.reshape(-1, mask.shape[-1]).bool()
    got, want = got.float(), want.float().reshape(got.shape)  # of choices, the reference flattens but the last state
    kind = where.split(".")[0]
    if kind in ("attentions", "cross_attentions"):  # [B, H, Q, K]: rows of real queries
        got, want = got.transpose(1, 2)[mask], want.transpose(1, 2)[mask]
    elif got.dim() > 1 and got.shape[:2] == mask.shape:
        got, want = got[mask], want[mask]
    torch.testing.assert_close(got, want, **CLOSE, msg=lambda m: f"{where}: {m}")


@EVERY
def test_outputs_equal_the_reference(row, head, case):
    model, inputs, expected, _ = case
    out = model(**inputs, output_hidden_states=True, output_attentions=True)
    got = flatten_outputs(out)
    names = {name for name in expected if not name.startswith(("gradient.", "generate."))}
    assert set(got) - {"loss_count"} == names
    for name in names:
        assert_real_tokens_close(got[name], expected[name], inputs["attention_mask"], name)
    fast = flatten_outputs(model(**inputs))
    for name in fast.keys() & names:
        assert_real_tokens_close(fast[name], expected[name], inputs["attention_mask"], name)


@EVERY
def test_loss_and_gradients_equal_the_reference(row, head, case):
    model, inputs, expected, _ = case
    for module in model.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
    if head == "base" or not row.labelled:
        assert "loss" not in expected
        return
    out = model(**inputs)
    torch.testing.assert_close(out.loss, expected["loss"], **CLOSE)
    assert out.loss_count is not None and out.loss_count > 0
    out.loss.backward()
    got = summarise_gradients(model, every=True)
    # version 5 of the reference trains DistilBERT's sines; the paper, version 4 and we do not
    fixed = (
        {"gradient.distilbert.embeddings.position_embeddings.weight"}
        if row.config.get("sinusoidal_pos_embds")
        else set()
    )
    wanted = {name for name in expected if name.startswith("gradient.")} - fixed
    parameters = dict(model.named_parameters(remove_duplicate=False))
    seen = {id(parameters[name.removeprefix("gradient.")]) for name in wanted}
    assert seen == {id(parameters[name.removeprefix("gradient.")]) for name in got}
    for name in wanted:
        torch.testing.assert_close(
            got[name], expected[name], atol=2e-5, rtol=1e-4, msg=lambda m, name=name: f"{name}: {m}"
        )


@EVERY
def test_padding_changes_nothing(row, head, case):
    """On the left as on the right, and alone as in a batch."""
    model, inputs, expected, _ = case
    inputs = without_labels(inputs)
    turned = turn(inputs)
    other, here = (flatten_outputs(model(**one)) for one in (turned, inputs))
    there, mask = (one["attention_mask"].flatten(0, -2).bool() for one in (turned, inputs))
    for found, real in ((other, there), (here, mask)):
        # places are counted from the first real token
        first = real.int().argmax(-1)[:, None]
        found |= {name: value - first for name, value in found.items() if name.endswith("_index")}
        if "mems" in inputs:  # then what comes out holds the padding of this batch behind that of the last
            assert found.pop("mems.0").isfinite().all()
            found.pop("mems.1")
    for name, value in here.items():
        got = other[name], value
        if value.shape[:2] == mask.shape:
            got = other[name][there], value[mask]
        torch.testing.assert_close(*got, **CLOSE, msg=lambda m, name=name: f"{name}: {m}")
    if head in CHOICES:
        return
    for i, real in enumerate(mask):
        for name, value in flatten_outputs(model(**take_row(inputs, i))).items():
            if name not in here or not value.dim():  # a mean over the batch
                continue
            batched = here[name][i : i + 1]
            batched = batched[:, real] if batched.shape[:2] == (1, mask.shape[1]) else batched
            torch.testing.assert_close(value, batched, **CLOSE, msg=lambda m, name=name: f"{name} alone: {m}")


@pytest.mark.parametrize("side", ["right", "left"])
@pytest.mark.parametrize("row", [row for row in ROWS if row.decoder and row.cached], ids=lambda row: row.name)
def test_cached_decoding_equals_the_full_pass(row, side, golden, tmp_path):
    _, published = golden(row, "causal-lm")
    model = build(row, "causal-lm", published, tmp_path)
    inputs = without_labels(make_inputs(row, "causal-lm"))
    if side == "left":
        lengths = inputs["attention_mask"].sum(-1).tolist()
        for name in PER_TOKEN & inputs.keys():
            inputs[name] = torch.stack([v.roll(6 - n) for v, n in zip(inputs[name], lengths, strict=True)])
    full = model(**inputs, use_cache=False)
    assert full.past_key_values is None
    cache, steps = None, []
    for start, end in ((0, 3), (3, 4), (4, 6)):
        part = {name: value[:, start:end] if name in PER_TOKEN else value for name, value in inputs.items()}
        part["attention_mask"] = inputs["attention_mask"][:, :end]
        out = model(**part, past_key_values=cache, use_cache=True)
        cache = out.past_key_values
        assert cache.get_seq_length() == end
        steps.append(out.logits)
    real = inputs["attention_mask"].bool()
    torch.testing.assert_close(torch.cat(steps, 1)[real], full.logits[real], **CLOSE)


@pytest.mark.parametrize("how", GENERATIONS)
@pytest.mark.parametrize("row", GENERATED, ids=lambda row: row.name)
def test_generated_ids_equal_the_reference(row, how, golden, tmp_path):
    expected, published = golden(row, "causal-lm")
    model = build(row, "causal-lm", published, tmp_path)
    torch.manual_seed(0)
    got = model.generate(**make_prompts(row), max_new_tokens=6, **GENERATIONS[how])
    assert got.tolist() == expected[f"generate.{how}"].tolist()


@EVERY
def test_saving_is_exact_and_in_published_names(row, head, case, tmp_path):
    model, inputs, _, published = case
    model.save_pretrained(tmp_path, max_shard_size=4000)
    assert len(list(tmp_path.glob("*.safetensors"))) > 1
    saved = {}
    for path in tmp_path.glob("*.safetensors"):
        saved |= load_file(path)
    assert {name: list(value.shape) for name, value in saved.items()} == published
    again = type(model).from_pretrained(tmp_path)
    assert again.config == model.config
    for name, value in again.state_dict().items():
        assert torch.equal(value, model.state_dict()[name]), name
    with torch.no_grad():
        # not to the last bit: where a tensor lies in memory decides which kernel is taken
        same(model(**without_labels(inputs))[0], again(**without_labels(inputs))[0])


@EVERY
def test_every_kernel_equals_eager(row, head, case):
    model, inputs, _, _ = case
    inputs = without_labels(inputs)
    model.set_attn_implementation("eager")
    want = flatten_outputs(model(**inputs))
    kernels = set(KERNELS) - {"eager", "varlen"}
    assert kernels
    for kernel in kernels:
        model.set_attn_implementation(kernel)
        got = flatten_outputs(model(**inputs))
        for name, value in want.items():
            assert_real_tokens_close(got[name], value, inputs["attention_mask"], name)


@EVERY
def test_packed_equals_padded(row, head, case):
    model, inputs, _, _ = case
    inputs = without_labels(inputs)
    if not model.accepts_packed or row.cross or head in CHOICES:
        return
    mask = inputs["attention_mask"].bool()
    packed = {name: value[mask][None] for name, value in inputs.items() if name in PER_TOKEN}
    packed["attention_mask"] = Packed(tuple(mask.sum(-1).tolist()))
    cached = {"use_cache": False} if "use_cache" in model._forward_names[0] else {}
    padded = flatten_outputs(model(**inputs, **cached))
    for kernel in ("sdpa", "eager"):
        model.set_attn_implementation(kernel)
        for name, value in flatten_outputs(model(**packed, **cached)).items():
            want = padded[name][mask][None] if padded[name].shape[:2] == mask.shape else padded[name]
            torch.testing.assert_close(value, want, **CLOSE, msg=lambda m, name=name: f"{name}: {m}")


TRACED = set()  # calls of base models that were compiled as a part of some head; see describe_call


def describe_call(row, base, args, keywords):
    """All that the trace of a call depends on: the row's config, the modules that are there, each argument."""
    given = inspect.signature(base.forward).bind(*args, **keywords)
    given.apply_defaults()
    values = [(x.shape, x.dtype) if isinstance(x, torch.Tensor) else repr(x) for x in given.arguments.values()]
    return row.name, type(base), tuple(name for name, _ in base.named_modules()), tuple(values)


@EVERY
def test_compiles_without_a_break(row, head, case, monkeypatch):
    """Tracing is slow: where another head had the same call of the base model traced, only the head is traced anew."""
    model, inputs, _, _ = case
    inputs, base, calls = without_labels(inputs), model.base_model, []
    with torch.no_grad(), base.register_forward_hook(lambda *call: calls.append(call), with_kwargs=True):
        want = flatten_outputs(model(**inputs))
    [(_, args, keywords, encoded)] = calls
    call = describe_call(row, base, args, keywords)
    if base is not model and call in TRACED:
        base.forward = lambda *args, **keywords: encoded
    torch._dynamo.reset()
    # for a line in its log, it would empty the processor's cache and measure how long its guards take
    monkeypatch.setattr("torch._dynamo.guards.profile_guard_manager", lambda *arguments: 0.0, raising=False)
    compiled = torch.compile(model, fullgraph=True, backend="eager")
    with torch.no_grad():
        got = flatten_outputs(compiled(**inputs))
    assert want.keys() == got.keys()
    for name, value in want.items():
        torch.testing.assert_close(got[name], value, **CLOSE)
    TRACED.add(call)


@EVERY
def test_builds_on_meta_copies_and_pickles(row, head, case):
    model, inputs, _, published = case
    kind = type(model)
    with torch.device("meta"):
        empty = kind(kind.config_class(**config_for(row, head)))
    assert all(p.is_meta for p in empty.parameters())
    assert not list(empty.buffers()), "a model owns parameters only"
    inputs = without_labels(inputs)
    with torch.no_grad():
        want = model(**inputs)[0]
        same(copy.deepcopy(model)(**inputs)[0], want)
        same(pickle.loads(pickle.dumps(model))(**inputs)[0], want)


@EVERY
def test_random_weights_are_drawn_by_the_config(row, head):
    kind = model_class(row, head)
    torch.manual_seed(1)  # whatever other tests drew
    model = kind.from_config(kind.config_class(**config_for(row, head) | {"initializer_range": 0.5}))
    for name, module in model.named_modules():
        if isinstance(module, torch.nn.LayerNorm):
            assert (
                module.weight is None
                or (module.weight == 1).all()
                and (module.bias is None or (module.bias == 0).all())
            ), name
        elif isinstance(module, torch.nn.Linear):
            near = 0.6 if module.weight.numel() < 32 else 0.4  # few numbers spread more
            want = next((std for pattern, std in row.drawn if re.search(pattern, name)), 0.5)
            assert abs(module.weight.std() - want) < near * want, name
            assert module.bias is None or (module.bias == 0).all(), name
        elif isinstance(module, torch.nn.Embedding) and module.padding_idx is not None:
            assert (module.weight[module.padding_idx] == 0).all() and module.weight[1:].std() > 0.4, name


@EVERY
def test_gradient_checkpointing_changes_nothing(row, head, case):
    model, inputs, expected, _ = case
    if "loss" not in expected:
        return
    for module in model.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
        for name in ("dropout", "attention_dropout", "noise"):
            if isinstance(getattr(module, name, None), float):
                setattr(module, name, 0.0)
    model.train()
    model.gradient_checkpointing_enable()
    assert model.is_gradient_checkpointing
    model(**inputs).loss.backward()
    for name, value in summarise_gradients(model, every=True).items():
        if name not in expected:  # a second name of a parameter that is compared under its first
            continue
        torch.testing.assert_close(value, expected[name], atol=2e-5, rtol=1e-4, msg=lambda m, name=name: f"{name}: {m}")


@pytest.mark.parametrize("row", [row for row in ROWS if row.head_mask], ids=lambda row: row.name)
@pytest.mark.parametrize("kernel", ["eager", "sdpa"])
def test_head_mask_is_honoured_as_in_version_4(row, kernel, golden, tmp_path):
    model = build(row, "base", golden(row, "base")[1], tmp_path, attn_implementation=kernel)
    inputs = make_inputs(row, "base")
    expected = load_file(GOLDEN / f"{row.name}-head-mask.safetensors")
    plain = model(**inputs).last_hidden_state
    for dims in ("1", "2"):
        mask = expected[f"{dims}/head_mask"]
        out = model(**inputs, head_mask=mask)
        assert_real_tokens_close(
            out.last_hidden_state, expected[f"{dims}/last_hidden_state"], inputs["attention_mask"], "last_hidden_state"
        )
        assert not torch.allclose(out.last_hidden_state, plain, atol=1e-3)
        shown = flatten_outputs(model(**inputs, head_mask=mask, output_attentions=True))
        for layer in range(2):
            name = f"attentions.{layer}"
            assert_real_tokens_close(shown[name], expected[f"{dims}/{name}"], inputs["attention_mask"], name)
