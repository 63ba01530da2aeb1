"""How time and memory grow with the number of images: each command is run as a process over more and more of them.

    python tests/bench/scale.py FOLDER --images 1000 10000 --rows 10000 100000
    python tests/bench/scale.py FOLDER --images 1000 --commands check tag

Draws as many different small JPEG files as the largest size needs, all below FOLDER, which is kept. Prints a line of
JSON for each command and size: the processor time in all and for each image, the highest memory, and the wall time of
what may be a busy machine; in the end, how each command grows: time and memory are proportional to the number of images
to the power of these exponents, from the two largest sizes. Processes that a command starts are counted too.
"""

import argparse
import json
import math
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from PIL import Image

EDGE = 64
PER_FOLDER = 1000
LABELS = [f"label{number}" for number in range(10)]
MACHINE = ["--threads", "1", "--workers", "1"]
TRAINING = [*MACHINE, "--epochs", "1", "--image-size", str(EDGE), "--width", "0.25", "--batch-size", "64"]


class Job(NamedTuple):
    """A command line after ``labelr``, and the exit codes that it may end with."""

    arguments: list[str]
    codes: tuple[int, ...] = (0,)
    is_server: bool = False
    """Whether it is stopped once it has printed its address."""


def image_name(number: int) -> str:
    """The name of an image, in folders of a thousand."""
    return f"{number // PER_FOLDER:05d}/{number:08d}.jpg"


def draw_images(folder: Path, count: int) -> None:
    """Draws the images that do not exist yet: random patches of colour, no two alike."""
    for number in range(count):
        path = folder / image_name(number)
        if not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            patches = np.random.default_rng(number).integers(0, 256, (9, 9, 3), dtype=np.uint8)
            Image.fromarray(patches).resize((EDGE, EDGE), Image.Resampling.BICUBIC).save(path, quality=80)


def write_table(path: Path, count: int) -> None:
    """A row of 0 and 1 for each image, of which a tenth has each label."""
    marks = (np.random.default_rng(0).random((count, len(LABELS))) < 0.1).astype(int).tolist()
    with path.open("w") as file:
        file.write(",".join(["filename", *LABELS]) + "\n")
        file.writelines(f"{image_name(number)},{','.join(map(str, row))}\n" for number, row in enumerate(marks))


def make_data(folder: Path, drawn: Path, count: int, rows: int) -> Path:
    """A data set of the first images, as hard links, and a table of more rows than these; it replaces the last one."""
    data = folder / "data"
    shutil.rmtree(data, ignore_errors=True)
    for number in range(count):
        target = data / "images" / image_name(number)
        if number % PER_FOLDER == 0:
            target.parent.mkdir(parents=True)
        os.link(drawn / image_name(number), target)
    write_table(data / "labels.csv", rows)
    return data


def jobs_on_images(data: Path, out: Path) -> dict[str, Job]:
    """The commands over a data set, in an order in which each finds what it needs."""
    images, folder = str(data / "images"), str(data)
    evaluate = ["evaluate", folder, "--model", "it", "--split", "all", "--force", *MACHINE]
    tag = ["tag", images, "--model", "it", *MACHINE]
    return {
        "check": Job(["check", folder, "--workers", "1"], (0, 3)),
        "check again": Job(["check", folder, "--workers", "1"], (0, 3)),
        "fit": Job(["fit", folder, "--name", "it", "--force", *TRAINING]),
        "evaluate": Job([*evaluate, "-o", str(out / "scores")]),
        "tag": Job([*tag, "-o", str(out / "tags")]),
        "tag again": Job([*tag, "-o", str(out / "tags")]),
        "tag table": Job([*tag, "-o", str(out / "table"), "--format", "table"]),
        "review": Job(["review", folder, "--no-browser"], is_server=True),
    }


def jobs_on_rows(data: Path) -> dict[str, Job]:
    """The commands over a table, most of whose images are missing."""
    return {"check rows": Job(["check", str(data), "--workers", "1", "--max-cells", "20000000"], (0, 3))}


def measure(job: Job, home: Path, log: Path) -> dict[str, float]:
    """Runs a command to its end, or until it prints a line; what it took, its own processes included.

    Raises:
        SystemExit: If it fails.
    """
    start = time.perf_counter()
    command, environment = [sys.executable, "-m", "labelr", *job.arguments], {**os.environ, "LABELR_HOME": str(home)}
    with log.open("wb") as stderr:
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=stderr, env=environment)
        assert process.stdout is not None
        with process.stdout:
            if job.is_server:
                process.stdout.readline()
                process.terminate()
            process.stdout.read()
        _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode not in job.codes and not job.is_server:
        raise SystemExit(f"{' '.join(command)} ended with {process.returncode}: {log.read_text(errors='replace')}")
    return {
        "processor_seconds": round(usage.ru_utime + usage.ru_stime, 2),
        "seconds": round(time.perf_counter() - start, 2),
        "peak_mb": round(usage.ru_maxrss / 1024, 1),
    }


def results(folder: Path, arguments: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """What each command took at each size."""
    drawn, work = folder / "drawn", folder / "work"
    draw_images(drawn, max([*arguments.images, *([arguments.rows_images] if arguments.rows else [])]))
    sizes = [(size, size) for size in arguments.images] + [(arguments.rows_images, rows) for rows in arguments.rows]
    for images, rows in sizes:
        shutil.rmtree(work, ignore_errors=True)
        data = make_data(work, drawn, images, rows)
        time.sleep(3)  # files that have only just changed are not remembered
        jobs = jobs_on_images(data, work / "out") if images == rows else jobs_on_rows(data)
        for name, job in jobs.items():
            if not arguments.commands or name in arguments.commands:
                took = measure(job, work / "home", folder / "log.txt")
                each = round(1e6 * took["processor_seconds"] / rows, 1)
                yield {"command": name, "size": rows, "microseconds_each": each, **took}
    shutil.rmtree(work, ignore_errors=True)


def growth(rows: list[dict[str, Any]], key: str) -> float | None:
    """The exponent with which a figure grows between the two largest sizes; None for a single one."""
    if len(rows) < 2:
        return None
    first, last = rows[-2:]
    return round(math.log(last[key] / first[key]) / math.log(last["size"] / first["size"]), 2)


def main() -> None:
    """Measures the chosen commands, and prints the figures and how they grow."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--images", nargs="*", type=int, default=[1000, 10_000], help="sizes, in rising order")
    parser.add_argument("--rows", nargs="*", type=int, default=[], help="rows of tables whose images are missing")
    parser.add_argument("--rows-images", type=int, default=500, help="images of such a table that exist")
    parser.add_argument("--commands", nargs="*", default=[], metavar="COMMAND", help="default: all")
    arguments = parser.parse_args()
    found: dict[str, list[dict[str, Any]]] = {}
    for row in results(arguments.folder, arguments):
        print(json.dumps(row), flush=True)
        found.setdefault(row["command"], []).append(row)
    for name, rows in found.items():
        exponents = {key: growth(rows, key) for key in ("processor_seconds", "peak_mb")}
        print(json.dumps({"command": name, "growth": exponents}))


if __name__ == "__main__":
    main()
