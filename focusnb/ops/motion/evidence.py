"""Which of several paths explains a movie, and whether any does better than no motion at all.

A search that climbs from frame to frame stops at the next summit. Where sharp rings of crystalline ice or the spots of
a lattice carry nearly all that frames have in common, summits lie one period of the ring, 4 Å, apart, and a start that
is right within an ångström or two may lie on the slope of the wrong one. So a search begins at several places, and the
data choose: by the likelihood of a common signal and independent noise whose powers are not known, ring by ring (a
generalised likelihood ratio; Kay 1998, chapter 6). A ring's power enters by its logarithm, so that what it repeats a
thousand times is not believed a thousand times. More freedom explains more; a path is worth having where it explains
clearly more than its own freedom would (MacKay 2003, chapter 28).
"""

from __future__ import annotations

from typing import Any

import numpy as np
import scipy.fft
import scipy.ndimage
from numpy.typing import NDArray

from focusnb.ops.motion.band import Band, move_phases, ring_sum, sum_moved, sum_power
from focusnb.ops.motion.start import Grid, whitening

FloatArray = NDArray[np.floating[Any]]

FINE = 6.0  # Å; waves shorter than this can be climbed on the wrong side from where a first search ends
MOSTLY = 0.6  # part of what frames have in common that is so fine, from which on the way there is doubted
NEAREST, FARTHEST = 2.5, 9.0  # Å between which the vectors of a lattice lie whose spots are in use
STANDS_OUT = 0.25  # part of what a path explains that is lost where half of it is moved to such a place
RING_WIDTH = 3.0  # rings over which powers are averaged
CERTAIN = 3.0  # logarithm of 20 to 1, from which on evidence is strong (Kass & Raftery 1995)


class Evidence:
    """What a movie says for paths (t, 2): shifts to apply to its frames, in pixels of the movie."""

    def __init__(self, band: Band, pixel_size: float) -> None:
        self.band, self.pixel_size, self.frames = band, pixel_size, len(band)
        self._power = sum_power(band)
        self._count = ring_sum(band, band.use)
        self._near = np.maximum(_smooth(self._count), 1e-9)
        self._mean = np.maximum(_smooth(ring_sum(band, self._power)) / self._near / max(self.frames, 1), 1e-12)
        self._still = self._log_likelihood(np.zeros((self.frames, 2)))

    def gain(self, shifts: FloatArray) -> float:
        """Return by how much a path is likelier than no motion: the logarithm of the ratio of their likelihoods."""
        return self._log_likelihood(shifts) - self._still

    def worth(self, shifts: FloatArray, uncertainty: float) -> float:
        """Return by how much a path explains more than by its freedom alone: the logarithm of its odds.

        uncertainty : root mean square error of a frame's measurement, pixels

        A path is a sum of cosines over time. One of length c, found within u, is explained best by a normal prior of
        the variance c² - u², and has then chosen 1 + log(c²/u²); one shorter than u is no more than chance, c²/u²
        (automatic relevance determination: MacKay 2003, chapters 28 and 45). So motion that is smooth in time, which
        few cosines make up, is believed where frames that go each its own way are not; and of two paths that explain
        as much the shorter one is to be had.
        """
        cosines = scipy.fft.dct(np.asarray(shifts, float), axis=0, norm="ortho")[1:]
        moved = (cosines**2).sum(axis=1) / max(uncertainty**2, 1e-12)
        freedom = np.where(moved < 1.0, moved, 1.0 + np.log(np.maximum(moved, 1.0)))
        return self.gain(shifts) - float(freedom.sum())

    def proves(self, shifts: FloatArray, uncertainty: float, *, fine: float, rough: FloatArray) -> bool:
        """Return whether a path (t, 2) is to be believed rather than no motion, or its own repetitions.

        uncertainty : root mean square error of a frame's measurement, pixels
        fine : part of what frames have in common that is at short waves
        rough : (t, 2) the path that long waves alone tell
        """
        return self.worth(shifts, uncertainty) > CERTAIN and not (fine > MOSTLY and self.slips(shifts, rough))

    def slips(self, shifts: FloatArray, rough: FloatArray) -> bool:
        """Return whether a path holds a step that may as well have ended elsewhere.

        rough : (t, 2) the path that long waves alone tell, which know of no lattice

        The spots of a single crystal agree as well where a frame is moved by a vector of the lattice: the place at
        which the aligned sum resembles itself best. Where half of the movie, moved by it, is explained nearly as well,
        only a path that is nowhere half of the vector from the rough one, or whose steps are all shorter than that, is
        told from its repetitions.
        """
        band = self.band
        total = sum_moved(band, move_phases(band, shifts))
        excess = total.real**2 + total.imag**2 - self._power
        grid = Grid(band, self.pixel_size)
        near = grid.window(grid.transform(excess * whitening(band)), grid.reach(FARTHEST))
        y, x = ((np.arange(n) - n // 2) * step for n, step in zip(near.shape, grid.step, strict=True))
        distance = np.hypot(y[:, None], x[None, :]) * self.pixel_size
        near = np.where((distance > NEAREST) & (distance < FARTHEST), near, -np.inf)
        row, column = np.unravel_index(int(np.argmax(near)), near.shape)
        vector = np.array([y[row], x[column]])
        slipped = shifts + np.outer(np.arange(self.frames) >= self.frames // 2, vector)
        if self.gain(slipped) < (1.0 - STANDS_OUT) * self.gain(shifts):
            return False
        apart = shifts - rough
        ways = np.diff(shifts, axis=0), apart - apart.mean(axis=0)
        return all(float(np.hypot(*way.T).max()) > 0.5 * float(np.hypot(*vector)) for way in ways)

    def _log_likelihood(self, shifts: FloatArray) -> float:
        """Return the logarithm of a path's likelihood, but for a constant of the movie.

        In a ring of n frequencies the aligned sum has the power P = N + F S, what is left of the F frames has N; at
        the most likely N and S the likelihood is -n (log P + (F - 1) log N), and S is not negative.
        """
        total = sum_moved(self.band, move_phases(self.band, shifts))
        together = ring_sum(self.band, total.real**2 + total.imag**2) / self.frames
        signal = np.maximum(_smooth(together) / self._near / self._mean, 1.0)
        # frames that are identical leave no noise
        noise = np.maximum((self.frames - signal) / (self.frames - 1.0), 1e-6)
        return -float((self._count * (np.log(signal) + (self.frames - 1.0) * np.log(noise))).sum())


def fine_part(overlap: FloatArray, frequency: FloatArray, pixel_size: float) -> float:
    """Return which part of what frames have in common lies at waves shorter than 6 Å.

    overlap, frequency : of rings or single frequencies: overlap expected of frames with the others, and cycles per
        pixel of the movie
    pixel_size : Å/px
    """
    total = float(overlap.sum())
    return 0.0 if total <= 0.0 else float(overlap[frequency > pixel_size / FINE].sum()) / total


def _smooth(values: FloatArray) -> FloatArray:
    smooth: FloatArray = scipy.ndimage.gaussian_filter1d(values, RING_WIDTH, mode="constant")
    return smooth
