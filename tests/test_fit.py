"""Training: its result, its reproducibility, and rare labels."""

import csv
import json
import os
import re
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from conftest import TINY, TINY_OPTIONS, Cli
from PIL import Image

import labelr
from labelr.data.synthetic import make_synthetic_dataset
from labelr.errors import LabelrError
from labelr.model import store
from labelr.model.predict import Model
from labelr.progress import Description, Total
from labelr.training.fit import fit


def write_dataset(folder: Path, rows: dict[str, list[str]], labels: list[str]) -> Path:
    """Noise images with the cells given for each."""
    folder.mkdir(parents=True)
    lines = [",".join(["filename", *labels])]
    for number, (name, cells) in enumerate(rows.items()):
        noise = np.random.default_rng(number).integers(0, 256, (24, 24, 3), dtype=np.uint8)
        Image.fromarray(noise).save(folder / name)
        lines.append(",".join([name, *cells]))
    (folder / "labels.csv").write_text("\n".join(lines) + "\n")
    return folder


def weights(model: Model) -> str:
    return model.info.weights["sha256"]


def test_result_is_model_history_and_metrics(shapes: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", logger="labelr")
    result = labelr.fit(shapes, TINY)
    model, history, metrics = result
    pd.testing.assert_frame_equal(history, pd.read_csv(model.path / "history.csv", index_col="epoch"))
    assert repr(result).startswith("<FitResult: model shapes, 2 epochs; test: mAP ")
    assert "images_per_second" in result._repr_html_()
    assert history.index.tolist() == [1, 2]
    assert re.search(r"trained for 2 epochs in \d+ s, \d+\.\d % of it spent waiting for images", caplog.text)
    assert history["waited_seconds"].between(0, history["seconds"]).all()
    assert 0 <= metrics["f1_micro"] <= 1
    assert model.labels == ("horizontal_stripes", "disc", "triangle")
    assert labelr.load(model.name).info == model.info


def test_fit_without_data_uses_synthetic_images(home: Path) -> None:
    model, _, _ = labelr.fit(config={**TINY, "num_samples": 40, "num_labels": 2})
    assert model.name == "synthetic"
    assert model.labels == ("horizontal_stripes", "disc")
    assert len(list((home / "synthetic").rglob("*.png"))) == 40


@pytest.mark.slow
def test_same_seed_gives_the_same_model_bit_for_bit(trained: Model, shapes: Path) -> None:
    assert weights(fit(shapes, TINY).model) == weights(trained)
    assert weights(fit(shapes, {**TINY, "seed": 1}).model) != weights(trained)


def test_resolved_auto_settings_are_saved(trained: Model) -> None:
    config = trained.info.config
    assert config["device"] in ("cpu", "cuda", "mps")
    assert isinstance(config["amp"], bool)
    assert (config["image_size"], config["threads"], config["workers"]) == (32, 1, 1)


def test_model_info_describes_the_training_data(trained: Model, shapes: Path) -> None:
    info = trained.info
    assert info.complete
    assert info.scored_on == "test"
    assert set(info.versions) == {"labelr", "torch"}
    with (shapes / "labels.csv").open() as file:
        column = [row["disc"] for row in csv.DictReader(file)]
    assert info.counts["disc"] == {"positives": column.count("1"), "negatives": column.count("0"), "unknown": 0}


def test_history_and_splits_are_written(trained: Model, shapes: Path) -> None:
    with (trained.path / "history.csv").open() as file:
        assert [row["epoch"] for row in csv.DictReader(file)] == ["1", "2"]
    with (trained.path / "splits.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert {row["image"] for row in rows} == {path.name for path in (shapes / "images").iterdir()}
    assert {row["split"] for row in rows} == {"train", "val", "test"}
    assert all(len(row["digest"]) == 64 for row in rows)


def test_metrics_json_holds_the_metrics_of_the_test_split(trained: Model) -> None:
    report = json.loads((trained.path / "metrics.json").read_text())
    assert report["scored_on"] == "test"
    assert report["metrics"] == trained.info.scores
    assert [row["label"] for row in report["per_label"]] == list(trained.labels)


@pytest.mark.slow
def test_saved_epoch_is_the_last_or_the_best_by_validation(shapes: Path) -> None:
    settings = {**TINY, "epochs": 5, "lr": 0.02, "seed": 1}
    assert fit(shapes, settings).model.info.best_epoch == 5
    model, history, _ = fit(shapes, {**settings, "select": "f1_macro"}, name="selected")
    assert model.info.best_epoch == history["val_f1_macro"].idxmax()
    stopping = fit(shapes, {**settings, "patience": 1}, name="stopping")
    assert stopping.model.info.config["select"] == "map"
    assert stopping.model.info.best_epoch == stopping.history["val_map"].idxmax()


def test_labels_that_no_image_has_are_an_error(tmp_path: Path) -> None:
    rows = {f"{number}.png": ["0"] for number in range(12)}
    with pytest.raises(LabelrError, match="no image has any label"):
        fit(write_dataset(tmp_path / "d", rows, ["a"]), TINY)


def test_training_accepts_unknown_cells_and_labels_that_a_split_lacks_or_no_image_has(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    cells = ["1", "0", ""]
    rows = {f"{number}.png": [cells[number % 3], "1" if number == 0 else "0", "0"] for number in range(36)}
    model, history, metrics = fit(write_dataset(tmp_path / "d", rows, ["a", "rare", "never"]), TINY)
    assert model.labels == ("a", "rare")
    assert "left out: 1 label without a positive: never" in caplog.text
    assert model.info.counts["a"] == {"positives": 12, "negatives": 12, "unknown": 12}
    assert np.isfinite(history["train_loss"].iloc[-1])
    report = json.loads((model.path / "metrics.json").read_text())
    assert report["per_label"][1]["ap"] is None
    assert report["not_evaluable"] == ["rare"]
    assert 0 <= metrics["map_macro"] <= 1


@pytest.mark.slow
def test_without_a_test_split_metrics_are_of_the_validation_split(shapes: Path) -> None:
    model, history, metrics = fit(shapes, {**TINY, "test_fraction": 0})
    assert model.info.scored_on == "val"
    assert metrics["map_macro"] == pytest.approx(history.loc[model.info.best_epoch, "val_map"])


def test_too_few_images_are_an_error(tmp_path: Path) -> None:
    with pytest.raises(LabelrError, match="1 image is left to train on, of 1 with labels"):
        fit(write_dataset(tmp_path / "d", {"0.png": ["1"]}, ["a"]), TINY)


@pytest.mark.slow
def test_broken_images_are_left_out_and_listed(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    data = make_synthetic_dataset(tmp_path / "d", 40, 2)
    (data / "images" / "00005.png").write_bytes(b"")
    model, _, _ = fit(data, TINY)
    assert (model.path / "errors.csv").read_text() == "filename,reason\n00005.png,empty file (0 bytes)\n"
    assert "1 of 40 images cannot be opened: 00005.png (empty file (0 bytes)); they are left out" in caplog.text
    with pytest.raises(LabelrError, match=r"1 of 40 images cannot be opened"):
        fit(data, {**TINY, "on_error": "fail"})


def test_more_than_a_fifth_of_broken_images_stops(tmp_path: Path) -> None:
    data = make_synthetic_dataset(tmp_path / "d", 20, 2)
    for number in range(5):
        (data / "images" / f"0000{number}.png").write_bytes(b"x")
    with pytest.raises(LabelrError, match=r"5 of 20 images cannot be opened"):
        fit(data, TINY)


@pytest.mark.slow
def test_infinite_loss_stops_training_and_keeps_the_model_of_the_epoch_before(
    shapes: Path, caplog: pytest.LogCaptureFixture
) -> None:
    def track(items: Iterable[Any], description: Description, total: Total = None) -> Iterable[Any]:
        if not callable(description) or not description().startswith("epoch 2/3"):
            return items
        return (batch._replace(targets=torch.full_like(batch.targets, np.inf)) for batch in items)

    with pytest.raises(LabelrError, match=r"the loss became .* in epoch 2, step 1"):
        fit(shapes, {**TINY, "epochs": 3, "mixup": 0}, name="spoilt", track=track)
    model = labelr.load("spoilt")
    assert f"the model of epoch 1 is in {model.path}" in caplog.text
    assert not model.info.complete
    assert all(tensor.isfinite().all() for tensor in model.module.state_dict().values())


@pytest.mark.slow
def test_time_limit_that_passes_before_training_is_an_error(shapes: Path) -> None:
    def track(items: Iterable[Any], description: Description, total: Total = None) -> Iterable[Any]:
        time.sleep(0.7)
        return items

    with pytest.raises(LabelrError, match="the time was over before training started") as caught:
        labelr.fit(shapes, {**TINY, "epochs": None, "time": 0.01}, track=track)
    assert "`time`" in caught.value.hint
    assert not store.models_folder().joinpath("shapes").exists()


@pytest.mark.slow
def test_mixed_precision_and_full_precision_learn_alike(shapes: Path, trained: Model) -> None:
    other = fit(shapes, {**TINY, "amp": not trained.info.config["amp"]}).history
    expected = pd.read_csv(trained.path / "history.csv")["train_loss"].iloc[-1]
    assert other["train_loss"].iloc[-1] == pytest.approx(expected, abs=0.05)


class Clock:
    """A monotonic clock that only a training step advances, and the track that does it."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, seconds_per_step: float) -> None:
        self.now = self.start = time.monotonic()
        self._seconds_per_step = seconds_per_step
        monkeypatch.setattr(time, "monotonic", lambda: self.now)

    def track(self, items: Iterable[Any], description: Description, total: Total = None) -> Iterable[Any]:  # noqa: ARG002 - as `Track`
        for item in items:
            self.now += self._seconds_per_step if callable(description) else 0
            yield item


@pytest.mark.slow
def test_time_limit_ends_the_run_and_the_learning_rate(shapes: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock(monkeypatch, seconds_per_step=1)
    model, history, _ = fit(shapes, {**TINY, "epochs": None, "time": 1}, track=clock.track)
    assert 20 < clock.now - clock.start <= 60  # some time is reserved for what follows the last step
    assert 3 < len(history) <= 10
    assert history["lr"].iloc[-1] < 0.1 * history["lr"].max()
    assert model.info.config["epochs"] is None


def test_shortest_time_limit_gives_a_model(shapes: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock(monkeypatch, seconds_per_step=10)
    model, history, _ = fit(shapes, {**TINY, "epochs": None, "time": 0.01}, track=clock.track)
    assert len(history) == 1
    assert model.info.complete


@pytest.mark.slow
def test_run_starts_with_small_images(shapes: Path) -> None:
    _, history, metrics = fit(shapes, {**TINY, "image_size": 128})
    assert history["image_size"].tolist() == [64, 96]
    assert np.isfinite(metrics["map_macro"])


@pytest.mark.slow
def test_compiled_network_learns_alike(shapes: Path) -> None:
    losses = [
        fit(shapes, {**TINY, "compile": wanted, "amp": False, "dropout": 0.0}).history["train_loss"].iloc[-1]
        for wanted in (True, False)
    ]  # without dropout, whose compiled random numbers are others
    assert losses[0] == pytest.approx(losses[1], abs=0.001)


@pytest.mark.slow
def test_network_that_cannot_be_compiled_is_an_error_with_a_hint(process: Cli, shapes: Path) -> None:
    environment = {**os.environ, "CXX": "/nowhere/c++", "TORCHINDUCTOR_FORCE_DISABLE_CACHES": "1"}
    done = process("fit", shapes, *TINY_OPTIONS, "--device", "cpu", "--compile", env=environment)
    assert done.code == 1
    assert "Error: the network cannot be compiled here: " in done.err
    assert "Hint: leave `--compile` out" in done.err
    assert "Traceback" not in done.err


def test_failed_run_leaves_no_directory(tmp_path: Path, home: Path) -> None:
    with pytest.raises(LabelrError, match="does not exist"):
        fit(tmp_path / "nowhere", TINY, name="gone")
    assert list((home / "models").iterdir()) == []


@pytest.mark.slow
def test_training_learns_synthetic_patterns() -> None:
    config = {
        "synthetic": 600, "num_labels": 3, "image_size": 48, "epochs": 12, "width": 0.25, "lr": 4e-3, "report": False,
    }  # fmt: skip
    _, _, metrics = fit(config=config)
    assert metrics["f1_micro"] > 0.85


@pytest.mark.slow
def test_photographs_are_learned_from(scenes: Path) -> None:
    model, history, metrics = fit(scenes / "train", {"image_size": 64, "width": 0.5, "epochs": 5})
    assert metrics["map_macro"] > 0.6
    assert history["train_loss"].iloc[-1] < history["train_loss"].iloc[0]
    assert model.labels == ("desert", "mountains", "sea", "sunset", "trees")


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device here")
def test_training_on_a_gpu_learns_synthetic_patterns() -> None:
    model, _, metrics = fit(config={"synthetic": 600, "num_labels": 3, "epochs": 20, "lr": 4e-3, "device": "cuda"})
    assert model.info.config["amp"]
    assert metrics["f1_micro"] > 0.85
