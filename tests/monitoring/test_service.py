"""The night watch beside a process: it watches, publishes and tells, and never ends what it watches."""

from __future__ import annotations

import stat
import threading
import time
from pathlib import Path

import pytest

from focusnb.errors import ProjectError
from focusnb.monitoring import history, service
from focusnb.monitoring.alerts import AlertBook
from focusnb.monitoring.delivery import Courier, Sender, write_delivery
from focusnb.monitoring.microscopes import fetch_from
from focusnb.monitoring.rules import Check, DriftRule, set_rule
from focusnb.monitoring.service import Monitoring, Watch
from focusnb.monitoring.settings import DeliverySettings, PublishSettings, Tell, write_publishing
from focusnb.monitoring.snapshot import read_snapshot
from tests.cli.test_cli import focusnb
from tests.monitoring.conftest import Recorded
from tests.waiting import wait_until


@pytest.fixture(autouse=True)
def state_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))


def test_one_round_sees_publishes_alerts_and_remembers(recorded: Recorded, tmp_path: Path) -> None:
    folder, told = recorded.project.folder, list[str]()
    write_publishing(folder, PublishSettings(title="T"), (str(tmp_path / "out"), "nonsense://x"))
    set_rule(folder, "drift", {"high": 0.5})
    watch = Watch(recorded.project, clock=recorded.recorder.clock, tell=told.append)
    snapshot, settings = watch.step()
    assert settings.title == "T"
    watch.close()
    read = read_snapshot(fetch_from(str(tmp_path / "out")))
    assert read.status["alerts"][0]["key"] == "drift.far"
    assert read.status == snapshot.status
    [alert] = AlertBook(folder).all()
    assert (watch.maker.book.picture(alert) or b"").startswith(b"\x89PNG")
    assert any(text.startswith("alert: ") for text in told)
    assert any("nonsense://" in text for text in told)
    assert len(history.past_sessions()) == 1


def test_a_limit_that_the_owner_moves_is_told_to_every_page_and_followed(recorded: Recorded) -> None:
    folder = recorded.project.folder
    watch = Watch(recorded.project, clock=recorded.recorder.clock)
    seen = []
    for options in ((), ("--high", 0.5), ("--reset", "high"), ("--no-limit", "high")):
        if options:
            assert focusnb("alerts", "set", folder, "drift", *options).status == 0
        status = watch.step()[0].status
        told = [alert["state"] for alert in status["alerts"] if alert["key"] == "drift.far"]
        seen.append((status["quantities"]["drift"]["high"], told))
    watch.close()
    assert seen[:3] == [(50.0, []), (0.5, ["new"]), (50.0, ["recovered"])]
    assert seen[3][0] is None
    # what is no limit is refused, and the one before stays
    assert focusnb("alerts", "set", folder, "drift", "--high", -1).status != 0
    assert watch.step()[0].status["quantities"]["drift"]["high"] is None


def test_the_watch_runs_beside_and_takes_changed_settings(
    recorded: Recorded, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, told = recorded.project.folder, list[str]()
    monkeypatch.setattr(service, "DELIVERY", 0.05)
    (folder / "monitoring").mkdir()
    (folder / "monitoring" / "publish.json").write_text("{")
    with Monitoring(folder, tell=told.append):
        # settings that cannot be read are told, and taken when they can
        wait_until(lambda: any("publish.json" in text for text in told))
    assert 1 <= sum("publish.json" in text for text in told) <= 2
    write_publishing(folder, PublishSettings(refresh=2), (str(tmp_path / "out"),))
    with Monitoring(folder, tell=told.append):
        wait_until(lambda: (tmp_path / "out" / "status.json").is_file())
    assert read_snapshot(fetch_from(str(tmp_path / "out"))).status["refresh"] == 2


def test_messages_that_cannot_be_sent_are_told_in_the_log(recorded: Recorded, monkeypatch: pytest.MonkeyPatch) -> None:
    folder, told = recorded.project.folder, list[str]()
    monkeypatch.setattr(service, "DELIVERY", 0.05)
    write_delivery(folder, DeliverySettings(timeout=1), ["json://127.0.0.1:1/none"])
    book = AlertBook(folder)
    book.open(DriftRule(), Check("drift.far", True, "It drifts"), time.time())
    with Monitoring(folder, tell=told.append):
        wait_until(lambda: any("could not be delivered" in text for text in told))
    [alert] = [alert for alert in book.all() if alert.key == "drift.far"]
    assert list(alert.undelivered.values())


def test_settings_that_cannot_be_read_keep_no_alert_from_being_raised(recorded: Recorded) -> None:
    folder = recorded.project.folder
    set_rule(folder, "drift", {"high": 0.5})
    for text in ("{", '{"targets": "/srv/www"}', '{"settings": ["blur"]}'):
        (folder / "monitoring" / "publish.json").write_text(text)
        with pytest.raises(ProjectError, match=r"publish\.json"):
            Watch(recorded.project, clock=recorded.recorder.clock).step()
    assert [alert.key for alert in AlertBook(folder).all()] == ["drift.far"]


def test_a_disk_on_which_no_alert_can_be_kept_is_seen_outside(
    recorded: Recorded, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = recorded.project.folder
    set_rule(folder, "drift", {"high": 0.5})
    write_publishing(folder, PublishSettings(), (str(tmp_path / "out"),))

    def full(*_: object, **__: object) -> None:
        raise ProjectError("no space left")

    monkeypatch.setattr(AlertBook, "_write", full)
    watch = Watch(recorded.project, clock=recorded.recorder.clock)
    with pytest.raises(ProjectError, match="no space left"):
        watch.step()
    watch.close()
    assert read_snapshot(fetch_from(str(tmp_path / "out"))).status["counts"]["images"] > 0


def test_a_target_that_refuses_keeps_no_other_from_being_published_to(recorded: Recorded, tmp_path: Path) -> None:
    folder, told = recorded.project.folder, list[str]()
    refusing = "ftp://operator:secret@127.0.0.1:1/x"
    write_publishing(folder, PublishSettings(), (refusing, "nonsense://x", str(tmp_path / "out")))
    assert stat.S_IMODE((folder / "monitoring" / "publish.json").stat().st_mode) == 0o600
    watch = Watch(recorded.project, clock=recorded.recorder.clock, tell=told.append)
    watch.step()
    watch.step()
    watch.close()
    assert (tmp_path / "out" / "status.json").is_file()
    assert any(text.startswith("ftp://operator:****@127.0.0.1:1/x: cannot be published to") for text in told)
    assert not any("secret" in text for text in told)
    # what is no target at all is told once, not every half a minute
    assert sum("nonsense://" in text for text in told) == 1


def test_a_server_that_never_ends_its_answer_keeps_nobody_else_from_hearing(
    recorded: Recorded, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, heard, hang = recorded.project.folder, list[str](), threading.Event()
    monkeypatch.setattr(service, "DELIVERY", 0.02)

    def sender(url: str, timeout: float) -> Sender:
        def send(title: str, body: str, picture: bytes | None, *, urgent: bool = False) -> str | None:
            if "hangs" in url:
                hang.wait(120)
            heard.append(url)
            return None

        return send

    def made(folder: Path, *, tell: Tell) -> list[Courier]:
        return couriers(folder, tell=tell, make=sender)

    couriers = service.couriers
    monkeypatch.setattr(service, "couriers", made)
    write_delivery(folder, DeliverySettings(), ["json://hangs", "json://hears"])
    AlertBook(folder).open(DriftRule(), Check("drift.far", True, "It drifts"), time.time())
    with Monitoring(folder):
        wait_until(lambda: "json://hears" in heard)
        assert "json://hangs" not in heard
        hang.set()
        wait_until(lambda: "json://hangs" in heard)
    assert heard.count("json://hears") == 1
