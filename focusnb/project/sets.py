"""Sets of exposures: what a step over a set works on, whether it is stale, and what came of it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from focusnb.errors import ParameterError
from focusnb.project import levels, schema
from focusnb.project.fingerprints import Planned, program_versions
from focusnb.project.library import Library, now
from focusnb.steps.base import Step
from focusnb.steps.work import MEMBERS_FILE, SESSION

if TYPE_CHECKING:
    import pandas as pd

    from focusnb.project.project import Project

TRASH = "TRASH"

COURT = "court"
"""Key of what the court found, among the values of the set of all exposures."""


@dataclass(frozen=True)
class Set:
    """A row of the table of sets."""

    id: int
    name: str
    kind: str
    folder: str
    values: Mapping[str, Any]
    current: Mapping[str, Mapping[str, Any]]


def session(library: Library) -> Set:
    """The set of all exposures out of TRASH; it is made when it is first asked for."""
    found = _find(library, schema.sets.c.name == SESSION)
    if found is not None:
        return found
    with library.write() as transaction:
        if transaction.execute(sa.select(schema.sets.c.id).where(schema.sets.c.name == SESSION)).first() is None:
            row = {"name": SESSION, "kind": SESSION, "folder": f"sets/{SESSION}", "created_at": now()}
            transaction.execute(schema.sets.insert().values(**row, revision=transaction.revision))
    return find(library, SESSION)


def find(library: Library, which: str | int) -> Set:
    """A set by its name or id; ParameterError if there is none."""
    column = schema.sets.c.name if isinstance(which, str) else schema.sets.c.id
    found = _find(library, column == which)
    if found is None:
        raise ParameterError(f"there is no set {which}")
    return found


def _find(library: Library, condition: Any) -> Set | None:
    with library.read() as connection:
        row = connection.execute(sa.select(schema.sets).where(condition)).mappings().first()
    if row is None:
        return None
    values = {name: value for name, value in (row["values"] or {}).items() if name != COURT}
    return Set(row["id"], row["name"], row["kind"], row["folder"], values, row["current"] or {})


def members(library: Library, group: Set, step: str) -> list[dict[str, Any]]:
    """The members on which a step is done, in their order, with that run's fingerprint as their key.

    A session has all exposures out of TRASH; another set has those it lists.
    """
    e, m = schema.exposures.c, schema.set_members.c
    state = e.current[step]
    key = state["fingerprint"].as_string().label("key")
    query = sa.select(e.id, e.exposure.label("name"), e.folder, key)
    query = query.where((state["status"].as_string() == "done") & (e.group != TRASH))
    if group.kind == SESSION:
        query = query.add_columns(sa.null().label("values")).order_by(e.id)
    else:
        query = query.add_columns(m["values"]).join(schema.set_members, m.exposure_id == e.id)
        query = query.where((m.set_id == group.id) & m.included).order_by(m.position)
    with library.read() as connection:
        return [{**row._mapping, "values": row._mapping["values"] or {}} for row in connection.execute(query)]


def plan(
    project: Project,
    group: Set,
    steps: Iterable[type[Step]],
    *,
    params: Mapping[str, Mapping[str, Any]] | None = None,
    everything: bool = False,
    retry: bool = False,
) -> tuple[list[Planned], list[dict[str, Any]]]:
    """The stale steps of a set, resolved, and its members; none where there is no member."""
    planned, listed = [], []
    for step in steps:
        listed = members(project.library, group, step.member_step)
        if not listed:
            continue
        with project.library.read() as connection:
            stored = levels.read_levels(connection, step.name)
        model, _ = levels.resolve(step, stored, group=None, exposure=None)
        choices = step.Params.make({**model.model_dump(), **(params or {}).get(step.name, {})}).model_dump()
        known = {
            "step": step.name,
            "version": step.version,
            "origin": step.origin,
            "programs": program_versions([step]),
            "params": choices,
            "members": [(row["id"], row["key"], row["values"]) for row in listed],
        }
        print_ = hashlib.sha256(json.dumps(known, sort_keys=True, default=str).encode()).hexdigest()[:32]
        state = group.current.get(step.name, {})
        same = state.get("fingerprint") == print_ and state.get("error") != "ResourceError"
        settled = state.get("status") == "done" or not retry
        if everything or not (same and settled):
            planned.append(Planned(step.name, choices, print_))
    return planned, listed


def write_members(project_folder: Path, run_folder: Path, listed: Sequence[Mapping[str, Any]]) -> None:
    """List the members beside the run, for the worker."""
    text = json.dumps({"project": str(project_folder), "members": list(listed)})
    (run_folder / MEMBERS_FILE).write_text(text)


def frame(library: Library) -> pd.DataFrame:
    """All sets, one row each, with their results."""
    import pandas as pd

    with library.read() as connection:
        rows = connection.execute(sa.select(schema.sets).order_by(schema.sets.c.id)).mappings().all()
    table = pd.DataFrame(
        [
            {
                "id": row["id"],
                "name": row["name"],
                "kind": row["kind"],
                "status": row["status"],
                "reason": row["reason"],
                **{name: value for name, value in (row["values"] or {}).items() if name != COURT},
                "folder": row["folder"],
            }
            for row in rows
        ],
        columns=None if rows else ["id", "name", "kind", "status", "reason", "folder"],
    )
    return table.set_index("id")
