"""Messages: to a local mail server and a local web hook, once, not too many, again where nobody answered."""

from __future__ import annotations

import base64
import email
import http.server
import itertools
import json
import socketserver
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from focusnb.errors import ParameterError
from focusnb.monitoring.alerts import AlertBook
from focusnb.monitoring.delivery import (
    Courier,
    apprise_sender,
    check_url,
    read_delivery,
    write_delivery,
)
from focusnb.monitoring.rules import Check, CountsRule, DriftRule
from focusnb.monitoring.service import address_of, couriers
from focusnb.monitoring.settings import DeliverySettings
from focusnb.project.project import Project
from tests.monitoring.sinks import Hook, Mail, hook_url, mail_url, serve

NOW = 1_790_000_000.0


@pytest.fixture
def mail() -> Iterator[Any]:
    yield from serve(Mail, socketserver.ThreadingTCPServer)


@pytest.fixture
def hook() -> Iterator[Any]:
    yield from serve(Hook, http.server.ThreadingHTTPServer)


class Sender:
    """Stands for a service that fails as often as it is told to."""

    def __init__(self, failures: int = 0) -> None:
        self.failures = failures
        self.sent: list[tuple[str, str, bytes | None]] = []
        self.tries = 0

    def __call__(self, title: str, body: str, picture: bytes | None, *, urgent: bool = False) -> str | None:
        self.tries += 1
        if self.failures > 0:
            self.failures -= 1
            return "nobody answers"
        self.sent.append((title, body, picture))
        return None


class Desk:
    """A courier with a clock and a service of its own."""

    def __init__(self, folder: Path, failures: int = 0, **settings: Any) -> None:
        self.now = NOW
        self.book = AlertBook(folder)
        self.sender = Sender(failures)
        self.told: list[str] = []
        self.courier = Courier(
            self.book, self.sender, DeliverySettings(**settings), clock=lambda: self.now, tell=self.told.append
        )

    def open(self, key: str = "drift.far", picture: bytes | None = b"PNG") -> str:
        rule = CountsRule() if key.startswith("counts") else DriftRule(severe=False)
        rule = rule if key.startswith(("counts", "drift")) else type(rule)()
        check = Check(key, True, f"It is {key}", "look there")
        return self.book.open(rule, check, self.now, lambda: picture)[0].id

    def wait(self, seconds: float, step: float = 5.0) -> int:
        """Let time pass; returns how many messages were sent meanwhile."""
        before, end = len(self.sender.sent), self.now + seconds
        while self.now < end:
            self.now += step
            self.courier.step()
        return len(self.sender.sent) - before


def test_a_message_by_mail_and_by_web_hook_with_its_picture(mail: Any, hook: Any) -> None:
    picture = b"\x89PNG\r\n\x1a\n" + bytes(range(256))
    for url in (mail_url(mail), hook_url(hook)):
        assert apprise_sender(url)("Titan: Drift rose to 77 Å", "Since 03:12. The stage.", picture, urgent=True) is None
    [raw] = mail.received
    message = email.message_from_bytes(raw)
    assert "operator@example.org" in message["To"]
    subject, charset = email.header.decode_header(message["Subject"])[0]
    assert (
        subject.decode(charset or "ascii") if isinstance(subject, bytes) else subject
    ) == "Titan: Drift rose to 77 Å"
    parts = list(message.walk())
    assert any("The stage" in str(part.get_payload(decode=True)) for part in parts if "text" in part.get_content_type())
    assert [part.get_payload(decode=True) for part in parts if part.get_content_type() == "image/png"] == [picture]
    [body] = hook.received
    told = json.loads(body)
    assert (told["title"], told["type"]) == ("Titan: Drift rose to 77 Å", "failure")
    assert base64.b64decode(told["attachments"][0]["base64"]) == picture


def test_why_a_message_was_not_taken_is_told_without_the_password(hook: Any) -> None:
    hook.answer = 503
    port = hook.server_address[1]
    reason = apprise_sender(f"json://user:secret@127.0.0.1:{port}/x")("title", "body", None)
    assert reason is not None
    assert "503" in reason
    assert "secret" not in reason
    hook.shutdown()
    hook.server_close()
    reason = apprise_sender(f"json://127.0.0.1:{port}/x", timeout=2)("title", "body", None)
    assert reason is not None
    assert str(port) in reason


def test_addresses_are_checked_and_kept_to_their_owner(empty: Project) -> None:
    for wrong in ("nonsense", "nonsense://x", "mailto://", ""):
        with pytest.raises(ParameterError, match="no address that messages can be sent to"):
            check_url(wrong)
    url = "mailtos://user:secret@example.org?to=a@example.org"
    assert "secret" not in check_url(url)
    write_delivery(empty.folder, DeliverySettings(remind=0), [url])
    assert read_delivery(empty.folder) == (DeliverySettings(remind=0), (url,))
    path = empty.folder / "monitoring" / "delivery.json"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert "secret" not in address_of(url)
    assert read_delivery(empty.folder / "elsewhere") == (DeliverySettings(), ())


def test_an_alert_is_told_once_and_its_end_as_well(tmp_path: Path) -> None:
    desk = Desk(tmp_path)
    identity = desk.open()
    assert desk.wait(30) == 1
    assert desk.wait(1800) == 0
    title, body, picture = desk.sender.sent[0]
    assert (title, picture) == ("It is drift.far", b"PNG")
    assert "look there" in body
    desk.book.recover(identity, desk.now)
    assert desk.wait(600) == 1
    assert desk.sender.sent[-1][0] == "Recovered: It is drift.far"
    # after a restart as well
    again = Desk(tmp_path)
    again.now = desk.now
    assert again.wait(7200) == 0


def test_what_is_over_before_it_was_told_is_not_told(tmp_path: Path) -> None:
    desk = Desk(tmp_path)
    desk.book.recover(desk.open(), desk.now)
    assert desk.wait(600) == 0


def test_reminders_end_when_somebody_knows(tmp_path: Path) -> None:
    desk = Desk(tmp_path, remind=60)
    identity = desk.open()
    assert desk.wait(3 * 3600 + 60) == 4
    assert desk.sender.sent[-1][0].startswith("Still: ")
    desk.book.acknowledge(identity, now=desk.now)
    assert desk.wait(3 * 3600) == 0
    assert Desk(tmp_path / "other", remind=0).wait(10) == 0


def test_what_is_muted_is_told_when_the_mute_ends(tmp_path: Path) -> None:
    desk = Desk(tmp_path)
    desk.book.mute("drift", desk.now + 900, now=desk.now)
    desk.open()
    assert desk.wait(895) == 0
    assert desk.wait(60) == 1


def test_a_message_that_cannot_be_delivered_is_tried_again_and_told(tmp_path: Path) -> None:
    desk = Desk(tmp_path, failures=3)
    desk.open()
    assert desk.wait(20) == 0
    assert "could not be delivered and is tried again" in desk.told[0]
    assert desk.book.all(desk.now)[0].public()["undelivered"]
    assert desk.wait(600) == 1
    assert desk.sender.tries == 4
    assert not desk.book.all(desk.now)[0].public()["undelivered"]
    # longer and longer between the tries: 30, 60, 120 s
    times = [at for at, _ in desk.book.all(desk.now)[0].undelivered["opened"]]
    assert [round(b - a) for a, b in itertools.pairwise(times)] == [30, 60]


def test_a_storm_of_alerts_is_told_together_and_in_bounds(tmp_path: Path) -> None:
    desk = Desk(tmp_path, most_per_hour=4, remind=0)
    for number in range(6):
        check = Check(f"key{number}", True, f"wrong {number}")
        rule = DriftRule()
        object.__setattr__(rule, "__class__", type(f"Rule{number}", (DriftRule,), {"rule": f"rule{number}"}))
        desk.book.open(rule, check, desk.now)
    assert desk.wait(30) == 1
    title, body, picture = desk.sender.sent[0]
    assert title == "6 alerts"
    assert body.splitlines() == [f"wrong {number}" for number in range(6)]
    assert picture is None
    for turn in range(40):
        desk.open(f"counts.{turn}")
        desk.book.recover(desk.book.all()[-1].id, desk.now + 1)
        desk.open(f"counts.again{turn}")
        desk.wait(60)
    assert len(desk.sender.sent) <= 4


def test_two_ways_of_one_rule_are_one_message(tmp_path: Path) -> None:
    desk = Desk(tmp_path)
    first = desk.open("drift.far")
    desk.wait(30)
    second = desk.open("drift.rise")
    assert desk.wait(600) == 0
    desk.book.recover(first, desk.now)
    assert desk.wait(300) == 2  # the first is over, the second goes on
    desk.book.recover(second, desk.now)
    assert desk.wait(300) == 1


def test_urgent_ones_go_first(tmp_path: Path) -> None:
    desk = Desk(tmp_path)
    desk.open("drift.far")
    desk.open("counts.dark")
    desk.wait(5)
    assert desk.sender.sent[0][0] == "It is counts.dark"


def test_each_address_hears_for_itself(empty: Project, hook: Any) -> None:
    hook.answer = 500
    good, bad = Sender(), Sender(failures=1000)
    write_delivery(empty.folder, DeliverySettings(least_seconds=0, remind=0), ["json://good", "json://bad"])
    now = [NOW]
    made = couriers(
        empty.folder,
        tell=lambda text: None,
        make=lambda url, timeout: good if "good" in url else bad,
        clock=lambda: now[0],
    )
    AlertBook(empty.folder).open(DriftRule(), Check("drift.far", True, "It drifts"), NOW)
    for _ in range(200):
        now[0] += 30
        for courier in made:
            courier.step()
    assert len(good.sent) == 1
    assert bad.tries > 5
    assert good.sent[0][0].startswith(f"{empty.name}: ")


@pytest.mark.parametrize(
    "url",
    [
        "json://user:secret@127.0.0.1:1/hooks/secret?+Authorization=secret",
        "form://127.0.0.1:1/secret",
        "xmls://127.0.0.1:1/a/secret?-key=secret",
        "workflows://127.0.0.1:1/secretWorkflowWorkflow/secretSignature",
        "ntfy://127.0.0.1:1/secret",
    ],
)
def test_what_lets_others_write_to_an_address_is_never_shown(url: str) -> None:
    assert "secret" not in check_url(url)
    assert "127.0.0.1" in check_url(url)
    reason = apprise_sender(url, timeout=2)("title", "body", None)
    assert reason is not None
    assert "secret" not in reason


def test_nobody_is_reminded_for_days_of_a_session_that_ended(tmp_path: Path) -> None:
    desk = Desk(tmp_path, remind=240)
    desk.open()
    assert desk.wait(24 * 3600 + 60) == 6
    assert desk.wait(24 * 3600) == 0


def test_a_clock_that_was_put_back_silences_nobody(tmp_path: Path) -> None:
    desk = Desk(tmp_path)
    desk.open("drift.far")
    assert desk.wait(30) == 1
    desk.now -= 30 * 86400
    desk.open("counts.dark")
    assert desk.wait(30) == 1
    (tmp_path / "other").mkdir()
    failing = Desk(tmp_path / "other", failures=1)
    failing.open()
    failing.wait(5)
    failing.now -= 30 * 86400
    assert failing.wait(60) == 1


@pytest.mark.parametrize("remind", [0.0, 60.0])
def test_what_comes_again_after_its_end_was_told_is_told(tmp_path: Path, remind: float) -> None:
    desk = Desk(tmp_path, remind=remind)
    identity = desk.open()
    desk.wait(30)
    desk.book.recover(identity, desk.now)
    assert desk.wait(120) == 1
    assert desk.open() == identity
    assert desk.wait(600) == 1
    assert desk.sender.sent[-1][0] == "Again: It is drift.far"
    desk.book.recover(identity, desk.now)
    assert desk.wait(600) == 1
    assert desk.sender.sent[-1][0].startswith("Recovered: ")
