"""Logits of a large vocabulary made a part at a time: the same loss and gradients, and never all of them at once."""

import pytest
import torch
from small import collate, losses, make, rows_for, trainer
from zoo import CASES, config_for, make_inputs

from plainformers import LlamaForCausalLM, auto
from plainformers.registry import MODELS

HEADS = [(row, head) for row, head in CASES if head in ("causal-lm", "masked-lm", "pretraining")]
DROPOUTS = ("hidden_dropout_prob", "attention_probs_dropout_prob", "dropout", "attention_dropout", "embd_pdrop")
DROPOUTS += ("attn_pdrop", "resid_pdrop", "hidden_dropout", "activation_dropout")


@pytest.mark.parametrize(("row", "head"), HEADS, ids=[f"{row.name}-{head}" for row, head in HEADS])
def test_loss_and_gradients_are_those_of_all_logits(row, head):
    inputs, entry = make_inputs(row, head), MODELS[row.model_type]
    kind = getattr(auto.model_module(entry), entry.heads[head])
    found = []
    for parts in (0, 3):
        torch.manual_seed(0)
        config = kind.config_class(**config_for(row, head))
        for name in DROPOUTS:
            if hasattr(config, name):
                setattr(config, name, 0.0)
        model = kind(config).train()
        model.loss_parts = parts
        out = model(**inputs)
        if out.loss is None:
            return
        out.loss.backward()
        found.append((out, {n: p.grad for n, p in model.named_parameters() if p.grad is not None}))
    (whole, theirs), (parted, ours) = found
    torch.testing.assert_close(parted.loss, whole.loss, atol=1e-6, rtol=1e-5)
    assert parted.loss_count == whole.loss_count and theirs.keys() == ours.keys()
    for name, gradient in theirs.items():
        torch.testing.assert_close(ours[name], gradient, atol=1e-6, rtol=1e-4)


def test_the_trainer_asks_for_it_and_an_evaluation_gives_all_logits(tmp_path):
    one, other = (
        trainer(
            tmp_path, LlamaForCausalLM, chunked_loss=chunked, max_steps=3, eval_dataset=rows_for(LlamaForCausalLM, 4)
        )
        for chunked in (True, False)
    )
    one.train(), other.train()
    assert one.model.loss_parts > 0 == other.model.loss_parts and losses(one) == pytest.approx(losses(other), rel=1e-6)
    assert one.predict(rows_for(LlamaForCausalLM, 4)).predictions.shape[-1] == 60
    model = make(LlamaForCausalLM).train()
    model.loss_parts = 4
    assert model(**collate(rows_for(LlamaForCausalLM, 4))).logits is None
    assert model.eval()(**collate(rows_for(LlamaForCausalLM, 4))).logits is not None
    with pytest.raises(ValueError, match="labels have shape"):
        model.train()(input_ids=torch.ones(2, 3, dtype=torch.long), labels=torch.ones(2, 2, dtype=torch.long))
