"""Read a movie and correct it for the gain and the defects of the camera."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated, Any

import numpy as np

from focusnb.errors import FormatError, StepError
from focusnb.io.defects import read_defects, read_gain_defects
from focusnb.io.eer import FRACTIONS, EerOptions
from focusnb.io.gain import read_gain
from focusnb.io.movies import Movie, decoding_threads, open_movie, usable_cores
from focusnb.ops import preview, statistics, transfer
from focusnb.ops.backend import Array
from focusnb.ops.defects import fill_bad_pixels, find_hot_pixels, prepare_bad_pixels
from focusnb.ops.frames import CorrectedFrames
from focusnb.ops.gain import GainFit, Orientation, bad_gain_pixels, check_orientation, orient_gain, sample_windows
from focusnb.ops.motion.band import choose_binning
from focusnb.ops.spectrum import choose_sampling, power_spectrum
from focusnb.parameters import quantity
from focusnb.quantities import (
    CountsPerElectron,
    Defects,
    DosePerFrame,
    ExposureDose,
    ExposureTime,
    FrameCount,
    GainFlip,
    GainReference,
    GainRotation,
    MovieFile,
    PixelSize,
    SuperResolution,
)
from focusnb.steps.base import Cost, Step, StepInputs, StepParams
from focusnb.steps.prepare import PreparedMovie, device_memory
from focusnb.steps.prepare.camera import Camera
from focusnb.steps.work import Work

FindHotPixels = Annotated[
    bool, quantity("Find hot pixels", group="Correction", help="Replace pixels far above their neighbourhood as well.")
]
DoseFactor = Annotated[
    float,
    quantity(
        "Dose from counts",
        unit="",
        group="Dose",
        gt=0,
        advanced=True,
        help="Electrons on the specimen for each one counted, used where no dose is given.",
    ),
]
EerFractions = Annotated[
    int,
    quantity("EER fractions", unit="", group="EER", ge=1, le=65535, help="Frames an EER movie is cut into."),
]
EerDosePerFraction = Annotated[
    float,
    quantity(
        "EER dose per fraction",
        unit="e⁻/Å²",
        group="EER",
        gt=0,
        advanced=True,
        help="Decides on the number of fractions instead, where the dose of the exposure is known.",
    ),
]
EerUpsampling = Annotated[
    int,
    quantity("EER upsampling", unit="×", group="EER", ge=1, le=2, help="1 is the grid of the detector (4K), 2 is 8K."),
]


class PrepareMovie(Step):
    """Correct the frames of a movie for the gain and the bad pixels of the camera, and measure its counts.

    The movie stays as recorded in memory; a frame is corrected when it is taken. Bad pixels are those the gain
    reference marks with 0, those of the defects file, and hot ones found in the sum. Whether the gain reference lies as
    the counts say is checked, not changed.
    """

    name = "prepare_movie"
    title = "Prepare the movie"
    version = "2"
    category = "prepare"
    gpu = "uses"

    class Inputs(StepInputs):
        """The recorded movie and what is known of the camera."""

        movie: MovieFile
        pixel_size: PixelSize
        gain_reference: GainReference | None = None
        gain_rotation: GainRotation = 0
        gain_flip: GainFlip = False
        defects: Defects | None = None
        super_resolution: SuperResolution = 1
        counts_per_electron: CountsPerElectron = 1.0
        frame_count: FrameCount | None = None
        exposure_time: ExposureTime | None = None
        dose_per_frame: DosePerFrame | None = None
        exposure_dose: ExposureDose | None = None

    class Params(StepParams):
        """How bad pixels and the dose are found, and what is made of the electrons of an EER movie."""

        find_hot_pixels: FindHotPixels = True
        dose_factor: DoseFactor = 1.0
        eer_fractions: EerFractions = FRACTIONS
        eer_dose_per_fraction: EerDosePerFraction | None = None
        eer_upsampling: EerUpsampling = 1

    Results = PreparedMovie

    @classmethod
    def check_files(cls, files: Mapping[str, str]) -> None:
        """Open the movie, which reads its directory."""
        if "movie" in files:
            open_movie(files["movie"]).close()

    def cost(self, facts: Mapping[str, Any], params: Any) -> Cost:
        """The movie as integers, and a few frames as numbers."""
        pixels = int(facts.get("width") or 4096) * int(facts.get("height") or 4096)
        frames = int(facts.get("frame_count") or 50)
        if facts.get("hardware_frames"):
            options = _eer_options(params, facts.get("exposure_dose"))
            groups = options.cut(int(facts["hardware_frames"]))
            pixels *= options.upsampling**2
            frames = len(groups) * (1 if len(groups[-1]) < 256 else 2)
        return Cost(memory=300_000_000 + pixels * (frames + 40), gpu_memory=device_memory(facts, frames, pixels))

    def run(self, inputs: Inputs, params: Params, work: Work) -> PreparedMovie:
        """Read, find the bad pixels, measure counts and dose."""
        work.report("Reading the movie", 0.0)
        with open_movie(inputs.movie, eer=_eer_options(params, inputs.exposure_dose)) as movie:
            try:
                raw, held = _read(movie, work.xp, inputs.pixel_size)
            except ValueError as error:
                raise StepError(f"{Path(inputs.movie).name}: {error}") from error
            finer = int(movie.header_facts.get("eer_upsampling", 0))
            groups = _eer_options(params, inputs.exposure_dose).cut(int(movie.header_facts.get("hardware_frames", 0)))
            for remark in movie.remarks():
                work.report(remark)
        of_eer, finer = finer > 0, max(finer, 1)
        pixel_size, super_resolution = inputs.pixel_size / finer, inputs.super_resolution * finer
        frame_shape = (int(raw.shape[1]), int(raw.shape[2]))
        gain = self._gain(inputs, frame_shape, of_eer, work)
        work.report("Finding bad pixels", 0.5)
        try:
            frames, mean, camera = self._correct(inputs, params, raw, held, gain, work)
        except ValueError as error:
            raise StepError(f"{Path(inputs.movie).name}: {error}") from error
        work["frames"] = frames
        work["unaligned_sum"] = mean
        # a super-resolution pixel covers a part of a physical one
        counts = statistics.mean_counts(mean, frames=1, detector_pixels=1 / super_resolution**2)
        physical = pixel_size * super_resolution
        measured = statistics.dose_from_counts(counts, physical, factor=params.dose_factor) if counts > 0 else None
        used, origin = _dose(inputs, len(frames), measured, of_eer)
        bad = 0 if frames.bad_pixels is None else len(frames.bad_pixels)
        work.report(f"{len(frames)} frames, {bad} bad pixels, {counts:.3f} e⁻/px/frame", 0.8)
        if camera.odd_frames:
            work.report(f"{camera.odd_frames} frames have far fewer or more counts than the others, or are not whole")
        fit = None if gain is None else _check_gain(inputs, mean, gain, work)
        windows = None if work.session is None else sample_windows(mean)
        before = work.save("unaligned_preview", preview.micrograph_preview(mean, pixel_size=pixel_size))
        # sampled as the spectrum after correction is, so that the eye can flip between both
        sampling = choose_sampling(pixel_size)
        spectrum = power_spectrum(mean, sampling=sampling)
        return PreparedMovie(
            frames="frames",
            movie_pixel_size=pixel_size,
            eer_grid=finer if of_eer else None,
            eer_grouping=len(groups[0]) if of_eer and len({len(group) for group in groups}) == 1 else None,
            unaligned_sum="unaligned_sum",
            bad_pixels=bad,
            gain_fit=None if fit is None else fit.verdict,  # type: ignore[arg-type]
            **camera.findings(fit),
            mean_counts=counts,
            dose_rate=statistics.dose_rate(counts, inputs.exposure_time / len(frames))
            if inputs.exposure_time
            else None,
            dose_per_frame_measured=measured,
            dose_per_frame_used=used,
            dose_origin=origin,  # type: ignore[arg-type]
            unaligned_windows=None
            if windows is None
            else work.save("unaligned_windows", windows, pixel_size=pixel_size, dtype="float16"),
            camera_curves=work.save("camera_curves", camera.curves(fit, gain)),
            unaligned_preview=before,
            unaligned_spectrum_preview=work.save(
                "unaligned_spectrum_preview",
                preview.spectrum_preview(spectrum, pixel_size=pixel_size * sampling.factor),
            ),
        )

    @staticmethod
    def _gain(inputs: Inputs, frame_shape: tuple[int, int], of_eer: bool, work: Work) -> Array | None:
        if inputs.gain_reference is None:
            return None
        gain = _reference(
            inputs, inputs.gain_reference, lambda path: _read_gain(path, frame_shape=frame_shape, of_eer=of_eer)
        )
        gain = orient_gain(gain, rotation=inputs.gain_rotation, flip=inputs.gain_flip)
        if gain.shape != frame_shape:
            raise StepError(
                f"{Path(inputs.movie).name}: its frames are {frame_shape[1]}×{frame_shape[0]} px and the gain, "
                f"turned {inputs.gain_rotation} × 90°, is {gain.shape[1]}×{gain.shape[0]} px; set gain_rotation to "
                f"{(inputs.gain_rotation + 1) % 4} or {(inputs.gain_rotation + 3) % 4}"
            )
        return work.xp.asarray(gain)

    @staticmethod
    def _correct(
        inputs: Inputs, params: Params, raw: Array, held: dict[str, Any], gain: Array | None, work: Work
    ) -> tuple[CorrectedFrames, Array, Camera]:
        xp, shape = work.xp, (int(raw.shape[1]), int(raw.shape[2]))
        known, listed = xp.zeros(shape, dtype=bool) if gain is None else bad_gain_pixels(gain), None
        if inputs.defects is not None:
            listed = xp.asarray(_reference(inputs, inputs.defects, lambda path: read_defects(path, frame_shape=shape)))
            known = known | listed
        scale = 1 / inputs.counts_per_electron
        total = CorrectedFrames(raw, gain=gain, counts_scale=scale, **held).sum()
        hot = find_hot_pixels(total, known=known)
        bad_pixels = prepare_bad_pixels(known | hot if params.find_hot_pixels else known)
        filled = fill_bad_pixels(total, bad_pixels)
        camera = Camera.of(raw, total, filled, hot=hot, known=known, listed=listed)
        # in place, once for all steps: they would each copy every frame
        frames = CorrectedFrames(
            raw, gain=gain, bad_pixels=bad_pixels, seed=work.seed, counts_scale=scale, in_place=True, **held
        )
        return frames, filled / len(frames), camera


def _read(movie: Movie, xp: Any, pixel_size: float) -> tuple[Array, dict[str, Any]]:
    """The frames where they are to be corrected, or on the host with what brings them to the device in batches.

    Raises ValueError where the device has no room for any.
    """
    if xp is np:
        return movie.read(threads=decoding_threads()), {}
    plan = transfer.plan_transfer(
        movie.shape,
        movie.dtype.itemsize,
        transfer.free_memory(xp),
        binning=choose_binning(movie.shape[1:], pixel_size / int(movie.header_facts.get("eer_upsampling", 1))),
    )
    threads = decoding_threads(usable_cores())
    if plan.resident:
        return transfer.upload_frames(xp, movie.shape, movie.dtype, movie.stream(threads=threads)), {}
    raw = movie.read(out=transfer.host_room(xp, movie.shape, movie.dtype), threads=threads)
    return raw, {"device": xp, "batch": plan.batch}


def _reference(inputs: PrepareMovie.Inputs, path: str, read: Callable[[str], Array]) -> Array:
    """Read a reference; what is wrong with it is told of the movie, and by the name the user gave it."""
    try:
        return read(path)
    except FormatError as error:
        told = str(error).replace(path, Path(path).name)
        raise FormatError(f"{Path(inputs.movie).name}: {told}") from error


def _check_gain(inputs: PrepareMovie.Inputs, mean: Array, gain: Array, work: Work) -> GainFit:
    """Look whether the counts fit the gain reference as it lies; says how it should lie where they fit another way."""
    fit = check_orientation(mean, gain, given=Orientation(inputs.gain_rotation % 4, inputs.gain_flip))
    if fit.verdict == "another fits better":
        given = round(fit.given_correlation, 2) + 0.0  # never "-0.00"
        turned = f"turned by {90 * fit.best.rotation}°" if fit.best.rotation else "not turned"
        work.report(
            f"The gain reference fits this movie {turned} and {'' if fit.best.flip else 'not '}flipped (correlation "
            f"{fit.correlation:.2f} against {given:.2f} as given): set "
            f"gain_rotation={fit.best.rotation}, gain_flip={'yes' if fit.best.flip else 'no'}"
        )
    return fit


def _read_gain(path: str, *, frame_shape: tuple[int, int], of_eer: bool) -> Array:
    """Read a gain; the defects listed in a ``.gain`` file are turned together with it."""
    gain = read_gain(path, frame_shape=frame_shape, of_eer=of_eer)
    if Path(path).suffix.lower() == ".gain":
        listed = read_gain_defects(path, frame_shape=gain.shape)
        if listed is not None:
            gain[listed] = 0
    return gain


def _eer_options(params: PrepareMovie.Params, exposure_dose: float | None) -> EerOptions:
    fractions = params.eer_fractions
    if params.eer_dose_per_fraction is not None and exposure_dose is not None:
        fractions = max(1, round(exposure_dose / params.eer_dose_per_fraction))
    return EerOptions(fractions=fractions, upsampling=params.eer_upsampling)


def _dose(
    inputs: PrepareMovie.Inputs, frames: int, measured: float | None, of_eer: bool
) -> tuple[float | None, str | None]:
    """The dose per frame to use, and where it comes from."""
    if inputs.dose_per_frame is not None and of_eer and inputs.frame_count is not None:
        # the fact is of the frames that the facts count, however many are made of the electrons here
        return inputs.dose_per_frame * (inputs.frame_count / frames), "given"
    if inputs.dose_per_frame is not None:
        return inputs.dose_per_frame, "given"
    if inputs.exposure_dose is not None:
        return inputs.exposure_dose / frames, "exposure"
    return (measured, "counts") if measured is not None else (None, None)
