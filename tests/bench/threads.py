"""How `fit` shares its processors: alone, beside busy processes, and with other numbers of threads.

python tests/bench/threads.py ../shared/data/scenes/train --epochs 2 --image-size 128

Without DATA, it trains on synthetic images. A fair share of N processors beside B busy processes takes (N + B) / N
times as long as all of them.
"""

import csv
import hashlib
import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from labelr.model.predictor import available_cpus

BUSY = (0, 1, 2, 4)
ROUNDS = 3


class Run(NamedTuple):
    """One run of `fit`.

    Attributes:
        seconds: Of its epochs, without start and end of the command.
        digest: Of the weights.
    """

    seconds: float
    digest: str


@contextmanager
def busy_processes(count: int) -> Iterator[None]:
    """Processes that each keep a processor busy."""
    processes = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(count)]
    try:
        yield
    finally:
        for process in processes:
            process.kill()
            process.wait()


def fit(arguments: list[str]) -> Run:
    """Trains once."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "labelr", "fit", *arguments, "--output", f"{folder}/model", "--no-report"]
        subprocess.run([*command, "--quiet", "--json"], check=True, stdout=subprocess.PIPE)
        rows = list(csv.DictReader((Path(folder) / "model" / "history.csv").open()))
        info = json.loads((Path(folder) / "model" / "model.json").read_text())
        digest = hashlib.sha256((Path(folder) / "model" / info["weights"]["file"]).read_bytes()).hexdigest()
    return Run(sum(float(row["seconds"]) for row in rows), digest[:12])


def main() -> None:
    """Prints a line for each number of busy processes, and the digests of the weights."""
    arguments = sys.argv[1:] if len(sys.argv) > 1 else ["--synthetic", "400", "--epochs", "3"]
    cpus = available_cpus()
    fit(arguments)  # decodes the images
    alone = 0.0
    for busy in BUSY:
        with busy_processes(busy):
            seconds = sorted(fit(arguments).seconds for _ in range(ROUNDS))
        alone = alone or seconds[len(seconds) // 2]
        slowdown = seconds[len(seconds) // 2] / alone
        fair = (cpus + busy) / cpus
        print(
            f"{busy} busy processes: {seconds[len(seconds) // 2]:.1f} s ({seconds[0]:.1f} to {seconds[-1]:.1f}), "
            f"{slowdown:.2f} times as long as alone; fair {fair:.2f}; ratio {slowdown / fair:.2f}",
            flush=True,
        )
    for threads in (1, 2, 16):
        run = fit([*arguments, "--threads", str(threads)])
        print(f"{threads} threads: {run.seconds:.1f} s, weights {run.digest}", flush=True)


if __name__ == "__main__":
    main()
