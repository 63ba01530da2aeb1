"""Augmentation of batches of training images."""

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from labelr.data.augment import STRENGTHS, Augmentation, Strength, mixup

SQUARE = torch.ones(60)


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def assert_close(actual: Tensor, expected: Tensor, atol: float = 1e-6) -> None:
    """As `torch.testing.assert_close`, whose first call takes seconds."""
    np.testing.assert_allclose(actual, expected, rtol=0, atol=atol)


def change(images: Tensor, strength: Strength, seed: int = 0, size: int = 32, **flips: bool) -> Tensor:
    """Augmented images, without flips by default."""
    augment = Augmentation(strength, **{"flip": False, **flips})
    return augment(images, torch.ones(len(images)), size, seeded(seed))


def half_bright(count: int = 1) -> Tensor:
    """Images that are dark on the left and bright on the right, ``(count, 3, 36, 36)``."""
    ramp = torch.linspace(40, 200, 36).round().to(torch.uint8)
    return ramp.expand(count, 3, 36, 36).clone()


def coloured(*colours: tuple[int, int, int]) -> Tensor:
    """Plain images, ``(N, 3, 36, 36)``."""
    return torch.tensor(colours, dtype=torch.uint8)[:, :, None, None].expand(-1, 3, 36, 36).clone()


def brighter_on_the_right(images: Tensor) -> Tensor:
    """Whether the right half of each image is brighter than the left, ``(N,)``."""
    columns = images.float().mean(dim=(1, 2))
    return columns[:, columns.shape[1] // 2 :].mean(dim=1) > columns[:, : columns.shape[1] // 2].mean(dim=1)


def luma(images: Tensor) -> Tensor:
    return images[:, 0] * 0.299 + images[:, 1] * 0.587 + images[:, 2] * 0.114


@pytest.mark.parametrize("name", STRENGTHS)
@pytest.mark.parametrize(("stored", "size"), [(36, 32), (32, 32), (73, 48)])
def test_batch_has_the_requested_size(name: str, stored: int, size: int) -> None:
    images = torch.randint(0, 256, (3, 3, stored, stored), dtype=torch.uint8)
    changed = Augmentation(STRENGTHS[name])(images, torch.tensor([1.0, 2.0, 0.5]), size, seeded())
    assert changed.shape == (3, 3, size, size)
    assert changed.dtype == torch.float32
    assert changed.is_contiguous(memory_format=torch.channels_last)
    assert 0 <= float(changed.min()) <= float(changed.max()) <= 255


def test_none_changes_nothing() -> None:
    images = torch.randint(0, 256, (4, 3, 32, 32), dtype=torch.uint8)
    assert_close(change(images, STRENGTHS["none"]), images.float(), atol=0.01)


@pytest.mark.parametrize("name", ["light", "strong"])
def test_seed_determines_the_changes(name: str) -> None:
    first, again, other = (change(half_bright(4), STRENGTHS[name], seed=seed) for seed in (3, 3, 4))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_global_random_state_is_neither_used_nor_changed() -> None:
    torch.manual_seed(1)
    first, state = change(half_bright(4), STRENGTHS["strong"]), torch.get_rng_state()
    torch.manual_seed(2)
    assert torch.equal(change(half_bright(4), STRENGTHS["strong"]), first)
    torch.manual_seed(1)
    assert torch.equal(torch.get_rng_state(), state)


def test_images_of_a_batch_are_changed_differently() -> None:
    changed = change(half_bright(6), STRENGTHS["light"])
    assert len({image.numpy().tobytes() for image in changed}) == 6


def test_input_images_are_not_modified() -> None:
    images = half_bright(2)
    change(images, STRENGTHS["strong"])
    assert torch.equal(images, half_bright(2))


def test_flip_mirrors_about_half_of_the_images() -> None:
    assert brighter_on_the_right(change(half_bright(60), STRENGTHS["light"])).all()
    mirrored = ~brighter_on_the_right(change(half_bright(60), STRENGTHS["light"], flip=True))
    assert 18 <= int(mirrored.sum()) <= 42


def test_vertical_flip_mirrors_about_half_of_the_images() -> None:
    images = half_bright(60).transpose(2, 3)
    plain, flipped = (change(images, Strength(), vertical_flip=wanted).transpose(2, 3) for wanted in (False, True))
    assert brighter_on_the_right(plain).all()
    assert 18 <= int((~brighter_on_the_right(flipped)).sum()) <= 42


def test_white_image_stays_plain_without_black_corners() -> None:
    changed = change(coloured(*[(255, 255, 255)] * 30), STRENGTHS["light"])
    assert changed.min() >= 255 * 0.8 - 1
    assert (changed.amax(dim=(1, 2, 3)) - changed.amin(dim=(1, 2, 3)) <= 1).all()


def test_crop_keeps_at_least_the_minimum_area() -> None:
    images = torch.arange(36.0).expand(200, 3, 36, 36).clone()  # each column holds its position
    changed = change(images, Strength(min_area=0.8))
    widths = changed[:, 0, 0, -1] - changed[:, 0, 0, 0] + 36 / 32  # of the crops, in columns
    assert float(widths.min()) >= 36 * math.sqrt(0.8) - 0.5
    assert float(widths.min()) < 36 * 0.93
    assert float(widths.max()) <= 36.5
    assert float(changed.min()) >= 0
    assert float(changed.max()) <= 35


def rotated_corner(aspect: float) -> Tensor:
    """Where rotation moves the right end of the middle line, in the proportions of the original image, as (x, y)."""
    augment = Augmentation(Strength(rotation=30), flip=False)
    matrix = augment._affine_matrices(torch.ones(7, 1), torch.tensor([aspect]))[0]  # the largest angle
    x, y = matrix @ torch.tensor([1.0, 0.0, 1.0])
    return torch.stack([x * aspect, y])


@pytest.mark.parametrize("aspect", [0.5, 1.0, 2.0])
def test_rotation_respects_the_aspect_ratio_of_a_squished_image(aspect: float) -> None:
    x, y = rotated_corner(aspect).tolist()
    assert math.hypot(x, y) == pytest.approx(aspect, abs=1e-5)  # lengths are preserved
    assert math.degrees(math.atan2(y, x)) == pytest.approx(30, abs=1e-3)


def test_brightness_multiplies_within_its_range() -> None:
    factors = change(coloured(*[(100, 50, 20)] * 200), Strength(brightness=0.2))[:, :, 0, 0] / torch.tensor(
        [100, 50, 20]
    )
    assert_close(factors[:, 0], factors[:, 1], atol=1e-4)
    assert 0.8 - 1e-4 <= float(factors.min()) < 0.85
    assert 1.15 < float(factors.max()) <= 1.2 + 1e-4


def test_contrast_changes_the_spread_and_keeps_the_mean_grey() -> None:
    images = half_bright(100)
    changed = change(images, Strength(contrast=0.3), size=36)
    assert_close(luma(changed).mean(dim=(1, 2)), luma(images.float()).mean(dim=(1, 2)), atol=0.5)
    spread = changed.std(dim=(1, 2, 3)) / images.float().std(dim=(1, 2, 3))
    assert 0.69 <= float(spread.min()) < 0.8
    assert 1.2 < float(spread.max()) <= 1.31


@pytest.mark.parametrize("strength", [Strength(saturation=0.5), Strength(hue=0.1)])
def test_saturation_and_hue_preserve_luma_and_grey(strength: Strength) -> None:
    images = coloured(*[(120, 100, 90)] * 50, (80, 80, 80))
    changed = change(images, strength)
    assert_close(luma(changed), luma(images.float())[:, :32, :32], atol=0.5)
    assert_close(changed[-1], images[-1, :, :32, :32].float(), atol=0.2)
    assert float(changed[:50, 0].std()) > 0.5


def test_cutout_fills_a_square_with_the_mean_colour() -> None:
    images = half_bright(60)
    changed = change(images, Strength(cutout=0.5), size=36)
    erased = (changed - images).abs() > 0.01
    shares = erased[:, 0].float().mean(dim=(1, 2))
    assert 0.01 < float(shares.mean()) <= 0.25
    assert float(shares.max()) <= 0.25 + 0.03
    assert changed[erased].sub(images.float().mean()).abs().max() < 1


# --- mixup -----------------------------------------------------------------------------------------------------------


def batch() -> tuple[Tensor, Tensor]:
    """Plain images with their brightness as first target; the second target is unknown for one of them."""
    targets = torch.tensor([[0.0, 1.0], [1.0, 1.0], [0.0, 1.0], [1.0, float("nan")]])
    return targets[:, 0, None, None, None].expand(4, 3, 8, 8).clone(), targets


def test_mixup_of_strength_zero_returns_the_batch() -> None:
    images, targets = batch()
    mixed = mixup(images, targets, 0.0, seeded())
    assert mixed[0] is images
    assert mixed[1] is targets


def test_targets_are_blended_like_the_images() -> None:
    for seed in range(20):
        images, targets = mixup(*batch(), 0.5, seeded(seed))
        assert_close(images[:, 0, 0, 0], targets[:, 0])


def test_blends_are_between_their_images() -> None:
    found = set()
    for seed in range(20):
        images = mixup(*batch(), 1.0, seeded(seed))[0]
        assert images.min() >= 0
        assert images.max() <= 1
        found |= set(images[:, 0, 0, 0].tolist())
    assert found - {0.0, 1.0}


def test_target_that_is_unknown_in_either_image_is_unknown_in_the_blend() -> None:
    for seed in range(20):
        targets = mixup(*batch(), 0.5, seeded(seed))[1]
        assert torch.isnan(targets[3, 1])
        assert int(torch.isnan(targets[:, 1]).sum()) in {1, 2}
        assert not torch.isnan(targets[:, 0]).any()


def test_seed_determines_the_blend() -> None:
    first, again = (mixup(*batch(), 0.5, seeded(5)) for _ in range(2))
    assert torch.equal(first[0], again[0])
    assert torch.equal(first[1].nan_to_num(-1), again[1].nan_to_num(-1))


def test_weights_follow_the_beta_distribution() -> None:
    images = torch.tensor([0.0, 1.0])[:, None, None, None].expand(2, 3, 1, 1)
    values = [mixup(images, torch.zeros(2, 1), 0.4, seeded(seed))[0][0, 0, 0, 0].item() for seed in range(1000)]
    inner = np.array([value for value in values if 0 < value < 1])  # where the partner is the other one
    # Beta(0.4, 0.4) has mean 1/2 and variance 1 / (4 * 1.8)
    assert inner.mean() == pytest.approx(0.5, abs=0.05)
    assert inner.var() == pytest.approx(1 / 7.2, abs=0.03)
