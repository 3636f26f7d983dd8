"""Figures of a session: quantities over time with their limits, and images in each ten minutes.

The dashboard fills their sources from Python, the published page from its own script; both by the names given here.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from bokeh.document import Document
from bokeh.embed.util import standalone_docs_json_and_render_items
from bokeh.models import (
    BoxZoomTool,
    ColumnDataSource,
    DatetimeTickFormatter,
    HoverTool,
    Range1d,
    ResetTool,
    Span,
)
from bokeh.plotting import figure
from bokeh.resources import Resources
from bokeh.transform import factor_cmap, factor_mark

from focusnb.ops import drawing

STATES = ("a", "f", "w", "x")
"""Accepted, flagged, waiting and failed, as the series tell them."""

MARKERS = ("circle", "triangle", "circle_dot", "x")

DRAWN = ":drawn"
"""Added to a quantity's name: the values as they are drawn, those beyond the axis at its end."""

THROUGHPUT = "throughput"
"""Name of the figure of images in each ten minutes."""

HEIGHT = 168


class Axis(NamedTuple):
    """A quantity to plot: its name, caption with unit, digits shown, and limits where there are any."""

    name: str
    caption: str
    precision: int | None = None
    low: float | None = None
    high: float | None = None


class _Look(NamedTuple):
    text: drawing.Colour
    muted: drawing.Colour
    grid: drawing.Colour
    accepted: drawing.Colour
    flagged: drawing.Colour
    waiting: drawing.Colour
    failed: drawing.Colour
    median: drawing.Colour


# told apart by lightness and by shape, not by colour alone
_DARK = _Look(
    drawing.TEXT,
    drawing.MUTED,
    drawing.GRID,
    (110, 170, 232),
    drawing.ACCENT,
    (120, 126, 136),
    (240, 110, 110),
    (92, 148, 206),
)
_LIGHT = _Look(
    (32, 35, 40),
    (90, 96, 106),
    (226, 228, 232),
    (0, 98, 168),
    (200, 84, 0),
    (150, 156, 166),
    (190, 30, 45),
    (0, 98, 168),
)


class SessionFigures(NamedTuple):
    """Figures by the name of their quantity, and what they share.

    series : time (ms), state, and each quantity with its drawn twin; older : time (ms) and the medians' drawn values;
    bars : left, right (ms), recorded, processed; span : the time axis of all
    """

    figures: dict[str, Any]
    series: ColumnDataSource
    older: ColumnDataSource
    bars: ColumnDataSource
    span: Range1d


def session_figures(axes: Sequence[Axis], *, dark: bool = False) -> SessionFigures:
    """Make empty figures of quantities over time; :func:`fill` or a script gives them their data."""
    look = _DARK if dark else _LIGHT
    names = [axis.name for axis in axes]
    drawn = [f"{name}{DRAWN}" for name in names]
    series = ColumnDataSource({name: [] for name in ("time", "state", *names, *drawn)}, name="series")
    older = ColumnDataSource({name: [] for name in ("time", *names, *drawn)}, name="older")
    bars = ColumnDataSource({name: [] for name in ("left", "right", "recorded", "processed")}, name="bars")
    span = Range1d(0, 1, name="span")
    figures = {axis.name: _figure(axis, series, older, span, look) for axis in axes}
    figures[THROUGHPUT] = _throughput(bars, span, look)
    return SessionFigures(figures, series, older, bars, span)


def fill(
    made: SessionFigures,
    series: Mapping[str, np.ndarray],
    older: Mapping[str, np.ndarray],
    throughput: Mapping[str, Any],
    axes: Sequence[Axis],
    *,
    span: tuple[float, float],
    zone: float = 0.0,
) -> None:
    """Show a snapshot's series between two times (s); ``zone`` is how many seconds local time is ahead of UTC."""
    time, begin, end = np.asarray(series["time"]), span[0], span[1]
    data: dict[str, Any] = {"time": 1000 * (time + zone), "state": np.asarray(series["state"])}
    past: dict[str, Any] = {"time": 1000 * (np.asarray(older["time"]) + zone)}
    inside = (time >= begin) & (time <= end)
    for axis in axes:
        values = np.asarray(series.get(axis.name, np.full(len(time), np.nan)))
        medians = np.asarray(older.get(axis.name, np.full(len(past["time"]), np.nan)))
        low, high = value_range(values[inside], axis.low, axis.high)
        plot = made.figures[axis.name]
        plot.y_range.start, plot.y_range.end = low, high
        data[axis.name], data[f"{axis.name}{DRAWN}"] = values, np.clip(values, low, high)
        past[axis.name], past[f"{axis.name}{DRAWN}"] = medians, np.clip(medians, low, high)
        for which, value in (("low", axis.low), ("high", axis.high)):
            line = plot.select_one({"name": f"{which}:{axis.name}"})
            line.visible, line.location = value is not None, value or 0.0
    # the whole data at once: what is sent while nobody looks is lost otherwise
    made.series.data, made.older.data = data, past
    left = throughput["begin"] + throughput["seconds"] * np.arange(len(throughput["recorded"]))
    made.bars.data = {
        "left": 1000 * (left + zone),
        "right": 1000 * (left + throughput["seconds"] + zone),
        "recorded": throughput["recorded"],
        "processed": throughput["processed"],
    }
    made.span.start, made.span.end = 1000 * (begin + zone), 1000 * (end + zone)


def value_range(values: np.ndarray, low: float | None = None, high: float | None = None) -> tuple[float, float]:
    """The part of an axis that shows nearly all values and a near limit; the few far ones are drawn at its end."""
    finite = values[np.isfinite(values)]
    if len(finite) == 0:
        return 0.0, 1.0
    bottom, top = (float(value) for value in np.percentile(finite, (2, 98)))
    room = max(top - bottom, 0.05 * max(abs(top), abs(bottom))) or 1.0
    for limit in (low, high):
        if limit is not None and bottom - room <= limit <= top + room:
            bottom, top = min(bottom, limit), max(top, limit)
    return bottom - 0.12 * room, top + 0.12 * room


def embedded(made: SessionFigures) -> tuple[str, list[dict[str, Any]]]:
    """The figures as Bokeh's own JSON for a page without Python, and where each is to be put (``plot:NAME``)."""
    models, document = list(made.figures.values()), Document()
    for model in models:
        document.add_root(model)
    documents, items = standalone_docs_json_and_render_items(models)
    names = {plot.id: name for name, plot in made.figures.items()}
    rendered = []
    for item in items:
        told = item.to_json()
        told["roots"] = {str(identity): f"plot:{names[str(identity)]}" for identity in told["roots"]}
        rendered.append(told)
    return json.dumps(documents, ensure_ascii=False), rendered


def bokeh_script() -> str:
    """The script that draws Bokeh's figures, without what these do not use."""
    return "\n".join(Resources(mode="inline", components=["bokeh"]).js_raw)


def _figure(axis: Axis, series: ColumnDataSource, older: ColumnDataSource, span: Range1d, look: _Look) -> Any:
    plot = _empty(axis.caption, span, look)
    plot.name = axis.name
    drawn = f"{axis.name}{DRAWN}"
    plot.line("time", drawn, source=older, color=look.median, alpha=0.7, line_width=1.5)
    colours = [look.accepted, look.flagged, look.waiting, look.failed]
    plot.scatter(
        "time",
        drawn,
        source=series,
        size=4,
        line_color=None,
        fill_color=factor_cmap("state", [_hex(colour) for colour in colours], list(STATES)),
        marker=factor_mark("state", list(MARKERS), list(STATES)),
        fill_alpha=0.75,
    )
    for which, value in (("low", axis.low), ("high", axis.high)):
        line = Span(location=value or 0.0, dimension="width", name=f"{which}:{axis.name}", visible=value is not None)
        line.line_color, line.line_dash, line.line_width = look.text, [4, 4], 1
        plot.add_layout(line)
    # what lies under the pointer is told by the page, which has its preview as well
    cursor = Span(location=0.0, dimension="height", name=f"at:{axis.name}", visible=False)
    cursor.line_color = _hex(look.muted)
    plot.add_layout(cursor)
    return plot


def _throughput(bars: ColumnDataSource, span: Range1d, look: _Look) -> Any:
    plot = _empty("Images in ten minutes", span, look, y_range=None)
    plot.name = THROUGHPUT
    plot.y_range.start = 0
    style = {"source": bars, "bottom": 0, "left": "left", "right": "right"}
    plot.quad(top="recorded", fill_color=look.accepted, fill_alpha=0.35, line_color=None, **style)
    plot.quad(top="processed", fill_color=None, line_color=look.flagged, line_width=1.5, **style)
    tips = [("recorded", "@recorded"), ("processed", "@processed"), ("", "@left{%H:%M}")]
    plot.add_tools(HoverTool(tooltips=tips, formatters={"@left": "datetime"}))
    return plot


def _empty(title: str, span: Range1d, look: _Look, y_range: Any = ()) -> Any:
    ranges = {} if y_range is None else {"y_range": Range1d(0, 1)}
    plot = figure(
        height=HEIGHT,
        sizing_mode="stretch_width",
        x_range=span,
        x_axis_type="datetime",
        toolbar_location=None,
        tools=[BoxZoomTool(dimensions="width"), ResetTool()],
        active_drag=None,
        title=title,
        output_backend="canvas",
        min_border_left=52,
        min_border_right=8,
        **ranges,
    )
    plot.background_fill_color = plot.border_fill_color = None
    plot.outline_line_color = None
    plot.title.text_color, plot.title.text_font_style = _hex(look.text), "normal"
    plot.title.text_font = "system-ui, sans-serif"
    plot.title.text_font_size = "13px"
    plot.xgrid.grid_line_color = None
    plot.ygrid.grid_line_color = _hex(look.grid)
    for axis in (plot.xaxis, plot.yaxis):
        axis.axis_label_text_color = axis.major_label_text_color = _hex(look.muted)
        axis.major_label_text_font = "system-ui, sans-serif"
        axis.axis_line_color = axis.major_tick_line_color = _hex(look.grid)
        axis.minor_tick_line_color = None
    plot.xaxis.formatter = DatetimeTickFormatter(minutes="%H:%M", hourmin="%H:%M", hours="%H:%M", days="%d %b")
    plot.yaxis.ticker.desired_num_ticks = 4
    return plot


def _hex(colour: drawing.Colour) -> str:
    return "#{:02x}{:02x}{:02x}".format(*colour)
