"""What a movie tells of its camera: known frames, known noise, known pixels."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from focusnb.ops import camera
from focusnb.ops.camera import inspect_pixels, measure_frames
from focusnb.ops.defects import fill_bad_pixels, find_hot_pixels, prepare_bad_pixels
from focusnb.ops.gain import Orientation, orient_gain
from tests.strict import strict

SHAPE = (200, 232)


def movie(mean: float = 3.0, frames: int = 10, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).poisson(mean, (frames, *SHAPE)).astype(np.uint8)


def inspected(total: np.ndarray, listed: np.ndarray | None = None, dead_gain: np.ndarray | None = None):
    known = np.zeros(total.shape, bool)
    for mask in (listed, dead_gain):
        known |= False if mask is None else mask
    hot = find_hot_pixels(total, known=known)
    filled = fill_bad_pixels(total, prepare_bad_pixels(known | hot))
    return inspect_pixels(total, filled=filled, hot=hot, known=known, listed=listed)


def places(count: int, seed: int = 1) -> tuple[np.ndarray, np.ndarray]:
    chosen = np.random.default_rng(seed).choice(SHAPE[0] * SHAPE[1], count, replace=False)
    return np.unravel_index(chosen, SHAPE)


@pytest.mark.parametrize("scale", [1, 4, 16])
def test_noise_tells_what_an_electron_adds(scale):
    frames = (movie().astype(np.uint16) * scale).astype(np.uint16)
    frames = frames * np.linspace(0.5, 1.5, SHAPE[1])  # neither illumination nor a gain is noise
    frames[:, 5, 5] = 10_000
    bad = np.zeros(SHAPE, bool)
    bad[5, 5] = True
    expected = scale * np.mean(np.linspace(0.5, 1.5, SHAPE[1]) ** 2)
    assert measure_frames(frames, bad=bad).scale == pytest.approx(expected, rel=0.03)


def test_dark_bright_and_cut_frames():
    frames = movie(6.0).astype(np.uint16)
    frames[0] //= 3
    frames[4] *= 2
    frames[7, 120:] = 0
    found = measure_frames(frames)
    assert found.means[0] == pytest.approx(0.28, abs=0.03)
    assert found.means[4] == pytest.approx(2.0, abs=0.02)
    assert np.all(np.abs(found.means[[1, 2, 3, 5, 6, 8, 9]] - 1) < 0.02)
    assert found.blank[7] == pytest.approx(0.4, abs=0.05)
    assert not found.blank[[0, 1, 2, 3, 4, 5, 6, 8, 9]].any()


def test_what_has_no_counts_tells_nothing():
    for frames in (np.zeros((3, *SHAPE), np.uint8), np.full((3, *SHAPE), -2.0, np.float32)):
        found = measure_frames(frames)
        assert found.scale is None
        assert list(found.means) == [1, 1, 1]
        assert not found.blank.any()
    assert measure_frames(movie(frames=1)).scale is None
    assert measure_frames(np.full((3, *SHAPE), np.nan, np.float32)).scale is None


def test_sparse_counts_are_not_taken_for_cut():
    assert not measure_frames(movie(0.02, frames=30)).blank.any()


def test_a_large_frame_is_sampled():
    frames = np.random.default_rng(2).poisson(1.0, (4, 1100, 1300)).astype(np.uint8)
    found = measure_frames(frames)
    assert found.means == pytest.approx(1.0, abs=0.02)
    assert found.scale == pytest.approx(1.0, abs=0.02)


def test_hot_dead_and_bad_lines_are_counted():
    total = np.random.default_rng(0).poisson(40.0, SHAPE).astype(np.float32)
    y, x = places(60)
    total[y[:40], x[:40]] += 200
    total[y[40:], x[40:]] = 0
    assert (inspected(total).hot, inspected(total).dead, inspected(total).lines) == (40, 20, 0)
    total[:, 77] *= 0.8
    total[31] *= 1.2
    assert inspected(total).lines == 2
    # few counts: an empty pixel may be so by chance
    assert inspected(np.random.default_rng(0).poisson(6.0, SHAPE).astype(np.float32)).dead is None


def test_an_edge_along_the_columns_is_no_bad_line():
    total = np.random.default_rng(0).poisson(40.0, SHAPE).astype(np.float32)
    total[:, 90:] *= 0.7
    assert inspected(total).lines == 0


SQUARE = (200, 200)
LYING = [*itertools.product([SQUARE], range(4), [False, True]), *itertools.product([SHAPE], [0, 2], [False, True])]


@pytest.mark.parametrize(("shape", "rotation", "flip"), LYING)
def test_the_orientation_of_a_list_is_found(shape, rotation, flip):
    bad = np.zeros(shape, bool)
    chosen = np.random.default_rng(3).choice(bad.size, 50, replace=False)
    bad.flat[chosen] = True
    total = np.random.default_rng(0).poisson(40.0, shape).astype(np.float32)
    total[bad] += 200
    total.flat[chosen[:15]] = 0
    # turned back, the list fits
    listed = np.ascontiguousarray(np.rot90(bad[::-1] if flip else bad, -rotation))
    found = inspected(total, listed)
    assert found.listed == 50
    hits = dict(zip(found.orientations, found.hits, strict=True))
    assert hits[Orientation(rotation, flip)] >= 48
    assert np.array_equal(orient_gain(listed, rotation=rotation, flip=flip), bad)
    assert max(value for orientation, value in hits.items() if orientation != Orientation(rotation, flip)) <= 5
    if (rotation, flip) == (0, False):
        assert found.odd_listed >= 48
        assert found.hot <= 2


def test_pixels_that_the_gain_marks_count_for_a_list():
    bad = np.zeros(SHAPE, bool)
    bad[places(30)] = True
    total = np.random.default_rng(0).poisson(40.0, SHAPE).astype(np.float32)
    total[bad] = 0  # multiplied with a gain of 0
    found = inspected(total, listed=bad[::-1].copy(), dead_gain=bad)
    hits = dict(zip(found.orientations, found.hits, strict=True))
    assert hits[Orientation(0, True)] == 30
    assert hits[Orientation(0, False)] <= 2


def test_arrays_are_not_mixed():
    frames = movie()
    bad = np.zeros(SHAPE, bool)
    host, device = measure_frames(frames, bad=bad), measure_frames(strict(frames), bad=strict(bad))
    assert np.array_equal(host.means, device.means)
    assert host.scale == device.scale


@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.float32])
@pytest.mark.parametrize("stride", [1, 3])
def test_sampled_rows_equal_their_plain_twin(dtype: type, stride: int) -> None:
    raw = np.random.default_rng(21).poisson(3.0, (5, 40, 53)).astype(dtype)
    bad = np.random.default_rng(22).random((40, 53)) < 0.1
    paired = np.array([False, True, False, True, True])
    for mask in (None, bad):
        found = camera.sample_rows(raw, mask, stride, paired)
        expected = camera.sample_rows_plain(raw, mask, stride, paired)
        for one, other in zip(found, expected, strict=True):
            np.testing.assert_allclose(one, other, rtol=1e-6)


def test_a_scan_of_surroundings_equals_its_plain_twin() -> None:
    rng = np.random.default_rng(23)
    values = rng.poisson(30.0 * np.linspace(0.5, 1.5, 70)[None, :] * np.ones((90, 1))).astype(np.float32)
    known = rng.random(values.shape) < 0.01
    values[rng.random(values.shape) < 0.01] = 0.0
    filled = np.where(values > 0, values, 30.0).astype(np.float32)
    places = np.argwhere(rng.random(values.shape) < 0.02)
    places = np.concatenate([[[0, 0]], places[places.sum(axis=1) > 0]])
    found = camera.scan_surroundings(filled, values, known, places, 28.0)
    expected = camera.scan_surroundings_plain(filled, values, known, places, 28.0)
    assert found.certain == expected.certain
    assert 0 < found.certain < values.size
    assert found.dead.any()
    np.testing.assert_array_equal(found.dead, expected.dead)
    for name in ("rows", "columns", "around"):
        np.testing.assert_allclose(getattr(found, name), getattr(expected, name), rtol=1e-5)


def test_frames_of_another_byte_order_and_without_an_end() -> None:
    raw = np.random.default_rng(24).poisson(3.0, (5, 40, 53)).astype(np.float32)
    assert measure_frames(raw.astype(">f4")).scale == measure_frames(raw).scale
    raw[2, 7, 8] = np.inf
    # warnings are errors
    found = measure_frames(raw)
    assert found.means[2] == np.inf
    assert found.scale == pytest.approx(1.0, abs=0.2)
