"""Where tasks run: in this process, or in worker processes that a dask scheduler knows.

An executor takes a task and later calls back with its outcome, or with what became of it instead. The inline one
pickles both ways, so that what would fail between processes fails here too.
"""

from __future__ import annotations

import contextlib
import os
import pickle
import secrets
import shutil
import signal
import socket
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Protocol

from focusnb.errors import FocusError, ParameterError, ProjectError
from focusnb.io.processes import began as process_began
from focusnb.processing import licence
from focusnb.processing.memory import (
    MACHINE_SHARE,
    allowed_to,
    machine_memory,
    parse_limit,
    too_large,
)
from focusnb.steps.base import Cost
from focusnb.steps.task import Emit, Outcome, Progress, Task, run_task

LOST_WORKER = "its worker died while it was processed"
LOST_SCHEDULER = "the connection to the scheduler was lost"
CANCELLED = "it was cancelled"

MOST_AHEAD = 8
"""Tasks that wait at the workers at most: one each hides the way there, and what waits there cannot be reordered."""

ANSWERS = 5.0
"""Seconds within which a scheduler answers; one that does not counts as lost."""

PREPARED = 30.0
"""Seconds to wait for the workers to be prepared."""

UNBEGUN = 6
"""Deaths of workers before they began, one after another, from which on they speak against the task."""

LONGEST_PAUSE = 30.0
"""Seconds between two attempts to connect again, at most; the first is 1."""

ATTEMPTS = 10
"""How often a cluster that was lost is started again in vain."""


@dataclass(frozen=True)
class Lost:
    """What became of a task that gave no complete outcome.

    reason : a sentence without the exposure's name
    blame : it speaks against the exposure: its worker died while it worked on it
    final : trying again would end the same way
    so_far : the steps that had ended before
    error : Lost, TimeOut or Memory
    """

    reason: str
    blame: bool = True
    final: bool = False
    so_far: Outcome | None = None
    error: str = "Lost"


Result = Outcome | Lost

Done = Callable[[str, Result], None]
"""Called with the task's id and what became of it; may be called from another thread."""


class ClusterLost(ProjectError):
    """The workers cannot be reached any more, and nothing this process does brings them back."""


class Executor(Protocol):
    """Runs tasks somewhere."""

    gpu: bool
    address: str
    """Address of a dashboard to show the user; empty where there is none."""

    @property
    def slots(self) -> int:
        """Tasks it works on at the same time at this moment; 0 where no worker is there."""
        ...

    @property
    def ahead(self) -> int:
        """How many more may wait there."""
        ...

    def refuse(self, cost: Cost) -> str:
        """Say why a chain of this cost can never run here, with both numbers and the cure; empty where it can."""
        ...

    def submit(self, task: Task, done: Done, emit: Emit | None = None, *, cost: Cost = Cost()) -> None:  # noqa: B008
        """Take a task whose run folder is there; ``done`` and ``emit`` may be called from another thread."""
        ...

    def withdraw(self, task: str) -> None:
        """End this one task if it is here, and take its run folder away."""
        ...

    def revive(self) -> bool:
        """Look after the connection, about once a second.

        False while all is well or while nothing can be done; True where it was lost and has been made again, after
        ``done`` was called for everything that was under way. ClusterLost where there is no hope.
        """
        ...

    def give_up(self) -> None:
        """Forget the tasks under way; when this returns none of them writes any more."""
        ...

    def close(self) -> None:
        """Stop at once; tasks under way are given up."""
        ...


class InlineExecutor:
    """Runs each task at once, in this process: nobody can end a step that hangs or takes too much memory."""

    slots = 1
    ahead = 0
    address = ""

    def __init__(self, *, gpu: bool = False) -> None:
        self.gpu = gpu

    def refuse(self, cost: Cost) -> str:
        """Compare with the machine's memory."""
        return too_large(cost.memory, machine_memory(), "this machine has", "it needs a machine with more")

    def submit(self, task: Task, done: Done, emit: Emit | None = None, *, cost: Cost = Cost()) -> None:  # noqa: B008
        """Run the task and call back before returning."""
        outcome = run_task(pickle.loads(pickle.dumps(task)), emit)
        done(task.id, pickle.loads(pickle.dumps(replace(outcome, worker="inline"))))

    def withdraw(self, task: str) -> None:
        """Nothing is under way between two calls, and within one it runs to its end."""

    def revive(self) -> bool:
        """Nothing can be lost."""
        return False

    def give_up(self) -> None:
        """Nothing is under way between two calls."""

    def close(self) -> None:
        """Nothing is held."""


@dataclass
class _Flight:
    """A task under way."""

    task: Task
    done: Done
    emit: Emit | None
    secret: str
    future: Any = None
    cut: bool = False  # dask has cancelled it, as it does when the connection breaks


class DaskExecutor:
    """Runs tasks in the workers that a dask scheduler knows; a worker that dies takes only its own task along.

    client : connected to a scheduler whose workers are processes of their own and see the project's folder
    reconnect : gives a new client when the scheduler is lost; raises OSError or ProjectError while there is none
    most : slots a cluster grows to that starts workers when tasks wait; 0 where it does not
    allowed : bytes a worker of such a cluster may take
    warm : steps of the chain that a worker tries out when it starts
    cure : what makes room for a task that takes too much memory
    log : where the cluster writes what goes wrong
    """

    def __init__(
        self,
        client: Any,
        *,
        gpu: bool = False,
        reconnect: Callable[[], Any] | None = None,
        most: int = 0,
        allowed: int = 0,
        warm: tuple[str, ...] = (),
        cure: str = "give its workers more memory",
        log: str = "the terminal",
    ) -> None:
        self.gpu = gpu
        self.address = ""
        self._reconnect = reconnect
        self._most = most
        self._allowed = allowed
        self._warm = warm
        self._cure = cure
        self._log = log
        self._unbegun = 0  # deaths since the last success
        self._pause, self._again, self._failures = 1.0, 0.0, 0
        self._topic = f"focusnb-{secrets.token_hex(8)}"
        self._flying: dict[str, _Flight] = {}
        self._lock = threading.Lock()
        self._attach(client)

    def _attach(self, client: Any) -> None:
        from focusnb.processing.worker import Station

        self._client = client
        self._comm: Any = None  # it counts as lost until all is prepared
        self._workers: Mapping[str, Any] = {}
        self._looked = 0.0
        self._looking = False
        comm = client.scheduler_comm
        try:
            _within(PREPARED, client.register_plugin, Station(self._warm, use_gpu=self.gpu))
        except TimeoutError:
            pass  # a worker is at a step that holds its interpreter; a scheduler that hangs is told from it next
        except OSError:
            raise  # the connection broke again
        except Exception as error:
            raise ProjectError(
                f"{client.scheduler.address}: its workers cannot be prepared ({type(error).__name__}: {error}); "
                "install the same version of focusnb there"
            ) from error
        client.sync(self._look, callback_timeout=PREPARED)
        _within(PREPARED, client.subscribe_topic, self._topic, self._hear)
        if any(address.startswith("inproc:") for address in self._workers):
            raise ParameterError(
                f"{client.scheduler.address}: its workers are threads of this process, where none can be ended "
                "alone; start them as processes"
            )
        self.address = _dashboard(client)
        self._comm = comm

    # ------------------------------------------------------------------------------------------------ who works here

    async def _look(self) -> None:
        """Ask the scheduler who is there, in the client's own thread: a scheduler that hangs holds nobody up."""
        client = self._client
        try:
            seen = await client.scheduler.identity(n_workers=-1)
            if client is self._client:
                self._workers = seen["workers"]
        except Exception:
            pass  # the next look, or revive(), tells
        finally:
            self._looked, self._looking = time.monotonic(), False

    def _present(self) -> list[Mapping[str, Any]]:
        if self._is_lost():
            return []
        if time.monotonic() - self._looked > 1 and not self._looking:
            self._looking = True
            self._client.loop.add_callback(self._look)
        return [worker for worker in self._workers.values() if worker["status"] == "running"]

    @property
    def slots(self) -> int:
        """Workers that are there, or that would come."""
        return 0 if self._is_lost() else max(len(self._present()), self._most)

    @property
    def ahead(self) -> int:
        """One for each worker, as long as these are few."""
        return min(self.slots, MOST_AHEAD)

    def refuse(self, cost: Cost) -> str:
        """Compare with what the largest worker may take."""
        workers = self._present()
        largest = max([allowed_to(worker) for worker in workers] or [float("inf")])
        if self._most:
            largest = self._allowed or largest
        reason = too_large(cost.memory, largest, "the largest worker may take", self._cure)
        if reason or not self.gpu:
            return reason
        devices = [worker["resources"].get("gpu_memory", 0) for worker in workers]
        if any(devices):
            return too_large(cost.gpu_memory, max(devices), "the largest GPU has", "process without the GPU", "GPU ")
        return ""

    def _resources(self, task: Task, cost: Cost) -> dict[str, float]:
        """What to ask the scheduler for: what no worker declares would be waited for in vain."""
        declared = [worker["resources"] for worker in self._present()]
        wanted: dict[str, float] = {"memory": cost.memory}
        if task.use_gpu:
            wanted |= {"gpu_memory": cost.gpu_memory, "GPU": 1}
        else:
            wanted |= {"CPU": 1}
        return {
            name: amount
            for name, amount in wanted.items()
            if amount
            and any(name in resources for resources in declared)
            and (name != "memory" or all(name in resources for resources in declared))
        }

    # ---------------------------------------------------------------------------------------------- tasks come and go

    def submit(self, task: Task, done: Done, emit: Emit | None = None, *, cost: Cost = Cost()) -> None:  # noqa: B008
        """Send the task to a worker."""
        from focusnb.processing.worker import run_on_worker

        flight = _Flight(task, done, emit, secrets.token_hex(8))
        with self._lock:
            self._flying[task.id] = flight
        if self._is_lost():
            self._end(flight, Lost(LOST_SCHEDULER, blame=False))
            return
        flight.future = self._client.submit(
            run_on_worker,
            task,
            flight.secret,
            self._topic,
            # one prefix for all: the scheduler keeps what it learns of each
            key=f"exposure-{flight.secret}-{task.name}",
            pure=False,
            retries=0,
            resources=self._resources(task, cost) or None,
        )
        flight.future.add_done_callback(lambda future: self._came(flight))

    def _came(self, flight: _Flight) -> None:
        if flight.future.status == "cancelled":
            flight.cut = True  # revive() tells why
            return
        with self._lock:
            if self._flying.get(flight.task.id) is not flight:
                return
        self._end(flight, self._counted(_result(flight)))

    def _counted(self, result: Result) -> Result:
        """Blame a task where workers die again and again before they begin: else it would be tried for ever."""
        if isinstance(result, Outcome) or result.blame or result.reason != LOST_WORKER:
            self._unbegun = 0  # workers do begin
            return result
        self._unbegun += 1
        if self._unbegun <= UNBEGUN:
            return result
        reason = (
            f"its worker died before it began, as {self._unbegun - 1} before it: look at the cluster's log, {self._log}"
        )
        return replace(result, blame=True, reason=reason)

    def _end(self, flight: _Flight, result: Result) -> None:
        with self._lock:
            if self._flying.get(flight.task.id) is not flight:
                return  # withdrawn or given up meanwhile
            del self._flying[flight.task.id]
        flight.done(flight.task.id, result)

    def _hear(self, event: tuple[float, Any]) -> None:
        *word, finished = event[1]
        progress = Progress(*word, finished=licence.unpickle(finished) if finished else ())
        flight = self._flying.get(progress.task)
        if flight is not None and flight.emit is not None:
            flight.emit(progress)

    def withdraw(self, task: str) -> None:
        """Take the task's licence away, which ends its worker within about a second."""
        flight = self._flying.get(task)
        if flight is None:
            return
        _take_away(flight)
        self._end(flight, Lost(CANCELLED, blame=False))
        self._cancel([flight])

    def _cancel(self, flights: list[_Flight]) -> None:
        """Tell the scheduler to forget tasks, without waiting for it."""
        futures = [flight.future for flight in flights if flight.future is not None]
        if futures and not self._is_lost():
            self._client.loop.add_callback(self._client.cancel, futures, asynchronous=True, force=True)

    # -------------------------------------------------------------------------------------------- losing the scheduler

    def _is_lost(self) -> bool:
        # dask connects again by itself, but then has forgotten everything
        client = self._client
        return self._comm is None or client.status != "running" or client.scheduler_comm is not self._comm

    def revive(self) -> bool:
        """Connect again to a scheduler that was lost, at growing intervals."""
        if not self._is_lost():
            cut = [flight for flight in list(self._flying.values()) if flight.cut]
            self._stop(cut)
            for flight in cut:
                self._end(flight, _left(flight, Lost("the cluster dropped it", blame=False)))
            return False
        flights = list(self._flying.values())
        self._stop(flights)
        for flight in flights:
            self._end(flight, _left(flight, Lost(LOST_SCHEDULER, blame=False)))
        if self._reconnect is None:
            raise ClusterLost("the scheduler of this process's own workers is gone; start the processing again")
        if time.monotonic() < self._again:
            return False
        _leave(self._client)
        try:
            self._attach(self._reconnect())
        except OSError:  # nobody is there, or the connection broke again
            pass
        except FocusError as error:
            self._failures += 1
            if self._failures >= ATTEMPTS:
                raise ClusterLost(str(error)) from error
        else:
            self._pause, self._again, self._failures = 1.0, 0.0, 0
            return True
        self._again = time.monotonic() + self._pause
        self._pause = min(2 * self._pause, LONGEST_PAUSE)
        return False

    def _stop(self, flights: list[_Flight]) -> None:
        """End the workers of these tasks, which a scheduler that is gone cannot: when this returns they are gone."""
        elsewhere = False
        for flight in flights:
            path = licence.answer_file(flight.task, flight.secret)
            answer = licence.read_answer(path)
            if answer is None or _is_complete(answer.outcome, flight.task):
                continue
            with contextlib.suppress(OSError):
                path.rename(path.with_name(f"{path.name}.last"))
            elsewhere |= not _kill_here(answer.claim)
        if elsewhere:
            time.sleep(licence.ENDS)

    def give_up(self) -> None:
        """Take every licence away, and wait for the workers to end."""
        with self._lock:
            flights = list(self._flying.values())
            self._flying.clear()
        working: Mapping[str, Any] = {}
        hangs = False
        if flights and not self._is_lost():
            try:
                working = self._client.sync(self._client.scheduler.processing, workers=None, callback_timeout=ANSWERS)
            except Exception:  # the scheduler hangs, or goes at this moment
                hangs = True
        at_work = {flight.future.key for flight in flights if _take_away(flight) and flight.future is not None}
        self._cancel(flights)
        if hangs or self._is_lost():
            # without their licence the workers end by themselves
            time.sleep(licence.ENDS if flights else 0)
            return
        self._wait_for_end({address for address, keys in working.items() if at_work & set(keys)})

    def _wait_for_end(self, addresses: set[str]) -> None:
        """Wait until workers without a licence have ended; what cannot look for it is ended by its nanny."""
        deadline = time.monotonic() + licence.ENDS
        try:
            while True:
                self._client.sync(self._look, callback_timeout=ANSWERS)
                left = addresses & set(self._workers)
                if not left or time.monotonic() > deadline:
                    break
                time.sleep(0.05)
            if left:
                _within(10 + ANSWERS, self._client.restart_workers, list(left), timeout=10, raise_for_error=False)
        except Exception:
            # the scheduler was lost meanwhile: without their licence the workers end by themselves
            time.sleep(max(0.0, deadline - time.monotonic()))

    def close(self) -> None:
        """Give up what is under way and leave; the cluster stays."""
        if self._flying:
            self.give_up()
        if not self._is_lost():
            with contextlib.suppress(Exception):
                _within(ANSWERS, self._client.run_on_scheduler, _forget_topic, topic=self._topic)
        _leave(self._client)


class LocalCluster(DaskExecutor):
    """Runs tasks in processes of this machine that belong to this process alone and end with it."""

    def __init__(
        self,
        workers: int,
        *,
        gpu: bool = False,
        memory_limit: str | int | None = None,
        threads: int = 1,
        warm: tuple[str, ...] = (),
        dashboard: bool = False,
    ) -> None:
        """``memory_limit`` : bytes for each worker; by default its share of most of the machine's memory."""
        from focusnb.processing.processes import WorkerSpec, start_processes

        if workers < 1:
            raise ParameterError(f"{workers} workers cannot work; give at least 1")
        memory = parse_limit(memory_limit) or int(MACHINE_SHARE * machine_memory() / workers)
        self._start([WorkerSpec(memory, threads)] * workers, start_processes, gpu, warm, dashboard)

    def _start(self, specs: list[Any], start: Callable[..., Any], gpu: bool, warm: Any, dashboard: bool) -> None:
        from distributed import Client

        from focusnb.processing.processes import end_processes

        self._cluster = start(specs, dashboard=dashboard)
        try:
            super().__init__(
                Client(self._cluster, set_as_default=False), gpu=gpu, warm=warm, cure="run with fewer workers"
            )
            if not dashboard:  # dask tells the address of what is not there
                self.address = ""
        except BaseException:
            end_processes(self._cluster)
            raise

    @classmethod
    def of(cls, specs: list[Any], *, gpu: bool, warm: tuple[str, ...] = (), dashboard: bool = False) -> LocalCluster:
        """Start workers that differ from one another."""
        from focusnb.processing.processes import start_processes

        self = cls.__new__(cls)
        self._start(specs, start_processes, gpu, warm, dashboard)
        return self

    def give_up(self) -> None:
        """End the processes, with what they are at; their nannies start new ones."""
        with self._lock:
            flights = list(self._flying.values())
            self._flying.clear()
        self._cancel(flights)
        ended = set(self._cluster.scheduler.workers)
        for nanny in self._cluster.workers.values():
            with contextlib.suppress(ProcessLookupError):
                if nanny.pid:
                    os.kill(nanny.pid, signal.SIGKILL)
        deadline = time.monotonic() + 10
        while ended & set(self._cluster.scheduler.workers) and time.monotonic() < deadline:
            time.sleep(0.02)  # until the scheduler has noticed, it would send them more

    def close(self) -> None:
        """Give up what is under way and end the processes."""
        from focusnb.processing.processes import end_processes

        with self._lock:
            self._flying.clear()
        _leave(self._client)
        end_processes(self._cluster)


def _within(seconds: float, function: Callable[..., Any], *arguments: Any, **options: Any) -> Any:
    """Call what may wait for a scheduler; TimeoutError where it takes longer, and goes on in a thread of its own."""
    answers: list[Any] = []
    errors: list[BaseException] = []

    def run() -> None:
        try:
            answers.append(function(*arguments, **options))
        except BaseException as error:
            errors.append(error)

    thread = threading.Thread(target=run, name="focusnb-asks", daemon=True)
    thread.start()
    thread.join(seconds)
    if thread.is_alive():
        raise TimeoutError(f"the scheduler did not answer within {seconds:g} s")
    if errors:
        raise errors[0]
    return answers[0]


def _leave(client: Any) -> None:
    """Close a client, whose scheduler may hang or be gone."""
    if client.status != "closed":
        with contextlib.suppress(Exception):
            _within(ANSWERS, client.close, timeout=2)


def _forget_topic(topic: str, dask_scheduler: Any) -> None:
    """Called in the scheduler, which would keep a topic and its last words for ever."""
    dask_scheduler._broker._topics.pop(topic, None)


def _dashboard(client: Any) -> str:
    try:
        # worked out from the scheduler's address; the first fetch was made when the client connected
        return client.dashboard_link or "" if "dashboard" in client.scheduler_info(n_workers=0)["services"] else ""
    except Exception:
        return ""


# ----------------------------------------------------------------------------------------------- what became of a task


def _result(flight: _Flight) -> Result:
    """What became of a task: by the file its worker wrote, which stays when the worker dies thereafter."""

    result = _left(flight, None)
    if isinstance(result, Outcome):
        return result
    try:
        # no file on a full disk; a network file system may show an older one
        answer = flight.future.result(timeout=10)
    except Exception as error:
        if type(error).__name__ in ("KilledWorker", "TimeoutError", "CancelledError", "FutureCancelledError"):
            # one that waited behind another that died has no part in that
            return result or Lost(LOST_WORKER, blame=False)
        return replace(result or Lost(""), reason=f"{type(error).__name__}: {error}")
    if isinstance(answer, Outcome):
        return answer
    if isinstance(answer, str):
        if not flight.task.run_folder.exists():
            return Lost("its run folder was taken away", blame=False)
        return Lost(f"{answer}; the project must lie where all workers can read and write it")
    return result or Lost(LOST_WORKER)


def _left(flight: _Flight, otherwise: Any) -> Any:
    """Read what the worker left in the run folder: the outcome, or how far it came and why it ended, else the other."""
    path = licence.answer_file(flight.task, flight.secret)
    last = path.with_name(f"{path.name}.last")
    words = licence.words_file(flight.task, flight.secret)
    answer = licence.read_answer(path) or licence.read_answer(last)
    told = licence.read_last_words(words)
    so_far = None if answer is None else answer.outcome
    if _is_complete(so_far, flight.task):
        licence.forget((path, last))
        return so_far
    if answer is None and told is None:
        return otherwise
    licence.forget((path, last, words, path.with_name(f"{path.name}.part")))
    if otherwise is not None:
        return replace(otherwise, so_far=so_far)
    if told is None:
        return Lost(LOST_WORKER, so_far=so_far)
    return Lost(_explain(told), final=True, so_far=so_far, error=told.error)


def _explain(words: Any) -> str:
    if words.error == "Memory":
        return (
            f"{words.step} took {words.used / 1e9:.1f} GB of memory, and its worker may take "
            f"{words.allowed / 1e9:.1f} GB; run with fewer workers, or give them more memory in clusters.toml"
        )
    place = f" or look at {words.place}" if words.place else ""
    return (
        f"{words.step} was not done after {words.seconds:g} s and was stopped; give it more time with --timeout{place}"
    )


def _is_complete(answer: Any, task: Task) -> bool:
    return isinstance(answer, Outcome) and len(answer.steps) == len(task.calls)


def _take_away(flight: _Flight) -> bool:
    """Remove a run folder, by another name first; returns whether a worker is at it, which will end."""
    folder = flight.task.run_folder
    hidden = folder.with_name(f"{folder.name}.{secrets.token_hex(4)}.away")
    try:
        folder.rename(hidden)
    except OSError:
        return False
    answer = licence.read_answer(hidden / licence.answer_file(flight.task, flight.secret).name)
    shutil.rmtree(hidden, ignore_errors=True)
    return answer is not None and not _is_complete(answer.outcome, flight.task)


def _kill_here(claim: licence.Claim) -> bool:
    """End a worker of this host at once; False where it is elsewhere, or gone and its number may be another's."""
    if claim.host != socket.gethostname() or not claim.began or process_began(claim.process) != claim.began:
        return False
    try:
        os.kill(claim.process, signal.SIGKILL)
    except OSError:
        return False
    return True
