"""How long the project's disk will last."""

from __future__ import annotations

import math
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from focusnb.monitoring.session import Session

MEASURED = 20
"""Exposures whose folders are measured for what one takes."""


class Disk(NamedTuple):
    """Bytes free and in all, and bytes that one exposure takes (0 where none is known yet)."""

    free: int
    total: int
    per_exposure: float


Usage = Callable[[Path], tuple[int, int]]
"""Tells bytes free and in all of the disk that a folder lies on."""


def disk_usage(folder: Path) -> tuple[int, int]:
    """Bytes free and in all of the disk that a folder lies on."""
    usage = shutil.disk_usage(folder)
    return usage.free, usage.total


def folder_size(folder: Path) -> int:
    """Bytes that a folder takes on its disk; what is linked to lies elsewhere and does not count."""
    taken = 0
    try:
        for path in folder.rglob("*"):
            status = path.lstat()
            # a file of one link more lies in the camera's folder as well, and would be there anyway
            taken += status.st_blocks * 512 if status.st_nlink <= 1 or path.is_dir() else 0
    except OSError:
        return taken
    return taken


class DiskWatch:
    """Measures the disk of a project and what its exposures take.

    usage : tells bytes free and in all of a folder's disk; size : the bytes that a folder takes
    """

    def __init__(self, folder: Path, *, usage: Usage = disk_usage, size: Callable[[Path], int] = folder_size) -> None:
        self._folder, self._usage, self._size = folder, usage, size
        self._sizes: dict[int, int] = {}

    def measure(self, session: Session) -> Disk | None:
        """The disk as it is; None where it cannot be asked."""
        try:
            free, total = self._usage(self._folder)
        except OSError:
            return None
        done = [i for i in range(len(session.ids) - 1, -1, -1) if math.isfinite(session.processed[i])][:MEASURED]
        wanted = [int(session.ids[i]) for i in done]
        rows = session.rows([identity for identity in wanted if identity not in self._sizes])
        for identity, row in rows.items():
            self._sizes[identity] = self._size(self._folder / str(row["folder"]))
        self._sizes = {identity: self._sizes[identity] for identity in wanted if identity in self._sizes}
        sizes = sorted(self._sizes.values())
        return Disk(free, total, float(sizes[len(sizes) // 2]) if sizes else 0.0)
