"""Estimate how a movie moved: as a whole and from place to place."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from focusnb.ops.dose import Dose
from focusnb.ops.frames import CorrectedFrames
from focusnb.ops.motion.align import (
    CLEARLY,
    RESOLUTION,
    SIGNIFICANT,
    estimate_shifts,
    is_doubtful,
    other_starts,
    refine_shifts,
    start_shifts,
)
from focusnb.ops.motion.band import BinnedFrames, bin_frames, transform_frames
from focusnb.ops.motion.evidence import FINE, MOSTLY, Evidence, fine_part
from focusnb.ops.motion.field import MotionField, place_terms
from focusnb.ops.motion.local import WORTH, LocalFit, fit_local_motion, gain_by_local_motion
from focusnb.ops.motion.patches import Patches, cut_patches
from focusnb.ops.motion.signal import Measurement, measure_patches
from focusnb.ops.motion.smoothing import smooth_trajectory

FloatArray = NDArray[np.floating[Any]]

MOST_GROUPS = 120  # frames, or groups of them, that are aligned
LONGEST_STEP = 6.0  # Å a patch may move in one iteration
FEW_FRAMES = 2.0  # frames with which twice the significance is asked for
SWUNG = 0.8  # part of the best significance below which what has not converged went astray
KEPT = 0.9  # part of what a whole-frame path explains that places which move differently may cost
SURELY = 100.0  # gain of local motion that no chance has reached; climbing towards noise has reached 43
SHORT = 2.0  # gain of real local motion over what it gains from unmoved places: 1 to 2, of noise 5 to 40
MOST_MOVED = 1.5  # Å by which windows may lie wrong before they are cut again

Local = Literal["fitted", "rejected", "off"]


@dataclass(frozen=True)
class PatchTracks:
    """What was measured in patches, for plots.

    centres : (p, 2) (y, x) in pixels of the aligned image
    measured : (p, g, 2) shift (dy, dx) of each patch, pixels of the movie, whole-frame motion included; its mean over
        time is that of the model, which alone is known
    weights : (p,) of each patch in the fit, of mean 1
    dropped : (p,) True where a patch disagrees and was left out
    frames : (g,) middle of each group of frames, from 0
    """

    centres: FloatArray
    measured: FloatArray
    weights: FloatArray
    dropped: NDArray[np.bool_]
    frames: FloatArray


@dataclass(frozen=True)
class MotionEstimate:
    """The motion of a movie.

    field : the shifts to apply
    local : whether local motion is part of it, was worse than none on data not used for it, or was not asked for
    uncertainty : root mean square error of a frame's measurement before smoothing, pixels; infinite where the frames
        have no more in common than noise, agree in several places alike, or hardly better than unmoved: then nothing
        is moved; NaN for a single frame
    converged : whether the last iteration changed no shift by more than the tolerance
    iterations : done over patches
    tracks : None where the field is too small for patches
    """

    field: MotionField
    local: Local
    uncertainty: float
    converged: bool
    iterations: int
    tracks: PatchTracks | None


@dataclass(frozen=True)
class _State:
    """Where an iteration stands: whole-frame shifts (t, 2), local coefficients (t, 2, 5), and how it got there."""

    shifts: FloatArray
    coefficients: FloatArray
    change: float
    measurement: Measurement
    measured: FloatArray
    """(p, t, 2, 2) shifts of patches from both halves of the data, less the whole-frame shifts before."""
    before: FloatArray
    """(t, 2) whole-frame shifts before."""
    fit: LocalFit | None


def estimate_motion(
    frames: CorrectedFrames,
    *,
    pixel_size: float,
    dose: Dose | None = None,
    local: bool = True,
    patches: tuple[int, int] | None = None,
    group: int | None = None,
    b_factor: float | None = None,
    resolution: float = RESOLUTION,
    tolerance: float = 0.05,
    iterations: int = 10,
) -> MotionEstimate:
    """Find the shifts that bring the frames of a movie onto each other, at every place of the field.

    pixel_size : Å/px of the movie
    dose : of the frames; frequencies that damage has faded count less in later frames
    local : whether places may move differently
    patches : windows along y and x; None chooses by the size of the field
    group : frames summed before they are compared, at most half of them; None lets 120 be the most that are
    b_factor : Å²; a further low-pass exp(-B k² / 4) on each frame; None leaves it to the measured signal
    resolution : Å, finest frequency used
    tolerance : stop when no shift changes by more, pixels of the movie
    Raises ValueError when a frame is constant, not finite, or too small.
    """
    size = min(group or -(-len(frames) // MOST_GROUPS), max(1, len(frames) // 2))
    binned = bin_frames(frames, pixel_size=pixel_size, group=size)
    shape = frames.shape[1:]
    if len(binned) == 1:
        return MotionEstimate(MotionField(np.zeros((len(frames), 2)), shape), "off", math.nan, True, 0, None)
    grouped = None if dose is None else Dose(dose.per_frame * size, dose.prior, dose.voltage, dose.factor)
    shifts = start_shifts(binned, pixel_size=pixel_size, b_factor=b_factor)

    find = _Finder(binned, shape, pixel_size, grouped, local, patches, b_factor, tolerance, iterations)
    found = find(shifts, resolution)
    if found is None and patches is not None:
        raise ValueError(
            f"{patches[0]} x {patches[1]} patches are too many for frames of {shape[0]} x {shape[1]} pixels; "
            "ask for fewer"
        )
    if found is None:
        return _without_patches(frames, pixel_size, b_factor, resolution, tolerance)
    few = 1.0 + FEW_FRAMES / len(binned)
    if found.trusted and is_doubtful(found.significance / few, found.fine):
        found = find.again(found, shifts, resolution)
    if not found.trusted:
        # noise alone aligns itself to any path: an empty field is better not moved at all
        still = MotionField(np.zeros((len(frames), 2)), shape)
        return MotionEstimate(still, "rejected" if local else "off", float("inf"), False, found.iterations, None)
    state, verdict = found.state, found.verdict
    starts = np.arange(len(binned)) * size
    middle = 0.5 * (starts + np.minimum(starts + size, len(frames)) - 1.0)
    tracks = found.search.tracks(state, middle)
    coefficients = state.coefficients if verdict == "fitted" else None
    field = _every_frame(MotionField(state.shifts, shape, coefficients), middle, len(frames))
    converged = state.change <= tolerance
    return MotionEstimate(field, verdict, found.uncertainty, converged, found.iterations, tracks)


@dataclass(frozen=True)
class _Found:
    """Where a search over patches ended.

    fine : part of what frames have in common that is at short waves
    trusted : whether it is better than no motion
    """

    search: _Search
    state: _State
    verdict: Local
    iterations: int
    fine: float
    trusted: bool

    @property
    def significance(self) -> float:
        """Overlap of all frames over what noise alone would scatter by."""
        return self.state.measurement.significance

    @property
    def uncertainty(self) -> float:
        """Root mean square error of a frame's measurement, pixels."""
        return float(np.sqrt(2.0 / np.median(self.state.measurement.weights.sum(axis=0))))


@dataclass(frozen=True)
class _Finder:
    """Finds the motion of binned frames from a whole-frame path to begin with."""

    binned: BinnedFrames
    shape: tuple[int, int]
    pixel_size: float
    dose: Dose | None
    local: bool
    patches: tuple[int, int] | None
    b_factor: float | None
    tolerance: float
    iterations: int

    def __call__(self, shifts: FloatArray, resolution: float) -> _Found | None:
        """Return what is found from shifts (t, 2), by frequencies up to a resolution; None where no windows fit."""
        windows = self._cut(shifts, resolution)
        if windows is None:
            return None
        search = self._search(windows)
        state, done = search.run(shifts, self.local)
        pixel_size = self.pixel_size
        if np.abs(state.shifts - windows.taken).max() * pixel_size > MOST_MOVED + 0.5 * self.binned.factor * pixel_size:
            windows = self._cut(state.shifts, resolution) or windows
            search = self._search(windows)
            state, more = search.run(state.shifts, self.local)
            done += more
        verdict: Local = "off" if not self.local else "fitted" if search.gain(state) > WORTH else "rejected"
        if verdict == "rejected":
            state, more = search.run(state.shifts, False)
            done += more
        overlap = state.measurement.overlap
        fine = fine_part(overlap, np.arange(len(overlap)) / min(windows.field), pixel_size)
        return _Found(search, state, verdict, done, fine, self._significant(state))

    def again(self, found: _Found, start: FloatArray, resolution: float) -> _Found:
        """Return the likeliest of what is found from several paths, trusted only where it explains more than none.

        found : from the path ``start`` alone
        """
        if found.fine > MOSTLY and self.binned.factor > 1:
            # in coarse pixels a fine ring folds back to where it moves the other way; a large field does without
            resolution = max(resolution, FINE)
            found = self(start, resolution) or found
        band = transform_frames(self.binned, pixel_size=self.pixel_size, resolution=resolution)
        evidence, least = Evidence(band, self.pixel_size), 1.0
        if found.fine > MOSTLY:
            worth, best = evidence.worth(found.state.shifts, found.uncertainty), None
            for path in (start, *other_starts(band, fine=found.fine, pixel_size=self.pixel_size)):
                near = refine_shifts(band, path, self.pixel_size, self.b_factor, self.tolerance, self.iterations)
                if (other := evidence.worth(near.shifts, near.uncertainty)) > worth:
                    worth, best = other, near.shifts
            likelier = None if best is None else self._near(best, evidence, resolution)
            if likelier is not None and likelier.significance > found.significance:
                elsewhere = np.abs(likelier.state.shifts - found.state.shifts).max() * self.pixel_size > MOST_MOVED
                found = replace(likelier, iterations=found.iterations + likelier.iterations)
                # what was looked for all over a map is found more easily in noise
                least = CLEARLY if elsewhere else 1.0
        trusted = (
            found.trusted
            and found.significance >= least * SIGNIFICANT
            and evidence.proves(found.state.shifts, found.uncertainty, fine=found.fine, rough=start)
        )
        return replace(found, trusted=trusted)

    def _near(self, path: FloatArray, evidence: Evidence, resolution: float) -> _Found | None:
        """Return what is found from a path that is likelier than others, or the path itself where that is lost."""
        found = self(path, resolution)
        if found is None or evidence.gain(found.state.shifts) > KEPT * evidence.gain(path):
            return found
        # places that move differently by half a period climb on the wrong side
        state = replace(found.search.stay(path), change=0.0)
        return replace(
            found, state=state, verdict="rejected" if self.local else "off", trusted=self._significant(state)
        )

    def _significant(self, state: _State) -> bool:
        # few frames have found the best of a whole map for each of them
        return state.measurement.significance >= SIGNIFICANT * (1.0 + FEW_FRAMES / len(self.binned))

    def _cut(self, around: FloatArray, resolution: float) -> Patches | None:
        return cut_patches(
            self.binned,
            around,
            pixel_size=self.pixel_size,
            resolution=resolution,
            count=self.patches,
            dose=self.dose,
        )

    def _search(self, windows: Patches) -> _Search:
        return _Search(windows, self.shape, self.pixel_size, self.b_factor, self.tolerance, self.iterations)


class _Search:
    """Iterations over one set of windows."""

    def __init__(
        self,
        patches: Patches,
        shape: tuple[int, int],
        pixel_size: float,
        b_factor: float | None,
        tolerance: float,
        iterations: int,
    ) -> None:
        self.patches, self.shape, self.pixel_size = patches, shape, pixel_size
        self.tolerance, self.iterations = tolerance, iterations
        rings = np.arange(patches.fading.shape[1]) / (min(patches.field) * pixel_size)
        self.low_pass = None if b_factor is None else np.exp(-0.5 * b_factor * rings**2)

    def run(self, shifts: FloatArray, local: bool) -> tuple[_State, int]:
        """Iterate from whole-frame shifts (t, 2); returns the last state and the number of iterations.

        Where they end without agreement, and far from the best one seen, that is returned.
        """
        coefficients: FloatArray = np.zeros((len(shifts), 2, 5))
        best: _State | None = None
        for iteration in range(1, self.iterations + 1):
            state = self._step(shifts, coefficients, local)
            if best is None or state.measurement.significance > best.measurement.significance:
                # what was measured belongs to where the step began
                best = replace(state, shifts=shifts, coefficients=coefficients)
            if iteration > self.iterations // 2:
                # lest two solutions alternate
                state = _State(
                    0.5 * (state.shifts + shifts),
                    0.5 * (state.coefficients + coefficients),
                    0.5 * state.change,
                    state.measurement,
                    state.measured,
                    state.before,
                    state.fit,
                )
            shifts, coefficients = state.shifts, state.coefficients
            if state.change <= self.tolerance:
                break
        else:
            # a sharp ring agrees with itself a period further as well: frames may swing from one place to another
            if best is not None and state.measurement.significance < SWUNG * best.measurement.significance:
                state = best
        return state, iteration

    def stay(self, shifts: FloatArray) -> _State:
        """Return the state at whole-frame shifts (t, 2), measured and not moved."""
        coefficients: FloatArray = np.zeros((len(shifts), 2, 5))
        return replace(self._step(shifts, coefficients, False), shifts=shifts, coefficients=coefficients)

    def _at_patches(self, shifts: FloatArray, coefficients: FloatArray) -> FloatArray:
        terms = place_terms(self.patches.centres[:, 0], self.patches.centres[:, 1], self.shape)
        moved: FloatArray = shifts[None] + np.einsum("tak,pk->pta", coefficients, terms)
        return moved

    def _step(self, shifts: FloatArray, coefficients: FloatArray, local: bool) -> _State:
        assumed = self._at_patches(shifts, coefficients)
        measurement = measure_patches(self.patches, assumed, low_pass=self.low_pass)
        steps = measurement.steps
        longest = LONGEST_STEP / self.pixel_size
        length = np.hypot(*np.moveaxis(steps.mean(axis=2), -1, 0))
        steps = steps * np.minimum(1.0, longest / np.maximum(length, 1e-9))[..., None, None]
        measured = assumed[:, :, None, :] + steps - shifts[None, :, None, :]
        weights, fit = measurement.weights, None
        if local:
            fit = fit_local_motion(measured, weights, self.patches.centres, self.shape, pixel_size=self.pixel_size)
            coefficients = fit.coefficients
            weights = np.where(fit.dropped[:, None], 0.0, weights)
        rest = measured.mean(axis=2) - self._at_patches(np.zeros_like(shifts), coefficients)
        mean = shifts + np.einsum("pt,pta->ta", weights, rest) / weights.sum(axis=0)[:, None]
        smooth = smooth_trajectory(mean, 1.0 / weights.sum(axis=0))
        smooth = smooth - smooth[0]
        after = self._at_patches(smooth, coefficients)
        change = after - assumed
        # a constant of a patch is no motion
        change = change - change.mean(axis=1, keepdims=True)
        return _State(smooth, coefficients, float(np.abs(change).max()), measurement, measured, shifts, fit)

    def gain(self, state: _State) -> float:
        """Return what the local motion of a state gains on data it has not seen.

        Where the iterations led, both halves of the data have led: what they say from there is not independent. So
        what is not large is measured again from places that have not moved. Steps from there fall short of the motion,
        so that twice that gain counts, where it is the smaller one.
        """
        climbed = self._unseen(state)
        if not WORTH < climbed < SURELY:
            return climbed
        unmoved = self._step(state.shifts, np.zeros_like(state.coefficients), True)
        return min(climbed, SHORT * self._unseen(unmoved))

    def _unseen(self, state: _State) -> float:
        assert state.fit is not None
        return gain_by_local_motion(
            state.measured,
            state.measurement.weights,
            self.patches.centres,
            self.shape,
            pixel_size=self.pixel_size,
            dropped=state.fit.dropped,
        )

    def tracks(self, state: _State, middle: FloatArray) -> PatchTracks:
        """Return what was measured last, beside the state it led to."""
        measured = state.measured.mean(axis=2) + state.before[None]
        weights = state.measurement.weights.mean(axis=1)
        dropped = np.zeros(len(weights), bool) if state.fit is None else state.fit.dropped
        return PatchTracks(self.patches.centres, measured, weights / weights.mean(), dropped, middle)


def _without_patches(
    frames: CorrectedFrames, pixel_size: float, b_factor: float | None, resolution: float, tolerance: float
) -> MotionEstimate:
    """Align a field that is too small for windows."""
    found = estimate_shifts(
        frames, pixel_size=pixel_size, b_factor=b_factor, resolution=resolution, tolerance=tolerance
    )
    field = MotionField(found.shifts, frames.shape[1:])
    return MotionEstimate(field, "off", found.uncertainty, found.converged, found.iterations, None)


def _every_frame(field: MotionField, middle: FloatArray, frames: int) -> MotionField:
    """Return the field for each frame where it is known for groups of them: between their middles it is linear."""
    if len(field) == frames:
        return field

    def spread(values: FloatArray) -> FloatArray:
        time, flat = np.arange(frames), values.reshape(len(values), -1)
        columns = [np.interp(time, middle, column) for column in flat.T]
        # before the first middle and after the last one motion goes on as it did
        for column, known in zip(columns, flat.T, strict=True):
            early, late = time < middle[0], time > middle[-1]
            column[early] = known[0] + (time[early] - middle[0]) * (known[1] - known[0]) / (middle[1] - middle[0])
            column[late] = known[-1] + (time[late] - middle[-1]) * (known[-1] - known[-2]) / (middle[-1] - middle[-2])
        result = np.stack(columns, axis=1).reshape(frames, *values.shape[1:])
        return result - result[:1]

    return MotionField(spread(field.shifts), field.shape, None if field.local is None else spread(field.local))
