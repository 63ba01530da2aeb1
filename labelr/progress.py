"""How long work says how far it is, without printing anything itself."""

from collections.abc import Iterable
from typing import Protocol, TypeVar

T = TypeVar("T")


class Track(Protocol):
    """Wraps an iterable and watches it go by, as ``tqdm`` and ``rich.progress.track`` do."""

    def __call__(self, items: Iterable[T], description: str, total: int | None = None) -> Iterable[T]:
        """The same items in the same order."""
        ...


def untracked(items: Iterable[T], description: str, total: int | None = None) -> Iterable[T]:  # noqa: ARG001 - as `Track`
    """The items as they are: nobody watches."""
    return items
