"""Losses: pure functions of logits and targets."""

import torch
from torch import Tensor
from torch.nn import functional as F


def masked_bce(logits: Tensor, targets: Tensor, num_known: Tensor | None = None) -> Tensor:
    """Binary cross-entropy over the known cells.

    Args:
        logits: Shape ``(N, L)``.
        targets: 1 where the label applies, 0 where not, NaN where unknown, shape ``(N, L)``.
        num_known: The number of known cells of the whole batch, a scalar, if this is a micro-batch; None counts them.

    Returns:
        The mean over the known cells, in nats, a scalar; 0 if none is known.
    """
    known = ~torch.isnan(targets)
    losses = F.binary_cross_entropy_with_logits(logits, targets.where(known, 0.0), reduction="none")
    return (losses * known).sum() / (known.sum() if num_known is None else num_known).clamp(min=1)
