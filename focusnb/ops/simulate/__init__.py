"""A simulated microscope's physics, written independently of the code it tests."""

from focusnb.ops.simulate.cases import CASES, standard_case
from focusnb.ops.simulate.detector import Detector, DetectorSettings, make_detector
from focusnb.ops.simulate.motion import Motion, MotionSettings
from focusnb.ops.simulate.movie import MovieSpec, SimulatedMovie, Truth, simulate_micrograph, simulate_movie
from focusnb.ops.simulate.optics import Optics
from focusnb.ops.simulate.specimen import SpecimenSettings

__all__ = [
    "CASES",
    "Detector",
    "DetectorSettings",
    "Motion",
    "MotionSettings",
    "MovieSpec",
    "Optics",
    "SimulatedMovie",
    "SpecimenSettings",
    "Truth",
    "make_detector",
    "simulate_micrograph",
    "simulate_movie",
    "standard_case",
]
