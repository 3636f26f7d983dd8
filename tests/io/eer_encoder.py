"""EER files made from lists of electrons, as the format is described (INTEROP §5); the reader is not looked at here.

Places are in the finest grid the file can tell: 4 × 4 places in a pixel for 4 bits, 2 × 2 for 2 bits.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

Places = Sequence[tuple[int, int]]


@dataclass(frozen=True)
class Coding:
    """A compression: its number in the file, bits of a run, bits of a place along each axis."""

    compression: int
    run_bits: int
    place_bits: int

    @property
    def finest(self) -> int:
        return 1 << self.place_bits


CODINGS = {
    "8+4": Coding(65000, 8, 2),
    "7+4": Coding(65001, 7, 2),
    "7+2": Coding(65002, 7, 1),
    "6+4": Coding(65002, 6, 2),
}


def encode(electrons: Places, shape: tuple[int, int], coding: Coding) -> bytes:
    """The bits of one hardware frame; electrons as (y, x) in the finest grid, one in a pixel at most."""
    height, width = shape
    finest, longest = coding.finest, (1 << coding.run_bits) - 1
    inverted = {2: 0x0A, 1: 0x03}[coding.place_bits]
    codes: list[tuple[int, int]] = []

    def skip(count: int) -> None:
        codes.extend([(longest, coding.run_bits)] * (count // longest))
        codes.append((count % longest, coding.run_bits))

    position = 0
    for pixel, symbol in sorted(
        (y // finest * width + x // finest, y % finest * finest + x % finest) for y, x in electrons
    ):
        assert pixel >= position, "two electrons in one pixel"
        skip(pixel - position)
        codes.append((symbol ^ inverted, 2 * coding.place_bits))
        position = pixel + 1
    if position < height * width:
        skip(height * width - position)
    bits = np.concatenate([(value >> np.arange(count)) & 1 for value, count in codes]).astype(np.uint8)
    return np.packbits(bits, bitorder="little").tobytes()


def image_of(electrons: Iterable[tuple[int, int]], shape: tuple[int, int], coding: Coding, finer: int) -> npt.NDArray:
    """The truth: electrons counted on the grid ``finer`` times that of the detector."""
    step = coding.finest // finer
    image = np.zeros((shape[0] * finer, shape[1] * finer), int)
    for y, x in electrons:
        image[y // step, x // step] += 1
    return image


def write_eer(
    path: Path,
    frames: Sequence[Places | bytes],
    shape: tuple[int, int],
    coding: Coding,
    *,
    acquisition: str = "",
    image_first: bool = False,
) -> None:
    """A BigTIFF of hardware frames, from electrons or ready bits, data and directory by turns as a camera writes them.

    acquisition : XML in tag 65001 of the first directory
    image_first : put a plain image before the frames
    """
    pages = [(frame if isinstance(frame, bytes) else encode(frame, shape, coding), coding) for frame in frames]
    if image_first:
        pages.insert(0, (bytes(shape[0] * shape[1]), Coding(1, 0, 0)))
    data = bytearray(b"II+\0" + struct.pack("<HHQ", 8, 0, 0))
    link = 8
    for number, (block, how) in enumerate(pages):
        text = acquisition.encode() if number == 0 else b""
        place = len(data)
        data += block + text
        entries = [(256, 3, 1, shape[1]), (257, 3, 1, shape[0]), (258, 3, 1, 8), (259, 3, 1, how.compression),
                   (262, 3, 1, 1), (273, 16, 1, place), (277, 3, 1, 1), (278, 3, 1, shape[0]),
                   (279, 16, 1, len(block))]  # fmt: skip
        if text:
            assert len(text) > 8
            entries.append((65001, 7, len(text), place + len(block)))
        if how.compression == 65002:
            entries += [(65007, 3, 1, how.run_bits), (65008, 3, 1, how.place_bits), (65009, 3, 1, how.place_bits)]
        struct.pack_into("<Q", data, link, len(data))
        data += struct.pack("<Q", len(entries)) + b"".join(struct.pack("<HHQQ", *entry) for entry in entries)
        link = len(data)
        data += bytes(8)
    path.write_bytes(data)
