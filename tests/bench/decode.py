"""Images a second from 12-megapixel JPEGs, decoded in full and at a reduced scale, in turn on the same files.

python make_photos.py PHOTOS 40; python tests/bench/decode.py PHOTOS --size 224 --threads 2
"""

import argparse
import statistics
import time
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import numpy as np
from PIL import Image

from labelr.data.images import Pixels, read_pixels, to_pixels
from labelr.data.walk import find_images


def decode_in_full(path: Path, size: int) -> Pixels:
    """The pixels without the reduced scale."""
    with Image.open(path) as image:
        return to_pixels(image, size)


def decode_reduced(path: Path, size: int) -> Pixels:
    """The pixels as labelr reads them."""
    return read_pixels(path, size)


def main() -> None:
    """Prints both rates as the median of some rounds, their ratio, and how far the pixels are apart."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("photos", type=Path)
    parser.add_argument("--size", type=int, default=224)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    paths = list(find_images(arguments.photos))
    rates: dict[str, list[float]] = {"full": [], "reduced": []}
    pixels: dict[str, list[Pixels]] = {}
    for _ in range(arguments.rounds):
        for name, decode in (("full", decode_in_full), ("reduced", decode_reduced)):
            start = time.perf_counter()
            with ThreadPoolExecutor(arguments.threads) as pool:
                pixels[name] = list(pool.map(partial(decode, size=arguments.size), paths))
            rates[name].append(len(paths) / (time.perf_counter() - start))
    full, reduced = statistics.median(rates["full"]), statistics.median(rates["reduced"])
    apart = [np.abs(a.astype(float) - b).mean() / 255 for a, b in zip(pixels["full"], pixels["reduced"], strict=True)]
    print(f"{len(paths)} files, {arguments.threads} threads, {arguments.size} px")
    print(f"full {full:.1f} images/s, reduced {reduced:.1f} images/s, ratio {reduced / full:.1f}")
    print(f"mean absolute difference: {np.mean(apart):.3%}, at most {np.max(apart):.3%}")


if __name__ == "__main__":
    main()
