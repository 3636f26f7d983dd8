"""The library as a table to look through: the model behind the panel, complete without it.

browser = Browser(project)
browser.filter(ctf_fit_resolution="..4", text="square_3")
browser.sort([("ctf_fit_resolution", True), ("drift", False)])
browser.tick(browser.shown)
browser.frame                    # the rows shown, as a DataFrame
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from focusnb.errors import ParameterError
from focusnb.parameters import Spec
from focusnb.project.browsing import layout as layouts
from focusnb.project.browsing.arrangement import Arrangement, Group
from focusnb.project.browsing.columns import Bools, Numbers, Words
from focusnb.project.browsing.editing import Editing
from focusnb.project.browsing.filters import Filter, example, parse_filter
from focusnb.project.browsing.rows import ALWAYS, Chunk, Difference, Ids, Rows
from focusnb.project.project import Project
from focusnb.project.sets import TRASH

if TYPE_CHECKING:
    import pandas as pd

SEARCHED = ("exposure", "comment", "reason")
"""Columns a text is looked for in."""

FIRST = "exposure"
"""The column that is always shown, first."""


@dataclass(frozen=True)
class RowLine:
    """A row as the table shows it; ``cells`` are texts in the order of the columns."""

    id: int
    ticked: bool
    highlighted: bool
    cells: list[str]
    reason: str


@dataclass(frozen=True)
class GroupLine:
    """A group as the table shows it; ``cells`` are means over its rows, ``unwell`` how many failed or are broken."""

    group: Group
    ticked: int
    unwell: int
    cells: list[str]


class Browser(Editing):
    """The exposures of a project: sorted, filtered, grouped, ticked and highlighted.

    *Ticked* exposures are kept in the project and are what the next step works on; *highlighted* ones are those the
    mouse or the keyboard is on, in this browser only.
    """

    def __init__(self, project: Project, *, eager: bool = True, own: bool = True) -> None:
        """``eager``: read all columns shown at once; else only what puts the rows in order, until :meth:`load`.

        Likewise later: of very many rows that changed at once, only what people decide, until :meth:`catch_up`.
        ``own``: in this user's columns, order and groups, which are kept; else as the project's mode has them.
        """
        self.project = project
        self._eager = eager
        self._own = own
        kept = layouts.read_layout(project) if own else layouts.default_layout(project)
        wanted = [*(name for name, _ in kept.sort), *filter(None, [kept.grouped]), *(kept.columns if eager else ())]
        self.rows = Rows(project.library, wanted)
        names = [name for name in kept.columns if name in self.rows.specs and name != FIRST]
        self._columns = [FIRST, *dict.fromkeys(names)]
        self.widths = kept.widths
        self._sort = [(name, ascending) for name, ascending in kept.sort if name in self.rows.specs]
        self._grouped = kept.grouped if kept.grouped in self.rows.specs else None
        if self._grouped is not None and not isinstance(self.rows.column(self._grouped), Words):
            self._grouped = None
        self.filters: dict[str, Filter] = {}
        self.text = ""
        self.only_ticked = False
        self.show_trash = False
        self.closed: set[str] = set()
        self.remark = ""
        self.version = 0
        self.added = 0
        self.highlights: Bools = np.zeros(len(self.rows), np.bool_)
        self._marked_ids: Ids = self.rows.ids
        """Whose ticks and highlights are kept."""
        self._masks: dict[str, Bools] = {}
        self._arrangement: Arrangement | None = None
        super().__init__()

    # Keeping up

    def refresh(self) -> Difference | None:
        """Take up what changed in the library, whoever changed it; None where nothing did.

        Order, filters, ticks and highlight stay. Costs what changed, and a sorting.
        """
        return self._follow(self.rows.refresh(whole=self._eager))

    def wrote(self, name: str, ids: list[int], value: str | None) -> Difference | None:
        """Take up one value just written to rows, without reading again what is known."""
        return self._follow(self.rows.wrote(name, ids, value))

    def reload(self) -> None:
        """Read all anew, as after the library was replaced; order, filters and highlight stay."""
        self._follow(self.rows.reload())

    @property
    def is_loaded(self) -> bool:
        """Whether the columns shown have been read; groups have no means before."""
        return all(name in self.rows.columns for name in self._columns)

    def load(self) -> None:
        """Read the columns shown."""
        self.rows.need(self._columns)
        self._stale()

    def fetch(self) -> Rows:
        """Read the columns shown for :meth:`take`; may be called in a thread."""
        return self.rows.fetch([name for name in self._columns if name not in self.rows.columns])

    def take(self, part: Rows) -> None:
        """Take up what :meth:`fetch` has read, and what changed meanwhile."""
        if self.rows.take(part):
            self._stale()
            self.refresh()

    @property
    def is_behind(self) -> bool:
        """Whether what was found for some rows has to be read again; see :meth:`catch_up`."""
        return bool(len(self.rows.behind))

    def catch_up(self) -> None:
        """Read all that is behind."""
        while self.is_behind:
            self.take_behind(self.rows.fetch_behind())

    def fetch_behind(self, lines: tuple[int, int]) -> Callable[[], Chunk]:
        """What reads a part of what is behind, beginning with the lines in sight; to be called in a thread."""
        seen = self.arrangement.lines[lines[0] : sum(lines)]
        ids = self.rows.ids[seen[seen >= 0]]
        return lambda: self.rows.fetch_behind(ids)

    def take_behind(self, chunk: Chunk) -> bool:
        """Take up what was read, and what changed meanwhile; whether anything is shown otherwise now."""
        before, revision = self.version, self.rows.revision
        self._follow(self.rows.take_behind(chunk))
        if self.rows.revision < revision:
            self.refresh()
        return self.version != before

    def _follow(self, difference: Difference | None) -> Difference | None:
        before = self._marked_ids
        if self.rows.ids is not before:
            self.ticks = np.isin(self.rows.ids, before[self.ticks])
            self.highlights = np.isin(self.rows.ids, before[self.highlights])
            self._marked_ids = self.rows.ids
        if not difference:
            return difference
        for name in difference.turned:
            if self.filters.pop(name, None) is not None:
                self.remark = f"the filter of {self.spec(name).label} was taken off: it holds text by now"
        known = self.rows.specs
        self._columns = [name for name in self._columns if name in known]
        self._sort = [(name, ascending) for name, ascending in self._sort if name in known]
        self.filters = {name: chosen for name, chosen in self.filters.items() if name in known}
        self._grouped = self._grouped if self._grouped in known else None
        if difference.selections:
            self._read_ticks()
        self.added += len(difference.added)
        self._masks.clear()
        self._stale()
        return difference

    def _stale(self) -> None:
        self._arrangement = None
        self.version += 1

    def _ticks_changed(self) -> None:
        self._masks.pop("ticked", None)
        self._stale()

    # What is shown

    @property
    def arrangement(self) -> Arrangement:
        """The lines of the table as they are now."""
        if self._arrangement is None:
            self._arrangement = Arrangement(
                self.rows, self._passing(), sort=self._sort, grouped=self._grouped, closed=self.closed
            )
        return self._arrangement

    def _passing(self) -> Bools:
        passing = np.ones(len(self.rows), np.bool_)
        for name, chosen in self.filters.items():
            if name not in self._masks:
                self._masks[name] = chosen.test(self.rows.column(name))
            passing &= self._masks[name]
        if self.text:
            if "text" not in self._masks:
                self._masks["text"] = self._holding(self.text)
            passing &= self._masks["text"]
        if self.only_ticked:
            passing &= self.ticks
        if not self.show_trash:
            passing &= ~self._in_trash()
        return passing

    def _holding(self, text: str) -> Bools:
        letters = text.casefold()
        found = np.zeros(len(self.rows), np.bool_)
        for name in SEARCHED:
            found |= self._words(name).matching(lambda word: letters in word)
        return found

    def _in_trash(self) -> Bools:
        if "trash" not in self._masks:
            self._masks["trash"] = self._words("group").being(TRASH)
        return self._masks["trash"]

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def lines(self) -> int:
        """How many lines the table has, those of groups included."""
        return len(self.arrangement.lines)

    @property
    def shown(self) -> list[int]:
        """Ids of the rows that pass the filters, in their order; those of closed groups too."""
        return self._ids_at(self.arrangement.positions)

    @property
    def order(self) -> Ids:
        """The same as an array."""
        ids: Ids = self.rows.ids[self.arrangement.positions]
        return ids

    @property
    def shown_count(self) -> int:
        """How many rows pass the filters."""
        return len(self.arrangement.positions)

    @property
    def ticked_count(self) -> int:
        """How many exposures are ticked, shown or not."""
        return int(self.ticks.sum())

    @property
    def trashed_count(self) -> int:
        """How many exposures are in TRASH."""
        return int(self._in_trash().sum())

    @property
    def frame(self) -> pd.DataFrame:
        """The rows shown as a DataFrame: the columns shown, in their order; ``attrs`` holds units and labels."""
        import pandas as pd

        self.catch_up()
        positions = self.arrangement.positions
        names = list(dict.fromkeys([*self._columns, *filter(None, [self._grouped])]))
        index = pd.Index(self.rows.ids[positions], name="id")
        data = {name: self.rows.column(name).raw(positions) for name in names}
        table = pd.DataFrame({name: pd.Series(values) for name, values in data.items()}).set_axis(index, axis=0)
        specs = self.rows.specs
        table.attrs["units"] = {name: specs[name].unit for name in names if specs[name].unit}
        table.attrs["labels"] = {name: specs[name].label for name in names}
        return table

    def window(self, start: int, count: int) -> list[RowLine | GroupLine]:
        """Some lines, as they are shown."""
        arrangement = self.arrangement
        lines = arrangement.lines[max(start, 0) : max(start, 0) + count]
        positions = lines[lines >= 0].astype(np.intp)
        known, peeked = self.rows.columns, self.rows.peek(self._columns, positions)
        every = np.arange(len(positions))
        texts = (known[name].texts(positions) if name in known else peeked[name].texts(every) for name in self._columns)
        cells = zip(*texts, strict=True)
        reasons = iter(self._words("reason").texts(positions))
        ids = iter(self.rows.ids[positions].tolist())
        ticked = iter(self.ticks[positions].tolist())
        highlighted = iter(self.highlights[positions].tolist())
        found: list[RowLine | GroupLine] = []
        ticks = unwell = None
        for line in lines.tolist():
            if line >= 0:
                found.append(RowLine(next(ids), next(ticked), next(highlighted), list(next(cells)), next(reasons)))
                continue
            if ticks is None or unwell is None:
                ticks = arrangement.counted(self.ticks)
                unwell = arrangement.counted(self._words("status").matching({"failed", "broken"}.__contains__))
            number = -1 - line
            means = [self._mean(name, number) for name in self._columns]
            found.append(GroupLine(arrangement.groups[number], ticks[number], unwell[number], means))
        return found

    def _mean(self, name: str, number: int) -> str:
        column = self.rows.columns.get(name)
        if not isinstance(column, Numbers) or not column.averaged:
            return ""
        return column.mean_text(float(self.arrangement.means(name)[number]))

    def line_of(self, exposure: int) -> int:
        """The line of an exposure; -1 where it is not among the lines."""
        found = self.rows.positions([exposure])
        return self.arrangement.line_of(int(found[0])) if len(found) else -1

    def id_at(self, line: int) -> int | None:
        """The exposure on a line; None on the line of a group."""
        position = int(self.arrangement.lines[line])
        return int(self.rows.ids[position]) if position >= 0 else None

    def ids_between(self, one: int, other: int) -> list[int]:
        """Ids of the rows from one exposure to another as they are shown; of those two that are shown otherwise."""
        ends = [line for line in (self.line_of(one), self.line_of(other)) if line >= 0]
        lines = self.arrangement.lines[min(ends) : max(ends) + 1] if ends else self.arrangement.lines[:0]
        return self._ids_at(lines[lines >= 0].astype(np.intp))

    def group_ids(self, name: str) -> list[int]:
        """Ids of the rows shown below a group."""
        for number, group in enumerate(self.arrangement.groups):
            if group.name == name:
                return self._ids_at(self.arrangement.group_rows(number))
        return []

    # Sorting and grouping

    @property
    def sorting(self) -> list[tuple[str, bool]]:
        """The keys of the sorting: name, and whether ascending."""
        return list(self._sort)

    def sort(self, keys: str | Iterable[str | tuple[str, bool]] | None = None) -> None:
        """Sort by columns, the first key counting most; rows without a value come last.

        A key is a name, a name with a minus before it, or (name, ascending). Without keys rows are in the order in
        which they were imported. Within groups where the table is grouped.
        """
        given = [keys] if isinstance(keys, str) else list(keys or ())
        wanted: dict[str, bool] = {}
        for key in given:
            name, ascending = (key.removeprefix("-"), key[:1] != "-") if isinstance(key, str) else key
            self.rows.spec(name)
            wanted.setdefault(name, bool(ascending))
        self.rows.need(wanted)
        self._sort = list(wanted.items())
        self._stale()
        self.keep()

    @property
    def grouped(self) -> str | None:
        """The column whose values make the groups; None where there are no groups."""
        return self._grouped

    def group_by(self, name: str | None) -> None:
        """Put rows below the values of a column of texts, ``group`` as a rule; None shows them without groups."""
        if name is not None and not isinstance(self.rows.column(name), Words):
            raise ParameterError(f"{self.spec(name).label} holds numbers; group by texts such as group or status")
        self._grouped = name
        self.closed.clear()
        self._stale()
        self.keep()

    def fold(self, *groups: str, closed: bool = True) -> None:
        """Close groups, or open them; all of them where none is named."""
        names = set(groups) or {group.name for group in self.arrangement.groups}
        self.closed = self.closed | names if closed else self.closed - names
        self._stale()

    # Filters

    def filter(self, text: str | None = None, **columns: str | None) -> None:
        """Show only rows that pass: ``text`` is looked for in names, comments and reasons, the rest by column.

        What a column understands is described in :mod:`focusnb.project.browsing.filters`; nothing takes a filter off,
        others stay as they are. Raises FilterError, with an example, where one cannot be read; then none is changed.
        """
        changed: dict[str, Filter | None] = {}
        for name, typed in columns.items():
            self.rows.spec(name)
            changed[name] = parse_filter(typed, self.rows.column(name)) if typed and typed.strip() else None
        self.remark = ""
        for name, chosen in changed.items():
            self._masks.pop(name, None)
            if chosen is None:
                self.filters.pop(name, None)
            else:
                self.filters[name] = chosen
        if text is not None:
            self.text = text.strip()
            self._masks.pop("text", None)
        self._stale()

    def clear_filters(self) -> None:
        """Take all filters off, that for ticked rows included."""
        self.filters.clear()
        self._masks.clear()
        self.text, self.only_ticked = "", False
        self._stale()

    def show(self, *, only_ticked: bool | None = None, trash: bool | None = None) -> None:
        """Show ticked rows only, or TRASH as well."""
        self.only_ticked = self.only_ticked if only_ticked is None else only_ticked
        self.show_trash = self.show_trash if trash is None else trash
        self._stale()

    def choices(self, name: str) -> list[tuple[str, int]]:
        """The words of a column with how many exposures have each, as far as the other filters let them pass."""
        column = self.rows.column(name)
        if not isinstance(column, Words):
            raise ParameterError(f"{column.spec.label} holds numbers; filter it by a range such as 1.0..2.5")
        own = self.filters.pop(name, None)
        try:
            positions = np.flatnonzero(self._passing())
        finally:
            if own is not None:
                self.filters[name] = own
        counted = dict(column.counts(positions))
        choices = dict.fromkeys(str(choice) for choice in column.spec.choices)
        return [(word, counted.get(word, 0)) for word in dict.fromkeys([*choices, *counted])]

    # Columns

    @property
    def columns(self) -> list[str]:
        """Names of the columns shown, in order."""
        return list(self._columns)

    @columns.setter
    def columns(self, names: Iterable[str]) -> None:
        wanted = list(dict.fromkeys([FIRST, *names]))
        self.rows.need(wanted)
        self._columns = wanted
        self._stale()
        self.keep()

    def show_column(self, name: str, shown: bool = True, *, before: str | None = None) -> None:
        """Show a column, before another one or last; or hide it."""
        self.rows.spec(name)
        others = [other for other in self._columns if other != name]
        if shown:
            place = others.index(before) if before in others else len(others)
            others.insert(max(place, 1), name)
        self.columns = others

    def set_width(self, name: str, width: int | None) -> None:
        """Set the width of a column in pixels; None lets the table choose."""
        self.rows.spec(name)
        if width is None:
            self.widths.pop(name, None)
        else:
            self.widths[name] = int(min(max(width, layouts.NARROWEST), layouts.WIDEST))
        self.keep()

    def usual_columns(self) -> None:
        """Show what the project's mode shows, in its widths."""
        self.widths.clear()
        self.columns = [name for name in layouts.default_layout(self.project).columns if name in self.rows.specs]

    def kind(self, name: str) -> str:
        """How a column is shown: number, yes, time, text, choice, flag, status or comment."""
        return self.rows.sample(name).kind

    def example(self, name: str) -> str:
        """Filters a column understands."""
        return example(self.rows.sample(name))

    @property
    def is_measured(self) -> bool:
        """Whether any of the columns shown that hold findings or facts has a value in any row shown."""
        if not self.is_loaded:
            return True  # it is not known yet
        own = set(ALWAYS)
        positions = self.arrangement.positions
        columns = (self.rows.column(name) for name in self._columns if name not in own)
        return any(not bool(column.empty()[positions].all()) for column in columns)

    def spec(self, name: str) -> Spec:
        """The declaration of a column; ParameterError where there is none."""
        return self.rows.spec(name)

    def keep(self) -> None:
        """Keep columns, widths, sorting and grouping for this user's next session at the project."""
        if not self._own:
            return
        kept = layouts.Layout(self._columns, self.widths, self._sort, self._grouped)
        self.remark = layouts.keep_layout(self.project, kept) or self.remark

    # Highlight

    @property
    def highlighted(self) -> list[int]:
        """Ids of the highlighted rows, in the order of the table.

        Those that do not pass the filters, or went to TRASH, are left out: nobody works on rows that cannot be seen.
        They are highlighted again when they are shown again.
        """
        order = self.arrangement.positions
        return self._ids_at(order[self.highlights[order]])

    @property
    def highlighted_count(self) -> int:
        """How many of the rows shown are highlighted."""
        return int(self.highlights[self.arrangement.positions].sum())

    def highlight(self, ids: Iterable[int], *, mode: str = "replace") -> None:
        """Highlight rows: ``replace`` what was, ``add`` to it, ``remove`` from it, or ``toggle``."""
        self._mark(self.rows.positions(ids), mode)

    def highlight_lines(self, first: int, last: int, *, mode: str = "replace") -> None:
        """Highlight the rows from one line to another, both included, whichever comes first."""
        low, high = sorted((first, last))
        lines = self.arrangement.lines[max(low, 0) : high + 1]
        self._mark(lines[lines >= 0].astype(np.intp), mode)

    def _mark(self, positions: Any, mode: str) -> None:
        if mode not in ("replace", "add", "remove", "toggle"):
            raise ParameterError(f"{mode} is no way to highlight; there are replace, add, remove and toggle")
        marks = np.zeros_like(self.highlights) if mode == "replace" else self.highlights.copy()
        marks[positions] = {"remove": False, "toggle": ~marks[positions]}.get(mode, True)
        self.highlights = marks

    # As code

    def code(self) -> str:
        """Python lines that show the same rows in the same order."""
        given = [f"text={self.text!r}"] if self.text else []
        given += [f"{name}={chosen.text!r}" for name, chosen in self.filters.items()]
        lines = [f"browser.filter({', '.join(given)})"] if given else []
        if self._sort:
            lines.append(f"browser.sort({self._sort!r})")
        lines.append(f"browser.group_by({self._grouped!r})")
        shown = [f"{name}=True" for name in ("only_ticked", "show_trash") if getattr(self, name)]
        if shown:
            lines.append(f"browser.show({', '.join(shown).replace('show_trash', 'trash')})")
        return "\n".join(lines)
