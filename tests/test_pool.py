"""The worker processes of a search: how it ends when they cannot work."""

import sys
import time
from contextlib import closing
from pathlib import Path

import pytest

from labelr.errors import LabelrError
from labelr.tuning.pool import Pool
from labelr.tuning.space import Plan
from labelr.tuning.study import Study


def run_pool(folder: Path) -> None:
    plan = Plan.of([folder / "missing"], {"lr": [1e-3, 4e-3]}, None, {})
    with closing(Study("some", folder, None)) as study, Pool.running(1, plan, study) as pool:
        while pool.check():
            time.sleep(0.05)


def test_workers_that_die_at_their_start_end_the_search(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", "/bin/false")
    with pytest.raises(LabelrError, match="workers end with exit code 1 before they start a trial"):
        run_pool(tmp_path / "study")


@pytest.mark.slow
def test_worker_that_fails_ends_the_search_with_its_reason(tmp_path: Path) -> None:
    with pytest.raises(LabelrError, match="missing"):
        run_pool(tmp_path / "study")
