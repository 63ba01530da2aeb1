"""How a run goes: epoch after epoch trained and scored, and saved so that it can go on."""

import time
from collections.abc import Callable, Mapping
from dataclasses import asdict
from datetime import UTC, datetime
from functools import partial
from typing import Any

import numpy as np

from labelr import signals
from labelr.data.dataset import Dataset
from labelr.data.pixels import PixelSet
from labelr.errors import LabelrError
from labelr.model.calibration import decide
from labelr.model.predict import BATCH_SIZE, Probs, optimize_for_inference, predict_probs
from labelr.progress import Track
from labelr.scoring import metrics
from labelr.scoring.thresholds import DEFAULT_THRESHOLD
from labelr.training.checkpoint import Checkpoints
from labelr.training.history import EpochRow, out_of
from labelr.training.trainer import Trainer

PAGE_SECONDS = 2
"""What the page takes that is written at the end."""


class Course:
    """The course of a run.

    Args:
        trainer: Trains.
        val: The validation images, whose scores choose the best epoch, and their pixels.
        checkpoints: Where the course is saved.
        track: Watches the progress.

    Attributes:
        history: The epochs so far.
        best_created: When the best of them ended, ISO 8601; the model saved then says the same.
    """

    def __init__(self, trainer: Trainer, val: tuple[Dataset, PixelSet], checkpoints: Checkpoints, track: Track) -> None:
        self.trainer = trainer
        self.history: list[EpochRow] = []
        self.best_created = ""
        self._val, self._val_pixels = val
        self._checkpoints = checkpoints
        self._track = track
        self._seconds = 0.0  # that the present epoch took before the run was stopped

    @property
    def best(self) -> EpochRow:
        """The best epoch so far, the first of equals."""
        return max(self.history, key=lambda row: row.criterion(self.trainer.config.select))

    @property
    def is_over(self) -> bool:
        """Whether all is done, or validation has not improved for too long."""
        if not self.history or self.trainer.losses:
            return False
        patience = self.trainer.config.patience
        return self.trainer.progress >= 1 or bool(patience and len(self.history) - self.best.epoch >= patience)

    def restore(self, state: Mapping[str, Any]) -> None:
        """Goes back to where a checkpoint was saved."""
        self.trainer.restore(state)
        self.history = [EpochRow(**row) for row in state["history"]]
        self.best_created, self._seconds = state["best_created"], state["seconds"]

    def next_epoch(self) -> EpochRow:
        """Trains for one epoch, or what is left of it, scores the averaged weights on validation images, and saves.

        Raises:
            LabelrError: If the network gives no numbers any more, memory does not suffice, or nothing can be saved.
            Stopped: If a signal has asked for it; the checkpoint is of the last step that was made.
        """
        trainer, start = self.trainer, time.perf_counter() - self._seconds
        lr, size = trainer.first_lr, trainer.first_size
        look = partial(self._look, start)
        train_loss = trainer.run_epoch(self._track, lambda: _live_line(trainer, self.history, start), look)
        train_seconds = time.perf_counter() - start
        probs, targets = self._val_probs(look), self._val.targets
        preds = decide(probs, DEFAULT_THRESHOLD)
        scores = metrics.averages(preds, targets)
        seconds = time.perf_counter() - start
        page = PAGE_SECONDS if trainer.config.report else 0  # beside the next epoch's, the thresholds and the test part
        trainer.budget.reserve(4 * (seconds - train_seconds) + 1 + page)
        row = EpochRow(
            epoch=trainer.epoch, train_loss=train_loss, val_loss=metrics.bce(probs, targets),
            val_map=float(metrics.mean_or_nan(metrics.average_precision(probs, targets))),
            val_f1=scores["f1_micro"], val_precision=scores["precision_micro"],
            val_recall=scores["recall_micro"], val_f1_macro=scores["f1_macro"],
            val_exact_match=metrics.exact_match(preds, targets), lr=lr, seconds=seconds,
            images_per_second=len(trainer.losses) * trainer.images.batch_size / train_seconds,
            waited_seconds=trainer.waited_seconds, image_size=size,
        )  # fmt: skip
        self.history.append(row)
        if row is self.best:
            self.best_created = datetime.now(UTC).isoformat(timespec="milliseconds")
        self._seconds = 0.0
        trainer.end_epoch()
        self._save(0.0)
        return row

    def _val_probs(self, look: Callable[[], None]) -> Probs:
        trainer = self.trainer
        batches = [np.empty((0, len(self._val.labels)), np.float32)]
        for probs in predict_probs(
            optimize_for_inference(trainer.averaged, trainer.machine),
            self._val_pixels.batches(BATCH_SIZE),
            trainer.preprocessing,
            trainer.machine,
        ):
            batches.append(probs)
            look()
        together = np.concatenate(batches)
        if not np.isfinite(together).all():
            raise LabelrError(
                f"the network gives no numbers any more after epoch {trainer.epoch}",
                f"use a smaller learning rate than `--lr {trainer.config.lr:g}`, or `--no-amp`",
            )
        return together

    def _look(self, start: float) -> None:
        """Saves the course in the middle of an epoch where it is time to, and ends it where a signal asks for it."""
        if self._checkpoints.due:
            self._save(time.perf_counter() - start)
        signals.raise_if_stopped()

    def _save(self, seconds: float) -> None:
        history = [asdict(row) for row in self.history]
        self._checkpoints.save(
            {**self.trainer.state(), "history": history, "best_created": self.best_created, "seconds": seconds}
        )


def _live_line(trainer: Trainer, history: list[EpochRow], start: float) -> str:
    """What a person sees while an epoch goes by: where it is, the scores so far, and how long the rest will take."""
    parts = [f"epoch {out_of(len(history) + 1, trainer.config.epochs)}"]
    if trainer.losses:
        parts.append(f"loss {float(trainer.losses[-1]):.3f}")
    if history:
        parts += [f"mAP {history[-1].val_map:.3f}", f"F1 {history[-1].val_f1:.3f}"]
    pace = len(trainer.losses) * trainer.images.batch_size / (time.perf_counter() - start)
    parts += [f"lr {trainer.lr:.1e}", f"{pace:.0f} images/s"]
    left = trainer.budget.seconds_left(trainer.steps)
    if np.isfinite(left):
        parts.append(f"{left // 60:.0f}:{left % 60:02.0f} left")
    return "  ".join(parts)
