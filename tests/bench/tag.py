"""Tags folders beside the loops that people write by hand, and prints how near it is to what the machine allows.

    cd ../shared/bench; python ../../labelr/tests/bench/tag.py tag_peer.py make_photos.py --size 224

Photographs of 12 megapixels, then small synthetic images; then memory for 1,000 and 20,000 images, the time of 10
images beyond `import torch`, and how far probabilities are from plain fp32. Run it alone on the machine.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import torch

from labelr.data.images import read_pixels
from labelr.data.synthetic import make_synthetic_dataset
from labelr.data.walk import find_images
from labelr.model import store
from labelr.model.calibration import UNCALIBRATED, decide
from labelr.model.device import Runtime, pick_runtime
from labelr.model.info import Architecture, ModelInfo, Preprocessing
from labelr.model.predict import Model, build_network, normalise, optimize_for_inference, predict_probs
from labelr.model.predictor import available_cpus, micro_batch_size

LABELS = tuple(f"label {number}" for number in range(5))


def make_model(folder: Path, size: int, *, flip: bool) -> Path:
    """An untrained network of the default size, whose BatchNorm layers have seen images."""
    folder.mkdir()
    info = ModelInfo(
        labels=LABELS, thresholds=(0.5,) * 5, preprocessing=Preprocessing(image_size=size, flip_averaging=flip),
        architecture=Architecture(stem="deep", width=1.0, dropout=0.3), calibration=UNCALIBRATED, best_epoch=1,
        complete=True,
    )  # fmt: skip
    torch.manual_seed(0)
    network = build_network(info).train()
    with torch.no_grad():
        for _ in range(20):
            network(torch.randn(16, 3, 96, 96))
    store.save(folder, network, info)
    return folder


MEASURED = """
import resource, subprocess, sys
code = subprocess.run(sys.argv[1:]).returncode
print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss, file=sys.stderr)
sys.exit(code)
"""
"""Runs a command from a small process: a child's peak memory counts from that of the process that it was made by."""


def run(*command: object) -> tuple[str, float, float]:
    """What a process prints, the seconds it takes, and the most memory it holds in megabytes."""
    words = [sys.executable, *map(str, command)]
    start = time.perf_counter()
    done = subprocess.run([sys.executable, "-S", "-c", MEASURED, *words], capture_output=True, text=True, check=False)
    seconds = time.perf_counter() - start
    if done.returncode:
        sys.exit(f"{words}: exit status {done.returncode}\n{done.stderr}")
    return done.stdout, seconds, int(done.stderr.split()[-1]) / 1024


def tag(photos: Path, model: Path, *options: object) -> tuple[float, float, float]:
    """Images a second of `labelr tag`, its whole time, and its peak memory."""
    with tempfile.TemporaryDirectory() as name:
        out, seconds, memory = run(
            "-m", "labelr", "tag", photos, "--model", model, "-o", f"{name}/out", "--json", "--quiet", *options
        )
    return json.loads(out)["images_per_second"], seconds, memory


def peer(script: Path, photos: Path, mode: str, size: int) -> float:
    """Images a second of a loop written by hand."""
    out, _, _ = run(script, photos, "--mode", mode, "--size", size, "--labels", len(LABELS))
    return float(json.loads(out)["img_s"])


def limits(photos: Path, model: Path) -> tuple[float, float]:
    """Images a second of opening alone, and of the network alone, on all cores."""
    loaded = store.load_from(model, pick_runtime())
    size, paths = loaded.info.preprocessing.image_size, list(find_images(photos))
    torch.set_num_threads(1)
    batch = np.random.default_rng(0).integers(0, 256, (micro_batch_size(loaded.runtime, size), size, size, 3), np.uint8)
    loaded.predict_pixels([batch])
    with ThreadPoolExecutor(available_cpus()) as pool:
        start = time.perf_counter()
        list(pool.map(lambda path: read_pixels(path, size), paths))
        decoding = len(paths) / (time.perf_counter() - start)
        rounds = 16 * available_cpus()
        start = time.perf_counter()
        list(pool.map(lambda _: loaded.predict_pixels([batch]), range(rounds)))
        return decoding, rounds * micro_batch_size(loaded.runtime, size) / (time.perf_counter() - start)


def compare(title: str, photos: Path, peer_script: Path, modes: tuple[str, ...], size: int, folder: Path) -> None:
    """One table: peers, labelr with and without the mean of two views, and the limit."""
    print(f"{title}, {size} px", flush=True)
    peers = {mode: peer(peer_script, photos, mode, size) for mode in modes}
    for mode, pace in peers.items():
        print(f"  hand-written loop, {mode}: {pace:.1f} images/s", flush=True)
    for flip in (False, True):
        model = make_model(folder / f"model-{size}-{flip}-{len(title)}", size, flip=flip)
        pace, seconds, memory = tag(photos, model)
        decoding, network = limits(photos, model)
        limit = 1 / (1 / decoding + 1 / network)
        times = ", ".join(f"{pace / other:.2f}x {mode}" for mode, other in peers.items())
        print(
            f"  labelr{', two views an image' if flip else ''}: {pace:.1f} images/s, {times}; limit {limit:.1f} "
            f"(opening {decoding:.1f}, network {network:.1f}), {pace / limit:.0%} of it; {seconds:.1f} s in all, "
            f"{memory:.0f} MB",
            flush=True,
        )


def share_of_limit(photos: Path, model: Path) -> None:
    """The speed of a trained model, and its share of what opening images and the network alone allow."""
    pace, _, _ = tag(photos, model)
    decoding, network = limits(photos, model)
    limit = 1 / (1 / decoding + 1 / network)
    print(
        f"  {pace:.1f} images/s; limit {limit:.1f} (opening {decoding:.1f}, network {network:.1f}), {pace / limit:.0%} "
        f"of it, {pace / network:.0%} of the network alone",
        flush=True,
    )


def small_things(folder: Path, small: Path) -> None:
    """Memory for few and for many images, and the time of ten."""
    many = make_synthetic_dataset(folder / "many", 20000, 5) / "images"
    few = folder / "few"
    few.mkdir()
    for path in list(many.iterdir())[:1000]:
        (few / path.name).hardlink_to(path)
    model = make_model(folder / "memory", 64, flip=True)
    memory = [tag(photos, model)[2] for photos in (few, many)]
    print(f"peak memory: {memory[0]:.0f} MB for 1,000 images, {memory[1]:.0f} MB for 20,000", flush=True)
    ten = folder / "ten"
    ten.mkdir()
    for path in list(small.iterdir())[:10]:
        (ten / path.name).hardlink_to(path)
    torch_seconds = min(run("-c", "import torch")[1] for _ in range(3))
    whole = min(tag(ten, model)[1] for _ in range(3))
    print(f"10 images: {whole - torch_seconds:.2f} s beyond `import torch` ({torch_seconds:.2f} s)", flush=True)


def agreement(photos: Path, model: Path) -> None:
    """How far probabilities and decisions are from those of the plain network in fp32, on the same pixels."""
    loaded: Model = store.load_from(model, pick_runtime())
    preprocessing = loaded.info.preprocessing
    paths = list(find_images(photos))
    pixels = np.stack([p for path in paths if isinstance(p := read_pixels(path, preprocessing.image_size), np.ndarray)])

    def plain() -> Iterator[np.ndarray[Any, Any]]:
        for start in range(0, len(pixels), 64):
            images = normalise(torch.from_numpy(pixels[start : start + 64]).permute(0, 3, 1, 2), preprocessing)
            with torch.inference_mode():
                probs = loaded.module(images).sigmoid()
                if preprocessing.flip_averaging:
                    probs = (probs + loaded.module(images.flip(3)).sigmoid()) / 2
            yield probs.numpy()

    exact = np.concatenate(list(plain()))
    for precision in ("fp32", "bf16"):
        machine = Runtime(torch.device("cpu"), precision, 2, 2)
        ready = optimize_for_inference(loaded.module, machine)
        batches = (pixels[start : start + 16] for start in range(0, len(pixels), 16))
        probs = np.concatenate(list(predict_probs(ready, batches, preprocessing, machine)))
        difference = np.abs(probs - exact)
        thresholds = np.array(loaded.info.thresholds)
        other = (decide(probs, thresholds) != decide(exact, thresholds)).mean()
        print(
            f"  {precision}: at most {difference.max():.5f} from plain fp32, "
            f"{(difference <= 0.02).mean():.3%} within 0.02, "
            f"{other:.3%} of decisions different ({difference.size:,} pairs)",
            flush=True,
        )


def main() -> None:
    """Runs all parts."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("peer", type=Path)
    parser.add_argument("make_photos", type=Path)
    parser.add_argument("--size", type=int, default=224)
    parser.add_argument("--photos", type=int, default=200)
    parser.add_argument("--model", type=Path, help="a trained model, for its speed and for the comparison with fp32")
    parser.add_argument("--data", type=Path, help="its images")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        photos = folder / "photos"
        subprocess.run([sys.executable, arguments.make_photos, photos, str(arguments.photos)], check=True)
        compare("photographs of 12 megapixels", photos, arguments.peer, ("single", "loader"), arguments.size, folder)
        small = make_synthetic_dataset(folder / "small", 5000, 5, size=256) / "images"
        compare("5,000 images of 256 px", small, arguments.peer, ("loader",), arguments.size, folder)
        small_things(folder, small)
    if arguments.model:
        print(f"{arguments.model.name} on {arguments.data}")
        share_of_limit(arguments.data, arguments.model)
        agreement(arguments.data, arguments.model)


if __name__ == "__main__":
    main()
