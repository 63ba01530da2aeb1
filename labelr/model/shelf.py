"""Where saved models stand: their names, and all of them but the weights. Without torch, so that looking is quick."""

import logging
import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from itertools import count
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from labelr import files
from labelr.data.splits import SPLITS_FILE
from labelr.errors import LabelrError, nearest
from labelr.model.info import ModelInfo
from labelr.settings import SettingError

INFO_FILE = "model.json"
METRICS_FILE = "metrics.json"
PREDICTIONS_FILE = "predictions.csv"
HISTORY_FILE = "history.csv"
ERRORS_FILE = "errors.csv"
REPORT_FOLDER = "report"
LOCK_FILE = ".lock"

log = logging.getLogger(__name__)


def models_folder() -> Path:
    """Where models live that were not put elsewhere."""
    return files.home() / "models"


@contextmanager
def reserved(name: str | None, *, default_name: str, output: Path | None = None, force: bool = False) -> Iterator[Path]:
    """A directory for a new model, made at once and locked, so that no other run takes it meanwhile.

    The lock is the kernel's: a process that dies does not keep it. A directory that was made here and holds no model
    in the end is removed again.

    Args:
        name: The model's name; None takes `default_name`, then ``-2``, ``-3``, ... until one is free.
        default_name: Made into a name by leaving out what a name must not hold.
        output: A directory elsewhere that is taken instead.
        force: Whether a model that is there already may be replaced; it stays until the new one is saved.

    Raises:
        LabelrError: If the name cannot be one, is taken, or the directory cannot be made.
    """
    folder, is_new = _choose_folder(name, default_name, output)
    try:
        with _locked(folder):
            _check_free(folder, force)
            try:
                yield folder
            finally:
                _clear(folder)
    finally:
        if is_new:
            with suppress(OSError):  # a model is in it, or something of the user's own
                folder.rmdir()


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Holds the lock of a directory, or says that another run does."""
    lock = FileLock(folder / LOCK_FILE)
    with files.writing(folder):
        try:
            lock.acquire(timeout=0)
        except Timeout as error:
            raise LabelrError(f"another run is making the model in {folder}", "wait, or choose another name") from error
    try:
        yield
    finally:
        (folder / LOCK_FILE).unlink(missing_ok=True)
        lock.release()


def _choose_folder(name: str | None, default_name: str, output: Path | None) -> tuple[Path, bool]:
    """The directory to save in, and whether it was made just now."""
    if output is not None:
        return output.absolute(), _make_folder(output.absolute())
    if name is not None:
        folder = models_folder() / check_name(name)
        return folder, _make_folder(folder)
    stem = re.sub(r"\.{2,}", ".", re.sub(r"[^\w.+-]+", "-", default_name))[:80].strip("-._+") or "model"
    for number in count(1):
        folder = models_folder() / (stem if number == 1 else f"{stem}-{number}")
        if _make_folder(folder):
            break
    return folder, True


def _make_folder(folder: Path) -> bool:
    """Makes a directory with its parents; False where it is there already."""
    files.make_folder(folder.parent)
    try:
        folder.mkdir()
    except OSError as error:
        if folder.is_dir():
            return False
        raise files.write_error(folder, error) from error
    return True


def _check_free(folder: Path, force: bool) -> None:
    """Raises LabelrError unless a model may be saved in a directory: it is empty, or its model may be replaced."""
    if (folder / INFO_FILE).is_file():
        if not force:
            raise LabelrError(
                f"there is a model in {folder} already", "choose another name, or replace it with `--force`"
            )
    elif any(path.name != LOCK_FILE for path in folder.iterdir()):
        raise LabelrError(f"{folder} exists, and is no model", "choose another name or directory")


def _clear(folder: Path) -> None:
    """Deletes what a run that saved no model has left in its directory."""
    if (folder / INFO_FILE).exists():
        return
    for leftover in (SPLITS_FILE, ERRORS_FILE, HISTORY_FILE, PREDICTIONS_FILE):
        (folder / leftover).unlink(missing_ok=True)
    for weights in folder.glob("weights-*.safetensors"):
        weights.unlink(missing_ok=True)


def check_name(name: str) -> str:
    """The name, if it can be a model's.

    Raises:
        SettingError: If it is a path, begins with a dot, or holds what a file name should not.
    """
    if not re.fullmatch(r"[^\W_][\w.+-]{0,99}", name) or ".." in name:
        raise SettingError(
            f"a model cannot be called {name!r}",
            "use letters, digits, `-`, `_` and single dots, beginning with a letter or digit; "
            "to save it elsewhere, name a directory with `--output`",
        )
    return name


def save_info(folder: Path, info: ModelInfo) -> None:
    """Writes ``model.json`` in one piece.

    Raises:
        LabelrError: If it cannot be written.
    """
    files.write_atomically(folder / INFO_FILE, info.to_json())


def read_info(folder: Path) -> ModelInfo:
    """What the ``model.json`` in a directory says.

    Raises:
        LabelrError: If there is none, or it is damaged.
    """
    path = folder / INFO_FILE
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise LabelrError(f"cannot read {path}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise LabelrError(f"{path} is damaged: {error}", "train the model again, or restore the file") from error
    return ModelInfo.from_json(text, str(path))


def find(model: str | Path | None = None) -> Path:
    """The directory of a model.

    Raises:
        LabelrError: If there is none of that name, with the names most like it.
    """
    if model is None:
        complete = [(info.created, path) for path, info in list_models() if info.complete]
        if not complete:
            raise LabelrError(f"no trained model in {models_folder()}", "train one with `labelr fit DATA`")
        return max(complete)[1]
    directory = Path(model)
    if (directory / INFO_FILE).is_file() and (isinstance(model, Path) or len(directory.parts) > 1):
        return directory.absolute()
    folder = models_folder() / model
    if len(directory.parts) == 1 and (folder / INFO_FILE).is_file():
        return folder
    if (directory / INFO_FILE).is_file():
        return directory.absolute()
    known = [path.name for path, _ in list_models()]
    hint = nearest(str(model), known) or "list the models with `labelr models list`"
    raise LabelrError(f"no model called {str(model)!r}", hint)


def list_models() -> Iterator[tuple[Path, ModelInfo]]:
    """The models in the models folder by name, each with what its ``model.json`` says; damaged ones are passed over."""
    folder = models_folder()
    for path in sorted(folder.iterdir()) if folder.is_dir() else []:
        if (path / INFO_FILE).is_file():
            try:
                yield path, read_info(path)
            except LabelrError as error:
                log.warning("%s; the model is passed over", error.message)


def summarise(path: Path, info: ModelInfo) -> dict[str, Any]:
    """A model in one row."""
    return {
        "name": path.name,
        "path": str(path),
        "created": info.created,
        "labels": len(info.labels),
        "map_macro": (info.scores or {}).get("map_macro"),
        "bytes": sum(file.stat().st_size for file in path.rglob("*") if file.is_file()),
        "complete": info.complete,
    }


def remove(folder: Path) -> None:
    """Deletes a model of the models folder.

    Raises:
        LabelrError: If it stands elsewhere, or cannot be deleted.
    """
    if folder.parent != models_folder():
        raise LabelrError(f"{folder} is not in {models_folder()}", "delete a directory of your own yourself")
    files.remove_folder(folder)
