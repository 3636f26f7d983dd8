"""A night from the camera to the telephone: what is recorded, processed, watched, told and shown, all of it real.

Small movies come into the camera's folder; ``focusnb serve`` imports, processes, watches and publishes them, sends its
messages to a mail server and a web hook of the test, and four windows look on.
"""

from __future__ import annotations

import email
import functools
import http.server
import json
import shutil
import socketserver
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from focusnb import microscope
from focusnb.project.project import Project
from tests.browser.conftest import DESKTOP, PHONE, Server
from tests.browser.test_monitor import point_at
from tests.cli.test_cli import MAIN, shell
from tests.monitoring import sinks
from tests.projects import make_project
from tests.waiting import wait_until

if TYPE_CHECKING:
    from playwright.sync_api import Page

pytestmark = pytest.mark.browser

BATCH = 16  # images: all of the fifteen that rules look at
PREVIEW = 'canvas[data-preview]:not([data-preview=""])'


@dataclass
class Night:
    """A project that is served, and what its alerts are sent to."""

    folder: Path
    project: Project
    mail: Any
    hook: Any

    @property
    def mails(self) -> list[email.message.Message]:
        return [email.message_from_bytes(content) for content in list(self.mail.received)]

    @property
    def posts(self) -> list[dict[str, Any]]:
        return [json.loads(content) for content in list(self.hook.received)]

    def owner(self, *words: object) -> None:
        """What the owner types: focusnb COMMAND PROJECT ..."""
        command, action, *rest = words
        ended = shell(command, action, self.folder / "project", *rest)
        assert ended.status == 0, ended.err

    def record(self, dose: float, monkeypatch: pytest.MonkeyPatch) -> None:
        """Let a batch be recorded with so many e⁻/Å² a frame, and wait until it is processed."""
        before = len(self.project.ids())
        plan = microscope._plan

        def dim(*given: Any) -> microscope.Plan:
            made = plan(*given)
            return replace(made, spec=replace(made.spec, dose_per_frame=dose))

        with monkeypatch.context() as patch:
            patch.setattr(microscope, "_plan", dim)
            patch.setattr(microscope, "_BETWEEN", timedelta(seconds=1))
            start = datetime.now().replace(microsecond=0) - timedelta(seconds=BATCH)
            staging = self.folder / f"staging{before}"
            options: dict[str, Any] = {"size": (224, 256), "frames": 4, "bad": False, "seed": before + 1}
            session = microscope.record_session(staging, movies=BATCH, start=start, **options)
        for number, exposure in enumerate(session.exposures, before + 1):
            target = self.folder / "camera" / f"grid1_secret_{number:05d}.tif"
            shutil.move(f"{exposure.path}.mdoc", f"{target}.mdoc")
            shutil.move(exposure.path, target)
        wait_until(lambda: len(self.project.ids(status="done")) == before + BATCH, seconds=180)


@pytest.fixture
def night(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Night]:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    camera = tmp_path / "camera"
    camera.mkdir()
    receiving = contextmanager(sinks.serve)
    with (
        make_project(tmp_path / "project", steps=False) as project,
        receiving(sinks.Mail, socketserver.ThreadingTCPServer) as mail,
        receiving(sinks.Hook, http.server.ThreadingHTTPServer) as hook,
    ):
        made = Night(tmp_path, project, mail, hook)
        made.owner("source", "add", camera)
        assert shell("publish", project.folder, tmp_path / "web", "--keep", "--refresh", 2).status == 0
        made.owner("alerts", "set", "disk", "--no-on")  # of the machine that tests this, not of the night
        made.owner("alerts", "send-to", sinks.mail_url(mail), sinks.hook_url(hook), "--least-seconds", 0)
        command = [sys.executable, "-c", MAIN, "serve", str(project.folder), "--foreground", "--workers", "1"]
        serving = subprocess.Popen(command)
        yield made
        shell("stop", project.folder)
        serving.wait(60)


@pytest.fixture
def plain(tmp_path: Path) -> Iterator[str]:
    """The address of the published page, from a plain file server."""

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *arguments: object) -> None:
            pass

    server = http.server.ThreadingHTTPServer(
        ("127.0.0.1", 0), functools.partial(Quiet, directory=str(tmp_path / "web"))
    )
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    yield f"http://127.0.0.1:{server.server_address[1]}/index.html"
    server.shutdown()
    server.server_close()


def _level(page: Page, band: str) -> tuple[str, str]:
    """The level of a band, and the colour it is written in."""
    found = page.locator(band).evaluate(
        "e => [e.dataset.level, getComputedStyle(e.querySelector('strong') ?? e).color]"
    )
    return found[0], found[1]


def test_a_threshold_is_crossed_told_acknowledged_and_over(
    watch: Callable[..., Any], night: Night, plain: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    night.record(1.5, monkeypatch)
    command = [sys.executable, "-c", MAIN, "monitor", str(night.project.folder), "--no-browser", "--port", "0"]
    server = Server(command, r"http://localhost:\d+/\?token=[\w-]+", night.folder)
    try:
        _follow(watch, night, server.address, plain, monkeypatch)
    finally:
        server.stop()


def _follow(watch: Callable[..., Any], night: Night, address: str, plain: str, monkeypatch: pytest.MonkeyPatch) -> None:
    live = [watch(size=size, dark=size == PHONE).page for size in (DESKTOP, PHONE)]
    published = [watch(size=size, dark=size == PHONE).page for size in (DESKTOP, PHONE)]
    for page in live:
        page.goto(address)
        page.locator('.plot[data-name="mean_counts"] canvas[aria-label*="limits from 0.1"]').wait_for()
    for page in published:
        page.goto(plain)
        page.locator("#plots-section canvas").first.wait_for()
    for page in (*live, *published):
        page.evaluate("window.loadedOnce = true")
    well = [_level(page, ".depth-head .band") for page in live]
    assert {level for level, _ in well} == {"ok"}
    assert {_level(page, "#state")[0] for page in published} == {"ok"}
    assert (night.mails, night.posts) == ([], [])

    # the owner moves the limit: it is drawn where it is now, and nothing is wrong yet
    night.owner("alerts", "set", "counts", "--low", 1.0)
    for page in live:
        page.locator('.plot[data-name="mean_counts"] canvas[aria-label*="limits from 1"]').wait_for()
    drawn = "Bokeh.documents.some(d => d.get_model_by_name('low:mean_counts')?.location === 1)"
    for page in published:
        # a page that forbids eval may be asked from outside, and not wait by itself
        wait_until(lambda page=page: page.evaluate(drawn))
    assert (night.mails, night.posts) == ([], [])

    # half the electrons are gone
    night.record(0.75, monkeypatch)
    for page, (_, colour) in zip(live, well, strict=True):
        page.locator('.depth-head .band[data-level="bad"]').wait_for()
        page.get_by_text("are dark").first.wait_for()
        assert "dark" in page.locator(".depth-head strong").inner_text()
        assert "slit" in page.locator(".alerts").first.inner_text()
        assert _level(page, ".depth-head .band")[1] != colour
        assert page.title().startswith("▲ ")
        alerts = page.locator(".alerts").first.bounding_box()
        assert alerts is not None
        assert alerts["y"] + alerts["height"] < page.viewport_size["height"], "seen without scrolling"
    for page in published:
        page.locator('#state[data-level="bad"]').wait_for()
        page.locator("#state-text").get_by_text("are dark").wait_for()
        page.locator("#alerts").get_by_text("are dark").wait_for()
        assert page.title().startswith("▲ ")
        alerts = page.locator("#alerts li").first.bounding_box()
        assert alerts is not None
        assert alerts["y"] + alerts["height"] < page.viewport_size["height"], "seen without scrolling"

    # both hear of it, once, with the plot of the counts
    wait_until(lambda: len(night.mails) == 1 and len(night.posts) == 1)
    [message], [post] = night.mails, night.posts
    subject = str(email.header.make_header(email.header.decode_header(message["Subject"])))
    assert "are dark" in subject
    assert "below 1" in subject
    [picture] = [part for part in message.walk() if part.get_content_type() == "image/png"]
    assert picture.get_payload(decode=True).startswith(b"\x89PNG")
    assert "are dark" in post["title"]
    assert "slit" in post["message"]
    assert len(post["attachments"]) == 1

    # whoever points at a dark image sees it, and no name
    for page, plot, tip in (
        *((page, '.plot[data-name="mean_counts"] canvas', ".tip") for page in live),
        *((page, '[id="plot:mean_counts"]', "#tip") for page in published),
    ):
        point_at(page, plot, 0.8, tap=page.viewport_size["width"] == PHONE[0])
        page.locator(f"{tip} {PREVIEW}").wait_for()
        assert "secret" not in page.locator("body").inner_text()

    night.owner("alerts", "acknowledge", "--all")
    for page in live:
        page.locator(".alerts small").get_by_text("acknowledged", exact=True).wait_for()
    for page in published:
        page.locator("#alerts").get_by_text("Acknowledged").wait_for()

    night.record(1.5, monkeypatch)
    for page, before in zip(live, well, strict=True):
        page.locator('.depth-head .band[data-level="ok"]').wait_for()
        page.get_by_text("1 recovered").wait_for()
        # it is drawn anew meanwhile, and what is no longer there has no colour
        wait_until(lambda page=page, before=before: _level(page, ".depth-head .band") == before)
        assert "dark" not in page.locator(".depth-head").inner_text()
        assert not page.title().startswith("▲ ")
    for page in published:
        page.locator('#state[data-level="ok"]').wait_for()
        assert "dark" not in page.locator("#state").inner_text()
        page.locator("#alerts").get_by_text("Recovered").wait_for()
    wait_until(lambda: len(night.mails) == 2 and len(night.posts) == 2)
    assert "Recovered: " in night.posts[-1]["title"]
    for page in (*live, *published):
        assert page.evaluate("window.loadedOnce"), "all of this was seen without loading the page again"
        page.goto("about:blank")
