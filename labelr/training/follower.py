"""The processes that help process 0 to train: they compute their micro-batches of each batch; see `distributed`."""

import json
import logging
import os
import signal
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist

from labelr import serialization, signals
from labelr.config import MachineOptions, ReadOptions, TrainConfig
from labelr.data.dataset import Dataset
from labelr.data.pixels import open_pixels
from labelr.errors import LabelrError, first_line
from labelr.model.device import Runtime, one_thread_per_operation, pick_runtime
from labelr.model.info import ModelInfo
from labelr.ranks import Place
from labelr.training.batches import Batch, DeviceImages, TrainImages
from labelr.training.distributed import Group, is_of_connection
from labelr.training.launch import join
from labelr.training.optim import Budget
from labelr.training.trainer import Trainer


def send_job(
    group: Group, dataset: Dataset, images: TrainImages, info: ModelInfo, config: TrainConfig, runtime: Runtime
) -> None:
    """Sends the other processes what they need to train: settings, image files, which they open themselves, targets.

    Args:
        group: The processes.
        dataset: The training images.
        images: The same, as they are trained on.
        info: The model.
        config: The settings.
        runtime: Where this process computes.
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
    group.order("train", bytes=len(text), is_gpu=group.is_gpu)
    group.connect()
    with group.watched():
        for tensor in (text, images.targets.clone(), images.aspects.clone()):
            dist.broadcast(tensor, 0)


class Follower:
    """A process that obeys the orders of process 0.

    Args:
        group: The processes.
    """

    def __init__(self, group: Group) -> None:
        self.group = group
        self.trainer: Trainer
        self.batches: Iterator[Batch]

    def run(self) -> dict[str, Any]:
        """Obeys until process 0 says that it is the end; returns that order."""
        while (order := self.group.receive())["do"] != "end":
            match order:
                case {"do": "train", "bytes": int(size), "is_gpu": bool(is_gpu)}:
                    self.group.is_gpu = is_gpu
                    self.trainer = self._receive_trainer(size)
                case {"do": "epoch", "epoch": int(epoch), "start": int(start), "micro_batch": int(micro_batch)}:
                    self.trainer.batcher.size = micro_batch
                    self.batches = self.trainer.start_epoch(epoch, start)
                case {"do": "step", "size": int(size), "scale": float(scale)}:
                    self._step(size, scale)
        return order

    def _receive_trainer(self, size: int) -> Trainer:
        """The trainer of the job that `send_job` sends, of `size` bytes without targets and aspects."""
        self.group.connect()
        text = torch.empty(size, dtype=torch.uint8)
        dist.broadcast(text, 0)
        job = json.loads(text.numpy().tobytes())
        info, config = serialization.convert(job["info"], ModelInfo), TrainConfig.of(job["config"])
        targets = torch.empty(len(job["paths"]), job["labels"])
        aspects = torch.empty(len(job["paths"]))
        for tensor in (targets, aspects):
            dist.broadcast(tensor, 0)
        runtime = pick_runtime(MachineOptions.of(job["machine"]))
        if runtime.kind == "cuda":
            runtime = replace(runtime, device=torch.device("cuda", self.group.place.local_rank))
            torch.cuda.set_device(runtime.device)
        pixels = open_pixels(
            list(map(Path, job["paths"])), job["digests"], info.preprocessing.image_size, rule=config.resize,
            value_range=info.preprocessing.value_range, threads=runtime.workers,
            options=ReadOptions(max_pixels=config.max_pixels, cache_limit=0),  # process 0 has filled the cache
        )  # fmt: skip
        on_device = None if runtime.is_cpu else DeviceImages(pixels, runtime.device)
        batch_size = min(config.batch_size or len(pixels), len(pixels))
        images = TrainImages(pixels, targets, aspects, batch_size, config.seed, on_device)
        return Trainer(images, info, config, runtime, Budget(steps=1), self.group)

    def _step(self, size: int, scale: float) -> None:
        """Computes the own micro-batches of the next batch; `scale` is that of the loss in fp16."""
        trainer = self.trainer
        enabled = trainer.scaler.is_enabled()
        trainer.scaler = torch.amp.GradScaler(trainer.runtime.kind, init_scale=scale, enabled=enabled)
        batch = next(self.batches)
        with one_thread_per_operation(), trainer.runtime.exclusive():
            trainer.compute_gradients(batch, size, trainer.batcher.size)


def follow(*, is_watched: bool = False) -> Path:
    """Helps process 0 until it has finished; the directory of its model.

    Args:
        is_watched: Whether another thread watches the end of process 0.

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
