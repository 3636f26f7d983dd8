"""The monitor without a browser: what is told of a microscope in every state, and what its browser may ask for."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from focusnb.monitoring.microscopes import Glance, Microscope, Microscopes
from focusnb.monitoring.publish import Publisher
from focusnb.monitoring.snapshot import SnapshotMaker, make_snapshot
from focusnb.panels.monitor import Monitor
from focusnb.panels.monitor_cards import card, waiting_card
from focusnb.project.project import Project
from tests.monitoring.conftest import add_shades
from tests.monitoring.nights import HOUR, MINUTE, Night, Recorder, make_night, make_project


class Clock:
    """Tells a time of its own."""

    def __init__(self, now: float) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Night]:
    """An hour and a half of a night."""
    folder = tmp_path_factory.mktemp("night") / "secret_sample"
    night = make_night(9200, hours=1.5, faults=[])
    with make_project(folder) as project:
        Recorder(project, night).go(night.end)
        project.library.checkpoint()
    return folder, night


@pytest.fixture
def session(template: tuple[Path, Night], tmp_path: Path) -> tuple[Path, Clock]:
    folder, night = template
    shutil.copytree(folder, tmp_path / "secret_sample")
    return tmp_path / "secret_sample", Clock(night.end)


def _card(microscope: Microscope, clock: Clock) -> dict[str, Any]:
    microscopes = Microscopes([microscope], clock=clock)
    told = card(microscopes.look(microscope.name), microscope)
    microscopes.close()
    return told


def _publish(project: Path, target: Path, clock: Clock) -> None:
    with Project.open(project) as opened:
        Publisher(str(target), clock=clock, page=None).publish(SnapshotMaker(opened, clock=clock).make())


def test_the_state_is_told_in_a_word_a_level_and_a_shape(session):
    folder, clock = session
    titan = Microscope("titan1", folder)
    told = _card(titan, clock)
    assert (told["word"], told["since"], told["headline"]) == ("Recording", None, "")
    assert told["sentence"].startswith(f"{told['rate']:.0f} images in the last hour")
    assert told["last_image"] == pytest.approx(clock.now, abs=3 * MINUTE)
    assert 0.9 < told["usable"] <= 1
    assert told["values"][0]["name"] == "mean_counts"
    last, clock.now = told["last_image"], told["last_image"] + 12 * MINUTE
    told = _card(titan, clock)
    assert (told["word"], told["since"], told["level"], told["shape"]) == ("Idle", last, "warning", "warning")
    assert told["sentence"].startswith("No new image for 12 min")
    clock.now = last + 3 * HOUR
    told = _card(titan, clock)
    assert (told["word"], told["since"], told["level"], told["shape"]) == ("Stopped", last, "idle", "queued")


def test_failing_and_empty_sessions(session, tmp_path):
    folder, clock = session
    with Project.open(folder) as project, project.library.write() as transaction:
        for identity in project.ids(status="done")[-8:]:
            transaction.update_exposure(
                identity, {"status": "failed", "reason": f"/camera/{identity}.tif: is cut short"}
            )
    told = _card(Microscope("titan1", folder), clock)
    assert (told["word"], told["level"], told["shape"]) == ("Failing", "bad", "failed")
    assert "could not be processed" in told["sentence"]
    make_project(tmp_path / "new").close()
    told = _card(Microscope("titan1", tmp_path / "new"), clock)
    assert (told["word"], told["level"], told["last_image"], told["usable"]) == ("No image yet", "idle", None, None)


def test_a_published_session_gets_stale_goes_away_and_comes_back(session, tmp_path):
    folder, clock = session
    published = tmp_path / "shown_to_nobody"
    _publish(folder, published, clock)
    microscope = Microscope("glacios", published=str(published))
    microscopes = Microscopes([microscope], clock=clock)

    def look() -> dict[str, Any]:
        return card(microscopes.look("glacios"), microscope)

    made = pytest.approx(clock.now, abs=0.01)
    assert look()["word"] == "Recording"
    clock.now += 10 * MINUTE
    told = look()
    assert (told["word"], told["since"], told["level"], told["was"]) == ("Stale", made, "warning", "Recording")
    clock.now += HOUR
    assert (look()["word"], look()["level"]) == ("Stale", "bad")
    clock.now -= HOUR
    published.rename(tmp_path / "away")
    told = look()
    assert (told["word"], told["since"], told["level"], told["was"]) == ("Not reachable", made, "bad", "Recording")
    assert told["sentence"] == "Nothing is there; see that its disk is mounted"
    (tmp_path / "away").rename(published)
    _publish(folder, published, clock)
    assert look()["word"] == "Idle"


def test_what_was_never_reached_says_why_and_names_no_place(session, tmp_path):
    _, clock = session
    for microscope in (
        Microscope("a", tmp_path / "secret_sample_2"),
        Microscope("b", published=str(tmp_path / "secret_sample_3")),
        Microscope("c", published="http://127.0.0.1:9/secret_sample"),
    ):
        told = _card(microscope, clock)
        assert (told["word"], told["level"], told["shape"]) == ("Not reachable", "bad", "failed")
        assert told["sentence"]
        assert "secret" not in str(told)
        assert str(tmp_path) not in str(told)


def test_an_alert_nobody_has_seen_to_is_the_headline(session):
    folder, clock = session
    with Project.open(folder) as project:
        snapshot = make_snapshot(project)
    alert = {
        "id": "1", "sentence": "Counts fell by 37 %: 0.70 e⁻/px/frame", "hint": "The slit.", "began": clock.now,
        "severe": True, "state": "new", "undelivered": False, "recovered": None,
    }  # fmt: skip
    over = {**alert, "id": "2", "sentence": "Drift rose", "recovered": clock.now}
    lesser = {**alert, "id": "3", "sentence": "The disk is full in 7 h", "severe": False}
    seen = {**alert, "state": "acknowledged"}

    def told(*alerts: dict[str, Any]) -> dict[str, Any]:
        status = {**snapshot.status, "alerts": list(alerts)}
        glance = Glance("t", "recording", "", "bad", snapshot=type(snapshot)(status, {}))
        return card(glance, Microscope("t", folder))

    assert told(over)["alerts"] == []
    assert told(alert, over)["headline"] == "Counts fell by 37 %"
    assert told(lesser, alert)["headline"] == "Counts fell by 37 %, and 1 more"
    assert [a["severe"] for a in told(lesser, alert)["alerts"]] == [True, False]
    assert told(seen)["headline"] == ""
    assert told(seen)["alerts"][0]["hint"] == "The slit."


@pytest.fixture
def monitor(session: tuple[Path, Clock], tmp_path: Path) -> Iterator[Monitor]:
    folder, clock = session
    _publish(folder, tmp_path / "published", clock)
    both = [Microscope("titan1", folder), Microscope("glacios", published=str(tmp_path / "published"))]
    made = Monitor(both, clock=clock)
    made.step()
    yield made
    made.close()


def _asked(monitor: Monitor, content: Any) -> list[tuple[Any, Any]]:
    """What the kernel answers to a message of the browser."""
    sent: list[tuple[Any, Any]] = []
    monitor._view.send = lambda message, buffers=None: sent.append((message, buffers))  # type: ignore[method-assign]
    monitor._view._handle_custom_msg(content, [])
    return sent


def test_the_browser_gets_states_and_the_files_they_name_and_nothing_else(monitor, tmp_path):
    assert [told["name"] for told in monitor.cards] == ["titan1", "glacios"]
    [(message, _)] = _asked(monitor, {"kind": "open", "name": "glacios"})
    status = message["status"]
    assert status["counts"]["images"] > 0
    names = [piece["file"] for piece in status["series"]["pieces"]]
    asked = [*names, "../project.json", "/etc/passwd", str(tmp_path / "secret_sample" / "project.json"), 3, None]
    [(message, buffers)] = _asked(monitor, {"kind": "files", "name": "glacios", "files": asked})
    assert message["files"] == names
    assert all(b'"time"' in bytes(buffer) for buffer in buffers)
    [(message, buffers)] = _asked(monitor, {"kind": "files", "name": "other", "files": names})
    assert message["files"] == []
    for odd in (None, 3, [], {}, {"kind": "execute", "code": "1"}, {"kind": "files", "name": "glacios", "files": "x"}):
        assert _asked(monitor, odd) == []


def test_the_browser_gets_the_previews_of_images_it_points_at_and_no_others(session, tmp_path):
    folder, clock = session
    with Project.open(folder) as project:
        add_shades(project, project.ids(status="done")[-40:])
    published = tmp_path / "published"
    _publish(folder, published, clock)
    both = [Microscope("titan1", folder), Microscope("glacios", published=str(published))]
    monitor = Monitor(both, clock=clock)
    monitor.step()
    for name in ("titan1", "glacios"):
        [(message, _)] = _asked(monitor, {"kind": "open", "name": name})
        sheets = [sheet["file"] for sheet in message["status"]["previews"]["sheets"]]
        assert len(sheets) >= 2
        assert not set(sheets) & set(message["status"]["files"]), "nobody fetches them who does not ask"
        asked = [sheets[0], "../project.json", "data/" + "0" * 32 + ".png", sheets[1]]
        answers = _asked(monitor, {"kind": "files", "name": name, "files": asked})
        told = {file for message, _ in answers for file in message["files"]}
        assert told == set(sheets[:2])
        assert {file for message, _ in answers for file in message["absent"]} == set(asked) - told
        assert all(bytes(b).startswith(b"\x89PNG") for _, buffers in answers for b in buffers)
    # one that is not what its name says, and one that is gone
    (published / sheets[0]).write_bytes(b"other")
    (published / sheets[1]).unlink()
    [(message, buffers)] = _asked(monitor, {"kind": "files", "name": "glacios", "files": sheets[:2]})
    assert (message["files"], sorted(message["absent"]), buffers) == ([], sorted(sheets[:2]), [])
    monitor.close()


def test_what_a_viewer_sets_changes_nothing_for_the_session(monitor, session):
    folder, _ = session
    before = {path: path.read_bytes() for path in folder.rglob("*.json")}
    monitor._view.set_state({"cards": [], "watched": []})
    monitor.step()
    assert [told["name"] for told in monitor.cards] == ["titan1", "glacios"]
    assert {path: path.read_bytes() for path in folder.rglob("*.json")} == before


def test_nothing_that_is_published_stops_the_page(session, tmp_path):
    folder, clock = session
    odd = tmp_path / "odd"
    odd.mkdir()
    texts = ("", "[]", '{"schema": 1}', '{"schema": 9, "files": []}')
    half = '{"schema": 1, "files": [], "made_at": 1, "valid_until": 9e12, "state": {"word": "recording"}}'
    for text in (*texts, half, half.replace("9e12", '"x"')):
        (odd / "status.json").write_text(text)
        monitor = Monitor([Microscope("odd", published=str(odd)), Microscope("titan1", folder)], clock=clock)
        monitor.step()
        told, other = monitor.cards
        assert (told["word"], told["level"]) == ("Not reachable", "bad"), text
        assert told["sentence"]
        assert set(told) == set(waiting_card("odd"))
        assert other["word"] == "Recording"
        monitor.close()
