"""Whether the project is being worked on: what is under way and waits, with start, pause and stop."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Callable
from typing import Any

import ipywidgets as widgets

from focusnb.panels.base import Panel
from focusnb.processing import detached
from focusnb.processing.queue import Queue
from focusnb.project import lease
from focusnb.project.project import Project

INTERVAL = 2.0
"""Seconds between two looks at who works on the project: that raises no revision."""


class ProcessingBar(Panel):
    """One line: what is under way and waits, and buttons to start, pause and stop the processing."""

    def __init__(self, project: Project) -> None:
        super().__init__(project, alone=False)
        self._queue = Queue(project)
        self._busy = ""
        self._watching: asyncio.Task[None] | None = None
        self._text = widgets.Label()
        self._start = _button("Start", "Process what is new or stale from now on", self.begin)
        self._pause = _button("Pause", "Let nothing more begin", self.pause)
        self._stop = _button("Stop", "Finish what is under way, then stop", self.end)
        bar = widgets.HBox([self._text, self._start, self._pause, self._stop])
        bar.add_class("fnb-processing")
        self.body.children = [bar]
        self.start()
        with contextlib.suppress(RuntimeError):  # a script has no loop, and calls refresh itself
            self._watching = asyncio.get_running_loop().create_task(self._watch())

    async def _watch(self) -> None:
        while not self.is_gone:
            await asyncio.sleep(INTERVAL)
            if self.health.stale is None:
                self.deliver(None)

    def close(self) -> None:
        """Look no more."""
        if self._watching is not None:
            self._watching.cancel()
        super().close()

    def refresh(self, changes: Any) -> None:
        """Read the queue."""
        counts, held, paused = self._queue.counts(), self._queue.holder(), self._queue.paused
        names = {"running": "under way", "cancelling": "being cancelled", "queued": "waiting", "held": "held"}
        parts = [f"{counts[state]} {name}" for state, name in names.items() if counts.get(state)]
        state = self._busy or ("Paused" if paused else "")
        self._text.value = " · ".join([*([state] if state else []), *parts])
        self._text.tooltip = "" if held is None else lease.describe_holder(held)
        writable = not self.project.library.read_only
        self._start.layout.display = "" if held is None and writable else "none"
        self._stop.layout.display = "" if held is not None and writable else "none"
        self._pause.description = "Go on" if paused else "Pause"
        self._pause.layout.display = "" if writable and (held is not None or paused) else "none"
        for button in (self._start, self._stop):
            button.disabled = bool(self._busy)

    def begin(self) -> None:
        """Start a process that serves the project; it outlives this page."""
        self._in_background("Starting", lambda: detached.start(self.project))

    def end(self) -> None:
        """Ask the process to stop."""
        self._in_background("Stopping", lambda: detached.stop(self.project))

    def pause(self) -> None:
        """Let nothing more begin, or go on."""
        with self.guard("pause"):
            (self._queue.resume if self._queue.paused else self._queue.pause)()
            self.refresh(None)

    def _in_background(self, busy: str, do: Callable[[], object]) -> None:
        """A start takes seconds, and a stop as long as the longest step: the page goes on meanwhile."""
        self._busy = busy
        self.refresh(None)
        faults: list[Exception] = []

        def run() -> None:
            try:
                do()
            except Exception as error:  # whatever it is, it is told, and the buttons come back
                faults.append(error)

        def ended() -> None:
            self._busy = ""
            with self.guard(busy.lower()):
                self.refresh(None)
                if faults:
                    raise faults[0]

        loop = asyncio.get_running_loop()

        def work() -> None:
            run()
            loop.call_soon_threadsafe(ended)

        threading.Thread(target=work, name="focusnb-serving", daemon=True).start()


def _button(text: str, tooltip: str, do: Callable[[], None]) -> Any:
    button = widgets.Button(description=text, tooltip=tooltip)
    button.on_click(lambda _: do())
    return button
