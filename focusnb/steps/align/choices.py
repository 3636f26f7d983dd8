"""What the alignment of frames can be told, each choice declared once."""

from __future__ import annotations

from typing import Annotated

from focusnb.errors import StepError
from focusnb.parameters import quantity

SAME_PIXEL_SIZE = 1e-3
"""Relative difference below which two pixel sizes are one."""

DoseWeighting = Annotated[
    bool,
    quantity(
        "Dose weighting", group="Sums", help="Also sum with each frame filtered by the damage it had (Grant 2015)."
    ),
]
TargetPixelSize = Annotated[
    float,
    quantity(
        "Target pixel size",
        unit="Å/px",
        group="Sums",
        gt=0,
        precision=4,
        help="Crop in Fourier space to this pixel size, as near as sizes allow; empty keeps that of the file.",
    ),
]
CriticalDoseFactor = Annotated[
    float,
    quantity(
        "Critical dose factor",
        unit="",
        group="Sums",
        gt=0,
        precision=2,
        advanced=True,
        help="Dose a specimen bears, relative to 300 kV; empty takes that of voltages from 100 to 300 kV.",
    ),
]
Halves = Annotated[
    bool, quantity("Even and odd sums", group="Sums", help="Also keep the sums of even and of odd frames.")
]
SaveAligned = Annotated[
    bool, quantity("Aligned frames", group="Sums", advanced=True, help="Also keep every frame, moved; a large file.")
]
ExactSums = Annotated[
    bool,
    quantity("Exact sums", group="Sums", advanced=True, help="Move each frame in Fourier space, which takes longer."),
]
BFactor = Annotated[
    float,
    quantity(
        "B-factor",
        unit="Å²",
        group="Alignment",
        ge=0,
        precision=0,
        advanced=True,
        help="How much high frequencies count less in the alignment; empty chooses by the movie.",
    ),
]
CorrectLocally = Annotated[
    bool,
    quantity(
        "Local motion",
        group="Alignment",
        help="Let places of the field move differently, where that explains data not used for its fit.",
    ),
]
Patches = Annotated[
    int,
    quantity(
        "Patches",
        unit="",
        group="Alignment",
        ge=3,
        le=16,
        advanced=True,
        help="Windows along the shorter side of the field; empty chooses by its size.",
    ),
]
FirstFrame = Annotated[
    int,
    quantity("First frame", unit="", group="Frames", ge=1, help="Frames before it are thrown away, their dose counts."),
]
LastFrame = Annotated[
    int, quantity("Last frame", unit="", group="Frames", ge=1, help="Frames after it are thrown away; empty uses all.")
]
FrameGroup = Annotated[
    int,
    quantity(
        "Frames per group",
        unit="",
        group="Frames",
        ge=1,
        advanced=True,
        help="Frames added before they are compared; empty groups movies of more than 120 frames.",
    ),
]
ReferenceFrame = Annotated[
    int,
    quantity(
        "Reference frame",
        unit="",
        group="Frames",
        ge=1,
        advanced=True,
        help="The micrograph shows the specimen as this frame does; empty takes the first used.",
    ),
]


def check_target(name: str, pixel_size: float, target: float | None) -> float | None:
    """Return the pixel size an image is to be cropped to, in Å/px; None where it keeps its own.

    Raises StepError where the target is finer: there is nothing to fill the new pixels with.
    """
    if target is None or abs(target / pixel_size - 1) <= SAME_PIXEL_SIZE:
        return None
    if target < pixel_size:
        raise StepError(
            f"{name}: its pixels of {pixel_size:.4g} Å cannot become finer ones of {target:.4g} Å; set "
            f"target_pixel_size to {pixel_size:.4g} Å or more, or choose another for its group"
        )
    return target
