"""Figures of a session: what is drawn where, and what is shared."""

from __future__ import annotations

import json

import numpy as np
import pytest

from focusnb.views.monitor import DRAWN, THROUGHPUT, Axis, bokeh_script, embedded, fill, session_figures, value_range

AXES = [Axis("drift", "Drift (Å)", 1, None, 50.0), Axis("iciness", "Iciness", 3)]
THROUGHPUT_DATA = {"begin": 0, "seconds": 600, "recorded": [3, 5], "processed": [1, 2]}


def test_figures_share_time_and_show_limits_and_far_values_at_the_edge() -> None:
    made = session_figures(AXES)
    time = np.arange(100.0)
    drift = np.full(100, 10.0)
    drift[50] = 1e6
    series = {"time": time, "state": np.array(["a"] * 99 + ["f"]), "drift": drift}
    older = {"time": np.array([-50.0]), "drift": np.array([9.0])}
    fill(made, series, older, THROUGHPUT_DATA, AXES, span=(0.0, 99.0), zone=3600)
    plot = made.figures["drift"]
    assert all(figure.x_range is made.span for figure in made.figures.values())
    assert (made.span.start, made.span.end) == (3_600_000, 3_699_000)
    assert made.series.data["drift"][50] == 1e6
    assert made.series.data[f"drift{DRAWN}"][50] == pytest.approx(plot.y_range.end)
    assert plot.y_range.start < 10 < plot.y_range.end < 60
    assert np.isnan(made.series.data["iciness"]).all()
    high = plot.select_one({"name": "high:drift"})
    assert (high.visible, high.location) == (True, 50.0)
    assert not plot.select_one({"name": "low:drift"}).visible
    assert list(made.bars.data["left"]) == [3_600_000, 4_200_000]
    assert set(made.figures) == {"drift", "iciness", THROUGHPUT}


@pytest.mark.parametrize(
    ("values", "limits", "low", "high"),
    [
        ([], (None, None), 0.0, 1.0),
        ([np.nan], (None, None), 0.0, 1.0),
        ([0.0] * 5, (None, None), -0.12, 0.12),
        ([10.0, 20.0] * 50, (None, 24.0), 8.8, 25.2),
        ([10.0, 20.0] * 50, (None, 500.0), 8.8, 21.2),
        ([10.0, 20.0] * 50, (2.0, None), 0.8, 21.2),
    ],
)
def test_the_part_of_an_axis_that_is_shown(
    values: list[float], limits: tuple[float | None, float | None], low: float, high: float
) -> None:
    assert value_range(np.array(values), *limits) == pytest.approx((low, high))


def test_they_can_be_put_into_a_page_without_python() -> None:
    documents, items = embedded(session_figures(AXES, dark=True))
    assert json.loads(documents)
    [item] = items
    assert set(item["roots"].values()) == {"plot:drift", "plot:iciness", "plot:throughput"}
    script = bokeh_script()
    assert 500_000 < len(script) < 2_000_000
    assert "cdn.bokeh.org" not in documents
