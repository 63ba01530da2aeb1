"""Addresses of objects in buckets, and calls to their servers, tried again after an error that may pass."""

import errno
import os
import random
import re
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple, TypeVar

from labelr import files, signals
from labelr.errors import LabelrError

T = TypeVar("T")

EXTRAS: Mapping[str, str] = MappingProxyType({
    "s3": "s3", "gs": "gcs", "gcs": "gcs", "az": "azure", "abfs": "azure", "abfss": "azure",
})  # fmt: skip
"""The extra of labelr that each kind of address needs."""
MIRROR, RESULTS = "mirror", "results"
"""Folders of the cache: of stand-ins for objects, and of results before they are written into buckets."""
THREADS = 32
"""Objects that are read or written at a time: most of the time is spent waiting."""
ATTEMPTS = 6
"""How often a call is tried."""
FIRST_DELAY, MAX_DELAY = 0.5, 20.0
"""Seconds before the second attempt, which double with each further one, and their limit."""
CONNECT_SECONDS, READ_SECONDS = 10, 30
"""How long S3 may take to accept a connection, and to send the next bytes."""
_ADDRESS = re.compile(rf"({'|'.join(EXTRAS)}):/+([^/].*)", re.IGNORECASE | re.DOTALL)
_NO_BUCKET = re.compile(rf"({'|'.join(EXTRAS)}):/*", re.IGNORECASE)
_QUERY = re.compile(r"\?[\w.%-]+=.*", re.DOTALL)
"""The end of a signed address, which gives access to everybody who sees it."""
_CREDENTIALS = re.compile(r"(?!arn:)[^/@]*:.*@", re.DOTALL)
"""A name and a password, which may have slashes, before the bucket; of Azure, `container@account` is none."""
_PERMANENT = (FileNotFoundError, PermissionError, IsADirectoryError, ImportError, ValueError, TypeError)
_PERMANENT_NAMES = re.compile("Credential|Authenti|Profile|Token|Validation")
"""In the names of errors of the packages for buckets, which have no class in common."""
_DISK_ERRORS = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EMFILE, errno.ENFILE)
_CREDENTIALS_HINT = "credentials are read from the environment and the files of the bucket's own tools"


class Address(NamedTuple):
    """What a bucket holds under a name: an object, or all objects in a folder.

    Attributes:
        scheme: ``s3``, ``gs`` and the like.
        name: The bucket and the key, such as ``bucket/photos/a.jpg``.
    """

    scheme: str
    name: str

    def __str__(self) -> str:
        return f"{self.scheme}://{self.name}"

    def __truediv__(self, name: str) -> "Address":
        return Address(self.scheme, f"{self.name}/{name}")

    def place(self, kind: str = MIRROR) -> Path:
        """Where it is on this machine: as a stand-in, or among the results that are written into buckets."""
        return root(kind) / self.scheme / self.name


def root(kind: str = MIRROR) -> Path:
    """The folder of all stand-ins, or of the results that are written into buckets."""
    return files.home() / "buckets" / kind


def address_of(path: Path) -> Address | None:
    """The address that a path is, stands for, or is written to; None for any other path."""
    for kind in (MIRROR, RESULTS):
        if path.is_relative_to(root(kind)):
            scheme, *parts = path.relative_to(root(kind)).parts
            return Address(scheme, "/".join(parts))
    return parse(path)


def parse(path: str | Path) -> Address | None:
    """The address that a text or path is; None for a path of this machine. `Path` has left one slash of two.

    Raises:
        LabelrError: If it holds credentials, which do not belong into commands and records, or names no bucket.
    """
    found, is_incomplete = _ADDRESS.fullmatch(os.fspath(path)), _NO_BUCKET.fullmatch(os.fspath(path))
    if not (found or is_incomplete) or os.path.exists(path):
        return None
    if found is None:
        scheme = os.fspath(path).partition(":")[0].lower()
        raise LabelrError(f"the name of the bucket is missing after {scheme}://", f"write `{scheme}://BUCKET/FOLDER`")
    scheme, name = found[1].lower(), found[2].rstrip("/")
    if _CREDENTIALS.match(name) or ("@" in name.partition("/")[0] and EXTRAS[scheme] != "azure"):
        raise LabelrError(f"the {scheme}:// address holds credentials", f"give the bucket alone; {_CREDENTIALS_HINT}")
    if _QUERY.search(name):
        raise LabelrError(
            f"{scheme}://{_QUERY.sub('', name)} is followed by a query, as in signed addresses",
            f"leave it out; {_CREDENTIALS_HINT}",
        )
    return Address(scheme, name)


def path_or_address(path: str | Path) -> Path:
    """A path, or the address of a bucket as a path, that a user gives.

    Raises:
        LabelrError: If it is empty, another address, such as ``https://example.org/photos``, or holds credentials.
    """
    return files.local_path(path) if parse(path) is None else Path(path)


def connect(address: Address) -> tuple[Any, str]:
    """The file system of an address, and its name there.

    Raises:
        LabelrError: If the extra that it needs is not installed.
    """
    extra = EXTRAS[address.scheme]
    try:
        import fsspec

        kind: Any = fsspec.get_filesystem_class(address.scheme)
    except ImportError as error:
        raise LabelrError(
            f"{address} is in a bucket, and a package to read it is missing", f"`pip install 'labelr[{extra}]'`"
        ) from error
    url = str(address)
    options = {"use_listings_cache": False, **kind._get_kwargs_from_urls(url)}  # noqa: SLF001 - as fsspec.url_to_fs
    if extra == "s3":
        given = fsspec.config.conf.get("s3", {}).get("config_kwargs", {})
        ours = {"connect_timeout": CONNECT_SECONDS, "read_timeout": READ_SECONDS, "max_pool_connections": THREADS}
        options["config_kwargs"] = {**ours, "retries": {"total_max_attempts": 1}, **given}
    system = fsspec.filesystem(address.scheme, **options)
    system.retries = 1  # of S3: `call` tries again
    return system, str(kind._strip_protocol(url))  # noqa: SLF001


def call(function: Callable[[], T]) -> T:
    """The result of a call to a server, tried again with growing delays after an error that may pass.

    Raises:
        OSError: If it fails for good. Its text is a reason for the user, without queries.
        LabelrError: If a file of this machine cannot be written.
    """
    for attempt in range(1, ATTEMPTS + 1):
        try:
            return function()
        except LabelrError:
            raise
        except Exception as error:
            if isinstance(error, OSError) and error.errno in _DISK_ERRORS:
                raise files.write_error(files.home(), error) from error
            is_last = attempt == ATTEMPTS or is_permanent(error)
            if is_last or not _wait(min(FIRST_DELAY * 2 ** (attempt - 1), MAX_DELAY)):
                raise _failure(error, attempt) from error
    raise AssertionError


def is_permanent(error: Exception) -> bool:
    """Whether another attempt would fail as well."""
    return isinstance(error, _PERMANENT) or _PERMANENT_NAMES.search(type(error).__name__) is not None


def _wait(seconds: float) -> bool:
    """Waits for about some seconds; False if a signal asks to stop meanwhile."""
    end = time.monotonic() + seconds * random.uniform(0.5, 1)  # noqa: S311 - so that threads do not come back at once
    while time.monotonic() < end:
        if signals.stop_requested():
            return False
        time.sleep(0.05)
    return True


def _failure(error: Exception, attempts: int) -> OSError:
    if isinstance(error, FileNotFoundError):
        return FileNotFoundError(errno.ENOENT, "not found in the bucket")
    what = _QUERY.sub("", " ".join(str(error).split()) or type(error).__name__)[: files.MAX_REASON]
    if isinstance(error, PermissionError):
        return PermissionError(errno.EACCES, f"the bucket denies access: {what}")
    if is_permanent(error):
        return OSError(errno.EIO, what)
    return OSError(errno.EIO, f"no answer from the bucket after {attempts} attempts: {what}")
