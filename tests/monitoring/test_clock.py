"""Clocks that are set while a session runs, the host's or the camera's: nobody is woken, and silence is still heard."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest

from focusnb.monitoring.microscopes import glance_at
from focusnb.monitoring.rules import Check, Opened, read_rules, silence_allowed
from focusnb.monitoring.snapshot import SnapshotMaker
from focusnb.project import schema
from focusnb.project.project import Project
from tests.monitoring.nights import START, _iso, make_project

EVERY = 20.0
"""Seconds between two images."""

SET_AT = 1800.0
"""Seconds of the session after which a clock is set."""

ENDS = 3000.0
"""Seconds of the session after which no image comes."""


@pytest.fixture(scope="module")
def blank(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project without images, made once: that takes as long as a session does."""
    folder = tmp_path_factory.mktemp("clock") / "p"
    make_project(folder).close()
    return folder


def copied(blank: Path, folder: Path) -> Project:
    return Project.open(shutil.copytree(blank, folder / "p"))


class Session:
    """A session seen by a host whose clock is set by ``host`` s, from a camera whose clock is set by ``camera`` s."""

    def __init__(self, project: Project, *, host: float = 0.0, camera: float | None = 0.0) -> None:
        self.project, self._host, self._camera = project, host, camera
        self.passed, self.count = 0.0, 0
        self.rules = read_rules(project.folder)
        self.maker = self.watched()

    def watched(self) -> SnapshotMaker:
        """Whoever begins to watch now."""
        return SnapshotMaker(self.project, clock=self.clock, steady=lambda: self.passed)

    def clock(self, ago: float = 0.0) -> float:
        at = self.passed - ago
        return START + at + (self._host if at >= SET_AT else 0.0)

    def go(self, seconds: float) -> None:
        """Go on, and record what comes meanwhile."""
        end = self.passed + seconds
        rows = []
        while self.passed < end:
            self.passed += EVERY
            if self.passed <= ENDS:
                rows.append(self._row())
        if rows:
            with self.project.library.write() as transaction:
                new = [{**row, "revision": transaction.revision} for row, _ in rows]
                transaction.execute(schema.exposures.insert().values(new))
                for row, facts in rows:
                    transaction.update_exposure(row["id"], facts)

    def _row(self) -> tuple[dict[str, Any], dict[str, Any]]:
        """An image of this moment: the row of its import, and what is found then."""
        self.count += 1
        row = {"id": self.count, "exposure": f"e{self.count}", "group": "g", "folder": f"exposures/g/{self.count}"}
        row |= {"status": "done", "imported_at": _iso(self.clock(), zone=True)}
        facts = {"processed_at": _iso(self.clock(), zone=True), "mean_counts": 1.0}
        if self._camera is not None:
            at = self.passed - 12.0
            told = START + 7200 + at + (self._camera if at >= SET_AT else 0.0)
            facts["recorded_at"] = _iso(told, zone=False)
        return row, facts

    def wrong(self, opened: Opened | None = None) -> set[str]:
        """What the rules find wrong now."""
        return {check.key for check in self.checks(opened or {}) if check.wrong}

    def checks(self, opened: Opened) -> list[Check]:
        return [check for _, check in self.rules.check(self.maker.view(), opened)]


@pytest.mark.parametrize(
    ("host", "camera"),
    [
        (3600.0, 0.0),
        (-3600.0, 0.0),
        (3600.0, None),
        (-3600.0, None),
        # summer time begins, and ends
        (0.0, 3600.0),
        (0.0, -3600.0),
    ],
)
@pytest.mark.parametrize("begins_anew", [False, True])
def test_a_clock_that_is_set_wakes_nobody_and_hides_no_silence(
    blank: Path, tmp_path: Path, host: float, camera: float | None, begins_anew: bool
) -> None:
    with copied(blank, tmp_path) as project:
        session = Session(project, host=host, camera=camera)
        session.go(SET_AT - EVERY)
        while session.passed < ENDS:
            assert session.wrong() == set()
            snapshot = session.maker.make()
            glance = glance_at("titan", snapshot, session.clock())
            told = f"after {session.passed:.0f} s"
            assert snapshot.status["state"]["word"] == "recording", told
            assert 0 <= (glance.age or 0.0) <= 60, told
            assert not glance.stale
            if host <= 0 and (camera or 0.0) <= 0:  # else what was before seems to be longer ago
                assert snapshot.status["windows"][0]["images"] == session.count, told
            assert session.maker.session.ids[-1] == session.count, told
            # often around the moment itself
            session.go(EVERY if abs(session.passed - SET_AT) < 100 else 100.0)
            if begins_anew and SET_AT + 300 <= session.passed < SET_AT + 400:
                session.maker = session.watched()
        times = session.maker.session.time
        assert times[-1] - times[0] == pytest.approx(session.passed, abs=max(abs(host), abs(camera or 0.0)) + 120)
        # then recording stops
        silence = silence_allowed(EVERY)
        while "silence" not in session.wrong():
            session.go(30.0)
            assert session.passed < ENDS + silence + 120, "it is heard in time, whatever the clocks were"
        assert session.passed > ENDS + silence - 120


@pytest.mark.parametrize("host", [3600.0, 7200.0, -3600.0, -7200.0])
@pytest.mark.parametrize("camera", [0.0, None])
def test_a_clock_that_is_set_while_nothing_comes_neither_makes_nor_hides_silence(
    blank: Path, tmp_path: Path, host: float, camera: float | None
) -> None:
    with copied(blank, tmp_path) as project:
        session = Session(project, host=host, camera=camera)
        session.go(SET_AT - 200)
        session.maker = session.watched()  # just before
        session.maker.view()
        session.passed = SET_AT + 30.0  # no image since
        assert session.wrong() == set()
        session.passed += silence_allowed(EVERY) + 60
        assert session.wrong() == {"silence"}


@pytest.mark.parametrize("host", [3600.0, -3600.0])
def test_silence_that_was_told_is_not_over_because_a_clock_is_set(blank: Path, tmp_path: Path, host: float) -> None:
    with copied(blank, tmp_path) as project:
        session = Session(project, host=host)
        session.go(SET_AT - silence_allowed(EVERY) - 100)
        session.passed = SET_AT - 30.0
        assert session.wrong() == {"silence"}
        opened = {"silence": session.clock()}
        while session.passed < SET_AT + 2400:
            session.passed += 60.0
            assert all(check.wrong for check in session.checks(opened) if check.key == "silence"), session.passed
        session.passed = ENDS - 40
        session.go(40)
        (over,) = (check for check in session.checks(opened) if check.key == "silence")
        assert not over.wrong


def test_what_came_while_nobody_watched_is_no_silence_before_it_is_found(blank: Path, tmp_path: Path) -> None:
    """Where serve begins again after a while: images were recorded meanwhile, and are imported within seconds."""
    with copied(blank, tmp_path) as project:
        session = Session(project)
        session.go(1200.0)
        session.passed += 1500.0
        session.maker = session.watched()
        assert session.wrong() == set()
        session.go(60.0)
        assert session.wrong() == set()
        # and where nothing was, it is told soon after
        session.passed += 1500.0
        session.maker = session.watched()
        assert session.wrong() == set()
        session.passed += 200.0
        assert session.wrong() == {"silence"}


@pytest.mark.parametrize("camera", [0.0, None])
def test_whoever_looks_from_a_host_whose_clock_is_late_sees_even_times(
    blank: Path, tmp_path: Path, camera: float | None
) -> None:
    with copied(blank, tmp_path) as project:
        session = Session(project, camera=camera)
        late = SnapshotMaker(project, clock=lambda: session.clock() - 300.0)
        while session.passed < SET_AT:
            session.go(EVERY)
            view = late.view()
            assert view.now - 60 <= view.time[-1] <= view.now
        assert view.time[-1] - view.time[0] == pytest.approx(SET_AT - EVERY, abs=60)
