"""AutoConfig and the AutoModel classes, classes of a user's own, and models from a hub."""

import json
import sys

import pytest
import torch
from hub_server import HubServer
from models.zoo import BERT, DISTILBERT, draw_weight
from safetensors.torch import save_file
from torch import nn

import plainformers
from plainformers import (
    AutoConfig,
    AutoModel,
    AutoModelForMaskedLM,
    AutoModelForSequenceClassification,
    AutoModelForTokenClassification,
    BertConfig,
    BertForMaskedLM,
    BertForSequenceClassification,
    BertModel,
    BertPreTrainedModel,
    DistilBertConfig,
    DistilBertForMaskedLM,
    DistilBertModel,
    ModelOutput,
    PretrainedConfig,
    PreTrainedModel,
    auto,
)
from plainformers.registry import AUTO_CLASSES, MODELS

IDS = torch.tensor([[5, 9, 11, 3], [7, 8, 1, 2]])


def drawn(model):
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            parameter.copy_(draw_weight(name, tuple(parameter.shape)))
    return model.eval()


@pytest.fixture
def folder(tmp_path):
    drawn(BertForMaskedLM(BertConfig(**BERT))).save_pretrained(tmp_path / "bert")
    return tmp_path / "bert"


@pytest.fixture
def own_classes():
    """Takes back what a test registered."""
    before = dict(auto._own_configs), dict(auto._own_models)
    yield
    for table, old in zip((auto._own_configs, auto._own_models), before, strict=True):
        table.clear()
        table.update(old)


def test_every_head_is_made_from_a_config():
    for model_type, tiny in (("bert", BERT), ("distilbert", DISTILBERT)):
        config = AutoConfig.for_model(model_type, **tiny)
        for head, name in MODELS[model_type].heads.items():
            model = getattr(plainformers, AUTO_CLASSES[head]).from_config(config)
            assert type(model).__name__ == name and model.training and model.config is config


def test_a_head_that_is_not_there():
    with pytest.raises(
        ValueError, match="distilbert has no head for AutoModelForCausalLM. It can be made by AutoModel,"
    ):
        plainformers.AutoModelForCausalLM.from_config(DistilBertConfig(**DISTILBERT))
    with pytest.raises(TypeError, match="AutoModel makes models: call AutoModel.from_pretrained"):
        AutoModel(BertConfig())
    with pytest.raises(TypeError, match="AutoConfig makes configs"):
        AutoConfig()
    with pytest.raises(TypeError, match="AutoModel.from_config takes a config, got str"):
        AutoModel.from_config("bert")
    with pytest.raises(ValueError, match="'brt', which is not here. Did you mean 'bert'"):
        AutoConfig.for_model("brt")


def test_from_config_takes_both_spellings():
    config = BertConfig(**BERT)
    assert AutoModel.from_config(config).dtype == torch.float32
    assert AutoModel.from_config(config, dtype="bfloat16").dtype == torch.bfloat16
    assert AutoModel.from_config(config, torch_dtype=torch.float64, trust_remote_code=True).dtype == torch.float64
    assert AutoModel.from_config(BertConfig(**BERT, dtype="bfloat16")).dtype == torch.bfloat16, "as version 5"
    assert AutoModel.from_config(config, attn_implementation="eager").config.attn_implementation == "eager"
    assert config.attn_implementation == "sdpa", "the caller's config stays as it is"
    with pytest.raises(TypeError, match="BertModel.from_config has no argument 'dtyp'. Did you mean 'dtype'"):
        AutoModel.from_config(config, dtyp="bfloat16")
    with pytest.raises(TypeError, match="twice"):
        BertModel.from_config(config, dtype="bfloat16", torch_dtype="float16")


def test_from_a_folder(folder):
    want = BertForMaskedLM.from_pretrained(folder)(IDS).logits
    assert want.std() > 0.05
    for kind, name in ((AutoModelForMaskedLM, folder), (AutoModelForMaskedLM, str(folder)), (BertForMaskedLM, folder)):
        model = kind.from_pretrained(name)
        assert type(model) is BertForMaskedLM and not model.training and model.name_or_path == str(folder)
        assert torch.equal(model(IDS).logits, want)
    model = AutoModel.from_pretrained(folder, add_pooling_layer=False)
    assert type(model) is BertModel and model.pooler is None
    config = AutoConfig.from_pretrained(folder)
    for given in (config, folder, str(folder)):
        assert torch.equal(AutoModelForMaskedLM.from_pretrained(folder, config=given)(IDS).logits, want)
    state = {name: tensor * 2 for name, tensor in BertForMaskedLM.from_pretrained(folder).state_dict().items()}
    doubled = AutoModelForMaskedLM.from_pretrained(None, config=config, state_dict=state)
    assert torch.equal(doubled.bert.embeddings.LayerNorm.bias, state["bert.embeddings.LayerNorm.bias"])
    with pytest.raises(TypeError, match="named by a str or a Path"):
        AutoModel.from_pretrained(None)
    with pytest.raises(TypeError, match="config must be a Config or a name, got dict"):
        BertModel.from_pretrained(folder, config={})


def test_overrides(folder):
    model = AutoModelForSequenceClassification.from_pretrained(
        folder, id2label={0: "a", 1: "b", 2: "c"}, hidden_act="relu"
    )
    assert model.classifier.weight.shape == (3, 16) and model.config.label2id == {"a": 0, "b": 1, "c": 2}
    assert model.config.hidden_act == "relu"
    given = AutoConfig.from_pretrained(folder)
    model = AutoModelForTokenClassification.from_pretrained(folder, config=given, num_labels=5)
    assert model.config.num_labels == 5 and model.classifier.weight.shape == (5, 16)
    assert given.num_labels == 2, "the caller's config stays as it is"
    for kind in (AutoModel, BertModel):
        for wrong, right in (
            ("output_attention", "output_attentions"),
            ("ignore_mismatch_sizes", "ignore_mismatched_sizes"),
            ("add_pooling_layers", "add_pooling_layer"),
            ("torch_dtyp", "torch_dtype"),
        ):
            with pytest.raises(TypeError, match=f"from_pretrained has no argument '{wrong}'. Did you mean '{right}'"):
                kind.from_pretrained(folder, **{wrong: True})


def test_tuples_can_be_asked_for_everywhere(folder):
    want = AutoModelForMaskedLM.from_pretrained(folder)(IDS).logits
    model = AutoModelForMaskedLM.from_pretrained(folder, return_dict=False)
    out = model(IDS)
    assert type(out) is tuple and len(out) == 1 and torch.equal(out[0], want)
    assert torch.equal(model(IDS, return_dict=True).logits, want)
    assert type(AutoModel.from_pretrained(folder, return_dict=False, add_pooling_layer=False)(IDS)) is tuple
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"return_dict": False}))
    assert type(AutoModelForMaskedLM.from_pretrained(folder)(IDS)) is tuple
    assert isinstance(AutoModelForMaskedLM.from_pretrained(folder, return_dict=True)(IDS), ModelOutput)
    assert type(AutoModelForMaskedLM.from_pretrained(folder)(IDS, labels=IDS)) is tuple


def test_remote_code_is_never_run(folder, tmp_path, monkeypatch):
    config = json.loads((folder / "config.json").read_text())
    target = tmp_path / "was-run"
    for name in ("modeling_x.py", "configuration_x.py", "bert.py"):
        (folder / name).write_text(f"open({str(target)!r}, 'w')\nclass X: ...\n")
    named = {
        "auto_map": {"AutoConfig": "configuration_x.X", "AutoModel": "modeling_x.X"},
        "_attn_implementation_internal": "someone/kernel",
        "_attn_implementation": "someone/kernel",
        "attn_implementation": "someone/kernel",
        "trust_remote_code": True,
        "custom_pipelines": {"x": {"impl": "modeling_x.X"}},
    }
    (folder / "config.json").write_text(json.dumps(config | named))
    monkeypatch.chdir(folder)
    modules = set(sys.modules)
    for trust in ({}, {"trust_remote_code": True}):
        model = AutoModel.from_pretrained(folder, **trust)
        assert type(model) is BertModel and model.config.attn_implementation == "sdpa"
        model(IDS)
        AutoConfig.from_pretrained(folder, **trust)
    model.save_pretrained(tmp_path / "again")
    assert json.loads((tmp_path / "again/config.json").read_text()).items() >= named.items(), "kept as they came"
    (folder / "config.json").write_text(json.dumps(config | named | {"model_type": "x"}))
    for trust in ({}, {"trust_remote_code": True}):
        with pytest.raises(ValueError, match="'x' and asks for code of its repository to be run.*never run here"):
            AutoModel.from_pretrained(folder, **trust)
    assert not target.exists() and not {"modeling_x", "configuration_x"} & (set(sys.modules) - modules)


def test_a_file_that_lies_about_its_type(folder):
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"model_type": "distilbert"}))
    with pytest.raises(ValueError, match="DistilBertModel|DistilBertForMaskedLM"):
        AutoModelForMaskedLM.from_pretrained(folder)
    with pytest.raises(ValueError, match="says model_type 'distilbert'; BertConfig reads 'bert'"):
        BertForMaskedLM.from_pretrained(folder)


# ---- Classes of a user's own, written for Transformers


class OwnConfig(PretrainedConfig):
    model_type = "own-model"

    def __init__(self, width=8, rows=12, rate=0.5, **kwargs):
        self.width = width
        self.rows = rows
        self.rate = rate
        super().__init__(**kwargs)


class OwnModel(PreTrainedModel):
    config_class = OwnConfig
    base_model_prefix = "own"

    def __init__(self, config, *inputs, **kwargs):
        super().__init__(config, *inputs, **kwargs)
        self.embed = nn.Embedding(config.rows, config.width)
        self.register_buffer("scale", torch.arange(config.width) * config.rate, persistent=False)
        self.register_buffer("count", torch.tensor(3))
        self.post_init()

    def _init_weights(self, module):
        if isinstance(module, (nn.Linear, nn.Embedding)):
            module.weight.data.fill_(0.25)

    def get_input_embeddings(self):
        return self.embed

    def forward(self, input_ids=None, attention_mask=None, **kwargs):
        return self.embed(input_ids) * self.scale


class OwnHead(OwnModel):
    _tied_weights_keys = ["head.weight"]

    def __init__(self, config):
        PreTrainedModel.__init__(self, config)
        self.own = OwnModel(config)
        self.head = nn.Linear(config.width, config.rows, bias=False)
        self.post_init()

    def get_input_embeddings(self):
        return self.own.embed

    def get_output_embeddings(self):
        return self.head

    def forward(self, input_ids=None, labels=None, **kwargs):
        return self.head(self.own(input_ids))


class BertWithTop(BertPreTrainedModel):
    """As people write them: a base model, and something on top."""

    def __init__(self, config):
        super().__init__(config)
        self.bert = BertModel(config)
        self.top = nn.Linear(config.hidden_size, 7)
        self.post_init()

    def forward(self, input_ids=None, attention_mask=None, **kwargs):
        return self.top(self.bert(input_ids, attention_mask=attention_mask).pooler_output)


def test_classes_in_the_style_of_transformers(tmp_path, own_classes):
    AutoConfig.register("own-model", OwnConfig)
    config = OwnConfig(width=4)
    with pytest.raises(ValueError, match="AutoModel has no class for OwnConfig: call AutoModel.register"):
        AutoModel.from_config(config)
    AutoModel.register(OwnConfig, OwnModel)
    AutoModelForMaskedLM.register(OwnConfig, OwnHead)
    model = AutoModel.from_config(config)
    assert type(model) is OwnModel and (model.embed.weight == 0.25).all(), "its own _init_weights was used"
    with torch.no_grad():
        model.embed.weight.copy_(draw_weight("embed", (12, 4)))
    model.save_pretrained(tmp_path)
    again = AutoModel.from_pretrained(tmp_path)
    assert type(again) is OwnModel and again.config == model.config
    assert torch.equal(again.scale, torch.arange(4) * 0.5), "a buffer that no file holds"
    assert again.count == 3
    assert torch.equal(again(IDS, anything=1), model(IDS))
    assert AutoModel.from_pretrained(tmp_path, rate=2.0).scale.tolist() == [0, 2, 4, 6]
    head = AutoModelForMaskedLM.from_pretrained(tmp_path)
    assert type(head) is OwnHead and head.head.weight is head.own.embed.weight
    assert torch.equal(head.own.embed.weight, model.embed.weight)
    with pytest.raises(TypeError, match="no argument 'widht'. Did you mean 'width'"):
        AutoModel.from_pretrained(tmp_path, widht=3)


def test_a_layer_on_top_of_a_published_model(folder, tmp_path):
    model, info = BertWithTop.from_pretrained(folder, output_loading_info=True)
    assert info["missing_keys"] == {"top.weight", "top.bias"} | {f"bert.pooler.dense.{n}" for n in ("weight", "bias")}
    assert torch.equal(model.bert.embeddings.LayerNorm.bias, draw_weight("embeddings.LayerNorm.bias", (16,)))
    assert 0.005 < model.top.weight.std() < 0.04 and (model.top.bias == 0).all()
    model.save_pretrained(tmp_path / "b")
    again = BertWithTop.from_pretrained(tmp_path / "b")
    assert torch.equal(again(IDS, hello=1), model(IDS)) and again.config.architectures == ["BertWithTop"]
    state = model.state_dict()
    del state["bert.encoder.layer.1.output.dense.bias"]
    save_file(state, tmp_path / "b/model.safetensors")
    with pytest.raises(ValueError, match="lacks 1 tensors of BertWithTop: bert.encoder.layer.1.output.dense.bias"):
        BertWithTop.from_pretrained(tmp_path / "b")


def test_what_may_be_registered(own_classes):
    with pytest.raises(ValueError, match="OwnConfig.model_type is 'own-model', not 'other'"):
        AutoConfig.register("other", OwnConfig)
    with pytest.raises(ValueError, match="model_type 'bert' is taken; exist_ok=True"):
        AutoConfig.register("bert", BertConfig)
    with pytest.raises(ValueError, match="OwnModel.config_class is OwnConfig, not BertConfig"):
        AutoModel.register(BertConfig, OwnModel)
    AutoModel.register(OwnConfig, OwnModel)
    with pytest.raises(ValueError, match="already has a class for OwnConfig"):
        AutoModel.register(OwnConfig, OwnModel)
    AutoModel.register(OwnConfig, OwnHead, exist_ok=True)
    assert AutoModel.class_for(OwnConfig) is OwnHead


# ---- From a hub


def files_of(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_from_a_hub(folder, tmp_path, monkeypatch):
    other = drawn(BertForSequenceClassification(BertConfig(**BERT, num_labels=4)))
    other.save_pretrained(tmp_path / "other", max_shard_size="8KB")
    want = BertForMaskedLM.from_pretrained(folder)(IDS).logits
    with HubServer() as hub:
        commit = hub.add("owner/name", files_of(folder) | {"onnx.bin": b"x"})
        hub.add("owner/name", {f"inner/{k}": v for k, v in files_of(tmp_path / "other").items()}, branch="dev")
        hub.add("owner/name", {"config.json": b"broken since"})
        hub.use(monkeypatch, tmp_path / "cache")
        model = AutoModelForMaskedLM.from_pretrained("owner/name", revision=commit)
        assert torch.equal(model(IDS).logits, want) and model.name_or_path == "owner/name"
        assert not [path for _, path, _ in hub.requests if "onnx" in path], "only what is needed"
        inner = AutoModelForSequenceClassification.from_pretrained("owner/name", revision="dev", subfolder="inner")
        assert torch.equal(inner(IDS).logits, other(IDS).logits)
        with pytest.raises(ValueError, match="config.json is not readable as JSON"):
            AutoModel.from_pretrained("owner/name")
        hub.forget()
        monkeypatch.setenv("HF_HUB_OFFLINE", "1")
        AutoModelForMaskedLM.from_pretrained("owner/name", revision=commit)
        monkeypatch.delenv("HF_HUB_OFFLINE")
        AutoModelForMaskedLM.from_pretrained("owner/name", revision=commit)
        AutoModelForSequenceClassification.from_pretrained(
            "owner/name", revision="dev", subfolder="inner", local_files_only=True
        )
        assert hub.count() == 0
        with pytest.raises(FileNotFoundError, match="not in the cache .* local_files_only=True forbids to download"):
            AutoModel.from_pretrained("owner/absent", local_files_only=True)
        with pytest.raises(FileNotFoundError, match="not in the cache"):
            AutoModel.from_pretrained("owner/name", revision=commit, cache_dir=tmp_path / "new", local_files_only=True)
        AutoModelForMaskedLM.from_pretrained("owner/name", revision=commit, cache_dir=tmp_path / "new")
        assert (tmp_path / "new/models--owner--name").is_dir()
        hub.forget()
        AutoModelForMaskedLM.from_pretrained("owner/name", revision=commit, force_download=True)
        assert hub.count() > 0


def test_a_private_repository_takes_either_spelling_of_token(folder, tmp_path, monkeypatch):
    with HubServer() as hub:
        hub.add("owner/secret", files_of(folder))
        hub.tokens["owner/secret"] = "hf_right"
        hub.use(monkeypatch, tmp_path / "cache")
        with pytest.raises(FileNotFoundError, match="neither a folder here nor a repository"):
            AutoModel.from_pretrained("owner/secret")
        for i, keywords in enumerate(({"token": "hf_right"}, {"use_auth_token": "hf_right"})):
            for kind in (AutoModelForMaskedLM, BertForMaskedLM, AutoConfig, BertConfig):
                kind.from_pretrained("owner/secret", cache_dir=tmp_path / f"{i}{kind.__name__}", **keywords)
        with pytest.raises(TypeError, match="'token' twice"):
            AutoModel.from_pretrained("owner/secret", token="a", use_auth_token="b")


def test_uploaded_and_fetched_again(folder, tmp_path, monkeypatch):
    model = BertForMaskedLM.from_pretrained(folder)
    with HubServer() as hub:
        hub.use(monkeypatch, tmp_path / "cache")
        address = model.push_to_hub("somebody/new", use_auth_token="hf_x", max_shard_size="8KB", commit_message="first")
        assert "somebody/new/commit/" in address
        assert len([name for name in hub.files("somebody/new") if name.endswith(".safetensors")]) > 1
        again = AutoModelForMaskedLM.from_pretrained("somebody/new")
        assert torch.equal(again(IDS).logits, model(IDS).logits)
        model.save_pretrained(tmp_path / "second", push_to_hub=True, repo_id="somebody/second", token="hf_x")
        assert hub.files("somebody/second").keys() >= {"config.json", "model.safetensors"}
        model.config.save_pretrained(tmp_path / "third", push_to_hub=True, repo_id="somebody/third", token="hf_x")
        assert AutoConfig.from_pretrained("somebody/third") == model.config
        with pytest.raises(
            TypeError, match="push_to_hub has no argument 'comit_message'. Did you mean 'commit_message'"
        ):
            model.push_to_hub("somebody/new", comit_message="x")
        with pytest.raises(TypeError, match="save_pretrained has no argument 'max_shard_sise'"):
            model.save_pretrained(tmp_path / "x", max_shard_sise=3)
        monkeypatch.setenv("HF_HUB_OFFLINE", "1")
        with pytest.raises(ConnectionError, match="HF_HUB_OFFLINE is set"):
            model.push_to_hub("somebody/new", token="hf_x")


def test_other_families(tmp_path):
    model = drawn(DistilBertForMaskedLM(DistilBertConfig(**DISTILBERT)))
    model.save_pretrained(tmp_path)
    assert torch.equal(AutoModelForMaskedLM.from_pretrained(tmp_path)(IDS).logits, model(IDS).logits)
    assert type(AutoModel.from_pretrained(tmp_path)) is DistilBertModel
