"""Configurations: what a call may say, what a file may say, and what is written back."""

import copy
import json
import math
import os
import pickle
import time

import pytest
from models.zoo import BERT, DISTILBERT

from plainformers import AutoConfig, BertConfig, DistilBertConfig, PretrainedConfig
from plainformers.config import MOST_LABELS


def write(folder, values):
    folder.mkdir(exist_ok=True)
    text = values if isinstance(values, (str, bytes)) else json.dumps(values)
    (folder / "config.json").write_bytes(text if isinstance(text, bytes) else text.encode())
    return folder


def saved(config, folder):
    config.save_pretrained(folder)
    return json.loads((folder / "config.json").read_text())


class OwnConfig(PretrainedConfig):
    model_type = "own-config"

    def __init__(self, width=8, depth=2, pad_token_id=0, **kwargs):
        self.width = width
        self.depth = depth
        super().__init__(pad_token_id=pad_token_id, **kwargs)


# ---- In code


def test_fields_by_name_and_in_order():
    config = BertConfig(61, 16, 2, 4)
    assert (config.vocab_size, config.hidden_size, config.num_hidden_layers, config.num_attention_heads) == (
        61,
        16,
        2,
        4,
    )
    assert config.intermediate_size == 3072 and config.layer_norm_eps == 1e-12
    with pytest.raises(TypeError, match="BertConfig got vocab_size twice"):
        BertConfig(61, vocab_size=61)
    with pytest.raises(TypeError, match="at most 20 values in order, got 99"):
        BertConfig(*range(99))


def test_a_misspelt_argument_is_an_error():
    with pytest.raises(TypeError, match="BertConfig has no argument 'hidden_sise'. Did you mean 'hidden_size'"):
        BertConfig(hidden_sise=12)
    with pytest.raises(TypeError, match="twice"):
        BertConfig(dtype="float32", torch_dtype="float16")
    with pytest.raises(AttributeError, match="no 'hiden_size'. Did you mean 'hidden_size'"):
        _ = BertConfig().hiden_size


def test_labels_have_one_meaning():
    assert BertConfig().num_labels == 2 and BertConfig().label2id == {"LABEL_0": 0, "LABEL_1": 1}
    three = BertConfig(num_labels=3)
    assert three.id2label == {0: "LABEL_0", 1: "LABEL_1", 2: "LABEL_2"} and three.label2id["LABEL_2"] == 2
    named = BertConfig(id2label={"0": "no", "1": "yes"})
    assert named.id2label == {0: "no", 1: "yes"} and named.label2id == {"no": 0, "yes": 1} and named.num_labels == 2
    named.num_labels = 2
    assert named.id2label == {0: "no", 1: "yes"}
    named.id2label = {0: "cold", 1: "hot"}
    assert named.label2id == {"cold": 0, "hot": 1}, "as many labels, other names"
    both = BertConfig(label2id={"a": 1, "b": 0}, id2label={0: "b", 1: "a"}, num_labels=2)
    assert both.label2id == {"a": 1, "b": 0}
    assert BertConfig(id2label=None, label2id=None).num_labels == 2
    with pytest.raises(ValueError, match="num_labels is 3, but id2label names 2 labels"):
        BertConfig(num_labels=3, id2label={0: "a", 1: "b"})
    for bad in (True, -1, "3", 2.0, MOST_LABELS + 1):
        with pytest.raises(ValueError, match="num_labels must be a number from 0 to"):
            BertConfig(num_labels=bad)
    for bad in (["a", "b"], 5, {"x": "a"}, {1.5: "a"} | {"1.5": "b"}):
        with pytest.raises(ValueError, match="id2label must map numbers to names"):
            BertConfig(id2label=bad)


def test_common_names_reach_the_fields():
    config = DistilBertConfig(hidden_size=48, num_attention_heads=4)
    assert config.dim == config.hidden_size == 48 and config.n_heads == 4
    config.num_hidden_layers = 3
    assert config.n_layers == 3
    assert DistilBertConfig(dim=48, hidden_size=48).dim == 48
    with pytest.raises(ValueError, match="dropout is a probability|dropout must be float, got nan"):
        DistilBertConfig(dropout=math.nan)
    with pytest.raises(ValueError, match="dim=48 and hidden_size=24 name the same"):
        DistilBertConfig(dim=48, hidden_size=24)


def test_notes_are_kept_and_read(tmp_path):
    config = DistilBertConfig(use_cache=False, sep_token_id=3)
    assert config.use_cache is False and config.sep_token_id == 3
    assert saved(config, tmp_path)["sep_token_id"] == 3


BAD = {
    "vocab_size": [10**12, -1, 0, "61", 61.0, math.nan, True, None, [61], {}],
    "hidden_size": [10**12, -16, 0, 15, "16"],
    "num_hidden_layers": [10**12, 10**5, -1, 2.0, "2", False, None],
    "num_attention_heads": [0, -4, 3, 10**30],
    "max_position_embeddings": [-1, 10**12],
    "hidden_dropout_prob": [1.5, -0.1, math.nan, math.inf, "0.1", 10**400],
    "layer_norm_eps": [-1.0, math.inf, 10**400],
    "initializer_range": [-0.02, None],
    "architectures": ["BertModel", 5, {"a": 1}, [1]],
    "pad_token_id": ["0", 2**80],
    "id2label": [3, ["a"]],
    "label2id": [3, ["a"]],
    "num_labels": [-1, "2", 10**12],
    "is_decoder": [1, "yes", None],
    "return_dict": ["no"],
    "position_embedding_type": ["relative_key", 3],
}
CASES = [(name, value) for name, values in BAD.items() for value in values]


@pytest.mark.parametrize(("name", "value"), CASES, ids=lambda x: str(x)[:20])
def test_absurd_values_are_refused_and_named(name, value, tmp_path):
    with pytest.raises(ValueError, match=name):
        BertConfig(**BERT | {name: value})
    if value == 10**400:
        return  # JSON has it, but Python's json does not write it as a test could
    write(tmp_path, {"model_type": "bert"} | BERT | {name: value})
    started = time.perf_counter()
    with pytest.raises(ValueError, match=name):
        AutoConfig.from_pretrained(tmp_path)
    with pytest.raises(ValueError, match=name):
        AutoConfig.from_pretrained(write(tmp_path, {"model_type": "bert"} | BERT), **{name: value})
    assert time.perf_counter() - started < 1


def test_several_wrong_values_are_named_together(tmp_path):
    write(tmp_path, {"model_type": "bert", "vocab_size": "x", "intermediate_size": -1, "type_vocab_size": 1.5})
    with pytest.raises(
        ValueError, match="vocab_size must be int.*intermediate_size must be between.*type_vocab_size"
    ) as e:
        AutoConfig.from_pretrained(tmp_path)
    assert str(tmp_path) in str(e.value)


def test_configs_copy_and_pickle():
    config = BertConfig(**BERT, num_labels=3)
    for one in (copy.deepcopy(config), copy.copy(config), pickle.loads(pickle.dumps(config))):
        assert one == config and one.num_labels == 3
    other = copy.deepcopy(config)
    other.id2label[0] = "changed"
    assert config.id2label[0] == "LABEL_0" and other != config


# ---- Files


def test_saving_changes_nothing_that_nobody_changed(tmp_path):
    values = {
        "_name_or_path": "somebody/else",
        "architectures": ["BertForMaskedLM"],
        "model_type": "bert",
        "torch_dtype": "float16",
        "gradient_checkpointing": False,
        "transformers_version": "4.6.0.dev0",
        "a key of theirs": {"deep": [1, {"x": None}]},
        "self": 1,
        "extra": 2,
        "validate": "not a method",
        "id2label": {"0": "no", "1": "yes"},
        "label2id": {"no": 0, "yes": 1},
        "_attn_implementation_internal": "someone/kernel",
        "attn_implementation": "someone/kernel",
        "nothing": None,
    } | BERT
    config = AutoConfig.from_pretrained(write(tmp_path / "a", values))
    assert saved(config, tmp_path / "b") == values
    assert config.attn_implementation == "sdpa", "a file chooses no kernel"
    assert config.gradient_checkpointing is False and config.dtype == "float16"
    assert callable(config.validate)
    config.hidden_act, config.dtype, config.nothing = "relu", "bfloat16", 3
    assert saved(config, tmp_path / "b") == values | {"hidden_act": "relu", "torch_dtype": "bfloat16", "nothing": 3}
    again = AutoConfig.from_pretrained(tmp_path / "b")
    assert again == config


def test_a_common_name_is_written_as_it_stood(tmp_path):
    values = {"model_type": "distilbert", "hidden_size": 24, "n_heads": 4}
    config = AutoConfig.from_pretrained(write(tmp_path, values))
    config.dim = 48
    assert saved(config, tmp_path) == values | {"hidden_size": 48}


def test_a_new_config_is_written_in_full(tmp_path):
    values = saved(BertConfig(**BERT, num_labels=3, problem_type="regression"), tmp_path)
    assert values["model_type"] == "bert" and values["hidden_act"] == "gelu" and values["problem_type"] == "regression"
    assert values["id2label"] == {"0": "LABEL_0", "1": "LABEL_1", "2": "LABEL_2"}
    assert not {"extra", "name_or_path", "attn_implementation", "num_labels"} & values.keys()
    assert {k: values[k] for k in BERT} == BERT
    assert BertConfig(**BERT).to_diff_dict() == {"model_type": "bert"} | {
        k: v for k, v in BERT.items() if k != "type_vocab_size"
    }


def test_overrides_name_fields_aliases_or_keys_of_the_file(tmp_path):
    write(tmp_path, {"model_type": "bert", "note": 1, "torch_dtype": "float32"} | BERT)
    config = AutoConfig.from_pretrained(tmp_path, hidden_act="relu", num_labels=5, note=2, torch_dtype="bfloat16")
    assert (config.hidden_act, config.num_labels, config.note, config.dtype) == ("relu", 5, 2, "bfloat16")
    assert config.name_or_path == str(tmp_path)
    with pytest.raises(TypeError, match="no argument 'hiden_act'. Did you mean 'hidden_act'"):
        AutoConfig.from_pretrained(tmp_path, hiden_act="relu")
    with pytest.raises(TypeError, match="hiden_act"):
        BertConfig.from_pretrained(tmp_path, hiden_act="relu")
    config, unused = BertConfig.from_pretrained(tmp_path, hiden_act="relu", num_labels=4, return_unused_kwargs=True)
    assert unused == {"hiden_act": "relu"} and config.num_labels == 4
    with pytest.raises(ValueError, match="hidden_size"):
        AutoConfig.from_pretrained(tmp_path, hidden_size=17)
    with pytest.raises(ValueError, match="num_labels is 3, but id2label names 2"):
        AutoConfig.from_pretrained(tmp_path, num_labels=3, id2label={0: "a", 1: "b"})
    assert BertConfig.from_pretrained(tmp_path, trust_remote_code=True, use_auth_token=None).vocab_size == 61


def test_update_and_json_files(tmp_path):
    config = BertConfig(**BERT)
    config.update({"hidden_act": "relu", "num_labels": 4})
    assert config.hidden_act == "relu" and config.num_labels == 4
    with pytest.raises(ValueError, match="hidden_dropout_prob"):
        config.update({"hidden_dropout_prob": 7})
    config = BertConfig(**BERT)
    config.to_json_file(tmp_path / "c.json")
    assert BertConfig.from_json_file(tmp_path / "c.json") == config
    assert config.get_text_config() is config


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "not readable as JSON"),
        ("{", "not readable as JSON"),
        (b"\xff\xfe\x00", "not readable as JSON"),
        ("[1]", "must hold a JSON object"),
        ("3", "must hold a JSON object"),
        ("[" * 100_000, "not readable as JSON"),
        ('{"a":' * 100_000, "not readable as JSON"),
        ('{"vocab_size": ' + "9" * 5000 + "}", "not readable as JSON"),
        ("{}", "names no model_type"),
        ('{"model_type": ["bert"]}', "names no model_type"),
        ('{"model_type": {"a": 1}}', "names no model_type"),
        ('{"model_type": "brt"}', "Did you mean 'bert'"),
        ('{"model_type": "new", "auto_map": {"AutoModel": "modeling_new.New"}}', "Code of a repository is never run"),
        ('{"model_type": 3, "auto_map": {"AutoModel": "modeling_new.New"}}', "Code of a repository is never run"),
    ],
    ids=range(14),
)
def test_a_damaged_file_is_named(text, message, tmp_path):
    write(tmp_path, text)
    started = time.perf_counter()
    with pytest.raises(ValueError, match=message) as error:
        AutoConfig.from_pretrained(tmp_path)
    assert str(tmp_path) in str(error.value) and len(str(error.value)) < 1500
    assert time.perf_counter() - started < 1


def test_a_missing_file_says_what_is_there(tmp_path):
    (tmp_path / "model.bin").touch()
    with pytest.raises(FileNotFoundError, match=r"no config.json; in .* there is model.bin"):
        AutoConfig.from_pretrained(tmp_path)
    with pytest.raises(FileNotFoundError, match="does not exist"):
        AutoConfig.from_pretrained(tmp_path / "absent")
    with pytest.raises(TypeError, match="str or a Path"):
        AutoConfig.from_pretrained(None)


def test_the_wrong_class_for_a_file(tmp_path):
    write(tmp_path, {"model_type": "distilbert"} | DISTILBERT)
    with pytest.raises(ValueError, match="says model_type 'distilbert'; BertConfig reads 'bert'. Use AutoConfig"):
        BertConfig.from_pretrained(tmp_path)
    write(tmp_path, BERT)
    assert BertConfig.from_pretrained(tmp_path).hidden_size == 16, "a file from before model_type was written"


def test_a_class_in_the_style_of_transformers(tmp_path):
    config = OwnConfig(width=4, num_labels=3, use_cache=False)
    assert (config.width, config.depth, config.num_labels, config.pad_token_id) == (4, 2, 3, 0)
    with pytest.raises(TypeError, match="no argument 'widht'. Did you mean 'width'"):
        OwnConfig(widht=3)
    config.save_pretrained(tmp_path)
    again = OwnConfig.from_pretrained(tmp_path)
    assert again == config and again.width == 4 and again.use_cache is False
    assert OwnConfig.from_pretrained(tmp_path, depth=5).depth == 5
    with pytest.raises(TypeError, match="Did you mean 'depth'"):
        OwnConfig.from_pretrained(tmp_path, dept=5)


def test_unicode_and_long_folders(tmp_path):
    folder = tmp_path / "模型 émoji 🙂" / ("x" * 200) / ("y" * 200)
    BertConfig(**BERT, id2label={0: "já", 1: "ノー"}).save_pretrained(folder)
    assert AutoConfig.from_pretrained(folder).id2label[1] == "ノー"
    with pytest.raises(OSError):
        AutoConfig.from_pretrained(str(tmp_path / ("z" * 5000)))


@pytest.mark.skipif(os.name == "nt" or os.geteuid() == 0, reason="needs a user whom permissions bind")
def test_a_folder_that_may_not_be_written(tmp_path):
    tmp_path.chmod(0o500)
    with pytest.raises(PermissionError):
        BertConfig().save_pretrained(tmp_path)
    tmp_path.chmod(0o700)
