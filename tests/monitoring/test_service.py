"""The night watch beside a process: it watches, publishes and tells, and never ends what it watches."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import pytest

from focusnb.monitoring import history, service
from focusnb.monitoring.alerts import AlertBook
from focusnb.monitoring.delivery import write_delivery
from focusnb.monitoring.microscopes import fetch_from
from focusnb.monitoring.rules import Check, DriftRule, set_rule
from focusnb.monitoring.service import Monitoring, Watch
from focusnb.monitoring.settings import DeliverySettings, PublishSettings, write_publishing
from focusnb.monitoring.snapshot import read_snapshot
from tests.monitoring.conftest import Recorded


@pytest.fixture(autouse=True)
def state_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))


def until(condition: Callable[[], object], seconds: float = 15) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.02)


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


def test_the_watch_runs_beside_and_takes_changed_settings(
    recorded: Recorded, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, told = recorded.project.folder, list[str]()
    monkeypatch.setattr(service, "DELIVERY", 0.05)
    (folder / "monitoring").mkdir()
    (folder / "monitoring" / "publish.json").write_text("{")
    with Monitoring(folder, tell=told.append):
        # settings that cannot be read are told, and taken when they can
        until(lambda: any("publish.json" in text for text in told))
    assert 1 <= sum("publish.json" in text for text in told) <= 2
    write_publishing(folder, PublishSettings(refresh=2), (str(tmp_path / "out"),))
    with Monitoring(folder, tell=told.append):
        until(lambda: (tmp_path / "out" / "status.json").is_file())
    assert read_snapshot(fetch_from(str(tmp_path / "out"))).status["refresh"] == 2


def test_messages_that_cannot_be_sent_are_told_in_the_log(recorded: Recorded, monkeypatch: pytest.MonkeyPatch) -> None:
    folder, told = recorded.project.folder, list[str]()
    monkeypatch.setattr(service, "DELIVERY", 0.05)
    write_delivery(folder, DeliverySettings(timeout=1), ["json://127.0.0.1:1/none"])
    book = AlertBook(folder)
    book.open(DriftRule(), Check("drift.far", True, "It drifts"), time.time())
    with Monitoring(folder, tell=told.append):
        until(lambda: any("could not be delivered" in text for text in told))
    [alert] = [alert for alert in book.all() if alert.key == "drift.far"]
    assert list(alert.undelivered.values())
