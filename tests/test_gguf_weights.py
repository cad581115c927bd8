"""GGUF weights: the values of blocks, the names and settings of each architecture, and files that lie."""

import math
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings, strategies as st
from safetensors.torch import load_file
from test_gguf import make_gguf

from plainformers import (
    AutoConfig,
    AutoModel,
    AutoModelForCausalLM,
    AutoTokenizer,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
)
from plainformers.checkpoint import find_weights
from plainformers.config import load_config_dict
from plainformers.gguf import TENSOR_TYPES, read_gguf
from plainformers.gguf_tensors import BLOCKS, dequantise

GOLDEN = Path(__file__).parent / "data" / "gguf_blocks.safetensors"
TYPE = {name: index for index, (name, _, _) in TENSOR_TYPES.items()}
V, C, H, G, D, F, E = 40, 64, 4, 2, 16, 96, 3  # words, width, heads, their groups, width of heads, inner width, experts


# ---- Blocks


@pytest.mark.parametrize("kind", BLOCKS)
def test_blocks_have_the_values_of_the_reference(kind, monkeypatch):
    golden = load_file(GOLDEN)
    raw, values = golden[f"{kind}.raw"], golden[f"{kind}.values"].view(1, -1)
    assert values.abs().max() > 0.05 and raw.shape[1] == TENSOR_TYPES[TYPE[kind]][2]
    assert torch.equal(dequantise(raw.view(1, -1), kind, torch.float32), values)
    monkeypatch.setattr("plainformers.gguf_tensors.CHUNK", 256)  # several chunks, the last one shorter
    assert torch.equal(dequantise(raw.view(1, -1), kind, torch.float32), values)
    assert torch.equal(dequantise(raw.view(1, -1), kind, torch.bfloat16), values.bfloat16())
    assert torch.equal(dequantise(raw.view(3, -1), kind, torch.float32), values.view(3, -1))


# ---- What llama.cpp makes of published tensors, written down once more: (name there, published name, shape, change)


def halves_alternate(x, heads):
    """Rotary pairs side by side."""
    return x.reshape(heads, 2, -1, *x.shape[1:]).swapaxes(1, 2).reshape(x.shape)


def by_kind(x):
    """All queries, all keys, all values."""
    return x.reshape(H, 3, -1, *x.shape[1:]).swapaxes(0, 1).reshape(x.shape)


def decoder(change_q=None, change_k=None, norm=None, post="ffn_norm", bias="", qk_norm=False):
    rows = [
        ("token_embd.weight", "model.embed_tokens.weight", (V, C)),
        ("output_norm.weight", "model.norm.weight", (C,), norm),
        ("blk.N.attn_norm.weight", "model.layers.N.input_layernorm.weight", (C,), norm),
        (f"blk.N.{post}.weight", "model.layers.N.post_attention_layernorm.weight", (C,), norm),
        ("blk.N.attn_output.weight", "model.layers.N.self_attn.o_proj.weight", (C, H * D)),
    ]
    for letter, heads, change in (("q", H, change_q), ("k", G, change_k), ("v", G, None)):
        rows.append((f"blk.N.attn_{letter}.weight", f"model.layers.N.self_attn.{letter}_proj.weight",
                     (heads * D, C), change))  # fmt: skip
        if letter in bias:
            rows.append((f"blk.N.attn_{letter}.bias", f"model.layers.N.self_attn.{letter}_proj.bias",
                         (heads * D,), change))  # fmt: skip
        if qk_norm and letter != "v":
            rows.append((f"blk.N.attn_{letter}_norm.weight", f"model.layers.N.self_attn.{letter}_norm.weight",
                         (D,), norm))  # fmt: skip
    return rows


MLP = [
    (f"blk.N.ffn_{name}.weight", f"model.layers.N.mlp.{name}_proj.weight", (C, F) if name == "down" else (F, C))
    for name in ("gate", "up", "down")
]
O_BIAS = ("blk.N.attn_output.bias", "model.layers.N.self_attn.o_proj.bias", (C,))
LLAMA = decoder(lambda x: halves_alternate(x, H), lambda x: halves_alternate(x, G), bias="qkv") + [O_BIAS]
HEAD = [("output.weight", "lm_head.weight", (V, C))]


def plus_one(x):
    return x + 1


def experts(published, names, stacked=True):
    """One stored tensor of all experts, or (as files were written before 2024) one of each."""
    rows = []
    for ours, theirs, shape in zip(("gate", "up", "down"), names, ((F, C), (F, C), (C, F)), strict=True):
        place = f"model.layers.N.{published}.experts"
        if stacked:
            rows.append((f"blk.N.ffn_{ours}_exps.weight", [f"{place}.{e}.{theirs}.weight" for e in range(E)], shape))
        else:
            rows += [(f"blk.N.ffn_{ours}.{e}.weight", f"{place}.{e}.{theirs}.weight", shape) for e in range(E)]
    return [("blk.N.ffn_gate_inp.weight", f"model.layers.N.{published}.gate.weight", (E, C)), *rows]


def turned(x):
    return x.swapaxes(-1, -2)


GPT2 = [
    ("token_embd.weight", "transformer.wte.weight", (V, C)),
    ("position_embd.weight", "transformer.wpe.weight", (V, C)),
    *((f"output_norm.{end}", f"transformer.ln_f.{end}", (C,)) for end in ("weight", "bias")),
    *((f"blk.N.{ours}.{end}", f"transformer.h.N.{theirs}.{end}", (C,))
      for ours, theirs in (("attn_norm", "ln_1"), ("ffn_norm", "ln_2")) for end in ("weight", "bias")),
]  # fmt: skip
for ours, theirs, shape in (("attn_qkv", "attn.c_attn", (C, 3 * C)), ("attn_output", "attn.c_proj", (C, C)),
                            ("ffn_up", "mlp.c_fc", (C, F)), ("ffn_down", "mlp.c_proj", (F, C))):  # fmt: skip
    GPT2.append((f"blk.N.{ours}.weight", f"transformer.h.N.{theirs}.weight", shape, turned))
    GPT2.append((f"blk.N.{ours}.bias", f"transformer.h.N.{theirs}.bias", shape[1:]))

NEOX = [
    ("token_embd.weight", "gpt_neox.embed_in.weight", (V, C)),
    ("output.weight", "embed_out.weight", (V, C)),
    ("blk.N.attn_qkv.weight", "gpt_neox.layers.N.attention.query_key_value.weight", (3 * C, C), by_kind),
    ("blk.N.attn_qkv.bias", "gpt_neox.layers.N.attention.query_key_value.bias", (3 * C,), by_kind),
    ("blk.N.attn_output.weight", "gpt_neox.layers.N.attention.dense.weight", (C, C)),
    ("blk.N.ffn_up.weight", "gpt_neox.layers.N.mlp.dense_h_to_4h.weight", (F, C)),
    ("blk.N.ffn_down.bias", "gpt_neox.layers.N.mlp.dense_4h_to_h.bias", (C,)),
    ("blk.N.attn_norm.bias", "gpt_neox.layers.N.input_layernorm.bias", (C,)),
    ("blk.N.ffn_norm.weight", "gpt_neox.layers.N.post_attention_layernorm.weight", (C,)),
    ("output_norm.bias", "gpt_neox.final_layer_norm.bias", (C,)),
]
OSS = [
    *decoder(post="post_attention_norm", bias="qkv"), *HEAD,
    ("blk.N.attn_sinks.weight", "model.layers.N.self_attn.sinks", (H,)),
    ("blk.N.ffn_gate_inp.weight", "model.layers.N.mlp.router.weight", (E, C)),
    ("blk.N.ffn_gate_inp.bias", "model.layers.N.mlp.router.bias", (E,)),
    *((f"blk.N.ffn_{name}_exps.weight", "model.layers.N.mlp.experts.gate_up_proj", (E, C, 2 * F),
       lambda x, i=i: turned(x[..., i::2])) for i, name in enumerate(("gate", "up"))),
    *((f"blk.N.ffn_{name}_exps.bias", "model.layers.N.mlp.experts.gate_up_proj_bias", (E, 2 * F),
       lambda x, i=i: x[..., i::2]) for i, name in enumerate(("gate", "up"))),
    ("blk.N.ffn_down_exps.weight", "model.layers.N.mlp.experts.down_proj", (E, F, C), turned),
    ("blk.N.ffn_down_exps.bias", "model.layers.N.mlp.experts.down_proj_bias", (E, C)),
]  # fmt: skip
GEMMA = [
    *decoder(norm=plus_one, post="post_attention_norm"), *MLP,
    ("blk.N.ffn_norm.weight", "model.layers.N.pre_feedforward_layernorm.weight", (C,), plus_one),
    ("blk.N.post_ffw_norm.weight", "model.layers.N.post_feedforward_layernorm.weight", (C,), plus_one),
]  # fmt: skip
QK_NORMS = [(f"blk.N.attn_{one}_norm.weight", f"model.layers.N.self_attn.{one}_norm.weight", (D,)) for one in "qk"]
PHI = [row for row in decoder() if "attn_q." not in row[0] and "attn_k." not in row[0] and "attn_v." not in row[0]]
PHI += [
    *HEAD,
    ("blk.N.attn_qkv.weight", "model.layers.N.self_attn.qkv_proj.weight", ((H + 2 * G) * D, C)),
    ("blk.N.ffn_up.weight", "model.layers.N.mlp.gate_up_proj.weight", (2 * F, C)),
    ("blk.N.ffn_down.weight", "model.layers.N.mlp.down_proj.weight", (C, F)),
]

SIZES = {"context_length": 512, "embedding_length": C, "block_count": 2, "feed_forward_length": F,
         "attention.head_count": H, "attention.head_count_kv": G}  # fmt: skip
RMS = {"attention.layer_norm_rms_epsilon": 1e-5, "rope.freq_base": 50_000.0}
ROPE = {"rope.scaling.type": "yarn", "rope.scaling.factor": 4.0, "rope.scaling.original_context_length": 128}
YARN = {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 128}
LONG = [1.0 + i / 8 for i in range(D // 2)]
COMMON = {"max_position_embeddings": 512, "hidden_size": C, "num_hidden_layers": 2, "num_attention_heads": H,
          "intermediate_size": F, "vocab_size": V}  # fmt: skip
MODERN = {**COMMON, "num_key_value_heads": G, "rms_norm_eps": 1e-5, "rope_theta": 50_000.0, "rope_scaling": None}
EXPERTS = {"expert_count": E, "expert_used_count": 2}

# name -> architecture, its settings, tensors, what the config must say
CASES = {
    "llama": ("llama", {**SIZES, **RMS, "rope.dimension_count": D}, [*LLAMA, *MLP, *HEAD],
              {**MODERN, "model_type": "llama", "head_dim": D, "attention_bias": True, "mlp_bias": False,
               "tie_word_embeddings": False, "architectures": ["LlamaForCausalLM"]}),
    "mixtral": ("llama", {**SIZES, **RMS, **EXPERTS}, [*LLAMA, *experts("block_sparse_moe", ("w1", "w3", "w2"))],
                {**MODERN, "model_type": "mixtral", "num_local_experts": E, "num_experts_per_tok": 2}),
    "old-mixtral": ("llama", {**SIZES, **RMS, **EXPERTS},
                    [*LLAMA, *experts("block_sparse_moe", ("w1", "w3", "w2"), stacked=False)], MODERN),
    "qwen2": ("qwen2", {**SIZES, **RMS, **ROPE}, [*decoder(bias="qkv"), *MLP],
              {**MODERN, "model_type": "qwen2", "tie_word_embeddings": True, "rope_scaling": YARN}),
    "qwen3": ("qwen3", {**SIZES, **RMS, "attention.key_length": D}, [*decoder(), *QK_NORMS, *MLP],
              {**MODERN, "model_type": "qwen3", "head_dim": D}),
    "qwen3moe": ("qwen3moe", {**SIZES, **RMS, **EXPERTS, "expert_feed_forward_length": 24, "attention.key_length": 32},
                 [*decoder(), *QK_NORMS, *experts("mlp", ("gate_proj", "up_proj", "down_proj"))],
                 {**MODERN, "model_type": "qwen3_moe", "head_dim": 32, "num_experts": E, "moe_intermediate_size": 24,
                  "norm_topk_prob": True}),
    "gemma2": ("gemma2", {**SIZES, **RMS, "attention.key_length": 32, "attn_logit_softcapping": 50.0,
                          "final_logit_softcapping": 30.0, "attention.sliding_window": 8}, GEMMA,
               {**MODERN, "model_type": "gemma2", "head_dim": 32, "query_pre_attn_scalar": 32, "sliding_window": 8,
                "attn_logit_softcapping": 50.0, "final_logit_softcapping": 30.0}),
    "gemma3": ("gemma3", {**SIZES, **RMS, "block_count": 62, "attention.key_length": 32, "rope.scaling.type": "linear",
                          "rope.scaling.factor": 8.0, "rope.freq_base_swa": 10_000.0}, GEMMA,
               {**MODERN, "model_type": "gemma3_text", "num_hidden_layers": 62, "query_pre_attn_scalar": C // H,
                "rope_scaling": {"rope_type": "linear", "factor": 8.0}, "rope_local_base_freq": 10_000.0}),
    "phi3": ("phi3", {**SIZES, **RMS, "rope.dimension_count": 12, "attention.sliding_window": 0,
                      "rope.scaling.original_context_length": 128}, PHI,
             {**MODERN, "model_type": "phi3", "partial_rotary_factor": 0.75, "sliding_window": None,
              "original_max_position_embeddings": 128}),
    "gpt2": ("gpt2", {**SIZES, "context_length": V, "attention.layer_norm_epsilon": 1e-5}, GPT2,
             {"model_type": "gpt2", "n_positions": V, "n_embd": C, "n_layer": 2, "n_head": H, "n_inner": F,
              "layer_norm_epsilon": 1e-5, "tie_word_embeddings": True, "vocab_size": V}),
    "gptneox": ("gptneox", {**SIZES, "attention.layer_norm_epsilon": 1e-5, "rope.dimension_count": 4,
                            "use_parallel_residual": False}, NEOX,
                {**COMMON, "model_type": "gpt_neox", "rotary_pct": 0.25, "use_parallel_residual": False}),
    "gpt-oss": ("gpt-oss", {**SIZES, **RMS, **EXPERTS, **ROPE, "expert_feed_forward_length": F,
                            "attention.key_length": D, "attention.sliding_window": 8}, OSS,
                {**MODERN, "model_type": "gpt_oss", "num_local_experts": E, "sliding_window": 8,
                 "rope_scaling": {**YARN, "truncate": False}}),
}  # fmt: skip


def settings_of(architecture, values):
    fields = {"general.architecture": architecture} | {f"{architecture}.{key}": item for key, item in values.items()}
    return fields | {"tokenizer.ggml.tokens": [f"t{i}" for i in range(V)]}


def write_case(path, name, extra=(), changes=None, draw=None):
    """Writes the file; returns the published tensors that it was made of."""
    architecture, values, rows, _ = CASES[name]
    random, published, stored = np.random.default_rng(0), {}, []
    for there, ours, shape, *change in rows:
        for layer in range(2 if "N" in there else 1):
            fill = lambda one, n=str(layer): one.replace("blk.N", f"blk.{n}").replace(".N.", f".{n}.")  # noqa: E731
            names = [fill(one) for one in (ours if isinstance(ours, list) else [ours])]
            for one in names:
                published.setdefault(one, (draw or random.standard_normal)(shape).astype(np.float32))
            array = np.stack([published[one] for one in names]) if isinstance(ours, list) else published[names[0]]
            array = change[0](array) if change and change[0] else array
            stored.append((fill(there), np.ascontiguousarray(array)))
    path.write_bytes(make_gguf({**settings_of(architecture, values), **(changes or {})}, [*stored, *extra]))
    return published


@pytest.mark.parametrize("name", CASES)
def test_names_settings_and_rows_are_those_that_were_published(name, tmp_path):
    published = write_case(tmp_path / "x.gguf", name)
    (shard,) = find_weights(tmp_path / "x.gguf", None, None, {})
    assert shard.shapes == {one: array.shape for one, array in published.items()}
    for one, array in published.items():
        near = 1e-6 if "gemma" in name else 0
        np.testing.assert_allclose(shard.read(one, torch.float32).numpy(), array, atol=near, rtol=near, err_msg=one)
    found = load_config_dict(tmp_path / "x.gguf")
    wanted = CASES[name][3]
    assert {key: found.get(key) for key in wanted} == wanted


# ---- Loading


def tiny(shape):
    return np.random.default_rng(1).standard_normal(shape) / 8


@pytest.mark.parametrize("name", ["llama", "gpt2"])
@torch.no_grad()
def test_a_model_is_loaded_by_path_by_name_and_alone(name, tmp_path):
    published = write_case(tmp_path / "x.gguf", name, draw=tiny)
    ids = torch.randint(0, V, (2, 9), generator=torch.Generator().manual_seed(0))
    model = AutoModelForCausalLM.from_pretrained(tmp_path / "x.gguf")
    want = model(ids).logits
    assert model.dtype == torch.float32 and model.config.name_or_path == str(tmp_path / "x.gguf") and not model.training
    # the same weights as anyone else would publish them
    plain = type(model)(type(model).config_class.from_pretrained(tmp_path, gguf_file="x.gguf"))
    plain.load_state_dict({one: torch.from_numpy(array) for one, array in published.items()}, strict=False)
    torch.testing.assert_close(plain.eval()(ids).logits, want, atol=0, rtol=0)
    kind = {"llama": LlamaForCausalLM, "gpt2": GPT2LMHeadModel}[name]
    for source, options in ((tmp_path, {"gguf_file": "x.gguf"}), (tmp_path, {}), (str(tmp_path / "x.gguf"), {})):
        model, info = kind.from_pretrained(source, output_loading_info=True, **options)
        assert torch.equal(model(ids).logits, want)
        assert not info["missing_keys"] and not info["unexpected_keys"]
        assert AutoConfig.from_pretrained(source, **options).to_dict() == model.config.to_dict()
    base = AutoModel.from_pretrained(tmp_path)
    assert base.config.vocab_size == V and type(base).__name__.endswith("Model")
    model.save_pretrained(tmp_path / "saved")
    assert torch.equal(AutoModelForCausalLM.from_pretrained(tmp_path / "saved")(ids).logits, want)
    assert model.generate(ids[:1], max_new_tokens=3, do_sample=False).shape[1] <= 12


def q8_0(array):
    """Bytes of blocks of 32, each rounded by its own scale, and the values that they stand for."""
    blocks = array.reshape(-1, 32)
    scale = (np.abs(blocks).max(1, keepdims=True) / 127).astype(np.float16)
    codes = np.clip(np.round(blocks / np.maximum(scale.astype(np.float32), 1e-9)), -127, 127).astype(np.int8)
    stored = np.concatenate((scale.view(np.uint8), codes.view(np.uint8)), 1).tobytes()
    return stored, (codes * scale.astype(np.float32)).reshape(array.shape)


def stored_as(path, name, encode):
    """A case's file with encode(array) -> (type, bytes) for its matrices."""
    write_case(path, name, draw=tiny)
    file = read_gguf(path)
    tensors = []
    for one, info in file.tensors.items():
        array = np.array(file.stored(one)).view(np.float32).reshape(info.shape)
        kind, content = encode(array) if array.ndim > 1 else (0, array.tobytes())
        tensors.append((one, kind, info.shape, content))
    architecture, values, *_ = CASES[name]
    path.write_bytes(make_gguf(settings_of(architecture, values), tensors))


def test_rows_move_while_they_are_blocks(tmp_path):
    """What is quantised is float32 unless asked otherwise, and lets go of its file."""
    path = tmp_path / "x.gguf"
    stored_as(path, "llama", lambda array: (TYPE["Q8_0"], q8_0(array)[0]))
    published = write_case(tmp_path / "plain.gguf", "llama", draw=tiny)
    model = LlamaForCausalLM.from_pretrained(path)
    assert model.dtype == torch.float32 and model.config.dtype == "float32"
    for name, got in model.state_dict().items():
        array = published[name]
        want = q8_0(array)[1] if array.ndim > 1 else array
        assert torch.equal(got, torch.from_numpy(want)), name
    half = LlamaForCausalLM.from_pretrained(path, dtype="bfloat16").state_dict()
    assert all(torch.equal(half[name], got.bfloat16()) for name, got in model.state_dict().items())


@pytest.mark.parametrize(("kind", "dtype"), [("F16", torch.float16), ("BF16", torch.bfloat16), ("F64", torch.float32)])
def test_plain_floats_keep_their_type(kind, dtype, tmp_path):
    to = {"F16": torch.float16, "BF16": torch.bfloat16, "F64": torch.float64}[kind]
    encode = lambda array: (TYPE[kind], torch.from_numpy(array).to(to).contiguous().view(torch.uint8).numpy().tobytes())  # noqa: E731
    stored_as(tmp_path / "x.gguf", "llama", encode)
    config = AutoConfig.from_pretrained(tmp_path)
    assert config.dtype == str(dtype).removeprefix("torch.")
    before = (tmp_path / "x.gguf").read_bytes()
    model = LlamaForCausalLM.from_pretrained(tmp_path, dtype=to)
    published = write_case(tmp_path / "other.gguf", "llama", draw=tiny)
    for name, got in model.state_dict().items():
        assert torch.equal(got, torch.from_numpy(published[name]).to(to)), name
    with torch.no_grad():  # weights that are mapped can be changed, and the file stays as it is
        model.lm_head.weight.zero_()
    assert (tmp_path / "x.gguf").read_bytes() == before


def test_rope_scaling_that_is_stored_as_tensors(tmp_path):
    def scaling(factors, name="llama", which="rope_freqs"):
        names = (which,) if which == "rope_freqs" else ("rope_factors_long", "rope_factors_short")
        extra = [(f"{one}.weight", np.array(factors, np.float32)) for one in names]
        write_case(tmp_path / "x.gguf", name, extra)
        return load_config_dict(tmp_path / "x.gguf")["rope_scaling"]

    # Llama 3.2's rule (https://github.com/meta-llama/llama-models, apply_scaling), a frequency at a time
    factors = []
    for i in range(D // 2):
        wave = 2 * math.pi * 50_000.0 ** (2 * i / D)
        smooth = (8192 / wave - 1) / 3
        factors.append(1.0 if wave < 2048 else 32.0 if wave > 8192 else 1 / ((1 - smooth) / 32 + smooth))
    assert 1 < sorted(factors)[len(factors) // 2 + 1] < 32 or len({*factors}) > 1
    want = {"rope_type": "llama3", "factor": 32.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
            "original_max_position_embeddings": 8192}  # fmt: skip
    assert scaling(factors) == want
    (shard,) = find_weights(tmp_path / "x.gguf", None, None, {})
    assert not any("rope" in name for name in shard.shapes)
    for wrong in ([*factors[:-1], 16.0], factors[:-1], [0.0] * (D // 2), [math.nan] * (D // 2), []):
        with pytest.raises(ValueError, match=re.escape("x.gguf: rope_freqs.weight does not follow Llama 3.1")):
            scaling(wrong)
    assert scaling(LONG, "phi3", "long") == {"type": "longrope", "long_factor": LONG, "short_factor": LONG}


def test_the_end_of_a_turn_ends_an_answer_too(tmp_path):
    ids = {"bos": 1, "eos": 2, "padding": 3, "eot": 4}
    write_case(tmp_path / "x.gguf", "llama", changes={f"tokenizer.ggml.{n}_token_id": i for n, i in ids.items()})
    config = AutoConfig.from_pretrained(tmp_path)
    assert (config.bos_token_id, config.eos_token_id, config.pad_token_id) == (1, [2, 4], 3)


# ---- Files that lie


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"general.architecture": "mamba"}, "general.architecture is 'mamba'; known are llama, mixtral, qwen2"),
        ({"general.architecture": "mixtral"}, "general.architecture is 'mixtral'"),
        ({"general.architecture": [1, 2]}, "general.architecture is"),
        ({"llama.block_count": None}, "llama.block_count is missing"),
        ({"llama.attention.head_count": None}, "llama.attention.head_count is missing"),
        ({"llama.attention.head_count": 0}, "llama.attention.head_count must be"),
        ({"llama.attention.head_count": "four"}, "llama.attention.head_count must be one number"),
        ({"llama.attention.head_count_kv": [2, 1]}, "llama.attention.head_count_kv must be one number for all layers"),
        ({"llama.attention.head_count_kv": 3}, "num_attention_heads"),
        ({"llama.block_count": 10**9}, "num_hidden_layers"),
        ({"llama.block_count": 9_000}, "num_hidden_layers 9000"),
        ({"llama.embedding_length": 128}, "model.embed_tokens.weight: [40, 64] in the checkpoint, [40, 128] here"),
        ({"llama.feed_forward_length": 10**9}, "mlp.gate_proj.weight: [96, 64] in the checkpoint"),
        ({"llama.attention.layer_norm_rms_epsilon": math.nan}, "layer_norm_rms_epsilon must be one number"),
        ({"llama.rope.scaling.type": "magic"}, "llama.rope.scaling.type is 'magic'; known are none, linear, yarn"),
        ({"llama.rope.scaling.type": "yarn"}, "llama.rope.scaling.factor is missing"),
        ({"tokenizer.ggml.tokens": ["a"]}, "[40, 64] in the checkpoint, [1, 64] here"),
        ({"tokenizer.ggml.tokens": None}, "llama.vocab_size is missing"),
        ({"split.count": 3}, "is a part"),
    ],
)
def test_settings_that_lie(changes, message, tmp_path):
    architecture, values, *_ = CASES["llama"]
    write_case(tmp_path / "x.gguf", "llama")
    fields = {**settings_of(architecture, values), **changes}
    file = read_gguf(tmp_path / "x.gguf")
    tensors = [(n, 0, info.shape, file.stored(n).tobytes()) for n, info in file.tensors.items()]
    (tmp_path / "x.gguf").write_bytes(make_gguf({k: v for k, v in fields.items() if v is not None}, tensors))
    with pytest.raises(ValueError, match=re.escape(message)) as error:
        AutoModelForCausalLM.from_pretrained(tmp_path / "x.gguf")
    assert "x.gguf" in str(error.value)


@pytest.mark.parametrize(
    ("extra", "message"),
    [
        (
            [("blk.0.extra.weight", TYPE["IQ1_S"], (1, 256), bytes(50))],
            "'blk.0.extra.weight' is IQ1_S; supported are F64",
        ),
        ([("blk.0.extra.weight", TYPE["I32"], (1,), bytes(4))], "is I32; supported are"),
    ],
)
def test_kinds_that_are_not_read(extra, message, tmp_path):
    write_case(tmp_path / "x.gguf", "llama", extra)
    with pytest.raises(ValueError, match=re.escape(message)):
        AutoModelForCausalLM.from_pretrained(tmp_path)


def test_experts_that_lie(tmp_path):
    path = tmp_path / "x.gguf"
    write_case(path, "mixtral", [("blk.7.ffn_gate_exps.weight", 0, (2**40, 0), b"")])
    with pytest.raises(ValueError, match="blk.7.ffn_gate_exps.weight stacks 1,099,511,627,776 experts"):
        find_weights(path, None, None, {})
    write_case(path, "mixtral", [("blk.0.ffn_gate.1.weight", np.zeros((F, C), np.float32))])
    with pytest.raises(ValueError, match="ffn_gate.1.weight is not the only tensor for .*experts.1.w1.weight"):
        find_weights(path, None, None, {})
    write_case(path, "gpt-oss", [("blk.0.ffn_gate_exps.1.weight", np.zeros((E, F, C), np.float32))])
    find_weights(path, None, None, {})  # a name that says nothing is unexpected, no more


def test_unknown_names_are_reported_and_a_missing_file_is_named(tmp_path):
    write_case(tmp_path / "x.gguf", "llama", [("blk.0.new.weight", np.zeros(3, np.float32))], draw=tiny)
    _, info = LlamaForCausalLM.from_pretrained(tmp_path, output_loading_info=True)
    assert info["unexpected_keys"] == {"blk.0.new.weight"}
    for kind in (LlamaForCausalLM, LlamaConfig, AutoModelForCausalLM, AutoConfig, AutoTokenizer):
        with pytest.raises(FileNotFoundError, match="no 'y.gguf'; of GGUF files there is x.gguf"):
            kind.from_pretrained(tmp_path, gguf_file="y.gguf")
    (tmp_path / "z.gguf").write_bytes((tmp_path / "x.gguf").read_bytes())
    with pytest.raises(FileNotFoundError, match="no config.json; .* there is x.gguf, z.gguf"):
        AutoModelForCausalLM.from_pretrained(tmp_path)  # which of the two is for the caller to say


@settings(max_examples=150, deadline=None, derandomize=True, database=None,
          suppress_health_check=[HealthCheck.function_scoped_fixture])  # fmt: skip
@given(data=st.data())
def test_any_damage_loads_or_is_a_clear_error(data, tmp_path):
    path = tmp_path / "fuzzed.gguf"
    write_case(path, data.draw(st.sampled_from(["llama", "gpt2", "mixtral", "gpt-oss", "gptneox"])), draw=tiny)
    content = bytearray(path.read_bytes())
    for _ in range(data.draw(st.integers(1, 4))):
        content[data.draw(st.integers(0, min(len(content) - 1, 5000)))] = data.draw(st.integers(0, 255))
    path.write_bytes(content[: data.draw(st.integers(0, len(content)))] if data.draw(st.booleans()) else content)
    try:
        AutoModelForCausalLM.from_pretrained(path)
    except ValueError as error:
        assert "fuzzed.gguf" in str(error)
    try:  # types that have no model here yet
        (shard,) = find_weights(path, None, None, {})
    except ValueError as error:
        assert "fuzzed.gguf" in str(error)
    else:
        read_all(shard)


def read_all(shard):
    for name, shape in shard.shapes.items():
        try:
            assert math.prod(shape) > 1e6 or shard.read(name, torch.float32).shape == shape
        except RuntimeError as error:  # which `fill` says in better words
            assert "shape" in str(error) or "unflatten" in str(error) or "view" in str(error), name
