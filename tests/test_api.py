"""The public Python API."""

import importlib
import inspect
import subprocess
import sys

import pytest

import labelr
from labelr.config import EvaluateOptions, TagOptions, TrainConfig
from labelr.fields import Settings


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


def test_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        _ = labelr.nonsense


def test_importing_the_package_imports_no_other_module_of_it() -> None:
    code = "import sys, labelr\nprint(*sorted(name for name in sys.modules if name.startswith('labelr')))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "labelr\n"
