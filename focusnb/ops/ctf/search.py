"""Find the basin of the best defocus and astigmatism without a starting value.

Every sector of the spectrum is correlated with the CTF² of every defocus, as matrix products; an astigmatism is then
a curve through sectors × defoci, and all of them are summed. Nothing is followed downhill, so nothing gets stuck.
The even and the odd sectors are summed apart: what one half finds, the other can confirm or deny.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from focusnb.ops.ctf.model import Optics
from focusnb.ops.ctf.rings import Cells

DECAYS = (0.0, 80.0, 300.0, 1000.0)  # Å²: fall of the ring contrast with k² that the search tries
ASTIGMATISM_STEP = 150.0  # Å


class Candidate(NamedTuple):
    """One basin: mean defocus (Å), astigmatism vector (Å), phase shift (degrees) and significance."""

    defocus: float
    vector: complex
    phase_shift: float
    significance: float


@dataclass(frozen=True, slots=True)
class Scan:
    """Significance of every mean defocus with every astigmatism, phase shift and decay, in standard deviations.

    defoci : (defoci,) Å; whole : (combinations, defoci), from all sectors; halves : (2, combinations, defoci), from
    the even and the odd ones; vectors, phase_shifts : (combinations,)
    """

    defoci: np.ndarray
    whole: np.ndarray
    halves: np.ndarray
    vectors: np.ndarray
    phase_shifts: np.ndarray

    def candidates(self, number: int) -> list[Candidate]:
        """Return the best basins, best first, at least four steps of the grid apart."""
        best = self.whole.max(axis=0)
        remaining = best.copy()
        found: list[Candidate] = []
        while len(found) < number and np.isfinite(remaining).any():
            place = int(np.argmax(remaining))
            which = int(np.argmax(self.whole[:, place]))
            found.append(
                Candidate(
                    float(self.defoci[place]),
                    complex(self.vectors[which]),
                    float(self.phase_shifts[which]),
                    float(best[place]),
                )
            )
            remaining[max(0, place - 4) : place + 5] = -np.inf
        return found

    def plainest(self, largest: float) -> Candidate:
        """Return the best basin with an astigmatism of at most ``largest`` Å."""
        rows = np.flatnonzero(np.abs(self.vectors) <= largest)
        row, place = np.unravel_index(int(np.argmax(self.whole[rows])), (len(rows), len(self.defoci)))
        which = rows[row]
        return Candidate(
            float(self.defoci[place]),
            complex(self.vectors[which]),
            float(self.phase_shifts[which]),
            float(self.whole[which, place]),
        )

    def confirmed(self) -> float:
        """Return how significant the best of one half is in the other, averaged over both ways.

        The half that judges took no part in the choice, so noise gives about 0 ± 1 however much was tried.
        """
        first, second = self.halves.reshape(2, -1)
        return 0.5 * float(second[np.argmax(first)] + first[np.argmax(second)])


def defocus_grid(low: float, high: float, optics: Optics, highest: float) -> np.ndarray:
    """Return defoci fine enough that between two the phase at the highest frequency turns by 0.4 radians."""
    step = 0.4 / (math.pi * optics.wavelength * highest**2)
    return np.asarray(low + step * np.arange(max(2, math.ceil((high - low) / step) + 1)))


def astigmatisms(largest: float) -> np.ndarray:
    """Return astigmatism vectors (complex, Å) that cover magnitudes up to ``largest``, denser where small."""
    vectors, magnitude = [0j], ASTIGMATISM_STEP
    while magnitude <= largest * 1.0001:
        number = int(min(max(6, round(math.pi * magnitude / ASTIGMATISM_STEP)), 16))
        vectors += [complex(magnitude * np.exp(2j * math.pi * turn / number)) for turn in range(number)]
        magnitude *= 1.7
    return np.array(vectors)


def scan(
    cells: Cells, optics: Optics, limits: tuple[float, float], max_astigmatism: float, phase_shifts: np.ndarray
) -> Scan:
    """Try every mean defocus between two limits (Å) with every astigmatism, phase shift (degrees) and decay."""
    highest = math.sqrt(float(cells.squared_frequency.max()))
    defoci = defocus_grid(*limits, optics, highest)
    step = float(defoci[1] - defoci[0])
    vectors = astigmatisms(max_astigmatism)
    margin = math.ceil(0.5 * max_astigmatism / step) + 1
    wide = defoci[0] + step * np.arange(-margin, len(defoci) + margin)
    # below 100 Å there are no rings, and a negative defocus would fit those of a positive one
    usable = wide > 100.0
    product, norm, models = _correlate(cells, optics, wide, phase_shifts)
    product, norm = product * usable, norm * usable
    sums = np.zeros((2, 2, len(vectors), models, len(defoci)))  # product and norm, of even and odd sectors
    for index, vector in enumerate(vectors):
        offsets = np.rint(0.5 * (vector * np.exp(-2j * cells.direction)).real / step).astype(np.int64) + margin
        for sector, offset in enumerate(offsets):
            part = slice(offset, offset + len(defoci))
            sums[0, sector % 2, index] += product[sector, :, part]
            sums[1, sector % 2, index] += norm[sector, :, part]
    products, norms = sums.reshape(2, 2, -1, len(defoci))

    def significance(product: np.ndarray, norm: np.ndarray) -> np.ndarray:
        return np.asarray(product / (cells.noise * np.sqrt(np.maximum(norm, 1e-12))))

    return Scan(
        defoci,
        significance(products.sum(axis=0), norms.sum(axis=0)),
        significance(products, norms),
        np.repeat(vectors, models),
        np.tile(np.repeat(phase_shifts, len(DECAYS)), len(vectors)),
    )


def _correlate(
    cells: Cells, optics: Optics, defoci: np.ndarray, phase_shifts: np.ndarray
) -> tuple[np.ndarray, np.ndarray, int]:
    """Correlate each sector with CTF² of each defocus, the trend removed from both alike.

    Returns the products and the norms of the models, (sectors, models, defoci), and the number of models (phase
    shifts × decays).
    """
    squared = cells.squared_frequency
    common = cells.weight.sum(axis=0)
    root = np.sqrt(common)
    orthonormal = np.linalg.qr(cells.basis * root[:, None])[0]
    linear = 2.0 * math.pi * optics.wavelength * np.outer(defoci, squared)
    products, norms = [], []
    for phase_shift in phase_shifts:
        constant = 2.0 * (math.radians(phase_shift) + optics.amplitude_phase)
        rings = -0.5 * np.cos(linear - 2.0 * optics.quartic * squared**2 + constant)
        for decay in DECAYS:
            model = rings * (np.exp(-0.5 * decay * squared) * root)
            model = (model - (model @ orthonormal) @ orthonormal.T) / np.maximum(root, 1e-9)
            products.append((cells.weight * cells.value) @ model.T)
            norms.append(cells.weight @ (model**2).T)
    return np.stack(products, axis=1), np.stack(norms, axis=1), len(products)
