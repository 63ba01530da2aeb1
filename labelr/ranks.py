"""Which of several processes that train together this one is, as torchrun tells it by variables of the environment."""

import os
from contextlib import suppress
from dataclasses import dataclass
from typing import Self

from labelr.errors import LabelrError


@dataclass(frozen=True)
class Place:
    """The place of a process among those that train one model.

    Attributes:
        rank: From 0; process 0 does everything but a part of the training steps.
        size: The number of processes.
        local_rank: Among the processes of this machine, from 0: the number of its GPU.
        local_size: The number of processes of this machine.
    """

    rank: int = 0
    size: int = 1
    local_rank: int = 0
    local_size: int = 1

    @classmethod
    def of_environment(cls) -> Self:
        """The place that RANK, WORLD_SIZE, LOCAL_RANK and LOCAL_WORLD_SIZE name; the only one without them.

        Raises:
            LabelrError: If they contradict each other.
        """
        if "RANK" not in os.environ or "MASTER_ADDR" not in os.environ:
            return cls()
        rank, size = _number("RANK", 0), _number("WORLD_SIZE", 1)
        local_size = _number("LOCAL_WORLD_SIZE", 1)
        local_rank = _number("LOCAL_RANK", rank % max(1, local_size))
        if not (rank < size and local_rank < local_size <= size):
            raise LabelrError(
                f"process {rank} of {size}, and {local_rank} of {local_size} on this machine, cannot be",
                "correct RANK, WORLD_SIZE, LOCAL_RANK and LOCAL_WORLD_SIZE, or start with torchrun, which sets them",
            )
        return cls(rank, size, local_rank, local_size)

    @property
    def environment(self) -> dict[str, str]:
        """The variables that name this place."""
        numbers = {
            "RANK": self.rank, "WORLD_SIZE": self.size, "LOCAL_RANK": self.local_rank,
            "LOCAL_WORLD_SIZE": self.local_size,
        }  # fmt: skip
        return {name: str(number) for name, number in numbers.items()}


def is_started_by_torchrun() -> bool:
    """Whether torchrun started this process."""
    return "TORCHELASTIC_RUN_ID" in os.environ


def is_silent() -> bool:
    """Whether process 0 shows the messages, and this is another one."""
    with suppress(LabelrError):
        return Place.of_environment().rank > 0
    return False


def _number(name: str, default: int) -> int:
    text = os.environ.get(name, str(default))
    if not text.isdecimal():
        raise LabelrError(f"{name}={text}: expected a whole number", "start with torchrun, which sets it")
    return int(text)
