"""Running sums against the direct mean and variance in float64."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from focusnb.errors import ParameterError
from focusnb.ops.backend import to_numpy
from focusnb.ops.sums import Sums
from tests.strict import strict


def to_gpu(values: Any) -> Any:
    import cupy

    return cupy.asarray(values)


every_array = pytest.mark.parametrize(
    "bring",
    [
        pytest.param(np.array, id="numpy"),
        pytest.param(strict, id="strict"),
        pytest.param(to_gpu, id="cupy", marks=pytest.mark.gpu),
    ],
)


def images(count: int, shape: tuple[int, int] = (7, 5), *, level: float = 10.0, seed: int = 1) -> np.ndarray:
    """Noise on a ramp that is neither symmetric nor flat."""
    ramp = np.arange(shape[0])[:, None] * 0.7 + np.arange(shape[1]) ** 2 * 0.3
    noise = np.random.default_rng(seed).normal(level, 5, (count, *shape))
    return (ramp + noise * (1 + 0.1 * ramp)).astype(np.float32)


def summed(stack: np.ndarray, bring: Any = np.array, **choices: Any) -> Sums:
    sums = Sums.empty(bring(stack[0]), **choices)
    for image in stack:
        sums.add(bring(image))
    return sums


@every_array
def test_mean_and_variance_are_the_direct_ones(bring: Any) -> None:
    stack = images(20)
    sums = summed(stack, bring)
    assert sums.count == 20
    assert type(sums.average()) is type(bring(stack[0]))
    np.testing.assert_allclose(to_numpy(sums.average()), stack.mean(0, dtype=np.float64), rtol=1e-12)
    np.testing.assert_allclose(to_numpy(sums.variance()), stack.var(0, ddof=1, dtype=np.float64), rtol=1e-10)


@every_array
def test_merging_is_adding_and_removing_undoes_it(bring: Any) -> None:
    stack = images(20)
    first, second = summed(stack[:13], bring), summed(stack[13:], bring, level=20.0)
    first.merge(second)
    np.testing.assert_allclose(to_numpy(first.average()), stack.mean(0, dtype=np.float64), rtol=1e-12)
    np.testing.assert_allclose(to_numpy(first.variance()), stack.var(0, ddof=1, dtype=np.float64), rtol=1e-10)
    first.remove(summed(stack[5:13], bring))
    left = np.concatenate([stack[:5], stack[13:]])
    assert first.count == 12
    np.testing.assert_allclose(to_numpy(first.average()), left.mean(0, dtype=np.float64), rtol=1e-12)
    np.testing.assert_allclose(to_numpy(first.variance()), left.var(0, ddof=1, dtype=np.float64), rtol=1e-10)
    first.remove(summed(left, bring))
    assert first.count == 0
    assert not to_numpy(first.mean).any()
    assert not to_numpy(first.deviations).any()


def test_ten_thousand_of_a_small_spread_on_a_large_mean_are_rounded_like_one_float32() -> None:
    noise = np.random.default_rng(0).normal(1000, 5, (10_000, 6, 9)).astype(np.float32)
    total = Sums.empty(noise[0])
    for start in range(0, len(noise), 64):
        block = noise[start : start + 64]
        total.merge(summed(block, dtype=np.float32, level=float(block[0].mean())))
    mean, variance = noise.mean(0, dtype=np.float64), noise.var(0, ddof=1, dtype=np.float64)
    assert np.abs(total.average() - mean).max() < np.spacing(np.float32(1000)) / 20
    assert np.abs(total.variance() / variance - 1).max() < np.finfo(np.float32).eps


def test_one_block_of_float32_keeps_the_digits() -> None:
    noise = np.random.default_rng(0).normal(1000, 5, (64, 40, 30)).astype(np.float32)
    block = summed(noise, dtype=np.float32, level=float(noise[0].mean()))
    assert block.mean.dtype == block.deviations.dtype == np.float32
    mean, variance = noise.mean(0, dtype=np.float64), noise.var(0, ddof=1, dtype=np.float64)
    assert np.abs(block.mean + np.float64(block.offset) - mean).max() < np.spacing(np.float32(1000)) / 4
    assert np.abs(block.variance() / variance - 1).max() < 20 * np.finfo(np.float32).eps


def test_a_mean_alone() -> None:
    stack = images(6)
    first, second = (summed(part, deviations=False, dtype=np.float32) for part in (stack[:2], stack[2:]))
    first.merge(second)
    np.testing.assert_allclose(first.average(), stack.mean(0), rtol=1e-6)
    first.remove(second)
    np.testing.assert_allclose(first.average(), stack[:2].mean(0), rtol=1e-5)
    with pytest.raises(ParameterError, match="no deviations"):
        first.variance()
    with pytest.raises(ParameterError, match="no deviations"):
        summed(stack[:2]).merge(second)


def test_nothing_merged_or_taken_out_changes_nothing() -> None:
    stack = images(3)
    sums = summed(stack)
    for change in (sums.merge, sums.remove):
        change(Sums.empty(stack[0]))
        assert sums.count == 3
        np.testing.assert_allclose(sums.average(), stack.mean(0), rtol=1e-6)


def test_what_cannot_be() -> None:
    stack = images(3)
    sums = summed(stack[:1])
    with pytest.raises(ParameterError, match="needs 2 images, there are 1"):
        sums.variance()
    with pytest.raises(ParameterError, match="there is none"):
        Sums.empty(stack[0]).average()
    with pytest.raises(ParameterError, match=r"\(5, 7\).*\(7, 5\)"):
        sums.add(stack[0].T)
    with pytest.raises(ParameterError, match="3 images cannot be taken out of 1"):
        sums.remove(summed(stack))
