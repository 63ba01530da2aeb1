"""The work of a worker process, done in the process of the test: which points it trains, and how they end."""

import time
from collections.abc import Iterable
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import TINY
from optuna.trial import TrialState
from torch import nn

from labelr import signals
from labelr.config import MachineOptions
from labelr.data.dataset import Dataset
from labelr.errors import LabelrError
from labelr.model.device import pick_runtime
from labelr.training.fit import fit, load_splits
from labelr.tuning.space import Plan
from labelr.tuning.study import Study
from labelr.tuning.trials import POINT, WORKER, Trial, attempts_by_point, read_trials
from labelr.tuning.worker import Worker, make_pruner

ONE_EPOCH = {**TINY, "epochs": 1}


def work(
    data: Path, folder: Path, space: dict[str, Any], config: dict[str, Any] | None = None, **settings: Any
) -> list[Trial]:
    """The trials of a study in a folder after a worker has worked on it."""
    plan = Plan.of([data], space, ONE_EPOCH if config is None else config, settings)
    with closing(Study("some", folder, None)) as study:
        make_worker(plan, study).run()
        return read_trials(study.shared)


def make_worker(plan: Plan, study: Study) -> Worker:
    machine = pick_runtime(MachineOptions(device="cpu", threads=1, workers=1))
    return Worker(plan, study, load(plan), machine)


def load(plan: Plan) -> Dataset:
    return load_splits([Path(path) for path in plan.data], plan.config)


def points_of(trials: Iterable[Trial]) -> dict[int, dict[str, Any]]:
    return {trial.number: dict(trial.settings) for trial in trials}


@pytest.mark.slow
def test_each_point_is_trained_with_each_seed_and_scored_by_the_mean(shapes: Path, tmp_path: Path) -> None:
    trials = work(shapes, tmp_path / "study", {"lr": [1e-3, 4e-3]}, seeds=2, metric="f1_macro")
    for trial in trials:
        assert len(trial.scores) == 2
        assert trial.scores[0] != trial.scores[1]
        assert trial.score == pytest.approx(sum(trial.scores) / 2)
        assert trial.epochs == 2
    _, history, _ = fit(shapes, {**ONE_EPOCH, "lr": trials[0].settings["lr"], "select": "f1_macro"})
    assert history["val_f1_macro"].iloc[0] == pytest.approx(trials[0].scores[0], abs=1e-12)


@pytest.mark.slow
def test_random_points_of_ranges_depend_on_the_seed_alone(shapes: Path, tmp_path: Path) -> None:
    space = {"lr": "1e-4..1e-2:log", "batch_size": "8..16"}
    first, second, other = (
        points_of(work(shapes, tmp_path / name, space, {**ONE_EPOCH, "seed": seed}, sampler="random", trials=2))
        for name, seed in (("first", 0), ("second", 0), ("other", 1))
    )
    assert first == second
    assert first[1]["lr"] != first[2]["lr"]
    assert first != other


@pytest.mark.slow
def test_tpe_search_continues_to_more_trials(shapes: Path, tmp_path: Path) -> None:
    first = points_of(work(shapes, tmp_path / "study", {"lr": "1e-4..1e-2:log"}, trials=2))
    more = points_of(work(shapes, tmp_path / "study", {"lr": "1e-4..1e-2:log"}, trials=3))
    assert first.items() < more.items()
    assert len(more) == 3


@pytest.mark.slow
@pytest.mark.parametrize("sampler", ["grid", "random"])
def test_each_point_of_lists_is_tried_once(shapes: Path, tmp_path: Path, sampler: str) -> None:
    trials = work(shapes, tmp_path / "study", {"lr": [1e-3, 2e-3], "dropout": [0, 0.5]}, sampler=sampler)
    assert [trial.state for trial in trials] == ["complete"] * 4
    assert len({tuple(trial.settings.items()) for trial in trials}) == 4


def test_trial_that_cannot_be_trained_fails_with_its_reason(shapes: Path, tmp_path: Path) -> None:
    config = {**ONE_EPOCH, "optimizer": "adamw", "lr": 1.0}
    trials = work(shapes, tmp_path / "study", {"weight_decay": [1e30, 0.05]}, config)
    by_setting = {trial.settings["weight_decay"]: trial for trial in trials}
    assert (by_setting[0.05].state, by_setting[1e30].state) == ("complete", "failed")
    assert by_setting[1e30].reason.startswith("the loss became")


@pytest.mark.slow
def test_trials_that_fall_behind_are_pruned(tmp_path: Path) -> None:
    from labelr.data.synthetic import make_synthetic_dataset

    data = make_synthetic_dataset(tmp_path / "more", 120, 3)
    trials = work(data, tmp_path / "study", {"lr": [1e-8, 2e-8, 4e-3, 5e-3]}, {**TINY, "epochs": 9}, prune=True)
    pruned = [trial for trial in trials if trial.state == "pruned"]
    assert 1 <= len(pruned) <= 3
    assert all(trial.epochs < 9 for trial in pruned)
    best = max((trial for trial in trials if trial.state == "complete"), key=lambda trial: trial.score)
    assert best.settings["lr"] in (4e-3, 5e-3)


@pytest.mark.parametrize(
    ("space", "config", "first_rung"),
    [
        ({"lr": "0.1,0.2"}, {"epochs": 20}, 3),
        ({"epochs": "10,40"}, {}, 6),
        ({"epochs": "10..20"}, {}, 3),
        ({"lr": "0.1,0.2"}, {}, 9),
    ],
)
def test_first_rung_is_a_share_of_the_longest_trial(
    shapes: Path, space: dict[str, Any], config: dict[str, Any], first_rung: int
) -> None:
    pruner = make_pruner(Plan.of([shapes], space, config, {"prune": True}), auto_epochs=60)
    assert vars(pruner)["_min_resource"] == first_rung


def test_first_rung_counts_the_epochs_of_all_layers_where_the_head_alone_is_tried_first(
    shapes: Path, tmp_path: Path
) -> None:
    settings = {"backbone": "efficientnet-lite0", "train": "head,all", "prune": True}
    plan = Plan.of([shapes], None, {**TINY, "epochs": None, "width": None, "image_size": 64}, settings)
    with closing(Study("some", tmp_path / "study", None)) as study:
        make_worker(plan, study)
        assert vars(study.shared.pruner)["_min_resource"] == 5  # 15 % of 31 epochs


@pytest.mark.slow
def test_score_that_cannot_be_evaluated_fails_the_trial(shapes: Path, tmp_path: Path) -> None:
    plan = Plan.of([shapes], {"lr": [1e-3, 4e-3]}, ONE_EPOCH, {})
    data = load(plan)
    data.targets[data.split_rows("val")] = np.nan
    with closing(Study("some", tmp_path / "study", None)) as study:
        Worker(plan, study, data, pick_runtime(MachineOptions(device="cpu", threads=1, workers=1))).run()
        trials = read_trials(study.shared)
    assert {trial.reason for trial in trials} == {"map cannot be evaluated on the validation images"}


@pytest.mark.slow
def test_stopped_attempt_is_returned_to_the_queue_and_resumed(
    shapes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = Plan.of([shapes], {"lr": [1e-3, 4e-3]}, {**TINY, "epochs": 3}, {})
    with closing(Study("some", tmp_path / "study", None)) as study:
        worker = make_worker(plan, study)
        original = study.storage.set_trial_intermediate_value

        def stop(*arguments: Any) -> None:
            original(*arguments)
            raise signals.Stopped(15)

        with monkeypatch.context() as patch:
            patch.setattr(study.storage, "set_trial_intermediate_value", stop)
            with pytest.raises(signals.Stopped):
                worker.run()
        (attempt,) = [attempt for attempt in study.attempts() if attempt.intermediate_values]
        assert attempt.state == TrialState.FAIL
        assert list((tmp_path / "study" / "trials").iterdir())  # its checkpoint
        make_worker(plan, study).run()
        trials = read_trials(study.shared)
    assert [(trial.state, trial.epochs) for trial in trials] == [("complete", 3)] * 2


@pytest.mark.slow
def test_time_ends_a_search_and_returns_its_point_to_the_queue(shapes: Path, tmp_path: Path) -> None:
    plan = Plan.of([shapes], {"lr": [1e-3, 4e-3]}, {**TINY, "epochs": 5000}, {})
    with closing(Study("some", tmp_path / "study", None)) as study:
        worker = make_worker(plan, study)
        worker.plan = replace(plan, deadline=time.time() + 1)
        worker.run()
        (attempt,) = [attempt for attempt in study.attempts() if attempt.state != TrialState.WAITING]
        assert attempt.state == TrialState.FAIL
        assert attempt.intermediate_values
        assert {trial.state for trial in read_trials(study.shared)} == {"waiting"}


@pytest.mark.slow
def test_point_that_two_machines_enqueue_is_trained_once(shapes: Path, tmp_path: Path) -> None:
    plan = Plan.of([shapes], {"lr": [1e-3, 4e-3]}, ONE_EPOCH, {})
    with closing(Study("some", tmp_path / "study", None)) as study:
        for _ in range(2):
            for number, point in enumerate(plan.space.grid(0)):
                study.shared.enqueue_trial(dict(point), user_attrs={POINT: number})
        make_worker(plan, study).run()
        complete = study.attempts(TrialState.COMPLETE)
    assert sorted(attempt.user_attrs[POINT] for attempt in complete) == [0, 1]


@pytest.mark.slow
def test_attempt_that_others_have_failed_is_repeated(
    shapes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = Plan.of([shapes], {"lr": [1e-3, 4e-3]}, ONE_EPOCH, {})
    with closing(Study("some", tmp_path / "study", None)) as study:
        worker = make_worker(plan, study)
        original = study.storage.set_trial_intermediate_value
        failed: list[int] = []

        def fail_first(*arguments: Any) -> None:
            if not failed:
                (running,) = study.attempts(TrialState.RUNNING)
                failed.append(running.number)
                study.shared.tell(running.number, state=TrialState.FAIL)
            original(*arguments)

        monkeypatch.setattr(study.storage, "set_trial_intermediate_value", fail_first)
        worker.run()
        attempts = attempts_by_point(study.attempts())
        trials = read_trials(study.shared)
    assert [trial.state for trial in trials] == ["complete"] * 2
    assert sorted(map(len, attempts.values())) == [1, 2]


@pytest.mark.slow
def test_error_of_the_machine_ends_the_worker_and_keeps_the_point(shapes: Path, tmp_path: Path) -> None:
    folder = tmp_path / "study"
    folder.mkdir()
    (folder / "trials").write_text("in the way")
    with pytest.raises(LabelrError, match="cannot write"):
        work(shapes, folder, {"lr": [1e-3, 4e-3]})
    (folder / "trials").unlink()
    trials = work(shapes, folder, {"lr": [1e-3, 4e-3]})
    assert [trial.state for trial in trials] == ["complete"] * 2
    with closing(Study("some", folder, None)) as study:
        assert all(WORKER in attempt.user_attrs for attempt in study.attempts())


@pytest.mark.slow
def test_lost_gpu_ends_the_worker_and_keeps_the_point(shapes: Path, tmp_path: Path) -> None:
    def fail(module: nn.Module, inputs: object) -> None:
        raise torch.AcceleratorError("CUDA error: unspecified launch failure")

    handle = nn.modules.module.register_module_forward_pre_hook(fail)
    try:
        with pytest.raises(torch.AcceleratorError):
            work(shapes, tmp_path / "study", {"lr": [1e-3, 4e-3]})
    finally:
        handle.remove()
    trials = work(shapes, tmp_path / "study", {"lr": [1e-3, 4e-3]})
    assert [trial.state for trial in trials] == ["complete"] * 2
