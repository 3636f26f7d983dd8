"""Dose weights against the published formula, by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest

from focusnb.ops.dose import Dose, critical_dose, dose_weights, voltage_factor


def test_critical_dose_at_300_kv() -> None:
    # 0.245 * 0.1^-1.665 + 2.81 = 0.245 * 46.238 + 2.81
    np.testing.assert_allclose(critical_dose(np.array([0.1]), 300.0), [14.1383], rtol=1e-4)
    np.testing.assert_allclose(critical_dose(np.array([0.25, 0.5]), 300.0), [5.2737, 3.5869], rtol=1e-4)
    assert critical_dose(np.array([0.0]), 300.0)[0] == math.inf


def test_voltages() -> None:
    assert [voltage_factor(v) for v in (100, 150, 200, 250, 300)] == pytest.approx([0.64, 0.72, 0.8, 0.9, 1.0])
    for voltage in (99.0, 301.0, 80.0, 400.0):
        with pytest.raises(ValueError, match=f"not at {voltage:g} kV"):
            critical_dose(np.array([0.1]), voltage)
    np.testing.assert_allclose(critical_dose(np.array([0.1]), 400.0, 1.2), [1.2 * 14.1383], rtol=1e-4)


def test_weights_use_the_dose_at_the_end_of_the_frame() -> None:
    weights = dose_weights(np.array([0.0, 0.1]), Dose(1.5, prior=2.0, voltage=300.0), 3)
    assert weights.shape == (3, 2)
    np.testing.assert_array_equal(weights[:, 0], 1.0)
    np.testing.assert_allclose(weights[:, 1], np.exp(-np.array([3.5, 5.0, 6.5]) / (2 * 14.1383)), rtol=1e-5)
