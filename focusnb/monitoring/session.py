"""The exposures of a project as arrays that grow with it: read once, then only what changed."""

from __future__ import annotations

import datetime
import math
import sys
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import sqlalchemy as sa

from focusnb.monitoring.quantities import series_specs
from focusnb.parameters import Spec
from focusnb.project import schema, tables
from focusnb.project.project import Project
from focusnb.project.sets import TRASH

_TEXTS = ("status", "reason", "group", "quality_flags", "square", "hole")
_TIMES = ("imported_at", "processed_at", "recorded_at")
_FACTS = ("defocus_u", "defocus_v", "defocus_target", "stage_x", "stage_y")

LIVE = 50
"""Exposures imported last, from which it is told whether import keeps up with recording."""

_STEADY = 60.0  # s; the clocks' difference is taken anew only where it changed by more, so that times stay as they are
_AHEAD = 60.0  # s; what came so long after now came before this host's clock was put back
_EARLY = 900.0  # s; an exposure cannot have been recorded so long after it was imported: its clock was set since
_ZONES = 26 * 3600.0  # s; no two clocks that are right differ by more
_BURST = 1.5  # s between images, usually; what no camera tells the time of and comes faster was not recorded meanwhile
_FEWEST = 20  # exposures without which nobody knows whether they are followed

PENDING = frozenset({"new", "queued", "running"})
"""States of exposures that are not processed yet."""

WRONG = frozenset({"failed", "broken"})


class Session:
    """The exposures outside TRASH, with their times on this host's clock; :meth:`update` reads what changed.

    ids : (n,) of the exposures in the order of time; time : (n,) s since 1970; arrived, processed : the same, of import
    and of processing. ``values(name)`` and ``texts(name)`` are in the same order. live : whether the last ones were
    imported as they were recorded; followed : whether that was ever seen, so that it is missed when it ends
    """

    def __init__(self, project: Project) -> None:
        self.project = project
        self.picks = _picks_column(project)
        columns = project.specs()
        self.specs: dict[str, Spec] = series_specs(columns, self.picks)
        numbers = [name for name in (*_FACTS, *self.specs) if name in columns]
        self._numbers = list(dict.fromkeys(numbers))
        self._texts = [name for name in _TEXTS if name in columns or name in schema.exposures.c]
        self._times = [name for name in _TIMES if name in columns or name in schema.exposures.c]
        self.revision = -1
        self._rows: dict[int, int] = {}
        self._count = 0
        self._numeric = np.full((256, len(self._numbers) + len(_TIMES)), np.nan)
        self._text: dict[str, list[str | None]] = {name: [] for name in self._texts}
        self._alive: list[bool] = []
        self._identity = np.zeros(256, np.int64)
        self._put_back = np.zeros(256)  # s by which this host's clock was put back since each exposure was imported
        self._offset: float | None = None
        self._changed_times: list[float] | None = None
        self.ids = np.zeros(0, np.int64)
        self.time = self.arrived = self.processed = np.zeros(0)
        self.live, self.followed = True, False
        self._order = np.zeros(0, np.int64)

    def update(self, now: float | None = None) -> bool:
        """Read what changed since the last time; returns whether anything did, be it the clock alone.

        now : s since 1970 by this host's clock; what came later than that came before the clock was put back
        """
        library = self.project.library
        revision = library.revision
        if revision == self.revision:
            if not self._follow_clock(now):
                return False
            self._arrange(now)
            self._changed_times = None
            return True
        before = dict(zip(self.ids.tolist(), self.time.tolist(), strict=True))
        changed = self._read(self.revision)
        for identity in tables.deleted(library, "exposures", max(self.revision, 0)) if self.revision >= 0 else ():
            if identity in self._rows:
                self._alive[self._rows[identity]] = False
                changed.append(identity)
        self.revision = revision
        same = not self._follow_clock(now)
        same &= self._arrange(now)
        if not same:
            self._changed_times = None
        elif self._changed_times is not None:
            after = dict(zip(self.ids.tolist(), self.time.tolist(), strict=True)) if changed else {}
            both = [known.get(identity) for identity in changed for known in (before, after)]
            self._changed_times += [time for time in both if time is not None]
        return True

    def take_changed_times(self) -> list[float] | None:
        """Times of what changed since this was asked last, before and after; None where all may have changed."""
        taken, self._changed_times = self._changed_times, []
        return taken

    def values(self, name: str) -> np.ndarray:
        """(n,) float64 of a series, fact or finding, nan where there is none."""
        if name == "defocus":
            return np.asarray(0.5 * (self._column("defocus_u") + self._column("defocus_v")))
        if name == "defocus_error":
            return np.asarray(self.values("defocus") - self._column("defocus_target"))
        return self._column(name)

    def texts(self, name: str) -> list[str | None]:
        """Texts of the exposures: status, reason, group, quality_flags, square, hole."""
        column = self._text.get(name)
        return [None] * len(self._order) if column is None else [column[row] for row in self._order]

    def text(self, name: str, where: int) -> str | None:
        """The text of one exposure, by its place in the order of time."""
        column = self._text.get(name)
        return None if column is None else column[int(self._order[where])]

    def rows(self, identities: Sequence[int], names: Sequence[str] = ()) -> dict[int, dict[str, Any]]:
        """All columns of a few exposures, or those named of many, by id."""
        if not identities:
            return {}
        marks = ", ".join(str(int(identity)) for identity in identities)
        with self.project.library.read() as connection:
            there = {column["name"] for column in sa.inspect(connection).get_columns("exposures")} if names else set()
            wanted = ", ".join(["id", *(f'"{name}"' for name in names if name in there)]) if names else "*"
            query = f"SELECT {wanted} FROM exposures WHERE id IN ({marks})"
            found = connection.exec_driver_sql(query).mappings().all()
        return {int(row["id"]): dict(row) for row in found}

    def usable(self) -> np.ndarray:
        """(n,) bool: processed, and no rule of the project was broken."""
        status, flags = self.texts("status"), self.texts("quality_flags")
        return np.array([s == "done" and not f for s, f in zip(status, flags, strict=True)], dtype=bool)

    # Reading

    def _read(self, since: int) -> list[int]:
        names = ["id", *self._texts, *self._times, *self._numbers]
        quoted = ", ".join('"' + name + '"' for name in names)
        with self.project.library.read() as connection:
            query = f"SELECT {quoted} FROM exposures WHERE revision > {int(since)} ORDER BY id"
            rows = connection.exec_driver_sql(query).fetchall()
            o = schema.overrides.c
            chosen = sa.select(o.exposure_id, o.name, o.value).where(o.cleared_at.is_(None)).order_by(o.id)
            overrides = connection.execute(chosen).all()
        for row in rows:
            self._put(row)
        places = {name: place for place, name in enumerate(self._numbers)}
        for identity, name, value in overrides:
            if identity in self._rows and name in places:
                self._numeric[self._rows[identity], places[name]] = _number(value)
        return [int(row[0]) for row in rows]

    def _put(self, row: Sequence[Any]) -> None:
        identity = int(row[0])
        place = self._rows.get(identity)
        if place is None:
            place = self._count
            self._grow()
            self._rows[identity] = place
            self._identity[place] = identity
            self._alive.append(True)
            for column in self._text.values():
                column.append(None)
            self._count += 1
        texts, times = len(self._texts), len(self._times)
        for name, value in zip(self._texts, row[1 : 1 + texts], strict=True):
            # the same few words and squares, thousands of times
            self._text[name][place] = None if value is None else sys.intern(str(value))
        numbers = self._numeric[place]
        numbers[: len(self._numbers)] = [_number(value) for value in row[1 + texts + times :]]
        seconds = dict(zip(self._times, row[1 + texts : 1 + texts + times], strict=True))
        numbers[len(self._numbers) :] = [_seconds(seconds.get(name)) for name in _TIMES]
        self._alive[place] = self._text["group"][place] != TRASH

    def _grow(self) -> None:
        if self._count < len(self._identity):
            return
        self._numeric = np.concatenate([self._numeric, np.full_like(self._numeric, np.nan)])
        self._identity = np.concatenate([self._identity, np.zeros_like(self._identity)])
        self._put_back = np.concatenate([self._put_back, np.zeros_like(self._put_back)])

    def _column(self, name: str) -> np.ndarray:
        if name not in self._numbers:
            return np.full(len(self._order), np.nan)
        return np.asarray(self._numeric[self._order, self._numbers.index(name)])

    # Times

    def _follow_clock(self, now: float | None) -> bool:
        """Bring what came before this host's clock was put back to the clock of now; returns whether it was.

        Else nothing that comes within the next hour would be the last image.
        """
        if now is None or self._count == 0:
            return False
        imported = self._numeric[: self._count, len(self._numbers)] - self._put_back[: self._count]
        ahead = np.flatnonzero(imported > now + _AHEAD)
        if len(ahead) == 0:
            return False
        # all that were imported until then, the last of them now or just before what came since; what was brought to a
        # clock before stays, or where another host imports, whose clock is ahead, it would go farther back with each
        before = self._identity[: self._count] <= self._identity[ahead].max()
        last = float(np.nanmin(imported[~before], initial=now))
        before &= (imported > now + _AHEAD) | (self._put_back[: self._count] == 0)
        self._put_back[: self._count][before] += imported[ahead].max() - last
        return True

    def _arrange(self, now: float | None) -> bool:
        """Put the exposures in the order of time; returns whether known times stayed what they were."""
        rows = np.flatnonzero(np.array(self._alive, dtype=bool))
        imported, processed, recorded = self._numeric[rows, len(self._numbers) :].T
        imported = imported - self._put_back[rows]
        processed = processed if now is None else np.where(processed > now + _AHEAD, imported, processed)
        before = (self._offset, self.live)
        self._offset, self.live = _clock_offset(imported, recorded, self._offset)
        self.followed |= self.live and _keeps_up(imported, recorded)
        time = recorded + self._offset
        # a camera whose clock was put right meanwhile, or that tells no time at all
        odd = ~np.isfinite(time) | (time > imported + (_EARLY if self.live else _ZONES))
        time = np.where(odd, imported, time)
        order = np.argsort(time, kind="stable")
        self._order = rows[order]
        self.ids = self._identity[self._order]
        self.time, self.arrived, self.processed = time[order], imported[order], processed[order]
        return before == (self._offset, self.live)


def _clock_offset(imported: np.ndarray, recorded: np.ndarray, known: float | None) -> tuple[float, bool]:
    """What brings the camera's clock to this host's, and whether exposures are imported as they are recorded.

    Cameras write their local time without a zone, and their clocks are off; but what is imported live comes a short
    and even time after it was recorded. Of what was imported at once later, the camera's time is taken as local.
    """
    last = _last(imported, recorded)
    if len(last) == 0:
        came = np.sort(imported[np.isfinite(imported)])[-LIVE:]
        return 0.0, len(came) < _FEWEST or float(np.median(np.diff(came))) > _BURST
    offset = float(np.median(imported[last] - recorded[last]))
    span = float(np.ptp(imported[last])), float(np.ptp(recorded[last]))
    caught_up = _caught_up(imported[last], recorded[last])
    # days late: a clock that is wrong is so by the same time, and old images come at another pace
    old = abs(offset) > _ZONES and (len(last) < _FEWEST or abs(span[0] - span[1]) > max(30.0, 0.1 * span[1]))
    if caught_up or old:
        if known is not None:
            return known, False
        at = float(recorded[last[-1]])
        return datetime.datetime.fromtimestamp(at, datetime.UTC).replace(tzinfo=None).timestamp() - at, False
    return (known if known is not None and abs(known - offset) < _STEADY else float(round(offset))), True


def _caught_up(imported: np.ndarray, recorded: np.ndarray) -> bool:
    """Whether exposures came far faster than they were recorded."""
    span = float(np.ptp(recorded))
    return span > 120 and float(np.ptp(imported)) < 0.5 * span


def _last(imported: np.ndarray, recorded: np.ndarray) -> np.ndarray:
    """The exposures imported last of which both times are known, without single ones whose camera told nonsense.

    Where the camera's clock was put back among them, as when summer time ends, those since then.
    """
    both = np.flatnonzero(np.isfinite(recorded) & np.isfinite(imported))
    last = both[np.argsort(imported[both], kind="stable")[-LIVE:]]
    late = imported[last] - recorded[last]
    last = last[np.abs(late - np.median(late)) < 86400] if len(last) else last
    back = np.flatnonzero(np.diff(recorded[last]) < -_EARLY)
    if len(back) != 1:
        return last
    before, since = np.split(last, back + 1)
    # two sessions that were finished long ago, the later one first, came at once
    return last if _caught_up(imported[before], recorded[before]) else since


def _keeps_up(imported: np.ndarray, recorded: np.ndarray) -> bool:
    """Whether enough exposures came no faster than they were recorded: what was recorded before comes faster."""
    last = _last(imported, recorded)
    if len(last) == 0:
        return int(np.isfinite(imported).sum()) >= _FEWEST
    came, made = float(np.ptp(imported[last])), float(np.ptp(recorded[last]))
    return len(last) >= _FEWEST and came > made - max(60.0, 0.1 * made)


def _number(value: Any) -> float:
    if value is None:
        return math.nan
    try:
        number = float(value)
    except (TypeError, ValueError):
        return math.nan
    return number if math.isfinite(number) else math.nan


def _seconds(value: Any) -> float:
    """Seconds since 1970 of ISO text; a time without a zone is taken as if it were UTC."""
    if not value:
        return math.nan
    try:
        moment = value if isinstance(value, datetime.datetime) else datetime.datetime.fromisoformat(str(value))
        return (moment if moment.tzinfo else moment.replace(tzinfo=datetime.UTC)).timestamp()
    except (ValueError, OverflowError):
        return math.nan


def _picks_column(project: Project) -> str | None:
    """The column that counts particles: the first whole number that a step of the category 'pick' makes."""
    c = schema.columns.c
    with project.library.read() as connection:
        declared: Mapping[str, str | None] = {
            row.name: row.step for row in connection.execute(sa.select(c.name, c.step)).all()
        }
    picking = {name for name, step in project.steps().items() if step.category == "pick"}
    specs = project.specs()
    counted = (name for name, step in declared.items() if step in picking and specs[name].type == "int")
    return next(counted, None)
