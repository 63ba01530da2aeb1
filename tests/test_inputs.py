"""The images to tag: their order and names, and the search in the background."""

import io
import itertools
import logging
import os
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from conftest import put

from labelr.config import TagOptions
from labelr.data.walk import PassedOver, Walker, find_images
from labelr.errors import LabelrError
from labelr.fields import SettingError
from labelr.tagging.inputs import Inputs, Search, read_list


def inputs_of(*photos: Path, files_from: Path | None = None, ignore: tuple[str, ...] = ()) -> Inputs:
    return Inputs.of(photos, TagOptions(ignore=ignore), files_from=files_from)


def names_of(inputs: Inputs) -> list[str]:
    return list(inputs.find(inputs.walker()))


class Slow(Inputs):
    """Inputs whose search waits after the first image."""

    may_continue = threading.Event()

    def find(self, walker: Walker) -> Iterator[str]:
        found = super().find(walker)
        yield next(found)
        assert self.may_continue.wait(10)
        yield from found


def test_first_image_comes_before_the_search_has_ended(tmp_path: Path) -> None:
    for name in ("a.jpg", "b.jpg", "c.jpg"):
        put(tmp_path, name)
    with Search(Slow(**vars(inputs_of(tmp_path)))) as search:
        images = iter(search)
        assert next(images) == "a.jpg"
        assert search.total is None
        Slow.may_continue.set()
        assert list(images) == ["b.jpg", "c.jpg"]
        assert search.total == 3


def test_folder_that_cannot_be_listed_is_an_error_for_the_reader_of_a_search(tmp_path: Path) -> None:
    put(tmp_path, "photos/a.jpg")

    class Vanishing(Inputs):
        def find(self, walker: Walker) -> Iterator[str]:
            yield from super().find(walker)
            yield from find(tmp_path / "gone")

    def find(folder: Path) -> Iterator[str]:
        return (path.name for path in find_images(folder))

    with (
        Search(Vanishing(**vars(inputs_of(tmp_path / "photos")))) as search,
        pytest.raises(LabelrError, match="cannot list the folder"),
    ):
        list(search)


def test_search_ends_with_its_context(tmp_path: Path) -> None:
    class Endless(Inputs):
        def find(self, walker: Walker) -> Iterator[str]:  # noqa: ARG002 - it never ends
            return (f"{number}.jpg" for number in itertools.count())

    with Search(Endless(**vars(inputs_of(tmp_path)))) as search:
        assert next(iter(search)) == "0.jpg"
    for thread in threading.enumerate():
        if thread.name == "search":
            thread.join(10)
            assert not thread.is_alive()


def test_names_are_relative_to_what_all_inputs_have_in_common_and_each_is_there_once(tmp_path: Path) -> None:
    for name in ("one/a.jpg", "one/sub/b.jpg", "two/c.jpg"):
        put(tmp_path, name)
    both = inputs_of(
        tmp_path / "one", tmp_path / "two", files_from=put(tmp_path, "list", os.fsencode(tmp_path / "one" / "a.jpg"))
    )
    assert names_of(both) == ["one/a.jpg", "one/sub/b.jpg", "two/c.jpg"]
    assert names_of(inputs_of(tmp_path / "one")) == ["a.jpg", "sub/b.jpg"]


@pytest.mark.parametrize(
    ("pattern", "ignored"),
    [
        ("*.png", {"x.png"}),
        ("sub/*", {"sub/a.jpg"}),
        ("a.jpg", {"a.jpg", "sub/a.jpg"}),
        ("[ab].jpg", {"a.jpg", "sub/a.jpg"}),
    ],
)
def test_patterns_are_of_paths_and_of_names(tmp_path: Path, pattern: str, ignored: set[str]) -> None:
    names = ["a.jpg", "sub/a.jpg", "x.png"]
    for name in names:
        put(tmp_path, name)
    assert set(names) - set(names_of(inputs_of(tmp_path, ignore=(pattern,)))) == ignored


def test_nothing_to_tag_and_what_is_not_there_are_errors(tmp_path: Path) -> None:
    with pytest.raises(SettingError, match="no images to tag"):
        inputs_of()
    with pytest.raises(LabelrError, match="does not exist"):
        inputs_of(tmp_path / "gone")


def test_ignored_folder_is_not_searched_and_counted(tmp_path: Path) -> None:
    for name in ("a.jpg", "thumbs/b.jpg", "deep/thumbs/c.jpg"):
        put(tmp_path, name)
    inputs = inputs_of(tmp_path, ignore=("thumbs",))
    walker = inputs.walker()
    assert list(inputs.find(walker)) == ["a.jpg"]
    assert walker.passed_over == PassedOver(ignored_folders=2)


def test_folder_that_cannot_be_listed_stops_no_search(tmp_path: Path, forbid: Callable[[Path], None]) -> None:
    for name in ("one/a.jpg", "one/private/b.jpg", "two/c.jpg", "three/d.jpg"):
        put(tmp_path, name)
    forbid(tmp_path / "one" / "private")
    forbid(tmp_path / "three")
    with Search(inputs_of(tmp_path / "one", tmp_path / "two", tmp_path / "three")) as search:
        assert list(search) == ["one/a.jpg", "two/c.jpg"]
        assert search.unreadable == {"one/private": "permission denied", "three": "permission denied"}


def test_only_folder_that_cannot_be_listed_is_an_error(tmp_path: Path, forbid: Callable[[Path], None]) -> None:
    put(tmp_path, "one/a.jpg")
    forbid(tmp_path / "one")
    inputs = inputs_of(tmp_path / "one")
    with pytest.raises(LabelrError, match="cannot list the folder"):
        names_of(inputs)


def test_listed_image_in_a_folder_that_may_not_be_entered_is_found_to_fail_later(
    tmp_path: Path, forbid: Callable[[Path], None]
) -> None:
    image = put(tmp_path, "one/a.jpg")
    forbid(tmp_path / "one")
    assert names_of(inputs_of(files_from=put(tmp_path, "list", os.fsencode(image)))) == ["a.jpg"]


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"a.jpg\nb c.jpg\n", ["a.jpg", "b c.jpg"]),
        (b"a.jpg\r\n\r\nb.jpg", ["a.jpg", "b.jpg"]),
        (b'"a b.jpg"\r\n"\n', ["a b.jpg", '"']),
        (b'"a.jpg"\0', ['"a.jpg"']),
        (b"a\nb.jpg\0c.jpg\0", ["a\nb.jpg", "c.jpg"]),
        (b"caf\xe9.jpg\n", [os.fsdecode(b"caf\xe9.jpg")]),
        ("B\u00e4r.jpg\r\nb.jpg\r\n".encode("utf-16"), ["B\u00e4r.jpg", "b.jpg"]),  # as of PowerShell
        ("a.jpg\nb.jpg".encode("utf-16-le"), ["a.jpg", "b.jpg"]),
        (b"\xef\xbb\xbfa.jpg\n", ["a.jpg"]),
        (b"", []),
    ],
)
def test_lists_are_separated_by_lines_or_nul_bytes(tmp_path: Path, content: bytes, expected: list[str]) -> None:
    path = put(tmp_path, "list", content)
    assert read_list(str(path)) == [Path(name) for name in expected]


def test_quotes_that_are_part_of_a_name_stay(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    image = put(tmp_path, '"a.jpg"')
    monkeypatch.chdir(tmp_path)
    assert read_list(str(put(tmp_path, "list", image.name))) == [Path(image.name)]


def test_list_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(LabelrError, match="cannot read the list"):
        read_list(str(tmp_path / "gone"))


def test_list_comes_from_stdin(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"a.png\nz.png")))
    assert read_list("-") == [Path("a.png"), Path("z.png")]


def test_subfolders_are_searched_unless_not_wanted(tmp_path: Path) -> None:
    for name in ("a.jpg", "sub/b.jpg"):
        put(tmp_path, name)
    assert names_of(Inputs.of([tmp_path], TagOptions(recursive=False))) == ["a.jpg"]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("options", "is_advised"),
    [({}, True), ({"format": ("txt",)}, True), ({"format": ("table",)}, False), ({"in_place": True}, False)],
)
def test_tables_are_recommended_for_many_images_with_a_file_each(
    tmp_path: Path, options: dict[str, Any], is_advised: bool, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    listed = put(tmp_path, "list.txt", "\n".join(str(tmp_path / f"{number}.jpg") for number in range(10_000)))
    for output, expected in ((tmp_path / "out", is_advised), (None, False)):
        caplog.clear()
        inputs = Inputs.of((), TagOptions(**options), files_from=listed, output=output)
        with Search(inputs) as search:
            assert len(list(search)) == 10_000
        assert ("`--format table` writes labels.csv" in caplog.text) == expected
