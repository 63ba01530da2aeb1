"""Exact resume: a stopped run gives the same model, bit for bit, and only with the same data and settings."""

import json
import logging
import os
import shutil
import signal
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import TINY, Cli
from PIL import Image

import labelr
from labelr import signals
from labelr.config import TrainConfig
from labelr.data.synthetic import make_synthetic_dataset
from labelr.errors import LabelrError
from labelr.model import store
from labelr.model.predict import Model
from labelr.progress import Description, Total, Track
from labelr.training.fit import FitResult, fit
from labelr.training.run import reserve_folder

THREE: dict[str, Any] = {**TINY, "epochs": 3}
ONE: dict[str, Any] = {**TINY, "epochs": 1}
CLOCK = ("seconds", "images_per_second", "waited_seconds")


@pytest.fixture(autouse=True)
def handled() -> Iterator[None]:
    """SIGTERM is handled as in the command line."""
    before = signal.getsignal(signal.SIGTERM)
    signals.install_handlers(signal.SIGTERM, first=lambda: None)
    yield
    signal.signal(signal.SIGTERM, before)


def at(epoch: int, step: int, action: Callable[[], object]) -> Track:
    """Calls `action` before a step of an epoch, both counted from 1."""
    number = 0

    def track(items: Iterable[Any], description: Description, total: Total = None) -> Iterable[Any]:
        nonlocal number
        if not callable(description):
            return items
        number += 1
        return watched(items) if number == epoch else items

    def watched(items: Iterable[Any]) -> Iterator[Any]:
        for count, item in enumerate(items, start=1):
            if count == step:
                action()
            yield item

    return track


def stop() -> None:
    signal.raise_signal(signal.SIGTERM)


def stopped(data: Path | None, config: dict[str, Any], *, epoch: int = 2, step: int = 3, **options: Any) -> None:
    """A run that a signal stops in the middle of an epoch."""
    with pytest.raises(signals.Stopped) as caught:
        fit(data, config, track=at(epoch, step, stop), **options)
    assert caught.value.resume_option == "--resume"
    signals.install_handlers(signal.SIGTERM, first=lambda: None)


def essence(result: FitResult) -> str:
    """Everything that must not depend on whether a run was stopped."""
    info = result.model.info
    history = result.history.drop(columns=list(CLOCK))
    return repr((info.weights["sha256"], history.to_csv(), result.metrics, info.thresholds))


@pytest.fixture(scope="module")
def reference(shapes: Path, tmp_path_factory: pytest.TempPathFactory) -> FitResult:
    """The run that was never stopped."""
    return fit(shapes, THREE, output=tmp_path_factory.mktemp("models") / "reference")


@pytest.fixture(scope="module")
def interrupted(shapes: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that was stopped in its second epoch; read-only."""
    before = signal.getsignal(signal.SIGTERM)
    signals.install_handlers(signal.SIGTERM, first=lambda: None)
    folder = tmp_path_factory.mktemp("models") / "interrupted"
    stopped(shapes, THREE, output=folder)
    signal.signal(signal.SIGTERM, before)
    return folder


@pytest.fixture
def run(interrupted: Path, home: Path) -> Path:
    """A copy of that run in this test's models folder, which may be resumed."""
    return Path(shutil.copytree(interrupted, home / "models" / "run"))


@pytest.fixture(scope="module")
def interrupted_late(interrupted: Path, shapes: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same run, stopped again in its last step; read-only."""
    before = signal.getsignal(signal.SIGTERM)
    signals.install_handlers(signal.SIGTERM, first=lambda: None)
    folder = Path(shutil.copytree(interrupted, tmp_path_factory.mktemp("models") / "interrupted"))
    stopped(shapes, THREE, epoch=2, step=6, output=folder, resume=True)
    signal.signal(signal.SIGTERM, before)
    return folder


@pytest.fixture
def late_run(interrupted_late: Path, home: Path) -> Path:
    """A copy of that run in this test's models folder: resuming it takes little time."""
    return Path(shutil.copytree(interrupted_late, home / "models" / "run"))


@pytest.mark.slow
@pytest.mark.parametrize(("epoch", "step"), [(2, 6), (3, 6)])
def test_stopped_run_gives_the_same_model(reference: FitResult, shapes: Path, epoch: int, step: int) -> None:
    stopped(shapes, THREE, epoch=epoch, step=step, name="run")
    result = fit(shapes, THREE, name="run", resume=True)
    assert essence(result) == essence(reference)
    names = {path.name.split("-")[0] for path in result.model.path.iterdir()}
    assert names == {path.name.split("-")[0] for path in reference.model.path.iterdir()}


@pytest.mark.slow
def test_run_that_was_stopped_repeatedly_gives_the_same_model(reference: FitResult, shapes: Path) -> None:
    stopped(shapes, THREE, epoch=1, step=1, name="run")
    for epoch, step in [(1, 4), (2, 1), (1, 3)]:  # of what is left each time
        stopped(shapes, THREE, epoch=epoch, step=step, name="run", resume=True)
    assert essence(fit(shapes, THREE, name="run", resume=True)) == essence(reference)


@pytest.mark.slow
@pytest.mark.parametrize(
    "change",
    [
        {"optimizer": "adamw", "mixup": 0.3, "augment": "strong", "micro_batch": 3, "cache_limit": 0.0, "workers": 3},
        {"image_size": 96, "amp": False, "dropout": 0.6, "ema": 0.0, "val_fraction": 0.0},  # begins with smaller images
    ],
    ids="-".join,
)
def test_stopped_run_gives_the_same_model_with_other_settings(shapes: Path, change: dict[str, Any]) -> None:
    config = {**TINY, **change}
    reference = fit(shapes, config, name="reference")
    stopped(shapes, config, name="run")
    assert essence(fit(shapes, config, name="run", resume=True)) == essence(reference)


@pytest.mark.slow
def test_early_stopping_continues_counting(tmp_path: Path) -> None:
    data = tmp_path / "noise"
    data.mkdir()
    for number in range(20):
        noise = np.random.default_rng(number).integers(0, 256, (24, 24, 3), dtype=np.uint8)
        Image.fromarray(noise).save(data / f"{number}.png")
    (data / "labels.csv").write_text("filename,a\n" + "".join(f"{n}.png,{n % 2}\n" for n in range(20)))
    config = {**TINY, "epochs": 40, "patience": 2}
    reference = fit(data, config, name="reference")
    assert len(reference.history) < 40
    stopped(data, config, epoch=len(reference.history) - 1, step=1, name="run")
    assert essence(fit(data, config, name="run", resume=True)) == essence(reference)


@pytest.mark.slow
def test_finished_folds_are_not_trained_again(shapes: Path) -> None:
    config = {**ONE, "folds": 3}
    reference = fit(shapes, config, name="reference")
    stopped(shapes, config, epoch=2, step=2, name="run")  # in the second fold
    assert sorted(path.name for path in (store.models_folder() / "run" / "folds").iterdir()) == ["1.npz", "2"]
    epochs = []

    def count(items: Iterable[Any], description: Description, total: Total = None) -> Iterable[Any]:
        epochs.extend([total] if callable(description) else [])
        return items

    result = fit(shapes, config, name="run", resume=True, track=count)
    assert essence(result) == essence(reference)
    assert len(epochs) == 3  # of the second fold, of the third, and of the final model
    assert not (result.model.path / "folds").exists()
    stored = [json.loads((fitted.model.path / "metrics.json").read_text())["folds"] for fitted in (reference, result)]
    assert stored[0] == stored[1]


@pytest.mark.slow
def test_best_model_that_was_not_saved_before_a_kill_is_saved_on_resume(reference: FitResult, shapes: Path) -> None:
    folder = store.models_folder() / "run"
    with pytest.raises(LabelrError, match=r"cannot write .*config\.json"):  # after the checkpoint of the first epoch
        fit(shapes, THREE, name="run", track=at(1, 1, (folder / "config.json").mkdir))
    assert not (folder / "model.json").exists()
    (folder / "config.json").rmdir()
    assert essence(fit(shapes, THREE, name="run", resume=True)) == essence(reference)


def test_missing_model_is_an_error(shapes: Path, run: Path) -> None:
    (run / "model.json").unlink()
    with pytest.raises(LabelrError, match="the model so far is gone"):
        fit(shapes, THREE, name="run", resume=True)


@pytest.mark.parametrize("content", [b"", b"PK", b"x" * 1000], ids=["empty", "cut", "noise"])
def test_damaged_checkpoint_is_an_error_with_a_hint(shapes: Path, content: bytes, run: Path) -> None:
    (run / "checkpoint.pt").write_bytes(content)
    with pytest.raises(LabelrError, match=r"the checkpoint .* cannot be read") as caught:
        fit(shapes, THREE, name="run", resume=True)
    assert "--force" in caught.value.hint


def test_checkpoint_that_would_execute_code_is_refused(shapes: Path, tmp_path: Path, run: Path) -> None:
    class Evil:
        def __reduce__(self) -> tuple[Any, ...]:
            return os.mkdir, (str(tmp_path / "executed"),)

    torch.save({"format": 1, "network": Evil()}, run / "checkpoint.pt")
    with pytest.raises(LabelrError, match=r"the checkpoint .* cannot be read"):
        fit(shapes, THREE, name="run", resume=True)
    assert not (tmp_path / "executed").exists()


def test_other_settings_are_refused_with_their_names(shapes: Path, run: Path) -> None:
    with pytest.raises(LabelrError) as caught:
        fit(shapes, {**THREE, "lr": 0.1, "width": 0.25, "exclude": ["disc"]}, name="run", resume=True)
    for phrase in ("lr was auto and is 0.1", "width was 0.125 and is 0.25", "exclude was none and is disc"):
        assert phrase in caught.value.message
    assert "--force" in caught.value.hint


@pytest.mark.slow
def test_resolved_auto_settings_and_free_settings_may_be_given(
    reference: FitResult, shapes: Path, late_run: Path
) -> None:
    named = {**THREE, "lr": 4e-3, "mixup": 0.0, "checkpoint_minutes": 1.0, "cache_limit": 1.0, "workers": 2}
    assert essence(fit(shapes, named, name="run", resume=True)) == essence(reference)


@pytest.mark.slow
def test_resolved_auto_settings_are_kept_on_another_machine(shapes: Path, tmp_path: Path) -> None:
    config = {name: value for name, value in ONE.items() if name not in ("threads", "amp")}
    stopped(shapes, config, epoch=1, name="run")
    path = store.models_folder() / "run" / "run.json"
    run = json.loads(path.read_text())
    other = {"threads": run["settings"]["threads"] + 1, "amp": not run["settings"]["amp"]}
    path.write_text(json.dumps({**run, "settings": {**run["settings"], **other}}))
    config = fit(shapes, config, name="run", resume=True).model.info.config
    assert {name: config[name] for name in other} == other


@pytest.mark.slow
def test_epochs_may_grow_and_not_shrink(shapes: Path, late_run: Path) -> None:
    with pytest.raises(LabelrError, match="epochs was 3 and is 2"):
        fit(shapes, {**THREE, "epochs": 2}, name="run", resume=True)
    result = fit(shapes, {**THREE, "epochs": 4}, name="run", resume=True)
    assert result.history.index.tolist() == [1, 2, 3, 4]
    assert result.model.info.config["epochs"] == 4


def change_label(data: Path) -> None:
    lines = (data / "labels.csv").read_text().splitlines()
    cells = lines[3].split(",")
    lines[3] = ",".join([*cells[:-1], "0" if cells[-1] == "1" else "1"])
    (data / "labels.csv").write_text("\n".join(lines) + "\n")


def change_image(data: Path) -> None:
    shutil.copy(data / "images" / "00001.png", data / "images" / "00002.png")


def add_image(data: Path) -> None:
    shutil.copy(data / "images" / "00001.png", data / "images" / "new.png")
    with (data / "labels.csv").open("a") as file:
        file.write("new.png,1,0,0\n")


def drop_image(data: Path) -> None:
    lines = (data / "labels.csv").read_text().splitlines()
    (data / "labels.csv").write_text("\n".join([lines[0], *lines[2:]]) + "\n")


def rename_label(data: Path) -> None:
    text = (data / "labels.csv").read_text()
    (data / "labels.csv").write_text(text.replace("disc", "disk", 1))


def reverse_rows(data: Path) -> None:
    header, *rows = (data / "labels.csv").read_text().splitlines()
    (data / "labels.csv").write_text("\n".join([header, *rows[::-1]]) + "\n")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (change_label, "1 image with other labels: 00002.png"),
        (change_image, "1 image of another content: 00002.png"),
        (add_image, "1 image added: new.png"),
        (drop_image, "1 image gone or unreadable: 00000.png"),
        (rename_label, "the labels were horizontal_stripes, disc, triangle and are horizontal_stripes, disk, triangle"),
        (reverse_rows, "the images are listed in another order"),
    ],
)
def test_changed_data_is_refused_with_the_change(
    shapes: Path, run: Path, tmp_path: Path, change: Callable[[Path], None], message: str
) -> None:
    data = Path(shutil.copytree(shapes, tmp_path / "data"))
    change(data)
    with pytest.raises(LabelrError, match="the data has changed since the run") as caught:
        fit(data, THREE, name="run", resume=True)
    assert message in caught.value.message


@pytest.mark.slow
def test_moved_data_is_accepted(reference: FitResult, shapes: Path, late_run: Path, tmp_path: Path) -> None:
    moved = Path(shutil.copytree(shapes, tmp_path / "moved"))
    assert essence(fit(moved, THREE, name="run", resume=True)) == essence(reference)


@pytest.mark.slow
def test_same_run_again_is_an_error_that_names_resume_and_force(shapes: Path) -> None:
    stopped(shapes, ONE, epoch=1)
    with pytest.raises(LabelrError, match="there is an unfinished run in") as caught:
        fit(shapes, ONE)
    assert "`--resume`" in caught.value.hint
    assert "`--force`" in caught.value.hint
    again = fit(shapes, ONE, force=True).model
    assert (again.name, again.info.complete) == ("shapes", True)
    assert not (again.path / "checkpoint.pt").exists()


@pytest.mark.slow
def test_run_without_a_name_finds_its_own_unfinished_one(shapes: Path) -> None:
    other = {**ONE, "seed": 5}
    stopped(shapes, ONE, epoch=1)
    stopped(shapes, other, epoch=1)
    assert sorted(path.name for path in store.models_folder().iterdir()) == ["shapes", "shapes-2"]
    for config, name, seed in [(other, "shapes-2", 5), (ONE, "shapes", 0)]:
        model = fit(shapes, config, resume=True).model
        assert (model.name, model.info.config["seed"]) == (name, seed)


@pytest.mark.slow
def test_run_on_other_data_with_the_same_name_is_not_resumed(shapes: Path, tmp_path: Path) -> None:
    stopped(shapes, ONE, epoch=1)
    data = make_synthetic_dataset(tmp_path / "shapes", 40, 2)
    assert fit(data, ONE, resume=True).model.name == "shapes-2"


@pytest.mark.slow
def test_new_run_starts_if_there_is_none_to_resume(shapes: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", logger="labelr")
    assert len(fit(shapes, ONE, name="new", resume=True).history) == 1
    assert "there is no unfinished run to resume: starting a new one" in caplog.text


@pytest.mark.slow
def test_run_that_is_stopped_while_its_report_is_written_gives_the_same_calibration(shapes: Path) -> None:
    class Stop(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            if record.getMessage().startswith("report: "):
                stop()

    handler, library = Stop(), logging.getLogger("labelr")
    library.addHandler(handler)
    library.setLevel("INFO")
    try:
        with pytest.raises(signals.Stopped):
            fit(shapes, {**ONE, "report": True}, name="run")
    finally:
        library.removeHandler(handler)
        library.setLevel("NOTSET")
    signals.install_handlers(signal.SIGTERM, first=lambda: None)
    before = labelr.load("run").info
    assert before.complete
    after = fit(shapes, ONE, name="run", resume=True).model.info
    assert after.weights == before.weights
    assert (after.calibration, after.thresholds) == (before.calibration, before.thresholds)


@pytest.mark.slow
def test_table_of_suspects_of_a_resumed_run_is_replaced(shapes: Path, late_run: Path, tmp_path: Path) -> None:
    (tmp_path / "mine.csv").write_text("my,own,table\n")
    with pytest.raises(LabelrError, match=r"mine\.csv exists already"):
        fit(shapes, THREE, name="run", resume=True, suspects=tmp_path / "mine.csv")
    (tmp_path / "suspects.csv").write_text("filename,label,given,probability,rank\nof the run that was stopped,")
    fit(shapes, THREE, name="run", resume=True, suspects=tmp_path / "suspects.csv")
    assert (tmp_path / "suspects.csv").read_text().startswith("filename,label,given")
    assert fit(shapes, THREE, name="run", resume=True, suspects=tmp_path / "suspects.csv").model.name == "run"


@pytest.mark.parametrize("name", [None, "shapes"])
def test_finished_run_returns_its_result_again(
    trained: Model, shapes: Path, home: Path, name: str | None, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", logger="labelr")
    first = FitResult.load(trained)
    shutil.copytree(trained.path, home / "models" / "shapes")

    def track(items: Iterable[Any], description: Description, total: Total = None) -> Iterable[Any]:
        assert not callable(description), "trained again"
        return items

    again = fit(shapes, TINY, name=name, resume=True, track=track, suspects=store.models_folder() / "suspects.csv")
    assert "no table of suspects is written" in caplog.text
    assert again.history.equals(first.history)
    assert again.metrics == first.metrics
    assert again.model.info == first.model.info
    assert "is finished already, with the same data and settings" in caplog.text


def test_result_of_a_renamed_model_names_its_present_directory(trained: Model, home: Path) -> None:
    shutil.copytree(trained.path, home / "models" / "before")
    folder = store.rename(home / "models" / "before", "after")
    result = FitResult.load(store.load(folder)).to_json()
    assert (result["model"], result["name"]) == (str(folder), "after")


def test_finished_run_needs_the_model_that_it_started_from_no_more(trained: Model, shapes: Path, home: Path) -> None:
    source = Path(shutil.copytree(trained.path, home / "models" / "source"))
    config = {**TINY, "init": "source", "train": "head", "epochs": None, "width": None}
    first = fit(shapes, config, name="run")
    shutil.rmtree(source)
    assert fit(shapes, config, name="run", resume=True).metrics == first.metrics


def test_setting_of_another_version_does_not_hinder_a_finished_run(trained: Model, shapes: Path, home: Path) -> None:
    record = Path(shutil.copytree(trained.path, home / "models" / "run")) / "record.json"
    content = json.loads(record.read_text())
    record.write_text(json.dumps({**content, "settings": {**content["settings"], "old_setting": 1}}))
    assert fit(shapes, TINY, name="run", resume=True).model.name == "run"


@pytest.mark.slow
def test_settings_of_the_first_start_may_be_given_again_after_others_that_mean_the_same(shapes: Path) -> None:
    stopped(shapes, THREE, name="run")
    stopped(shapes, {**THREE, "device": "cpu"}, epoch=1, step=1, name="run", resume=True)
    assert fit(shapes, THREE, name="run", resume=True).model.info.config["device"] == "cpu"


def test_replacing_run_that_is_killed_before_its_first_model_can_be_started_again(
    trained: Model, shapes: Path, home: Path, tmp_path: Path
) -> None:
    folder = Path(shutil.copytree(trained.path, home / "models" / "run"))

    def keep() -> None:
        shutil.copytree(folder, tmp_path / "killed")  # what a kill at this point leaves

    wanted = fit(shapes, {**ONE, "lr": 0.01}, name="run", force=True, track=at(1, 1, keep))
    shutil.rmtree(folder)
    shutil.copytree(tmp_path / "killed", folder)
    assert store.load(folder).info == trained.info
    again = fit(shapes, {**ONE, "lr": 0.01}, name="run", resume=True)
    assert essence(again) == essence(wanted)
    assert again.model.info.config["lr"] == 0.01


def test_run_that_is_stopped_while_its_head_is_validated_ends_alike(trained: Model, shapes: Path, home: Path) -> None:
    def track(items: Iterable[Any], description: Description, total: Total = None) -> Iterable[Any]:
        try:
            yield from items
        finally:  # the weakest penalties are not tried
            if description == "fitting the last layer":
                stop()

    config = {**TINY, "init": str(trained.path)}
    del config["width"], config["image_size"]  # those of the model
    whole = fit(shapes, config, name="whole")
    with pytest.raises(signals.Stopped):
        fit(shapes, config, name="run", track=track)
    assert essence(fit(shapes, config, name="run", resume=True)) == essence(whole)


def test_what_vanishes_while_a_run_ends_is_written_again(trained: Model, shapes: Path, home: Path) -> None:
    folder = home / "models" / "run"

    def track(items: Iterable[Any], description: Description, total: Total = None) -> Iterable[Any]:
        if description == "scoring":
            for name in ("run.json", "splits.csv", "errors.csv"):
                (folder / name).unlink(missing_ok=True)
        return items

    fit(shapes, TINY, name="run", track=track)
    for name in ("splits.csv", "errors.csv"):
        assert (folder / name).read_bytes() == (trained.path / name).read_bytes()
    assert fit(shapes, TINY, name="run", resume=True).model.info.complete


def test_model_that_vanishes_while_its_report_is_written_is_an_error(shapes: Path, home: Path) -> None:
    def track(items: Iterable[Any], description: Description, total: Total = None) -> Iterable[Any]:
        if description == "writing report images":
            shutil.rmtree(home / "models" / "run")
        return items

    with pytest.raises(LabelrError, match=r"models/run vanished during the run"):
        fit(shapes, {**TINY, "report": True, "plot_format": "png"}, name="run", track=track)
    assert not (home / "models" / "run" / "record.json").exists()


def test_finished_run_is_not_the_result_of_other_settings(trained: Model, shapes: Path, home: Path) -> None:
    shutil.copytree(trained.path, home / "models" / "run")
    with pytest.raises(LabelrError, match=r"the finished run in .* other settings: epochs was 2 and is 3"):
        fit(shapes, {**TINY, "epochs": 3}, name="run", resume=True)


def test_resume_and_force_exclude_each_other_and_time_excludes_resume(shapes: Path) -> None:
    with pytest.raises(LabelrError, match="either resumed or started over"):
        fit(shapes, TINY, resume=True, force=True)
    with pytest.raises(LabelrError, match="a run with a time limit depends on the clock"):
        fit(shapes, {**TINY, "epochs": None, "time": 1}, resume=True)


def test_run_with_a_time_limit_has_no_checkpoint(shapes: Path) -> None:
    config = {**TINY, "epochs": None, "time": 1}
    with pytest.raises(signals.Stopped) as caught:
        fit(shapes, config, name="timed", track=at(2, 1, stop))
    assert caught.value.resume_option is None
    folder = store.models_folder() / "timed"
    assert not store.load_info(folder).complete
    assert not (folder / "checkpoint.pt").exists()
    signals.install_handlers(signal.SIGTERM, first=lambda: None)
    with pytest.raises(LabelrError, match="has no checkpoint to resume from"):
        fit(shapes, TINY, name="timed", resume=True)


@pytest.mark.parametrize(("minutes", "expected"), [(0.0, True), (60.0, False)])
def test_checkpoint_is_saved_within_a_long_epoch(shapes: Path, minutes: float, expected: bool) -> None:
    checkpoint = store.models_folder() / "run" / "checkpoint.pt"
    there: list[bool] = []

    def check_and_stop() -> None:
        there.append(checkpoint.exists())
        stop()

    with pytest.raises(signals.Stopped):
        fit(shapes, {**ONE, "checkpoint_minutes": minutes}, name="run", track=at(1, 3, check_and_stop))
    assert there == [expected]


def test_config_json_has_the_settings_of_the_model(trained: Model) -> None:
    assert TrainConfig.read(trained.path / "config.json").to_dict() == trained.info.config


def test_config_json_names_the_same_files_from_every_directory(
    shapes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copy(shapes / "labels.csv", tmp_path / "mine.csv")
    monkeypatch.chdir(tmp_path)
    config = fit(shapes, ONE, labels="mine.csv", images=os.path.relpath(shapes / "images")).model.path / "config.json"
    monkeypatch.chdir("/")
    again = TrainConfig.read(config)
    assert again.labels == (str(tmp_path / "mine.csv"),)
    assert again.images is not None
    assert Path(again.images).resolve() == (shapes / "images").resolve()


@pytest.mark.slow
def test_other_versions_are_logged(shapes: Path, caplog: pytest.LogCaptureFixture, late_run: Path) -> None:
    path = late_run / "run.json"
    saved = json.loads(path.read_text())
    path.write_text(json.dumps({**saved, "versions": {"labelr": "0.0.1", "torch": "1.0"}}))
    fit(shapes, THREE, name="run", resume=True)
    assert "started with labelr 0.0.1, torch 1.0 and is resumed with labelr" in caplog.text


@pytest.mark.parametrize("text", ["", "{", "[]", '{"format": 1}', '{"format": "1"}'])
def test_damaged_run_json_is_an_error_with_a_hint(shapes: Path, text: str, run: Path) -> None:
    (run / "run.json").write_text(text)
    with pytest.raises(LabelrError, match=r"run\.json is damaged") as caught:
        fit(shapes, THREE, name="run", resume=True)
    assert "--force" in caught.value.hint


@pytest.mark.slow
def test_damaged_run_is_replaced_with_force(shapes: Path, run: Path) -> None:
    (run / "run.json").write_text("{")
    assert fit(shapes, ONE, name="run", force=True).model.info.complete


def test_unfinished_run_is_listed_and_removed(cli: Cli, run: Path) -> None:
    row = json.loads(cli("models", "list", "--json").out)[0]
    assert (row["name"], row["complete"], row["resumable"], row["map_macro"]) == ("run", False, True, None)
    assert (row["epochs_done"], row["epochs"]) == (1, 3)
    listed = cli("models", "list")
    assert "unfinished, 1 of 3 epochs" in listed.out
    assert "`--resume`" in listed.err
    assert cli("models", "rm", "run").code == 0
    assert not run.exists()


def test_run_without_a_model_is_an_error_that_names_resume(cli: Cli, run: Path, shapes: Path) -> None:
    (run / "model.json").unlink()
    done = cli("tag", shapes, "--model", "run")
    assert (done.code, done.err.splitlines()[0]) == (1, "Error: 'run' has no model yet: its training was stopped")
    assert "`--resume`" in done.err
    assert json.loads(cli("models", "list", "--json").out)[0]["name"] == "run"
    assert cli("models", "rm", "run").code == 0


@pytest.mark.parametrize("kept", [True, False])
def test_unfinished_run_is_verified_as_unfinished_with_how_to_resume_it(cli: Cli, run: Path, kept: bool) -> None:
    if not kept:
        (run / "model.json").unlink()
    for name in ("run", run):
        found = cli("models", "verify", name)
        assert found.code == 3
        assert "unfinished, 1 of 3 epochs" in found.out
        assert found.err == "Hint: resume it with the same `labelr fit` command and `--resume`\n"
    (row,) = json.loads(cli("models", "verify", "run", "--json").out)
    assert (row["state"], row["damaged"], row["checked"]) == ("unfinished", None, None)
    assert cli("models", "verify").code == 0


def test_path_of_a_run_without_a_model_is_an_error_that_names_resume(
    cli: Cli, interrupted: Path, tmp_path: Path
) -> None:
    folder = Path(shutil.copytree(interrupted, tmp_path / "elsewhere"))
    (folder / "model.json").unlink()
    shown = cli("models", "show", folder)
    assert (shown.code, shown.err.splitlines()[0]) == (
        1, f"Error: '{folder}' has no model yet: its training was stopped",
    )  # fmt: skip
    assert "`--resume`" in shown.err


def test_model_of_a_running_run_is_not_removed(cli: Cli, home: Path) -> None:
    with reserve_folder("run", default_name="x") as folder:
        (folder / "run.json").write_text("{}")
        done = cli("models", "rm", "run")
        assert (done.code, folder.is_dir()) == (75, True)
    assert "a run is writing to" in done.err


def test_damaged_run_is_a_warning_in_the_list(cli: Cli, run: Path) -> None:
    (run / "run.json").write_text("{")
    done = cli("models", "list")
    assert "run.json is damaged" in done.err
    assert "the run is skipped" in done.err


@pytest.mark.slow
def test_force_deletes_nothing_before_the_new_run_starts(reference: FitResult, shapes: Path, late_run: Path) -> None:
    def fail() -> None:
        with pytest.raises(LabelrError, match="does not exist"):
            fit(shapes, {**THREE, "labels": [str(shapes / "lables.csv")]}, name="run", force=True)
        with pytest.raises(LabelrError, match="no device 'mps' here"):
            fit(shapes, {**THREE, "device": "mps"}, name="run", force=True)

    before = sorted(path.name for path in late_run.iterdir())
    fail()
    assert sorted(path.name for path in late_run.iterdir()) == before
    assert essence(fit(shapes, THREE, name="run", resume=True)) == essence(reference)
    fail()  # now that the run is finished
    assert essence(fit(shapes, THREE, name="run", resume=True)) == essence(reference)


@pytest.mark.slow
def test_changed_groups_and_splits_are_refused(shapes: Path, tmp_path: Path) -> None:
    data = Path(shutil.copytree(shapes, tmp_path / "data"))
    header, *rows = (data / "labels.csv").read_text().splitlines()

    def write(group: int, parts: str) -> None:
        lines = [f"{row},g{number // group},{parts[number % len(parts)]}" for number, row in enumerate(rows)]
        text = "\n".join([f"{header},patient,split", *lines]) + "\n"
        (data / "labels.csv").write_text(
            text.replace(",a\n", ",train\n").replace(",v\n", ",val\n").replace(",t\n", ",test\n")
        )

    config = {**THREE, "group": "patient"}
    write(1, "aaavt")
    stopped(data, config, epoch=1, name="run")
    write(2, "aaavt")
    with pytest.raises(LabelrError, match=r"\d images in another group"):
        fit(data, config, name="run", resume=True)
    write(1, "aaatv")
    with pytest.raises(LabelrError, match="24 images that would be in another split"):
        fit(data, config, name="run", resume=True)


def test_epochs_of_folds_do_not_grow(shapes: Path) -> None:
    config = {**TINY, "folds": 3}
    stopped(shapes, config, epoch=1, step=2, name="run")
    with pytest.raises(LabelrError, match="epochs was 2 and is 3"):
        fit(shapes, {**config, "epochs": 3}, name="run", resume=True)


@pytest.mark.slow
def test_run_that_was_killed_before_its_first_checkpoint_is_replaced(shapes: Path, run: Path) -> None:
    for path in run.iterdir():
        if path.name != "run.json":
            path.unlink()
    (run / ".labelr-abc.tmp").write_bytes(b"half a checkpoint")
    result = fit(shapes, {**ONE, "lr": 0.01}, name="run", resume=True)
    assert result.model.info.complete
    assert not list(run.glob(".labelr*"))


def test_checkpoint_of_another_network_is_an_error_with_a_hint(shapes: Path, run: Path) -> None:
    state = torch.load(run / "checkpoint.pt", weights_only=True)
    damages: list[dict[str, Any]] = [{"network": {}}, {"epoch": None, "losses": None}, {"history": [{"epoch": 1}]}]
    for damage in damages:
        torch.save({**state, **damage}, run / "checkpoint.pt")
        with pytest.raises(LabelrError, match=r"the checkpoint .* is damaged") as caught:
            fit(shapes, THREE, name="run", resume=True)
        assert "--force" in caught.value.hint


def test_permanent_error_does_not_suggest_resume(shapes: Path, run: Path, caplog: pytest.LogCaptureFixture) -> None:
    (run / "checkpoint.pt").write_bytes(b"x")
    with pytest.raises(LabelrError):
        fit(shapes, THREE, name="run", resume=True)
    assert "resume it with the same command" not in caplog.text


@pytest.mark.slow
def test_other_micro_batch_is_used_with_a_warning(
    shapes: Path, late_run: Path, caplog: pytest.LogCaptureFixture
) -> None:
    result = fit(shapes, {**THREE, "micro_batch": 4}, name="run", resume=True)
    assert result.model.info.config["micro_batch"] == 4
    assert "another micro_batch changes the result" in caplog.text


def test_history_of_the_replaced_model_does_not_count(trained: Model, cli: Cli, shapes: Path, home: Path) -> None:
    shutil.copytree(trained.path, home / "models" / "run")
    os.utime(home / "models" / "run" / "history.csv", (1, 1))
    stopped(shapes, {**THREE, "seed": 3}, epoch=1, step=2, name="run", force=True)
    row = json.loads(cli("models", "list", "--json").out)[0]
    assert (row["resumable"], row["epochs_done"]) == (True, 0)


def test_binary_run_json_does_not_stop_the_list(cli: Cli, run: Path) -> None:
    (run / "run.json").write_bytes(b"\xff\xfe")
    done = cli("models", "list")
    assert done.code == 0
    assert "run.json is damaged" in done.err


def test_running_run_is_listed_as_running(cli: Cli, run: Path) -> None:
    (run / "run.json").rename(run / "kept")
    with reserve_folder("run", default_name="x", resume=False, force=True) as folder:
        (folder / "kept").rename(folder / "run.json")
        row = json.loads(cli("models", "list", "--json").out)[0]
        assert (row["running"], row["resumable"]) == (True, False)
        assert "running, 1 of 3 epochs" in cli("models", "list").out
        assert "running, 1 of 3 epochs" in cli("models", "verify", "run").out
