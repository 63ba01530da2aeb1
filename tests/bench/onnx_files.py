"""ONNX Runtime beside torch: sizes of files, seconds until the first label, and images per second, in one run.

labelr export scenes && labelr export scenes --int8 --output int8.onnx
python tests/bench/onnx_files.py ../shared/data/scenes/test --model scenes --onnx scenes.onnx int8.onnx

Run it on an idle machine; the engines take turns, and the best of all rounds counts.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from labelr.config import MachineOptions
from labelr.model import store
from labelr.model.engine import OnnxModel
from labelr.model.predictor import Predictor, micro_batch_size

Engines = dict[str, tuple[list[str], Predictor]]


def engines(name: str, paths: list[Path]) -> Engines:
    """The options of `labelr tag`, and the model on one thread, by engine."""
    torch32, torch_auto = (store.load(name, device="cpu", amp=amp, threads=1) for amp in (False, None))
    found: Engines = {"torch fp32": (["--model", name, "--no-amp"], torch32)}
    if torch_auto.runtime.precision != "fp32":
        found[f"torch {torch_auto.runtime.precision}"] = (["--model", name], torch_auto)
    size = sum(path.stat().st_size for path in torch32.path.glob(store.WEIGHTS))
    print(f"saved weights: {size / 1e6:.1f} MB")
    for path in paths:
        model = OnnxModel.load(path, MachineOptions(device="cpu", threads=1, workers=1))
        found[model.runtime.precision] = (["--model", str(path)], model)
        print(f"{model.runtime.precision}: {path.stat().st_size / 1e6:.1f} MB", flush=True)
    return found


def network_rate(model: Predictor) -> Callable[[], float]:
    """Measures images per second of processor time: a micro-batch through the network, on one thread."""
    size = model.info.preprocessing.image_size
    count = micro_batch_size(model.runtime, size)
    pixels = np.random.default_rng(0).integers(0, 256, (count, size, size, 3), np.uint8)

    def measure() -> float:
        start = time.process_time()
        with model.one_thread_per_operation():
            model.predict_pixels([pixels])
        return count / (time.process_time() - start)

    return measure


def first_label(options: list[str], photo: Path) -> tuple[float, float]:
    """Seconds from the start of a process to the first row, and of processor time of the whole process."""
    import resource

    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    start = time.perf_counter()
    command = [sys.executable, "-m", "labelr", "tag", str(photo), *options, "-o", "-", "--quiet"]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()  # the header
        process.stdout.readline()
        seconds = time.perf_counter() - start
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return seconds, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def tag(options: list[str], photos: Path, folder: Path) -> float:
    """Images per second of `labelr tag` with all processors."""
    command = [
        sys.executable,
        "-m",
        "labelr",
        "tag",
        str(photos),
        *options,
        "-o",
        str(folder),
        "--force",
        "--json",
        "-q",
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    summary: dict[str, Any] = json.loads(done.stdout)
    return float(summary["images_per_second"])


def main() -> None:
    """Prints the figures."""
    parser = argparse.ArgumentParser()
    parser.add_argument("photos", type=Path)
    parser.add_argument("--model", required=True)
    parser.add_argument("--onnx", type=Path, nargs="+", required=True)
    parser.add_argument("--rounds", type=int, default=5)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        found = engines(given.model, given.onnx)
        photo = next(path for path in sorted(given.photos.rglob("*.jpg")))
        measures = {engine: network_rate(model) for engine, (_, model) in found.items()}
        rates: dict[str, list[float]] = {engine: [] for engine in found}
        starts: dict[str, list[tuple[float, float]]] = {engine: [] for engine in found}
        tagged: dict[str, list[float]] = {engine: [] for engine in found}
        for _ in range(given.rounds):
            for engine, (options, _) in found.items():
                rates[engine] += [measures[engine]() for _ in range(5)]
                starts[engine].append(first_label(options, photo))
                tagged[engine].append(tag(options, given.photos, Path(name, "out")))
                print(engine, rates[engine][-1], starts[engine][-1], tagged[engine][-1], file=sys.stderr, flush=True)
        for engine in found:
            wall, cpu = (min(values) for values in zip(*starts[engine], strict=True))
            print(
                f"{engine:12} network {max(rates[engine]):7.1f} images/s of processor time, first label after "
                f"{wall:.2f} s ({cpu:.2f} s of processor time), labelr tag {max(tagged[engine]):6.1f} images/s"
            )


if __name__ == "__main__":
    main()
