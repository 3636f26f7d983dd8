"""TIFF movies: compressions, number types, layouts, and what is said of damaged files."""

from __future__ import annotations

import contextlib
import os
import re
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile

from focusnb.errors import FocusError, FormatError
from focusnb.io.movies import open_movie
from focusnb.io.tiff import write_tiff

COMPRESSIONS = ("none", "lzw", "deflate", "zstd", "packbits")


def counts(dtype: str, shape: tuple[int, ...] = (3, 37, 53)) -> Any:
    return np.random.default_rng(3).poisson(4, shape).astype(dtype)


@pytest.mark.parametrize("compression", COMPRESSIONS)
@pytest.mark.parametrize("dtype", ["u1", "i1", "u2", "i2", "f4", "f2"])
def test_frames_are_read_as_they_were_written(tmp_path: Path, compression: Any, dtype: str) -> None:
    frames = counts(dtype)
    path = tmp_path / "a.tif"
    write_tiff(path, frames, compression=compression, rows_per_strip=5, pixel_size=1.06)
    np.testing.assert_array_equal(tifffile.imread(path), frames[:, ::-1])
    with open_movie(path) as movie:
        assert movie.shape == (3, 37, 53)
        assert movie.dtype == np.dtype(dtype)
        assert movie.pixel_size == pytest.approx(1.06, rel=1e-5)
        assert movie.header_facts == {"frame_count": 3, "width": 53, "height": 37, "pixel_size": movie.pixel_size}
        np.testing.assert_array_equal(movie.read(threads=2), frames)
        np.testing.assert_array_equal(movie.read(1, 2), frames[1:2])
        out = np.empty((37, 53), np.float32)
        assert movie.read_frame(2, out) is out
        np.testing.assert_array_equal(out, frames[2])


@pytest.mark.parametrize("dtype", ["u1", "u2", "i2", "f4"])
@pytest.mark.parametrize("tile", [None, (16, 32)])
@pytest.mark.parametrize("predictor", [False, True])
@pytest.mark.parametrize(("order", "big"), [("<", False), (">", False), (">", True), ("<", True)])
def test_layouts(tmp_path: Path, dtype: str, tile: Any, predictor: bool, order: Any, big: bool) -> None:
    frames = counts(dtype, (2, 37, 53))
    path = tmp_path / "a.tif"
    tifffile.imwrite(
        path, frames, compression="zlib", tile=tile, predictor=predictor, byteorder=order, bigtiff=big,
        photometric="minisblack",
    )  # fmt: skip
    with open_movie(path) as movie:
        np.testing.assert_array_equal(movie.read(), frames[:, ::-1])
        assert movie.dtype.isnative


def bare_tiff(pixels: bytes, width: int, height: int, bits: int, *tags: tuple[int, int, int]) -> bytes:
    """A TIFF of one uncompressed strip with the fewest tags, as simple camera programs write it."""
    entries = [(256, 4, width), (257, 4, height), (258, 3, bits), (262, 3, 1), (273, 4, 8), (278, 4, height)]
    entries += [(279, 4, len(pixels)), *tags]
    body = b"".join(struct.pack("<HHII", tag, kind, 1, value) for tag, kind, value in sorted(entries))
    return b"II*\0" + struct.pack("<I", 8 + len(pixels)) + pixels + struct.pack("<H", len(entries)) + body + bytes(4)


def test_without_sample_format_numbers_are_unsigned(tmp_path: Path) -> None:
    (tmp_path / "a.tif").write_bytes(bare_tiff(bytes([200, 1, 2, 3, 4, 255]), 3, 2, 8))
    with open_movie(tmp_path / "a.tif") as movie:
        np.testing.assert_array_equal(movie.read_frame(0), np.array([[3, 4, 255], [200, 1, 2]], np.uint8))
        assert movie.dtype == np.uint8
        assert movie.pixel_size is None


def test_four_bits_with_an_odd_width(tmp_path: Path) -> None:
    (tmp_path / "a.tif").write_bytes(bare_tiff(bytes([0x12, 0x30, 0x4F, 0x60]), 3, 2, 4))
    with open_movie(tmp_path / "a.tif") as movie:
        np.testing.assert_array_equal(movie.read_frame(0), [[4, 15, 6], [1, 2, 3]])


def test_strips_far_from_each_other_in_any_order(tmp_path: Path) -> None:
    rows = np.arange(15, dtype=np.uint8).reshape(3, 5)
    for gap in (10, 200_000):
        pixels = b"".join(row.tobytes() + bytes(gap) for row in rows[::-1])
        places = [8 + 2 * (5 + gap), 8 + 5 + gap, 8]
        lists = struct.pack("<3I3I", *places, 5, 5, 5)
        where = 8 + len(pixels)
        tags = [(256, 4, 1, 5), (257, 4, 1, 3), (258, 3, 1, 8), (262, 3, 1, 1), (273, 4, 3, where), (278, 4, 1, 1)]
        tags += [(279, 4, 3, where + 12)]
        body = struct.pack("<H", len(tags)) + b"".join(struct.pack("<HHII", *tag) for tag in tags) + bytes(4)
        (tmp_path / "a.tif").write_bytes(b"II*\0" + struct.pack("<I", where + len(lists)) + pixels + lists + body)
        with open_movie(tmp_path / "a.tif") as movie:
            np.testing.assert_array_equal(movie.read_frame(0), rows[::-1])


def test_a_file_that_shrinks_while_it_is_open_is_told(tmp_path: Path) -> None:
    path = tmp_path / "a.tif"
    write_tiff(path, counts("u1"), compression="lzw")
    with open_movie(path) as movie:
        end = movie.read_frame(1).nbytes  # packed it is shorter than this, and frame 1 is before it
        for size, words in ((end, f"at byte {end}"), (100, r"before byte \d+")):
            os.truncate(path, size)
            with pytest.raises(FormatError, match=rf"a.tif: ends {words}, frame 2 at byte \d+; was it cut short"):
                movie.read_frame(1)


@pytest.mark.parametrize(
    ("unit", "resolution", "pixel_size"),
    [(3, 1e8 / 0.885, 0.885), (2, 2.54e8 / 1.35, 1.35), (2, 72, None), (1, 1e8, None), (3, 0, None)],
)
def test_pixel_size_is_read_where_it_can_be_one(
    tmp_path: Path, unit: int, resolution: float, pixel_size: float | None
) -> None:
    options = {"photometric": "minisblack"}
    tifffile.imwrite(
        tmp_path / "a.tif", counts("u1"), **options, resolution=(resolution, resolution), resolutionunit=unit
    )
    with open_movie(tmp_path / "a.tif") as movie:
        assert movie.pixel_size == (None if pixel_size is None else pytest.approx(pixel_size, rel=1e-4))


def test_serialem_title(tmp_path: Path) -> None:
    title = "SerialEM: frames saved, r/f 1 need 3, scaled by 2.00  "
    write_tiff(tmp_path / "a.tif", counts("u1"), description=title)
    with open_movie(tmp_path / "a.tif") as movie:
        facts = movie.header_facts
    assert (facts["rotation_and_flip"], facts["rotation_and_flip_needed"], facts["count_scale"]) == (1, 3, 2.0)


def test_cut_at_any_byte_is_said_with_numbers(tmp_path: Path) -> None:
    path = tmp_path / "k3_0012.tif"
    write_tiff(path, counts("u1"), rows_per_strip=8)
    whole = path.read_bytes()
    messages = set()
    for size in [*range(1, 12), *range(12, len(whole), 97), len(whole) - 1]:
        path.write_bytes(whole[:size])
        with pytest.raises(FormatError, match=r"k3_0012.tif") as caught, open_movie(path) as movie:
            movie.read()
        messages.add(str(caught.value))
        assert caught.value.__context__ is None or size < 12 or "decoded" in str(caught.value)
    assert any("file ends at byte" in text and "copied while being written" in text for text in messages)


def test_directories_before_the_frames_tell_how_many_there_are(tmp_path: Path) -> None:
    frames = counts("u1", (4, 30, 20))
    size, tags = 600, 8
    directory = 2 + 12 * tags + 4
    first = 8 + 4 * directory
    data = b"II*\0" + struct.pack("<I", 8)
    for index in range(4):
        offset = first + index * size
        entries = [(256, 4, 20), (257, 4, 30), (258, 3, 8), (259, 3, 1), (262, 3, 1), (273, 4, offset), (278, 4, 30)]
        entries += [(279, 4, size)]
        body = b"".join(struct.pack("<HHII", tag, kind, 1, value) for tag, kind, value in entries)
        data += struct.pack("<H", tags) + body + struct.pack("<I", 8 + (index + 1) * directory if index < 3 else 0)
    path = tmp_path / "a.tif"
    path.write_bytes(data + frames.tobytes())
    with open_movie(path) as movie:
        np.testing.assert_array_equal(movie.read(), frames[:, ::-1])
    path.write_bytes((data + frames.tobytes())[:-700])
    words = f"directory says 4 frames of 20×30 pixels of 8 bits, frame 3 ends at byte {first + 3 * size}, file ends at "
    with pytest.raises(FormatError, match=words + f"byte {first + 4 * size - 700}; was it copied"):
        open_movie(path)


def test_damaged_bytes_give_format_errors_only(tmp_path: Path) -> None:
    random = np.random.default_rng(11)
    path = tmp_path / "a.tif"
    refused = 0
    for compression in COMPRESSIONS:
        write_tiff(path, counts("u2", (2, 20, 31)), compression=compression, rows_per_strip=7)  # type: ignore[arg-type]
        whole = path.read_bytes()
        with tifffile.TiffFile(path) as file:
            directory = file.pages[0].offset
        for _ in range(120):
            damaged = bytearray(whole)
            place = directory if random.random() < 0.7 else 0
            for _ in range(random.integers(1, 4)):
                damaged[random.integers(place, min(len(whole), place + 250))] = random.integers(256)
            path.write_bytes(damaged)
            try:
                with open_movie(path) as movie:
                    movie.read_frame(0)
            except FormatError:
                refused += 1
    assert refused > 200


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"data": np.zeros((4, 5, 3), np.uint8), "photometric": "rgb"}, "3 samples per pixel"),
        ({"data": np.zeros((4, 5), np.complex64)}, "64 bits per pixel of sample format 6"),
        ({"data": np.zeros((64, 64), np.uint8), "compression": "jpeg"}, "method 7 .JPEG.; write LZW"),
    ],
)
def test_what_is_no_movie_is_said_by_name(tmp_path: Path, options: dict[str, Any], words: str) -> None:
    tifffile.imwrite(tmp_path / "a.tif", **options)
    with pytest.raises(FormatError, match=words):
        open_movie(tmp_path / "a.tif")


def test_frames_of_two_sizes_are_refused(tmp_path: Path) -> None:
    with tifffile.TiffWriter(tmp_path / "a.tif") as file:
        file.write(np.zeros((4, 5), np.uint8))
        file.write(np.zeros((4, 6), np.uint8))
    with pytest.raises(FormatError, match="frame 2 is 6×4 pixels of 8 bits, the first 5×4"):
        open_movie(tmp_path / "a.tif")


def test_a_loop_of_directories_ends(tmp_path: Path) -> None:
    write_tiff(tmp_path / "a.tif", counts("u1", (1, 4, 5)))
    data = bytearray((tmp_path / "a.tif").read_bytes())
    directory = struct.unpack_from("<I", data, 4)[0]
    entries = struct.unpack_from("<H", data, directory)[0]
    struct.pack_into("<I", data, directory + 2 + 12 * entries, directory)
    (tmp_path / "a.tif").write_bytes(data)
    with pytest.raises(FormatError, match="leads back to byte"):
        open_movie(tmp_path / "a.tif")


def test_a_movie_without_frames_is_not_written(tmp_path: Path) -> None:
    with pytest.raises(FocusError, match="0 frames"):
        write_tiff(tmp_path / "a.tif", [])
    assert not list(tmp_path.iterdir())


def test_real_packbits_image(data: Path) -> None:
    path = data / "micrographs" / "KLH.tif"
    with open_movie(path) as movie:
        assert movie.shape == (1, 844, 760)
        assert movie.dtype == np.uint8
        assert movie.pixel_size is None
        np.testing.assert_array_equal(movie.read_frame(0), tifffile.imread(path)[::-1])


def test_an_entry_without_values_counts_as_missing(tmp_path: Path) -> None:
    path = tmp_path / "a.tif"
    write_tiff(path, np.ones((2, 8, 12), np.uint8), pixel_size=1.25)
    content = bytearray(path.read_bytes())
    entry = content.index(struct.pack("<HHI", 296, 3, 1))
    content[entry + 4] = 0
    path.write_bytes(content)
    with open_movie(path) as movie:
        assert movie.shape == (2, 8, 12)


def test_an_entry_of_another_kind_counts_as_missing(tmp_path: Path) -> None:
    path = tmp_path / "a.tif"
    write_tiff(path, np.ones((2, 8, 12), np.uint8), pixel_size=1.25)
    content = bytearray(path.read_bytes())
    for entry in (found.start() for found in re.finditer(struct.pack("<H", 279) + b"[\3\4]\0\1\0\0\0", content)):
        content[entry + 2] = 2  # sizes of strips as text
    path.write_bytes(content)
    with contextlib.suppress(FormatError), open_movie(path) as movie:
        assert movie.shape == (2, 8, 12)
