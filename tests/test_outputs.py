import copy
import pickle

import pytest
import torch

from plainformers import ModelOutput, modeling_outputs
from plainformers.modeling_outputs import SequenceClassifierOutput


def test_attribute_key_index_slice_and_tuple():
    logits = torch.ones(2, 3)
    out = SequenceClassifierOutput(logits=logits, loss_count=torch.tensor(2))
    assert out.logits is logits and out["logits"] is logits and out[0] is logits and out[:1] == (logits,)
    assert out.to_tuple() == (logits,) and dict(out) == {"logits": logits} and list(out) == ["logits"] and len(out) == 1
    assert "loss" not in out and out.loss is None and out.get("loss") is None
    out["loss"] = torch.tensor(1.0)
    assert out[0] is out.loss and out.keys() == ["loss", "logits"]
    assert out.hidden_states is None and out.loss_count.item() == 2


def test_hidden_states_can_be_added_to():
    out = SequenceClassifierOutput(hidden_states=(torch.zeros(1),))
    assert len(out.hidden_states + (torch.ones(1),)) == 2


def test_a_missing_key_says_what_there_is():
    with pytest.raises(KeyError, match="has no 'losss' here; it holds logits"):
        SequenceClassifierOutput(logits=torch.ones(1))["losss"]


def test_outputs_copy_and_pickle():
    out = SequenceClassifierOutput(logits=torch.ones(2))
    for again in (copy.deepcopy(out), pickle.loads(pickle.dumps(out))):
        assert type(again) is SequenceClassifierOutput and torch.equal(again.logits, out.logits)


def test_every_output_is_a_model_output():
    assert all(issubclass(getattr(modeling_outputs, name), ModelOutput) for name in modeling_outputs.__all__)
