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
from labelr.fields import SettingError
from labelr.model.device import MicroBatcher, Runtime, ThreadPool, is_out_of_memory, one_thread_per_operation
from labelr.model.info import ModelInfo
from labelr.model.network import Network, count_parameters
from labelr.model.predict import normalise
from labelr.model.pretrained import smallest_size
from labelr.model.store import build_network
from labelr.model.weight_files import check_like
from labelr.processors import Processors
from labelr.progress import Description, Track, untracked
from labelr.training.batches import Batch, TrainImages
from labelr.training.distributed import ALONE, Group
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
        gradients: Of the loss, for each trained parameter; scaled in fp16, and in bf16 for `low_precision_weights`.
        changes: Of the buffers of the network, in float32, if it is a replica.
    """

    loss: Tensor
    num_known: Tensor
    gradients: tuple[Tensor, ...]
    changes: tuple[Tensor, ...]


class Trainer:
    """A newly initialised network in training, with its optimizers, schedule and moving average of weights.

    Attributes:
        epoch: The current epoch, from 1.
        steps: The number of steps made.
        losses: Of the steps of the current epoch, each a scalar on the device.
        waited_seconds: The time in the current epoch that was spent waiting for batches.
        batcher: How many images of a batch go through the network together.

    Args:
        group: The processes that compute the gradients; this one does all else if it is process 0.
    """

    def __init__(
        self, images: TrainImages, info: ModelInfo, config: TrainConfig, runtime: Runtime, budget: Budget,
        group: Group = ALONE,
    ) -> None:  # fmt: skip
        self.config = config
        self.runtime = runtime
        self.preprocessing = info.preprocessing
        self.smallest_size = smallest_size(info.architecture)
        self.images = images
        self.budget = budget
        self.group = group
        self.epoch = 1
        self.steps = 0
        self.losses: list[Tensor] = []
        self._checked_loss: float | None = None
        self.waited_seconds = 0.0
        threads = 1 if config.compile else runtime.compute_threads  # compiled dropout has one generator
        self.pool = ThreadPool(threads)
        # the other processes wait while this one does all but the micro-batches
        self.own_pool = self.pool if group.size == 1 else ThreadPool(max(1, threads // group.place.local_size))
        batch_size = images.batch_size
        self.default_micro_batch = min(MICRO_BATCH_SIZE, batch_size) if runtime.is_cpu else group.share_of(batch_size)
        consequence = f", with accumulated gradients, so that a step still uses {pluralize(batch_size, 'image')}"
        self.batcher = MicroBatcher(
            min(config.micro_batch or self.default_micro_batch, batch_size), "training", consequence,
            minimum=2 if group.size == 1 else batch_size,  # several processes cannot repeat a part of a step
            make_room=images.on_device.release if images.on_device and group.size == 1 else lambda: False,
        )  # fmt: skip
        self._check_parts(batch_size)
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
        self.parameters = trained_parameters(self.network)
        if config.compile:
            log.info("compiling the network: the first steps with images of each size take up to minutes")
        self.is_synchronised = group.synchronises and not self.network.keeps_statistics
        self.forward = self._copy(shared=True) if self.is_synchronised else self._compiled(self.network)
        self.replicas: list[nn.Module] = []
        self.low_precision_weights = self._convolution_weights()
        strength = STRENGTHS[cast("str", config.augment)]
        self.augment = Augmentation(strength, flip=config.flip, vertical_flip=config.vertical_flip)
        # The head is trained without one; to make one imports torch.compile, which takes two seconds.
        needs_none = config.train == "head" or group.rank > 0
        self.optimizers = [] if needs_none else make_optimizers(self.network, config, runtime, self.pool)
        self.scaler = torch.amp.GradScaler(runtime.device.type, enabled=runtime.precision == "fp16")
        self.average = AveragedNetwork(self.network, self._average)

    def _check_parts(self, batch_size: int) -> None:
        """Raises SettingError if a batch is too small for the number of GPUs, and warns if it leaves processes idle."""
        size = self.group.size
        if self.group.synchronises and batch_size < 2 * size:
            raise SettingError(
                f"a batch of {pluralize(batch_size, 'image')} is too small for {size} GPUs",
                f"use a `--batch-size` of at least {2 * size}, or fewer `--devices`",
            )
        if (active := self._own_rows(batch_size)[0]) < size:
            log.warning(
                "a batch of %s has %s of at most %d images, which leaves %d of %d processes idle: use a larger "
                "`--batch-size` or a smaller `--micro-batch`", pluralize(batch_size, "image"),
                pluralize(active, "part"), self.batcher.size, size - active, size,
            )  # fmt: skip

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
        done = len(self.losses)
        self.group.order("epoch", epoch=self.epoch, start=done, micro_batch=self.batcher.size)
        batches = self._timed(self.start_epoch(self.epoch, done))
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

    def start_epoch(self, epoch: int, start: int) -> Iterator[Batch]:
        """The batches of an epoch from step `start` on, with the own part of their images; all processes call it."""
        self.network.train()
        with self.group.watched():
            self.group.broadcast([*self.network.parameters(), *self._float_buffers()])
        _, rows = self._own_rows(self.images.batch_size)
        part = slice(rows[0].start, rows[-1].stop) if rows else slice(0, 0)
        return self.images.epoch(epoch, start, part if self.group.size > 1 else slice(None))

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
        size = self.size_at(self.progress)  # with a time limit, it depends on the clock
        if self.group.size > 1:
            self.group.order("step", size=size, scale=self.scaler.get_scale())
        with self.group.watched():
            loss = self.batcher.run(partial(self.compute_gradients, batch, size))
        for optimizer in self.optimizers:
            self.scaler.step(optimizer)
        self.scaler.update()
        self.average.update_parameters(self.network)
        self.steps += 1
        return loss

    def _own_rows(self, num_images: int, max_images: int | None = None) -> tuple[int, list[slice]]:
        """The number of micro-batches of a batch, of at most `max_images` images, and the rows of the own ones."""
        limit = max_images or self.batcher.size
        count = max(1, min(-(-num_images // limit), num_images // 2))  # BatchNorm needs at least two images
        count = self.group.even(count)
        parts = torch.arange(num_images).tensor_split(count)
        return count, [slice(int(parts[own][0]), int(parts[own][-1]) + 1) for own in self.group.own_parts(count)]

    def compute_gradients(self, batch: Batch, size: int, max_images: int) -> Tensor:
        """The loss of a batch; sets the gradients, summed over micro-batches of at most `max_images` images.

        All processes call it; loss and gradients are those of the batch in process 0 alone.
        """
        self.group.broadcast([*self.parameters, *self._float_buffers()])
        count, rows = self._own_rows(len(batch.targets), max_images)
        parts = []
        if rows:
            with Processors.shared_by(self.group.place.local_size):
                parts = self.own_pool.map(
                    partial(self._compute_micro_batch, batch, size), self._replicas_for(count, len(rows)), rows
                )
        loss = self._join(parts, count, batch.targets.numel()) if parts else torch.zeros(())
        self.group.share_signal()
        return loss

    def _compute_micro_batch(self, batch: Batch, size: int, replica: nn.Module, rows: slice) -> MicroBatchResult:
        """The loss and the gradients of a micro-batch."""
        generator = torch.Generator().manual_seed(batch.seed + rows.start)
        images = self.runtime.to_device(batch.images[rows.start - batch.first : rows.stop - batch.first])
        targets = self.runtime.to_device(batch.targets[rows])
        augmented = normalise(self.augment(images, batch.aspects[rows], size, generator), self.preprocessing)
        mixed, mixed_targets = mixup(augmented, targets, cast("float", self.config.mixup), generator)
        with self._seeded_dropout(generator):
            logits = self._forward(replica, mixed).float()
        loss = masked_bce(logits, mixed_targets, batch.targets.numel())
        gradients = torch.autograd.grad(self.scaler.scale(loss), trained_parameters(replica), materialize_grads=True)
        num_known = (~mixed_targets.isnan()).sum()
        return MicroBatchResult(loss.detach(), num_known, gradients, self._changes_of(replica))

    def _changes_of(self, replica: nn.Module) -> tuple[Tensor, ...]:
        """The differences of a replica's buffers to those of the network, in float32; none of the network itself."""
        if replica is self.forward:
            return ()
        pairs = zip(replica.buffers(), self.network.buffers(), strict=True)
        return tuple((changed - own).to(torch.float32) for changed, own in pairs)

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
    def _replicas_for(self, count: int, number: int) -> list[nn.Module]:
        """The networks of `number` of `count` micro-batches: the network itself if there is one.

        Else they have its parameters, or their `low_precision_weights`, and copies of its buffers, such as the
        statistics of BatchNorm. An accelerator, which computes whole batches or its part of them, is spared the copying
        in each step.
        """
        if count == 1 or (number == 1 and self.group.synchronises):
            return [self.forward]
        while len(self.replicas) < number:
            self.replicas.append(self._copy(shared=False))
        replicas = self.replicas[:number]
        for weight, low_precision in self.low_precision_weights.items():
            low_precision.copy_(weight)
        buffers = list(self.network.buffers())
        for copy in replicas:
            torch._foreach_copy_(list(copy.buffers()), buffers)
        return replicas

    def _copy(self, *, shared: bool) -> nn.Module:
        """A network with the same parameters, and the same buffers if they are shared, else `low_precision_weights`.

        BatchNorms of processes on GPUs normalise their micro-batches together.
        """
        same = [*self.network.parameters(), *(self.network.buffers() if shared else ())]
        kept = {id(tensor): tensor for tensor in same}
        if not shared:
            kept |= {id(weight): low_precision for weight, low_precision in self.low_precision_weights.items()}
        copy = deepcopy(self.network, kept)
        if self.is_synchronised:
            copy = nn.SyncBatchNorm.convert_sync_batchnorm(copy)  # type: ignore[no-untyped-call]
        return self._compiled(copy)

    def _convolution_weights(self) -> dict[nn.Parameter, nn.Parameter]:
        """Copies in bf16 of the weights of convolutions, by the weights, where autocast computes in it on the CPU.

        The replicas share them, so that a step converts each weight once, and its gradients as they are summed, and not
        for each micro-batch; the values are the same.
        """
        if not self.runtime.is_cpu or self.runtime.precision != "bf16":
            return {}
        convolutions = [module for module in self.network.modules() if type(module) is nn.Conv2d]
        weights = [cast("nn.Parameter", convolution.weight) for convolution in convolutions]
        return {
            weight: nn.Parameter(weight.detach().to(torch.bfloat16), requires_grad=weight.requires_grad)
            for weight in weights
        }

    def _compiled(self, network: Network) -> nn.Module:
        """The network, compiled if the settings say so."""
        return cast("nn.Module", torch.compile(network)) if self.config.compile else network

    @torch.no_grad()
    def _join(self, parts: Sequence[MicroBatchResult], count: int, num_cells: int) -> Tensor:
        """The loss of a batch of `count` micro-batches, some of which are the own `parts`.

        Sets the gradient of each parameter to a multiple of its sum over the micro-batches, in order, and the buffers
        of the network to the mean of those of the replicas.
        """
        shapes = [change.shape for change in parts[0].changes]
        rows = torch.stack([
            torch.cat([part.loss[None], part.num_known[None], *(change.flatten() for change in part.changes)])
            for part in parts
        ])  # fmt: skip
        values = rows.new_zeros(count, rows.shape[1])
        own = self.group.own_parts(count)
        values[own.start : own.stop] = rows
        total = self.group.sum([part.gradients for part in parts], values, self.own_pool)
        losses, num_known, *changes = torch.split(values, [1, 1, *(shape.numel() for shape in shapes)], dim=1)
        scale = num_cells / num_known.to(torch.int64).sum().clamp(min=1)
        torch._foreach_mul_(total, scale)
        for parameter, gradient in zip(self.parameters, total, strict=True):
            parameter.grad = gradient
        for buffer, change, shape in zip(self.network.buffers(), changes, shapes, strict=False):
            mean_change = change.contiguous().view(count, *shape).mean(dim=0)
            buffer.add_(mean_change.to(buffer.dtype))
        loss: Tensor = losses.contiguous().sum() * scale
        return loss

    def _float_buffers(self) -> list[Tensor]:
        """The buffers of the network that it computes with, which are no counts."""
        return [buffer for buffer in self.network.buffers() if buffer.is_floating_point()]

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


def trained_parameters(network: nn.Module) -> list[nn.Parameter]:
    """The parameters of a network that are not frozen, in order."""
    return [parameter for parameter in network.parameters() if parameter.requires_grad]


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
