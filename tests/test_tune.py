"""Searches: real processes on drawn images, stopped, killed, continued and shared."""

import csv
import json
import os
import shlex
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import optuna
import pytest
from conftest import TINY, TINY_OPTIONS, Cli, put
from optuna.trial import TrialState

import labelr
from labelr.data.synthetic import make_synthetic_dataset
from labelr.errors import LabelrError
from labelr.fields import SettingError
from labelr.model import store
from labelr.model.calibration import UNCALIBRATED
from labelr.progress import Description, Total
from labelr.training.fit import fit
from labelr.training.run import RECORD_FILE, is_resumable
from labelr.tuning.outcome import Outcome
from labelr.tuning.study import open_study
from labelr.tuning.trials import EPOCHS, STOPPED, TICKET, Trial, count_deaths, read_trials
from labelr.tuning.tune import tune

GRID = ["--lr", "1e-3,4e-3", "--dropout", "0.2,0.5"]
ONE_EPOCH = {**TINY, "epochs": 1}


def small_search(data: Path, space: dict[str, Any], *, refit: bool = False, **options: Any) -> Outcome:
    return tune(data, space, options.pop("config", ONE_EPOCH), refit=refit, **options)


def read_rows(path: Path) -> list[dict[str, str]]:
    return list(csv.DictReader(path.read_text(encoding="utf-8").splitlines()))


def trials_of(folder: Path) -> list[dict[str, str]]:
    return list(read_rows(folder / "trials.csv"))


def attempts_of(folder: Path) -> list[optuna.trial.FrozenTrial]:
    return open_study(folder.name, folder, None).attempts()


def start(*arguments: object, home: Path) -> "subprocess.Popen[str]":
    command = [sys.executable, "-m", "labelr", "tune", *map(str, arguments)]
    return subprocess.Popen(
        command, env={**os.environ, "LABELR_HOME": str(home)}, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )


def wait_for_trials(folder: Path, number: int, running: "subprocess.Popen[str]") -> None:
    """Waits until so many trials of a search are complete."""
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline and running.poll() is None:
        log = folder / "study.log"
        if log.exists() and log.read_text().count('"state":1') >= number:
            return
        time.sleep(0.05)
    raise AssertionError(f"no {number} trials: {running.communicate()}")


# --- a search from its beginning to its end --------------------------------------------------------------------------


def test_grid_is_searched_and_its_best_point_trained_again(drawn: Path, home: Path, cli: Cli) -> None:
    done = cli("tune", drawn, *TINY_OPTIONS, *GRID, "--json")
    assert done.code == 0, done.err
    said = json.loads(done.out)
    assert "4 points (2 of dropout x 2 of lr), each trained once" in done.err
    assert "4 of 4" in done.err
    points = {(trial["settings"]["lr"], trial["settings"]["dropout"]) for trial in said["trials"]}
    assert points == {(lr, dropout) for lr in (1e-3, 4e-3) for dropout in (0.2, 0.5)}
    scores = [trial["score"] for trial in said["trials"]]
    assert scores == sorted(scores, reverse=True)
    assert said["score"] == scores[0]
    assert {trial["state"] for trial in said["trials"]} == {"complete"}
    assert sum(said["importance"].values()) == pytest.approx(1)
    folder = home / "studies" / "drawn"
    assert [float(row["score"]) for row in trials_of(folder)] == scores
    # the model is that of the best point: it comes to the same score, and the test part is its own alone
    best = said["trials"][0]["settings"]
    assert (said["settings"]["lr"], said["settings"]["dropout"]) == (best["lr"], best["dropout"])
    history = read_rows(Path(said["model"]) / "history.csv")
    assert max(float(row["val_map"]) for row in history) == pytest.approx(said["score"], abs=1e-12)
    assert said["flattery"]["val"] == pytest.approx(said["score"], abs=1e-12)
    assert said["flattery"]["test"] == pytest.approx(said["metrics"]["map_macro"], abs=1e-9)
    assert said["scored_on"] == "test"
    assert not list((folder / "trials").iterdir())
    assert not (folder / "report").exists()  # as `--no-report` asks
    assert [row["name"] for row in json.loads(cli("models", "list", "--json").out)] == ["drawn"]
    # the same command has nothing left to do
    again = cli("tune", drawn, *TINY_OPTIONS, *GRID, "--json")
    assert json.loads(again.out) == said
    assert "4 of them are done" in again.err
    assert "is finished already" in again.err


@pytest.mark.slow
def test_unfinished_run_of_other_settings_is_not_in_the_way_of_the_best_model(
    drawn: Path, home: Path, cli: Cli
) -> None:
    def stop(items: Iterable[Any], description: Description, total: Total = None) -> Iterator[Any]:
        yield from items
        if callable(description):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fit(drawn, {**ONE_EPOCH, "epochs": 5, "weight_decay": 0.1, "checkpoint_minutes": 1e-9}, track=stop)
    assert is_resumable(home / "models" / "drawn")
    outcome = small_search(drawn, {"lr": [1e-3, 4e-3]}, refit=True, metric="f1_micro")
    assert outcome.model is not None
    assert outcome.model["name"] == "drawn-2"
    again = small_search(drawn, {"lr": [1e-3, 4e-3]}, refit=True, metric="f1_micro")
    assert again.model is not None
    assert again.model["name"] == "drawn-2"
    # the score on the test part is of probabilities as trials are compared by, and not of calibrated ones
    model = labelr.load("drawn-2")
    raw = replace(model, info=replace(model.info, calibration=UNCALIBRATED))
    scores = labelr.evaluate(drawn, raw, split="test", threshold=0.5).metrics
    assert outcome.flattery is not None
    assert outcome.flattery.test == pytest.approx(scores["f1_micro"], abs=1e-12)


@pytest.mark.slow
def test_command_and_config_that_it_prints_train_the_same_model(drawn: Path, home: Path, cli: Cli) -> None:
    done = cli("tune", drawn, *TINY_OPTIONS, "--no-flip", "--augment", "none,light", "--no-refit")
    assert done.code == 0, done.err
    assert not (home / "models").exists()
    words = shlex.split(done.out)
    assert words[:3] == ["labelr", "fit", str(drawn)]
    assert "--no-flip" in words
    best = float(trials_of(home / "studies" / "drawn")[0]["score"])
    by_command = Path(cli(*words[1:], "--name", "one").out.strip())
    by_config = Path(
        cli("fit", drawn, "--config", home / "studies" / "drawn" / "config.json", "--name", "two").out.strip()
    )
    for folder in (by_command, by_config):
        history = list(read_rows(folder / "history.csv"))
        assert max(float(row["val_map"]) for row in history) == pytest.approx(best, abs=1e-12)


@pytest.mark.slow
def test_each_point_is_trained_once_a_seed_and_ranked_by_the_mean(drawn: Path) -> None:
    config = {**ONE_EPOCH, "report": True}
    outcome = small_search(drawn, {"lr": [1e-3, 4e-3]}, seeds=2, metric="f1_macro", config=config)
    assert (outcome.folder / "report" / "report.html").is_file()
    for trial in outcome.trials:
        assert len(trial.scores) == 2
        assert trial.scores[0] != trial.scores[1]
        assert trial.score == pytest.approx(sum(trial.scores) / 2)
        assert trial.epochs == 2
    settings = {**ONE_EPOCH, "lr": outcome.best.settings["lr"], "select": "f1_macro"}
    _, history, _ = fit(drawn, settings)
    assert history[0]["val_f1_macro"] == pytest.approx(outcome.best.scores[0], abs=1e-12)


@pytest.mark.slow
def test_random_points_are_those_of_the_seed_however_many_work(drawn: Path) -> None:
    space = {"lr": "1e-4..1e-2:log", "batch_size": "8..16"}
    first = small_search(drawn, space, study="one", sampler="random", trials=3)
    second = small_search(drawn, space, study="two", sampler="random", trials=3, jobs=2)
    points = [{trial.number: trial.settings for trial in outcome.trials} for outcome in (first, second)]
    assert points[0] == points[1]
    assert len({trial.settings["lr"] for trial in first.trials}) == 3


@pytest.mark.slow
def test_tpe_is_chosen_for_ranges_and_goes_on_to_more_trials(drawn: Path) -> None:
    first = small_search(drawn, {"lr": "1e-4..1e-2:log"}, trials=2)
    assert first.sampler == "tpe"
    more = small_search(drawn, {"lr": "1e-4..1e-2:log"}, trials=3)
    assert more.study == first.study
    assert len(more.trials) == 3
    before, after = ({trial.number: trial.settings for trial in outcome.trials} for outcome in (first, more))
    assert before.items() <= after.items()


@pytest.mark.slow
def test_hopeless_trials_are_stopped_early_and_counted(tmp_path: Path, cli: Cli) -> None:
    data = make_synthetic_dataset(tmp_path / "more", 300, 3)
    options = [*TINY_OPTIONS, "--epochs", "9", "--lr", "1e-8,2e-8,4e-3,5e-3", "--prune", "--no-refit"]
    done = cli("tune", data, *options, "--json")
    assert done.code == 0, done.err
    said = json.loads(done.out)
    pruned = [trial for trial in said["trials"] if trial["state"] == "pruned"]
    assert 1 <= len(pruned) <= 3
    assert all(trial["epochs"] < 9 for trial in pruned)
    assert said["best_settings"]["lr"] in (4e-3, 5e-3)
    assert f"{len(pruned)} stopped early" in done.err


@pytest.mark.slow
def test_trial_that_cannot_be_trained_is_told_and_the_search_goes_on(drawn: Path, cli: Cli, home: Path) -> None:
    done = cli(
        "tune", drawn, *TINY_OPTIONS, "--lr", "9.9,4e-3", "--weight-decay", "1e30", "--optimizer", "adamw", "--no-refit"
    )
    assert done.code == 1
    assert "no trial came to its end: the loss became nan" in done.err
    done = cli(
        "tune",
        drawn,
        *TINY_OPTIONS,
        "--weight-decay",
        "1e30,0.05",
        "--optimizer",
        "adamw",
        "--lr",
        "1",
        "--no-refit",
        "--study",
        "b",
    )
    rows = trials_of(home / "studies" / "b")
    assert [row["state"] for row in rows] == ["complete", "failed"]
    assert "the loss became" in rows[1]["reason"]


@pytest.mark.slow
def test_time_ends_a_search_and_what_was_begun_is_put_back(drawn: Path) -> None:
    config = {**TINY, "epochs": 500, "patience": 500}
    with pytest.raises(LabelrError, match="no trial came to its end"):
        small_search(drawn, {"lr": [1e-3, 4e-3]}, config=config, time=0.15)
    outcome = small_search(drawn, {"lr": "1e-3..4e-3"}, time=0.4, sampler="random")
    assert outcome.trials[0].state == "complete"
    assert not [trial for trial in outcome.trials if trial.state == "running"]


@pytest.mark.slow
@pytest.mark.parametrize("sampler", ["random", "tpe"])
def test_points_of_listed_values_are_tried_once_by_any_sampler(drawn: Path, sampler: str) -> None:
    space = {"lr": [1e-3, 2e-3], "dropout": [0, 0.5], "augment": ["none", "light"]}
    outcome = small_search(drawn, space, sampler=sampler)
    assert len({tuple(trial.settings.items()) for trial in outcome.trials}) == 8
    assert {trial.settings["dropout"] for trial in outcome.trials} == {0.0, 0.5}


@pytest.mark.slow
def test_model_of_the_same_study_or_by_force_is_replaced(drawn: Path, tmp_path: Path) -> None:
    place = tmp_path / "best"
    fit(drawn, {**ONE_EPOCH, "lr": 0.009}, output=place)
    space = {"lr": [1e-3, 4e-3]}
    first = tune(drawn, space, ONE_EPOCH, trials=1, study="a", output=place, force=True)
    assert store.load_info(place).config["lr"] == first.best.settings["lr"]
    second = tune(drawn, space, ONE_EPOCH, study="a", output=place)
    assert store.load_info(place).config["lr"] == second.best.settings["lr"]
    (place / RECORD_FILE).unlink()  # as of a run that was killed when it had hardly begun
    third = tune(drawn, space, ONE_EPOCH, study="a", output=place)
    assert third.model is not None
    assert third.model["metrics"] == (second.model or {})["metrics"]
    anew = tune(drawn, {"dropout": [0.1, 0.2]}, ONE_EPOCH, study="a", output=place, force=True)
    assert store.load_info(place).config["dropout"] == anew.best.settings["dropout"]


# --- what is refused -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "there is nothing to search"),
        (["--lr", "0.1"], "there is nothing to search"),
        (["--lr", "1e-4..1e-2", "--sampler", "grid"], "a grid needs values, and lr has a range"),
        (["--lr", "0.1,0.2", "--jobs", "0"], "jobs: expected"),
        (["--lr", "0.1,0.2", "--study", "a/b"], "a study cannot be called 'a/b'"),
        (["--lr", "0.1,0.2", "--name", "a", "--output", "b"], "give `--name` or `--output`"),
        (["--lr", "0.1,0.2", "--storage", "nonsense"], "'nonsense' is no address of a database"),
        (["--flip", "true,no"], "flip: expected true or false, got 'no'"),
    ],
)
def test_wrong_usage_is_told_before_anything_is_done(
    cli: Cli, drawn: Path, home: Path, arguments: list[str], message: str
) -> None:
    done = cli("tune", drawn, *arguments)
    assert done.code == 2
    assert message in done.err
    assert not (home / "studies").exists()


def test_storage_that_does_not_answer_is_an_error_without_its_password(cli: Cli, drawn: Path) -> None:
    pytest.importorskip("pg8000")
    done = cli("tune", drawn, "--lr", "0.1,0.2", "--storage", "postgresql://me:secret@localhost:1/nothing")
    assert done.code == 1
    assert "cannot be reached" in done.err
    assert "refused" in done.err
    assert "secret" not in done.err


@pytest.mark.slow
def test_study_of_something_else_is_refused_with_the_difference(drawn: Path, tmp_path: Path, cli: Cli) -> None:
    small_search(drawn, {"lr": [1e-3, 4e-3]}, study="mine")
    with pytest.raises(LabelrError, match=r"lr was searched over 0.001,0.004 and is over 0.001,0.002") as caught:
        small_search(drawn, {"lr": [1e-3, 2e-3]}, study="mine")
    assert "--study" in caught.value.hint
    with pytest.raises(LabelrError, match=r"width was 0.125 and is 0.25"):
        small_search(drawn, {"lr": [1e-3, 4e-3]}, study="mine", config={**ONE_EPOCH, "width": 0.25})
    with pytest.raises(LabelrError, match=r"the metric was map and is f1_micro; .*number of seeds was 1 and is 2"):
        small_search(drawn, {"lr": [1e-3, 4e-3]}, study="mine", metric="f1_micro", seeds=2)
    with pytest.raises(LabelrError, match="their division into train, val and test are others"):
        small_search(drawn, {"lr": [1e-3, 4e-3]}, study="mine", config={**ONE_EPOCH, "test_fraction": 0.3})
    with pytest.raises(LabelrError, match="there were 60 images and are 59"):
        small_search(shorter(drawn, tmp_path), {"lr": [1e-3, 4e-3]}, study="mine")
    # how it is computed may change
    small_search(drawn, {"lr": [1e-3, 4e-3]}, study="mine", config={**ONE_EPOCH, "threads": 2, "cache_limit": 1.0})
    anew = small_search(drawn, {"dropout": [0.1, 0.2]}, study="mine", force=True)
    assert [set(trial.settings) for trial in anew.trials] == [{"dropout"}] * 2


def shorter(data: Path, folder: Path) -> Path:
    """A data set without its last image."""
    lines = (data / "labels.csv").read_text().splitlines()[:-1]
    put(folder / "shorter", "labels.csv", "\n".join(lines) + "\n")
    (folder / "shorter" / "images").symlink_to(data / "images")
    return folder / "shorter"


@pytest.mark.slow
def test_search_without_a_name_goes_on_with_its_own_study_and_leaves_others_alone(drawn: Path) -> None:
    first = small_search(drawn, {"lr": [1e-3, 4e-3]})
    other = small_search(drawn, {"dropout": [0.1, 0.2]})
    again = small_search(drawn, {"lr": [1e-3, 4e-3]})
    assert (first.study, other.study, again.study) == ("drawn", "drawn-2", "drawn")
    assert again.trials == first.trials


def test_model_in_the_way_is_told_before_the_search(drawn: Path, trained: Any) -> None:
    with pytest.raises(LabelrError, match=r"there is a model in .* already"):
        tune(drawn, {"lr": [1e-3, 4e-3]}, ONE_EPOCH, output=trained.path)
    with pytest.raises(LabelrError, match="is no directory"):
        tune(drawn, {"lr": [1e-3, 4e-3]}, ONE_EPOCH, output=drawn / "labels.csv")
    with pytest.raises(LabelrError, match="exists, and is no model"):
        tune(drawn, {"lr": [1e-3, 4e-3]}, ONE_EPOCH, output=drawn)
    with pytest.raises(LabelrError, match="exists, and is no model"):
        tune(drawn, {"lr": [1e-3, 4e-3]}, ONE_EPOCH, output=drawn, force=True)


def test_search_needs_validation_images(drawn: Path) -> None:
    with pytest.raises(LabelrError, match="no validation images"):
        small_search(drawn, {"lr": [1e-3, 4e-3]}, config={**ONE_EPOCH, "val_fraction": 0.0})
    with pytest.raises(SettingError, match="folds"):
        small_search(drawn, {"lr": [1e-3, 4e-3]}, config={**ONE_EPOCH, "folds": 3})


@pytest.mark.slow
def test_damaged_last_line_of_a_study_is_cut_off(drawn: Path, home: Path) -> None:
    first = small_search(drawn, {"lr": [1e-3, 4e-3]})
    with (home / "studies" / "drawn" / "study.log").open("ab") as file:
        file.write(b'{"op_code":4,"worker_id')
    assert small_search(drawn, {"lr": [1e-3, 4e-3]}).trials == first.trials


# --- stopped, killed, shared -----------------------------------------------------------------------------------------


@pytest.mark.slow
def test_grid_that_is_killed_in_the_middle_goes_on_to_all_points_once(drawn: Path, tmp_path: Path) -> None:
    home, options = tmp_path / "there", [drawn, *TINY_OPTIONS, "--lr", "1e-3,4e-3", "--dropout", "0.2,0.3,0.5"]
    options += ["--batch-size", "8,16,32", "--no-refit"]
    first = start(*options, home=home)
    folder = home / "studies" / "drawn"
    wait_for_trials(folder, 4, first)
    first.kill()
    assert first.communicate(timeout=60)[0] == ""
    wait_until_nobody_works(folder)
    second = start(*options, home=home)
    assert second.communicate(timeout=300)[1].count("trial") >= 10
    assert second.returncode == 0
    rows = trials_of(folder)
    points = Counter((row["lr"], row["dropout"], row["batch_size"]) for row in rows)
    assert len(points) == 18
    assert set(points.values()) == {1}
    assert {row["state"] for row in rows} == {"complete"}
    complete = Counter(one.user_attrs["ticket"] for one in attempts_of(folder) if one.state.name == "COMPLETE")
    assert set(complete.values()) == {1}
    assert len(complete) == 18


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_search_that_is_asked_to_stop_says_how_to_go_on(drawn: Path, tmp_path: Path, number: signal.Signals) -> None:
    home, options = tmp_path / "there", [drawn, *TINY_OPTIONS, *GRID, "--epochs", "9", "--no-refit"]
    running = start(*options, home=home)
    folder = home / "studies" / "drawn"
    wait_for_trials(folder, 1, running)
    running.send_signal(number)
    out, err = running.communicate(timeout=60)
    assert running.returncode == 128 + number
    assert out == ""
    assert f"Stopped by {number.name}. Resume with: labelr tune" in err
    assert not open_study(folder.name, folder, None).has_workers()
    states = [trial.state for trial in trials_begun(folder)]
    assert states.count("running") == 0
    assert 1 <= states.count("complete") < 4


def wait_until_nobody_works(folder: Path) -> None:
    study = open_study(folder.name, folder, None)
    deadline = time.monotonic() + 30
    while study.has_workers():
        assert time.monotonic() < deadline, "a worker outlives its search"
        time.sleep(0.1)


@pytest.mark.slow
def test_two_processes_share_the_points_and_the_model(drawn: Path, tmp_path: Path) -> None:
    home, options = tmp_path / "there", [drawn, *TINY_OPTIONS, *GRID, "--batch-size", "8,16", "--epochs", "6"]
    both = [start(*options, home=home) for _ in range(2)]
    outs = [one.communicate(timeout=300) for one in both]
    assert [one.returncode for one in both] == [0, 0], outs
    assert outs[0][0] == outs[1][0] != ""
    complete = [one for one in attempts_of(home / "studies" / "drawn") if one.state.name == "COMPLETE"]
    assert sorted(one.user_attrs["ticket"] for one in complete) == list(range(8))
    share = Counter(one.user_attrs["worker"] for one in complete)
    assert len(share) == 2
    assert [path.name for path in (home / "models").iterdir()] == ["drawn"]


@pytest.mark.slow
def test_worker_that_is_killed_loses_its_trial_only(drawn: Path, tmp_path: Path) -> None:
    home, options = tmp_path / "there", [drawn, *TINY_OPTIONS, *GRID, "--epochs", "20", "--no-refit", "--json"]
    running = start(*options, home=home)
    folder = home / "studies" / "drawn"
    wait_for_trials(folder, 1, running)
    (worker,) = children(running.pid)
    os.kill(worker, signal.SIGKILL)
    out, err = running.communicate(timeout=300)
    assert running.returncode == 0, err
    assert "a worker was ended by SIGKILL; another one takes its place" in err
    assert [trial["state"] for trial in json.loads(out)["trials"]] == ["complete"] * 4


@pytest.mark.slow
def test_point_that_kills_its_process_every_time_is_given_up(drawn: Path, tmp_path: Path) -> None:
    home, options = (
        tmp_path / "there",
        [drawn, *TINY_OPTIONS, "--epochs", "400", "--patience", "400", "--no-refit", "--json"],
    )
    running = start(*options, "--lr", "1e-3,4e-3", home=home)
    folder = home / "studies" / "drawn"
    deadline = time.monotonic() + 120
    while not any(trial.state == "failed" for trial in trials_begun(folder)):
        assert running.poll() is None
        assert time.monotonic() < deadline
        if trials_begun(folder) and is_training(folder):
            for worker in children(running.pid):
                os.kill(worker, signal.SIGKILL)
        time.sleep(0.1)
    (failed,) = [trial for trial in trials_begun(folder) if trial.state == "failed"]
    assert failed.reason == "its process died 3 times; memory may not suffice"
    running.terminate()
    running.communicate(timeout=60)


def is_training(folder: Path) -> bool:
    """Whether a worker that lives has begun a trial."""
    study = open_study(folder.name, folder, None)
    return any(study.is_at_work(one.user_attrs.get("worker")) for one in study.attempts(TrialState.RUNNING))


def trials_begun(folder: Path) -> list[Trial]:
    return read_trials(open_study(folder.name, folder, None).shared) if (folder / "study.log").exists() else []


def children(pid: int) -> list[int]:
    """The processes of the crew; the tracker of multiprocessing's resources is none of them."""
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            parent = int(path.read_text().rsplit(")", 1)[1].split()[1])
            command = path.with_name("cmdline").read_text()
        except OSError:
            continue
        if parent == pid and "spawn_main" in command:
            found.append(int(path.parent.name))
    return found


@pytest.mark.slow
def test_script_without_a_guard_is_told_what_to_do(drawn: Path, tmp_path: Path) -> None:
    script = put(
        tmp_path, "script.py", f"import labelr\nlabelr.tune({str(drawn)!r}, {{'lr': [1e-3, 2e-3]}}, {ONE_EPOCH!r})\n"
    )
    done = subprocess.run([sys.executable, script], capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 1
    assert 'below `if __name__ == "__main__":`' in done.stderr


@pytest.mark.slow
def test_search_goes_on_when_nobody_reads_what_it_says(drawn: Path, tmp_path: Path) -> None:
    running = start(drawn, *TINY_OPTIONS, *GRID, "--no-refit", home=tmp_path / "there")
    assert running.stderr is not None
    assert running.stdout is not None
    running.stderr.readline()
    running.stderr.close()
    assert running.stdout.read().startswith("labelr fit")
    running.stdout.close()
    assert running.wait(timeout=300) == 0


def attempt_that_ended(number: int, *, epochs: int, stopped: bool = False) -> optuna.trial.FrozenTrial:
    marks = {TICKET: 0, **({EPOCHS: epochs} if epochs else {}), **({STOPPED: True} if stopped else {})}
    attempt = optuna.trial.create_trial(state=TrialState.FAIL, user_attrs=marks)
    attempt.number = number
    return attempt


def test_only_deaths_that_came_no_farther_count() -> None:
    def deaths(*epochs: int) -> int:
        return count_deaths([attempt_that_ended(number, epochs=one) for number, one in enumerate(epochs)])

    assert deaths(0, 0, 0) == 3
    assert deaths(5, 5, 5) == 2
    assert deaths(5, 9, 14, 20) == 0
    assert count_deaths([attempt_that_ended(0, epochs=0), attempt_that_ended(1, epochs=0, stopped=True)]) == 1
