"""Live comparison with the reference library on real and random checkpoints (make parity)."""

import json

import pytest
import torch
from assets import find
from zoo import CASES, config_for, flatten_outputs, make_inputs

import plainformers
from plainformers.models.gpt_oss import read_mxfp4
from plainformers.registry import MODELS

transformers = pytest.importorskip("transformers")
pytestmark = pytest.mark.parity
TEXTS = ["Hello world!", "A man is eating a piece of bread, naïvely.", ""]


@pytest.fixture(autouse=True)
def quiet():
    transformers.logging.set_verbosity_error()


@pytest.mark.parametrize(("row", "head"), CASES, ids=[f"{row.name}-{head}" for row, head in CASES])
def test_what_one_saves_the_other_reads(row, head, tmp_path):
    """Ours -> theirs -> ours: the same outputs, the same tensors."""
    name = MODELS[row.model_type].heads[head]
    ours = getattr(plainformers, name)(
        getattr(plainformers, MODELS[row.model_type].config)(**config_for(row, head))
    ).eval()
    ours.save_pretrained(tmp_path / "ours", max_shard_size=4000)
    theirs, info = getattr(transformers, name).from_pretrained(tmp_path / "ours", output_loading_info=True)
    assert not info["missing_keys"] and not info["unexpected_keys"]
    inputs = make_inputs(row, head)
    for_them = inputs if row.masked else {name: value for name, value in inputs.items() if name != "attention_mask"}
    with torch.no_grad():
        got, want = flatten_outputs(ours(**inputs)), flatten_outputs(theirs(**for_them))
    for key in ("loss", "logits", "start_logits", "prediction_logits", "pooler_output", "cls_logits"):
        if key in want:
            real = inputs["attention_mask"].bool()
            both = got[key], want[key]
            if want[key].shape[:2] == real.shape:
                both = got[key][real], want[key][real]
            torch.testing.assert_close(*both, atol=1e-5, rtol=1e-5)
    theirs.save_pretrained(tmp_path / "theirs")
    again = type(ours).from_pretrained(tmp_path / "theirs")
    for key, value in ours.state_dict().items():
        assert torch.equal(again.state_dict()[key], value), key


def test_weights_in_mxfp4_are_read_alike():
    from transformers.integrations.mxfp4 import convert_moe_packed_tensors

    torch.manual_seed(0)
    blocks = torch.randint(0, 256, (3, 40, 5, 16), dtype=torch.uint8)
    scales = torch.randint(0, 254, (3, 40, 5), dtype=torch.uint8)
    assert torch.equal(read_mxfp4(blocks, scales), convert_moe_packed_tensors(blocks, scales))


@pytest.mark.parametrize("name", ["minilm", "plainformers/sentiment-english"])
def test_a_real_checkpoint(name, tmp_path):
    folder = name if "/" in name else find(name)
    if folder is None:
        pytest.skip("not in the cache: make real downloads it")
    # the built-in model is stored in 8 bits, which only we read; what we save of it anyone reads
    plainformers.AutoModel.from_pretrained(folder).save_pretrained(tmp_path)
    plainformers.AutoTokenizer.from_pretrained(folder).save_pretrained(tmp_path)
    ours, theirs = (
        (lib.AutoTokenizer.from_pretrained(tmp_path), lib.AutoModel.from_pretrained(tmp_path))
        for lib in (plainformers, transformers)
    )
    inputs, want = (tokenizer(TEXTS, padding=True, return_tensors="pt") for tokenizer, _ in (ours, theirs))
    assert {k: v.tolist() for k, v in inputs.items()} == {k: v.tolist() for k, v in want.items()}
    with torch.no_grad():
        got, want = ours[1](**inputs).last_hidden_state, theirs[1](**want).last_hidden_state
    real = inputs["attention_mask"].bool()
    torch.testing.assert_close(got[real], want[real], atol=2e-5, rtol=1e-5)


def test_the_pipeline_of_the_built_in_model(tmp_path):
    pipe = plainformers.pipeline("sentiment-analysis")
    pipe.save_pretrained(tmp_path)
    theirs = transformers.pipeline("sentiment-analysis", model=str(tmp_path))
    for call in ({}, {"top_k": None}, {"top_k": 1}, {"function_to_apply": "none"}):
        got, want = pipe(TEXTS, **call), theirs(TEXTS, **call)
        assert json.dumps(got)[:1] == json.dumps(want)[:1]
        for a, b in zip(got, want, strict=True):
            for x, y in zip(a if isinstance(a, list) else [a], b if isinstance(b, list) else [b], strict=True):
                assert x["label"] == y["label"] and x["score"] == pytest.approx(y["score"], abs=1e-5)
