"""Gain references and what is refused of them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile

from focusnb.errors import FormatError
from focusnb.io.gain import read_gain
from focusnb.io.mrc import write_mrc
from focusnb.io.tiff import write_tiff
from tests.io.conftest import make_dm


def gain(shape: tuple[int, int] = (6, 10)) -> Any:
    values = np.random.default_rng(4).normal(1, 0.06, shape).astype(np.float32)
    values[2, 3] = 0
    return values


@pytest.mark.parametrize("frame_shape", [None, (6, 10), (10, 6)])
def test_gains_fit_in_either_orientation(tmp_path: Path, frame_shape: Any) -> None:
    write_mrc(tmp_path / "a.mrc", gain(), pixel_size=1.0)
    read = read_gain(tmp_path / "a.mrc", frame_shape=frame_shape)
    assert read.dtype == np.float32
    np.testing.assert_array_equal(read, gain())


def test_digital_micrograph_gain(tmp_path: Path, letter: Any) -> None:
    (tmp_path / "a.dm4").write_bytes(make_dm(letter[::-1]))
    np.testing.assert_array_equal(read_gain(tmp_path / "a.dm4", frame_shape=(11, 7)), letter)


@pytest.mark.parametrize(
    ("frame_shape", "words"),
    [
        ((6, 11), "a.mrc: gain has 10×6 pixels, the frames have 11×6; give the gain of this camera"),
        ((12, 20), "gain has 10×6 pixels, the frames have 20×12: the movie is super-resolution .2 times finer."),
        ((20, 12), "the movie is super-resolution"),
        ((5, 3), "the gain is super-resolution"),
    ],
)
def test_a_gain_of_another_size_is_one_sentence(tmp_path: Path, frame_shape: Any, words: str) -> None:
    write_mrc(tmp_path / "a.mrc", gain(), pixel_size=1.0)
    with pytest.raises(FormatError, match=words):
        read_gain(tmp_path / "a.mrc", frame_shape=frame_shape)


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (np.nan, r"1 of 60 gain values are not numbers \(the first at x 7, y 1\); make the gain"),
        (np.inf, r"1 of 60 gain values are not numbers \(the first at x 7, y 1\)"),
        (-0.5, r"1 of 60 gain values are negative \(lowest -0.5\)"),
    ],
)
def test_impossible_values_are_refused(tmp_path: Path, value: float, words: str) -> None:
    values = gain()
    values[1, 7] = value
    write_tiff(tmp_path / "a.tif", [values])
    with pytest.raises(FormatError, match=words):
        read_gain(tmp_path / "a.tif")


def test_a_gain_of_zeros_and_a_movie_are_refused(tmp_path: Path) -> None:
    write_mrc(tmp_path / "a.mrc", np.zeros((6, 10)), pixel_size=1.0)
    with pytest.raises(FormatError, match="all 60 gain values are 0"):
        read_gain(tmp_path / "a.mrc")
    write_mrc(tmp_path / "a.mrc", np.ones((2, 6, 10)), pixel_size=1.0)
    with pytest.raises(FormatError, match="holds 2 frames, a gain reference has 1"):
        read_gain(tmp_path / "a.mrc")


def test_the_gain_of_eer_is_multiplied_in_file_order(tmp_path: Path, letter: Any) -> None:
    values = letter.astype(np.float32) / 100
    tifffile.imwrite(tmp_path / "a.gain", values)
    np.testing.assert_array_equal(read_gain(tmp_path / "a.gain", frame_shape=(11, 7), of_eer=True), values)


def test_another_gain_of_eer_is_the_response_of_the_camera(tmp_path: Path) -> None:
    response = gain() * 250
    write_mrc(tmp_path / "a.mrc", response, pixel_size=1.0)
    write_tiff(tmp_path / "a.tif", [response])
    good = response > 0
    for name in ("a.mrc", "a.tif"):
        read = read_gain(tmp_path / name, frame_shape=(6, 10), of_eer=True)
        assert read.dtype == np.float32
        np.testing.assert_allclose(read[good] * response[good], response[good].mean(), rtol=1e-6)
        assert (read[~good] == 0).all()
        np.testing.assert_array_equal(read_gain(tmp_path / name, frame_shape=(6, 10)), response)


def test_the_gain_of_eer_comes_to_the_grid_of_the_frames(tmp_path: Path) -> None:
    values = np.arange(1, 25, dtype=np.float32).reshape(4, 6)
    values[0, 3] = 0
    tifffile.imwrite(tmp_path / "a.gain", values)
    fine = read_gain(tmp_path / "a.gain", frame_shape=(8, 12), of_eer=True)
    np.testing.assert_array_equal(fine, values.repeat(2, axis=0).repeat(2, axis=1))
    coarse = read_gain(tmp_path / "a.gain", frame_shape=(2, 3), of_eer=True)
    assert coarse.dtype == np.float32
    np.testing.assert_array_equal(coarse, [[4.5, 0, 8.5], [16.5, 18.5, 20.5]])
    np.testing.assert_array_equal(read_gain(tmp_path / "a.gain", frame_shape=(4, 6), of_eer=True), values)
    with pytest.raises(FormatError, match="gain has 6×4 pixels, the frames have 24×16; give the gain of this camera"):
        read_gain(tmp_path / "a.gain", frame_shape=(16, 24), of_eer=True)
    with pytest.raises(FormatError, match="the movie is super-resolution"):
        read_gain(tmp_path / "a.gain", frame_shape=(8, 12))
