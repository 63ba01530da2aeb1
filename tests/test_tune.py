"""Searches in real processes on synthetic images: stopped, killed, resumed and shared."""

import csv
import json
import os
import shlex
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from conftest import TINY, TINY_OPTIONS, Cli, put, tiny_options
from optuna.trial import FrozenTrial, TrialState

import labelr
from labelr.errors import LabelrError
from labelr.fields import SettingError
from labelr.model import store
from labelr.model.predict import Model
from labelr.model.store import RUN_FILE
from labelr.training.fit import fit
from labelr.training.record import RECORD_FILE
from labelr.tuning.space import Plan
from labelr.tuning.study import Study, Target
from labelr.tuning.trials import POINT, REASON, WORKER
from labelr.tuning.tune import check_output, conclude, earlier_folder, tune

GRID = ["--lr", "1e-3,4e-3", "--dropout", "0.2,0.5"]
ONE_EPOCH = {**TINY, "epochs": 1}


def read_rows(path: Path) -> list[dict[str, str]]:
    return list(csv.DictReader(path.read_text(encoding="utf-8").splitlines()))


def start(*arguments: object, home: Path) -> "subprocess.Popen[str]":
    command = [sys.executable, "-m", "labelr", "tune", *map(str, arguments)]
    environment = {**os.environ, "LABELR_HOME": str(home)}
    return subprocess.Popen(command, env=environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE)


def attempts_in(folder: Path, *states: TrialState) -> list[FrozenTrial]:
    return Study(folder.name, folder, None).attempts(*states) if (folder / "study.log").exists() else []


def wait_until(condition: Callable[[], bool], running: "subprocess.Popen[str] | None" = None) -> None:
    deadline = time.monotonic() + 600
    while not condition():
        assert running is None or running.poll() is None, running.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.2)  # to look takes time itself


def wait_for_complete(folder: Path, number: int, running: "subprocess.Popen[str]") -> None:
    wait_until(lambda: len(attempts_in(folder, TrialState.COMPLETE)) >= number, running)


# --- a whole search ---------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_grid_is_searched_and_its_best_point_trained_again(shapes: Path, home: Path, cli: Cli) -> None:
    options = ["tune", shapes, *TINY_OPTIONS, "--report", *GRID, "--json"]
    done = cli(*options)
    assert done.code == 0, done.err
    result = json.loads(done.out)
    assert "4 points by grid (dropout 0.2,0.5 x lr 0.001,0.004), 1 seed, 1 at a time" in done.err
    assert "4 of 4" in done.err
    points = {(trial["settings"]["lr"], trial["settings"]["dropout"]) for trial in result["trials"]}
    assert points == {(lr, dropout) for lr in (1e-3, 4e-3) for dropout in (0.2, 0.5)}
    scores = [trial["score"] for trial in result["trials"]]
    assert scores == sorted(scores, reverse=True)
    assert result["score"] == scores[0]
    assert {trial["state"] for trial in result["trials"]} == {"complete"}
    assert sum(result["importance"].values()) == pytest.approx(1)
    folder = home / "studies" / "shapes"
    assert [float(row["score"]) for row in read_rows(folder / "trials.csv")] == scores
    # the model is that of the best point: it has the same score, and only it is scored on the test split
    best = result["trials"][0]["settings"]
    assert (result["settings"]["lr"], result["settings"]["dropout"]) == (best["lr"], best["dropout"])
    history = read_rows(Path(result["model"]) / "history.csv")
    assert float(history[-1]["val_map"]) == pytest.approx(result["score"], abs=1e-12)
    assert result["optimistic_bias"]["val"] == pytest.approx(result["score"], abs=1e-12)
    on_test = labelr.evaluate(shapes, labelr.load(result["model"]).as_validated, split="test").metrics
    assert result["optimistic_bias"]["test"] == pytest.approx(on_test["map_macro"], abs=1e-9)
    assert result["scored_on"] == "test"
    assert not list((folder / "trials").iterdir())
    assert not list((folder / "workers").iterdir())
    assert (folder / "report" / "report.html").is_file()
    assert [row["name"] for row in json.loads(cli("models", "list", "--json").out)] == ["shapes"]
    # the same command has nothing left to do
    again = cli(*options)
    assert json.loads(again.out) == result
    assert "4 of them done" in again.err
    assert "is finished already" in again.err


@pytest.mark.slow
def test_printed_command_trains_the_best_model(shapes: Path, home: Path, cli: Cli) -> None:
    done = cli("tune", shapes, *TINY_OPTIONS, "--no-flip", "--augment", "none,light", "--no-refit")
    assert done.code == 0, done.err
    assert not (home / "models").exists()
    words = shlex.split(done.out)
    assert words[:3] == ["labelr", "fit", str(shapes)]
    assert "--no-flip" in words
    best = float(read_rows(home / "studies" / "shapes" / "trials.csv")[0]["score"])
    config = home / "studies" / "shapes" / "config.json"
    for arguments in ([*words[1:], "--name", "one"], ["fit", shapes, "--config", config, "--name", "two"]):
        history = read_rows(Path(cli(*arguments).out.strip()) / "history.csv")
        assert max(float(row["val_map"]) for row in history) == pytest.approx(best, abs=1e-12)


@pytest.mark.slow
def test_script_needs_no_guard_and_names_settings_as_keywords(shapes: Path, tmp_path: Path) -> None:
    script = put(
        tmp_path,
        "script.py",
        "import labelr\ncounts = {}\n"
        "def track(items, description, total=None):\n"
        "    for item in items:\n"
        "        counts[description] = counts.get(description, 0) + 1\n"
        "        yield item\n"
        f"result = labelr.tune({str(shapes)!r}, lr=[1e-3, 2e-3], refit=False, track=track, **{ONE_EPOCH!r})\n"
        "print([trial.state for trial in result.ranking], counts['trials'])\n",
    )
    done = subprocess.run([sys.executable, script], capture_output=True, text=True, check=False, timeout=300)
    assert done.stdout == "['complete', 'complete'] 2\n", done.stderr


@pytest.mark.slow
def test_search_continues_when_nobody_reads_its_messages(shapes: Path, tmp_path: Path) -> None:
    running = start(shapes, *TINY_OPTIONS, "--lr", "1e-3,4e-3", "--no-refit", home=tmp_path / "there")
    assert running.stderr is not None
    assert running.stdout is not None
    running.stderr.readline()
    running.stderr.close()
    assert running.stdout.read().startswith("labelr fit")
    running.stdout.close()
    assert running.wait(timeout=300) == 0


def test_search_without_a_complete_trial_is_an_error_with_the_reasons(shapes: Path, tmp_path: Path) -> None:
    plan = Plan.of([shapes], {"lr": [1e-3, 4e-3]}, ONE_EPOCH, {})
    with closing(Study("some", tmp_path / "study", None)) as study:
        with pytest.raises(LabelrError, match="no trial was completed") as caught:
            conclude(study, plan, 6)
        assert "--time" in caught.value.hint
        study.enqueue([{"lr": 1e-3}])
        attempt = study.shared.ask()
        attempt.set_user_attr(REASON, "the loss became nan")
        study.shared.tell(attempt, state=TrialState.FAIL)
        with pytest.raises(LabelrError, match="no trial was completed: the loss became nan"):
            conclude(study, plan, 6)


# --- what is refused --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "there is nothing to search"),
        (["--lr", "0.1"], "there is nothing to search"),
        (["--lr", "1e-4..1e-2", "--sampler", "grid"], "a grid needs values, and lr has a range"),
        (["--lr", "0.1,0.2", "--jobs", "0"], "`--jobs`: expected"),
        (["--lr", "0.1,0.2", "--study", "a/b"], "a study cannot be called 'a/b'"),
        (["--lr", "0.1,0.2", "--name", "a", "--output", "b"], "give `--name` or `--output`"),
        (["--lr", "0.1,0.2", "--storage", "nonsense"], "'nonsense' is not the address of a database"),
        (["--flip", "true,no"], "`--flip`: expected true or false, got 'no'"),
        (["--init", "some", "--width", "0.25,0.5"], "init and width exclude each other"),
    ],
)
def test_wrong_usage_is_reported_before_anything_is_done(
    cli: Cli, shapes: Path, home: Path, arguments: list[str], message: str
) -> None:
    done = cli("tune", shapes, *arguments)
    assert done.code == 2
    assert message in done.err
    assert not (home / "studies").exists()


def test_model_in_the_way_is_reported_before_the_search(shapes: Path, trained: Any) -> None:
    with pytest.raises(LabelrError, match=r"there is a model in .* already"):
        tune(shapes, {"lr": [1e-3, 4e-3]}, ONE_EPOCH, output=trained.path)
    with pytest.raises(LabelrError, match="is not a directory"):
        tune(shapes, {"lr": [1e-3, 4e-3]}, ONE_EPOCH, output=shapes / "labels.csv")
    for force in (False, True):
        with pytest.raises(LabelrError, match="exists and is not a model"):
            tune(shapes, {"lr": [1e-3, 4e-3]}, ONE_EPOCH, output=shapes, force=force)


def test_search_needs_validation_images_and_one_split(shapes: Path) -> None:
    with pytest.raises(LabelrError, match="no validation images"):
        tune(shapes, {"lr": [1e-3, 4e-3]}, {**ONE_EPOCH, "val_fraction": 0.0})
    with pytest.raises(SettingError, match="folds"):
        tune(shapes, {"lr": [1e-3, 4e-3]}, {**ONE_EPOCH, "folds": 3})


# --- the best model ---------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_model_of_the_same_study_is_replaced_and_others_only_by_force(shapes: Path, tmp_path: Path) -> None:
    place, space = tmp_path / "best", {"lr": [1e-3, 4e-3]}
    fit(shapes, {**ONE_EPOCH, "lr": 0.009}, output=place)
    first = tune(shapes, space, ONE_EPOCH, trials=1, study="a", output=place, force=True)
    assert store.load_info(place).config["lr"] == first.best.settings["lr"]
    second = tune(shapes, space, ONE_EPOCH, study="a", output=place)
    assert store.load_info(place).config["lr"] == second.best.settings["lr"]
    (place / RECORD_FILE).rename(place / RUN_FILE)  # as after a kill soon after the start
    third = tune(shapes, space, ONE_EPOCH, study="a", output=place)
    assert third.model is not None
    assert second.model is not None
    assert third.model["metrics"] == second.model["metrics"]


def test_model_belongs_to_a_study_if_its_own_record_says_so(trained: Model, home: Path, tmp_path: Path) -> None:
    place = Path(shutil.copytree(trained.path, home / "models" / "precious"))
    elsewhere = Path(shutil.copytree(trained.path, tmp_path / "elsewhere"))
    settings = {"lr": 0.1}
    with closing(Study("a", tmp_path / "study", None)) as study:
        for folder in (place, elsewhere):
            study.shared.set_user_attr("refit", {"host": "here", "path": str(folder), "settings": settings})
            with pytest.raises(LabelrError, match="there is a model in"):
                check_output(study, Target(output=folder))
            assert earlier_folder(study, settings) is None
            record = json.loads((folder / RECORD_FILE).read_text())
            put(folder, RECORD_FILE, json.dumps(record | {"study": study.mark}))
            check_output(study, Target(output=folder))
            assert earlier_folder(study, settings) == (place if folder == place else None)


def test_model_of_a_study_is_found_by_its_record_after_it_was_renamed(
    trained: Model, home: Path, tmp_path: Path
) -> None:
    place = Path(shutil.copytree(trained.path, home / "models" / "shapes"))
    record = json.loads((place / RECORD_FILE).read_text())
    settings = record["settings"]
    with closing(Study("a", tmp_path / "study", None)) as study:
        study.shared.set_user_attr("refit", {"host": "here", "path": str(place), "settings": settings})
        put(place, RECORD_FILE, json.dumps(record | {"study": study.mark}))
        renamed = store.rename(place, "best")
        assert earlier_folder(study, settings) == renamed
        changed = {
            **record,
            "study": study.mark,
            "given": {**record["given"], "lr": 0.5},
            "settings": {**settings, "lr": 0.5},
        }
        put(renamed, RECORD_FILE, json.dumps(changed))
        assert earlier_folder(study, settings) is None


# --- stopped, killed, shared ------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_grid_is_resumed_after_kills_of_a_worker_and_of_the_search_and_after_an_interrupt(
    shapes: Path, tmp_path: Path
) -> None:
    grid = ["--lr", "1e-3,4e-3", "--dropout", "0.2,0.3,0.5"]
    home, options = tmp_path / "there", [shapes, *tiny_options(epochs=6), *grid, "--no-refit"]
    first = start(*options, home=home)
    folder = home / "studies" / "shapes"
    wait_for_complete(folder, 1, first)
    (worker,) = children(first.pid)
    os.kill(worker, signal.SIGKILL)
    wait_for_complete(folder, 2, first)
    first.kill()
    out, err = first.communicate(timeout=300)
    assert out == ""
    assert "a worker ended with SIGKILL and is replaced" in err
    study = Study(folder.name, folder, None)
    wait_until(lambda: not study.has_workers())  # they end with their parent
    second = start(*options, home=home)
    wait_for_complete(folder, 3, second)
    second.send_signal(signal.SIGINT)
    out, err = second.communicate(timeout=300)
    assert (second.returncode, out) == (130, "")
    assert "Stopped by SIGINT. Resume with: labelr tune" in err
    assert not study.has_workers()
    assert not attempts_in(folder, TrialState.RUNNING)
    assert 3 <= len(attempts_in(folder, TrialState.COMPLETE)) < 6
    third = start(*options, home=home)
    assert third.communicate(timeout=300)[1].count(" of 6  trial") >= 1
    assert third.returncode == 0
    rows = read_rows(folder / "trials.csv")
    points = Counter((row["lr"], row["dropout"]) for row in rows)
    assert sorted(points.values()) == [1] * 6
    assert {row["state"] for row in rows} == {"complete"}
    complete = [attempt.user_attrs[POINT] for attempt in attempts_in(folder, TrialState.COMPLETE)]
    assert sorted(complete) == list(range(6))


def children(pid: int) -> list[int]:
    """The worker processes of a search."""
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            parent = int(path.read_text().rsplit(")", 1)[1].split()[1])
            command = path.with_name("cmdline").read_text()
        except OSError:
            continue
        if parent == pid and "labelr.tuning.worker" in command:
            found.append(int(path.parent.name))
    return found


@pytest.mark.slow
def test_two_processes_share_the_points_and_the_model(shapes: Path, tmp_path: Path) -> None:
    home, options = tmp_path / "there", [shapes, *tiny_options(epochs=9), *GRID]
    both = [start(*options, home=home) for _ in range(2)]
    outputs = [process.communicate(timeout=300) for process in both]
    assert [process.returncode for process in both] == [0, 0], outputs
    assert outputs[0][0] == outputs[1][0] != ""
    complete = attempts_in(home / "studies" / "shapes", TrialState.COMPLETE)
    assert sorted(attempt.user_attrs[POINT] for attempt in complete) == list(range(4))
    assert len({attempt.user_attrs[WORKER] for attempt in complete}) == 2
    assert [path.name for path in (home / "models").iterdir()] == ["shapes"]
