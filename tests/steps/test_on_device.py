"""The chain of a movie on a device: a strict stand-in, or a GPU, finds what the host finds."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from focusnb.io.images import read_image
from focusnb.io.mrc import write_mrc
from focusnb.io.tiff import write_tiff
from focusnb.ops import transfer
from focusnb.ops.backend import register_array
from focusnb.ops.simulate import simulate_movie, standard_case
from focusnb.steps import task as tasks
from focusnb.steps.task import StepOutcome, run_task
from tests.strict import NAMESPACES, StrictArray

from tests.steps.conftest import Bench  # isort: skip

CHAIN = ("prepare_movie", "align_frames", "measure_spectrum", "fit_ctf")
FRAMES, SHAPE = 6, (400, 420)


def strict_module() -> Any:
    register_array(StrictArray, NAMESPACES)
    return NAMESPACES.xp


@pytest.fixture
def device(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Any:
    if request.param == "cupy":
        return tasks._gpu()
    module = strict_module()
    monkeypatch.setattr(tasks, "_gpu", lambda: module)
    return module


every_device = pytest.mark.parametrize("device", ["strict", pytest.param("cupy", marks=pytest.mark.gpu)], indirect=True)


@pytest.fixture
def camera(bench: Bench) -> Bench:
    spec = replace(standard_case("small"), shape=SHAPE, frames=FRAMES, dose_per_frame=6.0)
    movie = simulate_movie(spec, 5)
    write_tiff(bench.project / "movie.tif", movie.frames)
    write_mrc(bench.project / "gain.mrc", movie.gain, pixel_size=1.06)
    bench.facts |= {
        "kind": "movie",
        "movie": str(bench.project / "movie.tif"),
        "gain_reference": str(bench.project / "gain.mrc"),
        "pixel_size": 1.06,
        "voltage": 300.0,
        "spherical_aberration": 2.7,
        "amplitude_contrast": 0.1,
        "dose_per_frame": 6.0,
        "frame_count": FRAMES,
        "height": SHAPE[0],
        "width": SHAPE[1],
    }
    return bench


def run(bench: Bench, id: str, *, device: bool) -> tuple[dict[str, StepOutcome], Path]:
    task = replace(bench.task(*CHAIN, id=id), use_gpu=device)
    outcome = run_task(task)
    return {step.step: step for step in outcome.steps}, task.run_folder


def assert_alike(here: dict[str, StepOutcome], there: dict[str, StepOutcome]) -> None:
    for name in CHAIN:
        assert there[name].status == "done", there[name].reason + there[name].traceback
        for key, value in here[name].values.items():
            if isinstance(value, float):
                assert there[name].values[key] == pytest.approx(value, rel=0.02, abs=0.02), (name, key)
            elif key not in ("frames", "unaligned_sum"):
                assert there[name].values[key] == value, (name, key)


@every_device
def test_a_movie_on_a_device(device: Any, camera: Bench) -> None:
    here, folder = run(camera, "1", device=False)
    there, other = run(camera, "2", device=True)
    assert_alike(here, there)
    one, two = (read_image(where / "micrograph_dw.mrc").data for where in (folder, other))
    assert np.corrcoef(one.ravel(), two.ravel())[0, 1] > 0.999


@every_device
def test_a_movie_that_does_not_fit_crosses_in_batches(
    device: Any, camera: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    here, _ = run(camera, "1", device=False)
    pixels = SHAPE[0] * SHAPE[1]
    free = (transfer.device_memory(FRAMES, pixels, 1) + 2 * pixels) / transfer.SHARE
    monkeypatch.setattr(transfer, "free_memory", lambda xp: int(free) + 1)
    assert transfer.plan_transfer((FRAMES, *SHAPE), 1, int(free) + 1) == transfer.Plan(False, 2)
    there, _ = run(camera, "2", device=True)
    assert_alike(here, there)


@every_device
def test_a_device_that_is_too_small_is_told(device: Any, camera: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transfer, "free_memory", lambda xp: 10_000_000)
    there, _ = run(camera, "2", device=True)
    assert there["prepare_movie"].status == "failed"
    assert there["prepare_movie"].reason.startswith("movie.tif: 6 frames of 420 x 400 pixels need 0.0 GB of GPU")
