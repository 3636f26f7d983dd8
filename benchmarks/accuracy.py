"""Accuracy on the standard movies, whose truth is known.

    python benchmarks/accuracy.py [small mid hard] [--large] [--seeds 1 2 3 4 5]

Each movie is simulated, corrected, aligned and summed. A quantity is a function of truth and results; it is stated as
the median over seeds and the worst of them, beside what is allowed (the worst: one and a half times as much).
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).parent))

import _common

WORST = 1.5  # times the allowed median, for a single seed


@dataclass
class Results:
    """What was made of a movie, and the CPU seconds of each stage."""

    shifts: np.ndarray
    micrograph: np.ndarray
    ctf: Any
    seconds: dict[str, float] = field(default_factory=dict)


def process(movie: Any, seed: int) -> Results:
    """Correct, align and sum a simulated movie and fit the CTF of the sum, as the steps do."""
    from focusnb.ops.defects import find_hot_pixels, prepare_bad_pixels
    from focusnb.ops.dose import Dose
    from focusnb.ops.frames import CorrectedFrames
    from focusnb.ops.gain import bad_gain_pixels
    from focusnb.ops.motion.align import estimate_shifts
    from focusnb.ops.motion.sums import sum_frames

    spec, seconds = movie.truth.spec, {}

    def measured(stage: str, function: Callable[[], Any]) -> Any:
        started = time.process_time()
        result = function()
        seconds[stage] = round(time.process_time() - started, 3)
        return result

    def correct() -> Any:
        dead = bad_gain_pixels(movie.gain)
        hot = find_hot_pixels(CorrectedFrames(movie.frames, gain=movie.gain).sum(), known=dead)
        return CorrectedFrames(movie.frames, gain=movie.gain, bad_pixels=prepare_bad_pixels(dead | hot), seed=seed)

    frames = measured("correct", correct)
    alignment = measured("align", lambda: estimate_shifts(frames, pixel_size=spec.pixel_size))
    dose = Dose(spec.dose_per_frame, spec.prior_dose, spec.optics.voltage)
    sums = measured("sum", lambda: sum_frames(frames, alignment.shifts, pixel_size=spec.pixel_size, dose=dose))
    fit = measured("ctf", lambda: fit_ctf(spec, sums.dose_weighted))
    return Results(alignment.shifts, sums.unweighted, fit, seconds)


def fit_ctf(spec: Any, micrograph: np.ndarray) -> Any:
    """Fit the CTF of a dose-weighted sum with the defaults of the steps."""
    from focusnb.ops.ctf import Optics, estimate_ctf
    from focusnb.ops.spectrum import choose_sampling, power_spectrum

    sampling = choose_sampling(spec.pixel_size)
    optics = Optics(
        pixel_size=spec.pixel_size * sampling.factor,
        voltage=spec.optics.voltage,
        spherical_aberration=spec.optics.spherical_aberration,
        amplitude_contrast=spec.optics.amplitude_contrast,
    )
    return estimate_ctf(power_spectrum(micrograph, sampling=sampling), optics=optics)


def trajectory_error(truth: Any, results: Results) -> float:
    """Root mean square of the error vector of the whole-frame shifts, mean over time removed, in pixels."""
    error = results.shifts - truth.field_mean()
    error = error - error.mean(axis=0)
    return float(np.sqrt((error**2).sum(axis=1).mean()))


def defocus_error(truth: Any, results: Results) -> float | None:
    """Largest error of defocus U and V in Å; None where no fit was found."""
    optics, fit = truth.spec.optics, results.ctf
    if fit.defocus_u is None:
        return None
    return float(max(abs(fit.defocus_u - optics.defocus_u), abs(fit.defocus_v - optics.defocus_v)))


def trusted_defocus_error(truth: Any, results: Results) -> float | None:
    """As ``defocus_error``, but a fit that says itself that it is not ok is no error."""
    return defocus_error(truth, results) if results.ctf.ctf_quality == "ok" else 0.0


def astigmatism_error(truth: Any, results: Results) -> float | None:
    """Distance of the astigmatism vectors (U - V) exp(2i angle) in Å; None where no fit was found."""
    from focusnb.ops.ctf import astigmatism_vector

    optics, fit = truth.spec.optics, results.ctf
    if fit.defocus_u is None:
        return None
    expected = astigmatism_vector(optics.defocus_u, optics.defocus_v, optics.astigmatism_angle)
    return float(abs(astigmatism_vector(fit.defocus_u, fit.defocus_v, fit.astigmatism_angle) - expected))


@dataclass(frozen=True)
class Quantity:
    """A measure of accuracy: its unit, its function of truth and results, and the allowed median for each movie."""

    label: str
    unit: str
    measure: Callable[[Any, Results], float | None]
    allowed: dict[str, float]


QUANTITIES: dict[str, Quantity] = {
    "trajectory": Quantity(
        "whole-frame trajectory", "px", trajectory_error, {"small": 0.22, "large": 0.20, "mid": 0.18, "hard": 0.23}
    ),
    "defocus": Quantity("defocus U and V", "Å", defocus_error, {"small": 150.0, "large": 40.0, "mid": 80.0}),
    "trusted_defocus": Quantity("defocus U and V where ok", "Å", trusted_defocus_error, {"hard": 300.0}),
    "astigmatism": Quantity(
        "astigmatism vector", "Å", astigmatism_error, {"small": 150.0, "large": 40.0, "mid": 100.0}
    ),
}


def run_case(name: str, seed: int) -> dict[str, Any]:
    """Simulate and process one standard movie; return its accuracies by quantity, and CPU seconds by stage."""
    from focusnb.ops.simulate import simulate_movie, standard_case

    movie = simulate_movie(standard_case(name), seed)
    results = process(movie, seed)
    errors = {key: quantity.measure(movie.truth, results) for key, quantity in QUANTITIES.items()}
    return {"name": name, "seed": seed, "errors": errors, "seconds": results.seconds}


def summarise(cases: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return one row for each movie and quantity: median and worst over seeds, and whether they are allowed."""
    rows = []
    for name in dict.fromkeys(case["name"] for case in cases):
        for key, quantity in QUANTITIES.items():
            if name not in quantity.allowed:
                continue
            values = [case["errors"][key] for case in cases if case["name"] == name]
            known = [value for value in values if value is not None]
            limit = quantity.allowed[name]
            median = float(np.median(known)) if known else None
            worst = max(known) if known else None
            reached = len(known) == len(values) and median <= limit and worst <= WORST * limit
            rows.append(
                {
                    "movie": name,
                    "quantity": quantity.label,
                    "unit": quantity.unit,
                    "median": median,
                    "worst": worst,
                    "allowed": limit,
                    "reached": "yes" if reached else "NO",
                    "seeds": len(values),
                }
            )
    return rows


def main() -> int:
    """Run the campaign; the exit status tells whether every tolerance is met."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", help="standard movies (default: small mid hard)")
    parser.add_argument("--large", action="store_true", help="also the large movie: a minute to simulate each")
    parser.add_argument("--seeds", nargs="+", type=int, default=[1, 2, 3, 4, 5])
    options = parser.parse_args()
    names = options.names or ["small", "mid", "hard"]
    if options.large and "large" not in names:
        names = [*names, "large"]
    cases = []
    for name in names:
        for seed in options.seeds:
            case = run_case(name, seed)
            cases.append(case)
            errors = "  ".join(f"{key} {_common._text(value)}" for key, value in case["errors"].items())
            print(f"{name} seed {seed}: {errors}  cpu {case['seconds']}", flush=True)
    print()
    rows = summarise(cases)
    _common.table(rows)
    _common.save("accuracy", {"summary": rows, "cases": cases})
    return 0 if all(row["reached"] == "yes" for row in rows) else 1


if __name__ == "__main__":
    raise SystemExit(main())
