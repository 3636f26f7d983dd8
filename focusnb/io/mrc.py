"""MRC and MRCS files: header, frames read one by one, images written.

The layout is that of MRC2014 (Cheng et al. 2015) with the additions of IMOD (mode 101, signed bytes), FEI (extended
headers) and Direct Electron (negative cell lengths). Frames are used in file order: row 0 is the bottom of the picture.
"""

from __future__ import annotations

import math
import os
import struct
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from focusnb.compiled import sums_about
from focusnb.errors import FocusError, FormatError
from focusnb.io.files import ByteSource, atomic_path
from focusnb.io.formats import Array, Facts, facts_from_title

HEADER_SIZE = 1024
PACKED = 101
_MODES = {0: "i1", 1: "i2", 2: "f4", 6: "u2", 12: "f2", PACKED: "u1"}
_NOT_IMAGES = {3: "complex numbers (16 bit)", 4: "complex numbers (32 bit)", 16: "colours"}
_WRITTEN = {"uint8": 0, "int16": 1, "float32": 2, "uint16": 6, "float16": 12}
_LARGEST_SIDE = 1 << 17
_IMOD_STAMP = 1146047817
_IMOD_SIGNED = 1
_FLOAT16_LARGEST = 65504.0
_LABEL = "focusnb"

# field : (byte offset, struct code, factor to our unit) in the extended headers FEI1 and FEI2
_FEI_FACTS = {
    "voltage": (84, "d", 1e-3),
    "exposure_dose": (92, "d", 1e-20),
    "tilt_angle": (100, "d", 1.0),
    "pixel_size": (156, "d", 1e10),
    "magnification": (289, "d", 1.0),
    "exposure_time": (419, "d", 1.0),
}
_FEI_MAY_BE_ZERO = {"tilt_angle"}


@dataclass(frozen=True)
class Header:
    """What an MRC header says: (t, y, x), mode, where the data begin, Å/px and the labels."""

    shape: tuple[int, int, int]
    mode: int
    byte_order: str
    offset: int
    signed: bool
    pixel_size: float | None
    extended_type: str
    labels: tuple[str, ...]

    @property
    def stored(self) -> np.dtype[np.generic]:
        """Number type as it is in the file."""
        code = "u1" if self.mode == 0 and not self.signed else _MODES[self.mode]
        return np.dtype(self.byte_order + code)

    @property
    def frame_bytes(self) -> int:
        """Bytes of a frame in the file; 4-bit rows begin on a whole byte."""
        _, height, width = self.shape
        return height * ((width + 1) // 2) if self.mode == PACKED else height * width * self.stored.itemsize


class MrcFrames:
    """Frames of an MRC file, read one by one by position: a file that shrinks meanwhile is an error, not a crash."""

    def __init__(self, source: ByteSource) -> None:
        """Read the header; raises FormatError where it or the file's size is impossible."""
        self._source = source
        self.header = header = read_header(source)
        self.shape = header.shape
        self.dtype = header.stored.newbyteorder("=")
        self.pixel_size = header.pixel_size
        self.facts: Facts = {}
        for label in header.labels:
            self.facts |= facts_from_title(label)
        if header.extended_type in ("FEI1", "FEI2"):
            self.facts |= _fei_facts(
                source.read(HEADER_SIZE, min(header.offset - HEADER_SIZE, 1024)), header.byte_order
            )
            if self.pixel_size is None and "pixel_size" in self.facts:
                self.pixel_size = float(self.facts["pixel_size"])
        _check_size(source, header)

    def read_frame(self, index: int, out: Array | None = None) -> Array:
        """Read a frame as (y, x), row 0 the first in the file."""
        header = self.header
        _, height, width = header.shape
        start = header.offset + index * header.frame_bytes
        if header.mode == PACKED:
            block = np.empty(header.frame_bytes, np.uint8)
            self._fill(start, block)
            frame = np.empty((height, width), np.uint8) if out is None else out
            pairs = block.reshape(height, -1)
            frame[:, 0::2] = pairs & 15  # the first pixel is in the low half of the byte
            frame[:, 1::2] = (pairs >> 4)[:, : width // 2]
            return frame
        direct = out is not None and out.dtype == self.dtype and out.flags.c_contiguous
        frame = out if direct and out is not None else np.empty((height, width), self.dtype)
        self._fill(start, frame)
        if header.stored.byteorder != "|" and not header.stored.isnative:
            frame.byteswap(inplace=True)
        if out is None or direct:
            return frame
        out[...] = frame
        return out

    def close(self) -> None:
        """Close the file."""
        self._source.close()

    def _fill(self, start: int, block: Array) -> None:
        got = self._source.read_into(start, block.reshape(-1).view(np.uint8).data)
        if got < block.nbytes:
            raise FormatError(
                f"{self._source.path}: ends at byte {start + got}, the frame at byte {start + block.nbytes}; "
                "was it cut short while being read?"
            )


def is_mrc(source: ByteSource) -> bool:
    """Tell whether a file is MRC: it says MAP, or an older one without it has a header that fits the file's size."""
    head = source.read(0, HEADER_SIZE)
    if len(head) < HEADER_SIZE:
        return len(head) >= 212 and head[208:211] == b"MAP"
    if head[208:211] == b"MAP":
        return True
    order = _byte_order(head)
    if order is None:
        return False
    columns, rows, sections, mode = struct.unpack_from(order + "4i", head)
    extended = struct.unpack_from(order + "i", head, 92)[0]
    if mode not in _MODES or extended < 0:
        return False
    pixels = rows * ((columns + 1) // 2) if mode == PACKED else rows * columns * np.dtype(_MODES[mode]).itemsize
    return bool(source.size - HEADER_SIZE - extended == pixels * sections)


def read_header(source: ByteSource) -> Header:
    """Read an MRC header in either byte order; raises FormatError with the numbers that are impossible.

    Bytes (mode 0) are signed in MRC2014, unsigned in the movies that cameras write. IMOD's stamp decides where there
    is one, then the header's minimum (below 0: signed) and maximum (above 127: unsigned); otherwise they are unsigned,
    because counts are never negative.
    """
    path, head = source.path, source.read(0, HEADER_SIZE)
    if len(head) < HEADER_SIZE:
        raise FormatError(
            f"{path}: MRC header has {HEADER_SIZE} bytes, file holds {len(head)}; was it copied while being written?"
        )
    order = _byte_order(head)
    columns, rows, sections, mode = struct.unpack_from((order or "<") + "4i", head)
    if order is None:
        raise FormatError(f"{path}: MRC header says {columns}×{rows} pixels, {sections} sections; is it damaged?")
    if mode in _NOT_IMAGES:
        raise FormatError(f"{path}: MRC mode {mode} holds {_NOT_IMAGES[mode]}, not an image; export it as float32")
    if mode not in _MODES:
        raise FormatError(f"{path}: MRC mode {mode} is not known; modes {', '.join(map(str, _MODES))} are read")
    axes = struct.unpack_from(order + "3i", head, 64)
    if axes not in ((1, 2, 3), (0, 0, 0)):
        raise FormatError(f"{path}: MRC axes are stored in the order {axes}, (1, 2, 3) is read; convert it first")
    extended = struct.unpack_from(order + "i", head, 92)[0]
    if not 0 <= extended <= source.size - HEADER_SIZE:
        raise FormatError(
            f"{path}: MRC header says {extended} bytes of extended header, file holds {source.size - HEADER_SIZE} "
            "after the header; was it copied while being written?"
        )
    labels = _labels(head, order)
    return Header(
        shape=(sections, rows, columns),
        mode=mode,
        byte_order=order,
        offset=HEADER_SIZE + extended,
        signed=mode == 0 and _bytes_signed(head, order),
        pixel_size=_pixel_size(head, order, labels),
        extended_type=head[104:108].decode("latin-1").strip("\0 "),
        labels=labels,
    )


def write_mrc(
    path: str | os.PathLike[str],
    array: Array | Sequence[Array],
    *,
    pixel_size: float,
    dtype: Literal["float32", "float16", "uint8", "int16", "uint16"] = "float32",
    labels: Iterable[str] = (),
) -> None:
    """Write an image (y, x) or a stack of images (t, y, x) as MRC, atomically.

    pixel_size : Å/px
    dtype : number type in the file; mean and deviation in the header are those of the values as float32
    labels : up to 9 lines of 80 characters, after the one that names focusnb

    Raises FocusError where values are not finite or do not fit the type.
    """
    stack = np.asarray(array)
    if stack.ndim == 2:
        stack = stack[np.newaxis]
    if stack.ndim != 3 or not stack.size:
        raise FocusError(f"{path}: an image is (y, x), a stack (t, y, x); this has shape {np.shape(array)}")
    if not (math.isfinite(pixel_size) and pixel_size > 0):
        raise FocusError(f"{path}: pixel size {pixel_size} Å/px cannot be written; give a positive number")
    statistics = _statistics(path, stack, dtype)
    stored = np.dtype(dtype).newbyteorder("<")
    size = HEADER_SIZE + stack.size * stored.itemsize
    with atomic_path(path, size=size) as part, open(part, "wb") as file:
        file.write(_new_header(stack.shape, dtype, pixel_size, statistics, labels))
        for frame in stack:
            file.write(np.ascontiguousarray(frame, dtype=stored).data)


def _statistics(path: str | os.PathLike[str], stack: Array, dtype: str) -> tuple[float, float, float, float]:
    """Minimum, maximum, mean and standard deviation, frame by frame so that no copy of a stack is made."""
    lowest, highest, total, squares = math.inf, -math.inf, 0.0, 0.0
    # about a usual value, so that a small deviation on a large mean keeps its digits
    centre = float(np.mean(stack[0, 0], dtype=np.float64))
    for frame in stack:
        values = np.ascontiguousarray(frame, np.float32)
        least, most = float(values.min()), float(values.max())
        if not (math.isfinite(least) and math.isfinite(most)):
            bad = int(np.count_nonzero(~np.isfinite(values)))
            raise FocusError(f"{path}: {bad} of {values.size} values are not finite; nothing was written")
        lowest, highest = min(lowest, least), max(highest, most)
        added, squared = sums_about(values, centre)
        total, squares = total + added, squares + squared
    if np.issubdtype(np.dtype(dtype), np.integer):
        limits = (float(np.iinfo(dtype).min), float(np.iinfo(dtype).max))
    else:
        limits = (-_FLOAT16_LARGEST, _FLOAT16_LARGEST) if dtype == "float16" else (-math.inf, math.inf)
    if lowest < limits[0] or highest > limits[1]:
        raise FocusError(
            f"{path}: values from {lowest:g} to {highest:g} do not fit {dtype} ({limits[0]:g} to {limits[1]:g}); "
            "write float32"
        )
    if dtype == "float16":
        # rounding keeps the order, so these are the extremes of what is stored
        lowest, highest = float(np.float16(lowest)), float(np.float16(highest))
    offset = total / stack.size
    return lowest, highest, centre + offset, math.sqrt(max(0.0, squares / stack.size - offset**2))


def _new_header(
    shape: tuple[int, ...],
    dtype: str,
    pixel_size: float,
    statistics: tuple[float, float, float, float],
    labels: Iterable[str],
) -> bytes:
    sections, rows, columns = shape
    head = bytearray(HEADER_SIZE)
    # a stack of images has space group 0 and one section per unit cell (MRC2014)
    struct.pack_into("<4i", head, 0, columns, rows, sections, _WRITTEN[dtype])
    struct.pack_into("<3i", head, 28, columns, rows, 1)
    struct.pack_into("<6f", head, 40, columns * pixel_size, rows * pixel_size, pixel_size, 90, 90, 90)
    struct.pack_into("<3i3f", head, 64, 1, 2, 3, *statistics[:3])
    struct.pack_into("<i", head, 108, 20140)
    if dtype == "uint8":
        struct.pack_into("<2i", head, 152, _IMOD_STAMP, 0)
    head[208:216] = b"MAP DD\0\0"
    struct.pack_into("<f", head, 216, statistics[3])
    lines = [_LABEL, *labels][:10]
    struct.pack_into("<i", head, 220, len(lines))
    for index, line in enumerate(lines):
        head[224 + 80 * index : 304 + 80 * index] = line.encode("ascii", "replace")[:80].ljust(80)
    return bytes(head)


def _byte_order(head: bytes) -> str | None:
    """Find the byte order in which the header makes sense; programs write the machine stamp in many ways."""
    for order in ("<", ">"):
        columns, rows, sections, mode = struct.unpack_from(order + "4i", head)
        plausible = 0 < columns <= _LARGEST_SIDE and 0 < rows <= _LARGEST_SIDE and 0 < sections <= 1 << 24
        if plausible and 0 <= mode < 1000:
            return order
    return None


def _bytes_signed(head: bytes, order: str) -> bool:
    stamp, flags = struct.unpack_from(order + "2i", head, 152)
    if stamp == _IMOD_STAMP:
        return bool(flags & _IMOD_SIGNED)
    lowest, highest = struct.unpack_from(order + "2f", head, 76)
    return bool(-128 <= lowest < 0 and highest <= 127)


def _pixel_size(head: bytes, order: str, labels: tuple[str, ...]) -> float | None:
    """Å/px from cell and grid; None where it cannot be trusted.

    Exactly 1 in x and y is what programs write that do not know it (unless focusnb wrote it). A grid that is not the
    image's size was left behind by a program that binned or cut the image: cell / grid and cell / size then disagree.
    """
    size = struct.unpack_from(order + "2i", head)
    grid = struct.unpack_from(order + "2i", head, 28)
    cell = struct.unpack_from(order + "2f", head, 40)
    # Direct Electron writes negative cell lengths
    steps = [abs(length) / pixels for length, pixels in zip(cell, size, strict=True)]
    if max(grid) > 0 and grid != size:
        return None
    if not (math.isfinite(steps[0]) and 1e-3 < steps[0] < 1e7):
        return None
    if steps[0] == steps[1] == 1.0 and not any(line.startswith(_LABEL) for line in labels):
        return None
    return float(round(steps[0], 7))


def _labels(head: bytes, order: str) -> tuple[str, ...]:
    count = struct.unpack_from(order + "i", head, 220)[0]
    lines = (head[224 + 80 * index : 304 + 80 * index] for index in range(min(max(count, 0), 10)))
    return tuple(text for line in lines if (text := line.split(b"\0")[0].decode("latin-1").rstrip()))


def _fei_facts(extended: bytes, order: str) -> Facts:
    """Facts from the first record of an FEI1 or FEI2 extended header, in our units; 0 means: not recorded."""
    facts: Facts = {}
    for name, (offset, code, factor) in _FEI_FACTS.items():
        if offset + 8 <= len(extended):
            value = struct.unpack_from(order + code, extended, offset)[0] * factor
            if math.isfinite(value) and (value > 0 or (name in _FEI_MAY_BE_ZERO and abs(value) <= 180)):
                facts[name] = float(f"{value:.7g}")
    return facts


def _check_size(source: ByteSource, header: Header) -> None:
    sections, rows, columns = header.shape
    held = (source.size - header.offset) // header.frame_bytes
    plural = "s" * (sections > 1)
    said = f"{source.path}: header says {sections} frame{plural} of {columns}×{rows} (MRC mode {header.mode})"
    if held < sections:
        needed = header.offset + sections * header.frame_bytes
        raise FormatError(
            f"{said}, file holds {held} ({source.size} of {needed} bytes); was it copied while being written?"
        )
    if held > sections:
        raise FormatError(
            f"{said}, file holds {held} ({source.size} bytes); the camera's program did not finish the header, "
            "write it again"
        )
