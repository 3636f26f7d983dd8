"""EER movies through the step that prepares movies: counts, dose, pixel size, gain and defects."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile

from focusnb.io.mrc import write_mrc
from focusnb.steps.prepare.prepare_movie import PrepareMovie
from focusnb.steps.testing import run_step
from tests.io.eer_encoder import CODINGS, image_of, write_eer

SHAPE = (256, 320)
HARDWARE_FRAMES = 60
CODING = CODINGS["7+4"]
DEAD = (17, 200)


@pytest.fixture(scope="module")
def session(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[Any]]:
    """A movie of 2 electrons per 100 pixels and hardware frame, twice as many in its left half; one pixel is dead."""
    folder = tmp_path_factory.mktemp("eer")
    random = np.random.default_rng(11)
    chance = np.full(SHAPE, 0.02)
    chance[:, : SHAPE[1] // 2] *= 2
    chance[DEAD] = 0
    frames = []
    for _ in range(HARDWARE_FRAMES):
        pixels = np.argwhere(random.random(SHAPE) < chance)
        places = 4 * pixels + random.integers(0, 4, pixels.shape)
        frames.append([(int(y), int(x)) for y, x in places])
    write_eer(folder / "shot.eer", frames, SHAPE, CODING)
    gain = np.ones(SHAPE, np.float32)
    gain[:, : SHAPE[1] // 2] = 0.5
    xml = f"<defects><point>{DEAD[1]},{DEAD[0]}</point></defects>".encode()
    tifffile.imwrite(folder / "camera.gain", gain, extratags=[(65100, 7, len(xml), xml, True)], metadata=None)
    response = 300 / gain
    response[DEAD] = 0
    write_mrc(folder / "response.mrc", response, pixel_size=1.0)
    return folder, frames


def prepare(folder: Path, tmp_path: Path, *, params: dict[str, Any] | None = None, **facts: Any) -> tuple[Any, Any]:
    kept: dict[str, Any] = {}

    class Kept(PrepareMovie):
        """Keeps the frames, which live in the task only."""

        def run(self, inputs: Any, params: Any, work: Any) -> Any:
            result = super().run(inputs, params, work)
            kept["frames"] = work["frames"]
            return result

    facts = {"movie": str(folder / "shot.eer"), "pixel_size": 1.5} | facts
    results = run_step(Kept, tmp_path, params={"find_hot_pixels": False} | (params or {}), **facts)
    return results, kept["frames"]


@pytest.mark.parametrize("finer", [1, 2])
@pytest.mark.parametrize(("name", "scale"), [("camera.gain", 1.0), ("response.mrc", 1.5)])
def test_both_grids_give_the_same_counts_and_dose(
    session: Any, tmp_path: Path, finer: int, name: str, scale: float
) -> None:
    """The response is 600 left and 300 right: its mean over its value is 1.5 times the gain of the other file."""
    folder, electrons = session
    results, frames = prepare(
        folder, tmp_path, params={"eer_fractions": 12, "eer_upsampling": finer}, gain_reference=str(folder / name)
    )
    assert frames.shape == (12, SHAPE[0] * finer, SHAPE[1] * finer)
    assert results.movie_pixel_size == 1.5 / finer
    assert results.bad_pixels == finer**2
    truth = scale * sum(image_of(frame, SHAPE, CODING, finer) for frame in electrons[:5])
    truth[:, : truth.shape[1] // 2] *= 0.5
    good = np.ones(SHAPE, bool)
    good[DEAD] = False
    good = good.repeat(finer, axis=0).repeat(finer, axis=1)
    np.testing.assert_allclose(frames[0][good], truth[good], rtol=1e-5)
    expected = scale * 0.02 * HARDWARE_FRAMES / 12
    assert results.mean_counts == pytest.approx(expected, rel=0.02)
    assert results.dose_per_frame_used == pytest.approx(expected / 1.5**2, rel=0.02)
    assert results.dose_origin == "counts"
    assert (results.eer_grid, results.eer_grouping) == (finer, HARDWARE_FRAMES // 12)


def test_the_dose_follows_the_number_of_fractions(session: Any, tmp_path: Path) -> None:
    folder, _ = session
    results, frames = prepare(folder, tmp_path, params={"eer_dose_per_fraction": 2.0}, exposure_dose=31.0)
    assert (len(frames), results.dose_per_frame_used, results.dose_origin) == (16, 31 / 16, "exposure")
    assert (results.eer_grid, results.eer_grouping) == (1, None)  # 60 hardware frames in 16 are three or four
    results, frames = prepare(folder, tmp_path, params={"eer_fractions": 10}, exposure_dose=31.0)
    assert (len(frames), results.dose_per_frame_used) == (10, 3.1)
    results, frames = prepare(folder, tmp_path, params={"eer_dose_per_fraction": 2.0}, dose_per_frame=0.5)
    assert (len(frames), results.dose_per_frame_used, results.dose_origin) == (40, 0.5, "given")
    results, frames = prepare(folder, tmp_path, params={"eer_fractions": 20}, dose_per_frame=0.5, frame_count=40)
    assert (len(frames), results.dose_per_frame_used, results.dose_origin) == (20, 1.0, "given")


def test_memory_is_that_of_the_grid_and_the_fractions() -> None:
    facts = {"width": 4096, "height": 4096, "frame_count": 40, "hardware_frames": 1680}
    step, pixels = PrepareMovie(), 4096**2

    def memory(**params: Any) -> float:
        return step.cost(facts, PrepareMovie.Params.make(params)).memory

    assert memory(eer_fractions=80) - memory(eer_fractions=40) == 40 * pixels
    assert memory(eer_upsampling=2) > 4 * 40 * pixels
    assert memory(eer_fractions=5) - memory(eer_fractions=10) == 0  # two bytes where more than 255 are added up
