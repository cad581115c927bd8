"""What the zoo does not see of DeBERTa: the formula of its attention, its convolution's borders, its two heads."""

import json
import math

import pytest
import torch
from safetensors.torch import load_file, save_file
from zoo import DEBERTA, DEBERTA_V3, draw_weight

from plainformers import (
    BertTokenizer,
    DebertaV2Config,
    DebertaV2ForMaskedLM,
    DebertaV2ForSequenceClassification,
    DebertaV2Model,
    Packed,
    TextClassificationPipeline,
)
from plainformers.models.deberta_v2 import distance_rows, real_tokens

CPU = torch.device("cpu")
CLOSE = {"atol": 1e-5, "rtol": 1e-5}


def drawn(kind, config, **fields):
    """A model with weights that are all of a size that shows."""
    with torch.device("meta"):
        empty = kind(DebertaV2Config(**config | fields))
    state = {name: draw_weight(name, tuple(value.shape)) for name, value in empty.state_dict().items()}
    for name, source in empty.tied.items() if empty.config.tie_word_embeddings else ():
        state[name] = state[source]
    state |= {n: state[n.replace("decoder.bias", "bias")] for n in state if n.endswith("decoder.bias")}
    return kind.from_pretrained(None, config=empty.config, state_dict=state)


def bucket(distance, config):
    """Section A.5 of the paper on version 2, one distance after the other."""
    buckets, farthest, near = config.position_buckets, config.farthest, config.position_buckets // 2
    far = abs(distance)
    if buckets > 0 and near < far and near < farthest - 1:
        steps = math.log(far / near) / math.log((farthest - 1) / near) * (near - 1)
        distance = (near + math.ceil(round(steps, 9))) * (1 if distance > 0 else -1)
    return min(max(distance + config.span, 0), 2 * config.span - 1)


# (buckets, max_relative_positions): none, few, those of which near ones grow faster than distances, no log at all
SHAPES = [(-1, 7), (-1, 64), (4, 12), (8, 40), (32, 40), (16, 10), (16, 9), (16, 5), (7, 30)]


@pytest.mark.parametrize(("buckets", "farthest"), SHAPES)
@pytest.mark.parametrize("T", [1, 2, 5, 11, 45])
def test_every_distance_has_its_row(buckets, farthest, T):
    config = DebertaV2Config(**DEBERTA, position_buckets=buckets, max_relative_positions=farthest)
    model = DebertaV2Model(config)
    weights, rows = model.encoder.positions(T, T)
    got = weights[rows].detach()
    want = [bucket(d, config) for d in range(1 - T, T)]
    assert torch.equal(got, model.encoder.rel_embeddings.weight[want].detach())
    assert len(weights) <= 2 * T or len(weights) == 2 * config.span  # short inputs take few rows


def test_the_buckets_of_version_3():
    config = DebertaV2Config(**DEBERTA | {"max_position_embeddings": 512}, position_buckets=256)
    rows = distance_rows(1000, 256, config, CPU).tolist()
    assert rows == [bucket(d, config) for d in range(-999, 1000)]
    some = (-999, -512, -511, -129, -128, 0, 128, 129, 130, 256, 510, 511, 999)
    found = [rows[999 + d] - 256 for d in some]
    assert found == [-256, -256, -255, -129, -128, 0, 128, 129, 130, 192, 255, 255, 255]


@pytest.mark.parametrize("terms", [["c2p"], ["p2c"], ["c2p", "p2c"], []], ids="|".join)
@pytest.mark.parametrize("shared", [True, False])
@pytest.mark.parametrize("norm", ["layer_norm", "none"])
def test_the_scores_are_those_of_the_paper(terms, shared, norm):
    config = DEBERTA | {"pos_att_type": terms, "share_att_key": shared, "norm_rel_ebd": norm}
    model = drawn(DebertaV2Model, config, position_buckets=6, max_relative_positions=14)
    T, H, D = 19, 4, 4
    ids = torch.arange(T)[None] % 50 + 5
    out = model(ids, output_hidden_states=True, output_attentions=True)
    x, layer = out.hidden_states[0][0], model.encoder.layer[0].attention.self
    relative = model.encoder.rel_embeddings.weight
    if norm == "layer_norm":
        relative = model.encoder.LayerNorm(relative)
    split = lambda layer, x: layer(x).view(len(x), H, D)  # noqa: E731
    q, k = split(layer.query_proj, x), split(layer.key_proj, x)
    pos_k = split(layer.key_proj if shared else layer.pos_key_proj, relative) if "c2p" in terms else None
    pos_q = split(layer.query_proj if shared else layer.pos_query_proj, relative) if "p2c" in terms else None
    scores = torch.zeros(H, T, T)
    for i in range(T):
        for j in range(T):
            for h in range(H):
                scores[h, i, j] = q[i, h] @ k[j, h]
                if pos_k is not None:
                    scores[h, i, j] += q[i, h] @ pos_k[bucket(i - j, model.config), h]
                if pos_q is not None:  # the key's distance from the query is j - i, its position as seen from it -that
                    scores[h, i, j] += k[j, h] @ pos_q[bucket(i - j, model.config), h]
    weights = (scores / math.sqrt(D * (1 + len(terms)))).softmax(-1)
    torch.testing.assert_close(out.attentions[0][0], weights.detach(), **CLOSE)
    torch.testing.assert_close(out.last_hidden_state, model(ids).last_hidden_state, **CLOSE)


def test_terms_are_a_list_or_a_text():
    ids = torch.arange(5, 11)[None]
    texts = ("p2c|c2p", "C2P | P2C", ["c2p", "p2c"], ["p2c|c2p"])
    outputs = [drawn(DebertaV2Model, DEBERTA_V3, pos_att_type=text)(ids)[0] for text in texts]
    assert all(torch.equal(one, outputs[0]) for one in outputs)
    assert DebertaV2Config(pos_att_type="p2c").position_terms == ["p2c"]
    assert DebertaV2Config(pos_att_type="").position_terms == DebertaV2Config().position_terms == []


LENGTHS = (7, 2, 2, 1, 9, 4)


@pytest.mark.parametrize("size", [3, 5])
def test_sequences_of_a_packed_batch_do_not_touch(size):
    config = DEBERTA_V3 | {"conv_kernel_size": size, "conv_act": "tanh", "position_buckets": 6}
    model = drawn(DebertaV2Model, config)
    ids = torch.arange(sum(LENGTHS))[None] % 50 + 5
    with torch.no_grad():
        alone = torch.cat([model(part).last_hidden_state for part in ids.split(LENGTHS, 1)], 1)
        for kernel in ("sdpa", "eager", "varlen"):
            model.set_attn_implementation(kernel)
            torch.testing.assert_close(model(ids, Packed(LENGTHS)).last_hidden_state, alone, **CLOSE)
        model.set_attn_implementation("sdpa")
        shown = model(ids, Packed(LENGTHS), output_attentions=True)
        if model.prepare():
            layer = model.encoder.layer[0].attention.self
            assert layer.query_proj.product is layer.key_proj.product is not layer.value_proj.product
        torch.testing.assert_close(model(ids, Packed(LENGTHS)).last_hidden_state, alone, **CLOSE)
    torch.testing.assert_close(shown.last_hidden_state, alone, **CLOSE)
    assert shown.attentions[0].shape == (1, 4, 25, 25) and (shown.attentions[0][0, :, 7:9, 9:] == 0).all()


def test_only_positions_within_reach_are_projected():
    model = drawn(DebertaV2Model, DEBERTA_V3, position_buckets=-1)
    seen = []
    model.encoder.layer[1].attention.self.pos_dropout.register_forward_hook(lambda *given: seen.append(len(given[2])))
    ids = torch.arange(25)[None] % 50 + 5
    for given in ((ids[:, :5],), (ids, Packed((5, 5, 5, 5, 5))), (ids, Packed(LENGTHS)), (ids,)):
        model(*given)
    assert seen == [10, 10, 18, 24]


@pytest.mark.parametrize("side", ["left", "right"])
def test_the_convolution_sees_zeros_beyond_the_ends(side):
    """Whatever ids stand in the padding, and whatever form the mask has."""
    model = drawn(DebertaV2Model, DEBERTA_V3 | {"conv_kernel_size": 5})
    ids = torch.arange(5, 12).expand(2, 7)
    mask = torch.ones(2, 7).long()
    mask[1, 4:] = 0
    mask = mask if side == "right" else mask.flip(1)
    other = torch.where(mask == 1, ids, 50)
    want = model(other[1:][:, mask[1] == 1]).last_hidden_state[0]
    pairs = (mask[:, None] * mask[:, :, None]).bool()
    added = torch.zeros(2, 1, 7, 7).masked_fill(~pairs[:, None], torch.finfo(torch.float32).min)
    infinite = torch.zeros(2, 1, 1, 7).masked_fill(mask[:, None, None] == 0, -torch.inf)
    for one in (mask, mask.float(), pairs, pairs[:, None], added, added.clamp(min=-1e4), infinite):
        for given in (ids, other):
            got = model(given, one).last_hidden_state[1][mask[1] == 1]
            torch.testing.assert_close(got, want, **CLOSE)
        assert torch.equal(real_tokens(one), mask.bool())
    assert not torch.allclose(model(other)[0][1][mask[1] == 1], want, atol=1e-3)


def test_relative_positions_have_no_end():
    """The farthest share a row; without absolute positions, max_position_embeddings is no limit."""
    model = drawn(DebertaV2Model, DEBERTA_V3)
    assert model.config.longest_input is None
    ids = torch.arange(40)[None] % 50 + 5
    out = model(ids).last_hidden_state
    mask = torch.cat([torch.zeros(1, 9), torch.ones(1, 40)], 1)
    torch.testing.assert_close(model(torch.cat([ids[:, :9], ids], 1), mask)[0][:, 9:], out, **CLOSE)
    absolute = drawn(DebertaV2Model, DEBERTA_V3, position_biased_input=True)
    assert absolute.config.longest_input == 12
    with pytest.raises(ValueError, match="40 tokens long; this model has 12 positions"):
        absolute(ids)


def test_token_types_count_where_there_are_any():
    ids, types = torch.arange(5, 11)[None], torch.tensor([[0, 0, 0, 1, 1, 1]])
    model = drawn(DebertaV2Model, DEBERTA_V3)
    assert torch.equal(model(ids)[0], model(ids, token_type_ids=types)[0])
    with pytest.raises(ValueError, match="do not fit together"):
        model(ids, torch.ones(1, 1, 6, 5), token_type_ids=types)
    model = drawn(DebertaV2Model, DEBERTA_V3, type_vocab_size=2)
    assert torch.equal(model(ids)[0], model(ids, token_type_ids=0 * types)[0])
    assert not torch.allclose(model(ids)[0], model(ids, token_type_ids=types)[0], atol=1e-3)
    with pytest.raises(ValueError, match="token types go from 0 to 1"):
        model(ids, token_type_ids=types + 1)


# ---- Checkpoints


def microsofts(state):
    """A checkpoint as Microsoft published them, of a legacy head's tensors."""
    state = {name.replace("cls.predictions.transform", "lm_predictions.lm_head"): v for name, v in state.items()}
    state["lm_predictions.lm_head.bias"] = state.pop("cls.predictions.bias")
    state |= {f"mask_predictions.{n}.weight": torch.ones(3, 3) for n in ("dense", "LayerNorm", "classifier")}
    return {name: value for name, value in state.items() if "decoder" not in name}


@pytest.mark.parametrize("said", [{}, {"legacy": True}, {"legacy": False}], ids=str)
@pytest.mark.parametrize("published", ["microsoft", "legacy"])
@pytest.mark.parametrize("E", [16, 10])
def test_either_head_of_a_checkpoint_is_read(said, published, E, tmp_path, caplog):
    ids = torch.arange(5, 11)[None]
    model = drawn(DebertaV2ForMaskedLM, DEBERTA_V3, embedding_size=E)
    model.save_pretrained(tmp_path)
    path, want = tmp_path / "model.safetensors", model(ids).logits.detach()
    if published == "microsoft":
        save_file(microsofts(load_file(path)), path, metadata={"format": "pt"})
    config = json.loads((tmp_path / "config.json").read_text())
    config = {name: value for name, value in config.items() if name != "legacy"} | said
    (tmp_path / "config.json").write_text(json.dumps(config))
    caplog.clear()
    model, info = DebertaV2ForMaskedLM.from_pretrained(tmp_path, output_loading_info=True)
    assert not info["missing_keys"] and not [record for record in caplog.records if record.levelname == "WARNING"]
    torch.testing.assert_close(model(ids).logits, want, **CLOSE)
    assert model.get_output_embeddings().weight is model.get_input_embeddings().weight
    model.save_pretrained(tmp_path / "again")
    head = {name for name in load_file(tmp_path / "again" / "model.safetensors") if "predictions" in name}
    legacy, new = "cls.predictions.transform", "lm_predictions.lm_head"
    where = new if said == {"legacy": False} else legacy
    tensors = ("dense.weight", "dense.bias", "LayerNorm.weight", "LayerNorm.bias")
    assert head == {f"{where}.{name}" for name in tensors} | {f"{where.removesuffix('.transform')}.bias"}
    assert json.loads((tmp_path / "again" / "config.json").read_text()).keys() == config.keys()
    again = DebertaV2ForMaskedLM.from_pretrained(tmp_path / "again")
    torch.testing.assert_close(again(ids).logits, want, **CLOSE)


def test_a_vocabulary_grows_under_the_head_without_an_output_layer(tmp_path):
    model = drawn(DebertaV2ForMaskedLM, DEBERTA_V3, legacy=False)
    ids = torch.arange(5, 11)[None]
    before = model(ids).logits
    model.resize_token_embeddings(70)
    head = model.lm_predictions["lm_head"]
    assert head.bias is head.decoder.bias and head.decoder.weight is model.get_input_embeddings().weight
    torch.testing.assert_close(model(ids).logits[..., :61], before, **CLOSE)
    torch.testing.assert_close(head.bias[61:], head.bias[:61].mean().expand(9))
    model.save_pretrained(tmp_path)
    again = DebertaV2ForMaskedLM.from_pretrained(tmp_path)
    torch.testing.assert_close(again(ids).logits, model(ids).logits, **CLOSE)
    with pytest.raises(ValueError, match="legacy=False needs tie_word_embeddings=True"):
        DebertaV2ForMaskedLM(DebertaV2Config(**DEBERTA_V3, legacy=False, tie_word_embeddings=False))


def test_old_names_are_read():
    model = drawn(DebertaV2Model, DEBERTA_V3 | {"conv_kernel_size": 3})
    state = {
        f"deberta.{name}".replace("LayerNorm.weight", "LayerNorm.gamma").replace("LayerNorm.bias", "LayerNorm.beta"): v
        for name, v in model.state_dict().items()
    }
    state["deberta.embeddings.position_ids"] = torch.arange(12)[None]
    again, info = DebertaV2Model.from_pretrained(None, config=model.config, state_dict=state, output_loading_info=True)
    assert not info["missing_keys"] and not info["unexpected_keys"]
    assert all(torch.equal(value, model.state_dict()[name]) for name, value in again.state_dict().items())


# the keys of microsoft/deberta-v2-xlarge
XLARGE = json.loads("""{"model_type": "deberta-v2", "attention_probs_dropout_prob": 0.1, "hidden_act": "gelu",
    "hidden_dropout_prob": 0.1, "hidden_size": 1536, "initializer_range": 0.02, "intermediate_size": 6144,
    "max_position_embeddings": 512, "relative_attention": true, "position_buckets": 256, "norm_rel_ebd": "layer_norm",
    "share_att_key": true, "pos_att_type": "p2c|c2p", "layer_norm_eps": 1e-7, "conv_kernel_size": 3,
    "conv_act": "gelu", "max_relative_positions": -1, "position_biased_input": false, "num_attention_heads": 24,
    "attention_head_size": 64, "num_hidden_layers": 24, "type_vocab_size": 0, "vocab_size": 128100}""")


def test_a_config_is_saved_as_it_came():
    config = DebertaV2Config.from_dict(XLARGE)
    assert config.to_dict() == XLARGE and config.extra == {}
    assert config.span == 256 and config.farthest == 512
    # null would be taken for a size by Transformers
    sizes = {"embedding_size", "attention_head_size", "pooler_hidden_size"}
    assert not sizes & DebertaV2Config().to_dict().keys()
    assert DebertaV2Config(embedding_size=64).to_dict()["embedding_size"] == 64


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"num_attention_heads": 3}, r"hidden_size \(16\) must be a multiple of num_attention_heads \(3\)"),
        ({"attention_head_size": 8}, r"attention_head_size must be hidden_size / num_attention_heads \(4\), got 8"),
        ({"pos_att_type": "c2p|p2p"}, "pos_att_type may name c2p and p2c, got p2p"),
        ({"pos_att_type": 3}, "pos_att_type must be"),
        ({"norm_rel_ebd": "batch_norm"}, "norm_rel_ebd must be 'none' or 'layer_norm', got batch_norm"),
        ({"position_buckets": 1}, "position_buckets must be at least 2, or below 1 for none, got 1"),
        ({"conv_kernel_size": 4}, "conv_kernel_size must be odd, or 0 for no convolution, got 4"),
        ({"conv_kernel_size": -1}, "conv_kernel_size must be between 0"),
        ({"conv_groups": 3}, r"conv_groups must divide hidden_size \(16\), got 3"),
        ({"cls_dropout": 2.0}, "cls_dropout is a probability"),
    ],
    ids=lambda given: str(given)[:30],
)
def test_wrong_configs_are_named(fields, message):
    with pytest.raises(ValueError, match=message):
        DebertaV2Config(**DEBERTA | fields)


def test_a_pooler_that_reads_other_sizes_is_refused():
    config = DebertaV2Config(**DEBERTA, pooler_hidden_size=8)
    DebertaV2Model(config)  # which has no pooler
    with pytest.raises(ValueError, match=r"pooler_hidden_size must be hidden_size \(16\), got 8"):
        DebertaV2ForSequenceClassification(config)


def test_the_dropouts_are_those_of_the_config():
    model = DebertaV2ForSequenceClassification(
        DebertaV2Config(**DEBERTA_V3, hidden_dropout_prob=0.3, pooler_dropout=0.1, cls_dropout=0.2)
    )
    assert (model.dropout.p, model.pooler.dropout.p) == (0.2, 0.1)
    assert model.deberta.encoder.layer[1].attention.self.pos_dropout.p == 0.3
    plain = DebertaV2ForSequenceClassification(DebertaV2Config(**DEBERTA_V3, hidden_dropout_prob=0.3))
    assert plain.dropout.p == 0.3
    ids, model = torch.arange(5, 11)[None], drawn(DebertaV2Model, DEBERTA_V3)
    still = model(ids)[0]
    for module in model.train().modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
    for layer in model.encoder.layer:
        layer.attention.self.dropout = 0.0
    torch.testing.assert_close(model(ids)[0], still, **CLOSE)
    model.encoder.layer[0].attention.self.pos_dropout.p = 0.5  # of relative positions, too
    assert not torch.allclose(model(ids)[0], still, atol=1e-3)


def test_a_pipeline_pads_nothing_and_answers_the_same(tmp_path):
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "a", "good", "bad", "film", "."]
    (tmp_path / "vocab.txt").write_text("\n".join(words) + "\n")
    model = drawn(DebertaV2ForSequenceClassification, DEBERTA_V3 | {"vocab_size": len(words)})
    pipe = TextClassificationPipeline(model, BertTokenizer(tmp_path / "vocab.txt"), device="cpu")
    texts = ["a good film . " * 6, "bad", "a bad film", "good film", "film . film a"]
    together, alone = pipe(texts, top_k=None), [pipe(text, top_k=None) for text in texts]
    for a, b in zip(together, alone, strict=True):
        assert [x["label"] for x in a] == [x["label"] for x in b]
        assert [x["score"] for x in a] == pytest.approx([x["score"] for x in b], abs=1e-5)
    assert len({round(answer[0]["score"], 4) for answer in together}) == len(texts)
