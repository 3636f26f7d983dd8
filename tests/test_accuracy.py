"""A sample of ``make accuracy``: the small standard movie, two seeds."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest

SCRIPT = Path(__file__).resolve().parents[1] / "benchmarks" / "accuracy.py"


@pytest.fixture(scope="module")
def campaign() -> ModuleType:
    specification = importlib.util.spec_from_file_location("accuracy_campaign", SCRIPT)
    assert specification is not None
    assert specification.loader is not None
    module = importlib.util.module_from_spec(specification)
    sys.modules[specification.name] = module  # records look up their module by name
    specification.loader.exec_module(module)
    return module


def test_small_movie_is_within_tolerance(campaign: ModuleType) -> None:
    cases = [campaign.run_case("small", seed) for seed in (1, 2)]
    rows = campaign.summarise(cases)
    assert {row["quantity"] for row in rows} >= {"whole-frame trajectory", "defocus U and V", "astigmatism vector"}
    for row in rows:
        # two seeds have no median to speak of: each may be as bad as any single one
        assert row["worst"] is not None, row
        assert row["worst"] <= campaign.WORST * row["allowed"], row
