"""A thousand tiny movies under faults: what was injected, and what was lost, done twice or left.

    python benchmarks/soak.py [--movies 1000] [--faults 56] [--seed N]

The library is locked for 20 s each time, and processes wait for it as long as they do for users. The disk is filled
only where a small one can be mounted. Exits with 1 unless nothing was lost, wrong, done twice, stuck or left.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import _common

sys.path.insert(0, str(Path(__file__).parents[1]))

from focusnb.project.library import BUSY_TIMEOUT
from tests.faults.campaign import KINDS, Campaign

MEGABYTES = 800


def mount(folder: Path) -> bool:
    """Mount a small disk of its own; False where that is refused."""
    command = ["mount", "-t", "tmpfs", "-o", f"size={MEGABYTES}m", "tmpfs", str(folder)]
    try:
        return subprocess.run(command, capture_output=True).returncode == 0
    except FileNotFoundError:
        return False


def main() -> None:
    """Run the campaign, print its figures, keep them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--movies", type=int, default=1000)
    parser.add_argument("--faults", type=int, default=56)
    parser.add_argument("--seed", type=int, default=int(time.time()))
    options = parser.parse_args()
    faults = [KINDS[number % len(KINDS)] for number in range(options.faults)]
    print(f"seed {options.seed}", flush=True)
    with tempfile.TemporaryDirectory(prefix="focusnb-soak-") as temporary:
        disk, state = Path(temporary) / "disk", Path(temporary) / "state"
        disk.mkdir()
        state.mkdir()
        small = mount(disk)
        campaign = Campaign(
            disk, state, movies=options.movies, seed=options.seed, small_disk=small, patience=BUSY_TIMEOUT, lock=20.0
        )
        try:
            figures = campaign.run(faults, limit=3600)
        finally:
            campaign.close()
            if small:
                subprocess.run(["umount", "--lazy", str(disk)], check=False)
    row = {"seed": options.seed, **figures.row()}
    injected = row.pop("faults")
    _common.table([{"fault": kind, "injected": injected.get(kind, 0)} for kind in KINDS])
    _common.table([{"figure": name, "number": value} for name, value in row.items() if name != "notes"])
    for note in figures.notes:
        print(note)
    _common.save("soak", {**row, "faults": injected})
    if not figures.faultless():
        sys.exit("something was lost, wrong, done twice, stuck or left")


if __name__ == "__main__":
    main()
