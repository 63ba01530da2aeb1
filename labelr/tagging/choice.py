"""Which labels of an image are written: by thresholds, by number, and of those that are wanted at all."""

from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

from labelr.config import TagOptions
from labelr.errors import suggest
from labelr.fields import SettingError
from labelr.model.decide import decide


@dataclass(frozen=True)
class Choice:
    """The labels that are written, K of the model's L, and when each is.

    Attributes:
        labels: Their names.
        columns: Where they stand among the model's, shape ``(K,)``.
        thresholds: Shape ``(K,)``.
        top_k: At most so many an image; None for all that apply.
        min_labels: At least so many an image.
    """

    labels: tuple[str, ...]
    columns: NDArray[np.int64]
    thresholds: NDArray[np.float64]
    top_k: int | None = None
    min_labels: int = 0

    @classmethod
    def of(cls, labels: tuple[str, ...], thresholds: NDArray[np.float64], options: TagOptions) -> Self:
        """The choice that options make of a model's labels and thresholds, ``(L,)``.

        Raises:
            SettingError: If they name a label that there is not, or leave none.
        """
        for name in (*options.only, *options.exclude):
            if name not in labels:
                raise SettingError(
                    f"the model has no label {name!r}", suggest(name, labels) or "see `labelr models show`"
                )
        kept = [
            column
            for column, label in enumerate(labels)
            if (not options.only or label in options.only) and label not in options.exclude
        ]
        if not kept:
            raise SettingError("no label is left to write", "leave out less by `--only` and `--exclude`")
        columns = np.array(kept, np.int64)
        names = tuple(labels[column] for column in kept)
        return cls(names, columns, thresholds[columns], options.top_k, options.min_labels)

    def applies(self, probs: NDArray[np.float32]) -> NDArray[np.bool_]:
        """Which of the K labels are written, of an image with these probabilities of them, ``(K,)``."""
        chosen = decide(probs, self.thresholds)
        if self.top_k is None and not self.min_labels:
            return chosen
        ranked = np.argsort(-probs, kind="stable")
        chosen[ranked[: self.min_labels]] = True
        if self.top_k is not None:
            kept = [index for index in ranked if chosen[index]][: self.top_k]
            chosen = np.zeros_like(chosen)
            chosen[kept] = True
        return chosen
