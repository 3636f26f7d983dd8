"""Find the basin of the best defocus and astigmatism without a starting value.

Every sector of the spectrum is correlated with the CTF² of every defocus, as matrix products; an astigmatism is then
a curve through sectors × defoci, and all of them are summed. Nothing is followed downhill, so nothing gets stuck.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from focusnb.ops.ctf.model import Optics
from focusnb.ops.ctf.rings import Cells

_DECAYS = (0.0, 80.0, 300.0, 1000.0)  # Å²: fall of the ring contrast with k² that the search tries


@dataclass(frozen=True, slots=True)
class Candidate:
    """One basin: mean defocus (Å), astigmatism vector (Å), phase shift (degrees), decay (Å²) and significance."""

    defocus: float
    vector: complex
    phase_shift: float
    decay: float
    significance: float


@dataclass(frozen=True, slots=True)
class Correlations:
    """Products of each sector with the model of each defocus: (sectors, defoci), for one decay and phase shift."""

    defoci: np.ndarray
    direction: np.ndarray
    product: np.ndarray
    norm: np.ndarray
    decay: float
    phase_shift: float

    def significance(self, defocus: np.ndarray, vector: complex, noise: float, sectors: np.ndarray) -> np.ndarray:
        """Return how many standard deviations of noise each mean defocus stands out, with this astigmatism."""
        offset = 0.5 * (vector * np.exp(-2j * self.direction[sectors])).real
        step = self.defoci[1] - self.defoci[0]
        index = np.rint((defocus[None, :] + offset[:, None] - self.defoci[0]) / step).astype(np.int64)
        inside = (index >= 0) & (index < len(self.defoci))
        index = np.clip(index, 0, len(self.defoci) - 1)
        rows = sectors[:, None]
        product = np.where(inside, self.product[rows, index], 0.0).sum(axis=0)
        norm = np.where(inside, self.norm[rows, index], 0.0).sum(axis=0)
        return np.asarray(product / (noise * np.sqrt(np.maximum(norm, 1e-12))))


def defocus_grid(low: float, high: float, optics: Optics, highest: float) -> np.ndarray:
    """Return defoci fine enough that between two the phase at the highest frequency turns by 0.4 radians."""
    step = 0.4 / (math.pi * optics.wavelength * highest**2)
    return np.asarray(low + step * np.arange(math.ceil((high - low) / step) + 1))


def correlate(cells: Cells, optics: Optics, defoci: np.ndarray, phase_shifts: np.ndarray) -> list[Correlations]:
    """Correlate all sectors with CTF² of all defoci, the trend removed from both alike."""
    squared = cells.squared_frequency
    common = cells.weight.sum(axis=0)
    root = np.sqrt(common)
    orthonormal = np.linalg.qr(cells.basis * root[:, None])[0]
    found = []
    linear = 2.0 * math.pi * optics.wavelength * np.outer(defoci, squared)
    for phase_shift in phase_shifts:
        constant = 2.0 * (math.radians(phase_shift) + optics.amplitude_phase)
        rings = -0.5 * np.cos(linear - 2.0 * optics.quartic * squared**2 + constant)
        for decay in _DECAYS:
            model = rings * (np.exp(-0.5 * decay * squared) * root)
            model = (model - (model @ orthonormal) @ orthonormal.T) / np.maximum(root, 1e-9)
            product = (cells.weight * cells.value) @ model.T
            norm = cells.weight @ (model**2).T
            found.append(Correlations(defoci, cells.direction, product, norm, decay, float(phase_shift)))
    return found


def astigmatisms(largest: float, step: float) -> np.ndarray:
    """Return astigmatism vectors (complex, Å) that cover magnitudes up to ``largest``, denser where small."""
    vectors = [0j]
    magnitude = step
    while magnitude <= largest * 1.0001:
        number = int(min(max(6, round(2 * math.pi * magnitude / (2.0 * step))), 16))
        vectors += [complex(magnitude * np.exp(2j * math.pi * turn / number)) for turn in range(number)]
        magnitude *= 1.7
    return np.array(vectors)


def best_candidates(
    found: list[Correlations],
    vectors: np.ndarray,
    limits: tuple[float, float],
    noise: float,
    sectors: np.ndarray,
    number: int = 3,
) -> tuple[list[Candidate], np.ndarray]:
    """Return the best basins and, for each defocus of the grid, the best significance over everything else."""
    defoci = found[0].defoci
    inside = (defoci >= limits[0]) & (defoci <= limits[1])
    grid = defoci[inside]
    best = np.full(len(grid), -np.inf)
    which = np.zeros((len(grid), 2), dtype=np.int64)
    for first, correlations in enumerate(found):
        for second, vector in enumerate(vectors):
            here = correlations.significance(grid, vector, noise, sectors)
            better = here > best
            best[better] = here[better]
            which[better] = (first, second)
    candidates: list[Candidate] = []
    remaining = best.copy()
    for _ in range(number):
        place = int(np.argmax(remaining))
        if not np.isfinite(remaining[place]):
            break
        correlations, vector = found[which[place, 0]], vectors[which[place, 1]]
        candidates.append(
            Candidate(
                float(grid[place]), complex(vector), correlations.phase_shift, correlations.decay, float(best[place])
            )
        )
        remaining[np.abs(grid - grid[place]) < 4 * (grid[1] - grid[0])] = -np.inf
    return candidates, best
