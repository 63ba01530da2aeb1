"""Signals: handled at once, or at the next safe point."""

import signal
import subprocess
import sys
from collections.abc import Iterator

import pytest

from labelr import signals


@pytest.fixture(autouse=True)
def handlers() -> Iterator[list[str]]:
    """Handlers are installed; the list of their calls. The previous handlers are restored."""
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


def test_second_signal_ends_the_process_even_if_deferred() -> None:
    code = (
        "import signal\nfrom labelr import signals\n"
        "signals.install_handlers(signal.SIGINT, signal.SIGTERM, first=lambda: print('asked', flush=True))\n"
        "with signals.deferred():\n"
        "    signal.raise_signal(signal.SIGTERM)\n    signal.raise_signal(signal.SIGINT)\n    print('never')"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (-signal.SIGINT, "asked\n")
