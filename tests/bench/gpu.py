"""The measurements of gpu.sh: each subcommand prints its figures as one line of JSON.

    python tests/bench/gpu.py fit MODEL [SWITCH...] -- OPTION...   one `labelr fit`, its pace, memory and scores
    python tests/bench/gpu.py pair OPTION...                       two of them at once
    python tests/bench/gpu.py bare MODEL DEVICE                    the bare training step, and the time of its stages
    python tests/bench/gpu.py tag OUTPUT OPTION...                 one `labelr tag`
    python tests/bench/gpu.py evaluate OPTION...                   one `labelr evaluate`
    python tests/bench/gpu.py limits PHOTOS MODEL DEVICE           decoding alone, and the network alone
    python tests/bench/gpu.py agree OUTPUT OUTPUT...               how far probabilities are from those of the first
    python tests/bench/gpu.py same MODEL MODEL                     whether two models have the same weights
    python tests/bench/gpu.py photos SOURCE FOLDER COUNT           write photographs of 12 megapixels

A SWITCH changes the process that labelr runs in: fp16 (the card has no bf16), no-tf32, syncs (count the
synchronizations), profile (seconds in labelr's functions), memory=GB (of the card), kill=N (after epoch N, then resume
the run).
"""

import cProfile
import csv
import json
import os
import shutil
import signal
import statistics
import subprocess
import sys
import time
import warnings
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from itertools import pairwise
from pathlib import Path
from typing import Any

Figures = dict[str, Any]
FACTS = "process facts: "


def set_switches(switches: Sequence[str]) -> Counter[str]:
    """Changes this process by the switches; returns the synchronizations, counted by line of code as they come."""
    import torch

    syncs = Counter[str]()
    torch.backends.cudnn.allow_tf32 = "no-tf32" not in switches
    if "no-tf32" in switches:
        torch.set_float32_matmul_precision = lambda precision: None  # noqa: ARG005
    if "fp16" in switches:
        torch.cuda.is_bf16_supported = lambda *_, **__: False
    if not torch.cuda.is_available():
        return syncs
    total = torch.cuda.get_device_properties(0).total_memory
    for gigabytes in (float(switch[7:]) for switch in switches if switch.startswith("memory=")):
        torch.cuda.set_per_process_memory_fraction(gigabytes * 1e9 / total)
    if "syncs" in switches:
        warnings.simplefilter("always")
        warnings.showwarning = lambda message, _, file, line, *__: syncs.update(
            [f"{'/'.join(Path(file).parts[-2:])}:{line}" for _ in range("synchroniz" in str(message))]
        )
        torch.cuda.set_sync_debug_mode("warn")
    return syncs


def labelr(*words: str) -> None:
    """Runs labelr in this process, changed by the switches before ``--``; reports its memory on stderr at the end."""
    import torch

    cut = words.index("--")
    switches = words[:cut]
    syncs = set_switches(switches)
    sys.argv = ["labelr", *words[cut + 1 :]]
    profile = cProfile.Profile()
    from labelr.__main__ import main

    try:
        if "profile" in switches:
            profile.enable()
        main()
    finally:
        profile.disable()
        facts: Figures = {"peak_gpu_mb": torch.cuda.max_memory_allocated() >> 20} if torch.cuda.is_available() else {}
        if "syncs" in switches:
            facts["syncs"] = dict(syncs.most_common(10))
        if "profile" in switches:
            facts["profile"] = slowest(profile)
        print(FACTS + json.dumps(facts), file=sys.stderr)


def slowest(profile: cProfile.Profile) -> dict[str, float]:
    """The functions of labelr, optimizers and imports with the most seconds in the main thread, calls included."""
    profile.create_stats()
    seconds = {
        f"{'/'.join(Path(file).parts[-2:])}:{name}": round(entry[3], 3)
        for (file, _, name), entry in profile.stats.items()
        if "/labelr/" in file or "/torch/optim/" in file or name in {"<module>", "save"}
    }
    return dict(sorted(seconds.items(), key=lambda item: -item[1])[:70])


def run(*words: str) -> tuple[Figures, Figures]:
    """What `labelr` prints as JSON, and its seconds, warnings and memory; ends this process where it fails."""
    start = time.perf_counter()
    done = subprocess.run([sys.executable, __file__, "labelr", *words], capture_output=True, text=True, check=False)
    figures: Figures = {"command_seconds": round(time.perf_counter() - start, 2)}
    lines = done.stderr.splitlines()
    for line in lines:
        if line.startswith(FACTS):
            figures |= json.loads(line.removeprefix(FACTS))
    if done.returncode:
        sys.exit("\n".join(line for line in lines if not line.startswith(FACTS)) or f"exit status {done.returncode}")
    told = [line for line in lines if "warning" in line.lower() or "memory" in line.lower()]
    return json.loads(done.stdout), figures | {"warnings": [line for line in told if not line.startswith(FACTS)]}


def fit(model: str, *words: str) -> Figures:
    """One `labelr fit`."""
    shutil.rmtree(model, ignore_errors=True)
    cut = words.index("--")
    kills = [int(switch[5:]) for switch in words[:cut] if switch.startswith("kill=")]
    command = [*words[:cut], "--", "fit", *words[cut + 1 :], "--output", model, "--json", "--no-report"]
    figures: Figures = {}
    if kills:
        figures["epochs_before_kill"] = kill_after(kills[0], Path(model), command)
        command.append("--resume")
    result, measured = run(*command)
    settings, rows = result["settings"], read_history(Path(model))
    full = max(row["image_size"] for row in rows)
    seconds = [row["seconds"] for row in rows]
    return {
        **figures, **measured,
        **{name: settings[name] for name in ("device", "amp", "image_size", "batch_size", "micro_batch", "compile")},
        "epochs": len(rows), "epoch_seconds_sum": round(sum(seconds), 2),
        "epoch_seconds": [round(value, 2) for value in seconds],
        "images_per_second": [round(row["images_per_second"]) for row in rows],
        "images_per_second_full_size": round(pace(rows)), "full_size": int(full),
        "waited_share": round(sum(row["waited_seconds"] for row in rows) / sum(seconds), 3),
        "train_loss": [round(row["train_loss"], 5) for row in rows],
        "val_map_best": round(max(row["val_map"] for row in rows), 4),
        "test_map": round((result.get("metrics") or {}).get("map_macro") or 0, 4),
    }  # fmt: skip


def pair(*options: str) -> Figures:
    """Two runs of `labelr fit` at once."""
    with ThreadPoolExecutor(2) as pool:
        first, second = pool.map(lambda name: fit(name, "--", *options), ("pair_1", "pair_2"))
    return {"first": first, "second": second}


def read_history(model: Path) -> list[dict[str, float]]:
    """The rows of a model's ``history.csv``."""
    with (model / "history.csv").open() as file:
        return [{name: float(value) for name, value in row.items()} for row in csv.DictReader(file)]


def pace(rows: Sequence[dict[str, float]]) -> float:
    """The median of images per second over the epochs with the largest images, without the first epoch of the run."""
    full = max(row["image_size"] for row in rows)
    return statistics.median([row["images_per_second"] for row in rows[1:] if row["image_size"] == full] or [0])


def kill_after(epochs: int, model: Path, command: Sequence[str]) -> int:
    """Starts a run and kills it once its history has a number of epochs; returns how many it has then."""
    with subprocess.Popen([sys.executable, __file__, "labelr", *command], stdout=-3, stderr=-3) as process:
        while process.poll() is None:
            history = model / "history.csv"
            if history.exists() and len(read_history(model)) >= epochs:
                time.sleep(0.1)
                process.kill()
                break
            time.sleep(0.02)
        if process.wait() != -signal.SIGKILL:
            sys.exit("the run ended before it could be killed")
    return len(read_history(model))


class BareStep:
    """The training step of a model, on random tensors of its largest image size."""

    def __init__(self, model: Path, device: str) -> None:
        import torch

        from labelr.config import MachineOptions, TrainConfig
        from labelr.data.augment import STRENGTHS, Augmentation
        from labelr.model.device import ThreadPool, pick_runtime
        from labelr.model.network import ResidualNetwork
        from labelr.training.optim import make_optimizers
        from labelr.training.trainer import masked_bce

        info = json.loads((model / "model.json").read_text())
        config, labels = TrainConfig.of(info["config"]), len(info["labels"])
        runtime = pick_runtime(MachineOptions.of(device=device, amp=config.amp))
        network = ResidualNetwork(labels, stem=config.stem, width=config.width or 1, dropout=config.dropout)
        network = runtime.place(network)
        batch, size = config.batch_size or 0, int(max(row["image_size"] for row in read_history(model)))
        self.batch_size, self.size, self.precision, self.on_card = batch, size, runtime.precision, device == "cuda"
        images = torch.randn(batch, 3, size, size).to(runtime.device, memory_format=torch.channels_last)
        targets = torch.randint(0, 2, (batch, labels)).float().to(runtime.device)
        stored = torch.randint(0, 256, (batch, 3, size * 8 // 7, size * 8 // 7), dtype=torch.uint8).to(runtime.device)
        augment, generator = Augmentation(STRENGTHS[config.augment or "light"], flip=config.flip), torch.Generator()
        self.loss = torch.zeros(())

        def forward() -> None:
            with runtime.autocast():
                logits = network(images)
            self.loss = masked_bce(logits.float(), targets)

        def backward() -> None:
            network.zero_grad(set_to_none=True)
            self.loss.backward()  # type: ignore[no-untyped-call]

        pool = ThreadPool(runtime.compute_threads)
        optimizers = {type(one).__name__.lower(): one.step for one in make_optimizers(network, config, runtime, pool)}
        self.stages: dict[str, Callable[[], object]] = {"forward": forward, "backward": backward, **optimizers}
        self.augment: Callable[[], object] = lambda: augment(stored, torch.ones(batch), size, generator)

    def wait(self) -> float:
        """Waits for the card, and returns the time in seconds."""
        import torch

        if self.on_card:
            torch.cuda.synchronize()
        return time.perf_counter()

    def images_per_second(self, *, benchmark: bool) -> float:
        """The median over runs of 10 steps, waited for at their ends only; cuDNN may measure its algorithms first."""
        import torch

        torch.backends.cudnn.benchmark = benchmark
        times: list[float] = [self.wait()]
        for _ in range(11 if self.on_card else 2):
            for stage in 10 * list(self.stages.values()):
                stage()
            times.append(self.wait())
        torch.backends.cudnn.benchmark = False
        return 10 * self.batch_size / statistics.median(end - start for start, end in list(pairwise(times))[1:])

    def milliseconds(self) -> dict[str, float]:
        """The median time of each stage, waited for at the end of each, and of the augmentation."""
        stages = {**self.stages, "augment": self.augment}
        times: dict[str, list[float]] = {name: [] for name in stages}
        for _ in range(20):
            for name, stage in stages.items():
                start = self.wait()
                stage()
                times[name].append(1000 * (self.wait() - start))
        return {name: round(statistics.median(values), 2) for name, values in times.items()}


def bare(model: str, device: str) -> Figures:
    """Images per second of forward, backward and optimizers alone, and the share of it that `labelr fit` reached."""
    step, reached = BareStep(Path(model), device), pace(read_history(Path(model)))
    rate = step.images_per_second(benchmark=False)
    return {
        "batch_size": step.batch_size, "size": step.size, "precision": step.precision,
        "bare_images_per_second": round(rate), "fit_images_per_second": round(reached),
        "share_of_bare": round(reached / rate, 3),
        "bare_with_cudnn_benchmark": round(step.images_per_second(benchmark=True)),
        "stage_milliseconds": step.milliseconds(),
    }  # fmt: skip


def tag(output: str, *options: str) -> Figures:
    """One `labelr tag`."""
    result, measured = run("--", "tag", *options, "--output", output, "--json")
    return {**measured, **{name: result[name] for name in ("ok", "failed", "seconds", "images_per_second")}}


def evaluate(*options: str) -> Figures:
    """One `labelr evaluate`; its images per second are those of the whole process."""
    result, measured = run("--", "evaluate", *options, "--split", "all", "--json")
    count = result["images"]
    rate = round(count / measured["command_seconds"], 1)
    return {**measured, "images": count, "images_per_second_of_process": rate, "map": result["metrics"]["map_macro"]}


def limits(photos: str, model: str, device: str) -> Figures:
    """Images per second of decoding alone on all cores, and of the network alone."""
    import numpy as np
    import torch

    from labelr.data.images import read_pixels
    from labelr.model.predictor import available_cpus
    from labelr.model.store import load

    loaded = load(model, device=device)
    size = loaded.info.preprocessing.image_size
    torch.set_num_threads(1 if device == "cuda" else available_cpus())
    paths = sorted(Path(photos).glob("*.jpg"))
    with ThreadPoolExecutor(available_cpus()) as pool:
        start = time.perf_counter()
        list(pool.map(lambda path: read_pixels(path, size), paths))
        decoding = len(paths) / (time.perf_counter() - start)
    batches = [np.random.default_rng(0).integers(0, 256, (64, size, size, 3), np.uint8)] * (
        50 if device == "cuda" else 1
    )
    loaded.predict_pixels(batches[:1])
    start = time.perf_counter()
    loaded.predict_pixels(batches)
    network = 64 * len(batches) / (time.perf_counter() - start)
    return {
        "cores": available_cpus(),
        "decoded_per_second": round(decoding, 1),
        "network_per_second": round(network, 1),
    }


def agree(first: str, *others: str) -> Figures:
    """The largest and the mean absolute difference of probabilities from those of the first directory."""
    import numpy as np

    def read(folder: str) -> dict[str, list[float]]:
        with Path(folder, "probabilities.csv").open() as file:
            return {row[0]: [float(cell) for cell in row[1:]] for row in list(csv.reader(file))[1:]}

    expected, figures = read(first), {}
    for folder in others:
        found = read(folder)
        differences = np.abs(np.array([found[name] for name in expected]) - np.array(list(expected.values())))
        figures[Path(folder).name] = {"max": round(float(differences.max()), 5), "mean": float(differences.mean())}
    return {"images": len(expected), "reference": Path(first).name, **figures}


def same(first: str, second: str) -> Figures:
    """Whether two models have the same weights, the largest difference of weights, and of training losses."""
    import numpy as np
    from safetensors.numpy import load_file

    one, other = (load_file(next(Path(folder).glob("*.safetensors"))) for folder in (first, second))
    losses = [[row["train_loss"] for row in read_history(Path(folder))] for folder in (first, second)]
    return {
        "same_weights": all(np.array_equal(one[name], other[name]) for name in one),
        "largest_difference": float(max(np.abs(one[name] - other[name]).max() for name in one)),
        "train_losses": [[round(value, 6) for value in run] for run in losses],
    }


def write_photo(source: str, path: str) -> None:
    """Enlarges a photograph to 12 megapixels, with noise as a camera's."""
    import numpy as np
    from PIL import Image

    with Image.open(source) as image:
        large = np.asarray(image.convert("RGB").resize((4000, 3000), Image.Resampling.BICUBIC), np.float32)
    noisy = large + 5 * np.random.default_rng(0).standard_normal((3000, 4000, 1), np.float32)
    Image.fromarray(noisy.clip(0, 255).astype(np.uint8)).save(path, quality=90)


def photos(source: str, folder: str, count: str) -> Figures:
    """Writes photographs of 12 megapixels."""
    sources = sorted(Path(source).glob("*.jpg"))[: int(count)]
    Path(folder).mkdir()
    paths = [Path(folder, path.name) for path in sources]
    with ProcessPoolExecutor(len(os.sched_getaffinity(0))) as pool:
        list(pool.map(write_photo, map(str, sources), map(str, paths)))
    return {
        "photos": len(paths),
        "mean_megabytes": round(statistics.mean(path.stat().st_size for path in paths) / 1e6, 2),
    }


def environment() -> Figures:
    """The card and the versions; imports what the other steps import, so that the disk's cache holds it."""
    import matplotlib as mpl
    import sklearn
    import torch

    import labelr.training.fit  # noqa: F401

    card: Figures = {}
    if torch.cuda.is_available():
        properties = torch.cuda.get_device_properties(0)
        card = {"card": properties.name, "memory_gb": round(properties.total_memory / 1e9, 1)}
    versions = {module.__name__: module.__version__ for module in (torch, sklearn, mpl)}
    return {**card, "cores": len(os.sched_getaffinity(0)), "python": sys.version.split()[0], **versions}


def line(name: str, code: str, start: str, end: str) -> Figures:
    """The report of one step, whose output is in the files ``NAME.out`` and ``NAME.err``."""
    out, err = (
        [text for text in path.read_text(errors="replace").splitlines() if text.strip()] if path.exists() else []
        for path in (Path(f"{name}.out"), Path(f"{name}.err"))
    )
    try:
        figures = json.loads(out[-1])
    except (IndexError, ValueError):
        figures = {"output": out[-3:]}
    failed = {"124": "timed out", "skipped": "skipped: no time left"}.get(code) or " ".join(err[-2:]) or f"exit {code}"
    seconds = round(float(end) - float(start), 2)
    error = None if code == "0" else failed
    return {"step": name, "ok": code == "0", "seconds": seconds, "figures": figures, "error": error}


COMMANDS: dict[str, Callable[..., Figures]] = {
    command.__name__: command
    for command in (environment, fit, pair, bare, tag, evaluate, limits, agree, same, photos, line)
}

if __name__ == "__main__":
    if sys.argv[1] == "labelr":
        labelr(*sys.argv[2:])
    print(json.dumps(COMMANDS[sys.argv[1]](*sys.argv[2:])))
