"""The figure of a CTF: averages along the rings, the fit, and how far both agree."""

from __future__ import annotations

import json
import textwrap
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from bokeh.models import (
    BoxAnnotation,
    ColumnDataSource,
    FixedTicker,
    HoverTool,
    Label,
    LinearAxis,
    LinearScale,
    Range1d,
    Span,
)
from bokeh.plotting import figure

from focusnb.errors import FormatError
from focusnb.ops import drawing
from focusnb.ops.ctf.averages import curves_from_lists
from focusnb.ops.ctf.quality import CtfCurves, fit_resolution

RESOLUTIONS = (30.0, 10.0, 7.0, 5.0, 4.0, 3.0, 2.5, 2.0)
"""Å written at the axis, whose positions are 1/Å."""

THRESHOLDS = (0.5, 0.0)
"""Of the quality: where the fit resolution, and where ctf_fit_resolution_0, is read."""

FLAT = (-0.25, 1.5)
"""Where the average without its background is drawn; noise goes further, and says nothing there."""

QUALITY_PART = 0.3
"""Part of the height that the quality has for itself, below the averages."""

_GAP = 0.04  # part of the height about the quality

_DARKEST = 0.15  # CTF² at a zero as a parabola finds it, where only a few points lie on each ring


class _Look(NamedTuple):
    """Colours; each pair of lines differs in lightness as well, so that no colour need be told from another."""

    paper: drawing.Colour
    text: drawing.Colour
    muted: drawing.Colour
    grid: drawing.Colour
    measured: drawing.Colour
    fit: drawing.Colour
    quality: drawing.Colour


_DARK = _Look(
    drawing.BACKGROUND, drawing.TEXT, drawing.MUTED, drawing.GRID, (236, 238, 242), drawing.ACCENT, (110, 170, 232)
)
_LIGHT = _Look(
    (255, 255, 255), (32, 35, 40), (100, 106, 116), (226, 228, 232), (62, 66, 73), (213, 94, 0), (0, 98, 168)
)


class FlatCurves(NamedTuple):
    """Averages as they are compared: the background removed, the rings scaled to equal height; all (rings,).

    frequency : 1/Å; resolution : Å
    measured : the average along the rings, 0 to 1 where there is no noise, nan where no rings are left
    fit : CTF², 0 to 1
    quality : local correlation of both, −1 to 1
    """

    frequency: np.ndarray
    resolution: np.ndarray
    measured: np.ndarray
    fit: np.ndarray
    quality: np.ndarray


def read_curves(curves: Mapping[str, Any] | Path) -> CtfCurves:
    """Return curves from lists by name, or from the file ``curves.json`` of an exposure.

    Raises FormatError where a curve is missing, or is of another length than the others.
    """
    if not isinstance(curves, Path):
        return curves_from_lists(curves)
    try:
        return curves_from_lists(json.loads(curves.read_text()), source=str(curves))
    except ValueError as error:
        raise FormatError(f"{curves}: is no JSON ({error}); was it copied while being written?") from error


def flat_curves(curves: Mapping[str, Any] | Path) -> FlatCurves:
    """Return the curves with their background removed and rings of equal height, as programs for CTFs draw them.

    Raises FormatError as :func:`read_curves`.
    """
    read = read_curves(curves)
    return FlatCurves(read.frequency, 1.0 / read.frequency, _flattened(read), read.fit, read.quality)


def _flattened(curves: CtfCurves) -> np.ndarray:
    """The average without its background; a gap where no rings are left, as a line at 0 would look measured."""
    return np.where(curves.seen, curves.flattened, np.nan)


def ctf_figure(
    curves: Mapping[str, Any] | Path | None,
    *,
    findings: Mapping[str, Any] | pd.Series | None = None,
    dark: bool = False,
    flattened: bool = False,
) -> figure:
    """Draw the average along the astigmatic rings with background and fit, and below it their local correlation.

    curves : lists by name as in ``curves.json``, or that file; empty, or a file that is not there, for a failed fit
    findings : what the fit found, by name, or the exposure's row: defocus, resolutions, quality and remark; without
    them the resolution is read from the curves
    dark : for a dark page
    flattened : draw the average without its background against CTF²; otherwise as it was measured, logarithmically

    The axis is in 1/Å and says Å. Where there are no curves the figure says why. Raises FormatError for curves that
    cannot be drawn.
    """
    look = _DARK if dark else _LIGHT
    found = {} if findings is None else {name: value for name, value in findings.items() if not pd.isna(value)}
    there = curves.is_file() if isinstance(curves, Path) else bool(curves)
    if not there or curves is None:
        return _empty_figure(found, look)
    read = read_curves(curves)
    if read.frequency.size < 2:
        return _empty_figure(found, look)
    if findings is None:
        found = {"ctf_fit_resolution": fit_resolution(read, 0.5), "ctf_fit_resolution_0": fit_resolution(read, 0.0)}
    plot = _figure(look, _title(found), axis="linear" if flattened else "log")
    source = ColumnDataSource(_columns(read))
    first, last = float(read.frequency[0]), float(read.frequency[-1])
    plot.x_range = Range1d(max(first - 0.02 * (last - first), 0.0), last + 0.02 * (last - first))
    _draw_averages(plot, source, look, flattened=flattened)
    _draw_quality(plot, source, look)
    _mark(plot, read, found, look)
    _label_axes(plot, look, flattened=flattened)
    return plot


def _columns(curves: CtfCurves) -> dict[str, np.ndarray]:
    """What is drawn and told, by name; powers relative to the background's median, their unit means nothing."""
    usual = float(np.median(curves.background))
    scale = 1.0 / usual if usual > 0 else 1.0
    return {
        "frequency": curves.frequency,
        "resolution": 1.0 / curves.frequency,
        "measured": scale * curves.measured,
        "background": scale * curves.background,
        "fitted": scale * (curves.background + curves.contrast * curves.fit),
        "flattened": _flattened(curves),
        "shown": np.clip(_flattened(curves), *FLAT),
        "fit": curves.fit,
        "quality": curves.quality,
    }


def _figure(look: _Look, title: str, *, axis: str = "linear") -> figure:
    """An empty figure in the look of the page."""
    plot = figure(
        height=360,
        sizing_mode="stretch_width",
        title=title,
        y_axis_type=axis,
        tools="xpan,xwheel_zoom,xbox_zoom,reset,save",
        background_fill_color=look.paper,
        border_fill_color=look.paper,
        outline_line_color=None,
    )
    plot.toolbar.logo = None
    plot.toolbar.autohide = True
    plot.title.text_color = look.text
    plot.title.text_font_size = "13px"
    plot.title.text_font_style = "normal"
    return plot


def _draw_averages(plot: figure, source: ColumnDataSource, look: _Look, *, flattened: bool) -> None:
    """Draw what was measured and what was fitted into the upper part; its axis ends where the quality begins."""
    if flattened:
        names, told, (low, high) = ("shown", "fit"), "flattened", FLAT
        span = (high - low) / (1.0 - QUALITY_PART)
        plot.y_range = Range1d(high - span, high)
        ticks: list[float] = [0.0, 0.5, 1.0]
    else:
        names, told = ("measured", "fitted"), "measured"
        values = np.concatenate([source.data[name] for name in (*names, "background")])
        values = values[np.isfinite(values) & (values > 0)]
        low, high = (float(values.min()), 1.1 * float(values.max())) if values.size else (0.5, 2.0)
        span = np.log(high / low) / (1.0 - QUALITY_PART - _GAP)
        plot.y_range = Range1d(float(high / np.exp(span)), high)
        ticks = _round_ticks(low, high)
        plot.line(
            "frequency",
            "background",
            source=source,
            line_color=look.muted,
            line_dash="dashed",
            legend_label="background",
        )
    measured = plot.line(
        "frequency", names[0], source=source, line_color=look.measured, line_width=1.5, legend_label="measured"
    )
    plot.line("frequency", names[1], source=source, line_color=look.fit, line_width=2, legend_label="fit")
    plot.yaxis[0].ticker = FixedTicker(ticks=ticks)
    tooltips = [
        ("Resolution", "@resolution{0.00} Å"),
        ("Measured", f"@{told}{{0.000}}"),
        ("Fit", f"@{names[1]}{{0.000}}"),
        ("Quality", "@quality{0.00}"),
    ]
    plot.add_tools(HoverTool(renderers=[measured], tooltips=tooltips, mode="vline", line_policy="nearest"))


def _draw_quality(plot: figure, source: ColumnDataSource, look: _Look) -> None:
    """Draw the quality from 0 to 1 into the lower part, with the thresholds at which resolutions are read."""
    whole = 1.0 / (QUALITY_PART - 2 * _GAP)
    plot.extra_y_scales = {"quality": LinearScale()}
    plot.extra_y_ranges = {"quality": Range1d(-_GAP * whole, (1.0 - _GAP) * whole)}
    for threshold in THRESHOLDS:
        level = Span(
            dimension="width",
            location=threshold,
            y_range_name="quality",
            line_color=look.muted,
            line_dash="dotted",
            level="underlay",
        )
        plot.add_layout(level)
    plot.line(
        "frequency",
        "quality",
        source=source,
        y_range_name="quality",
        line_color=look.quality,
        line_width=1.5,
        legend_label="quality",
    )
    axis = LinearAxis(y_range_name="quality", axis_label="Quality", axis_label_align="start")
    axis.ticker = FixedTicker(ticks=[0.0, 0.5, 1.0])
    plot.add_layout(axis, "right")


def _mark(plot: figure, curves: CtfCurves, found: Mapping[str, Any], look: _Look) -> None:
    """Mark the zeros of the CTF, lightly, and the resolutions of the fit."""
    reached = found.get("ctf_fit_resolution")
    crossed = found.get("ctf_fit_resolution_0")
    last = 1.0 / min((float(value) for value in (reached, crossed) if value), default=1.0 / curves.frequency[-1])
    zeros = zeros_of(curves)
    plot.vspan(x=zeros[zeros <= last].tolist(), line_color=look.muted, line_alpha=0.3, line_width=1, level="underlay")
    if crossed:
        plot.add_layout(Span(dimension="height", location=1.0 / crossed, line_color=look.quality, line_dash="dotted"))
    if reached:
        place = 1.0 / float(reached)
        plot.add_layout(BoxAnnotation(left=place, fill_color=look.muted, fill_alpha=0.08, level="underlay"))
        plot.add_layout(Span(dimension="height", location=place, line_color=look.quality, line_width=1.5))
        plot.add_layout(
            Label(
                x=place,
                y=1.0,
                y_range_name="quality",
                x_offset=5,
                y_offset=2,
                text=f"{reached:.1f} Å",
                text_color=look.quality,
                text_font_size="12px",
            )
        )


def zeros_of(curves: CtfCurves) -> np.ndarray:
    """Return the frequencies in 1/Å at which the fitted CTF² touches zero, between rings by a parabola."""
    fit = curves.fit.astype(np.float64)
    inner = np.flatnonzero((fit[1:-1] <= fit[:-2]) & (fit[1:-1] < fit[2:])) + 1
    before, at, after = fit[inner - 1], fit[inner], fit[inner + 1]
    step = 0.5 * (before - after) / np.maximum(before - 2.0 * at + after, 1e-12)
    # a minimum that stays high is where the phase turns back, or where rings are sampled too coarsely
    deep = at - 0.25 * (before - after) * step < _DARKEST
    return np.interp((inner + step)[deep], np.arange(fit.size), curves.frequency)


def _label_axes(plot: figure, look: _Look, *, flattened: bool) -> None:
    plot.xaxis[0].ticker = FixedTicker(ticks=[1.0 / resolution for resolution in RESOLUTIONS])
    plot.xaxis[0].major_label_overrides = {1.0 / resolution: f"{resolution:g}" for resolution in RESOLUTIONS}
    plot.xaxis[0].axis_label = "Resolution (Å)"
    plot.yaxis[0].axis_label = "Average, background removed" if flattened else "Power, relative to the background"
    plot.grid.grid_line_color = None  # the zeros of the CTF are lines enough
    plot.axis.axis_line_color = look.grid
    plot.axis.major_tick_line_color = look.muted
    plot.axis.minor_tick_line_color = None
    plot.axis.major_label_text_color = look.text
    plot.axis.axis_label_text_color = look.muted
    plot.axis.axis_label_text_font_style = "normal"
    legend = plot.legend[0]
    legend.orientation = "horizontal"
    legend.click_policy = "hide"
    legend.background_fill_color = None
    legend.border_line_color = None
    legend.label_text_color = look.text
    plot.add_layout(legend, "above")


def _round_ticks(low: float, high: float) -> list[float]:
    """Return 1, 2, 5, 10 ... between two powers; where that are too few, all steps of 0.2."""
    decades = range(int(np.floor(np.log10(low))), int(np.ceil(np.log10(high))) + 1)
    ticks = [float(f"{digit}e{decade}") for decade in decades for digit in (1, 2, 5)]
    ticks = [tick for tick in ticks if low <= tick <= high]
    return ticks if len(ticks) > 1 else [float(tick) for tick in np.arange(np.ceil(5 * low), 5 * high + 0.01) / 5]


def _title(found: Mapping[str, Any]) -> str:
    """What was found, in a line: defocus in µm, as it is spoken of."""
    parts = []
    u, v = found.get("defocus_u"), found.get("defocus_v")
    if u is not None and v is not None:
        parts.append(f"Defocus {1e-4 * u:.3f} / {1e-4 * v:.3f} µm")
    if found.get("phase_shift"):
        parts.append(f"phase shift {found['phase_shift']:.0f}°")
    quality, probability = found.get("ctf_quality"), found.get("ctf_probability")
    if quality:
        parts.append(f"{quality}" + (f" ({100 * probability:.0f} %)" if probability is not None else ""))
    if found.get("ctf_remark"):
        parts.append(textwrap.shorten(str(found["ctf_remark"]), 90, placeholder=" …"))
    return "   ".join(parts)


def _empty_figure(found: Mapping[str, Any], look: _Look) -> figure:
    """A figure that says why there is nothing to draw."""
    plot = _figure(look, "No CTF")
    plot.toolbar_location = None
    plot.axis.visible = False
    plot.grid.visible = False
    plot.x_range, plot.y_range = Range1d(0.0, 1.0), Range1d(0.0, 1.0)
    reason = found.get("ctf_remark") or "the CTF was not fitted yet, or its curves were removed"
    plot.text(
        x=[0.5],
        y=[0.5],
        text=[textwrap.fill(str(reason), 60)],
        text_align="center",
        text_baseline="middle",
        text_color=look.muted,
        text_font_size="14px",
    )
    return plot
