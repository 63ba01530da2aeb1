"""`labelr doctor`."""

import json
import os
import resource
from collections.abc import Iterator
from pathlib import Path

import joblib
import pytest
from conftest import Cli, put

from labelr.model.device import pick_runtime

METADATA = """Metadata-Version: 2.4
Name: labelr
Version: 1.0
Provides-Extra: birds
Provides-Extra: test
Requires-Dist: rich>=13
Requires-Dist: numpy>=999
Requires-Dist: no-such-package
Requires-Dist: no-bird>=1; extra == 'birds'
"""


@pytest.fixture
def few_files() -> Iterator[int]:
    """A low limit of open files."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (200, hard))
    yield 200
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_what_is_seen_is_what_runs_use(cli: Cli, monkeypatch: pytest.MonkeyPatch, home: Path) -> None:
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    put(home, "models/a/weights", b"1234")
    done = cli("doctor", "--json")
    found = json.loads(done.out)
    assert done.code == (3 if found["problems"] else 0)
    runtime = pick_runtime()
    assert found["device"]["device"] == runtime.device.type
    assert (found["device"]["precision"], found["device"]["threads"]) == (runtime.precision, runtime.threads)
    assert found["processors"]["threads"] == runtime.threads
    assert found["limits"]["open_files"] == resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    assert [(row["name"], row["bytes"], row["error"]) for row in found["directories"]] == [
        ("home", 4, ""), ("models", 4, ""), ("cache", 0, ""), ("studies", 0, ""),
    ]  # fmt: skip
    assert found["variables"]["LABELR_HOME"] == str(home)


def test_people_read_the_same(cli: Cli, home: Path) -> None:
    lines = cli("doctor").out.splitlines()
    names = [line.partition(": ")[0] for line in lines]
    assert {"labelr", "Python", "device", "threads", "memory", "open files", "extras", "packages"} <= set(names)
    assert any(line.startswith("│ models") and f" {home / 'models'} " in line for line in lines)
    assert lines[-1] == "Nothing needs attention." or lines[-1].startswith("Attention: ")
    assert not home.exists()


def test_limits_are_named_with_what_to_do(cli: Cli, monkeypatch: pytest.MonkeyPatch, few_files: int) -> None:
    monkeypatch.delenv("LOKY_MAX_CPU_COUNT", raising=False)
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    done = cli("doctor", "--json")
    problems = "\n".join(json.loads(done.out)["problems"])
    assert done.code == 3
    assert f"only {few_files} files may be open at once; allow more with `ulimit -n 1024`" in problems
    if joblib.cpu_count() > 1:
        assert "OMP_NUM_THREADS=1 lets labelr use 1 of " in problems
        assert json.loads(done.out)["processors"]["limited_by"] == "OMP_NUM_THREADS"


@pytest.mark.parametrize("kind", ["file", "dangling link", "unknown user"])
def test_broken_home_is_named(cli: Cli, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, kind: str) -> None:
    broken = tmp_path / "broken"
    if kind == "file":
        broken.write_text("")
    elif kind == "dangling link":
        broken.symlink_to(tmp_path / "nowhere")
    monkeypatch.setenv("LABELR_HOME", "~no_such_user/labelr" if kind == "unknown user" else str(broken))
    done = cli("doctor", "--json")
    found = json.loads(done.out)
    assert done.code == 3
    assert found["device"]["device"]
    expected = "directories cannot be examined: " if kind == "unknown user" else f"the directory {broken} cannot be wr"
    assert any(problem.startswith(expected) for problem in found["problems"])


def test_broken_installation_is_examined_all_the_same(process: Cli, tmp_path: Path, home: Path) -> None:
    put(tmp_path, "torch/__init__.py", "raise ImportError('libcudart.so.13: cannot open shared object file')")
    put(tmp_path, "labelr-1.0.dist-info/METADATA", METADATA)
    path = os.pathsep.join(filter(None, [str(tmp_path), os.environ.get("PYTHONPATH")]))
    done = process("doctor", "--json", env={**os.environ, "PYTHONPATH": path})
    found = json.loads(done.out)
    assert (done.code, done.err) == (3, "")
    assert (found["torch"], found["device"], found["backbones"]) == ({"version": None, "cuda": None}, None, None)
    assert found["problems"][2].startswith("torch cannot be imported: libcudart.so.13: cannot open shared object file;")
    assert [problem.partition(";")[0] for problem in found["problems"][:2]] == [
        f"the package numpy is too old: {found['packages']['numpy']}",
        "the package no-such-package is missing",
    ]
    assert found["extras"] == [{"name": "birds", "installed": False, "missing": ["no-bird"]}]
    assert found["directories"][0]["path"] == str(home)
