"""Messages about alerts, sent by Apprise: once, not too many, again where they could not be delivered."""

from __future__ import annotations

import tempfile
import time as clock
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from focusnb.errors import ParameterError, ProgramMissing
from focusnb.monitoring.alerts import CLAIM, Alert, AlertBook
from focusnb.monitoring.settings import DeliverySettings, Tell, monitoring_folder, read_json, write_private_json

FILE_NAME = "delivery.json"

LatestTry = 900.0
"""Most seconds between two tries to deliver a message."""

GIVEN_UP = 24 * 3600.0
"""Seconds after which a message that could not be delivered is old news."""


_BARE = ("form", "json", "ntfy", "xml")  # addresses whose path is all that is secret of them


class Sender(Protocol):
    """Sends one message; returns why it failed, or None."""

    def __call__(self, title: str, body: str, picture: bytes | None, *, urgent: bool = False) -> str | None: ...


def read_delivery(project_folder: Path) -> tuple[DeliverySettings, tuple[str, ...]]:
    """How a project sends messages, and to which addresses (Apprise URLs)."""
    kept = read_json(monitoring_folder(project_folder) / FILE_NAME)
    settings, _ = DeliverySettings.read(kept.get("settings", {}))
    return settings, tuple(str(url) for url in kept.get("urls", []))


def write_delivery(project_folder: Path, settings: DeliverySettings, urls: Sequence[str]) -> None:
    """Keep how messages are sent; the file is readable by its owner only, because addresses hold passwords."""
    path = monitoring_folder(project_folder) / FILE_NAME
    write_private_json(path, {"settings": settings.model_dump(exclude_defaults=True), "urls": list(urls)})


def check_url(url: str) -> str:
    """Return an address as it may be shown, without its password; ParameterError where there is no such service."""
    made = _apprise().Apprise.instantiate(url, suppress_exceptions=True)
    if made is None:
        scheme = url.partition("://")[0] if "://" in url else "it"
        raise ParameterError(
            f"{scheme}:// is no address that messages can be sent to; write one as Apprise has them, such as "
            "mailtos://user:password@host?to=name@host, slack://..., msteams://..., tgram://..., json://host/path"
        )
    return _shown(made)


def _shown(plugin: Any) -> str:
    """An address without what lets others write to it: passwords and keys, and, of bare web hooks, their path."""
    address = str(plugin.url(privacy=True)).partition("?")[0]
    scheme, mark, rest = address.partition("://")
    if scheme.rstrip("s") in _BARE and "/" in rest.rstrip("/"):
        return f"{scheme}{mark}{rest.partition('/')[0]}/****"
    return address


def apprise_sender(url: str, *, timeout: float = 30.0) -> Sender:
    """Make what sends a message to an address."""
    module = _apprise()

    def send(title: str, body: str, picture: bytes | None, *, urgent: bool = False) -> str | None:
        with tempfile.TemporaryDirectory(prefix="focusnb-alert-") as folder:
            path = Path(folder) / "plot.png"
            if picture is not None:
                path.write_bytes(picture)
            return _send_one(module, url, title, body, str(path) if picture is not None else None, urgent, timeout)

    return send


def _send_one(
    module: Any, url: str, title: str, body: str, path: str | None, urgent: bool, timeout: float
) -> str | None:
    plugin = module.Apprise.instantiate(url, suppress_exceptions=True)
    if plugin is None:
        return f"{url.partition('://')[0]}:// is no address of a service"
    plugin.socket_connect_timeout = min(timeout, 10.0)
    plugin.socket_read_timeout = timeout
    target = module.Apprise()
    target.add(plugin)
    kind = module.NotifyType.FAILURE if urgent else module.NotifyType.WARNING
    # what Apprise says of a failure goes into its log only
    with module.LogCapture(level=30, fmt="%(message)s") as said:
        attach = path if path is not None and getattr(plugin, "attachment_support", False) else None
        try:
            sent = bool(target.notify(body=body, title=title, notify_type=kind, attach=attach))
        except Exception as error:
            return f"{_shown(plugin)}: {type(error).__name__}"
        if sent:
            return None
        lines = [line for line in said.getvalue().splitlines() if line.strip()]
    return f"{_shown(plugin)}: {lines[-1].strip() if lines else 'not taken'}"


def _apprise() -> Any:
    try:
        import apprise
    except ModuleNotFoundError as error:
        raise ProgramMissing("apprise is not installed: pip install apprise") from error
    return apprise


class _Message(NamedTuple):
    alert: Alert
    what: str


class Courier:
    """Sends what is due to one address: opened, reminders, recovered; keeps the limits of :class:`DeliverySettings`.

    What was sent and what could not be is in the book, so that a courier that starts again, or a second one, neither
    repeats nor forgets a message. Each address has its own: one that fails makes no other hear a thing twice.

    address : what the book calls the address; by default nothing, for the only one
    """

    def __init__(
        self,
        book: AlertBook,
        sender: Sender,
        settings: DeliverySettings,
        *,
        address: str = "",
        title: str = "",
        clock: Callable[[], float] = clock.time,
        tell: Tell = lambda sentence: None,
    ) -> None:
        self.book, self.settings, self.address = book, settings, address
        self._send, self._address, self._title, self._clock, self._tell = sender, address, title, clock, tell

    def step(self) -> int:
        """Send what is due now, as far as the limits allow; returns of how many alerts was told."""
        now = self._clock()
        due = self._due(now)
        if not due or not self._may_send(now):
            return 0
        # one by one with their pictures; what is too much for that, and the last message of an hour, together
        together = len(due) > 3 or len(self._times(now - 3600)) + 1 >= self.settings.most_per_hour
        chosen = due if together else due[:1]
        patience = max(CLAIM, 4 * self.settings.timeout)
        taken = [message for message in chosen if self.book.claim(message.alert.id, message.what, now, patience)]
        if not taken:
            return 0
        title, body = self._words(taken)
        picture = self.book.picture(taken[0].alert) if self.settings.picture and len(taken) == 1 else None
        reason = self._send(title, body, picture, urgent=any(m.alert.severe for m in taken))
        at = self._clock()
        for message in taken:
            if reason is None:
                self.book.delivered(message.alert.id, message.what, at)
            else:
                self.book.not_delivered(message.alert.id, message.what, reason, at)
        if reason is None:
            self._tell(f"told: {title}")
        else:
            self._tell(f"a message could not be delivered and is tried again: {title} ({reason})")
        return len(taken)

    def _due(self, now: float) -> list[_Message]:
        due = []
        alerts = self.book.all(now)
        # what one rule finds in two ways is one thing to the reader
        told = {alert.rule for alert in alerts if alert.open and "opened" in self._sent(alert)}
        for alert in alerts:
            what = self._message(alert, now)
            if what == "opened" and alert.rule in told:
                continue
            if what is not None and alert.muted_until is None and self._may_try(alert, f"{what}{self._suffix}", now):
                due.append(_Message(alert, f"{what}{self._suffix}"))
        return sorted(due, key=lambda m: (not m.alert.severe, m.alert.began))

    @property
    def _suffix(self) -> str:
        return f" to {self._address}" if self._address else ""

    def _sent(self, alert: Alert) -> dict[str, float]:
        """What this address heard of an alert, and when."""
        suffix = self._suffix
        told = {what.removesuffix(suffix): at for what, at in alert.sent.items() if what.endswith(suffix)}
        return told if suffix else {what: at for what, at in told.items() if " to " not in what}

    def _message(self, alert: Alert, now: float) -> str | None:
        """Which message about an alert is still to be sent."""
        sent = self._sent(alert)
        if "opened" not in sent:
            old = now - alert.began > GIVEN_UP
            known = alert.acknowledged is not None or alert.recovered is not None
            return None if old or known else "opened"
        if alert.recovered is not None:
            told = max((at for what, at in sent.items() if what.startswith("recovered")), default=0.0)
            wanted = self.settings.recovery and told < alert.recovered and now - alert.recovered < GIVEN_UP
            return f"recovered {alert.times}" if wanted else None
        if alert.acknowledged is not None:
            return None
        if max(sent, key=lambda what: sent[what]).startswith("recovered"):
            # whoever was told that it is over has to know that it is not
            return f"again {alert.times}"
        if self.settings.remind <= 0:
            return None
        reminders = sum(what.startswith("reminder") for what in sent)
        due = max(sent.values()) + 60 * self.settings.remind
        # a session that ended is open for ever: nobody is reminded of it for days
        return f"reminder {reminders + 1}" if due <= now < alert.began + GIVEN_UP else None

    def _may_try(self, alert: Alert, what: str, now: float) -> bool:
        tries = alert.undelivered.get(what, [])
        # what lies ahead was written before this host's clock was put back
        return not tries or abs(now - tries[-1][0]) >= min(30.0 * 2 ** min(len(tries) - 1, 10), LatestTry)

    def _times(self, since: float) -> list[float]:
        """When messages were sent here; alerts told of together carry one time, and none lies far ahead."""
        until = self._clock() + CLAIM
        return sorted({at for alert in self.book.all() for at in self._sent(alert).values() if since < at <= until})

    def _may_send(self, now: float) -> bool:
        sent = self._times(now - 3600)
        if len(sent) >= self.settings.most_per_hour:
            return False
        return not sent or now - sent[-1] >= self.settings.least_seconds

    def _words(self, messages: Sequence[_Message]) -> tuple[str, str]:
        name = f"{self._title}: " if self._title else ""
        if len(messages) > 1:
            return f"{name}{len(messages)} alerts", "\n".join(_line(message) for message in messages)
        message = messages[0]
        at = clock.strftime("%H:%M", clock.localtime(message.alert.began))
        title = f"{name}{_line(message)}"
        parts = [f"Since {at}."]
        if message.what.startswith("recovered") and message.alert.recovered is not None:
            over = clock.strftime("%H:%M", clock.localtime(message.alert.recovered))
            parts = [f"From {at} to {over}."]
        elif message.alert.hint:
            parts.append(message.alert.hint)
        return title, " ".join(parts)


def _line(message: _Message) -> str:
    sentence = message.alert.sentence
    if message.what.startswith("recovered"):
        return f"Recovered: {sentence}"
    if message.what.startswith("again"):
        return f"Again: {sentence}"
    return f"Still: {sentence}" if message.what.startswith("reminder") else sentence
