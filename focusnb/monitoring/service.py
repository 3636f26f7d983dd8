"""The night watch of one project: snapshots, alerts, messages, publishing and history, in threads beside other work.

``focusnb serve`` runs it. It has a connection to the library of its own and never ends the process it lives in.
"""

from __future__ import annotations

import threading
import time
import zlib
from collections.abc import Callable
from pathlib import Path

from focusnb.errors import FocusError
from focusnb.monitoring import history
from focusnb.monitoring.alerts import AlertBook, evaluate
from focusnb.monitoring.delivery import Courier, Sender, apprise_sender, read_delivery
from focusnb.monitoring.pictures import plot_png
from focusnb.monitoring.publish import Follower, Publisher
from focusnb.monitoring.rules import Check, read_rules
from focusnb.monitoring.settings import PublishSettings, Tell, read_publishing, shown_address
from focusnb.monitoring.snapshot import Snapshot, SnapshotMaker
from focusnb.monitoring.states import View
from focusnb.project.project import Project, read_settings

DELIVERY = 5.0
"""Seconds between two looks at messages that are due."""

KEPT = 600.0
"""Seconds between two records of the session's history."""

_SHOWN = 3 * 3600.0  # s of a quantity on the picture of a message


class Watch:
    """One round after the other: :meth:`step` takes a snapshot, asks the rules, publishes and keeps the history."""

    def __init__(
        self, project: Project, *, clock: Callable[[], float] = time.time, tell: Tell = lambda sentence: None
    ) -> None:
        self.project, self._clock, self._tell = project, clock, tell
        self.maker = SnapshotMaker(project, clock=clock, keep=True)
        self._followers: dict[str, Follower] = {}
        self._refused: dict[str, str] = {}
        self._kept = 0.0

    def step(self) -> tuple[Snapshot, PublishSettings]:
        """Do one round; returns what was seen and the settings of the moment.

        What fails keeps nothing else from being done: alerts are raised where publishing is set wrongly, and a full
        disk, on which no alert can be kept, is seen where the session is published.
        """
        view = self.maker.view()
        fault: Exception | None = None
        if not self.project.library.read_only:
            try:
                self._alert(view)
            except Exception as error:
                fault = error
        settings, targets = read_publishing(self.project.folder)
        snapshot = self.maker.make(settings, view=view)
        self._publish(targets, snapshot)
        if not 0 <= self._clock() - self._kept < KEPT:
            self._kept = self._clock()
            try:
                history.keep(self.project, settings, self.maker.session)
            except Exception as error:
                fault = fault or error
        if fault is not None:
            raise fault
        return snapshot, settings

    def _alert(self, view: View) -> None:
        self.maker.book.keep_reserve()
        new, recovered = evaluate(self.maker.book, read_rules(self.project.folder), view, draw=drawer(view))
        for alert in new:
            self._tell(f"alert: {alert.sentence}")
        for alert in recovered:
            self._tell(f"recovered: {alert.sentence}")

    def close(self) -> None:
        """Publish what is left, and end."""
        for follower in self._followers.values():
            follower.close()

    def _publish(self, targets: tuple[str, ...], snapshot: Snapshot) -> None:
        for address in set(self._followers) - set(targets):
            self._followers.pop(address).close(timeout=0.0)
            self._tell(f"{shown_address(address)}: is not published to any more")
        for address in targets:
            if address not in self._followers:
                try:
                    self._followers[address] = Follower(Publisher(address), tell=self._tell)
                except FocusError as error:
                    if self._refused.get(address) != str(error):
                        self._refused[address] = str(error)
                        self._tell(str(error))
                    continue
            self._followers[address].offer(snapshot)


def drawer(view: View) -> Callable[[Check, float], bytes | None]:
    """Draws the quantity of a check over the last hours."""

    def draw(check: Check, began: float) -> bytes | None:
        spec = view.session.specs.get(check.quantity or "")
        if spec is None:
            return None
        time, values = view.known(spec.name, began - _SHOWN)
        return plot_png(time, values, spec, limit=check.limit, began=began)

    return draw


def couriers(
    folder: Path, *, tell: Tell, make: Callable[..., Sender] = apprise_sender, clock: Callable[[], float] = time.time
) -> list[Courier]:
    """One courier for each address of a project, as they are kept now."""
    settings, urls = read_delivery(folder)
    if not urls:
        return []
    title = read_publishing(folder)[0].title or str(read_settings(folder)["name"])
    return [
        Courier(
            AlertBook(folder),  # each its own: they work side by side
            make(url, timeout=settings.timeout),
            settings,
            address=address_of(url),
            title=title,
            clock=clock,
            tell=tell,
        )
        for url in urls
    ]


def address_of(url: str) -> str:
    """What the book of alerts calls an address; its passwords stay out of it."""
    return f"{url.partition('://')[0]}-{zlib.crc32(url.encode()):08x}"


class Monitoring:
    """Watches a project in threads of its own while the ``with`` block lasts; what goes wrong is told, once."""

    def __init__(self, folder: Path, *, tell: Tell = lambda sentence: None) -> None:
        self._folder, self._tell = folder, tell
        self._stop = threading.Event()
        self._faults: dict[str, str] = {}
        self._threads = [
            threading.Thread(target=self._watch, name="focusnb-watch", daemon=True),
            threading.Thread(target=self._deliver, name="focusnb-messages", daemon=True),
        ]

    def __enter__(self) -> Monitoring:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join(timeout=15.0)

    def _watch(self) -> None:
        watch: Watch | None = None
        wait = 1.0
        while not self._stop.wait(wait):
            try:
                if watch is None:
                    watch = Watch(Project.open(self._folder), tell=self._tell)
                _, settings = watch.step()
                wait = settings.refresh
                self._well("watch")
            except Exception as error:
                self._fault("watch", error)
                wait = max(wait, 10.0)
        if watch is not None:
            watch.close()
            watch.project.close()

    def _deliver(self) -> None:
        busy: dict[str, threading.Thread] = {}
        while not self._stop.wait(DELIVERY):
            try:
                found = couriers(self._folder, tell=self._tell)
                self._well("messages")
            except Exception as error:
                self._fault("messages", error)
                continue
            busy = {address: thread for address, thread in busy.items() if thread.is_alive()}
            for courier in found:
                # a server that never ends its answer must not keep others from hearing
                if courier.address not in busy:
                    busy[courier.address] = threading.Thread(target=self._send, args=(courier,), daemon=True)
                    busy[courier.address].start()
        for thread in busy.values():
            thread.join(timeout=10.0 / len(busy))

    def _send(self, courier: Courier) -> None:
        try:
            courier.step()
            self._well(f"messages by {courier.address}")
        except Exception as error:
            self._fault(f"messages by {courier.address}", error)

    def _fault(self, where: str, error: Exception) -> None:
        reason = str(error) if isinstance(error, FocusError) else f"{type(error).__name__}: {error}"
        if self._faults.get(where) != reason:
            self._faults[where] = reason
            what = "the session is not watched as it should be" if where == "watch" else f"{where} are not sent"
            self._tell(f"{what}: {reason}; it is tried again")

    def _well(self, where: str) -> None:
        if self._faults.pop(where, None) is not None:
            self._tell("the session is watched again" if where == "watch" else f"{where} are sent again")
