"""One epoch of training: optimizer, schedule, averaging of weights."""

from collections.abc import Callable, Iterator, Sequence
from typing import cast

import numpy as np
import torch
from torch import Tensor, nn
from torch.optim.lr_scheduler import OneCycleLR
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from torch.utils.data import DataLoader, Sampler

from labelr.config import TrainConfig
from labelr.data.augment import mix
from labelr.data.loader import Batch, TrainImages, leave_signals_to_parent
from labelr.errors import LabelrError
from labelr.model.device import Machine
from labelr.model.info import Preprocessing
from labelr.model.predict import normalise
from labelr.progress import Track, untracked
from labelr.training.losses import masked_bce


class Order(Sampler[Batch]):
    """The batches of one epoch after another: a function of (seed, epoch, step) alone."""

    def __init__(self, num_images: int, batch_size: int, seed: int) -> None:
        self.num_images = num_images
        self.batch_size = min(batch_size, num_images)
        self.seed = seed
        self.epoch = 0

    def __len__(self) -> int:
        """Steps an epoch; the rest of the images, less than a batch, waits for the next epoch's order."""
        return self.num_images // self.batch_size

    def __iter__(self) -> Iterator[Batch]:
        rows = np.random.default_rng([self.seed, self.epoch]).permutation(self.num_images)
        for step in range(len(self)):
            chosen = rows[step * self.batch_size : (step + 1) * self.batch_size]
            yield Batch(step_seed(self.seed, self.epoch, step), chosen)


def step_seed(seed: int, epoch: int, step: int) -> int:
    """A seed below 2**63 for the random choices of one step."""
    return int(np.random.SeedSequence([seed, epoch, step]).generate_state(1, np.uint64)[0] >> np.uint64(1))


class Trainer:
    """A network in training, with its optimizer, its schedule and the running average of its weights.

    AdamW with one cycle of warm-up and cosine annealing (Smith and Topin 2018), the momentum cycled the other way;
    norms and biases are not decayed.

    Args:
        network: Put on the machine's device.
        images: The training images.
        config: The settings, as resolved.
        preprocessing: How images become the network's input.
        machine: What to run on.
    """

    def __init__(
        self,
        network: nn.Module,
        images: TrainImages,
        config: TrainConfig,
        preprocessing: Preprocessing,
        machine: Machine,
    ) -> None:
        lr = cast("float", config.lr)  # `resolve` has replaced "auto"
        self.machine = machine
        self.mixup = config.mixup
        self.preprocessing = preprocessing
        self.network = machine.place(network)
        self.order = Order(len(images), config.batch_size, config.seed)
        processes = 0 if machine.device.type == "cpu" else machine.workers
        self.batches = DataLoader(
            images,
            batch_size=None,
            sampler=self.order,
            num_workers=processes,
            worker_init_fn=leave_signals_to_parent,
            persistent_workers=processes > 0,
            pin_memory=machine.device.type == "cuda",
        )
        self.optimizer = torch.optim.AdamW(
            _parameter_groups(self.network, config.weight_decay), lr=lr, betas=(0.95, 0.99), fused=True
        )
        self.schedule = OneCycleLR(
            self.optimizer,
            lr,
            total_steps=max(config.epochs * len(self.order), 8),
            pct_start=0.25,
            base_momentum=0.85,
            max_momentum=0.95,
        )
        self.scaler = torch.amp.GradScaler(machine.device.type, enabled=machine.precision == "fp16")
        self.average = AveragedModel(self.network, multi_avg_fn=_warmed_average(config.ema), use_buffers=True)

    @property
    def averaged(self) -> nn.Module:
        """The network with averaged weights: the one that is scored and saved."""
        return self.average.module

    @property
    def lr(self) -> float:
        """The learning rate of the next step."""
        return float(self.schedule.get_last_lr()[0])

    def run_epoch(self, epoch: int, track: Track = untracked, description: str = "training") -> float:
        """Trains on each image once.

        Args:
            epoch: From 1.
            track: Watches the steps go by.
            description: What the watcher is told.

        Returns:
            The mean training loss.

        Raises:
            LabelrError: If the loss of a step was infinite or no number.
        """
        self.network.train()
        self.order.epoch = epoch
        steps = enumerate(track(self.batches, description, len(self.order)))
        losses = [self._step(images, targets, epoch, step) for step, (images, targets) in steps]
        values = torch.stack(losses).cpu()  # only here, so that an accelerator is not waited for at every step
        if not values.isfinite().all():
            step = int((~values.isfinite()).nonzero()[0]) + 1
            raise LabelrError(
                f"the loss became {values[step - 1]:g} in epoch {epoch}, step {step}",
                f"use a smaller learning rate than `--lr {self.optimizer.defaults['lr']:g}`, or `--no-amp`",
            )
        return float(values.mean())

    def _step(self, images: Tensor, targets: Tensor, epoch: int, step: int) -> Tensor:
        torch.manual_seed(step_seed(self.order.seed, -epoch % 2**32, step))  # for mixup and dropout
        device = self.machine.device
        normalised = normalise(images, self.preprocessing, device)
        mixed, mixed_targets = mix(normalised, targets.to(device, non_blocking=True), self.mixup)
        with self.machine.autocast():
            logits = self.network(mixed)
        loss = masked_bce(logits.float(), mixed_targets)
        self.optimizer.zero_grad(set_to_none=True)
        self.scaler.scale(loss).backward()  # type: ignore[no-untyped-call]
        self.scaler.step(self.optimizer)
        self.scaler.update()
        self.schedule.step()
        self.average.update_parameters(self.network)
        return loss.detach()


def _parameter_groups(network: nn.Module, weight_decay: float) -> list[dict[str, object]]:
    parameters = list(network.parameters())
    return [
        {"params": [weight for weight in parameters if weight.ndim > 1], "weight_decay": weight_decay},
        {"params": [vector for vector in parameters if vector.ndim <= 1], "weight_decay": 0.0},
    ]


Averager = Callable[[Sequence[Tensor], Sequence[Tensor], Tensor | int], None]


def _warmed_average(decay: float) -> Averager:
    """An exponential moving average that forgets faster at first, so that a short run forgets its random start."""

    def average(averaged: Sequence[Tensor], current: Sequence[Tensor], num_averaged: Tensor | int) -> None:
        steps = int(num_averaged)
        averaging = get_ema_multi_avg_fn(min(decay, (1 + steps) / (10 + steps)))  # type: ignore[no-untyped-call]
        averaging(averaged, current, num_averaged)

    return average
