"""A library made again from the exposures' records, with what only the old library knew."""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import sqlite3
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from focusnb.errors import ProjectError
from focusnb.project import decisions, lease, records, schema
from focusnb.project.library import FILE_NAME, Library, Transaction, now, remove_sqlite
from focusnb.project.project import Project, read_settings

_SALVAGED = (*decisions.TABLES, "runs")

Salvaged = dict[str, list[dict[str, Any]]]
"""Rows of the old library by table."""


def rebuild(folder: str | os.PathLike[str]) -> tuple[Project, list[str]]:
    """Make the library again from the exposures' records; returns the project and what was left out, in sentences.

    The old library is kept beside it. Flags, groups, choices, overrides, sets and the history are taken from it where
    it can still be read, else, but for the history, from ``decisions.json``. Raises ProjectError where a process works
    on the project.
    """
    path = Path(folder).resolve()
    settings = read_settings(path)
    if settings.get("library"):
        raise ProjectError(
            f"{path}: its library is {settings['library']}; rebuild works on libraries in the project's folder"
        )
    old = path / FILE_NAME
    salvaged = salvage(old)
    for name, rows in decisions.read(path).items():
        salvaged[name] = salvaged.get(name) or rows
    for held in salvaged.get("lease", []):
        if held.get("process") is not None and lease.is_alive(held, old):
            raise ProjectError(f"{old}: {lease.describe_holder(held)}; stop it first")
    fresh = path / f".{FILE_NAME}.part-{os.getpid()}-{os.urandom(4).hex()}"
    try:
        told = _fill(path, settings, fresh, salvaged)
        if old.exists():
            remove_sqlite(old, into=_place_of_old(path))
        os.replace(fresh, old)
    finally:
        for suffix in ("", "-wal", "-shm"):
            fresh.with_name(fresh.name + suffix).unlink(missing_ok=True)
    return Project.open(path), told


def _place_of_old(folder: Path) -> Path:
    """A place where no library that was kept before lies: two may be made again within a second."""
    stem = f"library.{now()[:19].replace(':', '')}"
    ends = itertools.chain([""], (f"_{number}" for number in itertools.count(2)))
    return next(place for end in ends if not (place := folder / f"{stem}{end}.old.sqlite").exists())


def _fill(path: Path, settings: dict[str, Any], fresh: Path, salvaged: Salvaged) -> list[str]:
    told: list[str] = []
    with Project(path, settings, Library(fresh, create=True)) as project:
        project.declare()
        library = project.library
        with library.write() as transaction:
            _go_on(transaction, salvaged)
            for record in _records(path, salvaged, told):
                try:
                    with transaction.connection.begin_nested():
                        records.restore(transaction, record, library.column_specs())
                except (sa.exc.DBAPIError, KeyError, TypeError, AttributeError, ValueError) as error:
                    reason = error.orig if isinstance(error, sa.exc.DBAPIError) else repr(error)
                    told.append(
                        f"{path / record['folder'] / records.FILE_NAME}: cannot be used ({reason}); the exposure was "
                        "left out, import it again"
                    )
            _put_back(transaction, salvaged, told)
        library.checkpoint()
    return told


def _records(path: Path, salvaged: Salvaged, told: list[str]) -> Iterator[dict[str, Any]]:
    """The records, those whose folder the old library knew under their id first: they own it."""
    owners = {(row.get("id"), row.get("folder")) for row in salvaged.get("exposures", [])}
    found = []
    for _, record in records.find(path):
        if isinstance(record, str):
            told.append(record)
        else:
            found.append(record)
    yield from sorted(found, key=lambda record: (record["id"], (record["id"], record["folder"]) not in owners))


def salvage(path: Path) -> Salvaged:
    """Read from an old library what no record holds; what cannot be read is left out."""
    found: Salvaged = {}
    if not path.is_file():
        return found
    with contextlib.suppress(sqlite3.DatabaseError), contextlib.closing(sqlite3.connect(path)) as connection:
        connection.row_factory = sqlite3.Row
        for name in ("meta", "lease", "sqlite_sequence", *_SALVAGED, "exposures"):
            rows = found.setdefault(name, [])
            with contextlib.suppress(sqlite3.DatabaseError):
                # row by row: the rows before a damaged page are kept
                for row in connection.execute(f'SELECT * FROM "{name}"'):
                    rows.append(dict(row))
    return found


def _go_on(transaction: Transaction, salvaged: Salvaged) -> None:
    """Continue with the old revision and ids: readers ask for what changed since, and an id is never given twice."""
    meta = {row.get("key"): row.get("value") for row in salvaged.get("meta", [])}
    if str(meta.get("revision") or "").isdigit():
        key = schema.meta.c.key == "revision"
        transaction.execute(schema.meta.update().where(key).values(value=str(meta["revision"])))
    for row in salvaged.get("sqlite_sequence", []):
        if row.get("name") == "exposures":
            statement = sa.text("INSERT INTO sqlite_sequence (name, seq) VALUES ('exposures', :seq)")
            transaction.execute(statement, {"seq": row["seq"]})


def _put_back(transaction: Transaction, salvaged: Salvaged, told: list[str]) -> None:
    """Write what was salvaged into a new library, for exposures that exist there."""
    e = schema.exposures
    ids = set(transaction.execute(sa.select(e.c.id)).scalars())
    for row in salvaged.get("exposures", []):
        decided = {name: row.get(name) for name in decisions.EXPOSURE_COLUMNS}
        if row.get("id") in ids and row.get("group") is not None:
            transaction.execute(e.update().where(e.c.id == row["id"]).values(**decided))
    for name in _SALVAGED:
        table = schema.metadata.tables[name]
        lost = 0
        for row in salvaged.get(name, []):
            if row.get("exposure_id") not in (ids | {None}):
                continue
            try:
                with transaction.connection.begin_nested():
                    _put_row(transaction, table, row)
            except (sa.exc.DBAPIError, ValueError):
                lost += 1
        if lost:
            told.append(f"{lost} damaged rows of {name} were left out")


def _put_row(transaction: Transaction, table: sa.Table, row: Mapping[str, Any]) -> None:
    values = {key: _loaded(table.c[key], value) for key, value in row.items() if key in table.c}
    if "revision" in table.c:
        values["revision"] = transaction.revision
    if table is schema.runs:
        if values.get("status") in ("queued", "running"):
            values |= {"status": "lost", "reason": "processing was interrupted"}
        transaction.execute(table.delete().where(table.c.id == values["id"]))
    transaction.execute(table.insert().values(**values))


def _loaded(column: sa.Column[Any], value: Any) -> Any:
    return json.loads(value) if isinstance(column.type, sa.JSON) and isinstance(value, str) else value
