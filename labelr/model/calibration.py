"""Calibrates probabilities and turns them into labels. Pure functions of arrays, without torch."""

from dataclasses import dataclass
from typing import Annotated

import numpy as np
from msgspec import Meta
from numpy.typing import ArrayLike, NDArray

MAX_TEMPERATURE = 5.0
"""Bounds temperatures to [1/5, 5] and biases to [-5, 5]: a handful of validation images may ask for any."""


@dataclass(frozen=True)
class Calibration:
    """An affine map of the logits that corrects a network's over- or underconfidence (Guo et al. 2017).

    Attributes:
        temperature: Divides the logits, above 0; 1 leaves them unchanged.
        bias: Added to the logits afterwards.
    """

    temperature: Annotated[float, Meta(ge=1e-3, le=1e3)] = 1.0
    bias: Annotated[float, Meta(ge=-1e3, le=1e3)] = 0.0


UNCALIBRATED = Calibration()
"""Leaves probabilities unchanged."""


def calibrate(probs: NDArray[np.floating], calibration: Calibration) -> NDArray[np.float32]:
    """Calibrated probabilities.

    They depend on the probability alone, so that the mean over two flipped views is calibrated like a single view.
    The order of images and of labels does not change.

    Args:
        probs: Any shape.
        calibration: The model's.

    Returns:
        Values in [0, 1], of the same shape.
    """
    if calibration == UNCALIBRATED:
        return probs.astype(np.float32)
    values = probs.astype(np.float64)
    with np.errstate(divide="ignore", invalid="ignore"):  # the logits of 0 and 1 are infinite, that of NaN is NaN
        logits = np.log(values) - np.log1p(-values)  # not by SciPy, whose import takes as long as tagging some images
        logits = logits / calibration.temperature + calibration.bias
        calibrated: NDArray[np.float32] = np.exp(-np.logaddexp(0, -logits)).astype(np.float32)
    return calibrated


def fit_calibration(probs: NDArray[np.floating], targets: NDArray[np.floating]) -> Calibration:
    """The calibration with the highest likelihood of the known targets, one for all labels.

    Temperature scaling (Guo et al. 2017) plus a bias. The images and weights of training need no bias, since they
    minimise plain binary cross-entropy. But averaged weights and averaged views shift the mean probability, as would a
    weighted loss. Cross-validated within validation splits, the bias lowered every calibration error.

    Args:
        probs: Uncalibrated probabilities of images that the network was not trained on, shape ``(N, L)``.
        targets: 1, 0 or NaN (unknown), shape ``(N, L)``.

    Returns:
        The calibration; `UNCALIBRATED` unless there are both positive and negative targets.
    """
    from scipy.optimize import minimize
    from scipy.special import expit, logit

    known = ~np.isnan(targets)
    true = targets[known].astype(np.float64)
    if not (true == 1).any() or not (true == 0).any():
        return UNCALIBRATED
    logits = logit(probs[known].astype(np.float64).clip(1e-7, 1 - 1e-7))

    def loss_and_gradient(params: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        """Mean cross-entropy and its gradient with respect to the inverse temperature and the bias; convex in both."""
        scaled = params[0] * logits + params[1]
        losses = np.logaddexp(0, scaled) - true * scaled
        excess = expit(scaled) - true
        return float(losses.mean()), np.array([(excess * logits).mean(), excess.mean()])

    bounds = [(1 / MAX_TEMPERATURE, MAX_TEMPERATURE), (-MAX_TEMPERATURE, MAX_TEMPERATURE)]
    best = minimize(loss_and_gradient, [1.0, 0.0], jac=True, method="L-BFGS-B", bounds=bounds, tol=1e-12).x
    return Calibration(temperature=float(1 / best[0]), bias=float(best[1]))


def decide(probs: NDArray[np.floating], thresholds: ArrayLike) -> NDArray[np.bool_]:
    """Which labels apply: those whose probability is at least their threshold.

    Args:
        probs: Shape ``(..., L)``.
        thresholds: One for each label, shape ``(L,)``, or one number for all.

    Returns:
        Shape ``(..., L)``.
    """
    # Compare in float64: float32 rounds 0.7 to slightly less than the 0.7 that a person types and a CSV shows.
    preds: NDArray[np.bool_] = probs.astype(np.float64) >= np.asarray(thresholds, dtype=np.float64)
    return preds
