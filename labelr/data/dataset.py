"""A labelled data set ready to be used: its table, what each file contains, and the files that do not open."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Self

import numpy as np
from numpy.typing import NDArray

from labelr import files
from labelr.config import ReadOptions, ResizeRule
from labelr.data.labels import LabelTable, look_alikes
from labelr.data.pixels import PixelSet, open_pixels
from labelr.data.read import missing_message, read_labels
from labelr.data.reading import Reading
from labelr.data.scan import Scan, scan_images
from labelr.errors import LabelrError, pluralize, preview
from labelr.progress import Track, untracked

MAX_UNREADABLE = 0.2
"""More unreadable images than this share stop a run: then the folder is at fault, not a file."""

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Dataset:
    """Images that open, with their labels.

    Attributes:
        table: N rows.
        scanned: What a look at each image file gave, N of them.
        unreadable: The listed files that do not open, each with the reason.
    """

    table: LabelTable
    scanned: tuple[Scan, ...]
    unreadable: Mapping[str, str]

    @classmethod
    def load(cls, data: Sequence[Path], options: ReadOptions, *, threads: int = 1, track: Track = untracked) -> Self:
        """Reads the label files of one or more folders, looks at every image, and says what was understood.

        Raises:
            LabelrError: If the data cannot be understood, images are missing, or too many do not open.
        """
        reading = read_labels(data, options)
        if reading.missing and not options.skip_missing:
            raise LabelrError(
                missing_message(reading.table, reading.missing),
                "paths in the file are relative to the folder; leave these rows out with `--skip-missing`",
            )
        _describe(reading)
        dataset = cls.scan(reading.table, options, threads=threads, track=track)
        _check_unreadable(dataset.unreadable, len(reading.table), options.on_error)
        return dataset

    @classmethod
    def scan(cls, table: LabelTable, options: ReadOptions, *, threads: int = 1, track: Track = untracked) -> Self:
        """Looks at every image of a table; those that do not open are left out and listed."""
        scanned = scan_images(table.paths, max_pixels=options.max_pixels, threads=threads, track=track)
        unreadable = {file: one.reason for file, one in zip(table.files, scanned, strict=True) if one.reason}
        rows = [row for row, one in enumerate(scanned) if not one.reason]
        return cls(table.take(rows), tuple(scanned[row] for row in rows), unreadable)

    @property
    def errors_csv(self) -> str:
        """The files that do not open, as a table with the reasons."""
        rows = ((files.escape_formula_in_path(file), reason) for file, reason in self.unreadable.items())
        return files.csv_text(("filename", "reason"), rows)

    @property
    def digests(self) -> tuple[str, ...]:
        """SHA-256 of each image file, N of them."""
        return tuple(one.digest for one in self.scanned)

    @property
    def fingerprints(self) -> tuple[int | None, ...]:
        """The perceptual hash of each image, N of them; None for one without."""
        return tuple(one.fingerprint for one in self.scanned)

    @property
    def aspects(self) -> NDArray[np.float32]:
        """Width over height of each picture, shape ``(N,)``."""
        return np.array([one.width / one.height for one in self.scanned], dtype=np.float32)

    def pixels(
        self, size: int, *, rule: ResizeRule, options: ReadOptions, threads: int, track: Track = untracked
    ) -> PixelSet:
        """The pixels of its images; see `open_pixels`."""
        return open_pixels(
            self.table.paths, self.digests, size, rule=rule, options=options, threads=threads, track=track
        )

    def take(self, rows: Sequence[int] | NDArray[np.int64]) -> Self:
        """The data set of some rows, in the order given."""
        return replace(self, table=self.table.take(rows), scanned=tuple(self.scanned[row] for row in rows))


def as_folders(data: str | Path | Sequence[str | Path] | None) -> list[Path]:
    """The data folders in what people pass: one, several, or none."""
    if data is None:
        return []
    return [Path(data)] if isinstance(data, (str, Path)) else [Path(folder) for folder in data]


def name_of_data(folders: Sequence[Path]) -> str:
    """What is made of some data folders is called so where nobody names it."""
    return folders[0].resolve().name if folders else "synthetic"


def _describe(reading: Reading) -> None:
    table = reading.table
    log.info(
        "%s: %s; %s, %s, %s",
        table.source, table.layout,
        pluralize(len(table), "image"), pluralize(len(table.labels), "label"),
        pluralize(table.num_unknown, "unknown cell"),
    )  # fmt: skip
    for note in reading.notes:
        log.info("  %s", note)
    if reading.missing:
        log.warning("%s; they are left out", missing_message(table, reading.missing))
    if reading.invalid:
        log.warning("left out: %s: %s", pluralize(len(reading.invalid), "row"), preview(reading.invalid))
    if reading.unlabelled:
        number, names = pluralize(len(reading.unlabelled), "image"), preview(reading.unlabelled)
        log.warning("left out: %s without a known label: %s", number, names)
    if reading.unlisted:
        names, number = preview(reading.unlisted), pluralize(len(reading.unlisted), "image")
        log.info("not used: %s in %s that the label file does not name: %s", number, table.root, names)
    for alike in look_alikes(table.labels):
        log.warning("labels that differ only in case or spaces are kept apart: %s", ", ".join(map(repr, alike)))


def _check_unreadable(unreadable: Mapping[str, str], total: int, on_error: str) -> None:
    if not unreadable:
        return
    listed = preview([f"{file} ({reason})" for file, reason in unreadable.items()])
    message = f"{len(unreadable):,} of {total:,} images cannot be opened: {listed}"
    if on_error == "fail":
        raise LabelrError(message, "mend or remove them, or leave them out with `--on-error skip`")
    if len(unreadable) > MAX_UNREADABLE * total:
        raise LabelrError(
            message, f"at most {MAX_UNREADABLE:.0%} may be left out: see whether the folder is the right one"
        )
    log.warning("%s; they are left out", message)
