"""Digital Micrograph files of version 3 and 4: the image data and their pixel size.

A file is a tree of tags: groups hold tags, data tags hold numbers, structures or arrays. Only the branches that
describe images are decoded, and the images themselves stay in the file until they are read. Digital Micrograph stores
the top row first: frames are flipped vertically on reading, like TIFF, so that row 0 is the bottom of the picture.
"""

from __future__ import annotations

import math
import struct
from dataclasses import dataclass
from typing import Any

import numpy as np

from focusnb.errors import FormatError
from focusnb.io.files import ByteSource
from focusnb.io.formats import Array, Facts

_SCALARS = {2: "h", 3: "i", 4: "H", 5: "I", 6: "f", 7: "d", 8: "?", 9: "b", 10: "B", 11: "q", 12: "Q"}
_STRUCTURE, _STRING, _ARRAY = 15, 18, 20
_GROUP, _DATA = 20, 21
_IMAGES = {1: "i2", 2: "f4", 6: "u1", 7: "i4", 9: "i1", 10: "u2", 11: "u4", 12: "f8", 14: "u1", 39: "i8", 40: "u8"}
_NOT_IMAGES = {3: "complex numbers", 5: "packed complex numbers", 8: "colours", 13: "complex numbers", 23: "colours"}
_ANGSTROMS = {"nm": 10.0, "µm": 1e4, "μm": 1e4, "um": 1e4, "Å": 1.0, "A": 1.0, "pm": 0.01}
_BRANCHES = ("ImageList", "Thumbnails")
_DEEPEST = 64
_SHORT = 4096  # longer arrays are images and are not decoded


@dataclass(frozen=True)
class _Stored:
    """An array left in the file."""

    offset: int
    size: int


class DmFrames:
    """The frames of the main image of a DM3 or DM4 file; the thumbnail is passed over."""

    def __init__(self, source: ByteSource) -> None:
        """Read the tags; raises FormatError where the tree is damaged or the file ends before the image does."""
        self._source = source
        reader = _Reader(source)
        try:
            tags = reader.read()
        except (struct.error, OverflowError) as error:
            raise FormatError(
                f"{source.path}: the tags of this DM{reader.version} file are damaged ({error})"
            ) from error
        image = _main_image(source, tags)
        kind = image.get("DataType")
        if kind not in _IMAGES:
            raise FormatError(
                f"{source.path}: DM data type {kind} holds {_NOT_IMAGES.get(kind or 0, 'an unknown type')}, "
                "not an image; export it as 32-bit real"
            )
        sizes = [size for size in _children(image.get("Dimensions")) if isinstance(size, int)]
        if not 2 <= len(sizes) <= 3 or min(sizes) < 1 or max(sizes) > 1 << 17:
            raise FormatError(f"{source.path}: DM image has dimensions {sizes}; an image has 2, a movie 3")
        width, height, count = (*sizes, 1)[:3]
        self._stored = np.dtype(reader.order + _IMAGES[kind])
        self._frame_bytes = width * height * self._stored.itemsize
        data = image["Data"]
        if data.size != count * self._frame_bytes:
            raise FormatError(
                f"{source.path}: DM image of {sizes} {self._stored.name} needs {count * self._frame_bytes} bytes, "
                f"its data are {data.size}"
            )
        if data.offset + data.size > source.size:
            raise FormatError(
                f"{source.path}: DM image ends at byte {data.offset + data.size}, file ends at byte {source.size}; "
                "was it copied while being written?"
            )
        self._offset = data.offset
        self.shape = (count, height, width)
        self.dtype = self._stored.newbyteorder("=")
        self.pixel_size = _pixel_size(image)
        self.facts: Facts = {}

    def read_frame(self, index: int, out: Array | None = None) -> Array:
        """Read a frame as (y, x), flipped so that row 0 is the bottom of the picture."""
        block = self._source.read(self._offset + index * self._frame_bytes, self._frame_bytes)
        if len(block) < self._frame_bytes:
            raise FormatError(
                f"{self._source.path}: frame {index + 1} has {self._frame_bytes} bytes, file holds {len(block)} of them"
            )
        frame = np.empty(self.shape[1:], self.dtype) if out is None else out
        frame[::-1] = np.frombuffer(block, self._stored).reshape(self.shape[1:])
        return frame

    def close(self) -> None:
        """Close the file."""
        self._source.close()


class _Reader:
    """The tags of a file; sizes and counts have 4 bytes in version 3, 8 in version 4, the highest first."""

    def __init__(self, source: ByteSource) -> None:
        self._source = source
        head = source.read(0, 16)
        self.version = struct.unpack_from(">i", head)[0]
        self._count = ">q" if self.version == 4 else ">i"
        self._count_size = struct.calcsize(self._count)
        self._place = 4 + self._count_size
        self.order = "<" if struct.unpack(">i", self._take(4))[0] == 1 else ">"

    def read(self) -> dict[str, Any]:
        """Return the branches that describe images: groups as dictionaries, unnamed members under their number."""
        return self._group(0, ())

    def _take(self, count: int) -> bytes:
        block = self._source.read(self._place, count)
        if len(block) < count:
            raise FormatError(
                f"{self._source.path}: DM tags go on at byte {self._place + count}, file ends at byte "
                f"{self._source.size}; was it copied while being written?"
            )
        self._place += count
        return block

    def _number(self) -> int:
        value = int(struct.unpack(self._count, self._take(self._count_size))[0])
        if value < 0:
            raise FormatError(
                f"{self._source.path}: DM tags hold the count {value} at byte {self._place}; the file is damaged"
            )
        return value

    def _skip(self, count: int) -> None:
        if self._place + count > self._source.size:
            self._take(count)
        self._place += count

    def _group(self, depth: int, path: tuple[str, ...]) -> dict[str, Any]:
        if depth > _DEEPEST:
            raise FormatError(f"{self._source.path}: DM tags are nested more than {_DEEPEST} deep; the file is damaged")
        self._take(2)  # sorted, open
        members: dict[str, Any] = {}
        for index in range(self._number()):
            kind, length = struct.unpack(">BH", self._take(3))
            name = self._take(length).decode("latin-1") or str(index)
            if kind not in (_GROUP, _DATA):
                raise FormatError(
                    f"{self._source.path}: DM tag of kind {kind} at byte {self._place}; the file is damaged"
                )
            size = self._number() if self.version == 4 else 0
            wanted = depth > 0 or name in _BRANCHES
            if self.version == 4 and not wanted:
                self._skip(size)
            elif kind == _GROUP:
                members[name] = self._group(depth + 1, (*path, name))
            else:
                members[name] = self._data()
        return members

    def _data(self) -> Any:
        """Read a data tag: a number, a short string, or where an array lies; structures are passed over."""
        if self._take(4) != b"%%%%":
            raise FormatError(
                f"{self._source.path}: DM data tag without its mark at byte {self._place}; the file is damaged"
            )
        info = [self._number() for _ in range(min(self._number(), _SHORT))]
        if not info:
            return None
        if len(info) == 1 and info[0] in _SCALARS:
            return self._scalar(info[0])
        if info[0] == _STRING and len(info) == 2:
            return self._take(2 * info[1]).decode("utf-16-le" if self.order == "<" else "utf-16-be", "replace")
        if info[0] == _STRUCTURE:
            self._skip(self._size_of(info))
            return None
        if info[0] == _ARRAY and len(info) >= 3:
            size = self._size_of(info[1:-1]) * info[-1]
            if info[1] == 4 and size < _SHORT:
                return self._take(size).decode("utf-16-le" if self.order == "<" else "utf-16-be", "replace")
            stored = _Stored(self._place, size)
            self._skip(size)
            return stored
        raise FormatError(f"{self._source.path}: DM data of type {info[:4]} at byte {self._place}; the file is damaged")

    def _scalar(self, kind: int) -> int | float:
        code = self.order + _SCALARS[kind]
        value: int | float = struct.unpack(code, self._take(struct.calcsize(code)))[0]
        return value

    def _size_of(self, info: list[int]) -> int:
        if len(info) == 1 and info[0] in _SCALARS:
            return struct.calcsize("=" + _SCALARS[info[0]])
        if info[0] == _STRUCTURE and all(kind in _SCALARS for kind in info[4::2]):
            return sum(struct.calcsize("=" + _SCALARS[kind]) for kind in info[4::2])
        raise FormatError(f"{self._source.path}: DM data of type {info[:4]} at byte {self._place}; the file is damaged")


def _main_image(source: ByteSource, tags: dict[str, Any]) -> dict[str, Any]:
    """Choose the image that is not the thumbnail of another; the largest where there are several."""
    thumbnails = {
        index
        for item in _children(tags.get("Thumbnails"))
        if isinstance(item, dict) and (index := item.get("ImageIndex")) is not None
    }
    images = [
        (index, item["ImageData"])
        for index, item in enumerate(_children(tags.get("ImageList")))
        if isinstance(item, dict) and isinstance(item.get("ImageData"), dict)
    ]
    full = [image for _, image in images if isinstance(image.get("Data"), _Stored)]
    kept = [
        image for index, image in images if index not in thumbnails and isinstance(image.get("Data"), _Stored)
    ] or full
    if not kept:
        raise FormatError(
            f"{source.path}: Digital Micrograph file without an image ({len(images)} entries in its list)"
        )
    return max(kept, key=lambda image: int(image["Data"].size))


def _children(group: Any) -> list[Any]:
    return list(group.values()) if isinstance(group, dict) else []


def _pixel_size(image: dict[str, Any]) -> float | None:
    """Å/px of the first axis, None where it is calibrated in something else than a length."""
    calibrations = image.get("Calibrations")
    axes = _children(calibrations.get("Dimension")) if isinstance(calibrations, dict) else []
    if not axes or not isinstance(axes[0], dict):
        return None
    scale, unit = axes[0].get("Scale"), axes[0].get("Units")
    factor = _ANGSTROMS.get(unit.strip("\0 ")) if isinstance(unit, str) else None
    if factor is None or not isinstance(scale, int | float) or not math.isfinite(scale) or scale <= 0:
        return None
    return float(f"{scale * factor:.7g}")
