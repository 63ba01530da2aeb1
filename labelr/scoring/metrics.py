"""Metrics of multi-label predictions, and suspected label errors. Pure functions of arrays, without torch.

Every function takes `probs` or `preds` and `targets` of shape ``(N, L)``; a target is 1 where the label applies, 0
where it does not, NaN where it is unknown. Unknown cells are ignored. A metric that is not evaluable is NaN.
"""

import warnings
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from labelr.model.calibration import decide

FloatArray = NDArray[np.floating]
Counts = NDArray[np.int64]
ECE_BINS = 15
METRIC_NAMES = {
    "map_macro": "mAP", "map_micro": "mAP micro", "auroc_macro": "AUROC macro", "auroc_micro": "AUROC micro",
    "precision_micro": "precision micro", "precision_macro": "precision macro",
    "precision_weighted": "precision weighted", "precision_samples": "precision samples",
    "recall_micro": "recall micro", "recall_macro": "recall macro", "recall_weighted": "recall weighted",
    "recall_samples": "recall samples", "f1_micro": "F1 micro", "f1_macro": "F1 macro", "f1_weighted": "F1 weighted",
    "f1_samples": "F1 samples", "jaccard_samples": "Jaccard samples", "exact_match": "exact match",
    "hamming_loss": "Hamming loss", "loss": "loss (BCE)", "brier": "Brier score", "ece": "calibration error",
    "lrap": "label ranking AP", "ranking_loss": "ranking loss", "coverage_error": "coverage error",
    "one_error": "one-error",
}  # fmt: skip
"""All metrics with their names in tables and reports."""


@dataclass(frozen=True)
class Confusion:
    """Counts of known cells, each ``(K,)``: for K labels, for K images, or one for all cells."""

    tp: Counts
    fp: Counts
    fn: Counts
    tn: Counts

    @property
    def precision(self) -> FloatArray:
        """Share of the predicted labels that are true, ``(K,)``; 0 where none is predicted."""
        return ratio(self.tp, self.tp + self.fp, default=0.0)

    @property
    def recall(self) -> FloatArray:
        """Share of the true labels that are predicted, ``(K,)``; 0 where there is none."""
        return ratio(self.tp, self.tp + self.fn, default=0.0)

    @property
    def f1(self) -> FloatArray:
        """Harmonic mean of precision and recall, ``(K,)``; 0 where no label is true or predicted."""
        return ratio(2 * self.tp, 2 * self.tp + self.fp + self.fn, default=0.0)

    @property
    def jaccard(self) -> FloatArray:
        """Labels both true and predicted, as a share of those that are either, ``(K,)``; 0 where there is none."""
        return ratio(self.tp, self.tp + self.fp + self.fn, default=0.0)

    @property
    def predicted(self) -> Counts:
        """Number of predicted labels, ``(K,)``."""
        return self.tp + self.fp

    @property
    def support(self) -> Counts:
        """Number of true labels, ``(K,)``."""
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
        targets: 1 where the label applies, 0 where it does not, NaN where unknown, shape ``(N, L)``.

    Returns:
        One value in ``[0, 1]`` for each label, shape ``(L,)``; NaN for a label without a known positive or without a
        known negative, for which every ranking of the images is equally good.
    """
    from sklearn.metrics import average_precision_score

    return _per_label(average_precision_score, probs, targets)


def auroc(probs: FloatArray, targets: FloatArray) -> FloatArray:
    """Area under the ROC curve of each label, shape ``(L,)``; NaN where `average_precision` is."""
    from sklearn.metrics import roc_auc_score

    return _per_label(roc_auc_score, probs, targets)


def _per_label(metric: Callable[[FloatArray, FloatArray], float], probs: FloatArray, targets: FloatArray) -> FloatArray:
    """A metric of scikit-learn for each label over its known cells, ``(L,)``; NaN if not evaluable."""
    _check_shapes(probs, targets)
    values = np.full(targets.shape[1], np.nan)
    for label in np.flatnonzero(evaluable(targets)):
        known = ~np.isnan(targets[:, label])
        values[label] = metric(targets[known, label], probs[known, label])
    return values


def evaluable(targets: FloatArray) -> NDArray[np.bool_]:
    """Which labels have a known positive and a known negative, shape ``(L,)``; macro averages are over them."""
    return np.asarray((targets == 1).any(axis=0) & (targets == 0).any(axis=0))


def cell_losses(probs: FloatArray, targets: FloatArray) -> FloatArray:
    """Binary cross-entropy of each cell in nats, ``(N, L)``, NaN where unknown; probabilities are clipped at 1e-7."""
    _check_shapes(probs, targets)
    safe = probs.astype(np.float64).clip(1e-7, 1 - 1e-7)
    return -np.log(np.where(targets == 1, safe, np.where(targets == 0, 1 - safe, np.nan)))


def bce(probs: FloatArray, targets: FloatArray) -> float:
    """Binary cross-entropy over the known cells in nats; see `cell_losses`."""
    return float(mean_or_nan(cell_losses(probs, targets)))


def brier_score(probs: FloatArray, targets: FloatArray) -> float:
    """Mean squared difference of probability and target over the known cells."""
    return float(mean_or_nan((probs.astype(np.float64) - targets) ** 2))


def calibration_error(probs: FloatArray, targets: FloatArray) -> float:
    """Expected calibration error (Naeini et al. 2015): pooled over the known cells, in 15 bins of equal width.

    The mean over the cells of the distance between the mean probability of their bin and its share of positives.
    """
    known = ~np.isnan(targets)
    if not known.any():
        return np.nan
    cell_probs, cell_targets = probs[known].astype(np.float64), targets[known].astype(np.float64)
    bins = np.minimum((cell_probs * ECE_BINS).astype(np.int64), ECE_BINS - 1)
    return float(np.abs(np.bincount(bins, weights=cell_probs - cell_targets)).sum() / len(bins))


def hamming_loss(preds: NDArray[np.bool_], targets: FloatArray) -> float:
    """Share of the known cells with a wrong prediction."""
    known = ~np.isnan(targets)
    return float(mean_or_nan((preds != (targets == 1))[known]))


def exact_match(preds: NDArray[np.bool_], targets: FloatArray) -> float:
    """Subset accuracy: share of images with all known cells correct, among images with a known cell."""
    known = ~np.isnan(targets)
    correct = ((preds == (targets == 1)) | ~known).all(axis=1)
    return float(mean_or_nan(correct[known.any(axis=1)]))


def label_ranking(probs: FloatArray, targets: FloatArray) -> dict[str, float]:
    """The ranking metrics ``lrap``, ``coverage_error``, ``ranking_loss`` and ``one_error``.

    Each is a mean over the images with a known positive and a known negative, and ranks the known labels of an image.
    The first three are scikit-learn's; its own ``lrap`` is slow, a loop over the images. Unknown cells count as
    negatives below all others, where they do not change the rank of a positive. They do add pairs to the ranking loss,
    a share of pairs, which is weighted to correct that.
    """
    from scipy.stats import rankdata
    from sklearn.metrics import coverage_error, label_ranking_loss

    _check_shapes(probs, targets)
    rows = evaluable(targets.T)
    if not rows.any():
        return dict.fromkeys(("lrap", "coverage_error", "ranking_loss", "one_error"), np.nan)
    known = ~np.isnan(targets[rows])
    true, ranked = targets[rows] == 1, np.where(known, probs[rows], -1.0)
    positives = true.sum(axis=1)
    pair_ratio = (true.shape[1] - positives) / (known.sum(axis=1) - positives)
    best = np.take_along_axis(true, ranked.argmax(axis=1)[:, None], axis=1)
    ranks = rankdata(-ranked, "max", axis=1)
    ranks_of_true = rankdata(np.where(true, -ranked, np.inf), "max", axis=1)
    precisions = np.where(true, ranks_of_true / ranks, 0).sum(axis=1) / positives
    return {
        "lrap": float(precisions.mean()),
        "coverage_error": float(coverage_error(true, ranked)),
        "ranking_loss": float(label_ranking_loss(true, ranked, sample_weight=pair_ratio) * pair_ratio.mean()),
        "one_error": float(1 - best.mean()),
    }


def score(probs: FloatArray, targets: FloatArray, thresholds: ArrayLike) -> dict[str, float]:
    """All metrics by name.

    Args:
        probs: Shape ``(N, L)``.
        targets: Shape ``(N, L)``.
        thresholds: One for each label, shape ``(L,)``, or one number for all.

    Returns:
        Fractions in [0, 1], except ``loss`` in nats and ``coverage_error`` in labels; NaN where not evaluable. Macro
        averages are over the evaluable labels; micro mAP and AUROC are over all known cells.
    """
    _check_shapes(probs, targets)
    preds = decide(probs, thresholds)
    cells = ~np.isnan(targets)
    pooled = probs[cells][:, None], targets[cells][:, None]
    return {
        "loss": bce(probs, targets),
        "hamming_loss": hamming_loss(preds, targets),
        "exact_match": exact_match(preds, targets),
        **averages(preds, targets),
        "map_macro": float(mean_or_nan(average_precision(probs, targets))),
        "map_micro": float(average_precision(*pooled)[0]),
        "auroc_macro": float(mean_or_nan(auroc(probs, targets))),
        "auroc_micro": float(auroc(*pooled)[0]),
        **label_ranking(probs, targets),
        "brier": brier_score(probs, targets),
        "ece": calibration_error(probs, targets),
    }


def averages(preds: NDArray[np.bool_], targets: FloatArray) -> dict[str, float]:
    """Precision, recall and F1 in four averages, and the samples average of Jaccard, by name.

    They follow scikit-learn with ``zero_division=0``. The macro average is over the `evaluable` labels, the weighted
    average is weighted by support, the samples average is over the images with a known cell.
    """
    by_label, by_image = confusion(preds, targets, axis=0), confusion(preds, targets, axis=1)
    pooled = confusion(preds, targets, axis=None)
    known_rows, usable = (~np.isnan(targets)).any(axis=1), evaluable(targets)
    support = by_label.support
    scores = {}
    for name in ("precision", "recall", "f1"):
        values = getattr(by_label, name)
        scores[f"{name}_micro"] = float(getattr(pooled, name)[0]) if known_rows.any() else np.nan
        scores[f"{name}_macro"] = float(mean_or_nan(values[usable]))
        scores[f"{name}_weighted"] = float((values * support).sum() / support.sum()) if support.any() else np.nan
        scores[f"{name}_samples"] = float(mean_or_nan(getattr(by_image, name)[known_rows]))
    scores["jaccard_samples"] = float(mean_or_nan(by_image.jaccard[known_rows]))
    return scores


def mean_or_nan(values: FloatArray | NDArray[np.bool_]) -> np.floating:
    """The mean without NaN; NaN if there are no other values."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # the mean of no values is the NaN that is wanted
        return np.nanmean(values.astype(np.float64))


def ratio(part: FloatArray | Counts, whole: FloatArray | Counts, *, default: float = np.nan) -> FloatArray:
    """``part / whole``, and `default` where `whole` is 0."""
    quotient: FloatArray = np.divide(part, whole, out=np.full(np.shape(whole), default), where=whole > 0)
    return quotient


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


def _check_shapes(probs: FloatArray, targets: FloatArray) -> None:
    if probs.shape != targets.shape or probs.ndim != 2:
        raise ValueError(f"expected two arrays (N, L), got {probs.shape} and {targets.shape}")
