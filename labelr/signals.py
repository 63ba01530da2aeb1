"""Signals that ask the process to stop: at once, or at the next safe point of work that must not be interrupted."""

import _thread
import atexit
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
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


IMPATIENT_SECONDS = 1.0
"""How long after the first signal a second one ends the process at once: a terminal that closes sends several."""
AGAIN_SECONDS = 0.01
"""How long after `Stopped` was lost it is raised again, elsewhere."""
IGNORABLE = {signal.SIGHUP} if hasattr(signal, "SIGHUP") else set()
"""Signals that stay ignored if the parent process ignores them, as `nohup` does."""


@dataclass
class _State:
    """The signal that was received and not yet handled, and the number of nested `deferred` blocks."""

    received: int | None = None
    is_lost: bool = False  # whether `Stopped` was raised where Python ignores exceptions, and the signal comes again
    depth: int = 0


_state = _State()


def install_handlers(*numbers: int, first: Callable[[], None]) -> None:
    """Makes signals raise `Stopped` from now on; a later signal ends the process at once.

    That is a signal of a person or a scheduler, `IMPATIENT_SECONDS` after the first one at least: several that arrive
    together, as from a terminal that closes or a double Ctrl-C, are one.

    `first` is called in the signal handler if the first signal is deferred.
    """
    stopped_at: float | None = None

    def receive(number: int, _: FrameType | None) -> None:
        nonlocal stopped_at
        if stopped_at is not None and not _state.is_lost:
            if number not in IGNORABLE and time.monotonic() - stopped_at >= IMPATIENT_SECONDS:
                signal.signal(number, signal.SIG_DFL)
                signal.raise_signal(number)
            return
        stopped_at = time.monotonic()
        _restore_later(numbers, receive)
        _state.received, _state.is_lost = number, False
        if not _state.depth:
            raise_if_stopped()
        first()

    _state.received, _state.is_lost, _state.depth = None, False, 0
    sys.unraisablehook = partial(_raise_again, sys.unraisablehook)
    for number in numbers:
        if number not in IGNORABLE or signal.getsignal(number) != signal.SIG_IGN:
            signal.signal(number, receive)


def _raise_again(show: Callable[["sys.UnraisableHookArgs"], object], unraisable: "sys.UnraisableHookArgs") -> None:
    """Keeps `Stopped` from being lost where Python ignores exceptions, as in the callback of a weak reference."""
    if isinstance(unraisable.exc_value, Stopped):
        _state.is_lost = True
        threading.Timer(AGAIN_SECONDS, _send_to_main_thread, [unraisable.exc_value.number]).start()
    else:
        show(unraisable)


def _send_to_main_thread(number: int) -> None:
    """Sends a signal to the thread that handles it, which wakes up where the system can do that."""
    main = threading.main_thread().ident
    if hasattr(signal, "pthread_kill") and main is not None:
        signal.pthread_kill(main, number)
    else:
        _thread.interrupt_main(signal.Signals(number))


def _restore_later(numbers: Sequence[int], handler: Callable[[int, FrameType | None], None]) -> None:
    """Takes a handler away after `IMPATIENT_SECONDS`: without one, a signal need not wait until Python has its turn."""

    def restore(*_: object) -> None:
        for number in set(numbers) - IGNORABLE:
            if signal.getsignal(number) is handler:
                signal.signal(number, signal.SIG_DFL)

    if hasattr(signal, "setitimer"):
        signal.signal(signal.SIGALRM, restore)
        signal.setitimer(signal.ITIMER_REAL, IMPATIENT_SECONDS)
        atexit.register(signal.setitimer, signal.ITIMER_REAL, 0)  # Python's end takes away the handler of the alarm


@contextmanager
def deferred() -> Iterator[None]:
    """Defers signals to `raise_if_stopped` inside the block, or to its end."""
    _state.depth += 1
    try:
        yield
    finally:
        _state.depth -= 1
    raise_if_stopped()


def stop_with_parent(*, at_once: bool = False) -> None:
    """Sends this process SIGTERM when the parent is gone, which holds the other end of stdin, also after a kill.

    `at_once` ends the process instead, whatever it waits for.
    """

    def watch() -> None:
        while os.read(0, 1024):  # not by `sys.stdin`, whose lock would be held at exit
            pass
        if at_once:
            os._exit(1)
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=watch, daemon=True).start()


def stop_requested() -> bool:
    """Whether a signal was received and not yet handled."""
    return received() is not None


def received() -> int | None:
    """The number of a signal that was received and not yet handled, if any."""
    return _state.received


def raise_if_stopped() -> None:
    """Raises `Stopped` if a signal was received."""
    if _state.received is not None:
        number, _state.received = _state.received, None
        raise Stopped(number)
