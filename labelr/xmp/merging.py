"""Merges labels into XMP: the bytes of keywords alone are replaced, everything else stays byte for byte."""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from xml.sax.saxutils import escape, quoteattr

from labelr.xmp.packet import (
    FIELDS,
    NOT_XML,
    OWN,
    RDF,
    SUBJECT,
    Field,
    Name,
    Node,
    Packet,
    Record,
    key,
    label_path,
    most_specific,
)  # fmt: skip

NEW_PACKET = (
    '<?xpacket begin="\ufeff" id="W5M0MpCehiHzreSzNTczkc9d"?>\n<x:xmpmeta xmlns:x="adobe:ns:meta/" x:xmptk="labelr">\n'
    f' <rdf:RDF xmlns:rdf="{RDF}">\n </rdf:RDF>\n</x:xmpmeta>\n<?xpacket end="w"?>\n'
).encode()
MAX_PROBABILITIES = 100
"""Probabilities are kept of the most probable labels: a packet in a JPEG file has 64 KB."""
_ATTRIBUTE = re.compile(rb"""\s+([^\s=/>"']+)\s*=\s*(?:"[^"]*"|'[^']*')""")

Edit = tuple[int, int, bytes]
"""What replaces the bytes from one position up to another."""


def merge(content: bytes | None, labels: Sequence[str], record: Record, keywords: Iterable[str] = ()) -> bytes | None:
    """A packet in which labels replace those that labelr wrote before; all other keywords stay.

    A label that the image has as a keyword on any level is not written again, and nothing is changed where somebody
    has reviewed the labels that labelr wrote: they are no longer labelr's.

    Args:
        content: The packet; None for a new one.
        labels: The labels that apply.
        record: The model, its root and its probabilities.
        keywords: Keywords of the image that stand elsewhere, for a packet without any; those of labelr do not count.

    Returns:
        The packet; `content` itself if nothing is to be changed, which is None where no label applies. Beside keywords
        of others the record is written also without labels: that the model found none is no review.

    Raises:
        DamagedError: If the packet cannot be parsed.
    """
    if content is None and not labels:
        return None
    packet = Packet(NEW_PACKET if content is None else content)
    old = packet.record or Record("")
    if packet.record and packet.is_reviewed:
        return content
    values = _without_labels(packet, old)
    if not any(values.values()):
        values[SUBJECT.name] = list(dict.fromkeys(word for word in keywords if key(word) not in packet.written))
    present = {key(level) for each in FIELDS for value in values[each.name] for level in each.read(value)}
    written = tuple(label for label in labels if key(label_path(label)[-1]) not in present)
    if not (written or packet.record or packet.keywords):
        return content
    if written:
        _fill(values)
    for each in FIELDS:
        for value in map(each.write, map(record.path, written)):
            values[each.name] += [value] if key(value) not in map(key, values[each.name]) else []
    codes = _fields_of_keywords(values, old, packet.lost)
    return _Editor(packet).edited(values, record._replace(labels=written, keywords=codes))


def _without_labels(packet: Packet, old: Record) -> dict[Name, list[str]]:
    """The values of each field without what labelr wrote, unless it has become a level of another keyword."""
    withdrawn = {each.name: {key(each.write(old.path(label))) for label in old.labels} for each in FIELDS}
    values: dict[Name, list[str]] = {}
    levels: set[str] = set()
    for each in reversed(FIELDS):  # the subject comes last
        gone = withdrawn[each.name] - (levels - packet.lost if each is SUBJECT else set())
        values[each.name] = [value for value in packet.values(each.name) if key(value) not in gone]
        levels |= {key(level) for value in values[each.name] for level in each.read(value)}
    return values


def _fill(values: dict[Name, list[str]]) -> None:
    """Gives a field that has no keywords those of the others: programs read the first field that they find alone."""
    paths = most_specific(path for each in FIELDS for value in values[each.name] if (path := each.read(value)))
    for each in FIELDS:
        if not values[each.name]:
            values[each.name] = list(dict.fromkeys(map(each.write, paths)))


def _fields_of_keywords(values: Mapping[Name, Sequence[str]], old: Record, lost: set[str]) -> dict[str, str]:
    """The codes of the fields of each keyword; what somebody removed from one field stays known as removed."""
    codes: dict[str, str] = {}
    for each in FIELDS:
        for name in dict.fromkeys(key(path[-1]) for value in values[each.name] if (path := each.read(value))):
            codes[name] = codes.get(name, "") + each.code
    return {name: old.keywords[name] if name in lost else found for name, found in codes.items()}


class _Editor:
    """Collects what is to be replaced in a packet."""

    def __init__(self, packet: Packet) -> None:
        self._packet = packet
        self._source = packet.source
        self._edits: list[Edit] = []
        self._dropped: list[Node] = []
        self._new: list[str] = []
        self._spaces: dict[str, str] = {}
        prefix = packet.rdf.tag.rpartition(":")[0]
        self._rdf = f"{prefix}:" if prefix else ""

    def edited(self, values: Mapping[Name, Sequence[str]], record: Record) -> bytes:
        """The packet with other values of its fields, and another record."""
        for each in FIELDS:
            if {*values[each.name]} != {*self._packet.values(each.name)}:
                self._change(each, values[each.name])
        if record != self._packet.record:
            for name in ("model", "root", "labels", "keywords", "probabilities"):
                self._drop((OWN, name))
            for name, items, kind in _properties_of(record):
                self._add("labelr", (OWN, name), items, kind)
        self._remove_dropped()
        if self._new:
            self._edits.append(self._description())
        return self._packet.encode(_apply(self._source, self._edits)) if self._edits else self._packet.content

    def _change(self, each: Field, wanted: Sequence[str]) -> None:
        """Removes and adds values of a field, in the container that has some; else in a new one."""
        holders = [node for _, node in self._packet.properties(each.name) if node and node.items]
        kept = [item for node in holders for item in node.items if item.value in wanted]
        added = [value for value in wanted if value not in {item.value for item in kept}]
        if not holders or not (kept or added):
            self._drop(each.name)
            self._add(each.prefix, each.name, added, each.kind)
            return
        self._drop(each.name, but=holders)
        for item in (item for node in holders for item in node.items):
            if item.value and item not in kept:
                self._edits.append((*self._outer(item), b""))
        last = holders[0].items[-1]  # the new ones are on lines of their own if it is
        indent = self._source[self._outer(last)[0] : last.start]
        items = (indent + f"<{last.tag}>{_text_of(value)}</{last.tag}>".encode() for value in added)
        self._edits.append((last.end, last.end, b"".join(items)))

    def _drop(self, name: Name, *, but: Sequence[Node] = ()) -> None:
        """Removes a property wherever it is, as an attribute too."""
        for description, node in self._packet.properties(name):
            if node:
                self._dropped += [node] if node not in but else []
                continue
            written = description.attributes[name][0].encode()
            position = description.start + 1 + len(description.tag.encode())
            found = _ATTRIBUTE.finditer(self._source, position, description.inner)
            self._edits.append((*next(each.span() for each in found if each[1] == written), b""))

    def _remove_dropped(self) -> None:
        """Removes the elements of dropped properties, with their description where nothing else is in it."""
        for description in self._packet.rdf.children:
            inside = [child for child in description.children if child in self._dropped]
            others = {*description.attributes} - {(RDF, "about"), ("", "about")}
            is_rest = others or len(inside) < len(description.children) or description.text.strip()
            whole = [description] if inside and description.is_plain and not is_rest else inside
            self._edits += [(*self._outer(node), b"") for node in whole]

    def _outer(self, node: Node) -> tuple[int, int]:
        """The position of an element with the white space before it."""
        start = node.start
        while self._source[start - 1 : start].isspace():
            start -= 1
        return start, node.end

    def _add(self, prefix: str, name: Name, values: Sequence[str], kind: str) -> None:
        """Adds a property to the new description; without a kind of container, of one value."""
        if not values:
            return
        self._spaces[prefix] = name[0]
        tag, items = f"{prefix}:{name[1]}", list(map(_text_of, values))
        if not kind:
            self._new.append(f"   <{tag}>{items[0]}</{tag}>")
            return
        lines = [f"     <{self._rdf}li>{item}</{self._rdf}li>" for item in items]
        box = f"{self._rdf}{kind}"
        self._new += [f"   <{tag}>", f"    <{box}>", *lines, f"    </{box}>", f"   </{tag}>"]

    def _description(self) -> Edit:
        """The new description, after the others, and like them about nothing or about one thing."""
        rdf, tag = self._packet.rdf, f"{self._rdf}Description"
        abouts = [node.attributes[(RDF, "about")][1] for node in rdf.children if (RDF, "about") in node.attributes]
        spaces = self._spaces if self._rdf else {**self._spaces, "rdf": RDF}  # an attribute has no default namespace
        declared = "".join(f'\n    xmlns:{prefix}="{uri}"' for prefix, uri in spaces.items())
        start = f"\n  <{tag} {self._rdf or 'rdf:'}about={quoteattr((abouts or [''])[0])}{declared}>"
        content = "\n".join([start, *self._new, f"  </{tag}>"]).encode()
        if rdf.inner == rdf.end:  # <rdf:RDF/>
            begin = self._source[rdf.start : rdf.inner - 2].rstrip()
            return rdf.start, rdf.end, begin + b">" + content + f"\n </{rdf.tag}>".encode()
        position = rdf.children[-1].end if rdf.children else rdf.inner
        return position, position, content


def _text_of(value: str) -> str:
    return escape(NOT_XML.sub("\ufffd", value))


def _apply(content: bytes, edits: Iterable[Edit]) -> bytes:
    parts, position = [], 0
    for start, end, replacement in sorted(edits, key=lambda edit: edit[:2]):
        parts += [content[position:start], replacement]
        position = max(position, end)
    return b"".join([*parts, content[position:]])


def _properties_of(record: Record) -> Iterator[tuple[str, list[str], str]]:
    """The name, values and kind of each property of a record that has any value."""
    keywords = [f"{codes} {name}" for name, codes in record.keywords.items()]
    probs = [f"{prob:.6f} {label}" for label, prob in record.probabilities.items()]
    lists = {"labels": record.labels, "keywords": keywords, "probabilities": probs}
    yield from ((name, [value], "") for name, value in (("model", record.model), ("root", record.root)) if value)
    yield from ((name, list(values), "Bag") for name, values in lists.items() if values)
