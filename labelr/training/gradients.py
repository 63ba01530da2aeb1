"""The gradients of a batch: computed micro-batch by micro-batch, on threads and in several processes, and added up."""

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from copy import deepcopy
from functools import partial
from threading import Lock
from typing import Any, NamedTuple, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

from labelr.config import TrainConfig
from labelr.data.augment import STRENGTHS, Augmentation, mixup
from labelr.errors import LabelrError, first_line, pluralize
from labelr.fields import SettingError
from labelr.model.device import MicroBatcher, Runtime, ThreadPool, is_out_of_memory
from labelr.model.info import ModelInfo
from labelr.model.network import Network, count_parameters, trained_parameters
from labelr.model.predict import build_network, normalise
from labelr.processors import Processors
from labelr.training.batches import Batch, TrainImages
from labelr.training.distributed import ALONE, Group
from labelr.training.optim import layer_depths

LAST_LAYERS = 0.75
"""How deep in a network the layers start that the setting ``train="last"`` trains."""
MICRO_BATCH_SIZE = 16
"""The images of a micro-batch on the CPU, which BatchNorm sees together."""
RANDOM_FUNCTIONS = ("alpha_dropout", "bernoulli", "dropout", "feature_alpha_dropout")
"""What the names of functions start with that draw random numbers in a network."""

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


class BatchGradients:
    """A newly initialised network, and how the gradients of its weights are computed.

    Attributes:
        network: The network in training.
        parameters: Those that are trained.
        batcher: How many images of a batch go through the network together.
        scaler: Scales the loss in fp16.

    Args:
        group: The processes that compute the gradients of each batch together; all of them make this object.
    """

    def __init__(
        self, images: TrainImages, info: ModelInfo, config: TrainConfig, runtime: Runtime, group: Group = ALONE
    ) -> None:
        self.images = images
        self.preprocessing = info.preprocessing
        self.config = config
        self.runtime = runtime
        self.group = group
        threads = 1 if config.compile else runtime.compute_threads  # compiled dropout has one generator
        self.pool = ThreadPool(threads)
        # the other processes wait while process 0 does all but the micro-batches
        self.own_pool = self.pool if group.size == 1 else ThreadPool(max(1, threads // group.place.local_size))
        batch_size = images.batch_size
        self.default_micro_batch = min(MICRO_BATCH_SIZE, batch_size) if runtime.is_cpu else group.share_of(batch_size)
        consequence = f", with accumulated gradients, so that a step still uses {pluralize(batch_size, 'image')}"
        self.batcher = MicroBatcher(
            min(config.micro_batch or self.default_micro_batch, batch_size), "training", consequence,
            minimum=2 if group.size == 1 else batch_size,  # several processes cannot repeat a part of a step
            make_room=images.on_device.release if images.on_device and group.size == 1 else lambda: False,
        )  # fmt: skip
        self._check_parts()
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
        self.scaler = torch.amp.GradScaler(runtime.device.type, enabled=runtime.precision == "fp16")

    def _check_parts(self) -> None:
        """Raises SettingError if a batch is too small for the number of GPUs, and warns if it leaves processes idle."""
        size, batch_size = self.group.size, self.images.batch_size
        if self.group.synchronises and batch_size < 2 * size:
            raise SettingError(
                f"a batch of {pluralize(batch_size, 'image')} is too small for {size} GPUs",
                f"use a `--batch-size` of at least {2 * size}, or fewer `--devices`",
            )
        if (active := self._own_rows(batch_size, self.batcher.size)[0]) < size:
            log.warning(
                "a batch of %s has %s of at most %d images, which leaves %d of %d processes idle: use a larger "
                "`--batch-size` or a smaller `--micro-batch`", pluralize(batch_size, "image"),
                pluralize(active, "part"), self.batcher.size, size - active, size,
            )  # fmt: skip

    @property
    def micro_batch(self) -> int | None:
        """The setting of that name as reached in training; None if it is the default of the device."""
        return self.batcher.size if self.batcher.size != self.default_micro_batch else None

    def start_epoch(self, epoch: int, start: int) -> Iterator[Batch]:
        """The batches of an epoch from step `start` on, with the own part of their images; all processes call it."""
        self.network.train()
        with self.group.watched():
            self.group.broadcast([*self.network.parameters(), *self._float_buffers()])
        _, rows = self._own_rows(self.images.batch_size, self.batcher.size)
        part = slice(rows[0].start, rows[-1].stop) if rows else slice(0, 0)
        return self.images.epoch(epoch, start, part if self.group.size > 1 else slice(None))

    def compute(self, batch: Batch, size: int, max_images: int) -> Tensor:
        """The loss of a batch; sets the gradients, summed over micro-batches of at most `max_images` images.

        All processes call it; loss and gradients are those of the batch in process 0 alone. `size` is the edge of the
        images.
        """
        self.group.broadcast([*self.parameters, *self._float_buffers()])
        count, rows = self._own_rows(len(batch.targets), max_images)
        parts = []
        if rows:
            with Processors.shared_by(self.group.place.local_size):
                parts = self.own_pool.map(
                    partial(self._compute_micro_batch, batch, size), self._networks_for(count, len(rows)), rows
                )
        loss = self._join(parts, count, batch.targets.numel()) if parts else torch.zeros(())
        self.group.share_signal()
        return loss

    def _own_rows(self, num_images: int, max_images: int) -> tuple[int, list[slice]]:
        """The number of micro-batches of a batch, of at most `max_images` images, and the rows of the own ones."""
        count = max(1, min(-(-num_images // max_images), num_images // 2))  # BatchNorm needs at least two images
        count = self.group.round_up(count)
        parts = torch.arange(num_images).tensor_split(count)
        return count, [
            slice(int(parts[own][0]), int(parts[own][-1]) + 1) for own in self.group.own_micro_batches(count)
        ]

    def _compute_micro_batch(self, batch: Batch, size: int, replica: nn.Module, rows: slice) -> MicroBatchResult:
        generator = torch.Generator().manual_seed(batch.seed + rows.start)
        images = self.runtime.to_device(batch.images[rows.start - batch.first : rows.stop - batch.first])
        targets = self.runtime.to_device(batch.targets[rows])
        augmented = normalise(self.augment(images, batch.aspects[rows], size, generator), self.preprocessing)
        mixed, mixed_targets = mixup(augmented, targets, cast("float", self.config.mixup), generator)
        with self._seeded_dropout(generator):
            logits = self._forward(replica, mixed).float()
        loss = masked_bce(logits, mixed_targets, batch.targets.numel())
        gradients = torch.autograd.grad(self.scaler.scale(loss), trained_parameters(replica), materialize_grads=True)
        changes: list[Tensor] = []
        if replica is not self.forward:
            pairs = zip(replica.buffers(), self.network.buffers(), strict=True)
            changes = [(changed - own).to(torch.float32) for changed, own in pairs]
        return MicroBatchResult(loss.detach(), (~mixed_targets.isnan()).sum(), gradients, tuple(changes))

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
        own = self.group.own_micro_batches(count)
        values[own.start : own.stop] = rows
        total = self.group.sum_gradients([part.gradients for part in parts], values, self.own_pool)
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

    # --- replicas -----------------------------------------------------------------------------------------------------

    @torch.no_grad()
    def _networks_for(self, num_total: int, num_own: int) -> list[nn.Module]:
        """One network for each own micro-batch of a batch that is divided into `num_total`.

        It is the network itself if this process computes the whole batch in one. Else they are replicas with its
        parameters, or their `low_precision_weights`, and buffers of their own, such as the statistics of BatchNorm. An
        accelerator, which computes whole batches or its part of them, is spared the copying in each step.
        """
        if num_total == 1 or (num_own == 1 and self.group.synchronises):
            return [self.forward]
        while len(self.replicas) < num_own:
            self.replicas.append(self._copy(shared=False))
        replicas = self.replicas[:num_own]
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

    def _compiled(self, network: Network) -> nn.Module:
        """The network, compiled if the settings say so."""
        return cast("nn.Module", torch.compile(network)) if self.config.compile else network

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


class SeededDropout(TorchFunctionMode):
    """Has dropout and stochastic depth draw from a seed of their own instead of from torch's global generator.

    Otherwise they would depend on the order in which threads get to it.
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
