"""Divides a data set into train, val and test: as the user says, else so that copies stay together."""

import logging
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from labelr.config import TrainConfig
from labelr.data.dataset import Dataset
from labelr.data.duplicates import group_images
from labelr.data.splits import SPLITS, read_splits, stratified_split
from labelr.errors import LabelrError, preview

log = logging.getLogger(__name__)


def divide(dataset: Dataset, config: TrainConfig) -> NDArray[np.int64]:
    """The part of each image, shape ``(N,)``: as the user says, else stratified over groups that are not divided.

    Where the user names no images for validation, they are taken from those for training. With folds, all images are
    for training.

    Raises:
        LabelrError: If the user's table of parts cannot be read or lacks an image.
    """
    given = _given_parts(dataset, config)
    if config.folds:
        if given is not None:
            raise LabelrError(
                f"{dataset.table.source} says which images are train, val and test, and folds take all of them",
                "leave `--folds` out, or the column",
            )
        return np.zeros(len(dataset.table), dtype=np.int64)
    if given is not None:
        _warn_of_copies(dataset.digests, given)
    free = np.arange(len(dataset.table)) if given is None else np.flatnonzero(given == SPLITS.index("train"))
    parts = np.zeros(len(dataset.table), dtype=np.int64) if given is None else given.copy()
    if given is not None and (given == SPLITS.index("val")).any():
        return parts
    test_fraction = config.test_fraction if given is None else 0.0
    pool = dataset.take(free)
    groups = group_images(pool.digests, pool.fingerprints, pool.table.groups)
    kept_together = len(pool.table) - len(np.unique(groups))
    if kept_together:
        log.info("%s images are kept together with their copies or groups", f"{kept_together:,}")
    fractions = (1 - config.val_fraction - test_fraction, config.val_fraction, test_fraction)
    parts[free] = stratified_split(pool.table.targets, pool.digests, fractions, groups=groups, seed=config.seed)
    return parts


def _warn_of_copies(digests: Sequence[str], parts: NDArray[np.int64]) -> None:
    """Says how many images are in one of the user's parts and byte for byte in another."""
    parts_of: dict[str, set[int]] = {}
    for digest, part in zip(digests, parts.tolist(), strict=True):
        parts_of.setdefault(digest, set()).add(part)
    divided = sum(len(parts_of[digest]) > 1 for digest in digests)
    if divided:
        log.warning("%d images have a copy in another part: scores will be too good", divided)


def _given_parts(dataset: Dataset, config: TrainConfig) -> NDArray[np.int64] | None:
    """The parts that the user names, by ``--splits`` or a column of the label file; None where neither does."""
    table = dataset.table
    if config.splits is None:
        return None if table.parts is None else np.array([SPLITS.index(part) for part in table.parts])
    rows = read_splits(Path(config.splits))
    by_name, by_digest = {row.image: row.part for row in rows}, {row.digest: row.part for row in rows if row.digest}
    found = [by_name.get(file) or by_digest.get(one) for file, one in zip(table.files, dataset.digests, strict=True)]
    missing = [file for file, part in zip(table.files, found, strict=True) if part is None]
    if missing:
        raise LabelrError(
            f"{len(missing):,} of {len(table):,} images are not in {config.splits}: {preview(missing)}",
            "add them to the table, or leave `--splits` out",
        )
    return np.array([SPLITS.index(part) for part in found if part is not None])
