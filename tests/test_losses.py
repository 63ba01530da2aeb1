"""Losses."""

import numpy as np
import pytest
import torch

from labelr.scoring.metrics import bce
from labelr.training.losses import masked_bce


def test_loss_is_the_metric_of_the_same_name() -> None:
    torch.manual_seed(0)
    logits, targets = torch.randn(6, 4), (torch.rand(6, 4) < 0.5).float()
    assert float(masked_bce(logits, targets)) == pytest.approx(bce(logits.sigmoid().numpy(), targets.numpy()), abs=1e-6)


def test_unknown_cells_have_no_loss_and_no_gradient() -> None:
    logits = torch.tensor([[2.0, -1.0], [0.5, 3.0]], requires_grad=True)
    targets = torch.tensor([[1.0, np.nan], [np.nan, 0.0]])
    loss = masked_bce(logits, targets)
    loss.backward()  # type: ignore[no-untyped-call]
    expected = (np.log1p(np.exp(-2)) + np.log1p(np.exp(3))) / 2
    assert float(loss.detach()) == pytest.approx(expected, abs=1e-6)
    assert logits.grad is not None
    assert (logits.grad != 0).tolist() == [[True, False], [False, True]]


def test_loss_of_nothing_known_is_zero() -> None:
    assert float(masked_bce(torch.ones(2, 2), torch.full((2, 2), np.nan))) == 0
