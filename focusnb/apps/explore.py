"""The explorer of a project: its table, the exposure under the cursor, plots, and what can be done with it all."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, Any

import ipywidgets as widgets

from focusnb.apps.opening import Named, NotOpened, open_named
from focusnb.panels.actions import ActionBar
from focusnb.panels.details import Details
from focusnb.panels.header import ProjectHeader
from focusnb.panels.overview import Overviews
from focusnb.panels.polling import in_thread
from focusnb.panels.processing import ProcessingBar
from focusnb.panels.table import LibraryTable
from focusnb.panels.theme import Theme

if TYPE_CHECKING:
    import pandas as pd

    from focusnb.panels.plots import Plots
    from focusnb.project.browsing.rows import Rows
    from focusnb.project.project import Project

LOOK, QUIET = 0.2, 1.0
"""Seconds between two looks whether the table is there, and from then to when the plots' columns are read."""

SHEETS = ("Details", "Plots")


def explorer(project: Named) -> Explorer | NotOpened:
    """Show a project, open or named by its folder, and follow it as it grows."""
    opened = open_named(project)
    return opened if isinstance(opened, NotOpened) else Explorer(opened)


class Explorer:
    """The panels of a project, linked.

    What is ticked in the table, or without a tick highlighted, is the ``selection``; ``current`` is the exposure under
    the cursor, whose views and numbers are shown. Every panel is an attribute: ``table``, ``overviews``, ``details``,
    ``plots``, ``actions``, ``header``, ``processing``.
    """

    def __init__(self, project: Project, *, height: int = 560) -> None:
        """``height`` : of the table in pixels."""
        from focusnb.panels.plots import load_bokeh

        load_bokeh(again=True)  # later, when plots are wanted, no cell is left that could bring it into the page
        self.project = project
        self.table = LibraryTable(project, alone=False, height=height)  # first: it is told first what changed
        self.header = ProjectHeader(project)
        self.processing = ProcessingBar(project)
        self.overviews = Overviews(project, order=lambda: self.table.order, alone=False)
        self.details = Details(project, alone=False)
        self.actions = ActionBar(project, self.table)
        self._plots: Plots | None = None
        self._plots_place = widgets.VBox()
        self.sheets = widgets.Tab([self.details.widget, self._plots_place], titles=list(SHEETS), selected_index=0)
        self.sheets.observe(self._on_sheet, names="selected_index")
        self.widget = self._arrange()
        self._link()
        self._preparing: asyncio.Task[None] | None = None
        with contextlib.suppress(RuntimeError):  # a script has no loop, and makes them when it wants them
            self._preparing = asyncio.get_running_loop().create_task(self._prepare_plots())

    def _arrange(self) -> Any:
        def box(kind: Any, name: str, *children: Any) -> Any:
            made = kind(children)
            made.add_class(f"fnb-explorer-{name}")
            return made

        top = box(widgets.VBox, "top", self.header.widget, self.processing.widget)
        rows = box(widgets.VBox, "rows", self.actions.widget, self.table.widget)
        sides = box(widgets.Box, "sides", rows, box(widgets.VBox, "views", self.overviews.widget))
        page = widgets.VBox([Theme(), top, sides, box(widgets.VBox, "sheets", self.sheets)])
        page.add_class("fnb")
        page.add_class("fnb-explorer")
        return page

    def _link(self) -> None:
        table, views = self.table, self.overviews
        table.on_current(self._on_current)
        table.on_highlight(self._on_highlight)
        table.on_caught_up(self._on_caught_up)
        table.on_arranged(views.follow_order)
        table.on_open(lambda exposure: self.show("Details"))
        table.grid.observe(lambda _: self.actions.update(), names="ticked_count")
        views.on_show(lambda exposure: table.highlight([exposure]))
        if table.shown:
            table.highlight(table.shown[:1], reveal=False)

    # What a notebook asks for

    @property
    def selection(self) -> list[int]:
        """Ids of the ticked exposures; of the highlighted ones where none is ticked."""
        return self.table.selection

    @property
    def current(self) -> int | None:
        """The exposure under the cursor."""
        return self.table.current

    @property
    def frame(self) -> pd.DataFrame:
        """The rows shown as a DataFrame: the columns shown, in their order; ``attrs`` holds units and labels."""
        return self.table.browser.frame

    @property
    def plots(self) -> Plots:
        """The plots, which are made when they are first wanted."""
        if self._plots is None:
            from focusnb.panels.plots import Plots

            self._plots = Plots(self.project, rows=self.table.browser.rows, alone=False)
            self._plots.on_select(self._on_brush)
            self._plots_place.children = [self._plots.widget]
            self._plots.highlight(self.table.highlighted)
        return self._plots

    async def _prepare_plots(self) -> None:
        """Read what the plots will need once the table is there, so that they come at once when they are wanted."""
        rows = self.table.browser.rows
        while not self.table.browser.is_loaded:
            if self.table.is_gone:
                return
            await asyncio.sleep(LOOK)
        await asyncio.sleep(QUIET)

        def read() -> Rows:
            from focusnb.panels.plots import first_columns

            return rows.fetch(name for name in first_columns(rows) if name not in rows.columns)

        with contextlib.suppress(Exception):  # whatever it is: the plots will tell it to who asks for them
            part = await asyncio.wrap_future(in_thread(read))
            if self._plots is None:
                self.table.take(part)

    def show(self, sheet: str) -> None:
        """Show Details or Plots below the table."""
        self.sheets.selected_index = SHEETS.index(sheet)

    # Links

    def _on_sheet(self, change: dict[str, Any]) -> None:
        if change["new"] is not None and SHEETS[change["new"]] == "Plots":
            _ = self.plots

    def _on_current(self, exposure: int | None) -> None:
        if exposure is not None:
            self.overviews.show(exposure)
            self.details.show(exposure)

    def _on_highlight(self, ids: list[int]) -> None:
        self.actions.update()
        if self._plots is not None:
            self._plots.highlight(ids)

    def _on_caught_up(self) -> None:
        if self._plots is not None:
            self._plots.deliver(None)

    def _on_brush(self, ids: list[int]) -> None:
        self.table.highlight(ids)

    # Life

    def close(self) -> None:
        """Follow the project no more and take the widgets away."""
        if self._preparing is not None:
            self._preparing.cancel()
        panels = [self.header, self.processing, self.table, self.overviews, self.details, self.actions, self._plots]
        for panel in panels:
            if panel is not None:
                panel.close()
        self.widget.close()

    def _ipython_display_(self) -> None:
        from IPython.display import display

        display(self.widget)

    def __repr__(self) -> str:
        return f"<Explorer of {self.project!r}>"
