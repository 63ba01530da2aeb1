"""The learning rate, the size of images, and the end of a run."""

import time

import pytest
import torch
from torch.optim.lr_scheduler import OneCycleLR

from labelr.training.schedule import Minutes, Steps, grown_size, one_cycle


def test_one_cycle_is_that_of_torch() -> None:
    optimizer = torch.optim.AdamW([torch.nn.Parameter(torch.zeros(1))], lr=1.0, betas=(0.95, 0.99))
    theirs = OneCycleLR(optimizer, 1.0, total_steps=401, pct_start=0.25025, base_momentum=0.85, max_momentum=0.95)
    for step in range(401):
        group = optimizer.param_groups[0]
        ours = one_cycle(step / 400)
        assert ours.lr == pytest.approx(group["lr"], abs=0.006)
        assert ours.momentum == pytest.approx(group["betas"][0], abs=0.001)
        optimizer.step()
        if step < 400:
            theirs.step()


@pytest.mark.parametrize(("progress", "lr", "momentum"), [(0, 0.04, 0.95), (0.25, 1, 0.85), (1, 4e-6, 0.95)])
def test_one_cycle_rises_to_its_peak_and_falls_to_almost_nothing(progress: float, lr: float, momentum: float) -> None:
    assert one_cycle(progress) == pytest.approx((lr, momentum))


def test_images_grow_to_full_size_in_the_last_third() -> None:
    sizes = [grown_size(128, step / 30) for step in range(30)]
    assert sizes[0] == 80
    assert sizes == sorted(sizes)
    assert sizes[19:] == [112] + [128] * 10
    assert all(size % 16 == 0 for size in sizes)


@pytest.mark.parametrize("full", [32, 40, 50, 224])
def test_images_never_grow_beyond_their_full_size_nor_below_what_the_network_takes(full: int) -> None:
    sizes = {grown_size(full, step / 100) for step in range(101)}
    assert min(sizes) == min(full, 128 if full == 224 else 64)
    assert max(sizes) == full


def test_steps_are_used_up_by_counting() -> None:
    steps = Steps(8)
    assert [steps.progress(count) for count in (0, 4, 8)] == [0, 0.5, 1]
    steps.reserve(1e9)
    assert steps.progress(4) == 0.5


@pytest.fixture
def now(monkeypatch: pytest.MonkeyPatch) -> float:
    """The clock stands still, at this time."""
    monkeypatch.setattr(time, "monotonic", lambda: 1000.0)
    return 1000.0


def test_rest_of_the_steps_takes_as_long_as_those_before(now: float) -> None:
    steps = Steps(10, start=now - 6)
    assert steps.seconds_left(4) == 9
    assert steps.seconds_left(0) == float("inf")


def test_minutes_are_used_up_by_the_clock_whatever_the_steps(now: float) -> None:
    minutes = Minutes(now + 6, start=now - 4)
    assert minutes.progress(0) == 0.4
    assert minutes.progress(1000) == 0.4
    assert minutes.seconds_left(0) == 6


def test_time_set_aside_is_not_trained_in(now: float) -> None:
    minutes = Minutes(now + 6, start=now - 4)
    minutes.reserve(5)
    assert minutes.progress(0) == 0.8
    minutes.reserve(20)
    assert minutes.progress(0) == 1


def test_time_that_has_passed_is_the_end(now: float) -> None:
    assert Minutes(now - 1, start=now - 5).progress(0) == 1
    assert Minutes(now - 5, start=now - 1).progress(0) == 1
