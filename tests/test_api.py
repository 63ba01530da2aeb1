"""The public Python API."""

import importlib
import inspect
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest
from conftest import put

import labelr
from labelr.config import EvaluateOptions, TagOptions, TrainConfig
from labelr.fields import Settings
from labelr.python_api import with_keywords


def test_all_names_what_imports() -> None:
    assert labelr.__all__ == sorted(labelr.__all__)
    assert set(labelr.__all__) <= set(dir(labelr))
    for name in labelr.__all__:
        assert getattr(labelr, name).__class__ is not type(importlib)  # no module hides a name


@pytest.mark.parametrize("name", ["fit", "evaluate", "compare", "tag", "tune", "check", "read"])
def test_functions_take_settings_as_keywords(name: str) -> None:
    *_, last = inspect.signature(getattr(labelr, name)).parameters.values()
    assert (last.name, last.kind) == ("settings", inspect.Parameter.VAR_KEYWORD)
    with pytest.raises(labelr.LabelrError, match="unknown setting 'treshold'"):
        getattr(labelr, name)("nowhere", treshold=0.5)


@pytest.mark.parametrize(
    ("function", "name", "meant"),
    [
        ("fit", "ouput", "output"),
        ("fit", "learning_rat", "lr"),
        ("evaluate", "modle", "model"),
        ("tag", "dryrun", "dry_run"),
        ("tune", "trails", "trials"),
        ("tune", "studdy", "study"),
        ("check", "lables", "labels"),
    ],
)
def test_unknown_keyword_suggests_the_nearest_one(function: str, name: str, meant: str) -> None:
    with pytest.raises(labelr.LabelrError, match=f"unknown setting '{name}'") as caught:
        getattr(labelr, function)("nowhere", **{name: 1})
    assert caught.value.hint == f"did you mean `{meant}`?"


@pytest.mark.parametrize(
    ("function", "settings"), [("fit", TrainConfig), ("evaluate", EvaluateOptions), ("tag", TagOptions)]
)
def test_suggestions_know_the_arguments_of_each_function(function: str, settings: type[Settings]) -> None:
    *names, last = inspect.signature(getattr(labelr, function)).parameters
    assert (settings.ARGUMENTS, last) == (tuple(names), "settings")


def test_errors_name_keywords_and_what_was_passed(tmp_path: Path) -> None:
    for name in ("a.jpg", "b.jpg"):
        put(tmp_path, name)
    paths = [tmp_path / name for name in ("a.jpg", "b.jpg", "gone.jpg")]
    with pytest.raises(labelr.LabelrError) as caught:
        labelr.read(paths, labels=["dog", "cat", "dog"])
    assert caught.value.message == f"1 of 3 images in the list is not in {tmp_path}: gone.jpg"
    assert "`skip_missing=True`" in str(caught.value)
    with pytest.raises(labelr.LabelrError) as caught:
        labelr.read(pd.DataFrame({"filename": ["a.jpg", "b.jpg", "gone.jpg"], "dog": [1, 0, 7]}), images=tmp_path)
    assert str(caught.value).startswith('the DataFrame, position 2, column "dog": expected 0, 1 or nothing, got "7"')
    assert '`label_column="dog", layout="tags"`' in caught.value.hint
    with pytest.raises(labelr.LabelrError, match="epochs and time") as caught:
        labelr.fit(tmp_path, epochs=3, time=5)
    assert caught.value.hint == "give `epochs` or `time`, not both"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("leave it out with `--no-trust-predictions`", "leave it out with `trust_predictions=False`"),
        ("name the file with `--labels FILE`", "name the file with `labels=FILE`"),
        ("use `--blank unknown`, as in `labelr fit --x`", 'use `blank="unknown"`, as in `labelr fit --x`'),
        ("give `--folds 5` or `--exclude 'a b'`", 'give `folds=5` or `exclude="a b"`'),
        ("such as `--lr 1e-3,4e-3 --dropout 0.2,0.3`", 'such as `lr="1e-3,4e-3", dropout="0.2,0.3"`'),
    ],
)
def test_options_in_hints_become_keywords(text: str, expected: str) -> None:
    assert with_keywords(text) == expected


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: labelr.compare("one"), "no model|at least two models"),
        (lambda: labelr.evaluate("nowhere", ["a", "b"]), r"model: expected a name, .* got \['a', 'b'\]"),  # type: ignore[arg-type]
    ],
)
def test_models_of_a_wrong_type_are_errors(call: Callable[[], object], message: str) -> None:
    with pytest.raises(labelr.LabelrError, match=message):
        call()


def test_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        _ = labelr.nonsense


def test_importing_the_package_imports_no_other_module_of_it() -> None:
    code = "import sys, labelr\nprint(*sorted(name for name in sys.modules if name.startswith('labelr')))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "labelr\n"


@pytest.mark.parametrize("name", ["check", "compare", "evaluate", "fit", "tag", "tune"])
def test_progress_bars_can_be_turned_off(name: str) -> None:
    assert {"track", "progress"} <= set(inspect.signature(getattr(labelr, name)).parameters)
