"""A session in words and numbers: what state it is in, how fast it goes, what failed, how long the disk lasts."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any

import numpy as np

from focusnb.monitoring.disk import Disk
from focusnb.monitoring.quantities import Limit
from focusnb.monitoring.reasons import hidden_words, reason_key, without
from focusnb.monitoring.session import PENDING, WRONG, Session
from focusnb.parameters import Spec

WINDOWS = (1, 3, 6, 12, 24)
"""Hours over which images are counted."""

CADENCE = 60
"""Intervals between the last images that tell the usual one."""

BIN = 600
"""Seconds of a bar of the throughput."""

STOPPED = 2 * 3600.0
"""Seconds without an image after which a session is not idle but stopped."""

_RECENT = 10
_FAILING = 5  # of the last ten
_SHOWN_FAILURES = 12
_SHOWN_SQUARES = 400
_RATE = 3600.0
_PRESENT = 15  # images whose median is what a quantity is now: an hour's would hide what has just gone wrong


class View:
    """A session at one moment: what rules and words are made from.

    now : seconds since 1970 by this host's clock; served : whether a process works on the project
    since : from when on it is looked at; what was before happened while nobody watched
    steady : since when this host's clock has gone evenly; how long ago something before was nobody knows
    """

    def __init__(
        self,
        session: Session,
        now: float,
        disk: Disk | None,
        served: bool,
        *,
        since: float = -math.inf,
        steady: float = -math.inf,
    ) -> None:
        self.session, self.now, self.disk, self.served = session, now, disk, served
        self.since, self.steady = since, steady
        self.time = session.time

    @cached_property
    def status(self) -> list[str]:
        """States of the exposures in the order of time."""
        return [text or "new" for text in self.session.texts("status")]

    @cached_property
    def usable(self) -> np.ndarray:
        """(n,) bool: processed, and no rule of the project was broken."""
        return self.session.usable()

    @cached_property
    def wrong(self) -> np.ndarray:
        """(n,) bool: failed or broken."""
        return np.array([text in WRONG for text in self.status], dtype=bool)

    @cached_property
    def waiting(self) -> np.ndarray:
        """(n,) bool: not processed yet."""
        return np.array([text in PENDING for text in self.status], dtype=bool)

    @property
    def last(self) -> float | None:
        """When the last image was recorded."""
        return float(self.time[-1]) if len(self.time) else None

    @cached_property
    def seen(self) -> float | None:
        """When there was last a sign of recording: an image was recorded, or came that was recorded lately.

        The camera's clock may be put back, as in the night when summer time ends.
        """
        if self.last is None or not self.session.live:
            return self.last
        return max(self.last, self.arrived)

    @property
    def arrived(self) -> float:
        """When the last image was imported."""
        return float(np.nanmax(self.session.arrived, initial=-np.inf))

    @cached_property
    def cadence(self) -> float | None:
        """Usual seconds between two images, now; None where there are fewer than three."""
        steps = np.diff(self.time[-CADENCE - 1 :])
        return max(float(np.median(steps)), 0.1) if len(steps) >= 2 else None

    def known(self, name: str, since: float = -math.inf) -> tuple[np.ndarray, np.ndarray]:
        """Times and values of a quantity where it is known, from a time on."""
        values = self.session.values(name)
        where = np.isfinite(values) & (self.time >= since)
        return self.time[where], values[where]


def duration(seconds: float) -> str:
    """Say how long in the unit that fits."""
    if seconds < 100:
        return f"{max(0, seconds):.0f} s"
    if seconds < 100 * 60:
        return f"{seconds / 60:.0f} min"
    if seconds < 48 * 3600:
        return f"{seconds / 3600:.1f} h"
    return f"{seconds / 86400:.0f} days"


def state_of(view: View) -> dict[str, Any]:
    """The state in a word, a sentence, and how bad it is: ok, idle, warning or bad."""
    last, now = view.seen, view.now
    if last is None:
        return _state("empty", "idle", None, "No image has come yet")
    age = max(0.0, now - last)
    served = "" if view.served or not view.waiting.any() else f"; {int(view.waiting.sum())} wait and nobody processes"
    recent = view.wrong[~view.waiting][-_RECENT:]
    if recent.sum() >= _FAILING and age < STOPPED:
        told = f"Failing: {int(recent.sum())} of the last {len(recent)} images could not be processed"
        return _state("failing", "bad", last, told + served)
    if age <= pause_allowed(view):
        told = f"Recording: {_rate(view.time, now):.0f} images in the last hour"
        return _state("recording", "warning" if served else "ok", last, told + served)
    if age < STOPPED:
        return _state("idle", "warning", last, f"Idle: no new image for {duration(age)}" + served)
    return _state("stopped", "idle", last, f"Stopped: no new image for {duration(age)}" + served)


def pause_allowed(view: View) -> float:
    """Seconds without an image that are nothing unusual: three usual intervals, and at least three minutes."""
    return max(180.0, 3 * (view.cadence or 0.0))


def _state(word: str, level: str, since: float | None, sentence: str) -> dict[str, Any]:
    return {"word": word, "level": level, "last_image": since, "sentence": sentence}


def counts(view: View) -> dict[str, int]:
    """How many images there are, and what became of them."""
    status = view.status
    processed = len(status) - int(view.waiting.sum())
    return {
        "images": len(status),
        "processed": processed,
        "usable": int(view.usable.sum()),
        "flagged": processed - int(view.usable.sum()) - int(view.wrong.sum()),
        "failed": int(view.wrong.sum()),
        "waiting": int(view.waiting.sum()),
        "running": sum(text == "running" for text in status),
    }


def windows(view: View) -> list[dict[str, Any]]:
    """Counts over the last hours: recorded, processed, usable, failed."""
    told = []
    for hours in WINDOWS:
        recorded = view.time >= view.now - 3600 * hours
        processed = view.session.processed >= view.now - 3600 * hours
        told.append(
            {
                "hours": hours,
                "images": int(recorded.sum()),
                "processed": int(processed.sum()),
                "usable": int((recorded & view.usable).sum()),
                "failed": int((recorded & view.wrong).sum()),
            }
        )
    return told


def _rate(times: np.ndarray, now: float) -> float:
    """Images per hour over the last hour, or since the first one where that is less."""
    inside = times[(times > now - _RATE) & (times <= now + 60)]
    if len(inside) == 0:
        return 0.0
    finite = times[np.isfinite(times)]
    began = max(now - _RATE, float(finite.min()))
    return len(inside) * 3600 / max(now - began, 60.0)


def speed(view: View) -> dict[str, Any]:
    """Images per hour recorded and processed, and what waits."""
    processing = _rate(view.session.processed, view.now)
    waiting = int(view.waiting.sum())
    return {
        "recording": round(_rate(view.time, view.now), 1),
        "processing": round(processing, 1),
        "cadence": None if view.cadence is None else round(view.cadence, 1),
        "waiting": waiting,
        "hours_to_catch_up": round(waiting / processing, 2) if processing > 0 else None,
        "served": view.served,
    }


def throughput(view: View, hours: float) -> dict[str, Any]:
    """Images recorded and processed in each ten minutes; ``begin`` is the first second of the first bar."""
    last = math.floor(view.now / BIN)
    bars = math.ceil(3600 * hours / BIN)
    if view.last is not None:
        bars = min(bars, last - math.floor(float(view.time[0]) / BIN) + 1)
    first = last - max(bars, 1) + 1
    edges = np.arange(first, last + 2) * BIN
    done = view.session.processed
    return {
        "begin": int(edges[0]),
        "seconds": BIN,
        "recorded": np.histogram(view.time, edges)[0].tolist(),
        "processed": np.histogram(done[np.isfinite(done)], edges)[0].tolist(),
    }


def forecast(view: View) -> dict[str, Any] | None:
    """How full the disk is, and how many images and hours are left at the present speed."""
    disk = view.disk
    if disk is None:
        return None
    per = disk.per_exposure
    processed = ~view.waiting
    part = float(view.usable.sum() / processed.sum()) if processed.any() else math.nan
    images = disk.free / per if per > 0 else math.nan
    return {
        "free": disk.free,
        "total": disk.total,
        "per_image": round(per),
        "images_left": None if math.isnan(images) else int(images),
        "usable_left": None if math.isnan(images * part) else int(images * part),
        "usable_part": round(part, 4),
        "hours_left": hours_left(view),
    }


def hours_left(view: View) -> float | None:
    """Hours until the disk is full at the present speed; None where nothing is recorded."""
    disk, rate = view.disk, _rate(view.time, view.now)
    if not view.session.live:
        return None  # what was recorded before fills the disk only once
    if disk is None or disk.per_exposure <= 0 or rate <= 0:
        return None
    return round(disk.free / disk.per_exposure / rate, 2)


def failures(view: View, *, names: bool) -> list[dict[str, Any]]:
    """Why exposures failed, the most frequent first; without names, the words that could be one are left out."""
    where = np.flatnonzero(view.wrong)
    session = view.session
    hidden = frozenset() if names else hidden_words(_private_words(view, where))
    found: dict[str, dict[str, Any]] = {}
    for place in where.tolist():
        reason = session.text("reason", place) or "No reason was told"
        told = reason if names else without(reason, hidden)
        entry = found.setdefault(reason_key(told), {"reason": told, "count": 0, "last": 0.0})
        entry["count"] += 1
        entry["last"] = max(entry["last"], float(view.time[place]))
    return sorted(found.values(), key=lambda entry: -entry["count"])[:_SHOWN_FAILURES]


def _private_words(view: View, where: np.ndarray) -> Sequence[str]:
    import getpass
    import socket

    names = ("exposure", "folder", "source", "group", "specimen", "square", "hole")
    rows = view.session.rows([int(view.session.ids[place]) for place in where], names)
    words = {str(row[name]) for row in rows.values() for name in names if row.get(name)}
    try:
        user = getpass.getuser()
    except (KeyError, OSError):
        user = ""
    project = view.session.project
    return [*words, project.name, str(project.folder), socket.gethostname(), user]


def quantity_of(view: View, spec: Spec, limits: Mapping[str, Limit]) -> dict[str, Any]:
    """Caption, digits, limits and the present values of a series."""
    _, values = view.known(spec.name)
    limit = limits.get(spec.name, Limit())
    return {
        "label": spec.label,
        "unit": spec.unit,
        "caption": spec.caption,
        "help": spec.help,
        "precision": spec.precision,
        "low": limit.low,
        "high": limit.high,
        "last": float(values[-1]) if len(values) else None,
        "median": float(np.median(values)) if len(values) else None,
        "present": float(np.median(values[-_PRESENT:])) if len(values) else None,
        "known": len(values),
    }


def grid(view: View, codes: Mapping[str, Mapping[str, int]], *, names: bool) -> dict[str, Any] | None:
    """What was found on each square, and what the numbers of squares and holes in the series stand for."""
    squares = codes.get("square", {})
    if not squares and not codes.get("hole"):
        return None
    by_square: dict[str, list[int]] = {}
    for place, text in enumerate(view.session.texts("square")):
        if text:
            by_square.setdefault(text, []).append(place)
    holes = view.session.texts("hole")
    series = {name: view.session.values(name) for name in (*view.session.specs, "stage_x", "stage_y")}
    told = []
    for square, places in list(by_square.items())[-_SHOWN_SQUARES:]:
        where = np.array(places)
        medians = {name: _median(values[where]) for name, values in series.items()}
        told.append(
            {
                "square": squares[square],
                "name": square if names else None,
                "images": len(places),
                "usable": int(view.usable[where].sum()),
                "holes": len({holes[place] for place in places} - {None}),
                "x": medians.pop("stage_x"),
                "y": medians.pop("stage_y"),
                "medians": {name: value for name, value in medians.items() if value is not None},
            }
        )
    known = {number: text for text, number in codes.get("hole", {}).items()} if names else {}
    return {"squares": told, "holes": {str(number): text for number, text in known.items()}}


def _median(values: np.ndarray) -> float | None:
    finite = values[np.isfinite(values)]
    return float(np.median(finite)) if len(finite) else None
