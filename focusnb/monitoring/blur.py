"""Pictures for the outside: blurred to a stated cut-off, and free of whatever else a file may carry."""

from __future__ import annotations

import io
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image

from focusnb.errors import FormatError
from focusnb.ops.drawing import ScaleBar
from focusnb.ops.fourier import crop_fourier

MOST_PIXELS = 1 << 24
"""Of a preview: what is larger is none, and blurring it would take the memory of the host."""

_LARGEST = 64 << 20  # bytes of its file


def blur_image(grey: np.ndarray, *, pixel_size: float, cutoff: float) -> np.ndarray:
    """Remove everything finer than a cut-off from a picture.

    grey : (y, x) of any real type; pixel_size : Å/px of the picture; cutoff : Å

    Frequencies pass up to half of 1/cutoff, fade as a raised cosine and are zero from 1/cutoff on. Returns (y, x)
    float64. The transform is periodic: opposite edges run into each other, and nothing beyond the cut-off remains.
    """
    transform = np.fft.rfft2(grey)
    fy = np.fft.fftfreq(grey.shape[0], pixel_size)[:, None]
    fx = np.fft.rfftfreq(grey.shape[1], pixel_size)[None, :]
    position = np.clip(2 * np.hypot(fy, fx) * cutoff - 1, 0, 1)
    return np.fft.irfft2(transform * (0.5 + 0.5 * np.cos(np.pi * position)), s=grey.shape)


def power_beyond(grey: np.ndarray, *, pixel_size: float, cutoff: float) -> float:
    """Return the power (grey levels squared per pixel) that a picture (y, x) holds beyond a cut-off in Å."""
    transform = np.abs(np.fft.fft2(grey)) ** 2 / grey.size**2
    fy = np.fft.fftfreq(grey.shape[0], pixel_size)[:, None]
    fx = np.fft.fftfreq(grey.shape[1], pixel_size)[None, :]
    return float(transform[np.hypot(fy, fx) > 1 / cutoff].sum())


def blurred_png(content: bytes, *, pixel_size: float, cutoff: float) -> bytes:
    """Turn a preview with its scale bar into a blurred grey picture without one, as PNG.

    The bar is taken out first: blurred it would be a smear. ``pixel_size`` is that of the preview, in Å/px.
    """
    grey = np.asarray(_decoded(open_picture(content), "L"), dtype=np.float64)
    grey = _without_scale_bar(grey, pixel_size)
    smooth = blur_image(grey, pixel_size=pixel_size, cutoff=cutoff)
    return encode_png(np.rint(np.clip(smooth, 0, 255)).astype(np.uint8))


def thumbnail(
    content: bytes, *, side: int, pixel_size: Callable[[tuple[int, int]], float | None], cutoff: float
) -> np.ndarray | None:
    """Make a small grey picture of a preview with its scale bar; None where it cannot be blurred to a stated size.

    side : pixels of its longer side, at most; pixel_size : Å/px of a picture of (width, height) pixels; cutoff : Å,
    0 does not blur. Returns (y, x) uint8, top row first. Blurred it is made from no more than what is left of the
    preview's spectrum, so that becoming small adds nothing beyond the cut-off.
    """
    picture = open_picture(content)
    step = pixel_size(picture.size)
    if step is None and cutoff:
        return None
    scale = min(1.0, side / max(picture.size))
    width, height = (max(1, round(scale * length)) for length in picture.size)
    grey = np.asarray(_decoded(picture, "L"), dtype=np.float64)
    if step is not None:
        grey = _without_scale_bar(grey, step)
    if step is not None and cutoff:
        smooth = blur_image(grey, pixel_size=step, cutoff=cutoff).astype(np.float32)
        return np.rint(np.clip(crop_fourier(smooth, (height, width)), 0, 255)).astype(np.uint8)
    plain = Image.fromarray(np.rint(grey).astype(np.uint8))
    return np.asarray(plain.resize((width, height), Image.Resampling.BOX))


def plain_png(content: bytes) -> bytes:
    """Write the pixels of a picture anew, and nothing else that its file carried."""
    picture = open_picture(content)
    return encode_png(np.asarray(_decoded(picture, "L" if picture.mode in ("L", "I;16", "1") else "RGB")))


def read_picture(path: Path) -> bytes:
    """The bytes of a picture's file; OSError or FormatError where it is none, as a pipe, on which one would wait."""
    if not path.is_file():
        raise FormatError(f"{path}: is no file")
    if (size := path.stat().st_size) > _LARGEST:
        raise FormatError(f"{path}: has {size / 1e6:.0f} MB, a preview at most {_LARGEST / 1e6:.0f} MB")
    return path.read_bytes()


def open_picture(content: bytes) -> Image.Image:
    """Open a picture whose pixels are not read yet; FormatError for what is none or too large for a preview."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # it is told below
            picture = Image.open(io.BytesIO(content))
    except Exception as error:  # decoders fail in many ways, SyntaxError among them
        raise FormatError(f"the picture cannot be read ({error})") from error
    width, height = picture.size
    if width * height > MOST_PIXELS:
        raise FormatError(f"the picture has {width} x {height} pixels, a preview at most {MOST_PIXELS}")
    return picture


def _decoded(picture: Image.Image, mode: str) -> Image.Image:
    try:
        return picture.convert(mode)
    except Exception as error:
        raise FormatError(f"the picture cannot be read ({error})") from error


def encode_png(pixels: np.ndarray) -> bytes:
    """Return (y, x) or (y, x, 3) uint8, top row first, as the bytes of a PNG file without any text in it."""
    out = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(pixels)).save(out, format="PNG", optimize=False, compress_level=7)
    return out.getvalue()


def _without_scale_bar(grey: np.ndarray, pixel_size: float) -> np.ndarray:
    """Fill the lower left corner, where ``draw_scale_bar`` writes, from what lies above and beside it."""
    height, width = grey.shape
    _, plate_top, plate_right, _ = ScaleBar.of(width, height, pixel_size).plate
    right, top = min(width - 1, int(plate_right) + 2), max(1, int(plate_top) - 1)
    filled = grey.copy()
    above, beside = grey[max(0, top - 4) : top, : right + 1], grey[top:, right : right + 4]
    if above.size == 0 or beside.size == 0:
        return filled
    filled[top:, : right + 1] = 0.5 * (above.mean(axis=0)[None, :] + beside.mean(axis=1)[:, None])
    return filled
