"""What the table of the zoo cannot say of Gemma 3: both spellings of its config, scaled embeddings, caps of scores."""

import json

import pytest
import torch
from zoo import GEMMA3

from plainformers import Gemma2Config, Gemma2ForCausalLM, Gemma3ForCausalLM, Gemma3TextConfig, Gemma3TextModel

FULL, SLIDING = "full_attention", "sliding_attention"
PLAIN = {"model_type": "gemma3_text", "num_hidden_layers": 3, "sliding_window": 512}
OLDER = PLAIN | {"rope_theta": 5e5, "rope_local_base_freq": 500.0, "sliding_window_pattern": 3}
OLDER |= {"rope_scaling": {"factor": 8.0, "rope_type": "linear"}}
NEWER = PLAIN | {
    "layer_types": [SLIDING, SLIDING, FULL],
    "rope_parameters": {
        FULL: {"rope_type": "linear", "factor": 8.0, "rope_theta": 5e5},
        SLIDING: {"rope_type": "default", "rope_theta": 500.0},
    },
}
SPELLINGS = pytest.mark.parametrize("file", [OLDER, NEWER], ids=["version 4", "version 5"])


@SPELLINGS
def test_both_spellings_are_read_and_saved_as_they_came(file, tmp_path):
    config = Gemma3TextConfig.from_dict(file)
    assert config.rope_theta == 5e5 and config.rope_local_base_freq == 500.0
    assert config.rope_scaling == {"factor": 8.0, "rope_type": "linear"}
    assert config.rope_parameters == NEWER["rope_parameters"] and config.layer_types == NEWER["layer_types"]
    config.save_pretrained(tmp_path)
    assert json.loads((tmp_path / "config.json").read_text()) == file


@SPELLINGS
def test_what_is_set_last_counts(file):
    config = Gemma3TextConfig.from_dict(file)
    config.rope_theta, config.rope_local_base_freq = 7.0, 3.0
    config.validate()
    assert config.rope_parameters[FULL] == {"rope_type": "linear", "factor": 8.0, "rope_theta": 7.0}
    assert config.rope_parameters[SLIDING] == {"rope_type": "default", "rope_theta": 3.0}
    config.rope_scaling = None
    config.validate()
    assert config.rope_parameters[FULL] == {"rope_type": "default", "rope_theta": 7.0}
    again = Gemma3TextConfig.from_dict(config.to_dict())
    assert (again.rope_parameters, again.rope_scaling) == (config.rope_parameters, None)
    config.rope_parameters = NEWER["rope_parameters"]
    config.validate()
    assert (config.rope_theta, config.rope_local_base_freq) == (5e5, 500.0)
    assert config.rope_scaling == {"factor": 8.0, "rope_type": "linear"}
    assert Gemma3TextConfig.from_dict(config.to_dict()).rope_parameters == config.rope_parameters


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"layer_types": [FULL]}, "for 4 layers"),
        ({"layer_types": [FULL, FULL, FULL, "local"]}, "'local'"),
        ({"sliding_window": None}, "sliding_window must be at least 1 .* got None"),
        ({"sliding_window_pattern": 0}, "sliding_window_pattern must be at least 1, got 0"),
        ({"query_pre_attn_scalar": 0}, "query_pre_attn_scalar must be positive, got 0"),
        ({"final_logit_softcapping": -1.0}, "final_logit_softcapping must be positive, got -1.0"),
        ({"num_attention_heads": 3}, r"num_attention_heads \(3\) must be a multiple of num_key_value_heads \(2\)"),
        ({"head_dim": 5}, "head_dim must be even"),
        ({"rope_parameters": {"rope_type": "linear", "factor": 8.0}}, "must have a dictionary for full_attention"),
        ({"rope_scaling": {"rope_type": "linear"}}, "need a positive factor"),
    ],
)
def test_what_is_wrong_in_a_config_is_named(change, message):
    with pytest.raises(ValueError, match=message):
        Gemma3TextConfig(**GEMMA3 | change)


def test_embeddings_are_scaled_as_the_weights_are_rounded():
    model = Gemma3TextModel(Gemma3TextConfig(**GEMMA3 | {"hidden_size": 12})).eval()
    ids = torch.tensor([[3, 4, 5]])
    embed = model.get_input_embeddings()
    assert torch.equal(embed(ids), embed.weight[ids] * 12**0.5)
    torch.testing.assert_close(model(inputs_embeds=embed(ids))[0], model(ids)[0])
    model.resize_token_embeddings(70)
    assert torch.equal(model.get_input_embeddings()(ids), embed(ids))
    embed = model.bfloat16().get_input_embeddings()
    rounded = torch.tensor(12**0.5, dtype=torch.bfloat16).float()
    assert rounded != 12**0.5 and torch.equal(embed(ids), (embed.weight[ids].float() * rounded).bfloat16())


@pytest.mark.parametrize(("config", "kind"), [(Gemma3TextConfig, Gemma3ForCausalLM), (Gemma2Config, Gemma2ForCausalLM)])
def test_scores_and_logits_are_capped(config, kind):
    """The reference does not cap the scores of Gemma 3, whatever its config says."""
    sizes = {k: v for k, v in GEMMA3.items() if k != "sliding_window_pattern"} | {"initializer_range": 1.0}
    ids, outs = torch.tensor([[3, 4, 5, 6]]), []
    for cap in (None, 1e-3):
        torch.manual_seed(0)
        model = kind(config(**sizes, attn_logit_softcapping=cap, final_logit_softcapping=cap)).eval()
        outs.append(model(ids, output_attentions=True))
    plain, capped = outs
    assert capped.logits.abs().max() <= 1e-3 < plain.logits.abs().max()
    torch.testing.assert_close(capped.attentions[0][0, 0, 3, 1:], torch.full((3,), 1 / 3), atol=1e-3, rtol=0)
    assert (plain.attentions[0][0, 0, 3, 1:] - 1 / 3).abs().max() > 1e-2
