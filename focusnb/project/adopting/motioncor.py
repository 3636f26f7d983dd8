"""Finished work of MotionCor2 and MotionCor3: a folder of sums and logs, or single logs."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from focusnb.errors import FormatError
from focusnb.io.motioncor import (
    FULL_LOG,
    PATCH_LOG,
    MotioncorLog,
    file_name,
    read_motioncor,
    read_movie_size,
    stem_of,
)
from focusnb.io.movies import open_movie
from focusnb.io.relion import Motion
from focusnb.project.adopting.finished import MOTION, AdoptionReport, Findings, Finished, Source, known
from focusnb.project.gathering import sentence

_SUFFIXES = (".log", ".txt", ".out")
_HEAD = 400_000
_WORDS = re.compile(r"Full-frame alignment|\.+\s*Add Frame #\d+ with xy shift")


def find_logs(folder: Path) -> list[Path]:
    """The files below a folder that hold the motion of a whole frame."""
    return [
        path
        for path in sorted(folder.rglob("*"))
        if path.suffix.lower() in _SUFFIXES and not path.name.startswith(".") and path.is_file() and _is_log(path)
    ]


def _is_log(path: Path) -> bool:
    if FULL_LOG.search(path.name):
        return True
    if PATCH_LOG.search(path.name):
        return False
    try:
        with open(path, errors="replace") as file:
            return _WORDS.search(file.read(_HEAD)) is not None
    except OSError:
        return False


def finished_by_motioncor(logs: Iterable[Path], report: AdoptionReport) -> Source:
    """What logs of MotionCor tell, with the sums that lie beside them; a log that cannot be read is told.

    A movie whose words on standard output are kept beside its log file is one exposure: they tell more.
    """
    movies: dict[tuple[Path, str], _Movie] = {}
    for path in logs:
        try:
            log = read_motioncor(path)
        except FormatError as error:
            report.left_out += 1
            report.tell(f"{sentence(error)} It was left out.")
            continue
        movie = _Movie(log)
        first = movies.setdefault((path.parent, movie.stem), movie)
        if first is not movie:
            best = max((first.log, log), key=lambda found: len(found.options))
            movies[path.parent, movie.stem] = _Movie(best)
    return Source(len(movies), _finished(movies.values(), report))


def _finished(movies: Iterable[_Movie], report: AdoptionReport) -> Iterator[Finished]:
    for movie in movies:
        yield movie.finished(report)


@dataclass
class _Movie:
    """A movie by its log."""

    log: MotioncorLog
    stem: str = field(init=False)

    def __post_init__(self) -> None:
        asked = file_name(self.log.output_name)
        self.stem = re.sub(r"\.mrcs?$", "", asked, flags=re.IGNORECASE) if asked else stem_of(self.log.path.name)

    def finished(self, report: AdoptionReport) -> Finished:
        """The movie in our words."""
        log = self.log
        image, weighted = self._sum(""), self._sum("_DW")
        expected = image or weighted or log.path.parent / f"{self.stem}.mrc"
        header = _header(expected)
        binned = log.number("FtBin") or 1.0
        pixel_size, summed = log.number("PixSize"), header.get("pixel_size")
        shape = log.shape or self._movie_size(header, binned)
        if pixel_size is None and summed is not None:
            binned = shape[2] / header["width"] if shape and header.get("width") else binned
            pixel_size = summed / binned
        per_frame = None if log.is_eer else log.number("FmDose")
        prior = log.number("InitDose") or 0.0
        motion = None
        if pixel_size is None:
            report.tell(
                "neither the log nor a sum beside it tells the pixel size; its motion was not adopted",
                about=log.path.name,
            )
        else:
            motion = self._motion(shape, pixel_size, binned, per_frame or None, prior)
        found = {"micrograph": image, "micrograph_dose_weighted": weighted}
        found |= {"micrograph_even": self._sum("_EVN"), "micrograph_odd": self._sum("_ODD")}
        micrograph_pixel = None if pixel_size is None else pixel_size * binned
        findings = Findings(
            MOTION,
            known({"micrograph_pixel_size": micrograph_pixel}),
            log.program,
            log.path,
            log.version,
            known(found),
            motion,
        )
        used = len(log.shifts)
        whole = per_frame * used if per_frame else None
        before = prior + (per_frame or 0.0) * (log.first_frame - 1)
        sampled = 2 ** (int(log.number("EerSampling") or 1) - 1) if log.is_eer else 1
        return Finished(
            name=self.stem,
            group=expected.absolute().parent.name or "MotionCor",
            image=expected,
            movie=self._recorded(),
            facts=known({"voltage": log.number("kV")}),
            image_facts=known({"pixel_size": micrograph_pixel, "exposure_dose": whole, "prior_dose": before or None}),
            movie_facts=known(
                {
                    "pixel_size": None if pixel_size is None else pixel_size * sampled,
                    "dose_per_frame": per_frame or None,
                    "prior_dose": prior or None,
                    "gain_reference": self._beside(log.options.get("Gain", "")),
                }
            ),
            findings=(findings,) if findings.values or findings.files or motion is not None else (),
        )

    def _folders(self) -> list[Path]:
        given = Path(self.log.output_name).parent if self.log.output_name else self.log.path.parent
        return [self.log.path.parent, self.log.path.parent.parent, given]

    def _sum(self, ending: str) -> Path | None:
        places = (folder / f"{self.stem}{ending}.mrc" for folder in self._folders())
        return next((path for path in places if os.path.isfile(path)), None)

    def _beside(self, named: str) -> Path | None:
        """A file the log names, where it was, or beside the log or the sums."""
        if not named:
            return None
        places = [Path(named), *(folder / file_name(named) for folder in self._folders())]
        return next((path for path in places if os.path.isfile(path)), None)

    def _recorded(self) -> Path | None:
        named = self.log.movie_name
        return self._beside(named) or (Path(named) if named else None)

    def _movie_size(self, header: dict[str, Any], binned: float) -> tuple[int, int, int] | None:
        for path in sorted(self.log.path.parent.glob(f"{_escaped(self.stem)}*")):
            if PATCH_LOG.search(path.name) and stem_of(path.name) == self.stem:
                try:
                    return read_movie_size(path)
                except FormatError:
                    continue
        if not header.get("width") or not header.get("height"):
            return None
        return len(self.log.shifts), round(header["height"] * binned), round(header["width"] * binned)

    def _motion(
        self,
        shape: tuple[int, int, int] | None,
        pixel_size: float,
        binned: float,
        per_frame: float | None,
        prior: float,
    ) -> Motion | None:
        log = self.log
        if shape is None:
            return None
        frames = max(shape[0], log.first_frame - 1 + len(log.shifts))
        return Motion(
            movie_name=log.movie_name or self.stem,
            shape=(frames, *shape[1:]),
            shifts=log.shifts - log.shifts[0],
            pixel_size=pixel_size,
            dose_per_frame=per_frame,
            prior_dose=prior,
            voltage=log.number("kV"),
            gain_name=log.options.get("Gain", ""),
            binning=binned,
            start_frame=log.first_frame,
            eer_upsampling=2 ** (int(log.number("EerSampling") or 1) - 1) if log.is_eer else None,
        )


def _header(path: Path) -> dict[str, Any]:
    """What the header of a sum says; nothing where it cannot be read, which is told when it is imported."""
    try:
        with open_movie(path) as image:
            return dict(image.header_facts)
    except FormatError:
        return {}


def _escaped(name: str) -> str:
    return re.sub(r"([*?\[])", r"[\1]", name)
