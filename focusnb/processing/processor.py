"""The process that works on a project: takes tasks from the queue, keeps workers busy, stores what comes back."""

from __future__ import annotations

import contextlib
import json
import queue
import threading
import time
import uuid
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from focusnb.errors import ParameterError, ProjectError, ResourceError
from focusnb.processing.executors import Executor, Lost, Result
from focusnb.processing.queue import Queue
from focusnb.processing.workflow import Workflow
from focusnb.project import lease, requests, sets, storing, tasks
from focusnb.project.library import LibraryBusy, LibraryFull
from focusnb.project.planning import Plan
from focusnb.project.project import Project
from focusnb.steps.base import Cost
from focusnb.steps.task import (
    Outcome,
    Progress,
    StepCall,
    StepOutcome,
    Task,
    describe_os_error,
    ended_early,
    not_begun,
)

POLL = 1.0
"""Seconds between two looks at what others ask for and queue."""

REFILL_INTERVAL = 30.0
"""Seconds between two looks for what is stale though nothing was written."""

LOOK_AHEAD = 0.2
"""Seconds for which the head of the queue is taken as it was read: it may be reordered at any time."""

PROGRESS_INTERVAL = 0.5
"""Seconds between two notes of the progress of all tasks under way."""

SETS_INTERVAL = 120.0
"""Seconds between two updates of the session's sums while there is always something else to do."""

QUIET = 20.0
"""Seconds without a result after which the session's sums are brought up to date."""

REOPEN = 10.0
"""Seconds until a cluster that could not be reached is tried again."""

LONGEST_REST = 300.0
"""Seconds until it is tried again when the machine refuses everything, as a full disk does."""

_SURVEYED = 20
"""Tasks at the head of the queue that are read at least, and by whose needs workers are sized."""

_SETTLE_AT = 100
"""Exposures stored until those that are up to date are marked as such."""


@dataclass
class Summary:
    """What a processor did: exposures by how they ended, and the reasons of those that failed."""

    done: int = 0
    failed: int = 0
    broken: int = 0
    lost: int = 0
    cancelled: int = 0
    seconds: float = 0.0
    reasons: dict[str, str] = field(default_factory=dict)

    @property
    def exposures(self) -> int:
        """Exposures finished."""
        return self.done + self.failed + self.broken


@dataclass(frozen=True)
class Event:
    """What happened: ``kind`` is begun, ready (the cluster is), started, progress, step (one has ended), stored,
    lost, cancelled or waiting.

    A task over a set has exposure 0 and the name of the set.
    """

    kind: str
    exposure: int
    name: str
    outcome: Outcome | None = None
    progress: Progress | None = None
    step: StepOutcome | None = None
    reason: str = ""


Tell = Callable[[Event], None]
_Word = tuple[str, Result | Progress]


def open_cluster_here(cost: Cost) -> Executor:
    """Start workers on this machine that belong to this process alone."""
    from focusnb.processing.clusters import open_cluster

    return open_cluster(None, cost=cost)


class Processor:
    """Works on one project through one executor; only one at a time can (see :func:`lease.take_lease`)."""

    def __init__(
        self,
        project: Project,
        executor: Executor | Callable[[Cost], Executor] | None = None,
        *,
        timeout: float | None = None,
    ) -> None:
        """Take an executor, or a function that makes one (and is told what the tasks that wait occupy at their worst)
        when there is something to do; by default processes of this machine.

        timeout : seconds each step may take where its batch says nothing else; by default as each step declares
        """
        self.project = project
        self._timeout = timeout
        self._queue = Queue(project)
        self._executor: Executor | None = None
        self._make: Callable[[Cost], Executor] = open_cluster_here
        if callable(executor):
            self._make = executor
        else:
            self._executor = executor
        self._is_own = self._executor is None
        self._inbox: queue.SimpleQueue[_Word] = queue.SimpleQueue()
        self._unread: deque[_Word] = deque()
        self._flying: dict[str, tuple[Task, tasks.QueuedTask]] = {}
        self._withdrawn: set[str] = set()
        self._words: dict[str, Progress] = {}
        self._stored: list[tuple[int, tuple[str, ...]]] = []
        self._spared: dict[int, tuple[float, float]] = {}
        self._sets_due, self._sets_at, self._stored_at = True, 0.0, 0.0
        self._choices: tuple[int, int] = (-1, -1)
        self._fault_told = ""
        self._until_idle = True
        self._sized = Cost(0)
        self._larger: Cost | None = None
        self._refilled: tuple[int, float, list[int]] = (-1, 0.0, [])
        self._rest, self._rest_until = 0.0, 0.0
        self._stopped = self._aborted = False
        self._workflows: dict[tuple[str, ...], Workflow] = {}
        self._plans: dict[tuple[tuple[str, ...], str], Plan] = {}
        self._steps_folder: str | None = None
        self._waiting: deque[tasks.QueuedTask] = deque()
        self._waiting_at = 0.0
        self._nothing_at = -1

    def submit(self, workflow: Workflow, exposures: Iterable[int] | None = None, **options: Any) -> int:
        """Queue a workflow for exposures; see :meth:`Queue.submit`."""
        return self._queue.submit(workflow, exposures, **options)

    def submit_stale(self, **options: Any) -> int:
        """Queue the project's own workflows for every exposure that needs them; see :meth:`Queue.submit_stale`."""
        return self._queue.submit_stale(**options)

    def refill(self) -> int:
        """Queue what has become stale since, but for what somebody cancelled or the machine has just refused.

        Looks at the exposures only where something was written since the last look, or a while ago: files of steps and
        programs change without a word.
        """
        now, revision = time.monotonic(), self.project.revision
        refused = [identity for identity, (until, _) in self._spared.items() if until > now]
        seen, at, left_out = self._refilled
        if seen == revision and now - at < REFILL_INTERVAL and left_out == refused:
            return 0
        queued = self._queue.submit_stale(asked=False, without=refused)
        self._refilled = (self.project.revision if queued else revision, now, refused)
        return queued

    def queue(self) -> dict[str, int]:
        """Number of tasks by state."""
        return self._queue.counts()

    def cancel(self, *, now: bool = False) -> None:
        """Stop after what is under way, or at once; from another thread, a callback or a signal handler."""
        self._stopped = True
        self._aborted = self._aborted or now

    def run(
        self,
        *,
        until_idle: bool = True,
        on_event: Tell | None = None,
        begin: Callable[[], object] | None = None,
        refill: Callable[[], int] | None = None,
    ) -> Summary:
        """Work until the queue is empty, or for ever.

        until_idle : return when nothing waits any more, or when the queue is paused
        begin : called once this process has become the one that works; queues what is to be done
        on_event : told of each start, progress, step and result, in this thread
        refill : called when the queue runs empty; queues more work and returns how much

        Raises ProjectError if another process works on the project, or if the library cannot be written; LeaseLost if
        another process has taken over.
        """
        summary, started = Summary(), time.monotonic()
        # results of an earlier call that was interrupted arrive in an inbox nobody looks into
        self._inbox, self._unread = queue.SimpleQueue(), deque()
        self._waiting, self._nothing_at = deque(), -1
        tell = on_event or (lambda event: None)
        library = self.project.library
        self._sets_due, self._until_idle = True, until_idle
        asked_before = [request.id for request in requests.pending(library)]
        epoch = lease.take_lease(library, tell=lambda text: tell(Event("waiting", 0, "", reason=text)))
        heart = None
        try:
            heart = lease.Heart(library, epoch)
            summary.lost += tasks.recover(self.project, epoch)
            for old in asked_before:
                requests.answer(library, old, "nobody worked on the project")
            self._forget()
            if begin is not None:
                self._carefully(begin, tell)
            tell(Event("begun", 0, ""))
            self._work(epoch, heart, tell, summary, until_idle=until_idle, refill=refill)
        finally:
            executor = self._executor
            try:
                if executor is not None and self._flying:
                    executor.give_up()
                if self._is_own and executor is not None:
                    self._executor = None
                    executor.close()
            except (OSError, TimeoutError) as error:
                # they end by themselves; it must not hide what this process ends for
                tell(Event("waiting", 0, "", reason=f"the workers did not end in time and are left to do so ({error})"))
            finally:
                # whatever became of the cluster, the project is free for the next one
                if heart is not None:
                    heart.stop()
                self.project.remember_steps(False)
                self._stopped = self._aborted = False
                self._give_back(epoch)
                summary.seconds = time.monotonic() - started
        return summary

    def _carefully(self, queue_more: Callable[[], object], tell: Tell) -> int:
        """Queue more work. Where it goes on for ever, a step that nobody trusts any more is told and waited for."""
        try:
            return int(queue_more() or 0)  # type: ignore[call-overload]
        except ParameterError as error:
            if self._until_idle:
                raise
            self._tell_once(str(error), tell)
            return 0

    def _tell_once(self, fault: str, tell: Tell) -> None:
        if fault != self._fault_told:
            self._fault_told = fault
            tell(Event("waiting", 0, "", reason=fault))

    # The loop

    def _work(
        self,
        epoch: int,
        heart: lease.Heart,
        tell: Tell,
        summary: Summary,
        *,
        until_idle: bool,
        refill: Callable[[], int] | None,
    ) -> None:
        looked = noted = time.monotonic()
        told_busy = False
        fresh = True
        while True:
            heart.check()
            try:
                now = time.monotonic()
                if fresh or now - looked > POLL:
                    self._look()
                    looked = now
                if self._words and now - noted > PROGRESS_INTERVAL:
                    self._note(epoch)
                    noted = now
                if self._aborted:
                    return
                begun = self._fill(epoch, tell, summary, until_idle=until_idle)
                if len(self._stored) >= _SETTLE_AT:
                    self._settle()
                fresh = False
                if not until_idle:
                    self._submit_sets(tell)
                if not self._flying and not begun and not self._unread:
                    self._settle()
                    if self._stopped:
                        return
                    begun = self._more(refill, tell, until_idle=until_idle)
                    if not begun and until_idle:
                        return
                # tasks that came to nothing, and those just queued, leave nothing to wait for
                able = self._executor is None or self._executor.slots
                resting = not until_idle and now < self._rest_until
                wait = PROGRESS_INTERVAL if self._flying else 0.0 if begun and able and not resting else POLL
                self._receive(epoch, tell, summary, timeout=wait)
                told_busy = False
            except (LibraryBusy, LibraryFull) as error:
                if isinstance(error, LibraryFull) and until_idle:
                    raise
                if not told_busy:
                    tell(Event("waiting", 0, "", reason=str(error)))
                    told_busy = True
                time.sleep(POLL)

    def _largest_cost(self) -> Cost:
        """What the tasks at the head of the queue occupy at their worst."""
        cost = self._sized
        for queued in tasks.waiting(self.project.library, _SURVEYED):
            with contextlib.suppress(Exception):  # told when its turn comes
                task, members = self._prepare(0, queued, gpu=False)
                cost |= self._cost(task, members) if task is not None else cost
        return cost if cost.memory else Cost()

    def _open(self, epoch: int, tell: Tell) -> Executor:
        """The executor; where it is to be made, it is made for what waits now."""
        if self._executor is None:
            self._sized = self._largest_cost() | (self._larger or Cost(0))
            self._larger = None
            self._executor = self._make(self._sized)
            lease.show_dashboard(self.project.library, epoch, self._executor.address)
            tell(Event("ready", 0, "", reason=self._executor.address))
        return self._executor

    def _more(self, refill: Callable[[], int] | None, tell: Tell, *, until_idle: bool) -> bool:
        """Whether there is something to begin, looking for more where there is not."""
        if self._nothing_at != self.project.revision and tasks.waiting(self.project.library, 1):
            return True
        if self._queue.paused:
            return False
        queued = self._carefully(refill, tell) if refill is not None else 0
        return bool(queued) or (until_idle and self._submit_sets(tell, now=True))

    def _submit_sets(self, tell: Tell, *, now: bool = False) -> bool:
        """Queue the steps over sets where exposures were stored since: at the end, when it has been quiet for a while,
        or from time to time.
        """
        at = time.monotonic()
        quiet = not self._flying and at - self._stored_at > QUIET
        if not self._sets_due or not (now or quiet or at - self._sets_at > SETS_INTERVAL):
            return False
        self._sets_due, self._sets_at = False, at
        return bool(self._carefully(self._queue.submit_sets, tell))

    def _look(self) -> None:
        """See what others ask for, and whether the cluster is still there."""
        library, executor = self.project.library, self._executor
        self._forget()
        if executor is not None and executor.revive():
            self._withdrawn.clear()
        for task in tasks.cancelling(library) if executor is not None else ():
            if task in self._flying and task not in self._withdrawn:
                self._withdrawn.add(task)
                executor.withdraw(task)
        for request in requests.pending(library):
            if request.kind == "stop":
                self.cancel(now=bool((request.argument or {}).get("now")))
                requests.answer(library, request.id, "stopping")
            else:
                requests.answer(library, request.id, f"{request.kind} is nothing this process can do")

    def _note(self, epoch: int) -> None:
        words, self._words = self._words, {}
        try:
            tasks.note_progress(self.project.library, epoch, [w for w in words.values() if w.task in self._flying])
        except (LibraryBusy, LibraryFull):
            self._words = {**words, **self._words}
            raise

    def _settle(self) -> None:
        """Mark what was stored and is up to date, so that nobody has to look at it again."""
        stored, self._stored = self._stored, []
        by_steps: dict[tuple[str, ...], list[int]] = {}
        for exposure, steps in stored:
            by_steps.setdefault(steps, []).append(exposure)
        for kind in self.project.mode.steps:
            with contextlib.suppress(ParameterError):
                workflow = Workflow.of(self.project, kind)
                if workflow.names in by_steps:
                    self.project.settle(workflow, by_steps[workflow.names])

    # Beginning

    def _fill(self, epoch: int, tell: Tell, summary: Summary, *, until_idle: bool) -> bool:
        """Keep the executor a little ahead and no more: what waits can still be reordered. True if something began."""
        if self._stopped or (not until_idle and time.monotonic() < self._rest_until):
            return False
        if self._larger is not None:
            # a task needs larger workers: these finish what they are at, and are then replaced
            if self._flying:
                return False
            assert self._executor is not None
            self._executor.close()
            self._executor = None
        now = time.monotonic()
        if not self._waiting or now - self._waiting_at > LOOK_AHEAD:
            revision = self.project.revision
            if revision == self._nothing_at:
                return False
            choices = tasks.choices_revision(self.project.library)
            if choices != self._choices:
                self._choices = choices
                self._plans.clear()
            # enough for all workers, though those at the head may belong to exposures that are under way
            places = 0 if self._executor is None else self._executor.slots + self._executor.ahead
            some = max(_SURVEYED, places) + len(self._flying)
            self._waiting, self._waiting_at = deque(tasks.waiting(self.project.library, some)), now
            # until somebody writes, nothing more waits
            self._nothing_at = -1 if self._waiting else revision
        if not self._waiting:
            return False
        try:
            executor = self._open(epoch, tell)
        except (LibraryBusy, LibraryFull, lease.LeaseLost):
            raise
        except ProjectError as error:
            if until_idle:
                raise
            self._tell_once(str(error), tell)
            self._rest_until = now + REOPEN
            return False
        free = executor.slots + executor.ahead - len(self._flying)
        busy = {(task.exposure, task.set) for task, _ in self._flying.values()}
        begun = False
        for _ in range(len(self._waiting)):
            if free <= 0:
                break
            queued = self._waiting.popleft()
            if (queued.exposure or 0, queued.set) in busy:
                continue  # one task of an exposure after the other: the later one sees what the first has found
            self._start(epoch, executor, queued, tell, summary)
            busy.add((queued.exposure or 0, queued.set))
            free, begun = free - 1, True
        return begun

    def _start(self, epoch: int, executor: Executor, queued: tasks.QueuedTask, tell: Tell, summary: Summary) -> None:
        project, library = self.project, self.project.library
        try:
            task, members = self._prepare(epoch, queued, gpu=executor.gpu)
        except ParameterError as error:
            # a step taken away or choices no longer valid: the rest of the queue does not wait for that
            tasks.drop(library, epoch, queued, "failed", str(error))
            summary.failed += 1
            summary.reasons.setdefault(", ".join(queued.steps), str(error))
            return
        if task is None:
            tasks.drop(library, epoch, queued, "done", "nothing was stale")
            return
        runs = [
            {"id": call.run, "step": call.step, "fingerprint": call.fingerprint, "params": dict(call.params)}
            for call in task.calls
        ]
        if not tasks.start(library, epoch, queued, runs):
            return
        self._flying[task.id] = (task, queued)
        tell(Event("started", task.exposure, task.name))
        try:
            cost = self._cost(task, members)
        except Exception as fault:  # of a step of the user's: its own, and no other's
            self._inbox.put((task.id, not_begun(task, fault)))
            return
        refused = executor.refuse(cost)
        if refused and self._is_own and (self._sized | cost) != self._sized:
            self._larger = self._sized | cost
            self._inbox.put((task.id, Lost("it waits for larger workers", blame=False)))
            return
        if refused:
            self._inbox.put((task.id, Lost(refused, blame=True, final=True, error="Memory")))
            return
        try:
            # the folder is the task's licence: a worker that does not find it any more stops. Nobody else may put
            # anything there: what a worker leaves in it is believed
            task.run_folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            if members:
                sets.write_members(project.folder, task.run_folder, members)
        except OSError as error:
            resource = ResourceError(describe_os_error(error, task.run_folder))
            self._inbox.put((task.id, not_begun(task, resource)))
            return
        inbox, here = self._inbox, threading.get_ident()

        def emit(progress: Progress) -> None:
            if threading.get_ident() == here:
                self._hear(task, progress, tell)
            else:  # whoever listens has one thread
                inbox.put((task.id, progress))

        executor.submit(task, lambda identity, result: inbox.put((identity, result)), emit, cost=cost)

    def _prepare(self, epoch: int, queued: tasks.QueuedTask, *, gpu: bool) -> tuple[Task | None, list[dict[str, Any]]]:
        """The task to send, None where nothing is stale; and for one over a set the members to list."""
        project = self.project
        workflow = self._workflow(queued.steps)
        common: dict[str, Any] = {
            "id": queued.id,
            "project": str(project.folder),
            "steps_folder": self._steps_folder,
            "trial": queued.trial,
            "epoch": epoch,
            "use_gpu": gpu and any(step.gpu != "no" for step in workflow.steps),
        }
        options: dict[str, Any] = {"params": queued.params, "everything": queued.everything, "retry": queued.retry}
        members: list[dict[str, Any]] = []
        if queued.set is not None:
            group = sets.find(project.library, queued.set)
            planned, members = sets.plan(project, group, workflow.steps, **options)
            facts = next(project.exposures([members[0]["id"]])).facts if members else {}
            common |= {"exposure": 0, "set": group.id, "name": group.name, "folder": group.folder, "facts": facts}
            common |= {"known": dict(group.values)}
        else:
            assert queued.exposure is not None
            exposure, known = storing.with_findings(project.library, queued.exposure)
            planned = self._plan(queued.steps, options).of(exposure)
            needed = {spec.name for step in workflow.steps for spec in step.needs()}
            common |= {"exposure": exposure.id, "name": exposure.name, "folder": exposure.folder}
            common |= {"facts": exposure.facts, "overrides": dict(exposure.overrides), "known": known}
            common |= {"specs": tuple(spec for name, spec in project.specs().items() if name in needed)}
        if not planned:
            return None, []
        timeout = self._timeout if queued.timeout is None else queued.timeout
        calls = tuple(
            StepCall(p.step, uuid.uuid4().hex, dict(p.params), p.fingerprint, queued.attempts + 1, timeout)
            for p in planned
        )
        return Task(calls=calls, attempt=calls[0].run, **common), members

    def _cost(self, task: Task, members: list[dict[str, Any]]) -> Cost:
        """What the chain of a task occupies at its worst."""
        cost = Cost(0)
        facts = {**task.facts, "member_count": len(members)} if members else task.facts
        for call in task.calls:
            step = self.project.step(call.step)
            cost |= step().cost(facts, step.Params.make(call.params))
        return cost

    def _plan(self, names: tuple[str, ...], options: Mapping[str, Any]) -> Plan:
        key = (names, json.dumps(options, sort_keys=True))
        if key not in self._plans:
            self._plans[key] = Plan(self.project, self._workflow(names), **options)
        return self._plans[key]

    def _workflow(self, names: tuple[str, ...]) -> Workflow:
        if names not in self._workflows:
            self._workflows[names] = Workflow.named(self.project, names)
        return self._workflows[names]

    def _forget(self) -> None:
        """Look anew at steps and choices: they may have been changed meanwhile."""
        self._workflows.clear()
        self._plans.clear()
        self._steps_folder = None if (folder := self.project.steps_folder) is None else str(folder)
        self.project.remember_steps()

    # Receiving

    def _receive(self, epoch: int, tell: Tell, summary: Summary, *, timeout: float) -> None:
        """Store every result that is there; wait for the first one."""
        for word in self._arriving(timeout):
            # kept until it is stored: the library may be locked for a while
            self._unread.append(word)
            identity, result = word
            if identity in self._flying:
                task, queued = self._flying[identity]
                if isinstance(result, Progress):
                    self._hear(task, result, tell)
                elif isinstance(result, Lost):
                    self._lose(epoch, task, queued, result, tell, summary)
                else:
                    self._store(result, task, queued, tell, summary)
            self._unread.pop()

    def _arriving(self, timeout: float) -> Iterator[_Word]:
        wait = timeout
        while True:
            if self._unread:
                yield self._unread.popleft()
                wait = 0
                continue
            try:
                yield self._inbox.get(timeout=wait) if wait else self._inbox.get_nowait()
            except queue.Empty:
                return
            wait = 0

    def _hear(self, task: Task, progress: Progress, tell: Tell) -> None:
        before = self._words.get(task.id)
        if before is not None and before.finished:
            progress = replace(progress, finished=(*before.finished, *progress.finished))
        self._words[task.id] = progress
        for step in progress.finished[len(before.finished) if before else 0 :]:
            tell(Event("step", task.exposure, task.name, step=step))
        if progress.message:
            tell(Event("progress", task.exposure, task.name, progress=progress))

    def _store(self, outcome: Outcome, task: Task, queued: tasks.QueuedTask, tell: Tell, summary: Summary) -> None:
        try:
            self.project.store(outcome)
        except OSError as error:
            # this exposure's folder cannot be written: it waits for that, and the others do not
            outcome = not_begun(task, ResourceError(describe_os_error(error, task.run_folder)))
            self.project.store(outcome)
        self._end(task)
        refused = any(step.error == "ResourceError" for step in outcome.steps)
        if outcome.trial is None and outcome.set is None:
            self._stored.append((outcome.exposure, queued.steps))
            self._sets_due, self._stored_at = True, time.monotonic()
        if outcome.set is not None:
            self._sets_due |= refused and not self._until_idle
        elif refused:
            self._give_rest(outcome.exposure)
        else:
            self._rest = 0.0
            self._spared.pop(outcome.exposure, None)
        self._count(outcome, task, summary)
        tell(Event("stored", task.exposure, task.name, outcome=outcome))

    def _give_rest(self, exposure: int) -> None:
        """Wait longer and longer while the machine refuses everything, and for the exposure that it refused."""
        self._rest = min(max(2.0, 2 * self._rest), LONGEST_REST)
        self._rest_until = time.monotonic() + self._rest
        _, delay = self._spared.get(exposure, (0.0, 5.0))
        self._spared[exposure] = (time.monotonic() + delay, min(2 * delay, LONGEST_REST))

    def _end(self, task: Task) -> None:
        self._flying.pop(task.id, None)
        self._words.pop(task.id, None)
        self._withdrawn.discard(task.id)

    def _lose(self, epoch: int, task: Task, queued: tasks.QueuedTask, lost: Lost, tell: Tell, summary: Summary) -> None:
        told = f"{task.name}: {lost.reason}"
        summary.lost += lost.blame and not lost.final
        cancelled = task.id in self._withdrawn
        if tasks.lose(self.project, epoch, task.id, told, count=lost.blame, final=lost.final):
            self._end(task)
            summary.cancelled += cancelled
            tell(Event("cancelled" if cancelled else "lost", task.exposure, task.name, reason=lost.reason))
            return
        if not lost.final:
            told = f"{told} (the worker died {queued.attempts + 1} times with this exposure)"
        outcome = ended_early(task, lost.so_far, told, lost.error)
        if not lost.final:
            tell(Event("lost", task.exposure, task.name, reason=lost.reason))
        self._store(outcome, task, queued, tell, summary)

    @staticmethod
    def _count(outcome: Outcome, task: Task, summary: Summary) -> None:
        wrong = next((step for step in outcome.steps if step.status in ("failed", "broken")), None)
        if wrong is not None:
            summary.reasons[task.name] = wrong.reason
        if outcome.set is not None:
            return
        states = {step.status for step in outcome.steps}
        if "broken" in states:
            summary.broken += 1
        elif "failed" in states:
            summary.failed += 1
        else:
            summary.done += 1

    def _give_back(self, epoch: int) -> None:
        """Return what was not finished to the queue, and the lease to whoever comes next."""
        for task, _ in self._flying.values():
            # before the library is told: on a full disk it can only then be written again
            tasks.remove_every_trace(task.run_folder)
        try:
            # also one that was begun in the moment of the interruption
            for identity in {*self._flying, *tasks.under_way(self.project.library, epoch)}:
                tasks.lose(self.project, epoch, identity, "processing was stopped", count=False)
            lease.release_lease(self.project.library, epoch)
        except ProjectError:
            # the library cannot be written any more: whoever comes next finds what was left and takes it over
            lease.forget_lease(self.project.library, epoch)
        self._flying.clear()
        self._words.clear()
        self._withdrawn.clear()
