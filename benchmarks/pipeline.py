"""CPU seconds by stage for the standard movies *small* and *large*, beside the floor of decode and Fourier transforms.

    python benchmarks/pipeline.py [small large ...] [--repeat N]

A movie is simulated and written as a camera writes it (LZW TIFF, gain, defects); the first run of a process compiles
and is not counted. The steps run as they do in a task, in this process, on one
thread; ``motion.py`` measures the parts of motion correction.
"""

from __future__ import annotations

import argparse
import resource
import tempfile
import time
from pathlib import Path
from typing import Any

import _common
import numpy as np

FLOOR = {
    # CPU seconds per 1e9 raw pixels decoded and per full-size FFT of 1e6 pixels, measured for COMPUTE's recipe
    "decode": 0.38 / (40 * 3838 * 3710 / 1e9),
    "fft": 0.075 / (3840 * 3712 / 1e6),
}


def write_movie(name: str, folder: Path) -> dict[str, Any]:
    """Simulate a standard movie and write it; returns facts by name."""
    from focusnb.io.defects import write_defects_serialem
    from focusnb.io.mrc import write_mrc
    from focusnb.io.tiff import write_tiff
    from focusnb.ops.simulate.cases import standard_case
    from focusnb.ops.simulate.movie import simulate_movie

    spec = standard_case(name)
    movie = simulate_movie(spec, seed=1)
    write_tiff(folder / "movie.tif", movie.frames, compression="lzw")
    write_mrc(folder / "gain.mrc", movie.detector.gain, pixel_size=spec.pixel_size)
    write_defects_serialem(
        folder / "defects.txt", frame_shape=movie.frames.shape[1:], pixels=np.argwhere(movie.detector.defects)
    )
    return {
        "kind": "movie",
        "movie": str(folder / "movie.tif"),
        "gain_reference": str(folder / "gain.mrc"),
        "defects": str(folder / "defects.txt"),
        "pixel_size": spec.pixel_size,
        "voltage": spec.optics.voltage,
        "spherical_aberration": spec.optics.spherical_aberration,
        "amplitude_contrast": spec.optics.amplitude_contrast,
        "dose_per_frame": spec.dose_per_frame,
        "prior_dose": 0.0,
        "gain_rotation": 0,
        "gain_flip": False,
        "super_resolution": 1,
        "counts_per_electron": 1.0,
        "frame_count": movie.frames.shape[0],
        "height": movie.frames.shape[1],
        "width": movie.frames.shape[2],
    }


def run_chain(facts: dict[str, Any], folder: Path) -> Any:
    """The chain of a movie as a task runs it."""
    from focusnb.modes import MODES
    from focusnb.steps.task import StepCall, Task, run_task

    calls = tuple(StepCall(name, f"run-{name}") for name in MODES["single-particle"].steps["movie"])
    task = Task(str(time.time_ns()), 1, "movie", str(folder), "exposure", calls, facts=facts)
    outcome = run_task(task)
    for step in outcome.steps:
        assert step.status == "done", f"{step.step}: {step.reason}\n{step.traceback}"
    return outcome


def measure(name: str, repeat: int) -> dict[str, Any]:
    """All numbers of one standard movie."""
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        facts = write_movie(name, folder)
        run_chain(facts, folder)
        runs = [run_chain(facts, folder) for _ in range(repeat)]
        steps = {s.step: min(r.steps[i].cpu_seconds for r in runs) for i, s in enumerate(runs[0].steps)}
    pixels = facts["height"] * facts["width"]
    floor = {"decode": FLOOR["decode"] * facts["frame_count"] * pixels / 1e9, "sum": 6 * FLOOR["fft"] * pixels / 1e6}
    return {
        "frames": facts["frame_count"],
        "shape": [facts["height"], facts["width"]],
        "steps": {k: round(v, 4) for k, v in steps.items()},
        "total": round(sum(steps.values()), 3),
        "floor": {**{k: round(v, 4) for k, v in floor.items()}, "total": round(sum(floor.values()), 4)},
        "peak_memory_gb": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6, 2),
    }


def main() -> None:
    """Measure, print, keep."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("cases", nargs="*", default=["small", "large"])
    parser.add_argument("--repeat", type=int, default=3)
    options = parser.parse_args()
    results = {}
    for name in options.cases:
        print(f"{name}: simulating ...", flush=True)
        result = measure(name, options.repeat)
        results[name] = result
        rows = [{"stage": k, "CPU s": v, "floor CPU s": None} for k, v in result["steps"].items()]
        rows += [{"stage": "total", "CPU s": result["total"], "floor CPU s": result["floor"]["total"]}]
        print(f"{name}: {result['frames']} frames of {result['shape'][1]}×{result['shape'][0]} px, one thread")
        _common.table(rows)
        print(f"peak memory {result['peak_memory_gb']} GB\n")
    _common.save("pipeline", results)


if __name__ == "__main__":
    main()
