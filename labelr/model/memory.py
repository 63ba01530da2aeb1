"""Work that is done in smaller portions where memory runs out."""

import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

import torch

from labelr.errors import LabelrError, first_line

T = TypeVar("T")

log = logging.getLogger(__name__)

_SIGNS = (
    "out of memory", "not enough memory", "can't allocate memory", "cannot allocate memory", "bad_alloc",
    "cublas_status_alloc_failed", "cudnn_status_alloc_failed", "unable to find a valid cudnn",
    "could not create a primitive", "could not create a memory", "could not execute a primitive",
)  # fmt: skip
"""What MPS, a CPU's allocators and its library of convolutions say, in lower case; CUDA has an error of its own."""


@dataclass
class Portions:
    """How many images go through a network at a time: fewer once memory has run out, and never more again.

    Attributes:
        size: The most at a time.
        purpose: What they go through it for, as people are told.
        consequence: What fewer at a time mean, likewise.
        least: The fewest that it makes sense with.
    """

    size: int
    purpose: str
    consequence: str = ""
    least: int = 1

    def run(self, work: Callable[[int], T]) -> T:
        """The work's result, done anew with half the size for as long as memory runs out.

        Args:
            work: Takes the most images that may be in use at a time, and may be called again where it fails.

        Raises:
            LabelrError: If memory does not suffice for the fewest.
        """
        before = self.size
        while True:
            try:
                result = work(self.size)
            except (RuntimeError, MemoryError) as error:
                if not is_out_of_memory(error):
                    raise
                reason = first_line(error)
            else:
                break
            self._halve(reason)  # out here, where the error no longer keeps the tensors of its frames
        if self.size < before:
            log.warning(
                "memory ran out in %s: going on with %d images at a time%s", self.purpose, self.size, self.consequence
            )
        return result

    def _halve(self, reason: str) -> None:
        if self.size <= self.least:
            raise LabelrError(
                f"memory does not suffice for {self.purpose} with {self.size} images at a time: {reason}",
                "free some memory, choose another `--device`, or train with a smaller `--image-size` or `--width`",
            )
        self.size = max(self.least, self.size // 2)
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        if torch.backends.mps.is_available():
            torch.mps.empty_cache()


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error says that memory has run out, of an accelerator or of the machine."""
    if isinstance(error, (torch.OutOfMemoryError, MemoryError)):
        return True
    return isinstance(error, RuntimeError) and any(sign in str(error).lower() for sign in _SIGNS)
