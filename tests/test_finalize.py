"""From trained weights to a complete model: calibration, thresholds, metrics."""

import json
import logging
import shutil
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import TINY

from labelr.config import ReadOptions, TrainConfig
from labelr.data.dataset import Dataset
from labelr.data.load import load_dataset
from labelr.data.synthetic import make_synthetic_dataset
from labelr.errors import LabelrError
from labelr.model import store
from labelr.model.calibration import UNCALIBRATED, calibrate, fit_calibration
from labelr.model.info import ModelInfo
from labelr.model.predict import Model
from labelr.scoring.evaluate import predict_dataset
from labelr.scoring.thresholds import fit_thresholds
from labelr.training.finalize import DecisionRule, compare_with_earlier, replaced_model
from labelr.training.fit import fit, load_splits
from labelr.training.run import Run

GOOD = {**TINY, "epochs": 6, "test_fraction": 0.5}
BAD = {**TINY, "epochs": 1, "lr": 1e-8, "test_fraction": 0.5}


def validation(model: Model, data: Path) -> Dataset:
    """The images of the model's validation split."""
    dataset = load_dataset([data], ReadOptions())
    rows = (model.path / "splits.csv").read_text().splitlines()[1:]
    named = {row.split(",")[0] for row in rows if row.split(",")[1] == "val"}
    return dataset.take([row for row, file in enumerate(dataset.files) if file in named])


def test_calibration_and_thresholds_are_fitted_on_the_validation_split(trained: Model, shapes: Path) -> None:
    val = validation(trained, shapes)
    raw = predict_dataset(replace(trained, info=replace(trained.info, calibration=UNCALIBRATED)), val)
    calibration = fit_calibration(raw, val.targets)
    assert trained.info.calibration.temperature == pytest.approx(calibration.temperature)
    assert trained.info.calibration.temperature != 1
    expected = fit_thresholds(calibrate(raw, calibration), val.targets)
    assert trained.info.thresholds == pytest.approx(expected)
    assert set(trained.info.thresholds) != {0.5}


def test_calibration_and_thresholds_are_saved(trained: Model) -> None:
    saved = json.loads((trained.path / "model.json").read_text())
    assert saved["calibration"] == asdict(trained.info.calibration)
    assert saved["thresholds"] == list(trained.info.thresholds)
    report = json.loads((trained.path / "metrics.json").read_text())
    assert {"intervals", "baselines", "f1_at", "few_positives"} <= set(report)
    assert [row["threshold"] for row in report["per_label"]] == list(trained.info.thresholds)


@pytest.mark.slow
def test_target_recall_is_reached_on_validation_images(shapes: Path) -> None:
    model = fit(shapes, {**TINY, "target_recall": 1.0, "val_fraction": 0.3}).model
    val = validation(model, shapes)
    preds = predict_dataset(model, val) >= model.thresholds()
    assert preds[val.targets == 1].all()
    assert not preds.all()


@pytest.mark.slow
def test_labels_that_cannot_promise_the_target_precision_are_named(
    shapes: Path, caplog: pytest.LogCaptureFixture
) -> None:
    model = fit(shapes, {**TINY, "target_precision": 0.9, "val_fraction": 0.3, "report": True}).model
    assert model.info.thresholds == (0.9, 0.9, 0.9)  # 22 predictions would be needed, among 18 images
    assert "a precision of 0.9 cannot be promised for 3 of 3 labels, from a probability of 0.9 on: " in caplog.text
    assert "at least 22 predictions on validation images" in caplog.text
    assert json.loads((model.path / "metrics.json").read_text())["missed_target"] == list(model.labels)
    page = (model.path / "report" / "report.html").read_text()
    assert f"Labels that miss the target precision or recall, 3 of 3 labels: {', '.join(model.labels)}." in page


@pytest.mark.parametrize("setting", [{"target_recall": 0.9}, {"patience": 1}, {"select": "map"}])
def test_what_needs_validation_images_is_an_error_before_training_without_any(
    shapes: Path, home: Path, setting: dict[str, Any]
) -> None:
    with pytest.raises(LabelrError, match="no validation images") as caught:
        fit(shapes, {**TINY, "val_fraction": 0, **setting})
    assert "--val-fraction" in caught.value.hint
    assert list((home / "models").iterdir()) == []


@pytest.mark.parametrize(("folds", "advice"), [(None, "use `--folds`, or label more"), (3, ": label more")])
def test_labels_that_miss_the_target_are_counted_with_what_can_be_done(
    folds: int | None, advice: str, caplog: pytest.LogCaptureFixture
) -> None:
    rule = DecisionRule(UNCALIBRATED, np.full(5, 0.9), np.ones(5, dtype=bool))
    with caplog.at_level("INFO"):
        rule.log_summary(tuple("abcde"), TrainConfig(target_precision=0.9, folds=folds))
    assert "; threshold 0.900" in caplog.text
    assert "for 5 of 5 labels, from a probability of 0.9 on: a, b, c, and 2 more; " in caplog.text
    assert f"{advice} images" in caplog.text


def test_targets_of_one_kind_give_no_calibration_and_default_thresholds() -> None:
    probs = np.random.default_rng(0).random((5, 2)).astype(np.float32)
    rule = DecisionRule.fit(probs, np.zeros((5, 2), np.float32), TrainConfig())
    assert rule.calibration == UNCALIBRATED
    assert rule.thresholds.tolist() == [0.5, 0.5]


# --- the comparison with an earlier model ----------------------------------------------------------------------------


@pytest.fixture(scope="session")
def many(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data set of 200 synthetic images with 2 labels; nobody changes it."""
    return make_synthetic_dataset(tmp_path_factory.mktemp("data") / "many", 200, 2)


@pytest.fixture(scope="session")
def good(many: Path, tmp_path_factory: pytest.TempPathFactory) -> Model:
    """A model of `many` that has learned something, with half of the images as its test split; nobody changes it."""
    return fit(many, GOOD, output=tmp_path_factory.mktemp("models") / "good").model


@pytest.fixture(scope="session")
def bad(good: Model, many: Path, tmp_path_factory: pytest.TempPathFactory) -> Model:
    """A newer model of `many` that has learned nothing; nobody changes it."""
    return fit(many, BAD, output=tmp_path_factory.mktemp("models") / "bad").model


@pytest.fixture(scope="session")
def splits(many: Path) -> Dataset:
    """The images of `many`, split as for both models."""
    return load_splits([many], TrainConfig.of(BAD))


@pytest.fixture
def earlier(good: Model, home: Path) -> Path:
    """The good model under the name `good`."""
    return Path(shutil.copytree(good.path, home / "models" / "good"))


def run_in(folder: Path, model: Model) -> Run:
    """The run that has trained a model into a folder."""
    return Run(folder=folder, config=TrainConfig.of(model.info.config), runtime=model.runtime)


def compare(new: Model, name: str, dataset: Dataset, replaced: ModelInfo | None = None) -> Path:
    """Gives a new model a name, and compares it with earlier ones as `fit` does in the end."""
    folder = Path(shutil.copytree(new.path, store.models_folder() / name))
    compare_with_earlier(run_in(folder, new), replace(new, path=folder), dataset, replaced)
    return folder


def change_score(folder: Path, score: float) -> None:
    """Changes the mAP that a model says it has."""
    info = store.load_info(folder)
    assert info.scores is not None
    store.save_info(folder, replace(info, scores={**info.scores, "map_macro": score}))


def sentence_of(caplog: pytest.LogCaptureFixture) -> logging.LogRecord:
    """The only message about an earlier model."""
    (record,) = (record for record in caplog.records if "than good" in record.message or "with good" in record.message)
    return record


@pytest.mark.slow
def test_worse_model_is_warned_of_with_the_command_that_keeps_the_earlier_one(
    many: Path, earlier: Path, caplog: pytest.LogCaptureFixture
) -> None:
    bad = fit(many, BAD, name="bad").model
    warning = sentence_of(caplog)
    assert warning.levelname == "WARNING"
    assert warning.message.startswith("bad is worse than good: mAP ")
    assert "on 100 images that neither has learned from" in warning.message
    assert "Without `--model`, bad is used now, since it is the newest" in warning.message
    assert warning.message.endswith("keep good with `labelr models default good`")
    assert store.find() == bad.path


@pytest.mark.slow
def test_worse_model_is_only_mentioned_where_a_default_is_set_and_is_what_it_is_compared_with(
    bad: Model, splits: Dataset, earlier: Path, caplog: pytest.LogCaptureFixture
) -> None:
    shutil.copytree(earlier, earlier.with_name("zebra"))
    store.pin(earlier)
    caplog.set_level("INFO")
    compare(bad, "bad", splits)
    assert sentence_of(caplog).levelname == "INFO"
    assert "bad is worse than good: mAP" in caplog.text
    assert "labelr models default" not in caplog.text


@pytest.mark.slow
def test_better_model_says_how_it_becomes_the_default(
    good: Model, bad: Model, splits: Dataset, home: Path, caplog: pytest.LogCaptureFixture
) -> None:
    store.pin(Path(shutil.copytree(bad.path, home / "models" / "bad")))
    caplog.set_level("INFO")
    compare(good, "good", splits)
    assert "good is better than bad: mAP" in caplog.text
    assert "Without `--model`, bad is used; change that with `labelr models default good`" in caplog.text


@pytest.mark.slow
def test_model_that_cannot_be_compared_without_a_test_split_is_warned_of(
    bad: Model, splits: Dataset, earlier: Path, caplog: pytest.LogCaptureFixture
) -> None:
    compare(bad, "bad", replace(splits, splits=np.zeros(len(splits), np.int64)))
    assert "bad cannot be compared with good: there is no test split. Without `--model`, bad" in caplog.text
    assert "`labelr models default good`" in caplog.text


@pytest.mark.slow
@pytest.mark.parametrize(
    ("damage", "message"),
    [("weights", "its digest is not the one in model.json; the model is skipped"), ("splits", ""), ("model", "")],
)
def test_model_is_not_compared_with_a_damaged_one(
    bad: Model, splits: Dataset, earlier: Path, caplog: pytest.LogCaptureFixture, damage: str, message: str
) -> None:
    for path in earlier.glob(f"{damage}*"):
        path.write_bytes(b"")
    compare(bad, "bad", splits)
    assert "good: mAP" not in caplog.text
    assert message in caplog.text  # of warnings
    assert "`labelr models default good`" not in caplog.text


@pytest.mark.slow
def test_next_best_model_is_compared_where_the_best_is_damaged_or_has_learned_from_all_images(
    bad: Model, splits: Dataset, earlier: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for name in ("learned", "damaged"):
        change_score(Path(shutil.copytree(earlier, earlier.with_name(name))), 1.0)
    table = earlier.with_name("learned") / "splits.csv"
    table.write_text(table.read_text().replace(",test,", ",train,"))
    next(earlier.with_name("damaged").glob("weights-*")).write_bytes(b"")
    compare(bad, "bad", splits)
    assert "bad is worse than good: mAP" in caplog.text
    assert "cannot be compared" not in caplog.text


@pytest.mark.slow
def test_model_is_compared_where_the_default_is_gone(
    bad: Model, splits: Dataset, earlier: Path, caplog: pytest.LogCaptureFixture
) -> None:
    gone = Path(shutil.copytree(earlier, earlier.with_name("gone")))
    store.pin(gone)
    shutil.rmtree(gone)
    caplog.set_level("INFO")
    compare(bad, "bad", splits)
    assert "bad is worse than good: mAP" in caplog.text
    (warning,) = (record.message for record in caplog.records if "default model" in record.message)
    assert f"the default model cannot be used: there is no directory {gone}; choose another default" in warning


@pytest.mark.slow
def test_default_that_is_trained_again_is_compared_with_its_former_score_and_not_called_the_newest(
    many: Path, earlier: Path, caplog: pytest.LogCaptureFixture
) -> None:
    store.pin(Path(shutil.copytree(earlier, earlier.with_name("bad"))))
    fit(many, BAD, name="bad", force=True)
    replaced, warning = (record.message for record in caplog.records if record.levelname == "WARNING")
    former = (store.load_info(earlier).scores or {})["map_macro"]
    assert f"the model that it replaced had mAP {former:.3f} on its own test images" in replaced
    assert warning.startswith("bad is worse than good: mAP ")
    assert "Without `--model`, bad is used now, since it is the default; keep good" in warning


@pytest.mark.slow
def test_lower_score_of_a_replaced_model_is_only_mentioned(
    good: Model, bad: Model, splits: Dataset, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    compare(bad, "good", splits, replaced=replace(good.info, scores={**(good.info.scores or {}), "map_macro": 0.0}))
    (told,) = (record for record in caplog.records if "replaced" in record.message)
    assert told.levelname == "INFO"
    assert "had mAP 0.000 on its own test images" in told.message


@pytest.mark.slow
def test_model_of_other_images_is_neither_replaced_nor_compared(
    trained: Model, shapes: Path, splits: Dataset, earlier: Path, caplog: pytest.LogCaptureFixture
) -> None:
    others = load_splits([shapes], TrainConfig.of(TINY))
    assert replaced_model(run_in(earlier, trained), splits) == store.load_info(earlier)
    assert replaced_model(run_in(earlier, trained), others) is None
    caplog.set_level("INFO")
    compare(trained, "new", others)
    assert "good" not in caplog.text
