"""Trains epoch after epoch, keeps the best one on disk, and stops when it gets no better."""

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, cast

import torch

from labelr import files, signals
from labelr.config import TrainConfig
from labelr.data.dataset import Dataset
from labelr.data.splits import write_splits
from labelr.errors import LabelrError
from labelr.model import store
from labelr.model.device import Runtime
from labelr.model.info import ModelInfo
from labelr.model.network import count_parameters
from labelr.progress import Track
from labelr.scoring.report.page import remove_report
from labelr.training.batches import TrainImages
from labelr.training.checkpoint import Checkpoints
from labelr.training.course import Course
from labelr.training.events import event_log
from labelr.training.history import EpochRow, history_csv, out_of
from labelr.training.schedule import Budget, Minutes, Steps
from labelr.training.trainer import Trainer

log = logging.getLogger(__name__)


def train(
    dataset: Dataset,
    config: TrainConfig,
    info: ModelInfo,
    machine: Runtime,
    folder: Path,
    *,
    deadline: float | None,
    log_dir: Path | None,
    track: Track,
    after_epoch: Callable[[Sequence[EpochRow]], None] = lambda _: None,
) -> tuple[ModelInfo, list[EpochRow]]:
    """Trains until the last epoch or the deadline, or until validation has not improved for `patience` epochs.

    Goes on from the checkpoint in the folder, if there is one.

    Args:
        dataset: The data.
        config: The settings, as resolved.
        info: What is known of the model.
        machine: What to run on.
        folder: Where the model is saved.
        deadline: When all must be done, on the monotonic clock in seconds; None where epochs are counted.
        log_dir: Where TensorBoard events go; None for nowhere.
        track: Watches the progress.
        after_epoch: Called with the history after each epoch, and once before the first where there is one already.

    Returns:
        What was saved in `folder` with the best epoch's weights, and the history.

    Raises:
        LabelrError: If the loss is no number any more, or the model cannot be saved; the best one so far is whole.
        Stopped: If a signal has asked for it; the checkpoint is of the last step that was made.
    """
    pixels = dataset.pixels(
        info.preprocessing.image_size, rule=config.resize, options=config, threads=machine.workers, track=track
    )
    val, val_pixels = dataset.split("val"), pixels.subset(dataset.split_rows("val"))
    images = TrainImages.of(
        dataset.split("train"), pixels.subset(dataset.split_rows("train")), batch_size=cast("int", config.batch_size),
        seed=config.seed, squished=config.resize == "squish", pinned=machine.device.type == "cuda",
    )  # fmt: skip
    checkpoints = Checkpoints(folder, minutes=config.checkpoint_minutes, wanted=deadline is None)
    with signals.deferred(), event_log(log_dir) as write_events:
        state = checkpoints.load()
        trainer = _make_trainer(images, config, info, machine, _budget(config, images, deadline, state))
        course = Course(trainer, (val, val_pixels), checkpoints, track)
        if state:
            checkpoints.restore(course.restore, state)
            log.info("going on in epoch %s, after %s steps", out_of(trainer.epoch, config.epochs), f"{trainer.steps:,}")
            info = _restored_best(info, course, dataset, folder)
            after_epoch(course.history)
        while not course.is_over:
            row = course.next_epoch()
            log.info("%s", row.line(config.epochs))
            if row is course.best:
                info = _keep(info, course, dataset, folder)
            _write_history(course, folder)
            write_events(asdict(row), row.epoch)
            after_epoch(course.history)
            signals.raise_if_stopped()
    if trainer.progress < 1:
        log.info("stopped early: validation has not improved for %d epochs", config.patience)
    _tell_pace(course.history)
    return info, course.history


def _keep(info: ModelInfo, course: Course, dataset: Dataset, folder: Path) -> ModelInfo:
    """Saves the averaged weights of the epoch that has just ended as the best model so far."""
    info = replace(info, best_epoch=course.best.epoch, created=course.best_created, config=_reached(info, course))
    if not info.weights:
        _write_data_files(dataset, folder, info)
    return store.save(folder, course.trainer.averaged, info)


def _reached(info: ModelInfo, course: Course) -> dict[str, Any]:
    """The settings, with what became of them on the way."""
    return {**info.config, "micro_batch": course.trainer.micro_batch}


def _restored_best(info: ModelInfo, course: Course, dataset: Dataset, folder: Path) -> ModelInfo:
    """The best model so far; saved now, if the run was killed between its checkpoint and that."""
    if not course.history:
        return info
    _write_history(course, folder)
    if (folder / store.INFO_FILE).is_file():
        saved = store.load_info(folder)
        if saved.created >= course.best_created:  # not one that this run is to replace
            saved = replace(saved, complete=False, config=_reached(info, course))
            # it was complete if the run was stopped very late: what was fitted on its probabilities is fitted again
            saved = replace(saved, calibration=info.calibration, thresholds=info.thresholds)
            store.save_info(folder, saved)
            return saved
    if course.trainer.losses or len(course.history) > course.best.epoch:
        raise LabelrError(f"the best model so far is gone from {folder}", "start the run anew with `--force`")
    return _keep(info, course, dataset, folder)


def _write_history(course: Course, folder: Path) -> None:
    files.write_atomically(folder / store.HISTORY_FILE, history_csv(course.history))


def _budget(
    config: TrainConfig, images: TrainImages, deadline: float | None, state: Mapping[str, Any] | None
) -> Budget:
    if deadline is not None:
        if deadline <= time.monotonic():
            raise LabelrError(
                "the time was over before training began: reading the images took it", "allow more `--time`"
            )
        return Minutes(deadline)
    return Steps(cast("int", config.epochs) * images.steps, made=state["steps"] if state else 0)


def _make_trainer(
    images: TrainImages, config: TrainConfig, info: ModelInfo, machine: Runtime, budget: Budget
) -> Trainer:
    torch.manual_seed(config.seed)
    network = store.build_network(info)
    log.debug(
        "%s parameters, %s steps of %s images an epoch",
        f"{count_parameters(network):,}", f"{images.steps:,}", images.batch_size,
    )  # fmt: skip
    return Trainer(network, images, config, info.preprocessing, machine, budget)


def _tell_pace(history: list[EpochRow]) -> None:
    """Says how long training took, and how much of it went by in waiting for images."""
    seconds, waited = (
        sum(values) for values in zip(*((row.seconds, row.waited_seconds) for row in history), strict=True)
    )
    log.info(
        "trained for %d epochs in %.0f s, %.1f %% of it spent in waiting for images",
        len(history), seconds, 100 * waited / seconds,
    )  # fmt: skip


def _write_data_files(dataset: Dataset, folder: Path, info: ModelInfo) -> None:
    """Writes what the model was made from, before the model itself: no model is without it."""
    for name in (store.METRICS_FILE, store.PREDICTIONS_FILE):  # of the model that is being replaced
        (folder / name).unlink(missing_ok=True)
    remove_report(folder)
    files.write_atomically(folder / store.CONFIG_FILE, files.json_text(info.config))
    write_splits(folder, dataset)
    files.write_atomically(folder / store.ERRORS_FILE, dataset.errors_csv)
