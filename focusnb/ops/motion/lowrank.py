"""Split the dose filter into few sums over frames, so that few spectra are needed for any number of frames.

The weights of Grant & Grigorieff (2015), a matrix of frames and frequencies, are smooth in both: a handful of vectors
over frames, each times a function of the frequency, give them within a part in several hundred. Frames are then summed
in real space with the weights of each vector, and the spectra of these sums are added with the functions.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from focusnb.ops.dose import Dose, dose_weights

FloatArray = NDArray[np.floating[Any]]

TOLERANCE = 3e-3  # of a filter, relative to the root of the sum of its squared weights


@dataclass(frozen=True)
class DoseFilter:
    """The weights of frames over the frequency as a sum of products.

    vectors : (rank, t) weights of the frames in each sum; all 1 in the first, which is the unweighted sum
    functions : (rank, frequencies) factors of the spectra of these sums; their sum has the weights exp(-N / (2 N_c))
    weights : (t, frequencies) exact
    """

    vectors: FloatArray
    functions: FloatArray
    weights: FloatArray

    def __len__(self) -> int:
        return len(self.vectors)

    def error(self) -> float:
        """Return the largest error at any frequency: root mean square over frames, relative to that of the weights."""
        difference = self.weights - self.vectors.T @ self.functions
        return float(np.sqrt(((difference**2).sum(axis=0) / (self.weights**2).sum(axis=0)).max()))

    def normalisation(self, start: int = 0, step: int = 1) -> FloatArray:
        """Return 1 over the root of the sum of squared weights and of the number of frames start, start + step, ..."""
        part = self.weights[start::step]
        result: FloatArray = 1.0 / np.maximum(np.sqrt(len(part) * (part**2).sum(axis=0)), 1e-30)
        return result


def split_dose_filter(dose: Dose, frames: int, frequency: FloatArray, *, tolerance: float = TOLERANCE) -> DoseFilter:
    """Find the fewest vectors over frames that give the dose filter within a tolerance at every frequency.

    frequency : (frequencies,) 1/Å
    tolerance : of the root mean square error over frames, relative to that of the weights
    Beside the first vector they are those of a singular value decomposition of what the first leaves.
    """
    weights = dose_weights(frequency, dose, frames)
    norm = np.sqrt((weights**2).sum(axis=0))
    relative = weights / np.maximum(norm, 1e-150)
    rest = relative - relative.mean(axis=0)
    # the decomposition needs no more frequencies than tell the curves apart
    chosen = rest[:, np.unique(np.linspace(0, len(frequency) - 1, 8 * frames + 256).astype(int))]
    left = np.linalg.svd(chosen, full_matrices=False)[0] * np.sqrt(frames)
    vectors, functions = [np.ones(frames)], [weights.mean(axis=0)]
    for r in range(frames):
        if np.sqrt((rest**2).sum(axis=0).max()) <= tolerance:
            break
        part = left[:, r] @ rest / frames
        vectors.append(left[:, r])
        functions.append(part * norm)
        rest = rest - np.outer(left[:, r], part)
    return DoseFilter(np.stack(vectors), np.stack(functions), weights)
