"""What turns the network's probabilities into those that labelr shows. A pure function of arrays, without torch."""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Calibration:
    """How much less, or more, certain a network should be than it says it is (temperature scaling, Guo et al. 2017).

    Attributes:
        temperature: Divides the logits, above 0; 1 leaves them as they are.
        bias: Added to the logits afterwards.
    """

    temperature: float = 1.0
    bias: float = 0.0

    @property
    def usable(self) -> bool:
        """Whether the numbers are in their range."""
        return 0 < self.temperature < math.inf and math.isfinite(self.bias)


UNCALIBRATED = Calibration()
"""Leaves probabilities as they are."""


def calibrate(probs: NDArray[np.floating], calibration: Calibration) -> NDArray[np.float32]:
    """Calibrated probabilities.

    They are a function of the probability alone, so that it does not matter whether that is one view's or, as with
    flip averaging, the mean of two. The order of images and labels stays.

    Args:
        probs: Any shape.
        calibration: The model's.

    Returns:
        Values in [0, 1], of the same shape.
    """
    from scipy.special import expit, logit

    if calibration == UNCALIBRATED:
        return probs.astype(np.float32)
    logits = logit(probs.astype(np.float64)) / calibration.temperature + calibration.bias
    calibrated: NDArray[np.float32] = expit(logits).astype(np.float32)
    return calibrated
