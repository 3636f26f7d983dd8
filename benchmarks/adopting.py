"""Speed of adopting a RELION project of 10,000 small micrographs: values alone, with trajectories, with their pictures.

    python benchmarks/adopting.py [--micrographs 10000]

Trajectories are measured on a fifth, pictures on a twentieth of them.
"""

from __future__ import annotations

import argparse
import os
import shutil
import sys
import tempfile
import time
from pathlib import Path

import _common
import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from focusnb.io.mrc import write_mrc
from focusnb.io.relion import write_motion
from focusnb.project.adopting import adopt
from focusnb.project.project import Project

_OPTICS = """data_optics

loop_
_rlnOpticsGroup #1
_rlnMicrographOriginalPixelSize #2
_rlnVoltage #3
_rlnSphericalAberration #4
_rlnAmplitudeContrast #5
_rlnMicrographPixelSize #6
1 0.885 200 1.4 0.1 0.885

data_micrographs

loop_
"""
_CTF = ("MicrographName", "OpticsGroup", "DefocusU", "DefocusV", "DefocusAngle", "CtfFigureOfMerit", "CtfMaxResolution")
_CORRECTED = ("MicrographName", "MicrographMetadata", "OpticsGroup", "AccumMotionTotal")


def main() -> None:
    """Adopt, twice each, print and keep the rates."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--micrographs", type=int, default=10_000)
    count = parser.parse_args().micrographs
    kinds = {"values": (count, False), "with trajectories": (count // 5, False), "with pictures": (count // 20, True)}
    rows = []
    for what, (number, pictures) in kinds.items():
        folder = Path(tempfile.mkdtemp(prefix="focusnb-benchmark-"))
        try:
            table = write_project(folder / "relion", number, motion=what != "values")
            with Project.create(folder / "project", mode="single-particle") as project:
                seconds = [timed(project, table, pictures) for _ in range(2)]
        finally:
            shutil.rmtree(folder)
        row: dict[str, object] = {"what": what, "micrographs": number}
        for when, (wall, cpu) in zip(("new", "again"), seconds, strict=True):
            row |= {f"{when} /s": round(number / wall), f"{when} CPU ms": round(1e3 * cpu / number, 2)}
        rows.append(row)
    _common.table(rows)
    _common.save("adopting", rows)


def timed(project: Project, table: Path, pictures: bool) -> tuple[float, float]:
    """Seconds of one adoption, and seconds of CPU."""
    start, cpu = time.perf_counter(), time.process_time()
    adopt(project, [table], pictures=pictures)
    return time.perf_counter() - start, time.process_time() - cpu


def write_project(folder: Path, count: int, *, motion: bool) -> Path:
    """A RELION project whose micrographs are one small file under many names; returns micrographs_ctf.star."""
    images = folder / "MotionCorr" / "job002" / "Movies"
    images.mkdir(parents=True)
    write_mrc(images / "one.mrc", np.random.default_rng(1).normal(size=(64, 64)).astype(np.float32), pixel_size=0.885)
    write_motion(
        images / "one.star",
        movie_name="Movies/one.tif",
        shape=(40, 3838, 3710),
        shifts=np.cumsum(np.random.default_rng(2).normal(size=(40, 2)), axis=0),
        pixel_size=0.885,
        dose_per_frame=1.2,
        prior_dose=0,
        voltage=200,
        local_coefficients=np.full(36, 1e-3),
    )
    fitted, corrected = [], []
    for number in range(count):
        name = f"MotionCorr/job002/Movies/m{number:05d}"
        os.link(images / "one.mrc", folder / f"{name}.mrc")
        if motion:
            os.link(images / "one.star", folder / f"{name}.star")
        fitted.append(f"{name}.mrc 1 {10_000 + number} {9_900 + number} 45 0.15 3.9")
        corrected.append(f"{name}.mrc {name}.star 1 12.5")
    table = folder / "CtfFind" / "job003" / "micrographs_ctf.star"
    table.parent.mkdir(parents=True)
    for path, labels, lines in (
        (table, _CTF, fitted),
        (folder / "MotionCorr" / "job002" / "corrected_micrographs.star", _CORRECTED, corrected),
    ):
        columns = [f"_rln{label} #{place}" for place, label in enumerate(labels, start=1)]
        path.write_text(_OPTICS + "\n".join([*columns, *lines]) + "\n")
    return table


if __name__ == "__main__":
    main()
