"""Histogram, scatter and time series of the library's columns; what is brushed in one is marked in all."""

from __future__ import annotations

import asyncio
import html
import time
from collections.abc import Callable, Iterable
from typing import Any

import anywidget
import ipywidgets as widgets
import numpy as np
from bokeh.core.json_encoder import serialize_json
from bokeh.document import Document
from bokeh.events import SelectionGeometry
from jupyter_bokeh import BokehModel

from focusnb.errors import FocusError, ParameterError
from focusnb.panels.base import Panel
from focusnb.panels.theme import bundle
from focusnb.project.browsing.rows import Changed, Rows
from focusnb.project.project import Project
from focusnb.views import plots

DEFAULTS = {
    "histogram": ("ctf_fit_resolution",),
    "x": ("defocus_u",),
    "y": ("ctf_fit_resolution",),
    "time": ("drift", "mean_counts"),
}
"""Columns shown at first, the first there is."""

COLOURINGS = {"One colour": "none", "Flag": "flag", "Status": "status", "Group": "group"}

JUDGE = "judge_exposure"

MANY = 20_000
"""Rows above which figures follow the library every few seconds only."""

PAUSE = 3.0


class Look(anywidget.AnyWidget):
    """Brings the colours of the figures into the page."""

    _esm = bundle("plots.mjs")


class Figure(BokehModel):
    """A figure that whoever comes later sees as it is then: as made, it shows what was there when it was made."""

    _is_closed = False

    def update_from_model(self, model: Any) -> None:
        """Follow a figure; what the browser is told of it is put together when it is told, not here as well."""
        self._model = model
        if model.document is None:
            Document().add_root(model)
        model.document.on_change_dispatch_to(self)

    def get_state(self, key: Any = None, drop_defaults: bool = False) -> dict[str, Any]:
        """What the browser is told of it, the figure as it is now."""
        state: dict[str, Any] = super().get_state(key, drop_defaults)
        if "render_bundle" in state:
            state["render_bundle"] = serialize_json(self._model_to_traits(self._model))
        return state

    def close(self) -> None:
        """Take it away; once, as the garbage collector asks for it again."""
        if not self._is_closed:
            self._is_closed = True
            super().close()


class Plots(Panel):
    """Three linked figures. ``selected`` are the exposures marked in all of them."""

    def __init__(self, project: Project, *, rows: Rows | None = None, alone: bool = True) -> None:
        """``rows`` : rows of the library that another panel keeps in step with it; without, it reads its own."""
        super().__init__(project, alone=alone)
        load_bokeh(again=alone)
        self._rows = Rows(project.library) if rows is None else rows
        self._are_shared = rows is not None
        self._selected: list[int] = []
        self._select_callbacks: list[Callable[[list[int]], None]] = []
        self._due = 0.0
        self._waiting: asyncio.TimerHandle | None = None
        self._specs = plots.plottable(self._rows.specs)
        self._drawings = {
            "histogram": plots.bars_figure(),
            "scatter": plots.points_figure("scatter"),
            "time": plots.points_figure("time", timed=True),
        }
        for name, drawing in self._drawings.items():
            drawing.plot.on_event(SelectionGeometry, self._on_brush(name))
        self._choosers = {role: self._chooser(role) for role in DEFAULTS}
        self._rows.need(first_columns(self._rows))  # at once: each reading goes through all rows
        self._colour = widgets.Dropdown(options=COLOURINGS, value="flag", tooltip="What the colour of a point tells")
        self._colour.observe(lambda _: self._draw(), names="value")
        self._told = {name: widgets.HTML() for name in self._drawings}
        self._key, self._count = widgets.HTML(), widgets.HTML()
        self._empty = widgets.HTML()
        self._places: dict[str, Any] = {}
        self._arrange()
        self.start()
        # only now, when there is something to be seen in them: the browser is told once
        for name, place in self._places.items():
            head, told = place.children
            place.children = [head, Figure(self._drawings[name].plot), told]

    def _chooser(self, role: str) -> widgets.Dropdown:
        options = [(spec.caption, name) for name, spec in self._specs.items()]
        names = [name for _, name in options]
        first = _first_of(role, names)
        words = {"histogram": "Counted column", "x": "Across", "y": "Up", "time": "Followed in time"}[role]
        chooser = widgets.Dropdown(options=options, value=first, tooltip=words)
        chooser.observe(lambda _: self._changed(role), names="value")
        return chooser

    def _arrange(self) -> None:
        def figure(name: str, *heads: widgets.Widget) -> widgets.Box:
            head = _box(widgets.HBox, "fnb-plots-heads", *heads)
            self._told[name].add_class("fnb-plots-told")
            self._places[name] = _box(widgets.VBox, "fnb-plots-figure", head, self._told[name])
            return self._places[name]

        choose, against, through = self._choosers, widgets.Label("against"), widgets.Label("in time")
        for label in (against, through):
            label.add_class("fnb-muted")
        self._figures = _box(
            widgets.Box,
            "fnb-plots-figures",
            figure("histogram", widgets.Label("How many by"), choose["histogram"]),
            figure("scatter", choose["y"], against, choose["x"]),
            figure("time", choose["time"], through),
        )
        clear = widgets.Button(description="Mark none", tooltip="Take all marks away (Esc)")
        clear.on_click(lambda _: self._select([]))
        self._clear = clear
        bar = _box(widgets.HBox, "fnb-plots-bar", widgets.Label("Colour"), self._colour, self._key, self._count, clear)
        self._bar = bar
        self.widget.add_class("fnb-plots")
        self.body.children = [Look(), bar, self._figures, self._empty]

    # For programs and for other panels

    @property
    def selected(self) -> list[int]:
        """The exposures that are marked, by id."""
        return list(self._selected)

    @property
    def columns(self) -> dict[str, str]:
        """What the figures show: histogram, x, y and time, by column."""
        return {role: str(chooser.value) for role, chooser in self._choosers.items()}

    def choose(self, *, colour: str | None = None, **columns: str) -> None:
        """Show other columns (``histogram``, ``x``, ``y``, ``time``), or another colouring; raises ParameterError."""
        for role, name in columns.items():
            if role not in self._choosers:
                raise ParameterError(f"{role} is no place for a column; there are {', '.join(self._choosers)}")
            if name not in self._specs:
                raise ParameterError(f"{name} is no column that can be plotted; there are {', '.join(self._specs)}")
        if colour is not None and colour not in COLOURINGS.values():
            raise ParameterError(f"{colour} is no colouring; there are {', '.join(COLOURINGS.values())}")
        for role, name in columns.items():
            self._choosers[role].value = name
        if colour is not None:
            self._colour.value = colour

    def highlight(self, ids: Iterable[int]) -> None:
        """Mark exposures in all figures, without calling back."""
        wanted = [int(i) for i in ids]
        if sorted(wanted) != sorted(self._selected):  # in another order they are the same rows
            self._selected = wanted
            self._mark()

    def on_select(self, callback: Callable[[list[int]], None]) -> None:
        """Call a function with the ids of the exposures that a user has brushed; an empty list where there are none."""
        self._select_callbacks.append(callback)

    # Following the project

    def refresh(self, changes: Changed | None) -> None:
        """Take up what changed; what the user zoomed into stays."""
        if changes is not None and self._waiting is not None:
            return
        wait = self._due - time.monotonic()
        if changes is None or wait <= 0 or not self._later(wait):
            self._follow()

    def _later(self, wait: float) -> bool:
        """Follow a little later; False where there is no loop that could."""
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:
            return False
        self._waiting = loop.call_later(wait, self._follow_late)
        return True

    def _follow_late(self) -> None:
        self._waiting = None
        with self.guard("show the present state"):
            self._follow()

    def _follow(self) -> None:
        if not self._are_shared:  # who keeps them has to learn what changed
            self._rows.refresh()
        declared = plots.plottable(self._rows.specs)
        if declared != self._specs:
            self._specs = declared
            for chooser in self._choosers.values():
                value = chooser.value
                chooser.options = [(spec.caption, name) for name, spec in declared.items()]
                chooser.value = value if value in declared else next(iter(declared), None)
        self._draw()
        self._due = time.monotonic() + (PAUSE if len(self._rows) > MANY else 0.0)

    def close(self) -> None:
        """Follow no more."""
        if self._waiting is not None:
            self._waiting.cancel()
        super().close()

    # Drawing

    def _changed(self, role: str) -> None:
        self._drawings["scatter" if role in ("x", "y") else role].forget_ranges()
        self._draw()

    def _draw(self) -> None:
        rows, chosen = self._rows, self._chosen()
        sight = plots.in_sight(rows)
        nothing = not sight.any() or None in chosen.values()
        for widget, hidden in ((self._figures, nothing), (self._bar, nothing), (self._empty, not nothing)):
            widget.layout.display = "none" if hidden else None
        if nothing:
            self._empty.value = _EMPTY
            return
        limits = self._limits()
        self._describe_bars(chosen["histogram"], sight, limits)
        marks = plots.colour_by(rows, self._colour.value, sight)
        for figure, x, y in _axes(chosen):
            self._draw_points(figure, x, y, marks, sight, limits)
        self._show_key(marks)
        self._mark()

    def _chosen(self) -> dict[str, Any]:
        return {role: chooser.value for role, chooser in self._choosers.items()}

    def _mark(self) -> None:
        """Show which rows are marked; what else is drawn stays."""
        rows, chosen = self._rows, self._chosen()
        sight = plots.in_sight(rows)
        if not sight.any() or None in chosen.values():
            return
        marked = np.zeros(len(rows), bool)
        marked[rows.positions(self._selected)] = True
        values, spec = plots.values_of(rows, chosen["histogram"]), self._specs[chosen["histogram"]]
        there = plots.has_numbers(sight, values)
        bars = plots.histogram(values[there], marked[there], whole=spec.type == "int")
        self._drawings["histogram"].points.data = bars
        for figure, x_name, y_name in _axes(chosen):
            x, y = plots.values_of(rows, x_name), plots.values_of(rows, y_name)
            there = plots.has_numbers(sight, x, y)
            self._drawings[figure].marked.data = plots.marked_data(x, y, marked, there)
        number, total = int((marked & sight).sum()), int(sight.sum())
        self._count.value = f"{number:,} of {total:,} marked" if number else f"{total:,} exposures"
        self._clear.disabled = not number

    def _describe_bars(self, name: str, sight: np.ndarray, limits: dict[str, list[float]]) -> None:
        drawing, spec = self._drawings["histogram"], self._specs[name]
        counted = int(plots.has_numbers(sight, plots.values_of(self._rows, name)).sum())
        drawing.label(spec.caption, "Exposures")
        drawing.show_limits(upright=limits.get(name, []))
        self._tell("histogram", plots.tell_drawn(counted, counted, int(sight.sum()), [spec]), limits, name)

    def _draw_points(
        self,
        figure: str,
        x_name: str,
        y_name: str,
        marks: plots.Marks,
        sight: np.ndarray,
        limits: dict[str, list[float]],
    ) -> None:
        rows, drawing = self._rows, self._drawings[figure]
        x, y = plots.values_of(rows, x_name), plots.values_of(rows, y_name)
        there = plots.has_numbers(sight, x, y)
        positions = plots.thin(x, y, there)
        drawing.paint([category.colour for category in marks.categories])
        drawing.points.data = plots.point_data(rows, x, y, marks, positions)
        specs = [self._specs[name] for name in dict.fromkeys((y_name, x_name)) if name in self._specs]
        drawing.label(
            self._specs[x_name].caption if x_name in self._specs else "Recorded at", self._specs[y_name].caption
        )
        drawing.show_limits(upright=limits.get(x_name, []), across=limits.get(y_name, []))
        told = plots.tell_drawn(len(positions), int(there.sum()), int(sight.sum()), specs)
        self._tell(figure, told, limits, *dict.fromkeys((y_name, x_name)))

    def _limits(self) -> dict[str, list[float]]:
        """The thresholds by which exposures are judged, by column."""
        try:
            chosen, _ = self.project.params(JUDGE)
        except FocusError:
            return {}
        params = chosen.model_dump()
        return {name: plots.limits_of(name, params) for name in self._specs}

    def _tell(self, figure: str, told: str, limits: dict[str, list[float]], *names: str) -> None:
        known = [name for name in names if name in self._specs and limits.get(name)]
        words = [plots.limits_in_words(self._specs[name], limits[name]) for name in known]
        self._told[figure].value = html.escape(". ".join(filter(None, [told, *words])))

    def _show_key(self, marks: plots.Marks) -> None:
        names = {"": "no flag" if self._colour.value == "flag" else "no group"}
        shown = [category for category in marks.categories if self._colour.value != "none"]
        words = [html.escape(names.get(category.name, category.name)) for category in shown]
        parts = (
            f'<span><i style="background:{category.colour}"></i>{word} <b>{category.number:,}</b></span>'
            for category, word in zip(shown, words, strict=True)
        )
        self._key.value = f'<div class="fnb-plots-key">{"".join(parts)}</div>'

    # The brush

    def _on_brush(self, figure: str) -> Callable[[SelectionGeometry], None]:
        def brushed(event: SelectionGeometry) -> None:
            if event.final:
                with self.guard("take these exposures"):
                    self.brush(figure, dict(event.geometry))

        return brushed

    def brush(self, figure: str, geometry: dict[str, Any]) -> list[int]:
        """Take the exposures inside a geometry of Bokeh's selections, in ``histogram``, ``scatter`` or ``time``."""
        rows, sight = self._rows, plots.in_sight(self._rows)
        if figure == "histogram":
            x, y = plots.values_of(rows, self.columns["histogram"]), None
        elif figure == "time":
            x, y = plots.values_of(rows, plots.TIME), plots.values_of(rows, self.columns["time"])
        else:
            x, y = (plots.values_of(rows, self.columns[axis]) for axis in ("x", "y"))
        if geometry.get("type") == "point":
            place = None if y is None else plots.nearest(geometry, x, y, plots.has_numbers(sight, x, y))
            found = [] if place is None else [int(rows.ids[place])]
        else:
            found = [int(i) for i in rows.ids[plots.inside(geometry, x, y) & sight]]
        self._select(found)
        return found

    def _select(self, ids: list[int]) -> None:
        self.highlight(ids)
        for callback in self._select_callbacks:
            callback(self.selected)


def _axes(chosen: dict[str, Any]) -> list[tuple[str, str, str]]:
    """The figures of points with the columns across and up."""
    return [("scatter", chosen["x"], chosen["y"]), ("time", plots.TIME, chosen["time"])]


def first_columns(rows: Rows) -> list[str]:
    """The columns that the figures read at first."""
    names = list(plots.plottable(rows.specs))
    return plots.needed(rows, filter(None, (_first_of(role, names) for role in DEFAULTS)))


def _first_of(role: str, names: list[str]) -> str | None:
    return next((name for name in DEFAULTS[role] if name in names), names[0] if names else None)


_EMPTY = (
    '<div class="fnb-empty" role="status">There is nothing to plot yet: figures appear as soon as there are exposures, '
    "and fill as these are processed.</div>"
)

_loaded = False


def load_bokeh(*, again: bool = False) -> None:
    """Bring BokehJS into the page: from this machine, never from elsewhere.

    again : though another cell has brought it already: that cell, or the page it was in, may be gone by now
    """
    global _loaded
    from IPython import get_ipython

    if (_loaded and not again) or get_ipython() is None:
        return
    from bokeh.io import output_notebook
    from bokeh.resources import INLINE

    output_notebook(INLINE, hide_banner=True)
    _loaded = True


def _box(kind: type[widgets.Box], name: str, *children: widgets.Widget) -> widgets.Box:
    box = kind(list(children))
    box.add_class(name)
    return box
