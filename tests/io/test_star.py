"""STAR files, and RELION's per-movie format beside RELION's own files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas
import pytest

from focusnb.errors import FormatError
from focusnb.io import star
from focusnb.io.relion import read_motion, write_motion

GENERAL: dict[str, Any] = {
    "movie_name": "raw/k3 7.tif",
    "shape": (6, 300, 400),
    "pixel_size": 0.885,
    "dose_per_frame": 1.277,
    "prior_dose": 2.5,
    "voltage": 200.0,
}


def shifts() -> Any:
    return np.array([[1.0, 10], [1.5, 9], [2.25, 7.5], [2.5, 7], [3, 6.5], [3.5, 6.125]])


def test_blocks_come_back(tmp_path: Path) -> None:
    table = pandas.DataFrame({"rlnMicrographName": ["a b.mrc", "c.mrc"], "rlnDefocusU": [15301.125, 2.5e-7]})
    star.write(tmp_path / "a.star", {"general": {"rlnVoltage": 300, "rlnMicrographName": "a b"}, "micrographs": table})
    blocks = star.read(tmp_path / "a.star")
    assert blocks["general"] == {"rlnVoltage": 300, "rlnMicrographName": "a b"}
    pandas.testing.assert_frame_equal(blocks["micrographs"], table)  # type: ignore[arg-type]
    assert (tmp_path / "a.star").read_text().startswith("# version 30001\n\ndata_general\n")
    assert [path.name for path in tmp_path.iterdir()] == ["a.star"]


def test_a_file_written_again_is_read_again(tmp_path: Path) -> None:
    for value in (1, 2):
        star.write(tmp_path / "a.star", {"general": {"rlnVoltage": value}})
        assert star.read(tmp_path / "a.star") == {"general": {"rlnVoltage": value}}


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", r"is empty \(0 bytes\)"),
        ("x y\n1 2\n", "no line that begins with data_"),
        ("data_a\n\nloop_\n_b #1\n_c #2\n1 2\n1 2 3\n", "STAR table is damaged .*; is the file complete"),
        ("data_a\n\nloop_\n_b #1\n_c #2\n1 2\n1", "line 7 has 1 of 2 values; was the file copied"),
        ("data_a\n", "block data_a holds nothing|is damaged"),
        ("data_a\n_b\n", "is damaged"),
    ],
)
def test_what_is_no_star_file(tmp_path: Path, text: str, words: str) -> None:
    (tmp_path / "a.star").write_text(text)
    with pytest.raises(FormatError, match=words):
        star.read(tmp_path / "a.star")


def test_motion_comes_back(tmp_path: Path) -> None:
    coefficients = np.linspace(-1e-4, 2, 36)
    places = np.array([[17.0, 1020.0], [22.0, 1018.0]])
    write_motion(
        tmp_path / "motion.star", **GENERAL, shifts=shifts(), gain_name="gain.mrc", defect_name="defects.txt",
        binning=2,
        local_coefficients=coefficients, hot_pixels=places, eer_upsampling=2, eer_grouping=17, comment="focusnb",
    )  # fmt: skip
    motion = read_motion(tmp_path / "motion.star")
    for name, value in GENERAL.items():
        assert getattr(motion, name) == value
    np.testing.assert_allclose(motion.shifts, shifts() - shifts()[0], atol=1e-8)
    np.testing.assert_allclose(motion.local_coefficients, coefficients, rtol=1e-8)
    np.testing.assert_array_equal(motion.hot_pixels, places)
    assert (motion.gain_name, motion.defect_name, motion.binning, motion.start_frame) == (
        "gain.mrc",
        "defects.txt",
        2.0,
        1,
    )
    assert (motion.eer_upsampling, motion.eer_grouping) == (2, 17)


def test_the_file_holds_x_then_y_zeroed_on_the_first_used_frame(tmp_path: Path) -> None:
    write_motion(tmp_path / "motion.star", **GENERAL, shifts=shifts(), start_frame=3)
    blocks = star.read(tmp_path / "motion.star")
    table = blocks["global_shift"]
    assert list(table) == ["rlnMicrographFrameNumber", "rlnMicrographShiftX", "rlnMicrographShiftY"]
    np.testing.assert_allclose(table, [[3, 0, 0], [4, -0.5, 0.25], [5, -1, 0.75], [6, -1.375, 1.25]])
    assert blocks["general"]["rlnMicrographStartFrame"] == 3
    assert blocks["general"]["rlnMotionModelVersion"] == 0
    assert not {"rlnMicrographGainName", "rlnEERUpsampling", "rlnEERGrouping"} & set(blocks["general"])
    assert set(blocks) == {"general", "global_shift"}
    motion = read_motion(tmp_path / "motion.star")
    assert np.isnan(motion.shifts[:2]).all()
    np.testing.assert_allclose(motion.shifts[2:], shifts()[2:] - shifts()[2])


def test_frames_that_were_not_used_are_missing(tmp_path: Path) -> None:
    moved = shifts()
    moved[4] = np.nan
    write_motion(tmp_path / "motion.star", **GENERAL, shifts=moved)
    table = star.read(tmp_path / "motion.star")["global_shift"]
    assert table["rlnMicrographShiftX"][4] == table["rlnMicrographShiftY"][4] == -9999
    motion = read_motion(tmp_path / "motion.star")
    assert np.isnan(motion.shifts).all(axis=1).tolist() == [False, False, False, False, True, False]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"shifts": np.zeros((7, 2))}, "7 shifts do not fit 6 frames used from frame 1"),
        ({"shifts": np.zeros((6, 2)), "start_frame": 7}, "do not fit 6 frames"),
        ({"shifts": np.full((6, 2), np.nan)}, "first used frame, 1, has no shift"),
        ({"shifts": np.zeros((6, 2)), "local_coefficients": np.zeros(18)}, "18 coefficients"),
    ],
)
def test_what_does_not_fit_is_not_written(tmp_path: Path, change: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        write_motion(tmp_path / "motion.star", **GENERAL, **change)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("data_general", "data_other", "has no list data_general"),
        ("_rlnMicrographOriginalPixelSize", "_rlnOther", "None for rlnMicrographOriginalPixelSize"),
        ("_rlnMicrographShiftX", "_rlnOther", "data_global_shift lacks rlnMicrographShiftX"),
        ("data_global_shift", "data_other", "data_global_shift lacks"),
        ("_rlnImageSizeZ\t\t\t6", "_rlnImageSizeZ\t\t\t5", "6 shifts whose frame numbers are not within 1 to 5"),
    ],
)
def test_incomplete_motion_files(tmp_path: Path, old: str, new: str, words: str) -> None:
    path = tmp_path / "motion.star"
    write_motion(path, **GENERAL, shifts=shifts())
    assert old in path.read_text()
    path.write_text(path.read_text().replace(old, new))
    with pytest.raises(FormatError, match=words):
        read_motion(path)


REAL = [f"relion_empiar10204/motioncorr/20170629_000{number}_frameImage.star" for number in (21, 22, 26)]


@pytest.mark.parametrize("name", [*REAL, "em-testdata/movie_frameImage.star"])
def test_real_motion_files(data: Path, tmp_path: Path, name: str) -> None:
    motion = read_motion(data / name)
    assert motion.shape == (24, 3838, 3710)
    assert (motion.pixel_size, motion.dose_per_frame, motion.voltage) == (0.885, 1.277, 200.0)
    assert (motion.prior_dose, motion.binning, motion.start_frame) == (0.0, 1.0, 1)
    np.testing.assert_array_equal(motion.shifts[0], 0)
    assert np.isfinite(motion.shifts).all()
    values = dict(vars(motion))
    write_motion(tmp_path / "b.star", **values)
    again = read_motion(tmp_path / "b.star")
    for field, value in values.items():
        np.testing.assert_array_equal(getattr(again, field), value, err_msg=field)
    ours, theirs = star.read(tmp_path / "b.star"), star.read(data / name)
    assert ours["general"] == theirs["general"]
    assert set(theirs) - set(ours) <= {"local_shift"}
    for block in set(ours) - {"general"}:
        np.testing.assert_allclose(ours[block], theirs[block], err_msg=block)


def test_real_motion_values(data: Path) -> None:
    motion = read_motion(data / REAL[0])
    np.testing.assert_array_equal(motion.shifts[1], [-0.81203, 0.960904])
    np.testing.assert_array_equal(motion.shifts[-1], [-11.52884, 11.273892])
    assert motion.local_coefficients is not None
    assert motion.hot_pixels is not None
    np.testing.assert_array_equal(motion.local_coefficients[[0, 18, 35]], [0.016124, -0.04755, 9.473432e-04])
    np.testing.assert_array_equal(motion.hot_pixels[0], [17, 1020])
    assert motion.gain_name == "Movies/gain.mrc"


def test_every_real_star_file_is_read(data: Path) -> None:
    paths = sorted(data.rglob("*.star"))
    assert len(paths) >= 30
    for path in paths:
        blocks = star.read(path)
        assert blocks, path.name
        for name, block in blocks.items():
            assert isinstance(block, dict | pandas.DataFrame), f"{path.name} data_{name}"


def test_motion_without_dose_and_voltage(tmp_path: Path) -> None:
    path = tmp_path / "motion.star"
    write_motion(path, **{**GENERAL, "dose_per_frame": None, "voltage": None}, shifts=shifts())
    motion = read_motion(path)
    assert motion.dose_per_frame is None
    assert motion.voltage is None
    assert "rlnVoltage" not in path.read_text()
