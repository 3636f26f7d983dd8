"""Time series in pieces: what is past stays as it was published, so that a reader fetches an hour only once."""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

import numpy as np

from focusnb.monitoring.session import PENDING, WRONG, Session

_FILE_NAME = re.compile(r"data/[0-9a-f]{32}\.(json|png)")

HOUR = 3600
_BINS = 300
"""Medians that stand for all that is older than what is shown in full."""


class Piece(NamedTuple):
    """A published piece of the series: its file, the seconds it spans and how many exposures it tells of."""

    file: str
    begin: int
    end: int
    images: int


class Chunks:
    """Keeps the pieces of a session's series and makes again those in which something changed."""

    def __init__(self) -> None:
        self._hours: dict[int, tuple[Piece, bytes]] = {}
        self._older: tuple[tuple[Any, ...], Piece, bytes] | None = None

    def update(
        self, session: Session, *, since: float, grid: bool, codes: Mapping[str, Mapping[str, int]]
    ) -> tuple[list[Piece], Piece | None, dict[str, bytes]]:
        """Return the pieces in full from a time on, the medians before, and the files of all."""
        first = math.floor(since / HOUR)
        changed = session.take_changed_times()
        if changed is None:
            self._hours.clear()
        for time in changed or ():
            self._hours.pop(math.floor(time / HOUR), None)
        start = int(np.searchsorted(session.time, first * HOUR))
        hours = np.floor(session.time[start:] / HOUR).astype(np.int64)
        found, begins, counts = np.unique(hours, return_index=True, return_counts=True)
        there = set(found.tolist())
        self._hours = {hour: kept for hour, kept in self._hours.items() if hour in there}
        series: dict[str, np.ndarray] | None = None
        for hour, begin, count in zip(found.tolist(), begins.tolist(), counts.tolist(), strict=True):
            if hour not in self._hours:
                series = series or {name: session.values(name) for name in session.specs}
                where = slice(start + begin, start + begin + count)
                content = encode(_full(session, series, where, grid, codes))
                piece = Piece(file_name(content, "json"), hour * HOUR, (hour + 1) * HOUR, count)
                self._hours[hour] = (piece, content)
        older = self._medians(session, start, changed)
        contents = {piece.file: content for piece, content in self._hours.values()}
        if older is not None:
            contents[older[0].file] = older[1]
        return [self._hours[hour][0] for hour in sorted(self._hours)], older and older[0], contents

    def _medians(self, session: Session, stop: int, changed: list[float] | None) -> tuple[Piece, bytes] | None:
        if stop == 0:
            return None
        untouched = changed is not None and all(time > session.time[stop - 1] for time in changed)
        key = (stop, int(session.ids[0]), int(session.ids[stop - 1]))
        if self._older is None or not untouched or self._older[0] != key:
            content = encode(_medians(session, stop))
            begin, end = int(session.time[0]), int(session.time[stop - 1]) + 1
            self._older = (key, Piece(file_name(content, "json"), begin, end, stop), content)
        return self._older[1], self._older[2]


def encode(data: Any) -> bytes:
    """Data as compact JSON; NaN has become None before."""
    return json.dumps(data, ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode()


def file_name(content: bytes, suffix: str) -> str:
    """The name of a published file, made from what it holds: ``data/<32 digits of its SHA-256>.<suffix>``."""
    return f"data/{hashlib.sha256(content).hexdigest()[:32]}.{suffix}"


def is_file_name(name: str) -> bool:
    """Whether a name is one that :func:`file_name` makes, and leads nowhere else."""
    return _FILE_NAME.fullmatch(name) is not None


def rounded(values: Iterable[float], digits: int) -> list[float | int | None]:
    """Numbers with so many digits after the point, None for what is no number."""
    told: list[float | int | None] = []
    for value in values:
        if not math.isfinite(value):
            told.append(None)
        else:
            number = round(float(value), digits)
            told.append(int(number) if digits <= 0 else number)
    return told


def digits_of(precision: int | None) -> int:
    """Digits that a published value keeps: one more than is shown."""
    return 3 if precision is None else precision + 1


def _full(
    session: Session,
    series: Mapping[str, np.ndarray],
    where: slice,
    grid: bool,
    codes: Mapping[str, Mapping[str, int]],
) -> dict[str, Any]:
    status = [session.text("status", i) or "new" for i in range(where.start, where.stop)]
    flags = [session.text("quality_flags", i) for i in range(where.start, where.stop)]
    data: dict[str, Any] = {
        "time": [int(t) for t in session.time[where]],
        "id": session.ids[where].tolist(),
        "state": [_state(s, f) for s, f in zip(status, flags, strict=True)],
        "values": {
            name: rounded(series[name][where], digits_of(spec.precision))
            for name, spec in session.specs.items()
            if np.isfinite(series[name][where]).any()
        },
    }
    if grid:
        for name, known in codes.items():
            told = [known.get(session.text(name, i) or "") for i in range(where.start, where.stop)]
            if any(code is not None for code in told):
                data[name] = told
        for name in ("stage_x", "stage_y"):
            place = session.values(name)[where]
            if np.isfinite(place).any():
                data[name] = rounded(place, 2)
    return data


def _state(status: str, flags: str | None) -> str:
    """One letter: accepted, flagged, failed or waiting."""
    if status in WRONG:
        return "x"
    if status in PENDING:
        return "w"
    return "f" if flags else "a"


def _medians(session: Session, stop: int) -> dict[str, Any]:
    time = session.time[:stop]
    width = max(600.0, (time[-1] - time[0] + 1) / _BINS)
    number = np.floor((time - time[0]) / width).astype(np.int64)
    found, begins, counts = np.unique(number, return_index=True, return_counts=True)
    data: dict[str, Any] = {
        "time": [int(time[0] + (bin_ + 0.5) * width) for bin_ in found.tolist()],
        "count": counts.tolist(),
        "values": {},
    }
    for name, spec in session.specs.items():
        values = session.values(name)[:stop]
        if np.isfinite(values).any():
            parts = [values[b : b + c] for b, c in zip(begins.tolist(), counts.tolist(), strict=True)]
            medians = [float(np.median(p[np.isfinite(p)])) if np.isfinite(p).any() else math.nan for p in parts]
            data["values"][name] = rounded(medians, digits_of(spec.precision))
    return data
