"""EfficientNet-Lite, compared with its published size, and with what its published weights see in photographs."""

import csv
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import SHARED
from torch import nn

from labelr.data.images import read_pixels
from labelr.model.backbones import LiteBackbone
from labelr.model.network import LITE_FEATURES, EfficientNetLite, SamePadConv2d, count_parameters

CLASSIFIER = 1280 * 1000 + 1000
IMAGENET = {"banana": 954, "lemon": 951, "orange": 950, "pineapple": 953}
"""Labels of groceries with their class of ImageNet."""


@pytest.mark.parametrize(("number", "parameters"), [(0, 4_652_008), (1, 5_416_680), (2, 6_092_072)])
def test_has_the_published_number_of_parameters(number: int, parameters: int) -> None:
    with torch.device("meta"):
        assert count_parameters(EfficientNetLite(number)) + CLASSIFIER == parameters


@pytest.mark.parametrize(("number", "num_features"), [(0, 2048), (1, 2048), (2, 2120)])
def test_pooled_features_are_of_any_size_of_image(number: int, num_features: int) -> None:
    with torch.device("meta"):
        network = EfficientNetLite(number).eval()
        assert network.num_features == num_features
        assert network(torch.rand(2, 3, 32, 50)).shape == (2, num_features)


def test_features_are_of_every_stage_but_the_first() -> None:
    network = EfficientNetLite(0).eval()
    images, seen = torch.rand(2, 3, 64, 64), []
    for stage in (*network.stages[1:], network.last):
        stage.register_forward_hook(lambda _, __, features: seen.append(features.mean((2, 3))))
    with torch.inference_mode():
        features = network(images)
    assert [part.shape[1] for part in seen] == [24, 40, 80, 112, 192, 320, 1280]
    torch.testing.assert_close(features, torch.cat(seen, dim=1))


def test_stride_pads_more_at_the_end_of_an_even_image() -> None:
    conv = SamePadConv2d(1, 1, 3, 2, bias=False)
    nn.init.ones_(conv.weight)
    image = torch.tensor([[1.0, 2, 3, 4]]).expand(1, 1, 4, 4)
    assert conv(image)[0, 0, 0].tolist() == [18.0, 21.0]  # columns 1 to 3, and 3 to 4, of three rows


def labelled(label: str) -> list[Path]:
    """Photographs of groceries with a label."""
    folder = SHARED / "data" / "grocery" / "train"
    with (folder / "labels.csv").open(encoding="utf-8", newline="") as file:
        return [folder / "images" / row["filename"] for row in csv.DictReader(file) if row[label] == "1"]


def test_published_weights_name_what_is_in_photographs() -> None:
    if not (SHARED / "data" / "grocery").is_dir():
        pytest.skip("needs the photographs of ../shared/data/grocery")
    backbone = LiteBackbone.of(0)
    path = backbone.local_weights()
    assert path is not None, "the tests install it"
    network, _ = backbone.build()
    backbone.load_file(network, path)
    weight, bias = list(torch.load(path, weights_only=True).values())[-2:]
    for label, number in IMAGENET.items():
        pixels = np.stack([read_pixels(image, 224) for image in labelled(label)[:8]])
        with torch.inference_mode():
            images = (torch.from_numpy(pixels).permute(0, 3, 1, 2) - 127) / 128
            best = (network.eval()(images)[:, -LITE_FEATURES:] @ weight.T + bias).topk(5).indices  # of 1000 classes
        assert (best == number).any(dim=1).float().mean() >= 0.6, label
