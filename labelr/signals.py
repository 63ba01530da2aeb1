"""Signals that ask the process to stop: at once, or at the next safe point of work that must not be interrupted."""

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import FrameType


class Stopped(BaseException):
    """A signal asked the process to stop.

    Attributes:
        number: The number of the signal.
        resume_option: The option that the same command needs to resume, which may be empty; None if nothing was kept.
    """

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number
        self.resume_option: str | None = None


IGNORABLE = {signal.SIGHUP} if hasattr(signal, "SIGHUP") else set()
"""Signals that stay ignored if the parent process ignores them, as `nohup` does."""


@dataclass
class _State:
    """The signal that was received and not yet handled, and the number of nested `deferred` blocks."""

    received: int | None = None
    depth: int = 0


_state = _State()


def install_handlers(*numbers: int, first: Callable[[], None]) -> None:
    """Makes signals raise `Stopped` from now on; a second signal ends the process at once.

    `first` is called in the signal handler if the first signal is deferred.
    """

    def receive(number: int, _: FrameType | None) -> None:
        for installed in numbers:
            if signal.getsignal(installed) is receive:
                signal.signal(installed, signal.SIG_DFL)
        _state.received = number
        if not _state.depth:
            raise_if_stopped()
        first()

    _state.received, _state.depth = None, 0
    for number in numbers:
        if number not in IGNORABLE or signal.getsignal(number) != signal.SIG_IGN:
            signal.signal(number, receive)


@contextmanager
def deferred() -> Iterator[None]:
    """Defers signals to `raise_if_stopped` inside the block, or to its end."""
    _state.depth += 1
    try:
        yield
    finally:
        _state.depth -= 1
    raise_if_stopped()


def stop_requested() -> bool:
    """Whether a signal was received and not yet handled."""
    return _state.received is not None


def raise_if_stopped() -> None:
    """Raises `Stopped` if a signal was received."""
    if _state.received is not None:
        number, _state.received = _state.received, None
        raise Stopped(number)
