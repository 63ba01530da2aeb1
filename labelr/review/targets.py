"""What is reviewed: the output of `labelr tag`, a labelled data set, or a table of some of its images."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from labelr import files
from labelr.buckets.mirror import local
from labelr.config import ReadOptions
from labelr.data.formats.layouts import read_source
from labelr.data.formats.source import Source
from labelr.data.label_table import normalize_name
from labelr.data.load import read_with_unlabelled
from labelr.data.predicted import JOURNAL, REVIEWED_FILE, UNFILLED_FILE, read_results
from labelr.errors import LabelrError, pluralize, preview
from labelr.fields import SettingError
from labelr.model import store
from labelr.review.journal import AnswerLog
from labelr.scoring.results import SUSPECT_COLUMNS

Codes = NDArray[np.int8]
NO, YES, UNKNOWN, NONE = 0, 1, 2, -1
"""What a cell holds: of a label file, NO, YES or NONE; of a person's answers, also UNKNOWN."""
FOLDER = ".labelr-review"
"""The folder of journals, beside the table that is written."""
LABELS_FILE = "labels.csv"
"""The table of labels in the output of `labelr tag`."""


@dataclass
class Target:
    """N images with L labels that are reviewed."""

    path: Path  # what the user named
    root: Path  # the folder that `names` are relative to
    names: list[str]  # of N image files
    labels: list[str]
    given: Codes  # (L, N), what the label file says: YES, NO or NONE
    table: Path  # the file that answers are written into
    options: ReadOptions  # how the label file is read
    probs: NDArray[np.float32] | None = None  # (L, N), of a model, NaN where there is none; None without a model
    predicted: Codes | None = None  # (L, N), as `probs`: YES, NO or NONE, which thresholds alone need not decide
    thresholds: NDArray[np.float64] = field(default_factory=lambda: np.empty(0))  # (L,), NaN where unknown
    source: Path | None = None  # the label file or folder that was read; None for the output of `labelr tag`
    data: Path | None = None  # the folder of the data set; None for the output of `labelr tag`
    model: str = ""  # the one that made `probs`; empty if that is unknown
    of_model: Mapping[str, str] = field(default_factory=dict)  # its names of labels that may be written by others
    layout: str = ""  # how the source was read
    matched: Mapping[str, str] = field(default_factory=dict)  # the image of each name in the label file
    splits: tuple[str, ...] | None = None  # of each image; None where the label file has none
    suspects: list[tuple[int, int]] | None = None  # image and label of those in a table, worst first; None without one
    uncertain: list[int] | None = None  # images in a table of uncertain images; None without one

    @property
    def journal(self) -> Path:
        """The file of answers."""
        return self.table.parent / FOLDER / f"{self.table.name}.jsonl"

    def numbers_by_name(self, model: str, known: Sequence[str]) -> dict[str, int]:
        """The numbers of the labels that a model knows, by what it calls them."""
        numbers: dict[str, int] = {}
        for number, label in enumerate(self.labels):  # a model that was trained on this table has the written names
            name = label if label in known and model != self.model else self.of_model.get(label, label)
            if name in known:
                numbers.setdefault(name, number)
        return numbers

    def lock(self, what: str) -> Path:
        """The lock for the journal, or for the table."""
        return self.table.parent / FOLDER / f"{self.table.name}.{what}.lock"


def read_target(path: Path, options: ReadOptions, *, data: Path | None = None) -> Target:
    """What a path means: a folder, or a table of suspected or uncertain images.

    A table is of `data`, a data set or the output of `labelr tag`; None for the folder of the table.

    Raises:
        LabelrError: If it does not exist or cannot be understood.
    """
    path = files.local_path(path)
    if not os.path.exists(path):
        raise LabelrError(
            f"{path} does not exist", "name a folder that `labelr tag` wrote, a labelled data set, or a table"
        )
    if path.is_dir() and data is not None:
        raise SettingError("`--data` is for a table of images", f"leave it out, or name a table instead of {path}")
    listed = None if path.is_dir() else _read_listed(path, options)
    folder = path if path.is_dir() else data or path.parent
    is_output = os.path.lexists(folder / JOURNAL) and not options.labels
    try:
        target = read_output(folder, options) if is_output else read_data(folder, options)
    except LabelrError as error:
        if path.is_dir() or data is not None:
            raise
        hint = f"name the data set that {path.name} is of with `--data DIR`"
        raise LabelrError(f"{folder}: {error.message}", hint) from error
    target.path = path
    if listed is not None:
        _add_listed(target, *listed)
    return target


def read_output(folder: Path, options: ReadOptions) -> Target:
    """The images that `labelr tag` tagged, with their probabilities; given is what ``labels.csv`` says otherwise."""
    settings, names, all_probs, predicted = read_results(folder)
    if not names or not settings:
        raise LabelrError(f"{folder} holds no results of `labelr tag`", "tag some images first")
    model = str(settings["model"])
    of_model = settings.get("model labels", settings["labels"])
    columns = _columns_of(model, of_model, all_probs.shape[1], folder)
    chosen = [n for n, label in enumerate(settings["labels"]) if is_wanted(label, options)]
    labels, columns = [settings["labels"][number] for number in chosen], columns[chosen]
    if not labels:
        raise LabelrError("no label is left", f"choose among {preview(settings['labels'], 10)}")
    root = local(options.images or settings["photos"])
    if not root.is_dir():
        raise LabelrError(f"the folder of the images, {root}, does not exist", "name it with `--images DIR`")
    probs = np.ascontiguousarray(all_probs.T[columns])
    row_of = {name: row for row, name in enumerate(predicted.names)}
    rows = [row_of[name] for name in names if name in row_of]
    if len(rows) < len(names):
        raise LabelrError(f"{folder} lacks the labels of some images", "run the same `labelr tag` command again")
    written = np.ascontiguousarray(predicted.applies[rows].T[chosen]).astype(np.int8)
    threshold = settings.get("threshold")
    if isinstance(threshold, (int, float)):
        thresholds = np.full(len(labels), float(threshold))
    else:  # the lowest probability with which a label was written; NaN for one that was not
        thresholds = np.where(written == YES, probs, np.inf).min(axis=1).astype(np.float64)
        thresholds[np.isinf(thresholds)] = np.nan
    given = _read_given(folder / LABELS_FILE, names, labels, options)
    given[given == written] = NONE
    return Target(
        folder, root, names, labels, given, folder / REVIEWED_FILE, options, probs, written, thresholds,
        model=model.rpartition(" ")[0], of_model=dict(zip(settings["labels"], of_model, strict=True)),
    )  # fmt: skip


def is_wanted(label: str, options: ReadOptions) -> bool:
    """Whether a label is among those that are reviewed."""
    return label not in options.exclude and (not options.only or label in options.only)


def _columns_of(model: str, labels: Sequence[str], num_probs: int, folder: Path) -> NDArray[np.int64]:
    """The columns of labels, by the model's names, among the probabilities of all labels of the model."""
    if num_probs == len(labels):
        return np.arange(num_probs)
    known = list(store.load_info(store.find(model.rpartition(" ")[0])).labels)
    if len(known) != num_probs or not {*labels} <= {*known}:
        raise LabelrError(f"{model} is no longer the model that tagged {folder}", "tag the images again")
    return np.array([known.index(label) for label in labels])


def _read_given(path: Path, names: Sequence[str], labels: Sequence[str], options: ReadOptions) -> Codes:
    """What ``labels.csv`` says of each label and image, which a person may have corrected."""
    given = np.full((len(labels), len(names)), NONE, np.int8)
    if not path.is_file():
        return given
    table = read_source(Source(path, path.parent, ReadOptions(max_cells=options.max_cells, layout="wide")))
    row_of = {name: row for row, name in enumerate(table.names)}
    pairs = [(number, row_of[name]) for number, name in enumerate(map(normalize_name, names)) if name in row_of]
    images, rows = np.array(pairs, np.int64).reshape(-1, 2).T
    column_of = {label: column for column, label in enumerate(table.labels)}
    for number, label in enumerate(labels):
        if label in column_of:
            given[number, images] = to_codes(table.targets[rows, column_of[label]])
    return given


def read_data(folder: Path, options: ReadOptions) -> Target:
    """The images of a labelled data set, those without a known label included.

    If answers about it are in a table beside the label file, the label file is that of the review which wrote it.
    """
    earlier = None if options.labels else reviewed_source(folder)
    dataset = read_with_unlabelled([folder], replace(options, labels=(str(earlier),)) if earlier else options)
    source, labels = dataset.source, list(dataset.labels)
    beside = source.parent if options.labels and not source.is_dir() else folder
    return Target(
        folder, dataset.root, list(dataset.files), labels, np.ascontiguousarray(to_codes(dataset.targets).T),
        beside / REVIEWED_FILE, replace(options, labels=(str(source),)),
        thresholds=np.full(len(labels), np.nan), source=source, data=folder, layout=dataset.layout,
        matched=dataset.findings.matched, splits=dataset.named_splits,
    )  # fmt: skip


def reviewed_source(folder: Path) -> Path | None:
    """The label file or folder of a data set that an earlier review read, and wrote answers about into a table."""
    entries = AnswerLog(folder / FOLDER / f"{REVIEWED_FILE}.jsonl").read()
    name = next((entry.get("source") for entry in entries), None)
    source = folder / name if isinstance(name, str) and name else None
    return source if source and (folder / REVIEWED_FILE).is_file() and os.path.exists(source) else None


def to_codes(targets: NDArray[np.floating]) -> Codes:
    """YES, NO or NONE for targets of 1, 0 and NaN, in the same shape."""
    return np.where(np.isnan(targets), NONE, targets).astype(np.int8)


def _read_listed(path: Path, options: ReadOptions) -> tuple[bool, list[list[str]]]:
    """Whether a table is of suspects, not of uncertain images, and its rows."""
    table = Source(path, path.parent, options, keep_spaces=True).require_table()
    if table.header[:3] == list(SUSPECT_COLUMNS[:3]):
        return True, table.body
    if path.name == UNFILLED_FILE and table.header[:1] == ["filename"]:
        return False, table.body
    raise LabelrError(
        f"{path} is neither a table of suspected label errors nor {UNFILLED_FILE}",
        "name the folder of the data set, and its label file with `--labels`",
    )


def _add_listed(target: Target, is_of_suspects: bool, rows: list[list[str]]) -> None:
    """Adds the cells or images of a table to a target."""
    image_of = {normalize_name(name): number for number, name in enumerate(target.names)}
    label_of = {label: number for number, label in enumerate(target.labels)}
    numbers = [(image_of.get(normalize_name(row[0])), row) for row in rows if row]
    missing = [row[0] for image, row in numbers if image is None]
    found = [(image, row) for image, row in numbers if image is not None]
    if not found:
        raise LabelrError(
            f"{target.path}: {pluralize(len(missing), 'image')} not in {target.data or target.root}: "
            f"{preview(missing)}",
            "name the data set that the table is of with `--data DIR`",
        )
    if not is_of_suspects:
        target.uncertain = [image for image, _ in found]
        return
    target.suspects = []
    if target.probs is None:
        target.probs = np.full(target.given.shape, np.nan, np.float32)
    for image, row in found:
        try:
            label, prob = row[1], float(row[3].replace(",", ".")) if len(row) > 3 else None
        except (IndexError, ValueError):
            label, prob = "", None
        if not label or not (prob is None or 0 <= prob <= 1):
            raise LabelrError(
                f"{target.path}: {row[0]} has no label, or a probability that is not between 0 and 1",
                "write the table again with `--suspects`",
            )
        if label in label_of:
            target.suspects.append((image, label_of[label]))
            target.probs[label_of[label], image] = np.nan if prob is None else prob
