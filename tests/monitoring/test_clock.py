"""Clocks that are set while a session runs, the host's or the camera's: nobody is woken, and silence is still heard."""

from __future__ import annotations

from pathlib import Path

import pytest

from focusnb.monitoring.microscopes import glance_at
from focusnb.monitoring.rules import read_rules, silence_allowed
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


class Session:
    """A session seen by a host whose clock is set by ``host`` s, from a camera whose clock is set by ``camera`` s."""

    def __init__(self, project: Project, *, host: float = 0.0, camera: float | None = 0.0) -> None:
        self.project, self._host, self._camera = project, host, camera
        self.passed, self.count = 0.0, 0
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
        while self.passed < end:
            self.passed += EVERY
            if self.passed > ENDS:
                continue
            self.count += 1
            row = {"id": self.count, "exposure": f"e{self.count}", "group": "g", "folder": f"exposures/g/{self.count}"}
            row |= {"status": "done", "imported_at": _iso(self.clock(), zone=True)}
            facts = {"processed_at": _iso(self.clock(), zone=True), "mean_counts": 1.0}
            if self._camera is not None:
                at = self.passed - 12.0
                told = START + 7200 + at + (self._camera if at >= SET_AT else 0.0)
                facts["recorded_at"] = _iso(told, zone=False)
            with self.project.library.write() as transaction:
                transaction.execute(schema.exposures.insert().values(**row, revision=transaction.revision))
                transaction.update_exposure(self.count, facts)

    def wrong(self) -> set[str]:
        """What the rules find wrong now."""
        return {check.key for _, check in read_rules(self.project.folder).check(self.maker.view(), {}) if check.wrong}


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
    tmp_path: Path, host: float, camera: float | None, begins_anew: bool
) -> None:
    with make_project(tmp_path / "p") as project:
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
            session.go(30.0)
            if begins_anew and SET_AT + 300 < session.passed < SET_AT + 340:
                session.maker = session.watched()
        times = session.maker.session.time
        assert times[-1] - times[0] == pytest.approx(session.passed, abs=max(abs(host), abs(camera or 0.0)) + 120)
        # then recording stops
        silence = silence_allowed(EVERY)
        while "silence" not in session.wrong():
            session.go(30.0)
            assert session.passed < ENDS + silence + 120, "it is heard in time, whatever the clocks were"
        assert session.passed > ENDS + silence - 120


def test_a_clock_that_is_set_while_nothing_comes_makes_no_silence_of_an_hour(tmp_path: Path) -> None:
    with make_project(tmp_path / "p") as project:
        session = Session(project, host=3600.0)
        session.go(SET_AT - EVERY)
        session.maker.view()
        session.passed = SET_AT + 30.0  # no image since
        assert session.wrong() == set()
        session.passed += silence_allowed(EVERY) + 60
        assert session.wrong() == {"silence"}


@pytest.mark.parametrize("camera", [0.0, None])
def test_whoever_looks_from_a_host_whose_clock_is_late_sees_even_times(tmp_path: Path, camera: float | None) -> None:
    with make_project(tmp_path / "p") as project:
        session = Session(project, camera=camera)
        late = SnapshotMaker(project, clock=lambda: session.clock() - 300.0)
        while session.passed < SET_AT:
            session.go(EVERY)
            view = late.view()
            assert view.now - 60 <= view.time[-1] <= view.now
        assert view.time[-1] - view.time[0] == pytest.approx(SET_AT - EVERY, abs=60)
