"""GenerationConfig: what may be asked for, what it comes to, and what is written back."""

import copy
import json
import pickle

import numpy as np
import pytest
import torch

from plainformers import BertConfig, GenerationConfig


def write(folder, values, name="generation_config.json"):
    folder.mkdir(exist_ok=True)
    (folder / name).write_text(json.dumps(values))
    return folder


def saved(config, folder):
    config.save_pretrained(folder)
    return json.loads((folder / "generation_config.json").read_text())


# ---- In code


def test_what_is_not_set_is_none():
    config = GenerationConfig(top_p=0.9, eos_token_id=[1, 2])
    assert config.top_p == 0.9 and config.temperature is None and config.max_length is None
    assert repr(config) == "GenerationConfig(top_p=0.9, eos_token_id=[1, 2])"
    assert config == GenerationConfig(top_p=0.9, eos_token_id=[1, 2]) != GenerationConfig(top_p=0.8)
    assert pickle.loads(pickle.dumps(config)) == copy.deepcopy(config) == config


def test_a_misspelt_name_is_an_error():
    with pytest.raises(TypeError, match="GenerationConfig has no argument 'temprature'. Did you mean 'temperature'"):
        GenerationConfig(temprature=0.3)
    config = GenerationConfig()
    with pytest.raises(AttributeError, match="Did you mean 'top_k'"):
        config.topk = 3
    with pytest.raises(AttributeError, match="Did you mean 'num_beams'"):
        print(config.num_beam)
    with pytest.raises(TypeError, match="Did you mean 'do_sample'"):
        config.copy(do_samples=True)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"max_new_tokens": 0}, r"max_new_tokens must be in \[1, inf\), got 0"),
        ({"max_length": 2.5}, "max_length must be int, got 2.5"),
        ({"max_length": True}, "max_length must be int, got True"),
        ({"do_sample": 1}, "do_sample must be bool, got 1"),
        ({"top_p": 1.5, "top_k": -1}, r"top_k must be in \[0, inf\), got -1; top_p must be in \[0, 1\], got 1.5"),
        ({"top_h": 0}, r"top_h must be in \(0, 1\], got 0"),
        ({"epsilon_cutoff": 1.0}, r"epsilon_cutoff must be in \[0, 1\), got 1.0"),
        ({"temperature": float("nan")}, "temperature must be float, got nan"),
        ({"repetition_penalty": 0.0}, r"repetition_penalty must be in \(0, inf\), got 0.0"),
        ({"early_stopping": "always"}, "early_stopping must be True or False or 'never', got 'always'"),
        ({"cache_implementation": "big"}, "cache_implementation must be 'dynamic' or 'static' or"),
        ({"eos_token_id": "</s>"}, r"eos_token_id must be int \| list\[int\], got '</s>'"),
        ({"do_sample": True, "temperature": 0}, "temperature=0 cannot be drawn from; .* use do_sample=False"),
        ({"num_return_sequences": 2}, "num_return_sequences=2 needs do_sample=True"),
        ({"num_return_sequences": 3, "num_beams": 2}, "num_return_sequences=3 needs .* num_beams .* it is 2"),
        ({"num_return_sequences": 3, "num_beams": 2, "do_sample": True}, "num_return_sequences=3"),
        ({"min_length": 5, "max_length": 4}, "min_length=5 is more than max_length=4"),
        ({"min_new_tokens": 5, "max_new_tokens": 4}, "min_new_tokens=5 is more than max_new_tokens=4"),
        ({"num_beams": 4, "num_beam_groups": 3, "diversity_penalty": 1.0}, "num_beam_groups=3 must divide num_beams=4"),
        ({"num_beams": 4, "num_beam_groups": 2}, "needs a diversity_penalty above 0"),
        ({"num_beams": 4, "diversity_penalty": 0.5}, "diversity_penalty=0.5 needs num_beam_groups above 1"),
        ({"num_beams": 4, "penalty_alpha": 0.6}, "penalty_alpha=0.6 .* needs num_beams=1"),
        ({"do_sample": True, "penalty_alpha": 0.6}, "do_sample=False"),
        ({"force_words_ids": [[1]]}, "force_words_ids need num_beams above 1"),
        ({"num_beams": 2, "prompt_lookup_num_tokens": 3}, "prompt_lookup_num_tokens needs num_beams=1, got 2"),
        ({"num_beams": 2, "dola_layers": "low"}, "dola_layers needs num_beams=1"),
        ({"forced_eos_token_id": [1, 2], "suppress_tokens": [1, 2, 3]}, "suppress_tokens rules it out"),
        ({"bad_words_ids": [[]]}, "bad_words_ids must name sequences of one token or more"),
        ({"bad_words_ids": [[-1]]}, "bad_words_ids must name"),
        ({"sequence_bias": [["a", 0.5]]}, "sequence_bias must name"),
        ({"exponential_decay_length_penalty": [1, 2, 3]}, r"must be \(start, factor\)"),
        ({"exponential_decay_length_penalty": (1, 0)}, r"must be \(start, factor\)"),
        ({"watermarking_config": {"ngram_len": 5}}, "watermarking_config may have bias"),
        ({"watermarking_config": {"seeding_scheme": "hash"}}, "the scheme lefthash or selfhash"),
        ({"use_mtp": True}, "use_mtp is not supported: no model here predicts several tokens at once"),
        ({"continuous_batching_config": {"a": 1}}, "continuous_batching_config is not supported"),
    ],
    ids=str,
)
def test_wrong_values_are_named(given, message):
    with pytest.raises(ValueError, match=message):
        GenerationConfig(**given)
    config = GenerationConfig()
    with pytest.raises(ValueError, match=message):
        config.update(**given)


def test_values_at_the_edge_are_allowed():
    GenerationConfig(temperature=0, top_k=0, top_p=0, min_p=1, top_h=1, typical_p=1, epsilon_cutoff=0, use_mtp=False)
    GenerationConfig(
        num_return_sequences=2, num_beams=2, early_stopping="never", exponential_decay_length_penalty=(1, 2)
    )
    GenerationConfig(num_beams=4, num_beam_groups=2, diversity_penalty=0.1, force_words_ids=None, pad_token_id=-1)
    GenerationConfig(num_return_sequences=2, do_sample=True, forced_eos_token_id=[1, 2], suppress_tokens=[1])
    config = GenerationConfig(max_new_tokens=np.int64(3), temperature=torch.tensor(0.5), eos_token_id=torch.tensor([1]))
    assert (config.max_new_tokens, config.temperature, config.eos_token_id) == (3, 0.5, [1])


@pytest.mark.parametrize(
    ("given", "mode"),
    [
        ({}, "greedy_search"),
        ({"do_sample": True}, "sample"),
        ({"num_beams": 2}, "beam_search"),
        ({"num_beams": 2, "do_sample": True}, "beam_sample"),
        ({"num_beams": 2, "num_beam_groups": 2, "diversity_penalty": 1.0}, "group_beam_search"),
        ({"num_beams": 2, "force_words_ids": [[1]]}, "constrained_beam_search"),
        ({"num_beams": 2, "constraints": [object()]}, "constrained_beam_search"),
        ({"penalty_alpha": 0.6}, "contrastive_search"),
        ({"penalty_alpha": 0.6, "top_k": 1}, "greedy_search"),
        ({"prompt_lookup_num_tokens": 3, "do_sample": True}, "assisted_generation"),
        ({"assistant_early_exit": 3}, "assisted_generation"),
        ({"dola_layers": "high"}, "dola_generation"),
    ],
)
def test_the_mode(given, mode):
    assert GenerationConfig(**given).get_generation_mode() == mode
    assert GenerationConfig().get_generation_mode(assistant_model=object()) == "assisted_generation"
    assert GenerationConfig(num_beams=2).get_generation_mode(assistant_model=object()) == "beam_search"


# ---- What it comes to


def test_nearer_settings_win():
    models = GenerationConfig(temperature=0.6, top_p=0.9, do_sample=True, eos_token_id=2, max_length=50)
    own = GenerationConfig(top_p=0.5, num_beams=3)
    got = own.resolved(models, num_beams=2, top_k=None, max_new_tokens=7)
    assert (got.temperature, got.top_p, got.do_sample, got.eos_token_id, got.num_beams) == (0.6, 0.5, True, 2, 2)
    assert got.top_k is None and got.max_new_tokens == 7
    assert (got.typical_p, got.repetition_penalty, got.use_cache, got.min_length) == (1.0, 1.0, True, 0)
    assert GenerationConfig().resolved().top_k == 50 and GenerationConfig().resolved().max_length is None
    assert own.temperature is None, "changed"
    with pytest.raises(TypeError, match="Did you mean 'top_k'"):
        own.resolved(topk=3)


def test_a_length_replaces_one_in_the_other_measure():
    """The reference lets max_new_tokens of a file win over the max_length that a caller gives."""
    models = GenerationConfig(max_new_tokens=2048, min_new_tokens=3)
    got = models.resolved(models, max_length=50)
    assert (got.max_length, got.max_new_tokens, got.min_new_tokens) == (50, None, 3)
    got = GenerationConfig(min_length=4).resolved(models)
    assert (got.max_new_tokens, got.min_length, got.min_new_tokens) == (2048, 4, None)


def test_a_short_maximum_beats_the_minimum_of_the_file():
    models = GenerationConfig(min_length=56, max_length=142)
    assert models.resolved(models, max_length=30).min_length == 30
    with pytest.raises(ValueError, match="min_length=150 is more than max_length=142"):
        models.resolved(models, min_length=150)


def test_caches_that_a_model_makes_itself():
    assert GenerationConfig(cache_implementation="hybrid").resolved().cache_implementation is None
    assert GenerationConfig(cache_implementation="static").resolved().cache_implementation == "static"


def test_resolving_leaves_no_shared_lists():
    config = GenerationConfig(eos_token_id=[1], suppress_tokens=[2])
    config.resolved().eos_token_id.append(5)
    assert config.eos_token_id == [1]


# ---- Files

FILE = {
    "_from_model_config": True,
    "eos_token_id": [2, 7],
    "do_sample": False,
    "top_k": None,
    "temperature": 0.7,
    "lang_to_id": {"<|de|>": 5},
    "use_mtp": True,
    "sequence_bias": [[[1, 2], 0.5]],
    "transformers_version": "4.30.1",
}


def test_an_unchanged_file_comes_back(tmp_path):
    config = GenerationConfig.from_pretrained(write(tmp_path / "a", FILE))
    assert config.eos_token_id == [2, 7] and config.lang_to_id == {"<|de|>": 5} and not config.use_mtp
    assert saved(config, tmp_path / "b") == FILE
    assert saved(copy.deepcopy(config), tmp_path / "b") == FILE
    assert json.loads(config.to_json_string()) == FILE


def test_only_changes_differ(tmp_path):
    config = GenerationConfig.from_pretrained(write(tmp_path / "a", FILE), num_beams=3)
    config.temperature, config.lang_to_id, config.use_cache = None, {}, False
    want = FILE | {"temperature": None, "lang_to_id": {}, "use_cache": False, "num_beams": 3}
    assert saved(config, tmp_path / "b") == want
    assert saved(GenerationConfig.from_pretrained(tmp_path / "b"), tmp_path / "c") == want


def test_a_new_config_writes_what_is_set(tmp_path):
    config = GenerationConfig(do_sample=True, sequence_bias={(1, 2): -0.5}, watermarking_config={"bias": 1.0})
    want = {"do_sample": True, "sequence_bias": [[[1, 2], -0.5]], "watermarking_config": {"bias": 1.0}}
    assert config.to_diff_dict() == want == saved(config, tmp_path)
    assert config.to_dict() == dict.fromkeys(GenerationConfig.names()) | want
    assert json.loads(config.to_json_string(use_diff=False)) == config.to_dict()


def test_a_wrong_config_is_not_saved(tmp_path):
    config = GenerationConfig()
    config.top_p = 3
    with pytest.raises(ValueError, match="top_p"):
        config.save_pretrained(tmp_path / "a")
    assert not (tmp_path / "a").exists()


def test_errors_name_the_file(tmp_path):
    folder = write(tmp_path / "a", {"top_p": 7})
    with pytest.raises(
        ValueError, match=r"a/generation_config.json: GenerationConfig: top_p must be in \[0, 1\], got 7"
    ):
        GenerationConfig.from_pretrained(folder)
    with pytest.raises(FileNotFoundError, match="has no other.json; in .* there is generation_config.json"):
        GenerationConfig.from_pretrained(folder, "other.json")
    write(folder, {"top_p": 0.5})
    with pytest.raises(TypeError, match="Did you mean 'top_k'"):
        GenerationConfig.from_pretrained(folder, topk=3)
    config, unused = GenerationConfig.from_pretrained(folder, foo=3, top_k=4, return_unused_kwargs=True)
    assert unused == {"foo": 3} and (config.top_p, config.top_k) == (0.5, 4)
    write(folder, {"top_k": 9}, "other.json")
    assert GenerationConfig.from_pretrained(folder, "other.json", local_files_only=True).top_k == 9


def test_update_gives_back_what_it_does_not_know():
    config = GenerationConfig.from_dict({"lang_to_id": {}})
    assert config.update(top_k=3, lang_to_id={"a": 1}, input_ids=[1]) == {"input_ids": [1]}
    assert config.top_k == 3 and config.lang_to_id == {"a": 1}
    other = config.copy(top_k=4)
    assert (config.top_k, other.top_k, other.lang_to_id) == (3, 4, {"a": 1})


def test_what_an_older_config_json_says():
    config = BertConfig.from_dict(
        {"eos_token_id": 5, "num_beams": 4, "max_length": 20, "top_k": 50, "vocab_size": 9, "bos_token_id": 1}
        | {"force_bos_token_to_be_generated": True, "temperature": 1.0, "output_attentions": True}
    )
    got = GenerationConfig.from_model_config(config)
    want = {"eos_token_id": 5, "num_beams": 4, "bos_token_id": 1, "forced_bos_token_id": 1, "output_attentions": True}
    want |= {"pad_token_id": 0, "return_dict_in_generate": True}
    assert got.to_diff_dict() == want
    assert GenerationConfig.from_model_config({"max_length": 30, "eos_token_id": None}).to_diff_dict() == {
        "max_length": 30
    }
