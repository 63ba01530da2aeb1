"""Which files are found below folders, and what is said of the others."""

import os
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import case, put

from labelr.data.walk import FileIndex, PassedOver, Walker, find_images, has_image_suffix, matches
from labelr.errors import LabelrError


def touch(folder: Path, *names: str) -> None:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()


def found(folder: Path, *, recursive: bool = True) -> list[str]:
    return [str(path.relative_to(folder)) for path in find_images(folder, recursive=recursive)]


def test_files_are_found_depth_first_in_sorted_order(tmp_path: Path) -> None:
    touch(tmp_path, "c.jpg", "a.jpg", "b/2.png", "b/1.png", "b/1/z.gif", "d.webp")
    assert found(tmp_path) == ["a.jpg", "b/1/z.gif", "b/1.png", "b/2.png", "c.jpg", "d.webp"]


def test_subfolders_are_skipped_without_recursive(tmp_path: Path) -> None:
    touch(tmp_path, "a.jpg", "b/1.png")
    assert found(tmp_path, recursive=False) == ["a.jpg"]


def test_other_files_are_skipped(tmp_path: Path) -> None:
    touch(tmp_path, "a.jpg", "labels.csv", "notes", "a.jpg.txt", "jpg")
    assert found(tmp_path) == ["a.jpg"]


@pytest.mark.parametrize("name", [".a.jpg", ".hidden/a.jpg", "__MACOSX/a.jpg", "Thumbs.db", "Thumbs.db/a.jpg"])
def test_junk_is_skipped(name: str, tmp_path: Path) -> None:
    touch(tmp_path, name, "b.jpg")
    assert found(tmp_path) == ["b.jpg"]


def test_charts_of_a_report_are_skipped_but_not_other_folders_of_that_name(tmp_path: Path) -> None:
    touch(tmp_path, "a.jpg", "out/report/report.html", "out/report/history.png", "report/b.jpg")
    assert found(tmp_path) == ["a.jpg", "report/b.jpg"]
    assert found(tmp_path / "out" / "report") == ["history.png"]


@pytest.mark.parametrize(
    "suffix",
    ["avif", "bmp", "gif", "jpeg", "jpg", "png", "tif", "tiff", "webp", "heic", "heif", "hif", "jfif", "jpe", "jp2",
     "mpo"],
)  # fmt: skip
def test_image_suffixes_in_lower_and_upper_case(suffix: str) -> None:
    assert has_image_suffix(f"a.{suffix}")
    assert has_image_suffix(f"a.{suffix.upper()}")


@pytest.mark.parametrize("name", ["", "jpg", ".jpg", "a.jpg.csv", "a.", "a.jpgx"])
def test_other_suffixes_are_not_of_images(name: str) -> None:
    assert not has_image_suffix(name)


JPEG = b"\xff\xd8\xff\xe0\x00\x10JFIF"


def test_space_after_the_ending_of_an_image_does_not_hide_it(tmp_path: Path) -> None:
    touch(tmp_path, "a.jpg ", "b.PNG\u00a0", "c.txt ")
    assert found(tmp_path) == ["a.jpg ", "b.PNG\u00a0"]
    assert passed_over(tmp_path) == PassedOver()


@pytest.mark.parametrize(
    "content",
    [
        JPEG,
        b"\x89PNG\r\n\x1a\n",
        b"GIF89a",
        b"II*\0\x08",
        b"RIFF\n\n\0\0WEBPVP8 ",
        b"\0\0\0 ftypavif",
        b"BM6\x03\0\0\0\0\0\0",
    ],
)
def test_file_without_an_ending_is_an_image_by_its_content(content: bytes, tmp_path: Path) -> None:
    put(tmp_path, "0001", content)
    put(tmp_path, "0001.dat", content)
    assert found(tmp_path) == ["0001"]


@pytest.mark.parametrize("content", [b"", b"BM is a text", b"RIFF of nothing", b"# notes"])
def test_file_without_an_ending_and_other_content_is_no_image(content: bytes, tmp_path: Path) -> None:
    put(tmp_path, "0001", content)
    assert found(tmp_path) == []


def test_pipe_without_an_ending_is_not_opened(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    assert found(tmp_path) == []


def test_link_back_to_a_parent_folder_is_not_followed(tmp_path: Path) -> None:
    touch(tmp_path, "a/1.jpg", "b.jpg")
    (tmp_path / "a" / "up").symlink_to(tmp_path)
    assert found(tmp_path) == ["a/1.jpg", "b.jpg"]


def test_linked_folder_is_followed(tmp_path: Path) -> None:
    touch(tmp_path, "photos/1.jpg", "elsewhere/2.jpg")
    (tmp_path / "photos" / "more").symlink_to(tmp_path / "elsewhere")
    assert found(tmp_path / "photos") == ["1.jpg", "more/2.jpg"]


def test_broken_link_is_found(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").symlink_to("gone.jpg")
    assert found(tmp_path) == ["a.jpg"]


@pytest.mark.parametrize("name", ["missing", "file.txt"])
def test_missing_folder_or_file_cannot_be_listed(name: str, tmp_path: Path) -> None:
    touch(tmp_path, "file.txt")
    with pytest.raises(LabelrError, match=f"cannot list the folder .*{name}"):
        list(find_images(tmp_path / name))


@pytest.mark.parametrize("folders", [("b", ""), ("", "b"), ("c", "b", ""), ("", "b", "b/d")])
def test_index_finds_what_a_walk_finds_in_any_order_of_folders(folders: tuple[str, ...], tmp_path: Path) -> None:
    touch(tmp_path, "a.jpg", "b/1.jpg", "b/d/2.jpg", "bc/3.jpg", "c/4.jpg")
    index = FileIndex()
    for folder in folders:
        assert list(index.find_images(tmp_path / folder)) == list(find_images(tmp_path / folder))


def test_index_walks_a_folder_once(tmp_path: Path) -> None:
    touch(tmp_path, "b/1.jpg")
    index = FileIndex()
    before = list(index.find_images(tmp_path))
    touch(tmp_path, "b/2.jpg")
    assert list(index.find_images(tmp_path)) == list(index.find_images(tmp_path / "b")) == before


def test_subfolder_that_cannot_be_listed_is_counted_and_stops_nothing(
    tmp_path: Path, forbid: Callable[[Path], None]
) -> None:
    touch(tmp_path, "a.jpg", "b/1.jpg", "c/2.jpg")
    forbid(tmp_path / "b")
    walker = Walker(tmp_path)
    assert list(walker.images(tmp_path)) == [tmp_path / "a.jpg", tmp_path / "c" / "2.jpg"]
    assert walker.passed_over == PassedOver(unreadable={tmp_path / "b": "permission denied"})


def test_folder_itself_that_cannot_be_listed_is_an_error(tmp_path: Path, forbid: Callable[[Path], None]) -> None:
    touch(tmp_path, "b/1.jpg")
    forbid(tmp_path / "b")
    for find in (FileIndex().find_images, find_images):
        with pytest.raises(LabelrError, match=r"cannot list the folder .*b: permission denied"):
            list(find(tmp_path / "b"))


# --- what is passed over ---------------------------------------------------------------------------------------------


def passed_over(folder: Path, *ignore: str) -> PassedOver:
    walker = Walker(folder, ignore=ignore)
    list(walker.files(folder))
    return walker.passed_over


@pytest.mark.parametrize(
    "name",
    ["@eaDir", "#recycle", "$RECYCLE.BIN", "$Recycle.Bin", "System Volume Information", "lost+found", "found.000",
     ".Trash-1000", ".thumbnails", ".@__thumb", "@Recycle", "#snapshot", "@Recently-Snapshot", "RECYCLER", "LOST.DIR",
     ".Spotlight-V100", ".fseventsd", "__MACOSX", "Recycled", "trashbox", "$Extend", "Config.Msi", "@database",
     "@appdata", "@SynoResource", "@eaDir@SynoEAStream", "picasaoriginals", "Backups.backupdb", "Previews.lrdata",
     "System Volume Information "],
)  # fmt: skip
def test_system_folder_is_left_out_and_counted_wherever_it_is(name: str, tmp_path: Path) -> None:
    touch(tmp_path, "a.jpg", f"{name}/b.jpg", f"deep/er/{name}/c/d.jpg")
    assert found(tmp_path) == ["a.jpg"]
    passed = passed_over(tmp_path)
    assert passed == PassedOver(folders=Counter({name: 2}))
    assert passed.notes() == [f"hidden and system folders, not searched: 2 ({name})"]


def test_system_folder_that_is_named_itself_is_searched(tmp_path: Path) -> None:
    touch(tmp_path, "@eaDir/a.jpg", "b.jpg")
    assert found(tmp_path / "@eaDir") == ["a.jpg"]
    index = FileIndex(tmp_path)
    assert list(index.find_images(tmp_path / "@eaDir")) == [tmp_path / "@eaDir" / "a.jpg"]
    assert index.passed_over == PassedOver()


@pytest.mark.parametrize("name", ["eaDir", "recycle bin", "found", "lost and found", "trash", "snapshots"])
def test_folders_with_ordinary_names_are_searched(name: str, tmp_path: Path) -> None:
    touch(tmp_path, f"{name}/a.jpg")
    assert found(tmp_path) == [f"{name}/a.jpg"]


def test_pictures_in_other_formats_are_counted_by_ending(tmp_path: Path) -> None:
    touch(
        tmp_path, "a.CR2", "b/c.cr2", "b/d.svg", "e.jpg", "f.jpg_original", "g.jpeg~", "h.txt", "labels.csv", ".i.nef"
    )
    passed = passed_over(tmp_path)
    assert passed.formats == {".cr2": 2, ".svg": 1, ".jpg_original": 1, ".jpeg~": 1}
    (note,) = passed.notes()
    assert note.startswith("pictures in formats that labelr does not read, left out: 2 .cr2, 1 ")


@pytest.mark.parametrize(
    "name",
    ["a.dicom", "a.fts", "a.orf", "a.ptx", "a.rwz", "a.heics", "a.avifs", "a.jph", "a.ndpi", "a.czi", "a.pdf", "a.CAP ",
     "a.jpg.bak", "a.JPG.1", "a.jpg.tmp", "a.jpg.crdownload", "a.png.part", "a.jpg.icloud", ".a.HEIC.icloud"],
)  # fmt: skip
def test_picture_that_is_not_opened_is_counted_by_its_ending(name: str, tmp_path: Path) -> None:
    touch(tmp_path, name)
    assert found(tmp_path) == []
    ending = name.strip().lower().removeprefix(".").partition(".")[2]
    assert passed_over(tmp_path) == PassedOver(formats=Counter({f".{ending}": 1}))


def test_other_files_are_counted_by_ending_where_images_are_searched(tmp_path: Path) -> None:
    touch(tmp_path, "a.jpg", "b/a.MOV", "b.mov", "c.jpg.xmp", "notes", "d.cr2", ".DS_Store", "v1.2 final notes")
    walker = Walker(tmp_path)
    assert len(list(walker.images(tmp_path))) == 1
    assert walker.passed_over.others == {".mov": 2, ".xmp": 1, "(none)": 2}
    assert walker.passed_over.notes()[1] == "other files, left out: 2 .mov, 2 (none), 1 .xmp"


def test_results_of_labelr_are_not_counted_as_other_files(tmp_path: Path) -> None:
    touch(tmp_path, "a.jpg", "a.jpg.csv", "b.csv", "out/labels.csv", "out/deep/c.jpg.csv")
    walker = Walker(tmp_path, output=tmp_path / "out", names_beside=lambda image: [f"{image}.csv"])
    assert list(walker.images(tmp_path)) == [tmp_path / "a.jpg"]
    assert walker.passed_over.others == {".csv": 1}


@pytest.mark.parametrize("name", ["a.jpg.txt", "a.jpg.csv", "a.txt.bak", "notes.1", "a.json", ".a.jpg.part"])
def test_file_beside_a_picture_is_not_counted(name: str, tmp_path: Path) -> None:
    touch(tmp_path, name)
    assert passed_over(tmp_path) == PassedOver()


def test_images_with_a_dot_in_front_are_counted(tmp_path: Path) -> None:
    touch(tmp_path, "._a.jpg", "a.jpg", ".DS_Store", "b/._c.png")
    assert passed_over(tmp_path).notes() == ["images whose names start with a dot, left out: 2"]


@pytest.mark.parametrize(
    "pattern", ["thumbs", "thumbs/", "./b/thumbs", "b/th*s", "*/thumbs", "**/thumbs", "/b/thumbs", "thumb[s]"]
)
def test_ignored_folder_is_never_listed(pattern: str, tmp_path: Path, forbid: Callable[[Path], None]) -> None:
    touch(tmp_path, "a.jpg", "b/c.jpg", "b/thumbs/d.jpg")
    forbid(tmp_path / "b" / "thumbs")
    passed = passed_over(tmp_path, pattern)
    assert passed == PassedOver(ignored_folders=1)
    assert passed.notes() == ["left out by `--ignore`: 1 folder"]


def test_folder_all_of_whose_files_are_ignored_need_not_be_readable(
    tmp_path: Path, forbid: Callable[[Path], None]
) -> None:
    touch(tmp_path, "a.jpg", "b/c.jpg")
    forbid(tmp_path / "b")
    assert passed_over(tmp_path, "b/*") == PassedOver(ignored_folders=1)
    assert passed_over(tmp_path, "*.png").unreadable


def test_patterns_pass_over_no_other_files(tmp_path: Path) -> None:
    touch(tmp_path, "a.jpg", "a.txt", "b.cr2")
    index = FileIndex(tmp_path, ["*"])
    assert list(index.find_suffix(tmp_path, ".txt")) == [tmp_path / "a.txt"]
    assert list(index.find_images(tmp_path)) == []
    assert index.passed_over == PassedOver(ignored=1)


def test_pattern_that_leaves_nothing_out_is_told(tmp_path: Path) -> None:
    touch(tmp_path, "a.jpg", "b_old.jpg", "a.txt")
    passed = passed_over(tmp_path, "*_old.jpg", "*.txt", "b*")
    assert passed.notes() == [
        "left out by `--ignore`: 1 image",
        "`--ignore *.txt` leaves out no image and no folder",
    ]


@pytest.mark.parametrize(
    ("name", "pattern", "expected"),
    [
        ("a/b.jpg", "*.jpg", True),
        ("a/b.jpg", "a/*", True),
        ("a/b.jpg", "b.jpg", True),
        ("a/b.jpg", "./a/b.jpg", True),
        ("b.jpg", "**/b.jpg", True),
        ("a/b.jpg", "a", False),
        ("a/b.jpg", "b.jpg/", False),
        ("a/b.JPG", "*.jpg", False),
    ],
)
def test_pattern_is_of_the_name_or_the_path(name: str, pattern: str, expected: bool) -> None:
    assert matches(name, [pattern]) == expected


def test_index_counts_what_it_passes_over_once(tmp_path: Path) -> None:
    touch(tmp_path, "images/a.jpg", "images/b.cr2", "images/.git/c.jpg", "empty/.hidden/d.jpg", "e_old.jpg")
    index = FileIndex(tmp_path, ["*_old.jpg"])
    for folder in ("images", "empty", ""):
        list(index.find_images(tmp_path / folder))
    assert index.passed_over == PassedOver(
        formats=Counter({".cr2": 1}), folders=Counter({".git": 1, ".hidden": 1}), ignored=1
    )


def test_patterns_of_an_index_are_relative_to_its_root(tmp_path: Path) -> None:
    touch(tmp_path, "images/x/a.jpg", "images/y/b.jpg")
    index = FileIndex(tmp_path, ["images/x"])
    assert list(index.find_images(tmp_path / "images")) == [tmp_path / "images" / "y" / "b.jpg"]
    assert index.ignores(tmp_path / "images" / "x" / "a.jpg")
    assert not index.ignores(tmp_path / "images" / "y" / "b.jpg")


def test_patterns_are_relative_to_a_folder_of_images_elsewhere(tmp_path: Path) -> None:
    touch(tmp_path, "data/a.jpg", "elsewhere/x/b.jpg", "elsewhere/x/y/c.jpg", "elsewhere/d.jpg")
    index = FileIndex(tmp_path / "data", ["x/y"])
    assert len(list(index.find_images(tmp_path / "elsewhere"))) == 2
    assert index.ignores(tmp_path / "elsewhere" / "x" / "y" / "c.jpg")
    assert not index.ignores(tmp_path / "elsewhere" / "x" / "b.jpg")


def test_share_of_a_nas_has_only_its_photographs() -> None:
    share = case("nas-thumbnails") / "share"
    assert found(share) == [f"2024/IMG_{number:03d}.jpg" for number in range(10)]
    assert passed_over(share).folders == {"#recycle": 1, "$RECYCLE.BIN": 1, "@eaDir": 1}


def test_images_of_browsers_and_cameras_are_found() -> None:
    inbox = case("jfif-hif-skipped") / "inbox"
    endings = Counter(Path(name).suffix for name in found(inbox))
    assert endings == {".jfif": 9, ".jpg": 4, ".HIF": 3, ".jpe": 1, ".JPE": 1, ".jp2": 1}
    assert passed_over(inbox).notes() == ["pictures in formats that labelr does not read, left out: 1 .cr2"]
