"""RELION's tables of micrographs: ``corrected_micrographs.star`` and ``micrographs_ctf.star``, and the files they name.

Names are relative to the folder of the RELION project, which is none of the folders the table lies in by rule:
:func:`find_project` looks for it. ``rlnAccumMotionTotal``, ``Early`` and ``Late`` are called Å, and are pixels of the
movie as RELION's programs write them; they are read as pixels.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from focusnb.errors import FormatError
from focusnb.io import star
from focusnb.io.ctf_record import CtfLimits, CtfOptics, MicrographCtf
from focusnb.io.ctffind import complete_lines
from focusnb.io.files import read_text
from focusnb.io.relion_ctf import STAR_NAMES, Row, group_of, read_groups, read_micrographs_ctf

_NAME = STAR_NAMES["micrograph"]
_TRIED = 50
"""Names looked for in each folder before the next one is tried."""

_OF_PARTICLES = {"rlnImageName", "rlnCoordinateX"}
_NO_OPTICS = CtfOptics()

JOB_FOLDER = re.compile(r"[A-Z]\w+/job\d+")
"""Where a job of RELION writes, as in MotionCorr/job002."""


@dataclass(frozen=True)
class RelionMicrograph:
    """One row: files as they are named there, empty where they are not.

    name : the micrograph; dose-weighted where RELION was told so
    unweighted, even, odd : sums of the same movie; metadata: the STAR of its motion
    motion_total, motion_early, motion_late : lengths of the path in pixels of the movie
    optics : of its group; ctf: judged, None where the table holds none
    """

    name: str
    unweighted: str = ""
    even: str = ""
    odd: str = ""
    metadata: str = ""
    motion_total: float | None = None
    motion_early: float | None = None
    motion_late: float | None = None
    optics: CtfOptics = _NO_OPTICS
    ctf: MicrographCtf | None = None


def read_micrographs(path: str | os.PathLike[str], *, limits: CtfLimits | None = None) -> list[RelionMicrograph]:
    """Read a table of micrographs of any version since 3.0, with the CTF where it holds one.

    Raises FormatError where there is no such table, an optics group is missing, or words stand where numbers belong.
    """
    path = Path(path)
    complete_lines(path)
    blocks = star.read(path)
    columns = {name: set(getattr(block, "columns", ())) for name, block in blocks.items()}
    found = [name for name, labels in columns.items() if _NAME in labels and labels & _OF_PARTICLES]
    if found:
        raise FormatError(f"{path}: holds particles (data_{found[0]}); give the table of micrographs")
    tables = [block for name, block in blocks.items() if _NAME in columns[name]]
    if len(tables) != 1:
        names = ", ".join(f"data_{name}" for name in blocks)
        raise FormatError(
            f"{path}: has {len(tables)} tables with {_NAME} ({names}), 1 is needed; give corrected_micrographs.star or "
            "micrographs_ctf.star"
        )
    table: Any = tables[0]
    fitted = STAR_NAMES["defocus_u"] in table.columns
    ctfs: list[MicrographCtf | None] = [None] * len(table)
    if fitted:
        ctfs = list(read_micrographs_ctf(path, limits=limits))
    groups = read_groups(path, blocks.get("optics"))
    micrographs = []
    for number, row in enumerate(table.itertuples(index=False), start=1):
        values = Row(path, number, dict(zip(table.columns, row, strict=True)))
        micrographs.append(
            RelionMicrograph(
                name=values.text(_NAME),
                unweighted=values.text("rlnMicrographNameNoDW"),
                even=values.text("rlnMicrographNameEven"),
                odd=values.text("rlnMicrographNameOdd"),
                metadata=values.text("rlnMicrographMetadata"),
                motion_total=values.labelled("rlnAccumMotionTotal"),
                motion_early=values.labelled("rlnAccumMotionEarly"),
                motion_late=values.labelled("rlnAccumMotionLate"),
                optics=group_of(path, groups, values) if groups else values.optics(),
                ctf=ctfs[number - 1],
            )
        )
    return micrographs


def relion_version(path: str | os.PathLike[str]) -> str:
    """Return the version of RELION by the line in which a STAR file tells that of its format, empty where it has none.

    Formats before 3.1 have no such line.
    """
    found = re.search(r"^# version (\d+)\s*$", read_text(path)[:2000], re.MULTILINE)
    if found is None:
        return ""
    number = int(found[1])
    return "3.1" if number < 40000 else str(number // 10000)


def find_project(path: str | os.PathLike[str], names: Iterable[str]) -> Path | None:
    """Return the folder to which the names in a table are relative: the first one upwards in which one of them exists.

    Where none exists anywhere, the folder of the project by the place of the table (<project>/CtfFind/job003/); None
    where that is not told either.
    """
    path = Path(path).absolute()
    tried = [name for name, _ in zip(dict.fromkeys(filter(None, names)), range(_TRIED), strict=False)]
    for folder in path.parents:
        if any(os.path.exists(folder / name) for name in tried):
            return folder
    if len(path.parts) > 4 and JOB_FOLDER.fullmatch("/".join(path.parts[-3:-1])):
        return path.parents[2]
    return None


def read_job_options(path: str | os.PathLike[str]) -> dict[str, str]:
    """Return the options of a job from its ``job.star``, by name; empty where the file is missing or another one."""
    try:
        blocks = star.read(path)
    except FormatError:
        return {}
    table: Any = blocks.get("joboptions_values")
    needed = ("rlnJobOptionVariable", "rlnJobOptionValue")
    if any(name not in getattr(table, "columns", ()) for name in needed):
        return {}
    return {str(name): str(value) for name, value in zip(table[needed[0]], table[needed[1]], strict=True)}
