"""Single images: micrographs, averages and spectra read as float32; PNG previews with y pointing up."""

from __future__ import annotations

import os
from dataclasses import dataclass
from io import BytesIO
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image as Picture
from PIL import PngImagePlugin, UnidentifiedImageError

from focusnb.errors import FormatError
from focusnb.io.files import atomic_path, read_unpacked
from focusnb.io.movies import open_movie
from focusnb.io.mrc import write_mrc

__all__ = ["Image", "read_image", "read_png", "write_mrc", "write_png"]

_PIXEL_SIZE = "pixel_size (angstrom)"


@dataclass(frozen=True)
class Image:
    """An image (y, x) float32, row 0 at the bottom of the picture, and its pixel size in Å/px where it is known."""

    data: npt.NDArray[np.float32]
    pixel_size: float | None


def read_image(path: str | os.PathLike[str]) -> Image:
    """Read a single image of MRC, TIFF or Digital Micrograph as float32.

    Raises FormatError where the file holds several frames, or is no image.
    """
    with open_movie(path) as movie:
        if movie.shape[0] != 1:
            raise FormatError(f"{path}: holds {movie.shape[0]} frames, an image has 1; import it as a movie")
        data = np.empty(movie.shape[1:], np.float32)
        movie.read_frame(0, data)
        return Image(data, movie.pixel_size)


def write_png(path: str | os.PathLike[str], pixels: npt.NDArray[np.uint8], *, pixel_size: float | None = None) -> None:
    """Write a preview as PNG, atomically: row 0 of the array is the bottom row of the picture.

    pixels : (y, x) grey or (y, x, 3) red, green, blue; uint8
    pixel_size : Å/px of the preview, kept as a text entry
    """
    pixels = np.asarray(pixels)
    if pixels.dtype != np.uint8 or not (pixels.ndim == 2 or (pixels.ndim == 3 and pixels.shape[2] == 3)):
        raise ValueError(f"{path}: a preview is uint8 of (y, x) or (y, x, 3); this is {pixels.dtype} of {pixels.shape}")
    entries = PngImagePlugin.PngInfo()
    if pixel_size is not None:
        entries.add_text(_PIXEL_SIZE, f"{pixel_size:.7g}")
    with atomic_path(path) as part, open(part, "wb") as file:
        # grey noise as red, green and blue: level 4 takes twice the time for twice the bytes
        Picture.fromarray(np.ascontiguousarray(pixels[::-1])).save(
            file, format="PNG", pnginfo=entries, compress_level=2
        )


def read_png(path: str | os.PathLike[str]) -> npt.NDArray[np.uint8]:
    """Read a PNG preview as (y, x) or (y, x, 3) uint8 with row 0 the bottom row of the picture."""
    content = read_unpacked(path)
    if not content.startswith(b"\x89PNG"):
        raise FormatError(f"{path}: is not PNG ({len(content)} bytes)")
    try:
        with Picture.open(BytesIO(content)) as picture:
            plain: Any = picture if picture.mode in ("L", "RGB") else picture.convert("RGB")
            return np.asarray(plain, np.uint8)[::-1]
    except (OSError, SyntaxError, ValueError, UnidentifiedImageError) as error:
        raise FormatError(f"{path}: PNG of {len(content)} bytes cannot be decoded ({error}); write it again") from error
