"""Device, precision and threads."""

import shutil
import subprocess
import sys
import time

import pytest
import torch

from labelr.config import MachineOptions
from labelr.errors import LabelrError
from labelr.model.device import ThreadPool, pick_runtime
from labelr.model.predictor import available_cpus


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
