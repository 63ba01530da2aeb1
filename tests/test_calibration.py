"""Calibrated probabilities, and the fit of a calibration compared with logistic regression."""

import subprocess
import sys

import numpy as np
import pytest
from scipy.special import expit, logit
from sklearn.linear_model import LogisticRegression

from labelr.model.calibration import UNCALIBRATED, Calibration, calibrate, fit_calibration
from labelr.scoring.metrics import FloatArray, bce, calibration_error


def test_logits_are_divided_by_the_temperature_and_shifted_by_the_bias() -> None:
    probs = np.array([[0.1, 0.5, 0.9]], np.float32)
    expected = expit(logit(probs.astype(float)) / 2 - 1)
    assert calibrate(probs, Calibration(2.0, -1.0)) == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("calibration", [Calibration(0.8, 0.3), Calibration(1e-3, 5.0), Calibration(1e3, -1e3)])
def test_calibrated_probabilities_are_those_of_scipy(calibration: Calibration) -> None:
    rng = np.random.default_rng(0)
    probs = np.concatenate([rng.random(1000), 10 ** -rng.uniform(0, 45, 1000), 1 - 10 ** -rng.uniform(0, 8, 1000)])
    logits = logit(probs.astype(np.float32).astype(float)) / calibration.temperature + calibration.bias
    expected = expit(logits).astype(np.float32)
    np.testing.assert_array_max_ulp(calibrate(probs.astype(np.float32), calibration), expected, 1)


def test_calibrating_imports_no_scipy() -> None:
    code = (
        "import sys\nbefore = set(sys.modules)\nimport numpy as np\n"
        "from labelr.model.calibration import Calibration, calibrate\n"
        "calibrate(np.ones(1), Calibration(2.0))\nprint('scipy' in set(sys.modules) - before)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"


def test_higher_temperature_means_less_certainty() -> None:
    probs = np.array([0.1, 0.9], np.float32)
    cooler, hotter = (calibrate(probs, Calibration(temperature)) for temperature in (0.5, 2.0))
    assert cooler[0] < probs[0] < hotter[0] < 0.5 < hotter[1] < probs[1] < cooler[1]


def test_uncalibrated_probabilities_are_unchanged() -> None:
    probs = np.random.default_rng(0).random((5, 3)).astype(np.float32)
    assert np.array_equal(calibrate(probs, UNCALIBRATED), probs)


def test_order_and_certainty_are_kept() -> None:
    probs = np.array([0.0, 1e-30, 0.3, 1 - 1e-7, 1.0], np.float32)
    calibrated = calibrate(probs, Calibration(3.0, 0.2))
    assert (np.diff(calibrated) > 0).all()
    assert calibrated[[0, -1]].tolist() == [0.0, 1.0]
    assert calibrated.dtype == np.float32


def test_nan_stays_nan_without_a_warning() -> None:
    assert np.isnan(calibrate(np.array([np.nan], np.float32), Calibration(3.0, 0.2))).all()


def overconfident(seed: int, temperature: float, bias: float = 0.0) -> tuple[FloatArray, FloatArray]:
    """Probabilities with shifted logits that are multiplied by `temperature`, and targets."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(-1, 2, (2000, 4))
    targets = (rng.random(logits.shape) < expit(logits)).astype(float)
    return expit(temperature * (logits - bias)), targets


@pytest.mark.parametrize("temperature", [0.6, 1.0, 2.5])
def test_temperature_of_the_data_is_found(temperature: float) -> None:
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
def test_targets_of_one_kind_give_no_calibration(target: float) -> None:
    assert fit_calibration(np.full((4, 2), 0.3), np.full((4, 2), target)) == UNCALIBRATED
    assert fit_calibration(np.empty((0, 2)), np.empty((0, 2))) == UNCALIBRATED


def test_temperature_is_bounded_with_few_images() -> None:
    targets = np.array([[1.0, 0.0]])
    assert fit_calibration(np.array([[0.6, 0.4]]), targets).temperature == pytest.approx(0.2)
    assert fit_calibration(np.array([[0.4, 0.6]]), targets).temperature == pytest.approx(5)
    assert fit_calibration(np.array([[1.0, 0.0]]), targets).temperature == pytest.approx(5, abs=4.9)
