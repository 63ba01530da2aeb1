"""Synthetic data sets with known labels: up to twelve patterns over a noisy texture."""

import colorsys
import shutil
import tempfile
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from labelr import files
from labelr.progress import Track, untracked

SIZE = 64
VISIBLE_SHARE = 0.6
"""At least this share of each pattern's pixels is not covered by other patterns."""

Grid = NDArray[np.float64]
Mask = NDArray[np.bool_]


def _stripes(along: Grid) -> Mask:
    return np.asarray(np.floor((along + 1) * 2.5) % 2 == 0)


def _star(u: Grid, v: Grid) -> Mask:
    spike = np.abs((np.arctan2(u, -v) / (2 * np.pi) * 5) % 1 - 0.5) * 2  # 1 at the five tips, 0 between them
    return np.asarray(np.hypot(u, v) <= 0.4 + 0.6 * spike**1.5)


PATTERNS: dict[str, Callable[[Grid, Grid], Mask]] = {
    "horizontal_stripes": lambda _, v: _stripes(v),
    "disc": lambda u, v: np.hypot(u, v) <= 1,
    "triangle": lambda u, v: np.abs(u) <= (v + 1) / 2,
    "checks": lambda u, v: (np.floor((u + 1) * 2) + np.floor((v + 1) * 2)) % 2 == 0,
    "cross": lambda u, v: np.minimum(np.abs(u), np.abs(v)) <= 0.3,
    "vertical_stripes": lambda u, _: _stripes(u),
    "ring": lambda u, v: np.abs(np.hypot(u, v) - 0.8) <= 0.2,
    "diagonal_stripes": lambda u, v: np.floor((u + v + 2) * 1.75) % 2 == 0,
    "square": lambda u, _: np.ones_like(u, dtype=bool),
    "dots": lambda u, v: np.hypot((u + 1) * 1.5 % 1 - 0.5, (v + 1) * 1.5 % 1 - 0.5) <= 0.34,
    "star": _star,
    "waves": lambda u, v: np.abs((v + 0.25 * np.sin(2.2 * np.pi * u) + 1) * 1.5 % 1 - 0.5) <= 0.25,
}
"""Each pattern as a function of the coordinates in its box, which run from -1 to 1, left to right and downwards."""


def prevalences(num_labels: int) -> NDArray[np.float64]:
    """The probability of each label, from 0.4 down to 0.2, shape ``(num_labels,)``."""
    return np.linspace(0.4, 0.2, num_labels)


def draw_image(present: Iterable[str], rng: np.random.Generator, size: int = SIZE) -> NDArray[np.uint8]:
    """An image that shows exactly the patterns named, each with a random position, size and colour.

    Returns:
        Pixels of shape ``(size, size, 3)``.
    """
    names = list(present)
    masks = _place([PATTERNS[name] for name in names], rng, size)
    image = _background(rng, size)
    hues = (rng.permutation(12)[: len(names)] + rng.uniform(-0.3, 0.3, len(names))) / 12
    for mask, hue in zip(masks, hues, strict=True):
        colour = colorsys.hsv_to_rgb(hue % 1, rng.uniform(0.7, 1.0), rng.uniform(0.75, 1.0))
        image[mask] = np.array(colour) * 255 + rng.normal(0, 8, (int(mask.sum()), 3))
    pixels: NDArray[np.uint8] = image.clip(0, 255).astype(np.uint8)
    return pixels


def _background(rng: np.random.Generator, size: int) -> NDArray[np.float64]:
    """Coarse blotches of muted colour with fine noise, shape ``(size, size, 3)``, in [0, 255]."""
    blotches = rng.uniform(40, 150) + rng.normal(0, 25, (5, 5, 1)) + rng.normal(0, 8, (5, 5, 3))
    coarse = Image.fromarray(blotches.clip(0, 255).astype(np.uint8)).resize((size, size), Image.Resampling.BICUBIC)
    return np.asarray(coarse, dtype=np.float64) + rng.normal(0, 12, (size, size, 1))


def _place(shapes: list[Callable[[Grid, Grid], Mask]], rng: np.random.Generator, size: int) -> list[Mask]:
    """A mask ``(size, size)`` for each shape, in painting order, placed so that each stays visible.

    The shapes shrink a little with each failed attempt, so that even twelve of them fit.
    """
    rows, columns = np.mgrid[:size, :size] + 0.5
    masks: list[Mask] = []
    scale = 1.0
    while len(masks) < len(shapes):
        radius = max(0.11, rng.uniform(0.13, 0.24) * scale) * size
        x, y = rng.uniform(radius, size - radius, 2)
        u, v = (columns - x) / radius, (rows - y) / radius
        mask = shapes[len(masks)](u, v) & (np.maximum(np.abs(u), np.abs(v)) <= 1)
        if _all_visible([*masks, mask]):
            masks.append(mask)
            continue
        scale *= 0.99
        if scale < 0.1:  # the first shapes left no room: start over
            masks, scale = [], 1.0
    return masks


def _all_visible(masks: list[Mask]) -> bool:
    covered = np.zeros_like(masks[0])
    for mask in reversed(masks):
        if (mask & ~covered).sum() < VISIBLE_SHARE * mask.sum():
            return False
        covered |= mask
    return True


def make_synthetic_dataset(
    folder: Path, num_images: int, num_labels: int, *, seed: int = 0, size: int = SIZE, track: Track = untracked
) -> Path:
    """Writes a synthetic data set: ``images/*.png`` and ``labels.csv`` in `folder`.

    The folder appears atomically; an existing data set is left unchanged. Each of the patterns, 1 to 12, occurs
    independently of the others. The images are squares of `size` pixels.

    Returns:
        The folder.

    Raises:
        LabelrError: If the data set cannot be written.
    """
    if (folder / "labels.csv").is_file():
        return folder
    labels = list(PATTERNS)[:num_labels]
    parent = files.make_folder(folder.parent)
    with files.writing(folder):
        draft = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=parent))
        try:
            _write_images(draft, num_images, labels, seed, size, track)
            draft.chmod(0o755)
            draft.rename(folder)
        except OSError:
            if not (folder / "labels.csv").is_file():  # another process was faster and wrote the same
                raise
        finally:
            shutil.rmtree(draft, ignore_errors=True)
    return folder


def _write_images(folder: Path, num_images: int, labels: list[str], seed: int, size: int, track: Track) -> None:
    (folder / "images").mkdir()
    lines = [",".join(["filename", *labels])]
    for number in track(range(num_images), "generating images", num_images):
        rng = np.random.default_rng([seed, number])
        shown = rng.random(len(labels)) < prevalences(len(labels))
        order = rng.permutation(np.flatnonzero(shown))
        pixels = draw_image([labels[index] for index in order], rng, size)
        Image.fromarray(pixels).save(folder / "images" / f"{number:05d}.png", compress_level=1)
        lines.append(",".join([f"{number:05d}.png", *(str(int(present)) for present in shown)]))
    (folder / "labels.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
