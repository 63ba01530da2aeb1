"""What each chart of an evaluation shows, whoever draws it: the page's own pen (`svg`) or matplotlib (`plots`)."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from labelr.data.label_table import Targets
from labelr.model.predict import Probs
from labelr.scoring.evaluation import Evaluation
from labelr.scoring.metrics import FloatArray, evaluable
from labelr.scoring.report.panels import UNIT, UNIT_TICKS, Line, Panel, Points, nice_ticks

CURVE_POINTS = 60
"""A curve of more points looks the same."""
BINS = 10
"""Of the reliability diagram."""

History = Mapping[str, Sequence[float]]
"""The columns of ``history.csv`` by name, a value an epoch, NaN where there is none."""


def history_panels(history: History, best_epoch: int) -> list[Panel]:
    """How training went, a panel a subject; a subject of which the history says nothing has none.

    Args:
        history: Any of its columns may be missing: older models have fewer.
        best_epoch: The epoch that the model is of, from 1; it is marked.
    """
    val, train = history.get("val_loss", ()), history.get("train_loss", ())
    columns: History = {**history, "gap": np.subtract(val, train).tolist() if val and train else ()}
    subjects = (
        ("Loss", "loss", {"train_loss": "training", "val_loss": "validation"}),
        ("Validation loss minus training loss", "difference", {"gap": "difference"}),
        ("F1, precision and recall", "score", {"val_f1": "F1", "val_precision": "precision", "val_recall": "recall"}),
        ("Mean average precision", "mAP", {"val_map": "mAP"}),
        ("Learning rate", "learning rate", {"lr": "learning rate"}),
        ("Time an epoch", "seconds", {"seconds": "seconds"}),
    )
    panels = []
    for title, y_label, names in subjects:
        lines = _history_lines(columns, names)
        if lines:
            panels.append(_history_panel(title, y_label, lines, best_epoch))
    return panels


def _history_lines(history: History, names: Mapping[str, str]) -> tuple[Line, ...]:
    roles = ("first", "second", "third")
    found = []
    for (column, name), role in zip(names.items(), roles, strict=False):
        pairs = zip(history.get("epoch", ()), history.get(column, ()), strict=False)
        points = tuple((float(x), float(y)) for x, y in pairs if np.isfinite(y))
        if points:
            found.append(Line(name, points, role, dots=len(points) < 3))
    return tuple(found)


def _history_panel(title: str, y_label: str, lines: tuple[Line, ...], best_epoch: int) -> Panel:
    xs = [x for line in lines for x, _ in line.points]
    ys = [y for line in lines for _, y in line.points]
    scores = title.startswith(("F1", "Mean"))
    low, high = UNIT if scores else (min(0.0, *ys), max(0.0, *ys))
    y_ticks = UNIT_TICKS if scores else nice_ticks(low, high)
    last = "; ".join(
        f"{line.name} {line.points[0][1]:.3g} at first, {line.points[-1][1]:.3g} at last" for line in lines
    )
    return Panel(
        title=title, x_label="epoch", y_label=y_label, lines=lines,
        x_range=(min(xs), max(*xs, min(xs) + 1)), y_range=(min(low, y_ticks[0]), max(high, y_ticks[-1])),
        x_ticks=tuple(tick for tick in nice_ticks(min(xs), max(xs), 5) if tick == int(tick) and tick >= min(xs)),
        y_ticks=y_ticks, rule=float(best_epoch) if min(xs) <= best_epoch <= max(xs) else None,
        said=f"{title} over {len(set(xs))} epochs: {last}.",
    )  # fmt: skip


def most_frequent(evaluation: Evaluation, most: int) -> list[int]:
    """The labels that the most images have, as columns in the model's order, at most so many."""
    support = (evaluation.targets == 1).sum(axis=0)
    return sorted(np.argsort(-support, kind="stable")[:most].tolist())


def curve_panels(evaluation: Evaluation, columns: Sequence[int]) -> list[Panel | None]:
    """The precision-recall curves of some labels, each with its threshold marked; None if not evaluable."""
    usable = evaluable(evaluation.targets)
    rows = {row["label"]: row for row in evaluation.per_label}
    panels: list[Panel | None] = []
    for index in columns:
        label = evaluation.labels[index]
        if not usable[index]:
            panels.append(None)
            continue
        row, known = rows[label], ~np.isnan(evaluation.targets[:, index])
        points = precision_recall(evaluation.probs[known, index], evaluation.targets[known, index])
        share = row["support"] / known.sum()
        panels.append(
            Panel(
                title=label, x_label="recall", y_label="precision",
                lines=(Line("", ((0.0, share), (1.0, share)), "guide"), Line("", points)),
                x_range=UNIT, y_range=UNIT, x_ticks=(0.0, 0.5, 1.0), y_ticks=(0.0, 0.5, 1.0),
                mark=(row["recall"], row["precision"]) if row["predicted"] else None,
                said=f"Precision-recall curve of {label}: average precision {row['ap']:.3f}; at the threshold "
                f"{row['threshold']:.3f}, precision {row['precision']:.3f} and recall {row['recall']:.3f}.",
            )
        )  # fmt: skip
    return panels


def precision_recall(probs: FloatArray, targets: FloatArray) -> Points:
    """Recall and precision of one label, from one label written to every image's, at most twice `CURVE_POINTS`.

    Unlike scikit-learn's, the curve goes on below the threshold at which all is found, so that any threshold lies on
    it, and begins with the precision of the most probable images instead of 1.

    Args:
        probs: Shape ``(N,)``.
        targets: 1 or 0, at least one of them 1, shape ``(N,)``.
    """
    order = np.argsort(-probs, kind="stable")
    ends = np.flatnonzero(np.append(np.diff(probs[order]) != 0, [True]))  # images of one probability are one step
    hits = (targets[order] == 1).cumsum()[ends]
    precision, recall = hits / (ends + 1), hits / hits[-1]
    bins = np.rint(recall * CURVE_POINTS)
    turns = np.flatnonzero(np.diff(bins) != 0)
    kept = np.unique(np.concatenate([[0], turns, turns + 1, [hits.argmax(), len(bins) - 1]]))
    points = zip(recall[kept].tolist(), precision[kept].tolist(), strict=True)
    return ((0.0, float(precision[0])), *points)


@dataclass(frozen=True)
class Bin:
    """Probabilities of about one height, and how often they came true.

    Attributes:
        low: The lowest probability that belongs to it.
        high: The lowest that belongs to the next one.
        mean: Their mean.
        share: The share that came true.
        count: How many there are.
        interval: The 95 % interval of `share`.
    """

    low: float
    high: float
    mean: float
    share: float
    count: int
    interval: tuple[float, float]


def reliability(probs: Probs, targets: Targets) -> list[Bin]:
    """Known cells in bins of equal width by their probability; empty bins are left out.

    Intervals are Wilson's (1927), which holds where few or all came true.
    """
    known = ~np.isnan(targets)
    chances, true = probs[known].astype(np.float64), targets[known] == 1
    which = np.minimum((chances * BINS).astype(np.int64), BINS - 1)
    found = []
    for number in range(BINS):
        inside = which == number
        count = int(inside.sum())
        if count:
            share = float(true[inside].mean())
            mean = float(chances[inside].mean())
            found.append(Bin(number / BINS, (number + 1) / BINS, mean, share, count, wilson(share, count)))
    return found


def wilson(share: float, count: int) -> tuple[float, float]:
    """The 95 % interval of a share of `count` trials."""
    z = 1.96
    middle = (share + z**2 / (2 * count)) / (1 + z**2 / count)
    half = z * np.sqrt(share * (1 - share) / count + z**2 / (4 * count**2)) / (1 + z**2 / count)
    return max(0.0, float(middle - half)), min(1.0, float(middle + half))


def reliability_panel(bins: Sequence[Bin]) -> Panel:
    """How often a probability comes true, beside how often it should."""
    points = tuple((one.mean, one.share) for one in bins)
    said = "; ".join(f"{one.mean:.2f} came true in {one.share:.2f} of {one.count:,}" for one in bins)
    return Panel(
        title="Do probabilities come true?", x_label="probability that labelr states", y_label="share that is true",
        lines=(Line("perfect", ((0.0, 0.0), (1.0, 1.0)), "guide"), Line("this model", points, dots=True)),
        x_range=UNIT, y_range=UNIT, x_ticks=UNIT_TICKS, y_ticks=UNIT_TICKS,
        spans=tuple((one.mean, *one.interval) for one in bins), said=f"Reliability: a probability of {said}.",
    )  # fmt: skip


def together(marked: NDArray[np.bool_]) -> FloatArray:
    """How many images have each pair of labels, ``(L, L)``, from which each has, ``(N, L)``; 0 for a label itself."""
    counts: FloatArray = marked.T.astype(np.float64) @ marked.astype(np.float64)
    np.fill_diagonal(counts, 0)
    return counts
