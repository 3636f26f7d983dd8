"""Sessions that were, the report of one, and its plots."""

from __future__ import annotations

import csv
import io
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from focusnb.errors import ParameterError
from focusnb.monitoring import history
from focusnb.monitoring.pictures import plot_png
from focusnb.monitoring.quantities import Limit
from focusnb.monitoring.report import series_csv, series_png, session_report, write_report
from focusnb.monitoring.session import Session
from focusnb.monitoring.settings import PublishSettings
from focusnb.monitoring.snapshot import make_snapshot
from focusnb.parameters import Spec
from focusnb.project.project import Project
from tests.monitoring.conftest import Recorded
from tests.monitoring.nights import Image as Shot
from tests.monitoring.nights import Night, Recorder, make_project

DRIFT = Spec("drift", label="Drift", unit="Å", precision=1)


@pytest.fixture(autouse=True)
def state_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))


def session_of(folder: Path, begins: list[float], iciness: float) -> tuple[Project, Session]:
    """A project of sessions of thirty images each."""
    images = []
    for begin in begins:
        for n in range(30):
            at = begin + 60 * n
            images.append(Shot(at, at + 5, at + 9, 1, n, {"iciness": iciness, "drift": 5.0 + n % 3}, None))
    project = make_project(folder)
    Recorder(project, Night(0, begins[0], begins[-1], 60.0, images=images)).go(begins[-1] + 86400)
    session = Session(project)
    session.update()
    return project, session


def test_sessions_are_told_apart_and_kept_for_the_microscope(tmp_path: Path) -> None:
    begin = 1_790_000_000.0
    first, one = session_of(tmp_path / "a", [begin, begin + 20 * 3600], 0.95)
    settings = PublishSettings(microscope="titan")
    history.keep(first, settings, one)
    history.keep(first, settings, one)
    other, two = session_of(tmp_path / "b", [begin + 90 * 3600], 1.2)
    history.keep(other, settings, two)
    third, three = session_of(tmp_path / "c", [begin], 9.0)
    history.keep(third, PublishSettings(microscope="glacios"), three)
    records = history.past_sessions("titan")
    assert [(r["project"], r["images"], r["medians"]["iciness"]) for r in records] == [
        ("a", 30, 0.95),
        ("a", 30, 0.95),
        ("b", 30, 1.2),
    ]
    assert records[0]["images_per_hour"] == pytest.approx(60)
    assert len(history.past_sessions("titan", since=begin + 80 * 3600)) == 1
    assert len(history.past_sessions()) == 4
    told = history.compare(records, history.describe_session(two), folder=other.folder)
    assert told is not None
    assert (told["sessions"], told["quantities"]["iciness"]["median"]) == (2, 0.95)
    assert told["quantities"]["iciness"]["present"] == 1.2
    assert history.compare(records[2:], history.describe_session(two), folder=other.folder) is None
    # a damaged record is passed over
    next(history.history_folder().glob("*.json")).write_text("{")
    assert len(history.past_sessions()) == 3
    for project in (first, other, third):
        project.close()


def test_a_report_on_one_page(recorded: Recorded, tmp_path: Path) -> None:
    snapshot = recorded.maker().make(PublishSettings(title="Titan <1>"))
    text = session_report(snapshot)
    assert "Titan &lt;1&gt;" in text
    assert "<script" not in text
    assert not re.search(r'(src|href)="(?!data:)', text)
    assert f"<td>{snapshot.status['session']['images']}</td>" in text
    written = write_report(snapshot, tmp_path / "report")
    assert {"report.html", "series.csv", "drift.png"} <= {path.name for path in written}
    assert all(path.stat().st_size > 500 for path in written)


def test_the_series_as_csv(recorded: Recorded) -> None:
    snapshot = recorded.maker().make()
    rows = list(csv.reader(io.StringIO(series_csv(snapshot))))
    series = snapshot.series()
    assert rows[0][:3] == ["time", "id", "state"]
    column = rows[0].index("drift (Å)")
    assert len(rows) == len(series["time"]) + 1
    told = [float(row[column]) if row[column] else np.nan for row in rows[1:]]
    np.testing.assert_allclose(told, series["drift"], rtol=1e-5)
    assert rows[1][0].endswith("+00:00")
    assert {row[2] for row in rows[1:]} == {"accepted", "failed", "waiting"}


def test_no_report_without_an_image(empty: Project) -> None:
    with pytest.raises(ParameterError, match="no image yet"):
        session_report(make_snapshot(empty))
    with pytest.raises(ParameterError, match="no series of this session"):
        series_png(make_snapshot(empty), "weather")


def test_the_plot_of_a_quantity_shows_its_values_and_its_limit() -> None:
    time = np.arange(0, 7200, 60.0)
    low = np.asarray(Image.open(io.BytesIO(plot_png(time, np.where(time < 3600, 10.0, 60.0), DRIFT, zone=0))))
    assert low.shape == (360, 720, 3)

    def blue(part: np.ndarray) -> int:
        return int(((part[..., 2] > 150) & (part[..., 0] < 130)).sum())

    # what comes later is to the right, what is larger is above
    assert blue(low[200:, 74:390]) > 20 * max(blue(low[:180, 74:390]), 1)
    assert blue(low[:180, 400:]) > 20 * max(blue(low[200:, 400:]), 1)
    limited = plot_png(time, np.full(len(time), 60.0), DRIFT, limit=Limit(None, 50.0), began=3600.0, zone=0)
    amber = np.asarray(Image.open(io.BytesIO(limited)))
    assert ((amber[..., 0] > 220) & (amber[..., 2] < 110)).sum() > 500


@pytest.mark.parametrize("values", [[], [np.nan] * 5, [5.0], [5.0] * 5, [1e9, -1e9, 0, np.nan, 3]])
def test_a_plot_of_anything(values: list[float]) -> None:
    content = plot_png(np.arange(len(values), dtype=float), np.array(values, dtype=float), DRIFT)
    assert Image.open(io.BytesIO(content)).size == (720, 360)
