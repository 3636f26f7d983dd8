"""Sum moved frames in real space where the movie is: the kernel for CUDA, and its plain twin for any array."""

from __future__ import annotations

from functools import lru_cache
from importlib import resources
from typing import Any

import numpy as np
from numpy.typing import NDArray

from focusnb.ops.backend import Array, array_namespace, like
from focusnb.ops.motion.interpolation import BEFORE, MARGIN, PHASES, TAPS

FloatArray = NDArray[np.floating[Any]]

RAW_TYPES = {
    "uint8": "unsigned char",
    "int8": "signed char",
    "uint16": "unsigned short",
    "int16": "short",
    "uint32": "unsigned int",
    "int32": "int",
    "float32": "float",
    "float64": "double",
}
BLOCK = (32, 8)  # threads along x and y


def kernel_options(raw_type: str, sums: int) -> tuple[str, ...]:
    """Return the definitions with which ``fused.cu`` is compiled for counts of a type, a name of numpy.

    Raises ValueError for a type that it does not read.
    """
    if raw_type not in RAW_TYPES:
        raise ValueError(f"frames of {raw_type} cannot be summed on the device; convert them to float32")
    values = {"RAW": RAW_TYPES[raw_type], "SUMS": sums, "TAPS": TAPS, "BEFORE": BEFORE, "PHASES": PHASES}
    values["ZERO"] = round(MARGIN * PHASES)
    return tuple(f"-D{name}={value}" for name, value in values.items())


def kernel_source() -> str:
    """Return the text of the CUDA kernel ``add_moved``."""
    return resources.files("focusnb.ops.motion").joinpath("fused.cu").read_text(encoding="utf-8")


@lru_cache(maxsize=16)
def _kernel(raw_type: str, sums: int) -> Any:
    import cupy

    return cupy.RawKernel(kernel_source(), "add_moved", options=kernel_options(raw_type, sums))


def add_moved_cuda(
    raw: Array, gain: Array | None, shifts: FloatArray, weights: Array, taps: Array, totals: Array
) -> None:
    """Add moved frames to sums on a CUDA device; see ``fused.add_moved``.

    raw, gain, weights, taps, totals : cupy; shifts : on the host
    """
    count, ny, nx = (int(n) for n in raw.shape)
    factor = like(raw, np.ones(1, np.float32)) if gain is None else gain
    grid = ((nx + BLOCK[0] - 1) // BLOCK[0], (ny + BLOCK[1] - 1) // BLOCK[1])
    sizes = (count, ny, nx, int(totals.shape[1]), int(totals.shape[2]))
    arguments = (raw, factor, np.int32(gain is not None), like(raw, shifts), weights, taps, totals)
    _kernel(str(raw.dtype), int(totals.shape[0]))(grid, BLOCK, (*arguments, *(np.int32(size) for size in sizes)))


def add_moved_plain(
    raw: Array, gain: Array | None, shifts: FloatArray, weights: Array, taps: Array, totals: Array
) -> None:
    """Add moved frames to sums: the plain twin of the kernels, which takes the shift at each pixel; slow.

    raw : (t, y, x), gain : (y, x) or None, shifts : (t, 2, 6) on the host, weights : (sums, t), taps : (rows, 6),
    totals : (sums, rows, columns); see ``fused.add_moved``
    """
    xp = array_namespace(raw)
    count, ny, nx = (int(n) for n in raw.shape)
    y, x = xp.arange(ny)[:, None], xp.arange(nx)[None, :]
    Y, X = y / float(ny) - 0.5, x / float(nx) - 0.5
    for t in range(count):
        frame = raw[t].astype(xp.float32)
        if gain is not None:
            frame = frame * gain
        (top, row_y), (left, row_x) = (
            _places(xp, [float(c) for c in shifts[t, axis]], Y, X, at) for axis, at in ((0, y), (1, x))
        )
        weights_y, weights_x = taps[row_y], taps[row_x]
        moved = xp.zeros((ny, nx), dtype=xp.float32)
        for j in range(TAPS):
            along = xp.zeros((ny, nx), dtype=xp.float32)
            for i in range(TAPS):
                along += weights_x[:, :, i] * frame[_mirrored(xp, top + j, ny), _mirrored(xp, left + i, nx)]
            moved += weights_y[:, :, j] * along
        for r in range(int(totals.shape[0])):
            totals[r, :ny, :nx] += weights[r, t] * moved


def _places(xp: Any, shift: list[float], Y: Array, X: Array, at: Array) -> tuple[Array, Array]:
    """Return the pixel of the first tap and the row of the table of taps, both (y, x)."""
    moved = shift[0] + X * (shift[1] + X * shift[3] + Y * shift[5]) + Y * (shift[2] + Y * shift[4])
    whole = xp.floor(-moved)
    row = xp.floor((-moved - whole + MARGIN) * PHASES + 0.5).astype(xp.int64)
    return at + whole.astype(xp.int64) - BEFORE, row


def _mirrored(xp: Any, i: Array, size: int) -> Array:
    i = i % (2 * size)
    return xp.where(i < size, i, 2 * size - 1 - i)
