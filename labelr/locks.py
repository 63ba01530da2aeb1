"""The lock of a folder that a run writes, which the operating system releases when the process ends."""

import os
import shutil
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from labelr import files
from labelr.errors import BusyError, LabelrError

LOCK_FILE = ".lock"
LOCK_SECONDS = 0.5
"""How long a lock is tried again that no run holds: another process is finding out whether it is free."""


@contextmanager
def locked(folder: Path, owner: Path | None = None) -> Iterator[None]:
    """Holds the lock of a folder, which is created if it does not exist.

    The operating system releases the lock when the process ends, however it ends. `owner` is the folder that an error
    names, if it is another one.

    Raises:
        BusyError: If another process holds it.
        LabelrError: If it cannot be taken.
    """
    from filelock import FileLock, Timeout

    check_lock(folder)
    lock = FileLock(folder / LOCK_FILE)
    deadline = time.monotonic() + LOCK_SECONDS
    while not lock.is_locked:
        files.make_folder(folder)
        try:
            lock.acquire(timeout=0)
        except (Timeout, FileNotFoundError, FileExistsError) as error:  # a run that ends deletes its lock, and folder
            if is_locked(folder) or time.monotonic() > deadline:
                raise BusyError(
                    f"another run is writing to {owner or folder}",
                    "wait until it ends, or name another directory with `--output`",
                ) from error
            time.sleep(LOCK_SECONDS / 500)
        except OSError as error:
            raise files.write_error(folder, error) from error
    try:
        yield
    finally:
        delete_lock(folder)
        lock.release()


def delete_lock(folder: Path) -> None:
    """Deletes the lock of a folder, which this process holds, if there is one."""
    path, own = folder / LOCK_FILE, f"{os.getpid()}\n".encode()
    with suppress(OSError):  # of Windows, where the file stays, and where the folder is gone
        # where the system has no locks, its content names this process; any other is of another program
        if not path.lstat().st_size or path.read_bytes().startswith(own):
            path.unlink()


def check_lock(folder: Path) -> None:
    """Raises LabelrError if a folder or a link is in the place of a folder's lock."""
    path = folder / LOCK_FILE
    if path.is_symlink() or path.is_dir():
        raise LabelrError(f"{path} is in the place of a lock file, and is a folder or a link", "move it away")


def remove_folder(folder: Path) -> None:
    """Deletes a folder and its contents, but never what a link leads to, while it holds the folder's lock.

    Raises:
        LabelrError: If something in it cannot be deleted.
        BusyError: If another process holds the lock.
    """
    if folder.is_symlink():
        raise LabelrError(f"{folder} is a link to another folder", "delete the link yourself")
    with locked(folder), files.deleting(folder):
        for path in folder.iterdir():
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
            elif (path.name != LOCK_FILE or path.lstat().st_size) and not files.is_deleted(path):
                path.unlink(missing_ok=True)  # the lock of this process is deleted when it is released, and only once
    with suppress(FileNotFoundError), files.deleting(folder):
        if not any(map(files.is_deleted, folder.iterdir())):  # else the folder stays, empty once these files are gone
            folder.rmdir()


def is_locked(folder: Path) -> bool:
    """Whether another process holds the lock of a folder, which is neither taken nor changed."""
    return is_held(folder / LOCK_FILE)


def is_held(lock: Path) -> bool:
    """Whether a process holds the lock of a file, which is neither taken nor changed."""
    try:
        with files.open_regular(lock) as file:
            return not _is_free(file.fileno())
    except OSError:  # there is none, or the file system has no locks
        return False


def _is_free(descriptor: int) -> bool:
    """Whether nobody holds the exclusive lock of a file; the shared lock that finds out delays a run, not a query."""
    if sys.platform == "win32":
        from filelock import lock_descriptor

        return lock_descriptor(descriptor, blocking=False)
    import fcntl

    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except (BlockingIOError, PermissionError):
        return False
    return True
