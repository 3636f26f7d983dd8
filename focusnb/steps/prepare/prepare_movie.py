"""Read a movie and correct it for the gain and the defects of the camera."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated, Any

from focusnb.errors import FormatError, StepError
from focusnb.io.defects import read_defects
from focusnb.io.gain import read_gain
from focusnb.io.movies import open_movie
from focusnb.ops import preview, statistics
from focusnb.ops.backend import Array
from focusnb.ops.defects import find_hot_pixels, prepare_bad_pixels
from focusnb.ops.frames import CorrectedFrames
from focusnb.ops.gain import bad_gain_pixels, orient_gain
from focusnb.ops.spectrum import choose_sampling, power_spectrum
from focusnb.parameters import quantity
from focusnb.quantities import (
    CountsPerElectron,
    Defects,
    DosePerFrame,
    ExposureDose,
    ExposureTime,
    GainFlip,
    GainReference,
    GainRotation,
    MovieFile,
    PixelSize,
    SuperResolution,
)
from focusnb.steps.base import Cost, Step, StepInputs, StepParams
from focusnb.steps.prepare import PreparedMovie
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


class PrepareMovie(Step):
    """Correct the frames of a movie for the gain and the bad pixels of the camera, and measure its counts.

    The movie stays as recorded in memory; a frame is corrected when it is taken. Bad pixels are those the gain
    reference marks with 0, those of the defects file, and hot ones found in the sum.
    """

    name = "prepare_movie"
    title = "Prepare the movie"
    version = "1"
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
        exposure_time: ExposureTime | None = None
        dose_per_frame: DosePerFrame | None = None
        exposure_dose: ExposureDose | None = None

    class Params(StepParams):
        """How bad pixels and the dose are found."""

        find_hot_pixels: FindHotPixels = True
        dose_factor: DoseFactor = 1.0

    Results = PreparedMovie

    @classmethod
    def check_files(cls, files: Mapping[str, str]) -> None:
        """Open the movie, which reads its directory."""
        if "movie" in files:
            open_movie(files["movie"]).close()

    def cost(self, facts: Mapping[str, Any], params: Any) -> Cost:
        """The movie as integers, and a few frames as numbers."""
        pixels = int(facts.get("width") or 4096) * int(facts.get("height") or 4096)
        return Cost(memory=300_000_000 + pixels * (int(facts.get("frame_count") or 50) + 40))

    def run(self, inputs: Inputs, params: Params, work: Work) -> PreparedMovie:
        """Read, find the bad pixels, measure counts and dose."""
        work.report("Reading the movie", 0.0)
        with open_movie(inputs.movie) as movie:
            raw = work.xp.asarray(movie.read())
        frame_shape = (int(raw.shape[1]), int(raw.shape[2]))
        gain = self._gain(inputs, frame_shape, work)
        work.report("Finding bad pixels", 0.5)
        try:
            frames, bad = self._correct(inputs, params, raw, gain, work)
        except ValueError as error:
            raise StepError(f"{Path(inputs.movie).name}: {error}") from error
        mean = frames.sum() / len(frames)
        work["frames"] = frames
        work["unaligned_sum"] = mean
        # a super-resolution pixel covers a part of a physical one
        counts = statistics.mean_counts(mean, frames=1, detector_pixels=1 / inputs.super_resolution**2)
        physical = inputs.pixel_size * inputs.super_resolution
        measured = statistics.dose_from_counts(counts, physical, factor=params.dose_factor) if counts > 0 else None
        used, origin = _dose(inputs, len(frames), measured)
        work.report(f"{len(frames)} frames, {bad} bad pixels, {counts:.3f} e⁻/px/frame", 0.8)
        before = work.save("unaligned_preview", preview.micrograph_preview(mean, pixel_size=inputs.pixel_size))
        # sampled as the spectrum after correction is, so that the eye can flip between both
        sampling = choose_sampling(inputs.pixel_size)
        spectrum = power_spectrum(mean, sampling=sampling)
        return PreparedMovie(
            frames="frames",
            unaligned_sum="unaligned_sum",
            bad_pixels=bad,
            mean_counts=counts,
            dose_rate=statistics.dose_rate(counts, inputs.exposure_time / len(frames))
            if inputs.exposure_time
            else None,
            dose_per_frame_measured=measured,
            dose_per_frame_used=used,
            dose_origin=origin,  # type: ignore[arg-type]
            unaligned_preview=before,
            unaligned_spectrum_preview=work.save(
                "unaligned_spectrum_preview",
                preview.spectrum_preview(spectrum, pixel_size=inputs.pixel_size * sampling.factor),
            ),
        )

    @staticmethod
    def _gain(inputs: Inputs, frame_shape: tuple[int, int], work: Work) -> Array | None:
        if inputs.gain_reference is None:
            return None
        gain = _reference(inputs, inputs.gain_reference, lambda path: read_gain(path, frame_shape=frame_shape))
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
        inputs: Inputs, params: Params, raw: Array, gain: Array | None, work: Work
    ) -> tuple[CorrectedFrames, int]:
        xp, shape = work.xp, (int(raw.shape[1]), int(raw.shape[2]))
        bad = xp.zeros(shape, dtype=bool) if gain is None else bad_gain_pixels(gain)
        if inputs.defects is not None:
            known = _reference(inputs, inputs.defects, lambda path: read_defects(path, frame_shape=shape))
            bad = bad | xp.asarray(known)
        scale = 1 / inputs.counts_per_electron
        if params.find_hot_pixels:
            plain = CorrectedFrames(raw, gain=gain, counts_scale=scale)
            bad = bad | find_hot_pixels(plain.sum(), known=bad)
        bad_pixels = prepare_bad_pixels(bad)
        frames = CorrectedFrames(raw, gain=gain, bad_pixels=bad_pixels, seed=work.seed, counts_scale=scale)
        return frames, len(bad_pixels)


def _reference(inputs: PrepareMovie.Inputs, path: str, read: Callable[[str], Array]) -> Array:
    """Read a reference; what is wrong with it is told of the movie, and by the name the user gave it."""
    try:
        return read(path)
    except FormatError as error:
        told = str(error).replace(path, Path(path).name)
        raise FormatError(f"{Path(inputs.movie).name}: {told}") from error


def _dose(inputs: PrepareMovie.Inputs, frames: int, measured: float | None) -> tuple[float | None, str | None]:
    """The dose per frame to use, and where it comes from."""
    if inputs.dose_per_frame is not None:
        return inputs.dose_per_frame, "given"
    if inputs.exposure_dose is not None:
        return inputs.exposure_dose / frames, "exposure"
    return (measured, "counts") if measured is not None else (None, None)
