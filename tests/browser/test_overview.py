"""The overviews, and the brush of a plot, as people use them: by mouse, keyboard and finger, in Chromium."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from focusnb.io.images import write_png
from focusnb.panels.polling import poller
from focusnb.project.project import Project
from tests.browser.overview_page import OverviewPage
from tests.views.shown import SHOWN, corner, make_shown, state

pytestmark = pytest.mark.browser

MANY = 60

Open = Callable[..., OverviewPage]


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Project]:
    """Sixty exposures; the image of number n has grey 100 + n in its middle."""
    folder = tmp_path_factory.mktemp("shown")
    with make_shown(folder / "project", names=[f"shot_{n:03d}" for n in range(1, MANY + 1)]) as project:
        for exposure in project.ids():
            pixels = corner()
            pixels[SHOWN // 2 - 2 : SHOWN // 2 + 2, SHOWN // 2 - 2 : SHOWN // 2 + 2] = 100 + exposure
            write_png(project.path(exposure) / "image_after.png", pixels)
            write_png(project.path(exposure) / "image_before.png", np.full((SHOWN, SHOWN), 30, np.uint8))
        state(project, 7, "fit_ctf", "failed", reason="shot_007: the voltage is not known; set it", error="StepError")
        yield project


@pytest.fixture
def open_page(chromium: Any, project: Project) -> Iterator[Open]:
    """Return a function that opens a page with the overviews; any complaint of the browser fails the test."""
    opened: list[tuple[OverviewPage, Any]] = []

    def open_it(shown: Project = project, **options: Any) -> OverviewPage:
        context = chromium.new_context(**{"viewport": {"width": 800, "height": 960}, **options})
        context.set_default_timeout(5000)
        page = OverviewPage(shown, context)
        opened.append((page, context))
        return page

    yield open_it
    for page, context in opened:
        complaints = page.complaints
        page.close()
        context.close()
        assert complaints == []


def middle(page: OverviewPage) -> int:
    return page.pixel(".tile:nth-of-type(3)", 0.5, 0.5)


def test_fifty_exposures_are_stepped_through_by_keyboard(open_page: Open) -> None:
    page = open_page()
    page.page.locator(".root").focus()
    page.measure()
    for number in range(1, 51):
        assert (page.name, middle(page)) == (f"shot_{number:03d}", 100 + number)
        page.press("ArrowDown")
    assert page.panel.current == 51
    assert page.page.locator(".where").inner_text() == f"51 / {MANY}"
    # fetched ahead: no step waited for the kernel, but for the first, which comes as soon as the page is there
    assert all(there for _, there in page.steps[1:])
    page.press("ArrowUp", "ArrowUp")
    assert (page.name, page.panel.current) == ("shot_049", 49)
    assert page.page.evaluate("window.leaked") == []
    size = page.page.evaluate("document.getElementById('root').focusnbOverview.cache.size")
    assert size["bytes"] < 100e6


def test_a_key_held_down_ends_where_it_was_let_go(open_page: Open) -> None:
    page = open_page()
    page.page.locator(".root").focus()
    told: list[int] = []
    page.panel.on_show(told.append)
    page.press(*["ArrowDown"] * 9)
    assert (page.name, middle(page), page.panel.current) == ("shot_010", 110, 10)
    assert told[-1] == 10
    page.press("PageDown", "End")
    assert page.panel.current is not None
    assert page.panel.current > 20


def test_pictures_are_upright_and_overviews_change_by_key_and_by_click(open_page: Open) -> None:
    page = open_page()
    assert page.titles()[0] == "Image before correction"
    assert [page.pixel(".tile:nth-of-type(3)", x, y) for x, y in ((0.1, 0.1), (0.1, 0.9), (0.9, 0.1))] == [255, 0, 128]
    page.page.locator(".root").focus()
    page.press("2")
    assert page.titles() == ["Image after correction", "Spectrum after correction", "Trajectory", "CTF rings"]
    assert page.page.locator(".tile:nth-of-type(3) .drawing svg").count() == 1
    page.page.get_by_role("tab", name="Image").click()
    page.settle()
    assert page.titles()[0] == "Image before correction"
    assert page.panel.overview == "Image"


def test_a_view_fills_the_screen_and_is_stepped_on_there(open_page: Open) -> None:
    page = open_page()
    page.page.locator(".tile:nth-of-type(3)").dblclick()
    page.settle(0.5)
    assert page.page.locator("dialog.screen").evaluate("(d) => d.open")
    # once nobody steps on it is drawn from the micrograph itself, with a scale bar over it
    assert page.page.locator("dialog.screen canvas").evaluate("(c) => c.width") == 64
    assert page.page.locator("dialog.screen .bar").inner_text().endswith(("Å", "nm"))
    page.press("ArrowDown")
    assert page.page.locator("dialog.screen .name").inner_text() == "shot_002"
    page.press("ArrowRight")
    page.settle(0.5)
    assert page.page.locator("dialog.screen .ring-label.fit").inner_text() == "4.8 Å"
    box = page.page.locator("dialog.screen .picture").bounding_box()
    ring = page.page.locator("dialog.screen .ring.fit").bounding_box()
    assert ring["width"] / box["width"] == pytest.approx(2 * 1.5 / 4.8, abs=0.01)
    assert box["width"] > 700
    page.press("ArrowLeft")
    page.settle(0.5)
    width = page.page.locator("dialog.screen canvas")
    assert width.evaluate("(c) => c.width") == 64
    page.press("f", "f")
    assert width.evaluate("(c) => c.width") == SHOWN  # compared as both were drawn, not one of them sharp
    page.press("Escape")
    assert not page.page.locator("dialog.screen").evaluate("(d) => d.open")
    assert page.name == "shot_002"


def test_a_view_is_flipped_in_its_place(open_page: Open) -> None:
    page = open_page()
    page.page.locator(".tile:nth-of-type(3)").click()
    assert middle(page) == 101
    page.press("f")
    assert (middle(page), page.titles()[2]) == (30, "Image before correction")
    page.press("f")
    assert (middle(page), page.titles()[2]) == (101, "Image after correction")
    page.press("2")  # where its partner is none of the four
    page.page.locator(".tile:nth-of-type(1)").click()
    page.press("f")
    assert page.titles()[0] == "Image before correction"
    assert page.pixel(".tile:nth-of-type(1)", 0.5, 0.5) == 30
    page.press("ArrowDown")
    assert page.titles()[0] == "Image before correction"  # the next one before correction too


def test_greys_are_changed_for_the_eye_and_taken_back(open_page: Open) -> None:
    page = open_page()
    page.page.locator(".root").focus()
    page.press("+", "+", ".")
    canvas = page.page.locator(".tile:nth-of-type(1) canvas")
    assert canvas.evaluate("(c) => getComputedStyle(c).filter") == "brightness(1.2) contrast(1.1)"
    page.press("0")
    assert canvas.evaluate("(c) => getComputedStyle(c).filter") == "brightness(1) contrast(1)"


def test_flags_of_others_are_seen_and_reasons_read(open_page: Open, project: Project) -> None:
    page = open_page()
    project.flag([1], "gold")
    poller(project).step()
    page.settle()
    assert page.page.locator(".marks .fnb-flag").get_attribute("title") == "flagged gold"
    project.flag([1], None)
    page.page.locator(".root").focus()
    page.press(*["ArrowDown"] * 6)
    assert "Fit the CTF failed. shot_007: the voltage is not known; set it" in page.page.locator(".note").inner_text()
    page.press("?")
    assert page.page.locator(".keys").is_visible()


def test_a_missing_and_a_broken_view_say_so(open_page: Open, project: Project) -> None:
    (project.path(3) / "image_after.png").write_bytes(b"\x89PNG broken")
    (project.path(3) / "spectrum_after.png").unlink()
    page = open_page()
    page.panel.show(3)
    page.settle()
    assert "is no picture" in page.page.locator(".tile:nth-of-type(3) .words").inner_text()
    assert "not in the exposure's folder any more" in page.page.locator(".tile:nth-of-type(4) .words").inner_text()


def test_an_empty_project_says_so(open_page: Open, tmp_path: Path) -> None:
    with make_shown(tmp_path / "project", names=()) as nothing:
        page = open_page(nothing)
        assert page.page.locator(".fnb-empty").inner_text() == "There is no exposure to show."
        assert not page.page.locator(".stage").is_visible()


def test_on_a_phone_one_view_at_a_time(open_page: Open) -> None:
    page = open_page(viewport={"width": 390, "height": 844}, has_touch=True, is_mobile=True)
    assert page.page.evaluate("document.documentElement.scrollWidth") <= 390
    boxes = [page.page.locator(f".tile:nth-of-type({n})").bounding_box() for n in (1, 2)]
    assert boxes[0]["width"] > 300
    assert boxes[1]["x"] > boxes[0]["x"] + 300
    for button in page.page.locator(".place button, .toolbar .tools button").all():
        box = button.bounding_box()
        assert box is not None
        assert min(box["width"], box["height"]) >= 36
    page.page.locator(".place button").nth(1).tap()
    page.settle()
    assert page.name == "shot_002"


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_words_can_be_read_in_light_and_dark(open_page: Open, scheme: str) -> None:
    page = open_page(color_scheme=scheme)
    page.page.locator(".root").focus()
    page.press("2")
    script = """(element) => {
        const canvas = new OffscreenCanvas(1, 1).getContext("2d");
        canvas.fillStyle = getComputedStyle(element)[element.matches("text") ? "fill" : "color"];
        canvas.fillRect(0, 0, 1, 1);
        return [...canvas.getImageData(0, 0, 1, 1).data].slice(0, 3);
    }"""
    paper = page.page.locator("#root").evaluate(script.replace('"color"', '"backgroundColor"'))
    for selector in (".name", ".values dt", ".values dd", ".drawing text", ".tile:nth-of-type(2) figcaption"):
        ink = page.page.locator(selector).first.evaluate(script)
        assert contrast(ink, paper) >= 4.5, selector


def contrast(one: list[int], other: list[int]) -> float:
    """By WCAG 2.1."""

    def luminance(colour: list[int]) -> float:
        parts = np.array(colour) / 255
        linear = np.where(parts <= 0.03928, parts / 12.92, ((parts + 0.055) / 1.055) ** 2.4)
        return float(linear @ [0.2126, 0.7152, 0.0722])

    low, high = sorted((luminance(one), luminance(other)))
    return (high + 0.05) / (low + 0.05)


_PLOTS = """
import focusnb
from focusnb.panels.plots import Plots
project = focusnb.open_project(FOLDER)
plots = Plots(project)
plots.choose(histogram="drift", x="defocus_u", y="drift", time="drift")
plots.on_select(lambda ids: project.select("brushed", ids))
plots
"""


def test_a_brush_in_voila_selects_exposures(chromium: Any, tmp_path: Path) -> None:
    import nbformat

    with make_shown(tmp_path / "project", names="abcdef") as shown:
        with shown.library.write() as transaction:
            for exposure in shown.ids():
                transaction.update_exposure(exposure, {"drift": 10.0 * exposure, "defocus_u": 10_000.0 + exposure})
        book = nbformat.v4.new_notebook()
        book.cells = [nbformat.v4.new_code_cell(_PLOTS.replace("FOLDER", repr(str(shown.folder))))]
        book.metadata["kernelspec"] = {"name": "python3", "display_name": "Python 3", "language": "python"}
        (tmp_path / "page").mkdir()
        nbformat.write(book, tmp_path / "page" / "page.ipynb")
        with _voila(tmp_path / "page") as address, chromium.new_context() as context:
            page = context.new_page()
            page.route("**/*", lambda route: route.continue_() if address in route.request.url else route.abort())
            page.goto(address)
            figure = page.locator(".fnb-plots-figure").nth(1).locator(".bk-Figure")
            figure.wait_for(timeout=60_000)
            page.wait_for_timeout(1500)
            page.wait_for_function("Bokeh.documents.every((figure) => figure.is_idle)")
            box = figure.bounding_box()
            # the upper half of the scatter: drifts grow upwards
            corners = [(0.25, 0.03), (0.915, 0.44)]
            (left, top), (right, bottom) = [
                (box["x"] + x * box["width"], box["y"] + y * box["height"]) for x, y in corners
            ]
            page.mouse.move(left, top)
            page.mouse.down()
            page.wait_for_timeout(600)  # a hesitant hand
            page.mouse.move(0.5 * (left + right), 0.5 * (top + bottom), steps=4)
            page.mouse.move(right, bottom, steps=4)
            page.mouse.up()
            page.get_by_text("3 of 6 marked").wait_for(timeout=60_000)
            assert shown.select("brushed") == [4, 5, 6]


class _voila:
    """Voila on a folder with one notebook; gives its address."""

    def __init__(self, folder: Path) -> None:
        with socket.socket() as found:
            found.bind(("127.0.0.1", 0))
            self.port = found.getsockname()[1]
        command = [sys.executable, "-m", "voila", "page.ipynb", "--no-browser", f"--port={self.port}"]
        self.log = open(folder.parent / "voila.log", "wb")  # noqa: SIM115
        self.process = subprocess.Popen(command, cwd=folder, stdout=self.log, stderr=self.log, env=dict(os.environ))

    def __enter__(self) -> str:
        deadline = time.monotonic() + 60
        while True:
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", self.port)) == 0:
                    return f"http://127.0.0.1:{self.port}/"
            assert self.process.poll() is None, "voila ended"
            assert time.monotonic() < deadline, "voila did not start"
            time.sleep(0.2)

    def __exit__(self, *exception: object) -> None:
        self.process.terminate()
        self.process.wait(20)
        self.log.close()
