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
from focusnb.quantities import ImageFile, PixelSize
from focusnb.steps.base import Cost, Step, StepInputs
from focusnb.steps.prepare import PreparedImage
from focusnb.steps.work import Work


class PrepareImage(Step):
    """Read an image as the exposure's micrograph."""

    name = "prepare_image"
    title = "Prepare the image"
    version = "1"
    category = "prepare"

    class Inputs(StepInputs):
        """The recorded image."""

        image: ImageFile
        pixel_size: PixelSize

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

    def run(self, inputs: Inputs, params: Any, work: Work) -> PreparedImage:
        """Read it and keep it in the project's own format."""
        data = read_image(inputs.image).data
        wrong = int(data.size - np.count_nonzero(np.isfinite(data)))
        if wrong:
            raise StepError(
                f"{Path(inputs.image).name}: {wrong} of {data.size} pixels are not numbers; export it again"
            )
        return PreparedImage(
            micrograph=work.save("micrograph", work.xp.asarray(data), pixel_size=inputs.pixel_size),
            micrograph_pixel_size=inputs.pixel_size,
            micrograph_preview=work.save(
                "micrograph_preview", preview.micrograph_preview(data, pixel_size=inputs.pixel_size)
            ),
        )
