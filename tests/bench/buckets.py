"""Images per second of `labelr tag` from a bucket, against the same folder on this machine, and requests per image.

Run it by hand: ``python tests/bench/buckets.py MODEL [IMAGES]``; the server is moto's, in this process.
"""

import logging
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from bucket_server import BucketServer

from labelr.data.synthetic import make_synthetic_dataset


def run(photos: str, model: str, output: Path) -> float:
    """Tags images in a process of its own; the images per second that it tells."""
    command = [sys.executable, "-m", "labelr", "tag", photos, "--model", model, "-o", str(output), "--format", "table"]
    start = time.perf_counter()
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    print(f"{photos}: {time.perf_counter() - start:.1f} s; {done.stderr.strip().splitlines()[-1]}")
    return time.perf_counter() - start


def main(model: str, num_images: int) -> None:
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server = BucketServer()
    os.environ.update(server.environment)
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        images = sorted((make_synthetic_dataset(work / "shapes", 60, 3) / "images").iterdir())
        (work / "photos").mkdir()
        for number in range(num_images):
            shutil.copy(images[number % 60], work / "photos" / f"{number:05d}.png")
        server.put_folder(work / "photos", "bench")
        run(str(work / "photos"), model, work / "local")
        for output in ("first", "second"):  # two directories: the second run has contents of no object either
            server.requests.clear()
            run("s3://photos/bench", model, work / output)
            print(f"{len(server.requests) / num_images:.3f} requests per image")
        server.requests.clear()
        run("s3://photos/bench", model, work / "second")
        print(f"{len(server.requests)} requests of a run without changes")
    server.close()


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]) if len(sys.argv) > 2 else 500)
