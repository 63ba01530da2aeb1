"""How far a run has come, and what the learning rate is there."""

import math
import time
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol

WARMUP = 0.25
"""The share of a run in which the learning rate rises."""
START, END = 1 / 25, 1 / 250_000
"""The first and the last learning rate, as shares of the peak."""
SMALLEST = 64
"""The edge of the smallest images that a run begins with, in pixels: there is little to be seen in smaller ones."""
HIGH_MOMENTUM, LOW_MOMENTUM = 0.95, 0.85


class Pace(NamedTuple):
    """What the optimizer does at one point of a run.

    Attributes:
        lr: Learning rate as a share of its peak.
        momentum: AdamW's beta1.
    """

    lr: float
    momentum: float


def one_cycle(progress: float) -> Pace:
    """Warm-up and cosine annealing, the momentum cycled the other way (Smith and Topin 2018).

    Args:
        progress: The share of the run that is done, in [0, 1].
    """
    if progress < WARMUP:
        height = _ease(progress / WARMUP)
        return Pace(START + (1 - START) * height, HIGH_MOMENTUM + (LOW_MOMENTUM - HIGH_MOMENTUM) * height)
    height = 1 - _ease(min(1.0, (progress - WARMUP) / (1 - WARMUP)))
    return Pace(END + (1 - END) * height, HIGH_MOMENTUM + (LOW_MOMENTUM - HIGH_MOMENTUM) * height)


def _ease(share: float) -> float:
    """From 0 to 1 along half a cosine."""
    return (1 - math.cos(math.pi * share)) / 2


def grown_size(full: int, progress: float) -> int:
    """The edge of the images at one point of a run that begins with small ones, a multiple of 16 below `full`.

    It grows evenly from 5/8 of the full edge, but not from less than `SMALLEST`, and is full in the last third.
    """
    share = 5 / 8 + 3 / 8 * min(1.0, progress * 3 / 2)
    return full if share >= 1 else min(full, max(SMALLEST, int(full * share) // 16 * 16))


class Budget(Protocol):
    """What a run may use up."""

    def progress(self, steps: int) -> float:
        """The share that is used up after some steps, from 0; at 1 the run ends."""
        ...

    def seconds_left(self, steps: int) -> float:
        """How long the rest will take."""
        ...

    def reserve(self, seconds: float) -> None:
        """Sets time aside for what comes after the last step."""
        ...


@dataclass
class Steps:
    """A number of steps.

    Attributes:
        total: All of them.
        made: How many of them an earlier run has made.
    """

    total: int
    made: int = 0
    start: float = field(default_factory=time.monotonic)

    def progress(self, steps: int) -> float:
        """As `Budget`."""
        return steps / self.total

    def seconds_left(self, steps: int) -> float:
        """As `Budget`, at the pace so far."""
        here = steps - self.made
        return (time.monotonic() - self.start) * (self.total - steps) / here if here else math.inf

    def reserve(self, seconds: float) -> None:
        """As `Budget`: the steps are as many as they are."""


@dataclass
class Minutes:
    """A time on the clock, which the last step should not pass.

    Attributes:
        deadline: On the monotonic clock, in seconds.
    """

    deadline: float
    start: float = field(default_factory=time.monotonic)
    reserved: float = 0.0

    def progress(self, steps: int) -> float:  # noqa: ARG002 - as `Budget`
        """As `Budget`."""
        length = self.deadline - self.reserved - self.start
        return min(1.0, (time.monotonic() - self.start) / length) if length > 0 else 1.0

    def seconds_left(self, steps: int) -> float:  # noqa: ARG002 - as `Budget`
        """As `Budget`."""
        return max(0.0, self.deadline - time.monotonic())

    def reserve(self, seconds: float) -> None:
        """As `Budget`."""
        self.reserved = seconds
