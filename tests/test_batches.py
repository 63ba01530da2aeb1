"""Batches of training images."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from labelr.config import ReadOptions, TrainConfig
from labelr.data.dataset import Dataset
from labelr.data.pixels import open_pixels
from labelr.training.batches import Batch, TrainImages, step_seed


@pytest.fixture
def images(tmp_path: Path) -> TrainImages:
    return make_images(tmp_path)


def make_images(folder: Path, *, seed: int = 0, squished: bool = True) -> TrainImages:
    """Ten images of grey 0, 10, 20 and so on, three a batch."""
    paths = [folder / f"{number}.png" for number in range(10)]
    for number, path in enumerate(paths):
        Image.new("L", (40, 20), 10 * number).save(path)
    targets = np.stack([np.arange(10), np.full(10, np.nan)], axis=1).astype(np.float32)
    listed = Dataset(folder / "labels.csv", "shapes", folder, tuple(path.name for path in paths), ("a", "b"), targets)
    dataset = listed.scanned(ReadOptions())
    pixels = open_pixels(paths, dataset.digests, 8)
    return TrainImages.of(
        dataset, pixels, TrainConfig(batch_size=3, seed=seed, resize="squish" if squished else "crop")
    )


def greys(batches: list[Batch]) -> list[int]:
    return [int(image[0, 0, 0]) for batch in batches for image in batch.images]


def test_epoch_sees_each_image_at_most_once_in_whole_batches(images: TrainImages) -> None:
    batches = list(images.epoch(1))
    assert [batch.images.shape for batch in batches] == [(3, 3, 8, 8)] * 3 == [(3, 3, 8, 8)] * images.steps
    assert len(set(greys(batches))) == 9


def test_targets_and_aspects_are_those_of_the_images(images: TrainImages) -> None:
    for batch in images.epoch(1):
        np.testing.assert_array_equal(batch.targets[:, 0], batch.images[:, 0, 0, 0] / 10)
        assert batch.targets[:, 1].isnan().all()
        assert batch.aspects.tolist() == [2.0] * 3


def test_images_that_were_not_squished_have_their_true_proportions(tmp_path: Path) -> None:
    assert next(make_images(tmp_path, squished=False).epoch(1)).aspects.tolist() == [1.0] * 3


def test_order_depends_on_seed_and_epoch_alone(images: TrainImages, tmp_path: Path) -> None:
    first = greys(list(images.epoch(1)))
    torch.manual_seed(5)
    assert greys(list(images.epoch(1))) == first
    assert greys(list(images.epoch(2))) != first
    assert greys(list(make_images(tmp_path, seed=1).epoch(1))) != first


def test_every_step_has_another_seed(images: TrainImages) -> None:
    seeds = [batch.seed for epoch in (1, 2) for batch in images.epoch(epoch)]
    assert len(set(seeds)) == 6
    assert all(0 <= seed < 2**63 for seed in seeds)
    assert seeds[4] == step_seed(0, 2, 1)


def test_batch_is_no_larger_than_there_are_images(tmp_path: Path) -> None:
    images = make_images(tmp_path)
    whole = TrainImages(images.pixels, images.targets, images.aspects, 10, 0)
    assert whole.steps == 1
    assert len(next(whole.epoch(1)).images) == 10
