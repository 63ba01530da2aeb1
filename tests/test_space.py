"""What is searched: values and ranges, as people write them."""

from itertools import islice
from typing import Any

import numpy as np
import optuna
import pandas as pd
import pytest

from labelr.config import SEARCHABLE, TrainConfig
from labelr.fields import SettingError
from labelr.tuning.space import Plan, Range, Space, Values


def test_values_and_ranges_are_read_as_on_the_command_line() -> None:
    space, single = Space.of(
        {
            "lr": "1e-4..1e-2:log",
            "batch_size": "32, 64",
            "flip": "true,false",
            "augment": "none,strong",
            "width": "auto,1",
        }
    )
    assert single == {}
    assert space.dimensions == {
        "lr": Range(1e-4, 1e-2, log=True, whole=False), "batch_size": Values((32, 64)), "flip": Values((True, False)),
        "augment": Values(("none", "strong")), "width": Values((None, 1.0)),
    }  # fmt: skip
    assert list(space.dimensions) == [name for name in SEARCHABLE if name in space.dimensions]
    assert space.size is None
    assert space.to_dict()["lr"] == "0.0001..0.01:log"


@pytest.mark.parametrize(
    ("values", "choices"),
    [
        (np.logspace(-4, -2, 3), (1e-4, 1e-3, 1e-2)),
        ([np.float32(0.5), np.int64(1)], (0.5, 1.0)),
        (pd.Series([0.1, 0.2]), (0.1, 0.2)),
        ({1e-2, 1e-4, None, 1}, (None, 1e-4, 1e-2, 1.0)),
        ({0.1: "a", 0.2: "b"}.keys(), (0.1, 0.2)),
        ((number / 10 for number in (1, 2)), (0.1, 0.2)),
    ],
)
def test_values_are_given_as_an_array_a_set_or_anything_with_items(values: object, choices: tuple[object, ...]) -> None:
    space, _ = Space.of({"lr": values})
    assert space.dimensions == {"lr": Values(choices)}
    assert {type(choice) for choice in choices} <= {float, type(None)}


def test_values_of_a_set_of_texts_have_one_order_in_each_process() -> None:
    space, _ = Space.of({"augment": {"strong", "none", "light"}})
    assert space.dimensions == {"augment": Values(("light", "none", "strong"))}


@pytest.mark.parametrize("text", ["1e-3..", "..1e-3", "1e-3..1e-2..1e-1"])
def test_range_without_two_ends_hints_at_how_it_is_written(text: str) -> None:
    with pytest.raises(SettingError) as caught:
        Space.of({"lr": text})
    assert "LOW..HIGH" in caught.value.hint


def test_setting_of_one_value_is_not_searched() -> None:
    space, single = Space.of({"lr": "0.1", "dropout": [0.2, 0.5], "epochs": 7})
    assert single == {"lr": 0.1, "epochs": 7}
    assert space.dimensions == {"dropout": Values((0.2, 0.5))}


def test_names_from_training_scripts_are_known() -> None:
    assert list(Space.of({"learning_rate": [0.1, 0.2]})[0].dimensions) == ["lr"]


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"lr": "0.1,20"}, "lr: expected a number from 1e-08 to below 10, got 20.0"),
        ({"lr": "0.1,,0.2"}, "lr: expected .*, got ''"),
        ({"lr": "abc,0.2"}, "got 'abc'"),
        ({"lr": ""}, "got ''"),
        ({"lr": []}, "lr: there is no value to try"),
        ({"batch_size": "16,32.5"}, "batch_size: expected a whole number from 2, got '32.5'"),
        ({"batch_size": [16, 32.5]}, "batch_size: expected a whole number from 2, got 32.5"),
        ({"flip": "true,no"}, "flip: expected true or false, got 'no'"),
        ({"augment": "none,lihgt"}, "augment: expected one of none, light, strong, got 'lihgt'"),
        ({"dropout": "auto,0.2"}, "dropout: expected .*, got 'auto'"),
        ({"dropout": "0.2,0.20"}, "dropout: 0.2 is given twice"),
        ({"lr": "0.1..0.01"}, "'0.1..0.01' ends below its start"),
        ({"lr": "0.1..0.1"}, "the ends of the range '0.1..0.1' are equal"),
        ({"lr": "1e-3.."}, "'1e-3..' is not a range"),
        ({"lr": "..1e-3"}, "'..1e-3' is not a range"),
        ({"lr": "1e-3..1e-2..1e-1"}, "is not a range"),
        ({"lr": "1e-3...1e-1"}, "is not a range"),
        ({"lr": "1e-4,1e-3..1e-2"}, "is not a range"),
        ({"lr": "0.1..20"}, "got 20.0"),
        ({"lr": "auto..0.1"}, "is not a range"),
        ({"lr": "0.01..0.1:lg"}, "is not a range"),
        ({"weight_decay": "0..0.1:log"}, "is not a range"),
        ({"augment": "none..strong"}, "is not a range"),
        ({"nonsense": "1,2"}, "unknown setting 'nonsense'"),
        ({"seed": "1,2"}, "seed cannot be searched"),
        ({"test_fraction": [0.1, 0.2]}, "test_fraction cannot be searched"),
        ({"lr": "1,2", "learning_rate": "1,2"}, "given twice"),
    ],
)  # fmt: skip
def test_what_cannot_be_searched_is_an_error_that_says_so(given: dict[str, Any], message: str) -> None:
    with pytest.raises(SettingError, match=message):
        Space.of(given)


def test_grid_has_every_point_once_in_an_order_of_the_seed() -> None:
    space, _ = Space.of({"lr": [0.1, 0.2], "dropout": [0.1, 0.2, 0.3], "augment": ["none", "light", "strong"]})
    points = list(space.grid(0))
    assert len(points) == space.size == 18
    assert len({tuple(sorted(point.items())) for point in points}) == 18
    assert list(space.grid(0)) == points
    assert list(space.grid(1)) != points
    assert {point["dropout"] for point in points[:6]} == {0.1, 0.2, 0.3}


def test_first_points_of_a_huge_grid_are_there_at_once() -> None:
    tenths = [number / 1000 for number in range(1, 101)]
    space, _ = Space.of(dict.fromkeys(("lr", "dropout", "weight_decay", "mixup", "ema"), tenths))
    points = list(islice(space.grid(0), 1000))
    assert space.size == 100**5
    assert len({tuple(point.values()) for point in points}) == 1000
    assert list(islice(space.grid(0), 10)) == points[:10]


def test_points_of_a_range_lie_in_it() -> None:
    space, _ = Space.of({"lr": "1e-4..1e-2:log", "batch_size": "8..64"})
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    points = [space.suggest(study.ask()) for _ in range(30)]
    assert all(1e-4 <= point["lr"] <= 1e-2 and 8 <= point["batch_size"] <= 64 for point in points)
    assert all(isinstance(point["batch_size"], int) for point in points)
    assert 8 <= sum(point["lr"] < 1e-3 for point in points) <= 22  # a decade is as likely as the next


# --- settings that depend on each other -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("settings", "first"),
    [
        ({"backbone": "resnet18,resnet34", "train": "head"}, {"backbone": "resnet18", "train": "head"}),
        ({"init": "a,b", "train": "last"}, {"init": "a", "train": "last"}),
        ({"backbone": "resnet18,resnet34", "weights": "none"}, {"backbone": "resnet18", "weights": "none"}),
        ({"backbone": "resnet18,resnet34", "train": "head,all"}, {"backbone": "resnet18", "train": "head"}),
        ({"epochs": "5,7"}, {"epochs": 5}),
        ({"epochs": "5..7"}, {"epochs": 5}),
    ],
)
def test_settings_of_all_trials_have_the_first_value_of_each_searched_one(
    settings: dict[str, str], first: dict[str, object]
) -> None:
    plan = Plan.of([], None, None, settings)
    assert plan.config == TrainConfig.of(first)
    assert Plan.from_dict(plan.to_dict()) == plan


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"init": "a", "width": "0.25,0.5"}, "init and width exclude each other"),
        ({"init": "a", "width": "auto,0.5"}, "with width 0.5: init and width exclude each other"),
        ({"init": "a", "width": "0.25..0.5"}, "init and width exclude each other"),
        ({"backbone": "resnet18,none", "train": "head"}, "with backbone none: without pretrained weights all layers"),
        ({"backbone": "none,resnet18", "weights": "default,none"}, "with backbone none, weights none: weights are of"),
        ({"backbone": "none,resnet18", "stem": "deep,classic"}, "with backbone resnet18, stem classic: `--stem` is of"),
        ({"weights": "default,none", "lr": "0.1,0.2"}, "with weights none: weights are of a backbone"),
    ],
)
def test_values_that_do_not_fit_each_other_are_an_error_before_the_search(
    settings: dict[str, str], message: str
) -> None:
    with pytest.raises(SettingError, match=message):
        Plan.of([], None, None, settings)
