"""What a field shows, against simulated fields whose film, tears and ice lie where they were drawn."""

from __future__ import annotations

from dataclasses import astuple
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from focusnb.errors import ParameterError
from focusnb.io.images import read_image
from focusnb.ops.edges import block_means, edge_of_blocks, find_edge
from focusnb.ops.quality import (
    FieldLimits,
    FieldMeasures,
    film_fraction,
    is_empty,
    measure_field,
    measure_texture,
    open_fraction,
)
from tests.strict import strict

from . import fields


def seen(measures: FieldMeasures) -> set[str]:
    """What the default limits say."""
    film, opened = film_fraction(measures), open_fraction(measures)
    found = {"empty": is_empty(measures), "film": (film or 0.0) > 0.05, "torn": (opened or 0.0) > 0.05}
    return {name for name, is_so in found.items() if is_so}


def measure(made: fields.Field) -> FieldMeasures:
    return measure_field(made.image, pixel_size=made.pixel_size)


@pytest.mark.parametrize("variety", ["even", "gradient", "steep", "dirt"])
@pytest.mark.parametrize("seed", range(2))
def test_ordinary_fields_show_nothing(variety: str, seed: int):
    assert seen(measure(fields.ordinary(np.random.default_rng([3, seed]), variety))) == set()


@pytest.mark.parametrize("seed", range(5))
def test_film_is_found_wherever_it_lies(seed: int):
    made = fields.with_film(np.random.default_rng([4, seed]))
    measures = measure(made)
    assert seen(measures) == {"film"}
    assert film_fraction(measures) == pytest.approx(made.fraction, abs=0.05)
    assert measures.texture_dark.value > measures.texture_bright.value


@pytest.mark.parametrize("seed", range(4))
def test_a_torn_film_is_open_where_it_was_torn(seed: int):
    made = fields.torn(np.random.default_rng([5, seed]))
    measures = measure(made)
    assert seen(measures) == {"torn"}
    assert open_fraction(measures) == pytest.approx(made.fraction, abs=0.08)


@pytest.mark.parametrize("seed", range(2))
def test_an_empty_hole_holds_noise_alone(seed: int):
    measures = measure(fields.empty(np.random.default_rng([6, seed])))
    assert seen(measures) == {"empty"}
    assert measures.texture_excess.value == pytest.approx(0.0, abs=0.03)


def test_the_thinnest_ice_is_no_empty_hole():
    made = fields.expose(np.random.default_rng(1), ice=130.0, spacing=3000.0, dose=40.0)
    assert seen(measure(made)) == set()


@pytest.mark.parametrize("direction", [0.0, 60.0, 150.0, -120.0, -45.0])
@pytest.mark.parametrize("shape", [(28, 28), (20, 28)])
def test_direction_and_place_of_an_edge(direction: float, shape: tuple[int, int]):
    y, x = fields.places((shape[0] * 8, shape[1] * 8))
    turn = np.radians(direction)
    dark = x * np.cos(turn) + y * np.sin(turn) > 0.2
    image = 10 - 2.0 * dark + np.random.default_rng(0).normal(0, 0.3, dark.shape)
    edge = find_edge(image.astype(np.float32))
    assert (edge.direction - direction + 180) % 360 - 180 == pytest.approx(0, abs=4)
    assert edge.offset == pytest.approx(0.2, abs=0.02)
    assert edge.dark_fraction == pytest.approx(dark.mean(), abs=0.02)
    assert edge.contrast == pytest.approx(0.2, abs=0.01)
    assert edge.curvature == pytest.approx(0.0, abs=0.3)
    assert edge.score > 0.9
    depth = edge.depth(y, x)
    assert ((depth > 0) == dark).mean() > 0.98


@pytest.mark.parametrize(("sign", "of_film"), [(1, True), (-1, False)])
def test_a_hole_is_told_from_a_piece_of_contamination(sign: int, of_film: bool):
    y, x = fields.places((224, 224))
    round_part = np.hypot(y + 0.1, x - 0.35) < 0.45
    image = 10 + sign * round_part + np.random.default_rng(0).normal(0, 0.2, round_part.shape)
    edge = find_edge(image.astype(np.float32))
    assert edge.curvature == pytest.approx(sign / 0.45, rel=0.1)
    assert edge.score > 0.8
    assert edge.of_film is of_film


def test_nothing_smooth_is_an_edge():
    y, x = fields.places((224, 280))
    noise = np.random.default_rng(0).normal(0, 0.01, x.shape)
    for smooth in (x, x**2 - y, np.exp(-2 * (x**2 + y**2)), np.tanh(1.5 * x + y), 0 * x):
        assert find_edge((10 + smooth + noise).astype(np.float32)).score < 0.1
    assert find_edge(np.full((224, 224), 3.0, np.float32)) is None
    assert find_edge(np.ones((3, 3), np.float32)) is None
    assert edge_of_blocks(np.full((20, 20), np.nan)) is None


def test_scale_and_offset_of_the_values_do_not_matter():
    made = fields.with_film(np.random.default_rng([4, 0]))
    other = measure_field(made.image * 300 + 20_000, pixel_size=made.pixel_size)
    own = measure(made)
    assert other.edge_score == pytest.approx(own.edge_score, rel=1e-3)
    assert other.dark_fraction == pytest.approx(own.dark_fraction, rel=1e-2)
    assert other.texture_excess.value == pytest.approx(own.texture_excess.value, rel=1e-2)
    assert seen(other) == {"film"}


def test_texture_against_a_known_spectrum():
    # power 1.5 from 60 to 6 Å, 1 elsewhere
    rng, shape, pixel_size = np.random.default_rng(0), (1536, 1280), 1.2
    k = np.hypot(np.fft.fftfreq(shape[0], pixel_size)[:, None], np.fft.rfftfreq(shape[1], pixel_size)[None, :])
    spectrum = np.fft.rfft2(rng.normal(size=shape)) * np.sqrt(np.where((k > 1 / 70) & (k < 1 / 5.5), 1.5, 1.0))
    image = np.fft.irfft2(spectrum, s=shape).astype(np.float32)
    texture = measure_texture(image, pixel_size=pixel_size)
    found = texture.excess()
    assert found.value == pytest.approx(0.5, abs=0.02)
    noise = measure_texture(rng.normal(size=shape).astype(np.float32), pixel_size=pixel_size)
    assert abs(noise.excess().value) < 3 * noise.excess().error
    assert noise.scatter == pytest.approx((noise.specimen / noise.noise).std(), rel=0.15)
    assert found.may_be_below(0.5 - 1.4 * found.error + found.value - 0.5)
    assert not found.may_be_below(0.4)


def test_what_cannot_be_told_is_empty():
    tiny = measure_field(np.random.default_rng(0).normal(size=(40, 40)).astype(np.float32), pixel_size=1.0)
    assert (tiny.texture_excess, tiny.bare_fraction) == (None, None)
    assert (film_fraction(FieldMeasures()), open_fraction(FieldMeasures())) == (None, None)
    assert not is_empty(FieldMeasures())
    coarse = measure_field(np.random.default_rng(0).normal(size=(600, 600)).astype(np.float32), pixel_size=14.0)
    assert coarse.texture_excess is None
    assert coarse.edge_score is not None
    constant = measure_field(np.full((600, 600), 5.0, np.float32), pixel_size=1.0)
    assert constant.edge_score is None
    assert constant.texture_excess is None
    assert seen(constant) == set()


def test_wrong_input_is_refused():
    with pytest.raises(ParameterError, match="one image"):
        measure_texture(np.zeros((2, 64, 64), np.float32), pixel_size=1.0)
    with pytest.raises(ParameterError, match="0 Å/px"):
        measure_texture(np.zeros((64, 64), np.float32), pixel_size=0)
    with pytest.raises(ParameterError, match="blocks"):
        block_means(np.zeros(64, np.float32))


def test_limits_decide():
    made = fields.with_film(np.random.default_rng([4, 0]))
    measures = measure(made)
    assert film_fraction(measures, FieldLimits(edge=0.9999)) == 0.0
    assert film_fraction(measures, FieldLimits()) > 0.05


def to_gpu(values: Any) -> Any:
    import cupy

    return cupy.asarray(values)


@pytest.mark.parametrize("bring", [pytest.param(strict, id="strict"), pytest.param(to_gpu, marks=pytest.mark.gpu)])
def test_device_arrays_give_the_same(bring: Any):
    made = fields.with_film(np.random.default_rng([4, 2]))
    here, there = measure(made), measure_field(bring(made.image), pixel_size=made.pixel_size)
    for own, other in zip(astuple(here), astuple(there), strict=True):
        assert np.allclose(own, other, rtol=2e-3, atol=1e-4)
    counts = made.image.astype(np.uint16)
    assert measure_field(bring(counts), pixel_size=made.pixel_size).dark_fraction == pytest.approx(here.dark_fraction)


def test_real_micrographs_are_whole(data: Path):
    found = sorted((data / "apoferritin_empiar10146").glob("May08_??.??.??.mrc"))
    assert len(found) == 6
    for path in found:
        assert seen(measure_field(read_image(path).data, pixel_size=1.5)) == set(), path.name


def test_a_real_piece_of_contamination_is_no_film(data: Path):
    measures = measure_field(read_image(data / "micrographs" / "Ucsf_stack_1142_DW.mrc").data, pixel_size=2.0)
    assert measures.edge_score > 0.5
    assert measures.edge_of_film is False
    assert seen(measures) == set()
