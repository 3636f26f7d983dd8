"""The contrast transfer function: its model, and its estimation from a spectrum."""

from focusnb.ops.ctf.fit import CtfFit, estimate_ctf
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

__all__ = [
    "CtfCurves",
    "CtfFit",
    "Optics",
    "astigmatism_vector",
    "ctf_1d",
    "ctf_2d",
    "ctf_phase",
    "defocus_at",
    "estimate_ctf",
    "from_astigmatism_vector",
    "wavelength",
]
