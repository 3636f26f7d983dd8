"""Orientation of gain references by an asymmetric pattern."""

from __future__ import annotations

import numpy as np
import pytest

from focusnb.ops import gain
from focusnb.ops.gain import Orientation

LETTER = np.array([[1, 2, 3], [4, 5, 6]], np.float32)


def test_rotation_then_flip_of_rows() -> None:
    # numpy's quarter turn: the last column becomes the first row
    np.testing.assert_array_equal(gain.orient_gain(LETTER, rotation=1), [[3, 6], [2, 5], [1, 4]])
    np.testing.assert_array_equal(gain.orient_gain(LETTER, rotation=1, flip=True), [[1, 4], [2, 5], [3, 6]])
    np.testing.assert_array_equal(gain.orient_gain(LETTER, rotation=2), [[6, 5, 4], [3, 2, 1]])
    np.testing.assert_array_equal(gain.orient_gain(LETTER, flip=True), [[4, 5, 6], [1, 2, 3]])
    np.testing.assert_array_equal(gain.orient_gain(LETTER, rotation=-1), gain.orient_gain(LETTER, rotation=3))


def test_allowed_orientations_follow_the_shapes() -> None:
    square = gain.orientations((4, 4), (4, 4))
    assert len(set(square)) == 8
    assert {(o.rotation, o.flip) for o in gain.orientations((3, 4), (3, 4))} == {(0, 0), (2, 0), (0, 1), (2, 1)}
    assert {(o.rotation, o.flip) for o in gain.orientations((3, 4), (4, 3))} == {(1, 0), (3, 0), (1, 1), (3, 1)}
    assert gain.orientations((3, 4), (4, 4)) == ()


def test_bad_pixels_are_zeros_and_nonsense_is_refused() -> None:
    reference = np.ones((3, 4), np.float32)
    reference[1, 2] = 0.0
    assert np.argwhere(gain.bad_gain_pixels(reference)).tolist() == [[1, 2]]
    reference[0, 0] = np.nan
    reference[0, 1] = np.inf
    with pytest.raises(ValueError, match="2 values that are not finite"):
        gain.bad_gain_pixels(reference)
    with pytest.raises(ValueError, match="1 values below 0"):
        gain.bad_gain_pixels(np.array([[1.0, -0.1]], np.float32))


@pytest.mark.parametrize("rotation", range(4))
@pytest.mark.parametrize("flip", [False, True])
@pytest.mark.parametrize("shape", [(120, 120), (100, 140)])
def test_orientation_is_found(shape: tuple[int, int], rotation: int, flip: bool) -> None:
    rng = np.random.default_rng(2)
    reference = rng.normal(1.0, 0.06, shape).astype(np.float32)
    reference[5, 7] = 0.0
    oriented = gain.orient_gain(reference, rotation=rotation, flip=flip)
    y = np.linspace(0, 6, oriented.shape[0])[:, None]
    expected = 40.0 * (1.0 + 0.2 * np.sin(y))  # a specimen
    response = np.divide(1.0, oriented, out=np.zeros_like(oriented), where=oriented > 0)
    counts = rng.poisson(expected * response)
    counts[50, 60] = 4000  # a hot pixel
    found = gain.find_orientation((counts / 40.0).astype(np.float32), reference)
    assert found.best == Orientation(rotation, flip)
    assert found.certain
    assert found.correlation > found.second_correlation + found.margin


def test_unrelated_gain_is_not_certain() -> None:
    rng = np.random.default_rng(3)
    reference = rng.normal(1.0, 0.06, (150, 150)).astype(np.float32)
    frame = rng.poisson(40.0, (150, 150)).astype(np.float32)
    assert not gain.find_orientation(frame, reference).certain
    with pytest.raises(ValueError, match=r"\(150, 150\).*\(150, 149\)"):
        gain.find_orientation(frame[:, 1:], reference)
