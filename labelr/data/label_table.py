"""What label files say: the names of images and their labels, before the image files are matched."""

import os
import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

from labelr.data.limits import DEFAULT_LIMITS, Limits
from labelr.errors import preview

Targets = NDArray[np.float32]
"""1 where the label applies, 0 where not, NaN where unknown, ``(N, L)``."""
SPLITS = ("train", "val", "test")
SPLIT_NAMES = {
    "train": "train", "training": "train",
    "val": "val", "valid": "val", "validation": "val", "dev": "val", "eval": "val",
    "test": "test", "testing": "test",
}  # fmt: skip
"""What people call the splits; `eval` is the test split where another word is validation."""
TABLES_FOLDER = "tables"
"""In the cache directory: the tables that callers of the Python API pass."""
TIES = "labels affirmed as often as denied for an image, taken as unknown"
"""How the note on annotations that contradict each other begins."""
FEW_POSITIVES = 10
"""A label with fewer positives cannot be learned, and its scores are not reliable."""


class Annotation(NamedTuple):
    """What one annotation says of an image.

    Attributes:
        name: The image, as the label file names it.
        present: Labels that apply.
        absent: Labels that are stated not to apply.
        split: ``train``, ``val``, ``test``, or empty where the file does not say.
        complete: Whether labels that are not named do not apply; otherwise they are unknown.
    """

    name: str
    present: Collection[str] = ()
    absent: Collection[str] = ()
    split: str = ""
    complete: bool = True


@dataclass(frozen=True)
class LabelTable:
    """N images of one or more label files, in file order.

    Attributes:
        layout: The layout of the file, in a few words.
        names: The images as the file names them, each once.
        labels: L label names.
        targets: 1, 0 or NaN (unknown), shape ``(N, L)``.
        closed: Whether a label that the file never names does not apply to its images; otherwise it is unknown.
        groups: The group of each image; None where the file has no groups.
        splits: The split of each image, empty where it has none; None where the file has no splits.
        notes: What was assumed, left out or unusual, one sentence each.
        invalid: The rows that were left out, each with its reason.
        aside: Further images that the file mentions: those of invalid rows, and copies of images in `names`.
        unconfirmed: The images whose labels `labelr tag` predicted and nobody corrected or confirmed.
    """

    layout: str
    names: tuple[str, ...]
    labels: tuple[str, ...]
    targets: Targets
    closed: bool = False
    groups: tuple[str, ...] | None = None
    splits: tuple[str, ...] | None = None
    notes: tuple[str, ...] = ()
    invalid: tuple[str, ...] = ()
    aside: tuple[str, ...] = ()
    unconfirmed: tuple[str, ...] = ()

    @classmethod
    def of(
        cls,
        annotations: Iterable[Annotation],
        layout: str,
        *,
        limits: Limits = DEFAULT_LIMITS,
        vocabulary: Sequence[str] | None = None,
        groups: Mapping[str, str] | None = None,
        notes: Sequence[str] = (),
        invalid: Sequence[str] = (),
        aside: Sequence[str] = (),
    ) -> Self:
        """The table of some annotations, those of one image merged.

        Where annotations of an image disagree on a label, the majority counts; a tie makes the label unknown. Its
        labels are the `vocabulary` that the file declares, in order, then others that occur, sorted. `groups` has the
        group of each image by its name.
        """
        cleaned = [
            annotation._replace(present=_clean(annotation.present), absent=_clean(annotation.absent))
            for annotation in annotations
            if annotation.name
        ]
        occurring = {label for annotation in cleaned for label in (*annotation.present, *annotation.absent)}
        limits.check_labels(occurring)
        declared = list(dict.fromkeys(label.strip() for label in vocabulary or () if label.strip()))
        labels = (*declared, *sorted(occurring - set(declared)))
        splits: dict[str, str] = {}
        for annotation in cleaned:
            splits.setdefault(annotation.name, annotation.split)
        rows = {name: row for row, name in enumerate(splits)}
        limits.check_targets(len(rows), labels)
        targets, num_ties = _count_votes(cleaned, rows, labels)
        if num_ties:
            notes = (*notes, f"{TIES}: {num_ties:,}")
        return cls.of_rows(
            layout, list(splits), labels, targets, closed=vocabulary is None, groups=groups,
            splits=list(splits.values()), notes=notes, invalid=invalid, aside=aside,
        )  # fmt: skip

    @classmethod
    def of_rows(
        cls,
        layout: str,
        names: Sequence[str],
        labels: Sequence[str],
        targets: Targets,
        *,
        closed: bool = False,
        groups: Mapping[str, str] | None,
        splits: Sequence[str],
        notes: Iterable[str],
        invalid: Iterable[str],
        aside: Iterable[str],
    ) -> Self:
        """The table of rows of targets, shape ``(N, L)``; rows of one image are joined by vote, as in `of`.

        `groups` has the group of each image by its name, and `splits` the split of each row.
        """
        order, notes = list(dict.fromkeys(names)), tuple(notes)
        if len(order) < len(names):
            split_of = dict(zip(reversed(names), reversed(splits), strict=True))  # of an image, that of its first row
            splits = [split_of[name] for name in order]
            row_of = {name: row for row, name in enumerate(order)}
            images = np.array([row_of[name] for name in names])
            votes = np.zeros((2, len(order), len(labels)), dtype=np.int32)
            for value in (0, 1):
                np.add.at(votes[value], images, targets == value)
            targets, num_ties = _majority(votes[1], votes[0])
            notes += (f"rows of images that several judged, joined by vote: {len(names):,}",)
            notes += (f"{TIES}: {num_ties:,}",) * bool(num_ties)
        return cls(
            layout, tuple(order), tuple(labels), targets, closed,
            groups=None if groups is None else tuple(groups[name] for name in order),
            splits=tuple(splits) if any(splits) else None,
            notes=notes,
            invalid=tuple(invalid),
            aside=tuple(aside),
        )  # fmt: skip

    def take(self, rows: Sequence[int]) -> Self:
        """The table of some images, in the order given."""
        columns = take_columns(self, ("names", "groups", "splits"), rows)
        return replace(self, targets=self.targets[list(rows)], **columns)


def take_columns(table: object, names: Iterable[str], rows: Sequence[int] | NDArray[np.int64]) -> dict[str, Any]:
    """Some rows of the columns of a table with these names, without columns that are empty or None."""
    return {name: tuple(column[row] for row in rows) for name in names if (column := getattr(table, name))}


def _clean(labels: Iterable[str]) -> set[str]:
    """The labels without surrounding spaces, and without empty ones."""
    return {label.strip() for label in labels} - {""}


def _count_votes(annotations: Sequence[Annotation], rows: dict[str, int], labels: Sequence[str]) -> tuple[Targets, int]:
    """As `_majority`, of the votes in the annotations of each image."""
    columns = {label: column for column, label in enumerate(labels)}
    shape = (len(rows), len(labels))
    votes_yes, votes_no = np.zeros(shape, dtype=np.int32), np.zeros(shape, dtype=np.int32)
    for annotation in annotations:
        row = rows[annotation.name]
        present = [columns[label] for label in annotation.present]
        if annotation.complete:
            votes_no[row] += 1
            votes_no[row, present] -= 1
        else:
            votes_no[row, [columns[label] for label in annotation.absent if label not in annotation.present]] += 1
        votes_yes[row, present] += 1
    return _majority(votes_yes, votes_no)


def _majority(votes_yes: NDArray[np.integer[Any]], votes_no: NDArray[np.integer[Any]]) -> tuple[Targets, int]:
    """The targets, shape ``(N, L)``, and the number of cells that are unknown because of a tie."""
    targets: Targets = np.full(votes_yes.shape, np.nan, dtype=np.float32)
    targets[votes_yes > votes_no] = 1
    targets[votes_no > votes_yes] = 0
    return targets, int(((votes_yes == votes_no) & (votes_yes > 0)).sum())


def spread_targets(labels: Sequence[str], targets: Targets, wanted: Sequence[str], *, closed: bool) -> Targets:
    """The targets of the `wanted` labels, shape ``(N, len(wanted))``; a label that is not in `labels` is unknown.

    With `closed` it does not apply to images of which anything is known.
    """
    spread = np.full((len(targets), len(wanted)), np.nan, dtype=np.float32)
    if closed:
        spread[~np.isnan(targets).all(axis=1)] = 0
    columns = {label: column for column, label in enumerate(wanted)}
    spread[:, [columns[label] for label in labels]] = targets
    return spread


def repeated_names(names: Iterable[str]) -> list[str]:
    """The names that occur more than once, sorted."""
    return sorted(name for name, count in Counter(names).items() if count > 1)


def note_missing_labels(labels: Sequence[str], wanted: Sequence[str], source: str = "the file") -> list[str]:
    """A note that names the `wanted` labels that are not in `labels`; empty if all are."""
    present = set(labels)
    missing = [label for label in wanted if label not in present]
    return [f"labels that {source} does not name, unknown for its images: {preview(missing, 10)}"] if missing else []


def note_empty_images(
    annotations: Iterable[Annotation], kind: str, meaning: str = "to which no label applies"
) -> list[str]:
    """A note that counts the images without a label; `kind` is what they lack, such as ``a tag``."""
    count = sum(not annotation.present for annotation in annotations)
    return [f"images without {kind}, {meaning}: {count:,}"] if count else []


def look_alikes(labels: Sequence[str]) -> list[list[str]]:
    """Groups of labels that may be one in several spellings.

    They differ only in case, spaces, ``_``, ``-``, invisible characters, or characters that Unicode calls compatible.
    """
    alike = defaultdict(list)
    for label in labels:
        visible = "".join(letter for letter in label if unicodedata.category(letter) != "Cf")
        alike[re.sub(r"[\s_-]+", "", unicodedata.normalize("NFKC", visible).casefold())].append(label)
    return [group for group in alike.values() if len(group) > 1]


def normalize_name(name: str) -> str:
    """A path without ``./`` and doubled slashes, so that an image has one name; URLs and empty names unchanged."""
    return os.path.normpath(name) if name and "://" not in name else name


def is_from_python(path: Path) -> bool:
    """Whether a label file is a table that a caller of the Python API passed."""
    return path.parent.name == TABLES_FOLDER


def relative_name(path: Path, root: Path) -> str:
    """A path relative to a folder with forward slashes; absolute if it is outside."""
    return path.relative_to(root).as_posix() if path.is_relative_to(root) else os.path.abspath(path)


def split_in_name(name: str) -> str:
    """The split that a file's or folder's name mentions, such as ``instances_train2017``; empty for none."""
    words = re.findall(r"[a-z]+", Path(name).name.lower())
    found = {SPLIT_NAMES[word] for word in words if word in SPLIT_NAMES}
    return found.pop() if len(found) == 1 else ""
