"""What the table of the zoo cannot say of NomicBert: the published config and names, long texts, biases, embeddings."""

import copy
import json

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from zoo import NOMIC, draw_ids, draw_weight

from plainformers import (
    AutoModel,
    BertTokenizer,
    NomicBertConfig,
    NomicBertForMaskedLM,
    NomicBertModel,
    Packed,
    pipeline,
)

# config.json of nomic-ai/nomic-embed-text-v1.5 before Transformers 5
PUBLISHED = {
    "activation_function": "swiglu",
    "architectures": ["NomicBertModel"],
    "attn_pdrop": 0.0,
    "auto_map": {"AutoModel": "nomic-ai/nomic-bert-2048--modeling_hf_nomic_bert.NomicBertModel"},
    "bos_token_id": None,
    "causal": False,
    "dense_seq_output": True,
    "embd_pdrop": 0.0,
    "eos_token_id": None,
    "fused_bias_fc": True,
    "fused_dropout_add_ln": True,
    "initializer_range": 0.02,
    "layer_norm_epsilon": 1e-12,
    "max_trained_positions": 2048,
    "mlp_fc1_bias": False,
    "mlp_fc2_bias": False,
    "model_type": "nomic_bert",
    "n_embd": 768,
    "n_head": 12,
    "n_inner": 3072,
    "n_layer": 12,
    "n_positions": 8192,
    "pad_vocab_size_multiple": 64,
    "parallel_block": False,
    "parallel_block_tied_norm": False,
    "prenorm": False,
    "qkv_proj_bias": False,
    "reorder_and_upcast_attn": False,
    "resid_pdrop": 0.0,
    "rotary_emb_base": 1000,
    "rotary_emb_fraction": 1.0,
    "rotary_emb_interleaved": False,
    "rotary_emb_scale_base": None,
    "rotary_scaling_factor": None,
    "scale_attn_by_inverse_layer_idx": False,
    "scale_attn_weights": True,
    "summary_activation": None,
    "summary_first_dropout": 0.0,
    "summary_proj_to_labels": True,
    "summary_type": "cls_index",
    "summary_use_proj": True,
    "torch_dtype": "float32",
    "transformers_version": "4.37.2",
    "type_vocab_size": 2,
    "use_cache": True,
    "use_flash_attn": True,
    "use_rms_norm": False,
    "use_xentropy": True,
    "vocab_size": 30528,
}
NEWER = {
    "architectures": ["NomicBertModel"],
    "attention_probs_dropout_prob": 0.0,
    "dtype": "float32",
    "head_dim": 64,
    "hidden_act": "silu",
    "hidden_dropout_prob": 0.0,
    "hidden_size": 768,
    "initializer_range": 0.02,
    "intermediate_size": 3072,
    "layer_norm_eps": 1e-12,
    "max_position_embeddings": 2048,
    "model_type": "nomic_bert",
    "num_attention_heads": 12,
    "num_hidden_layers": 12,
    "pad_token_id": 0,
    "rope_parameters": {"rope_theta": 1000.0, "rope_type": "default"},
    "type_vocab_size": 2,
    "vocab_size": 30528,
}
SPELLINGS = pytest.mark.parametrize("file", [PUBLISHED, NEWER, PUBLISHED | NEWER], ids=["published", "new", "both"])
SMALL = {"n_embd": 16, "n_head": 4, "n_layer": 2, "n_inner": 24, "vocab_size": 61}


def read(file, folder, **overrides):
    (folder / "config.json").write_text(json.dumps(file))
    return NomicBertConfig.from_pretrained(folder, **overrides)


@SPELLINGS
def test_both_spellings_are_read_and_saved_as_they_came(file, tmp_path):
    config = read(file, tmp_path)
    assert (config.n_embd, config.n_layer, config.n_head, config.n_inner, config.layer_norm_epsilon) == (
        *(config.hidden_size, config.num_hidden_layers, config.num_attention_heads, config.intermediate_size),
        config.layer_norm_eps,
    )
    assert (config.hidden_size, config.num_hidden_layers, config.num_attention_heads) == (768, 12, 12)
    assert (config.intermediate_size, config.layer_norm_eps, config.head_size) == (3072, 1e-12, 64)
    assert config.rope_parameters == {"rope_type": "default", "rope_theta": 1000}
    assert config.rotary_emb_base == config.rope_theta == 1000 and config.rotary_scaling_factor is None
    assert config.longest_input == (8192 if "n_positions" in file else 2048)
    assert config.to_dict() == file
    stretched = read(file, tmp_path, rotary_scaling_factor=2)  # as the model's card says for long texts
    want = {"rope_type": "dynamic", "rope_theta": 1000, "factor": 2, "original_max_position_embeddings": 2048}
    assert stretched.rope_parameters == want
    assert read(stretched.to_dict(), tmp_path) == stretched
    same = read(file, tmp_path, rope_parameters={"rope_type": "dynamic", "factor": 2.0})
    assert same.rope_parameters == want and same.rotary_scaling_factor == 2
    stretched.rope_parameters = {"rope_type": "default", "rope_theta": 50.0}
    stretched.validate()
    assert stretched.rotary_scaling_factor is None and stretched.rotary_emb_base == 50
    assert read(stretched.to_dict(), tmp_path) == stretched
    assert read(file, tmp_path, n_layer=3).num_hidden_layers == 3


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"n_embd": 770}, r"hidden_size \(770\) must be an even multiple of num_attention_heads \(12\)"),
        ({"head_dim": 7}, r"or head_dim \(7\) be even"),
        ({"activation_function": "gelu"}, "activation_function must be 'swiglu', got 'gelu': there is no code for it"),
        ({"activation_function": "swiglu", "hidden_act": "gelu"}, "'swiglu' is a hidden_act of 'silu', got 'gelu'"),
        ({"causal": True}, "causal must be False"),
        ({"moe_every_n_layers": 2}, "moe_every_n_layers must be 0, got 2"),
        ({"norm_mlp": True}, "norm_mlp must be False"),
        ({"parallel_block": True}, "parallel_block must be False"),
        ({"prenorm": True}, "prenorm must be False"),
        ({"rotary_emb_fraction": 0.5}, "rotary_emb_fraction must be 1, got 0.5"),
        ({"rotary_emb_interleaved": True}, "rotary_emb_interleaved must be False"),
        ({"rotary_emb_scale_base": 512.0}, "rotary_emb_scale_base must be None, got 512.0"),
        ({"use_rms_norm": True}, "use_rms_norm must be False"),
        ({"type_vocab_size": 0}, "type_vocab_size must be at least 1"),
        ({"rotary_emb_base": -1.0}, "need a positive rope_theta"),
        ({"rotary_scaling_factor": 0.0}, "need a positive factor"),
        ({"rotary_scaling_factor": 2.0, "head_dim": 2}, "Heads of size 2 cannot be stretched"),
        ({"rope_parameters": {"rope_type": "yarn"}}, "need a positive factor"),
        ({"rope_scaling": {"type": "linear", "factor": 2.0}}, "by default or dynamic, got"),
        ({"rope_parameters": {"partial_rotary_factor": 0.5}}, "must turn whole heads"),
        ({"n_embd": 768, "hidden_size": 16}, "n_embd=768 and hidden_size=16 name the same"),
    ],
)
def test_wrong_configs_are_errors(fields, message):
    with pytest.raises(ValueError, match=message):
        NomicBertConfig(**fields)


def save(folder, file, weights):
    folder.mkdir(exist_ok=True)
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    (folder / "config.json").write_text(json.dumps(file))


def test_a_published_folder_gives_the_numbers_of_the_new_spelling(tmp_path):
    state = NomicBertModel(NomicBertConfig(**SMALL)).state_dict()
    weights = {name: draw_weight(name, tuple(value.shape)) for name, value in state.items()}
    save(tmp_path / "published", PUBLISHED | SMALL, weights)
    names = {"n_embd": "hidden_size", "n_head": "num_attention_heads", "n_layer": "num_hidden_layers"}
    names |= {"n_inner": "intermediate_size", "vocab_size": "vocab_size"}
    save(tmp_path / "newer", NEWER | {names[k]: v for k, v in SMALL.items()} | {"head_dim": 4}, weights)
    one, other = (AutoModel.from_pretrained(tmp_path / name, trust_remote_code=True) for name in ("published", "newer"))
    ids = draw_ids("ids", (2, 9), 3, 61)
    assert type(one) is type(other) is NomicBertModel and torch.equal(one(ids)[0], other(ids)[0])
    one.save_pretrained(tmp_path / "again")
    saved = load_file(tmp_path / "again/model.safetensors")
    assert saved.keys() == weights.keys() and all(torch.equal(saved[name], weights[name]) for name in weights)
    assert set(saved) == {
        *(f"emb_ln.{end}" for end in ("weight", "bias")),
        *(f"embeddings.{kind}_embeddings.weight" for kind in ("word", "token_type")),
        *(f"encoder.layers.{i}.norm{j}.{end}" for i in (0, 1) for j in (1, 2) for end in ("weight", "bias")),
        *(f"encoder.layers.{i}.attn.{name}.weight" for i in (0, 1) for name in ("Wqkv", "out_proj")),
        *(f"encoder.layers.{i}.mlp.{name}.weight" for i in (0, 1) for name in ("fc11", "fc12", "fc2")),
    }
    config = json.loads((tmp_path / "again/config.json").read_text())
    assert config.items() >= {k: v for k, v in (PUBLISHED | SMALL).items() if "dtype" not in k}.items()


def test_masked_language_models_of_the_published_code(tmp_path, caplog):
    """They keep the base model under bert, have no biases in their head, and once had a buffer of frequencies."""
    ours = NomicBertForMaskedLM(NomicBertConfig(**SMALL)).eval()
    weights = {name: draw_weight(name, tuple(value.shape)) for name, value in ours.state_dict().items()}
    weights["cls.predictions.decoder.weight"] = weights["nomic_bert.embeddings.word_embeddings.weight"].clone()
    for name in ("cls.predictions.bias", "cls.predictions.decoder.bias", "cls.predictions.transform.dense.bias"):
        del weights[name]
    ours.load_state_dict(weights, strict=False)  # the biases that are not there are zero since the drawing
    published = {name.replace("nomic_bert.", "bert."): value for name, value in weights.items()}
    published |= {f"bert.encoder.layers.{i}.attn.rotary_emb.inv_freq": torch.ones(2) for i in (0, 1)}
    save(tmp_path / "bert", PUBLISHED | SMALL, published)
    ids = draw_ids("ids", (2, 9), 3, 61)
    theirs = NomicBertForMaskedLM.from_pretrained(tmp_path / "bert")
    assert "new weights were drawn for cls.predictions.bias, cls.predictions.transform.dense.bias" in caplog.text
    assert "not used from the checkpoint" not in caplog.text
    torch.testing.assert_close(theirs(ids).logits, ours(ids).logits)
    assert torch.equal(AutoModel.from_pretrained(tmp_path / "bert")(ids)[0], ours.nomic_bert(ids)[0])


def test_long_texts_are_stretched_alone_as_in_a_batch():
    torch.manual_seed(0)
    fields = NOMIC | {"max_trained_positions": 4, "initializer_range": 0.5}
    short, long = (NomicBertModel(NomicBertConfig(**fields, rotary_scaling_factor=n)).eval() for n in (None, 2.0))
    long.load_state_dict(short.state_dict())
    other = NomicBertModel(
        NomicBertConfig(**NOMIC, max_position_embeddings=4, rope_parameters={"rope_type": "dynamic", "factor": 2.0})
    ).eval()
    other.load_state_dict(short.state_dict())
    ids = draw_ids("ids", (1, 9), 3, 61)
    assert torch.equal(short(ids[:, :4])[0], long(ids[:, :4])[0])
    assert (short(ids)[0] - long(ids)[0]).abs().max() > 1e-3
    assert torch.equal(other(ids)[0], long(ids)[0])
    alone = [long(ids[:, :n])[0][0] for n in (9, 3, 6)]
    mask = torch.tensor([[i < n for i in range(9)] for n in (9, 3, 6)]).long()
    for left in (False, True):
        rows = ids * mask
        turned = torch.stack([row.roll(int(left) * (9 - n)) for row, n in zip(rows, (9, 3, 6), strict=True)])
        batch = long(turned, mask.flip(1) if left else mask)[0]
        for row, n, want in zip(batch, (9, 3, 6), alone, strict=True):
            torch.testing.assert_close(row[9 - n :] if left else row[:n], want, atol=1e-5, rtol=1e-5)
    packed = long(torch.cat([ids[:, :n] for n in (9, 3, 6)], 1), Packed((9, 3, 6)))[0][0]
    torch.testing.assert_close(packed, torch.cat(alone), atol=1e-5, rtol=1e-5)


@pytest.mark.parity
def test_one_long_text_is_stretched_as_in_the_reference(tmp_path):
    transformers = pytest.importorskip("transformers")
    config = NOMIC | {"max_position_embeddings": 4, "rope_parameters": {"rope_type": "dynamic", "factor": 2.0}}
    ours = NomicBertModel(NomicBertConfig(**config, initializer_range=0.5)).eval()
    ours.save_pretrained(tmp_path)
    ids = draw_ids("ids", (1, 9), 3, 61)
    theirs = transformers.AutoModel.from_pretrained(tmp_path)
    torch.testing.assert_close(ours(ids)[0], theirs(ids)[0], atol=1e-5, rtol=1e-5)
    plain = copy.deepcopy(ours.config)
    plain.rope_parameters = {"rope_type": "default"}
    assert (NomicBertModel.from_pretrained(tmp_path, config=plain)(ids)[0] - ours(ids)[0]).abs().max() > 1e-3


def test_biases_of_the_layers():
    """Published models have none; those that the published code trains may. A bias is what a zero input leaves."""
    config = NomicBertConfig(**SMALL, qkv_proj_bias=True, mlp_fc1_bias=True, mlp_fc2_bias=True)
    model = NomicBertModel(config).eval()
    state = {name: draw_weight(name, tuple(value.shape)) for name, value in model.state_dict().items()}
    plain = NomicBertModel(NomicBertConfig(**SMALL)).eval()
    added = {name.removesuffix(".bias") for name in state.keys() - plain.state_dict().keys()}
    assert {name.partition("layers.0.")[2] for name in added} - {""} == {
        *("attn.Wqkv", "attn.out_proj", "mlp.fc11", "mlp.fc12", "mlp.fc2")
    }
    model.load_state_dict(state)
    plain.load_state_dict({name: state[name] for name in plain.state_dict()})
    ids = draw_ids("ids", (2, 5), 3, 61)
    assert (model(ids)[0] - plain(ids)[0]).abs().max() > 1e-2
    for name in added:  # the layers without biases, with them put behind
        bias = state[f"{name}.bias"]
        plain.get_submodule(name).register_forward_hook(lambda _, __, out, bias=bias: out + bias)
    torch.testing.assert_close(model(ids)[0], plain(ids)[0])


def test_a_published_folder_makes_embeddings(tmp_path):
    torch.manual_seed(0)
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "a", "film", "good", "search_query", ":"]
    file = PUBLISHED | SMALL | {"vocab_size": 64, "initializer_range": 0.5}
    model = NomicBertModel(NomicBertConfig.from_dict(file)).eval()
    save(tmp_path, file, model.state_dict())
    BertTokenizer(vocab={word: i for i, word in enumerate(words)}, model_max_length=8192).save_pretrained(tmp_path)
    kinds = [("", "Transformer"), ("1_Pooling", "Pooling"), ("2_Normalize", "Normalize")]
    modules = [{"idx": i, "path": p, "type": f"sentence_transformers.models.{k}"} for i, (p, k) in enumerate(kinds)]
    (tmp_path / "1_Pooling").mkdir()
    (tmp_path / "1_Pooling/config.json").write_text('{"pooling_mode_mean_tokens": true}')
    (tmp_path / "modules.json").write_text(json.dumps(modules))
    (tmp_path / "config_sentence_transformers.json").write_text('{"prompts": {"query": "search_query: "}}')
    pipe = pipeline("feature-extraction", str(tmp_path))
    texts = ["a good film", "film", "a a a a a a a"]
    with torch.no_grad():
        rows = [model(**pipe.tokenizer(text, return_tensors="pt"))[0].mean(1)[0] for text in texts]
    want = torch.nn.functional.normalize(torch.stack(rows), dim=-1)
    np.testing.assert_allclose(pipe.encode(texts), want, atol=1e-5)
    with torch.no_grad():
        asked = model(**pipe.tokenizer("search_query: film", return_tensors="pt"))[0].mean(1)[0]
    got = pipe.encode("film", prompt_name="query")
    np.testing.assert_allclose(got, torch.nn.functional.normalize(asked, dim=0), atol=1e-5)
    assert (pipe.model_longest, got.shape) == (8192, (16,))
