"""Tiny movies are processed by workers of all kinds while everything around them is killed, stopped and locked."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from tests.faults.harness import KILL, LOCK, OWN, RESTART, SCHEDULER, STOP, WORKER, Campaign, Leg, Pace, verdict

MOVIES = 24


@pytest.mark.slow
@pytest.mark.parametrize(
    "leg", [Leg(OWN, (WORKER, KILL, STOP)), Leg(SCHEDULER, (RESTART, WORKER, LOCK))], ids=["own", "far"]
)
def test_nothing_is_lost_and_nothing_done_twice(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, leg: Leg) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    seed = time.time_ns() % 1_000_000
    print(f"seed {seed}")  # shown where it ends badly
    figures = Campaign(tmp_path, tmp_path, legs=[leg], movies=MOVIES, wrong=0, seed=seed, pace=Pace()).run()
    assert verdict(figures) == []
    assert figures["exposures done"] == MOVIES
    assert sum(figures["faults injected"].values()) == 3
