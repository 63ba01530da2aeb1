"""A labelled data set: images that exist and open, with their targets, groups and split."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

from labelr import files, serialization
from labelr.config import ReadOptions, ResizeRule
from labelr.data.images import UNKNOWN_RANGE
from labelr.data.label_table import SPLITS, Targets, take_columns
from labelr.data.pixels import PixelSet, open_pixels
from labelr.data.scan import Scan, scan_images
from labelr.data.value_range import ValueRange
from labelr.errors import pluralize
from labelr.frames import as_html, text_index
from labelr.progress import Track, untracked

if TYPE_CHECKING:
    import pandas as pd


class Findings(NamedTuple):
    """What reading a data set found beside its usable images.

    Attributes:
        missing: Images that are listed and do not exist.
        similar: What there is instead of each missing image, such as ``there is a.jpeg``; empty for nothing similar.
        unlisted: Images that exist and are not listed, relative to the data set's root.
        unlabelled: Images that are listed and have no known label; they are left out.
        invalid: The rows that were left out, each with its reason.
        unconfirmed: The images whose labels `labelr tag` predicted and nobody corrected or confirmed.
        unreadable_folders: The folders that cannot be listed, each with the reason.
        passed_over: Those of the notes that say what the search for image files has passed over.
        notes: What was assumed, left out or unusual, one sentence each.
        columns: The names of the columns of the label files that are tables.
        matched: The image file of each name in the label files that has one.
        left_out: The number of images that an evaluation leaves out because its model was ``trained_on`` them, and of
            ``near_duplicates`` of those.
    """

    missing: tuple[str, ...] = ()
    similar: tuple[str, ...] = ()
    unlisted: tuple[str, ...] = ()
    unlabelled: tuple[str, ...] = ()
    invalid: tuple[str, ...] = ()
    unconfirmed: tuple[str, ...] = ()
    unreadable_folders: tuple[tuple[str, str], ...] = ()
    passed_over: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    columns: frozenset[str] = frozenset()
    matched: Mapping[str, str] = MappingProxyType({})
    left_out: Mapping[str, int] = MappingProxyType({"trained_on": 0, "near_duplicates": 0})

    @property
    def described_missing(self) -> list[str]:
        """The missing images with what there is instead, those first that have something similar."""
        pairs = zip(self.missing, self.similar, strict=True)
        return [f"{name} ({text})" if text else name for name, text in sorted(pairs, key=lambda pair: not pair[1])]


@dataclass(frozen=True)
class Dataset:
    """N images with their labels.

    Attributes:
        source: The label file, or the folder of several.
        layout: How the label files were read, in a few words.
        root: The folder that `files` are relative to.
        files: N image files.
        labels: L label names, in order.
        targets: 1, 0 or NaN (unknown), shape ``(N, L)``.
        groups: The group of each image, empty for none; None where the label file has no groups.
        named_splits: ``train``, ``val`` or ``test`` for each image; None where the label file has no splits.
        scans: What scanning each image file found; empty before the files are scanned.
        splits: The split of each image as an index into ``SPLITS``, shape ``(N,)``; None before it is split.
        unreadable: The listed files that do not open, each with the reason; they are not among the N.
        findings: What else was found in reading the label files.
    """

    source: Path
    layout: str
    root: Path
    files: tuple[str, ...]
    labels: tuple[str, ...]
    targets: Targets
    groups: tuple[str, ...] | None = None
    named_splits: tuple[str, ...] | None = None
    scans: tuple[Scan, ...] = ()
    splits: NDArray[np.int64] | None = None
    unreadable: Mapping[str, str] = field(default_factory=dict)
    findings: Findings = Findings()

    def __len__(self) -> int:
        return len(self.files)

    @property
    def paths(self) -> list[Path]:
        """The paths of the N images."""
        return [self.root / file for file in self.files]

    @property
    def positives(self) -> NDArray[np.int64]:
        """Number of images known to have each label, shape ``(L,)``."""
        counts: NDArray[np.int64] = np.nansum(self.targets, axis=0).astype(np.int64)
        return counts

    @property
    def counts(self) -> dict[str, dict[str, int]]:
        """Number of ``positives``, ``negatives`` and ``unknown`` images of each label."""
        cells = {"positives": self.targets == 1, "negatives": self.targets == 0, "unknown": np.isnan(self.targets)}
        totals = {kind: cells[kind].sum(axis=0).tolist() for kind in cells}
        return {label: {kind: totals[kind][column] for kind in cells} for column, label in enumerate(self.labels)}

    @property
    def num_unknown(self) -> int:
        """Number of unknown cells."""
        return int(np.isnan(self.targets).sum())

    @property
    def digests(self) -> tuple[str, ...]:
        """SHA-256 of each image file."""
        return tuple(scan.digest for scan in self.scans)

    @property
    def fingerprints(self) -> tuple[int | None, ...]:
        """The perceptual hash of each image; None for an image without."""
        return tuple(scan.fingerprint for scan in self.scans)

    @property
    def aspects(self) -> NDArray[np.float32]:
        """Width over height of each image, shape ``(N,)``."""
        return np.array([scan.width / scan.height for scan in self.scans], dtype=np.float32)

    @property
    def value_range(self) -> ValueRange:
        """Which values of its deep images become black and white: as suits those of the train split, if it is split."""
        rows = range(len(self.scans)) if self.splits is None else self.split_rows("train").tolist()
        return ValueRange.of(levels for row in rows if (levels := self.scans[row].levels))

    @property
    def errors_csv(self) -> str:
        """The files that do not open, as a CSV table with the reasons."""
        rows = ((serialization.escape_formula_in_path(file), reason) for file, reason in self.unreadable.items())
        return serialization.csv_text(("filename", "reason"), rows)

    @property
    def split_names(self) -> list[str]:
        """The name of the split of each image; empty before the data set is split."""
        return [] if self.splits is None else [SPLITS[split] for split in self.splits]

    def to_frame(self) -> "pd.DataFrame":
        """The labels as a table: one row per image, by the index ``filename``, relative to ``table.attrs["root"]``.

        Columns: ``split``, if it is known; ``group``, if the label file has groups; one column per label: 1.0, 0.0, or
        NaN where it is unknown. A label called ``split`` or ``group`` takes the place of such a column.
        """
        import pandas as pd

        table = pd.DataFrame(self.targets, index=text_index(self.files, "filename"), columns=list(self.labels))
        for name, column in (("group", self.groups), ("split", self.split_names or self.named_splits)):
            if column and name not in self.labels:
                table.insert(0, name, column)
        table.attrs["root"] = str(self.root)
        return table

    @property
    def description(self) -> str:
        """Its source and size in a line."""
        return f"{self.source}: {pluralize(len(self), 'image')}, {pluralize(len(self.labels), 'label')}"

    def __repr__(self) -> str:
        return f"<Dataset of {self.description}>"

    def _repr_html_(self) -> str:
        import pandas as pd

        facts = {"Source": self.source, "Layout": self.layout, "Images": f"{len(self):,}"}
        return as_html("Dataset", facts, pd.DataFrame.from_dict(self.counts, orient="index").rename_axis("label"))

    def split_rows(self, name: str) -> NDArray[np.int64]:
        """The rows of the split ``"train"``, ``"val"`` or ``"test"``."""
        return np.flatnonzero(self.splits == SPLITS.index(name))

    def split(self, name: str) -> Self:
        """The images of the split ``"train"``, ``"val"`` or ``"test"``."""
        return self.take(self.split_rows(name))

    def take(self, rows: Sequence[int] | NDArray[np.int64]) -> Self:
        """The data set of some rows, in the order given."""
        chosen = np.asarray(rows, dtype=np.int64)
        columns = take_columns(self, ("files", "groups", "named_splits", "scans"), chosen)
        splits = None if self.splits is None else self.splits[chosen]
        return replace(self, targets=self.targets[chosen], splits=splits, **columns)

    def with_labels(self, labels: Sequence[str]) -> Self:
        """The data set with some of its labels, in the order given."""
        place = {label: column for column, label in enumerate(self.labels)}
        columns = [place[label] for label in labels]
        return replace(self, labels=tuple(labels), targets=self.targets[:, columns])

    def scanned(self, options: ReadOptions, *, threads: int = 1, track: Track = untracked) -> Self:
        """The data set with every image file scanned; those that do not open move to `unreadable`."""
        scans = scan_images(self.paths, max_pixels=options.max_pixels, threads=threads, track=track)
        unreadable = {file: scan.reason for file, scan in zip(self.files, scans, strict=True) if scan.reason}
        readable = [row for row, scan in enumerate(scans) if not scan.reason]
        counts = Counter(scan.note for scan in scans if scan.note)
        notes = (f"{note} ({pluralize(count, 'image')})" for note, count in counts.items())
        findings = self.findings._replace(notes=(*self.findings.notes, *notes))
        scanned = replace(self, scans=tuple(scans), findings=findings)
        return replace(scanned.take(readable), unreadable=unreadable)

    def pixels(
        self,
        size: int,
        *,
        rule: ResizeRule,
        options: ReadOptions,
        threads: int,
        value_range: ValueRange = UNKNOWN_RANGE,
        track: Track = untracked,
    ) -> PixelSet:
        """The pixels of its images; see `open_pixels`."""
        return open_pixels(
            self.paths, self.digests, size, rule=rule, value_range=value_range, options=options, threads=threads,
            track=track,
        )  # fmt: skip


def write_labels(path: Path, dataset: Dataset) -> None:
    """Writes a data set's labels in the simple layout: ``filename``, ``split`` if it is known, and one column a label.

    Raises:
        LabelrError: If the file cannot be written.
    """
    splits = dataset.named_splits if "split" not in dataset.labels else None
    header = ["filename", *(["split"] if splits else []), *dataset.labels]
    marks = np.where(np.isnan(dataset.targets), "", np.where(dataset.targets == 1, "1", "0")).tolist()
    rows = (
        [serialization.escape_formula_in_path(file), *([splits[row]] if splits else []), *cells]
        for row, (file, cells) in enumerate(zip(dataset.files, marks, strict=True))
    )
    files.write_atomically(path, serialization.csv_text(header, rows))
