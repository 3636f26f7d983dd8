"""EER movies of Falcon cameras: single electrons, one TIFF directory for each frame of the camera's hardware.

A hardware frame is a stream of bits, the lowest of each byte first: the number of pixels without an electron before the
next one, then the part of the pixel it fell on; the largest number means "and no electron yet". Hardware frames are
added up to fractions while they are decoded: many at a time, band by band of the image, so that the band stays in the
processor's cache (1 instead of 3 ms for a frame of 200,000 electrons, on the 8K grid 2 instead of 10). Frames are used
in file order, unflipped (SCIENCE §1).
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from xml.etree.ElementTree import Element, ParseError

import numpy as np
from defusedxml import DefusedXmlException
from defusedxml.ElementTree import fromstring

from focusnb.compiled import compiled
from focusnb.errors import FormatError, ParameterError
from focusnb.io.files import ByteSource
from focusnb.io.formats import Array, Facts
from focusnb.io.tiff import Directories

FRACTIONS = 40
"""Into how many fractions a movie is cut where nothing else is asked for."""

_RUN_BITS = {65000: 8, 65001: 7, 65002: 7}
_TAGS = frozenset({254, 256, 257, 259, 273, 279, 65007, 65008, 65009})
_ACQUISITION = 65001  # the tag, which has the number of a compression by chance
_LARGEST_SIDE = 1 << 14
_TOGETHER = 64  # hardware frames decoded at a time
_BAND = 1 << 19  # bytes of the image
_CURE = "was it copied while being written?"


@dataclass(frozen=True)
class EerOptions:
    """How an EER movie is shown as frames.

    fractions : number of frames made of the hardware frames, as equal as can be; all hardware frames are used
    group : hardware frames per fraction, which decides instead where given; a remainder at the end is left out
    upsampling : pixels of the frames along one of the detector: 1 (the 4K grid of a Falcon 4) or 2 (8K)

    Raises ParameterError for numbers below 1 and for another grid.
    """

    fractions: int = FRACTIONS
    group: int | None = None
    upsampling: int = 1

    def __post_init__(self) -> None:
        for name, value in (("fractions", self.fractions), ("group", self.group)):
            if value is not None and value < 1:
                raise ParameterError(f"EER {name} = {value}; it must be 1 or more")
        if self.upsampling not in (1, 2):
            grid = " (the 16K grid)" if self.upsampling == 4 else ""
            raise ParameterError(f"EER upsampling = {self.upsampling}{grid} is not read; choose 1 (4K) or 2 (8K)")

    def cut(self, frames: int) -> list[range]:
        """Return the hardware frames of each fraction; there are never more fractions than hardware frames."""
        if self.group is not None:
            return [range(start, start + self.group) for start in range(0, frames - self.group + 1, self.group)]
        count = min(self.fractions, frames)
        return [range(frames * i // count, frames * (i + 1) // count) for i in range(count)]


@dataclass(frozen=True)
class _Coding:
    """Bits of a run without electrons, and of an electron's place along x and y within its pixel."""

    run: int
    x: int
    y: int


@dataclass(frozen=True)
class _HardwareFrame:
    """Where the bits of one frame lie, and how they are to be read."""

    shape: tuple[int, int]
    coding: _Coding
    strips: tuple[tuple[int, int], ...]


class EerFrames:
    """Fractions of an EER movie.

    facts : hardware_frames, eer_upsampling, and what the file says of the exposure: exposure_time in s, exposure_dose
        in e⁻/Å² (measured by the camera), camera, recorded_at
    """

    def __init__(self, source: ByteSource, options: EerOptions | None = None) -> None:
        """Read all directories; raises FormatError where one is damaged or the file ends before what they announce."""
        self._source = source
        self._options = options or EerOptions()
        self._frames, acquisition = _read_frames(source)
        self._fractions = self._options.cut(len(self._frames))
        if not self._fractions:
            raise FormatError(
                f"{source.path}: holds {len(self._frames)} hardware frames, fewer than the {self._options.group} of "
                "one fraction; take fewer together"
            )
        self._damaged: set[int] = set()
        finer = self._options.upsampling
        height, width = self._frames[0].shape
        self.shape = (len(self._fractions), height * finer, width * finer)
        # a pixel counts one electron in a hardware frame at most
        self.dtype = np.dtype(np.min_scalar_type(max(map(len, self._fractions))))
        said = _acquisition_facts(acquisition)
        pixel_size = said.pop("pixel_size", None)
        self.pixel_size = None if pixel_size is None else float(pixel_size) / finer
        self.facts: Facts = said | {"hardware_frames": len(self._frames), "eer_upsampling": finer}

    def read_frame(self, index: int, out: Array | None = None) -> Array:
        """Read a fraction as (y, x) electrons; damaged hardware frames are left out of it and counted.

        Raises FormatError where a fraction holds no other.
        """
        direct = out is not None and out.dtype == self.dtype and out.flags.c_contiguous
        image: Any = out if direct else np.empty(self.shape[1:], self.dtype)
        image[...] = 0
        members = self._fractions[index]
        damaged: set[int] = set()
        for start in range(members.start, members.stop, _TOGETHER):
            damaged |= self._add(members[start - members.start :][:_TOGETHER], image)
        self._damaged.update(damaged)
        if len(damaged) == len(members):
            height, width = self._frames[0].shape
            raise FormatError(
                f"{self._source.path}: none of the hardware frames {members[0] + 1} to {members[-1] + 1} (fraction "
                f"{index + 1} of {len(self._fractions)}) fills {width}×{height} pixels; {_CURE}"
            )
        if out is None or direct:
            return image  # type: ignore[no-any-return]
        out[...] = image
        return out

    def remarks(self) -> list[str]:
        """Say what of the file is in no fraction: a sentence each."""
        told = []
        count, used = len(self._frames), self._fractions[-1].stop
        if used < count:
            told.append(f"The last {count - used} of {count} hardware frames fill no fraction and are left out")
        if self._damaged:
            first = min(self._damaged) + 1
            told.append(
                f"{len(self._damaged)} of {count} hardware frames are damaged (the first: {first}) and left out"
            )
        return told

    def close(self) -> None:
        """Close the file."""
        self._source.close()

    def _add(self, numbers: range, image: Array) -> set[int]:
        """Add the electrons of hardware frames to an image (y, x); returns the damaged ones, which add nothing."""
        finer = self._options.upsampling
        streams = [_Stream(self._source, self._frames[number], finer) for number in numbers]
        flat, pixels = image.reshape(-1), streams[0].pixels
        step = max(1, _BAND // (image.dtype.itemsize * finer**2))
        for until in (*range(step, pixels, step), pixels):
            for stream in streams:
                stream.add(flat, until)
        damaged = {number for number, stream in zip(numbers, streams, strict=True) if not stream.whole}
        for number in damaged:
            streams[number - numbers.start].undo(flat)
        return damaged


class _Stream:
    """The bits of one hardware frame, and how far they are decoded."""

    def __init__(self, source: ByteSource, frame: _HardwareFrame, finer: int) -> None:
        block = b"".join(source.read(offset, count) for offset, count in frame.strips)
        # the last code may be shorter than a whole electron's: one word more is there to be looked at
        self._words = np.frombuffer(block + bytes(4 + -len(block) % 4), "<u4").astype(np.uint32, copy=False)
        self._bits = 8 * len(block)
        height, width = frame.shape
        self.pixels = height * width
        coding = frame.coding
        self._plan = (width, self.pixels, coding.run, coding.x, coding.y, finer)
        self._state = np.zeros(5, np.uint64)

    @property
    def whole(self) -> bool:
        """Whether the decoded bits were those of a frame, from its first to its last pixel."""
        _, held, taken, position, _ = map(int, self._state)
        return position == self.pixels and 32 * taken - held <= self._bits

    def add(self, image: Array, until: int) -> None:
        """Go on to a pixel, adding the electrons before it to a flat image."""
        _add_electrons(self._words, image, self._plan, self._state, until, self.pixels, 1)

    def undo(self, image: Array) -> None:
        """Take away what was added."""
        added = int(self._state[4])
        _add_electrons(self._words, image, self._plan, np.zeros(5, np.uint64), self.pixels, added, -1)


def is_eer(source: ByteSource) -> bool:
    """Tell whether a TIFF holds electrons; where the first directory is a sum of them, the second is looked at."""
    try:
        walker = Directories(source, frozenset({259}))
        tags, following = walker.read(walker.first, 0)
        if _whole(tags, 259) not in _RUN_BITS and following:
            tags, _ = walker.read(following, 1)
    except FormatError:
        return False
    return _whole(tags, 259) in _RUN_BITS


def find_xml(content: bytes, name: str) -> Element | None:
    """Return the element of this name from XML in a tag of a TIFF, None where there is none that can be read.

    What stands before the element is left out: cameras write declarations that XML does not allow.
    """
    start = content.find(b"<" + name.encode())
    if start < 0:
        return None
    try:
        root: Element = fromstring(content[start:].rstrip(b"\0 \r\n\t").decode("utf-8", "replace"))
    except (ParseError, DefusedXmlException, ValueError):
        return None
    return root if root.tag == name else None


def _read_frames(source: ByteSource) -> tuple[list[_HardwareFrame], bytes]:
    """Return the hardware frames, images among them left out, and the text about the acquisition."""
    walker = Directories(source, _TAGS)
    frames: list[_HardwareFrame] = []
    acquisition = b""
    offset, seen, number = walker.first, set[int](), 0
    while offset:
        if offset in seen:
            raise FormatError(f"{source.path}: directory {number + 1} leads back to byte {offset}; the file is damaged")
        seen.add(offset)
        if not acquisition and number < 2:
            told, _ = Directories(source, frozenset({_ACQUISITION})).read(offset, number)
            acquisition = _as_bytes(told.get(_ACQUISITION, ()))
        tags, offset = walker.read(offset, number)
        number += 1
        if _whole(tags, 259) in _RUN_BITS:
            frames.append(_hardware_frame(source, tags, number))
            if frames[-1].shape != frames[0].shape:
                (y, x), (height, width) = frames[-1].shape, frames[0].shape
                raise FormatError(
                    f"{source.path}: hardware frame {len(frames)} has {x}×{y} pixels, the first {width}×{height}; "
                    "a movie has frames of one kind"
                )
    return frames, acquisition


def _hardware_frame(source: ByteSource, tags: dict[int, tuple[Any, ...]], number: int) -> _HardwareFrame:
    where = f"{source.path}: directory {number}"
    width, height, compression = (_whole(tags, tag) for tag in (256, 257, 259))
    if not (0 < width <= _LARGEST_SIDE and 0 < height <= _LARGEST_SIDE):
        raise FormatError(f"{where} says {width}×{height} pixels; the file is damaged")
    coding = _Coding(_RUN_BITS[compression], 2, 2)
    if compression == 65002:
        coding = _Coding(_whole(tags, 65007, 7), _whole(tags, 65008, 2), _whole(tags, 65009, 2))
    if not (2 <= coding.run <= 16 and 1 <= coding.x <= 4 and 1 <= coding.y <= 4):
        raise FormatError(
            f"{where} says {coding.run} bits for a run and {coding.x} + {coding.y} for an electron; 2 to 16 and 1 to 4 "
            "each are read"
        )
    offsets, counts = tags.get(273, ()), tags.get(279, ())
    usable = all(isinstance(value, int) and value >= 0 for value in offsets + counts)
    if not offsets or len(offsets) != len(counts) or not usable:
        raise FormatError(f"{where} lists {len(offsets)} strips with {len(counts)} sizes; the file is damaged")
    strips = tuple(zip(offsets, counts, strict=True))
    end = max(offset + count for offset, count in strips)
    if end > source.size:
        raise FormatError(f"{where} ends at byte {end}, file ends at byte {source.size}; {_CURE}")
    return _HardwareFrame((height, width), coding, strips)


def _whole(tags: dict[int, tuple[Any, ...]], tag: int, default: int = 0) -> int:
    values = tags.get(tag)
    return values[0] if values and isinstance(values[0], int) else default


def _as_bytes(values: tuple[Any, ...]) -> bytes:
    if values and isinstance(values[0], bytes):
        return values[0]
    return bytes(values) if all(isinstance(value, int) and 0 <= value < 256 for value in values) else b""


def _acquisition_facts(content: bytes) -> Facts:
    """Read the camera's ``<metadata><item name=... unit=...>`` as facts; what is missing or strange is left out."""
    root = find_xml(content, "metadata")
    if root is None:
        return {}
    items = {str(item.get("name")): item for item in root.iter("item")}
    facts: Facts = {}
    if (time := _measure(items, "exposureTime", "s")) is not None:
        facts["exposure_time"] = time
    # some write the size of the sensor's own pixels here, 14 µm
    size = _measure(items, "sensorPixelSize.width", "m")
    if size is not None and 0.01 < (angstrom := size * 1e10) < 1000:
        facts["pixel_size"] = round(angstrom, 5)
        if (dose := _measure(items, "totalDose", "e/pixel")) is not None:
            facts["exposure_dose"] = round(dose / angstrom**2, 4)
    camera = _words(items, "commercialName") or _words(items, "cameraName")
    if camera:
        facts["camera"] = camera
    with suppress(ValueError):
        facts["recorded_at"] = datetime.fromisoformat(_words(items, "timestamp")).isoformat()
    return facts


def _words(items: dict[str, Element], name: str) -> str:
    return (items[name].text or "").strip() if name in items else ""


def _measure(items: dict[str, Element], name: str, unit: str) -> float | None:
    """A positive number in the unit expected; one in another unit is not understood."""
    try:
        value = float(_words(items, name))
    except ValueError:
        return None
    return value if 0 < value < float("inf") and items[name].get("unit", unit) == unit else None


@compiled
def _add_electrons(
    words: Array,
    image: Array,
    plan: tuple[int, int, int, int, int, int],
    state: Array,
    until: int,
    most: int,
    change: int,
) -> None:
    """Go on with a stream of bits up to a pixel, adding ``change`` to an image wherever it puts an electron.

    words : uint32, the stream; it is never read beyond its end
    image : (pixels x finer²,) integers
    plan : columns and pixels of the frame, bits of a run, of a place along x and along y, and finer: 1 or 2 pixels of
        the image along one of the frame
    state : (5,) uint64, zeros at first: bits that are read and not yet used, their number, words read, the pixel
        reached (``pixels`` after a whole frame), electrons added
    most : electrons after which to stop
    """
    width, pixels, run_bits, x_bits, y_bits, finer = plan
    longest, place_bits = (1 << run_bits) - 1, x_bits + y_bits
    needed, mask, one = run_bits + place_bits, np.uint64(longest), np.uint64(1)
    x_bit, y_bit = np.uint64(run_bits + x_bits - 1), np.uint64(needed - 1)
    # int() of an unsigned number would be unsigned here, and the sums below floating
    buffer, held, taken = state[0], np.int64(state[1]), np.int64(state[2])
    position, electrons = np.int64(state[3]), np.int64(state[4])
    row_end = (position // width + 1) * width
    while position < until and electrons < most:
        if held < needed:
            if taken == words.shape[0]:
                break
            buffer |= np.uint64(words[taken]) << np.uint64(held)
            held += 32
            taken += 1
        run = np.int64(buffer & mask)
        position += run
        if position >= pixels:
            held -= run_bits
            break
        # nothing is added at the end of a longest run: a branch here would be mispredicted every other time
        found = np.int64(run != longest)
        target = position
        if finer == 2:
            while position >= row_end:
                row_end += width
            # the highest bit of each place is stored inverted
            right = np.int64((buffer >> x_bit) & one) ^ 1
            below = np.int64((buffer >> y_bit) & one) ^ 1
            target = 2 * (position + row_end - width + width * below) + right
        image[target] += change * found
        used = run_bits + place_bits * found
        buffer >>= np.uint64(used)
        held -= used
        electrons += found
        position += found
    state[0], state[1], state[2], state[3], state[4] = buffer, held, taken, position, electrons
