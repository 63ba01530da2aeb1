"""Metrics of multi-label predictions. Pure functions of arrays, without torch; unknown cells count nowhere.

Every function takes `probs` or `preds` and `targets` of shape ``(N, L)``; a target is 1 where the label applies, 0
where not, NaN where unknown. What cannot be evaluated is NaN.
"""

import warnings
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from labelr.model.decide import decide

FloatArray = NDArray[np.floating]
Counts = NDArray[np.int64]


@dataclass(frozen=True)
class Confusion:
    """Counts of known cells along one axis, each ``(K,)``: K labels, K images, or one for all."""

    tp: Counts
    fp: Counts
    fn: Counts
    tn: Counts

    @property
    def precision(self) -> FloatArray:
        """Share of the labels written that are right, ``(K,)``; 0 where none is written."""
        return _ratio(self.tp, self.tp + self.fp)

    @property
    def recall(self) -> FloatArray:
        """Share of the true labels that are written, ``(K,)``; 0 where there is none."""
        return _ratio(self.tp, self.tp + self.fn)

    @property
    def f1(self) -> FloatArray:
        """Harmonic mean of precision and recall, ``(K,)``; 0 where there is nothing to find and nothing written."""
        return _ratio(2 * self.tp, 2 * self.tp + self.fp + self.fn)

    @property
    def support(self) -> Counts:
        """True labels, ``(K,)``."""
        return self.tp + self.fn


def confusion(preds: NDArray[np.bool_], targets: FloatArray, *, axis: int | None) -> Confusion:
    """True and false positives and negatives.

    Args:
        preds: Whether each label is predicted, shape ``(N, L)``.
        targets: 1, 0 or NaN, shape ``(N, L)``.
        axis: 0 counts for each label, 1 for each image, None for all cells together.
    """
    true, false = targets == 1, targets == 0  # both are False where unknown
    cells = (preds & true, preds & false, ~preds & true, ~preds & false)
    return Confusion(*(np.atleast_1d(cell.sum(axis=axis)) for cell in cells))


def average_precision(probs: FloatArray, targets: FloatArray) -> FloatArray:
    """Average precision of each label.

    Args:
        probs: Predicted probabilities in ``[0, 1]``, shape ``(N, L)``.
        targets: 1 where the label applies, 0 where not, NaN where unknown, shape ``(N, L)``.

    Returns:
        One value in ``[0, 1]`` for each label, shape ``(L,)``; NaN for a label without a known positive or without a
        known negative, since there the order of the images says nothing.
    """
    from sklearn.metrics import average_precision_score

    _check_shapes(probs, targets)
    values = np.full(targets.shape[1], np.nan)
    for label in np.flatnonzero(evaluable(targets)):
        known = ~np.isnan(targets[:, label])
        values[label] = average_precision_score(targets[known, label], probs[known, label])
    return values


def evaluable(targets: FloatArray) -> NDArray[np.bool_]:
    """Which labels have a known positive and a known negative, shape ``(L,)``; macro averages are over these."""
    return np.asarray((targets == 1).any(axis=0) & (targets == 0).any(axis=0))


def bce(probs: FloatArray, targets: FloatArray) -> float:
    """Binary cross-entropy over the known cells in nats; probabilities are kept 1e-7 away from 0 and 1."""
    _check_shapes(probs, targets)
    known = ~np.isnan(targets)
    safe = probs[known].astype(np.float64).clip(1e-7, 1 - 1e-7)
    true = targets[known]
    return float(mean_or_nan(-(true * np.log(safe) + (1 - true) * np.log(1 - safe))))


def hamming_loss(preds: NDArray[np.bool_], targets: FloatArray) -> float:
    """Share of the known cells that are predicted wrong."""
    known = ~np.isnan(targets)
    return float(mean_or_nan((preds != (targets == 1))[known]))


def exact_match(preds: NDArray[np.bool_], targets: FloatArray) -> float:
    """Share of the images with all their known cells right, among those with any (subset accuracy)."""
    known = ~np.isnan(targets)
    right = ((preds == (targets == 1)) | ~known).all(axis=1)
    return float(mean_or_nan(right[known.any(axis=1)]))


def score(probs: FloatArray, targets: FloatArray, thresholds: ArrayLike) -> dict[str, float]:
    """All metrics of a set of images, by name.

    Args:
        probs: Shape ``(N, L)``.
        targets: Shape ``(N, L)``.
        thresholds: One for each label, shape ``(L,)``, or one number for all.

    Returns:
        Fractions in [0, 1] (and ``loss`` in nats); NaN where nothing can be evaluated. Precision, recall and F1 follow
        scikit-learn with ``zero_division=0``: macro is over the labels that `evaluable` names, weighted
        by support, samples over the images with a known cell.
    """
    _check_shapes(probs, targets)
    preds = decide(probs, thresholds)
    known = ~np.isnan(targets)
    by_label, by_image = confusion(preds, targets, axis=0), confusion(preds, targets, axis=1)
    over_all = confusion(preds, targets, axis=None)
    metrics = {
        "loss": bce(probs, targets),
        "hamming_loss": hamming_loss(preds, targets),
        "exact_match": exact_match(preds, targets),
    }
    for name in ("precision", "recall", "f1"):
        of_labels, of_images = getattr(by_label, name), getattr(by_image, name)
        support = by_label.support.sum()
        metrics[f"{name}_micro"] = float(getattr(over_all, name)[0]) if known.any() else np.nan
        metrics[f"{name}_macro"] = float(mean_or_nan(of_labels[evaluable(targets)]))
        metrics[f"{name}_weighted"] = float((of_labels * by_label.support).sum() / support) if support else np.nan
        metrics[f"{name}_samples"] = float(mean_or_nan(of_images[known.any(axis=1)]))
    metrics["map_macro"] = float(mean_or_nan(average_precision(probs, targets)))
    return metrics


def mean_or_nan(values: FloatArray | NDArray[np.bool_]) -> np.floating:
    """The mean of what can be evaluated; NaN where nothing can."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # the mean of nothing is the NaN that is wanted
        return np.nanmean(values.astype(np.float64))


def _ratio(part: Counts, whole: Counts) -> FloatArray:
    return np.divide(part, whole, out=np.zeros(len(whole)), where=whole > 0)


def _check_shapes(probs: FloatArray, targets: FloatArray) -> None:
    if probs.shape != targets.shape or probs.ndim != 2:
        raise ValueError(f"expected two arrays (N, L), got {probs.shape} and {targets.shape}")
