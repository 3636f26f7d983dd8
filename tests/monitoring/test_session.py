"""The session as arrays: incremental, on this host's clock."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from focusnb.monitoring.session import Session
from focusnb.project import schema
from focusnb.project.project import Project
from tests.monitoring.conftest import Recorded
from tests.monitoring.nights import Image, Night, Recorder, make_night, make_project


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
