"""The views of the exposure under the cursor, side by side, stepped through at reading speed."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from typing import Any

import anywidget
import numpy as np
import traitlets

from focusnb.errors import FocusError, ParameterError
from focusnb.panels.base import Panel, explain
from focusnb.panels.theme import bundle
from focusnb.project.browsing.rows import Changed
from focusnb.project.project import Project
from focusnb.views import payload

REACH = 100
"""Exposures before and after the present one whose numbers the browser knows, so that it steps without asking."""


MOST_TOLD = 1_000
"""Changed exposures that are named to the browser; where there are more it forgets all and fetches what it needs."""


class OverviewWidget(anywidget.AnyWidget):
    """The browser's side: it shows, keeps what it was sent, and asks for what it will need next."""

    _esm = bundle("overview.mjs")
    overviews = traitlets.List().tag(sync=True)
    chosen = traitlets.Int(0).tag(sync=True)


class Overviews(Panel):
    """Show the views of one exposure; up and down go through the others.

    ``show`` and ``step`` are what the keys do; ``current`` is the exposure shown, None while there is none.
    """

    def __init__(
        self, project: Project, *, order: Callable[[], Sequence[int]] | None = None, alone: bool = True
    ) -> None:
        """``order`` : returns the ids in the order in which a step goes through them; all but TRASH without it."""
        super().__init__(project, alone=alone)
        self._order = order
        self._ids: Any = []
        self._current: int | None = None
        self._wish = 0
        self._seq = 0
        """The browser's last step that is known here; it may have gone on meanwhile."""
        self._sent: set[tuple[int, int]] = set()
        """Exposures and overviews the browser was sent; what it gave up since it asks for."""
        self._place_told: dict[str, Any] = {}
        self._forgettings = 0
        """How often the browser was told to forget: what was read before may be out of date."""
        self._is_seen = False
        self._tasks: set[asyncio.Task[None]] = set()
        self._step_callbacks: list[Callable[[int], None]] = []
        self._show_callbacks: list[Callable[[int], None]] = []
        self._overviews = project.mode.overviews
        views = [{"title": overview.title, "views": list(overview.views)} for overview in self._overviews]
        self._tiles = OverviewWidget(overviews=views)
        self._tiles.on_msg(self._on_message)
        self.body.children = [self._tiles]
        self.start()

    # For programs and for other panels

    @property
    def current(self) -> int | None:
        """The exposure that is shown."""
        return self._current

    @property
    def overview(self) -> str:
        """The title of the overview that is shown."""
        return self._overviews[self._tiles.chosen].title

    def choose(self, title: str) -> None:
        """Show another overview, by its title."""
        titles = [overview.title for overview in self._overviews]
        if title not in titles:
            raise ParameterError(f"there is no overview {title}; there are {', '.join(titles)}")
        self._tiles.chosen = titles.index(title)
        self._send_current()

    def show(self, exposure: int | None) -> None:
        """Show an exposure; None shows that there is none."""
        exposure = None if exposure is None else int(exposure)
        if exposure == self._current:
            return
        self._current = exposure
        self._send_current()

    def step(self, delta: int) -> None:
        """Go so many exposures on, or back; at either end it stays."""
        ids = self._in_order()
        if not len(ids):
            return
        place = self._place(ids)
        target = 0 if place is None else min(max(place + delta, 0), len(ids) - 1)
        if int(ids[target]) != self._current:
            self.show(int(ids[target]))
            self._tell_step(delta)

    def on_step(self, callback: Callable[[int], None]) -> None:
        """Call a function with the number of exposures gone on (negative: back) whenever a user, or ``step``, steps."""
        self._step_callbacks.append(callback)

    def on_show(self, callback: Callable[[int], None]) -> None:
        """Call a function with the exposure that a step has led to."""
        self._show_callbacks.append(callback)

    def set_order(self, order: Callable[[], Sequence[int]] | None) -> None:
        """Go through the exposures in another order from now on."""
        self._order = order
        self._send_place()

    def follow_order(self) -> None:
        """Take up that the exposures are in another order, or others, if they are: the next step goes by it."""
        if self._place_told != self._what_lies_around():
            self._send_place(self._seq)

    # Following the project

    def refresh(self, changes: Changed | None) -> None:
        """Let the browser forget what is out of date; what it shows is sent again."""
        self._ids = np.array(self.project.ids(), np.int64) if self._order is None else []
        if changes is None:
            self._forget(None)
        else:
            concerned = changes.exposures | changes.deleted
            if concerned:
                told = sorted(concerned) if len(concerned) <= MOST_TOLD else None
                self._forget(told)
            if self._current is not None and self._current not in concerned:
                self._send_place(self._seq)
                return
        if self._current is None and len(self._in_order()):
            self.show(int(self._in_order()[0]))
        else:
            self._send_current(self._seq)

    def close(self) -> None:
        """Ask for nothing more."""
        for task in self._tasks:
            task.cancel()
        super().close()

    # Sending

    def _in_order(self) -> Sequence[int]:
        return self._ids if self._order is None else self._order()

    def _place(self, ids: Sequence[int]) -> int | None:
        """Where the present exposure stands in the order."""
        found = np.flatnonzero(np.asarray(ids) == self._current)
        return int(found[0]) if found.size else None

    def _send_place(self, seq: int | None = None) -> None:
        """``seq`` : a browser that has gone on since this step stays where it is; without, it goes to the exposure."""
        self._place_told = self._what_lies_around()
        self._tiles.send({"k": "show", "id": self._current, "seq": seq, **self._place_told})

    def _what_lies_around(self) -> dict[str, Any]:
        ids = self._in_order()
        place = self._place(ids)
        first = 0 if place is None else max(0, place - REACH)  # from one that is not there a step goes to the first
        around = [] if self._current is None else [int(i) for i in ids[first : (place or 0) + REACH + 1]]
        return {"around": around, "place": None if place is None else place + 1, "total": len(ids)}

    def _send_current(self, seq: int | None = None) -> None:
        if self._current is not None and (self._current, self._tiles.chosen) not in self._sent:
            self._send_exposure(self._current, self._tiles.chosen)
        self._send_place(seq)

    def _forget(self, ids: list[int] | None) -> None:
        """Let the browser forget exposures, None for all."""
        gone = None if ids is None else set(ids)
        self._forgettings += 1
        self._sent = set() if gone is None else {sent for sent in self._sent if sent[0] not in gone}
        self._tiles.send({"k": "forget", "ids": ids})

    def _send_exposure(self, exposure: int, chosen: int) -> None:
        self._deliver(exposure, chosen, *self._pictures(exposure, chosen))

    def _pictures(self, exposure: int, chosen: int) -> tuple[dict[str, Any], list[bytes]]:
        try:
            head, tiles = payload.plan(self.project, exposure, self._overviews[chosen])
            described, content = payload.load(tiles)
        except Exception as error:  # one exposure that cannot be shown keeps nobody from the others
            return {"error": explain(error, "show this exposure")[0]}, []
        return {"head": head, "tiles": described}, content

    def _deliver(self, exposure: int, chosen: int, data: dict[str, Any], content: list[bytes]) -> None:
        self._tiles.send({"k": "exposure", "id": exposure, "overview": chosen, **data}, content)
        if self._is_seen and "error" not in data:
            self._sent.add((exposure, chosen))

    # What the browser asks for

    def _on_message(self, _widget: Any, message: dict[str, Any], _buffers: list[Any]) -> None:
        kind = message.get("k")
        if kind == "ready":
            self._is_seen = True
            self._sent.clear()
            self._send_current()
        elif kind == "go":
            self._gone_to(int(message["id"]), int(message["delta"]), int(message["seq"]))
        elif kind == "want":
            self._wish += 1
            self._begin(self._fulfil([int(i) for i in message["ids"]], int(message["overview"]), self._wish))
        elif kind == "view":
            self._send_view(int(message["id"]), str(message["name"]))
        elif kind == "sharpen":
            self._begin(self._sharpen(int(message["id"]), str(message["name"])))

    def _gone_to(self, exposure: int, delta: int, seq: int) -> None:
        """The browser shows another exposure already; it is told what lies around it."""
        self._current, self._seq = exposure, seq
        self._send_place(seq)
        self._tell_step(delta)

    def _tell_step(self, delta: int) -> None:
        with self.guard("go on"):
            for callback in self._step_callbacks:
                callback(delta)
            for callback in self._show_callbacks:
                if self._current is not None:
                    callback(self._current)

    def _begin(self, work: Coroutine[Any, Any, None]) -> None:
        """Do it beside other things where there is a loop; a script waits for it."""
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:
            asyncio.run(work)
            return
        task = loop.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _fulfil(self, ids: list[int], chosen: int, wish: int) -> None:
        """Send exposures one after another, until something else is wished for."""
        for exposure in ids:
            if wish != self._wish:
                return
            try:
                read_at = -1
                while read_at != self._forgettings:  # what changed while it was read is read again
                    read_at = self._forgettings
                    head, tiles = payload.plan(self.project, exposure, self._overviews[chosen])
                    described, content = await asyncio.to_thread(payload.load, tiles)
            except Exception as error:
                self._deliver(exposure, chosen, {"error": explain(error, "show this exposure")[0]}, [])
                continue
            self._deliver(exposure, chosen, {"head": head, "tiles": described}, content)

    def _send_view(self, exposure: int, name: str) -> None:
        """Send a view that is not part of the overview, to flip with."""
        try:
            described, content = payload.view(self.project, exposure, name)
        except (FocusError, OSError) as error:
            described, content = {"name": name, "missing": explain(error, "show this view")[0], "buffer": None}, []
        self._tiles.send({"k": "view", "id": exposure, "tile": described}, content)

    async def _sharpen(self, exposure: int, name: str) -> None:
        try:
            data, content = await asyncio.to_thread(payload.sharpened, self.project, exposure, name)
        except (FocusError, OSError):
            return  # the preview stays, which shows the same
        if exposure == self._current:
            self._tiles.send({"k": "sharp", "id": exposure, "name": name, **data}, [content])
