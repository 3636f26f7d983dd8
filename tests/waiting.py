"""Waiting for what another process or thread does: one way, patient enough for a machine that does much else."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from typing import Any

import psutil


def wait_until(condition: Callable[[], Any], seconds: float = 120) -> Any:
    """Wait for something to become true; returns it, and fails where it does not within so many seconds."""
    deadline = time.monotonic() + seconds
    while not (value := condition()):
        assert time.monotonic() < deadline, f"not within {seconds:g} s"
        time.sleep(0.02)
    return value


def has_ended(process: psutil.Process) -> bool:
    """Whether a process is no more, or only its entry is left."""
    try:
        return not process.is_running() or process.status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:  # between the two questions
        return True


def kill_all(processes: Iterable[psutil.Process]) -> None:
    """End processes at once; some may end by themselves when they miss the others."""
    for process in processes:
        try:
            process.kill()
        except psutil.NoSuchProcess:
            continue
