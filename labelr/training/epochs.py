"""Trains epoch after epoch, keeps the best one on disk, and stops when it gets no better."""

import logging
import time
from collections.abc import Iterable
from dataclasses import asdict, astuple, dataclass, fields, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import cast

import numpy as np
import torch

from labelr import files
from labelr.config import TrainConfig
from labelr.data.dataset import Dataset
from labelr.data.pixels import PixelSet
from labelr.data.splits import write_splits
from labelr.model import shelf, store
from labelr.model.decide import decide
from labelr.model.device import Machine
from labelr.model.info import ModelInfo
from labelr.model.network import count_parameters
from labelr.model.predict import BATCH_SIZE, predict_probs
from labelr.progress import Track
from labelr.scoring import metrics
from labelr.scoring.report.page import remove_report
from labelr.scoring.thresholds import USUAL
from labelr.training.batches import TrainImages
from labelr.training.events import event_log
from labelr.training.loop import Trainer
from labelr.training.prepare import Prepared
from labelr.training.schedule import Budget, Minutes, Steps

PAGE_SECONDS = 2
"""What the page takes that is written at the end."""

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class EpochRow:
    """One epoch: a row of ``history.csv``.

    Scores are of the validation part, not calibrated, labels applying from 0.5 on.
    """

    epoch: int
    train_loss: float
    val_loss: float
    val_map: float
    val_f1: float
    val_precision: float
    val_recall: float
    lr: float
    seconds: float
    images_per_second: float
    waited_seconds: float
    image_size: int

    def line(self, epochs: int | None) -> str:
        """The row as people read it while they wait."""
        losses_and_scores = {
            "train loss": self.train_loss, "val loss": self.val_loss, "mAP": self.val_map, "F1": self.val_f1,
        }  # fmt: skip
        shown = [f"{name} {value:.3f}" for name, value in losses_and_scores.items() if np.isfinite(value)]
        pace = [f"lr {self.lr:.1e}", f"{self.seconds:.1f} s", f"{self.images_per_second:.0f} images/s"]
        return "  ".join([f"epoch {_of(self.epoch, epochs)}", *shown, *pace])

    def criterion(self, select: str) -> float:
        """What the best epoch has most of; where validation images cannot say, the loss decides, else the epoch."""
        score = self.val_map if select == "map" else self.val_f1
        if np.isfinite(score):
            return score
        return -self.val_loss if np.isfinite(self.val_loss) else float(self.epoch)


def train(
    prepared: Prepared,
    config: TrainConfig,
    info: ModelInfo,
    machine: Machine,
    folder: Path,
    *,
    deadline: float | None,
    log_dir: Path | None,
    track: Track,
) -> tuple[ModelInfo, list[EpochRow]]:
    """Trains until the last epoch or the deadline, or until validation has not improved for `patience` epochs.

    Args:
        prepared: The data.
        config: The settings, as resolved.
        info: What is known of the model.
        machine: What to run on.
        folder: Where the model is saved.
        deadline: When all must be done, on the monotonic clock in seconds; None where epochs are counted.
        log_dir: Where TensorBoard events go; None for nowhere.
        track: Watches the progress.

    Returns:
        What was saved in `folder` with the best epoch's weights, and the history.

    Raises:
        LabelrError: If the loss is no number any more, or the model cannot be saved; the best one so far is whole.
    """
    pixels = prepared.dataset.pixels(
        info.preprocessing.image_size, rule=config.resize, options=config, threads=machine.workers, track=track
    )
    val, val_pixels = prepared.part("val"), pixels.part(prepared.rows("val"))
    images = TrainImages.of(
        prepared.part("train"), pixels.part(prepared.rows("train")), batch_size=cast("int", config.batch_size),
        seed=config.seed, squished=config.resize == "squish", pinned=machine.device.type == "cuda",
    )  # fmt: skip
    trainer = _make_trainer(images, config, info, machine, _budget(config, images, deadline))
    history: list[EpochRow] = []
    best = -np.inf
    with event_log(log_dir) as write_events:
        while not history or trainer.progress < 1:
            row = _run_epoch(trainer, history, (val, val_pixels), info, track)
            log.info("%s", row.line(config.epochs))
            history.append(row)
            if row.criterion(config.select) > best:
                best = row.criterion(config.select)
                if not info.best_epoch:
                    _write_data_files(prepared, folder)
                created = datetime.now(UTC).isoformat(timespec="milliseconds")
                info = store.save(folder, trainer.averaged, replace(info, best_epoch=row.epoch, created=created))
            files.write_atomically(folder / shelf.HISTORY_FILE, _history_csv(history))
            write_events(asdict(row), row.epoch)
            if config.patience and row.epoch - info.best_epoch >= config.patience:
                log.info("stopped early: validation has not improved for %d epochs", config.patience)
                break
    _tell_pace(history)
    return info, history


def _budget(config: TrainConfig, images: TrainImages, deadline: float | None) -> Budget:
    return Minutes(deadline) if deadline is not None else Steps(cast("int", config.epochs) * images.steps)


def _make_trainer(
    images: TrainImages, config: TrainConfig, info: ModelInfo, machine: Machine, budget: Budget
) -> Trainer:
    torch.manual_seed(config.seed)
    network = store.build_network(info)
    log.debug(
        "%s parameters, %s steps of %s images an epoch",
        f"{count_parameters(network):,}", f"{images.steps:,}", images.batch_size,
    )  # fmt: skip
    return Trainer(network, images, config, info.preprocessing, machine, budget)


def _run_epoch(
    trainer: Trainer, history: list[EpochRow], val: tuple[Dataset, PixelSet], info: ModelInfo, track: Track
) -> EpochRow:
    """Trains for one epoch and scores the averaged weights on the validation part."""
    epoch, start, lr, size = len(history) + 1, time.perf_counter(), trainer.lr, trainer.size
    steps_before, waited_before = trainer.steps, trainer.waited_seconds

    def describe() -> str:
        seconds = time.perf_counter() - start
        pace = (trainer.steps - steps_before) * trainer.images.batch_size / seconds
        return _live_line(trainer, history, pace)

    train_loss = trainer.run_epoch(epoch, track, describe)
    train_seconds = time.perf_counter() - start
    part, pixels = val
    batches = predict_probs(trainer.averaged, pixels.batches(BATCH_SIZE), info.preprocessing, trainer.machine)
    probs = np.concatenate([np.empty((0, len(info.labels)), np.float32), *batches])
    targets = part.table.targets
    counts = metrics.confusion(decide(probs, USUAL), targets, axis=None)
    seconds = time.perf_counter() - start
    page = PAGE_SECONDS if trainer.config.report else 0  # beside an epoch's like, the thresholds and the test part
    trainer.budget.reserve(4 * (seconds - train_seconds) + 1 + page)
    return EpochRow(
        epoch=epoch, train_loss=train_loss, val_loss=metrics.bce(probs, targets),
        val_map=float(metrics.mean_or_nan(metrics.average_precision(probs, targets))),
        val_f1=float(counts.f1[0]) if len(part.table) else np.nan,
        val_precision=float(counts.precision[0]) if len(part.table) else np.nan,
        val_recall=float(counts.recall[0]) if len(part.table) else np.nan, lr=lr, seconds=seconds,
        images_per_second=(trainer.steps - steps_before) * trainer.images.batch_size / train_seconds,
        waited_seconds=trainer.waited_seconds - waited_before, image_size=size,
    )  # fmt: skip


def _live_line(trainer: Trainer, history: list[EpochRow], pace: float) -> str:
    """What a person sees while an epoch goes by: where it is, the scores so far, and how long the rest will take."""
    parts = [f"epoch {_of(len(history) + 1, trainer.config.epochs)}"]
    if trainer.losses:
        parts.append(f"loss {float(trainer.losses[-1]):.3f}")
    if history:
        parts += [f"mAP {history[-1].val_map:.3f}", f"F1 {history[-1].val_f1:.3f}"]
    parts += [f"lr {trainer.lr:.1e}", f"{pace:.0f} images/s"]
    left = trainer.budget.seconds_left(trainer.steps)
    if np.isfinite(left):
        parts.append(f"{left // 60:.0f}:{left % 60:02.0f} left")
    return "  ".join(parts)


def _of(epoch: int, epochs: int | None) -> str:
    return f"{epoch}/{epochs}" if epochs else str(epoch)


def _tell_pace(history: list[EpochRow]) -> None:
    """Says how long training took, and how much of it went by in waiting for images."""
    seconds, waited = (
        sum(values) for values in zip(*((row.seconds, row.waited_seconds) for row in history), strict=True)
    )
    log.info(
        "trained for %d epochs in %.0f s, %.1f %% of it spent in waiting for images",
        len(history), seconds, 100 * waited / seconds,
    )  # fmt: skip


def _write_data_files(prepared: Prepared, folder: Path) -> None:
    """Writes what the model was made from, before the model itself: no model is without it."""
    dataset = prepared.dataset
    for name in (shelf.METRICS_FILE, shelf.PREDICTIONS_FILE):  # of the model that is being replaced
        (folder / name).unlink(missing_ok=True)
    remove_report(folder)
    write_splits(folder, dataset.table.files, prepared.part_names, dataset.digests)
    files.write_atomically(
        folder / shelf.ERRORS_FILE, files.csv_text(("filename", "reason"), dataset.unreadable.items())
    )


def _history_csv(history: Iterable[EpochRow]) -> str:
    return files.csv_text([field.name for field in fields(EpochRow)], (astuple(row) for row in history))
