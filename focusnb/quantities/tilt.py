"""Findings: the tilt and the thickness of a specimen."""

from __future__ import annotations

from typing import Annotated, Literal

from focusnb.parameters import quantity

TiltAxisFitted = Annotated[
    float,
    quantity(
        "Tilt axis, fitted",
        unit="°",
        group="Tilt",
        precision=1,
        help="Direction of the axis from x, counter-clockwise with y up; empty where no tilt is seen.",
    ),
]
TiltAngleFitted = Annotated[
    float,
    quantity(
        "Tilt angle, fitted",
        unit="°",
        group="Tilt",
        precision=1,
        help="Positive where the side to the left of the axis has the larger under focus; 0 where no tilt is seen.",
    ),
]
TiltAxisError = Annotated[float, quantity("Tilt axis, error", unit="°", group="Tilt", advanced=True, precision=1)]
TiltAngleError = Annotated[float, quantity("Tilt angle, error", unit="°", group="Tilt", advanced=True, precision=1)]
TiltQuality = Annotated[
    Literal["ok", "poor", "none", "failed"],
    quantity("Tilt quality", group="Tilt", help="ok: the axis is known to 5°, the angle to 3°; none: no tilt is seen."),
]
TiltRemark = Annotated[str, quantity("Tilt remark", group="Tilt", help="Why there is no axis, in words.")]
DefocusRangeX = Annotated[
    float,
    quantity("Defocus range along x", unit="Å", group="Tilt", advanced=True, precision=0, help="By the fitted tilt."),
]
DefocusRangeY = Annotated[
    float,
    quantity("Defocus range along y", unit="Å", group="Tilt", advanced=True, precision=0, help="By the fitted tilt."),
]
ThicknessFitted = Annotated[
    float,
    quantity(
        "Thickness, fitted",
        unit="Å",
        group="Tilt",
        precision=0,
        help="By the frequency at which the rings vanish; empty where they do not.",
    ),
]
ThicknessError = Annotated[float, quantity("Thickness, error", unit="Å", group="Tilt", advanced=True, precision=0)]
ThicknessLimit = Annotated[
    float,
    quantity("Thickness, at most", unit="Å", group="Tilt", advanced=True, precision=0, help="What the rings exclude."),
]
ThicknessRemark = Annotated[str, quantity("Thickness remark", group="Tilt", help="Why there is none, in words.")]
