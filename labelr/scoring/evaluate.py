"""Scores probabilities against the truth, and a saved model on labelled images."""

import logging
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from labelr.config import ReadOptions
from labelr.data.dataset import Dataset, as_folders
from labelr.data.labels import LabelTable, Targets
from labelr.data.splits import SPLITS_FILE, read_splits
from labelr.errors import LabelrError, nearest, some
from labelr.model import store
from labelr.model.decide import decide
from labelr.model.device import Machine
from labelr.model.predict import BATCH_SIZE, Model, Probs
from labelr.progress import Track, untracked
from labelr.scoring import metrics
from labelr.settings import SettingError

SPLITS = ("auto", "train", "val", "test", "all")
LEARNED = ("train", "val")
"""The parts that a model has learned from: its weights from one, its best epoch from the other."""

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Evaluation:
    """How well a model does on N images with L labels.

    Attributes:
        labels: L label names.
        probs: Shape ``(N, L)``.
        targets: 1, 0 or NaN (unknown), shape ``(N, L)``.
        thresholds: One for each label, shape ``(L,)``.
        model: The model's directory.
        data: The label file.
        threshold: ``"auto"`` where `thresholds` are the model's own, else the number that they all are.
    """

    labels: tuple[str, ...]
    probs: Probs
    targets: Targets
    thresholds: NDArray[np.float64]
    model: str = ""
    data: str = ""
    threshold: str | float = "auto"

    @property
    def metrics(self) -> dict[str, float]:
        """All metrics by name; NaN where nothing can be evaluated."""
        return metrics.score(self.probs, self.targets, self.thresholds)

    @property
    def not_evaluable(self) -> list[str]:
        """The labels that have no positive or no negative here; macro averages leave them out."""
        usable = metrics.evaluable(self.targets)
        return [label for label, one in zip(self.labels, usable, strict=True) if not one]

    @property
    def per_label(self) -> list[dict[str, Any]]:
        """A row for each label: support, precision, recall, F1, AP, threshold and counts; NaN where not evaluable."""
        counts = metrics.confusion(decide(self.probs, self.thresholds), self.targets, axis=0)
        precisions = metrics.average_precision(self.probs, self.targets)
        columns = {
            "support": counts.support, "precision": counts.precision, "recall": counts.recall, "f1": counts.f1,
            "ap": precisions, "threshold": self.thresholds,
            "tp": counts.tp, "fp": counts.fp, "fn": counts.fn, "tn": counts.tn,
        }  # fmt: skip
        usable = metrics.evaluable(self.targets)
        rows = []
        for index, label in enumerate(self.labels):
            row: dict[str, Any] = {name: column[index].item() for name, column in columns.items()}
            if not usable[index]:
                row |= {"precision": math.nan, "recall": math.nan, "f1": math.nan}
            rows.append({"label": label, **row})
        return rows

    def to_json(self) -> dict[str, Any]:
        """Images, labels, metrics and the table of labels, ready for JSON: what is not evaluable is None."""
        return {
            "model": self.model,
            "data": self.data,
            "images": len(self.probs),
            "labels": list(self.labels),
            "threshold": self.threshold,
            "metrics": without_nan(self.metrics),
            "not_evaluable": self.not_evaluable,
            "per_label": [without_nan(row) for row in self.per_label],
        }


def without_nan(values: dict[str, Any]) -> dict[str, Any]:
    """The values, None in place of NaN, which JSON does not know."""
    return {key: None if isinstance(value, float) and math.isnan(value) else value for key, value in values.items()}


def evaluate(
    data: str | Path | Sequence[str | Path],
    model: str | Path | Model | None = None,
    *,
    options: ReadOptions | Mapping[str, Any] | None = None,
    split: str = "auto",
    threshold: float | None = None,
    machine: Machine | None = None,
    track: Track = untracked,
) -> Evaluation:
    """Scores a saved model on labelled images.

    Args:
        data: A folder of labelled images, or several that are one data set.
        model: A name, a directory or a loaded model; None takes the newest complete one.
        options: How the data set is read.
        split: ``"auto"`` leaves out every image that the model has learned from, by content; ``"train"``, ``"val"``
            and ``"test"`` take the images of that part of its training run; ``"all"`` takes everything.
        threshold: A label applies where its probability is at least this; None takes the model's own thresholds.
        machine: What to run on; None picks it.
        track: Watches the progress.

    Raises:
        LabelrError: If model or data cannot be used, or no image is left.
    """
    if split not in SPLITS:
        raise SettingError(f"split: expected one of {', '.join(SPLITS)}, got {split!r}")
    loaded = model if isinstance(model, Model) else store.load(model, machine=machine)
    reading = ReadOptions.of(options)
    dataset = Dataset.load(as_folders(data), reading, threads=loaded.machine.workers, track=track)
    matched = replace(dataset, table=_with_model_labels(dataset.table, loaded))
    chosen = _choose_split(matched, loaded, split)
    return score_dataset(loaded, chosen, options=reading, threshold=threshold, track=track)


def score_dataset(
    model: Model,
    dataset: Dataset,
    *,
    options: ReadOptions | None = None,
    threshold: float | None = None,
    track: Track = untracked,
) -> Evaluation:
    """Scores a model on all images of a data set that has the model's labels.

    Raises:
        LabelrError: If an image does not open any more.
    """
    wanted = model.info.preprocessing
    pixels = dataset.pixels(
        wanted.image_size, rule=wanted.resize, options=options or ReadOptions(), threads=model.machine.workers,
        track=track,
    )  # fmt: skip
    batches = track(pixels.batches(BATCH_SIZE), "scoring", -(-len(pixels) // BATCH_SIZE))
    return Evaluation(
        model.labels,
        model.predict_pixels(batches),
        dataset.table.targets,
        model.thresholds(threshold),
        model=str(model.path),
        data=str(dataset.table.source.absolute()),
        threshold="auto" if threshold is None else threshold,
    )


def _with_model_labels(table: LabelTable, model: Model) -> LabelTable:
    """The table with the model's labels in the model's order."""
    missing = [label for label in model.labels if label not in table.labels]
    if missing:
        hint = nearest(missing[0], table.labels) or "name the label file of this model's labels with `--labels`"
        raise LabelrError(f"{table.source} lacks {len(missing)} of the model's labels: {some(missing)}", hint)
    unknown = [label for label in table.labels if label not in model.labels]
    if unknown:
        log.warning("the model does not know %s of the labels, which are not scored: %s", len(unknown), some(unknown))
    return table.with_labels(model.labels)


def _choose_split(dataset: Dataset, model: Model, split: str) -> Dataset:
    """The images to score, chosen by their content and the parts of the model's training run."""
    if split == "all":
        return dataset
    if not (model.path / SPLITS_FILE).is_file():
        raise LabelrError(
            f"{model.path} has no {SPLITS_FILE}, which says what it has learned from",
            "restore it, or score all images with `--split all`",
        )
    recorded = read_splits(model.path / SPLITS_FILE)
    named = {row.digest for row in recorded if row.part in (LEARNED if split == "auto" else (split,))}
    rows = [row for row, digest in enumerate(dataset.digests) if (digest in named) != (split == "auto")]
    if not rows:
        what = (
            "the model has learned from every image" if split == "auto" else f"no image is in the model's {split} part"
        )
        raise LabelrError(f"nothing to score: {what}", "score all images with `--split all`")
    left_out = len(dataset.table) - len(rows)
    if left_out:
        why = "that the model has learned from" if split == "auto" else f"that are not in the model's {split} part"
        log.info("%s of %s images %s are left out", f"{left_out:,}", f"{len(dataset.table):,}", why)
    return dataset.take(rows)
