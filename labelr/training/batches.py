"""The batches of training images, epoch after epoch: a function of (seed, epoch, step) alone."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from labelr.data.dataset import Dataset
from labelr.data.pixels import PixelSet
from labelr.data.prefetch import map_ahead

PREPARED_AHEAD = 2
"""Batches that are gathered while the one before them trains."""


class Batch(NamedTuple):
    """B images as they are stored, and what belongs to them.

    Attributes:
        images: uint8, shape ``(B, 3, M, M)``.
        targets: 1, 0 or NaN (unknown), shape ``(B, L)``.
        aspects: Width over height of what each square shows, shape ``(B,)``.
        seed: Decides all that is random in the step.
    """

    images: Tensor
    targets: Tensor
    aspects: Tensor
    seed: int


@dataclass(frozen=True)
class TrainImages:
    """The training images.

    Attributes:
        pixels: N images, a margin larger than training sees them.
        targets: Shape ``(N, L)``.
        aspects: Shape ``(N,)``.
        batch_size: B, at most N.
        seed: Of the run.
        pinned: Whether batches are put where a CUDA device can fetch them by itself.
    """

    pixels: PixelSet
    targets: Tensor
    aspects: Tensor
    batch_size: int
    seed: int
    pinned: bool = False

    @classmethod
    def of(
        cls, part: Dataset, pixels: PixelSet, *, batch_size: int, seed: int, squished: bool, pinned: bool
    ) -> "TrainImages":
        """The images of one part; those that are not `squished` show what they do in its true proportions."""
        aspects = torch.from_numpy(part.aspects) if squished else torch.ones(len(pixels))
        targets = torch.from_numpy(part.targets)
        return cls(pixels, targets, aspects, min(batch_size, len(pixels)), seed, pinned)

    @property
    def steps(self) -> int:
        """Batches an epoch; the rest of the images, less than a batch, waits for the next epoch's order."""
        return len(self.pixels) // self.batch_size

    def epoch(self, epoch: int, start: int = 0) -> Iterator[Batch]:
        """The batches of one epoch from a step on, each gathered while the one before it is in use."""
        order = np.random.default_rng([self.seed, epoch]).permutation(len(self.pixels))
        rows = order[: self.steps * self.batch_size].reshape(self.steps, self.batch_size)
        steps = range(start, self.steps)
        return map_ahead(lambda step: self._batch(epoch, step, rows[step]), steps, threads=1, ahead=PREPARED_AHEAD)

    def _batch(self, epoch: int, step: int, rows: NDArray[np.int64]) -> Batch:
        images = torch.from_numpy(self.pixels.take(rows))
        if self.pinned:
            images = images.pin_memory()
        chosen = torch.from_numpy(rows)
        seed = step_seed(self.seed, epoch, step)
        return Batch(images.permute(0, 3, 1, 2), self.targets[chosen], self.aspects[chosen], seed)


def step_seed(seed: int, epoch: int, step: int) -> int:
    """A seed below 2**63 for the random choices of one step."""
    return int(np.random.SeedSequence([seed, epoch, step]).generate_state(1, np.uint64)[0] >> np.uint64(1))
