"""The standard movies every accuracy is stated for: small, large, mid and hard.

How strong their signal is: proteins of 150 kDa, one per (450 Å)², and ice whose thickness carries most of the Thon
rings. The two numbers that physics leaves open, the disorder of ice and the crowding of proteins, were set so that a
plain aligner (each frame to the sum of the others, 2x binned, to 6 Å, B 200 Å²) errs on small, mid and hard by 0.41,
0.33 and 0.42 px, and by 0.26, 0.20 and 0.25 px after smoothing over 1.2 frames (established aligners of that kind:
0.53, 0.32, 0.42 and 0.22, 0.19, 0.24 px). The ice's Thon rings then limit any estimate of the mean defocus, by the
information in the spectrum, to 20 Å (small), 7 Å (large), 25 Å (mid) and 60 Å (hard).
"""

from __future__ import annotations

from focusnb.ops.simulate.motion import MotionSettings
from focusnb.ops.simulate.movie import MovieSpec
from focusnb.ops.simulate.optics import Optics
from focusnb.ops.simulate.specimen import SpecimenSettings

CASES: tuple[str, ...] = ("small", "large", "mid", "hard")

_STRONG = SpecimenSettings(ice_thickness=300.0)
_USUAL = SpecimenSettings(ice_thickness=200.0)
_WEAK = SpecimenSettings(ice_thickness=120.0)


def standard_case(name: str) -> MovieSpec:
    """Return the specification of a standard movie by its name.

    All have 1.06 Å/px, 300 kV, Cs 2.7 mm, amplitude contrast 0.1, 1 e⁻/Å² per frame, and a detector with 6 % gain,
    150 hot and 150 dead pixels. ``small`` (1024 x 1024 x 24) and ``large`` (3838 x 3710 x 40) show a strong specimen,
    ``mid`` and ``hard`` (2048 x 2048 x 40) one as in most real movies and a weak one.
    """
    strong = Optics(defocus_u=15000.0, defocus_v=14600.0, astigmatism_angle=35.0, b_factor=60.0)
    usual = Optics(defocus_u=17000.0, defocus_v=16500.0, astigmatism_angle=-25.0, b_factor=80.0)
    weak = Optics(defocus_u=20000.0, defocus_v=19400.0, astigmatism_angle=-25.0, b_factor=110.0)
    cases = {
        "small": MovieSpec((1024, 1024), 24, optics=strong, specimen=_STRONG),
        "large": MovieSpec((3838, 3710), 40, optics=strong, specimen=_STRONG),
        "mid": MovieSpec((2048, 2048), 40, optics=usual, specimen=_USUAL),
        "hard": MovieSpec((2048, 2048), 40, optics=weak, specimen=_WEAK, motion=MotionSettings(burst=8.0)),
    }
    if name not in cases:
        raise ValueError(f"there is no standard movie {name!r}; there are {', '.join(CASES)}")
    return cases[name]
