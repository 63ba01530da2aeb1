"""What a setting is: a dataclass field with its one default, its range and its help, and the check of a value."""

import dataclasses
import math
from typing import Any

from labelr.errors import LabelrError


class SettingError(LabelrError):
    """A setting that does not exist, or a value that it cannot have: wrong usage."""


def number(
    default: float | None, *, help: str, low: float = -math.inf, below: float = math.inf, auto: bool = False
) -> Any:
    """A number from `low` to under `below`; with `auto`, None leaves the choice to labelr."""
    return dataclasses.field(default=default, metadata={"help": help, "low": low, "below": below, "auto": auto})


def switch(default: bool | None, *, help: str) -> Any:
    """True or false; with a default of None, that leaves the choice to labelr."""
    return dataclasses.field(default=default, metadata={"help": help})


def choice(default: str, *choices: str, help: str) -> Any:
    """One of some words."""
    return dataclasses.field(default=default, metadata={"help": help, "choices": choices})


def text(*, help: str) -> Any:
    """Any text, or None."""
    return dataclasses.field(default=None, metadata={"help": help, "text": True})


def check(field: "dataclasses.Field[Any]", value: Any) -> None:
    """Raises SettingError unless `value` is of the kind and in the range that the field's declaration states."""
    choices = field.metadata.get("choices")
    if choices:
        _require(value in choices, field.name, f"one of {', '.join(choices)}", value)
    elif "low" in field.metadata:
        _check_number(field, value)
    elif "text" in field.metadata:
        _require(value is None or isinstance(value, str), field.name, "text", value)
    else:
        optional = " | None" in str(field.type)
        _require(isinstance(value, bool) or (optional and value is None), field.name, "true or false", value)


def _check_number(field: "dataclasses.Field[Any]", value: Any) -> None:
    if value is None and field.metadata["auto"]:
        return
    low, below = field.metadata["low"], field.metadata["below"]
    whole = "int" in str(field.type)
    numeric = isinstance(value, int if whole else (int, float)) and not isinstance(value, bool)
    upper = "" if below == math.inf else f" to {below - 1:,}" if whole else f" to below {below:g}"
    expected = f"a {'whole ' if whole else ''}number from {low:g}{upper}"
    _require(numeric and low <= value < below, field.name, expected, value)


def _require(holds: bool, name: str, expected: str, value: object) -> None:
    if not holds:
        raise SettingError(f"{name}: expected {expected}, got {value!r}")
