"""Sheets of previews that outlive the process that made them: whoever starts anew, or looks on beside, makes them not.

They lie in the project, named after what they were made from and what they hold, so that one that fits no more, or was
not written to its end, is taken for none. They can be removed at any time.
"""

from __future__ import annotations

import contextlib
import hashlib
import re
import time
from collections.abc import Container
from pathlib import Path
from typing import Any

from focusnb.errors import FocusError
from focusnb.io import files
from focusnb.monitoring.settings import monitoring_folder

SHELF = "previews"
"""Folder within that of the monitoring."""

KEPT = 86400.0
"""Seconds that a sheet which is used no more stays: another process may show other images, or blurs otherwise."""

_NAME = re.compile(r"(?P<blur>[0-9.e+]+)-(?P<number>[0-9]+)-(?P<key>[0-9a-f]{16})-(?P<digest>[0-9a-f]{32})\.png")

_LARGEST = 4 << 20  # bytes of a sheet


class Shelf:
    """The sheets of a project that were kept. write : whether this process keeps its own; others only find them."""

    def __init__(self, project_folder: Path, *, write: bool = False) -> None:
        self.folder, self._write = monitoring_folder(project_folder) / SHELF, write
        self._names: dict[tuple[str, int], dict[str, str]] | None = None

    def find(self, blur: float, number: int, made_from: Any) -> bytes | None:
        """The sheet of a number that was made from the very same; None where there is none."""
        if self._names is None:
            self._names = self._listed()
        name = self._names.get((f"{blur:g}", number), {}).get(_key(made_from))
        if name is None:
            return None
        with contextlib.suppress(OSError):
            path = self.folder / name
            if path.is_file() and path.stat().st_size <= _LARGEST:
                content = path.read_bytes()
                if _digest(content) == name[-36:-4]:
                    return content
        return None

    def put(self, blur: float, number: int, made_from: Any, content: bytes, *, others: Container[int] = ()) -> None:
        """Keep a sheet in place of an older one of its number; where that cannot be, it is made anew next time.

        others : numbers of sheets that are in use, and stay however old they are
        """
        if not self._write:
            return
        name = f"{blur:g}-{number}-{_key(made_from)}-{_digest(content)}.png"
        with contextlib.suppress(OSError, FocusError):
            self.folder.mkdir(parents=True, exist_ok=True)
            files.write_bytes(self.folder / name, content)
            self._clear(f"{blur:g}", number, name, others)

    def _listed(self) -> dict[tuple[str, int], dict[str, str]]:
        found: dict[tuple[str, int], dict[str, str]] = {}
        with contextlib.suppress(OSError):
            for path in self.folder.iterdir():
                if match := _NAME.fullmatch(path.name):
                    found.setdefault((match["blur"], int(match["number"])), {})[match["key"]] = path.name
        return found

    def _clear(self, blur: str, number: int, name: str, others: Container[int]) -> None:
        """Remove what a sheet has taken the place of, and what nobody wrote or used for long."""
        ends = time.time() - KEPT
        for path in self.folder.iterdir():
            match = _NAME.fullmatch(path.name)
            if match is None:
                old = files.is_left_over(path)
            elif (match["blur"], int(match["number"])) == (blur, number):
                old = path.name != name
            else:
                used = match["blur"] == blur and int(match["number"]) in others
                old = not used and path.stat().st_mtime < ends
            if old:
                path.unlink(missing_ok=True)


def _key(made_from: Any) -> str:
    return hashlib.sha256(repr(made_from).encode("utf-8", "surrogateescape")).hexdigest()[:16]


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()[:32]
