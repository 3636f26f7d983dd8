"""Measure the ice and the statistics of a micrograph."""

from __future__ import annotations

from focusnb.ops import statistics
from focusnb.ops.ice import measure_ice
from focusnb.quantities import Micrograph, MicrographPixelSize, UnalignedSum
from focusnb.steps.base import Step, StepInputs
from focusnb.steps.statistics import MeasuredImage
from focusnb.steps.work import Work


class MeasureImage(Step):
    """Measure how much crystalline ice an image shows, and how its values are spread."""

    name = "measure_image"
    title = "Measure ice and image"
    version = "2"
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
        ice = measure_ice(image, pixel_size=inputs.micrograph_pixel_size)
        unaligned = work["unaligned_sum"] if inputs.unaligned_sum else image
        return MeasuredImage(
            iciness=ice.iciness,
            iciness_paper=ice.iciness_paper,
            iciness_outer=ice.iciness_outer,
            ice_ring_excess=ice.ice_ring_excess,
            ice_ring_position=ice.ice_ring_position,
            ice_ring_strength=ice.ice_ring_strength,
            image_stddev_relative=statistics.image_stddev_relative(unaligned),
            stripe_measure=statistics.stripe_measure(unaligned),
        )
