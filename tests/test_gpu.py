"""Accelerators: the same results as on the CPU. Without one, the code of accelerators runs on the CPU."""

import copy
import threading
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from importlib import import_module
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import Cli
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from torch.utils._python_dispatch import TorchDispatchMode

from labelr.config import ReadOptions, TrainConfig
from labelr.data.load import load_dataset
from labelr.model.device import Runtime, set_tf32
from labelr.model.network import ResidualNetwork
from labelr.model.predict import Model, make_batcher, optimize_for_inference, predict_probs
from labelr.training.batches import DeviceImages, TrainImages
from labelr.training.epochs import describe_model
from labelr.training.head import compute_features
from labelr.training.optim import Budget, Muon
from labelr.training.trainer import AveragedNetwork, Trainer

CUDA = pytest.param(
    "cuda", marks=[pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device here")]
)
on_each_device = pytest.mark.parametrize("device", ["cpu", CUDA])
on_cuda = pytest.mark.parametrize("device", [CUDA])
STEPS = 21


@dataclass(frozen=True)
class Accelerator(Runtime):
    """A device that is used as an accelerator is, though it may be the CPU, and that has no float64, as MPS."""

    @property
    def is_cpu(self) -> bool:
        return False

    @property
    def has_float64(self) -> bool:
        return False


def make_trainer(shapes: Path, runtime: Runtime, *, room: int | None = None, **settings: Any) -> Trainer:
    """A trainer of a small network, for batches of 8 of 60 images; `room` is for images on the device."""
    dataset = load_dataset([shapes], ReadOptions())
    pixels = dataset.pixels(32, rule="squish", options=ReadOptions(), threads=1)
    resolved = {"optimizer": "muon", "augment": "light", "mixup": 0.0, "progressive": False, "dropout": 0.0}
    config = TrainConfig(width=0.125, lr=1e-3, image_size=32, **{**resolved, "batch_size": 8, **settings})
    images = TrainImages.of(dataset, pixels, config)
    if not runtime.is_cpu:
        images = TrainImages(**{**vars(images), "on_device": DeviceImages(pixels, runtime.device, room)})
    torch.manual_seed(0)
    return Trainer(images, describe_model(dataset, config), config, runtime, Budget(steps=STEPS))


def losses_of(trainer: Trainer) -> list[float]:
    losses: list[float] = []
    while trainer.progress < 1:
        trainer.run_epoch()
        losses += torch.stack(trainer.losses).tolist()
        trainer.end_epoch()
    return losses


def accelerator(device: str, precision: str = "fp32") -> Runtime:
    if device == "cuda":
        set_tf32(enabled=False)
        return Runtime(torch.device(device), precision, 1, 1)
    return Accelerator(torch.device(device), precision, 1, 1)


@on_each_device
@pytest.mark.parametrize(
    "settings",
    [
        {},
        pytest.param({"augment": "strong", "mixup": 0.4}, marks=pytest.mark.slow),
        pytest.param({"optimizer": "adamw"}, marks=pytest.mark.slow),
    ],
    ids=str,
)
def test_losses_of_the_first_steps_are_those_of_the_cpu(shapes: Path, device: str, settings: dict[str, Any]) -> None:
    expected = losses_of(make_trainer(shapes, Runtime(torch.device("cpu"), "fp32", 1, 1), **settings))
    found = losses_of(make_trainer(shapes, accelerator(device), room=10**9, **settings))
    assert len(found) == STEPS
    np.testing.assert_allclose(found, expected, atol=1e-3)


@on_each_device
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_probabilities_are_those_of_the_cpu(shapes: Path, trained: Model, device: str, precision: str) -> None:
    paths = sorted((shapes / "images").iterdir())
    expected = trained.predict(paths).probs
    runtime = accelerator(device, precision)
    other = Model(trained.path, trained.info, runtime, trained.module)
    np.testing.assert_allclose(other.predict(paths).probs, expected, atol=0.02)
    trained.module.to("cpu")


@on_each_device
@pytest.mark.parametrize("room", [0, 10**9])
def test_images_on_the_device_are_those_of_the_files(shapes: Path, device: str, room: int) -> None:
    trainer = make_trainer(shapes, accelerator(device), room=room)
    plain = TrainImages(**{**vars(trainer.images), "on_device": None})
    for epoch in (1, 2, 3):
        for found, expected in zip(trainer.images.epoch(epoch), plain.epoch(epoch), strict=True):
            assert found.images.device.type == device
            assert torch.equal(found.images.cpu(), expected.images)
            assert torch.equal(found.targets, expected.targets)
            assert found.seed == expected.seed


@on_each_device
def test_images_that_stay_on_the_device_are_read_once(shapes: Path, device: str) -> None:
    trainer = make_trainer(shapes, accelerator(device), room=10**9, batch_size=10)
    images = trainer.images.on_device
    assert images is not None
    first = torch.cat([batch.images for batch in trainer.images.epoch(1)])
    images._pixels = images._pixels.subset(np.array([], np.int64))  # nothing can be read any more
    second = torch.cat([batch.images for batch in trainer.images.epoch(2)])
    assert torch.equal(first.flatten(1).sum(1).sort()[0], second.flatten(1).sum(1).sort()[0])


@on_each_device
def test_images_leave_the_device_before_micro_batches_shrink(
    shapes: Path, device: str, caplog: pytest.LogCaptureFixture
) -> None:
    trainer = make_trainer(shapes, accelerator(device), room=10**9)
    caplog.clear()
    failures = iter([False] * 3 + [True] + [False] * 10)

    def run_out(*_: object) -> None:
        if next(failures):
            raise torch.OutOfMemoryError("CUDA out of memory.")

    handle = trainer.network.register_forward_pre_hook(run_out)
    trainer.run_epoch()
    handle.remove()
    assert caplog.messages == [
        f"memory ran out: the images are not kept on the {device} device, but copied there for each step"
    ]
    assert trainer.gradients.batcher.size == trainer.images.batch_size


@on_cuda
def test_step_waits_for_the_device_at_no_point(shapes: Path, device: str) -> None:
    for precision in ("fp32", "bf16", "fp16"):
        trainer = make_trainer(shapes, accelerator(device, precision), augment="strong", mixup=0.4, dropout=0.3)
        trainer.run_epoch()
        trainer.end_epoch()
        batches = list(trainer.images.epoch(2))
        torch.cuda.synchronize()
        torch.cuda.set_sync_debug_mode("error")
        try:
            losses = [trainer._step(batch) for batch in batches]
        finally:
            torch.cuda.set_sync_debug_mode("default")
        assert torch.stack(losses).isfinite().all()


class Waits(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Lists the copies to a meta device that the process waits for; to read a value of one is an error anyway."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.copies: list[str] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Sequence[Any] = (), kwargs: Any = None) -> Any:
        result = func(*args, **kwargs or {})
        devices = [tensor.device.type for tensor in (result, *args) if isinstance(tensor, Tensor)]
        if "copy" in str(func) and {"cpu", "meta"} <= {*devices} and not (kwargs or {}).get("non_blocking"):
            self.copies.append(f"{func} {tuple(result.shape)} {result.dtype}")
        return result


@dataclass(frozen=True)
class Meta(Accelerator):
    """A device that computes nothing, so that every wait for a value is found; torch has no autocast for it."""

    def autocast(self) -> AbstractContextManager[object]:
        return nullcontext()


@pytest.fixture
def meta(monkeypatch: pytest.MonkeyPatch) -> Runtime:
    """A device without values, which has the fused optimizers of CUDA."""
    devices = ["cpu", "cuda", "meta"]
    module = import_module(torch.optim.Optimizer.__module__)
    monkeypatch.setattr(module, "_get_fused_kernels_supported_devices", lambda: devices)
    return Meta(torch.device("meta"), "fp32", 1, 1)


@pytest.mark.slow
@pytest.mark.parametrize("optimizer", ["muon", "adamw"])
@pytest.mark.parametrize("room", [0, 10**9])
def test_nothing_in_a_step_waits_for_an_accelerator(shapes: Path, meta: Runtime, optimizer: str, room: int) -> None:
    settings = {"augment": "strong", "mixup": 0.4, "dropout": 0.3, "optimizer": optimizer}
    trainer = make_trainer(shapes, meta, room=room, **settings)
    batches = trainer.images.epoch(1)
    trainer._step(next(batches))  # the first takes mean and standard deviation of the images to the device
    with Waits() as waits:
        for batch in batches:
            trainer._step(batch)
    assert waits.copies == []
    assert trainer.steps == trainer.images.steps > 2


def test_waits_are_found() -> None:
    with Waits() as waits:
        torch.ones(2).to("meta")
        torch.ones(3).to("meta", non_blocking=True)
        torch.zeros(4, device="meta").copy_(torch.ones(4))
    assert [copy.split()[0] for copy in waits.copies] == ["aten._to_copy.default", "aten.copy_.default"]
    with pytest.raises(RuntimeError, match="meta"):
        float(torch.ones((), device="meta"))


def test_averaged_network_is_that_of_torch() -> None:
    average: Any = get_ema_multi_avg_fn(0.7)  # type: ignore[no-untyped-call]
    start = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2))
    found = AveragedNetwork(start, lambda own, current: average(own, current, 0))
    expected = AveragedModel(start, multi_avg_fn=average, use_buffers=True)
    for _ in range(3):
        network = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2))
        network(torch.randn(4, 2))
        found.update_parameters(network)
        expected.update_parameters(network)
    assert found.state_dict().keys() == expected.state_dict().keys()
    assert all(map(torch.equal, found.state_dict().values(), expected.state_dict().values()))


@pytest.mark.slow
@on_each_device
def test_scale_of_fp16_survives_a_resumed_run(shapes: Path, device: str) -> None:
    stopped = make_trainer(shapes, accelerator(device, "fp16"))
    stopped.run_epoch()
    stopped.gradients.scaler.update(2.0**7)  # as if gradients had overflowed
    stopped.end_epoch()
    resumed = make_trainer(shapes, accelerator(device, "fp16"))
    resumed.restore(copy.deepcopy(stopped.state()))
    assert resumed.gradients.scaler.state_dict() == stopped.gradients.scaler.state_dict()
    assert resumed.gradients.scaler.get_scale() == 2.0**7
    assert resumed.run_epoch() == pytest.approx(stopped.run_epoch(), abs=1e-3)


@on_each_device
def test_infinite_gradient_changes_no_weight_and_halves_the_scale(device: str) -> None:
    weights = [nn.Parameter(torch.ones(8, 4, 3, 3, device=device)) for _ in range(3)]
    muon = Muon([*weights], lr=0.1, weight_decay=0.1, dtype=torch.float32, batched=True)
    scaler = torch.amp.GradScaler(device, init_scale=4.0)
    for infinite in (False, True):
        before = [weight.detach().clone() for weight in weights]
        scaler.scale(torch.zeros((), device=device))
        for weight in weights:
            weight.grad = torch.randn_like(weight)
        if infinite:
            weights[1].grad[0] = torch.inf  # type: ignore[index]
        mean = [muon._mean(weight).clone() for weight in weights]
        scaler.step(muon)
        scaler.update()
        assert all(map(torch.equal, weights, before)) == infinite
        assert all(torch.equal(muon._mean(weight), old) for weight, old in zip(weights, mean, strict=True)) == infinite
    assert scaler.get_scale() == 2.0


@on_each_device
def test_batched_steps_are_those_of_each_weight(device: str) -> None:
    shapes = [(16, 8, 3, 3), (8, 16, 1, 1), (16, 8, 3, 3), (16, 8, 3, 3), (32, 8)]
    start = [torch.randn(shape).to(device) for shape in shapes]
    found = []
    for batched in (False, True):
        weights = [nn.Parameter(values.clone()) for values in start]
        muon = Muon([*weights], lr=0.1, weight_decay=0.1, dtype=torch.float32, batched=batched)
        for seed in range(3):
            generator = torch.Generator().manual_seed(seed)
            for weight in weights[:4]:
                weight.grad = torch.randn(weight.shape, generator=generator).to(device)
            muon.step()
        found.append(weights)
    for one, many in zip(*found, strict=True):
        torch.testing.assert_close(one, many, rtol=1e-4, atol=1e-5)


class DtypesSeen(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Counts the operations that return tensors of float64."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.float64 = Counter[str]()

    def __torch_dispatch__(self, func: Any, types: Any, args: Sequence[Any] = (), kwargs: Any = None) -> Any:
        result = func(*args, **kwargs or {})
        tensors = [
            one for one in (result if isinstance(result, (tuple, list)) else [result]) if isinstance(one, Tensor)
        ]
        self.float64.update(str(func) for tensor in tensors if tensor.dtype == torch.float64)
        return result


def train(shapes: Path, precision: str) -> None:
    settings = {"augment": "strong", "mixup": 0.4, "dropout": 0.3, "vertical_flip": True}
    trainer = make_trainer(shapes, accelerator("cpu", precision), room=10**9, **settings)
    for batch in islice(trainer.images.epoch(1), 2):
        trainer._step(batch)
    trainer.state()


def predict(shapes: Path, precision: str) -> None:
    runtime, info = (
        accelerator("cpu", precision),
        describe_model(load_dataset([shapes], ReadOptions()), TrainConfig(image_size=64)),
    )
    network = optimize_for_inference(ResidualNetwork(3, width=0.125), runtime)
    batches = [np.random.default_rng(0).integers(0, 256, (9, 64, 64, 3), np.uint8)]
    batcher = make_batcher(runtime, 64)
    list(predict_probs(network, batches, info.preprocessing, runtime, batcher=batcher))


def compute_head_features(shapes: Path, precision: str) -> None:
    dataset = load_dataset([shapes], ReadOptions())
    pixels = dataset.pixels(32, rule="squish", options=ReadOptions(), threads=1)
    info = describe_model(dataset, TrainConfig(image_size=32))
    network = ResidualNetwork(3, width=0.125)
    runtime = accelerator("cpu", precision)
    compute_features(network, pixels, info.preprocessing, runtime, name="network", cache_limit=0)


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("work", [train, predict, compute_head_features])
def test_device_without_float64_is_asked_for_none(
    shapes: Path, work: Callable[[Path, str], None], precision: str
) -> None:
    with DtypesSeen() as seen:
        work(shapes, precision)
    assert not seen.float64


def test_recording_finds_float64() -> None:
    with DtypesSeen() as seen:
        torch.ones(2, dtype=torch.float64) * 2
    assert seen.float64.total() == 2


def test_threads_take_turns_on_an_accelerator(trained: Model) -> None:
    model = Model(trained.path, trained.info, accelerator("cpu"), trained.module)
    running, most = [0], [0]
    lock = threading.Lock()

    def enter(*_: object) -> None:
        with lock:
            running[0] += 1
            most[0] = max(most[0], running[0])

    def leave(*_: object) -> None:
        with lock:
            running[0] -= 1

    network = model.inference_network
    handles = [network.stem.register_forward_pre_hook(enter), network.head.register_forward_hook(leave)]  # type: ignore[union-attr]
    pixels = np.zeros((4, 32, 32, 3), np.uint8)
    with ThreadPoolExecutor(4) as pool:
        results = list(pool.map(model.predict_pixels, [[pixels]] * 12))
    for handle in handles:
        handle.remove()
    assert most == [1]
    assert all(np.array_equal(result, results[0]) for result in results)


@on_cuda
def test_products_of_float32_are_not_rounded(device: str) -> None:
    accelerator(device)
    images, weight = torch.randn(8, 64, 32, 32, device=device), torch.randn(64, 64, 3, 3, device=device)
    for product, exact in (
        (images[:, :, 0] @ images[:, :, 0].mT, images[:, :, 0].double() @ images[:, :, 0].double().mT),
        (nn.functional.conv2d(images, weight), nn.functional.conv2d(images.double(), weight.double())),
    ):
        assert float((product - exact).abs().max() / exact.abs().max()) < 1e-5


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (torch.AcceleratorError("CUDA error: unspecified launch failure"), "Error: the GPU failed: CUDA error: unspec"),
        (torch.OutOfMemoryError("CUDA out of memory."), "Error: memory does not suffice for prediction with 1 image"),
    ],
)
def test_card_that_is_full_or_lost_ends_in_a_sentence(
    cli: Cli, trained: Model, photos: Path, tmp_path: Path, error: Exception, message: str
) -> None:
    def fail(module: nn.Module, inputs: object) -> None:
        raise error

    handle = nn.modules.module.register_module_forward_pre_hook(fail)
    try:
        result = cli("tag", photos, "--model", trained.path, "--output", tmp_path / "labels")
    finally:
        handle.remove()
    assert result.code == 1
    assert message in result.err
    assert "Hint: " in result.err
    assert "Traceback" not in result.err
