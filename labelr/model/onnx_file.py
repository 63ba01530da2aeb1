"""ONNX files of `labelr export`: what they say of themselves, read and checked before anything in them is run.

A file is the program followed by one metadata property, ``labelr``. Protocol buffers may be joined like that, so its
digest is that of all other bytes, and neither writing nor reading it needs the package onnx.
"""

import dataclasses
import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal, NamedTuple, Self

from msgspec import Meta

from labelr import files, serialization
from labelr.model.info import ModelInfo

KEY = "labelr"
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
        return serialization.json_line({"format": FORMAT, **dataclasses.asdict(self)})

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


def with_metadata(program: bytes, info: ModelInfo, precision: Precision) -> bytes:
    """A program that has no metadata property, with it: the content of a file."""
    own = dataclasses.replace(info, data=(), config={})  # paths of this machine are nobody's business elsewhere
    value = OnnxInfo(precision=precision, sha256=hashlib.sha256(program).hexdigest(), model=own).to_json()
    return program + _field(METADATA, _field(1, KEY.encode()) + _field(2, value.encode()))


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
        if entry.get(1) == KEY.encode():
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
