"""An asymmetric picture and files made by hand, for the tests of io."""

from __future__ import annotations

import struct

import numpy as np
import numpy.typing as npt
import pytest


@pytest.fixture
def letter() -> npt.NDArray[np.uint8]:
    """An F as one sees it with y up (row 0 at the bottom), 11×7, with four different corners."""
    image = np.zeros((11, 7), np.uint8)
    image[1:10, 1] = 100
    image[9, 1:6] = 100
    image[5, 1:4] = 100
    image[0, 0], image[0, -1], image[-1, 0], image[-1, -1] = 11, 22, 33, 44
    return image


def make_dm(image: npt.NDArray[np.uint8], *, version: int = 4, little: bool = True, scale: float = 0.12) -> bytes:
    """A Digital Micrograph file with a thumbnail and one uint8 image (y, x), top row first, calibrated in nm."""
    count = ">q" if version == 4 else ">i"
    order = "<" if little else ">"

    def number(value: int) -> bytes:
        return struct.pack(count, value)

    def tag(kind: int, name: str, body: bytes) -> bytes:
        size = number(len(body)) if version == 4 else b""
        return struct.pack(">BH", kind, len(name)) + name.encode() + size + body

    def group(name: str, *members: bytes) -> bytes:
        return tag(20, name, b"\0\0" + number(len(members)) + b"".join(members))

    def data(name: str, info: list[int], value: bytes) -> bytes:
        return tag(21, name, b"%%%%" + number(len(info)) + b"".join(map(number, info)) + value)

    def long(name: str, value: int) -> bytes:
        return data(name, [3], struct.pack(order + "i", value))

    def text(name: str, value: str) -> bytes:
        return data(name, [20, 4, len(value)], value.encode("utf-16-le" if little else "utf-16-be"))

    def entry(pixels: npt.NDArray[np.uint8]) -> bytes:
        axis = group("", data("Scale", [6], struct.pack(order + "f", scale)), text("Units", "nm"))
        return group(
            "",
            group(
                "ImageData",
                group("Calibrations", group("Dimension", axis, axis)),
                data("Data", [20, 10, pixels.size], pixels.tobytes()),
                long("DataType", 6),
                group("Dimensions", long("", pixels.shape[1]), long("", pixels.shape[0])),
            ),
        )

    thumbnail = np.full((40, 40), 7, np.uint8)
    members = [
        group("Other", data("Place", [15, 0, 2, 0, 6, 0, 3], struct.pack(order + "fi", 1.5, 3))),
        group("ImageList", entry(thumbnail), entry(image)),
        group("Thumbnails", group("", long("ImageIndex", 0))),
    ]
    root = b"\0\0" + number(len(members)) + b"".join(members)
    return struct.pack(">i", version) + number(len(root)) + struct.pack(">i", int(little)) + root
