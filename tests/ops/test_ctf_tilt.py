"""Local defocus and tilt: known slopes of known sign, images without a tilt, and tiles that lie."""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache
from typing import Any

import numpy as np
import pytest

from focusnb.errors import ParameterError
from focusnb.ops.ctf import CtfFit, Optics, astigmatism_vector, estimate_ctf
from focusnb.ops.ctf.tilt import TiltFit, estimate_tilt
from focusnb.ops.simulate import simulate_micrograph, standard_case
from tests.strict import strict

from .thon import thon_image

LENS = Optics(1.4, 300.0, 2.7, 0.1)
NO_FIT = estimate_ctf(np.zeros((64, 64), np.float32), optics=LENS)
STRIP = 100  # pixels


def whole_fit(u: float, v: float, angle: float, phase_shift: float = 0.0) -> CtfFit:
    """Return what a fit of the whole image would say."""
    return replace(
        NO_FIT, defocus_u=u, defocus_v=v, astigmatism=u - v, astigmatism_angle=angle, phase_shift=phase_shift
    )


def stairs(shape: tuple[int, int], slope: float, *, along: str, seed: int = 1, **options: Any) -> np.ndarray:
    """Return strips of constant defocus beside each other, rising by ``slope`` Å per Å along y or x.

    Every strip is cut from an image of its own, made with its own defocus: no slab, no blending, no tilt anywhere.
    """
    image = np.empty(shape, np.float32)
    length = shape[0] if along == "y" else shape[1]
    for start in range(0, length, STRIP):
        rise = slope * 1.4 * (start + 0.5 * STRIP - 0.5 * length)
        size = (STRIP, shape[1]) if along == "y" else (shape[0], STRIP)
        # twice as wide as the strip, so that the image does not continue from one of its borders to the other
        wide = tuple(2 * side if side == STRIP else side for side in size)
        part = thon_image(wide, 1.4, (15300 + rise, 14700 + rise, 30.0), seed=seed + start, **options)
        here = (
            (slice(start, start + STRIP), slice(None)) if along == "y" else (slice(None), slice(start, start + STRIP))
        )
        image[here] = part[: size[0], : size[1]][: image[here].shape[0], : image[here].shape[1]]
    return image


def check_gradient(found: TiltFit, expected: tuple[float, float], sigma: float = 4.0) -> None:
    """Compare the slope with the truth; the size of the error is that of its standard deviation."""
    assert found.tilt_angle_error is not None
    assert found.defocus_gradient is not None
    size = np.hypot(*found.defocus_gradient)
    error = np.radians(found.tilt_angle_error) * (1 + size**2)
    assert np.hypot(*np.subtract(found.defocus_gradient, expected)) < 1.5 * sigma * error
    assert error < 0.06


@pytest.mark.parametrize(
    ("shape", "slope", "along"),
    [((1000, 1400), 0.5, "y"), ((1400, 1000), -0.5, "y"), ((1400, 1000), 0.5, "x"), ((1000, 1400), -0.5, "x")],
)
def test_the_side_of_larger_defocus_is_the_right_one(shape: tuple[int, int], slope: float, along: str):
    found = estimate_tilt(
        stairs(shape, slope, along=along, signal=4.0), optics=LENS, fit=whole_fit(15300.0, 14700.0, 30.0)
    )
    check_gradient(found, (slope, 0.0) if along == "x" else (0.0, slope))
    assert found.tilt_angle_fitted == pytest.approx(np.degrees(np.arctan(0.5)), abs=3)
    assert found.significant
    assert found.reason == ""
    if along == "y":  # the axis lies along x, and +y is to its left
        assert found.tilt_axis_fitted == pytest.approx(0, abs=5)
        assert np.sign(found.signed_tilt_angle) == np.sign(slope)
    else:  # the axis lies along y, −x to its left
        assert abs(found.tilt_axis_fitted) == pytest.approx(90, abs=5)
        left_is_minus_x = found.tilt_axis_fitted > 0
        assert np.sign(found.signed_tilt_angle) == (-np.sign(slope) if left_is_minus_x else np.sign(slope))
    tiles = found.tiles
    coordinate = tiles.y if along == "y" else tiles.x
    rising = np.polyfit(1.4 * coordinate[tiles.used], tiles.defocus[tiles.used], 1)[0]
    assert rising == pytest.approx(slope, abs=0.15)
    # the middles of the tiles fill the image, in its own pixels
    assert tiles.y.mean() == pytest.approx((shape[0] - 1) / 2, abs=1)
    assert tiles.x.mean() == pytest.approx((shape[1] - 1) / 2, abs=1)
    assert np.ptp(tiles.y) > 0.5 * shape[0]
    assert np.ptp(tiles.x) > 0.5 * shape[1]


@lru_cache(maxsize=8)
def slab(axis: float, angle: float, *, seed: int = 3, shape: tuple[int, int] = (1900, 1500), **specimen: Any) -> Any:
    """Return a simulated micrograph of a tilted specimen, and its optics."""
    spec = standard_case("small")
    spec = replace(
        spec,
        shape=shape,
        optics=replace(spec.optics, tilt_axis=axis, tilt_angle=angle),
        specimen=replace(spec.specimen, ice_thickness=600.0, **specimen),
    )
    return simulate_micrograph(spec, seed)[0], spec.optics


def fit_slab(image: Any, fit: CtfFit | None = None, **options: Any) -> TiltFit:
    lens = Optics(1.06, 300.0, 2.7, 0.1)
    return estimate_tilt(image, optics=lens, fit=fit or whole_fit(15050.0, 14500.0, 20.0), **options)


@pytest.mark.parametrize(("axis", "angle"), [(28.0, -35.0), (-62.0, 45.0)])
def test_tilted_slabs(axis: float, angle: float):
    image, optics = slab(axis, angle)
    found = fit_slab(image)
    assert found.tilt_axis_fitted == pytest.approx(axis, abs=5)
    assert found.signed_tilt_angle == pytest.approx(angle, abs=3)
    assert found.tilt_angle_fitted == pytest.approx(abs(angle), abs=3)
    slope = np.tan(np.radians(angle))
    check_gradient(found, (-slope * np.sin(np.radians(axis)), slope * np.cos(np.radians(axis))))
    assert found.quality in ("ok", "poor")
    # the middle of the image keeps the defocus and the astigmatism that the slab has there
    assert 0.5 * (found.defocus_u + found.defocus_v) == pytest.approx(14800, abs=80)
    vector = astigmatism_vector(found.defocus_u, found.defocus_v, found.astigmatism_angle)
    assert abs(vector - astigmatism_vector(optics.defocus_u, optics.defocus_v, optics.astigmatism_angle)) < 150


def test_without_a_fit_of_the_whole_image_everything_is_searched():
    found = fit_slab(slab(-62.0, 45.0)[0], NO_FIT)
    assert found.tilt_axis_fitted == pytest.approx(-62, abs=5)
    assert found.signed_tilt_angle == pytest.approx(45, abs=3)
    assert 0.5 * (found.defocus_u + found.defocus_v) == pytest.approx(14800, abs=80)


@pytest.mark.parametrize("seed", [3, 4, 5])
def test_no_tilt_is_not_claimed(seed: int):
    found = fit_slab(slab(0.0, 0.0, seed=seed)[0])
    assert found.tilt_axis_fitted is None
    assert found.signed_tilt_angle is None
    assert not found.significant
    assert found.quality == "none"
    assert "no tilt" in found.reason
    assert found.tilt_angle_fitted < 4 * found.tilt_angle_error
    assert found.tilt_angle_error < 4


def test_errors_are_those_of_many_images():
    """Slopes of images without a tilt scatter by what each says its error is."""
    ratios = []
    for seed in range(8):
        image = thon_image((800, 1000), 1.4, (15300.0, 14700.0, 30.0), signal=1.0, seed=seed)
        found = estimate_tilt(image, optics=LENS, fit=whole_fit(15300.0, 14700.0, 30.0))
        ratios.append(np.hypot(*found.defocus_gradient) / np.radians(found.tilt_angle_error))
    # a vector of two parts of variance 1 has a mean square of 2
    assert 0.6 < np.sqrt(np.mean(np.square(ratios)) / 2) < 1.5


def spoil(image: np.ndarray, name: str) -> np.ndarray:
    """Make part of an image useless."""
    rng = np.random.default_rng(5)
    image = image.copy()
    y, x = np.indices(image.shape)
    level, spread = float(image.mean()), float(image.std())
    if name == "hole":
        part = x > 0.65 * image.shape[1]
        image[part] = rng.normal(level, spread, part.sum())
    elif name == "empty border":
        image[:, :450] = level
    elif name == "gold":
        for cy, cx, radius in ((300, 300, 150), (900, 1200, 100), (1500, 500, 180), (1700, 1300, 90)):
            image[(y - cy) ** 2 + (x - cx) ** 2 < radius**2] = level - 5 * spread
    elif name == "bright rows":
        image[:400] += rng.normal(0, 20 * spread, (400, image.shape[1])).astype(np.float32)
    return image


@pytest.mark.parametrize("name", ["hole", "empty border", "gold", "bright rows"])
def test_useless_parts_neither_hide_nor_make_a_tilt(name: str):
    tilted = fit_slab(spoil(slab(-62.0, 45.0)[0], name))
    assert tilted.tilt_angle_fitted == pytest.approx(45, abs=max(3.0, 3 * tilted.tilt_angle_error))
    assert tilted.tilt_axis_fitted == pytest.approx(-62, abs=max(5.0, 3 * tilted.tilt_axis_error))
    assert not fit_slab(spoil(slab(0.0, 0.0)[0], name)).significant
    tiles = tilted.tiles
    if name == "hole":  # tiles that lie in it altogether are told from the others
        assert tiles.used[tiles.x < 700].mean() > 0.85
        assert tiles.used[tiles.x > 1230].mean() < 0.6
    if name == "bright rows":
        assert tiles.used[tiles.y > 660].mean() > 0.85
        assert tiles.used[tiles.y < 400].mean() < 0.5


def test_carbon_does_not_make_a_tilt():
    found = fit_slab(slab(0.0, 0.0, carbon=0.35)[0])
    assert not found.significant
    assert found.tilt_angle_fitted < 3


def test_noise_has_no_plane():
    for seed in range(3):
        noise = np.random.default_rng(seed).normal(size=(1300, 1300)).astype(np.float32)
        for fit in (NO_FIT, whole_fit(15300.0, 14700.0, 30.0)):
            found = estimate_tilt(noise, optics=LENS, fit=fit)
            assert found.quality == "failed"
            assert found.tilt_angle_fitted is None
            assert found.defocus_gradient is None
            assert "chance" in found.reason


def test_phase_plates():
    image = stairs((900, 1100), 0.5, along="x", signal=2.0, phase_shift=90.0)
    found = estimate_tilt(image, optics=LENS, fit=whole_fit(15300.0, 14700.0, 30.0, 90.0))
    check_gradient(found, (0.5, 0.0))


def test_small_and_empty_images_say_why():
    fit = whole_fit(15000.0, 14000.0, 0.0)
    small = estimate_tilt(np.ones((300, 2000), np.float32), optics=LENS, fit=fit)
    assert small.quality == "failed"
    assert "too few tiles" in small.reason
    empty = estimate_tilt(np.ones((1500, 1500), np.float32), optics=LENS, fit=fit)
    assert empty.quality == "failed"
    assert "tiles hold an image" in empty.reason


def test_arguments_are_checked():
    fit, image = whole_fit(15000.0, 14000.0, 0.0), np.ones((1500, 1500), np.float32)
    with pytest.raises(ParameterError, match="3 dimensions"):
        estimate_tilt(image[None], optics=LENS, fit=fit)
    with pytest.raises(ParameterError, match="largest tilt is 90"):
        estimate_tilt(image, optics=LENS, fit=fit, max_tilt=90)
    with pytest.raises(ParameterError, match="cannot be fitted with pixels"):
        estimate_tilt(image, optics=LENS, fit=fit, resolution_high=2.5)


def to_gpu(values: Any) -> Any:
    import cupy

    return cupy.asarray(values)


@pytest.mark.parametrize(
    "bring", [pytest.param(strict, id="strict"), pytest.param(to_gpu, id="cupy", marks=pytest.mark.gpu)]
)
def test_an_image_on_the_device_gives_the_same(bring: Any):
    image, fit = stairs((900, 1000), 0.5, along="y", signal=2.0), whole_fit(15300.0, 14700.0, 30.0)
    here, there = (estimate_tilt(values, optics=LENS, fit=fit) for values in (image, bring(image)))
    assert there.defocus_gradient == pytest.approx(here.defocus_gradient, abs=2e-3)
    assert there.defocus_u == pytest.approx(here.defocus_u, abs=2)
    np.testing.assert_allclose(there.tiles.defocus, here.tiles.defocus, atol=5)
