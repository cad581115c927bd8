"""OPT: silenced heads, names of its first checkpoints, layers left out in training, wrong configs."""

import pytest
import torch

from plainformers import OPTConfig, OPTForCausalLM, OPTModel

TINY = {"vocab_size": 61, "hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 4, "ffn_dim": 24}
TINY |= {"max_position_embeddings": 12, "init_std": 0.3}
IDS = torch.tensor([[5, 6, 7, 8], [9, 10, 11, 1]])
MASK = torch.tensor([[1, 1, 1, 1], [1, 1, 1, 0]])


@pytest.mark.parametrize("kernel", ["eager", "sdpa"])
def test_a_silenced_head_gives_nothing(kernel):
    """A factor of a head is one of the columns of the layer that reads it."""
    torch.manual_seed(0)
    model = OPTModel(OPTConfig(**TINY)).eval()
    other = OPTModel(model.config).eval()
    other.load_state_dict(model.state_dict())
    factors = torch.tensor([[1.0, 0.0, 0.5, 1.0], [0.0, 1.0, 1.0, 2.0]])
    with torch.no_grad():
        for layer, row in zip(other.decoder.layers, factors, strict=True):
            layer.self_attn.out_proj.weight *= row.repeat_interleave(4)
    model.set_attn_implementation(kernel)
    got = model(IDS, MASK, head_mask=factors).last_hidden_state
    torch.testing.assert_close(got[MASK == 1], other(IDS, MASK).last_hidden_state[MASK == 1])
    assert not torch.allclose(got, model(IDS, MASK).last_hidden_state, atol=1e-2)


def test_names_of_the_first_checkpoints_are_read():
    model = OPTForCausalLM(OPTConfig(**TINY)).eval()
    state = {
        name.removeprefix("model."): value for name, value in model.state_dict().items() if name != "lm_head.weight"
    }
    state["decoder.version"] = torch.ones(1)
    again, info = OPTForCausalLM.from_pretrained(None, config=model.config, state_dict=state, output_loading_info=True)
    assert not info["missing_keys"] and not info["unexpected_keys"]
    assert again.lm_head.weight is again.model.decoder.embed_tokens.weight
    assert torch.equal(again(IDS, MASK).logits, model(IDS, MASK).logits)


def test_layerdrop_leaves_out_layers_in_training_only():
    torch.manual_seed(0)
    model = OPTModel(OPTConfig(**TINY, layerdrop=1.0, dropout=0.0))
    none = model(IDS, MASK, output_hidden_states=True, use_cache=False).hidden_states
    assert len(none) == 3 and torch.equal(none[0], none[1])
    some = model.eval()(IDS, MASK, output_hidden_states=True).hidden_states
    assert not torch.allclose(some[0], some[1], atol=1e-2)


def test_positions_begin_at_the_third_vector():
    model = OPTModel(OPTConfig(**TINY)).eval()
    with torch.no_grad():
        model.decoder.embed_positions.weight[:2] = torch.nan
    assert model(IDS, MASK).last_hidden_state.isfinite().all()
    assert model(IDS.flip(1), MASK.flip(1)).last_hidden_state.isfinite().all()
    ids = torch.arange(3, 15)[None]
    assert model(ids).last_hidden_state.isfinite().all()
    with pytest.raises(ValueError, match="13 tokens long; this model has 12 positions"):
        model(torch.arange(3, 16)[None])


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"num_attention_heads": 5}, r"hidden_size \(16\) must be a multiple"),
        ({"layerdrop": 1.5}, "layerdrop is a probability, from 0 to 1, got 1.5"),
        ({"pad_token_id": 61}, "pad_token_id is 61, of a vocabulary of 61"),
    ],
)
def test_wrong_configs(wrong, message):
    with pytest.raises(ValueError, match=message):
        OPTConfig(**TINY | wrong)
