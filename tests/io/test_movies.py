"""Formats told by content, and one orientation through every format (SCIENCE §1)."""

from __future__ import annotations

import gzip
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pandas
import pytest
import tifffile
from PIL import Image as Picture

from focusnb.errors import FormatError
from focusnb.io import star
from focusnb.io.files import ByteSource
from focusnb.io.gain import read_gain
from focusnb.io.images import read_image, read_png, write_png
from focusnb.io.movies import Movie, open_movie
from focusnb.io.mrc import write_mrc
from focusnb.io.tiff import TiffFrames, write_tiff
from tests.io.conftest import make_dm


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("k3_7.tif", b"", r"k3_7.tif: is empty \(0 bytes\)"),
        (
            "k3_7.tif",
            b"gain reference of Monday\n" * 3,
            "is text of 75 bytes, not TIFF; copy the recorded file again",
        ),
        ("k3_7.mrc", b"# a list\n1 2 3\n", "k3_7.mrc: is text of 15 bytes, not MRC"),
        ("k3_7.tif", b'<?xml version="1.0"?><a></a>' * 50, "k3_7.tif: is XML of 1400 bytes, not TIFF"),
        ("k3_7.dat", b"words and words", "is text of 15 bytes, not an image or movie"),
        ("k3_7.tif", bytes(5000), "begins with 4096 zero bytes, not TIFF; was it copied while being written"),
        ("k3_7.mrc", b"\x89PNG\r\n\x1a\n" + bytes(99), "is PNG, not MRC"),
        ("k3_7.tif", b"PK\x03\x04" + bytes(99), "is zip, not TIFF; unpack it first"),
        ("k3_7.tif", gzip.compress(b"II*\0", mtime=0), "is gzip, not TIFF; unpack it first"),
        ("k3_7.bin", bytes(range(128, 256)) * 20, r"is neither TIFF, MRC nor Digital Micrograph \(2560 bytes"),
        ("k3_7.tif", b"II*\0", "4 bytes, too short for its header"),
        ("k3_7.tif", b"II*\0" + bytes(40), "first directory was never written"),
        ("k3_7.mrc.gz", gzip.compress(bytes(100), mtime=0)[:-9], "cannot be unpacked as gzip"),
    ],
)
def test_what_is_no_movie_is_said(tmp_path: Path, name: str, content: bytes, words: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(FormatError, match=words):
        open_movie(tmp_path / name)


def test_missing_files_and_folders_are_said(tmp_path: Path) -> None:
    with pytest.raises(FormatError, match=r"a\.tif: there is no such file"):
        open_movie(tmp_path / "a.tif")
    with pytest.raises(FormatError, match="is a folder, not a file"):
        open_movie(tmp_path).read()


def test_content_wins_over_the_suffix(tmp_path: Path, letter: Any) -> None:
    write_mrc(tmp_path / "a.tif", letter, pixel_size=1.5, dtype="uint8")
    write_tiff(tmp_path / "a.mrc", [letter])
    for name in ("a.tif", "a.mrc"):
        with open_movie(tmp_path / name) as movie:
            np.testing.assert_array_equal(movie.read_frame(0), letter)


def test_every_format_shows_the_letter_the_same_way_up(tmp_path: Path, letter: Any) -> None:
    """The picture as another program draws it (row 0 on top) is what a TIFF, a PNG and a DM file hold."""
    drawn = letter[::-1]
    tifffile.imwrite(tmp_path / "movie.tif", np.stack([drawn, drawn + 1]), photometric="minisblack")
    tifffile.imwrite(tmp_path / "gain.tif", drawn.astype(np.float32))
    tifffile.imwrite(tmp_path / "eer.gain", letter.astype(np.float32))
    Picture.fromarray(np.ascontiguousarray(drawn)).save(tmp_path / "picture.png")
    for version in (3, 4):
        for little in (True, False):
            (tmp_path / f"{version}{little}.dm").write_bytes(make_dm(drawn, version=version, little=little))
    write_mrc(tmp_path / "movie.mrc", np.stack([letter, letter + 1]), pixel_size=1.2, dtype="uint8")
    write_mrc(tmp_path / "image.mrc", letter, pixel_size=1.2)
    for name in ("movie.tif", "movie.mrc"):
        with open_movie(tmp_path / name) as movie:
            np.testing.assert_array_equal(movie.read(), np.stack([letter, letter + 1]))
    for name in ("gain.tif", "eer.gain", "image.mrc"):
        np.testing.assert_array_equal(read_gain(tmp_path / name, frame_shape=letter.shape), letter, err_msg=name)
    for name in ("image.mrc", "gain.tif", "3True.dm", "3False.dm", "4True.dm", "4False.dm"):
        np.testing.assert_array_equal(read_image(tmp_path / name).data, letter, err_msg=name)
    np.testing.assert_array_equal(read_png(tmp_path / "picture.png"), letter)


def test_what_is_written_is_drawn_with_y_up(tmp_path: Path, letter: Any) -> None:
    write_png(tmp_path / "a.png", letter)
    write_tiff(tmp_path / "a.tif", [letter])
    np.testing.assert_array_equal(np.asarray(Picture.open(tmp_path / "a.png")), letter[::-1])
    np.testing.assert_array_equal(tifffile.imread(tmp_path / "a.tif"), letter[::-1])


def test_a_star_coordinate_points_at_the_same_pixel_in_every_format(tmp_path: Path, letter: Any) -> None:
    table = pandas.DataFrame({"rlnCoordinateX": [6.0, 0.0], "rlnCoordinateY": [0.0, 10.0], "value": [22, 33]})
    star.write(tmp_path / "picks.star", {"": table})
    picks = star.read(tmp_path / "picks.star")[""]
    write_tiff(tmp_path / "a.tif", [letter])
    write_mrc(tmp_path / "a.mrc", letter, pixel_size=1.0)
    for name in ("a.tif", "a.mrc"):
        image = read_image(tmp_path / name).data
        for x, y, value in picks.to_numpy():
            assert image[int(y), int(x)] == value


def test_frames_and_ranges_that_are_not_there(tmp_path: Path, letter: Any) -> None:
    write_tiff(tmp_path / "a.tif", [letter] * 3)
    with open_movie(tmp_path / "a.tif") as movie:
        assert len(movie) == 3
        assert movie.read(2, 2).shape == (0, 11, 7)
        with pytest.raises(IndexError, match="3 frames, there is no frame -1"):
            movie.read_frame(-1)
        with pytest.raises(IndexError, match="1 to 4 was asked"):
            movie.read(1, 4)
        with pytest.raises(ValueError, match=r"frames are \(11, 7\), out is \(7, 11\)"):
            movie.read_frame(0, np.empty((7, 11)))
    with pytest.raises(ValueError, match="is closed"):
        movie.read_frame(0)


class WatchedFrames(TiffFrames):
    """A frame is decoded when the next one has begun to be read, where patient."""

    def __init__(self, path: Path, *, patient: bool = True) -> None:
        super().__init__(ByteSource(path))
        self.patient = patient
        self.begun = [threading.Event() for _ in self.pages]

    def fetch(self, index: int) -> Any:
        self.begun[index].set()
        return super().fetch(index)

    def unpack(self, index: int, packed: Any, out: Any = None) -> Any:
        if self.patient and index + 1 < len(self.begun):
            assert self.begun[index + 1].wait(60), f"frame {index + 1} is not read while frame {index} is decoded"
        return super().unpack(index, packed, out)


@pytest.fixture
def frames(tmp_path: Path) -> Any:
    frames = np.random.default_rng(4).poisson(1, (9, 30, 20)).astype(np.uint8)
    write_tiff(tmp_path / "a.tif", frames, rows_per_strip=7)
    return frames


def reading_threads() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name.startswith("frames ")]


@pytest.mark.parametrize("threads", [1, 2, 3])
def test_frames_are_read_while_others_are_decoded(tmp_path: Path, frames: Any, threads: int) -> None:
    with Movie(tmp_path / "a.tif", WatchedFrames(tmp_path / "a.tif")) as movie:
        np.testing.assert_array_equal(movie.read(threads=threads), frames)
    with Movie(tmp_path / "a.tif", WatchedFrames(tmp_path / "a.tif")) as movie:
        streamed = list(movie.stream(2, threads=threads))
    assert [index for index, _ in streamed] == [2, 3, 4, 5, 6, 7, 8]
    np.testing.assert_array_equal([frame for _, frame in streamed], frames[2:])
    assert not reading_threads()


@pytest.mark.parametrize("threads", [1, 2])
def test_a_stream_stays_a_few_frames_ahead_and_ends_when_it_is_closed(
    tmp_path: Path, frames: Any, threads: int
) -> None:
    watched = WatchedFrames(tmp_path / "a.tif", patient=False)
    with Movie(tmp_path / "a.tif", watched) as movie:
        stream = movie.stream(threads=threads)
        next(stream)
        assert watched.begun[threads + 1].wait(60)
        assert reading_threads()
        stream.close()
        assert not reading_threads()
        assert sum(event.is_set() for event in watched.begun) == threads + 2
        with pytest.raises(IndexError, match="9 frames, 3 to 10 was asked for"):
            movie.stream(3, 10)


@pytest.mark.parametrize("threads", [1, 2])
def test_a_stream_tells_of_a_damaged_frame_when_it_comes_to_it(tmp_path: Path, frames: Any, threads: int) -> None:
    path = tmp_path / "a.tif"
    with tifffile.TiffFile(path) as file:
        offset = file.pages[3].dataoffsets[0]
    damaged = bytearray(path.read_bytes())
    damaged[offset : offset + 2] = b"\x40\x40"
    path.write_bytes(damaged)
    with open_movie(path) as movie:
        stream = movie.stream(threads=threads)
        for index, frame in (next(stream) for _ in range(3)):
            np.testing.assert_array_equal(frame, frames[index])
        with pytest.raises(FormatError, match="frame 4 of 9 cannot be decoded"):
            next(stream)
    assert not reading_threads()


def test_every_format_can_be_streamed(tmp_path: Path, frames: Any) -> None:
    write_mrc(tmp_path / "a.mrc", frames, pixel_size=1.0, dtype="uint8")
    for threads in (1, 2):
        with open_movie(tmp_path / "a.mrc") as movie:
            np.testing.assert_array_equal([frame for _, frame in movie.stream(threads=threads)], frames)


def test_a_packed_mrc_is_unpacked(tmp_path: Path, letter: Any) -> None:
    write_mrc(tmp_path / "a.mrc", letter, pixel_size=2.5)
    (tmp_path / "a.mrc.gz").write_bytes(gzip.compress((tmp_path / "a.mrc").read_bytes()))
    with open_movie(tmp_path / "a.mrc.gz") as movie:
        np.testing.assert_array_equal(movie.read_frame(0), letter)


@pytest.mark.parametrize("version", [3, 4])
def test_dm_pixel_size_and_thumbnail(tmp_path: Path, letter: Any, version: int) -> None:
    (tmp_path / "a.dm4").write_bytes(make_dm(letter, version=version, scale=0.12))
    image = read_image(tmp_path / "a.dm4")
    assert image.pixel_size == pytest.approx(1.2)
    assert image.data.shape == letter.shape


@pytest.mark.parametrize("version", [3, 4])
def test_dm_cut_or_damaged_gives_format_errors_only(tmp_path: Path, letter: Any, version: int) -> None:
    whole = make_dm(letter, version=version)
    path = tmp_path / "a.dm4"
    for size in range(1, len(whole) - 1, 41):
        path.write_bytes(whole[:size])
        with pytest.raises(FormatError):
            read_image(path)
    random = np.random.default_rng(2)
    refused = 0
    for _ in range(300):
        damaged = bytearray(whole)
        damaged[random.integers(4, len(whole))] = random.integers(256)
        path.write_bytes(damaged)
        try:
            read_image(path)
        except FormatError:
            refused += 1
    assert 0 < refused < 300


def test_real_dm_ramps(data: Path) -> None:
    folder = data / "format_samples" / "dm"
    for suffix in ("dm3", "dm4"):
        with open_movie(folder / f"dmTest_3D_int16_64,65,66.{suffix}") as movie:
            assert movie.shape == (66, 65, 64)
            assert movie.dtype == np.int16
            np.testing.assert_array_equal(movie.read_frame(5), np.tile(np.arange(64), (65, 1)))
    with open_movie(folder / "dmTest_float32_nonSquare_diffPixelSize.dm4") as movie:
        assert movie.shape == (1, 64, 128)
        assert movie.pixel_size == pytest.approx(10.0)
        np.testing.assert_array_equal(movie.read_frame(0)[0], np.arange(128))
    for number, dtype in ((1, np.int16), (2, np.float32)):
        with open_movie(folder / f"rsciio_2D_test-{number}.dm4") as movie:
            assert movie.dtype == dtype
            np.testing.assert_array_equal(movie.read_frame(0), [[3, 4], [1, 2]])
    for number in (10, 23):
        with pytest.raises(FormatError, match="holds colours, not an image"):
            open_movie(folder / f"rsciio_2D_test-{number}.dm4")
