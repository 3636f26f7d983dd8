"""Blocks: sums over some exposures of a session, each with the list of what is in it.

Worker processes add to blocks of their own in one folder, and whoever merges them reads any number of them:

    <host>-<process>-<its start>-<number>.open     still added to; its process writes it anew each time
    <host>-<process>-<its start>-<number>….block   closed: never changed again, only deleted
    base                                           sum of many closed blocks

A file is written beside its place and renamed, so that it is always whole, and never flushed: what a crash of the
machine loses is made again from the micrographs. Its layout is a line that names the format, a checked JSON header,
and the arrays, uncompressed; nothing in it is ever executed or unpickled.
"""

from __future__ import annotations

import json
import math
import os
import re
import secrets
import socket
import struct
import time
import zlib
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from focusnb.errors import FormatError
from focusnb.io.files import ByteSource, temporary_path

FOLDER = "blocks"
OPEN = ".open"
CLOSED = ".block"
BASE = "base"

SILENCE = 3600.0
"""Seconds after which an open block of another host counts as left behind: its process cannot be asked."""

Array = npt.NDArray[np.floating[Any]]

_MAGIC = b"focusnb block 2\n"
_LENGTHS = struct.Struct("<QI")  # of the header: bytes, CRC-32
_LONGEST_HEADER = 64 << 20
_ARRAYS = ("mean", "deviations", "spectrum")
_HALVES = ("even", "odd")
_SAME = 1e-5  # MRC headers keep pixel sizes as float32
# a host is named without a dash, or a random part of digits alone would be taken for the number
_OWNED = re.compile(r"\.?([^-]+)-(\d+)-(\d+)-\d+(-[0-9a-f]{8})?\.(open|block)")
_START_ERROR = 2.0  # seconds: the system's notion of when it booted moves with its clock


@dataclass(frozen=True)
class Stamp:
    """Size in bytes and time of last change in ns, by which a file is known again after it was moved."""

    size: int
    changed: int

    @classmethod
    def of(cls, path: Path) -> Stamp:
        """The stamp of a file."""
        status = path.stat()
        return cls(status.st_size, status.st_mtime_ns)

    def fits(self, path: Path) -> bool:
        """Whether the file is there and is this one."""
        try:
            return Stamp.of(path) == self
        except OSError:
            return False


@dataclass(frozen=True)
class Entry:
    """An exposure that is in a block.

    key : stands for its content; another key is another content
    folders : where its files may lie, relative to the session's folder
    micrograph, spectrum, windows : stamps of the files whose images were added
    """

    id: int
    key: str
    folders: tuple[str, ...] = ()
    micrograph: Stamp | None = None
    spectrum: Stamp | None = None
    windows: Stamp | None = None

    @property
    def what(self) -> tuple[int, str]:
        """The exposure and its content."""
        return self.id, self.key


@dataclass(frozen=True)
class Geometry:
    """What images must share to be summed: shapes (y, x) and pixel sizes in Å/px of micrograph and spectrum."""

    shape: tuple[int, int]
    pixel_size: float
    spectrum_shape: tuple[int, int]
    spectrum_pixel_size: float

    def fits(self, other: Geometry) -> bool:
        """Whether images of both can be summed."""
        return (
            (self.shape, self.spectrum_shape) == (other.shape, other.spectrum_shape)
            and math.isclose(self.pixel_size, other.pixel_size, rel_tol=_SAME)
            and math.isclose(self.spectrum_pixel_size, other.spectrum_pixel_size, rel_tol=_SAME)
        )

    def __str__(self) -> str:
        (height, width), (box, _) = self.shape, self.spectrum_shape
        return f"{width}×{height} at {self.pixel_size:.4g} Å/px, spectrum {box} at {self.spectrum_pixel_size:.4g} Å/px"


@dataclass(frozen=True)
class Header:
    """All of a block but its arrays.

    offset : to be added to the micrographs' mean
    token : changes with the content of the arrays and of the list
    parts : for a base, the tokens of the blocks that are in it, by the names of their files
    windows : how many exposures of even and of odd number the means of windows are of, by the windows' sampling
    """

    geometry: Geometry
    count: int
    entries: tuple[Entry, ...] = ()
    offset: float = 0.0
    parts: Mapping[str, str] = field(default_factory=dict)
    windows: Mapping[str, tuple[int, int]] = field(default_factory=dict)
    token: str = ""


@dataclass(frozen=True)
class Block:
    """A block with its arrays: mean (less the offset) and squared deviations of the micrographs, mean spectrum.

    windows : the means of even and odd exposures, for every sampling that the header counts
    """

    header: Header
    mean: Array
    deviations: Array
    spectrum: Array
    windows: Mapping[str, tuple[Array, Array]] = field(default_factory=dict)


@dataclass(frozen=True)
class Owner:
    """A process that writes blocks. start : when it began, seconds since 1970"""

    host: str
    process: int
    start: int

    @classmethod
    def this(cls) -> Owner:
        """The present process."""
        import psutil  # type: ignore[import-untyped]

        process = os.getpid()
        return cls(_host(), process, int(psutil.Process(process).create_time()))

    def name(self, number: int) -> str:
        """Name the open block with this number of the process."""
        return f"{self.host}-{self.process}-{self.start}-{number}{OPEN}"

    def lives(self) -> bool:
        """Whether the process still runs; asked on its own host."""
        import psutil

        try:
            return bool(abs(psutil.Process(self.process).create_time() - self.start) <= _START_ERROR)
        except psutil.NoSuchProcess:
            return False


def is_added_to(path: Path) -> bool:
    """Whether a file, or the temporary one of it, belongs to a process that may still write it.

    To be wrong does no harm: a block taken from under its process is written again by it, and then counts once.
    """
    if path.suffix == CLOSED:
        return False
    named = _OWNED.match(path.name)
    if named is None:
        return _is_recent(path)
    owner = Owner(named[1], int(named[2]), int(named[3]))
    return owner.lives() if owner.host == _host() else _is_recent(path)


def closed_name(path: Path) -> Path:
    """Name a closed block after an open one, like no other."""
    return path.with_name(f"{path.stem}-{secrets.token_hex(4)}{CLOSED}")


def write(path: Path, block: Block) -> str:
    """Write a block, whole or not at all, without waiting for the disk; returns its token.

    Raises OSError, with the name of the file, where the disk is full or may not be written.
    """
    arrays = {name: np.ascontiguousarray(getattr(block, name)) for name in _ARRAYS}
    for sampling, halves in block.windows.items():
        for half, mean in zip(_HALVES, halves, strict=True):
            arrays[f"{half} {sampling}"] = np.ascontiguousarray(mean)
    header = block.header
    described: dict[str, Any] = {
        "geometry": [
            header.geometry.shape,
            header.geometry.pixel_size,
            header.geometry.spectrum_shape,
            header.geometry.spectrum_pixel_size,
        ],
        "count": header.count,
        "offset": header.offset,
        "parts": dict(header.parts),
        "windows": dict(header.windows),
        "entries": [
            [
                entry.id,
                entry.key,
                entry.folders,
                *map(_stamp_list, (entry.micrograph, entry.spectrum, entry.windows)),
            ]
            for entry in header.entries
        ],
        "arrays": {
            name: [array.dtype.newbyteorder("<").str, array.shape, _checksum(array)] for name, array in arrays.items()
        },
    }
    text = json.dumps(described, separators=(",", ":")).encode()
    part = temporary_path(path)
    try:
        with open(part, "wb") as file:
            file.write(_MAGIC + _LENGTHS.pack(len(text), zlib.crc32(text)) + text)
            for array in arrays.values():
                file.write(array.astype(array.dtype.newbyteorder("<"), copy=False).data)
        os.replace(part, path)
    except BaseException as error:
        with suppress(OSError):
            part.unlink()
        if isinstance(error, OSError) and error.filename is None:
            error.filename = str(path)  # a full disk is told without it
        raise
    return _token(text)


def read_header(path: Path) -> Header:
    """Read all but the arrays; FormatError where the file is no block, is cut short or cannot be read."""
    source = ByteSource(path)
    try:
        return _read_header(source)[0]
    finally:
        source.close()


def read(path: Path) -> Block:
    """Read a block; FormatError where the file is no block, is cut short, damaged or cannot be read."""
    source = ByteSource(path)
    try:
        header, described, position = _read_header(source)
        arrays = {}
        for name, (dtype, shape, checksum) in described.items():
            array = np.empty(tuple(shape), np.dtype(dtype))
            position += source.read_into(position, array.reshape(-1).view(np.uint8).data)
            if _checksum(array) != checksum:
                raise FormatError(f"{path}: {name} is not what was written; delete the file, it is made again")
            arrays[name] = array
        windows = {name: (arrays.pop(f"even {name}"), arrays.pop(f"odd {name}")) for name in header.windows}
        return Block(header, **arrays, windows=windows)
    finally:
        source.close()


def _read_header(source: ByteSource) -> tuple[Header, dict[str, list[Any]], int]:
    start = len(_MAGIC) + _LENGTHS.size
    head = source.read(0, start)
    if len(head) < start or not head.startswith(_MAGIC):
        raise FormatError(f"{source.path}: is no block of sums ({source.size} bytes); delete it, it is made again")
    length, checksum = _LENGTHS.unpack_from(head, len(_MAGIC))
    text = source.read(start, min(length, _LONGEST_HEADER))
    if len(text) != length or zlib.crc32(text) != checksum:
        raise FormatError(f"{source.path}: its header of {length} bytes is damaged; delete the file, it is made again")
    described = json.loads(text)
    shape, pixel_size, spectrum_shape, spectrum_pixel_size = described["geometry"]
    arrays = described["arrays"]
    bytes_of = {name: math.prod(size) * np.dtype(dtype).itemsize for name, (dtype, size, _) in arrays.items()}
    end = start + length + sum(bytes_of.values())
    if end != source.size:
        raise FormatError(
            f"{source.path}: holds {source.size} bytes of {end}; was the machine switched off? Delete it, it is made "
            "again"
        )
    header = Header(
        geometry=Geometry(
            (shape[0], shape[1]), pixel_size, (spectrum_shape[0], spectrum_shape[1]), spectrum_pixel_size
        ),
        count=described["count"],
        entries=tuple(
            Entry(identity, key, tuple(folders), *map(_stamp, stamps))
            for identity, key, folders, *stamps in described["entries"]
        ),
        offset=described["offset"],
        parts=described["parts"],
        windows={name: (even, odd) for name, (even, odd) in described["windows"].items()},
        token=_token(text),
    )
    return header, arrays, start + length


def _stamp_list(stamp: Stamp | None) -> list[int] | None:
    return None if stamp is None else [stamp.size, stamp.changed]


def _stamp(values: list[int] | None) -> Stamp | None:
    return None if values is None else Stamp(*values)


def _token(header: bytes) -> str:
    return f"{zlib.crc32(header):08x}{len(header):x}"


def _checksum(array: Array) -> int:
    """Sum of the bytes taken eight at a time: pages that never reached the disk show, at the speed of memory."""
    content = array.reshape(-1).view(np.uint8)
    whole = content.size // 8 * 8
    total = int(np.add.reduce(content[:whole].view(np.uint64))) + int(np.add.reduce(content[whole:], dtype=np.uint64))
    return total % (1 << 64)


def _host() -> str:
    return re.sub(r"[^A-Za-z0-9.]", "_", socket.gethostname())


def _is_recent(path: Path) -> bool:
    try:
        return time.time() - path.stat().st_mtime < SILENCE
    except OSError:
        return False
