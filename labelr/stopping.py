"""Signals that ask the process to stop: obeyed at once, but where work is held together until it may be left."""

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import FrameType


class Stopped(BaseException):
    """A signal asked the process to stop.

    Attributes:
        number: The signal's.
        resumable: Whether what was done so far is kept, so that the same command can go on with it.
    """

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number
        self.resumable = False


@dataclass
class _State:
    """What was asked for and not yet obeyed, and how many holds there are that keep it waiting."""

    asked: int | None = None
    holds: int = 0


_state = _State()


def obey(*numbers: int, first: Callable[[], None]) -> None:
    """Lets signals stop the work from now on; a second one ends the process at once, whatever it is doing.

    Args:
        numbers: Of the signals.
        first: Called when the first one comes, in the signal's handler.
    """

    def receive(number: int, _: FrameType | None) -> None:
        for one in numbers:
            signal.signal(one, signal.SIG_DFL)
        first()
        _state.asked = number
        if not _state.holds:
            leave_if_asked()

    _state.asked, _state.holds = None, 0
    for number in numbers:
        signal.signal(number, receive)


@contextmanager
def held() -> Iterator[None]:
    """Work that is left only where it says so, by `asked` and `leave_if_asked`, or at its end."""
    _state.holds += 1
    try:
        yield
    finally:
        _state.holds -= 1
    leave_if_asked()


def asked() -> bool:
    """Whether a signal is waiting to be obeyed."""
    return _state.asked is not None


def leave_if_asked() -> None:
    """Raises Stopped if a signal has asked for it."""
    if _state.asked is not None:
        number, _state.asked = _state.asked, None
        raise Stopped(number)
