"""The steps that fit a plane to the defocus, and a thickness to the rings."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from focusnb.io.mrc import write_mrc
from focusnb.ops.simulate import simulate_micrograph, standard_case
from tests.steps.conftest import Bench

CHAIN = ("prepare_image", "measure_spectrum", "fit_ctf", "fit_tilt", "fit_thickness")


def run(bench: Bench, image: np.ndarray, pixel_size: float = 1.06) -> dict[str, Any]:
    write_mrc(bench.project / "image.mrc", image, pixel_size=pixel_size)
    bench.facts |= {
        "kind": "image",
        "image": str(bench.project / "image.mrc"),
        "pixel_size": pixel_size,
        "voltage": 300.0,
        "spherical_aberration": 2.7,
        "amplitude_contrast": 0.1,
    }
    outcomes = bench.run(*CHAIN)
    for name in CHAIN:
        assert outcomes[name].status == "done", outcomes[name].reason + outcomes[name].traceback
    return {key: value for name in CHAIN for key, value in outcomes[name].values.items()}


def test_a_tilted_specimen(bench: Bench) -> None:
    spec = standard_case("small")
    optics = replace(spec.optics, tilt_angle=-45.0, tilt_axis=30.0)
    strong = replace(spec.specimen, ice_thickness=600.0)
    image, _ = simulate_micrograph(replace(spec, shape=(1800, 2000), optics=optics, specimen=strong, frames=40), 3)
    found = run(bench, image)
    assert found["tilt_quality"] == "ok"
    assert abs(found["tilt_axis_fitted"] - 30.0) < 5.0
    assert abs(found["tilt_angle_fitted"] + 45.0) < 3.0
    # a plane of slope 1 along (-sin 30°, cos 30°)
    assert abs(found["defocus_range_x"] / (0.5 * 2000 * 1.06) - 1) < 0.15
    assert abs(found["defocus_range_y"] / (np.cos(np.radians(30)) * 1800 * 1.06) - 1) < 0.15


def test_a_flat_specimen_has_no_tilt_and_no_rings_tell_nothing(bench: Bench) -> None:
    image, _ = simulate_micrograph(replace(standard_case("small"), shape=(1400, 1300)), 3)
    found = run(bench, image)
    assert found["tilt_quality"] in ("none", "failed")
    assert "tilt_axis_fitted" not in found or found["tilt_axis_fitted"] is None
    assert found["tilt_remark"]
    assert found.get("thickness_fitted") is None
    noise = np.random.default_rng(1).normal(size=(900, 1000)).astype(np.float32)
    found = run(bench, noise)
    assert found["ctf_quality"] == "failed"
    assert found.get("thickness_fitted") is None
    assert found["thickness_remark"]
    assert found.get("tilt_axis_fitted") is None
