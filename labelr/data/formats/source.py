"""A label file or a folder of label files, opened once for all readers."""

import codecs
import json
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

from labelr.config import ReadOptions
from labelr.data.formats.table import Columns, Table, read_table, table_of_objects
from labelr.data.walk import FileIndex
from labelr.errors import LabelrError

JSON_SUFFIXES = (".json", ".jsonl", ".ndjson")
YAML_SUFFIXES = (".yaml", ".yml")
_BOMS = (
    (codecs.BOM_UTF8, "utf-8-sig"), (codecs.BOM_UTF32_LE, "utf-32"), (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"), (codecs.BOM_UTF16_BE, "utf-16"),
)  # fmt: skip


class DecodedText(NamedTuple):
    """The text of a file, and the codec that decoded it."""

    content: str
    codec: str = "utf-8"

    @property
    def encoding(self) -> str:
        """The codec if it is not UTF-8; else empty."""
        return "" if self.codec.startswith("utf-8") else self.codec

    def encode(self, content: str) -> bytes:
        """Another text in the same encoding.

        Raises:
            UnicodeEncodeError: If the encoding cannot represent it.
        """
        return content.encode(self.codec, "strict" if self.encoding else "surrogateescape")


@dataclass(eq=False)
class Source:
    """A label file or a folder of label files, parsed on demand and once.

    What cannot be read or parsed raises a LabelrError where it is first used.

    Attributes:
        path: The file or folder.
        images: The folder of the images.
        options: How to read it.
        index: The files below folders.
        match: The result of `recognise`, once it has one.
    """

    path: Path
    images: Path
    options: ReadOptions
    index: FileIndex = field(default_factory=FileIndex, repr=False)
    match: tuple[int, tuple[str, ...]] | None = field(default=None, init=False)

    @property
    def suffix(self) -> str:
        """Its suffix in lower case; empty for a folder."""
        return "" if self.is_folder else self.path.suffix.lower()

    @cached_property
    def is_folder(self) -> bool:
        """Whether it is a folder."""
        return os.path.isdir(self.path)

    @cached_property
    def text(self) -> DecodedText:
        """Its text."""
        return read_text(self.path)

    @cached_property
    def table(self) -> Table | None:
        """Its cells, also those of JSON Lines or of a list of objects; None for a folder and for other suffixes."""
        if self.objects:
            return table_of_objects(self.path, self.objects)
        if self.is_folder or self.suffix in (*JSON_SUFFIXES, *YAML_SUFFIXES, ".xml"):
            return None
        return read_table(self.path, self.text.content)

    def require_table(self) -> Table:
        """Its cells; a LabelrError if it is not a table."""
        if self.table is None:
            raise LabelrError(f"{self.path} is not a table", "name a CSV file with `--labels`")
        return self.table

    @cached_property
    def columns(self) -> Columns:
        """The columns of its table; see `Columns.find`."""
        return Columns.find(self.require_table(), self.options)

    @cached_property
    def problem(self) -> LabelrError | None:
        """Why it cannot be parsed as the format of its suffix; None if it can."""
        try:
            if not self.is_folder and self.document is None and self.suffix != ".xml":
                _ = self.table
        except LabelrError as error:
            return error
        return None

    @cached_property
    def document(self) -> Any:
        """The content of a JSON, JSON Lines or YAML file; None for any other file."""
        try:
            if self.suffix == ".json":
                return json.loads(self.text.content)
            if self.suffix in (".jsonl", ".ndjson"):
                return [_parse_line(*line) for line in enumerate(self.text.content.split("\n"), 1) if line[1].strip()]
            if self.suffix in YAML_SUFFIXES:
                return _parse_yaml(self.text.content)
        except (ValueError, RecursionError) as error:
            raise LabelrError(f"{self.path} cannot be parsed: {error}", "export or save it again") from error
        return None

    @cached_property
    def objects(self) -> list[dict[str, Any]]:
        """The objects of a JSON list or of JSON Lines; empty for anything else."""
        document = self.document if self.suffix in JSON_SUFFIXES else None
        if isinstance(document, list) and document and all(isinstance(value, dict) for value in document):
            return document
        return []

    def files(self, suffix: str) -> Iterator[Path]:
        """The files below it, or below its folder, with this suffix."""
        return self.index.find_suffix(self.path if self.is_folder else self.path.parent, suffix)

    def beside(self, path: Path) -> "Source":
        """Another label file for the same images."""
        return Source(path, self.images, self.options, self.index)

    @cached_property
    def image_files(self) -> list[str]:
        """The image files below `images`, relative to it, with forward slashes."""
        return [path.relative_to(self.images).as_posix() for path in self.index.find_images(self.images)]


def read_text(path: Path) -> DecodedText:
    """The text of a file in any common encoding: by its byte order mark, else UTF-8, else Windows-1252 or Latin-1.

    A few bytes that are not valid UTF-8 in a UTF-8 file, such as those of file names, become surrogate escapes.

    Raises:
        LabelrError: If it cannot be read, or is not text.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise LabelrError(f"cannot read {path}: {error.strerror}") from error
    if data.startswith(b"PK\x03\x04"):
        raise LabelrError(f"{path} is a spreadsheet or an archive, not text", "save the sheet as CSV")
    codec = next((name for mark, name in _BOMS if data.startswith(mark)), None) or _guess_encoding(data)
    try:
        content = data.decode(codec, "surrogateescape" if codec.startswith("utf-8") else "strict")
    except UnicodeDecodeError as error:
        raise LabelrError(f"{path} is not text: {error.reason}", "save the file as text in UTF-8") from error
    if "\0" in content:
        raise LabelrError(f"{path} is not text: it holds null characters", "save the file as text in UTF-8")
    return DecodedText(content, codec)


def _guess_encoding(data: bytes) -> str:
    head = data[:1000]
    zeros = head.count(0)
    if zeros > len(head) / 4:  # every second byte of Western text in UTF-16
        return "utf-16-le" if head[1::2].count(0) > zeros / 2 else "utf-16-be"
    escaped = data.decode("utf-8", "surrogateescape")
    stray = re.findall("[\udc80-\udcff]", escaped)
    if not stray or re.search("[\x80-\ud7ff\ue000-\U0010ffff]", escaped):
        return "utf-8"
    undefined = {0x81, 0x8D, 0x8F, 0x90, 0x9D}  # in Windows-1252
    return "latin-1" if undefined & {ord(character) - 0xDC00 for character in stray} else "cp1252"


def _parse_line(number: int, line: str) -> Any:
    try:
        return json.loads(line)
    except ValueError as error:
        raise ValueError(f"line {number}: {error}") from error


def _parse_yaml(text: str) -> Any:
    """The content of a YAML text with scalars as text; aliases are refused, since they can expand to gigabytes."""
    import yaml

    try:
        if any(isinstance(event, yaml.AliasEvent) for event in yaml.parse(text, Loader=yaml.BaseLoader)):
            raise ValueError("it has aliases, which labelr does not read")
        return yaml.load(text, Loader=yaml.BaseLoader)  # noqa: S506 - it makes nothing but text, lists and dicts
    except yaml.YAMLError as error:
        raise ValueError(" ".join(str(error).split())) from error
