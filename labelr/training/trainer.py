"""One epoch of training: the optimisation step, micro-batches, the loss, and the average of the weights."""

import logging
import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from copy import deepcopy
from functools import partial
from threading import Lock
from typing import Any, NamedTuple, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from torch.overrides import TorchFunctionMode

from labelr.config import TrainConfig
from labelr.data.augment import STRENGTHS, TRAINING_SHARE, Augmentation, mixup
from labelr.errors import LabelrError, first_line, pluralize
from labelr.model.device import MicroBatcher, Runtime, ThreadPool, is_out_of_memory, one_thread_per_operation
from labelr.model.info import ModelInfo
from labelr.model.network import Network, count_parameters
from labelr.model.predict import normalise
from labelr.model.pretrained import smallest_size
from labelr.model.store import build_network
from labelr.model.weight_files import check_like
from labelr.progress import Description, Track, untracked
from labelr.training.batches import Batch, TrainImages
from labelr.training.optim import (
    MIN_SIZE,
    Budget,
    layer_depths,
    make_optimizers,
    one_cycle,
    progressive_size,
    restore_optimizer,
)

LAST_LAYERS = 0.75
"""How deep in a network the layers start that the setting ``train="last"`` trains."""
MICRO_BATCH_SIZE = 16
"""The images of a micro-batch on the CPU, which BatchNorm sees together."""
RANDOM_FUNCTIONS = ("alpha_dropout", "bernoulli", "dropout", "feature_alpha_dropout")
"""What the names of functions start with that draw random numbers in a network."""
LOSS_CHECK_STEPS = 16
"""The number of steps between checks of the losses: a check waits for the accelerator."""

log = logging.getLogger(__name__)


class MicroBatchResult(NamedTuple):
    """The loss and the gradients of a micro-batch.

    Attributes:
        loss: The sum of the cross-entropy of the known cells, divided by the number of all cells of the batch.
        num_known: The number of known cells, a scalar.
        gradients: Of the loss, for each trained parameter; scaled in fp16.
    """

    loss: Tensor
    num_known: Tensor
    gradients: tuple[Tensor, ...]


class Trainer:
    """A newly initialised network in training, with its optimizers, schedule and moving average of weights.

    Attributes:
        epoch: The current epoch, from 1.
        steps: The number of steps made.
        losses: Of the steps of the current epoch, each a scalar on the device.
        waited_seconds: The time in the current epoch that was spent waiting for batches.
        batcher: How many images of a batch go through the network together.
    """

    def __init__(
        self, images: TrainImages, info: ModelInfo, config: TrainConfig, runtime: Runtime, budget: Budget
    ) -> None:
        self.config = config
        self.runtime = runtime
        self.preprocessing = info.preprocessing
        self.smallest_size = smallest_size(info.architecture)
        self.images = images
        self.budget = budget
        self.epoch = 1
        self.steps = 0
        self.losses: list[Tensor] = []
        self._checked_loss: float | None = None
        self.waited_seconds = 0.0
        self.pool = ThreadPool(1 if config.compile else runtime.compute_threads)  # compiled dropout has one generator
        batch_size = images.batch_size
        self.default_micro_batch = min(MICRO_BATCH_SIZE, batch_size) if runtime.is_cpu else batch_size
        consequence = f", with accumulated gradients, so that a step still uses {pluralize(batch_size, 'image')}"
        self.batcher = MicroBatcher(
            min(config.micro_batch or self.default_micro_batch, batch_size), "training", consequence, minimum=2,
            make_room=images.on_device.release if images.on_device else lambda: False,
        )  # fmt: skip
        torch.manual_seed(config.seed)
        self.network = runtime.place(build_network(info))
        self.network.keeps_statistics = config.is_pretrained
        if config.train == "last":
            for parameter, depth in layer_depths(self.network).items():
                parameter.requires_grad = depth >= LAST_LAYERS
        log.debug(
            "%s, %s of %s per epoch", pluralize(count_parameters(self.network), "parameter"),
            pluralize(images.steps, "step"), pluralize(batch_size, "image"),
        )  # fmt: skip
        self.parameters = [parameter for parameter in self.network.parameters() if parameter.requires_grad]
        if config.compile:
            log.info("compiling the network: the first steps with images of each size take up to minutes")
        self.forward = self._compiled(self.network)
        self.replicas: list[nn.Module] = []
        strength = STRENGTHS[cast("str", config.augment)]
        self.augment = Augmentation(strength, flip=config.flip, vertical_flip=config.vertical_flip)
        # The head is trained without one; to make one imports torch.compile, which takes two seconds.
        self.optimizers = [] if config.train == "head" else make_optimizers(self.network, config, runtime, self.pool)
        self.scaler = torch.amp.GradScaler(runtime.device.type, enabled=runtime.precision == "fp16")
        self.average = AveragedNetwork(self.network, self._average)

    @property
    def averaged(self) -> Network:
        """The network with averaged weights, which is evaluated and saved."""
        return cast("Network", self.average.module)

    @property
    def progress(self) -> float:
        """The share of the run that is done, in [0, 1]."""
        return self.budget.progress(self.steps)

    @property
    def latest_loss(self) -> float | None:
        """The latest loss of the current epoch that is known without waiting for an accelerator, if any."""
        return float(self.losses[-1]) if self.losses and self.runtime.is_cpu else self._checked_loss

    @property
    def epoch_start(self) -> float:
        """The share of the run that was done when the current epoch started."""
        return self.budget.progress(self.steps - len(self.losses))

    def lr_at(self, progress: float) -> float:
        """The learning rate at one point of the run."""
        return cast("float", self.config.lr) * one_cycle(progress).lr

    def size_at(self, progress: float) -> int:
        """The image size at one point of the run."""
        full = max(self.smallest_size, round(self.preprocessing.image_size * TRAINING_SHARE))
        smallest = max(self.smallest_size, MIN_SIZE)
        return progressive_size(full, progress, smallest) if self.config.progressive else full

    @property
    def micro_batch(self) -> int | None:
        """The setting of that name as reached in training; None if it is the default of the device."""
        return self.batcher.size if self.batcher.size != self.default_micro_batch else None

    def run_epoch(
        self,
        track: Track = untracked,
        description: Description = "training",
        after_step: Callable[[], None] = lambda: None,
    ) -> float:
        """Trains on each image once, or on the rest of a resumed epoch, or until the budget is used up.

        Returns:
            The mean training loss.

        Raises:
            LabelrError: If a loss is infinite or NaN, or memory does not suffice.
        """
        self.network.train()
        done = len(self.losses)
        batches = self._timed(self.images.epoch(self.epoch, start=done))
        for batch in track(batches, description, self.images.steps - done):
            with one_thread_per_operation(), self.runtime.exclusive():
                self.losses.append(self._step(batch))
            if len(self.losses) % LOSS_CHECK_STEPS == 0:
                self._check_losses()
            after_step()
            if self.progress >= 1:
                break
        self._check_losses()
        return float(torch.stack(self.losses).mean())

    def reset_average(self) -> None:
        """Makes the averaged network a copy of the network, whose weights were set from outside."""
        self.averaged.load_state_dict(self.network.state_dict())

    def end_epoch(self) -> None:
        """Moves on to the next epoch."""
        self.epoch += 1
        self.losses, self._checked_loss = [], None
        self.waited_seconds = 0.0

    def state(self) -> dict[str, Any]:
        """Everything that resuming needs, in types that `torch.load` reads without executing code.

        Raises:
            LabelrError: If a loss is infinite or NaN: such a state is useless.
        """
        self._check_losses()
        return {
            "epoch": self.epoch,
            "steps": self.steps,
            "losses": torch.stack(self.losses).cpu() if self.losses else torch.empty(0),
            "waited_seconds": self.waited_seconds,
            "micro_batch": (self.config.micro_batch, self.batcher.size),
            "network": self.network.state_dict(),
            "average": self.average.state_dict(),
            "optimizers": [optimizer.state_dict() for optimizer in self.optimizers],
            "scaler": self.scaler.state_dict(),
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        """Returns to the point where `state` was taken.

        Raises:
            ValueError: If it is of another network or run; other errors if a part is missing or of another type.
        """
        losses, steps = state["losses"], state["steps"]
        if not len(losses) <= min(self.images.steps, steps) or steps > (self.budget.steps or 0):
            raise ValueError(f"steps: the run has less than {steps:,}")
        check_like({"losses": losses}, {"losses": torch.empty(len(losses))}, "losses")
        check_like(state["network"], self.network.state_dict(), "network")
        check_like(state["average"], self.average.state_dict(), "average")
        self.epoch, self.steps, self.waited_seconds = state["epoch"], state["steps"], state["waited_seconds"]
        self.budget.resumed_at = self.steps
        self.losses = list(losses.to(self.runtime.device))
        setting, reached = state["micro_batch"]
        if setting == self.config.micro_batch:
            self.batcher.size = min(reached, self.images.batch_size)
        self.network.load_state_dict(state["network"])
        self.average.load_state_dict(state["average"])
        for optimizer, optimizer_state in zip(self.optimizers, state["optimizers"], strict=True):
            restore_optimizer(optimizer, optimizer_state["state"])
        if state["scaler"]:  # empty if it was taken with a precision that needs no scaling
            self.scaler.load_state_dict(state["scaler"])

    def _check_losses(self) -> None:
        """Raises LabelrError if one of the latest losses is infinite or NaN."""
        first = max(0, len(self.losses) - LOSS_CHECK_STEPS)
        for step, loss in enumerate(torch.stack(self.losses[first:]).tolist() if self.losses else (), start=first + 1):
            self._checked_loss = loss
            if not math.isfinite(loss):
                raise LabelrError(
                    f"the loss became {loss:g} in epoch {self.epoch}, step {step}",
                    f"use a smaller learning rate than `--lr {self.config.lr:g}`, or `--no-amp`",
                )

    def _timed(self, batches: Iterator[Batch]) -> Iterator[Batch]:
        """The batches; the time spent waiting for them is added to `waited_seconds`."""
        while True:
            start = time.perf_counter()
            batch = self._next(batches)
            self.waited_seconds += time.perf_counter() - start
            if batch is None:
                return
            yield batch

    def _next(self, batches: Iterator[Batch]) -> Batch | None:
        with self.runtime.exclusive():
            return next(batches, None)

    def _step(self, batch: Batch) -> Tensor:
        self._update_schedule()
        loss = self.batcher.run(partial(self._compute_gradients, batch))
        for optimizer in self.optimizers:
            self.scaler.step(optimizer)
        self.scaler.update()
        self.average.update_parameters(self.network)
        self.steps += 1
        return loss

    def _compute_gradients(self, batch: Batch, max_images: int) -> Tensor:
        """The loss of a batch; sets the gradients, summed over micro-batches of at most `max_images` images."""
        num_images = len(batch.images)
        count = max(1, min(-(-num_images // max_images), num_images // 2))  # BatchNorm needs at least two images
        replicas = self._replicas_for(count)
        rows = [slice(int(part[0]), int(part[-1]) + 1) for part in torch.arange(num_images).tensor_split(count)]
        size = self.size_at(self.progress)  # with a time limit, it depends on the clock
        parts = self.pool.map(partial(self._compute_micro_batch, batch, size), replicas, rows)
        scale = batch.targets.numel() / torch.stack([part.num_known for part in parts]).sum().clamp(min=1)
        self._set_gradients([part.gradients for part in parts], scale)
        if count > 1:
            self._average_buffers(replicas)
        return torch.stack([part.loss for part in parts]).sum() * scale

    def _compute_micro_batch(self, batch: Batch, size: int, replica: nn.Module, rows: slice) -> MicroBatchResult:
        """The loss and the gradients of a micro-batch."""
        generator = torch.Generator().manual_seed(batch.seed + rows.start)
        images, targets = self.runtime.to_device(batch.images[rows]), self.runtime.to_device(batch.targets[rows])
        augmented = normalise(self.augment(images, batch.aspects[rows], size, generator), self.preprocessing)
        mixed, mixed_targets = mixup(augmented, targets, self.config.mixup, generator)
        with self._seeded_dropout(generator):
            logits = self._forward(replica, mixed).float()
        loss = masked_bce(logits, mixed_targets, batch.targets.numel())
        gradients = torch.autograd.grad(self.scaler.scale(loss), self.parameters, materialize_grads=True)
        return MicroBatchResult(loss.detach(), (~mixed_targets.isnan()).sum(), gradients)

    def _seeded_dropout(self, generator: torch.Generator) -> AbstractContextManager[object]:
        """Has dropout depend on a generator alone; torch.compile does not know `SeededDropout`."""
        if not self.config.compile:
            return SeededDropout(generator)
        torch.manual_seed(int(torch.randint(2**62, (), generator=generator)))
        return nullcontext()

    def _forward(self, replica: nn.Module, images: Tensor) -> Tensor:
        try:
            with self.runtime.autocast():
                logits: Tensor = replica(images)
        except RuntimeError as error:
            if not self.config.compile or is_out_of_memory(error):
                raise
            raise LabelrError(
                f"the network cannot be compiled here: {first_line(error)}", "leave `--compile` out"
            ) from error
        return logits

    @torch.no_grad()
    def _replicas_for(self, count: int) -> list[nn.Module]:
        """The networks of `count` micro-batches: the network itself if there is one.

        Else they have its parameters, and copies of its buffers, such as the statistics of BatchNorm. An accelerator,
        which computes whole batches, is spared the copying in each step.
        """
        if count == 1:
            return [self.forward]
        while len(self.replicas) < count:
            replica = deepcopy(self.network, {id(parameter): parameter for parameter in self.network.parameters()})
            self.replicas.append(self._compiled(replica))
        replicas = self.replicas[:count]
        buffers = list(self.network.buffers())
        for copy in replicas:
            torch._foreach_copy_(list(copy.buffers()), buffers)
        return replicas

    def _compiled(self, network: Network) -> nn.Module:
        """The network, compiled if the settings say so."""
        return cast("nn.Module", torch.compile(network)) if self.config.compile else network

    @torch.no_grad()
    def _set_gradients(self, gradients: Sequence[tuple[Tensor, ...]], scale: Tensor) -> None:
        """Sets the gradient of each parameter to a multiple of its sum over the micro-batches, in order."""
        total, *others = gradients
        for other in others:
            torch._foreach_add_(total, other)
        torch._foreach_mul_(total, scale)
        for parameter, gradient in zip(self.parameters, total, strict=True):
            parameter.grad = gradient

    @torch.no_grad()
    def _average_buffers(self, replicas: Sequence[nn.Module]) -> None:
        """Sets the buffers of the network to the mean of those of the replicas."""
        for own, *others in zip(self.network.buffers(), *(replica.buffers() for replica in replicas), strict=True):
            mean_change = (torch.stack(others) - own).to(torch.float32).mean(dim=0)
            own.add_(mean_change.to(own.dtype))

    def _update_schedule(self) -> None:
        cycle = one_cycle(self.progress)
        for group in (group for optimizer in self.optimizers for group in optimizer.param_groups):
            group["lr"] = cast("float", self.config.lr) * cycle.lr * group["lr_scale"]
            if "betas" in group:
                group["betas"] = (cycle.momentum, group["betas"][1])

    def _average(self, averaged: list[Tensor], current: list[Tensor]) -> None:
        """An exponential moving average with less decay at first, so that short runs forget the initial weights."""
        if not (
            self.runtime.is_cpu or averaged[0].is_floating_point()
        ):  # counts of BatchNorm: four operations for each
            torch._foreach_copy_(averaged, current)
            return
        decay = min(self.config.ema, (1 + self.steps) / (10 + self.steps))
        get_ema_multi_avg_fn(decay)(averaged, current, self.steps)  # type: ignore[no-untyped-call]


class AveragedNetwork(AveragedModel):
    """A network with averaged weights and buffers, beside the one that is trained.

    Args:
        network: The network in training.
        average: Updates averaged tensors, which are its first argument, by those of the network; all of one type.
    """

    def __init__(self, network: nn.Module, average: Callable[[list[Tensor], list[Tensor]], None]) -> None:
        super().__init__(network, use_buffers=True)
        self.average = average

    @torch.no_grad()
    def update_parameters(self, model: nn.Module) -> None:
        """As torch's, which in each step copies `n_averaged` to an accelerator and waits until it is there."""
        own, current = ([*network.parameters(), *network.buffers()] for network in (self.module, model))
        if self.n_averaged == 0:
            torch._foreach_copy_(own, current)
        else:
            for dtype in dict.fromkeys(tensor.dtype for tensor in own):
                rows = [row for row, tensor in enumerate(own) if tensor.dtype == dtype]
                self.average([own[row] for row in rows], [current[row] for row in rows])
        self.n_averaged += 1


class SeededDropout(TorchFunctionMode):
    """Has dropout and stochastic depth draw from a seed of their own instead of from torch's global generator.

    Otherwise they would depend on the order in which threads get to it.

    Args:
        generator: Source of the seeds.
    """

    _lock = Lock()

    def __init__(self, generator: torch.Generator) -> None:
        super().__init__()
        self.generator = generator

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        """Calls a function of torch."""
        if not getattr(func, "__name__", "").startswith(RANDOM_FUNCTIONS):
            return func(*args, **kwargs or {})
        seed = int(torch.randint(2**62, (), generator=self.generator))
        with self._lock:
            torch.manual_seed(seed)
            return func(*args, **kwargs or {})


def masked_bce(logits: Tensor, targets: Tensor, num_cells: int | None = None) -> Tensor:
    """Binary cross-entropy over the known cells.

    Args:
        logits: Shape ``(N, L)``.
        targets: 1 where the label applies, 0 where not, NaN where unknown, shape ``(N, L)``.
        num_cells: What the sum over the known cells is divided by; None for their number.

    Returns:
        The mean over the known cells, in nats, a scalar; 0 if none is known.
    """
    known = ~torch.isnan(targets)
    losses = F.binary_cross_entropy_with_logits(logits, targets.where(known, 0.0), reduction="none")
    return (losses * known).sum() / (known.sum().clamp(min=1) if num_cells is None else num_cells)
