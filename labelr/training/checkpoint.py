"""The checkpoint of a training run, from which it resumes exactly."""

import pickle
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch

from labelr import files, signals
from labelr.errors import LabelrError, first_line
from labelr.training.record import CHECKPOINT_FILE, START_OVER

FORMAT = 1


class Checkpoint:
    """The checkpoint of one training run: a file that is replaced atomically.

    Args:
        folder: The run's directory; None neither saves nor loads anything.
        minutes: The time between checkpoints within an epoch.
    """

    def __init__(self, folder: Path | None, *, minutes: float) -> None:
        self.path = folder and folder / CHECKPOINT_FILE
        self._seconds = 60 * minutes
        self._saved = time.monotonic()

    @property
    def is_due(self) -> bool:
        """Whether to save now: enough time has passed, or a signal asked the process to stop."""
        return signals.stop_requested() or time.monotonic() - self._saved >= self._seconds

    def load(self, restore: Callable[[Mapping[str, Any]], None]) -> bool:
        """Passes the saved state to `restore`; False if there is none.

        Raises:
            LabelrError: If it cannot be read, is of another version of labelr, or `restore` fails on it.
        """
        if self.path is None or not self.path.exists():
            return False
        try:
            state = torch.load(self.path, map_location="cpu", weights_only=True)
        except (OSError, RuntimeError, ValueError, EOFError, pickle.UnpicklingError) as error:
            raise LabelrError(f"the checkpoint {self.path} cannot be read: {first_line(error)}", START_OVER) from error
        if not isinstance(state, dict) or state.get("format") != FORMAT:
            raise LabelrError(f"the checkpoint {self.path} is of another version of labelr", START_OVER)
        try:
            restore(state)
        except (AttributeError, KeyError, TypeError, ValueError, RuntimeError) as error:
            raise LabelrError(f"the checkpoint {self.path} is damaged: {first_line(error)}", START_OVER) from error
        return True

    def save(self, state: Mapping[str, Any]) -> None:
        """Replaces the checkpoint.

        Raises:
            LabelrError: If it cannot be written; the previous one is still complete.
        """
        if self.path is None:
            return
        with files.replacing(self.path) as file:
            try:
                torch.save({"format": FORMAT, **state}, file)
            except RuntimeError as error:
                if isinstance(error.__context__, OSError):  # torch's message hides why it could not write
                    raise error.__context__ from error
                raise
        self._saved = time.monotonic()
