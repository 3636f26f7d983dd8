"""Measure the ice and the statistics of a micrograph."""

from __future__ import annotations

import numpy as np

from focusnb.ops import statistics
from focusnb.ops.ice import amplitudes, measure_rings
from focusnb.ops.rings import spectrum_profile
from focusnb.quantities import Micrograph, MicrographPixelSize, UnalignedSum
from focusnb.steps.base import Step, StepInputs
from focusnb.steps.statistics import MeasuredImage
from focusnb.steps.work import Work


class MeasureImage(Step):
    """Measure how much crystalline ice an image shows, and how its values are spread."""

    name = "measure_image"
    title = "Measure ice and image"
    version = "3"
    category = "statistics"
    gpu = "uses"

    class Inputs(StepInputs):
        """The micrograph, and the sum before alignment where there is one."""

        micrograph: Micrograph
        micrograph_pixel_size: MicrographPixelSize
        unaligned_sum: UnalignedSum | None = None

    Results = MeasuredImage

    def run(self, inputs: Inputs, params: object, work: Work) -> MeasuredImage:
        """Measure."""
        image = work["micrograph"]
        spectrum = amplitudes(image, inputs.micrograph_pixel_size)
        ice = measure_rings(spectrum)
        frequency, profile = spectrum_profile(spectrum)
        unaligned = work["unaligned_sum"] if inputs.unaligned_sum else image
        return MeasuredImage(
            iciness=ice.iciness,
            iciness_paper=ice.iciness_paper,
            iciness_outer=ice.iciness_outer,
            ice_ring_excess=ice.ice_ring_excess,
            ice_ring_position=ice.ice_ring_position,
            ice_ring_strength=ice.ice_ring_strength,
            ring_profile=work.save(
                "ring_profile",
                {"frequency": np.round(frequency, 6), "amplitude": [float(f"{value:.5g}") for value in profile]},
            ),
            image_stddev_relative=statistics.image_stddev_relative(unaligned),
            stripe_measure=statistics.stripe_measure(unaligned),
        )
