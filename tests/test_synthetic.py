"""Synthetic data sets: the images show what their labels say."""

import csv
import hashlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TypeVar

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image, ImageFilter

from labelr.data import synthetic
from labelr.data.synthetic import PATTERNS, draw_image, make_synthetic_dataset, prevalences
from labelr.errors import LabelrError
from labelr.progress import Description, Total

T = TypeVar("T")

NAMES = list(PATTERNS)


def contents(folder: Path) -> dict[str, str]:
    """The digest of each file below a folder, by its path in there."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def read_labels(folder: Path) -> tuple[list[str], list[str], NDArray[np.int64]]:
    """The header's labels, the file names, and the cells ``(N, L)`` of ``labels.csv``."""
    with (folder / "labels.csv").open(encoding="utf-8", newline="") as file:
        header, *rows = csv.reader(file)
    cells = np.array([[int(cell) for cell in row[1:]] for row in rows], dtype=np.int64)
    return header[1:], [row[0] for row in rows], cells


def num_colours(pixels: NDArray[np.uint8]) -> int:
    """How many of the twelve hues of patterns an image shows; the background is less saturated."""
    smooth = Image.fromarray(pixels).filter(ImageFilter.MedianFilter(3)).convert("HSV")
    hue, saturation, value = np.moveaxis(np.asarray(smooth, dtype=float), -1, 0)
    painted = (saturation > 0.6 * 255) & (value > 0.6 * 255)
    counts = np.bincount(np.round(hue[painted] * 12 / 256).astype(int) % 12, minlength=12)
    return int((counts >= 25).sum())


# --- images ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(8))
def test_each_of_twelve_patterns_keeps_most_of_its_pixels_visible(seed: int) -> None:
    order = np.random.default_rng(seed).permutation(NAMES)
    masks = synthetic._place([PATTERNS[name] for name in order], np.random.default_rng(seed), 64)
    topmost = np.full((64, 64), -1)
    for number, mask in enumerate(masks):
        topmost[mask] = number
    visible = [(topmost == number).sum() / mask.sum() for number, mask in enumerate(masks)]
    assert len(visible) == 12
    assert min(visible) >= 0.6


@pytest.mark.parametrize("name", NAMES)
def test_pattern_covers_enough_pixels(name: str) -> None:
    areas = [synthetic._place([PATTERNS[name]], np.random.default_rng(seed), 64)[0].sum() for seed in range(20)]
    assert min(areas) >= 40


@pytest.mark.parametrize("count", [0, 1, 3, 6])
def test_image_shows_as_many_colours_as_patterns(count: int) -> None:
    shown = []
    for seed in range(20):
        rng = np.random.default_rng(seed)
        shown.append(num_colours(draw_image(rng.permutation(NAMES)[:count].tolist(), rng)))
    assert shown.count(count) >= 0.9 * 20  # neighbouring hues may look like one


@pytest.mark.parametrize("size", [32, 64, 100])
def test_image_has_the_requested_size(size: int) -> None:
    pixels = draw_image(NAMES[:2], np.random.default_rng(0), size)
    assert pixels.shape == (size, size, 3)
    assert pixels.dtype == np.uint8


def test_pattern_differs_each_time() -> None:
    rng = np.random.default_rng(0)
    assert (draw_image(["disc"], rng) != draw_image(["disc"], rng)).any()


def test_prevalences_fall_from_40_to_20_percent() -> None:
    values = prevalences(5)
    assert values[0] == pytest.approx(0.4)
    assert values[-1] == pytest.approx(0.2)
    assert (np.diff(values) < 0).all()


# --- data sets -------------------------------------------------------------------------------------------------------


def test_data_set_has_a_file_for_each_row(tmp_path: Path) -> None:
    folder = make_synthetic_dataset(tmp_path / "synthetic", 20, 3)
    assert folder == tmp_path / "synthetic"
    _, names, _ = read_labels(folder)
    assert len(names) == 20
    assert sorted(path.name for path in (folder / "images").iterdir()) == sorted(names)
    assert sorted(path.name for path in folder.iterdir()) == ["images", "labels.csv"]


@pytest.mark.parametrize("num_labels", [1, 6, 12])
def test_data_set_has_the_requested_number_of_labels(num_labels: int, tmp_path: Path) -> None:
    labels, _, cells = read_labels(make_synthetic_dataset(tmp_path / "synthetic", 4, num_labels, size=32))
    assert labels == NAMES[:num_labels]
    assert cells.shape == (4, num_labels)


def test_images_show_as_many_colours_as_their_rows_have_labels(tmp_path: Path) -> None:
    folder = make_synthetic_dataset(tmp_path / "synthetic", 40, 6)
    _, names, cells = read_labels(folder)
    shown = [num_colours(np.asarray(Image.open(folder / "images" / name))) for name in names]
    assert (np.array(shown) == cells.sum(axis=1)).mean() >= 0.95


def test_labels_are_independent_and_have_their_prevalences(tmp_path: Path) -> None:
    _, _, cells = read_labels(make_synthetic_dataset(tmp_path / "synthetic", 400, 3, size=16))
    np.testing.assert_allclose(cells.mean(axis=0), prevalences(3), atol=0.07)
    assert np.abs(np.corrcoef(cells.T) - np.eye(3)).max() < 0.15


def test_images_have_the_requested_size(tmp_path: Path) -> None:
    folder = make_synthetic_dataset(tmp_path / "synthetic", 1, 2, size=48)
    with Image.open(folder / "images" / "00000.png") as image:
        assert image.size == (48, 48)


def test_same_seed_gives_the_same_files(tmp_path: Path) -> None:
    first = make_synthetic_dataset(tmp_path / "first", 10, 4, seed=3)
    assert contents(make_synthetic_dataset(tmp_path / "second", 10, 4, seed=3)) == contents(first)


def test_another_seed_gives_other_images(tmp_path: Path) -> None:
    first = contents(make_synthetic_dataset(tmp_path / "first", 10, 4, seed=3))
    second = contents(make_synthetic_dataset(tmp_path / "second", 10, 4, seed=4))
    assert not set(first.values()) & set(second.values())


def test_existing_data_set_is_left_unchanged(tmp_path: Path) -> None:
    folder = make_synthetic_dataset(tmp_path / "synthetic", 3, 2)
    (folder / "images" / "00001.png").write_bytes(b"changed by the user")
    before = contents(folder)
    assert make_synthetic_dataset(tmp_path / "synthetic", 5, 4, seed=9) == folder
    assert contents(folder) == before


def test_parent_folders_are_created(tmp_path: Path) -> None:
    assert (make_synthetic_dataset(tmp_path / "a" / "b" / "synthetic", 1, 1) / "labels.csv").is_file()


def test_folder_is_readable_by_other_users(tmp_path: Path) -> None:
    folder = make_synthetic_dataset(tmp_path / "synthetic", 1, 1)
    assert folder.stat().st_mode & 0o777 == 0o755


def test_folder_with_other_files_is_an_error_and_kept(tmp_path: Path) -> None:
    (tmp_path / "synthetic").mkdir()
    (tmp_path / "synthetic" / "mine.txt").write_text("mine")
    with pytest.raises(LabelrError, match="cannot write"):
        make_synthetic_dataset(tmp_path / "synthetic", 2, 1)
    assert [path.name for path in tmp_path.iterdir()] == ["synthetic"]
    assert (tmp_path / "synthetic" / "mine.txt").read_text() == "mine"


@pytest.mark.parametrize("kind", [KeyboardInterrupt, RuntimeError])
def test_interruption_leaves_nothing_behind(kind: type[BaseException], tmp_path: Path) -> None:
    def interrupt(items: Iterable[T], description: Description, total: Total = None) -> Iterator[T]:
        for number, item in enumerate(items):
            if number == 3:
                raise kind(description, total)
            yield item

    with pytest.raises(kind):
        make_synthetic_dataset(tmp_path / "synthetic", 10, 2, track=interrupt)
    assert list(tmp_path.iterdir()) == []


def test_progress_has_the_number_of_images(tmp_path: Path) -> None:
    totals: list[Total] = []

    def watch(items: Iterable[T], description: Description, total: Total = None) -> Iterator[T]:
        assert description
        for item in items:
            totals.append(total)
            yield item

    make_synthetic_dataset(tmp_path / "synthetic", 4, 1, track=watch)
    assert totals == [4] * 4
