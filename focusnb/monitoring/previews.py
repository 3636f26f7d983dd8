"""Previews of single images, for whoever points at one of them: small, blurred as the last image is, and nameless.

They go out in sheets of neighbours by number, so that a session of thousands is some dozens of files, and a sheet that
is complete is never written again. A page fetches the one sheet that it needs, when it needs it.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from focusnb.errors import FocusError
from focusnb.monitoring.blur import encode_png, open_picture, read_picture, thumbnail
from focusnb.monitoring.chunks import file_name
from focusnb.monitoring.pictures import preview_pixel_size
from focusnb.monitoring.session import Session
from focusnb.monitoring.settings import PublishSettings
from focusnb.monitoring.shelf import Shelf
from focusnb.monitoring.unread import Unread, mark_of

SIDE = 80
"""Pixels of a preview's longer side: at a cut-off of 200 Å all there is of an image of 0.8 µm."""

EACH = 32
"""Neighbours in a sheet, of numbers from a multiple of it on; as many as bits that say which are there."""

COLUMNS = 8

_LINES = math.ceil(EACH / COLUMNS)

_LAYOUT = ("1", SIDE, EACH, COLUMNS)  # what a sheet that was kept depends on beside its members; 1: how it is drawn

ROUND = 64
"""Previews made in one round: those of a session that is older than its watch come by and by, the newest first."""

_SHOWN = ("micrograph_preview", "unaligned_preview")  # the first that there is
_FACTS = ("folder", "processed_at", "width", "height", "pixel_size")


class _Member(NamedTuple):
    """All that a preview depends on."""

    id: int
    path: str
    processed_at: str
    facts: tuple[Any, ...]


class _Sheet(NamedTuple):
    """A sheet of those of its members that are made; ``complete`` where these are all."""

    members: tuple[_Member, ...]
    complete: bool
    told: dict[str, Any] | None
    content: bytes


class Previews:
    """Keeps the sheets of a session and makes again those in which something changed.

    shelf : where those that are complete are found again by the next process; clock : tells seconds, and when an image
    whose file could not be read is tried again
    """

    def __init__(self, shelf: Shelf | None = None, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._shelf, self._clock = shelf, clock
        self._sheets: dict[int, _Sheet] = {}
        self._cells: dict[_Member, np.ndarray | None] = {}
        self._unread: Unread[_Member] = Unread(clock=clock)
        self._shelved: set[str] = set()
        self._blur = 0.0
        self._seen: tuple[Any, ...] = ()
        self._told: tuple[dict[str, Any] | None, dict[str, bytes]] = (None, {})

    def update(
        self, session: Session, settings: PublishSettings, *, most: int | None = ROUND
    ) -> tuple[dict[str, Any] | None, dict[str, bytes]]:
        """Return what the page is told of previews, and the sheets by their names; None where none are shown.

        most : previews made this time (a sheet is always finished); None makes all
        """
        count = settings.previews if settings.pictures else 0
        if count == 0 or settings.blur != self._blur:
            self._sheets, self._cells, self._blur, self._seen = {}, {}, settings.blur, ()
            self._unread = Unread(clock=self._clock)
        if count == 0:
            return None, {}
        if self._seen == (session.revision, count) and not self._unread.is_due:
            return self._told
        wanted = _sheets(_members(session, count))
        kept: dict[int, _Sheet] = {}
        made = self._try_again(session.project.folder, most)
        for number, members in wanted.items():
            known = self._sheets.get(number)
            if known is None or known.members != members or not known.complete:
                known = self._found(number, members) or known
            if known is not None and known.members == members and known.complete:
                kept[number] = known
                continue
            if most is None or made < most:
                made += self._make(session.project.folder, members)
            # where there is no time left, what is made of it is shown without the rest
            kept[number] = self._lay(number, members, known)
        self._keep(kept, newest=next(iter(wanted), None))
        # what is left of an old session is gone on with next time, though nothing changed
        complete = all(sheet.complete for sheet in kept.values())
        self._sheets, self._seen = kept, (session.revision, count) if complete else ()
        there = {member for members in wanted.values() for member in members}
        self._cells = {member: cell for member, cell in self._cells.items() if member in there}
        self._unread.keep(self._cells)
        shown = [sheet for _, sheet in sorted(kept.items()) if sheet.told is not None]
        told = {"each": EACH, "columns": COLUMNS, "blurred_to": settings.blur or None}
        contents = {sheet.told["file"]: sheet.content for sheet in shown if sheet.told is not None}
        self._told = {**told, "sheets": [sheet.told for sheet in shown]}, contents
        return self._told

    def _make(self, folder: Path, members: Sequence[_Member]) -> int:
        new = [member for member in members if member not in self._cells]
        for member in new:
            self._read(folder, member)
        return len(new)

    def _read(self, folder: Path, member: _Member) -> None:
        path = folder / member.path
        mark = mark_of(path)
        try:
            self._cells[member] = _cell(path, member.facts, self._blur)
        except (OSError, ValueError, FocusError) as error:
            self._cells[member] = None
            self._unread.note(member, path, mark, unchanging=not isinstance(error, OSError))
        else:
            self._unread.forget(member)

    def _try_again(self, folder: Path, most: int | None) -> int:
        """Read what could not be read before and may be by now; its sheet is then laid anew."""
        due = self._unread.due(most)
        for member in due:
            self._read(folder, member)
            if self._cells[member] is not None:
                self._sheets.pop(member.id // EACH, None)
        return len(due)

    def _lay(self, number: int, members: tuple[_Member, ...], known: _Sheet | None) -> _Sheet:
        """Put those previews of a sheet that are made side by side, each in the middle of its cell."""
        laid = tuple(member for member in members if member in self._cells)
        complete = laid == members
        if known is not None and known.members == laid and not complete:
            return known
        found = {member.id - number * EACH: self._cells[member] for member in laid}
        cells = {place: cell for place, cell in found.items() if cell is not None}
        if not cells:
            return _Sheet(laid, complete, None, b"")
        height, width = (max(cell.shape[axis] for cell in cells.values()) for axis in (0, 1))
        paper = np.zeros((_LINES * height, COLUMNS * width), np.uint8)
        for place, cell in cells.items():
            y = place // COLUMNS * height + (height - cell.shape[0]) // 2
            x = place % COLUMNS * width + (width - cell.shape[1]) // 2
            paper[y : y + cell.shape[0], x : x + cell.shape[1]] = cell
        content = encode_png(paper)
        return _Sheet(laid, complete, _told(content, number, cells, width, height), content)

    def _found(self, number: int, members: tuple[_Member, ...]) -> _Sheet | None:
        """A sheet of the same members that an earlier process made."""
        content = None if self._shelf is None else self._shelf.find(self._blur, number, (_LAYOUT, members))
        if content is None:
            return None
        try:
            width, height = open_picture(content).size
        except FocusError:
            return None
        places = [member.id - number * EACH for member in members]
        told = _told(content, number, places, width // COLUMNS, height // _LINES)
        self._shelved.add(told["file"])
        return _Sheet(members, True, told, content)

    def _keep(self, sheets: Mapping[int, _Sheet], *, newest: int | None) -> None:
        """Lay on the shelf what is new, complete and grows no more; what misses a preview may be better next time."""
        for number, sheet in sheets.items() if self._shelf is not None else ():
            if number == newest or not sheet.complete or sheet.told is None or sheet.told["file"] in self._shelved:
                continue
            self._shelved.add(sheet.told["file"])
            if self._shelf is not None and sheet.told["there"].bit_count() == len(sheet.members):
                self._shelf.put(self._blur, number, (_LAYOUT, sheet.members), sheet.content, others=sheets)
        self._shelved &= {sheet.told["file"] for sheet in sheets.values() if sheet.told is not None}


def _told(content: bytes, number: int, places: Iterable[int], width: int, height: int) -> dict[str, Any]:
    told = {"file": file_name(content, "png"), "first": number * EACH, "there": sum(1 << place for place in places)}
    return {**told, "width": width, "height": height}


def sheet_names(status: Mapping[str, Any]) -> list[str]:
    """The names of the sheets that a state tells of; none in a state of a version that knew no previews."""
    previews = status.get("previews")
    return [] if previews is None else [str(sheet["file"]) for sheet in previews["sheets"]]


def _members(session: Session, most: int) -> list[_Member]:
    """The last images that were processed and have a preview, the newest first; in whole sheets.

    Else the oldest sheet would be another one with every image that comes.
    """
    processed = session.ids[np.isfinite(session.processed)]
    numbers = np.unique(processed[-most:] // EACH)
    identities = processed[np.isin(processed // EACH, numbers)].tolist()
    rows = session.rows(identities, (*_SHOWN, *_FACTS))
    members = []
    for identity in reversed(identities):
        row = rows.get(identity, {})
        name = next((row[name] for name in _SHOWN if row.get(name)), None)
        if name is not None:
            facts = tuple(row.get(fact) for fact in ("width", "height", "pixel_size"))
            members.append(_Member(identity, f"{row['folder']}/{name}", str(row.get("processed_at")), facts))
    return members


def _sheets(members: Sequence[_Member]) -> dict[int, tuple[_Member, ...]]:
    """Members by the number of their sheet, that of the newest first."""
    found: dict[int, list[_Member]] = {}
    for member in members:
        found.setdefault(member.id // EACH, []).append(member)
    return {number: tuple(inside) for number, inside in found.items()}


def _cell(path: Path, facts: tuple[Any, ...], blur: float) -> np.ndarray | None:
    """The preview of one image; None where it cannot be blurred to a stated size.

    OSError, ValueError or FormatError where it cannot be read.
    """
    row = dict(zip(("width", "height", "pixel_size"), facts, strict=True))
    return thumbnail(read_picture(path), side=SIDE, pixel_size=lambda size: preview_pixel_size(row, size), cutoff=blur)
