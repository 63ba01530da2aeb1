"""Keywords of photo software as labels."""

import shutil
from collections.abc import Iterable
from pathlib import Path

import pytest
from conftest import Cli, assert_table, error_of, put, read_table
from PIL import Image
from xmp_samples import DARKTABLE, DIGIKAM, EXIFTOOL, LIGHTROOM, run_tool

from labelr.config import ReadOptions
from labelr.data.load import load_dataset
from labelr.errors import LabelrError, UnconfirmedError
from labelr.model.predict import Model
from labelr.tagging.tag import tag
from labelr.xmp.merging import merge
from labelr.xmp.packet import Record

NAN = float("nan")
RECORD = Record("1" * 64, probabilities={"dog": 0.9, "cat": 0.2})


def make_album(folder: Path, sidecars: dict[str, str | bytes], images: Iterable[str] = ()) -> Path:
    """Images that may not open, and XMP files."""
    for name in (*images, *(name.removesuffix(".xmp") for name in sidecars if name.count(".") > 1)):
        put(folder, name)
    for name, content in sidecars.items():
        put(folder, name, content)
    return folder


def tagged(*labels: str, content: str | None = None, record: Record = RECORD) -> bytes:
    return merge(None if content is None else content.encode(), labels, record) or b""


def test_folder_with_xmp_files_is_recognised(tmp_path: Path) -> None:
    make_album(tmp_path, {"a.jpg.xmp": DIGIKAM, "deep/b.jpg.xmp": LIGHTROOM, "c.xmp": EXIFTOOL}, ["c.png", "d.jpg"])
    table = read_table(tmp_path)
    everywhere = [0.0, 1.0, 1.0, 1.0]
    assert_table(
        table,
        ["a.jpg", "c.png", "deep/b.jpg"],
        ["Beach", "Norway", "Oslo", "Places"],
        [[1] * 4, everywhere, everywhere],
    )
    assert table.layout == "keywords of photo software in XMP beside images"
    assert "images without keywords, left out: 1" in table.findings.notes


def test_xmp_files_may_end_in_upper_case(tmp_path: Path) -> None:
    make_album(tmp_path / "upper", {"a.XMP": DIGIKAM, "b.jpg.XMP": LIGHTROOM, "b.jpg.xmp": EXIFTOOL}, ["a.jpg"])
    make_album(tmp_path / "lower", {"a.xmp": DIGIKAM, "b.jpg.xmp": EXIFTOOL}, ["a.jpg"])
    upper, lower = read_table(tmp_path / "upper"), read_table(tmp_path / "lower")
    assert_table(upper, ["a.jpg", "b.jpg"], lower.labels, lower.targets.tolist())


def test_images_without_keywords_are_said_only_where_there_are_some(tmp_path: Path) -> None:
    make_album(tmp_path, {"a.jpg.xmp": DIGIKAM, "b.jpg.xmp": DARKTABLE})
    assert not any("without keywords" in note for note in read_table(tmp_path).findings.notes)


def test_lowest_level_alone_is_a_label_on_request(tmp_path: Path) -> None:
    make_album(tmp_path, {"a.jpg.xmp": DIGIKAM, "b.jpg.xmp": DARKTABLE})
    assert_table(read_table(tmp_path, leaf_only=True), ["a.jpg", "b.jpg"], ["Beach", "Oslo"], [[1, 1], [0, 1]])


def test_leaf_only_is_of_keywords(tmp_path: Path) -> None:
    put(tmp_path, "labels.csv", "filename,dog\na.jpg,1\n")
    put(tmp_path, "a.jpg")
    assert error_of(tmp_path, leaf_only=True).message.endswith("has no keywords of photo software")


def test_state_of_darktable_is_no_label(tmp_path: Path) -> None:
    make_album(tmp_path, {"a.jpg.xmp": DARKTABLE})
    assert read_table(tmp_path).labels == ("Norway", "Oslo", "Places")


def test_xmp_files_without_keywords_do_not_make_a_layout(tmp_path: Path) -> None:
    plain = DIGIKAM.replace("dc:subject", "dc:x").replace("lr:hier", "lr:x").replace("digiKam:TagsList", "digiKam:x")
    make_album(tmp_path, {"dog/a.jpg.xmp": plain, "cat/b.jpg.xmp": plain})
    assert read_table(tmp_path).labels == ("cat", "dog")  # the folders


def test_file_that_belongs_to_the_name_comes_before_that_of_the_stem(tmp_path: Path) -> None:
    make_album(tmp_path, {"a.jpg.xmp": EXIFTOOL, "a.xmp": DIGIKAM})
    assert read_table(tmp_path).labels == ("Norway", "Oslo", "Places")


@pytest.mark.slow
def test_keywords_in_images_are_read_where_the_layout_is_named(tmp_path: Path) -> None:
    for name in ("a.jpg", "b.png", "c.tif", "d.webp", "e.jpg"):
        Image.new("RGB", (40, 40)).save(tmp_path / name)
    for name, option in {
        "a.jpg": "IPTC:Keywords",
        "b.png": "XMP-dc:Subject",
        "c.tif": "IPTC:Keywords",
        "d.webp": "XMP-dc:Subject",
    }.items():
        run_tool("exiftool", "-q", "-overwrite_original", f"-{option}={name[0]}", tmp_path / name)
    put(tmp_path, "a.jpg.xmp", EXIFTOOL)
    assert read_table(tmp_path).files == ("a.jpg",)
    table = read_table(tmp_path, layout="xmp")
    assert table.files == ("a.jpg", "b.png", "c.tif", "d.webp")
    assert table.labels == ("Norway", "Oslo", "Places", "b", "c", "d")  # a file beside the image has precedence


def test_nothing_to_read_is_an_error(tmp_path: Path) -> None:
    put(tmp_path, "a.jpg")
    assert error_of(tmp_path, layout="xmp").message == f"{tmp_path}: the keywords of its images do not exist"


def test_damaged_file_is_an_error_or_left_out(tmp_path: Path) -> None:
    make_album(tmp_path, {"a.jpg.xmp": DIGIKAM, "b.jpg.xmp": DIGIKAM[:800]})
    assert error_of(tmp_path).message.startswith(f"the XMP in {tmp_path / 'b.jpg.xmp'} is damaged: ")
    table = read_table(tmp_path, skip_invalid=True)
    assert table.files == ("a.jpg",)
    assert len(table.findings.invalid) == 1


# --- what labelr wrote -----------------------------------------------------------------------------------------------


def test_keywords_of_labelr_are_not_taken_for_truth(tmp_path: Path) -> None:
    make_album(tmp_path, {"a.jpg.xmp": tagged("dog"), "b.jpg.xmp": DIGIKAM})
    with pytest.raises(UnconfirmedError, match="the labels of 1 of 2 images are predictions"):
        load_dataset([tmp_path], ReadOptions())
    table = read_table(tmp_path, trust_predictions=False)
    assert table.files == ("b.jpg",)
    assert read_table(tmp_path, trust_predictions=True).files == ("a.jpg", "b.jpg")


def test_own_keywords_of_an_unreviewed_image_confirm_no_others(tmp_path: Path) -> None:
    make_album(tmp_path, {"a.jpg.xmp": tagged("dog", content=LIGHTROOM), "b.jpg.xmp": DIGIKAM})
    table = read_table(tmp_path, trust_predictions=False)
    assert_table(table, ["a.jpg", "b.jpg"], ["Beach", "Norway", "Oslo", "Places"], [[NAN, 1, 1, 1], [1] * 4])


def test_corrected_and_marked_images_are_reviewed(tmp_path: Path) -> None:
    removed = tagged("dog", "cat").replace(b"<rdf:li>cat</rdf:li>", b"", 1)
    marked = tagged("dog").replace(b"<rdf:li>dog</rdf:li>", b"<rdf:li>dog</rdf:li><rdf:li>Reviewed</rdf:li>", 1)
    nothing = tagged("dog").replace(b"<rdf:li>dog</rdf:li>", b"<rdf:li>confirmed</rdf:li>", 1)
    make_album(tmp_path, {"a.jpg.xmp": removed, "b.jpg.xmp": marked, "c.jpg.xmp": nothing, "d.jpg.xmp": tagged("cat")})
    table = read_table(tmp_path, trust_predictions=False)
    assert_table(table, ["a.jpg", "b.jpg", "c.jpg"], ["dog"], [[1], [1], [0]])
    assert "keywords that `labelr tag` wrote: on 4 images, 3 reviewed" in table.findings.notes


def test_keywords_that_somebody_reviewed_elsewhere_are_those_of_the_image(tmp_path: Path) -> None:
    both, corrected = tagged("dog", "cat"), tagged("dog", "cat").replace(b"<rdf:li>cat</rdf:li>", b"", 1)
    make_album(tmp_path, {"a.jpg.xmp": both, "a.xmp": corrected})
    Image.new("RGB", (40, 40)).save(tmp_path / "b.jpg", xmp=corrected)
    put(tmp_path, "b.jpg.xmp", both)
    for layout, files in (("auto", ["a.jpg"]), ("xmp", ["a.jpg", "b.jpg"])):
        table = read_table(tmp_path, trust_predictions=False, layout=layout)
        assert_table(table, files, ["dog"], [[1]] * len(files))


def test_review_of_another_image_of_the_same_stem_does_not_count(tmp_path: Path) -> None:
    corrected = tagged("dog", "cat").replace(b"<rdf:li>cat</rdf:li>", b"", 1)
    make_album(tmp_path, {"a.jpg.xmp": tagged("dog"), "a.xmp": corrected}, ["a.png"])
    assert read_table(tmp_path, trust_predictions=False).files == ("a.png",)


def test_image_in_which_the_model_found_nothing_is_not_reviewed(tmp_path: Path) -> None:
    make_album(tmp_path, {"a.jpg.xmp": tagged(content=LIGHTROOM), "b.jpg.xmp": tagged("dog", "cat", content=DIGIKAM)})
    table = read_table(tmp_path, trust_predictions=False)
    assert_table(table, ["a.jpg", "b.jpg"], ["Beach", "Norway", "Oslo", "Places"], [[NAN, 1, 1, 1], [1] * 4])
    assert not [note for note in table.findings.notes if "all keywords were removed" in note]


def test_folders_of_labels_with_keywords_of_a_person_are_ambiguous(tmp_path: Path) -> None:
    make_album(tmp_path, {"beach/a.jpg.xmp": DIGIKAM}, ["beach/b.jpg", "forest/c.jpg"])
    error = error_of(tmp_path)
    assert "fits 2 layouts" in error.message
    assert "`xmp`" in (error.hint or "")
    assert read_table(tmp_path, layout="folders").labels == ("beach", "forest")


def test_predictions_in_folders_of_labels_are_no_labels(tmp_path: Path) -> None:
    make_album(tmp_path, {"beach/a.jpg.xmp": tagged("dog")}, ["beach/b.jpg", "forest/c.jpg"])
    assert read_table(tmp_path).labels == ("beach", "forest")


def test_root_of_labelr_is_no_label(tmp_path: Path) -> None:
    content = tagged("animal/dog", record=RECORD._replace(root="auto|labelr"))
    make_album(tmp_path, {"a.jpg.xmp": content})
    assert read_table(tmp_path, trust_predictions=True).labels == ("animal", "dog")


def test_all_images_unreviewed_is_an_error(tmp_path: Path) -> None:
    make_album(tmp_path, {"a.jpg.xmp": tagged("dog")})
    error = error_of(tmp_path, trust_predictions=False)
    assert error.message.endswith("the keywords of its images are predictions that nobody reviewed")


def test_loop_from_tag_over_a_correction_to_fit(shapes: Path, tmp_path: Path, trained: Model, cli: Cli) -> None:
    shutil.copytree(shapes / "images", tmp_path / "album")
    tag(tmp_path / "album", trained, output=tmp_path / "out", format=("xmp",), threshold=0, in_place=True)
    label = trained.labels[0]
    for path in sorted((tmp_path / "album").glob("*.xmp"))[:20]:
        path.write_bytes(path.read_bytes().replace(f"<rdf:li>{label}</rdf:li>".encode(), b"", 1))
    checked = cli("check", tmp_path / "album", "--no-trust-predictions", "--json")
    assert f'"{label}"' not in checked.out
    table = read_table(tmp_path / "album", trust_predictions=False)
    assert (len(table), table.labels) == (20, tuple(sorted(trained.labels[1:])))


def test_files_in_the_output_directory_are_read(photos: Path, tmp_path: Path, trained: Model) -> None:
    (photos / "deep" / "broken.jpg").unlink()
    tag(photos, trained, output=tmp_path / "out", format=("xmp",), threshold=0)
    path = tmp_path / "out" / "a.png.xmp"
    path.write_bytes(path.read_bytes().replace(f"<rdf:li>{trained.labels[0]}</rdf:li>".encode(), b"", 1))
    table = read_table(photos, labels=[str(tmp_path / "out")], trust_predictions=False)
    assert table.files == ("a.png",)
    with pytest.raises(LabelrError, match="3 of 4 images"):
        load_dataset([photos], ReadOptions.of(labels=[str(tmp_path / "out")]))
    assert f"--labels {tmp_path / 'out'}`" in (error_of(tmp_path / "out").hint or "")


def test_output_for_images_below_their_folder_is_read(photos: Path, tmp_path: Path, trained: Model) -> None:
    (photos / "deep" / "broken.jpg").unlink()
    (tmp_path / "data").mkdir()
    photos.rename(tmp_path / "data" / "images")
    tag(tmp_path / "data", trained, output=tmp_path / "out", format=("xmp",), threshold=0)
    table = read_table(tmp_path / "data", labels=[str(tmp_path / "out")], trust_predictions=True)
    assert len(table) == 4
