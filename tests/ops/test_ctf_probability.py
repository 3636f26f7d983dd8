"""The probability of a fit: what speaks for it, and that verdicts on simulated micrographs can be trusted."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from focusnb.ops.ctf.probability import WEIGHTS, Evidence, probability

GOOD = Evidence(
    significance=20.0,
    lead=60.0,
    error=40.0,
    defocus=15000.0,
    astigmatism=300.0,
    strength=15.0,
    part=0.95,
    zeros=8,
    rivals=False,
    phase_plate=False,
)


@pytest.fixture(scope="module")
def campaign() -> ModuleType:
    folder = Path(__file__).parents[2] / "benchmarks"
    sys.path.insert(0, str(folder))
    try:
        specification = importlib.util.spec_from_file_location("ctf_truth", folder / "ctf_truth.py")
        assert specification is not None
        assert specification.loader is not None
        module = importlib.util.module_from_spec(specification)
        specification.loader.exec_module(module)
    finally:
        sys.path.remove(str(folder))
    return module


def test_a_good_fit_is_likely_and_a_bad_one_is_not() -> None:
    assert len(WEIGHTS) == len(GOOD.terms())
    assert probability(GOOD) > 0.97
    assert probability(GOOD._replace(error=250.0)) < probability(GOOD)
    assert probability(GOOD._replace(zeros=1)) < probability(GOOD)
    assert probability(GOOD._replace(rivals=True)) < probability(GOOD)
    assert probability(GOOD._replace(part=0.55)) < probability(GOOD)
    assert probability(GOOD._replace(astigmatism=2400.0)) < probability(GOOD)
    bad = GOOD._replace(significance=4.2, lead=0.1, error=400.0, part=0.55, zeros=1, strength=4.0)
    assert probability(bad) < 0.3


@pytest.mark.parametrize("field", ["significance", "lead", "error", "astigmatism", "strength", "part"])
@pytest.mark.parametrize("value", [0.0, -3.0, 1e12])
def test_no_evidence_is_so_strange_that_there_is_no_number(field: str, value: float) -> None:
    assert 0.0 <= probability(GOOD._replace(**{field: value})) <= 1.0


def test_verdicts_on_simulated_micrographs(campaign: ModuleType) -> None:
    """A sample of the campaign: seeds that neither taught the weights nor are in the table."""
    rows = [campaign.one(seed) for seed in range(500_000, 500_010)]
    trusted = [row for row in rows if row["quality"] == "ok"]
    assert len(trusted) >= 3
    assert all(row["right"] for row in trusted)
    assert all(row["probability"] >= 0.9 for row in trusted)
    known = [row for row in rows if row["probability"] is not None]
    stated = np.mean([row["probability"] for row in known])
    assert abs(stated - np.mean([row["right"] for row in known])) < 0.3


def test_noise_is_never_ok(campaign: ModuleType) -> None:
    assert {campaign.noise(seed)["quality"] for seed in range(900_000, 900_012)} == {"failed"}
