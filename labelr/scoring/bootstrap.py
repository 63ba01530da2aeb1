"""Bootstrap intervals of the headline metrics, and of their differences. Pure functions of arrays, without torch."""

import numpy as np
from numpy.typing import ArrayLike, NDArray

from labelr.model.calibration import decide
from labelr.scoring.metrics import FloatArray, cell_losses, confusion, ratio

HEADLINE = ("map_macro", "f1_micro", "f1_macro", "f1_samples", "hamming_loss", "exact_match", "loss")
MAXIMUM = dict.fromkeys(HEADLINE, 1.0) | {"loss": np.inf}
"""The highest possible value of each metric."""
RESAMPLES = 1000
LEVEL = 95
MAX_WEIGHTS = 2_500_000
"""The number of weights in memory at a time, which limits it to a fraction of a gigabyte."""


def intervals(
    probs: FloatArray, targets: FloatArray, thresholds: ArrayLike, *, resamples: int = RESAMPLES, seed: int = 0
) -> dict[str, tuple[float, float]]:
    """The 95 % interval of each headline metric over samples of images, by the bootstrap (Efron 1979).

    The interval is the percentiles over resamples, shifted so that the mean over resamples is the metric itself. With
    many rare labels that mean is biased: an image that is drawn twice raises average precision, and a label whose
    only positive is not drawn is left out of macro F1. ``tests/bench/intervals.py`` compares this with alternatives.

    Args:
        probs: Shape ``(N, L)``.
        targets: 1, 0 or NaN (unknown), shape ``(N, L)``.
        thresholds: One for each label, shape ``(L,)``, or one number for all.
        resamples: The number of resamples of N images, drawn with replacement.
        seed: The random seed of the draws.

    Returns:
        Low and high end by name; NaN where no resample is evaluable.
    """
    scores = resampled_scores(probs, targets, thresholds, resamples=resamples, seed=seed)
    return {name: shifted_interval(values[0], values[1:], high=MAXIMUM[name]) for name, values in scores.items()}


def differences(
    first: tuple[FloatArray, ArrayLike], second: tuple[FloatArray, ArrayLike], targets: FloatArray
) -> dict[str, tuple[float, float, float]]:
    """By how much each headline metric of a second model is higher than that of a first one on the same images.

    The bootstrap is paired: both models are scored on the same resamples, so that images that are hard for both do not
    widen the interval.

    Args:
        first: The probabilities ``(N, L)`` and thresholds ``(L,)`` of a model.
        second: Those of another model.
        targets: 1, 0 or NaN (unknown), shape ``(N, L)``.

    Returns:
        The difference and the low and high end of its 95 % interval by name; NaN where not evaluable.
    """
    before, after = (resampled_scores(probs, targets, thresholds) for probs, thresholds in (first, second))
    found = {}
    for name, maximum in MAXIMUM.items():
        change = after[name] - before[name]
        found[name] = (change[0].item(), *shifted_interval(change[0], change[1:], low=-maximum, high=maximum))
    return found


def resampled_scores(
    probs: FloatArray, targets: FloatArray, thresholds: ArrayLike, *, resamples: int = RESAMPLES, seed: int = 0
) -> dict[str, FloatArray]:
    """Each headline metric of all images, then of resamples, shape ``(1 + resamples,)``; NaN without images.

    The resamples depend on the number of images and the seed alone. For the arguments see `intervals`.
    """
    num_images = len(probs)
    if not num_images:
        return dict.fromkeys(HEADLINE, np.full(1 + resamples, np.nan))
    rng, weighted = np.random.default_rng(seed), Weighted(probs, targets, thresholds)
    batches = [weighted.scores(np.ones((num_images, 1)))]
    batch_size = max(1, MAX_WEIGHTS // num_images)
    for start in range(0, resamples, batch_size):
        size = min(batch_size, resamples - start)
        counts = rng.multinomial(num_images, np.full(num_images, 1 / num_images), size=size)  # (B, N)
        batches.append(weighted.scores(np.ascontiguousarray(counts.T, np.float64)))
    return {name: np.concatenate([scores[name] for scores in batches]) for name in HEADLINE}


def shifted_interval(score: float, values: FloatArray, *, low: float = 0.0, high: float) -> tuple[float, float]:
    """The percentiles of a score over resamples, shifted to the score itself and clipped to [low, high]."""
    values = values[~np.isnan(values)]
    if not len(values) or np.isnan(score):
        return np.nan, np.nan
    tail = (100 - LEVEL) / 2
    ends = np.percentile(values, [tail, 100 - tail]) + (score - values.mean())
    return max(float(ends[0]), low), min(float(ends[1]), high)


class Weighted:
    """The headline metrics for weightings of the images; what does not depend on the weights is computed once."""

    def __init__(self, probs: FloatArray, targets: FloatArray, thresholds: ArrayLike) -> None:
        losses = np.nansum(cell_losses(probs, targets), axis=1)
        preds = decide(probs, thresholds)
        true, false = targets == 1, targets == 0
        known = true | false
        wrong = known & (preds != true)
        known_rows = known.any(axis=1)
        f1 = confusion(preds, targets, axis=1).f1 * known_rows
        right = known_rows & ~wrong.any(axis=1)
        self._by_label = [cells.astype(np.float64) for cells in (true, false, preds & true, wrong)]  # (N, L) each
        self._by_image = [cells.astype(np.float64) for cells in (losses, known.sum(axis=1), known_rows, f1, right)]
        self._curves = [_Curve(*column) for column in zip(probs.T, targets.T, strict=True)]

    def scores(self, weights: NDArray[np.float64]) -> dict[str, FloatArray]:
        """The metrics for B weightings ``(N, B)`` at once, equal to scikit-learn's with ``sample_weight``.

        Returns:
            Shape ``(B,)`` by name; NaN where not evaluable.
        """
        positives, negatives, tp, errors = (weights.T @ cells for cells in self._by_label)  # (B, L)
        losses, cells, known_rows, f1, right = (weights.T @ values for values in self._by_image)  # (B,)
        usable = (positives > 0) & (negatives > 0)
        all_tp, all_errors = tp.sum(axis=1), errors.sum(axis=1)
        average_precisions = np.stack([curve.average_precision(weights) for curve in self._curves], axis=1)  # (B, L)
        return {
            "map_macro": _mean_where(usable, average_precisions),
            "f1_micro": np.where(cells > 0, ratio(2 * all_tp, 2 * all_tp + all_errors, default=0.0), np.nan),
            "f1_macro": _mean_where(usable, ratio(2 * tp, 2 * tp + errors, default=0.0)),
            "f1_samples": ratio(f1, known_rows),
            "hamming_loss": ratio(all_errors, cells),
            "exact_match": ratio(right, known_rows),
            "loss": ratio(losses, cells),
        }


class _Curve:
    """The precision-recall curve of one label; probs and targets ``(N,)``.

    Images with equal probability are one step of the curve. Only steps with a positive add to its area, so it is enough
    to sum over the ranges of images between them.
    """

    def __init__(self, probs: FloatArray, targets: FloatArray) -> None:
        order = np.argsort(-probs, kind="stable").astype(np.int32)
        order = order[~np.isnan(targets[order])]
        true, ranked = targets[order] == 1, probs[order]
        step = np.concatenate([[0], np.cumsum(ranked[1:] != ranked[:-1])])  # (N,)
        positive_steps, first = np.unique(step[true], return_index=True)
        ends = np.asarray(np.searchsorted(step, positive_steps, side="right"))
        self._positives = order[true], np.append(first, true.sum())
        self._images = order[: int(ends.max(initial=0))], np.append(0, ends)

    def average_precision(self, weights: NDArray[np.float64]) -> FloatArray:
        """The area under the curve for B weightings of the images ``(N, B)``, shape ``(B,)``."""
        if not len(self._positives[0]):
            return np.full(weights.shape[1], np.nan)
        positives, images = _range_sums(weights, *self._positives), _range_sums(weights, *self._images)
        tp, predicted = positives.cumsum(axis=0), images.cumsum(axis=0)
        return ratio((positives * ratio(tp, predicted, default=0.0)).sum(axis=0), tp[-1])


def _range_sums(weights: NDArray[np.float64], rows: NDArray[np.int32], bounds: NDArray[np.int64]) -> FloatArray:
    """The sums of `weights` over ranges of `rows`, one from each of `bounds` to the next, ``(ranges, B)``."""
    from scipy.sparse import csr_array

    indicator = csr_array((np.ones(len(rows)), rows, bounds), shape=(len(bounds) - 1, len(weights)))
    sums: FloatArray = indicator @ weights
    return sums


def _mean_where(usable: NDArray[np.bool_], values: FloatArray) -> FloatArray:
    """The mean over the usable labels of each row, both ``(B, L)``; NaN where there is none."""
    return ratio(np.where(usable, values, 0).sum(axis=1), usable.sum(axis=1))
