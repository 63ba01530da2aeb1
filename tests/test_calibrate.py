"""Fitting a calibration, compared with what made the data and with logistic regression."""

import numpy as np
import pytest
from scipy.special import expit, logit
from sklearn.linear_model import LogisticRegression

from labelr.model.calibration import UNCALIBRATED, calibrate, fit_calibration
from labelr.scoring.metrics import FloatArray, bce, calibration_error


def overconfident(seed: int, temperature: float, bias: float = 0.0) -> tuple[FloatArray, FloatArray]:
    """Probabilities whose logits are `temperature` times what they should be after a shift, and targets."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(-1, 2, (2000, 4))
    targets = (rng.random(logits.shape) < expit(logits)).astype(float)
    return expit(temperature * (logits - bias)), targets


@pytest.mark.parametrize("temperature", [0.6, 1.0, 2.5])
def test_temperature_that_made_the_data_is_found(temperature: float) -> None:
    probs, targets = overconfident(0, temperature)
    found = fit_calibration(probs, targets)
    assert found.temperature == pytest.approx(temperature, rel=0.06)
    assert found.bias == pytest.approx(0, abs=0.06)


def test_temperature_and_bias_are_those_of_logistic_regression() -> None:
    probs, targets = overconfident(1, 1.7, bias=0.8)
    found = fit_calibration(probs, targets)
    peer = LogisticRegression(C=1e12, tol=1e-10).fit(logit(probs).reshape(-1, 1), targets.ravel())
    assert 1 / found.temperature == pytest.approx(peer.coef_[0, 0], abs=1e-4)
    assert found.bias == pytest.approx(peer.intercept_[0], abs=1e-4)


def test_calibration_lowers_loss_and_calibration_error() -> None:
    probs, targets = overconfident(2, 3.0)
    calibrated = calibrate(probs.astype(np.float32), fit_calibration(probs, targets))
    assert bce(calibrated, targets) < bce(probs, targets)
    assert calibration_error(calibrated, targets) < 0.5 * calibration_error(probs, targets)


def test_unknown_cells_count_nowhere() -> None:
    probs, targets = overconfident(3, 2.0)
    hidden = np.random.default_rng(3).random(targets.shape) < 0.5
    masked = np.where(hidden, np.nan, targets)
    assert fit_calibration(probs, masked) == fit_calibration(np.where(hidden, 0.123, probs), masked)


@pytest.mark.parametrize("target", [0.0, 1.0, np.nan])
def test_nothing_is_fitted_where_targets_are_of_one_kind(target: float) -> None:
    assert fit_calibration(np.full((4, 2), 0.3), np.full((4, 2), target)) == UNCALIBRATED
    assert fit_calibration(np.empty((0, 2)), np.empty((0, 2))) == UNCALIBRATED


def test_few_images_that_are_all_right_or_all_wrong_do_not_ask_for_the_impossible() -> None:
    targets = np.array([[1.0, 0.0]])
    assert fit_calibration(np.array([[0.6, 0.4]]), targets).temperature == pytest.approx(0.2)
    assert fit_calibration(np.array([[0.4, 0.6]]), targets).temperature == pytest.approx(5)
    assert fit_calibration(np.array([[1.0, 0.0]]), targets).is_valid
