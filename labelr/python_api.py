"""What functions of the Python API do beside their work: they show progress, and errors name keywords, not options."""

import functools
import inspect
import json
import re
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import fields
from typing import Any, TypeVar

from labelr.config import EvaluateOptions, TagOptions, TrainConfig
from labelr.console import LIVE_INTERVAL_SECONDS, Bars, stderr
from labelr.errors import LabelrError
from labelr.fields import kind_of
from labelr.progress import Description, Total, Track, untracked

T = TypeVar("T")


def with_progress(function: Callable[..., T]) -> Callable[..., T]:
    """A function of the Python API that shows progress bars in a terminal or a notebook, unless `progress` is False."""

    @functools.wraps(function)
    def run(*arguments: Any, progress: bool = True, **options: Any) -> T:
        if not progress or "track" in options:
            return function(*arguments, **options)
        with _api_track() as track:
            return function(*arguments, track=track, **options)

    *parameters, settings = inspect.signature(function).parameters.values()
    parameters.append(inspect.Parameter("progress", inspect.Parameter.KEYWORD_ONLY, default=True, annotation=bool))
    run.__signature__ = inspect.Signature([*parameters, settings])  # type: ignore[attr-defined]
    return run


def for_python(function: Callable[..., T]) -> Callable[..., T]:
    """A function whose errors name keywords and what a caller passed, in place of options and labelr's own files."""

    @functools.wraps(function)
    def run(*arguments: Any, **options: Any) -> T:
        try:
            return function(*arguments, **options)
        except LabelrError as error:
            from labelr.data.locate import name_tables

            error.message, error.hint = (with_keywords(name_tables(text)) for text in (error.message, error.hint))
            error.args = (error.message,)
            raise

    return run


@contextmanager
def _api_track() -> Iterator[Track]:
    """What shows the progress of a function of the Python API: bars in a terminal or a notebook, nothing elsewhere."""
    if stderr.is_jupyter or (stderr.is_terminal and not stderr.is_dumb_terminal):
        with _NotebookBars() if stderr.is_jupyter else Bars() as bars:
            yield bars.follow
    else:
        yield untracked


class _NotebookBars(Bars):
    """Progress bars below a cell of a notebook; unlike rich's own, they need no ipywidgets."""

    def start(self) -> None:
        from IPython.display import display

        self._shown_at = 0.0
        self._handle = display(self, display_id=True)

    def refresh(self) -> None:
        """Shows them as they are now, unless that was done a moment ago."""
        if time.monotonic() - self._shown_at >= LIVE_INTERVAL_SECONDS:
            self._shown_at = time.monotonic()
            self._handle.update(self)

    def follow(self, items: Iterable[T], description: Description, total: Total = None) -> Iterator[T]:
        for item in super().follow(items, description, total):
            yield item
            self.refresh()

    def stop(self) -> None:
        self._handle.update({"text/plain": ""}, raw=True)


def with_keywords(text: str) -> str:
    """A message in which options of the command line, in backticks, are keywords of the Python API."""
    sources = (TrainConfig, EvaluateOptions, TagOptions)
    flags = {field.name for source in sources for field in fields(source) if kind_of(field) is bool}
    flags |= {"force", "resume"}

    def keyword(denied: str, name: str, value: str) -> str:
        name = name.replace("-", "_")
        if name in flags:
            value = str(not denied)
        elif value and not re.fullmatch(r"[A-Z|]+|[\d.]+", value):
            value = json.dumps(value.strip("'"), ensure_ascii=False)
        return f"{name}={value}" if value else name

    def keywords(found: re.Match[str]) -> str:
        options = re.findall(r"--(no-)?([a-z][a-z0-9-]*)(?: ((?:(?! --).)+))?", found[1])
        return f"`{', '.join(keyword(*option) for option in options)}`"

    return re.sub(r"`(--[a-z][^`]*)`", keywords, text)
