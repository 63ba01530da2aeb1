"""Saved models on disk: save, load, find, list, remove. Nothing in a saved model can execute code.

torch is imported only where weights are read or written, so that listing models is quick.
"""

import hashlib
import logging
import os
import re
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING

from labelr import files, locks
from labelr.buckets.results import fetched
from labelr.config import MachineOptions
from labelr.errors import BusyError, LabelrError, suggest
from labelr.fields import SettingError, describe_value
from labelr.model.info import DAMAGED_HINT, ModelInfo

if TYPE_CHECKING:
    from torch import nn

    from labelr.model.device import Runtime
    from labelr.model.predict import Model

INFO_FILE = "model.json"
METRICS_FILE = "metrics.json"
PREDICTIONS_FILE = "predictions.csv"
HISTORY_FILE = "history.csv"
ERRORS_FILE = "errors.csv"
CONFIG_FILE = "config.json"
RUN_FILE = "run.json"
"""The record of an unfinished run; see `training.run`."""
DEFAULT_FILE = ".default"
"""In the models folder: the name or directory of the model that is used where none is named; no model's name."""
WEIGHTS = f"weights-{'[0-9a-f]' * 12}.safetensors"
"""Named after the digest of their content."""
PARTS = (INFO_FILE, HISTORY_FILE, METRICS_FILE, CONFIG_FILE, WEIGHTS)
"""A directory with one of these holds a model, or what is left of one."""
MAX_DEFAULT_BYTES = 2**14
"""Of that file: paths are shorter."""
MAX_NAME = 100
"""The most characters of a model's or study's name."""
RESUME_HINT = "resume it with the same `labelr fit` command and `--resume`"
DEFAULT_HINT = (
    "choose another default with `labelr models default NAME`, or the newest with `labelr models default --unset`"
)

log = logging.getLogger(__name__)


def models_folder() -> Path:
    """The folder of models that were saved without `--output`."""
    return files.home() / "models"


def check_name(name: str, what: str = "model") -> str:
    """The name, if it is valid for a model or a study.

    Raises:
        SettingError: If it is a path, starts with a dot, is too long, or holds characters that a file name should not.
    """
    if not re.fullmatch(rf"[^\W_][\w.+-]{{0,{MAX_NAME - 1}}}", name) or ".." in name:
        allowed = f"use at most {MAX_NAME} characters: letters, digits, `-`, `_`, `+` and single dots, starting with a "
        is_path = what == "model" and {".", "/", os.sep} & {*name}
        elsewhere = "; `fit --output DIR` saves a model elsewhere" if is_path else ""
        raise SettingError(f"a {what} cannot be called {name!r}", f"{allowed}letter or digit{elsewhere}")
    return name


def make_name(text: str) -> str:
    """A valid name made from any text."""
    return re.sub(r"\.{2,}", ".", re.sub(r"[^\w.+-]+", "-", text))[:80].strip("-._+") or "model"


def numbered_names(stem: str) -> Iterator[str]:
    """The names to try where one may be taken: ``stem``, ``stem-2``, ``stem-3``, ..."""
    return (stem if number == 1 else f"{stem}-{number}" for number in count(1))


# --- save and load ---------------------------------------------------------------------------------------------------


def save(folder: Path, network: "nn.Module", info: ModelInfo) -> ModelInfo:
    """Saves a model: first the weights under a new name, then ``model.json`` atomically, then removes old weights.

    Returns:
        The info as saved: with the weights file.

    Raises:
        LabelrError: If it cannot be written; the previous model is still complete.
    """
    import safetensors.torch

    tensors = {name: tensor.detach().contiguous().cpu() for name, tensor in network.state_dict().items()}
    content = safetensors.torch.save(tensors)
    sha256 = hashlib.sha256(content).hexdigest()
    weights = folder / f"weights-{sha256[:12]}.safetensors"
    if not weights.exists():
        files.write_atomically(weights, content)
    saved = replace(info, weights={"file": weights.name, "sha256": sha256})
    save_info(folder, saved)
    for path in folder.glob(WEIGHTS):
        if path != weights:
            path.unlink(missing_ok=True)
    return saved


def save_info(folder: Path, info: ModelInfo) -> None:
    """Writes ``model.json`` atomically.

    Raises:
        LabelrError: If it cannot be written.
    """
    files.write_atomically(folder / INFO_FILE, info.to_json())


def load(
    model: str | Path | None = None,
    *,
    device: str = "auto",
    amp: bool | None = None,
    threads: int | None = None,
    workers: int | None = None,
) -> "Model":
    """Loads a saved model.

    Args:
        model: A name or a directory; None takes the model that `labelr models default` chose, else the newest complete
            one.
        device: ``"cpu"``, ``"cuda"`` or ``"mps"``; ``"auto"`` picks the best one available.
        amp: Whether to compute in 16 bits; None decides by what the processor supports.
        threads: CPU threads, each of which computes a part of a batch; None: as many as this process may use.
        workers: Threads that decode images; None uses as many as `threads`.

    Raises:
        LabelrError: If there is no such model, or it is damaged.
    """
    return resolve_model(model, MachineOptions.of(device=device, amp=amp, threads=threads, workers=workers))


def load_from(folder: Path, runtime: "Runtime") -> "Model":
    """The model in a directory, on a device; its weights are verified by their digest.

    Raises:
        LabelrError: If there is none, or it is damaged.
    """
    from labelr.model.predict import Model, read_network

    info = check(folder)
    log.debug("loading the model in %s, created %s", folder, info.created)
    return Model(folder, info, runtime, runtime.place(read_network(folder, info)).eval())


def resolve_model(model: "str | Path | Model | None", options: MachineOptions | None = None) -> "Model":
    """The model to apply: loads a name or directory, or the default model for None, and returns a `Model` unchanged.

    Logs which one None means, and warns if its training is not finished.
    """
    from labelr.model.device import pick_runtime
    from labelr.model.predict import Model

    if not (model is None or isinstance(model, (str, Path, Model))):
        raise SettingError(
            f"model: expected a name, a directory or a model, got {describe_value(model)}",
            "name one; several models are compared with `labelr.compare`",
        )
    if model is not None and not isinstance(model, Model):
        model = fetched(model)
    loaded = model if isinstance(model, Model) else load_from(find(model), pick_runtime(options))
    if model is None:
        log.info("using the %s model: %s", "newest" if pinned_model() is None else "default", loaded.summary)
    if not loaded.info.complete:
        stopped = "the training of %s was stopped: this is its epoch %d, without calibration and thresholds"
        log.warning(stopped, loaded.name, loaded.info.best_epoch)
    return loaded


def load_info(folder: Path) -> ModelInfo:
    """The parsed ``model.json`` of a directory.

    Raises:
        LabelrError: If there is none, or it is damaged.
    """
    if not os.path.isdir(folder):
        raise LabelrError(f"there is no directory {folder}", DEFAULT_HINT)
    if not os.path.isfile(folder / INFO_FILE):
        raise LabelrError(f"{folder} has no {INFO_FILE}", DAMAGED_HINT)
    return ModelInfo.read(folder / INFO_FILE)


def check(folder: Path) -> ModelInfo:
    """The info of a model that has its files; the weights are not read.

    Raises:
        LabelrError: If a file is missing, as while a directory is copied, or ``model.json`` is damaged.
    """
    info = load_info(folder)
    if not os.path.isfile(folder / info.weights["file"]):
        raise LabelrError(f"{folder} has no {info.weights['file']}, which holds its weights", DAMAGED_HINT)
    return info


def check_complete(folder: Path) -> ModelInfo:
    """The info of a model as `check` returns it; a LabelrError too if its training is not finished."""
    info = check(folder)
    if not info.complete:
        raise LabelrError(f"the training of {folder.name} is not finished", "resume it first, or choose another model")
    return info


def verify(folder: Path) -> None:
    """Raises LabelrError if a file of a model is missing or damaged; reads the weights."""
    info = check(folder)
    weights = folder / info.weights["file"]
    with files.reading(weights, DAMAGED_HINT), files.open_regular(weights) as file:
        info.check_weights(hashlib.file_digest(file, "sha256").hexdigest())


# --- find, list and remove -------------------------------------------------------------------------------------------


def find(model: str | Path | None = None, *, unfinished: bool = False) -> Path:
    """The directory of a model.

    Args:
        model: A name or a directory; None takes the default model.
        unfinished: Whether to accept an unfinished run that has no model yet, and in the models folder a damaged model.

    Raises:
        LabelrError: If there is none of that name, with the most similar names.
    """
    if model is None:
        return find_default()
    names = (INFO_FILE, RUN_FILE) if unfinished else (INFO_FILE,)
    parts = PARTS if unfinished else ()
    directory, folder = files.local_path(model), models_folder() / model
    is_path = isinstance(model, Path) or any(separator in model for separator in ("/", os.sep))
    candidates = (directory,) if is_path else (folder, directory)
    for candidate in candidates:
        if _holds(candidate, *names, *(parts if _is_inside(candidate) else ())):
            return candidate.absolute()
    known = {path.name for path in folders_with(*names, *parts)}
    hint = suggest(str(model), known) or "list the models with `labelr models list`"
    hint = "name a saved model; only `labelr tag` takes ONNX files" if directory.suffix == ".onnx" else hint
    if not unfinished and (candidates[0] / RUN_FILE).is_file():
        raise LabelrError(f"{str(model)!r} has no model yet: its training was stopped", RESUME_HINT)
    for candidate in candidates:  # elsewhere, a folder may have a config.json that is not ours
        if _holds(candidate, *(PARTS if _is_inside(candidate) else (WEIGHTS,))):
            raise LabelrError(f"{candidate.absolute().name} is damaged: it has no {INFO_FILE}", DAMAGED_HINT)
    if is_path or directory.is_dir():
        raise LabelrError(f"there is no model in {str(model)!r}", hint)
    raise LabelrError(f"no model called {str(model)!r}", hint)


def list_models() -> Iterator[tuple[Path, ModelInfo]]:
    """The directory and info of each model in the models folder, by name; skips damaged ones with a warning."""
    for path in folders_with(INFO_FILE):
        try:
            yield path, check(path)
        except LabelrError as error:
            log.warning("%s; the model is skipped", error.message)


def folders_with(*patterns: str) -> list[Path]:
    """The directories in the models folder that hold a file with a name of one of these patterns, sorted."""
    folder = models_folder()
    return sorted(path for path in folder.iterdir() if _holds(path, *patterns)) if folder.is_dir() else []


def _is_inside(folder: Path) -> bool:
    """Whether a path leads to a place in the models folder, perhaps through links to this folder."""
    return folder.parent.resolve() == models_folder().resolve()


def _holds(folder: Path, *patterns: str) -> bool:
    with suppress(FileNotFoundError):  # a run that has just ended has deleted it
        return any(any(folder.glob(pattern)) for pattern in patterns)
    return False


def check_removable(folder: Path) -> None:
    """Raises LabelrError where a model is outside the models folder, in use by a run, or cannot be locked."""
    if folder.resolve().parent != models_folder().resolve():
        raise LabelrError(f"{folder} is not in {models_folder()}", "rename or delete this directory yourself")
    if locks.is_locked(folder):
        raise BusyError(f"a run is writing to {folder}", "stop it first, or wait until it ends")
    locks.check_lock(folder)


def remove(folder: Path) -> None:
    """Deletes a model, damaged or not, or an unfinished run of the models folder.

    Raises:
        LabelrError: If it is outside that folder, in use by a run, or cannot be deleted.
    """
    check_removable(folder)
    was_default = is_default(folder)
    locks.remove_folder(folder)
    if was_default:
        pin(None)
        log.warning("%s was the default model: without `--model`, the newest one is used now", folder.name)


def rename(folder: Path, name: str) -> Path:
    """Renames a model, damaged or not, or an unfinished run of the models folder; returns its new directory.

    Raises:
        LabelrError: If the name is invalid or taken, or the model is outside that folder or in use by a run.
    """
    target = models_folder() / check_name(name)
    check_removable(folder)
    if os.path.lexists(target):
        raise LabelrError(f"{target} exists already", "choose another name")
    was_default = is_default(folder)
    with locks.locked(folder), files.writing(target):
        files.move(folder, target)
        locks.delete_lock(target)
    if was_default:
        files.write_atomically(models_folder() / DEFAULT_FILE, f"{name}\n")
    return target


# --- the default model -----------------------------------------------------------------------------------------------


def find_default() -> Path:
    """The directory of the model that is used where none is named: the pinned one, else the newest complete one.

    Raises:
        LabelrError: If the pinned one is not known, is gone or lacks a file, or there is no model.
    """
    pinned = pinned_model()
    if pinned is not None:
        try:
            check(pinned)
        except LabelrError as error:
            raise LabelrError(f"the default model cannot be used: {error.message}", DEFAULT_HINT) from error
        return pinned
    newest = newest_model()
    if newest is None:
        raise LabelrError(f"no trained model in {models_folder()}", "train one with `labelr fit DATA`")
    return newest


def newest_model() -> Path | None:
    """The directory of the newest complete model; None if there is none."""
    complete = [(info.created, path) for path, info in list_models() if info.complete]
    return max(complete)[1] if complete else None


def pinned_model() -> Path | None:
    """The directory of the model that `labelr models default` chose; None where it chose none.

    One in the models folder is named as there, by whatever path it was chosen.

    Raises:
        LabelrError: If the choice cannot be read.
    """
    path = models_folder() / DEFAULT_FILE
    if not path.exists():
        return None
    with files.reading(path, DEFAULT_HINT):
        try:
            name = files.read_bytes(path, MAX_DEFAULT_BYTES).decode("utf-8", "surrogateescape").removesuffix("\n")
        except OSError as error:
            raise LabelrError(f"cannot read {path}: {error.strerror or error}", DEFAULT_HINT) from error
        if not name or "\0" in name:
            raise ValueError("expected the name or directory of a model")
        pinned = models_folder() / name
        return models_folder() / pinned.name if _is_inside(pinned) else pinned


def is_default(folder: Path) -> bool:
    """Whether a directory, by whatever path, is that of the pinned model."""
    pinned = listed_default()
    return pinned is not None and pinned.resolve() == folder.resolve()


def listed_default() -> Path | None:
    """The pinned model, for what does not need it: also None, with a warning, where the choice cannot be read."""
    try:
        return pinned_model()
    except LabelrError as error:
        log.warning("%s; %s", error.message, error.hint)
        return None


def pin(folder: Path | None) -> None:
    """Makes a model the one that is used where none is named; None takes the newest one again.

    Raises:
        LabelrError: If its training is not finished, it is damaged, or the choice cannot be written.
    """
    path = models_folder() / DEFAULT_FILE
    if folder is None:
        _unpin(path)
        return
    check_complete(folder)
    verify(folder)
    files.make_folder(path.parent)
    if path.is_dir():
        _unpin(path)
    files.write_atomically(path, f"{folder.name if _is_inside(folder) else folder}\n")


def _unpin(path: Path) -> None:
    """Deletes the choice of a default, whatever is in its place, but no folder that holds something."""
    with files.deleting(path):
        if path.is_dir() and not path.is_symlink():
            path.rmdir()
        else:
            path.unlink(missing_ok=True)
