"""Which rules an exposure breaks: each rule by itself, and the field's rules on simulated fields."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from focusnb.errors import ParameterError
from focusnb.steps.statistics import JudgedExposure
from focusnb.steps.statistics.judge_exposure import RULES, JudgeExposure
from focusnb.steps.testing import run_step
from tests.ops import fields


@pytest.fixture(scope="module")
def plain() -> np.ndarray:
    """An ordinary field."""
    return fields.ordinary(np.random.default_rng(0), "even").image[:768, :768]


def judge(folder: Path, image: np.ndarray, params: dict[str, Any] | None = None, **found: Any) -> JudgedExposure:
    return run_step(JudgeExposure, folder, params=params, micrograph=image, micrograph_pixel_size=1.1, **found)


GOOD = {
    "mean_counts": 1.0,
    "dose_per_frame_measured": 0.8,
    "dose_per_frame_used": 1.0,
    "dose_origin": "given",
    "stripe_measure": 9.0,
    "drift": 20.0,
    "defocus_u": 15000.0,
    "defocus_v": 14600.0,
    "astigmatism": 400.0,
    "ctf_quality": "ok",
    "ctf_fit_resolution": 4.5,
    "iciness": 0.95,
    "ice_ring_strength": 0.02,
    "ice_ring_excess": 1.0,
}


def test_what_is_not_known_breaks_no_rule(tmp_path: Path, plain: np.ndarray):
    results = judge(tmp_path, plain)
    assert results.quality_flags == ""
    assert results.quality_remark is None
    assert results.carbon_fraction == results.open_fraction == 0.0
    assert results.texture_excess > 0.05


def test_a_good_exposure_breaks_no_rule(tmp_path: Path, plain: np.ndarray):
    assert judge(tmp_path, plain, **GOOD).quality_flags == ""


@pytest.mark.parametrize(
    ("rule", "found", "words"),
    [
        ("dark", {"mean_counts": 0.05, "dose_origin": None}, "0.05"),
        ("dark", {"dose_per_frame_measured": 0.3}, "recorded dose"),
        ("bright", {"dose_per_frame_measured": 1.7}, "recorded dose"),
        ("stripe", {"stripe_measure": 35.0}, "35.0"),
        ("drift", {"drift": 51.0}, "51.0 Å, more than 50 Å"),
        ("astigmatism", {"astigmatism": 640.0}, "640 Å"),
        ("defocus", {"defocus_u": 75_000.0, "defocus_v": 74_000.0}, "more than 70000"),
        ("defocus", {"defocus_u": 1500.0, "defocus_v": 1400.0}, "less than 2000"),
        ("ctf", {"ctf_quality": "failed", "defocus_u": None, "defocus_v": None}, "failed"),
        ("ctf", {"ctf_fit_resolution": 9.0}, "9.0 Å"),
        ("ice", {"iciness": 1.7}, "1.70"),
        ("ice", {"ice_ring_strength": 0.8}, "0.80"),
    ],
)
def test_each_rule(tmp_path: Path, plain: np.ndarray, rule: str, found: dict[str, Any], words: str):
    given = {name: value for name, value in {**GOOD, **found}.items() if value is not None}
    results = judge(tmp_path, plain, **given)
    assert results.quality_flags == rule
    assert words in results.quality_remark
    assert results.quality_remark.count(".") >= 1
    assert judge(tmp_path, plain, {"rules_off": rule}, **given).quality_flags == ""


@pytest.mark.parametrize(
    ("params", "found"),
    [
        ({"dark_fraction": None}, {"dose_per_frame_measured": 0.3}),
        ({"bright_fraction": None}, {"dose_per_frame_measured": 1.7}),
        ({"counts_min": None}, {"mean_counts": 0.05, "dose_origin": "counts"}),
        ({"stripe_max": None}, {"stripe_measure": 35.0}),
        ({"drift_max": None}, {"drift": 500.0}),
        ({"astigmatism_max": None}, {"astigmatism": 5000.0}),
        ({"defocus_mean_min": None}, {"defocus_u": 1500.0, "defocus_v": 1400.0}),
        ({"defocus_mean_max": None}, {"defocus_u": 95_000.0, "defocus_v": 94_000.0}),
        ({"ctf_quality_min": None}, {"ctf_quality": "failed"}),
        ({"ctf_fit_resolution_max": None}, {"ctf_fit_resolution": 29.0}),
        ({"iciness_max": None}, {"iciness": 3.0}),
        ({"ice_ring_strength_max": None}, {"ice_ring_strength": 3.0}),
        ({}, {"ice_ring_excess": 99.0}),
        ({}, {"ctf_quality": "poor"}),
        # frames as short as the camera allows are not dark where the recorded dose explains them
        ({}, {"mean_counts": 0.05, "dose_per_frame_measured": 0.05, "dose_per_frame_used": 0.05}),
    ],
)
def test_a_threshold_of_none_switches_off(
    tmp_path: Path, plain: np.ndarray, params: dict[str, Any], found: dict[str, Any]
):
    assert judge(tmp_path, plain, params, **{**GOOD, **found}).quality_flags == ""


def test_thresholds_are_parameters(tmp_path: Path, plain: np.ndarray):
    strict = {"drift_max": 10.0, "ctf_quality_min": "ok", "ice_ring_excess_max": 5.0}
    results = judge(tmp_path, plain, strict, **{**GOOD, "ctf_quality": "poor", "ice_ring_excess": 6.0})
    assert results.quality_flags == "drift,ctf,ice"
    assert "The fit of the CTF is poor; it is to be ok at least." in results.quality_remark
    assert results.quality_remark.count("than") == 1
    # one sentence for a rule broken twice
    twice = judge(tmp_path, plain, **{**GOOD, "ctf_quality": "failed", "ctf_fit_resolution": 20.0})
    assert twice.quality_flags == "ctf"
    assert "20.0" not in twice.quality_remark


def test_unknown_rules_are_refused_with_those_there_are():
    with pytest.raises(ParameterError, match=r"carbon;.*carbon_edge"):
        JudgeExposure.Params.make({"rules_off": "ice, carbon"})
    assert JudgeExposure.Params.make({"rules_off": ", ".join(RULES)})


def test_film_in_the_field(tmp_path: Path):
    made = fields.with_film(np.random.default_rng([4, 0]))
    results = judge(tmp_path, made.image)
    assert results.quality_flags == "carbon_edge"
    assert results.carbon_fraction == pytest.approx(made.fraction, abs=0.05)
    assert f"{100 * results.carbon_fraction:.0f} %" in results.quality_remark
    assert results.edge_contrast == pytest.approx(100 * 0.15, abs=12)
    for params in ({"carbon_fraction_max": None}, {"carbon_fraction_max": 0.9}, {"rules_off": "carbon_edge"}):
        allowed = judge(tmp_path, made.image, params)
        assert allowed.quality_flags == ""
        assert allowed.carbon_fraction == results.carbon_fraction


def test_an_empty_hole_and_what_its_rings_say(tmp_path: Path):
    image = fields.empty(np.random.default_rng([6, 0])).image
    assert judge(tmp_path, image).quality_flags == "empty_hole"
    failed = judge(tmp_path, image, ctf_quality="failed")
    assert failed.quality_flags == "empty_hole,ctf"
    assert "no Thon rings" in failed.quality_remark
    # rings are made by something
    assert judge(tmp_path, image, ctf_quality="ok").quality_flags == ""
    assert judge(tmp_path, image, {"empty_fraction": None}).quality_flags == ""


def test_a_torn_film(tmp_path: Path):
    made = fields.torn(np.random.default_rng([5, 0]))
    results = judge(tmp_path, made.image)
    assert results.quality_flags == "broken_film"
    assert results.open_fraction == pytest.approx(made.fraction, abs=0.08)
    assert judge(tmp_path, made.image, {"open_fraction_max": None}).quality_flags == ""


def test_results_hold_no_flag_of_the_users():
    names = {spec.name for spec in JudgeExposure.makes()}
    assert "quality_flags" in names
    assert not names & {"flag", "comment", "group", "status"}
