"""Damaged strips of LZW, decoded in buffers that end where memory ends, beside the library's decoder.

    python -m tests.io.strips 20000

Run it as a process of its own: a byte read or written outside the buffers is a fault of the processor.
"""

from __future__ import annotations

import ctypes
import json
import mmap
import sys
from collections import Counter
from collections.abc import Iterator
from typing import Any

import imagecodecs
import numpy as np

from focusnb.io.lzw import decode_lzw, decode_strips

CONTENTS = ("mean 0.25", "mean 1", "mean 5", "uint16", "constant", "runs")
DAMAGES = ("none", "flips", "cut", "splice", "random", "tail")
UNASKED = "refused unasked"
"""Outcome for strips with which the library reads memory that is not its own: it may end the process."""

_LARGEST = 4096
_PAGE = mmap.PAGESIZE
_NO_ACCESS = 0


class GuardedBuffer:
    """Pages of memory between two that must not be touched."""

    def __init__(self, size: int) -> None:
        self._inner = -(-size // _PAGE) * _PAGE
        self._map = mmap.mmap(-1, self._inner + 2 * _PAGE)
        address = ctypes.addressof(ctypes.c_char.from_buffer(self._map))
        protect = ctypes.CDLL(None, use_errno=True).mprotect
        protect.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int)
        for place in (address, address + _PAGE + self._inner):
            if protect(place, _PAGE, _NO_ACCESS):
                raise OSError(ctypes.get_errno(), "memory cannot be guarded")

    def at_end(self, size: int) -> Any:
        """The bytes before the guard at the end."""
        return np.frombuffer(self._map, np.uint8, size, _PAGE + self._inner - size)

    def at_start(self, size: int) -> Any:
        """The bytes behind the guard at the start."""
        return np.frombuffer(self._map, np.uint8, size, _PAGE)


def content(name: str, size: int, random: np.random.Generator) -> bytes:
    """Bytes of a strip as movies have them, and some that they have not."""
    if name == "uint16":
        return random.poisson(3, size // 2 + 1).astype(np.uint16).tobytes()[:size]
    if name == "constant":
        return bytes([int(random.integers(256))]) * size
    if name == "runs":
        lengths = random.integers(1, 400, size)
        return np.repeat(random.integers(0, 256, size).astype(np.uint8), lengths)[:size].tobytes()
    return random.poisson(float(name.split()[1]), size).astype(np.uint8).tobytes()


def damaged(strips: list[bytes], random: np.random.Generator) -> bytes:
    """One of the strips, damaged in one of several ways or not at all."""
    strip = bytearray(strips[random.integers(len(strips))])
    size = len(strip)
    match DAMAGES[random.integers(len(DAMAGES))]:
        case "flips":
            for _ in range(random.integers(1, 4)):
                place = random.integers(9, 8 * size)
                strip[place >> 3] ^= 128 >> (place & 7)
        case "cut":
            del strip[random.integers(size) :]
        case "splice":
            other = strips[random.integers(len(strips))]
            strip[random.integers(2, size) :] = other[random.integers(len(other)) :]
        case "random":
            strip[2:] = random.bytes(size - 2)
        case "tail":
            place = int(random.integers(max(2, size - 12), size))
            strip[place:] = random.bytes(size - place)
    return bytes(strip)


def compare(packed: bytes, size: int, buffers: tuple[GuardedBuffer, GuardedBuffer], at_end: bool) -> str:
    """Decode a strip in guarded buffers and say how that compares with the library.

    "equal", "refused" by both, "refused alone", "refused unasked", "different", "last byte" (the library reads a 0).
    """
    source, target = buffers
    data = source.at_end(len(packed)) if at_end else source.at_start(len(packed))
    data[:] = np.frombuffer(packed, np.uint8)
    data.flags.writeable = False
    rows = (target.at_end(size) if at_end else target.at_start(size)).reshape(1, size)
    try:
        decode_strips(data, np.array([[0, len(packed)]]), rows, rows_per_strip=1)
    except ValueError as error:
        if "no byte behind a clear code" in str(error):
            return UNASKED
        return "refused" if library(packed, size) is None else "refused alone"
    ours = rows.tobytes()
    if ours == library(packed, size):
        return "equal"
    # the library takes the last byte for 0 where a code ends in it and no code follows
    return "last byte" if ours == library(packed + bytes(3), size) else "different"


def library(packed: bytes, size: int) -> bytes | None:
    """What the library decodes, None where it refuses or the strip ends early."""
    try:
        block: bytes = imagecodecs.lzw_decode(packed, out=size)
    except (RuntimeError, ValueError):
        return None
    return block if len(block) == size else None


def short_or_equal(packed: bytes, size: int) -> bool:
    """Whether what ends early ends where it does for the library."""
    try:
        ours = decode_lzw(packed, out=size)
    except (RuntimeError, ValueError):
        return True
    return ours.tobytes() in (
        imagecodecs.lzw_decode(packed, out=size), imagecodecs.lzw_decode(packed + bytes(3), out=ours.size)
    )  # fmt: skip


def originals(random: np.random.Generator, each: int = 40) -> Iterator[tuple[bytes, int]]:
    """Strips of every content and of many lengths, as the library packs them, and their lengths."""
    for name in CONTENTS:
        for _ in range(each):
            size = int(random.integers(1, _LARGEST))
            yield imagecodecs.lzw_encode(content(name, size, random)), size


def campaign(count: int, seed: int = 0) -> dict[str, int]:
    """Try damaged strips; returns how many there were of each outcome."""
    random = np.random.default_rng(seed)
    sized = list(originals(random))
    strips, sizes = [strip for strip, _ in sized], [size for _, size in sized]
    buffers = GuardedBuffer(4 * _LARGEST), GuardedBuffer(_LARGEST)
    outcomes: Counter[str] = Counter()
    for number in range(count):
        packed = damaged(strips, random)
        size = sizes[random.integers(len(sizes))] if number % 2 else int(random.integers(1, 64))
        if packed:
            outcomes[compare(packed, size, buffers, at_end=bool(random.integers(2)))] += 1
            outcomes["short differs"] += not short_or_equal(packed, size)
    known = ("equal", "last byte", "refused", UNASKED, "refused alone", "different", "short differs")
    return {"strips": sum(outcomes[name] for name in known[:-1])} | {name: outcomes[name] for name in known}


if __name__ == "__main__":
    print(json.dumps(campaign(int(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else 0)))
