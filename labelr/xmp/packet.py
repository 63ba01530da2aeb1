"""Reads keywords in XMP, the metadata that photo software writes beside and into images."""

import re
import unicodedata
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import NamedTuple
from xml.parsers import expat

RDF = "http://www.w3.org/1999/02/22-rdf-syntax-ns#"
OWN = "urn:labelr:xmp:1#"
"""The namespace of what labelr keeps about its own keywords. It never changes: files out there have it."""
CONTAINERS = ("Bag", "Seq", "Alt")
INTERNAL_ROOT = "darktable"
"""darktable keeps its own state in keywords below this one, such as ``darktable|format|jpg``."""
MAX_DEPTH, MAX_NODES = 200, 200_000
MARKS = ("confirmed", "reviewed", "checked", "verified")
"""Keywords, and columns of tables, by which people say that predicted labels are right."""
_SEPARATOR = "\1"
"""Between the parts of a name that the parser gives; it is in no XML."""
_TAG = re.compile(rb"""<(?:[^<>"']|"[^"]*"|'[^']*')*>""")
NOT_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")

Name = tuple[str, str]
"""A namespace and a name in it."""
KeywordPath = tuple[str, ...]
"""A keyword with those that it is below, the uppermost first."""


class Field(NamedTuple):
    """A property that holds keywords.

    Attributes:
        code: Stands for it in labelr's record.
        prefix: The usual prefix of its namespace.
        name: Its namespace and name.
        kind: The container of its values: digiKam reads no other than it writes.
        separator: Between the levels of a keyword; empty where keywords have no levels.
    """

    code: str
    prefix: str
    name: Name
    kind: str
    separator: str

    def write(self, path: KeywordPath) -> str:
        """A keyword as it is written in this property; without levels, the lowest."""
        return self.separator.join(path) if self.separator else path[-1]

    def read(self, value: str) -> KeywordPath:
        """The keyword that a value means; empty if it is blank."""
        parts = value.split(self.separator) if self.separator else [value]
        return tuple(part.strip() for part in parts if part.strip())


FIELDS = (
    Field("s", "dc", ("http://purl.org/dc/elements/1.1/", "subject"), "Bag", ""),
    Field("h", "lr", ("http://ns.adobe.com/lightroom/1.0/", "hierarchicalSubject"), "Bag", "|"),
    Field("t", "digiKam", ("http://www.digikam.org/ns/1.0/", "TagsList"), "Seq", "/"),
)
"""Where photo software keeps keywords. Some read the first that they find alone, so all are written."""
SUBJECT = FIELDS[0]


class Record(NamedTuple):
    """What labelr keeps in a packet about its own keywords.

    Attributes:
        model: The digest of the model.
        root: The keyword that its labels are below; may be empty.
        labels: The labels that labelr wrote, and that no one else had written before.
        keywords: The codes of the fields that each keyword was in when labelr wrote, by its `key`.
        probabilities: The probabilities of the most probable labels.
    """

    model: str
    root: str = ""
    labels: tuple[str, ...] = ()
    keywords: Mapping[str, str] = {}
    probabilities: Mapping[str, float] = {}

    def path(self, label: str) -> KeywordPath:
        """The keyword that is written for a label."""
        return (*(label_path(self.root) if self.root else ()), *label_path(label))


class DamagedError(ValueError):
    """A packet that is not XMP, or damaged; its text is the reason."""


def key(text: str) -> str:
    """What two spellings of a keyword have in common: programs differ in case and in composed characters."""
    return unicodedata.normalize("NFC", text).casefold()


def label_path(label: str) -> KeywordPath:
    """The keyword for a label: with ``/`` or ``|`` in it, a hierarchy."""
    parts = (" ".join(NOT_XML.sub("\ufffd", part).split()) for part in re.split(r"[/|]", label))
    return tuple(part for part in parts if part) or ("_",)


# --- reading ---------------------------------------------------------------------------------------------------------


@dataclass(eq=False)
class Node:
    """An element, by the positions of its bytes: its start tag from `start` to `inner`, and all of it up to `end`."""

    name: Name
    tag: str
    attributes: dict[Name, tuple[str, str]]  # as they are written, with their values
    start: int
    inner: int
    end: int = 0
    children: list["Node"] = field(default_factory=list)
    text: str = ""
    is_plain: bool = True  # no comment, instruction or property of others in it

    @property
    def items(self) -> list["Node"]:
        """The items of the bag, sequence or alternative in it."""
        boxes = (child for child in self.children if child.name[0] == RDF and child.name[1] in CONTAINERS)
        return [item for box in boxes for item in box.children if item.name == (RDF, "li")]

    @property
    def value(self) -> str:
        """Its text, or where it has qualifiers, that of the ``rdf:value`` in it."""
        nodes = list(self.children)
        while nodes:
            node = nodes.pop()
            if node.name == (RDF, "value"):
                return node.text.strip()
            nodes += node.children
        return self.text.strip()


class _Parser:
    """Finds the descriptions of a packet, and in them the properties that labelr knows."""

    def __init__(self, content: bytes) -> None:
        self.rdf: Node | None = None
        self._content = content
        self._stack: list[Node | None] = []
        self._num_nodes = 0
        self._parser = parser = expat.ParserCreate("utf-8", _SEPARATOR)
        parser.namespace_prefixes = parser.buffer_text = True
        parser.StartDoctypeDeclHandler = self._refuse
        parser.StartElementHandler, parser.EndElementHandler = self._start, self._end
        parser.CharacterDataHandler = self._text
        parser.CommentHandler = parser.ProcessingInstructionHandler = self._mark
        parser.Parse(content, True)

    def _refuse(self, *_: object) -> None:
        raise DamagedError("it has a document type (DOCTYPE), which labelr does not read")

    def _start(self, tag: str, attributes: dict[str, str]) -> None:
        parent = self._stack[-1] if self._stack else None
        name, written = _names_of(tag)
        node = None
        if self._is_wanted(name, parent):
            self._num_nodes += 1
            found = _TAG.match(self._content, self._parser.CurrentByteIndex)
            if found is None or self._num_nodes > MAX_NODES or len(self._stack) > MAX_DEPTH:
                raise DamagedError("it has too many elements, or one that cannot be read")
            expanded = {each: (tag, value) for text, value in attributes.items() for each, tag in [_names_of(text)]}
            node = Node(name, written, expanded, *found.span())
            if parent:
                parent.children.append(node)
            else:
                self.rdf = node
        else:
            self._mark()
        self._stack.append(node)

    def _is_wanted(self, name: Name, parent: Node | None) -> bool:
        """Whether an element is the RDF, a description in it, a property that labelr knows, or inside of one."""
        if parent is None:
            return self.rdf is None and name == (RDF, "RDF")
        if parent is self.rdf:
            return name == (RDF, "Description")
        return self._stack[-2] is not self.rdf or name[0] == OWN or any(name == each.name for each in FIELDS)

    def _end(self, _tag: str) -> None:
        node = self._stack.pop()
        if node:
            is_empty_tag = self._content.endswith(b"/>", node.start, node.inner)
            node.end = node.inner if is_empty_tag else self._content.index(b">", self._parser.CurrentByteIndex) + 1

    def _text(self, text: str) -> None:
        if self._stack and self._stack[-1]:
            self._stack[-1].text += text

    def _mark(self, *_: object) -> None:
        if self._stack and self._stack[-1]:
            self._stack[-1].is_plain = False


def _names_of(text: str) -> tuple[Name, str]:
    """The namespace and name of an element or attribute, and how it is written."""
    *space, local, prefix = text.split(_SEPARATOR) if text.count(_SEPARATOR) > 1 else (*text.split(_SEPARATOR), "")
    return ("".join(space), local), f"{prefix}:{local}" if prefix else local


class Packet:
    """An XMP packet, as it is in a sidecar or in an image.

    Raises:
        DamagedError: If it cannot be parsed, or is no XMP.
    """

    def __init__(self, content: bytes) -> None:
        self.content = content
        marks = {b"\xef\xbb\xbf": "utf-8-sig", b"\xff\xfe": "utf-16", b"\xfe\xff": "utf-16"}
        self._codec = next((codec for mark, codec in marks.items() if content.startswith(mark)), "utf-8")
        body = content if self._codec == "utf-16" else content.rstrip(b"\0")  # cameras pad with null bytes
        try:
            text = body.decode(self._codec)
            if text.encode(self._codec) != body:
                raise DamagedError("its encoding is not UTF-8")
            self.source = text.encode()
            rdf = _Parser(self.source).rdf
        except (expat.ExpatError, UnicodeError) as error:
            raise DamagedError(str(error)) from error
        if rdf is None:
            raise DamagedError("it holds no XMP")
        self.rdf = rdf

    def encode(self, source: bytes) -> bytes:
        """Another content of `source`, as bytes in the encoding of the packet."""
        return source.decode().encode(self._codec)

    def properties(self, name: Name) -> Iterator[tuple[Node, Node | None]]:
        """Each description that has a property, and the element of it; None where it is an attribute."""
        for description in self.rdf.children:
            if name in description.attributes:
                yield description, None
            yield from ((description, child) for child in description.children if child.name == name)

    def values(self, name: Name) -> list[str]:
        """The values of a property, each once."""
        values: list[str] = []
        for description, node in self.properties(name):
            if node is None:
                values.append(description.attributes[name][1].strip())
            else:
                values += [item.value for item in node.items] or [node.value]
        return [value for value in dict.fromkeys(values) if value]

    @cached_property
    def record(self) -> Record | None:
        """What labelr keeps of its own keywords; None where it wrote none."""
        model = "".join(self.values((OWN, "model"))[:1])
        if not model:
            return None
        keywords = (value.partition(" ") for value in self.values((OWN, "keywords")))
        probs = (value.partition(" ") for value in self.values((OWN, "probabilities")))
        return Record(
            model,
            "".join(self.values((OWN, "root"))[:1]),
            tuple(self.values((OWN, "labels"))),
            {name: codes for codes, _, name in keywords},
            {label: float(prob) for prob, _, label in probs if re.fullmatch(r"[01]\.\d{1,9}", prob)},
        )

    @cached_property
    def paths(self) -> dict[str, list[KeywordPath]]:
        """The keywords in each field, by its code."""
        return {each.code: [path for path in map(each.read, self.values(each.name)) if path] for each in FIELDS}

    @cached_property
    def lost(self) -> set[str]:
        """The keywords that were in a field when labelr wrote, and are no longer: somebody removed them.

        No program updates all fields, so that what was removed in one may still be in another.
        """
        found = {code: {key(path[-1]) for path in paths} for code, paths in self.paths.items()}
        recorded = self.record.keywords.items() if self.record else ()
        return {name for name, codes in recorded if any(name not in found.get(code, {name}) for code in codes)}

    @cached_property
    def keywords(self) -> list[KeywordPath]:
        """The keywords of the image, without those that were removed, and without the state of darktable."""
        every = dict.fromkeys(path for paths in self.paths.values() for path in paths)
        return [path for path in most_specific(every) if key(path[-1]) not in self.lost]

    @cached_property
    def written(self) -> set[str]:
        """The `key` of each keyword that labelr wrote."""
        return {key(label_path(label)[-1]) for label in self.record.labels} if self.record else set()

    @cached_property
    def is_reviewed(self) -> bool:
        """Whether somebody has looked at the labels that labelr wrote: removed one, added one, or set a mark.

        Other keywords that were added or removed show nothing, such as tags of all images: people change these in a
        whole folder at once.
        """
        if self.record is None:
            return True
        added = {key(path[-1]) for path in self.keywords} - {*self.record.keywords}
        labels = {key(label_path(label)[-1]) for label in self.record.probabilities}
        return bool(self.written & self.lost & labels or added & {*labels, *MARKS})


def most_specific(paths: Iterable[KeywordPath]) -> list[KeywordPath]:
    """The keywords without those that are only a level above another one, and without darktable's internal ones.

    Programs write the levels of a hierarchy as keywords of their own too.
    """
    unique = list(dict.fromkeys(paths))
    internal = {key(level) for path in unique if path[0] == INTERNAL_ROOT and len(path) > 1 for level in path}
    ours = [path for path in unique if path[0] != INTERNAL_ROOT]
    levels = {key(level) for path in ours if len(path) > 1 for level in path}
    return [path for path in ours if len(path) > 1 or key(path[0]) not in levels | internal]
