"""Buckets as local folders: for each object a stand-in, an empty file of its size whose time stands for its etag.

All that walks folders, matches names and compares sizes and times works on these; the content is brought when a
stand-in is opened, see `labelr.buckets.objects`. A stand-in takes no space on disk: it is a hole of the object's size.
`labelr cache` lists and deletes what is kept.
"""

import hashlib
import logging
import os
import re
import shutil
import sys
import threading
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from itertools import accumulate
from pathlib import Path
from typing import Any, NamedTuple

from labelr import errors, files
from labelr.buckets import objects
from labelr.buckets.addresses import EXTRAS, MIRROR, RESULTS, THREADS, Address, address_of, call, connect, parse, root
from labelr.errors import LabelrError, pluralize, preview

log = logging.getLogger(__name__)

_ETAGS = ("ETag", "etag", "md5Hash", "content_md5", "LastModified", "last_modified", "updated", "mtime", "created")
"""What the file systems call the mark of an object's content, the best first."""
_START = 946_684_800
"""The year 2000: with 2^30 seconds more, times stay within the 32 bits of some file systems."""
MAX_PART = 255
"""Bytes of the longest name of a file."""
_VERSION = "?versionId="
"""After this, s3fs takes the rest of a name for the version of an object."""
_NOT_ON_WINDOWS = re.compile(r'[<>:"\\|?*]')


class State(NamedTuple):
    """The size of an object in bytes, and its etag as a time in nanoseconds."""

    size: int
    mtime_ns: int

    @classmethod
    def of(cls, info: Mapping[str, Any]) -> "State":
        """The state of an object as a file system tells it."""
        etag = next((info[name] for name in _ETAGS if info.get(name)), "")
        size = int(info.get("size") or 0)
        number = int.from_bytes(hashlib.sha256(f"{etag} {size}".encode()).digest()[:8])
        return cls(size, (_START + number % 2**30) * 10**9 + (number >> 30) % 10**9)


def local(path: str | Path) -> Path:
    """The path of this machine for a path or an address: the folder of the stand-ins of its objects, or a stand-in.

    Raises:
        LabelrError: If there is nothing at the address, it cannot be listed, or an extra is missing.
    """
    address = parse(path)
    if address is None:
        return files.local_path(path)
    found = find(address)
    return _mirror(address, found) if found else _empty_folder(address)


def stand_in(path: Path) -> Path:
    """The stand-in of what is at a path or an address, or is written there; a path of this machine is unchanged."""
    address = address_of(path)
    return path if address is None else address.place()


def _empty_folder(address: Address) -> Path:
    """An empty folder for an address at which there are no objects.

    LabelrError if nothing shows that it was a folder: neither an object of its name, nor an earlier run.
    """
    system, name = connect(address)
    if not (address.place().is_dir() or _exists(address, system, name)):
        raise LabelrError(
            f"there is nothing at {address}: the bucket has no object of this name, and none below it",
            "check its spelling",
        )
    place = _mirror(address, {})
    with files.writing(root(MIRROR)):
        place.mkdir(parents=True, exist_ok=True)
    return place


def local_files(paths: Iterable[str | Path]) -> list[Path]:
    """The paths of this machine for the paths and addresses in a list; nothing is at that of an object that is missing.

    Raises:
        LabelrError: As `local`, but for an object that is missing.
    """
    with ThreadPoolExecutor(THREADS, thread_name_prefix="list") as pool:
        return list(pool.map(_local_file, paths))


def _local_file(path: str | Path) -> Path:
    address = parse(path)
    if address is None:
        return files.local_path(path)
    system, name = connect(address)
    try:
        info = call(lambda: system.info(name))
    except FileNotFoundError:
        info = {}
    except OSError as error:
        raise _no_access(address, error) from error
    if info.get("type") == "directory":
        return local(path)
    return _mirror(address, {"": State.of(info)} if info else {})


def find(address: Address) -> dict[str, State]:
    """The objects at an address and below it, by their names relative to it; that of the object itself is empty.

    Raises:
        LabelrError: If they cannot be listed, or the bucket does not exist.
    """
    system, name = connect(address)
    bucket = name.partition("/")[0]
    try:
        found = call(lambda: system.find(name, detail=True))
    except FileNotFoundError:
        if not _exists(address, system, bucket):
            raise LabelrError(f"there is no bucket {bucket}, in which {address} would be", "check its name") from None
        return {}
    except OSError as error:
        raise _no_access(address, error) from error
    return {
        key.removeprefix(name).removeprefix("/"): State.of(info)
        for key, info in found.items()
        if info.get("type") != "directory" and not key.endswith("/")
    }


def _exists(address: Address, system: Any, name: str) -> bool:
    try:
        return bool(call(lambda: system.exists(name)))
    except OSError as error:
        raise _no_access(address, error) from error


def _no_access(address: Address, error: OSError) -> LabelrError:
    hint = {
        "s3": "check AWS_PROFILE and AWS_ENDPOINT_URL; for a public bucket, set FSSPEC_S3_ANON=true",
        "gcs": "check GOOGLE_APPLICATION_CREDENTIALS; for a public bucket, set FSSPEC_GCS_TOKEN=anon",
        "azure": "check AZURE_STORAGE_CONNECTION_STRING, or AZURE_STORAGE_ACCOUNT_NAME and its key",
    }
    is_name = "Validation" in type(error.__cause__).__name__
    return LabelrError(
        f"cannot list {address}: {error.strerror}",
        "correct the name of the bucket" if is_name else hint[EXTRAS[address.scheme]],
    )


def _mirror(address: Address, found: Mapping[str, State]) -> Path:
    """The folder of the stand-ins at an address, or the only one, after it was made the same as the objects found."""
    place = address.place()
    register()
    versioned = {name for name in found if address.scheme == "s3" and _VERSION in name}
    wanted = _usable({name: state for name, state in found.items() if name not in versioned})
    unusable = found.keys() - wanted.keys() - versioned
    with files.writing(root(MIRROR)):  # messages would show the address in place of a stand-in
        present = _clear_way(place, wanted)
        for name, state in wanted.items():
            if present.get(name) != state:
                try:
                    _make(place / name if name else place, state, is_new=name not in present)
                except FileExistsError:
                    unusable.add(name)
    for left_out, reason in ((unusable, "no file can have"), (versioned, f"s3fs cannot read because of {_VERSION!r}")):
        if left_out:
            count, names = pluralize(len(left_out), "object"), preview(sorted(map(repr, left_out)))
            log.warning("left out: %s in %s whose names %s: %s", count, address, reason, names)
    return place


def _clear_way(place: Path, wanted: Mapping[str, State]) -> dict[str, State]:
    """Deletes stand-ins that are not wanted any more; the states of those that are left."""
    for folder in reversed([folder for folder in place.parents if folder.is_relative_to(root(MIRROR))]):
        if folder.is_file():  # it was an object
            folder.unlink()
    if wanted and "" not in wanted:
        return _delete_others(place, wanted)
    if place.is_dir():
        shutil.rmtree(place)
    if not wanted:
        place.unlink(missing_ok=True)
    return {"": _state(place)} if place.exists() else {}


def register() -> None:
    """Lets the content of stand-ins be brought, and messages show addresses in their place."""
    if root(MIRROR) not in files.contents:
        files.contents[root(MIRROR)] = objects.bring
        for kind in (MIRROR, RESULTS):
            errors.shown_as.update({f"{root(kind) / scheme}{os.sep}": f"{scheme}://" for scheme in EXTRAS})
        _hold_in_use()


def _in_use_file() -> Path:
    """The file of which each process holds a shared lock that uses stand-ins."""
    return root(MIRROR).with_name("in-use.lock")


def _hold_in_use() -> None:
    """Takes the shared lock until the process ends, so that nobody clears stand-ins: their objects would seem gone."""
    if sys.platform != "win32":
        import fcntl

        with suppress(OSError):  # there is no place to write, which the first stand-in reports, or no locks
            _in_use_file().parent.mkdir(parents=True, exist_ok=True)
            fcntl.flock(os.open(_in_use_file(), os.O_RDWR | os.O_CREAT), fcntl.LOCK_SH)


def _usable(found: Mapping[str, State]) -> dict[str, State]:
    """The objects whose names can be those of files."""
    folders = {parent for name in found for parent in accumulate(name.split("/")[:-1], "{}/{}".format)}
    return {name: state for name, state in found.items() if name not in folders and _is_file_name(name)}


def _is_file_name(name: str) -> bool:
    if not name:
        return True
    if os.name == "nt" and _NOT_ON_WINDOWS.search(name):
        return False
    return all(
        part not in ("", ".", "..") and "\0" not in part and len(os.fsencode(part)) <= MAX_PART
        for part in name.split("/")
    )


def _state(path: Path) -> State:
    status = path.lstat()
    return State(status.st_size, status.st_mtime_ns)


def _delete_others(folder: Path, wanted: Mapping[str, State]) -> dict[str, State]:
    """Deletes stand-ins in a folder that are not wanted; the states of those that are left."""
    if folder.exists() and not folder.is_dir():
        folder.unlink()
    present = {}
    for parent, folders, names in os.walk(folder, topdown=False):
        for path in (Path(parent, name) for name in names):
            name = path.relative_to(folder).as_posix()
            if name in wanted:
                present[name] = _state(path)
            else:
                path.unlink()
        for path in (Path(parent, name) for name in folders):
            with suppress(OSError):  # it is not empty
                path.rmdir()
    return present


def _make(path: Path, state: State, *, is_new: bool) -> None:
    """Makes a stand-in. Raises FileExistsError if one of a similar name is there, on a system that ignores case."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if is_new and os.path.lexists(path):
        raise FileExistsError(path)
    draft = path.with_name(f"{files.DRAFT_PREFIX}{os.getpid()}-{threading.get_ident()}{files.DRAFT_SUFFIX}")
    with draft.open("wb") as file:
        file.truncate(state.size)
    os.utime(draft, ns=(state.mtime_ns, state.mtime_ns))
    draft.replace(path)


# --- what this machine keeps of buckets -------------------------------------------------------------------------------


def kept() -> list[tuple[str, int, int, float]]:
    """Each kind of files that are kept, with their number, their bytes on disk, and the seconds since 1970 of last use.

    The kinds are ``"objects"``, whose content is kept; ``"listed"``, empty files that stand for objects; and
    ``"results"``. Those of which there is nothing are left out.
    """
    kinds = {"objects": objects.kept(), "listed": _files_below(root(MIRROR)), "results": _files_below(root(RESULTS))}
    found = []
    for kind, paths in kinds.items():
        number, num_bytes, used = 0, 0, 0.0
        for path in paths:
            with suppress(OSError):  # another process has deleted it
                status = path.stat()
                size = 512 * int(getattr(status, "st_blocks", 0)) if kind == "listed" else status.st_size
                number, num_bytes, used = number + 1, num_bytes + size, max(used, status.st_ctime)
        if number:
            found.append((kind, number, num_bytes, used))
    return found


def _files_below(folder: Path) -> Iterable[Path]:
    return (path for path in folder.rglob("*") if path.is_file() and not files.is_draft(path))


def clear() -> None:
    """Deletes what can be brought again: objects, and their stand-ins unless a run uses some.

    Raises:
        OSError: If something cannot be deleted.
    """
    for path in objects.kept():
        path.unlink(missing_ok=True)
    if sys.platform == "win32" or not root(MIRROR).is_dir():
        return
    import fcntl

    with _in_use_file().open("ab") as file, suppress(BlockingIOError):
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        shutil.rmtree(root(MIRROR))
