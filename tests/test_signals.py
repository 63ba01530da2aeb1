"""Signals: obeyed at once, or where held work may be left."""

import signal
import subprocess
import sys
from collections.abc import Iterator

import pytest

from labelr import signals


@pytest.fixture(autouse=True)
def handlers() -> Iterator[list[str]]:
    """Signals obeyed, and what was called when the first one came; the handlers of before come back."""
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    calls: list[str] = []
    signals.install_handlers(signal.SIGINT, signal.SIGTERM, first=lambda: calls.append("first"))
    yield calls
    for number, handler in before.items():
        signal.signal(number, handler)


def test_signal_stops_the_work_at_once(handlers: list[str]) -> None:
    with pytest.raises(signals.Stopped) as caught:
        signal.raise_signal(signal.SIGTERM)
    assert caught.value.number == signal.SIGTERM
    assert caught.value.resume_option is None
    assert handlers == []


def held_work(done: list[str], number: signal.Signals) -> None:
    with signals.deferred():
        done.append("before")
        signal.raise_signal(number)
        done.append("after")
        assert signals.stop_requested()
        signals.raise_if_stopped()
        done.append("never")


def test_held_work_goes_on_until_it_may_be_left(handlers: list[str]) -> None:
    done: list[str] = []
    with pytest.raises(signals.Stopped):
        held_work(done, signal.SIGINT)
    assert done == ["before", "after"]
    assert handlers == ["first"]
    assert not signals.stop_requested()


def test_held_work_is_left_at_its_end_if_nowhere_else() -> None:
    with pytest.raises(signals.Stopped), signals.deferred(), signals.deferred():
        signal.raise_signal(signal.SIGINT)


def failing_work() -> None:
    with signals.deferred():
        signal.raise_signal(signal.SIGINT)
        raise ZeroDivisionError


def test_error_in_held_work_is_not_hidden_by_a_signal() -> None:
    with pytest.raises(ZeroDivisionError):
        failing_work()


def test_nothing_is_left_where_nothing_was_asked() -> None:
    with signals.deferred():
        signals.raise_if_stopped()


def test_second_signal_ends_the_process_whatever_it_holds() -> None:
    code = (
        "import signal\nfrom labelr import signals\n"
        "signals.install_handlers(signal.SIGINT, signal.SIGTERM, first=lambda: print('asked', flush=True))\n"
        "with signals.deferred():\n"
        "    signal.raise_signal(signal.SIGTERM)\n    signal.raise_signal(signal.SIGINT)\n    print('never')"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (-signal.SIGINT, "asked\n")
