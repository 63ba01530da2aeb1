"""What each section of the page shows."""

import math
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
from markupsafe import Markup

from labelr.data.label_table import FEW_POSITIVES
from labelr.errors import pluralize
from labelr.model.decide import decide
from labelr.scoring.evaluation import Evaluation
from labelr.scoring.report import charts, svg
from labelr.scoring.report.examples import (
    Cell,
    Thumbnail,
    confident_mistakes,
    least_certain,
    random_rows,
    thumbnail,
)
from labelr.scoring.report.source import Source, last, read_history
from labelr.scoring.report.words import percent
from labelr.scoring.suspects import COLUMNS as SUSPECT_COLUMNS
from labelr.scoring.suspects import suspect_rows

SUSPECTS_SHOWN, SUSPECTS_LISTED = 24, 200
LABELS_SHOWN = 5
"""Of an image, at most, beside those that are true or written."""
MOST_SAID = 8
LABEL_COLUMNS = ("True", "Written", "Precision", "Recall", "F1", "AP", "AUROC", "Threshold")
PAIRS_SHOWN = 10
ROWS_SHOWN, CURVES_SHOWN, PAIRED = 2000, 200, 200
"""Labels in the table, and those, the most frequent ones, with a curve and in the squares of pairs."""

WRITTEN = (
    "The labels that it writes with most certainty and that are not given, one an image. Where the picture shows the "
    "label all the same, mend the spreadsheet."
)
NOT_FOUND = "The given labels that it takes for least probable, one an image."
UNCERTAIN = (
    "Right or wrong, these decisions were the closest to the label's threshold. Labelling more images like them "
    "teaches most."
)
OVERFITTING = (
    "A gap between the losses that grows while the validation loss rises says that the model learns its images by "
    "heart (overfitting): at last it is {gap:.3f}. Training images are changed at random and so are harder, which can "
    "put the gap below 0. Scores are at a threshold of 0.5, before calibration."
)

Shot = dict[str, Any]


class Album:
    """Thumbnails of the images of an evaluation, each file opened once.

    Args:
        evaluation: Its images are asked for by their row.
        other: An album with some of the same files.
    """

    def __init__(self, evaluation: Evaluation, other: "Album | None" = None) -> None:
        self.paths = evaluation.paths
        self.opened: dict[Path, Thumbnail] = other.opened if other else {}

    def __call__(self, row: int) -> Thumbnail:
        """The thumbnail of an image by its row."""
        path = self.paths[row]
        if path not in self.opened:
            self.opened[path] = thumbnail(path)
        return self.opened[path]


def galleries(source: Source, album: Callable[[int], Thumbnail]) -> list[dict[str, Any]]:
    """Images by how their predictions went; none where none was scored."""
    evaluation = source.evaluation
    if not len(evaluation.probs):
        return []
    cells = (
        ("Written, and wrong", WRITTEN, confident_mistakes(evaluation, written=True)),
        ("Given, and not found", NOT_FOUND, confident_mistakes(evaluation, written=False)),
        ("Least certain", UNCERTAIN, least_certain(evaluation)),
    )
    drawn = [shot(evaluation, album, row) for row in random_rows(len(evaluation.probs))]
    return [
        {"title": "Drawn at random", "said": "What to expect of any image.", "shots": drawn},
        *(
            {"title": title, "said": said, "shots": [shot(evaluation, album, one.row, one) for one in chosen]}
            for title, said, chosen in cells
        ),
    ]


def shot(evaluation: Evaluation, album: Callable[[int], Thumbnail], row: int, asked: Cell | None = None) -> Shot:
    """One image and what is said of it."""
    probs, targets = evaluation.probs[row], evaluation.targets[row]
    preds = decide(probs, evaluation.thresholds)
    ranked = np.argsort(-probs, kind="stable")
    matters = [i for i in ranked if preds[i] or targets[i] == 1 or (asked and asked.column == i)]
    others = [i for i in ranked if i not in matters]
    chosen = sorted((matters + others[: max(0, LABELS_SHOWN - len(matters))])[:MOST_SAID], key=lambda i: -probs[i])
    if asked and asked.column not in chosen:
        chosen[-1] = asked.column
    says = [
        {
            "label": evaluation.labels[i],
            "percent": percent(probs[i]),
            "width": f"{100 * float(probs[i]):.1f}",
            "threshold": f"{100 * float(evaluation.thresholds[i]):.1f}",
            "asked": bool(asked and asked.column == i),
            **verdict(bool(preds[i]), float(targets[i])),
        }
        for i in chosen
    ]
    return {"file": evaluation.files[row], "thumbnail": album(row), "says": says}


def verdict(written: bool, target: float) -> dict[str, str]:
    """Whether a decision is right, as a kind and in words; none where there was nothing to write."""
    if math.isnan(target):
        return {"kind": "unknown", "verdict": "written; not known" if written else "not known"}
    if written and target == 1:
        return {"kind": "right", "verdict": "right"}
    if written:
        return {"kind": "wrong", "verdict": "not given"}
    return {"kind": "wrong", "verdict": "given, but missed"} if target == 1 else {"kind": "quiet", "verdict": ""}


def suspects(source: Source, album: Callable[[int], Thumbnail]) -> dict[str, Any] | None:
    """The given labels that the model contradicts, the most doubtful first; None where none was looked at."""
    doubted, found = source.doubted, source.suspects
    if not found.known:
        return None
    images = pluralize(len(doubted.files), "image")
    looked = f"{found.known:,} answers, yes or no, are given for {images} {source.whence}."
    if not len(found):
        return {"said": f"{looked} The model contradicts none of them.", "shots": [], "rows": []}
    clear = f"{found.clear:,}" if found.clear else "none"
    said = f"{looked} The model contradicts {len(found):,} of them, {clear} clearly."
    rows = [dict(zip(SUSPECT_COLUMNS, row, strict=True)) for row in suspect_rows(doubted, found, SUSPECTS_LISTED)]
    shots = []
    for i, j in list(zip(found.rows, found.columns, strict=True))[:SUSPECTS_SHOWN]:
        given = "yes" if doubted.targets[i, j] == 1 else "no"
        shots.append({
            "file": doubted.files[i], "thumbnail": album(int(i)), "label": doubted.labels[j], "given": given,
            "percent": percent(doubted.probs[i, j]),
        })  # fmt: skip
    listed = f"The first {len(rows)} of {len(found):,} as a list" if len(rows) < len(found) else "All as a list"
    return {"said": said, "shots": shots, "rows": rows, "listed": listed}


def labels(source: Source) -> list[dict[str, Any]]:
    """A row a label, and its curve; in the order of the report's table."""
    if not len(source.evaluation.probs):
        return []
    of = source.evaluation
    drawn = charts.most_frequent(of, CURVES_SHOWN)
    curves = dict(zip((of.labels[one] for one in drawn), charts.curve_panels(of, drawn), strict=True))
    found = []
    for number, row in enumerate(source.report["per_label"][:ROWS_SHOWN], start=1):
        curve = curves.get(row["label"])
        found.append({
            "number": number,
            "label": row["label"],
            "few": row["support"] < FEW_POSITIVES,
            "counts": (row["support"], row["predicted"]),
            "scores": tuple(row[name] for name in ("precision", "recall", "f1", "ap", "auroc", "threshold")),
            "shown": row["label"] in curves,
            "chart": svg.draw(curve, small=True) if curve else None,
            **{name: row[name] for name in ("tp", "fp", "fn", "tn")},
        })  # fmt: skip
    return found


def pairs(evaluation: Evaluation) -> dict[str, Any] | None:
    """Which labels go together, in truth and as written; None where there is one label or no image."""
    if len(evaluation.labels) < 2 or not len(evaluation.probs):
        return None
    chosen = charts.most_frequent(evaluation, PAIRED)
    targets = evaluation.targets[:, chosen]
    preds = decide(evaluation.probs[:, chosen], evaluation.thresholds[chosen])
    true, written = charts.together(targets == 1), charts.together(preds & ~np.isnan(targets))
    upper = np.triu(np.ones_like(true), 1) > 0
    rows, columns = np.nonzero(upper & ((true > 0) | (written > 0)))
    names = [evaluation.labels[column] for column in chosen]
    found: list[dict[str, Any]] = [
        {"first": names[i], "second": names[j], "true": int(true[i, j]), "written": int(written[i, j])}
        for i, j in zip(rows, columns, strict=True)
    ]
    found.sort(key=lambda row: (-abs(row["written"] - row["true"]), -row["true"]))
    said = (
        f"On how many images two labels stand together, as they are given and as labelr writes them: {len(found):,} "
        f"pairs are found at all. {'The largest differences first.' if found else ''} In the squares, each row and "
        "each column is a label, in the model's order."
    )
    both = (("As given", true), ("As written", written))
    maps = [(title, _square(counts, names, title)) for title, counts in both]
    return {"said": said, "rows": found[:PAIRS_SHOWN], "maps": maps}


def _square(counts: np.ndarray, names: Iterable[str], title: str) -> Markup:
    return svg.heat_map(counts, list(names), f"{title}: the stronger a square, the more images have both labels.")


def reliability(evaluation: Evaluation) -> dict[str, Any] | None:
    """How often probabilities come true; None where none is known."""
    bins = charts.reliability(evaluation.probs, evaluation.targets)
    if not bins:
        return None
    panel = charts.reliability_panel(bins)
    far = [one for one in bins if not one.interval[0] <= one.mean <= one.interval[1]]
    said = "Here no dot is further from the line than chance allows."
    if far:
        worst = max(far, key=lambda one: abs(one.mean - one.share))
        which = "too low" if worst.share > worst.mean else "too high"
        said = f"Here they are furthest off around {worst.mean:.2f}, which is {which}: {worst.share:.2f} come true."
    return {"panel": panel, "drawing": svg.draw(panel), "bins": bins, "said": said}


def history(source: Source) -> dict[str, Any] | None:
    """How training went; None where the model's history is not there any more."""
    columns = read_history(source.model.path)
    panels = charts.history_panels(columns, source.model.info.best_epoch)
    if not panels:
        return None
    epochs, best = len(columns["epoch"]), source.model.info.best_epoch
    said = [f"{pluralize(epochs, 'epoch')}; the model is that of epoch {best}, where the dotted line stands."]
    gap = last(columns, "val_loss") - last(columns, "train_loss")
    if math.isfinite(gap):
        said.append(OVERFITTING.format(gap=gap))
    else:
        said.append("No images were set aside to score each epoch on.")
    title = "How training went" if source.own else "How the model's training went"
    return {"title": title, "said": " ".join(said), "charts": [(panel, svg.draw(panel)) for panel in panels]}
