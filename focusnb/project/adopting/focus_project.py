"""Finished work of Focus and 2dx: a project folder whose images are folders with a ``2dx_image.cfg`` each."""

from __future__ import annotations

import datetime
import math
import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from focusnb.errors import FormatError
from focusnb.io.ctf_record import CtfOptics, MicrographCtf, judge_ctf, order_defocus, positive
from focusnb.io.files import read_text
from focusnb.io.focus_cfg import IMAGE_FILE, PROJECT_FILES, FocusConfig, read_focus_config
from focusnb.io.relion import Motion
from focusnb.project.adopting.finished import CTF, MOTION, AdoptionReport, Findings, Finished, Source, ctf_values, known
from focusnb.project.gathering import sentence
from focusnb.project.project import FLAGS
from focusnb.project.sets import TRASH

_PROGRAM = "Focus"
_SHIFTS = "motioncor2_shifts.txt"
_DEEPEST = 3
"""Levels of groups below a project; an image within an image is none."""


def is_focus_project(folder: Path) -> bool:
    """Whether a folder is a project of Focus or 2dx, a group of one, or an image."""
    return (
        any((folder / name).exists() for name in (*PROJECT_FILES, IMAGE_FILE))
        or next(_images(folder, depth=2), None) is not None
    )


def finished_by_focus(folder: Path, report: AdoptionReport, *, keep: Callable[[Path, str], str]) -> Source:
    """What a project of Focus or 2dx holds: each image with its group, flag, comment and main parameters.

    folder : the project, one of its groups, or one image
    keep : takes the project's own parameter file, which is kept once
    An image whose parameter file cannot be read is told and left out.
    """
    folder = folder.absolute()
    root = _root(folder)
    shared = None
    if root is not None:
        path = next(root / name for name in PROJECT_FILES if (root / name).exists())
        try:
            shared = read_focus_config(path)
            keep(path.resolve(), "parameter file of the Focus project")
        except FormatError as error:
            report.tell(f"{sentence(error)} What its images share is not known.")
    images = [folder] if (folder / IMAGE_FILE).is_file() else sorted(_images(folder, depth=_DEEPEST))
    return Source(len(images), _finished(images, root or folder, shared, report))


def _root(folder: Path) -> Path | None:
    """The project of a folder: the topmost one, of itself and those above it, that has the project's parameters."""
    found = [place for place in (folder, *folder.parents) if (place / PROJECT_FILES[0]).is_file()]
    if found:
        return found[-1]
    return folder if any((folder / name).exists() for name in PROJECT_FILES) else None


def _images(folder: Path, *, depth: int) -> Iterator[Path]:
    try:
        inner = [entry for entry in os.scandir(folder) if entry.is_dir(follow_symlinks=False)]
    except OSError:
        return
    for entry in inner:
        if entry.name == "merge" or entry.name.startswith("."):
            continue
        if os.path.isfile(os.path.join(entry.path, IMAGE_FILE)):
            yield Path(entry.path)
        elif depth > 1:
            yield from _images(Path(entry.path), depth=depth - 1)


def _finished(images: list[Path], root: Path, shared: FocusConfig | None, report: AdoptionReport) -> Iterator[Finished]:
    for folder in images:
        try:
            config = read_focus_config(folder / IMAGE_FILE).over(shared)
            yield _Image(folder, root, config, report).finished()
        except FormatError as error:
            report.left_out += 1
            report.tell(f"{sentence(error)} The image was left out.")


@dataclass
class _Image:
    """One image of a project, with the values that are in force for it."""

    folder: Path
    root: Path
    config: FocusConfig
    report: AdoptionReport

    def finished(self) -> Finished:
        """The image in our words."""
        config = self.config
        group = self.folder.parent.relative_to(self.root).as_posix() if self.folder != self.root else "."
        flag = (config.text("image_flag") or "").lower()
        facts = self._facts()
        pixel_size = self._pixel_size()
        motion = self._motion(pixel_size)
        findings = [
            self._fitted(pixel_size, facts),
            Findings(MOTION, known({"drift": config.number("import_drift")}), _PROGRAM, config.path, motion=motion),
        ]
        if wrong := config.wrong & {"defocus", "sample_pixel", "import_drift", "kv", "cs"}:
            self.report.tell(f"marked as wrong in Focus: {', '.join(sorted(wrong))}", about=self.folder.name)
        if shared := self._dose("total_dose"):
            facts["exposure_dose"] = shared
        elif per_frame := self._dose("frame_dose"):
            facts["dose_per_frame"] = per_frame
        return Finished(
            name=self.folder.name,
            group=TRASH if group.upper() == TRASH else group.replace("/", "_") if group != "." else self.root.name,
            image=self._image(),
            movie=self._movie(),
            facts=facts,
            image_facts=known({"pixel_size": pixel_size}),
            # sample_pixel is of the image; of the movie only where nothing was binned before or after
            movie_facts=known({"pixel_size": pixel_size if (config.text("import_bin") or "0") == "0" else None}),
            findings=tuple(found for found in findings if found.values or found.motion is not None),
            flag=flag if flag in FLAGS else None,
            comment=config.text("comment"),
            beside=(self.folder / IMAGE_FILE,),
        )

    def _dose(self, name: str) -> float | None:
        value = self.config.number(name)
        return value if value is not None and value > 0 else None

    def _pixel_size(self) -> float | None:
        """Å/px of the image: as it stands there, or by the magnification where that is what counts."""
        config = self.config
        step, magnification = config.number("stepdigitizer"), config.number("magnification")
        by_step = 1e4 * step / magnification if step and magnification else None
        given = positive(config.number("sample_pixel"))
        return (
            (given or by_step) if (config.text("Calc_from_sample_pixel") or "y").lower() == "y" else (by_step or given)
        )

    def _facts(self) -> dict[str, Any]:
        config = self.config
        contrast = config.number("phacon")
        recorded = config.number("import_original_time")
        facts = {
            "voltage": config.number("KV"),
            "spherical_aberration": config.number("CS"),
            "amplitude_contrast": math.sqrt(1 - contrast**2) if contrast is not None and 0 < contrast <= 1 else None,
            "magnification": positive(config.number("magnification")),
            "prior_dose": config.number("prior_dose"),
            "tilt_angle": config.number("TLTANG"),
            "tilt_axis": config.number("TLTAXIS"),
            "specimen": config.text("specimen_name") or config.text("specimennumber"),
            "square": config.text("EPU_dirname"),
            "recorded_at": _time(recorded),
        }
        return known(facts)

    def _fitted(self, pixel_size: float | None, facts: Mapping[str, Any]) -> Findings:
        config = self.config
        found = config.numbers("defocus") or ()
        if len(found) not in (0, 3):
            raise FormatError(f"{config.path}: defocus has {len(found)} numbers, U, V and angle belong there")
        values: dict[str, Any] = {}
        # 0,0,0 is what Focus writes at import
        if len(found) == 3 and any(found[:2]):
            u, v, angle = order_defocus(*found)
            resolution, score = positive(config.number("defocus_RESMAX")), config.number("defocus_CCvalue")
            told = [n for n, value in (("ctf_fit_resolution", resolution), ("ctf_score", score or None)) if value]
            ctf = MicrographCtf(
                micrograph=self.folder.name,
                defocus_u=u,
                defocus_v=v,
                astigmatism_angle=angle,
                phase_shift=config.number("defocus_phase_shift"),
                ctf_score=score or None,
                ctf_fit_resolution=resolution,
                optics=CtfOptics(
                    pixel_size, facts.get("voltage"), facts.get("spherical_aberration"), facts.get("amplitude_contrast")
                ),
                program=_PROGRAM,
            )
            values = ctf_values(judge_ctf(ctf, told=told))
        return Findings(CTF, values, _PROGRAM, config.path)

    def _image(self) -> Path:
        """The sum that is not dose-weighted, else the image by its names in 2dx."""
        names = [f"{self.config.text('movie_stackname') or 'movie_aligned'}_Sum"]
        names += [name for key in ("nonmaskimagename", "imagename") if (name := self.config.text(key))]
        names += ["image_2dx", "movie_aligned"]
        suffixes = (".mrc", ".tif", ".tiff")
        places = (self.folder / f"{name.removesuffix('.mrc')}{suffix}" for name in names for suffix in suffixes)
        return next((path for path in places if path.is_file()), self.folder / f"{names[1 % len(names)]}.mrc")

    def _movie(self) -> Path | None:
        for key in ("import_rawstack", "raw_gaincorrectedstack", "import_rawstack_original"):
            name = self.config.text(key)
            for suffix in ("", ".mrcs", ".mrc", ".tif", ".tiff") if name else ():
                path = self.folder / f"{name}{suffix}"
                if path.is_file():
                    return path
        return None

    def _motion(self, pixel_size: float | None) -> Motion | None:
        """The shifts that MotionCor2 wrote into its log, which Focus kept as lines ``dx dy``."""
        path = self.folder / _SHIFTS
        width = self.config.number("imagesidelength")
        if not path.is_file() or pixel_size is None or not width:
            return None
        try:
            shifts = np.array([[float(word) for word in line.split()] for line in read_text(path).split("\n") if line])
        except ValueError:
            shifts = np.empty(0)
        if shifts.ndim != 2 or shifts.shape[1] != 2 or not np.isfinite(shifts).all():
            self.report.tell(f"{path}: holds no lines of two numbers; the trajectory was not adopted")
            return None
        return Motion(
            movie_name=self.config.text("import_rawstack") or self.folder.name,
            shape=(len(shifts), int(width), int(width)),
            shifts=shifts[:, ::-1] - shifts[0, ::-1],
            pixel_size=pixel_size,
            dose_per_frame=self._dose("frame_dose"),
            prior_dose=self.config.number("prior_dose") or 0.0,
            voltage=self.config.number("KV"),
        )


def _time(milliseconds: float | None) -> datetime.datetime | None:
    if milliseconds is None or not 0 < milliseconds < 4e12:
        return None
    return datetime.datetime.fromtimestamp(milliseconds / 1e3, datetime.UTC)
