"""Which engine computes a model: torch, or ONNX Runtime, which tags without torch."""

import logging
from collections.abc import Iterable
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from shlex import quote
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from labelr import files
from labelr.buckets.results import fetched
from labelr.config import MachineOptions, TagOptions
from labelr.errors import LabelrError, first_line
from labelr.fields import SettingError
from labelr.model import store
from labelr.model.onnx_file import HINT, OTHER_FILE, OnnxInfo, Precision
from labelr.model.predictor import MICRO_BATCH_SIZES, Predictor, Probs, available_cpus, micro_batch_size

INPUT, OUTPUT = "images", "probabilities"
"""The names of what a program takes and gives."""
ONNX_FILE = "model.onnx"
"""In the directory of a saved model: what `--engine onnx` runs."""
ONLY_FATAL = 4
"""The severity of what ONNX Runtime prints itself; its errors are raised."""

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class OnnxMachine:
    """How ONNX Runtime computes; see `Machine`."""

    precision: str
    threads: int
    workers: int
    kind: str = "cpu"
    batch_size: int = MICRO_BATCH_SIZES["cpu"]

    @classmethod
    def of(cls, precision: Precision, options: MachineOptions) -> Self:
        """The one for some options, with each "auto" resolved.

        Raises:
            SettingError: If they ask for what the engine cannot do.
        """
        if options.device not in ("auto", "cpu") or options.amp:
            raise SettingError(
                "the engine onnx computes on the CPU, in the precision of its file",
                "leave out `--device` and `--amp`, or tag with a saved model",
            )
        threads = options.threads or available_cpus()
        return cls(f"onnx {precision}", threads, options.workers or threads)


@dataclass(frozen=True)
class OnnxModel(Predictor):
    """A model in an ONNX file. Threads may predict side by side, each on one processor."""

    session: Any
    precision: Precision

    @classmethod
    def load(cls, path: Path, options: MachineOptions) -> Self:
        """The model in a file of `labelr export`.

        Raises:
            LabelrError: If onnxruntime is not installed, or the file cannot be used.
        """
        info, content = OnnxInfo.read(path)
        return cls.of(info, content, path, options)

    @classmethod
    def of(cls, info: OnnxInfo, content: bytes, path: Path, options: MachineOptions) -> Self:
        """The model in the content of a file, which is checked."""
        model = cls(path, info.model, OnnxMachine.of(info.precision, options), _start(content, path), info.precision)
        size, num_labels = info.model.preprocessing.image_size, len(info.model.labels)
        found = [
            [(value.name, value.type, value.shape[1:]) for value in values]
            for values in (model.session.get_inputs(), model.session.get_outputs())
        ]
        wanted = [[(INPUT, "tensor(uint8)", [3, size, size])], [(OUTPUT, "tensor(float)", [num_labels])]]
        if found != wanted:
            raise LabelrError(f"{path} cannot be used: {OTHER_FILE}", HINT)
        return model

    @property
    def name(self) -> str:
        """The name of its file without ending, or of the saved model that it is in."""
        return self.path.parent.name if self.path.name == ONNX_FILE else self.path.stem

    def run(self, pixels: NDArray[np.uint8]) -> Probs:
        """The probabilities ``(N, L)`` of pixels ``(N, S, S, 3)``, all at once."""
        try:
            (probs,) = self.session.run([OUTPUT], {INPUT: np.ascontiguousarray(pixels.transpose(0, 3, 1, 2))})
        except Exception as error:  # its errors have no other class in common
            raise LabelrError(
                f"{self.path} cannot be computed: {first_line(error)}", "free some memory, or use fewer `--threads`"
            ) from error
        if probs.shape != (len(pixels), len(self.labels)):
            raise LabelrError(f"{self.path} cannot be used: {OTHER_FILE}", HINT)
        return np.asarray(probs, np.float32)

    def predict_pixels(self, batches: Iterable[NDArray[np.uint8]]) -> Probs:
        """The probabilities ``(N, L)`` of batches of pixels ``(B, S, S, 3)``, N images in all."""
        size = micro_batch_size(self.runtime, self.info.preprocessing.image_size)
        parts = (batch[start : start + size] for batch in batches for start in range(0, len(batch), size))
        return np.concatenate([np.empty((0, len(self.labels)), np.float32), *map(self.run, parts)])


def _start(content: bytes, path: Path) -> Any:
    """A session of ONNX Runtime for the content of a file."""
    if find_spec("onnxruntime") is None:
        raise LabelrError("ONNX files need the package onnxruntime", "install it with `pip install 'labelr[onnx]'`")
    import onnxruntime

    onnxruntime.disable_telemetry_events()
    settings = onnxruntime.SessionOptions()
    settings.intra_op_num_threads = settings.inter_op_num_threads = 1
    settings.log_severity_level = ONLY_FATAL
    settings.add_session_config_entry("session.load_model_format", "ONNX")  # what was checked is no other format
    try:
        return onnxruntime.InferenceSession(content, settings, providers=["CPUExecutionProvider"])
    except Exception as error:  # its errors have no other class in common
        raise LabelrError(f"{path} cannot be loaded: {first_line(error)[: files.MAX_REASON]}", HINT) from error


def resolve_predictor(model: str | Path | Predictor | None, options: TagOptions) -> Predictor:
    """The model to tag with, on the engine that the options name.

    Args:
        model: A name or a directory, an ONNX file, a loaded model, or None for the default model.
        options: How to tag.

    Raises:
        LabelrError: If there is no such model, it is damaged, or the engine does not run it.
    """
    if isinstance(model, Predictor):
        return model
    if model is not None and is_onnx_file(model):
        if options.engine == "torch":
            raise SettingError(
                "an ONNX file is not for the engine torch", "leave out `--engine`, or name a saved model"
            )
        return OnnxModel.load(files.local_path(model), options)
    if options.engine == "onnx":
        return _load_beside(store.find(None if model is None else fetched(model)), options)
    if find_spec("torch") is None:
        raise LabelrError(
            "torch, which computes saved models, is not installed",
            "name an ONNX file of `labelr export` with `--model FILE.onnx`, or install torch and torchvision",
        )
    return store.resolve_model(model, options)


def is_onnx_file(model: str | Path) -> bool:
    """Whether what a user names is an ONNX file, no saved model of such a name."""
    folders = (Path(model), store.models_folder() / model)
    return Path(model).suffix.lower() == ".onnx" and not any(folder.is_dir() for folder in folders)


def _load_beside(folder: Path, options: TagOptions) -> OnnxModel:
    """The ONNX file in the directory of a saved model, which must be of its present weights."""
    path, info = folder / ONNX_FILE, store.check(folder)
    hint = f"export it with `labelr export {quote(folder.name)} --force --output {quote(str(path))}`"
    if not path.is_file():
        raise LabelrError(f"{folder.name} has no {ONNX_FILE}, which the engine onnx runs", hint)
    model = OnnxModel.load(path, options)
    if model.info.digest != info.digest:
        raise LabelrError(f"{path} is of an earlier training of {folder.name}", hint)
    return model
