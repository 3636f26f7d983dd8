"""Simulated nights at a microscope: what a session's findings look like, with faults planted at known times.

A night is made of numbers, not of movies: every image's findings, when it was recorded, imported and processed. They
are written into a project's library as the importer and the processor do, step by step, while a clock of its own runs.
Nothing here knows the rules that watch the session.
"""

from __future__ import annotations

import datetime
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from focusnb.monitoring.disk import DiskWatch
from focusnb.project import schema
from focusnb.project.project import Project

FAULTS = ("counts", "ice", "focus", "drift", "silence", "disk")
START = 1_790_000_000.0
MINUTE = 60.0
HOUR = 3600.0


@dataclass(frozen=True)
class Fault:
    """A fault that was planted: from when to when (s since 1970), how large, and in which manner."""

    kind: str
    begin: float
    end: float
    size: float
    manner: str = ""


@dataclass(frozen=True)
class Pause:
    """Recording rests on purpose: nitrogen is refilled, or the grid is changed."""

    kind: str
    begin: float
    end: float


@dataclass
class Image:
    """One image: when it was recorded, imported and processed (s), and its findings; None where it failed."""

    recorded: float
    imported: float
    processed: float
    square: int
    hole: int
    findings: dict[str, float] | None
    target: float | None


@dataclass
class Night:
    """A night: images in the order of recording, what was planted, and how full the disk is at any time."""

    seed: int
    begin: float
    end: float
    rate: float
    images: list[Image] = field(default_factory=list)
    faults: list[Fault] = field(default_factory=list)
    pauses: list[Pause] = field(default_factory=list)
    disk_total: float = 0.0
    disk_free: float = 0.0
    per_image: float = 0.0

    def free(self, now: float) -> int:
        """Bytes free at a time: what the images leave, and what somebody else's copy takes."""
        taken = self.per_image * sum(1 for image in self.images if image.imported <= now)
        for fault in self.faults:
            if fault.kind == "disk" and fault.begin <= now < fault.end:
                # somebody copies for three minutes until so many hours are left
                left = fault.size * self.rate * self.per_image
                part = min(1.0, (now - fault.begin) / (3 * MINUTE))
                return int((1 - part) * (self.disk_free - taken) + part * left)
        return int(self.disk_free - taken)


def make_night(seed: int, *, hours: float | None = None, faults: Sequence[str] | None = None) -> Night:
    """Make a night. Three of the faults are planted by default, at least 70 minutes apart."""
    draw = np.random.default_rng((seed, 20261128))
    length = HOUR * (hours or draw.uniform(9.5, 12.0))
    begin = START + 86400.0 * (seed % 3000) + draw.uniform(0, 6 * HOUR)
    night = Night(seed, begin, begin + length, float(draw.uniform(300, 700)))
    kinds = list(draw.choice(FAULTS, 3, replace=False)) if faults is None else list(faults)
    night.faults = _plant(draw, night, kinds)
    night.pauses = _rest(draw, night)
    _record(draw, night)
    night.per_image = float(draw.uniform(60e6, 350e6))
    night.disk_total = float(draw.uniform(30e12, 200e12))
    night.disk_free = max(0.35 * night.disk_total, 30 * night.rate * night.per_image)
    return night


def _plant(draw: Any, night: Night, kinds: Sequence[str]) -> list[Fault]:
    """Faults in slots of their own, each after an hour of good images."""
    slots = np.linspace(night.begin + 1.2 * HOUR, night.end - 0.9 * HOUR, len(kinds) + 1)
    planted = []
    for kind, first, last in zip(kinds, slots[:-1], slots[1:], strict=True):
        lasts = draw.uniform(25, 40) * MINUTE
        begin = float(draw.uniform(first, max(first + 1, last - lasts - 30 * MINUTE)))
        size, manner = _size(draw, kind)
        planted.append(Fault(kind, begin, begin + lasts, size, manner))
    return planted


def _size(draw: Any, kind: str) -> tuple[float, str]:
    match kind:
        case "counts":  # what is left of them, at once or within six minutes
            return float(draw.uniform(0.35, 0.65)), str(draw.choice(["at once", "slowly"]))
        case "ice":  # added to the iciness
            return float(draw.uniform(0.25, 0.55)), "slowly"
        case "focus":  # Å
            manner = str(draw.choice(["scatter", "offset"]))
            return float(draw.uniform(9000, 16000) if manner == "scatter" else draw.uniform(11000, 20000)), manner
        case "drift":  # times the usual
            return float(draw.uniform(5, 12)), "at once"
        case "disk":  # hours left
            return float(draw.uniform(1.5, 6)), ""
    return 0.0, ""


def _rest(draw: Any, night: Night) -> list[Pause]:
    pauses = []
    every = draw.uniform(2.5, 4.5) * HOUR
    at = night.begin + draw.uniform(0.7, 1.0) * every
    while at < night.end - HOUR:
        pauses.append(Pause("refill", at, at + draw.uniform(4, 11) * MINUTE))
        at += every * draw.uniform(0.9, 1.1)
    if draw.random() < 0.5 and night.end - night.begin > 7 * HOUR:
        at = draw.uniform(night.begin + 3 * HOUR, night.end - 3 * HOUR)
        pauses.append(Pause("grid", at, at + draw.uniform(25, 50) * MINUTE))
    # a microscope that is broken is not refilled: what is planted stays what it is
    apart = 20 * MINUTE
    clear = [p for p in pauses if all(p.end < f.begin - apart or p.begin > f.end + apart for f in night.faults)]
    return sorted(clear, key=lambda pause: pause.begin)


@dataclass
class _Grid:
    """What a grid and its squares give the images."""

    counts: float
    drift: float
    iciness: float
    resolution: float
    targets: np.ndarray
    focus: float


def _grid(draw: Any, counts: float) -> _Grid:
    low, high = draw.uniform(6000, 10000), draw.uniform(17000, 26000)
    return _Grid(
        counts * draw.uniform(0.85, 1.1),
        draw.uniform(4, 12),
        draw.uniform(0.91, 0.96),
        draw.uniform(3.4, 4.6),
        np.arange(low, high, draw.uniform(1500, 2500)),
        draw.uniform(400, 1100),
    )


def _record(draw: Any, night: Night) -> None:
    counts = draw.uniform(0.25, 1.3)
    decay = draw.uniform(0.0, 0.10) / (night.end - night.begin)
    knows_target = draw.random() < 0.5
    latency, transfer = draw.uniform(25, 110), draw.uniform(4, 30)
    grid, square, hole = _grid(draw, counts), 1, 0
    factor, bias = draw.lognormal(0, 0.05), draw.normal(0, 300)
    at, until_move, until_square = night.begin, 0, int(draw.uniform(250, 600))
    # stage moves and squares take their part: the images between come so much faster
    interval = 0.80 * HOUR / night.rate
    while at < night.end:
        moved = until_move == 0
        at += interval * draw.lognormal(0, 0.12)
        if moved:
            at += 0.25 * interval * 12 * draw.lognormal(0, 0.3)
            until_move = int(draw.integers(8, 20))
        until_move, until_square, hole = until_move - 1, until_square - 1, hole + 1
        if until_square <= 0:
            at += draw.uniform(60, 180)
            square, until_square = square + 1, int(draw.uniform(250, 600))
            factor, bias, moved = draw.lognormal(0, 0.05), draw.normal(0, 300), True
        rested = next((p for p in night.pauses if p.begin <= at < p.end), None)
        if rested is not None:
            at, moved = rested.end + draw.uniform(2, 30), True
            if rested.kind == "grid":
                grid, square = _grid(draw, counts), square + 1
        silent = next((f for f in night.faults if f.kind == "silence" and f.begin <= at < f.end), None)
        if silent is not None:
            at = silent.end + draw.uniform(2, 30)
        if at >= night.end:
            break
        target = float(draw.choice(grid.targets))
        beam = grid.counts * factor * (1 - decay * (at - night.begin))
        findings = None if draw.random() < 0.004 else _findings(draw, night, grid, at, beam, target + bias, moved)
        imported = at + transfer * draw.lognormal(0, 0.3)
        processed = imported + latency * draw.lognormal(0, 0.3)
        image = Image(at, imported, processed, square, hole // 4, findings, target if knows_target else None)
        night.images.append(image)


def _findings(
    draw: Any, night: Night, grid: _Grid, at: float, beam: float, defocus: float, moved: bool
) -> dict[str, float]:
    counts = beam * draw.normal(1, 0.03)
    drift = grid.drift * draw.lognormal(0, 0.45) * (draw.uniform(1.5, 3) if moved else 1)
    iciness, ring = grid.iciness + draw.normal(0, 0.02), draw.normal(0, 1.4)
    focus = draw.normal(0, grid.focus)
    odd = draw.random()
    if odd < 0.012:  # a bar of the grid, or a broken hole
        counts *= draw.choice([0.3, 1.3])
    elif odd < 0.024:  # a crystal
        iciness, ring = iciness + draw.uniform(0.1, 0.5), ring + draw.uniform(4, 15)
    elif odd < 0.03:
        drift *= draw.uniform(3, 8)
    for fault in night.faults:
        if not fault.begin <= at < fault.end:
            continue
        ramp = min(1.0, (at - fault.begin) / (6 * MINUTE)) if fault.manner == "slowly" else 1.0
        if fault.kind == "counts":
            counts *= 1 - ramp * (1 - fault.size)
        elif fault.kind == "ice":
            iciness, ring = iciness + ramp * fault.size, ring + ramp * draw.uniform(10, 20)
        elif fault.kind == "focus" and fault.manner == "scatter":
            focus += draw.normal(0, fault.size)
        elif fault.kind == "focus":
            focus += fault.size
        elif fault.kind == "drift":
            drift *= fault.size
    mean = max(defocus + focus, 300.0)
    astigmatism = abs(draw.normal(220, 90))
    return {
        "mean_counts": max(counts, 0.0),
        "drift": drift,
        "defocus_u": mean + astigmatism / 2,
        "defocus_v": mean - astigmatism / 2,
        "astigmatism": astigmatism,
        "ctf_fit_resolution": grid.resolution * draw.lognormal(0, 0.12) * (2.2 if draw.random() < 0.04 else 1),
        "iciness": iciness,
        "ice_ring_excess": ring,
        "image_stddev_relative": 0.35 * draw.lognormal(0, 0.05),
        "stripe_measure": 8 * draw.lognormal(0, 0.1),
    }


class Recorder:
    """Writes a night into a project's library as its clock goes on."""

    def __init__(self, project: Project, night: Night, *, names: str = "FoilHole_{number}_Data") -> None:
        self.project, self.night, self.now = project, night, night.begin
        self._names = names
        self._imported = self._processed = 0
        self._in_order = sorted(night.images, key=lambda image: image.imported)
        self._ids = {id(image): number for number, image in enumerate(self._in_order, 1)}
        self._done = sorted(night.images, key=lambda image: image.processed)

    def clock(self) -> float:
        """Seconds since 1970, of the night."""
        return self.now

    def disk(self) -> DiskWatch:
        """The disk of the night."""
        night = self.night
        return DiskWatch(
            self.project.folder,
            usage=lambda folder: (night.free(self.now), int(night.disk_total)),
            size=lambda folder: int(night.per_image),
        )

    def run(self, seconds: float) -> Iterator[float]:
        """Go on to the end of the night, so many seconds a step."""
        while self.now < self.night.end:
            self.go(self.now + seconds)
            yield self.now

    def go(self, now: float) -> None:
        """Write what came until a time."""
        self.now = now
        came, done = [], []
        while self._imported < len(self._in_order) and self._in_order[self._imported].imported <= now:
            came.append(self._in_order[self._imported])
            self._imported += 1
        while self._processed < len(self._done) and self._done[self._processed].processed <= now:
            done.append(self._done[self._processed])
            self._processed += 1
        if not came and not done:
            return
        with self.project.library.write() as transaction:
            for image in came:
                number = self._ids[id(image)]
                name = self._names.format(number=number)
                row = {
                    "id": number,
                    "exposure": name,
                    "group": "night",
                    "status": "queued",
                    "folder": f"exposures/night/{name}",
                    "source": f"/camera/{name}.tif",
                    "imported_at": _iso(image.imported, zone=True),
                    "facts": {},
                    "current": {},
                    "revision": transaction.revision,
                }
                transaction.execute(schema.exposures.insert().values(**row))
                # a camera's clock: two hours ahead of UTC, and half a minute wrong
                facts: dict[str, Any] = {"recorded_at": _iso(image.recorded + 2 * HOUR + 31, zone=False)}
                facts |= {"square": f"GridSquare_{image.square}", "hole": f"FoilHole_{image.hole}"}
                facts |= {"stage_x": 50.0 * (image.square % 7), "stage_y": 50.0 * (image.square // 7)}
                if image.target is not None:
                    facts["defocus_target"] = image.target
                transaction.update_exposure(number, facts)
            for image in done:
                values: dict[str, Any] = {"processed_at": _iso(image.processed, zone=True), "status": "done"}
                if image.findings is None:
                    values |= {"status": "failed", "reason": f"/camera/{self._ids[id(image)]}.tif: is cut short"}
                else:
                    values |= image.findings
                transaction.update_exposure(self._ids[id(image)], values)


def make_project(folder: Path) -> Project:
    """A project whose library has a column for everything a night finds."""
    return Project.create(folder, mode="single-particle")


def _iso(seconds: float, *, zone: bool) -> str:
    moment = datetime.datetime.fromtimestamp(math.floor(seconds * 1000) / 1000, datetime.UTC)
    return (moment if zone else moment.replace(tzinfo=None)).isoformat()
