"""A simulated microscope: writes movies into a folder as a camera does, for the demo, for tests and for binder.

    session = record_session("camera", movies=10, seed=1)
    session.truth_of(session.movies[0]).field_mean()

The physics is in ``focusnb.ops.simulate``. What was simulated is kept in ``<folder>/.truth/truth.json``, hidden from
imports. Files are written by code of this module alone, so that reading them is a test of the readers.
"""

from __future__ import annotations

import io
import json
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import tifffile
from numpy.typing import NDArray

from focusnb.errors import ParameterError
from focusnb.io.defects import write_defects_serialem
from focusnb.io.images import read_image, write_mrc
from focusnb.ops.simulate import (
    Detector,
    MotionSettings,
    MovieSpec,
    Optics,
    SimulatedMovie,
    SpecimenSettings,
    Truth,
    make_detector,
    simulate_movie,
)

GOOD = "good"
BAD = ("drift", "crystalline ice", "empty hole", "far defocus", "truncated", "text")
"""What can be wrong with an exposure."""

_FIRST_TEN = (GOOD, GOOD, "drift", GOOD, "crystalline ice", "empty hole", GOOD, "far defocus", "truncated", "text")
_START = datetime(2025, 11, 21, 8, 10, 51)
_BETWEEN = timedelta(seconds=37)
_PIECES = 8
_BORDER = 64
"""Pixels of a real micrograph kept around the frames, for the motion."""


@dataclass(frozen=True)
class Exposure:
    """One file of a session: its path, what is wrong with it (or good), and the truth where a movie was simulated.

    specimen : the real micrograph that was the specimen; defocus and particles in the truth then say nothing
    """

    path: Path
    kind: str
    truth: Truth | None
    specimen: str | None = None


@dataclass(frozen=True)
class Session:
    """What a simulated microscope wrote.

    gain, defects : the camera's references beside the movies
    truth : JSON file of what was simulated, in a hidden folder
    facts : what neither movie nor mdoc tells: amplitude contrast, and those the mdoc repeats left out
    """

    folder: Path
    exposures: tuple[Exposure, ...]
    gain: Path
    defects: Path
    truth: Path
    facts: dict[str, float]

    @property
    def movies(self) -> list[Path]:
        """All movie files in the order they were recorded, bad ones too."""
        return [exposure.path for exposure in self.exposures]

    def truth_of(self, movie: Path | str) -> Truth:
        """Return what was simulated for a movie; ParameterError where it is none of this session's, or no movie."""
        name = Path(movie).name
        for exposure in self.exposures:
            if exposure.path.name == name and exposure.truth is not None:
                return exposure.truth
        raise ParameterError(f"{name}: no simulated movie of the session in {self.folder}")


@dataclass(frozen=True)
class Plan:
    """What a session is to be recorded with.

    micrograph : (y, x) a real micrograph as the specimen, or None
    name : the micrograph's file name
    """

    spec: MovieSpec
    micrograph: NDArray[np.float32] | None = None
    name: str | None = None


def record_session(
    folder: str | Path,
    *,
    movies: int = 10,
    size: tuple[int, int] | None = None,
    frames: int = 20,
    seed: int = 0,
    specimen: str | Path | None = None,
    pixel_size: float | None = None,
    optics: Optics | None = None,
    cadence: float = 0.0,
    bad: bool = True,
    slow: bool = False,
    start: datetime = _START,
    progress: Callable[[int, str], None] | None = None,
) -> Session:
    """Record movies on a simulated microscope into a camera's folder.

    size : (ny, nx) pixels of a frame; by default 960 x 1024, or what a real micrograph leaves within its border
    specimen : a real micrograph to be the specimen; it keeps its own pixel size and contrast transfer
    pixel_size : Å/px; by default that of the micrograph's header, or 1.06
    optics : voltage, spherical aberration, amplitude contrast, direction of astigmatism; the defocus varies. With a
        real specimen it only describes what is there
    cadence : seconds from one movie to the next; 0 is as fast as possible
    bad : let exposures go wrong on purpose: of ten movies four are good
    slow : write each movie in pieces, with pauses of a fraction of the cadence, as a file that is seen growing
    start : date and time of the first exposure
    progress : called with the number of exposures written and the name of the last

    Raises ParameterError where the pixel size of a real specimen is not known or the frames do not fit into it.
    """
    if movies < 1:
        raise ParameterError(f"{movies} movies cannot be recorded; give 1 or more")
    folder = Path(folder)
    plan = _plan(size, frames, specimen, pixel_size, optics or Optics())
    (folder / ".truth").mkdir(parents=True, exist_ok=True)
    streams = np.random.SeedSequence(seed).spawn(2)
    detector = make_detector(plan.spec.detector, plan.spec.shape, np.random.default_rng(streams[0]))
    stamp = f"{start:%b%d_%H.%M.%S}"
    session = Session(
        folder=folder,
        exposures=(),
        gain=folder / f"CountRef_grid1_{stamp}.mrc",
        defects=folder / f"defects_grid1_{stamp}.txt",
        truth=folder / ".truth" / "truth.json",
        facts={
            "amplitude_contrast": plan.spec.optics.amplitude_contrast,
            "spherical_aberration": plan.spec.optics.spherical_aberration,
        },
    )
    _write_references(session, detector, plan.spec.pixel_size)
    rng = np.random.default_rng(streams[1])
    for number in range(movies):
        due = time.monotonic() + cadence
        kind = _kind(number) if bad else GOOD
        recorded = start + number * _BETWEEN
        exposure = _record(session, plan, detector, number, kind, recorded, rng, cadence if slow else 0.0)
        session = replace(session, exposures=(*session.exposures, exposure))
        _write_truth(session, seed)
        if progress is not None:
            progress(number + 1, exposure.path.name)
        if number + 1 < movies:
            time.sleep(max(0.0, due - time.monotonic()))
    return session


def load_session(folder: str | Path) -> Session:
    """Read what :func:`record_session` wrote into a folder; ParameterError where that is not one of its folders."""
    folder = Path(folder)
    path = folder / ".truth" / "truth.json"
    if not path.is_file():
        raise ParameterError(f"{folder}: was not written by the simulated microscope ({path} is missing)")
    data = json.loads(path.read_text(encoding="utf-8"))
    exposures = tuple(
        Exposure(
            folder / item["name"],
            item["kind"],
            Truth.from_json(json.dumps(item["truth"])) if item["truth"] else None,
            item["specimen"],
        )
        for item in data["exposures"]
    )
    return Session(folder, exposures, folder / data["gain"], folder / data["defects"], path, data["facts"])


def _plan(
    size: tuple[int, int] | None,
    frames: int,
    specimen: str | Path | None,
    pixel_size: float | None,
    optics: Optics,
) -> Plan:
    spec = MovieSpec(
        shape=size or (960, 1024),
        frames=frames,
        pixel_size=pixel_size or 1.06,
        dose_per_frame=1.5,
        specimen=SpecimenSettings(ice_thickness=350.0, particle_mass=450.0, particle_spacing=250.0),
        optics=optics,
    )
    if specimen is None:
        return Plan(spec)
    image = read_image(specimen)
    pixel_size = pixel_size or image.pixel_size
    if pixel_size is None:
        raise ParameterError(f"{specimen}: its header does not tell the pixel size; give pixel_size in Å/px")
    ny, nx = image.data.shape
    largest = ((ny - 2 * _BORDER) // 32 * 32, (nx - 2 * _BORDER) // 32 * 32)
    shape = size or largest
    if min(largest) <= 0 or shape[0] > largest[0] or shape[1] > largest[1]:
        raise ParameterError(
            f"{specimen}: has {ny}×{nx} pixels; frames that move over it can have up to {largest[0]}×{largest[1]}, "
            f"not {shape[0]}×{shape[1]}"
        )
    # a micrograph is the mean of an exposure: it is damaged and blurred by a detector already
    spec = replace(spec, shape=shape, pixel_size=pixel_size, damage=False)
    return Plan(spec, image.data, Path(specimen).name)


def _kind(number: int) -> str:
    """What becomes of an exposure: the first ten show everything, later every fifth is bad."""
    if number < len(_FIRST_TEN):
        return _FIRST_TEN[number]
    return BAD[number // 5 % len(BAD)] if number % 5 == 4 else GOOD


def _record(
    session: Session,
    plan: Plan,
    detector: Detector,
    number: int,
    kind: str,
    recorded: datetime,
    rng: np.random.Generator,
    duration: float,
) -> Exposure:
    """Expose and write one movie and its mdoc."""
    path = session.folder / f"grid1_{number + 1:05d}_{recorded:%b%d_%H.%M.%S}.tif"
    target = float(rng.uniform(10000.0, 20000.0))  # drawn for every kind, so that a session is the same with others bad
    astigmatism = float(rng.uniform(100.0, 500.0))
    seed = int(rng.integers(2**31))
    if kind == "text":
        path.write_text("The frames of this exposure were not saved: connection to the camera lost.\n", "utf-8")
        return Exposure(path, kind, None)
    # what a given micrograph cannot show comes from a simulated specimen
    real = plan.micrograph is not None and kind not in ("crystalline ice", "empty hole", "far defocus")
    optics = plan.spec.optics
    if real:
        target, astigmatism = 0.5 * (optics.defocus_u + optics.defocus_v), optics.defocus_u - optics.defocus_v
    spec = _spoil(plan.spec, kind, target, astigmatism, real=real)
    micrograph = plan.micrograph if real else None
    movie = simulate_movie(spec, seed, detector=detector, micrograph=micrograph)
    content = _tiff_bytes(movie, spec)
    if kind == "truncated":
        content = content[: int(0.6 * len(content))]
    _write(path, content, duration)
    mdoc = path.with_name(path.name + ".mdoc")
    mdoc.write_text(_mdoc_text(session, path, spec, number, recorded, target), "utf-8")
    return Exposure(path, kind, movie.truth, plan.name if real else None)


def _spoil(spec: MovieSpec, kind: str, target: float, astigmatism: float, *, real: bool) -> MovieSpec:
    """Return the specification of an exposure of this kind; a real specimen leaves less room for drift."""
    optics = replace(
        spec.optics,
        defocus_u=target + 0.5 * astigmatism,
        defocus_v=target - 0.5 * astigmatism,
    )
    spec = replace(spec, optics=optics)
    if kind == "drift":
        return replace(spec, motion=MotionSettings(drift=40.0 if real else 120.0, walk=1.0))
    if kind == "crystalline ice":
        return replace(spec, specimen=replace(spec.specimen, crystalline=1500.0))
    if kind == "empty hole":
        return replace(spec, specimen=replace(spec.specimen, ice_thickness=0.0))
    if kind == "far defocus":
        far = 60000.0
        optics = replace(optics, defocus_u=far + 0.5 * astigmatism, defocus_v=far - 0.5 * astigmatism)
        return replace(spec, optics=optics)
    return spec


def _write_references(session: Session, detector: Detector, pixel_size: float) -> None:
    write_mrc(
        session.gain, detector.gain, pixel_size=pixel_size, labels=["Gain reference: multiply, 0 is a dead pixel"]
    )
    # half of the hot pixels appeared after the list was made: they must be found in the data
    listed = np.concatenate([detector.dead, detector.hot[: len(detector.hot) // 2]])
    write_defects_serialem(
        session.defects, frame_shape=detector.gain.shape, pixels=[(int(y), int(x)) for y, x in listed]
    )


def _tiff_bytes(movie: SimulatedMovie, spec: MovieSpec) -> bytes:
    """Return an LZW TIFF of raw counts; TIFF stores the top row first, arrays here the bottom row."""
    buffer = io.BytesIO()
    per_centimetre = 1e8 / spec.pixel_size
    with tifffile.TiffWriter(buffer) as writer:
        for t, frame in enumerate(movie.frames):
            writer.write(
                np.ascontiguousarray(frame[::-1]),
                compression="lzw",
                photometric="minisblack",
                rowsperstrip=64,
                metadata=None,
                contiguous=False,
                software="SerialEM",
                resolution=(per_centimetre, per_centimetre),
                resolutionunit="CENTIMETER",
                description="SerialEM: frames saved, r/f 0 need 0, scaled by 1.00" if t == 0 else None,
            )
    return buffer.getvalue()


def _write(path: Path, content: bytes, duration: float) -> None:
    """Write straight to the final name, as cameras do; in pieces, over 0.6 of ``duration`` seconds where given."""
    if duration <= 0.0:
        path.write_bytes(content)
        return
    step = -(-len(content) // _PIECES)
    with open(path, "wb", buffering=0) as file:
        for start in range(0, len(content), step):
            file.write(content[start : start + step])
            time.sleep(0.6 * duration / _PIECES)


def _mdoc_text(session: Session, path: Path, spec: MovieSpec, number: int, recorded: datetime, target: float) -> str:
    """Return the metadata SerialEM writes beside a movie."""
    exposure_time = 0.1 * spec.frames
    moment = f"{recorded:%d-%b-%y  %H:%M:%S}"
    hole, shot = divmod(number, 2)
    rate = spec.electrons_per_pixel * spec.frames / exposure_time
    values: dict[str, Any] = {
        "TiltAngle": "0.00281",
        "StagePosition": f"{-114.718 + 2.0 * hole:.4f} {-37.9638 + 0.5 * hole:.4f}",
        "StageZ": "83.3138",
        "Magnification": "81000",
        "Intensity": "0.479622",
        "ExposureDose": f"{spec.dose_per_frame * spec.frames:.6g}",
        "DoseRate": f"{rate:.5g}",
        "PixelSpacing": f"{spec.pixel_size:.6g}",
        "SpotSize": "3",
        "Defocus": f"{-target / 1e4 + 0.04:.5f}",
        "ImageShift": f"{0.6 * shot - 0.3:.5f} {0.2 * shot - 0.1:.5f}",
        "RotationAngle": "178.195",
        "ExposureTime": f"{exposure_time:.4g}",
        "Binning": "1",
        "CameraIndex": "1",
        "DividedBy2": "0",
        "OperatingMode": "1",
        "UsingCDS": "0",
        "MagIndex": "31",
        "LowDoseConSet": "4",
        "CountsPerElectron": "1",
        "TargetDefocus": f"{-target / 1e4:.3f}",
        "PriorRecordDose": "0",
        "SubFramePath": f"X:\\focusnb\\session1\\{path.name}",
        "NumSubFrames": str(spec.frames),
        "FrameDosesAndNumber": f"{spec.dose_per_frame:.6g} {spec.frames}",
        "DateTime": moment,
        "NavigatorLabel": f"12-{hole + 1}",
        "FilterSlitAndLoss": "20 0",
        "MultiShotHoleAndPosition": f"{hole + 1}-{shot + 1}",
        "GainReference": session.gain.name,
        "DefectFile": session.defects.name,
        "Cs": f"{spec.optics.spherical_aberration:g}",
    }
    title = f"T = SerialEM: Simulated microscope of focusnb                     {moment}"
    lines = [title, f"Voltage = {spec.optics.voltage:g}", "", "[FrameSet = 0]"]
    lines += [f"{key} = {value}" for key, value in values.items()]
    return "\n".join(lines) + "\n\n"


def _write_truth(session: Session, seed: int) -> None:
    data = {
        "seed": seed,
        "gain": session.gain.name,
        "defects": session.defects.name,
        "facts": session.facts,
        "exposures": [
            {
                "name": exposure.path.name,
                "kind": exposure.kind,
                "specimen": exposure.specimen,
                "truth": json.loads(exposure.truth.to_json()) if exposure.truth else None,
            }
            for exposure in session.exposures
        ],
    }
    session.truth.write_text(json.dumps(data, indent=1), "utf-8")
