"""LZW: what is decoded equals what was packed and what the library makes of it, and nothing beyond is touched."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np
import pytest
import tifffile

from focusnb.errors import FormatError
from focusnb.io.lzw import decode_lzw, decode_strips
from focusnb.io.movies import open_movie
from focusnb.io.tiff import write_tiff
from tests.conftest import REPOSITORY
from tests.io import strips
from tests.io.test_tiff import bare_tiff

CLEAR, END = 256, 257


def packed(codes: list[int]) -> bytes:
    """Codes as TIFF stores them: highest bit first, one bit more when the table holds 511, 1023, 2047 strings."""
    number, bits, size = 0, 0, 258
    for code in codes:
        width = 9 + (size >= 511) + (size >= 1023) + (size >= 2047)
        number, bits = number << width | code, bits + width
        # the first code behind a clear makes no string
        size = 257 if code == CLEAR else size + 1
    return (number << (-bits % 8)).to_bytes(-(-bits // 8), "big")


def packed_old_style(data: bytes) -> bytes:
    """Literals of 9 bits, lowest bit first, with a clear code before the codes would grow."""
    number, bits = 0, 0
    for place, byte in enumerate(data):
        for code in (CLEAR, byte) if place % 200 == 0 else (byte,):
            number, bits = number | code << bits, bits + 9
    return (number | END << bits).to_bytes(-(-(bits + 9) // 8), "little")


def in_another_process(command: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, command, *arguments], cwd=REPOSITORY, capture_output=True, text=True)


@pytest.mark.parametrize("name", strips.CONTENTS)
def test_what_was_packed_comes_back(name: str) -> None:
    random = np.random.default_rng(5)
    for size in (1, 2, 15, 16, 17, 255, 4000, 70_000):
        block = strips.content(name, size, random)
        assert decode_lzw(imagecodecs.lzw_encode(block), size).tobytes() == block
        assert decode_lzw(imagecodecs.lzw_encode(block), size + 9).tobytes() == block


@pytest.mark.parametrize("flip", [False, True])
@pytest.mark.parametrize("rows_per_strip", [1, 2, 16, 37, 100])
def test_strips_fill_the_rows_either_way_up(rows_per_strip: int, flip: bool) -> None:
    rows = np.random.default_rng(6).poisson(1, (37, 53)).astype(np.uint8)
    blocks = [
        imagecodecs.lzw_encode(rows[top : top + rows_per_strip].tobytes()) for top in range(0, 37, rows_per_strip)
    ]
    gap = b"\xff" * 3
    ends = np.cumsum([len(block) + len(gap) for block in blocks]) - len(gap)
    spans = np.stack((ends - [len(block) for block in blocks], ends), axis=1)
    decoded = np.zeros_like(rows)
    data = np.frombuffer(gap.join(blocks), np.uint8)
    decode_strips(data, spans, decoded, rows_per_strip=rows_per_strip, flip=flip)
    np.testing.assert_array_equal(decoded[::-1] if flip else decoded, rows)
    for wrong in (spans[:-1], spans + 1, spans - 1):
        with pytest.raises(ValueError, match=r"strips? in \d+ bytes for 37 rows"):
            decode_strips(data, wrong, decoded, rows_per_strip=rows_per_strip)


def test_a_string_that_is_used_as_it_is_made() -> None:
    codes = [CLEAR, 7, *range(258, 300), END]
    size = sum(range(1, 44))
    assert decode_lzw(packed(codes), size).tobytes() == bytes([7]) * size
    two = decode_lzw(packed([CLEAR, 1, 2, 258, 260, END]), 99).tobytes()
    assert two == bytes([1, 2, 1, 2, 1, 2, 1])


@pytest.mark.parametrize("count", [3800, 4500, 4862])
def test_encoders_that_go_on_when_the_table_is_full(count: int) -> None:
    data = np.random.default_rng(1).integers(0, 256, count, np.uint8).tobytes()
    strip = packed([CLEAR, *data, END])
    assert decode_lzw(strip, count).tobytes() == data == imagecodecs.lzw_decode(strip, out=count)


@pytest.mark.parametrize(
    ("strip", "words"),
    [
        (packed([65, 66, END]), "begins with a clear code"),
        (b"\x80", "begins with a clear code"),
        (packed([CLEAR, 65, 260, END]), "beyond its table"),
        (packed([CLEAR, 258, END]), "no byte behind a clear code"),
        (packed([CLEAR, 1, 2, CLEAR, 258, 3, END]), "no byte behind a clear code"),
        (packed([CLEAR, *[3] * 5000, 4, 5, END]), "without a clear code for 5120 strings"),
    ],
)
def test_what_is_damaged_is_told(strip: bytes, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        decode_lzw(strip, 6000)


def test_an_early_end_gives_what_there_is() -> None:
    assert decode_lzw(packed([CLEAR, 1, 2, END, 3]), 9).tobytes() == b"\1\2"
    assert decode_lzw(packed([CLEAR, CLEAR, CLEAR, 4, CLEAR]), 9).tobytes() == b"\4"
    assert decode_lzw(b"", 9).size == 0
    with pytest.raises(ValueError, match="strip 1 of 1: the strip ends before its rows are full"):
        decode_strips(np.frombuffer(packed([CLEAR, 1]), np.uint8), np.array([[0, 3]]), np.empty((1, 2), np.uint8),
                      rows_per_strip=1)  # fmt: skip


def test_no_end_code_is_needed() -> None:
    """The last code may end in the last byte at any bit, where the library takes that byte for 0."""
    random = np.random.default_rng(3)
    for size in range(400, 460):
        data = random.integers(0, 256, size, np.uint8).tobytes()
        assert decode_lzw(packed([CLEAR, *data]), size).tobytes() == data


def test_guards_stop_a_process() -> None:
    for place in ("at_end(8)[8:]", "at_start(8)[-1:]"):
        beyond = f"buffer.{place.split('[')[0]}.ctypes.data" + (" + 8" if "end" in place else " - 1")
        code = f"import ctypes; from tests.io.strips import *; buffer = GuardedBuffer(9); ctypes.string_at({beyond}, 1)"
        assert in_another_process("-c", code).returncode == -signal.SIGSEGV


def test_damaged_strips_equal_the_library_or_are_refused() -> None:
    ended = in_another_process("-m", "tests.io.strips", "600", "12")
    assert ended.returncode == 0, ended.stderr
    outcomes = json.loads(ended.stdout)
    assert outcomes["different"] == outcomes["short differs"] == outcomes["refused alone"] == 0
    assert outcomes["equal"] > 200
    assert outcomes["refused"] > 200


LAYOUTS: dict[str, dict[str, Any]] = {
    "rows 1": {"rowsperstrip": 1},
    "rows 16": {"rowsperstrip": 16},
    "whole": {"rowsperstrip": 10_000},
    "tiles": {"tile": (256, 256)},
    "predictor": {"rowsperstrip": 16, "predictor": True},
    "tiles with predictor": {"tile": (64, 32), "predictor": True},
    "BigTIFF": {"rowsperstrip": 7, "bigtiff": True},
}


@pytest.mark.parametrize("dtype", ["u1", "i1", "<u2", ">u2", ">i2", "<f4", ">f4"])
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("shape", [(2, 301, 277), (2, 1, 5)])
def test_layouts(tmp_path: Path, dtype: str, layout: str, shape: tuple[int, int, int]) -> None:
    frames = np.random.default_rng(8).poisson(1, shape).astype(np.dtype(dtype).newbyteorder("="))
    tifffile.imwrite(
        tmp_path / "a.tif", frames, compression="lzw", photometric="minisblack", byteorder=">" if ">" in dtype else "<",
        **LAYOUTS[layout],
    )  # fmt: skip
    for flip in (True, False):
        with open_movie(tmp_path / "a.tif", flip=flip) as movie:
            assert movie.dtype == frames.dtype
            expected = frames[:, ::-1] if flip else frames
            np.testing.assert_array_equal(movie.read(), expected)
            numbers = np.empty(shape[:0:-1], np.float64).T
            np.testing.assert_array_equal(movie.read_frame(1, numbers), expected[1])


def test_old_style_is_left_to_the_library(tmp_path: Path) -> None:
    pixels = np.random.default_rng(9).integers(0, 256, (20, 30), np.uint8)
    strip = packed_old_style(pixels.tobytes())
    assert decode_lzw(strip, 600).tobytes() == pixels.tobytes()
    (tmp_path / "a.tif").write_bytes(bare_tiff(strip, 30, 20, 8, (259, 3, 5)))
    with open_movie(tmp_path / "a.tif") as movie:
        np.testing.assert_array_equal(movie.read_frame(0), pixels[::-1])


def test_a_damaged_strip_is_told_with_its_place(tmp_path: Path) -> None:
    path = tmp_path / "k3_0012.tif"
    write_tiff(path, np.random.default_rng(2).poisson(1, (3, 40, 50)).astype(np.uint8), rows_per_strip=8)
    with tifffile.TiffFile(path) as file:
        offset, count = file.pages[1].dataoffsets[3], file.pages[1].databytecounts[3]
    damaged = bytearray(path.read_bytes())
    damaged[offset] = 0x40
    path.write_bytes(damaged)
    with open_movie(path) as movie:
        words = rf"k3_0012.tif: frame 2 of 3 cannot be decoded in the {count} bytes at {offset} \(no LZW"
        with pytest.raises(FormatError, match=words):
            movie.read()
        movie.read_frame(0)
