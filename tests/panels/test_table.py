"""The table's panel without a browser: what it answers, what it tells others, what it says where there is nothing."""

from __future__ import annotations

import asyncio
import json
import random
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from focusnb.panels import table as table_module
from focusnb.panels import table_lines
from focusnb.panels.table import LibraryTable
from focusnb.project.browsing import Browser
from focusnb.project.browsing import rows as reading
from focusnb.project.browsing.rows import changed_since
from focusnb.project.library import LibraryBusy
from focusnb.project.project import Project
from tests.filled import change_rows, filled_project, plausible, write_rows


class Viewer:
    """A browser that shows the table: it asks, and keeps what it is told."""

    def __init__(self, table: LibraryTable) -> None:
        self.table = table
        self.told: list[dict[str, Any]] = []
        table.grid.send = self._take  # type: ignore[method-assign]

    def _take(self, content: Any, buffers: Any = None) -> None:
        self.told.append(json.loads(json.dumps(content, allow_nan=False)))

    def send(self, **message: Any) -> list[dict[str, Any]]:
        """Send a message; returns what comes back."""
        self.told.clear()
        self.table._on_message(None, message, [])
        return list(self.told)

    def ask(self, what: str, **details: Any) -> dict[str, Any]:
        """Ask for something; returns the answer."""
        return next(m for m in self.send(k="do", n=7, view="v", what=what, **details) if m["k"] == "done")

    def window(self, start: int = 0, count: int = 200, anchor: Any = None) -> dict[str, Any]:
        """Ask for lines."""
        told = self.send(k="window", view="v", start=start, count=count, anchor=anchor)
        return next(message for message in told if message["k"] == "window")

    def follow(self) -> None:
        """Let the table take up what changed, as its poller does."""
        project = self.table.project
        self.table.refresh(changed_since(project.library, project.revision))

    def state(self) -> dict[str, Any]:
        """What a browser that comes late is told."""
        return next(message for message in self.send(k="ready") if message["k"] == "state")


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Project]:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    with filled_project(tmp_path / "project", 240) as project:
        yield project


@pytest.fixture
def table(project: Project) -> Iterator[LibraryTable]:
    table = LibraryTable(project)
    yield table
    table.close()


@pytest.fixture
def viewer(table: LibraryTable) -> Viewer:
    return Viewer(table)


def test_a_late_viewer_is_told_columns_and_state(viewer: Viewer) -> None:
    state = viewer.state()
    assert (state["total"], state["shown"], state["lines"]) == (240, 240, 252)
    columns = {column["name"]: column for column in state["columns"]}
    assert next(iter(columns)) == "exposure"
    assert (columns["defocus_u"]["label"], columns["defocus_u"]["unit"]) == ("Defocus U", "Å")
    assert columns["defocus_u"]["example"] == "1.0..2.5, >3 or <=4"
    assert [columns[name]["kind"] for name in ("exposure", "status", "flag", "drift", "recorded_at", "comment")] == [
        "name",
        "status",
        "flag",
        "number",
        "time",
        "comment",
    ]
    assert viewer.state()["columns"] == state["columns"]


def test_a_window_holds_what_is_shown_and_is_small(viewer: Viewer) -> None:
    viewer.window()  # the columns of all rows are read after the first one
    window = viewer.window()
    assert len(window["lines"]) == 200
    group, row = window["lines"][:2]
    assert group[:6] == [None, "square_1", 20, True, 0, 0]
    assert row[:2] == [12, 0]
    assert row[2][0] == "grid_12"
    assert len(json.dumps(window)) < 60_000
    assert len(viewer.window(count=100_000)["lines"]) == 252
    assert viewer.window(start=-5, count=2)["start"] == 0
    assert viewer.window(start=10_000, count=10)["start"] == 242


def test_what_stands_at_the_top_stays_there(viewer: Viewer, project: Project) -> None:
    viewer.ask("group", name=None)
    viewer.ask("sort", keys=[["exposure", False]])
    line = viewer.window(100, 10)["lines"][0]
    write_rows(project, (plausible(number, random.Random(1)) for number in range(241, 246)))
    viewer.follow()
    window = viewer.window(100, 10, anchor=[100, line[0], None])
    assert (window["start"], window["shift"]) == (105, 5)
    assert window["lines"][0][0] == line[0]
    gone = viewer.window(100, 10, anchor=[100, 9999, None])
    assert (gone["start"], gone["shift"]) == (100, 0)


def test_highlight_is_told_to_others_and_to_programs(viewer: Viewer, table: LibraryTable) -> None:
    heard: list[Any] = []
    table.on_highlight(heard.append)
    table.on_current(heard.append)
    table.on_open(heard.append)
    viewer.ask("group", name=None)
    told = viewer.send(
        k="do", view="v", what="highlight", mode="replace", **{"from": [3, None]}, to=[5, None], group=None, current=5
    )
    assert told == [{"k": "marks", "view": "v", "highlighted": 3, "ids": [3, 4, 5]}]
    assert heard == [5, [3, 4, 5]]
    assert (table.highlighted, table.current, table.selection) == ([3, 4, 5], 5, [3, 4, 5])
    viewer.ask("tick", how="tick", ids=[9])
    assert (table.selection, table.ticked_count) == ([9], 1)
    viewer.ask("group", name="group")
    viewer.ask("highlight", mode="replace", **{"from": None}, to=None, group="square_1", current=None)
    assert table.highlighted == table.browser.group_ids("square_1")
    assert table.current is None
    viewer.ask("open", id=12)
    assert heard[-1] == 12
    viewer.ask("highlight", mode="replace", none=True, **{"from": None}, to=None, current=None)
    assert table.highlighted == []


def test_others_highlight_step_and_reveal(viewer: Viewer, table: LibraryTable) -> None:
    table.browser.fold()
    table.highlight([5, 6])
    assert [message["k"] for message in viewer.told] == ["marks", "state", "reveal"]
    assert viewer.told[-1]["id"] == table.current == table.highlighted[0]
    assert table.browser.line_of(table.highlighted[0]) >= 0
    first = table.shown[0]
    assert table.step(-1000) == first
    assert table.step(1) == table.shown[1]
    table.browser.filter(text="nothing is called so")
    assert table.step(1) is None


@pytest.mark.parametrize(
    ("what", "details", "look"),
    [
        ("sort", {"keys": [["drift", False]]}, lambda b: b.sorting == [("drift", False)]),
        ("filter", {"column": "drift", "value": ">2"}, lambda b: b.filters["drift"].text == ">2"),
        ("text", {"value": "grid_9"}, lambda b: b.text == "grid_9"),
        ("group", {"name": "status"}, lambda b: b.grouped == "status"),
        ("fold", {"groups": ["square_1"], "closed": True}, lambda b: b.closed == {"square_1"}),
        ("show", {"only_ticked": True}, lambda b: b.only_ticked),
        ("show", {"trash": True}, lambda b: b.show_trash),
        ("columns", {"names": ["drift"]}, lambda b: b.columns == ["exposure", "drift"]),
        ("column", {"name": "jitter", "shown": True}, lambda b: b.columns[-1] == "jitter"),
        ("width", {"name": "drift", "width": 120}, lambda b: b.widths == {"drift": 120}),
        ("usual", {}, lambda b: b.columns[:2] == ["exposure", "status"]),
        ("tick", {"how": "all"}, lambda b: b.ticked_count == 240),
        ("tick", {"how": "tick", "group": "square_1"}, lambda b: b.ticked_count == 20),
        ("tick", {"how": "invert"}, lambda b: b.ticked_count == 240),
        ("flag", {"flag": "red", "ids": [1, 2]}, lambda b: len(b.within({}, flags=["red"])) == 2),
        ("comment", {"id": 3, "text": "thin"}, lambda b: b.rows.column("comment").texts([2]) == ["thin"]),
        ("move", {"ids": [1], "group": "best"}, lambda b: b.group_ids("best") == [1]),
        ("trash", {"ids": [1]}, lambda b: b.trashed_count == 1),
        ("restore", {"ids": [1]}, lambda b: b.group_ids("camera") == [1]),
        ("rename", {"group": "square_2", "name": "ice"}, lambda b: len(b.group_ids("ice")) == 20),
        ("auto", {"ranges": [], "flags": None, "ignore_sign": False, "commit": True}, lambda b: b.ticked_count == 240),
    ],
)
def test_what_a_browser_asks_for_is_done_and_told(
    viewer: Viewer, table: LibraryTable, what: str, details: dict[str, Any], look: Any
) -> None:
    viewer.state()
    before = table.browser.version
    answer = viewer.ask(what, **details)
    assert "error" not in answer
    assert look(table.browser)
    if what != "width":
        assert table.browser.version > before
    assert any(message["k"] == "state" for message in viewer.told)


def test_questions_are_answered(viewer: Viewer) -> None:
    assert dict(viewer.ask("choices", column="status")["choices"])["new"] == 24
    assert ["square_1", 20] in viewer.ask("groups")["groups"]
    columns = {column["name"]: column for column in viewer.ask("chooser")["columns"]}
    assert columns["drift"]["shown"]
    assert not columns["jitter"]["shown"]
    assert columns["jitter"]["number"]
    assert "micrograph" not in columns
    assert viewer.ask("auto", ranges=[["drift", "..2"]], flags=None, ignore_sign=False)["count"] > 10
    viewer.ask("tick", how="tick", ids=[1, 2])
    viewer.ask("save", name="pair")
    assert viewer.ask("selections")["selections"] == [["pair", 2]]
    assert viewer.ask("load", name="pair")["told"] == "2 exposures ticked"
    assert viewer.window(viewer.ask("newest")["line"], 1)["lines"][0][0] == 240
    assert viewer.ask("flag", ids=[4, 5], flag="gold") == {
        "k": "done",
        "n": 7,
        "view": "v",
        "told": "2 exposures flagged gold",
        "undo": True,
    }
    assert "told" not in viewer.ask("flag", ids=[4], flag="red")
    viewer.ask("undo")
    assert viewer.ask("undo")["told"] == "Taken back: 2 exposures flagged gold"


def test_rows_are_copied_as_a_spreadsheet_takes_them(viewer: Viewer, project: Project) -> None:
    project.comment([12], "two\nlines\tand a tab")
    viewer.follow()
    viewer.ask("columns", names=["defocus_u", "comment"])
    text = viewer.ask("copy", ids=[12, 1])["text"]
    table = project.table()
    assert text.split("\n") == [
        "Exposure\tDefocus U (Å)\tComment",
        f"grid_12\t{table.loc[12, 'defocus_u']:.0f}\ttwo lines and a tab",
        f"grid_1\t{table.loc[1, 'defocus_u']:.0f}\t",
    ]
    assert viewer.ask("copy", ids=[12, 1], names=True)["text"] == "grid_12\ngrid_1"


@pytest.mark.parametrize(
    ("what", "details", "told"),
    [
        ("filter", {"column": "drift", "value": "1-2"}, "'1-2' is no filter of Drift; write for example"),
        ("sort", {"keys": [["nothing", True]]}, "there is no column nothing"),
        ("flag", {"flag": "red"}, "no row is highlighted; click on one first"),
        ("flag", {"flag": "pink", "ids": [1]}, "pink is no flag"),
        ("move", {"ids": [1], "group": " "}, "a group needs a name"),
        ("undo", {}, "there is nothing to take back"),
        ("load", {"name": "none"}, "there is no selection none"),
        ("fly", {}, "the table cannot fly; load the page again"),
        ("sort", {}, "Cannot sort: a fault of focusnb (KeyError)"),
    ],
)
def test_what_goes_wrong_is_answered_in_a_sentence(
    viewer: Viewer, what: str, details: dict[str, Any], told: str
) -> None:
    answer = viewer.ask(what, **details)
    assert told in answer["error"]
    assert viewer.ask("sort", keys=[])["k"] == "done"


def test_changes_by_others_reach_the_browsers_with_few_messages(viewer: Viewer, project: Project) -> None:
    viewer.state()
    with Project.open(project.folder) as other:
        other.flag(range(1, 51), "gold")
        write_rows(other, (plausible(number, random.Random(1)) for number in range(241, 261)))
        other.select("ticked", [1, 2, 3])
    viewer.told.clear()
    viewer.follow()
    assert [message["k"] for message in viewer.told] == ["state"]
    state = viewer.told[0]
    assert state["columns"] is None
    assert (state["total"], state["added"], state["ticked"]) == (260, 20, 3)
    assert len(json.dumps(state)) < 1000
    viewer.told.clear()
    viewer.follow()
    assert viewer.told == []


def test_a_table_with_nothing_to_show_says_why_and_what_to_do(viewer: Viewer, project: Project, tmp_path: Path) -> None:
    assert viewer.state()["notice"] is None
    viewer.ask("text", value="nothing is called so")
    notice = viewer.state()["notice"]
    assert notice["text"] == "None of 240 exposures passes the filters."
    assert notice["action"] == {"what": "clear"}
    viewer.ask(**notice["action"])
    viewer.ask("show", only_ticked=True)
    notice = viewer.state()["notice"]
    assert notice["text"] == "No exposure is ticked."
    viewer.ask(**notice["action"])
    viewer.table.browser.trash(range(1, 241))
    notice = viewer.state()["notice"]
    assert notice["text"] == "All 240 exposures are in TRASH."
    viewer.ask(**notice["action"])
    assert viewer.state()["notice"] is None
    with Project.create(tmp_path / "empty", mode="drift") as empty:
        other = Viewer(LibraryTable(empty))
        notice = other.state()["notice"]
        assert notice["text"].startswith("There are no exposures yet.")
        assert notice["command"] == f"focusnb import {empty.folder} CAMERA_FOLDER"
        write_rows(empty, [{"id": 1, "exposure": "bare", "folder": "exposures/a/bare"}])
        other.follow()
        other.window()
        notice = other.state()["notice"]
        assert notice["text"] == "None of the exposures shown has been measured yet."
        assert notice["command"] == f"focusnb run {empty.folder}"
        assert other.window()["lines"][1][2][0] == "bare"
        change_rows(empty, {1: {"drift": 2.0}})
        other.follow()
        assert other.state()["notice"] is None
        other.table.close()


def test_a_library_that_cannot_be_read_is_told_where_the_table_is(viewer: Viewer, project: Project) -> None:
    viewer.window()
    project.library.close()
    hidden = project.folder.rename(project.folder.with_name("away"))
    answer = viewer.ask("column", name="jitter", shown=True)
    assert "library.sqlite" in answer["error"]
    # what is known can still be looked through
    assert "error" not in viewer.ask("sort", keys=[["drift", True]])
    hidden.rename(project.folder)
    assert "error" not in viewer.ask("column", name="jitter", shown=True)


def test_a_library_that_was_replaced_is_read_anew(viewer: Viewer, project: Project) -> None:
    write_rows(project, (plausible(number, random.Random(1)) for number in range(241, 246)))
    viewer.table.refresh(None)
    state = viewer.state()
    assert (state["total"], state["added"]) == (245, 5)


def test_a_closed_table_follows_no_more(project: Project) -> None:
    table = LibraryTable(project)
    assert table.health is not None
    table.close()
    assert table.is_gone
    asyncio.run(table._load())
    assert not table.browser.is_loaded


def test_the_columns_of_all_rows_are_read_beside_the_page(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    """What changes while they are read is not lost, and a reading that failed is tried again."""
    monkeypatch.setattr(table_module, "WAIT", 0.0)
    monkeypatch.setattr(table_module, "AGAIN", 0.0)
    threads: list[threading.Thread] = []
    real = Browser.fetch

    def fetch(browser: Browser) -> Any:
        threads.append(threading.current_thread())
        if len(threads) == 1:
            raise LibraryBusy("kept locked")
        part = real(browser)
        change_rows(project, {5: {"drift": 7.5}})
        write_rows(project, [plausible(241, random.Random(1)) | {"drift": 8.5}])
        browser.refresh()  # as the poller does, before the columns are there
        return part

    monkeypatch.setattr(Browser, "fetch", fetch)

    async def show() -> None:
        table = LibraryTable(project)
        viewer = Viewer(table)
        viewer.window()
        assert table._loading is not None
        await asyncio.wait_for(table._loading, 60)
        assert table.browser.is_loaded
        assert table._messages.text == ""
        assert table.browser.rows.column("drift").texts(np.array([4, 240])) == ["7.5", "8.5"]
        assert table.browser.rows.revision == project.revision
        fresh = Browser(project)
        assert [line.cells for line in table.browser.window(0, 300)] == [line.cells for line in fresh.window(0, 300)]
        table.close()

    asyncio.run(show())
    assert threading.main_thread() not in threads


def test_lines_that_could_not_be_read_come_as_soon_as_they_can(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The browser asks for no others before it has them."""
    monkeypatch.setattr(table_module, "AGAIN", 0.01)
    real = Browser.window

    def busy(browser: Browser, start: int, count: int) -> Any:
        monkeypatch.setattr(Browser, "window", real)
        raise LibraryBusy("the library is kept locked")

    async def show() -> None:
        table = LibraryTable(project)
        viewer = Viewer(table)
        monkeypatch.setattr(Browser, "window", busy)
        assert viewer.send(k="window", view="v", start=0, count=10) == []
        assert "kept locked" in table._messages.text
        async with asyncio.timeout(60):
            while not (came := [len(message["lines"]) for message in viewer.told if message["k"] == "window"]):
                await asyncio.sleep(0.01)
        assert came == [10]
        assert table._messages.text == ""
        table.close()

    asyncio.run(show())


def test_ticks_between_two_rows_follow_the_order_shown(viewer: Viewer, table: LibraryTable) -> None:
    viewer.ask("group", name=None)
    viewer.ask("tick", how="tick", ids=[10])
    viewer.ask("sort", keys=[["exposure", False]])
    viewer.ask("tick", how="tick", **{"from": 10}, to=13)
    assert table.selection == [10, 11, 12, 13]
    viewer.ask("text", value="grid_23")
    viewer.ask("tick", how="tick", **{"from": 10}, to=23)  # the other end is not shown: the clicked row alone
    assert table.selection == [10, 11, 12, 13, 23]


def test_rows_out_of_sight_are_not_worked_on(viewer: Viewer, table: LibraryTable, project: Project) -> None:
    table.highlight([1, 2, 3])
    viewer.ask("trash")
    assert table.highlighted == []
    table.browser.highlight([5], mode="toggle")
    viewer.ask("move", group="best")
    assert project.ids(group="best") == [5]
    viewer.ask("text", value="grid_99")
    assert viewer.ask("flag", flag="red")["error"].startswith("no row is highlighted")


def test_the_cell_of_a_reason_leaves_out_the_file_of_its_row() -> None:
    assert table_lines._without_name("grid_1.tif: is cut off", "grid_1") == "is cut off"
    assert table_lines._without_name("/camera/grid_1.tif: is cut off", "grid_1") == "is cut off"
    assert (
        table_lines._without_name("the voltage is not known: give it", "grid_1") == "the voltage is not known: give it"
    )
    assert table_lines._without_name("", "grid_1") == ""


def test_very_many_changes_are_taken_up_by_parts_while_the_page_goes_on(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reading, "MANY", 40)
    monkeypatch.setattr(reading, "CHUNK", 50)

    async def follow() -> None:
        table = LibraryTable(project)
        viewer = Viewer(table)
        told: list[int] = []
        table.on_caught_up(lambda: told.append(table.browser.version))
        table.browser.load()
        table.browser.sort("drift")
        viewer.window()
        with Project.open(project.folder) as other:
            change_rows(other, {n: {"drift": 1000.0 - n, "flag": "gold"} for n in range(1, 201)})
        viewer.follow()
        assert set(table.browser.rows.column("flag").texts(np.arange(200))) == {"gold"}, "what people decide is there"
        assert table.browser.is_behind
        assert not told
        assert viewer.window()["lines"], "it answers meanwhile"
        async with asyncio.timeout(60):
            while not told:
                await asyncio.sleep(0.01)
        assert len(told) == 1
        assert not table.browser.is_behind
        drifts = table.browser.rows.column("drift").values[:200]
        np.testing.assert_array_equal(drifts, 1000.0 - np.arange(1, 201))
        assert [message["k"] for message in viewer.told].count("state") > 1, "the browsers hear of each part"
        table.close()

    asyncio.run(follow())


def test_a_part_that_cannot_be_read_is_told_and_read_again(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reading, "MANY", 40)
    monkeypatch.setattr(table_module, "AGAIN", 0.01)
    real = reading.Rows.fetch_behind
    failed: list[str] = []

    def fetch(rows: Any, first: Any) -> Any:
        if not failed:
            failed.append("once")
            raise LibraryBusy("kept locked by another process; try again")
        return real(rows, first)

    async def follow() -> None:
        table = LibraryTable(project)
        table.browser.load()
        monkeypatch.setattr(reading.Rows, "fetch_behind", fetch)
        with Project.open(project.folder) as other:
            change_rows(other, {n: {"drift": 5.0} for n in range(1, 201)})
        table.refresh(changed_since(project.library, 0))
        async with asyncio.timeout(60):
            while table.browser.is_behind:
                await asyncio.sleep(0.01)
        assert failed
        assert (table.browser.rows.column("drift").values[:200] == 5).all()
        assert table._messages.text == ""
        table.close()

    asyncio.run(follow())


def test_lines_of_a_version_are_told_after_the_version(project: Project) -> None:
    """Else a browser would ask for them again and again, as they are not those it was told of."""
    table = LibraryTable(project)
    viewer = Viewer(table)
    table.browser.load()
    viewer.window()
    table.browser.take(table.browser.fetch())  # a version nobody was told of
    window = viewer.window()
    assert [(message["k"], message["version"]) for message in viewer.told] == [
        (kind, window["version"]) for kind in ("state", "window")
    ]
    viewer.window()
    assert [message["k"] for message in viewer.told] == ["window"]
    table.close()


def test_who_asks_is_told_of_another_order(project: Project) -> None:
    table = LibraryTable(project)
    viewer = Viewer(table)
    orders: list[list[int]] = []
    table.on_arranged(lambda: orders.append(table.shown))
    viewer.ask("group", name=None)
    orders.clear()
    viewer.ask("sort", keys=[["drift", False]])
    assert orders == [table.shown]
    first = [table.shown[0], None]
    viewer.ask("highlight", **{"from": first, "to": first, "mode": "replace"})
    assert table.highlighted == table.shown[:1]
    assert len(orders) == 1
    table.close()


def test_columns_that_come_late_are_caught_up_with(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reading, "MANY", 40)
    table = LibraryTable(project)
    part = table.browser.fetch()
    change_rows(project, {number: {"drift": 7000.0} for number in range(1, 101)})
    table.refresh(changed_since(project.library, 0))
    assert not table.browser.is_behind  # without a loop it is read at once
    table.take(part)
    assert not table.browser.is_behind
    assert (table.browser.rows.column("drift").values == 7000).sum() == 100
    table.close()
