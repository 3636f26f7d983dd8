"""The table as people use it: by mouse, keyboard and finger, in Chromium."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from focusnb.project.browsing import rows as reading
from focusnb.project.project import Project
from tests.browser.table_page import TablePage
from tests.filled import change_rows, filled_project, plausible, write_rows

pytestmark = pytest.mark.browser

Open = Callable[..., TablePage]


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Project]:
    """1200 exposures in twelve groups."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    with filled_project(tmp_path / "project", 1200) as project:
        yield project


@pytest.fixture
def open_table(chromium: Any, project: Project) -> Iterator[Open]:
    """Return a function that opens a page with the table; any complaint of the browser fails the test."""
    opened: list[tuple[TablePage, Any]] = []

    def open_it(shown: Project = project, *, grouped: bool = False, height: int = 520, **options: Any) -> TablePage:
        context = chromium.new_context(**{"viewport": {"width": 1280, "height": 720}, **options})
        context.set_default_timeout(5000)
        page = TablePage(shown, context, height=height)
        opened.append((page, context))
        if not grouped:
            page.table.browser.group_by(None)
            page.push(page.table.show)
        return page

    yield open_it
    for page, context in opened:
        complaints = page.complaints
        page.close()
        context.close()
        assert complaints == []


def settle(page: TablePage) -> None:
    page.page.wait_for_timeout(150)


def expect_foot(page: TablePage, text: str) -> None:
    page.page.wait_for_function(
        "(text) => document.querySelector('.fnb-table-counts').textContent.includes(text)", arg=text
    )


def test_rows_are_shown_as_they_are_scrolled_to(open_table: Open) -> None:
    page = open_table()
    assert page.visible()[:3] == [1, 2, 3]
    assert page.page.locator(".fnb-table-row").count() < 60
    assert page.cell(1, "exposure").inner_text() == "grid_1"
    assert page.cell(1, "status").inner_text() == "done"
    page.grid.evaluate("(grid) => { grid.scrollTop = 28 * 700; }")
    page.row(705).wait_for()
    assert page.cell(705, "exposure").inner_text() == "grid_705"
    page.grid.evaluate("(grid) => { grid.scrollTop = grid.scrollHeight; }")
    page.row(1200).wait_for()
    assert page.visible()[-1] == 1200


def test_captions_sort_by_click_shift_and_keyboard(open_table: Open) -> None:
    page = open_table()
    page.caption("drift").click()
    page.page.wait_for_selector("[role=columnheader][data-column=drift][aria-sort=ascending]")
    settle(page)
    expected = page.table.browser.shown
    assert page.visible() == expected[: len(page.visible())]
    page.caption("drift").click()
    page.page.wait_for_selector("[data-column=drift][aria-sort=descending]")
    page.caption("ctf_quality").click(modifiers=["Shift"])
    page.page.wait_for_selector("[data-column=ctf_quality][aria-sort=ascending]")
    assert page.table.browser.sorting == [("drift", False), ("ctf_quality", True)]
    assert page.caption("ctf_quality").locator(".fnb-table-arrow").inner_text() == "2"
    page.caption("exposure").focus()
    page.page.keyboard.press("ArrowRight")
    page.page.keyboard.press("Enter")
    page.page.wait_for_selector("[data-column=status][aria-sort=ascending]")
    assert page.table.browser.sorting == [("status", True)]
    assert page.page.evaluate("document.activeElement.dataset.column") == "status"


def test_filters_are_typed_and_faults_are_told(open_table: Open) -> None:
    page = open_table()
    page.filter("drift").fill("1..2")
    count = len(page.table.project.table().query("1 <= drift <= 2"))
    expect_foot(page, f"{count:,} of 1,200 shown")
    page.filter("drift").fill("1-2")
    hint = page.page.locator(".fnb-table-hint")
    hint.wait_for()
    assert "'1-2' is no filter of Drift; write for example 1.0..2.5" in hint.inner_text()
    assert page.filter("drift").get_attribute("aria-invalid") == "true"
    expect_foot(page, f"{count:,} of 1,200 shown")
    page.page.keyboard.press("Escape")
    expect_foot(page, "1,200 shown")
    assert not hint.is_visible()
    page.filter("status").click()
    page.page.get_by_label("failed").check()
    page.page.get_by_label("new").check()
    expect_foot(page, "149 of 1,200 shown")
    page.page.keyboard.press("Escape")
    assert page.filter("status").inner_text() == "failed, new"


def test_the_search_finds_and_nothing_found_is_said_with_the_cure(open_table: Open) -> None:
    page = open_table()
    page.grid.press("/")
    page.page.keyboard.type("grid_119")
    expect_foot(page, "11 of 1,200 shown")
    page.page.keyboard.type("xx")
    notice = page.page.locator(".fnb-empty")
    notice.wait_for()
    assert "None of 1,200 exposures passes the filters." in notice.inner_text()
    page.page.get_by_role("button", name="Take the filters off").click()
    expect_foot(page, "1,200 shown")
    assert page.page.evaluate("window.leaked") == []


def test_a_range_is_highlighted_by_shift_by_drag_and_by_keys(open_table: Open) -> None:
    page = open_table()
    page.row(3).click()
    page.row(7).click(modifiers=["Shift"])
    settle(page)
    assert page.chosen() == [3, 4, 5, 6, 7]
    page.row(10).click(modifiers=["Control"])
    page.row(5).click(modifiers=["Control"])
    settle(page)
    assert page.chosen() == page.table.highlighted == [3, 4, 6, 7, 10]
    expect_foot(page, "5 highlighted")
    page.row(12).hover()
    page.page.mouse.down()
    page.row(14).hover()
    page.row(15).hover()
    page.page.mouse.up()
    settle(page)
    assert page.chosen() == page.table.highlighted == [12, 13, 14, 15]
    page.row(5).click()
    page.page.keyboard.press("ArrowDown")
    page.page.keyboard.press("Shift+ArrowDown")
    page.page.keyboard.press("Shift+ArrowDown")
    settle(page)
    assert page.chosen() == page.table.highlighted == [6, 7, 8]
    assert page.table.current == 8
    page.page.keyboard.press("Shift+End")
    page.row(1200).wait_for()
    settle(page)
    assert page.table.browser.highlighted_count == 1195
    page.page.keyboard.press("Escape")
    settle(page)
    assert page.table.highlighted == []


def test_lines_made_before_a_click_do_not_undo_it(open_table: Open) -> None:
    page = open_table()
    asked: list[dict[str, Any]] = []
    send = page.table._send_window
    page.table._send_window = asked.append  # type: ignore[method-assign]
    page.push(lambda: (page.table.browser.sort("exposure"), page.table.show()))
    page.table._send_window = send  # type: ignore[method-assign]
    send(asked[-1])
    (stale,) = page.take()  # on its way, while the rows are clicked on
    page.row(3).click()
    page.row(5).click(modifiers=["Shift"])
    page.row(7).click(modifiers=["Control"])
    settle(page)
    page.page.evaluate("(message) => window.receive(message)", stale)
    settle(page)
    assert page.chosen() == page.table.highlighted == [3, 4, 5, 7]


def test_fifty_steps_by_key_reach_the_kernel_in_order(open_table: Open) -> None:
    page = open_table()
    seen: list[int | None] = []
    page.table.on_current(seen.append)
    page.row(1).click()
    for _ in range(50):
        page.page.keyboard.press("ArrowDown")
    settle(page)
    assert page.table.current == 51
    assert page.table.highlighted == [51]
    assert seen == sorted(seen)
    assert 51 in page.visible()


def test_ticks_by_key_and_mouse(open_table: Open) -> None:
    page = open_table()
    page.row(2).click()
    page.row(4).click(modifiers=["Shift"])
    page.page.keyboard.press("Space")
    expect_foot(page, "3 ticked")
    page.row(3).click()
    page.page.keyboard.press("Control+Space")
    expect_foot(page, "2 ticked")
    page.row(8).locator("input").click()
    expect_foot(page, "3 ticked")
    page.row(12).locator("input").click(modifiers=["Shift"])
    expect_foot(page, "7 ticked")
    assert page.table.browser.selection == [2, 4, 8, 9, 10, 11, 12]
    page.grid.focus()
    page.page.keyboard.press("Control+x")
    expect_foot(page, "7 of 1,200 shown")
    assert page.visible() == [2, 4, 8, 9, 10, 11, 12]
    page.page.keyboard.press("Control+x")
    page.page.keyboard.press("Control+i")
    expect_foot(page, "1,193 ticked")
    page.page.keyboard.press("Control+r")
    expect_foot(page, "0 ticked")
    page.page.keyboard.press("Control+z")
    expect_foot(page, "1,193 ticked")
    page.page.keyboard.press("Control+a")
    expect_foot(page, "1,200 ticked")
    assert page.page.evaluate("window.leaked") == []


def test_a_range_of_ticks_begins_at_its_row_wherever_that_is_by_now(open_table: Open) -> None:
    page = open_table()
    page.row(5).locator("input").click()
    expect_foot(page, "1 ticked")
    page.table.browser.sort([("exposure", False)])
    page.push(page.table.show)
    page.grid.focus()
    page.page.keyboard.press("End")
    page.row(8).locator("input").click(modifiers=["Shift"])
    expect_foot(page, "4 ticked")
    assert page.table.browser.selection == [5, 6, 7, 8]


def test_flags_by_key_click_and_menu(open_table: Open, project: Project) -> None:
    page = open_table()
    page.row(2).click()
    page.page.keyboard.press("ArrowDown")
    page.page.keyboard.press("r")  # at once: the highlight is on its way
    page.page.locator(".fnb-table-row[data-id='3'] [title='flagged red']").wait_for()
    assert project.ids(flag="red") == [3]
    page.cell(5, "flag").click()
    page.page.get_by_role("menuitem", name="gold").click()
    page.page.locator(".fnb-table-row[data-id='5'] [title='flagged gold']").wait_for()
    page.row(7).click()
    page.row(8).click(modifiers=["Shift"])
    page.row(8).click(button="right")
    page.page.get_by_role("menuitem", name="Flag: blue").click()
    page.page.locator(".fnb-table-row[data-id='8'] [title='flagged blue']").wait_for()
    assert project.ids(flag="blue") == [7, 8]
    page.page.get_by_role("button", name="Undo", exact=True).click()
    settle(page)
    assert project.ids(flag="blue") == []


def test_comments_are_written_in_their_place(open_table: Open, project: Project) -> None:
    page = open_table()
    page.row(4).click()
    page.page.keyboard.press("F2")
    editor = page.page.get_by_label("Comment", exact=True)
    editor.fill("nice ice")
    editor.press("Enter")
    page.page.locator(".fnb-table-row[data-id='4'] [data-column=comment]", has_text="nice ice").wait_for()
    assert project.table().loc[4, "comment"] == "nice ice"
    page.cell(4, "comment").dblclick()
    page.page.get_by_label("Comment", exact=True).fill("worse")
    page.page.keyboard.press("Escape")
    settle(page)
    assert project.table().loc[4, "comment"] == "nice ice"
    assert page.page.evaluate("document.activeElement.className").startswith("fnb-table-scroll")


def test_a_comment_of_several_lines_that_was_only_looked_at_stays(open_table: Open, project: Project) -> None:
    project.comment([4], "thin\nice ")
    page = open_table()
    page.row(4).click()
    for key in ("Enter", "Tab"):
        page.page.keyboard.press("F2")
        page.page.get_by_label("Comment", exact=True).press(key)
        settle(page)
    assert project.table().loc[4, "comment"] == "thin\nice "


def test_a_comment_may_have_several_lines(open_table: Open, project: Project) -> None:
    project.comment([4], "thin\nice")
    page = open_table()
    page.row(4).click()
    page.page.keyboard.press("F2")
    editor = page.page.get_by_label("Comment", exact=True)
    low = editor.bounding_box()["height"]
    editor.press("End")
    page.page.keyboard.press("Shift+Enter")
    page.page.keyboard.type("and a crack")
    assert editor.bounding_box()["height"] > low
    page.page.keyboard.press("Enter")
    settle(page)
    assert sorted(project.table().loc[4, "comment"].split("\n")) == ["and a crack", "ice", "thin"]
    # the last row in sight: what is written into it stays within the table
    last = page.visible()[-3]
    page.row(last).click()
    page.page.keyboard.press("F2")
    for _ in range(4):
        page.page.keyboard.press("Shift+Enter")
    frame, box = (page.page.locator(place).bounding_box() for place in (".fnb-table-frame", ".fnb-table-editor"))
    assert box["y"] + box["height"] <= frame["y"] + frame["height"]
    page.page.keyboard.press("Escape")


def test_a_comment_is_written_with_an_input_method_at_length_and_left_for_elsewhere(
    open_table: Open, project: Project
) -> None:
    page = open_table()
    page.row(4).click()
    page.page.keyboard.press("F2")
    editor = page.page.get_by_label("Comment", exact=True)
    low = editor.bounding_box()["height"]
    page.page.keyboard.type("kani")
    for key, code in (("Enter", 229), ("Enter", 13), ("Escape", 229)):  # choose among the characters offered
        editor.evaluate(
            "(field, [key, keyCode]) => field.dispatchEvent(new KeyboardEvent('keydown',"
            " { key, keyCode, isComposing: keyCode !== 229, bubbles: true, cancelable: true }))",
            [key, code],
        )
    assert editor.input_value() == "kani"
    page.page.keyboard.type(" that goes on and on" * 5)
    assert editor.bounding_box()["height"] > 2 * low, "a long line can be read whole"
    assert editor.evaluate("(field) => field.scrollHeight <= field.clientHeight + 1")
    page.page.keyboard.press("Control+z")
    assert editor.count() == 1, "what was typed last is taken back, not what was done to the table"
    editor.fill("left for elsewhere")
    page.filter("drift").click()
    settle(page)
    assert page.page.evaluate("document.activeElement.tagName") == "INPUT", "who goes elsewhere is there"
    page.page.keyboard.type("..5000")
    assert page.filter("drift").input_value() == "..5000"
    assert project.table().loc[4, "comment"] == "left for elsewhere"


def test_the_keys_go_on_from_what_is_highlighted(open_table: Open) -> None:
    page = open_table(grouped=True)
    first = page.table.shown[0]
    page.push(lambda: page.table.highlight([first], reveal=False))
    page.grid.focus()
    page.page.keyboard.press("ArrowDown")
    settle(page)
    assert page.table.highlighted == page.table.shown[1:2]


def test_a_menu_goes_where_the_page_scrolls_and_gives_the_keys_back(open_table: Open) -> None:
    page = open_table()
    page.page.evaluate("document.body.style.height = '3000px'")
    page.row(3).click(button="right")
    menu = page.page.locator(".fnb-table-popup")
    menu.wait_for()
    page.page.evaluate("window.scrollTo(0, 60)")
    menu.wait_for(state="detached")
    page.grid.focus()
    page.page.keyboard.press("?")
    menu.wait_for()
    page.page.evaluate("window.scrollTo(0, 0)")
    assert menu.count() == 1, "the list of keys is read on"
    page.page.keyboard.press("Escape")
    assert page.page.evaluate("document.activeElement.className").startswith("fnb-table-scroll")
    page.page.get_by_role("button", name="Keys (?)").click()
    page.page.keyboard.press("Escape")
    assert page.page.evaluate("document.activeElement.title") == "Keys (?)"


def test_the_order_is_right_by_itself_once_very_many_changes_were_read(
    open_table: Open, project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reading, "MANY", 200)
    monkeypatch.setattr(reading, "CHUNK", 500)
    page = open_table()
    page.caption("drift").click()
    page.page.wait_for_selector("[data-column=drift][aria-sort=ascending]")
    page.filter("drift").fill("1..5000")
    expect_foot(page, " of 1,200 shown")
    with Project.open(project.folder) as other:
        change_rows(other, {number: {"drift": 3000.0 - number} for number in range(1, 1201)})
    browser = page.table.browser
    page.table._catch_up = lambda: None  # type: ignore[method-assign] # part by part, below
    browser.refresh()
    assert browser.is_behind
    page.push(page.table.show)
    shown = len(page.table.shown)
    assert shown < 1200, "what was not read yet goes by the values shown"
    while browser.is_behind:
        browser.take_behind(browser.fetch_behind((0, 20))())
        page.push(page.table.show)
        assert page.visible()[:5] == page.table.shown[:5]
    assert page.visible()[:3] == [1200, 1199, 1198]
    expect_foot(page, "1,200 shown")


def test_groups_fold_tick_move_and_take_rows_dropped_on_them(open_table: Open, project: Project) -> None:
    page = open_table(grouped=True, height=700, viewport={"width": 1280, "height": 900})
    assert page.group("square_1").inner_text().split("\n")[:2] == ["square_1", "100"]
    page.group("square_1").locator(".fnb-table-fold").click()
    page.group("square_2").wait_for()
    assert page.group("square_1").get_attribute("aria-expanded") == "false"
    page.page.keyboard.press("Home")
    page.page.keyboard.press("ArrowRight")
    page.row(12).wait_for()
    page.group("square_1").locator("input").click()
    expect_foot(page, "100 ticked")
    page.push(lambda: page.table.browser.fold())
    page.push(lambda: (page.table.browser.fold("square_3", closed=False), page.table.show()))
    page.row(2).click()
    page.row(26).click(modifiers=["Shift"])
    settle(page)
    assert page.table.highlighted == [2, 14, 26]
    page.row(14).hover()
    page.page.mouse.down()
    page.group("square_1").hover()
    page.group("square_2").hover()
    assert page.page.locator(".fnb-table-ghost").inner_text() == "3 exposures → square_2"
    page.page.mouse.up()
    page.page.get_by_text("3 exposures moved to square_2").wait_for()
    assert set(project.table().loc[[2, 14, 26], "group"]) == {"square_2"}
    page.row(38).click()
    page.page.keyboard.press("Control+m")
    page.page.get_by_label("Group, or the name of a new one").fill("best")
    page.page.keyboard.press("Enter")
    page.group("best").wait_for()
    assert project.table().loc[38, "group"] == "best"


def test_trash_and_back(open_table: Open, project: Project) -> None:
    page = open_table(grouped=True)
    page.row(12).click()
    page.page.keyboard.press("Delete")
    page.page.get_by_text("1 exposure moved to TRASH").wait_for()
    expect_foot(page, "1,199 of 1,200 shown · 1 in TRASH")
    page.page.get_by_role("button", name="View").click()
    page.page.get_by_role("menuitemcheckbox", name="Show TRASH").click()
    page.grid.press("End")
    page.row(12).wait_for()
    page.row(12).click(button="right")
    page.page.get_by_role("menuitem", name="Put back").click()
    page.page.get_by_text("1 exposure put back").wait_for()
    assert project.table().loc[12, "group"] == "camera"


def test_columns_are_chosen_moved_and_made_wider(open_table: Open, project: Project) -> None:
    page = open_table()
    page.page.get_by_role("button", name="View").click()
    page.page.get_by_role("menuitem", name="Columns…").click()
    page.page.get_by_label("Find a column").fill("jitter")
    page.page.get_by_role("checkbox", name="Jitter").check()
    page.page.keyboard.press("Escape")
    page.caption("jitter").wait_for()
    assert page.table.columns[-1] == "jitter"
    page.caption("flag").focus()
    page.page.keyboard.press("Alt+ArrowLeft")
    settle(page)
    assert page.table.columns[:3] == ["exposure", "flag", "status"]
    page.caption("flag").focus()
    page.page.keyboard.press("Delete")
    settle(page)
    assert "flag" not in page.table.columns
    edge = page.caption("status").locator(".fnb-table-edge")
    box = edge.bounding_box()
    page.page.mouse.move(box["x"] + 4, box["y"] + 10)
    page.page.mouse.down()
    page.page.mouse.move(box["x"] + 44, box["y"] + 10, steps=4)
    page.page.mouse.up()
    settle(page)
    assert page.table.browser.widths["status"] == 152
    box = page.caption("reason").bounding_box()
    page.page.mouse.move(box["x"] + 20, box["y"] + 10)
    page.page.mouse.down()
    page.page.mouse.move(box["x"] - 160, box["y"] + 10, steps=6)
    page.page.mouse.up()
    settle(page)
    assert page.table.columns[:3] == ["exposure", "reason", "status"]
    assert page.table.browser.sorting == []
    again = open_table()
    assert again.table.columns[:3] == ["exposure", "reason", "status"]
    assert round(again.caption("status").bounding_box()["width"]) == 152


def test_ticking_by_values_counts_while_it_is_written(open_table: Open, project: Project) -> None:
    page = open_table()
    page.page.get_by_role("button", name="Ticks", exact=True).click()
    page.page.get_by_role("menuitem", name="Tick by values…").click()
    page.page.get_by_label("to", exact=True).fill("3.5")
    count = len(project.table().query("ctf_fit_resolution <= 3.5"))
    page.page.get_by_text(f"{count:,} of 1,200 exposures").wait_for()
    page.page.get_by_role("button", name="Another range").click()
    page.page.get_by_label("Column").nth(1).select_option("drift")
    page.page.get_by_label("from", exact=True).nth(1).fill("2")
    both = len(project.table().query("ctf_fit_resolution <= 3.5 and drift >= 2"))
    page.page.get_by_text(f"{both:,} of 1,200 exposures").wait_for()
    page.page.get_by_label("from", exact=True).nth(1).fill("x")
    page.page.get_by_text("is no filter of Drift").wait_for()
    page.page.get_by_label("from", exact=True).nth(1).fill("2")
    page.page.get_by_role("button", name="Tick these").click()
    expect_foot(page, f"{both:,} ticked")
    page.page.get_by_role("button", name="Ticks", exact=True).click()
    page.page.get_by_label("Name of a selection").fill("good")
    page.page.keyboard.press("Enter")
    page.page.get_by_text(f"{both:,} exposures saved as good").wait_for()
    assert len(project.select("good")) == both


def test_the_table_grows_without_losing_place_selection_or_filter(open_table: Open, project: Project) -> None:
    page = open_table()
    page.caption("exposure").click()
    page.caption("exposure").click()
    page.page.wait_for_selector("[data-column=exposure][aria-sort=descending]")
    settle(page)
    page.grid.evaluate("(grid) => { grid.scrollTop = 28 * 300; }")
    page.row(895).wait_for()
    page.row(895).click()
    settle(page)
    before = page.visible()
    top = page.row(895).bounding_box()["y"]
    draw = random.Random(1)
    write_rows(project, (plausible(number, draw) for number in range(1201, 1221)))
    page.follow()
    settle(page)
    assert page.visible() == before
    assert abs(page.row(895).bounding_box()["y"] - top) < 1
    assert page.chosen() == [895]
    expect_foot(page, "1,220 shown")
    page.page.get_by_role("button", name="20 new").click()
    page.row(1220).wait_for()
    settle(page)
    assert page.table.current == 1220
    assert not page.page.locator(".fnb-table-fresh").is_visible()
    change_rows(project, {1215: {"status": "failed", "reason": "no gain reference; give one"}})
    page.follow()
    page.page.locator(".fnb-table-row[data-id='1215'] [title='failed: no gain reference; give one']").wait_for()


def test_a_table_at_its_end_stays_there(open_table: Open, project: Project) -> None:
    page = open_table()
    page.grid.press("End")
    page.row(1200).wait_for()
    settle(page)
    write_rows(project, (plausible(number, random.Random(1)) for number in range(1201, 1206)))
    page.follow()
    page.row(1205).wait_for()
    settle(page)
    assert page.visible()[-1] == 1205
    assert not page.page.locator(".fnb-table-fresh").is_visible()


def test_what_others_highlight_is_shown_and_brought_into_sight(open_table: Open) -> None:
    page = open_table(grouped=True)
    page.push(lambda: page.table.browser.fold())
    page.push(lambda: page.table.highlight([777]))
    page.row(777).wait_for()
    settle(page)
    assert page.chosen() == [777]
    page.push(lambda: page.table.step(1))
    settle(page)
    assert page.chosen() == [789]
    opened: list[int] = []
    page.table.on_open(opened.append)
    page.grid.press("Enter")
    settle(page)
    assert opened == [789]


def test_the_keys_are_listed(open_table: Open) -> None:
    page = open_table()
    page.grid.press("?")
    keys = page.page.get_by_role("dialog", name="Keys of the table")
    assert "take the last change back" in keys.inner_text()
    page.page.keyboard.press("Escape")
    assert not keys.is_visible()


def test_an_empty_project_and_an_unmeasured_one_say_what_to_do(open_table: Open, tmp_path: Path) -> None:
    with Project.create(tmp_path / "empty", mode="drift") as empty:
        page = open_table(empty)
        notice = page.page.locator(".fnb-empty")
        assert f"focusnb import {empty.folder} CAMERA_FOLDER" in notice.inner_text()
        write_rows(empty, [{"id": 1, "exposure": "bare", "folder": "exposures/a/bare"}])
        page.follow()
        page.row(1).wait_for()
        page.page.get_by_text("None of the exposures shown has been measured yet.").wait_for()
        change_rows(empty, {1: {"drift": 1.0}})
        page.follow()
        settle(page)
        assert not notice.is_visible()


def test_by_finger_on_a_phone(open_table: Open, project: Project) -> None:
    phone = {"viewport": {"width": 390, "height": 760}, "has_touch": True, "is_mobile": True}
    page = open_table(**phone)
    assert page.page.evaluate("document.documentElement.scrollWidth") == 390
    assert page.row(1).bounding_box()["height"] >= 36
    assert page.cell(1, "drift").is_visible()
    assert page.cell(1, "pixel_size").bounding_box()["width"] == 0
    page.row(3).locator("[data-column=exposure]").tap()
    settle(page)
    assert page.table.highlighted == [3]
    page.row(4).locator(".fnb-table-tick").tap()
    expect_foot(page, "1 ticked")
    page.cell(5, "flag").tap()
    page.page.get_by_role("menuitem", name="green").tap()
    page.page.locator(".fnb-table-row[data-id='5'] [title='flagged green']").wait_for()
    page.page.get_by_role("button", name="Filters").tap()
    assert page.filter("drift").is_visible()


def test_it_can_be_taken_away(open_table: Open) -> None:
    page = open_table()
    page.grid.press("?")
    page.page.evaluate("async () => (await window.forget)()")
    assert page.page.locator(".fnb-table-popup").count() == 0
