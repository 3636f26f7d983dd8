"""The court of a session: what its first exposures say of the facts that were given for it.

Nothing is computed from pixels here but means of small curves and windows that the steps left. A check that cannot tell
says why; every other verdict has one sentence with the numbers, and what to do.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from focusnb.processing.court.bench import Bench, Verdict, Witness
from focusnb.processing.court.counts import judge_dose, judge_frames
from focusnb.processing.court.pixel_size import judge_pixel_size
from focusnb.processing.court.references import judge_defects, judge_gain_age, judge_gain_use, judge_orientation

__all__ = ["CHECKS", "TITLES", "Bench", "Verdict", "Witness", "judge"]

CHECKS: Mapping[str, Callable[[Bench], Verdict]] = {
    "frames": judge_frames,
    "gain_orientation": judge_orientation,
    "gain_use": judge_gain_use,
    "gain_age": judge_gain_age,
    "defects": judge_defects,
    "dose": judge_dose,
    "pixel_size": judge_pixel_size,
}

TITLES: Mapping[str, str] = {
    "frames": "Frames",
    "gain_orientation": "Gain, orientation",
    "gain_use": "Gain, use",
    "gain_age": "Gain, age",
    "defects": "Defects",
    "dose": "Dose",
    "pixel_size": "Pixel size",
}


def judge(bench: Bench) -> list[Verdict]:
    """Judge by every check."""
    return [check(bench) for check in CHECKS.values()]
