"""`labelr tag --ray local` against one process, and kills of its workers and of the command.

    python tests/bench/ray_tag.py speed 20000 --rounds 3
    python tests/bench/ray_tag.py kills 20 --images 3000

`speed` tags the same small images in one process and on a cluster of this machine in turn, both on all processors, and
prints the wall time, that of tagging alone, and the processor time of all processes, which depends less on what else
the machine does; then the ratios. `kills` kills a worker and the command in turn at random moments after the first
results, runs the command again where it was killed, and compares the files with those of one process.
"""

import argparse
import json
import os
import random
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))
from tag_results import tree
from test_ray import descendants_of, workers_of

from labelr.data.synthetic import make_synthetic_dataset

FIT = "--image-size 64 --width 0.25 --epochs 2 --no-report --quiet"


def make_photos(folder: Path, data: Path, number: int) -> Path:
    """A folder of hard links to the images of a data set."""
    images = sorted((data / "images").iterdir())
    for count in range(number):
        place = folder / f"{count // 1000:03d}"
        place.mkdir(parents=True, exist_ok=True)
        (place / f"{count:06d}.png").hardlink_to(images[count % len(images)])
    return folder


def start(photos: Path, model: Path, output: Path, formats: Sequence[str], *options: str) -> "subprocess.Popen[str]":
    """Starts the command."""
    chosen = [text for name in formats for text in ("--format", name)]
    command = [sys.executable, "-m", "labelr", "tag", str(photos), "--model", str(model), "-o", str(output)]
    return subprocess.Popen([*command, *chosen, *options], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def finish(running: "subprocess.Popen[str]") -> str:
    """What it says on stderr; it must end well."""
    _, err = running.communicate()
    if running.returncode:
        sys.exit(err)
    return err


def processor_seconds(running: "subprocess.Popen[str]") -> float:
    """The processor time of a command and all that it starts, from the last look at each, until it ends."""
    seconds: dict[int, float] = {}
    while running.poll() is None:
        for pid in (running.pid, *descendants_of(running.pid)):
            with suppress(OSError):
                fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
                seconds[pid] = (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
        time.sleep(0.2)
    return sum(seconds.values())


def speed(photos: Path, model: Path, folder: Path, rounds: int, formats: Sequence[str]) -> None:
    """Prints the times of both ways, in turn."""
    ways = {"one process": (), "--ray local": ("--ray", "local")}
    measures = ("wall time", "wall time of tagging", "processor time")
    times: dict[str, list[tuple[float, ...]]] = {name: [] for name in ways}
    for turn in range(rounds):
        for name, options in ways.items():
            output, before = folder / f"{name.strip('-')} {turn}", time.perf_counter()
            running = start(photos, model, output, formats, *options)
            spent = processor_seconds(running)
            finish(running)
            summary = json.loads((output / "summary.json").read_text())
            times[name].append((time.perf_counter() - before, summary["seconds"], spent))
            said = ", ".join(f"{what} {value:.1f} s" for what, value in zip(measures, times[name][-1], strict=True))
            print(f"{turn + 1}. {name}: {said}", flush=True)
    for index, what in enumerate(measures):
        values = [ray[index] / one[index] for one, ray in zip(*times.values(), strict=True)]
        print(f"{what}: {statistics.median(values):.3f} times as long ({', '.join(f'{v:.3f}' for v in values)})")


def kills(photos: Path, model: Path, folder: Path, number: int, seed: int) -> int:
    """Kills as often as that, and returns how many were not survived."""
    formats = ("csv", "table")
    before = time.perf_counter()
    finish(start(photos, model, folder / "expected", formats))
    seconds, expected = time.perf_counter() - before, tree(folder / "expected")
    rng, broken, done, turn = random.Random(seed), 0, 0, 0
    while done < number:
        output, what = folder / f"out {turn}", ("worker", "command")[turn % 2]
        turn += 1
        running = start(photos, model, output, formats, "--ray", "local", "--threads", "1")
        while running.poll() is None and not any(output.glob("*/*.csv")):
            time.sleep(0.01)
        time.sleep(rng.uniform(0, seconds / 4))
        pids = [running.pid] if what == "command" else workers_of(running.pid)
        if running.poll() is not None or not pids:  # it was too fast
            finish(running)
            continue
        os.kill(rng.choice(pids), signal.SIGKILL)
        if what == "command":
            running.communicate()
            running = start(photos, model, output, formats, "--ray", "local", "--threads", "1")
        finish(running)
        done += 1
        same = tree(output) == expected
        broken += not same
        print(f"{done}. {what} killed: {'the same files' if same else 'OTHER FILES'}", flush=True)
    print(f"{number - broken} of {number} kills survived")
    return broken


def main() -> None:
    """Runs one of the two."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("what", choices=["speed", "kills"])
    parser.add_argument("number", type=int, help="images, or kills")
    parser.add_argument("--images", type=int, default=3000, help="for kills")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--format", action="append", help="for speed; default: csv and table")
    parser.add_argument("--fit", default=FIT, help="options of the model")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        data, model = make_synthetic_dataset(folder / "data", 600, 6), folder / "model"
        fit = [sys.executable, "-m", "labelr", "fit", str(data), "--output", str(model), *arguments.fit.split()]
        subprocess.run(fit, check=True, stdout=subprocess.DEVNULL)
        number = arguments.number if arguments.what == "speed" else arguments.images
        photos = make_photos(folder / "photos", data, number)
        if arguments.what == "kills":
            sys.exit(1 if kills(photos, model, folder, arguments.number, arguments.seed) else 0)
        speed(photos, model, folder, arguments.rounds, arguments.format or ["csv", "table"])


if __name__ == "__main__":
    main()
