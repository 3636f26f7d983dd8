"""The queue of a project, for everybody: asking for work, looking at what waits, and changing one's mind.

Nothing here needs to be the process that works on the project; any number of clients may use it at once.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from focusnb.processing.workflow import Workflow
from focusnb.project import lease, queue, schema, sets, tasks
from focusnb.project.planning import Plan
from focusnb.project.project import Project
from focusnb.project.sets import TRASH

if TYPE_CHECKING:
    import pandas as pd


class Queue:
    """What a project has still to do.

    The verbs are about tasks of exposures, by their ids; or about ``tasks=`` by theirs (or the beginnings of these), or
    the tasks of a ``batch=``; without any of these about all there are.
    """

    def __init__(self, project: Project) -> None:
        self.project = project
        self._library = project.library

    # Asking for work

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
        timeout: float | None = None,
    ) -> int:
        """Queue a workflow for exposures, all but TRASH by default; only those with something stale are queued.

        first : before everything that waits already
        trial : keep the results apart under this name; all steps run
        params : choices for this batch alone, by step
        everything : run all steps, stale or not
        retry : run steps again that failed with the same inputs
        timeout : seconds each step may take, in place of its own

        Returns how many exposures wait for it.
        """
        ids = self.project.ids() if exposures is None else list(exposures)
        if trial is None and not everything:
            plan = Plan(self.project, workflow, params=params, retry=retry)
            planned = plan.steps(ids)
            plan.settle()
            ids = [identity for identity in ids if identity in planned]
        if ids:
            tasks.submit(
                self._library,
                dict.fromkeys(ids, workflow.names),
                first=first,
                trial=trial,
                params=params,
                everything=everything or trial is not None,
                retry=retry,
                timeout=timeout,
            )
        return len(ids)

    def ask(self, exposures: Iterable[int], *, steps: Sequence[str] = (), **options: Any) -> int:
        """Queue steps by name for exposures, or without any the whole workflow of each exposure's kind.

        With named steps come those that make, of an exposure of its kind, what they need and nobody keeps, as corrected
        frames. ``options`` are those of :meth:`submit`. Returns how many exposures wait for it. Raises ParameterError
        for steps that would overwrite for good what the project's own workflow makes.
        """
        workflows = {
            kind: Workflow.asked(self.project, steps, kind) if steps else Workflow.of(self.project, kind)
            for kind in self.project.mode.steps
        }
        if steps and options.get("trial") is None:
            for workflow in workflows.values():
                workflow.check_beside(self.project)
        members: dict[str, list[int]] = {}
        ids = list(exposures)
        kinds = {exposure.id: exposure.kind for exposure in self.project.exposures(ids)}
        for identity in ids:
            if identity in kinds:
                members.setdefault(kinds[identity], []).append(identity)
        return sum(self.submit(workflows[kind], chosen, **options) for kind, chosen in members.items())

    def checked_params(self, params: Mapping[str, Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
        """Choices by step, texts among them, as their declarations want them; ParameterError tells all faults."""
        checked = {}
        for step, given in params.items():
            model = self.project.step(step).Params.make(given)
            checked[step] = {name: getattr(model, name) for name in given}
        return checked

    def submit_stale(
        self, *, retry: bool = False, asked: bool = True, without: Iterable[int] = (), timeout: float | None = None
    ) -> int:
        """Queue the project's own workflows for every exposure that needs them; returns how many.

        asked : False where nobody asked for just this: what people hold, cancelled, or queued otherwise is left alone
        without : leave these exposures out
        """
        left_out = set(without)
        e = schema.exposures.c
        query = sa.select(e.id, sa.literal_column("kind").label("kind")).where(e.group != TRASH).order_by(e.id)
        if not asked:
            own = [frozenset(self.project.step_names(kind)) for kind in self.project.mode.steps]
            left_out |= queue.cancelled_last(self._library, own)
            query = query.where(e.status.not_in(("queued", "running")))
        by_kind: dict[str, list[int]] = {}
        with self._library.read() as connection:
            for row in connection.execute(query):
                if row.id not in left_out:
                    by_kind.setdefault(row.kind or "movie", []).append(row.id)
        return sum(
            self.submit(Workflow.of(self.project, kind), ids, retry=retry, timeout=timeout)
            for kind, ids in by_kind.items()
        )

    def submit_sets(self, *, retry: bool = False) -> int:
        """Queue the steps over sets that are stale, or have failed; returns how many sets."""
        names = self.project.mode.set_steps.get("session", ())
        if not names:
            return 0
        group = sets.session(self._library)
        steps = [self.project.step(name) for name in names]
        planned, _ = sets.plan(self.project, group, steps, retry=retry)
        if planned:
            tasks.submit(self._library, {group.id: names}, over="set", retry=retry)
        return int(bool(planned))

    # Looking

    def counts(self) -> dict[str, int]:
        """Number of tasks by state."""
        return tasks.counts(self._library)

    def table(self) -> pd.DataFrame:
        """What is under way and what waits, in the order in which it is taken: one row per task."""
        return queue.listing(self._library)

    def batches(self) -> pd.DataFrame:
        """What was asked for, one row per batch."""
        return queue.batches(self._library)

    def log(self, *, sort: str = "time", limit: int | None = 1000) -> pd.DataFrame:
        """What happened and is happening, a row per step of an exposure; sort by time, worker, exposure or step."""
        return queue.log(self._library, sort=sort, limit=limit)

    def holder(self) -> Mapping[str, Any] | None:
        """Who works on the project: host, process, since, dashboard; None where nobody does."""
        return lease.holder(self._library)

    @property
    def paused(self) -> bool:
        """Whether nothing more begins."""
        return bool(queue.state(self._library)["paused"])

    @property
    def order(self) -> str:
        """The order in which it is taken: first-come or newest-first."""
        return str(queue.state(self._library)["order"])

    @order.setter
    def order(self, order: str) -> None:
        queue.set_order(self._library, order)

    # Changing one's mind

    def pause(self) -> None:
        """Let nothing more begin; what is under way is finished."""
        queue.pause(self._library, True)

    def resume(self) -> None:
        """Go on after a pause."""
        queue.pause(self._library, False)

    def put_first(self, exposures: Iterable[int] | None = None, **which: Any) -> int:
        """Put tasks on top of all others; returns how many."""
        return queue.put_first(self._library, self._find(exposures, **which))

    def move(self, task: str | Sequence[str], *, before: str | None = None, after: str | None = None) -> int:
        """Move waiting tasks to just before or after another one."""
        names = [task] if isinstance(task, str) else list(task)
        found = queue.find(self._library, tasks=names)
        anchor = queue.find(self._library, tasks=[str(before or after)])
        place = anchor[0] if anchor else str(before or after)
        if before is not None:
            return queue.move(self._library, found, before=place)
        return queue.move(self._library, found, after=place)

    def hold(self, exposures: Iterable[int] | None = None, **which: Any) -> int:
        """Keep tasks back until they are released; they keep their places."""
        return queue.hold(self._library, self._find(exposures, **which))

    def release(self, exposures: Iterable[int] | None = None, **which: Any) -> int:
        """Let tasks go that were kept back."""
        return queue.hold(self._library, self._find(exposures, **which), held=False)

    def cancel(self, exposures: Iterable[int] | None = None, **which: Any) -> int:
        """Take tasks out of the queue and stop those under way, by exposures, ``tasks=`` or ``batch=``."""
        states = (*tasks.WAITING, "running")
        return queue.cancel(self._library, self._find(exposures, states=states, **which))

    def clear(self) -> int:
        """Take everything out of the queue that is not under way."""
        return queue.cancel(self._library, queue.find(self._library))

    def retry(self, exposures: Iterable[int] | None = None, *, first: bool = False) -> int:
        """Queue again what failed last, with the workflow and the parameters it had."""
        sets_too = self.submit_sets(retry=True) if exposures is None else 0
        return queue.retry(self._library, exposures, first=first) + sets_too

    def _find(
        self,
        exposures: Iterable[int] | None = None,
        *,
        tasks: Iterable[str] | None = None,
        batch: int | None = None,
        states: Sequence[str] = tasks.WAITING,
    ) -> list[str]:
        return queue.find(self._library, tasks=tasks, exposures=exposures, batch=batch, states=states)
