"""The label table: which image has which labels, and what is not known."""

import re
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Self

import numpy as np
from numpy.typing import NDArray

from labelr import files

Targets = NDArray[np.float32]
"""1 where the label applies, 0 where not, NaN where unknown, ``(N, L)``."""
FEW_POSITIVES = 10
"""With fewer, a label cannot be learned, and its scores say little."""


@dataclass(frozen=True)
class LabelTable:
    """Images with their labels, one row an image.

    Attributes:
        source: The label file.
        layout: How it was read, in a few words.
        root: The folder that `files` are relative to.
        files: N image files as the label file names them.
        labels: L label names, in order.
        targets: 1, 0 or NaN (unknown), shape ``(N, L)``.
        groups: For each image what it belongs together with, empty for nothing; None where the file does not say.
        parts: For each image ``train``, ``val`` or ``test``; None where the file does not say.
    """

    source: Path
    layout: str
    root: Path
    files: tuple[str, ...]
    labels: tuple[str, ...]
    targets: Targets
    groups: tuple[str, ...] | None = None
    parts: tuple[str, ...] | None = None

    def __len__(self) -> int:
        return len(self.files)

    @property
    def paths(self) -> list[Path]:
        """Where the N images lie."""
        return [self.root / file for file in self.files]

    @property
    def positives(self) -> NDArray[np.int64]:
        """How many images are known to have each label, shape ``(L,)``."""
        counts: NDArray[np.int64] = np.nansum(self.targets, axis=0).astype(np.int64)
        return counts

    @property
    def counts(self) -> dict[str, dict[str, int]]:
        """How many images have each label, have it not, and are unknown."""
        kinds = {"positives": self.targets == 1, "negatives": self.targets == 0, "unknown": np.isnan(self.targets)}
        totals = {kind: cells.sum(axis=0).tolist() for kind, cells in kinds.items()}
        return {label: {kind: totals[kind][row] for kind in kinds} for row, label in enumerate(self.labels)}

    @property
    def num_unknown(self) -> int:
        """How many cells are unknown."""
        return int(np.isnan(self.targets).sum())

    def take(self, rows: Sequence[int] | NDArray[np.int64]) -> Self:
        """The table of some rows, in the order given."""
        chosen = np.asarray(rows, dtype=np.int64)
        columns = {
            name: tuple(column[row] for row in chosen)
            for name, column in (("files", self.files), ("groups", self.groups), ("parts", self.parts))
            if column is not None
        }
        return replace(self, targets=self.targets[chosen], **columns)  # type: ignore[arg-type]

    def with_labels(self, labels: Sequence[str]) -> Self:
        """The table of some labels, in the order given."""
        columns = [self.labels.index(label) for label in labels]
        return replace(self, labels=tuple(labels), targets=self.targets[:, columns])


def write_labels(path: Path, table: LabelTable) -> None:
    """Writes a table as labelr's own layout: ``filename``, the part if the table says it, and one column a label.

    Raises:
        LabelrError: If it cannot be written.
    """
    parts = table.parts if "split" not in table.labels else None
    header = ["filename", *(["split"] if parts else []), *table.labels]
    marks = np.where(np.isnan(table.targets), "", np.where(table.targets == 1, "1", "0")).tolist()
    rows = (
        [file, *([parts[row]] if parts else []), *cells]
        for row, (file, cells) in enumerate(zip(table.files, marks, strict=True))
    )
    files.write_atomically(path, files.csv_text(header, rows))


def look_alikes(labels: Sequence[str]) -> list[list[str]]:
    """Labels that differ only in case, spaces, ``_`` or ``-``, and may be one that was written in several ways."""
    alike = defaultdict(list)
    for label in labels:
        alike[re.sub(r"[\s_-]+", "", label.casefold())].append(label)
    return [several for several in alike.values() if len(several) > 1]
