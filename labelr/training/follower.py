"""The processes that help process 0 to train: how they are started, and what they do; see `distributed`.

They compute their micro-batches of each batch. torchrun has started them, or process 0 does.
"""

import json
import logging
import os
import signal
import socket
import subprocess
import sys
import threading
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch._C._distributed_c10d import TCPStore
from torch.distributed.rendezvous import rendezvous

from labelr import files, serialization, signals
from labelr.config import MachineOptions, ReadOptions, TrainConfig
from labelr.data.dataset import Dataset
from labelr.data.pixels import open_pixels
from labelr.errors import LabelrError, first_line, pluralize
from labelr.fields import SettingError
from labelr.model.device import Runtime, one_thread_per_operation, pick_runtime
from labelr.model.info import ModelInfo
from labelr.ranks import Place
from labelr.training.batches import Batch, DeviceImages, TrainImages
from labelr.training.distributed import ALONE, LOOPBACK, MAX_STEP, Group, is_of_connection
from labelr.training.gradients import BatchGradients


def torchrun_devices(config: TrainConfig) -> TrainConfig:
    """The settings, with as many devices as torchrun has started processes.

    Raises:
        SettingError: If they name another number.
    """
    size = Place.of_environment().size
    if size in (1, config.devices):
        return config
    if config.devices is not None:
        raise SettingError(
            f"`--devices {config.devices}` starts processes, and {size} are started already",
            "use `--devices` or torchrun, not both",
        )
    return replace(config, devices=size)


@contextmanager
def opened(config: TrainConfig, runtime: Runtime, folder: Path, *, is_needed: bool = True) -> Iterator[Group]:
    """The processes that train with this one, which is process 0: those of torchrun, or as many as the settings say.

    `folder` is the directory of the run, and `is_needed` says whether anything is trained at all.

    Raises:
        LabelrError: If there are too few devices, or a process cannot be started.
    """
    place, count = Place.of_environment(), config.devices or 1
    if place.size == 1 and (count == 1 or not is_needed):
        yield ALONE
        return
    check_devices(place.local_size if place.size > 1 else count, runtime)
    group = join(place, is_gpu=not runtime.is_cpu) if place.size > 1 else _start(count, runtime)
    threading.Thread(target=group.send_signs_of_life, daemon=True).start()
    if group.processes and group.is_gpu:  # gloo notices by itself
        threading.Thread(target=group.watch_processes, daemon=True).start()
    failed = True
    try:
        yield group
        failed = False
    finally:
        group.close(failed=failed, folder=folder)


def check_devices(count: int, runtime: Runtime) -> None:
    """Raises SettingError if this machine has fewer devices than processes on it."""
    if runtime.kind == "cuda":
        available, what = torch.cuda.device_count(), "GPU"
    else:
        available, what = (runtime.threads, "CPU thread") if runtime.is_cpu else (1, "GPU")
    if count > available:
        one = "each process needs one"
        raise SettingError(
            f"{pluralize(count, 'process', 'processes')} on this machine, and {pluralize(available, what)}: {one}",
            f"use at most `--devices {available}`" + (", or more `--threads`" if runtime.is_cpu else ""),
        )


def join(place: Place, *, is_gpu: bool = False) -> Group:
    """The group of the processes that torchrun has started."""
    try:
        store, _, _ = next(rendezvous("env://", timeout=MAX_STEP))
    except (RuntimeError, ValueError) as error:
        raise LabelrError(
            f"cannot reach process 0: {first_line(error)}", "see MASTER_ADDR and MASTER_PORT, or start with torchrun"
        ) from error
    return Group(place, store, is_gpu=is_gpu)


def _start(count: int, runtime: Runtime) -> Group:
    """The group of this process and `count - 1` others on this machine, which it starts."""
    threads = max(1, runtime.threads // count)
    processes: dict[int, subprocess.Popen[bytes]] = {}
    try:
        listener = socket.create_server(("127.0.0.1", 0), backlog=count)
        port = listener.getsockname()[1]
        store = TCPStore(
            "127.0.0.1", port, is_master=True, wait_for_workers=False, timeout=MAX_STEP,
            master_listen_fd=listener.detach(),
        )  # fmt: skip
        environment = {
            "TORCH_CPP_LOG_LEVEL": "ERROR", **LOOPBACK, **os.environ, "PYTHONPATH": os.pathsep.join(sys.path),
            "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "OMP_NUM_THREADS": str(threads),
        }  # fmt: skip
        for rank in range(1, count):
            processes[rank] = subprocess.Popen(
                [sys.executable, "-P", "-m", "labelr.training.follower"],
                env=environment | Place(rank, count, rank, count).environment,
                stdin=subprocess.PIPE, stdout=subprocess.DEVNULL,
                process_group=0,  # Ctrl-C is for this process, which stops the others
            )  # fmt: skip
    except OSError as error:
        for process in processes.values():
            process.kill()
        files.raise_if_exhausted(error)
        raise LabelrError(f"cannot start a training process: {error.strerror}", "use fewer `--devices`") from error
    return Group(Place(0, count, 0, count), store, is_gpu=not runtime.is_cpu, processes=processes)


# --- their work -----------------------------------------------------------------------------------------------------


def send_job(
    group: Group, dataset: Dataset, images: TrainImages, info: ModelInfo, config: TrainConfig, runtime: Runtime
) -> None:
    """Sends the other processes what they need to train: settings, image files, which they open themselves, targets.

    `dataset` and `images` are both the training images, and `runtime` is where this process computes.
    """
    if group.size == 1:
        return
    share = max(1, runtime.threads // group.place.local_size)
    machine = replace(runtime.options, threads=share, workers=max(1, runtime.workers // group.place.local_size))
    job = {
        "info": asdict(info),
        "config": config.to_dict(),
        "machine": machine.to_dict(),
        "paths": [os.path.abspath(path) for path in dataset.paths],
        "digests": dataset.digests,
        "labels": images.targets.shape[1],
    }
    text = torch.frombuffer(bytearray(json.dumps(job).encode()), dtype=torch.uint8)
    group.send("train", bytes=len(text), is_gpu=group.is_gpu)
    group.connect()
    with group.watched():
        for tensor in (text, images.targets.clone(), images.aspects.clone()):
            dist.broadcast(tensor, 0)


class Follower:
    """A process that obeys the orders of process 0."""

    def __init__(self, group: Group) -> None:
        self.group = group
        self.gradients: BatchGradients
        self.batches: Iterator[Batch]

    def run(self) -> dict[str, Any]:
        """Obeys until process 0 says that it is the end; returns that order."""
        while (order := self.group.receive())["do"] != "end":
            match order:
                case {"do": "train", "bytes": int(size), "is_gpu": bool(is_gpu)}:
                    self.group.is_gpu = is_gpu
                    self.gradients = self._receive_job(size)
                case {"do": "epoch", "epoch": int(epoch), "start": int(start), "micro_batch": int(micro_batch)}:
                    self.gradients.batcher.size = micro_batch
                    self.batches = self.gradients.start_epoch(epoch, start)
                case {"do": "step", "size": int(size), "scale": float(scale)}:
                    self._step(size, scale)
        return order

    def _receive_job(self, size: int) -> BatchGradients:
        """What computes the gradients of the job that `send_job` sends, of `size` bytes without targets and aspects."""
        self.group.connect()
        text = torch.empty(size, dtype=torch.uint8)
        dist.broadcast(text, 0)
        job = json.loads(text.numpy().tobytes())
        info, config = serialization.convert(job["info"], ModelInfo), TrainConfig.of(job["config"])
        preprocessing = info.preprocessing
        targets = torch.empty(len(job["paths"]), job["labels"])
        aspects = torch.empty(len(job["paths"]))
        for tensor in (targets, aspects):
            dist.broadcast(tensor, 0)
        runtime = pick_runtime(MachineOptions.of(job["machine"]))
        if runtime.kind == "cuda":
            runtime = replace(runtime, device=torch.device("cuda", self.group.place.local_rank))
            torch.cuda.set_device(runtime.device)
        pixels = open_pixels(
            list(map(Path, job["paths"])), job["digests"], preprocessing.image_size, rule=preprocessing.resize,
            value_range=preprocessing.value_range, threads=runtime.workers,
            options=ReadOptions(max_pixels=config.max_pixels, cache_limit=0),  # process 0 has filled the cache
        )  # fmt: skip
        on_device = None if runtime.is_cpu else DeviceImages(pixels, runtime.device)
        batch_size = min(config.batch_size or len(pixels), len(pixels))
        images = TrainImages(pixels, targets, aspects, batch_size, config.seed, on_device)
        return BatchGradients(images, info, config, runtime, self.group)

    def _step(self, size: int, scale: float) -> None:
        """Computes the own micro-batches of the next batch; `scale` is that of the loss in fp16."""
        gradients, runtime = self.gradients, self.gradients.runtime
        enabled = gradients.scaler.is_enabled()
        gradients.scaler = torch.amp.GradScaler(runtime.kind, init_scale=scale, enabled=enabled)
        batch = next(self.batches)
        with one_thread_per_operation(), runtime.exclusive():
            gradients.compute(batch, size, gradients.batcher.size)


def follow(*, is_watched: bool = False) -> Path:
    """Helps process 0, whose end another thread may watch, until it has finished; the directory of its model.

    Raises:
        LabelrError: If process 0 has failed, or this one fails, which process 0 is told.
        RuntimeError: If process 0 is gone.
    """
    place = Place.of_environment()
    with _silent(), signals.deferred():
        group = join(place)
        group.is_watched = is_watched
        try:
            order = Follower(group).run()
        except Exception as error:
            if is_of_connection(error):
                raise LabelrError(f"process 0 is gone: {first_line(error)}", "see its messages") from error
            group.report(error)
            raise
        group.store.set(f"ended/{group.rank}", "")
        if dist.is_initialized():
            dist.destroy_process_group()
    if order["failed"]:
        raise LabelrError("process 0 has failed", "see its messages")
    return Path(order["folder"])


@contextmanager
def _silent() -> Iterator[None]:
    """Shows no messages of labelr: process 0 shows them."""
    library = logging.getLogger("labelr")
    before = library.level
    library.setLevel(logging.CRITICAL + 1)
    try:
        yield
    finally:
        library.setLevel(before)


def main() -> int:
    """Helps the process that has started this one; the exit code."""
    signals.install_handlers(signal.SIGTERM, signal.SIGINT, first=lambda: None)
    signals.stop_with_parent(at_once=True)
    try:
        follow(is_watched=True)
    except signals.Stopped as stopped:
        return 128 + stopped.number
    except LabelrError:
        return 1  # process 0 says why
    except Exception:  # noqa: BLE001 - a mistake of ours, of which process 0 shows the first line
        traceback.print_exc()
        return 1
    return 0


if __name__ == "__main__":
    os._exit(main())  # nothing is to be saved, and the end of a GPU's connections may take long
