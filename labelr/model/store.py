"""Saves models to disk and loads them again. Nothing in a saved model can execute code."""

import hashlib
import logging
from dataclasses import replace
from pathlib import Path

import safetensors
import safetensors.torch
from torch import nn

from labelr import files
from labelr.errors import LabelrError
from labelr.model.device import Machine, pick_machine
from labelr.model.info import ModelInfo
from labelr.model.network import ResidualNetwork
from labelr.model.predict import Model
from labelr.model.shelf import find, read_info, save_info

log = logging.getLogger(__name__)


def save(folder: Path, network: nn.Module, info: ModelInfo) -> ModelInfo:
    """Saves a model: the weights under a new name, then ``model.json`` in one piece, then the old weights go.

    Returns:
        What was saved: `info` with the weights file named.

    Raises:
        LabelrError: If it cannot be written; the model that was there before is whole.
    """
    tensors = {name: tensor.detach().contiguous().cpu() for name, tensor in network.state_dict().items()}
    content = safetensors.torch.save(tensors)
    sha256 = hashlib.sha256(content).hexdigest()
    weights = folder / f"weights-{sha256[:12]}.safetensors"
    if not weights.exists():
        files.write_atomically(weights, content)
    saved = replace(info, weights={"file": weights.name, "sha256": sha256})
    save_info(folder, saved)
    for old in folder.glob("weights-*.safetensors"):
        if old != weights:
            old.unlink(missing_ok=True)
    return saved


def build_network(info: ModelInfo) -> ResidualNetwork:
    """The network that a model is made of, with fresh weights."""
    architecture = info.architecture
    return ResidualNetwork(
        len(info.labels), stem=architecture.stem, width=architecture.width, dropout=architecture.dropout
    )


def chosen(model: str | Path | Model | None, *, machine: Machine | None = None) -> Model:
    """A model that is to be applied: as it is where it is loaded already, else as `load` gives it.

    Of one whose training was stopped it is said that it is not what it could be.
    """
    loaded = model if isinstance(model, Model) else load(model, machine=machine)
    if model is None:
        log.info("the newest model: %s", loaded.name)
    if not loaded.info.complete:
        log.warning(
            "the training of %s was stopped: this is the best model so far, neither calibrated nor with thresholds",
            loaded.name,
        )
    return loaded


def load(model: str | Path | None = None, *, machine: Machine | None = None) -> Model:
    """A saved model, its weights compared with their digest, ready to be applied.

    Args:
        model: A name, or a directory; None takes the newest complete model.
        machine: What to run on; None picks it.

    Raises:
        LabelrError: If there is no such model, or it is damaged.
    """
    folder = find(model)
    info = read_info(folder)
    log.debug("the model in %s, of %s", folder, info.created)
    machine = machine or pick_machine()
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
    return Model(folder, info, machine.place(network).eval(), machine)
