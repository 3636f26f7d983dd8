"""A published session from a plain file server, in Chromium: it needs no kernel and follows what is published."""

from __future__ import annotations

import functools
import http.server
import re
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from focusnb.monitoring.previews import sheet_names
from focusnb.monitoring.publish import Publisher
from focusnb.monitoring.settings import PublishSettings
from focusnb.monitoring.snapshot import SnapshotMaker, make_snapshot
from focusnb.project.project import Project
from tests.browser.conftest import DESKTOP, PHONE
from tests.browser.test_monitor import _night_to_now, point_at, seen_preview
from tests.monitoring.conftest import _add_pictures, _micrograph, add_shades, shade
from tests.monitoring.nights import MINUTE, Recorder, make_project
from tests.waiting import wait_until

pytestmark = pytest.mark.browser

SETTINGS = PublishSettings(title="Titan 1", refresh=5)


@pytest.fixture
def address(tmp_path: Path) -> Iterator[str]:
    """A plain file server over ``tmp_path/web``; named before ``watch``, so that no window is left without it."""

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *arguments: object) -> None:
            pass

    (tmp_path / "web").mkdir()
    handler = functools.partial(Quiet, directory=str(tmp_path / "web"))
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    yield f"http://127.0.0.1:{server.server_address[1]}/index.html"
    server.shutdown()
    server.server_close()


def images(page: Any) -> int:
    return int(page.locator("#numbers .number b").first.inner_text().replace(",", ""))


def scroll_from(page: Any, plot: str) -> None:
    """Put a finger on a plot and scroll the page with it."""
    place = page.locator(plot)
    place.scroll_into_view_if_needed()
    box, before = place.bounding_box(), page.evaluate("window.scrollY")
    x, y = box["x"] + 0.7 * box["width"], box["y"] + 70
    hand = page.context.new_cdp_session(page)
    hand.send("Input.dispatchTouchEvent", {"type": "touchStart", "touchPoints": [{"x": x, "y": y}]})
    page.locator("#tip").wait_for()
    for moved in range(10, 110, 10):
        hand.send("Input.dispatchTouchEvent", {"type": "touchMove", "touchPoints": [{"x": x, "y": y - moved}]})
    hand.send("Input.dispatchTouchEvent", {"type": "touchEnd", "touchPoints": []})
    wait_until(lambda: page.evaluate("window.scrollY") != before)


@pytest.mark.parametrize("size", [DESKTOP, PHONE], ids=["desktop", "phone"])
def test_the_page_follows_what_is_published(
    address: str, watch: Callable[..., Any], tmp_path: Path, size: tuple[int, int]
) -> None:
    with make_project(tmp_path / "secret-sample") as project:
        recorder = Recorder(project, _night_to_now(9301, hours=3.0, faults=[]))
        recorder.go(time.time() - 10 * MINUTE)
        _add_pictures(project, project.ids(status="done")[-1], _micrograph())
        publisher = Publisher(str(tmp_path / "web"))
        publisher.publish(make_snapshot(project, settings=SETTINGS))
        page = watch(size=size).page
        page.goto(address)
        page.locator("#plots-section canvas").first.wait_for()
        assert page.locator("#title").inner_text() == "Titan 1"
        assert page.evaluate("document.documentElement.scrollWidth") <= size[0]
        assert page.locator("#pictures img").count() > 0
        assert "secret-sample" not in page.content()
        before = images(page)
        recorder.go(time.time() - MINUTE)
        publisher.publish(make_snapshot(project, settings=SETTINGS))
        page.wait_for_function(
            "(n) => +document.querySelector('#numbers .number b').textContent.replace(/,/g, '') > n", arg=before
        )
        add_shades(project, project.ids(status="done")[-300:-1])
        publisher.publish(make_snapshot(project, settings=SETTINGS))
        page.reload()
        page.locator("#plots-section canvas").first.wait_for()
        tap = size == PHONE
        page.locator("#ranges button").nth(0).click()
        seen = set()
        for part in (0.8, 0.7, 0.6):
            point_at(page, '[id="plot:drift"]', part, tap=tap)
            page.wait_for_timeout(400)
            identity, greys = seen_preview(page)
            assert greys == pytest.approx([shade(identity) - 40, shade(identity)], abs=2)
            seen.add(identity)
        assert len(seen) == 3
        assert "blurred to 200 Å" in page.locator("#tip").inner_text()
        assert page.evaluate("document.documentElement.scrollWidth") <= size[0]
        point_at(page, "#numbers", 0.5, tap=tap)
        page.locator("#tip").wait_for(state="hidden")
        if tap:
            scroll_from(page, '[id="plot:drift"]')
            page.locator("#tip").wait_for(state="hidden")
        ranges = page.locator("#ranges button")
        ranges.nth(0).click()
        assert ranges.nth(0).get_attribute("aria-pressed") == "true"


def test_a_preview_that_could_not_be_fetched_comes_when_the_network_is_back(
    address: str, watch: Callable[..., Any], tmp_path: Path
) -> None:
    """A sheet that is complete keeps its name all night, and a page may stay open for days."""
    with make_project(tmp_path / "night") as project:
        recorder = Recorder(project, _night_to_now(9301, hours=3.0, faults=[]))
        recorder.go(time.time() - MINUTE)
        add_shades(project, project.ids(status="done")[-300:])
        snapshot = make_snapshot(project, settings=SETTINGS)
        Publisher(str(tmp_path / "web")).publish(snapshot)
    sheets = sheet_names(snapshot.status)
    assert len(sheets) > 5
    page = watch(size=DESKTOP).page
    page.clock.install()
    asked: list[str] = []

    def broken(route: Any) -> None:
        asked.extend(name for name in sheets if route.request.url.endswith(name))
        route.fulfill(status=200, content_type="image/png", body=b"half a pict")

    page.route("**/data/*.png", broken)
    page.goto(address)
    page.locator("#plots-section canvas").first.wait_for()
    page.locator("#ranges button").nth(0).click()
    # what the pointer only passes over is not fetched
    point_at(page, "#numbers", 0.5, tap=False)
    page.evaluate(
        """() => {
            const plot = document.getElementById("plot:drift"), box = plot.getBoundingClientRect();
            for (let part = 0.2; part < 0.8; part += 0.02)
                plot.dispatchEvent(new PointerEvent("pointermove", {
                    bubbles: true, pointerType: "mouse", clientX: box.x + part * box.width, clientY: box.y + 70 }));
        }"""
    )
    page.get_by_role("img", name="The preview is being fetched").wait_for()
    wait_until(lambda: page.wait_for_timeout(50) or asked)
    assert len(asked) == 1
    page.unroute("**/data/*.png")
    page.clock.fast_forward(11_000)
    identity, greys = seen_preview(page)
    assert greys == pytest.approx([shade(identity) - 40, shade(identity)], abs=2)
    # what was pointed at leaves the plot as the night goes on, and its preview with it
    page.clock.fast_forward(11_000)
    assert page.locator("#tip").is_visible()
    with Project.open(tmp_path / "night") as project:
        later = SnapshotMaker(project, clock=lambda: time.time() + 7200).make(SETTINGS)
        Publisher(str(tmp_path / "web")).publish(later)
    page.clock.fast_forward(11_000)
    page.locator("#tip").wait_for(state="hidden")


@pytest.mark.parametrize(
    ("ago", "words", "level"),
    [(0.0, None, None), (600.0, "No news for 10 min", "warning"), (7300.0, "No news for 2.0 h", "bad")],
)
def test_a_state_that_grew_old_says_so_in_words_and_colour(
    address: str, watch: Callable[..., Any], tmp_path: Path, ago: float, words: str | None, level: str | None
) -> None:
    with make_project(tmp_path / "night") as project:
        Recorder(project, _night_to_now(9302, hours=1.0, faults=[])).go(time.time() - MINUTE)
        maker = SnapshotMaker(project, clock=lambda: time.time() - ago)
        Publisher(str(tmp_path / "web")).publish(maker.make(SETTINGS))
    page = watch(size=PHONE, dark=True).page
    page.goto(address)
    page.locator("#numbers .number").first.wait_for()
    band = page.locator("#stale")
    if words is None:
        assert not band.is_visible()
        return
    assert words in band.inner_text()
    assert band.get_attribute("data-level") == level
    assert band.locator(".shape").is_visible()
    assert page.locator("#state").inner_text().startswith("It was: ")
    assert band.bounding_box()["y"] < page.locator("#state").bounding_box()["y"]
    assert float(page.locator("main").evaluate("e => getComputedStyle(e).opacity")) < 1


@pytest.mark.parametrize("device", [1800.0, -1800.0])
@pytest.mark.parametrize("microscope", [0.0, -1800.0])
def test_clocks_that_are_wrong_make_no_news_old_nor_hide_that_there_are_none(
    address: str, watch: Callable[..., Any], tmp_path: Path, device: float, microscope: float
) -> None:
    with make_project(tmp_path / "night") as project:
        Recorder(project, _night_to_now(9302, hours=1.0, faults=[])).go(time.time() - MINUTE)
        maker = SnapshotMaker(project, clock=lambda: time.time() + microscope)
        publisher = Publisher(str(tmp_path / "web"))
        publisher.publish(maker.make(SETTINGS))
        window = watch(size=PHONE)
        page = window.page
        page.clock.install(time=time.time() + device)
        page.goto(address)
        page.locator("#numbers .number").first.wait_for()
        band = page.locator("#stale")
        if microscope:
            # until something newer comes it may be as old as it says
            band.get_by_text(re.compile("No news for 3[0-9] min")).wait_for()
            publisher.publish(maker.make(SETTINGS))
            page.clock.fast_forward(6000)
            band.wait_for(state="hidden")
        else:
            assert not band.is_visible()
    page.route("**/status.json*", lambda route: route.abort())
    page.clock.fast_forward(200_000)
    band.get_by_text(re.compile("No news for ([3-9]|1[0-9]) min")).wait_for()
    # a browser tells the console of what it cannot reach
    page.close()
    window.complaints.clear()


def test_a_page_opened_from_a_disk_says_what_it_needs(watch: Callable[..., Any], tmp_path: Path) -> None:
    with make_project(tmp_path / "night") as project:
        Publisher(str(tmp_path / "web")).publish(make_snapshot(project, settings=SETTINGS))
    window = watch(size=PHONE)
    window.context.unroute("**/*")
    window.page.goto((tmp_path / "web" / "index.html").as_uri())
    window.page.get_by_text("open it from a web server").wait_for()
    assert not window.page.locator("#state").is_visible()
    # a browser tells the console of what it does not read
    window.complaints.clear()
