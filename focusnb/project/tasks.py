"""Batches, tasks and attempts in the library, and the lease that lets one process at a time work on them."""

from __future__ import annotations

import os
import re
import shutil
import socket
import time
import uuid
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil
import sqlalchemy as sa

from focusnb.errors import ParameterError, ProjectError
from focusnb.io import files
from focusnb.project import schema
from focusnb.project.library import Library, Transaction, now, who
from focusnb.project.records import overall
from focusnb.steps.task import run_folder_name

if TYPE_CHECKING:
    from focusnb.project.project import Project

HEARTBEAT = 5.0
"""Seconds between two signs of life of the process that works on a project."""

SILENCE = 30.0
"""Seconds of silence after which a process on another host counts as dead."""

MOST_ATTEMPTS = 3
"""How often a task is started before its exposure fails because its worker keeps dying."""


_working: set[tuple[str, int]] = set()
"""Libraries this process works on, with the epoch."""


class LeaseLost(ProjectError):
    """Another process has taken this project over; this one may not write any more."""


@dataclass(frozen=True)
class QueuedTask:
    """A task as it waits."""

    id: str
    batch: int
    exposure: int
    steps: tuple[str, ...]
    params: Mapping[str, Mapping[str, Any]]
    trial: str | None
    attempts: int
    everything: bool
    retry: bool


# The lease


def take_lease(library: Library) -> int:
    """Become the one process that works on a project; returns the epoch its writes carry.

    A holder that is dead on this host, or silent on another, is succeeded at once; otherwise ProjectError names it.
    """
    table = schema.lease
    with library.write() as transaction:
        held = transaction.execute(sa.select(table)).mappings().first()
        if held is not None and held["process"] is not None and is_alive(held, library.location):
            raise ProjectError(f"{library.location}: {describe_holder(held)}; stop it first")
        epoch = (held["epoch"] if held is not None else 0) + 1
        transaction.execute(table.delete())
        transaction.execute(
            table.insert().values(
                id=1,
                epoch=epoch,
                host=socket.gethostname(),
                process=os.getpid(),
                process_started=psutil.Process().create_time(),
                since=time.time(),
                heartbeat=time.time(),
            )
        )
    _working.add((str(library.location), int(epoch)))
    return int(epoch)


def is_alive(held: Mapping[str, Any], location: str | Path) -> bool:
    """Whether the process that holds a lease still works on the library at this place."""
    if held["host"] != socket.gethostname():
        return bool(time.time() - held["heartbeat"] < SILENCE)
    if held["process"] == os.getpid():
        # a kernel whose last attempt ended without being able to write is free to try again
        return (str(location), held["epoch"]) in _working
    try:
        process = psutil.Process(held["process"])
        # a number may have been given to another process since
        return bool(
            abs(process.create_time() - held["process_started"]) < 1 and process.status() != psutil.STATUS_ZOMBIE
        )
    except psutil.NoSuchProcess:
        return False


def describe_holder(held: Mapping[str, Any]) -> str:
    """Say who works on a project, and since when."""
    since = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(held["since"]))
    return f"process {held['process']} on {held['host']} works on this project since {since}"


def beat(library: Library, epoch: int) -> None:
    """Give a sign of life; LeaseLost if somebody else has taken over."""
    with library.write() as transaction:
        check_lease(transaction, epoch)
        transaction.execute(schema.lease.update().values(heartbeat=time.time()))


def release_lease(library: Library, epoch: int) -> None:
    """Stop being the one that works on the project."""
    forget_lease(library, epoch)
    table = schema.lease
    with library.write() as transaction:
        transaction.execute(table.update().where(table.c.epoch == epoch).values(process=None))


def forget_lease(library: Library, epoch: int) -> None:
    """Note that this process does not work on a project any more, where the library cannot be told."""
    _working.discard((str(library.location), epoch))


def check_lease(transaction: Transaction, epoch: int) -> None:
    """LeaseLost unless this epoch is the present one; 0 is for callers outside a processor."""
    if not epoch:
        return
    present = transaction.execute(sa.select(schema.lease.c.epoch)).scalar()
    if present != epoch:
        raise LeaseLost(
            f"this process was succeeded by another one (epoch {epoch}, now {present}); it writes nothing more"
        )


# Batches and tasks


def submit(
    library: Library,
    steps: Mapping[int, Sequence[str]],
    *,
    first: bool = False,
    trial: str | None = None,
    params: Mapping[str, Mapping[str, Any]] | None = None,
    everything: bool = False,
    retry: bool = False,
) -> int:
    """Queue the named steps for exposures, at the end or at the front; returns the batch's id.

    Exposures that wait already for the same steps with the same options are not queued twice.
    """
    t, b = schema.tasks, schema.batches
    if trial is not None and not re.fullmatch(r"[\w\-+][\w.\-+ ]*", trial):
        raise ParameterError(f"{trial!r} is no name of a trial: use letters, digits and . _ - +")
    with library.write() as transaction:
        names = sorted({name for chain in steps.values() for name in chain})
        options = {"params": {k: dict(v) for k, v in (params or {}).items()}, "everything": everything, "retry": retry}
        batch = transaction.execute(
            b.insert().values(
                created_at=now(), who=who(), steps=names, params=options, trial=trial, revision=transaction.revision
            )
        ).inserted_primary_key[0]
        alike = (t.c.batch_id == b.c.id) & b.c.trial.is_(None) & t.c.state.in_(("queued", "running"))
        active = (
            transaction.execute(sa.select(t.c.exposure_id, t.c.steps, b.c.params).where(alike)) if not trial else ()
        )
        waiting = {(row.exposure_id, tuple(row.steps)) for row in active if row.params == options}
        bound = transaction.execute(
            sa.select(sa.func.min(t.c.position) if first else sa.func.max(t.c.position))
        ).scalar()
        rows = [
            {
                "id": uuid.uuid4().hex,
                "batch_id": batch,
                "exposure_id": exposure,
                "steps": list(chain),
                "state": "queued",
                "position": 0.0,
                "attempts": 0,
                "revision": transaction.revision,
            }
            for exposure, chain in steps.items()
            if (exposure, tuple(chain)) not in waiting
        ]
        start = (bound or 0.0) - len(rows) if first else (bound or 0.0) + 1
        for offset, row in enumerate(rows):
            row["position"] = start + offset
        if rows:
            transaction.execute(t.insert(), rows)
        if trial is None:
            _set_status(transaction, [row["exposure_id"] for row in rows], "queued")  # type: ignore[misc]
    return int(batch)


def _set_status(transaction: Transaction, exposures: Sequence[int], status: str) -> None:
    e = schema.exposures
    for start in range(0, len(exposures), 500):
        part = e.c.id.in_(exposures[start : start + 500])
        transaction.execute(e.update().where(part).values(status=status, revision=transaction.revision))


def waiting(library: Library, limit: int) -> list[QueuedTask]:
    """The tasks at the head of the queue."""
    t, b = schema.tasks.c, schema.batches.c
    query = (
        sa.select(t.id, t.batch_id, t.exposure_id, t.steps, t.attempts, b.params, b.trial)
        .join(schema.batches, b.id == t.batch_id)
        .where(t.state == "queued")
        .order_by(t.position)
        .limit(limit)
    )
    with library.read() as connection:
        rows = connection.execute(query).all()
    return [
        QueuedTask(
            id=row.id,
            batch=row.batch_id,
            exposure=row.exposure_id,
            steps=tuple(row.steps),
            params=(row.params or {}).get("params", {}),
            trial=row.trial,
            attempts=row.attempts,
            everything=bool((row.params or {}).get("everything")),
            retry=bool((row.params or {}).get("retry")),
        )
        for row in rows
    ]


def counts(library: Library) -> dict[str, int]:
    """Number of tasks by state."""
    t = schema.tasks.c
    with library.read() as connection:
        return dict(connection.execute(sa.select(t.state, sa.func.count()).group_by(t.state)).all())  # type: ignore[arg-type]


def start(library: Library, epoch: int, task: QueuedTask, runs: Iterable[Mapping[str, Any]]) -> None:
    """Record that a task goes to a worker: its attempts exist from now on, whatever happens to it."""
    t = schema.tasks
    with library.write() as transaction:
        check_lease(transaction, epoch)
        transaction.execute(
            t.update()
            .where(t.c.id == task.id)
            .values(state="running", attempts=task.attempts + 1, epoch=epoch, revision=transaction.revision)
        )
        common = {
            "task_id": task.id,
            "exposure_id": task.exposure,
            "attempt": task.attempts + 1,
            "status": "running",
            "trial": task.trial,
            "started_at": now(),
            "host": socket.gethostname(),
            "revision": transaction.revision,
        }
        transaction.execute(schema.runs.insert(), [{**common, **run} for run in runs])
        if task.trial is None:
            _set_status(transaction, [task.exposure], "running")


def finish_task(transaction: Transaction, task: str, state: str, reason: str | None = None) -> None:
    """Note how a task ended."""
    t = schema.tasks
    transaction.execute(
        t.update().where(t.c.id == task).values(state=state, reason=reason, revision=transaction.revision)
    )
    transaction.execute(schema.progress.delete().where(schema.progress.c.task_id == task))


def lose(project: Project, epoch: int, task: str, reason: str, *, count: bool = True) -> bool:
    """A worker died with a task: its attempt is lost; True if the task waits again, False if it does not.

    count : whether this attempt speaks against the exposure; not where a person stopped the work
    """
    from focusnb.project.storing import refresh_status, write_record

    t, r, b = schema.tasks, schema.runs, schema.batches
    with project.library.write() as transaction:
        check_lease(transaction, epoch)
        row = transaction.execute(sa.select(t).where(t.c.id == task)).mappings().one()
        if row["state"] != "running":
            return bool(row["state"] == "queued")  # stored, or given back, at the last moment
        trial = transaction.execute(sa.select(b.c.trial).where(b.c.id == row["batch_id"])).scalar()
        open_runs = (r.c.task_id == task) & (r.c.status == "running")
        begun = {
            run.step: run for run in transaction.execute(sa.select(r.c.step, r.c.fingerprint, r.c.id).where(open_runs))
        }
        first = next((begun[step] for step in row["steps"] if step in begun), None)
        transaction.execute(
            r.update()
            .where(open_runs)
            .values(status="lost", reason=reason, finished_at=now(), revision=transaction.revision)
        )
        again = row["attempts"] < MOST_ATTEMPTS or not count
        told = reason if again else f"{reason} (the worker died {row['attempts']} times with this exposure)"
        finish_task(transaction, task, "queued" if again else "failed", told)
        if not count:
            transaction.execute(t.update().where(t.c.id == task).values(attempts=max(0, row["attempts"] - 1)))
        exposure = (
            transaction.execute(sa.select(schema.exposures).where(schema.exposures.c.id == row["exposure_id"]))
            .mappings()
            .one()
        )
        if trial is not None:
            refresh_status(transaction, row["exposure_id"])
        elif again or first is None:
            _set_status(transaction, [row["exposure_id"]], "queued")
        else:
            current = {**(exposure["current"] or {})}
            current[first.step] = {
                "run": first.id,
                "status": "failed",
                "fingerprint": first.fingerprint,
                "reason": told,
                "error": "Lost",
                "beside": not project.is_usual(first.step),
            }
            status, why = overall(current)
            transaction.update_exposure(row["exposure_id"], {"current": current, "status": status, "reason": why})
            write_record(project, transaction, row["exposure_id"])
        folder = project.folder / exposure["folder"] / run_folder_name(task, row["epoch"] or 0)
    shutil.rmtree(folder, ignore_errors=True)
    return again


def recover(project: Project, epoch: int) -> int:
    """Take over what an interrupted process left: its tasks wait again, its files are removed. Returns how many."""
    t = schema.tasks.c
    with project.library.read() as connection:
        left = list(connection.execute(sa.select(t.id).where(t.state == "running")).scalars())
    for task in left:
        # the end of the process says nothing about the exposures it had in hand
        lose(project, epoch, task, "processing was interrupted", count=False)
    for left_over in (project.folder / "exposures").glob("*/*/.*"):
        if left_over.name.startswith(".run-"):
            shutil.rmtree(left_over, ignore_errors=True)
        elif files.is_left_over(left_over):
            left_over.unlink(missing_ok=True)
    return len(left)
