"""What a setting may be: kinds of dataclass fields with a default, a range and a help text; their check, their file."""

import dataclasses
import json
import math
import tomllib
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from labelr.errors import LabelrError, suggest

ALIASES: Mapping[str, str] = {
    "num_epochs": "epochs",
    "n_epochs": "epochs",
    "max_epochs": "epochs",
    "learning_rate": "lr",
    "bs": "batch_size",
    "wd": "weight_decay",
    "dropout_rate": "dropout",
    "img_size": "image_size",
    "num_samples": "synthetic",
    "num_images": "synthetic",
    "num_labels": "labels_count",
    "num_classes": "labels_count",
    "val_split": "val_fraction",
    "val_size": "val_fraction",
    "test_split": "test_fraction",
    "test_size": "test_fraction",
    "random_seed": "seed",
    "random_state": "seed",
    "num_workers": "workers",
    "num_threads": "threads",
    "early_stopping_patience": "patience",
    "mixed_precision": "amp",
    "use_amp": "amp",
}
"""Names that people know from training scripts, where the meaning is the same."""


class SettingError(LabelrError):
    """A setting that does not exist, or a value that it cannot have: wrong usage."""


def number(
    default: float | None,
    *,
    help: str,
    low: float = -math.inf,
    below: float = math.inf,
    high: float = math.inf,
    auto: bool = False,
) -> Any:
    """A number from `low` to under `below`, or to `high`; with `auto`, None leaves the choice to labelr."""
    metadata = {"help": help, "low": low, "below": below, "high": high, "auto": auto}
    return dataclasses.field(default=default, metadata=metadata)


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


def parsed(field: "dataclasses.Field[Any]", text: str) -> Any:
    """The value that a text stands for, as on a command line.

    Raises:
        SettingError: If the field cannot have such a value.
    """
    value: Any = text
    if text == "auto" and field.default is None:
        value = None
    elif "low" in field.metadata:
        with suppress(ValueError):
            value = (int if "int" in str(field.type) else float)(text)
    elif "choices" not in field.metadata and "bool" in str(field.type):
        value = {"true": True, "false": False}.get(text.lower(), text)
    return checked(field, value)


def _check_number(field: "dataclasses.Field[Any]", value: Any) -> None:
    if value is None and field.metadata["auto"]:
        return
    low, below, high = (field.metadata[name] for name in ("low", "below", "high"))
    whole = "int" in str(field.type)
    numeric = isinstance(value, int if whole else (int, float)) and not isinstance(value, bool)
    upper = f" to {high:,}" if high < math.inf else f" to below {below:g}" if below < math.inf else ""
    expected = f"a {'whole ' if whole else ''}number from {low:g}{upper}"
    _require(numeric and low <= value <= high and value < below, field.name, expected, value)


def _require(holds: bool, name: str, expected: str, value: object) -> None:
    if not holds:
        raise SettingError(f"{name}: expected {expected}, got {value!r}")


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Settings by name, each checked when it is set.

    Raises:
        SettingError: If a value is of the wrong kind or out of range.
    """

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            object.__setattr__(self, field.name, checked(field, getattr(self, field.name)))

    @classmethod
    def of(cls, settings: "Settings | Mapping[str, Any] | None") -> Self:
        """Settings from what people pass: some already, a mapping by name, or nothing.

        Names known from training scripts, such as `num_epochs`, are accepted for the settings in `ALIASES`.

        Raises:
            SettingError: If a name is unknown or given twice, or a value is out of range.
        """
        if isinstance(settings, cls):
            return settings
        if settings is not None and not isinstance(settings, Mapping):
            raise SettingError(f"expected a {cls.__name__} or a mapping of settings, got {type(settings).__name__}")
        known = {field.name for field in dataclasses.fields(cls)}
        named: dict[str, Any] = {}
        for key, value in (settings or {}).items():
            name = ALIASES.get(key, key)
            if name not in known:
                raise SettingError(f"unknown setting {key!r}", suggest(str(key), known | set(ALIASES)))
            if name in named:
                raise SettingError(f"the setting {name!r} is given twice, once as {key!r}", "keep one of them")
            named[name] = value
        return cls(**named)

    @classmethod
    def read(cls, path: Path) -> Self:
        """The settings in a TOML or JSON file, under their names.

        Raises:
            SettingError: If there is no such file, it is neither, or it names what is no setting.
        """
        kind, parse = ("JSON", json.loads) if path.suffix.lower() == ".json" else ("TOML", tomllib.loads)
        try:
            said = parse(path.read_text(encoding="utf-8-sig"))
        except OSError as error:
            raise SettingError(f"cannot read {path}: {error.strerror}") from error
        except ValueError as error:  # of the encoding or the syntax
            hint = "a file that does not end in .json is read as TOML" if kind == "TOML" else ""
            raise SettingError(f"{path} is no {kind}: {error}", hint) from error
        try:
            return cls.of(said)
        except SettingError as error:
            raise SettingError(f"{path}: {error.message}", error.hint) from error

    def to_dict(self) -> dict[str, Any]:
        """The settings by name, ready for JSON."""
        settings = dataclasses.asdict(self)
        return {name: list(value) if isinstance(value, tuple) else value for name, value in settings.items()}
