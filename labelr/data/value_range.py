"""The value range of deep images, those of more than 8 bits a sample: what is black and what is white in a data set."""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

Interval = tuple[float, float]
"""The values of black and white."""
Kind = Literal["integers", "floats"]

OUTLIERS = 0.001
"""The share of an image's darkest and of its brightest values that do not count: hot pixels, glints."""
ODD_IMAGES = 0.02
"""The share of the darkest and of the brightest images that do not count, from some 25 images on."""
FILL_DISTANCE = 2
"""A value at either end does not count if it is this many times as far from all others as these are from each other: a
fill value for what was not measured, such as -9999, that the file does not declare, or a saturated one."""
COMMON_LEVELS = (1.0, 255.0, 65535.0)
"""What is white in images that do not declare it; 1 in those of floats only."""
MAX_SAMPLES = 2**20
"""The number of pixels of an image, at most, on which it is measured: a grid."""


class Levels(NamedTuple):
    """The lowest and highest value of a deep image, outliers left out, and the kind of its values."""

    low: float
    high: float
    kind: Kind


@dataclass(frozen=True)
class ValueRange:
    """Which values of deep images become black and white, for each kind of values.

    Attributes:
        integers: For images of 16 or 32 bits; None where the number of bits says it: 16 bits are divided by 257.
        floats: For images of floats; None where each image's own values say it.
    """

    integers: Interval | None = None
    floats: Interval | None = None

    @classmethod
    def of(cls, images: Iterable[Levels]) -> Self:
        """The range that keeps the detail of these deep images."""
        by_kind: dict[Kind, list[Interval]] = {"integers": [], "floats": []}
        for low, high, kind in images:
            by_kind[kind].append((low, high))
        return cls(**{kind: _enclose(levels) for kind, levels in by_kind.items() if levels})

    def __bool__(self) -> bool:
        return self != ValueRange()

    def __str__(self) -> str:
        return ", ".join(f"{kind} from {low:,g} to {high:,g}" for kind, (low, high) in self._intervals.items())

    @property
    def key(self) -> str:
        """The range as a part of a valid file name; empty where nothing is chosen."""
        return "".join(f"-{kind}-{low!r}-{high!r}" for kind, (low, high) in self._intervals.items())

    @property
    def is_valid(self) -> bool:
        """Whether each interval is finite and not empty."""
        return all(math.isfinite(low) and math.isfinite(high) and low < high for low, high in self._intervals.values())

    @property
    def _intervals(self) -> dict[str, Interval]:
        return {kind: interval for kind, interval in vars(self).items() if interval is not None}


def _enclose(levels: list[Interval]) -> Interval | None:
    """An interval of round numbers around the levels of all but the oddest images; None if all are equal.

    Its ends are multiples of a power of two, of an eighth to a quarter of the span: so a few images more or less, or
    another split, rarely change it, and with it every pixel in the cache.
    """
    lows, highs = np.array(levels).T
    low = float(np.quantile(lows, ODD_IMAGES, method="nearest"))
    high = float(np.quantile(highs, 1 - ODD_IMAGES, method="nearest"))
    if not low < high:
        return None
    step = 2.0 ** (math.floor(math.log2(high - low)) - 2)
    white = math.ceil(high / step) * step
    return math.floor(low / step) * step, min(white, 65535.0) if high <= 65535 else white


def grid_step(size: tuple[int, int]) -> int:
    """Every how many rows and columns of an image it is measured."""
    return math.ceil(math.sqrt(size[0] * size[1] / MAX_SAMPLES))


def measure(values: NDArray[Any], *, nodata: float | None = None) -> Levels | None:
    """The levels of a deep image; None if no value is valid.

    Args:
        values: Of a grid of its pixels; see `grid_step`. Shape ``(H, W)`` or ``(H, W, C)``, integers of more than 8
            bits or floats.
        nodata: The value of pixels that were not measured.
    """
    sample = values[np.broadcast_to(is_valid(values, nodata), values.shape)].astype(np.float64)
    if not sample.size:
        return None
    low, high = _inner(sample)
    for end in sorted({low, high} & {float(sample.min()), float(sample.max())}):
        rest = sample[sample != end]
        inner = _inner(rest) if rest.size else (low, low)
        if max(inner[0] - end, end - inner[1]) > FILL_DISTANCE * (inner[1] - inner[0]) > 0:
            sample, (low, high) = rest, inner
    return Levels(low, high, "floats" if values.dtype.kind == "f" else "integers")


def _inner(sample: NDArray[np.float64]) -> Interval:
    """The lowest and highest value, outliers left out."""
    low, high = np.quantile(sample, (OUTLIERS, 1 - OUTLIERS), method="nearest").tolist()
    return low, high


def declared_interval(parts: Iterable[NDArray[Any]], kind: np.dtype[Any], nodata: float | None) -> Interval:
    """What is black and white in a deep image by itself: 16 bits are divided by 257.

    32-bit integers and floats do not declare their white, which is the smallest of `COMMON_LEVELS` that is not below
    the brightest value, or else this value.

    `parts` are all its values, of the type `kind`; pixels of the value `nodata` were not measured.
    """
    if kind.kind == "u" and kind.itemsize == 2:
        return 0.0, 65535.0
    brightest = max(
        (float(part.max(initial=0, where=np.broadcast_to(is_valid(part, nodata), part.shape))) for part in parts),
        default=0.0,
    )
    levels = COMMON_LEVELS[kind.kind != "f" :]
    return 0.0, next((level for level in levels if brightest <= level), brightest)


def scale(
    values: NDArray[Any], interval: Interval, *, nodata: float | None = None, is_negative: bool = False
) -> NDArray[np.uint8]:
    """Deep values, integers or floats, scaled to 8 bits, of the same shape; `is_negative` makes the lowest one white.

    Black where they are not finite, and where they have the value `nodata` of pixels that were not measured.
    """
    valid = is_valid(values, nodata)
    if values.dtype.kind == "u" and values.dtype.itemsize == 2:
        scaled = _scale(np.arange(2**16), interval)[values.astype(np.uint16, copy=False)]
    else:
        kind = np.result_type(values, np.float32) if values.dtype.kind == "f" else np.float64
        scaled = _scale(np.where(valid, values, 0).astype(kind), interval)
    return np.where(valid, 255 - scaled if is_negative else scaled, np.uint8(0))


def _scale(values: NDArray[Any], interval: Interval) -> NDArray[np.uint8]:
    black, white = interval
    if white - black > float(np.finfo(np.float32).max) / 255:
        values = values.astype(np.float64)
    return np.rint((values.clip(black, white) - black) * (255.0 / (white - black))).astype(np.uint8)


def is_valid(values: NDArray[Any], nodata: float | None) -> NDArray[np.bool_]:
    """Which samples, ``(H, W)`` or ``(H, W, C)``, are finite, and of pixels that were measured in any band."""
    valid = np.isfinite(values) if values.dtype.kind == "f" else np.ones(values.shape, bool)
    if nodata is not None:
        measured = values != nodata
        valid &= measured.any(axis=-1, keepdims=True) if values.ndim == 3 else measured
    return valid
