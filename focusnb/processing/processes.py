"""Worker processes of this machine, with a scheduler of their own that is bound to localhost."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import dask
from distributed import Nanny, Scheduler, SpecCluster
from distributed.deploy.cluster import Cluster

from focusnb.processing.heap import ONE_ARENA
from focusnb.processing.licence import MEMORY_SHARE

THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS", "FOCUSNB_THREADS")
"""Variables that say how many threads libraries and decoders may use."""

SETTINGS = {
    # the project counts attempts itself, and keeps them
    "distributed.scheduler.allowed-failures": 0,
    "distributed.admin.log-format": "%(message)s",
    "distributed.logging.distributed": "critical",
    # a step that holds the interpreter keeps its worker silent; one that hangs has its own time-out
    "distributed.scheduler.worker-ttl": "1 hour",
    # what fills a worker's memory is no result that dask could spill, and a paused worker would wait for ever
    "distributed.worker.memory.target": False,
    "distributed.worker.memory.spill": False,
    "distributed.worker.memory.pause": False,
    # samples every thread a hundred times a second; a chain tells its steps' seconds itself
    "distributed.worker.profile.enabled": False,
    "distributed.admin.low-level-log-length": 100,
    # servers look at the clock 50 times a second and at themselves twice, which is 2 % of a core for each idle one
    "distributed.admin.tick.interval": "1s",
    "distributed.admin.tick.limit": "30s",
    "distributed.admin.system-monitor.interval": "5s",
    "distributed.worker.memory.monitor-interval": "250ms",
}

OWN_SETTINGS = {
    # a worker looks at its memory ten times a second and ends itself with an explanation; its nanny would end it
    # without one, so it has room to come first even where an array fills up fast
    "distributed.worker.memory.terminate": 1.2,
}
"""Settings for workers that no job's limit ends."""

CLOSES = 30.0
"""Seconds to wait for the processes of a cluster to end."""


@dataclass(frozen=True)
class WorkerSpec:
    """One worker process.

    memory : bytes it may take
    threads : threads of the libraries within it; it works on one task at a time
    environment, resources : added to its variables; declared to the scheduler
    """

    memory: int
    threads: int = 1
    environment: Mapping[str, str] = field(default_factory=dict)
    resources: Mapping[str, float] = field(default_factory=dict)


class OwnNanny(Nanny):
    """Sets the variables of its worker before that starts: libraries read them while they are imported."""

    def __init__(self, *arguments: Any, env: Mapping[str, str], **options: Any) -> None:
        super().__init__(*arguments, env=dict(env), **options)
        self.pre_spawn_env.update(env)


class OwnCluster(SpecCluster):
    """Keeps a worker whose process has ended: its nanny starts another."""

    def _update_worker_status(self, op: str, msg: Any) -> None:
        # dask's own closes the nanny 15 s later if the worker is not there at that moment: it may have died once more
        Cluster._update_worker_status(self, op, msg)


def start_processes(specs: Iterable[WorkerSpec], *, dashboard: bool = False) -> OwnCluster:
    """Start a scheduler in this process, and the workers."""
    workers = {str(number): {"cls": OwnNanny, "options": options_of(spec)} for number, spec in enumerate(specs, 1)}
    with dask.config.set({**SETTINGS, **OWN_SETTINGS}):
        return OwnCluster(
            workers=workers,
            scheduler={
                "cls": Scheduler,
                "options": {
                    "host": "127.0.0.1",
                    "dashboard": dashboard,
                    # any free port: 8787 may belong to another cluster of this machine
                    "dashboard_address": "127.0.0.1:0",
                },
            },
            silence_logs=logging.CRITICAL,
        )


def end_processes(cluster: Cluster) -> None:
    """End the processes of a cluster; where much else runs they may end later, with this process at the latest."""
    with contextlib.suppress(TimeoutError):
        cluster.close(timeout=CLOSES)


def options_of(spec: WorkerSpec) -> dict[str, Any]:
    """What the nanny of such a worker is given."""
    return {
        "host": "127.0.0.1",
        "nthreads": 1,
        "memory_limit": spec.memory,
        "resources": {"memory": int(MEMORY_SHARE * spec.memory), **spec.resources},
        "env": {**dict.fromkeys(THREADS, str(spec.threads)), **ONE_ARENA, **spec.environment},
        "dashboard": False,
        "silence_logs": logging.CRITICAL,
        "preload": ["focusnb.processing.worker"],
    }
