"""Parsers of XML and YAML that refuse what could expand to gigabytes."""

import io
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any, BinaryIO
from xml.etree import ElementTree as ET
from xml.parsers import expat

from labelr.data.limits import CELLS_OF_XML, CELLS_OF_YAML, MAX_NESTING, Limits, read_bytes
from labelr.errors import LabelrError


def parse_xml(path: Path, limits: Limits) -> ET.Element:
    """The root of an XML file. The parser of the package `defusedxml` is ten times as slow.

    Raises:
        LabelrError: If it cannot be read or parsed, is too large, or has a document type, in which entities are
            declared.
    """
    content = read_bytes(path, limits)
    limits.check_cells(path, content.count(b"<") + content.count(b"="), "tags and attributes", weight=CELLS_OF_XML)
    try:
        check_xml(io.BytesIO(content))
        return ET.fromstring(content)  # noqa: S314 - checked in the line above
    except (ET.ParseError, expat.ExpatError, ValueError, LookupError) as error:
        raise LabelrError(f"{path} cannot be parsed: {error}", "export it again") from error


def check_xml(file: BinaryIO) -> None:
    """Raises ValueError if an XML has a document type, and an error of the parser if it cannot be parsed."""

    def refuse(*_: object) -> None:
        raise ValueError("it has a document type (DOCTYPE), which labelr does not read")

    parser = expat.ParserCreate()
    parser.StartDoctypeDeclHandler = refuse
    parser.ParseFile(file)


def iterate_xml(file: IO[bytes]) -> Iterator[tuple[str, ET.Element]]:
    """The elements of an XML file that `check_xml` accepts, each when it starts and when it ends."""
    return ET.iterparse(file, events=("start", "end"))  # noqa: S314 - see above


def local_name(tag: str) -> str:
    """The name of an element or attribute without its namespace."""
    return tag.rpartition("}")[2]


def parse_yaml(path: Path, text: str, limits: Limits) -> Any:
    """The content of the only document of a YAML text, with scalars as text; None for an empty one.

    Raises:
        ValueError: If it cannot be parsed, has aliases, which can expand to gigabytes, or is nested too deeply.
        LabelrError: If it has too many values.
    """
    import yaml

    separators = sum(map(text.count, "\n,[]{}"))
    limits.check_cells(path, separators, "line breaks, commas and brackets", weight=CELLS_OF_YAML)
    loader = getattr(yaml, "CBaseLoader", yaml.BaseLoader)
    try:
        return _value_of(yaml.parse(text, Loader=loader))
    except yaml.YAMLError as error:
        raise ValueError(" ".join(str(error).split())) from error


def _value_of(events: Iterator[Any]) -> Any:
    """The value that a stream of events describes."""
    import yaml

    open_lists: list[list[Any]] = [[]]
    for event in events:
        if isinstance(event, yaml.AliasEvent):
            raise ValueError("it has aliases, which labelr does not read")
        if isinstance(event, yaml.ScalarEvent):
            open_lists[-1].append(event.value)
        elif isinstance(event, yaml.CollectionStartEvent):
            open_lists.append([])
            if len(open_lists) > MAX_NESTING:
                raise ValueError(f"it is nested more than {MAX_NESTING} levels deep")
        elif isinstance(event, yaml.CollectionEndEvent):
            items = open_lists.pop()
            is_list = isinstance(event, yaml.SequenceEndEvent)
            open_lists[-1].append(items if is_list else _mapping_of(items))
    if len(open_lists[0]) > 1:
        raise ValueError("it has several documents")
    return open_lists[0][0] if open_lists[0] else None


def _mapping_of(items: list[Any]) -> dict[str, Any]:
    keys = items[::2]
    if not all(isinstance(key, str) for key in keys):
        raise ValueError("a list or mapping is the key of a mapping")
    return dict(zip(keys, items[1::2], strict=True))
