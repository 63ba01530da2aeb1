"""Time and memory of `labelr tag` over many small images, with and without a gallery, links and files for programs.

python tests/bench/gallery.py MODEL --images 20000
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from PIL import Image

RUN = (
    "import json, resource, sys, labelr; settings = json.loads(sys.argv[1]); labelr.tag(**settings); "
    "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)"
)
WAYS: dict[str, dict[str, object]] = {
    "labels.csv": {"format": ["table"]},
    "parquet, coco, label-studio, cvat": {"format": ["parquet", "coco", "label-studio", "cvat"]},
    "sorted into links": {"format": ["table"], "sort_into": "sorted"},
    "gallery": {"format": ["table"], "gallery": True},
    "gallery again": {"format": ["table"], "gallery": True},
}


def make_images(folder: Path, count: int) -> None:
    """Small JPEGs, all different."""
    rng = np.random.default_rng(0)
    for number in range(count):
        path = folder / f"{number // 1000:03d}" / f"{number:06d}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 256, (12, 12, 3), np.uint8)).resize((96, 64)).save(path)


def main() -> None:
    """Prints the seconds and the peak memory of each way; the outputs start empty but for "again"."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("model")
    parser.add_argument("--images", type=int, default=20_000)
    parser.add_argument("--ways", nargs="+", choices=WAYS, default=list(WAYS))
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        os.chdir(name)
        make_images(Path("photos"), arguments.images)
        for way in arguments.ways:
            output = way.removesuffix(" again")
            common = {"photos": "photos", "model": arguments.model, "output": output, "threads": arguments.threads}
            start = time.perf_counter()
            command = [
                sys.executable,
                "-c",
                RUN,
                json.dumps({**common, "threshold": 0.3, "progress": False, **WAYS[way]}),
            ]
            peak = subprocess.run(command, check=True, capture_output=True, text=True).stdout
            size = sum(path.stat().st_size for path in Path(output).rglob("*") if path.is_file()) / 1e6
            seconds = time.perf_counter() - start
            print(
                f"{way:35} {seconds:8.1f} s  {int(peak) / 1024:8.0f} MB of memory  {size:8.1f} MB written", flush=True
            )


if __name__ == "__main__":
    main()
