"""How library code reports progress without printing anything itself."""

from collections.abc import Callable, Iterable
from typing import Protocol, TypeVar

T = TypeVar("T")
Description = str | Callable[[], str]
"""What is done, and details after two spaces each; a function returns it again and again while the work continues.

Items are images if what is done ends in ``images``, else batches. If the last detail ends in ``left``, the time left is
not estimated."""

Total = int | Callable[[], int | None] | None
"""The number of items; a function returns it once it is known."""


class Track(Protocol):
    """Wraps an iterable and reports its progress, as ``tqdm`` and ``rich.progress.track`` do."""

    def __call__(self, items: Iterable[T], description: Description, total: Total = None) -> Iterable[T]:
        """The same items in the same order."""
        ...


def format_duration(seconds: float) -> str:
    """A time in the largest unit of which there are several: ``17 s``, ``35 min``, ``5 h``."""
    units = ((3600, "h"), (60, "min"), (1, "s"))
    return next(f"{seconds / size:,.0f} {unit}" for size, unit in units if seconds >= 2 * size or size == 1)


def untracked(items: Iterable[T], description: Description, total: Total = None) -> Iterable[T]:  # noqa: ARG001 - as `Track`
    """The same items; nothing is reported."""
    return items
