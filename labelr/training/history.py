"""The history of a run: an epoch in numbers, as people read it and as ``history.csv`` keeps it."""

import csv
from collections.abc import Callable, Iterable
from dataclasses import astuple, dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np

from labelr import files


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
    val_f1_macro: float = np.nan
    val_exact_match: float = np.nan

    def line(self, epochs: int | None) -> str:
        """The row as people read it while they wait."""
        losses_and_scores = {
            "train loss": self.train_loss, "val loss": self.val_loss, "mAP": self.val_map, "F1": self.val_f1,
        }  # fmt: skip
        shown = [f"{name} {value:.3f}" for name, value in losses_and_scores.items() if np.isfinite(value)]
        pace = [f"lr {self.lr:.1e}", f"{self.seconds:.1f} s", f"{self.images_per_second:.0f} images/s"]
        return "  ".join([f"epoch {out_of(self.epoch, epochs)}", *shown, *pace])

    def score(self, name: str) -> float:
        """One of the `config.CRITERIA`; NaN where validation images cannot say."""
        return {
            "map": self.val_map, "f1_micro": self.val_f1, "f1_macro": self.val_f1_macro,
            "exact_match": self.val_exact_match,
        }[name]  # fmt: skip

    def criterion(self, select: str) -> float:
        """What the best epoch has most of; where validation images cannot say, the loss decides, else the epoch."""
        score = self.score(select)
        if np.isfinite(score):
            return score
        return -self.val_loss if np.isfinite(self.val_loss) else float(self.epoch)


def out_of(epoch: int, epochs: int | None) -> str:
    """``3/30``, or only the number where nobody knows how many there will be."""
    return f"{epoch}/{epochs}" if epochs else str(epoch)


def read_history(path: Path) -> list[EpochRow]:
    """The epochs in a ``history.csv``."""
    with path.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    kinds: dict[str, Callable[[str], Any]] = {
        field.name: int if field.type is int else float for field in fields(EpochRow)
    }
    return [EpochRow(**{name: kinds[name](value) for name, value in row.items()}) for row in rows]


def history_csv(history: Iterable[EpochRow]) -> str:
    """The content of ``history.csv``."""
    return files.csv_text([field.name for field in fields(EpochRow)], (astuple(row) for row in history))
