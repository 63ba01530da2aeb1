"""The batches of training images, a function of seed, epoch and step alone, and how they get to an accelerator."""

import logging
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple, Self, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from labelr.config import TrainConfig
from labelr.data.augment import to_device
from labelr.data.dataset import Dataset
from labelr.data.pixels import PixelSet
from labelr.model.device import free_memory, is_out_of_memory
from labelr.processors import map_ahead

PREFETCHED = 2
"""Batches that are gathered while the current one trains."""
RESIDENT_SHARE = 0.25
"""Of the free memory of an accelerator, for images that stay there. Networks need the rest."""

log = logging.getLogger(__name__)


class Batch(NamedTuple):
    """B images before augmentation, with their targets.

    Attributes:
        images: uint8, shape ``(B, 3, M, M)``, on the device that trains; of several processes, the own part of them.
        targets: 1, 0 or NaN (unknown), shape ``(B, L)``.
        aspects: Width over height of what each square shows, shape ``(B,)``.
        seed: The random seed of the step.
        first: The row of the first of the images.
    """

    images: Tensor
    targets: Tensor
    aspects: Tensor
    seed: int
    first: int = 0


@dataclass(frozen=True)
class TrainImages:
    """The training images.

    Attributes:
        pixels: N images, larger than training sees them.
        targets: Shape ``(N, L)``.
        aspects: Shape ``(N,)``.
        batch_size: B, at most N.
        seed: The random seed of the run.
        on_device: Takes them to an accelerator; None on the CPU.
    """

    pixels: PixelSet
    targets: Tensor
    aspects: Tensor
    batch_size: int
    seed: int
    on_device: "DeviceImages | None" = None

    @classmethod
    def of(cls, dataset: Dataset, pixels: PixelSet, config: TrainConfig, device: torch.device | None = None) -> Self:
        """The images of a data set; only squished squares have an aspect other than 1."""
        aspects = torch.from_numpy(dataset.aspects) if config.resize == "squish" else torch.ones(len(pixels))
        batch_size = min(cast("int", config.batch_size), len(pixels))
        on_device = DeviceImages(pixels, device) if device is not None and device.type != "cpu" else None
        return cls(pixels, torch.from_numpy(dataset.targets), aspects, batch_size, config.seed, on_device)

    @property
    def steps(self) -> int:
        """Batches per epoch; the remaining images, less than a batch, are left out until the next shuffle."""
        return len(self.pixels) // self.batch_size

    def epoch(self, epoch: int, start: int = 0, part: slice = slice(None)) -> Iterator[Batch]:
        """The batches of one epoch from step `start` on, prefetched in a thread; of each, the images of `part`."""
        order = np.random.default_rng([self.seed, epoch]).permutation(len(self.pixels))
        rows = order[: self.steps * self.batch_size].reshape(self.steps, self.batch_size)
        steps = range(start, self.steps)
        load = self._load if self.on_device is None else self.on_device.load
        for step, loaded in zip(steps, map_ahead(load, rows[start:, part], threads=1, ahead=PREFETCHED), strict=True):
            images = loaded.images if self.on_device is None else self.on_device.place(rows[step, part], loaded)
            indices = torch.from_numpy(rows[step])
            seed = step_seed(self.seed, epoch, step)
            yield Batch(images.permute(0, 3, 1, 2), self.targets[indices], self.aspects[indices], seed, part.start or 0)

    def _load(self, rows: NDArray[np.int64]) -> "Loaded":
        return Loaded(torch.from_numpy(self.pixels.take(rows)))


class Loaded(NamedTuple):
    """A batch of images, uint8, ``(B, M, M, 3)``.

    Attributes:
        images: On the CPU, or on their way to a CUDA device; empty if they are on the device already.
        copied: Comes to pass when they have arrived on the CUDA device.
    """

    images: Tensor
    copied: torch.cuda.Event | None = None


class DeviceImages:
    """Takes training images to an accelerator, in 8 bits.

    An image that was used once stays there if a share of the memory suffices for all images. Otherwise a thread copies
    each batch before its step, on a CUDA device on a stream of its own, beside the step before.

    Args:
        pixels: All training images.
        device: The accelerator.
        room: The bytes that may be used; None for a share of what is free when training starts.
    """

    def __init__(self, pixels: PixelSet, device: torch.device, room: int | None = None) -> None:
        self.device = device
        self._pixels, self._room = pixels, room
        self._stream = torch.cuda.Stream(device) if device.type == "cuda" else None  # type: ignore[no-untyped-call]
        self._stored: Tensor | None = None
        self._is_stored = np.zeros(len(pixels), np.bool_)
        self._is_open = False

    def load(self, rows: NDArray[np.int64]) -> Loaded:
        """The images of some rows for `place`, from another thread than the one that uses the device."""
        if self._is_stored[rows].all():
            return Loaded(torch.empty(0))
        images = torch.from_numpy(self._pixels.take(rows))
        if self._stream is None:
            return Loaded(images)
        with torch.cuda.stream(self._stream):
            return Loaded(images.pin_memory().to(self.device, non_blocking=True), self._stream.record_event())

    def place(self, rows: NDArray[np.int64], loaded: Loaded) -> Tensor:
        """The images of some rows on the device, shape ``(B, M, M, 3)``, in the thread that uses it."""
        if not self._is_open:
            self._open()
        indices = to_device(torch.from_numpy(rows), self.device)
        if not len(loaded.images):
            if self._stored is not None:
                return self._stored[indices]
            loaded = self.load(rows)
        images = to_device(loaded.images, self.device)
        if loaded.copied is not None:
            current = torch.cuda.current_stream(self.device)
            current.wait_event(loaded.copied)
            images.record_stream(current)
        if self._stored is not None:
            self._stored[indices] = images
            self._is_stored[rows] = True
        return images

    def release(self) -> bool:
        """Gives up the memory of the images; False if they take none."""
        had_images, self._stored = self._stored is not None, None
        self._is_stored[:] = False
        if had_images:
            log.warning(
                "memory ran out: the images are not kept on the %s device, but copied there for each step",
                self.device.type,
            )
        return had_images

    def _open(self) -> None:
        """Takes memory for all images, if they fit."""
        self._is_open = True
        shape = self._pixels.shape
        room = free_memory(self.device) * RESIDENT_SHARE if self._room is None else self._room
        if torch.Size(shape).numel() <= room:
            try:
                self._stored = torch.empty(shape, dtype=torch.uint8, device=self.device)
            except RuntimeError as error:  # such as a limit of this process
                if not is_out_of_memory(error):
                    raise
        place = "stay on it" if self._stored is not None else "are copied to it ahead of each step"
        log.debug("device %s: the training images %s", self.device.type, place)


def step_seed(seed: int, epoch: int, step: int) -> int:
    """The random seed of one step, below 2**63."""
    return int(np.random.SeedSequence([seed, epoch, step]).generate_state(1, np.uint64)[0] >> np.uint64(1))
