"""The sentences of the report, and the facts that are needed to reproduce its numbers."""

import hashlib
import math
import os
import platform
from collections import Counter
from collections.abc import Iterable, Mapping
from contextlib import suppress
from datetime import datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, NamedTuple

from labelr import files
from labelr.data.splits import SPLITS_FILE, read_splits
from labelr.errors import LabelrError, pluralize
from labelr.model.info import ModelInfo
from labelr.model.predict import Model
from labelr.scoring.metrics import METRIC_NAMES
from labelr.scoring.results import Evaluation
from labelr.version import __version__

MIN_POSITIVES = 100
"""With fewer positive labels in all images, the headline warns that scores are rough."""
MAX_DIGITS = 6
"""A score that is 0 or 1 when rounded to this number of decimals is shown as such."""
PACKAGES = ("torch", "numpy", "pillow", "scikit-learn", "scipy")

Result = Mapping[str, Any]
"""An evaluation as in ``metrics.json``."""
Facts = list[tuple[str, str]]
"""Names and values."""


class Headline(NamedTuple):
    """The sentences at the top of a report."""

    first: str  # what to expect
    rest: tuple[str, ...]  # further important results
    measured: str
    warnings: tuple[str, ...]


def headline(result: Result, images: str, *, seen_in_training: bool) -> Headline:
    """The headline of an evaluation on `images`, a phrase that follows their number."""
    if not result["images"]:
        return Headline("No images were left to evaluate this model on.", (), "", ())
    tp, fn, fp = (sum(row[name] for row in result["per_label"]) for name in ("tp", "fn", "fp"))
    warnings = []
    if seen_in_training:
        warnings.append("Some of these images were used in training: expect lower scores on new images.")
    if tp + fn < MIN_POSITIVES:
        warnings.append(
            f"These images have {pluralize(tp + fn, 'positive label')} in all, so the scores are rough: "
            "other images would give somewhat different ones."
        )
    missed = result.get("missed_target")
    if missed:
        of_all = f"{len(missed)} of {pluralize(len(result['labels']), 'label')}"
        warnings.append(f"Labels that miss the target precision or recall, {of_all}: {', '.join(missed)}.")
    exact = result["metrics"]["exact_match"]
    prior = result["baselines"]["prior"]["exact_match"] or 0
    exact_sentence = (
        f"All labels are correct on {_of_100(exact or 0)} of 100 images; predicting by the frequency of each label "
        f"alone would reach {_of_100(prior)}."
    )
    measured = f"Measured on {pluralize(result['images'], 'image')} {images}."
    rest = () if exact is None else (exact_sentence,)
    return Headline(_promise(result, tp + fp, tp + fn), rest, measured, tuple(warnings))


def _promise(result: Result, predicted: int, positives: int) -> str:
    """Precision and recall over all labels in a sentence.

    With folds the metrics are means, at the thresholds of the other folds; the counts are at the model's thresholds.
    """
    if not predicted:
        return "It predicts no labels." if positives else "These images have no labels, and it predicts none."
    precision, recall = (_of_100(result["metrics"][f"{name}_micro"]) for name in ("precision", "recall"))
    about = "" if precision.startswith("less") else "about "
    verb = "is" if precision in ("1", "less than 1") else "are"
    correct = f"Of 100 labels it predicts, {about}{precision} {verb} correct"
    return f"{correct}; it finds {recall} of 100." if positives else f"{correct}: none of these images has any label."


def _of_100(share: float) -> str:
    """A share in hundredths; 0 and 100 only where it is exactly that."""
    if 0 < share < 0.01:
        return "less than 1"
    return "99" if 0.99 < share < 1 else f"{100 * share:.0f}"


def percent(prob: float) -> str:
    """A probability in percent; never 0 % or 100 %, which would be certain."""
    if prob < 0.01:
        return "< 1 %"
    return "> 99 %" if prob > 0.99 else f"{100 * prob:.0f} %"


def score_digits(images: int, score: float = 0.5) -> int:
    """How many decimals of a score mean something: down to the first digit of its standard error.

    The error is that of a share of as many images, ``sqrt(score * (1 - score) / images)``, which is largest for 0.5.

    Args:
        images: How many images the score was measured on; 0 counts as 1.
        score: The score. One that is no share, such as a loss above 1, counts as 0.5.
    """
    images = max(images, 1)
    variance = score * (1 - score) if 0 <= score <= 1 else 0.25
    error = math.sqrt(max(variance, 1 / images) / images)  # 0 and 1 have an error, too: one image decides
    return max(1, math.ceil(-math.log10(error)))


def format_score(score: float, digits: int) -> str:
    """A score with as many decimals; more where it would look like 0 or 1, which it is not."""
    return f"{score:.{_shown_digits(score, digits)}f}"


def _shown_digits(score: float, digits: int) -> int:
    if round(score, MAX_DIGITS) not in (0, 1):
        while round(score, digits) in (0, 1):
            digits += 1
    return digits


HEADLINE_METRICS = {
    "map_macro": (
        "Mean average precision",
        "How well the images are ranked by the probability of each label, whatever its threshold; 1 is perfect.",
    ),
    "f1_micro": ("F1 micro", "Combines precision and recall of all labels together; 1 is perfect."),
    "f1_macro": ("F1 macro", "The mean of the labels' F1: rare labels count as much as frequent ones; 1 is perfect."),
    "exact_match": ("Exact match", "The share of images on which every label is correct."),
    "hamming_loss": ("Hamming loss", "The share of wrong yes-or-no decisions; 0 is perfect."),
    "auroc_macro": (
        "AUROC macro",
        "How often an image with a label gets a higher probability than one without it; 1 is perfect.",
    ),
}


def metric_rows(result: Result) -> list[dict[str, Any]]:
    """All metrics with intervals or spreads, and baselines."""
    return [{"name": name, **_metric(result, key)} for key, name in METRIC_NAMES.items()]


def headline_rows(result: Result) -> list[dict[str, str]]:
    """A row of text for each headline metric that is evaluable: its value, its uncertainty and the baselines."""
    rows = []
    for key in HEADLINE_METRICS:
        metric = _metric(result, key)
        if metric["value"] is None:
            continue
        shown, interval = _texts(metric, " .. ")
        uncertainty = {"spread": shown["spread"]} if "spread" in result else {"95 % interval": interval}
        baselines = {"label prior": shown["prior"], "random guessing": shown["random"]}
        rows.append({"metric": METRIC_NAMES[key], "value": shown["value"], **uncertainty, **baselines})
    return rows


def _texts(metric: Mapping[str, Any], between: str) -> tuple[dict[str, str], str]:
    """The scores as text, empty for None, and the interval with a text `between` its ends, empty without one."""
    digits = metric["digits"]
    scores = {name: metric[name] for name in ("value", "spread", "prior", "random")}
    shown = {name: "" if score is None else format_score(score, digits) for name, score in scores.items()}
    ends = () if metric["low"] is None else (metric["low"], metric["high"])
    return shown, between.join(f"{end:.{digits}f}" for end in ends)


def _metric(result: Result, key: str) -> dict[str, Any]:
    """One metric with its interval or spread, its baselines and how many digits are shown; None if unknown."""
    low, high = result.get("intervals", {}).get(key) or (None, None)
    value = result["metrics"][key]
    digits = score_digits(result["images"], 0.5 if value is None else value)
    return {
        "value": value,
        "digits": digits if value is None else _shown_digits(value, digits),
        "low": low,
        "high": high,
        "spread": result.get("spread", {}).get(key),
        "prior": result["baselines"]["prior"][key],
        "random": result["baselines"]["random"][key],
    }


def metric_cards(result: Result) -> list[dict[str, Any]]:
    """The headline metrics with their explanations; those that are not evaluable are left out."""
    cards = []
    for key, (name, explanation) in HEADLINE_METRICS.items():
        metric = _metric(result, key)
        value = metric["value"]
        if value is None or not math.isfinite(value):
            continue
        shown, interval = _texts(metric, " to ")
        interval = f", 95 % interval {interval}" if interval else ""
        prior = f"; label prior {shown['prior']}" if shown["prior"] else ""
        description = f"{name}: {shown['value']}{interval}{prior}"
        cards.append({"name": name, "explanation": explanation, "description": description, **metric})
    return cards


def explain_metrics(result: Result) -> str:
    """What the intervals and baselines are."""
    if "spread" in result:
        spread = f"Values are means over {len(result['folds']['images'])} folds; ± is the standard deviation."
    else:
        spread = (
            "The pale band is the 95 % confidence interval: of 100 intervals from other samples of as many images, 95 "
            "contain the value for all images of this kind."
        )
    return (
        f"{spread} The line is the label prior: the score without looking at the images, each label being predicted "
        "with its frequency. Scores are rounded to the first digit of their standard error on "
        f"{pluralize(result['images'], 'image')}; metrics.json has all digits."
    )


def reproducibility_facts(
    model: Model, evaluation: Evaluation, training_seconds: float, now: datetime
) -> list[tuple[str, Facts]]:
    """Titles with facts: the model, its training data, the evaluated data and the environment."""
    info, value_range = model.info, model.info.preprocessing.value_range
    network: Facts = [
        ("Model", str(model.path)),
        ("Created", info.created),
        *([("Training time", f"{training_seconds / 60:.1f} minutes")] if training_seconds else []),
        ("Epoch kept", f"{info.best_epoch}"),
        ("Weights, SHA-256", info.weights.get("sha256", "")),
        ("Seed", str(info.config.get("seed", ""))),
        *network_facts(info),
        ("Image size", f"{info.preprocessing.image_size} px, {info.preprocessing.resize}"),
        *([("Value range", f"{value_range}, of images of more than 8 bits")] if value_range else []),
        ("Calibration", f"temperature {info.calibration.temperature:.3f}, bias {info.calibration.bias:.3f}"),
    ]
    digest = files.digest(Path(evaluation.data))  # not of a folder of label files, or a deleted file
    evaluated: Facts = [
        ("Label file", evaluation.data),
        *([("Label file, SHA-256", digest)] if digest else []),
        ("Images", f"{len(evaluation.files):,}"),
        ("Labels", f"{len(evaluation.labels):,}"),
        ("Thresholds", "the model's own" if evaluation.threshold == "auto" else str(evaluation.threshold)),
        *([("Image contents, SHA-256", contents_digest(evaluation.digests))] if evaluation.digests else []),
    ]
    return [
        ("Model", network),
        ("Training data", _training_data(model)),
        ("Evaluated data", evaluated),
        ("Environment", _environment(model, now)),
    ]


def network_facts(info: ModelInfo) -> Facts:
    """The network of a model, and where its weights came from before training."""
    architecture, pretraining = info.architecture, info.pretraining
    name = architecture.backbone or f"residual, stem {architecture.stem}, width {architecture.width:g}"
    facts = [("Network", name)]
    if pretraining is not None:
        origin = ", ".join(part for part in (pretraining.source, pretraining.licence) if part)
        facts += [("Pretrained by", origin), ("Pretrained weights", pretraining.weights)]
        facts += [("Pretrained weights, SHA-256", pretraining.sha256)]
    return facts


def contents_digest(digests: Iterable[str]) -> str:
    """The SHA-256 of a set of images, independent of names and order: that of their sorted digests, one per line."""
    return hashlib.sha256("".join(f"{digest}\n" for digest in sorted(digests)).encode()).hexdigest()


def _training_data(model: Model) -> Facts:
    counts = model.info.counts.values()
    facts: Facts = [
        ("Labels", f"{len(model.labels):,}"),
        ("Positive labels", f"{sum(count.get('positives', 0) for count in counts):,}"),
        ("Unknown cells", f"{sum(count.get('unknown', 0) for count in counts):,}"),
    ]
    try:
        rows = read_splits(model.path / SPLITS_FILE)
    except LabelrError:
        return facts
    splits = ", ".join(f"{count:,} {split}" for split, count in Counter(row.split for row in rows).items())
    digest = contents_digest(row.digest for row in rows)
    return [("Images", f"{len(rows):,}: {splits}"), *facts, ("Image contents, SHA-256", digest)]


def _environment(model: Model, now: datetime) -> Facts:
    machine = model.runtime
    return [
        ("Trained with", ", ".join(f"{name} {version}" for name, version in model.info.versions.items())),
        ("Evaluated with", package_versions()),
        ("Machine", machine_description()),
        ("Computed on", f"{machine.device.type}, {machine.precision}, {machine.threads} threads"),
        ("Report written", now.isoformat(timespec="seconds")),
    ]


def package_versions(*more: str) -> str:
    """The versions of labelr, Python and the numerical packages, and of `more` packages."""
    versions = {"labelr": __version__, "Python": platform.python_version()}
    for package in (*PACKAGES, *more):
        with suppress(PackageNotFoundError):  # not installed as a distribution
            versions[package] = version(package)
    return ", ".join(f"{name} {number}" for name, number in versions.items())


def machine_description() -> str:
    """The operating system, architecture and number of cores."""
    return f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores"


def label_counts(info: ModelInfo, limit: int) -> Facts:
    """How often each label, up to the first `limit`, is given as yes, as no, and unknown in the training data."""
    kinds = {"positives": "yes", "negatives": "no", "unknown": "unknown"}
    return [
        (label, ", ".join(f"{count.get(kind, 0):,} {word}" for kind, word in kinds.items()))
        for label, count in list(info.counts.items())[:limit]
    ]


def setting_facts(config: Mapping[str, Any]) -> Facts:
    """The settings of a training run by the names of their options."""
    return [(f"--{name.replace('_', '-')}", _setting_text(value)) for name, value in config.items()]


def _setting_text(value: Any) -> str:
    if value is None or value == []:
        return "not set"
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)
