"""What CTFFIND 4 and 5 write: the summary ``.txt``, the averages ``_avrot.txt`` and the tilt search ``.json``.

Both text files begin with five lines of comment, of which other programs read the third by the position of its words,
so the writers here keep every word in its place. CTFFIND labels the limits of its defocus search ``um``; they are Å.
Its phase shift is in radians, ours in degrees.
"""

from __future__ import annotations

import json
import math
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path

import numpy as np
import numpy.typing as npt

from focusnb.errors import FormatError
from focusnb.io.ctf_record import (
    CtfLimits,
    CtfOptics,
    CtfSearch,
    MicrographCtf,
    RingAverages,
    axial,
    finite,
    judge_ctf,
    order_defocus,
    positive,
)
from focusnb.io.files import read_text, write_text

_ROWS = 6
_COLUMNS = (7, 10)  # CTFFIND 4, CTFFIND 5
_FORMAT_VERSION = "4.1.14"
_TITLES = (
    "micrograph number", "defocus 1 [Angstroms]", "defocus 2", "azimuth of astigmatism",
    "additional phase shift [radians]", "cross correlation",
    "spacing (in Angstroms) up to which CTF rings were fit successfully",
)  # fmt: skip
_TITLES_5 = (
    "#8 - Estimated tilt axis angle", "#9 - Estimated tilt angle ", "#10 Estimated sample thickness (in Angstroms)",
)  # fmt: skip
_ROW_TITLES = (
    "spatial frequency (1/Angstroms)", "1D rotational average of spectrum (assuming no astigmatism)",
    "1D rotational average of spectrum", "CTF fit", "cross-correlation between spectrum and CTF fit",
    "2sigma of expected cross correlation of noise",
)  # fmt: skip


@dataclass(frozen=True)
class CtffindHeader:
    """The comment lines of a CTFFIND file. count: micrographs it promises, None where it does not say."""

    version: str
    input_name: str
    count: int | None
    optics: CtfOptics
    search: CtfSearch


@dataclass(frozen=True)
class TiltSearch:
    """CTFFIND 5's search of the tilt; (tried,) float64 each.

    axis : direction of the axis in degrees, 0 to 360 as searched; angle: degrees; score: larger is better
    """

    axis: npt.NDArray[np.float64]
    angle: npt.NDArray[np.float64]
    score: npt.NDArray[np.float64]

    @property
    def tilt_angle_fitted(self) -> float:
        """The angle with the best score, with the sign that goes with the axis in (−90, 90]."""
        best = int(self.score.argmax())
        return _signed_tilt(float(self.axis[best]), float(self.angle[best]))[1]

    @property
    def tilt_axis_fitted(self) -> float | None:
        """The axis with the best score in (−90, 90]; None where the best is no tilt, which has no axis."""
        best = int(self.score.argmax())
        return axial(float(self.axis[best])) if self.angle[best] else None


def read_ctffind(path: str | os.PathLike[str], *, limits: CtfLimits | None = None) -> list[MicrographCtf]:
    """Read a summary of CTFFIND 4 or 5, one record for each micrograph of the stack, judged.

    The averages in ``_avrot.txt`` beside it, where there are any, are evidence for the judgement.

    Raises FormatError where a file is no summary, is cut off or holds words where numbers belong.
    """
    path = Path(path)
    lines = complete_lines(path)
    header = _header(path, lines)
    rows = [
        (number, line.split())
        for number, line in enumerate(lines, start=1)
        if line.strip() and not line.lstrip().startswith("#")
    ]
    for number, words in rows:
        if len(words) not in _COLUMNS:
            cure = (
                "a table of averages is read by read_ctffind_averages"
                if len(words) > max(_COLUMNS)
                else "was the file copied while being written?"
            )
            raise FormatError(
                f"{path}: line {number} has {len(words)} numbers, CTFFIND 4 writes {_COLUMNS[0]} and CTFFIND 5 "
                f"{_COLUMNS[1]}; {cure}"
            )
    _check_count(path, header, len(rows))
    averages = path.with_name(f"{path.stem}_avrot.txt")
    rings: list[RingAverages] = read_ctffind_averages(averages)[1] if averages.is_file() else []
    if rings and len(rings) != len(rows):
        raise FormatError(
            f"{averages}: holds {len(rings)} micrographs, {path.name} beside it {len(rows)}; put those together that "
            "were written together"
        )
    return [
        judge_ctf(
            _record(header, place, [_number(path, number, word) for word in words]),
            rings=rings[place - 1] if rings else None,
            limits=limits,
        )
        for place, (number, words) in enumerate(rows, start=1)
    ]


def read_ctffind_averages(path: str | os.PathLike[str]) -> tuple[CtffindHeader, list[RingAverages]]:
    """Read ``_avrot.txt`` of CTFFIND 4 or 5: the header, and the averages of each micrograph.

    Raises FormatError where it is no such table, is cut off or holds words where numbers belong.
    """
    path = Path(path)
    lines = complete_lines(path)
    header = _header(path, lines)
    rows = [
        [_number(path, number, word) for word in line.split()]
        for number, line in enumerate(lines, start=1)
        if line.strip() and not line.lstrip().startswith("#")
    ]
    if len(rows) % _ROWS:
        raise FormatError(
            f"{path}: has {len(rows)} rows, {_ROWS} belong to each micrograph; is it a table of averages, and complete?"
        )
    _check_count(path, header, len(rows) // _ROWS)
    tables = []
    for place in range(0, len(rows), _ROWS):
        lengths = [len(row) for row in rows[place : place + _ROWS]]
        if len(set(lengths)) > 1:
            raise FormatError(
                f"{path}: the rows of micrograph {1 + place // _ROWS} hold {min(lengths)} to {max(lengths)} numbers, "
                "all belong to the same frequencies; was the file copied while being written?"
            )
        table = RingAverages(*np.array(rows[place : place + _ROWS], np.float64))
        if not np.isfinite(table.frequency).all() or (np.diff(table.frequency) <= 0).any():
            raise FormatError(
                f"{path}: the {lengths[0]} frequencies of micrograph {1 + place // _ROWS} do not rise; "
                "is it a table of averages?"
            )
        tables.append(table)
    return header, tables


def read_ctffind_tilt_search(path: str | os.PathLike[str]) -> TiltSearch:
    """Read the scores CTFFIND 5 found for each tilt axis and angle (``*_debug__tilt.json``).

    Raises FormatError where the file is no JSON of this kind or is cut off.
    """
    text = read_text(path)
    try:
        content = json.loads(text)
    except (json.JSONDecodeError, RecursionError) as error:
        raise FormatError(f"{path}: is no JSON ({error}; {len(text)} characters); is the file complete?") from error
    name = "tilt_axis_and_angle_search"
    rows = content.get(name) if isinstance(content, dict) else None
    if not isinstance(rows, list) or not rows:
        raise FormatError(f"{path}: has no list {name}; is it the tilt search of CTFFIND 5?")
    for place, row in enumerate(rows, start=1):
        numbers = row if isinstance(row, list) else []
        if len(numbers) != 3 or not all(type(value) in (int, float) and _is_finite(value) for value in numbers):
            raise FormatError(f"{path}: entry {place} of {len(rows)} in {name} is not axis, angle and score")
    axis, angle, score = np.array(rows, np.float64).T
    return TiltSearch(axis, angle, score)


def write_ctffind(
    path: str | os.PathLike[str],
    micrographs: Sequence[MicrographCtf],
    *,
    input_name: str,
    written_at: datetime | None = None,
) -> None:
    """Write a summary as CTFFIND 4.1.14 does, atomically; as CTFFIND 5 where a tilt or thickness is known.

    A failed fit becomes zeros with a fit resolution of inf, which CTFFIND writes where no ring agrees.

    micrographs : in the order of the stack; the optics and the search of the first stand for all
    input_name : the file that was fitted

    Raises ValueError where there is no micrograph or its optics and search are not complete.
    """
    newer = any(ctf.tilt_angle_fitted is not None or ctf.thickness_fitted is not None for ctf in micrographs)
    titles = "; ".join(f"#{place} - {title}" for place, title in enumerate(_TITLES, start=1))
    if newer:
        titles = "; ".join((titles, *_TITLES_5))
    lines = _comments(path, micrographs, input_name, written_at)
    lines.append(f"# Columns: {titles}")
    for place, ctf in enumerate(micrographs, start=1):
        if ctf.ctf_quality == "failed" or ctf.defocus_u is None:
            ctf = MicrographCtf(ctf.micrograph)
        resolution = math.inf if ctf.ctf_fit_resolution is None else ctf.ctf_fit_resolution
        phase = math.radians(ctf.phase_shift or 0.0)
        values = [place, ctf.defocus_u, ctf.defocus_v, ctf.astigmatism_angle, phase, ctf.ctf_score, resolution]
        if newer:
            values += [ctf.tilt_axis_fitted, ctf.tilt_angle_fitted, ctf.thickness_fitted]
        lines.append(" ".join(f"{value or 0.0:f}" for value in values))
    write_text(path, "\n".join(lines) + "\n")


def write_ctffind_averages(
    path: str | os.PathLike[str],
    averages: Sequence[RingAverages],
    *,
    optics: CtfOptics,
    search: CtfSearch,
    input_name: str,
    frames_averaged: int = 1,
    written_at: datetime | None = None,
) -> None:
    """Write averages as CTFFIND 4.1.14 does (``_avrot.txt``), atomically; six rows for each micrograph.

    frames_averaged : frames of the movie in each spectrum; 1 where an image was fitted

    Raises ValueError where there is nothing to write, rows differ in length or the optics are not complete.
    """
    for place, table in enumerate(averages, start=1):
        lengths = {len(row) for row in _rows(table)}
        if len(lengths) > 1:
            raise ValueError(f"{path}: the averages of micrograph {place} have {min(lengths)} to {max(lengths)} rings")
    lines = _comments(path, [MicrographCtf("", optics=optics, search=search)] * len(averages), input_name, written_at)
    lines[3] += f"; num. frames averaged: {frames_averaged}"
    titles = "; ".join(f"#{place} - {title}" for place, title in enumerate(_ROW_TITLES, start=1))
    lines.append(f"# {_ROWS} lines per micrograph: {titles}")
    for table in averages:
        for place, row in enumerate(_rows(table)):
            # CTFFIND writes the second row, and only that, in columns
            lines.append(" ".join(f"{value:14.5f}" if place == 1 else f"{value:f}" for value in row))
    write_text(path, "\n".join(lines) + "\n")


def complete_lines(path: str | os.PathLike[str]) -> list[str]:
    """Return the lines of a text file that must end with a line end.

    Raises FormatError where it does not: a number cut off in the middle looks like another number.
    """
    text = read_text(path)
    if not text.endswith("\n"):
        raise FormatError(
            f"{path}: line {text.count(chr(10)) + 1} has no end; was the file copied while being written? "
            "If it is complete, end its last line"
        )
    return text.split("\n")


def _rows(table: RingAverages) -> tuple[npt.NDArray[np.float64], ...]:
    return table.frequency, table.measured_circular, table.measured, table.fit, table.quality, table.noise


def _comments(
    path: str | os.PathLike[str], micrographs: Sequence[MicrographCtf], input_name: str, written_at: datetime | None
) -> list[str]:
    """Return the first four lines: every word where CTFFIND has it."""
    if not micrographs:
        raise ValueError(f"{path}: there is no micrograph to write")
    optics, search = micrographs[0].optics, micrographs[0].search
    needed = {
        "micrograph_pixel_size": optics.micrograph_pixel_size,
        "voltage": optics.voltage,
        "spherical_aberration": optics.spherical_aberration,
        "amplitude_contrast": optics.amplitude_contrast,
        **vars(search),
    }
    if missing := [name for name, value in needed.items() if value is None]:
        raise ValueError(f"{path}: CTFFIND's header needs {', '.join(missing)}")
    time = (written_at or datetime.now()).strftime("%Y-%m-%d %H:%M:%S")
    return [
        f"# Output from CTFFind version {_FORMAT_VERSION}, run on {time} ; written by focusnb",
        f"# Input file: {input_name} ; Number of micrographs: {len(micrographs)}",
        f"# Pixel size: {_decimals(optics.micrograph_pixel_size, 3)} Angstroms ; "
        f"acceleration voltage: {_decimals(optics.voltage, 1)} keV ; "
        f"spherical aberration: {_decimals(optics.spherical_aberration, 2)} mm ; "
        f"amplitude contrast: {_decimals(optics.amplitude_contrast, 2)}",
        f"# Box size: {search.box} pixels ; min. res.: {_decimals(search.resolution_low, 1)} Angstroms ; "
        f"max. res.: {_decimals(search.resolution_high, 1)} Angstroms ; "
        f"min. def.: {_decimals(search.defocus_min, 1)} um; max. def. {_decimals(search.defocus_max, 1)} um",
    ]


def _decimals(value: float | None, count: int) -> str:
    """Write a number with CTFFIND's decimals, or with more where those would change it."""
    assert value is not None
    text = f"{value:.{count}f}"
    return text if math.isclose(float(text), value, rel_tol=1e-4, abs_tol=1e-12) else f"{value:.6g}"


def _header(path: Path, lines: list[str]) -> CtffindHeader:
    comments = " ; ".join(line.lstrip("# ") for line in lines if line.lstrip().startswith("#"))
    version = re.search(r"CTFFind version\s+([^\s,]+)", comments, re.IGNORECASE)
    if version is None:
        raise FormatError(
            f"{path}: none of its {len(lines)} lines names CTFFind and its version; did CTFFIND write it?"
        )

    def number(name: str) -> float | None:
        found = re.search(re.escape(name) + r":?\s*([-+\w.]+)", comments)
        if found is None:
            return None
        try:
            return finite(float(found[1]))
        except ValueError as error:
            raise FormatError(f"{path}: has {found[1]!r} for {name!r}, a number is needed") from error

    box, count = number("Box size"), number("Number of micrographs")
    name = re.search(r"Input file:\s*(.*?)\s*;", comments)
    return CtffindHeader(
        version=version[1],
        input_name=name[1] if name else "",
        count=None if count is None else int(count),
        optics=CtfOptics(
            micrograph_pixel_size=number("Pixel size"),
            voltage=number("acceleration voltage"),
            spherical_aberration=number("spherical aberration"),
            amplitude_contrast=number("amplitude contrast"),
        ),
        search=CtfSearch(
            box=None if box is None else int(box),
            resolution_low=number("min. res."),
            resolution_high=number("max. res."),
            defocus_min=number("min. def."),
            defocus_max=number("max. def."),
        ),
    )


def _check_count(path: Path, header: CtffindHeader, found: int) -> None:
    if not found:
        raise FormatError(f"{path}: has a header but no numbers (0 micrographs); did CTFFIND finish?")
    if header.count is not None and header.count != found:
        raise FormatError(
            f"{path}: its header says {header.count} micrographs, it holds {found}; was it copied while being written?"
        )


def _record(header: CtffindHeader, place: int, values: list[float]) -> MicrographCtf:
    number, defocus_1, defocus_2, angle, phase, score, resolution = values[:7]
    u, v, angle_u = order_defocus(defocus_1, defocus_2, angle)
    phase_shift = finite(phase)
    ctf = MicrographCtf(
        micrograph=header.input_name,
        defocus_u=u,
        defocus_v=v,
        astigmatism_angle=angle_u,
        phase_shift=None if phase_shift is None else math.degrees(phase_shift),
        ctf_score=finite(score),
        ctf_fit_resolution=positive(resolution),
        optics=header.optics,
        search=header.search,
        program=f"CTFFIND {header.version}",
        number=int(number) if math.isfinite(number) else place,
    )
    if len(values) == len(_TITLES):
        return ctf
    axis, angle_of_tilt, thickness = (finite(value) for value in values[7:])
    # CTFFIND 5 writes 0 for what it was not asked for
    if axis is not None and angle_of_tilt:
        axis, angle_of_tilt = _signed_tilt(axis, angle_of_tilt)
        ctf = replace(ctf, tilt_axis_fitted=axis, tilt_angle_fitted=angle_of_tilt)
    return replace(ctf, thickness_fitted=thickness or None)


def _signed_tilt(axis: float, angle: float) -> tuple[float, float]:
    """Bring an axis into (−90, 90]; turned by 180° it describes the same tilt with the other sign."""
    within = axial(axis)
    turned = round((axis - within) / 180.0) % 2 == 1
    return within, -angle if turned else angle


def _number(path: Path, line: int, word: str) -> float:
    try:
        return float(word)
    except ValueError as error:
        raise FormatError(f"{path}: line {line} holds {word!r} where a number belongs") from error


def _is_finite(value: float) -> bool:
    try:
        return math.isfinite(value)
    except OverflowError:  # an integer beyond what floats hold
        return False
