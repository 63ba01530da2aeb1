"""What training needs before its first step: settings resolved, data read, labels chosen, images split."""

import logging
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import cast

from labelr import files
from labelr.config import Device, TrainConfig
from labelr.data import synthetic
from labelr.data.dataset import Dataset
from labelr.data.label_table import SPLITS
from labelr.data.load import load_dataset
from labelr.data.splits import split_dataset
from labelr.errors import LabelrError, preview
from labelr.model.device import Runtime
from labelr.progress import Track, untracked

DEFAULT_EPOCHS = 30

log = logging.getLogger(__name__)


def resolve(config: TrainConfig, machine: Runtime, *, drawn: bool, num_train: int) -> TrainConfig:
    """The settings with every "auto" replaced by what it stands for here.

    Args:
        config: The settings as given.
        machine: What training will run on.
        drawn: Whether the images are drawn, and so are small, and easier to learn from.
        num_train: How many images there are to train on.
    """
    on_cpu = machine.device.type == "cpu"
    usual_size = synthetic.SIZE if drawn else 128 if on_cpu else 224
    log.debug(
        "on %s in %s, %d threads, %d workers", machine.device.type, machine.precision, machine.threads, machine.workers
    )
    return replace(
        config,
        image_size=config.image_size or usual_size,
        epochs=config.epochs or (None if config.time else DEFAULT_EPOCHS),
        patience=config.patience or (None if config.time else 10),
        width=config.width or (0.5 if drawn else 1.0),
        batch_size=config.batch_size or default_batch_size(num_train, most=32 if drawn else 64),
        lr=config.lr or (4e-3 if drawn or config.optimizer == "muon" else 1.5e-3),
        device=cast("Device", machine.device.type),
        amp=machine.precision != "fp32",
        threads=machine.threads,
        workers=machine.workers,
    )


def default_batch_size(num_train: int, *, most: int) -> int:
    """A power of two from 8 to `most` that gives an epoch at least 16 steps, where there are images enough."""
    return next((size for size in (64, 32, 16) if size <= most and num_train >= 16 * size), 8)


def prepare(data: Sequence[Path], config: TrainConfig, machine: Runtime, *, track: Track = untracked) -> Dataset:
    """Reads the data set of some folders, or draws one where there are none, and divides it into train, val and test.

    Raises:
        LabelrError: If there is nothing to learn from.
    """
    folders = data or [_draw(config, track)]
    dataset = _with_learnable_labels(load_dataset(folders, config, threads=machine.workers, track=track))
    dataset = split_dataset(dataset, config)
    sizes = {split: len(dataset.split_rows(split)) for split in SPLITS}
    log.info("split: %s", ", ".join(f"{size:,} {split}" for split, size in sizes.items()))
    if sizes["train"] < 2:
        raise LabelrError(f"{len(dataset)} images leave {sizes['train']} to train on", "label more images")
    if config.has_target and not (config.folds or sizes["val"]):
        raise LabelrError(
            "there are no validation images on which thresholds could reach a target",
            "set `--val-fraction` above 0, or leave out `--target-precision` and `--target-recall`",
        )
    return dataset


def _draw(config: TrainConfig, track: Track) -> Path:
    """A drawn data set, kept in the cache so that it can be looked at and tagged."""
    name = f"{config.synthetic}-images-{config.num_labels}-labels-seed-{config.seed}"
    folder = files.home() / "synthetic" / name
    synthetic.make_synthetic_dataset(folder, config.synthetic, config.num_labels, seed=config.seed, track=track)
    return folder


def _with_learnable_labels(dataset: Dataset) -> Dataset:
    """The data set without the labels that no image has."""
    absent = [label for label, count in zip(dataset.labels, dataset.positives, strict=True) if count == 0]
    if not absent:
        return dataset
    if len(absent) == len(dataset.labels):
        raise LabelrError(f"{dataset.source}: no image has any label", "mark with 1 which labels an image has")
    log.warning("%d labels have no positive and are left out: %s", len(absent), preview(absent))
    kept = [label for label in dataset.labels if label not in absent]
    return dataset.with_labels(kept)
