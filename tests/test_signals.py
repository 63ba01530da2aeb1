"""Signals: handled at once, or at the next safe point."""

import signal
import subprocess
import sys
import time
import weakref
from collections.abc import Iterator

import pytest

from labelr import signals


@pytest.fixture(autouse=True)
def handlers() -> Iterator[list[str]]:
    """Handlers are installed; the list of their calls. The previous handlers are restored."""
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    hook = sys.unraisablehook
    calls: list[str] = []
    signals.install_handlers(signal.SIGINT, signal.SIGTERM, first=lambda: calls.append("first"))
    yield calls
    sys.unraisablehook = hook
    for number, handler in before.items():
        signal.signal(number, handler)


def test_signal_stops_the_work_at_once(handlers: list[str]) -> None:
    with pytest.raises(signals.Stopped) as caught:
        signal.raise_signal(signal.SIGTERM)
    assert caught.value.number == signal.SIGTERM
    assert caught.value.resume_option is None
    assert handlers == []


def work_with_a_signal_in_a_callback(seconds: float) -> None:
    """Gets a signal within the callback of a weak reference, whose exceptions Python ignores, and goes on."""
    collected = set({1})
    reference = weakref.ref(collected, lambda _: signal.raise_signal(signal.SIGTERM))
    del collected
    assert reference() is None
    time.sleep(seconds)


def test_second_signal_while_deferred_work_fails_does_not_interrupt_the_end(handlers: list[str]) -> None:
    done = []
    try:
        failing_work()
    except ZeroDivisionError:
        signal.raise_signal(signal.SIGINT)  # as a double Ctrl-C
        done.append("cleaned up")
    assert done == ["cleaned up"]
    assert signals.received() == signal.SIGINT
    assert handlers == ["first"]


def test_signal_in_a_callback_stops_the_work(capfd: pytest.CaptureFixture[str]) -> None:
    start = time.monotonic()
    with pytest.raises(signals.Stopped) as caught:
        work_with_a_signal_in_a_callback(60)
    assert time.monotonic() - start < 30
    assert caught.value.number == signal.SIGTERM
    assert capfd.readouterr().err == ""


def deferred_work(done: list[str], number: signal.Signals) -> None:
    with signals.deferred():
        done.append("before")
        signal.raise_signal(number)
        done.append("after")
        assert signals.stop_requested()
        signals.raise_if_stopped()
        done.append("never")


def test_deferred_work_continues_to_its_safe_point(handlers: list[str]) -> None:
    done: list[str] = []
    with pytest.raises(signals.Stopped):
        deferred_work(done, signal.SIGINT)
    assert done == ["before", "after"]
    assert handlers == ["first"]
    assert not signals.stop_requested()


def test_deferred_signal_is_raised_at_the_end_of_the_work() -> None:
    with pytest.raises(signals.Stopped), signals.deferred(), signals.deferred():
        signal.raise_signal(signal.SIGINT)


def failing_work() -> None:
    with signals.deferred():
        signal.raise_signal(signal.SIGINT)
        raise ZeroDivisionError


def test_error_in_deferred_work_is_not_hidden_by_a_signal() -> None:
    with pytest.raises(ZeroDivisionError):
        failing_work()


def test_nothing_is_raised_without_a_signal() -> None:
    with signals.deferred():
        signals.raise_if_stopped()


SEVERAL_SIGNALS = """
import signal, time
from labelr import signals
signal.signal(signal.SIGHUP, signal.SIG_DFL)  # nohup has it ignored
signals.install_handlers(signal.SIGINT, signal.SIGTERM, signal.SIGHUP, first=lambda: print("asked", flush=True))
try:
    with signals.deferred():
        signal.raise_signal(signal.{first})
        signal.raise_signal(signal.{second})
        time.sleep({seconds})
        signal.raise_signal(signal.{last})
        print("saved")
except signals.Stopped as stopped:
    print(signal.Signals(stopped.number).name)
"""


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(signal, "SIGHUP"), reason="Windows has no SIGHUP")
@pytest.mark.parametrize(
    ("first", "second", "seconds", "last", "code", "shown"),
    [
        ("SIGHUP", "SIGHUP", 0, "SIGHUP", 0, "asked\nsaved\nSIGHUP\n"),
        ("SIGHUP", "SIGTERM", 1.1, "SIGHUP", 0, "asked\nsaved\nSIGHUP\n"),
        ("SIGINT", "SIGINT", 0.4, "SIGINT", 0, "asked\nsaved\nSIGINT\n"),
        ("SIGINT", "SIGINT", 1.1, "SIGINT", -signal.SIGINT, "asked\n"),
        ("SIGTERM", "SIGINT", 1.1, "SIGTERM", -signal.SIGTERM, "asked\n"),
    ],
)
def test_only_a_signal_a_second_later_ends_the_process_at_once(
    first: str, second: str, seconds: float, last: str, code: int, shown: str
) -> None:
    script = SEVERAL_SIGNALS.format(first=first, second=second, seconds=seconds, last=last)
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (code, shown), done.stderr
