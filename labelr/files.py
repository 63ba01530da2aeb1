"""Where models and caches are, atomic writes, regular files, digests."""

import csv
import errno
import hashlib
import io
import os
import re
import shutil
import stat
import tempfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from functools import cache
from itertools import count, islice
from pathlib import Path

from labelr.errors import LabelrError, first_line, mask_passwords

DRAFT_PREFIX, DRAFT_SUFFIX = ".labelr-", ".tmp"
_ADDRESS = re.compile(r"([a-z][a-z0-9+.-]+):/+([^/].*)", re.IGNORECASE | re.DOTALL)
"""Of something on another machine; `Path` has left one slash of two."""
EMPTY_PATH = ("a path is empty", "name a folder or a file; a variable of the shell may not be set")
"""The message and the hint for an empty path, which Python takes for the working directory."""
MAX_REASON = 200
"""Longer reasons are cut in messages: they may quote the file."""
MAX_RECORD_BYTES = 256 * 2**20
"""The largest file of labelr's own that is read at once: the record of a run of a million images has some 150 MB."""


def home() -> Path:
    """The folder of models and caches: ``LABELR_HOME``, else the user's cache directory."""
    override = os.environ.get("LABELR_HOME")
    if override:
        return Path(override).expanduser().absolute()
    from platformdirs import user_cache_path

    return user_cache_path("labelr", appauthor=False)


def local_path(path: str | Path) -> Path:
    """A path that a user gives. Raises LabelrError if it is empty or an address, such as ``s3://bucket/photos``."""
    if path == "":
        raise LabelrError(*EMPTY_PATH)
    address = _ADDRESS.fullmatch(os.fspath(path))
    if address and not os.path.exists(path):
        scheme, rest = address.groups()
        if scheme.lower() == "file":
            raise LabelrError(f"file:///{rest} is an address, not a path", f"write the path, `/{rest}`")
        raise LabelrError(
            f"{mask_passwords(f'{scheme}://{rest}')} is an address, where labelr takes local files only",
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
    """The deepest folder that contains all of some absolute paths. Raises LabelrError if they are in several places."""
    folders = list(paths)
    if len(set(map(is_elsewhere, folders))) > 1:
        raise LabelrError("some images are on this machine, others in a bucket", "use a separate run for each place")
    try:
        return Path(os.path.commonpath(folders))
    except ValueError as error:
        raise LabelrError("the folders are on different drives", "use a separate run for each drive") from error


def folder_size(folder: Path) -> int:
    """The total size of the files in a folder that can be read, in bytes; other processes may delete some meanwhile."""
    total = 0
    for parent, _, names in os.walk(folder):
        for name in names:
            with suppress(OSError):
                status = Path(parent, name).stat()
                total += status.st_size if stat.S_ISREG(status.st_mode) else 0
    return total


# --- writing ---------------------------------------------------------------------------------------------------------


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Turns every error of the operating system while `path` is written into a LabelrError, for the user."""
    try:
        yield
    except OSError as error:
        raise write_error(path, error) from error


def write_error(path: Path, error: OSError) -> LabelrError:
    """The error for the user when a write is refused. Raises LabelrError itself if too many files are open."""
    raise_if_exhausted(error)
    way = "the variable LABELR_HOME" if path.absolute().is_relative_to(home()) else "an option such as `--output`"
    elsewhere = f"choose another place with {way}"
    is_full = error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
    hint = f"free some space, or {elsewhere}" if is_full else elsewhere
    if error.errno in (errno.ENOLCK, errno.ENOSYS):
        hint = f"the network drive keeps no locks: mount it with locks, or {elsewhere}, on a local disk"
    if error.errno == errno.ESTALE:
        hint = "the network drive was interrupted, or another machine replaced this: run the same command again"
    return LabelrError(f"cannot write {path}: {error.strerror or error}", hint)


def make_folder(folder: Path) -> Path:
    """The folder; it and its parents are created if they do not exist. Raises LabelrError if it cannot be created."""
    with writing(folder):
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except FileExistsError:
            if os.path.lexists(folder) and not folder.is_dir():
                raise
            return make_folder(folder)  # another process deleted it at this moment
    return folder


def check_writable(folder: Path) -> None:
    """Creates a folder if it does not exist, and tests that files can be written in it, before there is work to lose.

    Raises:
        LabelrError: If they cannot.
    """
    make_folder(folder)
    with writing(folder), tempfile.TemporaryFile(dir=folder):
        pass


def check_new(path: Path, *, force: bool) -> None:
    """Raises LabelrError if a file cannot be written, or exists and may not be replaced; creates the folder above."""
    if path.name in ("", "-") or (path.exists() and not path.is_file()):
        raise LabelrError(f"{path} is no regular file", "name a file")
    if path.exists() and not force:
        raise LabelrError(f"{path} exists already", "replace it with `--force`, or name another file")
    check_writable(path.parent)


def numbered(path: Path) -> Iterator[Path]:
    """Names like that of a file, with a number before its suffix: 1, 2, ..."""
    return (path.with_name(f"{path.stem}.{number}{path.suffix}") for number in count(1))


def set_aside(path: Path) -> Path:
    """Gives a file the first numbered name that is free, and returns it. Raises LabelrError if that is not possible."""
    kept = next(other for other in numbered(path) if not os.path.lexists(other))
    with writing(path):
        return path.rename(kept)


@contextmanager
def deleting(path: Path) -> Iterator[None]:
    """Turns errors of the operating system while `path` is deleted into a message for the user."""
    try:
        yield
    except OSError as error:
        raise LabelrError(f"cannot delete {path}: {error.strerror or error}") from error


def write_atomically(path: Path, content: bytes | str, *, durable: bool = True, like: Path | None = None) -> None:
    """Writes a file so that readers see either the old content or the new, never a mixture.

    Text is encoded as UTF-8; file names that were not valid UTF-8 keep their bytes. Unless `durable`, a power failure
    may leave an empty file. It gets the permissions and attributes of the file `like`, but not its times.

    Raises:
        LabelrError: If it cannot be written; nothing is left behind.
    """
    data = content.encode("utf-8", "surrogateescape") if isinstance(content, str) else content
    with replacing(path, durable=durable, like=like) as file:
        file.write(data)


@contextmanager
def replacing(path: Path, *, durable: bool = True, like: Path | None = None) -> Iterator[io.BufferedWriter]:
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
            if like is not None:
                shutil.copystat(like, temporary)
                os.utime(temporary)  # programs look at the time to see what has changed
                with suppress(OSError):
                    shutil.chown(temporary, like.stat().st_uid, like.stat().st_gid)
            move(temporary, path)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise


def move(source: Path, target: Path) -> None:
    """Renames a file, also over another one, or a folder.

    An error that NFS reports though it was renamed, since an answer was lost, is none.
    """
    status = source.stat()
    try:
        source.replace(target)
    except OSError as error:
        with suppress(OSError):
            if error.errno in (errno.ENOENT, errno.ESTALE) and os.path.samestat(target.stat(), status):
                return
        raise


def is_deleted(path: Path) -> bool:
    """Whether a file was deleted while a process has it open: NFS keeps it under such a name until that ends."""
    return re.fullmatch(r"\.nfs[0-9a-fA-F]{8,}", path.name) is not None


def is_draft(path: Path) -> bool:
    """Whether a file is the temporary file of a write, which a killed process leaves behind."""
    return path.name.startswith(DRAFT_PREFIX) and path.name.endswith(DRAFT_SUFFIX)


def delete_drafts(folder: Path, *, below: bool = True) -> None:
    """Deletes the drafts that killed processes left in a folder, and perhaps below it, but not behind links."""
    for parent, _, names in os.walk(folder) if below else islice(os.walk(folder), 1):
        for path in (Path(parent, name) for name in names):
            with suppress(FileNotFoundError):  # another process does the same
                if is_draft(path) and stat.S_ISREG(path.lstat().st_mode):
                    path.unlink()


def is_inside(path: Path, folder: Path) -> bool:
    """Whether a path is below a folder, after `..` and all links above its last part have been followed."""
    real = Path(os.path.realpath(path.parent), path.name)
    return path.name not in ("", "..") and real.is_relative_to(os.path.realpath(folder))


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


# --- reading ---------------------------------------------------------------------------------------------------------

contents: dict[Path, Callable[[Path], Path]] = {}
"""Folders of stand-ins for files that are elsewhere, as in buckets, and what brings the content of one: a file."""


def is_elsewhere(path: Path) -> bool:
    """Whether a file is a stand-in for one that is elsewhere."""
    return any(path.is_relative_to(folder) for folder in contents)


def content_of(path: Path) -> Path:
    """The file with the content of a file: itself, unless that is elsewhere. Raises OSError if it cannot be brought."""
    return next((bring(path) for folder, bring in contents.items() if path.is_relative_to(folder)), path)


def state_of(path: Path) -> tuple[int, int, int]:
    """Size, modification time and status change time of a file, which last is 0 for one that is elsewhere.

    As long as they are the same, its content is.

    Raises:
        OSError: If it has none.
    """
    status = path.stat()
    return status.st_size, status.st_mtime_ns, 0 if is_elsewhere(path) else status.st_ctime_ns


def open_regular(path: Path) -> io.BufferedReader:
    """A regular file, opened for reading.

    A named pipe could block for ever, a device never ends, and a file of the kernel in ``/proc`` may do either.

    Raises:
        OSError: If it cannot be opened, or is no regular file.
    """
    content = content_of(path)
    if content != path:
        with suppress(FileNotFoundError):  # deleted meanwhile, to make room for another one
            return _open_regular(content)
        content = content_of(path)
    return _open_regular(content)


def _open_regular(path: Path) -> io.BufferedReader:
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
    """Turns errors while a file that labelr wrote is read and parsed into a message, and a hint if it is damaged.

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
        return file.read(min(limit, size + 2**20))  # Python reserves as much at once


def is_text(text: str) -> bool:
    """Whether files can hold a text, in UTF-8 or, for the names of files and folders, as the bytes that they are."""
    try:
        return b"\0" not in text.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:
        return False
