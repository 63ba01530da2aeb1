"""Augmentation: random changes of whole batches of training images that leave their labels valid."""

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

TRAINING_SHARE = 7 / 8
"""Edge of training images as a share of the edge in scoring. Crops enlarge objects, so that they have about the same
size in both (Touvron et al. 2019), and a quarter of the work is saved."""

GREY = (0.299, 0.587, 0.114)
"""Weights of red, green and blue in luma (ITU-R BT.601)."""


@dataclass(frozen=True, kw_only=True)
class Strength:
    """The range of each random change.

    Crops keep most of the area: a smaller crop of an image with several labels may lose one.

    Attributes:
        min_area: The smallest share of the image that a crop keeps.
        stretch: The largest factor by which a crop's aspect ratio changes.
        rotation: The largest angle, in degrees.
        shift: How far a crop may extend over the image's border, as a share of the edge.
        brightness: Colours are multiplied by a factor in ``[1 - brightness, 1 + brightness]``.
        contrast: The differences from the image's mean grey are multiplied in the same way.
        saturation: The differences from each pixel's own grey are multiplied in the same way.
        hue: The largest rotation of the hue, as a share of the colour circle.
        cutout: The largest edge of the square that is erased, as a share of the image's edge.
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
"""The values of the setting `augment`."""


def mixup(images: Tensor, targets: Tensor, strength: float, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """The images and targets, each blended with those of another image of the batch (Zhang et al. 2018).

    Args:
        images: Normalised, shape ``(N, 3, S, S)``.
        targets: 1, 0 or NaN (unknown), shape ``(N, L)``; NaN in either image gives NaN in the blend.
        strength: The weight of the first image is drawn from Beta(strength, strength); 0 changes nothing.
        generator: Source of the weight and the partners; on the CPU.
    """
    if strength == 0:
        return images, targets
    weight = float(np.random.default_rng(generator.initial_seed()).beta(strength, strength))
    partner = to_device(torch.randperm(len(images), generator=generator), images.device)
    return torch.lerp(images[partner], images, weight), torch.lerp(targets[partner], targets, weight)


class Augmentation:
    """Random crop, flip, rotation and shift in one affine resampling, then colour jitter in one affine map.

    Areas outside of the image are filled by reflection: black corners, combined with changes of hue, cost 0.01 mAP on
    photographs of scenes. `flip` flips half of the images horizontally, and `vertical_flip` half of them vertically.
    """

    def __init__(self, strength: Strength, *, flip: bool = True, vertical_flip: bool = False) -> None:
        self.strength = strength
        self.flip = flip
        self.vertical_flip = vertical_flip

    def __call__(self, images: Tensor, aspects: Tensor, size: int, generator: torch.Generator) -> Tensor:
        """The images, each changed at random.

        Args:
            images: Of any dtype, values in [0, 255], shape ``(N, 3, M, M)``, on the device that does the work.
            aspects: Width over height of each original image, ``(N,)``: a squished image is rotated as its original
                would be.
            size: S, the edge of the result.
            generator: Source of all randomness; on the CPU, so that every device gets the same changes.

        Returns:
            float32, values in [0, 255], shape ``(N, 3, S, S)``, channels last.
        """
        draws = 2 * torch.rand((12, len(images)), generator=generator) - 1  # in [-1, 1)
        matrices = to_device(self._affine_matrices(draws[:7], aspects.cpu()), images.device)
        grid = F.affine_grid(matrices, [len(images), 3, size, size], align_corners=False)
        pixels = images.to(torch.float32, memory_format=torch.channels_last)
        moved = F.grid_sample(pixels, grid, padding_mode="reflection", align_corners=False)
        jittered = self._jitter_colours(moved, draws[7:11])
        return self._cutout(jittered, draws[11], generator).contiguous(memory_format=torch.channels_last)

    def _affine_matrices(self, draws: Tensor, aspects: Tensor) -> Tensor:
        """Matrices from output to input coordinates, both in [-1, 1], shape ``(N, 2, 3)``."""
        strength = self.strength
        area = 1 - (1 - strength.min_area) * (draws[0] + 1) / 2
        stretch = torch.exp(draws[1] * math.log(strength.stretch))
        width = (area * stretch).sqrt().clamp(max=1)
        height = (area / stretch).sqrt().clamp(max=1)
        right = draws[2] * (1 - width + 2 * strength.shift)
        down = draws[3] * (1 - height + 2 * strength.shift)
        if self.flip:
            width = width * draws[4].sign()
        if self.vertical_flip:
            height = height * draws[5].sign()
        angle = draws[6] * math.radians(strength.rotation)
        cos, sin = angle.cos(), angle.sin()
        rows = [
            torch.stack([width * cos, -height * sin / aspects, right], dim=1),
            torch.stack([width * sin * aspects, height * cos, down], dim=1),
        ]
        return torch.stack(rows, dim=1)

    def _jitter_colours(self, images: Tensor, draws: Tensor) -> Tensor:
        """Brightness, contrast, saturation and hue changed by one matrix and one offset per image."""
        strength = self.strength
        if not (strength.brightness or strength.contrast or strength.saturation or strength.hue):
            return images
        changes = (
            draws * torch.tensor([strength.brightness, strength.contrast, strength.saturation, strength.hue])[:, None]
        )
        brightness, contrast, saturation = 1 + changes[:3, :, None, None]  # (N, 1, 1) each
        greying = torch.tensor(GREY).expand(3, 3)
        matrix = _hue_rotations(changes[3]) @ (saturation * torch.eye(3) + (1 - saturation) * greying)
        matrix = to_device(brightness * contrast * matrix, images.device)
        offset = to_device(brightness * (1 - contrast), images.device)
        red, green, blue = images.mean(dim=(2, 3)).unbind(1)
        mean_grey = GREY[0] * red + GREY[1] * green + GREY[2] * blue
        flat = torch.baddbmm(offset * mean_grey[:, None, None], matrix, images.flatten(2))
        return flat.clamp_(0, 255).view(images.shape)

    def _cutout(self, images: Tensor, draws: Tensor, generator: torch.Generator) -> Tensor:
        """A random square of each image filled with the image's mean colour (DeVries and Taylor 2017)."""
        if not self.strength.cutout:
            return images
        size = images.shape[-1]
        half = (draws + 1) / 4 * self.strength.cutout * size  # (N,)
        centre = torch.rand((2, len(images)), generator=generator) * size
        inside = (torch.arange(size) + 0.5 - centre[..., None]).abs() <= half[:, None]  # (2, N, S)
        rows, columns = to_device(inside, images.device)
        erased = rows[:, None, :, None] & columns[:, None, None, :]
        return torch.where(erased, images.mean(dim=(2, 3), keepdim=True), images)


def to_device(tensor: Tensor, device: torch.device) -> Tensor:
    """A CPU tensor on a device. Only MPS waits for the copy: CUDA has read the source when it returns."""
    return tensor.to(device, non_blocking=device.type != "mps")


def _hue_rotations(turns: Tensor) -> Tensor:
    """Matrices that rotate the hue and preserve luma, shape ``(N, 3, 3)``: rotations in the I-Q plane of YIQ."""
    to_yiq = torch.tensor([GREY, (0.5959, -0.2746, -0.3213), (0.2115, -0.5227, 0.3112)])
    angle = 2 * math.pi * turns
    cos, sin, zero, one = angle.cos(), angle.sin(), torch.zeros_like(angle), torch.ones_like(angle)
    rotation = torch.stack([one, zero, zero, zero, cos, -sin, zero, sin, cos], dim=1).view(-1, 3, 3)
    matrices: Tensor = to_yiq.inverse() @ rotation @ to_yiq
    return matrices
