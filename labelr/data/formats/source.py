"""A label file, or a folder of them, opened once for all readers that look at it."""

import codecs
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple
from xml.etree.ElementTree import Element, ParseError

from labelr.config import ReadOptions
from labelr.data.formats.sheet import Sheet, read_sheet, sheet_of
from labelr.data.images import find_files, find_images
from labelr.errors import LabelrError

JSON_SUFFIXES = (".json", ".jsonl", ".ndjson")
YAML_SUFFIXES = (".yaml", ".yml")
_BOMS = (
    (codecs.BOM_UTF8, "utf-8-sig"), (codecs.BOM_UTF32_LE, "utf-32"), (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"), (codecs.BOM_UTF16_BE, "utf-16"),
)  # fmt: skip


class DecodedText(NamedTuple):
    """The text of a file, and the codec that it was read with."""

    content: str
    codec: str = "utf-8"

    @property
    def encoding(self) -> str:
        """The codec where it is not UTF-8, as it should be; else empty."""
        return "" if self.codec.startswith("utf-8") else self.codec

    def encode(self, content: str) -> bytes:
        """Another text in the same encoding.

        Raises:
            UnicodeEncodeError: If it cannot express that.
        """
        return content.encode(self.codec, "strict" if self.encoding else "surrogateescape")


@dataclass(frozen=True)
class Source:
    """A label file or a folder of label files.

    Attributes:
        path: Where it is.
        images: The folder whose images it is about.
        options: How the user wants it to be read.
    """

    path: Path
    images: Path
    options: ReadOptions

    @property
    def suffix(self) -> str:
        """The ending of its name in lower case; empty for a folder."""
        return "" if self.is_folder else self.path.suffix.lower()

    @cached_property
    def is_folder(self) -> bool:
        """Whether it is a folder."""
        return self.path.is_dir()

    @cached_property
    def text(self) -> DecodedText:
        """Its text.

        Raises:
            LabelrError: If it cannot be read, or is no text.
        """
        return read_text(self.path)

    @cached_property
    def sheet(self) -> Sheet | None:
        """Its cells, of JSON Lines and of a list of objects too; None for a file that is no table by its ending.

        Raises:
            LabelrError: If it is not a table.
        """
        if self.objects:
            return sheet_of(self.path, self.objects)
        if self.is_folder or self.suffix in (*JSON_SUFFIXES, *YAML_SUFFIXES, ".xml"):
            return None
        return read_sheet(self.path, self.text.content)

    @cached_property
    def problem(self) -> LabelrError | None:
        """What keeps it from being read as what it is by its ending; None if nothing does."""
        try:
            if not self.is_folder and self.document is None and self.suffix != ".xml":
                _ = self.sheet
        except LabelrError as error:
            return error
        return None

    @property
    def table(self) -> Sheet:
        """Its cells.

        Raises:
            LabelrError: If it is no table.
        """
        if self.sheet is None:
            raise LabelrError(f"{self.path} is no table", "name a CSV with `--labels`")
        return self.sheet

    @cached_property
    def document(self) -> Any:
        """What a JSON, JSON Lines or YAML file says; None for any other file.

        Raises:
            LabelrError: If it cannot be parsed.
        """
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
        """The objects of a JSON list or of JSON Lines; empty where it is anything else."""
        document = self.document if self.suffix in JSON_SUFFIXES else None
        if isinstance(document, list) and document and all(isinstance(one, dict) for one in document):
            return document
        return []

    def xml_root(self) -> Element | None:
        """The root of an XML file; None for any other file.

        Raises:
            LabelrError: If it cannot be parsed, or asks for entities, which no label file needs.
        """
        return parse_xml(self.path) if self.suffix == ".xml" else None

    @cached_property
    def image_files(self) -> list[str]:
        """The images below `images`, relative to it, with forward slashes."""
        return [path.relative_to(self.images).as_posix() for path in find_images(self.images)]

    def first_lines(self, count: int = 3, width: int = 120) -> str:
        """The beginning of a text file, indented, for a message; empty for a folder or what is no text."""
        if self.is_folder:
            return ""
        try:
            lines = islice((line for line in self.text.content.splitlines() if line.strip()), count)
            return "\n".join(f"    {line[:width]}{'…' if len(line) > width else ''}" for line in lines)
        except LabelrError:
            return ""


def read_text(path: Path) -> DecodedText:
    """The text of a file in whichever encoding it is: by its first bytes, else UTF-8, else Windows-1252 or Latin-1.

    File names that are not valid UTF-8 may stand in a file that else is: they keep their bytes.

    Raises:
        LabelrError: If it cannot be read, or is no text.
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
    return "latin-1" if undefined & {ord(one) - 0xDC00 for one in stray} else "cp1252"


def _parse_line(number: int, line: str) -> Any:
    try:
        return json.loads(line)
    except ValueError as error:
        raise ValueError(f"line {number}: {error}") from error


def _parse_yaml(text: str) -> Any:
    """What YAML says, its scalars as text; aliases, with which a few lines become gigabytes, are refused."""
    import yaml

    try:
        if any(isinstance(event, yaml.AliasEvent) for event in yaml.parse(text, Loader=yaml.BaseLoader)):
            raise ValueError("it has aliases, which labelr does not read")
        return yaml.load(text, Loader=yaml.BaseLoader)  # noqa: S506 - it makes nothing but text, lists and dicts
    except yaml.YAMLError as error:
        raise ValueError(" ".join(str(error).split())) from error


def parse_xml(path: Path) -> Element:
    """The root of an XML file.

    Raises:
        LabelrError: If it cannot be parsed, or asks for entities, which no label file needs.
    """
    import defusedxml
    from defusedxml.ElementTree import parse

    try:
        root: Element | None = parse(path).getroot()
    except (ParseError, defusedxml.DefusedXmlException, ValueError, LookupError) as error:
        raise LabelrError(f"{path} cannot be parsed: {error}", "export it again") from error
    except OSError as error:
        raise LabelrError(f"cannot read {path}: {error.strerror}") from error
    if root is None:
        raise LabelrError(f"{path} is empty", "export it again")
    return root


def files_below(folder: Path, suffix: str) -> Iterator[Path]:
    """The files below a folder that end like this, in the order in which images are found."""
    return (path for path in find_files(folder, lambda name: name.endswith(suffix)) if path.is_file())


def is_there(path: Path) -> bool:
    """Whether something is at `path`; a name that no file system takes is nowhere."""
    try:
        return path.exists()
    except (OSError, ValueError):
        return False


def is_file(path: Path) -> bool:
    """Whether a file is at `path`; a name that no file system takes is nowhere."""
    try:
        return path.is_file()
    except (OSError, ValueError):
        return False
