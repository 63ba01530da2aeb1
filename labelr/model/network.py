"""Networks: images in, one logit per label out. The residual CNN, a pretrained backbone, and the head of both."""

from collections.abc import Callable, Mapping, Sequence
from copy import deepcopy
from functools import cached_property
from itertools import pairwise
from typing import Any, Self, cast

import torch
from torch import Tensor, nn
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
        self.stem = _deep_stem(channels[0]) if refined else _classic_stem(channels[0])
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


def _classic_stem(channels: int) -> nn.Sequential:
    return nn.Sequential(*_conv_norm_relu(3, channels, 7, 2), nn.MaxPool2d(3, 2, 1))


def _deep_stem(channels: int) -> nn.Sequential:
    half = channels // 2
    layers = [
        *_conv_norm_relu(3, half, 3, 2),
        *_conv_norm_relu(half, half, 3, 1),
        *_conv_norm_relu(half, channels, 3, 1),
    ]
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


def count_parameters(network: nn.Module) -> int:
    """The number of trainable parameters."""
    return sum(parameter.numel() for parameter in network.parameters() if parameter.requires_grad)
