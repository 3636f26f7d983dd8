"""What plots draw and select."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
from bokeh.embed import file_html
from bokeh.resources import INLINE

from focusnb.project.browsing.rows import Rows
from focusnb.project.project import Project
from focusnb.steps.statistics.judge_exposure import JudgeExposure
from focusnb.views import plots


def luminance(colour: str) -> float:
    parts = np.array([int(colour[i : i + 2], 16) for i in (1, 3, 5)]) / 255
    linear = np.where(parts <= 0.03928, parts / 12.92, ((parts + 0.055) / 1.055) ** 2.4)
    return float(linear @ [0.2126, 0.7152, 0.0722])


def test_only_numbers_can_be_plotted_and_findings_come_first(shown: Project) -> None:
    names = list(plots.plottable(shown.specs()))
    assert {"drift", "defocus_u", "pixel_size"} <= set(names)
    assert not {"ctf_quality", "movie", "micrograph_preview", "recorded_at", "comment"} & set(names)
    assert names.index("drift") < names.index("iciness_paper") < names.index("pixel_size")


def test_times_fall_back_to_the_import(shown: Project) -> None:
    with shown.library.write() as transaction:
        transaction.update_exposure(
            1, {"recorded_at": "2026-11-21T08:10:51", "imported_at": "2026-11-22T00:00:00+00:00"}
        )
        transaction.update_exposure(2, {"recorded_at": None, "imported_at": "2026-11-22T00:00:00+00:00"})
    times = plots.times_of(Rows(shown.library)).astype("datetime64[ms]")
    assert [str(time) for time in times[:2]] == ["2026-11-21T08:10:51.000", "2026-11-22T00:00:00.000"]


def test_what_was_thrown_away_is_not_seen(shown: Project) -> None:
    shown.move([2], "TRASH")
    assert plots.in_sight(Rows(shown.library)).tolist() == [True, False, True]


def test_colours_tell_flag_status_and_group_with_their_number(shown: Project) -> None:
    shown.flag([1], "red")
    shown.flag([2], "blue")
    shown.move([3], "other")
    rows = Rows(shown.library)
    sight = plots.in_sight(rows)
    flags = plots.colour_by(rows, "flag", sight)
    assert [(c.name, c.number) for c in flags.categories] == [("red", 1), ("blue", 1), ("", 1)]
    assert [flags.categories[code].name for code in flags.codes] == ["red", "blue", ""]
    groups = plots.colour_by(rows, "group", sight)
    assert [(c.name, c.number) for c in groups.categories] == [("camera", 2), ("other", 1)]
    assert [c.name for c in plots.colour_by(rows, "status", sight).categories] == ["done"]
    assert plots.colour_by(rows, "none", sight).codes.tolist() == [0, 0, 0]


def test_many_groups_share_a_colour(shown: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plots, "MOST_GROUPS", 1)
    shown.move([3], "other")
    marks = plots.colour_by(Rows(shown.library), "group", np.ones(3, bool))
    assert [(c.name, c.number) for c in marks.categories] == [("camera", 2), ("other groups", 1)]
    assert marks.codes.tolist() == [0, 0, 1]


def test_every_colour_can_be_told_from_a_light_and_a_dark_page() -> None:
    used = [plots.POINT, plots.MARK, plots.LIMIT, plots.OTHER, *plots.GROUP_COLOURS]
    used += [*plots.FLAG_COLOURS.values(), *plots.STATUS_COLOURS.values()]
    for colour in used:
        assert re.fullmatch("#[0-9a-f]{6}", colour)
        assert 1.05 / (luminance(colour) + 0.05) > 3  # WCAG 2.1, graphics, on white
        assert (luminance(colour) + 0.05) / (luminance("#181c20") + 0.05) > 3


def test_limits_are_those_of_the_judge() -> None:
    params = JudgeExposure.Params().model_dump()
    assert plots.limits_of("drift", params) == [50.0]
    assert plots.limits_of("defocus_u", params) == [2000.0, 70000.0]
    assert plots.limits_of("mean_counts", params) == [0.1]
    assert plots.limits_of("ice_ring_excess", params) == []  # switched off
    assert plots.limits_of("pixel_size", params) == []


def test_few_points_are_all_drawn() -> None:
    x = np.arange(10.0)
    there = x != 4
    assert plots.thin(x, x, there).tolist() == [0, 1, 2, 3, 5, 6, 7, 8, 9]


def test_of_many_points_no_outlier_is_lost() -> None:
    generator = np.random.default_rng(2)
    x, y = generator.normal(size=(2, 100_000))
    outliers = generator.choice(100_000, 20, replace=False)
    y[outliers] = np.linspace(30, 60, 20)
    chosen = plots.thin(x, y, np.ones(100_000, bool))
    assert len(chosen) <= plots.MOST_POINTS
    assert len(chosen) > 0.9 * plots.MOST_POINTS
    assert (np.diff(chosen) > 0).all()
    assert set(outliers) <= set(chosen)
    assert (plots.thin(x, y, np.ones(100_000, bool)) == chosen).all()


def test_of_many_points_spread_evenly_an_even_part_is_drawn() -> None:
    x, y = np.random.default_rng(4).uniform(size=(2, 100_000))
    chosen = plots.thin(x, y, np.ones(100_000, bool))
    inner = chosen[(y[chosen] > 0.02) & (y[chosen] < 0.98)]  # without the ends of each column
    for values in (x[inner], y[inner]):
        counts = np.histogram(values, 4, range=(0, 1))[0]
        np.testing.assert_allclose(counts / counts.sum(), 0.25, atol=0.03)


def test_a_rare_place_is_drawn_before_a_crowded_one_is_filled() -> None:
    generator = np.random.default_rng(5)
    x, y = generator.normal(size=(2, 100_000)) * 0.01
    x[:200], y[:200] = generator.uniform(1, 5, size=(2, 200))
    chosen = plots.thin(x, y, np.ones(100_000, bool))
    assert (chosen < 200).sum() > 190


def test_what_lies_alone_is_drawn_beside_a_crowd_that_fills_half_of_the_figure() -> None:
    generator = np.random.default_rng(3)
    x, y = generator.uniform(size=(2, 100_000))
    y[:300] = generator.uniform(1.1, 2, size=300)
    chosen = plots.thin(x, y, np.ones(100_000, bool))
    assert len(chosen) == plots.MOST_POINTS
    assert (chosen < 300).sum() > 280  # by chance 180 were


@pytest.mark.parametrize("values", [np.zeros(30_000), np.repeat([1.0, 2.0], 15_000)])
def test_equal_values_can_be_thinned(values: np.ndarray) -> None:
    assert 0 < len(plots.thin(values, values, np.ones(30_000, bool))) <= plots.MOST_POINTS


def test_a_histogram_counts_everything_once() -> None:
    values = np.random.default_rng(3).exponential(size=5000)
    marked = values > 1
    bars = plots.histogram(values, marked)
    assert bars["all"].sum() == 5000
    assert bars["marked"].sum() == marked.sum()
    assert 12 <= len(bars["all"]) <= 80
    assert bars["left"][0] == values.min()
    np.testing.assert_allclose(bars["left"][1:], bars["right"][:-1])


def test_whole_numbers_have_a_bar_each() -> None:
    values = np.array([3.0, 3, 5])
    bars = plots.histogram(values, values > 4, whole=True)
    assert (0.5 * (bars["left"] + bars["right"])).tolist() == [3, 4, 5]
    assert bars["all"].tolist() == [2, 0, 1]


@pytest.mark.parametrize("values", [[], [2.0], [7.0, 7.0], [0.0]])
def test_a_histogram_of_hardly_anything(values: list[float]) -> None:
    found = np.array(values)
    assert plots.histogram(found, np.zeros(len(found), bool))["all"].sum() == len(values)


def test_a_brush_takes_what_lies_inside() -> None:
    x = np.array([0.0, 1, 2, 3, np.nan])
    y = np.array([0.0, 1, 0, np.nan, 0])
    box = {"type": "rect", "x0": 2.5, "x1": 0.5, "y0": -1, "y1": 2}  # drawn from the right
    assert plots.inside(box, x, y).tolist() == [False, True, True, False, False]
    assert plots.inside(box, x).tolist() == [False, True, True, False, False]
    assert not plots.inside({"type": "span"}, x, y).any()


def test_a_lasso_takes_what_lies_inside_its_outline() -> None:
    x, y = (grid.ravel() for grid in np.meshgrid(np.arange(7.0), np.arange(7.0)))
    # an L: the square of 0-6 without its upper right quarter
    outline = {"type": "poly", "x": [-0.5, 6.5, 6.5, 2.5, 2.5, -0.5], "y": [-0.5, -0.5, 2.5, 2.5, 6.5, 6.5]}
    found = plots.inside(outline, x, y)
    assert (found == ((y < 2.5) | (x < 2.5))).all()
    assert not plots.inside({"type": "poly", "x": [0, 1], "y": [0, 1]}, x, y).any()


def test_a_tap_takes_the_point_it_meant() -> None:
    x, y = np.array([0.0, 10, 20]), np.array([0.0, 1000, 0])
    there = np.ones(3, bool)
    assert plots.nearest({"x": 10.1, "y": 1001}, x, y, there) == 1
    assert plots.nearest({"x": 12, "y": 800}, x, y, there) is None
    assert plots.nearest({"x": 10.1, "y": 1001}, x, y, np.zeros(3, bool)) is None


def test_what_is_left_out_is_told(shown: Project) -> None:
    specs = shown.specs()
    told = plots.tell_drawn(12000, 90000, 100000, [specs["drift"], specs["ctf_fit_resolution"], specs["defocus_u"]])
    assert told == (
        "10,000 of 100,000 have no drift or CTF fit resolution or defocus U; "
        "12,000 of 90,000 points drawn; a brush takes all"
    )
    assert plots.tell_drawn(5, 5, 5, [specs["drift"]]) == ""
    assert plots.limits_in_words(specs["drift"], [50.0]) == "Drift: judged at 50.0 Å"


def test_figures_need_nothing_from_elsewhere_and_draw_without_webgl(tmp_path: Path) -> None:
    for drawing in (plots.bars_figure(), plots.points_figure("scatter"), plots.points_figure("time", timed=True)):
        drawing.show_limits(upright=[1.0], across=[2.0, 3.0])
        drawing.label("Drift (Å)", "Exposures")
        assert [span.visible for span in (*drawing.upright, *drawing.across)] == [True, False, True, True]
        assert drawing.plot.output_backend == "canvas"
        assert drawing.plot.background_fill_color is None
        assert drawing.plot.toolbar.active_scroll is None
        page = file_html(drawing.plot, INLINE)
        assert "cdn.bokeh.org" not in re.sub(r"<script.*?</script>", "", page, flags=re.S)


def test_another_column_shows_all_again() -> None:
    drawing = plots.bars_figure()
    before = drawing.plot.x_range
    drawing.forget_ranges()
    assert drawing.plot.x_range is not before
    assert drawing.plot.y_range.start == 0
