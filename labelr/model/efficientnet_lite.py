"""EfficientNet-Lite, a family of small networks that are fast without an accelerator, written from its table.

The Lite variants of EfficientNet (Tan and Le 2019) have no squeeze-and-excitation, ReLU6 instead of swish, and a stem
and last layers that are not scaled.
"""

import math
from typing import NamedTuple

from torch import Tensor, nn
from torch.nn import functional as F

STEM, LAST = 32, 1280
"""The channels of the first and of the last convolution."""
BATCHNORM_EPS = 1e-3


class Stage(NamedTuple):
    """A row of the table of EfficientNet-B0, from which all variants are scaled."""

    expansion: int
    kernel: int
    stride: int
    channels: int
    blocks: int


STAGES = (
    Stage(1, 3, 1, 16, 1),
    Stage(6, 3, 2, 24, 2),
    Stage(6, 5, 2, 40, 2),
    Stage(6, 3, 2, 80, 3),
    Stage(6, 5, 1, 112, 3),
    Stage(6, 5, 2, 192, 4),
    Stage(6, 3, 1, 320, 1),
)


class Variant(NamedTuple):
    """How one variant is scaled, and what its authors state of it.

    Attributes:
        width: Multiplier of the channel counts.
        depth: Multiplier of the numbers of blocks.
        image_size: The edge of the images that it was trained with, in pixels.
        parameters: Their number with the classifier.
        gigaflops: Work per image, in billions of multiplications.
        accuracy: Top-1 accuracy on ImageNet, in percent.
    """

    width: float
    depth: float
    image_size: int
    parameters: int
    gigaflops: float
    accuracy: float


VARIANTS = {
    0: Variant(1.0, 1.0, 224, 4_652_008, 0.407, 75.1),
    1: Variant(1.0, 1.1, 240, 5_416_680, 0.631, 76.8),
    2: Variant(1.1, 1.2, 260, 6_092_072, 0.899, 77.6),
}


class SamePadConv2d(nn.Conv2d):
    """A convolution padded as TensorFlow does, where the weights were trained: with stride 2, more at the end."""

    def forward(self, input: Tensor) -> Tensor:
        """The padded convolution of ``(N, C, H, W)``."""
        kernel, stride = self.kernel_size[0], self.stride[0]
        height, width = (max(0, (-(-edge // stride) - 1) * stride + kernel - edge) for edge in input.shape[2:])
        padding = (width // 2, width - width // 2, height // 2, height - height // 2)
        padded: Tensor = self._conv_forward(F.pad(input, padding), self.weight, self.bias)
        return padded


class InvertedResidual(nn.Module):
    """An expansion, a depthwise convolution and a linear projection, beside a skip connection where shapes allow it."""

    def __init__(self, in_channels: int, stage: Stage, out_channels: int, stride: int) -> None:
        super().__init__()
        hidden = in_channels * stage.expansion
        expand = _conv_norm_relu(in_channels, hidden, 1) if stage.expansion > 1 else []
        depthwise = _conv_norm_relu(hidden, hidden, stage.kernel, stride, groups=hidden)
        self.layers = nn.Sequential(*expand, *depthwise, *_conv_norm_relu(hidden, out_channels, 1)[:2])
        self.has_skip = stride == 1 and in_channels == out_channels

    def forward(self, features: Tensor) -> Tensor:  # (N, in, H, W) -> (N, out, ceil(H / stride), ceil(W / stride))
        """The features of the next block."""
        residual = self.layers(features)
        result: Tensor = features + residual if self.has_skip else residual
        return result


def make_efficientnet_lite(number: int) -> nn.Sequential:
    """EfficientNet-Lite0, 1 or 2 without its classifier: normalised images ``(N, 3, H, W)`` to ``(N, 1280)``."""
    variant = VARIANTS[number]
    layers = _conv_norm_relu(3, STEM, 3, 2)
    channels = STEM
    for position, stage in enumerate(STAGES):
        at_an_end = position in (0, len(STAGES) - 1)
        out_channels = _scaled_channels(stage.channels, variant.width)
        for block in range(stage.blocks if at_an_end else math.ceil(stage.blocks * variant.depth)):
            layers.append(InvertedResidual(channels, stage, out_channels, stage.stride if block == 0 else 1))
            channels = out_channels
    return nn.Sequential(*layers, *_conv_norm_relu(channels, LAST, 1), nn.AdaptiveAvgPool2d(1), nn.Flatten())


def _conv_norm_relu(
    in_channels: int, out_channels: int, kernel: int, stride: int = 1, *, groups: int = 1
) -> list[nn.Module]:
    kind, padding = (nn.Conv2d, kernel // 2) if stride == 1 else (SamePadConv2d, 0)
    conv = kind(in_channels, out_channels, kernel, stride, padding, groups=groups, bias=False)
    return [conv, nn.BatchNorm2d(out_channels, eps=BATCHNORM_EPS), nn.ReLU6(inplace=True)]


def _scaled_channels(channels: int, width: float) -> int:
    """A channel count scaled to a multiple of 8, at most 10 % lower than exact."""
    rounded = max(8, int(channels * width + 4) // 8 * 8)
    return rounded + 8 if rounded < 0.9 * channels * width else rounded
