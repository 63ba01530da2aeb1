"""The history of a run and its TensorBoard events."""

import dataclasses
import importlib.util
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import TINY, Cli
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from labelr.fields import SettingError
from labelr.training import history
from labelr.training.fit import fit
from labelr.training.history import EpochRow, best_epoch


@pytest.mark.slow
def test_every_score_of_every_epoch_is_written(shapes: Path, tmp_path: Path) -> None:
    rows = fit(shapes, TINY, log_dir=tmp_path / "events").history.reset_index()
    read = EventAccumulator(str(tmp_path / "events"))
    read.Reload()
    assert set(read.Tags()["scalars"]) == set(rows)
    for name in ("val_map", "train_loss", "lr"):
        assert [event.value for event in read.Scalars(name)] == pytest.approx(rows[name].tolist())
    assert [event.step for event in read.Scalars("val_map")] == [1, 2]


def test_no_folder_writes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with history.event_log(None) as write:
        write({"loss": 1.0}, 1)
    assert not list(tmp_path.iterdir())


def test_missing_tensorboard_is_an_error_before_training(monkeypatch: pytest.MonkeyPatch) -> None:
    find_spec = importlib.util.find_spec
    monkeypatch.setattr(history, "find_spec", lambda name: None if name == "tensorboard" else find_spec(name))
    with pytest.raises(SettingError, match="not installed") as caught:
        fit("nowhere", TINY, log_dir="events")
    assert "pip install tensorboard" in caught.value.hint
    history.check_event_log(None)


def test_events_that_cannot_be_written_are_an_error_that_names_the_place(
    shapes: Path, tmp_path: Path, cli: Cli
) -> None:
    (tmp_path / "events").write_text("a file where the folder should be")
    done = cli("fit", shapes, "--epochs", 1, "--image-size", 32, "--width", 0.125, "--log-dir", tmp_path / "events")
    assert done.code == 1
    assert f"Error: cannot write {tmp_path / 'events'}: " in done.err
    assert "Traceback" not in done.err


@pytest.mark.parametrize(
    ("select", "row", "expected"),
    [
        ("map", {"val_map": 0.7, "val_f1": 0.2, "val_loss": 0.5}, 0.7),
        ("f1_micro", {"val_map": 0.7, "val_f1": 0.2, "val_loss": 0.5}, 0.2),
        ("f1_macro", {"val_f1": 0.7, "val_f1_macro": 0.3}, 0.3),
        ("exact_match", {"val_f1": 0.7, "val_exact_match": 0.1}, 0.1),
        ("map", {"val_map": np.nan, "val_f1": 0.2, "val_loss": 0.5}, -0.5),
        ("map", {"val_map": np.nan, "val_f1": np.nan, "val_loss": np.nan}, 3.0),
    ],
)
def test_best_epoch_is_chosen_by_the_selected_score_else_the_loss_else_the_last(
    select: str, row: dict[str, float], expected: float
) -> None:
    rest: dict[str, Any] = {field.name: 1.0 for field in dataclasses.fields(EpochRow) if field.name not in row}
    epoch = EpochRow(**{**rest, **row, "epoch": 3})
    assert epoch.criterion(select) == expected


@pytest.mark.parametrize(
    ("scores", "starts_with_head", "select", "best"),
    [
        ([0.5, 0.9, 0.9, 0.8], False, None, 4),
        ([0.5, 0.9, 0.9, 0.8], False, "map", 2),
        ([0.5, 0.9, 0.9, 0.8], True, None, 4),
        ([0.5, 0.9, 0.9, 0.8], True, "map", 4),
        ([0.7, 0.9, 0.8, 0.6], True, None, 3),
        ([0.9, 0.9, 0.8], True, None, 1),
        ([0.9], True, None, 1),
        ([np.nan, np.nan, np.nan], True, None, 3),
    ],
)
def test_best_epoch_is_the_last_or_the_one_selected_and_the_last_better_than_a_head(
    scores: list[float], starts_with_head: bool, select: str | None, best: int
) -> None:
    rows = [
        make_row(epoch, score, 1 if starts_with_head and epoch == 1 else 20) for epoch, score in enumerate(scores, 1)
    ]
    assert best_epoch(rows, select).epoch == best


def make_row(epoch: int, score: float, trained_layers: int) -> EpochRow:
    values = dict.fromkeys(("train_loss", "val_f1", "val_precision", "val_recall", "lr", "seconds"), 0.5)
    return EpochRow(
        epoch=epoch, val_map=score, val_loss=np.nan, images_per_second=1, waited_seconds=0, image_size=64,
        trained_layers=trained_layers, **values,
    )  # fmt: skip


@pytest.mark.parametrize(("trained_layers", "epoch"), [(1, 1), (9, 100)])
def test_line_of_an_epoch_takes_at_most_100_columns(trained_layers: int, epoch: int) -> None:
    row = replace(make_row(epoch, 0.5, trained_layers), val_loss=10.5, seconds=1234.5, images_per_second=12345)
    line = row.line(100 * epoch if epoch == 1 else epoch)
    assert ("head only" in line) == (trained_layers == 1)
    assert line.endswith("F1 0.500  1,234 s  12,345 images/s")
    assert len(line) <= 100
