"""A session on one page, and its series as CSV and its plots as PNG, for the log book and for the users."""

from __future__ import annotations

import base64
import csv
import datetime
import html
import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from focusnb.errors import ParameterError
from focusnb.io import files
from focusnb.monitoring.pictures import plot_png
from focusnb.monitoring.quantities import Limit
from focusnb.monitoring.snapshot import Snapshot
from focusnb.parameters import Spec

_STATES = {"a": "accepted", "f": "flagged", "w": "waiting", "x": "failed"}

_POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:"

_STYLE = """
body { max-width: 980px; margin: 24px auto; padding: 0 16px; font: 14px/20px system-ui, sans-serif; color: #1b2127; }
h1 { font-size: 20px; } h2 { font-size: 14px; margin: 24px 0 8px; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
td, th { padding: 4px 12px 4px 0; text-align: right; font-weight: 400; border-top: 1px solid #d9dde2; }
td:first-child, th:first-child { text-align: left; } th { color: #58616b; }
.plots { display: grid; grid-template-columns: repeat(auto-fit, minmax(300px, 1fr)); gap: 8px; }
img { width: 100%; height: auto; border-radius: 4px; } p { color: #58616b; }
@media print { body { margin: 0; } .plots { break-inside: avoid; } }
"""


def series_csv(snapshot: Snapshot) -> str:
    """The series of a snapshot as CSV: time (ISO, UTC), id, state and every quantity, its unit in the caption."""
    series = snapshot.series()
    quantities = snapshot.status["quantities"]
    names = [name for name in quantities if np.isfinite(series[name]).any()]
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    captions = [f"{name} ({quantities[name]['unit']})" if quantities[name]["unit"] else name for name in names]
    writer.writerow(["time", "id", "state", *captions])
    for place, time in enumerate(series["time"]):
        at = datetime.datetime.fromtimestamp(float(time), datetime.UTC).isoformat()
        values = [series[name][place] for name in names]
        told = ["" if not np.isfinite(value) else f"{value:g}" for value in values]
        writer.writerow([at, int(series["id"][place]), _STATES[str(series["state"][place])], *told])
    return out.getvalue()


def series_png(snapshot: Snapshot, name: str, *, size: tuple[int, int] = (720, 360)) -> bytes:
    """The plot of one quantity with its limits; ParameterError where the snapshot has none of this name."""
    quantities = snapshot.status["quantities"]
    if name not in quantities:
        raise ParameterError(f"{name} is no series of this session; there are {', '.join(quantities)}")
    told = quantities[name]
    spec = Spec(name, label=told["label"], unit=told["unit"], precision=told["precision"])
    series, older = snapshot.series(), snapshot.older()
    past = older.get(name, np.full(len(older["time"]), np.nan))
    time, values = np.concatenate([older["time"], series["time"]]), np.concatenate([past, series[name]])
    return plot_png(time, values, spec, limit=Limit(told["low"], told["high"]), size=size)


def session_report(snapshot: Snapshot) -> str:
    """The session as one HTML page that needs nothing else: numbers, plots, alerts, failures."""
    status = snapshot.status
    session = status["session"]
    if session is None:
        raise ParameterError("the session has no image yet; there is nothing to report")
    title = " · ".join(part for part in (status["title"], status["microscope"]) if part) or "Session"
    begin, end = (_moment(session[name]) for name in ("begin", "end"))
    rate = session["images_per_hour"]
    numbers = [
        ("Images", session["images"]),
        ("Usable", f"{session['usable']} ({100 * session['usable'] / max(session['images'], 1):.0f} %)"),
        ("Failed", session["failed"]),
        ("Images per hour", "–" if rate is None else f"{rate:.0f}"),
    ]
    parts = [f"<h1>{_text(title)}</h1><p>{begin} to {end}</p>", _table(["", ""], numbers)]
    parts.append("<h2>Medians</h2>" + _medians(status, session["medians"]))
    shown = [name for name, told in status["quantities"].items() if told["known"]]
    plots = "".join(_picture(series_png(snapshot, name), status["quantities"][name]["caption"]) for name in shown)
    parts.append(f'<h2>Over time</h2><div class="plots">{plots}</div>')
    if status["pictures"]:
        pictures = "".join(
            _picture(snapshot.files[picture["file"]], picture["label"])
            for picture in status["pictures"]
            if picture["file"]
        )
        parts.append(f'<h2>Last image</h2><div class="plots">{pictures}</div>')
    if status["alerts"]:
        rows = [(_moment(alert["began"]), alert["sentence"], alert["state"]) for alert in status["alerts"]]
        parts.append("<h2>Alerts of the last day</h2>" + _table(["Began", "What", "State"], rows))
    if status["failures"]:
        told_rows = [(failure["count"], failure["reason"]) for failure in status["failures"]]
        parts.append("<h2>Failures</h2>" + _table(["Images", "Why"], told_rows))
    body = "\n".join(parts)
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">'
        f"<title>{_text(title)}</title><style>{_STYLE}</style></head><body>{body}</body></html>\n"
    )


def write_report(snapshot: Snapshot, folder: Path) -> list[Path]:
    """Write ``report.html``, ``series.csv`` and a PNG for each quantity into a folder; returns the files."""
    folder.mkdir(parents=True, exist_ok=True)
    written = [folder / "report.html", folder / "series.csv"]
    files.write_text(written[0], session_report(snapshot))
    files.write_text(written[1], series_csv(snapshot))
    for name, told in snapshot.status["quantities"].items():
        if told["known"]:
            written.append(folder / f"{name}.png")
            files.write_bytes(written[-1], series_png(snapshot, name))
    return written


def _medians(status: Mapping[str, Any], medians: Mapping[str, float]) -> str:
    history = (status["history"] or {}).get("quantities", {})
    rows = []
    for name, value in medians.items():
        told = status["quantities"].get(name)
        if told is None:
            continue
        usual = history.get(name)
        shown = [value, *((usual["median"], usual["low"], usual["high"]) if usual else (None, None, None))]
        rows.append((told["caption"], *(_number(number, told["precision"]) for number in shown)))
    return _table(["", "this session", "last month", "from", "to"], rows)


def _number(value: float | None, precision: int | None) -> str:
    return "–" if value is None else f"{value:.{2 if precision is None else precision}f}"


def _moment(time: float) -> str:
    return datetime.datetime.fromtimestamp(time).strftime("%Y-%m-%d %H:%M")


def _picture(content: bytes, label: str) -> str:
    return f'<img alt="{_text(label)}" src="data:image/png;base64,{base64.b64encode(content).decode()}">'


def _table(head: list[str], rows: list[tuple[Any, ...]]) -> str:
    def line(tag: str, cells: Any) -> str:
        return "<tr>" + "".join(f"<{tag}>{_text(cell)}</{tag}>" for cell in cells) + "</tr>"

    top = line("th", head) if any(head) else ""
    return f"<table>{top}{''.join(line('td', row) for row in rows)}</table>"


def _text(value: Any) -> str:
    return html.escape(str(value))
