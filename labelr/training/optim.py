"""Optimizers and schedules: AdamW, Muon, the one-cycle learning rate, progressive resizing, and the end of a run."""

import math
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from itertools import accumulate
from typing import Any

import torch
from torch import Tensor, nn

from labelr.config import TrainConfig
from labelr.model.device import Runtime, ThreadPool
from labelr.model.network import trained_parameters
from labelr.model.weight_files import check_like

POLYNOMIALS = ((7.711, -22.1138, 16.2488), (3.2153, -2.4112, 0.5013), (2.2183, -1.5940, 0.4108))
"""Coefficients of odd polynomials of degree 5 that, applied in turn, map singular values from [0.02, 1] to
[0.907, 1.093]: each is closest to 1 on the range of the previous one (Amsel et al. 2025)."""
ADAMW_RMS = 0.2
"""The typical RMS of an AdamW step: Muon's steps get it too, so that one learning rate and weight decay suit both."""
FIRST_LAYER_LR = 0.135
"""The learning rate of the first pretrained layer as a share of that of the last: that of 0.9 for each of 20 blocks."""
LR_STEPS = 20
"""The number of steps in which it rises."""


class Muon(torch.optim.Optimizer):
    """Momentum SGD whose steps are orthogonalised by a Newton-Schulz iteration (Jordan et al. 2024).

    A convolution's weight is treated as a matrix with one row per output channel. Differences to the authors' code:
    three iterations with a different polynomial each come closer to 1 than five with the same one; and they run on the
    small Gram matrix, so that the large matrix is multiplied 2 times instead of 10. This is stable in 16 bits.
    `torch.optim.Muon` supports only matrices, and always computes in bf16.

    Args:
        weights: Parameters of two dimensions or more, or groups of them.
        lr: Learning rate; it and the weight decay mean the same as for AdamW (Liu et al. 2025, "Muon is scalable").
        momentum: Decay of the running mean of gradients.
        weight_decay: Decoupled weight decay.
        dtype: The type to compute in.
        pool: Computes the steps of several weights side by side.
        batched: Whether the steps of all weights of one shape are computed in one batch. An accelerator is idle
            between many small products, and a CPU is not. Such steps also take the state of a `GradScaler`, which
            otherwise waits for the accelerator to learn whether a gradient is infinite.
    """

    def __init__(
        self,
        weights: Iterable[nn.Parameter] | Iterable[dict[str, object]],
        *,
        lr: float = 1e-3,
        momentum: float = 0.9,
        weight_decay: float = 0.0,
        dtype: torch.dtype = torch.bfloat16,
        pool: ThreadPool | None = None,
        batched: bool = False,
    ) -> None:
        super().__init__(weights, {"lr": lr, "momentum": momentum, "weight_decay": weight_decay})
        self.dtype = dtype
        self.pool = pool or ThreadPool(1)
        self.batched = self._step_supports_amp_scaling = batched

    def step(self, closure: None = None) -> None:  # type: ignore[override]  # noqa: ARG002 - no step needs a closure
        """Updates the weights that have a gradient."""
        updates = [
            (weight, weight.grad, group["lr"], group["momentum"], group["weight_decay"])
            for group in self.param_groups
            for weight in group["params"]
            if weight.grad is not None
        ]
        if self.batched:
            batches: dict[tuple[Any, ...], tuple[list[Tensor], list[Tensor]]] = {}
            for weight, grad, *settings in updates:
                weights, grads = batches.setdefault((weight.shape, weight.device, *settings), ([], []))
                weights.append(weight)
                grads.append(grad)
            for (_, _, *settings), (weights, grads) in batches.items():
                self._update_batch(weights, grads, *settings)
        else:  # the longest first, so that no thread waits long for the last
            self.pool.map(self._update, *zip(*sorted(updates, key=lambda update: -update[0].numel()), strict=True))

    @torch.no_grad()
    def _update_batch(
        self, weights: list[Tensor], grads: list[Tensor], lr: float, momentum: float, weight_decay: float
    ) -> None:
        """As `_update` for each weight; all have the same shape."""
        means = list(map(self._mean, weights))
        mean, grad = torch.stack(means), torch.stack(grads)  # (K, R, I, ...)
        scale, is_infinite = getattr(self, "grad_scale", None), getattr(self, "found_inf", None)  # of a GradScaler
        if scale is not None:
            grad = grad / scale
        if is_infinite is not None:  # then the step changes nothing
            grad = torch.where(is_infinite.bool(), mean, grad)
        mean = mean.lerp(grad, 1 - momentum)
        nesterov = grad.lerp(mean, momentum).movedim(2, -1)  # (K, R, ..., I)
        steps = orthogonalise(nesterov.flatten(2).to(self.dtype)).to(mean.dtype)  # (K, R, C)
        rate = lr if is_infinite is None else lr * (1 - is_infinite)
        steps = steps * (-rate * ADAMW_RMS * math.sqrt(max(steps.shape[1:])))
        torch._foreach_copy_(means, list(mean.unbind()))
        torch._foreach_mul_(weights, 1 - rate * weight_decay)
        torch._foreach_add_(weights, list(steps.view(nesterov.shape).movedim(-1, 2).unbind()))

    def _mean(self, weight: Tensor) -> Tensor:
        """The running mean of the gradients of a weight."""
        state = self.state[weight]
        if not state:
            state["momentum_buffer"] = torch.zeros_like(weight)
        mean: Tensor = state["momentum_buffer"]
        return mean

    @torch.no_grad()
    def _update(self, weight: Tensor, grad: Tensor, lr: float, momentum: float, weight_decay: float) -> None:
        mean = self._mean(weight).lerp_(grad, 1 - momentum)
        nesterov = grad.lerp(mean, momentum).movedim(1, -1)  # the order of a channels-last weight in memory
        step = orthogonalise(nesterov.flatten(1).to(self.dtype))
        weight.mul_(1 - lr * weight_decay)
        scale = lr * ADAMW_RMS * math.sqrt(max(step.shape))
        weight.add_(step.view(nesterov.shape).movedim(-1, 1), alpha=-scale)


def orthogonalise(matrix: Tensor) -> Tensor:
    """The matrix with the same singular vectors and with singular values of about 1, except those close to 0.

    Args:
        matrix: Shape ``(R, C)``, or several ``(K, R, C)``, of the type to compute in.

    Returns:
        The same shape.
    """
    if matrix.shape[-2] > matrix.shape[-1]:
        return orthogonalise(matrix.mT).mT
    matrix = matrix / (_norm(matrix) + 1e-7)
    gram = matrix @ matrix.mT
    largest = _norm(gram).sqrt() + 1e-7  # an upper bound of the singular values, tighter than the norm
    gram = gram / largest.square()
    product = factor = _factor(gram, POLYNOMIALS[0])
    for polynomial in POLYNOMIALS[1:]:
        gram = factor @ gram @ factor
        factor = _factor(gram, polynomial)
        product = factor @ product
    result: Tensor = product @ (matrix / largest)
    return result


def _norm(matrix: Tensor) -> Tensor:
    """The Frobenius norm of a matrix, or of each of several, shape ``(K, 1, 1)``."""
    norm: Tensor = torch.linalg.vector_norm(matrix, dim=(1, 2), keepdim=True) if matrix.ndim > 2 else matrix.norm()
    return norm


def _factor(gram: Tensor, polynomial: tuple[float, float, float]) -> Tensor:
    """The factor of one iteration, a polynomial of the Gram matrix; both ``(R, R)`` or ``(K, R, R)``."""
    linear, cubic, quintic = polynomial
    multiply_and_add = torch.addmm if gram.ndim == 2 else torch.baddbmm
    factor = multiply_and_add(gram, gram, gram, beta=cubic, alpha=quintic)
    factor.diagonal(dim1=-2, dim2=-1).add_(linear)
    return factor


def make_optimizers(
    network: nn.Module, config: TrainConfig, runtime: Runtime, pool: ThreadPool
) -> list[torch.optim.Optimizer]:
    """AdamW for all parameters, or Muon for all convolutions but the first and AdamW for the rest.

    Normalisation layers and biases have no weight decay. The learning rate of pretrained layers is lower the earlier
    they are: each group has a factor, ``lr_scale``.
    """
    parameters = trained_parameters(network)
    scales = _lr_scales(network) if config.is_pretrained else {}
    weights = [parameter for parameter in parameters if parameter.ndim > 1]
    inner = [weight for weight in weights if weight.ndim == 4][1:] if config.optimizer == "muon" else []
    outer = [parameter for parameter in parameters if not any(parameter is other for other in inner)]
    groups = _groups(outer, scales, config.weight_decay)
    optimizers: list[torch.optim.Optimizer] = [torch.optim.AdamW(groups, betas=(0.95, 0.99), fused=True)]
    if inner:
        dtype, batched = torch.bfloat16 if runtime.is_mixed else torch.float32, not runtime.is_cpu
        groups = _groups(inner, scales, config.weight_decay)
        optimizers.append(Muon(groups, weight_decay=config.weight_decay, dtype=dtype, pool=pool, batched=batched))
    return optimizers


def restore_optimizer(optimizer: torch.optim.Optimizer, state: Mapping[int, object]) -> None:
    """Returns an optimizer of `make_optimizers` to a saved state, empty before its first step; its settings stay.

    Raises:
        ValueError: If the state is of other parameters.
    """
    weights = [weight for group in optimizer.param_groups for weight in group["params"]]
    if state and state.keys() != set(range(len(weights))):
        raise ValueError("optimizers: it does not hold the parameters of this network")
    for number, weight in enumerate(weights if state else ()):
        adam = {"exp_avg": weight, "exp_avg_sq": weight, "step": torch.empty(())}
        wanted = {"momentum_buffer": weight} if isinstance(optimizer, Muon) else adam
        check_like(state[number], wanted, f"optimizers: parameter {number}")
    optimizer.load_state_dict({**optimizer.state_dict(), "state": state})


def _groups(
    parameters: Iterable[nn.Parameter], scales: Mapping[nn.Parameter, float], weight_decay: float
) -> list[dict[str, object]]:
    """Parameter groups with the same weight decay and the same factor of the learning rate, in order."""
    groups: dict[tuple[float, float], list[nn.Parameter]] = {}
    for parameter in sorted(parameters, key=lambda parameter: parameter.ndim <= 1):
        decay = weight_decay if parameter.ndim > 1 else 0.0
        groups.setdefault((decay, scales.get(parameter, 1.0)), []).append(parameter)
    return [{"params": members, "weight_decay": decay, "lr_scale": scale} for (decay, scale), members in groups.items()]


def _lr_scales(network: nn.Module) -> dict[nn.Parameter, float]:
    """The factor of the learning rate of each parameter: 1 for the last layer, falling to `FIRST_LAYER_LR`."""
    depths = layer_depths(network)
    return {
        parameter: FIRST_LAYER_LR ** (1 - round(depth * LR_STEPS) / LR_STEPS) for parameter, depth in depths.items()
    }


def layer_depths(network: nn.Module) -> dict[nn.Parameter, float]:
    """Where in a network each parameter is: from 0 in the first layer to 1 in the last.

    Layers are counted in the order in which they are registered, a vector as part of the weight before it.
    """
    parameters = list(network.parameters())
    layers = list(accumulate(int(parameter.ndim > 1) for parameter in parameters))
    first, last = layers[0], max(layers[-1], 2)
    return {parameter: (layer - first) / (last - first) for parameter, layer in zip(parameters, layers, strict=True)}


# --- schedules -------------------------------------------------------------------------------------------------------

WARMUP = 0.25
"""The share of a run in which the learning rate rises."""
START, END = 1 / 25, 1 / 250_000
"""The first and the last learning rate, as shares of the peak."""
MIN_SIZE = 64
"""Progressive resizing starts with images of at least this edge, in pixels: smaller ones show too little."""
HIGH_MOMENTUM, LOW_MOMENTUM = 0.95, 0.85


def one_cycle(progress: float) -> tuple[float, float]:
    """Warm-up and cosine annealing, with the momentum cycled inversely (Smith and Topin 2018).

    Args:
        progress: The share of the run that is done, in [0, 1].

    Returns:
        The learning rate as a share of its peak, and the momentum, AdamW's beta1.
    """
    is_warming_up = progress < WARMUP
    height = _ease(progress / WARMUP) if is_warming_up else 1 - _ease(min(1.0, (progress - WARMUP) / (1 - WARMUP)))
    lowest = START if is_warming_up else END
    return lowest + (1 - lowest) * height, HIGH_MOMENTUM + (LOW_MOMENTUM - HIGH_MOMENTUM) * height


def _ease(share: float) -> float:
    """From 0 to 1 along half a cosine."""
    return (1 - math.cos(math.pi * share)) / 2


def progressive_size(full: int, progress: float, smallest: int = MIN_SIZE) -> int:
    """The edge of the images at one point of a run with progressive resizing, a multiple of 16 below `full`.

    It grows linearly from 5/8 of the full edge, but at least `smallest`, and is full in the last third.
    """
    share = 5 / 8 + 3 / 8 * min(1.0, progress * 3 / 2)
    return full if share >= 1 else min(full, max(smallest, int(full * share) // 16 * 16))


@dataclass
class Budget:
    """How long a run trains: a number of steps, or until a deadline.

    Attributes:
        steps: The number of steps of the run; None with a deadline.
        deadline: The end of the run, in seconds of the monotonic clock.
        reserved: The seconds before the deadline that are kept for what follows the last step.
        resumed_at: The number of steps that earlier processes made.
        start: The start of this process, in seconds of the monotonic clock.
    """

    steps: int | None = None
    deadline: float = math.inf
    reserved: float = 0.0
    resumed_at: int = 0
    start: float = field(default_factory=time.monotonic)

    def progress(self, steps: int) -> float:
        """The share of the run that is done after `steps` steps, from 0; the run ends at 1."""
        if self.steps is not None:
            return steps / self.steps if self.steps else 1.0
        length = self.deadline - self.reserved - self.start
        return min(1.0, (time.monotonic() - self.start) / length) if length > 0 else 1.0

    def seconds_left(self, steps: int) -> float:
        """The estimated time until the end; infinite before the first step."""
        if self.steps is None:
            return max(0.0, self.deadline - time.monotonic())
        done = steps - self.resumed_at
        return (time.monotonic() - self.start) * (self.steps - steps) / done if done else math.inf
