"""Calibrated probabilities: what a temperature and a bias do to them."""

import numpy as np
import pytest
from scipy.special import expit, logit

from labelr.model.calibration import UNCALIBRATED, Calibration, calibrate


def test_logits_are_divided_by_the_temperature_and_shifted_by_the_bias() -> None:
    probs = np.array([[0.1, 0.5, 0.9]], np.float32)
    expected = expit(logit(probs.astype(float)) / 2 - 1)
    assert calibrate(probs, Calibration(2.0, -1.0)) == pytest.approx(expected, abs=1e-6)


def test_higher_temperature_means_less_certainty() -> None:
    probs = np.array([0.1, 0.9], np.float32)
    cooler, hotter = (calibrate(probs, Calibration(temperature)) for temperature in (0.5, 2.0))
    assert cooler[0] < probs[0] < hotter[0] < 0.5 < hotter[1] < probs[1] < cooler[1]


def test_without_calibration_probabilities_stay_as_they_are_to_the_last_bit() -> None:
    probs = np.random.default_rng(0).random((5, 3)).astype(np.float32)
    assert np.array_equal(calibrate(probs, UNCALIBRATED), probs)


def test_order_stays_and_certainty_stays_certain() -> None:
    probs = np.array([0.0, 1e-30, 0.3, 1 - 1e-7, 1.0], np.float32)
    calibrated = calibrate(probs, Calibration(3.0, 0.2))
    assert (np.diff(calibrated) > 0).all()
    assert calibrated[[0, -1]].tolist() == [0.0, 1.0]
    assert calibrated.dtype == np.float32


@pytest.mark.parametrize("calibration", [(0.0, 0.0), (-1.0, 0.0), (np.nan, 0.0), (np.inf, 0.0), (1.0, np.inf)])
def test_impossible_numbers_are_known(calibration: tuple[float, float]) -> None:
    assert not Calibration(*calibration).is_valid
    assert UNCALIBRATED.is_valid
