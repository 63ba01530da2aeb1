"""Which images the page shows, and their thumbnails as text that a page can hold."""

import base64
import sys
from collections.abc import Callable
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from labelr.data.images import Pixels, Unreadable, read_thumbnail
from labelr.model.decide import decide
from labelr.scoring.evaluation import Evaluation

SHOWN = 12
"""Images of each kind."""
EDGE = 224
"""Of a thumbnail's longer side, in pixels."""
MOST_BYTES = 16_000
"""Of a thumbnail, so that a page of noise stays small, too."""
QUALITIES = (78, 55, 35, 15)

Thumbnails = Callable[[int], "Thumbnail"]


class Thumbnail(NamedTuple):
    """A small picture.

    Attributes:
        address: The picture itself, as a ``data:`` address; empty where it does not open.
        pixels: Shape ``(H, W, 3)``; None where it does not open.
        reason: Why it does not open; empty where it does.
    """

    address: str
    pixels: Pixels | None
    reason: str = ""


@dataclass(frozen=True)
class Cell:
    """A mistake or doubt: one image and one label."""

    row: int
    column: int


def random_rows(num_images: int, most: int = SHOWN) -> list[int]:
    """Some images, the same each time."""
    rng = np.random.default_rng(0)
    return sorted(rng.choice(num_images, min(most, num_images), replace=False).tolist())


def confident_mistakes(evaluation: Evaluation, *, written: bool) -> list[Cell]:
    """Wrong decisions that the model is surest of, one an image: labels written wrongly, or true ones not written."""
    preds = decide(evaluation.probs, evaluation.thresholds)
    wrong = preds & (evaluation.targets == 0) if written else ~preds & (evaluation.targets == 1)
    return _first_of_each_image(np.where(wrong, evaluation.probs if written else 1 - evaluation.probs, -1.0))


def least_certain(evaluation: Evaluation) -> list[Cell]:
    """Decisions that are nearest to their threshold, one an image, whether right or wrong."""
    distance = np.abs(evaluation.probs - evaluation.thresholds)
    return _first_of_each_image(np.where(np.isnan(evaluation.targets), -1.0, 1 - distance))


def _first_of_each_image(strength: NDArray[np.floating]) -> list[Cell]:
    """The strongest cells, not more than one an image; below 0 is no candidate."""
    if not strength.size:
        return []
    columns = strength.argmax(axis=1)
    best = np.take_along_axis(strength, columns[:, None], axis=1)[:, 0]
    order = [row for row in np.argsort(-best, kind="stable")[:SHOWN] if best[row] >= 0]
    return [Cell(int(row), int(columns[row])) for row in order]


def thumbnail(path: Path) -> Thumbnail:
    """The thumbnail of one image, turned as it is seen."""
    pixels = read_thumbnail(path, EDGE, max_pixels=sys.maxsize)  # it was opened before, within the user's limit
    if isinstance(pixels, Unreadable):
        return Thumbnail("", None, pixels.reason)
    return Thumbnail(f"data:image/jpeg;base64,{base64.b64encode(_jpeg(pixels)).decode()}", pixels)


def _jpeg(pixels: Pixels) -> bytes:
    """The pixels as JPEG, of less quality where they would take too many bytes."""
    picture = Image.fromarray(pixels)
    content = b""
    for quality in QUALITIES:
        buffer = BytesIO()
        picture.save(buffer, "JPEG", quality=quality)
        content = buffer.getvalue()
        if len(content) <= MOST_BYTES:
            break
    return content
