"""Signals, terminals and pipes, on real processes."""

import json
import os
import pty
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import pytest
from conftest import TINY_OPTIONS, Cli, put, tiny_options
from terminals import read_terminal

from labelr import locks
from labelr.cli import guide
from labelr.model import store
from labelr.model.predict import Model

LONG = {"epochs": 5000}


def fitting(*arguments: object) -> list[str]:
    return [sys.executable, "-m", "labelr", "fit", *map(str, arguments)]


def wait_for(running: "subprocess.Popen[str]", beginning: str) -> None:
    """Reads the stderr of a process until a line starts with `beginning`."""
    assert running.stderr is not None
    lines = []
    for line in running.stderr:
        lines.append(line)
        if line.startswith(beginning):
            return
    pytest.fail("".join(lines))


def end_of(running: "subprocess.Popen[str]") -> tuple[str, str]:
    """The remaining output of a process, which must end soon."""
    try:
        return running.communicate(timeout=60)
    finally:
        running.kill()


@pytest.mark.slow
def test_signal_stops_training_and_shows_how_to_resume(cli: Cli, shapes: Path, home: Path) -> None:
    options = [shapes, *tiny_options(**LONG, workers=3), "--cache-limit", "0"]  # threads that open images all the time
    with subprocess.Popen(fitting(*options), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as running:
        wait_for(running, "epoch 2/")
        running.send_signal(signal.SIGINT)
        out, err = end_of(running)
    assert running.returncode == 130
    assert out == ""
    assert "the model of epoch" in err
    said = " ".join(map(str, options))
    assert err.splitlines()[-1] == f"Stopped by SIGINT. Resume with: labelr fit {said} --resume"
    assert "Traceback" not in err
    assert not store.load_info(home / "models" / "shapes").complete
    assert not list((home / "models" / "shapes").glob(".*"))
    listed = cli("models", "list")
    assert re.search(r"shapes .* unfinished, \d+ of 5,000 epochs", listed.out)
    assert cli("fit", *options).err.startswith("Error: there is an unfinished run in ")


@pytest.mark.slow
def test_signal_stops_tagging_and_the_same_command_resumes(
    cli: Cli, trained: Model, shapes: Path, tmp_path: Path
) -> None:
    photos = tmp_path / "many"
    photos.mkdir()
    for count in range(600):
        (photos / f"{count}.png").hardlink_to(shapes / "images" / f"{count % 60:05d}.png")
    options = ["tag", photos, "--model", trained.path, "-o", tmp_path / "out", "--threads", "1", "-j", "1"]
    command = [sys.executable, "-m", "labelr", *map(str, options)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as running:
        while not any((tmp_path / "out").glob("*.csv")):
            assert running.poll() is None
            time.sleep(0.01)
        running.terminate()
        out, err = end_of(running)
    assert (running.returncode, out) == (143, "")
    assert err.splitlines()[-1] == f"Stopped by SIGTERM. Resume with: labelr {shlex.join(map(str, options))}"
    said = json.loads(cli(*options, "--json").out)
    assert said["complete"]
    assert said["ok"] == 600
    assert 0 < said["unchanged"] < 600


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_signal_stops_a_search_that_finds_no_further_image(
    trained: Model, shapes: Path, tmp_path: Path, number: signal.Signals
) -> None:
    photos = tmp_path / "photos"
    (photos / "first").mkdir(parents=True)
    (photos / "first" / "a.png").hardlink_to(shapes / "images" / "00000.png")
    for level in range(25):  # 2**25 paths to one empty folder
        (tmp_path / "levels" / f"{level}").mkdir(parents=True)
        for name in "ab":
            (tmp_path / "levels" / f"{level}" / name).symlink_to(tmp_path / "levels" / f"{level + 1}")
    (photos / "tree").symlink_to(tmp_path / "levels" / "0")
    options = ["tag", photos, "--model", trained.path, "-o", tmp_path / "out", "--threads", "1"]
    command = [sys.executable, "-m", "labelr", *map(str, options)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as running:
        while not (tmp_path / "out" / ".labelr").exists():
            assert running.poll() is None
            time.sleep(0.01)
        time.sleep(1)
        running.send_signal(number)
        _, err = end_of(running)
    assert running.returncode == 128 + number
    assert err.splitlines()[-1].startswith(f"Stopped by {number.name}. Resume with: labelr tag ")


def handles(running: "subprocess.Popen[str]", number: signal.Signals) -> bool:
    """Whether a process has a handler for a signal; labelr removes its own after the first signal."""
    status = Path(f"/proc/{running.pid}/status").read_text()
    return bool(int(re.findall(r"SigCgt:\s*(\w+)", status)[0], 16) >> (number - 1) & 1)


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="only Linux says when a signal was received")
def test_second_interrupt_stops_in_the_middle_of_a_step(home: Path) -> None:
    options = [
        *("--synthetic", "150", "--image-size", "192", "--width", "2", "-b", "64", "--threads", "1", "--no-amp", "-v"),
    ]
    with subprocess.Popen(fitting(*options), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as running:
        said = iter(running.stderr or ())
        assert any(" parameters, " in line for line in said)  # what is done from here on is held until a step has ended
        time.sleep(1)  # a step takes longer
        running.send_signal(signal.SIGINT)
        while handles(running, signal.SIGINT):  # not before torch gives Python its turn
            assert running.poll() is None
            time.sleep(0.01)
        running.send_signal(signal.SIGINT)
        _, err = end_of(running)
    assert running.returncode == -signal.SIGINT
    assert "Stopped by" not in err


def mount(folder: Path, megabytes: int) -> None:
    """A file system of that size; skips where this user may not mount one."""
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", f"size={megabytes}m", "none", str(folder)]
    if shutil.which("mount") is None or subprocess.run(command, capture_output=True, check=False).returncode:
        pytest.skip("no file system can be mounted here")


@pytest.mark.slow
def test_full_disk_leaves_the_best_model_complete_and_the_run_resumes_later(
    cli: Cli, shapes: Path, home: Path, tmp_path: Path
) -> None:
    options = [shapes, *tiny_options(epochs=8)]
    assert cli("fit", *options, "--output", tmp_path / "reference").code == 0
    disk = tmp_path / "disk"
    mount(disk, 12)
    try:
        command = fitting(*options, "--output", disk / "model")
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as running:
            wait_for(running, "epoch 2/")
            with suppress(OSError), (disk / "filler").open("wb", buffering=0) as filler:
                while True:
                    filler.write(bytes(4096))
            _, err = end_of(running)
        assert running.returncode == 1
        assert re.search(r"Error: cannot write .*/disk/model/[^ ]+: No space left on device", err)
        assert "the progress is saved: resume with the same command and `--resume`" in err
        assert cli("evaluate", shapes, "--model", disk / "model").code == 0
        (disk / "filler").unlink()
        assert cli("fit", *options, "--output", disk / "model", "--resume").code == 0
        ends = [store.load_info(folder) for folder in (tmp_path / "reference", disk / "model")]
        assert ends[0].weights == ends[1].weights
    finally:
        subprocess.run(["umount", "--lazy", str(disk)], check=False)


@pytest.mark.slow
def test_output_that_disappears_is_an_error_that_names_it(shapes: Path, tmp_path: Path) -> None:
    command = fitting(shapes, *tiny_options(**LONG), "--output", tmp_path / "model")
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as running:
        wait_for(running, "epoch 2/")
        (tmp_path / "model").rename(tmp_path / "elsewhere")
        _, err = end_of(running)
    assert running.returncode == 1
    assert re.search(r"Error: cannot write .*/model/[^ ]+: No such file or directory", err)


@pytest.mark.slow
def test_signal_before_the_first_epoch_leaves_no_model(home: Path) -> None:
    command = [sys.executable, "-m", "labelr", "fit", "--synthetic", "3000", "--threads", "1"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as running:
        while not (home / "synthetic").exists():  # where drawing begins
            assert running.poll() is None
            time.sleep(0.01)
        running.send_signal(signal.SIGINT)
        running.communicate(timeout=60)
    assert running.returncode == 130
    assert list((home / "models").iterdir()) == []


def test_command_works_through_a_pipe_that_closes_early(trained: Model, shapes: Path) -> None:
    command = f"{sys.executable} -m labelr models show {trained.path} | true"
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=False)
    assert "Traceback" not in done.stderr


@pytest.mark.slow
def test_main_job_through_real_processes(process: Cli, tmp_path: Path, home: Path) -> None:
    fitted = process("fit", "--synthetic", "40", *TINY_OPTIONS)
    assert (fitted.code, fitted.out) == (0, f"{home / 'models' / 'synthetic'}\n")
    assert "\x1b" not in fitted.err
    photos = next((home / "synthetic").iterdir()) / "images"
    tagged = process("tag", photos, "--threshold", "0.5", "-o", "out", cwd=tmp_path)
    assert (tagged.code, tagged.out) == (0, "out\n")
    assert len(list((tmp_path / "out").glob("*.png.csv"))) == 40


@pytest.mark.slow
def test_no_colour_where_it_is_not_wanted_and_colour_where_it_is_forced(process: Cli, shapes: Path) -> None:
    plain = process("check", shapes / "nowhere", env={**os.environ, "NO_COLOR": "1"})
    forced = process("check", shapes / "nowhere", env={**os.environ, "FORCE_COLOR": "1"})
    assert plain.code == forced.code == 1
    assert "\x1b" not in plain.err
    assert "\x1b[1;31mError: " in forced.err


def run_on_terminal(*command: str, columns: int = 100) -> tuple[int, str, str]:
    """The exit code of a process, its stdout, and what it shows on a terminal, which is its stderr."""
    terminal, other_end = pty.openpty()
    environment = {**os.environ, "TERM": "xterm-256color", "COLUMNS": str(columns)}
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=other_end, env=environment) as running:
        os.close(other_end)
        shown = read_terminal(terminal)
        out = running.stdout.read() if running.stdout else b""
    os.close(terminal)
    return running.returncode, out.decode(), shown.decode()


@pytest.mark.slow
def test_bars_are_shown_on_a_terminal_and_the_log_file_has_plain_lines(
    shapes: Path, home: Path, tmp_path: Path
) -> None:
    log_option = ("--log-file", str(tmp_path / "log"))
    code, out, shown = run_on_terminal(*fitting(shapes, *TINY_OPTIONS, *log_option))
    assert (code, out) == (0, f"{home / 'models' / 'shapes'}\n")
    assert "\u2501" in shown  # the line that bars are drawn with
    assert "epoch 2/2  loss" in shown
    assert re.search(r"epoch 1/2  lr [\d.e-]+", shown)  # the live line
    log = (tmp_path / "log").read_text()
    assert re.search(r"^20\d\d-\S+ epoch 2/2  loss", log, re.MULTILINE)
    assert "\x1b" not in log


def test_nothing_that_a_terminal_obeys_reaches_it_from_text_of_others(tmp_path: Path) -> None:
    hostile = "\x1b]0;owned\x07\u202e\x9b[red]m[/red] :smile: \nError: fake images"
    code = (
        f"from labelr import console\ntext = {hostile!r}\n"
        f"console.open_log(console.Path({str(tmp_path / 'log')!r}))\n"
        "with console.session() as track:\n"
        "    console.show_live([{text: text}], text)\n"
        "    list(track(iter(range(3)), text))\n"
        "    list(track(iter(range(3)), lambda: text))\n"
        "console.show_note(text)\nconsole.show_table([{text: text}], to=console.stderr)\n"
        "console.show_error(console.LabelrError(text, text))\nconsole.show_crash(ValueError(text))\n"
        "console.show_note('sqlite://me:secret@host/db')\n"
    )
    status, _, shown = run_on_terminal(sys.executable, "-c", code)
    assert status == 0
    for text in (shown, (tmp_path / "log").read_text()):
        assert r"\x1b]0;owned\x07\u202e\x9b[red]m[/red] :smile: \nError: fake" in text
        assert not any(part in text for part in ("\x1b]", "\x07", "\u202e", "\x9b", "\nError: fake", "secret"))


@pytest.mark.parametrize(
    ("columns", "line"),
    [
        (200, "epoch 2/3  loss 0.606  mAP 0.588  F1 0.370  lr 1.0e-03  12 images/s  9 s left"),
        (80, "epoch 2/3  loss 0.606  mAP 0.588  9 s left"),
        (40, "epoch 2/3  9 s left"),
    ],
)
def test_live_line_leaves_out_details_on_a_narrow_terminal(columns: int, line: str) -> None:
    code = (
        "from labelr import console\nwith console.session() as track:\n"
        "    for _ in track(range(3), lambda: 'epoch 2/3  loss 0.606  mAP 0.588  F1 0.370  lr 1.0e-03  12 images/s"
        "  9 s left', 3):\n        console._bars.refresh()"
    )
    shown = run_on_terminal(sys.executable, "-c", code, columns=columns)[2]
    text = re.sub(r"\x1b\[[\d;?]*[A-Za-z]", "", shown)
    assert {found.strip() for found in re.findall("epoch[^\u2501\u2578\u257a]*", text)} == {line}
    assert "1 of 3\r\n" not in text  # it is one line


@pytest.mark.slow
def test_python_api_shows_bars_on_a_terminal_only_and_unless_told_otherwise(shapes: Path) -> None:
    default = f"import labelr; print(labelr.check({str(shapes)!r}))"
    silent = f"import labelr; print(labelr.check({str(shapes)!r}, progress=False))"
    on, off = (run_on_terminal(sys.executable, "-c", code) for code in (default, silent))
    expected = f"<Check of {shapes / 'labels.csv'}: 60 images, 3 labels>\n"
    assert (on[:2], off) == ((0, expected), (0, expected, ""))
    assert "reading images" in on[2]
    assert "\u2501" in on[2]
    piped = subprocess.run([sys.executable, "-c", default], capture_output=True, check=True)
    assert piped.stderr == b""


@pytest.mark.slow
def test_name_that_is_not_utf8_reaches_stdout_as_it_is(trained: Model, shapes: Path, tmp_path: Path) -> None:
    output = os.fsencode(tmp_path) + b"/caf\xe9"
    command = [sys.executable, "-m", "labelr", "tag", str(shapes / "images"), "--model", str(trained.path)]
    done = subprocess.run([*command, "-o", os.fsdecode(output)], capture_output=True, check=False)
    assert (done.returncode, done.stdout) == (0, output + b"\n")


def test_label_that_the_terminal_cannot_encode_is_escaped(trained: Model, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(trained.path, tmp_path / "model"))
    info = (folder / "model.json").read_text().replace("disc", "日本")
    (folder / "model.json").write_text(info, encoding="utf-8")
    command = [sys.executable, "-m", "labelr", "models", "show", str(folder)]
    done = subprocess.run(command, capture_output=True, check=False, env={**os.environ, "PYTHONIOENCODING": "ascii"})
    assert (done.returncode, done.stderr) == (0, b"")
    assert rb"\u65e5\u672c" in done.stdout


def test_closed_stdout_is_no_error() -> None:
    command = f"{sys.executable} -m labelr --version >&-"
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=False)
    assert not [line for line in done.stderr.splitlines() if "labelr" in line]  # other units may be faulty


@pytest.mark.slow
def test_second_run_with_the_name_of_a_running_one_is_refused(cli: Cli, shapes: Path, home: Path) -> None:
    options = [*tiny_options(**LONG), "--name", "same"]
    command = [sys.executable, "-m", "labelr", "fit", str(shapes), *options]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True) as running:
        while not (home / "models" / "same" / ".lock").exists():
            assert running.poll() is None
            time.sleep(0.01)
        second = cli("fit", shapes, *options)
        running.terminate()
        running.communicate(timeout=60)
    assert second.code == 75
    assert "another run is writing to" in second.err
    assert running.returncode == 143


def test_interrupt_while_the_command_is_still_being_loaded_ends_it_without_a_traceback(tmp_path: Path) -> None:
    obeyed = "signal.signal(signal.SIGINT, signal.default_int_handler)"  # it is ignored in the background of a shell
    put(tmp_path, "typer.py", f"import signal\n{obeyed}\nsignal.raise_signal(signal.SIGINT)\n")
    done = subprocess.run(
        [sys.executable, "-m", "labelr", "--version"], env={**os.environ, "PYTHONPATH": str(tmp_path)},
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stdout, done.stderr) == (130, "", "")


# --- the jobs of the guide -------------------------------------------------------------------------------------------


def guide_block(name: str) -> str:
    """The block of code that follows a mark in the guide."""
    text = (guide.FOLDER / "scripts.md").read_text(encoding="utf-8")
    (block,) = re.findall(rf"<!-- {name} -->\n```\w+\n(.*?)```", text, re.DOTALL)
    return str(block)


@pytest.fixture
def installed(trained: Model, tmp_path: Path) -> Path:
    """A folder with ``bin/labelr``, and a home directory with the model ``photos``."""
    root = Path(__file__).parents[1]
    script = put(tmp_path, "bin/labelr", f'#!/bin/sh\nexport PYTHONPATH={root}\nexec {sys.executable} -m labelr "$@"\n')
    script.chmod(0o755)
    shutil.copytree(trained.path, tmp_path / ".cache" / "labelr" / "models" / "photos")
    return tmp_path


@pytest.mark.slow
def test_crontab_line_is_silent_if_all_is_well_and_tells_of_new_failures(
    installed: Path, photos: Path, shapes: Path
) -> None:
    line = guide_block("crontab").split(None, 5)[5]
    line = line.replace("/opt/labelr", str(installed)).replace("/data", str(installed))
    shutil.copytree(photos, installed / "inbox")

    def run() -> tuple[int, str]:
        environment = {"HOME": str(installed), "PATH": "/usr/bin:/bin", "SHELL": "/bin/sh"}
        done = subprocess.run(["/bin/sh", "-c", line], env=environment, capture_output=True, text=True, check=False)
        return done.returncode, done.stdout + done.stderr

    code, mail = run()
    assert (code, mail.count("\n")) == (3, 1)
    assert mail.startswith("Warning: 1 image could not be tagged: deep/broken.jpg (")
    shutil.copy(shapes / "images" / "00009.png", installed / "inbox")
    assert run() == (0, "")
    assert "6 images found: 5 tagged (4 of them in an earlier run), 1 failed" in (installed / "labelr.log").read_text()
    with locks.locked(installed / "inbox_labels" / ".labelr"):
        code, mail = run()
    assert code == 75
    assert mail.startswith("Error: another run is writing to ")


@pytest.mark.slow
def test_slurm_script_tags_its_share_of_the_images(installed: Path, shapes: Path) -> None:
    put(installed, "all_files.txt", "".join(f"{path}\n" for path in sorted((shapes / "images").iterdir())))
    script = put(installed, "job.sh", guide_block("sbatch"))
    environment = {
        "HOME": str(installed), "PATH": f"{installed / 'bin'}:/usr/bin:/bin",
        "SLURM_ARRAY_TASK_ID": "3", "SLURM_CPUS_PER_TASK": "1",
    }  # fmt: skip
    for unchanged in (0, 4):
        subprocess.run(["/bin/bash", script], cwd=installed, env=environment, capture_output=True, check=True)
        summary = json.loads((installed / "labels-3" / "summary.json").read_text())
        assert (summary["ok"], summary["unchanged"]) == (4, unchanged)
    put(installed, "all_files.txt", f"{shapes / 'images' / '00000.png'}\n")  # fewer files than tasks
    done = subprocess.run(
        ["/bin/bash", script], cwd=installed, env=environment, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout) == (0, "labels-3\n")
    assert done.stderr.startswith("Warning: the list of files is empty: nothing is tagged or deleted\n")


@pytest.mark.slow
def test_slurm_tasks_side_by_side_tag_all_images_once_and_one_is_requeued(installed: Path, shapes: Path) -> None:
    for count in range(6000):  # no task ends before its first commit, after a second
        link = installed / "many" / f"{count}.png"
        link.parent.mkdir(exist_ok=True)
        link.hardlink_to(shapes / "images" / f"{count % 60:05d}.png")
    images = sorted((installed / "many").iterdir())
    put(installed, "all_files.txt", "".join(f"{path}\n" for path in images))
    script = put(installed, "job.sh", guide_block("sbatch").replace("/16 ", "/2 "))

    def submit(task: int) -> "subprocess.Popen[str]":
        environment = {
            "HOME": str(installed), "PATH": f"{installed / 'bin'}:/usr/bin:/bin",
            "SLURM_ARRAY_TASK_ID": str(task), "SLURM_CPUS_PER_TASK": "1",
        }  # fmt: skip
        return subprocess.Popen(
            ["/bin/bash", script], cwd=installed, env=environment, stderr=subprocess.PIPE, text=True
        )

    journal = installed / "labels-0" / ".labelr" / "journal.sqlite-wal"
    with submit(0) as stopped, submit(1) as other:
        while not (journal.exists() and journal.stat().st_size > 2**17):  # after the first commit of results
            assert stopped.poll() is None
            time.sleep(0.01)
        stopped.send_signal(signal.SIGTERM)  # as Slurm does a minute before the time is up
        assert "Stopped by SIGTERM. Resume with: labelr tag --files-from part-0.txt" in stopped.communicate()[1]
        assert stopped.returncode == 143
        with submit(0) as requeued:
            assert "of them in an earlier run" in requeued.communicate()[1]
        other.communicate()
    assert (requeued.returncode, other.returncode) == (0, 0)
    rows = [(installed / f"labels-{task}" / "labels.csv").read_text().splitlines()[1:] for task in (0, 1)]
    names = [[row.partition(",")[0] for row in part] for part in rows]
    assert names == [[path.name for path in images[task::2]] for task in (0, 1)]


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd is not installed")
def test_units_are_valid(tmp_path: Path) -> None:
    labelr = put(tmp_path, "bin/labelr", "#!/bin/sh\n")
    labelr.chmod(0o755)
    for name in ("labelr-tag.service", "labelr-tag.timer"):
        put(tmp_path, name, guide_block(name).replace("/opt/labelr", str(tmp_path)))
    units = [str(tmp_path / "labelr-tag.service"), str(tmp_path / "labelr-tag.timer")]
    done = subprocess.run(["systemd-analyze", "verify", *units], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
