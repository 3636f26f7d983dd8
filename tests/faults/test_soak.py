"""Sixty tiny movies are processed while everything around them is killed, stopped, locked and filled."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.faults.harness import FULL, KILL, KILL_ALL, LOCK, OWN, RESTART, SCHEDULER, STOP, WORKER, Campaign, Leg, Pace
from tests.faults.harness import verdict as verdict_of

MOVIES = 60


def run(folder: Path, disk: Path, monkeypatch: pytest.MonkeyPatch, legs: list[Leg]) -> None:
    """Run a campaign; the seed is told where it ends badly."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(folder / "config"))
    monkeypatch.setenv("XDG_STATE_HOME", str(folder / "state"))
    seed = time.time_ns() % 1_000_000
    print(f"seed {seed}")
    campaign = Campaign(folder, disk, legs=legs, movies=MOVIES, wrong=1, seed=seed, pace=Pace())
    figures = campaign.run()
    for name, figure in figures.items():
        print(f"{name}: {figure}")
    assert verdict_of(figures) == []
    assert figures["exposures done"] == MOVIES - 6
    assert figures["exposures failed as they should"] == 6


def test_nothing_is_lost_and_nothing_is_done_twice_whatever_is_killed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, small_disk: Callable[[float], Path]
) -> None:
    legs = [Leg(OWN, (WORKER, KILL, LOCK, STOP, FULL)), Leg(SCHEDULER, (RESTART, WORKER, KILL_ALL))]
    run(tmp_path, small_disk(30), monkeypatch, legs)
