"""The table in a real browser with the real panel behind it; messages are handed over without Jupyter."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from focusnb.panels.table import LibraryTable
from focusnb.panels.theme import bundle
from focusnb.project.project import Project

if TYPE_CHECKING:
    from playwright.sync_api import BrowserContext, Locator, Page

ADDRESS = "http://table.test/"

_PAGE = """<!doctype html><html lang="en"><meta charset="utf-8"><title>Table</title>
<meta name="viewport" content="width=device-width, initial-scale=1">
<style>body { background: var(--fnb-ground); margin: 0; } #root { padding: 16px; }</style>
<div id="root"></div>
<script type="module">
  import widget from "/table.mjs";
  const listeners = {};
  window.received = [];
  window.receive = (message) => {
    window.received.push({ k: message.k, bytes: JSON.stringify(message).length });
    for (const listener of listeners["msg:custom"] ?? []) listener(message, []);
  };
  const model = {
    get: (name) => ({ height: HEIGHT })[name],
    set: () => {},
    on: (name, listener) => (listeners[name] ??= []).push(listener),
    off: (name, listener) => (listeners[name] = listeners[name].filter((other) => other !== listener)),
    send: async (message) => {
      for (const answer of await window.kernel(message)) window.receive(answer);
    },
  };
  // keys that arrive here would have been JupyterLab's
  window.leaked = [];
  document.addEventListener("keydown", (event) => window.leaked.push(event.key));
  window.forget = widget.render({ model, el: document.getElementById("root") });
</script></html>"""


class TablePage:
    """A page that shows the table of a project. What it asks for from elsewhere, and what it complains of, is kept."""

    def __init__(self, project: Project, context: BrowserContext, *, height: int = 520) -> None:
        self.table = LibraryTable(project)
        self.table.browser.load()  # now: this page has no loop that could take up later what a thread has read
        self._waiting: list[dict[str, Any]] = []
        self.table.grid.send = self._send  # type: ignore[method-assign]
        self.complaints: list[str] = []
        self.page: Page = context.new_page()
        self.page.on("console", lambda m: self.complaints.append(m.text) if m.type in ("error", "warning") else None)
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.page.expose_binding("kernel", self._ask)
        self.page.route("**/*", lambda route: self._serve(route, height))
        self.page.goto(ADDRESS)
        self.page.wait_for_selector("[aria-busy=false]")
        self.page.wait_for_selector(".fnb-table-row[data-id], .fnb-table-row[data-group], .fnb-empty")

    def _send(self, content: Any, buffers: Any = None) -> None:
        self._waiting.append(json.loads(json.dumps(content, allow_nan=False)))

    def _ask(self, _: Any, message: dict[str, Any]) -> list[dict[str, Any]]:
        self.table._on_message(None, message)
        return self.take()

    def take(self) -> list[dict[str, Any]]:
        """What the kernel has said and was not handed on yet."""
        said, self._waiting = self._waiting, []
        return said

    def _serve(self, route: Any, height: int) -> None:
        path = route.request.url.removeprefix(ADDRESS)
        if path == "table.mjs":
            route.fulfill(body=bundle("table.mjs").read_text(), content_type="text/javascript")
        elif path == "":
            route.fulfill(body=_PAGE.replace("HEIGHT", str(height)), content_type="text/html")
        elif path == "favicon.ico":
            route.fulfill(status=204)
        else:
            self.complaints.append(f"foreign request: {route.request.url}")
            route.abort()

    def follow(self) -> None:
        """Let the table take up what changed, as its poller does, and hand on what it says."""
        self.table.browser.refresh()
        self.push(self.table.show)

    def push(self, act: Any) -> None:
        """Do something in the kernel, and hand on what it says."""
        act()
        for message in self.take():
            self.page.evaluate("(message) => window.receive(message)", message)
        self.page.wait_for_timeout(60)

    # What is seen

    @property
    def grid(self) -> Locator:
        """The table itself, which takes the keys."""
        return self.page.locator(".fnb-table-scroll")

    def row(self, identity: int) -> Locator:
        """The line of an exposure."""
        return self.page.locator(f".fnb-table-row[data-id='{identity}']:not([hidden])")

    def group(self, name: str) -> Locator:
        """The line of a group."""
        return self.page.locator(f".fnb-table-row[data-group='{name}']:not([hidden])")

    def cell(self, identity: int, column: str) -> Locator:
        """A cell of an exposure."""
        return self.row(identity).locator(f"[data-column='{column}']")

    def caption(self, column: str) -> Locator:
        """The caption of a column."""
        return self.page.locator(f".fnb-table-captions [data-column='{column}']")

    def filter(self, column: str) -> Locator:
        """The field or button of a filter."""
        return self.page.locator(f".fnb-table-filter[data-column='{column}']")

    def visible(self) -> list[int]:
        """Ids of the rows in sight, from top to bottom."""
        return [
            int(identity)
            for identity in self.page.evaluate(
                """() => {
                const scroll = document.querySelector(".fnb-table-scroll");
                const box = scroll.getBoundingClientRect();
                const top = box.top + document.querySelector(".fnb-table-head").offsetHeight;
                return [...document.querySelectorAll(".fnb-table-row[data-id]:not([hidden])")]
                    .map((row) => [row.dataset.id, row.getBoundingClientRect()])
                    .filter(([, row]) => row.top >= top - 1 && row.bottom <= box.bottom + 1)
                    .sort((a, b) => a[1].top - b[1].top)
                    .map(([id]) => id);
            }"""
            )
        ]

    def chosen(self) -> list[int]:
        """Ids of the rows drawn as highlighted, in order of their ids."""
        rows = self.page.locator(".fnb-table-row[aria-selected=true]:not([hidden])")
        return sorted(int(row.get_attribute("data-id") or 0) for row in rows.all())

    @property
    def foot(self) -> str:
        """What the line below the table says."""
        return self.page.locator(".fnb-table-counts").inner_text()

    def close(self) -> None:
        """Close page and panel."""
        self.page.close()
        self.table.close()
