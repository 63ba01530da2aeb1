"""Which files lie below a folder."""

import os
import shutil
from pathlib import Path

import pytest

from labelr.data.images import find_images, has_image_suffix
from labelr.errors import LabelrError


def touch(folder: Path, *names: str) -> None:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()


def found(folder: Path, *, recursive: bool = True) -> list[str]:
    return [str(path.relative_to(folder)) for path in find_images(folder, recursive=recursive)]


def test_entries_are_sorted_and_folders_descended_in_place(tmp_path: Path) -> None:
    touch(tmp_path, "c.jpg", "a.jpg", "b/2.png", "b/1.png", "b/1/z.gif", "d.webp")
    assert found(tmp_path) == ["a.jpg", "b/1/z.gif", "b/1.png", "b/2.png", "c.jpg", "d.webp"]


def test_not_recursive_leaves_folders_out(tmp_path: Path) -> None:
    touch(tmp_path, "a.jpg", "b/1.png")
    assert found(tmp_path, recursive=False) == ["a.jpg"]


def test_other_files_are_passed_over(tmp_path: Path) -> None:
    touch(tmp_path, "a.jpg", "labels.csv", "notes", "a.jpg.txt", "jpg")
    assert found(tmp_path) == ["a.jpg"]


@pytest.mark.parametrize("name", [".a.jpg", ".hidden/a.jpg", "__MACOSX/a.jpg", "Thumbs.db", "Thumbs.db/a.jpg"])
def test_junk_is_passed_over(name: str, tmp_path: Path) -> None:
    touch(tmp_path, name, "b.jpg")
    assert found(tmp_path) == ["b.jpg"]


def test_charts_of_a_report_are_passed_over_and_folders_of_that_name_are_not(tmp_path: Path) -> None:
    touch(tmp_path, "a.jpg", "out/report/report.html", "out/report/history.png", "report/b.jpg")
    assert found(tmp_path) == ["a.jpg", "report/b.jpg"]
    assert found(tmp_path / "out" / "report") == ["history.png"]


@pytest.mark.parametrize("suffix", ["avif", "bmp", "gif", "jpeg", "jpg", "png", "tif", "tiff", "webp", "heic", "heif"])
def test_suffix_is_an_images_in_small_and_capital_letters(suffix: str) -> None:
    assert has_image_suffix(f"a.{suffix}")
    assert has_image_suffix(f"a.{suffix.upper()}")


@pytest.mark.parametrize("name", ["", "jpg", ".jpg", "a.jpg.csv", "a.", "a.jpgx"])
def test_suffix_of_something_else_is_not_an_images(name: str) -> None:
    assert not has_image_suffix(name)


def test_link_back_to_a_folder_above_ends(tmp_path: Path) -> None:
    touch(tmp_path, "a/1.jpg", "b.jpg")
    (tmp_path / "a" / "up").symlink_to(tmp_path)
    assert found(tmp_path) == ["a/1.jpg", "b.jpg"]


def test_linked_folder_is_descended(tmp_path: Path) -> None:
    touch(tmp_path, "photos/1.jpg", "elsewhere/2.jpg")
    (tmp_path / "photos" / "more").symlink_to(tmp_path / "elsewhere")
    assert found(tmp_path / "photos") == ["1.jpg", "more/2.jpg"]


def test_link_to_nothing_is_found_so_that_it_is_reported(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").symlink_to("gone.jpg")
    assert found(tmp_path) == ["a.jpg"]


@pytest.mark.parametrize("name", ["missing", "file.txt"])
def test_what_is_no_folder_cannot_be_listed(name: str, tmp_path: Path) -> None:
    touch(tmp_path, "file.txt")
    with pytest.raises(LabelrError, match=f"cannot list the folder .*{name}"):
        list(find_images(tmp_path / name))


def test_folder_below_that_cannot_be_listed_is_an_error(tmp_path: Path) -> None:
    touch(tmp_path, "a.jpg")
    here = os.open(tmp_path, os.O_RDONLY)
    for _ in range(20):  # a path of more than 4,096 bytes, which not even root can name
        os.mkdir("n" * 250, dir_fd=here)
        below = os.open("n" * 250, os.O_RDONLY, dir_fd=here)
        os.close(here)
        here = below
    os.close(here)
    try:
        with pytest.raises(LabelrError, match="cannot list the folder"):
            list(find_images(tmp_path))
    finally:
        shutil.rmtree(tmp_path / ("n" * 250))
