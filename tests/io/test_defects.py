"""Defect lists and maps, each in its own coordinates."""

from __future__ import annotations

import gzip
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile

from focusnb.errors import FormatError
from focusnb.io.defects import read_defects, read_gain_defects, write_defects_serialem
from focusnb.io.mrc import write_mrc

SERIALEM = """# made by hand
CameraSizeX 20
CameraSizeY 12
RotationAndFlip 0
WasScaled 0
K2Type 2
FalconType 0
NumToAvgSuperRes 0
UsableArea 0 0 0 0
PartialBadColumn 15 2 0 3
PartialBadRow 4 1 6 9
BadPixels 3 1 5 11
BadColumns 0 19
BadRows 7
"""


def points(mask: Any) -> set[tuple[int, int]]:
    return {(int(y), int(x)) for y, x in np.argwhere(mask)}


def serialem_truth() -> Any:
    """The list above drawn with the top row first, then turned to row 0 at the bottom."""
    drawn = np.zeros((12, 20), bool)
    drawn[0:4, 15:17] = True
    drawn[4, 6:10] = True
    drawn[1, 3] = drawn[11, 5] = True
    drawn[:, [0, 19]] = True
    drawn[7] = True
    return drawn[::-1]


def write(folder: Path, text: str) -> Path:
    (folder / "defects.txt").write_text(text)
    return folder / "defects.txt"


def test_serialem_list(tmp_path: Path) -> None:
    mask = read_defects(write(tmp_path, SERIALEM), frame_shape=(12, 20))
    assert mask.dtype == bool
    np.testing.assert_array_equal(mask, serialem_truth())
    assert mask[0, 5]
    assert not mask[11, 5]


def test_serialem_list_with_windows_line_ends_and_long_lines(tmp_path: Path) -> None:
    text = SERIALEM.replace("\n", "\r\n").replace("BadPixels 3 1 5 11", "BadPixels 3 1\r\nBadPixels 5 11")
    np.testing.assert_array_equal(read_defects(write(tmp_path, text), frame_shape=(12, 20)), serialem_truth())


def test_serialem_usable_area(tmp_path: Path) -> None:
    text = "CameraSizeX 6\nCameraSizeY 5\nUsableArea 1 2 3 4\n"
    truth = np.ones((5, 6), bool)
    truth[1:4, 2:5] = False
    with pytest.raises(FormatError, match="marks 21 of 30 pixels as bad"):
        read_defects(write(tmp_path, text), frame_shape=(5, 6))
    text = "CameraSizeX 60\nCameraSizeY 50\nUsableArea 1 2 0 57\n"
    truth = np.zeros((50, 60), bool)
    truth[:1] = truth[:, :2] = truth[:, 58:] = True
    np.testing.assert_array_equal(read_defects(write(tmp_path, text), frame_shape=(50, 60)), truth[::-1])


def test_physical_list_for_super_resolution_frames(tmp_path: Path) -> None:
    mask = read_defects(write(tmp_path, SERIALEM), frame_shape=(24, 40))
    np.testing.assert_array_equal(mask, np.kron(serialem_truth(), np.ones((2, 2), bool)))


def test_scaled_list_covers_two_by_two_pixels(tmp_path: Path) -> None:
    text = "CameraSizeX 8\nCameraSizeY 6\nWasScaled 1\nBadPixels 2 0\n"
    fine = read_defects(write(tmp_path, text), frame_shape=(6, 8))
    assert points(fine) == {(5, 2), (5, 3), (4, 2), (4, 3)}
    coarse = read_defects(write(tmp_path, text), frame_shape=(3, 4))
    assert points(coarse) == {(2, 1)}


@pytest.mark.parametrize(
    ("operation", "place"),
    [
        (0, (0, 1)),
        (1, (6, 0)),
        (2, (4, 6)),
        (3, (1, 4)),
        (4, (0, 6)),
        (5, (1, 0)),
        (6, (4, 1)),
        (7, (6, 4)),
        (8, (0, 6)),
    ],
)
def test_rotation_and_flip(tmp_path: Path, operation: int, place: tuple[int, int]) -> None:
    """Pixel x 1, y 0 from the top of a camera of 8×5, seen after a quarter turn counter-clockwise at x 0, y 6 ..."""
    shape = (8, 5) if operation % 2 else (5, 8)
    path = write(tmp_path, "CameraSizeX 8\nCameraSizeY 5\nRotationAndFlip 0\nBadPixels 1 0\n")
    mask = read_defects(path, frame_shape=shape, rotation_and_flip=operation)
    assert points(mask[::-1]) == {place}
    y, x = place
    path = write(
        tmp_path,
        f"CameraSizeX {shape[1]}\nCameraSizeY {shape[0]}\nRotationAndFlip {operation}\nBadPixels {x} {y}\n",
    )
    assert points(read_defects(path, frame_shape=shape)[::-1]) == {place}
    assert points(read_defects(path, frame_shape=(5, 8), rotation_and_flip=0)[::-1]) == {(0, 1)}


def test_written_lists_come_back(tmp_path: Path) -> None:
    path = tmp_path / "defects.txt"
    pixels = [(y, 3 * y % 17) for y in range(1, 12)]
    write_defects_serialem(path, frame_shape=(20, 30), pixels=pixels, columns=[29, 4], rows=[0])
    truth = np.zeros((20, 30), bool)
    for y, x in pixels:
        truth[y, x] = True
    truth[:, [29, 4]] = truth[0] = True
    np.testing.assert_array_equal(read_defects(path, frame_shape=(20, 30)), truth)
    lines = path.read_text().splitlines()
    assert lines[:4] == ["CameraSizeX 30", "CameraSizeY 20", "RotationAndFlip 0", "WasScaled 0"]
    assert lines[8].split()[:3] == ["BadPixels", "3", "18"]
    assert [len(line.split()) for line in lines[8:10]] == [21, 3]


def test_motioncor_rectangles_count_from_the_lower_left(tmp_path: Path) -> None:
    mask = read_defects(write(tmp_path, "# x y w h\n2 0 1 3\n\n5,4,2,1\n"), frame_shape=(6, 8))
    assert points(mask) == {(0, 2), (1, 2), (2, 2), (4, 5), (4, 6)}


def test_pixel_list(tmp_path: Path) -> None:
    assert points(read_defects(write(tmp_path, "7 0\n0\t5\n3.0 1.0\n"), frame_shape=(6, 8))) == {(0, 7), (5, 0), (1, 3)}


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("1 2\n8 0\n", "line 2 names x 8 to 8, y 0 to 0, outside of 8×6 pixels"),
        ("1 2 1 1\n6 0 3 1\n", "line 2 names x 6 to 8, y 0 to 0, outside of 8×6"),
        ("-1 2\n", "line 1 names x -1 to -1"),
        ("1 2 0 4\n", "line 1 is a rectangle of 0×4"),
        ("1 2\n1 2 3 4\n", "line 2 has 4 numbers, the first line has 2"),
        ("1 2 3\n", "line 1 has 3 numbers"),
        ("1 2\n1 2.5\n", "line 2 holds '2.5' where a whole number belongs"),
        ("1 2\n0 x\n", "line 2"),
        ("# nothing\n", "names no defects"),
        ("", r"is empty \(0 bytes\)"),
        ("BadPixels 1 2\n", "CameraSizeX 0 and CameraSizeY 0; both sizes"),
        ("CameraSizeX 8\nCameraSizeY 6\nBadPixels 1 2 3\n", "line 3 has 3 numbers after BadPixels"),
        ("CameraSizeX 8\nCameraSizeY 6\nBadPixels 8 2\n", "line 3 names x 8 to 8, y 2 to 2, outside of 8×6"),
        ("CameraSizeX 8\nCameraSizeY 6\nBadRows 6\n", "line 3 names x 0 to 7, y 6 to 6, outside of 8×6"),
        ("CameraSizeX 8\nCameraSizeY 6\nPartialBadColumn 1 1 4 6\n", "line 3 names x 1 to 1, y 4 to 6"),
        ("CameraSizeX 8\nCameraSizeY 6\nHello 1\n", "line 3, 'Hello', is not of SerialEM"),
        ("CameraSizeX 6\nCameraSizeY 8\n", "for 6×8 pixels, the frames have 8×6; it was written for RotationAndFlip 0"),
        ("CameraSizeX 9\nCameraSizeY 6\n", "for 9×6 pixels, the frames have 8×6"),
    ],
)
def test_wrong_lists_name_line_and_numbers(tmp_path: Path, text: str, words: str) -> None:
    with pytest.raises(FormatError, match=words):
        read_defects(write(tmp_path, text), frame_shape=(6, 8))


@pytest.mark.parametrize("values", [(0, 1), (0, 255), (128, 129)])
def test_maps(tmp_path: Path, values: tuple[int, int]) -> None:
    truth = np.zeros((6, 8), bool)
    truth[1, 7] = truth[5, 0] = True
    image = np.where(truth, values[1], values[0]).astype(np.uint8)
    write_mrc(tmp_path / "a.mrc", image, pixel_size=1.0, dtype="uint8")
    (tmp_path / "a.mrc.gz").write_bytes(gzip.compress((tmp_path / "a.mrc").read_bytes()))
    tifffile.imwrite(tmp_path / "a.tif", image[::-1])
    for name in ("a.mrc", "a.mrc.gz", "a.tif"):
        np.testing.assert_array_equal(read_defects(tmp_path / name, frame_shape=(6, 8)), truth, err_msg=name)
    np.testing.assert_array_equal(
        read_defects(tmp_path / "a.mrc", frame_shape=(12, 16)), truth.repeat(2, axis=0).repeat(2, axis=1)
    )
    with pytest.raises(FormatError, match="for 8×6 pixels, the frames have 9×6"):
        read_defects(tmp_path / "a.mrc", frame_shape=(6, 9))


def test_images_are_no_maps(tmp_path: Path, letter: Any) -> None:
    write_mrc(tmp_path / "a.mrc", letter, pixel_size=1.0)
    with pytest.raises(FormatError, match="more values than the two"):
        read_defects(tmp_path / "a.mrc", frame_shape=letter.shape)
    write_mrc(tmp_path / "a.mrc", np.ones((6, 8)), pixel_size=1.0)
    with pytest.raises(FormatError, match="marks 48 of 48 pixels"):
        read_defects(tmp_path / "a.mrc", frame_shape=(6, 8))


@pytest.mark.parametrize("name", ["27489513.mrc.gz", "28371422.mrc.gz"])
def test_real_maps_have_two_dead_columns(data: Path, name: str) -> None:
    mask = read_defects(data / "defects" / name, frame_shape=(4092, 5760))
    assert mask.sum() == 2 * 4092
    assert len(np.flatnonzero(mask.all(axis=0))) == 2


def write_falcon(folder: Path, xml: str, shape: tuple[int, int] = (6, 9)) -> Path:
    """A ``.gain`` file as a Falcon 4 writes it, with its defects in tag 65100."""
    content = xml.encode()
    tags = [(65100, 7, len(content), content, True)]
    tifffile.imwrite(folder / "falcon.gain", np.ones(shape, np.float32), extratags=tags, metadata=None)
    return folder / "falcon.gain"


FALCON = """<?xml version="1.0" encoding="utf - 8"?>
<defects><point>7,1</point><nonmaskingpoint> 3, 5 </nonmaskingpoint><area>0,0,1,2</area><col>4-5</col><col>8</col>
<row>3-3</row></defects>"""


def falcon_truth() -> Any:
    mask = np.zeros((6, 9), bool)
    mask[1, 7] = mask[5, 3] = True
    mask[0:3, 0:2] = True
    mask[:, [4, 5, 8]] = True
    mask[3] = True
    return mask


def test_defects_of_a_falcon_are_in_its_gain_file(tmp_path: Path) -> None:
    path = write_falcon(tmp_path, FALCON)
    mask = read_gain_defects(path, frame_shape=(6, 9))
    assert mask is not None
    assert mask.dtype == bool
    np.testing.assert_array_equal(mask, falcon_truth())
    fine = read_gain_defects(path, frame_shape=(12, 18))
    np.testing.assert_array_equal(fine, falcon_truth().repeat(2, axis=0).repeat(2, axis=1))
    coarse = read_gain_defects(
        write_falcon(tmp_path, "<defects><point>2,1</point></defects>", (6, 8)), frame_shape=(3, 4)
    )
    assert points(coarse) == {(0, 1)}
    with pytest.raises(FormatError, match="defects are for 9×6 pixels, the frames have 10×6"):
        read_gain_defects(write_falcon(tmp_path, FALCON), frame_shape=(6, 10))


def test_a_gain_without_a_list_has_no_defects(tmp_path: Path) -> None:
    for xml in ("<defects", "<other></other>", "nothing of the kind"):
        assert read_gain_defects(write_falcon(tmp_path, xml), frame_shape=(6, 9)) is None
    tifffile.imwrite(tmp_path / "plain.gain", np.ones((6, 9), np.float32))
    write_mrc(tmp_path / "a.gain", np.ones((6, 9)), pixel_size=1.0)
    for name in ("plain.gain", "a.gain"):
        assert read_gain_defects(tmp_path / name, frame_shape=(6, 9)) is None
    empty = read_gain_defects(write_falcon(tmp_path, "<defects></defects>"), frame_shape=(6, 9))
    assert empty is not None
    assert not empty.any()


@pytest.mark.parametrize(
    ("defect", "words"),
    [
        ("<point>9,0</point>", "falcon.gain: the defect <point>9,0</point> lies outside of 9×6 pixels"),
        ("<row>4-6</row>", "<row>4-6</row> lies outside of 9×6"),
        ("<col>5-4</col>", "<col>5-4</col> lies outside"),
        ("<area>1,2,3</area>", "<area>1,2,3</area> has 3 numbers; is the list damaged"),
        ("<point></point>", "has 0 numbers"),
    ],
)
def test_wrong_defects_of_a_falcon_are_named(tmp_path: Path, defect: str, words: str) -> None:
    path = write_falcon(tmp_path, f"<defects><point>1,1</point>{defect}</defects>")
    with pytest.raises(FormatError, match=words):
        read_gain_defects(path, frame_shape=(6, 9))
