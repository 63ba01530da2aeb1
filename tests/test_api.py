"""The public Python API."""

import importlib
import inspect
import subprocess
import sys

import pytest

import labelr


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


def test_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        _ = labelr.nonsense


def test_importing_the_package_imports_no_other_module_of_it() -> None:
    code = "import sys, labelr\nprint(*sorted(name for name in sys.modules if name.startswith('labelr')))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "labelr\n"
