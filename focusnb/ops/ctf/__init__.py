"""The contrast transfer function: its model, and its estimation from a spectrum."""

from focusnb.ops.ctf.fit import CtfFit, estimate_ctf, known_ctf
from focusnb.ops.ctf.model import (
    Optics,
    astigmatism_vector,
    ctf_1d,
    ctf_2d,
    ctf_phase,
    defocus_at,
    from_astigmatism_vector,
    wavelength,
)
from focusnb.ops.ctf.quality import CtfCurves
from focusnb.ops.ctf.thickness import ThicknessFit, estimate_thickness
from focusnb.ops.ctf.tilt import TiltFit, estimate_tilt

__all__ = [
    "CtfCurves",
    "CtfFit",
    "Optics",
    "ThicknessFit",
    "TiltFit",
    "astigmatism_vector",
    "ctf_1d",
    "ctf_2d",
    "ctf_phase",
    "defocus_at",
    "estimate_ctf",
    "estimate_thickness",
    "estimate_tilt",
    "from_astigmatism_vector",
    "known_ctf",
    "wavelength",
]
