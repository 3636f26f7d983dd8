"""The lease that lets one process at a time work on a project, and the sign of life its holder gives."""

from __future__ import annotations

import os
import socket
import threading
import time
from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import psutil
import sqlalchemy as sa

from focusnb.errors import ProjectError
from focusnb.io import processes
from focusnb.project import schema
from focusnb.project.library import Library, Transaction

HEARTBEAT = 3.0
"""Seconds between two signs of life of the process that works on a project."""

SILENCE = 30.0
"""Seconds of silence after which a process on another host, or a stopped one on this, counts as dead."""

_EPOCH = sa.select(schema.lease.c.epoch)

_working: set[tuple[str, int]] = set()
"""Libraries this process works on, with the epoch."""


class LeaseLost(ProjectError):
    """Another process has taken this project over; this one may not write any more."""


def take_lease(library: Library, *, tell: Callable[[str], None] | None = None) -> int:
    """Become the one process that works on a project; returns the epoch its writes carry.

    A holder that is dead on this host is succeeded at once. One on another host is watched, because the clocks of two
    hosts differ: as soon as it gives a sign of life ProjectError names it; when it has given none for 30 s it is
    succeeded.

    tell : called once with a sentence where there is somebody to watch
    """
    watched: tuple[int, float] | None = None
    began, patience = time.monotonic(), 0.0
    while True:
        with library.write() as transaction:
            held = transaction.execute(sa.select(schema.lease)).mappings().first()
            if held is None or held["process"] is None or _is_gone(held, library.location):
                return _take(transaction, library, held)
            sign = (held["epoch"], held["heartbeat"])
            if is_here(held) or (watched is not None and sign != watched):
                raise ProjectError(f"{library.location}: {describe_holder(held)}; stop it first")
            if watched is None:
                watched, patience = sign, _patience(held)
                if tell is not None:
                    tell(
                        f"{describe_holder(held)}; it is succeeded unless it gives a sign of life within "
                        f"{patience:.0f} s"
                    )
            elif time.monotonic() - began > patience:
                return _take(transaction, library, held)
        time.sleep(min(0.5, HEARTBEAT / 4))


def _patience(held: Mapping[str, Any]) -> float:
    """Seconds to watch a holder elsewhere; what its clock says shortens it, but never below two signs of life."""
    silent = min(max(0.0, time.time() - held["heartbeat"]), SILENCE)
    return max(SILENCE - silent, 2 * HEARTBEAT + 1)


def _take(transaction: Transaction, library: Library, held: Mapping[str, Any] | None) -> int:
    table = schema.lease
    epoch = int(held["epoch"] if held is not None else 0) + 1
    transaction.execute(table.delete())
    transaction.execute(
        table.insert().values(
            id=1,
            epoch=epoch,
            host=socket.gethostname(),
            machine=_machine(),
            process=os.getpid(),
            process_started=processes.began(),
            since=time.time(),
            heartbeat=time.time(),
        )
    )
    _working.add((str(library.location), epoch))
    return epoch


@cache
def _machine() -> str:
    """What process numbers are unique in: this boot of this system, and this container."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        return f"{boot} {os.readlink('/proc/self/ns/pid')}"
    except OSError:
        return socket.gethostname()


def is_here(held: Mapping[str, Any]) -> bool:
    """Whether the holder is a process of this system, whose number can be looked up."""
    return bool(held["host"] == socket.gethostname() and (held.get("machine") or _machine()) == _machine())


def _is_gone(held: Mapping[str, Any], location: str | Path) -> bool:
    """Whether it can be told at once that the holder works no more."""
    if not is_here(held):
        # a host of this name that has been started again since has none of its processes left
        boot = str(held.get("machine") or "").partition(" ")[0]
        return bool(held["host"] == socket.gethostname() and boot and boot != _machine().partition(" ")[0])
    if held["process"] == os.getpid():
        # a kernel whose last attempt ended without being able to write is free to try again
        return (str(location), held["epoch"]) not in _working
    # a number may have been given to another process since
    if processes.began(held["process"]) != held["process_started"]:
        return True
    try:
        status = psutil.Process(held["process"]).status()
    except psutil.NoSuchProcess:
        return True
    if status in (psutil.STATUS_ZOMBIE, psutil.STATUS_DEAD):
        return True
    # one that was stopped may be continued later: it finds its epoch passed and writes nothing
    return bool(status == psutil.STATUS_STOPPED and time.time() - held["heartbeat"] > SILENCE)


def is_alive(held: Mapping[str, Any], location: str | Path) -> bool:
    """Whether the process that holds a lease works on the library at this place, as far as can be told at once."""
    if _is_gone(held, location):
        return False
    return is_here(held) or bool(time.time() - held["heartbeat"] < SILENCE)


def holder(library: Library) -> Mapping[str, Any] | None:
    """Who works on a project: host, process, since, heartbeat, dashboard; None where nobody does, as far as can be told
    at once.
    """
    with library.read() as connection:
        held = connection.execute(sa.select(schema.lease)).mappings().first()
    if held is None or held["process"] is None or not is_alive(held, library.location):
        return None
    return dict(held)


def dead_holder(library: Library) -> Mapping[str, Any] | None:
    """Who held the lease and is no more, as far as can be told at once; None where the last one said that it ends."""
    with library.read() as connection:
        held = connection.execute(sa.select(schema.lease)).mappings().first()
    if held is None or held["process"] is None or is_alive(held, library.location):
        return None
    return dict(held)


def describe_holder(held: Mapping[str, Any]) -> str:
    """Say who works on a project, and since when."""
    since = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(held["since"]))
    return f"process {held['process']} on {held['host']} works on this project since {since}"


def show_dashboard(library: Library, epoch: int, address: str) -> None:
    """Note where the holder's cluster can be looked at."""
    with library.write() as transaction:
        check_lease(transaction, epoch)
        transaction.execute(schema.lease.update().values(dashboard=address or None))


def beat(library: Library, epoch: int) -> None:
    """Give a sign of life; LeaseLost if somebody else has taken over."""
    with library.write() as transaction:
        check_lease(transaction, epoch)
        transaction.execute(schema.lease.update().values(heartbeat=time.time()))


class Heart:
    """Gives the sign of life in a thread of its own: the one that works may be busy for minutes."""

    def __init__(self, library: Library, epoch: int) -> None:
        self._library, self._epoch = library, epoch
        self._stop = threading.Event()
        self._fault: ProjectError | None = None
        self._thread = threading.Thread(target=self._beat, name="focusnb-heart", daemon=True)
        self._thread.start()

    def _beat(self) -> None:
        while not self._stop.wait(HEARTBEAT):
            try:
                beat(self._library, self._epoch)
            except LeaseLost as error:
                self._fault = error
                return
            except ProjectError:
                # locked or full for the moment: whoever writes will be told
                continue
            except Exception as error:
                self._fault = ProjectError(f"no sign of life can be given ({type(error).__name__}: {error})")
                return

    def check(self) -> None:
        """LeaseLost if somebody else has taken over."""
        if self._fault is not None:
            raise type(self._fault)(str(self._fault))

    def stop(self) -> None:
        """Give no more signs of life."""
        self._stop.set()
        self._thread.join()


def release_lease(library: Library, epoch: int) -> None:
    """Stop being the one that works on the project."""
    forget_lease(library, epoch)
    table = schema.lease
    with library.write() as transaction:
        transaction.execute(table.update().where(table.c.epoch == epoch).values(process=None, dashboard=None))


def forget_lease(library: Library, epoch: int) -> None:
    """Note that this process does not work on a project any more, where the library cannot be told."""
    _working.discard((str(library.location), epoch))


def check_lease(transaction: Transaction, epoch: int) -> None:
    """LeaseLost unless this epoch is the present one; 0 is for callers outside a processor."""
    if not epoch:
        return
    present = transaction.execute(_EPOCH).scalar()
    if present != epoch:
        raise LeaseLost(
            f"this process was succeeded by another one (epoch {epoch}, now {present}); it writes nothing more"
        )
