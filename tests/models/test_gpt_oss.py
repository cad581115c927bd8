"""What the table of the zoo cannot say of GPT-OSS: checkpoints in MXFP4, and which experts are computed."""

import json
from itertools import product

import pytest
import torch
from safetensors.torch import load_file, save_file
from zoo import GPT_OSS

from plainformers import GptOssConfig, GptOssForCausalLM
from plainformers.models.gpt_oss import read_mxfp4

SIZES = GPT_OSS | {"hidden_size": 64, "intermediate_size": 32, "num_local_experts": 3}
STACKS = ("gate_up_proj", "down_proj")
IDS = torch.tensor([[5, 6, 7, 8, 9, 10]])


def number(bits: int) -> float:
    """What 4 bits mean: a sign, two bits of an exponent, one after the point."""
    sign, exponent, fraction = bits >> 3, bits >> 1 & 3, bits & 1
    return (-1.0) ** sign * (fraction / 2 if exponent == 0 else 2.0 ** (exponent - 1) * (1 + fraction / 2))


def draw_parts(E: int, N: int, K: int, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    torch.manual_seed(seed)
    blocks = torch.randint(0, 256, (E, N, K // 32, 16), dtype=torch.uint8)
    return blocks, torch.randint(118, 124, (E, N, K // 32), dtype=torch.uint8)


def test_every_byte_and_scale_of_mxfp4():
    blocks, scales = draw_parts(2, 8, 64)
    blocks[0] = torch.arange(256, dtype=torch.uint8).view(8, 2, 16)
    scales[0, 0, 0], scales[0, 1, 0] = 1, 252  # the smallest and largest that bfloat16 holds with ease
    got = read_mxfp4(blocks, scales)
    assert got.dtype == torch.bfloat16 and got.shape == (2, 64, 8) and got.is_contiguous()
    for e, n, k in product(range(2), range(8), range(64)):
        byte = int(blocks[e, n, k // 32, k % 32 // 2])
        bits = byte >> 4 if k % 2 else byte & 15
        assert got[e, k, n].item() == number(bits) * 2.0 ** (int(scales[e, n, k // 32]) - 127), (e, k, n)


def checkpoint(folder, shards=1):
    """A folder as it is published, and the weights that it means."""
    torch.manual_seed(1)
    model = GptOssForCausalLM(GptOssConfig(**SIZES))
    model.save_pretrained(folder)
    stored = load_file(folder / "model.safetensors")
    plain = dict(stored)
    for layer, name in product(range(2), STACKS):
        name = f"model.layers.{layer}.mlp.experts.{name}"
        E, K, N = stored.pop(name).shape
        parts = stored[f"{name}_blocks"], stored[f"{name}_scales"] = draw_parts(E, N, K, layer)
        plain[name] = read_mxfp4(*parts).float()
    config = json.loads((folder / "config.json").read_text())
    quantization = {"quant_method": "mxfp4", "modules_to_not_convert": ["model.layers.*.self_attn", "lm_head"]}
    (folder / "config.json").write_text(json.dumps(config | {"quantization_config": quantization}))
    write(folder, stored, shards)
    return stored, plain


def write(folder, stored, shards=1):
    (folder / "model.safetensors").unlink(missing_ok=True)
    if shards == 1:
        save_file(stored, folder / "model.safetensors")
        return
    parts = [{k: v for k, v in stored.items() if k.endswith("_scales") is last} for last in (False, True)]
    names = [f"model-0000{i}-of-00002.safetensors" for i in (1, 2)]
    for name, part in zip(names, parts, strict=True):
        save_file(part, folder / name)
    weight_map = {k: name for name, part in zip(names, parts, strict=True) for k in part}
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": weight_map}))


@pytest.mark.parametrize("shards", [1, 2])
def test_a_checkpoint_in_mxfp4_is_read_into_plain_weights(shards, tmp_path):
    _, plain = checkpoint(tmp_path, shards)
    model, info = GptOssForCausalLM.from_pretrained(tmp_path, output_loading_info=True)
    assert not info["missing_keys"] and not info["unexpected_keys"]
    state = model.state_dict()
    assert state.keys() == plain.keys()
    for name, value in plain.items():
        assert state[name].dtype == torch.float32 and torch.equal(state[name], value), name
    want = model(IDS).logits
    model.save_pretrained(tmp_path / "saved")
    assert "quantization_config" not in json.loads((tmp_path / "saved" / "config.json").read_text())
    assert torch.equal(GptOssForCausalLM.from_pretrained(tmp_path / "saved")(IDS).logits, want)


def test_the_weights_of_a_checkpoint_in_mxfp4_are_bfloat16_where_the_config_says_no_more(tmp_path):
    stored, _ = checkpoint(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps({k: v for k, v in config.items() if k != "dtype"}))
    write(tmp_path, {k: v.bfloat16() if v.is_floating_point() else v for k, v in stored.items()})
    model = GptOssForCausalLM.from_pretrained(tmp_path)
    assert {value.dtype for value in model.state_dict().values()} == {torch.bfloat16}


NAME = "model.layers.1.mlp.experts.down_proj"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda s: s | {f"{NAME}_scales": s[f"{NAME}_scales"][:, 1:]}, r"got \[3, 64, 1, 16\] and \[3, 63, 1\]"),
        (lambda s: s | {f"{NAME}_blocks": s[f"{NAME}_blocks"][..., :8].contiguous()}, r"got \[3, 64, 1, 8\] and"),
        (lambda s: s | {f"{NAME}_scales": s[f"{NAME}_scales"].float()}, "uint8, got torch.uint8 and torch.float32"),
        (lambda s: {k: v for k, v in s.items() if k != f"{NAME}_scales"}, "down_proj_blocks and .*down_proj_scales"),
        (lambda s: {k: v for k, v in s.items() if k != f"{NAME}_blocks"}, f"lacks 1 tensors .*{NAME}.*{NAME}_scales"),
        (lambda s: s | {NAME: torch.zeros(3, 32, 64)}, f"and no {NAME}"),
        (
            lambda s: s | dict(zip((f"{NAME}_blocks", f"{NAME}_scales"), draw_parts(3, 64, 64), strict=True)),
            r"down_proj: \[3, 64, 64\] in the checkpoint, \[3, 32, 64\] here",
        ),
    ],
    ids=["scales", "blocks", "floats", "no scales", "no blocks", "twice", "another size"],
)
def test_what_lies_in_mxfp4_is_an_error(change, message, tmp_path):
    stored, _ = checkpoint(tmp_path)
    write(tmp_path, {name: value.contiguous() for name, value in change(stored).items()})
    with pytest.raises(ValueError, match=f"(?s){message}"):
        GptOssForCausalLM.from_pretrained(tmp_path)


@pytest.mark.parametrize("method", ["gptq", ["mxfp4"], None])
def test_other_quantisations_are_refused(method, tmp_path):
    checkpoint(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(config | {"quantization_config": {"quant_method": method}}))
    with pytest.raises(ValueError, match="asks for quantisation"):
        GptOssForCausalLM.from_pretrained(tmp_path)


def test_only_chosen_experts_are_read():
    torch.manual_seed(0)
    model = GptOssForCausalLM(GptOssConfig(**GPT_OSS)).eval()
    with torch.no_grad():
        out = model(IDS[:, :1], output_router_logits=True)
        for layer, scores in zip(model.model.layers, out.router_logits, strict=True):
            for unchosen in scores[0].topk(2, largest=False).indices.tolist():
                for parameter in layer.mlp.experts.parameters():
                    parameter[unchosen] = torch.nan
        assert torch.equal(model(IDS[:, :1]).logits, out.logits)
        torch._dynamo.reset()
        compiled = torch.compile(model, fullgraph=True, backend="eager")  # gathers them, for one token
        torch.testing.assert_close(compiled(IDS[:, :1]).logits, out.logits)
