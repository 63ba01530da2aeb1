"""Muon, compared with torch's for matrices; the one-cycle schedule, progressive resizing, and the end of a run."""

import copy
import time

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.optim.lr_scheduler import OneCycleLR

from labelr.config import TrainConfig
from labelr.model.device import Runtime, ThreadPool
from labelr.model.network import ResidualNetwork
from labelr.training.optim import (
    FIRST_LAYER_LR,
    POLYNOMIALS,
    Budget,
    Muon,
    layer_depths,
    make_optimizers,
    one_cycle,
    orthogonalise,
    progressive_size,
)


def matrix_of(singular_values: Tensor, columns: int) -> tuple[Tensor, Tensor]:
    """A matrix ``(R, columns)`` with these singular values, and the one with all of them at 1."""
    generator = torch.Generator().manual_seed(0)
    rows = len(singular_values)
    left = torch.linalg.qr(torch.randn(rows, rows, generator=generator))[0]
    right = torch.linalg.qr(torch.randn(columns, rows, generator=generator))[0]
    return (left * singular_values) @ right.T, left @ right.T


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
@pytest.mark.parametrize("wide", [True, False])
def test_singular_values_come_close_to_one_and_vectors_stay(wide: bool, dtype: torch.dtype) -> None:
    matrix, orthogonal = matrix_of(torch.linspace(0.3, 1, 48), 200)
    if not wide:
        matrix, orthogonal = matrix.T, orthogonal.T
    result = orthogonalise(matrix.to(dtype)).float()
    assert result.shape == matrix.shape
    values = torch.linalg.svdvals(result)
    assert 0.88 < float(values.min()) <= float(values.max()) < 1.25
    assert float((result * orthogonal).sum() / result.norm() / orthogonal.norm()) > 0.97


@pytest.mark.parametrize("decades", [2, 4, 8])
def test_matrix_that_is_nearly_of_low_rank_does_not_blow_up(decades: int) -> None:
    matrix, _ = matrix_of(torch.logspace(0, -decades, 128), 1152)
    assert float(torch.linalg.svdvals(orthogonalise(matrix.bfloat16()).float()).max()) < 1.25


def test_polynomials_are_the_ones_that_come_closest_to_one() -> None:
    low, high = 0.02, 1.0
    for polynomial in POLYNOMIALS:
        values = np.geomspace(low, high, 2000)
        result = sum(coefficient * values**power for coefficient, power in zip(polynomial, (1, 3, 5), strict=True))
        error = np.abs(1 - result)
        peaks = [error[0], *error[1:-1][(error[1:-1] >= error[:-2]) & (error[1:-1] >= error[2:])], error[-1]]
        assert len(peaks) == 4  # a best approximation with 3 coefficients errs most, and equally, at 4 places
        assert max(peaks) - min(peaks) < 0.002
        low, high = 1 - max(peaks), 1 + max(peaks)
    assert high < 1.094


@pytest.mark.parametrize("scale", [1e-12, 1e-3, 1e10])
def test_scale_of_a_matrix_does_not_matter(scale: float) -> None:
    matrix, _ = matrix_of(torch.linspace(0.3, 1, 48), 200)
    values = torch.linalg.svdvals(orthogonalise((scale * matrix).bfloat16()).float())
    assert 0.88 < float(values.min()) <= float(values.max()) < 1.25


def test_zero_matrix_stays_zero() -> None:
    assert not orthogonalise(torch.zeros(8, 20, dtype=torch.bfloat16)).any()


@pytest.mark.parametrize("shape", [(24, 60), (60, 24)])
def test_steps_are_those_of_torchs_muon_on_matrices(shape: tuple[int, int]) -> None:
    start = torch.randn(shape, generator=torch.Generator().manual_seed(1))
    ours, theirs = nn.Parameter(start.clone()), nn.Parameter(start.clone())
    optimizers = [
        Muon([ours], lr=0.01, momentum=0.9, weight_decay=0.1),
        torch.optim.Muon(
            [theirs],
            lr=0.01,
            momentum=0.9,
            weight_decay=0.1,
            adjust_lr_fn="match_rms_adamw",
            ns_coefficients=(15 / 8, -10 / 8, 3 / 8),
            ns_steps=30,
        ),  # singular values of 1, in many rounds
    ]
    for step in range(10):
        for weight, optimizer in zip((ours, theirs), optimizers, strict=True):
            weight.grad = torch.randn(shape, generator=torch.Generator().manual_seed(step))
            optimizer.step()
    moved = (theirs.detach() - start).norm()
    assert float(moved) > 0.1
    assert float((ours - theirs).detach().norm() / moved) < 0.1


def test_convolution_is_changed_as_the_matrix_of_its_output_channels() -> None:
    weight = torch.randn(16, 8, 3, 3).to(memory_format=torch.channels_last)
    grad = torch.randn(16, 8, 3, 3)
    convolution, matrix = nn.Parameter(weight.clone()), nn.Parameter(weight.flatten(1).clone())
    convolution.grad, matrix.grad = grad, grad.flatten(1).clone()
    for parameter in (convolution, matrix):
        Muon([parameter], lr=0.1, dtype=torch.float32).step()
    torch.testing.assert_close(convolution.flatten(1), matrix, atol=1e-5, rtol=0)
    assert convolution.is_contiguous(memory_format=torch.channels_last)


def test_weight_decay_shrinks_and_a_weight_without_gradient_stays() -> None:
    decayed, still = nn.Parameter(torch.ones(4, 4)), nn.Parameter(torch.ones(4, 4))
    decayed.grad = torch.zeros(4, 4)
    Muon([decayed, still], lr=0.5, weight_decay=0.1).step()
    torch.testing.assert_close(decayed.data, torch.full((4, 4), 0.95))
    assert torch.equal(still.data, torch.ones(4, 4))


def test_state_can_be_saved_and_continued() -> None:
    weights = [nn.Parameter(torch.ones(4, 6)) for _ in range(2)]
    first, second = (Muon([weight], lr=0.1) for weight in weights)
    weights[0].grad = torch.randn(4, 6)
    first.step()
    second.load_state_dict(copy.deepcopy(first.state_dict()))
    weights[1].data.copy_(weights[0].data)
    grad = torch.randn(4, 6)
    for weight, optimizer in zip(weights, (first, second), strict=True):
        weight.grad = grad
        optimizer.step()
    assert torch.equal(*weights)


def test_one_cycle_is_that_of_torch() -> None:
    optimizer = torch.optim.AdamW([torch.nn.Parameter(torch.zeros(1))], lr=1.0, betas=(0.95, 0.99))
    theirs = OneCycleLR(optimizer, 1.0, total_steps=401, pct_start=0.25025, base_momentum=0.85, max_momentum=0.95)
    for step in range(401):
        group = optimizer.param_groups[0]
        lr, momentum = one_cycle(step / 400)
        assert lr == pytest.approx(group["lr"], abs=0.006)
        assert momentum == pytest.approx(group["betas"][0], abs=0.001)
        optimizer.step()
        if step < 400:
            theirs.step()


@pytest.mark.parametrize(("progress", "lr", "momentum"), [(0, 0.04, 0.95), (0.25, 1, 0.85), (1, 4e-6, 0.95)])
def test_one_cycle_rises_to_its_peak_and_falls_to_almost_nothing(progress: float, lr: float, momentum: float) -> None:
    assert one_cycle(progress) == pytest.approx((lr, momentum))


def test_progressive_size_is_full_in_the_last_third() -> None:
    sizes = [progressive_size(128, step / 30) for step in range(30)]
    assert sizes[0] == 80
    assert sizes == sorted(sizes)
    assert sizes[19:] == [112] + [128] * 10
    assert all(size % 16 == 0 for size in sizes)


@pytest.mark.parametrize("full", [32, 40, 50, 224])
def test_progressive_size_stays_between_64_and_the_full_size(full: int) -> None:
    sizes = {progressive_size(full, step / 100) for step in range(101)}
    assert min(sizes) == min(full, 128 if full == 224 else 64)
    assert max(sizes) == full


def test_progress_counts_steps() -> None:
    budget = Budget(steps=8)
    assert [budget.progress(count) for count in (0, 4, 8)] == [0, 0.5, 1]
    budget.reserved = 1e9
    assert budget.progress(4) == 0.5


@pytest.fixture
def now(monkeypatch: pytest.MonkeyPatch) -> float:
    """Stops the clock at this time."""
    monkeypatch.setattr(time, "monotonic", lambda: 1000.0)
    return 1000.0


def test_time_left_follows_from_the_average_step(now: float) -> None:
    budget = Budget(steps=10, start=now - 6)
    assert budget.seconds_left(4) == 9
    assert budget.seconds_left(0) == float("inf")


def test_deadline_counts_time_and_not_steps(now: float) -> None:
    budget = Budget(deadline=now + 6, start=now - 4)
    assert budget.progress(0) == 0.4
    assert budget.progress(1000) == 0.4
    assert budget.seconds_left(0) == 6


def test_reserved_time_is_not_trained_in(now: float) -> None:
    budget = Budget(deadline=now + 6, start=now - 4)
    budget.reserved = 5
    assert budget.progress(0) == 0.8
    budget.reserved = 20
    assert budget.progress(0) == 1


def test_passed_deadline_is_the_end(now: float) -> None:
    assert Budget(deadline=now - 1, start=now - 5).progress(0) == 1
    assert Budget(deadline=now - 5, start=now - 1).progress(0) == 1


def test_depth_of_layers_rises_from_first_to_last() -> None:
    network = ResidualNetwork(3, width=0.125)
    depths = layer_depths(network)
    values = list(depths.values())
    assert values == sorted(values)
    assert depths[next(iter(network.parameters()))] == 0
    assert values[-2:] == [1, 1]  # the weight and the bias of the head


@pytest.mark.parametrize("optimizer", ["adamw", "muon"])
def test_early_layers_of_a_pretrained_network_learn_more_slowly(optimizer: str) -> None:
    network = ResidualNetwork(3, width=0.125)
    runtime = Runtime(torch.device("cpu"), "fp32", 1, 1)
    pretrained = TrainConfig.of({"backbone": "resnet18", "optimizer": optimizer})
    groups = [
        group for each in make_optimizers(network, pretrained, runtime, ThreadPool(1)) for group in each.param_groups
    ]
    scales = {id(parameter): group["lr_scale"] for group in groups for parameter in group["params"]}
    assert len(scales) == len(list(network.parameters()))
    assert scales[id(network.head.linear.weight)] == 1
    assert scales[id(next(iter(network.parameters())))] == FIRST_LAYER_LR
    scratch = [
        group for each in make_optimizers(network, TrainConfig(), runtime, ThreadPool(1)) for group in each.param_groups
    ]
    assert {group["lr_scale"] for group in scratch} == {1.0}
