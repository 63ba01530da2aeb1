"""The study of a search: its queue, dead workers, what it searches, and its journal."""

import uuid
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from conftest import TINY, put
from optuna.trial import TrialState

from labelr.config import MachineOptions
from labelr.errors import BusyError, LabelrError
from labelr.model.device import pick_runtime
from labelr.training.fit import load_splits
from labelr.tuning.space import Plan
from labelr.tuning.study import Study, Target, identity_of, start_study
from labelr.tuning.trials import PROGRESS, REQUEUED, WORKER, read_trials

POINTS = [{"lr": 0.1}, {"lr": 0.2}]


@pytest.fixture
def study(tmp_path: Path) -> Iterator[Study]:
    with closing(Study("some", tmp_path / "study", None)) as opened:
        yield opened


def claim(study: Study, worker: str) -> int:
    """The number of the attempt that a worker claims."""
    attempt = study.shared.ask()
    attempt.set_user_attr(WORKER, worker)
    return attempt.number


def test_points_are_enqueued_once(study: Study) -> None:
    study.enqueue(POINTS[:1])
    study.enqueue(POINTS)
    study.enqueue(POINTS)
    assert [attempt.system_attrs["fixed_params"] for attempt in study.attempts(TrialState.WAITING)] == POINTS


def test_attempt_of_a_dead_worker_is_repeated_and_that_of_a_living_one_is_not(study: Study) -> None:
    study.enqueue(POINTS)
    dead, alive = uuid.uuid4().hex, uuid.uuid4().hex
    with study.working(alive):
        numbers = claim(study, dead), claim(study, alive)
        study.reap_dead_workers()
        study.enqueue(POINTS)
        assert study.has_workers()
        states = [attempt.state for attempt in study.attempts()]
        assert [states[number] for number in numbers] == [TrialState.FAIL, TrialState.RUNNING]
        assert [attempt.system_attrs["fixed_params"] for attempt in study.attempts(TrialState.WAITING)] == POINTS[:1]
    assert not study.has_workers()


def test_point_is_given_up_after_three_deaths(study: Study) -> None:
    for _ in range(3):
        study.enqueue(POINTS[:1])
        claim(study, "dead")
        study.reap_dead_workers()
    study.enqueue(POINTS[:1])
    assert not study.attempts(TrialState.WAITING)
    (trial,) = read_trials(study.shared)
    assert (trial.state, trial.reason) == ("failed", "its process died 3 times; memory may not suffice")


@pytest.mark.parametrize("marks", [[{PROGRESS: {"epochs": epochs}} for epochs in (1, 2, 3)], [{REQUEUED: True}] * 3])
def test_point_is_not_given_up_if_it_makes_progress_or_was_stopped(study: Study, marks: list[dict[str, Any]]) -> None:
    for attributes in marks:
        study.enqueue(POINTS[:1])
        attempt = study.shared.ask()
        for name, value in attributes.items():
            attempt.set_user_attr(name, value)
        study.reap_dead_workers()
    study.enqueue(POINTS[:1])
    assert len(study.attempts(TrialState.WAITING)) == 1


def test_incomplete_last_line_of_a_journal_is_removed(study: Study) -> None:
    study.enqueue(POINTS)
    with (study.folder / "study.log").open("ab") as file:
        file.write(b'{"op_code":4,"worker_id')
    with closing(Study("some", study.folder, None)) as again:
        again.enqueue(POINTS)
        assert len(again.attempts()) == 2


@pytest.mark.parametrize("text", ["chapter 1\nlast words", "thesis", '{"op_code":0}\nlast words'])
def test_file_that_is_no_journal_is_refused_unchanged(tmp_path: Path, text: str) -> None:
    path = put(tmp_path, "study.log", text)
    with pytest.raises(LabelrError, match="is damaged"):
        Study("some", tmp_path, None)
    assert path.read_text() == text


@pytest.mark.parametrize("name", ["trials", "workers", "study.log"])
def test_link_in_a_study_is_refused(tmp_path: Path, name: str) -> None:
    target = put(tmp_path, "thesis.txt", "last words")
    put(tmp_path / "study", "trials.csv", "")
    (tmp_path / "study" / name).symlink_to(target if "." in name else tmp_path)
    with pytest.raises(LabelrError, match=f"{name} is a link"):
        Study("some", tmp_path / "study", None)
    assert target.read_text() == "last words"


def test_only_checkpoints_of_finished_trials_are_deleted(study: Study) -> None:
    study.enqueue(POINTS)
    study.shared.tell(claim(study, uuid.uuid4().hex), 0.5)
    kept = [put(study.trials_folder / name, "checkpoint.pt", "") for name in ("1-holiday", "2-0", "1-")]
    gone = put(study.trials_folder / "1-0", "checkpoint.pt", "")
    study.remove_checkpoints()
    assert all(path.exists() for path in kept)
    assert not gone.exists()


def test_question_for_workers_changes_nothing(study: Study) -> None:
    path = put(study.folder / "workers", "poetry.lock", "theirs")
    assert not study.has_workers()
    assert path.read_text() == "theirs"


def test_damaged_journal_is_an_error(shapes: Path, home: Path) -> None:
    put(home / "studies" / "mine", "study.log", "damaged\n" * 3)
    with pytest.raises(LabelrError, match=r"the study in .* is damaged"):
        start(shapes, {"lr": [1e-3, 4e-3]}, "mine")


# --- which study a search continues -----------------------------------------------------------------------------------


def start(
    data: Path, space: dict[str, Any], name: str | None = None, *, force: bool = False, finished: bool = True,
    **settings: Any,
) -> str:  # fmt: skip
    """The name of the study that a search uses, in which it perhaps finishes a trial."""
    config = {**TINY, **{key: settings.pop(key) for key in list(settings) if key in ("width", "test_fraction")}}
    config |= {key: settings.pop(key) for key in list(settings) if key in ("threads", "cache_limit")}
    plan = Plan.of([data], space, config, settings)
    machine = pick_runtime(MachineOptions(device="cpu", threads=plan.config.threads, workers=1))
    dataset = load_splits([data], plan.config)
    resolved = plan.config.resolved(machine.options, num_train=len(dataset.split_rows("train")), is_synthetic=False)
    with closing(start_study(Target(name, force=force), "shapes", identity_of(dataset, plan, resolved))) as study:
        study.enqueue([{}])
        if finished:
            study.shared.tell(study.shared.ask(), 0.5)
        return study.name


@pytest.mark.parametrize(
    ("space", "settings", "message"),
    [
        ({"lr": [1e-3, 2e-3]}, {}, r"lr was 0.001,0.004 and is 0.001,0.002"),
        ({"lr": [1e-3, 4e-3]}, {"width": 0.25}, r"width was 0.125 and is 0.25"),
        (
            {"lr": [1e-3, 4e-3]},
            {"metric": "f1_micro", "seeds": 2},
            r"metric was map and is f1_micro; .* was 1 and is 2",
        ),
        ({"lr": [1e-3, 4e-3]}, {"test_fraction": 0.3}, "their split into train, val and test have changed"),
    ],
)
def test_study_of_another_search_is_refused_with_the_difference(
    shapes: Path, space: dict[str, Any], settings: dict[str, Any], message: str
) -> None:
    start(shapes, {"lr": [1e-3, 4e-3]}, "mine")
    with pytest.raises(LabelrError, match=message) as caught:
        start(shapes, space, "mine", **settings)
    assert "--study" in caught.value.hint


def test_study_of_other_images_is_refused(shapes: Path, tmp_path: Path) -> None:
    start(shapes, {"lr": [1e-3, 4e-3]}, "mine")
    lines = (shapes / "labels.csv").read_text().splitlines()[:-1]
    put(tmp_path / "shorter", "labels.csv", "\n".join(lines) + "\n")
    (tmp_path / "shorter" / "images").symlink_to(shapes / "images")
    with pytest.raises(LabelrError, match="the number of images was 60 and is 59"):
        start(tmp_path / "shorter", {"lr": [1e-3, 4e-3]}, "mine")


def test_study_of_a_given_name_without_a_finished_trial_is_replaced(
    shapes: Path, home: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", logger="labelr")
    start(shapes, {"lr": [1e-3, 4e-3]}, "mine", finished=False)
    with (
        closing(Study("mine", home / "studies" / "mine", None)) as study,
        study.working("someone"),
        pytest.raises(LabelrError, match="is of another search"),
    ):
        start(shapes, {"dropout": [0.1, 0.2]}, "mine")
    start(shapes, {"dropout": [0.1, 0.2]}, "mine")
    assert (
        "the study 'mine' has no finished trial, and starts over: dropout was 0.3 and is 0.1,0.2; lr was 0.001,0.004"
        in caplog.text
    )
    with pytest.raises(LabelrError, match="is of another search"):
        start(shapes, {"lr": [1e-3, 4e-3]}, "mine")


def test_settings_of_the_machine_may_change(shapes: Path) -> None:
    start(shapes, {"lr": [1e-3, 4e-3]}, "mine")
    assert start(shapes, {"lr": [1e-3, 4e-3]}, "mine", threads=2, cache_limit=1.0) == "mine"


def test_search_without_a_name_finds_its_own_study(shapes: Path) -> None:
    names = [start(shapes, {setting: [0.1, 0.2]}) for setting in ("lr", "dropout", "lr", "dropout", "mixup")]
    assert names == ["shapes", "shapes-2", "shapes", "shapes-2", "shapes-3"]


def test_force_starts_over_unless_the_study_is_in_use(shapes: Path, home: Path) -> None:
    start(shapes, {"lr": [1e-3, 4e-3]}, "mine")
    with closing(Study("mine", home / "studies" / "mine", None)) as study, study.working("someone"):
        with pytest.raises(BusyError, match="the study 'mine' is in use"):
            start(shapes, {"dropout": [0.1, 0.2]}, "mine", force=True)
        assert len(study.attempts()) == 1
    start(shapes, {"dropout": [0.1, 0.2]}, "mine", force=True)
    with closing(Study("mine", home / "studies" / "mine", None)) as study:
        assert study.identity["settings"]["dropout"] == "0.1,0.2"


# --- databases --------------------------------------------------------------------------------------------------------


def test_database_that_does_not_answer_is_an_error_without_its_password() -> None:
    from labelr.tuning.study import connect

    pytest.importorskip("pg8000")
    with pytest.raises(LabelrError, match=r"cannot be reached: .*refused") as caught:
        connect("postgresql://me:secret@localhost:1/nothing")
    assert "secret" not in str(caught.value)
