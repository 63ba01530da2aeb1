"""What each chart shows, independent of how it is drawn: `svg` draws it in the HTML report, `plots` with matplotlib."""

import csv
import io
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from labelr import files
from labelr.data.label_table import Targets
from labelr.model.predictor import Probs
from labelr.scoring.metrics import FloatArray, evaluable
from labelr.scoring.report.text import format_score, score_digits
from labelr.scoring.results import Evaluation

UNIT = (0.0, 1.0)
UNIT_TICKS = (0.0, 0.25, 0.5, 0.75, 1.0)
MAX_LOG_TICKS = 6
CURVE_POINTS = 60
"""A precision-recall curve with more points looks the same."""
NUM_BINS = 10
"""Bins of the reliability diagram."""

Points = tuple[tuple[float, float], ...]
Span = tuple[float, float]
History = Mapping[str, Sequence[float]]
"""The columns of ``history.csv`` by name, one value per epoch, NaN where there is none."""


@dataclass(frozen=True)
class Line:
    """One line of a panel, or a set of points.

    The role determines colour, dashes and marker: ``first``, ``second``, ``third``, ``guide``, ``mean`` or ``best``.
    """

    name: str  # in the legend; empty for no entry
    points: Points  # in order of x if they are joined
    role: str = "first"
    dots: bool = False  # a marker at each point
    joined: bool = True
    tooltips: tuple[str, ...] = ()  # none, or one for each point


@dataclass(frozen=True)
class Panel:
    """One chart with two axes."""

    title: str
    x_label: str
    y_label: str
    lines: tuple[Line, ...]
    x_range: Span
    y_range: Span
    x_ticks: tuple[float, ...]
    y_ticks: tuple[float, ...]
    x_names: tuple[str, ...] = ()  # the texts of the x ticks; empty to show their values
    x_log: bool = False
    mark: tuple[float, float] | None = None  # a highlighted point
    rule: float | None = None  # the x of a vertical line
    intervals: tuple[tuple[float, float, float], ...] = ()  # error bars: x, low y and high y
    description: str = ""  # the chart in a sentence, for screen readers


def axis_fraction(value: float, span: Span, *, log: bool = False) -> float:
    """The position of a value on an axis: 0 at the low end, 1 at the high end."""
    low, high = span
    if log:
        return math.log(value / low) / math.log(high / low)
    return (value - low) / (high - low)


def nice_ticks(low: float, high: float) -> tuple[float, ...]:
    """About 5 round values that include everything from `low` to `high`."""
    raw = ((high - low) or abs(high) or 1.0) / 4
    power = 10.0 ** np.floor(np.log10(raw))
    step = power * next(factor for factor in (1, 2, 2.5, 5, 10) if factor * power >= raw * (1 - 1e-9))
    first, last = np.floor(low / step + 1e-9), np.ceil(high / step - 1e-9)
    return tuple(float(round(tick * step, 12)) for tick in np.arange(first, max(last, first + 1) + 1))


def inner_ticks(low: float, high: float, *, log: bool = False) -> tuple[float, ...]:
    """Round values from `low` to `high`, none of them outside; both ends where no round value is between them.

    On a logarithmic axis they are powers of ten, or 1, 2, 5 or 1, 3 times powers of ten.
    """
    ticks: list[float] = []
    if log:
        powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
        for factors in ((1, 2, 5), (1, 3), (1,)):
            ticks = [tick for power in powers for f in factors if low <= (tick := float(f"{f}e{power}")) <= high]
            if len(ticks) <= MAX_LOG_TICKS:
                break
        ticks = ticks[:: math.ceil(len(ticks) / MAX_LOG_TICKS) or 1]
    if len(ticks) < 2:
        ticks = [tick for tick in nice_ticks(low, high) if low <= tick <= high]
    return tuple(ticks) if len(ticks) > 1 else (low, high)


def tick_texts(ticks: Sequence[float], *, log: bool = False) -> list[str]:
    """The texts of an axis's ticks, as short as possible; with equally many decimals unless the axis is logarithmic."""
    texts = [f"{tick:.3g}".replace("e-0", "e-").replace("e+0", "e") for tick in ticks]
    if log or any("e" in text for text in texts):
        return texts
    decimals = max(len(text.partition(".")[2]) for text in texts)
    return [f"{tick:.{decimals}f}" for tick in ticks]


def shorten(name: str, length: int) -> str:
    """A name of at most `length` characters, shortened in its middle: labels often begin alike, or end alike."""
    return name if len(name) <= length else f"{name[: length - length // 3 - 1]}…{name[-(length // 3) :]}"


def read_history(path: Path) -> History:
    """The columns of a ``history.csv``; empty where the file is missing or damaged."""
    try:
        rows = list(csv.DictReader(io.StringIO(files.read_bytes(path).decode("utf-8"), newline="")))
        return {name: [float(row[name]) for row in rows] for name in (rows[0] if rows else ())}
    except (OSError, ValueError, TypeError, csv.Error):
        return {}


def last_value(history: History, column: str) -> float:
    """The last finite value of a column; NaN where there is none."""
    finite = [value for value in history.get(column, ()) if math.isfinite(value)]
    return finite[-1] if finite else math.nan


def history_panels(history: History, best_epoch: int) -> list[Panel]:
    """The charts of a training history with the kept epoch marked; a chart without data is left out."""
    val, train = history.get("val_loss", ()), history.get("train_loss", ())
    columns: History = {**history, "gap": np.subtract(val, train).tolist() if val and train else ()}
    subjects = (
        ("Loss", "loss", {"train_loss": "training", "val_loss": "validation"}),
        ("Validation loss minus training loss", "difference", {"gap": "difference"}),
        ("F1, precision and recall", "score", {"val_f1": "F1", "val_precision": "precision", "val_recall": "recall"}),
        ("Mean average precision", "mAP", {"val_map": "mAP"}),
        ("Learning rate", "learning rate", {"lr": "learning rate"}),
        ("Time per epoch", "seconds", {"seconds": "seconds"}),
    )
    panels = []
    for title, y_label, names in subjects:
        lines = _history_lines(columns, names)
        if lines:
            panels.append(_history_panel(title, y_label, lines, best_epoch))
    return panels


def _history_lines(history: History, names: Mapping[str, str]) -> tuple[Line, ...]:
    lines = []
    for (column, name), role in zip(names.items(), ("first", "second", "third"), strict=False):
        pairs = zip(history.get("epoch", ()), history.get(column, ()), strict=False)
        points = tuple((float(x), float(y)) for x, y in pairs if np.isfinite(y))
        if points:
            lines.append(Line(name, points, role, dots=len(points) < 3))
    return tuple(lines)


def _history_panel(title: str, y_label: str, lines: tuple[Line, ...], best_epoch: int) -> Panel:
    xs = [x for line in lines for x, _ in line.points]
    ys = [y for line in lines for _, y in line.points]
    is_score = title.startswith(("F1", "Mean"))
    low, high = UNIT if is_score else (min(0.0, *ys), max(0.0, *ys))
    y_ticks = UNIT_TICKS if is_score else nice_ticks(low, high)
    ends = "; ".join(f"{line.name} from {line.points[0][1]:.3g} to {line.points[-1][1]:.3g}" for line in lines)
    return Panel(
        title=title, x_label="epoch", y_label=y_label, lines=lines,
        x_range=(min(xs), max(*xs, min(xs) + 1)), y_range=(min(low, y_ticks[0]), max(high, y_ticks[-1])),
        x_ticks=tuple(tick for tick in nice_ticks(min(xs), max(xs)) if tick == int(tick) and tick >= min(xs)),
        y_ticks=y_ticks, rule=float(best_epoch) if min(xs) <= best_epoch <= max(xs) else None,
        description=f"{title} over {len(set(xs))} epochs: {ends}.",
    )  # fmt: skip


def most_frequent(evaluation: Evaluation, limit: int) -> list[int]:
    """The columns of the labels with the most positives, at most `limit`, in the model's order."""
    support = (evaluation.targets == 1).sum(axis=0)
    return sorted(np.argsort(-support, kind="stable")[:limit].tolist())


def curve_panels(evaluation: Evaluation, columns: Sequence[int]) -> list[Panel | None]:
    """The precision-recall curve of each label in `columns`, its threshold marked; None for one not evaluable."""
    usable = evaluable(evaluation.targets)
    rows = {row["label"]: row for row in evaluation.label_rows}
    digits = score_digits(len(evaluation.probs))
    panels: list[Panel | None] = []
    for column in columns:
        label = evaluation.labels[column]
        if not usable[column]:
            panels.append(None)
            continue
        row, known = rows[label], ~np.isnan(evaluation.targets[:, column])
        points = precision_recall(evaluation.probs[known, column], evaluation.targets[known, column])
        prevalence = row["support"] / known.sum()
        shown = {name: format_score(row[name], digits) for name in ("ap", "precision", "recall")}
        panels.append(
            Panel(
                title=label, x_label="recall", y_label="precision",
                lines=(Line("", ((0.0, prevalence), (1.0, prevalence)), "guide"), Line("", points)),
                x_range=UNIT, y_range=UNIT, x_ticks=(0.0, 0.5, 1.0), y_ticks=(0.0, 0.5, 1.0),
                mark=(row["recall"], row["precision"]) if row["predicted"] else None,
                description=f"Precision-recall curve of {label}: average precision {shown['ap']}; at the threshold "
                f"{row['threshold']:.3f}, precision {shown['precision']} and recall {shown['recall']}.",
            )
        )  # fmt: skip
    return panels


def precision_recall(probs: FloatArray, targets: FloatArray) -> Points:
    """Recall and precision of one label at falling thresholds, at most twice `CURVE_POINTS` of them.

    Unlike scikit-learn's curve, it continues below the threshold at which recall is 1, so that any threshold is on
    the curve, and it starts with the precision of the most probable images instead of 1.

    Args:
        probs: Shape ``(N,)``.
        targets: 1 or 0, at least one of them 1, shape ``(N,)``.
    """
    order = np.argsort(-probs, kind="stable")
    ends = np.flatnonzero(np.append(np.diff(probs[order]) != 0, [True]))  # images with equal probability are one step
    hits = (targets[order] == 1).cumsum()[ends]
    precision, recall = hits / (ends + 1), hits / hits[-1]
    bins = np.rint(recall * CURVE_POINTS)
    turns = np.flatnonzero(np.diff(bins) != 0)
    kept = np.unique(np.concatenate([[0], turns, turns + 1, [hits.argmax(), len(bins) - 1]]))
    points = zip(recall[kept].tolist(), precision[kept].tolist(), strict=True)
    return ((0.0, float(precision[0])), *points)


@dataclass(frozen=True)
class Bin:
    """The cells with a predicted probability in ``[low, high)``: a bin of the reliability diagram."""

    low: float
    high: float
    mean: float  # predicted probability
    share: float  # of positives
    count: int
    interval: Span  # 95 %, of `share`


def reliability_bins(probs: Probs, targets: Targets) -> list[Bin]:
    """The known cells in `NUM_BINS` bins of equal width by predicted probability; empty bins are left out."""
    from scipy.stats import binomtest

    known = ~np.isnan(targets)
    cell_probs, positive = probs[known].astype(np.float64), targets[known] == 1
    indices = np.minimum((cell_probs * NUM_BINS).astype(np.int64), NUM_BINS - 1)
    bins = []
    for index in range(NUM_BINS):
        inside = indices == index
        count = int(inside.sum())
        if count:
            share, mean = float(positive[inside].mean()), float(cell_probs[inside].mean())
            # Wilson's interval (1927) is valid near 0 and 1, too
            low, high = binomtest(int(positive[inside].sum()), count).proportion_ci(method="wilson")
            interval = float(low), float(high)
            bins.append(Bin(index / NUM_BINS, (index + 1) / NUM_BINS, mean, share, count, interval))
    return bins


def reliability_panel(bins: Sequence[Bin]) -> Panel:
    """The reliability diagram: observed frequency against predicted probability."""
    points = tuple((b.mean, b.share) for b in bins)
    values = "; ".join(f"{b.mean:.2f} predicted, {b.share:.2f} observed in {b.count:,} cases" for b in bins)
    return Panel(
        title="Reliability diagram", x_label="predicted probability", y_label="observed frequency",
        lines=(Line("perfect", ((0.0, 0.0), (1.0, 1.0)), "guide"), Line("this model", points, dots=True)),
        x_range=UNIT, y_range=UNIT, x_ticks=UNIT_TICKS, y_ticks=UNIT_TICKS,
        intervals=tuple((b.mean, *b.interval) for b in bins), description=f"Reliability diagram: {values}.",
    )  # fmt: skip


def cooccurrence(marked: NDArray[np.bool_]) -> FloatArray:
    """The number of images with both labels of each pair, ``(L, L)``, 0 on the diagonal, from ``(N, L)`` flags."""
    counts: FloatArray = marked.T.astype(np.float64) @ marked.astype(np.float64)
    np.fill_diagonal(counts, 0)
    return counts
