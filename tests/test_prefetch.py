"""Prefetching on threads."""

import itertools
import threading
import time

import pytest

from labelr.processors import in_batches, map_ahead


def prefetch_threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name.startswith("ahead")]


@pytest.mark.parametrize("threads", [1, 3])
def test_results_are_in_the_order_of_the_items_whichever_is_ready_first(threads: int) -> None:
    def work(number: int) -> int:
        time.sleep(0.02 if number % 3 == 0 else 0)
        return number * 10

    assert list(map_ahead(work, range(12), threads=threads, ahead=5)) == [10 * number for number in range(12)]


def test_no_items_give_no_results() -> None:
    assert list(map_ahead(str, [], threads=1, ahead=2)) == []


def test_no_more_items_are_started_than_ahead_allows() -> None:
    started: list[int] = []
    results = map_ahead(started.append, range(100), threads=4, ahead=3)
    next(results)
    time.sleep(0.05)
    assert len(started) <= 4
    results.close()


@pytest.mark.parametrize("threads", [1, 3])
def test_items_are_taken_only_a_little_ahead(threads: int) -> None:
    taken = itertools.count()
    results = map_ahead(str, (0 for _ in taken), threads=threads, ahead=8 * threads)
    list(itertools.islice(results, 5))
    assert next(taken) <= 8 * threads + 5
    results.close()


def test_threads_end_with_the_iteration() -> None:
    results = map_ahead(str, itertools.repeat(0), threads=3, ahead=24)
    next(results)
    results.close()
    assert not prefetch_threads()


def test_error_is_raised_in_the_place_of_its_result() -> None:
    results = map_ahead(lambda number: 6 // number, [3, 0, 1], threads=2, ahead=3)
    assert next(results) == 2
    with pytest.raises(ZeroDivisionError):
        next(results)
    assert not prefetch_threads()


@pytest.mark.parametrize(
    ("count", "expected"), [(0, []), (1, [[0]]), (4, [[0, 1], [2, 3]]), (5, [[0, 1], [2, 3], [4]])]
)
def test_last_batch_may_be_shorter(count: int, expected: list[list[int]]) -> None:
    assert list(in_batches(range(count), 2)) == expected


def test_batches_are_taken_one_at_a_time() -> None:
    numbers = itertools.count()
    assert next(in_batches(numbers, 3)) == [0, 1, 2]
    assert next(numbers) == 3
