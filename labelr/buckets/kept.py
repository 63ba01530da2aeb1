"""What this machine keeps of buckets, as `labelr cache` lists and deletes it."""

import os
import shutil
import sys
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from labelr import files
from labelr.buckets import objects, results
from labelr.buckets.addresses import MIRROR, RESULTS, root
from labelr.buckets.mirror import in_use_file


class Kept(NamedTuple):
    """Files of one kind.

    Attributes:
        kind: ``"objects"``, whose content is kept; ``"listed"``, empty files that stand for objects; or ``"results"``.
        number: Their number.
        num_bytes: Their space on disk.
        used: When one was last used, in seconds since 1970.
    """

    kind: str
    number: int
    num_bytes: int
    used: float


def describe() -> list[Kept]:
    """What is kept, without kinds of which there is nothing."""
    kinds = (
        ("objects", objects.kept(), _size),
        ("listed", _files_below(root(MIRROR)), _allocated),
        ("results", _files_below(root(RESULTS)), _size),
    )
    found = []
    for kind, paths, size_of in kinds:
        kept = _sum(kind, paths, size_of)
        found += [kept] if kept.number else []
    return found


def clear() -> None:
    """Deletes what can be brought again: not results that are not in their bucket yet, and nothing that a run uses.

    Raises:
        OSError: If something cannot be deleted.
    """
    for path in objects.kept():
        path.unlink(missing_ok=True)
    results.clear()
    if sys.platform == "win32" or not root(MIRROR).is_dir():
        return
    import fcntl

    with in_use_file().open("ab") as file, suppress(BlockingIOError):
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        shutil.rmtree(root(MIRROR))


def _sum(kind: str, paths: Iterable[Path], size_of: Callable[[os.stat_result], int]) -> Kept:
    number, num_bytes, used = 0, 0, 0.0
    for path in paths:
        with suppress(OSError):  # another process has deleted it
            status = path.stat()
            number, num_bytes, used = number + 1, num_bytes + size_of(status), max(used, status.st_ctime)
    return Kept(kind, number, num_bytes, used)


def _size(status: os.stat_result) -> int:
    return status.st_size


def _allocated(status: os.stat_result) -> int:
    return 512 * int(getattr(status, "st_blocks", 0))


def _files_below(folder: Path) -> Iterable[Path]:
    return (path for path in folder.rglob("*") if path.is_file() and not files.is_draft(path))
