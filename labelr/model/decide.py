"""Where probabilities become labels. Pure functions of arrays, without torch."""

import numpy as np
from numpy.typing import ArrayLike, NDArray


def decide(probs: NDArray[np.floating], thresholds: ArrayLike) -> NDArray[np.bool_]:
    """Which labels apply: those whose probability is at least their threshold.

    Args:
        probs: Shape ``(..., L)``.
        thresholds: One for each label, shape ``(L,)``, or one number for all.

    Returns:
        Shape ``(..., L)``.
    """
    # Compared in float64: 0.7 as float32 is below the number 0.7 that a person typed, and is what a CSV shows as 0.7.
    chosen: NDArray[np.bool_] = probs.astype(np.float64) >= np.asarray(thresholds, dtype=np.float64)
    return chosen
