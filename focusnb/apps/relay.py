"""Looks at projects once for all viewers of a page: their kernels read what this publishes for them, and no project.

A kernel that opens a project takes 60 MB more, and reads the library for itself; ten viewers would do so ten times.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from focusnb.errors import FocusError
from focusnb.monitoring.microscopes import Microscope, Microscopes
from focusnb.monitoring.publish import Publisher
from focusnb.monitoring.snapshot import STATUS_NAME

EVERY = 5.0
"""Seconds between two looks."""

_PATIENCE = 10.0  # s until a page is served all the same, though not every project was seen
_GRACE = 60.0  # s that a kernel may take to read what a state names


class Relay:
    """Publishes projects into a folder of its own while the ``with`` block lasts.

    ``microscopes`` are those to show: in place of a project the folder it is published to.
    """

    def __init__(
        self, microscopes: Sequence[Microscope], folder: Path, *, tell: Callable[[str], None], every: float = EVERY
    ) -> None:
        self._tell, self._every = tell, every
        self._stop = threading.Event()
        self._seen = [threading.Event() for microscope in microscopes if microscope.project is not None]
        self.microscopes: list[Microscope] = []
        self._threads: list[threading.Thread] = []
        for number, microscope in enumerate(microscopes):
            if microscope.project is None:
                self.microscopes.append(microscope)
                continue
            target = folder / str(number)
            self.microscopes.append(replace(microscope, project=None, published=str(target)))
            name = f"focusnb-relay-{number}"
            given = (microscope, target, self._seen[len(self._threads)])
            self._threads.append(threading.Thread(target=self._run, args=given, name=name, daemon=True))

    def __enter__(self) -> Relay:
        for thread in self._threads:
            thread.start()
        until = time.monotonic() + _PATIENCE
        for seen in self._seen:
            seen.wait(max(0.0, until - time.monotonic()))
        return self

    def __exit__(self, *exception: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join(timeout=10)

    def _run(self, microscope: Microscope, target: Path, seen: threading.Event) -> None:
        looking = Microscopes([microscope])
        publisher = Publisher(str(target), page=None, grace=_GRACE)
        fault = ""
        while True:
            told = self._publish(looking, publisher, microscope, target)
            if told and told != fault:
                self._tell(f"{microscope.name}: {told}")
            elif fault and not told:
                self._tell(f"{microscope.name}: is seen again")
            fault = told
            seen.set()
            if self._stop.wait(self._every):
                break
        looking.close()

    @staticmethod
    def _publish(looking: Microscopes, publisher: Publisher, microscope: Microscope, target: Path) -> str:
        """Publish what is seen; returns why nothing is, and then nothing is shown as if it were of now."""
        try:
            glance = looking.look(microscope.name)
            if glance.snapshot is not None and glance.word != "unreachable":
                publisher.publish(glance.snapshot)
                return ""
            told = glance.sentence
        except (FocusError, OSError) as error:
            told = str(error)
        with contextlib.suppress(OSError):
            (target / STATUS_NAME).unlink(missing_ok=True)
        return told
