"""Average the spectrum of a micrograph."""

from __future__ import annotations

from typing import Annotated, Literal

from focusnb.ops import preview
from focusnb.ops.spectrum import FAR_PIXEL_SIZE, FINEST_PIXEL_SIZE, Sampling, choose_sampling, power_spectra
from focusnb.parameters import quantity
from focusnb.quantities import Micrograph, MicrographDoseWeighted, MicrographPixelSize
from focusnb.steps.base import Step, StepInputs, StepParams
from focusnb.steps.statistics import MeasuredSpectrum
from focusnb.steps.work import Work

SpectrumBox = Annotated[
    Literal[256, 512, 1024],
    quantity(
        "Box",
        unit="px",
        group="Spectrum",
        help="Size of the spectrum; larger samples the rings of high defocus better.",
    ),
]
FinestPixelSize = Annotated[
    float,
    quantity(
        "Finest pixel size",
        unit="Å/px",
        group="Spectrum",
        gt=0,
        precision=2,
        advanced=True,
        help="Spectra of finer images are cut here, so that their rings are not crowded.",
    ),
]


SpectrumOf = Annotated[
    Literal["dose-weighted", "unweighted"],
    quantity(
        "Spectrum of", group="Spectrum", help="The dose-weighted sum where there is one, or always the plain one."
    ),
]


class MeasureSpectrum(Step):
    """Average the amplitudes of the micrograph's transform in a small spectrum, for the CTF and for the eye.

    The dose-weighted sum has flat noise and keeps more of the rings that damage and motion would blur: on simulated
    movies, whose ice is damaged as protein is, the median error of the astigmatism falls by a fifth to a half.
    """

    name = "measure_spectrum"
    title = "Measure the spectrum"
    version = "2"
    category = "statistics"
    gpu = "uses"

    class Inputs(StepInputs):
        """The micrograph, and its dose-weighted twin where there is one."""

        micrograph: Micrograph
        micrograph_dose_weighted: MicrographDoseWeighted | None = None
        micrograph_pixel_size: MicrographPixelSize

    class Params(StepParams):
        """How the spectrum is sampled."""

        spectrum_of: SpectrumOf = "dose-weighted"
        box: SpectrumBox = 512
        finest_pixel_size: FinestPixelSize = FINEST_PIXEL_SIZE

    Results = MeasuredSpectrum

    def run(self, inputs: Inputs, params: Params, work: Work) -> MeasuredSpectrum:
        """Transform and average."""
        sampling = choose_sampling(inputs.micrograph_pixel_size, box=params.box, target=params.finest_pixel_size)
        weighted = params.spectrum_of == "dose-weighted" and inputs.micrograph_dose_weighted is not None
        image = work["micrograph_dose_weighted" if weighted else "micrograph"]
        far = Sampling(params.box, FAR_PIXEL_SIZE / inputs.micrograph_pixel_size)
        wanted = [sampling] if far.factor <= sampling.factor else [sampling, far]
        spectrum, *coarse = power_spectra(image, wanted)
        pixel_size = inputs.micrograph_pixel_size * sampling.factor
        return MeasuredSpectrum(
            power_spectrum=work.save("power_spectrum", spectrum, pixel_size=pixel_size),
            power_spectrum_pixel_size=pixel_size,
            power_spectrum_far=work.save("power_spectrum_far", coarse[0], pixel_size=FAR_PIXEL_SIZE)
            if coarse
            else None,
            power_spectrum_far_pixel_size=FAR_PIXEL_SIZE if coarse else None,
            spectrum_preview=work.save("spectrum_preview", preview.spectrum_preview(spectrum, pixel_size=pixel_size)),
        )
