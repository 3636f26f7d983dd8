"""The library as DataFrames an analyst is glad to get."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from focusnb.errors import ParameterError
from focusnb.parameters import Spec
from focusnb.project import facts as fact_rules
from focusnb.project import records, schema, sets
from focusnb.project.library import Library

if TYPE_CHECKING:
    import pandas as pd

_FIRST = ("exposure", "group", "status", "reason", "flag", "comment")
MOST_VARIABLES = 500
"""Exposures named in one query."""

_LAST = ("folder", "source", "imported_at", "processed_at")


def exposures(
    library: Library,
    *,
    trial: str | None = None,
    ids: Sequence[int] | None = None,
    since: int | None = None,
    makes: Mapping[str, Sequence[str]] | None = None,
) -> pd.DataFrame:
    """Exposures with facts and findings; see :meth:`Project.table`. ``makes``: what each step makes, for a trial."""
    specs = {name: spec for name, spec in library.column_specs().items() if spec.kind != "transient"}
    names = [*_FIRST, *_ordered(library, specs), *_LAST]
    quoted = ", ".join('"' + name + '"' for name in ["id", *names])
    query = f"SELECT {quoted} FROM exposures"
    parameters: tuple[Any, ...] = ()
    if since is not None:
        query, parameters = query + " WHERE revision > ?", (since,)
    elif ids is not None and len(ids) <= MOST_VARIABLES:
        query += f" WHERE id IN ({', '.join(str(int(identity)) for identity in ids) or 'NULL'})"
    # +id: ordered by id itself, SQLite would look through all rows instead of those the index of revisions names
    table = library.frame(query + f" ORDER BY {'id' if since is None else '+id'}", parameters)
    if ids is not None:
        table = table[table["id"].isin(list(ids))]
    table = table.set_index("id")
    if trial is not None:
        table = _overlay_trial(library, table, trial, makes or {})
    _overlay_overrides(library, table)
    table = _typed(table, specs)
    table.attrs["units"] = {name: spec.unit for name, spec in specs.items() if spec.unit}
    table.attrs["labels"] = {name: spec.label for name, spec in specs.items()}
    return table


def _ordered(library: Library, specs: dict[str, Spec]) -> list[str]:
    """Findings first, in the order of the processing, then facts."""
    with library.read() as connection:
        c = schema.columns.c
        rows = connection.execute(sa.select(c.name, c.kind)).all()
    kinds = {row.name: row.kind for row in rows}
    products = {name for name, spec in specs.items() if spec.file is not None}
    return sorted(specs, key=lambda name: (kinds[name] == "fact", name in products))


def _overlay_overrides(library: Library, table: pd.DataFrame) -> None:
    o = schema.overrides.c
    with library.read() as connection:
        rows = connection.execute(
            sa.select(o.exposure_id, o.name, o.value).where(o.cleared_at.is_(None)).order_by(o.id)
        ).all()
    _put(table, [(row.exposure_id, row.name, row.value) for row in rows])


def _overlay_trial(
    library: Library, table: pd.DataFrame, trial: str, makes: Mapping[str, Sequence[str]]
) -> pd.DataFrame:
    """The exposures of a trial: each step it ran shows its last run there, and nothing where that found nothing."""
    r = schema.runs.c
    with library.read() as connection:
        rows = connection.execute(
            sa.select(r.exposure_id, r.step, r["values"].label("found"), r.status, r.reason)
            .where((r.trial == trial) & r.status.in_(("done", "failed", "broken", "skipped")))
            .order_by(r.started_at)
        ).all()
    if not rows:
        raise ParameterError(f"there is no trial {trial} with results")
    last: dict[int, dict[str, Any]] = {}
    for row in rows:
        last.setdefault(row.exposure_id, {})[row.step] = row
    cells: list[tuple[int, str, Any]] = []
    for identity, by_step in last.items():
        for step, row in by_step.items():
            found = dict.fromkeys(makes.get(step, ())) | (row.found or {})
            cells += [(identity, name, value) for name, value in found.items()]
        states = {step: {"status": row.status, "reason": row.reason} for step, row in by_step.items()}
        status, reason = records.overall(states)
        cells += [(identity, "status", status), (identity, "reason", reason)]
    table = table[table.index.isin(list(last))].copy()
    _put(table, cells)
    return table


def _put(table: pd.DataFrame, cells: Sequence[tuple[int, str, Any]]) -> None:
    by_name: dict[str, dict[int, Any]] = {}
    for identity, name, value in cells:
        by_name.setdefault(name, {})[identity] = value
    rows = {identity: number for number, identity in enumerate(table.index)}
    for name, values in by_name.items():
        if name not in table.columns:
            continue
        column = table[name].astype(object).to_numpy(copy=True)
        for identity, value in values.items():
            if identity in rows:
                column[rows[identity]] = value
        table[name] = column


def _typed(table: pd.DataFrame, specs: dict[str, Spec]) -> pd.DataFrame:
    import pandas as pd

    columns = {}
    for name in table.columns:
        kind = specs[name].type if name in specs else "datetime_utc" if name.endswith("_at") else "str"
        try:
            columns[name] = _as_type(table[name], kind)
        except (TypeError, ValueError):
            # an earlier version of a step may have found text where its successor finds numbers: nothing is lost
            columns[name] = table[name].map(str, na_action="ignore").astype("str")
    return pd.DataFrame(columns, index=table.index)


def _as_type(column: pd.Series[Any], kind: str) -> pd.Series[Any]:
    import pandas as pd

    types = {"int": "Int64", "bool": "boolean", "str": "str"}
    if kind in ("datetime_utc", "datetime"):
        return pd.to_datetime(column, format="ISO8601", utc=kind == "datetime_utc").dt.as_unit("us")
    if kind == "float":
        return pd.to_numeric(column).astype("float64")
    if not column.notna().any():
        return pd.Series([None] * len(column), index=column.index, dtype=types[kind])  # type: ignore[call-overload]
    if kind == "bool":  # 0 and 1 in the library, true and false where set by hand
        column = column.map(bool, na_action="ignore")
    return column.astype(types[kind])


def runs(library: Library, exposure: int | None = None) -> pd.DataFrame:
    """The history of attempts, oldest first."""
    import pandas as pd

    query = (
        "SELECT r.id AS run, e.exposure, r.exposure_id, r.set_id, r.step, r.version, r.attempt, r.status, r.reason, "
        "r.error, r.trial, r.started_at, r.finished_at, r.seconds, r.cpu_seconds, r.host, r.process, r.fingerprint, "
        "r.params, r.versions, r.log, r.traceback FROM runs r LEFT JOIN exposures e ON e.id = r.exposure_id"
    )
    order = " ORDER BY r.started_at, r.rowid" if library.path is not None else " ORDER BY r.started_at"
    parameters: tuple[Any, ...] = ()
    if exposure is not None:
        query, parameters = query + " WHERE r.exposure_id = ?", (exposure,)
    table = library.frame(query + order, parameters)
    for name in ("started_at", "finished_at"):
        table[name] = pd.to_datetime(table[name], format="ISO8601", utc=True)
    for name in ("seconds", "cpu_seconds"):
        table[name] = table[name].astype("float64")
    table["exposure_id"] = table["exposure_id"].astype("Int64")
    table.attrs["units"] = {"seconds": "s", "cpu_seconds": "s"}
    return table


def status_counts(library: Library) -> dict[str, int]:
    """How many exposures there are by status, those in TRASH left out."""
    e = schema.exposures.c
    query = sa.select(e.status, sa.func.count()).where(e.group != sets.TRASH).group_by(e.status)
    with library.read() as connection:
        return {str(status): int(count) for status, count in connection.execute(query)}


def is_empty(library: Library) -> bool:
    """Whether there is no exposure."""
    with library.read() as connection:
        return connection.execute(sa.select(schema.exposures.c.id).limit(1)).first() is None


def deleted(library: Library, name: str, since: int) -> tuple[int, ...]:
    """Ids of the rows deleted from a table after a revision."""
    t = schema.tombstones.c
    with library.read() as connection:
        rows = connection.execute(sa.select(t.id).where((t.table == name) & (t.revision > since))).scalars()
        return tuple(int(value) for value in rows)


def facts(library: Library, exposure: int) -> pd.DataFrame:
    """The facts of one exposure: value, unit, origin and what the other origins say."""
    import pandas as pd

    with library.read() as connection:
        candidates = records.row_of(connection, exposure)["facts"]
    specs = library.column_specs()
    rows = [
        {
            "fact": name,
            "value": value,
            "unit": specs[name].unit if name in specs else "",
            "origin": origin,
            "others": json.dumps({k: v for k, v in candidates[name].items() if k != origin}),
        }
        for name, (value, origin) in fact_rules.resolve(candidates).items()
    ]
    return pd.DataFrame(rows, columns=["fact", "value", "unit", "origin", "others"]).set_index("fact")
