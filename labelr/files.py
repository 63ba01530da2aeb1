"""Where models and caches live, writes that happen wholly or not at all, and digests of contents."""

import csv
import errno
import hashlib
import io
import json
import os
import shutil
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TextIO

from labelr.errors import LabelrError

DRAFT_PREFIX, DRAFT_SUFFIX = ".labelr-", ".tmp"


def home() -> Path:
    """The folder of models and caches: ``LABELR_HOME``, else the user's cache directory."""
    override = os.environ.get("LABELR_HOME")
    if override:
        return Path(override).expanduser().absolute()
    from platformdirs import user_cache_path

    return user_cache_path("labelr", appauthor=False)


def digest(file: io.BufferedReader) -> str:
    """The SHA-256 of all of an open file, in hexadecimal."""
    return hashlib.file_digest(file, "sha256").hexdigest()


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Turns what the system says of a write below `path` into a sentence for the user.

    Raises:
        LabelrError: For every OSError inside.
    """
    try:
        yield
    except OSError as error:
        raise write_error(path, error) from error


def write_error(path: Path, error: OSError) -> LabelrError:
    """What to tell the user when the system refuses a write."""
    place = "choose another place with an option such as `--output` or with the variable LABELR_HOME"
    full = error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
    return LabelrError(
        f"cannot write {path}: {error.strerror or error}", f"free some space, or {place}" if full else place
    )


def common_folder(paths: Iterable[Path]) -> Path:
    """The folder that absolute paths have in common.

    Raises:
        LabelrError: If there is none, as on Windows between drives.
    """
    try:
        return Path(os.path.commonpath(list(paths)))
    except ValueError as error:
        raise LabelrError(
            "the folders are on different drives", "take those of each drive in a run of its own"
        ) from error


def make_folder(folder: Path) -> Path:
    """The folder, made with its parents where it was not there.

    Raises:
        LabelrError: If it cannot be made.
    """
    with writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
    return folder


def check_writable(folder: Path) -> None:
    """Makes a folder where it was not there, and sees whether files can be made in it, before there is work to lose.

    Raises:
        LabelrError: If they cannot.
    """
    make_folder(folder)
    with writing(folder), tempfile.TemporaryFile(dir=folder):
        pass


def write_atomically(path: Path, content: bytes | str, *, durable: bool = True) -> None:
    """Puts a file in place in one piece: a reader sees the old content or the new, never half of one.

    Text is encoded as UTF-8; file names that were not valid UTF-8 keep their bytes.

    Args:
        path: The file.
        content: All of it.
        durable: Whether to wait until the disk has it; without, a power cut may leave the file empty.

    Raises:
        LabelrError: If it cannot be written; nothing is left behind.
    """
    data = content.encode("utf-8", "surrogateescape") if isinstance(content, str) else content
    with replacing(path, durable=durable) as file:
        file.write(data)


@contextmanager
def replacing(path: Path, *, durable: bool = True) -> Iterator[io.BufferedWriter]:
    """A file to write in that takes the place of `path` at the end, in one piece; where an error comes, not at all.

    Raises:
        LabelrError: If it cannot be written; nothing is left behind.
    """
    with writing(path):
        handle, name = tempfile.mkstemp(prefix=DRAFT_PREFIX, suffix=DRAFT_SUFFIX, dir=path.parent)
        temporary = Path(name)
        try:
            with os.fdopen(handle, "wb") as file:
                yield file
                if durable:
                    file.flush()
                    os.fsync(file.fileno())
            temporary.chmod(0o666 & ~_umask())
            temporary.replace(path)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise


def is_draft(path: Path) -> bool:
    """Whether a file is what a process that was killed while it wrote has left behind."""
    return path.name.startswith(DRAFT_PREFIX) and path.name.endswith(DRAFT_SUFFIX)


def _umask() -> int:
    """The permissions that new files go without; mkstemp makes files that only their owner can read."""
    mask = os.umask(0)
    os.umask(mask)
    return mask


def remove_folder(folder: Path) -> None:
    """Deletes a folder and all that is in it.

    Raises:
        LabelrError: If something in it cannot be deleted.
    """
    try:
        shutil.rmtree(folder)
    except OSError as error:
        raise LabelrError(f"cannot delete {folder}: {error.strerror or error}") from error


def csv_text(header: Iterable[str], rows: Iterable[Iterable[object]]) -> str:
    """A CSV table as text, its lines ending in a newline alone."""
    buffer = io.StringIO()
    write_rows(buffer, [header])
    write_rows(buffer, rows)
    return buffer.getvalue()


def write_rows(file: TextIO, rows: Iterable[Iterable[object]]) -> None:
    """Writes rows of a CSV table, their lines ending in a newline alone."""
    usual, quoted = (csv.writer(file, lineterminator="\n", quoting=way) for way in (csv.QUOTE_MINIMAL, csv.QUOTE_ALL))
    for row in map(list, rows):
        # a carriage return is a line break to whoever reads, but is not quoted where lines end otherwise
        (quoted if any(isinstance(cell, str) and "\r" in cell for cell in row) else usual).writerow(row)


_FORMULA = ("=", "+", "-", "@")


def escape_formula(text: str) -> str:
    """A text that no spreadsheet takes for a formula: one that begins like one gets an apostrophe in front."""
    return f"'{text}" if text.startswith(_FORMULA) else text


def unescape_formula(cell: str) -> str:
    """What `escape_formula` made the cell from."""
    return cell[1:] if cell.startswith("'") and cell[1:].startswith(_FORMULA) else cell


def escape_formula_in_path(name: str) -> str:
    """A relative path that no spreadsheet takes for a formula, and that is still the same path."""
    return f"./{name}" if name.startswith(_FORMULA) else name


def json_text(value: object) -> str:
    """A value as JSON of several lines; file names that were not valid UTF-8 are escaped."""
    return _valid(json.dumps(value, indent=2, ensure_ascii=False))


def json_line(value: object) -> str:
    """A value as JSON of one line; file names that were not valid UTF-8 are escaped."""
    return _valid(json.dumps(value, ensure_ascii=False))


def _valid(text: str) -> str:
    return text.encode("utf-8", "backslashreplace").decode("utf-8") + "\n"


LOCK_FILE = ".lock"


class LockedError(LabelrError):
    """Another process holds the lock of a folder."""


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Holds the lock of a folder, and deletes the drafts that killed processes left in it.

    The lock is the kernel's: it ends with the process.

    Raises:
        LockedError: If another process holds it.
    """
    from filelock import FileLock, Timeout

    lock = FileLock(folder / LOCK_FILE)
    with writing(folder):
        try:
            lock.acquire(timeout=0)
        except Timeout as error:
            raise LockedError(
                f"another run is writing to {folder}", "wait until it ends, or choose another name or directory"
            ) from error
    try:
        for path in (*folder.iterdir(), *folder.glob("*/*/*")):
            if is_draft(path):
                path.unlink(missing_ok=True)
        yield
    finally:
        with suppress(PermissionError):  # of Windows, where the file stays
            (folder / LOCK_FILE).unlink(missing_ok=True)
        lock.release()


def is_locked(folder: Path) -> bool:
    """Whether another process holds the lock of a folder."""
    if not (folder / LOCK_FILE).exists():
        return False
    try:
        with locked(folder):
            return False
    except LabelrError:
        return True


def folder_size(folder: Path) -> int:
    """The total size of all files in a folder, in bytes."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
