"""How long work says how far it is, without printing anything itself."""

from collections.abc import Callable, Iterable
from typing import Protocol, TypeVar

T = TypeVar("T")
Description = str | Callable[[], str]
"""What the work is called; a function says it anew while the work goes on."""


Total = int | Callable[[], int | None] | None
"""How many items there are; a function says it once it is known."""


class Track(Protocol):
    """Wraps an iterable and watches it go by, as ``tqdm`` and ``rich.progress.track`` do."""

    def __call__(self, items: Iterable[T], description: Description, total: Total = None) -> Iterable[T]:
        """The same items in the same order."""
        ...


def untracked(items: Iterable[T], description: Description, total: Total = None) -> Iterable[T]:  # noqa: ARG001 - as `Track`
    """The items as they are: nobody watches."""
    return items
