"""From which probability on a label applies, chosen on validation images. Pure functions of arrays, without torch."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from labelr.model.calibration import decide
from labelr.scoring.metrics import FloatArray, confusion, evaluable

DEFAULT_THRESHOLD = 0.5
PRIOR_POSITIVES, PRIOR_EXPECTED = 10, 0.5
"""How many positives a label's own threshold needs to count as much as the common one: known ones where they alone say
what precision and recall are; fewer, and expected ones, for F1, of which every image's probability tells something.

The second was chosen by cross-validation within validation parts.
"""
COMMON = np.linspace(0.005, 0.995, 199)
"""The thresholds for all labels that are tried."""
LEAST = 1e-7

Thresholds = NDArray[np.float64]
"""A label applies where its probability is at least its threshold, ``(L,)``."""


class Goal(NamedTuple):
    """What thresholds are chosen for: the best F1, or a precision or recall that each label shall have.

    Attributes:
        precision: To be reached at the most recall; None where it is not the goal.
        recall: To be reached at the most precision; None where it is not the goal.
    """

    precision: float | None = None
    recall: float | None = None

    def best(self, precision: FloatArray, recall: FloatArray, f1: FloatArray) -> int:
        """Which of some thresholds in ascending order is best, by what each gives, all ``(K,)``.

        Where none reaches the goal, it is the one that comes closest; but where no precision is above that of the
        lowest, which writes the label on all images, it is the highest: chance should hardly be written.
        """
        if self.precision is not None:
            met = precision >= self.precision
            return int(met.argmax() if met.any() else precision.argmax() or len(precision) - 1)
        if self.recall is not None:
            return int(np.flatnonzero(recall >= min(self.recall, recall.max()))[-1])
        return int(f1.argmax())

    def missed(self, probs: FloatArray, targets: FloatArray, thresholds: Thresholds) -> NDArray[np.bool_]:
        """Which labels do not reach the precision or recall that is the goal, ``(L,)``."""
        counts = confusion(decide(probs, thresholds), targets, axis=0)
        return (counts.precision < (self.precision or 0)) | (counts.recall < (self.recall or 0))


BEST_F1 = Goal()


class FittedThresholds(NamedTuple):
    """Thresholds chosen on validation images.

    Attributes:
        values: One for each label, shape ``(L,)``.
        missed: Which labels miss the goal there, shape ``(L,)``; none where it is F1.
    """

    values: Thresholds
    missed: NDArray[np.bool_]


def fit_thresholds(probs: FloatArray, targets: FloatArray, goal: Goal = BEST_F1) -> FittedThresholds:
    """The best threshold of each label, drawn toward the best one for all labels the fewer positives it has.

    They are mixed in logits: with n positives, a label's own threshold has the share n / (n + prior). A label that
    reaches the goal with its own threshold and not with the mixed one keeps its own. Where no label is evaluable, all
    are 0.5.

    Args:
        probs: Calibrated probabilities, shape ``(N, L)``.
        targets: 1, 0 or NaN (unknown), shape ``(N, L)``.
        goal: What they are chosen for.
    """
    from scipy.special import expit, logit

    common = common_threshold(probs, targets, goal)
    if goal == BEST_F1:
        expected = np.where(np.isnan(targets), 0, probs.astype(np.float64))
        own, positives, prior = half_expected_f1(expected), expected.sum(axis=0), PRIOR_EXPECTED
    else:
        own, positives, prior = np.full(targets.shape[1], common), (targets == 1).sum(axis=0), PRIOR_POSITIVES
        for label in np.flatnonzero(evaluable(targets)):
            known = ~np.isnan(targets[:, label])
            own[label] = best_threshold(probs[known, label], targets[known, label], goal)
    share = (positives if evaluable(targets).any() else 0) / (positives + prior)
    mixed = expit(share * logit(own) + (1 - share) * logit(common))
    keeps = goal.missed(probs, targets, mixed) & ~goal.missed(probs, targets, own)
    values = np.where(keeps, own, mixed)
    return FittedThresholds(values, goal.missed(probs, targets, values))


def half_expected_f1(probs: FloatArray) -> Thresholds:
    """The threshold of each label with the best F1, if targets come true as often as the probabilities say.

    It is half of that F1 (Lipton, Elkan and Naryanaswamy 2014), which the probabilities of all images tell: with the k
    highest written, 2 * (their sum) / (k + the sum of all). A handful of positives could not tell where F1 is highest.

    Args:
        probs: Calibrated probabilities, 0 where they shall not count, shape ``(N, L)``.

    Returns:
        Numbers in (0, 0.5], shape ``(L,)``.
    """
    ranked = -np.sort(-probs, axis=0)
    written = np.arange(1, len(ranked) + 1)[:, None]
    f1 = 2 * ranked.cumsum(axis=0) / (written + ranked.sum(axis=0))
    best: Thresholds = f1.max(axis=0, initial=0.0)
    return np.maximum(best / 2, LEAST)


def common_threshold(probs: FloatArray, targets: FloatArray, goal: Goal = BEST_F1) -> float:
    """The one threshold that serves all labels best: by macro F1, or by precision and recall of all they write.

    Labels that are not evaluable are passed over; where all are, it is 0.5.
    """
    usable = evaluable(targets)
    if not usable.any():
        return DEFAULT_THRESHOLD
    counts = [confusion(decide(probs[:, usable], cut), targets[:, usable], axis=0) for cut in COMMON]
    hits = np.array([one.tp.sum() for one in counts])
    precision = hits / np.array([max(one.predicted.sum(), 1) for one in counts])
    f1 = np.array([one.f1.mean() for one in counts])
    return float(COMMON[goal.best(precision, hits / counts[0].support.sum(), f1)])


def best_threshold(probs: FloatArray, targets: FloatArray, goal: Goal) -> float:
    """The threshold that serves one label best.

    Args:
        probs: Shape ``(N,)``.
        targets: 1 or 0, at least one of them 1, shape ``(N,)``.
        goal: What it is chosen for.

    Returns:
        A number strictly between 0 and 1, halfway from the lowest probability at which the label applies to the next
        lower one, so that the last digit of a probability decides nothing.
    """
    from sklearn.metrics import precision_recall_curve

    precision, recall, cuts = precision_recall_curve(targets, probs.astype(np.float64))
    precision, recall = precision[:-1], recall[:-1]  # the curve's end, where no label applies, has no threshold
    f1 = 2 * precision * recall / np.maximum(precision + recall, np.finfo(float).tiny)
    index = goal.best(precision, recall, f1)
    below = cuts[index - 1] if index else 0.0
    return float(np.clip((below + cuts[index]) / 2, LEAST, 1 - LEAST))
