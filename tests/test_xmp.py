"""XMP packets: labels are merged into what photo software wrote, and keywords are read from it."""

import re
from pathlib import Path

import pytest
from xmp_samples import (
    DARKTABLE,
    DC,
    DIGIKAM,
    EXIFTOOL,
    LIGHTROOM,
    RDF,
    SAMPLES,
    bag,
    exiftool,
    exiv2_values,
    foreign,
    keywords_of,
    run_tool,
)

from labelr.xmp.merging import merge
from labelr.xmp.packet import FIELDS, DamagedError, Packet, Record

PROBS = {"dog": 0.9, "animal/cat": 0.75}
FIRST, SECOND = Record("1" * 64, probabilities=PROBS), Record("2" * 64, probabilities={"bird": 0.8})
LABELS = ["dog", "animal/cat"]


QUALIFIED = (
    "<dc:subject><rdf:Bag><rdf:li rdf:parseType='Resource'><rdf:value>Beach</rdf:value><a:b xmlns:a='c'/></rdf:li>"
    "</rdf:Bag></dc:subject>"
)


def merged(content: str | bytes | None, labels: list[str], record: Record = FIRST) -> bytes:
    result = merge(content.encode() if isinstance(content, str) else content, labels, record)
    assert result is not None
    return result


def values(content: bytes) -> list[list[str]]:
    return [Packet(content).values(each.name) for each in FIELDS]


def with_properties(inside: str, attributes: str = "") -> str:
    """A packet of a description with some properties."""
    return (
        f'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF {RDF}><rdf:Description rdf:about="" {DC} {attributes}>{inside}'
        "</rdf:Description></rdf:RDF></x:xmpmeta>"
    )


def test_new_packet_has_labels_in_all_fields() -> None:
    assert values(merged(None, LABELS)) == [["dog", "cat"], ["dog", "animal|cat"], ["dog", "animal/cat"]]


def test_image_without_labels_gets_no_packet() -> None:
    assert merge(None, [], FIRST) is None
    plain = with_properties("<dc:title>x</dc:title>").encode()
    assert merge(plain, [], FIRST) == plain


def test_existing_keywords_get_a_record_where_the_model_finds_nothing() -> None:
    content = merged(DIGIKAM, [])
    assert values(content) == values(DIGIKAM.encode())
    assert not Packet(content).is_reviewed
    assert merged(content, []) == content


def test_labels_are_put_below_the_root() -> None:
    record = FIRST._replace(root="auto/labelr")
    content = merged(None, ["animal|cat"], record)
    assert values(content) == [["cat"], ["auto|labelr|animal|cat"], ["auto/labelr/animal/cat"]]
    assert values(merged(content, ["bird"], SECOND)) == [["bird"], ["bird"], ["bird"]]


@pytest.mark.parametrize("name", SAMPLES)
@pytest.mark.parametrize("labels", [LABELS, ["Oslo"], []])
def test_everything_else_stays_byte_for_byte(name: str, labels: list[str]) -> None:
    before = SAMPLES[name].encode()
    after = merged(before, labels)
    position = 0
    for line in before.split(b"\n"):  # in the same order
        assert line in after[position:]
        position = after.index(line, position) + len(line)


@pytest.mark.parametrize("name", SAMPLES)
def test_same_labels_again_change_nothing(name: str) -> None:
    once = merged(SAMPLES[name], LABELS)
    assert merged(once, LABELS) == once


@pytest.mark.parametrize("name", SAMPLES)
def test_another_model_replaces_only_labels_of_labelr(name: str) -> None:
    once = merged(merged(SAMPLES[name], LABELS), ["bird"], SECOND)
    assert values(once) == values(merged(SAMPLES[name], ["bird"], SECOND))
    assert Packet(once).record == Packet(merged(SAMPLES[name], ["bird"], SECOND)).record
    assert [{*found} for found in values(merged(once, [], SECOND))] >= [
        {*found} for found in values(SAMPLES[name].encode())
    ]


def test_keyword_that_was_there_is_never_removed() -> None:
    content = merged(DIGIKAM, ["Beach", "dog"])
    assert Packet(content).record == FIRST._replace(labels=("dog",), keywords=Packet(content).record.keywords)  # type: ignore[union-attr]
    assert "Beach" in values(merged(content, ["bird"], SECOND))[0]


def test_level_of_a_keyword_is_not_written_again() -> None:
    assert "norway" not in [*map(str.lower, values(merged(LIGHTROOM, ["norway"]))[1])]
    assert values(merged(LIGHTROOM, ["norway"])) == values(LIGHTROOM.encode())


def test_missing_fields_get_the_keywords_of_the_others() -> None:
    """Immich and darktable read the first field that they find alone."""
    assert values(merged(LIGHTROOM, ["dog"]))[2] == ["Places/Norway/Oslo", "dog"]
    assert values(merged(EXIFTOOL, ["dog"]))[:2] == [["Oslo", "dog"], ["Places|Norway|Oslo", "dog"]]
    assert values(merged(DARKTABLE, ["dog"]))[2] == ["Places/Norway/Oslo", "dog"]  # without its internal keywords


def test_keywords_in_the_image_start_a_new_packet() -> None:
    content = merge(None, ["dog"], FIRST, ["Beach"])
    assert content is not None
    assert values(content) == [["Beach", "dog"]] * 3


def without(content: bytes, value: str, *tags: str) -> bytes:
    """A packet of which a program has removed a keyword, in some fields only."""
    for tag in tags:
        pattern = rf"(<{tag}>.*?)\s*<rdf:li>{re.escape(value)}</rdf:li>".encode()
        content, number = re.subn(pattern, rb"\1", content, count=1, flags=re.DOTALL)
        assert number == 1
    return content


@pytest.mark.parametrize(
    "tags", [("dc:subject", "lr:hierarchicalSubject"), ("digiKam:TagsList",)], ids=["lr", "immich"]
)
def test_removed_label_is_removed_whichever_field_a_program_updates(tags: tuple[str, ...]) -> None:
    content = without(merged(DIGIKAM, ["dog", "bird"]), "dog", *tags)
    packet = Packet(content)
    assert packet.is_reviewed
    assert {*packet.keywords} == {("Places", "Norway", "Oslo"), ("Beach",), ("bird",)}
    assert merged(content, ["dog", "bird"]) == content  # it does not come back


def test_removed_keyword_of_a_person_is_not_read_from_a_field_that_labelr_filled() -> None:
    content = without(
        merged(with_properties(f"<dc:subject>{bag('Beach', 'Trip')}</dc:subject>"), ["dog"]), "Beach", "dc:subject"
    )
    assert Packet(content).keywords == [("Trip",), ("dog",)]
    again = merged(content, ["bird"], SECOND)
    assert Packet(again).keywords == [("Trip",), ("bird",)]


@pytest.mark.parametrize(("keyword", "reviewed"), [("Trip 2026", False), ("confirmed", True), ("Cat", True)])
def test_only_a_label_or_a_mark_that_was_added_shows_a_review(keyword: str, reviewed: bool) -> None:
    content = merged(DIGIKAM, ["dog"])
    added = content.replace(b"<rdf:li>Beach</rdf:li>", f"<rdf:li>Beach</rdf:li><rdf:li>{keyword}</rdf:li>".encode())
    assert Packet(added).is_reviewed == reviewed
    assert (merged(added, ["bird"], SECOND) == added) == reviewed


def test_tag_of_all_images_that_is_removed_shows_no_review() -> None:
    content = merged(None, ["holiday", "dog"])
    assert not Packet(without(content, "holiday", "dc:subject")).is_reviewed
    assert Packet(without(content, "dog", "dc:subject")).is_reviewed


def test_label_that_labelr_wrote_elsewhere_is_no_keyword_of_a_person() -> None:
    content = merge(merged(None, ["dog"]), ["bird"], SECOND, ["Dog", "Beach"])
    assert content is not None
    assert values(content)[0] == ["Beach", "bird"]


def test_label_that_was_moved_in_the_hierarchy_is_still_there() -> None:
    content = merged(None, ["dog"])
    moved = content.replace(
        b"<lr:hierarchicalSubject>\n    <rdf:Bag>\n     <rdf:li>dog",
        b"<lr:hierarchicalSubject>\n    <rdf:Bag>\n     <rdf:li>Animals|dog",
    )
    packet = Packet(moved)
    assert not packet.is_reviewed
    assert packet.keywords == [("Animals", "dog")]
    assert "dog" in values(merged(moved, ["bird"], SECOND))[0]


@pytest.mark.parametrize(
    ("inside", "attributes", "expected"),
    [
        ("", 'dc:subject="Beach"', ["Beach", "dog"]),
        ("<dc:subject>Beach</dc:subject>", "", ["Beach", "dog"]),
        ("<dc:subject><rdf:Bag/></dc:subject>", "", ["dog"]),
        ("<dc:subject/>", "", ["dog"]),
        (f"<dc:subject>{bag('Beach', kind='Seq')}</dc:subject>", "", ["Beach", "dog"]),
        (f"<dc:subject>{bag('Beach', kind='Alt')}</dc:subject>", "", ["Beach", "dog"]),
        ("<dc:subject><rdf:Bag><rdf:li><![CDATA[a<b]]></rdf:li></rdf:Bag></dc:subject>", "", ["a<b", "dog"]),
        (QUALIFIED, "", ["Beach", "dog"]),
        (f"<dc:subject>{bag('a')}</dc:subject><dc:subject>{bag('b')}</dc:subject>", "", ["a", "dog", "b"]),
        ("<!-- no keywords --><?pi x?>", "", ["dog"]),
    ],
)  # fmt: skip
def test_forms_of_keywords_are_understood(inside: str, attributes: str, expected: list[str]) -> None:
    content = merged(with_properties(inside, attributes), ["dog"])
    assert values(content)[0] == expected
    assert merged(content, ["dog"]) == content
    assert values(merged(content, [], FIRST))[0] == [value for value in expected if value != "dog"]


def test_kind_of_a_list_of_another_program_stays() -> None:
    content = merged(with_properties(f"<dc:subject>{bag('Beach', kind='Seq')}</dc:subject>"), ["dog"])
    assert b"<rdf:Seq>\n     <rdf:li>Beach</rdf:li>\n     <rdf:li>dog</rdf:li>\n    </rdf:Seq>" in content


def test_other_prefixes_and_what_they_are_about_are_kept() -> None:
    content = (
        f'<r:RDF {RDF.replace(":rdf", ":r")}><r:Description r:about="uuid:1&amp;2" xmlns:d="http://purl.org/dc/elements/1.1/">'
        "<d:subject><r:Bag><r:li>Beach</r:li></r:Bag></d:subject></r:Description></r:RDF>"
    )
    after = merged(content, ["dog"]).decode()
    assert "<d:subject><r:Bag><r:li>Beach</r:li><r:li>dog</r:li></r:Bag></d:subject>" in after
    assert after.count('r:about="uuid:1&amp;2"') == 2
    assert "ns0" not in after


def test_default_namespace_and_empty_packet_are_understood() -> None:
    content = merged(f"<RDF {RDF.replace(':rdf', '')}/>", ["dog"])
    assert values(content)[0] == ["dog"]
    assert merged(content, ["dog"]) == content


@pytest.mark.parametrize("codec", ["utf-16", "utf-8-sig"])
def test_encoding_is_kept(codec: str) -> None:
    before = with_properties(f"<dc:subject>{bag('Straße')}</dc:subject>").encode(codec)
    after = merge(before, ["犬"], FIRST)
    assert after is not None
    assert after[:2] == before[:2]
    assert "Straße</rdf:li>\n     <rdf:li>犬" in after.decode(codec)
    assert merge(after, ["犬"], FIRST) == after


def test_label_cannot_break_the_xml() -> None:
    labels = ["<script>&\"'", "a\0b", "two\nlines", "\ud800", "/", "]]>"]
    content = merged(None, labels)
    assert values(content)[0] == ["<script>&\"'", "a\ufffdb", "two lines", "\ufffd", "_", "]]>"]


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "no element found"),
        (b"PK\3\4", "not well-formed"),
        (b"<a/>", "it holds no XMP"),
        (DIGIKAM[:900].encode(), "no element found|unclosed"),
        (b"<!DOCTYPE a [<!ENTITY b 'c'>]><a>&b;</a>", "document type"),
        (with_properties("<dc:subject>" + "<a>" * 300).encode(), "too many elements"),
        (b"\xff\xfe<", "truncated"),
        (with_properties("<dc:subject>\xe9</dc:subject>").encode("latin-1"), "can't decode"),
    ],
)
def test_damaged_packet_is_refused(content: bytes, reason: str) -> None:
    with pytest.raises(DamagedError, match=reason):
        merge(content, ["dog"], FIRST)


# --- independent readers ---------------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("name", SAMPLES)
def test_exiftool_and_exiv2_read_the_labels_and_everything_else(name: str, tmp_path: Path) -> None:
    path = tmp_path / "a.jpg.xmp"
    path.write_text(SAMPLES[name], encoding="utf-8")
    before, others = keywords_of(path), foreign(path)
    path.write_bytes(merged(SAMPLES[name], LABELS))
    labels = [{"dog", "cat"}, {"dog", "animal|cat"}, {"dog", "animal/cat"}]
    for found, expected, old in zip(keywords_of(path), labels, before, strict=True):
        assert found >= expected | old
        assert not old or found == expected | old
    assert foreign(path) == others
    assert {*exiv2_values(path, "Xmp.dc.subject")} >= labels[0] | before[0]
    assert {*exiv2_values(path, "Xmp.digiKam.TagsList")} >= labels[2] | before[2]
    path.write_bytes(merged(path.read_bytes(), ["bird"], SECOND))
    for found, old in zip(keywords_of(path), before, strict=True):
        assert "bird" in found
        assert not old or found == {"bird"} | old
    assert foreign(path) == others


def test_exiftool_finds_only_the_labels_in_a_new_file(tmp_path: Path) -> None:
    path = tmp_path / "a.jpg.xmp"
    path.write_bytes(merged(None, LABELS))
    assert keywords_of(path) == [{"dog", "cat"}, {"dog", "animal|cat"}, {"dog", "animal/cat"}]
    assert exiv2_values(path, "Xmp.lr.hierarchicalSubject") == ["dog", "animal|cat"]
    assert "XMP-labelr:Model" in exiftool(path)


@pytest.mark.slow
@pytest.mark.parametrize("tool", ["exiftool", "exiv2"])
def test_record_survives_a_program_that_writes_the_file_again(tool: str, tmp_path: Path) -> None:
    path = tmp_path / "a.xmp"
    content = merged(DIGIKAM, LABELS, FIRST._replace(root="auto"))
    path.write_bytes(content)
    if tool == "exiv2":
        run_tool("exiv2", "-M", "set Xmp.dc.creator XmpSeq Me", path)
    else:
        run_tool("exiftool", "-q", "-overwrite_original", "-Creator=Me", path)
    packet = Packet(path.read_bytes())
    assert packet.record == Packet(content).record
    assert not packet.is_reviewed
    assert keywords_of(path)[0] == {"Oslo", "Beach", "dog", "cat"}
    path.write_bytes(merged(path.read_bytes(), [], SECOND))
    assert keywords_of(path) == [{"Oslo", "Beach"}, {"Places|Norway|Oslo", "Beach"}, {"Places/Norway/Oslo", "Beach"}]
    assert {name for name in exiftool(path) if "labelr" in name} == {
        f"XMP-labelr:{name}" for name in ("Model", "Keywords", "Probabilities")
    }
