"""The one look at every image file."""

import hashlib
import os
import threading
from collections.abc import Iterable
from pathlib import Path
from typing import TypeVar

import pytest
from PIL import Image

from labelr.data.scan import scan_images

T = TypeVar("T")


def save(path: Path, colour: int = 0) -> Path:
    Image.new("RGB", (40, 30), (colour, 0, 0)).save(path)
    return path


def test_digest_is_the_sha256_of_the_whole_file(tmp_path: Path) -> None:
    path = save(tmp_path / "a.png")
    assert scan_images([path])[0].digest == hashlib.sha256(path.read_bytes()).hexdigest()


def test_readable_image_has_no_reason(tmp_path: Path) -> None:
    assert scan_images([save(tmp_path / "a.png")])[0].reason == ""


def test_same_content_under_two_names_has_one_digest(tmp_path: Path) -> None:
    first, second, other = scan_images(
        [save(tmp_path / "a.png"), save(tmp_path / "b.png"), save(tmp_path / "c.png", 9)]
    )
    assert first.digest == second.digest != other.digest


@pytest.mark.parametrize("threads", [1, 4])
def test_results_are_in_the_order_of_the_paths(threads: int, tmp_path: Path) -> None:
    paths = [save(tmp_path / f"{number}.png", number) for number in range(40)]
    expected = [hashlib.sha256(path.read_bytes()).hexdigest() for path in paths]
    assert [one.digest for one in scan_images(paths, threads=threads)] == expected


def test_damaged_image_has_a_digest_and_a_reason(tmp_path: Path) -> None:
    content = save(tmp_path / "a.png").read_bytes()[:60]
    (tmp_path / "a.png").write_bytes(content)
    scanned = scan_images([tmp_path / "a.png"])[0]
    assert scanned.digest == hashlib.sha256(content).hexdigest()
    assert "truncated" in scanned.reason


def test_missing_image_has_a_reason_and_no_digest(tmp_path: Path) -> None:
    scanned = scan_images([tmp_path / "a.png"])[0]
    assert scanned.digest == ""
    assert scanned.reason == "no such file or directory"


def test_unreadable_images_do_not_stop_the_others(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.png")
    (tmp_path / "empty.png").touch()
    paths = [tmp_path / "pipe.png", save(tmp_path / "a.png"), tmp_path / "empty.png", save(tmp_path / "b.png")]
    assert [bool(one.reason) for one in scan_images(paths, threads=2)] == [True, False, True, False]


def test_image_of_too_many_pixels_has_a_reason(tmp_path: Path) -> None:
    path = save(tmp_path / "a.png")
    assert scan_images([path], max_pixels=1200)[0].reason == ""
    assert "1,199 pixels" in scan_images([path], max_pixels=1199)[0].reason


def test_no_paths_give_no_results() -> None:
    assert scan_images([]) == []


def test_progress_is_told_how_many_there_are(tmp_path: Path) -> None:
    paths = [save(tmp_path / f"{number}.png") for number in range(3)]
    seen: list[tuple[int, int | None]] = []

    def watch(items: Iterable[T], description: str, total: int | None = None) -> Iterable[T]:
        assert description
        for number, item in enumerate(items):
            seen.append((number, total))
            yield item

    scan_images(paths, track=watch)
    assert seen == [(0, 3), (1, 3), (2, 3)]


def test_interruption_ends_the_scan_and_its_threads(tmp_path: Path) -> None:
    paths = [save(tmp_path / f"{number}.png") for number in range(50)]

    def interrupt(items: Iterable[T], description: str, total: int | None = None) -> Iterable[T]:
        for item in items:
            yield item
            raise KeyboardInterrupt(description, total)

    with pytest.raises(KeyboardInterrupt):
        scan_images(paths, threads=2, track=interrupt)
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("scan")]
