"""Divides images into train, val and test: stratified by label, and the same for the same files."""

import csv
import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from labelr import files
from labelr.data.labels import Targets
from labelr.errors import LabelrError, preview

SPLITS = ("train", "val", "test")
SPLIT_NAMES = {
    "train": "train", "training": "train",
    "val": "val", "valid": "val", "validation": "val", "dev": "val",
    "test": "test", "testing": "test",
}  # fmt: skip
"""What people call the parts."""
SPLITS_FILE = "splits.csv"
MAX_MOVES = 200


class SplitRow(NamedTuple):
    """A row of ``splits.csv``: an image, its part, and its content digest, empty where it is not known."""

    image: str
    part: str
    digest: str


def write_splits(folder: Path, images: Sequence[str], parts: Sequence[str], digests: Sequence[str]) -> None:
    """Writes ``splits.csv`` into a model's directory: which part each image was in, and its content digest.

    Raises:
        LabelrError: If it cannot be written.
    """
    table = files.csv_text(("image", "part", "digest"), zip(images, parts, digests, strict=True))
    files.write_atomically(folder / SPLITS_FILE, table)


def read_splits(path: Path) -> list[SplitRow]:
    """The rows of a ``splits.csv``; the digests may be left out.

    Raises:
        LabelrError: If it cannot be read, or is no such table.
    """
    try:
        with path.open(encoding="utf-8-sig", errors="surrogateescape", newline="") as file:
            reader = csv.DictReader(file)
            rows, names = list(reader), reader.fieldnames or ()
    except (OSError, csv.Error) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise LabelrError(f"cannot read {path}: {reason}", "name a table of parts with `--splits FILE`") from error
    if not {"image", "part"} <= set(names):
        raise LabelrError(
            f"{path}: expected the columns image and part, got {preview(names) or 'none'}", "correct its first line"
        )
    for number, row in enumerate(rows, start=2):
        if (row["part"] or "").lower() not in SPLIT_NAMES or not row["image"]:
            raise LabelrError(
                f"{path}, row {number}: expected an image and train, val or test, "
                f"got {row['image']!r} and {row['part']!r}",
                "correct the row, or delete it",
            )
    return [SplitRow(row["image"], SPLIT_NAMES[row["part"].lower()], row.get("digest") or "") for row in rows]


def stratified_split(
    targets: Targets,
    digests: Sequence[str],
    fractions: Sequence[float],
    *,
    groups: NDArray[np.int64] | None = None,
    seed: int = 0,
) -> NDArray[np.int64]:
    """Which part each image belongs to, so that every part has its share of every label.

    Iterative stratification (Sechidis, Tsoumakas, Vlahavas 2011) over groups of images instead of single ones: the
    rarest label is dealt out first, each group to the part that lacks that label most. Unlike theirs, a label's last
    groups go to parts that have none of it yet, train first, so that no label is missing where it need not be; and
    ties are broken by content and seed, so that the order of the rows does not matter.

    Args:
        targets: 1, 0 or NaN (unknown), shape ``(N, L)``.
        digests: The content digest of each image.
        fractions: The shares of train, val and test, or of any other parts, with sum 1; a part of share 0 stays empty.
        groups: A group number for each image, shape ``(N,)``; a group is never divided. None makes a group of the
            images with one digest.
        seed: Another seed gives another split.

    Returns:
        The part of each image as an index into `fractions`, and so into ``SPLITS``, shape ``(N,)``.
    """
    keys = np.array([_key(digest, seed) for digest in digests], dtype=np.uint64)
    members = np.unique(keys, return_inverse=True)[1] if groups is None else groups
    numbers, group_of = np.unique(members, return_inverse=True)
    group_keys = np.full(len(numbers), np.iinfo(np.uint64).max, dtype=np.uint64)
    np.minimum.at(group_keys, group_of, keys)
    positives = np.zeros((len(numbers), targets.shape[1]))
    np.add.at(positives, group_of, np.nan_to_num(targets))
    sizes = np.bincount(group_of, minlength=len(numbers))
    order = np.lexsort((group_keys, -sizes))  # large groups first, while there is room for them
    parts = np.empty(len(numbers), dtype=np.int64)
    parts[order] = _Dealer(positives[order], sizes[order], np.array(fractions, dtype=np.float64)).deal()
    return parts[group_of]


def _key(digest: str, seed: int) -> int:
    return int.from_bytes(hashlib.blake2b(f"{seed}:{digest}".encode(), digest_size=8).digest(), "little")


class _Dealer:
    """Deals groups out to parts; G groups, P parts, L labels."""

    def __init__(
        self, positives: NDArray[np.float64], sizes: NDArray[np.int64], fractions: NDArray[np.float64]
    ) -> None:
        self.positives = positives  # (G, L)
        self.sizes = sizes  # (G,)
        self.has_label = positives > 0  # (G, L)
        self.loads = np.column_stack([positives, sizes])  # (G, L + 1)
        self.squares = (self.loads**2).sum(axis=1)  # (G,)
        self.usable = fractions > 0  # (P,)
        self.wanted = fractions[:, None] * positives.sum(axis=0)  # (P, L) positives that a part still lacks
        self.room = np.where(self.usable, fractions * sizes.sum(), -np.inf)  # (P,) images that a part still lacks
        self.weights = np.divide(1, fractions**2, out=np.zeros_like(fractions), where=self.usable)  # (P,)
        self.covered = np.zeros((len(fractions), positives.shape[1]), dtype=bool)  # (P, L)
        self.parts = np.full(len(sizes), -1, dtype=np.int64)  # (G,)

    def deal(self) -> NDArray[np.int64]:
        """The part of each group, shape ``(G,)``."""
        totals = self.has_label.sum(axis=0)
        while True:
            undealt = self.parts < 0
            counts = self.has_label[undealt].sum(axis=0)
            if not counts.any():
                break
            rarest = np.lexsort((totals, np.where(counts > 0, counts, np.iinfo(np.int64).max)))
            label = int(rarest[0])
            members = np.flatnonzero(undealt & self.has_label[:, label])
            for done, group in enumerate(members.tolist()):
                self._give(group, self._choose(label, left=len(members) - done))
        for group in np.flatnonzero(self.parts < 0).tolist():  # groups without any positive
            self._give(group, int(self.room.argmax()))
        for _ in range(MAX_MOVES):
            if not self._move_best():
                break
        return self.parts

    def _choose(self, label: int, left: int) -> int:
        """The part for the next group with `label`, of which `left` groups are left."""
        lacking = self.usable & ~self.covered[:, label]
        if left <= lacking.sum():
            if lacking[0]:
                return 0
            candidates = lacking
        else:
            candidates = self.usable
        wanted = np.where(candidates, self.wanted[:, label], -np.inf)
        most = candidates & (wanted == wanted.max())
        return int(np.where(most, self.room, -np.inf).argmax())

    def _move_best(self) -> bool:
        """Moves the group that brings the shares closest to the wanted ones; False where no move does.

        The distance is the sum of squares, over parts and labels and the parts' sizes, of what a part lacks as a share
        of what it is due. A part keeps one group of each label that it has.
        """
        lacks = np.column_stack([self.wanted, np.where(self.usable, self.room, 0.0)])  # (P, L + 1)
        best, choice = -1e-9, None
        for source in np.flatnonzero(self.usable).tolist():
            members = np.flatnonzero(self.parts == source)
            last = self.has_label[members].sum(axis=0) <= 1
            members = members[~(self.has_label[members] & last).any(axis=1)]
            for target in np.flatnonzero(self.usable).tolist():
                if target == source or not len(members):
                    continue
                w, v = self.weights[source], self.weights[target]
                toward = 2 * (w * lacks[source] - v * lacks[target])
                change = self.loads[members] @ toward + (w + v) * self.squares[members]
                if change.min() < best:
                    best, choice = float(change.min()), (int(members[change.argmin()]), source, target)
        if choice is None:
            return False
        group, source, target = choice
        self.wanted[source] += self.positives[group]
        self.room[source] += self.sizes[group]
        self._give(group, target)
        return True

    def _give(self, group: int, part: int) -> None:
        self.parts[group] = part
        self.wanted[part] -= self.positives[group]
        self.room[part] -= self.sizes[group]
        self.covered[part] |= self.has_label[group]
