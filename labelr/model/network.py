"""The residual network: images in, one logit per label out."""

from copy import deepcopy
from itertools import pairwise
from typing import cast

from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval


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


class ResidualNetwork(nn.Module):
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
        hidden = scale_channels(256, width)
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.head = nn.Sequential(
            nn.Flatten(),
            nn.Linear(channels[-1], hidden),
            nn.ReLU(inplace=True),
            nn.Dropout(dropout),
            nn.Linear(hidden, num_labels),
        )
        _initialise(self, refined=refined)

    def forward(self, images: Tensor) -> Tensor:  # (N, 3, H, W) -> (N, L)
        """The logits of normalised images."""
        pooled = self.pool(self.stages(self.stem(images)))
        logits: Tensor = self.head(pooled.to(self.head[1].weight.dtype))
        return logits


def fold_batchnorm(network: ResidualNetwork) -> ResidualNetwork:
    """A copy for inference that computes the same: each BatchNorm is folded into the convolution before it."""
    copy = deepcopy(network).eval()
    for module in copy.modules():
        if isinstance(module, ResidualBlock):
            module.conv1, module.conv2 = (
                fuse_conv_bn_eval(conv, cast("nn.BatchNorm2d", norm))
                for conv, norm in ((module.conv1, module.norm1), (module.conv2, module.norm2))
            )
            module.norm1 = module.norm2 = nn.Identity()
        elif isinstance(module, nn.Sequential):
            for (index, conv), (next_index, norm) in pairwise(list(module.named_children())):
                if isinstance(conv, nn.Conv2d) and isinstance(norm, nn.BatchNorm2d):
                    module[int(index)], module[int(next_index)] = fuse_conv_bn_eval(conv, norm), nn.Identity()
    return copy


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


def count_parameters(network: nn.Module) -> int:
    """The number of trainable parameters."""
    return sum(parameter.numel() for parameter in network.parameters() if parameter.requires_grad)
