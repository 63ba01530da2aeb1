"""Fits how certain a model should be to what came true. A pure function of arrays, without torch."""

import numpy as np

from labelr.model.calibration import UNCALIBRATED, Calibration
from labelr.scoring.metrics import FloatArray

MOST = 5.0
"""Temperatures are sought from 1/5 to 5, and biases up to 5: a handful of validation images may ask for any."""


def fit_calibration(probs: FloatArray, targets: FloatArray) -> Calibration:
    """The calibration under which the known targets are most likely, one for all labels.

    Temperature scaling (Guo et al. 2017) with a bias beside it. Plain binary cross-entropy needs none for the images
    and weights that were trained, but averaged weights and views shift the mean probability, as would a loss that
    weighs positives otherwise. Cross-validated within validation parts, the bias lowered every calibration error.

    Args:
        probs: The network's probabilities, not calibrated, on images that it was not trained on, shape ``(N, L)``.
        targets: 1, 0 or NaN (unknown), shape ``(N, L)``.

    Returns:
        The calibration; one that changes nothing where there are not both kinds of targets.
    """
    from scipy.optimize import minimize
    from scipy.special import expit, logit

    known = ~np.isnan(targets)
    true = targets[known].astype(np.float64)
    if not (true == 1).any() or not (true == 0).any():
        return UNCALIBRATED
    logits = logit(probs[known].astype(np.float64).clip(1e-7, 1 - 1e-7))

    def loss_and_slopes(free: FloatArray) -> tuple[float, FloatArray]:
        """Mean cross-entropy, convex in both, and its slopes by the inverse temperature and the bias."""
        scaled = free[0] * logits + free[1]
        losses = np.logaddexp(0, scaled) - true * scaled
        excess = expit(scaled) - true
        return float(losses.mean()), np.array([(excess * logits).mean(), excess.mean()])

    bounds = [(1 / MOST, MOST), (-MOST, MOST)]
    best = minimize(loss_and_slopes, [1.0, 0.0], jac=True, method="L-BFGS-B", bounds=bounds, tol=1e-12).x
    return Calibration(temperature=float(1 / best[0]), bias=float(best[1]))
