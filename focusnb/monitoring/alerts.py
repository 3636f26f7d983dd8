"""Alerts: every one is kept, with what became of it, in ``monitoring/alerts.jsonl`` of the project.

A file beside the library and not a table in it: it outlives a library that is made again, and a snapshot of a
read-only project can read it. Lines are only ever added, each under a lock, so that of several processes one opens an
alert and one sends it. A line that was not written to its end is passed over. A reserve beside it makes room for the
words that matter most, those that the disk is full.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import os
import secrets
import time as clock
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from focusnb.errors import FocusError, ParameterError, ProjectError
from focusnb.io import files
from focusnb.monitoring.quantities import NO_LIMIT, Limit
from focusnb.monitoring.rules import Check, Rule, RuleSet
from focusnb.monitoring.settings import monitoring_folder
from focusnb.monitoring.states import View
from focusnb.project.library import who

FILE_NAME = "alerts.jsonl"
PICTURES = "alerts"

AGAIN = 1800.0
"""Seconds after its recovery in which the same alert goes on instead of a new one beginning."""

CLAIM = 120.0
"""Seconds after which a message that somebody was about to send may be sent by another."""

RESERVE_NAME = ".reserve"

RESERVE = 65536
"""Bytes given up when the disk is full: about two hundred events."""

PIECE = 4096
"""Bytes of the reserve given up at a time, a block of most file systems."""

EVERYTHING = "*"
"""Mutes every rule."""


@dataclass
class Alert:
    """Something that was wrong: new, acknowledged, muted or recovered; times in seconds since 1970.

    sent : the messages that were delivered (opened, recovered, reminder), with when; undelivered : those that could
    not be, with when and why
    """

    id: str
    rule: str
    key: str
    began: float
    sentence: str
    hint: str = ""
    severe: bool = False
    quantity: str | None = None
    value: float | None = None
    limit: Limit = NO_LIMIT
    state: str = "new"
    acknowledged: float | None = None
    by: str | None = None
    muted_until: float | None = None
    recovered: float | None = None
    times: int = 1
    sent: dict[str, float] = field(default_factory=dict)
    claims: dict[str, float] = field(default_factory=dict)
    undelivered: dict[str, list[tuple[float, str]]] = field(default_factory=dict)

    @property
    def open(self) -> bool:
        """Whether it is still so."""
        return self.recovered is None

    def public(self) -> dict[str, Any]:
        """What a snapshot tells of it; names of people are left out."""
        kept = ("id", "rule", "key", "began", "sentence", "hint", "severe", "quantity", "state", "recovered")
        told = {name: getattr(self, name) for name in kept}
        return {**told, "undelivered": any(what not in self.sent for what in self.undelivered)}


class AlertBook:
    """The alerts of a project; every method sees what other processes wrote meanwhile."""

    def __init__(self, project_folder: Path) -> None:
        self.folder = monitoring_folder(project_folder)
        self.path = self.folder / FILE_NAME
        self._read = 0
        self._identity: int | None = None
        self._alerts: dict[str, Alert] = {}
        self._muted: dict[str, float] = {}

    # Reading

    def all(self, now: float | None = None) -> list[Alert]:
        """Every alert there was, the oldest first."""
        self._catch_up()
        now = clock.time() if now is None else now
        for alert in self._alerts.values():
            alert.muted_until = self._muted_until(alert.rule, now)
            alert.state = _state(alert)
        return list(self._alerts.values())

    def recent(self, now: float, hours: float = 24.0) -> list[Alert]:
        """Alerts that are open or recovered lately, the newest first."""
        kept = [a for a in self.all(now) if a.open or now - (a.recovered or 0.0) < 3600 * hours]
        return sorted(kept, key=lambda alert: (not alert.open, -alert.began))

    def find(self, identity: str) -> Alert:
        """An alert by its id or the end of it; ParameterError if there is none or several."""
        found = [alert for alert in self.all() if alert.id == identity] or [
            alert for alert in self.all() if alert.id.endswith(identity)
        ]
        if len(found) != 1:
            raise ParameterError(f"{identity} names {len(found) or 'no'} alerts; 'focusnb alerts list' shows them")
        return found[0]

    def muted_until(self, rule: str, now: float) -> float | None:
        """Until when messages of a rule are held back; None where they are sent."""
        self._catch_up()
        return self._muted_until(rule, now)

    def _muted_until(self, rule: str, now: float) -> float | None:
        until = max(self._muted.get(rule, 0.0), self._muted.get(EVERYTHING, 0.0))
        return until if until > now else None

    def picture(self, alert: Alert) -> bytes | None:
        """The plot that was drawn when an alert began."""
        try:
            return (self.folder / PICTURES / f"{alert.id}.png").read_bytes()
        except OSError:
            return None

    # Writing

    def open(
        self, rule: Rule, check: Check, now: float, picture: Callable[[], bytes | None] = lambda: None
    ) -> tuple[Alert, bool]:
        """Open an alert; returns it and whether it is new, not one that is open or has only just recovered."""
        with self._locked():
            for alert in reversed(self._alerts.values()):
                if alert.key != check.key:
                    continue
                if alert.open:
                    return alert, False
                if now - (alert.recovered or 0.0) < AGAIN:
                    self._write("again", alert.id, now, sentence=check.sentence, value=check.value)
                    return self._alerts[alert.id], False
                break
            stamp = clock.strftime("%Y%m%d-%H%M%S", clock.gmtime(now))
            identity = f"{stamp}-{check.key}-{secrets.token_hex(2)}"
            drawn = picture()
            if drawn is not None:
                with contextlib.suppress(OSError, FocusError):  # on a full disk it is told without its picture
                    (self.folder / PICTURES).mkdir(exist_ok=True)
                    files.write_bytes(self.folder / PICTURES / f"{identity}.png", drawn)
            told = {name: getattr(check, name) for name in ("key", "sentence", "hint", "quantity", "value")}
            self._write("opened", identity, now, rule=rule.rule, severe=rule.severe, limit=list(check.limit), **told)
            return self._alerts[identity], True

    def recover(self, identity: str, now: float) -> None:
        """Note that what was wrong is well again."""
        with self._locked():
            if self._alerts[identity].open:
                self._write("recovered", identity, now)

    def acknowledge(self, identity: str, *, now: float | None = None) -> Alert:
        """Note that somebody knows: no reminder follows, and what is now becomes usual."""
        alert = self.find(identity)
        with self._locked():
            self._write("acknowledged", alert.id, clock.time() if now is None else now, by=who())
        return alert

    def mute(self, rule: str, until: float, *, now: float | None = None) -> None:
        """Hold back the messages of a rule until a time (``*``: of all); alerts are kept all the same."""
        with self._locked():
            self._write("muted", rule, clock.time() if now is None else now, until=until, by=who())

    def claim(self, identity: str, what: str, now: float, patience: float = CLAIM) -> bool:
        """Take it upon this process to send a message; False where another did, or took it less than so long ago."""
        with self._locked():
            alert = self._alerts[identity]
            # another may have looked at its clock a moment later; far ahead is only what a wrong clock wrote
            taken = alert.claims.get(what)
            if what in alert.sent or (taken is not None and abs(now - taken) < patience):
                return False
            self._write("claimed", identity, now, what=what, process=os.getpid())
            return True

    def delivered(self, identity: str, what: str, now: float) -> None:
        """Note that a message was sent."""
        with self._locked():
            self._write("sent", identity, now, what=what)

    def not_delivered(self, identity: str, what: str, reason: str, now: float) -> None:
        """Note that a message could not be sent; it is tried again."""
        with self._locked():
            self._write("undelivered", identity, now, what=what, reason=reason)

    # The file

    @contextmanager
    def _locked(self) -> Iterator[None]:
        """Be the only one that writes, knowing all that was written."""
        try:
            self.folder.mkdir(exist_ok=True)
            lock = os.open(self.folder / ".alerts.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o664)
        except OSError as error:
            raise ProjectError(
                f"{self.folder}: cannot be written ({error.strerror}); give this user write access to the project"
            ) from error
        try:
            fcntl.flock(lock, fcntl.LOCK_EX)
            self._catch_up()
            yield
        finally:
            os.close(lock)

    def keep_reserve(self) -> None:
        """Lay aside the room that alerts need on a full disk, unless it is there."""
        path = self.folder / RESERVE_NAME
        try:
            if path.exists() and path.stat().st_size >= RESERVE:
                return
            self.folder.mkdir(exist_ok=True)
            # random: a file system that compresses would keep no room for zeros
            files.write_bytes(path, secrets.token_bytes(RESERVE))
        except (OSError, FocusError):
            pass  # there is no room now: the next round tries again

    def _write(self, event: str, identity: str, at: float, **more: Any) -> None:
        line = json.dumps({"event": event, "alert": identity, "at": round(at, 3), **more}, ensure_ascii=False)
        try:
            while True:
                try:
                    self._append(line)
                    break
                except OSError as error:
                    if error.errno not in (errno.ENOSPC, errno.EDQUOT) or not self._give_up_reserve():
                        raise
        except OSError as error:
            raise ProjectError(
                f"{self.path}: cannot be written ({error.strerror}); make room or give access"
            ) from error
        self._catch_up()

    def _give_up_reserve(self) -> bool:
        """Give up a piece of the reserve, not all: what is given up others may take first. False where none is left."""
        path = self.folder / RESERVE_NAME
        try:
            left = path.stat().st_size - PIECE
            if left > 0:
                os.truncate(path, left)
            else:
                path.unlink()
        except OSError:  # it is gone, or another user's
            return False
        return True

    def _append(self, line: str) -> None:
        handle = os.open(self.path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o664)
        try:
            # whoever wrote before may have died in the middle of a line
            size = os.fstat(handle).st_size
            start = b"" if _ends_with_line(self.path) else b"\n"
            content = start + line.encode() + b"\n"
            if os.write(handle, content) < len(content):
                os.ftruncate(handle, size)
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            os.fsync(handle)
        finally:
            os.close(handle)

    def _catch_up(self) -> None:
        try:
            with open(self.path, "rb") as stream:
                status = os.fstat(stream.fileno())
                if status.st_ino != self._identity or status.st_size < self._read:
                    self._read, self._identity = 0, status.st_ino
                    self._alerts, self._muted = {}, {}
                if status.st_size == self._read:
                    return
                stream.seek(self._read)
                content = stream.read()
        except FileNotFoundError:
            self._read, self._identity, self._alerts, self._muted = 0, None, {}, {}
            return
        whole = content[: content.rfind(b"\n") + 1]
        self._read += len(whole)
        for line in whole.splitlines():
            try:
                event = json.loads(line)
                self._apply(event, float(event["at"]))
            except (ValueError, KeyError, TypeError):
                continue  # a line that was not written to its end

    def _apply(self, event: Mapping[str, Any], at: float) -> None:
        kind, identity = event["event"], str(event["alert"])
        if kind == "muted":
            self._muted[identity] = float(event["until"])
            return
        if kind == "opened":
            names = ("rule", "key", "sentence", "hint", "severe", "quantity", "value")
            told = {name: event.get(name) for name in names}
            self._alerts[identity] = Alert(identity, began=at, limit=Limit(*event["limit"]), **told)  # type: ignore[arg-type]
            return
        alert = self._alerts[identity]
        if kind == "again":
            alert.recovered, alert.times, alert.sentence = None, alert.times + 1, str(event["sentence"])
            alert.value = event.get("value")
        elif kind == "recovered":
            alert.recovered = at
        elif kind == "acknowledged":
            alert.acknowledged, alert.by = at, event.get("by")
        elif kind == "claimed":
            alert.claims[event["what"]] = at
        elif kind == "sent":
            alert.sent[event["what"]] = at
            alert.claims.pop(event["what"], None)
        elif kind == "undelivered":
            alert.undelivered.setdefault(event["what"], []).append((at, str(event["reason"])))
            alert.claims.pop(event["what"], None)


def _state(alert: Alert) -> str:
    if alert.recovered is not None:
        return "recovered"
    if alert.acknowledged is not None:
        return "acknowledged"
    return "muted" if alert.muted_until is not None else "new"


def _ends_with_line(path: Path) -> bool:
    with open(path, "rb") as stream:
        if stream.seek(0, os.SEEK_END) == 0:
            return True
        stream.seek(-1, os.SEEK_END)
        return stream.read(1) == b"\n"


Draw = Callable[[Check, float], bytes | None]
"""Draws what a check is about, and when it began."""


def evaluate(
    book: AlertBook, rules: RuleSet, view: View, *, draw: Draw = lambda check, began: None
) -> tuple[list[Alert], list[Alert]]:
    """Ask every rule about the moment; returns the alerts that are new and those that recovered."""
    open_alerts = {alert.key: alert for alert in book.all(view.now) if alert.open}
    # of what somebody knows, the present becomes usual
    opened = {key: alert.began for key, alert in open_alerts.items() if alert.acknowledged is None}
    new, recovered = [], []
    for rule, check in rules.check(view, opened):
        known = open_alerts.get(check.key)
        if check.wrong and known is None:
            alert, is_new = book.open(rule, check, view.now, lambda check=check: draw(check, view.now))  # type: ignore[misc]
            new += [alert] * is_new
        elif not check.wrong and known is not None:
            book.recover(known.id, view.now)
            recovered.append(known)
    keys_on = {name for name, rule in rules.rules.items() if rule.on}
    for alert in open_alerts.values():
        if alert.rule not in keys_on:
            book.recover(alert.id, view.now)
    return new, recovered
