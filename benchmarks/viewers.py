"""What viewers cost: ten at the monitor's page, each with a kernel, and a hundred readers of the published page.

Browsers, server and kernels share this machine; a reader of the published page is a thread that fetches what a browser
would, and one real browser among them tells whether the page stays live.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import re
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import _common
import psutil

from focusnb.monitoring.previews import sheet_names
from focusnb.monitoring.publish import Publisher
from focusnb.monitoring.snapshot import SnapshotMaker
from focusnb.project.project import Project

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from tests.monitoring.conftest import add_shades
from tests.monitoring.nights import MINUTE, Recorder, make_night, make_project

PREVIEWS = 2000
"""Images of the night that have a preview; as many as are shown by default."""

PAINT = 3.0
"""Seconds that the issue of the monitor allows one viewer's first paint."""

ENTRIES = ("chromium", "chromium-browser", "google-chrome")

_IMAGES = "Number(document.querySelector('.tile b')?.textContent.replaceAll(',', ''))"


def main() -> None:
    """Record a night while viewers watch; print and keep what they cost."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--viewers", type=int, default=10)
    parser.add_argument("--seconds", type=float, default=120.0)
    parser.add_argument("--readers", type=int, default=100)
    given = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="focusnb-benchmark-"))
    os.environ["XDG_STATE_HOME"] = str(folder / "state")
    try:
        with recording(folder / "night") as project, browser() as chromium:
            results: dict[str, Any] = {"seconds": given.seconds, "limit of a first paint, s": PAINT}
            results["page"] = watch_page(project, chromium, folder, given.viewers, given.seconds)
            results["published page"] = read_published(project, chromium, folder, given.readers, given.seconds)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    for part in ("page", "published page"):
        _common.table([{"": name, part: value} for name, value in results[part].items()])
    _common.save("viewers", results)
    if results["page"]["first paint of one, s"] > PAINT:
        raise SystemExit("the first paint takes longer than the issue allows")


@contextmanager
def recording(folder: Path) -> Iterator[Project]:
    """A project in which a night goes on as this clock does."""
    night = make_night(9400, hours=12.0, faults=[])
    # a quarter of an hour without a pause lies ahead
    rests = [pause.begin for pause in night.pauses if pause.begin > night.begin + 60 * MINUTE]
    shift = time.time() + 15 * MINUTE - (rests[-1] if rests else night.end)
    for image in night.images:
        image.recorded, image.imported, image.processed = (
            t + shift for t in (image.recorded, image.imported, image.processed)
        )
    night.begin, night.end = night.begin + shift, night.end + shift
    with make_project(folder) as project:
        recorder, ended = Recorder(project, night), threading.Event()
        recorder.go(time.time())
        add_shades(project, list(project.ids(status="done"))[-PREVIEWS:])

        def go_on() -> None:
            while not ended.wait(2.0):
                recorder.go(time.time())

        thread = threading.Thread(target=go_on, daemon=True)
        thread.start()
        yield project
        ended.set()
        thread.join()


@contextmanager
def browser() -> Iterator[Any]:
    """Chromium."""
    from playwright.sync_api import sync_playwright

    path = next(found for name in ENTRIES if (found := shutil.which(name)))
    with sync_playwright() as driver:
        running = driver.chromium.launch(executable_path=path, args=["--no-sandbox"])
        yield running
        running.close()


def watch_page(project: Project, chromium: Any, folder: Path, viewers: int, seconds: float) -> dict[str, Any]:
    """Open the monitor's page so many times at once, watch, and close them all."""
    program = "from focusnb.cli import main; main()"
    command = [sys.executable, "-c", program, "monitor", str(project.folder), "--no-browser", "--port", "0"]
    log = folder / "server.log"
    with log.open("w") as stream, subprocess.Popen(command, stderr=stream, cwd=folder) as server:
        try:
            while (found := re.search(r"http://\S+token=[\w-]+", log.read_text())) is None:
                time.sleep(0.1)
            process = psutil.Process(server.pid)
            _until(lambda: len(_kernels(process)) == 1, lambda: f"one kernel, but {_kernels(process)}")
            time.sleep(4)  # the kernel kept ready draws its page
            one = [_paint(chromium, found[0])]
            one[0][1].close()
            _until(lambda: len(_kernels(process)) == 1, lambda: f"one kernel, but {_kernels(process)}")
            time.sleep(6)
            again = _paint(chromium, found[0])
            again[1].close()
            _until(lambda: len(_kernels(process)) == 1, lambda: f"one kernel, but {_kernels(process)}")
            time.sleep(6)
            pages, paints = _open_all(chromium, found[0], viewers)
            seen = sum(_point(page) for page in pages)
            first = [page.evaluate(_IMAGES) for page in pages]
            used = _observe(process, seconds)
            live = sum(page.evaluate(_IMAGES) > before for page, before in zip(pages, first, strict=True))
            for page in pages:
                page.context.close()
            began = time.monotonic()
            _until(lambda: len(_kernels(process)) == 1, lambda: f"one kernel, but {_kernels(process)}")
            return {
                "viewers": viewers,
                "first paint of one, s": round(statistics.mean((one[0][0], again[0])), 2),
                f"first paint of {viewers} at once, median, s": round(statistics.median(paints), 2),
                f"first paint of {viewers} at once, slowest, s": round(max(paints), 2),
                "previews of the session": PREVIEWS,
                "viewers that saw one": seen,
                "live at the end": live,
                **used,
                "s until their kernels ended": round(time.monotonic() - began, 1),
                "kernels left beside the one kept ready": len(_kernels(process)) - 1,
            }
        finally:
            server.send_signal(signal.SIGINT)


def _kernels(server: psutil.Process) -> list[psutil.Process]:
    found = []
    for child in server.children(recursive=True):
        try:
            if "ipykernel_launcher" in child.cmdline() and child.status() != psutil.STATUS_ZOMBIE:
                found.append(child)
        except psutil.NoSuchProcess:
            continue
    return found


def _paint(chromium: Any, address: str) -> tuple[float, Any]:
    context = chromium.new_context(viewport={"width": 1280, "height": 800})
    page = context.new_page()
    began = time.monotonic()
    page.goto(address, wait_until="commit")
    page.locator(".depth-head strong").wait_for(timeout=120_000)
    took = time.monotonic() - began
    page.wait_for_timeout(2000)  # the server has seen it: what leaves at once is waited for a minute
    return took, context


def _open_all(chromium: Any, address: str, viewers: int) -> tuple[list[Any], list[float]]:
    """Open pages at once; each notes itself when its state could first be read."""
    look = (
        "const look = () => document.querySelector('.depth-head strong') ? window.seen = performance.now()"
        " : requestAnimationFrame(look); look();"
    )
    pages = []
    for _ in range(viewers):
        context = chromium.new_context(viewport={"width": 1280, "height": 800})
        context.add_init_script(look)
        pages.append(context.new_page())
    for page in pages:
        page.evaluate("address => { setTimeout(() => location.assign(address), 0); }", address)
    for page in pages:
        page.wait_for_function("window.seen !== undefined", timeout=180_000)
        page.wait_for_function(f"{_IMAGES} > 0", timeout=180_000)
    return pages, [page.evaluate("window.seen") / 1000 for page in pages]


def _point(page: Any) -> bool:
    """Point at an image, and see its preview."""
    plot = page.locator(".plot canvas").first
    plot.scroll_into_view_if_needed()
    box = plot.bounding_box()
    page.mouse.move(box["x"] + 0.5 * box["width"], box["y"] + 0.5 * box["height"])
    preview = page.get_by_role("img", name=re.compile("^Preview$"))
    try:
        preview.first.wait_for(timeout=30_000)
    except Exception:
        return False
    return True


def _observe(server: psutil.Process, seconds: float) -> dict[str, Any]:
    """Memory and processor time of the server and of its kernels, over a time."""
    before = {kernel.pid: sum(kernel.cpu_times()[:2]) for kernel in _kernels(server)}
    served, began = sum(server.cpu_times()[:2]), time.monotonic()
    time.sleep(seconds)
    kernels, passed = _kernels(server), time.monotonic() - began
    used = [100 * (sum(k.cpu_times()[:2]) - before[k.pid]) / passed for k in kernels if k.pid in before]
    own = [kernel.memory_full_info().uss / 1e6 for kernel in kernels]
    return {
        "memory of a kernel, own, MB": round(statistics.mean(own)),
        "memory of a kernel, resident, MB": round(statistics.mean(k.memory_info().rss / 1e6 for k in kernels)),
        "memory of the server, resident, MB": round(server.memory_info().rss / 1e6),
        "processor of a kernel, %": round(statistics.mean(used), 2),
        "processor of the server, %": round(100 * (sum(server.cpu_times()[:2]) - served) / passed, 2),
    }


def _until(condition: Any, told: Any, seconds: float = 90.0) -> None:
    until = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > until:
            raise SystemExit(f"not within {seconds:.0f} s: {told()}")
        time.sleep(0.1)


def read_published(project: Project, chromium: Any, folder: Path, readers: int, seconds: float) -> dict[str, Any]:
    """Publish every few seconds into a folder that a plain file server shows to so many readers."""
    target, every = folder / "published", 5.0
    maker, publisher = SnapshotMaker(project, most_previews=None), Publisher(str(target))
    publisher.publish(maker.make())

    class Quiet(SimpleHTTPRequestHandler):
        def __init__(self, *given: Any) -> None:
            super().__init__(*given, directory=str(target))

        def log_message(self, *told: Any) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Quiet)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, daemon=True).start()
    address, ended = f"http://127.0.0.1:{server.server_port}", threading.Event()
    took: list[float] = []
    failed: list[str] = []

    def read(number: int) -> None:
        known, choose = set[str](), random.Random(number)
        _get(f"{address}/index.html")
        while not ended.is_set():
            began = time.monotonic()
            try:
                status = json.loads(_get(f"{address}/status.json"))
                # of the previews the sheet that is pointed at
                for name in {*status["files"], choose.choice(sheet_names(status))} - known:
                    known.add(name)
                    _get(f"{address}/{name}")
            except OSError as error:
                failed.append(str(error))
            took.append(time.monotonic() - began)
            ended.wait(every)

    threads = [threading.Thread(target=read, args=(number,), daemon=True) for number in range(readers)]
    page = chromium.new_page()
    began = time.monotonic()
    page.goto(f"{address}/index.html")
    number = page.locator("#numbers b").first
    number.wait_for(timeout=60_000)
    paint = time.monotonic() - began
    for thread in threads:
        thread.start()
    shown = number.inner_text()
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        publisher.publish(maker.make())
        page.wait_for_timeout(1000 * every)
    # the page looks again every half minute, or however often the session is published
    until = time.monotonic() + 90
    while (is_live := number.inner_text() != shown) is False and time.monotonic() < until:
        page.wait_for_timeout(500)
    ended.set()
    for thread in threads:
        thread.join(10)
    page.close()
    server.shutdown()
    return {
        "readers": readers,
        "previews of the session": PREVIEWS,
        "first paint, s": round(paint, 2),
        "live at the end": is_live,
        "rounds": len(took),
        "failed": len(failed),
        "a round, median, ms": round(1000 * statistics.median(took), 1),
        "a round, 95 %, ms": round(1000 * statistics.quantiles(took, n=20)[-1], 1),
        "kernels": 0,
    }


def _get(address: str) -> bytes:
    with urllib.request.urlopen(address, timeout=30) as answer:
        content: bytes = answer.read()
    return content


if __name__ == "__main__":
    main()
