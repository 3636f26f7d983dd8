"""Finished work of RELION: ``micrographs_ctf.star``, ``corrected_micrographs.star``, and what they name."""

from __future__ import annotations

import os
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from focusnb.errors import FormatError
from focusnb.io.relion import Motion, read_motion
from focusnb.io.relion_micrographs import (
    JOB_FOLDER,
    RelionMicrograph,
    find_project,
    read_job_options,
    read_micrographs,
    relion_version,
)
from focusnb.project.adopting.finished import CTF, MOTION, AdoptionReport, Findings, Finished, Source, ctf_values, known
from focusnb.project.gathering import sentence

CORRECTED = "corrected_micrographs.star"
TABLES = ("micrographs_ctf.star", CORRECTED)


def finished_by_relion(path: Path, report: AdoptionReport) -> Source:
    """What a table of micrographs tells, with the motion of each where its STAR is there.

    FormatError where the table cannot be read; what cannot be read of single micrographs is told.
    """
    rows = read_micrographs(path)
    root = find_project(path, (name for row in rows for name in (row.name, row.unweighted)))
    if root is None:
        report.tell(
            f"{path}: the folder its names are relative to was not found: none of {len(rows)} micrographs lies in a "
            "folder above it; put the table back into its RELION project, or adopt the values alone (--without-files)"
        )
    table = _Table(path, root or path.absolute().parent, report, relion_version(path))
    return Source(len(rows), (table.finished(row) for row in rows))


@dataclass
class _Table:
    """One table with the project it belongs to."""

    path: Path
    root: Path
    report: AdoptionReport
    version: str
    _jobs: dict[str, tuple[dict[str, RelionMicrograph], Path, dict[str, str]]] = field(default_factory=dict)

    def _job(self, name: str) -> tuple[dict[str, RelionMicrograph], Path, dict[str, str]]:
        """The corrected micrographs of the job a micrograph comes from, their table, and the job's options."""
        job = "/".join(Path(name).parts[:2])
        if job not in self._jobs:
            folder, rows = self.root / job, {}
            table = folder / CORRECTED
            if JOB_FOLDER.fullmatch(job) and table.is_file() and table.resolve() != self.path.resolve():
                try:
                    rows = {row.name: row for row in read_micrographs(table)}
                except FormatError as error:
                    self.report.tell(f"{sentence(error)} Its motion was not adopted.")
            self._jobs[job] = rows, table, read_job_options(folder / "job.star")
        return self._jobs[job]

    def finished(self, row: RelionMicrograph) -> Finished:
        """One micrograph in our words."""
        others, table, options = self._job(row.name)
        source = self.path
        if not row.metadata and row.motion_total is None and row.name in others:
            row, source = replace(others[row.name], ctf=row.ctf, optics=row.optics), table
        weighted = bool(row.unweighted) or options.get("do_dose_weighting") == "Yes"
        image = self._there(row.unweighted) or self.root / row.name
        if weighted and image == self.root / row.name:
            self.report.tell(
                "its only sum is dose-weighted; its spectrum and ice are measured in that", about=Path(row.name).name
            )
        motion = self._motion(row)
        findings = [self._aligned(row, motion, source, image, weighted=weighted)]
        if row.ctf is not None:
            program = "Gctf" if row.ctf.program == "Gctf" else "RELION"
            findings.append(Findings(CTF, ctf_values(row.ctf), program, self.path, self.version))
        optics = row.optics
        facts = {
            "voltage": optics.voltage,
            "spherical_aberration": optics.spherical_aberration,
            "amplitude_contrast": optics.amplitude_contrast,
        }
        return Finished(
            name=Path(row.name).stem,
            group=Path(row.name).parent.name or "RELION",
            image=image,
            movie=self.root / motion.movie_name if motion is not None and motion.movie_name else None,
            facts=known(facts),
            image_facts=known(
                {"pixel_size": optics.micrograph_pixel_size or optics.pixel_size, **_doses(motion, whole=True)}
            ),
            movie_facts=known({"pixel_size": _movie_pixel_size(row, motion), **self._of_the_movie(motion, options)}),
            findings=tuple(found for found in findings if found.values or found.files or found.motion),
        )

    def _there(self, name: str) -> Path | None:
        path = self.root / name
        return path if name and os.path.isfile(path) else None

    def _motion(self, row: RelionMicrograph) -> Motion | None:
        path = self._there(row.metadata)
        if path is None:
            if row.metadata:
                self.report.tell(
                    "the STAR of its motion is not there; only the lengths of its path are adopted",
                    about=Path(row.metadata).name,
                )
            return None
        try:
            motion = read_motion(path)
        except FormatError as error:
            self.report.tell(f"{sentence(error)} Its motion was not adopted.")
            return None
        first = motion.start_frame - 1
        if not 0 <= first < len(motion.shifts) or not np.isfinite(motion.shifts[first]).all():
            self.report.tell(f"{path}: has no shift of its first used frame, {first + 1}; its motion was not adopted")
            return None
        return motion

    def _aligned(
        self, row: RelionMicrograph, motion: Motion | None, source: Path, image: Path, *, weighted: bool
    ) -> Findings:
        values: dict[str, Any] = {"micrograph_pixel_size": row.optics.micrograph_pixel_size}
        if motion is None and row.motion_total is not None:
            values |= self._lengths(row)
        names = {"micrograph_dose_weighted": row.name if weighted else "", "micrograph_even": row.even}
        names |= {"micrograph_odd": row.odd}
        files = {finding: path for finding, name in names.items() if (path := self._there(name)) is not None}
        if os.path.isfile(image):
            files["micrograph"] = image
        version = self.version if source == self.path else relion_version(source)
        return Findings(MOTION, known(values), "RELION", source, version, files, motion)

    def _lengths(self, row: RelionMicrograph) -> dict[str, Any]:
        pixel_size = row.optics.pixel_size
        if pixel_size is None:
            self.report.tell(f"{self.path}: has no pixel size of the movies; lengths of motion were not adopted")
            return {}
        self.report.tell(
            f"{self.path}: lengths of motion are pixels of the movie, although RELION's labels say Å; they were "
            f"multiplied by {pixel_size:g} Å/px"
        )
        lengths = {"motion_total": row.motion_total, "motion_early": row.motion_early, "motion_late": row.motion_late}
        return {name: None if value is None else value * pixel_size for name, value in lengths.items()}

    def _of_the_movie(self, motion: Motion | None, options: dict[str, str]) -> dict[str, Any]:
        if motion is None:
            return {}
        facts: dict[str, Any] = _doses(motion, whole=False)
        for name, named in (("gain_reference", motion.gain_name), ("defects", motion.defect_name)):
            facts[name] = self._there(named)
        turned = [options[name] for name in ("gain_rot", "gain_flip") if not options.get(name, "No").startswith("No")]
        if turned and facts["gain_reference"] is not None:
            self.report.tell(
                f"{self.path}: RELION turned its gain reference ({', '.join(turned)}); give --set gain_rotation=... "
                "and gain_flip=... before movies are processed"
            )
        return facts


def _movie_pixel_size(row: RelionMicrograph, motion: Motion | None) -> float | None:
    """Of the movie as it is read here: an EER movie on the grid of its detector."""
    if motion is None:
        return row.optics.pixel_size
    return motion.pixel_size * (motion.eer_upsampling or 1)


def _doses(motion: Motion | None, *, whole: bool) -> dict[str, Any]:
    """The doses of a movie, or of the sum of its used frames."""
    if motion is None or motion.dose_per_frame is None or motion.dose_per_frame <= 0:
        return {}
    if not whole:
        # an EER movie is cut into frames of its own here
        per_frame = {} if motion.eer_grouping else {"dose_per_frame": motion.dose_per_frame}
        return {**per_frame, "prior_dose": motion.prior_dose}
    used = int(np.isfinite(motion.shifts).all(axis=1).sum())
    before = motion.prior_dose + motion.dose_per_frame * (motion.start_frame - 1)
    return {"exposure_dose": motion.dose_per_frame * used, "prior_dose": before}
