"""TIFF and BigTIFF: directories walked by hand, frames decoded one by one by any number of threads, movies written.

The directories are read here so that a file cut short is told with its numbers (specification: Adobe TIFF 6.0, 1992).
TIFF stores the top row first: frames are flipped vertically on reading and on writing, except the ``.gain`` files
beside EER, which are used in file order.
"""

from __future__ import annotations

import math
import os
import struct
from collections.abc import Callable, Iterable, Set
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Literal

import imagecodecs
import numpy as np
import numpy.typing as npt
import tifffile

from focusnb.errors import FocusError, FormatError
from focusnb.io.files import ByteSource, atomic_path
from focusnb.io.formats import Array, Facts, facts_from_title
from focusnb.io.lzw import decode_lzw, decode_strips

_EER = {65000, 65001, 65002}
_DECODERS: dict[int, Callable[..., Any]] = {
    5: decode_lzw,
    8: imagecodecs.zlib_decode,
    32946: imagecodecs.zlib_decode,
    32773: imagecodecs.packbits_decode,
    34926: imagecodecs.zstd_decode,
    50000: imagecodecs.zstd_decode,
}
_NAMES = {6: "old JPEG", 7: "JPEG", 34712: "JPEG 2000", 34887: "LERC", 34925: "LZMA", 50002: "JPEG XL"}
_KINDS = {(1, 8): "u1", (1, 16): "u2", (1, 32): "u4", (2, 8): "i1", (2, 16): "i2", (2, 32): "i4",
          (3, 16): "f2", (3, 32): "f4", (3, 64): "f8", (1, 4): "u1"}  # fmt: skip
_VALUE_CODES = {1: "B", 2: "s", 3: "H", 4: "I", 5: "II", 6: "b", 7: "B", 8: "h", 9: "i", 11: "f", 12: "d", 13: "I",
                16: "Q", 17: "q", 18: "Q"}  # fmt: skip
_KEPT = frozenset({254, 256, 257, 258, 259, 266, 270, 273, 277, 278, 279, 282, 283, 296, 317, 322, 323, 324, 325, 339})
_RESOLUTIONS = (282, 283)
_NUMBERS = frozenset(kind for kind, code in _VALUE_CODES.items() if code not in ("s", "f", "d"))
_LARGEST_SIDE = 1 << 17
_LARGEST_FRAME = 1 << 31  # pixels
_GAPS = 1 << 16  # bytes between strips that are read with them rather than left out
_CURE = "was it copied while being written?"


@dataclass(frozen=True)
class Page:
    """One directory: size and type of a frame and where its strips or tiles lie."""

    shape: tuple[int, int]
    stored: np.dtype[np.generic]
    bits: int
    compression: int
    predictor: int
    chunk: tuple[int, int]
    offsets: tuple[int, ...]
    counts: tuple[int, ...]
    tags: dict[int, tuple[Any, ...]]


@dataclass(frozen=True)
class Packed:
    """The bytes of a frame as they are in the file, and (strips or tiles, 2) where each begins and ends in them."""

    data: bytes
    spans: npt.NDArray[np.int64]


class TiffFrames:
    """Frames of a TIFF or BigTIFF file."""

    def __init__(self, source: ByteSource, *, flip: bool = True) -> None:
        """Read all directories; raises FormatError where one is damaged or the file ends before what they announce."""
        self._source = source
        self._flip = flip
        self.pages = pages = [page for page in read_pages(source) if not page.tags.get(254, (0,))[0] & 1]
        if not pages:
            raise FormatError(f"{source.path}: is TIFF with no full-size image in it")
        first = pages[0]
        for index, page in enumerate(pages):
            if (page.shape, page.stored) != (first.shape, first.stored):
                raise FormatError(
                    f"{source.path}: frame {index + 1} is {_described(page)}, the first {_described(first)}; "
                    "a movie has frames of one kind"
                )
        _check_complete(source, pages)
        self.shape = (len(pages), *first.shape)
        self.dtype = first.stored.newbyteorder("=")
        self.pixel_size = _pixel_size(first)
        description = first.tags.get(270, (b"",))[0].split(b"\0")[0].decode("latin-1")
        self.facts: Facts = facts_from_title(description)

    def read_frame(self, index: int, out: Array | None = None) -> Array:
        """Read a frame as (y, x), flipped so that row 0 is the bottom of the picture."""
        return self.unpack(index, self.fetch(index), out)

    def fetch(self, index: int) -> Packed:
        """Read the bytes of a frame, at once where its strips lie together, so that a slow disk is asked once."""
        page = self.pages[index]
        starts, counts = np.array(page.offsets, np.int64), np.array(page.counts, np.int64)
        first, last = int(starts.min()), int((starts + counts).max())
        if last - first <= 2 * int(counts.sum()) + _GAPS:
            data = self._source.read(first, last - first)
            if len(data) < last - first:
                where = f"{'at' if data else 'before'} byte {first + len(data)}"
                raise FormatError(
                    f"{self._source.path}: ends {where}, frame {index + 1} at byte {last}; was it cut short while "
                    "being read?"
                )
            return Packed(data, np.stack((starts, starts + counts), axis=1) - first)
        blocks = [self._source.read(*place) for place in zip(page.offsets, page.counts, strict=True)]
        ends = np.cumsum([len(block) for block in blocks], dtype=np.int64)
        return Packed(b"".join(blocks), np.stack((np.append(0, ends[:-1]), ends), axis=1))

    def unpack(self, index: int, packed: Packed, out: Array | None = None) -> Array:
        """Decode the bytes of a frame into (y, x), flipped so that row 0 is the bottom of the picture."""
        page = self.pages[index]
        if page.compression == 5 and page.bits >= 8 and page.predictor < 3 and 322 not in page.tags:
            # what is damaged or of the old style is left to the general way, which says where in the file it is
            with suppress(ValueError):
                return self._unpack_strips(page, packed, out)
        height, width = page.shape
        frame = np.empty(page.shape, self.dtype) if out is None else out
        target = frame[::-1] if self._flip else frame
        rows, columns = page.chunk
        across = -(-width // columns)
        for number, (begin, end) in enumerate(packed.spans.tolist()):
            top, left = number // across * rows, number % across * columns
            # strips end with the image, tiles are always whole
            held = (rows if across > 1 or 322 in page.tags else min(rows, height - top), columns)
            try:
                block = _decode(memoryview(packed.data)[begin:end], page, held)
            except (RuntimeError, ValueError) as error:
                raise FormatError(
                    f"{self._source.path}: frame {index + 1} of {len(self.pages)} cannot be decoded in the "
                    f"{page.counts[number]} bytes at {page.offsets[number]} ({error}); {_CURE}"
                ) from error
            part = target[top : top + rows, left : left + columns]
            part[...] = block[: part.shape[0], : part.shape[1]]
        return frame

    def _unpack_strips(self, page: Page, packed: Packed, out: Array | None) -> Array:
        direct = out is not None and out.dtype == self.dtype and out.flags.c_contiguous
        frame = out if direct and out is not None else np.empty(page.shape, self.dtype)
        data = np.frombuffer(packed.data, np.uint8)
        decode_strips(data, packed.spans, frame.view(np.uint8), rows_per_strip=page.chunk[0], flip=self._flip)
        if not page.stored.isnative:
            frame.byteswap(inplace=True)
        if page.predictor == 2:
            np.cumsum(frame, axis=1, dtype=self.dtype, out=frame)
        if out is None or direct:
            return frame
        out[...] = frame
        return out

    def close(self) -> None:
        """Close the file."""
        self._source.close()


def read_pages(source: ByteSource) -> list[Page]:
    """Walk the chain of directories; raises FormatError where it is damaged, or leads beyond the end of the file."""
    walker = Directories(source)
    pages: list[Page] = []
    offset, seen = walker.first, set[int]()
    while offset:
        if offset in seen:
            raise FormatError(
                f"{source.path}: directory {len(pages) + 1} leads back to byte {offset}; the file is damaged"
            )
        seen.add(offset)
        tags, offset = walker.read(offset, len(pages))
        pages.append(_page(source, tags, walker.order, len(pages)))
    return pages


def write_tiff(
    path: str | os.PathLike[str],
    frames: Iterable[Array],
    *,
    pixel_size: float | None = None,
    compression: Literal["lzw", "deflate", "zstd", "packbits", "none"] = "lzw",
    rows_per_strip: int | None = None,
    description: str = "",
) -> None:
    """Write frames, each (y, x) in the frame of SCIENCE §1, as a TIFF movie, atomically.

    pixel_size : Å/px, kept as resolution in pixels per centimetre, as SerialEM and IMOD do
    description : text of the first frame

    Raises FocusError where there is no frame.
    """
    options: dict[str, Any] = {"photometric": "minisblack", "metadata": None, "software": "focusnb"}
    if pixel_size is not None:
        options |= {"resolution": (1e8 / pixel_size, 1e8 / pixel_size), "resolutionunit": "CENTIMETER"}
    if compression != "none":
        options["compression"] = {"deflate": "zlib"}.get(compression, compression)
    if rows_per_strip is not None:
        options["rowsperstrip"] = rows_per_strip
    with atomic_path(path) as part:
        count = 0
        with tifffile.TiffWriter(part, bigtiff=False) as file:
            for count, frame in enumerate(frames, start=1):
                text = description if count == 1 and description else None
                file.write(np.ascontiguousarray(np.asarray(frame)[::-1]), description=text, contiguous=False, **options)
        if not count:
            raise FocusError(f"{path}: a movie of 0 frames cannot be written")


class Directories:
    """The directories of a TIFF or BigTIFF file in its byte order.

    kept : the tags whose values are read
    first : place of the first directory in the file
    """

    def __init__(self, source: ByteSource, kept: Set[int] = _KEPT) -> None:
        self.source = source
        self.kept = kept
        head = source.read(0, 16)
        self.order = "<" if head[:2] == b"II" else ">"
        big = struct.unpack_from(self.order + "H", head, 2)[0] == 43
        # codes and sizes of: number of entries, an entry, an offset
        self.counts, self.entry, self.pointer = ("Q", "HHQ8s", "Q") if big else ("H", "HHI4s", "I")
        place = 8 if big else 4
        size = struct.calcsize(self.order + self.pointer)
        if len(head) < place + size:
            raise FormatError(f"{source.path}: is TIFF of {source.size} bytes, too short for its header; {_CURE}")
        self.first = int(struct.unpack_from(self.order + self.pointer, head, place)[0])
        if self.first == 0:
            raise FormatError(f"{source.path}: is TIFF whose first directory was never written; {_CURE}")

    def read(self, offset: int, number: int) -> tuple[dict[int, tuple[Any, ...]], int]:
        """Return the tags that are used and the place of the next directory."""
        count = int(self._unpack(self.counts, offset, 1, number)[0])
        if count > 4096:
            raise FormatError(f"{self.source.path}: directory {number + 1} says {count} entries; the file is damaged")
        offset += struct.calcsize(self.order + self.counts)
        size = struct.calcsize(self.order + self.entry)
        block = self._bytes(offset, count * size, number)
        tags = {}
        for index in range(count):
            tag, kind, amount, value = struct.unpack_from(self.order + self.entry, block, index * size)
            if tag in self.kept and kind in _kinds_of(tag) and amount:
                tags[tag] = self._values(kind, amount, value, number)
        following = self._unpack(self.pointer, offset + count * size, 1, number)[0]
        return tags, int(following)

    def _values(self, kind: int, amount: int, value: bytes, number: int) -> tuple[Any, ...]:
        code = _VALUE_CODES[kind]
        size = struct.calcsize(self.order + code) * amount
        if size > self.source.size:
            raise FormatError(
                f"{self.source.path}: directory {number + 1} says an entry of {size} bytes, "
                f"file holds {self.source.size}; {_CURE}"
            )
        if size > len(value):
            value = self._bytes(int(struct.unpack(self.order + self.pointer, value)[0]), size, number)
        if code == "s":
            return (value[:amount],)
        return struct.unpack_from(f"{self.order}{amount * len(code)}{code[0]}", value)

    def _unpack(self, code: str, offset: int, amount: int, number: int) -> tuple[Any, ...]:
        return struct.unpack(
            self.order + code * amount, self._bytes(offset, struct.calcsize(self.order + code * amount), number)
        )

    def _bytes(self, offset: int, count: int, number: int) -> bytes:
        # BigTIFF has places that no file can hold
        block = self.source.read(offset, count) if offset < self.source.size else b""
        if len(block) < count:
            raise FormatError(
                f"{self.source.path}: directory {number + 1} lies at byte {offset}, file ends at byte "
                f"{self.source.size} after {number} frame{'s' * (number != 1)}; {_CURE}"
            )
        return block


def _kinds_of(tag: int) -> Set[int]:
    """The kinds of values that a tag may have; of another kind its entry is damaged and counts as missing."""
    if tag not in _KEPT or tag in _RESOLUTIONS:
        return _VALUE_CODES.keys()
    return {2} if tag == 270 else _NUMBERS


def _page(source: ByteSource, tags: dict[int, tuple[Any, ...]], order: str, number: int) -> Page:
    where = f"{source.path}: directory {number + 1}"

    def one(tag: int, default: int | None = None) -> int:
        values = tags.get(tag)
        if not values or not isinstance(values[0], int):
            if default is None:
                raise FormatError(f"{where} lacks tag {tag}; the file is damaged")
            return default
        return values[0]

    width, height, compression = one(256), one(257), one(259, 1)
    if not (0 < width <= _LARGEST_SIDE and 0 < height <= _LARGEST_SIDE and width * height <= _LARGEST_FRAME):
        raise FormatError(f"{where} says {width}×{height} pixels; the file is damaged")
    if compression in _EER:
        raise FormatError(
            f"{where} holds electrons (EER, compression {compression}) behind images of another kind; "
            "copy the recorded file again"
        )
    if compression != 1 and compression not in _DECODERS:
        name = _NAMES.get(compression, "unknown")
        raise FormatError(
            f"{where} is compressed by method {compression} ({name}); write LZW, deflate, Zstandard, PackBits or none"
        )
    samples, bits, kind, predictor = one(277, 1), one(258, 1), one(339, 1), one(317, 1)
    if samples != 1:
        raise FormatError(f"{where} has {samples} samples per pixel (colours); a movie or micrograph has 1")
    stored = _KINDS.get((1 if kind == 4 else kind, bits))
    if stored is None:
        raise FormatError(
            f"{where} has {bits} bits per pixel of sample format {kind}; 4, 8, 16 and 32 bits and float are read"
        )
    if (
        one(266, 1) != 1
        or predictor not in (1, 2, 3)
        or (predictor == 3) != (predictor > 1 and kind == 3)
        or (bits == 4 and predictor > 1)
    ):
        raise FormatError(
            f"{where} has fill order {one(266, 1)} and predictor {predictor}, which are not read; write it "
            "again plainly"
        )
    tiled = 322 in tags
    chunk = (one(323), one(322)) if tiled else (min(one(278, height), height), width)
    if min(chunk) < 1 or chunk[0] * chunk[1] > _LARGEST_FRAME:
        raise FormatError(f"{where} says strips of {chunk[0]} rows or tiles of {chunk}; the file is damaged")
    offsets = tags.get(324 if tiled else 273, ())
    counts = tags.get(325 if tiled else 279, ())
    needed = -(-height // chunk[0]) * -(-width // chunk[1])
    if not counts and compression == 1 and needed == 1:
        counts = ((width * bits + 7) // 8 * height,)
    if len(offsets) != needed or len(counts) != needed:
        raise FormatError(
            f"{where} lists {len(offsets)} strips or tiles with {len(counts)} sizes, {needed} are needed; "
            "the file is damaged"
        )
    return Page((height, width), np.dtype(order + stored), bits, compression, predictor, chunk, offsets, counts, tags)


def _decode(block: bytes | memoryview, page: Page, held: tuple[int, int]) -> Array:
    """Decode a strip or tile of held (rows, columns) into an array (rows, columns) of the stored type."""
    rows, columns = held
    row_bytes = (columns * page.bits + 7) // 8
    size = rows * row_bytes
    if page.compression != 1:
        block = _DECODERS[page.compression](block, out=size)
    if len(block) < size:
        raise ValueError(f"{len(block)} of {size} bytes")
    if page.bits == 4:
        pairs = np.frombuffer(block, np.uint8, size).reshape(rows, row_bytes)
        return np.stack((pairs >> 4, pairs & 15), axis=-1).reshape(rows, -1)[:, :columns]
    if page.predictor == 3:
        raw = np.frombuffer(block, np.uint8, size).view(page.stored).reshape(held)
        result: Array = imagecodecs.floatpred_decode(raw, axis=-1)
        return result
    values = np.frombuffer(block, page.stored, rows * columns).reshape(held)
    if page.predictor == 2:
        # differences run along rows and wrap around as the integers do
        return np.cumsum(values, axis=1, dtype=page.stored.newbyteorder("="))
    return values


def _check_complete(source: ByteSource, pages: list[Page]) -> None:
    for index, page in enumerate(pages):
        if 0 in page.offsets or 0 in page.counts:
            raise FormatError(
                f"{source.path}: directory says {len(pages)} frames, frame {index + 1} was never written; {_CURE}"
            )
        end = max(offset + count for offset, count in zip(page.offsets, page.counts, strict=True))
        if end > source.size:
            raise FormatError(
                f"{source.path}: directory says {len(pages)} frame{'s' * (len(pages) > 1)} of {_described(page)}, "
                f"frame {index + 1} ends at byte {end}, file ends at byte {source.size}; {_CURE}"
            )


def _described(page: Page) -> str:
    return f"{page.shape[1]}×{page.shape[0]} pixels of {page.bits} bits"


def _pixel_size(page: Page) -> float | None:
    """Å/px from the resolution tags where they can be meant so: 72 dots per inch are not."""
    unit = {2: 2.54e8, 3: 1e8}.get(page.tags.get(296, (2,))[0])
    ratio = page.tags.get(282, ())
    if unit is None or len(ratio) < 2 or not ratio[0] or not ratio[1]:
        return None
    size = unit * ratio[1] / ratio[0]
    return round(size, 5) if math.isfinite(size) and 0.01 < size < 1000 else None
