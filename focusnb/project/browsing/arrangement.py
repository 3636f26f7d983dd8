"""The lines of the table: which rows pass, in which order, below which groups."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from focusnb.project.browsing.columns import Bools, Floats, Numbers, Positions, Words
from focusnb.project.browsing.rows import Rows
from focusnb.project.sets import TRASH

Lines = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Group:
    """A group of rows: its name (empty for rows of none), how many of its rows are shown, whether it is open."""

    name: str
    count: int
    open: bool


class Arrangement:
    """The rows that pass, sorted, and the lines they make; made anew whenever either may have changed."""

    def __init__(
        self,
        rows: Rows,
        passing: Bools,
        *,
        sort: Sequence[tuple[str, bool]],
        grouped: str | None,
        closed: Collection[str] = (),
    ) -> None:
        self._rows = rows
        self.groups: list[Group] = []
        shown = np.flatnonzero(passing)
        keys: list[npt.NDArray[Any]] = [
            _directed(rows.column(name).keys()[shown], ascending) for name, ascending in reversed(sort)
        ]
        self._group_of: npt.NDArray[np.intp] = np.zeros(len(shown), np.intp)
        if grouped is not None:
            self._group_of, names = _groups(rows, shown, grouped)
            keys.append(self._group_of)
        # stable: rows alike in all keys stay in the order they were recorded in
        order = np.lexsort(keys) if keys else np.arange(len(shown))
        self.positions: Positions = shown[order]
        self._group_of = self._group_of[order]
        if grouped is None:
            self.lines: Lines = self.positions.astype(np.int64)
        else:
            self.lines = self._with_groups(names, closed)
        self._line_of: Lines | None = None
        self._means: dict[str, Floats] = {}

    def _with_groups(self, names: list[str], closed: Collection[str]) -> Lines:
        counts = np.bincount(self._group_of, minlength=len(names))
        parts: list[Lines] = []
        start = 0
        for number, (name, count) in enumerate(zip(names, counts.tolist(), strict=True)):
            is_open = name not in closed
            self.groups.append(Group(name, count, is_open))
            parts.append(np.array([-1 - number]))
            if is_open:
                parts.append(self.positions[start : start + count].astype(np.int64))
            start += count
        return np.concatenate(parts) if parts else np.empty(0, np.int64)

    def group_rows(self, number: int) -> Positions:
        """Positions of the rows of a group, in their order."""
        start = sum(group.count for group in self.groups[:number])
        return self.positions[start : start + self.groups[number].count]

    def line_of(self, position: int) -> int:
        """The line of a row; -1 where it has none."""
        if self._line_of is None:
            self._line_of = np.full(len(self._rows), -1, np.int64)
            at = np.flatnonzero(self.lines >= 0)
            self._line_of[self.lines[at]] = at
        return int(self._line_of[position])

    def group_line(self, name: str) -> int:
        """The line of a group; -1 where it has none."""
        for number, group in enumerate(self.groups):
            if group.name == name:
                return int(np.flatnonzero(self.lines == -1 - number)[0])
        return -1

    def means(self, name: str) -> Floats:
        """The mean of a column by group, over the rows that pass and have a value; NaN where none has."""
        if name not in self._means:
            column = self._rows.column(name)
            assert isinstance(column, Numbers)
            values = column.values[self.positions]
            known = np.isfinite(values)
            groups = self._group_of[known]
            sums = np.bincount(groups, weights=values[known], minlength=len(self.groups))
            counts = np.bincount(groups, minlength=len(self.groups))
            self._means[name] = np.divide(sums, counts, out=np.full(len(sums), np.nan), where=counts > 0)
        return self._means[name]

    def counted(self, marked: Bools) -> list[int]:
        """How many of each group's rows that pass are marked."""
        found = np.bincount(self._group_of, weights=marked[self.positions], minlength=len(self.groups))
        return [int(value) for value in found]


def _directed(keys: Floats, ascending: bool) -> Floats:
    # NaN sorts last either way
    return keys if ascending else -keys


def _groups(rows: Rows, shown: Positions, grouped: str) -> tuple[npt.NDArray[np.intp], list[str]]:
    """The number of each row's group and the groups' names: as people count, those of none before TRASH, which ends."""
    column = rows.column(grouped)
    assert isinstance(column, Words)
    codes = column.present_codes()[shown]
    present = np.unique(codes)
    ranks = column.ranks()

    def place(code: int) -> tuple[int, float]:
        if code < 0:
            return 1, 0.0
        return (2 if grouped == "group" and column.words[code] == TRASH else 0), float(ranks[code])

    in_order = sorted(present.tolist(), key=place)
    number = np.zeros(len(column.words) + 1, np.intp)
    number[in_order] = np.arange(len(in_order))
    return number[codes], ["" if code < 0 else column.words[code] for code in in_order]
