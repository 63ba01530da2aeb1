"""Signals, terminals and pipes, on real processes."""

import os
import pty
import re
import shutil
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import pytest
from conftest import TINY_OPTIONS, Cli

from labelr.model import shelf
from labelr.model.predict import Model


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_signal_stops_training_and_keeps_the_best_model_so_far(
    drawn: Path, home: Path, number: signal.Signals, code: int
) -> None:
    command = [
        sys.executable,
        "-m",
        "labelr",
        "fit",
        str(drawn),
        *TINY_OPTIONS,
        "--epochs",
        "5000",
        "--patience",
        "5000",
    ]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as running:
        assert running.stderr is not None
        for line in running.stderr:
            if line.startswith("epoch 2/"):
                break
        running.send_signal(number)
        out, err = running.communicate(timeout=60)
    assert running.returncode == code
    assert out == ""
    assert "the best model so far, of epoch" in err
    assert err.splitlines()[-1] == f"Stopped by {number.name}."
    assert "Traceback" not in err
    info = shelf.read_info(home / "models" / "drawn")
    assert not info.complete
    assert not list((home / "models" / "drawn").glob(".*"))


def test_signal_before_the_first_epoch_leaves_no_model(home: Path) -> None:
    command = [sys.executable, "-m", "labelr", "fit", "--synthetic", "3000", "--threads", "1"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as running:
        while not (home / "synthetic").exists():  # where drawing begins
            assert running.poll() is None
        running.send_signal(signal.SIGINT)
        running.communicate(timeout=60)
    assert running.returncode == 130
    assert list((home / "models").iterdir()) == []


def test_command_works_through_a_pipe_that_closes_early(trained: Model, drawn: Path) -> None:
    command = f"{sys.executable} -m labelr models show {trained.path} | true"
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=False)
    assert "Traceback" not in done.stderr


def test_main_job_through_real_processes(process: Cli, tmp_path: Path, home: Path) -> None:
    fitted = process("fit", "--synthetic", "40", *TINY_OPTIONS)
    assert (fitted.code, fitted.out) == (0, f"{home / 'models' / 'synthetic'}\n")
    assert "\x1b" not in fitted.err
    photos = next((home / "synthetic").iterdir()) / "images"
    tagged = process("tag", photos, "--threshold", "0.5", "-o", "out", cwd=tmp_path)
    assert (tagged.code, tagged.out) == (0, "out\n")
    assert len(list((tmp_path / "out").glob("*.png.csv"))) == 40


def test_no_colour_where_it_is_not_wanted_and_colour_where_it_is_forced(process: Cli, drawn: Path) -> None:
    plain = process("tag", drawn / "nowhere", env={**os.environ, "NO_COLOR": "1"})
    forced = process("tag", drawn / "nowhere", env={**os.environ, "FORCE_COLOR": "1"})
    assert plain.code == forced.code == 1
    assert "\x1b" not in plain.err
    assert "\x1b[1;31mError: " in forced.err


def test_bars_are_shown_on_a_terminal(drawn: Path, home: Path) -> None:
    terminal, other_end = pty.openpty()
    command = [sys.executable, "-m", "labelr", "fit", str(drawn), *TINY_OPTIONS]
    environment = {**os.environ, "TERM": "xterm-256color", "COLUMNS": "100"}
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=other_end, env=environment) as running:
        os.close(other_end)
        shown = b""
        with suppress(OSError):  # how the end of a terminal is told
            while chunk := os.read(terminal, 65536):
                shown += chunk
        out = running.stdout.read() if running.stdout else b""
    os.close(terminal)
    assert running.returncode == 0
    assert out.decode() == f"{home / 'models' / 'drawn'}\n"
    text = shown.decode()
    assert "\u2501" in text  # the line that bars are drawn with
    assert "epoch 2/2  train loss" in text
    assert re.search(r"epoch 1/2  lr [\d.e-]+", text)  # the live line


def test_name_that_is_not_utf8_reaches_stdout_as_it_is(trained: Model, drawn: Path, tmp_path: Path) -> None:
    output = os.fsencode(tmp_path) + b"/caf\xe9"
    command = [sys.executable, "-m", "labelr", "tag", str(drawn / "images"), "--model", str(trained.path)]
    done = subprocess.run([*command, "-o", os.fsdecode(output)], capture_output=True, check=False)
    assert (done.returncode, done.stdout) == (0, output + b"\n")


@pytest.mark.parametrize("encoding", ["ascii", "latin-1"])
def test_label_that_the_terminal_cannot_encode_is_escaped(trained: Model, tmp_path: Path, encoding: str) -> None:
    folder = Path(shutil.copytree(trained.path, tmp_path / "model"))
    info = (folder / "model.json").read_text().replace("disc", "日本")
    (folder / "model.json").write_text(info, encoding="utf-8")
    command = [sys.executable, "-m", "labelr", "models", "show", str(folder)]
    done = subprocess.run(command, capture_output=True, check=False, env={**os.environ, "PYTHONIOENCODING": encoding})
    assert (done.returncode, done.stderr) == (0, b"")
    assert rb"\u65e5\u672c" in done.stdout


def test_closed_stdout_is_no_error() -> None:
    command = f"{sys.executable} -m labelr --version >&-"
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_second_run_with_the_name_of_a_running_one_is_refused(process: Cli, drawn: Path, home: Path) -> None:
    options = [*TINY_OPTIONS, "--epochs", "5000", "--patience", "5000", "--name", "same"]
    command = [sys.executable, "-m", "labelr", "fit", str(drawn), *options]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True) as running:
        while not (home / "models" / "same" / ".lock").exists():
            assert running.poll() is None
        second = process("fit", drawn, *options)
        running.terminate()
        running.communicate(timeout=60)
    assert second.code == 1
    assert "another run is making the model in" in second.err
    assert running.returncode == 143
