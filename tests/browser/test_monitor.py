"""The monitor's page in Chromium: all microscopes at a glance and one in depth, on a desk and on a phone."""

from __future__ import annotations

import json
import re
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urljoin

import pytest

from focusnb.monitoring.publish import Publisher
from focusnb.monitoring.service import Watch
from focusnb.monitoring.snapshot import make_snapshot
from focusnb.project.project import Project
from tests.browser.conftest import DESKTOP, PHONE, Server
from tests.monitoring.conftest import _add_pictures, _micrograph, add_shades, shade
from tests.monitoring.nights import MINUTE, Recorder, make_night, make_project

if TYPE_CHECKING:
    from playwright.sync_api import Page

pytestmark = pytest.mark.browser

BOTH = pytest.mark.parametrize("size", [DESKTOP, PHONE], ids=["desktop", "phone"])


@dataclass
class Site:
    """A server of two microscopes: titan1, whose night goes on in ``recorder``, and glacios, which is published."""

    server: Server
    project: Project
    recorder: Recorder
    published: Path

    def publish(self) -> None:
        """Publish what there is now as the session of glacios."""
        Publisher(str(self.published), page=None).publish(make_snapshot(self.project))


def _night_to_now(seed: int, **options: Any) -> Any:
    """A night that ends in twenty minutes."""
    night = make_night(seed, **options)
    shift = time.time() + 20 * MINUTE - night.end
    for image in night.images:
        image.recorded, image.imported, image.processed = (
            t + shift for t in (image.recorded, image.imported, image.processed)
        )
    night.faults = [replace(fault, begin=fault.begin + shift, end=fault.end + shift) for fault in night.faults]
    night.begin, night.end = night.begin + shift, night.end + shift
    return night


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    folder = tmp_path_factory.mktemp("monitor")
    night = _night_to_now(9300, hours=4.0, faults=[])
    with make_project(folder / "night") as project:
        recorder = Recorder(project, night)
        recorder.go(time.time() - MINUTE)
        _add_pictures(project, project.ids(status="done")[-1], _micrograph())
        add_shades(project, project.ids(status="done")[-200:-1])
        config = folder / "microscopes.toml"
        config.write_text('[titan1]\nproject = "night"\n[glacios]\npublished = "published"\n')
        program = "from focusnb.cli import main; main()"
        command = [sys.executable, "-c", program, "monitor", str(config), "--no-browser", "--port", "0"]
        server = Server(command, r"http://localhost:\d+/\?token=[\w-]+", folder)
        made = Site(server, project, recorder, folder / "published")
        made.publish()
        yield made
        server.stop()


def _open(page: Page, site: Site, name: str = "") -> Page:
    page.goto(site.server.address)
    page.locator(".card .band").first.wait_for()
    if name:
        page.get_by_role("button", name=name).click()
        page.locator(".plot canvas").first.wait_for()
    return page


def _images(page: Page) -> int:
    return int(page.locator(".tile b").first.inner_text().replace(",", ""))


def _drawn(page: Page, name: str) -> str:
    """The picture of a plot, to tell whether it changed."""
    page.wait_for_timeout(300)
    return str(page.evaluate("name => document.querySelector(`.plot[data-name=${name}] canvas`).toDataURL()", name))


@BOTH
def test_two_microscopes_at_a_glance_and_one_in_depth(watch: Callable[..., Any], site: Site, size: tuple[int, int]):
    site.publish()
    page = _open(watch(size=size, dark=size == PHONE).page, site)
    assert page.locator(".card").count() == 2
    card = page.get_by_role("button", name="titan1")
    assert "titan1" in card.locator(".name").inner_text()
    card.get_by_text(re.compile("^Recording|^Idle for")).first.wait_for()
    card.locator("img").wait_for()
    first = card.locator(".age b").inner_text()
    page.wait_for_function("old => document.querySelector('.card .age b').textContent !== old", arg=first)
    card.click()
    page.locator('.plot[data-name="mean_counts"]').wait_for()
    names = page.locator(".plot:not([hidden])").evaluate_all("plots => plots.map(plot => plot.dataset.name)")
    assert names[:6] == ["mean_counts", "drift", "defocus", "ctf_fit_resolution", "iciness", "throughput"]
    page.locator(".pictures img").first.wait_for()
    assert page.get_by_text("blurred to 200 Å").count() >= 1
    assert page.locator(".grid canvas").is_visible()
    assert page.evaluate("document.documentElement.scrollWidth") <= size[0], "nothing sticks out to the side"
    text = page.locator(".night").inner_text()
    assert "FoilHole" not in text
    assert "GridSquare" not in text
    page.go_back()
    page.locator(".card").first.wait_for()
    page.get_by_role("button", name="glacios").click()
    page.locator(".plot canvas").first.wait_for()
    assert page.locator(".depth-head .name").inner_text().startswith("glacios")
    page.get_by_role("button", name="All microscopes").click()
    page.locator(".card").first.wait_for()


def test_a_session_grows_before_the_eyes(watch: Callable[..., Any], site: Site):
    page = _open(watch().page, site, "titan1")
    page.locator(".tile").first.wait_for()
    before, drawing = _images(page), _drawn(page, "drift")
    site.recorder.go(site.recorder.now + MINUTE)
    there = len(site.project.ids())
    assert there > before
    page.wait_for_function(
        "n => document.querySelector('.tile b').textContent.replaceAll(',', '') === String(n)", arg=there
    )
    assert _drawn(page, "drift") != drawing


@BOTH
def test_ranges_are_chosen_dragged_and_left_again(watch: Callable[..., Any], site: Site, size: tuple[int, int]):
    page = _open(watch(size=size).page, site, "titan1")
    three = page.get_by_role("button", name="3 h", exact=True)
    assert three.get_attribute("aria-pressed") == "true"
    page.locator('.plot[data-name="drift"] canvas').scroll_into_view_if_needed()  # what nobody sees is not drawn
    seen = {_drawn(page, "drift")}
    for name in ("1 h", "Session"):
        page.get_by_role("button", name=name, exact=True).click()
        assert page.get_by_role("button", name=name, exact=True).get_attribute("aria-pressed") == "true"
        seen.add(_drawn(page, "drift"))
    assert len(seen) == 3
    canvas = page.locator('.plot[data-name="drift"] canvas')
    canvas.scroll_into_view_if_needed()
    box = canvas.bounding_box()
    assert box is not None
    page.mouse.move(box["x"] + 0.4 * box["width"], box["y"] + 60)
    page.mouse.down()
    page.mouse.move(box["x"] + 0.6 * box["width"], box["y"] + 60, steps=4)
    page.mouse.up()
    page.locator(".own b").wait_for()
    assert three.get_attribute("aria-pressed") == "false"
    assert _drawn(page, "drift") not in seen
    assert page.evaluate("document.documentElement.scrollWidth") <= size[0]
    page.keyboard.press("Escape")
    page.locator(".own b").wait_for(state="detached")
    page.keyboard.press("3")
    assert three.get_attribute("aria-pressed") == "true"


def test_values_are_told_under_the_pointer_and_limits_are_of_the_viewer_alone(watch: Callable[..., Any], site: Site):
    rules = {path: path.read_bytes() for path in (site.project.folder / "monitoring").rglob("*.json")}
    page = _open(watch().page, site, "titan1")
    plot = page.locator('.plot[data-name="drift"]')
    canvas = plot.locator("canvas")
    box = canvas.bounding_box()
    assert box is not None
    page.mouse.move(box["x"] + box["width"] / 2, box["y"] + 60)
    page.locator(".tip").wait_for()
    assert "Å" in page.locator(".tip").inner_text()
    page.mouse.move(5, 5)
    plot.get_by_role("button", name="Limits, picture, table").click()
    page.get_by_label("Upper limit").fill("0.5")
    page.wait_for_function("document.querySelector('.plot[data-name=drift] .share').textContent.includes('outside')")
    with page.expect_download() as saved:
        page.get_by_role("menuitem", name="Save as CSV").click()
    lines = Path(saved.value.path()).read_text().splitlines()
    assert lines[0] == 'time,exposure,state,"Drift (Å)"'
    assert len(lines) > 100
    plot.get_by_role("button", name="Limits, picture, table").click()
    with page.expect_download() as saved:
        page.get_by_role("menuitem", name="Save as PNG").click()
    assert Path(saved.value.path()).read_bytes().startswith(b"\x89PNG")
    assert {path: path.read_bytes() for path in (site.project.folder / "monitoring").rglob("*.json")} == rules


PREVIEW = '.tip canvas[data-preview]:not([data-preview=""])'


def point_at(page: Page, plot: str, part: float, *, tap: bool) -> None:
    """Point at, or tap, what lies at a part of the width of a plot."""
    place = page.locator(plot)
    place.scroll_into_view_if_needed()
    box = place.bounding_box()
    assert box is not None
    x, y = box["x"] + part * box["width"], box["y"] + 70
    if tap:
        page.touchscreen.tap(x, y)
    else:
        page.mouse.move(x, y)


def seen_preview(page: Page) -> tuple[int, list[int]]:
    """The exposure whose preview is shown, and the greys of its left and right half."""
    page.locator(PREVIEW).wait_for()
    told = page.evaluate(
        """selector => {
            const canvas = document.querySelector(selector), context = canvas.getContext("2d");
            const grey = (part) => context.getImageData(part * canvas.width, canvas.height / 3, 1, 1).data[0];
            return [Number(canvas.dataset.preview), grey(0.2), grey(0.8)];
        }""",
        PREVIEW,
    )
    return told[0], told[1:]


@BOTH
@pytest.mark.parametrize("name", ["titan1", "glacios"])
def test_the_preview_of_the_image_under_the_pointer_is_shown(
    watch: Callable[..., Any], site: Site, size: tuple[int, int], name: str
):
    site.publish()
    page = _open(watch(size=size, dark=size == PHONE).page, site, name)
    page.get_by_role("button", name="1 h", exact=True).click()
    plot, tap = '.plot[data-name="drift"] canvas', size == PHONE
    seen = set()
    for part in (0.75, 0.7, 0.62):
        point_at(page, plot, part, tap=tap)
        page.wait_for_timeout(400)
        identity, greys = seen_preview(page)
        assert greys == pytest.approx([shade(identity) - 40, shade(identity)], abs=2)
        seen.add(identity)
    assert len(seen) == 3
    assert seen <= set(site.project.ids())
    tip = page.locator(".tip")
    assert "blurred to 200 Å" in tip.inner_text()
    box = tip.bounding_box()
    assert box is not None
    assert box["x"] >= 0
    assert box["x"] + box["width"] <= size[0]
    # of what is older no preview was kept
    page.get_by_role("button", name="Session", exact=True).click()
    point_at(page, plot, 0.25, tap=tap)
    tip.get_by_text("no preview of it is kept").wait_for()
    point_at(page, ".tiles", 0.5, tap=tap)
    tip.wait_for(state="hidden")


def test_a_published_session_goes_away_and_comes_back(watch: Callable[..., Any], site: Site):
    site.publish()
    page = _open(watch().page, site)
    card = page.get_by_role("button", name="glacios")
    away = site.published.with_name("away")
    site.published.rename(away)
    card.get_by_text("Not reachable for").wait_for()
    assert str(site.published.parent) not in page.locator(".night").inner_text()
    assert page.title().startswith("▲ ")
    # in depth as well it says for how long, as time goes on
    card.click()
    headline = page.locator(".depth-head strong")
    headline.get_by_text("Not reachable for").wait_for()
    before = headline.inner_text()
    page.wait_for_function("old => document.querySelector('.depth-head strong')?.textContent !== old", arg=before)
    page.get_by_role("button", name="All microscopes").click()
    away.rename(site.published)
    site.publish()
    card.get_by_text("Not reachable for").wait_for(state="detached")


def test_an_alert_becomes_the_headline(watch: Callable[..., Any], tmp_path: Path):
    night = _night_to_now(9301, hours=3.0, faults=["counts"])
    night_end = night.faults[0].begin + 15 * MINUTE
    shift = time.time() - night_end
    for image in night.images:
        image.recorded, image.imported, image.processed = (
            t + shift for t in (image.recorded, image.imported, image.processed)
        )
    with make_project(tmp_path / "night") as project:
        recorder = Recorder(project, night)
        watching = Watch(project, clock=recorder.clock)
        recorder.go(time.time() - 20 * MINUTE)
        while recorder.now < time.time() - 1:
            recorder.go(min(recorder.now + 2 * MINUTE, time.time()))
            watching.step()
        watching.close()
        program = "from focusnb.cli import main; main()"
        command = [sys.executable, "-c", program, "monitor", str(project.folder), "--no-browser", "--port", "0"]
        server = Server(command, r"http://localhost:\d+/\?token=[\w-]+", tmp_path)
        try:
            page = watch(size=PHONE, dark=True).page
            page.goto(server.address)
            page.locator(".depth-head strong").wait_for()
            assert "ounts" in page.locator(".depth-head strong").inner_text()
            assert page.locator(".depth-head .band").get_attribute("data-level") == "bad"
            assert "slit" in page.locator(".alerts").first.inner_text()
            box = page.locator(".alerts").first.bounding_box()
            assert box is not None
            assert box["y"] + box["height"] < PHONE[1], "seen without scrolling"
            page.goto("about:blank")
        finally:
            server.stop()


def test_the_manifest_lets_the_page_be_installed(site: Site):
    address = site.server.address.split("?")[0]
    with urllib.request.urlopen(urljoin(address, "manifest.webmanifest"), timeout=10) as answer:
        manifest = json.load(answer)
    assert {"name", "short_name", "start_url", "display", "icons"} <= set(manifest)
    assert manifest["display"] in ("standalone", "fullscreen")
    sizes = {icon["sizes"] for icon in manifest["icons"]}
    assert {"192x192", "512x512"} <= sizes
    for icon in manifest["icons"]:
        with urllib.request.urlopen(urljoin(address, icon["src"]), timeout=10) as answer:
            assert answer.headers["Content-Type"].startswith(icon["type"])
