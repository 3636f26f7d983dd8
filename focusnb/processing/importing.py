"""Import beside processing: what cameras write becomes exposures and tasks while the project is worked on."""

from __future__ import annotations

import contextlib
import fcntl
import os
import queue
import threading
import time
import traceback
import uuid
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from focusnb.errors import FocusError, ParameterError, ProjectError
from focusnb.processing.executors import CANCELLED, Executor, InlineExecutor, Lost, Result
from focusnb.processing.processor import Processor
from focusnb.processing.workflow import Workflow
from focusnb.project import tasks
from focusnb.project.library import LibraryBusy, LibraryFull
from focusnb.project.options import Queueing
from focusnb.project.project import Project
from focusnb.project.sources import ImportSource, read_sources
from focusnb.project.threads import watch
from focusnb.steps.base import Cost
from focusnb.steps.task import StepCall, Task, ended_early

AGAIN = 10.0
"""Seconds until the import is begun again that ended by a fault."""

FINISHES = 10.0
"""Seconds for which the exposure under way is waited for when an import is to end."""

OVERDUE = 60.0
"""Seconds after its time-out at which a worker that has not ended itself is ended."""

TURN = ".during"
"""File among the exposures that is locked while steps during import are run."""

ASKED = 0.2
"""Seconds until it is tried again to have one's turn with them."""

IDLE = 300.0
"""Seconds without anything to do after which the worker for steps during import is ended."""

Say = Callable[[str], None]


def check_during(project: Project, steps: Sequence[str]) -> None:
    """ParameterError unless these steps can run on what was just imported."""
    if not steps:
        return
    workflow = Workflow.named(project, steps)
    if workflow.needs():
        raise ParameterError(
            f"{', '.join(steps)} cannot run during import: {workflow.needs()[0]} is made by a step that is not among "
            "them"
        )
    workflow.check_beside(project)


def queueing_of(project: Project, source: ImportSource, *, served: bool) -> Queueing | None:
    """How a source's exposures are queued; None where whoever works on the project will find them.

    served : whether that one runs: they are queued together with their rows, so that it begins at once
    """
    if not (served or source.newest_first or source.during or not source.process):
        return None

    def chain(kind: str) -> tuple[str, ...]:
        try:
            return Workflow.of(project, kind).names
        except ParameterError:
            return ()  # told by whoever works on the project: a step is not trusted, or was taken away

    return Queueing(chain, held=not source.process, first=source.newest_first, during=source.during)


def open_worker(cost: Cost) -> Executor:
    """Start a worker process for steps during import."""
    # at call time: what only imports does not load a scheduler
    from focusnb.processing.clusters import open_cluster

    return open_cluster(None, workers=1, cost=cost, warm=False)


class DuringImport:
    """Runs the steps that belong to the import of exposures, one exposure after the other, in a worker process.

    A step has the time-out that it has when a project is processed, and what hangs, dies or takes too much memory ends
    its worker and nothing else: the exposure is released with the others, and the reason is told.
    """

    def __init__(
        self,
        project: Project,
        say: Say,
        *,
        make: Callable[[Cost], Executor] = open_worker,
        timeout: float | None = None,
        stopped: Callable[[], bool] = lambda: False,
    ) -> None:
        """Start nothing yet.

        make : starts the worker when there is something to do
        timeout : seconds each step may take; by default as each step declares
        stopped : whether to end; the exposure under way waits for the next import then
        """
        self.project, self._say = project, say
        self._make, self._timeout, self._stopped = make, timeout, stopped
        self._executor: Executor | None = None

    def run(self) -> int:
        """Run what is due, also of an import that was interrupted, and release it; returns of how many exposures.

        Where another process does that it is waited for: one exposure at a time, and none twice.
        """
        with _turn(self.project.folder / "exposures" / TURN, self._stopped):
            return self._run_due()

    def _run_due(self) -> int:
        due = tasks.before_release(self.project.library)
        for number, (task, exposure, steps) in enumerate(due):
            if self._stopped():
                return number
            try:
                finished = self._run(exposure, steps)
            except (LibraryBusy, LibraryFull):
                raise  # it is tried again
            except FocusError as error:
                self._say(f"steps during import: {error}")
            except Exception:
                # a fault with one exposure: the others are imported and processed
                self._say(
                    f"steps during import were left out for a fault of focusnb\n{traceback.format_exc().rstrip()}"
                )
            else:
                if not finished:
                    return number
            tasks.release(self.project.library, task)
        return len(due)

    def close(self) -> None:
        """End the worker."""
        executor, self._executor = self._executor, None
        if executor is not None:
            executor.close()

    def _run(self, exposure: int, steps: Sequence[str]) -> bool:
        """Run steps on an exposure and store what they find; False where that was stopped."""
        processor = Processor(self.project, InlineExecutor(), timeout=self._timeout)
        try:
            processor._forget()
            queued = _queued(Workflow.named(self.project, steps).names, exposure)
            # epoch 0: this may not be the process that works on the project, and no other has this task
            task, _ = processor._prepare(0, queued, gpu=False)
            if task is None:
                return True  # nothing is stale
            cost = processor._cost(task, [])
            longest = sum(_longest(self.project, call) for call in task.calls)
        finally:
            self.project.remember_steps(False)
        result = self._send(task, cost, longest)
        if isinstance(result, Lost) and result.reason == CANCELLED and self._stopped():
            tasks.remove_every_trace(task.run_folder)
            return False
        if isinstance(result, Lost) and not result.final:
            # it may die of something else than this exposure: it is tried as often as any other
            tasks.remove_every_trace(task.run_folder)
            self._say(f"steps during import: {task.name}: {result.reason}; it is processed with the others")
            return True
        if isinstance(result, Lost):
            result = ended_early(task, result.so_far, f"{task.name}: {result.reason}", result.error)
        self.project.store(result)
        for step in result.steps:
            if step.status in ("failed", "broken"):
                self._say(f"{step.step} during import: {step.reason}")
        return True

    def _send(self, task: Task, cost: Cost, longest: float) -> Result:
        """What becomes of a task in the worker."""
        if self._executor is None or self._executor.refuse(cost):
            self.close()
            self._executor = self._make(cost)
        executor = self._executor
        if refused := executor.refuse(cost):
            return Lost(refused, final=True, error="Memory")
        # the folder is the task's licence, and nobody else may put anything there
        task.run_folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        answers: queue.SimpleQueue[Result] = queue.SimpleQueue()
        executor.submit(task, lambda _, result: answers.put(result), cost=cost)
        until, stopping = time.monotonic() + longest + OVERDUE, float("inf")
        while True:
            with contextlib.suppress(queue.Empty):
                return answers.get(timeout=0.1)
            now = time.monotonic()
            if stopping == float("inf") and self._stopped():
                stopping = now + FINISHES
            if now > until:
                # a worker that cannot even end itself, as one that was paused
                self.close()
                return Lost(f"did not end within {longest:g} s", final=True, error="TimeOut")
            if now > stopping:
                executor.withdraw(task.id)
            try:
                executor.revive()
            except ProjectError as error:
                self.close()
                return Lost(str(error))


@contextlib.contextmanager
def _turn(path: Path, stopped: Callable[[], bool]) -> Iterator[None]:
    """Hold a file's lock, which ends with the process; or none, where there are no locks or one is to end."""
    with contextlib.ExitStack() as held:
        with contextlib.suppress(OSError):  # it may be another user's, or mounted without any locks
            handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
            held.callback(os.close, handle)
            while not stopped():
                try:
                    fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                except BlockingIOError:
                    time.sleep(ASKED)
                else:
                    break
        yield


def _queued(steps: tuple[str, ...], exposure: int) -> tasks.QueuedTask:
    return tasks.QueuedTask(
        id=uuid.uuid4().hex,
        batch=0,
        exposure=exposure,
        set=None,
        steps=steps,
        params={},
        trial=None,
        attempts=0,
        everything=False,
        retry=False,
        timeout=None,
    )


def _longest(project: Project, call: StepCall) -> float:
    step = project.step(call.step)
    return (step.timeout if call.timeout is None else call.timeout) + step.grace


def run_during(project: Project, say: Say, **options: Any) -> int:
    """Run the steps that belong to the import of exposures, in a worker that ends with that; returns how many there
    were.

    options : see :class:`DuringImport`
    """
    during = DuringImport(project, say, **options)
    try:
        return during.run()
    finally:
        during.close()


class _DuringBeside:
    """Runs steps during import in a thread of its own: the import of what comes meanwhile does not wait for them."""

    def __init__(self, folder: Path, **options: Any) -> None:
        self._folder, self._options = folder, options
        self._asked: queue.SimpleQueue[list[int]] = queue.SimpleQueue()
        self.words: queue.SimpleQueue[str | list[int]] = queue.SimpleQueue()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._work, name="focusnb-during", daemon=True)
        self._thread.start()

    def ask(self, ids: list[int]) -> None:
        """Let the steps of new exposures be run; their ids come back when that is done."""
        self._asked.put(ids)

    def stop(self) -> None:
        """End after the exposure under way; one that takes long waits for the next import."""
        self._stop.set()
        self._thread.join(FINISHES + 2 * OVERDUE)

    def _work(self) -> None:
        while not self._stop.is_set():
            try:
                with Project.open(self._folder) as project:
                    during = DuringImport(project, self.words.put, stopped=self._stop.is_set, **self._options)
                    try:
                        self._wait_and_run(during)
                    finally:
                        during.close()
            except FocusError as error:
                self.words.put(f"steps during import: {error}; it is tried again")
            except Exception:
                self.words.put(f"steps during import ended by a fault\n{traceback.format_exc().rstrip()}")
            self._stop.wait(AGAIN)

    def _wait_and_run(self, during: DuringImport) -> None:
        during.run()
        idle = time.monotonic()
        while not self._stop.is_set():
            try:
                ids = self._asked.get(timeout=0.2)
            except queue.Empty:
                if time.monotonic() - idle > IDLE:
                    during.close()
                continue
            try:
                during.run()
            finally:
                self.words.put(ids)
            idle = time.monotonic()


def watch_sources(
    project: Project,
    sources: Callable[[], Sequence[ImportSource]],
    say: Say,
    stop: threading.Event,
    *,
    served: bool,
    on_added: Callable[[list[int]], None] = lambda ids: None,
    **options: Any,
) -> None:
    """Watch sources until told to stop; steps during import run where a source has any.

    on_added : called with the ids of new exposures, when the steps during their import are over
    options : of those steps, see :class:`DuringImport`
    """
    during = _DuringBeside(project.folder, **options)

    def added(source: ImportSource, ids: list[int]) -> None:
        if source.during:
            during.ask(ids)
        else:
            on_added(ids)

    def turn() -> None:
        with contextlib.suppress(queue.Empty):
            while True:
                word = during.words.get_nowait()
                if isinstance(word, str):
                    say(word)
                else:
                    on_added(word)

    try:
        watch(
            project,
            sources,
            say,
            stop,
            queueing=lambda opened, source: queueing_of(opened, source, served=served),
            on_added=added,
            on_turn=turn,
        )
    finally:
        during.stop()
        turn()


class Importing:
    """Watches what a project remembers as its sources, in a thread with a library of its own."""

    def __init__(self, folder: Path, say: Say, *, timeout: float | None = None) -> None:
        """Prepare; say is called from the thread with what the user should know.

        timeout : seconds each step during import may take; by default as each step declares
        """
        self._folder, self._say, self._timeout = folder, say, timeout
        self._stop = threading.Event()
        self._last: list[ImportSource] = []
        self._fault = ""
        self._thread = threading.Thread(target=self._work, name="focusnb-import", daemon=True)

    def start(self) -> None:
        """Begin to watch."""
        self._thread.start()

    def stop(self, timeout: float = 60.0) -> None:
        """Finish the file under way, and watch no more; a copy from a mount that hangs is left behind."""
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join(timeout)

    def __enter__(self) -> Importing:
        self.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self.stop()

    def _work(self) -> None:
        while not self._stop.is_set():
            try:
                with Project.open(self._folder) as project:
                    watch_sources(
                        project,
                        self._sources,
                        self._say,
                        self._stop,
                        served=True,
                        on_added=self._tell,
                        timeout=self._timeout,
                    )
            except FocusError as error:
                self._say(f"import: {error}")
            except Exception:
                self._say(f"import ended by a fault and begins again\n{traceback.format_exc().rstrip()}")
            if not self._stop.is_set():
                self._stop.wait(AGAIN)

    def _sources(self) -> list[ImportSource]:
        """The sources as they are now; while the file cannot be read, as they were."""
        try:
            self._last, fault = read_sources(self._folder), ""
        except ProjectError as error:
            fault = str(error)
        if fault and fault != self._fault:
            self._say(fault)
        self._fault = fault
        return self._last

    def _tell(self, ids: list[int]) -> None:
        self._say(f"{len(ids)} imported")
