"""Warm a worker up: import and compile what its first movie would have to wait for."""

from __future__ import annotations

import contextlib
import os
import socket
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from focusnb.io import processes

FRAMES, SIZE = 8, 384
"""Frames of the tiny movie, and pixels of their edge: as few as all steps of a chain accept."""

CACHE = "NUMBA_CACHE_DIR"

MARKED = 3600.0
"""Seconds for which it counts that a worker died while it was warmed up."""


class Mark:
    """A file that stays behind where a process dies while it warms up, so that the next one does without.

    It lies in the temporary folder, by user and host, is named by the process, and holds when that began.
    """

    def __init__(self) -> None:
        self._path: Path | None = None

    @staticmethod
    def _start() -> str:
        return f"focusnb-warm-{os.geteuid()}-{socket.gethostname()}-"

    def make(self) -> None:
        """Leave the mark; where that cannot be written there is none."""
        path = Path(tempfile.gettempdir()) / f"{self._start()}{os.getpid()}"
        with contextlib.suppress(OSError):
            path.unlink(missing_ok=True)
            with open(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600), "w") as file:
                file.write(repr(processes.began()))
            self._path = path

    def remove(self) -> None:
        """Nobody died."""
        if self._path is not None:
            with contextlib.suppress(OSError):
                self._path.unlink()

    @classmethod
    def of_a_death(cls) -> bool:
        """Whether there is the mark of a process that died; it is removed, and counts once."""
        start = cls._start()
        for path in sorted(Path(tempfile.gettempdir()).glob(f"{start}*")):
            with contextlib.suppress(OSError, ValueError):
                state = path.lstat()
                if state.st_uid != os.geteuid():
                    continue
                if processes.began(int(path.name.removeprefix(start))) == float(path.read_text()):
                    continue
                path.unlink()  # only one process can
                if time.time() - state.st_mtime < MARKED:
                    return True
        return False


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
        outcome = run_task(task)
    if "align_frames" in steps and not use_gpu:
        _halve_frames()
    return outcome


def _halve_frames() -> None:
    """Run the kernel of movies that are binned by an even factor, which so small a movie as this one never is."""
    import numpy as np

    from focusnb.ops.frames import CorrectedFrames

    CorrectedFrames(np.ones((2, 64, 64), np.uint8), gain=np.ones((64, 64), np.float32)).coarse_sums(2)


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
