"""The lock of a model's directory: held while a run makes the model in it, and by nobody once that run is dead."""

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import FileLock, Timeout

from labelr import files
from labelr.errors import LabelrError

LOCK_FILE = ".lock"


class BusyError(LabelrError):
    """Another run makes the model in a directory."""


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Holds the lock of a directory, and clears away what a run that was killed was writing into it.

    Raises:
        BusyError: If another run holds it.
    """
    lock = FileLock(folder / LOCK_FILE)
    with files.writing(folder):
        try:
            lock.acquire(timeout=0)
        except Timeout as error:
            raise BusyError(f"another run is making the model in {folder}", "wait, or choose another name") from error
    try:
        for path in (*folder.iterdir(), *folder.glob("*/*/*")):  # its own, and those of folds
            if files.is_draft(path):
                path.unlink(missing_ok=True)
        yield
    finally:
        with suppress(PermissionError):  # of Windows, where the file stays
            (folder / LOCK_FILE).unlink(missing_ok=True)
        lock.release()


def is_locked(folder: Path) -> bool:
    """Whether a run is making the model in a directory now."""
    if not (folder / LOCK_FILE).exists():
        return False
    try:
        with locked(folder):
            return False
    except LabelrError:
        return True
