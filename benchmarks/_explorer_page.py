"""The explorer's page of a large library in a browser: steps, what others change, plots."""

from __future__ import annotations

import contextlib
import os
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import psutil

from focusnb.io.images import write_png
from focusnb.ops.preview import micrograph_preview, spectrum_preview
from focusnb.project import schema
from focusnb.project.browsing import Browser
from focusnb.project.project import Project

STEPS = 50
"""Exposures stepped through, one after another."""

PAUSE = 150
"""Milliseconds between two steps: about as fast as anybody can look."""

FLAGS = ("red", "gold", "blue", "green")

# Milliseconds from a key's going down to the frame after that in which the next exposure's views are all drawn.
_STEPS = """
window.steps = [];
document.addEventListener("keydown", (event) => {
  if (event.key !== "ArrowDown") return;
  const began = event.timeStamp;
  const root = document.querySelector(".fnb-overview .root");
  const before = root.dataset.id;
  const drawn = () =>
    [...root.querySelectorAll(".tile:not([hidden]) .frame")].every((frame) => frame.dataset.shows === "picture");
  const look = () => {
    const there = root.dataset.id !== before && root.dataset.state === "shown" && drawn();
    requestAnimationFrame(there ? () => window.steps.push(performance.now() - began) : look);
  };
  look();
}, true);
"""

# Whether a figure's canvases hold points or bars: of one colour and more than its axes have.
_FIGURES = """
window.figures = () => {
  const canvases = [];
  const walk = (node) => {
    for (const child of node.querySelectorAll("*")) {
      if (child.tagName === "CANVAS") canvases.push(child);
      if (child.shadowRoot) walk(child.shadowRoot);
    }
  };
  const inked = (canvas) => {
    const small = new OffscreenCanvas(64, 32).getContext("2d", { willReadFrequently: true });
    small.drawImage(canvas, 0, 0, 64, 32);
    const { data } = small.getImageData(12, 4, 44, 20);
    let found = 0;
    for (let at = 3; at < data.length; at += 4) found += data[at] > 60;
    return found > 20;
  };
  let drawn = 0;
  for (const figure of document.querySelectorAll(".fnb-plots-figure")) {
    canvases.length = 0;
    walk(figure);
    drawn += canvases.some((canvas) => canvas.width > 0 && inked(canvas));
  }
  return drawn;
};
window.longest = 0;
let last = performance.now();
const beat = () => {
  const now = performance.now();
  window.longest = Math.max(window.longest, now - last);
  last = now;
  requestAnimationFrame(beat);
};
beat();
"""

_FLAGGED = "([id, title]) => document.querySelector(`.fnb-table-row[data-id='${id}']:not([hidden]) [title='${title}']`)"


def measure_page(project: Path, chromium: str | None) -> dict[str, float]:
    """Milliseconds and seconds until something can be seen in the explorer, kernel and messages included."""
    from playwright.sync_api import sync_playwright

    results: dict[str, float] = {}
    with Project.open(project) as opened:
        shown = Browser(opened).shown[: 3 * STEPS + 20]
        draw_pictures(opened, shown)
    with served(project) as (address, server), sync_playwright() as driver:
        options = ["--no-sandbox", "--enable-precise-memory-info"]
        browser = driver.chromium.launch(executable_path=chromium, args=options)

        def open_page() -> Any:
            page = browser.new_context(viewport={"width": 1600, "height": 1000}).new_page()
            page.goto(address, timeout=180_000)
            page.locator(".fnb-table-row[data-id]:not([hidden])").first.wait_for(timeout=180_000)
            page.locator(".fnb-overview .root[data-state=shown]").wait_for(timeout=60_000)
            page.evaluate(_STEPS + _FIGURES)
            page.wait_for_timeout(5000)
            return page

        one = open_page()
        for where, element in (("table", ".fnb-table-scroll"), ("overview", ".fnb-overview .root")):
            took = steps(one, element)
            results[f"next overview, keys in the {where}, median ms"] = statistics.median(took)
            results[f"next overview, keys in the {where}, worst of {STEPS} ms"] = max(took)
        results |= plots(one)
        two = open_page()
        took = flags_seen(one, two)
        results["flag seen in another browser, median s"] = statistics.median(took)
        results["flag seen in another browser, worst s"] = max(took)
        results |= all_flagged(one, two, project)
        results["one kernel, MB"] = max(kernel.memory_info().rss for kernel in kernels(server)) / 1e6
        browser.close()
    return results


def draw_pictures(project: Project, ids: list[int]) -> None:
    """Previews as steps draw them, of noise with coarse grains, for exposures that were only said to have some."""
    draw = np.random.default_rng(1)
    names = ("unaligned_preview", "micrograph_preview", "unaligned_spectrum_preview", "spectrum_preview")
    table = project.table(where=ids)
    for identity in ids:
        folder = project.folder / table.loc[identity, "folder"]
        folder.mkdir(parents=True, exist_ok=True)
        coarse = np.kron(draw.normal(size=(64, 90)), np.ones((16, 16)))
        image = (coarse + 2 * draw.normal(size=coarse.shape)).astype(np.float32)
        spectrum = np.exp(draw.normal(size=(512, 512))).astype(np.float32)
        pictures = [micrograph_preview(image, pixel_size=3.3)] * 2 + [spectrum_preview(spectrum, pixel_size=1.7)] * 2
        for name, pixels in zip(names, pictures, strict=True):
            write_png(folder / table.loc[identity, name], pixels)


@contextlib.contextmanager
def served(project: Path) -> Iterator[tuple[str, subprocess.Popen[bytes]]]:
    """``focusnb dash`` of a project; gives its address and the server."""
    program = "from focusnb.cli import main; main()"
    command = [sys.executable, "-c", program, "dash", str(project), "--no-browser", "--port", "0"]
    with tempfile.NamedTemporaryFile("w+") as log:
        server = subprocess.Popen(command, stdout=log, stderr=log, env=os.environ)
        try:
            found = None
            while found is None:
                time.sleep(0.1)
                found = re.search(r"http://localhost:\d+/\?token=[\w-]+", Path(log.name).read_text())
                if server.poll() is not None:
                    raise RuntimeError(Path(log.name).read_text())
            yield found[0], server
        finally:
            server.terminate()
            server.wait(30)


def kernels(server: subprocess.Popen[bytes]) -> list[psutil.Process]:
    """The kernels of a server's pages."""
    children = psutil.Process(server.pid).children(recursive=True)
    return [child for child in children if "ipykernel_launcher" in child.cmdline()]


def steps(page: Any, element: str) -> list[float]:
    """Milliseconds of each step to the next exposure, by the arrow key in an element."""
    page.locator(element).focus()
    for _ in range(3):  # past the line of the group, on which no other exposure is shown
        page.keyboard.press("ArrowDown")
        page.wait_for_timeout(1000)
    page.evaluate("window.steps = []")
    for number in range(STEPS):
        page.keyboard.press("ArrowDown")
        page.wait_for_function("(number) => window.steps.length > number", arg=number, timeout=20_000)
        page.wait_for_timeout(PAUSE)
    return [float(took) for took in page.evaluate("window.steps")]


def plots(page: Any) -> dict[str, float]:
    """Seconds from the click on Plots to three figures drawn, to one drawn anew, and to what a brush highlights."""
    found: dict[str, float] = {}
    page.wait_for_timeout(1000)
    start = time.perf_counter()
    page.get_by_role("tab", name="Plots").click()
    page.wait_for_function("window.figures() === 3", polling=30, timeout=60_000)
    found["plots after the click, s"] = time.perf_counter() - start
    page.wait_for_timeout(1500)
    scatter = page.locator(".fnb-plots-figure").nth(1)
    scatter.scroll_into_view_if_needed()
    page.wait_for_timeout(500)
    box = scatter.locator(".bk-Figure").bounding_box()
    page.mouse.move(box["x"] + 0.3 * box["width"], box["y"] + 0.2 * box["height"])
    page.mouse.down()
    page.mouse.move(box["x"] + 0.5 * box["width"], box["y"] + 0.4 * box["height"], steps=4)
    page.mouse.move(box["x"] + 0.7 * box["width"], box["y"] + 0.7 * box["height"], steps=4)
    start = time.perf_counter()
    page.mouse.up()
    page.wait_for_function(
        "() => { const told = document.querySelector('.fnb-table-counts').textContent.match(/([\\d,]+) highlighted/);"
        " return told && +told[1].replaceAll(',', '') > 100; }",
        polling="raf",
        timeout=30_000,
    )
    found["brush to highlighted rows, s"] = time.perf_counter() - start
    page.get_by_role("tab", name="Details").click()
    page.locator(".fnb-table-scroll").focus()
    page.keyboard.press("Home")
    page.wait_for_timeout(2000)
    return found


def flags_seen(one: Any, two: Any) -> list[float]:
    """Seconds from a key that flags in one browser to the flag in sight of the other, at any moment."""
    took = []
    one.locator(".fnb-table-scroll").focus()
    one.keyboard.press("Home")
    one.keyboard.press("ArrowDown")
    one.keyboard.press("ArrowDown")
    one.wait_for_timeout(1000)
    identity = one.locator(".fnb-table-cursor").get_attribute("data-id")
    for number in range(12):
        flag = FLAGS[number % len(FLAGS)]
        start = time.perf_counter()
        one.keyboard.press({"gold": "o"}.get(flag, flag[0]))
        two.wait_for_function(_FLAGGED, arg=[identity, f"flagged {flag}"], polling="raf", timeout=20_000)
        took.append(time.perf_counter() - start)
        two.wait_for_timeout(500 + 83 * number)
    return took


def all_flagged(one: Any, two: Any, folder: Path) -> dict[str, float]:
    """Seconds from the commit of a flag on every exposure to its sight, and what the page can do meanwhile."""
    found: dict[str, float] = {}
    seen = "() => document.querySelector('.fnb-table-row[data-id]:not([hidden])').dataset.id"
    first = "() => document.querySelector('.fnb-table-row[data-id]:not([hidden])')?.textContent"
    with Project.open(folder) as other:
        took, answers, stalls = [], [], []
        for flag in ("red", "blue", "gold"):
            identity = two.evaluate(seen)
            with other.library.write() as transaction:
                transaction.execute(schema.exposures.update().values(flag=flag, revision=transaction.revision))
            start = time.perf_counter()
            two.evaluate("window.longest = 0")
            two.wait_for_function(_FLAGGED, arg=[identity, f"flagged {flag}"], polling="raf", timeout=60_000)
            took.append(time.perf_counter() - start)
            # what was found comes later, in parts: a far jump has its rows meanwhile
            two.evaluate("document.querySelector('.fnb-table-scroll').scrollTop = 600000")
            start = time.perf_counter()
            two.wait_for_function(
                f"() => !document.querySelector('.fnb-table-waiting:not([hidden])') && ({first})()", polling="raf"
            )
            answers.append(time.perf_counter() - start)
            two.evaluate("document.querySelector('.fnb-table-scroll').scrollTop = 0")
            two.wait_for_timeout(6000)
            stalls.append(two.evaluate("window.longest") / 1e3)
        found["every exposure flagged by another, seen, s"] = statistics.median(took)
        found["a far jump right after, s"] = statistics.median(answers)
        found["longest pause of the page meanwhile, s"] = statistics.median(stalls)
        with other.library.write() as transaction:
            transaction.execute(schema.exposures.update().values(flag=None, revision=transaction.revision))
    return found
