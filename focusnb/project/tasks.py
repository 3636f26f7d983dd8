"""Batches and tasks in the library: how they are queued, taken by the process that works, and how they end.

A task is queued, held (kept back by somebody), running, cancelling (running, and asked to stop), done, failed or
cancelled. What people do to the queue is in :mod:`focusnb.project.queue`.
"""

from __future__ import annotations

import os
import re
import secrets
import shutil
import socket
import time
import uuid
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from focusnb.errors import ParameterError
from focusnb.io import files
from focusnb.project import schema
from focusnb.project.lease import check_lease
from focusnb.project.library import Library, Transaction, now, who
from focusnb.project.records import overall
from focusnb.steps.task import Progress, run_folder_name

if TYPE_CHECKING:
    from focusnb.project.project import Project

MOST_ATTEMPTS = 3
"""How often a task is started before its exposure fails because its worker keeps dying."""

WAITING = ("queued", "held")
UNDER_WAY = ("running", "cancelling")
ACTIVE = WAITING + UNDER_WAY

ORDERS = ("first-come", "newest-first")

MANY = 500
"""Rows named in one statement: SQLite bounds its variables."""


@dataclass(frozen=True)
class QueuedTask:
    """A task as it waits; one over a set has no exposure."""

    id: str
    batch: int
    exposure: int | None
    set: int | None
    steps: tuple[str, ...]
    params: Mapping[str, Mapping[str, Any]]
    trial: str | None
    attempts: int
    everything: bool
    retry: bool
    timeout: float | None


# Queueing


def submit(
    library: Library,
    steps: Mapping[int, Sequence[str]],
    *,
    first: bool = False,
    trial: str | None = None,
    params: Mapping[str, Mapping[str, Any]] | None = None,
    everything: bool = False,
    retry: bool = False,
    timeout: float | None = None,
    over: str = "exposure",
) -> int:
    """Queue the named steps for exposures (or sets), at the end or on top; returns the batch's id.

    See :func:`submit_within`.
    """
    with library.write() as transaction:
        return submit_within(
            transaction,
            steps,
            first=first,
            trial=trial,
            params=params,
            everything=everything,
            retry=retry,
            timeout=timeout,
            over=over,
        )


def submit_within(
    transaction: Transaction,
    steps: Mapping[int, Sequence[str]],
    *,
    first: bool = False,
    trial: str | None = None,
    params: Mapping[str, Mapping[str, Any]] | None = None,
    everything: bool = False,
    retry: bool = False,
    timeout: float | None = None,
    over: str = "exposure",
    held: bool = False,
    during: Mapping[str, Any] | None = None,
) -> int:
    """Queue steps as part of a transaction; returns the batch's id.

    held : they are kept back until somebody releases them
    during : what the importing process runs before it releases them, see :mod:`focusnb.processing.importing`

    Exposures for which the same steps with the same options wait, or are held, are not queued twice, but put on top
    where that is asked for. What is under way does not count: it may have begun with other choices.
    """
    t, b = schema.tasks, schema.batches
    if trial is not None and not re.fullmatch(r"[\w\-+][\w.\-+ ]*", trial):
        raise ParameterError(f"{trial!r} is no name of a trial: use letters, digits and . _ - +")
    options: dict[str, Any] = {
        "params": {k: dict(v) for k, v in (params or {}).items()},
        "everything": everything,
        "retry": retry,
    }
    if timeout is not None:
        options["timeout"] = timeout
    if during is not None:
        options["during"] = dict(during)
    subject = t.c.exposure_id if over == "exposure" else t.c.set_id
    alike = (t.c.batch_id == b.c.id) & b.c.trial.is_(None) & t.c.state.in_(WAITING)
    query = sa.select(subject.label("subject"), t.c.steps, b.c.params, t.c.id, t.c.batch_id).where(alike)
    if len(steps) <= MANY:
        query = query.where(subject.in_(list(steps)))
    active = transaction.execute(query) if trial is None else ()
    known = {(row.subject, tuple(row.steps)): row for row in active if _is_same(row.params or {}, options)}
    if known and not first and all((identity, tuple(chain)) in known for identity, chain in steps.items()):
        return int(next(iter(known.values())).batch_id)
    names = sorted({name for chain in steps.values() for name in chain})
    batch = transaction.execute(
        b.insert().values(
            created_at=now(), who=who(), steps=names, params=options, trial=trial, revision=transaction.revision
        )
    ).inserted_primary_key[0]
    top, bound = 0, transaction.execute(sa.select(sa.func.max(t.c.position))).scalar() or 0.0
    if first:
        top = top_priority(transaction) + 1
    rows = [
        {
            "id": uuid.uuid4().hex,
            "batch_id": batch,
            "exposure_id": identity if over == "exposure" else None,
            "set_id": identity if over == "set" else None,
            "steps": list(chain),
            "state": "held" if held else "queued",
            "priority": top,
            "position": bound + 1 + place,
            "attempts": 0,
            "revision": transaction.revision,
        }
        for place, (identity, chain) in enumerate(steps.items())
        if (identity, tuple(chain)) not in known
    ]
    if rows:
        transaction.execute(t.insert(), rows)
    if first:
        again = [known.get((identity, tuple(chain))) for identity, chain in steps.items()]
        for place, row in enumerate(again):
            if row is not None:
                # two that were put on top one after the other have the same position within their priorities
                values = {"priority": top, "position": bound + 1 + place, "revision": transaction.revision}
                transaction.execute(t.update().where(t.c.id == row.id).values(values))
    if trial is None:
        refresh(transaction, over, [row[f"{over}_id"] for row in rows])  # type: ignore[misc]
    return int(batch)


def before_release(library: Library) -> list[tuple[str, int, tuple[str, ...]]]:
    """Tasks held until their importing process has run its own steps: task, exposure and those steps, oldest first."""
    t, b = schema.tasks.c, schema.batches.c
    query = sa.select(t.id, t.exposure_id, b.params).join(schema.batches, b.id == t.batch_id)
    with library.read() as connection:
        rows = connection.execute(query.where(t.state == "held").order_by(t.exposure_id)).all()
    return [
        (row.id, row.exposure_id, tuple(row.params["during"]["steps"]))
        for row in rows
        if (row.params or {}).get("during")
    ]


def release(library: Library, task: str) -> None:
    """Let a task go whose exposure's import has ended with its own steps, unless it is to stay held."""
    t, b = schema.tasks, schema.batches
    with library.write() as transaction:
        row = transaction.execute(
            sa.select(t.c.state, t.c.batch_id, b.c.params).join(b, b.c.id == t.c.batch_id).where(t.c.id == task)
        ).one_or_none()
        during = (row.params or {}).get("during") if row is not None else None
        if row is None or not during:
            return  # another process was faster, or its exposure was deleted
        params = {name: value for name, value in (row.params or {}).items() if name != "during"}
        transaction.update(b, row.batch_id, {"params": params})
        if row.state == "held" and not during.get("keep"):
            transaction.update(t, task, {"state": "queued"})


def _is_same(waiting: Mapping[str, Any], asked: Mapping[str, Any]) -> bool:
    """Whether what waits does what is asked for."""
    return all(waiting.get(key) == asked[key] for key in ("params", "everything")) and (
        bool(waiting.get("retry")) >= bool(asked["retry"])
    )


def top_priority(transaction: Transaction) -> int:
    """The highest priority among what waits, or may wait again."""
    t = schema.tasks.c
    highest = transaction.execute(sa.select(sa.func.max(t.priority)).where(t.state.in_(ACTIVE))).scalar()
    return int(highest or 0)


# Status of exposures and sets


def refresh(transaction: Transaction, over: str, ids: Iterable[int]) -> None:
    """Set status and reason of exposures (or sets) from what is under way for them and from their adopted results."""
    table = schema.exposures if over == "exposure" else schema.sets
    t, b = schema.tasks.c, schema.batches.c
    subject = t.exposure_id if over == "exposure" else t.set_id
    wanted = sorted(set(ids))
    changed = []
    for start in range(0, len(wanted), MANY):
        part = wanted[start : start + MANY]
        under_way: dict[int, set[str]] = {}
        active = (
            sa.select(subject, t.state)
            .join(schema.batches, b.id == t.batch_id)
            .where(subject.in_(part) & t.state.in_(ACTIVE) & b.trial.is_(None))
        )
        for identity, state in transaction.execute(active):
            under_way.setdefault(identity, set()).add(state)
        rows = sa.select(table.c.id, table.c.status, table.c.reason, table.c.current).where(table.c.id.in_(part))
        for row in transaction.execute(rows):
            status, reason = status_of(under_way.get(row.id, set()), row.current or {})
            if (status, reason) != (row.status, row.reason):
                changed.append({"i": row.id, "s": status, "r": reason, "v": transaction.revision})
    if changed:
        transaction.execute(
            table.update()
            .where(table.c.id == sa.bindparam("i"))
            .values(status=sa.bindparam("s"), reason=sa.bindparam("r"), revision=sa.bindparam("v")),
            changed,
        )


def active_states(transaction: Transaction, over: str, identity: int) -> set[str]:
    """States of the tasks under way for an exposure (or a set), trials left out."""
    return set(transaction.execute(_ACTIVE_STATES[over], {"identity": identity}).scalars())


def _active_states(subject: sa.Column[Any]) -> sa.Select[Any]:
    t, b = schema.tasks.c, schema.batches.c
    query = sa.select(t.state).join(schema.batches, b.id == t.batch_id)
    return query.where((subject == sa.bindparam("identity")) & t.state.in_(ACTIVE) & b.trial.is_(None))


_ACTIVE_STATES = {
    "exposure": _active_states(schema.tasks.c.exposure_id),
    "set": _active_states(schema.tasks.c.set_id),
}


def status_of(states: set[str], current: Mapping[str, Mapping[str, Any]]) -> tuple[str, str | None]:
    """Status and reason by the states of the tasks under way and the results there are."""
    status, reason = overall(current)
    if states & set(UNDER_WAY):
        status = "running"
    elif states & set(WAITING):
        status = "queued"
    return status, reason


# Taking and ending


def settings(connection: sa.Connection) -> tuple[bool, bool]:
    """Whether the queue is paused, and whether the newest come first."""
    m = schema.meta.c
    found = dict(
        connection.execute(sa.select(m.key, m.value).where(m.key.in_(("queue_order", "queue_paused")))).all()  # type: ignore[arg-type]
    )
    return found.get("queue_paused") == "yes", found.get("queue_order") == "newest-first"


def in_order(connection: sa.Connection) -> tuple[Any, ...]:
    """How the queue is ordered, as terms for ORDER BY: what was put on top, then by place."""
    t = schema.tasks.c
    _, newest = settings(connection)
    place = sa.case((t.priority > 0, t.position), else_=-t.position if newest else t.position)
    # one that was lost waits again at a place that may be taken: the id decides
    return t.priority.desc(), place, t.id


def waiting(library: Library, limit: int) -> list[QueuedTask]:
    """The tasks at the head of the queue; none while it is paused."""
    t, b = schema.tasks.c, schema.batches.c
    with library.read() as connection:
        paused, newest = settings(connection)
        if paused:
            return []
        query = (
            sa.select(t.id, t.batch_id, t.exposure_id, t.set_id, t.steps, t.attempts, b.params, b.trial)
            .join(schema.batches, b.id == t.batch_id)
            .where(t.state == "queued")
            .limit(limit)
        )
        # two looks along the index instead of one that sorts all that waits
        rows = connection.execute(query.where(t.priority > 0).order_by(t.priority.desc(), t.position, t.id)).all()
        if len(rows) < limit:
            place = t.position.desc() if newest else t.position
            rows = [*rows, *connection.execute(query.where(t.priority == 0).order_by(place, t.id)).all()][:limit]
    return [
        QueuedTask(
            id=row.id,
            batch=row.batch_id,
            exposure=row.exposure_id,
            set=row.set_id,
            steps=tuple(row.steps),
            params=(row.params or {}).get("params", {}),
            trial=row.trial,
            attempts=row.attempts,
            everything=bool((row.params or {}).get("everything")),
            retry=bool((row.params or {}).get("retry")),
            timeout=(row.params or {}).get("timeout"),
        )
        for row in rows
    ]


def counts(library: Library) -> dict[str, int]:
    """Number of tasks by state."""
    t = schema.tasks.c
    with library.read() as connection:
        return dict(connection.execute(sa.select(t.state, sa.func.count()).group_by(t.state)).all())  # type: ignore[arg-type]


def start(library: Library, epoch: int, task: QueuedTask, runs: Iterable[Mapping[str, Any]]) -> bool:
    """Record that a task goes to a worker: its attempts exist from now on, whatever happens to it.

    False if somebody cancelled it, kept it back, or paused the queue at the last moment.
    """
    with library.write() as transaction:
        check_lease(transaction, epoch)
        values = {"tried": task.attempts + 1, "by": epoch, "at": now(), "raised": transaction.revision}
        taken = transaction.execute(_TAKE, {"task": task.id, **values}).rowcount
        if not taken:
            return False
        common = {
            "task_id": task.id,
            "exposure_id": task.exposure,
            "set_id": task.set,
            "attempt": task.attempts + 1,
            "status": "running",
            "trial": task.trial,
            "started_at": now(),
            "host": socket.gethostname(),
            "revision": transaction.revision,
        }
        transaction.execute(schema.runs.insert(), [{**common, **run} for run in runs])
        if task.trial is None:
            table, identity = _subject(task.exposure, task.set)
            transaction.update(table, identity, {"status": "running"})
    return True


_PAUSED = sa.exists().where((schema.meta.c.key == "queue_paused") & (schema.meta.c.value == "yes"))

_TAKE = (
    schema.tasks.update()
    .where((schema.tasks.c.id == sa.bindparam("task")) & (schema.tasks.c.state == "queued") & ~_PAUSED)
    .values(
        state="running",
        attempts=sa.bindparam("tried"),
        epoch=sa.bindparam("by"),
        started_at=sa.bindparam("at"),
        finished_at=sa.null(),
        reason=sa.null(),
        revision=sa.bindparam("raised"),
    )
)


def _subject(exposure: int | None, set_id: int | None) -> tuple[sa.Table, int | None]:
    return (schema.exposures, exposure) if exposure is not None else (schema.sets, set_id)


def _refresh_of(transaction: Transaction, exposure: int | None, set_id: int | None) -> None:
    if exposure is not None:
        refresh(transaction, "exposure", [exposure])
    elif set_id is not None:
        refresh(transaction, "set", [set_id])


def finish_task(transaction: Transaction, task: str, state: str, reason: str | None = None) -> None:
    """Note how a task ended."""
    ended = None if state in ACTIVE else now()
    transaction.update(schema.tasks, task, {"state": state, "reason": reason, "finished_at": ended})
    transaction.execute(_FORGET_PROGRESS, {"task": task})


_FORGET_PROGRESS = schema.progress.delete().where(schema.progress.c.task_id == sa.bindparam("task"))


def drop(library: Library, epoch: int, task: QueuedTask, state: str, reason: str) -> None:
    """End a task that was not begun."""
    t = schema.tasks
    with library.write() as transaction:
        check_lease(transaction, epoch)
        present = transaction.execute(sa.select(t.c.state).where(t.c.id == task.id)).scalar()
        if present == "queued":
            finish_task(transaction, task.id, state, reason)
            if task.trial is None:
                _refresh_of(transaction, task.exposure, task.set)


def lose(project: Project, epoch: int, task: str, reason: str, *, count: bool = True, final: bool = False) -> bool:
    """A task came back without results: it waits again, or was cancelled meanwhile.

    count : whether this attempt speaks against the exposure; not where a person stopped the work
    final : the attempt that was the last one

    Returns False, and changes nothing, where it was tried often enough: its end has to be stored as an outcome.
    """
    t, r, b = schema.tasks, schema.runs, schema.batches
    with project.library.write() as transaction:
        check_lease(transaction, epoch)
        row = transaction.execute(sa.select(t).where(t.c.id == task)).mappings().one()
        if row["state"] not in UNDER_WAY:
            return True  # stored, or given back, at the last moment
        cancelled = row["state"] == "cancelling"
        if not cancelled and count and (final or row["attempts"] >= MOST_ATTEMPTS):
            return False
        trial = transaction.execute(sa.select(b.c.trial).where(b.c.id == row["batch_id"])).scalar()
        told = "it was cancelled" if cancelled else reason
        open_runs = (r.c.task_id == task) & (r.c.status == "running")
        begun = list(transaction.execute(sa.select(r.c.id).where(open_runs)).scalars())
        transaction.execute(
            r.update()
            .where(open_runs)
            .values(status="lost", reason=told, finished_at=now(), revision=transaction.revision)
        )
        finish_task(transaction, task, "cancelled" if cancelled else "queued", told)
        if not count or cancelled:
            transaction.execute(t.update().where(t.c.id == task).values(attempts=max(0, row["attempts"] - 1)))
        if trial is None:
            _refresh_of(transaction, row["exposure_id"], row["set_id"])
        folder = _folder_of(transaction, row["exposure_id"], row["set_id"])
    for run in begun if folder is not None else ():
        remove_run(project.folder / str(folder) / run_folder_name(task, row["epoch"] or 0, run))
    return True


def _folder_of(transaction: Transaction, exposure: int | None, set_id: int | None) -> str | None:
    table, identity = _subject(exposure, set_id)
    folder = transaction.execute(sa.select(table.c.folder).where(table.c.id == identity)).scalar()
    return None if folder is None else str(folder)


def remove_run(folder: Path) -> None:
    """Remove a run's folder. It is renamed first: a worker that still writes there finds it gone, and ends."""
    gone = folder.with_name(f"{folder.name}.gone-{secrets.token_hex(4)}")
    try:
        os.rename(folder, gone)
    except FileNotFoundError:
        return
    except OSError:
        gone = folder
    shutil.rmtree(gone, ignore_errors=True)


def remove_every_trace(folder: Path) -> None:
    """Remove a run's folder, also where its removal was interrupted after it was renamed."""
    remove_run(folder)
    for half_gone in folder.parent.glob(f"{folder.name}.*"):
        shutil.rmtree(half_gone, ignore_errors=True)


def under_way(library: Library, epoch: int) -> list[str]:
    """Tasks that the process with this epoch has begun and not ended."""
    t = schema.tasks.c
    with library.read() as connection:
        query = sa.select(t.id).where(t.state.in_(UNDER_WAY) & (t.epoch == epoch))
        return [str(task) for task in connection.execute(query).scalars()]


def choices_revision(library: Library) -> tuple[int, int]:
    """What changes when any choice is set or cleared."""
    p = schema.parameters.c
    with library.read() as connection:
        row = connection.execute(sa.select(sa.func.max(p.revision), sa.func.count())).one()
    return int(row[0] or 0), int(row[1])


def cancelling(library: Library) -> list[str]:
    """Running tasks that somebody asked to stop."""
    t = schema.tasks.c
    with library.read() as connection:
        return [str(task) for task in connection.execute(sa.select(t.id).where(t.state == "cancelling")).scalars()]


def recover(project: Project, epoch: int) -> int:
    """Take over what an interrupted process left: its tasks wait again, its files are removed. Returns how many."""
    t = schema.tasks.c
    with project.library.read() as connection:
        left = list(connection.execute(sa.select(t.id).where(t.state.in_(UNDER_WAY))).scalars())
    for task in left:
        # the end of the process says nothing about the exposures it had in hand
        lose(project, epoch, task, "processing was interrupted", count=False)
    # hidden folders among the groups are those in which imports, also of other hosts, make files ready
    for pattern in ("exposures/[!.]*/*/.*", "sets/*/.*"):
        for left_over in project.folder.glob(pattern):
            if left_over.name.startswith(".run-"):
                remove_run(left_over)
            elif files.is_left_over(left_over):
                left_over.unlink(missing_ok=True)
    return len(left)


# Progress


def note_progress(library: Library, epoch: int, words: Iterable[Progress]) -> None:
    """Keep the last word of each task under way, and what its steps have found so far; raises no revision."""
    p = schema.progress
    with library.write() as transaction:
        check_lease(transaction, epoch)
        ids = [word.task for word in words]
        known: dict[str, list[Any]] = {}
        for row in transaction.execute(sa.select(p.c.task_id, p.c.finished).where(p.c.task_id.in_(ids))):
            known[row.task_id] = row.finished or []
        running = set(
            transaction.execute(
                sa.select(schema.tasks.c.id).where(schema.tasks.c.id.in_(ids) & schema.tasks.c.state.in_(UNDER_WAY))
            ).scalars()
        )
        for word in words:
            if word.task not in running:
                continue
            ended = [
                {"step": s.step, "status": s.status, "seconds": s.seconds, "reason": s.reason, "values": dict(s.values)}
                for s in word.finished
            ]
            transaction.execute(p.delete().where(p.c.task_id == word.task))
            transaction.execute(
                p.insert().values(
                    task_id=word.task,
                    exposure_id=word.exposure or None,
                    step=word.step,
                    message=word.message,
                    fraction=word.fraction,
                    worker=word.worker or None,
                    finished=[*known.get(word.task, []), *ended],
                    at=time.time(),
                )
            )
