"""Device, precision and threads."""

import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch

from labelr.config import MachineOptions
from labelr.errors import LabelrError
from labelr.fields import SettingError
from labelr.model.device import (
    ThreadPool,
    batch_of,
    explain_device_error,
    pick_runtime,
    set_tf32,
    visible_gpus,
)
from labelr.model.predictor import available_cpus
from labelr.processors import Processors


def test_auto_takes_the_cpu_where_there_is_nothing_else(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    machine = pick_runtime()
    assert machine.device.type == "cpu"
    assert machine.threads == machine.workers == available_cpus()


def test_auto_prefers_cuda_then_mps(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert pick_runtime().device.type == "mps"
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert pick_runtime(MachineOptions(amp=False)).device.type == "cuda"


def test_device_that_is_not_there_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(LabelrError, match=r"no device 'cuda' here: torch sees .*cpu"):
        pick_runtime(MachineOptions(device="cuda"))


@pytest.mark.parametrize(("feature", "expected"), [("avx512_bf16", "bf16"), ("amx_bf16", "bf16"), ("avx2", "fp32")])
def test_auto_precision_of_a_cpu_follows_its_features(
    monkeypatch: pytest.MonkeyPatch, feature: str, expected: str
) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {feature: True})
    assert pick_runtime(MachineOptions(device="cpu")).precision == expected


def test_amp_decides_the_precision_of_a_cpu() -> None:
    assert pick_runtime(MachineOptions(device="cpu", amp=True)).precision == "bf16"
    assert pick_runtime(MachineOptions(device="cpu", amp=False)).precision == "fp32"


def test_threads_and_workers_are_taken_as_given() -> None:
    machine = pick_runtime(MachineOptions(device="cpu", threads=1, workers=3))
    assert (machine.threads, machine.workers) == (1, 3)


@pytest.mark.slow
def test_processors_are_those_that_this_process_may_use(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("LOKY_MAX_CPU_COUNT", raising=False)  # which several test processes are given
    code = "from labelr.model.predictor import available_cpus; print(available_cpus())"
    command = ["taskset", "-c", "0", sys.executable, "-c", code]
    if not shutil.which("taskset"):
        pytest.skip("taskset is not installed")
    assert subprocess.run(command, capture_output=True, text=True, check=True).stdout == "1\n"


@pytest.mark.parametrize(("given", "expected"), [("1", 1), (" 1,4", 1), ("1000000", None), ("0", None), ("many", None)])
def test_omp_num_threads_limits_the_processors(
    monkeypatch: pytest.MonkeyPatch, given: str, expected: int | None
) -> None:
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    everything = available_cpus()
    monkeypatch.setenv("OMP_NUM_THREADS", given)
    assert available_cpus() == (expected or everything)


@pytest.mark.parametrize("threads", [1, 2, 5])
def test_thread_pool_keeps_the_order_and_gives_each_operation_one_thread(threads: int) -> None:
    torch.set_num_threads(2)
    pool = ThreadPool(threads)
    assert pool.map(lambda number, text: (number, text, torch.get_num_threads()), range(3), "abc") == [
        (0, "a", 1), (1, "b", 1), (2, "c", 1),
    ]  # fmt: skip
    assert pool.map(str, []) == []
    assert torch.get_num_threads() == 2


def test_thread_pool_raises_when_no_call_is_running_any_more() -> None:
    done = []

    def work(number: int) -> None:
        if number == 0:
            raise MemoryError
        time.sleep(0.05)
        done.append(number)

    with pytest.raises(MemoryError):
        ThreadPool(2).map(work, range(5))
    assert sorted(done) == [1, 2, 3, 4]


def test_network_is_placed_in_channels_last_order() -> None:
    network = pick_runtime(MachineOptions(device="cpu")).place(torch.nn.Conv2d(3, 8, 3))
    assert network.weight.is_contiguous(memory_format=torch.channels_last)


@pytest.fixture
def cuda(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A CUDA device that is there, but computes nothing; torch's settings are restored."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    yield
    set_tf32(enabled=False)
    torch.backends.cudnn.allow_tf32 = True


@pytest.mark.usefixtures("cuda")
@pytest.mark.parametrize(("tf32", "precision"), [(False, "fp32"), (True, "tf32")])
def test_products_are_rounded_to_tf32_only_if_asked_for(tf32: bool, precision: str) -> None:
    set_tf32(enabled=not tf32)
    runtime = pick_runtime(MachineOptions(amp=False, tf32=tf32))
    assert runtime.precision == precision
    assert torch.backends.cuda.matmul.allow_tf32 == torch.backends.cudnn.allow_tf32 == tf32
    assert runtime.options.tf32 == tf32
    assert not runtime.options.amp
    assert not runtime.is_mixed


def test_tf32_needs_an_nvidia_gpu_and_excludes_mixed_precision() -> None:
    with pytest.raises(LabelrError, match="device cpu has no TF32"):
        pick_runtime(MachineOptions(device="cpu", tf32=True))
    with pytest.raises(SettingError, match="amp and tf32 exclude each other"):
        MachineOptions(amp=True, tf32=True)


@pytest.mark.parametrize(
    ("variable", "count", "names"),
    [
        (None, 3, ["0", "1", "2"]), ("2,0", 2, ["2", "0"]), (" GPU-1a , MIG-2b", 2, ["GPU-1a", "MIG-2b"]),
        ("", 0, []), ("1,-1,2", 1, ["1"]), (None, 0, []),
    ],
)  # fmt: skip
def test_gpus_are_those_that_the_environment_allows(
    monkeypatch: pytest.MonkeyPatch, variable: str | None, count: int, names: list[str]
) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: count)  # which ends at the first that does not exist
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    if variable is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", variable)
    assert visible_gpus() == names


@pytest.mark.parametrize(("multiprocessors", "images"), [(5, 64), (40, 64), (108, 256), (132, 256), (500, 256)])
def test_larger_cards_predict_larger_batches(multiprocessors: int, images: int) -> None:
    assert batch_of(multiprocessors) == images


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (torch.AcceleratorError("CUDA error: unspecified launch failure\nCompile with"), "the GPU failed: CUDA error"),
        (RuntimeError("No CUDA GPUs are available"), "the GPU failed: No CUDA GPUs"),
        (RuntimeError("cuDNN error: CUDNN_STATUS_EXECUTION_FAILED"), "the GPU failed: cuDNN error"),
        (torch.AcceleratorError("CUDA error: out of memory"), "memory ran out: CUDA error: out of memory"),
        (torch.OutOfMemoryError("CUDA out of memory. Tried to"), "memory ran out: CUDA out of memory"),
        (MemoryError(), "memory ran out"),
        (RuntimeError("mat1 and mat2 shapes cannot be multiplied"), None),
        (ValueError("CUDA error"), None),
    ],
)
def test_error_of_a_device_is_explained(error: Exception, message: str | None) -> None:
    explained = explain_device_error(error)
    assert explained is None if message is None else explained is not None and explained.message.startswith(message)
    assert explained is None or "\n" not in explained.message


def test_decoders_and_the_network_share_the_processors() -> None:
    pick_runtime(MachineOptions(device="cpu", threads=2, workers=2))
    running, most, lock = [0], [0], threading.Lock()

    def work(_: object) -> None:
        with lock:
            running[0] += 1
            most[0] = max(most[0], running[0])
        time.sleep(0.01)
        with lock:
            running[0] -= 1

    def decode(item: object) -> None:
        with Processors():
            work(item)

    network, decoders = ThreadPool(2), ThreadPoolExecutor(2)
    decoded = [decoders.submit(decode, number) for number in range(10)]
    network.map(work, range(10))
    assert all(future.result() is None for future in decoded)
    assert most == [2]


def test_processor_is_free_again_after_an_error() -> None:
    Processors.set_limit(1)
    for _ in range(3):
        with pytest.raises(ValueError, match="damaged"), Processors():
            raise ValueError("damaged")
