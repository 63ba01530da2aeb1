"""Splits a data set into train, val and test: as the user states, else stratified with copies kept together."""

import hashlib
import logging
import re
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from labelr import files, serialization
from labelr.config import ReadOptions, TrainConfig
from labelr.data.dataset import Dataset
from labelr.data.duplicates import group_images
from labelr.data.formats.columns import Columns
from labelr.data.formats.source import Source
from labelr.data.formats.table import Table
from labelr.data.formats.words import SPLIT_COLUMNS
from labelr.data.label_files import TEXT_SUFFIXES
from labelr.data.label_table import SPLIT_NAMES, SPLITS, Targets, normalize_name, split_in_name
from labelr.data.match_images import ImageFinder
from labelr.data.walk import FileIndex, has_image_suffix
from labelr.errors import LabelrError, pluralize, pluralize_part, preview, suggest

SPLITS_FILE = "splits.csv"
HINT = "name a table with columns `image` and `split`, or train.txt, val.txt and test.txt with `--splits` for each"
FINGERPRINT = re.compile("[0-9a-f]{16}")
MAX_MOVES = 200
MAX_HEADER = 1000
"""Bytes of a first line in which the columns of our own tables are looked for."""

log = logging.getLogger(__name__)


class SplitRow(NamedTuple):
    """A row of ``splits.csv``.

    Attributes:
        image: Its name in the label file.
        split: ``"train"``, ``"val"`` or ``"test"``.
        digest: SHA-256 of its file; empty where it is not known.
        fingerprint: Its perceptual hash; None where it is not known, and for an image without.
    """

    image: str
    split: str
    digest: str
    fingerprint: int | None = None


def write_splits(folder: Path, dataset: Dataset) -> None:
    """Writes a model's ``splits.csv``: split, digest and fingerprint of images. Raises LabelrError if that fails."""
    columns = zip(dataset.files, dataset.split_names, dataset.digests, dataset.fingerprints, strict=True)
    files.write_atomically(folder / SPLITS_FILE, splits_csv(SplitRow(*row) for row in columns))


def splits_csv(rows: Iterable[SplitRow]) -> str:
    """The content of a ``splits.csv``."""
    cells = (
        (serialization.escape_formula_in_path(image), split, digest, "" if value is None else f"{value:016x}")
        for image, split, digest, value in rows
    )
    return serialization.csv_text(SplitRow._fields, cells)


def recorded_digests(folder: Path) -> set[str]:
    """The content digest of each image in a model's ``splits.csv``; empty without one."""
    try:
        with files.open_regular(folder / SPLITS_FILE) as file:
            content = file.read()
    except OSError:
        return set()
    return {digest.decode() for digest in re.findall(rb",([0-9a-f]{64})\b", content)}  # parsing is slow


def read_splits(path: Path, encoding: str | None = None, *, one_of_several: bool = False) -> list[SplitRow]:
    """The rows of a ``splits.csv``, or of another table of images and their splits, or of a folder of lists.

    Args:
        path: A table in any format that a table of labels may have, with a column of file names and one of splits and
            perhaps one of digests; or a folder with a list of images for each split, such as ``train.txt``.
        encoding: That of a file that labelr did not write; None finds it.
        one_of_several: Whether the file may itself be the list of the split that its name mentions.

    Raises:
        LabelrError: If it cannot be read, is no such table or folder, or has an image in two splits.
    """
    split = split_in_name(path.stem) if one_of_several else ""
    if split or path.is_dir():
        lists = {split: path} if split else _find_lists(path)
        rows = [SplitRow(name, split, "") for split, file in lists.items() for name in _read_list(file, encoding)]
    else:
        rows = _rows_of(_read_columns(path, encoding))
    _check_agreement(path, [(row.image, row.split) for row in rows])
    return rows


def _find_lists(folder: Path) -> dict[str, Path]:
    """The list of each split in a folder: the files called as a split is, else those that mention one."""
    files = sorted(path for path in folder.iterdir() if path.is_file() and not path.name.startswith("."))
    named = [(SPLIT_NAMES[path.stem.lower()], path) for path in files if path.stem.lower() in SPLIT_NAMES]
    named = named or [(split, path) for path in files if (split := split_in_name(path.stem))]
    lists: dict[str, Path] = {}
    for split, path in named:
        if split in lists:
            raise LabelrError(f"{folder} has two lists of {split}: {lists[split].name} and {path.name}", HINT)
        lists[split] = path
    if not lists:
        raise LabelrError(f"{folder} has no lists of images such as train.txt, val.txt and test.txt", HINT)
    return lists


def _read_list(path: Path, encoding: str | None) -> list[str]:
    """The names in a list of images: its lines, or the column of file names of a table with a header."""
    if path.suffix.lower() not in TEXT_SUFFIXES:
        return _read_columns(path, encoding).names
    with files.reading(path, HINT):
        text = Source(path, path.parent, ReadOptions(encoding=encoding)).text.content
    return [normalize_name(line.removesuffix("\r")) for line in text.split("\n") if line.strip()]


def _read_columns(path: Path, encoding: str | None) -> Columns:
    """The columns of a table; the one of splits is not searched for yet."""
    try:
        with files.open_regular(path) as file:  # names in our own tables may have bytes that are not UTF-8
            header = file.readline(MAX_HEADER).decode("ascii", "replace").strip().split(",")
        is_ours = header[:3] == list(SplitRow._fields[:3])
        options = ReadOptions(encoding="utf-8" if is_ours else encoding)
        source = Source(path, path.parent, options, keep_spaces=True)
        columns = Columns.find(_with_header(source.require_table()), source.options)
    except (OSError, LabelrError) as error:
        reason = error.message if isinstance(error, LabelrError) else f"cannot read {path}: {error.strerror}"
        raise LabelrError(reason, HINT) from error
    if source.encoding:
        log.info("%s is read in %s", path, source.encoding)
    return columns


def _with_header(table: Table) -> Table:
    """The table with a header if its first row is an image with its split."""
    kinds = ["image" if has_image_suffix(cell) else SPLIT_NAMES.get(cell.lower(), "") for cell in table.header]
    if "image" not in kinds or not {*kinds} & {*SPLITS}:
        return table
    header = [kind if kind == "image" else "split" if kind else f"column {n}" for n, kind in enumerate(kinds, start=1)]
    return replace(table, rows=[header, *table.rows], numbers=[0, *table.numbers])


def _rows_of(columns: Columns) -> list[SplitRow]:
    """The rows of a table whose column of splits is the one of that name, or the only one that holds splits."""
    table = columns.table
    named = [number for number, key in enumerate(table.keys) if key in SPLIT_COLUMNS]
    holding = [n for n in columns.unassigned() if all(cell.lower() in SPLIT_NAMES for cell in table.column(n))]
    split = columns.split if columns.split is not None else next(iter(holding or named), None)
    if split is None:
        raise LabelrError(f"{table.path} has no column `split`: {preview(table.header)}", HINT)
    columns = replace(columns, split=split)
    try:
        columns.find_invalid(unique=False)
    except LabelrError as error:
        raise _explain_invalid(columns, error) from error
    digests, fingerprints = (
        table.column(table.keys.index(key)) if key in table.keys else [""] * len(columns.names)
        for key in ("digest", "fingerprint")
    )
    parsed = (int(value, 16) if FINGERPRINT.fullmatch(value) else None for value in fingerprints)
    return [SplitRow(*cells) for cells in zip(columns.names, columns.splits, digests, parsed, strict=True)]


def _explain_invalid(columns: Columns, error: LabelrError) -> LabelrError:
    """The error of a table with invalid rows: that its column has numbers of folds, or what a word probably means."""
    table, number = columns.table, columns.split or 0
    cells = table.column(number)
    folds = sorted({*cells})
    if all(map(str.isdigit, cells)):
        found = f"expected train, val or test, got numbers of folds: {preview(folds, 5)}"
        remedy = f"write train, val or test, or leave `--splits` out and cross-validate with `--folds {len(folds)}`"
        return LabelrError(f'{table.path}, column "{table.header[number]}": {found}', remedy)
    words = [cell for cell, split in zip(cells, columns.splits, strict=True) if not split]
    meant = suggest(words[0].lower(), SPLITS) if words else ""
    return LabelrError(error.message, meant or "correct the row, or delete it")


def _check_agreement(path: Path | str, assigned: Iterable[tuple[str, str]]) -> None:
    """Raises LabelrError where a table assigns an image to two splits."""
    splits_of: dict[str, dict[str, None]] = {}
    for image, split in assigned:
        splits_of.setdefault(image, {})[split] = None
    torn = [f"{image} ({' and '.join(splits)})" for image, splits in splits_of.items() if len(splits) > 1]
    if torn:
        images = pluralize(len(torn), "image")
        raise LabelrError(f"{path} has {images} in two splits: {preview(torn)}", "delete one of their rows")


def split_dataset(dataset: Dataset, config: TrainConfig) -> Dataset:
    """The data set with its split: as the user states, else stratified over groups that are never split.

    If the user names no validation images, they are taken from the training images. With folds, all images are
    training images.

    Raises:
        LabelrError: If the user's table of splits cannot be read or lacks an image.
    """
    stated = _stated_splits(dataset, config)
    if config.folds:
        if stated is not None:
            raise LabelrError(
                f"{dataset.source} states which images are train, val and test, but folds use all of them",
                "leave out `--folds`, or the column",
            )
        return replace(dataset, splits=np.zeros(len(dataset), dtype=np.int64))
    if stated is not None:
        _warn_of_copies(dataset, stated)
        if (stated == SPLITS.index("val")).any():
            return replace(dataset, splits=stated)
        log.info("the split names no validation images: %.0f %% of the training images are", 100 * config.val_fraction)
    splits = np.zeros(len(dataset), dtype=np.int64) if stated is None else stated.copy()
    free = np.flatnonzero(splits == SPLITS.index("train"))
    test_fraction = config.test_fraction if stated is None else 0.0
    pool = dataset.take(free)
    groups = group_images(pool.digests, pool.fingerprints, pool.groups)
    kept_together = len(pool) - len(np.unique(groups))
    if kept_together:
        images = pluralize(kept_together, "image is", "images are")
        log.info("%s kept together with copies or groups", images)
    fractions = (1 - config.val_fraction - test_fraction, config.val_fraction, test_fraction)
    splits[free] = stratified_split(pool.targets, pool.digests, fractions, groups=groups, seed=config.seed)
    return replace(dataset, splits=splits)


def _warn_of_copies(dataset: Dataset, splits: NDArray[np.int64]) -> None:
    """Logs how many images of the user's splits have a copy or near-duplicate in another split."""
    groups = group_images(dataset.digests, dataset.fingerprints).tolist()
    splits_of: dict[int, set[int]] = {}
    for group, split in zip(groups, splits.tolist(), strict=True):
        splits_of.setdefault(group, set()).add(split)
    leaked = sum(len(splits_of[group]) > 1 for group in groups)
    if leaked:
        images = pluralize(leaked, "image has", "images have")
        log.warning("%s a copy or near-duplicate in another split: scores will be too good", images)


def _stated_splits(dataset: Dataset, config: TrainConfig) -> NDArray[np.int64] | None:
    """The splits that the user states, by ``--splits`` or a column of the label file; None where neither does."""
    if not config.splits:
        names = dataset.named_splits
        return None if names is None else np.array([SPLITS.index(split) for split in names])
    paths, source = [Path(path) for path in config.splits], preview(config.splits)
    is_several = len(paths) > 1
    rows = [row for path in paths for row in read_splits(path, config.encoding, one_of_several=is_several)]
    _check_agreement(source, [(row.image, row.split) for row in rows])
    by_name, by_digest = {row.image: row.split for row in rows}, {row.digest: row.split for row in rows if row.digest}
    found = [
        by_name.get(file) or by_digest.get(digest) for file, digest in zip(dataset.files, dataset.digests, strict=True)
    ]
    if None in found:
        by_file = _match_names(source, rows, dataset)
        found = [split or by_file.get(file) for file, split in zip(dataset.files, found, strict=True)]
    missing = [file for file, split in zip(dataset.files, found, strict=True) if split is None]
    if missing:
        raise LabelrError(
            f"{pluralize_part(len(missing), len(dataset), 'image')} not in {source}: {preview(missing)}",
            "add them, or leave them out of the data, such as with `--ignore GLOB`",
        )
    return np.array([SPLITS.index(split) for split in found if split is not None])


def _match_names(path: str, rows: Sequence[SplitRow], dataset: Dataset) -> dict[str, str]:
    """The splits of the images that a table names otherwise than the data set does, as in a label file."""
    finder = ImageFinder(dataset.root, FileIndex(), dataset.files)
    match = finder.find([row.image for row in rows], [dataset.root])
    assigned = [(file, row.split) for file, row in zip(match.files, rows, strict=True) if file is not None]
    _check_agreement(path, assigned)
    for note in match.notes:
        log.info("%s: %s", path, note)
    return dict(assigned)


def stratified_split(
    targets: Targets,
    digests: Sequence[str],
    fractions: Sequence[float],
    *,
    groups: NDArray[np.int64] | None = None,
    seed: int = 0,
) -> NDArray[np.int64]:
    """The subset of each image, such that every subset has its share of every label.

    Iterative stratification (Sechidis, Tsoumakas, Vlahavas 2011) over groups of images instead of single images: the
    rarest label is assigned first, each group to the subset that lacks that label most. Differences to the paper: a
    label's last groups go to subsets that have none of it yet, the first subset first, so that no label is missing
    without need; and ties are broken by content and seed, so that the order of the rows does not matter.

    Args:
        targets: 1, 0 or NaN (unknown), shape ``(N, L)``.
        digests: The content digest of each image.
        fractions: The share of each subset, such as train, val and test, with sum 1; a subset of share 0 stays empty.
        groups: A group number for each image, shape ``(N,)``; a group is never split. None makes images with the same
            digest a group.
        seed: Another seed gives another result.

    Returns:
        The subset of each image as an index into `fractions`, shape ``(N,)``.
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
    subsets = np.empty(len(numbers), dtype=np.int64)
    subsets[order] = _Stratifier(positives[order], sizes[order], np.array(fractions, dtype=np.float64)).assign_all()
    return subsets[group_of]


def _key(digest: str, seed: int) -> int:
    return int.from_bytes(hashlib.blake2b(f"{seed}:{digest}".encode(), digest_size=8).digest(), "little")


class _Stratifier:
    """Assigns groups to subsets; G groups, P subsets, L labels."""

    def __init__(
        self, positives: NDArray[np.float64], sizes: NDArray[np.int64], fractions: NDArray[np.float64]
    ) -> None:
        self.positives = positives  # (G, L)
        self.sizes = sizes  # (G,)
        self.has_label = positives > 0  # (G, L)
        self.loads = np.column_stack([positives, sizes])  # (G, L + 1)
        self.squares = (self.loads**2).sum(axis=1)  # (G,)
        self.usable = fractions > 0  # (P,)
        self.wanted = fractions[:, None] * positives.sum(axis=0)  # (P, L) positives that a subset still lacks
        self.room = np.where(self.usable, fractions * sizes.sum(), -np.inf)  # (P,) images that a subset still lacks
        self.weights = np.divide(1, fractions**2, out=np.zeros_like(fractions), where=self.usable)  # (P,)
        self.covered = np.zeros((len(fractions), positives.shape[1]), dtype=bool)  # (P, L)
        self.subsets = np.full(len(sizes), -1, dtype=np.int64)  # (G,)

    def assign_all(self) -> NDArray[np.int64]:
        """The subset of each group, shape ``(G,)``."""
        totals = self.has_label.sum(axis=0)
        while True:
            unassigned = self.subsets < 0
            counts = self.has_label[unassigned].sum(axis=0)
            if not counts.any():
                break
            rarest = np.lexsort((totals, np.where(counts > 0, counts, np.iinfo(np.int64).max)))
            label = int(rarest[0])
            members = np.flatnonzero(unassigned & self.has_label[:, label])
            for done, group in enumerate(members.tolist()):
                self._assign(group, self._choose_subset(label, left=len(members) - done))
        for group in np.flatnonzero(self.subsets < 0).tolist():  # groups without any positive
            self._assign(group, int(self.room.argmax()))
        for _ in range(MAX_MOVES):
            if not self._move_best():
                break
        return self.subsets

    def _choose_subset(self, label: int, left: int) -> int:
        """The subset for the next group with `label`, of which `left` groups are left."""
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

        The distance is the sum of squares, over subsets and labels and the subsets' sizes, of what a subset lacks as a
        share of what it is due. A subset keeps one group of each label that it has.
        """
        lacks = np.column_stack([self.wanted, np.where(self.usable, self.room, 0.0)])  # (P, L + 1)
        best, choice = -1e-9, None
        for source in np.flatnonzero(self.usable).tolist():
            members = np.flatnonzero(self.subsets == source)
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
        self._assign(group, target)
        return True

    def _assign(self, group: int, subset: int) -> None:
        self.subsets[group] = subset
        self.wanted[subset] -= self.positives[group]
        self.room[subset] -= self.sizes[group]
        self.covered[subset] |= self.has_label[group]
