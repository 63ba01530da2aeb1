"""Decision thresholds: fitted on validation images, or given by the user.

Where nothing else is said, `probs` are calibrated probabilities and `targets` are 1, 0 or NaN (unknown), of shape
``(N, L)`` both.
"""

import logging
import math
import unicodedata
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

from labelr.config import ReadOptions
from labelr.errors import LabelrError, suggest
from labelr.model.calibration import decide
from labelr.model.predictor import Predictor
from labelr.scoring.metrics import FloatArray, confusion, evaluable

if TYPE_CHECKING:  # most models are used with their own thresholds, and the readers take long to import
    from labelr.data.formats.table import Table

log = logging.getLogger(__name__)

DEFAULT_THRESHOLD = 0.5
PRIOR_POSITIVES, PRIOR_EXPECTED = 10, 0.5
"""The number of positives at which a label's own threshold and the common one have equal weight.

The first is for recall, which only known positives measure. The second is for F1, for which every image's probability
counts as an expected positive; it was chosen by cross-validation within validation splits.
"""
CONFIDENCE = 0.9
"""Of the lower bounds of precision: at least this share of labels keeps a target precision on other images."""
PRECISION_STEP = 0.05
"""Of the thresholds that are tested for a target precision: with more of them, more tests would fail by chance."""
COMMON = np.linspace(0.005, 0.995, 199)
"""The candidates for the common threshold of all labels."""
MIN_THRESHOLD = 1e-7

Thresholds = NDArray[np.float64]
"""A label is predicted where its probability is at least its threshold, ``(L,)``."""


class Goal(NamedTuple):
    """What thresholds are optimized for: F1, or a minimum precision or recall of each label."""

    precision: float | None = None  # to reach on other images, with some confidence, at the highest recall
    recall: float | None = None  # to reach at the highest precision

    def index_for_recall(self, recall: FloatArray) -> int:
        """The index of the highest threshold that reaches the goal's recall, from those of K ascending ones, ``(K,)``.

        If none reaches it, it is the one that comes closest.
        """
        return int(np.flatnonzero(recall >= min(self.recall or 0, recall.max()))[-1])

    def missed(self, probs: FloatArray, targets: FloatArray, thresholds: Thresholds) -> NDArray[np.bool_]:
        """Which labels do not reach the goal, ``(L,)``: the recall, or the precision by its lower bound.

        None where the goal is F1.
        """
        counts = confusion(decide(probs, thresholds), targets, axis=0)
        if self.precision is not None:
            return precision_bound(counts.tp, counts.predicted) < self.precision
        return counts.recall < (self.recall or 0)


BEST_F1 = Goal()


def fit_thresholds(probs: FloatArray, targets: FloatArray, goal: Goal = BEST_F1) -> Thresholds:
    """The best threshold of each label, ``(L,)``: for F1 and recall shrunk towards the best common one.

    The two are averaged in logits: with n positives, the label's own threshold has the weight n / (n + prior). A label
    that reaches a recall with its own threshold, but not with the average, keeps its own. If no label is evaluable,
    all thresholds are 0.5. For a precision, see `thresholds_for_precision`.
    """
    from scipy.special import expit, logit

    if goal.precision is not None:
        return thresholds_for_precision(probs, targets, goal.precision)
    common = common_threshold(probs, targets, goal)
    if goal == BEST_F1:
        expected = np.where(np.isnan(targets), 0, probs.astype(np.float64))
        own, positives, prior = half_expected_f1(expected), expected.sum(axis=0), PRIOR_EXPECTED
    else:
        own, positives, prior = np.full(targets.shape[1], common), (targets == 1).sum(axis=0), PRIOR_POSITIVES
        for label in np.flatnonzero(evaluable(targets)):
            known = ~np.isnan(targets[:, label])
            own[label] = best_threshold(probs[known, label], targets[known, label], goal)
    weight = (positives if evaluable(targets).any() else 0) / (positives + prior)
    averaged = expit(weight * logit(own) + (1 - weight) * logit(common))
    keeps_own = goal.missed(probs, targets, averaged) & ~goal.missed(probs, targets, own)
    return np.where(keeps_own, own, averaged)


def thresholds_for_precision(probs: FloatArray, targets: FloatArray, precision: float) -> Thresholds:
    """The lowest threshold of each label, ``(L,)``, with some precision (in (0, 1)) on other images, with confidence.

    Thresholds are tested from the target precision downwards, by the lower bound of their precision, until one fails.
    Since a label's first wrong threshold must pass a test to be chosen, the chance of choosing one is that of a single
    test, whatever the number of thresholds (fixed-sequence testing, Angelopoulos et al. 2021, "Learn then Test").
    Which are tested depends on probabilities alone: those with more predictions than the last, enough to pass, and
    with an expected precision that is high enough by the probabilities themselves. A label that passes no test gets the
    target precision as its threshold: each of its predictions is right with at least this probability, as far as they
    are calibrated.
    """
    thresholds = np.full(targets.shape[1], precision)
    passed = np.ones(targets.shape[1], dtype=bool)  # every test so far
    num_tested = np.zeros(targets.shape[1], dtype=np.int64)  # predictions in the last test
    known = ~np.isnan(targets)
    for step in range(int(np.ceil(precision / PRECISION_STEP - 1e-9))):
        cut = round(precision - step * PRECISION_STEP, 6)
        preds = decide(probs, cut) & known
        num_predicted = preds.sum(axis=0)
        expected = np.where(preds, probs, 0).sum(axis=0, dtype=np.float64) / np.maximum(num_predicted, 1)
        enough = precision_bound(num_predicted, num_predicted) >= precision
        is_tested = enough & (expected >= precision) & (num_predicted > num_tested)
        num_tested = np.where(is_tested, num_predicted, num_tested)
        tp = (preds & (targets == 1)).sum(axis=0)
        passed &= ~is_tested | (precision_bound(tp, num_predicted) >= precision)
        thresholds[is_tested & passed] = cut
    return thresholds


def precision_bound(tp: NDArray[np.int64], predicted: NDArray[np.int64]) -> FloatArray:
    """The lower bound of precision of Clopper and Pearson (1934), one-sided with `CONFIDENCE`; 0 without predictions.

    The numbers of correct predictions and of predictions have the same shape.
    """
    from scipy.special import betaincinv

    bound = betaincinv(np.maximum(tp, 1), predicted - tp + 1, 1 - CONFIDENCE)
    return np.where(tp > 0, bound, 0.0)


def predictions_needed(precision: float) -> int:
    """The number of predictions, all correct, from which `precision_bound` reaches a precision."""
    return math.ceil(math.log(1 - CONFIDENCE) / math.log(precision))


def half_expected_f1(probs: FloatArray) -> Thresholds:
    """The threshold of each label with the best expected F1, if the probabilities are calibrated.

    It is half of that F1 (Lipton, Elkan and Naryanaswamy 2014). If the k most probable images get the label, the
    expected F1 is 2 * (sum of their probabilities) / (k + sum of all probabilities). This uses every image, where a
    handful of positives would not be enough to locate the maximum of F1.

    Args:
        probs: 0 for cells to ignore.

    Returns:
        Values in (0, 0.5], shape ``(L,)``.
    """
    ranked = -np.sort(-probs, axis=0)
    num_predicted = np.arange(1, len(ranked) + 1)[:, None]
    f1 = 2 * ranked.cumsum(axis=0) / (num_predicted + ranked.sum(axis=0))
    best: Thresholds = f1.max(axis=0, initial=0.0)
    return np.maximum(best / 2, MIN_THRESHOLD)


def common_threshold(probs: FloatArray, targets: FloatArray, goal: Goal = BEST_F1) -> float:
    """The best threshold for all labels: by macro F1, or by the recall of all labels together.

    Labels that are not evaluable are ignored; if all are, it is 0.5.
    """
    usable = evaluable(targets)
    if not usable.any():
        return DEFAULT_THRESHOLD
    counts = [confusion(decide(probs[:, usable], cut), targets[:, usable], axis=0) for cut in COMMON]
    if goal == BEST_F1:
        return float(COMMON[np.argmax([count.f1.mean() for count in counts])])
    recall = np.array([count.tp.sum() for count in counts]) / counts[0].support.sum()
    return float(COMMON[goal.index_for_recall(recall)])


def best_threshold(probs: FloatArray, targets: FloatArray, goal: Goal) -> float:
    """The best threshold of one label for a recall.

    Args:
        probs: Shape ``(N,)``.
        targets: 1 or 0, at least one of them 1, shape ``(N,)``.
        goal: The recall to reach.

    Returns:
        A number strictly between 0 and 1: the middle between the lowest probability that is predicted and the next
        lower one, so that rounding does not change a prediction.
    """
    from sklearn.metrics import precision_recall_curve

    _, recall, cuts = precision_recall_curve(targets, probs.astype(np.float64))
    index = goal.index_for_recall(recall[:-1])  # the last point, where nothing is predicted, has no threshold
    below = cuts[index - 1] if index else 0.0
    return float(np.clip((below + cuts[index]) / 2, MIN_THRESHOLD, 1 - MIN_THRESHOLD))


def choose_thresholds(
    model: Predictor, threshold: float | None, threshold_file: str | Path | None, encoding: str | None = None
) -> tuple[Thresholds, str | float]:
    """The thresholds ``(L,)`` to use, and their source: ``"auto"`` for the model's own, a number, or a file.

    Raises:
        LabelrError: If the file cannot be used.
    """
    values = model.thresholds(threshold)
    if threshold_file is not None:
        return read_thresholds(Path(threshold_file), model.labels, values, encoding), str(threshold_file)
    return values, "auto" if threshold is None else threshold


def read_thresholds(path: Path, labels: Sequence[str], default: Thresholds, encoding: str | None = None) -> Thresholds:
    """The thresholds in a table ``label,threshold``; a label that the table does not name keeps its default.

    Args:
        path: The table, in any format that label files may have, with a decimal point or comma, or in percent. Other
            columns, such as those of ``per_label.csv``, are ignored.
        labels: L label names, which the table may write with composed or decomposed accents.
        default: Shape ``(L,)``.
        encoding: That of the table; None finds it.

    Returns:
        Shape ``(L,)``.

    Raises:
        LabelrError: If the file cannot be read, has an unknown or repeated label, or a value outside 0 to 1.
    """
    rows = read_by_label(path, "threshold", "--threshold-file", labels, encoding)
    chosen = {label: _parse_threshold(cell, where) for label, (cell, where) in rows.items()}
    return np.array([chosen.get(label, value) for label, value in zip(labels, default, strict=True)])


def read_by_label(
    path: Path, column: str, option: str, labels: Sequence[str], encoding: str | None = None
) -> dict[str, tuple[str, str]]:
    """The cells of a column in a table with a column `label`, and where they are, by label.

    The table, which the user has named by an option, may be in any format that label files may have, and have the
    accents of labels composed or decomposed.

    Raises:
        LabelrError: If the file cannot be read, or has an unknown or repeated label.
    """
    found: dict[str, tuple[str, str]] = {}
    table = _read_table(path, column, option, encoding)
    composed = {unicodedata.normalize("NFC", label): label for label in labels}
    cells = (table.column(table.keys.index(name)) for name in ("label", column))
    for row, (name, cell) in enumerate(zip(*cells, strict=True)):
        where = table.location(row)
        label = name if name in labels else composed.get(unicodedata.normalize("NFC", name))
        if label is None:
            raise LabelrError(f"{where}: the model has no label {name!r}", suggest(name, labels) or "delete the row")
        if label in found:
            raise LabelrError(f"{where}: {label!r} occurs twice", "keep one of the rows")
        found[label] = cell, where
    return found


def _read_table(path: Path, column: str, option: str, encoding: str | None) -> "Table":
    from labelr.data.formats.source import Source

    source = Source(path, path.parent, ReadOptions(encoding=encoding))
    hint = f"give a table with the columns `label` and `{column}` to `{option}`"
    try:
        table = source.require_table()
    except LabelrError as error:
        raise LabelrError(error.message, hint) from error
    if not {"label", column} <= set(table.keys) or not table.body:
        raise LabelrError(f"{path} is not a table of {'thresholds' if column == 'threshold' else 'names'}", hint)
    if source.encoding:
        log.info("%s is read in %s", path, source.encoding)
    return table


def _parse_threshold(text: str, where: str) -> float:
    try:
        number = float(text.removesuffix("%").replace(",", "."))
        value = number / 100 if text.endswith("%") else number
    except ValueError:
        value = -1.0
    if not 0 <= value <= 1:
        raise LabelrError(f"{where}: expected a threshold from 0 to 1, got {text!r}", "correct the cell")
    return value
