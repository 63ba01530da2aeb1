"""The worker processes of a search: how it ends when they cannot work."""

import sys
import time
from contextlib import closing
from pathlib import Path

import pytest
import torch

from labelr.errors import LabelrError
from labelr.tuning import pool
from labelr.tuning.pool import Pool
from labelr.tuning.space import Plan
from labelr.tuning.study import Study


def run_pool(folder: Path) -> None:
    plan = Plan.of([folder / "missing"], {"lr": [1e-3, 4e-3]}, None, {})
    with closing(Study("some", folder, None)) as study, Pool.running(1, plan, study) as workers:
        while workers.check():
            time.sleep(0.05)


def test_workers_that_die_at_their_start_end_the_search(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", "/bin/false")
    with pytest.raises(LabelrError, match="3 workers in a row ended with exit code 1 before they started a trial"):
        run_pool(tmp_path / "study")


@pytest.mark.parametrize(("gpus", "seen"), [(3, "0 1 2 0"), (1, "all all all all")])
def test_workers_take_the_gpus_in_turn(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, gpus: int, seen: str) -> None:
    script = tmp_path / "python"
    script.write_text(f"#!/bin/sh\necho ${{CUDA_VISIBLE_DEVICES-all}} >{tmp_path}/gpu-$$\n")
    script.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(script))
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: gpus)
    plan = Plan.of([tmp_path / "missing"], {"lr": [1e-3, 4e-3]}, None, {})
    with closing(Study("some", tmp_path / "study", None)) as study, Pool.running(4, plan, study) as workers:
        while workers.check():
            time.sleep(0.05)
    assert sorted(path.read_text().strip() for path in tmp_path.glob("gpu-*")) == sorted(seen.split())


@pytest.mark.slow
def test_worker_that_dies_is_replaced_on_its_gpu(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    script = tmp_path / "python"
    script.write_text(f"#!/bin/sh\necho $CUDA_VISIBLE_DEVICES >>{tmp_path}/gpus\nexit 1\n")
    script.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(script))
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "5,7")
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    with pytest.raises(LabelrError, match="3 workers in a row"):
        run_pool(tmp_path / "study")
    assert (tmp_path / "gpus").read_text().split() == ["5"] * 3


@pytest.fixture
def stopped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Workers that write what is no message, and are then suspended."""
    script = tmp_path / "python"
    script.write_text("#!/bin/sh\nhead -c 200000 /dev/zero\necho '{\"name\": 3}\n[[[[1'\nkill -STOP $$\n")
    script.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(script))


@pytest.mark.slow
@pytest.mark.usefixtures("stopped")
def test_workers_that_stop_answering_are_replaced_and_end_the_search_in_the_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(pool, "MAX_SILENT_SECONDS", 0.3)
    with pytest.raises(LabelrError, match="3 workers in a row stopped answering before they started a trial"):
        run_pool(tmp_path / "study")
    assert caplog.messages == ["a worker stopped answering and is replaced"] * 2


@pytest.mark.usefixtures("stopped")
def test_suspended_worker_is_stopped_at_once(tmp_path: Path) -> None:
    plan = Plan.of([tmp_path], {"lr": [1e-3, 4e-3]}, None, {})
    with closing(Study("some", tmp_path / "study", None)) as study, Pool.running(1, plan, study) as workers:
        started = time.monotonic()
        assert workers.check()
    assert time.monotonic() - started < 5


@pytest.mark.slow
def test_worker_that_fails_ends_the_search_with_its_reason(tmp_path: Path) -> None:
    with pytest.raises(LabelrError, match="missing"):
        run_pool(tmp_path / "study")
