"""Where tasks run: in this process, or in processes of a local dask cluster.

An executor takes a task and later calls back with its outcome, or with the reason why its worker died. The inline one
pickles both ways, so that what would fail between processes fails here too.
"""

from __future__ import annotations

import contextlib
import os
import pickle
import secrets
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

from focusnb.errors import ParameterError
from focusnb.steps.task import Emit, Outcome, Progress, Task, run_task

Done = Callable[[str, "Outcome | str"], None]
"""Called with the task's id and its outcome, or the reason why there is none."""

MOST_EVENTS_PER_SECOND = 2.0
LOST_WORKER = "its worker died while it was processed"


class Executor(Protocol):
    """Runs tasks somewhere."""

    slots: int
    """Tasks it works on at the same time."""
    gpu: bool

    def submit(self, task: Task, done: Done, emit: Emit | None = None) -> None:
        """Take a task; ``done`` may be called from another thread."""
        ...

    def give_up(self) -> None:
        """Forget the tasks under way; when this returns none of them writes any more."""
        ...

    def close(self) -> None:
        """Stop at once; tasks under way are given up."""
        ...


class InlineExecutor:
    """Runs each task at once, in this process."""

    def __init__(self, *, gpu: bool = False) -> None:
        self.slots = 1
        self.gpu = gpu

    def submit(self, task: Task, done: Done, emit: Emit | None = None) -> None:
        """Run the task and call back before returning."""
        outcome = run_task(pickle.loads(pickle.dumps(task)), emit)
        done(task.id, pickle.loads(pickle.dumps(outcome)))

    def give_up(self) -> None:
        """Nothing is under way between two calls."""

    def close(self) -> None:
        """Nothing is held."""


class LocalCluster:
    """Runs tasks in processes of a dask cluster on this machine; one that dies takes only its own task along."""

    TOPIC = "focusnb-progress"

    def __init__(self, workers: int, *, gpu: bool = False, memory_limit: str | int | None = "auto") -> None:
        if workers < 1:
            raise ParameterError(f"{workers} workers cannot work; give at least 1")
        import dask
        import distributed

        self.slots = workers
        self.gpu = gpu
        single = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS"), 1)
        settings = {
            "distributed.nanny.pre-spawn-environ": single,
            # the project counts attempts itself, and keeps them
            "distributed.scheduler.allowed-failures": 0,
            "distributed.admin.log-format": "%(message)s",
            "distributed.logging.distributed": "critical",
        }
        with dask.config.set(settings):
            self._cluster = distributed.LocalCluster(
                n_workers=workers,
                threads_per_worker=1,
                processes=True,
                # any free port: 8787 may belong to another cluster of this machine
                dashboard_address="127.0.0.1:0",
                scheduler_kwargs={"dashboard": False},
                host="127.0.0.1",
                memory_limit=memory_limit,
                silence_logs=50,
                preload=["focusnb.processing.worker"],
            )
            self._client = distributed.Client(self._cluster)
        self._futures: dict[str, Any] = {}
        self._listeners: dict[str, Emit] = {}
        self._client.subscribe_topic(self.TOPIC, self._hear)

    def submit(self, task: Task, done: Done, emit: Emit | None = None) -> None:
        """Send the task to a worker."""
        if emit is not None:
            self._listeners[task.id] = emit
        name = secrets.token_hex(8)  # nobody else can have put a file of that name there
        key = f"{task.name}-{task.id}-{name}"
        answer = task.run_folder / f".outcome-{name}"
        future = self._client.submit(_run_on_worker, task, answer, self.TOPIC, key=key, pure=False, retries=0)
        self._futures[task.id] = future

        def finished(future: Any) -> None:
            self._futures.pop(task.id, None)
            self._listeners.pop(task.id, None)
            done(task.id, _result(future, answer))

        future.add_done_callback(finished)

    def _hear(self, event: tuple[float, Any]) -> None:
        _, content = event
        progress = Progress(*content)
        listener = self._listeners.get(progress.task)
        if listener is not None:
            listener(progress)

    def give_up(self) -> None:
        """End the processes, with what they are at; their nannies start new ones."""
        self._listeners.clear()
        self._client.cancel(list(self._futures.values()), force=True)
        self._futures.clear()
        ended = set(self._client.run_on_scheduler(_addresses))
        for nanny in self._cluster.workers.values():
            with contextlib.suppress(ProcessLookupError):
                if nanny.pid:
                    os.kill(nanny.pid, signal.SIGKILL)
        deadline = time.monotonic() + 10
        while ended & set(self._client.run_on_scheduler(_addresses)) and time.monotonic() < deadline:
            time.sleep(0.02)  # until the scheduler has noticed, it would send them more

    def close(self) -> None:
        """Give up what is under way and end the processes."""
        self._client.close(timeout=2)
        self._cluster.close(timeout=5)


def _addresses(dask_scheduler: Any) -> list[str]:
    return list(dask_scheduler.workers)


def _result(future: Any, answer: Path) -> Outcome | str:
    """What became of a task: by the file its worker wrote, which stays when the worker dies thereafter."""
    try:
        outcome = pickle.loads(answer.read_bytes())
        answer.unlink()
        return outcome  # type: ignore[no-any-return]
    except (OSError, EOFError, pickle.UnpicklingError):
        pass
    if future.status == "cancelled":
        return "processing was stopped"
    try:
        # no file on a full disk; no answer in time from a worker that died with its result
        return future.result(timeout=10)  # type: ignore[no-any-return]
    except Exception as error:
        lost = type(error).__name__ in ("KilledWorker", "TimeoutError", "CancelledError", "FutureCancelledError")
        return LOST_WORKER if lost else f"{type(error).__name__}: {error}"


def _run_on_worker(task: Task, answer: Path, topic: str) -> Outcome:
    from distributed import get_worker

    worker = get_worker()
    last = [0.0]
    lock = threading.Lock()

    def emit(progress: Progress) -> None:
        with lock:
            if time.monotonic() - last[0] < 1 / MOST_EVENTS_PER_SECOND:
                return
            last[0] = time.monotonic()
        # no dict: dask would add a key to it
        worker.log_event(topic, (progress.task, progress.exposure, progress.step, progress.message, progress.fraction))

    outcome = run_task(task, emit)
    part = answer.with_name(f"{answer.name}.part")
    with contextlib.suppress(OSError):
        part.write_bytes(pickle.dumps(outcome))
        os.replace(part, answer)
    return outcome


def make_executor(workers: int | None = None, *, gpu: bool = False) -> Executor:
    """Choose by the number of workers: 0 runs in this process; by default one process per core that memory feeds."""
    if workers is None:
        workers = default_workers()
    return InlineExecutor(gpu=gpu) if workers == 0 else LocalCluster(workers, gpu=gpu)


def default_workers() -> int:
    """One worker per core, and at least 3 GB of memory for each."""
    import psutil

    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, min(cores, int(psutil.virtual_memory().total // 3_000_000_000)))
