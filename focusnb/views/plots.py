"""Histogram, scatter and time series of columns of the library, made to be linked: what is drawn and what is inside.

Every function takes arrays over all rows of the library; how many of them are drawn is told, what is selected is exact.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

import numpy as np
from bokeh.models import (
    BasicTicker,
    BasicTickFormatter,
    BoxSelectTool,
    ColumnDataSource,
    DataRange1d,
    DatetimeTickFormatter,
    HoverTool,
    LassoSelectTool,
    LinearColorMapper,
    Span,
)
from bokeh.plotting import figure

from focusnb.parameters import Spec
from focusnb.project.browsing.columns import Numbers, Words
from focusnb.project.browsing.rows import Rows
from focusnb.project.sets import TRASH
from focusnb.steps.base import FACTS
from focusnb.views.values import format_number

TIME = "time"
"""Stands for the point in time of an exposure: when it was recorded, or imported where that is not known."""

_TIMES = ("recorded_at", "imported_at")

MOST_POINTS = 6_000
"""Points drawn in one figure: at five pixels each they fill it, and more would only be slower."""

MOST_MARKED = 4_000
"""Selected points drawn on top of them."""

MOST_GROUPS = 8
"""Groups with a colour of their own; the others share one."""

# Colours that keep a contrast of 3 with white and with a dark page alike, so that one figure serves both.
POINT, MARK, LIMIT = "#7b8794", "#2f80d0", "#b7791f"
FONT = "system-ui, sans-serif"  # that of the page; Bokeh's own is missing on many systems
FLAG_COLOURS = {"red": "#d9434f", "green": "#2b9a58", "blue": "#4380d3", "gold": "#b08212", "": "#7b8794"}
STATUS_COLOURS = {
    "new": "#7b8794",
    "queued": "#8a7fc0",
    "running": "#2f80d0",
    "done": "#17967a",
    "failed": "#d8603f",
    "broken": "#c2497a",
}
GROUP_COLOURS = ("#2f80d0", "#d0721c", "#17967a", "#b35fa8", "#a78b12", "#6f7fd6", "#d8603f", "#2b9a9e")
OTHER = "#7b8794"

Colouring = Literal["none", "flag", "status", "group"]

_LIMIT_NAMES = {
    "stripe_measure": ("stripe_min", "stripe_max"),
    "mean_counts": ("counts_min", "counts_max"),
    "defocus_u": ("defocus_mean_min", "defocus_mean_max"),
    "defocus_v": ("defocus_mean_min", "defocus_mean_max"),
}
"""Thresholds of judge_exposure that are named otherwise than their column."""


class Category(NamedTuple):
    """A colour of the points: what has it, and how many rows."""

    name: str
    colour: str
    number: int


@dataclass(frozen=True)
class Marks:
    """Which row has which colour: codes (rows,) into the categories, in their order."""

    codes: np.ndarray
    categories: list[Category] = field(default_factory=list)


# What can be drawn


def plottable(specs: Mapping[str, Spec]) -> dict[str, Spec]:
    """The columns that can be plotted, by name: findings first, what only experts ask for after them, then facts."""
    numbers = {n: s for n, s in specs.items() if s.kind == "value" and s.type in ("float", "int") and not s.choices}
    return dict(sorted(numbers.items(), key=lambda item: (item[0] in FACTS, item[1].advanced)))


def values_of(rows: Rows, name: str) -> np.ndarray:
    """One column over all rows as numbers, NaN where there is none; text counts as none."""
    if name == TIME:
        return times_of(rows)
    column = rows.column(name)
    return column.values if isinstance(column, Numbers) else np.full(len(rows), np.nan)


def needed(rows: Rows, names: Iterable[str]) -> list[str]:
    """The columns that figures of these columns read."""
    return [name for name in ("group", "status", "flag", "exposure", *_TIMES, *names) if name in rows.specs]


def times_of(rows: Rows) -> np.ndarray:
    """When exposures were recorded, or imported where that is not known, in ms since 1970."""
    times = np.full(len(rows), np.nan)
    for name in _TIMES:
        if name in rows.specs:
            column = rows.column(name)
            if isinstance(column, Numbers):
                times = np.where(np.isnan(times), column.values, times)
    return 1e3 * times


def in_sight(rows: Rows) -> np.ndarray:
    """Rows that were not thrown away, (rows,) bool."""
    groups = rows.column("group")
    return (
        ~groups.matching(lambda word: word == TRASH.casefold())
        if isinstance(groups, Words)
        else np.ones(len(rows), bool)
    )


def has_numbers(sight: np.ndarray, *columns: np.ndarray) -> np.ndarray:
    """Rows in sight that have a number in each of these columns, (rows,) bool."""
    there = sight.copy()
    for values in columns:
        there &= np.isfinite(values)
    return there


def colour_by(rows: Rows, colouring: Colouring, sight: np.ndarray) -> Marks:
    """Give each row a colour by flag, status or group. sight : rows that are counted, (rows,) bool."""
    if colouring == "none":
        return Marks(np.zeros(len(rows), np.int32), [Category("", POINT, int(sight.sum()))])
    column = rows.column(colouring)
    assert isinstance(column, Words)
    names = [*column.words, ""]
    counts = np.bincount(column.codes[sight] + 1, minlength=len(names))
    by_name = {name: int(counts[(code + 1) % len(names)]) for code, name in enumerate(names)}
    if colouring == "group":
        order = sorted((n for n in by_name if by_name[n]), key=lambda n: -by_name[n])
        colours = {name: GROUP_COLOURS[place] for place, name in enumerate(order[:MOST_GROUPS])}
        shown = [Category(name, colour, by_name[name]) for name, colour in colours.items()]
        rest = sum(by_name[name] for name in order[MOST_GROUPS:])
        shown += [Category("other groups", OTHER, rest)] if rest else []
    else:
        palette = FLAG_COLOURS if colouring == "flag" else STATUS_COLOURS
        shown = [Category(name, colour, by_name.get(name, 0)) for name, colour in palette.items() if by_name.get(name)]
    places = {category.name: place for place, category in enumerate(shown)}
    last = max(len(shown) - 1, 0)
    of_word = np.array([places.get(name, last) for name in names], np.int32)
    return Marks(of_word[column.codes], shown)


def limits_of(column: str, params: Mapping[str, Any]) -> list[float]:
    """The thresholds of a column among the choices of judge_exposure, by name; those switched off are left out."""
    names = _LIMIT_NAMES.get(column, (f"{column}_min", f"{column}_max"))
    return [float(params[n]) for n in names if isinstance(params.get(n), int | float)]


# How much of it is drawn


def thin(x: np.ndarray, y: np.ndarray, there: np.ndarray, most: int = MOST_POINTS) -> np.ndarray:
    """Choose at most so many rows to draw: all where they are few, else some of every place in the figure.

    x, y : (rows,); there : rows that have both, (rows,) bool

    The lowest and highest in each column of a grid stay, so that no outlier is lost; of crowded places, which look the
    same, only a part. Returns positions in their order.
    """
    positions = np.flatnonzero(there)
    if len(positions) <= most:
        return positions
    columns = max(1, most // 24)
    place = _bins(x[positions], columns)
    # ends of each column, at most a twelfth of what is drawn
    order = np.lexsort((y[positions], place))
    first = np.flatnonzero(np.diff(place[order], prepend=-1))
    last = np.append(first[1:], len(order)) - 1
    kept = np.zeros(len(positions), bool)
    kept[order[first]] = kept[order[last]] = True
    generator = np.random.default_rng(0)  # the same points each time: a figure that flickers cannot be read
    shuffled = generator.permutation(len(positions))
    # then two of every cell of a coarse grid, so that what lies alone is there though a crowd fills the fine one; and
    # of the others the first of every cell of a fine grid, then the second ...
    for side, turns in ((32, 2), (256, most)):
        cells = (_bins(x[positions], side) * side + _bins(y[positions], side))[shuffled]
        turn = _turns(cells)
        preferred = shuffled[np.argsort(turn, kind="stable")][: int((turn < turns).sum())]
        room = most - int(kept.sum())
        # ... and where that are too many, those of no place before another's
        kept[preferred[~kept[preferred]][: max(0, room)]] = True
    return positions[kept]


def _turns(cells: np.ndarray) -> np.ndarray:
    """How many came before in the same cell, (points,)."""
    by_cell = np.argsort(cells, kind="stable")
    starts = np.flatnonzero(np.diff(cells[by_cell], prepend=-1))
    turn = np.empty(len(cells), np.int64)
    turn[by_cell] = np.arange(len(cells)) - np.repeat(starts, np.diff(np.append(starts, len(cells))))
    return turn


def _bins(values: np.ndarray, count: int) -> np.ndarray:
    low, high = float(values.min()), float(values.max())
    if not high > low:
        return np.zeros(len(values), np.int64)
    return np.minimum(((values - low) / (high - low) * count).astype(np.int64), count - 1)


def histogram(values: np.ndarray, marked: np.ndarray, *, whole: bool = False) -> dict[str, np.ndarray]:
    """Count values in bars of equal width, all of them and those marked.

    values : (rows,) without NaN; marked : (rows,) bool; whole : values are whole numbers

    Returns left, right, all and marked, (bars,). As wide as Freedman and Diaconis (1981) advise, 12 to 80 bars.
    """
    if not values.size:
        nothing = np.zeros(0)
        return {"left": nothing, "right": nothing, "all": nothing, "marked": nothing}
    low, high = float(values.min()), float(values.max())
    if not high > low:
        low, high = low - 0.5 * max(abs(low), 1.0) * 0.01, high + 0.5 * max(abs(high), 1.0) * 0.01
    quarter, three = np.percentile(values, (25, 75))
    width = 2.0 * (three - quarter) / values.size ** (1 / 3)
    bars = int(np.clip(round((high - low) / width) if width > 0 else 12, 12, 80))
    if whole and high - low <= 80:
        low, high = low - 0.5, high + 0.5
        bars = max(1, round(high - low))
    edges = np.linspace(low, high, bars + 1)
    return {
        "left": edges[:-1],
        "right": edges[1:],
        "all": np.histogram(values, edges)[0],
        "marked": np.histogram(values[marked], edges)[0],
    }


def inside(geometry: Mapping[str, Any], x: np.ndarray, y: np.ndarray | None = None) -> np.ndarray:
    """Which points lie inside what was drawn with the brush, (rows,) bool; rows without a number do not.

    geometry : of Bokeh's selection: a rect with x0, x1, y0, y1, or a poly with lists x and y
    x, y : (rows,); without y only x counts, as in a histogram
    """
    with np.errstate(invalid="ignore"):
        if geometry.get("type") == "rect":
            low, high = sorted((float(geometry["x0"]), float(geometry["x1"])))
            found = (x >= low) & (x <= high)
            if y is not None:
                low, high = sorted((float(geometry["y0"]), float(geometry["y1"])))
                found &= (y >= low) & (y <= high)
            return np.asarray(found)
        if geometry.get("type") == "poly" and y is not None:
            return _in_polygon(np.asarray(geometry["x"], float), np.asarray(geometry["y"], float), x, y)
    return np.zeros(len(x), bool)


def _in_polygon(corner_x: np.ndarray, corner_y: np.ndarray, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Points from which a ray crosses the outline an odd number of times."""
    found = np.zeros(len(x), bool)
    if len(corner_x) < 3:
        return found
    around = (x >= corner_x.min()) & (x <= corner_x.max()) & (y >= corner_y.min()) & (y <= corner_y.max())
    px, py = x[around], y[around]
    odd = np.zeros(len(px), bool)
    for (x0, y0), (x1, y1) in zip(
        zip(corner_x, corner_y, strict=True),
        zip(np.roll(corner_x, -1), np.roll(corner_y, -1), strict=True),
        strict=True,
    ):
        if y0 != y1:
            crosses = (y0 > py) != (y1 > py)
            odd ^= crosses & (px < (x1 - x0) * (py - y0) / (y1 - y0) + x0)
    found[around] = odd
    return found


def nearest(geometry: Mapping[str, Any], x: np.ndarray, y: np.ndarray, there: np.ndarray) -> int | None:
    """Position of the point next to a tap, within 2 % of what the points span; None where there is none."""
    positions = np.flatnonzero(there)
    if not positions.size or "x" not in geometry or "y" not in geometry:
        return None
    spans = [max(float(np.ptp(values[positions])), 1e-12) for values in (x, y)]
    distance = np.hypot((x[positions] - geometry["x"]) / spans[0], (y[positions] - geometry["y"]) / spans[1])
    best = int(distance.argmin())
    return int(positions[best]) if distance[best] <= 0.02 else None


MOST_NAMES = 3_000
"""Points that carry the name of their exposure; beyond, which the pointer could not tell apart, its number."""


def point_data(rows: Rows, x: np.ndarray, y: np.ndarray, marks: Marks, positions: np.ndarray) -> dict[str, Any]:
    """What is drawn of some rows: x, y, colour code and name, as a figure's source takes it."""
    ids = rows.ids[positions]
    few = len(positions) <= MOST_NAMES
    names = rows.column("exposure").texts(positions) if few else ids.astype(np.int32)
    codes = marks.codes[positions].astype(np.int32)
    return {"x": x[positions], "y": y[positions], "code": codes, "name": names}


def marked_data(x: np.ndarray, y: np.ndarray, marked: np.ndarray, there: np.ndarray) -> dict[str, Any]:
    """What is drawn of the marked rows, on top of the others. marked, there : (rows,) bool."""
    positions = thin(x, y, marked & there, MOST_MARKED)
    return {"x": x[positions], "y": y[positions]}


def tell_drawn(drawn: int, there: int, sight: int, specs: Iterable[Spec]) -> str:
    """Say in words what a figure leaves out: rows without a number, and points that look like others."""
    parts = []
    if sight > there:
        # "drift", "defocus U", but "CTF fit resolution"
        names = " or ".join(s.label[0].lower() + s.label[1:] if s.label[1:2].islower() else s.label for s in specs)
        parts.append(f"{sight - there:,} of {sight:,} have no {names}")
    if there > drawn:
        parts.append(f"{drawn:,} of {there:,} points drawn; a brush takes all")
    return "; ".join(parts)


# The figures


@dataclass
class Drawing:
    """One figure with what is assigned to it: points or bars, marked ones, thresholds across and upright."""

    plot: figure
    points: ColumnDataSource
    marked: ColumnDataSource
    colours: LinearColorMapper
    upright: list[Span]
    across: list[Span]

    def show_limits(self, upright: Sequence[float] = (), across: Sequence[float] = ()) -> None:
        """Draw thresholds at these values of x and y."""
        for spans, values in ((self.upright, upright), (self.across, across)):
            for place, span in enumerate(spans):
                span.visible = place < len(values)
                if span.visible:
                    span.location = values[place]

    def label(self, x: str, y: str) -> None:
        """Write captions at the axes."""
        self.plot.xaxis[0].axis_label, self.plot.yaxis[0].axis_label = x, y
        self.plot.xaxis[0].name, self.plot.yaxis[0].name = x, y

    def forget_ranges(self) -> None:
        """Show all again, for another column: what was chosen of the one before means nothing."""
        self.plot.x_range, self.plot.y_range = self._range(), self._range(self.plot.name == "histogram")

    @staticmethod
    def _range(from_zero: bool = False) -> DataRange1d:
        return DataRange1d(start=0, range_padding=0.05) if from_zero else DataRange1d(range_padding=0.05)

    def paint(self, palette: Sequence[str]) -> None:
        """Give the codes of the points their colours."""
        self.colours.palette = list(palette)
        self.colours.low, self.colours.high = -0.5, len(palette) - 0.5


def points_figure(name: str, *, timed: bool = False) -> Drawing:
    """An empty scatter, or time series, in which points are taken with a box or a lasso."""
    drawing = _empty(name, "datetime" if timed else "linear")
    plot, points, marked = drawing.plot, drawing.points, drawing.marked
    colour = {"field": "code", "transform": drawing.colours}
    shape = {"size": 5, "line_color": None, "fill_alpha": 0.7}
    drawn = plot.scatter("x", "y", source=points, fill_color=colour, **shape)
    # what is marked is told by the kernel, the same in all figures: Bokeh's own fading would say something else
    drawn.nonselection_glyph = drawn.selection_glyph = drawn.glyph
    on_top = plot.scatter("x", "y", source=marked, size=8, fill_color=MARK, fill_alpha=0.35, line_color=MARK)
    on_top.nonselection_glyph = on_top.selection_glyph = on_top.glyph
    x = "@x{%Y-%m-%d %H:%M:%S}" if timed else "@x{0.[000]}"
    tooltips = [("", "@name"), ("x", x), ("y", "@y{0.[000]}")]
    formatters = {"@x": "datetime"} if timed else {}
    plot.add_tools(HoverTool(renderers=[drawn], tooltips=tooltips, formatters=formatters, point_policy="snap_to_data"))
    box = BoxSelectTool(persistent=False)
    plot.add_tools(box, LassoSelectTool(persistent=False, continuous=False))
    plot.toolbar.active_drag = box
    plot.x_range.renderers = plot.y_range.renderers = [drawn]
    if timed:
        plot.xaxis[0].formatter = DatetimeTickFormatter(
            seconds="%H:%M:%S", minsec="%H:%M:%S", minutes="%H:%M", hourmin="%H:%M", hours="%H:%M", days="%d %b"
        )
    return drawing


def bars_figure(name: str = "histogram") -> Drawing:
    """An empty histogram, in which a range is taken with a box."""
    drawing = _empty(name, "linear")
    plot = drawing.plot
    bars = {"left": "left", "right": "right", "bottom": 0}
    drawn = plot.quad(top="all", source=drawing.points, fill_color=POINT, fill_alpha=0.55, line_color=None, **bars)
    plot.quad(top="marked", source=drawing.points, fill_color=MARK, fill_alpha=0.9, line_color=None, **bars)
    for renderer in plot.renderers:
        renderer.nonselection_glyph = renderer.selection_glyph = renderer.glyph
    tooltips = [("from", "@left{0.[000]}"), ("to", "@right{0.[000]}"), ("exposures", "@all")]
    plot.add_tools(HoverTool(renderers=[drawn], tooltips=tooltips))
    box = BoxSelectTool(dimensions="width", persistent=False)
    plot.add_tools(box)
    plot.toolbar.active_drag = box
    plot.y_range.start = 0
    plot.yaxis[0].ticker = BasicTicker(mantissas=[1, 2, 5], min_interval=1, num_minor_ticks=0)
    return drawing


def _empty(name: str, x_axis: Literal["linear", "datetime"]) -> Drawing:
    """Axes, tools and thresholds, transparent; the colours of the axes come from the page's style sheet."""
    plot = figure(
        name=name,
        height=260,
        sizing_mode="stretch_width",
        x_axis_type=x_axis,
        tools="xpan,wheel_zoom,box_zoom,tap,reset,save",
        background_fill_color=None,
        border_fill_color=None,
        outline_line_color=None,
        output_backend="canvas",  # WebGL leaves markers out under some drivers
        x_range=DataRange1d(range_padding=0.05),
        y_range=DataRange1d(range_padding=0.05),
        min_border_left=56,
        min_border_right=16,
    )
    plot.toolbar.logo = None
    plot.toolbar.autohide = True
    plot.toolbar.active_scroll = None  # the wheel scrolls the page until it is asked to zoom
    plot.axis.minor_tick_line_color = None
    plot.axis.axis_label_text_font = plot.axis.major_label_text_font = FONT
    plot.axis.axis_label_text_font_style = "normal"
    plot.axis.axis_label_text_font_size = "12px"
    plot.axis.major_label_text_font_size = "12px"
    plot.axis.axis_label_text_color = plot.axis.major_label_text_color = POINT
    plot.axis.axis_line_color = plot.axis.major_tick_line_color = POINT
    plot.grid.grid_line_color, plot.grid.grid_line_alpha = POINT, 0.25
    plot.yaxis[0].formatter = BasicTickFormatter(use_scientific=False)
    if x_axis == "linear":
        plot.xaxis[0].formatter = BasicTickFormatter(use_scientific=False)
        plot.xaxis[0].ticker.desired_num_ticks = 4  # more would run into each other, as long as numbers may be
    look = {"line_color": LIMIT, "line_dash": "dashed", "line_width": 1.5, "visible": False}
    upright = [Span(dimension="height", location=0, **look) for _ in range(2)]
    across = [Span(dimension="width", location=0, **look) for _ in range(2)]
    for span in (*upright, *across):
        plot.add_layout(span)
    points = {"x": [], "y": [], "code": [], "name": []}
    bars = {"left": [], "right": [], "all": [], "marked": []}
    return Drawing(
        plot,
        ColumnDataSource(bars if name == "histogram" else points),
        ColumnDataSource({"x": [], "y": []}),
        LinearColorMapper(palette=[POINT], low=-0.5, high=0.5),
        upright,
        across,
    )


def limits_in_words(spec: Spec, limits: Sequence[float]) -> str:
    """The thresholds of a column in words, empty where there are none."""
    told = " and ".join(format_number(value, spec.precision) for value in limits)
    return f"{spec.label}: judged at {told} {spec.unit}".rstrip() if limits else ""
