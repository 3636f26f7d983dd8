"""A project whose exposures have pictures of known truth: made by hand, so that no processing has to run."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from focusnb.io.images import write_mrc, write_png
from focusnb.project import records
from focusnb.project.project import Project
from tests.projects import make_project, write_shots

PIXEL_SIZE, SIDE, SHOWN = 1.5, 64, 32
"""Å/px and pixels of a square micrograph, and pixels of its preview."""

FIT_RESOLUTION = 4.8

PICTURES = {
    "unaligned_preview": "image_before.png",
    "unaligned_spectrum_preview": "spectrum_before.png",
    "micrograph_preview": "image_after.png",
    "spectrum_preview": "spectrum_after.png",
    "ctf_rings_preview": "ctf_rings.png",
    "trajectory_preview": "trajectory.png",
}

FINDINGS: dict[str, Any] = {
    "micrograph_pixel_size": PIXEL_SIZE,
    "movie_pixel_size": PIXEL_SIZE,
    "power_spectrum_pixel_size": PIXEL_SIZE,
    "defocus_u": 12400.0,
    "defocus_v": 11600.0,
    "astigmatism": 800.0,
    "ctf_fit_resolution": FIT_RESOLUTION,
    "ctf_quality": "ok",
    "drift": 7.25,
    "iciness": 0.8312,
    "mean_counts": 1.5,
}

FACTS = {"pixel_size": PIXEL_SIZE, "width": SIDE, "height": SIDE, "kind": "movie"}


def corner(side: int = SHOWN) -> np.ndarray:
    """Grey with a white block at the upper left and a black one at the lower left; row 0 is the bottom."""
    pixels = np.full((side, side), 128, np.uint8)
    pixels[-side // 4 :, : side // 4] = 255
    pixels[: side // 4, : side // 4] = 0
    return pixels


def frames_moved() -> np.ndarray:
    """Shifts to apply, (t, 2) as (dy, dx) in Å: the specimen moves to the right by 6 Å, and up by 2 Å."""
    return np.column_stack([np.linspace(0, -2, 9), np.linspace(0, -6, 9)])


def make_shown(folder: Path, names: Iterable[str] = ("a", "b", "c")) -> Project:
    """A project in which every exposure is done, with all its pictures; ids from 1 on."""
    project = make_project(folder, steps=False)
    names = list(names)
    project.add(write_shots(folder.parent / "camera", **dict.fromkeys(names, "no movie")))
    for exposure in project.ids():
        finish(project, exposure)
    return project


def finish(project: Project, exposure: int, **findings: Any) -> None:
    """Give an exposure its pictures and findings, as the steps of a workflow would."""
    folder = project.path(exposure)
    for file in PICTURES.values():
        write_png(folder / file, corner())
    plane = np.repeat(np.arange(SIDE, dtype=np.float32)[:, None], SIDE, axis=1)  # brighter towards the top
    write_mrc(folder / "micrograph.mrc", plane, pixel_size=PIXEL_SIZE)
    write_mrc(folder / "power_spectrum.mrc", 1 + np.random.default_rng(1).random((64, 64), np.float32), pixel_size=1.5)
    motion = {"pixel_size": PIXEL_SIZE, "shape": [SIDE, SIDE], "shifts": frames_moved().tolist()}
    (folder / "motion.json").write_text(json.dumps(motion))
    files = {**PICTURES, "motion_curves": "motion.json", "micrograph": "micrograph.mrc"}
    state(project, exposure, "fit_ctf", "done", values={**FINDINGS, **FACTS, **files, **findings}, status="done")
    state(project, exposure, "align_frames", "done", values={"power_spectrum": "power_spectrum.mrc"}, status="done")


def state(
    project: Project,
    exposure: int,
    step: str,
    state: str,
    *,
    reason: str = "",
    error: str = "",
    values: Mapping[str, Any] | None = None,
    status: str | None = None,
) -> None:
    """Put a step of an exposure into a state, with what it found."""
    with project.library.write() as transaction:
        row = records.row_of(transaction.connection, exposure)
        run = {"run": f"{step}-{exposure}", "status": state, "reason": reason or None, "error": error or None}
        current = {**row["current"], step: {**run, "params": {}, "makes": []}}
        changed = {"current": current, "status": status or state, "reason": reason or None}
        transaction.update_exposure(exposure, {**changed, **(values or {})})


def empty(project: Project, exposure: int, *names: str) -> None:
    """Take findings away."""
    with project.library.write() as transaction:
        transaction.update_exposure(exposure, dict.fromkeys(names))
