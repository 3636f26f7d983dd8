"""Snapshots: what may be seen of a session at one moment, as plain data and small files.

A snapshot is all that the page for the outside, the dashboard and the alerts know. :class:`SnapshotMaker` makes one
again and again and reads only what changed since; :func:`read_snapshot` reads one that was published.
"""

from __future__ import annotations

import hashlib
import json
import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from focusnb.errors import FormatError
from focusnb.monitoring import states
from focusnb.monitoring.alerts import AlertBook
from focusnb.monitoring.chunks import Chunks, encode, file_name, is_file_name
from focusnb.monitoring.disk import DiskWatch
from focusnb.monitoring.history import MONTH, compare, describe_session, microscope_of, past_sessions
from focusnb.monitoring.pictures import LastPictures
from focusnb.monitoring.previews import ROUND, Previews, sheet_names
from focusnb.monitoring.rules import RuleSet, read_rules
from focusnb.monitoring.session import Session
from focusnb.monitoring.settings import PublishSettings
from focusnb.monitoring.shelf import Shelf
from focusnb.project import lease
from focusnb.project.project import Project

SCHEMA = 1
"""Of the published state; a reader refuses what is newer by name."""

STATUS_NAME = "status.json"

_SET = 60.0  # s by which the clock must have been set to count; it is steered all the time
_LOOKED_UP = 600.0  # s between two looks at past sessions
_LARGEST_STATUS = 8_000_000  # bytes; a week of sessions has a tenth, and as JSON it takes many times its size
_LARGEST_FILES = 200_000_000
_PATIENCE = 3.0  # refreshes that a reader waits before it calls a state stale


@dataclass(frozen=True)
class Snapshot:
    """What may be seen at one moment.

    status : as published in ``status.json``; files : its pictures and pieces of series, by the names it uses;
    sheets : the previews of single images, which a reader fetches one by one where it needs them
    """

    status: Mapping[str, Any]
    files: Mapping[str, bytes] = field(repr=False)
    sheets: Mapping[str, bytes] = field(default_factory=dict, repr=False)

    @property
    def made_at(self) -> float:
        """Seconds since 1970."""
        return float(self.status["made_at"])

    def is_stale(self, now: float) -> bool:
        """Whether a newer state should have been published by now."""
        return bool(now > self.status["valid_until"])

    def series(self) -> dict[str, np.ndarray]:
        """The series in full: time (s), id, state (a, f, x or w) and every quantity, all (n,) in the order of time."""
        pieces = [json.loads(self.files[piece["file"]]) for piece in self.status["series"]["pieces"]]
        return join_pieces(pieces, list(self.status["quantities"]))

    def older(self) -> dict[str, np.ndarray]:
        """Medians before what is there in full: time (s), count and every quantity."""
        piece = self.status["series"]["older"]
        if piece is None:
            return {"time": np.zeros(0), "count": np.zeros(0)}
        data = json.loads(self.files[piece["file"]])
        told = {name: _numbers(values) for name, values in data["values"].items()}
        return {"time": _numbers(data["time"]), "count": _numbers(data["count"]), **told}


def join_pieces(pieces: Sequence[Mapping[str, Any]], names: Sequence[str]) -> dict[str, np.ndarray]:
    """Put the published pieces of the series together; see :meth:`Snapshot.series`."""
    joined: dict[str, np.ndarray] = {
        "time": _numbers([t for piece in pieces for t in piece["time"]]),
        "id": np.array([i for piece in pieces for i in piece["id"]], np.int64),
        "state": np.array([s for piece in pieces for s in piece["state"]], "U1"),
    }
    for name in names:
        values = [piece["values"].get(name, [None] * len(piece["time"])) for piece in pieces]
        joined[name] = _numbers([v for part in values for v in part])
    for name in ("square", "hole", "stage_x", "stage_y"):
        if any(name in piece for piece in pieces):
            values = [piece.get(name, [None] * len(piece["time"])) for piece in pieces]
            joined[name] = _numbers([v for part in values for v in part])
    return joined


def make_snapshot(project: Project, *, settings: PublishSettings | None = None, keep: bool = False) -> Snapshot:
    """Make one snapshot of a project; use a :class:`SnapshotMaker` to make more than one, which tells of ``keep``."""
    return SnapshotMaker(project, most_previews=None, keep=keep).make(settings)


class SnapshotMaker:
    """Makes snapshots of a project, each at the cost of what changed.

    clock : tells seconds since 1970; steady : tells seconds that nobody sets; disk : measures the disk;
    most_previews : made anew in one snapshot, None for all;
    keep : previews are kept in the project for whoever looks later; others only use what is kept
    """

    def __init__(
        self,
        project: Project,
        *,
        clock: Callable[[], float] = time.time,
        steady: Callable[[], float] | None = None,
        disk: DiskWatch | None = None,
        most_previews: int | None = ROUND,
        keep: bool = False,
    ) -> None:
        self.project, self._clock = project, clock
        self.session = Session(project)
        self.book = AlertBook(project.folder)
        self.rules: RuleSet = read_rules(project.folder)
        self._disk = disk or DiskWatch(project.folder)
        self._chunks: dict[tuple[Any, ...], Chunks] = {}
        self._pictures = LastPictures()
        shelf = Shelf(project.folder, write=keep and not project.library.read_only)
        self._previews, self._most_previews = Previews(shelf), most_previews
        self._history: tuple[float, list[dict[str, Any]]] | None = None
        self._codes: dict[str, dict[str, int]] = {"square": {}, "hole": {}}
        self._since = clock()
        # where a clock of its own is given, that one is not set meanwhile
        self._steady = steady or (time.monotonic if clock is time.time else clock)
        self._ahead = self._since - self._steady()
        self._set_at = -math.inf

    def view(self) -> states.View:
        """What rules judge: the session as it is now."""
        now = self._clock()
        self.session.update(now)
        return self._view(now)

    def _view(self, now: float) -> states.View:
        session, ahead = self.session, now - self._steady()
        if abs(ahead - self._ahead) > _SET:
            # of a clock that was put back the watch began in the future, and images are brought back as well
            self._since += min(0.0, ahead - self._ahead)
            self._ahead, self._set_at = ahead, now
        return states.View(
            session,
            now,
            self._disk.measure(session),
            _is_served(self.project),
            since=self._since,
            steady=self._set_at,
        )

    def make(self, settings: PublishSettings | None = None, *, view: states.View | None = None) -> Snapshot:
        """Make a snapshot; ``view`` is one just taken with :meth:`view`."""
        settings = settings or PublishSettings()
        view = view or self.view()
        session, now = self.session, view.now
        self.rules = read_rules(self.project.folder)
        files: dict[str, bytes] = {}
        codes = self._numbered(session) if settings.grid else {}
        pieces, older, contents = self._pieces(settings).update(
            session, since=now - 3600 * settings.hours, grid=settings.grid, codes=codes
        )
        files.update(contents)
        pictures, of = self._pictures.update(session, settings, files)
        previews, sheets = self._previews.update(session, settings, most=self._most_previews)
        limits = self.rules.limits()
        status: dict[str, Any] = {
            "schema": SCHEMA,
            "made_at": round(now, 3),
            "valid_until": round(now + max(_PATIENCE * settings.refresh, 60.0), 3),
            "refresh": settings.refresh,
            "title": settings.title or (self.project.name if settings.names else ""),
            "microscope": settings.microscope,
            "state": states.state_of(view),
            "counts": states.counts(view),
            "windows": states.windows(view),
            "speed": states.speed(view),
            "throughput": states.throughput(view, settings.hours),
            "disk": states.forecast(view),
            "failures": states.failures(view, names=settings.names) if settings.failures else None,
            "quantities": {name: states.quantity_of(view, spec, limits) for name, spec in session.specs.items()},
            "series": {
                "pieces": [piece._asdict() for piece in pieces],
                "older": None if older is None else older._asdict(),
                "full_since": round(now - 3600 * settings.hours),
            },
            "grid": states.grid(view, codes, names=settings.names) if settings.grid else None,
            "pictures": pictures,
            "pictures_of": of,
            "previews": previews,
            "blur": settings.blur,
            "alerts": [alert.public() for alert in self.book.recent(now)],
            "session": describe_session(session),
        }
        status["history"] = compare(self._past(settings, now), status["session"], folder=self.project.folder)
        status["files"] = sorted(files)
        return Snapshot(clean(status), files, sheets)

    def _past(self, settings: PublishSettings, now: float) -> list[dict[str, Any]]:
        """Sessions of the microscope in the last month, looked up now and then."""
        if self._history is None or not 0 <= now - self._history[0] < _LOOKED_UP:
            name = microscope_of(self.project, settings, self.session)
            self._history = (now, past_sessions(name, since=now - MONTH))
        return self._history[1]

    def _numbered(self, session: Session) -> Mapping[str, Mapping[str, int]]:
        """Numbers for squares and holes from 1; one that was given stays, whatever comes later."""
        for name, known in self._codes.items():
            for text in session.texts(name):
                if text and text not in known:
                    known[text] = len(known) + 1
        return self._codes

    def _pieces(self, settings: PublishSettings) -> Chunks:
        key = (settings.grid,)
        if key not in self._chunks:
            self._chunks = {key: Chunks()}
        return self._chunks[key]


def published(snapshot: Snapshot) -> bytes:
    """The bytes of ``status.json``."""
    return encode(snapshot.status)


Fetch = Callable[[str], bytes]
"""Returns the bytes of a published file by its name; OSError where it cannot be had."""


def read_snapshot(fetch: Fetch, *, known: Mapping[str, bytes] | None = None, files: bool = True) -> Snapshot:
    """Read a published snapshot and check every file against its name.

    known : files read before, which are not fetched again; files : fetch pictures and series as well. Sheets of
    previews are left where they are: :func:`read_file` fetches one.

    Raises FormatError for what is no state, a newer one, or a file that is not what its name says.
    """
    content = fetch(STATUS_NAME)
    if len(content) > _LARGEST_STATUS:
        raise FormatError(
            f"{STATUS_NAME}: has {len(content) / 1e6:.0f} MB, a published state at most "
            f"{_LARGEST_STATUS / 1e6:.0f} MB; publish it again"
        )
    try:
        status = json.loads(content)
        newer, names = int(status["schema"]) > SCHEMA, [str(name) for name in status["files"]]
        status["made_at"], status["valid_until"], status["state"]["word"]
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise FormatError(f"{STATUS_NAME}: is no published state ({error}); publish it again") from error
    if newer:
        raise FormatError(
            f"{STATUS_NAME}: written by a newer focusnb (schema {status['schema']}, this one reads up to {SCHEMA}); "
            "update focusnb"
        )
    try:
        named = [*names, *sheet_names(status)]
    except (KeyError, TypeError, AttributeError) as error:
        raise FormatError(f"{STATUS_NAME}: its previews are none ({error}); publish it again") from error
    if odd := [name for name in named if not is_file_name(name)]:
        raise FormatError(f"{STATUS_NAME}: names {odd[0]!r}, which is no published file; publish it again")
    contents: dict[str, bytes] = {}
    size = 0
    for name in names if files else ():
        known_content = (known or {}).get(name)
        contents[name] = read_file(fetch, name) if known_content is None else known_content
        size += len(contents[name])
        if size > _LARGEST_FILES:
            raise FormatError(
                f"{STATUS_NAME}: names files of more than {_LARGEST_FILES / 1e6:.0f} MB; publish it again"
            )
    return Snapshot(status, contents)


def read_file(fetch: Fetch, name: str) -> bytes:
    """Fetch one published file; FormatError where it is not what its name says."""
    content = fetch(name)
    if file_name(content, name.rpartition(".")[2]) != name:
        digest = hashlib.sha256(content).hexdigest()[:32]
        raise FormatError(f"{name}: holds other bytes than its name says ({digest}); publish it again")
    return content


def clean(value: Any) -> Any:
    """Data as JSON can hold it: None for what is no number."""
    if isinstance(value, dict):
        return {str(key): clean(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [clean(inner) for inner in value]
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Path):
        return str(value)
    return value


def _numbers(values: Sequence[Any]) -> np.ndarray:
    return np.array([math.nan if value is None else value for value in values], np.float64)


def _is_served(project: Project) -> bool:
    return lease.holder(project.library) is not None
