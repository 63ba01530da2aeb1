"""The measurements of gpu.sh: each subcommand prints its figures as one line of JSON.

    python tests/bench/gpu.py fit MODEL [SWITCH...] -- OPTION...   one `labelr fit`, its pace, memory and scores
    python tests/bench/gpu.py refused MODEL SWITCH -- OPTION...   one that should end in an error for lack of memory
    python tests/bench/gpu.py pair OPTION...                       two of them at once
    python tests/bench/gpu.py tune OPTION...                       one `labelr tune`
    python tests/bench/gpu.py bare MODEL DEVICE [MODE]             the bare training step, and the time of its stages;
                                                                   MODE is one of torch.compile
    python tests/bench/gpu.py tag OUTPUT OPTION...                 one `labelr tag`
    python tests/bench/gpu.py evaluate OPTION...                   one `labelr evaluate`
    python tests/bench/gpu.py decode PHOTOS MODEL                  decoding alone, in threads and in processes
    python tests/bench/gpu.py nvjpeg PHOTOS MODEL                  decoding by the card, and how far its pixels are off
    python tests/bench/gpu.py predict MODEL DEVICE                 the network alone, in batches of several sizes
    python tests/bench/gpu.py agree OUTPUT OUTPUT...               how far probabilities are from those of the first
    python tests/bench/gpu.py same MODEL MODEL                     whether two models have the same weights
    python tests/bench/gpu.py photos SOURCE FOLDER COUNT           write photographs of 12 megapixels
    python tests/bench/gpu.py synthetic FOLDER TRAIN TEST          write synthetic images in place of photographs
    python tests/bench/gpu.py pick SOURCE FOLDER TRAIN TEST        write the first photographs, reduced
    python tests/bench/gpu.py weights NAME FILE                    write random weights of a backbone of torchvision
    python tests/bench/gpu.py environment                          the machine and its versions; fails without torch
    python tests/bench/gpu.py missing PACK                         the wheels of a pack that are not installed here
    python tests/bench/gpu.py pack FOLDER [PHOTOS]                 wheels and photographs for a machine without network

A SWITCH changes the process that labelr runs in: fp16 (the card has no bf16), syncs (count the synchronizations),
profile (share of the time of each stage of training), memory=GB (of the card), kill=N (after epoch N, then resume the
run).
"""

import csv
import dataclasses
import json
import os
import shutil
import signal
import statistics
import subprocess
import sys
import time
import tomllib
import warnings
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from importlib import metadata
from itertools import pairwise
from pathlib import Path
from typing import Any

Figures = dict[str, Any]
FACTS = "process facts: "
SETTINGS = ("device", "amp", "tf32", "image_size", "batch_size", "micro_batch", "compile", "backbone")
PACK_BYTES, PHOTO_BYTES = 56 << 20, 20 << 20
"""What a pack may take, so that it and a checkout are at most 64 MiB, and its photographs."""
PHOTO_SIZE, MAX_PHOTOS = 256, (1300, 300)
"""The edge of its photographs in pixels, and how many of train/ and test/ it holds."""
UNPACKED = ("torch", "torchvision")
"""Packages that are too large for a pack, with what only they need."""


def set_switches(switches: Sequence[str]) -> Counter[str]:
    """Changes this process by the switches; returns the synchronizations, counted by line of code as they come."""
    import torch

    syncs = Counter[str]()
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
    from labelr.__main__ import main

    stages = Stages() if "profile" in switches else None
    try:
        main()
    finally:
        facts: Figures = {"peak_gpu_mb": torch.cuda.max_memory_allocated() >> 20} if torch.cuda.is_available() else {}
        if "syncs" in switches:
            facts["syncs"] = dict(syncs.most_common(10))
        if stages is not None:
            facts["shares"] = stages.shares()
        print(FACTS + json.dumps(facts), file=sys.stderr)


class Stages:
    """The time of each stage of training, waited for at its start and end: it slows a card down, but adds up."""

    def __init__(self) -> None:
        import torch

        from labelr.data.augment import Augmentation
        from labelr.training import gradients, trainer
        from labelr.training.optim import Muon

        self.seconds = dict.fromkeys(("all", "data", "augmentation", "forward", "backward", "optimizer"), 0.0)
        self.wait: Callable[[], object] = torch.cuda.synchronize if torch.cuda.is_available() else lambda: None
        self.trainers: list[Any] = []
        for stage, owner, name in (
            ("augmentation", Augmentation, "__call__"), ("augmentation", gradients, "normalise"),
            ("augmentation", gradients, "mixup"), ("forward", gradients.BatchGradients, "_forward"),
            ("forward", gradients, "masked_bce"), ("backward", torch.autograd, "grad"),
            ("optimizer", gradients.BatchGradients, "_join"), ("optimizer", Muon, "step"),
            ("optimizer", torch.optim.AdamW, "step"), ("optimizer", trainer.AveragedNetwork, "update_parameters"),
            ("all", trainer.Trainer, "run_epoch"), ("data", trainer.Trainer, "_next"),
        ):  # fmt: skip
            setattr(owner, name, self.timed(stage, getattr(owner, name)))

    def timed(self, stage: str, function: Callable[..., Any]) -> Callable[..., Any]:
        """The function, whose time is added to a stage."""

        def work(*args: Any, **kwargs: Any) -> Any:
            self.wait()
            start = time.perf_counter()
            try:
                return function(*args, **kwargs)
            finally:
                self.wait()
                self.seconds[stage] += time.perf_counter() - start

        return work

    def shares(self) -> dict[str, float]:
        """The share of each stage in the time of all epochs, without validation; the rest is overhead."""
        whole = self.seconds.pop("all")
        shares = {name: round(seconds / whole, 3) for name, seconds in self.seconds.items()}
        return {"seconds": round(whole, 2), **shares, "other": round(1 - sum(shares.values()), 3)}


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
    told = [line for line in lines if any(word in line.lower() for word in ("warning", "memory", "compil"))]
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
        **{name: settings.get(name) for name in SETTINGS},
        "epochs": len(rows), "epoch_seconds_sum": round(sum(seconds), 2),
        "epoch_seconds": [round(value, 2) for value in seconds],
        "images_per_second": [round(row["images_per_second"]) for row in rows],
        "images_per_second_full_size": round(pace(rows)), "full_size": int(full),
        "waited_share": round(sum(row["waited_seconds"] for row in rows) / sum(seconds), 3),
        "train_loss": [round(row["train_loss"], 5) for row in rows],
        "val_map_best": round(max(row["val_map"] for row in rows), 4),
        "test_map": round((result.get("metrics") or {}).get("map_macro") or 0, 4),
    }  # fmt: skip


def refused(model: str, *words: str) -> Figures:
    """One `labelr fit` that should end in a message that memory does not suffice, unless the CPU computes."""
    import torch

    if not torch.cuda.is_available():
        return fit(model, *words)
    cut = words.index("--")
    command = [*words[:cut], "--", "fit", *words[cut + 1 :], "--output", model, "--json", "--no-report"]
    done = subprocess.run([sys.executable, __file__, "labelr", *command], capture_output=True, text=True, check=False)
    message = done.stderr[done.stderr.find("Error: ") :].split(FACTS)[0].strip()
    is_message = message.startswith("Error: memory") and "Hint: " in message and "Traceback" not in done.stderr
    if done.returncode != 1 or not is_message:
        sys.exit(f"expected a message on memory, got exit status {done.returncode}: {done.stderr[-500:]}")
    return {"message": message}


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

    def __init__(self, model: Path, device: str, mode: str | None = None) -> None:
        import torch

        from labelr.config import MachineOptions, TrainConfig
        from labelr.data.augment import STRENGTHS, Augmentation
        from labelr.model.device import ThreadPool, pick_runtime
        from labelr.model.network import ResidualNetwork
        from labelr.training.gradients import masked_bce
        from labelr.training.optim import make_optimizers

        info = json.loads((model / "model.json").read_text())
        config, labels = TrainConfig.of(info["config"]), len(info["labels"])
        runtime = pick_runtime(MachineOptions.of(device=device, amp=config.amp))
        network = ResidualNetwork(labels, stem=config.stem, width=config.width or 1, dropout=config.dropout)
        network = runtime.place(network)
        compiled = torch.compile(network, mode=mode) if mode else network
        batch, size = config.batch_size or 0, int(max(row["image_size"] for row in read_history(model)))
        self.batch_size, self.size, self.precision, self.on_card = batch, size, runtime.precision, device == "cuda"
        images = torch.randn(batch, 3, size, size).to(runtime.device, memory_format=torch.channels_last)
        targets = torch.randint(0, 2, (batch, labels)).float().to(runtime.device)
        stored = torch.randint(0, 256, (batch, 3, size * 8 // 7, size * 8 // 7), dtype=torch.uint8).to(runtime.device)
        augment, generator = Augmentation(STRENGTHS[config.augment or "light"], flip=config.flip), torch.Generator()
        self.loss = torch.zeros(())
        self.steps, self.repeats = (10, 20) if self.on_card else (2, 3)
        if not self.on_card:
            torch.set_num_threads(1)  # as the steps of a run

        def forward() -> None:
            with runtime.autocast():
                logits = compiled(images)
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
        """The median over runs of some steps, waited for at their ends only; cuDNN may measure its algorithms first."""
        import torch

        torch.backends.cudnn.benchmark = benchmark
        times: list[float] = [self.wait()]
        for _ in range(11 if self.on_card else 2):
            for stage in self.steps * list(self.stages.values()):
                stage()
            times.append(self.wait())
        torch.backends.cudnn.benchmark = False
        return self.steps * self.batch_size / statistics.median(end - start for start, end in list(pairwise(times))[1:])

    def milliseconds(self) -> dict[str, float]:
        """The median time of each stage, waited for at the end of each, and of the augmentation."""
        stages = {**self.stages, "augment": self.augment}
        times: dict[str, list[float]] = {name: [] for name in stages}
        for _ in range(self.repeats):
            for name, stage in stages.items():
                start = self.wait()
                stage()
                times[name].append(1000 * (self.wait() - start))
        return {name: round(statistics.median(values), 2) for name, values in times.items()}


def bare(model: str, device: str, mode: str | None = None) -> Figures:
    """Images per second of forward, backward and optimizers alone, and the share of it that `labelr fit` reached."""
    step, reached = BareStep(Path(model), device, mode), pace(read_history(Path(model)))
    rate = step.images_per_second(benchmark=False)
    return {
        "batch_size": step.batch_size, "size": step.size, "precision": step.precision, "compile_mode": mode,
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


def image_size(model: str) -> int:
    """The edge of the images that a model takes, in pixels."""
    return int(json.loads(Path(model, "model.json").read_text())["preprocessing"]["image_size"])


def read_photo(path: Path, size: int) -> None:
    """Decodes one photograph."""
    from labelr.data.images import read_pixels

    read_pixels(path, size)


def decode(photos: str, model: str) -> Figures:
    """Images per second of decoding alone on all cores, in threads and in processes."""
    from joblib import cpu_count

    paths, size, figures = sorted(Path(photos).glob("*.jpg")), image_size(model), {"cores": cpu_count()}
    for kind in (ProcessPoolExecutor, ThreadPoolExecutor):
        with kind(cpu_count()) as pool:
            list(pool.map(read_photo, paths[: cpu_count()], [size] * cpu_count()))  # imports what it needs
            start = time.perf_counter()
            list(pool.map(read_photo, paths, [size] * len(paths)))
            figures[f"{kind.__name__}_per_second"] = round(len(paths) / (time.perf_counter() - start), 1)
    return figures


def nvjpeg(photos: str, model: str) -> Figures:
    """Images per second of decoding and resizing on the card, and the difference of its pixels from labelr's."""
    import torch
    from torch.nn import functional as F
    from torchvision.io import decode_jpeg

    from labelr.data.images import read_pixels

    paths, size, batch = sorted(Path(photos).glob("*.jpg")), image_size(model), 8

    def resized(files: Sequence[Path]) -> Any:
        data = [torch.frombuffer(bytearray(path.read_bytes()), dtype=torch.uint8) for path in files]
        images = torch.stack(decode_jpeg(data, device="cuda")).float()
        return F.interpolate(images, (size, size), mode="bicubic", antialias=True).round().clamp(0, 255)

    found = resized(paths[:batch]).cpu()
    start = time.perf_counter()
    for first in range(0, len(paths) - batch + 1, batch):
        resized(paths[first : first + batch])
    torch.cuda.synchronize()
    rate = len(paths) // batch * batch / (time.perf_counter() - start)
    ours = torch.stack([torch.from_numpy(read_pixels(path, size)) for path in paths[:batch]]).permute(0, 3, 1, 2)
    differences = (found - ours).abs()
    largest, mean = float(differences.max()), round(float(differences.mean()), 3)
    return {"images_per_second": round(rate, 1), "largest_difference": largest, "mean_difference": mean}


def predict(model: str, device: str) -> Figures:
    """Images per second of the network alone, from pixels to probabilities, in batches of several sizes."""
    import numpy as np
    import torch

    from labelr.model import predictor
    from labelr.model.store import load

    loaded = load(model, device=device)
    size, kind = loaded.info.preprocessing.image_size, loaded.runtime.device.type
    chosen = predictor.micro_batch_size(loaded.runtime, size)
    torch.set_num_threads(1 if kind == "cuda" else predictor.available_cpus())
    figures: Figures = {"chosen": chosen, "precision": loaded.runtime.precision}
    for count in (32, 64, 128, 256, 512) if kind == "cuda" else (8, 16):
        predictor.MICRO_BATCH_SIZES[kind] = count
        batches = [np.random.default_rng(0).integers(0, 256, (512, size, size, 3), np.uint8)] if kind == "cuda" else []
        batches = batches * 10 or [np.zeros((16, size, size, 3), np.uint8)]
        model_of_size = dataclasses.replace(loaded)
        model_of_size.predict_pixels(batches[:1])
        start = time.perf_counter()
        model_of_size.predict_pixels(batches)
        rate = sum(map(len, batches)) / (time.perf_counter() - start)
        figures[f"batches_of_{count}_per_second"] = round(rate)
    return figures


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


def synthetic(folder: str, num_train: str, num_test: str) -> Figures:
    """Writes synthetic images in place of photographs."""
    from labelr.data.synthetic import make_synthetic_dataset

    for part, count, seed in (("train", num_train, 0), ("test", num_test, 1)):
        make_synthetic_dataset(Path(folder, part), int(count), 6, seed=seed, size=160)
        for path in Path(folder, part, "images").glob("*.png"):
            from PIL import Image

            with Image.open(path) as image:
                image.convert("RGB").save(path.with_suffix(".jpg"), quality=90)
            path.unlink()
        labels = Path(folder, part, "labels.csv")
        labels.write_text(labels.read_text().replace(".png", ".jpg"))
    return {"images": [int(num_train), int(num_test)]}


def weights(name: str, file: str) -> Figures:
    """Writes random weights of a backbone: they train as fast as pretrained ones."""
    import torch
    from torchvision.models import get_model

    torch.manual_seed(0)
    network = get_model(name, weights=None)
    torch.save(network.state_dict(), file)
    return {"backbone": name, "parameters": sum(parameter.numel() for parameter in network.parameters())}


def tune(*options: str) -> Figures:
    """One `labelr tune`."""
    result, measured = run("--", "tune", *options, "--json", "--no-report")
    trials = result["trials"]
    return {
        **measured,
        "states": [trial["state"] for trial in trials],
        "seconds": [trial["seconds"] for trial in trials],
    }


def version_of(name: str) -> str | None:
    """The installed version of a package; None if it is not installed."""
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def dependencies() -> list[str]:
    """What labelr requires, as its ``pyproject.toml`` says."""
    settings = tomllib.loads(Path(__file__).parents[2].joinpath("pyproject.toml").read_text())
    return list(settings["project"]["dependencies"])


def requirements() -> set[str]:
    """The packages that labelr and its tests on a card need, as installed here, without those too large for a pack."""
    from packaging.requirements import Requirement

    waiting, found = ["pytest", "hypothesis", "packaging", *dependencies()], set[str]()
    while waiting:
        requirement = Requirement(waiting.pop())
        name = requirement.name.lower().replace("_", "-")
        if name in found or name in UNPACKED or (requirement.marker and not requirement.marker.evaluate({"extra": ""})):
            continue
        found.add(name)
        waiting += metadata.requires(name) or []
    return found


def environment() -> Figures:
    """The machine and its versions; imports what the other steps import, so that the disk's cache holds it."""
    smi = shutil.which("nvidia-smi")
    query = [smi or "", "--query-gpu=name,memory.total,memory.used,driver_version", "--format=csv,noheader"]
    cards = subprocess.run(query, capture_output=True, text=True, check=False).stdout.splitlines() if smi else []
    names = ("torch", "torchvision", "numpy", "scipy", "pandas", "scikit-learn", "pillow", "optuna")
    figures: Figures = {
        "nvidia_smi": cards, "cores": len(os.sched_getaffinity(0)), "python": sys.version.split()[0],
        **{name: version_of(name) for name in names},
    }  # fmt: skip
    if figures["torch"] is None:
        print(json.dumps(figures))
        sys.exit("torch is not installed, and too large for a pack: nothing else can run")
    import torch

    import labelr.training.fit  # noqa: F401

    if torch.cuda.is_available():
        properties = torch.cuda.get_device_properties(0)
        figures |= {"cuda": torch.version.cuda, "multiprocessors": properties.multi_processor_count}
    return figures


def missing(pack: str) -> None:
    """Prints the wheels of a pack whose packages are not installed, or too old for labelr, one a line."""
    from packaging.requirements import Requirement

    needed = {requirement.name: requirement for requirement in map(Requirement, dependencies())}
    for wheel in sorted(Path(pack, "wheels").glob("*.whl")):
        name = wheel.name.split("-")[0].lower().replace("_", "-")
        version = version_of(name)
        if version is None or (name in needed and not needed[name].specifier.contains(version, prereleases=True)):
            print(wheel)
    sys.exit()


def pack(folder: str, source: str | None = None) -> Figures:
    """Writes wheels for this machine's Python, or that of PACK_PYTHON, and reduced photographs, within 64 MiB."""
    Path(folder).mkdir(parents=True)
    count = pick(source, f"{folder}/photos", *map(str, MAX_PHOTOS))["photos"] if source else 0
    left = PACK_BYTES - sum(path.stat().st_size for path in Path(folder).rglob("*.*"))
    wheels = Path(folder, "wheels")
    wheels.mkdir()
    version = os.environ.get("PACK_PYTHON") or ".".join(map(str, sys.version_info[:2]))
    platforms = [
        f"--platform={name}_x86_64" for name in ("manylinux_2_28", "manylinux_2_27", "manylinux_2_17", "manylinux2014")
    ]
    command = [
        sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary=:all:", "--dest", str(wheels),
        f"--python-version={version}", "--implementation=cp", *platforms,
    ]  # fmt: skip
    names, failed = sorted(requirements()), list[str]()
    if subprocess.run([*command, *names], check=False).returncode:  # one that is not found stops all
        failed = [name for name in names if subprocess.run([*command, name], check=False).returncode]
    too_large = []
    for wheel in sorted(wheels.glob("*.whl"), key=lambda path: path.stat().st_size):
        left -= wheel.stat().st_size
        if left < 0:
            too_large.append(wheel.name)
            wheel.unlink()
    size = sum(path.stat().st_size for path in Path(folder).rglob("*.*"))
    return {
        "photos": count, "python": version, "wheels": len(list(wheels.iterdir())), "megabytes": round(size / 2**20, 1),
        "too_large": too_large, "not_found": failed,
    }  # fmt: skip


def pick(source: str, folder: str, num_train: str, num_test: str) -> Figures:
    """Writes the first photographs of train/ and test/, reduced, with their rows of labels.csv."""
    from PIL import Image

    count = 0
    for part, number in (("train", int(num_train)), ("test", int(num_test))):
        target = Path(folder, part)
        (target / "images").mkdir(parents=True)
        header, *rows = Path(source, part, "labels.csv").read_text().splitlines(keepends=True)
        paths = {path.name: path for path in Path(source, part, "images").iterdir()}
        kept: list[str] = []
        left = PHOTO_BYTES * number // (int(num_train) + int(num_test))
        for row in rows:
            path = paths.get(Path(row.split(",")[0].strip('"')).name)
            if path is None or left <= 0 or len(kept) == number:
                continue
            with Image.open(path) as image:
                small = image.convert("RGB")
                small.thumbnail((PHOTO_SIZE, PHOTO_SIZE))
                small.save(target / "images" / path.name, quality=85)
            left -= (target / "images" / path.name).stat().st_size
            kept.append(row)
        (target / "labels.csv").write_text("".join([header, *kept]))
        count += len(kept)
    return {"photos": count}


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
    reasons = {"124": "timed out", "skipped": "skipped: no time left", "no card": "needs a card"}
    failed = reasons.get(code) or " ".join(err[-2:]) or f"exit {code}"
    seconds = round(float(end) - float(start), 2)
    error = None if code == "0" else failed
    return {
        "step": name,
        "ok": None if code == "no card" else code == "0",
        "seconds": seconds,
        "figures": figures,
        "error": error,
    }


COMMANDS: dict[str, Callable[..., Figures | None]] = {
    command.__name__: command
    for command in (
        environment, fit, refused, pair, tune, bare, tag, evaluate, decode, nvjpeg, predict, agree, same, photos,
        synthetic, pick, weights, missing, pack, line,
    )
}  # fmt: skip

if __name__ == "__main__":
    if sys.argv[1] == "labelr":
        labelr(*sys.argv[2:])
    print(json.dumps(COMMANDS[sys.argv[1]](*sys.argv[2:])))
