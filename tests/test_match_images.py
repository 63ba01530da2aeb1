"""How names in label files become image files."""

from pathlib import Path

import pytest
from conftest import case, put

from labelr.data.match_images import ImageFinder, Match
from labelr.data.walk import FileIndex
from labelr.errors import LabelrError


def match(folder: Path, files: list[str], names: list[str]) -> Match:
    for file in files:
        put(folder, file)
    return ImageFinder(folder, FileIndex()).find(names, [folder / "images", folder])


def find(folder: Path, files: list[str], names: list[str], parts: list[str] | None = None) -> list[str | None]:
    for file in files:
        put(folder, file)
    return ImageFinder(folder, FileIndex()).find(names, [folder / "images", folder], parts).files


@pytest.mark.parametrize(
    ("file", "name"),
    [
        ("a.jpg", "a.jpg"),
        ("a.jpg", "a"),
        ("a.JPG", "a.jpg"),
        ("images/a.jpg", "a.jpg"),
        ("images/a.jpg", "images/a.jpg"),
        ("images/x/a.jpg", "x/a.jpg"),
        ("x/a.jpg", "./x//a.jpg"),
        ("x/a.jpg", "x\\a.jpg"),
        ("x/a.jpg", "C:\\Users\\me\\x\\a.jpg"),
        ("x/a.jpg", "/home/me/photos/x/a.jpg"),
        ("x/a.jpg", "gs://bucket/x/a.jpg"),
        ("img#1.jpg", "gs://bucket/img#1.jpg"),
        ("x/a%20b?.jpg", "s3://bucket/x/a%20b?.jpg"),
        ("a b.jpg", "file:///home/me/photos/a%20b.jpg"),
        ("a b.jpg", "https://example.org/photos/a%20b.jpg?size=big"),
        ("x/a.jpg", "/data/local-files/?d=photos/x/a.jpg"),
        ("a.jpg", "/data/upload/1/ab12cd34-a.jpg"),
        ("ab12cd34-a.jpg", "/data/upload/1/ab12cd34-a.jpg"),
        ("deep/er/a.jpg", "a.jpg"),
        ("0001", "0001"),
        ("a.b.jpg", "a.b"),
        ("a\\b.jpg", "a\\b.jpg"),
        ("été.jpg", "été.jpg"),
        ("e\u0301te\u0301.jpg", "\u00e9t\u00e9.jpg"),
        ("caf\udce9.jpg", "caf\udce9.jpg"),
        ("caf\udce9.jpg", "caf\u00e9.jpg"),
    ],
)
def test_name_is_found(file: str, name: str, tmp_path: Path) -> None:
    assert find(tmp_path, [file], [name]) == [file]


@pytest.mark.parametrize(
    ("files", "names", "expected"),
    [
        (["cats/2.jpg", "dogs/1.jpg"], ["cats/1.jpg", "cats/2.jpg"], [None, "cats/2.jpg"]),
        (["p/cats/2.jpg", "p/dogs/1.jpg"], ["x/y/cats/1.jpg", "x/y/cats/2.jpg"], [None, "p/cats/2.jpg"]),
        (["a.png", "a.webp"], ["a.jpg"], [None]),
        (["a.png"], ["a.png", "a.jpg"], ["a.png", None]),
        (["a.png", "b.jpg"], ["a.gif", "a.jpg", "b.jpg"], [None, None, "b.jpg"]),
        (["cats/2.jpg", "masks/1.png"], ["cats/1.jpg", "cats/2.jpg"], [None, "cats/2.jpg"]),
        (["images/2.jpg", "masks/1.png"], ["1.jpg", "2.jpg"], [None, "images/2.jpg"]),
        (["a b.jpg"], ["a_b.jpg"], [None]),
        (["a b.jpg"], ["ab.jpg"], [None]),
        (["a.jpg"], ["", "a.jpg"], [None, "a.jpg"]),
        (["a.jpg"], ["a.jpg", "x" * 5000, "a\0b"], ["a.jpg", None, None]),
    ],
    ids=[
        "folder",
        "folder_in_front",
        "two_endings",
        "taken",
        "claimed_twice",
        "ending_elsewhere",
        "mask",
        "underscore",
        "no_space",
        "empty",
        "impossible",
    ],
)
def test_image_that_is_not_there_is_never_taken_for_another(
    files: list[str], names: list[str], expected: list[str | None], tmp_path: Path
) -> None:
    assert find(tmp_path, files, names) == expected


def test_image_outside_of_the_folder_is_found_by_its_whole_path(tmp_path: Path) -> None:
    outside = put(tmp_path, "elsewhere/a.jpg")
    (tmp_path / "data").mkdir()
    assert find(tmp_path / "data", ["b.jpg"], [str(outside), "b.jpg"]) == [str(outside), "b.jpg"]
    assert find(tmp_path / "data", [], ["../elsewhere/a.jpg"]) == [str(outside)]


@pytest.mark.parametrize(
    ("files", "name"), [(["x/a.jpg", "y/a.jpg"], "a.jpg"), (["a.jpg", "a.png"], "a")], ids=["folders", "endings"]
)
def test_name_that_may_mean_two_images_is_an_error(files: list[str], name: str, tmp_path: Path) -> None:
    with pytest.raises(LabelrError, match=f"{name} may mean any of 2 images in .*: {', '.join(files)}") as caught:
        find(tmp_path, files, [name])
    assert "--images" in caught.value.hint


def test_part_decides_between_two_images_of_one_name(tmp_path: Path) -> None:
    files = ["train2017/a.jpg", "val2017/a.jpg"]
    assert find(tmp_path, files, ["a.jpg", "a.jpg"], ["train", "val"]) == files


def test_first_folder_is_preferred(tmp_path: Path) -> None:
    assert find(tmp_path, ["images/x/a.jpg", "thumbs/x/a.jpg"], ["a.jpg"]) == ["images/x/a.jpg"]


def test_relative_folder_is_searched_like_any(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    put(tmp_path, "images/a.jpg")
    monkeypatch.chdir(tmp_path)
    assert ImageFinder(Path(), FileIndex()).find(["a.jpg"], [Path("images"), Path()]).files == ["images/a.jpg"]


def test_image_in_a_folder_of_another_part_is_not_that_of_the_label_file(tmp_path: Path) -> None:
    for file in ("train/b.jpg", "valid/a.jpg", "other/c.jpg"):
        put(tmp_path, file)
    finder = ImageFinder(tmp_path, FileIndex())
    assert finder.find(["a.jpg", "b.jpg", "c.jpg"], [tmp_path], own_split="train").files == [
        None, "train/b.jpg", "other/c.jpg",
    ]  # fmt: skip
    assert finder.find(["a.jpg", "b.jpg"], [tmp_path], own_split="test").files == ["valid/a.jpg", "train/b.jpg"]


# --- near misses -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("file", "name"),
    [
        ("a.jpeg", "a.jpg"),
        ("x/a.png", "x/A.JPG"),
        ("at 3.14\u202fPM.png", "at 3.14 PM.png"),
        ("at 3.14 PM.png", "at 3.14\u00a0PM.png"),
        ("a  b.jpg", "a b.jpg"),
        ("a b.jpg", "a b .jpg"),
        ("a .jpg", "a.jpg"),
        ("a .jpg", "a"),
        (" a.jpg", "a.jpg"),
        ("a.jpg", "a.jpg\u00a0"),
        ("x /a.jpg", "x/a.jpg"),
        ("a b.jpg", "a%20b.jpg"),
        ("a b.png", "a\u3000b.jpg"),
        ("a.jpg", "\u202aa.jpg"),
        ("e\u0301\u00a0b.jpg", "\u00e9 b.jpg"),
        ("deep/er/a\u00a0b.jpg", "a b.jpg"),
        ("images/x/a b.jpeg", "C:\\photos\\x\\a b.jpg"),
        ("a.png", "a.dcm"),
        ("a.JPG", "a.CR2"),
        ("a.jpg ", "a.jpg"),
        ("a.jpg ", "a"),
        ("a.jpg", "a. jpg"),
        ("a.jpg", "a.jpg.jpg"),
        ("a.jpg.jpeg", "a.jpg"),
        ("a.png", "a.dcm.png"),
        ("a.png", "a.nii.gz"),
        ("a.jpg", "a.xml"),
    ],
    ids=ascii,
)
def test_only_file_that_differs_in_ending_or_spaces_is_found(file: str, name: str, tmp_path: Path) -> None:
    assert match(tmp_path, [file], [name]).files == [file]


@pytest.mark.parametrize(
    ("file", "name", "difference"),
    [
        ("a.jpeg", "a.jpg", "the endings of"),
        ("a\u202fb.jpg", "a b.jpg", "spaces in"),
        ("a  b.png", "a b.jpg", "the endings of and spaces in"),
        ("a.jpg", "a.jpg\u00a0", "spaces in"),
        ("a.jpg ", "a.jpg", "spaces in"),
        ("a.jpg", "a. jpg", "spaces in"),
        ("a.jpg", "a.jpg.jpg", "the endings of"),
        ("a.png", "a.dcm", "the endings of"),
        ("A.JPG", "a.jpg", "upper and lower case in"),
        ("e\u0301.jpg", "\u00e9.jpg", "accents in"),
    ],
)
def test_what_differs_is_said_with_an_example(file: str, name: str, difference: str, tmp_path: Path) -> None:
    shown = file.replace("\u202f", "\\u202f")
    assert match(tmp_path, [file], [name]).notes == (
        f"images found although {difference} their names differ: 1, such as {name} ({shown})",
    )


@pytest.mark.parametrize(("file", "name"), [("a.jpg", "a.jpg"), ("a.jpg", "a"), ("images/a.jpg", "a.jpg")])
def test_nothing_is_said_of_names_that_are_those_of_the_files(file: str, name: str, tmp_path: Path) -> None:
    assert match(tmp_path, [file], [name]).notes == ()


def test_picture_beside_a_raw_file_is_meant(tmp_path: Path) -> None:
    assert find(tmp_path, ["a.CR2", "a.JPG", "b.CR2"], ["a.CR2", "b.CR2"]) == ["a.JPG", "b.CR2"]


def test_picture_that_another_name_means_is_not_that_of_a_raw_file(tmp_path: Path) -> None:
    assert find(tmp_path, ["a.CR2", "a.JPG"], ["a.CR2", "a.JPG"]) == ["a.CR2", "a.JPG"]


@pytest.mark.parametrize(
    ("files", "name", "expected"),
    [
        (["cats/1.jpeg", "cats/1.png"], "cats/1.jpg", "there is cats/1.jpeg and cats/1.png"),
        (["dogs/1.jpg"], "cats/1.jpg", "there is dogs/1.jpg"),
        (["dogs/1.png"], "cats/1.jpg", "there is dogs/1.png"),
        (["cats/img_0001.jpg"], "cats/IMG-1.jpg", "there is cats/img_0001.jpg"),
        (["a/1.jpg", "b/1.jpg", "c/1.jpg"], "cats/1.jpg", "there is a/1.jpg, b/1.jpg and 1 more"),
        (["cats/3.jpg"], "cats/1.jpg", ""),
    ],
)
def test_what_is_like_a_missing_image_is_named(files: list[str], name: str, expected: str, tmp_path: Path) -> None:
    found = match(tmp_path, [*files, "cats/2.jpg"], [name, "cats/2.jpg"])
    assert found.files == [None, "cats/2.jpg"]
    assert found.similar == (expected, "")


def test_screenshots_with_unusual_spaces_are_found() -> None:
    folder = case("odd-spaces-in-names") / "data"
    names = [line.split(",")[0] for line in (folder / "labels.csv").read_text("utf-8").splitlines()[1:]]
    found = ImageFinder(folder, FileIndex()).find(names, [folder])
    assert found.total == len(names) == 40
    (note,) = found.notes
    assert note.startswith("images found although spaces in their names differ: 30, such as Screenshot ")
    assert "10\\u202fPM.png" in note


def test_absolute_path_into_the_folder_is_the_relative_name(tmp_path: Path) -> None:
    names = [str(tmp_path / "a.jpg"), f"{tmp_path}/images/../x/b.jpg", "c.jpg"]
    assert find(tmp_path, ["a.jpg", "x/b.jpg", "images/c.jpg"], names) == ["a.jpg", "x/b.jpg", "images/c.jpg"]


def test_absolute_path_through_a_link_to_the_folder_is_the_relative_name(tmp_path: Path) -> None:
    folder = put(tmp_path, "photos/a.jpg").parent
    (tmp_path / "link").symlink_to(folder)
    finder = ImageFinder(tmp_path / "link", FileIndex())
    assert finder.find([str(folder / "a.jpg"), f"{tmp_path}/link/a.jpg"], [tmp_path / "link"]).files == ["a.jpg"] * 2
