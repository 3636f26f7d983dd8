"""The library as a table: the browser shows some lines of it, the kernel sorts, filters, groups and selects."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Iterable
from typing import Any

import anywidget
import traitlets

from focusnb.errors import ParameterError
from focusnb.panels import table_lines
from focusnb.panels.base import Panel, explain
from focusnb.panels.polling import in_thread
from focusnb.panels.theme import bundle
from focusnb.project.browsing import Browser
from focusnb.project.browsing.rows import Changed, Rows
from focusnb.project.project import Project

MOST_LINES = 400
"""Lines sent at once, however many are asked for."""

MOST_COPIED = 20_000
"""Rows copied at once: more belongs into an exported file."""

FEW = 200
"""Highlighted rows told by their ids; of more the browsers ask for the lines they show."""

AGAIN = 1.0
"""Seconds after which what could not be read is read again."""

WAIT = 0.2
"""Seconds in which the first lines reach the browser before the kernel reads the rest."""

_BROWSER = "from focusnb.project.browsing import Browser\n\nbrowser = Browser(project, eager=False, own=False)"

Reply = dict[str, Any] | None


class TableWidget(anywidget.AnyWidget):
    """The browser's side of the table. ``highlighted``, ``current`` and ``ticked_count`` are for programs to observe.

    They are not sent along: what the browser shows comes in windows of lines.
    """

    _esm = bundle("table.mjs")
    height = traitlets.Int(560, min=240).tag(sync=True)
    highlighted: traitlets.List[int] = traitlets.List()
    current = traitlets.Int(None, allow_none=True)
    ticked_count = traitlets.Int(0)


class LibraryTable(Panel):
    """Show the exposures of a project; ``browser`` is the same table for programs.

    ``highlighted`` rows are those under mouse or keyboard, ``current`` the one with the cursor; ticked ones are kept in
    the project. ``selection`` is what an action works on: the ticked exposures, or where none is, the highlighted.
    """

    def __init__(self, project: Project, *, alone: bool = True, height: int = 560) -> None:
        super().__init__(project, alone=alone)
        self.browser = Browser(project, eager=False)
        self.grid = TableWidget(height=height)
        self._actions = _Actions(self)
        self._on_highlight: list[Callable[[list[int]], object]] = []
        self._on_open: list[Callable[[int], object]] = []
        self._on_current: list[Callable[[int | None], object]] = []
        self._columns_sent: list[dict[str, Any]] = []
        self._state_sent: dict[str, Any] = {}
        self._marks_sent: Any = None
        self._first = True
        self._loading: asyncio.Task[None] | None = None
        self._catching_up: asyncio.Task[None] | None = None
        self._on_caught_up: list[Callable[[], object]] = []
        self._on_arranged: list[Callable[[], object]] = []
        self._sight = 0, MOST_LINES
        """The lines a browser asked for last: first, and how many."""
        self._is_unanswered = False
        self.marks_known: dict[Any, int] = {}
        """Changes of the highlight known of each view: what lines made before its last one say of it is old."""
        self.grid.on_msg(self._on_message)
        self.body.children = [self.grid]
        self.grid.ticked_count = self.browser.ticked_count
        self.start()

    # For programs and other panels

    def on_highlight(self, callback: Callable[[list[int]], object]) -> None:
        """Call with the ids whenever other rows are highlighted."""
        self._on_highlight.append(callback)

    def on_open(self, callback: Callable[[int], object]) -> None:
        """Call with the id of an exposure that is double clicked, or opened by Enter."""
        self._on_open.append(callback)

    def on_current(self, callback: Callable[[int | None], object]) -> None:
        """Call with the exposure under the cursor whenever it is another one; None on the line of a group."""
        self._on_current.append(callback)

    def on_caught_up(self, callback: Callable[[], object]) -> None:
        """Call when rows were read that came later than the change that was told, as they were very many."""
        self._on_caught_up.append(callback)

    def on_arranged(self, callback: Callable[[], object]) -> None:
        """Call when other rows are shown, or in another order."""
        self._on_arranged.append(callback)

    @property
    def highlighted(self) -> list[int]:
        """Ids of the highlighted rows, in the order of the table."""
        return list(self.grid.highlighted)

    @property
    def current(self) -> int | None:
        """The exposure under the cursor."""
        return None if self.grid.current is None else int(self.grid.current)

    @property
    def ticked_count(self) -> int:
        """How many exposures are ticked."""
        return int(self.grid.ticked_count)

    @property
    def selection(self) -> list[int]:
        """Ids of the ticked exposures; of the highlighted ones where none is ticked."""
        return self.browser.selection or self.highlighted

    @property
    def shown(self) -> list[int]:
        """Ids of the rows that pass the filters, in their order."""
        return self.browser.shown

    @property
    def shown_code(self) -> str:
        """Python lines that make ``ids`` the rows shown: those that pass the same filters, in the same order."""
        return f"{_BROWSER}\n{self.browser.code()}\nids = browser.shown  # those there are when this runs"

    @property
    def selection_code(self) -> str:
        """Python lines that make ``ids`` the selection; empty where there is no other way than to name each."""
        if self.browser.ticked_count:
            return f"{_BROWSER}\nids = browser.selection  # those ticked when this runs"
        return self.shown_code if self.browser.highlighted_count == self.browser.shown_count else ""

    @property
    def order(self) -> Any:
        """The same as :attr:`shown`, as an array: to be looked into often, where there are very many."""
        return self.browser.order

    @property
    def columns(self) -> list[str]:
        """Names of the columns shown."""
        return self.browser.columns

    def highlight(self, ids: Iterable[int], *, reveal: bool = True) -> None:
        """Highlight rows, as a plot does when points are chosen; the first one gets the cursor and comes into sight."""
        self.browser.highlight(ids)
        marked = self.browser.highlighted
        self.set_current(marked[0] if marked else None)
        self.marked()
        if reveal and marked:
            self.reveal(marked[0])

    def step(self, by: int) -> int | None:
        """Move the cursor up or down among the rows shown; returns where it is."""
        shown = self.browser.shown
        if not shown:
            return None
        at = shown.index(self.current) + by if self.current in shown else 0
        chosen = shown[min(max(at, 0), len(shown) - 1)]
        self.highlight([chosen])
        return chosen

    def reveal(self, exposure: int) -> None:
        """Bring an exposure into sight, opening its group where that is closed."""
        if self.browser.line_of(exposure) < 0 and exposure in self.browser.shown:
            for group in self.browser.arrangement.groups:
                if not group.open and exposure in self.browser.group_ids(group.name):
                    self.browser.fold(group.name, closed=False)
            self.announce()
        line = self.browser.line_of(exposure)
        if line >= 0:
            self.grid.send({"k": "reveal", "line": line, "id": exposure})

    def show(self) -> None:
        """Bring what the browsers show in step with ``browser``, after a program has changed it."""
        self.announce()
        self.marked()

    # Following the project

    def refresh(self, changes: Changed | None) -> None:
        """Take up what changed. The table reads its own columns only."""
        if changes is None and not self._first:
            self.browser.reload()
        else:
            self.browser.refresh()
        self._first = False
        self.announce()
        self.marked()
        self._catch_up()

    def take(self, part: Rows) -> None:
        """Take up columns read in a thread, and what changed meanwhile."""
        self.browser.take(part)
        self.announce()
        self.marked()
        self._catch_up()

    def _catch_up(self) -> None:
        """Read what is behind where very many rows changed at once, a part after another, while the page goes on."""
        if not self.browser.is_behind or is_under_way(self._catching_up):
            return
        try:
            self._catching_up = asyncio.get_running_loop().create_task(self._catch_up_by_parts())
        except RuntimeError:  # a script has no loop to go on in meanwhile
            self.browser.catch_up()
            self._caught_up()

    async def _catch_up_by_parts(self) -> None:
        changed = False
        while not self.is_gone and self.browser.is_behind:
            with self.guard("read what changed"):
                chunk = await asyncio.wrap_future(in_thread(self.browser.fetch_behind(self._sight)))
                if not self.is_gone and self.browser.take_behind(chunk):
                    changed = True
                    self.announce()
                continue
            await asyncio.sleep(AGAIN)
        if changed and not self.is_gone:
            self._caught_up()

    def _caught_up(self) -> None:
        self.announce()
        self.marked()
        for callback in self._on_caught_up:
            callback()

    # Talking to the browsers

    def _on_message(self, _: Any, message: dict[str, Any], __: Any = None) -> None:
        kind = message.get("k")
        if kind == "ready":
            self._columns_sent, self._state_sent = [], {}
            self.announce()
            self._send_marks(None)
        elif kind == "window":
            self._answer_window(message)
        elif kind == "do":
            self._do(message)

    def _answer_window(self, message: dict[str, Any]) -> None:
        """Send lines. The browser waits for them and asks for no others, so that they come as soon as they can."""
        if self.is_gone:
            return
        try:
            self._send_window(message)
        except Exception as error:
            self._is_unanswered = True
            self.tell("failed", *explain(error, "show the rows"))
            with contextlib.suppress(RuntimeError):
                asyncio.get_running_loop().call_later(AGAIN, self._answer_window, message)
        else:
            if self._is_unanswered:
                self._is_unanswered = False
                self.quiet()

    def _send_window(self, message: dict[str, Any]) -> None:
        count = min(int(message.get("count", 200)), MOST_LINES)
        start, shift = table_lines.follow(self.browser, int(message.get("start", 0)), count, message.get("anchor"))
        lines = table_lines.window(self.browser, start, count)
        if self.browser.version != self._state_sent.get("version"):
            self.announce()  # a browser asks again for lines of another version than it knows of
        view = message.get("view")
        reply = {"k": "window", "view": view, "version": self.browser.version, "marked": self.marks_known.get(view, 0)}
        self.grid.send({**reply, "start": start, "shift": shift, "lines": lines})
        self._sight = start, count
        if self.browser.is_loaded or is_under_way(self._loading):
            return
        try:
            self._loading = asyncio.get_running_loop().create_task(self._load())
        except RuntimeError:  # a script has no loop to go on in meanwhile
            self.browser.load()
            self.announce()

    async def _load(self) -> None:
        """Read what the first lines did not need, the columns of all rows, once the browser has had its answer."""
        await asyncio.sleep(WAIT)
        while not self.is_gone and not self.browser.is_loaded:
            with self.guard("read the columns shown"):
                part = await asyncio.wrap_future(in_thread(self.browser.fetch))
                if not self.is_gone:
                    self.take(part)
                continue
            await asyncio.sleep(AGAIN)

    def _do(self, message: dict[str, Any]) -> None:
        what = str(message.get("what"))
        reply: dict[str, Any] = {"k": "done", "n": message.get("n"), "view": message.get("view")}
        revision = self.browser.rows.revision
        try:
            reply |= self._actions.do(what, message) or {}
        except Exception as error:
            reply["error"], reply["details"] = explain(error, what)
        self.announce()
        self.marked(message.get("view"))
        if reply["n"] is not None or "error" in reply:
            self.grid.send(reply)
        if self.browser.rows.revision != revision:
            self.poke()

    def announce(self) -> None:
        """Tell the browsers what the table is like now, if that has changed."""
        browser = self.browser
        self.grid.ticked_count = browser.ticked_count
        columns = table_lines.columns(browser)
        state = table_lines.state(browser)
        if columns == self._columns_sent and state == self._state_sent:
            return
        new_columns = None if columns == self._columns_sent else columns
        self._columns_sent, self._state_sent = columns, state
        self.grid.send({"k": "state", "columns": new_columns, **state})
        for callback in self._on_arranged:
            callback()

    def set_current(self, exposure: int | None) -> None:
        """Put the cursor on an exposure."""
        if exposure == self.current:
            return
        self.grid.current = exposure
        for callback in self._on_current:
            callback(exposure)

    def marked(self, view: str | None = None) -> None:
        """Tell everybody which rows are highlighted, if others are than before; ``view`` did it and knows."""
        highlighted = self.browser.highlighted
        if highlighted == self.grid.highlighted:
            return
        self.grid.highlighted = highlighted
        self._send_marks(view)
        for callback in self._on_highlight:
            callback(highlighted)

    def _send_marks(self, view: str | None) -> None:
        marked = self.highlighted
        few = marked if len(marked) <= FEW else None
        self.grid.send({"k": "marks", "view": view, "highlighted": len(marked), "ids": few})

    def opened(self, exposure: int) -> None:
        """Tell those who want to know that an exposure was opened."""
        for callback in self._on_open:
            callback(exposure)


def is_under_way(task: asyncio.Task[None] | None) -> bool:
    """Whether a task was begun and has not ended."""
    return task is not None and not task.done()


class _Actions:
    """What a browser may ask for, by name."""

    def __init__(self, table: LibraryTable) -> None:
        self._table = table
        self._by_name: dict[str, Callable[[Browser, dict[str, Any]], Reply]] = {
            "sort": lambda b, m: b.sort([(str(name), bool(ascending)) for name, ascending in m["keys"]]),
            "filter": lambda b, m: b.filter(**{m["column"]: m["value"]}),
            "text": lambda b, m: b.filter(text=m["value"]),
            "clear": lambda b, m: b.clear_filters(),
            "group": lambda b, m: b.group_by(m["name"]),
            "fold": lambda b, m: b.fold(*m["groups"], closed=m["closed"]),
            "show": lambda b, m: b.show(only_ticked=m.get("only_ticked"), trash=m.get("trash")),
            "columns": lambda b, m: setattr(b, "columns", m["names"]),
            "column": lambda b, m: b.show_column(m["name"], m["shown"], before=m.get("before")),
            "usual": lambda b, m: b.usual_columns(),
            "width": lambda b, m: b.set_width(m["name"], m["width"]),
            "chooser": lambda b, m: {"columns": table_lines.all_columns(b)},
            "choices": lambda b, m: {"choices": b.choices(m["column"])},
            "groups": lambda b, m: {"groups": b.choices("group")},
            "selections": lambda b, m: {"selections": list(b.selections().items())},
            "newest": lambda b, m: {"line": b.line_of(int(b.rows.ids[-1])) if len(b) else -1},
            "highlight": self._highlight,
            "open": self._open,
            "copy": self._copy,
            "tick": self._tick,
            "save": lambda b, m: {"told": f"{b.save_selection(m['name']):,} exposures saved as {m['name'].strip()}"},
            "load": lambda b, m: {"told": f"{b.load_selection(m['name']):,} exposures ticked"},
            "auto": self._auto,
            "flag": lambda b, m: _told(b, b.flag(self._ids(m), m["flag"] or None), least=2),
            "comment": lambda b, m: _told(b, b.comment([m["id"]], m["text"]), least=2),
            "move": lambda b, m: _told(b, b.move(self._ids(m), m["group"])),
            "trash": lambda b, m: _told(b, b.trash(self._ids(m))),
            "restore": lambda b, m: _told(b, b.restore(self._ids(m))),
            "rename": lambda b, m: _told(b, b.rename_group(m["group"], m["name"])),
            "undo": lambda b, m: {"told": f"Taken back: {b.undo()}"},
        }

    def do(self, what: str, message: dict[str, Any]) -> Reply:
        """Do it; ParameterError for what cannot be asked for."""
        if what not in self._by_name:
            raise ParameterError(f"the table cannot {what}; load the page again, which may be older than the kernel")
        return self._by_name[what](self._table.browser, message)

    def _ids(self, message: dict[str, Any]) -> list[int]:
        ids = message.get("ids")
        given = self._table.browser.highlighted if ids is None else [int(identity) for identity in ids]
        if not given:
            raise ParameterError("no row is highlighted; click on one first")
        return given

    def _highlight(self, browser: Browser, message: dict[str, Any]) -> Reply:
        self._table.marks_known[message.get("view")] = int(message.get("number", 0))
        first, last = (table_lines.line_of(browser, message[end]) for end in ("from", "to"))
        if first >= 0 and last >= 0:
            browser.highlight_lines(first, last, mode=message["mode"])
        group = message.get("group")
        if message.get("none"):
            browser.highlight([])
        elif group is not None:
            browser.highlight(browser.group_ids(group), mode=message["mode"])
        current = message.get("current")
        self._table.set_current(None if current is None else int(current))
        return None

    def _open(self, browser: Browser, message: dict[str, Any]) -> Reply:
        self._table.opened(int(message["id"]))
        return None

    def _copy(self, browser: Browser, message: dict[str, Any]) -> Reply:
        ids = self._ids(message)
        if len(ids) > MOST_COPIED:
            raise ParameterError(
                f"{len(ids):,} rows are too many to copy; export them, or copy {MOST_COPIED:,} at once"
            )
        return {"text": table_lines.as_text(browser, ids, names_only=bool(message.get("names")))}

    def _tick(self, browser: Browser, message: dict[str, Any]) -> Reply:
        how = message["how"]
        if how == "none":
            browser.set_ticks([])
        elif how in ("all", "invert"):
            (browser.tick if how == "all" else browser.invert_ticks)(browser.shown)
        elif message.get("group") is not None:
            (browser.tick if how == "tick" else browser.untick)(browser.group_ids(message["group"]))
        elif message.get("from") is not None:
            between = browser.ids_between(int(message["from"]), int(message["to"]))
            (browser.tick if how == "tick" else browser.untick)(between)
        else:
            (browser.tick if how == "tick" else browser.untick)(self._ids(message))
        return None

    def _auto(self, browser: Browser, message: dict[str, Any]) -> Reply:
        ranges = dict(message["ranges"])
        options = {"flags": message["flags"], "ignore_sign": bool(message["ignore_sign"])}
        if message.get("commit"):
            return {"told": f"{browser.auto_select(ranges, **options):,} exposures ticked"}
        return {"count": len(browser.within(ranges, **options))}


def _told(browser: Browser, count: int, *, least: int = 1) -> Reply:
    """What was done, with the offer to take it back, where it concerns so many rows; on fewer the eye rests anyway."""
    return {"told": browser.undoable, "undo": True} if count >= least else None
