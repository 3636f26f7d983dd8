"""What is written to a project besides its exposures: outcomes, records, overrides, selections."""

from __future__ import annotations

import contextlib
import datetime
import errno
import math
import operator
import os
import shutil
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from focusnb.errors import FocusError, ParameterError
from focusnb.parameters import Spec
from focusnb.project import facts as fact_rules
from focusnb.project import records, schema
from focusnb.project.fingerprints import Exposure
from focusnb.project.lease import check_lease
from focusnb.project.library import Library, LibraryFull, Transaction, now, who
from focusnb.project.tasks import MANY, active_states, finish_task, refresh, remove_run, status_of
from focusnb.quantities import Acquisition
from focusnb.steps.base import FACTS
from focusnb.steps.task import Outcome, StepOutcome, run_folder_name

if TYPE_CHECKING:
    from focusnb.project.project import Project

_PLANNING = ("id", "exposure", "folder", "group", "content", "facts", "current", "revision")


def planning_rows(library: Library, ids: Iterable[int] | None) -> Iterator[Exposure]:
    """Yield exposures as planning needs them."""
    e = schema.exposures.c
    query = sa.select(*(e[name] for name in _PLANNING)).order_by(e.id)
    o = schema.overrides.c
    in_force = sa.select(o.exposure_id, o.name, o.value).where(o.cleared_at.is_(None)).order_by(o.id)
    by_hand: dict[int, dict[str, Any]] = {}
    rows: list[Any] = []
    with library.read() as connection:
        if ids is None:
            overridden, rows = connection.execute(in_force).all(), list(connection.execute(query))
        else:
            wanted, overridden = sorted({int(identity) for identity in ids}), []
            for start in range(0, len(wanted), MANY):
                part = wanted[start : start + MANY]
                overridden += connection.execute(in_force.where(o.exposure_id.in_(part))).all()
                rows += connection.execute(query.where(e.id.in_(part)))
    for row in overridden:
        by_hand.setdefault(row.exposure_id, {})[row.name] = row.value
    for row in rows:
        yield _exposure(row._mapping, by_hand.get(row.id, {}))


def _exposure(row: Mapping[str, Any], overrides: Mapping[str, Any]) -> Exposure:
    facts = {name: value for name, (value, _) in fact_rules.resolve(row["facts"] or {}).items()}
    return Exposure(
        id=row["id"],
        name=row["exposure"],
        folder=row["folder"],
        group=row["group"],
        kind=facts.get("kind", "movie"),
        content=row["content"] or "",
        facts={**_fact_defaults(), **facts},
        current=row["current"] or {},
        overrides=overrides,
        revision=row["revision"],
    )


def with_findings(library: Library, exposure: int) -> tuple[Exposure, dict[str, Any]]:
    """An exposure as planning needs it, and its findings in force; ParameterError if there is none."""
    o = schema.overrides.c
    in_force = (o.exposure_id == exposure) & o.cleared_at.is_(None)
    with library.read() as connection:
        row = records.row_of(connection, exposure)
        by_hand = dict(connection.execute(sa.select(o.name, o.value).where(in_force).order_by(o.id)).all())  # type: ignore[arg-type]
    found = {n: row[n] for n in library.column_specs() if n in row and n not in FACTS and row[n] is not None}
    return _exposure(row, by_hand), {**found, **by_hand}


_DEFAULTS: dict[str, Any] = {}


def _fact_defaults() -> dict[str, Any]:
    if not _DEFAULTS:
        _DEFAULTS.update({spec.name: spec.default for spec in Acquisition.specs() if spec.default is not None})
    return _DEFAULTS


def findings(library: Library, exposure: int) -> dict[str, Any]:
    """The findings of an exposure in force, overrides included."""
    return with_findings(library, exposure)[1]


_RUN_STATES = sa.select(schema.runs.c.id, schema.runs.c.status).where(
    schema.runs.c.id.in_(sa.bindparam("ids", expanding=True))
)


def store(project: Project, outcome: Outcome) -> bool:
    """Adopt the files of an outcome by rename and its values in one transaction; False if it was stored before.

    Done again after an exception it ends well; LibraryFull tells that there was no room, for whatever of it.
    """
    try:
        return _store(project, outcome)
    except (FocusError, OSError) as error:
        cause = error if isinstance(error, OSError) else error.__cause__
        if isinstance(cause, OSError) and cause.errno in (errno.ENOSPC, errno.EDQUOT):
            raise LibraryFull(str(error)) from error
        raise


def _store(project: Project, outcome: Outcome) -> bool:
    run_folder = project.folder / outcome.folder / run_folder_name(outcome.task, outcome.epoch, outcome.attempt)
    gone: list[str] = []
    with project.library.write() as transaction:
        check_lease(transaction, outcome.epoch)
        states = dict(transaction.execute(_RUN_STATES, {"ids": [step.run for step in outcome.steps]}).all())
        if states and all(state not in ("running", "queued") for state in states.values()):
            return False
        for step in outcome.steps:
            _store_run(transaction, outcome, step, known=step.run in states)
        over, subject = ("exposure", outcome.exposure) if outcome.set is None else ("set", outcome.set)
        finish_task(transaction, outcome.task, *_task_state(outcome))
        if outcome.trial is not None:
            _keep_trial(project, outcome, run_folder)
            refresh(transaction, over, [subject])
        else:
            _adopt(project, outcome, run_folder)
            if outcome.set is None:
                gone = _store_values(project, transaction, outcome)
            else:
                gone = _store_set_values(project, transaction, outcome)
    remove_run(run_folder)
    for name in gone:
        (project.folder / outcome.folder / name).unlink(missing_ok=True)
    return True


def _task_state(outcome: Outcome) -> tuple[str, str | None]:
    wrong = next((step for step in outcome.steps if step.status != "done"), None)
    return ("done", None) if wrong is None else ("failed", wrong.reason or None)


def _time(seconds: float) -> str | None:
    if not seconds:
        return None
    return datetime.datetime.fromtimestamp(seconds, datetime.UTC).isoformat(timespec="milliseconds")


def _store_run(transaction: Transaction, outcome: Outcome, step: StepOutcome, *, known: bool) -> None:
    values = {
        "task_id": outcome.task,
        "exposure_id": outcome.exposure if outcome.set is None else None,
        "set_id": outcome.set,
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
        "worker": outcome.worker or f"{outcome.host}:{outcome.process}",
        "log": step.log,
        "traceback": step.traceback or None,
    }
    if known:
        transaction.update(schema.runs, step.run, values)
    else:
        row = {"id": step.run, **values, "revision": transaction.revision}
        transaction.execute(schema.runs.insert(), row)


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
    for path in run_folder.glob("[!.]*"):
        if (target / path.name).is_dir():
            shutil.rmtree(target / path.name)
        os.replace(path, target / path.name)


def _made_by(project: Project, transaction: Transaction, step: str) -> list[Spec]:
    """What a step makes; by the library where the step was changed or taken away while it ran."""
    try:
        return project.step(step).makes()
    except ParameterError:
        c = schema.columns.c
        rows = transaction.execute(sa.select(c.spec).where((c.step == step) & (c.kind == "finding"))).scalars()
        return [Spec.from_dict(row) for row in rows]


def _merge(
    project: Project, transaction: Transaction, outcome: Outcome, current: dict[str, Any]
) -> tuple[dict[str, Any], list[str]]:
    """Enter the steps of an outcome into ``current``; returns the values found, and files that hold no result."""
    values: dict[str, Any] = {}
    file_names: dict[str, str] = {}
    # the disk was full or the memory short: what was found before is as good as it was
    spared = any(step.error == "ResourceError" for step in outcome.steps)
    for step in outcome.steps:
        makes = _made_by(project, transaction, step.step)
        kept = [spec.name for spec in makes if spec.kind != "transient"]
        file_names |= {spec.name: spec.file for spec in makes if spec.file is not None}
        if step.status == "done":
            values |= {name: step.values.get(name) for name in kept}
        elif step.error != "ResourceError" and not (step.status == "skipped" and spared):
            values |= dict.fromkeys(kept)
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
                "makes": [spec.name for spec in makes],
                "beside": not project.is_usual(step.step),
                "started_at": _time(step.started),
                "finished_at": _time(step.started + step.seconds),
            }
    return values, [file for name, file in file_names.items() if name in values and values[name] is None]


def _store_values(project: Project, transaction: Transaction, outcome: Outcome) -> list[str]:
    """Write what an outcome found into its row; returns the names of files that hold no result any more."""
    row = records.row_of(transaction.connection, outcome.exposure)
    current = dict(row["current"])
    values, gone = _merge(project, transaction, outcome, current)
    status, reason = status_of(active_states(transaction, "exposure", outcome.exposure), current)
    changed = {"current": current, "status": status, "reason": reason, "processed_at": _time(outcome.finished)}
    transaction.update_exposure(outcome.exposure, {**values, **changed})
    _write_record(project, {**row, **values, **changed})
    return gone


def _store_set_values(project: Project, transaction: Transaction, outcome: Outcome) -> list[str]:
    s = schema.sets
    row = transaction.execute(sa.select(s.c["values"], s.c.current).where(s.c.id == outcome.set)).one()
    current, known = dict(row.current or {}), dict(row[0] or {})
    values, gone = _merge(project, transaction, outcome, current)
    found = {name: value for name, value in {**known, **_plain(values)}.items() if value is not None}
    changed = {"values": found, "current": current, "revision": transaction.revision}
    transaction.execute(s.update().where(s.c.id == outcome.set).values(changed))
    refresh(transaction, "set", [int(outcome.set or 0)])
    return gone


def leave_workflow(project: Project, names: set[str]) -> None:
    """Let steps that were taken out of the workflow not count any more for the status of exposures."""
    e = schema.exposures.c
    with project.library.write() as transaction:
        concerned = []
        for row in transaction.execute(sa.select(e.id, e.current)).all():
            current = row.current or {}
            if not names & set(current):
                continue
            current |= {name: {**current[name], "beside": True} for name in names & set(current)}
            transaction.update_exposure(row.id, {"current": current})
            concerned.append(row.id)
        refresh(transaction, "exposure", concerned)


def write_record(project: Project, transaction: Transaction, exposure: int) -> None:
    """Write ``exposure.json`` from the row as this transaction leaves it."""
    _write_record(project, records.row_of(transaction.connection, exposure))


def _write_record(project: Project, row: Mapping[str, Any]) -> None:
    values = {
        name: row[name]
        for name, spec in project.library.column_specs().items()
        if name in row and name not in FACTS and spec.kind != "transient"
    }
    records.write(project.folder, row, values)


# Overrides and selections


def override(library: Library, exposures: Iterable[int], values: Mapping[str, Any]) -> None:
    """Set findings by hand, of all exposures or none; ParameterError names what is no finding or beyond its limits."""
    specs = {n: s for n, s in library.column_specs().items() if n not in FACTS and s.kind == "value"}
    for name, value in values.items():
        if name not in specs:
            raise ParameterError(f"{name} is no finding of this project; facts are set by set_facts()")
        _check_limits(specs[name], value)
    o = schema.overrides
    with library.write() as transaction:
        for exposure in exposures:
            records.row_of(transaction.connection, exposure)
            for name, value in values.items():
                same = (o.c.exposure_id == exposure) & (o.c.name == name) & o.c.cleared_at.is_(None)
                transaction.execute(o.update().where(same).values(cleared_at=now(), revision=transaction.revision))
                transaction.execute(
                    o.insert().values(
                        exposure_id=exposure, name=name, value=value, who=who(), at=now(), revision=transaction.revision
                    )
                )
            transaction.update_exposure(exposure, {})


def _check_limits(spec: Spec, value: Any) -> None:
    if spec.choices and value not in spec.choices:
        raise ParameterError(f"{spec.name} = {value!r}: {spec.label} is one of {', '.join(map(str, spec.choices))}")
    types: dict[str, tuple[str, tuple[type, ...]]] = {
        "float": ("a number", (int, float)),
        "int": ("a whole number", (int,)),
        "bool": ("true or false", (bool,)),
        "str": ("text", (str,)),
    }
    words, allowed = types.get(spec.type, ("", (object,)))
    wrong = not isinstance(value, allowed) or (isinstance(value, bool) and spec.type != "bool")
    if wrong or (isinstance(value, float) and not math.isfinite(value)):
        raise ParameterError(f"{spec.name} = {value!r}: {spec.label} is {words}{f' in {spec.unit}' * bool(spec.unit)}")
    tests = {
        "gt": ("above", operator.gt),
        "ge": ("at least", operator.ge),
        "lt": ("below", operator.lt),
        "le": ("at most", operator.le),
    }
    for limit, bound in spec.limits.items():
        if limit in tests and not tests[limit][1](value, bound):
            told = f"{spec.label} must be {tests[limit][0]} {bound:g} {spec.unit}".rstrip()
            raise ParameterError(f"{spec.name} = {value!r}: {told}")


def clear_override(library: Library, exposures: Iterable[int], names: tuple[str, ...]) -> None:
    """End overrides of exposures; they stay in the history."""
    o = schema.overrides
    with library.write() as transaction:
        for exposure in exposures:
            records.row_of(transaction.connection, exposure)
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
