"""GPT-NeoX: silenced heads, older names, and settings that stand in two places."""

import pytest
import torch

from plainformers import GPTNeoXConfig, GPTNeoXForCausalLM, GPTNeoXModel

TINY = {"vocab_size": 61, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 24}
TINY |= {"max_position_embeddings": 12, "initializer_range": 0.3, "rotary_pct": 0.5}
IDS = torch.tensor([[5, 6, 7, 8], [9, 10, 11, 0]])
MASK = torch.tensor([[1, 1, 1, 1], [1, 1, 1, 0]])


@pytest.mark.parametrize("kernel", ["eager", "sdpa"])
def test_a_silenced_head_gives_nothing(kernel):
    """A factor of a head is one of the columns of the layer that reads it."""
    torch.manual_seed(0)
    model = GPTNeoXModel(GPTNeoXConfig(**TINY)).eval()
    other = GPTNeoXModel(model.config).eval()
    other.load_state_dict(model.state_dict())
    factors = torch.tensor([[1.0, 0.0, 0.5, 1.0], [0.0, 1.0, 1.0, 2.0]])
    with torch.no_grad():
        for layer, row in zip(other.layers, factors, strict=True):
            layer.attention.dense.weight *= row.repeat_interleave(8)
    model.set_attn_implementation(kernel)
    got = model(IDS, MASK, head_mask=factors).last_hidden_state
    torch.testing.assert_close(got[MASK == 1], other(IDS, MASK).last_hidden_state[MASK == 1])
    assert not torch.allclose(got, model(IDS, MASK).last_hidden_state, atol=1e-2)
    one = model(IDS, MASK, head_mask=factors[0]).last_hidden_state
    torch.testing.assert_close(one, model(IDS, MASK, head_mask=factors[:1].expand(2, 4)).last_hidden_state)


def test_names_of_other_versions_are_read():
    model = GPTNeoXForCausalLM(GPTNeoXConfig(**TINY)).eval()
    state = {name.replace("embed_out", "lm_head"): value for name, value in model.state_dict().items()}
    for name in ("bias", "masked_bias", "rotary_emb.inv_freq"):  # buffers
        state[f"gpt_neox.layers.0.attention.{name}"] = torch.ones(2)
    again, info = GPTNeoXForCausalLM.from_pretrained(
        None, config=model.config, state_dict=state, output_loading_info=True
    )
    assert not info["missing_keys"] and not info["unexpected_keys"]
    assert torch.equal(again(IDS, MASK).logits, model(IDS, MASK).logits)


def test_rotary_settings_of_both_versions():
    config = GPTNeoXConfig(**TINY, rotary_emb_base=500)
    want = {"rope_type": "default", "rope_theta": 500, "partial_rotary_factor": 0.5}
    assert config.rope_parameters == want and config.rope_theta == 500
    newer = GPTNeoXConfig(**{k: v for k, v in TINY.items() if k != "rotary_pct"}, rope_parameters=want)
    assert (newer.rotary_pct, newer.rotary_emb_base) == (0.5, 500)
    newer.rotary_pct = 1.0
    newer.rope_theta = 40
    assert newer.rope_parameters == {"rope_type": "default", "rope_theta": 40, "partial_rotary_factor": 1.0}
    read = GPTNeoXConfig.from_dict(
        {"rotary_pct": 0.25, "rotary_emb_base": 30, "hidden_size": 32, "num_attention_heads": 2}
    )
    assert read.rope_parameters["rope_theta"] == 30 and read.rope_parameters["partial_rotary_factor"] == 0.25


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"rotary_pct": 0.4}, "even number of 8 dimensions to turn, not 3"),
        ({"rotary_pct": 0.1}, "even number of 8 dimensions to turn, not 0"),
        ({"num_attention_heads": 5}, r"hidden_size \(32\) must be a multiple"),
    ],
)
def test_wrong_configs(wrong, message):
    with pytest.raises(ValueError, match=message):
        GPTNeoXConfig(**TINY | wrong)
