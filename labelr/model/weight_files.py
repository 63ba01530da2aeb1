"""Reads files of weights that other programs have written."""

import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
import torch
from torch import Tensor

from labelr.errors import LabelrError, first_line

State = Mapping[str, Tensor]
"""Tensors by name."""
FILE_HINT = "give a safetensors file, or a state dict saved with `torch.save(model.state_dict(), FILE)`"


def read_weights(path: Path) -> State:
    """The tensors in a file by name: safetensors, or a state dict that was saved by torch; nothing is executed.

    Raises:
        LabelrError: If it cannot be read, or holds something else.
    """
    try:
        if path.suffix == ".safetensors":
            content: Any = safetensors.torch.load_file(path)
        else:
            content = torch.load(path, map_location="cpu", weights_only=True)
    except OSError as error:
        raise LabelrError(f"cannot read the weights {path}: {error.strerror or error}") from error
    except pickle.UnpicklingError as error:
        raise LabelrError(f"{path} is damaged, or holds code beside weights, which is not run", FILE_HINT) from error
    except (safetensors.SafetensorError, RuntimeError, ValueError, EOFError, KeyError) as error:
        reason = "it ends too early" if isinstance(error, EOFError) else first_line(error)
        raise LabelrError(f"{path} is damaged, or no file of weights: {reason}", FILE_HINT) from error
    return _state_in(path, content)


def _state_in(path: Path, content: Any) -> State:
    """The tensors by name in the content of a file: within a checkpoint, and without the prefixes of wrappers."""
    for name in ("state_dict", "model_state_dict", "model"):
        if isinstance(content, Mapping) and isinstance(content.get(name), Mapping):
            content = content[name]
    if not isinstance(content, Mapping) or not all(isinstance(value, Tensor) for value in content.values()):
        raise LabelrError(f"{path} is no file of weights: it does not hold tensors by name", FILE_HINT)
    state = {str(name): value for name, value in content.items()}
    for prefix in ("module.", "_orig_mod.", "model.", "backbone."):
        if state and all(name.startswith(prefix) for name in state):
            state = {name.removeprefix(prefix): value for name, value in state.items()}
    return state
