"""Results in buckets: written into a folder of this machine, and put into the bucket at the end of a run, or its stop.

The folder is kept, so that the next run reads and writes only what differs. If the process is killed, the bucket is as
before, and the same command resumes on this machine with what the folder holds.
"""

import hashlib
import logging
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from labelr import files, locks, signals
from labelr.buckets.addresses import RESULTS, THREADS, Address, call, connect, parse, root
from labelr.buckets.mirror import State, find, register
from labelr.buckets.objects import save
from labelr.errors import BusyError, LabelrError, pluralize

log = logging.getLogger(__name__)

LAST = ("model.json", "metrics.json", "summary.json")
"""Files that say that a folder is complete, which are written after all others."""
RECORD_FILE = "record.json"
TRIAL = f"{files.DRAFT_PREFIX}trial{files.DRAFT_SUFFIX}"
"""An object that shows whether a bucket may be written."""
ELSEWHERE = "check the permissions of the bucket, or name another place with `--output`"


class Synced(NamedTuple):
    """The states of an object and of the file that was the same here, when they were last compared."""

    remote: State
    local: State


class Record(msgspec.Struct):
    """What is known of the folder of an address.

    Attributes:
        synced: The files that were the same, by name.
        writing: The names that were about to be written into the bucket or deleted there; empty afterwards.
        deleting: Those among them that a run had deleted here.
        address: The address.
    """

    synced: dict[str, Synced] = {}
    writing: list[str] = []
    deleting: list[str] = []
    address: str = ""


def place_of(path: str | Path) -> Path:
    """The folder of this machine with the results at a path or an address."""
    address = parse(path)
    return Path(path) if address is None else address.place(RESULTS)


@contextmanager
def written(
    path: str | Path, marks: Sequence[str], *, dry_run: bool = False, resume_option: str = ""
) -> Iterator[Path]:
    """The folder for the results at a path or an address. At the end, also after an error, they are in the bucket.

    Args:
        path: The path, or the address.
        marks: How the names of some file start that results always have: a bucket's folder without one is refused.
        dry_run: Whether the bucket stays as it is.
        resume_option: The option that the same command needs to write what is not in the bucket yet; may be empty.

    Raises:
        LabelrError: If the bucket cannot be read or written, or holds something else there.
        BusyError: If another run of this machine is writing there.
    """
    address = parse(path)
    if address is None:
        yield files.local_path(path)
        return
    with _Folder(address, marks).opened() as folder:
        if dry_run:
            yield folder.place
            return
        folder.check_writable()
        try:
            yield folder.place
        except BaseException:
            if folder.is_changed:
                try:
                    folder.push(resume_option)
                except LabelrError as error:
                    log.warning("%s", error.message)
            raise
        folder.push(resume_option)


def fetched(path: str | Path) -> str | Path:
    """The folder of this machine for an address, with what the bucket holds there; a path or a name is unchanged.

    Raises:
        LabelrError: If the bucket cannot be read, or has no objects there.
        BusyError: If another run of this machine is writing there.
    """
    address = parse(path)
    if address is None:
        return path
    with _Folder(address).opened() as folder:
        return folder.place


def clear() -> None:
    """Deletes the folders whose results are all in their buckets, except those that a run uses.

    Raises:
        OSError: If something cannot be deleted.
    """
    for path in root("records").glob(f"*/{RECORD_FILE}"):
        with suppress(ValueError, msgspec.MsgspecError, BusyError):
            address = parse(msgspec.json.decode(files.read_bytes(path), type=Record).address)
            if address is not None:
                _Folder(address).clear()


class _Folder:
    """The folder `place` of an address, and what is known of it."""

    def __init__(self, address: Address, marks: Sequence[str] = ()) -> None:
        self._address = address
        self._marks = tuple(marks)
        self.place = address.place(RESULTS)
        self._notes = root("records") / hashlib.sha256(str(address).encode()).hexdigest()[:16]
        self._record = Record()
        self._remote: dict[str, State] = {}
        self._before: dict[str, State] = {}
        self._deleted: set[str] = set()

    @contextmanager
    def opened(self) -> Iterator["_Folder"]:
        """The folder, locked, with what the bucket holds."""
        register()
        with locks.locked(self._notes, self.place):
            self._load()
            self._pull()
            yield self

    def clear(self) -> None:
        """Deletes the folder if all that it holds is in the bucket; BusyError if a run is using it."""
        with locks.locked(self._notes, self.place):
            self._load()
            local, synced = self._local(), self._record.synced
            if self._record.writing or any(name not in synced or local[name] != synced[name].local for name in local):
                return
            for name in local:
                (self.place / name).unlink()
            (self._notes / RECORD_FILE).unlink(missing_ok=True)
            for folder in sorted((path for path in self.place.rglob("*") if path.is_dir()), reverse=True):
                with suppress(OSError):  # it is not empty
                    folder.rmdir()

    @property
    def is_changed(self) -> bool:
        """Whether files were changed since the folder was opened."""
        return self._local() != self._before

    def _load(self) -> None:
        with suppress(OSError, msgspec.MsgspecError):
            self._record = msgspec.json.decode(files.read_bytes(self._notes / RECORD_FILE), type=Record)

    def _save(self) -> None:
        self._record.address = str(self._address)
        files.write_atomically(self._notes / RECORD_FILE, msgspec.json.encode(self._record))

    def _pull(self) -> None:
        """Brings what is not here, and what somebody else has changed in the bucket since the last run."""
        self._remote, local = _find(self._address), self._local()
        found, synced, writing = self._remote, self._record.synced, {*self._record.writing}
        if self._marks and found.keys() - synced.keys() - writing and not any(map(self._is_mark, found)):
            raise LabelrError(
                f"{self._address} holds objects that are not results of labelr", "name another place with `--output`"
            )
        same = {name for name in found if name in synced and synced[name] == (found[name], local.get(name))}
        changed_remotely = any(
            name not in synced or found.get(name) != synced[name].remote for name in {*found, *synced} - writing
        )
        wanted = [name for name in found if name not in (same if changed_remotely else local)]
        if not changed_remotely and {*wanted} <= {*self._record.deleting}:  # else the copy is gone
            self._deleted, wanted = {*wanted}, []
        if changed_remotely:
            if any(name not in synced or local[name] != synced[name].local for name in local):
                log.warning(
                    "%s was changed elsewhere, which replaces unfinished results of this machine", self._address
                )
            for name in local.keys() - found.keys():
                (self.place / name).unlink(missing_ok=True)
        with ThreadPoolExecutor(THREADS, thread_name_prefix="fetch") as pool:
            list(pool.map(self._download, wanted, [found[name].size for name in wanted]))
        self._before = self._local()
        if wanted or changed_remotely:
            kept = {name: synced[name] for name in synced if name in (same if changed_remotely else found)}
            brought = {name: Synced(found[name], self._before[name]) for name in wanted}
            self._record = Record({**kept, **brought}, [] if changed_remotely else self._record.writing)
            self._save()

    def _is_mark(self, name: str) -> bool:
        return name.startswith(self._marks)

    def check_writable(self) -> None:
        """Raises LabelrError if objects may not be written and deleted, before there is work to lose."""
        self._run("write", TRIAL, lambda system, remote: system.pipe_file(remote, b""))
        self._delete(TRIAL)

    def push(self, resume_option: str) -> None:
        """Writes what has changed here into the bucket, each object whole, and deletes what was deleted here meanwhile.

        The same command needs `resume_option` to do so again.

        Raises:
            LabelrError: If the bucket cannot be written.
            Stopped: If a signal has arrived.
        """
        way = f"the same command{f' with `{resume_option}`' if resume_option else ''} completes them"
        try:
            self._push()
        except LabelrError as error:
            raise LabelrError(
                f"{error.message}; the results are kept on this machine, and {way}", error.hint
            ) from error
        except (KeyboardInterrupt, signals.Stopped) as stopped:
            log.warning("the results in %s are incomplete: %s from this machine", self._address, way)
            if isinstance(stopped, signals.Stopped):
                stopped.resume_option = resume_option
            raise

    def _push(self) -> None:
        local, synced = self._local(), self._record.synced
        changed = [name for name in sorted(local) if name not in synced or local[name] != synced[name].local]
        gone = sorted(({*self._before, *self._deleted} & self._remote.keys()) - local.keys())
        if not changed and not gone:
            return
        self._record.writing, self._record.deleting = [*changed, *gone], gone
        self._save()
        log.info("writing %s to %s", pluralize(len(changed), "file"), self._address)
        last = [name for name in changed if name in LAST]
        first = [name for name in changed if name not in LAST and self._is_mark(name)]
        others = [name for name in changed if name not in {*last, *first}]
        for names, write in ((first, self._upload), (others, self._upload), (last, self._upload), (gone, self._delete)):
            with ThreadPoolExecutor(THREADS, thread_name_prefix="write") as pool:
                list(pool.map(write, names))
        found = _find(self._address)
        self._record = Record({name: Synced(found[name], local[name]) for name in found if name in local})
        self._save()

    def _local(self) -> dict[str, State]:
        """The size and time of each file of the results here."""
        found = {}
        for path in self.place.rglob("*"):
            if path.is_file() and not files.is_draft(path) and path.name != locks.LOCK_FILE:
                status = path.stat()
                found[path.relative_to(self.place).as_posix()] = State(status.st_size, status.st_mtime_ns)
        return found

    def _download(self, name: str, size: int) -> None:
        path = self.place / name
        if not files.is_inside(path, self.place):
            raise LabelrError(f"{self._address} has an object of the name {name!r}", "delete it")
        try:
            save(self._address / name, path, size)
        except OSError as error:
            raise LabelrError(f"cannot read {self._address / name}: {error.strerror}", ELSEWHERE) from error

    def _upload(self, name: str) -> None:
        self._run("write", name, lambda system, remote: system.put_file(str(self.place / name), remote))

    def _delete(self, name: str) -> None:
        def delete(system: Any, remote: str) -> None:
            with suppress(FileNotFoundError):
                system.rm_file(remote)

        self._run("delete", name, delete)

    def _run(self, verb: str, name: str, function: Any) -> None:
        address = self._address / name
        system, remote = connect(address)
        try:
            call(lambda: function(system, remote))
        except OSError as error:
            raise LabelrError(f"cannot {verb} {address}: {error.strerror}", ELSEWHERE) from error


def _find(address: Address) -> dict[str, State]:
    return {name: state for name, state in find(address).items() if not files.is_draft(Path(name))}
