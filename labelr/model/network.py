"""Networks: images in, one logit per label out. The residual CNN, pretrained backbones, and the head of both."""

import math
from collections.abc import Callable, Mapping, Sequence
from copy import deepcopy
from functools import cached_property
from itertools import pairwise
from typing import Any, NamedTuple, Self, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.fusion import fuse_conv_bn_eval
from torch.overrides import TorchFunctionMode


class ResidualBlock(nn.Module):
    """Two 3x3 convolutions beside a skip connection (He et al. 2016, basic block).

    `refined` adds two tricks of He et al. 2019 ("bag of tricks"): a strided projection average-pools before its 1x1
    convolution, so that no input pixel is ignored, and the last BatchNorm is initialised to zero, so that every block
    starts as the identity.
    """

    def __init__(self, in_channels: int, out_channels: int, stride: int, *, refined: bool) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, out_channels, 3, stride, 1, bias=False)
        self.norm1: nn.Module = nn.BatchNorm2d(out_channels)
        self.conv2 = nn.Conv2d(out_channels, out_channels, 3, 1, 1, bias=False)
        self.norm2: nn.Module = nn.BatchNorm2d(out_channels)
        self.relu = nn.ReLU(inplace=True)
        self.skip = nn.Identity() if stride == 1 else _projection(in_channels, out_channels, stride, pool=refined)

    def forward(self, features: Tensor) -> Tensor:  # (N, in, H, W) -> (N, out, ceil(H / stride), ceil(W / stride))
        """The features of the next block."""
        residual = self.relu(self.norm1(self.conv1(features)))
        residual = self.norm2(self.conv2(residual))
        summed: Tensor = self.relu(residual + self.skip(features))
        return summed


class Head(nn.Module):
    """The last layers: from the body's pooled features to logits.

    Args:
        in_features: The number of features of the body.
        num_labels: L, the number of logits.
        dropout: Dropout probability before the last layer, in [0, 1).
        hidden: The size of a hidden layer; 0 for none.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, in_features: int, num_labels: int, dropout: float, *, hidden: int = 0) -> None:
        super().__init__()
        layers = [nn.Linear(in_features, hidden), nn.ReLU(inplace=True)] if hidden else []
        self.hidden = nn.Sequential(nn.Flatten(), *layers)
        self.register_buffer("mean", torch.zeros(hidden or in_features))  # of the features, as pretrained
        self.register_buffer("std", torch.ones(hidden or in_features))
        self.dropout = nn.Dropout(dropout)
        self.linear = nn.Linear(hidden or in_features, num_labels)

    def forward(self, features: Tensor) -> Tensor:  # (N, F) -> (N, L)
        """The logits of the features that `hidden` returns."""
        logits: Tensor = self.linear(self.dropout((features - self.mean) / self.std))
        return logits


class Network(nn.Module):
    """A body that computes features, and a head that computes logits from them.

    Attributes:
        head: The last layers.
        keeps_statistics: Whether BatchNorms use their running statistics in training too, without changing them.
    """

    head: Head
    keeps_statistics = False

    def body(self, images: Tensor) -> Tensor:  # (N, 3, H, W) -> (N, C) or (N, C, 1, 1)
        """The pooled features of normalised images."""
        raise NotImplementedError

    def features(self, images: Tensor) -> Tensor:  # (N, 3, H, W) -> (N, F)
        """The features that the last layer sees."""
        features: Tensor = self.head.hidden(self.body(images).to(self.head.linear.weight.dtype))
        return features

    def forward(self, images: Tensor) -> Tensor:  # (N, 3, H, W) -> (N, L)
        """The logits of normalised images."""
        logits: Tensor = self.head(self.features(images))
        return logits

    def train(self, mode: bool = True) -> Self:
        """Sets the mode of all layers; BatchNorms stay in evaluation mode if they keep their statistics."""
        super().train(mode)
        if self.keeps_statistics:
            for module in self.modules():
                if isinstance(module, nn.modules.batchnorm._BatchNorm):  # noqa: SLF001 - the base class of all of them
                    module.eval()
        return self


class BackboneNetwork(Network):
    """A backbone under labelr's head.

    Args:
        backbone: Computes pooled features ``(N, C)`` of images.
        in_features: C.
        num_labels: L, the number of logits.
        dropout: Dropout probability before the last layer, in [0, 1).
        image_size: An edge of images that the backbone takes, in pixels.
    """

    def __init__(
        self, backbone: nn.Module, in_features: int, num_labels: int, *, dropout: float = 0.3, image_size: int = 224
    ) -> None:
        super().__init__()
        self.backbone = backbone
        self.image_size = image_size
        self.head = Head(in_features, num_labels, dropout)

    def body(self, images: Tensor) -> Tensor:
        """The pooled features of normalised images."""
        features: Tensor = self.backbone(images)
        return features

    @cached_property
    @torch.no_grad()
    def is_foldable(self) -> bool:
        """Whether the features are the same after folding, with arbitrary statistics in the BatchNorms."""
        if not any(type(module) is nn.BatchNorm2d for module in self.modules()):
            return False
        copy = deepcopy(self).to("cpu", torch.float32).eval()
        for norm in (module for module in copy.modules() if type(module) is nn.BatchNorm2d):
            shift = torch.linspace(-0.3, 0.3, norm.num_features)
            for tensor, values in ((norm.running_mean, shift), (norm.running_var, 1 + shift), (norm.bias, -shift)):
                cast("Tensor", tensor).copy_(values)
        image = torch.linspace(-2, 2, 3 * self.image_size**2).view(1, 3, self.image_size, self.image_size)
        wanted = copy.features(image)
        found = _fold_layers(copy).features(image)
        return bool((wanted - found).norm() <= 1e-3 * wanted.norm())


class ResidualNetwork(Network):
    """The multi-label residual CNN: 18 layers, any input size, no final activation.

    Args:
        num_labels: L, the number of logits.
        stem: ``"deep"`` for three 3x3 convolutions, pooled projections and zero-initialised last BatchNorms;
            ``"classic"`` for one 7x7 convolution and plain projections.
        width: Scales every channel count; 1.0 means 64, 128, 256 and 512 channels in the four stages.
        dropout: Dropout probability before the last layer, in [0, 1).
    """

    def __init__(self, num_labels: int, *, stem: str = "deep", width: float = 1.0, dropout: float = 0.3) -> None:
        super().__init__()
        refined = stem == "deep"
        channels = [scale_channels(base, width) for base in (64, 128, 256, 512)]
        self.stem = _stem(channels[0], deep=refined)
        self.stages = nn.Sequential()
        previous = channels[0]
        for depth, current in enumerate(channels):
            first = ResidualBlock(previous, current, 1 if depth == 0 else 2, refined=refined)
            self.stages.append(nn.Sequential(first, ResidualBlock(current, current, 1, refined=refined)))
            previous = current
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.head = Head(channels[-1], num_labels, dropout, hidden=scale_channels(256, width))
        _initialise(self, refined=refined)

    def body(self, images: Tensor) -> Tensor:
        """The pooled features of normalised images."""
        pooled: Tensor = self.pool(self.stages(self.stem(images)))
        return pooled


def fold_batchnorm(network: Network) -> Network:
    """A copy for inference that computes the same: each BatchNorm is folded into the convolution before it.

    A BatchNorm that is registered right after a convolution is taken for one that follows it. Where that does not hold
    for a backbone, the copy is not folded; this depends on its layers alone, not on its weights.
    """
    keeps_layers = isinstance(network, BackboneNetwork) and not network.is_foldable
    copy = deepcopy(network).eval()
    return copy if keeps_layers else _fold_layers(copy)


def _fold_layers(network: Network) -> Network:
    """The network itself, in evaluation mode, with each BatchNorm folded into the convolution before it."""
    for module in list(network.eval().modules()):
        for (name, conv), (next_name, norm) in pairwise(list(module.named_children())):
            if isinstance(conv, nn.Conv2d) and type(norm) is nn.BatchNorm2d and conv.out_channels == norm.num_features:
                setattr(module, name, fuse_conv_bn_eval(conv, norm))
                setattr(module, next_name, nn.Identity())
    return network


def scale_channels(channels: int, width: float) -> int:
    """A channel count scaled by `width`, rounded to a multiple of 8, which is fast on every device; at least 8."""
    return max(8, round(channels * width / 8) * 8)


def _conv_norm_relu(in_channels: int, out_channels: int, kernel: int, stride: int) -> list[nn.Module]:
    conv = nn.Conv2d(in_channels, out_channels, kernel, stride, kernel // 2, bias=False)
    return [conv, nn.BatchNorm2d(out_channels), nn.ReLU(inplace=True)]


def _stem(channels: int, *, deep: bool) -> nn.Sequential:
    half = channels // 2
    sizes = [(3, half, 3, 2), (half, half, 3, 1), (half, channels, 3, 1)] if deep else [(3, channels, 7, 2)]
    layers = [layer for size in sizes for layer in _conv_norm_relu(*size)]
    return nn.Sequential(*layers, nn.MaxPool2d(3, 2, 1))


def _projection(in_channels: int, out_channels: int, stride: int, *, pool: bool) -> nn.Sequential:
    if not pool:
        return nn.Sequential(nn.Conv2d(in_channels, out_channels, 1, stride, bias=False), nn.BatchNorm2d(out_channels))
    return nn.Sequential(
        nn.AvgPool2d(stride, stride, ceil_mode=True, count_include_pad=False),
        nn.Conv2d(in_channels, out_channels, 1, bias=False),
        nn.BatchNorm2d(out_channels),
    )


def _initialise(network: nn.Module, *, refined: bool) -> None:
    """Kaiming initialisation (He et al. 2015); refined blocks start as the identity."""
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
        elif isinstance(module, nn.Linear):
            nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
            nn.init.zeros_(module.bias)
        elif isinstance(module, ResidualBlock) and refined:
            nn.init.zeros_(cast("nn.BatchNorm2d", module.norm2).weight)


class RandomInitSkipped(TorchFunctionMode):
    """Leaves out the random initialisation of weights that are loaded afterwards, or of a network without memory."""

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        """Calls a function of torch."""
        given = kwargs or {}
        if getattr(func, "__name__", "") in ("uniform_", "normal_"):
            return args[0] if args else given["tensor"]
        return func(*args, **given)


def trained_parameters(network: nn.Module) -> list[nn.Parameter]:
    """The parameters of a network that are not frozen, in order."""
    return [parameter for parameter in network.parameters() if parameter.requires_grad]


def count_parameters(network: nn.Module) -> int:
    """The number of parameters that are not frozen."""
    return sum(parameter.numel() for parameter in trained_parameters(network))


# --- EfficientNet-Lite -----------------------------------------------------------------------------------------------
#
# Small networks that are fast without an accelerator, written from their table. These variants of EfficientNet (Tan and
# Le 2019) have no squeeze-and-excitation, ReLU6 instead of swish, and a stem and last layers that are not scaled.

LITE_STEM, LITE_FEATURES = 32, 1280
"""The channels of the first and of the last convolution."""
LITE_EPS = 1e-3


LITE_STAGES = (
    (1, 3, 1, 16, 1),
    (6, 3, 2, 24, 2),
    (6, 5, 2, 40, 2),
    (6, 3, 2, 80, 3),
    (6, 5, 1, 112, 3),
    (6, 5, 2, 192, 4),
    (6, 3, 1, 320, 1),
)
"""The table of EfficientNet-B0, from which all variants are scaled: expansion, kernel, stride, channels and blocks."""


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

    def __init__(self, in_channels: int, out_channels: int, expansion: int, kernel: int, stride: int) -> None:
        super().__init__()
        hidden = in_channels * expansion
        expand = _lite_convolution(in_channels, hidden, 1) if expansion > 1 else []
        depthwise = _lite_convolution(hidden, hidden, kernel, stride, groups=hidden)
        self.layers = nn.Sequential(*expand, *depthwise, *_lite_convolution(hidden, out_channels, 1)[:2])
        self.has_skip = stride == 1 and in_channels == out_channels

    def forward(self, features: Tensor) -> Tensor:  # (N, in, H, W) -> (N, out, ceil(H / stride), ceil(W / stride))
        """The features of the next block."""
        residual = self.layers(features)
        result: Tensor = features + residual if self.has_skip else residual
        return result


class EfficientNetLite(nn.Module):
    """EfficientNet-Lite0, 1 or 2 without its classifier.

    Its features are those of the last layer, pooled, and before them those of all stages but the first: of a few
    hundred images, a linear layer learns more from several depths of a frozen network than from the last (Evci et al.
    2022, "Head2Toe").

    Attributes:
        num_features: C, their number.
    """

    def __init__(self, number: int) -> None:
        super().__init__()
        variant = VARIANTS[number]
        self.stem = nn.Sequential(*_lite_convolution(3, LITE_STEM, 3, 2))
        self.stages = nn.ModuleList()
        channels, self.num_features = LITE_STEM, LITE_FEATURES
        for position, (expansion, kernel, stride, base, blocks) in enumerate(LITE_STAGES):
            is_first, is_last = position == 0, position == len(LITE_STAGES) - 1
            out_channels = _lite_channels(base, variant.width)
            stage = nn.Sequential()
            for block in range(blocks if is_first or is_last else math.ceil(blocks * variant.depth)):
                stage.append(InvertedResidual(channels, out_channels, expansion, kernel, stride if block == 0 else 1))
                channels = out_channels
            self.stages.append(stage)
            self.num_features += 0 if is_first else channels
        self.last = nn.Sequential(*_lite_convolution(channels, LITE_FEATURES, 1))

    def forward(self, images: Tensor) -> Tensor:  # (N, 3, H, W) -> (N, C)
        """The pooled features of normalised images, those of the last layer last."""
        features, pooled = self.stem(images), []
        for stage in (*self.stages, self.last):
            features = stage(features)
            pooled.append(features.mean((2, 3)))
        return torch.cat(pooled[1:], dim=1)


def _lite_convolution(
    in_channels: int, out_channels: int, kernel: int, stride: int = 1, *, groups: int = 1
) -> list[nn.Module]:
    kind, padding = (nn.Conv2d, kernel // 2) if stride == 1 else (SamePadConv2d, 0)
    conv = kind(in_channels, out_channels, kernel, stride, padding, groups=groups, bias=False)
    return [conv, nn.BatchNorm2d(out_channels, eps=LITE_EPS), nn.ReLU6(inplace=True)]


def _lite_channels(channels: int, width: float) -> int:
    """A channel count scaled to a multiple of 8, at most 10 % lower than exact."""
    rounded = max(8, int(channels * width + 4) // 8 * 8)
    return rounded + 8 if rounded < 0.9 * channels * width else rounded
