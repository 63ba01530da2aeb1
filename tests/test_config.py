"""Settings: their checks, their names, and how they are combined and read."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from labelr.config import MachineOptions, TagOptions, TrainConfig, applicable
from labelr.errors import LabelrError
from labelr.fields import ALIASES, SettingError

CPU = MachineOptions(device="cpu", amp=False, threads=1, workers=1)
GPU = MachineOptions(device="cuda", amp=True, threads=1, workers=1)


def test_names_from_training_scripts_are_accepted() -> None:
    config = TrainConfig.of({"num_epochs": 3, "learning_rate": 0.01, "batch_size": 4, "num_samples": 50})
    assert (config.epochs, config.lr, config.batch_size, config.synthetic) == (3, 0.01, 4, 50)


def test_every_alias_means_an_existing_setting() -> None:
    assert set(ALIASES.values()) <= {field.name for field in dataclasses.fields(TrainConfig)}
    assert not set(ALIASES) & {field.name for field in dataclasses.fields(TrainConfig)}


def test_unknown_name_is_an_error_with_a_suggestion() -> None:
    with pytest.raises(SettingError) as caught:
        TrainConfig.of({"epoch": 3})
    assert caught.value.message == "unknown setting 'epoch'"
    assert "`epochs`" in caught.value.hint


def test_setting_given_under_two_names_is_an_error() -> None:
    with pytest.raises(SettingError, match="given twice"):
        TrainConfig.of({"epochs": 3, "num_epochs": 4})


@pytest.mark.parametrize(
    ("setting", "value", "expected"),
    [
        ("epochs", 0, "epochs: expected a whole number from 1, got 0"),
        ("epochs", 2.5, "epochs: expected a whole number from 1, got 2.5"),
        ("epochs", True, "epochs: expected a whole number from 1, got True"),
        ("dropout", 1, "dropout: expected a number from 0 to below 1, got 1"),
        ("lr", float("nan"), "lr: expected a number from 1e-08 to below 10, got nan"),
        ("lr", "fast", "lr: expected a number from 1e-08 to below 10, got 'fast'"),
        ("num_labels", 13, "num_labels: expected a whole number from 1 to 12, got 13"),
        ("stem", "wide", "stem: expected one of deep, classic, got 'wide'"),
        ("flip", 1, "flip: expected true or false, got 1"),
        ("flip", None, "flip: expected true or false, got None"),
        ("labels", 3, "labels: expected a list of paths, got 3"),
        ("labels", ["a", 3], "labels: expected a path, got 3"),
        ("only", ["a", 3], "only: expected text, got 3"),
        ("images", {"a": [1] * 100}, "images: expected a path, got dict"),
        ("layout", ["w" * 60], "layout: expected one of auto,"),
        ("layout", "w" * 90, f"got '{'w' * 59}..."),
    ],
)
def test_invalid_value_is_an_error_with_the_expectation(setting: str, value: object, expected: str) -> None:
    with pytest.raises(SettingError) as caught:
        TrainConfig.of({setting: value})
    assert expected in caught.value.message
    assert len(caught.value.message) < 300


@pytest.mark.parametrize(
    ("setting", "value", "stored"),
    [
        ("epochs", np.int64(3), 3),
        ("epochs", np.array(3), 3),
        ("dropout", np.float32(0.25), 0.25),
        ("lr", np.int32(1), 1),
        ("flip", np.bool_(False), False),
        ("stem", np.str_("classic"), "classic"),
        ("only", np.array(["dog", "cat"]), ("dog", "cat")),
    ],
)
def test_values_of_numpy_are_stored_as_those_of_python(setting: str, value: object, stored: object) -> None:
    found = getattr(TrainConfig.of({setting: value}), setting)
    assert found == stored
    assert type(found) is type(stored)


def test_number_of_numpy_out_of_range_is_shown_as_one_of_python() -> None:
    with pytest.raises(SettingError, match=r"epochs: expected a whole number from 1, got 0$"):
        TrainConfig.of(epochs=np.int64(0))
    with pytest.raises(SettingError, match=r"epochs: expected a whole number from 1, got 3\.5$"):
        TrainConfig.of(epochs=np.float64(3.5))


@pytest.mark.parametrize(("setting", "value", "fraction"), [("target_precision", 90, "0.9"), ("dropout", 15, "0.15")])
def test_percent_where_a_fraction_is_expected_hints_at_it(setting: str, value: float, fraction: str) -> None:
    with pytest.raises(SettingError) as caught:
        TrainConfig.of({setting: value})
    assert caught.value.hint == f"give a fraction: {fraction}"
    with pytest.raises(SettingError) as caught:
        TrainConfig.of({"epochs": 0})
    assert not caught.value.hint


def test_decimal_comma_is_shown_as_a_point() -> None:
    with pytest.raises(SettingError) as caught:
        TagOptions.of(threshold="0,5")
    assert caught.value.hint == "write 0.5"


def test_none_is_a_value_only_of_settings_with_auto() -> None:
    assert TrainConfig(image_size=None, threads=None, amp=None).image_size is None
    with pytest.raises(SettingError, match="seed: expected a whole number from 0 to 2,147,483,647, got None"):
        TrainConfig.of({"seed": None})


def test_epochs_and_time_exclude_each_other() -> None:
    assert TrainConfig(time=5).epochs is None
    with pytest.raises(SettingError, match="epochs and time exclude each other") as caught:
        TrainConfig(time=5, epochs=3)
    assert "`--epochs` or `--time`" in caught.value.hint


@pytest.mark.parametrize(
    ("settings", "hint"),
    [
        ({"lr": [1e-3, 1e-4]}, "try several values with `labelr.tune(data, lr=[0.001, 0.0001])`"),
        ({"lr": "1e-4..1e-2"}, "try several values with `labelr tune DATA --lr 1e-4..1e-2`"),
        ({"augment": "none,light"}, "try several values with `labelr tune DATA --augment none,light`"),
        ({"lr": np.array([1e-3, 1e-4])}, "try several values with `labelr.tune(data, lr=[0.001, 0.0001])`"),
        ({"lr": {1e-3}}, "try several values with `labelr.tune(data, lr={0.001})`"),
        ({"seed": [1, 2]}, ""),
    ],
)
def test_several_values_of_a_setting_that_can_be_searched_hint_at_tune(settings: dict[str, object], hint: str) -> None:
    with pytest.raises(SettingError, match="expected") as caught:
        TrainConfig.of(settings)
    assert caught.value.hint == hint


@pytest.mark.parametrize("name", ["labels", "images"])
def test_folder_of_images_and_label_file_may_be_in_a_bucket(name: str) -> None:
    assert "s3://bucket/x" in repr(TrainConfig.of({name: "s3://bucket/x"}))
    with pytest.raises(LabelrError, match=r"https://example\.org/x is an address"):
        TrainConfig.of({name: "https://example.org/x"})


@pytest.mark.parametrize("name", ["splits", "init", "weights"])
def test_address_is_no_path(name: str) -> None:
    with pytest.raises(LabelrError, match="s3://bucket/x is an address"):
        TrainConfig.of({name: "s3://bucket/x"})


def test_path_is_stored_as_text() -> None:
    assert TrainConfig(images=Path("photos"), labels=[Path("a.csv")]) == TrainConfig(images="photos", labels=("a.csv",))  # type: ignore[arg-type]


def test_format_is_one_of_its_choices() -> None:
    with pytest.raises(SettingError, match=r"format: expected one of csv, table, .*, got 'csvv'") as caught:
        TagOptions.of(format=["table", "csvv"])
    assert "`csv`" in caught.value.hint
    assert TagOptions.of(format="txt", append=True).formats == ("txt",)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"format": "table", "in_place": True}, "no files of single images"),
        ({"always": "holiday"}, "always: csv and table hold only what the model predicts"),
        ({"sort_as": "copy"}, "sort_as: there is no folder to sort into"),
        ({"append": True}, "only txt files can be appended to"),
        ({"top_k": 1, "min_labels": 2}, "min_labels 2 is more than top_k 1"),
        ({"threshold": 0.5, "threshold_file": "t.csv"}, "threshold and threshold_file exclude each other"),
    ],
)
def test_contradicting_options_of_tagging_are_an_error(settings: dict[str, object], message: str) -> None:
    with pytest.raises(SettingError, match=message):
        TagOptions.of(settings)


@pytest.mark.parametrize("train", ["all", "last"])
def test_one_epoch_does_not_suffice_for_layers_below_the_head(train: str) -> None:
    with pytest.raises(SettingError, match="the first epoch trains the head alone"):
        TrainConfig.of(train=train, epochs=1, backbone="efficientnet-lite0")


def test_head_is_fitted_in_one_epoch() -> None:
    config = TrainConfig(train="head", epochs=10, backbone="efficientnet-lite0")
    assert config.resolved(MachineOptions(device="cpu"), num_train=100, is_synthetic=False).epochs == 1


def test_fractions_must_leave_something_to_train_on() -> None:
    with pytest.raises(SettingError, match="leave nothing to train on"):
        TrainConfig(val_fraction=0.5, test_fraction=0.5)


def test_config_is_made_of_a_config_a_mapping_or_nothing() -> None:
    config = TrainConfig(epochs=3)
    assert TrainConfig.of(config) is config
    assert TrainConfig.of(None) == TrainConfig()
    with pytest.raises(SettingError, match="expected a TrainConfig or a mapping of settings, got list"):
        TrainConfig.of([("epochs", 3)])  # type: ignore[arg-type]


def test_keywords_take_precedence_and_replace_what_they_exclude() -> None:
    config = TrainConfig(epochs=3, lr=0.1)
    assert TrainConfig.of(config, lr=None, dropout=0.2) == TrainConfig(epochs=3, dropout=0.2)
    assert TrainConfig.of({"num_epochs": 3}, learning_rate=0.1) == config
    assert TrainConfig.of(config, time=5) == TrainConfig(time=5, lr=0.1)


def test_settings_show_what_differs_from_the_defaults() -> None:
    assert repr(TrainConfig()) == "TrainConfig()"
    assert repr(TrainConfig(epochs=3, labels=["a.csv"], flip=True)) == "TrainConfig(labels=('a.csv',), epochs=3)"  # type: ignore[arg-type]


def test_settings_as_a_dictionary_give_the_same_settings() -> None:
    config = TrainConfig(epochs=3, amp=False)
    assert TrainConfig.of(config.to_dict()) == config


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("s.toml", 'epochs = 3\nlearning_rate = 1e-2\nonly = ["dog", "cat"]\namp = false\n'),
        ("s.json", '{"epochs": 3, "lr": 0.01, "only": ["dog", "cat"], "amp": false, "width": null}'),
        ("settings", "\ufeffepochs = 3\nlr = 0.01\nonly = ['dog', 'cat']\namp = false"),
    ],
)
def test_settings_are_read_from_toml_and_json(tmp_path: Path, name: str, text: str) -> None:
    (tmp_path / name).write_text(text, encoding="utf-8")
    assert TrainConfig.read(tmp_path / name) == TrainConfig(epochs=3, lr=0.01, only=("dog", "cat"), amp=False)


@pytest.mark.parametrize(
    ("name", "text", "message", "hint"),
    [
        ("s.toml", "epoch = 3", "s.toml: unknown setting 'epoch'", "`epochs`"),
        ("s.toml", "epochs = 0", "s.toml: epochs: expected a whole number from 1, got 0", ""),
        ("s.toml", "epochs = 3\nepochs = 4", "s.toml is not valid TOML: ", "read as TOML"),
        ("s.json", '{"epochs": 3', "s.json is not valid JSON: ", ""),
        ("s.json", '{"epochs": 3, "epochs": 4}', "s.json is not valid JSON: 'epochs' is given twice", ""),
        ("s.json", '{"lr": NaN}', "s.json is not valid JSON: NaN is not a finite number", ""),
        ("s.json", '{"lr": ' + "[" * 10**5, "s.json is not valid JSON: it is nested too deeply", ""),
        ("s.json", '{"labels": "\\ud800"}', "s.json: labels: expected a path, got", ""),
        ("s.toml", f"epochs = 0x{'f' * 5000}", "s.toml: epochs: expected a whole number from 1, got int", ""),
        ("s.toml", "lr = " + "[" * 10**5, "s.toml is not valid TOML", "read as TOML"),
        ("s.toml", f"lr.{'a.' * 5000}a = 1", "s.toml: lr: expected a number from 1e-08 to below 10, got dict", ""),
        ("s.json", "[3]", "s.json: expected a TrainConfig or a mapping of settings, got list", ""),
        ("s.toml", "[training]\nepochs = 3", "s.toml: unknown setting 'training'", ""),
        ("s.yaml", "epochs: 3", "s.yaml is not valid TOML: ", "read as TOML"),
    ],
)
def test_file_without_valid_settings_is_an_error_that_names_it(
    tmp_path: Path, name: str, text: str, message: str, hint: str
) -> None:
    (tmp_path / name).write_text(text)
    with pytest.raises(SettingError) as caught:
        TrainConfig.read(tmp_path / name)
    assert f"{tmp_path}/{message}" in caught.value.message
    assert hint in caught.value.hint


def test_missing_or_binary_file_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(SettingError, match=r"cannot read .*gone\.toml: No such file"):
        TrainConfig.read(tmp_path / "gone.toml")
    (tmp_path / "s.toml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(SettingError, match="is not valid TOML"):
        TrainConfig.read(tmp_path / "s.toml")


@pytest.mark.parametrize(
    ("num_train", "expected"), [(2, 8), (255, 8), (256, 16), (511, 16), (512, 32), (1023, 32), (1024, 64), (10**6, 64)]
)
def test_batches_are_smaller_if_an_epoch_would_have_few_steps(num_train: int, expected: int) -> None:
    assert TrainConfig().resolved(CPU, num_train=num_train, is_synthetic=False).batch_size == expected
    assert TrainConfig().resolved(CPU, num_train=num_train, is_synthetic=True).batch_size == min(expected, 32)
    assert TrainConfig(batch_size=5).resolved(CPU, num_train=num_train, is_synthetic=False).batch_size == 5


@pytest.mark.parametrize(
    ("settings", "synthetic", "lr"),
    [({}, False, 4e-3), ({}, True, 4e-3), ({"optimizer": "adamw"}, False, 1.5e-3), ({"lr": 0.1}, False, 0.1)],
)
def test_learning_rate_suits_the_optimizer_unless_given(
    settings: dict[str, object], synthetic: bool, lr: float
) -> None:
    assert TrainConfig.of(settings).resolved(CPU, num_train=100, is_synthetic=synthetic).lr == lr


def test_synthetic_images_get_a_smaller_network_unless_given() -> None:
    synthetic, photographs = (
        TrainConfig().resolved(CPU, num_train=5000, is_synthetic=synthetic) for synthetic in (True, False)
    )
    assert (synthetic.width, synthetic.image_size) == (0.5, 64)
    assert (photographs.width, photographs.image_size) == (1.0, 128)
    assert TrainConfig().resolved(GPU, num_train=5000, is_synthetic=False).image_size == 224
    assert TrainConfig(width=2).resolved(CPU, num_train=5000, is_synthetic=True).width == 2


def test_time_limit_leaves_epochs_and_patience_open() -> None:
    timed = TrainConfig(time=5).resolved(CPU, num_train=100, is_synthetic=False)
    assert (timed.epochs, timed.patience) == (None, None)
    assert TrainConfig(time=5, patience=3).resolved(CPU, num_train=100, is_synthetic=False).patience == 3
    assert TrainConfig(epochs=3).resolved(CPU, num_train=100, is_synthetic=False).epochs == 3


def test_pretrained_weights_get_settings_of_their_own() -> None:
    config = TrainConfig(backbone="efficientnet-lite0")
    tuned = config.resolved(CPU, num_train=5000, is_synthetic=False)
    assert (tuned.optimizer, tuned.lr, tuned.batch_size, tuned.augment) == ("adamw", 1e-3, 32, "strong")
    assert (tuned.epochs, tuned.progressive, tuned.width) == (13, False, None)
    scratch = TrainConfig().resolved(CPU, num_train=5000, is_synthetic=False)
    assert (scratch.optimizer, scratch.augment, scratch.progressive) == ("muon", "light", True)
    assert TrainConfig(backbone="resnet18", train="head").resolved(CPU, num_train=9, is_synthetic=False).epochs == 1


@pytest.mark.parametrize(
    ("num_train", "epochs"), [(2, 200), (250, 120), (1000, 60), (1600, 47), (4000, 30), (10**6, 30)]
)
def test_few_photographs_are_trained_on_for_more_epochs_with_mixup(num_train: int, epochs: int) -> None:
    config = TrainConfig().resolved(CPU, num_train=num_train, is_synthetic=False)
    assert (config.epochs, config.mixup) == (epochs, 0.3 if epochs >= 45 else 0.0)
    assert TrainConfig().resolved(CPU, num_train=num_train, is_synthetic=True).epochs == 30


@pytest.mark.parametrize(
    ("settings", "mixup"),
    [
        ({"epochs": 44}, 0.0),
        ({"epochs": 45}, 0.3),
        ({"epochs": 45, "mixup": 0.0}, 0.0),
        ({"epochs": 2, "mixup": 0.1}, 0.1),
        ({"time": 60}, 0.0),
        ({"epochs": 60, "backbone": "resnet18"}, 0.0),
        ({"epochs": 60, "backbone": "resnet18", "weights": "none"}, 0.3),
    ],
)
def test_images_are_mixed_in_long_runs_from_scratch_unless_given(settings: dict[str, object], mixup: float) -> None:
    assert TrainConfig.of(settings).resolved(CPU, num_train=1000, is_synthetic=False).mixup == mixup


@pytest.mark.parametrize(
    ("settings", "select"), [({}, None), ({"patience": 3}, "map"), ({"select": "f1_macro"}, "f1_macro")]
)
def test_best_epoch_is_selected_only_on_request(settings: dict[str, object], select: str | None) -> None:
    assert TrainConfig.of(settings).resolved(CPU, num_train=1000, is_synthetic=False).select == select


@pytest.mark.parametrize(("num_train", "steps"), [(90, 200), (20, 60), (800, 12 * 25)])
def test_few_images_fine_tune_for_more_epochs(num_train: int, steps: int) -> None:
    config = TrainConfig(backbone="resnet18").resolved(CPU, num_train=num_train, is_synthetic=False)
    assert config.epochs is not None
    assert config.batch_size is not None
    made = (config.epochs - 1) * (num_train // config.batch_size)
    assert 0.9 * steps <= made <= steps


@pytest.mark.parametrize(
    ("given", "is_synthetic", "present", "absent"),
    [
        ({}, False, {"labels", "stem", "width", "epochs"}, {"synthetic", "num_labels", "weights", "train", "time"}),
        ({}, True, {"synthetic", "num_labels", "only"}, {"labels", "skip_missing", "on_error", "group"}),
        ({"backbone": "resnet18"}, False, {"weights", "train"}, {"stem", "width"}),
        ({"init": "mine", "width": None}, False, {"init", "train"}, {"stem", "width", "weights"}),
        ({"time": 5}, False, {"time"}, {"epochs"}),
        ({"folds": 3}, False, {"folds", "val_fraction"}, {"test_fraction"}),
    ],
)
def test_settings_without_a_meaning_do_not_apply(
    given: dict[str, object], is_synthetic: bool, present: set[str], absent: set[str]
) -> None:
    names = set(applicable(TrainConfig.of(given).to_dict(), is_synthetic=is_synthetic))
    assert present <= names
    assert not absent & names
