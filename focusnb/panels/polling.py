"""One look at a project's revision for all panels of a kernel, and word of it when the project cannot be read.

Reading happens in a thread: a network folder that hangs stops no widget. Panels are told in the kernel's own loop.
"""

from __future__ import annotations

import asyncio
import contextlib
import getpass
import os
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass, replace
from typing import Protocol, TypeVar

from focusnb.errors import FocusError
from focusnb.project import lease
from focusnb.project.browsing.rows import Changed, changed_since
from focusnb.project.library import LibraryBusy
from focusnb.project.project import Project

Found = TypeVar("Found")

INTERVAL = 0.5
"""Seconds between two looks."""

PATIENCE = 5.0
"""Seconds after which a look that does not come back is told."""

LOOK_AT_LEASE = 2.0
"""Seconds between two looks at who works on the project."""


@dataclass(frozen=True)
class Notice:
    """One sentence about the project as a whole, with the cure."""

    kind: str
    text: str
    drawing: str = ""
    details: str = ""


@dataclass(frozen=True)
class Health:
    """Whether what is shown is of now, and what else is to be said of the project."""

    stale_since: float | None = None
    """Time of the last look that came back, where the present one does not; None while all is well."""
    stale: Notice | None = None
    read_only: Notice | None = None
    dead: Notice | None = None
    worker: str = ""
    """The host that works on the project; empty where none does."""
    empty: bool = False

    @property
    def notices(self) -> tuple[Notice, ...]:
        """What is to be said, the most pressing first."""
        return tuple(notice for notice in (self.stale, self.dead, self.read_only) if notice is not None)


class Listener(Protocol):
    """Who wants to know."""

    def deliver(self, changes: Changed | None) -> bool:
        """Take changes, None for all anew; False where that failed and all must be read again."""

    def tell_health(self, health: Health) -> None:
        """Take word of how the project is."""

    @property
    def is_gone(self) -> bool:
        """Whether it was closed by others and may be forgotten."""


@dataclass
class _Look:
    """What one look found."""

    at: float
    fault: Exception | None = None
    revision: int = -1
    anew: bool = False
    changes: Changed | None = None
    health: Health = Health()


class Poller:
    """Looks at one project for all its panels in this kernel; use :func:`poller` to get it."""

    def __init__(self, project: Project) -> None:
        self.project = project
        self.health = Health(read_only=_read_only(project))
        self._listeners: list[Listener] = []
        self._behind: set[int] = set()
        self._revision = -1
        self._file = _identity(project)
        self._seen = time.time()
        self._lease_seen = float("-inf")
        self._task: asyncio.Task[None] | None = None
        self._poked: asyncio.Event | None = None

    # Who listens

    def join(self, listener: Listener) -> None:
        """Tell a listener all there is now, and what changes from now on."""
        if not self._listeners:
            self.step()
        self._listeners.append(listener)
        listener.tell_health(self.health)
        self._hand(listener, None)
        self._start()

    def leave(self, listener: Listener) -> None:
        """Tell a listener nothing more; with the last one the looking ends."""
        if listener in self._listeners:
            self._listeners.remove(listener)
        self._behind.discard(id(listener))
        if not self._listeners:
            _pollers.pop(_key(self.project), None)
            if self._task is not None:
                self._task.cancel()
                self._task = None

    def poke(self) -> None:
        """Look now instead of in half a second; for who has just written."""
        if self._poked is not None:
            self._poked.set()
        elif self._task is None:
            self.step()

    @property
    def is_running(self) -> bool:
        """Whether it looks by itself."""
        return self._task is not None and not self._task.done()

    # Looking

    def step(self) -> None:
        """Look once and tell everybody; what the loop does, for who has none."""
        self._take(self._look())

    def _start(self) -> None:
        if self.is_running:
            return
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:
            return  # a script: whoever runs it calls step()
        self._poked = asyncio.Event()
        self._task = loop.create_task(self._run(), name=f"focusnb-poller {self.project.name}")

    async def _run(self) -> None:
        assert self._poked is not None
        while self._listeners:
            look = asyncio.wrap_future(in_thread(self._look))
            while not (await asyncio.wait({look}, timeout=PATIENCE))[0]:
                self._tell(self._stale("it does not answer"))
            self._take(look.result())
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._poked.wait(), INTERVAL)
            self._poked.clear()

    def _look(self) -> _Look:
        """Read what there is to read; touches no widget."""
        library = self.project.library
        look = _Look(time.time(), health=replace(self.health, stale=None, stale_since=None))
        try:
            identity = _identity(self.project, missing_is_error=True)
            if identity != self._file:
                library.reopen()
                self._file, look.anew = identity, True
            look.revision = self.project.revision
            if look.anew or look.revision < self._revision or self._revision < 0:
                look.anew = True
            elif look.revision != self._revision:
                library.forget_columns()
                look.changes = changed_since(library, self._revision)
                look.revision = look.changes.revision
            if look.anew or look.changes is not None:
                look.health = replace(look.health, empty=self.project.is_empty)
            if look.at - self._lease_seen > LOOK_AT_LEASE:
                self._lease_seen = look.at
                held = lease.holder(library)
                worker = "" if held is None else str(held["host"])
                look.health = replace(look.health, worker=worker, dead=_dead(self.project))
        except Exception as error:  # whatever it is, it is told where the user looks, and the next look may be better
            look.fault = error
            if not isinstance(error, LibraryBusy):
                library.reopen()
        return look

    def _take(self, look: _Look) -> None:
        """Tell everybody what a look found."""
        for listener in [listener for listener in self._listeners if listener.is_gone]:
            self.leave(listener)
        if look.fault is not None:
            self._tell(self._stale(_reason(look.fault)))
            return
        self._seen = look.at
        recovered = self.health.stale is not None
        self._tell(look.health)
        self._revision = look.revision
        for listener in list(self._listeners):
            if look.anew or (id(listener) in self._behind and (recovered or look.changes is not None)):
                self._hand(listener, None)
            elif look.changes is not None:
                self._hand(listener, look.changes)

    def _hand(self, listener: Listener, changes: Changed | None) -> None:
        if listener.deliver(changes):
            self._behind.discard(id(listener))
        else:
            self._behind.add(id(listener))

    def _tell(self, health: Health) -> None:
        if health == self.health:
            return
        self.health = health
        for listener in list(self._listeners):
            listener.tell_health(health)

    def _stale(self, reason: str) -> Health:
        since = self.health.stale_since or self._seen
        text = (
            f"Stale since {time.strftime('%H:%M:%S', time.localtime(since))}: {self.project.folder} cannot be read "
            f"({reason}). Processing elsewhere goes on; this page follows again as soon as it can be read."
        )
        return replace(self.health, stale_since=since, stale=Notice("failed", text, "offline"))


def in_thread(function: Callable[[], Found]) -> Future[Found]:
    """Call in a thread that does not keep the kernel from ending where it hangs."""
    future: Future[Found] = Future()

    def call() -> None:
        try:
            result = function()
        except BaseException as error:
            future.set_exception(error)
        else:
            future.set_result(result)

    threading.Thread(target=call, name="focusnb-look", daemon=True).start()
    return future


def _identity(project: Project, *, missing_is_error: bool = False) -> tuple[int, ...] | None:
    """The library's file; an open one goes on being read after it was moved away or replaced.

    Who may only read takes a library that nobody writes for unchanging: then a writer who comes, and what it wrote,
    make it another one.
    """
    path = project.library.path
    if path is None:
        return None
    try:
        found = os.stat(path)
    except OSError:
        if missing_is_error:
            raise
        return None
    if not project.library.read_only:
        return found.st_dev, found.st_ino
    is_written = path.with_name(f"{path.name}-shm").exists()
    return found.st_dev, found.st_ino, is_written, 0 if is_written else found.st_mtime_ns


def _reason(fault: Exception) -> str:
    if isinstance(fault, FileNotFoundError):
        return "it is not there; was it moved, or is its disk not mounted?"
    if isinstance(fault, OSError) and fault.strerror:
        return fault.strerror
    return str(fault) if isinstance(fault, FocusError) else f"{type(fault).__name__}: {fault}"


def _read_only(project: Project) -> Notice | None:
    if not project.library.read_only:
        return None
    try:
        user = getpass.getuser()
    except (KeyError, OSError):
        user = "this user"
    text = (
        f"You can look at this project but not change it: {user} cannot write {project.folder}. For changes, let its "
        f"owner give you write access and open it again."
    )
    return Notice("info", text, "lock")


def _dead(project: Project) -> Notice | None:
    held = lease.dead_holder(project.library)
    if held is None:
        return None
    last = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(held["heartbeat"]))
    text = (
        f"Nobody processes: process {held['process']} on {held['host']} ended without finishing (last sign of life "
        f"{last}). 'focusnb serve {project.folder}' takes over at once; nothing is lost."
    )
    return Notice("warning", text)


_pollers: dict[str, Poller] = {}


def _key(project: Project) -> str:
    return str(project.library.location)


def poller(project: Project) -> Poller:
    """The one poller of a project in this kernel."""
    if _key(project) not in _pollers:
        _pollers[_key(project)] = Poller(project)
    return _pollers[_key(project)]
