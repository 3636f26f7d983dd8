"""The four project modes: what each runs, shows and exports, by name only."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from focusnb.errors import ParameterError, ProjectError


@dataclass(frozen=True)
class Overview:
    """Up to four views of an exposure, by the names of their products."""

    title: str
    views: tuple[str, ...]


@dataclass(frozen=True)
class Mode:
    """One way to use focusnb."""

    name: str
    title: str
    steps: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    set_steps: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """Steps over sets, by the kind of the set; ``session`` is the set of all exposures."""
    overviews: tuple[Overview, ...] = ()
    columns: tuple[str, ...] = ()
    exports: tuple[str, ...] = ()
    missing: str = ""
    """Why the mode cannot be used yet; empty if it can."""


_IMAGE = Overview(
    "Image", ("unaligned_preview", "unaligned_spectrum_preview", "micrograph_preview", "spectrum_preview")
)
_DRIFT = Overview("Drift", ("micrograph_preview", "spectrum_preview", "trajectory_preview", "ctf_rings_preview"))
_CTF = Overview("CTF", ("ctf_rings_preview", "ctf_curves", "spectrum_preview", "micrograph_preview"))
_STEPS = {
    "movie": (
        "prepare_movie",
        "align_frames",
        "measure_spectrum",
        "measure_image",
        "add_to_session",
        "fit_ctf",
        "judge_exposure",
    ),
    "image": ("prepare_image", "measure_spectrum", "measure_image", "add_to_session", "fit_ctf", "judge_exposure"),
}
_SETS = {"session": ("merge_session",)}
_COLUMNS = (
    "exposure",
    "group",
    "status",
    "flag",
    "reason",
    "quality_flags",
    "pixel_size",
    "defocus_u",
    "defocus_v",
    "astigmatism",
    "astigmatism_angle",
    "ctf_fit_resolution",
    "ctf_score",
    "ctf_quality",
    "mean_counts",
    "dose_per_frame_used",
    "drift",
    "motion_total",
    "motion_early",
    "iciness",
    "ice_ring_excess",
    "frame_count",
    "recorded_at",
    "comment",
)

MODES: dict[str, Mode] = {
    mode.name: mode
    for mode in (
        Mode("drift", "Drift correction only", _STEPS, _SETS, (_IMAGE, _DRIFT, _CTF), _COLUMNS),
        Mode("single-particle", "Single particle", _STEPS, _SETS, (_IMAGE, _DRIFT, _CTF), _COLUMNS),
        Mode(
            "crystal",
            "2D electron crystallography",
            missing="its steps (lattice, spots, unbending, merging) are not part of this version",
        ),
        Mode(
            "tomography",
            "Electron tomography",
            missing="its steps (tilt series, ordering, alignment) are not part of this version",
        ),
    )
}


def find_mode(name: str) -> Mode:
    """Return a mode by name; ParameterError if it does not exist, ProjectError if it cannot be used yet."""
    if name not in MODES:
        raise ParameterError(f"{name} is no project mode; there are {', '.join(MODES)}")
    mode = MODES[name]
    if mode.missing:
        usable = ", ".join(m.name for m in MODES.values() if not m.missing)
        raise ProjectError(f"{mode.title} projects cannot be made yet: {mode.missing}; use {usable}")
    return mode
