"""The head of a project's page: what it is, how many exposures are in which state, and whether it is followed."""

from __future__ import annotations

import html
import time
from typing import TYPE_CHECKING

import ipywidgets as widgets

from focusnb.panels.base import Panel
from focusnb.panels.messages import empty
from focusnb.panels.polling import Health
from focusnb.panels.theme import icon, state

if TYPE_CHECKING:
    from focusnb.project.browsing.rows import Changed
    from focusnb.project.project import Project

ORDER = ("new", "queued", "running", "done", "failed", "broken")


class ProjectHeader(Panel):
    """Name, mode and folder of a project, its exposures by status, and whether what is shown is of now."""

    def __init__(self, project: Project, *, alone: bool = True) -> None:
        super().__init__(project, alone=alone)
        self._counts: dict[str, int] = {}
        self._name = widgets.HTML()
        self._states = widgets.HTML()
        self._live = widgets.HTML()
        self._hint = widgets.HTML()
        line = widgets.HBox([self._name, self._states, self._live])
        line.add_class("fnb-header")
        self.body.children = [line, self._hint]
        self._name.value = (
            f'<h1 class="fnb-title">{html.escape(project.name)}</h1>'
            f'<div class="fnb-caption" title="{html.escape(str(project.folder))}">{html.escape(project.mode.title)}'
            f" · {html.escape(str(project.folder))}</div>"
        )
        self.start()

    def refresh(self, changes: Changed | None) -> None:
        """Count the exposures anew."""
        self._counts = self.project.counts()
        self._show()

    def tell_health(self, health: Health) -> None:
        """Say whether what is shown is of now."""
        super().tell_health(health)
        self._show()

    def _show(self) -> None:
        shown = {name: self._counts[name] for name in ORDER if self._counts.get(name)}
        counts = "".join(_count(number, name) for name, number in shown.items())
        self._states.value = f'<div class="fnb-counts">{counts}</div>' if counts else ""
        self._live.value = _live(self.health)
        folder = self.project.folder
        self._hint.value = (
            empty("There are no exposures yet. Import the camera's folder:", f"focusnb import {folder} CAMERA_FOLDER")
            if self.health.empty
            else ""
        )
        self._hint.layout.display = "" if self.health.empty else "none"


def _count(number: int, name: str) -> str:
    return f'<div class="fnb-count"><span class="fnb-count-number">{number:,}</span>{state(name)}</div>'


def _live(health: Health) -> str:
    if health.stale_since is not None:
        clock = time.strftime("%H:%M:%S", time.localtime(health.stale_since))
        return f'<div class="fnb-live" data-live="no">{icon("offline")}stale since {clock}</div>'
    words = f"live · processing on {health.worker}" if health.worker else "live · nobody processes"
    return f'<div class="fnb-live" data-live="yes"><span></span>{html.escape(words)}</div>'
