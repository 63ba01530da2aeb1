"""Where and how a network computes: device, precision, threads, and what happens when memory runs out."""

import ctypes
import logging
import math
import os
import sys
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from dataclasses import dataclass
from typing import Any, TypeVar, cast

import torch
from torch import Tensor, nn

from labelr.config import Device, MachineOptions
from labelr.data.augment import to_device
from labelr.errors import LabelrError, first_line, pluralize
from labelr.model.predictor import available_cpus
from labelr.processors import Processors

Network = TypeVar("Network", bound=nn.Module)
T = TypeVar("T")
R = TypeVar("R")
PRECISIONS = {"fp32": torch.float32, "tf32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
IMAGES_PER_MULTIPROCESSOR = 2
"""Of a batch that a CUDA device predicts, rounded to a power of two; the step `batch_sizes` of `tests/bench/gpu.sh`
measures others."""
MIN_BATCH, MAX_BATCH = 64, 256
"""The smallest and the largest batch that an accelerator predicts."""

_MEMORY_ERRORS = (
    "out of memory", "not enough memory", "can't allocate memory", "cannot allocate memory", "bad_alloc",
    "cublas_status_alloc_failed", "cudnn_status_alloc_failed", "unable to find a valid cudnn",
    "could not create a primitive", "could not create a memory", "could not execute a primitive",
)  # fmt: skip
"""Lower-case messages of MPS, the CPU's allocators and oneDNN; CUDA raises an error type of its own."""

M_TRIM_THRESHOLD, M_MMAP_MAX = -1, -4
"""Parameters of glibc's `mallopt`, from ``malloc.h``."""
_DEVICE_ERRORS = (
    "cuda error", "cuda driver", "cuda gpus", "nvml", "cudnn error", "cudnn_status", "cublas_status", "mps backend",
)  # fmt: skip
"""Parts of lower-case messages of devices that are lost, broken, or used up by others."""

_accelerator_lock = threading.RLock()
"""Held while an accelerator computes: PyTorch aborts the process where two threads use MPS at once."""

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Runtime:
    """Where and how a network computes, with every ``auto`` resolved.

    Attributes:
        device: Holds the network and its batches.
        precision: ``"fp32"``, ``"bf16"`` or ``"fp16"``: the type that autocast computes in; ``"tf32"``: float32, whose
            products CUDA devices round to 10 bits.
        threads: CPU threads, each of which works on a part of a batch.
        workers: Threads that decode images.
    """

    device: torch.device
    precision: str
    threads: int
    workers: int

    @property
    def options(self) -> MachineOptions:
        """The options that pick this runtime."""
        return MachineOptions(
            device=cast("Device", self.device.type),
            amp=self.is_mixed,
            tf32=self.precision == "tf32",
            threads=self.threads,
            workers=self.workers,
        )

    @property
    def kind(self) -> str:
        """The type of device, such as ``cpu``."""
        return self.device.type

    @property
    def is_cpu(self) -> bool:
        """Whether the CPU computes."""
        return self.kind == "cpu"

    @property
    def compute_threads(self) -> int:
        """The threads that parts of a batch are computed on: any other device than the CPU gets one after the other."""
        return self.threads if self.is_cpu else 1

    @property
    def is_mixed(self) -> bool:
        """Whether it computes in 16 bits where that suffices."""
        return PRECISIONS[self.precision] != torch.float32

    @property
    def has_float64(self) -> bool:
        """Whether the device computes in 64 bits."""
        return self.device.type != "mps"

    @property
    def batch_size(self) -> int:
        """The images that an accelerator predicts together: the same for each card of a kind."""
        if self.device.type != "cuda":
            return MIN_BATCH
        return batch_of(torch.cuda.get_device_properties(self.device).multi_processor_count)

    def autocast(self) -> AbstractContextManager[object]:
        """A mixed precision context; it does nothing in float32."""
        return torch.autocast(self.device.type, PRECISIONS[self.precision], enabled=self.is_mixed)

    def exclusive(self) -> AbstractContextManager[object]:
        """Lets one thread at a time use an accelerator; it does nothing on the CPU."""
        return nullcontext() if self.is_cpu else _accelerator_lock

    def to_device(self, tensor: Tensor) -> Tensor:
        """The tensor on the device; see `labelr.data.augment.to_device`."""
        return to_device(tensor, self.device)

    def place(self, network: Network) -> Network:
        """The network on the device, channels last: the memory format that convolutions are fastest in."""
        return network.to(self.device, memory_format=torch.channels_last)  # type: ignore[call-overload, no-any-return]


def pick_runtime(options: MachineOptions | None = None) -> Runtime:
    """The runtime for some options, with each "auto" resolved.

    Raises:
        LabelrError: If the named device is not available.
    """
    options = options or MachineOptions()
    device = _pick_device(options.device)
    threads = options.threads or available_cpus()
    if device.type == "cpu":
        _keep_freed_memory()
    runtime = Runtime(device, _pick_precision(device, options), threads, options.workers or threads)
    if device.type == "cuda":
        set_tf32(enabled=runtime.precision == "tf32")
    # the thread that feeds an accelerator mostly waits for it
    Processors.set_limit(max(threads, runtime.workers) + (0 if runtime.is_cpu else 1))
    pools = f"{pluralize(threads, 'thread')}, {pluralize(runtime.workers, 'worker')}"
    log.debug("device %s, %s, %s", device.type, runtime.precision, pools)
    return runtime


def set_tf32(*, enabled: bool) -> None:
    """Whether CUDA devices round the factors of products in float32, which PyTorch does in convolutions by default."""
    torch.set_float32_matmul_precision("high" if enabled else "highest")
    torch.backends.cudnn.allow_tf32 = enabled


def batch_of(multiprocessors: int) -> int:
    """The images that a card predicts together, by the number of its multiprocessors: a power of two."""
    size: int = 2 ** round(math.log2(IMAGES_PER_MULTIPROCESSOR * multiprocessors))
    return min(max(size, MIN_BATCH), MAX_BATCH)


def visible_gpus() -> list[str]:
    """The CUDA devices that this process may use, as CUDA_VISIBLE_DEVICES names them."""
    count = torch.cuda.device_count()
    named = [name.strip() for name in os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",") if name.strip()]
    return named[:count] or [str(number) for number in range(count)]


def free_memory(device: torch.device) -> int:
    """The bytes that are free on an accelerator; 0 on the CPU."""
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0])
    if device.type == "mps":
        return int(torch.mps.recommended_max_memory() - torch.mps.driver_allocated_memory())
    return 0


@contextmanager
def one_thread_per_operation() -> Iterator[None]:
    """Limits each operation of torch to one thread."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


class ThreadPool:
    """Threads that compute the parts of a batch side by side, each operation on one of them.

    So the result does not depend on the number of threads, and threads wait for each other once per batch. Torch's own
    threads share each operation and wait hundreds of times: where other programs kept two processors busy, training
    took 159 s instead of the 18 s that a fair share of them allows.

    Args:
        threads: Their number; the calling thread computes if it is 1.
    """

    def __init__(self, threads: int) -> None:
        self._pool = ThreadPoolExecutor(threads, "compute", torch.set_num_threads, (1,)) if threads > 1 else None

    def map(self, function: Callable[..., R], *items: Iterable[Any]) -> list[R]:
        """The function's results in order, for one item of each iterable. No call is left running if one fails."""
        calls = list(zip(*items, strict=True))

        def work(*call: object) -> R:
            with Processors():
                return function(*call)

        with one_thread_per_operation():
            if self._pool is None or len(calls) == 1:
                return [work(*call) for call in calls]
            futures = [self._pool.submit(work, *call) for call in calls]
            wait(futures)
            return [future.result() for future in futures]


def _keep_freed_memory() -> None:
    """Has the C library of Linux keep up to 2 GB of freed memory for the next tensors.

    By default it returns each large block, and the system clears every page that is asked for again. On two cores that
    halved the speed of an EfficientNet-Lite0 in batches of 32: 75 instead of 158 images/s, and 36 instead of 53 in
    training.
    """
    if sys.platform == "linux":
        with suppress(AttributeError):  # of a C library other than glibc
            mallopt = ctypes.CDLL(None).mallopt
            mallopt(M_MMAP_MAX, 0)
            mallopt(M_TRIM_THRESHOLD, 2**31 - 1)


def _pick_device(name: str) -> torch.device:
    available = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    names = [kind for kind, is_available in available.items() if is_available]
    if name == "auto":
        return torch.device(names[0])
    if name not in names:
        raise LabelrError(
            f"no device {name!r} here: torch sees {', '.join(names)}", "leave `--device` out, or name one of these"
        )
    return torch.device(name)


def _pick_precision(device: torch.device, options: MachineOptions) -> str:
    """The fastest type that trains well; `amp` None decides by what the processor supports."""
    amp = options.amp
    if options.tf32:
        if device.type != "cuda":
            raise LabelrError(f"device {device.type} has no TF32: CUDA devices have", "leave `--tf32` out")
        return "tf32"
    if amp is False:
        return "fp32"
    if device.type == "cuda":
        return "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "fp16"
    if device.type == "cpu":
        return "bf16" if amp or _cpu_computes_bf16() else "fp32"
    return "bf16"


def _cpu_computes_bf16() -> bool:
    """Whether the processor multiplies bf16 in hardware; where it does not, bf16 is slower than fp32."""
    features = torch.cpu.get_capabilities()
    return bool(features.get("avx512_bf16") or features.get("amx_bf16"))


@dataclass
class MicroBatcher:
    """The number of images that go through a network at a time: halved when memory runs out, and never raised again.

    Attributes:
        size: The current limit.
        purpose: The work, as messages name it.
        consequence: What a smaller limit changes, appended to the warning.
        minimum: The smallest limit that makes sense.
        make_room: Frees memory that the work can do without, before the limit is lowered; False if there is none.
    """

    size: int
    purpose: str
    consequence: str = ""
    minimum: int = 1
    make_room: Callable[[], bool] = lambda: False

    def __post_init__(self) -> None:
        self._lock, self._is_lowered = threading.Lock(), False

    def run(self, work: Callable[[int], T]) -> T:
        """The result of `work`, which is repeated with half the size for as long as memory runs out.

        Several threads may call it: what one of them finds out applies to all. `work` takes the largest number of
        images that may be in use at a time; it must be repeatable.

        Raises:
            LabelrError: If memory does not suffice for `minimum` images.
        """
        while True:
            size = self.size
            try:
                result = work(size)
            except (RuntimeError, MemoryError) as error:
                if not is_out_of_memory(error):
                    raise
                reason = first_line(error)
            else:
                break
            # outside the handler, where the error no longer keeps the tensors of its frames
            if not self.make_room():
                self._halve(size, reason)
            _empty_caches()
        with self._lock:
            lowered, self._is_lowered = self._is_lowered, False
        if lowered:
            now = f"{pluralize(self.size, 'image')} at a time{self.consequence}"
            log.warning("memory ran out in %s: continuing with %s", self.purpose, now)
        return result

    def _halve(self, size: int, reason: str) -> None:
        """Lowers the limit after memory ran out with `size` images, unless another thread already has."""
        if size <= self.minimum:
            raise LabelrError(
                f"memory does not suffice for {self.purpose} with {pluralize(size, 'image')} at a time: {reason}",
                "free some memory, choose another `--device`, or train with a smaller `--image-size` or `--width`",
            )
        with self._lock:
            if self.size >= size:
                self.size, self._is_lowered = max(self.minimum, size // 2), True


def _empty_caches() -> None:
    """Returns memory that PyTorch keeps for its next tensors to the accelerator."""
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    if torch.backends.mps.is_available():
        torch.mps.empty_cache()


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error reports that memory has run out, of an accelerator or of the machine."""
    if isinstance(error, (torch.OutOfMemoryError, MemoryError)):
        return True
    return isinstance(error, RuntimeError) and any(message in str(error).lower() for message in _MEMORY_ERRORS)


def explain_device_error(error: BaseException) -> LabelrError | None:
    """What to tell a user about an error of the device: that memory ran out, or the device failed; else None."""
    if is_out_of_memory(error):
        return LabelrError(
            f"memory ran out: {first_line(error)}",
            "free some memory, choose another `--device`, or use fewer `--workers`",
        )
    if is_device_failure(error):
        return LabelrError(
            f"the GPU failed: {first_line(error)}",
            "see whether `nvidia-smi` still lists it and who else uses it, or compute with `--device cpu`",
        )
    return None


def is_device_failure(error: BaseException) -> bool:
    """Whether an error reports that an accelerator is lost or broken: this process can no longer use it."""
    if not isinstance(error, RuntimeError) or is_out_of_memory(error):
        return False
    is_of_device = isinstance(error, torch.AcceleratorError)
    return is_of_device or any(message in str(error).lower() for message in _DEVICE_ERRORS)
