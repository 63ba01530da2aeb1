"""Reads and checks files of weights, which may come from anywhere."""

import io
import math
import os
import pickle
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
import torch
from torch import Tensor

from labelr import files, serialization
from labelr.errors import LabelrError, first_line
from labelr.model.info import Count

TYPES = frozenset({
    torch.float32, torch.float64, torch.float16, torch.bfloat16,
    torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8, torch.bool,
})  # fmt: skip
"""What the tensors of a network may hold."""
MAX_HEADER_BYTES = 16 * 2**20
"""The longest header of a safetensors file: one of the largest backbones has 0.1 MB."""
State = Mapping[str, Tensor]
"""Tensors by name."""
FILE_HINT = "give a safetensors file, or a state dict saved with `torch.save(model.state_dict(), FILE)`"


def read_weights(path: Path) -> State:
    """The tensors in a file by name: safetensors, or a state dict that was saved by torch; nothing is executed.

    Raises:
        LabelrError: If it cannot be read, or holds something else.
    """
    try:
        if path.suffix != ".safetensors":
            return _state_in(path, load_pickled(path))
        with files.open_regular(path) as file:
            read_shapes(file)
            return _state_in(path, parse_tensors(file.read()))
    except OSError as error:
        raise LabelrError(f"cannot read the weights {path}: {error.strerror or error}") from error
    except pickle.UnpicklingError as error:
        raise LabelrError(f"{path} is damaged, or holds code beside weights, which is not run", FILE_HINT) from error
    except (ValueError, MemoryError) as error:
        raise LabelrError(f"{path} is damaged, or no file of weights: {first_line(error)}", FILE_HINT) from error


def load_pickled(path: Path) -> Any:
    """The content of a file that torch has saved; nothing in it is executed.

    Raises:
        OSError: If it cannot be read, or is no regular file.
        pickle.UnpicklingError: If it holds more than tensors and plain values.
        ValueError: If it is damaged in another way.
    """
    with files.open_regular(path) as file:
        try:
            if zipfile.is_zipfile(file):  # else an old file, which has no compression and no sizes
                with zipfile.ZipFile(file) as archive:
                    if sum(part.file_size for part in archive.infolist()) > os.fstat(file.fileno()).st_size:
                        raise ValueError("its parts are larger than the file")
            file.seek(0)
            return torch.load(file, map_location="cpu", weights_only=True)
        except (OSError, pickle.UnpicklingError):
            raise
        except EOFError as error:
            raise ValueError("it ends too early") from error
        except Exception as error:  # whatever the parsers of a pickle, an archive and a tensor raise
            raise ValueError(first_line(error)) from error


@dataclass
class _Entry:
    """What the header of a safetensors file says of a tensor."""

    dtype: str
    shape: list[Count]
    data_offsets: tuple[Count, Count]


def read_shapes(file: io.BufferedReader) -> dict[str, list[int]]:
    """The shape of each tensor in a safetensors file, which is at its start again afterwards.

    Raises:
        ValueError: If its header is damaged, or does not fit its size.
    """
    size = os.fstat(file.fileno()).st_size
    length = int.from_bytes(file.read(8), "little")
    if length > min(size - 8, MAX_HEADER_BYTES):
        raise ValueError("it is no safetensors file, or has been cut off")
    header = serialization.convert(serialization.parse_json(file.read(length)), dict[str, Any])
    header.pop("__metadata__", None)
    entries = serialization.convert(header, dict[str, _Entry])
    end = 8 + length + max((entry.data_offsets[1] for entry in entries.values()), default=0)
    if end != size:
        raise ValueError(f"it has {size:,} bytes, and its header says {end:,}")
    file.seek(0)
    return {name: list(entry.shape) for name, entry in entries.items()}


def parse_tensors(content: bytes) -> State:
    """The tensors in the content of a safetensors file.

    Raises:
        ValueError: If it is damaged.
    """
    try:
        return safetensors.torch.load(content)
    except (safetensors.SafetensorError, LookupError, TypeError, RuntimeError) as error:
        raise ValueError(first_line(error)) from error


def check_like(found: object, wanted: State, name: str) -> None:
    """Raises ValueError unless a part of a checkpoint has finite tensors of the names, shapes and types wanted."""
    if not isinstance(found, Mapping) or found.keys() != wanted.keys():
        raise ValueError(f"{name}: it does not hold the tensors of this network")
    for key, tensor in wanted.items():
        value = found[key]
        if not _is_plain(value) or value.shape != tensor.shape or value.dtype != tensor.dtype:
            raise ValueError(f"{name}: {key} is no tensor of shape {tuple(tensor.shape)} and type {tensor.dtype}")
    check_finite(found)


def check_finite(tensors: State) -> None:
    """Raises ValueError where values of a network are not finite, or a variance or divisor is not positive."""
    for name, tensor in tensors.items():
        if tensor.dtype not in TYPES:
            kind = str(tensor.dtype).removeprefix("torch.")
            raise ValueError(f"{name} has values of type {kind}, which labelr does not use")
        if tensor.numel() and tensor.is_floating_point():
            low, high = (float(end) for end in torch.aminmax(tensor))
            if not (math.isfinite(low) and math.isfinite(high)):
                raise ValueError(f"{name} has values that are not finite")
            if (name.endswith("running_var") and low < 0) or (name.endswith("head.std") and low <= 0):
                raise ValueError(f"{name} has values that are not positive")


def _state_in(path: Path, content: Any) -> State:
    """The tensors by name in the content of a file: within a checkpoint, and without the prefixes of wrappers."""
    for name in ("state_dict", "model_state_dict", "model"):
        if isinstance(content, Mapping) and isinstance(content.get(name), Mapping):
            content = content[name]
    if not isinstance(content, Mapping) or not all(map(_is_plain, content.values())):
        raise LabelrError(f"{path} is no file of weights: it does not hold tensors by name", FILE_HINT)
    state = {str(name): value for name, value in content.items()}
    for prefix in ("module.", "_orig_mod.", "model.", "backbone."):
        if state and all(name.startswith(prefix) for name in state):
            state = {name.removeprefix(prefix): value for name, value in state.items()}
    check_finite(state)
    return state


def _is_plain(value: object) -> bool:
    """Whether a value is a tensor that is stored in full."""
    if not isinstance(value, Tensor) or value.layout != torch.strided or value.device.type != "cpu":
        return False
    return not (value.is_quantized or value.is_nested) and value.nbytes <= value.untyped_storage().nbytes()
