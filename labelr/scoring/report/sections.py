"""The content of each section of the report, and the example images that it shows."""

import base64
import math
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from labelr.data.images import (
    QUALITIES_OF_SMALL,
    UNKNOWN_RANGE,
    Pixels,
    UnreadableError,
    encode_jpeg,
    read_thumbnail,
)
from labelr.data.label_table import FEW_POSITIVES
from labelr.data.value_range import ValueRange
from labelr.errors import pluralize
from labelr.model.calibration import decide
from labelr.scoring.report import charts, svg
from labelr.scoring.report.charts import History, last_value
from labelr.scoring.report.text import percent
from labelr.scoring.results import SUSPECT_COLUMNS, Evaluation, suspect_rows

MAX_EXAMPLES = 12
"""Images per gallery."""
THUMBNAIL_SIZE = 224
"""The longer side in pixels."""
SUSPECT_IMAGES, SUSPECT_ROWS = 24, 200
"""Suspected label errors that are shown with their image, and in the table."""
MIN_LABELS, MAX_LABELS = 5, 8
"""Labels shown beside an image, positive and predicted ones first."""
LABEL_COLUMNS = ("Positives", "Predicted", "Precision", "Recall", "F1", "AP", "AUROC", "Threshold")
MAX_ROWS, MAX_CURVES, MAX_PAIRED, PAIR_ROWS = 2000, 200, 200, 10
"""Labels in the table; the most frequent labels with a curve, and those whose pairs are counted; rows of pairs."""

Cell = tuple[int, int]
"""The row of an image and the column of a label."""

RANDOM = "What to expect on a typical image."
FALSE_POSITIVES = (
    "Labels that were predicted with the highest probability although they are not given, at most one per image. "
    "If an image does show the label, correct your label file."
)
FALSE_NEGATIVES = "Given labels with the lowest predicted probability that were not predicted, at most one per image."
UNCERTAIN = (
    "The probabilities that are closest to the label's threshold, whether the prediction is correct or not. Labelling "
    "more images like these improves the model most."
)
OVERFITTING = (
    "If the gap between the losses grows while the validation loss rises, the model memorizes its training images "
    "(overfitting). The last gap is {gap:.2f}. Training images are augmented and therefore harder, which can make the "
    "gap negative. Scores use a threshold of 0.5 and are computed before calibration."
)
PAIR_MAP = "the darker a cell, the more images have both labels."


class Thumbnail(NamedTuple):
    """A small image, or the reason why it does not open."""

    url: str  # a ``data:`` URL; empty where the image does not open
    pixels: Pixels | None  # (H, W, 3)
    reason: str = ""


MakeThumbnail = Callable[[Path], Thumbnail]
"""`make_thumbnail` with the value range of a model, in a form that caches."""


def make_thumbnail(path: Path, value_range: ValueRange = UNKNOWN_RANGE) -> Thumbnail:
    """The thumbnail of one image, upright."""
    try:  # without a limit on pixels: the evaluation has checked the user's
        pixels = read_thumbnail(path, THUMBNAIL_SIZE, max_pixels=sys.maxsize, value_range=value_range)
    except UnreadableError as error:
        return Thumbnail("", None, str(error))
    content = base64.b64encode(encode_jpeg(pixels, QUALITIES_OF_SMALL)).decode()
    return Thumbnail(f"data:image/jpeg;base64,{content}", pixels)


def random_rows(num_images: int) -> list[int]:
    """A random sample of at most `MAX_EXAMPLES` images, the same each time."""
    rng = np.random.default_rng(0)
    return sorted(rng.choice(num_images, min(MAX_EXAMPLES, num_images), replace=False).tolist())


def false_positives(evaluation: Evaluation) -> list[Cell]:
    """The wrongly predicted labels with the highest probability, at most one per image."""
    wrong = decide(evaluation.probs, evaluation.thresholds) & (evaluation.targets == 0)
    return _highest_per_image(np.where(wrong, evaluation.probs, -1.0))


def false_negatives(evaluation: Evaluation) -> list[Cell]:
    """The missed labels with the lowest probability, at most one per image."""
    wrong = ~decide(evaluation.probs, evaluation.thresholds) & (evaluation.targets == 1)
    return _highest_per_image(np.where(wrong, 1 - evaluation.probs, -1.0))


def least_certain(evaluation: Evaluation) -> list[Cell]:
    """The known cells whose probability is closest to the threshold, at most one per image."""
    distance = np.abs(evaluation.probs - evaluation.thresholds)
    return _highest_per_image(np.where(np.isnan(evaluation.targets), -1.0, 1 - distance))


def _highest_per_image(strength: NDArray[np.floating]) -> list[Cell]:
    """The cells with the highest values, at most one per image; a negative value is no candidate."""
    columns = strength.argmax(axis=1)
    best = np.take_along_axis(strength, columns[:, None], axis=1)[:, 0]
    rows = [row for row in np.argsort(-best, kind="stable")[:MAX_EXAMPLES] if best[row] >= 0]
    return [(int(row), int(columns[row])) for row in rows]


def galleries(evaluation: Evaluation, thumbnail: MakeThumbnail) -> list[dict[str, Any]]:
    """The galleries of example images."""
    chosen: tuple[tuple[str, str, Sequence[tuple[int, ...]]], ...] = (
        ("Random sample", RANDOM, [(row,) for row in random_rows(len(evaluation.probs))]),
        ("Confident false positives", FALSE_POSITIVES, false_positives(evaluation)),
        ("Confident false negatives", FALSE_NEGATIVES, false_negatives(evaluation)),
        ("Least certain predictions", UNCERTAIN, least_certain(evaluation)),
    )
    return [
        {"title": title, "text": text, "examples": [example(evaluation, thumbnail, *cell) for cell in cells]}
        for title, text, cells in chosen
    ]


def example(evaluation: Evaluation, thumbnail: MakeThumbnail, row: int, highlight: int | None = None) -> dict[str, Any]:
    """One image with its most relevant labels, the most probable first; the label `highlight` is always included."""
    probs, targets = evaluation.probs[row], evaluation.targets[row]
    preds = decide(probs, evaluation.thresholds)
    ranked = np.argsort(-probs, kind="stable")
    relevant = [i for i in ranked if preds[i] or targets[i] == 1 or i == highlight]
    others = [i for i in ranked if i not in relevant]
    shown = sorted((relevant + others[: max(0, MIN_LABELS - len(relevant))])[:MAX_LABELS], key=lambda i: -probs[i])
    if highlight is not None and highlight not in shown:
        shown[-1] = highlight
    labels = [
        {
            "label": evaluation.labels[i],
            "percent": percent(probs[i]),
            "width": f"{100 * float(probs[i]):.1f}",
            "threshold": f"{100 * float(evaluation.thresholds[i]):.1f}",
            "highlighted": i == highlight,
            **verdict(bool(preds[i]), float(targets[i])),
        }
        for i in shown
    ]
    return {"file": evaluation.files[row], "thumbnail": thumbnail(evaluation.paths[row]), "labels": labels}


def verdict(predicted: bool, target: float) -> dict[str, str]:
    """Whether a prediction is correct, as a kind and in words; no words for a true negative."""
    if math.isnan(target):
        return {"kind": "unknown", "verdict": "predicted; truth unknown" if predicted else "truth unknown"}
    if predicted and target == 1:
        return {"kind": "correct", "verdict": "correct"}
    if predicted:
        return {"kind": "wrong", "verdict": "not given"}
    return {"kind": "wrong", "verdict": "given, but missed"} if target == 1 else {"kind": "negative", "verdict": ""}


def suspects(checked: Evaluation, checked_images: str, thumbnail: MakeThumbnail) -> dict[str, Any] | None:
    """The suspected label errors, the most suspicious first; None where no labels were checked."""
    found = checked.suspects
    if not found.known:
        return None
    images = pluralize(len(checked.files), "image")
    text = f"{found.known:,} labels (yes or no) of {images} {checked_images} were checked."
    if not len(found):
        return {"text": f"{text} The model contradicts none of them.", "examples": [], "rows": []}
    clearly = f"{found.clear:,}" if found.clear else "none"
    text += f" The model contradicts {len(found):,} of them, {clearly} clearly."
    rows = [dict(zip(SUSPECT_COLUMNS, row, strict=True)) for row in suspect_rows(checked, SUSPECT_ROWS)]
    cells = list(zip(found.rows.tolist(), found.columns.tolist(), strict=True))[:SUSPECT_IMAGES]
    examples = [
        {
            "file": checked.files[i],
            "thumbnail": thumbnail(checked.paths[i]),
            "label": checked.labels[j],
            "given": "yes" if checked.targets[i, j] == 1 else "no",
            "percent": percent(checked.probs[i, j]),
        }
        for i, j in cells
    ]
    summary = f"Table of the first {len(rows)} of {len(found):,}" if len(rows) < len(found) else "Table of all"
    return {"text": text, "examples": examples, "rows": rows, "table_summary": summary}


def labels(evaluation: Evaluation, per_label: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """The metrics of each label and its precision-recall curve, in the order of the label table."""
    columns = charts.most_frequent(evaluation, MAX_CURVES)
    names = [evaluation.labels[column] for column in columns]
    curves = dict(zip(names, charts.curve_panels(evaluation, columns), strict=True))
    rows = []
    for number, row in enumerate(per_label[:MAX_ROWS], start=1):
        curve = curves.get(row["label"])
        rows.append({
            "number": number,
            "label": row["label"],
            "few": row["support"] < FEW_POSITIVES,
            "counts": (row["support"], row["predicted"]),
            "scores": tuple(row[name] for name in ("precision", "recall", "f1", "ap", "auroc", "threshold")),
            "has_card": row["label"] in curves,
            "chart": svg.draw(curve, small=True) if curve else None,
            **{name: row[name] for name in ("tp", "fp", "fn", "tn")},
        })  # fmt: skip
    return rows


def pairs(evaluation: Evaluation) -> dict[str, Any] | None:
    """Which labels occur together, given and predicted; None where there is one label."""
    if len(evaluation.labels) < 2:
        return None
    columns = charts.most_frequent(evaluation, MAX_PAIRED)
    targets = evaluation.targets[:, columns]
    preds = decide(evaluation.probs[:, columns], evaluation.thresholds[columns])
    given, predicted = charts.cooccurrence(targets == 1), charts.cooccurrence(preds & ~np.isnan(targets))
    names = [evaluation.labels[column] for column in columns]
    cells = zip(*np.nonzero(np.triu((given > 0) | (predicted > 0), 1)), strict=True)
    rows: list[dict[str, Any]] = [
        {"first": names[i], "second": names[j], "given": int(given[i, j]), "predicted": int(predicted[i, j])}
        for i, j in cells
    ]
    rows.sort(key=lambda row: (-abs(row["predicted"] - row["given"]), -row["given"]))
    text = (
        "The number of images on which two labels occur together, as given and as predicted: "
        f"{pluralize(len(rows), 'pair')} occur{'s' if len(rows) == 1 else ''}."
        f"{' The largest differences come first.' if len(rows) > 1 else ''}"
    )
    shown = [columns.index(column) for column in charts.most_frequent(evaluation, svg.MAX_NAMED)]
    if len(shown) < len(evaluation.labels):
        text += f" The heat maps show the {len(shown)} most frequent labels."
    maps = [
        (title, svg.heat_map(counts[np.ix_(shown, shown)], [names[index] for index in shown], f"{title}: {PAIR_MAP}"))
        for title, counts in (("Given", given), ("Predicted", predicted))
    ]
    return {"text": text, "rows": rows[:PAIR_ROWS], "maps": maps}


def calibration(evaluation: Evaluation) -> dict[str, Any] | None:
    """The reliability diagram of the probabilities; None where no target is known."""
    bins = charts.reliability_bins(evaluation.probs, evaluation.targets)
    if not bins:
        return None
    panel = charts.reliability_panel(bins)
    outside = [b for b in bins if not b.interval[0] <= b.mean <= b.interval[1]]
    text = "Here no dot is further from the line than chance explains."
    if outside:
        worst = max(outside, key=lambda b: abs(b.mean - b.share))
        share = percent(worst.share)
        direction = "too low" if worst.share > worst.mean else "too high"
        text = f"The largest deviation is around {worst.mean:.2f}, which is {direction}: of these, {share} are true."
    return {"panel": panel, "drawing": svg.draw(panel), "bins": bins, "text": text}


def history(columns: History, best_epoch: int) -> dict[str, Any] | None:
    """The charts of the training history; None where the model has none."""
    panels = charts.history_panels(columns, best_epoch)
    if not panels:
        return None
    text = (
        f"{pluralize(len(columns['epoch']), 'epoch')}; the model has the weights of epoch {best_epoch} (dotted line)."
    )
    gap = last_value(columns, "val_loss") - last_value(columns, "train_loss")
    note = OVERFITTING.format(gap=gap) if math.isfinite(gap) else "There was no validation split to evaluate epochs on."
    return {"text": f"{text} {note}", "charts": [(panel, svg.draw(panel)) for panel in panels]}
