"""Labels in XMP files beside images, and inside of JPEG images."""

import hashlib
import os
import shutil
from pathlib import Path
from typing import Any

import pytest
from conftest import Cli, put
from PIL import Image
from tag_results import counts, reason_of
from xmp_samples import DARKTABLE, DIGIKAM, LIGHTROOM, exiv2_values, foreign, keywords_of, run_tool

from labelr import files
from labelr.config import TagOptions
from labelr.data.embedded import MAX_SEGMENT, packet_in, read_embedded, with_packet
from labelr.model.predict import Model
from labelr.tagging.output import UnwritableFileError
from labelr.tagging.photo_files import MAX_SIDECAR, PhotoFiles, _back_up
from labelr.tagging.pipeline import Tagger
from labelr.tagging.tag import tag
from labelr.xmp.packet import DamagedError, Packet

XMP: dict[str, Any] = {"format": ("xmp",), "threshold": 0}
BESIDE: dict[str, Any] = {**XMP, "in_place": True}
RATING = """<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">
<rdf:Description rdf:about="" xmlns:xmp="http://ns.adobe.com/xap/1.0/" xmp:Rating="3"/></rdf:RDF></x:xmpmeta>"""
EMBED: dict[str, Any] = {**BESIDE, "embed": True}


@pytest.fixture
def album(shapes: Path, tmp_path: Path) -> Path:
    """A folder of a JPEG and a PNG image."""
    folder = tmp_path / "album"
    folder.mkdir()
    Image.open(shapes / "images" / "00000.png").convert("RGB").save(folder / "a.jpg", exif=Image.Exif(), quality=90)
    shutil.copy(shapes / "images" / "00001.png", folder / "b.png")
    return folder


def pixels(path: Path) -> bytes:
    return Image.open(path).tobytes()


def subjects(path: Path) -> list[str]:
    return Packet(path.read_bytes()).values(("http://purl.org/dc/elements/1.1/", "subject"))


# --- files beside images ---------------------------------------------------------------------------------------------


def test_xmp_files_are_written_into_the_mirrored_tree(photos: Path, tmp_path: Path, trained: Model) -> None:
    tag(photos, trained, output=tmp_path / "out", **XMP)
    assert {*subjects(tmp_path / "out" / "deep" / "er" / "d.PNG.xmp")} == {*trained.labels}
    assert not list(photos.rglob("*.xmp"))
    assert Packet((tmp_path / "out" / "a.png.xmp").read_bytes()).record.model == trained.info.digest  # type: ignore[union-attr]


def test_name_of_xmp_files_may_be_the_stem(album: Path, tmp_path: Path, trained: Model) -> None:
    shutil.copy(album / "b.png", album / "a.png")
    tag(album, trained, output=tmp_path / "out", xmp_name="stem", **BESIDE)
    assert {path.name for path in album.glob("*.xmp")} == {"a.xmp", "b.xmp"}
    assert reason_of(tmp_path / "out", "a.png") == "a.xmp already belongs to a.jpg"


def test_image_without_labels_gets_no_file_and_in_the_one_it_has_a_record(
    album: Path, tmp_path: Path, trained: Model
) -> None:
    path = put(album, "a.jpg.xmp", DIGIKAM)
    others, keywords = foreign(path), subjects(path)
    for _ in range(2):
        summary = tag(album, trained, output=tmp_path / "out", **{**BESIDE, "threshold": 1})
        assert summary.ok == 2
    assert (foreign(path), subjects(path)) == (others, keywords)
    packet = Packet(path.read_bytes())
    assert (bool(packet.record), packet.is_reviewed) == (True, False)
    assert not (album / "b.png.xmp").exists()


def test_existing_file_beside_the_image_is_merged_with(album: Path, tmp_path: Path, trained: Model) -> None:
    path = put(album, "a.jpg.xmp", DARKTABLE)
    path.chmod(0o600)
    others = foreign(path)
    tag(album, trained, output=tmp_path / "out", **BESIDE)
    assert {*subjects(path)} > {*trained.labels, "Oslo", "changed"}
    assert foreign(path) == others
    assert path.stat().st_mode & 0o777 == 0o600


def test_file_in_the_mirrored_tree_starts_as_that_beside_the_image(album: Path, tmp_path: Path, trained: Model) -> None:
    put(album, "a.jpg.xmp", DARKTABLE)
    tag(album, trained, output=tmp_path / "out", **XMP)
    written = (tmp_path / "out" / "a.jpg.xmp").read_text()
    assert 'darktable:operation="exposure"' in written
    assert (album / "a.jpg.xmp").read_text() == DARKTABLE


@pytest.mark.slow
def test_new_file_has_the_keywords_in_the_image(album: Path, tmp_path: Path, trained: Model) -> None:
    run_tool("exiftool", "-q", "-overwrite_original", "-IPTC:Keywords=Strand", album / "a.jpg")
    run_tool("exiftool", "-q", "-overwrite_original", "-XMP-dc:Subject=Pier", album / "b.png")
    tag(album, trained, output=tmp_path / "out", **BESIDE)
    assert subjects(album / "a.jpg.xmp")[0] == "Strand"
    assert subjects(album / "b.png.xmp")[0] == "Pier"


def test_what_cannot_be_read_fails_and_is_not_taken_for_nothing(album: Path, trained: Model) -> None:
    photo, sidecar, folder = album / "a.jpg", album / "a.jpg.xmp", files.make_folder(album / "folder.jpg")
    photo_files = PhotoFiles(Tagger.load(trained, TagOptions()))
    with pytest.raises(UnwritableFileError, match=r"folder\.jpg cannot be read: "):
        photo_files.is_jpeg(folder)
    with pytest.raises(UnwritableFileError, match=r"folder\.jpg cannot be read: "):
        photo_files.reviewed(album / "folder.jpg.xmp", folder)
    sidecar.touch()
    os.truncate(sidecar, MAX_SIDECAR + 1)
    with pytest.raises(UnwritableFileError, match=r"a\.jpg\.xmp cannot be read: "):
        photo_files.reviewed(sidecar, photo)


def test_second_run_writes_nothing(album: Path, tmp_path: Path, trained: Model) -> None:
    tag(album, trained, output=tmp_path / "out", **BESIDE)
    before = {path: (path.stat().st_mtime_ns, path.read_bytes()) for path in album.iterdir()}
    assert tag(album, trained, output=tmp_path / "out", **BESIDE).unchanged == 2
    tag(album, trained, output=tmp_path / "other", **BESIDE)
    assert {path: (path.stat().st_mtime_ns, path.read_bytes()) for path in album.iterdir()} == before


def test_keyword_that_a_person_removed_does_not_come_back(
    album: Path, tmp_path: Path, trained: Model, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    tag(album, trained, output=tmp_path / "out", **BESIDE)
    label = trained.labels[0]
    path = album / "a.jpg.xmp"
    run_tool("exiftool", "-q", "-overwrite_original", f"-Subject-={label}", path)
    for force in (False, True):
        tag(album, trained, output=tmp_path / "out", **BESIDE, force=force)
        assert label not in subjects(path)
    assert "XMP left as it is, since somebody reviewed its labels: of 1 image" in caplog.text


def drop(content: bytes, label: str) -> bytes:
    """A packet of which a person has removed a label from a field."""
    assert f"<rdf:li>{label}</rdf:li>".encode() in content
    return content.replace(f"<rdf:li>{label}</rdf:li>".encode(), b"", 1)


def test_file_of_the_other_name_is_what_a_new_one_starts_as(album: Path, tmp_path: Path, trained: Model) -> None:
    put(album, "a.xmp", LIGHTROOM)
    tag(album, trained, output=tmp_path / "out", **BESIDE)
    tag(album, trained, output=tmp_path / "mirror", **XMP)
    for folder in (album, tmp_path / "mirror"):
        assert {*subjects(folder / "a.jpg.xmp")} == {*trained.labels, "Oslo", "Norway", "Places"}
        assert foreign(folder / "a.jpg.xmp") == foreign(album / "a.xmp")
    assert (album / "a.xmp").read_text(encoding="utf-8") == LIGHTROOM


@pytest.mark.parametrize("options", [{"xmp_name": "stem"}, {"embed": True}, {"xmp_name": "stem", "embed": True}])
def test_keyword_that_a_person_removed_comes_back_in_no_other_place(
    album: Path, tmp_path: Path, trained: Model, options: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    tag(album, trained, output=tmp_path / "out", **BESIDE)
    path = album / "a.jpg.xmp"
    path.write_bytes(drop(path.read_bytes(), trained.labels[0]))
    before, image = path.read_bytes(), (album / "a.jpg").read_bytes()
    tag(album, trained, output=tmp_path / "other", **BESIDE, **options)
    assert (path.read_bytes(), (album / "a.jpg").read_bytes(), (album / "a.xmp").exists()) == (before, image, False)
    assert "of 1 image" in caplog.text


def test_keyword_that_a_person_removed_in_the_image_does_not_come_back_in_its_file(
    album: Path, tmp_path: Path, trained: Model
) -> None:
    path = album / "a.jpg"
    tag(album, trained, output=tmp_path / "out", **EMBED)
    path.write_bytes(with_packet(path.read_bytes(), drop(packet_in(path.read_bytes()) or b"", trained.labels[0])))
    tag(album, trained, output=tmp_path / "other", **BESIDE)
    assert not (album / "a.jpg.xmp").exists()
    tag(album, trained, output=tmp_path / "mirror", **XMP)
    assert Packet((tmp_path / "mirror" / "a.jpg.xmp").read_bytes()).is_reviewed  # a copy


def test_damaged_file_is_reported_and_left_alone(album: Path, tmp_path: Path, trained: Model) -> None:
    put(album, "a.jpg.xmp", DIGIKAM[:-100])
    put(album, "b.png.xmp", b"\0\1\2")
    summary = tag(album, trained, output=tmp_path / "out", **BESIDE)
    assert (summary.ok, summary.failed) == (0, 2)
    assert reason_of(tmp_path / "out", "a.jpg").startswith("a.jpg.xmp is damaged, and is kept: ")
    assert (album / "a.jpg.xmp").read_text(encoding="utf-8") == DIGIKAM[:-100]


def test_link_in_place_of_a_file_is_not_followed(album: Path, tmp_path: Path, trained: Model) -> None:
    target = put(tmp_path, "elsewhere.xmp", DIGIKAM)
    (album / "a.jpg.xmp").symlink_to(target)
    tag(album, trained, output=tmp_path / "out", **BESIDE)
    assert reason_of(tmp_path / "out", "a.jpg") == "a.jpg.xmp is a link, and is not changed"
    assert target.read_text(encoding="utf-8") == DIGIKAM


def test_only_files_that_labelr_made_alone_are_deleted(album: Path, tmp_path: Path, trained: Model) -> None:
    put(album, "a.jpg.xmp", LIGHTROOM)
    tag(album, trained, output=tmp_path / "out", **BESIDE)
    shutil.copy(album / "a.jpg", album / "c.jpg")
    for name in ("a.jpg", "b.png"):
        (album / name).unlink()
    tag(album, trained, output=tmp_path / "out", **BESIDE)
    assert {path.name for path in album.iterdir()} == {"a.jpg.xmp", "c.jpg", "c.jpg.xmp"}


def test_independent_readers_find_exactly_the_labels(album: Path, tmp_path: Path, trained: Model) -> None:
    tag(album, trained, output=tmp_path / "out", **BESIDE)
    assert keywords_of(album / "a.jpg.xmp") == [{*trained.labels}] * 3
    for name in ("dc.subject", "lr.hierarchicalSubject", "digiKam.TagsList"):
        assert {*exiv2_values(album / "b.png.xmp", f"Xmp.{name}")} == {*trained.labels}


@pytest.mark.parametrize("name", ["sp ace'\".jpg", "new\nline.jpg", os.fsdecode(b"caf\xe9.jpg"), "<script>.jpg"])
def test_unusual_names_are_kept(album: Path, tmp_path: Path, trained: Model, name: str) -> None:
    (album / "a.jpg").rename(album / name)
    assert tag(album, trained, output=tmp_path / "out", **EMBED, backup=False).ok == 2
    assert packet_in((album / name).read_bytes())


# --- inside of images ------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_embedding_changes_no_pixel_and_no_other_segment(album: Path, tmp_path: Path, trained: Model) -> None:
    path = album / "a.jpg"
    run_tool("exiftool", "-q", "-overwrite_original", "-Make=Box", "-IPTC:Keywords=Strand", "-Comment=hi", path)
    path.chmod(0o640)
    before, decoded = path.read_bytes(), pixels(path)
    summary = tag(album, trained, output=tmp_path / "out", **EMBED)
    assert summary.ok == 2
    after = path.read_bytes()
    start = after.index(b"\xff\xe1", after.index(b"http://ns.adobe") - 6)
    end = start + 2 + int.from_bytes(after[start + 2 : start + 4], "big")
    assert after[:start] + after[end:] == before
    assert pixels(path) == decoded
    assert keywords_of(path) == [{*trained.labels, "Strand"}] * 3
    assert {*exiv2_values(path, "Xmp.dc.subject")} == {*trained.labels, "Strand"}
    assert (path.stat().st_mode & 0o777, (album / "a.jpg.bak").read_bytes()) == (0o640, before)
    assert not (album / "a.jpg.xmp").exists()


@pytest.mark.parametrize("name", ["b.png", "b.jpg"])
def test_other_formats_get_a_file_beside_the_image(album: Path, tmp_path: Path, trained: Model, name: str) -> None:
    before = (album / "b.png").read_bytes()
    (album / "b.png").rename(album / name)
    tag(album, trained, output=tmp_path / "out", **EMBED)
    assert (album / name).read_bytes() == before
    assert {*subjects(album / f"{name}.xmp")} == {*trained.labels}


def unreviewed(content: bytes | None) -> tuple[set[str], bool]:
    """What labelr wrote into a packet, and whether that has been reviewed."""
    assert content
    packet = Packet(content)
    return packet.written, packet.is_reviewed


def test_embedded_labels_do_not_become_keywords_of_a_person_in_a_file(
    album: Path, tmp_path: Path, trained: Model
) -> None:
    tag(album, trained, output=tmp_path / "out", **EMBED)
    tag(album, trained, output=tmp_path / "other", **BESIDE)
    assert unreviewed((album / "a.jpg.xmp").read_bytes()) == ({*trained.labels}, False)


def test_labels_in_a_file_stay_those_of_labelr_when_they_are_embedded_too(
    album: Path, tmp_path: Path, trained: Model
) -> None:
    tag(album, trained, output=tmp_path / "out", **BESIDE)
    tag(album, trained, output=tmp_path / "other", **{**EMBED, "threshold": 0.001})
    for content in (packet_in((album / "a.jpg").read_bytes()), (album / "a.jpg.xmp").read_bytes()):
        assert unreviewed(content) == ({*trained.labels}, False)


def test_first_run_that_embeds_writes_labels_into_a_file_without_keywords(
    album: Path, tmp_path: Path, trained: Model
) -> None:
    path = put(album, "a.jpg.xmp", RATING)
    tag(album, trained, output=tmp_path / "out", **EMBED)
    assert unreviewed(path.read_bytes()) == ({*trained.labels}, False)


@pytest.mark.parametrize("kind", ["damaged", "link", "folder"])
def test_image_is_not_changed_if_its_file_cannot_be(album: Path, tmp_path: Path, trained: Model, kind: str) -> None:
    path = album / "a.jpg.xmp"
    if kind == "damaged":
        put(album, path.name, b"\0")
    elif kind == "link":
        path.symlink_to(tmp_path / "nowhere")
    else:
        path.mkdir()
    before = (album / "a.jpg").read_bytes()
    assert tag(album, trained, output=tmp_path / "out", **EMBED).failed == 1
    assert (album / "a.jpg").read_bytes() == before


def test_write_protected_file_beside_an_image_fails(album: Path, tmp_path: Path, trained: Model) -> None:
    path = put(album, "a.jpg.xmp", RATING)
    path.chmod(0o444)
    tag(album, trained, output=tmp_path / "out", **BESIDE)
    assert reason_of(tmp_path / "out", "a.jpg") == "a.jpg.xmp is write-protected"
    assert path.read_text() == RATING
    path.chmod(0o644)
    assert tag(album, trained, output=tmp_path / "out", **BESIDE).failed == 0
    path.chmod(0o444)
    assert tag(album, trained, output=tmp_path / "out", force=True, **BESIDE).failed == 0  # nothing is to be changed


def test_write_protected_image_fails(album: Path, tmp_path: Path, trained: Model) -> None:
    path = album / "a.jpg"
    path.chmod(0o444)
    before = path.read_bytes()
    tag(album, trained, output=tmp_path / "out", **EMBED)
    assert reason_of(tmp_path / "out", "a.jpg") == "a.jpg is write-protected"
    assert path.read_bytes() == before


@pytest.mark.parametrize("length", [251, 255])
def test_name_that_is_too_long_for_a_backup_fails_alone(
    album: Path, tmp_path: Path, trained: Model, length: int
) -> None:
    name = "x" * (length - 4) + ".jpg"
    shutil.copy(album / "a.jpg", album / name)
    summary = tag(album, trained, output=tmp_path / "out", **EMBED)
    assert (summary.ok, summary.failed) == ((3, 0) if length == 251 else (2, 1))


@pytest.mark.parametrize("kind", ["folder", "link", "empty"])
def test_what_is_no_older_original_is_not_taken_for_a_backup(
    album: Path, tmp_path: Path, trained: Model, kind: str
) -> None:
    backup, before = album / "a.jpg.bak", (album / "a.jpg").read_bytes()
    if kind == "folder":
        backup.mkdir()
    elif kind == "link":
        backup.symlink_to(tmp_path / "nowhere")
    else:
        backup.touch()
    tag(album, trained, output=tmp_path / "out", **EMBED)
    assert reason_of(tmp_path / "out", "a.jpg") == "a.jpg.bak is no copy of an original: rename or delete it"
    assert (album / "a.jpg").read_bytes() == before


@pytest.mark.parametrize("raced", [False, True])
def test_backup_without_hard_links_replaces_no_file(
    album: Path, tmp_path: Path, trained: Model, monkeypatch: pytest.MonkeyPatch, *, raced: bool
) -> None:
    backup, before = album / "a.jpg.bak", (album / "a.jpg").read_bytes()

    def refuse(*_: object) -> None:
        if raced:  # by another run
            backup.write_bytes(b"original")
        raise PermissionError

    with monkeypatch.context() as patch:
        patch.setattr(os, "link", refuse)
        _back_up(album / "a.jpg")
    assert backup.read_bytes() == (b"original" if raced else before)
    assert {path.name for path in album.iterdir()} == {"a.jpg", "a.jpg.bak", "b.png"}


def test_image_that_has_a_file_too_gets_labels_in_both(album: Path, tmp_path: Path, trained: Model) -> None:
    put(album, "a.jpg.xmp", DARKTABLE)
    for _ in range(2):
        assert tag(album, trained, output=tmp_path / "out", **EMBED).ok == 2
    packet = packet_in((album / "a.jpg").read_bytes())
    assert packet
    assert Packet(packet).written == Packet((album / "a.jpg.xmp").read_bytes()).written == {*trained.labels}


def test_second_run_after_embedding_tags_nothing(album: Path, tmp_path: Path, trained: Model) -> None:
    tag(album, trained, output=tmp_path / "out", **EMBED)
    before = {path.name: path.stat() for path in album.iterdir()}
    tag(album, trained, output=tmp_path / "out", **EMBED)
    assert counts(tmp_path / "out")["unchanged"] == 2
    assert {path.name: path.stat().st_mtime_ns for path in album.iterdir()} == {
        name: status.st_mtime_ns for name, status in before.items()
    }


def test_backup_is_the_first_original_and_can_be_left_out(album: Path, tmp_path: Path, trained: Model) -> None:
    original = (album / "a.jpg").read_bytes()
    tag(album, trained, output=tmp_path / "out", **EMBED)
    tag(album, trained, output=tmp_path / "other", **{**EMBED, "threshold": 0.99}, xmp_root="auto")
    assert (album / "a.jpg.bak").read_bytes() == original
    (album / "a.jpg.bak").unlink()
    (album / "a.jpg").write_bytes(original)
    tag(album, trained, output=tmp_path / "third", **EMBED, backup=False)
    assert not (album / "a.jpg.bak").exists()


def test_existing_xmp_is_merged_with(album: Path, tmp_path: Path, trained: Model) -> None:
    path = album / "a.jpg"
    path.write_bytes(with_packet(path.read_bytes(), LIGHTROOM.encode()))
    others, decoded = foreign(path), pixels(path)
    tag(album, trained, output=tmp_path / "out", **EMBED)
    assert foreign(path) == others
    assert keywords_of(path)[0] == {*trained.labels, "Oslo", "Norway", "Places"}
    assert pixels(path) == decoded


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"\xff\xd8\xff\xe1\x00\x25http://ns.adobe.com/xmp/extension/\0\xff\xda\x00\x04\0\0", "several parts"),
        (b"\xff\xd8\xff\xe0\xff\xff", "segments are damaged"),
        (b"\xff\xd8\xff\xe0\x00\x01", "segments are damaged"),
        (b"GIF89a", "no JPEG"),
    ],
)
def test_image_that_cannot_hold_xmp_is_refused(content: bytes, reason: str) -> None:
    with pytest.raises(DamagedError, match=reason):
        packet_in(content)


def test_too_long_xmp_is_refused_and_the_image_kept(album: Path, tmp_path: Path, trained: Model) -> None:
    path = album / "a.jpg"
    long = DIGIKAM.replace("At the pier", "x" * (MAX_SEGMENT - len(DIGIKAM.encode()) - 100)).encode()
    path.write_bytes(with_packet(path.read_bytes(), long))
    before = path.read_bytes()
    tag(album, trained, output=tmp_path / "out", **EMBED)
    assert reason_of(tmp_path / "out", "a.jpg").endswith("bytes, and at most 65,533 fit into JPEG")
    assert path.read_bytes() == before


def test_padding_of_a_packet_gives_way_to_labels(album: Path) -> None:
    jpeg = (album / "a.jpg").read_bytes()
    padded = DIGIKAM.replace("</x:xmpmeta>", "</x:xmpmeta>" + " " * 70_000).encode()
    assert packet_in(with_packet(jpeg, padded)) == DIGIKAM.replace("</x:xmpmeta>\n", "</x:xmpmeta>\n").encode()


def test_image_of_several_images_is_not_moved_apart(album: Path) -> None:
    jpeg = (album / "a.jpg").read_bytes()
    several = jpeg[:2] + b"\xff\xe2\x00\x08MPF\0xx" + jpeg[2:]
    first = with_packet(several, DIGIKAM.encode())  # before the positions, which are relative
    assert first.index(b"http://ns.adobe") < first.index(b"MPF\0")
    behind = with_packet(jpeg, DIGIKAM.encode())
    behind = behind[:2] + b"\xff\xe2\x00\x08MPF\0xx" + behind[2:]
    with pytest.raises(DamagedError, match="several images"):
        with_packet(behind, LIGHTROOM.encode())


def test_link_to_an_image_is_not_changed(album: Path, tmp_path: Path, trained: Model) -> None:
    shutil.move(album / "a.jpg", tmp_path / "real.jpg")
    (album / "a.jpg").symlink_to(tmp_path / "real.jpg")
    digest = hashlib.sha256((tmp_path / "real.jpg").read_bytes()).digest()
    tag(album, trained, output=tmp_path / "out", **EMBED)
    assert reason_of(tmp_path / "out", "a.jpg") == "a.jpg is a link, and is not changed"
    assert hashlib.sha256((tmp_path / "real.jpg").read_bytes()).digest() == digest


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["jpg", "png", "tiff", "webp"])
def test_embedded_keywords_of_exiftool_are_read(kind: str, album: Path, tmp_path: Path) -> None:
    path = tmp_path / f"x.{kind}"
    Image.open(album / "a.jpg").save(path)
    run_tool("exiftool", "-q", "-overwrite_original", "-XMP-dc:Subject=Straße", "-XMP-dc:Subject=Pier", path)
    packet, _ = read_embedded(path)
    assert packet is not None
    assert Packet(packet).keywords == [("Straße",), ("Pier",)]


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["jpg", "tiff"])
@pytest.mark.parametrize("charset", ["UTF8", "Latin"])
def test_iptc_keywords_are_read(kind: str, charset: str, album: Path, tmp_path: Path) -> None:
    path = tmp_path / f"x.{kind}"
    Image.open(album / "a.jpg").save(path)
    coded = ["-IPTC:CodedCharacterSet=UTF8"] if charset == "UTF8" else []
    charset_option = ["-charset", f"iptc={charset}"]
    run_tool(
        "exiftool",
        "-q",
        "-overwrite_original",
        *charset_option,
        *coded,
        "-IPTC:Keywords=Straße",
        "-IPTC:Keywords=Pier",
        path,
    )
    assert read_embedded(path)[1] == ["Straße", "Pier"]


# --- options ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--embed", "--in-place"], "`--embed` is of XMP, which is not written"),
        (["--xmp-root", "auto"], "`--xmp-root` is of XMP, which is not written"),
        (["--format", "xmp", "--embed"], "`--embed` changes the images themselves"),
        (["--format", "xmp", "--no-backup"], "without `--embed`, no image is changed"),
        (["--format", "xmp", "-o", "-"], "stdout takes one table or JSON Lines"),
    ],
)
def test_options_that_have_no_meaning_are_refused(cli: Cli, photos: Path, arguments: list[str], message: str) -> None:
    result = cli("tag", photos, *arguments)
    assert result.code == 2
    assert message in result.err


def test_other_root_in_the_same_output_is_refused(album: Path, tmp_path: Path, trained: Model, cli: Cli) -> None:
    options = ["--model", trained.path, "--format", "xmp", "--threshold", "0", "-o", tmp_path / "out"]
    assert cli("tag", album, *options).code == 0
    result = cli("tag", album, *options, "--xmp-root", "auto")
    assert (result.code, "xmp root was none and is auto" in result.err) == (1, True)
    assert cli("tag", album, *options, "--xmp-root", "auto", "--force").code == 0
    assert f"auto|{trained.labels[0]}" in (tmp_path / "out" / "a.jpg.xmp").read_text()
