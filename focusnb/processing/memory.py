"""How much memory there is, and how many workers it feeds."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from focusnb.processing import licence
from focusnb.steps.base import Cost

LEAST_MEMORY = 4_000_000_000
"""Bytes of memory for a worker where the costs of its tasks are not known."""

MACHINE_SHARE = 0.9
"""Share of the machine's memory that the workers may have together."""


def allowed_to(worker: Mapping[str, Any]) -> float:
    """Bytes a task may take on a worker, as the scheduler describes it."""
    limit = worker["memory_limit"]
    return float(worker["resources"].get("memory") or (licence.MEMORY_SHARE * limit if limit else float("inf")))


def too_large(needs: float, has: float, whose: str, cure: str, of: str = "") -> str:
    """Say that something does not fit, with both numbers and the cure; empty where it does."""
    if needs <= has:
        return ""
    return f"needs up to {needs / 1e9:.1f} GB of {of}memory, and {whose} {has / 1e9:.1f} GB; {cure}"


def parse_limit(limit: str | int | None) -> int:
    """Bytes of a memory limit; 0 where none is given."""
    if limit in (None, "auto"):
        return 0
    from dask.utils import parse_bytes

    return int(parse_bytes(limit))


def machine_memory() -> int:
    """Bytes of memory this process can have: those of the machine, or fewer where a control group says so."""
    import psutil

    least = int(psutil.virtual_memory().total)
    with contextlib.suppress(OSError):
        for line in Path("/proc/self/cgroup").read_text().splitlines():
            _, _, group = line.partition("::")
            own = Path("/sys/fs/cgroup") / group.lstrip("/")
            for folder in [own, *own.parents] if group else []:
                with contextlib.suppress(OSError, ValueError):  # "max" is no number
                    least = min(least, int((folder / "memory.max").read_text()))
    with contextlib.suppress(OSError, ValueError):
        least = min(least, int(Path("/sys/fs/cgroup/memory/memory.limit_in_bytes").read_text()))
    return least


def default_workers(cost: Cost | None = None) -> int:
    """One worker per core, as far as each gets the memory its tasks need at their worst, and at least 4 GB."""
    from dask.system import cpu_count

    each = max(cost.memory / licence.MEMORY_SHARE if cost is not None else 0, LEAST_MEMORY)
    return max(1, min(cpu_count(), int(MACHINE_SHARE * machine_memory() // each)))
