"""What another program has finished on one exposure, in our words: the same record for RELION, MotionCor and Focus."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from focusnb.io.ctf_record import MicrographCtf
from focusnb.io.relion import Motion
from focusnb.project.gathering import ImportReport

MOTION, CTF = "motion_total", "defocus_u"
"""Findings by which the steps are found whose results they are."""


@dataclass
class AdoptionReport(ImportReport):
    """What an adoption did: besides what is told of an import, how many exposures were left out."""

    left_out: int = 0


@dataclass(frozen=True)
class Findings:
    """The results that belong to one step.

    key : a finding that only the step concerned makes
    values : findings by name, in our units and signs
    program, version : what made them; file: where they were read
    files : images made, by the name of the finding
    motion : the trajectory, where it is known: written as the step's own table, curves and numbers
    """

    key: str
    values: Mapping[str, Any]
    program: str
    file: Path
    version: str = ""
    files: Mapping[str, Path] = field(default_factory=dict)
    motion: Motion | None = None

    def digest(self) -> str:
        """Return what is the same as long as the results are the same, as 32 hexadecimal digits."""
        known = {
            "key": self.key,
            "program": self.program,
            "values": dict(self.values),
            "files": {name: str(path) for name, path in self.files.items()},
        }
        digest = hashlib.sha256(json.dumps(known, sort_keys=True, default=str).encode())
        if self.motion is not None:
            for name, value in sorted(vars(self.motion).items()):
                digest.update(name.encode())
                digest.update(value.tobytes() if isinstance(value, np.ndarray) else repr(value).encode())
        return digest.hexdigest()[:32]


@dataclass(frozen=True)
class Finished:
    """One exposure as another program left it.

    name, group : what it is to be called
    image : its sum; movie: its frames; None where they are not known. They need not exist
    facts : by name; image_facts, movie_facts: those that hold where the exposure starts from the one or the other
    findings : one for each step
    beside : files that are kept with the raw file
    """

    name: str
    group: str
    image: Path | None = None
    movie: Path | None = None
    facts: Mapping[str, Any] = field(default_factory=dict)
    image_facts: Mapping[str, Any] = field(default_factory=dict)
    movie_facts: Mapping[str, Any] = field(default_factory=dict)
    findings: tuple[Findings, ...] = ()
    flag: str | None = None
    comment: str | None = None
    beside: tuple[Path, ...] = ()


@dataclass(frozen=True)
class Source:
    """What a file or folder offers: how many exposures, and they themselves, read one by one."""

    count: int
    finished: Iterator[Finished]


def ctf_values(ctf: MicrographCtf) -> dict[str, Any]:
    """The findings of a fitted CTF. Where it failed its numbers stand in the remark, and the defocus stays empty."""
    values: dict[str, Any] = {
        "ctf_score": ctf.ctf_score,
        "ctf_fit_resolution": ctf.ctf_fit_resolution,
        "ctf_quality": ctf.ctf_quality,
        "ctf_remark": ctf.reason or None,
    }
    if ctf.ctf_quality != "failed":
        values |= {
            "defocus_u": ctf.defocus_u,
            "defocus_v": ctf.defocus_v,
            "astigmatism": ctf.astigmatism,
            "astigmatism_angle": ctf.astigmatism_angle,
            "phase_shift": ctf.phase_shift or 0.0,
        }
    elif ctf.defocus_u is not None and ctf.defocus_v is not None:
        values["ctf_remark"] = f"{ctf.reason}; {ctf.program} wrote {ctf.defocus_u:.0f} / {ctf.defocus_v:.0f} Å"
    return {name: value for name, value in values.items() if value is not None}


def known(values: Mapping[str, Any]) -> dict[str, Any]:
    """Those values that are not None."""
    return {name: value for name, value in values.items() if value is not None}
