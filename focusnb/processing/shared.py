"""One cluster for all projects of a user on a host: a detached process per name, started and found through a file.

``<state>/focusnb/clusters/<name>@<host>.json`` tells where it is; its log lies beside it. It ends by itself some time
after its last client has left. Tasks are served in the order they come; as every project has only a few of its tasks
there at a time, projects take turns.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from focusnb import __version__
from focusnb.errors import FocusError, ParameterError, ProjectError
from focusnb.io.processes import began as process_began
from focusnb.processing.clusters import (
    CONNECT,
    LINGER,
    ClusterConfig,
    allowed_in_job,
    connect_to,
    read_config,
    start_slurm,
    worker_specs,
)
from focusnb.steps.base import Cost

START = 60.0
"""Seconds a cluster has to start."""


class NoAnswer(ProjectError, TimeoutError):
    """A cluster runs and does not answer now."""


@dataclass(frozen=True)
class Entry:
    """A shared cluster that runs: where, as which process, since when (as ``io.processes.began`` tells).

    workers : processes it was started with; 0 where they come and go
    most, allowed : workers it grows to, and bytes each may take; 0 where it does not grow
    """

    address: str
    process: int
    began: float
    version: str = __version__
    workers: int = 0
    most: int = 0
    allowed: int = 0


def registry(name: str, suffix: str = "json") -> Path:
    """Name the file that tells of a shared cluster; a home may be seen by several hosts, each has its own."""
    state = Path(os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state")
    return state / "focusnb" / "clusters" / f"{name}@{socket.gethostname()}.{suffix}"


def find(name: str) -> Entry | None:
    """Find a shared cluster that runs; None where there is none, or only what a dead one left."""
    try:
        entry = Entry(**json.loads(registry(name).read_text()))
    except (OSError, ValueError, TypeError):
        return None
    return entry if process_began(entry.process) == entry.began else None


def running(name: str) -> bool:
    """Whether the shared cluster of this name runs."""
    return find(name) is not None


def shared(name: str, *, workers: int | None = None, cost: Cost | None = None) -> Any:
    """Connect to the shared cluster of this name, starting it where it does not run; returns a distributed.Client."""
    return connect(read_config(name), workers=workers, cost=cost)[0]


def connect(config: ClusterConfig, *, workers: int | None = None, cost: Cost | None = None) -> tuple[Any, Entry]:
    """Connect to a shared cluster, starting it where it does not run.

    Raises ProjectError with the end of its log where it cannot be started or does not answer.
    """
    # held until the connection stands: the cluster takes it to end, so that it never ends in between
    with _locked(config.name):
        entry = find(config.name) or _start(config, workers, cost)
        if entry.version != __version__:
            raise ProjectError(
                f"cluster {config.name} was started by focusnb {entry.version} and this is {__version__}; "
                f"let what uses it end, or end process {entry.process}"
            )
        if workers is not None and workers != entry.workers:
            raise ParameterError(
                f"cluster {config.name} runs with {entry.workers} workers and is shared; leave --workers {workers} out"
            )
        try:
            return connect_to(entry.address, CONNECT), entry
        except (OSError, TimeoutError) as error:
            raise NoAnswer(
                f"cluster {config.name} (process {entry.process}) does not answer at {entry.address} within "
                f"{CONNECT:g} s; wait, or end that process; its log is {registry(config.name, 'log')}"
            ) from error


@contextlib.contextmanager
def _locked(name: str) -> Iterator[None]:
    path = registry(name, "lock")
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _start(config: ClusterConfig, workers: int | None, cost: Cost | None) -> Entry:
    log = registry(config.name, "log")
    wanted = {
        "config": asdict(config),
        "workers": workers,
        "cost": None if cost is None else asdict(cost),
    }
    with open(os.open(log, os.O_CREAT | os.O_WRONLY | os.O_TRUNC, 0o600), "w") as file:
        process = subprocess.Popen(
            [sys.executable, "-m", "focusnb.processing.shared", json.dumps(wanted)],
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=subprocess.STDOUT,
            cwd="/",
            start_new_session=True,
        )
    deadline = time.monotonic() + START
    while time.monotonic() < deadline:
        entry = find(config.name)
        if entry is not None and entry.process == process.pid:
            # waited for in a thread of its own: while this process lives, the ended one would stay as a zombie
            threading.Thread(target=process.wait, name=f"cluster-{config.name}", daemon=True).start()
            return entry
        if process.poll() is not None:
            break
        time.sleep(0.05)
    process.kill()
    process.wait()
    said = " ".join(log.read_text("utf-8", "replace").strip().splitlines()[-1:]) or "it said nothing"
    raise ProjectError(f"cluster {config.name} did not start: {said} (log: {log})")


# ------------------------------------------------------------------------------------------------------- that process


def serve(config: ClusterConfig, *, workers: int | None = None, cost: Cost | None = None) -> None:
    """Run a cluster until nobody has used it for a while, or until SIGTERM."""
    ended = threading.Event()
    from focusnb.processing.processes import end_processes, start_processes

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: ended.set())
    if config.kind == "slurm":
        cluster = start_slurm(config)
        signal.signal(signal.SIGINT, lambda *_: ended.set())  # which dask-jobqueue has taken for itself
        size = {"most": config.get("maximum", 1), "allowed": allowed_in_job(config)}
    else:
        specs = worker_specs(config, workers=workers, cost=cost)
        cluster = start_processes(specs, dashboard=True)
        size = {"workers": len(specs)}
    entry = Entry(cluster.scheduler_address, os.getpid(), process_began(), **size)
    path = registry(config.name)
    _write(path, entry)
    print(f"cluster {config.name} runs at {entry.address}; dashboard: {cluster.dashboard_link}", flush=True)
    try:
        _until_unused(cluster, config, entry, ended)
    finally:
        with contextlib.suppress(OSError):
            if find(config.name) == entry:
                path.unlink()
        end_processes(cluster)


def _until_unused(cluster: Any, config: ClusterConfig, entry: Entry, ended: threading.Event) -> None:
    linger, used = config.get("linger", LINGER), time.monotonic()
    # the first client waits for this process and is not there yet
    while not ended.wait(min(1.0, max(0.1, linger / 4))):
        if _clients(cluster):
            used = time.monotonic()
        elif time.monotonic() - used > linger:
            with _locked(config.name):
                if not _clients(cluster):
                    print(f"nobody has used it for {linger:g} s", flush=True)
                    if find(config.name) == entry:
                        registry(config.name).unlink(missing_ok=True)
                    return


def _clients(cluster: Any) -> int:
    return sum(name != "fire-and-forget" for name in list(cluster.scheduler.clients))


def _write(path: Path, entry: Entry) -> None:
    part = path.with_suffix(f".{os.getpid()}.part")
    with open(os.open(part, os.O_CREAT | os.O_WRONLY | os.O_TRUNC, 0o600), "w") as file:
        json.dump(asdict(entry), file)
    os.replace(part, path)


def main(argument: str) -> int:
    """Run the cluster that another process asked for."""
    wanted = json.loads(argument)
    cost = None if wanted["cost"] is None else Cost(**wanted["cost"])
    try:
        serve(ClusterConfig(**wanted["config"]), workers=wanted["workers"], cost=cost)
    except FocusError as error:
        print(error, flush=True)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
