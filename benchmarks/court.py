"""Does each check of the court catch its planted error, and is it silent where nothing is wrong?

A simulated session is five small movies of one camera: thin or thick ice, with or without crystalline ice, of
different defocus. In half of the sessions something harmless is added that must not be taken for an error. Each error
is then planted into it in turn, and the movies go through the steps again as workers run them.

    .venv/bin/python benchmarks/court.py [--sessions 20]
"""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).parent))
import _common

from focusnb.io.mrc import write_mrc
from focusnb.io.tiff import write_tiff
from focusnb.ops.simulate import (
    Detector,
    DetectorSettings,
    MotionSettings,
    MovieSpec,
    Optics,
    SpecimenSettings,
    make_detector,
    simulate_movie,
)
from focusnb.processing.court import CHECKS, Bench, Verdict, Witness, judge
from focusnb.steps.align.align_frames import AlignFrames
from focusnb.steps.base import Step
from focusnb.steps.prepare.prepare_movie import PrepareMovie
from focusnb.steps.statistics.measure_image import MeasureImage
from focusnb.steps.work import Work

SHAPE, FRAMES, MOVIES = (512, 576), 12, 5
HOT, DEAD = 150, 120
DOSE, VOLTAGE = 1.8, 300.0
SIMULATED = 1.06
PIXEL_SIZE = SIMULATED * 3.669 / 3.7
"""Å/px that is true: the simulated ring of ice is at 3.70 Å, and that of real ice at 3.669 Å."""
MEAN_FREE_PATH = 3950.0

Frames = np.ndarray


@dataclass(frozen=True)
class Session:
    """What a camera recorded, and what an operator says of it.

    movies : (t, y, x) counts; spacing : what is true but for what is planted
    gain : (y, x) or None where none is given; listed : (y, x) mask of a list of defects, or None
    header : number of frames that the metadata tell, by movie; None where they tell none
    """

    movies: list[Frames]
    detector: Detector
    gain: np.ndarray | None
    listed: np.ndarray | None
    facts: Mapping[str, Any]
    told_frames: int | None = None
    rings: bool = False


@dataclass(frozen=True)
class Error:
    """A planted error: the check that is to find it, what it does to a session, and words it must find for it."""

    check: str
    plant: Callable[[Session, np.random.Generator], Session]
    says: str = ""
    aligned: bool = False
    """Whether the movies must be aligned to see it."""


def make_session(seed: int, *, rings: bool | None = None) -> Session:
    """Simulate a correct session; its ice, its camera and its habits follow from the seed."""
    rng = np.random.default_rng([seed, 1])
    icy = bool(seed % 2) if rings is None else rings
    thick = seed % 4 > 1
    specimen = SpecimenSettings(
        ice_thickness=float(rng.uniform(900, 1500) if thick else rng.uniform(150, 500)),
        crystalline=float(np.exp(rng.uniform(np.log(60), np.log(600)))) if icy else 0.0,
    )
    settings = DetectorSettings(gain_rms=float(rng.uniform(0.03, 0.07)), hot=HOT, dead=DEAD)
    detector = make_detector(settings, SHAPE, rng)
    # what ice takes of the beam is not counted, but was given
    transmitted = float(np.exp(-specimen.ice_thickness / MEAN_FREE_PATH))
    spec = MovieSpec(
        SHAPE,
        FRAMES,
        pixel_size=SIMULATED,
        dose_per_frame=DOSE * transmitted * (PIXEL_SIZE / SIMULATED) ** 2,
        specimen=specimen,
        motion=MotionSettings(burst=2.0, drift=2.0, local=0.5),
        detector=settings,
    )
    movies = []
    for number in range(MOVIES):
        defocus = float(rng.uniform(8000, 22000))
        optics = Optics(defocus_u=defocus, defocus_v=defocus - float(rng.uniform(0, 400)))
        movies.append(simulate_movie(replace(spec, optics=optics), 1000 * seed + number, detector=detector).frames)
    given = {"pixel_size": PIXEL_SIZE, "voltage": VOLTAGE, "dose_per_frame": DOSE, "kind": "movie"}
    listed = detector.defects if seed % 3 else None
    return Session(movies, detector, detector.gain, listed, given, FRAMES if seed % 2 else None, icy)


# What is harmless


def harmless(session: Session, seed: int) -> Session:
    """Do what the court must say nothing of."""
    kind = seed % 5
    if kind == 1:  # a gain that lies otherwise, and is given so
        assert session.gain is not None
        return replace(session, gain=np.rot90(session.gain, 2), facts={**session.facts, "gain_rotation": 2})
    if kind == 2:  # movies corrected at the camera, without a gain reference
        corrected = [_corrected(movie, session.detector) for movie in session.movies]
        return replace(session, movies=corrected, gain=None)
    if kind == 3:  # scaled counts, told
        scaled = [(movie.astype(np.uint16) * 16).astype(np.uint16) for movie in session.movies]
        return replace(session, movies=scaled, facts={**session.facts, "counts_per_electron": 16.0})
    if kind == 4:  # a dose a little too high, an exposure's dose instead of a frame's, one movie that is dark
        facts = {name: value for name, value in session.facts.items() if name != "dose_per_frame"}
        return replace(session, facts={**facts, "exposure_dose": 1.1 * DOSE * FRAMES})
    return session


def _corrected(movie: Frames, detector: Detector) -> Frames:
    """As a camera writes corrected movies: dead and hot pixels got the mean of the frame."""
    frames = movie.astype(np.float32) * detector.gain
    bad = detector.defects
    frames[:, bad] = frames[:, ~bad].mean()
    return frames


# What is planted


def turn_gain(session: Session, rng: np.random.Generator) -> Session:
    """Turn or flip the gain reference unknown to the facts."""
    k, flip = [(2, False), (0, True), (2, True)][int(rng.integers(3))]
    gain = np.rot90(session.detector.gain, k)
    return replace(session, gain=np.ascontiguousarray(gain[::-1] if flip else gain))


def leave_gain_out(session: Session, rng: np.random.Generator) -> Session:
    """Give no gain reference to raw movies."""
    return replace(session, gain=None)


def correct_twice(session: Session, rng: np.random.Generator) -> Session:
    """Give a gain reference to movies that are corrected already."""
    return replace(session, movies=[_corrected(movie, session.detector) for movie in session.movies])


def give_inverse(session: Session, rng: np.random.Generator) -> Session:
    """Give the sensitivity in place of the gain."""
    gain = session.detector.gain
    return replace(session, gain=np.where(gain > 0, 1 / np.where(gain > 0, gain, 1), 0).astype(np.float32))


def age_gain(session: Session, rng: np.random.Generator) -> Session:
    """Let the camera have changed by a few per cent since the gain reference was made."""
    gain = session.detector.gain
    changed = gain * (1 + rng.uniform(0.025, 0.05) * rng.standard_normal(gain.shape).astype(np.float32))
    return replace(session, gain=changed.astype(np.float32))


def scale_counts(session: Session, rng: np.random.Generator) -> Session:
    """Multiply counts as some programs do, untold."""
    factor = int(rng.choice([2, 4, 12, 16]))
    return replace(session, movies=[(movie.astype(np.uint16) * factor).astype(np.uint16) for movie in session.movies])


def mistake_dose(session: Session, rng: np.random.Generator) -> Session:
    """Give a dose that is a multiple or a part of the true one."""
    factor = float(rng.choice([0.25, 0.5, 2.0, 4.0, 12.0]))
    return replace(session, facts={**session.facts, "dose_per_frame": DOSE * factor})


def double_pixel_size(session: Session, rng: np.random.Generator) -> Session:
    """Give twice or half the pixel size."""
    factor = float(rng.choice([0.5, 2.0]))
    return replace(session, facts={**session.facts, "pixel_size": PIXEL_SIZE * factor})


def shift_pixel_size(session: Session, rng: np.random.Generator) -> Session:
    """Give a pixel size that is several per cent wrong.

    From 4.5 to 7.5 % more than the truth, the ring of 3.67 Å seems to be that of 3.90 Å, which a single ring cannot
    tell; likewise 5 to 8 % less, and 3.44 Å.
    """
    factor = float(rng.choice([0.90, 0.96, 1.03, 1.10]))
    return replace(session, facts={**session.facts, "pixel_size": PIXEL_SIZE * factor})


def lose_frames(session: Session, rng: np.random.Generator) -> Session:
    """Let files hold fewer frames than their metadata tell."""
    held = FRAMES - int(rng.integers(1, 5))
    return replace(session, movies=[movie[:held] for movie in session.movies], told_frames=FRAMES)


def darken_first_frame(session: Session, rng: np.random.Generator) -> Session:
    """Open the shutter late."""
    movies = [movie.copy() for movie in session.movies]
    for movie in movies:
        movie[0] = rng.binomial(np.minimum(movie[0], 250).astype(int), rng.uniform(0.1, 0.6)).astype(movie.dtype)
    return replace(session, movies=movies)


def cut_frames(session: Session, rng: np.random.Generator) -> Session:
    """Let a part of a frame be missing in some movies."""
    movies = [movie.copy() for movie in session.movies]
    for number in rng.choice(MOVIES, 2, replace=False):
        frame, rows = int(rng.integers(FRAMES)), int(SHAPE[0] * rng.uniform(0.1, 0.9))
        movies[number][frame, rows:] = 0
    return replace(session, movies=movies)


def flip_defects(session: Session, rng: np.random.Generator) -> Session:
    """Give a list of defects that was written for frames upside down, or turned."""
    listed = session.detector.defects
    turned = [listed[::-1], listed[:, ::-1], listed[::-1, ::-1]][int(rng.integers(3))]
    return replace(session, listed=np.ascontiguousarray(turned))


def grow_defects(session: Session, rng: np.random.Generator) -> Session:
    """Let far more pixels be hot than the list names, or a few columns fail."""
    movies = [movie.copy() for movie in session.movies]
    if rng.random() < 0.5:
        places = rng.choice(SHAPE[0] * SHAPE[1], 2000, replace=False)
        for movie in movies:
            counts = rng.poisson(12.0, (FRAMES, len(places))).astype(movie.dtype)
            movie.reshape(FRAMES, -1)[:, places] += counts
    else:
        columns = rng.choice(SHAPE[1], 3, replace=False)
        for movie in movies:
            movie[:, :, columns] = rng.binomial(movie[:, :, columns].astype(int), 0.6).astype(movie.dtype)
    return replace(session, movies=movies, listed=session.detector.defects)


ERRORS: Mapping[str, Error] = {
    "gain turned or flipped": Error("gain_orientation", turn_gain, "gain_rotation="),
    "gain not given": Error("gain_use", leave_gain_out, "--gain"),
    "gain given for corrected movies": Error("gain_use", correct_twice, "corrected already"),
    "gain given is the inverse": Error("gain_use", give_inverse, "inverse"),
    "gain old": Error("gain_age", age_gain, "--gain"),
    "counts scaled": Error("dose", scale_counts, "counts_per_electron="),
    "dose mistaken": Error("dose", mistake_dose, "dose_per_frame="),
    "pixel size twice or half": Error("pixel_size", double_pixel_size, "pixel_size=1.0", aligned=True),
    "pixel size several per cent wrong": Error("pixel_size", shift_pixel_size, "pixel_size=1.0", aligned=True),
    "frames fewer than told": Error("frames", lose_frames, "told"),
    "first frame dark": Error("frames", darken_first_frame, "--first-frame 2"),
    "frames cut": Error("frames", cut_frames, "without counts"),
    "defects turned or flipped": Error("defects", flip_defects, "--defects"),
    "defects more than listed": Error("defects", grow_defects, "--defects"),
}


# Running


@dataclass
class Judged:
    """Verdicts by check, and how long the steps and the court took."""

    verdicts: dict[str, Verdict] = field(default_factory=dict)
    court_seconds: float = 0.0


def run(session: Session, folder: Path, *, aligned: bool) -> Judged:
    """Write the files of a session, run the steps on each movie, and let the court judge."""
    folder.mkdir(parents=True)
    facts = dict(session.facts)
    if session.gain is not None:
        facts["gain_reference"] = str(folder / "gain.mrc")
        write_mrc(folder / "gain.mrc", np.ascontiguousarray(session.gain, np.float32), pixel_size=PIXEL_SIZE)
    if session.listed is not None:
        facts["defects"] = str(folder / "defects.txt")
        (folder / "defects.txt").write_text("".join(f"{x} {y}\n" for y, x in np.argwhere(session.listed)))
    witnesses = [
        _witness(movie, number, facts, session, folder / f"{number}", aligned)
        for number, movie in enumerate(session.movies, start=1)
    ]
    started = time.perf_counter()
    verdicts = judge(Bench(witnesses, project=Path("project"), source=Path("camera")))
    seconds = time.perf_counter() - started
    return Judged({verdict.check: verdict for verdict in verdicts}, seconds)


def _witness(
    movie: Frames, number: int, facts: Mapping[str, Any], session: Session, folder: Path, aligned: bool
) -> Witness:
    folder.mkdir()
    path = folder / ("movie.mrc" if movie.dtype == np.float32 else "movie.tif")
    write_mrc(path, movie, pixel_size=PIXEL_SIZE) if path.suffix == ".mrc" else write_tiff(path, movie)
    origins = {"frame_count": {"header": len(movie)}}
    if session.told_frames is not None:
        origins["frame_count"]["metadata"] = session.told_frames
    known = {**facts, "movie": str(path), "frame_count": len(movie), "height": SHAPE[0], "width": SHAPE[1]}
    found = run_steps([PrepareMovie, *([AlignFrames, MeasureImage] if aligned else [])], folder, known)
    return Witness(number, f"movie {number}", known, found, folder, origins)


def run_steps(steps: Sequence[type[Step]], folder: Path, facts: Mapping[str, Any]) -> dict[str, Any]:
    """Run steps one after the other as a worker does, as part of a session; returns what they found."""
    specs = {spec.name: spec for step in steps for spec in [*step.Inputs.specs(), *step.makes()]}
    work = Work(folder, exposure_folder=folder, specs=specs, exposure=folder.name, session=folder.parent)
    found: dict[str, Any] = {}
    for step in steps:
        values = {spec.name: {**facts, **found}.get(spec.name) for spec in step.Inputs.specs()}
        inputs = step.Inputs.make({name: value for name, value in values.items() if value is not None})
        results = step().run(inputs, step.Params.make({}), work)
        found |= {name: value for name, value in results.model_dump().items() if value is not None}
    return found


def campaign(seeds: Sequence[int], folder: Path, errors: Mapping[str, Error] = ERRORS) -> list[dict[str, Any]]:
    """Judge correct sessions, and the same with each error; a row per error and one for what was told for nothing."""
    caught = dict.fromkeys(errors, 0)
    told: dict[str, int] = dict.fromkeys(CHECKS, 0)
    unknown: dict[str, int] = dict.fromkeys(CHECKS, 0)
    missed: dict[str, list[str]] = {}
    seconds = []
    for seed in seeds:
        session = make_session(seed)
        right = run(harmless(session, seed), folder / f"{seed}", aligned=True)
        seconds.append(right.court_seconds)
        for check, verdict in right.verdicts.items():
            told[check] += verdict.is_bad
            unknown[check] += verdict.word == "cannot tell"
            if verdict.is_bad:
                missed.setdefault(check, []).append(f"seed {seed}: {verdict.told}")
        icy = session if session.rings else None
        for name, error in errors.items():
            planted = session
            if error.aligned:
                icy = icy or make_session(seed, rings=True)
                planted = icy
            rng = np.random.default_rng([seed, 2])
            place = folder / f"{seed} {name}"
            verdict = run(error.plant(planted, rng), place, aligned=error.aligned).verdicts[error.check]
            shutil.rmtree(place)
            found = verdict.is_bad and error.says in verdict.told
            caught[name] += found
            if not found:
                missed.setdefault(name, []).append(f"seed {seed}: {verdict.word}: {verdict.told}")
        shutil.rmtree(folder / f"{seed}")
        print(f"session {seed}: {sum(map(len, missed.values()))} exceptions so far", flush=True)
    rows = [
        {"check": error.check, "planted": name, "sessions": len(seeds), "caught": caught[name]}
        for name, error in errors.items()
    ]
    silent = [
        {"check": check, "sessions": len(seeds), "false_alarms": told[check], "cannot_tell": unknown[check]}
        for check in CHECKS
    ]
    return [{"caught": rows, "silent": silent, "court_s": float(np.median(seconds)), "exceptions": missed}]


def main() -> None:
    """Run, print and keep the numbers."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--sessions", type=int, default=20)
    parser.add_argument("--only", help="planted errors whose name holds this text; nothing is kept")
    asked = parser.parse_args()
    errors = {name: error for name, error in ERRORS.items() if asked.only is None or asked.only in name}
    folder = Path(tempfile.mkdtemp(prefix="focusnb-court-"))
    started = time.perf_counter()
    try:
        result = campaign(range(1, asked.sessions + 1), folder, errors)[0]
    finally:
        shutil.rmtree(folder)
    _common.table(result["caught"])
    _common.table(result["silent"])
    for name, cases in result["exceptions"].items():
        print(name, *cases, sep="\n  ")
    print(f"{time.perf_counter() - started:.0f} s in all; the court itself took {1000 * result['court_s']:.0f} ms")
    if asked.only is None:
        _common.save(
            "court", {"sessions": asked.sessions, "movies": MOVIES, "shape": SHAPE, "frames": FRAMES, **result}
        )


if __name__ == "__main__":
    main()
