"""align: movies without a project, on simulated movies whose motion and gain are known."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import ndimage

from focusnb.io import star
from focusnb.io.images import read_image
from focusnb.io.mrc import write_mrc
from focusnb.io.tiff import write_tiff
from focusnb.steps.align.align_frames import AlignFrames
from tests.cli.test_cli import focusnb

SHAPE, FRAMES, COUNTS = (384, 400), 8, 1.2
FACTS = ("--set", "pixel_size=1.06", "--set", "voltage=300", "--set", "dose_per_frame=1")


@pytest.fixture(scope="module")
def camera(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A camera's folder: a movie, one cut short, the gain reference, and the same one lying another way."""
    folder = tmp_path_factory.mktemp("camera")
    rng = np.random.default_rng(3)
    ny, nx = SHAPE
    gain = rng.normal(1.0, 0.06, SHAPE).astype(np.float32)
    scene = ndimage.gaussian_filter(rng.normal(0.0, 1.0, (ny, nx + FRAMES)), 2.0)
    expected = COUNTS * np.clip(1.0 + 0.3 * scene / scene.std(), 0.0, None)
    # the specimen moves by one pixel from frame to frame, towards smaller x
    frames = [rng.poisson(expected[:, t : t + nx] / gain) for t in range(FRAMES)]
    write_tiff(folder / "good.tif", np.array(frames, np.uint8), compression="lzw")
    write_mrc(folder / "gain.mrc", gain, pixel_size=1.06)
    write_mrc(folder / "flipped.mrc", np.ascontiguousarray(gain[::-1]), pixel_size=1.06)
    (folder / "cut.tif").write_bytes((folder / "good.tif").read_bytes()[:5000])
    return folder


@pytest.fixture(scope="module")
def aligned(camera: Path) -> Path:
    """The results of the good movie, as the command leaves them."""
    out = camera / "results" / "good"
    ended = focusnb("align", camera / "good.tif", "--gain", camera / "gain.mrc", *FACTS, "--out", out)
    assert (ended.status, ended.out) == (0, b""), ended.err
    assert "good.tif: Aligning 8 frames" in ended.err
    assert "Drift" in ended.err
    assert all(name in ended.err for name in (str(out), "micrograph.mrc", "micrograph_dw.mrc", "motion.star"))
    return out


def record_of(folder: Path) -> dict[str, Any]:
    return dict(json.loads((folder / "align.json").read_text()))


def test_a_movie_becomes_a_micrograph(camera: Path, aligned: Path) -> None:
    image = read_image(aligned / "micrograph.mrc")
    assert image.data.shape == SHAPE
    assert image.pixel_size == pytest.approx(1.06)
    assert read_image(aligned / "micrograph_dw.mrc").data.shape == SHAPE
    blocks = star.read(aligned / "motion.star")
    assert blocks["general"]["rlnMicrographMovieName"] == str(camera / "good.tif")
    record = record_of(aligned)
    assert (record["status"], record["reason"], record["movie"]) == ("done", "", str(camera / "good.tif"))
    assert record["facts"]["pixel_size"] == {"value": 1.06, "origin": "set"}
    assert record["facts"]["frame_count"] == {"value": 8, "origin": "header"}
    assert record["findings"]["gain_fit"] == "as given"
    assert record["findings"]["mean_counts"] == pytest.approx(COUNTS, rel=0.02)
    assert record["findings"]["drift"] == pytest.approx(1.06 * (FRAMES - 1), rel=0.05)
    shifts = blocks["global_shift"]["rlnMicrographShiftX"]
    np.testing.assert_allclose(np.asarray(shifts, float), np.arange(FRAMES), atol=0.2)
    assert sorted(path.name for path in aligned.iterdir()) == sorted([*record["files"], "align.json"])
    assert {"micrograph.mrc", "motion.star", "image_after.png", "trajectory.png", "log.txt"} <= set(record["files"])
    assert f"align_frames {AlignFrames.version}: done" in (aligned / "log.txt").read_text()


def test_a_gain_that_lies_another_way_is_told(camera: Path, tmp_path: Path) -> None:
    ended = focusnb("align", camera / "good.tif", "--gain", camera / "flipped.mrc", *FACTS, "--out", tmp_path / "a")
    assert ended.status == 0, ended.err
    assert "The gain reference fits this movie not turned and flipped (correlation 0." in ended.err
    assert "as given): set gain_rotation=0, gain_flip=yes" in ended.err
    assert record_of(tmp_path / "a")["findings"]["gain_fit"] == "another fits better"
    told = ("--set", "gain_rotation=0", "--set", "gain_flip=yes")
    ended = focusnb(
        "align", camera / "good.tif", "--gain", camera / "flipped.mrc", *FACTS, *told, "--out", tmp_path / "a"
    )
    assert (ended.status, "fits this movie" in ended.err) == (0, False)
    assert record_of(tmp_path / "a")["findings"]["gain_fit"] == "as given"


def test_of_several_movies_the_broken_one_is_told_and_the_others_go_on(camera: Path, tmp_path: Path) -> None:
    movies = (camera / "cut.tif", camera / "good.tif", camera / "gone.tif")
    ended = focusnb("align", *movies, *FACTS, "--json", "--out", tmp_path, "--param", "align_frames.dose_weighting=no")
    assert ended.status == 1
    cut, good, gone = json.loads(ended.out)
    assert [one["status"] for one in (cut, good, gone)] == ["failed", "done", "failed"]
    assert "cut.tif" in cut["reason"]
    assert "file ends at byte 5000" in cut["reason"]
    assert gone["reason"] == f"{camera / 'gone.tif'}: does not exist; check the path"
    assert cut["reason"] in ended.err
    assert (tmp_path / "good" / "micrograph.mrc").is_file()
    assert not (tmp_path / "good" / "micrograph_dw.mrc").exists()
    assert record_of(tmp_path / "good")["steps"]["align_frames"]["dose_weighting"] is False
    assert [path.name for path in tmp_path.iterdir()] == ["good"]


def test_results_are_overwritten_by_the_same_movie_only(camera: Path, tmp_path: Path) -> None:
    other, out = tmp_path / "other.tif", tmp_path / "out"
    shutil.copy(camera / "good.tif", other)
    no_weights = ("--param", "align_frames.dose_weighting=no")
    assert focusnb("align", camera / "good.tif", *FACTS, "--out", out).status == 0
    assert (out / "micrograph_dw.mrc").is_file()
    assert focusnb("align", camera / "good.tif", *FACTS, *no_weights, "--out", out).status == 0
    assert not (out / "micrograph_dw.mrc").exists()
    before = (out / "micrograph.mrc").read_bytes()
    refused = focusnb("align", other, *FACTS, "--out", out)
    assert refused.status == 1
    assert (
        f"{out}: holds the results of {camera / 'good.tif'}; other.tif needs another --out, or --force" in refused.err
    )
    assert (out / "micrograph.mrc").read_bytes() == before
    assert focusnb("align", other, *FACTS, "--force", "--out", out).status == 0
    assert record_of(out)["movie"] == str(other)
    (out / "align.json").unlink()
    refused = focusnb("align", other, *FACTS, "--out", out)
    assert (refused.status, "which is not known to be of this movie" in refused.err) == (1, True)


def test_what_is_read_is_never_overwritten(camera: Path, tmp_path: Path) -> None:
    gain = shutil.copy(camera / "gain.mrc", tmp_path / "micrograph.mrc")
    ended = focusnb("align", camera / "good.tif", "--gain", gain, *FACTS, "--force", "--out", tmp_path)
    assert ended.status == 1
    assert "micrograph.mrc: is read for good.tif and would be overwritten; give another --out" in ended.err
    assert gain.read_bytes() == (camera / "gain.mrc").read_bytes()


def test_metadata_beside_the_movie_tell_facts(camera: Path, tmp_path: Path) -> None:
    shutil.copy(camera / "good.tif", tmp_path / "good.tif")
    shutil.copy(camera / "gain.mrc", tmp_path / "gain.mrc")
    (tmp_path / "good.tif.mdoc").write_text(
        "PixelSpacing = 1.06\nImageSize = 400 384\nVoltage = 300\n\n[FrameSet = 0]\nSubFramePath = X:\\good.tif\n"
        "GainReference = gain.mrc\nExposureDose = 8\nNumSubFrames = 8\n"
    )
    ended = focusnb("align", tmp_path / "good.tif", "--set", "voltage=200", "--out", tmp_path / "out")
    assert ended.status == 0, ended.err
    assert "good.tif: voltage is 200 kV by --set and 300 kV by the metadata; 200 kV is used" in ended.err
    facts = record_of(tmp_path / "out")["facts"]
    assert facts["pixel_size"] == {"value": 1.06, "origin": "metadata"}
    assert facts["voltage"] == {"value": 200.0, "origin": "set"}
    assert facts["gain_reference"] == {"value": str(tmp_path / "gain.mrc"), "origin": "metadata"}
    assert record_of(tmp_path / "out")["findings"]["dose_per_frame_used"] == pytest.approx(1.0)


def test_more_steps_are_run_when_they_are_named(camera: Path, tmp_path: Path) -> None:
    steps = "fit_ctf,measure_spectrum,align_frames,prepare_movie,add_to_session"
    ended = focusnb("align", camera / "good.tif", *FACTS, "--steps", steps, "--out", tmp_path)
    assert ended.status == 0, ended.err
    assert "ctf_quality" in record_of(tmp_path)["findings"]
    assert (tmp_path / "power_spectrum.mrc").is_file()
    assert not (tmp_path / "sets").exists()


@pytest.mark.parametrize(
    ("arguments", "status", "message"),
    [
        (("--set", "voltage=300"), 1, "good.tif: pixel size is told neither by the file nor beside it; give --set"),
        (("--set", "pixelsize=1"), 2, "pixelsize is not a value of Acquisition; did you mean pixel_size?"),
        (("--set", "voltage=3"), 2, "voltage = '3': Voltage should be greater than or equal to 20 kV"),
        (("--set", "movie=a.tif"), 2, "movie is told by the movie that is named; it cannot be set"),
        (("--gain", "none.mrc"), 2, "none.mrc: the gain reference does not exist; check the path"),
        (("--param", "fit_ctf.box=1"), 2, "'fit_ctf.box' is not STEP.NAME of the steps that run: prepare_movie, align"),
        (("--param", "align_frames.bfactor=1"), 2, "bfactor is not a value of Params; did you mean b_factor?"),
        (("--steps", "align_frames"), 2, "these steps need frames; add the step that makes it to --steps"),
        (("--steps", "merge_session"), 2, "merge_session runs on a set of exposures, not on a movie; leave it out"),
        (("--steps", "align"), 2, "there is no step align; there are"),
    ],
)
def test_what_cannot_be_done_is_said_before_anything_is_written(
    camera: Path, tmp_path: Path, arguments: tuple[str, ...], status: int, message: str
) -> None:
    ended = focusnb("align", camera / "good.tif", *arguments, "--out", tmp_path / "out")
    assert (ended.status, ended.out) == (status, b"")
    assert message in ended.err
    assert not (tmp_path / "out").exists()


def test_movies_of_one_name_and_images_are_refused(camera: Path, tmp_path: Path) -> None:
    ended = focusnb("align", camera / "good.tif", tmp_path / "good.tif", *FACTS, "--out", tmp_path / "out")
    assert (ended.status, f"would both be written to {tmp_path / 'out' / 'good'}" in ended.err) == (2, True)
    ended = focusnb("align", camera / "gain.mrc", *FACTS, "--out", tmp_path / "out")
    assert (ended.status, "gain.mrc: holds 1 frame, a movie has several; is it an image?" in ended.err) == (1, True)


def test_a_folder_that_cannot_be_written_is_told(camera: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    ended = focusnb("align", camera / "good.tif", *FACTS, "--out", tmp_path / "file")
    assert ended.status == 1
    assert str(tmp_path / "file") in ended.err
