"""Running mean and variance of images: one image more, two sums put together, one taken out of another.

The updates are those of Welford (1962) and of Chan, Golub & LeVeque (1979): they sum deviations from the running mean,
so that a small spread on a large mean keeps its digits, which a sum of squares would lose.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from focusnb.errors import ParameterError
from focusnb.ops.backend import Array, array_namespace

_CHUNK = 1 << 17  # pixels of a few arrays that stay in the cache of a core


@dataclass(slots=True)
class Sums:
    """What is known of the images added so far; changed in place, because an image is large.

    count : images
    mean : (y, x) float32 or float64, their mean less ``offset``
    deviations : (y, x), sum over the images of (image − mean)²; None where only the mean is wanted
    offset : taken off every image before it is summed. With the level of the first image as offset, float32 sums of
        1000 ± 5 are rounded like numbers of the size of 5, not of 1000.
    """

    count: int
    mean: Array
    deviations: Array | None
    offset: float = 0.0

    @classmethod
    def empty(
        cls, like: Array, *, deviations: bool = True, dtype: Any = np.float64, level: float | None = None
    ) -> Sums:
        """Begin with no image.

        like : array whose shape and device the sums take; dtype : of the sums; level : near the mean to come
        """
        xp = array_namespace(like)
        # rounded, so that it is the same number in sums of float32
        offset = 0.0 if level is None else float(np.float32(level))
        return cls(0, xp.zeros(like.shape, dtype), xp.zeros(like.shape, dtype) if deviations else None, offset)

    def add(self, image: Array) -> None:
        """Add one image (y, x) of any type (Welford 1962)."""
        self._check(image, 1)
        xp = array_namespace(self.mean, image)
        self.count += 1
        weight, share = 1.0 / self.count, (self.count - 1) / self.count
        for rows in self._rows():
            mean = self.mean[rows]
            off = xp.asarray(image[rows], dtype=mean.dtype) - self.offset
            off -= mean
            mean += off * weight
            if self.deviations is not None:
                off *= off
                off *= share
                deviations = self.deviations[rows]
                deviations += off

    def merge(self, other: Sums) -> None:
        """Add all images of other sums (Chan, Golub & LeVeque 1979); their type may be another."""
        self._check(other.mean, other.count)
        if other.count == 0:
            return
        xp = array_namespace(self.mean, other.mean)
        count = self.count + other.count
        weight, share = other.count / count, self.count * other.count / count
        for rows in self._rows():
            mean = self.mean[rows]
            off = xp.asarray(other.mean[rows], dtype=mean.dtype) + (other.offset - self.offset)
            off -= mean
            mean += off * weight
            if self.deviations is not None:
                off *= off
                off *= share
                deviations = self.deviations[rows]
                deviations += off
                deviations += xp.asarray(_deviations(other)[rows], dtype=mean.dtype)
        self.count = count

    def remove(self, other: Sums) -> None:
        """Take out images that are among those added: the inverse of :meth:`merge`.

        Meant for sums in float64: digits that the images taken out had claimed do not come back.
        """
        self._check(other.mean, other.count)
        if other.count > self.count:
            raise ParameterError(f"{other.count} images cannot be taken out of {self.count}")
        if other.count == 0:
            return
        xp = array_namespace(self.mean, other.mean)
        left = self.count - other.count
        for rows in self._rows():
            mean = self.mean[rows]
            if left == 0:
                mean *= 0.0
                if self.deviations is not None:
                    self.deviations[rows] *= 0.0
                continue
            there = xp.asarray(other.mean[rows], dtype=mean.dtype) + (other.offset - self.offset)
            mean -= (there - mean) * (other.count / left)
            if self.deviations is not None:
                there -= mean
                there *= there
                there *= left * other.count / self.count
                deviations = self.deviations[rows]
                deviations -= there
                deviations -= xp.asarray(_deviations(other)[rows], dtype=mean.dtype)
                deviations *= deviations > 0  # a rest of rounding may be below zero, a square is not
        self.count = left

    def average(self) -> Array:
        """Return the mean (y, x) of the images, with the offset; ParameterError if there is none."""
        if self.count == 0:
            raise ParameterError("a mean needs 1 image, there is none")
        return self.mean + self.offset

    def variance(self) -> Array:
        """Return the sample variance (y, x), that is the squared deviations over count − 1.

        Raises ParameterError for fewer than 2 images, which have none, and for sums without deviations.
        """
        if self.count < 2:
            raise ParameterError(f"a variance needs 2 images, there are {self.count}")
        return _deviations(self) * (1.0 / (self.count - 1))

    def _rows(self) -> Iterator[slice]:
        height, width = self.mean.shape
        step = max(1, _CHUNK // max(1, width))
        for start in range(0, height, step):
            yield slice(start, start + step)

    def _check(self, image: Array, count: int) -> None:
        if tuple(image.shape) != tuple(self.mean.shape):
            raise ParameterError(
                f"{count} of shape {tuple(image.shape)} cannot be summed with {self.count} of {tuple(self.mean.shape)}"
            )


def _deviations(sums: Sums) -> Array:
    if sums.deviations is None:
        raise ParameterError("these sums hold no deviations; begin them with deviations=True")
    return sums.deviations
