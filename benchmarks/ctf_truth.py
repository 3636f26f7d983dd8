"""CTF estimation against known truth: simulated micrographs of every kind, noise, and how reliable the verdicts are.

    python benchmarks/ctf_truth.py [--micrographs 200] [--noise 1000] [--seed 1000]
    python benchmarks/ctf_truth.py --ends [--micrographs 200]
    python benchmarks/ctf_truth.py --train --micrographs 2200

Micrographs are drawn over 0.3-5 µm, 0.5-2.5 Å/px, 80-300 kV, weak to strong, a third with a phase plate; with --ends
over 0.1-0.4 and 4-15 µm, 0.3-5 Å/px, Cs of 0.001-5 mm: optics that the probability never learnt from. A fit is right
where U and V are within the tolerance of its kind (below); where fewer than three zeros of the CTF lie in the band, or
the specimen is too weak, it has to be right or not "ok". The whole distribution of errors is kept.
"""

from __future__ import annotations

import argparse
import math
import os
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from functools import partial
from typing import Any

# a process per core: threads of their own would wait for each other
for _name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMBA_NUM_THREADS"):
    os.environ[_name] = "1"

import _common  # noqa: E402
import numpy as np  # noqa: E402

RIGHT = 300.0
"""Å by which U and V may err where a fit is called right or wrong, or 2 % of the defocus where that is more."""


def draw(seed: int) -> tuple[Any, bool]:
    """Return the specification of a micrograph and whether its phase shift is to be searched."""
    from focusnb.ops.simulate.detector import DetectorSettings
    from focusnb.ops.simulate.movie import MovieSpec
    from focusnb.ops.simulate.optics import Optics
    from focusnb.ops.simulate.specimen import SpecimenSettings

    rng = np.random.default_rng([seed, 77])
    pixel_size = float(np.exp(rng.uniform(math.log(0.5), math.log(2.5))))
    defocus = float(np.exp(rng.uniform(math.log(3000.0), math.log(50_000.0))))
    astigmatism = float(min(rng.exponential(250.0), 1200.0, 0.3 * defocus))
    voltage, aberration = ((300.0, 2.7), (300.0, 0.01), (200.0, 2.0), (200.0, 1.4), (100.0, 1.6), (80.0, 4.7))[
        int(rng.choice(6, p=[0.35, 0.1, 0.2, 0.15, 0.1, 0.1]))
    ]
    plate = rng.random() < 1 / 3
    optics = Optics(
        voltage=voltage,
        spherical_aberration=aberration,
        amplitude_contrast=float(rng.choice([0.07, 0.1])),
        defocus_u=defocus + 0.5 * astigmatism,
        defocus_v=defocus - 0.5 * astigmatism,
        astigmatism_angle=float(rng.uniform(-90.0, 90.0)),
        phase_shift=float(rng.uniform(20.0, 150.0)) if plate else 0.0,
        b_factor=float(rng.uniform(40.0, 160.0)),
    )
    specimen = SpecimenSettings(
        ice_thickness=float(np.exp(rng.uniform(math.log(40.0), math.log(400.0)))),
        particle_mass=float(np.exp(rng.uniform(math.log(50.0), math.log(800.0)))),
        particle_spacing=float(rng.uniform(250.0, 800.0)),
    )
    shape = tuple(int(side) for side in rng.integers(900, 1501, 2))
    dose = float(rng.uniform(0.4, 1.5))
    spec = MovieSpec(shape, 40, pixel_size, dose, optics=optics, specimen=specimen, detector=DetectorSettings())
    return spec, plate


def draw_ends(seed: int) -> tuple[Any, bool]:
    """Return the same for a micrograph from the ends of what is supported, where few sessions are recorded."""
    spec, plate = draw(seed)
    rng = np.random.default_rng([seed, 991])

    def between(low: float, high: float) -> float:
        return float(np.exp(rng.uniform(math.log(low), math.log(high))))

    pixel_size = between(0.3, 5.0)
    defocus = between(1000.0, 4000.0) if rng.random() < 0.5 else between(40_000.0, 150_000.0)
    astigmatism = float(min(rng.exponential(250.0), 1200.0, 0.3 * defocus))
    optics = replace(
        spec.optics,
        voltage=float(rng.choice([80.0, 100.0, 120.0, 160.0, 200.0, 300.0])),
        spherical_aberration=between(0.001, 5.0),
        defocus_u=defocus + 0.5 * astigmatism,
        defocus_v=defocus - 0.5 * astigmatism,
    )
    shape = tuple(int(side) for side in rng.integers(700, 2001, 2))
    return replace(spec, pixel_size=pixel_size, optics=optics, shape=shape), plate


def spectra_and_optics(image: np.ndarray, spec: Any) -> tuple[np.ndarray, Any, tuple[np.ndarray, float] | None]:
    """Return the spectrum of a micrograph as the step makes it, the optics of its pixels, and the coarse spectrum."""
    from focusnb.ops.ctf import Optics
    from focusnb.ops.spectrum import FAR_PIXEL_SIZE, Sampling, choose_sampling, power_spectra

    lens = spec.optics
    sampling = choose_sampling(spec.pixel_size)
    optics = Optics(spec.pixel_size * sampling.factor, lens.voltage, lens.spherical_aberration, lens.amplitude_contrast)
    coarse = Sampling(512, FAR_PIXEL_SIZE / spec.pixel_size)
    spectrum, *far = power_spectra(image, [sampling] if coarse.factor <= sampling.factor else [sampling, coarse])
    return spectrum, optics, (far[0], FAR_PIXEL_SIZE) if far else None


def zeros_in_band(spec: Any, highest: float) -> int:
    """Zeros of the true CTF from 30 Å to a frequency in 1/Å, counted from the formula."""
    lens = spec.optics
    volts = 1000.0 * lens.voltage
    wavelength = 12.2643 / math.sqrt(volts * (1.0 + 0.978466e-6 * volts))
    k2 = np.linspace(1 / 30, highest, 5000) ** 2
    defocus = 0.5 * (lens.defocus_u + lens.defocus_v)
    phase = math.pi * wavelength * defocus * k2
    phase -= 0.5 * math.pi * lens.spherical_aberration * 1e7 * wavelength**3 * k2**2
    phase += math.radians(lens.phase_shift) + math.asin(lens.amplitude_contrast)
    return int(np.abs(np.diff(np.floor(phase / math.pi))).sum())


def fit_micrograph(seed: int, ends: bool = False) -> tuple[Any, Any]:
    """Simulate a micrograph and fit it as the steps do; returns what was simulated and the fit."""
    from focusnb.ops.ctf import estimate_ctf
    from focusnb.ops.simulate.movie import simulate_micrograph

    spec, plate = draw_ends(seed) if ends else draw(seed)
    image, _ = simulate_micrograph(spec, seed)
    spectrum, optics, far = spectra_and_optics(image, spec)
    search = (0.0, 180.0) if plate else (0.0, 0.0)
    return spec, estimate_ctf(spectrum, optics=optics, defocus_max=150_000.0, phase_shift_search=search, far=far)


def one(seed: int, ends: bool = False) -> dict[str, Any]:
    """Simulate a micrograph, fit it, and say by how much the fit errs."""
    from focusnb.ops.ctf import astigmatism_vector

    spec, fit = fit_micrograph(seed, ends)
    lens = spec.optics
    defocus = 0.5 * (lens.defocus_u + lens.defocus_v)
    row = {
        "seed": seed,
        "pixel_size": round(spec.pixel_size, 3),
        "voltage": lens.voltage,
        "defocus": round(defocus),
        "astigmatism": round(lens.defocus_u - lens.defocus_v),
        "phase_shift": round(lens.phase_shift, 1),
        "strength": strength_of(spec),
        "zeros": zeros_in_band(spec, min(0.25, 0.46 / spec.pixel_size)),
        "quality": fit.ctf_quality,
        "probability": None if fit.ctf_probability is None else round(fit.ctf_probability, 4),
        "reason": fit.reason,
        "significance": round(fit.significance, 2),
        "score": None if fit.ctf_score is None else round(fit.ctf_score, 4),
        "resolution": None if fit.ctf_fit_resolution is None else round(fit.ctf_fit_resolution, 2),
        "stated_error": None if fit.defocus_error is None else round(fit.defocus_error, 1),
    }
    if fit.defocus_u is None:
        return row | {"error_u": None, "error_v": None, "error_vector": None, "error_phase": None, "right": None}
    found = astigmatism_vector(fit.defocus_u, fit.defocus_v, fit.astigmatism_angle)
    true = astigmatism_vector(lens.defocus_u, lens.defocus_v, lens.astigmatism_angle)
    errors = fit.defocus_u - lens.defocus_u, fit.defocus_v - lens.defocus_v
    turned = (fit.phase_shift - lens.phase_shift + 90.0) % 180.0 - 90.0
    return row | {
        "error_u": round(errors[0], 1),
        "error_v": round(errors[1], 1),
        "error_vector": round(abs(found - true), 1),
        "error_phase": round(turned, 2),
        "right": bool(max(abs(error) for error in errors) <= max(RIGHT, 0.02 * defocus)),
        "terms": [round(float(term), 5) for term in fit.evidence.terms()],
    }


def strength_of(spec: Any) -> str:
    """Call a specimen strong, usual or weak, as the standard movies do: by its ice and its envelope."""
    thickness, b_factor = spec.specimen.ice_thickness, spec.optics.b_factor
    if thickness >= 250.0 and b_factor <= 80.0:
        return "strong"
    return "usual" if thickness >= 150.0 and b_factor <= 110.0 else "weak"


ALLOWED = {"strong": 150.0, "usual": 150.0, "weak": 300.0}
"""Å by which U and V may err: small's tolerance for fields of this size, and hard's."""


def noise(seed: int) -> dict[str, Any]:
    """Fit an image without rings: white, coloured, or counts, of any size."""
    from focusnb.ops.ctf import Optics, estimate_ctf
    from focusnb.ops.spectrum import FAR_PIXEL_SIZE, Sampling, power_spectra

    rng = np.random.default_rng([seed, 5])
    shape = tuple(int(side) for side in rng.integers(600, 1601, 2))
    image = rng.standard_normal(shape, np.float32)
    kind = ("white", "counts", "coloured", "steep")[int(rng.integers(4))]
    if kind == "counts":
        image = rng.poisson(float(rng.uniform(0.2, 20.0)), shape).astype(np.float32)
    elif kind != "white":
        ky, kx = np.fft.fftfreq(shape[0])[:, None], np.fft.rfftfreq(shape[1])[None, :]
        k = np.hypot(ky, kx)
        curve = np.exp(-k * rng.uniform(0.5, 4.0)) if kind == "coloured" else 1.0 / (k + rng.uniform(0.01, 0.05)) ** 0.5
        image = np.fft.irfft2(np.fft.rfft2(image) * curve, s=shape).astype(np.float32)
    pixel_size = float(np.exp(rng.uniform(math.log(1.0), math.log(2.0))))
    spectrum, far = power_spectra(image, [Sampling(512), Sampling(512, FAR_PIXEL_SIZE / pixel_size)])
    optics = Optics(pixel_size, 300.0, 2.7, 0.1)
    fit = estimate_ctf(spectrum, optics=optics, defocus_max=150_000.0, far=(far, FAR_PIXEL_SIZE))
    return {"seed": seed, "kind": kind, "quality": fit.ctf_quality, "significance": round(fit.significance, 2)}


def over_all(function: Any, seeds: range) -> list[dict[str, Any]]:
    """Call a function for each seed, on all cores."""
    with ProcessPoolExecutor() as pool:
        return list(pool.map(function, seeds, chunksize=5))


def reliability(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Compare stated probabilities with how often fits are right, in tenths."""
    table = []
    known = [row for row in rows if row["probability"] is not None]
    for tenth in range(10):
        part = [row for row in known if min(int(10 * row["probability"]), 9) == tenth]
        if part:
            stated, right = (float(np.mean([row[name] for row in part])) for name in ("probability", "right"))
            table.append(
                {
                    "from": tenth / 10,
                    "fits": len(part),
                    "stated": round(stated, 3),
                    "right": round(right, 3),
                    "chance": round(math.sqrt(stated * (1 - stated) / len(part)), 3),
                }
            )
    return table


def summarise(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """What came of the micrographs, by how strong they are."""
    table = []
    for name in ("strong", "usual", "weak"):
        part = [row for row in rows if row["strength"] == name and row["zeros"] >= 3]
        good = [row for row in part if row["quality"] == "ok"]
        errors = [max(abs(row["error_u"]), abs(row["error_v"])) for row in good]
        far_off = [row for row in good if not row["right"]]
        table.append(
            {
                "specimen": name,
                "micrographs": len(part),
                "ok": len(good),
                "poor": sum(row["quality"] == "poor" for row in part),
                "failed": sum(row["quality"] == "failed" for row in part),
                "median error": round(float(np.median(errors)), 1) if errors else None,
                "90 %": round(float(np.percentile(errors, 90)), 1) if errors else None,
                "within allowed": round(float(np.mean(np.array(errors) <= ALLOWED[name])), 3) if errors else None,
                "ok but wrong": len(far_off),
            }
        )
    return table


def others(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """What came of micrographs with few zeros, and of phase plates."""
    few = [row for row in rows if row["zeros"] < 3]
    turned = [abs(row["error_phase"]) for row in rows if row["quality"] == "ok" and row["phase_shift"] > 0]
    return {
        "fewer than 3 zeros": len(few),
        "of these ok but wrong": sum(row["quality"] == "ok" and not row["right"] for row in few),
        "phase plates ok": len(turned),
        "of these within 10°": int(np.sum(np.array(turned) <= 10.0)),
    }


def train(rows: list[dict[str, Any]]) -> np.ndarray:
    """Return the weights of the logistic regression of right on the terms of the evidence."""
    from scipy.optimize import minimize

    known = [row for row in rows if row["probability"] is not None]
    terms, right = np.array([row["terms"] for row in known]), np.array([row["right"] for row in known], float)

    def cost(weights: np.ndarray) -> float:
        odds = terms @ weights
        return float((np.logaddexp(0.0, odds) - right * odds).sum() + 0.3 * (weights[1:] ** 2).sum())

    return np.asarray(minimize(cost, np.zeros(terms.shape[1]), method="BFGS").x)


def main() -> None:
    """Run the campaign, or learn the weights of the probability."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--micrographs", type=int, default=200)
    parser.add_argument("--noise", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=1000, help="of the first micrograph")
    parser.add_argument("--ends", action="store_true", help="micrographs from the ends of what is supported")
    parser.add_argument("--train", action="store_true", help="print the weights; takes seeds from 100000 on")
    options = parser.parse_args()
    if options.train:
        from focusnb.ops.ctf import fit

        fit.UNLIKELY = 0.0  # learns from all fits better than chance
        rows = over_all(one, range(100_000, 100_000 + options.micrographs))
        _common.table(reliability(rows))
        print(", ".join(f"{weight:.3f}" for weight in train(rows)))
        return
    rows = over_all(partial(one, ends=options.ends), range(options.seed, options.seed + options.micrographs))
    table = summarise(rows)
    _common.table(table)
    print(others(rows))
    reliable = reliability(rows)
    _common.table(reliable)
    columns = [name for name in rows[0] if name not in ("terms", "reason")]
    lines = [",".join("" if row[name] is None else str(row[name]) for name in columns) for row in rows]
    found = {"summary": table, **others(rows), "reliability": reliable}
    micrographs = {"micrographs": [",".join(columns), *lines]}
    if options.ends:
        _common.save("ctf_ends", found | micrographs)
        return
    empty = over_all(noise, range(options.noise))
    verdicts = {name: sum(row["quality"] == name for row in empty) for name in ("ok", "poor", "failed")}
    print(f"{len(empty)} images without rings:", verdicts)
    _common.save("ctf_truth", found | {"noise": verdicts} | micrographs)


if __name__ == "__main__":
    main()
