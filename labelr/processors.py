"""How many processors this process may use. joblib counts them alike, but takes longer to import than numpy."""

import math
import os
import sys
from contextlib import suppress
from pathlib import Path

MAX_ON_WINDOWS = 61
"""The most threads that Windows waits for together."""
LIMIT = "LOKY_MAX_CPU_COUNT"
"""The variable of joblib that sets an upper limit."""
CGROUP = Path("/sys/fs/cgroup")
"""Where Linux keeps the limits of a container: in ``cpu.max``, or in two files in version 1."""


def count_processors(cgroup: Path = CGROUP) -> int:
    """The least of the processors of the machine, the affinity, the limit of the container, and `LIMIT`; at least 1."""
    counts = [os.cpu_count() or 1, *_quota(cgroup)]
    if sys.platform == "win32":
        counts.append(MAX_ON_WINDOWS)
    elif sys.platform == "linux":
        counts.append(len(os.sched_getaffinity(0)))
    limit = os.environ.get(LIMIT, "")
    if limit.isdecimal():
        counts.append(int(limit))
    return max(1, min(counts))


def _quota(cgroup: Path) -> list[int]:
    """The processors of a container, rounded up; none without a limit."""
    with suppress(OSError, ValueError):
        if (cgroup / "cpu.max").exists():
            quota, period = (cgroup / "cpu.max").read_text(encoding="ascii").split()
        else:
            quota, period = (
                (cgroup / "cpu" / f"cpu.cfs_{name}_us").read_text(encoding="ascii") for name in ("quota", "period")
            )
        if int(quota) > 0:  # else "max", or -1
            return [math.ceil(int(quota) / int(period))]
    return []
