"""How well a model does on a set of images: all figures of one evaluation, computed when they are asked for."""

import math
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Self

import numpy as np

from labelr.data.label_table import FEW_POSITIVES, Targets
from labelr.model.calibration import decide
from labelr.model.predict import Probs
from labelr.scoring import bootstrap, metrics
from labelr.scoring.metrics import FloatArray
from labelr.scoring.thresholds import DEFAULT_THRESHOLD, Thresholds

GUESSES = 1000
"""Random guesses are made for at least so many images, so that the baseline is not itself left to chance."""
AVERAGES = ("micro", "macro", "weighted", "samples")
COLUMNS = (
    "label", "support", "predicted", "tp", "fp", "fn", "tn", "precision", "recall", "f1", "ap", "auroc", "threshold",
)  # fmt: skip
"""The columns of the table of labels."""


@dataclass(frozen=True)
class Evaluation:
    """How well a model does on N images with L labels.

    Attributes:
        labels: L label names.
        probs: Calibrated probabilities, shape ``(N, L)``.
        targets: 1, 0 or NaN (unknown), shape ``(N, L)``.
        thresholds: A label applies where its probability is at least this, shape ``(L,)``.
        fitted: The model's own thresholds, shape ``(L,)``, which may be the same.
        prevalence: The share of images with each label where the model comes from, shape ``(L,)``.
        files: N image files as the label file names them.
        model: The model's directory.
        data: The label file.
        threshold: ``"auto"`` where `thresholds` are the model's own, else the number that they all are, or their file.
        sort: The column that the table of labels is sorted by; None keeps the model's order.
        paths: Where the N image files lie; only numbers can be had where it is empty.
        digests: SHA-256 of each image file, N of them; or none.
    """

    labels: tuple[str, ...]
    probs: Probs
    targets: Targets
    thresholds: Thresholds
    fitted: Thresholds
    prevalence: FloatArray
    files: tuple[str, ...]
    model: str = ""
    data: str = ""
    threshold: str | float = "auto"
    sort: str | None = None
    paths: tuple[Path, ...] = ()
    digests: tuple[str, ...] = ()

    def joined(self, other: Self) -> Self:
        """This evaluation with the images of another one behind its own; both are of the same labels."""
        return replace(
            self,
            probs=np.concatenate([self.probs, other.probs]),
            targets=np.concatenate([self.targets, other.targets]),
            files=self.files + other.files,
            paths=self.paths + other.paths,
            digests=self.digests + other.digests,
        )

    @cached_property
    def metrics(self) -> dict[str, float]:
        """All metrics by name; NaN where nothing can be evaluated."""
        return metrics.score(self.probs, self.targets, self.thresholds)

    @cached_property
    def intervals(self) -> dict[str, tuple[float, float]]:
        """The 95 % interval of each headline metric; see `bootstrap.intervals`."""
        return bootstrap.intervals(self.probs, self.targets, self.thresholds)

    @cached_property
    def baselines(self) -> dict[str, dict[str, float]]:
        """All metrics of those who do not look at the images; they too write what is probable from 0.5 on.

        ``prior`` takes each label for as probable as it is frequent, ``random`` any probability, all alike.
        """
        often = -(-GUESSES // max(len(self.probs), 1))
        targets = np.tile(self.targets, (often, 1))
        guesses = np.random.default_rng(0).random(targets.shape)
        prior = np.broadcast_to(self.prevalence, self.probs.shape)
        return {
            "prior": metrics.score(prior, self.targets, DEFAULT_THRESHOLD),
            "random": metrics.score(guesses, targets, DEFAULT_THRESHOLD),
        }

    @property
    def f1_at(self) -> dict[str, dict[str, float]]:
        """F1 by average, at 0.5 and at the model's own thresholds."""
        found = {}
        for name, thresholds in (("0.5", DEFAULT_THRESHOLD), ("auto", self.fitted)):
            scores = metrics.averages(decide(self.probs, thresholds), self.targets)
            found[name] = {average: scores[f"f1_{average}"] for average in AVERAGES}
        return found

    @property
    def not_evaluable(self) -> list[str]:
        """The labels that have no positive or no negative here; macro averages leave them out."""
        usable = metrics.evaluable(self.targets)
        return [label for label, one in zip(self.labels, usable, strict=True) if not one]

    @property
    def few_positives(self) -> list[str]:
        """The labels whose scores say little."""
        support = (self.targets == 1).sum(axis=0)
        return [label for label, one in zip(self.labels, support, strict=True) if one < FEW_POSITIVES]

    @cached_property
    def per_label(self) -> list[dict[str, Any]]:
        """A row of `COLUMNS` for each label; NaN where not evaluable. Sorted numbers begin with the highest."""
        counts = metrics.confusion(decide(self.probs, self.thresholds), self.targets, axis=0)
        columns = {name: getattr(counts, name) for name in COLUMNS[1:10]}
        columns["ap"] = metrics.average_precision(self.probs, self.targets)
        columns["auroc"] = metrics.auroc(self.probs, self.targets)
        columns["threshold"] = self.thresholds
        usable = metrics.evaluable(self.targets)
        rows = []
        for index, label in enumerate(self.labels):
            row: dict[str, Any] = {name: column[index].item() for name, column in columns.items()}
            if not usable[index]:
                row |= {"precision": math.nan, "recall": math.nan, "f1": math.nan}
            rows.append({"label": label, **row})
        return sort_rows(rows, self.sort)

    def to_json(self) -> dict[str, Any]:
        """Images, labels, scores and the table of labels, ready for JSON: what is not evaluable is None."""
        report = {
            "model": self.model,
            "data": self.data,
            "images": len(self.probs),
            "labels": list(self.labels),
            "threshold": self.threshold,
            "metrics": self.metrics,
            "intervals": self.intervals,
            "baselines": self.baselines,
            "f1_at": self.f1_at,
            "not_evaluable": self.not_evaluable,
            "few_positives": self.few_positives,
            "per_label": self.per_label,
        }
        return {key: without_nan(value) for key, value in report.items()}


def sort_rows(rows: list[dict[str, Any]], by: str | None) -> list[dict[str, Any]]:
    """The rows by one of their columns: names from A, numbers from the highest, what is NaN last."""
    if by is None:
        return rows
    if by == "label":
        return sorted(rows, key=lambda row: str(row["label"]))
    return sorted(rows, key=lambda row: math.inf if math.isnan(row[by]) else -row[by])


def without_nan(value: Any) -> Any:
    """A value with None in place of every NaN in it, which JSON does not know."""
    if isinstance(value, dict):
        return {key: without_nan(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [without_nan(item) for item in value]
    return None if isinstance(value, float) and math.isnan(value) else value
