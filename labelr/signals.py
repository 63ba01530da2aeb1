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
        resume_option: What the same command needs more to go on with what is kept so far, an option or nothing; None if
            nothing is kept.
    """

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number
        self.resume_option: str | None = None


SPARED = {signal.SIGHUP} if hasattr(signal, "SIGHUP") else set()
"""Signals that stay ignored where whoever began the process wants it so, as `nohup` does."""


@dataclass
class _State:
    """What was asked for and not yet obeyed, and how many holds there are that keep it waiting."""

    asked: int | None = None
    holds: int = 0


_state = _State()


def install_handlers(*numbers: int, first: Callable[[], None]) -> None:
    """Lets signals stop the work from now on; a second one ends the process at once, whatever it is doing.

    Args:
        numbers: Of the signals.
        first: Called, in the signal's handler, when the first one comes while work is held.
    """

    def receive(number: int, _: FrameType | None) -> None:
        for one in numbers:
            if signal.getsignal(one) is receive:
                signal.signal(one, signal.SIG_DFL)
        _state.asked = number
        if not _state.holds:
            raise_if_stopped()
        first()

    _state.asked, _state.holds = None, 0
    for number in numbers:
        if number not in SPARED or signal.getsignal(number) != signal.SIG_IGN:
            signal.signal(number, receive)


@contextmanager
def deferred() -> Iterator[None]:
    """Work that is left only where it says so, by `stop_requested` and `raise_if_stopped`, or at its end."""
    _state.holds += 1
    try:
        yield
    finally:
        _state.holds -= 1
    raise_if_stopped()


def stop_requested() -> bool:
    """Whether a signal is waiting to be obeyed."""
    return _state.asked is not None


def raise_if_stopped() -> None:
    """Raises Stopped if a signal has asked for it."""
    if _state.asked is not None:
        number, _state.asked = _state.asked, None
        raise Stopped(number)
