"""Single images and previews."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image as Picture

from focusnb.errors import FormatError
from focusnb.io.images import read_image, read_png, write_mrc, write_png
from focusnb.io.tiff import write_tiff


def test_images_are_float32(tmp_path: Path, letter: Any) -> None:
    write_mrc(tmp_path / "a.mrc", letter, pixel_size=1.2, dtype="float16")
    write_tiff(tmp_path / "a.tif", [letter.astype(np.uint16)], pixel_size=1.2)
    for name in ("a.mrc", "a.tif"):
        image = read_image(tmp_path / name)
        assert image.data.dtype == np.float32
        assert image.pixel_size == pytest.approx(1.2, rel=1e-4)
        np.testing.assert_array_equal(image.data, letter)


def test_a_movie_is_no_image(tmp_path: Path, letter: Any) -> None:
    write_tiff(tmp_path / "a.tif", [letter] * 3)
    with pytest.raises(FormatError, match="holds 3 frames, an image has 1"):
        read_image(tmp_path / "a.tif")


@pytest.mark.parametrize("shape", [(5, 8), (5, 8, 3)])
def test_previews_come_back(tmp_path: Path, shape: tuple[int, ...]) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, shape).astype(np.uint8)
    write_png(tmp_path / "a.png", pixels, pixel_size=8.48)
    np.testing.assert_array_equal(read_png(tmp_path / "a.png"), pixels)
    with Picture.open(tmp_path / "a.png") as picture:
        assert picture.size == (8, 5)
        assert picture.text == {"pixel_size (angstrom)": "8.48"}
    assert [path.name for path in tmp_path.iterdir()] == ["a.png"]


@pytest.mark.parametrize("pixels", [np.zeros((2, 2)), np.zeros((2, 2, 4), np.uint8), np.zeros(4, np.uint8)])
def test_what_is_no_preview(tmp_path: Path, pixels: Any) -> None:
    with pytest.raises(ValueError, match="a preview is uint8"):
        write_png(tmp_path / "a.png", pixels)


def test_damaged_previews(tmp_path: Path, letter: Any) -> None:
    write_png(tmp_path / "a.png", letter)
    whole = (tmp_path / "a.png").read_bytes()
    (tmp_path / "a.png").write_bytes(whole[:60])
    with pytest.raises(FormatError, match="PNG of 60 bytes cannot be decoded"):
        read_png(tmp_path / "a.png")
    (tmp_path / "a.png").write_bytes(b"words")
    with pytest.raises(FormatError, match="is not PNG"):
        read_png(tmp_path / "a.png")


def test_every_real_micrograph_is_read(data: Path) -> None:
    paths = [*(data / "micrographs").glob("*.mrc"), *(data / "apoferritin_empiar10146").glob("*.mrc")]
    paths += [*(data / "micrographs").glob("*.tif"), *(data / "ctf_spectra_empiar10204").glob("*.mrc")]
    assert len(paths) >= 26
    for path in paths:
        image = read_image(path)
        assert image.data.dtype == np.float32
        assert np.isfinite(image.data).all(), path.name
        assert image.data.std() > 0, path.name


def test_real_spectra_have_their_origin_in_the_middle(data: Path) -> None:
    image = read_image(data / "ctf_spectra_empiar10204" / "20170629_00021_frameImage_PS.mrc")
    assert np.unravel_index(image.data.argmax(), image.data.shape) == (256, 256)
