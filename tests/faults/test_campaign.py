"""A session under faults of every kind loses nothing and does nothing twice; ``make soak`` does more of it."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.faults.campaign import KINDS, Campaign


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_sixty_movies_under_faults_of_every_kind(small_disk: Callable[[float], Path], tmp_path: Path) -> None:
    seed = int(os.environ.get("FOCUSNB_SEED", "20"))
    campaign = Campaign(small_disk(60), tmp_path, movies=60, seed=seed, small_disk=True)
    try:
        figures = campaign.run(["worker killed", *KINDS], limit=700)
    finally:
        campaign.close()
    print(figures.row())
    assert figures.notes == [], f"seed {seed}"
    assert figures.faultless(), figures.row()
    assert sum(figures.faults.values()) == len(KINDS) + 1
