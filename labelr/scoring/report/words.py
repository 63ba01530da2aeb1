"""What the numbers mean, in sentences for people who tag photographs."""

import math
from collections.abc import Mapping
from typing import Any, NamedTuple

from labelr.errors import pluralize

LITTLE = 100
"""Labels to be found; with fewer, the headline itself is rough."""

Report = Mapping[str, Any]
"""An evaluation as it stands in ``metrics.json``."""


class Headline(NamedTuple):
    """What stands at the top of the page.

    Attributes:
        first: What to expect of the labels that the model writes.
        rest: What else to know at once.
        measured: On which images.
        warnings: Why not to believe it too much.
    """

    first: str
    rest: tuple[str, ...]
    measured: str
    warnings: tuple[str, ...]


def headline(report: Report, scored: str, *, learned_from: bool) -> Headline:
    """The headline of an evaluation.

    Args:
        report: The evaluation.
        scored: Which images these are, as a sentence part after their number.
        learned_from: Whether the model has learned from some of them.
    """
    images = report["images"]
    measured = f"Measured on {images:,} {'image' if images == 1 else 'images'} {scored}."
    if not images:
        return Headline("No images were left to score this model on.", (), "", ())
    rows = report["per_label"]
    found, missed, wrong = (sum(row[name] for row in rows) for name in ("tp", "fn", "fp"))
    warnings = []
    if learned_from:
        warnings.append("The model has learned from some of these images: on others it will do worse.")
    if found + missed < LITTLE:
        warnings.append(
            f"These images have {pluralize(found + missed, 'label')} to be found in all, so the numbers are rough: "
            "other images would give somewhat different ones."
        )
    return Headline(_promise(report, found + wrong, found + missed), _more(report), measured, tuple(warnings))


def _promise(report: Report, written: int, true: int) -> str:
    """What share of the labels written is right, and what share of the true ones is written.

    With folds these are means, of thresholds that the other folds gave; the counts are of the model's own.
    """
    if not written:
        return "It writes no label at all." if true else "There was nothing to find, and it writes nothing."
    precision, recall = (_of_100(report["metrics"][f"{name}_micro"]) for name in ("precision", "recall"))
    about = "" if precision.startswith("less") else "about "
    verb = "is" if precision in ("1", "less than 1") else "are"
    right = f"Of 100 labels it writes, {about}{precision} {verb} right"
    return f"{right}; it finds {recall} of 100." if true else f"{right}: none of these images has any of the labels."


def _of_100(share: float) -> str:
    """A share of 100 that is 0 or 100 only where it is nothing or all."""
    if 0 < share < 0.01:
        return "less than 1"
    return "99" if 0.99 < share < 1 else f"{100 * share:.0f}"


def _more(report: Report) -> tuple[str, ...]:
    exact, prior = (of["exact_match"] for of in (report["metrics"], report["baselines"]["prior"]))
    if exact is None:
        return ()
    without = f"guessing by how frequent each label is would reach {100 * (prior or 0):.0f}"
    return (f"Every label is right on {100 * exact:.0f} of 100 images; {without}.",)


def percent(value: float) -> str:
    """A probability as people read it; never 0 % or 100 %, which would be certain."""
    if value < 0.01:
        return "< 1 %"
    return "> 99 %" if value > 0.99 else f"{100 * value:.0f} %"


HEADLINE_METRICS = {
    "map_macro": (
        "Mean average precision",
        "How well it ranks images by a label: 1 is perfect, whatever the threshold.",
    ),
    "f1_micro": ("F1 over all labels", "High where written labels are right and true ones are written: 1 is perfect."),
    "f1_macro": ("F1, each label alike", "The mean of the labels' F1, in which a rare label counts as much as any."),
    "exact_match": ("Images wholly right", "The share of images on which every single label is right."),
    "hamming_loss": ("Wrong decisions", "The share of yes-or-no decisions that are wrong: here 0 is perfect."),
    "auroc_macro": (
        "AUROC",
        "How often an image with a label gets a higher probability for it than one without: 1 is perfect.",
    ),
}
MEASURES = {
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


def measure(report: Report, key: str) -> dict[str, float | None]:
    """One measure with its interval or spread and its baselines; None for what is not known."""
    low, high = report.get("intervals", {}).get(key) or (None, None)
    return {
        "value": report["metrics"][key],
        "low": low,
        "high": high,
        "spread": report.get("spread", {}).get(key),
        "prior": report["baselines"]["prior"][key],
        "random": report["baselines"]["random"][key],
    }


def cards(report: Report) -> list[dict[str, Any]]:
    """The headline measures, each with what it says; those that are not evaluable are left out."""
    found = []
    for key, (name, what) in HEADLINE_METRICS.items():
        one = measure(report, key)
        value = one["value"]
        if value is None or not math.isfinite(value):
            continue
        between = f", probably between {one['low']:.3f} and {one['high']:.3f}" if one["low"] is not None else ""
        without = f"; {one['prior']:.3f} without looking at the images" if one["prior"] is not None else ""
        found.append({"name": name, "what": what, "said": f"{name}: {value:.3f}{between}{without}", **one})
    return found


def measures(report: Report) -> list[dict[str, Any]]:
    """All measures."""
    return [{"name": name, **measure(report, key)} for key, name in MEASURES.items()]


def how_to_read(report: Report) -> str:
    """What the intervals and baselines are."""
    if "spread" in report:
        sure = f"Numbers are means over {len(report['folds']['images'])} folds; ± is their spread (standard deviation)."
    else:
        sure = "The pale band holds what 95 % of other sets of so many images would give."
    return f"{sure} The stroke is what those get who do not look at the images, but know how frequent each label is."
