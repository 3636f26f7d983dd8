"""Warm a worker up: import and compile what its first movie would have to wait for."""

from __future__ import annotations

import os
import sys
import tempfile
from pathlib import Path
from typing import Any

FRAMES, SIZE = 8, 384
"""Frames of the tiny movie, and pixels of their edge: as few as all steps of a chain accept."""

CACHE = "NUMBA_CACHE_DIR"


def keep_kernels() -> None:
    """See that compiled kernels can be kept: beside the code, else in the user's cache, else in a temporary folder."""
    import focusnb

    code = Path(focusnb.__file__).parent / "ops" / "__pycache__"
    if os.environ.get(CACHE) or (os.access(code, os.W_OK) if code.exists() else os.access(code.parent, os.W_OK)):
        return
    home = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "focusnb" / "numba"
    try:
        home.mkdir(parents=True, exist_ok=True)
        writable = os.access(home, os.W_OK)
    except OSError:
        writable = False
    folder = str(home) if writable else tempfile.mkdtemp(prefix="focusnb-numba-")
    os.environ[CACHE] = folder
    if "numba" in sys.modules:
        sys.modules["numba"].config.CACHE_DIR = folder


def standard_chain() -> tuple[str, ...]:
    """Names of the steps that movies go through where nothing else is said."""
    from focusnb.modes import MODES

    return MODES["single-particle"].steps["movie"]


def warm_up(steps: tuple[str, ...], *, folder: str | None = None, use_gpu: bool = False) -> Any:
    """Run a chain of steps on a tiny movie in a temporary folder; returns its outcome.

    folder : where that is made; by default where the system keeps temporary files

    It is recorded as most cameras do (integers of 8 bits, LZW TIFF, gain and defects), so that the same kernels are
    compiled. What a step says of so small a movie does not matter.
    """
    from focusnb.steps.task import StepCall, Task, run_task

    with tempfile.TemporaryDirectory(prefix="focusnb-warm-up-", dir=folder) as name:
        calls = tuple(StepCall(step, step) for step in steps)
        task = Task(
            "warm-up", 0, "warm-up", name, "exposure", calls, facts=_movie(Path(name)), use_gpu=use_gpu, trial="warm-up"
        )
        return run_task(task)


def _movie(folder: Path) -> dict[str, Any]:
    import numpy as np

    from focusnb.io.defects import write_defects_serialem
    from focusnb.io.mrc import write_mrc
    from focusnb.io.tiff import write_tiff

    random = np.random.default_rng(1)
    gain = np.ones((SIZE, SIZE), np.float32)
    gain[SIZE // 2, :] = 1.1
    frames = random.poisson(1.0, (FRAMES, SIZE, SIZE)).astype(np.uint8)
    write_tiff(folder / "movie.tif", frames, compression="lzw")
    write_mrc(folder / "gain.mrc", gain, pixel_size=1.0)
    write_defects_serialem(folder / "defects.txt", frame_shape=gain.shape, pixels=np.array([[5, 5], [40, 90]]))
    return {
        "kind": "movie",
        "movie": str(folder / "movie.tif"),
        "gain_reference": str(folder / "gain.mrc"),
        "defects": str(folder / "defects.txt"),
        "pixel_size": 1.0,
        "voltage": 300.0,
        "spherical_aberration": 2.7,
        "amplitude_contrast": 0.1,
        "dose_per_frame": 1.0,
        "prior_dose": 0.0,
        "gain_rotation": 0,
        "gain_flip": False,
        "super_resolution": 1,
        "counts_per_electron": 1.0,
        "frame_count": FRAMES,
        "height": SIZE,
        "width": SIZE,
    }
