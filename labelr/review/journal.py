"""The journal of a review: an append-only file of JSON lines that several processes write, and a kill does not harm."""

import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

from labelr import files
from labelr.errors import BusyError, LabelrError
from labelr.version import upgrade_hint

FORMAT = 1
LOCK_SECONDS = 10.0
"""How long another process may hold the lock: it only writes a line, or the label file."""
Entry = Mapping[str, Any]


class AnswerLog:
    """The entries that a review has written, in order; the first one says what is reviewed.

    An entry is whole once its line ends. What follows the last line break is of a process that was killed while it
    wrote, and is dropped by the next one that writes. A file that was deleted meanwhile is written again in full.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._history = bytearray()
        """What was read and written so far."""
        self._file: tuple[int, int] | None = None

    def read(self) -> Iterator[Entry]:
        """The entries that were not read yet, of this process and of others.

        Raises:
            LabelrError: If the file cannot be read, or holds something else.
        """
        with files.reading(self.path, f"move {self.path} away to start over"):
            try:
                with files.open_regular(self.path) as file:
                    self._check(file)
                    file.seek(len(self._history))
                    content = file.read()
            except FileNotFoundError:
                return
            whole = content[: content.rfind(b"\n") + 1]
            entries = [self._parse(line) for line in whole.splitlines()]
        self._history += whole
        yield from entries

    def _check(self, file: BinaryIO) -> None:
        """Raises LabelrError if this is another file than the one that was read before, and not a copy of it."""
        status = os.fstat(file.fileno())
        if (status.st_dev, status.st_ino) != self._file:
            if not self._history.startswith(file.read(len(self._history))):
                raise LabelrError(f"{self.path} was replaced by another program", "start `labelr review` again")
            self._file = status.st_dev, status.st_ino

    def _parse(self, line: bytes) -> Entry:
        entry = json.loads(line)
        if not isinstance(entry, dict):
            raise TypeError("a line is no object")
        if entry.get("format", FORMAT) > FORMAT:
            raise LabelrError(f"{self.path} is of a newer version of labelr", upgrade_hint())
        return entry

    def append(self, entry: Entry) -> None:
        """Writes an entry, on disk when this returns; with its lock held, and after all others were read.

        Raises:
            LabelrError: If it cannot be written; then nothing of it is kept.
        """
        if self.path.is_symlink():
            raise LabelrError(f"{self.path} is a link in the place of a file of labelr", "move it away")
        line = json.dumps(entry).encode() + b"\n"
        with files.writing(self.path):
            descriptor = os.open(self.path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o666)
            is_cut = os.fstat(descriptor).st_size < len(self._history)  # such as a new one, after it was deleted
            start = 0 if is_cut else len(self._history)
            try:
                os.ftruncate(descriptor, start)
                _write_all(descriptor, bytes(self._history[start:]) + line)
            except OSError:
                os.ftruncate(descriptor, start)
                raise
            finally:
                os.close(descriptor)
        self._history += line


def _write_all(descriptor: int, content: bytes) -> None:
    """Writes to a file without a buffer, whose rest would be written later if the disk is full now."""
    written = 0
    while written < len(content):
        written += os.write(descriptor, content[written:])
    os.fsync(descriptor)


@contextmanager
def locked_file(path: Path) -> Iterator[None]:
    """Holds a lock, which no two processes and no two threads hold; its file is created if it does not exist.

    Raises:
        BusyError: If another one holds it for long.
        LabelrError: If the file cannot be created.
    """
    from filelock import FileLock, Timeout

    if path.is_symlink() or path.parent.is_symlink():
        raise LabelrError(f"{path} is, or is in, a link in the place of a file of labelr", "move it away")
    files.make_folder(path.parent)
    try:
        with files.writing(path), FileLock(path, timeout=LOCK_SECONDS):
            yield
    except Timeout as error:
        raise BusyError(f"another process holds {path}", "wait until it ends") from error
