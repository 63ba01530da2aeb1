"""Which engine computes a model: torch, or ONNX Runtime, which tags without torch, from a file of `labelr export`.

Such a file is checked before anything in it is run. It is the program followed by one metadata property, ``labelr``,
which says what it is. Protocol buffers may be joined like that, so its digest is that of all other bytes, and neither
writing nor reading it needs the package onnx.
"""

import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, replace
from importlib.util import find_spec
from pathlib import Path
from shlex import quote
from typing import Annotated, Any, Literal, NamedTuple, Self

import numpy as np
from msgspec import Meta
from numpy.typing import NDArray

from labelr import files, serialization
from labelr.buckets.results import fetched
from labelr.config import MachineOptions, TagOptions
from labelr.errors import LabelrError, first_line
from labelr.fields import SettingError
from labelr.model import store
from labelr.model.info import ModelInfo
from labelr.model.predictor import MICRO_BATCH_SIZES, Predictor, Probs, available_cpus, micro_batch_size

INPUT, OUTPUT = "images", "probabilities"
"""The names of what a program takes and gives."""
ONNX_FILE = "model.onnx"
"""In the directory of a saved model: what `--engine onnx` runs."""
ONLY_FATAL = 4
"""The severity of what ONNX Runtime prints itself; its errors are raised."""
FORMAT = 1
MAX_BYTES = 2**31 - 1
"""The most that a protocol buffer holds."""
MAX_FIELDS = 1_000_000
"""A network has some thousands; a small file may hold many, each of which takes time."""
HINT = "export the model again with `labelr export`"
OTHER_FILE = "it was not written by `labelr export`"

Precision = Literal["fp32", "int8"]

METADATA, TENSOR, EXTERNAL_DATA, DATA_LOCATION = 14, "tensor", 13, 14
"""Numbers of fields, as ``onnx.proto`` of the package onnx has them."""
NESTED = {
    "model": {7: "graph", 20: "training", 25: "function"},
    "training": {1: "graph", 2: "graph"},
    "graph": {1: "node", 5: TENSOR, 15: "sparse"},
    "function": {7: "node", 11: "attribute"},
    "node": {5: "attribute"},
    "attribute": {5: TENSOR, 6: "graph", 10: TENSOR, 11: "graph", 22: "sparse", 23: "sparse"},
    "sparse": {1: TENSOR, 2: TENSOR},
    TENSOR: {},
}
"""The messages in which tensors are: for each, the fields that hold another one."""


@dataclass(frozen=True, kw_only=True)
class OnnxInfo:
    """What an ONNX file says of itself.

    Attributes:
        precision: The type of number that its convolutions compute in.
        sha256: Of the file without this.
        model: The model that was exported, without its data folders and settings.
    """

    precision: Precision
    sha256: Annotated[str, Meta(pattern=r"^[0-9a-f]{64}\Z")]
    model: ModelInfo

    def to_json(self) -> str:
        """The value of the metadata property."""
        return serialization.json_line({"format": FORMAT, **asdict(self)})

    @classmethod
    def read(cls, path: Path) -> tuple[Self, bytes]:
        """What a file says of itself, and its content.

        Raises:
            LabelrError: If it cannot be read, is damaged, refers to other files, or is not of `labelr export`.
        """
        with files.reading(path, HINT):
            content = files.read_bytes(path, MAX_BYTES)
            return cls.parse(content, path), content

    @classmethod
    def parse(cls, content: bytes, path: Path) -> Self:
        """What the content of a file says of itself; raises ValueError or LabelrError."""
        _check_weights(memoryview(content))
        text, sha256 = _metadata(memoryview(content))
        info = serialization.parse_record(text, cls, path, newest=FORMAT)
        info.model.validate()
        if info.sha256 != sha256:
            raise ValueError("its digest is not the one in its metadata")
        return info


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
        return cls.of(*OnnxInfo.read(path), path, options)

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


# --- files -----------------------------------------------------------------------------------------------------------


def with_metadata(program: bytes, info: ModelInfo, precision: Precision) -> bytes:
    """A program that has no metadata property, with it: the content of a file."""
    own = replace(info, data=(), config={})  # paths of this machine are nobody's business elsewhere
    value = OnnxInfo(precision=precision, sha256=hashlib.sha256(program).hexdigest(), model=own).to_json()
    return program + _field(METADATA, _field(1, b"labelr") + _field(2, value.encode()))


class _Field(NamedTuple):
    """A field of a message: its number, its value, and where it starts and ends. Values of fixed size are not read."""

    number: int
    value: int | memoryview
    start: int
    end: int

    @property
    def message(self) -> memoryview:
        if isinstance(self.value, int):
            raise ValueError("its structure is damaged")
        return self.value


def _metadata(content: memoryview) -> tuple[bytes, str]:
    """The text of labelr's own property, and the digest of all that is no metadata."""
    texts, digest = [], hashlib.sha256()
    for field in _fields(content):
        if field.number != METADATA:
            digest.update(content[field.start : field.end])
            continue
        entry = {inner.number: bytes(inner.message) for inner in _fields(field.message)}
        if entry.get(1) == b"labelr":
            texts.append(entry.get(2, b""))
    if len(texts) != 1:
        raise ValueError(OTHER_FILE)
    return texts[0], digest.hexdigest()


def _check_weights(content: memoryview) -> None:
    """Raises ValueError for weights in other files, any of which a program could name and read."""
    waiting, count = [("model", content)], 0
    while waiting:
        kind, message = waiting.pop()
        for count, field in enumerate(_fields(message), count):  # noqa: B020 - counts on
            if count > MAX_FIELDS:
                raise ValueError(f"it has more than {MAX_FIELDS:,} fields")
            if kind == TENSOR and (field.number == EXTERNAL_DATA or (field.number == DATA_LOCATION and field.value)):
                raise ValueError("its weights are in other files, which labelr does not read")
            if field.number in NESTED[kind]:
                waiting.append((NESTED[kind][field.number], field.message))


def _fields(message: memoryview) -> Iterator[_Field]:
    """The fields of a message of protocol buffers, see https://protobuf.dev/programming-guides/encoding."""
    position = 0
    while position < len(message):
        start = position
        tag, position = _varint(message, position)
        value: int | memoryview = 0
        match tag & 7:
            case 0:
                value, position = _varint(message, position)
            case 2:
                size, position = _varint(message, position)
                value = message[position : position + size]
                position += size
            case 1 | 5 as kind:
                position += 8 if kind == 1 else 4
            case _:
                raise ValueError(OTHER_FILE)
        if position > len(message):
            raise ValueError("it ends too early")
        yield _Field(tag >> 3, value, start, position)


def _varint(message: memoryview, position: int) -> tuple[int, int]:
    """An integer of variable size, and the position after it."""
    value = 0
    for shift, byte in enumerate(message[position : position + 10]):
        value |= (byte & 127) << 7 * shift
        if byte < 128:
            return value, position + shift + 1
    raise ValueError("it ends too early")


def _field(number: int, value: bytes) -> bytes:
    """A field that holds bytes."""
    return _encode(number << 3 | 2) + _encode(len(value)) + value


def _encode(value: int) -> bytes:
    parts = []
    while value > 127:
        parts.append(value & 127 | 128)
        value >>= 7
    return bytes([*parts, value])
