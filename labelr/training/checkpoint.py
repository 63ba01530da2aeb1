"""Exact resume: a training run on disk, so that one that was stopped goes on as if it never had been."""

import pickle
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch

from labelr import files, signals
from labelr.errors import LabelrError, first_line
from labelr.training.run import CHECKPOINT_FILE

FORMAT = 1


class Checkpoints:
    """The checkpoint of one training run: a file that is replaced again and again, in one piece.

    Args:
        folder: Where it lies.
        minutes: How old it may become before it is written anew in the middle of an epoch.
        wanted: Whether there are any at all.
    """

    def __init__(self, folder: Path, *, minutes: float, wanted: bool) -> None:
        self.path = folder / CHECKPOINT_FILE
        self.wanted = wanted
        self._seconds = 60 * minutes
        self._saved = time.monotonic()

    @property
    def due(self) -> bool:
        """Whether one should be written now: the last one has become old, or the run is to stop."""
        return signals.stop_requested() or time.monotonic() - self._saved >= self._seconds

    def load(self) -> dict[str, Any] | None:
        """What was saved last; None if nothing was.

        Raises:
            LabelrError: If it cannot be read, or is of another labelr.
        """
        if not self.wanted or not self.path.exists():
            return None
        again = "start the run anew with `--force`"
        try:
            state = torch.load(self.path, map_location="cpu", weights_only=True)
        except (OSError, RuntimeError, ValueError, EOFError, pickle.UnpicklingError) as error:
            raise LabelrError(f"the checkpoint {self.path} cannot be read: {first_line(error)}", again) from error
        if not isinstance(state, dict) or state.get("format") != FORMAT:
            raise LabelrError(f"the checkpoint {self.path} is of another version of labelr", again)
        return state

    def restore(self, restore: Callable[[Mapping[str, Any]], None], state: Mapping[str, Any]) -> None:
        """Lets a course go back to where a state was saved.

        Raises:
            LabelrError: If the state is not that of such a course.
        """
        try:
            restore(state)
        except (AttributeError, KeyError, TypeError, ValueError, RuntimeError) as error:
            raise LabelrError(
                f"the checkpoint {self.path} is damaged: {first_line(error)}", "start the run anew with `--force`"
            ) from error

    def save(self, state: Mapping[str, Any]) -> None:
        """Saves a state in the place of the last one.

        Raises:
            LabelrError: If it cannot be written; the last one is whole.
        """
        if not self.wanted:
            return
        with files.replacing(self.path) as file:
            try:
                torch.save({"format": FORMAT, **state}, file)
            except RuntimeError as error:
                if isinstance(error.__context__, OSError):  # torch's own words hide why it could not write
                    raise error.__context__ from error
                raise
        self._saved = time.monotonic()
