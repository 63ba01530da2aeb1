"""Pixels with and without the cache: its limit, kills and concurrent runs."""

import hashlib
import logging
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

import numpy as np
import pytest
from PIL import Image

from labelr.config import ReadOptions
from labelr.data import pixel_cache
from labelr.data.images import read_pixels
from labelr.data.pixels import PixelSet, open_pixels
from labelr.data.value_range import ValueRange
from labelr.errors import LabelrError
from labelr.progress import Description, Total

T = TypeVar("T")
SIZE = 16
BYTES = SIZE * SIZE * 3

UNCACHED = ReadOptions(cache_limit=0)


def save_noise(folder: Path, count: int, start: int = 0) -> list[Path]:
    """Different images of noise."""
    folder.mkdir(exist_ok=True)
    paths = []
    for number in range(start, start + count):
        noise = np.random.default_rng(number).integers(0, 256, (20, 30, 3), dtype=np.uint8)
        paths.append(folder / f"{number}.png")
        Image.fromarray(noise).save(paths[-1])
    return paths


def digests_of(paths: Iterable[Path]) -> list[str]:
    return [hashlib.sha256(path.read_bytes()).hexdigest() for path in paths]


class Decoded:
    """Counts the images that are decoded into the cache."""

    def __init__(self) -> None:
        self.count = 0

    def __call__(self, items: Iterable[T], description: Description, total: Total = None) -> Iterator[T]:
        assert description
        for item in items:
            self.count += 1
            assert total is None or callable(total) or self.count <= total
            yield item


def open_set(paths: list[Path], options: ReadOptions | None = None, track: Decoded | None = None) -> PixelSet:
    return open_pixels(paths, digests_of(paths), SIZE, options=options, threads=2, track=track or Decoded())


@pytest.fixture
def paths(tmp_path: Path) -> list[Path]:
    return save_noise(tmp_path / "images", 7)


@pytest.fixture
def small_segments(monkeypatch: pytest.MonkeyPatch) -> None:
    """Three images a segment."""
    monkeypatch.setattr(pixel_cache, "SEGMENT_BYTES", 3 * BYTES)


@pytest.mark.usefixtures("small_segments")
@pytest.mark.parametrize("options", [ReadOptions(), UNCACHED, ReadOptions(cache_limit=4 * BYTES / 1e9)])
def test_pixels_are_those_of_the_files_whether_all_none_or_some_are_cached(
    options: ReadOptions, paths: list[Path]
) -> None:
    pixels = open_set(paths, options)
    rows = [6, 0, 3, 3, 5]
    expected = np.stack([np.asarray(read_pixels(paths[row], SIZE)) for row in rows])
    np.testing.assert_array_equal(pixels.take(rows), expected)
    assert pixels.num_cached == {20.0: 7, 0.0: 0}.get(options.cache_limit, 4)


def test_batches_are_all_images_in_order(paths: list[Path]) -> None:
    pixels = open_set(paths)
    batches = list(pixels.batches(3))
    assert [len(batch) for batch in batches] == [3, 3, 1]
    np.testing.assert_array_equal(np.concatenate(batches), pixels.take(range(7)))


@pytest.mark.parametrize("options", [ReadOptions(), UNCACHED])
def test_subset_has_the_pixels_of_its_rows(options: ReadOptions, paths: list[Path]) -> None:
    pixels = open_set(paths, options)
    subset = pixels.subset(np.array([5, 1, 2]))
    assert len(subset) == 3
    np.testing.assert_array_equal(subset.take([0, 2]), pixels.take([5, 2]))


def test_no_images_give_no_batches() -> None:
    pixels = open_pixels([], [], SIZE)
    assert len(pixels) == 0
    assert list(pixels.batches(3)) == []


def test_second_opening_decodes_nothing_and_one_more_image_decodes_one(paths: list[Path], tmp_path: Path) -> None:
    first, second, third = Decoded(), Decoded(), Decoded()
    open_set(paths, track=first)
    open_set(paths[::-1], track=second)
    open_set([*paths, *save_noise(tmp_path / "images", 1, start=7)], track=third)
    assert (first.count, second.count, third.count) == (7, 0, 1)


def test_moved_image_is_found_by_its_content(paths: list[Path], tmp_path: Path) -> None:
    open_set(paths)
    moved = Path(shutil.copy(paths[2], tmp_path / "other.png"))
    again = Decoded()
    pixels = open_set([moved, moved], track=again)
    assert again.count == 0
    np.testing.assert_array_equal(pixels.take([1])[0], read_pixels(paths[2], SIZE))


def test_each_size_and_rule_has_its_own_store(paths: list[Path]) -> None:
    open_set(paths)
    pixels = open_pixels(paths, digests_of(paths), SIZE, rule="crop")
    np.testing.assert_array_equal(pixels.take([0])[0], read_pixels(paths[0], SIZE, rule="crop"))
    assert open_pixels(paths, digests_of(paths), 8).take([0]).shape == (1, 8, 8, 3)
    assert len(pixel_cache.describe()) == 3


def test_each_value_range_has_its_own_store(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    Image.fromarray(np.full((SIZE, SIZE), 1051, np.uint16)).save(path)
    plain = open_set([path])
    scaled = open_pixels([path], digests_of([path]), SIZE, value_range=ValueRange(integers=(1000.0, 1255.0)))
    assert (plain.take([0]) == 4).all()
    assert (scaled.take([0]) == 51).all()
    assert plain.kind != scaled.kind  # features are kept under it


@pytest.mark.parametrize("options", [ReadOptions(), UNCACHED])
@pytest.mark.parametrize("change", ["other", "gone"])
def test_changed_file_is_an_error_that_names_it(change: str, options: ReadOptions, paths: list[Path]) -> None:
    digests = digests_of(paths)
    if change == "gone":
        paths[3].unlink()
    else:
        shutil.copy(paths[2], paths[3])
    reason = "no such file" if change == "gone" else "its content differs"
    with pytest.raises(LabelrError, match=rf"3\.png has changed since it was first read: {reason}"):
        open_pixels(paths, digests, SIZE, options=options).take([3])


@pytest.mark.usefixtures("small_segments")
def test_least_recently_used_segments_are_deleted_at_the_limit(paths: list[Path]) -> None:
    limit = ReadOptions(cache_limit=6 * BYTES / 1e9 + 1e-6)
    for row, group in enumerate((paths[:3], paths[3:6])):
        open_set(group, limit)
        for folder in pixel_cache._segments(pixel_cache._stores()[0])[row:]:
            os.utime(folder, (row + 1, row + 1))
    used, seen, gone = Decoded(), Decoded(), Decoded()
    open_set(paths[:3], limit, used)  # used now, so that the other three are the oldest
    open_set(paths[6:], limit)
    open_set(paths[:3], limit, seen)
    open_set(paths[3:4], limit, gone)
    assert (used.count, seen.count, gone.count) == (0, 0, 1)
    assert sum(row["bytes"] for row in pixel_cache.describe()) <= limit.cache_limit * 1e9


def test_open_pixels_survive_clearing_the_cache(paths: list[Path]) -> None:
    pixels = open_set(paths)
    expected = pixels.take(range(7))
    assert pixel_cache.clear() == {
        "images": 7,
        "features": 0,
        "thumbnails": 0,
        "objects": 0,
        "listed": 0,
        "results": 0,
        "bytes": 7 * BYTES + 7 * 65 - 1,
    }
    assert pixel_cache.describe() == []
    np.testing.assert_array_equal(pixels.take(range(7)), expected)


@pytest.mark.parametrize("damage", ["shortened", "no pixels", "no digests"])
def test_damaged_segment_is_decoded_again(damage: str, paths: list[Path]) -> None:
    expected = open_set(paths).take(range(7))
    (segment,) = pixel_cache._segments(pixel_cache._stores()[0])
    if damage == "shortened":
        with (segment / pixel_cache.PIXELS_FILE).open("r+b") as file:
            file.truncate(5 * BYTES)
    else:
        (segment / (pixel_cache.PIXELS_FILE if damage == "no pixels" else pixel_cache.DIGESTS_FILE)).unlink()
    again = Decoded()
    np.testing.assert_array_equal(open_set(paths, track=again).take(range(7)), expected)
    assert again.count == 7


def test_pixels_are_decoded_without_a_writable_cache(
    home: Path, paths: list[Path], caplog: pytest.LogCaptureFixture
) -> None:
    home.write_text("a file where the folder should be")
    pixels = open_set(paths)
    assert pixels.num_cached == 0
    assert "the pixel cache cannot be written" in caplog.text
    np.testing.assert_array_equal(pixels.take([4])[0], read_pixels(paths[4], SIZE))


FILL = """
import hashlib, select, signal, sys, time
from pathlib import Path
from labelr.data import pixel_cache
from labelr.data.pixels import open_pixels
signal.signal(signal.SIGINT, signal.default_int_handler)  # whatever this process inherited
pixel_cache.SEGMENT_BYTES = 3 * 16 * 16 * 3
paths = sorted(Path(sys.argv[1]).iterdir())
digests = [hashlib.sha256(path.read_bytes()).hexdigest() for path in paths]
def track(items, description, total=None):
    for number, item in enumerate(items):
        print(number, flush=True)
        if number == 4 and len(sys.argv) > 3:
            select.select([sys.stdin], [], [], 60)
        time.sleep(float(sys.argv[2]))
        yield item
pixels = open_pixels(paths, digests, 16, threads=1, track=track)
print("cached", pixels.num_cached, flush=True)
"""


def start_filling(folder: Path, pause: float, *, wait: bool = False) -> "subprocess.Popen[str]":
    """Fills the cache in another process; with `wait` it waits at the fifth image for a line on stdin, for a minute."""
    command = [sys.executable, "-c", FILL, str(folder), str(pause), *["wait"] * wait]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT])
def test_killed_run_keeps_whole_segments_and_leaves_no_drafts(number: signal.Signals, paths: list[Path]) -> None:
    killed = start_filling(paths[0].parent, 0.0, wait=True)
    assert killed.stdout is not None
    while killed.stdout.readline() != "4\n":  # in the second segment
        assert killed.poll() is None
    killed.send_signal(number)
    killed.communicate()
    again = Decoded()
    expected = np.stack([np.asarray(read_pixels(path, SIZE)) for path in paths])
    np.testing.assert_array_equal(open_set(paths, track=again).take(range(7)), expected)
    assert again.count == 4
    assert not list(pixel_cache.cache_folder().glob(f"*/{pixel_cache.DRAFT}*"))


def test_concurrent_runs_decode_each_image_once(paths: list[Path]) -> None:
    runs = [start_filling(paths[0].parent, 0.05) for _ in range(2)]
    outputs = [run.communicate()[0].split("\n") for run in runs]
    assert [run.returncode for run in runs] == [0, 0]
    assert all(lines[-2] == "cached 7" for lines in outputs)
    assert sum(len(lines) - 2 for lines in outputs) == 7


def test_waiting_for_another_run_is_logged(paths: list[Path], caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    other = start_filling(paths[0].parent, 0.0, wait=True)
    assert other.stdout is not None
    other.stdout.readline()

    def release(record: logging.LogRecord) -> bool:
        if "waiting for another run that is filling the pixel cache" in record.getMessage():
            assert other.stdin is not None
            print(file=other.stdin, flush=True)
        return True

    caplog.handler.addFilter(release)
    try:
        assert open_set(paths).num_cached == 7
    finally:
        caplog.handler.removeFilter(release)
        other.communicate()
    assert "waiting for another run that is filling the pixel cache" in caplog.text


def test_full_disk_is_logged_and_images_are_decoded_on_demand(paths: list[Path]) -> None:
    """A limit on file sizes simulates a full disk."""
    code = FILL.replace(
        "pixel_cache.SEGMENT_BYTES", "import resource\nresource.setrlimit(resource.RLIMIT_FSIZE, (2000, 2000))\n_"
    )
    command = [sys.executable, "-c", code, str(paths[0].parent), "0"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout.endswith("cached 0\n")
    assert "the pixel cache cannot be written: File too large" in done.stderr
    assert not list(pixel_cache.cache_folder().glob("*/*/*"))


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="peak memory is read from /proc")
def test_memory_does_not_grow_with_the_number_of_cached_images(tmp_path: Path) -> None:
    code = (
        "import numpy as np, sys\nfrom pathlib import Path\nfrom labelr.data import pixel_cache\n"
        "from labelr.data.pixels import PixelSet, ValueRange, _Decoder\n"
        "count = int(sys.argv[1]); decoder = _Decoder(128, 'squish', 1, ValueRange())\n"
        "digests = [f'{n:064x}' for n in range(count)]\n"
        "with pixel_cache.writing(decoder.store):\n"
        "    image = np.zeros((128, 128, 3), np.uint8)\n"
        "    pixel_cache.write(decoder.store, digests, (image for _ in digests), decoder.num_bytes)\n"
        "found = pixel_cache.find(decoder.store, digests, decoder.num_bytes)\n"
        "pixels = PixelSet([(Path('x'), digest) for digest in digests], decoder, *found, 1)\n"
        "assert sum(len(batch) for batch in pixels.batches(64)) == count\n"
        "status = Path('/proc/self/status').read_text()\n"  # `getrusage` includes the memory before `exec`
        "print(status.split('VmHWM:')[1].split()[0])\n"
    )
    peaks = []
    for count in (300, 3000):
        environment = {**os.environ, "LABELR_HOME": str(tmp_path / str(count))}
        done = subprocess.run(
            [sys.executable, "-c", code, str(count)], env=environment, capture_output=True, text=True, check=True
        )
        peaks.append(int(done.stdout))
    assert peaks[1] < peaks[0] + 30_000, peaks  # kilobytes; the pixels of the larger set take 133 MB more


@contextmanager
def at_most_open(more: int) -> Iterator[None]:
    """Lets this process open a few more files than it has open."""
    resource = pytest.importorskip("resource")
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    lowest_free = os.dup(0)
    os.close(lowest_free)
    resource.setrlimit(resource.RLIMIT_NOFILE, (lowest_free + more, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)


def test_all_images_are_cached_whatever_number_of_files_may_be_open(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pixel_cache, "SEGMENT_BYTES", BYTES)
    many, again = save_noise(tmp_path / "many", 24), Decoded()
    with at_most_open(8):
        open_set(many)
        pixels = open_set(many, track=again)
        assert (pixels.num_cached, again.count) == (24, 0)
        np.testing.assert_array_equal(pixels.take(range(24))[23], read_pixels(many[23], SIZE))


def test_image_is_not_blamed_where_too_many_files_are_open(paths: list[Path]) -> None:
    pixels = open_set(paths, UNCACHED)
    with at_most_open(0), pytest.raises(LabelrError, match="too many files are open") as caught:
        pixels.take([0])
    assert "ulimit -n" in caught.value.hint


def test_half_deleted_segment_is_listed_and_cleared(paths: list[Path]) -> None:
    open_set(paths)
    (segment,) = pixel_cache._segments(pixel_cache._stores()[0])
    (segment / pixel_cache.DIGESTS_FILE).unlink()
    assert [row["images"] for row in pixel_cache.describe()] == [0]
    assert pixel_cache.clear() == {
        "images": 0,
        "features": 0,
        "thumbnails": 0,
        "objects": 0,
        "listed": 0,
        "results": 0,
        "bytes": 7 * BYTES,
    }
    assert pixel_cache.describe() == []


def test_stores_are_described(paths: list[Path]) -> None:
    before = time.time()
    open_set(paths)
    (row,) = pixel_cache.describe()
    assert row["name"].startswith("squish-16px-")
    assert row["images"] == 7
    assert row["bytes"] == 7 * BYTES + 7 * 65 - 1
    assert row["used"] >= time.strftime("%Y-%m-%dT%H:%M", time.gmtime(before))


def test_cache_deletes_nothing_but_its_segments(paths: list[Path], tmp_path: Path) -> None:
    open_set(paths)
    (store,) = pixel_cache._stores()
    mine = tmp_path / "mine"
    for folder in (mine / "2020", pixel_cache.cache_folder() / "holiday" / "2021"):
        folder.mkdir(parents=True)
        (folder / "photo.jpg").write_bytes(b"photo")
    (pixel_cache.cache_folder() / "linked").symlink_to(mine)
    (store / "linked").symlink_to(mine / "2020")
    pixel_cache.make_room(2**60, 0)
    pixel_cache.clear()
    assert len(list(pixel_cache.cache_folder().rglob("pixels.bin"))) == 0
    assert (mine / "2020" / "photo.jpg").exists()
    assert (pixel_cache.cache_folder() / "holiday" / "2021" / "photo.jpg").exists()
