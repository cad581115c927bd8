"""What the table of the zoo cannot say of ModernBERT: both spellings of its config, its windows, its sparse loss."""

import json

import pytest
import torch
from zoo import MODERNBERT

from plainformers import (
    ModernBertConfig,
    ModernBertForMaskedLM,
    ModernBertForSequenceClassification,
    ModernBertModel,
    Packed,
)

# config.json of answerdotai/ModernBERT-base
PUBLISHED = {
    "architectures": ["ModernBertForMaskedLM"],
    "attention_bias": False,
    "attention_dropout": 0.0,
    "bos_token_id": 50281,
    "classifier_activation": "gelu",
    "classifier_bias": False,
    "classifier_dropout": 0.0,
    "classifier_pooling": "mean",
    "cls_token_id": 50281,
    "decoder_bias": True,
    "deterministic_flash_attn": False,
    "embedding_dropout": 0.0,
    "eos_token_id": 50282,
    "global_attn_every_n_layers": 3,
    "global_rope_theta": 160000.0,
    "gradient_checkpointing": False,
    "hidden_activation": "gelu",
    "hidden_size": 768,
    "initializer_cutoff_factor": 2.0,
    "initializer_range": 0.02,
    "intermediate_size": 1152,
    "layer_norm_eps": 1e-05,
    "local_attention": 128,
    "local_rope_theta": 10000.0,
    "max_position_embeddings": 8192,
    "mlp_bias": False,
    "mlp_dropout": 0.0,
    "model_type": "modernbert",
    "norm_bias": False,
    "norm_eps": 1e-05,
    "num_attention_heads": 12,
    "num_hidden_layers": 22,
    "pad_token_id": 50283,
    "position_embedding_type": "absolute",
    "repad_logits_with_grad": False,
    "sep_token_id": 50282,
    "sparse_pred_ignore_index": -100,
    "sparse_prediction": False,
    "torch_dtype": "float32",
    "transformers_version": "4.47.0.dev0",
    "vocab_size": 50368,
}
KINDS = ["full_attention", "sliding_attention", "sliding_attention"]
NEWER = {k: v for k, v in PUBLISHED.items() if "theta" not in k and "every" not in k} | {
    "layer_types": [KINDS[i % 3] for i in range(22)],
    "rope_parameters": {
        "full_attention": {"rope_theta": 160000.0, "rope_type": "default"},
        "sliding_attention": {"rope_theta": 10000.0, "rope_type": "default"},
    },
}
SPELLINGS = pytest.mark.parametrize("file", [PUBLISHED, NEWER], ids=["version 4", "version 5"])


def read(file, folder, **overrides):
    (folder / "config.json").write_text(json.dumps(file))
    return ModernBertConfig.from_pretrained(folder, **overrides)


@SPELLINGS
def test_both_spellings_are_read_and_saved_as_they_came(file, tmp_path):
    config = read(file, tmp_path)
    assert config == read(PUBLISHED, tmp_path)
    assert config.layer_types == NEWER["layer_types"] and config.rope_parameters == NEWER["rope_parameters"]
    assert (config.global_attn_every_n_layers, config.global_rope_theta, config.local_rope_theta) == (3, 160000, 10000)
    assert config.to_dict() == file


@SPELLINGS
def test_what_is_set_last_counts(file, tmp_path):
    for changes in (
        {"global_rope_theta": 5.0},
        {"rope_parameters": {"full_attention": {"rope_theta": 5.0}, "sliding_attention": None}},
        {"rope_parameters": {"full_attention": {"rope_theta": 5.0}, "sliding_attention": {}}, "global_rope_theta": 7.0},
    ):
        config = read(file, tmp_path, **changes)
        thetas = {kind: rope["rope_theta"] for kind, rope in config.rope_parameters.items()}
        assert thetas == {"full_attention": 5.0, "sliding_attention": 10000.0}
        assert (config.global_rope_theta, config.local_rope_theta) == (5.0, 10000.0)
        assert read(config.to_dict(), tmp_path) == config
    config = read(file, tmp_path, local_rope_theta=None)
    assert config.rope_parameters["sliding_attention"]["rope_theta"] == 160000
    assert read(config.to_dict(), tmp_path).rope_parameters == config.rope_parameters
    config.rope_parameters = {"full_attention": {"rope_theta": 5.0}}
    config.validate()
    assert (config.global_rope_theta, config.local_rope_theta) == (5, 160000) and read(
        config.to_dict(), tmp_path
    ) == config
    assert read(file, tmp_path, num_hidden_layers=4).layer_types == NEWER["layer_types"][:4]
    assert read(file, tmp_path, num_hidden_layers=23).layer_types == [*NEWER["layer_types"], "sliding_attention"]
    every = read(file, tmp_path, global_attn_every_n_layers=2, num_hidden_layers=3)
    assert every.layer_types == [KINDS[0], KINDS[1], KINDS[0]] and every.global_attn_every_n_layers == 2
    odd = read(file, tmp_path, layer_types=KINDS[::-1], num_hidden_layers=3)
    assert odd.layer_types == KINDS[::-1] and odd.global_attn_every_n_layers is None
    assert read(odd.to_dict(), tmp_path) == odd
    odd.num_hidden_layers = 4
    with pytest.raises(ValueError, match="global_attn_every_n_layers must be at least 1, got None; or give layer_type"):
        odd.validate()
    odd.layer_types = [*KINDS, "full_attention"]
    odd.validate()
    assert odd.global_attn_every_n_layers == 3


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"hidden_size": 770}, r"hidden_size \(770\) must be an even multiple of num_attention_heads \(12\)"),
        ({"num_attention_heads": 768}, "must be an even multiple"),
        ({"local_attention": 0}, "local_attention must be positive, got 0"),
        ({"local_rope_theta": -1.0}, "local_rope_theta must be positive"),
        ({"initializer_cutoff_factor": 0.0}, "initializer_cutoff_factor must be positive"),
        ({"global_rope_theta": 0.0}, "need a positive rope_theta"),
        ({"classifier_pooling": "max"}, "classifier_pooling must be 'cls' or 'mean', got 'max'"),
        ({"vocab_size": 100}, "pad_token_id is 50283, of a vocabulary of 100"),
        ({"global_attn_every_n_layers": 0}, "global_attn_every_n_layers must be at least 1, got 0"),
        ({"layer_types": KINDS}, "for 22 layers, got"),
        ({"layer_types": ["chunked_attention"] * 22}, "layer_types must be 'full_attention' or 'sliding_attention'"),
        ({"rope_parameters": {"rope_type": "default"}}, "a dictionary for full_attention and sliding_attention"),
        ({"rope_parameters": {"full_attention": 5}}, "a dictionary for full_attention"),
        ({"rope_parameters": {"full_attention": {"rope_type": "yarn"}}}, "need a positive factor"),
        ({"rope_parameters": {"full_attention": {"rope_type": "dynamic"}}}, "need a positive factor"),
        ({"rope_scaling": {"full_attention": {"type": "linear", "factor": 2.0}}}, "must be of rope_type .default."),
    ],
)
def test_wrong_configs_are_errors(fields, message):
    with pytest.raises(ValueError, match=message):
        ModernBertConfig(**fields)


@pytest.mark.parametrize("local", [1, 2, 3, 4, 5])
@pytest.mark.parametrize("kernel", ["eager", "sdpa"])
def test_local_layers_see_half_of_the_window_on_each_side(local, kernel):
    torch.manual_seed(0)
    model = ModernBertModel(ModernBertConfig(**MODERNBERT | {"local_attention": local, "num_hidden_layers": 2})).eval()
    model.set_attn_implementation(kernel)
    ids = torch.randint(3, 61, (1, 9))
    distance = (torch.arange(9)[:, None] - torch.arange(9)).abs()
    full, near = model(ids, output_attentions=True).attentions
    assert (full > 0).all()
    assert ((near > 0) == (distance <= local // 2)).all()
    # with one layer, a token's change is felt where it is seen
    alone = ModernBertModel(
        ModernBertConfig(**MODERNBERT | {"local_attention": local, "num_hidden_layers": 1, "layer_types": [KINDS[1]]})
    ).eval()
    other = ids.clone()
    other[0, 4] = (ids[0, 4] + 1 - 3) % 58 + 3
    for mask in (None, Packed((9,))):
        alone.set_attn_implementation(kernel)
        before, after = (alone(one, mask).last_hidden_state for one in (ids, other))
        felt = ((before - after).abs() > 1e-7).any(-1)[0]
        assert felt.tolist() == [abs(i - 4) <= local // 2 for i in range(9)]


def test_packed_windows_do_not_reach_into_neighbours():
    torch.manual_seed(0)
    model = ModernBertModel(ModernBertConfig(**MODERNBERT | {"layer_types": [KINDS[1]] * 4})).eval()
    ids = torch.randint(3, 61, (1, 8))
    one = model(ids, Packed((3, 5))).last_hidden_state
    two = torch.cat([model(part).last_hidden_state for part in ids.split((3, 5), 1)], 1)
    torch.testing.assert_close(one, two, atol=1e-5, rtol=1e-5)


def test_sparse_predictions_are_those_of_the_labels():
    torch.manual_seed(0)
    model = ModernBertForMaskedLM(ModernBertConfig(**MODERNBERT, sparse_prediction=True)).eval()
    ids = torch.randint(3, 61, (2, 5))
    labels = torch.full((2, 5), -100)
    labels[0, 1], labels[1, 4] = 7, 0
    sparse = model(ids, labels=labels)
    model.config.sparse_prediction = False
    dense = model(ids, labels=labels)
    assert sparse.logits.shape == (2, 61) and dense.logits.shape == (2, 5, 61) and sparse.loss_count == 2
    torch.testing.assert_close(sparse.logits, dense.logits[labels != -100])
    torch.testing.assert_close(sparse.loss, dense.loss)
    packed = model(ids.view(1, 10), Packed((5, 5)), labels=labels.view(1, 10))
    torch.testing.assert_close(packed.loss, dense.loss)
    model.config.sparse_prediction, model.config.sparse_pred_ignore_index = True, 0
    assert model(ids, labels=labels).logits.shape == (9, 61)  # -100 is still no target
    torch.testing.assert_close(model(ids, labels=labels).loss, -dense.logits[0, 1].log_softmax(-1)[7])
    nothing = model(ids, labels=torch.zeros(2, 5).long())
    assert nothing.loss == 0 and nothing.loss_count == 0 and nothing.logits.shape == (0, 61)


def test_a_mask_that_says_everything_is_pooled_as_one_without_padding():
    torch.manual_seed(0)
    ids = torch.randint(3, 61, (4, 4))
    config = ModernBertConfig(**MODERNBERT | {"layer_types": ["full_attention"] * 4}, classifier_pooling="mean")
    model = ModernBertForSequenceClassification(config).eval()
    want = model(ids).logits
    torch.testing.assert_close(model(ids, torch.ones(4, 1, 4, 4)).logits, want)
    torch.testing.assert_close(model(ids, torch.ones(4, 4, 4)).logits, want)
