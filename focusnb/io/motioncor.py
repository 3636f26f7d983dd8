"""What MotionCor2 and MotionCor3 write of the motion they found: their words on standard output, and their log files.

Standard output lists the options (``-PixSize 1.06``), then the shifts: up to version 1.5, and in MotionCor3, as lines
``...... Frame (  1) shift:  x  y``, from 1.6 on as a table. ``<name>-Full.log`` and ``<name>-Patch-Full.log`` (older
``<name>0-Full.log`` ...) hold them as ``frame x y``. Leginon's Appion keeps ``......Add Frame #000 with xy shift: x y``
lines.

Shifts are in pixels of the movie as rendered, not of the binned sum, x before y; as in RELION they are the shifts to
apply (RELION and MotionCor3's own STAR take them over unchanged). Appion's are those with the other sign.
"""

from __future__ import annotations

import math
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path, PureWindowsPath

import numpy as np
import numpy.typing as npt

from focusnb.errors import FormatError
from focusnb.io.files import read_text

_OPTION = re.compile(r"-([A-Za-z]\w*)(?:\s+(\S.*))?$")
_TITLE = re.compile(r"Full-frame alignment(?: shift)?$")
_LINE = re.compile(r"\.+\s*Frame\s*\(\s*(\d+)\)\s*shift:\s*(\S+)\s+(\S+)$")
_ROW = re.compile(r"(\d+)\s+(\S+)\s+(\S+)$")
_APPION = re.compile(r"\.+\s*Add Frame #(\d+) with xy shift:\s*(\S+)\s+(\S+)$")
_SIZE = re.compile(r"(?:Rendered size|Rendered stack|Movie size|TIFF file size|MRC file size):\s*(\d+)\s+(\d+)\s+(\d+)")
_VERSION = re.compile(r"MotionCor\s*([23])\s*(?:version)?[\s:]*([\d.]*\d)", re.IGNORECASE)

FULL_LOG = re.compile(r"0?(-Patch)?-Full\.log$", re.IGNORECASE)
"""How the names of files end that hold the shifts of the whole frame."""

PATCH_LOG = re.compile(r"0?-Patch-(Patch|Frame)\.log$", re.IGNORECASE)
"""How the names of files end that hold the shifts of patches; Magellon writes -patch-Patch.log."""


@dataclass(frozen=True)
class MotioncorLog:
    """The motion of one movie.

    path : the file it was read from
    shifts : (t, 2) of dy, dx in pixels of the movie, to be applied; relative to the reference frame
    first_frame : the first used frame, counted from 1
    shape : (t, y, x) of the movie as rendered, None where it is not told
    options : of the command line without their minus, as text, only those that were given a value
    program, version : as far as they are told
    """

    path: Path
    shifts: npt.NDArray[np.float64]
    first_frame: int = 1
    shape: tuple[int, int, int] | None = None
    options: Mapping[str, str] = field(default_factory=dict)
    program: str = "MotionCor2"
    version: str = ""

    def number(self, option: str) -> float | None:
        """Return the first number of an option, None where it was not given or is no number."""
        try:
            value = float(self.options.get(option, "").split()[0])
        except (ValueError, IndexError):
            return None
        return value if math.isfinite(value) else None

    @property
    def movie_name(self) -> str:
        """The movie as it was given, empty where it is not told."""
        return next((self.options[name] for name in ("InTiff", "InMrc", "InEer") if self.options.get(name)), "")

    @property
    def output_name(self) -> str:
        """The sum as it was asked for, empty where it is not told."""
        return self.options.get("OutMrc", "")

    @property
    def is_eer(self) -> bool:
        """Whether the movie is EER, whose frames are not those of the camera."""
        return bool(self.options.get("InEer"))


def read_motioncor(path: str | os.PathLike[str]) -> MotioncorLog:
    """Read the whole-frame motion from standard output or a log file of MotionCor2 or MotionCor3.

    Raises FormatError where there are no shifts, where it is cut off, is of several movies, or of patches only.
    """
    path = Path(path)
    text = read_text(path)
    lines = [line.strip() for line in text.split("\n")]
    if PATCH_LOG.search(path.name) or any(line.startswith("# Shifts are listed per") for line in lines[:6]):
        raise FormatError(f"{path}: holds the shifts of patches; give the log that ends with -Full.log")
    if not text.endswith("\n"):
        raise FormatError(f"{path}: its last line has no end; was the file copied while being written?")
    if any(_APPION.match(line) for line in lines):
        return _read_appion(path, lines)
    titles = [number for number, line in enumerate(lines) if _TITLE.match(line)]
    if len(titles) > 1:
        raise FormatError(f"{path}: holds the motion of {len(titles)} movies; give the -Full.log file of each instead")
    if not titles:
        return _read_full(path, lines)
    return _read_output(path, text, lines, titles[0])


def read_movie_size(path: str | os.PathLike[str]) -> tuple[int, int, int] | None:
    """Return (t, y, x) of the movie from a log of patches, None where it is not told."""
    found = _SIZE.search(read_text(path))
    return None if found is None else _shape(found)


def stem_of(log_name: str) -> str:
    """Return the name of the movie's sum from that of a log file: what is before -Patch-Full.log and the like."""
    for ending in (FULL_LOG, PATCH_LOG):
        if found := ending.search(log_name):
            return log_name[: found.start()]
    return re.sub(r"(_log)?\.\w+$", "", log_name, flags=re.IGNORECASE)


def file_name(path: str) -> str:
    """Return the last part of a path, also of one of Windows."""
    return PureWindowsPath(path).name


def _read_output(path: Path, text: str, lines: list[str], title: int) -> MotioncorLog:
    options = _options(lines[:title])
    rows: list[re.Match[str]] = []
    for number, line in enumerate(lines[title + 1 :], start=title + 2):
        if re.match(r"Frame\s+x Shift\s+y Shift", line):
            continue
        found = _LINE.match(line) or _ROW.match(line)
        if found is None:
            if line:
                raise FormatError(
                    f"{path}: line {number} is {line[:60]!r}, the shift of frame {len(rows) + 1} or an empty line "
                    "belongs there; is the file complete?"
                )
            break
        rows.append(found)
    else:
        raise FormatError(f"{path}: ends after {len(rows)} shifts; did MotionCor finish?")
    sizes = [_shape(found) for found in _SIZE.finditer("\n".join(lines[:title]))]
    shape = sizes[-1] if sizes else None
    shifts, (program, version) = _shifts(path, rows, first=1), _program(text)
    log = MotioncorLog(path, shifts, shape=shape, options=options, program=program, version=version)
    thrown, cut = (int(log.number(name) or 0) for name in ("Throw", "Trunc"))
    used = len(shifts)
    if shape is not None and not shape[0] - thrown - cut <= used <= shape[0]:
        raise FormatError(f"{path}: has shifts of {used} frames, the movie has {shape[0]}; is the file complete?")
    # the frames thrown away are counted in the movie's size, or not, depending on the version
    first = thrown + 1 if shape is None or used + thrown <= shape[0] else 1
    return replace(log, first_frame=first)


def _read_full(path: Path, lines: list[str]) -> MotioncorLog:
    rows = []
    for number, line in enumerate(lines, start=1):
        if not line or line.startswith("#"):
            continue
        found = _ROW.match(line)
        if found is None:
            raise FormatError(
                f"{path}: line {number} is {line[:60]!r}, frame, x and y belong there; is it a log of MotionCor, and "
                "complete?"
            )
        rows.append(found)
    if not rows:
        raise FormatError(f"{path}: holds 0 shifts; is it a log of MotionCor?")
    first = int(rows[0][1])
    return MotioncorLog(path, _shifts(path, rows, first=first), first_frame=first or 1)


def _read_appion(path: Path, lines: list[str]) -> MotioncorLog:
    rows = [found for line in lines if (found := _APPION.match(line))]
    broken = [line for line in lines if "Add Frame" in line and not _APPION.match(line)]
    if broken:
        raise FormatError(f"{path}: has {broken[0][:60]!r}, a frame and two numbers belong there; is it complete?")
    first = int(rows[0][1])
    # Appion turns the signs of MotionCor2's shifts for its web pages
    return MotioncorLog(path, -_shifts(path, rows, first=first), first_frame=first + 1)


def _shifts(path: Path, rows: list[re.Match[str]], *, first: int) -> npt.NDArray[np.float64]:
    if not rows:
        raise FormatError(f"{path}: lists 0 shifts; did MotionCor finish?")
    shifts = []
    for expected, (frame, x, y) in enumerate((row.groups() for row in rows), start=first):
        if int(frame) != expected:
            raise FormatError(f"{path}: frame {expected} is missing, {int(frame)} stands in its place")
        try:
            shifts.append((float(y), float(x)))
        except ValueError as error:
            raise FormatError(f"{path}: the shift of frame {expected} is {x!r}, {y!r}; numbers belong there") from error
    found = np.array(shifts, np.float64)
    if not np.isfinite(found).all():
        raise FormatError(
            f"{path}: {int((~np.isfinite(found)).any(axis=1).sum())} of {len(found)} shifts are no numbers"
        )
    return found


def _options(lines: list[str]) -> dict[str, str]:
    options: dict[str, str] = {}
    for line in lines:
        if (found := _OPTION.match(line)) and found[2]:
            options.setdefault(found[1], found[2].strip())
    return options


def _program(text: str) -> tuple[str, str]:
    found = _VERSION.search(text)
    return ("MotionCor2", "") if found is None else (f"MotionCor{found[1]}", found[2])


def _shape(found: re.Match[str]) -> tuple[int, int, int]:
    x, y, t = map(int, found.groups())
    return t, y, x
