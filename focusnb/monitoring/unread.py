"""Files that could not be read when they were wanted: which of them are tried again, and when.

A disk comes back, a copy is finished; so each is tried again, ever less often. What was read and made no sense is not
read again until its file has changed: one that never can be read costs a look at its date now and then.
"""

from __future__ import annotations

import heapq
import time
from collections.abc import Callable, Container, Hashable
from pathlib import Path
from typing import Generic, NamedTuple, TypeVar

FIRST, LONGEST = 30.0, 3600.0
"""Seconds until a file is tried again, at first and at most; each time twice as long."""

Key = TypeVar("Key", bound=Hashable)

Mark = tuple[int, int, int] | None
"""What tells that a file changed: its number, its length and when it was written; None where there is none."""


def mark_of(path: Path) -> Mark:
    """The mark of a file as it is now; to be taken before it is read, or what came meanwhile would be overlooked."""
    try:
        status = path.stat()
    except (OSError, ValueError):
        return None
    return status.st_ino, status.st_size, status.st_mtime_ns


class _File(NamedTuple):
    path: Path
    mark: Mark
    unchanging: bool
    tries: int = 0
    at: float = 0.0


class Unread(Generic[Key]):
    """Files that could not be read, each under a key. ``clock`` tells seconds and never goes back."""

    def __init__(self, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._files: dict[Key, _File] = {}
        self._times: list[tuple[float, int, Key]] = []
        self._count = 0

    def __len__(self) -> int:
        return len(self._files)

    def note(self, key: Key, path: Path, mark: Mark, *, unchanging: bool) -> None:
        """A file could not be read. ``unchanging``: it was there as it is, so that only another content may help."""
        known = self._files.get(key)
        self._wait(key, _File(path, mark, unchanging, 0 if known is None else known.tries))

    def forget(self, key: Key) -> None:
        """A file was read."""
        self._files.pop(key, None)

    def keep(self, keys: Container[Key]) -> None:
        """Forget all but these."""
        self._files = {key: file for key, file in self._files.items() if key in keys}

    @property
    def is_due(self) -> bool:
        """Whether there is a file to look at now."""
        while self._times and not self._is_meant(*self._times[0]):
            heapq.heappop(self._times)
        return bool(self._times) and self._times[0][0] <= self._clock()

    def _is_meant(self, at: float, _: int, key: Key) -> bool:
        """Whether this is when a file is due, and not a time from before it was forgotten."""
        return key in self._files and self._files[key].at == at

    def due(self, most: int | None) -> list[Key]:
        """Those to be read now, of so many that are looked at; each is to be noted or forgotten afterwards."""
        found: list[Key] = []
        looked = 0
        while self.is_due and (most is None or looked < most):
            _, _, key = heapq.heappop(self._times)
            file = self._files[key]
            looked += 1
            if file.unchanging and mark_of(file.path) == file.mark:
                self._wait(key, file)
            else:
                found.append(key)
        return found

    def _wait(self, key: Key, file: _File) -> None:
        at = self._clock() + min(FIRST * 2 ** min(file.tries, 20), LONGEST)
        self._files[key] = file._replace(tries=file.tries + 1, at=at)
        self._count += 1  # keys need no order
        heapq.heappush(self._times, (at, self._count, key))
