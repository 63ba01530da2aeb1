"""Where studies are kept: in a file on this machine, or in a database that machines share."""

import time
import warnings
from pathlib import Path

import optuna
from filelock import FileLock
from optuna.storages import JournalStorage, RDBStorage
from optuna.storages.journal import JournalFileBackend, JournalFileOpenLock

from labelr import files
from labelr.errors import LabelrError, first_line
from labelr.fields import SettingError

HEARTBEAT_SECONDS, GRACE_SECONDS = 30, 120
"""How often a worker tells a database that it lives, and after what silence it counts as dead."""
DRIVERS = {"postgresql": "postgresql+pg8000", "postgres": "postgresql+pg8000", "mysql": "mysql+pymysql"}
"""The drivers of the extra ``labelr[storage]``, which need no compiler."""
TRIES = 5
"""How often it is tried to make the tables of a database, which another machine may be making at the same moment."""


class _KernelLock(JournalFileOpenLock):
    """The lock of a journal that the kernel takes back from a process that dies."""

    def __init__(self, path: Path) -> None:
        self._lock = FileLock(path)

    def acquire(self) -> bool:
        """Waits until it is free."""
        self._lock.acquire()
        return True

    def release(self) -> None:
        """Gives it back."""
        self._lock.release()


def open_journal(path: Path) -> JournalStorage:
    """The storage of a study in a file, made where there is none.

    Raises:
        LabelrError: If it is damaged, or cannot be written.
    """
    lock = _KernelLock(path.with_name(".journal.lock"))
    try:
        _mend(path, lock)
        return JournalStorage(JournalFileBackend(str(path), lock))
    except (ValueError, KeyError) as error:
        raise LabelrError(
            f"the study in {path} is damaged: {first_line(error)}",
            "begin it anew with `--force`, or name another with `--study`",
        ) from error
    except OSError as error:
        raise files.write_error(path, error) from error


def _mend(path: Path, lock: _KernelLock) -> None:
    """Cuts off what a full disk or a power cut has left of a last line, which the journal would stumble over."""
    if not path.exists():
        return
    lock.acquire()
    try:
        with path.open("r+b") as file:
            content = file.read()
            whole = content.rfind(b"\n") + 1
            if whole < len(content):
                file.truncate(whole)
    finally:
        lock.release()


def check_storage(url: str) -> None:
    """Raises LabelrError if a database cannot be reached, before any time is spent."""
    connect(url).engine.dispose()


def connect(url: str) -> RDBStorage:
    """The storage of studies in a database, its tables made where there are none.

    Raises:
        LabelrError: If it cannot be reached.
    """
    from sqlalchemy.exc import ArgumentError, NoSuchModuleError, SQLAlchemyError

    try:
        return _connect(url)
    except (ArgumentError, NoSuchModuleError) as error:
        raise SettingError(
            f"storage: {without_password(url)} is no address of a database: {first_line(error)}",
            "write it as `postgresql://USER:PASSWORD@HOST/DATABASE`, or mysql:// likewise",
        ) from error
    except ImportError as error:
        raise SettingError(
            f"the driver of the storage {without_password(url)} is not installed: {first_line(error)}",
            "install it with `pip install 'labelr[storage]'`",
        ) from error
    except (SQLAlchemyError, optuna.exceptions.StorageInternalError, OSError) as error:
        raise LabelrError(
            f"the storage {without_password(url)} cannot be reached: {_reason(error)}",
            "see whether the server runs, and whether host, port, user, password and database are right",
        ) from error


def _connect(url: str, tries: int = TRIES) -> RDBStorage:
    from sqlalchemy.engine import make_url
    from sqlalchemy.exc import IntegrityError, ProgrammingError

    address = make_url(url)
    address = address.set(drivername=DRIVERS.get(address.drivername, address.drivername))
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            return RDBStorage(
                address.render_as_string(hide_password=False),
                heartbeat_interval=HEARTBEAT_SECONDS, grace_period=GRACE_SECONDS,
            )  # fmt: skip
    except (IntegrityError, ProgrammingError):
        if tries == 1:
            raise
        time.sleep(1)
        return _connect(url, tries - 1)


def _reason(error: BaseException) -> str:
    """What lies at the bottom of an error of a database."""
    while error.__cause__ or error.__context__:
        error = error.__cause__ or error.__context__ or error
    said = error.args[0] if error.args else None
    return str(said["M"]) if isinstance(said, dict) and "M" in said else first_line(error)  # pg8000 says all fields


def without_password(url: str) -> str:
    """An address that can be shown."""
    from sqlalchemy.engine import make_url
    from sqlalchemy.exc import ArgumentError

    try:
        return make_url(url).render_as_string(hide_password=True)
    except ArgumentError:
        return repr(url)
