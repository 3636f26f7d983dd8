"""The page of a project and the same panel in JupyterLab: nothing foreign, no complaint, followed live."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import TYPE_CHECKING

import psutil
import pytest

from focusnb.project.project import Project
from tests.browser.conftest import DESKTOP, PHONE, Dash
from tests.projects import make_project, process, write_shots

if TYPE_CHECKING:
    from playwright.sync_api import Page

pytestmark = pytest.mark.browser

SHOWN = "([n]) => document.querySelector('.fnb-count-number').textContent"


@pytest.fixture(scope="module")
def session(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project with two exposures done and one failed."""
    where = tmp_path_factory.mktemp("page")
    with make_project(where / "session") as project:
        project.add(write_shots(where / "camera", one="a\nb", two="a", three="fail load"))
        process(project)
    return where / "session"


def _counts(page: Page) -> dict[str, str]:
    texts = page.locator(".fnb-count").all_inner_texts()
    return {word: number for number, word in (text.split() for text in texts)}


@pytest.mark.parametrize(("size", "dark"), [(DESKTOP, False), (DESKTOP, True), (PHONE, False)])
def test_the_page_shows_the_project_and_follows_it(watch, dash, session, size, dark):
    page = watch(size=size, dark=dark).page
    page.goto(dash(session).address)
    page.locator(".fnb-live").wait_for()
    assert "token" not in page.url
    assert page.title() == "project"
    assert page.locator("h1.fnb-title").inner_text() == "project"
    before = _counts(page)
    assert before["failed"] == "1"
    with Project.open(session) as project:
        project.move(project.ids(status="done")[:1], "TRASH")
    page.wait_for_function(f"{SHOWN} !== n", arg=[before["done"]])
    assert _counts(page)["done"] == str(int(before["done"]) - 1)
    with Project.open(session) as project:
        project.move(project.ids(group="TRASH"), "camera")
    page.wait_for_function(f"{SHOWN} === n", arg=[before["done"]])
    assert page.evaluate("document.documentElement.scrollWidth") <= size[0], "nothing sticks out to the side"
    ground = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert ground == ("rgb(16, 19, 22)" if dark else "rgb(243, 245, 247)")


LATE = """
const make = URL.createObjectURL;
const late = "await new Promise((go) => setTimeout(go, 4000));\\n";
URL.createObjectURL = (blob) =>
  make(blob.type === "text/javascript" ? new Blob([late, blob], { type: blob.type }) : blob);
"""
"""The module of every widget comes four seconds late, as on a busy machine; anywidget waits for two."""


@pytest.mark.parametrize("where", ["page", "lab"])
def test_panels_that_are_late_to_begin_are_alive(watch, request, session, where):
    window = watch(size=(1400, 1200))
    page = window.page
    page.add_init_script(LATE)
    given_up: list[object] = []
    page.on("pageerror", lambda error: "[anywidget] Failed to initialize" in str(error) and given_up.append(error))
    if where == "page":
        page.goto(request.getfixturevalue("dash")(session).address)
    else:
        # what the kernel says before anybody listens: a text of the code box is a value, and no message
        cells = [f"import focusnb\nexplorer = focusnb.explorer({str(session)!r})\nexplorer"]
        cells += ["explorer.actions.choose('export')"]
        request.getfixturevalue("lab").run(window, *cells)
    page.locator(".fnb-table-row[data-id='1']").wait_for()
    page.locator(".fnb-overview .root > .head .name", has_text="one").wait_for()
    page.locator(".fnb-details .name", has_text="one").wait_for()
    if where == "page":
        page.get_by_role("button", name="Export", exact=True).click()
    page.locator(".fnb-code pre", has_text="encode_exposures").wait_for()
    # each goes on: what one says is heard by the others
    page.locator(".fnb-table-row[data-id='2']").click()
    page.locator(".fnb-overview .root > .head .name", has_text="three").wait_for()
    page.locator(".fnb-details .name", has_text="three").wait_for()
    assert given_up, "anywidget waits longer by now: nothing was late"


def test_a_closed_tab_frees_its_kernel(watch, dash, session):
    server = dash(session)
    children = psutil.Process(server.process.pid).children
    window = watch()
    page = window.page
    page.goto(server.address)
    page.locator(".fnb-live").wait_for()
    before = len(children())
    window.context.unroute_all()  # what a page sends while it is left is lost where requests are looked at
    page.goto("about:blank")
    for _ in range(100):
        if len(children()) < before:
            break
        page.wait_for_timeout(100)
    assert len(children()) < before


def test_a_page_whose_kernel_is_gone_loads_itself_again(watch, dash, session):
    server = dash(session)
    window = watch()
    page = window.page
    page.goto(server.address)
    page.locator(".fnb-live").wait_for()
    first = page.evaluate("JSON.parse(document.getElementById('jupyter-config-data').textContent).kernelId")
    for child in psutil.Process(server.process.pid).children():
        with contextlib.suppress(psutil.Error):  # that of a page before, which is just ending
            if first in " ".join(child.cmdline()):
                child.kill()
    page.wait_for_function(
        "([old]) => { const c = document.getElementById('jupyter-config-data');"
        " return c && JSON.parse(c.textContent).kernelId !== old; }",
        arg=[first],
    )
    window.complaints.clear()  # the console tells that the old kernel was not found
    page.locator(".fnb-live").wait_for()


def test_a_server_that_is_gone_is_told(watch, session):
    server = Dash(session)
    window = watch()
    page = window.page
    page.goto(server.address)
    page.locator(".fnb-live").wait_for()
    page.wait_for_function("navigator.serviceWorker.controller !== null")
    server.stop()
    page.get_by_text("The server cannot be reached since").wait_for()
    assert page.locator("h1.fnb-title").inner_text() == "project", "what was seen last stays"
    page.reload()
    page.get_by_role("heading", name="The server cannot be reached").wait_for()
    assert page.locator("img").evaluate("image => image.naturalWidth") > 0
    window.complaints.clear()  # the console tells the same


def test_log_in_by_hand(watch, dash, session):
    address, token = dash(session).address.split("?token=")
    window = watch()
    page = window.page
    page.goto(address)
    page.get_by_label("Token").fill("not the token")
    page.get_by_role("button", name="Log in").click()
    page.get_by_role("alert").wait_for()
    window.complaints.clear()  # the console tells of the refused password
    page.get_by_label("Token").fill(token)
    page.keyboard.press("Enter")
    page.locator(".fnb-live").wait_for()


@pytest.mark.parametrize("dark", [False, True])
def test_the_panel_in_jupyterlab(watch, lab, session, dark):
    cell = f"import focusnb.apps\nfocusnb.apps.explorer({str(session)!r})"
    page = lab.run(watch(dark=not dark), cell, dark=dark)
    page.locator(".fnb-live").wait_for()
    assert _counts(page)["failed"] == "1"
    ink = page.evaluate("getComputedStyle(document.querySelector('h1.fnb-title')).color")
    assert (int(ink.split("(")[1].split(",")[0]) > 128) == dark, "JupyterLab's theme decides, not the system's"
