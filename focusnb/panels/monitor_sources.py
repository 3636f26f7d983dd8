"""Looks at microscopes again and again, each in a thread of its own, so that one that is slow delays no other."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait

from focusnb.monitoring.microscopes import Glance, Microscope, Microscopes

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

    def close(self) -> None:
        """Look no more."""
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

    def step(self, *, patience: float | None = None) -> None:
        """Look at all once and wait for them, at most so many seconds; those that are late are told by ``start``."""
        looks = [(source, source.look()) for source in self.all]
        done, _ = wait([look for _, look in looks], timeout=patience)
        for source, look in looks:
            if look in done:
                self._on_glance(source.microscope, look.result())

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
        for task in self._tasks:
            with contextlib.suppress(RuntimeError):  # its loop has ended
                task.cancel()
        self._tasks = []
        for source in self.all:
            source.close()
