"""Sharp rings of known spacing in a spectrum - of crystalline ice, gold, graphene - and the pixel size they tell."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from focusnb.ops.backend import array_namespace, to_numpy
from focusnb.ops.ice import Amplitudes

Floats = NDArray[np.float64]

PROFILE_BINS = 512

KNOWN: Mapping[str, tuple[float, ...]] = {
    "ice": (3.669, 3.897, 3.441, 2.671, 2.249, 2.072, 1.918),
    "gold": (2.355, 2.039, 1.442, 1.230),
    "graphene": (2.131, 1.230),
}
"""Spacings in Å. Hexagonal ice has all of its own, cubic ice 3.669, 2.249 and 1.918 Å."""

PRIMARY: Mapping[str, int] = {"ice": 3, "gold": 1, "graphene": 1}
"""How many of them, from the first, are strong enough to be seen alone."""

SAME = 0.02
"""Relative difference within which a ring is at a material's strongest spacing: magnifications are known no better."""

_SAME_LINE, _SAME_SCALED = 0.012, 0.009
"""The same for its other spacings, which are near to each other, and once the pixel size is corrected by a ring."""

LARGEST_ERROR = 0.12
"""Relative error of a pixel size up to which a ring beside a known spacing is taken for that one."""

_WIDTH = 0.012  # of the frequency, from the top of a ring
_SIDES = ((0.03, 0.09), (0.05, 0.12))  # where its background is: beside narrow rings, and beside wider ones
_WIDE = 0.35  # of the frequency, within which rings of the CTF would come again
_HEIGHT, _CLEAR, _ALONE = 0.015, 5.0, 3.0


@dataclass(frozen=True)
class Ring:
    """A sharp ring. frequency : cycles per pixel; height : over its background, in amplitude; clear : in its scatter"""

    frequency: float
    height: float
    clear: float


@dataclass(frozen=True)
class Scale:
    """What rings say of a pixel size.

    scale : by what it is to be multiplied; 1 where it is right
    matches : pairs of spacings in Å, as seen with the pixel size given and as known, the clearest ring first
    material : ice, gold or graphene
    """

    scale: float
    matches: tuple[tuple[float, float], ...]
    material: str


def spectrum_profile(spectrum: Amplitudes, bins: int = PROFILE_BINS) -> tuple[Floats, Floats]:
    """Average the amplitudes of a whole transform over rings up to Nyquist.

    Returns frequency in cycles per pixel and the mean amplitude, both (n,) with n at most ``bins``, and no more than
    the transform has rings.
    """
    xp = array_namespace(spectrum.amplitude)
    bins = min(bins, len(spectrum.kx) - 1, len(spectrum.ky) // 2)
    total, count = np.zeros(bins), np.zeros(bins)
    highest = 0.5 / spectrum.pixel_size
    for amplitude, radius in spectrum.within(highest):
        ring = xp.minimum((radius * (bins / highest)).astype(xp.int32), bins).ravel()
        total += to_numpy(xp.bincount(ring, weights=amplitude.ravel(), minlength=bins + 1))[:bins]
        count += to_numpy(xp.bincount(ring, minlength=bins + 1))[:bins]
    frequency = np.linspace(0, 0.5, bins, endpoint=False, dtype=np.float64) + 0.25 / bins
    return frequency, total / np.maximum(count, 1)


def find_rings(frequency: Floats, amplitude: Floats) -> list[Ring]:
    """Find the sharp rings of a profile, the clearest first; those of the CTF and of amorphous ice are wide or many.

    frequency : (n,) cycles per pixel, evenly spaced; amplitude : (n,) mean amplitude
    A ring counts where it rises above a line through the logarithm of both its sides, by 1.5 % and five times the
    scatter about that line, has fallen again at 3 or 5 % of its frequency, and rises three times as high above the
    wider surroundings as these fall: the rings of the CTF go up and down.
    """
    if len(frequency) < 64 or not (amplitude > 0).all():
        return []
    level = np.log(amplitude)
    tops = np.flatnonzero((level[1:-1] >= level[:-2]) & (level[1:-1] >= level[2:])) + 1
    found = [
        ring
        for top in tops
        for beside, far in _SIDES
        if (ring := _ring_at(frequency, level, int(top), beside, far)) is not None
    ]
    rings: list[Ring] = []
    for ring in sorted(found, key=lambda one: one.clear * one.height, reverse=True):
        if all(abs(ring.frequency / other.frequency - 1) > 0.03 for other in rings):
            rings.append(ring)
    return sorted(rings, key=lambda one: one.clear, reverse=True)


def _ring_at(frequency: Floats, level: Floats, top: int, beside: float, far: float) -> Ring | None:
    """The ring at a top of the profile, its background so far beside it; None where there is none."""
    place, step = float(frequency[top]), float(frequency[1] - frequency[0])
    width = max(_WIDTH * place, 1.5 * step)
    near = max(beside * place, 3 * step)
    end = near + max((far - beside) * place, 8 * step)
    if not 0.04 < place < 0.49 - near:
        return None
    away = np.abs(frequency - place)
    sides, inside, shoulder = (away >= near) & (away <= end), away <= width, (away >= 0.5 * near) & (away < near)
    left = sides & (frequency < place)
    if min(left.sum(), sides.sum() - left.sum()) < 4:
        return None
    x = frequency - place
    kept = sides
    for _ in range(4):  # another ring beside is no background
        line = np.polyfit(x[kept], level[kept], 1)
        above = level - np.polyval(line, x)
        scatter = float(np.sqrt(np.mean(above[kept] ** 2)))
        fewer = sides & (above < 1.5 * scatter)
        if fewer.sum() < 6 or (fewer == kept).all():
            break
        kept = fewer
    scatter = max(1.25 * scatter, 0.0025)  # what was cut off belonged to it
    height = float(above[inside].mean())
    if height < _HEIGHT or height < _CLEAR * scatter or height - float(above[shoulder].mean()) < 0.5 * height:
        return None
    wide = (away >= near) & (away <= _WIDE * place) & (frequency < 0.49)
    swing = level - np.polyval(np.polyfit(x[wide], level[wide], 2), x)
    if float(swing[inside].mean()) < -_ALONE * float(np.percentile(swing[wide], 5)):
        return None
    around = (away <= 1.5 * width) & (above > 0)
    centre = float((frequency[around] * above[around]).sum() / above[around].sum())
    return Ring(centre, math.expm1(height), height / scatter)


def height_at(frequency: Floats, amplitude: Floats, place: float) -> float:
    """Return how clearly a profile rises within 1.5 % of a frequency, in the scatter beside it; 0 where it does not."""
    rings = [ring for ring in find_rings(frequency, amplitude) if abs(ring.frequency / place - 1) < 0.015]
    return max((ring.clear for ring in rings), default=0.0)


def find_scale(spacings: Sequence[float]) -> Scale | None:
    """Find by what a pixel size is to be multiplied so that rings are where known materials have them.

    spacings : Å of rings seen, as the pixel size given makes them, the clearest first
    An error is looked for within 12 %, and at the factors 2 and 1/2 of super-resolution and binning (for ice, whose
    rings are told from others there). A pixel size that explains as many rings as any other is right. None where
    nothing known is near.
    """
    best: tuple[tuple[int, bool, int, float], Scale] | None = None
    for scale, material in _candidates(spacings):
        matches = tuple(
            (spacing, known)
            for spacing in spacings
            for known in KNOWN[material]
            if abs(spacing * scale / known - 1) <= _tolerance(scale, known, material)
        )
        if not matches:
            continue
        # of those that explain as much: none, the strongest line of a material, the smaller change
        strongest = -min(KNOWN[material].index(known) for _, known in matches)
        rank = (len(matches), scale == 1.0, strongest, -abs(math.log(scale)))
        if best is None or rank > best[0]:
            best = rank, Scale(scale, matches, material)
    return None if best is None else best[1]


def _tolerance(scale: float, known: float, material: str) -> float:
    if scale != 1.0:
        return _SAME_SCALED
    return SAME if known == KNOWN[material][0] else _SAME_LINE


def _candidates(spacings: Sequence[float]) -> Iterator[tuple[float, str]]:
    for material, known in KNOWN.items():
        yield 1.0, material
        for spacing in spacings:
            for line in known[: PRIMARY[material]]:
                scale = line / spacing
                twice = material == "ice" and min(abs(scale / 2 - 1), abs(2 * scale - 1)) <= 0.03
                if abs(scale - 1) <= LARGEST_ERROR or twice:
                    yield scale, material


def other_scales(spacing: float, chosen: float) -> list[tuple[float, float]]:
    """Return the other known spacings that a single ring may be, each with the factor it gives; the nearest first."""
    others = [
        (known, known / spacing)
        for material, lines in KNOWN.items()
        for known in lines[: PRIMARY[material]]
        if abs(known / spacing / chosen - 1) > SAME and abs(known / spacing - 1) <= LARGEST_ERROR
    ]
    return sorted(others, key=lambda pair: abs(math.log(pair[1])))
