"""Elements of XML, of files that declare no entities, which could expand to gigabytes."""

import io
from collections.abc import Iterator
from pathlib import Path
from typing import IO, BinaryIO
from xml.etree import ElementTree as ET
from xml.parsers import expat

from labelr.data.limits import CELLS_OF_XML, Limits
from labelr.errors import LabelrError


def parse_xml(path: Path, content: bytes, limits: Limits) -> ET.Element:
    """The root of an XML file. The parser of the package `defusedxml` is ten times as slow.

    Raises:
        LabelrError: If it cannot be parsed, is too large, or has a document type, in which entities are declared.
    """
    limits.check_cells(path, content.count(b"<") + content.count(b"="), "tags and attributes", weight=CELLS_OF_XML)
    try:
        check_xml(io.BytesIO(content))
        return ET.fromstring(content)  # noqa: S314 - checked in the line above
    except (ET.ParseError, expat.ExpatError, ValueError, LookupError) as error:
        raise LabelrError(f"{path} cannot be parsed: {error}", "export it again") from error


def check_xml(file: BinaryIO) -> None:
    """Raises ValueError if an XML has a document type, and an error of the parser if it cannot be parsed."""
    parser = expat.ParserCreate()
    parser.StartDoctypeDeclHandler = _refuse
    parser.ParseFile(file)


def _refuse(*_: object) -> None:
    raise ValueError("it has a document type (DOCTYPE), which labelr does not read")


def iterate_xml(file: IO[bytes]) -> Iterator[tuple[str, ET.Element]]:
    """The elements of an XML file that `check_xml` accepts, each when it starts and when it ends."""
    return ET.iterparse(file, events=("start", "end"))  # noqa: S314 - see above
