"""Movies that cross to a device: where they lie, in which batches, and that nothing else changes."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from focusnb.ops import transfer
from focusnb.ops.backend import to_numpy
from focusnb.ops.defects import prepare_bad_pixels
from focusnb.ops.dose import Dose
from focusnb.ops.frames import CorrectedFrames
from focusnb.ops.motion.band import bin_frames
from focusnb.ops.motion.field import MotionField
from focusnb.ops.motion.sums import sum_frames
from tests.strict import NAMESPACES, StrictArray, strict

SHAPE, FRAMES = (90, 77), 8


def cupy_module() -> Any:
    import cupy

    return cupy


def to_gpu(values: np.ndarray) -> Any:
    return cupy_module().asarray(values)


every_device = pytest.mark.parametrize(
    ("device", "bring"),
    [
        pytest.param(lambda: NAMESPACES.xp, strict, id="strict"),
        pytest.param(cupy_module, to_gpu, id="cupy", marks=pytest.mark.gpu),
    ],
)


def test_all_frames_stay_on_a_device_with_room() -> None:
    needed = transfer.device_memory(40, 3838 * 3710, 1, resident=True)
    assert transfer.plan_transfer((40, 3838, 3710), 1, int(needed / transfer.SHARE) + 1) == transfer.Plan(True, 40)
    assert transfer.plan_transfer((40, 3838, 3710), 1, None) == transfer.Plan(True, 40)


@pytest.mark.parametrize("itemsize", [1, 2, 4])
def test_batches_take_what_is_free_and_no_more(itemsize: int) -> None:
    shape, pixels = (80, 7676, 7420), 7676 * 7420
    least = transfer.device_memory(80, pixels, itemsize, binning=4)
    for free in np.linspace(1.02, 3.0, 25) * least / transfer.SHARE:
        plan = transfer.plan_transfer(shape, itemsize, int(free), binning=4)
        frames = 80 if plan.resident else transfer.BUFFERS * plan.batch
        taken = least + (frames - transfer.BUFFERS) * pixels * itemsize
        assert taken <= transfer.SHARE * free
        # one frame more in each buffer would not fit
        assert plan.resident or taken + transfer.BUFFERS * pixels * itemsize >= transfer.SHARE * free


def test_a_movie_that_does_not_fit_is_refused_with_both_numbers() -> None:
    with pytest.raises(ValueError, match=r"80 frames of 7420 x 7676 pixels need 6\.8 GB .* 3\.6 GB are free; process"):
        transfer.plan_transfer((80, 7676, 7420), 1, 4_000_000_000, binning=8)


def test_a_host_has_no_memory_of_a_device() -> None:
    assert transfer.free_memory(np) is None
    assert transfer.host_room(np, (2, 3), np.uint8).shape == (2, 3)


@every_device
@pytest.mark.parametrize("batch", [1, 3, 8, 20])
def test_batches_hold_every_frame_once(device: Any, bring: Any, batch: int) -> None:
    raw = np.random.default_rng(1).integers(0, 200, (FRAMES, *SHAPE)).astype(np.uint8)
    kind = type(bring(raw))
    starts, frames = [], []
    for start, part in transfer.batches(device(), raw, batch):
        assert type(part) is kind
        starts.append(start)
        frames.append(to_numpy(part).copy())
    assert starts == list(range(0, FRAMES, batch))
    np.testing.assert_array_equal(np.concatenate(frames), raw)


@every_device
def test_frames_are_brought_as_they_come(device: Any, bring: Any) -> None:
    raw = np.random.default_rng(1).integers(0, 200, (FRAMES, *SHAPE)).astype(np.uint16)
    there = transfer.upload_frames(device(), raw.shape, raw.dtype, enumerate(raw))
    assert type(there) is type(bring(raw))
    np.testing.assert_array_equal(to_numpy(there), raw)


@every_device
@pytest.mark.parametrize("writeable", [True, False])
def test_a_movie_in_batches_gives_what_it_gives_as_a_whole(device: Any, bring: Any, writeable: bool) -> None:
    rng = np.random.default_rng(4)
    raw = rng.poisson(2.0, (FRAMES, *SHAPE)).astype(np.uint8)
    gain = rng.uniform(0.8, 1.2, SHAPE).astype(np.float32)
    bad = prepare_bad_pixels(rng.random(SHAPE) < 0.003)
    field = MotionField(rng.normal(0.0, 1.5, (FRAMES, 2)), SHAPE)
    options: dict[str, Any] = {"bad_pixels": bad, "seed": 3, "counts_scale": 0.5, "in_place": True}
    whole = CorrectedFrames(bring(raw), gain=bring(gain), **options)
    host = CorrectedFrames(raw.copy(), gain=gain, **options)
    kept = raw.copy()
    kept.flags.writeable = writeable
    parts = CorrectedFrames(kept, gain=bring(gain), device=device(), batch=3, **options)
    assert type(parts[2]) is type(whole[2])
    assert isinstance(parts.raw, np.ndarray)

    def same(a: Any, b: Any) -> None:
        assert type(a) is type(b)
        np.testing.assert_allclose(to_numpy(a), to_numpy(b), rtol=2e-5, atol=1e-4)

    same(parts[5], whole[5])
    same(parts.sum(), whole.sum())
    for start, step in ((1, 2), (3, 1), (4, 2), (2, 3)):
        same(parts.sum(start, step), whole.sum(start, step))
        np.testing.assert_allclose(to_numpy(whole.sum(start, step)), host.sum(start, step), rtol=2e-5)
    same(parts.between(2, 7).sum(1, 2), whole.between(2, 7).sum(1, 2))
    same(bin_frames(parts, pixel_size=3.0, group=2).images, bin_frames(whole, pixel_size=3.0, group=2).images)
    settings: dict[str, Any] = {"pixel_size": 1.0, "dose": Dose(1.5), "halves": True}
    for mode in ("fused", "exact"):
        one, other = (sum_frames(frames, field, mode=mode, **settings) for frames in (parts, whole))
        same(one.dose_weighted, other.dose_weighted)
        same(one.odd, other.odd)
    assert not writeable or not isinstance(whole.raw, StrictArray) or np.array_equal(kept, to_numpy(whole.raw))
