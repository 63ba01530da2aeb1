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
from contextlib import contextmanager
from pathlib import Path

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
    place = "choose another place with `--output` or the variable LABELR_HOME"
    full = error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
    return LabelrError(
        f"cannot write {path}: {error.strerror or error}", f"free some space, or {place}" if full else place
    )


def make_folder(folder: Path) -> Path:
    """The folder, made with its parents where it was not there.

    Raises:
        LabelrError: If it cannot be made.
    """
    with writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
    return folder


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
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(header)
    writer.writerows(rows)
    return buffer.getvalue()


def json_text(value: object) -> str:
    """A value as JSON of several lines; file names that were not valid UTF-8 are escaped."""
    text = json.dumps(value, indent=2, ensure_ascii=False)
    return text.encode("utf-8", "backslashreplace").decode("utf-8") + "\n"
