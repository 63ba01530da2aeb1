"""Several processes that compute the gradients of each batch together, over gloo between CPUs and NCCL between GPUs.

Process 0 does everything else, as a process alone does. The others, see `follower`, compute their micro-batches of each
batch and have no state of their own: no optimizer, no averaged weights, no schedule and no random state that could
diverge, so that a checkpoint is that of process 0, and other processes may resume from it. That is why this is not
`DistributedDataParallel`, whose processes each repeat the optimizer's step: as many bytes are sent here, gradients one
way and weights the other. On CPUs, gradients are added in the order of the micro-batches, one process after the other,
so that the sum is the same to the last bit with any number of processes.

Process 0 sends orders through the store of torch.distributed, which the others wait at. It sends one at least every
`SIGN_OF_LIFE_SECONDS`, whatever it does, so that a machine that is lost is noticed although a validation takes hours.
"""

import json
import logging
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from datetime import timedelta
from pathlib import Path
from typing import Any, cast

import torch
import torch.distributed as dist
from torch import Tensor
from torch._C._distributed_c10d import PrefixStore, Store
from torch.distributed.distributed_c10d import _abort_process_group

from labelr import signals
from labelr.errors import LabelrError, first_line
from labelr.model.device import ThreadPool, explain_device_error, is_out_of_memory
from labelr.ranks import Place

SIGN_OF_LIFE_SECONDS = 30.0
MAX_SILENCE = timedelta(minutes=5)
"""A process that process 0 sends nothing for this long gives up."""
MAX_LOCAL_SILENCE = timedelta(days=2)
"""On one machine it sees the end of process 0 by a pipe; process 0 may be suspended by Ctrl-Z."""
MAX_STEP = timedelta(minutes=30)
"""The longest time that processes wait for each other within a step, and at the start."""
REASON_SECONDS = 5.0
"""How long process 0 looks for the reason of a lost connection."""
KEPT_ORDERS = 100
"""Earlier orders that stay in the store, for processes that have not read them yet."""
MAX_END = timedelta(seconds=30)
"""How long process 0 waits until the others of torchrun have read that they may end."""
LOOPBACK = (
    {"GLOO_SOCKET_IFNAME": interface} if (interface := {"linux": "lo", "darwin": "lo0"}.get(sys.platform)) else {}
)
"""The network interface within a machine: it needs no name of the host, and nobody else reaches it."""

log = logging.getLogger(__name__)


class FlatTensor:
    """Tensors in one piece of memory, which is sent at once, in float32 and on the device of given tensors.

    `data` has all elements, one-dimensional; `views` have the shapes and strides of the tensors; `tail` has `extra`
    further elements.
    """

    def __init__(self, tensors: Sequence[Tensor], extra: int = 0) -> None:
        sizes = [tensor.numel() for tensor in tensors]
        self.data = torch.zeros(sum(sizes) + extra, device=tensors[0].device)
        *parts, self.tail = torch.split(self.data, [*sizes, extra])
        self.views = [part.as_strided(like.shape, like.stride()) for part, like in zip(parts, tensors, strict=True)]


class Group:
    """The processes that train one model, from the point of view of one of them.

    Args:
        place: Which of them this one is.
        store: Where they meet; None for a process alone.
        is_gpu: Whether GPUs compute.
        processes: Those that this one has started, by rank.
    """

    def __init__(
        self, place: Place, store: Store | None = None, *, is_gpu: bool = False,
        processes: Mapping[int, "subprocess.Popen[bytes]"] | None = None,
    ) -> None:  # fmt: skip
        self.place, self.rank, self.size = place, place.rank, place.size
        self.store = cast("Store", store)  # a process alone never uses it
        self.is_gpu = is_gpu
        self.is_watched = False  # whether another thread of this process watches the end of process 0
        self.processes = dict(processes or {})
        self._lock = threading.Lock()
        self._orders = 0
        self._closed = threading.Event()
        self._buffers: dict[tuple[int, int, int], FlatTensor] = {}

    @property
    def synchronises(self) -> bool:
        """Whether BatchNorms see the micro-batches of all processes together: on GPUs, where torch can do that."""
        return self.is_gpu and self.size > 1

    # --- orders -------------------------------------------------------------------------------------------------------

    def send(self, what: str, **details: Any) -> None:
        """Tells the other processes what to do next."""
        if self.size == 1:
            return
        with self._lock, self.watched():
            self.store.set(f"order/{self._orders}", json.dumps({"do": what, **details}))
            if self._orders >= KEPT_ORDERS:
                self.store.delete_key(f"order/{self._orders - KEPT_ORDERS}")
            self._orders += 1

    def receive(self) -> dict[str, Any]:
        """The next order of process 0.

        Raises:
            RuntimeError: If process 0 is gone.
        """
        limit = MAX_LOCAL_SILENCE if self.is_watched else MAX_SILENCE
        while True:
            start = time.monotonic()
            try:
                self.store.wait([f"order/{self._orders}"], limit)
            except dist.DistStoreError:
                if time.monotonic() - start < limit.total_seconds() + SIGN_OF_LIFE_SECONDS:  # else it was suspended
                    raise
                continue
            order: dict[str, Any] = json.loads(self.store.get(f"order/{self._orders}"))
            self._orders += 1
            if order["do"] != "wait":
                return order

    def send_signs_of_life(self) -> None:
        """Sends an order every few seconds, until the group is closed."""
        while not self._closed.wait(SIGN_OF_LIFE_SECONDS):
            with suppress(LabelrError):  # the next order of the main thread fails, too
                self.send("wait")

    # --- tensors ------------------------------------------------------------------------------------------------------

    def connect(self) -> None:
        """Connects the processes with each other, once; all must call it."""
        if self.size == 1 or dist.is_initialized():
            return
        if self.rank:
            self.store.set(f"ready/{self.rank}", "")
        with self.watched():
            self._wait_until_ready()
            with loopback(bool(self.processes)):
                dist.init_process_group(
                    "cpu:gloo,cuda:nccl" if self.is_gpu else "gloo", store=PrefixStore("group", self.store),
                    rank=self.rank, world_size=self.size, timeout=MAX_STEP,
                )  # fmt: skip

    def _wait_until_ready(self) -> None:
        """Waits for processes that this one has started, which import torch first; an error if one of them ends."""
        waiting = set(self.processes)
        while waiting:
            signals.raise_if_stopped()
            if any(self.processes[rank].poll() is not None for rank in waiting):
                raise RuntimeError("a process has ended")
            waiting = {rank for rank in waiting if not self.store.check([f"ready/{rank}"])}
            time.sleep(0.01)

    @torch.no_grad()
    def broadcast(self, tensors: Sequence[Tensor]) -> None:
        """Copies tensors of process 0 to those of all processes."""
        if self.size == 1:
            return
        flat = self._buffer(tensors)
        if self.rank == 0:
            torch._foreach_copy_(flat.views, list(tensors))
        dist.broadcast(flat.data, 0)
        if self.rank:
            torch._foreach_copy_(list(tensors), flat.views)

    def share_of(self, count: int) -> int:
        """How many images or micro-batches of a batch a process gets if all get the same number."""
        return -(-count // self.size)

    def round_up(self, count: int) -> int:
        """A number of micro-batches, raised so that all processes get the same number if they are synchronised."""
        return self.size * self.share_of(count) if self.synchronises else count

    def own_micro_batches(self, count: int) -> range:
        """Which of the micro-batches of a batch this process computes; none if there are fewer than processes.

        Process 0 computes the last ones, since the sum over all ends there.
        """
        active = min(self.size, count)
        if self.rank >= active:
            return range(0)
        block = (self.rank - 1) % active
        return range(count * block // active, count * (block + 1) // active)

    @torch.no_grad()
    def sum_gradients(self, gradients: Sequence[Sequence[Tensor]], values: Tensor, pool: ThreadPool) -> list[Tensor]:
        """The sum of gradients in float32 over the micro-batches of all processes; complete in process 0 alone.

        Args:
            gradients: Of each of the own micro-batches, at least one, like the parameters. They are overwritten.
            values: Further values of all micro-batches, shape ``(P, V)``: zero for those of the others, and set then.
            pool: Adds the gradients of several parameters side by side.
        """
        before, after = self._neighbours(len(values))
        first, *others = gradients
        flat = self._buffer(first, values.numel()) if self.size > 1 else None
        if flat and before is not None:
            dist.recv(flat.data, before)
            others = [flat.views, *others]
            values += flat.tail.view_as(values)
        total = pool.map(_add_up, first, *others)
        if flat and (self.is_gpu or after is not None):
            torch._foreach_copy_(flat.views, total)
            flat.tail.copy_(values.flatten())
        if flat and after is not None:
            dist.send(flat.data, after)
        elif flat and self.is_gpu:
            dist.reduce(flat.data, 0)
            torch._foreach_copy_(total, flat.views)
            values.copy_(flat.tail.view_as(values))
        return total

    def _neighbours(self, count: int) -> tuple[int | None, int | None]:
        """The processes that compute the micro-batches before and after the own ones; None for none, and on GPUs."""
        if self.is_gpu:
            return None, None
        chain = [*range(1, min(self.size, count)), 0]
        place = chain.index(self.rank)
        return chain[place - 1] if place else None, chain[place + 1] if place + 1 < len(chain) else None

    def share_signal(self) -> None:
        """Passes on to process 0 that another one was asked to stop: as if it had got the signal itself."""
        if self.size == 1:
            return
        number = torch.tensor([signals.received() or 0])
        dist.reduce(number, 0, op=dist.ReduceOp.MAX)
        if self.rank == 0 and int(number) and not signals.stop_requested():
            signal.raise_signal(int(number))

    def _buffer(self, tensors: Sequence[Tensor], extra: int = 0) -> FlatTensor:
        """Memory for tensors and further elements, which is used again for others of the same sizes."""
        numel = sum(tensor.numel() for tensor in tensors)
        key = numel, extra, len(tensors)
        if key not in self._buffers:
            self._buffers[key] = FlatTensor(tensors, extra)
        return self._buffers[key]

    # --- the end ------------------------------------------------------------------------------------------------------

    @contextmanager
    def watched(self) -> Iterator[None]:
        """In process 0, explains an error of communication by what has happened to another process."""
        try:
            yield
        except (RuntimeError, ValueError) as error:
            if self.size == 1 or self.rank or is_out_of_memory(error):
                raise
            if (reason := self._explain(error)) is None:
                raise
            raise reason from ConnectionError(first_line(error))

    def _explain(self, error: Exception) -> LabelrError | None:
        """Why a process is gone; None if none is, and the error has another cause."""
        end = time.monotonic() + REASON_SECONDS
        while time.monotonic() < end:
            codes = {rank: code for rank, process in self.processes.items() if (code := process.poll()) is not None}
            for rank in range(1, self.size):
                with suppress(RuntimeError):  # the store is gone, too
                    if self.store.check([f"failed/{rank}"]):
                        return LabelrError(**json.loads(self.store.get(f"failed/{rank}")))
            for rank, code in codes.items():
                cause = f"was ended by {signal.Signals(-code).name}" if code < 0 else f"ended with exit code {code}"
                return LabelrError(
                    f"process {rank} of the {self.size} that train together {cause}",
                    "see whether memory ran out" if code == -signal.SIGKILL else "see the messages above",
                )
            time.sleep(0.05)
        if not is_of_connection(error):
            return None
        reason = f"the connection to another training process was lost: {first_line(error)}"
        return LabelrError(reason, "see its messages")

    def report(self, error: BaseException) -> None:
        """Tells process 0 why this process ends."""
        error = explain_device_error(error) or error
        if not isinstance(error, LabelrError):
            error = LabelrError(f"{type(error).__name__}: {first_line(error)}")
        reason = {"message": f"process {self.rank} of {self.size}: {error.message}", "hint": error.hint}
        with suppress(RuntimeError):
            self.store.set(f"failed/{self.rank}", json.dumps(reason))

    def watch_processes(self) -> None:
        """Waits until a process ends that this one has started, and then ends what waits for it on a GPU."""
        while not self._closed.wait(1.0):
            if any(process.poll() is not None for process in self.processes.values()):
                if not self._closed.wait(2 * REASON_SECONDS) and dist.is_initialized():
                    _abort_process_group()
                return

    def close(self, *, failed: bool, folder: Path) -> None:
        """Lets the other processes end, and ends those that this one has started."""
        with suppress(LabelrError):
            self.send("end", failed=failed, folder=str(folder))
            if not (failed or self.processes):
                with suppress(RuntimeError):  # the store may be in this process: it stays until they have read that
                    self.store.wait([f"ended/{rank}" for rank in range(1, self.size)], MAX_END)
        self._closed.set()
        for process in self.processes.values():
            process.kill()  # they have nothing to save
        if dist.is_initialized():
            (_abort_process_group if failed and self.is_gpu else dist.destroy_process_group)()
        for process in self.processes.values():
            process.wait()
            if process.stdin:
                process.stdin.close()


def _add_up(first: Tensor, *others: Tensor) -> Tensor:
    """The sum of tensors in float32, in order; the first one is overwritten if it is of that type."""
    total = first.float()
    for other in others:
        total += other
    return total


ALONE = Group(Place())
"""A process that trains without others."""


def is_of_connection(error: BaseException) -> bool:
    """Whether an error reports that other processes cannot be reached."""
    words = ("gloo", "nccl", "connection")
    is_known = isinstance(error, dist.DistError) or any(word in str(error).lower() for word in words)
    return isinstance(error, RuntimeError) and is_known


@contextmanager
def loopback(is_used: bool) -> Iterator[None]:
    """Has gloo connect over the network interface within the machine, unless the user chose another one."""
    added = {name: value for name, value in LOOPBACK.items() if is_used and name not in os.environ}
    os.environ.update(added)
    try:
        yield
    finally:
        for name in added:
            del os.environ[name]
