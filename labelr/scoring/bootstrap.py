"""How far the headline scores may be off by the choice of images. Pure functions of arrays, without torch."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from labelr.model.calibration import decide
from labelr.scoring.metrics import FloatArray, cell_losses, confusion

HEADLINE = ("map_macro", "f1_micro", "f1_macro", "f1_samples", "hamming_loss", "exact_match", "loss")
HIGHEST = dict.fromkeys(HEADLINE, 1.0) | {"loss": np.inf}
"""No score is above this."""
RESAMPLES = 1000
LEVEL = 95
CELLS_AT_ONCE = 2_500_000
"""Weights that are held at a time, which bounds memory to a fraction of a gigabyte."""


def intervals(
    probs: FloatArray, targets: FloatArray, thresholds: ArrayLike, *, resamples: int = RESAMPLES, seed: int = 0
) -> dict[str, tuple[float, float]]:
    """The interval that holds each headline score on 95 % of such sets of images, by the bootstrap (Efron 1979).

    It is the percentiles of the scores of resamples, moved so that their mean is the score itself. With many rare
    labels that mean lies elsewhere: an image that is drawn twice raises average precision, and a label whose only
    positive is not drawn leaves macro F1. What was compared, with figures: ``tests/bench/intervals.py``.

    Args:
        probs: Shape ``(N, L)``.
        targets: 1, 0 or NaN (unknown), shape ``(N, L)``.
        thresholds: One for each label, shape ``(L,)``, or one number for all.
        resamples: How often N images are drawn, with replacement.
        seed: Decides the draws.

    Returns:
        Low and high end by name; NaN where no resample can be evaluated.
    """
    num_images = len(probs)
    if not num_images:
        return dict.fromkeys(HEADLINE, (np.nan, np.nan))
    rng = np.random.default_rng(seed)
    itself = weighted_scores(probs, targets, thresholds, np.ones((num_images, 1)))
    at_once = max(1, CELLS_AT_ONCE // num_images)
    drawn = []
    for start in range(0, resamples, at_once):
        size = min(at_once, resamples - start)
        counts = rng.multinomial(num_images, np.full(num_images, 1 / num_images), size=size)  # (B, N)
        drawn.append(weighted_scores(probs, targets, thresholds, np.ascontiguousarray(counts.T, np.float64)))
    values = {name: np.concatenate([scores[name] for scores in drawn]) for name in HEADLINE}
    return {name: interval_of(itself[name].item(), values[name], highest=HIGHEST[name]) for name in HEADLINE}


def interval_of(score: float, values: FloatArray, *, highest: float) -> tuple[float, float]:
    """The middle of the values of a score under resampling, moved to the score itself, within what a score can be."""
    values = values[~np.isnan(values)]
    if not len(values) or np.isnan(score):
        return np.nan, np.nan
    tail = (100 - LEVEL) / 2
    low, high = np.percentile(values, [tail, 100 - tail]) + (score - values.mean())
    return max(float(low), 0.0), min(float(high), highest)


def weighted_scores(
    probs: FloatArray, targets: FloatArray, thresholds: ArrayLike, weights: NDArray[np.float64]
) -> dict[str, FloatArray]:
    """The headline scores under B weightings of the images at once, as scikit-learn's ``sample_weight`` gives them.

    Args:
        probs: Shape ``(N, L)``.
        targets: Shape ``(N, L)``.
        thresholds: Shape ``(L,)``, or one number.
        weights: How often each image counts, shape ``(N, B)``.

    Returns:
        Shape ``(B,)`` by name; NaN where a weighting leaves nothing to evaluate.
    """
    preds = decide(probs, thresholds)
    true, false = targets == 1, targets == 0
    known = true | false
    wrong = known & (preds != true)

    def total(cells: NDArray[np.generic]) -> FloatArray:
        summed: FloatArray = weights.T @ cells.astype(np.float64)  # (N,) or (N, L) -> (B,) or (B, L)
        return summed

    hits, misses = total(preds & true), total(wrong)  # (B, L)
    usable = (total(true) > 0) & (total(false) > 0)
    seen, cells = known.any(axis=1), total(known.sum(axis=1))
    all_hits, all_misses = hits.sum(axis=1), misses.sum(axis=1)
    precisions = np.stack([_average_precision(*one, weights) for one in zip(probs.T, targets.T, strict=True)], axis=1)
    return {
        "map_macro": _mean_where(usable, precisions),
        "f1_micro": np.where(cells > 0, _ratio(2 * all_hits, 2 * all_hits + all_misses, 0.0), np.nan),
        "f1_macro": _mean_where(usable, _ratio(2 * hits, 2 * hits + misses, 0.0)),
        "f1_samples": _ratio(total(confusion(preds, targets, axis=1).f1 * seen), total(seen)),
        "hamming_loss": _ratio(all_misses, cells),
        "exact_match": _ratio(total(seen & ~wrong.any(axis=1)), total(seen)),
        "loss": _ratio(total(np.nansum(cell_losses(probs, targets), axis=1)), cells),
    }


def _average_precision(probs: FloatArray, targets: FloatArray, weights: NDArray[np.float64]) -> FloatArray:
    """The average precision of one label, probs and targets ``(N,)``, under B weightings ``(N, B)``, shape ``(B,)``.

    Images of one probability are one step of the curve. Only steps with a positive add to its area, so that the sums
    are over the runs of images from one such step to the next.
    """
    order = np.argsort(-probs, kind="stable")
    order = order[~np.isnan(targets[order])]
    true = targets[order] == 1
    if not true.any():
        return np.full(weights.shape[1], np.nan)
    ranked = probs[order]
    step = np.concatenate([[0], np.cumsum(ranked[1:] != ranked[:-1])])  # of each image
    positive_steps, first = np.unique(step[true], return_index=True)
    ends = np.searchsorted(step, positive_steps, side="right")
    positives = _sums(weights, order[true], [*first, true.sum()])
    images = _sums(weights, order[: ends[-1]], [0, *ends])
    found, ranked_so_far = positives.cumsum(axis=0), images.cumsum(axis=0)
    return _ratio((positives * _ratio(found, ranked_so_far, 0.0)).sum(axis=0), found[-1])


def _sums(weights: NDArray[np.float64], rows: NDArray[np.intp], ends: Sequence[int]) -> FloatArray:
    """The sums of runs of rows of `weights`, ``(runs, B)``, each run from one of `ends` to the next."""
    from scipy.sparse import csr_array

    chosen = csr_array((np.ones(len(rows)), rows, ends), shape=(len(ends) - 1, len(weights)))
    summed: FloatArray = chosen @ weights
    return summed


def _ratio(part: FloatArray, whole: FloatArray, otherwise: float = np.nan) -> FloatArray:
    ratio: FloatArray = np.divide(part, whole, out=np.full(np.shape(whole), otherwise), where=whole > 0)
    return ratio


def _mean_where(usable: NDArray[np.bool_], values: FloatArray) -> FloatArray:
    """The mean over labels of each row, both ``(B, L)``; NaN where no label is usable."""
    return _ratio(np.where(usable, values, 0).sum(axis=1), usable.sum(axis=1))
