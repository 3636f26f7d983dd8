"""What is watched: the findings that become time series, with labels and units as they are declared."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, NamedTuple

from focusnb.parameters import Declared, Spec, quantity

Defocus = Annotated[
    float, quantity("Defocus", unit="Å", group="CTF", precision=0, help="Mean of U and V; positive is underfocus.")
]
DefocusError = Annotated[
    float,
    quantity(
        "Defocus, off target", unit="Å", group="CTF", precision=0, help="Mean of U and V less what was asked for."
    ),
]


class Derived(Declared):
    """Series made of several findings or facts."""

    defocus: Defocus | None = None
    defocus_error: DefocusError | None = None


SERIES = (
    "mean_counts",
    "drift",
    "defocus",
    "ctf_fit_resolution",
    "iciness",
    "ice_ring_excess",
    "astigmatism",
    "phase_shift",
    "image_stddev_relative",
    "stripe_measure",
    "defocus_error",
)
"""Names of the series, in the order in which they are shown; picks follow where a step finds any."""

WATCHED = ("mean_counts", "drift", "defocus", "ctf_fit_resolution", "iciness")
"""The five plots that an operator looks at first."""


class Limit(NamedTuple):
    """What a value should keep to; None is no limit."""

    low: float | None = None
    high: float | None = None


NO_LIMIT = Limit()


def series_specs(columns: Mapping[str, Spec], picks: str | None) -> dict[str, Spec]:
    """The declarations of the series a project can have, by name; ``picks`` names the column of found particles."""
    known = {**columns, **{spec.name: spec for spec in Derived.specs()}}
    if "defocus_u" not in columns or "defocus_v" not in columns:
        known.pop("defocus")
        known.pop("defocus_error")
    names = [*SERIES, picks] if picks else list(SERIES)
    return {name: known[name] for name in names if name in known}
