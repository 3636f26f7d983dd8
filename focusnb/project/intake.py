"""Files between their first sight and their exposure."""

from __future__ import annotations

import shutil
import threading
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from focusnb.errors import FocusError, FormatError, ProjectError, ResourceError
from focusnb.io.complete import WITH_METADATA, Patience
from focusnb.io.folders import Stand
from focusnb.project.gathering import ImportReport, in_one_line, sentence
from focusnb.project.importer import Importer
from focusnb.project.pairing import MOVIE, Key, Pairing, Shot
from focusnb.project.sources import RESERVE_BYTES, RESERVE_SHARE

FOR_A_MOVIE = 10.0
"""Seconds for which an average, or aligned frames, wait for the movie that they were made of."""

FOR_A_PARTNER = 60.0
"""Seconds for which a file waits for others of its exposure that still grow."""

AGAIN = (2.0, 60.0)
"""Seconds until a file that could not be imported is tried again: at first, and at most."""

SPACE_AGAIN = 5.0
"""Seconds until it is looked again whether there is room on a disk that was full."""

Say = Callable[[str], None]


class TellingReport(ImportReport):
    """A report of a session that lasts: each sentence is said when it first comes up, and not kept for every file."""

    def __init__(self, say: Say, said: set[str] | None = None) -> None:
        """Take what says a sentence to the user, and what was said before by a report that this one goes on with."""
        super().__init__()
        self.say = say
        self._said: set[str] = set() if said is None else said

    def tell(self, message: str, *, about: str = "", topic: str = "") -> None:
        """Say a sentence unless one of its topic was said before."""
        message, about = in_one_line(message), in_one_line(about)
        if (topic or message) not in self._said:
            self._said.add(topic or message)
            self.say(f"{about}: {message}" if about else message)


@dataclass
class _File:
    """A recording that is seen but not imported yet."""

    root: Path
    stand: Stand
    ready_since: float | None = None
    not_before: float = 0.0
    failures: int = 0


@dataclass
class Space:
    """Watches the disk of a project, so that an import pauses before it is full.

    reserve : bytes to keep free; by default 2 % of the disk or 5 GB, whichever is more, and at most a tenth of it
    under_way : what other sources of the project write at the moment
    """

    folder: Path
    reserve: float | None = None
    usage: Callable[[Path], Any] = shutil.disk_usage
    under_way: UnderWay = field(default_factory=lambda: UnderWay())

    def take(self, size: int) -> str:
        """Set room for so many bytes aside; or say what stands against writing them."""
        with self.under_way.lock:
            told = self._lacks(size)
            if not told:
                self.under_way.sizes[id(self)] = size
        return told

    def give_back(self) -> None:
        """Set nothing aside any more: what was to be written is written, or given up."""
        with self.under_way.lock:
            self.under_way.sizes.pop(id(self), None)

    def _lacks(self, size: int) -> str:
        disk = self.usage(self.folder)
        size += sum(self.under_way.sizes.values())
        kept = self.reserve
        if kept is None:
            kept = min(max(RESERVE_SHARE * disk.total, RESERVE_BYTES), 0.1 * disk.total)
        if disk.free - size >= kept:
            return ""
        return (
            f"{self.folder}: {disk.free / 1e9:.3g} GB are free, {size / 1e9:.3g} GB are to be imported and "
            f"{kept / 1e9:.3g} GB are kept free; make room or choose another --reserve"
        )


@dataclass
class UnderWay:
    """What the imports of several sources write at the same time to one disk: bytes of each."""

    sizes: dict[int, int] = field(default_factory=dict)
    lock: threading.Lock = field(default_factory=threading.Lock)


class Intake:
    """Files between their first sight and their exposure: kept until they, and what belongs to them, are complete.

    importer : takes what is complete
    say : is told at once what holds the import up
    live : whether more may come; else nothing is waited for that is not there
    absent : roots of which nothing can be read at the moment, those of the importer
    taking : the files that are being imported; set before it is asked whether to stop
    elsewhere : what the names of files share that another thread is importing
    """

    def __init__(
        self,
        importer: Importer,
        together: Pairing,
        patience: Patience,
        space: Space,
        say: Say,
        *,
        alone: bool = False,
        newest_first: bool = False,
        live: bool = True,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.importer, self.together, self.patience, self.space = importer, together, patience, space
        self.say = say
        self.alone, self.newest_first, self.live = alone, newest_first, live
        self.full = ""
        self._clock = clock
        self._space_at = 0.0
        self._files: dict[str, _File] = {}
        self._metadata: dict[str, tuple[float, Stand]] = {}
        self._paired = False
        self.absent = importer.absent
        self.taking: tuple[str, ...] = ()
        self.elsewhere: set[Key] = set()

    @property
    def waiting(self) -> list[str]:
        """Files that are not complete yet, or wait for others, or for room."""
        return list(self._files)

    @property
    def growing(self) -> list[str]:
        """Files that are not complete yet."""
        return [path for path, file in self._files.items() if file.ready_since is None]

    # What is seen

    def knows(self, path: str) -> bool:
        """Whether nothing is to be done about a file, because it stands as it was imported."""
        if path in self._files or not self.live or self.importer.options.delete_source:
            return False
        return self.importer.holds(Path(path)) is not None

    def see(self, path: str, root: Path, stand: Stand) -> bool:
        """Note how a recording stands; True where nothing is to be done about it any more."""
        self.importer.activity.turn_to(path)
        file = self._files.get(path)
        if file is None:
            if self.knows(path):
                return True
            known = self.importer.holds(Path(path)) is not None
            file = self._files[path] = _File(root, stand, self._clock() if known else None)
        if file.stand != stand:
            file.stand, file.ready_since = stand, None
        if file.ready_since is None:
            metadata = self.importer.metadata_file(Path(path))
            if self.patience.is_complete(path, stand, metadata=metadata):
                file.ready_since = self._clock()
        return False

    def see_metadata(self, path: str, stand: Stand) -> bool:
        """Note an mdoc or XML; True where nothing is to be done about it any more.

        Most are read together with their recording. What comes later is taken when it is still.
        """
        self.importer.activity.turn_to(path)
        concerned = self.importer.awaiting(Path(path))
        if not concerned:
            return True
        now = self._clock()
        since, before = self._metadata.get(path, (now, stand))
        self._metadata[path] = (since if before == stand else now, stand)
        if now - self._metadata[path][0] < WITH_METADATA:
            return False
        del self._metadata[path]
        for identity in concerned:
            try:
                taken = self.importer.add_metadata(identity, Path(path))
            except FormatError:
                continue  # it changed while it was read: it is seen again
            if taken:
                self.importer.report.tell(
                    "came after its exposure was imported, whose facts were renewed", about=path, topic="late metadata"
                )
        return True

    def lose(self, path: str) -> None:
        """Forget a file that is gone."""
        self._files.pop(path, None)
        self._metadata.pop(path, None)
        self.patience.forget(path)

    # What is complete

    def take(self, until: float = float("inf"), stopped: Callable[[], bool] = lambda: False) -> list[str]:
        """Import what is complete, for some time; returns the files that are done with.

        until : by the clock; what is under way then is finished
        Raises ResourceError where the disk is full and nothing is waited for.
        """
        done: list[str] = []
        for shot in self._shots():
            self.taking = tuple(map(str, shot.paths))
            if stopped() or self._clock() > until or not self._has_room(shot):
                break
            try:
                taken = self._take(shot)
            finally:
                self.space.give_back()
            if taken:
                done += [str(path) for path in shot.paths]
                for path in shot.paths:
                    self.lose(str(path))
        self.taking = ()
        self.importer.activity.rest()
        return done

    def _shots(self) -> list[Shot]:
        now = self._clock()
        ready = {
            Path(path): file.root
            for path, file in self._files.items()
            if file.ready_since is not None and file.not_before <= now and file.root not in self.absent
        }
        if not ready:
            return []
        if self.alone:
            shots = [Shot(path) for path in ready]
        else:
            shots = self.together.shots(ready, self._frames, self.importer.keys, every=self.live)
            growing = [(Path(path), file.root) for path, file in self._files.items() if file.ready_since is None]
            partners = {self.together.read(path, root)[0].key for path, root in growing}
            shots = [shot for shot in shots if not self._waits(shot, partners, now)]
        if self.live or self.newest_first:
            changed = {path: self._files[str(path)].stand.changed_ns for path in ready}
            shots.sort(key=lambda shot: (changed[shot.main], shot.main.name), reverse=self.newest_first)
        return shots

    def _frames(self, path: Path) -> int:
        self.importer.activity.turn_to(path)
        return self.patience.structure(str(path)).frames

    def _waits(self, shot: Shot, partners: set[Key], now: float) -> bool:
        """Whether something that belongs to an exposure is still to come."""
        if self.elsewhere and any(
            reading.key in self.elsewhere
            for path in shot.paths
            for reading in self.together.read(path, self._files[str(path)].root)
        ):
            return True
        since = max(self._files[str(path)].ready_since or now for path in shot.paths)
        if shot.key in partners:
            return now - since < FOR_A_PARTNER
        alone = shot.role != MOVIE and shot.key is not None and shot.key not in self.importer.keys
        # a plain picture waits only where others came with movies
        return self.live and alone and (shot.made or self._paired) and now - since < FOR_A_MOVIE

    def _has_room(self, shot: Shot) -> bool:
        now = self._clock()
        if self.importer.options.link:
            return True
        if self.full and now - self._space_at < SPACE_AGAIN:
            return False
        size = sum(self._files[str(path)].stand.size for path in shot.paths)
        told, self._space_at = self.space.take(size), now
        if told and not self.live:
            raise ResourceError(told)
        if bool(told) != bool(self.full):
            self.say(f"import pauses: {told}" if told else "there is room again; import goes on")
        self.full = told
        return not told

    def _take(self, shot: Shot) -> bool:
        self._paired = self._paired or bool(shot.others) or shot.key in self.importer.keys
        try:
            self.importer.take(shot)
        except (ProjectError, ResourceError):
            raise
        except (FocusError, OSError) as error:
            return self._try_again(shot, error)
        except Exception as fault:
            # a fault of the program's own, with this file: the others are imported
            self.say(f"{shot.main}: was left out for a fault of focusnb; please report it\n{traceback.format_exc()}")
            self.importer.report.tell(f"{type(fault).__name__} at import", about=str(shot.main))
            if not self.live:
                return True
            self._put_off(shot, float("inf"))
            return False
        return True

    def _try_again(self, shot: Shot, error: FocusError | OSError) -> bool:
        """Put off what could not be imported; True where it is given up."""
        if not self.live and not isinstance(error, FormatError):
            raise error
        file = self._files[str(shot.main)]
        file.failures += 1
        if not self.live and file.failures > 1:
            self.importer.report.tell(f"{sentence(error)} It was left out.")
            return True
        self._put_off(shot, min(AGAIN[0] * 2 ** (file.failures - 1), AGAIN[1]))
        if self.live:
            self.importer.report.tell(f"{sentence(error)} It is tried again.", topic=f"again {shot.main}")
        return False

    def _put_off(self, shot: Shot, seconds: float) -> None:
        for path in shot.paths:
            held = self._files[str(path)]
            held.ready_since, held.not_before = None, self._clock() + seconds
            self.patience.forget(str(path))
