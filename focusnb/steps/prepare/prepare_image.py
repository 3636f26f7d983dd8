"""Take an image that is a sum already: made by the camera, or by another program."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from focusnb.errors import StepError
from focusnb.io.images import read_image
from focusnb.io.movies import open_movie
from focusnb.ops import preview
from focusnb.ops.fourier import crop_to_pixel_size
from focusnb.quantities import ImageFile, PixelSize
from focusnb.steps.align import choices
from focusnb.steps.base import Cost, Step, StepInputs, StepParams
from focusnb.steps.prepare import PreparedImage
from focusnb.steps.work import Work


class PrepareImage(Step):
    """Read an image as the exposure's micrograph."""

    name = "prepare_image"
    title = "Prepare the image"
    version = "2"
    category = "prepare"

    class Inputs(StepInputs):
        """The recorded image."""

        image: ImageFile
        pixel_size: PixelSize

    class Params(StepParams):
        """What pixel size it is brought to."""

        target_pixel_size: choices.TargetPixelSize | None = None

    Results = PreparedImage

    @classmethod
    def check_files(cls, files: Mapping[str, str]) -> None:
        """Open the image, which reads its header."""
        if "image" in files:
            open_movie(files["image"]).close()

    def cost(self, facts: Mapping[str, Any], params: Any) -> Cost:
        """The image a few times over."""
        pixels = int(facts.get("width") or 4096) * int(facts.get("height") or 4096)
        return Cost(memory=300_000_000 + 16 * pixels)

    def run(self, inputs: Inputs, params: Params, work: Work) -> PreparedImage:
        """Read it, crop it if asked, and keep it in the project's own format."""
        name = Path(inputs.image).name
        target = choices.check_target(name, inputs.pixel_size, params.target_pixel_size)
        data = read_image(inputs.image).data
        wrong = int(data.size - np.count_nonzero(np.isfinite(data)))
        if wrong:
            raise StepError(f"{name}: {wrong} of {data.size} pixels are not numbers; export it again")
        reached, image = inputs.pixel_size, work.xp.asarray(data)
        if target is not None:
            try:
                image, reached = crop_to_pixel_size(image, inputs.pixel_size, target)
            except ValueError as error:
                raise StepError(f"{name}: {error}") from error
        return PreparedImage(
            micrograph=work.save("micrograph", image, pixel_size=reached),
            micrograph_pixel_size=reached,
            micrograph_preview=work.save("micrograph_preview", preview.micrograph_preview(image, pixel_size=reached)),
        )
