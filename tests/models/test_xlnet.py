"""What XLNet promises beyond the zoo: its memory, its two streams, and the answers of its question-answering heads."""

import pytest
import torch
from zoo import draw, draw_ids, draw_weight, make_inputs

import plainformers
from plainformers import Packed, XLNetConfig, XLNetForQuestionAnswering, XLNetForSequenceClassification, XLNetModel

TINY = {"vocab_size": 61, "d_model": 16, "n_layer": 2, "n_head": 4, "d_inner": 24, "layer_norm_eps": 1e-3}
CLOSE = {"atol": 1e-5, "rtol": 1e-5}


def make(kind, **fields):
    model = kind(XLNetConfig(**TINY | fields)).eval()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            parameter.copy_(draw_weight(name, tuple(parameter.shape)))
    return model.requires_grad_(False)


def real(x, mask):
    return x[mask.bool()]


@pytest.mark.parametrize("kernel", ["sdpa", "eager"])
@pytest.mark.parametrize("fields", [{}, {"clamp_len": 2}, {"same_length": True}], ids=str)
def test_the_memory_stands_for_what_was_read(fields, kernel):
    """A text in three parts gives what the whole gives, wherever its parts are padded."""
    model = make(XLNetModel, attn_type="uni", mem_len=None, attn_implementation=kernel, **fields)
    ids = draw_ids("ids", (2, 9), 0, 61)
    parts, mems, seen, got = ((0, 4), (4, 5), (5, 9)), None, [], []
    if fields.get("same_length"):  # a token sees as many others as there are in memory, none in the first part
        parts = ((0, 4), (4, 9))
        first = model(ids[:, :4], use_mems=True)
        for i in range(4):
            torch.testing.assert_close(first[0][:, i], model(ids[:, i : i + 1])[0][:, 0], **CLOSE)
    whole = model(ids).last_hidden_state
    for number, (start, end) in enumerate(parts):
        part, mask = ids[:, start:end], torch.ones(2, end - start)
        plain = model(part, mems=mems, attention_mask=torch.cat([*seen, mask], 1) if seen else None)
        padding = torch.zeros(2, 2)
        columns = [(padding.long(), padding), (part, mask)][:: 1 if number else -1]
        padded, mask = (torch.cat(column, 1) for column in zip(*columns, strict=True))
        seen.append(mask)
        out = model(padded, mems=mems, attention_mask=torch.cat(seen, 1))
        mems = out.mems
        assert [tuple(x.shape) for x in mems] == [(sum(one.shape[1] for one in seen), 2, 16)] * 2
        got.append(real(out.last_hidden_state, mask).view(2, -1, 16))
        torch.testing.assert_close(got[-1], plain.last_hidden_state, **CLOSE)
    if not fields.get("same_length"):
        torch.testing.assert_close(torch.cat(got, 1), whole, **CLOSE)


def test_what_is_remembered():
    ids = draw_ids("ids", (2, 6), 0, 61)
    states = make(XLNetModel)(ids, output_hidden_states=True).hidden_states
    for fields, kept in (
        ({}, slice(0, 6)),
        ({"mem_len": 4}, slice(2, 6)),
        ({"reuse_len": 4}, slice(0, 4)),
        ({"mem_len": 3, "reuse_len": 4}, slice(1, 4)),
        ({"mem_len": 0, "reuse_len": 0}, slice(0, 6)),
    ):
        mems = make(XLNetModel, **fields)(ids).mems
        for layer in range(2):
            torch.testing.assert_close(mems[layer].transpose(0, 1), states[layer][:, kept])
    model = make(XLNetModel, dropout=0.0)
    assert model(ids, use_mems=False).mems is None and model.train()(ids).mems is None
    assert model(ids, use_mems=True).mems is not None
    assert make(XLNetModel, use_mems_eval=False)(ids).mems is None
    assert make(XLNetModel, use_mems_train=True).train()(ids).mems is not None


def test_a_prediction_does_not_see_its_word():
    model = make(plainformers.XLNetLMHeadModel)
    ids = draw_ids("ids", (1, 6), 0, 61)
    order = torch.tensor([3, 0, 5, 1, 4, 2])  # the place of each token in the order of prediction
    perm_mask = (order[None, :] >= order[:, None]).float()[None]
    target_mapping = torch.eye(6)[None]
    want = model(ids, perm_mask=perm_mask, target_mapping=target_mapping).logits[0]
    for i in range(6):
        other = ids.clone()
        other[0, i] = (ids[0, i] + 7) % 61
        got = model(other, perm_mask=perm_mask, target_mapping=target_mapping).logits[0]
        blind = order <= order[i]
        torch.testing.assert_close(got[blind], want[blind], **CLOSE)
        for later in (~blind).nonzero().flatten():
            assert not torch.allclose(got[later], want[later], atol=1e-3)
    out = model(ids, perm_mask=perm_mask, target_mapping=target_mapping, output_attentions=True)
    for content, query in out.attentions:  # the first of the order has nothing to look at
        assert not query[0, :, 1].any() and (query[0].sum(-1) - 1)[:, order > 0].abs().max() < 1e-5
        torch.testing.assert_close(content.sum(-1), torch.ones(1, 4, 6))


def test_both_spellings_of_the_mask():
    model = make(XLNetForSequenceClassification)
    ids, mask = draw_ids("ids", (2, 5), 0, 61), torch.tensor([[1, 1, 1, 1, 1], [1, 1, 1, 0, 0]])
    want = model(ids, attention_mask=mask).logits
    torch.testing.assert_close(model(ids, input_mask=1 - mask).logits, want)
    torch.testing.assert_close(model(ids, input_mask=1.0 - mask, mems=None).logits, want)
    square = mask[:, None].expand(2, 5, 5)
    base = model.transformer
    for one in (square, square[:, None], (square[:, None] == 0) * -1e9):
        got = base(ids, attention_mask=one).last_hidden_state
        torch.testing.assert_close(real(got, mask), real(base(ids, mask).last_hidden_state, mask), **CLOSE)
    embedded = base.word_embedding(ids)
    torch.testing.assert_close(model(inputs_embeds=embedded, attention_mask=mask).logits, want)


@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize("kind", ["last", "first", "mean", "cls_index"])
def test_summaries_read_real_tokens(kind, side):
    model = make(XLNetForSequenceClassification, summary_type=kind, summary_activation=None, num_labels=3)
    ids, mask = draw_ids("ids", (2, 5), 0, 61), torch.tensor([[1, 1, 1, 1, 1], [1, 1, 1, 0, 0]])
    mask = mask.flip(1) if side == "left" else mask
    got = model(ids, mask).logits
    for row in range(2):
        x = model.transformer(ids[row : row + 1, mask[row].bool()]).last_hidden_state[0]
        x = {"first": x[0], "mean": x.mean(0)}.get(kind, x[-1])
        torch.testing.assert_close(got[row], model.logits_proj(model.sequence_summary.summary(x)), **CLOSE)


def test_answers_by_their_starts():
    """The candidates are those of the arithmetic written out."""
    model = make(XLNetForQuestionAnswering, start_n_top=2, end_n_top=3)
    ids, mask = draw_ids("ids", (2, 6), 0, 61), torch.tensor([[1, 1, 1, 1, 1, 1], [0, 0, 1, 1, 1, 1]])
    p_mask = torch.tensor([[1.0, 0, 0, 0, 0, 0], [0, 0, 0, 0, 0, 0]])
    out = model(ids, mask, p_mask=p_mask)
    x = model.transformer(ids, mask).last_hidden_state
    for row, allowed in enumerate(((1, 2, 3, 4, 5), (2, 3, 4, 5))):
        starts = model.start_logits.dense(x[row, list(allowed)])[:, 0].softmax(0)
        best = starts.topk(2)
        torch.testing.assert_close(out.start_top_log_probs[row], best.values, **CLOSE)
        assert out.start_top_index[row].tolist() == [allowed[i] for i in best.indices]
        for number, start in enumerate(out.start_top_index[row]):
            both = torch.cat([x[row, list(allowed)], x[row, start].expand(len(allowed), -1)], -1)
            head = model.end_logits
            ends = head.dense_1(head.LayerNorm(head.dense_0(both).tanh()))[:, 0].softmax(0).topk(3)
            torch.testing.assert_close(out.end_top_log_probs.view(2, 3, 2)[row, :, number], ends.values, **CLOSE)
            assert out.end_top_index.view(2, 3, 2)[row, :, number].tolist() == [allowed[i] for i in ends.indices]
        likely = starts @ x[row, list(allowed)]
        torch.testing.assert_close(out.cls_logits[row], model.answer_class(likely, x[row, -1]), **CLOSE)
    short = model(ids[:, :1])
    assert short.start_top_index.tolist() == [[0], [0]] and short.end_top_index.shape == (2, 1)
    cut = model(ids, start_positions=torch.tensor([1, 99]), end_positions=torch.tensor([2, 99]))
    torch.testing.assert_close(
        cut.loss, model(ids[:1], start_positions=torch.tensor([1]), end_positions=torch.tensor([2])).loss, **CLOSE
    )
    assert cut.loss_count == 1


def test_the_answer_class_is_trained_too():
    model = make(XLNetForQuestionAnswering)
    targets = {"start_positions": torch.tensor([1, 2]), "end_positions": torch.tensor([3, 2])}
    ids, last = draw_ids("ids", (2, 6), 0, 61), torch.tensor([5, 5])
    plain = model(ids, **targets).loss
    impossible = torch.tensor([0, 1])
    with_class = model(ids, **targets, cls_index=last, is_impossible=impossible).loss
    x = model.transformer(ids).last_hidden_state
    logits = model.answer_class(x[[0, 1], targets["start_positions"]], x[:, 5])
    added = 0.5 * torch.nn.functional.binary_cross_entropy_with_logits(logits, impossible.float())
    torch.testing.assert_close(with_class, plain + added, **CLOSE)
    assert added > 0.1
    torch.testing.assert_close(model(ids, **targets, is_impossible=impossible).loss, plain)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_in_half_precision(dtype):
    model = make(plainformers.XLNetLMHeadModel)
    inputs = {name: draw(name, (1, 6, 6), 1.0).gt(1).float() for name in ("perm_mask", "target_mapping")}
    inputs |= {"input_ids": draw_ids("ids", (1, 6), 0, 61), "token_type_ids": draw_ids("kinds", (1, 6), 0, 2)}
    inputs["mems"] = draw("mems", (2, 3, 1, 16), 1.0)
    inputs["attention_mask"] = torch.tensor([[0, 1, 1, 1, 1, 1]])
    want, got = model(**inputs), model.to(dtype)(**inputs)
    assert got.logits.dtype == got.mems[0].dtype == dtype
    torch.testing.assert_close(got.logits.float(), want.logits, atol=0.2, rtol=0.1)


def test_new_weights_are_drawn(tmp_path):
    torch.manual_seed(0)
    model = XLNetModel(XLNetConfig(**TINY | {"d_model": 64}, initializer_range=0.5))
    for name, parameter in model.named_parameters():
        if not name.endswith((".bias", "norm.weight")):
            assert abs(parameter.std() - 0.5) < 0.15, name
    model.save_pretrained(tmp_path)
    for kind, new in ((XLNetForQuestionAnswering, {"start_logits", "end_logits", "answer_class"}),
                      (XLNetForSequenceClassification, {"sequence_summary", "logits_proj"}),
                      (plainformers.XLNetLMHeadModel, {"lm_loss"})):  # fmt: skip
        headed, info = kind.from_pretrained(tmp_path, output_loading_info=True)
        assert {name.split(".")[0] for name in info["missing_keys"]} == new
        assert torch.equal(headed.transformer.mask_emb, model.mask_emb)
    state = {name: value for name, value in model.state_dict().items() if not name.endswith("r_s_bias")}
    with pytest.raises(ValueError, match="r_s_bias"):
        XLNetModel.from_pretrained(None, config=model.config, state_dict=state)


def test_the_heads_of_the_auto_classes():
    config = XLNetConfig(**TINY)
    assert type(plainformers.AutoModelForQuestionAnswering.from_config(config)).__name__.endswith("AnsweringSimple")
    for kind in (plainformers.AutoModelForCausalLM, plainformers.AutoModelForPreTraining):
        assert type(kind.from_config(config)) is plainformers.XLNetLMHeadModel
    with pytest.raises(ValueError, match="xlnet has no head for AutoModelForMaskedLM. It can be made by AutoModel,"):
        plainformers.AutoModelForMaskedLM.from_config(config)


def test_what_is_wrong_is_said():
    model, ids = make(XLNetModel), draw_ids("ids", (3, 5), 0, 61)
    ones, mems = torch.ones(3, 5), torch.zeros(2, 4, 3, 16)
    with pytest.raises(ValueError, match="attention_mask .* or input_mask .*, not both"):
        model(ids, attention_mask=ones, input_mask=1 - ones)
    with pytest.raises(ValueError, match="XLNet takes no packed batches"):
        model(ids[:1], attention_mask=Packed((2, 3)))
    with pytest.raises(ValueError, match=r"attention_mask covers 4 tokens; the input has 5\.$"):
        model(ids, attention_mask=ones[:, :4])
    with pytest.raises(ValueError, match="attention_mask covers 6 tokens; the input has 5, or 9 with those in memory"):
        model(ids, mems=mems, attention_mask=torch.ones(3, 6))
    with pytest.raises(ValueError, match="perm_mask covers 4 tokens"):
        model(ids, perm_mask=torch.zeros(3, 5, 4))
    with pytest.raises(ValueError, match="perm_mask goes with an attention_mask of shape"):
        model(ids, perm_mask=torch.zeros(3, 5, 5), attention_mask=torch.ones(3, 1, 5, 5))
    with pytest.raises(ValueError, match="mems must hold a tensor for each of the 2 layers, got 1"):
        model(ids, mems=mems[:1])
    with pytest.raises(ValueError, match="read backwards; this one has 3 rows"):
        make(XLNetModel, bi_data=True)(ids)
    with pytest.raises(TypeError, match="has no argument 'target_maping'. Did you mean 'target_mapping'"):
        model(ids, target_maping=None)


def test_configs():
    config = XLNetConfig(hidden_size=32, num_hidden_layers=3, num_attention_heads=4, n_token=50)
    assert (config.d_model, config.n_layer, config.n_head, config.vocab_size, config.d_head) == (32, 3, 4, 50, 8)
    assert config.longest_input is None
    for fields, message in (
        ({"attn_type": "both"}, "attn_type must be one of bi, uni, got 'both'"),
        ({"summary_type": "attn"}, "summary_type must be one of last, first, mean, cls_index, got 'attn'"),
        ({"n_head": 5}, r"d_model \(1024\) must be even, and a multiple of n_head \(5\)"),
        ({"d_model": 9, "n_head": 3}, r"d_model \(9\) must be even"),
        ({"d_head": 3}, "d_head must be d_model / n_head, 64, got 3"),
        ({"mem_len": -1}, "mem_len must be a number from 0, got -1"),
        ({"n_head": 0}, "n_head must be a number from 1, got 0"),
        ({"ff_activation": 3}, "ff_activation must be str, got 3"),
    ):
        with pytest.raises(ValueError, match=message):
            XLNetConfig(**fields)


def test_the_inputs_of_the_zoo_show_something():
    """Segments, memory, masks and targets each change what is compared there."""
    from zoo import ROWS

    for row in ROWS:
        if row.model_type != "xlnet" or "base" not in row.heads:
            continue
        model, inputs = make(XLNetModel, **row.config), make_inputs(row, "base")
        want = model(**inputs).last_hidden_state
        for name in row.extra:
            other = model(**{key: value for key, value in inputs.items() if key != name}).last_hidden_state
            assert other.shape != want.shape or not torch.allclose(other, want, atol=1e-3), (row.name, name)
