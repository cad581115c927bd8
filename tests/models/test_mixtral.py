"""What the table of the zoo cannot say of experts: which of them are computed, and the loss of uneven use."""

import pytest
import torch
from zoo import MIXTRAL, QWEN3_MOE, ROWS, make_inputs

from plainformers import MixtralConfig, MixtralForCausalLM, Packed, Qwen3MoeConfig, Qwen3MoeForCausalLM

INPUTS = make_inputs(next(row for row in ROWS if row.name == "mixtral"), "base")
KINDS = pytest.mark.parametrize(
    ("kind", "config"),
    [(MixtralForCausalLM, MixtralConfig(**MIXTRAL)), (Qwen3MoeForCausalLM, Qwen3MoeConfig(**QWEN3_MOE))],
    ids=["mixtral", "qwen3_moe"],
)


def make(kind, config):
    torch.manual_seed(0)
    return kind(config).eval()


def experts_of(model):
    return [module for name, module in model.named_modules() if name.endswith(".experts")]


@KINDS
def test_only_chosen_experts_are_read(kind, config):
    model = make(kind, config)
    with torch.no_grad():
        out = model(INPUTS["input_ids"][:1, :1], output_router_logits=True)
        for experts, scores in zip(experts_of(model), out.router_logits, strict=True):
            assert scores.shape == (1, 4)
            for unchosen in scores[0].topk(2, largest=False).indices.tolist():
                for parameter in experts[unchosen].parameters():
                    parameter.fill_(torch.nan)
        assert torch.equal(model(INPUTS["input_ids"][:1, :1]).logits, out.logits)


@KINDS
def test_an_expert_computes_its_own_tokens_only(kind, config):
    model = make(kind, config)
    seen = []
    for experts in experts_of(model):
        for expert in experts:
            expert.register_forward_hook(lambda _, inputs, __: seen.append(len(inputs[0])))
    model(**INPUTS)
    assert sum(seen) == 2 * 2 * INPUTS["input_ids"].numel()  # layers, experts of a token, tokens


@KINDS
def test_the_loss_of_uneven_use(kind, config):
    model = make(kind, config)
    asked = {"output_router_logits": True}
    out = model(**INPUTS, **asked)
    mask = INPUTS["attention_mask"].bool()
    packed = model(INPUTS["input_ids"][mask][None], Packed(tuple(mask.sum(-1).tolist())), **asked)
    torch.testing.assert_close(packed.aux_loss, out.aux_loss)
    # decoding with a cache, the mask counts tokens whose scores are not there
    first = model(INPUTS["input_ids"][:, :3], INPUTS["attention_mask"][:, :3])
    rest = model(INPUTS["input_ids"][:, 3:], INPUTS["attention_mask"], past_key_values=first.past_key_values, **asked)
    scores = [one.view(3, 6, 4)[:, 3:][mask[:, 3:]] for one in out.router_logits]
    used = torch.cat([torch.zeros_like(s).scatter(1, s.topk(2).indices, 1.0) for s in scores]).mean(0)
    likely = torch.cat([s.softmax(-1) for s in scores]).mean(0)
    torch.testing.assert_close(rest.aux_loss, 4 * (used * likely).sum())
    # alike, for a router that knows no difference
    for name, parameter in model.named_parameters():
        if name.endswith("gate.weight"):
            torch.nn.init.zeros_(parameter)
    torch.testing.assert_close(model(**INPUTS, **asked).aux_loss, torch.tensor(2.0))
    assert model(**INPUTS).aux_loss is None


@KINDS
@pytest.mark.parametrize("chosen", [0, 5])
def test_as_many_experts_as_there_are(kind, config, chosen):
    with pytest.raises(ValueError, match=f"num_experts_per_tok must be from 1 to 4, all experts, got {chosen}"):
        type(config)(num_experts_per_tok=chosen, num_local_experts=4)
