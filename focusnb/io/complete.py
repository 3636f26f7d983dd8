"""Whether a file that another program writes is whole.

No clock is compared with a file's time: that of a camera's computer, of the file server and of this machine differ, and
each may jump. A file counts as still when two observations that lie apart, by a clock of this process that only runs
on, agree. How far apart they must lie depends on what the file shows of itself.
"""

from __future__ import annotations

import os
import re
import time
from collections.abc import Callable
from dataclasses import dataclass

from focusnb.errors import FormatError
from focusnb.io import epu, mdoc
from focusnb.io.folders import Stand
from focusnb.io.movies import open_movie

WITH_METADATA = 1.0
"""Seconds a whole file must be still whose mdoc or XML has come: microscopes write that when the movie is done."""

WHOLE = 4.0
"""Seconds a file must be still that is as its format wants it: one written frame by frame is so after each frame."""

UNSURE = 20.0
"""Seconds a file must be still that is not as its format wants it, or of which nothing can be told."""

_SMALL = 1 << 20


@dataclass(frozen=True)
class Structure:
    """What a file shows of itself.

    whole : directories, header and size agree, and the disk holds all of it
    frames : images in it, 0 where that cannot be told
    reason : what is wrong where it is not whole
    shape : of its frames (y, x), zeros where that cannot be told
    """

    whole: bool
    frames: int = 0
    reason: str = ""
    shape: tuple[int, int] = (0, 0)


def read_structure(path: str | os.PathLike[str]) -> Structure:
    """Read what a file's directories or header say, and whether its size fits; no frame is read."""
    try:
        with open_movie(path) as movie:
            frames = int(movie.header_facts.get("hardware_frames", movie.shape[0]))
            shape = (int(movie.shape[1]), int(movie.shape[2]))
        stat = os.stat(path)
    except FormatError as error:
        return Structure(False, reason=str(error))
    except OSError as error:
        return Structure(False, reason=f"{path}: cannot be read ({error.strerror})")
    except Exception as fault:
        # a fault of the program's own, with this file: those beside it are asked for all the same
        return Structure(False, reason=f"{path}: cannot be read for a fault of focusnb ({type(fault).__name__})")
    if stat.st_size > _SMALL and 512 * stat.st_blocks < stat.st_size // 2:
        # made in its full size first, and filled then: its header fits before its frames are there
        told = f"{path}: {512 * stat.st_blocks} of {stat.st_size} bytes are on the disk yet"
        return Structure(False, frames, told, shape)
    return Structure(True, frames, shape=shape)


def stand_of(path: str | os.PathLike[str]) -> Stand | None:
    """How a file stands now, asked from the server where a client keeps old answers; None where it cannot be opened.

    A network file system's client repeats what it heard some seconds ago, but asks anew when a file is opened.
    """
    try:
        handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except OSError:
        return None
    try:
        stat = os.fstat(handle)
    finally:
        os.close(handle)
    return Stand(stat.st_size, stat.st_mtime_ns, stat.st_ino)


@dataclass
class _Seen:
    stand: Stand
    since: float
    structure: Structure | None = None


class Patience:
    """Decides for each of many files when it is complete."""

    def __init__(self, delay: float | None = None, *, clock: Callable[[], float] = time.monotonic) -> None:
        """Begin with no file seen.

        delay : seconds a file must be still; by default what its format and metadata allow
        clock : seconds that never jump
        """
        self.delay = delay
        self._clock = clock
        self._seen: dict[str, _Seen] = {}

    def is_complete(self, path: str, stand: Stand, *, metadata: str | os.PathLike[str] | None = None) -> bool:
        """Note an observation of a file; True if it is complete by now.

        metadata : its mdoc or XML, where that has come; an mdoc tells how many frames there must be
        """
        now = self._clock()
        seen = self._seen.get(path)
        if seen is None or seen.stand != stand or seen.since > now:
            seen = self._seen[path] = _Seen(stand, now)
        still = now - seen.since
        if self.delay is not None:
            done = still >= self.delay
        elif still < WITH_METADATA:
            # not opened each time while it grows
            return False
        else:
            done = still >= self._needed(path, seen, metadata)
        if done and still > 0 and (fresh := stand_of(path)) is not None and fresh != stand:
            self._seen[path] = _Seen(fresh, now)
            return False
        return done

    def structure(self, path: str) -> Structure:
        """What a file shows of itself, read once while it does not change."""
        seen = self._seen.get(path)
        if seen is None:
            return read_structure(path)
        if seen.structure is None:
            seen.structure = read_structure(path)
        return seen.structure

    def forget(self, path: str) -> None:
        """Forget a file that is gone, or done with."""
        self._seen.pop(path, None)

    def _needed(self, path: str, seen: _Seen, metadata: str | os.PathLike[str] | None) -> float:
        if seen.structure is None:
            seen.structure = read_structure(path)
        if not seen.structure.whole:
            return UNSURE
        if metadata is None:
            return WHOLE
        try:
            frames = frames_said(metadata, os.path.basename(path))
        except FormatError:
            return WHOLE  # it is being written, or says nothing of this file
        return UNSURE if lacks_frames(path, seen.structure.frames, frames, metadata) else WITH_METADATA


_MOVIE_NAME = re.compile(r"[._](fractions|eer|frames)(\.\w+)*$", re.IGNORECASE)


def lacks_frames(path: str | os.PathLike[str], frames: int, said: int | None, metadata: str | os.PathLike[str]) -> bool:
    """Whether a file has fewer frames than its metadata say.

    EPU's XML is also that of the sum beside the movie; which of them a file of one frame is, its name tells.
    """
    if said is None or frames >= said:
        return False
    return frames > 1 or str(metadata).lower().endswith(".mdoc") or _MOVIE_NAME.search(os.fspath(path)) is not None


def frames_said(metadata: str | os.PathLike[str], name: str) -> int | None:
    """How many frames an mdoc or XML says that a movie has; None where it does not tell.

    Raises FormatError where it cannot be read.
    """
    if not str(metadata).lower().endswith(".mdoc"):
        said = epu.read(metadata).facts().get("frame_count")
        return None if said is None else int(said)
    document = mdoc.read(metadata)
    section = document.of_movie(name)
    if section is None:
        raise FormatError(f"{metadata}: says nothing of {name}")
    count = mdoc.exposure_facts(document, section).get("frame_count")
    return None if count is None else int(count)
