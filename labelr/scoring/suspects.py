"""Suspected label errors: given labels that the model contradicts. Pure functions of arrays, without torch."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from labelr.scoring.metrics import FloatArray, evaluable


@dataclass(frozen=True)
class Suspects:
    """K cells whose given label the model contradicts, the most suspicious first."""

    rows: NDArray[np.int64]  # (K,), the images
    columns: NDArray[np.int64]  # (K,), the labels
    clear: int  # how many of them are off the diagonal of the confident joint; see `find_suspects`
    known: int  # the number of known cells, which were checked

    def __len__(self) -> int:
        return len(self.rows)


def find_suspects(probs: FloatArray, targets: FloatArray) -> Suspects:
    """Suspected label errors by confident learning (Northcutt et al. 2021).

    Each label is a binary problem of its own, as in the multi-label form (Thyagarajan et al. 2023). The confidence
    threshold of an answer (yes or no) is its mean probability over the images with that given answer. A cell is off
    the diagonal of the confident joint if the other answer reaches its threshold, and exceeds it by more than the
    given answer does. Suspects are ordered by the probability of the given answer alone (self-confidence): with 5 %
    of real labels flipped, this order found more of them than the margins above the thresholds.

    Args:
        probs: Probabilities on images that the model was not trained on, shape ``(N, L)``.
        targets: 1, 0 or NaN (unknown), shape ``(N, L)``; unknown cells are ignored.

    Returns:
        The cells off the diagonal, and all others whose given answer is the less probable one, the least probable
        first. A label without a positive or without a negative has none.
    """
    probs, positive = probs.astype(np.float64), targets == 1
    known = ~np.isnan(targets)
    excess_yes = probs - _mean_where(probs, known & positive)
    excess_no = 1 - probs - _mean_where(1 - probs, known & ~positive)
    other, own = np.where(positive, excess_no, excess_yes), np.where(positive, excess_yes, excess_no)
    checked = known & evaluable(targets)
    off_diagonal = checked & (other >= 0) & (other > own)
    confidence = np.where(positive, probs, 1 - probs)
    rows, columns = np.nonzero(off_diagonal | (checked & (confidence < 0.5)))
    order = np.argsort(confidence[rows, columns], kind="stable")
    return Suspects(rows[order], columns[order], int(off_diagonal.sum()), int(known.sum()))


def _mean_where(values: FloatArray, mask: NDArray[np.bool_]) -> FloatArray:
    """The mean of each column over the cells in `mask`, ``(L,)``; 0 for a column without any."""
    mean: FloatArray = np.where(mask, values, 0).sum(axis=0) / np.maximum(mask.sum(axis=0), 1)
    return mean
