"""Phi-3: what published configs say in several ways, and the factors of long texts."""

import pytest
import torch

from plainformers import Phi3Config, Phi3ForCausalLM, Phi3Model

TINY = {"vocab_size": 61, "hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 24}
TINY |= {"pad_token_id": 0, "max_position_embeddings": 48, "original_max_position_embeddings": 5}
FACTORS = {"short_factor": [1.1, 1.4], "long_factor": [1.5, 6.0]}


@pytest.mark.parametrize(
    "rope",
    [
        {"rope_scaling": {"type": "su"} | FACTORS, "rope_theta": 50.0},
        {"rope_scaling": {"type": "yarn"} | FACTORS, "rope_theta": 50.0},
        {"rope_parameters": {"rope_type": "longrope", "rope_theta": 50.0, "partial_rotary_factor": 1.0} | FACTORS},
        {"rope_scaling": {"type": "longrope", "original_max_position_embeddings": 48} | FACTORS, "rope_theta": 50.0},
    ],
    ids=["su", "yarn", "v5", "two-lengths"],
)
def test_spellings_of_longrope(rope):
    config = Phi3Config(**TINY, **rope)
    want = {"rope_type": "longrope", "rope_theta": 50.0, "partial_rotary_factor": 1.0, "factor": 48 / 5} | FACTORS
    assert config.rope_parameters == want | {"original_max_position_embeddings": 5}


def test_fields_that_stand_twice_stay_equal():
    config = Phi3Config(
        **TINY | {"hidden_size": 64}, rope_scaling={"type": "longrope"} | FACTORS, partial_rotary_factor=0.25
    )
    assert config.rope_parameters["partial_rotary_factor"] == 0.25
    config.original_max_position_embeddings = 7
    assert config.rope_parameters["original_max_position_embeddings"] == 7
    config.rope_parameters = {"rope_type": "default", "partial_rotary_factor": 0.5}
    config.validate()
    assert config.partial_rotary_factor == 0.5 and config.rope_parameters["rope_theta"] == config.rope_theta


def test_each_sequence_takes_the_factors_of_its_own_length():
    """Of 6 tokens the long ones, of 5 the short ones, in one batch, padded or packed."""
    torch.manual_seed(0)
    config = Phi3Config(**TINY, rope_scaling={"type": "longrope"} | FACTORS, rope_theta=50.0, initializer_range=0.5)
    model = Phi3Model(config).eval()
    plain = Phi3Model(Phi3Config(**TINY, rope_theta=50.0)).eval()
    plain.load_state_dict(model.state_dict())
    ids = torch.randint(3, 61, (2, 6))
    mask = torch.tensor([[1, 1, 1, 1, 1, 1], [1, 1, 1, 1, 1, 0]])
    states = []
    for factors in ("long_factor", "short_factor"):
        both = dict.fromkeys(FACTORS, FACTORS[factors])
        config = Phi3Config(**TINY, rope_scaling={"type": "longrope"} | both, rope_theta=50.0)
        one = Phi3Model(config).eval()
        one.load_state_dict(model.state_dict())
        states.append(one(ids, mask).last_hidden_state)
    got = model(ids, mask).last_hidden_state
    torch.testing.assert_close(got[0], states[0][0])
    torch.testing.assert_close(got[1, :5], states[1][1, :5])
    assert not torch.allclose(states[0][0], states[1][0], atol=1e-3)
    assert not torch.allclose(got[0], plain(ids, mask).last_hidden_state[0], atol=1e-3)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (
            {"rope_scaling": {"type": "longrope", "short_factor": [1.0], "long_factor": [1.0, 2.0]}},
            "short_factor must hold 2",
        ),
        ({"partial_rotary_factor": 0.3}, "an even number of 4 dimensions to turn, not 1"),
        ({"partial_rotary_factor": 1.5}, "need a positive partial_rotary_factor"),
        ({"pad_token_id": 61}, "pad_token_id is 61, of a vocabulary of 61"),
        ({"sliding_window": 0}, "sliding_window must be at least 1"),
        ({"num_key_value_heads": 3}, "must be a multiple of num_key_value_heads \\(3\\)"),
        ({"hidden_size": 20}, "even multiple of num_attention_heads"),
    ],
    ids=lambda value: value if isinstance(value, str) else None,
)
def test_wrong_configs(wrong, message):
    with pytest.raises(ValueError, match=message):
        Phi3Config(**TINY | wrong)


def test_a_text_that_becomes_long_while_it_is_written_is_read_anew():
    """As if there were no cache: its keys would be turned by the factors of short texts."""
    torch.manual_seed(0)
    rope = {"type": "longrope", "short_factor": [1.0] * 8, "long_factor": [3.0 + i for i in range(8)]}
    sizes = {"hidden_size": 64, "num_attention_heads": 4, "num_key_value_heads": 2, "vocab_size": 61, "pad_token_id": 0}
    config = Phi3Config(
        **sizes, num_hidden_layers=2, intermediate_size=48, initializer_range=0.3, max_position_embeddings=64,
        original_max_position_embeddings=10, rope_scaling=rope, rope_theta=50.0, eos_token_id=None, bos_token_id=1,
    )  # fmt: skip
    model = Phi3ForCausalLM(config).eval()
    ids = torch.arange(3, 19).view(2, 8)
    mask = torch.ones_like(ids)
    mask[1, :3] = 0
    for given in ({}, {"attention_mask": mask}):
        cached, anew = (model.generate(ids, **given, max_new_tokens=9, use_cache=use) for use in (True, False))
        assert torch.equal(cached, anew)
