"""Findings: what single exposures tell of the camera and of the facts given, for the court of a session."""

from __future__ import annotations

from typing import Annotated

from focusnb.parameters import curve, quantity

GainPattern = Annotated[
    float,
    quantity(
        "Gain pattern in the counts",
        unit="",
        group="Recording",
        advanced=True,
        precision=2,
        help="1 where counts show the pattern of the gain reference as it lies, 0 without it, -1 its inverse.",
    ),
]
CountsPerElectronMeasured = Annotated[
    float,
    quantity(
        "Counts per electron, by noise",
        unit="",
        group="Recording",
        gt=0,
        advanced=True,
        precision=2,
        help="Variance over mean of the counts; below 1 where they were interpolated or binned.",
    ),
]
OddFrames = Annotated[
    int,
    quantity(
        "Odd frames",
        unit="",
        group="Recording",
        ge=0,
        advanced=True,
        help="Frames with less than 70 or more than 143 % of the usual counts, or without any in a part of them.",
    ),
]
HotPixels = Annotated[
    int,
    quantity(
        "Hot pixels",
        unit="px",
        group="Recording",
        ge=0,
        advanced=True,
        help="Found beside those that gain reference and defects name.",
    ),
]
DeadPixels = Annotated[
    int,
    quantity(
        "Dead pixels",
        unit="px",
        group="Recording",
        ge=0,
        advanced=True,
        help="Without any counts though nothing names them; empty where counts are too few to tell.",
    ),
]
BadLines = Annotated[
    int,
    quantity(
        "Bad lines",
        unit="",
        group="Recording",
        ge=0,
        advanced=True,
        help="Whole rows and columns unlike those beside them that the defects do not name.",
    ),
]
CameraCurves = Annotated[
    str,
    curve(
        "Camera",
        file="camera.json",
        help="Counts of each frame; how gain reference and defects fit in each orientation.",
    ),
]
RingProfile = Annotated[
    str,
    curve(
        "Rings to Nyquist",
        file="rings.json",
        help="Rotational average of the whole transform, in cycles per pixel: sharp rings tell the pixel size.",
    ),
]
