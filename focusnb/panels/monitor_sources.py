"""Looks at microscopes again and again, each in a thread of its own, so that one that is slow delays no other."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait

from focusnb.monitoring.microscopes import Glance, Microscope, Microscopes, fetch_sheet
from focusnb.monitoring.snapshot import Snapshot

EVERY = 5.0
"""Seconds between two looks at a microscope, at least."""

SHARE = 0.1
"""Part of the time that may be spent looking: what takes long is looked at less often."""


class Source:
    """One microscope, looked at from a thread of its own."""

    def __init__(self, microscope: Microscope, *, clock: Callable[[], float] = time.time) -> None:
        self.microscope = microscope
        self._all = Microscopes([microscope], clock=clock)
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="focusnb-look")
        # whoever points at an image waits for no look at a server that is slow
        self._fetching = ThreadPoolExecutor(max_workers=1, thread_name_prefix="focusnb-fetch")
        self.took = 0.0

    def look(self) -> Future[Glance]:
        """Look at it now; the glance says why where it cannot be seen."""
        return self._thread.submit(self._look)

    def _look(self) -> Glance:
        began = time.monotonic()
        try:
            return self._all.look(self.microscope.name)
        except Exception as error:  # whatever lies where it is published: the other microscopes are still to be seen
            told = f"What is there cannot be read ({type(error).__name__}); publish it again"
            return Glance(self.microscope.name, "unreachable", told, "bad")
        finally:
            self.took = time.monotonic() - began

    def fetch(self, snapshot: Snapshot, names: Sequence[str]) -> Future[dict[str, bytes]]:
        """Fetch sheets of previews that a snapshot of this microscope names; those that cannot be had are left out."""
        return self._fetching.submit(self._fetch, snapshot, list(names))

    def _fetch(self, snapshot: Snapshot, names: Sequence[str]) -> dict[str, bytes]:
        found: dict[str, bytes] = {}
        for name in names:
            # what was published since has taken the place of a sheet that is gone
            with contextlib.suppress(Exception):
                found[name] = fetch_sheet(self.microscope, snapshot, name)
        return found

    def close(self) -> None:
        """Look no more."""
        self._fetching.shutdown(wait=False, cancel_futures=True)
        self._thread.submit(self._all.close)
        self._thread.shutdown(wait=False, cancel_futures=False)


class Sources:
    """All microscopes. ``on_glance`` is called in the thread of whoever made this, from its event loop."""

    def __init__(
        self,
        microscopes: Sequence[Microscope],
        *,
        on_glance: Callable[[Microscope, Glance], None],
        clock: Callable[[], float] = time.time,
        every: float = EVERY,
    ) -> None:
        self.all = [Source(microscope, clock=clock) for microscope in microscopes]
        self.every = every
        self._on_glance = on_glance
        self._tasks: list[asyncio.Task[None]] = []
        self._fetches: set[asyncio.Task[None]] = set()

    def step(self, *, patience: float | None = None) -> None:
        """Look at all once and wait for them, at most so many seconds; those that are late are told by ``start``."""
        looks = [(source, source.look()) for source in self.all]
        done, _ = wait([look for _, look in looks], timeout=patience)
        for source, look in looks:
            if look in done:
                self._on_glance(source.microscope, look.result())

    def fetch(
        self, name: str, snapshot: Snapshot, names: Sequence[str], then: Callable[[dict[str, bytes]], None]
    ) -> None:
        """Fetch sheets of a microscope's previews and call ``then`` with them, from the event loop where one runs."""
        source = next(source for source in self.all if source.microscope.name == name)
        found = source.fetch(snapshot, names)
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:
            then(found.result())
            return
        task = loop.create_task(_pass_on(found, then))
        self._fetches.add(task)
        task.add_done_callback(self._fetches.discard)

    def start(self) -> bool:
        """Follow all from the running event loop; False where there is none, as in a plain script."""
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:
            return False
        self._tasks = [loop.create_task(self._follow(source)) for source in self.all]
        return True

    async def _follow(self, source: Source) -> None:
        while True:
            glance = await asyncio.wrap_future(source.look())
            self._on_glance(source.microscope, glance)
            await asyncio.sleep(max(self.every, source.took / SHARE))

    def close(self) -> None:
        """Follow no more."""
        for task in (*self._tasks, *self._fetches):
            with contextlib.suppress(RuntimeError):  # its loop has ended
                task.cancel()
        self._tasks = []
        for source in self.all:
            source.close()


async def _pass_on(found: Future[dict[str, bytes]], then: Callable[[dict[str, bytes]], None]) -> None:
    then(await asyncio.wrap_future(found))
