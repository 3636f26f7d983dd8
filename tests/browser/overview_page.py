"""The overviews in a real browser with the real panel behind them; messages are handed over without Jupyter."""

from __future__ import annotations

import base64
import json
import time
from typing import TYPE_CHECKING, Any

from focusnb.panels.overview import Overviews
from focusnb.panels.theme import bundle
from focusnb.project.project import Project

if TYPE_CHECKING:
    from playwright.sync_api import BrowserContext, Page

ADDRESS = "http://overview.test/"

_PAGE = """<!doctype html><html lang="en"><meta charset="utf-8"><title>Overview</title>
<meta name="viewport" content="width=device-width, initial-scale=1">
<style>body { background: var(--fnb-ground); margin: 0; } #root { padding: 16px; }</style>
<div id="root"></div>
<script type="module">
  import widget from "/overview.mjs";
  const listeners = {};
  const state = STATE;
  const tell = (name, ...given) => { for (const f of listeners[name] ?? []) f(...given); };
  const asView = (text) => new DataView(Uint8Array.from(atob(text), (c) => c.charCodeAt(0)).buffer);
  window.receive = (message, buffers) => tell("msg:custom", message, buffers.map(asView));
  const model = {
    get: (name) => state[name],
    set: (name, value) => { state[name] = value; },
    save_changes: () => { window.kernel({ k: "state", chosen: state.chosen }); tell("change:chosen"); },
    on: (name, f) => (listeners[name] ??= []).push(f),
    off: (name, f) => (listeners[name] = listeners[name].filter((other) => other !== f)),
    send: (message) => window.kernel(message),
  };
  // keys that arrive here would have been JupyterLab's
  window.leaked = [];
  document.addEventListener("keydown", (event) => window.leaked.push(event.key));
  window.forget = widget.render({ model, el: document.getElementById("root") });
</script></html>"""

_MEASURE = """() => {
  const view = document.getElementById("root").focusnbOverview;
  const step = view.step.bind(view);
  window.steps = [];
  view.step = (delta) => {
    const began = performance.now();
    step(delta);
    const there = view.entry !== null;
    requestAnimationFrame(() => requestAnimationFrame(() => window.steps.push([performance.now() - began, there])));
  };
}"""


class OverviewPage:
    """A page that shows the overviews of a project. What the browser complains of is kept."""

    def __init__(self, project: Project, context: BrowserContext) -> None:
        self.panel = Overviews(project)
        self._asked: list[dict[str, Any]] = []
        self._told: list[tuple[dict[str, Any], list[str]]] = []
        self.panel._tiles.send = self._send
        self.complaints: list[str] = []
        self.page: Page = context.new_page()
        self.page.on("console", lambda m: self.complaints.append(m.text) if m.type in ("error", "warning") else None)
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.page.expose_function("kernel", lambda message: self._asked.append(message))
        self.page.route("**/*", self._serve)
        self.page.goto(ADDRESS)
        self.settle()

    def _send(self, content: Any, buffers: Any = None) -> None:
        message = json.loads(json.dumps(content, allow_nan=False))
        self._told.append((message, [base64.b64encode(bytes(buffer)).decode() for buffer in buffers or []]))

    def _serve(self, route: Any) -> None:
        path = route.request.url.removeprefix(ADDRESS)
        if path == "overview.mjs":
            route.fulfill(body=bundle("overview.mjs").read_text(), content_type="text/javascript")
        elif path == "":
            tiles = self.panel._tiles
            state = json.dumps({"overviews": tiles.overviews, "chosen": tiles.chosen})
            route.fulfill(body=_PAGE.replace("STATE", state), content_type="text/html")
        elif path == "favicon.ico":
            route.fulfill(status=204)
        else:
            self.complaints.append(f"foreign request: {route.request.url}")
            route.abort()

    def settle(self, quiet: float = 0.15) -> None:
        """Carry messages both ways until there have been none for so many seconds."""
        last = time.monotonic()
        while time.monotonic() - last < quiet:
            self.page.wait_for_timeout(5)
            while self._asked:
                last, message = time.monotonic(), self._asked.pop(0)
                if message["k"] == "state":
                    self.panel._tiles.chosen = message["chosen"]
                else:
                    self.panel._tiles._handle_custom_msg(message, [])
            while self._told:
                last, told = time.monotonic(), self._told.pop(0)
                self.page.evaluate("([message, buffers]) => window.receive(message, buffers)", list(told))

    def press(self, *keys: str) -> None:
        """Press keys one after another, and wait until all is quiet."""
        for key in keys:
            self.page.keyboard.press(key)
        self.settle()

    def measure(self) -> None:
        """Note from now on how long each step takes until its picture is painted, and whether it was there already."""
        self.page.evaluate(_MEASURE)

    @property
    def steps(self) -> list[tuple[float, bool]]:
        """What was noted: milliseconds, and whether the picture was there."""
        return [(float(ms), bool(there)) for ms, there in self.page.evaluate("window.steps")]

    # What is seen

    @property
    def name(self) -> str:
        """The exposure that is shown."""
        return self.page.locator(".root > .head .name").inner_text()

    def titles(self) -> list[str]:
        """What stands below the tiles."""
        return self.page.locator(".tile:not([hidden]) figcaption").all_inner_texts()

    def pixel(self, tile: str, across: float, down: float) -> int:
        """Grey of a picture, at parts of its width from the left and of its height from the top."""
        script = """(canvas, [x, y]) => {
            const { width, height } = canvas;
            const copy = new OffscreenCanvas(width, height).getContext("2d", { willReadFrequently: true });
            copy.drawImage(canvas, 0, 0);
            return copy.getImageData(Math.floor(x * width), Math.floor(y * height), 1, 1).data[0];
        }"""
        return int(self.page.locator(f"{tile} canvas").evaluate(script, [across, down]))

    def close(self) -> None:
        """Close page and panel."""
        self.page.close()
        self.panel.close()
