"""Change against history: by rank, and by chapters."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import mannwhitneyu

from focusnb.monitoring.changes import chance_larger, compare_last, robust_spread

TIME = np.arange(200) * 10.0
SETTINGS = {"window": 15, "history": 100, "least": 40, "pause": 600.0}


def test_the_chance_is_that_of_mann_and_whitney() -> None:
    draw = np.random.default_rng(0)
    last, before = draw.integers(0, 9, 15).astype(float), draw.integers(0, 9, 90).astype(float)
    expected = mannwhitneyu(last, before).statistic / (15 * 90)
    assert chance_larger(last, before) == pytest.approx(expected)
    assert chance_larger(before[:5] + 100, before) == 1.0


def test_spread_is_a_standard_deviation_and_outliers_do_not_matter() -> None:
    values = np.random.default_rng(1).normal(5, 2, 4001)
    values[:100] = 1e6
    assert robust_spread(values) == pytest.approx(2, rel=0.1)
    assert robust_spread(np.ones(1)) == 0.0


def test_the_last_values_against_those_before() -> None:
    values = np.random.default_rng(2).normal(1, 0.1, 200)
    values[-15:] -= 0.5
    change = compare_last(TIME, values, **SETTINGS)
    assert change is not None
    assert change.median == pytest.approx(0.5, abs=0.1)
    assert change.baseline.median == pytest.approx(1.0, abs=0.05)
    assert (change.baseline.values, change.baseline.young) == (100, False)
    assert change.larger < 0.01
    assert (len(change.last), change.low < 0.9, change.high > 1.1) == (15, True, True)
    assert compare_last(TIME[:54], values[:54], **SETTINGS) is None


def test_a_long_pause_begins_a_chapter_of_its_own() -> None:
    values = np.concatenate([np.full(130, 1.0), np.full(70, 2.0)])
    time = TIME + np.where(np.arange(200) >= 130, 3600.0, 0.0)
    change = compare_last(time, values, **SETTINGS)
    assert change is not None
    assert (change.baseline.median, change.baseline.young) == (2.0, False)
    # too few of its own yet: what was before helps, and it is said
    young = compare_last(time[:150], values[:150], **SETTINGS)
    assert young is not None
    assert (young.baseline.median, young.baseline.young) == (1.0, True)


def test_history_ends_where_the_fault_began() -> None:
    values = np.concatenate([np.full(120, 1.0), np.full(80, 0.3)])
    usual = compare_last(TIME, values, **SETTINGS)
    frozen = compare_last(TIME, values, **SETTINGS, until=TIME[120])
    assert usual is not None
    assert frozen is not None
    assert usual.baseline.median == 0.3
    assert frozen.baseline.median == 1.0
