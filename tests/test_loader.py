"""Decoding ahead, and batches of training images."""

import itertools
import threading
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TypeVar

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from labelr.data.augment import Augmentation
from labelr.data.images import Unreadable, read_pixels
from labelr.data.loader import Batch, TrainImages, decode_all, decode_in_order, in_batches
from labelr.errors import LabelrError

T = TypeVar("T")


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


def test_unreadable_file_is_reported_in_its_place(tmp_path: Path) -> None:
    paths = [save(tmp_path / "a.png", 1), tmp_path / "gone.png", save(tmp_path / "c.png", 3)]
    first, second, third = decode_in_order(paths, 8, threads=2)
    assert greys([first, third]) == [1, 3]
    assert isinstance(second, Unreadable)
    assert second.reason == "no such file or directory"


def test_too_many_pixels_are_unreadable(tmp_path: Path) -> None:
    path = save(tmp_path / "a.png", 1)
    assert [isinstance(image, Unreadable) for image in decode_in_order([path], 8, max_pixels=143)] == [True]


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
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("decode")]


def test_no_paths_give_no_images() -> None:
    assert list(decode_in_order([], 8)) == []


def test_all_images_are_decoded_into_one_array(tmp_path: Path) -> None:
    pixels = decode_all(save_several(tmp_path, 5), 8, threads=2)
    assert pixels.shape == (5, 8, 8, 3)
    assert pixels.dtype == np.uint8
    assert pixels[:, 0, 0, 0].tolist() == [0, 1, 2, 3, 4]


def test_file_that_has_gone_since_is_an_error_that_names_it(tmp_path: Path) -> None:
    paths = save_several(tmp_path, 5)
    paths[3].unlink()
    with pytest.raises(LabelrError, match=r"3\.png has changed since it was first read: no such file"):
        decode_all(paths, 8, threads=2)


def test_images_that_memory_cannot_hold_are_an_error_that_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(LabelrError, match=r"no memory for .* GiB") as caught:
        decode_all([tmp_path / "a.png"], 2**24)
    assert "--image-size" in caught.value.hint


def test_progress_is_told_how_many_there_are(tmp_path: Path) -> None:
    totals: list[int | None] = []

    def watch(items: Iterable[T], description: str, total: int | None = None) -> Iterator[T]:
        assert description
        for item in items:
            totals.append(total)
            yield item

    decode_all(save_several(tmp_path, 3), 8, track=watch)
    assert totals == [3, 3, 3]


@pytest.mark.parametrize(
    ("count", "expected"), [(0, []), (1, [[0]]), (4, [[0, 1], [2, 3]]), (5, [[0, 1], [2, 3], [4]])]
)
def test_last_batch_may_be_shorter(count: int, expected: list[list[int]]) -> None:
    assert list(in_batches(range(count), 2)) == expected


def test_batches_are_taken_one_at_a_time() -> None:
    numbers = itertools.count()
    assert next(in_batches(numbers, 3)) == [0, 1, 2]
    assert next(numbers) == 3


# --- training images -------------------------------------------------------------------------------------------------


def make_images() -> TrainImages:
    rng = np.random.default_rng(0)
    pixels: NDArray[np.uint8] = rng.integers(0, 256, (6, 18, 18, 3), dtype=np.uint8)
    targets = np.array([[1, 0], [0, 1], [np.nan, 1], [0, 0], [1, 1], [0, np.nan]], dtype=np.float32)
    return TrainImages(pixels, targets, Augmentation(18, 16))


def batch(seed: int, *rows: int) -> Batch:
    return Batch(seed, np.array(rows, dtype=np.int64))


def test_batch_depends_on_its_seed_and_rows_alone() -> None:
    images = make_images()
    torch.manual_seed(1)
    first, _ = images[batch(7, 4, 0, 2)]
    torch.manual_seed(2)
    _ = images[batch(8, 1, 3)]
    again, _ = images[batch(7, 4, 0, 2)]
    assert torch.equal(again, first)


def test_another_seed_gives_another_batch() -> None:
    images = make_images()
    first, second = images[batch(7, 0, 1)][0], images[batch(8, 0, 1)][0]
    assert not torch.equal(first, second)


def test_batch_has_the_size_of_the_network_and_its_rows_targets() -> None:
    images, targets = make_images()[batch(0, 5, 2)]
    assert images.shape == (2, 3, 16, 16)
    assert images.dtype == torch.uint8
    np.testing.assert_array_equal(targets.numpy(), [[0, np.nan], [np.nan, 1]])


def test_images_are_given_to_the_augmentation_channels_first() -> None:
    pixels = make_images().pixels.numpy()
    seen: list[Tensor] = []

    def keep(images: Tensor) -> Tensor:
        seen.append(images)
        return images

    _ = TrainImages(pixels, np.zeros((6, 1), dtype=np.float32), keep)[batch(0, 3, 1)]
    np.testing.assert_array_equal(seen[0].numpy(), pixels[[3, 1]].transpose(0, 3, 1, 2))


def test_length_is_the_number_of_images() -> None:
    assert len(make_images()) == 6
