"""Given labels that are probably wrong, the surest first. Pure functions of arrays, without torch."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from labelr import files
from labelr.errors import LabelrError
from labelr.scoring.evaluation import Evaluation
from labelr.scoring.metrics import FloatArray, evaluable

COLUMNS = ("filename", "label", "given", "probability", "rank")


@dataclass(frozen=True)
class Suspects:
    """K pairs of image and label whose given label the model contradicts, the most doubtful first.

    Attributes:
        rows: The image of each, shape ``(K,)``.
        columns: The label of each, shape ``(K,)``.
        clear: How many of them are off the diagonal of the confident joint; see `find_suspects`.
        known: How many labels are given at all.
    """

    rows: NDArray[np.int64]
    columns: NDArray[np.int64]
    clear: int
    known: int

    def __len__(self) -> int:
        return len(self.rows)


def find_suspects(probs: FloatArray, targets: FloatArray) -> Suspects:
    """Given labels that the model contradicts, by confident learning (Northcutt et al. 2021).

    Each label is a question of its own with two answers, as in the multi-label form (Thyagarajan et al. 2023). How sure
    the model usually is of an answer is its mean probability over the images that were given it. Where it is as sure of
    the other answer than the given one, and surer by comparison, the pair is off the diagonal of the confident joint.
    Suspects are ordered by the probability of the given answer alone (their "self-confidence"): with
    5 % of real labels flipped, that found more of them than the margins by which the usual is exceeded.

    Args:
        probs: Probabilities on images that were not learned from, shape ``(N, L)``.
        targets: 1, 0 or NaN (unknown), shape ``(N, L)``; unknown cells count nowhere.

    Returns:
        The pairs off that diagonal and all others whose given answer is less probable than the other one, the least
        probable first. A label without a positive or without a negative has none.
    """
    chances, given = probs.astype(np.float64), targets == 1
    known = ~np.isnan(targets)
    surplus_yes = chances - _mean_where(chances, known & given)
    surplus_no = 1 - chances - _mean_where(1 - chances, known & ~given)
    other, own = np.where(given, surplus_no, surplus_yes), np.where(given, surplus_yes, surplus_no)
    judged = known & evaluable(targets)
    off = judged & (other >= 0) & (other > own)
    certainty = np.where(given, chances, 1 - chances)
    rows, columns = np.nonzero(off | (judged & (certainty < 0.5)))
    order = np.argsort(certainty[rows, columns], kind="stable")
    return Suspects(rows[order], columns[order], int(off.sum()), int(known.sum()))


def suspect_rows(evaluation: Evaluation, found: Suspects, most: int | None = None) -> Iterable[tuple[object, ...]]:
    """A row of `COLUMNS` for each suspect, or for the first `most`."""
    pairs = zip(found.rows[:most].tolist(), found.columns[:most].tolist(), strict=True)
    for rank, (row, column) in enumerate(pairs, start=1):
        given, prob = int(evaluation.targets[row, column]), evaluation.probs[row, column]
        yield evaluation.files[row], evaluation.labels[column], given, f"{prob:.6f}", rank


def check_suspects_free(path: Path | None, *, force: bool) -> None:
    """Raises LabelrError where a table of suspects cannot be written, or may not be replaced."""
    if path is None:
        return
    if path.is_dir():
        raise LabelrError(f"{path} is a folder", "name a file with `--suspects`, such as suspects.csv")
    if path.exists() and not force:
        raise LabelrError(f"there is a file {path} already", "replace it with `--force`, or name another `--suspects`")
    files.check_writable(path.parent)


def write_suspects(path: Path, evaluation: Evaluation, found: Suspects) -> None:
    """Writes the whole list as a table: file, label, what is given, how probable the label is, and the rank.

    Raises:
        LabelrError: If it cannot be written.
    """
    rows = (
        (files.escape_formula_in_path(str(file)), files.escape_formula(str(label)), *rest)
        for file, label, *rest in suspect_rows(evaluation, found)
    )
    files.write_atomically(path, files.csv_text(COLUMNS, rows))


def _mean_where(values: FloatArray, chosen: NDArray[np.bool_]) -> FloatArray:
    """The mean of each column over the cells chosen, ``(L,)``; 0 where none is."""
    counts = chosen.sum(axis=0)
    mean: FloatArray = np.where(chosen, values, 0).sum(axis=0) / np.maximum(counts, 1)
    return mean
