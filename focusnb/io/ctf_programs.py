"""Results of CTFFIND 4 and 5, Gctf and RELION, told apart by what the file holds, not by its name."""

from __future__ import annotations

import os

from focusnb.errors import FormatError
from focusnb.io.ctf_record import CtfLimits, MicrographCtf
from focusnb.io.ctffind import read_ctffind
from focusnb.io.files import read_text
from focusnb.io.gctf import read_gctf_log
from focusnb.io.relion_ctf import read_micrographs_ctf


def read_ctf(path: str | os.PathLike[str], *, limits: CtfLimits | None = None) -> list[MicrographCtf]:
    """Read the CTFs another program found: a summary of CTFFIND, a log or table of Gctf, micrographs_ctf.star.

    One record for each micrograph, with ``ctf_quality`` and ``reason``; limits: where doubt begins.

    Raises FormatError where the file is of none of these programs, or is damaged.
    """
    text = read_text(path)
    head = text[:1000].lower()
    if "ctffind version" in head and head.lstrip().startswith("#"):
        return read_ctffind(path, limits=limits)
    if any(line.startswith("data_") for line in text.split("\n")):
        return read_micrographs_ctf(path, limits=limits)
    if "Final Values" in text or "gctf" in head:
        return read_gctf_log(path, limits=limits)
    raise FormatError(
        f"{path}: {len(text)} characters are no summary of CTFFIND, no log of Gctf and no STAR table; give the file "
        "<micrograph>.txt, <micrograph>_gctf.log or micrographs_ctf.star"
    )
