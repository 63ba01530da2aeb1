"""Settings as dataclass fields: default, range, help text and command-line option in one place, and their checks."""

import dataclasses
import math
import os
import re
import tomllib
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import NoneType
from typing import Any, ClassVar, Literal, Self, get_args, get_origin

from labelr.buckets.addresses import path_or_address
from labelr.errors import LabelrError, suggest
from labelr.files import is_text, local_path, read_bytes
from labelr.serialization import parse_json

ALIASES: Mapping[str, str] = {
    "num_epochs": "epochs", "n_epochs": "epochs", "max_epochs": "epochs", "early_stopping_patience": "patience",
    "learning_rate": "lr", "wd": "weight_decay", "dropout_rate": "dropout",
    "bs": "batch_size", "img_size": "image_size",
    "num_samples": "synthetic", "num_images": "synthetic", "num_classes": "num_labels",
    "val_split": "val_fraction", "val_size": "val_fraction",
    "test_split": "test_fraction", "test_size": "test_fraction",
    "random_seed": "seed", "random_state": "seed",
    "num_workers": "workers", "num_threads": "threads", "mixed_precision": "amp", "use_amp": "amp",
}  # fmt: skip
"""Names from other training tools that are accepted for settings of the same meaning."""

MAX_CONFIG_BYTES = 2**20
"""The largest file of settings that is read."""
MAX_NUMBER = 2**63
"""Whole numbers are lower than this: others do not fit into 64 bits."""
MAX_VALUE = 60
"""Longer values are cut in messages."""
Field = dataclasses.Field[Any]


class SettingError(LabelrError):
    """A setting that does not exist, or a value out of range: wrong usage."""

    exit_code = 2


def setting(
    default: Any,
    help: str,
    *,
    panel: str,
    low: float = -math.inf,
    below: float = math.inf,
    high: float = math.inf,
    short: str | None = None,
    metavar: str | None = None,
    searchable: bool = False,
    remote: bool = False,
) -> Any:
    """A dataclass field that is a setting and a command-line option.

    Its annotation says what it takes: a number, true or false, a ``Literal`` of choices, a text, a tuple of texts or
    choices; ``| None`` where labelr may choose.

    Numbers are from `low` to `high`, and lower than `below`. The value is called `metavar` in ``--help``, where options
    are grouped by `panel`; `short` is an option such as ``"-b"``. `tune` may give several values to a setting that is
    `searchable`, and a path that is `remote` may be the address of a bucket.
    """
    metadata = {
        "help": help, "panel": panel, "low": low, "below": below, "high": high,
        "short": short, "metavar": metavar, "searchable": searchable, "remote": remote,
    }  # fmt: skip
    return dataclasses.field(default=default, metadata=metadata)


def option_of(name: str) -> str:
    """The command-line option of a setting: ``--batch-size`` for ``batch_size``."""
    return f"--{name.replace('_', '-')}"


def is_optional(field: Field) -> bool:
    """Whether the value may be None."""
    return NoneType in get_args(field.type)


def kind_of(field: Field) -> Any:
    """The annotation without None: ``int``, ``float``, ``bool``, ``str``, a ``Literal`` or a ``tuple``."""
    return next(kind for kind in get_args(field.type) if kind is not NoneType) if is_optional(field) else field.type


def is_number(field: Field) -> bool:
    """Whether it takes a number."""
    return kind_of(field) in (int, float)


def is_list(field: Field) -> bool:
    """Whether it takes several values."""
    return get_origin(kind_of(field)) is tuple


def choices_of(field: Field) -> tuple[str, ...]:
    """The values of its ``Literal``, or of that of its items; empty if there is none."""
    kind = _item_kind(field)
    return get_args(kind) if get_origin(kind) is Literal else ()


def _item_kind(field: Field) -> Any:
    return get_args(kind_of(field))[0] if is_list(field) else kind_of(field)


def as_python(value: Any) -> Any:
    """A number, a text or an array of NumPy, pandas or torch as Python has it; anything else unchanged."""
    return value.tolist() if hasattr(type(value), "tolist") else value


def checked(field: Field, value: Any) -> Any:
    """The value as stored: a list as a tuple, a path as text. Raises SettingError for a wrong type, or out of range."""
    value = as_python(value)
    if value is None and is_optional(field):
        return None
    if not is_list(field):
        return _checked_item(field, value)
    if isinstance(value, (str, os.PathLike)):
        value = (value,)
    if not isinstance(value, (tuple, list)):
        is_path = is_path_setting(field)
        hint = "pass the path of a file or folder" if is_path else ""
        raise _error(field, f"a list of {'paths' if is_path else 'texts'}", value, hint)
    return tuple(_checked_item(field, item) for item in value)


def parsed(field: Field, text: str) -> Any:
    """The value of a text on a command line. Raises SettingError if it is of the wrong type or out of range."""
    value: Any = text
    if text == "auto" and is_optional(field):
        value = None
    elif is_number(field):
        with suppress(ValueError):
            value = kind_of(field)(text)
    elif kind_of(field) is bool:
        value = {"true": True, "false": False}.get(text.lower(), text)
    return checked(field, value)


def is_path_setting(field: Field) -> bool:
    """Whether the value is a path, or a list of paths."""
    return _item_kind(field) is str and bool(re.search("FILE|DIR", field.metadata["metavar"] or ""))


def describe_value(value: object) -> str:
    """A value in a message: its code if that is short, its beginning if it is a text, else its type."""
    try:
        text = repr(value)
    except (ValueError, RecursionError):  # of a number with too many digits, or nested too deeply
        return type(value).__name__
    if len(text) <= MAX_VALUE and "\n" not in text:
        return text
    return f"{text[:MAX_VALUE]}..." if isinstance(value, str) else type(value).__name__


def _checked_item(field: Field, value: Any) -> Any:
    kind, choices, value = _item_kind(field), choices_of(field), as_python(value)
    is_path = is_path_setting(field)
    if isinstance(value, os.PathLike):
        value = os.fspath(value)
    if choices and not (isinstance(value, str) and value in choices):
        hint = hint_of_list(field.name, str(value)) if is_list(field) else ""
        raise _error(field, f"one of {', '.join(choices)}", value, hint or suggest(str(value), choices))
    if kind is bool and not isinstance(value, bool):
        raise _error(field, "true or false", value)
    if kind is str and not (isinstance(value, str) and is_text(value)):
        raise _error(field, "a path" if is_path else "text", value)
    if is_number(field):
        _check_number(field, value)
    if is_path:
        (path_or_address if field.metadata["remote"] else local_path)(value)
    return value


def _check_number(field: Field, value: Any) -> None:
    low, below, high = (field.metadata[name] for name in ("low", "below", "high"))
    whole = kind_of(field) is int
    numeric = isinstance(value, int if whole else (int, float)) and not isinstance(value, bool)
    if not (numeric and low <= value <= high and value < (min(below, MAX_NUMBER) if whole else below)):
        upper = f" to {high:,}" if high < math.inf else f" to below {below:g}" if below < math.inf else ""
        is_percent = numeric and 1 < value <= 100 and 1 in (high, below)
        has_comma = isinstance(value, str) and re.fullmatch(r"\d*,\d+", value)
        hint = f"give a fraction: {value / 100:g}" if is_percent else ""
        hint = f"write {value.replace(',', '.')}" if has_comma else hint
        raise _error(field, f"a {'whole ' if whole else ''}number from {low:g}{upper}", value, hint)


def _error(field: Field, expected: str, value: object, hint: str = "") -> SettingError:
    if field.metadata["searchable"]:
        hint = hint_of_search(field.name, value) or hint
    return SettingError(f"{field.name}: expected {expected}, got {describe_value(value)}", hint)


def hint_of_list(name: str, value: str) -> str:
    """How to give several values of a list, if that is what one text holds; else empty."""
    option = option_of(name)
    repeated = " ".join(f"{option} {part.strip()}" for part in value.split(","))
    return f"repeat the option for several, `{repeated}`; in a variable, put spaces between" if "," in value else ""


def hint_of_search(name: str, value: object) -> str:
    """How to search over several values, if that is what was given."""
    if isinstance(value, str) and ("," in value or ".." in value):
        return f"try several values with `labelr tune DATA {option_of(name)} {value}`"
    is_list = isinstance(value, (list, tuple, set))
    return f"try several values with `labelr.tune(data, {name}={value!r})`" if is_list else ""


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Settings by name, each checked when it is set.

    Raises:
        SettingError: If a value is of the wrong type or out of range.
    """

    EXCLUSIVE: ClassVar[tuple[tuple[str, str], ...]] = ()
    """Pairs of settings of which at most one may be set."""
    ARGUMENTS: ClassVar[tuple[str, ...]] = ()
    """Further arguments of the function that takes the settings as keywords, for its suggestions."""

    def __init_subclass__(cls) -> None:
        cls.__repr__ = Settings.__repr__  # type: ignore[method-assign]  # dataclasses would show all fields

    def __repr__(self) -> str:
        """The settings that differ from their default."""
        given = {name: getattr(self, name) for name in self.names()}
        changed = (f"{name}={value!r}" for name, value in given.items() if value != getattr(type(self), name))
        return f"{type(self).__name__}({', '.join(changed)})"

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            object.__setattr__(self, field.name, checked(field, getattr(self, field.name)))
        for pair in self.EXCLUSIVE:
            if None not in (getattr(self, name) for name in pair):
                options = " or ".join(f"`{option_of(name)}`" for name in pair)
                raise SettingError(f"{' and '.join(pair)} exclude each other", f"give {options}, not both")

    @classmethod
    def names(cls) -> tuple[str, ...]:
        """The names of all settings."""
        return tuple(field.name for field in dataclasses.fields(cls))

    @classmethod
    def of(cls, settings: "Settings | Mapping[str, Any] | None" = None, /, **more: Any) -> Self:
        """Settings from an object of this class, a mapping by name or nothing, with some replaced.

        Names from other training tools, such as `num_epochs`, are accepted: see `ALIASES`. `more` settings take
        precedence; one of an exclusive pair also replaces the other.

        Raises:
            SettingError: If a name is unknown or given twice, or a value is of the wrong type or out of range.
        """
        if isinstance(settings, cls):
            base = settings
        elif settings is None or isinstance(settings, Mapping):
            base = cls(**cls._by_name(settings or {}))
        else:
            raise SettingError(f"expected a {cls.__name__} or a mapping of settings, got {type(settings).__name__}")
        if not more:
            return base
        chosen = cls._by_name(more, cls.ARGUMENTS)
        pairs = [pair for both in cls.EXCLUSIVE for pair in (both, both[::-1])]
        excluded = {other: None for name, other in pairs if chosen.get(name) is not None}
        return dataclasses.replace(base, **{**excluded, **chosen})

    @classmethod
    def _by_name(cls, settings: Mapping[str, Any], arguments: tuple[str, ...] = ()) -> dict[str, Any]:
        """The settings with aliases replaced by the names that they mean; an unknown one may mean an argument."""
        known = cls.names()
        named: dict[str, Any] = {}
        for key, value in settings.items():
            name = ALIASES.get(key, key)
            if name not in known:
                raise SettingError(
                    f"unknown setting {describe_value(key)}", suggest(str(key), (*known, *arguments), ALIASES)
                )
            if name in named:
                raise SettingError(f"the setting {name!r} is given twice, once as {key!r}", "keep one of them")
            named[name] = value
        return named

    @classmethod
    def read(cls, path: Path) -> Self:
        """The settings in a TOML or JSON file. Raises SettingError if it cannot be read or holds something else."""
        kind = "JSON" if path.suffix.lower() == ".json" else "TOML"
        try:
            text = read_bytes(local_path(path), MAX_CONFIG_BYTES).decode("utf-8-sig")
            content = parse_json(text.encode()) if kind == "JSON" else tomllib.loads(text)
        except OSError as error:
            raise SettingError(f"cannot read {path}: {error.strerror or error}") from error
        except (ValueError, RecursionError) as error:  # of the size, the encoding or the syntax
            hint = "a file whose name does not end in .json is read as TOML" if kind == "TOML" else ""
            raise SettingError(f"{path} is not valid {kind}: {error}", hint) from error
        try:
            return cls.of(content)
        except SettingError as error:
            raise SettingError(f"{path}: {error.message}", error.hint) from error

    def to_dict(self) -> dict[str, Any]:
        """The settings by name, ready for JSON."""
        settings = dataclasses.asdict(self)
        return {name: list(value) if isinstance(value, tuple) else value for name, value in settings.items()}
