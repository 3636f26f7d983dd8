"""The step that aligns frames: what it is told, what it finds, and the files it leaves."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from focusnb.io.images import read_image
from focusnb.io.mrc import write_mrc
from focusnb.io.relion import read_motion
from focusnb.io.tiff import write_tiff
from focusnb.ops.simulate import SimulatedMovie, simulate_movie, standard_case
from tests.relion_model import relion_shift
from tests.steps.conftest import Bench

FRAMES, SHAPE = 10, (760, 800)


@pytest.fixture(scope="module")
def movie() -> SimulatedMovie:
    spec = standard_case("small")
    return simulate_movie(replace(spec, shape=SHAPE, frames=FRAMES, dose_per_frame=2.5), 5)


@pytest.fixture
def camera(bench: Bench, movie: SimulatedMovie) -> Bench:
    write_tiff(bench.project / "movie.tif", movie.frames)
    write_mrc(bench.project / "gain.mrc", movie.gain, pixel_size=1.06)
    bench.facts |= {
        "kind": "movie",
        "movie": str(bench.project / "movie.tif"),
        "gain_reference": str(bench.project / "gain.mrc"),
        "pixel_size": 1.06,
        "voltage": 300.0,
        "dose_per_frame": 2.5,
        "frame_count": FRAMES,
    }
    return bench


def align(bench: Bench, id: str = "1", **choices: Any) -> Any:
    outcome = bench.run("prepare_movie", "align_frames", params={"align_frames": choices}, id=id)["align_frames"]
    bench.adopt(id)
    return outcome


def test_findings_and_files_tell_the_same_motion(camera: Bench, movie: SimulatedMovie) -> None:
    outcome = align(camera)
    assert outcome.status == "done", outcome.reason + outcome.traceback
    values = outcome.values
    assert values["local_motion"] == "fitted"
    assert values["patches_dropped"] == 0
    assert 0.1 < values["local_motion_rms"] < 3.0
    assert 0.0 <= values["local_motion_loss"] < values["local_motion_rms"]
    assert 2.2 < values["frc_resolution"] < 60.0
    assert 0.0 < values["alignment_uncertainty"] < 2.0
    curves = json.loads((camera.exposure / "motion.json").read_text())
    assert len(curves["shifts"]) == FRAMES
    assert len(curves["patch_shifts"]) == len(curves["patch_centres"]) == len(curves["patch_dropped"])
    # RELION's words, in its order and signs, against the truth, at a corner where local motion is large
    written = read_motion(camera.exposure / "motion.star")
    assert written.local_coefficients is not None
    y, x = 60.0, 700.0
    found = [written.shifts[t] + relion_shift(written.local_coefficients, t, y, x, SHAPE) for t in range(FRAMES)]
    truth = movie.truth.motion.shift_at(np.arange(FRAMES), y, x)
    difference = np.array(found) - truth
    assert np.sqrt(((difference - difference.mean(axis=0)) ** 2).sum(axis=1).mean()) < 0.6
    assert not (camera.exposure / "micrograph_even.mrc").exists()


def test_frames_thrown_away_and_another_reference(camera: Bench, movie: SimulatedMovie) -> None:
    choices = {"first_frame": 3, "last_frame": 9, "correct_locally": False, "reference_frame": 9, "save_aligned": True}
    outcome = align(camera, halves=True, **choices)
    assert outcome.status == "done", outcome.reason + outcome.traceback
    assert outcome.values["local_motion"] == "off"
    written = read_motion(camera.exposure / "motion.star")
    assert written.start_frame == 3
    np.testing.assert_array_equal(written.shifts[2], 0.0)
    assert np.isnan(written.shifts[[0, 1]]).all()
    assert written.local_coefficients is None
    truth = movie.truth.field_mean()
    np.testing.assert_allclose(written.shifts[8], truth[8] - truth[2], atol=0.9)
    even, odd, both = (read_image(camera.exposure / f"micrograph{n}.mrc").data for n in ("_even", "_odd", ""))
    assert even.shape == odd.shape == both.shape == SHAPE
    assert even.mean() == pytest.approx(both.mean(), rel=0.01)
    assert not np.array_equal(even, odd)
    # the micrograph shows the specimen as frame 9 does: with it, not with frame 3, it agrees where it lies
    picture, inner = movie.projection[100:-100, 100:-100], slice(100, -100)

    def place(image: np.ndarray) -> np.ndarray:
        spectrum = np.fft.rfft2(image[inner, inner] - image.mean()) * np.fft.rfft2(picture - picture.mean()).conj()
        spectrum[:, 60:] = 0
        peak = np.fft.irfft2(spectrum, s=picture.shape)
        at = np.array(np.unravel_index(int(np.argmax(peak)), peak.shape))
        return np.where(at > np.array(peak.shape) // 2, at - np.array(peak.shape), at)

    np.testing.assert_allclose(place(both), -truth[8], atol=2.0)


def test_exact_and_fused_sums_agree(camera: Bench) -> None:
    fast = align(camera, "1")
    fast_sum = read_image(camera.exposure / "micrograph_dw.mrc").data[50:-50, 50:-50]
    slow = align(camera, "2", exact_sums=True)
    slow_sum = read_image(camera.exposure / "micrograph_dw.mrc").data[50:-50, 50:-50]
    assert (fast.status, slow.status) == ("done", "done")
    # they differ in the corners of the spectrum, beyond Nyquist
    assert np.corrcoef(fast_sum.ravel(), slow_sum.ravel())[0, 1] > 0.985


@pytest.mark.parametrize(
    ("choices", "words"),
    [
        ({"first_frame": 11}, "it has 10 frames and those from 11 to 10 are to be used"),
        ({"reference_frame": 2, "first_frame": 4}, "the reference frame 2 is not among the frames used"),
    ],
)
def test_choices_that_cannot_be_are_told_with_the_name(camera: Bench, choices: dict[str, int], words: str) -> None:
    outcome = camera.run("prepare_movie", "align_frames", params={"align_frames": choices})["align_frames"]
    assert outcome.status == "failed"
    assert "movie.tif" in outcome.reason
    assert words in outcome.reason


def test_a_voltage_beyond_those_known_is_refused_for_weighting_only(camera: Bench) -> None:
    camera.facts["voltage"] = 80.0
    refused = align(camera, "1", correct_locally=False)
    assert refused.status == "failed"
    assert "80 kV" in refused.reason
    assert align(camera, "2", correct_locally=False, dose_weighting=False).status == "done"


def test_of_a_single_frame_there_are_no_halves(camera: Bench) -> None:
    outcome = align(camera, first_frame=10, halves=True)
    assert outcome.status == "done", outcome.reason + outcome.traceback
    assert outcome.values.get("micrograph_even") is None
    assert not (camera.exposure / "micrograph_odd.mrc").exists()
