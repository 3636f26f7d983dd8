"""Judge 200 simulated exposures, a quarter each ordinary, of an empty hole, with film in the field, and torn.

    python benchmarks/quality.py [--each 50] [--seed 0]

Each is taken through the spectrum, the CTF fit, the image measures and the judgement, as in a session. It counts as
right where it broke the rule of its kind and none of the other two; an ordinary one, where it broke none of the three.
The exit status tells whether 95 % are right.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

import _common
import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

RULE = {"ordinary": "", "empty": "empty_hole", "film": "carbon_edge", "torn": "broken_film"}
FIELD_RULES = ("empty_hole", "carbon_edge", "broken_film")
LEAST_RIGHT = 0.95


def judge(made: Any, folder: Path) -> tuple[Any, float]:
    """Take a simulated exposure through the steps that see its micrograph; returns the judgement and its CPU time."""
    from focusnb.io.images import read_image
    from focusnb.steps.ctf.fit_ctf import FitCtf
    from focusnb.steps.statistics.judge_exposure import JudgeExposure
    from focusnb.steps.statistics.measure_image import MeasureImage
    from focusnb.steps.statistics.measure_spectrum import MeasureSpectrum
    from focusnb.steps.testing import run_step

    given = {"micrograph": made.image, "micrograph_pixel_size": made.pixel_size}
    spectrum = run_step(MeasureSpectrum, folder, **given)
    ctf = run_step(
        FitCtf,
        folder,
        power_spectrum=read_image(folder / spectrum.power_spectrum).data,
        power_spectrum_pixel_size=spectrum.power_spectrum_pixel_size,
        voltage=300.0,
        spherical_aberration=2.7,
        amplitude_contrast=0.1,
    )
    image = run_step(MeasureImage, folder, **given)
    known = {spec.name for spec in JudgeExposure.Inputs.specs()} - set(given)
    found = {name: value for part in (ctf, image) for name, value in part.model_dump().items() if name in known}
    started = time.process_time()
    results = run_step(JudgeExposure, folder, **given, **found)
    return results, time.process_time() - started


def main() -> int:
    """Run the campaign and print what was taken for what."""
    from tests.ops import fields

    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--each", type=int, default=50, help="exposures of each kind")
    parser.add_argument("--seed", type=int, default=0, help="of the first exposure")
    options = parser.parse_args()
    makers = {"ordinary": fields.ordinary, "empty": fields.empty, "film": fields.with_film, "torn": fields.torn}
    taken: dict[str, Counter[str]] = {kind: Counter() for kind in makers}
    wrong, seconds = [], []
    errors: dict[str, list[float]] = {"film": [], "torn": []}
    with tempfile.TemporaryDirectory() as folder:
        for number, (kind, make) in enumerate(makers.items()):
            for index in range(options.each):
                seed = [options.seed, number, index]
                made = make(np.random.default_rng(seed))
                results, spent = judge(made, Path(folder))
                seconds.append(spent)
                broken = [rule for rule in results.quality_flags.split(",") if rule in FIELD_RULES]
                answer = "+".join(broken)
                taken[kind][answer] += 1
                if answer != RULE[kind]:
                    wrong.append({"kind": kind, "seed": str(seed), **results.model_dump()})
                elif kind in errors:
                    part = results.carbon_fraction if kind == "film" else results.open_fraction
                    errors[kind].append(part - made.fraction)
    right = sum(taken[kind][RULE[kind]] for kind in makers) / (len(makers) * options.each)
    answers = ["", *FIELD_RULES, *sorted({a for c in taken.values() for a in c} - {"", *FIELD_RULES})]
    rows = [{"made": kind, **{answer or "none": taken[kind][answer] for answer in answers}} for kind in makers]
    _common.table(rows)
    for fault in wrong:
        print(fault)
    parts = {kind: round(float(np.sqrt(np.mean(np.square(e)))), 3) if e else None for kind, e in errors.items()}
    print(f"{100 * right:.1f} % right; error of the part (RMS): {parts}; {np.median(seconds):.2f} CPU s each")
    _common.save(
        "quality",
        {
            "confusion": rows,
            "right": right,
            "error_of_the_part_rms": parts,
            "cpu_seconds_each": round(float(np.median(seconds)), 3),
            "wrong": wrong,
        },
    )
    return 0 if right >= LEAST_RIGHT else 1


if __name__ == "__main__":
    raise SystemExit(main())
