"""Sources that are deleted once their copies were verified: late, and never one that somebody may still write to."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Collection
from dataclasses import dataclass
from pathlib import Path

from focusnb.errors import FormatError
from focusnb.io import files
from focusnb.io.complete import frames_said, read_structure, stand_of
from focusnb.io.folders import Stand
from focusnb.project import placing
from focusnb.project.gathering import ImportReport

STILL = 60.0
"""Seconds for which a source must have stood still after its copy was verified: a camera may pause between frames."""


@dataclass
class _Due:
    """A source with its copy; how it stood when the copy was found to be as it is, and when that was."""

    path: Path
    placed: Path
    stand: Stand
    since: float


class Deletion:
    """Deletes sources some time after they were imported, if nothing has happened to them since.

    deleted : resolved paths of what it has deleted
    """

    def __init__(self, report: ImportReport, *, clock: Callable[[], float] = time.monotonic) -> None:
        """Begin with nothing to delete; what stays is told in the report."""
        self.report, self._clock = report, clock
        self._due: dict[str, _Due] = {}
        self.deleted: set[str] = set()

    def __len__(self) -> int:
        """How many sources are to be deleted."""
        return len(self._due)

    def add(self, path: Path, placed: Path, metadata: Path | None = None) -> None:
        """Let a source be deleted whose copy was verified, unless it is a link or has changed since.

        metadata : its mdoc or XML; one that says more frames than there are keeps it at its source, and so does
            whatever else shows that it is not whole
        """
        if path.is_symlink() or placed.is_symlink() or not placed.is_file():
            return
        stand = stand_of(path)
        if stand is None or not _is_copy(path, stand, placed):
            return
        structure, said = read_structure(placed), _frames_said(metadata, path)
        frames = structure.frames
        if not structure.whole:
            self.report.tell("is not whole, so it stays at its source", about=str(path), topic="not whole")
            return
        if 1 < frames < said:  # an average has one, and the metadata of its movie
            self.report.tell(
                f"holds {frames} frames and its metadata say {said}, so it stays at its source",
                about=str(path),
                topic=f"{frames} of {said} frames",
            )
            return
        self._due[str(path)] = _Due(path, placed, stand, self._clock())

    def step(self, absent: Collection[Path] = (), *, last: bool = False) -> None:
        """Delete what has been still for long enough; what another program has open is kept until that closes it.

        absent : roots of which nothing can be read at the moment
        last : whether there is no later step
        """
        now = self._clock()
        due = [
            held
            for held in self._due.values()
            if now - held.since >= STILL and not any(held.path.is_relative_to(root) for root in absent)
        ]
        opened = open_files() if due else set()
        for held in due:
            if os.path.realpath(held.path) not in opened:
                del self._due[str(held.path)]
                self._delete(held)
            elif last:
                del self._due[str(held.path)]
                self.report.tell("is open in another program, so it stays at its source", about=str(held.path))
            else:
                held.since = now

    def finish(
        self,
        say: Callable[[str], None],
        stopped: Callable[[], bool] = lambda: False,
        rest: Callable[[float], object] = time.sleep,
    ) -> None:
        """Wait until all was still for long enough, and delete it; what is left when stopped stays."""
        if self._due and STILL > 0:
            say(f"files to delete at their source: {len(self)}, each when it has not changed for {STILL:.0f} s")
        while self._due and not stopped():
            self.step(last=True)
            if self._due:
                rest(0.5)
        if self._due:
            self.report.tell(f"files that were to be deleted and stay: {len(self)}; import again to delete them")

    def _delete(self, held: _Due) -> None:
        path = held.path
        source = os.path.realpath(path)
        try:
            if not os.path.lexists(path):
                return
            if stand_of(path) != held.stand or not held.placed.is_file():
                self.report.tell(
                    "has changed since it was copied, so it stays until it was imported as it is now", about=str(path)
                )
                return
            path.unlink(missing_ok=True)
            self.deleted.add(source)
        except OSError as error:
            self.report.tell(f"cannot be deleted ({error.strerror}); it was imported", about=str(path))


def open_files() -> set[str]:
    """Paths of the files that programs of this host have open, as far as the system tells this user."""
    found: set[str] = set()
    try:
        processes = [name for name in os.listdir("/proc") if name.isdigit()]
    except OSError:
        return found
    for process in processes:
        place = f"/proc/{process}/fd"
        try:
            # read as links and not followed: one may lead to a server that is dead
            for handle in os.listdir(place):
                found.add(os.readlink(f"{place}/{handle}"))
        except OSError:
            continue
    return found


def _is_copy(path: Path, stand: Stand, placed: Path) -> bool:
    """Whether a copy is that of a source as it stands; read anew where its time leaves that open."""
    if not placing.is_as_placed(path, placed):
        return False
    held = os.stat(placed)
    if (held.st_size, held.st_mtime_ns) == (stand.size, stand.changed_ns):
        return True
    try:
        return files.hash_file(path) == files.hash_file(placed)
    except FormatError:
        return False


def _frames_said(metadata: Path | None, path: Path) -> int:
    try:
        return (frames_said(metadata, path.name) or 0) if metadata is not None else 0
    except FormatError:
        return 0
