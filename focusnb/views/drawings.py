"""Small line drawings as SVG, in the colours of the page they are shown on: a trajectory, averages along rings."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from focusnb.errors import FormatError
from focusnb.ops.ctf.quality import CtfCurves, fit_resolution
from focusnb.ops.drawing import round_below
from focusnb.ops.motion.field import MotionField
from focusnb.views.ctf import THRESHOLDS, read_curves, zeros_of

SIDE = 400
"""Units along a side of a drawing; it is scaled to where it is shown."""

INK, MUTED, GRID = "var(--fnb-ink, #1b2127)", "var(--fnb-muted, #58616b)", "var(--fnb-line, #d9dde2)"
EARLY, LATE = "var(--fnb-warning, #855800)", "var(--fnb-running, #0b63b5)"
"""Colours of the first and the last frame."""

FIT, AGREE = "var(--fnb-accent, #1a5fb4)", "var(--fnb-done, #00735c)"
"""Colours of the fitted CTF, and of how far it agrees."""

RESOLUTIONS = (20.0, 10.0, 7.0, 5.0, 4.0, 3.0, 2.5, 2.0)
"""Å written below averages along rings."""

PLACES = 5
"""Places along the longer side at which local motion is drawn."""

_MAP = 112.0
"""Units along the longer side of the map of local motion."""


class Frame(NamedTuple):
    """Where a drawing's axes are, in units, and what they span: low and high of x and y, y up."""

    left: float
    top: float
    right: float
    bottom: float
    x: tuple[float, float]
    y: tuple[float, float]

    def across(self, value: Any) -> Any:
        """Units from the left of a value on the x axis."""
        return self.left + (np.asarray(value) - self.x[0]) / (self.x[1] - self.x[0]) * (self.right - self.left)

    def down(self, value: Any) -> Any:
        """Units from the top of a value on the y axis."""
        return self.bottom - (np.asarray(value) - self.y[0]) / (self.y[1] - self.y[0]) * (self.bottom - self.top)


def draw(product: str, path: Path) -> str:
    """Draw curves that lie in a file: SVG text. FormatError, which names file and cure, where they cannot be drawn."""
    try:
        if product == "ctf_curves":
            return draw_averages(read_curves(path))
        return draw_motion(read_motion(path))
    except (OSError, ArithmeticError, LookupError, RecursionError, TypeError, ValueError) as error:
        raise FormatError(f"{path}: cannot be drawn ({error}); run its step again") from error


def read_motion(path: Path) -> dict[str, Any]:
    """Read ``motion.json``: shifts (t, 2) as (dy, dx) in Å to apply, and the local model where there is one."""
    try:
        curves = json.loads(path.read_text())
        shifts = np.asarray(curves["shifts"], float)
        if shifts.ndim != 2 or shifts.shape[1] != 2 or not len(shifts) or not np.isfinite(shifts).all():
            raise ValueError(f"shifts of shape {shifts.shape}")
        local = None if curves.get("local") is None else np.asarray(curves["local"], float)
        if local is not None and local.shape != (len(shifts), 2, 5):
            raise ValueError(f"a local model of shape {local.shape} for {len(shifts)} frames")
        shape = tuple(int(n) for n in curves["shape"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise FormatError(f"{path}: holds no motion ({error}); run the alignment again") from error
    return {"shifts": shifts, "local": local, "shape": shape, "pixel_size": curves.get("pixel_size")}


def draw_motion(motion: Mapping[str, Any]) -> str:
    """Draw how the specimen moved from the first frame (ring) to the last, y up, and beside it its local motion.

    motion : shifts (t, 2) as (dy, dx) in Å, the shift to apply, so that the specimen moved by minus this; local
        (t, 2, 5) as :class:`focusnb.ops.motion.field.MotionField` has it, or None; shape (ny, nx)
    """
    path = -np.asarray(motion["shifts"])[:, ::-1]
    path = path - path[0]
    local = motion.get("local")
    # the path lies over the map where both need the same corner
    parts = [*([] if local is None else _draw_local(motion)), *_draw_path(path)]
    length = float(np.hypot(*np.diff(path, axis=0).T).sum()) if len(path) > 1 else 0.0
    parts.append(_text(28, 24, f"Motion {length:.1f} Å", INK, size=16))
    parts.append(_text(SIDE - 16, 24, "x, y in Å", MUTED, anchor="end"))
    told = f"Motion of the specimen over {len(path)} frames, {length:.1f} Å in all"
    return _svg(parts, told + ("; local motion in the corner" if local is not None else ""))


def _draw_path(path: np.ndarray) -> list[str]:
    low, high = path.min(axis=0), path.max(axis=0)
    middle, half = 0.5 * (low + high), 0.6 * max(float((high - low).max()), 1.0)
    frame = Frame(44, 40, SIDE - 16, SIDE - 32, *((float(m - half), float(m + half)) for m in middle))
    parts = _grid(frame, _round_values(*frame.x), _round_values(*frame.y))
    points = np.column_stack([frame.across(path[:, 0]), frame.down(path[:, 1])])
    last = max(len(points) - 1, 1)
    for step in range(1, len(points)):
        colour = f"color-mix(in oklab, {LATE} {100 * step / last:.0f}%, {EARLY})"
        parts.append(_line([points[step - 1], points[step]], colour, 2.5))
    for step in range(len(points) - 1, 0, -1):
        colour = f"color-mix(in oklab, {LATE} {100 * step / last:.0f}%, {EARLY})"
        parts.append(f'<circle cx="{points[step][0]:.1f}" cy="{points[step][1]:.1f}" r="3" style="fill:{colour}"/>')
    first = points[0]
    parts.append(
        f'<circle class="first" cx="{first[0]:.1f}" cy="{first[1]:.1f}" r="5.5" '
        f'style="fill:var(--fnb-surface, #fff);stroke:{EARLY};stroke-width:3"/>'
    )
    # the word goes to the side the path does not take, and stays within the axes
    away = -1 if len(points) > 1 and points[1:4, 0].mean() > first[0] else 1
    if away < 0 and first[0] < frame.left + 44:
        away = 1
    parts.append(_text(first[0] + 12 * away, first[1] - 8, "first", EARLY, anchor="start" if away > 0 else "end"))
    return parts


def _draw_local(motion: Mapping[str, Any]) -> list[str]:
    """Draw what places move beside the whole frame, from first to last frame, in a small map of the field."""
    shape, local = motion["shape"], np.asarray(motion["local"])
    field = MotionField(np.zeros((len(local), 2)), shape, local)
    ny, nx = (max(2, round(PLACES * side / max(shape))) for side in shape)
    y, x = (np.arange(n) + 0.5 for n in (ny, nx))
    y, x = (grid.ravel() for grid in np.meshgrid(y * shape[0] / ny, x * shape[1] / nx, indexing="ij"))
    moved = -field.at(y, x)[:, :, ::-1]  # (t, places, 2) as (x, y) in Å
    moved = moved - moved[0]
    longest = float(np.hypot(moved[..., 0], moved[..., 1]).max())
    if longest < 1e-3:
        return []
    scale = _MAP / max(shape)
    width, height, margin, head = shape[1] * scale, shape[0] * scale, 10.0, 18.0
    left, top = _free_corner(motion, width + 2 * margin, height + 2 * margin + head)
    unit = 0.9 * _MAP / PLACES / longest  # as long as there is room beside the next place
    parts = [
        f'<rect x="{left:.1f}" y="{top:.1f}" width="{width + 2 * margin:.1f}" '
        f'height="{height + 2 * margin + head:.1f}" rx="4" style="fill:var(--fnb-sunken, #eef0f3)"/>',
        _text(left + margin, top + 18, f"local, ≤ {longest:.1f} Å", MUTED, size=13),
    ]
    for place in range(moved.shape[1]):
        start = left + margin + x[place] * scale, top + margin + head + height - y[place] * scale
        points = [(start[0] + unit * dx, start[1] - unit * dy) for dx, dy in moved[:, place]]
        parts.append(_line(points, LATE, 1.5))
        parts.append(f'<circle cx="{start[0]:.1f}" cy="{start[1]:.1f}" r="1.8" style="fill:{EARLY}"/>')
    return parts


def _free_corner(motion: Mapping[str, Any], width: float, height: float) -> tuple[float, float]:
    """Left and top of the corner from which the path stays farthest."""
    path = -np.asarray(motion["shifts"])[:, ::-1]
    low, high = path.min(axis=0), path.max(axis=0)
    half = max(float((high - low).max()), 1.0)
    place = (path - 0.5 * (low + high)) / half  # −0.5 to 0.5, y up
    sides = [(right, up) for right in (1, -1) for up in (1, -1)]
    right, up = max(sides, key=lambda c: np.hypot(place[:, 0] - 0.5 * c[0], place[:, 1] - 0.5 * c[1]).min())
    return (SIDE - 20 - width if right > 0 else 48.0), (44.0 if up > 0 else SIDE - 36 - height)


def draw_averages(curves: CtfCurves) -> str:
    """Draw the average along the rings without its background beside CTF², and below it their local correlation."""
    frequency = np.asarray(curves.frequency, float)
    if frequency.size < 2:
        raise FormatError(f"the curves of the CTF hold {frequency.size} points; run fit_ctf again")
    span = float(frequency[0]), float(frequency[-1])
    upper = Frame(44, 40, SIDE - 16, SIDE - 128, span, (-0.25, 1.35))
    lower = Frame(44, SIDE - 112, SIDE - 16, SIDE - 32, span, (-0.1, 1.05))
    ticks = [(1 / d, f"{d:g}") for d in RESOLUTIONS if span[0] <= 1 / d <= span[1]]
    parts = [_rule(upper.across(place), upper.top, lower.bottom, GRID) for place, _ in ticks]
    parts += [_text(lower.across(place), SIDE - 14, label, MUTED, anchor="middle") for place, label in ticks]
    reached = fit_resolution(curves, THRESHOLDS[0])
    end = 1 / reached if reached else span[0]
    parts += [
        _rule(upper.across(zero), upper.down(-0.1), upper.down(-0.2), MUTED) for zero in zeros_of(curves) if zero <= end
    ]
    measured = np.clip(np.where(curves.seen, curves.flattened, np.nan), *upper.y)
    for values, colour, width in ((measured, INK, 1.5), (np.asarray(curves.fit, float), FIT, 2.0)):
        # beyond the resolution of the fit there is noise, and a line that nothing supports
        parts += _curve(upper, frequency, np.where(frequency <= end, values, np.nan), colour, width)
        parts += _curve(upper, frequency, np.where(frequency >= end, values, np.nan), colour, 1.0, opacity=0.25)
    if reached:
        parts.append(_rule(upper.across(end), upper.top, lower.bottom, INK))
        beside, anchor = (6, "start") if end < 0.5 * sum(span) else (-6, "end")
        parts.append(_text(upper.across(end) + beside, lower.top - 6, f"{reached:.1f} Å", INK, anchor=anchor))
    for threshold in THRESHOLDS:
        parts.append(_across(lower, threshold, MUTED if threshold else GRID))
    quality = np.clip(np.asarray(curves.quality, float), -0.1, 1.0)
    parts += _curve(lower, frequency, quality, AGREE, 1.5)
    parts += [
        _text(44, 24, "measured", INK),
        _text(118, 24, "fit", FIT),
        _text(SIDE - 16, 24, "resolution in Å", MUTED, anchor="end"),
        _text(36, lower.down(1.0) + 4, "1", MUTED, anchor="end"),
        _text(36, lower.down(0.5) + 4, "½", MUTED, anchor="end"),
        _text(36, lower.down(0.0) + 4, "0", MUTED, anchor="end"),
    ]
    is_left = end > 0.5 * sum(span)
    parts.append(
        _text(44 if is_left else SIDE - 16, lower.top - 6, "correlation", AGREE, anchor="start" if is_left else "end")
    )
    return _svg(parts, "Average along the rings beside the fitted CTF, and their correlation")


# Pieces


def _grid(frame: Frame, across: Iterable[float], up: Iterable[float]) -> list[str]:
    parts = []
    for value in across:
        parts.append(_rule(frame.across(value), frame.top, frame.bottom, GRID))
        parts.append(_text(frame.across(value), frame.bottom + 18, _number(value), MUTED, anchor="middle"))
    for value in up:
        parts.append(_across(frame, value, GRID))
        parts.append(_text(frame.left - 6, frame.down(value) + 4, _number(value), MUTED, anchor="end"))
    return parts


def _round_values(low: float, high: float) -> list[float]:
    step = round_below((high - low) / 3)
    return [number * step for number in range(math.ceil(low / step), math.floor(high / step) + 1)]


def _number(value: float) -> str:
    return f"{value:g}".replace("-", "−")


def _rule(x: float, top: float, bottom: float, colour: str) -> str:
    return f'<path d="M{x:.1f} {top:.1f}V{bottom:.1f}" style="stroke:{colour};fill:none"/>'


def _across(frame: Frame, value: float, colour: str) -> str:
    dash = ";stroke-dasharray:3 3" if colour == MUTED else ""
    return f'<path d="M{frame.left} {frame.down(value):.1f}H{frame.right}" style="stroke:{colour};fill:none{dash}"/>'


def _line(points: Iterable[Sequence[float]], colour: str, width: float, *, opacity: float = 1.0) -> str:
    d = "L".join(f"{x:.1f} {y:.1f}" for x, y in points)
    style = f"stroke:{colour};stroke-width:{width:g};fill:none;stroke-linejoin:round;stroke-linecap:round"
    style += f";opacity:{opacity:g}" if opacity < 1 else ""
    return f'<path d="M{d}" style="{style}"/>'


def _curve(frame: Frame, x: np.ndarray, y: np.ndarray, colour: str, width: float, *, opacity: float = 1.0) -> list[str]:
    """Draw a line with gaps where values are missing."""
    there = np.flatnonzero(np.isfinite(y))
    runs = np.split(there, np.flatnonzero(np.diff(there) > 1) + 1) if there.size else []
    return [
        _line(zip(frame.across(x[run]), frame.down(y[run]), strict=True), colour, width, opacity=opacity)
        for run in runs
        if run.size > 1
    ]


def _text(x: float, y: float, text: str, colour: str, *, anchor: str = "start", size: int = 14) -> str:
    return (
        f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" style="fill:{colour};font-size:{size}px">{text}</text>'
    )


def _svg(parts: Iterable[str], told: str) -> str:
    head = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {SIDE} {SIDE}" role="img" aria-label="{told}">'
    return f"{head}{''.join(parts)}</svg>"
