"""How probable it is that a fit is right: what speaks for it, weighed as simulated micrographs taught.

A fit is right where U and V are both within 300 Å of the truth, or within 2 % of the defocus where that is more. The
weights are those of a logistic regression over simulated micrographs of all kinds (``benchmarks/ctf_truth.py --train``
prints them); how reliable the probabilities are is measured there on others.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

TOLERANCE = 300.0  # Å
PART = 0.02  # of the defocus


class Evidence(NamedTuple):
    """What is known of a fit.

    significance : standard deviations by which halves of the spectrum confirm each other
    lead : by how much the best basin of the search is likelier than the next, natural logarithm
    error : stated standard deviation of the defocus, Å
    defocus, astigmatism : Å
    strength : correlation of the rings with the fit in units of that of noise
    part : of the rings that the CTF explains
    zeros : of the CTF where rings can be followed
    rivals : whether another basin explains the rings almost as well
    phase_plate : whether the phase shift was searched as well
    """

    significance: float
    lead: float
    error: float
    defocus: float
    astigmatism: float
    strength: float
    part: float
    zeros: int
    rivals: bool
    phase_plate: bool

    def terms(self) -> np.ndarray:
        """Return what the logarithm of the odds is linear in."""
        tolerance = max(TOLERANCE, PART * self.defocus)
        precision = math.log(min(max(tolerance / max(self.error, 1.0), 1e-2), 1e3))
        return np.array(
            [
                1.0,
                math.asinh(0.5 * self.significance),
                precision,
                min(precision - 1.0, 0.0),
                math.log1p(max(self.lead, 0.0)),
                min(max(self.part, -1.0), 1.0),
                math.log(max(self.strength, 1e-2)),
                float(self.rivals),
                math.log1p(self.zeros),
                min(self.astigmatism / 1000.0, 3.0),
                min(self.astigmatism / max(self.defocus, 1.0), 1.0),
                float(self.phase_plate),
            ]
        )


WEIGHTS = np.array([-4.855, -0.304, 1.273, 0.095, 0.436, 3.257, 0.426, -0.793, 1.291, -2.388, -1.531, -0.676])


def probability(evidence: Evidence) -> float:
    """Return the probability, 0 to 1, that a fit is right."""
    odds = float(WEIGHTS @ evidence.terms())
    return 1.0 / (1.0 + math.exp(-min(max(odds, -50.0), 50.0)))
