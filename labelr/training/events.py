"""Scores as TensorBoard events, for those who watch their runs there."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Protocol

from labelr import files
from labelr.fields import SettingError


class EventLog(Protocol):
    """Takes the scores of one epoch after another."""

    def __call__(self, scores: Mapping[str, float], epoch: int) -> None:
        """Writes the scores of an epoch, by name."""
        ...


def check_event_log(folder: Path | None) -> None:
    """Raises SettingError where events are wanted and cannot be written, before anything else is done."""
    if folder is not None and find_spec("tensorboard") is None:
        raise SettingError(
            "TensorBoard, which writes the events for `--log-dir`, is not installed",
            "install it with `pip install tensorboard`, or leave `--log-dir` out",
        )


@contextmanager
def event_log(folder: Path | None) -> Iterator[EventLog]:
    """A log of events in a folder; where that is None, one that writes nothing."""
    if folder is None:
        yield lambda *_: None
        return
    from torch.utils.tensorboard import SummaryWriter

    with files.writing(folder):
        writer = SummaryWriter(str(folder))

    def write(scores: Mapping[str, float], epoch: int) -> None:
        with files.writing(folder):
            for name, value in scores.items():
                writer.add_scalar(name, value, epoch)
            writer.flush()

    try:
        yield write
    finally:
        writer.close()
