"""TensorBoard events."""

import importlib.util
from pathlib import Path

import pytest
from conftest import TINY, Cli
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from labelr.fields import SettingError
from labelr.training import events
from labelr.training.fit import fit


def test_every_score_of_every_epoch_is_written(drawn: Path, tmp_path: Path) -> None:
    history = fit(drawn, TINY, log_dir=tmp_path / "events").history
    read = EventAccumulator(str(tmp_path / "events"))
    read.Reload()
    assert set(read.Tags()["scalars"]) == set(history[0])
    for name in ("val_map", "train_loss", "lr"):
        assert [event.value for event in read.Scalars(name)] == pytest.approx([row[name] for row in history])
    assert [event.step for event in read.Scalars("val_map")] == [1, 2]


def test_no_folder_writes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with events.event_log(None) as write:
        write({"loss": 1.0}, 1)
    assert not list(tmp_path.iterdir())


def test_missing_tensorboard_is_told_before_anything_is_done(monkeypatch: pytest.MonkeyPatch) -> None:
    find_spec = importlib.util.find_spec
    monkeypatch.setattr(events, "find_spec", lambda name: None if name == "tensorboard" else find_spec(name))
    with pytest.raises(SettingError, match="not installed") as caught:
        fit("nowhere", TINY, log_dir="events")
    assert "pip install tensorboard" in caught.value.hint
    events.check_event_log(None)


def test_events_that_cannot_be_written_are_an_error_that_names_the_place(drawn: Path, tmp_path: Path, cli: Cli) -> None:
    (tmp_path / "events").write_text("a file where the folder should be")
    done = cli("fit", drawn, "--epochs", 1, "--image-size", 32, "--width", 0.125, "--log-dir", tmp_path / "events")
    assert done.code == 1
    assert f"Error: cannot write {tmp_path / 'events'}: " in done.err
    assert "Traceback" not in done.err
