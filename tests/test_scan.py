"""Scans of image files, and which are remembered."""

import hashlib
import os
import sqlite3
import threading
import time
from collections.abc import Iterable
from contextlib import closing
from itertools import islice
from pathlib import Path
from typing import TypeVar

import numpy as np
import pytest
from PIL import Image

from labelr.config import MAX_PIXELS
from labelr.data import scan
from labelr.data.duplicates import near_duplicates
from labelr.data.scan import scan_images
from labelr.progress import Description, Total

T = TypeVar("T")


@pytest.fixture(autouse=True)
def database(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A database for each test."""
    monkeypatch.setenv("LABELR_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "scans.sqlite"


def save(path: Path, colour: int = 0) -> Path:
    Image.new("RGB", (40, 30), (colour, 0, 0)).save(path)
    return path


def save_noise(path: Path, seed: int = 0, *, age_seconds: float = 0) -> Path:
    """A different image for each seed, last changed `age_seconds` ago."""
    rng = np.random.default_rng(seed)
    Image.fromarray(rng.integers(0, 256, (30, 40, 3), dtype=np.uint8)).save(path)
    changed = time.time() - age_seconds
    os.utime(path, (changed, changed))
    return path


class Watch:
    """Counts the images that are read."""

    def __init__(self) -> None:
        self.reads = 0

    def __call__(self, items: Iterable[T], description: Description, total: Total = None) -> Iterable[T]:
        assert description
        for item in items:
            self.reads += 1
            yield item
        assert total == self.reads


def num_reads(paths: list[Path], max_pixels: int = 10_000) -> int:
    watch = Watch()
    scan_images(paths, max_pixels=max_pixels, track=watch)
    return watch.reads


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
    paths = [save(tmp_path / f"{number}.png", number) for number in range(20)]
    expected = [hashlib.sha256(path.read_bytes()).hexdigest() for path in paths]
    assert [result.digest for result in scan_images(paths, threads=threads)] == expected


def test_damaged_image_has_a_digest_and_a_reason(tmp_path: Path) -> None:
    content = save(tmp_path / "a.png").read_bytes()[:60]
    (tmp_path / "a.png").write_bytes(content)
    result = scan_images([tmp_path / "a.png"])[0]
    assert result.digest == hashlib.sha256(content).hexdigest()
    assert "truncated" in result.reason


def test_damaged_image_has_no_fingerprint(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(save_noise(tmp_path / "a.png").read_bytes()[:60])
    assert scan_images([tmp_path / "a.png"])[0].fingerprint is None


def test_readable_image_has_a_fingerprint_of_64_bits(tmp_path: Path) -> None:
    value = scan_images([save_noise(tmp_path / "a.png")])[0].fingerprint
    assert value is not None
    assert 0 <= value < 2**64


def save_deep(path: Path, seed: int = 0, size: tuple[int, int] = (240, 180), *, age_seconds: float = 0) -> Path:
    """A dark image of 16 bits whose values are from 300 to 399, different for each seed, in any size."""
    coarse = Image.fromarray(np.random.default_rng(seed).integers(0, 100, (6, 8)).astype(np.float32))
    values = np.asarray(coarse.resize(size, Image.Resampling.BILINEAR)) + 300
    Image.fromarray(values.astype(np.uint16)).save(path)
    changed = time.time() - age_seconds
    os.utime(path, (changed, changed))
    return path


def test_deep_image_has_the_levels_of_its_values_when_read_and_when_remembered(tmp_path: Path) -> None:
    path = save_deep(tmp_path / "a.png", age_seconds=10)
    read, remembered = scan_images([path])[0], scan_images([path])[0]
    assert num_reads([path], max_pixels=MAX_PIXELS) == 0
    assert read == remembered
    for found in (read, remembered):
        assert found.levels is not None
        assert (found.levels.low, found.levels.high) == pytest.approx((300, 399), abs=10)
        assert found.levels.kind == "integers"


def test_image_of_8_bits_has_no_levels(tmp_path: Path) -> None:
    assert scan_images([save_noise(tmp_path / "a.png")])[0].levels is None


def test_copies_of_dark_deep_images_are_near_duplicates_and_others_are_not(tmp_path: Path) -> None:
    paths = [save_deep(tmp_path / f"{seed}.png", seed) for seed in range(8)]
    copy = save_deep(tmp_path / "copy.tif", 3, (320, 240))
    links = near_duplicates([result.fingerprint for result in scan_images([*paths, copy])])
    assert links.T.tolist() == [[3, 8]]


def test_scan_of_an_earlier_version_is_not_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = save_noise(tmp_path / "a.png", age_seconds=10)
    assert [num_reads([path]), num_reads([path])] == [1, 0]
    monkeypatch.setattr(scan, "VERSION", scan.VERSION + 1)
    assert num_reads([path]) == 1


def test_missing_image_has_a_reason_and_no_digest(tmp_path: Path) -> None:
    result = scan_images([tmp_path / "a.png"])[0]
    assert result.digest == ""
    assert result.reason == "no such file or directory"


def test_unreadable_images_do_not_stop_the_others(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.png")
    (tmp_path / "empty.png").touch()
    paths = [tmp_path / "pipe.png", save(tmp_path / "a.png"), tmp_path / "empty.png", save(tmp_path / "b.png")]
    assert [bool(result.reason) for result in scan_images(paths, threads=2)] == [True, False, True, False]


def test_image_of_too_many_pixels_has_a_reason(tmp_path: Path) -> None:
    path = save(tmp_path / "a.png")
    assert scan_images([path], max_pixels=1200)[0].reason == ""
    assert "1,199 pixels" in scan_images([path], max_pixels=1199)[0].reason


def test_no_paths_give_no_results() -> None:
    assert scan_images([]) == []


def test_progress_has_the_number_of_images(tmp_path: Path) -> None:
    assert num_reads([save(tmp_path / f"{number}.png") for number in range(3)]) == 3


def test_interruption_ends_the_scan_and_its_threads(tmp_path: Path) -> None:
    paths = [save(tmp_path / f"{number}.png") for number in range(50)]

    def interrupt(items: Iterable[T], description: Description, total: Total = None) -> Iterable[T]:
        for item in items:
            yield item
            raise KeyboardInterrupt(description, total)

    before = set(threading.enumerate())  # those of other tests may still be there
    with pytest.raises(KeyboardInterrupt):
        scan_images(paths, threads=2, track=interrupt)
    assert set(threading.enumerate()) <= before


# --- remembered scans ------------------------------------------------------------------------------------------------


def test_unchanged_image_is_not_read_again(tmp_path: Path) -> None:
    paths = [save_noise(tmp_path / f"{seed}.png", seed, age_seconds=60) for seed in range(3)]
    assert [num_reads(paths), num_reads(paths)] == [3, 0]


def test_images_scanned_before_an_interruption_are_not_read_again(tmp_path: Path) -> None:
    paths = [save_noise(tmp_path / f"{seed}.png", seed, age_seconds=60) for seed in range(6)]

    def interrupt(items: Iterable[T], description: Description, total: Total = None) -> Iterable[T]:
        yield from islice(items, 4)
        raise KeyboardInterrupt(description, total)

    with pytest.raises(KeyboardInterrupt):
        scan_images(paths, max_pixels=10_000, track=interrupt)
    assert num_reads(paths) == 2


def test_scans_are_saved_while_others_are_still_read(
    database: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scan, "SAVE_EVERY", 2)
    paths = [save_noise(tmp_path / f"{seed}.png", seed, age_seconds=60) for seed in range(5)]
    saved = []

    def watch(items: Iterable[T], description: Description, total: Total = None) -> Iterable[T]:
        for item in items:
            yield item
            with closing(sqlite3.connect(database)) as connection:
                saved.append(len(connection.execute("SELECT path FROM images").fetchall()))

    scan_images(paths, track=watch)
    assert saved == [0, 2, 2, 4, 4]


def test_remembered_scans_equal_the_first_ones(tmp_path: Path) -> None:
    paths = [save_noise(tmp_path / f"{seed}.png", seed, age_seconds=60) for seed in range(3)]
    Image.new("RGB", (40, 30)).save(tmp_path / "plain.png")  # without a fingerprint
    os.utime(tmp_path / "plain.png", (1, 1))
    paths.append(tmp_path / "plain.png")
    assert scan_images(paths) == scan_images(paths)


def test_new_images_keep_their_place_among_known_ones(tmp_path: Path) -> None:
    paths = [save_noise(tmp_path / f"{seed}.png", seed, age_seconds=60) for seed in range(6)]
    scan_images(paths[::2])
    expected = [hashlib.sha256(path.read_bytes()).hexdigest() for path in paths]
    assert [result.digest for result in scan_images(paths)] == expected


def test_image_of_another_size_is_scanned_again(tmp_path: Path) -> None:
    path = save_noise(tmp_path / "a.png", age_seconds=60)
    before, changed = scan_images([path])[0], path.stat().st_mtime_ns
    path.write_bytes(path.read_bytes() + b"more")
    os.utime(path, ns=(changed, changed))
    assert scan_images([path])[0].digest != before.digest


def test_image_with_another_modification_time_is_scanned_again(tmp_path: Path) -> None:
    path = save_noise(tmp_path / "a.png", age_seconds=60)
    before = scan_images([path])[0]
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    os.utime(path, (time.time() - 50,) * 2)
    assert scan_images([path])[0].digest != before.digest


def test_images_of_equal_size_and_time_that_swapped_names_are_scanned_again(tmp_path: Path) -> None:
    paths = [tmp_path / "a.bmp", tmp_path / "b.bmp"]
    for seed, path in enumerate(paths):
        save_noise(path, seed)
        os.utime(path, (1, 1))
    before = [result.digest for result in scan_images(paths)]
    paths[0].rename(tmp_path / "c")
    paths[1].rename(paths[0])
    (tmp_path / "c").rename(paths[1])
    assert [result.digest for result in scan_images(paths)] == before[::-1]


def test_image_that_has_just_changed_is_not_remembered(tmp_path: Path) -> None:
    paths = [save_noise(tmp_path / "a.png")]
    assert [num_reads(paths), num_reads(paths)] == [1, 1]


def test_unreadable_image_is_scanned_again(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_text("no image")
    os.utime(tmp_path / "a.png", (1, 1))
    paths = [tmp_path / "a.png"]
    assert [num_reads(paths), num_reads(paths)] == [1, 1]


def test_another_pixel_limit_scans_again(tmp_path: Path) -> None:
    paths = [save_noise(tmp_path / "a.png", age_seconds=60)]
    scan_images(paths, max_pixels=5000)
    assert "1,199 pixels" in scan_images(paths, max_pixels=1199)[0].reason


def test_image_is_remembered_by_its_absolute_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = save_noise(tmp_path / "a.png", age_seconds=60)
    scan_images([path], max_pixels=10_000)
    monkeypatch.chdir(tmp_path)
    assert num_reads([Path("a.png")]) == 0


@pytest.mark.parametrize("damage", [b"not a database, but as long as one" * 30, b""])
def test_damaged_database_counts_as_empty(damage: bytes, database: Path, tmp_path: Path) -> None:
    path = save_noise(tmp_path / "a.png", age_seconds=60)
    expected = scan_images([path])
    database.write_bytes(damage)
    assert scan_images([path]) == expected


def test_scan_works_without_a_writable_cache(database: Path, tmp_path: Path) -> None:
    database.parent.write_text("a file where the folder should be")
    path = save_noise(tmp_path / "a.png", age_seconds=60)
    assert scan_images([path])[0].reason == ""
