"""Several data folders as one data set, and images that label files list more than once."""

import os
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from labelr.data.dataset import Dataset, Findings
from labelr.data.label_table import note_missing_labels, relative_name, spread_targets
from labelr.errors import LabelrError, pluralize, preview
from labelr.files import common_folder


def join_datasets(datasets: Sequence[Dataset]) -> Dataset:
    """Several folders, without a common image, as one data set: a label that one does not name is unknown there."""
    root = common_folder(Path(os.path.abspath(dataset.root)) for dataset in datasets)
    labels = tuple(dict.fromkeys(label for dataset in datasets for label in dataset.labels))
    files = [file for dataset in datasets for file in _relocate(dataset.files, dataset.root, root)]
    if repeated := find_repeated(files, files):
        raise repeated_error(root, repeated, "name folders that have no images in common")
    listed = set(files)
    unlisted = [file for dataset in datasets for file in _relocate(dataset.findings.unlisted, dataset.root, root)]
    notes = [f"{dataset.source}: {note}" for dataset in datasets for note in dataset.findings.notes]
    for dataset in datasets:
        notes += note_missing_labels(dataset.labels, labels, str(dataset.source))
    if len({dataset.named_splits is None for dataset in datasets}) > 1:
        notes.append("images of folders without splits count as train")
    findings = Findings(
        missing=tuple(name for dataset in datasets for name in dataset.findings.missing),
        similar=tuple(text for dataset in datasets for text in dataset.findings.similar),
        unlisted=tuple(file for file in unlisted if file not in listed),
        invalid=tuple(reason for dataset in datasets for reason in dataset.findings.invalid),
        unconfirmed=tuple(name for dataset in datasets for name in dataset.findings.unconfirmed),
        unreadable_folders=tuple(
            (relative_name(Path(os.path.abspath(dataset.root / folder)), root), reason)
            for dataset in datasets
            for folder, reason in dataset.findings.unreadable_folders
        ),
        passed_over=tuple(note for dataset in datasets for note in dataset.findings.passed_over),
        notes=tuple(notes),
        columns=frozenset().union(*(dataset.findings.columns for dataset in datasets)),
    )
    return Dataset(
        source=root,
        layout=f"{len(datasets)} folders: " + "; ".join(dict.fromkeys(dataset.layout for dataset in datasets)),
        root=root,
        files=tuple(files),
        labels=labels,
        targets=np.concatenate([
            spread_targets(dataset.labels, dataset.targets, labels, closed=False) for dataset in datasets
        ]),
        groups=_join_columns([dataset.groups for dataset in datasets], datasets, ""),
        named_splits=_join_columns([dataset.named_splits for dataset in datasets], datasets, "train"),
        findings=findings,
    )  # fmt: skip


def _relocate(files: Sequence[str], folder: Path, root: Path) -> list[str]:
    return [relative_name(Path(os.path.abspath(folder / file)), root) for file in files]


def _join_columns(
    columns: Sequence[tuple[str, ...] | None], datasets: Sequence[Dataset], default: str
) -> tuple[str, ...] | None:
    """The concatenated columns, `default` where a data set has none; None if none of them has any."""
    if all(column is None for column in columns):
        return None
    filled = (column or (default,) * len(dataset) for column, dataset in zip(columns, datasets, strict=True))
    return tuple(value for column in filled for value in column)


def find_repeated(files: Sequence[str | None], names: Sequence[str]) -> dict[str, str]:
    """The image files that several names mean, each with these names if they differ, for messages."""
    names_of = defaultdict(list)
    for file, name in zip(files, names, strict=True):
        if file is not None:
            names_of[file].append(name)
    return {
        file: f"{file} (as {' and '.join(several)})" if len(set(several)) > 1 else file
        for file, several in names_of.items()
        if len(several) > 1
    }


def repeated_error(source: Path, repeated: Mapping[str, str], hint: str) -> LabelrError:
    """The error where names of images that `find_repeated` has found are listed more than once."""
    images = pluralize(len(repeated), "image")
    return LabelrError(f"{source} lists {images} more than once: {preview(list(repeated.values()))}", hint)
