"""A search in a database that several machines share: a real PostgreSQL server, where one is installed."""

import gc
import getpass
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from conftest import TINY, tiny_options
from optuna.trial import TrialState

from labelr.errors import LabelrError
from labelr.tuning.study import Study
from labelr.tuning.tune import tune

pytest.importorskip("pg8000", reason="the extra `labelr[storage]` is not installed")
pytestmark = pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning")
"""For pg8000, which leaves its socket open where the server refuses it."""


@pytest.fixture(autouse=True)
def collected() -> Iterator[None]:
    """Lets such sockets be found here, and not in the middle of another test."""
    yield
    gc.collect()


def binaries() -> Path:
    """Where the server's programs are."""
    found = [*Path("/usr/lib/postgresql").glob("*/bin/initdb")]
    on_path = shutil.which("initdb")
    if not found and not on_path:
        pytest.skip("no PostgreSQL server is installed here")
    return (found[-1] if found else Path(str(on_path))).parent


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    """The address of a database of its own server, which asks for a password."""
    with tempfile.TemporaryDirectory() as name:
        yield from serve(binaries(), Path(name))


def serve(programs: Path, folder: Path) -> Iterator[str]:
    who: dict[str, Any] = {}
    if getpass.getuser() == "root":  # the server refuses to run as root
        who = {"user": "nobody"}
        shutil.chown(folder, "nobody")
    (folder / "password").write_text("s:e/c@ret\n")
    (folder / "password").chmod(0o644)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    data = str(folder / "data")
    access = ["-U", "me", "-A", "scram-sha-256", "--pwfile", str(folder / "password")]
    subprocess.run([str(programs / "initdb"), "-D", data, *access], check=True, capture_output=True, cwd=folder, **who)
    command = [str(programs / "postgres"), "-D", data, "-p", str(port), "-k", str(folder), "-h", "127.0.0.1"]
    with subprocess.Popen(command, stderr=subprocess.DEVNULL, cwd=folder, **who) as running:
        wait_until_ready(programs / "pg_isready", port)
        yield f"postgresql://me:s%3Ae%2Fc%40ret@127.0.0.1:{port}/postgres"
        running.send_signal(signal.SIGINT)


def wait_until_ready(program: Path, port: int) -> None:
    deadline = time.monotonic() + 60
    while subprocess.run([program, "-h", "127.0.0.1", "-p", str(port)], capture_output=True, check=False).returncode:
        assert time.monotonic() < deadline
        time.sleep(0.2)


def start(name: str, home: Path, address: str, *arguments: object) -> "subprocess.Popen[str]":
    options = ["--study", name, "--storage", address, "--json", *arguments]
    environment = {**os.environ, "LABELR_HOME": str(home)}
    return subprocess.Popen(
        [sys.executable, "-m", "labelr", "tune", *map(str, options)], env=environment, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip


@pytest.mark.slow
def test_machines_share_a_search_in_a_database(server: str, shapes: Path, tmp_path: Path) -> None:
    options = [shapes, "--lr", "1e-3,4e-3", "--dropout", "0.2,0.3,0.5", *tiny_options(epochs=6)]
    homes = [tmp_path / "one", tmp_path / "two"]
    both = [start("shared", home, server, *options) for home in homes]
    outs = [one.communicate(timeout=300) for one in both]
    assert [one.returncode for one in both] == [0, 0], outs
    first, second = (json.loads(out) for out, _ in outs)
    assert first["trials"] == second["trials"]
    assert [trial["state"] for trial in first["trials"]] == ["complete"] * 6
    with closing(Study("shared", tmp_path / "look", server)) as study:
        attempts = study.attempts(TrialState.COMPLETE)
    assert sorted(one.user_attrs["point"] for one in attempts) == list(range(6))
    assert len(Counter(one.user_attrs["worker"] for one in attempts)) == 2
    for home in homes:
        assert (home / "studies" / "shared" / "trials.csv").is_file()
    assert not any("s:e/c@ret" in text or "s%3Ae" in text for pair in outs for text in pair)


@pytest.mark.slow
def test_trial_of_a_process_that_died_is_tried_again_once_its_heartbeat_stops(
    server: str, shapes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = [shapes, "--lr", "1e-3,4e-3", *tiny_options(epochs=30), "--no-refit"]
    running = start("killed", tmp_path / "one", server, *options)
    deadline = time.monotonic() + 120
    with closing(Study("killed", tmp_path / "look", server)) as study:
        while not any(one.intermediate_values for one in study.attempts(TrialState.RUNNING)):
            assert running.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.1)
    running.kill()
    running.communicate()
    age_heartbeats(server)
    again = start("killed", tmp_path / "two", server, *options)
    out, err = again.communicate(timeout=300)
    assert again.returncode == 0, err
    assert [trial["state"] for trial in json.loads(out)["trials"]] == ["complete"] * 2


def age_heartbeats(address: str) -> None:
    """Lets all heartbeats be an hour old, so that nobody has to wait for minutes."""
    from sqlalchemy import create_engine, text

    engine = create_engine(address.replace("postgresql:", "postgresql+pg8000:"))
    time.sleep(3)  # the worker of the killed process stops as soon as it sees that
    with engine.begin() as connection:
        connection.execute(text("UPDATE trial_heartbeats SET heartbeat = heartbeat - INTERVAL '1 hour'"))
    engine.dispose()


@pytest.mark.slow
def test_study_in_a_database_is_refused_to_other_searches_and_started_over_by_force(server: str, shapes: Path) -> None:
    settings = {**TINY, "epochs": 1}
    tune(shapes, {"lr": [1e-3, 4e-3]}, settings, study="mine", storage=server, refit=False)
    with pytest.raises(LabelrError, match=r"lr was 0.001,0.004 and is 0.001,0.002"):
        tune(shapes, {"lr": [1e-3, 2e-3]}, settings, study="mine", storage=server, refit=False)
    again = tune(shapes, {"lr": [1e-3, 2e-3]}, settings, study="mine", storage=server, refit=False, force=True)
    assert {trial.settings["lr"] for trial in again.ranking} == {1e-3, 2e-3}


@pytest.mark.slow
def test_wrong_password_is_an_error_that_does_not_say_it(server: str, shapes: Path) -> None:
    with pytest.raises(LabelrError, match=r"cannot be reached: .*password authentication failed") as caught:
        tune(shapes, {"lr": [1e-3, 2e-3]}, TINY, storage=server.replace("ret@", "rat@"))
    assert "rat" not in str(caught.value)
