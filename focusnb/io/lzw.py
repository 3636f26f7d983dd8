"""LZW of TIFF decoded straight into the rows of a frame, in a fifth of the time of imagecodecs at one count per pixel.

A string of the table was written out before: an entry is where it begins in the output, and its length. It is copied
16 bytes at a time, which is once for most strings, and a code is cut out of 8 bytes loaded at once. Both are
instructions that numba has no word for, and go beyond the string or the code; so they are used where the buffers have
room for that, and near their ends bytes are taken one by one. (Specification: Adobe TIFF 6.0, 1992, section 13.)
"""

from __future__ import annotations

import sys
from typing import Any

import imagecodecs
import numpy as np
import numpy.typing as npt
from llvmlite import ir  # type: ignore[import-untyped]
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from focusnb.compiled import compiled

Bytes = npt.NDArray[np.uint8]

_CLEAR, _END, _FIRST = 256, 257, 258
_TABLE = 5120  # strings until the next clear, as libtiff and imagecodecs allow; codes reach the first 4096
_CORRUPT, _NO_BYTE, _OVERFLOW, _NO_CLEAR, _SHORT = -1, -2, -3, -4, -5
_FAULTS = {
    _CORRUPT: "a code of LZW beyond its table",
    _NO_BYTE: "a code of LZW that is no byte behind a clear code",
    _OVERFLOW: f"LZW without a clear code for {_TABLE} strings",
    _NO_CLEAR: "no LZW, which begins with a clear code",
    _SHORT: "the strip ends before its rows are full",
}


def _is_old_style(block: bytes | memoryview) -> bool:
    """Tell whether LZW begins as programs of before TIFF 5.0 wrote it, the lowest bit of a code first."""
    return len(block) > 1 and block[0] == 0 and bool(block[1] & 1)


def decode_lzw(block: bytes | memoryview, out: int) -> Bytes:
    """Decode a strip or tile into an array of at most ``out`` bytes, fewer where it ends before.

    Raises ValueError (imagecodecs' RuntimeError for the old style, which is left to it) where it is damaged.
    """
    if _is_old_style(block):
        return np.frombuffer(imagecodecs.lzw_decode(bytes(block), out=out), np.uint8)
    decoded = np.empty(out, np.uint8)
    data = np.frombuffer(block, np.uint8)
    count = _decode(data, 0, data.size, decoded, 0, out, np.empty(_TABLE, np.int64))
    if count < 0:
        raise ValueError(_FAULTS[count])
    return decoded[:count]


def decode_strips(
    data: Bytes, spans: npt.NDArray[np.int64], rows: Bytes, *, rows_per_strip: int, flip: bool = False
) -> None:
    """Decode the strips of a frame into its rows.

    data : bytes that hold the strips
    spans : (strips, 2) where each of them begins and ends in data
    rows : (y, bytes of a row) uint8, C-contiguous
    rows_per_strip : the last strip may have fewer
    flip : whether the first row of the file becomes the last

    Raises ValueError with the reason where a strip is damaged or too short, also where it is of the old style.
    """
    needed = -(-rows.shape[0] // rows_per_strip)
    if spans.shape != (needed, 2) or spans.min() < 0 or spans.max() > data.size or not rows.flags.c_contiguous:
        raise ValueError(f"{len(spans)} strips in {data.size} bytes for {rows.shape[0]} rows, {needed} are needed")
    strip, fault = _decode_strips(data, spans, rows, rows_per_strip, flip)
    if fault:
        raise ValueError(f"strip {strip + 1} of {needed}: {_FAULTS[fault]}")


def _native(builder: Any, value: Any) -> Any:
    return builder.bswap(value) if sys.byteorder == "little" else value


def _pointer(context: Any, builder: Any, kind: Any, array: Any, index: Any, element: Any) -> Any:
    data = context.make_array(kind)(context, builder, array).data
    return builder.bitcast(cgutils.pointer_add(builder, data, index), ir.PointerType(element))


@intrinsic  # type: ignore[untyped-decorator]
def _load_eight(typing: Any, array: Any, index: Any) -> Any:
    """Load the 8 bytes of a uint8 array from index as a big-endian number; nothing is checked."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        array, index = arguments
        pointer = _pointer(context, builder, signature.args[0], array, index, ir.IntType(64))
        return _native(builder, builder.load(pointer, align=1))

    return types.uint64(array, types.int64), generate


@intrinsic  # type: ignore[untyped-decorator]
def _copy_sixteen(typing: Any, array: Any, target: Any, source: Any) -> Any:
    """Copy 16 bytes of a uint8 array from one index to another; nothing is checked."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        sixteen = ir.VectorType(ir.IntType(8), 16)
        values, target, source = arguments
        block = builder.load(_pointer(context, builder, signature.args[0], values, source, sixteen), align=1)
        builder.store(block, _pointer(context, builder, signature.args[0], values, target, sixteen), align=1)
        return context.get_dummy_value()

    return types.void(array, types.int64, types.int64), generate


@compiled
def _code(data: Any, bit: int, width: int) -> Any:
    """Cut a code out of the 8 bytes where it begins."""
    word = _load_eight(data, bit >> 3)
    return np.int64((word << np.uint64(bit & 7)) >> np.uint64(64 - width)) & 4095


@compiled
def _careful_code(data: Any, bit: int, width: int, stop: int) -> int:
    """Cut a code out of the bytes before ``stop``, byte by byte; beyond them the strip has ended."""
    if bit + width > 8 * stop:
        return _END
    word = 0
    for place in range(bit >> 3, ((bit + width - 1) >> 3) + 1):
        word = word << 8 | data[place]
    return word >> (-(bit + width) & 7) & ((1 << width) - 1)


@compiled
def _decode_fast(
    data: Any, stop: int, bit: int, width: int, out: Any, end: int, place: int, table: Any, size: int, last: Any
) -> Any:
    """Decode codes of one width as long as both buffers have room for whole copies and no code needs a decision.

    last : where the string before begins in the output, and its length
    table : begin << 16 | length of the strings

    Returns bit, place and size behind what was decoded, and the string before.
    """
    begin, length = last
    largest = (1 << width) - 1 if width < 12 else _TABLE
    for _ in range(min(largest - size, (8 * (stop - 8) - bit) // width + 1)):
        code = _code(data, bit, width)
        table[size] = begin << 16 | (length + 1)
        if code < 256:
            if place >= end:
                break
            out[place] = code
            begin, length = place, 1
        else:
            if code > size or code < _FIRST:
                break
            entry = table[code]
            source, longer = entry >> 16, entry & 0xFFFF
            if place + longer + 15 > end:
                break
            _copy_sixteen(out, place, source)
            for done in range(16, longer, 16):
                _copy_sixteen(out, place + done, source + done)
            if code == size:  # its own last byte, which is its first, was not there yet to be copied
                out[place + longer - 1] = out[source]
            begin, length = place, longer
        place += length
        bit += width
        size += 1
    return bit, place, size, (begin, length)


@compiled
def _copy(out: Any, place: int, source: int, length: int) -> None:
    """Copy bytes one by one: the last may be the first copied."""
    for done in range(length):
        out[place + done] = out[source + done]


@compiled
def _width(size: int) -> int:
    """Return the bits of a code for a table of this size: one early, as TIFF has it."""
    return 9 + (size >= 511) + (size >= 1023) + (size >= 2047)


@compiled
def _decode(data: Any, start: int, stop: int, out: Any, place: int, end: int, table: Any) -> int:
    """Decode data[start:stop] into out[place:end]; returns where the output ends, or a fault."""
    if stop == start or place == end:
        return place
    bit, size, last = 8 * start, _FIRST, (place, 0)
    if stop - start < 2 or _careful_code(data, bit, 9, stop) != _CLEAR:
        return _NO_CLEAR
    while place < end:
        if last[1]:
            bit, place, size, last = _decode_fast(data, stop, bit, _width(size), out, end, place, table, size, last)
            if place == end:
                break
        width = _width(size)
        code = _careful_code(data, bit, width, stop)
        bit += width
        if code == _END:
            break
        if code == _CLEAR:
            size, last = _FIRST, (place, 0)
            continue
        if not last[1]:
            if code > 255:  # imagecodecs goes on with the table of before, or with memory that is not its own
                return _NO_BYTE
            out[place] = code
            last = (place, 1)
            place += 1
            continue
        if size >= _TABLE:
            return _OVERFLOW
        if code > size:
            return _CORRUPT
        table[size] = last[0] << 16 | (last[1] + 1)
        if code < 256:
            out[place] = code
            last = (place, 1)
        else:
            entry = table[code]
            last = (place, min(entry & 0xFFFF, end - place))
            _copy(out, place, entry >> 16, last[1])
        place += last[1]
        size += 1
    return place


@compiled
def _decode_strips(data: Any, spans: Any, rows: Any, rows_per_strip: int, flip: bool) -> Any:
    """Decode the strips one after another; returns the first that has a fault, and which."""
    height, row_bytes = rows.shape
    out, table = rows.reshape(-1), np.empty(_TABLE, np.int64)
    for strip in range(spans.shape[0]):
        top = strip * rows_per_strip
        held = min(rows_per_strip, height - top)
        if flip:
            top = height - top - held
        end = (top + held) * row_bytes
        reached = _decode(data, spans[strip, 0], spans[strip, 1], out, top * row_bytes, end, table)
        if reached < end:
            return strip, reached if reached < 0 else _SHORT
        if flip:
            for row in range(held // 2):
                _swap(rows[top + row], rows[top + held - 1 - row])
    return 0, 0


@compiled
def _swap(first: Any, second: Any) -> None:
    """Exchange two rows."""
    for place in range(first.size):
        kept = first[place]
        first[place] = second[place]
        second[place] = kept
