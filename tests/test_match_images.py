"""How names in label files become image files."""

from pathlib import Path

import pytest
from conftest import put

from labelr.data.images import FileIndex
from labelr.data.match_images import ImageFinder
from labelr.errors import LabelrError


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
        (["a.png"], ["a.jpg"], [None]),
        (["a.jpg"], ["", "a.jpg"], [None, "a.jpg"]),
        (["a.jpg"], ["a.jpg", "x" * 5000, "a\0b"], ["a.jpg", None, None]),
    ],
    ids=["folder", "folder_in_front", "ending", "empty", "impossible"],
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
