"""Work done ahead, and decoding in particular."""

import itertools
import threading
import time
from collections.abc import Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from labelr.data.images import Pixels, read_pixels
from labelr.data.prefetch import in_batches, map_ahead


def decode_in_order(paths: Iterable[Path], size: int, *, threads: int = 1, **options: Any) -> Iterator[Pixels]:
    return map_ahead(partial(read_pixels, size=size, **options), paths, threads=threads, ahead=8 * threads)


def save(path: Path, grey: int, size: int = 12) -> Path:
    Image.new("L", (size, size), grey).save(path)
    return path


def save_several(folder: Path, count: int) -> list[Path]:
    """Images of grey 0, 1, 2 and so on; the first are the largest, so that they are ready last."""
    return [save(folder / f"{number}.png", number, size=400 if number < 3 else 8) for number in range(count)]


def greys(images: Iterable[object]) -> list[int | None]:
    """The grey of each plain image; None for what is not readable."""
    return [int(image[0, 0, 0]) if isinstance(image, np.ndarray) else None for image in images]


@pytest.mark.parametrize("threads", [1, 4])
def test_images_come_in_the_order_of_their_paths(threads: int, tmp_path: Path) -> None:
    paths = save_several(tmp_path, 40)
    assert greys(decode_in_order(paths, 8, threads=threads)) == list(range(40))


def test_rule_decides_how_a_picture_becomes_a_square(tmp_path: Path) -> None:
    Image.new("RGB", (30, 10), "red").save(tmp_path / "a.png")
    (image,) = decode_in_order([tmp_path / "a.png"], 9, rule="letterbox")
    np.testing.assert_array_equal(image, read_pixels(tmp_path / "a.png", 9, rule="letterbox"))


@pytest.mark.parametrize("threads", [1, 3])
def test_paths_are_taken_only_a_little_ahead(threads: int, tmp_path: Path) -> None:
    path = save(tmp_path / "a.png", 1)
    taken = itertools.count()
    images = decode_in_order((path for _ in taken), 8, threads=threads)
    list(itertools.islice(images, 5))
    assert next(taken) <= 8 * threads + 5
    images.close()  # type: ignore[attr-defined]


def test_threads_end_with_the_iteration(tmp_path: Path) -> None:
    images = decode_in_order(itertools.repeat(save(tmp_path / "a.png", 1)), 8, threads=3)
    next(images)
    images.close()  # type: ignore[attr-defined]
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("ahead")]


def test_no_paths_give_no_images() -> None:
    assert list(decode_in_order([], 8)) == []


@pytest.mark.parametrize("threads", [1, 3])
def test_results_come_in_the_order_of_the_items_whichever_is_ready_first(threads: int) -> None:
    def work(number: int) -> int:
        time.sleep(0.02 if number % 3 == 0 else 0)
        return number * 10

    assert list(map_ahead(work, range(12), threads=threads, ahead=5)) == [10 * number for number in range(12)]


def test_no_more_is_worked_ahead_than_was_asked_for() -> None:
    begun: list[int] = []
    results = map_ahead(begun.append, range(100), threads=4, ahead=3)
    next(results)
    time.sleep(0.05)
    assert len(begun) <= 4
    results.close()  # type: ignore[attr-defined]


def test_error_of_the_work_comes_in_the_place_of_its_result() -> None:
    results = map_ahead(lambda number: 6 // number, [3, 0, 1], threads=2, ahead=3)
    assert next(results) == 2
    with pytest.raises(ZeroDivisionError):
        next(results)
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("ahead")]


@pytest.mark.parametrize(
    ("count", "expected"), [(0, []), (1, [[0]]), (4, [[0, 1], [2, 3]]), (5, [[0, 1], [2, 3], [4]])]
)
def test_last_batch_may_be_shorter(count: int, expected: list[list[int]]) -> None:
    assert list(in_batches(range(count), 2)) == expected


def test_batches_are_taken_one_at_a_time() -> None:
    numbers = itertools.count()
    assert next(in_batches(numbers, 3)) == [0, 1, 2]
    assert next(numbers) == 3
