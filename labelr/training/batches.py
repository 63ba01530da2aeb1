"""The batches of training images: a function of seed, epoch and step alone."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple, Self, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from labelr.config import TrainConfig
from labelr.data.dataset import Dataset
from labelr.data.pixels import PixelSet
from labelr.data.prefetch import map_ahead

PREFETCHED = 2
"""Batches that are gathered while the current one trains."""


class Batch(NamedTuple):
    """B images before augmentation, with their targets.

    Attributes:
        images: uint8, shape ``(B, 3, M, M)``.
        targets: 1, 0 or NaN (unknown), shape ``(B, L)``.
        aspects: Width over height of what each square shows, shape ``(B,)``.
        seed: The random seed of the step.
    """

    images: Tensor
    targets: Tensor
    aspects: Tensor
    seed: int


@dataclass(frozen=True)
class TrainImages:
    """The training images.

    Attributes:
        pixels: N images, larger than training sees them.
        targets: Shape ``(N, L)``.
        aspects: Shape ``(N,)``.
        batch_size: B, at most N.
        seed: The random seed of the run.
        pin_memory: Whether batches are page-locked, so that a CUDA device can copy them asynchronously.
    """

    pixels: PixelSet
    targets: Tensor
    aspects: Tensor
    batch_size: int
    seed: int
    pin_memory: bool = False

    @classmethod
    def of(cls, dataset: Dataset, pixels: PixelSet, config: TrainConfig, *, pin_memory: bool = False) -> Self:
        """The images of a data set; only squished squares have an aspect other than 1."""
        aspects = torch.from_numpy(dataset.aspects) if config.resize == "squish" else torch.ones(len(pixels))
        batch_size = min(cast("int", config.batch_size), len(pixels))
        return cls(pixels, torch.from_numpy(dataset.targets), aspects, batch_size, config.seed, pin_memory)

    @property
    def steps(self) -> int:
        """Batches per epoch; the remaining images, less than a batch, are left out until the next shuffle."""
        return len(self.pixels) // self.batch_size

    def epoch(self, epoch: int, start: int = 0) -> Iterator[Batch]:
        """The batches of one epoch from step `start` on, prefetched in a thread."""
        order = np.random.default_rng([self.seed, epoch]).permutation(len(self.pixels))
        rows = order[: self.steps * self.batch_size].reshape(self.steps, self.batch_size)
        steps = range(start, self.steps)
        return map_ahead(lambda step: self._batch(epoch, step, rows[step]), steps, threads=1, ahead=PREFETCHED)

    def _batch(self, epoch: int, step: int, rows: NDArray[np.int64]) -> Batch:
        images = torch.from_numpy(self.pixels.take(rows))
        if self.pin_memory:
            images = images.pin_memory()
        indices = torch.from_numpy(rows)
        seed = step_seed(self.seed, epoch, step)
        return Batch(images.permute(0, 3, 1, 2), self.targets[indices], self.aspects[indices], seed)


def step_seed(seed: int, epoch: int, step: int) -> int:
    """The random seed of one step, below 2**63."""
    return int(np.random.SeedSequence([seed, epoch, step]).generate_state(1, np.uint64)[0] >> np.uint64(1))
