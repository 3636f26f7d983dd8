"""What people decide at the table: ticks, flags, comments, groups; each can be taken back."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any

import numpy as np
import sqlalchemy as sa

from focusnb.errors import ParameterError
from focusnb.project import schema
from focusnb.project.browsing.columns import Bools, Numbers, Positions, Words
from focusnb.project.browsing.filters import parse_filter
from focusnb.project.browsing.rows import Rows
from focusnb.project.project import Project
from focusnb.project.sets import TRASH

TICKED = "ticked"
"""The selection that keeps the ticks, so that everybody at a project sees the same."""

MOST_UNDONE = 30

Range = str | tuple[float | None, float | None]


@dataclass(frozen=True)
class Done:
    """Something done that can be taken back."""

    label: str
    undo: Callable[[], None]


class Editing:
    """The part of a browser that writes. Rows are named by their ids; what does not exist raises ParameterError."""

    project: Project
    rows: Rows
    ticks: Bools

    def __init__(self) -> None:
        self._done: list[Done] = []
        self.ticks_kept = not self.project.library.read_only
        self.ticks = np.zeros(len(self.rows), np.bool_)
        self._read_ticks()

    def refresh(self) -> Any:
        """Take up what changed; see :meth:`Browser.refresh`."""
        raise NotImplementedError

    def wrote(self, name: str, ids: list[int], value: str | None) -> Any:
        """Take up what was just written here; see :meth:`Browser.wrote`."""
        raise NotImplementedError

    def catch_up(self) -> None:
        """Read all that is behind; see :meth:`Browser.catch_up`."""
        raise NotImplementedError

    def _ticks_changed(self) -> None:
        raise NotImplementedError

    # Ticks

    @property
    def selection(self) -> list[int]:
        """Ids of the ticked exposures."""
        return self._ids_at(self.ticks)

    def tick(self, ids: Iterable[int]) -> int:
        """Tick exposures; returns how many are ticked now."""
        return self._tick(ids, lambda ticks, chosen: ticks | chosen)

    def untick(self, ids: Iterable[int]) -> int:
        """Take the ticks off exposures; returns how many are ticked now."""
        return self._tick(ids, lambda ticks, chosen: ticks & ~chosen)

    def set_ticks(self, ids: Iterable[int]) -> int:
        """Tick these exposures and no others; returns how many are ticked now."""
        return self._tick(ids, lambda ticks, chosen: chosen)

    def invert_ticks(self, ids: Iterable[int]) -> int:
        """Tick those of these exposures that are not ticked, untick those that are."""
        return self._tick(ids, lambda ticks, chosen: ticks ^ chosen)

    def _tick(self, ids: Iterable[int], change: Callable[[Bools, Bools], Bools]) -> int:
        given = self._known(ids)
        self.refresh()  # what others ticked meanwhile stays ticked
        chosen = np.zeros(len(self.rows), np.bool_)
        chosen[self.rows.positions(given)] = True
        ticks = change(self.ticks, chosen)
        put, taken = (self.rows.ids[rows].tolist() for rows in (ticks & ~self.ticks, self.ticks & ~ticks))
        self._keep_ticks(ticks)
        if put or taken:
            self._did(Done("ticks changed", lambda: self._tick_back(put, taken)))
        return int(self.ticks.sum())

    def _keep_ticks(self, ticks: Bools) -> None:
        if self.ticks_kept:
            self.project.select(TICKED, self.rows.ids[ticks].tolist())
        self.ticks = ticks
        self._ticks_changed()
        self.refresh()

    def _tick_back(self, put: list[int], taken: list[int]) -> None:
        """Take a change back; what others ticked since stays."""
        self.refresh()
        ticks = self.ticks.copy()
        ticks[self.rows.positions(put)] = False
        ticks[self.rows.positions(taken)] = True
        self._keep_ticks(ticks)

    def _read_ticks(self) -> None:
        if not self.ticks_kept and self.ticks.any():
            return  # ticks of a project that cannot be written live in this browser alone
        self.ticks = np.zeros(len(self.rows), np.bool_)
        if TICKED in self.selection_names():
            self.ticks[self.rows.positions(self.project.select(TICKED))] = True

    # Selections by name

    def selection_names(self) -> list[str]:
        """Names of the selections kept in the project, that of the ticks among them."""
        s = schema.selections.c
        with self.project.library.read() as connection:
            return [str(name) for name in connection.execute(sa.select(s.name).order_by(s.name)).scalars()]

    def selections(self) -> dict[str, int]:
        """The selections saved by name, with how many exposures of today each holds."""
        names = [name for name in self.selection_names() if name != TICKED]
        return {name: len(self.rows.positions(self.project.select(name))) for name in names}

    def save_selection(self, name: str) -> int:
        """Save the ticked exposures under a name; returns how many they are."""
        name = name.strip()
        if not name or name == TICKED:
            raise ParameterError(f"a selection needs a name other than '{TICKED}', which is kept for the ticks")
        return len(self.project.select(name, self.selection))

    def load_selection(self, name: str) -> int:
        """Tick what was saved under a name and nothing else; returns how many are ticked now."""
        return self.set_ticks(i for i in self.project.select(name) if len(self.rows.positions([i])))

    # Selecting by values

    def within(
        self,
        ranges: Mapping[str, Range],
        *,
        flags: Collection[str | None] | None = None,
        ignore_sign: bool = False,
        trash: bool = False,
    ) -> list[int]:
        """Ids of the exposures inside all ranges, with one of the flags (None: those without any).

        ranges : by name of the column, as a filter ("1.0..2.5") or as (low, high), where None is open
        ignore_sign : compare numbers without their sign
        """
        self.catch_up()
        passing = np.ones(len(self.rows), np.bool_)
        for name, wanted in ranges.items():
            column = self.rows.column(name)
            text = wanted if isinstance(wanted, str) else _as_filter(wanted)
            if not text.strip():
                continue
            if isinstance(column, Numbers) and ignore_sign:
                plain = Numbers(column.spec)
                plain.values = np.abs(column.values)
                column = plain
            passing &= parse_filter(text, column).test(column)
        if flags is not None:
            flag = self._words("flag")
            accepted = {name or "none" for name in flags}
            passing &= parse_filter(", ".join(accepted), flag).test(flag) if accepted else np.False_
        if not trash:
            passing &= ~self._words("group").being(TRASH)
        return self._ids_at(passing)

    def auto_select(self, ranges: Mapping[str, Range], **options: Any) -> int:
        """Tick the exposures :meth:`within` finds and no others; returns how many they are."""
        return self.set_ticks(self.within(ranges, **options))

    # Flags, comments, groups

    def flag(self, ids: Iterable[int], flag: str | None) -> int:
        """Flag exposures red, green, blue or gold; None takes the flag away."""
        given = self._known(ids)
        label = f"{_exposures(given)} flagged {flag}" if flag else f"{_exposures(given)} without a flag"
        return self._change(
            "flag", given, label, lambda some, value: self.project.flag(some, value or None), flag or ""
        )

    def comment(self, ids: Iterable[int], text: str | None) -> int:
        """Note a comment on exposures; None or no text takes it away."""
        given = self._known(ids)
        label = f"comment on {_exposures(given)} written"
        return self._change("comment", given, label, lambda some, value: self.project.comment(some, value), text or "")

    def move(self, ids: Iterable[int], group: str) -> int:
        """Put exposures into a group, which is made by that; no file moves."""
        given, group = self._known(ids), group.strip()
        if not group:
            raise ParameterError("a group needs a name")
        return self._change("group", given, f"{_exposures(given)} moved to {group}", self._move, group)

    def _move(self, ids: list[int], group: str) -> None:
        if group:
            self.project.move(ids, group)

    def trash(self, ids: Iterable[int]) -> int:
        """Put exposures into TRASH; nothing is lost."""
        return self.move(ids, TRASH)

    def restore(self, ids: Iterable[int]) -> int:
        """Put exposures back into the group they were imported into."""
        given = self._known(ids)
        positions = self.rows.positions(given)
        before = self._words("group").texts(positions)
        folders = self.rows.column("folder").texts(positions)
        homes = [PurePosixPath(folder).parent.name for folder in folders]
        for group, some in _by_value(given, homes).items():
            self._move(some, group)
        self.refresh()
        label = f"{_exposures(given)} put back"
        self._did(Done(label, lambda: self._put_back("group", given, before, homes, self._move)))
        return len(given)

    def rename_group(self, group: str, name: str) -> int:
        """Give a group another name; one that exists takes up its exposures."""
        if group == TRASH or name.strip() == TRASH:
            raise ParameterError(f"{TRASH} keeps its name; move exposures there to trash them")
        return self.move(self.rows.ids[self._words("group").being(group)].tolist(), name)

    def _change(self, name: str, ids: list[int], label: str, write: Callable[[list[int], Any], Any], value: str) -> int:
        """Write one value, the empty one for none, to exposures."""
        if not ids:
            return 0
        self.refresh()
        before = self._words(name).texts(self.rows.positions(ids))
        write(ids, value)
        self.wrote(name, ids, value or None)
        self._did(Done(label, lambda: self._put_back(name, ids, before, [value] * len(ids), write)))
        return len(ids)

    def _put_back(
        self,
        name: str,
        ids: list[int],
        before: list[str],
        after: list[str],
        write: Callable[[list[int], Any], Any],
    ) -> None:
        """Take a change back; what others changed since, or deleted, stays as it is."""
        self.refresh()
        present = set(self.rows.ids[self.rows.positions(ids)].tolist())
        ours = [(i, old, new) for i, old, new in zip(ids, before, after, strict=True) if i in present]
        now = self._words(name).texts(self.rows.positions(i for i, _, _ in ours))
        kept = [(i, old) for (i, old, new), word in zip(ours, now, strict=True) if word == new]
        for value, some in _by_value((i for i, _ in kept), (old for _, old in kept)).items():
            write(some, value)
        self.refresh()

    # Taking back

    @property
    def undoable(self) -> str:
        """What :meth:`undo` would take back; empty where there is nothing."""
        return self._done[-1].label if self._done else ""

    def undo(self) -> str:
        """Take back the last thing done here; returns what it was."""
        if not self._done:
            raise ParameterError("there is nothing to take back: nothing has been changed here yet")
        done = self._done[-1]
        done.undo()  # where it fails, it is still there to be tried again
        self._done.remove(done)
        return done.label

    def _did(self, done: Done) -> None:
        self._done = [*self._done[-MOST_UNDONE + 1 :], done]

    # Helpers

    def _ids_at(self, rows: Positions | Bools) -> list[int]:
        ids: list[int] = self.rows.ids[rows].tolist()
        return ids

    def _words(self, name: str) -> Words:
        column = self.rows.column(name)
        assert isinstance(column, Words)
        return column

    def _known(self, ids: Iterable[int]) -> list[int]:
        given = list(dict.fromkeys(int(identity) for identity in ids))
        missing = set(given) - set(self.rows.ids[self.rows.positions(given)].tolist())
        if missing:
            self.refresh()  # it may have been imported a moment ago
            missing -= set(self.rows.ids[self.rows.positions(missing)].tolist())
        if missing:
            some = ", ".join(map(str, sorted(missing)[:5]))
            raise ParameterError(
                f"{len(missing)} of {len(given)} exposures do not exist (ids {some}); none was changed"
            )
        return given


def _by_value(ids: Iterable[int], values: Iterable[str]) -> dict[str, list[int]]:
    found: dict[str, list[int]] = {}
    for identity, value in zip(ids, values, strict=True):
        found.setdefault(value, []).append(identity)
    return found


def _exposures(ids: list[int]) -> str:
    return f"{len(ids):,} exposure{'s' * (len(ids) != 1)}"


def _as_filter(wanted: tuple[float | None, float | None]) -> str:
    low, high = wanted
    if low is None and high is None:
        return ""
    return f"{'' if low is None else repr(float(low))}..{'' if high is None else repr(float(high))}"
