"""Fields as the microscope shows them, good and bad: ice, particles, film, holes, tears and dirt, in counts.

The physics is that of the simulator (phase objects, contrast transfer, Poisson counts), which shares no code with what
is tested; where film, hole and ice lie is drawn here, at any place and in any direction.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import scipy.fft

from focusnb.ops.simulate.optics import Optics, contrast_transfer, envelope, frequencies
from focusnb.ops.simulate.specimen import (
    MEAN_FREE_PATH,
    SpecimenSettings,
    carbon_phase,
    make_specimen,
)

MARGIN = 96
"""Pixels simulated beyond each border of the field."""


@dataclass(frozen=True)
class Field:
    """What is drawn: an image (y, x) float32 of counts, and the part of it that film covers or that is open."""

    image: np.ndarray
    fraction: float = 0.0
    pixel_size: float = 1.06
    optics: Optics = field(default_factory=Optics)


def places(shape: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """Return y and x from the middle, in half diagonals."""
    half = 0.5 * np.hypot(*shape)
    y, x = np.indices(shape, dtype=np.float32)
    return (y - shape[0] / 2) / half, (x - shape[1] / 2) / half


def half_plane(shape: tuple[int, int], rng: np.random.Generator, fraction: float, curvature: float) -> np.ndarray:
    """Return how far every pixel lies beyond a border in a random direction, in half diagonals; > 0 for ``fraction``.

    curvature : of the border in half diagonals over its radius; positive: the part below 0 is round
    """
    y, x = places(shape)
    angle = rng.uniform(0, 2 * np.pi)
    along, across = x * np.cos(angle) + y * np.sin(angle), y * np.cos(angle) - x * np.sin(angle)
    # a parabola, and a little unrest: neither is what a fit of circles assumes
    unrest = 0.012 * np.sin(across * rng.uniform(6, 14) + rng.uniform(0, 6)) + 0.006 * np.sin(across * 31)
    distance = along + 0.5 * curvature * across**2 + unrest
    return distance - np.quantile(distance, 1 - fraction)


def smooth_step(distance: np.ndarray, shape: tuple[int, int], width: float) -> np.ndarray:
    """Return 0 to 1 across a border ``width`` pixels wide; ``distance`` in half diagonals."""
    pixels = distance * 0.5 * np.hypot(*shape)
    return 1 / (1 + np.exp(-np.clip(pixels / width, -40, 40)))


def expose(
    rng: np.random.Generator,
    *,
    shape: tuple[int, int] = (1024, 1024),
    pixel_size: float = 1.06,
    dose: float = 30.0,
    defocus: float = 14000.0,
    ice: np.ndarray | float = 300.0,
    spacing: float = 450.0,
    mass: float = 150.0,
    crystalline: float = 0.0,
    film: np.ndarray | None = None,
    absorbed: float = 0.12,
    opened: np.ndarray | None = None,
    beam: float = 0.0,
) -> Field:
    """Return the counts of an exposure.

    dose : e⁻/Å²; ice : Å, a number or (y, x); film, opened : (y, x) from 0 to 1, where a carbon film lies and where
    nothing does; absorbed : part of the electrons the film takes away; beam : how much darker the beam is at its rim
    """
    optics = Optics(defocus_u=defocus + 200, defocus_v=defocus - 200, astigmatism_angle=25.0, b_factor=80.0)
    # contrast reaches beyond what makes it, and must not come in again at the far side of a periodic field
    larger = (shape[0] + 2 * MARGIN, shape[1] + 2 * MARGIN)
    ice, film, opened = (
        np.pad(part, MARGIN, mode="edge") if isinstance(part, np.ndarray) else part for part in (ice, film, opened)
    )
    ky, kx = frequencies(larger, pixel_size)
    mean_ice = float(np.mean(ice))
    settings = SpecimenSettings(max(mean_ice, 1e-3), mass, spacing, crystalline)
    specimen = make_specimen(settings, larger, pixel_size=pixel_size, voltage=300.0, rng=rng)
    phase = scipy.fft.irfft2(specimen.phase, s=larger)
    transmission = np.exp(-np.asarray(ice, np.float32) / MEAN_FREE_PATH) * np.ones(larger, np.float32)
    if isinstance(ice, np.ndarray):
        phase = phase * np.sqrt(np.maximum(ice, 0.0) / mean_ice)
    if film is not None:
        carbon = carbon_phase(larger, ky * ky + kx * kx, pixel_size=pixel_size, voltage=300.0, rng=rng)
        phase = phase + film * (carbon - carbon.mean())  # what it takes from the brightness is told by ``absorbed``
        transmission = transmission * (1 - absorbed * film)
    if opened is not None:
        phase = phase * (1 - opened)
        transmission = transmission * (1 - opened) + opened
    transfer = contrast_transfer(ky, kx, optics) * envelope(ky, kx, optics.b_factor)
    contrast = 2 * scipy.fft.irfft2(scipy.fft.rfft2(phase) * transfer, s=larger)
    inside = (slice(MARGIN, -MARGIN), slice(MARGIN, -MARGIN))
    contrast, transmission = contrast[inside], transmission[inside]
    y, x = places(shape)
    lamp = 1 - beam * ((x - rng.uniform(-0.7, 0.7)) ** 2 + (y - rng.uniform(-0.7, 0.7)) ** 2)
    expected = dose * pixel_size**2 * np.maximum(1 + contrast, 0) * transmission * lamp
    counts = rng.poisson(np.maximum(expected, 0)).astype(np.float32)
    return Field(counts, 0.0, pixel_size, optics)


def _circumstances(rng: np.random.Generator) -> dict[str, object]:
    """What varies from session to session and tells nothing."""
    return {
        "shape": ((1024, 1024), (1000, 1400), (1200, 960))[rng.integers(3)],
        "pixel_size": float(rng.uniform(0.8, 1.6)),
        "dose": float(rng.uniform(20, 60)),
        "defocus": float(rng.uniform(6000, 25000)),
        "spacing": float(rng.uniform(300, 900)),
        "mass": float(rng.uniform(80, 800)),
        "beam": float(rng.choice([0.0, rng.uniform(0, 0.15)])),
    }


def ordinary(rng: np.random.Generator, variety: str = "") -> Field:
    """Return a usable field: even ice, ice that grows thicker smoothly, or pieces of contamination on it."""
    rest = _circumstances(rng)
    shape = rest["shape"]
    variety = variety or ("even", "gradient", "steep", "dirt")[rng.integers(4)]
    base = float(rng.uniform(150, 500))
    y, x = places(shape)
    angle = rng.uniform(0, 2 * np.pi)
    along = x * np.cos(angle) + y * np.sin(angle)
    ice: np.ndarray | float = base
    if variety == "gradient":
        ice = base * (1 + rng.uniform(0.2, 0.9) * along)
    elif variety == "steep":  # towards the rim of a hole
        ice = base * (1 + rng.uniform(0.5, 4.0) * np.exp(rng.uniform(1.0, 4.0) * (along - 1)))
    elif variety == "dirt":
        ice = np.full(shape, base, np.float32)
        for _ in range(rng.integers(1, 6)):
            radius = float(rng.uniform(100, 700)) / rest["pixel_size"] / (0.5 * np.hypot(*shape))
            cy, cx = rng.uniform(-0.75, 0.75, 2)
            inside = np.maximum(radius**2 - (y - cy) ** 2 - (x - cx) ** 2, 0.0)
            ice = ice + 2 * np.sqrt(inside) * 0.5 * np.hypot(*shape) * rest["pixel_size"] * rng.uniform(0.4, 1.0)
    return expose(rng, ice=ice, **rest)


def with_film(rng: np.random.Generator) -> Field:
    """Return a field into which the film around the hole reaches."""
    rest = _circumstances(rng)
    fraction = float(rng.uniform(0.08, 0.7))
    curvature = float(rng.choice([0.0, rng.uniform(0.0, 1.5)]))
    film = smooth_step(half_plane(rest["shape"], rng, fraction, curvature), rest["shape"], rng.uniform(2, 8))
    made = expose(rng, ice=float(rng.uniform(150, 500)), film=film, absorbed=float(rng.uniform(0.04, 0.25)), **rest)
    return Field(made.image, fraction, made.pixel_size, made.optics)


def empty(rng: np.random.Generator) -> Field:
    """Return a hole without ice."""
    rest = _circumstances(rng) | {"spacing": 1e5}
    made = expose(rng, ice=0.0, opened=np.ones(rest["shape"], np.float32), **rest)
    return Field(made.image, 1.0, made.pixel_size, made.optics)


def torn(rng: np.random.Generator) -> Field:
    """Return a film with ice that is torn: part of the field is open."""
    rest = _circumstances(rng)
    shape = rest["shape"]
    fraction = float(rng.uniform(0.1, 0.75))
    distance = half_plane(shape, rng, fraction, float(rng.uniform(-1.5, 1.5)))
    if rng.random() < 0.4:  # a corner
        other = half_plane(shape, rng, min(0.9, fraction + 0.25), 0.0)
        distance = np.minimum(distance, other)
        distance = distance - np.quantile(distance, 1 - fraction)
    opened = smooth_step(distance, shape, rng.uniform(1, 4))
    film = np.ones(shape, np.float32) if rng.random() < 0.7 else None
    made = expose(
        rng, ice=float(rng.uniform(200, 500)), film=film, absorbed=float(rng.uniform(0.04, 0.25)), opened=opened, **rest
    )
    return Field(made.image, float(opened.mean()), made.pixel_size, made.optics)
