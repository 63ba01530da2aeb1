"""Changes training images at random in ways that leave their labels true."""

import torch
from torch import Tensor
from torchvision.transforms import v2

MARGIN = 1.14
"""Training images are stored this much larger than the network sees them, so that a crop need not enlarge pixels."""


def mix(images: Tensor, targets: Tensor, strength: float) -> tuple[Tensor, Tensor]:
    """Each image laid over another one of the batch, and its targets likewise (mixup, Zhang et al. 2018).

    Args:
        images: Normalised, shape ``(N, 3, S, S)``.
        targets: 1, 0 or NaN (unknown), shape ``(N, L)``; what is unknown in either image is unknown in the mixture.
        strength: The share of the first is drawn from Beta(strength, strength); 0 changes nothing.
    """
    if strength == 0:
        return images, targets
    share = float(torch.distributions.Beta(strength, strength).sample())
    partner = torch.randperm(len(images)).to(images.device)
    return torch.lerp(images[partner], images, share), torch.lerp(targets[partner], targets, share)


class Augmentation:
    """Horizontal flip, rotation and shift, a crop of most of the picture, and a change of its brightness and contrast.

    Crops keep at least 80 % of the area: with several labels a picture, a smaller crop may lose one. What a rotation
    or shift brings in from outside is the mirrored picture: black corners, with changes of hue, cost 0.01 mAP.

    Args:
        stored_size: M, the edge of the images given, in pixels.
        image_size: S, the edge of what the network sees, in pixels.
        flip: Whether left and right may be exchanged.
    """

    def __init__(self, stored_size: int, image_size: int, *, flip: bool = True) -> None:
        self.transform = v2.Compose([
            v2.RandomHorizontalFlip(0.5 if flip else 0.0),
            v2.Pad(stored_size // 5, padding_mode="reflect"),
            v2.RandomAffine(10, translate=(0.03, 0.03), interpolation=v2.InterpolationMode.BILINEAR),
            v2.CenterCrop(stored_size),
            v2.RandomResizedCrop(image_size, scale=(0.8, 1.0), ratio=(0.9, 1.1), antialias=True),
            v2.ColorJitter(brightness=0.2, contrast=0.2),
        ])  # fmt: skip

    def __call__(self, images: Tensor) -> Tensor:  # uint8 (N, 3, M, M) -> (N, 3, S, S)
        """Each image changed in its own way, by torch's global random state."""
        return torch.stack([self.transform(image) for image in images])
