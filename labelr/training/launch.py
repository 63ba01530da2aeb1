"""How the processes that train together come about: torchrun has started them, or process 0 starts the others."""

import os
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import torch
from torch._C._distributed_c10d import TCPStore
from torch.distributed.rendezvous import rendezvous

from labelr import files
from labelr.config import TrainConfig
from labelr.errors import LabelrError, first_line, pluralize
from labelr.fields import SettingError
from labelr.model.device import Runtime
from labelr.ranks import Place
from labelr.training.distributed import ALONE, LOOPBACK, MAX_STEP, Group


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

    Args:
        config: The settings.
        runtime: Where this process computes.
        folder: The directory of the run.
        is_needed: Whether anything is trained at all.

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
