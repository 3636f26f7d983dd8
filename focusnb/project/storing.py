"""What is written to a project besides its exposures: outcomes, records, overrides, selections."""

from __future__ import annotations

import contextlib
import datetime
import json
import os
import shutil
import sqlite3
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from focusnb.errors import ParameterError
from focusnb.project import facts as fact_rules
from focusnb.project import records, schema
from focusnb.project.fingerprints import Exposure
from focusnb.project.library import Library, Transaction, now, who
from focusnb.project.tasks import check_lease, finish_task
from focusnb.quantities import Acquisition
from focusnb.steps.task import Outcome, StepOutcome

if TYPE_CHECKING:
    from focusnb.project.project import Project

_PLANNING = ("id", "exposure", "folder", "group", "content", "facts", "current")


def planning_rows(library: Library, ids: Iterable[int] | None) -> Iterator[Exposure]:
    """Yield exposures as planning needs them."""
    e = schema.exposures.c
    query = sa.select(*(e[name] for name in _PLANNING)).order_by(e.id)
    wanted = None if ids is None else {int(identity) for identity in ids}
    if wanted is not None and len(wanted) <= 500:
        query = query.where(e.id.in_(wanted))
    o = schema.overrides.c
    with library.read() as connection:
        by_hand: dict[int, dict[str, Any]] = {}
        for row in connection.execute(sa.select(o.exposure_id, o.name, o.value).where(o.cleared_at.is_(None))):
            by_hand.setdefault(row.exposure_id, {})[row.name] = row.value
        rows = connection.execute(query).all()
    for row in rows:
        if wanted is not None and row.id not in wanted:
            continue
        facts = {name: value for name, (value, _) in fact_rules.resolve(row.facts or {}).items()}
        yield Exposure(
            id=row.id,
            name=row.exposure,
            folder=row.folder,
            group=row.group,
            kind=facts.get("kind", "movie"),
            content=row.content or "",
            facts={**_fact_defaults(), **facts},
            current=row.current or {},
            overrides=by_hand.get(row.id, {}),
        )


_DEFAULTS: dict[str, Any] = {}


def _fact_defaults() -> dict[str, Any]:
    if not _DEFAULTS:
        _DEFAULTS.update({spec.name: spec.default for spec in Acquisition.specs() if spec.default is not None})
    return _DEFAULTS


def findings(library: Library, exposure: int) -> dict[str, Any]:
    """The findings of an exposure in force, overrides included."""
    facts = {spec.name for spec in Acquisition.specs()}
    with library.read() as connection:
        row = records.row_of(connection, exposure)
    values = {
        name: row[name]
        for name in library.column_specs()
        if name in row and name not in facts and row[name] is not None
    }
    return {**values, **next(planning_rows(library, [exposure])).overrides}


def store(project: Project, outcome: Outcome) -> bool:
    """Adopt the files of an outcome by rename and its values in one transaction; False if it was stored before."""
    run_folder = project.folder / outcome.folder / f".run-{outcome.task}"
    with project.library.write() as transaction:
        check_lease(transaction, outcome.epoch)
        r = schema.runs
        states = dict(
            transaction.execute(sa.select(r.c.id, r.c.status).where(r.c.id.in_([s.run for s in outcome.steps]))).all()
        )
        if states and all(state not in ("running", "queued") for state in states.values()):
            return False
        for step in outcome.steps:
            _store_run(transaction, outcome, step, known=step.run in states)
        if outcome.trial is None:
            _adopt(project, outcome, run_folder)
            _store_values(project, transaction, outcome)
            finish_task(transaction, outcome.task, _task_state(outcome))
            write_record(project, transaction, outcome.exposure)
        else:
            _keep_trial(project, outcome, run_folder)
            finish_task(transaction, outcome.task, _task_state(outcome))
            refresh_status(transaction, outcome.exposure)
    shutil.rmtree(run_folder, ignore_errors=True)
    return True


def _task_state(outcome: Outcome) -> str:
    return "done" if all(step.status == "done" for step in outcome.steps) else "failed"


def _time(seconds: float) -> str | None:
    if not seconds:
        return None
    return datetime.datetime.fromtimestamp(seconds, datetime.UTC).isoformat(timespec="milliseconds")


def _store_run(transaction: Transaction, outcome: Outcome, step: StepOutcome, *, known: bool) -> None:
    values = {
        "task_id": outcome.task,
        "exposure_id": outcome.exposure,
        "step": step.step,
        "version": step.version,
        "attempt": step.attempt,
        "status": step.status,
        "reason": step.reason or None,
        "error": step.error or None,
        "trial": outcome.trial,
        "fingerprint": step.fingerprint,
        "params": dict(step.params),
        "values": _plain(step.values),
        "products": dict(step.products),
        "versions": dict(step.versions),
        "started_at": _time(step.started),
        "finished_at": _time(step.started + step.seconds) if step.started else None,
        "seconds": step.seconds,
        "cpu_seconds": step.cpu_seconds,
        "host": outcome.host,
        "process": outcome.process,
        "log": step.log,
        "traceback": step.traceback or None,
        "revision": transaction.revision,
    }
    runs = schema.runs
    if known:
        transaction.execute(runs.update().where(runs.c.id == step.run).values(**values))
    else:
        transaction.execute(runs.insert().values(id=step.run, **values))


def _plain(values: Mapping[str, Any]) -> dict[str, Any]:
    return {name: fact_rules.plain(value) for name, value in values.items()}


def _adopt(project: Project, outcome: Outcome, run_folder: Path) -> None:
    """Rename products into the exposure's folder; done again after an interruption it finds nothing left to do."""
    folder = project.folder / outcome.folder
    names = [name for step in outcome.steps if step.status == "done" for name in step.products.values()]
    for name in dict.fromkeys([*names, "log.txt"]):
        with contextlib.suppress(FileNotFoundError):
            os.replace(run_folder / name, folder / name)


def _keep_trial(project: Project, outcome: Outcome, run_folder: Path) -> None:
    target = project.folder / outcome.folder / "trials" / str(outcome.trial)
    target.mkdir(parents=True, exist_ok=True)
    if run_folder.is_dir():
        for path in run_folder.iterdir():
            os.replace(path, target / path.name)


def _store_values(project: Project, transaction: Transaction, outcome: Outcome) -> None:
    row = records.row_of(transaction.connection, outcome.exposure)
    current = dict(row["current"])
    values: dict[str, Any] = {}
    for step in outcome.steps:
        makes = [spec.name for spec in project.step(step.step).makes() if spec.kind != "transient"]
        if step.status == "done":
            values |= {name: step.values.get(name) for name in makes}
        elif step.error != "ResourceError":
            values |= dict.fromkeys(makes)
        if step.status == "skipped":
            current.pop(step.step, None)
        else:
            current[step.step] = {
                "run": step.run,
                "status": step.status,
                "fingerprint": step.fingerprint,
                "version": step.version,
                "attempt": step.attempt,
                "reason": step.reason or None,
                "error": step.error or None,
                "params": dict(step.params),
                "makes": [spec.name for spec in project.step(step.step).makes()],
                "started_at": _time(step.started),
                "finished_at": _time(step.started + step.seconds),
            }
    status, reason = overall(current)
    transaction.update_exposure(
        outcome.exposure,
        {**values, "current": current, "status": status, "reason": reason, "processed_at": _time(outcome.finished)},
    )


def overall(current: Mapping[str, Mapping[str, Any]]) -> tuple[str, str | None]:
    """Status and reason of an exposure from the state of its steps; the first that went wrong is told."""
    for wrong in ("broken", "failed"):
        for state in current.values():
            if state.get("status") == wrong:
                return wrong, state.get("reason")
    return ("done" if current else "new"), None


def refresh_status(transaction: Transaction, exposure: int) -> None:
    """Set status and reason of an exposure from its adopted results."""
    status, reason = overall(records.row_of(transaction.connection, exposure)["current"])
    transaction.update_exposure(exposure, {"status": status, "reason": reason})


def write_record(project: Project, transaction: Transaction, exposure: int) -> None:
    """Write ``exposure.json`` from the row as this transaction leaves it."""
    row = records.row_of(transaction.connection, exposure)
    facts = {spec.name for spec in Acquisition.specs()}
    values = {
        name: row[name]
        for name, spec in project.library.column_specs().items()
        if name in row and name not in facts and spec.kind != "transient"
    }
    records.write(project.folder, row, values)


# Overrides and selections


def override(library: Library, exposure: int, values: Mapping[str, Any]) -> None:
    """Set findings by hand; ParameterError names what is no finding or outside its limits."""
    facts = {spec.name for spec in Acquisition.specs()}
    specs = {n: s for n, s in library.column_specs().items() if n not in facts and s.kind == "value"}
    for name, value in values.items():
        if name not in specs:
            raise ParameterError(f"{name} is no finding of this project; facts are set by set_facts()")
        _check_limits(specs[name], value)
    o = schema.overrides
    with library.write() as transaction:
        for name, value in values.items():
            same = (o.c.exposure_id == exposure) & (o.c.name == name) & o.c.cleared_at.is_(None)
            transaction.execute(o.update().where(same).values(cleared_at=now(), revision=transaction.revision))
            transaction.execute(
                o.insert().values(
                    exposure_id=exposure, name=name, value=value, who=who(), at=now(), revision=transaction.revision
                )
            )
        transaction.update_exposure(exposure, {})


def _check_limits(spec: Any, value: Any) -> None:
    if spec.choices and value not in spec.choices:
        raise ParameterError(f"{spec.name} = {value!r}: {spec.label} is one of {', '.join(map(str, spec.choices))}")
    if spec.type in ("float", "int") and (isinstance(value, bool) or not isinstance(value, int | float)):
        raise ParameterError(f"{spec.name} = {value!r}: {spec.label} is a number{f' in {spec.unit}' * bool(spec.unit)}")
    tests = {"gt": lambda v, m: v > m, "ge": lambda v, m: v >= m, "lt": lambda v, m: v < m, "le": lambda v, m: v <= m}
    for limit, bound in spec.limits.items():
        if limit in tests and not tests[limit](value, bound):
            raise ParameterError(f"{spec.name} = {value!r}: {spec.label} must be {limit} {bound} {spec.unit}".rstrip())


def clear_override(library: Library, exposure: int, names: tuple[str, ...]) -> None:
    """End overrides of an exposure; they stay in the history."""
    o = schema.overrides
    with library.write() as transaction:
        active = (o.c.exposure_id == exposure) & o.c.cleared_at.is_(None)
        if names:
            active &= o.c.name.in_(names)
        transaction.execute(o.update().where(active).values(cleared_at=now(), revision=transaction.revision))
        transaction.update_exposure(exposure, {})


def selection(library: Library, name: str, exposures: Iterable[int] | None) -> list[int]:
    """Save a selection under a name, or load it."""
    s = schema.selections
    if exposures is None:
        with library.read() as connection:
            found = connection.execute(sa.select(s.c.exposures).where(s.c.name == name)).scalar()
        if found is None:
            raise ParameterError(f"there is no selection {name}")
        return [int(identity) for identity in found]
    ids = [int(identity) for identity in exposures]
    with library.write() as transaction:
        transaction.execute(s.delete().where(s.c.name == name))
        transaction.execute(s.insert().values(name=name, exposures=ids, at=now(), revision=transaction.revision))
    return ids


# What a rebuilt library takes from the old one

_SALVAGED = ("parameters", "overrides", "selections", "picks", "sets", "set_members")
_DECISIONS = ("group", "flag", "comment")


def salvage(path: Path) -> dict[str, list[dict[str, Any]]]:
    """Read from an old library what no record holds; what cannot be read is left out."""
    found: dict[str, list[dict[str, Any]]] = {}
    if not path.is_file():
        return found
    with contextlib.suppress(sqlite3.DatabaseError), contextlib.closing(sqlite3.connect(path)) as connection:
        connection.row_factory = sqlite3.Row
        for name in (*_SALVAGED, "exposures"):
            with contextlib.suppress(sqlite3.DatabaseError):
                found[name] = [dict(row) for row in connection.execute(f'SELECT * FROM "{name}"')]
    return found


def put_back(transaction: Transaction, salvaged: Mapping[str, list[dict[str, Any]]]) -> None:
    """Write what was salvaged into a new library, for exposures that exist there."""
    e = schema.exposures
    ids = set(transaction.execute(sa.select(e.c.id)).scalars())
    for row in salvaged.get("exposures", []):
        decided = {name: row.get(name) for name in _DECISIONS if row.get(name) is not None}
        if row.get("id") in ids and decided:
            transaction.execute(e.update().where(e.c.id == row["id"]).values(**decided))
    for name in ("parameters", "overrides", "selections", "picks", "sets", "set_members"):
        table = schema.metadata.tables[name]
        for row in salvaged.get(name, []):
            if row.get("exposure_id", None) not in (ids | {None}):
                continue
            values = {key: _loaded(table.c[key], value) for key, value in row.items() if key in table.c}
            transaction.execute(table.insert().values(**values))


def _loaded(column: sa.Column[Any], value: Any) -> Any:
    return json.loads(value) if isinstance(column.type, sa.JSON) and isinstance(value, str) else value
