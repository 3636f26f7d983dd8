"""Blurred pictures: nothing beyond the cut-off, nothing but pixels in the file."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image, PngImagePlugin

from focusnb.monitoring.blur import blur_image, blurred_png, plain_png, power_beyond
from focusnb.ops import preview


def pixels(content: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(content)), dtype=np.float64)


def png(array: np.ndarray, **texts: str) -> bytes:
    information = PngImagePlugin.PngInfo()
    for name, text in texts.items():
        information.add_text(name, text)
    out = io.BytesIO()
    Image.fromarray(array).save(out, format="PNG", pnginfo=information)
    return out.getvalue()


@pytest.mark.parametrize(("size", "pixel_size"), [((512, 512), 8.0), ((364, 512), 7.3), ((100, 37), 20.0)])
def test_nothing_is_left_beyond_the_cutoff(size: tuple[int, int], pixel_size: float) -> None:
    image = np.random.default_rng(1).uniform(0, 255, size).astype(np.uint8)
    left = pixels(blurred_png(png(image), pixel_size=pixel_size, cutoff=200))
    before = power_beyond(image, pixel_size=pixel_size, cutoff=200)
    assert before > 1000
    assert power_beyond(left, pixel_size=pixel_size, cutoff=200) < 1e-3 * before
    assert left.mean() == pytest.approx(image.mean(), abs=3)


def test_what_is_coarser_stays() -> None:
    y, x = np.indices((256, 256))
    wave = 120 + 80 * np.cos(2 * np.pi * x / 256 * 2)  # 1024 Å at 8 Å/px
    np.testing.assert_allclose(blur_image(wave, pixel_size=8.0, cutoff=200), wave, atol=1e-9)
    fine = 120 + 80 * np.cos(2 * np.pi * y / 256 * 16)  # 128 Å
    np.testing.assert_allclose(blur_image(fine, pixel_size=8.0, cutoff=200), 120, atol=1e-9)


def test_the_scale_bar_of_a_preview_leaves_no_smear() -> None:
    flat = np.random.default_rng(2).normal(0, 1, (1024, 1024)).astype(np.float32)
    with_bar = preview.micrograph_preview(flat, pixel_size=4.0, size=512)
    without = preview.micrograph_preview(flat, pixel_size=4.0, size=512, scale_bar=False)
    corner = np.s_[440:, :160]
    bare = pixels(blurred_png(png(np.ascontiguousarray(without[::-1])), pixel_size=8.0, cutoff=200))
    blurred = pixels(blurred_png(png(np.ascontiguousarray(with_bar[::-1])), pixel_size=8.0, cutoff=200))
    assert np.abs(blurred[corner] - bare[corner]).max() < 12
    smeared = blur_image(with_bar[::-1, :, 0].astype(float), pixel_size=8.0, cutoff=200)
    assert np.abs(smeared[corner] - bare[corner]).max() > 30


def test_a_picture_is_stripped_of_what_is_no_pixel() -> None:
    array = np.random.default_rng(3).integers(0, 255, (40, 50, 3)).astype(np.uint8)
    content = png(array, Comment="apoferritin, /data/secret/FoilHole_12.mrc", Author="somebody")
    assert b"secret" in content
    clean = plain_png(content)
    np.testing.assert_array_equal(pixels(clean), array)
    assert Image.open(io.BytesIO(clean)).info == {}
    for chunk in (b"tEXt", b"iTXt", b"zTXt", b"eXIf", b"tIME"):
        assert chunk not in clean
    assert b"secret" not in blurred_png(content, pixel_size=100.0, cutoff=200)
