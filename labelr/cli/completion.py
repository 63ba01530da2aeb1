"""Completes names for shells: of models, studies, backbones and labels.

torch is not imported. What cannot be read is not offered: a shell has no place for errors.
"""

import os
import re
import signal
import sys
from collections.abc import Callable, Collection, Iterable
from contextlib import redirect_stderr, suppress
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NoReturn

import typer

from labelr import files

VARIABLE = "_LABELR_COMPLETE"
"""Set by the scripts of shells that ask for completions."""
DEADLINE_SECONDS = 4.0
"""Whatever takes longer, such as the labels of a huge file, is not offered."""
NUM_LITE = 3
"""EfficientNet-Lite0, 1 and 2."""
_UNSAFE = re.compile(r"[\\$`\"'\x00-\x1f\x7f]")
"""What a shell could evaluate when it completes: names can come from models of other people."""

Find = Callable[[typer.Context], Iterable[str]]


def answer(complete: Callable[[], Any]) -> None:
    """Answers a shell that asks for completions, if one does, and exits: without any after an error or the deadline."""
    if not os.environ.get(VARIABLE, "").startswith("complete_"):
        return
    has_timer = hasattr(signal, "setitimer")
    with open(os.devnull, "w", encoding="utf-8") as null, redirect_stderr(null):  # noqa: PTH123 - no path of a user
        if has_timer:
            signal.signal(signal.SIGALRM, _stop)
            signal.setitimer(signal.ITIMER_REAL, DEADLINE_SECONDS)
        try:
            complete()
        except Exception:  # noqa: BLE001 - a shell has no place for errors
            sys.exit()
        finally:
            if has_timer:
                signal.setitimer(signal.ITIMER_REAL, 0)


class _TooLateError(Exception):
    """The deadline has passed; no OSError, which much of what is called here handles itself."""


def _stop(*_: object) -> NoReturn:
    raise _TooLateError


def completer(find: Find, *, joined: bool = False) -> Callable[[typer.Context, str], list[str]]:
    """Completes a value, or the last of several that are joined by commas, by the names that `find` returns."""

    def complete(ctx: typer.Context, incomplete: str) -> list[str]:
        done = incomplete[: incomplete.rfind(",") + 1] if joined else ""
        with suppress(Exception):
            return [done + _escape(name) for name in find(ctx) if not _UNSAFE.search(name)]
        return []

    return complete


def _escape(name: str) -> str:
    """The name as bash takes it for one word; other shells quote names themselves."""
    return re.sub(r"[^\w@%+=:,./-]", r"\\\g<0>", name) if os.environ.get(VARIABLE) == "complete_bash" else name


def choices(names: Collection[str]) -> Find:
    """These names."""
    return lambda _: names


def _folders(name: str, file: str = "") -> Find:
    """The folders in a folder of labelr's, or those that have a file."""

    def find(_: typer.Context) -> list[str]:
        folders = (files.home() / name).iterdir()
        return sorted(path.name for path in folders if path.name[0] != "." and path.is_dir() and (path / file).exists())

    return find


models, models_and_runs, studies = _folders("models", "model.json"), _folders("models"), _folders("studies")
"""Saved models; these with damaged ones and unfinished runs; searches of `labelr tune`."""


def backbones(_: typer.Context) -> list[str]:
    """The names of EfficientNet-Lite and of torchvision's models, from its source: to import it is slow."""
    spec = find_spec("torchvision")
    folders = [Path(folder) / "models" for folder in (spec and spec.submodule_search_locations) or ()]
    sources = [path.read_text(encoding="utf-8") for folder in folders for path in sorted(folder.glob("*.py"))]
    names = [name for text in sources for name in re.findall(r"@register_model\(\).*?\ndef (\w+)\(", text, re.DOTALL)]
    return ["auto", "none", *(f"efficientnet-lite{number}" for number in range(NUM_LITE)), *names]


def labels(ctx: typer.Context) -> Iterable[str]:
    """The labels of the command's model, or of its data."""
    given = ctx.params
    if "photos" in given:
        from labelr.model import store

        return store.load_info(store.find(given.get("model"))).labels
    from labelr.config import ReadOptions
    from labelr.data.load import read_labels

    options = {name: given[name] for name in ReadOptions.names() if given.get(name)}
    data = given.get("data") or map(Path, ctx.args)  # where they are when the last option has no value yet
    return read_labels([*data], ReadOptions.of({**options, "only": (), "exclude": ()})).labels


BY_SETTING: dict[str, Find] = {"backbone": backbones, "init": models, "only": labels, "exclude": labels}
"""What completes the option of a setting without choices."""
