"""Pictures of a snapshot: those of the last image as they may be shown, and a plot of a quantity for a message."""

from __future__ import annotations

import math
import time as clock
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw

from focusnb.errors import FocusError
from focusnb.monitoring.blur import blurred_png, encode_png, open_picture, plain_png, read_picture
from focusnb.monitoring.chunks import file_name
from focusnb.monitoring.quantities import NO_LIMIT, Limit
from focusnb.monitoring.session import WRONG, Session
from focusnb.monitoring.settings import PublishSettings
from focusnb.ops import drawing
from focusnb.parameters import Spec

PICTURES = {
    "unaligned_preview": "image",
    "micrograph_preview": "image",
    "unaligned_spectrum_preview": "spectrum",
    "spectrum_preview": "spectrum",
    "trajectory_preview": "trajectory",
    "ctf_rings_preview": "rings",
}
"""Pictures of the last image, by the names of their products, and their kinds."""

_TOLD = ("defocus_u", "defocus_v", "ctf_fit_resolution", "drift", "iciness", "mean_counts")
_UNREACHED = "the picture's file cannot be read now"
_LOOKED_AT = 30  # exposures from the last one back until one that has pictures


class LastPictures:
    """Makes the pictures of the last processed image, once for each image."""

    def __init__(self) -> None:
        self._kept: dict[tuple[Any, ...], tuple[dict[str, Any], bytes | None]] = {}

    def update(
        self, session: Session, settings: PublishSettings, files: dict[str, bytes]
    ) -> tuple[list[dict[str, Any]], dict[str, Any] | None]:
        """Return what there is to show, and of which image; the pictures are added to ``files``."""
        specs = session.project.specs()
        shown = {name: settings.pictures if kind == "image" else settings.spectra for name, kind in PICTURES.items()}
        names = [name for name, is_shown in shown.items() if is_shown and name in specs]
        place, row = _last_with_pictures(session, names) if names else (-1, None)
        if row is None:
            return [], None
        made: dict[tuple[Any, ...], tuple[dict[str, Any], bytes | None]] = {}
        told = []
        for name in names:
            path = session.project.folder / str(row["folder"]) / str(row.get(name) or "")
            # a pixel size that was put right blurs anew
            facts = tuple(row.get(fact) for fact in ("width", "height", "pixel_size"))
            key = (row["id"], name, _changed_at(path), settings.blur, facts)
            made[key] = self._kept.get(key) or _picture(specs[name], path, row, settings.blur)
            description, content = made[key]
            told.append(description)
            if content is not None:
                files[description["file"]] = content
        # a disk that could not be read for a moment leaves no trace on the file: it is tried again next time
        self._kept = {key: kept for key, kept in made.items() if kept[0]["missing"] != _UNREACHED}
        values = {name: row.get(name) for name in _TOLD if isinstance(row.get(name), int | float)}
        of = {"time": float(session.time[place]), "id": int(row["id"]), "values": values}
        of["name"] = row["exposure"] if settings.names else None
        return told, of


def _last_with_pictures(session: Session, names: Sequence[str]) -> tuple[int, dict[str, Any] | None]:
    last = range(len(session.ids) - 1, max(-1, len(session.ids) - 1 - _LOOKED_AT), -1)
    done = [p for p in last if math.isfinite(session.processed[p]) and session.text("status", p) not in WRONG]
    # mostly the very last one has them
    for places in (done[:1], done[1:]):
        rows = session.rows([int(session.ids[place]) for place in places])
        for place in places:
            row = rows.get(int(session.ids[place]), {})
            if any(row.get(name) for name in names):
                return place, row
    return -1, None


def _changed_at(path: Path) -> int:
    try:
        return path.stat().st_mtime_ns if path.is_file() else 0
    except OSError:
        return 0


def _picture(spec: Spec, path: Path, row: dict[str, Any], blur: float) -> tuple[dict[str, Any], bytes | None]:
    kind = PICTURES[spec.name]
    told: dict[str, Any] = {"name": spec.name, "label": spec.label, "kind": kind, "file": None, "missing": None}
    if not path.is_file():
        return {**told, "missing": "not made yet"}, None
    try:
        content = read_picture(path)
        size = open_picture(content).size
        if kind == "image":
            pixel_size = preview_pixel_size(row, size)
            told["pixel_size"], told["blurred_to"] = pixel_size, blur or None
            if blur and pixel_size is None:
                return {
                    **told,
                    "missing": "the pixel size is not known, so it cannot be blurred to a stated size",
                }, None
            content = blurred_png(content, pixel_size=pixel_size or 1.0, cutoff=blur) if blur else plain_png(content)
        else:
            content = plain_png(content)
    except OSError:
        return {**told, "missing": _UNREACHED}, None
    except (ValueError, FocusError):
        return {**told, "missing": "the picture cannot be read"}, None
    told["file"], told["width"], told["height"] = file_name(content, "png"), *size
    return told, content


def preview_pixel_size(row: dict[str, Any], size: tuple[int, int]) -> float | None:
    """Å/px of a preview of (width, height) pixels, from the facts of its exposure; None where they do not tell."""
    known = [row.get(name) for name in ("width", "height", "pixel_size")]
    if any(not value for value in known):
        return None
    width, height, pixel_size = (float(value) for value in known if value)
    # one that was stretched is blurred by its finer axis
    return min(max(width, height) / max(size), min(width, height) / min(size)) * pixel_size


def plot_png(
    time: np.ndarray,
    values: np.ndarray,
    spec: Spec,
    *,
    limit: Limit = NO_LIMIT,
    began: float | None = None,
    size: tuple[int, int] = (720, 360),
    zone: float | None = None,
) -> bytes:
    """Draw a quantity over time with its limits, as PNG.

    time : (n,) s; values : (n,); began : when something happened, drawn as a line; zone : seconds that local time is
    ahead of UTC, this host's by default
    """
    scale = 2
    width, height = size[0] * scale, size[1] * scale
    canvas = Image.new("RGB", (width, height), drawing.BACKGROUND)
    pen = ImageDraw.Draw(canvas)
    small, letters = 13 * scale, 16 * scale
    left, top, right, bottom = 74 * scale, 46 * scale, width - 20 * scale, height - 40 * scale
    # Pillow's own font has no raised minus
    drawing.write(pen, (20 * scale, 22 * scale), spec.caption.replace("⁻", "-"), letters, drawing.TEXT, "lm")
    good = np.isfinite(values) & np.isfinite(time)
    time, values = time[good], values[good]
    if len(time) == 0:
        drawing.write(pen, (width / 2, height / 2), "no values yet", letters, drawing.MUTED, "mm")
        return _finish(canvas, size)
    low, high = _span(values, limit)
    begin, end = float(time[0]), max(float(time[-1]), float(time[0]) + 60)

    def across(at: float) -> float:
        return left + (right - left) * (at - begin) / (end - begin)

    def down(value: float) -> float:
        return bottom - (bottom - top) * (min(max(value, low), high) - low) / (high - low)

    step = drawing.round_below((high - low) / 3)
    for number in range(math.ceil(low / step), math.floor(high / step) + 1):
        y = down(number * step)
        pen.line([(left, y), (right, y)], fill=drawing.GRID, width=scale)
        drawing.write(pen, (left - 8 * scale, y), f"{number * step:g}", small, drawing.MUTED, "rm")
    for at, text in _clock_ticks(begin, end, zone):
        pen.line([(across(at), bottom), (across(at), bottom + 4 * scale)], fill=drawing.MUTED, width=scale)
        drawing.write(pen, (across(at), bottom + 8 * scale), text, small, drawing.MUTED, "mt")
    for value in limit:
        if value is not None and low <= value <= high:
            _dashes(pen, left, right, down(value), scale)
    if began is not None and begin <= began <= end:
        pen.line([(across(began), top), (across(began), bottom)], fill=drawing.ACCENT, width=2 * scale)
    for at, value in zip(time.tolist(), values.tolist(), strict=True):
        outside = (limit.low is not None and value < limit.low) or (limit.high is not None and value > limit.high)
        drawing.dot(pen, (across(at), down(value)), 2.2 * scale, drawing.ACCENT if outside else drawing.LATE)
    return _finish(canvas, size)


def _finish(canvas: Image.Image, size: tuple[int, int]) -> bytes:
    return encode_png(np.asarray(canvas.resize(size, Image.Resampling.LANCZOS)))


def _span(values: np.ndarray, limit: Limit) -> tuple[float, float]:
    """The values worth showing, and a limit that is not far from them."""
    low, high = (float(value) for value in np.percentile(values, (0.5, 99.5)))
    room = max(high - low, 0.05 * max(abs(high), abs(low)), 1e-6)
    for value in limit:
        if value is not None and low - 2 * room <= value <= high + 2 * room:
            low, high = min(low, value), max(high, value)
    return low - 0.08 * (high - low + room), high + 0.08 * (high - low + room)


def _clock_ticks(begin: float, end: float, zone: float | None) -> list[tuple[float, str]]:
    ahead = float(clock.localtime(begin).tm_gmtoff) if zone is None else zone
    steps = (60, 300, 600, 900, 1800, 3600, 7200, 10800, 21600, 43200, 86400, 604800)
    step = next((s for s in steps if (end - begin) / s <= 8), steps[-1])
    first = math.ceil((begin + ahead) / step)
    last = math.floor((end + ahead) / step)
    form = "%d %b" if step >= 86400 else "%H:%M"
    return [(n * step - ahead, clock.strftime(form, clock.gmtime(n * step))) for n in range(first, last + 1)]


def _dashes(pen: ImageDraw.ImageDraw, left: float, right: float, y: float, scale: int) -> None:
    at = left
    while at < right:
        pen.line([(at, y), (min(at + 8 * scale, right), y)], fill=drawing.TEXT, width=scale)
        at += 14 * scale
