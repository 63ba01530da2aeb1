"""Features of images: the same with and without the cache, which survives a kill."""

from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import Cli
from torch.nn import functional as F

from labelr.config import ReadOptions, TrainConfig
from labelr.data.load import load_dataset
from labelr.data.pixel_cache import describe
from labelr.data.pixels import PixelSet
from labelr.model.device import pick_runtime
from labelr.model.info import Preprocessing
from labelr.model.network import Network, ResidualNetwork
from labelr.training import head as module
from labelr.training.head import VIEWS, compute_features

SIZE = 40
OPTIONS = ReadOptions()


@pytest.fixture
def pixels(shapes: Path) -> PixelSet:
    dataset = load_dataset([shapes], OPTIONS)
    return dataset.pixels(SIZE, rule="squish", options=OPTIONS, threads=1)


@pytest.fixture
def network() -> Network:
    torch.manual_seed(0)
    return ResidualNetwork(3, width=0.125)


def compute(network: Network, pixels: PixelSet, *, cache: float, flip: bool = True, name: str = "test") -> np.ndarray:
    runtime = pick_runtime(TrainConfig(device="cpu", threads=1))
    preprocessing = Preprocessing(image_size=SIZE, flip_averaging=flip)
    return compute_features(network, pixels, preprocessing, runtime, name=name, cache_limit=cache)


def stores() -> dict[str, int]:
    return {row["name"]: row["images"] for row in describe() if row["name"].startswith("features")}


def test_features_are_the_same_with_and_without_cache(network: Network, pixels: PixelSet) -> None:
    uncached = compute(network, pixels, cache=0)
    assert stores() == {}
    written = compute(network, pixels, cache=1)
    assert list(stores().values()) == [60]
    torch.nn.init.zeros_(network.head.hidden[1].weight)  # type: ignore[arg-type]  # it is not asked any more
    read = compute(network, pixels, cache=1)
    assert uncached.shape == (60, len(VIEWS), network.head.linear.in_features)
    assert np.array_equal(uncached, written)
    assert np.array_equal(written, read)


def test_features_are_what_the_last_layer_sees(network: Network, pixels: PixelSet) -> None:
    found = compute(network, pixels, cache=0)
    images = torch.from_numpy(pixels.take([0, 7])).permute(0, 3, 1, 2).float() / 255
    mean, std = (torch.tensor(values).view(3, 1, 1) for values in (Preprocessing(image_size=SIZE).mean, (1, 1, 1)))
    std = torch.tensor(Preprocessing(image_size=SIZE).std).view(3, 1, 1)
    images = (images - mean) / std
    corner = F.interpolate(images[:, :, :32, :32], size=SIZE, mode="bilinear")
    with torch.inference_mode():
        for view, wanted in enumerate((images, images.flip(3), corner)):
            assert np.allclose(found[[0, 7], view], network.eval().features(wanted), atol=1e-2)  # bf16 here and there


def test_mirror_images_are_left_out_with_the_setting(network: Network, pixels: PixelSet) -> None:
    both, plain = compute(network, pixels, cache=1), compute(network, pixels, cache=1, flip=False)
    assert plain.shape[1] == sum(not view.mirrored for view in VIEWS)
    assert np.array_equal(plain[:, 0], both[:, 0])
    assert len(stores()) == 2


def test_killed_run_keeps_what_it_has_written(
    network: Network, pixels: PixelSet, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "IMAGES_PER_SEGMENT", 20)
    monkeypatch.setattr(module, "BATCH_SIZE", 32)

    def killed_at_the_second_batch(items, description, total=None):  # type: ignore[no-untyped-def]
        for number, item in enumerate(items):
            if number == 1:
                raise KeyboardInterrupt
            yield item

    runtime = pick_runtime(TrainConfig(device="cpu", threads=1))
    with pytest.raises(KeyboardInterrupt):
        compute_features(
            network, pixels, Preprocessing(image_size=SIZE), runtime, name="test", cache_limit=1,
            track=killed_at_the_second_batch,
        )  # fmt: skip
    assert list(stores().values()) == [32]
    assert np.array_equal(compute(network, pixels, cache=1), compute(network, pixels, cache=0, name="other"))
    assert list(stores().values()) == [60]


def test_features_of_no_image(network: Network, pixels: PixelSet) -> None:
    assert len(compute(network, pixels.subset(np.array([], np.int64)), cache=1)) == 0


def test_cache_counts_features_apart_from_pixels(network: Network, pixels: PixelSet, cli: Cli) -> None:
    compute(network, pixels, cache=1)
    kinds = {row["kind"]: row["images"] for row in describe()}
    assert kinds == {"pixels": 60, "features": 60}
    assert "Deleted the pixels of 60 images and the features of 60 images" in cli("cache", "clear").err
