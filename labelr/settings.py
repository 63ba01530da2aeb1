"""What a setting may be: kinds of dataclass fields with a default, a range and a help text, and their check."""

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
    """True or false; None, where the annotation allows it, leaves the choice to labelr."""
    return dataclasses.field(default=default, metadata={"help": help})


def choice(default: str, *choices: str, help: str) -> Any:
    """One of several words."""
    return dataclasses.field(default=default, metadata={"help": help, "choices": choices})


def text(*, help: str) -> Any:
    """A text; None, the default, for nothing or for labelr's choice."""
    return dataclasses.field(default=None, metadata={"help": help, "text": True})


def texts(*, help: str) -> Any:
    """Any number of texts; a list and a single text are taken as well."""
    return dataclasses.field(default=(), metadata={"help": help, "texts": True})


def checked(field: "dataclasses.Field[Any]", value: Any) -> Any:
    """The value of a field as it is kept: a single text among texts as a tuple, anything else as it is.

    Raises:
        SettingError: Unless it is of the kind and in the range that the field's declaration states.
    """
    if "texts" in field.metadata:
        value = (value,) if isinstance(value, str) else tuple(value) if isinstance(value, list) else value
    choices = field.metadata.get("choices")
    if choices:
        _require(value in choices, field.name, f"one of {', '.join(choices)}", value)
    elif "low" in field.metadata:
        _check_number(field, value)
    elif "text" in field.metadata:
        _require(value is None or isinstance(value, str), field.name, "text", value)
    elif "texts" in field.metadata:
        are_texts = isinstance(value, tuple) and all(isinstance(one, str) for one in value)
        _require(are_texts, field.name, "a list of texts", value)
    else:
        optional = " | None" in str(field.type)
        _require(isinstance(value, bool) or (optional and value is None), field.name, "true or false", value)
    return value


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
