"""Saved models on disk: save, load, find, list, remove. Nothing in a saved model can execute code.

torch is imported only where weights are read or written, so that listing models is quick.
"""

import hashlib
import logging
import os
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from labelr import files
from labelr.config import MachineOptions
from labelr.errors import BusyError, LabelrError, suggest
from labelr.fields import SettingError
from labelr.model.info import ModelInfo

if TYPE_CHECKING:
    from torch import nn

    from labelr.model.device import Runtime
    from labelr.model.network import Network
    from labelr.model.predict import Model

INFO_FILE = "model.json"
METRICS_FILE = "metrics.json"
PREDICTIONS_FILE = "predictions.csv"
HISTORY_FILE = "history.csv"
ERRORS_FILE = "errors.csv"
CONFIG_FILE = "config.json"
RUN_FILE = "run.json"
"""The record of an unfinished run; see `training.run`."""

log = logging.getLogger(__name__)


def models_folder() -> Path:
    """The folder of models that were saved without `--output`."""
    return files.home() / "models"


def check_name(name: str, what: str = "model") -> str:
    """The name, if it is valid for a model or a study.

    Raises:
        SettingError: If it is a path, starts with a dot, or holds characters that a file name should not.
    """
    if not re.fullmatch(r"[^\W_][\w.+-]{0,99}", name) or ".." in name:
        raise SettingError(
            f"a {what} cannot be called {name!r}",
            "use letters, digits, `-`, `_` and single dots, starting with a letter or digit"
            + ("; to save it elsewhere, name a directory with `--output`" if what == "model" else ""),
        )
    return name


def make_name(text: str) -> str:
    """A valid name made from any text."""
    return re.sub(r"\.{2,}", ".", re.sub(r"[^\w.+-]+", "-", text))[:80].strip("-._+") or "model"


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
    for path in folder.glob("weights-*.safetensors"):
        if path != weights:
            path.unlink(missing_ok=True)
    return saved


def save_info(folder: Path, info: ModelInfo) -> None:
    """Writes ``model.json`` atomically.

    Raises:
        LabelrError: If it cannot be written.
    """
    files.write_atomically(folder / INFO_FILE, info.to_json())


def build_network(info: ModelInfo) -> "Network":
    """A network of a model's architecture, with newly initialised weights.

    Raises:
        SettingError: If it has a backbone of a package that is not installed.
    """
    from labelr.model.network import BackboneNetwork, ResidualNetwork

    architecture, num_labels = info.architecture, len(info.labels)
    if architecture.backbone is None:
        stem, width = architecture.stem or "", architecture.width or 0
        return ResidualNetwork(num_labels, stem=stem, width=width, dropout=architecture.dropout)
    from labelr.model.backbones import find_backbone

    backbone = find_backbone(architecture.backbone)
    body, in_features = backbone.build()
    return BackboneNetwork(
        body, in_features, num_labels, dropout=architecture.dropout, image_size=backbone.smallest_size
    )


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
        model: A name or a directory; None takes the newest complete model.
        device: ``"cpu"``, ``"cuda"`` or ``"mps"``; ``"auto"`` picks the best one available.
        amp: Whether to compute in 16 bits; None decides by what the processor supports.
        threads: CPU threads of one operation; None uses all processors.
        workers: Threads that decode images; None uses as many as `threads`.

    Raises:
        LabelrError: If there is no such model, or it is damaged.
    """
    from labelr.model.device import pick_runtime

    options = MachineOptions.of(device=device, amp=amp, threads=threads, workers=workers)
    return load_from(find(model), pick_runtime(options))


def load_from(folder: Path, runtime: "Runtime") -> "Model":
    """The model in a directory, on a device; its weights are verified by their digest.

    Raises:
        LabelrError: If there is none, or it is damaged.
    """
    import safetensors.torch

    from labelr.model.predict import Model

    info = load_info(folder)
    log.debug("loading the model in %s, created %s", folder, info.created)
    network = build_network(info)
    weights = folder / info.weights["file"]
    try:
        content = weights.read_bytes()
        if hashlib.sha256(content).hexdigest() != info.weights["sha256"]:
            raise LabelrError(f"{weights} is damaged: its digest is not the one in model.json", "train the model again")
        network.load_state_dict(safetensors.torch.load(content))
    except OSError as error:
        raise LabelrError(f"cannot read {weights}: {error.strerror}", "train the model again") from error
    except (safetensors.SafetensorError, RuntimeError) as error:
        raise LabelrError(f"{weights} does not hold this model's weights: {error}", "train the model again") from error
    return Model(folder, info, runtime.place(network).eval(), runtime)


def resolve_model(model: "str | Path | Model | None", options: MachineOptions | None = None) -> "Model":
    """The model to apply: loads a name or directory, or the newest one for None, and returns a `Model` unchanged.

    Warns if its training is not finished.
    """
    from labelr.model.device import pick_runtime
    from labelr.model.predict import Model

    loaded = model if isinstance(model, Model) else load_from(find(model), pick_runtime(options))
    if model is None:
        log.info("the newest model: %s", loaded.name)
    if not loaded.info.complete:
        log.warning(
            "the training of %s was stopped: this is its best epoch so far, without calibration and thresholds",
            loaded.name,
        )
    return loaded


def load_info(folder: Path) -> ModelInfo:
    """The parsed ``model.json`` of a directory.

    Raises:
        LabelrError: If there is none, or it is damaged.
    """
    return ModelInfo.read(folder / INFO_FILE)


# --- find, list and remove -------------------------------------------------------------------------------------------


def find(model: str | Path | None = None, *, unfinished: bool = False) -> Path:
    """The directory of a model.

    Args:
        model: A name or a directory; None takes the newest complete model.
        unfinished: Whether to accept an unfinished run that has no model yet.

    Raises:
        LabelrError: If there is none of that name, with the most similar names.
    """
    if model is None:
        complete = [(info.created, path) for path, info in list_models() if info.complete]
        if not complete:
            raise LabelrError(f"no trained model in {models_folder()}", "train one with `labelr fit DATA`")
        return max(complete)[1]
    names = (INFO_FILE, RUN_FILE) if unfinished else (INFO_FILE,)
    directory, folder = files.local_path(model), models_folder() / model
    is_path = isinstance(model, Path) or any(separator in model for separator in ("/", os.sep))
    for candidate in (directory,) if is_path else (folder, directory):
        if any((candidate / name).is_file() for name in names):
            return candidate.absolute()
    known = {path.name for name in names for path in folders_with(name)}
    hint = suggest(str(model), known) or "list the models with `labelr models list`"
    if not unfinished and not is_path and (folder / RUN_FILE).is_file():
        raise LabelrError(
            f"{str(model)!r} has no model yet: its training was stopped",
            "resume it with the same `labelr fit` command and `--resume`",
        )
    if is_path or directory.is_dir():
        raise LabelrError(f"there is no model in {str(model)!r}", hint)
    raise LabelrError(f"no model called {str(model)!r}", hint)


def list_models() -> Iterator[tuple[Path, ModelInfo]]:
    """The directory and info of each model in the models folder, by name; skips damaged ones with a warning."""
    for path in folders_with(INFO_FILE):
        try:
            yield path, load_info(path)
        except LabelrError as error:
            log.warning("%s; the model is skipped", error.message)


def folders_with(file: str) -> list[Path]:
    """The directories in the models folder that hold a file of this name, sorted."""
    folder = models_folder()
    return sorted(path for path in folder.iterdir() if (path / file).is_file()) if folder.is_dir() else []


def check_removable(folder: Path) -> None:
    """Raises LabelrError where a model is outside the models folder, or in use by a run."""
    if folder.parent != models_folder():
        raise LabelrError(f"{folder} is not in {models_folder()}", "delete this directory yourself")
    if files.is_locked(folder):
        raise BusyError(f"a run is writing to {folder}", "stop it first, or wait until it ends")


def remove(folder: Path) -> None:
    """Deletes a model or an unfinished run of the models folder.

    Raises:
        LabelrError: If it is outside that folder, in use by a run, or cannot be deleted.
    """
    check_removable(folder)
    files.remove_folder(folder)
