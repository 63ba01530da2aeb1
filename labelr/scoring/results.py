"""The result of an evaluation: metrics and tables, computed when they are first used, and the files of them."""

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from numpy.typing import NDArray

from labelr import files, serialization
from labelr.data.dataset import Findings
from labelr.data.label_table import FEW_POSITIVES, Targets
from labelr.errors import pluralize
from labelr.frames import as_html, format_number, text_index
from labelr.model.calibration import decide
from labelr.model.info import DAMAGED_HINT
from labelr.model.predictor import Probs
from labelr.model.store import ERRORS_FILE, METRICS_FILE, PREDICTIONS_FILE
from labelr.scoring import bootstrap, metrics
from labelr.scoring.metrics import METRIC_NAMES, FloatArray, Suspects, find_suspects
from labelr.scoring.thresholds import DEFAULT_THRESHOLD, Thresholds

if TYPE_CHECKING:
    import pandas as pd

PER_LABEL_FILE = "per_label.csv"
MIN_GUESSES = 1000
"""The random baseline repeats small sets of images up to this number, so that its own value varies little."""
AVERAGES = ("micro", "macro", "weighted", "samples")
COLUMNS = (
    "label", "support", "predicted", "tp", "fp", "fn", "tn", "precision", "recall", "f1", "ap", "auroc", "threshold",
)  # fmt: skip
"""The columns of the table of labels."""
PREDICTION_KINDS = ("target", "probability", "prediction")
"""The columns of each label in the table of predictions."""
SUSPECT_COLUMNS = ("filename", "label", "given", "probability", "rank")
NUM_DESCRIBED = 3
"""Metrics in the line that describes a result."""


@dataclass(frozen=True)
class Evaluation:
    """The evaluation of a model on N images with L labels.

    Attributes:
        labels: L label names.
        probs: Calibrated probabilities, shape ``(N, L)``.
        targets: 1, 0 or NaN (unknown), shape ``(N, L)``.
        thresholds: A label is predicted where its probability is at least this, shape ``(L,)``.
        model_thresholds: The model's own thresholds, which may be the same, shape ``(L,)``.
        prevalence: The prevalence of each label in the model's training data, shape ``(L,)``.
        files: N image files as the label file names them.
        model: The model's directory.
        data: The label file.
        threshold: ``"auto"`` if `thresholds` are the model's own, else their common value or the file they are from.
        sort: The column by which the table of labels is sorted; None keeps the model's order.
        paths: The paths of the N image files; may be empty where no report is written.
        digests: SHA-256 of each image file; may be empty.
        left_out: The number of further images that the model was ``trained_on``, and of ``near_duplicates`` of those.
    """

    labels: tuple[str, ...]
    probs: Probs
    targets: Targets
    thresholds: Thresholds
    model_thresholds: Thresholds
    prevalence: FloatArray
    files: tuple[str, ...]
    model: str = ""
    data: str = ""
    threshold: str | float = "auto"
    sort: str | None = None
    paths: tuple[Path, ...] = ()
    digests: tuple[str, ...] = ()
    left_out: Mapping[str, int] = field(default_factory=lambda: dict(Findings().left_out))

    def concat(self, other: Self) -> Self:
        """This evaluation with the images of another one of the same labels appended."""
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
        """All metrics by name; NaN where not evaluable."""
        return metrics.score(self.probs, self.targets, self.thresholds)

    @cached_property
    def intervals(self) -> dict[str, tuple[float, float]]:
        """The 95 % interval of each headline metric; see `bootstrap.intervals`."""
        return bootstrap.intervals(self.probs, self.targets, self.thresholds)

    @cached_property
    def baselines(self) -> dict[str, dict[str, float]]:
        """All metrics of two predictors that do not use the images, at a threshold of 0.5.

        ``prior`` predicts the prevalence of each label, ``random`` uniformly random probabilities.
        """
        repeats = -(-MIN_GUESSES // max(len(self.probs), 1))
        targets = np.tile(self.targets, (repeats, 1))
        guesses = np.random.default_rng(0).random(targets.shape)
        prior = np.broadcast_to(self.prevalence, self.probs.shape)
        return {
            "prior": metrics.score(prior, self.targets, DEFAULT_THRESHOLD),
            "random": metrics.score(guesses, targets, DEFAULT_THRESHOLD),
        }

    @property
    def f1_at(self) -> dict[str, dict[str, float]]:
        """F1 by average, at a threshold of 0.5 and at the model's own thresholds (``"auto"``)."""
        f1_at = {}
        for name, thresholds in (("0.5", DEFAULT_THRESHOLD), ("auto", self.model_thresholds)):
            scores = metrics.averages(decide(self.probs, thresholds), self.targets)
            f1_at[name] = {average: scores[f"f1_{average}"] for average in AVERAGES}
        return f1_at

    @property
    def not_evaluable(self) -> list[str]:
        """The labels without a positive or without a negative; macro averages leave them out."""
        return [label for label, ok in zip(self.labels, metrics.evaluable(self.targets), strict=True) if not ok]

    @property
    def few_positives(self) -> list[str]:
        """The labels with so few positives that their metrics are unreliable."""
        support = (self.targets == 1).sum(axis=0)
        return [label for label, count in zip(self.labels, support, strict=True) if count < FEW_POSITIVES]

    @cached_property
    def per_label(self) -> "pd.DataFrame":
        """``per_label.csv``: one row per label, by the index ``label``.

        Columns: counts ``support``, ``predicted``, ``tp``, ``fp``, ``fn`` and ``tn``; ``precision``, ``recall``,
        ``f1``, ``ap`` and ``auroc`` in [0, 1], NaN where not evaluable; ``threshold``.
        """
        import pandas as pd

        labels = [row["label"] for row in self.label_rows]
        return pd.DataFrame(self.label_rows, columns=COLUMNS[1:], index=text_index(labels, "label"))

    @cached_property
    def predictions(self) -> "pd.DataFrame":
        """``predictions.csv``: one row per image, by the index ``filename``.

        Columns of each label: ``LABEL:target`` (1, 0 or NaN where unknown), ``LABEL:probability`` in [0, 1], and
        ``LABEL:prediction`` (1 or 0).
        """
        import pandas as pd

        preds = decide(self.probs, self.thresholds).astype(np.int8)
        cells: tuple[NDArray[np.generic], ...] = (self.targets, self.probs, preds)
        columns = {
            f"{label}:{kind}": values[:, column]
            for column, label in enumerate(self.labels)
            for kind, values in zip(PREDICTION_KINDS, cells, strict=True)
        }
        return pd.DataFrame(columns, index=text_index(self.files, "filename"))

    @cached_property
    def label_rows(self) -> list[dict[str, Any]]:
        """A row of `COLUMNS` for each label; NaN where not evaluable."""
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

    @cached_property
    def suspects(self) -> Suspects:
        """The suspected label errors."""
        return find_suspects(self.probs, self.targets)

    def to_json(self) -> dict[str, Any]:
        """All results as in ``metrics.json``; None where not evaluable."""
        result = {
            "model": self.model,
            "data": self.data,
            "images": len(self.probs),
            "left_out": self.left_out,
            "labels": list(self.labels),
            "threshold": self.threshold,
            "metrics": self.metrics,
            "intervals": self.intervals,
            "baselines": self.baselines,
            "f1_at": self.f1_at,
            "not_evaluable": self.not_evaluable,
            "few_positives": self.few_positives,
            "per_label": self.label_rows,
        }
        return {key: serialization.without_nan(value) for key, value in result.items()}

    def __repr__(self) -> str:
        scores = describe_scores(self.metrics)
        return f"<Evaluation of {Path(self.model).name}: {self._size}; {scores}>"

    def _repr_html_(self) -> str:
        import pandas as pd

        facts = {"Model": self.model, "Data": self.data, "Size": self._size, "Thresholds": self.threshold}
        scores = pd.DataFrame([headline(self.metrics)], index=text_index(["value"], "metric"))
        return as_html("Evaluation", facts, scores, self.per_label)

    @property
    def _size(self) -> str:
        return f"{pluralize(len(self.probs), 'image')}, {pluralize(len(self.labels), 'label')}"


def headline(scores: Mapping[str, float]) -> dict[str, float]:
    """The main metrics by their names in tables."""
    return {METRIC_NAMES[name]: scores[name] for name in bootstrap.HEADLINE if name in scores}


def describe_scores(scores: Mapping[str, float]) -> str:
    """The first of the main metrics in a line."""
    return ", ".join(f"{name} {format_number(value)}" for name, value in [*headline(scores).items()][:NUM_DESCRIBED])


def sort_rows(rows: list[dict[str, Any]], by: str | None) -> list[dict[str, Any]]:
    """The rows sorted by a column: labels alphabetically, numbers from the highest, NaN last; None keeps the order."""
    if by is None:
        return rows
    if by == "label":
        return sorted(rows, key=lambda row: str(row["label"]))
    return sorted(rows, key=lambda row: math.inf if math.isnan(row[by]) else -row[by])


def read_metrics(folder: Path) -> dict[str, Any]:
    """The content of a model's ``metrics.json``, whose ``metrics`` and ``intervals`` are validated.

    Raises:
        LabelrError: If it cannot be read, or is damaged.
    """
    path = folder / METRICS_FILE
    content = serialization.read_json(path, dict[str, Any], DAMAGED_HINT)
    with files.reading(path, DAMAGED_HINT):
        serialization.convert(content["metrics"], dict[str, float | None])
        serialization.convert(content.get("intervals", {}), dict[str, tuple[float | None, float | None]])
    return content


def write_results(folder: Path, evaluation: Evaluation, errors_csv: str) -> None:
    """Writes ``metrics.json``, ``per_label.csv``, ``predictions.csv`` and ``errors.csv``, each atomically.

    The directory is created if necessary.

    Raises:
        LabelrError: If a file cannot be written.
    """
    files.make_folder(folder)
    rows = [serialization.without_nan(row) for row in evaluation.label_rows]
    table = ([row[name] for name in COLUMNS] for row in rows)
    files.write_atomically(folder / PER_LABEL_FILE, serialization.csv_text(COLUMNS, table))
    files.write_atomically(folder / PREDICTIONS_FILE, predictions_csv(evaluation))
    files.write_atomically(folder / ERRORS_FILE, errors_csv)
    files.write_atomically(folder / METRICS_FILE, serialization.json_text(evaluation.to_json()))


def predictions_csv(evaluation: Evaluation, extra: Mapping[str, Sequence[object]] | None = None) -> str:
    """A table with one row per image: target (empty if unknown), probability and prediction of each label.

    Probabilities have all digits of a float32, so that every metric can be computed from the table. `extra` columns, N
    values each, follow the file name.
    """
    extra = extra or {}
    header = [f"{label}:{kind}" for label in evaluation.labels for kind in PREDICTION_KINDS]
    preds = decide(evaluation.probs, evaluation.thresholds)
    extra_rows = zip(*extra.values(), strict=True) if extra else [()] * len(preds)

    def rows() -> Iterator[list[object]]:
        for file, values, targets, probs, chosen in zip(
            evaluation.files, extra_rows, evaluation.targets, evaluation.probs, preds, strict=True
        ):
            cells = zip(targets.tolist(), probs.tolist(), chosen.astype(int).tolist(), strict=True)
            texts = (("" if np.isnan(target) else int(target), f"{prob:.9g}", pred) for target, prob, pred in cells)
            yield [serialization.escape_formula_in_path(file), *values, *(value for cell in texts for value in cell)]

    return serialization.csv_text(["filename", *extra, *header], rows())


def suspect_rows(evaluation: Evaluation, limit: int | None = None) -> Iterator[tuple[str, str, int, str, int]]:
    """A row of `SUSPECT_COLUMNS` for each suspected label error, or for the first `limit`."""
    suspects = evaluation.suspects
    cells = zip(suspects.rows[:limit].tolist(), suspects.columns[:limit].tolist(), strict=True)
    for rank, (row, column) in enumerate(cells, start=1):
        given, prob = int(evaluation.targets[row, column]), evaluation.probs[row, column]
        yield evaluation.files[row], evaluation.labels[column], given, f"{prob:.6f}", rank


def write_suspects(path: Path, evaluation: Evaluation) -> None:
    """Writes all suspected label errors as a table with the columns `SUSPECT_COLUMNS`.

    Raises:
        LabelrError: If it cannot be written.
    """
    rows = ((serialization.escape_formula_in_path(file), *rest) for file, *rest in suspect_rows(evaluation))
    files.write_atomically(path, serialization.csv_text(SUSPECT_COLUMNS, rows))


def is_suspects_table(path: Path) -> bool:
    """Whether a file starts as `write_suspects` writes it."""
    header = serialization.csv_text(SUSPECT_COLUMNS, ()).encode()
    with suppress(OSError), files.open_regular(path) as file:
        return file.read(len(header)) == header
    return False
