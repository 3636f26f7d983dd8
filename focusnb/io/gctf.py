"""What Gctf (Zhang 2016) writes beside its STAR table: ``_gctf.log`` and ``_EPA.log``. Phase shifts are in degrees."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
import numpy.typing as npt

from focusnb.errors import FormatError
from focusnb.io.ctf_record import (
    CtfLimits,
    CtfOptics,
    CtfSearch,
    MicrographCtf,
    finite,
    judge_ctf,
    order_defocus,
    positive,
)
from focusnb.io.ctffind import complete_lines

_ESCAPE = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")
_EPA_COLUMNS = 5
_IMAGE, _OPTICS, _SEARCH = "Input image file name", "CS[mm], HT[kV]", "Box, ResMin[A], ResMax[A]"
_RESOLUTION = re.compile(r"resolution limit estimated by EPA:\s*(?:RES_LIMIT\s*)?(\S+)", re.IGNORECASE)


@dataclass(frozen=True)
class EpaAverages:
    """Gctf's equiphase averages beside the fitted CTF; all (rings,) float64.

    frequency : 1/Å
    fit : |CTF|, 0 to 1
    measured : average of the logarithm of the amplitude; flattened: the same without its background
    quality : local correlation of measured and fitted rings, −1 to 1
    """

    frequency: npt.NDArray[np.float64]
    fit: npt.NDArray[np.float64]
    measured: npt.NDArray[np.float64]
    flattened: npt.NDArray[np.float64]
    quality: npt.NDArray[np.float64]


def read_gctf_log(path: str | os.PathLike[str], *, limits: CtfLimits | None = None) -> list[MicrographCtf]:
    """Read ``_gctf.log``, also several put together in one file; one judged record for each micrograph.

    Raises FormatError where there are no final values: it is another file, or Gctf did not finish.
    """
    path = Path(path)
    lines = [_ESCAPE.sub("", line) for line in complete_lines(path)]
    # each log names its image and lists its optics once, ahead of the fit
    title = next((title for title in (_IMAGE, _OPTICS) if any(title in line for line in lines)), _OPTICS)
    starts = [place for place, line in enumerate(lines) if title in line]
    borders = [0, *starts[1:], len(lines)]
    sections = [lines[first:last] for first, last in pairwise(borders)]
    return [_read_section(path, section, number, limits) for number, section in enumerate(sections, start=1)]


def read_gctf_epa(path: str | os.PathLike[str]) -> EpaAverages:
    """Read ``_EPA.log``: a line of titles, then resolution, |CTF|, average, average without background, correlation.

    Raises FormatError where it is no such table or is cut off.
    """
    path = Path(path)
    rows: list[list[float]] = []
    for number, line in enumerate(complete_lines(path), start=1):
        words = _ESCAPE.sub("", line).split()
        if not words or (not rows and not _is_number(words[0])):
            continue
        if len(words) != _EPA_COLUMNS or not all(map(_is_number, words)):
            raise FormatError(
                f"{path}: line {number} has {len(words)} words, {_EPA_COLUMNS} numbers belong to each ring; "
                "is it a complete EPA.log of Gctf?"
            )
        rows.append([float(word) for word in words])
    if not rows:
        raise FormatError(f"{path}: holds no rings; is it EPA.log of Gctf?")
    resolution, fit, measured, flattened, quality = np.array(rows, np.float64).T
    if not np.isfinite(resolution).all() or (resolution <= 0).any() or (np.diff(resolution) >= 0).any():
        raise FormatError(
            f"{path}: the {len(rows)} resolutions in its first column do not fall; is it EPA.log of Gctf?"
        )
    return EpaAverages(1 / resolution, fit, measured, flattened, quality)


def _read_section(path: Path, lines: list[str], number: int, limits: CtfLimits | None) -> MicrographCtf:
    finals = [line.split() for line in lines if line.split()[-2:] == ["Final", "Values"]]
    if not finals:
        raise FormatError(
            f"{path}: has no line of Final Values for micrograph {number} in {len(lines)} lines; did Gctf finish?"
        )
    values = _numbers(path, finals[-1][:-2], "Final Values", (4, 5))
    u, v, angle = order_defocus(*values[:3])
    found = [match[1] for line in lines if (match := _RESOLUTION.search(line))]
    resolution = _numbers(path, found[-1:], "the resolution limit", (1,))[0] if found else None
    told = ["ctf_score"] + ["ctf_fit_resolution"] * bool(found)
    optics = _after(path, lines, _OPTICS, (5,))
    search = _after(path, lines, _SEARCH, (7,))
    name = _line_after(lines, _IMAGE)
    ctf = MicrographCtf(
        micrograph=name or re.sub(r"(_gctf)?\.\w+$", "", path.name),
        defocus_u=u,
        defocus_v=v,
        astigmatism_angle=angle,
        phase_shift=finite(values[3]) if len(values) == 5 else None,
        ctf_score=finite(values[-1]),
        ctf_fit_resolution=positive(resolution),
        optics=_optics(optics),
        search=_search(search),
        program="Gctf",
        number=number,
    )
    return judge_ctf(ctf, told=told, limits=limits)


def _optics(values: list[float]) -> CtfOptics:
    if not values:
        return CtfOptics()
    aberration, voltage, contrast, magnification, step = (finite(value) for value in values)
    pixel = 1e4 * step / magnification if step and magnification else None
    return CtfOptics(pixel, voltage, aberration, contrast)


def _search(values: list[float]) -> CtfSearch:
    if not values:
        return CtfSearch()
    box, low, high, smallest, largest = (finite(value) for value in values[:5])
    return CtfSearch(None if box is None else int(box), low, high, smallest, largest)


def _line_after(lines: list[str], title: str) -> str:
    for place, line in enumerate(lines[:-1]):
        if title in line:
            return lines[place + 1].strip()
    return ""


def _after(path: Path, lines: list[str], title: str, counts: tuple[int, ...]) -> list[float]:
    """Return the numbers in the line below a title, empty where there is no such title."""
    words = _line_after(lines, title).replace(",", " ").split()
    return _numbers(path, words, title, counts) if words else []


def _numbers(path: Path, words: list[str], title: str, counts: tuple[int, ...]) -> list[float]:
    if len(words) not in counts or not all(map(_is_number, words)):
        raise FormatError(
            f"{path}: has {' '.join(words)!r} for {title}, {' or '.join(map(str, counts))} numbers belong there; "
            "is it a complete log of Gctf?"
        )
    return [float(word) for word in words]


def _is_number(word: str) -> bool:
    try:
        float(word)
    except ValueError:
        return False
    return True
