"""The process that works on a project: takes tasks from the queue, keeps workers busy, stores what comes back."""

from __future__ import annotations

import queue
import shutil
import threading
import time
import uuid
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from focusnb.errors import ParameterError, ProjectError
from focusnb.processing.executors import LOST_WORKER, Executor, make_executor
from focusnb.processing.workflow import Workflow
from focusnb.project import storing, tasks
from focusnb.project.project import Project
from focusnb.steps.task import Outcome, Progress, StepCall, Task

POLL = 2.0
"""Seconds between two looks for new work of other processes."""


@dataclass
class Summary:
    """What a processor did: exposures by how they ended, and the reasons of those that failed."""

    done: int = 0
    failed: int = 0
    broken: int = 0
    lost: int = 0
    seconds: float = 0.0
    reasons: dict[str, str] = field(default_factory=dict)

    @property
    def exposures(self) -> int:
        """Exposures finished."""
        return self.done + self.failed + self.broken


@dataclass(frozen=True)
class Event:
    """What happened: ``kind`` is started, progress, stored or lost."""

    kind: str
    exposure: int
    name: str
    outcome: Outcome | None = None
    progress: Progress | None = None
    reason: str = ""


_Inbox = queue.SimpleQueue[tuple[str, Outcome | Progress | str]]


class Processor:
    """Works on one project through one executor; only one at a time can (see :func:`tasks.take_lease`)."""

    def __init__(self, project: Project, executor: Executor | None = None) -> None:
        self.project = project
        self._executor = executor
        self._inbox: _Inbox = queue.SimpleQueue()
        self._flying: dict[str, tuple[Task, tasks.QueuedTask]] = {}
        self._stopped = False
        self._workflows: dict[tuple[str, ...], Workflow] = {}

    def submit(
        self,
        workflow: Workflow,
        exposures: Iterable[int] | None = None,
        *,
        first: bool = False,
        trial: str | None = None,
        params: Mapping[str, Mapping[str, Any]] | None = None,
        everything: bool = False,
        retry: bool = False,
    ) -> int:
        """Queue a workflow for exposures, all but TRASH by default; only those with something stale are queued.

        first : before everything that waits already
        trial : keep the results apart under this name; all steps run
        params : choices for this batch alone, by step
        everything : run all steps, stale or not
        retry : run steps again that failed with the same inputs

        Returns how many exposures wait for it.
        """
        ids = self.project.ids() if exposures is None else list(exposures)
        if trial is None and not everything:
            planned = self.project.plan(workflow, ids, params=params, retry=retry)
            ids = [identity for identity in ids if identity in planned]
        if ids:
            tasks.submit(
                self.project.library,
                dict.fromkeys(ids, workflow.names),
                first=first,
                trial=trial,
                params=params,
                everything=everything or trial is not None,
                retry=retry,
            )
        return len(ids)

    def submit_stale(self, *, retry: bool = False) -> int:
        """Queue the project's own workflows for every exposure that needs them; returns how many."""
        by_kind: dict[str, list[int]] = {}
        wanted = set(self.project.ids())
        for exposure in self.project.exposures():
            if exposure.id in wanted:
                by_kind.setdefault(exposure.kind, []).append(exposure.id)
        return sum(self.submit(Workflow.of(self.project, kind), ids, retry=retry) for kind, ids in by_kind.items())

    def queue(self) -> dict[str, int]:
        """Number of tasks by state."""
        return tasks.counts(self.project.library)

    def cancel(self) -> None:
        """Stop after what is under way, from another thread or a callback."""
        self._stopped = True

    def run(
        self,
        *,
        until_idle: bool = True,
        on_event: Callable[[Event], None] | None = None,
        refill: Callable[[], int] | None = None,
    ) -> Summary:
        """Work until the queue is empty, or for ever.

        until_idle : return when nothing waits any more
        on_event : told of each start, progress and result, in this thread
        refill : called when the queue runs empty; queues more work and returns how much

        Raises ProjectError if another process works on the project, or if the library cannot be written.
        """
        summary, started = Summary(), time.monotonic()
        # results of an earlier call that was interrupted arrive in an inbox nobody looks into
        self._inbox = queue.SimpleQueue()
        tell = on_event or (lambda event: None)
        library = self.project.library
        epoch = tasks.take_lease(library)
        executor = self._executor
        try:
            summary.lost += tasks.recover(self.project, epoch)
            if executor is None:
                executor = make_executor()
            last_beat = time.monotonic()
            while True:
                self._fill(epoch, executor, tell, summary)
                if not self._flying:
                    more = 0 if self._stopped or refill is None else refill()
                    if self._stopped or (until_idle and not more and not tasks.waiting(library, 1)):
                        break
                self._receive(epoch, tell, summary, timeout=POLL if self._flying or not until_idle else 0)
                if time.monotonic() - last_beat > tasks.HEARTBEAT:
                    tasks.beat(library, epoch)
                    last_beat = time.monotonic()
        finally:
            if executor is not None and self._flying:
                executor.give_up()
            if self._executor is None and executor is not None:
                executor.close()
            self._give_back(epoch)
            summary.seconds = time.monotonic() - started
        return summary

    def _fill(self, epoch: int, executor: Executor, tell: Callable[[Event], None], summary: Summary) -> None:
        """Keep the executor a little ahead and no more: what waits can still be reordered."""
        while not self._stopped and len(self._flying) < executor.slots + min(executor.slots, 2) * (executor.slots > 1):
            waiting = tasks.waiting(self.project.library, 1)
            if not waiting:
                return
            self._start(epoch, executor, waiting[0], tell, summary)

    def _start(
        self,
        epoch: int,
        executor: Executor,
        queued: tasks.QueuedTask,
        tell: Callable[[Event], None],
        summary: Summary,
    ) -> None:
        project = self.project
        try:
            task = self._prepare(epoch, queued, gpu=executor.gpu)
        except ParameterError as error:
            # a step taken away or choices no longer valid: the rest of the queue does not wait for that
            self._drop(epoch, queued, "failed", str(error))
            summary.failed += 1
            summary.reasons.setdefault(", ".join(queued.steps), str(error))
            return
        if task is None:
            self._drop(epoch, queued, "done", "nothing was stale")
            return
        runs = [
            {"id": call.run, "step": call.step, "fingerprint": call.fingerprint, "params": dict(call.params)}
            for call in task.calls
        ]
        tasks.start(project.library, epoch, queued, runs)
        self._flying[task.id] = (task, queued)
        tell(Event("started", task.exposure, task.name))

        inbox, here = self._inbox, threading.get_ident()

        def emit(progress: Progress) -> None:
            if threading.get_ident() == here:
                tell(Event("progress", task.exposure, task.name, progress=progress))
            else:  # whoever listens has one thread
                inbox.put((task.id, progress))

        executor.submit(task, lambda identity, result: inbox.put((identity, result)), emit)

    def _drop(self, epoch: int, queued: tasks.QueuedTask, state: str, reason: str) -> None:
        with self.project.library.write() as transaction:
            tasks.check_lease(transaction, epoch)
            tasks.finish_task(transaction, queued.id, state, reason)
            storing.refresh_status(transaction, queued.exposure)

    def _prepare(self, epoch: int, queued: tasks.QueuedTask, *, gpu: bool) -> Task | None:
        project = self.project
        workflow = self._workflow(queued.steps)
        planned = project.plan(
            workflow, [queued.exposure], params=queued.params, everything=queued.everything, retry=queued.retry
        ).get(queued.exposure)
        if not planned:
            return None
        exposure = next(project.exposures([queued.exposure]))
        calls = tuple(
            StepCall(p.step, uuid.uuid4().hex, dict(p.params), p.fingerprint, queued.attempts + 1) for p in planned
        )
        needed = {spec.name for step in workflow.steps for spec in step.needs()}
        return Task(
            id=queued.id,
            exposure=exposure.id,
            name=exposure.name,
            project=str(project.folder),
            folder=exposure.folder,
            calls=calls,
            facts=exposure.facts,
            known=storing.findings(project.library, exposure.id),
            overrides=dict(exposure.overrides),
            specs=tuple(spec for name, spec in project.specs().items() if name in needed),
            steps_folder=str(project.steps_folder) if project.steps_folder else None,
            trial=queued.trial,
            epoch=epoch,
            use_gpu=gpu,
        )

    def _workflow(self, names: tuple[str, ...]) -> Workflow:
        if names not in self._workflows:
            self._workflows[names] = Workflow.named(self.project, names)
        return self._workflows[names]

    def _receive(self, epoch: int, tell: Callable[[Event], None], summary: Summary, *, timeout: float) -> None:
        """Store every result that is there; wait for the first one."""
        wait = timeout
        while True:
            try:
                identity, result = self._inbox.get(timeout=wait) if wait else self._inbox.get_nowait()
            except queue.Empty:
                return
            wait = 0
            if identity not in self._flying:
                continue  # a word that came after the result
            task, _ = self._flying[identity]
            if isinstance(result, Progress):
                tell(Event("progress", task.exposure, task.name, progress=result))
                continue
            if isinstance(result, str):
                self._lose(epoch, task, result, tell, summary)
                continue
            self.project.store(result)
            del self._flying[identity]
            self._count(result, task, summary)
            tell(Event("stored", task.exposure, task.name, outcome=result))

    def _lose(self, epoch: int, task: Task, reason: str, tell: Callable[[Event], None], summary: Summary) -> None:
        # a task that waited behind the one its worker died of has no part in that
        begun = reason != LOST_WORKER or task.run_folder.exists()
        again = tasks.lose(self.project, epoch, task.id, f"{task.name}: {reason}", count=begun)
        del self._flying[task.id]
        summary.lost += begun
        summary.failed += not again
        if not again:
            summary.reasons[task.name] = reason
        tell(Event("lost", task.exposure, task.name, reason=reason))

    @staticmethod
    def _count(outcome: Outcome, task: Task, summary: Summary) -> None:
        states = {step.status for step in outcome.steps}
        if "broken" in states:
            summary.broken += 1
        elif "failed" in states:
            summary.failed += 1
        else:
            summary.done += 1
        for step in outcome.steps:
            if step.status in ("failed", "broken"):
                summary.reasons[task.name] = step.reason
                return

    def _give_back(self, epoch: int) -> None:
        """Return what was not finished to the queue, and the lease to whoever comes next."""
        for task, _ in self._flying.values():
            # before the library is told: on a full disk it can only then be written again
            shutil.rmtree(task.run_folder, ignore_errors=True)
        try:
            for identity in self._flying:
                tasks.lose(self.project, epoch, identity, "processing was stopped", count=False)
            tasks.release_lease(self.project.library, epoch)
        except ProjectError:
            # the library cannot be written any more: whoever comes next finds what was left and takes it over
            tasks.forget_lease(self.project.library, epoch)
        self._flying.clear()
