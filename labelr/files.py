"""Where models and caches are, atomic writes, locks, digests, CSV and JSON."""

import csv
import dataclasses
import errno
import hashlib
import io
import json
import math
import os
import re
import shutil
import stat
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path
from typing import Any, TextIO, TypeVar

from labelr.errors import UNPRINTABLE, BusyError, LabelrError, first_line
from labelr.version import upgrade_hint

T = TypeVar("T")

DRAFT_PREFIX, DRAFT_SUFFIX = ".labelr-", ".tmp"
LOCK_FILE = ".lock"
LOCK_SECONDS = 0.5
"""How long a lock is tried again that no run holds: another process is finding out whether it is free."""
_ADDRESS = re.compile(r"([a-z][a-z0-9+.-]+):/+([^/].*)", re.IGNORECASE | re.DOTALL)
"""Of something on another machine; `Path` has left one slash of two."""
MAX_RECORD_BYTES = 256 * 2**20
"""The largest file of labelr's own that is read at once: the record of a run of a million images has some 150 MB."""
MAX_RECORD_VALUES = 8_000_000
"""The most values in one, since a short text may describe values that need far more memory."""
MAX_REASON = 200
"""Longer reasons are cut in messages: they may quote the file."""


def home() -> Path:
    """The folder of models and caches: ``LABELR_HOME``, else the user's cache directory."""
    override = os.environ.get("LABELR_HOME")
    if override:
        return Path(override).expanduser().absolute()
    from platformdirs import user_cache_path

    return user_cache_path("labelr", appauthor=False)


def local_path(path: str | Path) -> Path:
    """A path that a user gives.

    Raises:
        LabelrError: If it is an address, such as ``s3://bucket/photos``.
    """
    address = _ADDRESS.fullmatch(os.fspath(path))
    if address and not os.path.exists(path):
        scheme, rest = address.groups()
        if scheme.lower() == "file":
            raise LabelrError(f"file:///{rest} is an address, not a path", f"write the path, `/{rest}`")
        raise LabelrError(
            f"{scheme}://{rest} is an address, and labelr reads and writes local files only",
            "copy the files to this machine, or mount them as a folder, for example with rclone",
        )
    return Path(path)


def digest(path: Path) -> str:
    """The SHA-256 of a file, in hexadecimal; empty if it cannot be read, as a folder cannot."""
    try:
        with open_regular(path) as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError:
        return ""


def common_folder(paths: Iterable[Path]) -> Path:
    """The deepest folder that contains all of some absolute paths.

    Raises:
        LabelrError: If there is none, as on Windows between drives.
    """
    try:
        return Path(os.path.commonpath(list(paths)))
    except ValueError as error:
        raise LabelrError("the folders are on different drives", "use a separate run for each drive") from error


def folder_size(folder: Path) -> int:
    """The total size of all files in a folder, in bytes."""
    paths = (Path(parent, name) for parent, _, names in os.walk(folder) for name in names)
    return sum(path.stat().st_size for path in paths if path.is_file())


# --- writing ---------------------------------------------------------------------------------------------------------


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Turns errors of the operating system while `path` is written into a message for the user.

    Raises:
        LabelrError: For every OSError inside.
    """
    try:
        yield
    except OSError as error:
        raise write_error(path, error) from error


def write_error(path: Path, error: OSError) -> LabelrError:
    """The error for the user when the operating system refuses a write.

    Raises:
        LabelrError: If too many files are open.
    """
    raise_if_exhausted(error)
    elsewhere = "choose another place with an option such as `--output` or with the variable LABELR_HOME"
    is_full = error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
    hint = f"free some space, or {elsewhere}" if is_full else elsewhere
    return LabelrError(f"cannot write {path}: {error.strerror or error}", hint)


def make_folder(folder: Path) -> Path:
    """The folder; it and its parents are created if they do not exist.

    Raises:
        LabelrError: If it cannot be created.
    """
    with writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
    return folder


def check_writable(folder: Path) -> None:
    """Creates a folder if it does not exist, and tests that files can be written in it, before there is work to lose.

    Raises:
        LabelrError: If they cannot.
    """
    make_folder(folder)
    with writing(folder), tempfile.TemporaryFile(dir=folder):
        pass


def remove_folder(folder: Path) -> None:
    """Deletes a folder and its contents, but never what a link leads to, while it holds the folder's lock.

    Raises:
        LabelrError: If something in it cannot be deleted.
        BusyError: If another process holds the lock.
    """
    if folder.is_symlink():
        raise LabelrError(f"{folder} is a link to another folder", "delete the link yourself")
    with locked(folder), deleting(folder):
        for path in folder.iterdir():
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
            elif path.name != LOCK_FILE:  # which is deleted when it is released
                path.unlink(missing_ok=True)
    with suppress(FileNotFoundError), deleting(folder):
        folder.rmdir()


@contextmanager
def deleting(path: Path) -> Iterator[None]:
    """Turns errors of the operating system while `path` is deleted into a message for the user."""
    try:
        yield
    except OSError as error:
        raise LabelrError(f"cannot delete {path}: {error.strerror or error}") from error


def write_atomically(path: Path, content: bytes | str, *, durable: bool = True) -> None:
    """Writes a file so that readers see either the old content or the new, never a mixture.

    Text is encoded as UTF-8; file names that were not valid UTF-8 keep their bytes. Unless `durable`, a power failure
    may leave an empty file.

    Raises:
        LabelrError: If it cannot be written; nothing is left behind.
    """
    data = content.encode("utf-8", "surrogateescape") if isinstance(content, str) else content
    with replacing(path, durable=durable) as file:
        file.write(data)


@contextmanager
def replacing(path: Path, *, durable: bool = True) -> Iterator[io.BufferedWriter]:
    """A temporary file that replaces `path` at the end; after an error, `path` is as before.

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
            temporary.chmod(0o666 & ~_umask())  # mkstemp lets only the owner read
            temporary.replace(path)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise


def is_draft(path: Path) -> bool:
    """Whether a file is the temporary file of a write, which a killed process leaves behind."""
    return path.name.startswith(DRAFT_PREFIX) and path.name.endswith(DRAFT_SUFFIX)


def delete_drafts(folder: Path) -> None:
    """Deletes the drafts that killed processes left in a folder and below it, but not behind links."""
    for parent, _, names in os.walk(folder):
        for path in (Path(parent, name) for name in names):
            if is_draft(path) and stat.S_ISREG(path.lstat().st_mode):
                path.unlink(missing_ok=True)


def is_inside(path: Path, folder: Path) -> bool:
    """Whether a path is below a folder, after `..` and all links above its last part have been followed."""
    real = Path(os.path.realpath(path.parent), path.name)
    return path.name not in ("", "..") and real.is_relative_to(os.path.realpath(folder))


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


# --- reading ---------------------------------------------------------------------------------------------------------


def open_regular(path: Path) -> io.BufferedReader:
    """A regular file, opened for reading.

    A named pipe could block for ever, a device never ends, and a file of the kernel in ``/proc`` may do either.

    Raises:
        OSError: If it cannot be opened, or is no regular file.
    """
    _check_regular(path, path.stat())  # to open a device may already change it
    file = open(path, "rb", opener=_open_without_blocking)  # noqa: SIM115 - returned; tifffile wants the name
    try:
        _check_regular(path, os.fstat(file.fileno()))  # it may have been replaced meanwhile
    except OSError:
        file.close()
        raise
    return file


def raise_if_exhausted(error: OSError) -> None:
    """Raises LabelrError if no more files can be opened: that is not the fault of the file that was to be opened."""
    if error.errno in (errno.EMFILE, errno.ENFILE):
        raise LabelrError(
            "too many files are open for the limit of this session", "raise it, such as with `ulimit -n 1024`"
        ) from error


def _open_without_blocking(path: str, flags: int) -> int:
    return os.open(path, flags | getattr(os, "O_NONBLOCK", 0))


def _check_regular(path: Path, status: os.stat_result) -> None:
    if not stat.S_ISREG(status.st_mode) or status.st_dev in _kernel_devices():
        raise OSError(errno.EINVAL, "not a regular file", str(path))


@cache
def _kernel_devices() -> frozenset[int]:
    """The device numbers of the file systems through which Linux shows its own state."""
    found = set()
    for folder in ("/proc", "/sys"):
        with suppress(OSError):
            found.add(Path(folder).stat().st_dev)
    return frozenset(found - {Path("/").stat().st_dev})


@contextmanager
def reading(path: Path, hint: str) -> Iterator[None]:
    """Turns errors while a file that labelr wrote is read and parsed into a message for the user.

    Args:
        path: The file.
        hint: What to do if it is damaged.

    Raises:
        LabelrError: For every OSError, and every error of a parser, inside.
    """
    try:
        yield
    except OSError as error:
        raise LabelrError(f"cannot read {path}: {error.strerror or error}") from error
    except (ValueError, TypeError, KeyError, AttributeError, csv.Error, ArithmeticError, MemoryError) as error:
        raise LabelrError(f"{path} is damaged: {first_line(error)[:MAX_REASON]}", hint) from error


def read_bytes(path: Path, limit: int = MAX_RECORD_BYTES) -> bytes:
    """The content of a regular file.

    Raises:
        OSError: If it cannot be read, or is no regular file.
        ValueError: If it has more than `limit` bytes.
    """
    with open_regular(path) as file:
        size = os.fstat(file.fileno()).st_size
        if size > limit:
            raise ValueError(f"it has {size:,} bytes, and at most {limit:,} are read")
        return file.read(limit)


def read_json(path: Path, kind: type[T], hint: str, *, newest: int | None = None) -> T:
    """The content of a JSON file of labelr's own, validated.

    Args:
        path: The file.
        kind: What it holds; see `convert`.
        hint: What to do if it is damaged.
        newest: The newest format that is read; None for files without a number of their format.

    Raises:
        LabelrError: If it cannot be read, is of a newer format, or holds something else.
    """
    with reading(path, hint):
        value = parse_json(read_bytes(path))
        if newest is not None:
            value = convert(value, dict[str, Any])
            version = value.pop("format", None)
            if type(version) is not int or version < 1:
                raise ValueError("format: expected a whole number from 1")
            if version > newest:
                raise LabelrError(f"{path} has format {version}, and this labelr reads up to {newest}", upgrade_hint())
        return convert(value, kind)


def parse_json(content: bytes) -> Any:
    """The value of a JSON text in UTF-8.

    Raises:
        ValueError: If it is damaged, ambiguous or too large, or holds a number that is not finite.
    """
    check_number_of_values(content)
    try:
        return json.loads(
            content.decode("utf-8"), object_pairs_hook=_unique, parse_constant=_finite, parse_float=_finite
        )
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error


def check_number_of_values(content: bytes) -> None:
    """Raises ValueError where a JSON text describes more than `MAX_RECORD_VALUES` values."""
    if sum(content.count(character) for character in b"[{,") > MAX_RECORD_VALUES:
        raise ValueError(f"it has more than {MAX_RECORD_VALUES:,} values")


def is_text(text: str) -> bool:
    """Whether files can hold a text, in UTF-8 or, for the names of files and folders, as the bytes that they are."""
    try:
        return b"\0" not in text.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:
        return False


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    values = dict(pairs)
    if len(values) < len(pairs):
        keys = [key for key, _ in pairs]
        raise ValueError(f"{next(key for key in keys if keys.count(key) > 1)[:MAX_REASON]!r} is given twice")
    return values


def _finite(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(f"{text[:MAX_REASON]} is not a finite number")
    return value


def convert(value: Any, kind: type[T], *, strict: bool = True) -> T:
    """A value of lists, mappings, texts and numbers as a type, whose annotations are checked.

    Args:
        value: The value.
        kind: The type, such as a dataclass; a key that it does not have is an error.
        strict: Whether texts stay texts; else they are also read as numbers.

    Raises:
        ValueError: If something in it is of another type or out of range, with its place.
    """
    import msgspec

    try:
        found = msgspec.convert(value, kind, strict=strict)
    except msgspec.ValidationError as error:
        what, _, place = str(error).replace("`", "").partition(" - at $")
        what = what[:1].lower() + what[1:]
        raise ValueError(f"{place.lstrip('.')}: {what}" if place else what) from error
    _check_keys(value, found)
    return found


def _check_keys(value: Any, found: object) -> None:
    """Raises ValueError where a value has a key that the dataclass made from it does not have."""
    if dataclasses.is_dataclass(found):
        names = {field.name for field in dataclasses.fields(found)}
        for key, inner in value.items():
            if key not in names:
                raise ValueError(f"unknown key {key[:MAX_REASON]!r}")
            _check_keys(inner, getattr(found, key))


# --- locks -----------------------------------------------------------------------------------------------------------


@contextmanager
def locked(folder: Path, owner: Path | None = None) -> Iterator[None]:
    """Holds the lock of a folder, which is created if it does not exist.

    The operating system releases the lock when the process ends, however it ends. `owner` is the folder that an error
    names, if it is another one.

    Raises:
        BusyError: If another process holds it.
    """
    from filelock import FileLock, Timeout

    lock = FileLock(folder / LOCK_FILE)
    deadline = time.monotonic() + LOCK_SECONDS
    while not lock.is_locked:
        make_folder(folder)
        try:
            lock.acquire(timeout=0)
        except (Timeout, FileNotFoundError) as error:  # a run that ends deletes its lock, and its empty folder
            if is_locked(folder) or time.monotonic() > deadline:
                raise BusyError(
                    f"another run is writing to {owner or folder}",
                    "wait until it ends, or name another directory with `--output`",
                ) from error
            time.sleep(LOCK_SECONDS / 500)
        except OSError as error:
            raise write_error(folder, error) from error
    try:
        yield
    finally:
        with suppress(OSError):  # of Windows, where the file stays, and where the folder is gone
            if not (folder / LOCK_FILE).lstat().st_size:  # else the file is of another program
                (folder / LOCK_FILE).unlink()
        lock.release()


def is_locked(folder: Path) -> bool:
    """Whether another process holds the lock of a folder, which is neither taken nor changed."""
    try:
        with open_regular(folder / LOCK_FILE) as file:
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


# --- CSV and JSON ----------------------------------------------------------------------------------------------------

BOM = "\ufeff"
"""Byte order mark, by which Excel recognises UTF-8."""
_FORMULA = re.compile(r"'*(?:[\t\r\n]|[\s\ufeff]*[=+@＝＋－＠-])")  # noqa: RUF001 - the forms of East Asia count too
"""The beginning of a text that a spreadsheet may run as a formula, with the apostrophes that escape it."""
_FORMULA_STARTS = frozenset("'=+@＝＋－＠-\ufeff" + "".join(filter(str.isspace, map(chr, range(0x3001)))))  # noqa: RUF001
_SIGNED = re.compile(r"[-+][0-9]+([.,][0-9]+)?(e[-+]?[0-9]+)?", re.IGNORECASE)


def csv_text(header: Iterable[str], rows: Iterable[Iterable[object]], *, excel: bool = False) -> str:
    """A CSV table as text, which starts with a byte order mark for Excel; see `write_rows`."""
    return (BOM if excel else "") + rows_text([header], excel=excel) + rows_text(rows, excel=excel)


def rows_text(rows: Iterable[Iterable[object]], *, excel: bool = False) -> str:
    """Rows of a CSV table as text; see `write_rows`."""
    buffer = io.StringIO()
    write_rows(buffer, rows, excel=excel)
    return buffer.getvalue()


def write_rows(file: TextIO, rows: Iterable[Iterable[object]], *, excel: bool = False) -> None:
    """Writes rows of a CSV table, separated by semicolons for an Excel of most languages; lines end in a line feed.

    Every text is escaped by `escape_formula`; `unescape_formula` gives it back.
    """
    minimal, quoted = (
        csv.writer(file, delimiter=";" if excel else ",", lineterminator="\n", quoting=how)
        for how in (csv.QUOTE_MINIMAL, csv.QUOTE_ALL)
    )
    for cells in rows:
        row = [escape_formula(cell) if isinstance(cell, str) else cell for cell in cells]
        # readers take a carriage return for a line break, but the module does not quote it
        has_return = any(isinstance(cell, str) and "\r" in cell for cell in row)
        (quoted if has_return else minimal).writerow(row)


def escape_formula(text: str) -> str:
    """The text with an apostrophe in front if a spreadsheet may run it as a formula; numbers unchanged.

    One that has apostrophes before a formula gets another one, so that every text can be read back.
    """
    is_risky = text[:1] in _FORMULA_STARTS and _FORMULA.match(text)
    return f"'{text}" if is_risky and not _SIGNED.fullmatch(text) else text


def unescape_formula(cell: str) -> str:
    """The text that `escape_formula` made the cell from."""
    return cell[1:] if cell.startswith("'") and _FORMULA.match(cell) else cell


def escape_formula_in_path(name: str) -> str:
    """The same relative path, with ``./`` in front if it begins as a formula or with a space, which readers strip."""
    return f"./{name}" if name[:1].isspace() or _FORMULA.match(name) else name


def json_text(value: object) -> str:
    """A value as JSON of several lines; unprintable characters are escaped, NaN is null."""
    return _json(value, indent=2)


def json_line(value: object) -> str:
    """A value as JSON of one line; unprintable characters are escaped, NaN is null."""
    return _json(value)


def without_nan(value: Any) -> Any:
    """A value with every number in it that is not finite replaced by None, since JSON has none."""
    if isinstance(value, dict):
        return {key: without_nan(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [without_nan(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _json(value: object, indent: int | None = None) -> str:
    try:
        text = json.dumps(value, indent=indent, ensure_ascii=False, allow_nan=False)
    except ValueError:
        text = json.dumps(without_nan(value), indent=indent, ensure_ascii=False, allow_nan=False)
    return _escape_unprintable(text) + "\n"


def _escape_unprintable(text: str) -> str:
    def escape(found: re.Match[str]) -> str:
        return re.sub("....", r"\\u\g<0>", found[0].encode("utf-16-be", "surrogatepass").hex())

    return UNPRINTABLE.sub(escape, text)
