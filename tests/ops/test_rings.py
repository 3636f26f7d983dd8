"""Sharp rings of known spacing, and the pixel size they tell."""

from __future__ import annotations

import numpy as np
import pytest

from focusnb.ops.ice import amplitudes
from focusnb.ops.rings import KNOWN, find_rings, find_scale, other_scales, spectrum_profile
from tests.strict import strict

FREQUENCY = (np.arange(512) + 0.5) / 1024


def profile(*spacings: float, pixel_size: float = 1.06, height: float = 0.3, width: float = 0.012, seed: int = 0):
    """A falling profile with noise, Thon rings at the lower frequencies and sharp rings."""
    rng = np.random.default_rng(seed)
    k = FREQUENCY / pixel_size
    amplitude = 1 + np.exp(-k / 0.1) * (1 + 0.3 * np.cos(2 * np.pi * 0.0197 * 15_000 * k * k))
    for spacing in spacings:
        amplitude *= 1 + height * np.exp(-0.5 * ((k * spacing - 1) / width) ** 2)
    return amplitude * (1 + 0.004 * rng.standard_normal(512))


def seen(*spacings: float, pixel_size: float = 1.06, claimed: float | None = None, **more: float) -> list[float]:
    rings = find_rings(FREQUENCY, profile(*spacings, pixel_size=pixel_size, **more))
    return [(claimed or pixel_size) / ring.frequency for ring in rings]


@pytest.mark.parametrize("pixel_size", [0.53, 0.83, 1.06, 1.35])
def test_a_ring_is_found_where_it_is(pixel_size):
    found = seen(3.669, pixel_size=pixel_size)
    assert len(found) == 1
    assert found[0] == pytest.approx(3.669, rel=0.004)


@pytest.mark.parametrize("seed", range(8))
def test_nothing_is_found_where_no_ring_is(seed):
    assert seen(seed=seed) == []
    # the diffuse ring of amorphous ice is wide
    assert seen(3.7, height=0.2, width=0.09, seed=seed) == []


def test_three_rings_of_hexagonal_ice():
    found = sorted(seen(3.897, 3.669, 3.441, height=0.5, width=0.008))
    assert found == pytest.approx([3.441, 3.669, 3.897], rel=0.004)


def test_the_right_pixel_size_is_left():
    for spacings in ([3.68], [3.88], [2.36], [2.13], [3.9, 3.67], [3.67, 5.1]):
        assert find_scale(spacings).scale == 1.0


@pytest.mark.parametrize("error", [0.5, 0.91, 0.96, 1.03, 1.09, 2.0])
def test_a_single_ring_tells_an_error(error):
    found = find_scale([3.669 * error])
    assert found.scale == pytest.approx(1 / error, rel=1e-6)
    assert found.material == "ice"


@pytest.mark.parametrize("error", [0.93, 0.9415, 1.062, 1.04])
def test_three_rings_tell_also_what_one_cannot(error):
    # 6.2 % more, the ring of 3.67 Å seems to be that of 3.90 Å
    found = find_scale([3.669 * error, 3.897 * error, 3.441 * error])
    assert len(found.matches) == 3
    assert found.scale == pytest.approx(1 / error, rel=0.005)


def test_gold_and_graphene():
    assert find_scale([2.355 * 1.05]).scale == pytest.approx(1 / 1.05, rel=1e-6)
    assert find_scale([2.355 * 1.05, 2.039 * 1.05]).material == "gold"
    # 4.7 Å is a spacing of amyloid, not twice that of gold
    assert find_scale([4.72]) is None
    assert find_scale([9.3]) is None
    assert find_scale([]) is None


def test_other_readings_of_a_ring():
    assert [line for line, _ in other_scales(3.79, 3.669 / 3.79)] == [3.897, 3.441]
    assert {line for lines in KNOWN.values() for line in lines} >= {3.669, 2.355, 2.131}


def test_profile_of_a_known_image():
    x = np.broadcast_to(np.arange(300.0), (240, 300))
    image = (10 + np.cos(2 * np.pi * 0.3 * x)).astype(np.float32)
    image += np.random.default_rng(0).normal(0, 0.1, image.shape).astype(np.float32)
    frequency, amplitude = spectrum_profile(amplitudes(image, 1.2))
    assert len(frequency) == 120
    assert frequency[np.argmax(amplitude)] == pytest.approx(0.3, abs=0.003)
    ringless = spectrum_profile(amplitudes(image - np.cos(2 * np.pi * 0.3 * x), 1.2))[1]
    assert ringless[5:] == pytest.approx(np.median(ringless), rel=0.25)
    on_device = spectrum_profile(amplitudes(strict(image), 1.2))[1]
    assert on_device == pytest.approx(amplitude, rel=1e-4)


def test_tiny_and_empty_profiles():
    assert find_rings(FREQUENCY[:20], np.ones(20)) == []
    assert find_rings(FREQUENCY, np.zeros(512)) == []
