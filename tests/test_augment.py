"""Random changes of training images."""

import pytest
import torch
from torch import Tensor

from labelr.data.augment import Augmentation, mix


def half_bright(count: int = 1) -> Tensor:
    """Images that are dark on the left and bright on the right, ``(count, 3, 36, 36)``."""
    ramp = torch.linspace(40, 200, 36).round().to(torch.uint8)
    return ramp.expand(count, 3, 36, 36).clone()


def brighter_on_the_right(images: Tensor) -> Tensor:
    """Whether the right half of each image is brighter than the left, ``(N,)``."""
    columns = images.float().mean(dim=(1, 2))
    return columns[:, columns.shape[1] // 2 :].mean(dim=1) > columns[:, : columns.shape[1] // 2].mean(dim=1)


@pytest.mark.parametrize(("stored", "size"), [(36, 32), (32, 32), (73, 64)])
def test_batch_keeps_its_length_and_kind_and_takes_the_size_of_the_network(stored: int, size: int) -> None:
    images = torch.randint(0, 256, (3, 3, stored, stored), dtype=torch.uint8)
    changed = Augmentation(stored, size)(images)
    assert changed.shape == (3, 3, size, size)
    assert changed.dtype == torch.uint8


def test_same_seed_changes_images_in_the_same_way() -> None:
    augment = Augmentation(36, 32)
    torch.manual_seed(3)
    first = augment(half_bright(4))
    torch.manual_seed(3)
    assert torch.equal(augment(half_bright(4)), first)


def test_another_seed_changes_images_in_another_way() -> None:
    augment = Augmentation(36, 32)
    torch.manual_seed(3)
    first = augment(half_bright(4))
    torch.manual_seed(4)
    assert not torch.equal(augment(half_bright(4)), first)


def test_each_image_of_a_batch_is_changed_in_its_own_way() -> None:
    torch.manual_seed(0)
    changed = Augmentation(36, 32)(half_bright(6))
    assert len({image.numpy().tobytes() for image in changed}) == 6


def test_images_given_stay_as_they_are() -> None:
    images = half_bright(2)
    Augmentation(36, 32)(images)
    assert torch.equal(images, half_bright(2))


def test_without_flip_no_image_is_mirrored() -> None:
    torch.manual_seed(0)
    assert brighter_on_the_right(Augmentation(36, 32, flip=False)(half_bright(60))).all()


def test_with_flip_about_half_of_the_images_are_mirrored() -> None:
    torch.manual_seed(0)
    mirrored = ~brighter_on_the_right(Augmentation(36, 32)(half_bright(60)))
    assert 18 <= int(mirrored.sum()) <= 42


def test_white_image_stays_plain_without_black_corners() -> None:
    torch.manual_seed(0)
    changed = Augmentation(36, 32)(torch.full((30, 3, 36, 36), 255, dtype=torch.uint8)).float()
    assert changed.min() >= 255 * 0.8 - 1
    assert (changed.amax(dim=(1, 2, 3)) - changed.amin(dim=(1, 2, 3)) <= 1).all()


def test_crop_keeps_most_of_the_picture() -> None:
    torch.manual_seed(0)
    changed = Augmentation(36, 32, flip=False)(half_bright(30)).float()
    spread = changed.amax(dim=(1, 2, 3)) - changed.amin(dim=(1, 2, 3))
    assert (spread >= 160 * 0.5).all()


# --- mixtures --------------------------------------------------------------------------------------------------------


def batch() -> tuple[Tensor, Tensor]:
    """Plain images whose brightness is their own target, and which all know their second target but one."""
    targets = torch.tensor([[0.0, 1.0], [1.0, 1.0], [0.0, 1.0], [1.0, float("nan")]])
    return targets[:, 0, None, None, None].expand(4, 3, 8, 8).clone(), targets


def test_mixture_of_strength_zero_is_the_batch_itself() -> None:
    images, targets = batch()
    mixed_images, mixed_targets = mix(images, targets, 0.0)
    assert mixed_images is images
    assert mixed_targets is targets


def test_targets_are_mixed_as_the_images_are() -> None:
    for seed in range(20):
        torch.manual_seed(seed)
        images, targets = mix(*batch(), 0.5)
        torch.testing.assert_close(images[:, 0, 0, 0], targets[:, 0])


def test_mixtures_lie_between_their_images() -> None:
    found = set()
    for seed in range(20):
        torch.manual_seed(seed)
        images, _ = mix(*batch(), 1.0)
        assert images.min() >= 0
        assert images.max() <= 1
        found |= set(images[:, 0, 0, 0].tolist())
    assert found - {0.0, 1.0}


def test_target_that_is_unknown_in_either_image_is_unknown_in_the_mixture() -> None:
    for seed in range(20):
        torch.manual_seed(seed)
        _, targets = mix(*batch(), 0.5)
        assert torch.isnan(targets[3, 1])
        assert int(torch.isnan(targets[:, 1]).sum()) in {1, 2}
        assert not torch.isnan(targets[:, 0]).any()


def test_same_seed_mixes_in_the_same_way() -> None:
    torch.manual_seed(5)
    first, _ = mix(*batch(), 0.5)
    torch.manual_seed(5)
    assert torch.equal(mix(*batch(), 0.5)[0], first)


def test_mixture_is_between_two_images_and_so_are_its_targets() -> None:
    images = torch.rand(8, 3, 4, 4)
    targets = (torch.rand(8, 2) < 0.5).float()
    torch.manual_seed(0)
    mixed, mixed_targets = mix(images, targets, 1.0)
    torch.manual_seed(0)
    share = float(torch.distributions.Beta(1.0, 1.0).sample())
    partner = torch.randperm(8)
    assert torch.allclose(mixed, share * images + (1 - share) * images[partner], atol=1e-6)
    assert torch.allclose(mixed_targets, share * targets + (1 - share) * targets[partner], atol=1e-6)
    assert 0 < share < 1


def test_what_is_unknown_in_either_image_is_unknown_in_the_mixture() -> None:
    torch.manual_seed(0)
    targets = torch.tensor([[float("nan"), 1.0], [0.0, 1.0], [1.0, 1.0], [0.0, 0.0]])
    _, mixed = mix(torch.zeros(4, 3, 2, 2), targets, 0.4)
    torch.manual_seed(0)
    torch.distributions.Beta(0.4, 0.4).sample()
    partner = torch.randperm(4)
    assert torch.equal(mixed.isnan(), targets.isnan() | targets[partner].isnan())


def test_mixture_of_strength_zero_changes_nothing() -> None:
    images, targets = torch.rand(4, 3, 2, 2), torch.rand(4, 2)
    mixed, mixed_targets = mix(images, targets, 0)
    assert mixed is images
    assert mixed_targets is targets
