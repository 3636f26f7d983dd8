"""What a movie tells of its camera, as findings and curves: its frames, its pixels, and whether the references fit."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from focusnb.ops.backend import Array
from focusnb.ops.camera import FrameCounts, Pixels, inspect_pixels, measure_frames
from focusnb.ops.gain import GainFit, Orientation, gain_contrast, sample_windows

LOW, HIGH = 0.7, 1 / 0.7
"""Counts of a frame, relative to the usual ones, between which it is as the others."""

BLANK = 0.02
"""Part of a frame without counts from which on it was not read whole."""


@dataclass(frozen=True)
class Camera:
    """What a movie tells of its camera."""

    counts: FrameCounts
    pixels: Pixels

    @classmethod
    def of(
        cls, raw: Array, total: Array, filled: Array, *, hot: Array, known: Array, listed: Array | None = None
    ) -> Camera:
        """Look at raw frames (t, y, x) before their pixels are replaced; see :func:`ops.camera.inspect_pixels`."""
        return cls(
            measure_frames(raw, bad=hot | known),
            inspect_pixels(total, filled=filled, hot=hot, known=known, listed=listed),
        )

    @property
    def odd_frames(self) -> int:
        """Frames with far fewer or more counts than the others, or none in a part of them."""
        means = self.counts.means
        return int(np.count_nonzero((means < LOW) | (means > HIGH) | (self.counts.blank > BLANK)))

    def findings(self, gain: GainFit | None) -> dict[str, Any]:
        """The numbers, by the names of their quantities."""
        scale = self.counts.scale
        return {
            "counts_per_electron_measured": scale if scale else None,
            "odd_frames": self.odd_frames,
            "hot_pixels": self.pixels.hot,
            "dead_pixels": self.pixels.dead,
            "bad_lines": self.pixels.lines,
            "gain_pattern": None if gain is None or not gain.scale else gain.pattern,
        }

    def curves(self, fit: GainFit | None, gain: Array | None) -> dict[str, list[float]]:
        """Lists of numbers by name; orientations as quarter turns and flips, one list each."""
        pixels = self.pixels
        curves: dict[str, list[float]] = {
            "frame_counts": [round(float(value), 4) for value in self.counts.means],
            "frame_blank": [round(float(value), 4) for value in self.counts.blank],
        }
        if fit is not None and gain is not None:
            turned, values = zip(*fit.correlations, strict=True)
            curves |= _orientations("gain", turned)
            curves |= {"gain_correlation": list(values), "gain_scale": [fit.scale], "gain_pixels": [fit.pixels]}
            curves["gain_contrast"] = [_contrast(gain)]
        if pixels.orientations:
            curves |= _orientations("defects", pixels.orientations)
            curves |= {"defects_hits": list(pixels.hits)}
            curves |= {"defects_listed": [pixels.listed], "defects_odd": [pixels.odd_listed]}
        return curves


def _orientations(what: str, orientations: tuple[Orientation, ...]) -> dict[str, list[float]]:
    return {
        f"{what}_rotation": [one.rotation for one in orientations],
        f"{what}_flip": [int(one.flip) for one in orientations],
    }


def _contrast(gain: Array) -> float:
    windows = sample_windows(gain)
    return 0.0 if windows is None else gain_contrast(windows)
