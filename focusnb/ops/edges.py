"""Find a sharp edge that parts a field in two: of the supporting film, of a hole, of a tear.

The brightness of blocks is compared with two models: a smooth one (a polynomial, for the beam and for ice that grows
thicker) and a smooth one with a step along a straight or circular border. Only where the step explains what nothing
smooth does, there is an edge; so neither gradients nor the scale of the counts matter.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from focusnb.errors import ParameterError
from focusnb.ops.backend import Array, array_namespace, to_numpy

BLOCKS = 28
"""Blocks along the longer side of the field."""
ROUNDEST_HOLE = 3.2
STRAIGHTEST_BLOB = -0.7
"""Half diagonals over the radius of a border, between which it may be that of a film; see :class:`Edge`."""
_CURVATURES = (-6.0, -3.5, -2.0, -1.2, -0.5, 0.0, 0.5, 1.2, 2.0, 3.0, 4.5)
_SMALLEST_PART = 0.03
_DIRECTIONS = 24
_OFFSETS = 17
_BACKGROUND_DEGREE = 2
_SMOOTH_DEGREE = 4


@dataclass(frozen=True, slots=True)
class Edge:
    """The border between a darker and a brighter part of a field that describes its brightness best.

    direction : degrees from +x, counter-clockwise (y up), from the middle of the field towards the darker part
    offset : where the border crosses that line, in half diagonals of the field from its middle
    curvature : half diagonals over the radius of the border; positive where the brighter part is round (a hole in a
        film), negative where the darker part is (a piece of contamination), 0 straight
    dark_fraction : part of the field on the darker side, 0 to 1
    contrast : step of the brightness over that of the brighter part; None where that is not positive
    score : part of what a smooth field leaves unexplained that the edge explains; 1 is a perfect edge, at or below 0
        there is none
    """

    direction: float
    offset: float
    curvature: float
    dark_fraction: float
    contrast: float | None
    score: float

    @property
    def of_film(self) -> bool:
        """Whether a film around a hole has such a border: straight, or hollow on the darker side."""
        return STRAIGHTEST_BLOB <= self.curvature <= ROUNDEST_HOLE

    def depth(self, y: np.ndarray, x: np.ndarray) -> np.ndarray:
        """Return how far places lie within the darker part, in half diagonals; negative in the brighter part.

        y, x : places in half diagonals from the middle of the field
        """
        return _depth(y, x, math.radians(self.direction), self.offset, self.curvature)


def block_means(image: Array, *, blocks: int = BLOCKS) -> np.ndarray:
    """Average an image (y, x) over square blocks, so many along its longer side; (rows, columns) on the host.

    What does not fill a block at the far borders is left out.
    """
    if image.ndim != 2 or min(image.shape) < 2:
        raise ParameterError(f"blocks are averaged of one image (y, x) of at least 2×2 pixels, not of {image.shape}")
    xp = array_namespace(image)
    side = max(1, max(image.shape) // blocks)
    rows, columns = max(1, image.shape[0] // side), max(1, image.shape[1] // side)
    side = min(side, *image.shape)
    inside = image[: rows * side, : columns * side].reshape(rows, side, columns, side)
    return to_numpy(inside.mean(axis=3, dtype=xp.float32).mean(axis=1)).astype(np.float64)


def find_edge(image: Array) -> Edge | None:
    """Return the edge that describes the brightness of an image best, however badly; its ``score`` tells.

    image : (y, x), numpy or cupy, any scale. None where the image is constant or has too few pixels for an edge.
    """
    return edge_of_blocks(block_means(image))


def edge_of_blocks(brightness: np.ndarray) -> Edge | None:
    """Return the best edge of the mean brightness of blocks (rows, columns); see :func:`find_edge`."""
    if min(brightness.shape) < 6 or not np.isfinite(brightness).all():
        return None
    shape = (int(brightness.shape[0]), int(brightness.shape[1]))
    field = _Field.of(shape)
    values = (brightness - brightness.mean()).ravel()
    left = values - field.background @ (field.background.T @ values)
    smooth = values - field.smooth @ (field.smooth.T @ values)
    remaining = float(smooth @ smooth)
    if not remaining > 1e-12 * max(float(brightness.ravel() @ brightness.ravel()), 1e-300):
        return None
    best = max((_refine(field, left, start) for start in _starts(field, left)), key=lambda found: found.explained)
    unexplained = float(left @ left) - best.explained
    dark = _mask(field, *best.border)
    part = float(dark.mean())
    bright_level = float((brightness.ravel() * (1 - dark)).sum() / max((1 - dark).sum(), 1e-9))
    return Edge(
        direction=(math.degrees(best.border[0]) + 180.0) % 360.0 - 180.0,
        offset=best.border[1],
        curvature=best.border[2],
        dark_fraction=part,
        contrast=best.step / bright_level if bright_level > 0 else None,
        score=1.0 - unexplained / remaining,
    )


Border = tuple[float, float, float]
"""Direction in radians, offset and curvature of an edge."""


@dataclass(frozen=True, slots=True)
class _Found:
    """A border, the sum of squares it explains, and its step (positive: the darker part is darker)."""

    border: Border
    explained: float
    step: float


@dataclass(frozen=True)
class _Field:
    """The places of the blocks, and smooth functions on them as orthonormal columns."""

    shape: tuple[int, int]
    y: np.ndarray
    x: np.ndarray
    width: float
    background: np.ndarray
    smooth: np.ndarray

    @classmethod
    def of(cls, shape: tuple[int, int]) -> _Field:
        half = 0.5 * math.hypot(*shape)
        y, x = ((np.indices(shape).reshape(2, -1).T - 0.5 * (np.array(shape) - 1)) / half).T
        powers = [(i, j) for i in range(_SMOOTH_DEGREE + 1) for j in range(_SMOOTH_DEGREE + 1 - i)]

        def basis(degree: int) -> np.ndarray:
            columns = [y**i * x**j for i, j in powers if i + j <= degree]
            return np.linalg.qr(np.stack(columns, axis=1))[0]

        return cls(shape, y, x, 1.0 / half, basis(_BACKGROUND_DEGREE), basis(_SMOOTH_DEGREE))


def _depth(y: np.ndarray, x: np.ndarray, direction: float, offset: float, curvature: float) -> np.ndarray:
    along = x * math.cos(direction) + y * math.sin(direction) - offset
    if abs(curvature) < 1e-3:
        return along
    # the centre of the circle lies on the line, a radius away from where the border crosses it
    across = -x * math.sin(direction) + y * math.cos(direction)
    radius = 1.0 / abs(curvature)
    if curvature > 0:
        return np.hypot(along + radius, across) - radius
    return radius - np.hypot(along - radius, across)


def _mask(field: _Field, direction: float, offset: float, curvature: float) -> np.ndarray:
    """Return how much of each block is dark, 0 to 1; the border is as wide as a block."""
    depth = _depth(field.y, field.x, direction, offset, curvature)
    return np.clip(0.5 + depth / field.width, 0.0, 1.0)


@lru_cache(maxsize=2)
def _borders(shape: tuple[int, int]) -> tuple[list[Border], np.ndarray]:
    """Return borders over the whole field, and their masks without their smooth part, of unit length: (n, blocks)."""
    field = _Field.of(shape)
    borders: list[Border] = []
    masks: list[np.ndarray] = []
    for curvature in _CURVATURES:
        for direction in np.arange(_DIRECTIONS) * (2 * math.pi / _DIRECTIONS):
            for offset in np.linspace(-0.9, 0.9, _OFFSETS):
                mask = _mask(field, float(direction), float(offset), curvature)
                if _SMALLEST_PART < mask.mean() < 1 - _SMALLEST_PART:
                    borders.append((float(direction), float(offset), curvature))
                    masks.append(mask.astype(np.float32))
    steps = np.stack(masks)
    basis = field.background.astype(np.float32)
    steps -= (steps @ basis) @ basis.T
    steps /= np.maximum(np.sqrt((steps**2).sum(axis=1, keepdims=True)), 1e-6)
    return borders, steps


def _starts(field: _Field, left: np.ndarray) -> list[Border]:
    """Return the best borders of the coarse search: one of film and one of a blob, since a climb finds only its own."""
    borders, steps = _borders(field.shape)
    match = steps @ left.astype(np.float32)
    blob = np.array([border[2] < STRAIGHTEST_BLOB for border in borders])
    return [borders[int(np.argmin(np.where(family, match, np.inf)))] for family in (blob, ~blob) if family.any()]


def _explain(field: _Field, left: np.ndarray, border: Border) -> _Found:
    mask = _mask(field, *border)
    if not _SMALLEST_PART < mask.mean() < 1 - _SMALLEST_PART:
        return _Found(border, 0.0, 0.0)
    step = mask - field.background @ (field.background.T @ mask)
    size = float(step @ step)
    match = float(step @ left)
    if match >= 0 or size <= 0:
        return _Found(border, 0.0, 0.0)
    return _Found(border, match**2 / size, -match / size)


def _refine(field: _Field, left: np.ndarray, start: Border) -> _Found:
    """Climb from a border to the best one near it, with smaller and smaller steps."""
    best = _explain(field, left, start)
    sizes = np.array([math.pi / _DIRECTIONS, 0.05, 0.4])
    for _ in range(6):
        moved = True
        rounds = 0
        while moved and rounds < 6:
            moved, rounds = False, rounds + 1
            for axis in range(3):
                for sign in (1.0, -1.0):
                    border = list(best.border)
                    border[axis] += sign * float(sizes[axis])
                    found = _explain(field, left, (border[0], border[1], border[2]))
                    if found.explained > best.explained:
                        best, moved = found, True
        sizes = sizes / 2
    return best
