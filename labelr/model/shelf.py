"""Where saved models stand: their names, and all of them but the weights. Without torch, so that looking is quick."""

import logging
import os
import re
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

from labelr import files
from labelr.errors import LabelrError, suggest
from labelr.fields import SettingError
from labelr.model.info import ModelInfo
from labelr.model.locks import is_locked
from labelr.model.runs import Run

INFO_FILE = "model.json"
METRICS_FILE = "metrics.json"
PREDICTIONS_FILE = "predictions.csv"
HISTORY_FILE = "history.csv"
ERRORS_FILE = "errors.csv"
CONFIG_FILE = "config.json"
RUN_FILE = "run.json"
"""What a run was begun with; where it lies, the run is unfinished and can be gone on with."""
RECORD_FILE = "record.json"
"""The same, once the run is finished."""
CHECKPOINT_FILE = "checkpoint.pt"
FOLDS_FOLDER = "folds"

log = logging.getLogger(__name__)


def models_folder() -> Path:
    """Where models live that were not put elsewhere."""
    return files.home() / "models"


def check_name(name: str, what: str = "model") -> str:
    """The name, if it can be a model's, or a study's.

    Raises:
        SettingError: If it is a path, begins with a dot, or holds what a file name should not.
    """
    if not re.fullmatch(r"[^\W_][\w.+-]{0,99}", name) or ".." in name:
        raise SettingError(
            f"a {what} cannot be called {name!r}",
            "use letters, digits, `-`, `_` and single dots, beginning with a letter or digit"
            + ("; to save it elsewhere, name a directory with `--output`" if what == "model" else ""),
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
    return ModelInfo.from_json(_read(path, "train the model again, or restore the file"), str(path))


def read_run(path: Path) -> Run:
    """What a ``run.json`` or ``record.json`` says.

    Raises:
        LabelrError: If there is none, or it is damaged.
    """
    return Run.from_json(_read(path, "start the run anew with `--force`"), str(path))


def _read(path: Path, hint: str) -> str:
    """The text of a file of ours; the hint is for where it is none."""
    try:
        return path.read_text(encoding="utf-8")
    except OSError as error:
        raise LabelrError(f"cannot read {path}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise LabelrError(f"{path} is damaged: {error}", hint) from error


def find(model: str | Path | None = None, *, runs: bool = False) -> Path:
    """The directory of a model.

    Args:
        model: A name, or a directory; None takes the newest complete model.
        runs: Whether an unfinished run will do.

    Raises:
        LabelrError: If there is none of that name, with the names most like it.
    """
    if model is None:
        complete = [(info.created, path) for path, info in list_models() if info.complete]
        if not complete:
            raise LabelrError(f"no trained model in {models_folder()}", "train one with `labelr fit DATA`")
        return max(complete)[1]
    names = (INFO_FILE, RUN_FILE) if runs else (INFO_FILE,)
    directory, folder = Path(model), models_folder() / model
    is_path = isinstance(model, Path) or any(separator in model for separator in ("/", os.sep))
    for place in (directory,) if is_path else (folder, directory):
        if any((place / name).is_file() for name in names):
            return place.absolute()
    known = {path.name for name in names for path in _folders_with(name)}
    hint = suggest(str(model), known) or "list the models with `labelr models list`"
    if not runs and not is_path and (folder / RUN_FILE).is_file():
        raise LabelrError(
            f"{str(model)!r} has no model yet: its training was stopped",
            "go on with the same `labelr fit` command and `--resume`",
        )
    if is_path or directory.is_dir():
        raise LabelrError(f"there is no model in {str(model)!r}", hint)
    raise LabelrError(f"no model called {str(model)!r}", hint)


def list_models() -> Iterator[tuple[Path, ModelInfo]]:
    """The models in the models folder by name, each with what its ``model.json`` says; damaged ones are passed over."""
    for path in _folders_with(INFO_FILE):
        try:
            yield path, read_info(path)
        except LabelrError as error:
            log.warning("%s; the model is passed over", error.message)


def is_resumable(folder: Path) -> bool:
    """Whether the unfinished run in a directory has come so far that there is something to go on with."""
    has_progress = (folder / CHECKPOINT_FILE).exists() or (folder / FOLDS_FOLDER).exists()
    return has_progress and (folder / RUN_FILE).is_file()


def list_runs(name: str = RUN_FILE) -> Iterator[tuple[Path, Run]]:
    """The runs in the models folder by name, unfinished ones unless asked otherwise; damaged ones are passed over."""
    for path in _folders_with(name):
        if name == RUN_FILE and not (is_resumable(path) or is_locked(path)):
            continue
        try:
            yield path, read_run(path / name)
        except LabelrError as error:
            log.warning("%s; the run is passed over", error.message)


def list_all() -> list[dict[str, Any]]:
    """The models and the unfinished runs in the models folder, a row each, the newest last."""
    runs = dict(list_runs())
    rows = [summarise_run(*run) for run in runs.items()]
    rows += [summarise(path, info) for path, info in list_models() if path not in runs]
    return sorted(rows, key=lambda row: str(row["created"]))


def _folders_with(name: str) -> list[Path]:
    folder = models_folder()
    return sorted(path for path in folder.iterdir() if (path / name).is_file()) if folder.is_dir() else []


def summarise(path: Path, info: ModelInfo) -> dict[str, Any]:
    """A model in one row."""
    return {
        "name": path.name,
        "path": str(path),
        "created": info.created,
        "labels": len(info.labels),
        "map_macro": (info.scores or {}).get("map_macro"),
        "bytes": _size(path),
        "complete": info.complete,
        "resumable": False,
        "running": not info.complete and is_locked(path),
    }


def summarise_run(path: Path, run: Run) -> dict[str, Any]:
    """An unfinished run in one row, with the keys of a model's, and how far it is."""
    running = is_locked(path)
    return {
        "name": path.name,
        "path": str(path),
        "created": run.created,
        "labels": len(run.labels),
        "map_macro": None,
        "bytes": _size(path),
        "complete": False,
        "resumable": not running,
        "running": running,
        "epochs_done": epochs_done(path, run),
        "epochs": run.settings.get("epochs"),
    }


def epochs_done(folder: Path, run: Run) -> int:
    """How many epochs the unfinished run in a directory has behind it; those of folds do not count."""
    history = folder / HISTORY_FILE
    if not (folder / CHECKPOINT_FILE).exists() or not history.exists():
        return 0
    if history.stat().st_mtime < datetime.fromisoformat(run.created).timestamp():  # of the model that is to be replaced
        return 0
    return len(history.read_text(encoding="utf-8").splitlines()) - 1


def _size(folder: Path) -> int:
    return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())
