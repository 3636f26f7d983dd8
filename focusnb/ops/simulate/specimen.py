"""What lies on the grid: proteins in amorphous ice, crystalline ice, carbon film, or a real micrograph.

Everything is computed as the phase in radians that the specimen gives to the electron wave, from tabulated scattering
factors (Peng, Ren, Dudarev & Whelan 1996), so that contrast follows from the thickness and mass of what is there and
not from a free signal-to-noise ratio. The one calibrated number is ``DISORDER``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numba
import numpy as np
import scipy.fft
from numpy.typing import NDArray

from focusnb.ops.simulate.optics import frequencies, interaction_constant

FloatArray = NDArray[np.floating[Any]]
ComplexArray = NDArray[np.complexfloating[Any, Any]]

# amplitudes (Å) and widths (Å²) of five Gaussians of sin(theta)/lambda = k/2
SCATTERING: dict[str, tuple[tuple[float, ...], tuple[float, ...]]] = {
    "H": ((0.0349, 0.1201, 0.1970, 0.0573, 0.1195), (0.5347, 3.5867, 12.3471, 18.9525, 38.6269)),
    "C": ((0.0893, 0.2563, 0.7570, 1.0487, 0.3575), (0.2465, 1.7100, 6.4094, 18.6113, 50.2523)),
    "N": ((0.1022, 0.3219, 0.7982, 0.8197, 0.1715), (0.2451, 1.7481, 6.1925, 17.3894, 48.1431)),
    "O": ((0.0974, 0.2921, 0.6910, 0.6990, 0.2039), (0.2067, 1.3815, 4.6943, 12.7105, 32.4726)),
}
WATER = {"O": 1.0, "H": 2.0}
PROTEIN = {"C": 0.63, "N": 0.17, "O": 0.20, "H": 1.0}
"""Average atom of a protein (heavier than hydrogen), with the hydrogen bound to it."""

WATER_DENSITY = 0.0314
"""Molecules per Å³ of amorphous ice, 0.94 g/cm³."""
ATOM_MASS = 13.5
"""Daltons of protein per atom heavier than hydrogen."""
PROTEIN_DENSITY = 0.81
"""Daltons per Å³."""
MEAN_FREE_PATH = 3950.0
"""Å of ice at 300 kV after which 1/e of the electrons is left behind an energy filter."""
CARBON_DENSITY = 0.1
"""Atoms per Å³ of amorphous carbon film, 2.0 g/cm³."""
CARBON_THICKNESS = 200.0
"""Å of holey carbon film."""

COMPRESSIBILITY = 0.06
"""Structure factor of water at low frequency: density fluctuations are small because neither water nor ice is easily
compressed."""
DISORDER = 0.5
"""What the structure factor rises by towards the distance of neighbours: see :func:`ice_structure`."""


@dataclass(frozen=True)
class SpecimenSettings:
    """What the field shows.

    ice_thickness : Å of amorphous ice; 0 is an empty hole, without particles
    particle_mass : kDa of each protein
    particle_spacing : Å, square root of the area per protein
    crystalline : power of the 3.7 Å ring of crystalline ice relative to amorphous ice there, 0 none
    carbon : fraction of the field covered by carbon film, from the left edge
    """

    ice_thickness: float = 300.0
    particle_mass: float = 150.0
    particle_spacing: float = 450.0
    crystalline: float = 0.0
    carbon: float = 0.0


@dataclass(frozen=True)
class Specimen:
    """A specimen on a field that continues periodically.

    phase : half spectrum (ny, nx // 2 + 1) of the phase in radians, unnormalised forward transform
    transmission : (y, x) fraction of electrons that arrive, or 1.0; 1 stands for ice of the given thickness
    particles : (n, 2) centres (y, x) in pixels
    """

    phase: ComplexArray
    transmission: FloatArray | float
    particles: FloatArray


def scattering_factor(composition: dict[str, float], k2: FloatArray) -> FloatArray:
    """Return the electron scattering factor in Å of a sum of atoms, at k² in 1/Å²."""
    total = np.zeros_like(k2)
    for element, number in composition.items():
        for amplitude, width in zip(*SCATTERING[element], strict=True):
            total += np.float32(number * amplitude) * np.exp(np.float32(-0.25 * width) * k2)
    return total


def make_specimen(
    settings: SpecimenSettings,
    shape: tuple[int, int],
    *,
    pixel_size: float,
    voltage: float,
    rng: np.random.Generator,
) -> Specimen:
    """Draw a specimen on a periodic field of ``shape`` pixels."""
    if settings.ice_thickness <= 0.0:
        empty = np.zeros((shape[0], shape[1] // 2 + 1), np.complex64)
        # seen against the ice of other exposures, a hole is brighter
        return Specimen(empty, float(np.exp(300.0 / MEAN_FREE_PATH)), np.empty((0, 2)))
    ky, kx = frequencies(shape, pixel_size)
    k2 = ky * ky + kx * kx
    noise = scipy.fft.rfft2(rng.standard_normal(shape, np.float32))
    phase = noise * ice_amplitude(settings, k2, pixel_size=pixel_size, voltage=voltage, rng=rng)
    centres = scatter_particles(settings, shape, pixel_size=pixel_size, rng=rng)
    film: FloatArray | None = None
    if settings.carbon > 0.0:
        film = carbon_film(settings.carbon, shape, rng)
        centres = centres[film[centres[:, 0].astype(int), centres[:, 1].astype(int)] < 0.5]
    atoms = protein_atoms(settings, centres, shape, pixel_size=pixel_size, rng=rng)
    phase += scipy.fft.rfft2(atoms) * protein_amplitude(k2, pixel_size=pixel_size, voltage=voltage)
    if film is None:
        return Specimen(phase, 1.0, centres)
    phase += scipy.fft.rfft2(film * carbon_phase(shape, k2, pixel_size=pixel_size, voltage=voltage, rng=rng))
    return Specimen(phase, np.float32(1.0) - np.float32(0.12) * film, centres)


def ice_amplitude(
    settings: SpecimenSettings, k2: FloatArray, *, pixel_size: float, voltage: float, rng: np.random.Generator
) -> FloatArray:
    """Return the amplitude that turns white noise of unit variance into the phase of ice.

    Molecules at independent places give the power density * thickness * |phase of one|²; ``ice_structure`` is what
    their order leaves of it.
    """
    molecules = WATER_DENSITY * settings.ice_thickness * pixel_size**2  # per pixel
    single = interaction_constant(voltage) / pixel_size**2 * scattering_factor(WATER, k2)
    power = np.float32(molecules) * ice_structure(k2) * single * single
    if settings.crystalline > 0.0:
        # grains: every small region of the spectrum has its own strength, so the ring is spotty
        spots = rng.standard_exponential(k2.shape, np.float32) ** 2 * np.float32(0.5)
        ring = np.exp(np.float32(-0.5) * ((np.sqrt(k2) - np.float32(1.0 / 3.7)) / np.float32(0.004)) ** 2)
        power *= np.float32(1.0) + np.float32(settings.crystalline) * ring * spots
    result: FloatArray = np.sqrt(power)
    return result


def ice_structure(k2: FloatArray) -> FloatArray:
    """Return the structure factor of amorphous ice at k² in 1/Å², as a movie shows it.

    It rises smoothly from the compressibility limit of water; half of the rise is at 5 Å. Beyond, it stays below the 1
    of independent molecules, and the peak that diffraction finds at 3.7 Å is missing, because molecules of water move
    about 1 Å for each e⁻/Å² and so do not stay the same from frame to frame (McMullan, Vinothkumar & Henderson 2015).
    """
    k4 = k2 * k2
    result: FloatArray = np.float32(COMPRESSIBILITY) + np.float32(DISORDER) * k4 / (k4 + np.float32(0.2**4))
    return result


def protein_amplitude(k2: FloatArray, *, pixel_size: float, voltage: float) -> FloatArray:
    """Return the phase spectrum of one average protein atom less the water it displaces (Fraser et al. 1978)."""
    volume = ATOM_MASS / PROTEIN_DENSITY
    water = np.float32(WATER_DENSITY * volume * float(scattering_factor(WATER, np.zeros(1))[0]))
    displaced = water * np.exp(np.float32(-np.pi * volume ** (2.0 / 3.0)) * k2)
    result: FloatArray = np.float32(interaction_constant(voltage) / pixel_size**2) * (
        scattering_factor(PROTEIN, k2) - displaced
    )
    return result


def scatter_particles(
    settings: SpecimenSettings, shape: tuple[int, int], *, pixel_size: float, rng: np.random.Generator
) -> FloatArray:
    """Draw the centres (n, 2) of particles in pixels: random, but not on top of each other."""
    spacing = settings.particle_spacing / pixel_size
    number = round(shape[0] * shape[1] / spacing**2)
    diameter = 2.0 * particle_radius(settings) / pixel_size
    centres: list[FloatArray] = []
    for candidate in rng.uniform(0.0, 1.0, (20 * number, 2)) * np.array(shape):
        if len(centres) == number:
            break
        if not centres or np.hypot(*(np.array(centres) - candidate).T).min() > diameter:
            centres.append(candidate)
    return np.array(centres).reshape(-1, 2)


def particle_radius(settings: SpecimenSettings) -> float:
    """Return the radius in Å of a compact sphere of the protein's mass."""
    volume = 1000.0 * settings.particle_mass / PROTEIN_DENSITY
    return float((0.75 * volume / np.pi) ** (1.0 / 3.0))


def protein_atoms(
    settings: SpecimenSettings,
    centres: FloatArray,
    shape: tuple[int, int],
    *,
    pixel_size: float,
    rng: np.random.Generator,
) -> FloatArray:
    """Return the projected number of atoms per pixel: one protein, turned anew at every centre.

    The protein is a chain of residues 3.8 Å apart that walks at random inside three overlapping globules, eight atoms
    around each residue: compact, lobed, without symmetry, with the flat spectrum of many atoms beyond 10 Å.
    """
    atoms = _fold_chain(settings, rng) / pixel_size
    image = np.zeros(shape, np.float32)
    for centre in centres:
        turn, _ = np.linalg.qr(rng.normal(size=(3, 3)))
        turn[0] *= np.linalg.det(turn)  # a rotation, not a mirror image
        _splat(image, centre + atoms @ turn[:2].T)
    return image


def _fold_chain(settings: SpecimenSettings, rng: np.random.Generator) -> FloatArray:
    """Draw the atoms (n, 3) of a protein in Å."""
    number = int(1000.0 * settings.particle_mass / ATOM_MASS)
    radius = particle_radius(settings)
    lobes = np.array([[0.45, 0.0, 0.0], [-0.25, 0.45, 0.1], [-0.2, -0.3, 0.5]]) * radius
    sizes = np.array([0.75, 0.65, 0.6]) * radius
    residues = _walk_inside(rng.normal(size=(number // 8 + 1, 3)), lobes, sizes)
    atoms = residues.repeat(8, axis=0)[:number] + rng.normal(0.0, 1.5, (number, 3))
    centred: FloatArray = atoms - atoms.mean(axis=0)
    return centred


@numba.njit(nogil=True, cache=True)  # type: ignore[untyped-decorator]
def _walk_inside(steps: FloatArray, lobes: FloatArray, sizes: FloatArray) -> FloatArray:
    """Walk with steps of 3.8 Å, turning back towards a lobe where the step would leave all of them."""
    places = np.empty_like(steps)
    here = lobes[0].copy()
    for i in range(steps.shape[0]):
        step = steps[i] * (3.8 / np.sqrt((steps[i] ** 2).sum()))
        inside = False
        for lobe in range(lobes.shape[0]):
            inside = inside or ((here + step - lobes[lobe]) ** 2).sum() < sizes[lobe] ** 2
        if not inside:
            home = lobes[i % lobes.shape[0]] - here
            step = home * (3.8 / max(np.sqrt((home**2).sum()), 3.8))
        here = here + step
        places[i] = here
    return places


@numba.njit(nogil=True, cache=True)  # type: ignore[untyped-decorator]
def _splat(image: FloatArray, places: FloatArray) -> None:
    """Add points to an image, each shared between the four pixels around it; the field continues periodically."""
    ny, nx = image.shape
    for i in range(places.shape[0]):
        iy = int(np.floor(places[i, 0]))
        ix = int(np.floor(places[i, 1]))
        fy = places[i, 0] - iy
        fx = places[i, 1] - ix
        y0, x0 = iy % ny, ix % nx
        y1, x1 = (iy + 1) % ny, (ix + 1) % nx
        image[y0, x0] += (1.0 - fy) * (1.0 - fx)
        image[y0, x1] += (1.0 - fy) * fx
        image[y1, x0] += fy * (1.0 - fx)
        image[y1, x1] += fy * fx


def carbon_film(fraction: float, shape: tuple[int, int], rng: np.random.Generator) -> FloatArray:
    """Return a mask (1 film, 0 hole): film on the left of a curved edge, and again at the far right to close the field.

    The closing edge lies in the margin outside the field when the field is cut from the middle.
    """
    ny, nx = shape
    y = np.arange(ny)
    bulge = 0.06 * nx * np.sin(2.0 * np.pi * y / ny + rng.uniform(0.0, 2.0 * np.pi))
    x = np.arange(nx)[None, :]
    edge = 1.0 / (1.0 + np.exp(np.clip((x - (fraction * nx + bulge)[:, None]) / 3.0, -60.0, 60.0)))
    closing = 1.0 / (1.0 + np.exp(np.clip((nx - 6 - x) / 1.5, -60.0, 60.0)))
    return np.maximum(edge, closing).astype(np.float32)


def carbon_phase(
    shape: tuple[int, int], k2: FloatArray, *, pixel_size: float, voltage: float, rng: np.random.Generator
) -> FloatArray:
    """Return the phase (y, x) of amorphous carbon in excess of ice: independent atoms and their mean potential."""
    single = interaction_constant(voltage) / pixel_size**2 * scattering_factor({"C": 1.0}, k2)
    atoms = CARBON_DENSITY * CARBON_THICKNESS * pixel_size**2
    noise = scipy.fft.rfft2(rng.standard_normal(shape, np.float32))
    noise *= np.float32(np.sqrt(0.3 * atoms)) * single  # less than independent atoms: carbon is ordered too
    phase: FloatArray = scipy.fft.irfft2(noise, s=shape).astype(np.float32)
    # carbon's mean inner potential is about 9 V, ice's 4 V; 2 pi / lambda * V / (2 E) is 6.5e-4 rad/(V Å) at 300 kV
    return phase + np.float32(interaction_constant(voltage) / 47.878 * 5.0 * CARBON_THICKNESS)


def extend_micrograph(micrograph: FloatArray, shape: tuple[int, int], contrast: float) -> FloatArray:
    """Make a real micrograph a specimen: relative intensity of mean 1 on a larger, periodic field.

    micrograph : (y, x) any counts
    shape : of the result, at least the micrograph's; the micrograph lies in its middle
    contrast : standard deviation of the result relative to its mean

    Slow gradients stay; single pixels beyond five standard deviations (hot pixels) are brought back to the mean. The
    border is a mirror image, folded so that the field closes on itself without an edge.
    """
    image = np.asarray(micrograph, np.float32)
    low, middle, high = np.percentile(image, (15.87, 50.0, 84.13))  # hot pixels must not set the scale
    image = (image - np.float32(middle)) / np.float32(max(0.5 * (high - low), 1e-12))
    image[np.abs(image) > 5.0] = 0.0
    image -= image.mean()
    image *= np.float32(contrast / max(float(image.std()), 1e-12))
    before = [(large - small) // 2 for large, small in zip(shape, image.shape, strict=True)]
    width = [(first, large - small - first) for first, large, small in zip(before, shape, image.shape, strict=True)]
    extended = np.pad(image, width, mode="symmetric")
    for axis, (first, last) in enumerate(width):
        extended = _close(extended, first, last, axis)
    result: FloatArray = np.maximum(np.float32(1.0) + extended, np.float32(0.0))
    return result


def _close(image: FloatArray, first: int, last: int, axis: int) -> FloatArray:
    """Fade the borders along one axis to 0, so that the last pixel fits the first."""
    ramp = np.ones(image.shape[axis], np.float32)
    if first:
        ramp[:first] = np.sin(0.5 * np.pi * (np.arange(first) + 0.5) / first) ** 2
    if last:
        ramp[-last:] = np.cos(0.5 * np.pi * (np.arange(last) + 0.5) / last) ** 2
    result: FloatArray = image * (ramp[:, None] if axis == 0 else ramp[None, :])
    return result
