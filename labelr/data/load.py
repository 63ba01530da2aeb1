"""From data folders to a `Dataset`: label files read, image files matched and scanned."""

import logging
import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from labelr.buckets import objects
from labelr.buckets.mirror import local
from labelr.config import ReadOptions
from labelr.data.dataset import Dataset, Findings
from labelr.data.formats.source import Source
from labelr.data.join import find_repeated, join_datasets, repeated_error
from labelr.data.label_files import concat_tables, find_sources, read_sources, splits_of
from labelr.data.label_table import (
    TIES,
    LabelTable,
    is_from_python,
    look_alikes,
    split_in_name,
)
from labelr.data.locate import COMPLETE, NO_IMAGES_HINT, Data, locate_data, with_label_table
from labelr.data.match_images import ImageFinder, Match
from labelr.data.predicted import check_has_images
from labelr.data.walk import FileIndex
from labelr.errors import LabelrError, UnconfirmedError, pluralize, preview, preview_reasons, suggest
from labelr.fields import SettingError, hint_of_list
from labelr.progress import Track, untracked

if TYPE_CHECKING:
    import pandas as pd

MAX_UNREADABLE = 0.2
"""A larger share of unreadable images stops a run: then the folder is wrong, not a file."""


log = logging.getLogger(__name__)


def load_dataset(data: Sequence[Path], options: ReadOptions, *, threads: int = 1, track: Track = untracked) -> Dataset:
    """Reads the label files of one or more folders, scans every image, and logs what was understood.

    Raises:
        LabelrError: If the data cannot be understood, images are missing, or too many do not open.
    """
    objects.limit_to(options.cache_limit * 1e9)
    listed = _read_listed(data, options)
    dataset = listed.scanned(options, threads=threads, track=track)
    for note in dataset.findings.notes[len(listed.findings.notes) :]:
        log.info("  %s", note)
    _check_unreadable(dataset, options.on_error)
    return dataset


def read(data: Data, options: ReadOptions | Mapping[str, Any] | None = None, **settings: Any) -> "pd.DataFrame":
    """The labels of a data set as a table, as `fit` would read them; the images are not opened.

    Args:
        data: A folder of labelled images, or other data as in `fit`.
        options: How it is read.
        settings: Settings by name; they take precedence over `options`.

    Returns:
        One row per image with a known label, by the index ``filename``, relative to ``table.attrs["root"]``. Columns:
        ``split``, if the label file has one; ``group``, with the setting `group`; one column per label: 1.0, 0.0, or
        NaN where it is unknown. Written by ``to_csv``, it is a label file that labelr reads, with ``group="group"``
        for its groups.

    Raises:
        LabelrError: If the label files cannot be understood, or images are missing.
    """
    data, settings = with_label_table(data, settings)
    folders, options = locate_data(data, ReadOptions.of(options, **settings))
    return _read_listed(folders, options).to_frame()


def _read_listed(data: Sequence[Path], options: ReadOptions) -> Dataset:
    """As `read_labels`; logs what was understood, and stops if images are missing or labels are mere predictions."""
    dataset = read_labels(data, options)
    if dataset.findings.missing and not options.skip_missing:
        raise _missing_error(
            dataset, "paths in the file are relative to the folder; leave these rows out with `--skip-missing`"
        )
    if dataset.findings.unconfirmed and options.trust_predictions is None:
        count, total = len(dataset.findings.unconfirmed), pluralize(len(dataset), "image")
        raise UnconfirmedError(
            f"{dataset.source}: the labels of {count:,} of {total} are predictions of labelr that nobody corrected or "
            "confirmed",
            "use them as labels with `--trust-predictions`, leave them out with `--no-trust-predictions` (labels that "
            "you added are kept), or mark those that are right: with 1 in a column `confirmed`, "
            "or in photo software with a keyword `confirmed`",
        )
    _log_findings(dataset)
    return dataset


def read_labels(data: Sequence[Path], options: ReadOptions) -> Dataset:
    """The images that the label files of data folders list and that exist, not scanned yet, as one data set.

    Raises:
        LabelrError: If a folder or label file does not exist or cannot be understood, or no image has a known label.
    """
    dataset = read_with_unlabelled(data, options)
    known = ~np.isnan(dataset.targets).all(axis=1)
    if not known.any():
        message, hint = f"{dataset.source}: no image has a known label", "mark with 1 which labels an image has"
        if any(TIES in note for note in dataset.findings.notes):
            message += ": its annotations contradict each other"
            hint = "keep one annotation of each image, add a third, or mark one as `ground_truth` in Label Studio"
        raise LabelrError(message, hint)
    unlabelled = tuple(dataset.files[row] for row in np.flatnonzero(~known))
    findings = dataset.findings._replace(unlabelled=unlabelled)
    return replace(dataset.take(np.flatnonzero(known)), findings=findings)


def read_with_unlabelled(data: Sequence[Path], options: ReadOptions) -> Dataset:
    """As `read_labels`, with the images of which no label is known.

    Raises:
        LabelrError: If a folder or label file does not exist or cannot be understood, or no image exists.
    """
    if not data:
        raise SettingError("no images are given", NO_IMAGES_HINT)
    real = [os.path.realpath(folder) for folder in data]
    repeated = [folder for number, folder in enumerate(data) if real[number] in real[:number]]
    if repeated and not options.labels:
        raise SettingError(f"the folder {repeated[0]} is given twice", "name each folder once")
    datasets = [_read_folder(folder, own) for folder, own in zip(data, _options_per_folder(data, options), strict=True)]
    return _with_wanted_labels(datasets[0] if len(datasets) == 1 else join_datasets(datasets), options)


def _options_per_folder(data: Sequence[Path], options: ReadOptions) -> list[ReadOptions]:
    """The options of each folder: label files that the user names belong to the folders in their order."""
    if len(data) == 1 or not options.labels:
        return [options] * len(data)
    if len(options.labels) != len(data):
        raise LabelrError(
            f"{len(data)} data folders, but {pluralize(len(options.labels), 'label file')}",
            "give `--labels` once for each folder, in the same order, or leave it out",
        )
    return [replace(options, labels=(file,)) for file in options.labels]


def _read_folder(data: Path, options: ReadOptions) -> Dataset:
    data = local(data)
    if not data.is_dir():
        problem = "is a file" if data.exists() else "does not exist"
        raise LabelrError(f"the data folder {data} {problem}", "name a folder that holds images and a label file")
    default = data / "images"
    images = local(options.images) if options.images else default if os.path.isdir(default) else data
    if not os.path.isdir(images):
        raise LabelrError(f"the image folder {images} does not exist", "name the folder of the images with `--images`")
    index = FileIndex(data, options.ignore)
    if not options.images:
        check_has_images(data, index)
    sources = find_sources(data, images, options, index)
    tables = read_sources(sources)
    finder = ImageFinder(images if options.images else data, index, _all_images(sources, tables, images))
    matches: list[Match] = []
    aside: dict[str, str | None] = {}
    for source, table, split in zip(sources, tables, splits_of(sources), strict=True):
        folder = source.path if source.is_folder else source.path.parent  # such as train/ of train/_classes.csv
        inside = [folder] if folder != finder.folder and folder.is_relative_to(finder.folder) else []
        bases = [*inside, images, finder.folder]
        own_split = split or next((split_in_name(folder.name) for folder in inside), "")
        matches.append(finder.find(table.names, bases, table.splits, own_split=own_split))
        aside.update(zip(table.aside, finder.find(table.aside, bases, own_split=own_split).files, strict=True))
    whole = concat_tables(data, sources, tables)
    match = Match.concat(matches)
    origin = sources[0].path if len(sources) == 1 else data
    kept = [row for row, file in enumerate(match.files) if file is None or not index.ignores(finder.folder / file)]
    notes = [*match.notes, *index.passed_over.notes()]
    if len(kept) < len(match.files):
        notes.append(f"listed images left out by `--ignore`: {len(match.files) - len(kept):,}")
        whole, match = whole.take(kept), match.take(kept)
        if not kept:
            raise LabelrError(f"`--ignore` leaves out every image that {origin} lists", "give narrower patterns")
    whole, match, repeated = _without_repeated(origin, whole, match, skip=options.skip_invalid)
    aside.update(repeated)
    whole = replace(whole, notes=(*whole.notes, *notes))
    dataset = _make_dataset(origin, whole, match, aside, finder, images)
    columns = frozenset(name for source in sources if source.table for name in source.table.header)
    return replace(dataset, findings=dataset.findings._replace(columns=columns))


def _all_images(sources: Sequence[Source], tables: Sequence[LabelTable], images: Path) -> list[str] | None:
    """The images that exist of a list of paths, so that no folder is searched; None for any other label file."""
    is_complete = is_from_python(sources[0].path) and sources[0].path.name.startswith(COMPLETE)
    return [name for name in tables[0].names if os.path.isfile(images / name)] if is_complete else None


def _make_dataset(
    source: Path, table: LabelTable, match: Match, aside: Mapping[str, str | None], finder: ImageFinder, images: Path
) -> Dataset:
    """The images of one folder that exist, at least one, and what else was found.

    `match` has the image file of each name in the table, and `aside` those of further names in the label files, all
    relative to the finder's folder.
    """
    _check_names(source, table)
    missing = [row for row, file in enumerate(match.files) if file is None]
    found = [file for file in match.files if file is not None]
    existing = table.take([row for row, file in enumerate(match.files) if file is not None])
    prefix = os.path.relpath(images, finder.folder).replace(os.sep, "/") + "/"
    if prefix == "./" or not all(file.startswith(prefix) for file in found):
        prefix = ""
    files = [file.removeprefix(prefix) for file in found]
    named_splits, split_notes = _named_splits(existing.splits or ())
    listed = {*found, *aside.values()}
    unlisted = [file for file in finder.files if file.startswith(prefix) and file not in listed]
    dataset = Dataset(
        source=source,
        layout=table.layout,
        root=images if prefix else finder.folder,
        files=tuple(files),
        labels=table.labels,
        targets=existing.targets,
        groups=existing.groups or None,
        named_splits=named_splits,
        findings=Findings(
            missing=tuple(table.names[row] for row in missing),
            similar=tuple(match.similar[row] for row in missing),
            unlisted=tuple(file.removeprefix(prefix) for file in unlisted),
            invalid=table.invalid,
            unconfirmed=table.unconfirmed,
            unreadable_folders=finder.unreadable_folders,
            passed_over=tuple(finder.passed_over.notes()),
            notes=(*table.notes, *split_notes),
            matched={
                **{name: file.removeprefix(prefix) for name, file in aside.items() if file},
                **dict(zip(existing.names, files, strict=True)),
            },
        ),
    )
    if not files:
        spelling = "write the names in the label file as those of the image files"
        place = "name the folder that holds the images with `--images`"
        raise _missing_error(dataset, spelling if all(dataset.findings.similar) else place)
    return dataset


def _check_names(source: Path, table: LabelTable) -> None:
    if table.names:
        return
    if table.invalid:
        raise LabelrError(
            f"{source}: no row can be understood: {preview(table.invalid)}", "correct the rows of the file"
        )
    raise LabelrError(f"{source} lists no images that exist", "check that it is the right file or folder")


def _named_splits(splits: Sequence[str]) -> tuple[tuple[str, ...] | None, list[str]]:
    """The split of each image, and what to note; no splits where all images are for training, which says nothing."""
    if set(splits) <= {"train", ""}:
        return None, []
    unnamed = splits.count("")
    notes = [f"images without a split, which count as train: {unnamed:,}"] if unnamed else []
    return tuple(split or "train" for split in splits), notes


def _without_repeated(
    source: Path, table: LabelTable, match: Match, *, skip: bool
) -> tuple[LabelTable, Match, dict[str, str | None]]:
    """A table and its matches without the images that several names mean, and the file of each of these names.

    Raises:
        LabelrError: If there are any, unless such images are skipped and others are left.
    """
    repeated = find_repeated(match.files, table.names)
    if not repeated:
        return table, match, {}
    left_out: dict[str, str | None] = {
        name: file for file, name in zip(match.files, table.names, strict=True) if file in repeated
    }
    kept = [row for row, name in enumerate(table.names) if name not in left_out]
    if not skip or not kept:
        raise repeated_error(
            source, repeated,
            "keep one row for each image, leave such images out with `--skip-invalid`, or name the folder that holds "
            "the folders in the names with `--images`",
        )  # fmt: skip
    reasons = [f"{source}: {text} is listed more than once" for text in repeated.values()]
    return replace(table.take(kept), invalid=(*table.invalid, *reasons)), match.take(kept), left_out


def _missing_message(dataset: Dataset) -> str:
    findings = dataset.findings
    num_missing, total = len(findings.missing), len(dataset) + len(findings.missing)
    which = f"{num_missing:,} of {pluralize(total, 'image')} in {dataset.source.name}"
    message = f"{which} {'is' if num_missing == 1 else 'are'} not in {dataset.root}"
    more = f"; {_unreadable_message(findings)}" if findings.unreadable_folders else ""
    return f"{message}: {preview(findings.described_missing)}{more}"


def _missing_error(dataset: Dataset, hint: str) -> LabelrError:
    passed_over = "".join(f"; {note}" for note in dataset.findings.passed_over)
    return LabelrError(f"{_missing_message(dataset)}{passed_over}", hint)


def _unreadable_message(findings: Findings) -> str:
    folders = dict(findings.unreadable_folders)
    return f"{pluralize(len(folders), 'folder')} cannot be listed: {preview_reasons(folders)}"


def _with_wanted_labels(dataset: Dataset, options: ReadOptions) -> Dataset:
    for option in ("only", "exclude"):
        known = {*dataset.labels, *(dataset.findings.columns if option == "exclude" else ())}
        for label in getattr(options, option):
            if label not in known:
                hint = hint_of_list(option, label) or suggest(label, known)
                hint = hint or f"choose among its labels: {preview(dataset.labels, 10)}"
                raise LabelrError(f"{dataset.source} has no label {label!r}", hint)
    if not dataset.labels:
        raise LabelrError(f"{dataset.source}: no image has a label", "give some images at least one label")
    kept = [label for label in dict.fromkeys(options.only or dataset.labels) if label not in options.exclude]
    if not kept:
        raise LabelrError("no label is left", "exclude fewer with `--exclude`")
    return dataset if kept == list(dataset.labels) else dataset.with_labels(kept)


def _log_findings(dataset: Dataset) -> None:
    findings = dataset.findings
    log.info(
        "%s: %s; %s, %s, %s",
        dataset.source, dataset.layout, pluralize(len(dataset), "image"), pluralize(len(dataset.labels), "label"),
        pluralize(dataset.num_unknown, "unknown cell"),
    )  # fmt: skip
    for note in findings.notes:
        log.info("  %s", note)
    if findings.unreadable_folders:
        log.warning("%s; they are left out", _unreadable_message(findings))
    if findings.missing:
        log.warning("%s; they are left out", _missing_message(dataset))
    if findings.invalid:
        log.warning("left out: %s: %s", pluralize(len(findings.invalid), "row"), preview(findings.invalid))
    if findings.unlabelled:
        images = pluralize(len(findings.unlabelled), "image")
        log.warning("left out: %s without a known label: %s", images, preview(findings.unlabelled))
    if findings.unlisted:
        images, names = pluralize(len(findings.unlisted), "image"), preview(findings.unlisted)
        log.info("not used: %s in %s that the label file does not list: %s", images, dataset.root, names)
    for alike in look_alikes(dataset.labels):
        log.warning("labels that differ only in case or spaces are kept apart: %s", ", ".join(map(repr, alike)))


def _check_unreadable(dataset: Dataset, on_error: str) -> None:
    """Raises LabelrError if unreadable images must stop the run; otherwise logs a warning."""
    unreadable = dataset.unreadable
    if not unreadable:
        return
    listed = len(dataset) + len(unreadable)
    message = f"{len(unreadable):,} of {pluralize(listed, 'image')} cannot be opened: {preview_reasons(unreadable)}"
    if on_error == "fail":
        raise LabelrError(message, "repair or remove them, or leave them out with `--on-error skip`")
    if len(unreadable) > MAX_UNREADABLE * listed:
        raise LabelrError(
            message, f"at most {MAX_UNREADABLE:.0%} may be left out: check that the folder is the right one"
        )
    log.warning("%s; they are left out", message)
