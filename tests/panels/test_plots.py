"""The plots without a browser."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from bokeh.document import Document
from bokeh.events import SelectionGeometry

from focusnb.errors import ParameterError
from focusnb.panels.plots import Plots
from focusnb.panels.polling import poller
from focusnb.project.browsing.rows import Rows
from focusnb.project.project import Project
from tests.views.shown import finish, make_shown

DRIFTS = {1: 5.0, 2: 60.0, 3: 8.0, 4: float("nan")}


@pytest.fixture
def shown(tmp_path: Path) -> Iterator[Project]:
    with make_shown(tmp_path / "project", names="abcd") as project:
        with project.library.write() as transaction:
            for exposure, drift in DRIFTS.items():
                values = {"drift": drift, "defocus_u": 10_000.0 + exposure, "ctf_fit_resolution": 3.0 + exposure}
                transaction.update_exposure(exposure, {k: None if v != v else v for k, v in values.items()})
        yield project


@pytest.fixture
def plots(shown: Project) -> Iterator[Plots]:
    plots = Plots(shown)
    yield plots
    plots.close()


def drawn(plots: Plots, figure: str) -> dict[str, Any]:
    return dict(plots._drawings[figure].points.data)


def brush(plots: Plots, figure: str, **geometry: Any) -> None:
    plot = plots._drawings[figure].plot
    plot._trigger_event(SelectionGeometry(model=plot, geometry=geometry, final=True))


def test_figures_show_their_columns(plots: Plots) -> None:
    assert plots.columns == {
        "histogram": "ctf_fit_resolution",
        "x": "defocus_u",
        "y": "ctf_fit_resolution",
        "time": "drift",
    }
    assert list(drawn(plots, "scatter")["x"]) == [10001, 10002, 10003, 10004]
    assert list(drawn(plots, "scatter")["name"]) == list("abcd")
    assert list(drawn(plots, "time")["y"]) == [5, 60, 8]
    assert drawn(plots, "histogram")["all"].sum() == 4
    assert "1 of 4 have no drift" in plots._told["time"].value
    assert plots._drawings["scatter"].plot.xaxis[0].axis_label == "Defocus U (Å)"


def test_a_brush_tells_which_exposures_it_took(plots: Plots) -> None:
    taken: list[list[int]] = []
    plots.on_select(taken.append)
    brush(plots, "time", type="rect", x0=-1e15, x1=1e15, y0=7, y1=70)
    assert taken == [[2, 3]]
    assert plots.selected == [2, 3]
    assert sorted(plots._drawings["scatter"].marked.data["x"]) == [10002, 10003]
    assert drawn(plots, "histogram")["marked"].sum() == 2
    brush(plots, "histogram", type="rect", x0=3.5, x1=4.5, y0=0, y1=1)
    assert taken[-1] == [1]
    brush(plots, "scatter", type="poly", x=[10003.5, 10005, 10004, 10003.5], y=[0, 0, 9, 9])
    assert taken[-1] == [4]
    brush(plots, "scatter", type="point", x=10002, y=5)
    assert taken[-1] == [2]
    brush(plots, "scatter", type="rect", x0=0, x1=1, y0=0, y1=1)
    assert taken[-1] == []


def test_a_brush_that_is_still_drawn_takes_nothing(plots: Plots) -> None:
    plot = plots._drawings["time"].plot
    plot._trigger_event(SelectionGeometry(model=plot, geometry={"type": "rect", "x0": 0, "x1": 1}, final=False))
    assert plots.selected == []


def test_highlighting_from_elsewhere_calls_nobody_back(plots: Plots) -> None:
    taken: list[list[int]] = []
    plots.on_select(taken.append)
    plots.highlight([3, 99])
    assert taken == []
    assert list(plots._drawings["time"].marked.data["y"]) == [8]
    assert "1 of 4 marked" in plots._count.value
    plots._clear.click()
    assert taken == [[]]
    assert len(plots._drawings["time"].marked.data["y"]) == 0


def test_what_was_thrown_away_leaves_the_figures(shown: Project, plots: Plots) -> None:
    shown.move([2], "TRASH")
    poller(shown).step()
    assert list(drawn(plots, "time")["y"]) == [5, 8]
    brush(plots, "time", type="rect", x0=-1e15, x1=1e15, y0=0, y1=100)
    assert plots.selected == [1, 3]


def test_new_exposures_appear_and_ranges_stay(shown: Project, plots: Plots, tmp_path: Path) -> None:
    ranges = plots._drawings["time"].plot.x_range
    (tmp_path / "more").mkdir()
    (tmp_path / "more" / "e.tif").write_text("no movie")
    shown.add(tmp_path / "more")
    finish(shown, 5, drift=33.0)
    poller(shown).step()
    assert list(drawn(plots, "time")["y"]) == [5, 60, 8, 33]
    assert plots._drawings["time"].plot.x_range is ranges
    plots.choose(time="iciness")
    assert plots._drawings["time"].plot.x_range is not ranges


def test_columns_and_colours_are_chosen_by_name(shown: Project, plots: Plots) -> None:
    shown.flag([1], "gold")
    poller(shown).step()
    assert "gold" in plots._key.value
    plots.choose(histogram="drift", x="drift", y="iciness", colour="status")
    assert "done" in plots._key.value
    assert drawn(plots, "histogram")["all"].sum() == 3
    with pytest.raises(ParameterError, match="comment is no column that can be plotted"):
        plots.choose(x="comment")
    with pytest.raises(ParameterError, match="z is no place for a column"):
        plots.choose(z="drift")
    with pytest.raises(ParameterError, match="no colouring"):
        plots.choose(colour="pink")


def test_thresholds_are_those_in_force(shown: Project, plots: Plots) -> None:
    time = plots._drawings["time"]
    assert next((span.visible, span.location) for span in time.across) == (True, 50)
    shown.set_params("judge_exposure", drift_max=12.0)
    shown.flag([1], "red")
    poller(shown).step()
    assert time.across[0].location == 12
    assert "judged at 12.0 Å" in plots._told["time"].value
    plots.choose(time="iciness_paper")
    assert not any(span.visible for span in time.across)


def test_what_is_set_by_hand_is_plotted(shown: Project, plots: Plots) -> None:
    shown.override(4, drift=77.0)
    poller(shown).step()
    assert list(drawn(plots, "time")["y"]) == [5, 60, 8, 77]


def test_shared_rows_are_left_to_their_keeper(shown: Project) -> None:
    rows = Rows(shown.library)
    plots = Plots(shown, rows=rows)
    shown.override(4, drift=77.0)
    poller(shown).step()
    assert list(drawn(plots, "time")["y"]) == [5, 60, 8]
    assert rows.refresh() is not None  # nobody took it away
    shown.flag([1], "red")
    poller(shown).step()
    assert list(drawn(plots, "time")["y"]) == [5, 60, 8, 77]
    plots.close()


def test_whoever_comes_late_sees_what_is_there(shown: Project, plots: Plots) -> None:
    shown.override(4, drift=77.0)
    poller(shown).step()
    figure = plots._figures.children[2].children[1]
    bundle = json.loads(figure.get_state()["render_bundle"])
    (document,) = bundle["docs_json"].values()
    seen = Document.from_json(document).select_one({"name": "time"})
    assert seen.xaxis[0].axis_label == "Recorded at"
    assert next(list(r.data_source.data["y"]) for r in seen.renderers) == [5, 60, 8, 77]


def test_an_empty_project_says_so(tmp_path: Path) -> None:
    with make_shown(tmp_path / "other" / "project", names=()) as project:
        plots = Plots(project)
        assert plots._figures.layout.display == "none"
        assert "nothing to plot yet" in plots._empty.value
        plots.close()
