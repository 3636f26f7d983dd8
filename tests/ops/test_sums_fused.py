"""Fused sums: against known scenes, the exact way, plain twins, and the text of the CUDA kernel run on the host."""

from __future__ import annotations

import ctypes
import shutil
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from focusnb.ops.backend import to_numpy
from focusnb.ops.defects import prepare_bad_pixels
from focusnb.ops.dose import Dose
from focusnb.ops.fourier import frequency_grid, low_pass, shift_fourier
from focusnb.ops.frames import CorrectedFrames
from focusnb.ops.motion import frc, lowrank, on_device, weighting
from focusnb.ops.motion.cells import choose_cells, polynomials, steepest
from focusnb.ops.motion.field import MotionField
from focusnb.ops.motion.fused import add_moved
from focusnb.ops.motion.interpolation import design_taps, transfer
from focusnb.ops.motion.sums import aligned_stack, sum_frames
from focusnb.ops.simulate.motion import Motion, move_locally
from tests.strict import strict

RNG = np.random.default_rng
RINGS = 40  # to Nyquist


def make_field(
    count: int, shape: tuple[int, int], *, local: float = 0.0, step: float = 1.0, seed: int = 0
) -> MotionField:
    """Make a random walk of the whole frame, and local motion of so many pixels that sets in within a few frames."""
    rng = RNG(seed)
    shifts = rng.normal(0.0, step, (count, 2)).cumsum(axis=0)
    bend = rng.normal(size=(2, 5)) * np.array([2.0, 2.0, 4.0, 4.0, 4.0])
    edge = np.linspace(-0.5, 0.5, 11)
    X, Y = np.meshgrid(edge, edge)
    bend *= local / np.linalg.norm(np.stack([X, Y, X * X, Y * Y, X * Y], axis=-1) @ bend.T, axis=-1).max()
    grown = 1.0 - np.exp(-np.arange(count) / 3.0)
    return MotionField(shifts - shifts[0], shape, grown[:, None, None] * bend if local else None)


def noise_movie(count: int, shape: tuple[int, int], dtype: Any = np.uint8, seed: int = 1) -> np.ndarray:
    return RNG(seed).poisson(3.0, (count, *shape)).astype(dtype)


def correlate(first: np.ndarray, second: np.ndarray, margin: int = 24) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Frequency in cycles/px, ring correlation and ratio of amplitudes of the interiors of two images."""
    inside = (slice(margin, -margin), slice(margin, -margin))
    first, second = first[inside], second[inside]
    window = np.hanning(first.shape[0])[:, None] * np.hanning(first.shape[1])[None, :]
    a, b = (np.fft.rfft2((image - image.mean()) * window) for image in (first, second))
    ring = np.rint(frequency_grid(first.shape) * 2 * RINGS).astype(int).ravel()

    def sums(values: np.ndarray) -> np.ndarray:
        return np.bincount(ring, values.ravel())[: RINGS + 1]

    power = sums(np.abs(a) ** 2), sums(np.abs(b) ** 2)
    return (
        np.arange(RINGS + 1) / (2 * RINGS),
        sums((a * b.conj()).real) / np.sqrt(power[0] * power[1]),
        np.sqrt(power[0] / power[1]),
    )


def assert_like_exact(fused: np.ndarray, exact: np.ndarray) -> None:
    frequency, correlation, amplitude = correlate(fused, exact)
    band = (frequency > 0.02) & (frequency <= 0.45)
    assert correlation[band & (frequency <= 0.35)].min() > 0.999
    assert correlation[band].min() > 0.99
    assert np.abs(amplitude[band] - 1.0).max() < 0.02


@pytest.mark.parametrize(
    ("shape", "local", "dtype"),
    [((320, 340), 0.0, np.uint8), ((384, 420), 2.0, np.uint16), ((1023, 1001), 4.0, np.float32)],
)
def test_fused_sums_equal_the_exact_ones(shape: tuple[int, int], local: float, dtype: Any) -> None:
    field = make_field(3 if shape[0] > 1000 else 5, shape, local=local)
    gain = RNG(2).uniform(0.8, 1.2, shape).astype(np.float32)
    bad = prepare_bad_pixels(RNG(3).random(shape) < 1e-3)
    frames = CorrectedFrames(noise_movie(len(field), shape, dtype), gain=gain, bad_pixels=bad, seed=4)
    options = {"pixel_size": 0.8, "dose": Dose(2.0, prior=1.0), "halves": True}
    fused, exact = (sum_frames(frames, field, mode=mode, **options) for mode in ("fused", "exact"))
    for name in ("unweighted", "dose_weighted", "even", "odd", "even_weighted", "odd_weighted"):
        found, expected = getattr(fused, name), getattr(exact, name)
        assert found.dtype == np.float32
        assert found.shape == shape
        assert_like_exact(found, expected)
        assert found.mean() == pytest.approx(expected.mean(), rel=1e-3)
    odd = len(field) // 2
    both = fused.even * (len(field) - odd) + fused.odd * odd
    np.testing.assert_allclose(both / len(field), fused.unweighted, atol=1e-4)


def test_a_scene_that_moves_and_bends_is_put_back() -> None:
    shape, margin, count = (260, 300), 40, 5
    truth = make_field(count, shape, local=1.5, seed=5)
    assert truth.local is not None
    scene = low_pass(
        RNG(6).normal(size=(shape[0] + 80, shape[1] + 80)).astype(np.float32), pixel_size=1.0, resolution=3.2
    )
    grown = 1.0 - np.exp(-np.arange(count) / 3.0)
    bend = truth.local[-1] / grown[-1]
    # the simulation's X² has a mean
    whole = truth.shifts - truth.local[..., 2:4].sum(axis=-1) / 12.0
    motion = Motion(whole, grown, bend, shape)
    moved = [
        move_locally(shift_fourier(scene, tuple(-whole[t])), motion, t, origin=(margin, margin)) for t in range(count)
    ]
    frames = CorrectedFrames(np.stack(moved))
    for mode in ("fused", "exact"):
        sums = sum_frames(frames, truth, pixel_size=1.0, mode=mode)
        error = (sums.unweighted - scene[margin:-margin, margin:-margin])[20:-20, 20:-20]
        assert error.std() < 0.02 * scene.std()
    wrong = sum_frames(frames, MotionField(-truth.shifts, shape, -truth.local), pixel_size=1.0)
    assert (wrong.unweighted - scene[margin:-margin, margin:-margin]).std() > 0.2 * scene.std()


@pytest.mark.parametrize("count", [1, 3])
def test_frames_that_stand_still_are_averaged_exactly(count: int) -> None:
    raw = noise_movie(count, (100, 131))
    sums = sum_frames(CorrectedFrames(raw), MotionField(np.zeros((count, 2)), (100, 131)), pixel_size=1.0)
    np.testing.assert_allclose(sums.unweighted, raw.mean(axis=0), atol=1e-5)
    whole = MotionField(np.outer(np.arange(count), [2.0, -3.0]), (100, 131))
    expected = np.mean([np.roll(raw[t], (2 * t, -3 * t), (0, 1)) for t in range(count)], axis=0)
    sums = sum_frames(CorrectedFrames(raw), whole, pixel_size=1.0)
    np.testing.assert_allclose(sums.unweighted[8:-8, 8:-8], expected[8:-8, 8:-8], atol=1e-5)
    assert (sums.frc_resolution is None) or count > 1


def test_a_constant_stays_constant() -> None:
    field = make_field(4, (90, 301), local=2.0)
    frames = CorrectedFrames(np.full((4, 90, 301), 7, np.uint16), gain=np.full((90, 301), 0.5, np.float32))
    sums = sum_frames(frames, field, pixel_size=1.0, dose=Dose(2.0), halves=True)
    for name in ("unweighted", "dose_weighted", "even", "odd", "even_weighted", "odd_weighted"):
        np.testing.assert_allclose(getattr(sums, name), 3.5, atol=1e-4)


def test_sums_are_cropped_to_half_the_size() -> None:
    shape = (518, 422)
    field = make_field(4, shape, local=2.0)
    frames = CorrectedFrames(noise_movie(4, shape))
    options = {"pixel_size": 0.5, "target_pixel_size": 1.0, "dose": Dose(1.5)}
    fused, exact = (sum_frames(frames, field, mode=mode, **options) for mode in ("fused", "exact"))
    assert fused.unweighted.shape == (259, 211)
    assert fused.pixel_size == pytest.approx(1.0, rel=1e-4)
    for name in ("unweighted", "dose_weighted"):
        assert_like_exact(getattr(fused, name), getattr(exact, name))


def test_the_resolution_is_that_of_the_halves() -> None:
    shape = (400, 380)
    field = make_field(6, shape)
    scene = low_pass(RNG(7).normal(size=shape).astype(np.float32), pixel_size=1.0, resolution=5.0, width=0.02)
    moved = np.stack([shift_fourier(scene / scene.std(), tuple(-shift)) for shift in field.shifts])
    noisy = (moved + RNG(8).normal(0.0, 1.0, moved.shape)).astype(np.float32)
    sums = sum_frames(CorrectedFrames(noisy), field, pixel_size=1.0, halves=True)
    assert sums.frc_resolution == pytest.approx(5.0, rel=0.1)
    assert sums.frc_resolution == pytest.approx(frc.frc_resolution(sums.even, sums.odd, pixel_size=1.0), rel=0.04)
    assert sum_frames(CorrectedFrames(noisy), field, pixel_size=1.0, resolution=False).frc_resolution is None


def test_threads_and_batches_change_nothing() -> None:
    shape = (300, 520)
    field = make_field(21, shape, local=3.0)
    raw = noise_movie(21, shape)
    bad = prepare_bad_pixels(RNG(3).random(shape) < 1e-2)
    options = {"pixel_size": 1.0, "dose": Dose(1.0)}
    one = sum_frames(CorrectedFrames(raw, bad_pixels=bad), field, **options)
    two = sum_frames(CorrectedFrames(raw, bad_pixels=bad), field, threads=2, **options)
    np.testing.assert_array_equal(two.unweighted, one.unweighted)
    np.testing.assert_array_equal(two.dose_weighted, one.dose_weighted)
    in_place = sum_frames(CorrectedFrames(raw.copy(), bad_pixels=bad, in_place=True), field, **options)
    np.testing.assert_allclose(in_place.dose_weighted, one.dose_weighted, atol=1e-4)


def test_what_lies_outside_is_mirrored_so_that_noise_stays_noise() -> None:
    raw = noise_movie(2, (200, 220), np.int16)
    far = MotionField(np.array([[0.0, 0.0], [30.4, -25.7]]), (200, 220))
    image = list(aligned_stack(CorrectedFrames(raw), far))[1]
    corner, middle = image[4:24, -24:-4], image[80:120, 80:140]
    assert corner.mean() == pytest.approx(3.0, abs=0.4)
    assert corner.std() == pytest.approx(middle.std(), rel=0.2)
    farther = MotionField(np.array([[0.0, 0.0], [777.2, -3001.3]]), (200, 220))
    image = list(aligned_stack(CorrectedFrames(raw), farther))[1]
    assert image.mean() == pytest.approx(3.0, abs=0.1)


@pytest.mark.parametrize("mode", ["fused", "exact"])
def test_the_aligned_stack_has_the_sum_as_its_mean(mode: Any) -> None:
    field = make_field(4, (128, 140), local=1.0)
    frames = CorrectedFrames(noise_movie(4, (128, 140)), counts_scale=0.5)
    stack = np.stack(list(aligned_stack(frames, field, mode=mode)))
    mean = sum_frames(frames, field, pixel_size=1.0, mode=mode).unweighted
    assert stack.shape == (4, 128, 140)
    assert correlate(stack.mean(axis=0), mean, 8)[1][1:36].min() > 0.999


def test_motion_that_does_not_belong_to_the_movie() -> None:
    frames = CorrectedFrames(noise_movie(3, (64, 64)))
    with pytest.raises(ValueError, match=r"3 frames need as many shifts.*\(2, 2\)"):
        sum_frames(frames, MotionField(np.zeros((2, 2)), (64, 64)), pixel_size=1.0)
    with pytest.raises(ValueError, match=r"of frames of \(64, 60\) pixels"):
        aligned_stack(frames, MotionField(np.zeros((3, 2)), (64, 60)))
    with pytest.raises(ValueError, match="not finite"):
        sum_frames(frames, MotionField(np.full((3, 2), np.nan), (64, 64)), pixel_size=1.0)
    with pytest.raises(ValueError, match="fused or exact, not 'fast'"):
        sum_frames(frames, MotionField(np.zeros((3, 2)), (64, 64)), pixel_size=1.0, mode="fast")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("frames", "dose"),
    [(40, Dose(1.0)), (40, Dose(1.5, prior=20.0, voltage=200.0)), (80, Dose(0.75)), (3, Dose(10.0)), (1, Dose(30.0))],
)
def test_few_sums_give_the_dose_filter(frames: int, dose: Dose) -> None:
    frequency = np.linspace(1e-3, 1.0, 3000)
    split = lowrank.split_dose_filter(dose, frames, frequency)
    assert split.error() <= lowrank.TOLERANCE
    assert len(split) <= min(frames, 6)
    np.testing.assert_array_equal(split.vectors[0], 1.0)
    norm = split.normalisation(1, 2) if frames > 1 else split.normalisation()
    part = split.weights[1::2] if frames > 1 else split.weights
    np.testing.assert_allclose(norm, 1.0 / np.sqrt(len(part) * (part**2).sum(axis=0)))
    looser = lowrank.split_dose_filter(dose, frames, frequency, tolerance=0.3)
    assert len(looser) <= len(split)


def test_taps_lose_the_same_at_all_fractions() -> None:
    taps = design_taps()
    np.testing.assert_allclose(taps.sum(axis=1), 1.0, atol=1e-6)
    frequency = np.linspace(0.0, 0.45, 46)
    fractions = np.arange(0, 256, 8) / 256
    response = transfer(taps[64:320:8], fractions, frequency)
    common = np.sqrt((np.abs(response) ** 2).mean(axis=0))
    assert np.abs(response / common - 1.0).max() < 0.06
    # an amplitude that varied would cost correlation
    assert (np.abs(response.mean(axis=0)) / common).min() > 0.998


def test_cells_follow_the_motion() -> None:
    still = MotionField(np.zeros((2, 2)), (512, 512))
    assert choose_cells(still)[:2] == (32, 256)
    bend = np.zeros((2, 2, 5))
    bend[1, 0, 0], bend[1, 1, 3] = 4.0, 8.0
    field = MotionField(np.zeros((2, 2)), (512, 512), bend)
    # along x 4 px over the field; along y 2 * 8 * 0.5
    assert steepest(field) == pytest.approx((8.0 / 512, 4.0 / 512))
    cells = choose_cells(field)
    assert cells.columns * 4.0 / 512 <= 0.4
    assert cells.rows * 8.0 / 512 <= 0.1
    place = np.array([10.0, 400.0])
    X, Y = place[1] / 512 - 0.5, place[0] / 512 - 0.5
    np.testing.assert_allclose(
        polynomials(field) @ np.array([1.0, X, Y, X * X, Y * Y, X * Y]), field.at(*place), atol=1e-12
    )


def both_twins(raw: np.ndarray, gain: np.ndarray | None, field: MotionField, sums: int = 3) -> tuple[Any, ...]:
    weights = RNG(9).normal(size=(sums, len(raw))).astype(np.float32)
    totals = np.ones((sums, raw.shape[1] + 3, raw.shape[2] + 5), np.float32)
    return raw, gain, polynomials(field), weights, design_taps(), totals


@pytest.mark.parametrize("with_gain", [True, False])
@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.float32])
def test_kernel_equals_its_plain_twin(dtype: Any, with_gain: bool) -> None:
    shape = (70, 300)
    gain = RNG(2).uniform(0.8, 1.2, shape).astype(np.float32) if with_gain else None
    field = make_field(5, shape, step=9.0)
    arguments = both_twins(noise_movie(5, shape, dtype), gain, field)
    expected = arguments[-1].copy()
    on_device.add_moved_plain(*arguments[:-1], expected)
    found = arguments[-1].copy()
    add_moved(*arguments[:-1], found, choose_cells(field))
    assert np.abs(expected - 1.0).max() > 1.0
    np.testing.assert_allclose(found, expected, atol=2e-4)
    begun = np.full_like(found, np.nan)
    add_moved(*arguments[:-1], begun, choose_cells(field), begin=True)
    corner = (slice(None), slice(shape[0]), slice(shape[1]))
    np.testing.assert_allclose(begun[corner], (found - arguments[-1])[corner], atol=2e-4)
    there = [strict(value) if isinstance(value, np.ndarray) and i != 2 else value for i, value in enumerate(arguments)]
    on_device.add_moved_plain(*there)
    np.testing.assert_allclose(to_numpy(there[-1]), expected, atol=1e-5)
    # where places move differently, cells are a little off
    bent = make_field(5, shape, local=2.0)
    arguments = both_twins(noise_movie(5, shape, dtype), gain, bent)
    expected, found = arguments[-1].copy(), arguments[-1].copy()
    on_device.add_moved_plain(*arguments[:-1], expected)
    add_moved(*arguments[:-1], found, choose_cells(bent))
    assert (found - expected).std() < 0.03 * expected.std()


def test_spectral_kernels_equal_their_plain_twins() -> None:
    from focusnb.ops.fourier import plan_resize

    plan = plan_resize((60, 70), 1.0)
    shape = plan.resized
    squares = weighting.SquaredFrequencies(plan, 1.2, np)
    assert squares.y[3] + squares.x[0] < squares.y[3] + squares.x[9] < len(squares.frequency)
    table = RNG(1).random(len(squares.frequency)).astype(np.float32)
    first, second = (np.fft.rfft2(RNG(seed).normal(size=shape)).astype(np.complex64) for seed in (1, 2))
    totals = second.copy(), second.copy()
    weighting.add_weighted(first, table, squares, totals[0])
    weighting.add_weighted_plain(first, table, squares, totals[1])
    np.testing.assert_allclose(*totals, rtol=1e-5)
    factors = RNG(3).random(first.shape[0]).astype(np.float32), RNG(4).random(first.shape[1]).astype(np.float32)
    for choice in ((None, None), (table, squares)):
        totals = second.copy(), second.copy()
        weighting.multiply(totals[0], factors, *choice)
        weighting.multiply_plain(totals[1], factors, *choice)
        np.testing.assert_allclose(*totals, rtol=1e-5)
    cross, even, odd = frc.correlate_halves_plain(first, first + second, shape)
    found = frc.correlate_halves(first, first + second, shape)
    np.testing.assert_allclose(found, cross / np.sqrt(even * odd), atol=1e-3)


SHIM = """
#include <cmath>
using std::floor;
#define __global__
#define __device__ static
struct Place { int x, y; };
static Place blockIdx, threadIdx, blockDim;
%s
extern "C" void launch(
    const RAW *raw, const float *gain, int with_gain, const double *shifts, const float *weights, const float *taps,
    float *totals, int frames, int ny, int nx, int rows, int columns)
{
    blockDim = {4, 2};
    // one block more than needed on each axis: threads outside must write nothing
    for (blockIdx.y = 0; blockIdx.y <= (ny + 1) / 2; ++blockIdx.y)
        for (blockIdx.x = 0; blockIdx.x <= (nx + 3) / 4; ++blockIdx.x)
            for (threadIdx.y = 0; threadIdx.y < 2; ++threadIdx.y)
                for (threadIdx.x = 0; threadIdx.x < 4; ++threadIdx.x)
                    add_moved(raw, gain, with_gain, shifts, weights, taps, totals, frames, ny, nx, rows, columns);
}
"""


@pytest.mark.parametrize("with_gain", [True, False])
@pytest.mark.parametrize("dtype", ["uint8", "uint16", "int16", "float32"])
def test_the_text_of_the_cuda_kernel_as_a_program_of_the_host(dtype: str, with_gain: bool, tmp_path: Path) -> None:
    if shutil.which("g++") is None:
        pytest.skip("g++ is not installed")
    source, library = tmp_path / "fused.cpp", tmp_path / "fused.so"
    source.write_text(SHIM % on_device.kernel_source(), encoding="utf-8")
    command = ["g++", "-O1", "-shared", "-fPIC", *on_device.kernel_options(dtype, 3), str(source), "-o", str(library)]
    subprocess.run(command, check=True, capture_output=True)
    launch = ctypes.CDLL(str(library)).launch
    shape = (45, 61)
    gain = RNG(2).uniform(0.8, 1.2, shape).astype(np.float32) if with_gain else None
    for field in (make_field(4, shape, step=40.0), make_field(4, shape, local=2.0)):
        arguments = both_twins(noise_movie(4, shape, dtype), gain, field)
        raw, _, shifts, weights, taps, totals = arguments
        found, expected = totals.copy(), totals.copy()
        on_device.add_moved_plain(*arguments[:-1], expected)
        factor = np.ones(1, np.float32) if gain is None else gain
        pointers = [array.ctypes.data_as(ctypes.c_void_p) for array in (raw, factor, shifts, weights, taps, found)]
        sizes = [ctypes.c_int(size) for size in (*raw.shape, *totals.shape[1:])]
        launch(*pointers[:2], ctypes.c_int(with_gain), *pointers[2:], *sizes)
        np.testing.assert_allclose(found, expected, atol=1e-4)
        if field.local is None:
            host = totals.copy()
            add_moved(*arguments[:-1], host, choose_cells(field))
            np.testing.assert_allclose(found, host, atol=2e-4)


def test_the_cuda_kernel_compiles(tmp_path: Path) -> None:
    if shutil.which("nvcc") is None:
        pytest.skip("nvcc is not installed")
    source = tmp_path / "fused.cu"
    source.write_text(on_device.kernel_source(), encoding="utf-8")
    command = ["nvcc", "-cubin", "-arch=sm_80", *on_device.kernel_options("uint8", 6), str(source)]
    subprocess.run([*command, "-o", str(tmp_path / "fused.cubin")], check=True, capture_output=True)


def test_counts_that_the_device_does_not_read_are_named() -> None:
    with pytest.raises(ValueError, match="frames of complex64 cannot be summed"):
        on_device.kernel_options("complex64", 1)


@pytest.mark.gpu
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.int16, np.float32])
def test_sums_on_a_device(dtype: Any) -> None:
    import cupy

    shape = (300, 333)
    raw, field = noise_movie(20, shape, dtype), make_field(20, shape, local=1.0)
    gain = RNG(2).uniform(0.8, 1.2, shape).astype(np.float32)
    bad = prepare_bad_pixels(RNG(3).random(shape) < 1e-3)
    options = {"pixel_size": 1.0, "dose": Dose(1.5), "halves": True}
    host = sum_frames(CorrectedFrames(raw, gain=gain, bad_pixels=bad), field, **options)
    frames = CorrectedFrames(cupy.asarray(raw), gain=cupy.asarray(gain), bad_pixels=bad)
    device = sum_frames(frames, field, **options)
    for name in ("unweighted", "dose_weighted", "even_weighted"):
        assert_like_exact(to_numpy(getattr(device, name)), getattr(host, name))
