"""A published session from a plain file server, in Chromium: it needs no kernel and follows what is published."""

from __future__ import annotations

import functools
import http.server
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from focusnb.monitoring.publish import Publisher
from focusnb.monitoring.settings import PublishSettings
from focusnb.monitoring.snapshot import make_snapshot
from tests.browser.conftest import DESKTOP, PHONE
from tests.browser.test_monitor import _night_to_now, point_at, seen_preview
from tests.monitoring.conftest import _add_pictures, _micrograph, add_shades, shade
from tests.monitoring.nights import MINUTE, Recorder, make_project

pytestmark = pytest.mark.browser

SETTINGS = PublishSettings(title="Titan 1", refresh=5)


@pytest.fixture
def address(tmp_path: Path) -> Iterator[str]:
    """A plain file server over ``tmp_path/web``."""

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


@pytest.mark.parametrize("size", [DESKTOP, PHONE], ids=["desktop", "phone"])
def test_the_page_follows_what_is_published(
    watch: Callable[..., Any], address: str, tmp_path: Path, size: tuple[int, int]
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
        ranges = page.locator("#ranges button")
        ranges.nth(0).click()
        assert ranges.nth(0).get_attribute("aria-pressed") == "true"
