"""Trains epoch after epoch, keeps the best one on disk, and stops when it gets no better."""

import logging
import time
from collections.abc import Iterable
from dataclasses import astuple, dataclass, fields, replace
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from labelr import files
from labelr.config import TrainConfig
from labelr.data.augment import MARGIN, Augmentation
from labelr.data.dataset import Dataset
from labelr.data.loader import TrainImages, decode_all, in_batches
from labelr.data.splits import write_splits
from labelr.model import shelf, store
from labelr.model.device import Machine
from labelr.model.info import ModelInfo
from labelr.model.network import count_parameters
from labelr.model.predict import BATCH_SIZE, predict_probs
from labelr.progress import Track
from labelr.scoring.evaluate import Evaluation
from labelr.training.loop import Trainer
from labelr.training.prepare import Prepared

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class EpochRow:
    """One epoch: a row of ``history.csv``. Scores are of the validation part, labels applying from 0.5 on."""

    epoch: int
    train_loss: float
    val_loss: float
    val_map: float
    val_f1: float
    lr: float
    seconds: float
    images_per_second: float

    def line(self, epochs: int) -> str:
        """The row as people read it while they wait."""
        losses_and_scores = {
            "train loss": self.train_loss, "val loss": self.val_loss, "mAP": self.val_map, "F1": self.val_f1,
        }  # fmt: skip
        shown = [f"{name} {value:.3f}" for name, value in losses_and_scores.items() if np.isfinite(value)]
        pace = [f"lr {self.lr:.1e}", f"{self.seconds:.1f} s", f"{self.images_per_second:.0f} images/s"]
        return "  ".join([f"epoch {self.epoch}/{epochs}", *shown, *pace])

    def criterion(self, select: str) -> float:
        """What the best epoch has most of; where validation images cannot say, the loss decides, else the epoch."""
        score = self.val_map if select == "map" else self.val_f1
        if np.isfinite(score):
            return score
        return -self.val_loss if np.isfinite(self.val_loss) else float(self.epoch)


def train(
    prepared: Prepared, config: TrainConfig, info: ModelInfo, machine: Machine, folder: Path, track: Track
) -> tuple[ModelInfo, list[EpochRow]]:
    """Trains until the last epoch, or until validation has not improved for `patience` epochs.

    Returns:
        What was saved in `folder` with the best epoch's weights, and the history.

    Raises:
        LabelrError: If the loss is no number any more, or the model cannot be saved; the best one so far is whole.
    """
    val = prepared.part("val")
    val_pixels = _decode(val, info.preprocessing.image_size, config, machine, track)
    trainer = _make_trainer(prepared.part("train"), config, info, machine, track)
    history: list[EpochRow] = []
    best = -np.inf
    for epoch in range(1, config.epochs + 1):
        start = time.perf_counter()
        lr = trainer.lr
        train_loss = trainer.run_epoch(epoch, track, f"epoch {epoch}/{config.epochs}")
        train_seconds = time.perf_counter() - start
        scores = _score(trainer, val_pixels, val, info, machine)
        row = EpochRow(
            epoch, train_loss, scores["loss"], scores["map_macro"], scores["f1_micro"], lr,
            time.perf_counter() - start, len(trainer.order) * trainer.order.batch_size / train_seconds,
        )  # fmt: skip
        log.info("%s", row.line(config.epochs))
        history.append(row)
        if row.criterion(config.select) > best:
            best = row.criterion(config.select)
            if not info.best_epoch:
                _write_data_files(prepared, folder)
            created = datetime.now(UTC).isoformat(timespec="milliseconds")
            info = store.save(folder, trainer.averaged, replace(info, best_epoch=epoch, created=created))
        files.write_atomically(folder / shelf.HISTORY_FILE, _history_csv(history))
        if epoch - info.best_epoch >= config.patience:
            log.info("stopped early: validation has not improved for %d epochs", config.patience)
            break
    return info, history


def _make_trainer(part: Dataset, config: TrainConfig, info: ModelInfo, machine: Machine, track: Track) -> Trainer:
    image_size = info.preprocessing.image_size
    stored_size = round(image_size * MARGIN)
    pixels = _decode(part, stored_size, config, machine, track)
    images = TrainImages(pixels, part.table.targets, Augmentation(stored_size, image_size, flip=config.flip))
    torch.manual_seed(config.seed)
    network = store.build_network(info)
    log.debug("%s parameters, %s steps an epoch", f"{count_parameters(network):,}", len(images) // config.batch_size)
    return Trainer(network, images, config, info.preprocessing, machine)


def _decode(part: Dataset, size: int, config: TrainConfig, machine: Machine, track: Track) -> NDArray[np.uint8]:
    return decode_all(
        part.table.paths,
        size,
        rule=config.resize,
        max_pixels=config.max_pixels,
        threads=machine.workers,
        track=track,
    )


def _score(
    trainer: Trainer, pixels: NDArray[np.uint8], part: Dataset, info: ModelInfo, machine: Machine
) -> dict[str, float]:
    """The metrics of the averaged weights on one part."""
    batches = predict_probs(trainer.averaged, in_batches(pixels, BATCH_SIZE), info.preprocessing, machine)
    probs = np.concatenate([np.empty((0, len(info.labels)), np.float32), *batches])
    return Evaluation(info.labels, probs, part.table.targets, np.array(info.thresholds)).metrics


def _write_data_files(prepared: Prepared, folder: Path) -> None:
    """Writes what the model was made from, before the model itself: no model is without it."""
    dataset = prepared.dataset
    (folder / shelf.METRICS_FILE).unlink(missing_ok=True)  # of the model that is being replaced
    write_splits(folder, dataset.table.files, prepared.part_names, dataset.digests)
    files.write_atomically(
        folder / shelf.ERRORS_FILE, files.csv_text(("filename", "reason"), dataset.unreadable.items())
    )


def _history_csv(history: Iterable[EpochRow]) -> str:
    return files.csv_text([field.name for field in fields(EpochRow)], (astuple(row) for row in history))
