"""Checks a data set: what labelr understands of it, what is wrong with it, and its label file corrected."""

import re
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from labelr.buckets.addresses import address_of
from labelr.config import ReadOptions, TrainConfig
from labelr.data.dataset import Dataset
from labelr.data.duplicates import group_images
from labelr.data.formats import listed, wide
from labelr.data.formats.columns import Columns
from labelr.data.formats.layouts import recognise
from labelr.data.formats.source import Source
from labelr.data.formats.table import CHANGES
from labelr.data.formats.words import EMPTY, MARKS, NOT_KNOWN, NOTHING, Mark
from labelr.data.label_table import FEW_POSITIVES, SPLITS, look_alikes
from labelr.data.load import read_labels
from labelr.data.locate import Data, locate_data, with_label_table
from labelr.data.splits import split_dataset
from labelr.errors import LabelrError, pluralize, preview, preview_reasons
from labelr.files import write_atomically
from labelr.frames import as_html, text_index
from labelr.processors import count_processors
from labelr.progress import Track, untracked
from labelr.serialization import rows_text

if TYPE_CHECKING:
    import pandas as pd

ROWS = frozenset({"wide", "tags", "long", "classes"})
"""The layouts of which a row of the table is corrected; others may say of an image in several rows what is unknown."""
MAX_NAME = 60
"""A longer label is probably a sentence."""
MEANINGS = {1.0: "1", 0.0: "0"}
"""How the corrected table writes what is known; ``?`` for unknown."""


class Change(NamedTuple):
    """What was changed in a row, or why it was left out.

    Attributes:
        row: The number of the row in the label file; None for a file that is not a table.
        filename: The image, as the corrected table names it; empty where the row is left out.
        change: What was changed.
    """

    row: int | None
    filename: str
    change: str


class FixedTable(NamedTuple):
    """A corrected label file: its rows with the header first, and all changes, those of left out rows included."""

    rows: list[list[str]]
    changes: list[Change]

    def write(self, path: Path) -> None:
        """Writes the table as a CSV. Raises LabelrError if that is not possible."""
        write_atomically(path, rows_text(self.rows))


@dataclass(frozen=True)
class Check:
    """What labelr understands of a data set, and what is wrong with it.

    Attributes:
        dataset: The N images that open, split as `fit` would split them, with the findings of reading them.
        options: How it was read.
    """

    dataset: Dataset
    options: ReadOptions

    @cached_property
    def fixed(self) -> FixedTable:
        """The corrected label file: for a table the same columns, for another file one column a label.

        Rows are left out whose image does not exist or open, that have another number of cells than the header, or the
        same cells as an earlier row, and those of images whose rows differ. Cells that are neither yes nor no are
        emptied.
        """
        columns = _columns_of(self.dataset, self.options)
        return _fix_names(self.dataset) if columns is None else _fix_table(self.dataset, columns, self.options)

    @cached_property
    def per_label(self) -> "pd.DataFrame":
        """One row per label, by the index ``label``.

        Columns: the numbers of its images ``positives``, ``negatives`` and ``unknown``, and of its positives in each
        split: ``train``, ``val`` and ``test``.
        """
        import pandas as pd

        table = pd.DataFrame(self.label_rows)
        return table.set_index(text_index(self.dataset.labels, "label")).drop(columns="label")

    @cached_property
    def label_rows(self) -> list[dict[str, Any]]:
        """A row for each label: its positives, negatives and unknown images, and its positives in each split."""
        dataset = self.dataset
        positives = {split: dataset.split(split).positives for split in SPLITS}
        return [
            {"label": label, **counts, **{split: int(positives[split][column]) for split in SPLITS}}
            for column, (label, counts) in enumerate(dataset.counts.items())
        ]

    @property
    def rare(self) -> list[str]:
        """The labels with too few positives to be learned."""
        return [row["label"] for row in self.label_rows if row["positives"] < FEW_POSITIVES]

    @property
    def not_evaluable(self) -> list[str]:
        """The labels without a positive or a negative in the split that a model would be scored on."""
        test = self.dataset.split("test")
        targets = (test if len(test) else self.dataset.split("val")).targets
        evaluable = (targets == 1).any(axis=0) & (targets == 0).any(axis=0)
        return [label for label, usable in zip(self.dataset.labels, evaluable, strict=True) if not usable]

    @property
    def duplicates(self) -> list[list[str]]:
        """Groups of files that are byte-identical."""
        return self._group_files(self.dataset.digests)

    @property
    def near_duplicates(self) -> list[list[str]]:
        """Groups of images that look alike and are not all byte-identical."""
        groups = group_images(self.dataset.digests, self.dataset.fingerprints).tolist()
        digests = dict(zip(self.dataset.files, self.dataset.digests, strict=True))
        return [files for files in self._group_files(groups) if len({digests[file] for file in files}) > 1]

    def _group_files(self, keys: Sequence[object]) -> list[list[str]]:
        groups = defaultdict(list)
        for file, key in zip(self.dataset.files, keys, strict=True):
            groups[key].append(file)
        return [files for files in groups.values() if len(files) > 1]

    def disagreeing(self, groups: Sequence[Sequence[str]]) -> list[dict[str, Any]]:
        """The groups of files whose labels differ, and the labels in question."""
        rows = {file: row for row, file in enumerate(self.dataset.files)}
        found = []
        for files in groups:
            targets = self.dataset.targets[[rows[file] for file in files]]
            differs = (targets == 1).any(axis=0) & (targets == 0).any(axis=0)
            if differs.any():
                labels = [self.dataset.labels[column] for column in np.flatnonzero(differs)]
                found.append({"files": list(files), "labels": labels})
        return found

    def to_json(self) -> dict[str, Any]:
        """Everything that was found, ready for JSON; ``problems`` are the sentences that need attention."""
        dataset, findings = self.dataset, self.dataset.findings
        exact, near = self.duplicates, self.near_duplicates
        found: dict[str, Any] = {
            "source": str(address_of(dataset.source) or dataset.source),
            "layout": dataset.layout,
            "notes": list(findings.notes),
            "images": len(dataset),
            "labels": list(dataset.labels),
            "per_label": self.label_rows,
            "rare": self.rare,
            "not_evaluable": self.not_evaluable,
            "suspicious_labels": suspicious_labels(dataset.labels),
            "missing": list(findings.missing),
            "similar": {name: text for name, text in zip(findings.missing, findings.similar, strict=True) if text},
            "unlisted": list(findings.unlisted),
            "unlabelled": list(findings.unlabelled),
            "invalid": list(findings.invalid),
            "unconfirmed": list(findings.unconfirmed),
            "unreadable_folders": [
                {"folder": folder, "reason": reason} for folder, reason in findings.unreadable_folders
            ],
            "unreadable": [{"file": file, "reason": reason} for file, reason in dataset.unreadable.items()],
            "duplicates": exact,
            "near_duplicates": near,
            "disagreeing": self.disagreeing(exact) + self.disagreeing(near),
            "sizes": _sizes([(scan.width, scan.height) for scan in dataset.scans]),
            "formats": dict(Counter(scan.format for scan in dataset.scans).most_common()),
            "value_range": asdict(dataset.value_range),
            "modes": dict(Counter(scan.mode for scan in dataset.scans).most_common()),
            "fixes": [change._asdict() for change in self.fixed.changes],
            "split": {split: len(dataset.split_rows(split)) for split in SPLITS},
        }
        return {**found, "problems": _problems(found, findings.described_missing)}

    def __repr__(self) -> str:
        return f"<Check of {self.dataset.description}>"

    def _repr_html_(self) -> str:
        found = self.to_json()
        facts = {
            "Source": found["source"],
            "Layout": found["layout"],
            "Images": f"{found['images']:,}",
            "Split": ", ".join(f"{count:,} {split}" for split, count in found["split"].items()),
            "Needs attention": None if found["problems"] else "nothing",
        }
        return as_html("Check", facts, self.per_label, points=found["problems"])


def check(
    data: Data, options: TrainConfig | Mapping[str, Any] | None = None, *, track: Track = untracked, **settings: Any
) -> Check:
    """Reads a data set as `fit` would, changes nothing, and continues where `fit` would stop.

    Args:
        data: A folder of labelled images, or other data as in `fit`.
        options: How it is read and split.
        track: Replaces the progress bars of a terminal or a notebook; ``progress=False`` shows none.
        settings: Settings by name; they take precedence over `options`.

    Raises:
        LabelrError: If the label files cannot be understood, or no image opens.
    """
    data, settings = with_label_table(data, settings)
    folders, config = locate_data(data, replace(TrainConfig.of(options, **settings), skip_invalid=True))
    listed = read_labels(folders, config)
    dataset = listed.scanned(config, threads=config.workers or count_processors(), track=track)
    if not len(dataset):
        raise LabelrError(
            f"none of {pluralize(len(listed), 'image')} can be opened: {preview_reasons(dataset.unreadable)}",
            "repair or replace them",
        )
    return Check(split_dataset(dataset, config), config)


def suspicious_labels(labels: Sequence[str]) -> list[dict[str, str]]:
    """The labels that may be mistakes, each with the reason."""
    found = [{"label": label, "reason": reason} for label in labels if (reason := _oddity(label))]
    alike = [{"label": label, "reason": f"like {preview(group)}"} for group in look_alikes(labels) for label in group]
    return found + alike


def _oddity(label: str) -> str:
    tests = {
        "a number": re.fullmatch(r"-?[\d.]+", label),
        "the value of a cell": label.lower() in MARKS,
        "means that there is nothing": label.lower() in NOTHING - EMPTY,
        "means that it is not known": label.lower() in NOT_KNOWN,
        "a column without a name": re.match(r"unnamed: ?\d", label, re.IGNORECASE),
        "contains a separator": re.search(r"[|;,\t\n]", label),
        "starts or ends with a quote or bracket": re.search(r"^[\[{\"']|[\]}\"']$", label),
        "a file or URL": re.search(r"://|\.(jpe?g|png)$", label, re.IGNORECASE),
        f"longer than {MAX_NAME} characters": len(label) > MAX_NAME,
    }
    return next((reason for reason, holds in tests.items() if holds), "")


def _sizes(sizes: Sequence[tuple[int, int]]) -> dict[str, list[int]]:
    """The smallest, median and largest image by area, as width and height in pixels."""
    ordered = sorted(sizes, key=lambda size: (size[0] * size[1], size))
    places = {"smallest": 0, "median": len(ordered) // 2, "largest": -1}
    return {name: list(ordered[place]) for name, place in places.items()}


def _problems(found: Mapping[str, Any], missing: Sequence[str]) -> list[str]:
    """What needs attention, one sentence each."""
    disagreeing = [
        f"{' and '.join(group['files'][:2])} on {preview(group['labels'])}" for group in found["disagreeing"]
    ]
    unreadable = {image["file"]: image["reason"] for image in found["unreadable"]}
    folders = {place["folder"]: place["reason"] for place in found["unreadable_folders"]}
    suspicious = [f"{label['label']!r} ({label['reason']})" for label in found["suspicious_labels"]]
    kinds: dict[str, Sequence[str] | Mapping[str, str]] = {
        "images that are listed but do not exist, on which `fit` stops without `--skip-missing`": missing,
        "folders that cannot be listed": folders,
        "images that are not listed": found["unlisted"],
        "images without a known label": found["unlabelled"],
        "images whose labels are predictions that nobody corrected or confirmed": found["unconfirmed"],
        "rows that cannot be understood, on which `fit` stops without `--skip-invalid`": found["invalid"],
        "images that cannot be opened": unreadable,
        "copies or near-duplicates whose labels differ": disagreeing,
        f"labels with fewer than {FEW_POSITIVES} positives, too few to learn": found["rare"],
        "labels without a positive or a negative to score": found["not_evaluable"],
        "labels with an unusual name": suspicious,
    }
    return [
        f"{kind} ({len(items):,}): {preview_reasons(items) if isinstance(items, Mapping) else preview(items)}"
        for kind, items in kinds.items()
        if items
    ]


# --- corrections ------------------------------------------------------------------------------------------------------


def _columns_of(dataset: Dataset, options: ReadOptions) -> Columns | None:
    """The columns of the label file if it is one whose rows are images, or images with a label; else None."""
    if dataset.source.is_dir():
        return None
    source = Source(dataset.source, dataset.root, replace(options, skip_invalid=True))
    layouts = recognise(source)[1] if options.layout == "auto" else (options.layout,)
    return source.columns if ROWS.issuperset(layouts) else None


def _fix_names(dataset: Dataset) -> FixedTable:
    """The labels of a file that is not a table, or of several, with the names of the images as they are."""
    extra = {
        name: column
        for name, column in (("group", dataset.groups), ("split", dataset.named_splits))
        if column and name not in dataset.labels
    }
    unknown = "" if (dataset.targets == 0).any() else "?"  # where no cell says no, an empty one would
    marks = np.where(np.isnan(dataset.targets), unknown, np.where(dataset.targets == 1, "1", "0")).tolist()
    names = {file: name for name, file in dataset.findings.matched.items()}
    texts = {file: _name_change(names.get(file, file), file) for file in dataset.files}
    changes = [Change(None, file, text) for file, text in texts.items() if text]
    rows = [
        [file, *own, *cells, texts[file]]
        for file, cells, *own in zip(dataset.files, marks, *extra.values(), strict=True)
    ]
    changes += [Change(None, "", f"{name} left out: the image does not exist") for name in dataset.findings.missing]
    return FixedTable([["filename", *extra, *dataset.labels, CHANGES], *rows], changes)


def _fix_table(dataset: Dataset, columns: Columns, options: ReadOptions) -> FixedTable:
    table, matched = columns.table, dataset.findings.matched
    invalid = columns.find_invalid(unique=not dataset.layout.startswith(listed.LONG))
    names = {name for row, name in enumerate(columns.names) if row not in invalid}
    count = Counter(matched[name] for name in names if name in matched)
    left_out = {
        row: reason
        for row, name in enumerate(columns.names)
        if (reason := invalid.get(row) or _why_left_out(dataset, count, name, matched.get(name, "")))
    }
    kept = [row for row in range(len(columns.names)) if row not in left_out]
    corrected = _correct_marks(dataset, columns, kept, options)
    rows = [[*table.header, CHANGES]]
    changes = [Change(number, "", f"left out: {reason}") for number, reason in table.invalid.items()]
    changes += [Change(table.numbers[row + 1], "", f"left out: {reason}") for row, reason in left_out.items()]
    changes += [Change(number, "", "left out: it has the same cells as an earlier row") for number in columns.copies]
    for row in kept:
        name, fixed = columns.names[row], list(table.body[row])
        file, texts = matched[name], corrected.get(row, {})
        own = [text for text in (_name_change(name, file),) if text]
        own += [_cell_change(fixed[column], text, table.header[column]) for column, text in texts.items()]
        for column, text in texts.items():
            fixed[column] = text
        _set_name(fixed, columns, file)
        rows.append([*fixed, "; ".join(own)])
        changes += [Change(table.numbers[row + 1], file, text) for text in own]
    return FixedTable(rows, sorted(changes, key=lambda change: change.row or 0))


def _correct_marks(
    dataset: Dataset, columns: Columns, kept: Sequence[int], options: ReadOptions
) -> Mapping[int, Mapping[int, str]]:
    """The corrected cells of marks by row and column: those that are neither yes nor no are emptied.

    An empty cell and -1 mean what they mean by the rest of the table: cells that would mean another thing without the
    rows that are left out are written as 1, 0 or ?.
    """
    if dataset.layout.startswith(wide.DESCRIPTION):
        marks = wide.read_marks(columns)
    elif dataset.layout.startswith(wide.CLASSES):
        marks = wide.mark_columns(columns)
    else:
        return {}
    is_invalid = marks.codes[kept] == Mark.OTHER
    codes = np.where(is_invalid, Mark.BLANK, marks.codes[kept])
    before, _ = wide.to_targets(columns.table, marks, options)
    try:
        after, _ = wide.to_targets(columns.table, wide.Marks(marks.columns, codes), options)
    except LabelrError:  # what -1 means is no longer clear
        after = np.where((codes == Mark.MINUS) | (codes == Mark.BLANK), np.inf, before[kept])
    differs = ~((before[kept] == after) | (np.isnan(before[kept]) & np.isnan(after)))
    corrected: dict[int, dict[int, str]] = defaultdict(dict)
    for index, label in np.argwhere(is_invalid | differs).tolist():
        text = MEANINGS.get(float(before[kept[index], label]), "?") if differs[index, label] else ""
        corrected[kept[index]][marks.columns[label]] = text
    return corrected


def _cell_change(cell: str, text: str, column: str) -> str:
    return f'{f"written as {text}" if text else "emptied"}: "{cell}" in the column "{column}"'


def _why_left_out(dataset: Dataset, count: Counter[str], name: str, file: str) -> str:
    if not file:
        return f"{name or 'its image'} does not exist"
    if file in dataset.unreadable:
        return f"{file} cannot be opened ({dataset.unreadable[file]})"
    return f"{file} is listed under several names" if count[file] > 1 else ""


def _name_change(name: str, file: str) -> str:
    return "" if name == file else f'file name corrected: "{name}" is {file}'


def _set_name(cells: list[str], columns: Columns, file: str) -> None:
    """Writes the name of an image into its cells; with a column of folders, its folder there."""
    if columns.others:
        path = PurePosixPath(file)
        for number in columns.others:
            cells[number] = ""
        cells[columns.others[0]] = "" if path.parent == PurePosixPath() else str(path.parent)
        file = path.name
    cells[columns.file] = file
