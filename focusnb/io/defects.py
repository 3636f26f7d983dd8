"""Defect lists and maps of a camera, as a mask in the frame of SCIENCE §1 (row 0 at the bottom of the picture).

SerialEM's list counts rows from the top of the picture; its areas include both ends, a bad pixel of a list that was
scaled covers 2×2 pixels. MotionCor2's rectangles and plain pixel lists count from the bottom row, maps are images.
A Falcon's list is in its ``.gain`` file and counts as the rows of that file do.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from focusnb.errors import FormatError
from focusnb.io.eer import find_xml
from focusnb.io.files import ByteSource, read_text, write_text
from focusnb.io.formats import is_tiff
from focusnb.io.movies import open_movie
from focusnb.io.tiff import Directories

Mask = npt.NDArray[np.bool_]
_IMOD_VALUES = {128, 129, -128, -127}  # IMOD writes its maps of 0 and 1 with 128 added
_SINGLE = {"camerasizex", "camerasizey", "rotationandflip", "wasscaled", "k2type", "falcontype", "numtoavgsuperres"}
_LARGEST_CAMERA = 1 << 16
_BLOCKS = {1: 2, 2: 4}  # pixels covered by one bad pixel of a list that was scaled
_FALCON_TAG = 65100
_FALCON_COUNTS = {"point": (2,), "nonmaskingpoint": (2,), "area": (4,), "col": (1, 2), "row": (1, 2)}


@dataclass(frozen=True)
class _Area:
    """Pixels x0..x1, y0..y1, ends included, and the line of the list that names them."""

    line: int
    x0: int
    y0: int
    x1: int
    y1: int


@dataclass
class _SerialEM:
    """What SerialEM's list says, in its own coordinates: y from the top."""

    numbers: dict[str, int] = field(default_factory=dict)
    usable: tuple[int, ...] = (0, 0, 0, 0)
    pixels: list[tuple[int, int, int]] = field(default_factory=list)
    columns: list[tuple[int, int]] = field(default_factory=list)
    rows: list[tuple[int, int]] = field(default_factory=list)
    areas: list[_Area] = field(default_factory=list)


def read_defects(
    path: str | os.PathLike[str], *, frame_shape: tuple[int, int], rotation_and_flip: int | None = None
) -> Mask:
    """Read a camera's defects as a mask (y, x), True where a pixel is bad. The kind is told by the content:

    - SerialEM's list (``BadPixels``, ``BadColumns``, ``PartialBadRow`` ...), y from the top;
    - MotionCor2's rectangles ``x y w h`` and pixels ``x y``, one a line, counted from 0 at the lower left;
    - a map (MRC, TIFF, also packed as ``.gz``) of two values.

    frame_shape : (y, x) of the frames; a list or map for 2 times more or fewer pixels (super-resolution) is converted
    rotation_and_flip : SerialEM's number for what was applied to the frames (quarter turns counter-clockwise, plus 4
        for a mirror about the y axis before, 8 after); a list for another number is turned. Default: that of the list.

    Raises FormatError naming line and numbers where a place lies outside the frame or a line cannot be understood.
    """
    frame_shape = (int(frame_shape[0]), int(frame_shape[1]))
    if _is_map(path):
        mask = _to_frame(path, _read_map(path), frame_shape)
    else:
        lines = _content_lines(read_text(path))
        if not lines:
            raise FormatError(f"{path}: names no defects; remove it or give the camera's list")
        if any(re.match(r"[A-Za-z]", text) for _, text in lines):
            mask = _read_serialem(path, lines, frame_shape, rotation_and_flip)
        else:
            mask = _read_numbers(path, lines, frame_shape)
    bad = int(np.count_nonzero(mask))
    if 2 * bad > mask.size:
        raise FormatError(f"{path}: marks {bad} of {mask.size} pixels as bad; is it a list of defects of this camera?")
    return mask


def read_gain_defects(path: str | os.PathLike[str], *, frame_shape: tuple[int, int]) -> Mask | None:
    """Read the defects that a Falcon's ``.gain`` file lists in its TIFF tag 65100; None for a file without a list.

    The list is XML: ``<defects>`` of ``<point>x,y``, ``<nonmaskingpoint>x,y``, ``<area>x0,y0,x1,y1``, ``<col>a-b`` and
    ``<row>a-b``, ends included; row 0 is the first of the file.

    frame_shape : (y, x) of the mask; that of the file, or 2 times finer or coarser

    Raises FormatError naming the defect and the numbers where it lies outside or cannot be understood.
    """
    source = ByteSource(path)
    try:
        if not is_tiff(source.read(0, 4)):
            return None
        walker = Directories(source, frozenset({256, 257, _FALCON_TAG}))
        tags, _ = walker.read(walker.first, 0)
    finally:
        source.close()
    said = tags.get(_FALCON_TAG, ())
    content = said[0] if said and isinstance(said[0], bytes) else bytes(said)
    root = find_xml(content, "defects")
    if root is None:
        return None
    height, width = (int(tags.get(tag, (0,))[0]) for tag in (257, 256))
    mask = np.zeros((height, width), bool)
    for element in root.iter():
        if element.tag in _FALCON_COUNTS:
            _mark_falcon(path, mask, element.tag, element.text or "")
    return _to_frame(path, mask, (int(frame_shape[0]), int(frame_shape[1])))


def _mark_falcon(path: str | os.PathLike[str], mask: Mask, kind: str, text: str) -> None:
    numbers = [int(number) for number in re.findall(r"\d+", text)]
    if len(numbers) not in _FALCON_COUNTS[kind]:
        raise FormatError(
            f"{path}: the defect <{kind}>{text}</{kind}> has {len(numbers)} numbers; is the list damaged?"
        )
    height, width = mask.shape
    if kind in ("point", "nonmaskingpoint"):
        x0, y0, x1, y1 = numbers * 2
    elif kind == "area":
        x0, y0, x1, y1 = numbers
    elif kind == "col":
        x0, y0, x1, y1 = numbers[0], 0, numbers[-1], height - 1
    else:
        x0, y0, x1, y1 = 0, numbers[0], width - 1, numbers[-1]
    if not (x0 <= x1 < width and y0 <= y1 < height):
        raise FormatError(
            f"{path}: the defect <{kind}>{text}</{kind}> lies outside of {width}×{height} pixels; is it the gain of "
            "another camera?"
        )
    mask[y0 : y1 + 1, x0 : x1 + 1] = True


def write_defects_serialem(
    path: str | os.PathLike[str],
    *,
    frame_shape: tuple[int, int],
    pixels: Iterable[tuple[int, int]] = (),
    columns: Iterable[int] = (),
    rows: Iterable[int] = (),
) -> None:
    """Write defects as SerialEM does, atomically.

    frame_shape : (y, x) of the camera
    pixels : (y, x) of bad pixels, with rows counted from the bottom as everywhere in focusnb
    columns, rows : x of bad columns and y of bad rows
    """
    height, width = frame_shape
    lines = [
        f"CameraSizeX {width}", f"CameraSizeY {height}", "RotationAndFlip 0", "WasScaled 0", "K2Type 0", "FalconType 0",
        "NumToAvgSuperRes 0", "UsableArea 0 0 0 0",
    ]  # fmt: skip
    from_top = height - 1
    lines += _listed("BadPixels", [f"{x} {from_top - y}" for y, x in pixels], 10)
    lines += _listed("BadColumns", [str(x) for x in columns], 20)
    lines += _listed("BadRows", [str(from_top - y) for y in rows], 20)
    write_text(path, "\n".join(lines) + "\n")


def _listed(tag: str, items: list[str], count: int) -> list[str]:
    return [" ".join([tag, *items[start : start + count]]) for start in range(0, len(items), count)]


def _is_map(path: str | os.PathLike[str]) -> bool:
    source = ByteSource(path)
    try:
        head = source.read(0, 4096)
    finally:
        source.close()
    return head.startswith(b"\x1f\x8b") or b"\0" in head


def _read_map(path: str | os.PathLike[str]) -> Mask:
    with open_movie(path) as movie:
        if movie.shape[0] != 1:
            raise FormatError(f"{path}: holds {movie.shape[0]} frames, a defect map has 1")
        values = movie.read_frame(0)
    lowest, highest = values.min(), values.max()
    if not np.all((values == lowest) | (values == highest)):
        raise FormatError(
            f"{path}: has more values than the two ({lowest} and {highest}) of a defect map; is it an image?"
        )
    if {int(lowest), int(highest)} <= _IMOD_VALUES:
        mask: Mask = (values.astype(np.int32) & 1) == 1
    else:
        mask = np.asarray(values != 0)
    return mask


def _content_lines(text: str) -> list[tuple[int, str]]:
    """Lines with their numbers from 1, without comments and empty ones."""
    lines = ((number, line.split("#")[0].strip()) for number, line in enumerate(text.splitlines(), start=1))
    return [(number, line) for number, line in lines if line]


def _read_numbers(path: str | os.PathLike[str], lines: list[tuple[int, str]], frame_shape: tuple[int, int]) -> Mask:
    """Read ``x y`` or ``x y w h`` per line, from the lower left corner."""
    mask = np.zeros(frame_shape, bool)
    first = len(_numbers(path, *lines[0]))
    if first not in (2, 4):
        raise FormatError(f"{path}: line {lines[0][0]} has {first} numbers; a pixel is x y, a rectangle x y w h")
    for line, text in lines:
        numbers = _numbers(path, line, text)
        if len(numbers) != first:
            raise FormatError(f"{path}: line {line} has {len(numbers)} numbers, the first line has {first}")
        x, y, width, height = (*numbers, 1, 1)[:4]
        if width < 1 or height < 1:
            raise FormatError(f"{path}: line {line} is a rectangle of {width}×{height} pixels; both must be 1 or more")
        _mark(path, mask, _Area(line, x, y, x + width - 1, y + height - 1))
    return mask


def _read_serialem(
    path: str | os.PathLike[str],
    lines: list[tuple[int, str]],
    frame_shape: tuple[int, int],
    rotation_and_flip: int | None,
) -> Mask:
    said = _parse_serialem(path, lines)
    numbers = said.numbers
    width, height = numbers.get("camerasizex", 0), numbers.get("camerasizey", 0)
    if not (0 < width <= _LARGEST_CAMERA and 0 < height <= _LARGEST_CAMERA):
        raise FormatError(
            f"{path}: SerialEM's list says CameraSizeX {width} and CameraSizeY {height}; "
            "both sizes of the camera are needed"
        )
    mask = np.zeros((height, width), bool)
    block = _BLOCKS.get(numbers.get("wasscaled", 0), 1)
    for line, x, y in said.pixels:
        _mark(path, mask, _Area(line, x, y, x, y))
        mask[y : y + block, x : x + block] = True
    for line, x in said.columns:
        _mark(path, mask, _Area(line, x, 0, x, height - 1))
    for line, y in said.rows:
        _mark(path, mask, _Area(line, 0, y, width - 1, y))
    for area in said.areas:
        _mark(path, mask, area)
    top, left, bottom, right = said.usable
    mask[:top] = True
    mask[:, :left] = True
    if bottom > 0:
        mask[bottom + 1 :] = True
    if right > 0:
        mask[:, right + 1 :] = True
    listed = numbers.get("rotationandflip", 0)
    if rotation_and_flip is not None and rotation_and_flip != listed:
        mask = _turned(mask, listed, rotation_and_flip)
    hint = f"; it was written for RotationAndFlip {listed}" if rotation_and_flip is None else ""
    return _to_frame(path, mask, frame_shape, hint)[::-1].copy()


def _parse_serialem(path: str | os.PathLike[str], lines: list[tuple[int, str]]) -> _SerialEM:
    """Sort the lines by their tags; tags are matched by how they begin, upper and lower case alike."""
    said = _SerialEM()
    for line, text in lines:
        tag, _, rest = text.replace(",", " ").partition(" ")
        tag, values = tag.lower(), _numbers(path, line, rest)
        if tag in _SINGLE and len(values) == 1:
            said.numbers[tag] = values[0]
        elif tag.startswith("usablearea") and len(values) == 4:
            said.usable = tuple(values)
        elif tag.startswith("partialbadcol") and len(values) == 4:
            start, width, first, last = values
            said.areas.append(_Area(line, start, first, start + width - 1, last))
        elif tag.startswith("partialbadrow") and len(values) == 4:
            start, height, first, last = values
            said.areas.append(_Area(line, first, start, last, start + height - 1))
        elif tag.startswith("badpixel") and len(values) % 2 == 0:
            said.pixels += [(line, x, y) for x, y in zip(values[::2], values[1::2], strict=True)]
        elif tag.startswith("badcol"):
            said.columns += [(line, x) for x in values]
        elif tag.startswith("badrow"):
            said.rows += [(line, y) for y in values]
        elif tag.startswith(("bad", "partialbad", "usablearea")) or tag in _SINGLE:
            raise FormatError(
                f"{path}: line {line} has {len(values)} numbers after {text.split()[0]}; is it cut short?"
            )
        else:
            raise FormatError(f"{path}: line {line}, {text.split()[0]!r}, is not of SerialEM's defect list")
    return said


def _numbers(path: str | os.PathLike[str], line: int, text: str) -> list[int]:
    values = []
    for word in text.replace(",", " ").split():
        try:
            values.append(int(word) if not re.fullmatch(r"[+-]?\d+\.0*", word) else int(float(word)))
        except ValueError:
            raise FormatError(f"{path}: line {line} holds {word!r} where a whole number belongs") from None
    return values


def _mark(path: str | os.PathLike[str], mask: Mask, area: _Area) -> None:
    height, width = mask.shape
    if not (0 <= area.x0 <= area.x1 < width and 0 <= area.y0 <= area.y1 < height):
        raise FormatError(
            f"{path}: line {area.line} names x {area.x0} to {area.x1}, y {area.y0} to {area.y1}, outside of "
            f"{width}×{height} pixels; is it the list of another camera or recording mode?"
        )
    mask[area.y0 : area.y1 + 1, area.x0 : area.x1 + 1] = True


def _turned(mask: Mask, listed: int, wanted: int) -> Mask:
    """Undo one of SerialEM's rotations and flips and apply another; row 0 is the top here, as SerialEM shows images."""
    if listed & 8:
        mask = mask[:, ::-1]
    mask = np.rot90(mask, -(listed % 4))
    if (listed & 4) != (wanted & 4):
        mask = mask[:, ::-1]
    mask = np.rot90(mask, wanted % 4)
    return mask[:, ::-1] if wanted & 8 else mask


def _to_frame(path: str | os.PathLike[str], mask: Mask, frame_shape: tuple[int, int], hint: str = "") -> Mask:
    """Bring a mask to the size of the frames: the same, or 2 times finer or coarser."""
    height, width = mask.shape
    if mask.shape == frame_shape:
        return mask
    if (2 * height, 2 * width) == frame_shape:
        return mask.repeat(2, axis=0).repeat(2, axis=1)
    if (height, width) == (2 * frame_shape[0], 2 * frame_shape[1]):
        return np.asarray(mask.reshape(frame_shape[0], 2, frame_shape[1], 2).any(axis=(1, 3)))
    raise FormatError(
        f"{path}: defects are for {width}×{height} pixels, the frames have {frame_shape[1]}×{frame_shape[0]}{hint}; "
        "give the list of this camera"
    )
