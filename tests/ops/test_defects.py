"""Bad pixels: found by their neighbourhood, replaced by drawn neighbours."""

from __future__ import annotations

import numpy as np
import pytest

from focusnb.ops import defects
from focusnb.ops.binning import bin_plain
from focusnb.ops.defects import find_hot_pixels, prepare_bad_pixels, replace_bad_pixels
from focusnb.ops.fourier import pad_mean
from focusnb.ops.frames import CorrectedFrames


def test_hot_pixels_are_found_and_good_ones_left() -> None:
    rng = np.random.default_rng(1)
    y, x = np.mgrid[:400, :500]
    mean = 40.0 + 15.0 * (x > 250)
    mean[(y - 100) ** 2 + (x - 120) ** 2 < 900] = 12.0  # gold
    mean = mean + 25.0 * ((y % 9 < 3) & (x % 9 < 3) & (y > 250))  # a crystal's lattice
    total = rng.poisson(mean).astype(np.float32)
    hot = [(20, 30), (21, 30), (101, 121), (0, 0), (399, 499), (300, 200), (300, 400)]
    for place in hot:
        total[place] += 200.0
    found = find_hot_pixels(total)
    assert sorted(map(tuple, np.argwhere(found).tolist())) == sorted(hot)


@pytest.mark.parametrize("mean", [0.4, 3.0, 80.0])
@pytest.mark.parametrize("scale", [1.0, 37.0])
def test_no_false_alarm_for_poisson_counts_of_any_unit(mean: float, scale: float) -> None:
    counts = np.random.default_rng(4).poisson(mean, (600, 600)).astype(np.float32) * scale
    assert not find_hot_pixels(counts).any()
    counts[77, 88] += (50.0 + 10.0 * mean) * scale
    assert np.argwhere(find_hot_pixels(counts)).tolist() == [[77, 88]]


def test_known_pixels_are_neither_tested_nor_neighbours() -> None:
    counts = np.random.default_rng(5).poisson(30.0, (90, 100)).astype(np.float32)
    known = np.zeros(counts.shape, bool)
    known[:, 40:43] = True
    counts[:, 40:43] = 5000.0
    counts[30, 44] = 300.0
    assert np.argwhere(find_hot_pixels(counts, known=known)).tolist() == [[30, 44]]


def test_neighbours_are_good_and_near() -> None:
    mask = np.zeros((60, 80), bool)
    mask[10, 20] = mask[10, 21] = mask[0, 0] = True
    mask[:, 50:54] = True  # four columns: those in the middle have few good pixels within radius 2
    bad = prepare_bad_pixels(mask)
    assert len(bad) == mask.sum()
    for i, index in enumerate(bad.indices):
        y, x = divmod(int(index), 80)
        assert bad.counts[i] >= 8
        places = bad.neighbours[i, : bad.counts[i]]
        assert not mask.ravel()[places].any()
        assert len(set(places.tolist())) == len(places)
        v, u = np.divmod(places, 80)
        reach = 2 if x < 40 and y > 0 else 6
        assert max(np.abs(v - y).max(), np.abs(u - x).max()) <= reach
    single = int(np.flatnonzero(bad.indices == 10 * 80 + 20)[0])
    assert bad.counts[single] == 23


def test_replacement_is_drawn_again_the_same_and_keeps_noise() -> None:
    rng = np.random.default_rng(6)
    mask = rng.random((200, 200)) < 0.05
    bad = prepare_bad_pixels(mask)
    raw = rng.poisson(4.0, (2, 200, 200)).astype(np.uint8)
    raw[:, mask] = 255
    first, again, other, later = (raw[0].copy() for _ in range(4))
    replace_bad_pixels(first, bad, exposure=3, index=0)
    replace_bad_pixels(again, bad, exposure=3, index=0)
    replace_bad_pixels(other, bad, exposure=4, index=0)
    replace_bad_pixels(later, bad, exposure=3, index=1)
    np.testing.assert_array_equal(first, again)
    assert (first != other).any()
    assert (first != later).any()
    np.testing.assert_array_equal(first[~mask], raw[0][~mask])
    assert first[mask].mean() == pytest.approx(4.0, rel=0.05)
    assert first[mask].var() == pytest.approx(4.0, rel=0.15)


def test_too_many_bad_pixels_and_wrong_shapes_are_named() -> None:
    with pytest.raises(ValueError, match="60 of 100 pixels are bad"):
        prepare_bad_pixels(np.arange(100).reshape(10, 10) < 60)
    with pytest.raises(ValueError, match=r"\(10, 10\) frames do not fit a frame of \(10, 11\)"):
        replace_bad_pixels(np.zeros((10, 11)), prepare_bad_pixels(np.eye(10, dtype=bool)), exposure=0, index=0)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.int16, np.float32])
@pytest.mark.parametrize("with_gain", [False, True])
def test_frames_are_corrected(dtype: type, with_gain: bool) -> None:
    rng = np.random.default_rng(7)
    raw = rng.poisson(9.0, (4, 33, 47)).astype(dtype)
    mask = np.zeros((33, 47), bool)
    mask[5, 6] = mask[20, 30] = True
    reference = rng.uniform(0.5, 1.5, (33, 47)).astype(np.float32)
    reference[mask] = 0.0
    bad = prepare_bad_pixels(mask)
    frames = CorrectedFrames(raw, gain=reference if with_gain else None, bad_pixels=bad, seed=2, counts_scale=0.5)
    assert frames.shape == (4, 33, 47)
    assert len(frames) == 4
    untouched = raw.copy()
    frame = frames[2]
    np.testing.assert_array_equal(raw, untouched)
    assert frame.dtype == np.float32
    factor = 0.5 * (reference if with_gain else np.ones_like(reference))
    np.testing.assert_allclose(frame[~mask], (raw[2] * factor)[~mask], rtol=1e-6)
    assert (frame[mask] > 0).all()
    np.testing.assert_array_equal(frames[-2], frame)

    np.testing.assert_allclose(frames.binned(2, 4), bin_plain(frame, None, 4), rtol=1e-5)
    np.testing.assert_allclose(frames.binned(2, 1), frame, rtol=1e-6)
    room = frames.padded(1, (36, 50))
    filled = frames.padded(2, (36, 50), room)
    assert filled is room
    np.testing.assert_allclose(filled, pad_mean(frame, (36, 50)), rtol=1e-6)
    np.testing.assert_allclose(frames.sum(), sum(frames), rtol=1e-5)
    np.testing.assert_allclose(frames.sum(1, 2), frames[1] + frames[3], rtol=1e-5)
    np.testing.assert_allclose(frames.raw_mean(), raw.mean(axis=0), rtol=1e-6)
    with pytest.raises(IndexError, match="frame 4 of a movie of 4"):
        frames[4]


def test_shapes_that_do_not_fit_are_named() -> None:
    raw = np.zeros((2, 8, 9), np.uint8)
    with pytest.raises(ValueError, match=r"gain has \(9, 8\) pixels, the frames have \(8, 9\)"):
        CorrectedFrames(raw, gain=np.ones((9, 8), np.float32))
    with pytest.raises(ValueError, match=r"bad pixels are of frames of \(4, 4\)"):
        CorrectedFrames(raw, bad_pixels=prepare_bad_pixels(np.eye(4, dtype=bool)))
    with pytest.raises(ValueError, match=r"shape \(8, 9\)"):
        CorrectedFrames(raw[0])


@pytest.mark.parametrize("shape", [(130, 200), (65, 64), (40, 70), (7, 9), (3, 2), (1, 5)])
def test_levels_of_tiles_are_medians_and_means(shape: tuple[int, int]) -> None:
    rng = np.random.default_rng(11)
    for image in (rng.normal(size=shape), rng.poisson(0.4, shape), np.zeros(shape), -rng.random(shape)):
        image = image.astype(np.float32)
        for absolute in (False, True):
            found = defects.tile_levels(image, absolute=absolute)
            np.testing.assert_allclose(found, defects.tile_levels_plain(image, absolute=absolute), rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("shape", [(130, 200), (7, 9), (3, 2), (1, 5), (2, 1)])
def test_the_excess_over_the_mean_equals_its_plain_twin(shape: tuple[int, int]) -> None:
    image = np.random.default_rng(12).normal(9.0, 1.0, shape).astype(np.float32)
    np.testing.assert_allclose(defects.excess_over_mean(image), defects.excess_over_mean_plain(image), atol=1e-5)


def test_what_is_above_its_tile_is_found_wherever_it_is() -> None:
    excess = np.random.default_rng(13).normal(size=(150, 140)).astype(np.float32)
    threshold = np.array([[2.0, 3.0], [2.5, 1.5]], np.float32)
    places, limits = defects._above(excess, threshold, 0.8)
    rows, columns = np.minimum(np.arange(150) // 64, 1), np.minimum(np.arange(140) // 64, 1)
    whole = threshold[np.ix_(rows, columns)]
    np.testing.assert_array_equal(places, np.argwhere(excess > np.float32(0.8) * whole))
    np.testing.assert_array_equal(limits, whole[places[:, 0], places[:, 1]])
    nowhere, none = defects._above(excess, threshold * 9, 0.8)
    assert nowhere.shape == (0, 2)
    assert none.shape == (0,)
