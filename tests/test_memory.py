"""Memory that runs out: the micro-batch is halved, gradients are accumulated, and the size is logged and saved."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import TINY
from torch import nn

from labelr.errors import LabelrError
from labelr.model.device import MicroBatcher, is_out_of_memory
from labelr.model.network import ResidualNetwork
from labelr.model.predict import Model
from labelr.tagging.tag import tag
from labelr.training.fit import FitResult, fit


class Sizes(list[int]):
    """The numbers of images that memory sufficed for, and how often it did not."""

    refused = 0


@contextmanager
def memory_for(images: int, error: BaseException | None = None) -> Iterator[Sizes]:
    """Memory that runs out with more than `images` images at a time; yields the sizes that succeeded, in order."""
    sizes = Sizes()

    def look(module: nn.Module, inputs: tuple[torch.Tensor, ...]) -> None:
        if isinstance(module, ResidualNetwork):
            if len(inputs[0]) > images:
                sizes.refused += 1
                raise error or torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.\nMore lines")
            sizes.append(len(inputs[0]))

    handle = nn.modules.module.register_module_forward_pre_hook(look)
    try:
        yield sizes
    finally:
        handle.remove()


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (torch.OutOfMemoryError("CUDA out of memory."), True),
        (RuntimeError("MPS backend out of memory (MPS allocated: 1 GB)"), True),
        (
            RuntimeError("[enforce fail at alloc_cpu.cpp:127] DefaultCPUAllocator: can't allocate memory: you tried"),
            True,
        ),
        (RuntimeError("could not create a primitive"), True),
        (RuntimeError("std::bad_alloc"), True),
        (MemoryError(), True),
        (RuntimeError("mat1 and mat2 shapes cannot be multiplied"), False),
        (ValueError("out of memory"), False),
    ],
)
def test_memory_errors_are_recognised(error: Exception, expected: bool) -> None:
    assert is_out_of_memory(error) == expected


def test_size_is_halved_until_memory_suffices_and_stays_there(caplog: pytest.LogCaptureFixture) -> None:
    tried = []

    def work(most: int) -> int:
        tried.append(most)
        if most > 10:
            raise MemoryError
        return most

    batcher = MicroBatcher(64, "a test", ", which is fine")
    assert [batcher.run(work) for _ in range(2)] == [8, 8]
    assert tried == [64, 32, 16, 8, 8]
    assert caplog.messages == ["memory ran out in a test: continuing with 8 images at a time, which is fine"]


def test_too_little_memory_for_one_image_is_an_error_with_a_hint() -> None:
    def work(most: int) -> int:
        raise RuntimeError("out of memory\nand more")

    with pytest.raises(
        LabelrError, match="does not suffice for a test with 1 image at a time: out of memory\n"
    ) as caught:
        MicroBatcher(4, "a test").run(work)
    assert "--image-size" in caught.value.hint


def test_other_errors_are_raised() -> None:
    with pytest.raises(RuntimeError, match="shapes"):
        MicroBatcher(4, "a test").run(lambda most: torch.ones(most, 3) @ torch.ones(2, 3))


@pytest.mark.slow
def test_training_continues_with_smaller_micro_batches_and_the_same_batch_size(
    trained: Model, shapes: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with memory_for(5) as sizes:
        result = fit(shapes, TINY, name="small")
    logged = [message for message in caplog.messages if "memory ran out in training" in message]
    expected = "continuing with 4 images at a time, with accumulated gradients, so that a step still uses 8 images"
    assert logged == [f"memory ran out in training: {expected}"]
    assert max(sizes) <= 5
    assert result.model.info.config["micro_batch"] == 4
    assert result.model.info.config["batch_size"] == 8
    losses = [one.history["train_loss"].iloc[-1] for one in (result, FitResult.load(trained))]
    assert losses[0] == pytest.approx(losses[1], abs=0.1)


@pytest.mark.slow
def test_training_continues_if_memory_runs_out_within_an_epoch(shapes: Path) -> None:
    limits = iter([100] * 8 + [4] * 1000)  # of each forward pass; the ninth is in the second epoch

    def look(module: nn.Module, inputs: tuple[torch.Tensor, ...]) -> None:
        if isinstance(module, ResidualNetwork) and len(inputs[0]) > next(limits):
            raise torch.OutOfMemoryError("CUDA out of memory.")

    handle = nn.modules.module.register_module_forward_pre_hook(look)
    try:
        result = fit(shapes, TINY, name="middle")
    finally:
        handle.remove()
    assert len(result.history) == 2
    assert result.model.info.config["micro_batch"] == 4


@pytest.mark.slow
def test_micro_batches_give_the_gradients_of_the_batch(shapes: Path) -> None:
    config = {**TINY, "amp": False, "dropout": 0.0, "epochs": 1}
    whole, *parts = (
        fit(shapes, {**config, "micro_batch": size}).history["train_loss"].iloc[0] for size in (None, 2, 3, 5)
    )
    assert all(whole == pytest.approx(loss, rel=0.1) for loss in parts), parts  # BatchNorm sees fewer images at a time


def test_prediction_in_smaller_micro_batches_is_the_same(
    trained: Model, shapes: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING)
    paths = sorted((shapes / "images").iterdir())[:30]
    expected = trained.predict(paths).probs
    with memory_for(7) as sizes:
        probs = trained.predict(paths).probs
    assert max(sizes) <= 7
    np.testing.assert_allclose(probs, expected, atol=0.01)
    assert [message for message in caplog.messages if "memory ran out in prediction" in message]


def test_tagging_finds_out_once_what_the_memory_suffices_for(
    trained: Model, shapes: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    model = replace(trained, runtime=replace(trained.runtime, threads=3, workers=3))  # with a limit of its own
    with memory_for(3) as sizes:
        summary = tag(shapes / "images", model, output=tmp_path / "out")
    assert summary.failed == 0
    assert max(sizes) == 2
    assert sizes.refused <= 2 * 3  # at most by each thread at the start, at 8 and at 4 images
    warnings = [message for message in caplog.messages if "memory ran out in prediction" in message]
    assert warnings[-1] == "memory ran out in prediction: continuing with 2 images at a time"


def test_network_too_large_for_memory_is_an_error(shapes: Path) -> None:
    with (
        memory_for(1),
        pytest.raises(LabelrError, match="memory does not suffice for training with 2 images at a time"),
    ):
        fit(shapes, TINY, name="large")
