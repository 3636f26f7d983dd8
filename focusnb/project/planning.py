"""Which steps are to run on which exposures, and a short cut past those that are known to be up to date."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from functools import cached_property
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from focusnb.project import fingerprints, levels, schema, storing
from focusnb.project.tasks import MANY

if TYPE_CHECKING:
    from focusnb.project.project import Project

_FORMAT = 1
"""Raised when what makes a step stale is defined otherwise, so that no mark of before hides it."""

Choices = Mapping[str, Mapping[str, Any]]
"""Choices by step and name."""


class Plan:
    """The steps of a workflow to run on exposures, by today's steps, versions, programs and choices.

    An exposure on which nothing was found stale is marked with the configuration it was judged by (:meth:`settle`).
    While that is today's, and nothing in its row was changed, it is not looked at again: with a hundred thousand
    exposures only what is new costs anything.
    """

    def __init__(
        self,
        project: Project,
        workflow: fingerprints.Ordered,
        *,
        params: Choices | None = None,
        everything: bool = False,
        retry: bool = False,
    ) -> None:
        self.project, self.workflow = project, workflow
        self.params = params or {}
        self.everything, self.retry = everything, retry
        with project.library.read() as connection:
            self._stored = {step.name: levels.read_levels(connection, step.name) for step in workflow.steps}
        self._programs = fingerprints.program_versions(workflow.steps)
        self._cache: dict[tuple[str, int | None], tuple[dict[str, dict[str, Any]], str]] = {}
        self._settled: list[dict[str, Any]] = []

    @cached_property
    def _own(self) -> set[str]:
        """Exposures with choices of their own."""
        return {key for by_level in self._stored.values() for level, key in by_level if level == "exposure"}

    @cached_property
    def _asked(self) -> set[str]:
        """Steps that were given choices here, which asks for them even where another program's results are there."""
        return {step for step, values in self.params.items() if values}

    def _choices(self, group: str, exposure: int | None) -> tuple[dict[str, dict[str, Any]], str]:
        """The choices in force, and the name of the configuration they are part of."""
        key = (group, exposure)
        if key not in self._cache:
            chosen: dict[str, dict[str, Any]] = {}
            for step in self.workflow.steps:
                model, _ = levels.resolve(step, self._stored[step.name], group=group, exposure=exposure)
                merged = {**model.model_dump(), **self.params.get(step.name, {})}
                chosen[step.name] = step.Params.make(merged).model_dump()
            known = [
                (s.name, s.version, s.origin, {n: self._programs.get(n) for n in s.programs()}, chosen[s.name])
                for s in self.workflow.steps
            ]
            text = json.dumps([_FORMAT, known], sort_keys=True, default=str)
            self._cache[key] = chosen, hashlib.sha256(text.encode()).hexdigest()[:32]
        return self._cache[key]

    def steps(self, ids: Iterable[int] | None = None) -> dict[int, list[fingerprints.Planned]]:
        """The steps to run on each exposure, resolved; exposures with nothing to do are left out."""
        planned = {}
        for exposure in storing.planning_rows(self.project.library, self._candidates(ids)):
            own = exposure.id if str(exposure.id) in self._own else None
            chosen, configuration = self._choices(exposure.group, own)
            steps = fingerprints.plan(
                self.workflow,
                exposure,
                chosen,
                self._programs,
                everything=self.everything,
                retry=self.retry,
                asked=self._asked,
            )
            if steps:
                planned[exposure.id] = steps
            elif not (self.params or self.retry):
                self._settled.append({"i": exposure.id, "r": exposure.revision, "c": configuration})
        return planned

    def of(self, exposure: fingerprints.Exposure) -> list[fingerprints.Planned]:
        """The steps to run on one exposure."""
        own = exposure.id if str(exposure.id) in self._own else None
        chosen, _ = self._choices(exposure.group, own)
        options: dict[str, Any] = {"everything": self.everything, "retry": self.retry, "asked": self._asked}
        return fingerprints.plan(self.workflow, exposure, chosen, self._programs, **options)

    def _candidates(self, ids: Iterable[int] | None) -> list[int] | None:
        if self.everything or self.retry or self.params:
            return None if ids is None else list(ids)
        e = schema.exposures.c
        wanted = None if ids is None else {int(identity) for identity in ids}
        found: set[int] = set()
        with self.project.library.read() as connection:
            if wanted is not None and len(wanted) <= MANY:
                rows = connection.execute(sa.select(e.id, e.group, e.settled_for).where(e.id.in_(wanted)))
                return [row.id for row in rows if not self._is_settled(row.id, row.group, row.settled_for)]
            for group in connection.execute(sa.select(e.group).distinct()).scalars():
                _, configuration = self._choices(group, None)
                unsettled = (e.group == group) & (e.settled_for.is_(None) | (e.settled_for != configuration))
                found.update(connection.execute(sa.select(e.id).where(unsettled)).scalars())
        found |= {int(identity) for identity in self._own}
        return sorted(found if wanted is None else found & wanted)

    def _is_settled(self, identity: int, group: str, settled_for: str | None) -> bool:
        own = identity if str(identity) in self._own else None
        return settled_for is not None and settled_for == self._choices(group, own)[1]

    def _is_own(self) -> bool:
        """Whether it is the project's own workflow: the mark is one, and not for every workflow that is ever run."""
        names = {step.name for step in self.workflow.steps}
        return any(names == set(self.project.step_names(kind)) for kind in self.project.mode.steps)

    def settle(self) -> None:
        """Mark the exposures found up to date, but for those whose rows have changed since."""
        e = schema.exposures
        if not self._settled or self.project.library.read_only or not self._is_own():
            return
        with self.project.library.write() as transaction:
            transaction.execute(
                e.update()
                .where((e.c.id == sa.bindparam("i")) & (e.c.revision == sa.bindparam("r")))
                .values(settled_for=sa.bindparam("c")),
                self._settled,
            )
        self._settled = []
