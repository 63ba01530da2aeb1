"""The residual network."""

import pytest
import torch

from labelr.model.network import ResidualNetwork, count_parameters, scale_channels


@pytest.mark.parametrize("stem", ["deep", "classic"])
@pytest.mark.parametrize("size", [(32, 32), (33, 47), (128, 96)])
def test_any_input_size_gives_one_logit_a_label(stem: str, size: tuple[int, int]) -> None:
    network = ResidualNetwork(5, stem=stem, width=0.125).eval()
    assert network(torch.zeros(2, 3, *size)).shape == (2, 5)


def test_channels_and_strides_are_those_of_the_plan() -> None:
    network = ResidualNetwork(5).eval()
    features = network.stem(torch.zeros(1, 3, 128, 128))
    shapes = [tuple(features.shape[1:])]
    for stage in network.stages:
        features = stage(features)
        shapes.append(tuple(features.shape[1:]))
    assert shapes == [(64, 32, 32), (64, 32, 32), (128, 16, 16), (256, 8, 8), (512, 4, 4)]


def test_parameters_of_the_classic_network_are_those_worked_out_by_hand() -> None:
    convolutions = 3 * 64 * 49 + 4 * 9 * 64 * 64
    for narrow, wide in ((64, 128), (128, 256), (256, 512)):
        convolutions += 9 * narrow * wide + 3 * 9 * wide * wide + narrow * wide
    norms = 2 * (64 * 5 + 128 * 5 + 256 * 5 + 512 * 5)
    head = 512 * 256 + 256 + 256 * 7 + 7
    assert count_parameters(ResidualNetwork(7, stem="classic")) == convolutions + norms + head


def test_deep_network_starts_with_blocks_that_are_the_identity() -> None:
    stage = ResidualNetwork(5, width=0.125).eval().stages[0]
    features = torch.rand(1, 8, 8, 8)
    assert torch.equal(stage(features), features)


def test_every_pixel_of_the_input_reaches_the_deep_network() -> None:
    torch.manual_seed(0)
    network = ResidualNetwork(1, width=0.125).eval()
    image = torch.rand(1, 3, 48, 48, requires_grad=True)
    network(image).sum().backward()
    assert image.grad is not None
    assert (image.grad.abs().sum(dim=(0, 1)) > 0).float().mean() > 0.99


def test_logits_are_not_squashed() -> None:
    torch.manual_seed(0)
    logits = ResidualNetwork(200, width=0.125).eval()(10 * torch.randn(4, 3, 32, 32))
    assert logits.min() < 0
    assert logits.max() > 1


def test_width_scales_all_channels_and_keeps_at_least_eight() -> None:
    assert [scale_channels(base, 0.5) for base in (64, 512)] == [32, 256]
    assert scale_channels(64, 0.01) == 8
    assert count_parameters(ResidualNetwork(5, width=2)) > 3.5 * count_parameters(ResidualNetwork(5))


def test_dropout_acts_in_training_alone() -> None:
    torch.manual_seed(0)
    network = ResidualNetwork(5, width=0.125, dropout=0.9)
    images = torch.rand(4, 3, 32, 32)
    assert torch.equal(network.eval()(images), network(images))
    network.head.train()
    assert not torch.equal(network(images), network(images))
