"""What motion correction costs: CPU seconds by stage, wall and memory, beside a calibration on the same machine.

    python benchmarks/motion.py [small large k3 super] [--repeat N]

A movie is written as a camera writes it (LZW TIFF, gain, defects). The steps run as in a task, in this process, on one
thread; the first run of a process compiles and is not counted. The calibration is what the frames alone cost a common
library: as many decodes by imagecodecs and as many padded Fourier transforms by scipy.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import _common
import numpy as np

from focusnb.processing.heap import ONE_ARENA

CASES = {
    # rows, columns, frames, counts per pixel and frame; moved in whole by a drift of an eighth of a pixel per frame
    "small": (1024, 1024, 24, 1.12),
    "large": (3838, 3710, 40, 1.12),
    "k3": (4092, 5760, 40, 1.0),
    "super": (7676, 7420, 40, 0.25),
}
PIXEL_SIZE = {"super": 0.53}


def write_case(name: str, folder: Path) -> dict[str, Any]:
    """Write a movie of moving Poisson counts with a gain and defects; returns its facts."""
    from focusnb.io.defects import write_defects_serialem
    from focusnb.io.mrc import write_mrc
    from focusnb.io.tiff import write_tiff

    ny, nx, count, mean = CASES[name]
    rng = np.random.default_rng(7)
    margin = 64
    coarse = rng.normal(0, 1, ((ny + 2 * margin) // 4 + 1, (nx + 2 * margin) // 4 + 1)).astype(np.float32)
    scene = np.kron(coarse, np.ones((4, 4), np.float32))
    gain = (1.0 + 0.06 * rng.standard_normal((ny, nx))).astype(np.float32).clip(0.5, 1.5)
    bad = np.stack([rng.integers(0, ny, 300), rng.integers(0, nx, 300)], axis=1)

    def frames() -> Any:
        for t in range(count):
            top = margin - t // 8
            expected = mean * (1.0 + 0.15 * scene[top : top + ny, margin : margin + nx]) / gain
            yield rng.poisson(np.maximum(expected, 0.0)).astype(np.uint8)

    write_tiff(folder / "movie.tif", frames(), compression="lzw", rows_per_strip=ny if name == "super" else None)
    size = PIXEL_SIZE.get(name, 1.06)
    write_mrc(folder / "gain.mrc", gain, pixel_size=size)
    write_defects_serialem(folder / "defects.txt", frame_shape=(ny, nx), pixels=bad)
    return {
        "kind": "movie",
        "movie": str(folder / "movie.tif"),
        "gain_reference": str(folder / "gain.mrc"),
        "defects": str(folder / "defects.txt"),
        "pixel_size": size,
        "voltage": 300.0,
        "spherical_aberration": 2.7,
        "amplitude_contrast": 0.1,
        "dose_per_frame": 1.0,
        "prior_dose": 0.0,
        "gain_rotation": 0,
        "gain_flip": False,
        "super_resolution": 2 if name == "super" else 1,
        "counts_per_electron": 1.0,
        "frame_count": count,
        "height": ny,
        "width": nx,
    }


def run_steps(facts: dict[str, Any], folder: Path, *, crop: bool) -> dict[str, float]:
    """CPU seconds of the two steps of motion correction."""
    from focusnb.steps.task import StepCall, Task, run_task

    target = {"target_pixel_size": 2 * facts["pixel_size"]} if crop else {}
    calls = (StepCall("prepare_movie", "one"), StepCall("align_frames", "two", params=target))
    task = Task(str(time.time_ns()), 1, "movie", str(folder), "exposure", calls, facts=facts)
    started, cpu = time.perf_counter(), time.process_time()
    outcome = run_task(task)
    for step in outcome.steps:
        assert step.status == "done", f"{step.step}: {step.reason}\n{step.traceback}"
    spent = {step.step: round(step.cpu_seconds, 3) for step in outcome.steps if hasattr(step, "cpu_seconds")}
    return {"cpu": time.process_time() - cpu, "wall": time.perf_counter() - started, **spent}


def parts(facts: dict[str, Any]) -> dict[str, float]:
    """CPU seconds of the parts of the steps, called one after another."""
    from focusnb.io.gain import read_gain
    from focusnb.io.movies import open_movie
    from focusnb.ops.dose import Dose
    from focusnb.ops.frames import CorrectedFrames
    from focusnb.ops.motion.estimate import estimate_motion
    from focusnb.ops.motion.sums import sum_frames

    times: dict[str, float] = {}

    def timed(stage: str, function: Any) -> Any:
        started = time.process_time()
        result = function()
        times[stage] = time.process_time() - started
        return result

    with open_movie(facts["movie"]) as movie:
        raw = timed("decode", movie.read)
    frames = CorrectedFrames(raw, gain=read_gain(facts["gain_reference"]))
    dose, size = Dose(facts["dose_per_frame"], voltage=facts["voltage"]), facts["pixel_size"]
    estimate = timed("align", lambda: estimate_motion(frames, pixel_size=size, dose=dose))
    timed("sum", lambda: sum_frames(frames, estimate.field, pixel_size=size, dose=dose))
    return times


def calibrate(facts: dict[str, Any]) -> float:
    """CPU seconds of as many library decodes and padded transforms as the movie has frames."""
    import scipy.fft
    import tifffile

    from focusnb.ops.fourier import fast_shape

    shape = fast_shape((facts["height"], facts["width"]))
    image = np.random.default_rng(1).random(shape, np.float32)
    with tifffile.TiffFile(facts["movie"]) as file:
        page = file.pages[0]
        page.asarray(maxworkers=1)
        started = time.process_time()
        for _ in range(3):
            page.asarray(maxworkers=1)
        decode = (time.process_time() - started) / 3
    scipy.fft.rfft2(image)
    started = time.process_time()
    for _ in range(3):
        scipy.fft.rfft2(image)
    transform = (time.process_time() - started) / 3
    return float(facts["frame_count"] * (decode + transform))


def measure(name: str, repeat: int) -> dict[str, Any]:
    """All numbers of one movie, in this process."""
    import psutil

    from focusnb.processing.heap import keep_freed_memory

    keep_freed_memory()  # as a worker does
    with tempfile.TemporaryDirectory() as scratch:
        facts = write_case(name, Path(scratch))
        crop = name == "super"
        run_steps(facts, Path(scratch), crop=crop)  # compiles
        peak = _Peak(psutil.Process())
        before = calibrate(facts)
        with peak:
            runs = [run_steps(facts, Path(scratch), crop=crop) for _ in range(repeat)]
        best = min(runs, key=lambda run: run["cpu"])
        calibration = min(before, calibrate(facts))
        return {
            "movie": name,
            **{key: round(value, 3) for key, value in best.items()},
            "parts": {key: round(value, 3) for key, value in parts(facts).items()},
            "calibration": round(calibration, 3),
            "ratio": round(best["cpu"] / calibration, 3),
            "peak_memory_gb": round(peak.most / 1e9, 2),
        }


class _Peak:
    """The most memory a process holds while the block runs, looked at fifty times a second."""

    def __init__(self, process: Any) -> None:
        self.process, self.most = process, 0

    def __enter__(self) -> None:
        import threading

        self.stopped = threading.Event()
        self.thread = threading.Thread(target=self._watch)
        self.thread.start()

    def _watch(self) -> None:
        while not self.stopped.wait(0.02):
            self.most = max(self.most, self.process.memory_info().rss)

    def __exit__(self, *_: object) -> None:
        self.stopped.set()
        self.thread.join()


def main() -> None:
    """Measure each movie in a process of its own, so that memory is its own."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", choices=[[], *CASES], help="movies (default: small large)")
    parser.add_argument("--repeat", type=int, default=2)
    parser.add_argument("--alone", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.alone:
        print(json.dumps(measure(options.names[0], options.repeat)))
        return
    rows = []
    # one thread, as a worker of a cluster has
    surroundings = {
        **os.environ,
        **ONE_ARENA,
        **dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMBA_NUM_THREADS"), "1"),
    }
    for name in options.names or ["small", "large"]:
        command = [sys.executable, __file__, name, "--alone", "--repeat", str(options.repeat)]
        output = subprocess.run(command, capture_output=True, text=True, check=True, env=surroundings).stdout
        rows.append(json.loads(output.strip().splitlines()[-1]))
    _common.table([{key: value for key, value in row.items() if key != "parts"} for row in rows])
    for row in rows:
        print(row["movie"], "parts:", "  ".join(f"{key} {value:.2f} s" for key, value in row["parts"].items()))
    _common.save("motion", rows)


if __name__ == "__main__":
    main()
