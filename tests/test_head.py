"""The last layer, trained as logistic regression on features."""

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression

from labelr.model.network import Head
from labelr.scoring.metrics import bce
from labelr.training.head import DEFAULT_REGULARISATION, REGULARISATIONS, HeadFit, fit_head

RNG = np.random.default_rng(0)


def make_features(number: int, *, noise: float = 1.0) -> tuple[np.ndarray, np.ndarray]:
    """Features ``(N, 2, 6)`` of which the first two say which of two labels apply."""
    targets = RNG.integers(0, 2, (number, 2)).astype(np.float32)
    features = RNG.normal(3, 2, (number, 2, 6)) * noise
    features[:, :, :2] += 2 * targets[:, None]
    return features.astype(np.float16), targets


def zeros() -> Head:
    """A head that nothing was learned in."""
    head = Head(6, 2, dropout=0.0)
    torch.nn.init.zeros_(head.linear.weight)
    return head


def test_solution_is_that_of_scikit_learn() -> None:
    features, targets = make_features(200)
    fit = fit_head(zeros(), features, targets, features[:0], targets[:0])
    assert fit.regularisation == DEFAULT_REGULARISATION
    flat = features.reshape(-1, 6).astype(np.float32)
    standard = (flat - flat.mean(axis=0)) / flat.std(axis=0)
    repeated = targets.repeat(2, axis=0)
    for label in range(2):
        # scikit-learn sums the losses where labelr takes their mean
        model = LogisticRegression(C=1 / (fit.regularisation * len(flat)), tol=1e-8).fit(standard, repeated[:, label])
        assert np.allclose(fit.weight[label], model.coef_[0], atol=0.01)
        assert np.isclose(fit.bias[label], model.intercept_[0], atol=0.01)


def test_unknown_cells_count_nowhere() -> None:
    features, targets = make_features(100)
    unknown = targets.copy()
    unknown[50:, 0] = np.nan
    fit = fit_head(zeros(), features, unknown, features[:0], targets[:0])
    known = fit_head(zeros(), features[:50], targets[:50], features[:0], targets[:0])
    everything = fit_head(zeros(), features, targets, features[:0], targets[:0])
    assert not torch.allclose(fit.weight[0], everything.weight[0], atol=1e-3)
    assert torch.corrcoef(torch.stack([fit.weight[0], known.weight[0]]))[0, 1] > 0.95


@pytest.mark.parametrize(("number", "noise"), [(12, 6.0), (2000, 1.0)])
def test_few_or_noisy_images_get_a_stronger_penalty(number: int, noise: float) -> None:
    features, targets = make_features(number, noise=noise)
    val_features, val_targets = make_features(500, noise=noise)
    chosen = fit_head(zeros(), features, targets, val_features, val_targets).regularisation
    assert chosen in REGULARISATIONS
    assert chosen >= 0.1 if number == 12 else chosen <= 0.01


def test_head_computes_what_was_fitted() -> None:
    features, targets = make_features(100)
    fit = fit_head(zeros(), features, targets, features, targets)
    head = Head(6, 2, dropout=0.5).eval()
    fit.copy_to(head)
    rows = torch.from_numpy(features[:, 0].astype(np.float32))
    wanted = (rows - fit.mean) / fit.std @ fit.weight.T + fit.bias
    assert torch.allclose(head(rows), wanted, atol=1e-5)


def test_constant_feature_and_label_without_positives_are_no_trouble() -> None:
    features, targets = make_features(50)
    features[:, :, 5] = 1
    targets[:, 1] = 0
    fit = fit_head(zeros(), features, targets, features, targets)
    assert torch.isfinite(fit.weight).all()
    assert fit.bias[1] < -2


def test_penalty_draws_to_the_weights_of_another_model() -> None:
    features, targets = make_features(400)
    learned = fit_head(zeros(), features, targets, features[:0], targets[:0])
    head = zeros()
    learned.copy_to(head)
    few, few_targets = make_features(8)
    val_features, val_targets = make_features(300)
    continued = fit_head(head, few, few_targets, val_features, val_targets)
    fresh = fit_head(zeros(), few, few_targets, val_features, val_targets)
    assert torch.equal(continued.mean, learned.mean)

    def loss(fit: HeadFit) -> float:
        copy = zeros().eval()
        fit.copy_to(copy)
        return bce(
            copy(torch.from_numpy(val_features[:, 0].astype(np.float32))).sigmoid().detach().numpy(), val_targets
        )

    assert loss(continued) < loss(fresh)
