"""The audit of a data set: what labelr understands of it, and what is wrong with it; trains nothing."""

import re
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from labelr.config import TrainConfig
from labelr.data.dataset import Dataset, as_folders
from labelr.data.divide import divide
from labelr.data.duplicates import group_images
from labelr.data.formats.wide import MARKS
from labelr.data.labels import FEW_POSITIVES, look_alikes
from labelr.data.read import read_labels
from labelr.data.reading import Reading
from labelr.data.splits import SPLITS
from labelr.errors import LabelrError, preview
from labelr.progress import Track, untracked

MAX_NAME = 60
"""A longer label is rather a sentence."""


@dataclass(frozen=True)
class Check:
    """What labelr understands of a data set.

    Attributes:
        reading: What the label files say, and which of their images are not there.
        dataset: The N images that open, and the reasons of those that do not.
        parts: The part that `fit` would put each image in, as an index into ``SPLITS``, shape ``(N,)``.
    """

    reading: Reading
    dataset: Dataset
    parts: NDArray[np.int64]

    @property
    def per_label(self) -> list[dict[str, Any]]:
        """A row for each label: how many images have it, have it not, are unknown, and have it in each part."""
        table = self.dataset.table
        of_part = {part: table.take(np.flatnonzero(self.parts == row)).positives for row, part in enumerate(SPLITS)}
        return [
            {"label": label, **counts, **{part: int(positives[row]) for part, positives in of_part.items()}}
            for row, (label, counts) in enumerate(table.counts.items())
        ]

    @property
    def rare(self) -> list[str]:
        """The labels that too few images have for them to be learned."""
        return [row["label"] for row in self.per_label if row["positives"] < FEW_POSITIVES]

    @property
    def not_evaluable(self) -> list[str]:
        """The labels of which the part that a model is scored on would have no positive or no negative."""
        scored = self.parts == (SPLITS.index("test") if (self.parts == SPLITS.index("test")).any() else 1)
        targets = self.dataset.table.targets[scored]
        usable = (targets == 1).any(axis=0) & (targets == 0).any(axis=0)
        return [label for label, one in zip(self.dataset.table.labels, usable, strict=True) if not one]

    @property
    def duplicates(self) -> list[list[str]]:
        """The groups of files that are copies byte for byte."""
        return self._files_of(self.dataset.digests)

    @property
    def near_duplicates(self) -> list[list[str]]:
        """The groups of images that look alike and are not all copies byte for byte."""
        groups = group_images(self.dataset.digests, self.dataset.fingerprints).tolist()
        digests = dict(zip(self.dataset.table.files, self.dataset.digests, strict=True))
        return [files for files in self._files_of(groups) if len({digests[file] for file in files}) > 1]

    def _files_of(self, keys: Sequence[object]) -> list[list[str]]:
        files = defaultdict(list)
        for file, key in zip(self.dataset.table.files, keys, strict=True):
            files[key].append(file)
        return [several for several in files.values() if len(several) > 1]

    def disagreeing(self, groups: Sequence[Sequence[str]]) -> list[dict[str, Any]]:
        """The groups of files that do not all have the same labels, and the labels in question."""
        table = self.dataset.table
        rows = {file: row for row, file in enumerate(table.files)}
        found = []
        for files in groups:
            targets = table.targets[[rows[file] for file in files]]
            differs = (targets == 1).any(axis=0) & (targets == 0).any(axis=0)
            if differs.any():
                labels = [label for label, one in zip(table.labels, differs, strict=True) if one]
                found.append({"files": list(files), "labels": labels})
        return found

    def to_json(self) -> dict[str, Any]:
        """All that was found, ready for JSON; `problems` are the sentences that need attention."""
        table, reading, scanned = self.dataset.table, self.reading, self.dataset.scanned
        exact, near = self.duplicates, self.near_duplicates
        found: dict[str, Any] = {
            "source": str(table.source),
            "layout": table.layout,
            "notes": list(reading.notes),
            "images": len(table),
            "labels": list(table.labels),
            "per_label": self.per_label,
            "rare": self.rare,
            "not_evaluable": self.not_evaluable,
            "suspicious_labels": suspicious_labels(table.labels),
            "missing": list(reading.missing),
            "unlisted": list(reading.unlisted),
            "unlabelled": list(reading.unlabelled),
            "invalid": list(reading.invalid),
            "unreadable": [{"file": file, "reason": reason} for file, reason in self.dataset.unreadable.items()],
            "duplicates": exact,
            "near_duplicates": near,
            "disagreeing": self.disagreeing(exact) + self.disagreeing(near),
            "sizes": _sizes([(one.width, one.height) for one in scanned]),
            "formats": dict(Counter(one.format for one in scanned).most_common()),
            "modes": dict(Counter(one.mode for one in scanned).most_common()),
            "split": {part: int((self.parts == index).sum()) for index, part in enumerate(SPLITS)},
        }
        return {**found, "problems": _problems(found)}


def check(
    data: str | Path | Sequence[str | Path],
    options: TrainConfig | Mapping[str, Any] | None = None,
    *,
    track: Track = untracked,
) -> Check:
    """Looks at a data set as `fit` would, changes nothing, and goes on where `fit` would stop.

    Args:
        data: A folder of labelled images, or several that are one data set.
        options: How it is read and would be divided.
        track: Watches the progress.

    Raises:
        LabelrError: If the label files cannot be understood, or no image opens.
    """
    from joblib import cpu_count

    config = replace(TrainConfig.of(options), skip_invalid=True)
    reading = read_labels(as_folders(data), config)
    dataset = Dataset.scan(reading.table, config, threads=config.workers or cpu_count(), track=track)
    if not len(dataset.table):
        reasons = preview([f"{file} ({reason})" for file, reason in dataset.unreadable.items()])
        raise LabelrError(f"none of the {len(reading.table):,} images can be opened: {reasons}", "mend or replace them")
    return Check(reading, dataset, divide(dataset, config))


def suspicious_labels(labels: Sequence[str]) -> list[dict[str, str]]:
    """The labels that may have come about by mistake, each with what is odd about it."""
    found = [{"label": label, "reason": reason} for label in labels if (reason := _oddity(label))]
    alike = [{"label": one, "reason": f"like {preview(several)}"} for several in look_alikes(labels) for one in several]
    return found + alike


def _oddity(label: str) -> str:
    tests = {
        "a number": re.fullmatch(r"-?[\d.]+", label),
        "the mark of a cell": label.lower() in MARKS,
        "a column that has no name": re.match(r"unnamed: ?\d", label, re.IGNORECASE),
        "has a separator in it": re.search(r"[|;,\t\n]", label),
        "begins or ends with a quote or bracket": re.search(r"^[\[{\"']|[\]}\"']$", label),
        "a file or address": re.search(r"://|\.(jpe?g|png)$", label, re.IGNORECASE),
        f"longer than {MAX_NAME} characters": len(label) > MAX_NAME,
    }
    return next((reason for reason, holds in tests.items() if holds), "")


def _sizes(sizes: Sequence[tuple[int, int]]) -> dict[str, list[int]]:
    """The smallest, the middle and the largest picture by its area, as width and height in pixels."""
    ordered = sorted(sizes, key=lambda size: (size[0] * size[1], size))
    places = {"smallest": 0, "median": len(ordered) // 2, "largest": -1}
    return {name: list(ordered[place]) for name, place in places.items()}


def _problems(found: Mapping[str, Any]) -> list[str]:
    """What needs attention, a sentence each."""
    disagreeing = [f"{' and '.join(one['files'][:2])} on {preview(one['labels'])}" for one in found["disagreeing"]]
    unreadable = [f"{one['file']} ({one['reason']})" for one in found["unreadable"]]
    suspicious = [f"{one['label']!r} ({one['reason']})" for one in found["suspicious_labels"]]
    kinds = {
        "images that are named and not there, where `fit` stops without `--skip-missing`": found["missing"],
        "images that are not named": found["unlisted"],
        "images of which no label is known": found["unlabelled"],
        "rows that cannot be understood, where `fit` stops without `--skip-invalid`": found["invalid"],
        "images that cannot be opened": unreadable,
        "copies or near-duplicates whose labels differ": disagreeing,
        f"labels with fewer than {FEW_POSITIVES} positives, too few to learn": found["rare"],
        "labels without a positive or a negative to score": found["not_evaluable"],
        "labels with an odd name": suspicious,
    }
    return [f"{kind} ({len(items):,}): {preview(items)}" for kind, items in kinds.items() if items]
