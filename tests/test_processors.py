"""How many processors this process may use."""

import os
from pathlib import Path

import joblib
import pytest

from labelr.processors import LIMIT, count_processors


@pytest.fixture(autouse=True)
def _no_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(LIMIT, raising=False)


def test_the_count_is_that_of_joblib(monkeypatch: pytest.MonkeyPatch) -> None:
    assert count_processors() == joblib.cpu_count()
    for limit in ("1", "1000", "0"):
        monkeypatch.setenv(LIMIT, limit)
        assert count_processors() == joblib.cpu_count()


@pytest.mark.parametrize(
    ("content", "expected"),
    [("100000 100000", 1), ("5000 100000", 1), ("max 100000", None), ("damaged", None), ("99900000 100000", None)],
)
def test_the_limit_of_a_container_counts(tmp_path: Path, content: str, expected: int | None) -> None:
    (tmp_path / "cpu.max").write_text(f"{content}\n")
    assert count_processors(tmp_path) == (expected or count_processors(tmp_path / "none"))


@pytest.mark.parametrize(("quota", "expected"), [("50000", 1), ("-1", None)])
def test_the_limit_of_an_older_container_counts(tmp_path: Path, quota: str, expected: int | None) -> None:
    (tmp_path / "cpu").mkdir()
    (tmp_path / "cpu" / "cpu.cfs_quota_us").write_text(f"{quota}\n")
    (tmp_path / "cpu" / "cpu.cfs_period_us").write_text("100000\n")
    assert count_processors(tmp_path) == (expected or count_processors(tmp_path / "none"))


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="the system has no affinity")
def test_the_affinity_counts() -> None:
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(before)})
    try:
        assert count_processors() == 1
    finally:
        os.sched_setaffinity(0, before)
