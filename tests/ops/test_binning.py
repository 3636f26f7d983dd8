"""Coarser pixels: the kernels that read a frame once, against blocks and taps one after the other."""

from __future__ import annotations

import numpy as np
import pytest

from focusnb.ops.backend import to_numpy
from focusnb.ops.binning import TOGETHER, add_halved, bin_frame, bin_plain, halve, halve_plain
from focusnb.ops.defects import prepare_bad_pixels
from focusnb.ops.frames import CorrectedFrames
from tests.strict import strict

RNG = np.random.default_rng


@pytest.mark.parametrize("factor", [1, 2, 3, 4])
@pytest.mark.parametrize("dtype", ["uint8", "int16", "float32", "float16", ">i2"])
def test_bins_as_blocks(factor: int, dtype: str) -> None:
    frame = RNG(1).poisson(9.0, (61, 47)).astype(dtype)
    gain = RNG(2).uniform(0.5, 1.5, frame.shape).astype(np.float32)
    for sensitivity in (None, gain):
        found = bin_frame(frame, sensitivity, factor)
        np.testing.assert_allclose(found, bin_plain(frame, sensitivity, factor), rtol=1e-5)
        assert found.shape == (61 // factor, 47 // factor)


@pytest.mark.parametrize("shape", [(64, 80), (61, 71), (23, 17), (6, 7)])
@pytest.mark.parametrize("block", [1, 2, 3])
@pytest.mark.parametrize("group", [1, 3])
def test_bins_and_halves_in_one_pass(shape: tuple[int, int], block: int, group: int) -> None:
    count = TOGETHER + 3
    frames = RNG(3).poisson(3.0, (count, *shape)).astype(np.uint8)
    gain = RNG(4).uniform(0.5, 1.5, shape).astype(np.float32)
    for sensitivity in (None, gain):
        single = [halve_plain(bin_plain(frame, sensitivity, block)) for frame in frames]
        totals = np.zeros((-(-count // group), *single[0].shape), np.float32)
        add_halved(frames[:4], sensitivity, block, totals, group=group)
        add_halved(frames[4:], sensitivity, block, totals, first=4, group=group)
        expected = np.stack([sum(single[i : i + group]) for i in range(0, count, group)])
        np.testing.assert_allclose(totals, expected, atol=1e-4)


@pytest.mark.parametrize("factor", [1, 2, 3, 4, 6])
@pytest.mark.parametrize("in_place", [False, True])
def test_a_movie_in_coarser_pixels(factor: int, in_place: bool) -> None:
    raw = RNG(5).poisson(2.0, (19, 50, 62)).astype(np.uint8)
    bad = np.zeros(raw.shape[1:], bool)
    bad[7, 8] = bad[33, 3] = True
    options = {"bad_pixels": prepare_bad_pixels(bad), "seed": 3}
    gain = RNG(6).uniform(0.5, 1.5, raw.shape[1:]).astype(np.float32)
    frames = CorrectedFrames(raw.copy(), gain=gain, in_place=in_place, **options)
    found = frames.coarse_sums(factor, group=2)
    single = [
        halve_plain(bin_plain(frame, None, factor // 2)) if factor % 2 == 0 else bin_plain(frame, None, factor)
        for frame in CorrectedFrames(raw, gain=gain, **options)
    ]
    expected = np.stack([sum(single[i : i + 2]) for i in range(0, 19, 2)])
    np.testing.assert_allclose(found, expected, atol=1e-4)
    elsewhere = CorrectedFrames(strict(raw), gain=strict(gain), **options).coarse_sums(factor, group=2)
    np.testing.assert_allclose(to_numpy(elsewhere), expected, atol=1e-4)


@pytest.mark.parametrize("count", [1, 257, 600])
def test_sums_of_many_bright_bytes(count: int) -> None:
    """Sixteen bits hold 257 of the largest bytes."""
    raw = RNG(7).integers(250, 256, (count, 9, 11)).astype(np.uint8)
    frames = CorrectedFrames(raw)
    np.testing.assert_array_equal(frames.sum(), raw.sum(axis=0, dtype=np.float64))
    for start in (0, 1):
        np.testing.assert_array_equal(frames.sum(start, 2), raw[start::2].sum(axis=0, dtype=np.float64))


def test_sums_of_frames_larger_than_a_part_of_the_cache() -> None:
    raw = RNG(8).poisson(4.0, (5, 150, 131)).astype(np.uint8)
    gain = RNG(9).uniform(0.5, 1.5, raw.shape[1:]).astype(np.float32)
    np.testing.assert_allclose(CorrectedFrames(raw, gain=gain).sum(), raw.sum(axis=0) * gain, rtol=1e-6)
    turned = np.ascontiguousarray(raw.transpose(0, 2, 1)).transpose(0, 2, 1)
    np.testing.assert_array_equal(CorrectedFrames(turned).sum(), raw.sum(axis=0))


def test_halving_a_constant_leaves_it_to_the_edge() -> None:
    np.testing.assert_allclose(halve(np.full((31, 18), 3.0, np.float32)), 3.0, rtol=1e-6)


@pytest.mark.parametrize("dtype", [">i2", ">f4", ">f2", "int8"])
@pytest.mark.parametrize("in_place", [False, True])
def test_a_movie_as_it_was_stored(dtype: str, in_place: bool) -> None:
    raw = RNG(10).poisson(3.0, (3, 40, 44)).astype(dtype)
    gain = RNG(11).uniform(0.5, 1.5, raw.shape[1:]).astype(np.float32)
    frames = CorrectedFrames(raw, gain=gain, in_place=in_place)
    expected = CorrectedFrames(raw.astype(np.float32), gain=gain)
    np.testing.assert_allclose(frames.sum(), expected.sum(), rtol=1e-6)
    np.testing.assert_allclose(frames.coarse_sums(2), expected.coarse_sums(2), rtol=1e-6)
    np.testing.assert_allclose(frames.padded(1, (48, 48)), expected.padded(1, (48, 48)), rtol=1e-6)
