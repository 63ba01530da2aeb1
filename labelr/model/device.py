"""Picks device, precision, threads and worker count."""

from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import TypeVar

import torch
from torch import Tensor, nn

from labelr.errors import LabelrError

Network = TypeVar("Network", bound=nn.Module)
PRECISIONS = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


@dataclass(frozen=True)
class Machine:
    """What a network runs on, as resolved: nothing in it is ``auto`` any more.

    Attributes:
        device: Where the network and its batches live.
        precision: ``"fp32"``, ``"bf16"`` or ``"fp16"``: the type that autocast computes in.
        threads: CPU threads of one torch operation.
        workers: Threads that decode images.
    """

    device: torch.device
    precision: str
    threads: int
    workers: int

    def autocast(self) -> AbstractContextManager[object]:
        """The mixed precision context; it does nothing in fp32."""
        return torch.autocast(self.device.type, PRECISIONS[self.precision], enabled=self.precision != "fp32")

    def take(self, tensor: Tensor) -> Tensor:
        """The tensor on the device; a GPU of NVIDIA's need not be waited for, while others may read it too late."""
        return tensor.to(self.device, non_blocking=self.device.type == "cuda")

    def place(self, network: Network) -> Network:
        """The network on the device, in the memory order that convolutions are fastest in."""
        return network.to(self.device, memory_format=torch.channels_last)  # type: ignore[call-overload, no-any-return]


def pick_machine(
    device: str = "auto", *, amp: bool | None = None, threads: int | None = None, workers: int | None = None
) -> Machine:
    """The machine to run on, with each ``auto`` (None) resolved, and torch set to it.

    Raises:
        LabelrError: If the device named is not there.
    """
    chosen = _pick_device(device)
    cpus = available_cpus()
    threads = threads or cpus
    torch.set_num_threads(threads)
    if chosen.type == "cuda":
        torch.set_float32_matmul_precision("high")  # TF32
    return Machine(chosen, _pick_precision(chosen, amp), threads, workers or threads)


def available_cpus() -> int:
    """How many processors this process may use, by its affinity and the limits of its container."""
    from joblib import cpu_count

    return int(cpu_count())


def _pick_device(name: str) -> torch.device:
    present = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    if name == "auto":
        return torch.device(next(kind for kind, there in present.items() if there))
    if not present.get(name, False):
        there = ", ".join(kind for kind, is_there in present.items() if is_there)
        raise LabelrError(f"no device {name!r} here: torch sees {there}", "leave `--device` out, or name one of these")
    return torch.device(name)


def _pick_precision(device: torch.device, amp: bool | None) -> str:
    """The fastest type that trains well; `amp` None leaves the choice to the processor's features."""
    if amp is False:
        return "fp32"
    if device.type == "cuda":
        return "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "fp16"
    if device.type == "cpu":
        return "bf16" if amp or _cpu_computes_bf16() else "fp32"
    return "bf16"


def _cpu_computes_bf16() -> bool:
    """Whether the processor multiplies bf16 itself; elsewhere it is slower than fp32."""
    features = torch.cpu.get_capabilities()
    return bool(features.get("avx512_bf16") or features.get("amx_bf16"))
