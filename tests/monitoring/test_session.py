"""The session as arrays: incremental, on this host's clock."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from focusnb.monitoring.rules import read_rules
from focusnb.monitoring.session import Session
from focusnb.monitoring.snapshot import SnapshotMaker
from focusnb.project import schema
from focusnb.project.project import Project
from tests.monitoring.conftest import Recorded
from tests.monitoring.nights import START, Image, Night, Recorder, _iso, make_night, make_project


def test_reading_step_by_step_ends_with_what_reading_at_once_gives(tmp_path: Path) -> None:
    night = make_night(9200, hours=1.0, faults=[])
    with make_project(tmp_path / "p") as project:
        recorder, grown = Recorder(project, night), Session(project)
        for _ in recorder.run(240):
            grown.update()
        project.move(project.ids()[:3], "TRASH")
        project.override(10, iciness=7.0)
        grown.update()
        once = Session(project)
        once.update()
        np.testing.assert_array_equal(grown.ids, once.ids)
        assert not {1, 2, 3} & set(once.ids.tolist())
        assert len(once.ids) == len(project.ids())
        np.testing.assert_allclose(grown.time, once.time, atol=61)  # the clocks' difference is kept within a minute
        for name in once.specs:
            np.testing.assert_array_equal(grown.values(name), once.values(name))
        assert grown.texts("status") == once.texts("status")
        assert once.values("iciness")[list(once.ids).index(10)] == 7.0
        table = project.table().loc[once.ids]
        np.testing.assert_array_equal(table["drift"], once.values("drift"))
        mean = 0.5 * (table["defocus_u"] + table["defocus_v"])
        np.testing.assert_array_equal(once.values("defocus"), mean)
        assert not grown.update()
        project.clear_override(10)
        assert grown.update()
        assert grown.values("iciness")[list(grown.ids).index(10)] < 2


def test_times_are_those_of_this_host_whatever_the_camera_says(recorded: Recorded) -> None:
    session = Session(recorded.project)
    session.update()
    truth = np.array([image.recorded for image in recorded.night.images])
    assert session.live
    # the camera is two hours and half a minute off; what stays is how long the import takes
    late = session.time - truth
    assert np.ptp(late) < 1.5
    assert 0 <= late.mean() < 60


def test_what_was_imported_later_at_once_keeps_the_times_of_recording(tmp_path: Path) -> None:
    began = 1_790_000_000.0
    images = [Image(began + 30 * n, began + 90_000 + n / 50, began + 91_000, 1, 1, {}, None) for n in range(100)]
    with make_project(tmp_path / "p") as project:
        Recorder(project, Night(1, began, began + 1, 100.0, images=images)).go(began + 100_000)
        session = Session(project)
        session.update()
    assert not session.live
    np.testing.assert_allclose(np.diff(session.time), 30, atol=0.01)


@pytest.mark.parametrize("text", ["", "nonsense", "9999-99-99T00:00:00", None])
def test_a_time_that_cannot_be_read_is_that_of_import(empty: Project, text: str | None) -> None:
    with empty.library.write() as transaction:
        row = {"id": 1, "exposure": "a", "group": "g", "folder": "exposures/g/a", "imported_at": "2026-01-02T03:04:05"}
        transaction.execute(schema.exposures.insert().values(**row, revision=transaction.revision))
        transaction.update_exposure(1, {"recorded_at": text, "drift": "much", "iciness": float("inf")})
    session = Session(empty)
    session.update()
    assert session.time[0] == 1767323045
    assert np.isnan(session.values("drift")[0])
    assert np.isnan(session.values("iciness")[0])


def imported(folder: Path, images: list[tuple[float, float | None]], done: bool = True) -> Project:
    """A project of exposures with the times of their import and recording (s)."""
    project = make_project(folder)
    with project.library.write() as transaction:
        for number, (came, recorded) in enumerate(images, start=1):
            row = {"id": number, "exposure": f"e{number}", "group": "g", "folder": f"exposures/g/e{number}"}
            row |= {"status": "done" if done else "queued", "imported_at": _iso(came, zone=True)}
            transaction.execute(schema.exposures.insert().values(**row, revision=transaction.revision))
            told = {} if recorded is None else {"recorded_at": _iso(recorded, zone=False)}
            transaction.update_exposure(number, told | ({"processed_at": _iso(came + 5, zone=True)} if done else {}))
    return project


LAST_WEEK = 7 * 86400


@pytest.mark.parametrize(
    ("images", "followed"),
    [
        ([(START + 10 * n + 20, START + 10 * n + 3600) for n in range(60)], True),
        ([(START + 10 * n, None) for n in range(60)], True),
        # adopted: no time of recording, or one of two hours ago
        ([(START + n / 10, None) for n in range(60)], False),
        ([(START + n / 10, START - 7200 + 8 * n) for n in range(60)], False),
        # copied nearly as fast as it was recorded, a week ago
        ([(START + 6 * n, START - LAST_WEEK + 10 * n) for n in range(60)], False),
        # live, by a camera whose clock is a week late
        ([(START + 10 * n + 20, START - LAST_WEEK + 10 * n) for n in range(60)], True),
    ],
)
def test_finished_work_is_told_from_a_session_that_goes_on(
    tmp_path: Path, images: list[tuple[float, float | None]], followed: bool
) -> None:
    with imported(tmp_path / "p", images) as project:
        now = [images[-1][0] + 10]
        maker = SnapshotMaker(project, clock=lambda: now[0])
        silent = []
        for _ in range(8):
            found = [check for _, check in read_rules(project.folder).check(maker.view(), {})]
            silent += [check.wrong for check in found if check.key == "silence"]
            now[0] += 300
        assert maker.session.followed == followed
        assert any(silent) == followed


def test_what_comes_at_once_after_an_outage_keeps_the_known_clock(tmp_path: Path) -> None:
    # a camera eight hours behind this host's clock; an hour of images comes at once
    images = [(START + 10 * n + 20, START + 10 * n - 8 * 3600) for n in range(100)]
    with imported(tmp_path / "p", images) as project:
        session = Session(project)
        session.update()
        late = [(START + 4700 + n / 5, START + 1000 + 10 * n - 8 * 3600) for n in range(350)]
        with project.library.write() as transaction:
            for number, (came, recorded) in enumerate(late, start=101):
                row = {"id": number, "exposure": f"e{number}", "group": "g", "folder": f"exposures/g/e{number}"}
                row["imported_at"] = _iso(came, zone=True)
                transaction.execute(schema.exposures.insert().values(**row, revision=transaction.revision))
                transaction.update_exposure(number, {"recorded_at": _iso(recorded, zone=False)})
        session.update()
    assert not session.live
    assert session.followed
    assert abs(session.time[-1] - (START + 1000 + 3490)) < 60


def test_one_time_that_is_nonsense_says_nothing_of_the_others(tmp_path: Path) -> None:
    images = [(START + 10 * n + 20, START + (3e9 if n == 30 else 10 * n)) for n in range(60)]
    with imported(tmp_path / "p", images) as project:
        session = Session(project)
        session.update()
    assert session.live
    assert session.time[-1] < START + 700


def test_what_waited_before_the_watch_began_waits_for_nobody_yet(tmp_path: Path) -> None:
    with imported(tmp_path / "p", [(START + n, START + n) for n in range(30)], done=False) as project:
        now = [START + 80_000.0]
        maker = SnapshotMaker(project, clock=lambda: now[0])

        def waits() -> bool:
            found = read_rules(project.folder).check(maker.view(), {})
            return any(check.wrong for _, check in found if check.key == "processing")

        assert not waits()
        now[0] += 1200
        assert waits()
