"""What people do to the queue: look, put on top, move, keep back, pause, cancel, try again. By any number at once."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from focusnb.errors import ParameterError
from focusnb.project import schema
from focusnb.project.library import Library, Transaction, now
from focusnb.project.tasks import (
    MANY,
    ORDERS,
    UNDER_WAY,
    WAITING,
    in_order,
    refresh,
    settings,
    submit,
    top_priority,
)

if TYPE_CHECKING:
    import pandas as pd

LOG_ORDERS = {"time": "started_at", "worker": "worker", "exposure": "exposure", "step": "step", "status": "status"}
"""What the log can be sorted by, with its column."""


# Looking


def state(library: Library) -> dict[str, Any]:
    """How the queue is set: its order, and whether it is paused."""
    with library.read() as connection:
        paused, newest = settings(connection)
    return {"order": ORDERS[newest], "paused": paused}


def listing(library: Library) -> pd.DataFrame:
    """What is under way and what waits, in the order in which it is taken, one row per task."""
    import pandas as pd

    t, b, e, s = schema.tasks.c, schema.batches.c, schema.exposures.c, schema.sets.c
    named = (
        t.id.label("task"),
        sa.func.coalesce(e.exposure, s.name).label("exposure"),
        t.exposure_id,
        t.set_id,
        t.state,
        t.steps,
        t.batch_id.label("batch"),
        b.trial,
        t.priority,
        t.attempts,
        b.created_at.label("queued_at"),
        b.who,
        t.started_at,
    )
    tables = (
        schema.tasks.join(schema.batches, b.id == t.batch_id)
        .outerjoin(schema.exposures, e.id == t.exposure_id)
        .outerjoin(schema.sets, s.id == t.set_id)
    )
    with library.read() as connection:
        query = sa.select(*named).select_from(tables)
        running = connection.execute(query.where(t.state.in_(UNDER_WAY)).order_by(t.started_at)).all()
        queued = connection.execute(query.where(t.state.in_(WAITING)).order_by(*in_order(connection))).all()
        words = {row.task_id: row for row in connection.execute(sa.select(schema.progress))}
    rows = []
    for row in [*running, *queued]:
        word = words.get(row.task)
        rows.append(
            {
                **row._mapping,
                "steps": ", ".join(row.steps),
                "step": None if word is None else word.step,
                "message": None if word is None else word.message,
                "worker": None if word is None else word.worker,
                "finished": [] if word is None else word.finished or [],
            }
        )
    names = [*(c.key for c in named), "step", "message", "worker", "finished"]
    table = pd.DataFrame(rows, columns=names)
    for name in ("exposure_id", "set_id"):
        table[name] = table[name].astype("Int64")
    for name in ("queued_at", "started_at"):
        table[name] = pd.to_datetime(table[name], format="ISO8601", utc=True)
    table.insert(0, "place", range(-len(running) + 1, len(queued) + 1))
    return table


def batches(library: Library) -> pd.DataFrame:
    """What was asked for: one row per batch with its steps, parameters, and number of tasks by state."""
    import pandas as pd

    t, b = schema.tasks.c, schema.batches.c
    with library.read() as connection:
        asked = connection.execute(sa.select(schema.batches).order_by(b.id)).mappings().all()
        numbers = connection.execute(
            sa.select(t.batch_id, t.state, sa.func.count().label("n")).group_by(t.batch_id, t.state)
        ).all()
    states: dict[int, dict[str, int]] = {}
    for row in numbers:
        states.setdefault(row.batch_id, {})[row.state] = row.n
    rows = [
        {
            "batch": row["id"],
            "created_at": row["created_at"],
            "who": row["who"],
            "steps": ", ".join(row["steps"]),
            "trial": row["trial"],
            "params": json.dumps((row["params"] or {}).get("params", {})),
            **{state: states.get(row["id"], {}).get(state, 0) for state in (*WAITING, *UNDER_WAY, *_ENDED)},
        }
        for row in asked
    ]
    table = pd.DataFrame(rows)
    return table.set_index("batch") if len(table) else table


_ENDED = ("done", "failed", "cancelled")


def log(library: Library, *, sort: str = "time", limit: int | None = 1000) -> pd.DataFrame:
    """What happened and is happening: one row per step of an exposure, newest first, or sorted otherwise.

    sort : time, worker, exposure, step or status
    limit : only so many of the latest rows
    """
    import pandas as pd

    if sort not in LOG_ORDERS:
        raise ParameterError(f"{sort} is nothing the log can be sorted by; there are {', '.join(LOG_ORDERS)}")
    r, e, s = schema.runs.c, schema.exposures.c, schema.sets.c
    query = (
        sa.select(
            r.started_at,
            r.worker,
            r.host,
            r.process,
            sa.func.coalesce(e.exposure, s.name).label("exposure"),
            r.step,
            r.status,
            r.attempt,
            r.seconds,
            r.trial,
            r.reason,
            r.task_id,
        )
        .select_from(
            schema.runs.outerjoin(schema.exposures, e.id == r.exposure_id).outerjoin(schema.sets, s.id == r.set_id)
        )
        .order_by(r.revision.desc())
    )
    if limit is not None:
        query = query.limit(limit)
    with library.read() as connection:
        rows = [dict(row._mapping) for row in connection.execute(query)]
        words = {row.task_id: row for row in connection.execute(sa.select(schema.progress))}
    for row in rows:
        word = words.get(row.pop("task_id"))
        if word is None or row["status"] != "running":
            continue
        row["worker"] = word.worker
        ended = next((item for item in word.finished or [] if item["step"] == row["step"]), None)
        if ended is not None:
            row |= {"status": ended["status"], "seconds": ended["seconds"], "reason": ended["reason"] or None}
        elif word.step == row["step"]:
            row["reason"] = word.message
        else:
            row["status"] = "waiting"
    names = [column.key for column in query.selected_columns if column.key != "task_id"]
    table = pd.DataFrame(rows, columns=names)
    table["started_at"] = pd.to_datetime(table["started_at"], format="ISO8601", utc=True)
    table["seconds"] = table["seconds"].astype("float64")
    table.attrs["units"] = {"seconds": "s"}
    column = LOG_ORDERS[sort]
    by = ["started_at"] if column == "started_at" else [column, "started_at"]
    return table.sort_values(by, ascending=[name != "started_at" for name in by], kind="stable", ignore_index=True)


def find(
    library: Library,
    *,
    tasks: Iterable[str] | None = None,
    exposures: Iterable[int] | None = None,
    batch: int | None = None,
    states: Sequence[str] = WAITING,
) -> list[str]:
    """Ids of tasks in these states: those named (by id, or the beginning of one), of exposures, or of a batch; or all.

    ParameterError for a task that is none, for a beginning that fits several, and for a batch there is not.
    """
    t = schema.tasks.c
    with library.read() as connection:
        query = sa.select(t.id).where(t.state.in_(states)).order_by(*in_order(connection))
        if batch is not None:
            if connection.execute(sa.select(schema.batches.c.id).where(schema.batches.c.id == batch)).first() is None:
                raise ParameterError(f"there is no batch {batch}; 'focusnb queue show' lists those there are")
            query = query.where(t.batch_id == batch)
        if exposures is not None:
            wanted = {int(identity) for identity in exposures}
            if len(wanted) <= MANY:
                query = query.where(t.exposure_id.in_(wanted))
            else:
                query = query.add_columns(t.exposure_id)
                rows = connection.execute(query).all()
                return [row.id for row in rows if row.exposure_id in wanted]
        if tasks is None:
            return [str(task) for task in connection.execute(query).scalars()]
        found = []
        for name in tasks:
            like = connection.execute(sa.select(t.id).where(t.id.startswith(name, autoescape=True)).limit(2)).all()
            if len(like) != 1:
                told = "several tasks; write more of it" if like else "no task; 'focusnb queue show' lists them"
                raise ParameterError(f"{name} is the beginning of {told}")
            found.append(like[0].id)
        allowed = set(connection.execute(query).scalars())
        return [task for task in dict.fromkeys(found) if task in allowed]


# Changing


def set_order(library: Library, order: str) -> None:
    """Take what waits first come first served, or the newest first; what was put on top comes before either."""
    if order not in ORDERS:
        raise ParameterError(f"{order} is no order of the queue; there are {', '.join(ORDERS)}")
    _set(library, "queue_order", order)


def pause(library: Library, paused: bool = True) -> None:
    """Let nothing more begin, or go on. What is under way is finished."""
    _set(library, "queue_paused", "yes" if paused else "no")


def _set(library: Library, key: str, value: str) -> None:
    m = schema.meta
    with library.write() as transaction:
        _ = transaction.revision
        transaction.execute(m.delete().where(m.c.key == key))
        transaction.execute(m.insert().values(key=key, value=value))


def put_first(library: Library, tasks: Sequence[str]) -> int:
    """Put waiting tasks on top of all others, in the order given; returns how many still waited."""
    t = schema.tasks
    with library.write() as transaction:
        top = top_priority(transaction) + 1
        moved = 0
        for place, task in enumerate(tasks):
            moved += transaction.execute(
                t.update()
                .where((t.c.id == task) & t.c.state.in_(WAITING))
                .values(priority=top, position=float(place), revision=transaction.revision)
            ).rowcount
    return moved


def move(library: Library, tasks: Sequence[str], *, before: str | None = None, after: str | None = None) -> int:
    """Move waiting tasks to just before or after another waiting one; returns how many still waited.

    ParameterError if that other one does not wait any more.
    """
    if (before is None) == (after is None):
        raise ParameterError("give the task to move before, or the one to move after")
    t = schema.tasks
    anchor = before or after
    with library.write() as transaction:
        order = [
            (row.id, row.priority)
            for row in transaction.execute(
                sa.select(t.c.id, t.c.priority)
                .where(t.c.state.in_(WAITING))
                .order_by(*in_order(transaction.connection))
            )
        ]
        present = dict(order)
        if anchor not in present:
            raise ParameterError(f"task {anchor} does not wait any more; nothing was moved")
        moved = [task for task in dict.fromkeys(tasks) if task in present and task != anchor]
        left = [row for row in order if row[0] not in set(moved)]
        place = next(i for i, (task, _) in enumerate(left) if task == anchor) + (after is not None)
        # what stands above something put on top is on top as well
        level = present[anchor]
        left[place:place] = [(task, level) for task in moved]
        _renumber(transaction, left)
    return len(moved)


def _renumber(transaction: Transaction, order: Sequence[tuple[str, int]]) -> None:
    """Give tasks new places in this order."""
    t = schema.tasks
    _, newest = settings(transaction.connection)
    rows = []
    for number, (task, priority) in enumerate(order):
        position = float(len(order) - number if newest and not priority else number)
        rows.append({"i": task, "r": priority, "p": position, "v": transaction.revision})
    if rows:
        transaction.execute(
            t.update()
            .where(t.c.id == sa.bindparam("i"))
            .values(priority=sa.bindparam("r"), position=sa.bindparam("p"), revision=sa.bindparam("v")),
            rows,
        )


def hold(library: Library, tasks: Sequence[str], held: bool = True) -> int:
    """Keep waiting tasks back, or let them go again; they keep their places. Returns how many it concerned."""
    before, after = ("queued", "held") if held else ("held", "queued")
    t = schema.tasks
    changed = 0
    with library.write() as transaction:
        for start in range(0, len(tasks), MANY):
            part = t.c.id.in_(tasks[start : start + MANY]) & (t.c.state == before)
            changed += transaction.execute(
                t.update().where(part).values(state=after, revision=transaction.revision)
            ).rowcount
    return changed


def cancel(library: Library, tasks: Sequence[str]) -> int:
    """Take tasks out of the queue, and ask those under way to stop; returns how many it concerned."""
    t = schema.tasks
    ended = {"state": "cancelled", "reason": "it was cancelled", "finished_at": now()}
    concerned, exposures, sets = 0, [], []
    with library.write() as transaction:
        for start in range(0, len(tasks), MANY):
            part = t.c.id.in_(tasks[start : start + MANY])
            active = sa.select(t.c.exposure_id, t.c.set_id).where(part & t.c.state.in_((*WAITING, "running")))
            for row in transaction.execute(active):
                concerned += 1
                exposures += [row.exposure_id] * (row.exposure_id is not None)
                sets += [row.set_id] * (row.set_id is not None)
            for states, values in ((WAITING, ended), (("running",), {"state": "cancelling"})):
                changed = t.update().where(part & t.c.state.in_(states))
                transaction.execute(changed.values(**values, revision=transaction.revision))
        refresh(transaction, "exposure", exposures)
        refresh(transaction, "set", sets)
    return concerned


def retry(library: Library, exposures: Iterable[int] | None = None, *, first: bool = False) -> int:
    """Queue again what failed last, with the workflow and parameters it was queued with; returns how many exposures.

    exposures : only these; by default all whose last task failed
    """
    t, b = schema.tasks.c, schema.batches.c
    wanted = None if exposures is None else {int(identity) for identity in exposures}
    with library.read() as connection:
        rows = connection.execute(
            sa.select(t.exposure_id, t.steps, t.state, b.params, b.id)
            .join(schema.batches, b.id == t.batch_id)
            .where(b.trial.is_(None) & t.exposure_id.is_not(None))
            .order_by(b.id, t.position)
        ).all()
    last = {row.exposure_id: row for row in rows}
    groups: dict[str, tuple[dict[str, Any], dict[int, list[str]]]] = {}
    for identity, row in last.items():
        if row.state != "failed" or (wanted is not None and identity not in wanted):
            continue
        options = {**(row.params or {}), "retry": True}
        _, chains = groups.setdefault(json.dumps(options, sort_keys=True), (options, {}))
        chains[identity] = list(row.steps)
    for options, chains in groups.values():
        submit(
            library,
            chains,
            first=first,
            params=options.get("params"),
            everything=bool(options.get("everything")),
            retry=True,
            timeout=options.get("timeout"),
        )
    return sum(len(chains) for _, chains in groups.values())


def cancelled_last(library: Library, workflows: Sequence[frozenset[str]]) -> set[int]:
    """Exposures whose last task of one of these workflows was cancelled: they are not queued again by themselves."""
    t, b = schema.tasks, schema.batches
    with library.read() as connection:
        cancelled = set(
            connection.execute(
                sa.select(t.c.exposure_id)
                .join(b, b.c.id == t.c.batch_id)
                .where((t.c.state == "cancelled") & t.c.exposure_id.is_not(None) & b.c.trial.is_(None))
            ).scalars()
        )
        if not cancelled:
            return set()
        latest: dict[int, tuple[int, str]] = {}
        ids = sorted(cancelled)
        for start in range(0, len(ids), MANY):
            rows = connection.execute(
                sa.select(t.c.exposure_id, t.c.batch_id, t.c.state, t.c.steps)
                .join(b, b.c.id == t.c.batch_id)
                .where(t.c.exposure_id.in_(ids[start : start + MANY]) & b.c.trial.is_(None))
            )
            for row in rows:
                if frozenset(row.steps) not in workflows:
                    continue
                if row.batch_id >= latest.get(row.exposure_id, (0, ""))[0]:
                    latest[row.exposure_id] = (row.batch_id, row.state)
    return {identity for identity, (_, last) in latest.items() if last == "cancelled"}
