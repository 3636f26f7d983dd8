"""Microscopes at a glance and one in depth, drawn in the browser from snapshots; a viewer can change nothing.

The browser asks for the state of the microscope it shows and for the files that state names, and is told of every
change. Nothing it sends writes anything.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import anywidget
import ipywidgets as widgets
import traitlets

from focusnb.monitoring.microscopes import Glance, Microscope
from focusnb.monitoring.previews import sheet_names
from focusnb.monitoring.quantities import WATCHED
from focusnb.monitoring.snapshot import Snapshot
from focusnb.panels.monitor_cards import card, waiting_card
from focusnb.panels.monitor_sources import EVERY, Sources
from focusnb.panels.theme import Theme, bundle

PATIENCE = 1.0
"""Seconds that a page waits for its first look; a microscope that is slower is shown when it comes."""

MOST_FILES = 500
"""Files that are sent in one message, at most."""


class MonitorWidget(anywidget.AnyWidget):
    """The browser's side. ``seen`` is this host's clock (s since 1970) at the last look at any microscope."""

    _esm = bundle("monitor.mjs")
    cards = traitlets.List().tag(sync=True)
    seen = traitlets.Float(0.0).tag(sync=True)
    every = traitlets.Float(EVERY).tag(sync=True)
    watched = traitlets.List(list(WATCHED)).tag(sync=True)


class Monitor:
    """Show microscopes and follow them; ``cards`` is what is told of each at a glance."""

    def __init__(
        self,
        microscopes: Sequence[Microscope],
        *,
        clock: Callable[[], float] = time.time,
        every: float = EVERY,
    ) -> None:
        """``every`` : s between two looks, at least."""
        self._clock = clock
        self._snapshots: dict[str, Snapshot] = {}
        self._cards = {microscope.name: waiting_card(microscope.name) for microscope in microscopes}
        self._view = MonitorWidget(cards=self.cards, every=every)
        self._view.on_msg(self._on_message)
        self.widget = widgets.VBox([Theme(), self._view])
        self.widget.add_class("fnb")
        self.widget.add_class("fnb-night")
        self._sources = Sources(microscopes, on_glance=self._take, clock=clock, every=every)
        self._sources.step(patience=PATIENCE)
        self._sources.start()

    @property
    def cards(self) -> list[dict[str, Any]]:
        """What is told of each microscope at a glance."""
        return list(self._cards.values())

    def step(self) -> None:
        """Look at all microscopes now and wait for them."""
        self._sources.step()

    def _take(self, microscope: Microscope, glance: Glance) -> None:
        name = microscope.name
        try:
            told = card(glance, microscope)
        except (KeyError, TypeError, AttributeError) as error:
            told = waiting_card(name) | {"word": "Not reachable", "level": "bad", "shape": "failed"}
            told["sentence"] = f"What is published there is incomplete ({error}); publish it again"
        else:
            if glance.snapshot is not None:
                before = self._snapshots.get(name)
                self._snapshots[name] = glance.snapshot
                if before is None or before.status != glance.snapshot.status:
                    self._view.send({"kind": "changed", "name": name})
        self._cards[name] = told
        with self._view.hold_sync():
            self._view.cards = self.cards
            self._view.seen = self._clock()

    def _on_message(self, widget: Any, content: Any, buffers: Any) -> None:
        if not isinstance(content, dict):
            return
        snapshot = self._snapshots.get(str(content.get("name")))
        if content.get("kind") == "open":
            status = None if snapshot is None else dict(snapshot.status)
            self._view.send({"kind": "status", "name": content.get("name"), "status": status})
        elif content.get("kind") == "files" and isinstance(content.get("files"), list):
            asked = [name for name in content["files"][:MOST_FILES] if isinstance(name, str)]
            self._answer(content.get("name"), snapshot, asked)

    def _answer(self, name: Any, snapshot: Snapshot | None, asked: Sequence[str]) -> None:
        """Send files that a state names; sheets of previews follow when they are fetched."""
        sheets = [] if snapshot is None else sorted(set(asked) & set(sheet_names(snapshot.status)))
        if snapshot is not None and sheets:
            self._sources.fetch(str(name), snapshot, sheets, lambda found: self._send(name, found, sheets))
        others = [file for file in asked if file not in sheets]
        if others or not sheets:
            self._send(name, {} if snapshot is None else snapshot.files, others)

    def _send(self, name: Any, known: Mapping[str, bytes], asked: Sequence[str]) -> None:
        files = [file for file in asked if file in known]
        told = {"kind": "files", "name": name, "files": files}
        self._view.send({**told, "absent": [file for file in asked if file not in known]}, [known[f] for f in files])

    def close(self) -> None:
        """Follow the microscopes no more and take the widgets away."""
        self._sources.close()
        for widget in (*self.widget.children, self.widget):
            widget.close()

    def _ipython_display_(self) -> None:
        from IPython.display import display

        display(self.widget)

    def __repr__(self) -> str:
        return f"<Monitor of {', '.join(self._cards)}>"
