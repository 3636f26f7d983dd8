"""What a file is, told by its first bytes; words for what it is not."""

from __future__ import annotations

import re
import struct
from typing import Protocol

import numpy as np
import numpy.typing as npt

from focusnb.errors import FormatError
from focusnb.io.files import ByteSource

Array = npt.NDArray[np.generic]
Facts = dict[str, float | int | str]

_SUFFIXES = {
    "tif": "TIFF", "tiff": "TIFF", "gain": "TIFF", "mrc": "MRC", "mrcs": "MRC", "map": "MRC", "st": "MRC", "ali": "MRC",
    "rec": "MRC", "preali": "MRC", "eer": "EER", "dm3": "DM3", "dm4": "DM4", "png": "PNG",
}  # fmt: skip
_TIFF_MAGIC = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
_OTHER = (
    (b"\x89PNG", "PNG"), (b"\xff\xd8\xff", "JPEG"), (b"\x1f\x8b", "gzip"), (b"BZh", "bzip2"),
    (b"\x28\xb5\x2f\xfd", "Zstandard"), (b"\xfd7zXZ", "xz"),
    (b"PK\x03\x04", "zip"), (b"\x89HDF", "HDF5"), (b"\x93NUMPY", "NumPy"), (b"SIMPLE  =", "FITS"),
    (b"GIF8", "GIF"), (b"%PDF", "PDF"), (b"SQLite format", "SQLite"),
)  # fmt: skip
_OLD_EER = (b"ThermoFisherECComprOK000", b"ThermoFisherECComprERR00")
_PACKED = {"gzip", "bzip2", "Zstandard", "xz", "zip"}


class Frames(Protocol):
    """What a format's reader offers: frames read one by one, by any number of threads."""

    shape: tuple[int, int, int]
    dtype: np.dtype[np.generic]
    pixel_size: float | None
    facts: Facts

    def read_frame(self, index: int, out: Array | None = None) -> Array:
        """Read one frame as (y, x) in the frame of SCIENCE §1, into out where given."""

    def close(self) -> None:
        """Close the file."""


def check_content(source: ByteSource) -> None:
    """Raise FormatError where a file is empty or evidently no image; the caller has looked for image formats first."""
    head = source.read(0, 4096)
    path = source.path
    if not source.size:
        raise FormatError(f"{path}: is empty (0 bytes); was it copied while being written?")
    wanted = expected_format(path.name)
    instead = f", not {wanted}" if wanted else ", not an image or movie"
    for magic, name in _OTHER:
        if head.startswith(magic):
            cure = "; unpack it first" if name in _PACKED else ""
            raise FormatError(f"{path}: is {name}{instead}{cure}")
    if source.read(max(0, source.size - 24), 24) in _OLD_EER:
        raise FormatError(
            f"{path}: is EER of before 2020 (ends with {_OLD_EER[0][:19].decode()}), which is not read; convert it to "
            "TIFF, for example with relion_convert_to_tiff"
        )
    if not head.strip(b"\0"):
        raise FormatError(f"{path}: begins with {len(head)} zero bytes{instead}; was it copied while being written?")
    if looks_like_text(head):
        kind = "XML" if head.lstrip(b"\xef\xbb\xbf \r\n").startswith(b"<") else "text"
        raise FormatError(f"{path}: is {kind} of {source.size} bytes{instead}; copy the recorded file again")


def expected_format(name: str) -> str | None:
    """Name the format that a file's suffix promises."""
    return _SUFFIXES.get(name.lower().rsplit(".", 1)[-1])


def is_tiff(head: bytes) -> bool:
    """Tell whether a file's first bytes are those of a TIFF or BigTIFF."""
    return head.startswith(_TIFF_MAGIC)


def is_dm(head: bytes) -> bool:
    """Tell whether a file's first bytes are those of a Digital Micrograph file, version 3 or 4."""
    if len(head) < 16:
        return False
    version = struct.unpack_from(">i", head)[0]
    order = {3: head[8:12], 4: head[12:16]}.get(version)
    return order in (b"\0\0\0\0", b"\0\0\0\1")


def looks_like_text(head: bytes) -> bool:
    """Tell whether bytes are text: printable, whatever the code page."""
    printable = sum(byte >= 32 or byte in b"\t\n\r\f" for byte in head)
    letters = sum(32 <= byte < 127 for byte in head)
    return bool(head) and printable == len(head) and letters > 0.7 * len(head)


def facts_from_title(title: str) -> Facts:
    """Read what SerialEM writes in a file's title: ``SerialEM: frames saved, r/f 1 need 0, scaled by 2.00``.

    rotation_and_flip : what was applied to the frames already; rotation_and_flip_needed: what is still to be applied
    count_scale : value in the file per count
    """
    facts: Facts = {}
    if found := re.search(r"r/f\s+(-?\d+)(?:\s+need\s+(-?\d+))?", title):
        facts["rotation_and_flip"] = int(found[1])
        if found[2] is not None:
            facts["rotation_and_flip_needed"] = int(found[2])
    if found := re.search(r"scaled by\s+([0-9.]+)", title):
        scale = float(found[1]) if found[1].count(".") < 2 and found[1] != "." else 0.0
        if scale > 0:
            facts["count_scale"] = scale
    return facts
