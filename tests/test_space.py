"""What is searched: values and ranges, as people write them."""

from itertools import islice
from typing import Any

import optuna
import pytest

from labelr.config import SEARCHABLE
from labelr.fields import SettingError
from labelr.tuning.space import Range, Space, Values


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
        ({"lr": "0.1..0.1"}, "is not a range"),
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
