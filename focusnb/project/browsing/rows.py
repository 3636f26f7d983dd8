"""The rows of the library in memory: the columns asked for, kept in step with what changes.

A row has a *position* here: rows are in the order of their ids, so that a new exposure comes last.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import compress
from typing import Any

import numpy as np
import numpy.typing as npt
import sqlalchemy as sa

from focusnb.errors import ParameterError
from focusnb.parameters import Spec
from focusnb.project import schema
from focusnb.project.browsing.columns import OWN, Column, Positions, is_shown, make_column
from focusnb.project.library import Library

Ids = npt.NDArray[np.int64]

ALWAYS = ("exposure", "group", "status", "flag", "reason", "comment")
"""Columns every table needs, shown or not."""

DECIDED = ("group", "status", "reason", "flag", "comment")
"""Columns that are often written for very many rows at once; SQLite has them at hand, unlike what was found."""

MANY = 4_000
"""Changed rows from which on those columns may come first."""

CHUNK = 10_000
"""Rows of which the others are read at once."""


@dataclass
class Difference:
    """What a look at the library found: ids added, changed and deleted, and columns that hold text from now on."""

    added: Ids
    changed: Ids
    deleted: Ids
    turned: list[str] = field(default_factory=list)
    selections: bool = False

    def __bool__(self) -> bool:
        return bool(len(self.added) or len(self.changed) or len(self.deleted) or self.turned or self.selections)


_NONE: Ids = np.empty(0, np.int64)


@dataclass(frozen=True)
class Changed:
    """Which exposures are others than at a revision: those added or changed, and those deleted."""

    revision: int
    exposures: frozenset[int]
    deleted: frozenset[int]


def changed_since(library: Library, revision: int) -> Changed:
    """Which exposures changed after a revision; reads their numbers alone, from the index."""
    with library.read() as connection:
        present = _revision(connection)
        ids = _fetch(connection, f"SELECT id FROM exposures WHERE revision > {int(revision)}")
        return Changed(present, frozenset(i for (i,) in ids), frozenset(_deleted(connection, revision).tolist()))


@dataclass(frozen=True)
class Chunk:
    """Rows read anew by :meth:`Rows.fetch_behind`: values by column as the library has them, and those set by hand."""

    asked: Ids
    ids: Ids
    found: dict[str, Sequence[Any]]
    by_hand: dict[str, dict[int, Any]]
    revision: int
    reading: int


class Rows:
    """All exposures of a library, by column."""

    def __init__(self, library: Library, names: Iterable[str] = ()) -> None:
        self._library = library
        self.ids: Ids = _NONE
        self.columns: dict[str, Column] = {}
        self.behind: Ids = _NONE
        """Rows of which only :data:`DECIDED` are of now; see :meth:`refresh`."""
        self.revision = -1
        self._declared = -1
        self._specs: dict[str, Spec] = {}
        self._readings = 0
        self._read_all(dict.fromkeys((*ALWAYS, *names)))

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def specs(self) -> dict[str, Spec]:
        """The declarations of all columns there are, the library's own first, then findings, then facts."""
        return self._specs

    def spec(self, name: str) -> Spec:
        """One declaration; ParameterError names the nearest ones."""
        if name not in self._specs:
            import difflib

            near = difflib.get_close_matches(name, self._specs, n=1)
            hint = f"did you mean {near[0]}?" if near else "Project.specs() lists them"
            raise ParameterError(f"there is no column {name}; {hint}")
        return self._specs[name]

    def column(self, name: str) -> Column:
        """A column, read now if it has not been asked for before."""
        self.need([name])
        return self.columns[name]

    def need(self, names: Iterable[str]) -> None:
        """Read columns that have not been asked for before; ParameterError for one that does not exist."""
        missing = [name for name in dict.fromkeys(names) if name not in self.columns and self.spec(name)]
        if missing:
            with self._library.read() as connection:
                self._load(connection, missing)

    def sample(self, name: str) -> Column:
        """A column, or where it has not been read an empty one of its type."""
        return self.columns[name] if name in self.columns else make_column(self.spec(name), ())

    def peek(self, names: Iterable[str], positions: Positions) -> dict[str, Column]:
        """Columns of some rows only, read for them where they have not been read for all."""
        wanted = [name for name in names if name not in self.columns]
        if not wanted or not len(positions):
            return {name: make_column(self.spec(name), ()) for name in wanted}
        part = self._blank()
        part.ids = np.sort(self.ids[positions])
        with self._library.read() as connection:
            part._load(connection, wanted, only=part.ids)
        order = np.searchsorted(part.ids, self.ids[positions])
        for column in part.columns.values():
            column.take(order)
        return part.columns

    def fetch(self, names: Iterable[str]) -> Rows:
        """Read columns for :meth:`take`; leaves all here as it is, so that it may be called in a thread."""
        part = self._blank()
        with self._library.read() as connection:
            part.revision = _revision(connection)
            part._load(connection, [name for name in dict.fromkeys(names) if name in self._specs])
        return part

    def take(self, part: Rows) -> bool:
        """Take up columns read by :meth:`fetch`; False where all was read anew meanwhile, so that they say nothing.

        What changed while they were read comes with the next :meth:`refresh`.
        """
        if part._readings != self._readings:
            return False
        places = np.searchsorted(part.ids, self.ids)
        known = places < len(part.ids)
        known[known] = part.ids[places[known]] == self.ids[known]
        places[~known] = len(part.ids)
        for name, column in part.columns.items():
            if name not in self.columns:
                column.append(1)  # for rows that are not in the part
                column.take(places)
                self.columns[name] = column
        self.revision = min(self.revision, part.revision)
        return True

    def _blank(self) -> Rows:
        """Rows of the same library and the same reading, without any."""
        blank = Rows.__new__(Rows)
        blank._library, blank._specs, blank._readings = self._library, self._specs, self._readings
        blank.ids, blank.columns, blank.revision, blank._declared = _NONE, {}, -1, self._declared
        blank.behind = _NONE
        return blank

    def positions(self, ids: Iterable[int]) -> Positions:
        """Where exposures are, by id; those that are not there are left out."""
        wanted = np.fromiter(ids, np.int64)
        found = np.searchsorted(self.ids, wanted)
        known = found < len(self.ids)
        known[known] = self.ids[found[known]] == wanted[known]
        return found[known]

    # Reading

    def _read_all(self, names: Iterable[str]) -> None:
        fresh = self._blank()  # where reading fails, what was known stays
        fresh._declared = -1
        with self._library.read() as connection:
            fresh._read_specs(connection)
            fresh.revision = _revision(connection)
            fresh._load(connection, [name for name in names if name in fresh._specs])
        self.ids, self.columns, self.revision = fresh.ids, fresh.columns, fresh.revision
        self._declared, self._specs = fresh._declared, fresh._specs
        self.behind = _NONE
        self._readings += 1

    def _read_specs(self, connection: sa.Connection) -> None:
        c = schema.columns.c
        count = int(connection.execute(sa.select(sa.func.count()).select_from(schema.columns)).scalar_one())
        if count == self._declared:
            return
        self._declared = count
        rows = connection.execute(sa.select(c.name, c.kind, c.spec)).all()
        declared = {row.name: (row.kind == "fact", Spec.from_dict(row.spec)) for row in rows}
        shown = sorted((item for item in declared.values() if is_shown(item[1])), key=lambda item: item[0])
        self._specs = {**OWN, **{spec.name: spec for _, spec in shown}}

    def _load(self, connection: sa.Connection, names: Sequence[str], only: Ids | None = None) -> None:
        ids, found = self._select(connection, names, only=only)
        order = np.argsort(ids, kind="stable")
        in_order = bool((order == np.arange(len(order))).all())
        first = not len(self.ids)
        if first:
            self.ids = ids[order]
        # a row another process added since the last look is taken up by the next one, with all its columns
        places = np.searchsorted(self.ids, ids)
        known = places < len(self.ids)
        known[known] = self.ids[places[known]] == ids[known]
        for name in names:
            raw = found[name]
            if (first and in_order) or (len(ids) == len(self.ids) and bool(known.all()) and in_order):
                self.columns[name] = make_column(self._specs[name], raw)
                continue
            aligned: list[Any] = [None] * len(self.ids)
            for place, is_known, value in zip(places.tolist(), known.tolist(), raw, strict=True):
                if is_known:
                    aligned[place] = value
            self.columns[name] = make_column(self._specs[name], aligned)
        self._put_overrides(self._overrides(connection, names, only=only))

    def _select(
        self, connection: sa.Connection, names: Sequence[str], since: int | None = None, only: Ids | None = None
    ) -> tuple[Ids, dict[str, Sequence[Any]]]:
        quoted = ", ".join('"' + name + '"' for name in ["id", *names])
        where = "" if since is None else f" WHERE revision > {int(since)}"
        if only is not None:
            where = f" WHERE id IN ({', '.join(map(str, only.tolist()))})"
        rows = _fetch(connection, f"SELECT {quoted} FROM exposures{where}")
        columns: Iterable[Sequence[Any]] = zip(*rows, strict=True) if rows else [()] * (1 + len(names))
        ids, *values = columns
        return np.array(ids, np.int64), dict(zip(names, values, strict=True))

    def _select_words(
        self, connection: sa.Connection, names: Sequence[str], since: int
    ) -> tuple[Ids, dict[str, Sequence[Any]]]:
        """The same for columns of texts and very many rows: SQLite puts each column together, three times as fast."""
        if self._library.path is None:
            return self._select(connection, names, since=since)
        together = ", ".join(f'json_group_array("{name}")' for name in ["id", *names])
        [found] = _fetch(connection, f"SELECT {together} FROM exposures WHERE revision > {since}")
        ids, *values = map(json.loads, found)
        return np.array(ids, np.int64), dict(zip(names, values, strict=True))

    def _overrides(
        self, connection: sa.Connection, names: Iterable[str], only: Ids | None = None
    ) -> dict[str, dict[int, Any]]:
        """Values set by hand, by column and id."""
        o = schema.overrides.c
        rows = connection.execute(
            sa.select(o.exposure_id, o.name, o.value).where(o.cleared_at.is_(None)).order_by(o.id)
        ).all()
        wanted = set(names)
        by_name: dict[str, dict[int, Any]] = {}
        allowed = None if only is None else set(only.tolist())
        for row in rows:
            if row.name in wanted and (allowed is None or row.exposure_id in allowed):
                by_name.setdefault(row.name, {})[row.exposure_id] = row.value
        return by_name

    def _put_overrides(self, by_name: dict[str, dict[int, Any]]) -> None:
        """Values set by hand win over those found."""
        for name, values in by_name.items():
            known = [identity for identity in values if len(self.positions([identity]))]
            self._put(name, self.positions(known), [values[identity] for identity in known])

    def _put(self, name: str, positions: Positions, raw: Sequence[Any]) -> bool:
        """Set values of a column; whether it holds text from now on because there was text among numbers."""
        try:
            self.columns[name].put(positions, raw)
        except (TypeError, ValueError):
            everything = np.arange(len(self.ids))
            texts: list[Any] = [text or None for text in self.columns[name].texts(everything)]
            for position, value in zip(positions.tolist(), raw, strict=True):
                texts[position] = value
            spec = self._specs[name]
            self.columns[name] = make_column(Spec(name, "str", spec.label, unit=spec.unit, group=spec.group), texts)
            return True
        return False

    # Keeping up

    def refresh(self, *, whole: bool = True) -> Difference | None:
        """Take up what changed since the last look; None where nothing did. Costs what changed, not what there is.

        whole : read all columns of what changed; else of very many rows only what people and the queue write, while
            the rows are ``behind`` until :meth:`fetch_behind` and :meth:`take_behind` have dealt with them
        """
        with self._library.read() as connection:
            revision = _revision(connection)
            if revision == self.revision:
                return None
            since = self.revision
            if revision < since:
                return self.reload()
            self._read_specs(connection)
            names, behind = list(self.columns), _NONE
            if not whole:
                changed, _ = self._select(connection, [], since=since)
                if len(changed) > MANY:
                    behind = changed
                    known = bool(np.isin(changed, self.ids, assume_unique=True).all())
                    names = [name for name in names if name in DECIDED or (name in OWN and not known)]
            is_plain = len(behind) and set(names) <= set(DECIDED)
            ids, found = (self._select_words if is_plain else self._select)(connection, names, since=since)
            gone = _deleted(connection, since)
            s = schema.selections.c
            selections = connection.execute(sa.select(sa.func.count()).where(s.revision > since)).scalar_one()
            by_hand = self._overrides(connection, names, only=ids)
        # nothing is taken up before all is read: a library that cannot be read halfway would leave rows that do not fit
        difference = self._take_up(ids, found, gone)
        difference.selections = bool(selections)
        self._put_overrides(by_hand)
        self.revision = revision
        self.behind = np.union1d(self.behind, behind)
        return difference

    def fetch_behind(self, first: Ids = _NONE) -> Chunk:
        """Read some of the rows that are behind for :meth:`take_behind`; may be called in a thread.

        first : rows to begin with, as far as they are behind: those that somebody looks at
        """
        reading = self._readings  # before all else: where all is read anew meanwhile, this says nothing
        names, behind = list(self.columns), self.behind
        in_sight = np.isin(behind, first)
        asked = np.sort(np.concatenate([behind[in_sight], behind[~in_sight]])[:CHUNK])
        with self._library.read() as connection:
            revision = _revision(connection)
            ids, found = self._select(connection, names, only=asked)
            return Chunk(asked, ids, found, self._overrides(connection, names, only=asked), revision, reading)

    def take_behind(self, chunk: Chunk) -> Difference | None:
        """Take up rows read by :meth:`fetch_behind`; None where they are as they were.

        What changed while they were read comes with the next :meth:`refresh`.
        """
        if chunk.reading != self._readings:
            return None
        here = np.isin(chunk.ids, self.ids)  # others were deleted meanwhile
        positions = np.searchsorted(self.ids, chunk.ids[here])
        before = {name: column.copy(positions) for name, column in self.columns.items()}
        kept = here.tolist()
        raw = {name: list(compress(values, kept)) for name, values in chunk.found.items() if name in self.columns}
        turned = [name for name, values in raw.items() if self._put(name, positions, values)]
        self._put_overrides({name: values for name, values in chunk.by_hand.items() if name in self.columns})
        if self.columns.keys() <= chunk.found.keys():  # else a column came meanwhile, perhaps read before the change
            self.behind = np.setdiff1d(self.behind, chunk.asked, assume_unique=True)
        self.revision = min(self.revision, chunk.revision)
        if not turned and all(self.columns[name].is_as(positions, values) for name, values in before.items()):
            return None
        return Difference(_NONE, chunk.ids[here], _NONE, turned)

    def wrote(self, name: str, ids: Sequence[int], value: Any) -> Difference | None:
        """Take up what was just written here, one value to some rows; reads them where others wrote as well."""
        with self._library.read() as connection:
            revision = _revision(connection)
        if revision != self.revision + 1 or name not in self.columns:
            return self.refresh()
        self._put(name, self.positions(ids), [value] * len(ids))
        self.revision = revision
        return Difference(_NONE, np.array(ids, np.int64), _NONE)

    def reload(self) -> Difference:
        """Read all anew, as after the library was replaced."""
        before = self.ids
        self._read_all(list(self.columns))
        added, deleted = np.setdiff1d(self.ids, before), np.setdiff1d(before, self.ids)
        return Difference(added, _NONE, deleted, selections=True)

    def _take_up(self, ids: Ids, found: dict[str, Sequence[Any]], gone: Ids) -> Difference:
        known = np.isin(ids, self.ids, assume_unique=True)
        added = np.sort(ids[~known])
        turned = []
        if len(added):
            before = len(self.ids)
            self.ids = np.append(self.ids, added)
            for column in self.columns.values():
                column.append(len(added))
            if before and added[0] < self.ids[before - 1]:
                # a server hands out ids before it commits: a smaller one may arrive later
                order = np.argsort(self.ids, kind="stable")
                self.ids = self.ids[order]
                for column in self.columns.values():
                    column.take(order)
        if len(ids):
            positions = np.searchsorted(self.ids, ids)
            turned = [name for name, raw in found.items() if self._put(name, positions, raw)]
        deleted = gone[np.isin(gone, self.ids)]
        if len(deleted):
            kept = ~np.isin(self.ids, deleted)
            self.ids = self.ids[kept]
            for column in self.columns.values():
                column.take(kept)
        return Difference(added, ids[known], deleted, turned)


def _fetch(connection: sa.Connection, query: str) -> Sequence[Any]:
    result = connection.exec_driver_sql(query)
    return result.cursor.fetchall() if result.cursor is not None else []


def _revision(connection: sa.Connection) -> int:
    value = connection.execute(sa.select(schema.meta.c.value).where(schema.meta.c.key == "revision")).scalar()
    return int(value or 0)


def _deleted(connection: sa.Connection, since: int) -> Ids:
    t = schema.tombstones.c
    rows = connection.execute(sa.select(t.id).where((t.table == "exposures") & (t.revision > since))).scalars()
    return np.array([int(value) for value in rows], np.int64)
