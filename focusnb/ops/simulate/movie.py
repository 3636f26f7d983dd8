"""A simulated movie: specimen, optics, motion, damage and detector put together, with the truth beside it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import numpy as np
import scipy.fft
from numpy.typing import NDArray

from focusnb.ops.simulate.damage import decay_rate, frame_dose, mean_decay
from focusnb.ops.simulate.detector import (
    Detector,
    DetectorSettings,
    count_electrons,
    make_detector,
    modulation_transfer,
)
from focusnb.ops.simulate.motion import Motion, MotionSettings, move_locally, shift_phases, simulate_motion
from focusnb.ops.simulate.optics import Optics, contrast_transfer, envelope, frequencies, slab_height
from focusnb.ops.simulate.specimen import Specimen, SpecimenSettings, extend_micrograph, make_specimen

FloatArray = NDArray[np.floating[Any]]
IntArray = NDArray[np.integer[Any]]
ComplexArray = NDArray[np.complexfloating[Any, Any]]

SLAB_STEP = 40.0
"""Å of defocus between the planes a tilted slab is composed of: 0.3 rad at 3 Å, 300 kV."""
MICROGRAPH_CONTRAST = 0.12
"""Standard deviation of a real micrograph used as the specimen: that of about 70 electrons per pixel."""


@dataclass(frozen=True)
class MovieSpec:
    """All that describes a movie but its random numbers.

    shape : (ny, nx) pixels
    pixel_size : Å/px
    dose_per_frame, prior_dose : e⁻/Å², as counted through the specimen's ice
    damage : whether amplitudes fade with dose
    dtype : unsigned integer type of the frames
    """

    shape: tuple[int, int] = (1024, 1024)
    frames: int = 24
    pixel_size: float = 1.06
    dose_per_frame: float = 1.0
    prior_dose: float = 0.0
    damage: bool = True
    dtype: str = "uint8"
    specimen: SpecimenSettings = field(default_factory=SpecimenSettings)
    optics: Optics = field(default_factory=Optics)
    motion: MotionSettings = field(default_factory=MotionSettings)
    detector: DetectorSettings = field(default_factory=DetectorSettings)

    @property
    def electrons_per_pixel(self) -> float:
        """Expected electrons per pixel and frame."""
        return self.dose_per_frame * self.pixel_size**2


@dataclass(frozen=True)
class Truth:
    """What was simulated, as plain numbers.

    motion : shifts *to apply*, zero in frame 0 (see ``Motion``)
    particles : (n, 2) centres (y, x) in pixels of frame 0, those inside the field

    Where a real micrograph was the specimen, its defocus is not known: ``spec.optics`` and ``particles`` say nothing.
    """

    seed: int
    spec: MovieSpec
    motion: Motion
    particles: FloatArray

    @property
    def shift(self) -> FloatArray:
        """(t, 2) whole-frame shift (dy, dx) to apply, pixels; without local motion."""
        return self.motion.shift

    def shift_at(self, t: Any, y: Any, x: Any) -> FloatArray:
        """Return the whole shift (..., 2) to apply in frame t at pixel positions y, x of the aligned image."""
        return self.motion.shift_at(t, y, x)

    def field_mean(self) -> FloatArray:
        """Return the shift to apply averaged over the field, (t, 2): what a whole-frame alignment should find."""
        return self.motion.field_mean()

    def to_json(self) -> str:
        """Return the truth as JSON text."""
        data = {
            "seed": self.seed,
            "spec": asdict(self.spec),
            "shift": self.motion.shift.tolist(),
            "local_time": self.motion.local_time.tolist(),
            "local_field": self.motion.local_field.tolist(),
            "field_mean": self.field_mean().tolist(),
            "particles": self.particles.tolist(),
        }
        return json.dumps(data, indent=1)

    @classmethod
    def from_json(cls, text: str) -> Truth:
        """Inverse of :meth:`to_json`."""
        data = json.loads(text)
        spec = dict(data["spec"])
        spec["shape"] = tuple(spec["shape"])
        detector = dict(spec["detector"], hot_counts=tuple(spec["detector"]["hot_counts"]))
        spec.update(
            specimen=SpecimenSettings(**spec["specimen"]),
            optics=Optics(**spec["optics"]),
            motion=MotionSettings(**spec["motion"]),
            detector=DetectorSettings(**detector),
        )
        motion = Motion(
            shift=np.array(data["shift"]),
            local_time=np.array(data["local_time"]),
            local_field=np.array(data["local_field"]),
            shape=spec["shape"],
        )
        return cls(data["seed"], MovieSpec(**spec), motion, np.array(data["particles"]).reshape(-1, 2))


@dataclass(frozen=True)
class SimulatedMovie:
    """A movie as the camera records it.

    frames : (t, y, x) raw counts, not gain corrected
    detector : gain, hot and dead pixels; corrected = raw * detector.gain
    truth : what was simulated
    projection : (y, x) float32, noise-free undamaged image in the frame of frame 0, electrons per pixel and frame
    """

    frames: IntArray
    detector: Detector
    truth: Truth
    projection: FloatArray

    @property
    def gain(self) -> FloatArray:
        """(y, x) float32 gain reference, 0 at dead pixels."""
        return self.detector.gain


@dataclass(frozen=True)
class _Scene:
    """The specimen's image before it moves: half spectrum of relative intensity on a field with margins."""

    spectrum: ComplexArray
    shape: tuple[int, int]
    origin: tuple[int, int]
    rate: FloatArray
    particles: FloatArray


def simulate_movie(
    spec: MovieSpec, seed: int, *, detector: Detector | None = None, micrograph: FloatArray | None = None
) -> SimulatedMovie:
    """Simulate a movie; the same spec and seed give the same counts.

    detector : the camera of a session; without it one is drawn from the seed
    micrograph : (y, x) a real micrograph as the specimen, larger than ``spec.shape`` by the motion; it brings its own
        contrast transfer, so ``spec.optics`` only describes it and ``spec.specimen`` is not used
    """
    streams = _streams(seed)
    motion = simulate_motion(
        spec.motion, spec.shape, frames=spec.frames, dose_per_frame=spec.dose_per_frame, rng=streams["motion"]
    )
    camera = detector or make_detector(spec.detector, spec.shape, streams["detector"])
    if camera.gain.shape != spec.shape:
        raise ValueError(f"the detector has {camera.gain.shape} pixels, the movie {spec.shape}")
    scene = _make_scene(spec, motion, streams["specimen"], micrograph)
    frames = np.empty((spec.frames, *spec.shape), spec.dtype)
    for t, expected in enumerate(_expected_frames(spec, scene, motion)):
        frames[t] = count_electrons(expected, camera, streams["counts"], frames.dtype)
    truth = Truth(seed, spec, motion, _inside(scene, spec.shape))
    return SimulatedMovie(frames, camera, truth, _project(spec, scene))


def simulate_micrograph(spec: MovieSpec, seed: int) -> tuple[FloatArray, Truth]:
    """Simulate the perfectly aligned plain mean of a movie, without making its frames.

    Returns the micrograph (y, x) float32 in electrons per pixel and frame, from an ideal gain and without bad pixels,
    and the truth (without motion).
    """
    streams = _streams(seed)
    still = replace(spec, motion=MotionSettings(burst=0.0, drift=0.0, walk=0.0, local=0.0))
    motion = simulate_motion(
        still.motion, spec.shape, frames=spec.frames, dose_per_frame=spec.dose_per_frame, rng=streams["motion"]
    )
    scene = _make_scene(still, motion, streams["specimen"], None)
    if spec.damage:
        doses = frame_dose(spec.frames, spec.dose_per_frame, spec.prior_dose)
        scene = replace(scene, spectrum=scene.spectrum * mean_decay(scene.rate, doses))
    counts = streams["counts"].poisson(np.maximum(spec.frames * _project(spec, scene), 0.0))
    return (counts / spec.frames).astype(np.float32), Truth(seed, still, motion, _inside(scene, spec.shape))


def _streams(seed: int) -> dict[str, np.random.Generator]:
    """Independent random numbers by subject, so that more frames do not change the specimen."""
    names = ("specimen", "motion", "detector", "counts")
    children = np.random.SeedSequence(seed).spawn(len(names))
    return {name: np.random.default_rng(child) for name, child in zip(names, children, strict=True)}


def _make_scene(spec: MovieSpec, motion: Motion, rng: np.random.Generator, micrograph: FloatArray | None) -> _Scene:
    """Form the image of the specimen on a field so much larger that no motion brings its far side in."""
    largest = motion.reach()[0]
    margin = int(np.ceil(largest)) + 16
    if micrograph is None:
        shape = tuple(scipy.fft.next_fast_len(n + 2 * margin, real=True) for n in spec.shape)
    else:
        if any(n < m + 2 * int(np.ceil(largest)) for n, m in zip(micrograph.shape, spec.shape, strict=True)):
            raise ValueError(
                f"a micrograph of {micrograph.shape} pixels is too small for frames of {spec.shape} that move by up to "
                f"{largest:.1f} px: use smaller frames or less motion"
            )
        shape = tuple(scipy.fft.next_fast_len(n + 32, real=True) for n in micrograph.shape)
    shape = (shape[0] + shape[0] % 2, shape[1] + shape[1] % 2)
    ky, kx = frequencies(shape, spec.pixel_size)
    if micrograph is None:
        specimen = make_specimen(spec.specimen, shape, pixel_size=spec.pixel_size, voltage=spec.optics.voltage, rng=rng)
        spectrum = _form_image(specimen, spec, shape)
        particles = specimen.particles
        row, column = modulation_transfer(shape, spec.detector.spread)
        spectrum *= row
        spectrum *= column
    else:
        spectrum = scipy.fft.rfft2(extend_micrograph(micrograph, shape, MICROGRAPH_CONTRAST))
        particles = np.empty((0, 2))
    origin = ((shape[0] - spec.shape[0]) // 2, (shape[1] - spec.shape[1]) // 2)
    return _Scene(spectrum, shape, origin, decay_rate(ky, kx, spec.optics.voltage), particles)


def _form_image(specimen: Specimen, spec: MovieSpec, shape: tuple[int, int]) -> ComplexArray:
    """Return the half spectrum of the relative intensity T * (1 + 2 CTF phase)."""
    ky, kx = frequencies(shape, spec.pixel_size)
    phase = specimen.phase * envelope(ky, kx, spec.optics.b_factor)
    phase *= np.float32(2.0)
    plain = isinstance(specimen.transmission, float)
    if spec.optics.tilt_angle == 0.0 and plain:
        spectrum: ComplexArray = phase * contrast_transfer(ky, kx, spec.optics)
        spectrum[0, 0] = shape[0] * shape[1]
        spectrum *= np.float32(specimen.transmission)
        return spectrum
    if spec.optics.tilt_angle == 0.0:
        contrast = scipy.fft.irfft2(phase * contrast_transfer(ky, kx, spec.optics), s=shape)
    else:
        contrast = _slab_contrast(phase, spec, shape)
    image = np.maximum(np.float32(1.0) + contrast, np.float32(0.0)) * np.float32(specimen.transmission)
    formed: ComplexArray = scipy.fft.rfft2(image)
    return formed


def _slab_contrast(phase: ComplexArray, spec: MovieSpec, shape: tuple[int, int]) -> FloatArray:
    """Return the contrast of a tilted slab: images at planes of constant defocus, blended by each pixel's height."""
    ky, kx = frequencies(shape, spec.pixel_size)
    height = slab_height(shape, spec.pixel_size, spec.optics) / np.float32(SLAB_STEP)
    contrast = np.zeros(shape, np.float32)
    for plane in range(int(np.floor(height.min())), int(np.ceil(height.max())) + 1):
        weight = np.maximum(np.float32(0.0), np.float32(1.0) - np.abs(height - np.float32(plane)))
        transfer = contrast_transfer(ky, kx, spec.optics, extra_defocus=plane * SLAB_STEP)
        contrast += weight * scipy.fft.irfft2(phase * transfer, s=shape)
    return contrast


def _expected_frames(spec: MovieSpec, scene: _Scene, motion: Motion) -> Iterator[FloatArray]:
    """Yield the expected electrons per pixel of each frame, (y, x) float32."""
    doses = frame_dose(spec.frames, spec.dose_per_frame, spec.prior_dose)
    for t in range(spec.frames):
        row, column = shift_phases(scene.shape, -motion.shift[t])
        spectrum = scene.spectrum * row
        spectrum *= column
        if spec.damage:
            spectrum *= np.exp(np.float32(-doses[t]) * scene.rate)
        image = scipy.fft.irfft2(spectrum, s=scene.shape, overwrite_x=True)
        image *= np.float32(spec.electrons_per_pixel)
        if motion.local_time[t] != 0.0 and motion.local_field.any():
            yield move_locally(image, motion, t, origin=scene.origin)
        else:
            yield _cut(image, scene.origin, spec.shape)


def _project(spec: MovieSpec, scene: _Scene) -> FloatArray:
    image = scipy.fft.irfft2(scene.spectrum, s=scene.shape)
    return _cut(image, scene.origin, spec.shape) * np.float32(spec.electrons_per_pixel)


def _cut(image: FloatArray, origin: tuple[int, int], shape: tuple[int, int]) -> FloatArray:
    return np.ascontiguousarray(image[origin[0] : origin[0] + shape[0], origin[1] : origin[1] + shape[1]])


def _inside(scene: _Scene, shape: tuple[int, int]) -> FloatArray:
    places = scene.particles - np.array(scene.origin)
    inside: FloatArray = places[((places >= 0) & (places < np.array(shape))).all(axis=1)]
    return inside
