"""Changes whole batches of training images at random, in ways that leave their labels true."""

import math
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

TRAINING_SHARE = 7 / 8
"""Training sees images of this share of the edge that scoring sees. A crop shows things larger than they are in the
whole picture, so that they have about one size in both (Touvron et al. 2019), and a quarter of the work is spared."""

GREY = (0.299, 0.587, 0.114)
"""The shares of red, green and blue in luma (ITU-R BT.601)."""


@dataclass(frozen=True, kw_only=True)
class Strength:
    """How far each change may go.

    Crops keep most of the area: with several labels a picture, a smaller crop may lose one.

    Attributes:
        min_area: The smallest share of the picture that a crop keeps.
        stretch: The largest change of a crop's width relative to its height, as a factor.
        rotation: The largest angle, in degrees.
        shift: The farthest that a crop may reach over the picture's border, as a share of the edge.
        brightness: Colours are multiplied by a factor within this of 1.
        contrast: Distances from the mean grey are multiplied by a factor within this of 1.
        saturation: Distances from each pixel's own grey are multiplied by a factor within this of 1.
        hue: The largest turn of the hues, as a share of the circle.
        cutout: The largest edge of a square that is painted over, as a share of the picture's edge.
    """

    min_area: float = 1.0
    stretch: float = 1.0
    rotation: float = 0.0
    shift: float = 0.0
    brightness: float = 0.0
    contrast: float = 0.0
    saturation: float = 0.0
    hue: float = 0.0
    cutout: float = 0.0


STRENGTHS = {
    "none": Strength(),
    "light": Strength(min_area=0.8, stretch=1.1, rotation=10, shift=0.03, brightness=0.2, contrast=0.2),
    "strong": Strength(
        min_area=0.6, stretch=1.2, rotation=15, shift=0.05, brightness=0.3, contrast=0.3, saturation=0.3, hue=0.03,
        cutout=0.4,
    ),
}  # fmt: skip
"""The positions of the dial `augment`."""


class Mixture(NamedTuple):
    """Images laid over one another, and their targets likewise."""

    images: Tensor
    targets: Tensor


def mix(images: Tensor, targets: Tensor, strength: float, generator: torch.Generator) -> Mixture:
    """Each image laid over another one of the batch, and its targets likewise (mixup, Zhang et al. 2018).

    Args:
        images: Normalised, shape ``(N, 3, S, S)``.
        targets: 1, 0 or NaN (unknown), shape ``(N, L)``; what is unknown in either image is unknown in the mixture.
        strength: The share of the first is drawn from Beta(strength, strength); 0 changes nothing.
        generator: Decides the share and the partners; on the CPU.
    """
    if strength == 0:
        return Mixture(images, targets)
    share = float(np.random.default_rng(generator.initial_seed()).beta(strength, strength))
    partner = torch.randperm(len(images), generator=generator).to(images.device)
    return Mixture(torch.lerp(images[partner], images, share), torch.lerp(targets[partner], targets, share))


class Augmentation:
    """One affine resampling of places (crop, flip, rotation, shift) and one affine change of colours a batch.

    What a rotation or shift brings in from outside is the mirrored picture: black corners, with changes of hue, cost
    0.01 mAP on photographs of scenes.

    Args:
        strength: How far the changes may go.
        flip: Whether left and right may be exchanged.
        vertical_flip: Whether up and down may be exchanged.
    """

    def __init__(self, strength: Strength, *, flip: bool = True, vertical_flip: bool = False) -> None:
        self.strength = strength
        self.flip = flip
        self.vertical_flip = vertical_flip

    def __call__(self, images: Tensor, aspects: Tensor, size: int, generator: torch.Generator) -> Tensor:
        """Each image changed in its own way.

        Args:
            images: Of any type, values in [0, 255], shape ``(N, 3, M, M)``; the work is done where they are.
            aspects: Width over height of what each image shows, ``(N,)``: the square may be a squished picture, and
                is rotated as the picture would be.
            size: S, the edge of the result.
            generator: Decides all that is random; on the CPU, so that every device sees the same changes.

        Returns:
            float32, values in [0, 255], shape ``(N, 3, S, S)``, channels last.
        """
        draws = 2 * torch.rand((12, len(images)), generator=generator) - 1  # in [-1, 1)
        places = _sent(self._places(draws[:7], aspects.cpu()), images.device)
        grid = F.affine_grid(places, [len(images), 3, size, size], align_corners=False)
        pixels = images.to(torch.float32, memory_format=torch.channels_last)
        moved = F.grid_sample(pixels, grid, padding_mode="reflection", align_corners=False)
        coloured = self._recolour(moved, draws[7:11])
        return self._cut_out(coloured, draws[11], generator).contiguous(memory_format=torch.channels_last)

    def _places(self, draws: Tensor, aspects: Tensor) -> Tensor:
        """For each image the matrix from the result's places to its own, both in [-1, 1], shape ``(N, 2, 3)``."""
        how = self.strength
        area = 1 - (1 - how.min_area) * (draws[0] + 1) / 2
        stretch = torch.exp(draws[1] * math.log(how.stretch))
        width = (area * stretch).sqrt().clamp(max=1)
        height = (area / stretch).sqrt().clamp(max=1)
        right = draws[2] * (1 - width + 2 * how.shift)
        down = draws[3] * (1 - height + 2 * how.shift)
        if self.flip:
            width = width * draws[4].sign()
        if self.vertical_flip:
            height = height * draws[5].sign()
        angle = draws[6] * math.radians(how.rotation)
        cos, sin = angle.cos(), angle.sin()
        rows = [
            torch.stack([width * cos, -height * sin / aspects, right], dim=1),
            torch.stack([width * sin * aspects, height * cos, down], dim=1),
        ]
        return torch.stack(rows, dim=1)

    def _recolour(self, images: Tensor, draws: Tensor) -> Tensor:
        """Brightness, contrast, saturation and hue: one matrix and one offset an image."""
        how = self.strength
        if not (how.brightness or how.contrast or how.saturation or how.hue):
            return images
        changes = draws * torch.tensor([how.brightness, how.contrast, how.saturation, how.hue])[:, None]
        brightness, contrast, saturation = 1 + changes[:3, :, None, None]  # (N, 1, 1) each
        greying = torch.tensor(GREY).expand(3, 3)
        matrix = _turn_hues(changes[3]) @ (saturation * torch.eye(3) + (1 - saturation) * greying)
        matrix = _sent(brightness * contrast * matrix, images.device)
        offset = _sent(brightness * (1 - contrast), images.device)
        red, green, blue = images.mean(dim=(2, 3)).unbind(1)
        mean_grey = GREY[0] * red + GREY[1] * green + GREY[2] * blue
        flat = torch.baddbmm(offset * mean_grey[:, None, None], matrix, images.flatten(2))
        return flat.clamp_(0, 255).view(images.shape)

    def _cut_out(self, images: Tensor, draws: Tensor, generator: torch.Generator) -> Tensor:
        """A square of each image painted over with its mean colour (cutout, DeVries and Taylor 2017)."""
        if not self.strength.cutout:
            return images
        size = images.shape[-1]
        half = (draws + 1) / 4 * self.strength.cutout * size  # (N,)
        centre = torch.rand((2, len(images)), generator=generator) * size
        inside = (torch.arange(size) + 0.5 - centre[..., None]).abs() <= half[:, None]  # (2, N, S)
        painted = _sent(inside[0, :, None, :, None] & inside[1, :, None, None, :], images.device)
        return torch.where(painted, images.mean(dim=(2, 3), keepdim=True), images)


def _sent(tensor: Tensor, device: torch.device) -> Tensor:
    """A tensor of the CPU on a device; only CUDA takes a copy of what is given up at once, and is not waited for."""
    return tensor.to(device, non_blocking=device.type == "cuda")


def _turn_hues(turns: Tensor) -> Tensor:
    """Matrices that turn the hues and leave luma as it is, shape ``(N, 3, 3)``: a rotation in the plane I, Q of YIQ."""
    to_yiq = torch.tensor([GREY, (0.5959, -0.2746, -0.3213), (0.2115, -0.5227, 0.3112)])
    angle = 2 * math.pi * turns
    cos, sin, zero, one = angle.cos(), angle.sin(), torch.zeros_like(angle), torch.ones_like(angle)
    rotation = torch.stack([one, zero, zero, zero, cos, -sin, zero, sin, cos], dim=1).view(-1, 3, 3)
    matrices: Tensor = to_yiq.inverse() @ rotation @ to_yiq
    return matrices
