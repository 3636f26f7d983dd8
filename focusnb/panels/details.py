"""All that is known of one exposure: what failed and what to do, findings, facts, parameters, runs, log."""

from __future__ import annotations

import asyncio
from typing import Any

import anywidget
import traitlets

from focusnb.panels.base import Panel, explain
from focusnb.panels.theme import bundle
from focusnb.project.browsing.rows import Changed
from focusnb.project.project import Project
from focusnb.views import payload

REST = 0.12
"""Seconds somebody rests on an exposure before its numbers are read: who steps on looks at the pictures."""

TABS = ("Findings", "Facts", "Parameters", "Runs", "Log")


class DetailsWidget(anywidget.AnyWidget):
    """The browser's side: tables under tabs."""

    _esm = bundle("details.mjs")
    tab = traitlets.Unicode(TABS[0]).tag(sync=True)


class Details(Panel):
    """Show one exposure in numbers and words. What failed stands above all tabs."""

    def __init__(self, project: Project, *, alone: bool = True) -> None:
        super().__init__(project, alone=alone)
        self._current: int | None = None
        self._shown: dict[str, Any] = {}
        self._resting: asyncio.TimerHandle | None = None
        self._tables = DetailsWidget()
        self._tables.on_msg(self._on_message)
        self.body.children = [self._tables]
        self.start()

    @property
    def current(self) -> int | None:
        """The exposure that is shown."""
        return self._current

    @property
    def shown(self) -> dict[str, Any]:
        """What is shown, as tables of text."""
        return self._shown

    def choose(self, tab: str) -> None:
        """Show another tab, by its name."""
        if tab in TABS:
            self._tables.tab = tab

    def show(self, exposure: int | None) -> None:
        """Show an exposure; None shows that there is none."""
        exposure = None if exposure is None else int(exposure)
        if exposure == self._current:
            return
        self._current = exposure
        if self._resting is not None:
            self._resting.cancel()
        try:
            self._resting = asyncio.get_running_loop().call_later(REST, self._send)
        except RuntimeError:  # a script has no loop
            self._send()

    def refresh(self, changes: Changed | None) -> None:
        """Show the exposure anew where it changed."""
        if changes is None or self._current in changes.exposures | changes.deleted:
            self._send()

    def close(self) -> None:
        """Show nothing more."""
        if self._resting is not None:
            self._resting.cancel()
        super().close()

    def _send(self) -> None:
        self._shown = {}
        if self._current is not None:
            try:
                self._shown = payload.details(self.project, self._current)
            except Exception as error:  # one that cannot be shown keeps nobody from the others
                self._shown = {"error": explain(error, "show this exposure")[0]}
        self._tables.send({"k": "show", "id": self._current, **self._shown})

    def _on_message(self, _widget: Any, message: dict[str, Any], _buffers: list[Any]) -> None:
        if message.get("k") == "ready":
            self._send()
