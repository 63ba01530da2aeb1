"""The history of a run: the metrics of each epoch, in ``history.csv`` and as TensorBoard events."""

import csv
import io
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, astuple, dataclass, fields
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, cast

import numpy as np
from msgspec import Meta

from labelr import files, serialization
from labelr.config import DEFAULT_CRITERION
from labelr.fields import SettingError
from labelr.model.info import DAMAGED_HINT

EventLog = Callable[[Mapping[str, float], int], None]
"""Writes the metrics of an epoch, by name."""


@dataclass(frozen=True)
class EpochRow:
    """One epoch: a row of ``history.csv``.

    The metrics are of the validation split without mirror images, uncalibrated, at a threshold of 0.5. `trained_layers`
    counts the layers that were trained: 1 for the head alone. `images_per_second` is the speed of training alone, while
    `seconds` counts validation and the start of the first epoch as well.
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
    trained_layers: int = 0

    def line(self, epochs: int | None) -> str:
        """The line that is logged at the end of the epoch, of at most 100 characters."""
        losses_and_scores = {
            "loss": self.train_loss, "val loss": self.val_loss, "mAP": self.val_map, "F1": self.val_f1,
        }  # fmt: skip
        shown = [f"{name} {value:.3f}" for name, value in losses_and_scores.items() if np.isfinite(value)]
        seconds = f"{self.seconds:.1f} s" if self.seconds < 100 else f"{self.seconds:,.0f} s"
        speed = [seconds, f"{self.images_per_second:,.0f} images/s"]
        layers = ["head only"] if self.is_head else []
        return "  ".join([f"epoch {format_epoch(self.epoch, epochs)}", *layers, *shown, *speed])

    def to_json(self) -> dict[str, float | None]:
        """What was measured by name, ready for JSON: None where it is not evaluable."""
        return cast("dict[str, float | None]", serialization.without_nan(asdict(self)))

    @property
    def is_head(self) -> bool:
        """Whether only the last layer was trained."""
        return self.trained_layers == 1

    def score(self, name: str) -> float:
        """The metric of a `config.Criterion`; NaN where it is not evaluable."""
        return {
            "map": self.val_map, "f1_micro": self.val_f1, "f1_macro": self.val_f1_macro,
            "exact_match": self.val_exact_match,
        }[name]  # fmt: skip

    def criterion(self, select: str) -> float:
        """The value that is highest in the best epoch: the metric, else the negative loss, else the epoch's number."""
        score = self.score(select)
        if np.isfinite(score):
            return score
        return -self.val_loss if np.isfinite(self.val_loss) else float(self.epoch)


Rows = Annotated[list[EpochRow], Meta(min_length=1)]


def best_epoch(history: Sequence[EpochRow], select: str | None) -> EpochRow:
    """The epoch whose weights are kept: the last, or the first that is best by a validation metric.

    The best on few validation images is best by chance: the last has seen more, with a lower learning rate, and its
    averaged weights are smoother. With pretrained weights, the first epoch trains the head alone; then it is the last
    later epoch that scores higher than the first, or the first if none does.

    Args:
        history: One epoch or more.
        select: The metric, a `config.Criterion`; None for the last epoch, or for mAP beside a head.
    """
    first, *others = history
    if first.is_head:
        metric = select or DEFAULT_CRITERION
        return next((row for row in reversed(others) if row.criterion(metric) > first.criterion(metric)), first)
    return max(history, key=lambda row: row.criterion(select)) if select else history[-1]


def format_epoch(epoch: int, epochs: int | None) -> str:
    """``3/30``, or only the number if the number of epochs is not known."""
    return f"{epoch}/{epochs}" if epochs else str(epoch)


def read_history(path: Path) -> list[EpochRow]:
    """The rows of a ``history.csv``.

    Raises:
        LabelrError: If it cannot be read, is damaged, or has no row.
    """
    with files.reading(path, DAMAGED_HINT):
        text = files.read_bytes(path).decode("utf-8")
        return serialization.convert(list(csv.DictReader(io.StringIO(text, newline=""))), Rows, strict=False)


def history_csv(history: Iterable[EpochRow]) -> str:
    """The content of ``history.csv``."""
    return serialization.csv_text([field.name for field in fields(EpochRow)], (astuple(row) for row in history))


def check_event_log(folder: Path | None) -> None:
    """Raises SettingError where events are wanted but TensorBoard is not installed."""
    if folder is not None and find_spec("tensorboard") is None:
        raise SettingError(
            "TensorBoard, which writes the events for `--log-dir`, is not installed",
            "install it with `pip install tensorboard`, or leave `--log-dir` out",
        )


@contextmanager
def event_log(folder: Path | None) -> Iterator[EventLog]:
    """A log of TensorBoard events in a folder; None gives one that writes nothing."""
    if folder is None:
        yield lambda *_: None
        return
    from torch.utils.tensorboard import SummaryWriter

    with files.writing(folder):
        writer = SummaryWriter(str(folder))

    def write(metrics: Mapping[str, float], epoch: int) -> None:
        with files.writing(folder):
            for name, value in metrics.items():
                writer.add_scalar(name, value, epoch)
            writer.flush()

    try:
        yield write
    finally:
        writer.close()
