"""The explorer as people use it, on a page of its own and in JupyterLab."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil
import pytest

from focusnb.processing.executors import InlineExecutor
from focusnb.processing.processor import Processor
from focusnb.project.project import Project
from tests.browser.conftest import PHONE
from tests.filled import filled_project
from tests.projects import make_project, process, write_shots

if TYPE_CHECKING:
    from playwright.sync_api import Locator, Page

pytestmark = pytest.mark.browser

FIRST = 56
"""Exposures there are when the page is opened; each has one more letter than the one before."""


@pytest.fixture
def session(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A session of text movies; what they come to is known: level is half of the length of the text."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    with make_project(tmp_path / "session") as project:
        project.use_steps("load", "scale", "judge")
        shots = {f"shot_{n:02d}": "x" * 2 * n for n in range(1, FIRST)}
        project.add(write_shots(tmp_path / "camera", **shots, shot_56="fail load"))
        process(project)
    return tmp_path / "session"


@pytest.fixture(params=["page", "lab"])
def open_explorer(request: pytest.FixtureRequest, watch: Any) -> Any:
    """Return a function that opens the explorer of a project: on a page of its own, or in JupyterLab."""

    def open_it(project: Path, **options: Any) -> Page:
        window = watch(size=(1500, 1400), **options)
        if request.param == "page":
            page = window.page
            page.goto(request.getfixturevalue("dash")(project).address)
        else:
            cell = f"import focusnb\nexplorer = focusnb.explorer({str(project)!r})\nexplorer"
            page = request.getfixturevalue("lab").run(window, cell)
            page.keyboard.press("Control+b")  # room for the page: the list of files goes
        row(page, 1).wait_for()
        return page

    return open_it


def row(page: Page, identity: int) -> Locator:
    return page.locator(f".fnb-table-row[data-id='{identity}']:not([hidden])")


def foot(page: Page, text: str) -> None:
    page.wait_for_function("(text) => document.querySelector('.fnb-table-counts').textContent.includes(text)", arg=text)


def press(page: Page, *keys: str) -> None:
    page.locator(".fnb-table-scroll").focus()
    for key in keys:
        page.keyboard.press(key)


def show_column(page: Page, label: str) -> None:
    page.get_by_role("button", name="View", exact=True).click()
    page.get_by_role("menuitem", name="Columns…").click()
    page.get_by_label("Find a column").fill(label)
    page.get_by_role("checkbox", name=re.compile(rf"^{label}\b")).first.check()
    page.keyboard.press("Escape")


def test_a_session_from_its_first_rows_to_a_rerun(open_explorer: Any, session: Path, tmp_path: Path) -> None:
    page = open_explorer(session)
    foot(page, f"· {FIRST} shown")

    # it grows while one looks
    with Project.open(session) as project:
        project.add(write_shots(tmp_path / "second", late_1="abcd\n" * 4, late_2="abcd\n" * 3))
        process(project)
    foot(page, f"· {FIRST + 2} shown")

    # sort by level, largest first; filter; group
    show_column(page, "Level")
    caption = page.locator(".fnb-table-captions [data-column=level]")
    caption.click()
    page.locator("[data-column=level][aria-sort=ascending]").wait_for()
    caption.click()
    page.locator("[data-column=level][aria-sort=descending]").wait_for()
    page.locator(".fnb-table-filter[data-column=level]").fill("10..20")
    foot(page, f"12 of {FIRST + 2} shown")
    press(page, "/")
    page.keyboard.type("shot_1")
    foot(page, f"10 of {FIRST + 2} shown")
    page.get_by_placeholder("Search names").fill("")
    page.locator(".fnb-table-filter[data-column=level]").fill("")
    foot(page, f"· {FIRST + 2} shown")
    press(page, "End")
    page.locator(".fnb-table-row[data-group=second]").wait_for()

    # a range by drag and by shift, ticked, flagged, noted
    press(page, "Home")
    caption.click()
    page.locator(".fnb-table-captions [data-column=level]:not([aria-sort=descending])").wait_for()
    row(page, 3).click()
    row(page, 6).click(modifiers=["Shift"])
    foot(page, "4 highlighted")
    page.keyboard.press("Space")
    foot(page, "4 ticked")
    row(page, 8).hover()
    page.mouse.down()
    row(page, 9).hover()
    row(page, 10).hover()
    page.mouse.up()
    foot(page, "3 highlighted")
    page.keyboard.press("r")
    page.locator(".fnb-table-row[data-id='9'] [title='flagged red']").wait_for()
    with Project.open(session) as project:
        assert project.ids(flag="red") == [8, 9, 10]
    row(page, 4).click()
    page.keyboard.press("F2")
    page.get_by_label("Comment", exact=True).fill("look again")
    page.keyboard.press("Enter")

    # to TRASH and back
    row(page, 11).click()
    page.keyboard.press("Delete")
    foot(page, "1 in TRASH")
    page.keyboard.press("Control+z")
    foot(page, f"· {FIRST + 2} shown")
    with Project.open(session) as project:
        table = project.table()
        assert table.comment[4] == "look again"
        assert set(table.group) == {"camera", "second"}

    # fifty exposures, one after another
    name = page.locator(".fnb-overview .name").first
    row(page, 1).click()
    page.wait_for_function("document.querySelector('.fnb-overview .name').textContent === 'shot_01'")
    page.locator(".fnb-overview .root").focus()
    for _ in range(50):
        page.keyboard.press("ArrowDown")
    page.wait_for_function("document.querySelector('.fnb-overview .name').textContent === 'shot_51'")
    assert name.inner_text() == "shot_51"
    row(page, 51).wait_for()

    # why one failed
    with Project.open(session) as project:
        failed = project.find("shot_56")
    press(page, "/")
    page.keyboard.type("shot_56")
    foot(page, f"1 of {FIRST + 2} shown")
    row(page, failed).click()
    page.get_by_role("tab", name="Details").click()
    page.locator(".fnb-details").get_by_text("load cannot").first.wait_for()
    page.get_by_placeholder("Search names").fill("")
    foot(page, f"· {FIRST + 2} shown")

    # a rerun of what is ticked with a changed parameter, by the form; the value arrives by itself
    show_column(page, "Verdict")
    cell = page.locator(".fnb-table-row[data-id='3'] [data-column=verdict]")
    press(page, "Home")
    cell.get_by_text("bad").wait_for()
    page.get_by_role("button", name="Run", exact=True).first.click()
    sheet = page.locator(".fnb-action-sheet")
    sheet.locator("select").first.select_option(label="Judge")
    sheet.locator("input[placeholder='3']").fill("-1")
    sheet.locator("pre").get_by_text("limit=-1.0").wait_for()
    sheet.get_by_role("button", name="Run", exact=True).click()
    sheet.get_by_text("4 of 4 queued").wait_for()
    with Project.open(session) as project:
        Processor(project, InlineExecutor()).run()
    cell.get_by_text("good").wait_for()
    with Project.open(session) as project:
        verdicts = project.table().verdict
        assert (verdicts[[3, 4, 5, 6]].tolist(), verdicts[7]) == (["good"] * 4, "bad")


def test_a_brush_in_a_plot_highlights_rows(open_explorer: Any, session: Path) -> None:
    page = open_explorer(session)
    page.get_by_role("tab", name="Plots").click()
    scatter = page.locator(".fnb-plots-figure").nth(1)
    scatter.locator(".bk-Figure").wait_for()
    across, up = scatter.locator("select").nth(1), scatter.locator("select").nth(0)
    across.select_option(label="Level (counts)")
    up.select_option(label="Size")
    scatter.scroll_into_view_if_needed()
    page.wait_for_timeout(1500)
    page.wait_for_function("Bokeh.documents.every((figure) => figure.is_idle)")  # one not yet painted takes no drag
    box = scatter.locator(".bk-Figure").bounding_box()
    assert box is not None
    page.mouse.move(box["x"] + 0.5 * box["width"], box["y"] + 0.08 * box["height"])
    page.mouse.down()
    page.wait_for_timeout(600)  # a hesitant hand
    page.mouse.move(box["x"] + 0.7 * box["width"], box["y"] + 0.3 * box["height"], steps=4)
    page.mouse.move(box["x"] + 0.92 * box["width"], box["y"] + 0.46 * box["height"], steps=4)
    page.mouse.up()
    page.wait_for_function(
        "() => { const told = document.querySelector('.fnb-table-counts').textContent.match(/(\\d+) highlighted/);"
        " return told && +told[1] > 5 && +told[1] < 50; }"
    )


def test_plots_are_there_where_a_cell_was_run_again_and_its_page_loaded_again(
    watch: Any, lab: Any, session: Path
) -> None:
    page = lab.run(watch(size=(1500, 1400)), f"import focusnb\nfocusnb.explorer({str(session)!r})")
    row(page, 1).wait_for()
    for loaded_again in (False, True):
        if loaded_again:
            page.keyboard.press("Control+s")
            page.locator(".jp-mod-current.jp-mod-dirty").wait_for(state="detached")
            page.wait_for_timeout(1000)
            page.goto(page.url.split("?")[0])
            page.locator('.jp-Toolbar [data-status="idle"]').first.wait_for()
            page.wait_for_timeout(2000)
        page.locator(".jp-CodeCell .jp-InputArea-editor").first.click()
        page.keyboard.press("Control+Enter")
        page.locator(".jp-InputArea-prompt", has_text=f"[{2 + loaded_again}]").wait_for()
        row(page, 1).wait_for()
    page.get_by_role("tab", name="Plots").click()
    page.locator(".fnb-plots-figure .bk-Figure").first.wait_for()


def test_explorers_on_one_page_keep_apart(watch: Any, lab: Any, session: Path, tmp_path: Path) -> None:
    with filled_project(tmp_path / "other", 40) as other:
        elsewhere = str(other.folder)
    cells = [f"import focusnb\nfocusnb.explorer({str(folder)!r})" for folder in (session, session, elsewhere)]
    page = lab.run(watch(size=(1500, 1800)), *cells)
    page.keyboard.press("Control+b")
    explorers = page.locator(".fnb-explorer")
    explorers.nth(2).locator(".fnb-table-row[data-id]").first.wait_for()
    tables = page.locator(".fnb-table-scroll")

    def names() -> list[str]:
        return page.locator(".fnb-overview .root > .head .name").all_text_contents()

    page.wait_for_function(
        "() => { const names = [...document.querySelectorAll('.fnb-overview .root > .head .name')];"
        " return names.length === 3 && names.every((name) => name.textContent); }"
    )
    before = names()
    assert before[:2] == ["shot_01", "shot_01"]
    # the cursor of each leads its own views only, also where both show one project
    tables.nth(0).focus()
    page.keyboard.press("ArrowDown")
    page.keyboard.press("ArrowDown")
    page.wait_for_timeout(1500)
    assert names() == ["shot_03", *before[1:]]
    tables.nth(2).focus()
    page.keyboard.press("ArrowDown")
    page.wait_for_timeout(1500)
    assert names()[:2] == ["shot_03", "shot_01"]
    assert names()[2] != before[2]
    # ticks are of the project: both tables of it show them, the other one does not
    tables.nth(1).focus()
    page.keyboard.press("Space")
    counts = page.locator(".fnb-table-counts")
    for place, words in ((0, "1 ticked"), (1, "1 ticked"), (2, "0 ticked")):
        counts.nth(place).filter(has_text=words).wait_for(timeout=10_000)
    # one menu is open at a time, and gives the keys back to its own table
    for place in (0, 1):
        explorers.nth(place).get_by_role("button", name="View", exact=True).click()
    assert page.locator(".fnb-table-popup").count() == 1
    page.keyboard.press("Escape")
    assert explorers.nth(1).evaluate("(own) => own.contains(document.activeElement)")
    ids = page.evaluate("() => [...document.querySelectorAll('.fnb-explorer [id]')].map((part) => part.id)")
    assert len(ids) == len(set(ids)) > 0
    # a pane that is narrow has them below each other, whatever the window's width
    sides = "getComputedStyle(own.querySelector('.fnb-explorer-sides'))"
    columns = f"(own) => {sides}.gridTemplateColumns.split(' ').length"
    assert explorers.nth(0).evaluate(columns) == 2
    explorers.nth(0).evaluate("(own) => { own.style.width = '700px'; }")
    assert explorers.nth(0).evaluate(columns) == 1
    assert explorers.nth(1).evaluate(columns) == 2
    # plots of each are drawn
    for place in (0, 2):
        explorers.nth(place).get_by_role("tab", name="Plots").click()
        explorers.nth(place).locator(".fnb-plots-figure .bk-Figure").first.wait_for()


def test_what_is_pressed_first_can_be_read_under_the_pointer(watch: Any, dash: Any, session: Path) -> None:
    page = watch(size=(1500, 1400)).page
    page.goto(dash(session).address)
    row(page, 1).wait_for()
    page.locator(".fnb-action-bar").get_by_role("button", name="Flag", exact=True).click()
    button = page.locator(".fnb-action-do").get_by_role("button", name="Set", exact=True)
    look = "(button) => { const style = getComputedStyle(button); return [style.backgroundColor, style.color]; }"
    page.mouse.move(5, 5)
    plain = button.evaluate(look)
    button.hover()
    page.wait_for_timeout(300)
    ground, ink = button.evaluate(look)
    assert ground not in (plain[0], ink)
    assert not ground.startswith("rgba"), "the accent, not a shade over what lies below"
    assert ink == plain[1]


def test_nothing_that_was_written_is_read_as_html(watch: Any, dash: Any, session: Path) -> None:
    evil = "<img src=x onerror=window.hacked=1>"
    with Project.open(session) as project:
        project.move([1, 2], evil)
        project.comment([1, 2, 56], evil)
        project.select(evil, [1])
        with project.library.write() as transaction:
            for exposure in (2, 56):
                transaction.update_exposure(exposure, {"exposure": f"{evil}{exposure}", "reason": evil})
    settings = session / "project.json"
    settings.write_text(json.dumps({**json.loads(settings.read_text()), "name": evil}))
    page = watch(size=(1500, 1400)).page
    page.goto(dash(session).address)
    row(page, 2).wait_for()
    show_column(page, "Reason")
    show_column(page, "Comment")
    row(page, 2).click()
    page.locator(".fnb-overview .name", has_text=evil).first.wait_for()
    page.locator(".fnb-details", has_text=evil).first.wait_for()
    page.get_by_role("button", name="Move", exact=True).first.click()
    press(page, "Control+m")
    page.get_by_role("dialog", name="Move to group").get_by_text(evil).wait_for()
    page.keyboard.press("Escape")
    page.get_by_role("tab", name="Plots").click()
    page.locator(".fnb-plots-bar select").first.select_option(label="Group")
    page.locator(".fnb-plots-key", has_text=evil).wait_for()
    figure = page.locator(".fnb-plots-figure .bk-Figure").nth(1)
    figure.scroll_into_view_if_needed()
    page.wait_for_timeout(1000)
    box = figure.bounding_box()
    assert box is not None
    for across in range(4, 40):  # a point tells its exposure's name
        for down in range(2, 18, 3):
            page.mouse.move(box["x"] + across * box["width"] / 40, box["y"] + down * box["height"] / 20)
    assert page.evaluate("window.hacked") is None
    assert page.locator("img[src=x]").count() == 0


def test_page_and_kernel_are_quiet_once_rows_were_scrolled(watch: Any, dash: Any, tmp_path: Path) -> None:
    """Columns that were read for plots are another version of the table, of which the page has to be told."""
    filled_project(tmp_path / "project", 1000).close()
    page = watch(size=(1500, 1000)).page
    sent: list[object] = []
    page.on("websocket", lambda socket: socket.on("framesent", lambda frame: sent.append(frame)))
    page.goto(dash(tmp_path / "project").address)
    page.locator(".fnb-table-row[data-id]:not([hidden])").first.wait_for()
    page.wait_for_timeout(4000)
    page.locator(".fnb-table-scroll").evaluate("(scroll) => { scroll.scrollTop = 20000; }")
    page.wait_for_timeout(1500)
    sent.clear()
    page.wait_for_timeout(1500)
    assert len(sent) < 3


def test_the_views_go_by_the_order_of_the_table(watch: Any, dash: Any, session: Path) -> None:
    page = watch(size=(1500, 1000)).page
    page.goto(dash(session).address)
    row(page, 5).click()
    shown = "(name) => document.querySelector('.fnb-overview .name').textContent === name"
    page.wait_for_function(shown, arg="shot_05")
    caption = page.locator(".fnb-table-captions [data-column='exposure']")
    caption.click()
    page.locator("[data-column='exposure'][aria-sort='ascending']").wait_for()
    caption.click()  # the last first
    page.wait_for_function("document.querySelector('.fnb-overview').textContent.includes('52 / 56')")
    page.locator(".fnb-overview .root").focus()
    page.keyboard.press("ArrowDown")
    page.wait_for_function(shown, arg="shot_04")
    # one that a filter hides has no neighbours: a step leads to the first of those shown
    press(page, "/")
    page.keyboard.type("shot_3")
    foot(page, "10 of 56 shown")
    page.locator(".fnb-overview .root").focus()
    page.keyboard.press("ArrowDown")
    page.wait_for_function(shown, arg="shot_39")


def test_the_views_follow_the_keys_of_the_table_without_the_kernel(watch: Any, dash: Any, session: Path) -> None:
    server = dash(session)
    page = watch(size=(1500, 1000)).page
    page.goto(server.address)
    row(page, 1).click()
    shown = "(name) => document.querySelector('.fnb-overview .name').textContent === name"
    press(page, "ArrowDown", "ArrowDown")
    page.wait_for_function(shown, arg="shot_03")
    page.wait_for_timeout(2000)  # those to come have been fetched
    [kernel] = [
        child
        for child in psutil.Process(server.process.pid).children(recursive=True)
        if "ipykernel_launcher" in child.cmdline()
    ]
    kernel.suspend()
    try:
        press(page, "ArrowDown")
        page.wait_for_function(shown, arg="shot_04", timeout=5_000)
        press(page, "ArrowDown", "ArrowDown")
        page.wait_for_function(shown, arg="shot_06", timeout=5_000)
    finally:
        kernel.resume()
    # the kernel, which heard of it late, leads nowhere else
    page.wait_for_timeout(2000)
    assert page.evaluate(shown, "shot_06")
    page.locator(".fnb-details", has_text="shot_06").first.wait_for()
    # nor back to where the table was, when the views have been stepped on since
    kernel.suspend()
    try:
        press(page, "ArrowDown")
        page.wait_for_function(shown, arg="shot_07", timeout=5_000)
        page.locator(".fnb-overview .root").focus()
        page.keyboard.press("ArrowDown")
        page.keyboard.press("ArrowDown")
        page.wait_for_function(shown, arg="shot_09", timeout=5_000)
        page.evaluate(
            "() => { const name = document.querySelector('.fnb-overview .name'); window.seen = [];"
            " new MutationObserver(() => window.seen.push(name.textContent)).observe(name, { childList: true,"
            " characterData: true, subtree: true }); }"
        )
    finally:
        kernel.resume()
    page.wait_for_timeout(2000)
    assert page.evaluate(shown, "shot_09")
    assert set(page.evaluate("window.seen")) <= {"shot_09"}
    page.locator(".fnb-details", has_text="shot_09").first.wait_for()


def test_two_browsers_see_each_others_flags(open_explorer: Any, session: Path) -> None:
    one, two = open_explorer(session), open_explorer(session)
    row(one, 5).click()
    one.keyboard.press("b")
    two.locator(".fnb-table-row[data-id='5'] [title='flagged blue']").wait_for(timeout=10_000)
    row(two, 7).click()
    two.keyboard.press("Space")
    foot(one, "1 ticked")


def test_on_a_phone(watch: Any, dash: Any, session: Path) -> None:
    page = watch(size=PHONE).page
    page.goto(dash(session).address)
    row(page, 1).wait_for()
    assert page.evaluate("document.documentElement.scrollWidth") <= PHONE[0]
    row(page, 2).tap()
    page.wait_for_function("document.querySelector('.fnb-overview .name').textContent === 'shot_02'")
