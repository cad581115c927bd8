import math

import pytest
import torch
import torch.nn.functional as F

from plainformers.losses import next_token_loss, sequence_loss, span_loss, token_loss


def test_token_loss_is_the_mean_over_targets():
    logits = torch.tensor([[[0.0, 0.0], [math.log(3.0), 0.0], [9.0, -9.0]]])
    loss, count = token_loss(logits, torch.tensor([[0, 1, -100]]))
    assert count.item() == 2
    assert loss.item() == pytest.approx((math.log(2) + math.log(4)) / 2, abs=1e-6)


def test_no_target_is_no_loss_and_no_nan():
    logits = torch.randn(1, 3, 5, requires_grad=True)
    loss, count = token_loss(logits, torch.full((1, 3), -100))
    assert loss.item() == 0.0 and count.item() == 0
    loss.backward()
    assert (logits.grad == 0).all()


def test_next_token_loss_shifts():
    torch.manual_seed(0)
    logits, labels = torch.randn(2, 4, 7), torch.randint(0, 7, (2, 4))
    loss, count = next_token_loss(logits, labels)
    assert count.item() == 6
    assert loss.item() == pytest.approx(F.cross_entropy(logits[:, :3].reshape(-1, 7), labels[:, 1:].reshape(-1)).item())


def test_the_problem_follows_from_labels_and_their_number():
    torch.manual_seed(0)
    one, three = torch.randn(4, 1), torch.randn(4, 3)
    values, classes, several = torch.randn(4), torch.tensor([0, 2, 1, 1]), torch.randint(0, 2, (4, 3)).float()
    assert sequence_loss(one, values)[0].item() == pytest.approx(F.mse_loss(one[:, 0], values).item())
    assert sequence_loss(three, classes)[0].item() == pytest.approx(F.cross_entropy(three, classes).item())
    want = F.binary_cross_entropy_with_logits(three, several).item()
    assert sequence_loss(three, several)[0].item() == pytest.approx(want)
    assert sequence_loss(three, several)[1].item() == 12
    assert sequence_loss(three, several, "regression")[0].item() == pytest.approx(F.mse_loss(three, several).item())


def test_bfloat16_logits_lose_nothing_in_the_loss():
    torch.manual_seed(0)
    logits, labels = torch.randn(8, 50).bfloat16(), torch.randint(0, 50, (8,))
    assert token_loss(logits, labels)[0].dtype == torch.float32
    assert token_loss(logits, labels)[0].item() == pytest.approx(F.cross_entropy(logits.float(), labels).item())


def test_span_loss_leaves_out_answers_that_were_cut_off():
    torch.manual_seed(0)
    start, end = torch.randn(2, 6), torch.randn(2, 6)
    loss, count = span_loss(start, end, torch.tensor([1, 6]), torch.tensor([[3], [9]]))
    want = (F.cross_entropy(start[:1], torch.tensor([1])) + F.cross_entropy(end[:1], torch.tensor([3]))) / 2
    assert loss.item() == pytest.approx(want.item()) and count.item() == 1


def test_wrong_labels_are_named():
    with pytest.raises(ValueError, match=r"labels have shape \[2, 3\]; the logits ask for \[2, 4\]"):
        token_loss(torch.randn(2, 4, 5), torch.zeros(2, 3, dtype=torch.long))
    with pytest.raises(ValueError, match="problem_type is 'ranking'; known are regression"):
        sequence_loss(torch.randn(2, 3), torch.zeros(2), "ranking")
    with pytest.raises(ValueError, match=r"multi_label_classification needs labels of shape \[2, 3\], got \[2\]"):
        sequence_loss(torch.randn(2, 3), torch.zeros(2))
