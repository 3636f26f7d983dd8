"""The tables of the library and how an older library becomes a present one.

``exposures`` and ``sets`` hold current values, one column per fact and finding, added as declarations appear.
``runs`` is append-only history. Every row a reader may show carries the ``revision`` that last changed it.
"""

from __future__ import annotations

from collections.abc import Callable

import sqlalchemy as sa

from focusnb.parameters import Spec

VERSION = 2
"""Schema version written by this focusnb."""

metadata = sa.MetaData()

meta = sa.Table("meta", metadata, sa.Column("key", sa.Text, primary_key=True), sa.Column("value", sa.Text))


def _revision() -> sa.Column[int]:
    return sa.Column("revision", sa.Integer, nullable=False, default=0, index=True)


exposures = sa.Table(
    "exposures",
    metadata,
    sa.Column("id", sa.Integer, primary_key=True, autoincrement=True),
    sa.Column("exposure", sa.Text, nullable=False),
    sa.Column("group", sa.Text, nullable=False, default="", index=True),
    sa.Column("status", sa.Text, nullable=False, default="new", index=True),
    sa.Column("reason", sa.Text),
    sa.Column("flag", sa.Text),
    sa.Column("comment", sa.Text),
    sa.Column("folder", sa.Text, nullable=False, unique=True),
    sa.Column("source", sa.Text, index=True),
    sa.Column("content", sa.Text),
    sa.Column("imported_at", sa.Text),
    sa.Column("processed_at", sa.Text),
    sa.Column("facts", sa.JSON),
    sa.Column("current", sa.JSON),
    sa.Column("settled_for", sa.Text),
    _revision(),
    sa.Index("exposures_settled", "group", "settled_for"),
    sqlite_autoincrement=True,
)
"""``facts`` keeps every value with its origin, ``current`` the run that made each step's present results.

``settled_for`` names the configuration (steps, versions, choices) under which nothing is stale; what changes a fact, a
result or an override empties it.
"""

HOUSEKEEPING = ("facts", "current", "revision", "content", "settled_for")
"""Columns of exposures that are not for the analyst's table."""

sets = sa.Table(
    "sets",
    metadata,
    sa.Column("id", sa.Integer, primary_key=True, autoincrement=True),
    sa.Column("name", sa.Text, nullable=False, unique=True),
    sa.Column("kind", sa.Text, nullable=False),
    sa.Column("folder", sa.Text, nullable=False, unique=True),
    sa.Column("status", sa.Text, nullable=False, default="new"),
    sa.Column("reason", sa.Text),
    sa.Column("values", sa.JSON),
    sa.Column("current", sa.JSON),
    sa.Column("created_at", sa.Text),
    _revision(),
    sqlite_autoincrement=True,
)

set_members = sa.Table(
    "set_members",
    metadata,
    sa.Column("set_id", sa.Integer, sa.ForeignKey("sets.id", ondelete="CASCADE"), primary_key=True),
    sa.Column("exposure_id", sa.Integer, sa.ForeignKey("exposures.id"), primary_key=True, index=True),
    sa.Column("position", sa.Integer, nullable=False),
    sa.Column("included", sa.Boolean, nullable=False, default=True),
    sa.Column("values", sa.JSON),
    _revision(),
)

batches = sa.Table(
    "batches",
    metadata,
    sa.Column("id", sa.Integer, primary_key=True, autoincrement=True),
    sa.Column("created_at", sa.Text, nullable=False),
    sa.Column("who", sa.Text),
    sa.Column("steps", sa.JSON, nullable=False),
    sa.Column("params", sa.JSON),
    sa.Column("trial", sa.Text),
    _revision(),
    sqlite_autoincrement=True,
)

tasks = sa.Table(
    "tasks",
    metadata,
    sa.Column("id", sa.Text, primary_key=True),
    sa.Column("batch_id", sa.Integer, sa.ForeignKey("batches.id"), nullable=False, index=True),
    sa.Column("exposure_id", sa.Integer, sa.ForeignKey("exposures.id"), index=True),
    sa.Column("set_id", sa.Integer, sa.ForeignKey("sets.id")),
    sa.Column("steps", sa.JSON, nullable=False),
    sa.Column("state", sa.Text, nullable=False, default="queued"),
    sa.Column("priority", sa.Integer, nullable=False, default=0, server_default="0"),
    sa.Column("position", sa.Float, nullable=False),
    sa.Column("attempts", sa.Integer, nullable=False, default=0),
    sa.Column("epoch", sa.Integer),
    sa.Column("reason", sa.Text),
    sa.Column("started_at", sa.Text),
    sa.Column("finished_at", sa.Text),
    _revision(),
    sa.Index("tasks_in_order", "state", "priority", "position"),
)
"""``state`` is queued, held, running, cancelling, done, failed or cancelled."""

runs = sa.Table(
    "runs",
    metadata,
    sa.Column("id", sa.Text, primary_key=True),
    sa.Column("task_id", sa.Text, index=True),
    sa.Column("exposure_id", sa.Integer, index=True),
    sa.Column("set_id", sa.Integer, index=True),
    sa.Column("step", sa.Text, nullable=False),
    sa.Column("version", sa.Text),
    sa.Column("attempt", sa.Integer, nullable=False, default=1),
    sa.Column("status", sa.Text, nullable=False),
    sa.Column("reason", sa.Text),
    sa.Column("error", sa.Text),
    sa.Column("trial", sa.Text, index=True),
    sa.Column("fingerprint", sa.Text),
    sa.Column("params", sa.JSON),
    sa.Column("values", sa.JSON),
    sa.Column("products", sa.JSON),
    sa.Column("versions", sa.JSON),
    sa.Column("started_at", sa.Text),
    sa.Column("finished_at", sa.Text),
    sa.Column("seconds", sa.Float),
    sa.Column("cpu_seconds", sa.Float),
    sa.Column("host", sa.Text),
    sa.Column("process", sa.Integer),
    sa.Column("worker", sa.Text),
    sa.Column("log", sa.Text),
    sa.Column("traceback", sa.Text),
    _revision(),
    sa.Index("runs_by_status", "status"),
)

overrides = sa.Table(
    "overrides",
    metadata,
    sa.Column("id", sa.Integer, primary_key=True, autoincrement=True),
    sa.Column("exposure_id", sa.Integer, sa.ForeignKey("exposures.id"), nullable=False, index=True),
    sa.Column("name", sa.Text, nullable=False),
    sa.Column("value", sa.JSON),
    sa.Column("who", sa.Text),
    sa.Column("at", sa.Text, nullable=False),
    sa.Column("cleared_at", sa.Text),
    _revision(),
)

picks = sa.Table(
    "picks",
    metadata,
    sa.Column("id", sa.Integer, primary_key=True, autoincrement=True),
    sa.Column("exposure_id", sa.Integer, sa.ForeignKey("exposures.id"), nullable=False, index=True),
    sa.Column("x", sa.Float, nullable=False),
    sa.Column("y", sa.Float, nullable=False),
    sa.Column("kind", sa.Text, nullable=False, default="particle"),
    sa.Column("who", sa.Text),
    sa.Column("at", sa.Text),
    _revision(),
)

selections = sa.Table(
    "selections",
    metadata,
    sa.Column("name", sa.Text, primary_key=True),
    sa.Column("exposures", sa.JSON, nullable=False),
    sa.Column("at", sa.Text),
    _revision(),
)

parameters = sa.Table(
    "parameters",
    metadata,
    sa.Column("level", sa.Text, primary_key=True),
    sa.Column("key", sa.Text, primary_key=True),
    sa.Column("step", sa.Text, primary_key=True),
    sa.Column("name", sa.Text, primary_key=True),
    sa.Column("value", sa.JSON),
    sa.Column("who", sa.Text),
    sa.Column("at", sa.Text),
    _revision(),
)

columns = sa.Table(
    "columns",
    metadata,
    sa.Column("name", sa.Text, primary_key=True),
    sa.Column("kind", sa.Text, nullable=False),
    sa.Column("step", sa.Text),
    sa.Column("spec", sa.JSON, nullable=False),
)
"""The declaration of every column, so that a reader without the step that made it still shows label and unit."""

tombstones = sa.Table(
    "tombstones",
    metadata,
    sa.Column("table", sa.Text, primary_key=True),
    sa.Column("id", sa.Text, primary_key=True),
    _revision(),
)

progress = sa.Table(
    "progress",
    metadata,
    sa.Column("task_id", sa.Text, primary_key=True),
    sa.Column("exposure_id", sa.Integer),
    sa.Column("step", sa.Text),
    sa.Column("message", sa.Text),
    sa.Column("fraction", sa.Float),
    sa.Column("worker", sa.Text),
    sa.Column("finished", sa.JSON),
    sa.Column("at", sa.Float),
)
"""Changes many times a second and raises no revision."""

lease = sa.Table(
    "lease",
    metadata,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("epoch", sa.Integer, nullable=False),
    sa.Column("host", sa.Text),
    sa.Column("machine", sa.Text),
    sa.Column("process", sa.Integer),
    sa.Column("process_started", sa.Float),
    sa.Column("since", sa.Float),
    sa.Column("heartbeat", sa.Float),
    sa.Column("dashboard", sa.Text),
)
"""``machine`` tells process numbers of this system from those of another one, or of another container."""

requests = sa.Table(
    "requests",
    metadata,
    sa.Column("id", sa.Integer, primary_key=True, autoincrement=True),
    sa.Column("kind", sa.Text, nullable=False),
    sa.Column("argument", sa.JSON),
    sa.Column("who", sa.Text),
    sa.Column("at", sa.Text),
    sa.Column("answered_at", sa.Text),
    sa.Column("answer", sa.Text),
)


def _to_version_2(connection: sa.Connection) -> None:
    for table, column in (
        ("exposures", "settled_for TEXT"),
        ("tasks", "priority INTEGER NOT NULL DEFAULT 0"),
        ("tasks", "started_at TEXT"),
        ("tasks", "finished_at TEXT"),
        ("runs", "worker TEXT"),
        ("progress", "worker TEXT"),
        ("progress", "finished JSON"),
        ("lease", "machine TEXT"),
        ("lease", "dashboard TEXT"),
    ):
        connection.execute(sa.text(f"ALTER TABLE {table} ADD COLUMN {column}"))
    connection.execute(sa.text("DROP INDEX IF EXISTS tasks_by_state"))
    for table, name in ((tasks, "tasks_in_order"), (exposures, "exposures_settled")):
        next(index for index in table.indexes if index.name == name).create(connection)


MIGRATIONS: dict[int, Callable[[sa.Connection], None]] = {1: _to_version_2}
"""From version n to n + 1, by n; each runs in the transaction that also raises the version."""

_COLUMN_TYPES = {"float": "FLOAT", "int": "BIGINT", "bool": "BOOLEAN", "datetime": "TEXT", "str": "TEXT"}


def column_type(spec: Spec) -> str:
    """SQL type of a declared value's column; double precision on PostgreSQL, where FLOAT means that."""
    return _COLUMN_TYPES.get(spec.type, "TEXT")
