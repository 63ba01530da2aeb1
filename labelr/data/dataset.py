"""A labelled data set ready to be used: its table, what each file contains, and the files that do not open."""

import logging
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Self

import numpy as np
from numpy.typing import NDArray

from labelr.config import ReadOptions, ResizeRule
from labelr.data.formats import read_dataset
from labelr.data.images import find_images
from labelr.data.labels import LabelTable
from labelr.data.pixels import PixelSet, open_pixels
from labelr.data.scan import scan_images
from labelr.errors import LabelrError, some
from labelr.progress import Track, untracked

MAX_UNREADABLE = 0.2
"""More unreadable images than this share stop a run: then the folder is at fault, not a file."""

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Dataset:
    """Images that open, with their labels.

    Attributes:
        table: N rows.
        digests: SHA-256 of each image file, N of them.
        fingerprints: The perceptual hash of each image, N of them; None for one without.
        aspects: Width over height of each picture, shape ``(N,)``.
        unreadable: The listed files that do not open, each with the reason.
    """

    table: LabelTable
    digests: tuple[str, ...]
    fingerprints: tuple[int | None, ...]
    aspects: NDArray[np.float32]
    unreadable: Mapping[str, str]

    @classmethod
    def load(cls, data: Path, options: ReadOptions, *, threads: int = 1, track: Track = untracked) -> Self:
        """Reads the label file, looks at every image, and says what was understood.

        Raises:
            LabelrError: If the data cannot be understood, or too many images do not open.
        """
        table = read_dataset(data, options)
        _describe(table)
        scanned = scan_images(table.paths, max_pixels=options.max_pixels, threads=threads, track=track)
        unreadable = {file: one.reason for file, one in zip(table.files, scanned, strict=True) if one.reason}
        _check_unreadable(unreadable, len(table), options.on_error)
        rows = [row for row, one in enumerate(scanned) if not one.reason]
        opened = [scanned[row] for row in rows]
        return cls(
            table.take(rows),
            digests=tuple(one.digest for one in opened),
            fingerprints=tuple(one.fingerprint for one in opened),
            aspects=np.array([one.width / one.height for one in opened], dtype=np.float32),
            unreadable=unreadable,
        )

    def pixels(
        self, size: int, *, rule: ResizeRule, options: ReadOptions, threads: int, track: Track = untracked
    ) -> PixelSet:
        """The pixels of its images; see `open_pixels`."""
        return open_pixels(
            self.table.paths, self.digests, size, rule=rule, options=options, threads=threads, track=track
        )

    def take(self, rows: Sequence[int] | NDArray[np.int64]) -> Self:
        """The data set of some rows, in the order given."""
        return replace(
            self,
            table=self.table.take(rows),
            digests=tuple(self.digests[row] for row in rows),
            fingerprints=tuple(self.fingerprints[row] for row in rows),
            aspects=self.aspects[rows],
        )


def _describe(table: LabelTable) -> None:
    log.info(
        "%s: %s; %s images, %s labels, %s unknown cells",
        table.source, table.layout, f"{len(table):,}", f"{len(table.labels):,}", f"{table.num_unknown:,}",
    )  # fmt: skip
    listed = {os.path.abspath(path) for path in table.paths}
    unlisted = [path for path in find_images(table.root) if os.path.abspath(path) not in listed]
    if unlisted:
        names = some([path.relative_to(table.root) for path in unlisted])
        log.info("%s images in %s are not in the label file and are not used: %s", len(unlisted), table.root, names)


def _check_unreadable(unreadable: Mapping[str, str], total: int, on_error: str) -> None:
    if not unreadable:
        return
    listed = some([f"{file} ({reason})" for file, reason in unreadable.items()])
    message = f"{len(unreadable):,} of {total:,} images cannot be opened: {listed}"
    if on_error == "fail":
        raise LabelrError(message, "mend or remove them, or leave them out with `--on-error skip`")
    if len(unreadable) > MAX_UNREADABLE * total:
        raise LabelrError(
            message, f"at most {MAX_UNREADABLE:.0%} may be left out: see whether the folder is the right one"
        )
    log.warning("%s; they are left out", message)
