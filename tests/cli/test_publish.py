"""publish, report and alerts on the command line, and the watch within serve."""

from __future__ import annotations

import http.server
import json
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from focusnb.monitoring.alerts import AlertBook
from focusnb.monitoring.delivery import read_delivery
from focusnb.monitoring.microscopes import fetch_from
from focusnb.monitoring.rules import Check, DriftRule
from focusnb.monitoring.settings import PublishSettings, read_publishing
from focusnb.monitoring.snapshot import read_snapshot
from tests.cli.test_cli import focusnb, shell
from tests.projects import make_project, write_shots


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project with an exposure that waits."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    with make_project(tmp_path / "project") as project:
        project.add(write_shots(tmp_path / "camera", secret_sample="1\n"))
    return tmp_path / "project"


@pytest.fixture
def hook() -> Iterator[Any]:
    class Hook(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            received.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(200)
            self.end_headers()

        def log_message(self, *arguments: object) -> None:
            pass

    received: list[Any] = []
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Hook)
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    yield received, f"json://127.0.0.1:{server.server_address[1]}/x"
    server.shutdown()
    server.server_close()


def test_publish_once(folder: Path, tmp_path: Path) -> None:
    ended = focusnb("publish", folder, tmp_path / "out", "--title", "Titan 1", "--blur", 300)
    assert (ended.status, ended.out) == (0, b""), ended.err
    assert "open index.html there" in ended.err
    snapshot = read_snapshot(fetch_from(str(tmp_path / "out")))
    assert (snapshot.status["title"], snapshot.status["blur"]) == ("Titan 1", 300.0)
    assert snapshot.status["counts"]["waiting"] == 1
    assert "secret" not in json.dumps(snapshot.status)
    # settings given for once are not kept
    assert read_publishing(folder) == (PublishSettings(), ())


def test_settings_and_targets_are_kept_and_dropped(folder: Path, tmp_path: Path) -> None:
    assert focusnb("publish", folder, "--title", "Titan 1", "--names").status == 0
    assert focusnb("publish", folder, tmp_path / "out", "--keep", "--every", 5).status == 0
    settings, targets = read_publishing(folder)
    assert (settings.title, settings.names, settings.refresh) == ("Titan 1", True, 5.0)
    assert targets == (str(tmp_path / "out"),)
    told = focusnb("publish", folder)
    assert str(tmp_path / "out") in told.err
    assert "Titan 1" in told.err
    assert focusnb("publish", folder, tmp_path / "out", "--drop").status == 0
    assert read_publishing(folder)[1] == ()
    again = focusnb("publish", folder, tmp_path / "out", "--drop")
    assert (again.status, "nothing" in again.err) == (2, True)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--follow",), "give the target"),
        (("https://example.org/x",), "publish to the folder that this server shows"),
        (("out", "--blur", "-1"), "blur = -1.0"),
    ],
)
def test_wrong_use_is_told(folder: Path, arguments: tuple[str, ...], message: str) -> None:
    ended = focusnb("publish", folder, *arguments)
    assert (ended.status, message in ended.err) == (2, True), ended.err
    assert focusnb("publish", folder.parent / "none").status == 1


def test_a_report(folder: Path, tmp_path: Path) -> None:
    ended = focusnb("report", folder, tmp_path / "report")
    assert ended.status == 0, ended.err
    assert (tmp_path / "report" / "report.html").is_file()
    assert "secret" not in (tmp_path / "report" / "report.html").read_text()


def test_alerts_from_the_first_look_to_the_acknowledgement(folder: Path, hook: Any) -> None:
    received, url = hook
    assert "Nothing is wrong" in focusnb("alerts", "list", folder).err
    alert, _ = AlertBook(folder).open(DriftRule(), Check("drift.far", True, "It drifts", "the stage"), time.time())
    listed = focusnb("alerts", "list", folder)
    assert "It drifts" in listed.out.decode()
    assert "the stage" in listed.err
    assert "Acknowledged: It drifts" in focusnb("alerts", "acknowledge", folder, alert.id[-4:]).err
    assert "acknowledged" in focusnb("alerts", "list", folder).out.decode()
    assert "Nothing is open" in focusnb("alerts", "acknowledge", folder, "--all").err
    assert focusnb("alerts", "acknowledge", folder).status == 2
    assert "muted until" in focusnb("alerts", "mute", folder, "all", "--minutes", 5).err
    assert AlertBook(folder).muted_until("ice", time.time()) is not None
    assert focusnb("alerts", "mute", folder, "weather").status == 2

    assert focusnb("alerts", "test", folder).status == 2
    assert focusnb("alerts", "send-to", folder, "nonsense://x").status == 2
    secret = url.replace("json://", "json://user:secret@")
    assert "secret" not in focusnb("alerts", "send-to", folder, secret, "--remind", 30).err
    assert "taken" in focusnb("alerts", "test", folder).err
    assert received[0]["title"] == "project: a test"
    assert "Nobody is told" in focusnb("alerts", "send-to", folder, "--remove", 1).err
    assert focusnb("alerts", "send-to", folder, "--remove", 1).status == 2


def test_rules_are_listed_and_set(folder: Path) -> None:
    assert "AstigmatismRule" not in focusnb("alerts", "rules", folder).out.decode()
    ended = focusnb("alerts", "set", folder, "drift", "--high", 80, "--no-limit", "rise")
    assert ended.status == 0, ended.err
    assert "high = 80.0 Å" in ended.err
    assert "rise = none" in ended.err
    assert "80.0 Å (default 50.0)" in focusnb("alerts", "rules", folder).out.decode()
    assert "high = 50.0 Å" in focusnb("alerts", "set", folder, "drift", "--reset", "high").err
    assert focusnb("alerts", "set", folder, "drift", "--high", -3).status == 2
    assert focusnb("alerts", "set", folder, "weather").status == 2
    assert "--at-least" in focusnb("alerts", "set", folder, "drift", "--help").out.decode()


def test_a_process_that_serves_publishes_and_sends(folder: Path, tmp_path: Path, hook: Any) -> None:
    received, url = hook
    assert focusnb("publish", folder, tmp_path / "out", "--keep", "--every", 2).status == 0
    assert focusnb("alerts", "send-to", folder, url).status == 0
    AlertBook(folder).open(DriftRule(), Check("drift.rise", True, "It drifts"), time.time())
    began = shell("serve", folder, "--workers", 0)
    assert began.status == 0, began.err
    try:
        deadline = time.monotonic() + 120
        while not (received and (tmp_path / "out" / "status.json").is_file()):
            assert time.monotonic() < deadline, (folder / "logs" / "serve.log").read_text()
            time.sleep(0.05)
    finally:
        assert shell("stop", folder).status == 0
    assert received[0]["title"].endswith("It drifts")
    log = (folder / "logs" / "serve.log").read_text()
    assert "told: project: It drifts" in log
    assert "not watched" not in log
    # what was seen last was published before the process ended
    assert read_snapshot(fetch_from(str(tmp_path / "out"))).status["speed"]["served"] in (True, False)


def test_addresses_that_look_alike_keep_their_numbers(folder: Path) -> None:
    urls = ["json://127.0.0.1/secret-a", "json://127.0.0.1/secret-b"]
    shown = focusnb("alerts", "send-to", folder, *urls).err
    assert "1  json://127.0.0.1/****" in shown
    assert "2  json://127.0.0.1/****" in shown
    assert "secret" not in shown
    assert focusnb("alerts", "send-to", folder, "--remove", "1").status == 0
    assert read_delivery(folder)[1] == ("json://127.0.0.1/secret-b",)


def test_the_password_of_a_target_is_not_shown(folder: Path) -> None:
    target = "ftp://operator:secret@127.0.0.1:1/x"
    ended = focusnb("publish", folder, target)
    assert ended.status != 0
    assert "ftp://operator:****@127.0.0.1:1/x: cannot be published to" in ended.err
    shown = focusnb("publish", folder, target, "--keep").err + focusnb("publish", folder).err
    shown += focusnb("publish", folder, target, "--drop").err
    assert "operator:****@" in shown
    assert "secret" not in shown + ended.err
