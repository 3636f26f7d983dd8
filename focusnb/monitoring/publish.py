"""Publishing: a snapshot goes out so that a reader sees the old state or the new one, whenever this process ends.

Pictures and pieces of series are named after what they hold and written first; ``status.json``, which names them,
is replaced last. What no state of the last minutes names is removed. ``index.html`` beside them shows it to anybody.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

from focusnb.monitoring.chunks import is_file_name
from focusnb.monitoring.settings import Tell
from focusnb.monitoring.snapshot import STATUS_NAME, Snapshot, published
from focusnb.monitoring.targets import Outage, Target, open_target

PAGE_NAME = "index.html"

GRACE = 900.0
"""Seconds that files stay after the last state that named them was replaced: a reader may have read it just before."""

FIRST_DELAY, LONGEST_DELAY = 5.0, 300.0
"""Seconds until a target that failed is tried again, at first and at most."""

BATCH = 262144
"""Bytes of sheets of previews that go out in one transfer: a slow line is through with them before it is given up."""

SHEETS = 10.0
"""Seconds after which a session that is followed is shown anew, though sheets of previews are still missing."""

_LISTED = 600.0


def standard_page() -> bytes:
    """The page of :mod:`focusnb.monitoring.page`, loaded when it is needed: figures take a second and 60 MB."""
    from focusnb.monitoring.page import build_page

    return build_page()


@dataclass(frozen=True)
class Report:
    """What one publication wrote and removed: files and bytes."""

    written: int
    removed: int
    bytes: int


class Publisher:
    """Publishes snapshots to one target.

    clock : tells seconds that nobody sets, or files that a reader has just heard of would be old at once;
    page : the bytes of ``index.html``, by default the page of :mod:`focusnb.monitoring.page`; None publishes none
    """

    def __init__(
        self,
        target: Target | str,
        *,
        clock: Callable[[], float] = time.monotonic,
        grace: float = GRACE,
        page: Callable[[], bytes] | None = standard_page,
    ) -> None:
        self.target = open_target(target) if isinstance(target, str) else target
        self._clock, self._grace, self._page = clock, grace, page
        self._there: set[str] | None = None
        self._listed = 0.0
        self._known: set[str] = set()
        self._named: dict[str, float] = {}
        self._before: set[str] = set()
        self._page_written = False

    def publish(self, snapshot: Snapshot, *, patience: float | None = None) -> Report:
        """Publish a snapshot; Outage where the target cannot be reached, and then it is as it was or complete.

        patience : s after which no more sheets of previews are begun: the state tells of those that are there, and the
        next publication goes on; None waits for all. Where they are many the state goes out before them.
        """
        try:
            return self._publish(snapshot, patience)
        except BaseException:
            # what was written is not known: it is looked up before anything is published again
            self._there = None
            raise

    def _publish(self, snapshot: Snapshot, patience: float | None) -> Report:
        now, began = self._clock(), time.monotonic()
        if self._there is None or not 0 <= now - self._listed < _LISTED:
            self._there, self._listed = self.target.names(), now
            # where files are gone somebody emptied the place, and the page is gone as well
            self._page_written &= self._known <= self._there
        written: dict[str, bytes] = {}
        batches = self._missing(snapshot)
        if not self._page_written and self._page is not None:
            self.target.put({PAGE_NAME: self._page()})
            self._page_written = True
        for number, batch in enumerate(batches):
            if number == 1:
                # a line that is slow must not keep the state from being seen
                self.target.put({STATUS_NAME: published(_shown(snapshot, self._there))})
            if number > 1 and patience is not None and time.monotonic() - began > patience:
                break
            if batch:
                self.target.put(batch)
                self._there |= set(batch)
                written |= batch
        status = published(_shown(snapshot, self._there))
        self.target.put({STATUS_NAME: status})
        removed = self._remove_old({*snapshot.files, *snapshot.sheets}, now)
        self._known = set(self._there)
        return Report(len(written) + 1, removed, sum(map(len, written.values())) + len(status))

    def _missing(self, snapshot: Snapshot) -> list[dict[str, bytes]]:
        """What is not at the target: all but sheets at first, then sheets, the newest first, a few at a time."""
        assert self._there is not None
        batches = [{name: content for name, content in snapshot.files.items() if name not in self._there}]
        sheets = [name for name in reversed(snapshot.sheets) if name not in self._there]
        together = sum(len(snapshot.sheets[name]) for name in sheets) <= BATCH
        size = 0 if together else BATCH
        for name in sheets:
            size += len(snapshot.sheets[name])
            if size > BATCH:
                batches.append({})
                size = len(snapshot.sheets[name])
            batches[-1][name] = snapshot.sheets[name]
        return batches

    def _remove_old(self, named: set[str], now: float) -> int:
        assert self._there is not None
        # until just now a reader could read the state before, or one of an earlier process, of which nothing is known
        for name in self._there:
            if name in named or name in self._before or name not in self._named:
                self._named[name] = now
        self._before = named
        own = {name for name in self._there - named if is_file_name(name.removesuffix(".part"))}
        old = [name for name in own if now - self._named[name] > self._grace]
        if old:
            self.target.remove(old)
            self._there -= set(old)
        self._named = {name: at for name, at in self._named.items() if name in self._there}
        return len(old)


def _shown(snapshot: Snapshot, there: set[str]) -> Snapshot:
    """The snapshot without those sheets of previews that are not at the target yet."""
    previews = snapshot.status.get("previews")
    if not previews or all(name in there for name in snapshot.sheets):
        return snapshot
    sheets = [sheet for sheet in previews["sheets"] if sheet["file"] in there]
    return Snapshot({**snapshot.status, "previews": {**previews, "sheets": sheets}}, snapshot.files, snapshot.sheets)


class Follower:
    """Publishes what it is given to one target, and waits longer and longer where that fails.

    ``offer`` never waits for the target: a thread of its own publishes the newest snapshot there is.
    """

    def __init__(
        self, publisher: Publisher, *, tell: Tell = lambda sentence: None, first_delay: float = FIRST_DELAY
    ) -> None:
        self._publisher, self._tell, self._first_delay = publisher, tell, first_delay
        self._newest: Snapshot | None = None
        self._wake, self._stop = threading.Condition(), False
        self.fault: str | None = None
        self.published = 0
        self._thread = threading.Thread(target=self._run, name="focusnb-publish", daemon=True)
        self._thread.start()

    def offer(self, snapshot: Snapshot) -> None:
        """Publish this snapshot as soon as the target can take it; one not published yet is passed over."""
        with self._wake:
            self._newest = snapshot
            self._wake.notify()

    def close(self, timeout: float = 10.0) -> None:
        """Publish what was offered last, where the target takes it, and end."""
        with self._wake:
            self._stop = True
            self._wake.notify()
        self._thread.join(timeout)

    def _run(self) -> None:
        delay = 0.0
        while True:
            with self._wake:
                if delay:
                    self._wake.wait_for(lambda: self._stop, delay)
                else:
                    self._wake.wait_for(lambda: self._stop or self._newest is not None)
                snapshot, stopping = self._newest, self._stop
                self._newest = None
            if snapshot is not None:
                delay = self._try(snapshot, delay)
            if stopping:
                return

    def _try(self, snapshot: Snapshot, delay: float) -> float:
        try:
            self._publisher.publish(snapshot, patience=SHEETS)
        except Outage as error:
            reason = str(error)
        except Exception as error:
            # a fault of a file system's library must not end the night
            reason = f"{self._publisher.target.name}: {type(error).__name__}: {error}"
        else:
            if self.fault is not None:
                self._tell(f"{self._publisher.target.name}: published again")
            self.fault, self.published = None, self.published + 1
            return 0.0
        if self.fault is None:
            self._tell(f"{reason}; it is tried again")
        self.fault = reason
        with self._wake:
            # tried again by itself unless something newer comes first
            self._newest = self._newest or snapshot
        return min(max(2 * delay, self._first_delay), LONGEST_DELAY)
