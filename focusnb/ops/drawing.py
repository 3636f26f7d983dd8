"""Lettering, scale bars and rings for previews, on Pillow pictures whose first row is the top."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from PIL import Image, ImageDraw, ImageFont

Colour = tuple[int, int, int]
Box = tuple[float, float, float, float]

BACKGROUND: Colour = (27, 29, 33)
GRID: Colour = (58, 62, 70)
MUTED: Colour = (150, 156, 166)
TEXT: Colour = (228, 230, 234)
ACCENT: Colour = (255, 176, 64)
LATE: Colour = (92, 148, 206)
SHADE: Colour = (18, 19, 21)
_NICE_RESOLUTIONS = (30.0, 20.0, 10.0, 5.0, 4.0, 3.0, 2.0, 1.5, 1.0)


def letter_size(size: int, *, small: bool = False) -> int:
    """Return the letter height for a picture of ``size`` pixels: still legible when it is shown at 260."""
    return max(10, round(size / (26 if small else 20)))


@lru_cache(maxsize=32)
def _font(height: int) -> Any:
    """Return Pillow's own font, which it would unpack anew for each word."""
    return ImageFont.load_default(height)


def write(
    pen: ImageDraw.ImageDraw,
    place: tuple[float, float],
    text: str,
    height: int,
    colour: Colour,
    anchor: str,
    *,
    outline: bool = False,
) -> None:
    """Write text in Pillow's own font; ``anchor`` is l, m or r and t, m or b, as Pillow has it.

    That font has no Å and no minus sign: Å is set as an A under a small ring, minus as a hyphen.
    """
    font, ring_font = _font(height), _font(round(0.75 * height))
    plain = text.replace("Å", "A").replace("−", "-")
    style: dict[str, Any] = {"stroke_width": max(1, round(height / 14)), "stroke_fill": SHADE} if outline else {}
    left, _, _, _ = pen.textbbox(place, plain, font=font, anchor=anchor)
    cap_left, _, cap_right, _ = font.getbbox("A")
    _, top, _, _ = pen.textbbox(place, "A", font=font, anchor=anchor)
    pen.text(place, plain, font=font, fill=colour, anchor=anchor, **style)
    for index, letter in enumerate(text):
        if letter == "Å":
            middle = left + font.getlength(plain[:index]) + 0.5 * (cap_left + cap_right)
            ring_box = ring_font.getbbox("°")
            ring_left = middle - 0.5 * (ring_box[0] + ring_box[2])
            pen.text((ring_left, top - ring_box[1] - 0.27 * height), "°", font=ring_font, fill=colour, **style)


def round_below(value: float) -> float:
    """Return the largest of 1, 2, 5 × a power of ten that is not above a positive value."""
    power = 10.0 ** math.floor(math.log10(value) + 1e-9)
    return power * max(step for step in (1.0, 2.0, 5.0) if step * power <= value * (1 + 1e-9))


def length_label(length: float) -> str:
    """Write a length given in Å, in nm from 10 nm on."""
    return f"{length / 10:g} nm" if length >= 100 else f"{length:g} Å"


@dataclass(frozen=True)
class ScaleBar:
    """A bar of a round length in the lower left corner of a picture, with its label, on a plate.

    bar, plate : left, top, right and bottom in pixels; foot : where the label stands, the middle of its lower edge
    """

    bar: Box
    plate: Box
    foot: tuple[float, float]
    label: str
    letters: int

    @classmethod
    def of(cls, width: int, height: int, pixel_size: float) -> ScaleBar:
        """Lay it out, at most a quarter of the width, for pixels of so many Å."""
        length, side = round_below(0.25 * width * pixel_size), max(width, height)
        label, letters = length_label(length), letter_size(side)
        margin, thick = side / 32, max(2, round(side / 128))
        left, right, bottom = margin, margin + length / pixel_size, height - margin
        foot = ((left + right) / 2, bottom - thick - margin / 3)
        words = label.replace("Å", "A")
        words_left, words_top, words_right, _ = _font(letters).getbbox(words, anchor="mb")
        gap, ring = margin / 3, 0.25 * letters if words != label else 0.0
        plate = (
            max(0.0, min(left, foot[0] + words_left) - gap),
            foot[1] + words_top - ring - gap,
            max(right, foot[0] + words_right) + gap,
            bottom + gap,
        )
        return cls((left, bottom - thick, right, bottom), plate, foot, label, letters)


def draw_scale_bar(canvas: Image.Image, pixel_size: float) -> None:
    """Draw a bar of a round length in the lower left corner of an RGB picture."""
    pen, layout = ImageDraw.Draw(canvas), ScaleBar.of(*canvas.size, pixel_size)
    # a plate, for outlined letters are lost among grains of noise
    pen.rectangle(layout.plate, fill=SHADE)
    pen.rectangle(layout.bar, fill=(245, 245, 245))
    write(pen, layout.foot, layout.label, layout.letters, (245, 245, 245), "mb")


def draw_resolution_rings(canvas: Image.Image, pixel_size: float, accent: float | None = None) -> None:
    """Draw thin circles at round resolutions (Å) that stand apart, and one in the accent colour, each with its label.

    canvas : a square spectrum in RGB, origin in the middle; pixel_size : Å/px of the spectrum
    """
    size = canvas.width
    chosen = _ring_choice(size, pixel_size, accent)
    overlay = Image.new("RGBA", (size * 3, size * 3), (0, 0, 0, 0))
    pen: Any = ImageDraw.Draw(overlay)
    for resolution, colour in chosen:
        radius, centre = 3 * size * pixel_size / resolution, 1.5 * size
        box = [centre - radius, centre - radius, centre + radius, centre + radius]
        pen.ellipse(box, outline=(*colour, 255 if colour == ACCENT else 150), width=max(3, round(size / 128)))
    overlay = overlay.reduce(3)
    canvas.paste(overlay, (0, 0), overlay)
    pen = ImageDraw.Draw(canvas)
    for resolution, colour in chosen:
        reach = size * pixel_size / resolution * math.sqrt(0.5)
        place = (0.5 * size + reach, 0.5 * size + reach)
        label = f"{resolution:.1f} Å" if colour == ACCENT else f"{resolution:g} Å"
        if reach < 0.47 * size:
            height = letter_size(size, small=True)
            left, top, right, bottom = pen.textbbox(place, label.replace("Å", "A"), font=_font(height), anchor="mm")
            pen.rectangle([left - 3, top - 0.3 * height, right + 3, bottom + 3], fill=SHADE)
            write(pen, place, label, height, ACCENT if colour == ACCENT else TEXT, "mm")


def _ring_choice(size: int, pixel_size: float, accent: float | None) -> list[tuple[float, Colour]]:
    """Choose resolutions whose rings fit into the picture and do not crowd each other."""
    chosen: list[tuple[float, Colour]] = []
    taken: list[float] = []
    if accent:
        chosen.append((accent, ACCENT))
        taken.append(size * pixel_size / accent)
    for resolution in _NICE_RESOLUTIONS:
        radius = size * pixel_size / resolution
        if 0.12 * size < radius < 0.49 * size and all(abs(radius - other) > 0.075 * size for other in taken):
            chosen.append((resolution, TEXT))
            taken.append(radius)
    return chosen


def dot(pen: ImageDraw.ImageDraw, centre: tuple[float, float], radius: float, colour: Colour) -> None:
    """Draw a filled circle."""
    pen.ellipse([centre[0] - radius, centre[1] - radius, centre[0] + radius, centre[1] + radius], fill=colour)


def mix(first: Colour, second: Colour, part: float) -> Colour:
    """Return the colour that is ``part`` of the way from the first to the second."""
    red, green, blue = (round(a + (b - a) * part) for a, b in zip(first, second, strict=True))
    return red, green, blue
