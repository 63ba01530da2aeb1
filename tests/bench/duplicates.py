"""How many photographs are found to be near-duplicates of themselves after a change: cropped, smaller, saved again.

python tests/bench/duplicates.py ../shared/data/scenes/train ../shared/data/grocery/train
"""

import argparse
import io
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image, ImageEnhance

from labelr.data.duplicates import MAX_DISTANCE, PROBE_SIZE, fingerprint
from labelr.data.images import to_pixels

PER_FOLDER = 40
"""Photographs of each folder, in equal steps of their names."""


def cropped(share: float) -> Callable[[Image.Image], Image.Image]:
    """Leaves out a share of width and height, half of it at each side."""

    def change(image: Image.Image) -> Image.Image:
        left, top = (round(share * edge / 2) for edge in image.size)
        return image.crop((left, top, image.width - left, image.height - top))

    return change


def saved(quality: int) -> Callable[[Image.Image], Image.Image]:
    """Saves as a JPEG of another quality."""

    def change(image: Image.Image) -> Image.Image:
        file = io.BytesIO()
        image.save(file, "JPEG", quality=quality)
        return Image.open(file).convert("RGB")

    return change


CHANGES: dict[str, Callable[[Image.Image], Image.Image]] = {
    **{f"without {share:.0%} of width and height": cropped(share) for share in (0.03, 0.06, 0.1)},
    "at a third of the size": lambda image: image.resize((image.width // 3, image.height // 3)),
    "as JPEG of quality 40": saved(40),
    "a fifth brighter": lambda image: ImageEnhance.Brightness(image).enhance(1.2),
    "in grey": lambda image: image.convert("L").convert("RGB"),
    "mirrored": lambda image: image.transpose(Image.Transpose.FLIP_LEFT_RIGHT),
}


def is_found(image: Image.Image, other: Image.Image) -> bool:
    """Whether two images are near-duplicates."""
    one, two = (fingerprint(to_pixels(each, PROBE_SIZE)) for each in (image, other))
    return one is not None and two is not None and (one ^ two).bit_count() <= MAX_DISTANCE


def main() -> None:
    """Prints a line for each change."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("folders", type=Path, nargs="+")
    images = []
    for folder in parser.parse_args().folders:
        paths = sorted(folder.rglob("*.jpg"))
        chosen = np.linspace(0, len(paths) - 1, PER_FOLDER).astype(int)
        images += [Image.open(paths[index]).convert("RGB") for index in chosen]
    for name, change in CHANGES.items():
        print(f"{name}: {sum(is_found(image, change(image)) for image in images)} of {len(images)}")


if __name__ == "__main__":
    main()
