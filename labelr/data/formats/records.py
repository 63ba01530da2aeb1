"""What a reader gives: names of images and what is known of their labels, before the images are looked for."""

import os
import re
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

from labelr.data.labels import Targets
from labelr.data.splits import SPLIT_NAMES


class Entry(NamedTuple):
    """What one annotation says of an image.

    Attributes:
        name: The image, as the label file names it.
        present: Labels that apply.
        absent: Labels that are said not to apply.
        part: ``train``, ``val``, ``test``, or empty where the file does not say.
        complete: Whether every label that is not named is known not to apply; else it is unknown.
    """

    name: str
    present: Collection[str] = ()
    absent: Collection[str] = ()
    part: str = ""
    complete: bool = True


@dataclass(frozen=True)
class Records:
    """N images of a label file, in its order.

    Attributes:
        layout: How it was read, in a few words.
        names: The images as the file names them, each once.
        labels: L label names.
        targets: 1, 0 or NaN (unknown), shape ``(N, L)``.
        closed: Whether a label that the file never names is one that does not apply to its images.
        groups: For each image what it belongs together with; None where the file does not say.
        parts: For each image its part, empty where it is not said; None where the file says nothing of parts.
        notes: What was assumed, left out or odd, a sentence each.
        invalid: The rows that were left out, each with its reason.
        aside: Further images that the file speaks of: of rows that were left out, and copies of those named.
    """

    layout: str
    names: tuple[str, ...]
    labels: tuple[str, ...]
    targets: Targets
    closed: bool = False
    groups: tuple[str, ...] | None = None
    parts: tuple[str, ...] | None = None
    notes: tuple[str, ...] = ()
    invalid: tuple[str, ...] = ()
    aside: tuple[str, ...] = ()

    @classmethod
    def of(
        cls,
        entries: Iterable[Entry],
        layout: str,
        *,
        vocabulary: Sequence[str] | None = None,
        notes: Sequence[str] = (),
        invalid: Sequence[str] = (),
        aside: Sequence[str] = (),
    ) -> Self:
        """Records of what annotations say, those of one image taken together.

        Where annotations of an image differ on a label, the majority counts; a label that as many affirm as deny is
        unknown.

        Args:
            entries: One or more for each image.
            layout: How they were read, in a few words.
            vocabulary: The labels that the file declares, in order; None takes those that are named, sorted.
            notes: What was assumed.
            invalid: What was left out.
            aside: See there.
        """
        said = [
            entry._replace(present=_named(entry.present), absent=_named(entry.absent))
            for entry in entries
            if entry.name
        ]
        named = {label for entry in said for label in (*entry.present, *entry.absent)}
        declared = list(dict.fromkeys(label.strip() for label in vocabulary or () if label.strip()))
        labels = (*declared, *sorted(named - set(declared)))
        rows: dict[str, int] = {}
        parts: list[str] = []
        for entry in said:
            if entry.name not in rows:
                rows[entry.name] = len(rows)
                parts.append(entry.part)
        targets, num_contradictions = _count_votes(said, rows, labels)
        if num_contradictions:
            notes = (
                *notes,
                f"labels affirmed as often as denied of an image, which count as unknown: {num_contradictions:,}",
            )
        return cls(
            layout, tuple(rows), labels, targets,
            closed=vocabulary is None,
            parts=tuple(parts) if any(parts) else None,
            notes=tuple(notes),
            invalid=tuple(invalid),
            aside=tuple(aside),
        )  # fmt: skip


def _named(labels: Iterable[str]) -> set[str]:
    """The labels without spaces around them, and without those that are nothing."""
    return {label.strip() for label in labels} - {""}


def _count_votes(entries: Sequence[Entry], rows: dict[str, int], labels: Sequence[str]) -> tuple[Targets, int]:
    """The targets, shape ``(N, L)``, and how many of their cells are unknown because as many affirm as deny them."""
    columns = {label: column for column, label in enumerate(labels)}
    shape = (len(rows), len(labels))
    ayes, noes = np.zeros(shape, dtype=np.int16), np.zeros(shape, dtype=np.int16)
    for entry in entries:
        row = rows[entry.name]
        present = [columns[label] for label in entry.present]
        if entry.complete:
            noes[row] += 1
            noes[row, present] -= 1
        else:
            noes[row, [columns[label] for label in entry.absent if label not in entry.present]] += 1
        ayes[row, present] += 1
    targets: NDArray[np.float32] = np.where(ayes > noes, 1, np.where(noes > ayes, 0, np.nan)).astype(np.float32)
    return targets, int(((ayes == noes) & (ayes > 0)).sum())


def normal(name: str) -> str:
    """A path without ``./`` and doubled slashes, so that one image has one name; addresses and nothing as they are."""
    return os.path.normpath(name) if name and "://" not in name else name


def relative(path: Path, root: Path) -> str:
    """A path relative to a folder with forward slashes; whole where it is not inside of it."""
    return path.relative_to(root).as_posix() if path.is_relative_to(root) else os.path.abspath(path)


def part_in(name: str) -> str:
    """The part that a file's or folder's name speaks of, such as ``instances_train2017``; empty for none."""
    words = re.findall(r"[a-z]+", Path(name).name.lower())
    found = {SPLIT_NAMES[word] for word in words if word in SPLIT_NAMES}
    return found.pop() if len(found) == 1 else ""
