"""The views of an exposure that stand side by side: pictures, spectra, trajectory, rings; why one is missing."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from focusnb.errors import FocusError, FormatError
from focusnb.modes import Overview
from focusnb.ops import preview
from focusnb.ops.spectrum import choose_sampling
from focusnb.parameters import Spec
from focusnb.views import drawings
from focusnb.views.exposure import STATES, ExposureRecord, step_title
from focusnb.views.values import is_missing

if TYPE_CHECKING:
    from focusnb.project.project import Project

Kind = Literal["image", "spectrum", "rings", "drawing"]

LARGEST = 16_000_000
"""Bytes of a preview: more than that is none."""

SHARP = 1600
"""Pixels of the longer side of an image that is drawn again for a whole screen."""

NICE_RESOLUTIONS = (50.0, 30.0, 20.0, 15.0, 10.0, 7.0, 5.0, 4.0, 3.0, 2.5, 2.0, 1.5, 1.0)
"""Å at which rings are drawn where they have room."""

PARTNERS = {
    "unaligned_preview": "micrograph_preview",
    "micrograph_preview": "unaligned_preview",
    "unaligned_spectrum_preview": "spectrum_preview",
    "spectrum_preview": "unaligned_spectrum_preview",
    "ctf_rings_preview": "spectrum_preview",
}
"""What a view is flipped with: the same before and after correction, rings with the spectrum they were fitted to."""

_KINDS: dict[str, Kind] = {
    "unaligned_preview": "image",
    "micrograph_preview": "image",
    "unaligned_spectrum_preview": "spectrum",
    "spectrum_preview": "spectrum",
    "ctf_rings_preview": "rings",
    "trajectory_preview": "drawing",
    "motion_curves": "drawing",
    "ctf_curves": "drawing",
}
_DRAWN_FROM = {"trajectory_preview": "motion_curves"}
"""Curves a picture is drawn from anew, in the colours of the page; without them its PNG is shown."""

_SHARPENED = {
    "micrograph_preview": ("micrograph_dose_weighted", "micrograph"),
    "spectrum_preview": ("power_spectrum",),
}
"""Images from which a view can be drawn at a higher resolution."""


@dataclass(frozen=True)
class Tile:
    """One view of an exposure.

    name, title : of the product
    kind : image, spectrum, rings (a spectrum too) or drawing
    path : its file, None where it is missing
    missing : why there is no picture, in a sentence; empty where there is one
    extent : Å along the longer side of an image, None if not known
    pixel_size : Å/px of a spectrum, None if not known
    fit_resolution : Å up to which the CTF was fitted, for a spectrum
    sharp : whether ``sharpen`` can draw it at a higher resolution
    partner : the view it is flipped with; empty for none
    """

    name: str
    title: str
    kind: Kind
    path: Path | None = None
    missing: str = ""
    extent: float | None = None
    pixel_size: float | None = None
    fit_resolution: float | None = None
    sharp: bool = False
    partner: str = ""


@dataclass(frozen=True)
class Picture:
    """What a tile shows.

    content : bytes of a PNG, or of an SVG drawing
    width, height : pixels; 0 for a drawing
    pixel_size : Å/px of the picture, or of the spectrum it shows; None if not known
    is_plain : without scale bar and rings, which are drawn over it then; previews made by the steps have theirs
    """

    content: bytes
    type: Literal["image/png", "image/svg+xml"]
    width: int = 0
    height: int = 0
    pixel_size: float | None = None
    is_plain: bool = False


def overview_tiles(project: Project, record: ExposureRecord, overview: Overview) -> list[Tile]:
    """Return the views of an overview for an exposure, in its order, those that are missing with the reason."""
    return [find_tile(project, record, name) for name in overview.views]


def find_tile(project: Project, record: ExposureRecord, name: str) -> Tile:
    """Return one view of an exposure by the name of its product."""
    spec = project.specs().get(name) or Spec(name, label=name)
    kind = _KINDS.get(name, "image")
    tile = Tile(name, spec.label, kind, partner=PARTNERS.get(name, ""))
    drawn_from = _DRAWN_FROM.get(name, name)
    found = next((n for n in dict.fromkeys((drawn_from, name)) if not is_missing(record.values.get(n))), None)
    if found is None:
        return replace(tile, missing=why_missing(project, record, name))
    path = record.folder / str(record.values[found])
    if not path.is_file():
        return replace(tile, missing=_gone(project, record, path, found))
    return replace(
        tile,
        path=path,
        extent=_extent(record) if kind == "image" else None,
        pixel_size=_spectrum_pixel_size(record, name) if kind in ("spectrum", "rings") else None,
        fit_resolution=record.values.get("ctf_fit_resolution") if kind in ("spectrum", "rings") else None,
        sharp=any(not is_missing(record.values.get(source)) for source in _SHARPENED.get(name, ())),
    )


def why_missing(project: Project, record: ExposureRecord, product: str) -> str:
    """Say in a sentence why an exposure has no such product, and what to do where there is something to do."""
    maker = _maker(project, record, product)
    title = step_title(project, maker) if maker else ""
    state = record.current.get(maker, {}) if maker else {}
    reason = str(state.get("reason") or "")
    if state.get("status") in ("failed", "broken", "lost"):
        return f"{title} {STATES.get(str(state['status']), 'failed')}: {_sentence(reason or 'it gave no reason')}"
    if state.get("status") == "done":
        remark = record.values.get("ctf_remark") if product.startswith("ctf_") else None
        return _sentence(f"{title} found none" + (f": {remark}" if remark else ""))
    if record.status in ("queued", "running"):
        return _sentence(STATES[record.status].capitalize())
    wrong = next(((n, s) for n, s in record.current.items() if s.get("status") in ("failed", "broken", "lost")), None)
    if wrong is not None:
        return f"Not made, because an earlier step failed: {step_title(project, wrong[0])}."
    if record.values.get("kind") == "image" and record.current and maker not in project.step_names("image"):
        return "The exposure was recorded as an image: it has no frames, so there is nothing before correction."
    if record.current:
        return f"No step of this workflow has made it: run {maker or 'the step that makes it'}."
    return f"Not processed yet: 'focusnb run {project.folder}' processes what is new."


def _gone(project: Project, record: ExposureRecord, path: Path, product: str) -> str:
    if not record.folder.is_dir():
        return f"The exposure's folder cannot be reached: {record.folder}. Is its disk mounted?"
    maker = _maker(project, record, product)
    again = f"; 'focusnb step run {project.folder} {maker}' makes it again" if maker else ""
    return f"{path.name} is not in the exposure's folder any more{again}."


def _maker(project: Project, record: ExposureRecord, product: str) -> str:
    """The step that makes a product: the one that ran, else the one that the workflow has for this kind of exposure."""
    makers = [name for name, step in project.steps().items() if any(spec.name == product for spec in step.makes())]
    kind = str(record.values.get("kind") or "movie")
    fitting = project.step_names(kind) if kind in project.mode.steps else []
    ran = [name for name in makers if name in record.current]
    usual = [name for name in makers if name in fitting]
    return (ran or usual or makers or [""])[0]


def _sentence(text: str) -> str:
    return text if text.endswith((".", "!", "?")) else f"{text}."


def _extent(record: ExposureRecord) -> float | None:
    """Å along the longer side of the field, from the facts: no image is opened for it."""
    pixel_size, width, height = (record.values.get(name) for name in ("pixel_size", "width", "height"))
    return float(pixel_size) * max(int(width), int(height)) if pixel_size and width and height else None


def _spectrum_pixel_size(record: ExposureRecord, name: str) -> float | None:
    """Å/px of a spectrum, as the step that drew it sampled it."""
    values = record.values
    if name == "unaligned_spectrum_preview":
        movie = values.get("movie_pixel_size") or values.get("pixel_size")
        return float(movie) * choose_sampling(float(movie)).factor if movie else None
    if _KINDS.get(name) == "rings" and values.get("power_spectrum_far_pixel_size"):
        return None  # drawn from one of two spectra, and the row does not tell from which
    return values.get("power_spectrum_pixel_size")


def load(tile: Tile) -> Picture:
    """Read what a tile shows; FormatError, which names the file and the cure, where it cannot be shown."""
    if tile.path is None:
        raise FormatError(f"{tile.name}: {tile.missing}")
    if tile.path.suffix == ".json":
        text = drawings.draw(tile.name, tile.path)
        return Picture(text.encode(), "image/svg+xml")
    try:
        size = tile.path.stat().st_size
        if size > LARGEST:
            raise FormatError(f"{tile.path}: has {size} bytes, a preview at most {LARGEST}; run its step again")
        content = tile.path.read_bytes()
    except OSError as error:
        raise FormatError(f"{tile.path}: cannot be read ({error.strerror}); is its disk there?") from error
    width, height, pixel_size = _read_header(content, tile.path)
    if pixel_size is not None:
        return Picture(content, "image/png", width, height, pixel_size, is_plain=True)
    shown = tile.extent / max(width, height) if tile.extent else tile.pixel_size
    return Picture(content, "image/png", width, height, shown)


def _read_header(content: bytes, path: Path) -> tuple[int, int, float | None]:
    """Width, height and, where it is written into it, Å/px of a PNG; FormatError unless it is whole."""
    if content[:8] != b"\x89PNG\r\n\x1a\n" or content[12:16] != b"IHDR":
        raise FormatError(f"{path}: is no picture ({len(content)} bytes); run its step again")
    if b"IEND" not in content[-12:]:
        raise FormatError(f"{path}: ends within the picture ({len(content)} bytes); run its step again")
    width, height = struct.unpack(">II", content[16:24])
    texts = dict(_texts(content))
    try:
        pixel_size = float(texts[b"pixel_size (angstrom)"])
    except (KeyError, ValueError):
        pixel_size = None
    return int(width), int(height), pixel_size


def _texts(content: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Texts written into a PNG before its pixels."""
    start = 8
    while start + 8 <= len(content):
        length, kind = struct.unpack(">I4s", content[start : start + 8])
        if kind == b"IDAT":
            return
        if kind == b"tEXt":
            key, _, value = content[start + 8 : start + 8 + length].partition(b"\0")
            yield key, value
        start += 12 + length


def sharpen(project: Project, record: ExposureRecord, name: str) -> Picture:
    """Draw a view again from its image, larger and without scale bar and rings: for a whole screen.

    Takes some tenths of a second. FormatError where the image cannot be read.
    """
    from focusnb.io.images import read_image

    source = next((s for s in _SHARPENED.get(name, ()) if not is_missing(record.values.get(s))), None)
    if source is None:
        raise FormatError(f"{record.name}: there is no image from which {name} could be drawn")
    path = record.folder / str(record.values[source])
    try:
        image = read_image(path)
    except OSError as error:
        raise FormatError(f"{path}: cannot be read ({error.strerror})") from error
    if source == "power_spectrum":
        pixel_size = record.values.get("power_spectrum_pixel_size") or image.pixel_size or 1.0
        pixels = preview.spectrum_preview(image.data, pixel_size=pixel_size, size=2 * len(image.data), rings=False)
        shown = pixel_size
    else:
        pixel_size = record.values.get("micrograph_pixel_size") or image.pixel_size or 1.0
        size = min(SHARP, max(image.data.shape))
        pixels = preview.micrograph_preview(image.data, pixel_size=pixel_size, size=size, scale_bar=False)
        shown = pixel_size * max(image.data.shape) / max(pixels.shape[:2])
    return _as_picture(pixels[..., 0], shown)


def _as_picture(pixels: np.ndarray, pixel_size: float) -> Picture:
    """Grey pixels, row 0 at the bottom, as a PNG whose first row is the top."""
    from io import BytesIO

    from PIL import Image

    buffer = BytesIO()
    Image.fromarray(np.ascontiguousarray(pixels[::-1])).save(buffer, format="PNG", compress_level=1)
    height, width = pixels.shape
    return Picture(buffer.getvalue(), "image/png", width, height, pixel_size, is_plain=True)


def scale_bar(width: int, pixel_size: float) -> tuple[float, str]:
    """Length of a round scale bar as part of a picture's width, at most a quarter of it, and its label."""
    from focusnb.ops.drawing import length_label, round_below

    length = round_below(0.25 * width * pixel_size)
    return length / (width * pixel_size), length_label(length)


def rings(pixel_size: float, fit_resolution: float | None = None) -> list[dict[str, Any]]:
    """Rings over a spectrum: radius as part of its side, label, and whether it is that of the CTF fit.

    pixel_size : Å/px of the spectrum, whose side reaches from −1/(2·pixel_size) to +1/(2·pixel_size)
    """
    chosen: list[dict[str, Any]] = []
    if fit_resolution and 0.02 < pixel_size / fit_resolution < 0.5:
        chosen.append({"radius": pixel_size / fit_resolution, "label": f"{fit_resolution:.1f} Å", "fit": True})
    for resolution in NICE_RESOLUTIONS:
        radius = pixel_size / resolution
        if 0.1 < radius < 0.5 and all(abs(radius - other["radius"]) > 0.055 for other in chosen):
            chosen.append({"radius": radius, "label": f"{resolution:g} Å", "fit": False})
    return chosen


def tell(error: FocusError) -> str:
    """What a picture that cannot be shown says in its place."""
    return _sentence(str(error))
